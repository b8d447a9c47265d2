"""The dance as a story: the tutorial's three steps, what is kept between them, and what may happen on the way."""

from __future__ import annotations

import re
import threading
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import HTML, JSON, Browser, environ_for, parameters, send, stored_sessions
from werkzeug import Response
from werkzeug.exceptions import Gone

from wsgi_oauth import Config, MemoryStore, RequestHandler, SessionStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

OCTOCAT = {"id": 583231, "login": "octocat", "name": "Mona Lisa Octocat", "email": "octocat@example.com"}
PREFETCHES = [
    {"Sec-Purpose": "prefetch"},
    {"Sec-Purpose": "prefetch;prerender"},
    {"Sec-Purpose": "prefetch;anonymous-client-ip"},
    {"Purpose": "prefetch"},
    {"X-Moz": "prefetch"},
]
ROUTES = {
    "/": {"GET", "HEAD", "OPTIONS"},
    "/callback": {"GET", "HEAD", "OPTIONS"},
    "/profile": {"GET", "HEAD", "OPTIONS"},
    "/logout": {"POST", "OPTIONS"},
    "/healthz": {"GET", "HEAD", "OPTIONS"},
    "/readyz": {"GET", "HEAD", "OPTIONS"},
}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "BREW"]


def allowed(response: Any) -> set[str]:
    return set(response.headers["Allow"].replace(" ", "").split(","))


def with_cookie(browser: Browser) -> str:
    """The Cookie header that *browser* would send now."""
    return f"wsgi_oauth={browser.cookie}"


class TestTheThreeSteps:
    def test_step_1_sends_the_user_to_the_provider(self, browser: Browser, provider: LocalProvider):
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

    def test_step_2_happens_on_the_provider_which_sends_the_user_back_with_a_code(self, browser: Browser):
        callback = browser.callback_url()
        assert callback.split("?")[0] == "http://localhost/callback"
        assert {"code", "state"} <= parameters(callback).keys()

    def test_step_3_exchanges_the_code_and_leads_to_the_profile(self, browser: Browser, provider: LocalProvider):
        """RFC 6749 4.1.3: the client says who it is, which code it has and where that was sent to."""
        callback = browser.callback_url()
        response = browser.get(callback)
        assert (response.status_int, response.location) == (303, "/profile")
        [exchange] = [e for e in provider.exchanges if e.endpoint == "token"]
        form = {name: values[0] for name, values in parse_qs(exchange.body).items()}
        assert form.pop("code_verifier")
        assert form == {
            "grant_type": "authorization_code",
            "code": parameters(callback)["code"],
            "redirect_uri": "http://localhost/callback",
        }
        kind, _, credentials = exchange.headers["Authorization"].partition(" ")
        assert (kind, b64decode(credentials)) == ("Basic", b"demo-client:demo-secret")

    def test_then_the_token_fetches_the_profile(self, browser: Browser, provider: LocalProvider):
        browser.sign_in()
        response = browser.get("/profile")
        assert (response.status_int, response.content_type, response.json) == (200, "application/json", OCTOCAT)
        [asked] = [e for e in provider.exchanges if e.endpoint == "profile"]
        assert re.fullmatch(r"Bearer \S+", asked.headers["Authorization"])
        assert "?" not in asked.url

    def test_the_whole_dance_needs_one_request_of_each_kind(self, browser: Browser, provider: LocalProvider):
        browser.sign_in()
        browser.profile()
        assert [provider.count(endpoint) for endpoint in ("authorize", "token", "profile")] == [1, 1, 1]

    def test_the_profile_can_be_read_again_and_again(self, browser: Browser, provider: LocalProvider):
        browser.sign_in()
        assert [browser.profile().status_int for _ in range(5)] == [200] * 5
        assert provider.count("token") == 1

    def test_signing_out_ends_it(self, browser: Browser):
        browser.sign_in()
        assert browser.post("/logout").status_int == 200
        assert browser.profile().status_int == 401

    def test_after_signing_out_one_can_sign_in_again(self, browser: Browser):
        browser.sign_in()
        browser.post("/logout")
        browser.sign_in()
        assert browser.profile().json == OCTOCAT

    def test_who_is_signed_in_may_sign_in_once_more(self, browser: Browser, provider: LocalProvider):
        browser.sign_in()
        browser.sign_in()
        assert browser.profile().status_int == 200
        assert provider.count("token") == 2

    def test_who_declines_can_change_their_mind(self, browser: Browser):
        assert browser.get(browser.callback_url(decision="deny")).status_int == 403
        browser.sign_in()
        assert browser.profile().status_int == 200


