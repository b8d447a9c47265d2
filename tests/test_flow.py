"""The sign-in flow: the three steps of the tutorial, the return URL, several tabs, duplicate callbacks, prefetches."""

from __future__ import annotations

import html
import re
import threading
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import HTML, JSON, Barrier, Browser, environ_for, parameters, send, stored_sessions
from werkzeug import Response
from whatwg import resolved

from wsgi_oauth import Config, MemoryStore, RequestHandler, SessionStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider

OCTOCAT = {"id": 583231, "login": "octocat", "name": "Mona Lisa Octocat", "email": "octocat@example.com"}
PREFETCHES = [
    {"Sec-Purpose": "prefetch"},
    {"Sec-Purpose": "prefetch;prerender"},
    {"Sec-Purpose": "prefetch;anonymous-client-ip"},
    {"Purpose": "prefetch"},
    {"Purpose": "Prefetch"},
    {"X-Moz": "prefetch"},
    {"X-Purpose": "preview"},
]


def cookie_header(browser: Browser) -> str:
    """Return the Cookie header that *browser* would send now."""
    return browser.cookie_header


def token_requests(provider: LocalProvider) -> list[dict[str, str]]:
    """Return the form of each request to the token endpoint."""
    bodies = [exchange.body for exchange in provider.exchanges if exchange.endpoint == "token"]
    return [{name: values[0] for name, values in parse_qs(body).items()} for body in bodies]


class TestThreeSteps:
    def test_step_1_redirects_to_the_authorization_endpoint(self, browser: Browser, provider: LocalProvider):
        """RFC 6749 4.1.1, RFC 7636 4.3."""
        response = browser.get("/")
        assert response.status_int == 302
        asked = parameters(response.location)
        assert response.location.split("?")[0] == provider.authorization_url
        assert asked.pop("state")
        assert asked.pop("code_challenge")
        assert asked == {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": "http://localhost/callback",
            "scope": "profile email",
            "code_challenge_method": "S256",
        }

    def test_step_2_provider_redirects_to_the_callback_with_a_code(self, browser: Browser):
        callback = browser.callback_url()
        assert callback.split("?")[0] == "http://localhost/callback"
        assert {"code", "state"} <= parameters(callback).keys()

    def test_step_3_exchanges_the_code_and_redirects_to_the_profile(self, browser: Browser, provider: LocalProvider):
        """RFC 6749 4.1.3: the token request has the client's credentials, the code and the same redirect URI."""
        callback = browser.callback_url()
        response = browser.get(callback)
        assert (response.status_int, response.location) == (303, "/profile")
        [form] = token_requests(provider)
        [exchange] = [e for e in provider.exchanges if e.endpoint == "token"]
        assert form.pop("code_verifier")
        assert form == {
            "grant_type": "authorization_code",
            "code": parameters(callback)["code"],
            "redirect_uri": "http://localhost/callback",
        }
        kind, _, credentials = exchange.headers["Authorization"].partition(" ")
        assert (kind, b64decode(credentials)) == ("Basic", b"demo-client:demo-secret")

    def test_profile_is_fetched_with_the_token_as_bearer(self, browser: Browser, provider: LocalProvider):
        browser.sign_in()
        response = browser.profile()
        assert (response.status_int, response.content_type, response.json) == (200, "application/json", OCTOCAT)
        [asked] = [e for e in provider.exchanges if e.endpoint == "profile"]
        assert re.fullmatch(r"Bearer \S+", asked.headers["Authorization"])
        assert "?" not in asked.url

    def test_sign_in_takes_one_request_to_each_endpoint(self, browser: Browser, provider: LocalProvider):
        browser.sign_in()
        browser.profile()
        assert [provider.count(endpoint) for endpoint in ("authorize", "token", "profile")] == [1, 1, 1]

    def test_profile_can_be_read_repeatedly_with_one_token(self, browser: Browser, provider: LocalProvider):
        browser.sign_in()
        assert [browser.profile().status_int for _ in range(5)] == [200] * 5
        assert provider.count("token") == 1

    def test_user_can_sign_in_again_after_signing_out(self, browser: Browser):
        browser.sign_in()
        assert browser.post("/logout").status_int == 303
        assert browser.profile().status_int == 401
        browser.sign_in()
        assert browser.profile().json == OCTOCAT

    def test_signed_in_user_can_sign_in_again(self, browser: Browser, provider: LocalProvider):
        browser.sign_in()
        browser.sign_in()
        assert browser.profile().status_int == 200
        assert provider.count("token") == 2

    def test_user_who_declined_can_sign_in_afterwards(self, browser: Browser):
        assert browser.get(browser.callback_url(decision="deny")).status_int == 403
        browser.sign_in()
        assert browser.profile().status_int == 200


