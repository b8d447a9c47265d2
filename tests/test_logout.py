"""Signing out: the session ends here at once, and the token and the session at the provider if it supports that."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import requests
from conftest import HTML, JSON, Browser, environ_for, parameters, send, stored_sessions
from werkzeug import Request, Response

from wsgi_oauth import Config, FileStore, LoginRequired, MemoryStore, SessionStore, create_app
from wsgi_oauth.demo.faults import REVOKE_FAULTS
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve
from wsgi_oauth.oauth.registration import Registration

HOUR = 3600
PUBLIC = "https://app.example.com"


@pytest.fixture
def signed_in(make_browser: Callable[..., Browser], provider: LocalProvider) -> Browser:
    """Sign in with a provider that can revoke tokens; return the browser."""
    browser = make_browser(REVOCATION_URL=provider.revocation_url)
    browser.sign_in()
    return browser


def revoked(provider: LocalProvider) -> list[dict[str, str]]:
    """Return the form of each revocation request."""
    return [parameters(f"?{exchange.body}") for exchange in provider.exchanges if exchange.url.endswith("/revoke")]


class TestRequest:
    """S41: only a POST of this site's own pages signs out."""

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost.evil.example"},
            {"Origin": "http://localhost:81"},
            {"Origin": "https://localhost"},
            {"Origin": "http://localhost:x"},
            {"Origin": "localhost"},
            {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
            {"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"},
            {"Origin": "", "Referer": "https://evil.example/http://localhost/"},
            {"Origin": "https://evil.example", "Referer": "http://localhost/"},
        ],
        ids=str,
    )
    def test_of_another_site_is_refused(self, browser: Browser, headers: dict[str, str]):
        browser.sign_in()
        given = {name: value for name, value in headers.items() if value or name != "Origin"}
        cookie = {"Cookie": f"wsgi_oauth={browser.cookie}"}
        response = send(browser.app.app, "/logout", method="POST", headers={**HTML, **cookie, **given})
        assert response.status_code == 403
        assert "Set-Cookie" not in response.headers
        assert browser.profile().status_int == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "http://localhost"},
            {"Origin": "http://localhost:80"},
            {"Origin": "http://LOCALHOST"},
            {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
            {"Sec-Fetch-Site": "none"},
            {"Referer": "http://localhost/page"},
            {},
        ],
        ids=str,
    )
    def test_of_this_site_ends_the_session(self, browser: Browser, headers: dict[str, str], store: SessionStore):
        browser.sign_in()
        cookie = {"Cookie": f"wsgi_oauth={browser.cookie}"}
        response = send(browser.app.app, "/logout", method="POST", headers={**HTML, **cookie, **headers})
        assert response.status_code == 303
        assert stored_sessions(store) == []

    @pytest.mark.parametrize(
        ("method", "status"), [("GET", 200), ("HEAD", 200), ("PUT", 405), ("DELETE", 405), ("OPTIONS", 204)]
    )
    def test_with_another_method_does_not_sign_out(self, browser: Browser, method: str, status: int):
        browser.sign_in()
        cookie = {"Cookie": f"wsgi_oauth={browser.cookie}"}
        response = send(browser.app.app, "/logout", method=method, headers={**HTML, **cookie})
        assert response.status_code == status
        assert "Set-Cookie" not in response.headers
        assert browser.profile().status_int == 200

    def test_deletes_the_session_file_and_clears_the_cookie(self, provider: LocalProvider, tmp_path: Path):
        store = FileStore(tmp_path / "sessions")
        browser = Browser(create_app(Config.from_environ(environ_for(provider)), store=store), provider)
        set_by = browser.sign_in().headers["Set-Cookie"]
        old = browser.cookie
        cleared_by = browser.post("/logout").headers["Set-Cookie"]
        assert list((tmp_path / "sessions").iterdir()) == []
        assert browser.cookie is None
        assert browser.get("/profile", headers={**JSON, "Cookie": f"wsgi_oauth={old}"}).status_int == 401
        flags = [
            {part for part in header.split("; ")[1:] if not part.startswith(("Max-Age", "Expires"))}
            for header in (set_by, cleared_by)
        ]
        assert flags[0] == flags[1]
        assert "Max-Age=0" in cleared_by

    def test_clears_the_secure_cookie_with_its_own_attributes(self, provider: LocalProvider):
        app = create_app(Config.from_environ(environ_for(provider, PUBLIC_URL=PUBLIC)))
        cookie = send(app, "/", headers=HTML, HTTP_HOST="app.example.com").headers["Set-Cookie"].partition("=")
        sent = {**HTML, "Cookie": f"{cookie[0]}={'A' * 43}"}
        response = send(app, "/logout", method="POST", headers=sent, HTTP_HOST="app.example.com")
        cleared = response.headers["Set-Cookie"]
        assert cleared.startswith(f"{cookie[0]}=;")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cleared.split("; "))

    def test_without_a_session_creates_none(self, browser: Browser, store: SessionStore):
        response = browser.post("/logout")
        assert response.status_int == 303
        assert "Set-Cookie" not in response.headers
        assert stored_sessions(store) == []

    def test_can_be_repeated(self, browser: Browser):
        browser.sign_in()
        assert [browser.post("/logout").status_int for _ in range(2)] == [303, 303]

    def test_cancels_a_pending_sign_in(self, browser: Browser):
        callback = browser.callback_url()
        browser.post("/logout")
        assert browser.get(callback).status_int == 400

    def test_of_another_site_cancels_no_pending_sign_in(self, browser: Browser):
        """Without a session there is no form token, which an empty one must not equal."""
        callback = browser.callback_url()
        assert browser.post("/logout", headers={"Sec-Fetch-Site": "cross-site"}).status_int == 403
        assert browser.get(callback).status_int == 303


