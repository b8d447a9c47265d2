"""In other people's stacks: mounted in a framework's application, around it, and both below somebody else's prefix."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import bottle
import falcon
import flask
import pytest
from conftest import HTML, JSON, Browser, environ_for, parameters, send
from pyramid.config import Configurator
from pyramid.response import Response as PyramidResponse
from pyramid.wsgi import wsgiapp2
from werkzeug import Response
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from wsgi_oauth import Config, LoginRequired, MemoryStore, create_app, current_identity, oauth2_session
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

App = Callable[[Any, Any], Any]
PUBLIC = "https://app.example.com"


# -- the same little application in each framework: /page says who is there, /refused is a 401, /forbidden a 403 -------


def of_flask() -> Any:
    app = flask.Flask("stack")
    app.add_url_rule("/page", view_func=lambda: greeting(flask.request.environ), endpoint="page")
    app.add_url_rule("/refused", view_func=lambda: flask.abort(401), endpoint="refused")
    app.add_url_rule("/forbidden", view_func=lambda: flask.abort(403), endpoint="forbidden")
    app.add_url_rule("/chunks", view_func=lambda: flask.Response(iter(["a", "b"])), endpoint="chunks")
    return app


def of_bottle() -> Any:
    app = bottle.Bottle()
    app.route("/page", callback=lambda: greeting(bottle.request.environ))
    app.route("/refused", callback=lambda: bottle.abort(401))
    app.route("/forbidden", callback=lambda: bottle.abort(403))
    app.route("/chunks", callback=lambda: iter(["a", "b"]))
    return app


def of_falcon() -> Any:
    class Page:
        def on_get(self, request: Any, response: Any) -> None:
            response.text = greeting(request.env)

    class Refused:
        def on_get(self, request: Any, response: Any) -> None:
            raise falcon.HTTPUnauthorized

    class Forbidden:
        def on_get(self, request: Any, response: Any) -> None:
            raise falcon.HTTPForbidden

    class Chunks:
        def on_get(self, request: Any, response: Any) -> None:
            response.stream = iter([b"a", b"b"])

    app = falcon.App()
    for path, resource in {
        "/page": Page(),
        "/refused": Refused(),
        "/forbidden": Forbidden(),
        "/chunks": Chunks(),
    }.items():
        app.add_route(path, resource)
    return app


def of_pyramid(mounted: App | None = None, prefix: str = "") -> Any:
    config = Configurator()
    views = {
        "/page": lambda request: PyramidResponse(greeting(request.environ)),
        "/refused": lambda request: PyramidResponse(status=401),
        "/forbidden": lambda request: PyramidResponse(status=403),
        "/chunks": lambda request: PyramidResponse(app_iter=iter([b"a", b"b"])),
    }
    for path, view in views.items():
        config.add_route(path, path)
        config.add_view(view, route_name=path)
    if mounted:
        config.add_route("mounted", f"{prefix}/*subpath")
        config.add_view(wsgiapp2(mounted), route_name="mounted")
    return config.make_wsgi_app()


@functools.cache
def of_django() -> Any:
    """One for all tests: Django's settings belong to the process."""
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    urls = [
        path("page", lambda request: HttpResponse(greeting(request.META))),
        path("refused", lambda request: HttpResponse(status=401)),
        path("forbidden", lambda request: HttpResponse(status=403)),
        path("chunks", lambda request: StreamingHttpResponse(iter([b"a", b"b"]))),
    ]
    settings.configure(ROOT_URLCONF=tuple(urls), ALLOWED_HOSTS=["*"], SECRET_KEY="x", USE_TZ=True)
    return get_wsgi_application()


def of_nobody() -> Any:
    pages: dict[str, App] = {
        "/page": lambda environ, start_response: Response(greeting(environ))(environ, start_response),
        "/refused": Response(status=401),
        "/forbidden": Response(status=403),
        "/chunks": Response(iter(["a", "b"])),
    }
    return lambda environ, start_response: pages[environ["PATH_INFO"]](environ, start_response)


def greeting(environ: Any) -> str:
    identity = current_identity(environ)
    return f"{environ['REMOTE_USER']} {identity and identity.username} {environ['QUERY_STRING']}"


FRAMEWORKS = {
    "Flask": of_flask,
    "Django": of_django,
    "Pyramid": of_pyramid,
    "Bottle": of_bottle,
    "Falcon": of_falcon,
    "no framework": of_nobody,
}


# -- ways to mount an application below a prefix ----------------------------------------------------------------------


def in_flask(app: App, prefix: str) -> App:
    stack = of_flask()
    stack.wsgi_app = DispatcherMiddleware(stack.wsgi_app, {prefix: app})
    return stack


def in_bottle(app: App, prefix: str) -> App:
    stack = of_bottle()
    stack.mount(f"{prefix}/", app)
    return stack