class TestWhatIsKept:
    def test_the_state_is_in_the_session_under_the_tutorials_name(self, browser: Browser, store: SessionStore):
        state = parameters(browser.start())["state"]
        [session] = stored_sessions(store)
        assert list(session) == ["oauth_state"]
        assert list(session["oauth_state"]) == [state]

    def test_the_token_is_in_the_session_under_the_tutorials_name(self, browser: Browser, store: SessionStore):
        browser.sign_in()
        [session] = stored_sessions(store)
        token = session["oauth_token"]
        assert token["token_type"] == "Bearer"
        assert isinstance(token["access_token"], str)
        assert token["scope"] == "email profile"

    def test_the_challenge_is_the_hash_of_the_verifier(self, browser: Browser, provider: LocalProvider):
        """RFC 7636 4.6."""
        start = browser.start()
        browser.get(browser.consent(start))
        [exchange] = [e for e in provider.exchanges if e.endpoint == "token"]
        verifier, challenge = parse_qs(exchange.body)["code_verifier"][0], parameters(start)["code_challenge"]
        assert urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode() == challenge

    def test_no_session_is_kept_after_the_sign_out(self, browser: Browser, store: SessionStore):
        browser.sign_in()
        browser.post("/logout")
        assert stored_sessions(store) == []


class TestWhereToGoNext:
    @pytest.fixture
    def store(self) -> SessionStore:
        return MemoryStore()

    @pytest.mark.parametrize(
        "path",
        ["/profile", "/", "/deep/down/here", "/search?q=a&b=c", "/a?next=/b", "/%C3%A9t%C3%A9", "/page#part", "/~x"],
    )
    def test_the_sign_in_leads_to_next(self, browser: Browser, path: str):
        assert browser.sign_in(path).location == path

    def test_a_next_in_unicode_arrives_percent_encoded(self, browser: Browser):
        assert browser.sign_in("/été").location == "/%C3%A9t%C3%A9"

    @pytest.mark.parametrize("path", ["", "profile", "https://evil.example/", "//evil.example"])
    def test_a_next_that_is_no_local_path_leads_to_the_profile(self, browser: Browser, path: str):
        assert browser.sign_in(path).location == "/profile"

    def test_each_tab_goes_where_it_wanted(self, browser: Browser):
        first, second = browser.start("/first"), browser.start("/second")
        assert browser.get(browser.consent(second)).location == "/second"
        assert browser.get(browser.consent(first)).location == "/first"

    def test_a_person_who_is_not_signed_in_is_sent_to_sign_in_and_comes_back(
        self, make_browser: Callable[..., Browser]
    ):
        browser = make_browser(handlers=(Repos,))
        response = browser.get("/repos?sort=name&page=2")
        assert response.status_int == 302
        assert urlsplit(response.location).path == "/"
        callback = browser.consent(browser.get(response.location).location)
        response = browser.get(callback)
        assert response.location == "/repos?sort=name&page=2"
        assert browser.get(response.location).json["seen_by"] == "octocat"

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
    def test_a_program_that_is_not_signed_in_gets_401_and_is_told_where_to_sign_in(
        self, application: Any, headers: dict[str, str], store: SessionStore
    ):
        response = send(application, "/profile", headers=headers)
        assert response.status_code == 401
        assert response.get_json()["error"] == "not_signed_in"
        assert response.get_json()["login_url"] == "http://localhost/"
        assert "Location" not in response.headers
        assert stored_sessions(store) == []


class TestSeveralTabs:
    @pytest.mark.parametrize("order", [[0, 1], [1, 0]])
    def test_two_tabs_finish_in_any_order(self, browser: Browser, provider: LocalProvider, order: list[int]):
        """S5."""
        tabs = [browser.start(), browser.start()]
        for tab in order:
            assert browser.get(browser.consent(tabs[tab])).status_int == 303
        assert browser.profile().status_int == 200
        assert provider.count("token") == 2

    def test_a_tab_that_was_left_behind_does_not_disturb_the_others(self, browser: Browser):
        browser.start()
        browser.get(browser.callback_url(decision="deny"))
        browser.sign_in()
        assert browser.profile().status_int == 200

    def test_a_tab_that_fails_leaves_the_login_of_the_other_alone(self, browser: Browser, provider: LocalProvider):
        waiting = browser.start()
        browser.sign_in()
        assert browser.get(browser.consent(waiting, decision="deny")).status_int == 403
        assert browser.profile().status_int == 200