def test_complete_sign_in_works_with_every_store(provider: LocalProvider, every_store: SessionStore):
    """S1: the state, the token and the sign-out are stored, and another browser cannot use the callback."""
    app = create_app(Config.from_environ(environ_for(provider)), store=every_store)
    browser, other = Browser(app, provider), Browser(app, provider)
    callback = browser.callback_url("/page")
    other.start()
    assert other.get(callback).status_int == 400
    assert browser.get(callback).location == "/page"
    assert browser.get(callback).location == "/page"
    assert browser.profile().json == OCTOCAT
    assert provider.count("token") == 1
    browser.post("/logout")
    assert browser.profile().status_int == 401
    assert not any("oauth_token" in session for session in stored_sessions(every_store))


class TestSessionData:
    def test_state_is_stored_under_the_name_of_the_tutorial(self, browser: Browser, store: SessionStore):
        state = parameters(browser.start())["state"]
        [session] = stored_sessions(store)
        assert list(session) == ["oauth_state"]
        assert list(session["oauth_state"]) == [state]

    def test_token_is_stored_under_the_name_of_the_tutorial(self, browser: Browser, store: SessionStore):
        browser.sign_in()
        [session] = stored_sessions(store)
        token = session["oauth_token"]
        assert token["token_type"] == "Bearer"
        assert isinstance(token["access_token"], str)
        assert token["scope"] == "email profile"

    def test_code_challenge_is_the_hash_of_the_code_verifier(self, browser: Browser, provider: LocalProvider):
        """RFC 7636 4.6. Each of two concurrent sign-ins has its own."""
        tabs = [browser.start(), browser.start()]
        for tab in tabs:
            browser.get(browser.consent(tab))
        for tab, form in zip(tabs, token_requests(provider), strict=True):
            hashed = sha256(form["code_verifier"].encode()).digest()
            assert parameters(tab)["code_challenge"] == urlsafe_b64encode(hashed).rstrip(b"=").decode()


