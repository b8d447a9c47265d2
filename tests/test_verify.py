"""``GET /verify``: the gate for a reverse proxy (S64)."""

from __future__ import annotations

import gc
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from html import escape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import HTML, JSON, WORKERS, Barrier, Browser, Site, send
from openid import HOUR, Issuer, config_for
from werkzeug import Response

from wsgi_oauth import Config, FileStore, Identity, LoginRequired, SessionStore, create_app, errors
from wsgi_oauth.demo.fault_injection import Fault
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.gate.authentication import Login
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.testing import signed_in

MakeApp = Callable[..., Any]

SITE = "https://www.example.com"
OTHER_HOSTS = [f"{SITE}{part}" for part in (".evil.example/", "@evil.example/", ":80@evil.example/", "\\evil.example/")]
ANN = Identity("github", "7", username="ann", email="ann@example.com", email_verified=True, groups=("staff", "board"))


class Proxy:
    """A proxy that asks ``/verify`` with the headers of a client."""

    def __init__(self, app: Any, path: str = "/verify", **headers: str) -> None:
        self.app = app
        self.path = path
        self.headers = headers

    def ask(self, query: str = "", method: str = "GET", **headers: str) -> Response:
        names = {**HTML, "Host": "www.example.com", **self.headers, **headers}
        given = {name.replace("_", "-"): value for name, value in names.items() if value}
        return send(self.app, self.path, query=query, method=method, headers=given, wsgi__url_scheme="https")


def identity_headers(response: Response) -> dict[str, str]:
    return {name: value for name, value in response.headers if name.startswith("X-Auth-Request-")}


def return_url(response: Response) -> str:
    """Return the page to which the sign-in in *response* leads."""
    target = urlsplit(response.headers["Location"])
    assert f"{target.scheme}://{target.netloc}{target.path}" == f"{SITE}/"
    return parse_qs(target.query).get("next", [""])[0]


@pytest.fixture
def make_app(store: SessionStore) -> MakeApp:
    """Create the application for proxies: ``make_app(ALLOW="...")``."""

    def make(**settings: str) -> Any:
        variables = {"CLIENT_ID": "an-id", "CLIENT_SECRET": "a-secret", "PUBLIC_URL": SITE, "TRUSTED_PROXIES": "1"}
        config = Config.from_environ({f"WSGI_OAUTH_{name}": value for name, value in {**variables, **settings}.items()})
        return create_app(config, store=store)

    return make


class TestSignedInUser:
    """S64"""

    def test_is_named_in_headers(self, make_app: MakeApp):
        app = make_app()
        answer = Proxy(app, Cookie=str(signed_in(app, ANN))).ask()
        assert answer.status_code == 204
        assert identity_headers(answer) == {
            "X-Auth-Request-User": "7@github",
            "X-Auth-Request-Email": "ann@example.com",
            "X-Auth-Request-Preferred-Username": "ann",
            "X-Auth-Request-Groups": "staff,board",
        }
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Vary"] == "Cookie"
        assert answer.data == b""

    def test_gets_no_header_without_a_known_value(self, make_app: MakeApp):
        app = make_app()
        user = Identity("github", "7", email="unverified@example.com")
        assert identity_headers(Proxy(app, Cookie=str(signed_in(app, user))).ask()) == {
            "X-Auth-Request-User": "7@github"
        }

    def test_is_named_in_visible_ascii(self, make_app: MakeApp):
        app = make_app(REMOTE_USER="username")
        user = Identity("github", "7", username="änn 100%", groups=("Domain Admins", "a,b", "\u202e"))
        headers = identity_headers(Proxy(app, Cookie=str(signed_in(app, user))).ask())
        assert headers["X-Auth-Request-User"] == "%C3%A4nn%20100%25"
        assert headers["X-Auth-Request-Groups"] == "Domain%20Admins,a%2Cb,%E2%80%AE"

    def test_without_the_configured_name_is_refused(self, make_app: MakeApp):
        app = make_app(REMOTE_USER="email")
        answer = Proxy(app, Cookie=str(signed_in(app, Identity("github", "7")))).ask()
        assert (answer.status_code, identity_headers(answer)) == (403, {})

    def test_passes_below_the_prefix_of_the_gate(self, store: SessionStore, make_app: MakeApp):
        gate = LoginRequired(Response("inside"), make_app(PUBLIC_URL=f"{SITE}/auth"))
        proxy = Proxy(gate, "/auth/verify", Cookie=str(signed_in(gate, ANN)))
        assert proxy.ask().status_code == 204

    def test_passes_with_head(self, make_app: MakeApp):
        app = make_app()
        answer = Proxy(app, Cookie=str(signed_in(app, ANN))).ask(method="HEAD")
        assert identity_headers(answer)["X-Auth-Request-User"] == "7@github"

    def test_gets_no_success_from_a_proxy_that_has_refused_the_request(self, make_app: MakeApp):
        """nginx asks again for the response to the client. A script would believe that its form has been stored."""
        app = make_app()
        response = Proxy(app, Cookie=str(signed_in(app, ANN))).ask(X_Refused_Status="503")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
        assert identity_headers(response) == {}

    def test_stays_signed_in_by_requests_to_the_proxy(self, make_app: MakeApp, later: Callable[[float], None]):
        """The idle clock runs as at the gate (S40)."""
        app = make_app(SESSION_IDLE="1h", RECHECK="never")
        proxy = Proxy(app, Cookie=str(signed_in(app, ANN)))
        for _ in range(4):
            later(HOUR / 2)
            assert proxy.ask().status_code == 204
        later(HOUR)
        assert proxy.ask().status_code == 401