class TestASecondCopyOfACallback:
    """The back button, a reload, a double click: one token request, and no error for somebody who is signed in."""

    def test_leads_to_the_same_place(self, browser: Browser, provider: LocalProvider):
        callback = browser.callback_url("/reports")
        answers = [browser.get(callback) for _ in range(3)]
        assert [(answer.status_int, answer.location) for answer in answers] == [(303, "/reports")] * 3
        assert provider.count("token") == 1
        assert browser.profile().status_int == 200

    def test_leads_to_the_same_place_hours_later(self, browser: Browser, later: Callable[[float], None]):
        """A tab that is restored, the back button after a long read."""
        callback = browser.callback_url("/where?i=was")
        browser.get(callback)
        later(3 * 3600)
        assert browser.get(callback).location == "/where?i=was"
        later(3 * 3600)
        browser.sign_in()  # somebody else, perhaps
        assert browser.get(callback).status_int == 400

    def test_of_long_ago_makes_room_for_sign_ins_of_now(self, browser: Browser, later: Callable[[float], None]):
        finished = [browser.callback_url(f"/{number}") for number in range(30)]
        for callback in finished:
            browser.get(callback)
            browser.sign_in()
        later(3600)
        tabs = [browser.callback_url(f"/tab/{number}") for number in range(20)]
        assert [browser.get(tab).location for tab in tabs] == [f"/tab/{number}" for number in range(20)]

    def test_does_not_change_the_session_id_again(self, browser: Browser):
        callback = browser.callback_url()
        browser.get(callback)
        signed_in = browser.cookie
        assert "Set-Cookie" not in browser.get(callback).headers
        assert browser.cookie == signed_in

    def test_is_worth_nothing_to_who_shows_the_cookie_from_before(self, browser: Browser, provider: LocalProvider):
        """The old id opened nothing from the moment at which the new one was given (S36)."""
        callback = browser.callback_url()
        before = with_cookie(browser)
        browser.get(callback)
        browser.app.reset()
        response = browser.get(callback, headers={"Cookie": before})
        assert response.status_int == 400
        assert provider.count("token") == 1

    def test_of_a_sign_in_that_failed_fails_as_well(self, browser: Browser, provider: LocalProvider):
        provider.faults.add("token.500")
        callback = browser.callback_url()
        assert [browser.get(callback).status_int for _ in range(2)] == [502, 400]
        assert provider.count("token") == 1

    def test_of_a_sign_in_that_was_declined_fails_as_well(self, browser: Browser):
        callback = browser.callback_url(decision="deny")
        assert [browser.get(callback).status_int for _ in range(2)] == [403, 400]

    @pytest.mark.parametrize(("fault", "expected"), [("", [303, 303]), ("token.500", [400, 502])])
    def test_waits_for_the_first_one_and_shares_its_fate(self, fault: str, expected: list[int]):
        """The provider thinks, the user clicks again: nobody is told that the sign-in was lost."""
        provider, store = PausingProvider(), WatchedStore()
        with serve_provider(provider) as server, ThreadPoolExecutor() as threads:
            provider.server = server
            app = create_app(Config.from_environ(environ_for(provider)), store=store)
            browser = Browser(app, provider)
            callback = browser.callback_url("/reports")
            if fault:
                provider.faults.add(fault)
            query, headers = urlsplit(callback).query, {**HTML, "Cookie": with_cookie(browser)}
            first = threads.submit(send, app, "/callback", query=query, headers=headers)
            assert provider.asked.wait(10)
            store.changed.clear()
            second = threads.submit(send, app, "/callback", query=query, headers=headers)
            assert store.changed.wait(10)  # it has found out that the first one is at work
            provider.go_on.set()
            answers = [first.result(10), second.result(10)]
        assert sorted(answer.status_code for answer in answers) == expected
        assert provider.count("token") == 1
        if not fault:
            assert [answer.location for answer in answers] == ["/reports"] * 2
            assert "Set-Cookie" not in answers[1].headers


class PausingProvider(LocalProvider):
    """Thinks about a token request until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()

    def token(self, request: Any) -> Any:
        self.asked.set()
        assert self.go_on.wait(10)
        return super().token(request)


class WatchedStore(MemoryStore):
    """Says when something was changed in it."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Event()

    def update(self, *arguments: Any, **more: Any) -> bool:
        try:
            return super().update(*arguments, **more)
        finally:
            self.changed.set()


