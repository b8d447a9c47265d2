"""Authorization responses as a form (OAuth 2.0 Form Post Response Mode): the guarantees of the query hold, too."""

from __future__ import annotations

import http.cookies
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from conftest import HTML, Browser, parameters, send, stored_sessions
from form_post import PUBLIC_URL, FormBrowser, FormPostIssuer
from werkzeug import Response

from wsgi_oauth import Config, LoginRequired, MemoryStore, RequestHandler, SessionStore, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def provider() -> Iterator[FormPostIssuer]:
    provider = FormPostIssuer()
    with serve_provider(provider):
        yield provider


@pytest.fixture
def make(provider: FormPostIssuer, store: SessionStore) -> Callable[..., FormBrowser]:
    """Create browsers of an application with the response mode form_post."""
    applications: dict[Any, Any] = {}

    def make(*, handlers: tuple[Any, ...] = (), base: str = PUBLIC_URL, **settings: str) -> FormBrowser:
        key = (handlers, tuple(settings.items()))
        if key not in applications:
            config = Config.from_environ(environ_for(provider, **settings))
            applications[key] = create_app(config, store=store, handlers=handlers)
        return FormBrowser(applications[key], provider, base)

    return make


@pytest.fixture
def browser(make: Callable[..., FormBrowser]) -> FormBrowser:
    return make()


def environ_for(provider: LocalProvider, **settings: str) -> dict[str, str]:
    variables = {
        "PROVIDER": provider.url,
        "CLIENT_ID": provider.client_id,
        "CLIENT_SECRET": provider.client_secret or "",
        "PUBLIC_URL": PUBLIC_URL,
        "RESPONSE_MODE": "form_post",
        "SESSION_STORE": "memory:",
        **settings,
    }
    return {f"WSGI_OAUTH_{name}": value for name, value in variables.items()}


def set_cookies(response: Any) -> dict[str, http.cookies.Morsel[str]]:
    """Return the cookies that *response* sets, by name."""
    cookies: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
    for line in response.headers.getall("Set-Cookie"):
        cookies.load(line)
    return dict(cookies)


def token_requests(provider: LocalProvider) -> int:
    return sum(exchange.endpoint == "token" for exchange in provider.exchanges)


def signed_in_sessions(store: SessionStore) -> int:
    return sum("oauth_token" in data for data in stored_sessions(store))


class TestRequest:
    def test_asks_for_a_form(self, browser: FormBrowser) -> None:
        assert parameters(browser.start())["response_mode"] == "form_post"

    def test_names_no_mode_by_default(self, provider: FormPostIssuer, make: Callable[..., FormBrowser]) -> None:
        assert "response_mode" not in parameters(make(RESPONSE_MODE="query").start())

    def test_sets_a_cookie_for_other_sites_that_lives_for_two_lifetimes_of_a_sign_in(
        self, browser: FormBrowser
    ) -> None:
        """S70"""
        [(name, cookie)] = set_cookies(browser.get("/")).items()
        assert name.startswith("__Host-wsgi_oauth-")
        assert (cookie["samesite"], cookie["secure"], cookie["httponly"]) == ("None", True, True)
        assert (cookie["path"], cookie["domain"], cookie["max-age"]) == ("/", "", "7200")

    def test_needs_https(self, provider: FormPostIssuer) -> None:
        """S70"""
        environ = environ_for(provider, PUBLIC_URL="http://nas.local", INSECURE_HTTP_HOSTS="nas.local")
        with pytest.raises(errors.ConfigError, match=r"PUBLIC_URL: must begin with https.*form_post"):
            create_app(Config.from_environ(environ))

    def test_works_over_http_on_this_machine_with_a_secure_cookie(self, make: Callable[..., FormBrowser]) -> None:
        """Chromium and Firefox accept it there."""
        browser = make(PUBLIC_URL="http://localhost:8000", base="http://localhost:8000")
        [(name, cookie)] = set_cookies(browser.get("/")).items()
        assert name.startswith("wsgi_oauth_8000-")
        assert (cookie["samesite"], cookie["secure"]) == ("None", True)

    @pytest.mark.parametrize("value", ["fragment", "form_post.jwt"])
    def test_rejects_other_modes(self, provider: FormPostIssuer, value: str) -> None:
        with pytest.raises(errors.ConfigError, match="RESPONSE_MODE: must be query or form_post"):
            Config.from_environ(environ_for(provider, RESPONSE_MODE=value))