class TestResponse:
    def test_redirects_to_a_page_that_does_not_start_a_sign_in(self, browser: Browser, provider: LocalProvider):
        browser.sign_in()
        response = browser.post("/logout")
        assert (response.status_int, response.location) == (303, "http://localhost/signed-out")
        page = browser.get(response.location)
        assert page.status_int == 200
        assert "You are signed out" in page.text
        assert "refresh" not in page.text.lower()
        assert provider.count("authorize") == 1

    def test_is_json_for_a_program(self, browser: Browser):
        browser.sign_in()
        answer = browser.get(browser.post("/logout", headers=JSON).location, headers=JSON).json
        assert answer["cause"] == "signed_out"
        assert answer["login_url"] == "http://localhost/"

    def test_to_get_is_a_page_with_a_sign_out_button(self, browser: Browser):
        """S41: the request itself changes nothing."""
        browser.sign_in()
        page = browser.get("/logout")
        assert browser.profile().status_int == 200
        assert page.form.submit(headers={"Sec-Fetch-Site": "same-origin"}).location == "http://localhost/signed-out"
        assert browser.profile().status_int == 401

    @pytest.mark.parametrize(
        ("referrer", "target"),
        [
            ("http://localhost/page?x=1", "http://localhost/page?x=1"),
            ("https://evil.example/", "http://localhost/profile"),
            ("http://localhost/logout", "http://localhost/profile"),
            ("", "http://localhost/profile"),
        ],
    )
    def test_to_get_leads_back_to_the_page_with_the_link(self, browser: Browser, referrer: str, target: str):
        browser.sign_in()
        page = browser.get("/logout", headers={"Referer": referrer})
        assert [link["href"] for link in page.html.find_all("a", string="Cancel")] == [target]

    def test_to_get_of_an_anonymous_user_says_so(self, browser: Browser, store: SessionStore):
        page = browser.get("/logout")
        assert (page.status_int, "You are signed out" in page.text) == (200, True)
        assert "<form" not in page.text
        assert stored_sessions(store) == []

    def test_to_get_tells_a_program_whether_it_is_signed_in(self, browser: Browser):
        assert browser.get("/logout", headers=JSON).json["cause"] == "signed_out"
        browser.sign_in()
        assert browser.get("/logout", headers=JSON).json["cause"] == "signed_in"

    @pytest.mark.parametrize("page", ["the page at /logout", "the page of a refused request"])
    def test_button_works_in_browsers_that_send_a_null_origin(self, browser: Browser, page: str):
        """They lack Fetch Metadata, and the pages have the Referrer-Policy no-referrer."""
        browser.sign_in()
        null = {"Origin": "null"}
        shown = browser.get("/logout") if page == "the page at /logout" else browser.post("/logout", headers=null)
        assert browser.profile().status_int == 200
        shown.form.submit(headers=null)
        assert browser.profile().status_int == 401

    def test_concerns_one_browser_only(self, make_browser: Callable[..., Browser]):
        one, other = make_browser(), make_browser()
        one.sign_in()
        other.sign_in()
        one.post("/logout")
        assert (one.profile().status_int, other.profile().status_int) == (401, 200)