class TestNothingHappensAheadOfTime:
    """S16: what nobody clicked on consumes nothing."""

    def test_head_of_the_callback_consumes_nothing(self, browser: Browser, provider: LocalProvider):
        callback = browser.callback_url()
        response = browser.app.head(browser._local(callback), headers=HTML, status="*")
        assert response.status_int == 200
        assert provider.count("token") == 0
        assert browser.get(callback).status_int == 303

    def test_head_of_the_start_starts_nothing(self, application: Any, store: SessionStore):
        response = send(application, "/", method="HEAD", headers=HTML)
        assert response.status_code == 200
        assert "Set-Cookie" not in response.headers
        assert stored_sessions(store) == []

    @pytest.mark.parametrize("purpose", PREFETCHES)
    def test_a_prefetch_of_the_callback_consumes_nothing(
        self, browser: Browser, provider: LocalProvider, purpose: dict[str, str]
    ):
        callback = browser.callback_url()
        assert 400 <= browser.get(callback, headers=purpose).status_int < 500
        assert provider.count("token") == 0
        assert browser.get(callback).status_int == 303

    @pytest.mark.parametrize("purpose", PREFETCHES)
    def test_a_prefetch_of_the_start_starts_nothing(
        self, application: Any, store: SessionStore, purpose: dict[str, str]
    ):
        response = send(application, "/", headers={**HTML, **purpose})
        assert 400 <= response.status_code < 500
        assert "Set-Cookie" not in response.headers
        assert stored_sessions(store) == []

    @pytest.mark.parametrize("kind", ["image", "script", "style", "font", "video", "object", "embed"])
    def test_a_part_of_some_other_page_starts_nothing(self, application: Any, store: SessionStore, kind: str):
        """S43: a forum full of ``<img src="https://this.site/">`` fills no store."""
        headers = {"Accept": "*/*", "Sec-Fetch-Dest": kind, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "cross-site"}
        assert 400 <= send(application, "/", headers=headers).status_code < 500
        assert stored_sessions(store) == []

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    @pytest.mark.parametrize(
        "kind", [("empty", "no-cors"), ("empty", "cors"), ("iframe", "navigate"), ("frame", "navigate")], ids=" ".join
    )
    def test_a_script_or_a_frame_of_another_site_starts_nothing(
        self, application: Any, store: SessionStore, kind: tuple[str, str], site: str
    ):
        """S43: a page of a neighbour, whose requests carry our cookie, could push the sign-ins of all tabs out."""
        headers = {**HTML, "Sec-Fetch-Dest": kind[0], "Sec-Fetch-Mode": kind[1], "Sec-Fetch-Site": site}
        assert 400 <= send(application, "/", headers=headers).status_code < 500
        assert stored_sessions(store) == []
        assert send(application, "/", headers={**headers, "Sec-Fetch-Site": "same-origin"}).status_code == 302

    def test_a_flood_of_images_disturbs_no_tab(self, browser: Browser):
        """S43."""
        callback = browser.callback_url()
        for _ in range(100):
            browser.get("/", headers={"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"})
        assert browser.get(callback).status_int == 303


class TestMethods:
    @pytest.fixture
    def store(self) -> SessionStore:
        return MemoryStore()

    @pytest.mark.parametrize("route", ROUTES)
    def test_a_route_answers_the_methods_it_has_and_names_them_for_the_others(
        self, application: Any, provider: LocalProvider, route: str
    ):
        """S16, RFC 9110 10.2.1 and 15.5.6."""
        for method in METHODS:
            response = send(application, route, method=method, headers=HTML)
            assert (response.status_code == 405) == (method not in ROUTES[route]), method
            assert response.status_code < 500
            if response.status_code == 405:
                assert allowed(response) == ROUTES[route]
        assert provider.exchanges == []

    @pytest.mark.parametrize("route", ROUTES)
    def test_options_names_the_same_methods_and_has_no_body(self, application: Any, route: str, store: SessionStore):
        response = send(application, route, method="OPTIONS")
        assert (response.status_code, response.data) == (204, b"")
        assert allowed(response) == ROUTES[route]
        assert stored_sessions(store) == []

    def test_options_names_the_methods_of_all_handlers_of_a_route(self, make_browser: Callable[..., Browser]):
        class Read(RequestHandler):
            route = "/notes"

            def get(self, request):
                return self.jsonify([])

        class Write(RequestHandler):
            route = "/notes"

            def post(self, request):
                return self.jsonify([])

        browser = make_browser(handlers=(Read, Write))
        assert allowed(browser.app.options("/notes")) == {"GET", "HEAD", "POST", "OPTIONS"}

    @pytest.mark.parametrize("route", ["/notes", "/notes/<int:number>"])
    @pytest.mark.parametrize("reverse", [False, True], ids=["first", "last"])
    def test_a_handler_that_writes_its_own_options_answers_them_for_its_route(
        self, make_browser: Callable[..., Browser], route: str, reverse: bool
    ):
        class Read(RequestHandler):
            def get(self, request, **_):
                return self.jsonify([])

            def options(self, request, **_):
                return Response(headers={"Access-Control-Allow-Origin": "https://app.example"})

        class Write(RequestHandler):
            def post(self, request, **_):
                return self.jsonify([])

        Read.route = Write.route = route
        browser = make_browser(handlers=(Write, Read) if reverse else (Read, Write))
        answer = browser.app.options(route.replace("<int:number>", "7"))
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert browser.app.post(route.replace("<int:number>", "7")).json == []

    def test_no_method_but_get_consumes_a_callback(self, browser: Browser, application: Any, provider: LocalProvider):
        callback = browser.callback_url()
        cookie = {"Cookie": with_cookie(browser), **HTML}
        for method in [method for method in METHODS if method != "GET"]:
            send(application, "/callback", method=method, query=urlsplit(callback).query, headers=cookie)
        assert provider.count("token") == 0

    @pytest.mark.parametrize("route", [route for route, methods in ROUTES.items() if "HEAD" in methods])
    def test_head_has_the_status_and_no_body(self, browser: Browser, route: str):
        browser.sign_in()
        response = browser.app.head(route, headers=HTML, status="*")
        assert response.status_int == 200
        assert response.body == b""

    def test_head_of_the_profile_is_the_get_without_its_body(self, browser: Browser):
        browser.sign_in()
        got, headed = browser.get("/profile"), browser.app.head("/profile", headers=HTML)
        assert headed.headers["Content-Type"] == got.headers["Content-Type"]
        assert headed.headers["Content-Length"] == got.headers["Content-Length"]

    def test_a_trailing_slash_changes_nothing(self, browser: Browser):
        browser.sign_in()
        assert browser.get("/profile/").json == OCTOCAT

    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD", "BREW"])
    def test_what_has_no_route_is_not_found(self, application: Any, method: str, store: SessionStore):
        for path in ("/nothing", "/profile/more", "/callbacks", "/Profile", "/favicon.ico"):
            assert send(application, path, method=method, headers=HTML).status_code == 404, path
        assert stored_sessions(store) == []


