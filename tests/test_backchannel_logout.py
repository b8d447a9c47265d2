"""Back-channel logout (S69; OpenID Connect Back-Channel Logout 1.0): the provider signs a user out of this application.

It needs the extra `openid`. Without it, no test of this file is collected.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import (
    JSON,
    WORKERS,
    Application,
    Barrier,
    Browser,
    Guest,
    Visitor,
    at_the_same_time,
    get_and_close,
    gunicorn,
    send,
)
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from openid import Issuer
from sites import FILES, MAIN, WIKI, User, wiki
from werkzeug import Response

from wsgi_oauth import Config, LoginRequired, MemoryStore, SessionStore, create_app, errors
from wsgi_oauth.demo.local_provider import json_response
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.demo.signing import public_keys, sign_jwt
from wsgi_oauth.events import Event
from wsgi_oauth.oauth.keys import FETCH_INTERVAL
from wsgi_oauth.web.application import OAuthApp

jwt = pytest.importorskip("jwt")

EVENT = "http://schemas.openid.net/event/backchannel-logout"
HOUR = 3600
MakeApp = Callable[..., OAuthApp]

numbers = itertools.count()


@pytest.fixture
def provider(issuer: Issuer) -> Issuer:
    return issuer


@pytest.fixture
def make_app(issuer: Issuer, store: SessionStore) -> MakeApp:
    def make(**settings: str) -> OAuthApp:
        return create_app(Config.from_environ(environ_of(issuer, **settings)), store=store)

    return make


@pytest.fixture
def app(make_app: MakeApp) -> OAuthApp:
    return make_app()


@pytest.fixture
def browser(app: OAuthApp, issuer: Issuer) -> Browser:
    return signed_in(app, issuer)


def environ_of(issuer: Issuer, **settings: str) -> dict[str, str]:
    variables = {"PROVIDER": issuer.url, "CLIENT_ID": issuer.client_id, "CLIENT_SECRET": issuer.client_secret or ""}
    return {f"WSGI_OAUTH_{name}": value for name, value in {**variables, **settings}.items()}


def signed_in(app: Any, issuer: Issuer, sid: str | None = "s1") -> Browser:
    """Sign in, in the session *sid* of the provider."""
    issuer.claims["sid"] = sid
    browser = Browser(app, issuer)
    browser.sign_in()
    return browser


def logout_claims(issuer: Issuer, **changes: Any) -> dict[str, Any]:
    """Return the claims of a logout token (2.4) with *changes*; None removes a claim."""
    now = int(time.time())
    claims = {"iss": issuer.url, "aud": issuer.client_id, "iat": now, "exp": now + 120, "jti": f"token {next(numbers)}"}
    claims |= {"events": {EVENT: {}}, **changes}
    return {name: value for name, value in claims.items() if value is not None}


def logout_token(issuer: Issuer, **changes: Any) -> str:
    return sign_jwt(logout_claims(issuer, **changes), typ="logout+jwt")


def deliver(app: Any, *tokens: str, path: str = "/backchannel-logout", **environ: Any) -> Response:
    """Send a logout request, as the provider does (2.5)."""
    body = urlencode([("logout_token", token) for token in tokens]).encode()
    environ = {"CONTENT_TYPE": "application/x-www-form-urlencoded", **environ}
    return send(app, path, method="POST", body=body, **environ)


def log_out(app: Any, issuer: Issuer, path: str = "/backchannel-logout", **claims: Any) -> None:
    response = deliver(app, logout_token(issuer, **claims), path=path)
    assert response.status_code == 200, response.get_data(as_text=True)


def statuses(*browsers: Browser) -> list[int]:
    return [browser.profile().status_int for browser in browsers]


class TestSessions:
    """S69"""

    @pytest.fixture(params=["no", "yes"])
    def app(self, make_app: MakeApp, request: pytest.FixtureRequest) -> OAuthApp:
        """Run these tests with plain and with encrypted sessions."""
        return make_app(SESSION_SEAL=request.param)

    def test_of_one_provider_session_end(self, app: OAuthApp, issuer: Issuer) -> None:
        ended, other = signed_in(app, issuer, "s1"), signed_in(app, issuer, "s2")
        log_out(app, issuer, sid="s1")
        assert statuses(ended, other) == [401, 200]

    def test_of_one_provider_session_end_if_the_token_also_names_the_user(self, app: OAuthApp, issuer: Issuer) -> None:
        ended, other = signed_in(app, issuer, "s1"), signed_in(app, issuer, "s2")
        log_out(app, issuer, sid="s1", sub="mona")
        assert statuses(ended, other) == [401, 200]

    def test_of_a_user_all_end_if_the_token_names_only_the_user(self, app: OAuthApp, issuer: Issuer) -> None:
        browsers = signed_in(app, issuer, "s1"), signed_in(app, issuer, "s2"), signed_in(app, issuer, None)
        log_out(app, issuer, sub="mona")
        assert statuses(*browsers) == [401, 401, 401]

    def test_end_if_only_the_logout_token_names_a_provider_session(self, app: OAuthApp, issuer: Issuer) -> None:
        ended, other = signed_in(app, issuer, None), signed_in(app, issuer, "s2")
        log_out(app, issuer, sid="s1", sub="mona")
        assert statuses(ended, other) == [401, 200]

    def test_of_other_users_continue(self, app: OAuthApp, issuer: Issuer) -> None:
        browser = signed_in(app, issuer)
        log_out(app, issuer, sub="octocat")
        log_out(app, issuer, sub="s1")
        log_out(app, issuer, sid="mona")
        assert statuses(browser) == [200]

    def test_that_begin_later_continue(self, app: OAuthApp, issuer: Issuer) -> None:
        browser = signed_in(app, issuer)
        log_out(app, issuer, sid="s1", sub="mona")
        log_out(app, issuer, sub="mona")
        browser.sign_in()
        assert statuses(browser, browser) == [200, 200]


def test_an_unknown_session_is_no_error(app: OAuthApp, issuer: Issuer) -> None:
    """2.7: the logout has succeeded if the user is signed out already."""
    assert deliver(app, logout_token(issuer, sid="unknown")).status_code == 200


def test_sessions_of_another_client_continue(make_app: MakeApp, issuer: Issuer) -> None:
    """S74"""
    browser = signed_in(make_app(), issuer)
    issuer.client_id, own = "other", issuer.client_id
    other = make_app()
    log_out(other, issuer, sub="mona")
    issuer.client_id = own
    assert statuses(browser) == [200]


def test_every_registration_of_the_client_with_the_issuer_takes_part(issuer: Issuer, store: SessionStore) -> None:
    """Several providers: the issuer and the audience decide."""
    foreign = Issuer(client_id="foreign")
    with serve_provider(foreign):
        variables = {"WSGI_OAUTH_PROVIDERS": "one two foreign"}
        for label, each in (("ONE", issuer), ("TWO", issuer), ("FOREIGN", foreign)):
            own = {"PROVIDER": each.url, "CLIENT_ID": each.client_id, "CLIENT_SECRET": each.client_secret}
            variables |= {f"WSGI_OAUTH_{label}_{name}": value for name, value in own.items()}
        app = create_app(Config.from_environ(variables), store=store)
        browsers = []
        for label, each in (("one", issuer), ("two", issuer), ("foreign", foreign)):
            each.redirect_uris = [f"http://localhost/callback/{label}"]
            browsers.append(browser := Browser(app, each))
            authorization_url = browser.get(f"/?provider={label}").location
            assert browser.get(browser.consent(authorization_url)).status_int == 303
        log_out(app, issuer, sub="mona")
        assert statuses(*browsers) == [401, 401, 200]
        assert deliver(app, logout_token(foreign, sub="mona", aud=issuer.client_id)).status_code == 400
        assert statuses(browsers[2]) == [200]
        log_out(app, foreign, sub="mona")
        assert statuses(browsers[2]) == [401]


class TestConcurrentSignIn:
    """S69"""

    def test_that_started_before_the_logout_is_over(
        self, app: OAuthApp, issuer: Issuer, barrier: Callable[[str], Barrier]
    ) -> None:
        browser = Browser(app, issuer)
        callback_url = browser.callback_url()
        token = barrier("token")
        with ThreadPoolExecutor(1) as background:
            answer = background.submit(browser.get, callback_url)
            token.wait_for(1)
            log_out(app, issuer, sub="mona")
            token.open()
            answer.result()
        assert statuses(browser) == [401]

    def test_whose_authorization_the_logout_has_overtaken_is_over(self, app: OAuthApp, issuer: Issuer) -> None:
        browser = Browser(app, issuer)
        callback_url = browser.callback_url()
        log_out(app, issuer, sub="mona")
        browser.get(callback_url)
        assert statuses(browser) == [401]

    def test_with_an_id_token_from_before_the_logout_is_over(self, app: OAuthApp, issuer: Issuer) -> None:
        issuer.claims["iat"] = int(time.time()) - 2
        log_out(app, issuer, sub="mona")
        assert statuses(signed_in(app, issuer)) == [401]

    @pytest.mark.parametrize("skew", [-200, 200])
    def test_that_started_later_succeeds_if_the_clocks_differ(self, skew: int, app: OAuthApp, issuer: Issuer) -> None:
        now = int(time.time()) + skew
        issuer.claims["iat"] = now
        before = signed_in(app, issuer)
        log_out(app, issuer, sub="mona", iat=now, exp=now + 120)
        assert statuses(before, signed_in(app, issuer)) == [401, 200]


def test_refreshed_id_token_without_a_provider_session_changes_nothing(
    app: OAuthApp, issuer: Issuer, later: Callable[[float], None]
) -> None:
    browser = signed_in(app, issuer)
    later(2 * HOUR)
    issuer.claims["sid"] = None
    assert statuses(browser) == [200]
    log_out(app, issuer, sid="s1")
    assert statuses(browser) == [401]


class TestGate:
    @pytest.fixture
    def store(self, every_store: SessionStore) -> SessionStore:
        """Run these tests with each kind of store, because they notice revocations in different ways."""
        return every_store

    def test_cached_login_is_over_with_the_next_request(
        self, make_app: MakeApp, issuer: Issuer, inside: Application, later: Callable[[float], None]
    ) -> None:
        gates = [LoginRequired(inside, make_app(SESSION_SEAL="yes", TOKENS="yes"), prefix="/auth") for _ in range(2)]
        guests = [Guest(gate, issuer) for gate in gates]
        issuer.claims["sid"] = "s1"
        guests[0].sign_in()
        guests[1].app.cookiejar = guests[0].app.cookiejar
        later(3)  # otherwise the file store would give no version
        for _ in range(3):
            assert [guest.get("/page").status_int for guest in guests] == [200, 200]
        own = {**JSON, "Sec-Fetch-Site": "same-origin"}
        token = guests[0].app.post_json("/auth/tokens", {"name": "ci", "lifetime": "1d"}, headers=own).json["token"]
        response = deliver(gates[0], logout_token(issuer, sid="s1"), path="/auth/backchannel-logout")
        assert (response.status_code, response.data, "Set-Cookie" in response.headers) == (200, b"", False)
        assert [guest.get("/page").status_int for guest in guests] == [302, 302]
        assert [guest.get("/auth/verify").status_int for guest in guests] == [401, 401]
        assert guests[0].get("/auth/tokens", headers=JSON).status_int == 401
        # Access tokens for programs are still valid.
        assert send(gates[1], "/page", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        guests[0].sign_in()
        assert [guest.get("/page").status_int for guest in guests] == [200, 200]


APPLICATION = """
import os
from wsgi_oauth import LoginRequired, get_app

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