def in_pyramid(app: App, prefix: str) -> App:
    return of_pyramid(app, prefix)


def beside(framework: Callable[[], App]) -> Callable[[App, str], App]:
    return lambda app, prefix: DispatcherMiddleware(framework(), {prefix: app})


def nested_twice(app: App, prefix: str) -> App:
    outer, _, inner = prefix.removeprefix("/").partition("/")
    return DispatcherMiddleware(of_nobody(), {f"/{outer}": DispatcherMiddleware(of_nobody(), {f"/{inner}": app})})


MOUNTS: dict[str, tuple[Callable[[App, str], App], str]] = {
    "in Flask": (in_flask, "/login"),
    "beside Django": (beside(of_django), "/login"),
    "in Pyramid by wsgiapp2": (in_pyramid, "/login"),
    "in Bottle by mount": (in_bottle, "/login"),
    "beside Falcon": (beside(of_falcon), "/login"),
    "twice": (nested_twice, "/a/b"),
}


@pytest.fixture
def oauth_app(provider: LocalProvider) -> App:
    return create_app(Config.from_environ(environ_for(provider)), store=MemoryStore())


def sign_in(browser: Browser, path: str, prefix: str) -> str:
    """Ask for *path*, sign in below *prefix*, come back; return what is there."""
    to_sign_in = browser.get(path)
    assert (to_sign_in.status_int, urlsplit(to_sign_in.location).path) == (302, f"{prefix}/")
    assert parameters(to_sign_in.location)["next"] == path
    started = browser.get(to_sign_in.location)
    assert parameters(started.location)["redirect_uri"] == f"http://localhost{prefix}/callback"
    done = browser.get(browser.consent(started.location))
    assert (done.status_int, done.location.removeprefix("http://localhost")) == (303, path)
    text: str = browser.get(path).text
    return text


@pytest.mark.parametrize("mount", MOUNTS)
class TestMounted:
    """The sign-in itself, below a prefix of somebody else's application."""

    def test_the_whole_dance_works(self, mount: str, oauth_app: App, provider: LocalProvider):
        into, prefix = MOUNTS[mount]
        browser = Browser(into(oauth_app, prefix), provider)
        assert "octocat" in sign_in(browser, f"{prefix}/profile", prefix)
        assert browser.post(f"{prefix}/logout").status_int == 200
        assert browser.get(f"{prefix}/profile", JSON).json["login_url"] == f"http://localhost{prefix}/"

    def test_a_gate_below_the_prefix_keeps_everything_there(self, mount: str, oauth_app: App, provider: LocalProvider):
        into, prefix = MOUNTS[mount]
        browser = Browser(into(LoginRequired(of_nobody(), oauth_app), prefix), provider)
        assert sign_in(browser, f"{prefix}/page?x=1&y=%20", f"{prefix}/auth").endswith(":583231 octocat x=1&y=%20")
        assert browser.post(f"{prefix}/auth/logout").status_int == 200
        assert browser.get(f"{prefix}/page", JSON).json["login_url"] == f"http://localhost{prefix}/auth/"

    def test_a_gate_around_all_of_it_lets_nobody_reach_what_is_mounted(
        self, mount: str, oauth_app: App, provider: LocalProvider
    ):
        into, prefix = MOUNTS[mount]
        mounted = Response("mounted")
        browser = Browser(LoginRequired(into(mounted, prefix), oauth_app), provider)
        assert sign_in(browser, f"{prefix}/anything?x=1", "/auth") == "mounted"


@pytest.mark.parametrize("framework", FRAMEWORKS)
class TestTheGateAround:
    """The framework's application, for those who are signed in."""

    @pytest.fixture
    def browser(self, framework: str, oauth_app: App, provider: LocalProvider) -> Browser:
        return Browser(LoginRequired(FRAMEWORKS[framework](), oauth_app), provider)

    def test_the_application_knows_who_is_there(self, browser: Browser):
        assert sign_in(browser, "/page?x=1", "/auth").endswith(":583231 octocat x=1")

    def test_its_own_401_starts_a_sign_in_and_403_does_not(self, browser: Browser):
        sign_in(browser, "/page", "/auth")
        assert browser.get("/forbidden").status_int == 403
        assert browser.get("/refused", JSON).json["error"] == "sign_in_again"
        assert parameters(browser.get("/refused").location) == {"next": "/refused", "again": "1"}

    def test_what_it_streams_arrives(self, browser: Browser):
        assert sign_in(browser, "/chunks", "/auth") == "ab"