class TestLogout:
    def test_it_shows_a_page_that_does_not_sign_in_again_by_itself(self, browser: Browser, provider: LocalProvider):
        browser.sign_in()
        response = browser.post("/logout")
        assert response.status_int == 200
        assert "signed out" in response.text
        assert "refresh" not in response.text.lower()
        assert provider.count("authorize") == 1

    def test_it_answers_a_program_in_json(self, browser: Browser):
        browser.sign_in()
        answer = browser.post("/logout", headers=JSON).json
        assert answer["cause"] == "signed_out"
        assert answer["login_url"] == "http://localhost/"

    def test_its_address_has_a_button_for_whoever_opens_it_like_a_page(self, browser: Browser):
        """S41: that alone changes nothing."""
        browser.sign_in()
        page = browser.get("/logout")
        assert (page.status_int, allowed(page)) == (405, {"OPTIONS", "POST"})
        assert browser.profile().status_int == 200
        assert "logout_url" not in browser.get("/logout", headers=JSON).json
        page.form.submit(headers={"Sec-Fetch-Site": "same-origin"})
        assert browser.profile().status_int == 401

    def test_a_page_of_ones_own_at_its_address_is_not_taken_for_it(self, make_browser: Callable[..., Browser]):
        class Question(RequestHandler):
            route = "/logout"

            def get(self, request):
                raise Gone("nothing to ask")

        page = make_browser(handlers=(Question,)).get("/logout")
        assert (page.status_int, "nothing to ask" in page.text, "<button>" in page.text) == (410, True, False)

    def test_it_ends_the_session_of_one_browser_alone(self, make_browser: Callable[..., Browser]):
        one, other = make_browser(), make_browser()
        one.sign_in()
        other.sign_in()
        one.post("/logout")
        assert (one.profile().status_int, other.profile().status_int) == (401, 200)


class TestHealth:
    @pytest.fixture
    def store(self) -> SessionStore:
        return MemoryStore()

    @pytest.mark.parametrize("route", ["/healthz", "/readyz"])
    @pytest.mark.parametrize("host", ["localhost", "10.0.0.7:8000", "probe.internal"])
    def test_a_probe_is_answered_under_any_name_without_session_or_provider(
        self, application: Any, provider: LocalProvider, store: SessionStore, route: str, host: str
    ):
        response = send(application, route, HTTP_HOST=host)
        assert response.status_code == 200
        assert "Set-Cookie" not in response.headers
        assert (stored_sessions(store), provider.exchanges) == ([], [])


# Handlers of one's own, as the README shows them.


class Repos(RequestHandler):
    """Ten lines that call the provider's API with the user's token."""

    route = "/repos"

    def get(self, request):
        github = self.oauth2_session(token=request.session["oauth_token"])
        user = github.get_json(self.provider.profile_url)
        return self.jsonify({"seen_by": user["login"], "sort": request.args.get("sort")})


