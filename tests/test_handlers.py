"""Routing, methods and handlers: which requests reach which handler, and how its response is sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from conftest import HTML, JSON, Browser, environ_for, parameters, send, stored_sessions
from werkzeug import Response

from wsgi_oauth import Config, RequestHandler, SessionStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider

OCTOCAT = {"id": 583231, "login": "octocat", "name": "Mona Lisa Octocat", "email": "octocat@example.com"}
ROUTES = {
    "/": {"GET", "HEAD", "POST", "OPTIONS"},  # POST: another site starts a sign-in
    "/callback": {"GET", "HEAD", "OPTIONS"},
    "/profile": {"GET", "HEAD", "OPTIONS"},
    "/logout": {"GET", "HEAD", "POST", "OPTIONS"},
    "/healthz": {"GET", "HEAD", "OPTIONS"},
    "/readyz": {"GET", "HEAD", "OPTIONS"},
}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "BREW"]


def allowed(response: Any) -> set[str]:
    return set(response.headers["Allow"].replace(" ", "").split(","))


class TestMethods:
    @pytest.mark.parametrize("route", ROUTES)
    def test_route_answers_its_methods_and_lists_them_for_others(
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
    def test_options_lists_the_methods_without_a_body(self, application: Any, route: str, store: SessionStore):
        response = send(application, route, method="OPTIONS")
        assert (response.status_code, response.data) == (204, b"")
        assert allowed(response) == ROUTES[route]
        assert stored_sessions(store) == []

    def test_options_lists_the_methods_of_all_handlers_of_a_route(self, make_browser: Callable[..., Browser]):
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
    def test_handler_can_answer_options_itself(self, make_browser: Callable[..., Browser], route: str, reverse: bool):
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
        """S16."""
        callback = browser.callback_url()
        cookie = {"Cookie": f"wsgi_oauth={browser.cookie}", **HTML}
        for method in [method for method in METHODS if method != "GET"]:
            send(application, "/callback", method=method, query=urlsplit(callback).query, headers=cookie)
        assert provider.count("token") == 0

    @pytest.mark.parametrize("route", [route for route, methods in ROUTES.items() if "HEAD" in methods])
    def test_head_has_the_status_and_no_body(self, browser: Browser, route: str):
        browser.sign_in()
        response = browser.app.head(route, headers=HTML, status="*")
        assert response.status_int == 200
        assert response.body == b""

    def test_head_of_the_profile_has_the_headers_of_get(self, browser: Browser):
        browser.sign_in()
        got, headed = browser.get("/profile"), browser.app.head("/profile", headers=HTML)
        assert headed.headers["Content-Type"] == got.headers["Content-Type"]
        assert headed.headers["Content-Length"] == got.headers["Content-Length"]

    def test_trailing_slash_is_ignored(self, browser: Browser):
        browser.sign_in()
        assert browser.get("/profile/", headers=JSON).json == OCTOCAT

    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD", "BREW"])
    def test_unknown_path_is_not_found(self, application: Any, method: str, store: SessionStore):
        for path in ("/nothing", "/profile/more", "/callbacks", "/Profile", "/favicon.ico", "/" + "x" * 7000):
            assert send(application, path, method=method, headers=HTML).status_code == 404, path
        assert stored_sessions(store) == []


class TestProbes:
    @pytest.mark.parametrize("route", ["/healthz", "/readyz"])
    @pytest.mark.parametrize("host", ["localhost", "10.0.0.7:8000", "probe.internal"])
    def test_probe_is_answered_under_any_host_without_session_or_provider(
        self, application: Any, provider: LocalProvider, store: SessionStore, route: str, host: str
    ):
        response = send(application, route, HTTP_HOST=host)
        assert response.status_code == 200
        assert "Set-Cookie" not in response.headers
        assert (stored_sessions(store), provider.exchanges) == ([], [])

    def test_options_of_a_probe_are_answered_under_any_host_and_those_of_a_page_are_not(self, application: Any):
        statuses = [
            send(application, route, method="OPTIONS", HTTP_HOST="probe.internal").status_code
            for route in ("/healthz", "/readyz", "/profile", "/logout")
        ]
        assert statuses == [204, 204, 400, 400]


# Handlers of an application, as in the README


class Repos(RequestHandler):
    """Calls the provider's API with the user's token, as in the README."""

    route = "/repos"

    def get(self, request):
        github = self.oauth2_session(token=request.session["oauth_token"])
        user = github.get_json(self.provider.profile_url)
        return self.jsonify({"seen_by": user["login"], "sort": request.args.get("sort")})


class Greeting(RequestHandler):
    """Needs a signed-in user and reads the identity."""

    route = "/greeting"

    def get(self, request):
        return self.jsonify(id=self.identity.id, username=self.identity.username)

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
    """Returns the same response object to all users."""

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
    """Changes its response in the way that the path names."""

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


class TestOwnHandlers:
    @pytest.fixture
    def browser(self, make_browser: Callable[..., Browser]) -> Browser:
        return make_browser(handlers=(Repos, Greeting, Notes, Links, Forgetful, Counted))

    def test_can_call_the_provider_with_the_users_token(self, browser: Browser):
        browser.sign_in()
        assert browser.get("/repos?sort=name").json == {"seen_by": "octocat", "sort": "name"}

    def test_require_a_sign_in_by_reading_the_token(self, browser: Browser):
        assert browser.get("/repos").status_int == 302
        response = browser.get("/repos", headers=JSON)
        assert (response.status_int, response.json["error"]) == (401, "not_signed_in")

    def test_can_read_the_identity_which_is_fetched_once(self, browser: Browser, provider: LocalProvider):
        assert parameters(browser.get("/greeting").location)["next"] == "/greeting"
        assert browser.get("/greeting", headers=JSON).status_int == 401
        browser.sign_in()
        before = provider.count("profile")
        for _ in range(3):
            answer = browser.get("/greeting").json
            assert (answer["id"].partition("@")[0], answer["username"]) == ("583231", "octocat")
        assert provider.count("profile") == before + 1

    def test_have_no_identity_after_deleting_the_token(self, browser: Browser):
        browser.sign_in()
        assert browser.get("/greeting").status_int == 200
        assert browser.post("/greeting").json == {"forgotten": True}
        assert browser.get("/greeting", headers=JSON).status_int == 401

    def test_can_use_the_session_of_an_anonymous_user(self, browser: Browser):
        response = browser.post("/notes/7", params={"text": "héllo"})
        assert (response.status_int, response.location) == (303, "/notes/7")
        assert browser.get("/notes/7").json == {"note": "héllo"}

    def test_keep_the_data_of_an_anonymous_session_after_the_sign_in(self, browser: Browser):
        browser.post("/notes/7", params={"text": "hello"})
        browser.sign_in()
        assert browser.get("/notes/7").json == {"note": "hello"}

    def test_answer_exactly_the_methods_that_they_define(self, browser: Browser):
        assert allowed(browser.app.options("/notes/7")) == {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}
        assert allowed(browser.app.put("/notes/7", status=405)) == {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}
        browser.post("/notes/7", params={"text": "hello"})
        assert browser.app.delete("/notes/7").json == {"deleted": 7}

    def test_use_the_route_syntax_of_werkzeug(self, browser: Browser):
        assert browser.get("/notes/seven").status_int == 404

    def test_can_build_urls_of_all_handlers(self, browser: Browser):
        assert browser.get("/links").json == ["/profile", "/notes/7", "http://localhost/callback"]

    def test_wrong_return_type_is_explained_in_the_log(self, browser: Browser, caplog: pytest.LogCaptureFixture):
        assert browser.get("/forgetful").status_int == 500
        assert "self.jsonify" in caplog.text

    def test_shared_response_never_carries_another_users_cookie(self, make_browser: Callable[..., Browser]):
        """S39, S45"""
        one, other = make_browser(handlers=(Counted,)), make_browser(handlers=(Counted,))
        cookies = [browser.get("/counted").headers.getall("Set-Cookie") for browser in (one, other)]
        assert [len(each) for each in cookies] == [1, 1]
        assert cookies[0] != cookies[1]
        again = one.get("/counted")
        assert "Set-Cookie" not in again.headers
        assert Counted.response.headers["Cache-Control"] == again.headers["Cache-Control"] == "public, max-age=60"

    @pytest.mark.parametrize("path", ["/made/appended", "/made/parts", "/made/elsewhere"])
    def test_changed_body_is_sent_with_the_right_length(self, make_browser: Callable[..., Browser], path: str):
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
    def test_redirect_percent_encodes_invalid_characters(
        self, make_browser: Callable[..., Browser], location: str, sent: str
    ):
        class Elsewhere(RequestHandler):
            route = "/elsewhere"

            def get(self, request):
                return self.redirect(location)

        response = make_browser(handlers=(Elsewhere,)).get("/elsewhere")
        assert response.headers["Location"] == sent
        assert response.headers["Content-Length"] == "0"

    def test_generated_body_is_sent_and_closed(self, make_browser: Callable[..., Browser]):
        Made.closed.clear()
        assert make_browser(handlers=(Made,)).get("/made/generated").body == "{}\né".encode()
        assert Made.closed == ["generator"]

    def test_close_callback_of_a_response_is_called(self, make_browser: Callable[..., Browser]):
        Made.closed.clear()
        make_browser(handlers=(Made,)).get("/made/closing")
        assert Made.closed == ["closing"]

    def test_status_304_has_no_body(self, make_browser: Callable[..., Browser]):
        assert make_browser(handlers=(Made,)).get("/made/unchanged").body == b""

    def test_invalid_location_is_an_internal_error_and_keeps_the_session(
        self, make_browser: Callable[..., Browser], caplog: pytest.LogCaptureFixture
    ):
        browser = make_browser(handlers=(Made,))
        browser.sign_in()
        response = browser.get("/made/nowhere")
        assert (response.status_int, response.content_type) == (500, "text/html")
        assert "/made/nowhere" in caplog.text
        assert browser.profile().status_int == 200

    @pytest.mark.parametrize("header", [*CACHES, "Expires"])
    def test_response_with_a_cookie_is_never_cacheable(self, make_browser: Callable[..., Browser], header: str):
        """S45"""
        response = make_browser(handlers=(Made,)).get("/made/kept")
        assert "Set-Cookie" in response.headers
        assert response.headers.get(header, "no-store") == "no-store"

    def test_get_also_answers_head(self, browser: Browser):
        response = browser.app.head("/links")
        assert (response.status_int, response.body) == (200, b"")

    def test_two_applications_in_one_process_share_nothing(self, provider: LocalProvider):
        one, other = (
            Browser(create_app(Config.from_environ(environ_for(provider)), handlers=handlers), provider)
            for handlers in [(Links, Notes), ()]
        )
        assert (one.get("/links").status_int, other.get("/links").status_int) == (200, 404)
        one.sign_in()
        response = other.get(
            "/profile", headers={**JSON, "Sec-Fetch-Mode": "cors", "Cookie": f"wsgi_oauth={one.cookie}"}
        )
        assert response.status_int == 401


class TestInvalidHandlers:
    @pytest.mark.parametrize(("name", "path"), [("Profile", "/me"), ("Mine", "/profile"), ("Logout", "/leave")])
    def test_duplicate_endpoint_or_route_stops_the_start(self, name: str, path: str, make_browser):
        """By its name, which url_for looks up, or by its route."""
        handler = type(name, (RequestHandler,), {"route": path, "get": lambda self, request: None})
        with pytest.raises(ValueError, match=name):
            make_browser(handlers=(handler,))

    def test_two_options_methods_for_one_route_stop_the_start(self, make_browser):
        members = {"route": "/notes", "options": lambda self, request: None}
        handlers = tuple(type(name, (RequestHandler,), members) for name in ("One", "Another"))
        with pytest.raises(ValueError, match="Another"):
            make_browser(handlers=handlers)

    @pytest.mark.parametrize("route", ["repos", "", "repos/<owner>", "/repos/<owner", "/repos/<unknown:owner>"])
    def test_invalid_route_stops_the_start(self, route: str, make_browser):
        handler = type("Repos", (RequestHandler,), {"route": route, "get": lambda self, request, owner="": None})
        with pytest.raises((ValueError, LookupError)):
            make_browser(handlers=(handler,))

    def test_incomplete_handler_stops_the_start_with_its_name(self, make_browser):
        def get(self: RequestHandler, request: object) -> None: ...

        for name, bases, members, problem in (
            ("Repos", (RequestHandler,), {"get": get}, r"Repos\.route: missing"),
            ("Repos", (RequestHandler,), {"route": "/repos", "GET": get}, "Repos: has no method"),
            ("Repos", (), {"route": "/repos", "get": get}, "must be subclasses of RequestHandler .*Repos"),
        ):
            with pytest.raises(TypeError, match=problem):
                make_browser(handlers=(type(name, bases, members),))
        with pytest.raises(TypeError, match=r"handlers: must be a collection of classes .*; write handlers=\[\.\.\.\]"):
            make_browser(handlers=RequestHandler)


class TestContentNegotiation:
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
    def test_error_has_the_requested_type(self, application: Any, path: str, accept: str, kind: str):
        """RFC 9110 12.5.1."""
        response = send(application, path, headers={"Accept": accept} if accept else {})
        assert response.mimetype == kind

    def test_html_and_json_have_the_same_title(self, application: Any):
        page, document = (send(application, "/callback", headers=headers) for headers in (HTML, JSON))
        assert page.status_code == document.status_code == 400
        assert document.get_json()["title"] in page.get_data(as_text=True)


def test_profile_is_passed_on_unchanged(provider: LocalProvider, browser: Browser):
    provider.user = {**OCTOCAT, "name": "Mønä 🐙", "plan": {"space": 1e3, "private": None}, "bio": "<b>&</b>"}
    browser.sign_in()
    assert browser.profile().json == provider.user


def test_lone_surrogate_in_the_profile_is_no_internal_error(provider: LocalProvider, browser: Browser):
    """JSON can encode a lone surrogate (RFC 8259 8.2), but UTF-8 cannot."""
    provider.user = {**OCTOCAT, "name": "half \ud83d"}
    browser.sign_in()
    assert browser.profile().status_int in {200, 502}