app = LoginRequired(application, get_app())
"""


def test_session_is_over_in_every_worker(tmp_path: Path, issuer: Issuer) -> None:
    """S69"""
    tmp_path.joinpath("gated.py").write_text(APPLICATION)
    environ = environ_of(issuer, SESSION_STORE=f"file:{tmp_path}/sessions")
    issuer.claims["sid"] = "s1"
    with (
        gunicorn(tmp_path, environ, "--workers", "2", *WORKERS["sync"], app="gated:app") as server,
        Visitor(server.url, issuer) as visitor,
    ):
        visitor.get(visitor.get(visitor.callback_url(visitor.get("/page").headers["Location"])).headers["Location"])
        workers = set[str]()
        while len(workers) < 2:
            answers = at_the_same_time(get_and_close, [(visitor.copy(), "/page")] * 4)
            assert [answer.status_code for answer in answers] == [200] * 4
            workers |= {answer.text for answer in answers}
        tokens = [logout_token(issuer, sid="s1")] * 8

        def send_token(token: str) -> Any:
            form = {"logout_token": token}
            return visitor.copy().web.post(f"{server.url}/auth/backchannel-logout", data=form, timeout=60)

        assert send_token(tokens[0]).status_code == 200
        answers = at_the_same_time(get_and_close, [(visitor.copy(), "/page")] * 12)
        assert [answer.status_code for answer in answers] == [302] * 12
        # A replay is noticed by every worker.
        assert {answer.status_code for answer in at_the_same_time(send_token, [(token,) for token in tokens])} == {400}


PAST = -1000


class TestToken:
    """S69; Back-Channel Logout 2.4 and 2.6"""

    @pytest.mark.parametrize(
        ("claim", "value"),
        [
            ("iss", None),
            ("iss", "https://login.example.com"),
            ("aud", None),
            ("aud", "other-client"),
            ("aud", ["other-client"]),
            ("iat", None),
            ("iat", "yesterday"),
            ("iat", -(10**400)),
            ("nbf", 10**10),
            ("events", None),
            ("events", EVENT),
            ("events", [EVENT]),
            ("events", {}),
            ("events", {EVENT: None}),
            ("events", {EVENT: []}),
            ("events", {f"{EVENT}s": {}}),
            ("nonce", "a nonce"),
            ("nonce", ""),
            ("sub", ""),
            ("sub", ["mona"]),
            ("sid", ""),
            ("sid", {}),
            ("jti", None),
            ("jti", ""),
            ("jti", ["1"]),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_with_an_invalid_claim_is_refused(
        self, claim: str, value: Any, app: OAuthApp, browser: Browser, issuer: Issuer
    ) -> None:
        response = deliver(app, logout_token(issuer, **{"sid": "s1", "sub": "mona", claim: value}))
        assert (response.status_code, response.json["error"]) == (400, "invalid_request")
        assert claim in response.json["error_description"]
        assert response.headers["Cache-Control"] == "no-store"
        assert statuses(browser) == [200]

    @pytest.mark.parametrize(
        ("token", "remedy"),
        [
            (lambda issuer: logout_token(issuer, sub="mona", nbf=10**10), "compare the clock of this machine"),
            (lambda issuer: sign_jwt(logout_claims(issuer, sid="s1"), alg="none"), "let the provider sign"),
        ],
        ids=["time", "algorithm"],
    )
    def test_that_is_refused_has_its_remedy_in_the_log(
        self,
        token: Callable[[Issuer], str],
        remedy: str,
        app: OAuthApp,
        issuer: Issuer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        deliver(app, token(issuer))
        assert remedy in caplog.text

    def test_that_names_neither_a_user_nor_a_session_is_refused(self, app: OAuthApp, issuer: Issuer) -> None:
        assert deliver(app, logout_token(issuer)).status_code == 400

    @pytest.mark.parametrize(
        ("issued", "expires", "is_valid"),
        [(0, 120, True), (-200, 60, True), (PAST, -400, False), (0, -400, False), (400, 800, False), (0, 10**9, True)],
    )
    def test_is_valid_until_it_expires(
        self, issued: int, expires: int, is_valid: bool, app: OAuthApp, issuer: Issuer
    ) -> None:
        now = int(time.time())
        response = deliver(app, logout_token(issuer, sid="s1", iat=now + issued, exp=now + expires))
        assert response.status_code == (200 if is_valid else 400)

    @pytest.mark.parametrize(("age", "is_valid"), [(60, True), (600, False)])
    def test_without_an_expiry_is_valid_for_minutes(
        self, age: int, is_valid: bool, app: OAuthApp, issuer: Issuer
    ) -> None:
        response = deliver(app, logout_token(issuer, sid="s1", iat=int(time.time()) - age, exp=None))
        assert response.status_code == (200 if is_valid else 400)

    def test_is_never_valid_for_more_than_a_day(self, app: OAuthApp, issuer: Issuer) -> None:
        """Its use is stored for that time only."""
        now = int(time.time())
        assert deliver(app, logout_token(issuer, sid="s1", iat=now - 25 * HOUR, exp=now + HOUR)).status_code == 400

    def test_for_several_clients_is_accepted(self, app: OAuthApp, browser: Browser, issuer: Issuer) -> None:
        log_out(app, issuer, sid="s1", aud=["other-client", issuer.client_id])
        assert statuses(browser) == [401]

    @pytest.mark.parametrize("claim", ["sub", "nbf", "nonce"])
    def test_with_a_claim_that_is_null_is_accepted(
        self, claim: str, app: OAuthApp, browser: Browser, issuer: Issuer
    ) -> None:
        claims = {**logout_claims(issuer, sid="s1"), claim: None}
        assert deliver(app, sign_jwt(claims, typ="logout+jwt")).status_code == 200
        assert statuses(browser) == [401]

    @pytest.mark.parametrize("typ", ["logout+jwt", "application/logout+jwt", "LOGOUT+JWT", "JWT", None])
    def test_with_a_usual_type_is_accepted(self, typ: str | None, app: OAuthApp, issuer: Issuer) -> None:
        header = {} if typ == "none" else {"typ": typ}
        assert deliver(app, sign_with(KEY, logout_claims(issuer, sid="s1"), issuer, **header)).status_code == 200

    @pytest.mark.parametrize("typ", ["at+jwt", "secevent+jwt", "id_token", 5])
    def test_of_another_type_is_refused(self, typ: Any, app: OAuthApp, issuer: Issuer) -> None:
        """RFC 8725 3.11"""
        assert deliver(app, sign_jwt(logout_claims(issuer, sid="s1"), typ=typ)).status_code == 400

    @pytest.mark.parametrize("token", ["", "a", "a.b.c", "a.b.c.d.e", "é.é.é", f"{'a' * 60_000}.b.c"])
    def test_that_is_not_a_signed_token_is_refused(self, token: str, app: OAuthApp) -> None:
        assert deliver(app, token).status_code == 400

    @pytest.mark.parametrize("number", [0, 2])
    def test_must_be_sent_once(self, number: int, app: OAuthApp, issuer: Issuer) -> None:
        assert deliver(app, *[logout_token(issuer, sid="s1")] * number).status_code == 400

    def test_belongs_into_the_body(self, app: OAuthApp, issuer: Issuer) -> None:
        """2.5: the query of a URL is logged."""
        query = urlencode({"logout_token": logout_token(issuer, sid="s1")})
        assert send(app, "/backchannel-logout", method="POST", query=query).status_code == 400
        assert send(app, "/backchannel-logout", query=query).status_code == 405


KEY = rsa.generate_private_key(65537, 2048)


def sign_with(key: Any, claims: dict[str, Any], issuer: Issuer, algorithm: str = "RS256", **header: Any) -> str:
    """Publish *key* for *algorithm* beside the usual key, and sign with it."""
    jwk = json.loads(jwt.algorithms.get_default_algorithms()[algorithm].to_jwk(key.public_key()))
    issuer.publish_keys = lambda: json_response({"keys": [*public_keys()["keys"], {**jwk, "kid": "new"}]})
    token: str = jwt.encode(claims, key, algorithm, headers={"kid": "new", **header})
    return token


class TestReplay:
    """S69"""

    def test_ends_nothing_new(self, app: OAuthApp, browser: Browser, make_app: MakeApp, issuer: Issuer) -> None:
        token = logout_token(issuer, sub="mona")
        assert deliver(app, token).status_code == 200
        browser.sign_in()
        assert [deliver(each, token).status_code for each in (app, make_app())] == [400, 400]
        assert statuses(browser) == [200]

    def test_is_noticed_until_the_token_expires(
        self, app: OAuthApp, issuer: Issuer, store: SessionStore, later: Callable[[float], None]
    ) -> None:
        token = logout_token(issuer, sub="mona", exp=int(time.time()) + HOUR)
        assert deliver(app, token).status_code == 200
        later(HOUR + 290)  # still within the tolerance for clocks
        assert "received before" in deliver(app, token).json["error_description"]
        later(20)
        assert "exp" in deliver(app, token).json["error_description"]
        store.sweep()
        assert len(list(store.keys())) == 1, "the record of the revocation alone remains"

    def test_of_a_token_with_the_same_id_from_another_issuer_is_none(self, app: OAuthApp, issuer: Issuer) -> None:
        for _ in range(2):
            assert deliver(app, logout_token(issuer, sid="s1")).status_code == 200

    def test_after_a_failure_of_the_store_succeeds(
        self, app: OAuthApp, browser: Browser, issuer: Issuer, store: SessionStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise a provider that sends the token again could not end the session."""
        token = logout_token(issuer, sid="s1")

        def fail(*_: object) -> None:
            raise errors.StoreError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(store, "create", fail)
            response = deliver(app, token)
        assert (response.status_code, response.json["error"]) == (400, "session_store_unavailable")
        assert "disk" not in response.get_data(as_text=True)
        assert deliver(app, token).status_code == 200
        assert statuses(browser) == [401]


