"""The gate: requests that reach the protected application, redirects to the sign-in, and the environ inside."""

from __future__ import annotations

import gc
import io
import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from conftest import HTML, JSON, App, Application, Guest, environ_for, parameters, send, stored_sessions
from openid import Issuer, config_for
from werkzeug import Response
from werkzeug.test import create_environ
from werkzeug.wsgi import FileWrapper

from wsgi_oauth import (
    Config,
    FileStore,
    Identity,
    LoginRequired,
    MemoryStore,
    RequestHandler,
    SessionStore,
    create_app,
    current_identity,
    errors,
    login_url,
    logout_url,
    oauth2_session,
)
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

AJAX = {"Accept": "text/html", "X-Requested-With": "XMLHttpRequest"}
FETCH = {"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
IMAGE = {"Accept": "text/html,image/*", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
PIP = {"Accept": "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"}
MINIFLUX = {
    "Accept": "application/xml, application/atom+xml, application/rss+xml, application/rdf+xml, text/html, */*;q=0.9"
}
UV = {"Accept": "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"}
JAVA = {"Accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "User-Agent": "Apache Ivy/2.5.2"}
KEYS = ("REMOTE_USER", "AUTH_TYPE", "wsgi_oauth.identity")
HOUR = 3600


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """Return a file store, the usual one of a deployment."""
    return FileStore(tmp_path / "sessions")


def subject(provider: LocalProvider) -> str:
    return f"583231@{urlsplit(provider.url).netloc.replace(':', '+3A')}"


class TestAnonymousUser:
    def test_signs_in_and_returns_to_the_requested_page(self, visitor: Guest, inside: Application):
        page = visitor.sign_in("/caf%C3%A9/a%20b;v=1?q=%E2%82%AC&q=2&empty=")
        assert page.text == "inside"
        assert inside.environ["PATH_INFO"] == "/café/a b;v=1".encode().decode("latin-1")
        assert inside.environ["QUERY_STRING"] == "q=%E2%82%AC&q=2&empty="
        assert len(inside.seen) == 1  # the application has seen only this request

    @pytest.mark.parametrize(
        "path",
        ["/web/https://example.com/?a=b", "/%E9", "/page?q=%E9", "/page?q=a+b%2Fc&next=/x", "/a:b@c,d!e", "/page?"],
    )
    def test_returns_to_exactly_the_same_url(self, visitor: Guest, inside: Application, path: str):
        location = visitor.get(path).location
        assert parameters(location)["next"] == path.rstrip("?")

    @pytest.mark.parametrize(
        "headers", [JSON, AJAX, FETCH, IMAGE, PIP, UV, MINIFLUX, JAVA, {"Accept": "*/*"}, {}], ids=repr
    )
    def test_gets_401_as_json_for_a_request_that_is_no_navigation(self, visitor: Guest, headers: dict[str, str]):
        response = visitor.app.get("/api", headers=headers, status="*")
        assert (response.status_int, response.content_type) == (401, "application/json")
        assert (response.json["error"], response.json["login_url"]) == ("not_signed_in", "http://localhost/auth/")

    @pytest.mark.parametrize("accept", ["text/html;q=0.9, */*;q=0.8", "text/html, */*; q=0.01", "text/html;q=x"])
    def test_signs_in_with_an_unusual_browser(self, visitor: Guest, accept: str):
        assert parameters(visitor.get("/page", {"Accept": accept}).location)["next"] == "/page"

    @pytest.mark.parametrize("mode", [{}, {"Sec-Fetch-Mode": "navigate"}], ids=["http", "https"])
    def test_signs_in_within_an_android_app(self, visitor: Guest, mode: dict[str, str]):
        """Android's WebView names the app in a header that scripts use, too; it sends the other header over https."""
        response = visitor.get("/page", {**HTML, **mode, "X-Requested-With": "com.example.app"})
        assert parameters(response.location)["next"] == "/page"

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    def test_gets_401_instead_of_a_redirect_for_other_methods(self, visitor: Guest, method: str):
        response = visitor.app.request("/page", method=method, headers=JSON, status="*")
        assert (response.status_int, response.content_type) == (401, "application/json")

    def test_gets_a_page_with_a_sign_in_link_for_a_form(self, visitor: Guest):
        response = visitor.post("/form", params={"text": "x" * 100_000})
        assert (response.status_int, response.content_type) == (401, "text/html")
        assert 'href="http://localhost/auth/">Sign in' in response.text

    def test_never_reaches_the_application(self, visitor: Guest, inside: Application):
        visitor.get("/page")
        visitor.get("/page", JSON)
        visitor.post("/page")
        assert inside.seen == []

    def test_gets_no_cacheable_response(self, visitor: Guest):
        """S45"""
        for response in (visitor.get("/page"), visitor.get("/page", JSON)):
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["Vary"] == "Cookie"
            assert "Set-Cookie" not in response.headers

    def test_gets_no_session(self, visitor: Guest, store: SessionStore):
        """S37"""
        visitor.get("/page")
        visitor.get("/page", JSON)
        assert stored_sessions(store) == []

    def test_stays_anonymous_with_a_pending_sign_in(self, visitor: Guest, inside: Application):
        visitor.get("/auth/")
        assert visitor.cookie
        assert visitor.get("/page").status_int == 302

    def test_stays_anonymous_with_an_invalid_cookie(self, visitor: Guest):
        for value in ("A" * 43, "", "../x", "A" * 300, "\xff" * 43):
            assert send(visitor.gate, "/page", headers={**HTML, "Cookie": f"wsgi_oauth={value}"}).status_code == 302

    @pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", "/x/..//evil.example", "/%2e%2e/evil"])
    def test_returns_to_the_front_page_from_an_ambiguous_path(self, visitor: Guest, path: str):
        """S33"""
        response = send(visitor.gate, path, headers=HTML)
        assert parameters(response.headers["Location"])["next"] == "/"

    @pytest.mark.parametrize("part", ["x", "%C3%A9", "&", "%27"])
    def test_returns_to_a_very_long_url(self, visitor: Guest, provider: LocalProvider, inside: Application, part: str):
        """The gate starts the sign-in itself, because servers and proxies refuse a long URL of the sign-in."""
        query = part * (7900 // len(part))
        start = visitor.get(f"/page?{query}").location
        assert start.startswith(provider.authorization_url)
        assert visitor.get(visitor.get(visitor.consent(start)).location).text == "inside"
        assert inside.environ["QUERY_STRING"] == query

    def test_returns_to_the_front_page_from_a_url_of_more_than_8000_characters(
        self, visitor: Guest, caplog: pytest.LogCaptureFixture
    ):
        with caplog.at_level("INFO"):
            location = visitor.get("/page?" + "x" * 8000).location
        assert parameters(location)["next"] == "/"
        assert "the return URL is dropped" in caplog.text


class TestSignedInUser:
    def test_is_identified_in_the_environ(self, signed_in: Guest, inside: Application, provider: LocalProvider):
        assert signed_in.get("/page").text == "inside"
        assert inside.environ["REMOTE_USER"] == subject(provider)
        assert inside.environ["AUTH_TYPE"] == "OAuth2"
        identity = inside.environ["wsgi_oauth.identity"]
        assert isinstance(identity, Identity)
        assert identity is current_identity(inside.environ)
        assert (identity.id, identity.username) == (subject(provider), "octocat")

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND"])
    def test_can_use_every_method(self, signed_in: Guest, inside: Application, method: str):
        cookie = f"wsgi_oauth={signed_in.cookie}"
        assert send(signed_in.gate, "/page", method=method, headers={"Cookie": cookie}).status_code == 200
        assert inside.environ["REQUEST_METHOD"] == method

    def test_is_fetched_from_the_provider_once(self, signed_in: Guest, provider: LocalProvider):
        for path in ("/page", "/other", "/static/x", "/"):
            assert signed_in.get(path).status_int == 200
        assert provider.count("profile") == 1

    def test_is_not_fetched_again_after_the_profile_page(
        self, visitor: Guest, provider: LocalProvider, inside: Application
    ):
        visitor.get(visitor.consent(visitor.get("/auth/").location))
        assert "octocat" in visitor.get("/auth/profile").text
        visitor.get("/page")
        assert inside.environ["REMOTE_USER"] == subject(provider)
        assert provider.count("profile") == 1

    def test_token_is_not_in_the_environ(self, signed_in: Guest, inside: Application, store: SessionStore):
        signed_in.get("/page")
        [session] = stored_sessions(store)
        shown = repr({**inside.environ, "HTTP_COOKIE": ""})
        assert session["oauth_token"]["access_token"] not in shown
        assert session["oauth_token"]["refresh_token"] not in shown
        assert signed_in.cookie not in shown

    def test_environ_of_the_server_is_unchanged(self, signed_in: Guest):
        seen: list[dict[str, Any]] = []
        gate = signed_in.gate

        def watching(environ: Any, start_response: Any) -> Any:
            seen.append(dict(environ))
            answer = gate(environ, start_response)
            seen.append(dict(environ))
            return answer

        for path in ("/page", "/static/x", "/auth/profile", "/auth"):
            send(watching, path, headers={**HTML, "Cookie": f"wsgi_oauth={signed_in.cookie}"})
            before, after = (dict(each) for each in seen[-2:])
            assert before == after, path

    def test_is_anonymous_with_two_session_cookies(self, signed_in: Guest):
        """S39"""
        for header in (f"wsgi_oauth={signed_in.cookie}; wsgi_oauth={'A' * 43}", f"wsgi_oauth={signed_in.cookie},x"):
            assert send(signed_in.gate, "/page", headers={**HTML, "Cookie": header}).status_code == 302

    def test_is_anonymous_after_the_sign_out(self, signed_in: Guest):
        cookie = signed_in.cookie
        assert signed_in.post("/auth/logout").status_int == 303
        assert signed_in.get("/page").status_int == 302
        copy = send(signed_in.gate, "/page", headers={**HTML, "Cookie": f"wsgi_oauth={cookie}"})
        assert copy.status_code == 302

    def test_is_anonymous_after_the_idle_time(self, signed_in: Guest, later: Callable[[float], None]):
        """S40"""
        later(13 * HOUR)
        assert signed_in.get("/page").status_int == 302

    def test_is_anonymous_after_a_shortened_idle_time(
        self, signed_in: Guest, make_gate: Callable[..., LoginRequired], later: Callable[[float], None]
    ):
        stricter = make_gate(SESSION_IDLE="30m")
        cookie = {"Cookie": f"wsgi_oauth={signed_in.cookie}"}
        assert send(stricter, "/page", headers={**HTML, **cookie}).status_code == 200
        later(HOUR / 2 + 1)
        assert send(stricter, "/page", headers={**HTML, **cookie}).status_code == 302
        assert signed_in.get("/page").status_int == 200

    def test_stays_signed_in_with_regular_requests(self, signed_in: Guest, later: Callable[[float], None]):
        for _ in range(5):
            later(11 * HOUR)
            assert signed_in.get("/page").status_int == 200

    def test_is_replaced_by_the_next_user_who_signs_in(
        self, signed_in: Guest, inside: Application, provider: LocalProvider
    ):
        """S36"""
        provider.user = {"id": 42, "login": "another"}
        signed_in.get(signed_in.consent(signed_in.get("/auth/").location))
        signed_in.get("/page")
        assert current_identity(inside.environ).username == "another"  # type: ignore[union-attr]

    def test_is_replaced_even_if_a_handler_has_deleted_the_token(
        self, provider: LocalProvider, store: SessionStore, inside: Application
    ):
        """S36"""

        class Forget(RequestHandler):
            route = "/forget"

            def get(self, request: Any) -> Any:
                del request.session["oauth_token"]
                return self.jsonify({})

        app = create_app(Config.from_environ(environ_for(provider)), store=store, handlers=[Forget])
        visitor = Guest(LoginRequired(inside, app), provider)
        visitor.sign_in()
        visitor.get("/auth/forget")
        provider.user = {"id": 42, "login": "another"}
        visitor.sign_in()
        assert current_identity(inside.environ).username == "another"  # type: ignore[union-attr]

    @pytest.mark.parametrize("path", ["/page", "/auth/profile"])
    def test_may_have_more_groups_than_a_session_holds(
        self, inside: Application, store: SessionStore, caplog: pytest.LogCaptureFixture, path: str
    ):
        """Directories with thousands of groups are common. The group of a rule is always kept."""
        names = [f"cn=größe-{number:06},ou=groups,dc=example,dc=com" for number in range(6000)]
        issuer = Issuer()
        issuer.user = {**issuer.user, "groups": names}
        with serve_provider(issuer):
            for allow in ("", f"group:{names[-1]}"):
                app = create_app(config_for(issuer, ALLOW=allow), store=store)
                visitor = Guest(LoginRequired(inside, app), issuer)
                visitor.sign_in(path)
                assert [visitor.get("/page").text for _ in range(2)] == ["inside"] * 2
                identity = current_identity(inside.environ)
                assert identity is not None
                assert 100 < len(identity.groups) < 6000
                assert not allow or names[-1] in identity.groups
                assert "6000 groups" in caplog.text

    def test_is_checked_at_the_sign_in_with_all_groups(self, inside: Application, store: SessionStore):
        """Also with those that the session omits, because one of them may exclude the user."""
        issuer = Issuer()
        issuer.user = {**issuer.user, "groups": [*("x" * 500 + str(number) for number in range(500)), "suspended"]}
        with serve_provider(issuer):
            app = create_app(config_for(issuer), store=store, allow=lambda identity: "suspended" not in identity.groups)
            visitor = Guest(LoginRequired(inside, app), issuer)
            started = visitor.get(visitor.get("/page").location)
            assert visitor.get(visitor.consent(started.location)).status_int == 403
            assert visitor.get("/page").status_int == 302

    def test_never_sees_the_return_url_of_another_user(self, inside: Application, store: SessionStore):
        """A cached failure of the discovery is raised for several users."""
        issuer = Issuer()
        with serve_provider(issuer):
            settings = {"client_id": issuer.client_id, "client_secret": issuer.client_secret, "provider": issuer.url}
            signed_in = Guest(LoginRequired(inside, create_app(Config(**settings), store=store)), issuer)
            started = signed_in.get(signed_in.get("/page").location)
            signed_in.get(signed_in.consent(started.location))
            issuer.discover = lambda: Response(status=500)
            gate = LoginRequired(inside, create_app(Config(**settings), store=store))
            later = Guest(gate, issuer)
            later.app.set_cookie("wsgi_oauth", signed_in.cookie)
            assert "canary" in later.get("/reset?token=canary").text
            assert "canary" not in Guest(gate, issuer).get("/auth/").text

    @pytest.mark.parametrize("path", ["/page", "/"])
    def test_may_have_a_larger_user_document_than_a_session_holds(
        self, visitor: Guest, provider: LocalProvider, path: str
    ):
        names = [f"cn=group-{number:06},ou=groups,dc=example,dc=com" for number in range(6000)]
        provider.user = {**provider.user, "groups": names}
        done = visitor.get(visitor.consent(visitor.get(f"/auth/?next={path}").location))
        assert visitor.get(done.location).text == "inside"

    def test_foreign_host_is_refused(self, make_gate: Callable[..., LoginRequired], inside: Application):
        """S34"""
        gate = make_gate(PUBLIC_URL="https://app.example.com/auth")
        for host in ("evil.example", "app.example.com.evil.example", "a b", "xn--a"):
            response = send(gate, "/page", headers={**HTML, "Host": host})
            assert (response.status_code, inside.seen) == (400, [])


class TestUsualRequest:
    """A request of a signed-in user."""

    def test_writes_nothing_and_sends_nothing_to_the_provider(
        self, signed_in: Guest, store: SessionStore, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
    ):
        for forbidden in ("create", "update", "delete"):
            monkeypatch.setattr(store, forbidden, None)
        asked = len(provider.exchanges)
        assert {signed_in.get("/page").status_int for _ in range(3)} == {200}
        assert len(provider.exchanges) == asked

    def test_updates_the_idle_time_rarely(
        self,
        make_gate: Callable[..., LoginRequired],
        provider: LocalProvider,
        store: SessionStore,
        later: Callable[[float], None],
        monkeypatch: pytest.MonkeyPatch,
    ):
        """S40: at most every twelfth of the idle time."""
        signed_in = Guest(make_gate(RECHECK="never"), provider)
        signed_in.sign_in()
        updates: list[str] = []
        update = store.update
        monkeypatch.setattr(
            store, "update", lambda key, *more, **named: updates.append(key) or update(key, *more, **named)
        )
        for _ in range(4):
            later(HOUR + 1)
            for _ in range(3):
                assert signed_in.get("/page").status_int == 200
        assert len(updates) == 4

    def test_succeeds_if_the_idle_time_cannot_be_stored(
        self,
        signed_in: Guest,
        store: SessionStore,
        later: Callable[[float], None],
        monkeypatch: pytest.MonkeyPatch,
    ):
        """S58: a full disk ends no session."""
        monkeypatch.setattr(store, "update", refusing)
        later(2 * HOUR)
        assert signed_in.get("/page").status_int == 200


def refusing(*_: object, **__: object) -> None:
    raise errors.StoreError("the disk is full")


class TestErrorPageLink:
    """A user comes from a page of the application and returns there."""

    @pytest.mark.parametrize("path", ["/page?a=b", "/"])
    def test_returns_to_the_page(self, make_gate: Callable[..., LoginRequired], provider: LocalProvider, path: str):
        visitor = Guest(make_gate(), provider)
        started = visitor.get(visitor.get(path).location)
        declined = visitor.get(visitor.consent(started.location, decision="deny"))
        assert f'"http://localhost/auth/?{escape(urlencode({"switch": 1, "next": path}))}"' in declined.text

    def test_returns_to_the_page_of_a_form(self, visitor: Guest):
        page = visitor.post("/form", {"Referer": "http://localhost/page"})
        assert page.status_int == 401
        assert '"http://localhost/auth/?next=%2Fpage"' in page.text


class TestFailures:
    """The gate stays closed and names the cause."""

    @pytest.mark.parametrize(
        ("fault", "status"),
        [("500", 502), ("hang_up_in_headers", 502), ("html_200", 502), ("slow", 504), ("403", 502), ("429", 429)],
    )
    def test_failure_of_the_profile_endpoint_is_reported(
        self,
        make_gate: Callable[..., LoginRequired],
        inside: Application,
        provider: LocalProvider,
        fault: str,
        status: int,
    ):
        visitor = Guest(make_gate(), provider)
        url = visitor.get("/auth/?next=/page").location
        assert visitor.get(visitor.consent(url)).status_int == 303
        provider.faults.add(f"profile.{fault}")
        impatient = Guest(make_gate(UPSTREAM_TIMEOUT="1" if fault == "slow" else "10"), provider)
        refused = impatient.share_cookies(visitor).get("/page")
        assert (refused.status_int, inside.seen) == (status, [])
        assert visitor.get("/page").text == "inside"  # because the session still exists

    def test_user_document_without_an_id_is_a_provider_error(
        self, visitor: Guest, inside: Application, provider: LocalProvider
    ):
        provider.user = {"login": "octocat"}
        refused = visitor.sign_in()
        assert (refused.status_int, inside.seen) == (502, [])
        assert "Code: provider_error" in refused.text

    def test_revoked_token_requires_a_new_sign_in(
        self, visitor: Guest, inside: Application, provider: LocalProvider, store: SessionStore
    ):
        provider.faults.add("profile.401", times=2)  # also for the refreshed token
        response = visitor.sign_in()
        assert response.status_int == 302
        assert parameters(response.location) == {"next": "/page", "again": "1"}
        assert stored_sessions(store) == []
        assert visitor.cookie is None
        assert visitor.sign_in().text == "inside"

    def test_provider_that_rejects_every_token_causes_no_redirect_loop(self, visitor: Guest, provider: LocalProvider):
        provider.faults.add("profile.401", times=None)
        response = visitor.get("/page")
        for _ in range(20):
            if response.status_int not in {302, 303}:
                break
            location = response.location
            if location.startswith(provider.authorization_url):
                location = visitor.consent(location)
            response = visitor.get(location)
        assert response.status_int == 502

    def test_unavailable_store_is_reported(
        self, signed_in: Guest, inside: Application, store: SessionStore, monkeypatch: Any
    ):
        """S58: the user is not treated as anonymous."""
        monkeypatch.setattr(store, "load", refusing)
        response = signed_in.get("/page")
        assert (response.status_int, inside.seen) == (503, [])
        assert response.headers["Retry-After"] == "5"

    def test_unavailable_store_does_not_affect_public_paths(
        self, signed_in: Guest, inside: Application, store: SessionStore, monkeypatch: Any, caplog: Any
    ):
        monkeypatch.setattr(store, "load", refusing)
        assert signed_in.get("/").text == "inside"
        assert current_identity(inside.environ) is None
        assert "the disk is full" in caplog.text

    def test_read_only_store_does_not_prevent_the_request(
        self, visitor: Guest, inside: Application, store: SessionStore, provider: LocalProvider, monkeypatch: Any
    ):
        visitor.get(visitor.consent(visitor.get("/auth/").location))
        monkeypatch.setattr(store, "update", refusing)
        assert visitor.get("/page").text == "inside"
        assert inside.environ["REMOTE_USER"] == subject(provider)

    def test_concurrent_sign_out_wins(
        self, visitor: Guest, inside: Application, provider: LocalProvider, barrier: Any, store: SessionStore
    ):
        """S42"""
        visitor.get(visitor.consent(visitor.get("/auth/").location))
        cookie = {"Cookie": f"wsgi_oauth={visitor.cookie}"}
        waiting = barrier("profile")
        with ThreadPoolExecutor(1) as background:
            late = background.submit(send, visitor.gate, "/page", headers={**HTML, **cookie})
            waiting.wait_for(1)
            assert visitor.post("/auth/logout").status_int == 303
            waiting.open()
        assert late.result().status_code == 302
        assert inside.seen == []
        assert stored_sessions(store) == []

    def test_unreadable_stored_identity_is_fetched_again(
        self, inside: Application, store: SessionStore, provider: LocalProvider
    ):
        """Another version may have stored it."""

        class Overwrite(RequestHandler):
            route = "/overwrite"

            def get(self, request: Any) -> Any:
                request.session["oauth_identity"] = {"unknown": "format"}
                return self.jsonify({})

        app = create_app(Config.from_environ(environ_for(provider)), store=store, handlers=[Overwrite])
        visitor = Guest(LoginRequired(inside, app), provider)
        visitor.sign_in()
        assert visitor.get("/auth/overwrite").status_int == 200
        for _ in range(2):
            assert visitor.get("/page").text == "inside"
        assert inside.environ["REMOTE_USER"] == subject(provider)
        assert provider.count("profile") == 2


FORGED = {
    "REMOTE_USER": "1@github",
    "LOGON_USER": "1@github",
    "AUTH_TYPE": "OAuth2",
    "HTTP_REMOTE_USER": "1@github",
    "HTTP_AUTH_TYPE": "OAuth2",
    "wsgi_oauth.identity": Identity("github", "1"),
    "wsgi_oauth.context": object(),
}


class TestForgedIdentity:
    """S64: names of users that a client or a server in front sends."""

    @pytest.mark.parametrize("name", FORGED)
    def test_is_removed_on_a_public_path(self, visitor: Guest, inside: Application, name: str):
        send(visitor.gate, "/static/x", **{name.replace(".", "__"): FORGED[name]})
        assert inside.environ.get(name) is not FORGED[name]
        assert current_identity(inside.environ) is None
        assert "REMOTE_USER" not in inside.environ
        assert "AUTH_TYPE" not in inside.environ

    @pytest.mark.parametrize("name", FORGED)
    def test_does_not_sign_in(self, visitor: Guest, inside: Application, name: str):
        response = send(visitor.gate, "/page", headers=HTML, **{name.replace(".", "__"): FORGED[name]})
        assert (response.status_code, inside.seen) == (302, [])

    def test_does_not_replace_the_real_one(self, signed_in: Guest, inside: Application, provider: LocalProvider):
        forged = {name.replace(".", "__"): value for name, value in FORGED.items()}
        send(signed_in.gate, "/page", headers={"Cookie": f"wsgi_oauth={signed_in.cookie}"}, **forged)
        assert inside.environ["REMOTE_USER"] == subject(provider)
        assert current_identity(inside.environ).id == subject(provider)  # type: ignore[union-attr]
        assert {"HTTP_REMOTE_USER", "HTTP_AUTH_TYPE"}.isdisjoint(inside.environ)
        assert login_url(inside.environ, "/x") == "http://localhost/auth/?next=%2Fx"

    def test_is_removed_in_the_header_of_every_known_proxy(self, signed_in: Guest, inside: Application):
        names = [
            *("X-Forwarded-User", "X_FORWARDED_USER", "x-forwarded-email", "X-Auth-Request-Preferred-Username"),
            *("Remote-Groups", "X-Remote-User-Id", "X-Authenticated-Userid", "Cf-Access-Authenticated-User-Email"),
            *("Remote-User-Group", "Remote-User-First-Name", "X-Forwarded-Remote-User", "X-Consumer-Custom-Id"),
            *("OIDC-Claim-Sub", "X-Amzn-Oidc-Data", "Kubeflow-Userid", "X-Pomerium-Claim-Email", "X-Proxy-User"),
            *("X-Goog-Authenticated-User-Email", "X-MS-CLIENT-PRINCIPAL", "Tailscale-User-Login", "X-Vouch-User"),
            *("X-Otterwiki-Name", "X-Otterwiki-Permissions", "X-Auth-Username", "X-Auth-Roles", "SM_USER", "Iv-User"),
            *("X-Webauth-Fullname", "X-Forwarded-Displayname", "X-Authentik-Entitlements"),
            *("OAM_REMOTE_USER", "OAM_REMOTE_USER_GROUPS", "Eppn"),
            "X-Auth-Request-Any-Claim",  # oauth2-proxy can be configured to send any claim
        ]
        for name in names:  # one at a time, because one such header can lead to the removal of others
            headers = {name: "forged", "Cookie": f"wsgi_oauth={signed_in.cookie}"}
            assert send(signed_in.gate, "/page", headers=headers).status_code == 200
            assert "forged" not in inside.environ.values(), name

    def test_is_removed_for_handlers_of_the_oauth_application(
        self, provider: LocalProvider, store: SessionStore, inside: Application
    ):
        seen: list[dict[str, Any]] = []

        class Spy(RequestHandler):
            route = "/spy"

            def get(self, request: Any) -> Any:
                seen.append(request.environ)
                return self.jsonify({})

        app = create_app(Config.from_environ(environ_for(provider)), store=store, handlers=[Spy])
        forged = {name.replace(".", "__"): value for name, value in FORGED.items()}
        assert send(LoginRequired(inside, app), "/auth/spy", **forged).status_code == 200
        assert FORGED.keys().isdisjoint(seen[0])


# Values of PATH_INFO, which the server has decoded, for the rules PUBLIC.
PUBLIC = ["/static", "/about/", "/a b", "/café", "/Deep/er"]
PUBLIC_PATHS = [
    "/static",
    "/static/",
    "/static/app.css",
    "/static/a/b/c.css",
    "/static/...x",
    "/static/.well-known",
    "/static/a:b@c,d=e",
    "/static/caf\xc3\xa9",
    "/about",
    "/about/us",
    "/a b",
    "/a b/c",
    "/caf\xc3\xa9/menu",
    "/Deep/er/still",
]
OTHER_PATHS = [
    "",
    "/",
    "/staticx",
    "/static.css",
    "/statics/",
    "/stati",
    "/Static/app.css",
    "/STATIC",
    "/about us",
    "/deep/er",
    "/Deep",
    "/x/static/app.css",
    "static/app.css",
    "*",
]
# Another component, such as a proxy, may normalize these paths to a different one.
AMBIGUOUS_PATHS = [
    "//static/app.css",
    "/static//app.css",
    "/static//",
    "/static/../admin",
    "/static/..",
    "/static/.",
    "/static/./app.css",
    "/static/a/../../admin",
    "/./static/app.css",
    "/x/../static/app.css",
    "/static/.. /admin",
    "/static/ ../admin",
    "/static/.../admin",
    "/static/..;/admin",
    "/static/x;y=1",
    "/static;/admin",
    "/static\\..\\admin",
    "/static/\\admin",
    "\\static",
    "/static/%2e%2e/admin",
    "/static/%2E%2E%2Fadmin",
    "/static%2fapp.css",
    "/static/%252e%252e/admin",
    "/static/..?/admin",  # a `?` that is not percent-encoded ends the path
    "/static/..#/admin",
    "/static/\x00",
    "/static/\n../admin",
    "/static/\t",
    "/static/\x7f",
    "/static/\xff",
    "/static/\xc0\xae\xc0\xae/admin",  # an overlong encoding of two dots
    "/static/\xed\xa0\x80",  # a lone surrogate
    "/static/caf\xe9",
    "/caf\xe9",
]


class TestPublicPath:
    def test_reaches_the_application_without_a_sign_in(
        self, make_gate: Callable[..., LoginRequired], inside: Application
    ):
        gate = make_gate(public=PUBLIC)
        refused = [path for path in PUBLIC_PATHS if send(gate, path, headers=HTML).status_code != 200]
        assert refused == []
        assert len(inside.seen) == len(PUBLIC_PATHS)

    @pytest.mark.parametrize("paths", [OTHER_PATHS, AMBIGUOUS_PATHS], ids=["other", "ambiguous"])
    def test_is_no_other_or_ambiguous_path(
        self, make_gate: Callable[..., LoginRequired], inside: Application, paths: list[str]
    ):
        gate = make_gate(public=PUBLIC)
        reached = [path for path in paths if send(gate, path, headers=HTML).status_code != 302]
        assert (reached, inside.seen) == ([], [])

    def test_does_not_exist_without_a_rule(self, make_gate: Callable[..., LoginRequired], inside: Application):
        gate = make_gate()
        for path in [*PUBLIC_PATHS, *OTHER_PATHS, *AMBIGUOUS_PATHS]:
            assert send(gate, path, headers=HTML).status_code == 302, ascii(path)
        assert inside.seen == []

    def test_of_one_slash_is_only_the_front_page(self, make_gate: Callable[..., LoginRequired]):
        gate = make_gate(public=["/"])
        statuses = {
            path: send(gate, path, headers=HTML).status_code for path in ("/", "", "/page", "//", "/.", "/x/..")
        }
        assert statuses == {"/": 200, "": 200, "/page": 302, "//": 302, "/.": 302, "/x/..": 302}

    def test_of_slash_and_asterisk_is_every_unambiguous_path(self, make_gate: Callable[..., LoginRequired]):
        gate = make_gate(public=["/*"])
        plain = [path for path in [*PUBLIC_PATHS, *OTHER_PATHS] if path[:1] in {"", "/"}]
        assert [path for path in plain if send(gate, path, headers=HTML).status_code != 200] == []
        reached = [path for path in AMBIGUOUS_PATHS if send(gate, path, headers=HTML).status_code != 302]
        assert reached == []

    def test_is_relative_to_the_mount_point(self, make_gate: Callable[..., LoginRequired]):
        gate = make_gate(public=["/static"])
        for script, path, status in [
            ("/site", "/static/x", 200),
            ("/static", "/page", 302),  # otherwise everything would be public
            ("/site", "/site/static/x", 302),
            ("/site/..", "/static/x", 302),
            ("/site/", "/static/x", 302),
        ]:
            assert send(gate, path, headers=HTML, SCRIPT_NAME=script).status_code == status, (script, path)

    def test_identifies_a_signed_in_user(self, signed_in: Guest, inside: Application, provider: LocalProvider):
        signed_in.get("/static/x")
        assert inside.environ["REMOTE_USER"] == subject(provider)
        assert current_identity(inside.environ)

    def test_identifies_the_user_right_after_the_sign_in(
        self, visitor: Guest, inside: Application, provider: LocalProvider
    ):
        visitor.get("/")
        started = visitor.get(login_url(inside.environ))
        done = visitor.get(visitor.consent(started.location))
        assert urlsplit(done.location).path == "/"
        visitor.get("/")
        assert inside.environ["REMOTE_USER"] == subject(provider)

    def test_sends_nothing_to_the_provider_for_an_image(
        self, visitor: Guest, inside: Application, provider: LocalProvider
    ):
        visitor.get(visitor.consent(visitor.get("/auth/").location))
        visitor.get("/static/x.png", IMAGE)
        assert current_identity(inside.environ) is None
        assert provider.count("profile") == 0

    @pytest.mark.parametrize("headers", [IMAGE, HTML])
    def test_counts_a_user_without_known_rights_as_anonymous(
        self,
        visitor: Guest,
        make_gate: Callable[..., LoginRequired],
        inside: Application,
        provider: LocalProvider,
        headers: dict[str, str],
    ):
        visitor.get(visitor.consent(visitor.get("/auth/").location))
        provider.faults.add("profile.500")
        gate = make_gate(public=["/static"], ALLOW="id:583231")  # a rule that did not exist at the sign-in
        cookie = {"Cookie": f"wsgi_oauth={visitor.cookie}"}
        assert send(gate, "/static/x.png", headers={**headers, **cookie}).status_code == 200
        with pytest.raises(errors.NotSignedIn):
            oauth2_session(inside.environ)

    def test_is_served_if_the_provider_fails(self, visitor: Guest, inside: Application, provider: LocalProvider):
        visitor.get(visitor.consent(visitor.get("/auth/").location))
        provider.faults.add("profile.500")
        assert visitor.get("/").text == "inside"
        assert current_identity(inside.environ) is None

    def test_has_no_identity_for_an_anonymous_user(self, visitor: Guest, inside: Application):
        visitor.get("/")
        assert set(KEYS).isdisjoint(inside.environ)
        assert current_identity(inside.environ) is None
        with pytest.raises(errors.NotSignedIn):
            oauth2_session(inside.environ)

    def test_reads_no_session_without_a_cookie(
        self, visitor: Guest, store: SessionStore, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
    ):
        for forbidden in ("load", "create", "update", "delete"):
            monkeypatch.setattr(store, forbidden, None)
        response = visitor.get("/static/x")
        assert response.status_int == 200
        assert {"Set-Cookie", "Vary", "Cache-Control"}.isdisjoint(response.headers)
        assert not provider.exchanges

    def test_is_served_under_any_host(self, make_gate: Callable[..., LoginRequired], inside: Application):
        """Health checks use internal host names."""
        gate = make_gate(public=["/static"], PUBLIC_URL="https://app.example.com/auth")
        for headers in ({"Host": "10.0.0.5"}, {"Host": "10.0.0.5", "Cookie": "wsgi_oauth=x"}):
            assert send(gate, "/static/x", headers=headers).status_code == 200
            with pytest.raises(errors.BadHost):
                login_url(inside.environ)


class TestPrefix:
    @pytest.mark.parametrize(
        ("path", "is_sign_in"),
        [
            ("/auth", True),
            ("/auth/", True),
            ("/auth/nothing", True),
            ("/auth/../page", True),  # an unknown path of the sign-in is not found
            ("/auth//evil", True),
            ("/authors", False),
            ("/Auth/", False),
            ("//auth/", False),
            ("/x/../auth/", False),
            ("/auth;x", False),
        ],
    )
    def test_matches_whole_segments(
        self, make_gate: Callable[..., LoginRequired], inside: Application, path: str, is_sign_in: bool
    ):
        response = send(make_gate(), path, headers=HTML)
        assert ("/auth/?next=" not in response.headers.get("Location", "")) is is_sign_in
        assert inside.seen == []

    def test_never_reaches_the_application(self, make_gate: Callable[..., LoginRequired], inside: Application):
        assert send(make_gate(public=["/auth"]), "/auth/healthz").status_code == 200
        assert inside.seen == []

    @pytest.mark.parametrize("prefix", ["/login", "/a/b", "/auth/", "/my login", "/café"])
    def test_can_be_chosen(
        self, make_gate: Callable[..., LoginRequired], provider: LocalProvider, prefix: str, inside: Application
    ):
        visitor = Guest(make_gate(prefix=prefix), provider)
        assert visitor.sign_in("/page?x=1").text == "inside"
        assert inside.environ["QUERY_STRING"] == "x=1"

    @pytest.mark.parametrize("prefix", ["", "/", "auth", "//auth", "/../auth", "/auth//x", "/a;b", "/%61uth", "/*"])
    def test_invalid_prefix_stops_the_start(self, make_gate: Callable[..., LoginRequired], prefix: str):
        with pytest.raises(ValueError, match="path"):
            make_gate(prefix=prefix)

    def test_must_end_the_public_url(self, make_gate: Callable[..., LoginRequired]):
        for url in ("https://app.example.com", "https://app.example.com/login", "https://app.example.com/oauth"):
            with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_PUBLIC_URL: must end with /auth"):
                make_gate(PUBLIC_URL=url)
        make_gate(PUBLIC_URL="https://app.example.com/site/auth/")
        make_gate(PUBLIC_URL="https://app.example.com/caf%C3%A9", prefix="/café")


class TestInvalidArguments:
    @pytest.mark.parametrize("public", ["/static", "/"])
    def test_public_as_a_single_string_is_refused(self, make_gate: Callable[..., LoginRequired], public: str):
        """Its characters would be the paths."""
        with pytest.raises(TypeError, match="must be a collection of paths"):
            make_gate(public=public)

    @pytest.mark.parametrize("rule", ["", "static", "/static/*", "/static//x", "/..", "/a%20b", "/a;b", "https://x/y"])
    def test_invalid_path_is_refused(self, make_gate: Callable[..., LoginRequired], rule: str):
        with pytest.raises(ValueError, match="public: not a plain path"):
            make_gate(public=[rule])
        with pytest.raises(ValueError, match="prefix: "):
            make_gate(prefix=rule)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("remote_user", "email"),
            ("replace_401", "no"),
            ("cors_preflight", "no"),
        ],
    )
    def test_argument_of_another_type_is_refused(
        self, make_gate: Callable[..., LoginRequired], name: str, value: object
    ):
        """Otherwise each request would fail, or the text "no" would mean yes."""
        with pytest.raises(TypeError, match=f"{name}: must be .*got {value!r}"):
            make_gate(**{name: value})

    def test_wrapped_oauth_application_is_refused(self, inside: Application, provider: LocalProvider):
        app = create_app(Config.from_environ(environ_for(provider)), store=MemoryStore())
        with pytest.raises(TypeError, match="create_app"):
            LoginRequired(inside, lambda environ, start_response: app(environ, start_response))


class TestUnauthorizedResponse:
    """A 401 of the application without ``WWW-Authenticate`` starts a sign-in if a user waits for a page."""

    def says(self, status: str, *headers: tuple[str, str]) -> App:
        return Response("its own words", status, dict(headers), mimetype="text/plain")

    def test_starts_a_sign_in_on_a_public_path(self, visitor: Guest, inside: Application):
        inside.answer = self.says("401 Unauthorized")
        response = visitor.get("/static/mine?x=1")
        assert response.status_int == 302
        assert parameters(response.location) == {"next": "/static/mine?x=1"}

    def test_is_passed_on_to_a_program(self, visitor: Guest, inside: Application):
        inside.answer = self.says("401 Unauthorized")
        assert visitor.get("/static/mine", JSON).text == "its own words"

    def test_starts_a_new_sign_in_for_a_signed_in_user(self, signed_in: Guest, inside: Application):
        inside.answer = self.says("401 Unauthorized")
        response = signed_in.get("/page")
        assert response.status_int == 302
        assert parameters(response.location) == {"next": "/page", "again": "1"}

    def test_keeps_the_session(self, signed_in: Guest, inside: Application):
        inside.answer = self.says("401 Unauthorized")
        assert signed_in.get("/page").status_int == 302
        inside.answer = Response("inside")
        assert signed_in.get("/page").text == "inside"

    def test_causes_no_redirect_loop(self, visitor: Guest, inside: Application):
        """The second 401 is passed on: the application rejects this user."""
        inside.answer = self.says("401 Unauthorized")
        again = visitor.sign_in()
        assert again.status_int == 302
        done = visitor.get(visitor.consent(visitor.get(again.location).location))
        page = visitor.get(done.location)
        assert (page.status_int, page.text) == (401, "its own words")

    @pytest.mark.parametrize("challenge", ["WWW-Authenticate", "www-authenticate"])
    def test_with_a_challenge_is_passed_on(self, signed_in: Guest, inside: Application, challenge: str):
        inside.answer = self.says("401 Unauthorized", (challenge, 'Basic realm="inside"'))
        response = signed_in.get("/page")
        assert (response.status_int, response.text) == (401, "its own words")

    @pytest.mark.parametrize("status", ["403 Forbidden", "400 Bad Request", "407 Proxy", "500 Oops", "404 Not Found"])
    def test_other_statuses_are_passed_on(self, signed_in: Guest, inside: Application, status: str):
        inside.answer = self.says(status)
        response = signed_in.get("/page")
        assert (response.status_int, response.text) == (int(status[:3]), "its own words")

    def test_keeps_the_cookies_of_the_application(self, visitor: Guest, inside: Application):
        inside.answer = self.says("401 Unauthorized", ("Set-Cookie", "flash=sign%20in"))
        response = visitor.get("/")
        assert response.status_int == 302
        assert response.headers.getall("Set-Cookie") == ["flash=sign%20in"]

    def test_body_is_closed_unread(self, visitor: Guest, inside: Application):
        body = Body([b"x"])

        def app(environ: Any, start_response: Any) -> Any:
            start_response("401 Unauthorized", [])
            return body

        inside.answer = app
        assert send(visitor.gate, "/", headers=HTML).status_code == 302
        assert body.closed == 1
        assert body.asked == 0

    def test_from_a_generator_starts_a_sign_in(self, visitor: Guest, inside: Application):
        events = []

        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            try:
                start_response("401 Unauthorized", [("Content-Type", "text/plain")])
                yield b"its own "
                events.append("asked for more")
                yield b"words"
            finally:
                events.append("closed")

        inside.answer = app
        response = visitor.get("/")
        assert (response.status_int, response.text) == (302, "")
        assert events == ["closed"]

    def test_from_an_empty_generator_starts_a_sign_in(self, visitor: Guest, inside: Application):
        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response("401 Unauthorized", [("Content-Type", "text/plain")])
            yield from ()

        inside.answer = app
        assert visitor.get("/").status_int == 302

    def test_discards_a_body_written_with_write(self, visitor: Guest, inside: Application):
        def app(environ: Any, start_response: Any) -> Any:
            write = start_response("401 Unauthorized", [("Content-Type", "text/plain")])
            write(b"its own words")
            return []

        inside.answer = app
        response = visitor.get("/")
        assert (response.status_int, response.text) == (302, "")

    def test_with_exc_info_starts_a_sign_in(self, visitor: Guest, inside: Application):
        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [("Content-Type", "text/plain")])
            try:
                raise KeyError("user")
            except KeyError:
                start_response("401 Unauthorized", [("Content-Type", "text/plain")], sys.exc_info())
            return [b"its own words"]

        inside.answer = app
        assert visitor.get("/").status_int == 302

    def test_is_replaced_by_a_later_error_with_exc_info(self, visitor: Guest, inside: Application):
        def app(environ: Any, start_response: Any) -> Any:
            start_response("401 Unauthorized", [("Content-Type", "text/plain")])
            try:
                raise OSError
            except OSError:
                start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
            return [b"an error page"]

        inside.answer = app
        response = visitor.get("/")
        assert (response.status_int, response.text) == (500, "an error page")

    @pytest.mark.parametrize("lazy", [False, True])
    def test_not_signed_in_exception_starts_a_sign_in(self, visitor: Guest, inside: Application, lazy: bool):
        """oauth2_session() raises it for an anonymous user."""

        def app(environ: Any, start_response: Any) -> Any:
            oauth2_session(environ)
            raise AssertionError

        def generator(environ: Any, start_response: Any) -> Iterator[bytes]:
            yield from app(environ, start_response)

        inside.answer = generator if lazy else app
        assert parameters(visitor.get("/").location) == {"next": "/"}
        assert visitor.get("/", JSON).status_int == 401

    def test_token_rejected_exception_starts_a_new_sign_in(
        self, signed_in: Guest, inside: Application, provider: LocalProvider, store: SessionStore
    ):
        def app(environ: Any, start_response: Any) -> Any:
            document = oauth2_session(environ).get_json(provider.profile_url)
            return Response(json.dumps(document))(environ, start_response)

        inside.answer = app
        provider.faults.add("profile.401", times=2)
        response = signed_in.get("/page")
        assert parameters(response.location) == {"next": "/page", "again": "1"}
        assert stored_sessions(store) == []
        assert signed_in.cookie is None


class Body:
    """A response body that counts its calls."""

    def __init__(self, chunks: list[bytes], fails: bool = False) -> None:
        self.chunks = iter(chunks)
        self.fails = fails
        self.asked = self.closed = 0

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        self.asked += 1
        if self.fails:
            raise OSError("in the middle")
        return next(self.chunks)

    def close(self) -> None:
        self.closed += 1


class Server:
    """Calls an application as a server does, and records its response."""

    def __init__(self, app: Any, cookie: str | None, path: str = "/page") -> None:
        self.started: list[Any] = []
        self.written: list[bytes] = []
        self.environ = create_environ(path, "http://localhost", headers={"Cookie": f"wsgi_oauth={cookie}"})
        self.body = app(self.environ, self.start_response)

    def start_response(self, *arguments: Any) -> Any:
        self.started.append(arguments)
        return self.written.append


@pytest.fixture
def serve(signed_in: Guest, inside: Application) -> Callable[..., Server]:
    """Serve one request of a signed-in user with the given application."""

    def serve(app: App, path: str = "/page") -> Server:
        inside.answer = app
        return Server(signed_in.gate, signed_in.cookie, path)

    return serve


def starting(body: Any, *headers: tuple[str, str], status: str = "200 OK") -> App:
    def app(environ: Any, start_response: Any) -> Any:
        start_response(status, list(headers))
        return body

    return app


class TestWsgiBehaviour:
    """PEP 3333, in both directions. The browsers in the other tests check it on each request."""

    def test_body_is_the_object_that_the_application_returns(self, serve: Callable[..., Server]):
        for body in (Body([b"x"]), [b"x"], (), FileWrapper(io.BytesIO(b"x")), (chunk for chunk in [b"x"])):
            assert serve(starting(body)).body is body

    def test_body_is_not_read_in_advance(self, serve: Callable[..., Server]):
        body = Body([b"x"])
        serve(starting(body))
        assert (body.asked, body.closed) == (0, 0)

    def test_generator_is_passed_on_chunk_by_chunk(self, serve: Callable[..., Server]):
        made: list[int] = []

        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            for number in range(5):
                made.append(number)
                yield b"%d" % number

        server = serve(app)
        assert server.started == []
        chunks = iter(server.body)
        for number in range(5):
            assert next(chunks) == b"%d" % number
            assert made == list(range(number + 1))
        assert list(chunks) == []

    @pytest.mark.parametrize("read", [0, 1])
    def test_generator_is_closed_if_the_client_disconnects(self, serve: Callable[..., Server], read: int):
        closed: list[bool] = []

        class Lazy(Body):
            def close(self) -> None:
                closed.append(True)

        def app(environ: Any, start_response: Any) -> Any:
            class Starting(Lazy):
                def __next__(self) -> bytes:
                    if not self.asked:
                        start_response("200 OK", [])
                    return super().__next__()

            return Starting([b"a", b"b"])

        body = serve(app).body
        for _ in range(read):
            next(iter(body))
        body.close()
        assert closed == [True]

    def test_write_of_the_server_is_passed_on(self, serve: Callable[..., Server]):
        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [])(b"written")
            return []

        assert serve(app).written == [b"written"]

    def test_exc_info_is_passed_on(self, serve: Callable[..., Server]):
        information = (ValueError, ValueError("x"), None)

        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [])
            start_response("500 Oops", [], information)
            return []

        first, second = serve(app).started
        assert len(first) == 2
        assert second[0] == "500 Oops"
        assert second[2] is information

    def test_response_may_be_started_with_named_arguments(self, serve: Callable[..., Server]):
        """PEP 3333 requires positions, but servers accept these names, so some applications use them."""

        def app(environ: Any, start_response: Any) -> Any:
            start_response(status="200 OK", headers=[("X-Page", "1")], exc_info=None)
            return []

        [(status, headers)] = serve(app).started
        assert (status, headers[0]) == ("200 OK", ("X-Page", "1"))

    @pytest.mark.parametrize("error", [OSError("x"), KeyError("x"), errors.ProviderTimeout("x"), SystemExit(1)])
    def test_exception_is_raised_to_the_server(self, serve: Callable[..., Server], error: BaseException):
        def app(environ: Any, start_response: Any) -> Any:
            raise error

        with pytest.raises(type(error)) as caught:
            serve(app)
        assert caught.value is error

    def test_exception_in_the_body_is_raised_to_the_server(self, serve: Callable[..., Server]):
        body = serve(starting(Body([], fails=True))).body
        with pytest.raises(OSError, match="in the middle"):
            next(iter(body))

    def test_not_signed_in_exception_after_the_start_is_raised_to_the_server(self, serve: Callable[..., Server]):
        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [])
            raise errors.NotSignedIn("too late")

        def generator(environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"x"
            raise errors.NotSignedIn("too late")

        with pytest.raises(errors.NotSignedIn):
            serve(app)
        with pytest.raises(errors.NotSignedIn):
            list(serve(generator).body)

    def test_input_is_passed_on_unread(self, visitor: Guest, signed_in: Guest, inside: Application):
        class Untouched:
            def __getattr__(self, name: str) -> Any:
                raise AssertionError(name)

        stream = Untouched()
        for path in ("/page", "/static/x"):
            environ = create_environ(path, "http://localhost", method="POST")
            environ.update({"wsgi.input": stream, "HTTP_COOKIE": f"wsgi_oauth={signed_in.cookie}"})
            assert b"".join(visitor.gate(environ, lambda *_: None)) == b"inside"
            assert inside.environ["wsgi.input"] is stream
            environ["HTTP_COOKIE"] = ""
            visitor.gate(environ, lambda *_: None)  # because a refusal reads nothing either

    def test_extensions_of_the_server_are_passed_on(self, signed_in: Guest, inside: Application):
        environ = create_environ("/page", "http://localhost", headers={"Cookie": f"wsgi_oauth={signed_in.cookie}"})
        environ["wsgi.file_wrapper"] = environ["gunicorn.socket"] = offered = object()
        signed_in.gate(environ, lambda *_: None)
        assert inside.environ["wsgi.file_wrapper"] is inside.environ["gunicorn.socket"] is offered

    def test_headers_are_passed_on_with_two_cache_headers_added(self, serve: Callable[..., Server]):
        headers = [("Content-Length", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Odd", "")]
        [(status, sent)] = serve(starting([b"x"], *headers)).started
        assert status == "200 OK"
        assert sent == [*headers, ("Vary", "Cookie"), ("Cache-Control", "private, no-cache")]

    @pytest.mark.parametrize(
        ("sent", "headers", "expected"),
        [
            ({"Sec-Fetch-Mode": "cors"}, [("Content-Type", "text/html")], "no-store"),
            ({"Sec-Fetch-Mode": "navigate"}, [("Content-Type", "application/json")], "no-store"),
            ({"Sec-Fetch-Mode": "navigate"}, [], "no-store"),  # browsers guess that it is HTML
            ({"Accept": "text/html,*/*;q=0.8"}, [("Content-Type", "text/plain")], "no-store"),
            ({"Sec-Fetch-Mode": "navigate"}, [("Content-Disposition", "attachment; filename=a")], "no-cache"),
            ({"Sec-Fetch-Mode": "no-cors", "Accept": "text/html"}, [("Content-Type", "image/png")], "no-cache"),
            ({"Accept": "*/*"}, [("Content-Type", "text/plain")], "no-cache"),
        ],
    )
    def test_browsers_do_not_keep_what_they_show_in_a_tab(
        self, signed_in: Guest, inside: Application, sent: dict[str, str], headers: list[Any], expected: str
    ):
        """The back button would show it again after the sign-out."""
        inside.answer = starting([b"x"], *headers)
        response = send(signed_in.gate, "/page", headers={**sent, "Cookie": f"wsgi_oauth={signed_in.cookie}"})
        assert response.headers["Cache-Control"] == f"private, {expected}"

    @pytest.mark.parametrize("said", [("Cache-Control", "public, max-age=60"), ("cache-control", "no-store")])
    def test_cache_headers_of_the_application_are_kept(self, serve: Callable[..., Server], said: tuple[str, str]):
        """Vary is added, so that a shared cache does not serve the page to an anonymous user."""
        [(_, sent)] = serve(starting([], said, ("Vary", "Accept"))).started
        assert sent == [said, ("Vary", "Accept"), ("Vary", "Cookie")]

    def test_header_list_of_the_application_is_unchanged(self, serve: Callable[..., Server]):
        headers = [("Content-Type", "text/plain")]

        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", headers)
            return []

        serve(app)
        assert headers == [("Content-Type", "text/plain")]

    def test_request_creates_few_reference_cycles(self, serve: Callable[..., Server]):
        serve(starting([b"x"]))
        gc.collect()
        gc.disable()
        try:
            serve(starting([b"x"]))
            cycles = gc.collect()
        finally:
            gc.enable()
        assert cycles < 20


class TestEnvironFunctions:
    def test_client_fetches_the_user_document(self, signed_in: Guest, inside: Application, provider: LocalProvider):
        def app(environ: Any, start_response: Any) -> Any:
            document = oauth2_session(environ).get_json(provider.profile_url)
            return Response(document["login"])(environ, start_response)

        inside.answer = app
        assert signed_in.get("/page").text == "octocat"

    def test_client_refreshes_and_stores_the_token(
        self, signed_in: Guest, inside: Application, provider: LocalProvider, store: SessionStore, later: Any
    ):
        [before] = stored_sessions(store)

        def app(environ: Any, start_response: Any) -> Any:
            assert oauth2_session(environ).get_json(provider.profile_url)
            assert oauth2_session(environ).get_json(provider.profile_url)
            return Response("fresh")(environ, start_response)

        later(HOUR)
        inside.answer = app
        assert signed_in.get("/page").text == "fresh"
        [after] = stored_sessions(store)
        assert after["oauth_token"]["access_token"] != before["oauth_token"]["access_token"]
        assert signed_in.get("/page").text == "fresh"
        assert provider.count("refresh") == 1

    def test_concurrent_refresh_by_another_request_keeps_the_session(
        self, signed_in: Guest, inside: Application, provider: LocalProvider, later: Any
    ):
        """A client refreshes once per request. The slower of two requests must not end the session."""
        twin = {"Cookie": f"wsgi_oauth={signed_in.cookie}"}
        others: list[str] = []

        def app(environ: Any, start_response: Any) -> Any:
            github = oauth2_session(environ)
            later(HOUR)
            github.get_json(provider.profile_url)
            if environ["PATH_INFO"] == "/slow":
                others.append(Guest(signed_in.gate, provider).get("/quick", headers=twin).text)
                later(HOUR)
                others.append(Guest(signed_in.gate, provider).get("/quick", headers=twin).text)
                github.get_json(provider.profile_url)
            return Response("fine")(environ, start_response)

        inside.answer = app
        assert signed_in.get("/slow").status_int == 502
        assert others == ["fine", "fine"]
        assert signed_in.get("/quick").text == "fine"

    def test_expired_token_does_not_end_the_session(
        self, make_gate: Callable[..., LoginRequired], inside: Application, later: Any, store: SessionStore
    ):
        """The session identifies the user; the token is only for the provider's API."""
        provider = LocalProvider(refresh_tokens=False)
        with serve_provider(provider):
            config = Config.from_environ(environ_for(provider))
            visitor = Guest(LoginRequired(inside, create_app(config, store=store)), provider)
            visitor.sign_in()
            later(2 * HOUR)
            assert visitor.get("/page").text == "inside"

    def test_login_url_returns_to_this_page(self, visitor: Guest, inside: Application):
        visitor.get("/static/x?a=b%20c&d")
        assert login_url(inside.environ) == "http://localhost/auth/?next=%2Fstatic%2Fx%3Fa%3Db%2520c%26d"

    def test_login_url_returns_to_a_given_page(self, visitor: Guest, inside: Application):
        visitor.get("/")
        assert login_url(inside.environ, "/welcome?a=1") == "http://localhost/auth/?next=%2Fwelcome%3Fa%3D1"

    def test_login_url_of_a_post_has_no_return_url(self, signed_in: Guest, inside: Application):
        signed_in.post("/form")
        assert login_url(inside.environ) == "http://localhost/auth/"

    def test_login_url_of_a_post_returns_to_its_referer(self, signed_in: Guest, inside: Application):
        signed_in.post("/form", {"Referer": "http://localhost/page?step=2"})
        assert login_url(inside.environ) == "http://localhost/auth/?next=%2Fpage%3Fstep%3D2"
        signed_in.post("/form", {"Referer": "http://evil.example/page"})
        assert login_url(inside.environ) == "http://localhost/auth/"

    def test_logout_url_signs_out(self, signed_in: Guest, inside: Application):
        signed_in.get("/page")
        assert logout_url(inside.environ) == "http://localhost/auth/logout"
        assert signed_in.post(logout_url(inside.environ)).status_int == 303
        assert signed_in.get("/page").status_int == 302

    def test_urls_are_right_after_the_application_has_changed_environ(self, visitor: Guest, inside: Application):
        """An inner dispatcher changes it, and so does Bottle's mount."""

        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [("Content-Type", "text/plain")])
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/static", "/x"
            yield login_url(environ).encode()
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = "", "/gone"
            yield b" " + logout_url({**environ}).encode()

        inside.answer = app
        assert visitor.get("/static/x").text == (
            "http://localhost/auth/?next=%2Fstatic%2Fx http://localhost/auth/logout"
        )

    @pytest.mark.parametrize("function", [login_url, logout_url, oauth2_session])
    def test_functions_raise_without_a_gate(self, function: Callable[[Any], Any]):
        with pytest.raises(LookupError, match="LoginRequired"):
            function(create_environ("/"))

    def test_user_is_unknown_without_a_gate(self):
        with pytest.raises(LookupError, match=r"did not pass wsgi_oauth\.LoginRequired"):
            current_identity(create_environ("/"))


def test_nested_gate_requires_its_own_sign_in(
    make_gate: Callable[..., LoginRequired], inside: Application, provider: LocalProvider
):
    """The inner gate trusts nothing in the environ."""
    inner = make_gate(prefix="/inner")
    config = Config.from_environ(environ_for(provider))
    outer = LoginRequired(inner, create_app(config, store=MemoryStore()), public=["/inner"])
    visitor = Guest(outer, provider)
    assert visitor.get("/page").location.startswith("http://localhost/auth/?")
    response = visitor.sign_in()
    assert response.status_int == 302
    assert response.location.startswith("http://localhost/inner/?")
    assert inside.seen == []


def test_two_gates_with_one_oauth_application_share_the_sign_in(provider: LocalProvider):
    app = create_app(Config.from_environ(environ_for(provider)), store=MemoryStore())
    one, two = Application(), Application()
    first, second = LoginRequired(one, app), LoginRequired(two, app)
    visitor = Guest(first, provider)
    visitor.sign_in()
    assert send(second, "/page", headers={"Cookie": f"wsgi_oauth={visitor.cookie}"}).status_code == 200
    assert one.environ["REMOTE_USER"] == two.environ["REMOTE_USER"]


def test_user_ids_of_several_providers_are_distinct(inside: Application, store: SessionStore):
    users = {"one": {"id": 1, "login": "octocat"}, "two": {"id": 1, "login": "hubot"}}
    callbacks = [f"http://localhost/auth/callback/{label}" for label in users]
    with ExitStack() as stack:
        environ = {"WSGI_OAUTH_PROVIDERS": "one two", "WSGI_OAUTH_SESSION_STORE": "memory:"}
        for label, user in users.items():
            provider = LocalProvider(redirect_uris=callbacks, user=user)
            stack.enter_context(serve_provider(provider))
            own = environ_for(provider)
            environ |= {
                name.replace("OAUTH_", f"OAUTH_{label.upper()}_"): own[name]
                for name in own
                if name.endswith(("_ID", "_SECRET", "_URL", "_ISSUER", "_SCOPE"))
            }
        gate = LoginRequired(inside, create_app(Config.from_environ(environ), store=store))
        seen = set()
        for label in users:
            visitor = Guest(gate, provider)
            choice = visitor.get(visitor.get("/page?x=1").location)
            [link] = [link["href"] for link in choice.html.find_all("a") if f"provider={label}" in link["href"]]
            done = visitor.get(visitor.consent(visitor.get(link).location))
            assert urlsplit(done.location).query == "x=1"
            assert visitor.get(done.location).text == "inside"
            identity = current_identity(inside.environ)
            assert identity is not None
            assert identity.username == users[label]["login"]
            seen.add(inside.environ["REMOTE_USER"])
        assert len(seen) == 2


def test_refusal_is_logged_without_the_query(visitor: Guest, caplog: pytest.LogCaptureFixture):
    """S50, S51"""
    caplog.set_level("INFO")
    visitor.get("/page?secret=x")
    assert "'GET /page': not_signed_in" in caplog.text
    assert "secret" not in caplog.text


def test_headers_do_not_change_the_return_url(visitor: Guest):
    response = visitor.get("/page", {"X-Original-URL": "/evil", "X-Forwarded-Prefix": "/evil", "Referer": "/evil"})
    assert parse_qs(urlsplit(response.location).query)["next"] == ["/page"]


class TestCachedAuthentication:
    """A cached result applies only to the same cookie, host and scheme, and only while the session lives."""

    @pytest.fixture
    def cookie(self, signed_in: Guest) -> str:
        assert {signed_in.get("/page").status_int for _ in range(2)} == {200}
        return f"wsgi_oauth={signed_in.cookie}"

    def test_ends_with_the_session(self, signed_in: Guest, cookie: str, later: Callable[[float], None]):
        later(7 * 24 * HOUR)
        assert signed_in.get("/page").status_int == 302

    def test_ends_when_another_process_ends_the_session(self, signed_in: Guest, cookie: str, store: FileStore):
        for key in FileStore(store.folder).keys():
            FileStore(store.folder).delete(key)
        assert signed_in.get("/page").status_int == 302

    @pytest.mark.parametrize(
        "elsewhere",
        [{"HTTP_HOST": "evil.example"}, {"HTTP_HOST": "", "SERVER_NAME": "evil.example"}],
        ids=["by the Host header", "by the server's own name"],
    )
    def test_does_not_apply_to_another_host(self, signed_in: Guest, cookie: str, elsewhere: dict[str, str]):
        """S34"""
        for usual in ({"HTTP_HOST": "localhost"}, {"HTTP_HOST": "", "SERVER_NAME": "localhost"}):
            assert send(signed_in.gate, "/page", headers={"Cookie": cookie}, **usual).status_code == 200
        assert send(signed_in.gate, "/page", headers={"Cookie": cookie}, **elsewhere).status_code == 400

    def test_does_not_apply_to_another_scheme(self, signed_in: Guest, cookie: str):
        """S38: over https the cookie has another name, which no page over plain http can set."""
        assert send(signed_in.gate, "/page", headers={"Cookie": cookie}).status_code == 200
        assert send(signed_in.gate, "/page", headers={"Cookie": cookie}, wsgi__url_scheme="https").status_code == 401

    @pytest.mark.parametrize("changed", ["host", "proto"])
    def test_does_not_apply_to_other_proxy_headers(
        self, signed_in: Guest, cookie: str, make_gate: Callable[..., LoginRequired], changed: str
    ):
        """S34, S35, S38"""
        gate = make_gate(TRUSTED_PROXIES="1")
        usual = {"HTTP_X_FORWARDED_HOST": "localhost", "HTTP_X_FORWARDED_PROTO": "http"}
        other = {"host": "evil.example", "proto": "https"}[changed]
        for _ in range(2):
            assert send(gate, "/page", headers={"Cookie": cookie}, **usual).status_code == 200
        elsewhere = {**usual, f"HTTP_X_FORWARDED_{changed.upper()}": other}
        expected = {"host": 400, "proto": 401}[changed]
        assert send(gate, "/page", headers={"Cookie": cookie}, **elsewhere).status_code == expected

    def test_ends_after_a_shortened_lifetime(
        self, cookie: str, make_gate: Callable[..., LoginRequired], later: Callable[[float], None]
    ):
        """S40"""
        stricter = make_gate(SESSION_LIFETIME="30m")
        assert send(stricter, "/page", headers={"Cookie": cookie}).status_code == 200
        later(HOUR / 2 + 1)
        assert send(stricter, "/page", headers={"Cookie": cookie}).status_code == 401

    @pytest.mark.parametrize(
        ("header", "length", "requests"),
        [("Cookie", 1500, 1100), ("Cookie", 100_000, 30), ("X-Forwarded-Host", 100_000, 30)],
    )
    def test_uses_bounded_memory_for_many_or_long_headers(
        self, signed_in: Guest, cookie: str, inside: Application, *, header: str, length: int, requests: int
    ):
        def request(number: int) -> None:
            padding = f"n={number:06}{'x' * length}"
            headers = {"Cookie": f"{cookie}; {padding}"} if header == "Cookie" else {"Cookie": cookie, header: padding}
            assert send(signed_in.gate, "/page", headers=headers).status_code == 200
            inside.seen.clear()

        request(0)
        tracemalloc.start()
        try:
            for number in range(requests):
                request(number)
            gc.collect()
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < 1_500_000


@pytest.mark.parametrize(("method", "path"), [("GET", "/auth/rights"), ("PUT", "/auth/"), ("POST", "/auth")])
def test_log_explains_that_a_path_below_the_prefix_does_not_reach_the_application(
    visitor: Guest, caplog: pytest.LogCaptureFixture, method: str, path: str
):
    assert send(visitor.gate, path, method=method, headers=JSON).status_code in {400, 404, 405}
    assert "paths below /auth belong to the sign-in" in caplog.text