class TestAnonymousUser:
    """S64"""

    def test_gets_the_location_of_the_sign_in_in_a_401(self, make_app: MakeApp):
        """nginx accepts 2xx, 401 and 403 only, and its configuration redirects to the Location of the 401."""
        answer = Proxy(make_app()).ask(X_Forwarded_Uri="/d/a%2Fb?q=%C3%BC&x=1+2")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert return_url(answer) == "/d/a%2Fb?q=%C3%BC&x=1+2"

    def test_gets_the_location_also_from_a_proxy_that_asks_with_head(self, make_app: MakeApp):
        """HAProxy asks with HEAD about all requests."""
        answer = Proxy(make_app()).ask(method="HEAD", X_Forwarded_Uri="/page")
        assert (answer.status_code, return_url(answer)) == (401, "/page")

    def test_gets_a_page_with_the_sign_in_from_a_proxy_that_shows_the_401(self, make_app: MakeApp):
        answer = Proxy(make_app()).ask(X_Forwarded_Uri="/page?x=1")
        assert escape(answer.headers["Location"]) in answer.get_data(as_text=True)

    @pytest.mark.parametrize("name", ["X-Original-URI", "X-Original-URL"])
    def test_returns_to_the_page_that_other_headers_name(self, make_app: MakeApp, name: str):
        url = f"{SITE}/page?x=1" if name == "X-Original-URL" else "/page?x=1"
        assert return_url(Proxy(make_app()).ask(**{name: url})) == "/page?x=1"

    @pytest.mark.parametrize(
        "site", ["http://www.example.com", "https://WWW.example.com:8443", "http://www.example.com:80"]
    )
    def test_returns_to_the_page_whose_scheme_and_port_are_those_of_the_proxy(self, make_app: MakeApp, site: str):
        """Behind another proxy, which terminates TLS."""
        assert return_url(Proxy(make_app()).ask(X_Original_URL=f"{site}/page?x=1")) == "/page?x=1"
        assert return_url(Proxy(make_app()).ask(X_Original_URL=f"{site}?x=1")) == "/?x=1"

    def test_is_redirected_by_a_proxy_that_passes_the_response_on(self, make_app: MakeApp):
        answer = Proxy(make_app()).ask(X_Forwarded_Method="GET", X_Forwarded_Uri="/d/a%2Fb?q=%C3%BC&x=1+2")
        assert answer.status_code == 302
        assert return_url(answer) == "/d/a%2Fb?q=%C3%BC&x=1+2"

    def test_gets_a_401_if_the_proxy_names_only_the_method(self, make_app: MakeApp):
        """nginx answers every other status than 401 and 403 with 500."""
        answer = Proxy(make_app()).ask(X_Forwarded_Method="GET", X_Original_URI="/page")
        assert (answer.status_code, return_url(answer)) == (401, "/page")

    @pytest.mark.parametrize(
        "headers",
        [JSON, {"Sec-Fetch-Mode": "cors"}, {"X-Forwarded-Method": "POST"}, {"X-Requested-With": "XMLHttpRequest"}],
    )
    @pytest.mark.parametrize("method", ["X-Forwarded-Method", "X-Original-Method"])
    def test_gets_a_plain_401_for_other_requests_than_navigations(
        self, make_app: MakeApp, headers: dict[str, str], method: str
    ):
        headers = {name.replace("X-Forwarded-Method", method): value for name, value in headers.items()}
        answer = Proxy(make_app()).ask(**{method: "GET", "X-Forwarded-Uri": "/api", **headers})
        assert answer.status_code == 401
        assert "Location" not in answer.headers
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    def test_returns_from_htmx_to_the_page_that_sent_the_request(self, make_app: MakeApp):
        headers = {"HX-Request": "true", "HX-Current-URL": f"{SITE}/page", "X-Forwarded-Uri": "/part"}
        answer = Proxy(make_app()).ask(X_Forwarded_Method="GET", **headers)
        assert (answer.status_code, "Location" in answer.headers) == (401, False)
        assert answer.headers["HX-Redirect"] == f"{SITE}/?next=%2Fpage"

    def test_gets_the_status_for_proxies_also_from_inertia(self, make_app: MakeApp):
        """nginx takes a 409 for a failure of the sign-in."""
        headers = {"X-Inertia": "true", "X-Requested-With": "XMLHttpRequest", "Accept": "text/html"}
        assert Proxy(make_app()).ask(**headers).status_code == 401
        passed_on = Proxy(make_app()).ask(X_Forwarded_Method="GET", X_Forwarded_Uri="/page", **headers)
        assert (passed_on.status_code, "X-Inertia-Location" in passed_on.headers) == (409, True)

    def test_cannot_send_a_cors_preflight(self, make_app: MakeApp):
        headers = {"Origin": "https://other.example", "Access-Control-Request-Method": "GET"}
        answer = Proxy(make_app()).ask(X_Forwarded_Method="OPTIONS", X_Forwarded_Uri="/api", **headers)
        assert (answer.status_code, "Location" in answer.headers) == (401, False)

    @pytest.mark.parametrize(
        "url", ["https://evil.example/", "//evil.example", "/a/../b", "/\\evil.example", "page", *OTHER_HOSTS]
    )
    def test_returns_to_no_other_site(self, make_app: MakeApp, caplog: pytest.LogCaptureFixture, url: str):
        """S33: the sign-in then leads to the default page, and the log says so."""
        caplog.set_level("INFO")
        assert return_url(Proxy(make_app()).ask(X_Forwarded_Uri=url)) == ""
        assert "the original URL is dropped" in caplog.text

    @pytest.mark.parametrize(
        "forged",
        [
            {"X-Auth-Request-User": "7@github", "X-Auth-Request-Groups": "admins", "Remote-User": "root"},
            {"X-Forwarded-User": "7@github", "Authorization": "Bearer wo_" + "x" * 43},
            {"X-Forwarded-Uri": "/healthz", "X-Forwarded-Method": "OPTIONS"},
            {"X-Original-URI": "/public", "X-Original-Method": "GET", "X-HTTP-Method-Override": "OPTIONS"},
        ],
    )
    def test_gains_nothing_by_forged_headers(self, make_app: MakeApp, forged: dict[str, str]):
        answer = Proxy(make_app()).ask(**forged)
        assert answer.status_code == 401
        assert identity_headers(answer) == {}

    @pytest.mark.parametrize("proxies", ["0", "1"])
    def test_gets_no_sign_in_at_a_forged_host(self, make_app: MakeApp, proxies: str):
        """S34, S35."""
        app = make_app(TRUSTED_PROXIES=proxies)
        answer = Proxy(app, Cookie=str(signed_in(app, ANN))).ask(X_Forwarded_Host="evil.example")
        assert answer.status_code == (400 if proxies == "1" else 204)
        assert "evil.example" not in str(answer.headers)

    def test_is_refused_without_reference_cycles(self, make_app: MakeApp):
        proxy = Proxy(make_app())
        proxy.ask()
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                proxy.ask()
            cycles = gc.collect()
        finally:
            gc.enable()
        assert cycles < 100  # threads of the tests may have created some