class TestRevocation:
    def test_refresh_token_is_revoked_before_the_access_token(
        self, signed_in: Browser, provider: LocalProvider, store: SessionStore
    ):
        """S44; RFC 7009 2.1."""
        [session] = stored_sessions(store)
        token = session["oauth_token"]
        assert signed_in.post("/logout").status_int == 303
        assert revoked(provider) == [
            {"token": token["refresh_token"], "token_type_hint": "refresh_token"},
            {"token": token["access_token"], "token_type_hint": "access_token"},
        ]
        assert provider.exchanges[-1].headers["Authorization"].startswith("Basic ")

    def test_provider_rejects_the_token_after_the_sign_out(
        self, signed_in: Browser, provider: LocalProvider, store: SessionStore
    ):

        [session] = stored_sessions(store)
        bearer = {"Authorization": f"Bearer {session['oauth_token']['access_token']}"}
        assert requests.get(provider.profile_url, headers=bearer, timeout=10).status_code == 200
        signed_in.post("/logout")
        assert requests.get(provider.profile_url, headers=bearer, timeout=10).status_code == 401

    def test_refreshed_token_is_the_one_that_is_revoked(
        self, signed_in: Browser, provider: LocalProvider, store: SessionStore, later: Callable[[float], None]
    ):
        later(HOUR)
        signed_in.profile()
        [session] = stored_sessions(store)
        signed_in.post("/logout")
        assert revoked(provider)[0]["token"] == session["oauth_token"]["refresh_token"]

    @pytest.mark.parametrize("fault", sorted(REVOKE_FAULTS))
    def test_user_is_signed_out_even_if_the_revocation_fails(
        self,
        fault: str,
        signed_in: Browser,
        make_browser: Callable[..., Browser],
        provider: LocalProvider,
        store: SessionStore,
    ):
        """S44: and in bounded time."""
        cookie = signed_in.cookie
        signed_in = make_browser(REVOCATION_URL=provider.revocation_url, UPSTREAM_TIMEOUT="0.5")
        signed_in.app.set_cookie("wsgi_oauth", cookie)
        provider.faults.add(f"revoke.{fault}", times=None)
        began = time.monotonic()
        answer = signed_in.post("/logout", headers=JSON)
        assert time.monotonic() - began < 15
        assert answer.status_int == 303
        assert signed_in.cookie is None
        assert stored_sessions(store) == []
        signed_in.app.set_cookie("wsgi_oauth", cookie)
        assert signed_in.profile().status_int == 401

    def test_failed_revocation_is_not_repeated(self, signed_in: Browser, provider: LocalProvider):
        provider.faults.add("revoke.hang_up", times=None)
        signed_in.post("/logout")
        assert provider.count("revoke") == 1

    def test_failed_revocation_is_logged_without_the_token(
        self, signed_in: Browser, provider: LocalProvider, store: SessionStore, caplog: pytest.LogCaptureFixture
    ):
        [session] = stored_sessions(store)
        provider.faults.add("revoke.401")
        signed_in.post("/logout")
        assert "the token was not revoked" in caplog.text
        assert session["oauth_token"]["access_token"] not in caplog.text

    def test_provider_without_revocation_endpoint_gets_no_request(self, browser: Browser, provider: LocalProvider):
        browser.sign_in()
        assert browser.post("/logout").status_int == 303
        assert provider.count("revoke") == 0

    def test_anonymous_user_revokes_nothing(self, make_browser: Callable[..., Browser], provider: LocalProvider):
        browser = make_browser(REVOCATION_URL=provider.revocation_url)
        browser.get("/")
        assert browser.post("/logout").status_int == 303
        assert provider.count("revoke") == 0

    def test_github_revokes_through_its_own_api(self, application: Any, provider: LocalProvider, store: SessionStore):
        """https://docs.github.com/rest/apps/oauth-applications#delete-an-app-token"""
        seen: list[Request] = []

        @Request.application
        def api(request: Request) -> Response:
            request.get_data()
            seen.append(request)
            return Response(status=204)

        browser, registration = Browser(application, provider), next(iter(application.oauth.registrations.values()))
        with serve(api) as server:
            registration.configured_provider = registration.provider._replace(
                revocation_url=f"{server.url}/applications/{{client_id}}/token",
                revocation_by="github",
            )
            browser.sign_in()
            [session] = stored_sessions(store)
            assert browser.post("/logout").status_int == 303
        [request] = seen
        assert (request.method, request.path) == ("DELETE", "/applications/demo-client/token")
        assert b64decode(request.headers["Authorization"].split()[1]) == b"demo-client:demo-secret"
        assert json.loads(request.get_data()) == {"access_token": session["oauth_token"]["access_token"]}