class Greeting(RequestHandler):
    """For whoever is signed in, and knows who that is."""

    route = "/greeting"

    def get(self, request):
        return self.jsonify({"id": self.identity.id, "username": self.identity.username})

    def post(self, request):
        return self.jsonify({"forgotten": bool(request.session.pop("oauth_token"))})


class Notes(RequestHandler):
    route = "/notes/<int:number>"
    endpoint = "note"

    def get(self, request, number):
        return self.jsonify({"note": request.session.get("notes", {}).get(str(number))})

    def post(self, request, number):
        notes = request.session.get("notes", {})
        request.session["notes"] = {**notes, str(number): request.form["text"]}
        return self.redirect(self.url_for(".note", number=number), 303)

    def delete(self, request, number):
        del request.session["notes"]
        return self.jsonify({"deleted": number})


class Links(RequestHandler):
    route = "/links"

    def get(self, request):
        return self.jsonify(
            [self.url_for(".profile"), self.url_for("note", number=7), self.url_for(".callback", external=True)]
        )


class Forgetful(RequestHandler):
    route = "/forgetful"

    def get(self, request):
        return {"forgot": "to make a response"}


class Counted(RequestHandler):
    """One response for everybody, made once."""

    route = "/counted"
    response = Response("counted", headers={"Cache-Control": "public, max-age=60"})

    def get(self, request):
        request.session["count"] = request.session.get("count", 0) + 1
        return self.response


CACHES = (
    "Cache-Control",
    "CDN-Cache-Control",
    "Cloudflare-CDN-Cache-Control",
    "Surrogate-Control",
    "Edge-Control",
    "X-Accel-Expires",
)


class Made(RequestHandler):
    """What a handler may do with a response before it returns it."""

    route = "/made/<how>"
    closed: ClassVar[list[str]] = []

    def get(self, request, how):
        response = self.jsonify({})
        if how == "appended":
            response.stream.write("é")
        elif how == "parts":
            response.response = ["{}\n", "é"]
            del response.headers["Content-Length"]
        elif how == "elsewhere":
            response = self.redirect("/x")
            response.response = ["{}\n", "é"]
        elif how == "generated":
            response.response = self.chunks()
            del response.headers["Content-Length"]
        elif how == "closing":
            response.call_on_close(lambda: self.closed.append(how))
        elif how == "unchanged":
            response.status_code = 304
        elif how == "nowhere":
            return Response(status=302, headers={"Location": "http://[::1/"})
        elif how == "kept":
            request.session["kept"] = True
            for header in CACHES:
                response.headers[header] = "public, max-age=60"
            response.expires = datetime(2100, 1, 1, tzinfo=timezone.utc)
        return response

    def chunks(self):
        try:
            yield "{}\n"
            yield "é"
        finally:
            self.closed.append("generator")


