"""The options of the gate for existing applications: path rules, their own sign-out, their own 401, and preflights."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from wsgiref.validate import validator

import pytest
from conftest import HTML, Application, Guest, parameters, send, stored_sessions
from werkzeug import Response

from wsgi_oauth import (
    Config,
    FileStore,
    LoginRequired,
    SessionStore,
    create_app,
    current_identity,
    errors,
    oauth2_session,
)
from wsgi_oauth.config import ProviderConfig
from wsgi_oauth.demo.local_provider import LocalProvider

MakeGate = Callable[..., LoginRequired]
PREFLIGHT = {"Origin": "https://spa.example.com", "Access-Control-Request-Method": "PUT", "Sec-Fetch-Mode": "cors"}
HTMX = {"Accept": "*/*", "Sec-Fetch-Mode": "cors", "HX-Request": "true"}
RULES = {"/admin": ("id:1",), "/admin/reports": ("id:1", "id:583231"), "/café": ("id:1",)}
OWN_FORM = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """Return a file store, the usual one of a deployment."""
    return FileStore(tmp_path / "sessions")


@pytest.fixture
def enter(make_gate: MakeGate, provider: LocalProvider) -> Callable[..., Guest]:
    """Return a signed-in browser for a gate with these options."""

    def enter(**options: Any) -> Guest:
        guest = Guest(make_gate(**options), provider)
        assert guest.sign_in().status_int == 200
        return guest

    return enter


class TestPathRules:
    """S73: a rule for a part of the application cannot be bypassed by another spelling of the path."""

    def statuses(self, guest: Guest, *paths: str) -> dict[str, int]:
        cookie = {"Cookie": f"wsgi_oauth={guest.cookie}"}
        return {path: send(guest.gate, path, headers={**HTML, **cookie}).status_code for path in paths}

    def test_keep_other_users_out_of_a_path_and_everything_below(self, enter: Callable[..., Guest]):
        guest = enter(allow=RULES)
        refused = ["/admin", "/admin/", "/admin/x", "/caf\xc3\xa9", "/caf\xc3\xa9/menu"]
        assert self.statuses(guest, *refused) == dict.fromkeys(refused, 403)
        admitted = ["/", "/page", "/administer", "/x/admin", "/caf\xc3\xa9s"]
        assert self.statuses(guest, *admitted) == dict.fromkeys(admitted, 200)

    def test_of_the_longest_path_decide(self, enter: Callable[..., Guest]):
        guest = enter(allow=RULES)
        expected = {"/admin/reports": 200, "/admin/reports/2": 200, "/admin/reporting": 403}
        assert self.statuses(guest, *expected) == expected

    def test_match_without_regard_to_case_and_compatible_letters(self, enter: Callable[..., Guest]):
        guest = enter(allow=RULES)
        refused = ["/Admin", "/ADMIN/x", "/CAF\xc3\x89", "/cafe\xcc\x81", "/\xef\xbd\x81dmin", "/admin.", "/admin /x"]
        assert self.statuses(guest, *refused) == dict.fromkeys(refused, 403)

    @pytest.mark.parametrize(
        "path", ["/x/\u2025/admin", "/x/\u2024./admin/y", "/admin\xa0", "/ad\xadmin", "/admin\uff0e/x"]
    )
    def test_match_characters_that_fold_to_dots_and_spaces_or_to_nothing(self, enter: Callable[..., Guest], path: str):
        assert list(self.statuses(enter(allow=RULES), path.encode().decode("latin-1")).values()) == [403]

    def test_leave_similar_names_elsewhere_alone(self, enter: Callable[..., Guest]):
        path = "/wiki/\uff1f\u2026".encode().decode("latin-1")
        assert self.statuses(enter(allow=RULES), path) == {path: 200}

    @pytest.mark.parametrize(
        "path",
        [
            "//admin",
            "/x/../admin",
            "/x//y",
            "/%61dmin",
            "/page;x",
            "/x\\admin",
            "/\x00",
            "/\xff",
            "/admin/reports/../x",
            "/.",
        ],
    )
    def test_of_all_paths_apply_to_an_ambiguous_path(self, enter: Callable[..., Guest], path: str):
        assert self.statuses(enter(allow=RULES), path) == {path: 403}

    def test_are_named_in_the_log(self, enter: Callable[..., Guest], caplog: pytest.LogCaptureFixture):
        self.statuses(enter(allow=RULES), "/admin")
        assert "allow['/admin']" in caplog.text
        assert "ambiguous" not in caplog.text

    def test_are_explained_in_the_log_for_an_ambiguous_path(
        self, enter: Callable[..., Guest], caplog: pytest.LogCaptureFixture
    ):
        self.statuses(enter(allow=RULES), "/notes/100%")
        assert "allow['/admin']; the path is ambiguous" in caplog.text

    def test_are_explained_in_the_log_for_a_change_of_a_parent_folder(
        self, enter: Callable[..., Guest], caplog: pytest.LogCaptureFixture
    ):
        guest = enter(allow={"/docs/private": ("id:1",)})
        send(guest.gate, "/docs", method="DELETE", headers={"Cookie": f"wsgi_oauth={guest.cookie}"})
        assert "allow['/docs/private']; the method or a header may select pages of other paths" in caplog.text

    def test_of_the_slash_apply_to_the_whole_application(self, enter: Callable[..., Guest], make_gate: MakeGate):
        rules = {"/": ("id:1",), "/page": ("id:583231",)}
        expected = {"/": 403, "": 403, "/x": 403, "/page": 200, "/page/2": 200}
        assert self.statuses(enter(allow=rules), *expected) == expected

    def test_may_have_quotes_as_in_the_setting(self, enter: Callable[..., Guest]):
        assert self.statuses(enter(allow={"/admin": ('id:"583231"',)}), "/admin") == {"/admin": 200}

    @pytest.mark.parametrize(
        "header",
        [
            *("X-Script-Name", "X-Forwarded-Prefix", "X-Ingress-Path", "X-Forwarded-Path", "X-Proxy-Path"),
            *("X-URL-Prefix", "X-Path-Prefix"),
        ],
    )
    @pytest.mark.parametrize("prefix", ["/page", "/page/", "page", "/", "/pa", "/page, /x", "/x , /page/", "/p%61ge"])
    def test_of_all_paths_apply_if_the_application_may_remove_a_prefix(
        self, enter: Callable[..., Guest], header: str, prefix: str
    ):
        """Some applications remove the value of a header from the path: /page/admin becomes /admin."""
        guest = enter(allow={"/admin": ("id:1",)})
        headers = {**HTML, "Cookie": f"wsgi_oauth={guest.cookie}"}
        assert send(guest.gate, "/page/admin", headers=headers).status_code == 200
        assert send(guest.gate, "/page/admin", headers={**headers, header: prefix}).status_code == 403

    def test_of_all_paths_apply_if_the_application_may_remove_a_part_of_the_path(self, enter: Callable[..., Guest]):
        """Some remove the value of the header everywhere: /adm1in becomes /admin."""
        guest = enter(allow={"/admin": ("id:1",)})
        headers = {**HTML, "Cookie": f"wsgi_oauth={guest.cookie}"}
        for value, status in (("1", 403), ("1in", 403), ("/adm1", 403), ("x", 200), ("/intern", 200)):
            assert send(guest.gate, "/adm1in", headers={**headers, "Script-Name": value}).status_code == status

    @pytest.mark.parametrize(
        "header",
        [
            *("X-Original-URL", "X-Original-URI", "X-Rewrite-URL", "X-Forwarded-URL", "X-Forwarded-Uri"),
            *("X-Matched-Path", "X-Invoke-Path", "X-Real-Uri", "X-Now-Route-Matches", "X-Vercel-Path"),
            *("X-Vercel-Original-Path", "X-Vercel-Forwarded-Path", "X-Vercel-Forwarded-Url", "X-Vercel-Matched-Path"),
            *("X-Vercel-Original-Pathname", "X-Original-Path"),
        ],
    )
    def test_of_all_paths_apply_if_the_application_may_read_the_path_in_a_header(
        self, enter: Callable[..., Guest], header: str
    ):
        guest = enter(allow={"/admin": ("id:1",)}, public=["/static"])
        headers = {**HTML, "Cookie": f"wsgi_oauth={guest.cookie}"}
        for value, status in (("/admin", 403), ("/adm%69n?x", 403), ("/static/a%20b?x=1", 200)):
            assert send(guest.gate, "/static/a b", headers={**headers, header: value}).status_code == status

    def test_of_all_paths_apply_if_the_application_may_prepend_a_header_to_the_path(self, enter: Callable[..., Guest]):
        """Pyramid's traversal prepends X-Vhm-Root: / becomes /admin."""
        guest = enter(allow={"/admin": ("id:1",)})
        headers = {**HTML, "Cookie": f"wsgi_oauth={guest.cookie}"}
        for root, status in (("/admin", 403), ("admin/", 403), ("/", 200), ("", 200)):
            assert send(guest.gate, "/page", headers={**headers, "X-Vhm-Root": root}).status_code == status

    def test_of_all_paths_apply_if_the_application_may_remove_the_path_of_a_url(self, enter: Callable[..., Guest]):
        """devpi removes the path of the URL in X-Outside-URL: /page/admin becomes /admin."""
        guest = enter(allow={"/admin": ("id:1",)})
        headers = {**HTML, "Cookie": f"wsgi_oauth={guest.cookie}"}
        urls = {"http://x/page": 403, "//x/page;y?z": 403, "x:/pa\tge": 403, "http://[/page": 403}
        for url, status in {**urls, "http://x": 200, "http://x/other": 200}.items():
            assert send(guest.gate, "/page/admin", headers={**headers, "X-Outside-URL": url}).status_code == status

    def test_of_all_paths_apply_if_the_application_may_remove_the_prefix_of_the_original_path(
        self, enter: Callable[..., Guest]
    ):
        """Gordo removes the path from X-Envoy-Original-Path, and the rest from the path: /page/admin becomes /admin."""
        guest = enter(allow={"/admin": ("id:1",)})
        headers = {**HTML, "Cookie": f"wsgi_oauth={guest.cookie}"}
        paths = {"/page": 403, "/pa/page/adminge": 403, "/site/page/admin": 200, "/page/admin": 200, "": 200}
        for path, status in paths.items():
            request = {**headers, "X-Envoy-Original-Path": path}
            assert (path, send(guest.gate, "/page/admin", headers=request).status_code) == (path, status)

    def test_of_all_paths_apply_to_a_header_with_a_prefix_or_the_whole_path(self, make_gate: MakeGate):
        """Some applications read a prefix from X-Forwarded-Path, others the whole path. Kong sends the latter."""
        gate = make_gate(public=["/static"])
        for value, status in (("/static", 302), ("/page", 302), ("/static/a", 302), ("/static/a?x", 200), ("", 200)):
            assert send(gate, "/static/a", headers={**HTML, "X-Forwarded-Path": value}).status_code == status

    @pytest.mark.parametrize(
        "destination",
        [
            *("http://localhost/admin/x", "/admin/x", "//localhost/%41dmin/x", "http:/admin/x", "http://x/%2561dmin"),
            *("http://localhost/page/../admin", "http://localhost//admin", "http://localhost/a;/admin", "admin"),
            *("admin//x", "admin?//x/y", "x//localhost/public/y", "http:x//localhost/public/y", "/%2Fadmin/x"),
            *(
                "http://localhost%2Fpublic/y",
                "http:%2F%2Fadmin/x",
                "http://localhost#/public/y",
                "//localhost?/public/y",
            ),
        ],
    )
    def test_of_the_path_to_which_webdav_moves_a_page_apply(self, enter: Callable[..., Guest], destination: str):
        """RFC 4918 10.3. Otherwise a user could write below a path to which others have access."""
        guest = enter(allow={"/admin": ("id:1",)}, public=["/public"])
        headers = {"Cookie": f"wsgi_oauth={guest.cookie}", "Destination": destination}
        assert send(guest.gate, "/page", method="MOVE", headers=headers).status_code == 403
        anonymous = {"Destination": destination}
        assert send(guest.gate, "/public/x", method="COPY", headers=anonymous).status_code == 401

    @pytest.mark.parametrize("header", ["X-Script-Name", "X-Forwarded-Prefix"])
    def test_of_all_paths_apply_if_webdav_may_remove_a_prefix_from_the_destination(
        self, enter: Callable[..., Guest], header: str
    ):
        """Radicale removes X-Script-Name: /x/admin/y becomes /admin/y."""
        guest = enter(allow={"/admin": ("id:1",)})
        headers = {"Cookie": f"wsgi_oauth={guest.cookie}", "Destination": "http://localhost/mount/x/admin/y"}
        for prefix, status in (("/mount/x", 403), ("/mount/x/", 403), ("/other", 200), ("", 200)):
            request = {**headers, header: prefix}
            moved = send(guest.gate, "/page", method="MOVE", headers=request, SCRIPT_NAME="/mount")
            assert (prefix, moved.status_code) == (prefix, status)

    @pytest.mark.parametrize("destination", ["http://localhost", "http://localhost/mount", "/mount", ""])
    def test_of_the_slash_apply_if_webdav_moves_a_page_to_a_url_without_path(
        self, make_gate: MakeGate, destination: str
    ):
        """Otherwise an anonymous user could write outside the public paths."""
        headers, gate = {"Destination": destination}, make_gate(public=["/public"])
        assert send(gate, "/public/x", method="COPY", headers=headers, SCRIPT_NAME="/mount").status_code == 401

    @pytest.mark.parametrize(
        ("source", "destination"),
        [
            *(("/docs", "/copy"), ("/docs/", "/copy"), ("/DOCS", "/copy"), ("/-/d\xc3\xb6cs", "/copy"), ("/", "/copy")),
            *(("/page", "/docs"), ("/page", "/%64ocs/"), ("/page", "/Docs"), ("/page", "http://localhost")),
        ],
    )
    def test_of_all_paths_apply_if_webdav_copies_or_replaces_a_folder_that_contains_a_restricted_page(
        self, enter: Callable[..., Guest], make_gate: MakeGate, source: str, destination: str
    ):
        """RFC 4918 9.8.3 and 9.8.4. Otherwise a user could read the page in the copy of its folder, or delete it."""
        guest, headers = enter(allow={"/docs/private": ("id:1",)}), {"Destination": destination}
        cookie = {"Cookie": f"wsgi_oauth={guest.cookie}"}
        assert send(guest.gate, source, method="COPY", headers={**headers, **cookie}).status_code == 403
        public = make_gate(allow={"/docs/private": ("id:1",)}, public=["/*"])
        assert send(public, source, method="COPY", headers=headers).status_code == 401

    @pytest.mark.parametrize("path", ["/docs", "/docs/", "/DOCS", "/-/d\xc3\xb6cs", "/", ""])
    @pytest.mark.parametrize("method", ["DELETE", "delete", "PUT", "LOCK", "UNBIND"])
    def test_of_all_paths_apply_if_a_folder_that_contains_a_restricted_page_is_deleted_replaced_or_locked(
        self, enter: Callable[..., Guest], make_gate: MakeGate, method: str, path: str
    ):
        """RFC 4918 9.6.1 and 9.10.3, RFC 5842 5. In Radicale, PUT replaces a folder with everything in it."""
        guest = enter(allow={"/docs/private": ("id:1",)})
        cookie = {"Cookie": f"wsgi_oauth={guest.cookie}"}
        assert send(guest.gate, path, method=method, headers=cookie).status_code == 403
        assert send(guest.gate, "/docs/other", method=method, headers=cookie).status_code == 200
        assert send(make_gate(public=["/"]), "/", method=method).status_code == 401

    @pytest.mark.parametrize("method", ["GET", "POST", "PROPFIND", "MKCOL"])
    def test_leave_a_folder_that_contains_a_restricted_page_to_other_users(
        self, enter: Callable[..., Guest], method: str
    ):
        guest = enter(allow={"/docs/private": ("id:1",)})
        headers = {"Cookie": f"wsgi_oauth={guest.cookie}"}
        assert send(guest.gate, "/docs", method=method, headers=headers).status_code == 200

    def test_make_no_copy_of_all_pages_public_if_the_front_page_is_public(self, make_gate: MakeGate):
        gate = make_gate(public=["/", "/public"])
        assert send(gate, "/", method="COPY", headers={"Destination": "/public/y"}).status_code == 401

    def test_of_the_same_path_apply_if_webdav_moves_a_page_there(self, enter: Callable[..., Guest]):
        guest = enter(allow={"/admin": ("id:1",), "/": ("id:583231",)}, public=["/public"])
        headers = {"Cookie": f"wsgi_oauth={guest.cookie}", "Destination": "http://localhost/other%20page"}
        assert send(guest.gate, "/page", method="MOVE", headers=headers).status_code == 200
        headers |= {"Destination": "HTTP://localhost/mount/other", "X-Forwarded-Path": "/mount/page"}
        assert send(guest.gate, "/page", method="MOVE", headers=headers, SCRIPT_NAME="/mount").status_code == 200
        anonymous = {"Destination": "/public/y"}
        assert send(guest.gate, "/public/x", method="COPY", headers=anonymous).status_code == 200

    def test_make_no_path_public_if_the_application_may_remove_a_prefix(self, make_gate: MakeGate):
        gate = make_gate(public=("/static",))
        assert send(gate, "/static/secret", headers={"X-Script-Name": "/static"}).status_code == 401
        for prefix in ("", "/intern"):  # no prefix, and one that the path does not begin with
            assert send(gate, "/static/style.css", headers={"X-Script-Name": prefix}).status_code == 200

    def test_restrict_a_part_of_a_public_path(self, make_gate: MakeGate):
        gate = make_gate(public=["/docs", "/admin/help"], allow={"/docs/internal": ("id:1",), "/admin": ("id:1",)})
        statuses = {
            path: send(gate, path, headers=HTML).status_code
            for path in ("/docs", "/docs/x", "/docs/internal", "/docs/INTERNAL/x", "/admin", "/admin/help")
        }
        assert statuses == {
            "/docs": 200,
            "/docs/x": 200,
            "/docs/internal": 302,
            "/docs/INTERNAL/x": 302,
            "/admin": 302,
            "/admin/help": 200,
        }

    def test_restrict_a_part_of_a_public_application(self, make_gate: MakeGate):
        gate = make_gate(public=["/*"], allow={"/admin": ("id:1",)})
        public = ["/", "/page", "/administer"]
        assert [send(gate, path, headers=HTML).status_code for path in public] == [200, 200, 200]
        spellings = ["/admin", "/Admin/x", "/%61dmin", "//admin", "/x;y/../admin", "/adm\xc4\xb1n", "/ADMINI~1"]
        # Some applications remove all characters outside ASCII, or some of them.
        spellings += ["/admin\xc2\xaa", "/adm\xc2\xa0in", "/adm\xc2\xa0\xef\xbd\x89n", "/\xe6\x97\xa5/admin"]
        assert [path for path in spellings if send(gate, path, headers=HTML).status_code != 302] == []
        assert send(gate, "/page", headers={**HTML, "X-Vhm-Root": "/admin"}).status_code == 302
        assert send(gate, "/\xe6\x97\xa5/page", headers=HTML).status_code == 200  # a path in Japanese

    def test_of_the_slash_leave_nothing_public_except_named_paths(self, make_gate: MakeGate):
        gate = make_gate(public=["/*", "/static"], allow={"/": ("id:1",)})
        statuses = {path: send(gate, path, headers=HTML).status_code for path in ("/", "/page", "/static/x")}
        assert statuses == {"/": 302, "/page": 302, "/static/x": 200}

    def test_apply_in_addition_to_the_rules_of_the_application(self, make_gate: MakeGate, provider: LocalProvider):
        guest = Guest(make_gate(ALLOW="id:1", allow={"/page": ("id:583231",)}), provider)
        guest.get(guest.get("/page").location)
        assert guest.get(guest.consent(guest.get("/auth/").location)).status_int == 403

    def test_are_evaluated_at_each_request_and_named_in_the_log(
        self, enter: Callable[..., Guest], caplog: pytest.LogCaptureFixture
    ):
        guest = enter(allow=RULES)
        assert guest.get("/admin").status_int == 403
        assert "not_allowed" in caplog.text
        assert guest.get("/admin/reports").status_int == 200

    def test_request_the_scopes_that_they_need(self, inside: Application):
        config = Config(client_id="x", client_secret="x", session_store="memory:")
        gate = LoginRequired(inside, create_app(config), allow={"/admin": ("org:octo-org",)})
        location = send(gate, "/auth/", headers=HTML).location
        assert parameters(location)["scope"] == "read:org"

    @pytest.mark.parametrize(
        ("rules", "error", "message"),
        [
            ({"/admin": ("group:x",)}, errors.ConfigError, r"allow\['/admin'\]: .*group"),
            ({"/admin": ("nonsense",)}, errors.ConfigError, r"allow\['/admin'\]: not a rule"),
            ({"/admin": ()}, errors.ConfigError, r"allow\['/admin'\]: no rule"),
            ({"/admin": "id:1"}, TypeError, r"allow\['/admin'\]: must be a collection"),
            ({"admin": ("id:1",)}, ValueError, "allow: not a plain path"),
            ({"/a//b": ("id:1",)}, ValueError, "allow: not a plain path"),
        ],
    )
    def test_are_checked_at_start(self, make_gate: MakeGate, rules: Any, error: type[Exception], message: str):
        with pytest.raises(error, match=message):
            make_gate(allow=rules)