class TestUntrustedProxy:
    """S64"""

    def test_does_not_name_the_page_after_the_sign_in(self, make_app: MakeApp, caplog: pytest.LogCaptureFixture):
        caplog.set_level("INFO")
        answer = Proxy(make_app(TRUSTED_PROXIES="0")).ask(X_Forwarded_Method="GET", X_Forwarded_Uri="/page")
        assert (answer.status_code, return_url(answer)) == (401, "")
        assert "set WSGI_OAUTH_TRUSTED_PROXIES" in caplog.text

    def test_gets_no_location_of_the_sign_in_for_a_form(self, make_app: MakeApp):
        assert "Location" not in Proxy(make_app(TRUSTED_PROXIES="0")).ask(method="POST").headers


class TestAccessRule:
    """S64"""

    def test_of_the_configuration_is_checked(self, make_app: MakeApp):
        app = make_app(ALLOW="user:bob")
        answer = Proxy(app, Cookie=str(signed_in(app, ANN))).ask(X_Forwarded_Method="GET", X_Forwarded_Uri="/page")
        assert (answer.status_code, identity_headers(answer)) == (403, {})
        assert "switch=1&amp;next=%2Fpage" in answer.get_data(as_text=True)

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ("allow=user:ann", 204),
            ("allow=user:bob", 403),
            ("allow=user:bob&allow=id:7", 204),
            ("allow=user:bob%20id:7", 204),
            ("allow=group:%22staff%22", 204),
            ("allow=group:'staff,board'", 403),
            ("page=1", 204),
        ],
    )
    def test_of_the_query_narrows_the_access(self, make_app: MakeApp, query: str, status: int):
        app = make_app()
        assert Proxy(app, Cookie=str(signed_in(app, ANN))).ask(query).status_code == status

    def test_of_the_query_does_not_replace_that_of_the_configuration(self, make_app: MakeApp):
        app = make_app(ALLOW="user:bob")
        assert Proxy(app, Cookie=str(signed_in(app, ANN))).ask("allow=user:ann").status_code == 403

    @pytest.mark.parametrize(
        "query",
        [
            *("allow=", "allow=ann", "allow=user:", "allow=user:'", "allows=user:ann", "all0w=user:ann"),
            *("ALLOW=user:bob", "allowed_groups=board", "allowed_emails=bob@example.com"),  # parameters of oauth2-proxy
        ],
    )
    def test_that_is_invalid_gives_no_access(self, make_app: MakeApp, caplog: pytest.LogCaptureFixture, query: str):
        app = make_app()
        assert Proxy(app, Cookie=str(signed_in(app, ANN))).ask(query).status_code == 500
        assert "the query of /verify" in caplog.text


