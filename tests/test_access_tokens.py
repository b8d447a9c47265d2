"""Access tokens: programs use the application behind the gate as their owner (S67)."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import HTML, JSON, Application, Guest, environ_for, send
from werkzeug import Response

from wsgi_oauth import (
    Config,
    FileStore,
    LoginRequired,
    MemoryStore,
    SessionStore,
    create_app,
    current_identity,
    errors,
    oauth2_session,
)
from wsgi_oauth.cli.main import main
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sessions import access_tokens
from wsgi_oauth.sessions.access_tokens import MAX_TOKENS, USE_INTERVAL
from wsgi_oauth.sessions.encoding import decode, encode
from wsgi_oauth.sessions.store import Record, store_key

MakeGate = Callable[..., LoginRequired]
OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """Return a file store, the usual one of a deployment."""
    return FileStore(tmp_path / "sessions")


@pytest.fixture
def guest(make_gate: MakeGate, provider: LocalProvider) -> Guest:
    """Return a browser that is signed in to an application with access tokens."""
    guest = Guest(make_gate(TOKENS="yes"), provider)
    assert guest.sign_in().text == "inside"
    return guest


def create(guest: Guest, name: str = "backup", lifetime: str = "30d") -> str:
    """Create a token as a script of this site does, and return it."""
    response = guest.app.post_json("/auth/tokens", {"name": name, "lifetime": lifetime}, headers={**JSON, **OWN})
    assert response.status_int == 201
    token: str = response.json["token"]
    return token


def revoke(guest: Guest, token_id: str) -> Any:
    return guest.app.post_json("/auth/tokens", {"revoke": token_id}, headers={**JSON, **OWN}, expect_errors=True)


def listed(guest: Guest) -> list[dict[str, Any]]:
    tokens: list[dict[str, Any]] = guest.get("/auth/tokens", JSON).json["tokens"]
    return tokens


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(token: str, user: str = "anyone") -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{user}:{token}".encode()).decode()}


class TestToken:
    """S67"""

    def test_has_a_recognizable_prefix_and_256_random_bits(self, guest: Guest):
        tokens = {create(guest) for _ in range(3)}
        assert len(tokens) == 3
        assert all(re.fullmatch(r"wo_[A-Za-z0-9_-]{43}", token) for token in tokens)

    @pytest.mark.parametrize("headers", [bearer, basic])
    def test_opens_the_application_as_its_owner(
        self, guest: Guest, inside: Application, headers: Callable[[str], dict[str, str]]
    ):
        guest.get("/page")
        in_browser = inside.environ
        assert send(guest.gate, "/page", headers=headers(create(guest))).status_code == 200
        assert inside.environ["REMOTE_USER"] == in_browser["REMOTE_USER"]
        assert inside.environ["AUTH_TYPE"] == "Token"
        assert current_identity(inside.environ) == current_identity(in_browser)

    def test_is_accepted_beside_a_user_name_in_latin_1(self, guest: Guest):
        """requests (pip), .NET and Java write it so, although the challenge asks for UTF-8."""
        credentials = b64encode(b"m\xfcller:" + create(guest).encode()).decode()
        assert send(guest.gate, "/page", headers={"Authorization": f"Basic {credentials}"}).status_code == 200

    def test_is_accepted_with_the_end_of_the_line_that_a_file_has(self, guest: Guest):
        """A program that reads the password from a file often sends it, too."""
        assert send(guest.gate, "/page", headers=basic(create(guest) + "\r\n")).status_code == 200

    def test_is_not_passed_on_to_the_application(self, guest: Guest, inside: Application):
        send(guest.gate, "/page", headers=bearer(create(guest)))
        assert "HTTP_AUTHORIZATION" not in inside.environ

    @pytest.mark.parametrize("owner", ["the user", "an excluded user", "nobody"])
    def test_is_not_passed_on_on_a_public_path(
        self, guest: Guest, make_gate: MakeGate, inside: Application, owner: str
    ):
        token = "wo_" + "A" * 43 if owner == "nobody" else create(guest)
        gate = make_gate(TOKENS="yes", public=["/static"], ALLOW="id:1" if owner == "an excluded user" else "")
        assert send(gate, "/static/x", headers=bearer(token)).status_code == 200
        assert "HTTP_AUTHORIZATION" not in inside.environ

    def test_is_not_passed_on_with_a_preflight(self, guest: Guest, make_gate: MakeGate, inside: Application):
        preflight = {"Origin": "https://spa.example.com", "Access-Control-Request-Method": "PUT"}
        gate = make_gate(TOKENS="yes", cors_preflight=True)
        send(gate, "/page", method="OPTIONS", headers={**bearer(create(guest)), **preflight})
        assert "HTTP_AUTHORIZATION" not in inside.environ

    def test_opens_nothing_under_another_host_name(self, guest: Guest, inside: Application):
        """S34"""
        token = create(guest)
        assert send(guest.gate, "/page", headers=bearer(token)).status_code == 200
        inside.seen.clear()
        assert send(guest.gate, "/page", headers={**bearer(token), "Host": "evil.example"}).status_code == 400
        assert inside.seen == []

    def test_opens_nothing_as_a_cookie(self, guest: Guest):
        """Browsers send cookies also with requests of other sites."""
        token = create(guest)
        assert send(guest.gate, "/page", headers=bearer(token)).status_code == 200
        for cookie in (token, f"wsgi_oauth={token}", f"wsgi_oauth={token.removeprefix('wo_')}"):
            assert send(guest.gate, "/page", headers={"Cookie": cookie}).status_code == 401

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_that_a_browser_remembers_is_of_no_use_to_another_site(self, guest: Guest, inside: Application, site: str):
        """A browser adds the password from `https://token:wo_...@app.example.com/` also to forms of other sites."""
        headers = {**basic(create(guest)), **HTML, "Sec-Fetch-Site": site}
        inside.seen.clear()
        assert send(guest.gate, "/page", method="POST", headers=headers).status_code == 401
        assert inside.seen == []
        headers["Cookie"] = f"wsgi_oauth={guest.cookie}"
        assert send(guest.gate, "/page", headers=headers).status_code == 200
        assert (inside.environ["AUTH_TYPE"], "HTTP_AUTHORIZATION" in inside.environ) == ("OAuth2", False)

    def test_says_in_the_log_why_it_is_of_no_use(self, guest: Guest, caplog: pytest.LogCaptureFixture):
        """Desktop applications (Electron) send an `Origin` of their own."""
        caplog.set_level("INFO")
        headers = {"Sec-Fetch-Site": "cross-site", "Origin": "app://notes.example"}
        assert send(guest.gate, "/page", method="PUT", headers={**basic("a password"), **headers}).status_code == 401
        assert "bearer token" not in caplog.text
        assert send(guest.gate, "/page", method="PUT", headers={**basic(create(guest)), **headers}).status_code == 401
        assert "send it as a bearer token (Origin: 'app://notes.example')" in caplog.text

    @pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:1", "null"])
    def test_that_an_old_browser_remembers_is_of_no_use_to_another_site(
        self, guest: Guest, inside: Application, origin: str
    ):
        """Old browsers send no `Sec-Fetch-Site`, and no browser does over plain http."""
        token = create(guest)
        own = {**basic(token), "Origin": "http://localhost"}
        assert send(guest.gate, "/page", method="POST", headers=own).status_code == 200
        inside.seen.clear()
        assert send(guest.gate, "/page", method="POST", headers={**basic(token), "Origin": origin}).status_code == 401
        assert inside.seen == []
        assert send(guest.gate, "/page", method="POST", headers={**bearer(token), "Origin": origin}).status_code == 200

    def test_that_a_browser_remembers_is_of_no_use_to_another_site_after_a_request_of_this_site(
        self, inside: Application, provider: LocalProvider
    ):
        """The gate remembers the login of the first request."""
        config = Config.from_environ(environ_for(provider, TOKENS="yes"))
        guest = Guest(LoginRequired(inside, create_app(config, store=MemoryStore())), provider)
        guest.sign_in()
        headers = basic(create(guest))
        statuses = [
            send(guest.gate, "/page", headers={**headers, "Sec-Fetch-Site": site}).status_code
            for site in ("same-origin", "cross-site")
        ]
        assert statuses == [200, 401]

    def test_passes_the_401_of_the_application_on(self, guest: Guest, inside: Application):
        """A sign-in does not help a program."""
        token = create(guest)
        inside.answer = Response("not yours", 401)
        response = send(guest.gate, "/page", headers={**bearer(token), **HTML})
        assert (response.status_code, response.data) == (401, b"not yours")

    def test_leads_to_no_sign_in_if_the_application_requires_another_user(self, guest: Guest, make_gate: MakeGate):
        """Programs that follow redirects, such as git, would read the page of the sign-in as a success."""

        def application(environ: Any, start_response: Any) -> Any:
            oauth2_session(environ)

        headers = {**bearer(create(guest)), **HTML}
        assert send(make_gate(app=application, TOKENS="yes"), "/page", headers=headers).status_code == 401

    def test_takes_precedence_over_a_session(self, guest: Guest, inside: Application):
        headers = {**bearer(create(guest)), "Cookie": f"wsgi_oauth={guest.cookie}"}
        send(guest.gate, "/page", headers=headers)
        assert inside.environ["AUTH_TYPE"] == "Token"

    def test_has_no_access_to_the_api_of_the_provider(self, guest: Guest, inside: Application):
        send(guest.gate, "/page", headers=bearer(create(guest)))
        with pytest.raises(errors.NotSignedIn):
            oauth2_session(inside.environ)

    @pytest.mark.parametrize("path", ["/auth/profile", "/auth/tokens"])
    def test_opens_no_page_of_the_sign_in(self, guest: Guest, path: str):
        assert send(guest.gate, path, headers={**bearer(create(guest)), **JSON}).status_code == 401

    def test_survives_the_sign_out_of_its_owner(self, guest: Guest):
        token = create(guest)
        guest.post("/auth/logout", OWN)
        assert send(guest.gate, "/page", headers=bearer(token)).status_code == 200

    def test_ends_with_its_lifetime(self, guest: Guest, later: Callable[[float], None]):
        token = create(guest, lifetime="1h")
        for seconds in (3500, 10):  # the next request finds the token in the cache of the gate
            later(seconds)
            assert send(guest.gate, "/page", headers=bearer(token)).status_code == 200
        later(91)
        assert send(guest.gate, "/page", headers=bearer(token)).status_code == 401

    @pytest.mark.parametrize("token", ["wo_" + "A" * 43, "wo_short", "", "AAAA"])
    def test_that_is_unknown_opens_nothing(self, guest: Guest, inside: Application, token: str):
        inside.seen.clear()
        for headers in (bearer(token), basic(token)):
            assert send(guest.gate, "/page", headers=headers).status_code == 401
        assert inside.seen == []

    def test_that_is_unknown_is_refused_even_with_a_session(self, guest: Guest):
        headers = {**bearer("wo_" + "A" * 43), "Cookie": f"wsgi_oauth={guest.cookie}"}
        response = send(guest.gate, "/page", headers=headers)
        assert (response.status_code, response.get_json()["error"]) == (401, "token_unknown")

    def test_that_is_unknown_causes_no_redirect_loop(self, guest: Guest):
        """A browser repeats a password that it remembers with every request, also after a sign-in."""
        headers = {**HTML, **basic("wo_" + "A" * 43), "Cookie": f"wsgi_oauth={guest.cookie}"}
        response = send(guest.gate, "/page", headers=headers)
        assert (response.status_code, response.mimetype) == (401, "text/html")

    @pytest.mark.parametrize("header", ["Basic !", "Basic", "Bearer", "Digest x", "Basic \xff", "Basic w7/Dvw=="])
    def test_of_another_kind_is_left_to_the_application(self, guest: Guest, inside: Application, header: str):
        send(guest.gate, "/page", headers={"Authorization": header, "Cookie": f"wsgi_oauth={guest.cookie}"})
        assert inside.environ["HTTP_AUTHORIZATION"] == header

    def test_is_useless_where_tokens_are_not_enabled(self, guest: Guest, make_gate: MakeGate):
        token = create(guest)
        assert send(make_gate(), "/page", headers=bearer(token)).status_code == 401
        assert send(make_gate(), "/auth/tokens", headers=JSON).status_code == 404

    def test_is_subject_to_the_current_access_rules(self, guest: Guest, make_gate: MakeGate):
        token = create(guest)
        for gate in (make_gate(TOKENS="yes", ALLOW="id:1"), make_gate(TOKENS="yes", allow={"/page": ("id:1",)})):
            assert send(gate, "/page", headers=bearer(token)).status_code == 403

    def test_is_useless_for_another_client_id(self, guest: Guest, make_gate: MakeGate):
        """S74"""
        token = create(guest)
        assert send(make_gate(TOKENS="yes", CLIENT_ID="another"), "/page", headers=bearer(token)).status_code == 401

    def test_is_neither_stored_nor_listed(self, guest: Guest, store: SessionStore):
        token = create(guest)
        stored = b"".join(store.load(key) or b"" for key in store.keys())
        assert token.encode() not in stored
        assert token not in guest.get("/auth/tokens").text
        assert listed(guest)[0].keys() == {"id", "name", "created", "expires", "used"}


class TestRevocation:
    """S67"""

    def test_takes_effect_at_once_in_every_worker(self, guest: Guest, make_gate: MakeGate):
        token, worker = create(guest), make_gate(TOKENS="yes")
        assert send(worker, "/page", headers=bearer(token)).status_code == 200
        [known] = listed(guest)
        revoke(guest, known["id"])
        assert listed(guest) == []
        for gate in (worker, guest.gate):
            assert send(gate, "/page", headers=bearer(token)).status_code == 401

    def test_of_an_unknown_token_is_reported(self, guest: Guest):
        response = revoke(guest, "x")
        assert response.status_int == 404

    def test_of_the_token_of_another_user_fails(self, guest: Guest, make_gate: MakeGate, provider: LocalProvider):
        create(guest)
        [known] = listed(guest)
        provider.user = {**provider.user, "id": 1}
        other = Guest(guest.gate, provider)
        other.sign_in()
        assert listed(other) == []
        response = other.app.post_json(
            "/auth/tokens", {"revoke": known["id"]}, headers={**JSON, **OWN}, expect_errors=True
        )
        assert response.status_int == 404
        assert listed(guest) == [known]


class TestPage:
    def test_creates_lists_and_revokes_a_token_without_scripts(self, guest: Guest, inside: Application):
        page = guest.get("/auth/tokens")
        form = page.forms[0]
        form["name"] = "nightly <backup>"
        created = form.submit(headers=OWN)
        [token] = set(re.findall(r"wo_[A-Za-z0-9_-]{43}", created.text))
        assert "nightly &lt;backup&gt;" in created.text
        assert "http://token:" + token + "@localhost/" in created.text
        assert created.headers["Cache-Control"] == "no-store"
        assert send(guest.gate, "/page", headers=bearer(token)).status_code == 200
        page = guest.get("/auth/tokens")
        revoked = page.forms[0].submit("revoke", headers=OWN).follow()
        assert "nightly" not in revoked.text
        assert "The token was revoked." in revoked.text

    @pytest.mark.parametrize(
        "name", ["👩\u200d💻 laptop", "バックアップ\u3000用", "می\u200cخواهم", "Mon\xa0ordinateur", "\U0001fae8"]
    )
    def test_accepts_a_name_in_any_script(self, guest: Guest, name: str):
        form = guest.get("/auth/tokens").forms[0]
        form["name"] = name
        assert name in form.submit(headers=OWN).text
        assert [token["name"] for token in listed(guest)] == [name]

    def test_names_the_account_that_another_tab_has_changed(self, guest: Guest, provider: LocalProvider):
        form = guest.get("/auth/tokens").forms[0]
        provider.user = {**provider.user, "id": 1, "login": "ada"}
        guest.app.reset()
        guest.sign_in()
        form["name"] = "backup"
        assert "You are signed in as ada." in form.submit(headers=OWN).text

    def test_says_that_a_token_was_revoked_once(self, guest: Guest):
        create(guest)
        page = guest.get("/auth/tokens")
        location = page.forms[0].submit("revoke", headers=OWN).location
        guest.app.head(location)  # changes nothing
        shown = [
            "The token was revoked." in guest.get(path).text for path in (location, location, "/auth/tokens?revoked=1")
        ]
        assert shown == [True, False, False]

    @pytest.mark.parametrize(
        ("maximum", "default", "days"),
        [("365d", "30d", 30), ("30d", "30d", 30), ("10d", "7d", 7), ("12h", "43200", 0.5)],
    )
    def test_and_programs_have_the_same_default_lifetime(
        self, make_gate: MakeGate, provider: LocalProvider, maximum: str, default: str, days: float
    ):
        guest = Guest(make_gate(TOKENS="yes", TOKEN_LIFETIME=maximum), provider)
        guest.sign_in()
        assert guest.get("/auth/tokens").forms[0]["lifetime"].value == default
        guest.app.post_json("/auth/tokens", {"name": "backup"}, headers={**JSON, **OWN}, status=201)
        [token] = listed(guest)
        assert round(token["expires"] - token["created"]) == days * 86400

    def test_shows_the_last_use(self, guest: Guest, later: Callable[[float], None]):
        token = create(guest)
        assert listed(guest)[0]["used"] == 0
        send(guest.gate, "/page", headers=bearer(token))
        first = listed(guest)[0]["used"]
        assert first > 0
        for seconds in (10, USE_INTERVAL + 1):  # the last request finds the token in the cache of the gate
            later(seconds)
            send(guest.gate, "/page", headers=bearer(token))
        assert listed(guest)[0]["used"] > first

    def test_shows_the_last_use_also_after_the_clock_was_ahead(
        self, guest: Guest, make_gate: MakeGate, later: Callable[[float], None]
    ):
        token, day = create(guest), 86400
        later(day)
        send(guest.gate, "/page", headers=bearer(token))
        later(-day)  # the clock is corrected
        send(make_gate(TOKENS="yes"), "/page", headers=bearer(token))  # of a worker that has started since
        assert listed(guest)[0]["used"] <= time.time()

    def test_leads_an_anonymous_user_to_the_sign_in(self, make_gate: MakeGate):
        response = send(make_gate(TOKENS="yes"), "/auth/tokens", headers=HTML)
        assert (response.status_code, response.location) == (302, "http://localhost/auth/?next=%2Fauth%2Ftokens")

    def test_changes_nothing_for_another_site(self, guest: Guest):
        headers = {"Sec-Fetch-Site": "cross-site", **JSON}
        response = guest.app.post("/auth/tokens", {"name": "x", "lifetime": "1d"}, headers, expect_errors=True)
        assert response.status_int == 403
        assert listed(guest) == []

    def test_offers_another_site_no_sign_out(self, guest: Guest):
        headers = {"Sec-Fetch-Site": "cross-site", **HTML}
        response = guest.app.post("/auth/tokens", {"name": "x", "lifetime": "1d"}, headers, expect_errors=True)
        assert (response.status_int, "<form" in response.text) == (403, False)

    @pytest.mark.parametrize(
        "form",
        [
            {"name": "", "lifetime": "1d"},
            {"name": " ", "lifetime": "1d"},
            {"name": "x" * 101, "lifetime": "1d"},
            {"name": "a\nb", "lifetime": "1d"},
            {"name": "a\u202eb", "lifetime": "1d"},
            {"name": "x", "lifetime": ""},
            {"name": "x", "lifetime": "366d"},
            {"name": "x", "lifetime": "-1"},
            {},
        ],
    )
    def test_refuses_an_invalid_form(self, guest: Guest, form: dict[str, str]):
        response = guest.app.post("/auth/tokens", form, {**OWN, **JSON}, expect_errors=True)
        assert (response.status_int, response.json["error"]) == (400, "bad_token_request")
        assert listed(guest) == []

    @pytest.mark.parametrize(
        "body",
        [b"[" * 60_000, b'{"a":' * 10_000, b"[]", b"\xff", b'{"name": "x", "lifetime": 60}', b'{"name": 1}'],
    )
    def test_refuses_an_invalid_document(self, guest: Guest, body: bytes):
        response = guest.app.post(
            "/auth/tokens", body, {**OWN, **JSON}, content_type="application/json", expect_errors=True
        )
        assert (response.status_int, response.json["error"]) == (400, "bad_token_request")

    def test_offers_no_lifetime_above_the_maximum(self, make_gate: MakeGate, provider: LocalProvider):
        guest = Guest(make_gate(TOKENS="yes", TOKEN_LIFETIME="7d"), provider)
        guest.sign_in()
        assert [value for value, _, _ in guest.get("/auth/tokens").forms[0]["lifetime"].options] == ["1d", "7d"]

    @pytest.mark.parametrize(
        ("maximum", "shown"), [("12h", "12 hours"), ("1h", "1 hour"), ("90m", "90 minutes"), ("61", "61 seconds")]
    )
    def test_offers_a_maximum_below_one_day_in_its_own_unit(
        self, make_gate: MakeGate, provider: LocalProvider, maximum: str, shown: str
    ):
        guest = Guest(make_gate(TOKENS="yes", TOKEN_LIFETIME=maximum), provider)
        guest.sign_in()
        form = guest.get("/auth/tokens").forms[0]
        assert [text for _, _, text in form["lifetime"].options] == [shown]
        form["name"] = "backup"
        assert form.submit(headers=OWN).status_int == 201
        refused = guest.app.post("/auth/tokens", {"name": "x", "lifetime": "1d"}, {**OWN, **JSON}, expect_errors=True)
        assert f"at most {shown}" in refused.text

    def test_limits_the_number_of_tokens(self, guest: Guest):
        for _ in range(MAX_TOKENS):
            create(guest)
        response = guest.app.post("/auth/tokens", {"name": "x", "lifetime": "1d"}, {**OWN, **JSON}, expect_errors=True)
        assert response.status_int == 400

    def test_counts_no_token_that_has_expired_or_was_deleted(
        self, guest: Guest, store: FileStore, monkeypatch: pytest.MonkeyPatch, later: Callable[[float], None]
    ):
        """A use that races a revocation leaves a token in the list."""
        monkeypatch.setattr(access_tokens, "MAX_TOKENS", 1)
        store.delete(store_key(create(guest)))
        assert listed(guest) == []
        create(guest, lifetime="1h")
        later(3601)
        create(guest)
        [key] = [key for key in store.keys() if (store.load(key) or b"").startswith(b"wo-tokens")]
        lifetimes = [each["expires"] - each["created"] for each in json.loads((store.load(key) or b"")[12:])["tokens"]]
        assert 3600 not in map(round, lifetimes)

    @pytest.mark.parametrize("revokes", [False, True])
    def test_limits_the_number_of_tokens_that_are_created_at_the_same_time(
        self, guest: Guest, store: FileStore, monkeypatch: pytest.MonkeyPatch, revokes: bool
    ):
        """S67: also after all tokens were revoked, otherwise a user could repeat this until the disk is full."""
        monkeypatch.setattr(access_tokens, "MAX_TOKENS", 1 if revokes else 2)
        create(guest)
        if revokes:
            revoke(guest, listed(guest)[0]["id"])
        both, store_token = threading.Barrier(2, timeout=30), store.create

        def store_at_the_same_time(*arguments: Any) -> None:
            both.wait()
            store_token(*arguments)

        monkeypatch.setattr(store, "create", store_at_the_same_time)
        with ThreadPoolExecutor(2) as threads:
            form = ("/auth/tokens", {"name": "x", "lifetime": "1d"}, {**OWN, **JSON})
            created = [threads.submit(guest.app.post, *form, expect_errors=True) for _ in range(2)]
        assert sorted(each.result().status_int for each in created) == [201, 400]
        assert len(listed(guest)) == access_tokens.MAX_TOKENS
        # The session, the list, and the tokens: a refused token leaves nothing.
        assert len(list(store.keys())) == 2 + access_tokens.MAX_TOKENS


class TestChallenge:
    """RFC 9110 15.5.2: a 401 says how to authenticate. Programs need Basic; a browser would open a dialog."""

    def test_asks_a_program_for_a_password_if_tokens_are_enabled(self, make_gate: MakeGate):
        response = send(make_gate(TOKENS="yes"), "/page", headers={"User-Agent": "git/2.39"})
        assert response.headers["WWW-Authenticate"] == 'Basic realm="localhost", charset="UTF-8"'

    @pytest.mark.parametrize(
        ("method", "agent", "accept"),
        [
            ("OPTIONS", "Mozilla/5.0 (X11; rv:109.0) Gecko/20100101 Firefox/115.0", "*/*"),  # Zotero 7
            ("GET", "Mozilla/5.0 (X11; rv:140.0) Gecko/20100101 Zotero/9.0", "*/*"),
            ("REPORT", "Mozilla/5.0 (X11; rv:140.0) Gecko/20100101 Thunderbird/140.0", "text/xml"),
            ("GET", "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1", ""),
            ("PROPFIND", "Mozilla/5.0 (X11; Linux x86_64) KIO/6.5", "text/html, text/*;q=0.9"),
        ],
    )
    def test_asks_a_program_with_the_user_agent_of_a_browser(
        self, make_gate: MakeGate, method: str, agent: str, accept: str
    ):
        headers = {"User-Agent": agent, "Accept": accept}
        response = send(make_gate(TOKENS="yes"), "/page", method=method, headers=headers)
        assert response.headers["WWW-Authenticate"].startswith("Basic ")

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Mode": "cors"},
            {"Referer": "http://localhost/"},
            {"Origin": "http://localhost"},
            {"X-Requested-With": "XMLHttpRequest"},
        ],
    )
    def test_opens_no_dialog_in_a_browser(self, make_gate: MakeGate, headers: dict[str, str]):
        """Browsers without Sec-Fetch-Mode: Safari before version 16.4, and others on a site without https."""
        gate = make_gate(TOKENS="yes")
        agent = {"User-Agent": "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Version/15.0 Safari/605.1.15"}
        for method in ("GET", "PUT", "PROPFIND"):
            response = send(gate, "/page", method=method, headers={**agent, **headers})
            assert response.headers["WWW-Authenticate"] == "Bearer"
        response = send(gate, "/page", method="POST", headers={**agent, "Accept": "text/html,*/*;q=0.8"})
        assert response.headers["WWW-Authenticate"] == "Bearer"

    def test_names_no_password_if_tokens_are_not_enabled(self, make_gate: MakeGate):
        assert send(make_gate(), "/page").headers["WWW-Authenticate"] == "Bearer"


class TestStorage:
    @pytest.fixture
    def store(self, every_store: SessionStore) -> SessionStore:
        return every_store

    @pytest.mark.parametrize("seal", ["no", "yes"])
    def test_works_with_every_store_encrypted_or_not(
        self, make_gate: MakeGate, provider: LocalProvider, store: SessionStore, seal: str
    ):
        guest = Guest(make_gate(TOKENS="yes", SESSION_SEAL=seal), provider)
        guest.sign_in()
        token = create(guest)
        worker = make_gate(TOKENS="yes", SESSION_SEAL=seal)
        assert send(worker, "/page", headers=basic(token)).status_code == 200
        stored = b"".join(store.load(key) or b"" for key in store.keys())
        assert (b"octocat" in stored) == (seal == "no")
        [known] = listed(guest)
        revoke(guest, known["id"])
        assert send(worker, "/page", headers=basic(token)).status_code == 401

    def test_of_an_unencrypted_token_is_rejected_if_encryption_is_on(
        self, make_gate: MakeGate, provider: LocalProvider
    ):
        guest = Guest(make_gate(TOKENS="yes"), provider)
        guest.sign_in()
        token = create(guest)
        assert send(make_gate(TOKENS="yes", SESSION_SEAL="yes"), "/page", headers=bearer(token)).status_code == 401


def test_damaged_list_is_repaired_by_the_next_use(
    guest: Guest, store: SessionStore, later: Callable[[float], None]
) -> None:
    token = create(guest)
    [key] = [key for key in store.keys() if (store.load(key) or b"").startswith(b"wo-tokens")]
    store.delete(key)
    assert listed(guest) == []
    later(USE_INTERVAL + 1)
    assert send(guest.gate, "/page", headers=bearer(token)).status_code == 200
    assert [known["name"] for known in listed(guest)] == ["backup"]


@pytest.mark.parametrize("seal", ["no", "yes"])
def test_operators_revoke_a_token_that_was_created_at_the_same_moment_as_another_one(
    make_gate: MakeGate, provider: LocalProvider, store: FileStore, monkeypatch: pytest.MonkeyPatch, seal: str
) -> None:
    """Both find no list, and the second list replaces the first. Its owner could keep access with the other token."""
    guest = Guest(make_gate(TOKENS="yes", SESSION_SEAL=seal), provider)
    guest.sign_in()
    hidden, visible = create(guest), create(guest, "another")
    [(owner, info)] = [each for each in guest.gate.oauth_app.access_tokens.survey() if each[1].name == "backup"]
    [key] = [key for key in store.keys() if (store.load(key) or b"").startswith(b"wo-tokens")]
    document = json.loads((store.load(key) or b"").removeprefix(b"wo-tokens:1:"))
    document["tokens"] = [each for each in document["tokens"] if each["id"] != info.id]
    store.create(key, Record(b"wo-tokens:1:" + json.dumps(document).encode(), info.expires))
    monkeypatch.setenv("WSGI_OAUTH_SESSION_STORE", f"file:{store.folder}")
    assert main(["tokens", "revoke", "--user", owner]) == 0
    for token in (hidden, visible):
        assert send(guest.gate, "/page", headers=bearer(token)).status_code == 401


DAMAGED = [
    {"id": "\x1b[2J"},
    {"id": []},
    {"name": 7},
    {"created": "x"},
    {"expires": None},
    {"used": "x"},
    {"key": "../x"},
    {"more": 1},
]


class TestDamagedEntry:
    """S56: otherwise a writer of session files could keep operators from revoking tokens."""

    @pytest.fixture(autouse=True)
    def environment(self, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WSGI_OAUTH_SESSION_STORE", f"file:{store.folder}")

    @pytest.mark.parametrize("damage", [*DAMAGED, "nested", "owner"], ids=ascii)
    def test_of_the_list_counts_as_missing(self, guest: Guest, store: FileStore, damage: dict[str, Any] | str):
        token = create(guest)
        [(owner, info)] = guest.gate.oauth_app.access_tokens.survey()
        tokens = json.dumps([{**info._asdict(), **damage}]) if isinstance(damage, dict) else "[" * 100_000
        [key] = [key for key in store.keys() if (store.load(key) or b"").startswith(b"wo-tokens")]
        named = r"\ud800" if damage == "owner" else owner
        document = f'{{"owner": "{named}", "tokens": {tokens}}}'.encode()
        store.update(key, lambda _: Record(b"wo-tokens:1:" + document, info.expires))
        assert listed(guest) == []
        assert main(["tokens", "revoke", "--user", owner]) == 0
        assert send(guest.gate, "/page", headers=bearer(token)).status_code == 401

    @pytest.mark.parametrize("damage", [*DAMAGED, {"info": None}, {"owner": 1}, {"owner": "\ud800"}], ids=ascii)
    def test_of_a_token_counts_as_missing(self, guest: Guest, store: FileStore, damage: dict[str, Any]):
        damaged, other = create(guest), create(guest)
        stored = decode((store.load(store_key(damaged)) or b"").removeprefix(b"wo-token:1:"))
        assert stored is not None
        is_outer = damage.keys() <= stored.data.keys()
        data = {**stored.data, **(damage if is_outer else {"info": {**stored.data["info"], **damage}})}
        record = Record(b"wo-token:1:" + encode(stored._replace(data=data)), time.time() + 100)
        store.update(store_key(damaged), lambda _: record)
        assert send(guest.gate, "/page", headers=bearer(damaged)).status_code == 401
        assert main(["tokens", "revoke", "--all"]) == 0
        assert send(guest.gate, "/page", headers=bearer(other)).status_code == 401

    @pytest.mark.parametrize("change", [{"expires": 2.0, "created": 1.0}, {"name": "x"}, {"more": 1}], ids=ascii)
    def test_of_an_encrypted_token_with_a_changed_description_counts_as_missing(
        self, make_gate: MakeGate, provider: LocalProvider, store: FileStore, change: dict[str, Any]
    ):
        guest = Guest(make_gate(TOKENS="yes", SESSION_SEAL="yes"), provider)
        guest.sign_in()
        token = create(guest)
        line, _, rest = (store.load(store_key(token)) or b"").partition(b"\n")
        document = json.loads(line.removeprefix(b"wo-token:2:"))
        document["tokens"][0] |= change
        changed = b"wo-token:2:" + json.dumps(document).encode() + b"\n" + rest
        store.update(store_key(token), lambda _: Record(changed, time.time() + 100))
        assert send(guest.gate, "/page", headers=bearer(token)).status_code == 401

    @pytest.mark.parametrize("seal", ["no", "yes"])
    def test_of_the_list_with_the_key_of_another_entry_hides_no_token(
        self, make_gate: MakeGate, provider: LocalProvider, store: FileStore, seal: str
    ):
        guest = Guest(make_gate(TOKENS="yes", SESSION_SEAL=seal), provider)
        guest.sign_in()
        token = create(guest)
        [(owner, info)] = guest.gate.oauth_app.access_tokens.survey()
        [key] = [key for key in store.keys() if (store.load(key) or b"").startswith(b"wo-tokens")]
        changed = json.dumps({"owner": owner, "tokens": [info._replace(key=key)._asdict()]}).encode()
        store.update(key, lambda _: Record(b"wo-tokens:1:" + changed, info.expires))
        assert store_key(token) in [found.key for _, found in guest.gate.oauth_app.access_tokens.survey()]


def test_request_succeeds_if_the_last_use_cannot_be_stored(
    guest: Guest, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S76: housekeeping fails no request."""
    token = create(guest)

    def fail(*_: object, **__: object) -> bool:
        raise errors.StoreError("the disk is full")

    monkeypatch.setattr(store, "update", fail)
    assert send(guest.gate, "/page", headers=bearer(token)).status_code == 200