class TestReturnUrl:
    """S33, RFC 9700 4.11.1. attacks/test_open_redirect.py tries to redirect to other sites."""

    @pytest.mark.parametrize(
        "path",
        [
            "/profile",
            "/",
            "/deep/down/here/",
            "/search?q=a&b=c",
            "/a?next=https://evil.example/",
            "/?q=//evil.example",
            "/%C3%A9t%C3%A9",
            "/page#part",
            "/a#//evil.example",
            "/~x:y",
        ],
    )
    def test_sign_in_redirects_to_next(self, browser: Browser, path: str):
        location = browser.sign_in(path).location
        assert location == path
        assert resolved(location, "http://localhost/callback")[0] == "http://localhost"

    def test_next_is_percent_encoded(self, browser: Browser):
        assert browser.sign_in("/été").location == "/%C3%A9t%C3%A9"

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "profile",
            "https://evil.example/",
            "//evil.example",
            "/%252e%252e/x",  # because a proxy may decode a path once more
            "/%255cevil.example",
            "/%20/evil.example",  # for a proxy that removes the space
            "/" + "x" * 8000,
        ],
        ids=lambda path: path[:20],
    )
    def test_invalid_next_is_replaced_by_the_profile(self, browser: Browser, path: str):
        assert browser.sign_in(path).location == "/profile"

    @pytest.mark.parametrize("first", ["//evil.example", "/profile"])
    def test_repeated_next_is_replaced_by_the_profile(self, application: Any, provider: LocalProvider, first: str):
        for query in (f"next={first}&next=//evil.example", f"next=//evil.example&next={first}"):
            started = send(application, "/", query=query, headers=HTML)
            callback = Browser(application, provider).consent(started.headers["Location"])
            headers = {**HTML, "Cookie": started.headers["Set-Cookie"].partition(";")[0]}
            response = send(application, "/callback", query=urlsplit(callback).query, headers=headers)
            assert resolved(response.headers["Location"], callback) == ("http://localhost", "/profile")

    def test_dropped_next_leaves_a_log_line(self, browser: Browser, caplog: pytest.LogCaptureFixture):
        browser.start("/" + "x" * 8000)
        assert "next: dropped, because it is not a path of this site or has more than 8000 characters" in caplog.text

    @pytest.mark.parametrize("name", ["rd", "url", "return_to"])
    def test_next_by_another_name_leaves_a_log_line(
        self, browser: Browser, caplog: pytest.LogCaptureFixture, name: str
    ):
        """Other programs have other names for it: oauth2-proxy and ingress controllers use the first one."""
        assert browser.get(f"/?{name}=%2Fpage%3Fx%3D1").status_int == 302
        assert f"{name}: ignored (got '/page'); write the page to which a sign-in returns as next=" in caplog.text
        caplog.clear()
        assert browser.get(f"/?{name}=%2Fpage&next=%2Fpage").status_int == 302
        assert caplog.text == ""

    def test_next_that_is_not_encoded_leaves_a_log_line(self, browser: Browser, caplog: pytest.LogCaptureFixture):
        """As with ``return 302 /auth/?next=$request_uri`` in nginx."""
        for query in ("next=%2Fpage%3Fx%3D1%26y%3D2", "next=/page?x=1", "next=/page?x=1&provider=", "next=/&x=1"):
            assert browser.get(f"/?{query}").status_int == 302
        assert caplog.text == ""
        assert browser.get("/?next=/page?x=1&y=2&z=3").status_int == 302
        assert "next: ends before ['y', 'z']; write the page percent-encoded: ? as %3F, & as %26" in caplog.text

    def test_next_in_the_callback_is_ignored(self, browser: Browser):
        assert browser.get(browser.callback_url() + "&next=%2Felsewhere").location == "/profile"

    def test_anonymous_user_signs_in_and_returns_to_the_requested_page(self, make_browser: Callable[..., Browser]):
        browser = make_browser(handlers=(Page,))
        response = browser.get("/pages/repos?sort=name&page=2")
        assert response.status_int == 302
        assert urlsplit(response.location).path == "/"
        response = browser.get(browser.consent(browser.get(response.location).location))
        assert response.location == "/pages/repos?sort=name&page=2"
        assert browser.get(response.location).json == {"name": "repos"}

    @pytest.mark.parametrize(
        "path",
        ["//evil.example/pages/x", "/pages//evil.example", "/pages/..//evil.example", "/pages/\\evil", "/pages/a?b#c%"],
    )
    def test_ambiguous_path_of_a_page_never_leads_to_another_site(
        self, make_browser: Callable[..., Browser], path: str
    ):
        browser = make_browser(handlers=(Page,))
        response = send(browser.app.app, path, headers=HTML)
        if response.status_code == 404:
            return
        location = response.headers["Location"]
        assert resolved(location, "http://localhost")[0] == "http://localhost"
        final = browser.get(browser.consent(browser.get(location).location)).location
        origin, arrived = resolved(final, "http://localhost/callback")
        assert origin == "http://localhost"
        assert not arrived.startswith("//")

    @pytest.mark.parametrize(
        "headers",
        [
            JSON,
            {"Accept": "*/*"},
            {"Accept": "text/html", "Sec-Fetch-Mode": "cors"},
            {"Accept": "image/avif,image/webp,*/*", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
            {"Accept": "text/html", "X-Requested-With": "XMLHttpRequest"},
        ],
    )
    def test_anonymous_program_gets_401_with_the_login_url(
        self, application: Any, headers: dict[str, str], store: SessionStore
    ):
        response = send(application, "/profile", headers=headers)
        assert response.status_code == 401
        assert response.get_json()["error"] == "not_signed_in"
        assert response.get_json()["login_url"] == "http://localhost/"
        assert "Location" not in response.headers
        assert stored_sessions(store) == []


class Page(RequestHandler):
    """A page under any path, for signed-in users."""

    route = "/pages/<path:name>"

    def get(self, request, name):
        request.session["oauth_token"]
        return self.jsonify({"name": name})


class TestSeveralTabs:
    """S5."""

    @pytest.mark.parametrize("order", [[0, 1], [1, 0]])
    def test_two_tabs_finish_in_any_order_at_their_own_pages(
        self, browser: Browser, provider: LocalProvider, order: list[int]
    ):
        tabs = [browser.start("/first"), browser.start("/second")]
        for tab in order:
            assert browser.get(browser.consent(tabs[tab])).location == ["/first", "/second"][tab]
        assert browser.profile().status_int == 200
        assert provider.count("token") == 2

    def test_abandoned_and_declined_tabs_do_not_prevent_a_sign_in(self, browser: Browser):
        browser.start()
        browser.get(browser.callback_url(decision="deny"))
        browser.sign_in()
        assert browser.profile().status_int == 200

    def test_declined_tab_leaves_the_user_signed_in(self, browser: Browser):
        waiting = browser.start()
        browser.sign_in()
        assert browser.get(browser.consent(waiting, decision="deny")).status_int == 403
        assert browser.profile().status_int == 200


class TestDuplicateCallback:
    """A reload, the back button or a double click repeats a callback: S3. The code is exchanged once."""

    def test_redirects_to_the_same_page(self, browser: Browser, provider: LocalProvider):
        callback = browser.callback_url("/reports")
        answers = [browser.get(callback) for _ in range(3)]
        assert [(answer.status_int, answer.location) for answer in answers] == [(303, "/reports")] * 3
        assert provider.count("token") == 1
        assert browser.profile().status_int == 200

    def test_redirects_to_the_same_page_hours_later(self, browser: Browser, later: Callable[[float], None]):
        """A browser restores its tabs. The next sign-in, perhaps of another user, forgets the old callback."""
        callback = browser.callback_url("/where?i=was")
        browser.get(callback)
        later(3 * 3600)
        assert browser.get(callback).location == "/where?i=was"
        later(3 * 3600)
        browser.sign_in()
        assert browser.get(callback).status_int == 400

    def test_finished_sign_ins_are_evicted_before_pending_ones(self, browser: Browser, later: Callable[[float], None]):
        finished = [browser.callback_url(f"/{number}") for number in range(30)]
        for callback in finished:
            browser.get(callback)
            browser.sign_in()
        later(3600)
        tabs = [browser.callback_url(f"/tab/{number}") for number in range(20)]
        assert [browser.get(tab).location for tab in tabs] == [f"/tab/{number}" for number in range(20)]

    def test_keeps_the_session_id(self, browser: Browser):
        callback = browser.callback_url()
        browser.get(callback)
        signed_in = browser.cookie
        assert "Set-Cookie" not in browser.get(callback).headers
        assert browser.cookie == signed_in

    def test_is_rejected_with_the_previous_session_cookie(self, browser: Browser, provider: LocalProvider):
        """S36: the previous session id is invalid from the moment the sign-in has changed it."""
        callback = browser.callback_url()
        previous = cookie_header(browser)
        browser.get(callback)
        browser.app.reset()
        response = browser.get(callback, headers={"Cookie": previous})
        assert response.status_int == 400
        assert provider.count("token") == 1

    def test_is_rejected_after_the_user_declined(self, browser: Browser):
        callback = browser.callback_url(decision="deny")
        assert [browser.get(callback).status_int for _ in range(2)] == [403, 400]

    @pytest.mark.parametrize(("fault", "expected"), [("", [303, 303]), ("token.500", [400, 502])])
    def test_waits_for_the_first_copy_and_has_the_same_outcome(
        self, provider: LocalProvider, barrier: Callable[[str], Barrier], fault: str, expected: list[int]
    ):
        """A user clicks again while the provider is slow."""
        store = WatchedStore()
        app = create_app(Config.from_environ(environ_for(provider)), store=store)
        browser = Browser(app, provider)
        callback = browser.callback_url("/reports")
        query, headers = urlsplit(callback).query, {**HTML, "Cookie": cookie_header(browser)}
        token_endpoint = barrier("token")
        token_endpoint.answer = Response(status=500) if fault else None
        with ThreadPoolExecutor() as threads:
            first = threads.submit(send, app, "/callback", query=query, headers=headers)
            token_endpoint.wait_for(1)
            store.changed.clear()
            second = threads.submit(send, app, "/callback", query=query, headers=headers)
            assert store.changed.wait(10), "the second copy has not read the session"
            token_endpoint.open()
            responses = [first.result(10), second.result(10)]
        assert sorted(response.status_code for response in responses) == expected
        assert provider.count("token") == 1
        if not fault:
            assert [response.location for response in responses] == ["/reports"] * 2
            assert "Set-Cookie" not in responses[1].headers


class WatchedStore(MemoryStore):
    """A store that reports each update."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Event()

    def update(self, *arguments: Any, **more: Any) -> bool:
        try:
            return super().update(*arguments, **more)
        finally:
            self.changed.set()


class TestRequestsWithoutAUserAction:
    """S16: a HEAD request, a prefetch or a subresource neither starts nor finishes a sign-in."""

    def test_head_of_the_callback_consumes_nothing(self, browser: Browser, provider: LocalProvider):
        callback = browser.callback_url()
        response = browser.app.head(browser._local(callback), headers=HTML, status="*")
        assert response.status_int == 200
        assert provider.count("token") == 0
        assert browser.get(callback).status_int == 303

    def test_head_of_the_start_creates_no_session(self, application: Any, store: SessionStore):
        response = send(application, "/", method="HEAD", headers=HTML)
        assert response.status_code == 200
        assert "Set-Cookie" not in response.headers
        assert stored_sessions(store) == []

    @pytest.mark.parametrize("headers", PREFETCHES, ids=str)
    def test_prefetch_starts_nothing(self, application: Any, store: SessionStore, headers: dict[str, str]):
        response = send(application, "/", headers={**HTML, **headers})
        assert response.status_code == 403
        assert "Set-Cookie" not in response.headers
        assert stored_sessions(store) == []

    @pytest.mark.parametrize(
        "agent",
        [
            "Mozilla/4.0 (compatible; ms-office; MSOffice 16)",
            "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Trident/7.0; ms-office)",
            "Microsoft Office Word 2014",
        ],
    )
    def test_link_in_an_office_document_is_left_to_the_browser(
        self, agent: str, browser: Browser, provider: LocalProvider, store: SessionStore
    ):
        """Office follows redirects, and lets the browser open the last URL, without the cookies of the redirects."""
        answer = browser.get("/?next=/page%3Fa%3D%221%22%26b%3D2", headers={"User-Agent": agent})
        assert (answer.status_int, answer.content_type) == (200, "text/html")
        assert stored_sessions(store) == []
        assert "Set-Cookie" not in answer.headers
        [url] = {html.unescape(each) for each in re.findall(r'(?:url=|href=")([^"]+)"', answer.text)}
        started = browser.get(url, headers={"User-Agent": agent})  # a browser may have this name, too
        back = browser.get(browser.consent(started.location))
        assert (back.status_int, back.location) == (303, "/page?a=%221%22&b=2")

    def test_prefetch_of_the_callback_consumes_nothing(self, browser: Browser, provider: LocalProvider):
        callback = browser.callback_url()
        assert browser.get(callback, headers=PREFETCHES[0]).status_int == 403
        assert provider.count("token") == 0
        assert browser.get(callback).status_int == 303

    @pytest.mark.parametrize("kind", ["image", "script", "style", "font", "video", "object", "embed"])
    def test_subresource_starts_nothing(self, application: Any, store: SessionStore, kind: str):
        """S43: a forum with many ``<img src="https://this.site/">`` creates no session, nor does an own page."""
        headers = {"Accept": "*/*", "Sec-Fetch-Dest": kind, "Sec-Fetch-Mode": "no-cors"}
        for site in ("cross-site", "same-origin", "none"):
            assert send(application, "/", headers={**headers, "Sec-Fetch-Site": site}).status_code == 403
        assert stored_sessions(store) == []

    def test_navigation_that_a_service_worker_passes_on_is_one(self, browser: Browser):
        """The browser then sends another destination than for the navigation itself."""
        headers = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}
        assert browser.get("/", headers=headers).status_int == 302
        assert browser.get(browser.callback_url(), headers=headers).location == "/profile"

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    @pytest.mark.parametrize(
        "kind", [("empty", "no-cors"), ("empty", "cors"), ("iframe", "navigate"), ("frame", "navigate")], ids=" ".join
    )
    def test_script_or_frame_of_another_site_starts_nothing(
        self, application: Any, store: SessionStore, kind: tuple[str, str], site: str
    ):
        """S43: otherwise a neighbouring subdomain, which sends the cookie along, could evict pending sign-ins."""
        headers = {**HTML, "Sec-Fetch-Dest": kind[0], "Sec-Fetch-Mode": kind[1], "Sec-Fetch-Site": site}
        assert 400 <= send(application, "/", headers=headers).status_code < 500
        assert stored_sessions(store) == []
        assert send(application, "/", headers={**headers, "Sec-Fetch-Site": "same-origin"}).status_code == 302