class TestAttacks:
    """S69; RFC 8725"""

    def refuses(self, app: OAuthApp, browser: Browser, token: str) -> bool:
        return deliver(app, token).status_code == 400 and statuses(browser) == [200]

    def test_changed_claims_are_refused(self, app: OAuthApp, browser: Browser, issuer: Issuer) -> None:
        header, _, signature = logout_token(issuer, sid="s2").split(".")
        claims = logout_token(issuer, sid="s1").split(".")[1]
        assert self.refuses(app, browser, f"{header}.{claims}.{signature}")

    @pytest.mark.filterwarnings("ignore:The HMAC key is:jwt.warnings.InsecureKeyLengthWarning")
    def test_client_secret_is_no_key_unless_announced(self, app: OAuthApp, browser: Browser, issuer: Issuer) -> None:
        token = jwt.encode(logout_claims(issuer, sid="s1"), issuer.client_secret, "HS256")
        assert self.refuses(app, browser, token)

    def test_algorithm_that_the_provider_does_not_announce_is_refused(
        self, app: OAuthApp, browser: Browser, issuer: Issuer
    ) -> None:
        issuer.metadata["id_token_signing_alg_values_supported"] = ["RS256"]
        fresh = create_app(app.config, store=app.sessions.store)
        key = ec.generate_private_key(ec.SECP256R1())
        token = sign_with(key, logout_claims(issuer, sid="s1"), issuer, "ES256")
        assert self.refuses(fresh, browser, token)

    def test_other_algorithm_than_that_of_the_id_tokens_is_refused(
        self, app: OAuthApp, make_app: MakeApp, issuer: Issuer
    ) -> None:
        """Back-Channel Logout 2.6, item 3, also in a worker without a sign-in."""
        issuer.metadata["id_token_signing_alg_values_supported"] = ["RS256", "ES256"]
        browser = signed_in(app, issuer)
        token = sign_with(ec.generate_private_key(ec.SECP256R1()), logout_claims(issuer, sid="s1"), issuer, "ES256")
        assert self.refuses(make_app(), browser, token)

    def test_id_token_is_no_logout_token(self, app: OAuthApp, issuer: Issuer) -> None:
        issued: list[str] = []

        def sign(claims: dict[str, Any]) -> str:
            issued.append(sign_jwt(claims))
            return issued[0]

        issuer.sign = sign
        browser = signed_in(app, issuer)
        assert self.refuses(app, browser, issued[0])
        # Also not one without a nonce, as after a refresh.
        claims = json.loads(jwt.utils.base64url_decode(issued[0].split(".")[1]))
        assert self.refuses(app, browser, sign_jwt({**claims, "jti": "1", "nonce": None}))
        del claims["nonce"]
        assert self.refuses(app, browser, sign_jwt({**claims, "jti": "1"}))

    def test_logout_token_is_no_id_token(self, app: OAuthApp, issuer: Issuer) -> None:
        issuer.sign = lambda claims: logout_token(issuer, sub="mona", sid="s1")
        browser = Browser(app, issuer)
        assert browser.get(browser.callback_url(), headers=JSON).json["error"] == "id_token_refused"