class TestSignOutOfTheApplication:
    """The application's own sign-out also ends the session of the sign-in."""

    @pytest.mark.parametrize("path", ["/bye/", "/bye", "/BYE/", "//bye", "/x/../bye", "/bye;x", "/%62ye/"])
    def test_ends_the_session(self, enter: Callable[..., Guest], store: SessionStore, path: str):
        guest = enter(sign_out=["/bye/"])
        cookie = {"Cookie": f"wsgi_oauth={guest.cookie}"}
        response = send(guest.gate, path, method="POST", headers={**HTML, **OWN_FORM, **cookie})
        assert (response.status_code, response.data) == (200, b"inside")
        assert "wsgi_oauth=;" in response.headers["Set-Cookie"]
        assert stored_sessions(store) == []

    def test_is_seen_by_the_application_as_the_user(self, enter: Callable[..., Guest], inside: Application):
        guest = enter(sign_out=["/bye/"])
        guest.post("/bye/", OWN_FORM)
        assert current_identity(inside.environ) is not None

    def test_continues_to_the_sign_out_of_the_sign_in_instead_of_a_redirect(
        self, enter: Callable[..., Guest], inside: Application, provider: LocalProvider
    ):
        """Otherwise a redirect to a protected page would sign the user in again."""
        guest = enter(sign_out=["/bye/"], END_SESSION=f"{provider.url}/logout")
        inside.answer = Response(status=302, headers={"Location": "/"})
        assert guest.post("/bye/", OWN_FORM).location.startswith(f"{provider.url}/logout")

    @pytest.mark.parametrize("library", [{}, {"X-Inertia": "true"}], ids=["fetch", "Inertia"])
    def test_keeps_the_redirect_for_a_script_because_it_cannot_follow_one_to_the_provider(
        self,
        enter: Callable[..., Guest],
        inside: Application,
        provider: LocalProvider,
        store: SessionStore,
        library: dict[str, str],
    ):
        guest = enter(sign_out=["/bye/"], END_SESSION=f"{provider.url}/logout")
        inside.answer = Response(status=302, headers={"Location": "/goodbye"})
        answer = guest.post("/bye/", {**OWN_FORM, **library, "Sec-Fetch-Mode": "cors"})
        assert answer.location == "/goodbye"
        assert stored_sessions(store) == []

    @pytest.mark.parametrize("status", [403, 404, 500])
    def test_that_fails_ends_no_session(self, enter: Callable[..., Guest], inside: Application, status: int):
        guest = enter(sign_out=["/bye/"])
        inside.answer = Response("no", status)
        assert guest.post("/bye/", OWN_FORM).status_int == status
        inside.answer = Response("inside")
        assert guest.get("/page").text == "inside"

    def test_of_another_site_ends_no_session(self, enter: Callable[..., Guest]):
        guest = enter(sign_out=["/bye/"])
        guest.post("/bye/", {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"})
        assert guest.get("/page").text == "inside"

    def test_works_with_a_link_of_this_site(self, enter: Callable[..., Guest]):
        guest = enter(sign_out=["/bye/"])
        guest.get("/bye/", {**HTML, "Sec-Fetch-Site": "same-origin"})
        assert guest.get("/page").status_int == 302

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "none"},
            {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"},
            {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors"},
            {"Sec-Fetch-Site": "same-origin", "Sec-Purpose": "prefetch"},
        ],
    )
    def test_is_not_a_link_of_another_site_an_image_a_script_or_a_prefetch(
        self, enter: Callable[..., Guest], headers: dict[str, str]
    ):
        guest = enter(sign_out=["/bye/"])
        guest.get("/bye/", {**HTML, **headers})
        assert guest.get("/page").text == "inside"

    @pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT"])
    def test_is_no_request_of_another_method(self, enter: Callable[..., Guest], method: str):
        guest = enter(sign_out=["/bye/"])
        cookie = {"Cookie": f"wsgi_oauth={guest.cookie}"}
        response = send(guest.gate, "/bye/", method=method, headers={**HTML, "Sec-Fetch-Site": "same-origin", **cookie})
        assert response.status_code == 200
        assert guest.get("/page").text == "inside"

    def test_may_have_a_body_that_the_sign_in_would_refuse(self, enter: Callable[..., Guest]):
        guest = enter(sign_out=["/bye/"])
        assert guest.post("/bye/", {"Sec-Fetch-Site": "same-origin"}, params={"x": "y" * 100_000}).status_int == 200
        assert guest.get("/page").status_int == 302

    @pytest.mark.parametrize(
        ("referrer", "status"),
        [
            ("http://localhost/page", 302),
            ("https://evil.example/", 200),
            ("http://localhost.evil.example/", 200),
            ("", 200),
        ],
    )
    def test_by_a_link_needs_the_referrer_of_this_site_in_an_old_browser(
        self, enter: Callable[..., Guest], referrer: str, status: int
    ):
        """S41: such a browser sends no Sec-Fetch-Site."""
        guest = enter(sign_out=["/bye/"])
        guest.get("/bye/", {"Accept": "text/html", "Referer": referrer})
        assert guest.get("/page").status_int == status

    @pytest.mark.parametrize("header", ["HX-Redirect", "HX-Location"])
    def test_replaces_the_redirect_of_a_page_with_htmx(
        self, enter: Callable[..., Guest], inside: Application, provider: LocalProvider, header: str
    ):
        inside.answer = Response(headers={header: "/"})
        answer = enter(sign_out=["/bye/"]).post("/bye/", {**OWN_FORM, **HTMX})
        assert (answer.headers["HX-Redirect"], answer.location) == ("http://localhost/auth/signed-out", None)
        assert "HX-Location" not in answer.headers
        answer = enter(sign_out=["/bye/"], END_SESSION=f"{provider.url}/logout").post("/bye/", {**OWN_FORM, **HTMX})
        assert answer.headers["HX-Redirect"].startswith(f"{provider.url}/logout")

    def test_at_a_public_path_ends_the_session_of_a_user_without_access(
        self, make_gate: MakeGate, store: SessionStore, provider: LocalProvider
    ):
        """The application sees no user there, but the browser has a session."""
        guest = Guest(make_gate(public=["/*"]), provider)
        guest.get(guest.consent(guest.get("/auth/").location))
        assert len(stored_sessions(store)) == 1
        stricter = make_gate(public=["/*"], sign_out=["/bye/"], ALLOW="id:1")
        headers = {**OWN_FORM, "Cookie": guest.cookie_header}
        assert send(stricter, "/bye/", method="POST", headers=headers).data == b"inside"
        assert stored_sessions(store) == []

    def test_at_a_public_path_reports_that_the_session_could_not_be_read(
        self, make_gate: MakeGate, store: SessionStore, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
    ):
        """Otherwise the user would be signed in again as soon as the store works."""
        guest = Guest(make_gate(public=["/*"], sign_out=["/bye/"]), provider)
        guest.get(guest.consent(guest.get("/auth/").location))

        def fail(key: str) -> None:
            raise errors.StoreError("the disk is broken")

        monkeypatch.setattr(store, "load", fail)
        assert guest.get("/page").status_int == 200
        assert guest.post("/bye/", {**OWN_FORM, **HTML}, expect_errors=True).status_int == 503

    def test_of_an_anonymous_user_keeps_the_response_of_the_application(
        self, make_gate: MakeGate, inside: Application, provider: LocalProvider
    ):
        inside.answer = Response(status=302, headers={"Location": "/goodbye"})
        guest = Guest(make_gate(public=["/*"], sign_out=["/bye/"]), provider)
        assert guest.post("/bye/", OWN_FORM).location == "/goodbye"

    def test_reports_that_the_session_could_not_be_ended(
        self, enter: Callable[..., Guest], store: SessionStore, monkeypatch: pytest.MonkeyPatch
    ):
        guest = enter(sign_out=["/bye/"])

        def fail(key: str) -> None:
            raise errors.StoreError("the disk is broken")

        monkeypatch.setattr(store, "delete", fail)
        assert guest.post("/bye/", {**OWN_FORM, **HTML}).status_int == 503


class TestExpiredCookies:
    def test_are_deleted_with_the_sign_out(self, enter: Callable[..., Guest]):
        guest = enter(expire_cookies=["sessionid"], sign_out=["/bye/"])
        for path in ("/bye/", "/auth/logout"):
            response = guest.post(path, OWN_FORM)
            assert "sessionid=; Max-Age=0; Path=/" in response.headers.getall("Set-Cookie")
            guest.sign_in()

    @pytest.mark.parametrize("path", ["/auth/logout/", "/auth//logout"])
    def test_are_deleted_at_every_path_that_signs_out(self, enter: Callable[..., Guest], path: str):
        guest = enter(expire_cookies=["sessionid"])
        response = send(guest.gate, path, method="POST", headers={**OWN_FORM, "Cookie": guest.cookie_header})
        assert response.status_code == 303
        assert "sessionid=; Max-Age=0; Path=/" in response.headers.getlist("Set-Cookie")

    def test_with_a_prefix_that_browsers_protect_are_deleted(self, enter: Callable[..., Guest]):
        """Browsers ignore a Set-Cookie header for `__Host-` and `__Secure-` without `Secure` (RFC 6265bis 4.1.3)."""
        response = enter(expire_cookies=["__Host-sessionid"]).post("/auth/logout", OWN_FORM)
        assert "__Host-sessionid=; Max-Age=0; Path=/; Secure" in response.headers.getall("Set-Cookie")

    def test_are_kept_after_a_forged_sign_out(self, enter: Callable[..., Guest]):
        guest = enter(expire_cookies=["sessionid"])
        response = guest.post("/auth/logout", {"Sec-Fetch-Site": "cross-site"})
        assert "sessionid" not in str(response.headers)

    def test_are_kept_by_the_page_that_asks_whether_to_sign_out(self, enter: Callable[..., Guest]):
        response = enter(expire_cookies=["sessionid"]).get("/auth/logout")
        assert (response.status_int, "sessionid" in str(response.headers)) == (200, False)

    def test_have_valid_names(self, make_gate: MakeGate):
        with pytest.raises(ValueError, match="expire_cookies: not the name of a cookie"):
            make_gate(expire_cookies=["a=b"])
        with pytest.raises(TypeError, match="expire_cookies: must be a collection"):
            make_gate(expire_cookies="sessionid")


class TestUnreplacedUnauthorizedResponse:
    def test_passes_if_the_option_is_off(self, enter: Callable[..., Guest], inside: Application):
        guest = enter(replace_401=False)
        inside.answer = Response("its own login form", 401)
        assert (guest.get("/page").status_int, guest.get("/page").text) == (401, "its own login form")

    def test_passes_for_a_form_submission(self, enter: Callable[..., Guest], inside: Application):
        guest = enter()
        inside.answer = Response("wrong password", 401)
        response = guest.post("/login", {**HTML, **OWN_FORM})
        assert (response.status_int, response.text) == (401, "wrong password")


class TestPreflight:
    def test_reaches_the_application_without_an_identity(self, enter: Callable[..., Guest], inside: Application):
        guest = enter(cors_preflight=True)
        inside.answer = Response(status=204, headers={"Access-Control-Allow-Origin": "https://spa.example.com"})
        cookie = {"Cookie": f"wsgi_oauth={guest.cookie}"}
        response = send(guest.gate, "/api", method="OPTIONS", headers={**PREFLIGHT, **cookie})
        assert (response.status_code, "Access-Control-Allow-Origin" in response.headers) == (204, True)
        assert current_identity(inside.environ) is None
        assert "REMOTE_USER" not in inside.environ

    def test_is_refused_unless_the_option_is_set(self, make_gate: MakeGate, inside: Application):
        assert send(make_gate(), "/api", method="OPTIONS", headers=PREFLIGHT).status_code == 401
        assert inside.seen == []

    @pytest.mark.parametrize(
        ("method", "changed"),
        [
            ("GET", {}),
            ("POST", {}),
            ("OPTIONS", {"Origin": None}),
            ("OPTIONS", {"Access-Control-Request-Method": None}),
            ("OPTIONS", {"X-HTTP-Method-Override": "DELETE"}),
            ("OPTIONS", {"X-Method": "DELETE"}),
            ("OPTIONS", {"_method": "DELETE"}),
            ("OPTIONS", {"body": "x"}),
            ("OPTIONS", {"Transfer-Encoding": "chunked"}),
        ],
    )
    def test_is_no_other_request(
        self, make_gate: MakeGate, inside: Application, method: str, changed: dict[str, str | None]
    ):
        headers = {name: value for name, value in {**PREFLIGHT, **changed}.items() if value is not None}
        body = headers.pop("body", "").encode()
        assert (
            send(make_gate(cors_preflight=True), "/api", method=method, body=body, headers=headers).status_code == 401
        )
        assert inside.seen == []

    @pytest.mark.parametrize(
        "query",
        ["__METHOD_OVERRIDE__=DELETE", "x=1&_method=put", "%5Fmethod=PUT", "X-HTTP-Method-Override=PUT"],
    )
    def test_is_no_request_with_another_method_in_its_query(self, make_gate: MakeGate, inside: Application, query: str):
        """Applications with a middleware for that would perform the request without a user."""
        gate = make_gate(cors_preflight=True)
        assert send(gate, "/api", method="OPTIONS", query=query, headers=PREFLIGHT).status_code == 401
        assert inside.seen == []
        assert send(gate, "/api", method="OPTIONS", query="method=photos.list", headers=PREFLIGHT).status_code == 200

    def test_has_no_body_for_the_application(self, make_gate: MakeGate, inside: Application):
        """HTTP/2 sends bodies without `Content-Length`: `_method=DELETE` in one would otherwise be obeyed."""
        body = {"wsgi__input": io.BytesIO(b"_method=DELETE"), "wsgi__input_terminated": True}
        gate = make_gate(cors_preflight=True)
        assert send(gate, "/api", method="OPTIONS", headers=PREFLIGHT, **body).status_code == 200
        assert inside.environ["wsgi.input"].read() == b""

    @pytest.mark.parametrize("is_late", [False, True])
    def test_gets_a_401_if_the_application_requires_a_user(self, make_gate: MakeGate, is_late: bool):
        def application(environ: Any, start_response: Any) -> Any:
            oauth2_session(environ)

        def late_application(environ: Any, start_response: Any) -> Iterator[bytes]:
            yield from application(environ, start_response)

        gate = make_gate(app=late_application if is_late else application, cors_preflight=True)
        assert send(gate, "/api", method="OPTIONS", headers=PREFLIGHT).status_code == 401

    @pytest.mark.parametrize("kind", ["list", "generator", "write", "named arguments"])
    def test_shows_nothing_of_a_page(self, make_gate: MakeGate, kind: str):
        """An application that ignores the method would otherwise show its pages to everyone."""
        closed = []
        kept = [("Content-Type", "text/html"), ("Access-Control-Allow-Origin", "*")]
        about_page = [("Set-Cookie", "a=1"), ("ETag", '"x"'), ("Content-Encoding", "br"), ("Content-Disposition", "x")]
        headers = kept + about_page

        def generate(start_response: Any) -> Iterator[bytes]:
            try:
                start_response("200 OK", headers)
                yield b"secret"
                raise AssertionError("the rest is not needed")
            finally:
                closed.append(True)

        def app(environ: Any, start_response: Any) -> Any:
            if kind == "generator":
                return generate(start_response)
            start = {"status": "200 OK", "headers": [*headers, ("Content-Length", "6")]}
            write = start_response(**start) if kind == "named arguments" else start_response(*start.values())
            if kind == "write":
                write(b"secret")
                return []
            return [b"secret"]

        gate = make_gate(app=app, cors_preflight=True)
        response = send(validator(gate), "/page", method="OPTIONS", headers=PREFLIGHT)
        assert (response.status_code, response.data) == (200, b"")
        assert sorted(response.headers) == sorted([*kept, ("Content-Length", "0")])
        assert closed == [True] * (kind == "generator")


class TestHtmxRequest:
    """htmx shows nothing of a 401, and follows no redirect to another origin."""

    def test_sends_the_page_to_the_sign_in_after_the_session_has_ended(self, make_gate: MakeGate):
        headers = {**HTMX, "HX-Current-URL": "http://localhost/list?q=a"}
        response = send(make_gate(), "/rows", query="page=2", headers=headers)
        assert response.status_code == 401
        assert parameters(response.headers["HX-Redirect"]) == {"next": "/list?q=a"}

    def test_returns_to_no_page_of_another_site(self, make_gate: MakeGate):
        headers = {**HTMX, "HX-Current-URL": "https://evil.example/list"}
        response = send(make_gate(), "/rows", headers=headers)
        assert response.headers["HX-Redirect"] == "http://localhost/auth/?next="


class TestInertiaRequest:
    """Inertia shows a 401 in a dialog, and follows no redirect to another origin (laravel/jetstream#128)."""

    def test_sends_the_page_to_the_sign_in_after_the_session_has_ended(self, make_gate: MakeGate):
        headers = {"Accept": "text/html, application/xhtml+xml", "X-Requested-With": "XMLHttpRequest"}
        response = send(make_gate(), "/list", query="q=a", headers={**headers, "X-Inertia": "true"})
        assert response.status_code == 409
        assert parameters(response.headers["X-Inertia-Location"]) == {"next": "/list?q=a"}
        assert send(make_gate(), "/list", headers=headers).status_code == 401


class TestReturnUrl:
    @pytest.mark.parametrize("variable", ["RAW_URI", "REQUEST_URI"])
    @pytest.mark.parametrize(
        ("script_name", "path", "raw"),
        [
            ("", "/a/b", "/a%2Fb?x=1"),
            ("", "/caf\xc3\xa9", "/caf%c3%a9?x=1"),
            ("/site", "/a/b", "/site/a%2fb?x=1"),
        ],
    )
    def test_keeps_the_spelling_of_the_path(
        self, make_gate: MakeGate, variable: str, script_name: str, path: str, raw: str
    ):
        environ = {variable: raw, "SCRIPT_NAME": script_name}
        response = send(make_gate(), path, query="x=1", headers=HTML, **environ)
        assert parameters(response.location)["next"] == raw

    @pytest.mark.parametrize("raw", ["/other", "http://evil.example/a/b", "//evil.example/a/b", "*", ""])
    def test_is_the_path_if_a_proxy_has_changed_it(self, make_gate: MakeGate, raw: str):
        response = send(make_gate(), "/a/b", headers=HTML, RAW_URI=raw)
        assert parameters(response.location)["next"] == "/a/b"

    @pytest.mark.parametrize("raw", ["/%2Fevil.example", "/%5Cevil.example", "/x/%2e%2e/%2fevil.example"])
    def test_never_leaves_this_site(self, make_gate: MakeGate, raw: str):
        response = send(make_gate(), unquote(raw), headers=HTML, RAW_URI=raw)
        assert parameters(response.location)["next"] == "/"


class TestRemoteUser:
    """The value of REMOTE_USER fits the user table of the application."""

    def remote_user(self, guest: Guest, inside: Application) -> str:
        guest.get("/page")
        name: str = inside.environ["REMOTE_USER"]
        return name

    def test_is_the_subject(self, enter: Callable[..., Guest], inside: Application):
        assert self.remote_user(enter(REMOTE_USER="subject"), inside) == "583231"

    def test_is_the_verified_email_address_in_lower_case(
        self, enter: Callable[..., Guest], inside: Application, provider: LocalProvider
    ):
        provider.user = {**provider.user, "email": "Mona@Example.COM", "email_verified": True}
        assert self.remote_user(enter(REMOTE_USER="email"), inside) == "mona@example.com"

    def test_is_not_the_address_of_another_user_after_lower_case(
        self, enter: Callable[..., Guest], inside: Application, provider: LocalProvider
    ):
        """The lower case of the Kelvin sign is the letter k."""
        provider.user = {**provider.user, "email": "\u212aate@example.com", "email_verified": True}
        assert self.remote_user(enter(REMOTE_USER="email"), inside).encode("latin-1").decode() != "kate@example.com"

    @pytest.mark.parametrize("verified", [False, None])
    def test_is_no_unverified_address(
        self,
        make_gate: MakeGate,
        provider: LocalProvider,
        inside: Application,
        caplog: pytest.LogCaptureFixture,
        *,
        verified: bool | None,
    ):
        provider.user = {**provider.user, "email": "mona@example.com", "email_verified": verified}
        page = Guest(make_gate(REMOTE_USER="email"), provider).sign_in()
        assert (page.status_int, inside.seen) == (403, [])
        assert "verified email address" in page.text
        assert "set WSGI_OAUTH_TRUST_UNVERIFIED_EMAIL=yes if users cannot choose their address" in caplog.text

    def test_is_no_username_that_can_pass_to_another_user(self, make_gate: MakeGate):
        with pytest.raises(errors.ConfigError, match=r"REMOTE_USER: a username at .* can pass to another user"):
            make_gate(REMOTE_USER="username")

    @pytest.mark.parametrize("kind", ["username", "subject"])
    def test_is_no_name_that_users_of_two_providers_may_share(self, kind: str):
        providers = [ProviderConfig(label=label, client_id="x", client_secret="x") for label in ("one", "two")]
        with pytest.raises(errors.ConfigError, match="REMOTE_USER: users of different providers"):
            create_app(Config(providers=providers, session_store="memory:", remote_user=kind))

    def test_is_the_result_of_a_function(self, enter: Callable[..., Guest], inside: Application):
        guest = enter(remote_user=lambda identity: f"{identity.username}é")
        assert self.remote_user(guest, inside) == "octocat\xc3\xa9"  # PEP 3333: bytes as latin-1

    @pytest.mark.parametrize("name", [None, "", "a\nb", "a\x00", 5])
    def test_that_a_function_does_not_give_keeps_the_user_out(
        self, make_gate: MakeGate, provider: LocalProvider, inside: Application, caplog: Any, name: Any
    ):
        page = Guest(make_gate(remote_user=lambda _: name), provider).sign_in()
        assert (page.status_int, inside.seen) == (403, [])
        assert "no_user_name" in page.text
        assert "No user of this application belongs to this account." in page.text
        assert "let the function remote_user of the gate return a name" in caplog.text

    def test_of_a_failing_function_keeps_the_user_out(
        self, make_gate: MakeGate, provider: LocalProvider, caplog: pytest.LogCaptureFixture
    ):
        page = Guest(make_gate(remote_user=lambda identity: identity.unknown), provider).sign_in()
        assert page.status_int == 403
        assert "the function `remote_user` failed" in caplog.text

    def test_that_is_missing_makes_the_user_anonymous_on_a_public_path(
        self, make_gate: MakeGate, provider: LocalProvider, inside: Application
    ):
        guest = Guest(make_gate(public=["/static"], remote_user=lambda _: None), provider)
        guest.sign_in()
        assert guest.get("/static/x").status_int == 200
        assert current_identity(inside.environ) is None


class TestCookies:
    """S65: the session cookie does not reach the application."""

    @pytest.mark.parametrize(
        ("sent", "seen"),
        [
            ("{own}", None),  # as without cookies: Webware, for example, fails at an empty header
            ("wsgi_oauth_8000=2", None),  # of an anonymous user
            ("a=1; {own}; b=2", "a=1; b=2"),
            ("a=1;{own}", "a=1"),
            ("{own}; {own}; a=1", "a=1"),
            ("a=1; wsgi_oauth_8000=2; __Host-wsgi_oauth=3; __Host-wsgi_oauth-sign-out=4", "a=1"),
            ("a=1; wsgi_oauth-AbCdEfGh_1={id}; __Host-wsgi_oauth_8000-AbCdEfGh-1.post={id}", "a=1"),
            ("wsgi_oauth-AbCdEfGh_1={id},b=2", "b=2"),
            ('wsgi_oauth-AbCdEfGh_1 = "{id}" ;b=2', "b=2"),
            ("a=1,{own},b=2", "a=1,b=2"),  # two headers, joined by the server
            ("$Version=1; {own}; $Path=/; a=1", "$Version=1; $Path=/; a=1"),
            ('wsgi_oauth="3"; WSGI_OAUTH=4;;a=1', "WSGI_OAUTH=4;;a=1"),
            ('a="1; {own}; b"', 'a="1; b"'),
            ("a=wsgi_oauth; wsgi_oauth_of_mine=1; xwsgi_oauth=2", "a=wsgi_oauth; wsgi_oauth_of_mine=1; xwsgi_oauth=2"),
        ],
    )
    def test_of_the_sign_in_are_removed(
        self, enter: Callable[..., Guest], inside: Application, sent: str, seen: str | None
    ):
        guest = enter(public=["/"])
        send(guest.gate, "/", headers={"Cookie": sent.format(own=f"wsgi_oauth={guest.cookie}", id=guest.cookie)})
        assert inside.environ.get("HTTP_COOKIE") == seen

    def test_of_the_application_stay_beside_a_session_cookie_with_a_similar_name(
        self, enter: Callable[..., Guest], inside: Application
    ):
        guest = enter(COOKIE_NAME="app")
        cookies = f"app-theme=dark; app-theme-dark=1; app_1=2; app-sign-out-1=3; app-preference={'x' * 60}"
        send(guest.gate, "/", headers={"Cookie": f"{cookies}; {guest.cookie_header}"})
        assert inside.environ["HTTP_COOKIE"] == cookies

    @pytest.mark.parametrize("repeated", [" ", "; ", "-", "1", ";wsgi_oauth-", "wsgi_oauth "])
    def test_of_the_sign_in_are_removed_in_linear_time(self, make_gate: MakeGate, repeated: str):
        """gunicorn joins up to 100 Cookie headers of 8 kB. A pattern that backtracks would need minutes for them."""
        gate, began = make_gate(public=["/"]), time.process_time()
        send(gate, "/", headers={"Cookie": f"wsgi_oauth-{repeated * (400_000 // len(repeated))}"})
        assert time.process_time() - began < 5

    def test_of_the_sign_in_are_removed_from_a_preflight(self, enter: Callable[..., Guest], inside: Application):
        guest = enter(cors_preflight=True)
        send(guest.gate, "/", method="OPTIONS", headers={**PREFLIGHT, "Cookie": f"wsgi_oauth={guest.cookie}; a=1"})
        assert inside.environ["HTTP_COOKIE"] == "a=1"


def test_user_whom_a_path_rule_excludes_learns_that_it_concerns_the_page(enter: Callable[..., Guest]) -> None:
    page = enter(allow={"/admin": ("id:1",)}).get("/admin")
    assert "no access to this page" in page.text
    assert "this application" not in page.text