class TestBehindAProxy:
    """TLS ends there, and it may take the prefix away or leave it."""

    @pytest.fixture
    def provider(self) -> Any:
        provider = LocalProvider(redirect_uris=[f"{PUBLIC}/site/auth/callback"])
        with serve_provider(provider) as server:
            provider.server = server
            yield provider

    def gate(self, provider: LocalProvider, **settings: str) -> LoginRequired:
        config = Config.from_environ(environ_for(provider, PUBLIC_URL=f"{PUBLIC}/site/auth", **settings))
        return LoginRequired(of_nobody(), create_app(config, store=MemoryStore()), public=["/refused"])

    def dance(self, app: App, provider: LocalProvider, prefix: str, **headers: str) -> None:
        """Sign in through *app*, which sees paths with *prefix* in front."""

        def get(url: str, cookie: str = "") -> Response:
            parts = urlsplit(url)
            assert f"{parts.scheme}://{parts.netloc}" in {PUBLIC, "://"}
            assert parts.path.startswith("/site/")
            path = prefix + parts.path.removeprefix("/site")
            return send(
                app, path, query=parts.query, headers={**HTML, **headers, **({"Cookie": cookie} if cookie else {})}
            )

        refused = get("/site/page?x=1")
        assert refused.headers["Location"] == f"{PUBLIC}/site/auth/?next=%2Fsite%2Fpage%3Fx%3D1"
        started = get(refused.headers["Location"])
        cookie = started.headers["Set-Cookie"].partition(";")[0]
        assert cookie.startswith("__Host-")
        answer = Browser(app, provider).consent(started.headers["Location"])
        done = get(answer, cookie)
        assert done.headers["Location"] == "/site/page?x=1"
        cookie = done.headers["Set-Cookie"].partition(";")[0]
        assert get("/site/page?x=1", cookie).get_data(as_text=True).endswith("octocat x=1")

    def test_that_takes_the_prefix_away(self, provider: LocalProvider):
        self.dance(self.gate(provider), provider, "", Host="app.example.com")

    def test_that_leaves_the_prefix(self, provider: LocalProvider):
        mounted = DispatcherMiddleware(of_nobody(), {"/site": self.gate(provider)})
        self.dance(mounted, provider, "/site", Host="app.example.com")

    def test_that_is_trusted(self, provider: LocalProvider):
        """The gate sees what the sign-in sees: both look through the proxy."""
        forwarded = {"Host": "10.0.0.5:8000", "X-Forwarded-Host": "app.example.com", "X-Forwarded-Proto": "https"}
        self.dance(self.gate(provider, TRUSTED_PROXIES="1"), provider, "", **forwarded)

    def test_that_is_not_trusted_is_not_believed(self, provider: LocalProvider):
        """S35"""
        headers = {**HTML, "Host": "10.0.0.5:8000", "X-Forwarded-Host": "app.example.com"}
        assert send(self.gate(provider), "/page", headers=headers).status_code == 400

    def test_that_the_stack_trusts_by_itself(self, provider: LocalProvider):
        """ProxyFix around the gate, with the prefix from a header: it replaces SCRIPT_NAME."""
        forwarded = {
            "Host": "10.0.0.5:8000",
            "X-Forwarded-Host": "app.example.com",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Prefix": "/site",
        }
        self.dance(ProxyFix(self.gate(provider), x_host=1, x_prefix=1), provider, "", **forwarded)

    def test_on_this_machine_a_trusted_one_may_say_https(self, provider: LocalProvider):
        config = Config.from_environ(environ_for(provider, TRUSTED_PROXIES="1"))
        gate = LoginRequired(of_nobody(), create_app(config, store=MemoryStore()))
        response = send(gate, "/page", headers={**HTML, "X-Forwarded-Proto": "https"})
        assert response.headers["Location"].startswith("https://localhost/auth/?")
        started = send(gate, "/auth/", headers={**HTML, "X-Forwarded-Proto": "https"})
        assert started.headers["Set-Cookie"].startswith("__Host-")


def test_the_client_of_the_signed_in_user_works_in_a_view(oauth_app: App, provider: LocalProvider):
    app = flask.Flask("stack")

    @app.get("/login")
    def login() -> str:
        login: str = oauth2_session(flask.request.environ).get_json(provider.profile_url)["login"]
        return login

    browser = Browser(LoginRequired(app, oauth_app), provider)
    assert sign_in(browser, "/login", "/auth") == "octocat"


def test_the_session_of_the_framework_lives_beside_ours(oauth_app: App, provider: LocalProvider):
    app = flask.Flask("stack")
    app.secret_key = "x"

    @app.get("/count")
    def count() -> str:
        flask.session["count"] = flask.session.get("count", 0) + 1
        return str(flask.session["count"])

    browser = Browser(LoginRequired(app, oauth_app), provider)
    assert sign_in(browser, "/count", "/auth") == "1"
    assert [browser.get("/count").text for _ in range(3)] == ["2", "3", "4"]
    assert browser.post("/auth/logout").status_int == 200
    assert sign_in(browser, "/count", "/auth") == "5"