class TestKeys:
    def test_are_fetched_at_most_every_ten_seconds(
        self, app: OAuthApp, browser: Browser, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetched = issuer.count("keys")
        for number in range(5):
            assert deliver(app, sign_jwt(logout_claims(issuer, sid="s1"), kid=f"unknown {number}")).status_code == 400
        assert issuer.count("keys") == fetched
        now = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: now() + FETCH_INTERVAL)
        for number in range(5):
            assert deliver(app, sign_jwt(logout_claims(issuer, sid="s1"), kid=f"unknown {number}")).status_code == 400
        assert issuer.count("keys") == fetched + 1

    def test_are_fetched_again_after_a_rotation(
        self, app: OAuthApp, browser: Browser, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: now() + FETCH_INTERVAL)
        assert deliver(app, sign_with(KEY, logout_claims(issuer, sid="s1"), issuer)).status_code == 200
        assert statuses(browser) == [401]

    def test_are_fetched_for_the_first_token_of_a_worker(self, make_app: MakeApp, issuer: Issuer) -> None:
        browser = signed_in(make_app(), issuer)
        log_out(make_app(), issuer, sid="s1")
        assert statuses(browser) == [401]

    def test_of_an_unknown_issuer_are_not_requested(self, app: OAuthApp, issuer: Issuer) -> None:
        assert deliver(app, logout_token(issuer, sid="s1", iss="https://unknown.example.com")).status_code == 400
        assert (issuer.count("discovery"), issuer.count("keys")) == (0, 0)

    def test_that_cannot_be_fetched_make_the_logout_fail(self, app: OAuthApp, issuer: Issuer) -> None:
        issuer.publish_keys = lambda: Response("secret details", 500)
        response = deliver(app, logout_token(issuer, sid="s1"))
        assert (response.status_code, response.headers["Cache-Control"]) == (400, "no-store")
        assert "secret details" not in response.get_data(as_text=True)