class TestHandlersOfOnesOwn:
    @pytest.fixture
    def store(self) -> SessionStore:
        return MemoryStore()

    @pytest.fixture
    def browser(self, make_browser: Callable[..., Browser]) -> Browser:
        return make_browser(handlers=(Repos, Greeting, Notes, Links, Forgetful, Counted))

    def test_they_call_the_provider_with_the_users_token(self, browser: Browser):
        browser.sign_in()
        assert browser.get("/repos?sort=name").json == {"seen_by": "octocat", "sort": "name"}

    def test_they_ask_for_a_sign_in_by_asking_for_the_token(self, browser: Browser):
        assert browser.get("/repos").status_int == 302
        response = browser.get("/repos", headers=JSON)
        assert (response.status_int, response.json["error"]) == (401, "not_signed_in")

    def test_they_know_who_is_signed_in(self, browser: Browser, provider: LocalProvider):
        assert parameters(browser.get("/greeting").location)["next"] == "/greeting"
        assert browser.get("/greeting", headers=JSON).status_int == 401
        browser.sign_in()
        before = provider.count("profile")
        for _ in range(3):
            answer = browser.get("/greeting").json
            assert (answer["id"].rpartition(":")[2], answer["username"]) == ("583231", "octocat")
        assert provider.count("profile") == before + 1

    def test_they_know_nobody_without_a_token(self, browser: Browser):
        browser.sign_in()
        assert browser.get("/greeting").status_int == 200
        assert browser.post("/greeting").json == {"forgotten": True}
        assert browser.get("/greeting", headers=JSON).status_int == 401

    def test_they_can_use_the_session_without_any_sign_in(self, browser: Browser):
        response = browser.post("/notes/7", params={"text": "héllo"})
        assert (response.status_int, response.location) == (303, "/notes/7")
        assert browser.get("/notes/7").json == {"note": "héllo"}

    def test_what_they_remember_survives_the_sign_in(self, browser: Browser):
        browser.post("/notes/7", params={"text": "hello"})
        browser.sign_in()
        assert browser.get("/notes/7").json == {"note": "hello"}

    def test_they_have_the_methods_that_they_write(self, browser: Browser):
        assert allowed(browser.app.options("/notes/7")) == {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}
        assert allowed(browser.app.put("/notes/7", status=405)) == {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}
        browser.post("/notes/7", params={"text": "hello"})
        assert browser.app.delete("/notes/7").json == {"deleted": 7}

    def test_routes_have_werkzeugs_syntax(self, browser: Browser):
        assert browser.get("/notes/seven").status_int == 404

    def test_url_for_knows_all_of_them(self, browser: Browser):
        assert browser.get("/links").json == ["/profile", "/notes/7", "http://localhost/callback"]

    def test_one_that_returns_no_response_is_told_so_in_the_log(
        self, browser: Browser, caplog: pytest.LogCaptureFixture
    ):
        assert browser.get("/forgetful").status_int == 500
        assert "self.jsonify" in caplog.text

    def test_one_response_for_everybody_gives_nobody_the_cookie_of_another(self, make_browser: Callable[..., Browser]):
        """S39, S45"""
        one, other = make_browser(handlers=(Counted,)), make_browser(handlers=(Counted,))
        cookies = [browser.get("/counted").headers.getall("Set-Cookie") for browser in (one, other)]
        assert [len(each) for each in cookies] == [1, 1]
        assert cookies[0] != cookies[1]
        again = one.get("/counted")
        assert "Set-Cookie" not in again.headers
        assert Counted.response.headers["Cache-Control"] == again.headers["Cache-Control"] == "public, max-age=60"

    @pytest.mark.parametrize("path", ["/made/appended", "/made/parts", "/made/elsewhere"])
    def test_a_response_is_sent_as_its_handler_has_left_it(self, make_browser: Callable[..., Browser], path: str):
        browser = make_browser(handlers=(Made,))
        response = browser.get(path)
        assert (response.body, response.headers["Content-Length"]) == ("{}\né".encode(), "5")
        assert browser.app.head(path).body == b""

    @pytest.mark.parametrize(
        ("location", "sent"),
        [
            ("https://other.example/a?b=c&d=%20#e", "https://other.example/a?b=c&d=%20#e"),
            ("/a b", "/a%20b"),
            ("/a\r\nSet-Cookie: b=c", "/a%0D%0ASet-Cookie:%20b=c"),
            ("/ä", "/%C3%A4"),
            ("", ""),
        ],
    )
    def test_a_redirect_goes_where_the_handler_says_with_what_no_url_can_hold_encoded(
        self, make_browser: Callable[..., Browser], location: str, sent: str
    ):
        class Elsewhere(RequestHandler):
            route = "/elsewhere"

            def get(self, request):
                return self.redirect(location)

        response = make_browser(handlers=(Elsewhere,)).get("/elsewhere")
        assert response.headers["Location"] == sent
        assert response.headers["Content-Length"] == "0"

    def test_a_body_that_is_generated_is_sent_and_closed(self, make_browser: Callable[..., Browser]):
        Made.closed.clear()
        assert make_browser(handlers=(Made,)).get("/made/generated").body == "{}\né".encode()
        assert Made.closed == ["generator"]

    def test_what_a_response_calls_when_it_is_closed_is_called(self, make_browser: Callable[..., Browser]):
        Made.closed.clear()
        make_browser(handlers=(Made,)).get("/made/closing")
        assert Made.closed == ["closing"]

    def test_a_status_that_has_no_body_is_sent_without(self, make_browser: Callable[..., Browser]):
        assert make_browser(handlers=(Made,)).get("/made/unchanged").body == b""

    def test_a_location_that_is_none_is_a_page_of_ours_and_signs_nobody_out(
        self, make_browser: Callable[..., Browser], caplog: pytest.LogCaptureFixture
    ):
        browser = make_browser(handlers=(Made,))
        browser.sign_in()
        response = browser.get("/made/nowhere")
        assert (response.status_int, response.content_type) == (500, "text/html")
        assert "/made/nowhere" in caplog.text
        assert browser.profile().status_int == 200

    @pytest.mark.parametrize("header", [*CACHES, "Expires"])
    def test_no_cache_is_told_to_keep_an_answer_with_a_cookie(self, make_browser: Callable[..., Browser], header: str):
        """S45"""
        response = make_browser(handlers=(Made,)).get("/made/kept")
        assert "Set-Cookie" in response.headers
        assert response.headers.get(header, "no-store") == "no-store"

    def test_head_needs_no_method_of_its_own(self, browser: Browser):
        response = browser.app.head("/links")
        assert (response.status_int, response.body) == (200, b"")

    def test_applications_share_nothing(self, provider: LocalProvider):
        """Two in one process, with stores and handlers of their own."""
        one, other = (
            Browser(create_app(Config.from_environ(environ_for(provider)), handlers=handlers), provider)
            for handlers in [(Links, Notes), ()]
        )
        assert (one.get("/links").status_int, other.get("/links").status_int) == (200, 404)
        one.sign_in()
        response = other.get("/profile", headers={**JSON, "Sec-Fetch-Mode": "cors", "Cookie": with_cookie(one)})
        assert response.status_int == 401