class TestProgram:
    @pytest.fixture
    def token(self, app: Any) -> str:
        data = {"oauth_identity": ANN.as_dict(), "oauth_provider": next(iter(app.oauth.registrations.values())).key}
        token: str = app.access_tokens.create(ANN.id, data, name="backup", lifetime=HOUR)[0]
        return token

    @pytest.fixture
    def app(self, make_app: MakeApp) -> Any:
        return make_app(TOKENS="yes")

    @pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
    def test_passes_with_an_access_token(self, app: Any, token: str, scheme: str):
        credentials = token if scheme == "Bearer" else b64encode(f"any:{token}".encode()).decode()
        answer = Proxy(app).ask(**JSON, Authorization=f"{scheme} {credentials}")
        assert identity_headers(answer)["X-Auth-Request-User"] == "7@github"

    def test_is_asked_for_an_access_token(self, app: Any):
        program = {"Accept": "*/*", "Sec-Fetch-Mode": "", "Sec-Fetch-Dest": "", "User-Agent": "git/2.39"}
        answer = Proxy(app).ask(**program)
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="www.example.com", charset="UTF-8"'

    def test_is_told_the_address_of_the_application_behind_the_proxy(self, make_app: MakeApp):
        app = make_app(TOKENS="yes", PUBLIC_URL=f"{SITE}/auth")
        page = Proxy(app, "/tokens", Cookie=str(signed_in(app, ANN))).ask()
        assert f"lets a program use {SITE}/ as you" in page.get_data(as_text=True)

    def test_does_not_pass_with_an_unknown_access_token(self, app: Any, token: str):
        assert Proxy(app).ask(**JSON, Authorization=f"Bearer wo_{'x' * 43}").status_code == 401

    def test_does_not_pass_where_access_tokens_are_off(self, app: Any, token: str, make_app: MakeApp):
        assert Proxy(make_app()).ask(**JSON, Authorization=f"Bearer {token}").status_code == 401


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "PROPFIND"])
def test_proxy_may_ask_with_the_method_of_the_client(make_app: MakeApp, method: str):
    """S64: Traefik does so with `preserveRequestMethod`. The answer to OPTIONS must not count as access."""
    app = make_app()
    assert Proxy(app, Cookie=str(signed_in(app, ANN))).ask(method=method).headers["X-Auth-Request-User"] == "7@github"
    refused = Proxy(app, X_Forwarded_Uri="/page").ask(method=method)
    assert (refused.status_code, "Location" in refused.headers) == (401, False)