class TestRequest:
    def test_may_use_an_internal_address(self, make_app: MakeApp, issuer: Issuer) -> None:
        """Inside a cluster, the provider knows the application by another name."""
        app = make_app(PUBLIC_URL="https://app.example.com")
        assert deliver(app, logout_token(issuer, sid="s1"), HTTP_HOST="app.internal:8000").status_code == 200

    def test_needs_no_origin_and_sets_no_cookie(self, app: OAuthApp, browser: Browser, issuer: Issuer) -> None:
        environ = {"HTTP_ORIGIN": issuer.url, "HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_COOKIE": browser.cookie_header}
        response = deliver(app, logout_token(issuer, sid="s2"), **environ)
        assert (response.status_code, "Set-Cookie" in response.headers) == (200, False)
        assert statuses(browser) == [200]

    def test_with_a_large_body_is_refused(self, app: OAuthApp) -> None:
        assert deliver(app, "a" * 100_000).status_code == 413

    def test_ends_the_session_on_every_site(self) -> None:
        issuer = Issuer(redirect_uris=[f"{MAIN}/auth/callback"])
        issuer.claims["sid"] = "s1"
        with serve_provider(issuer):
            environ = environ_of(issuer, PUBLIC_URL=f"{MAIN}/auth", SITES=f"{WIKI} {FILES}")
            user = User(LoginRequired(wiki, create_app(Config.from_environ(environ), store=MemoryStore())), issuer)
            for site in (WIKI, FILES, MAIN):
                assert user.visit(f"{site}/page").text == f"mona at {site}/page"
            log_out(user.app, issuer, sid="s1", path="/auth/backchannel-logout")
            assert [user.get(f"{site}/page").status_int for site in (WIKI, FILES, MAIN)] == [302, 302, 302]