def test_full_store_keeps_nobody_from_revoking_tokens(
    guest: Guest, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis server whose memory is full refuses to change a list, but deletes tokens."""
    tokens = [create(guest) for _ in range(3)]

    def fail(*_: object, **__: object) -> bool:
        raise errors.StoreError("out of memory")

    monkeypatch.setattr(FileStore, "update", fail)
    monkeypatch.setenv("WSGI_OAUTH_SESSION_STORE", f"file:{store.folder}")
    assert revoke(guest, listed(guest)[0]["id"]).status_int == 200
    assert len(listed(guest)) == 2
    assert main(["tokens", "revoke", "--all"]) == 0
    assert [send(guest.gate, "/page", headers=bearer(token)).status_code for token in tokens] == [401, 401, 401]


def test_tokens_are_no_sessions(guest: Guest, store: SessionStore) -> None:
    create(guest)
    states = [entry.state for entry in guest.gate.oauth_app.sessions.survey()]
    assert states == ["signed in"]


def test_operators_list_and_revoke_tokens(
    guest: Guest,
    make_gate: MakeGate,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WSGI_OAUTH_SESSION_STORE", f"file:{tmp_path / 'sessions'}")
    first, second = create(guest, "first"), create(guest, "second")
    send(guest.gate, "/page", headers=bearer(first))
    assert main(["tokens", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    owner = lines[0].split()[4]
    assert [line.split()[-2:] for line in lines] == [[owner, "first"], [owner, "second"]]
    assert "never" in lines[1]
    assert main(["tokens", "revoke", "--id", lines[0].split()[3]]) == 0
    assert capsys.readouterr().out.endswith("access tokens: 1 revoked\n")
    assert [send(guest.gate, "/page", headers=bearer(token)).status_code for token in (first, second)] == [401, 200]
    subject, _, provider = owner.replace("+3A", ":").partition("@")
    assert main(["tokens", "revoke", "--user", f"{provider}:{subject}"]) == 0  # as versions before 1.0 wrote ids
    assert send(guest.gate, "/page", headers=bearer(second)).status_code == 401


def test_operators_revoke_a_token_that_has_leaked(
    guest: Guest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSGI_OAUTH_SESSION_STORE", f"file:{tmp_path / 'sessions'}")
    leaked, other = create(guest, "same name"), create(guest, "same name")
    for said in ("access tokens: 1 revoked\n", "No access token has this value."):
        assert main(["tokens", "revoke", "--id", leaked]) == 0
        printed = "".join(capsys.readouterr())
        assert said in printed
        assert leaked not in printed
    assert [send(guest.gate, "/page", headers=bearer(token)).status_code for token in (leaked, other)] == [401, 200]


def test_revoking_nothing_tells_operators_how_to_find_ids(
    guest: Guest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    create(guest)
    monkeypatch.setenv("WSGI_OAUTH_SESSION_STORE", f"file:{tmp_path / 'sessions'}")
    for option, value, problem in (
        ("--user", "7@github", "belongs to '7@github'"),
        ("--id", "0123456789abcdef", "has the id '0123456789abcdef'"),
        ("--id", "", "has the id ''"),
    ):
        assert main(["tokens", "revoke", option, value]) == 0
        hint = f"No access token {problem}. `wsgi-oauth tokens list` prints all ids and owners.\n"
        assert capsys.readouterr().out.endswith(f"access tokens: 0 revoked\n{hint}")


def test_tokens_of_a_user_are_not_selected_by_username(
    guest: Guest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has the ids of owners only, and nothing must be left without notice."""
    monkeypatch.setenv("WSGI_OAUTH_SESSION_STORE", f"file:{tmp_path / 'sessions'}")
    with pytest.raises(SystemExit) as stopped:
        main(["tokens", "revoke", "--user", "octocat"])
    assert stopped.value.code == 2
    assert "--user: not an id (got 'octocat'); `wsgi-oauth tokens list` prints ids" in capsys.readouterr().err


def test_ending_all_sessions_keeps_tokens(
    guest: Guest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = create(guest)
    monkeypatch.setenv("WSGI_OAUTH_SESSION_STORE", f"file:{tmp_path / 'sessions'}")
    assert main(["sessions", "end", "--all"]) == 0
    assert guest.get("/page").status_int == 302
    assert send(guest.gate, "/page", headers=bearer(token)).status_code == 200


def test_ending_the_sessions_of_a_user_keeps_tokens_and_says_how_to_revoke_them(
    guest: Guest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = create(guest)
    monkeypatch.setenv("WSGI_OAUTH_SESSION_STORE", f"file:{tmp_path / 'sessions'}")
    assert main(["tokens", "list"]) == 0
    owner = capsys.readouterr().out.split()[4]
    assert main(["sessions", "end", "--user", owner]) == 0
    hint = (
        f"access tokens of this user that are still valid: 1; `wsgi-oauth tokens revoke --user {owner}` revokes all\n"
    )
    assert capsys.readouterr().out.endswith(hint)
    assert guest.get("/page").status_int == 302
    assert send(guest.gate, "/page", headers=bearer(token)).status_code == 200


def test_operators_revoke_a_token_that_a_damaged_list_lacks(
    guest: Guest,
    store: SessionStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WSGI_OAUTH_SESSION_STORE", f"file:{tmp_path / 'sessions'}")
    token = create(guest)
    [key] = [key for key in store.keys() if (store.load(key) or b"").startswith(b"wo-tokens")]
    store.delete(key)
    assert main(["tokens", "list"]) == 0
    owner = capsys.readouterr().out.split()[4]
    assert main(["tokens", "revoke", "--user", owner]) == 0
    assert capsys.readouterr().out.endswith("access tokens: 1 revoked\n")
    assert send(guest.gate, "/page", headers=bearer(token)).status_code == 401


@pytest.mark.parametrize("token", ["wo_bad", "wo_" + "A" * 42, "wo_é"])
def test_mistyped_token_is_reported_as_such(guest: Guest, token: str) -> None:
    response = send(guest.gate, "/page", headers=basic(token))
    assert (response.status_code, response.get_json()["error"]) == (401, "token_unknown")


def test_token_ends_even_if_its_file_was_touched(
    guest: Guest, store: FileStore, later: Callable[[float], None]
) -> None:
    """A restored backup has new times."""
    token = create(guest, lifetime="1h")
    later(3601)
    for path in Path(store.folder).iterdir():
        os.utime(path, (time.time() + 3600, time.time() + 3600))
    assert send(guest.gate, "/page", headers=bearer(token)).status_code == 401