class TestHtmlOrJson:
    @pytest.fixture
    def store(self) -> SessionStore:
        return MemoryStore()

    @pytest.mark.parametrize(
        ("accept", "kind"),
        [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
            ("application/json", "application/json"),
            ("application/json, text/plain, */*", "application/json"),
            ("application/json;q=0.5, text/html", "text/html"),
            ("text/html;q=0.5, application/json", "application/json"),
            ("*/*", "text/html"),
            ("", "text/html"),
            ("image/png", "text/html"),
            ("nonsense", "text/html"),
        ],
    )
    @pytest.mark.parametrize("path", ["/callback", "/nothing"])
    def test_an_error_is_what_the_client_asks_for(self, application: Any, path: str, accept: str, kind: str):
        """RFC 9110 12.5.1."""
        response = send(application, path, headers={"Accept": accept} if accept else {})
        assert response.mimetype == kind

    def test_both_say_the_same(self, application: Any):
        page, document = (send(application, "/callback", headers=headers) for headers in (HTML, JSON))
        assert page.status_code == document.status_code == 400
        assert document.get_json()["title"] in page.get_data(as_text=True)


def test_the_profile_is_passed_on_as_it_is(provider: LocalProvider, browser: Browser):
    """Unicode and all: the provider's document, not a selection of it."""
    provider.user = {**OCTOCAT, "name": "Mønä 🐙", "plan": {"space": 1e3, "private": None}, "bio": "<b>&</b>"}
    browser.sign_in()
    assert browser.profile().json == provider.user


def test_half_a_character_in_the_profile_is_no_failure_of_ours(provider: LocalProvider, browser: Browser):
    """JSON can spell a lone surrogate (RFC 8259 8.2), and UTF-8 cannot."""
    provider.user = {**OCTOCAT, "name": "half \ud83d"}
    browser.sign_in()
    assert browser.profile().status_int in {200, 502}


def test_a_very_long_path_is_not_found_and_not_remembered(browser: Browser):
    path = "/" + "x" * 7000
    assert browser.get(path).status_int == 404
    assert browser.sign_in(path).location == "/profile"


@pytest.mark.parametrize(("name", "path"), [("Profile", "/me"), ("Mine", "/profile"), ("Logout", "/leave")])
def test_a_handler_does_not_take_the_place_of_another_unseen(name: str, path: str, make_browser):
    """By its name, which url_for looks up, or by its route."""
    handler = type(name, (RequestHandler,), {"route": path, "get": lambda self, request: None})
    with pytest.raises(ValueError, match=name):
        make_browser(handlers=(handler,))


def test_two_handlers_do_not_both_write_the_options_of_a_route(make_browser):
    members = {"route": "/notes", "options": lambda self, request: None}
    handlers = tuple(type(name, (RequestHandler,), members) for name in ("One", "Another"))
    with pytest.raises(ValueError, match="Another"):
        make_browser(handlers=handlers)


@pytest.mark.parametrize("header", ["Sec-Purpose", "Purpose", "X-Moz", "X-Purpose"])
@pytest.mark.parametrize("value", ["prefetch", "Prefetch", "preview", "prefetch;prerender"])
def test_a_prefetch_by_any_name_starts_nothing(browser, header: str, value: str):
    """S16"""
    assert browser.get("/", headers={header: value}).status_int == 403
    assert browser.cookie is None


@pytest.mark.parametrize("route", ["repos", "", "repos/<owner>", "/repos/<owner", "/repos/<unknown:owner>"])
def test_a_route_that_is_none_stops_the_start(route: str, make_browser):
    handler = type("Repos", (RequestHandler,), {"route": route, "get": lambda self, request, owner="": None})
    with pytest.raises((ValueError, LookupError)):
        make_browser(handlers=(handler,))