class TestEvent:
    @pytest.fixture
    def events(self) -> list[Event]:
        return []

    @pytest.fixture
    def app(self, issuer: Issuer, store: SessionStore, events: list[Event]) -> OAuthApp:
        return create_app(Config.from_environ(environ_of(issuer)), store=store, on_event=events.append)

    def test_names_the_user_and_the_provider(self, app: OAuthApp, issuer: Issuer, events: list[Event]) -> None:
        log_out(app, issuer, sid="s1", sub="mona")
        [event] = events
        name = issuer.url.partition("//")[2]
        assert (event.name, event.outcome, event.cause) == ("session_end", "success", "provider")
        assert (event.user.partition("@")[0], event.provider, event.client) == ("mona", name, "127.0.0.1")
        assert event.request_id

    def test_names_the_reason_of_a_refusal(
        self, app: OAuthApp, issuer: Issuer, events: list[Event], caplog: pytest.LogCaptureFixture
    ) -> None:
        token = logout_token(issuer, sid="s1", nonce="n")
        deliver(app, token)
        [event] = events
        assert (event.name, event.outcome, event.cause) == ("session_end", "refused", "logout_token_refused")
        assert "nonce" in caplog.text
        assert token not in caplog.text


def test_without_the_extra_the_log_says_what_to_install(
    app: OAuthApp, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("wsgi_oauth.web.backchannel_logout.verifies_signatures", lambda: False)
    response = deliver(app, logout_token(issuer, sid="s1"))
    assert (response.status_code, response.json["error"]) == (400, "configuration")
    assert "pip install 'wsgi-oauth[openid]'" in caplog.text
    assert {record.levelname for record in caplog.records} == {"WARNING"}  # because anyone can send the request