def browser_and_registration(provider: LocalProvider, **settings: str) -> tuple[Browser, Registration]:
    """Return a browser, and the registration of its application, whose provider can be changed."""
    application = create_app(Config.from_environ(environ_for(provider, **settings)), store=MemoryStore())
    [registration] = application.oauth.registrations.values()
    return Browser(application, provider), registration


class TestEndSessionAtTheProvider:
    """OpenID Connect RP-Initiated Logout."""

    def test_configured_end_session_endpoint_gets_the_browser(
        self, make_browser: Callable[..., Browser], provider: LocalProvider, store: SessionStore
    ):
        browser = make_browser(END_SESSION="https://id.example.com/end", REVOCATION_URL=provider.revocation_url)
        browser.sign_in()
        answer = browser.post("/logout")
        assert answer.status_int == 303
        assert answer.location.startswith("https://id.example.com/end?")
        asked = parameters(answer.location)
        assert len(asked.pop("state")) == 43
        assert asked == {
            "client_id": "demo-client",
            "post_logout_redirect_uri": "http://localhost/signed-out",
        }
        assert stored_sessions(store) == []
        assert provider.count("revoke") == 2

    @pytest.mark.parametrize(
        ("library", "status", "names"),
        [
            ({}, 200, set()),
            ({"HX-Request": "true"}, 200, {"HX-Redirect"}),
            ({"X-Inertia": "true"}, 409, {"X-Inertia-Location"}),
        ],
        ids=["fetch", "htmx", "Inertia"],
    )
    def test_a_script_gets_the_url_because_it_cannot_follow_a_redirect_to_the_provider(
        self,
        make_browser: Callable[..., Browser],
        store: SessionStore,
        library: dict[str, str],
        *,
        status: int,
        names: set[str],
    ):
        browser = make_browser(END_SESSION="https://id.example.com/end")
        browser.sign_in()
        headers = {**library, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
        answer = browser.post("/logout", headers=headers)
        assert answer.status_int == status
        url = answer.json["end_session_url"]
        assert url.startswith("https://id.example.com/end?")
        assert {name: value for name, value in answer.headers.items() if value == url} == dict.fromkeys(names, url)
        assert stored_sessions(store) == []
        assert "is complete, too" in browser.get(f"/signed-out?state={parameters(url)['state']}").text

    def test_parameters_of_the_configured_url_are_kept_and_not_repeated(self, make_browser: Callable[..., Browser]):
        own = "https://id.example.com/end?client_id=mine&tenant=1&post_logout_redirect_uri=https%3A%2F%2Fexample.org%2F"
        browser = make_browser(END_SESSION=own)
        browser.sign_in()
        location = browser.post("/logout").location
        assert location.startswith(f"{own}&state=")
        assert len(parse_qsl(location.partition("?")[2])) == 4

    def test_yes_means_the_end_session_endpoint_of_the_provider_if_it_has_one(self, provider: LocalProvider):
        browser, registration = browser_and_registration(provider, END_SESSION="yes")
        browser.sign_in()
        assert browser.post("/logout").location == "http://localhost/signed-out"
        registration.configured_provider = registration.provider._replace(end_session_url="https://id.example.com/end")
        browser.sign_in()
        assert browser.post("/logout").location.startswith("https://id.example.com/end?client_id=demo-client&")

    def test_provider_can_have_parameters_of_its_own(self, provider: LocalProvider):
        """https://docs.aws.amazon.com/cognito/latest/developerguide/logout-endpoint.html"""
        browser, registration = browser_and_registration(provider, END_SESSION="https://id.example.com/logout")
        registration.configured_provider = registration.provider._replace(
            end_session_parameters=(("client_id", "{client_id}"), ("logout_uri", "{signed_out_url}"))
        )
        browser.sign_in()
        assert parameters(browser.post("/logout").location) == {
            "client_id": "demo-client",
            "logout_uri": "http://localhost/signed-out",
        }

    def test_long_id_token_is_left_out_because_providers_refuse_long_urls(self, provider: LocalProvider):
        _, registration = browser_and_registration(provider, END_SESSION="https://id.example.com/end")
        back = {"signed_out_url": "http://localhost/signed-out", "state": "s"}
        urls = [registration.end_session_url({"id_token": "x" * length}, **back) for length in (1800, 2000)]
        assert [parameters(url).get("id_token_hint") for url in urls] == ["x" * 1800, None]
        assert parameters(urls[1])["client_id"] == "demo-client"

    def test_anonymous_user_is_not_sent_to_the_provider(self, make_browser: Callable[..., Browser]):
        response = make_browser(END_SESSION="https://id.example.com/end").post("/logout")
        assert response.location == "http://localhost/signed-out"


class TestSignedOutPage:
    """The page to which the provider sends the browser back."""

    @pytest.fixture
    def back(self, make_browser: Callable[..., Browser]) -> tuple[Browser, str]:
        """Sign in and out; return the browser and the query with which the provider sends it back."""
        browser = make_browser(END_SESSION="https://id.example.com/end")
        browser.sign_in()
        return browser, "state=" + parameters(browser.post("/logout").location)["state"]

    def test_confirms_the_sign_out_at_the_provider(self, back: tuple[Browser, str]):
        browser, query = back
        page = browser.get(f"/signed-out?{query}")
        assert page.status_int == 200
        assert "You are signed out" in page.text
        assert "is complete, too" in page.text
        assert "Max-Age=0" in page.headers["Set-Cookie"]
        assert "is complete, too" not in browser.get(f"/signed-out?{query}").text

    @pytest.mark.parametrize("query", ["", "state=", "state=A", "state=%C3%A9", "state=%FF", "x=<script></script>"])
    def test_confirms_nothing_with_another_state(self, back: tuple[Browser, str], query: str):
        browser, confirming_query = back
        page = browser.get(f"/signed-out?{query}")
        assert page.status_int == 200
        assert "You may still be signed in at " in page.text
        assert "<script>" not in page.text
        assert "is complete, too" in browser.get(f"/signed-out?{confirming_query}").text

    def test_confirms_nothing_to_another_browser(self, back: tuple[Browser, str], make_browser: Callable[..., Browser]):
        _, query = back
        assert "is complete, too" not in make_browser().get(f"/signed-out?{query}").text

    @pytest.mark.parametrize("query", ["", "state=", "state=None"])
    def test_confirms_nothing_to_a_browser_without_a_state(self, browser: Browser, query: str):
        assert "is complete, too" not in browser.get(f"/signed-out?{query}").text

    def test_tells_a_signed_in_user_so_and_offers_the_sign_out(self, browser: Browser):
        """Anyone can link to this page."""
        browser.sign_in()
        page = browser.get("/signed-out")
        assert "You are signed out" not in page.text
        assert browser.get("/signed-out", headers=JSON).json["cause"] == "signed_in"
        page.form.submit(headers={"Origin": "null"})
        assert browser.profile().status_int == 401

    def test_starts_no_sign_in_and_creates_no_session(self, browser: Browser, store: SessionStore):
        response = browser.get("/signed-out")
        assert "Set-Cookie" not in response.headers
        assert stored_sessions(store) == []

    def test_links_to_the_front_page_behind_a_gate(self, provider: LocalProvider):
        gate = LoginRequired(DemoApplication(), create_app(Config.from_environ(environ_for(provider))), public=["/"])
        browser = Browser(gate, provider)
        page = browser.get(browser.post("/auth/logout").location)
        assert page.click("Open the application").request.path == "/"


class DemoApplication:
    """A front page."""

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"front page"]