class TestForm:
    """S1, S70"""

    def test_signs_the_user_in_and_leads_to_the_page(self, browser: FormBrowser) -> None:
        response = browser.send_form(browser.form("/page?a=b"))
        assert (response.status_int, response.location) == (303, "/page?a=b")
        assert browser.profile().json["login"] == "octocat"

    def test_sets_a_session_cookie_for_this_site_alone(self, browser: FormBrowser) -> None:
        [(name, cookie)] = set_cookies(browser.sign_in()).items()
        assert (name, cookie["samesite"], cookie["secure"]) == ("__Host-wsgi_oauth", "Lax", True)

    def test_with_encrypted_sessions(self, make: Callable[..., FormBrowser], store: SessionStore) -> None:
        browser = make(SESSION_SEAL="yes")
        browser.sign_in()
        old = browser.cookie_header
        browser.sign_in()
        assert browser.profile().status_int == 200
        assert browser.get("/profile", headers={"Cookie": old}).status_int == 302

    def test_behind_the_gate(self, provider: FormPostIssuer, store: SessionStore) -> None:
        app = create_app(Config.from_environ(environ_for(provider, PUBLIC_URL=f"{PUBLIC_URL}/auth")), store=store)
        inside = Response("inside", mimetype="text/plain")
        browser = FormBrowser(LoginRequired(inside, app), provider)
        browser.app.get("/page", headers=HTML, status=302)
        fields = browser.form(authorization_url=browser.get("/auth/?next=/page").location)
        response = browser.send_form(fields, path="/auth/callback")
        assert (response.status_int, response.location) == (303, "/page")
        assert browser.get("/page").text == "inside"

    def test_of_another_browser_is_rejected(self, make: Callable[..., FormBrowser], provider: FormPostIssuer) -> None:
        fields = make().form()
        other = make()
        other.start()
        assert other.send_form(fields).status_int == 400
        assert token_requests(provider) == 0

    @pytest.mark.parametrize("change", [{"state": ""}, {"state": None}, {"state": "x" * 43}])
    def test_without_a_known_state_is_rejected(
        self, browser: FormBrowser, provider: FormPostIssuer, change: dict[str, str | None]
    ) -> None:
        """S2"""
        fields = {name: value for name, value in {**browser.form(), **change}.items() if value is not None}
        assert browser.send_form(fields).status_int == 400
        assert token_requests(provider) == 0

    def test_of_another_issuer_is_rejected(self, browser: FormBrowser, provider: FormPostIssuer) -> None:
        """S9"""
        assert browser.send_form({**browser.form(), "iss": "https://evil.example"}).status_int == 400
        assert token_requests(provider) == 0

    @pytest.mark.parametrize("name", ["state", "code", "iss", "error"])
    def test_with_a_repeated_parameter_is_rejected(
        self, browser: FormBrowser, provider: FormPostIssuer, name: str
    ) -> None:
        """S13"""
        fields = [*browser.form().items(), (name, "a"), (name, "b")]
        assert browser.send_form(fields).status_int == 400
        assert token_requests(provider) == 0

    def test_is_the_only_source_of_parameters(self, browser: FormBrowser, provider: FormPostIssuer) -> None:
        fields = browser.form()
        query = "&".join(f"{name}={value}" for name, value in fields.items())
        assert browser.send_form({"x": "y"}, path=f"/callback?{query}").status_int == 400
        assert token_requests(provider) == 0
        assert browser.send_form(fields, path="/callback?state=x&code=y").status_int == 303

    def test_with_a_code_of_8_kib_is_accepted(self, browser: FormBrowser, provider: FormPostIssuer) -> None:
        fields = browser.form()
        assert browser.send_form({**fields, "code": "c" * 8192}).status_int == 400
        assert token_requests(provider) == 1

    def test_with_a_longer_code_is_rejected(self, browser: FormBrowser, provider: FormPostIssuer) -> None:
        """S15"""
        assert browser.send_form({**browser.form(), "code": "c" * 8193}).status_int == 400
        assert token_requests(provider) == 0

    @pytest.mark.parametrize("chunked", [False, True])
    def test_of_more_than_64_kib_is_rejected(self, browser: FormBrowser, chunked: bool) -> None:
        """S48"""
        body = b"x=" + b"a" * 65536
        more = {"CONTENT_LENGTH": "", "wsgi__input_terminated": True} if chunked else {}
        answer = send(
            browser.app.app,
            "/callback",
            method="POST",
            body=body,
            CONTENT_TYPE=FORM,
            HTTP_HOST="localhost",
            wsgi__url_scheme="https",
            **more,
        )
        assert answer.status_code == 413

    @pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", "application/json", "text/plain", ""])
    def test_of_another_content_type_consumes_nothing(self, browser: FormBrowser, content_type: str) -> None:
        fields = browser.form()
        body = "&".join(f"{name}={value}" for name, value in fields.items())
        assert browser.send_form(body, content_type=content_type).status_int == 415
        assert browser.send_form(body, content_type=f"{FORM}; charset=UTF-8").status_int == 303

    @pytest.mark.parametrize(
        "body",
        [b"\x00", b"%00=%00&state=%00", b"state=%ff%fe", b"\xff\xfe=\xff", b"&=&;==", b"state=%C3%A9", b"a" * 9000],
    )
    def test_that_is_malformed_is_rejected(self, browser: FormBrowser, body: bytes) -> None:
        """S6, S15"""
        browser.start()
        assert browser.send_form(body, content_type=FORM).status_int == 400

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Purpose": "prefetch"},
            {"Sec-Fetch-Dest": "iframe"},
            {"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"},
            {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "no-cors"},
        ],
    )
    def test_that_is_no_navigation_consumes_nothing(self, browser: FormBrowser, headers: dict[str, str]) -> None:
        """S16"""
        fields = browser.form()
        assert browser.send_form(fields, headers).status_int == 403
        assert browser.send_form(fields).status_int == 303

    def test_that_fails_offers_a_new_sign_in(
        self, browser: FormBrowser, store: SessionStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A link cannot send the form again."""

        def fail(*_: object) -> None:
            raise errors.StoreError("the disk is full")

        form = browser.form("/profile")
        monkeypatch.setattr(store, "load", fail)
        page = browser.send_form(form)
        assert (page.status_int, page.html.select_one(".actions a")["href"]) == (503, f"{PUBLIC_URL}/")

    def test_is_refused_where_no_provider_sends_forms(
        self, make: Callable[..., FormBrowser], caplog: pytest.LogCaptureFixture
    ) -> None:
        """S16. Some providers send forms unasked."""
        response = make(RESPONSE_MODE="query").send_form({"state": "x", "code": "y"})
        assert response.status_int == 405
        assert "set WSGI_OAUTH_RESPONSE_MODE=form_post" in caplog.text
        assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}

    def test_is_refused_on_a_further_site(self, make: Callable[..., FormBrowser]) -> None:
        browser = make(base="https://127.0.0.1", SITES="https://127.0.0.1")
        assert browser.send_form({"state": "x", "code": "y"}).status_int == 404


class TestSecondCopy:
    """S3"""

    def test_leads_to_the_same_page(self, browser: FormBrowser, provider: FormPostIssuer) -> None:
        fields = browser.form("/page")
        first, second = browser.send_form(fields), browser.send_form(fields)
        assert (second.status_int, second.location) == (first.status_int, first.location) == (303, "/page")
        assert "Set-Cookie" not in second.headers
        assert token_requests(provider) == 1

    def test_that_arrives_at_the_same_time_leads_to_the_same_page(
        self, browser: FormBrowser, provider: FormPostIssuer, every_store: SessionStore
    ) -> None:
        app = create_app(Config.from_environ(environ_for(provider)), store=every_store)
        browser = FormBrowser(app, provider)
        fields = browser.form("/page")
        barrier = Barrier(8)

        def post(_: int) -> Any:
            copy = FormBrowser(app, provider)
            barrier.wait()
            return copy.send_form(fields, {"Cookie": browser.cookie_header})

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(post, range(8)))
        assert {(answer.status_int, answer.location) for answer in answers} == {(303, "/page")}
        assert token_requests(provider) == 1

    def test_after_a_failed_sign_in_is_rejected(self, browser: FormBrowser, provider: FormPostIssuer) -> None:
        fields = {**browser.form(), "code": "wrong"}
        assert browser.send_form(fields).status_int == 400
        assert browser.send_form(fields).status_int == 400
        assert token_requests(provider) == 1


class TestModes:
    """S70"""

    def test_code_in_the_url_is_rejected_if_a_form_was_requested(
        self, browser: FormBrowser, provider: FormPostIssuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        query = "&".join(f"{name}={value}" for name, value in browser.form().items())
        assert browser.get(f"/callback?{query}").status_int == 400
        assert token_requests(provider) == 0
        assert "set WSGI_OAUTH_RESPONSE_MODE=query" in caplog.text

    def test_error_in_the_url_gets_its_page(self, browser: FormBrowser) -> None:
        """S12. Some providers find an error before they read the response mode, and redirect with it."""
        url = browser.consent(browser.start("/page"), decision="deny")
        response = browser.get(url)
        assert response.status_int == 403
        assert "declined" in response.text

    def test_error_in_a_form_gets_its_page(self, browser: FormBrowser, provider: FormPostIssuer) -> None:
        """S12"""
        browser.sign_in()
        provider.sends_errors_as_form = True
        response = browser.send_form(browser.form("/page", decision="deny"))
        assert response.status_int == 403
        assert "declined" in response.text
        assert browser.profile().status_int == 200  # an existing login stays

    def test_form_is_rejected_if_the_url_was_requested(
        self, provider: FormPostIssuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The form is rejected even with the cookie of the sign-in, which browsers do not send with it."""
        own = ("PROVIDER", "CLIENT_ID", "CLIENT_SECRET")
        variables = environ_for(provider)
        environ = {name: value for name, value in variables.items() if not name.endswith((*own, "RESPONSE_MODE"))}
        environ |= {f"WSGI_OAUTH_{label}_{name}": variables[f"WSGI_OAUTH_{name}"] for label in "AB" for name in own}
        environ |= {"WSGI_OAUTH_PROVIDERS": "a b", "WSGI_OAUTH_A_RESPONSE_MODE": "form_post"}
        browser = FormBrowser(create_app(Config.from_environ(environ)), provider)
        fields = parameters(browser.consent(browser.get("/?provider=b").location))
        headers = {"Cookie": browser.cookie_header}
        assert browser.send_form(fields, headers, path="/callback/b").status_int == 400
        assert "set WSGI_OAUTH_B_RESPONSE_MODE=form_post" in caplog.text
        assert token_requests(provider) == 0
        fields = browser.form(authorization_url=browser.get("/?provider=a").location)
        assert browser.send_form(fields, path="/callback/b").status_int == 400  # RFC 9700 4.4.2
        fields = browser.form(authorization_url=browser.get("/?provider=a").location)
        assert browser.send_form(fields, path="/callback/a").status_int == 303


class TestLateForm:
    """S4"""

    def test_starts_the_sign_in_again_once(
        self, browser: FormBrowser, provider: FormPostIssuer, later: Callable[[float], None]
    ) -> None:
        fields = browser.form("/page")
        later(3601)
        response = browser.send_form(fields)
        assert response.status_int == 303
        fields = browser.form(authorization_url=browser.get(response.location).location)
        later(3601)
        assert browser.send_form(fields).status_int == 400
        assert token_requests(provider) == 0

    def test_leads_to_the_page_if_the_user_has_signed_in_meanwhile(
        self, browser: FormBrowser, provider: FormPostIssuer, later: Callable[[float], None]
    ) -> None:
        late = browser.form("/page")
        later(3000)
        browser.sign_in()
        later(601)
        response = browser.send_form(late)
        assert (response.status_int, response.location) == (303, "/page")
        assert token_requests(provider) == 1


class Basket(RequestHandler):
    route = "/basket"

    def get(self, request: Any) -> Response:
        request.session["items"] = request.session.get("items", 0) + 1
        return Response(str(request.session["items"]))


class TestBrowserSession:
    """S36: the form comes without the session cookie, and the sign-in replaces the session all the same."""

    def test_of_a_signed_in_user_is_replaced(self, browser: FormBrowser, every_store: SessionStore) -> None:
        browser = FormBrowser(
            create_app(Config.from_environ(environ_for(browser.provider)), store=every_store), browser.provider
        )
        browser.sign_in()
        old = browser.cookie_header
        browser.sign_in()
        assert browser.get("/profile", headers={"Cookie": old}).status_int == 302
        assert signed_in_sessions(every_store) == 1

    def test_of_another_tab_is_replaced(self, browser: FormBrowser, store: SessionStore) -> None:
        """S5"""
        forms = [browser.form(f"/{number}") for number in range(3)]
        assert [browser.send_form(form).location for form in reversed(forms)] == ["/2", "/1", "/0"]
        assert signed_in_sessions(store) == 1
        assert browser.profile().status_int == 200

    def test_of_an_anonymous_user_keeps_its_data(self, make: Callable[..., FormBrowser]) -> None:
        browser = make(handlers=(Basket,))
        browser.get("/basket")
        browser.sign_in()
        assert browser.get("/basket").text == "2"

    def test_id_is_not_in_the_store(self, browser: FormBrowser, store: MemoryStore) -> None:
        """S52"""
        browser.sign_in()
        session_id = browser.cookie
        browser.start()
        assert session_id
        assert not any(session_id.encode() in (store.load(key) or b"") for key in store.keys())

    def test_that_ends_during_the_sign_in_does_not_come_back(self, browser: FormBrowser) -> None:
        """S42. A sign-out also cancels the sign-ins of other tabs."""
        browser.sign_in()
        fields = browser.form()
        browser.post("/logout")
        assert browser.send_form(fields).status_int == 400
        assert browser.profile().status_int == 401


def test_cookie_of_a_sign_in_opens_nothing_else(browser: FormBrowser) -> None:
    """S70"""
    fields = browser.form()
    [pending] = [cookie.value for cookie in browser.app.cookiejar]
    for _ in range(2):  # before the sign-in, and after it
        stolen = {"Cookie": f"__Host-wsgi_oauth={pending}"}
        assert browser.get("/profile", headers=stolen).status_int == 302
        other = {"Cookie": f"{'; '.join(f'{each.name}={pending}' for each in browser.app.cookiejar)}"}
        assert Browser(browser.app.app, browser.provider, PUBLIC_URL).get("/profile", headers=other).status_int == 302
        browser.send_form(fields)


def test_pending_sign_ins_are_limited(browser: FormBrowser, store: SessionStore) -> None:
    """S5, S43"""
    for _ in range(25):
        browser.start()
    assert len(list(browser.app.cookiejar)) == 20
    assert len(list(store.keys())) == 20


def test_no_other_route_accepts_a_form_of_another_site(make: Callable[..., FormBrowser]) -> None:
    """S41"""
    browser = make(TOKENS="yes")
    browser.sign_in()
    for path in ("/logout", "/tokens"):
        answer = browser.post(path, {"Origin": "https://provider.example", "Sec-Fetch-Site": "cross-site"})
        assert answer.status_int == 403
    assert browser.profile().status_int == 200