@pytest.mark.parametrize("path", ["/verify/", "//verify"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_other_spelling_of_the_path_gives_no_access(make_app: MakeApp, path: str, method: str):
    app = make_app()
    assert Proxy(app, path, Cookie=str(signed_in(app, ANN))).ask(method=method).status_code == 404


def test_store_that_fails_gives_no_access(make_app: MakeApp, store: SessionStore, monkeypatch: pytest.MonkeyPatch):
    app = make_app()
    proxy = Proxy(app, Cookie=str(signed_in(app, ANN)))

    def fail(key: str) -> bytes:
        raise errors.StoreError("the disk is broken")

    monkeypatch.setattr(store, "load", fail)
    assert proxy.ask().status_code == 503


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer(expires_in=6 * HOUR)
    issuer.user = {**issuer.user, "groups": ["staff"]}
    with serve_provider(issuer):
        yield issuer


@pytest.fixture
def make_issuer_app(issuer: Issuer, store: SessionStore) -> MakeApp:
    """Create an application for which *issuer* answers: ``make_issuer_app(UPSTREAM_LIMIT="2")``."""

    def make(**settings: str) -> Any:
        return create_app(config_for(issuer, **settings), store=store)

    return make


@pytest.fixture
def browser(issuer: Issuer, make_issuer_app: MakeApp) -> Browser:
    return Browser(make_issuer_app(), issuer)


def wait_for_rechecks() -> None:
    for thread in threading.enumerate():
        if thread.name == "recheck":
            thread.join(60)
            assert not thread.is_alive()


def change_session(store: SessionStore, cookie: str | None, change: Callable[[dict[str, Any]], object]) -> None:
    sessions = SessionManager(store, idle=12 * HOUR, lifetime=168 * HOUR)
    Session(sessions, sessions.read(cookie or ""), cookie).change(lambda data: change(data) and None)


def forget_the_check(data: dict[str, Any]) -> None:
    data["oauth_recheck"]["checked"] -= HOUR
    data["oauth_token"]["issued_at"] -= HOUR


def refuse(issuer: Issuer) -> None:
    """Let the provider refuse the user's tokens, as after an administrator has disabled the account."""
    for endpoint, error, status in (("token", "invalid_grant", 400), ("profile", "invalid_token", 401)):
        answer = f'{{"error": "{error}"}}'
        fault = Fault(f"{endpoint}.disabled", "", lambda _, a=answer, s=status: Response(a, s))  # type: ignore[misc]
        issuer.faults.register(fault)
        issuer.faults.add(fault.name, times=None)


class TestRecheck:
    def test_runs_while_the_request_is_answered(
        self,
        browser: Browser,
        issuer: Issuer,
        barrier_of: Callable[..., Barrier],
        later: Callable[[float], None],
    ):
        browser.sign_in("/page")
        issuer.user = {**issuer.user, "groups": ["board"]}
        later(HOUR)
        hanging = barrier_of(issuer, "profile")
        assert browser.get("/verify").headers["X-Auth-Request-Groups"] == "staff"
        hanging.wait_for(1)
        assert browser.get("/verify").headers["X-Auth-Request-Groups"] == "staff"
        hanging.open()
        wait_for_rechecks()
        assert browser.get("/verify").headers["X-Auth-Request-Groups"] == "board"

    def test_ends_the_session_of_a_disabled_account(
        self, browser: Browser, issuer: Issuer, later: Callable[[float], None]
    ):
        browser.sign_in("/page")
        refuse(issuer)
        later(HOUR)
        assert browser.get("/verify").status_int == 204
        wait_for_rechecks()
        assert browser.get("/verify").status_int == 401

    def test_ends_no_session_if_the_provider_is_stopped(
        self, browser: Browser, issuer: Issuer, later: Callable[[float], None]
    ):
        browser.sign_in("/page")
        issuer.faults.add("profile.hang_up", times=None)
        for _ in range(3):
            later(HOUR)
            assert browser.get("/verify").status_int == 204
            wait_for_rechecks()
        assert browser.get("/verify").status_int == 204

    def test_of_many_sessions_needs_few_threads(
        self,
        issuer: Issuer,
        make_issuer_app: MakeApp,
        later: Callable[[float], None],
        monkeypatch: pytest.MonkeyPatch,
    ):
        app = make_issuer_app(UPSTREAM_LIMIT="2")
        browsers = [Browser(app, issuer) for _ in range(5)]
        for browser in browsers:
            browser.sign_in("/page")
        later(HOUR)
        asked, arrivals, hanging = list[str](), threading.Semaphore(0), threading.Event()

        def hang(_authenticator: object, login: Login, _session: object) -> None:
            asked.append(login.key)
            arrivals.release()
            assert hanging.wait(60)

        monkeypatch.setattr("wsgi_oauth.gate.authentication.Authenticator.identify", hang)
        assert {browser.get("/verify").status_int for browser in [browsers[0], *browsers]} == {204}
        assert all(arrivals.acquire(timeout=60) for _ in range(2))
        assert len(asked) == len(set(asked)) == 2
        hanging.set()
        wait_for_rechecks()

    def test_fails_no_request_if_no_thread_can_be_started(
        self, browser: Browser, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
    ):
        def fail(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        browser.sign_in("/page")
        later(HOUR)
        monkeypatch.setattr("wsgi_oauth.gate.authentication.Thread.start", fail)
        assert browser.get("/verify").status_int == 204

    @pytest.mark.parametrize("worker", ["sync", "gevent"])
    def test_does_not_block_a_worker(self, site: Site, barrier_of: Callable[..., Barrier], worker: str):
        """A worker that can serve one request at a time answers while the provider hangs."""
        with site.serve("--workers", "1", *WORKERS[worker]) as server:
            visitor = site.visitor(server)
            visitor.get(visitor.callback_url("/?next=/page"))
            assert visitor.get("/verify").status_code == 204
            change_session(FileStore(site.sessions), visitor.cookie, forget_the_check)
            hanging = barrier_of(site.provider, "profile")
            hanging.answer = Response('{"error": "invalid_token"}', 401)
            assert visitor.get("/verify").status_code == 204
            hanging.wait_for(1)
            assert visitor.get("/verify").status_code == 204
            hanging.open()
            deadline = time.monotonic() + 60
            while visitor.get("/verify").status_code != 401:
                assert time.monotonic() < deadline


class TestUnknownUser:
    """The sign-in has not stored the user, because it led to a page that asks the provider itself."""

    def test_is_asked_for_in_the_background(self, browser: Browser, issuer: Issuer):
        browser.sign_in()
        assert browser.get("/verify").headers["X-Auth-Request-User"].startswith("mona@")
        assert issuer.count("profile") == 1

    def test_has_no_access(self, browser: Browser, issuer: Issuer):
        browser.sign_in()
        issuer.faults.add("profile.hang_up", times=None)
        answer = browser.get("/verify")
        assert (answer.status_int, answer.headers["Retry-After"]) == (503, "2")

    def test_signs_in_again_if_the_provider_refuses_the_token(self, browser: Browser, issuer: Issuer):
        issuer.faults.add("token.refresh_token_missing")
        browser.sign_in()
        refuse(issuer)
        browser.get("/verify")
        wait_for_rechecks()
        assert browser.get("/verify").status_int == 401

    def test_is_stored_by_a_sign_in_that_leads_to_another_application(self, browser: Browser, issuer: Issuer):
        browser.sign_in("/page")
        issuer.faults.add("profile.hang_up", times=None)
        assert browser.get("/verify").status_int == 204

    def test_prevents_no_sign_in(self, browser: Browser, issuer: Issuer):
        issuer.faults.add("profile.hang_up", times=None)
        assert browser.sign_in("/page").status_int == 303
