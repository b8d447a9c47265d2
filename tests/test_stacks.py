"""The sign-in and the gate with other frameworks: mounted in an application, around it, and behind a proxy."""

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

App = Callable[[Any, Any], Any]
PUBLIC = "https://app.example.com"


# -- the same application in each framework ----------------------------------------------------------------------------


def flask_app() -> Any:
    app = flask.Flask("stack")
    app.add_url_rule("/page", view_func=lambda: greeting(flask.request.environ), endpoint="page")
    app.add_url_rule("/refused", view_func=lambda: flask.abort(401), endpoint="refused")
    app.add_url_rule("/forbidden", view_func=lambda: flask.abort(403), endpoint="forbidden")
    app.add_url_rule("/chunks", view_func=lambda: flask.Response(iter(["a", "b"])), endpoint="chunks")
    return app


def bottle_app() -> Any:
    app = bottle.Bottle()
    app.route("/page", callback=lambda: greeting(bottle.request.environ))
    app.route("/refused", callback=lambda: bottle.abort(401))
    app.route("/forbidden", callback=lambda: bottle.abort(403))
    app.route("/chunks", callback=lambda: iter(["a", "b"]))
    return app


def falcon_app() -> Any:
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


def pyramid_app(mounted: App | None = None, prefix: str = "") -> Any:
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
def django_app() -> Any:
    """The application, created once because Django's settings belong to the whole process."""
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


def plain_wsgi_app() -> Any:
    pages: dict[str, App] = {
        "/page": lambda environ, start_response: Response(greeting(environ))(environ, start_response),
        "/refused": Response(status=401),
        "/forbidden": Response(status=403),
        "/chunks": Response(iter(["a", "b"])),
    }
    return lambda environ, start_response: pages[environ["PATH_INFO"]](environ, start_response)


def greeting(environ: Any) -> str:
    """Return the content of /page. /refused answers 401, /forbidden 403, and /chunks streams."""
    identity = current_identity(environ)
    return f"{environ['REMOTE_USER']} {identity and identity.username} {environ['QUERY_STRING']}"


FRAMEWORKS = {
    "Flask": flask_app,
    "Django": django_app,
    "Pyramid": pyramid_app,
    "Bottle": bottle_app,
    "Falcon": falcon_app,
    "no framework": plain_wsgi_app,
}


# -- how an application is mounted below a prefix ----------------------------------------------------------------------


def in_flask(app: App, prefix: str) -> App:
    stack = flask_app()
    stack.wsgi_app = DispatcherMiddleware(stack.wsgi_app, {prefix: app})
    return stack


def in_bottle(app: App, prefix: str) -> App:
    stack = bottle_app()
    stack.mount(f"{prefix}/", app)
    return stack


def in_pyramid(app: App, prefix: str) -> App:
    return pyramid_app(app, prefix)


def beside(framework: Callable[[], App]) -> Callable[[App, str], App]:
    return lambda app, prefix: DispatcherMiddleware(framework(), {prefix: app})


def nested_twice(app: App, prefix: str) -> App:
    outer, _, inner = prefix.removeprefix("/").partition("/")
    return DispatcherMiddleware(
        plain_wsgi_app(), {f"/{outer}": DispatcherMiddleware(plain_wsgi_app(), {f"/{inner}": app})}
    )


MOUNTS: dict[str, tuple[Callable[[App, str], App], str]] = {
    "in Flask": (in_flask, "/login"),
    "beside Django": (beside(django_app), "/login"),
    "in Pyramid by wsgiapp2": (in_pyramid, "/login"),
    "in Bottle by mount": (in_bottle, "/login"),
    "beside Falcon": (beside(falcon_app), "/login"),
    "nested twice": (nested_twice, "/a/b"),
}


@pytest.fixture
def oauth_app(provider: LocalProvider) -> App:
    return create_app(Config.from_environ(environ_for(provider)), store=MemoryStore())


def sign_in(browser: Browser, path: str, prefix: str) -> str:
    """Open *path*, sign in below *prefix*, and return the page to which that leads back."""
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
    """The sign-in below a prefix of another application."""

    def test_the_whole_sign_in_works(self, mount: str, oauth_app: App, provider: LocalProvider):
        mount_at, prefix = MOUNTS[mount]
        browser = Browser(mount_at(oauth_app, prefix), provider)
        assert "octocat" in sign_in(browser, f"{prefix}/profile", prefix)
        assert browser.post(f"{prefix}/logout").status_int == 303
        assert browser.get(f"{prefix}/profile", JSON).json["login_url"] == f"http://localhost{prefix}/"

    def test_a_gate_below_the_prefix_leads_back_to_the_page(self, mount: str, oauth_app: App, provider: LocalProvider):
        mount_at, prefix = MOUNTS[mount]
        browser = Browser(mount_at(LoginRequired(plain_wsgi_app(), oauth_app), prefix), provider)
        assert sign_in(browser, f"{prefix}/page?x=1&y=%20", f"{prefix}/auth").endswith(" octocat x=1&y=%20")
        assert browser.post(f"{prefix}/auth/logout").status_int == 303
        assert browser.get(f"{prefix}/page", JSON).json["login_url"] == f"http://localhost{prefix}/auth/"

    def test_a_gate_around_the_whole_protects_the_mounted_application(
        self, mount: str, oauth_app: App, provider: LocalProvider
    ):
        mount_at, prefix = MOUNTS[mount]
        browser = Browser(LoginRequired(mount_at(Response("mounted"), prefix), oauth_app), provider)
        assert sign_in(browser, f"{prefix}/anything?x=1", "/auth") == "mounted"


@pytest.mark.parametrize("framework", FRAMEWORKS)
class TestGateAroundFramework:
    @pytest.fixture
    def browser(self, framework: str, oauth_app: App, provider: LocalProvider) -> Browser:
        return Browser(LoginRequired(FRAMEWORKS[framework](), oauth_app), provider)

    def test_the_application_knows_the_user(self, browser: Browser):
        assert sign_in(browser, "/page?x=1", "/auth").endswith(" octocat x=1")

    def test_a_401_of_the_application_starts_a_sign_in_but_a_403_does_not(self, browser: Browser):
        sign_in(browser, "/page", "/auth")
        assert browser.get("/forbidden").status_int == 403
        assert browser.get("/refused", JSON).status_int == 401
        assert parameters(browser.get("/refused").location) == {"next": "/refused", "again": "1"}

    def test_a_stream_passes_the_gate(self, browser: Browser):
        assert sign_in(browser, "/chunks", "/auth") == "ab"


class TestBehindAProxy:
    """A proxy that terminates TLS and either removes or keeps the prefix."""

    @pytest.fixture
    def provider(self) -> Any:
        provider = LocalProvider(redirect_uris=[f"{PUBLIC}/site/auth/callback"])
        with serve_provider(provider):
            yield provider

    def gate(self, provider: LocalProvider, **settings: str) -> LoginRequired:
        config = Config.from_environ(environ_for(provider, PUBLIC_URL=f"{PUBLIC}/site/auth", **settings))
        return LoginRequired(plain_wsgi_app(), create_app(config, store=MemoryStore()), public=["/refused"])

    def sign_in(self, app: App, provider: LocalProvider, prefix: str, **headers: str) -> None:
        """Sign in through *app*, which receives paths that begin with *prefix*."""

        def get(url: str, cookie: str = "") -> Response:
            parts = urlsplit(url)
            assert f"{parts.scheme}://{parts.netloc}" in {PUBLIC, "://"}
            assert parts.path.startswith("/site/")
            path = prefix + parts.path.removeprefix("/site")
            return send(
                app, path, query=parts.query, headers={**HTML, **headers, **({"Cookie": cookie} if cookie else {})}
            )

        redirect = get("/site/page?x=1")
        assert redirect.headers["Location"] == f"{PUBLIC}/site/auth/?next=%2Fsite%2Fpage%3Fx%3D1"
        started = get(redirect.headers["Location"])
        cookie = started.headers["Set-Cookie"].partition(";")[0]
        assert cookie.startswith("__Host-")
        callback_url = Browser(app, provider).consent(started.headers["Location"])
        done = get(callback_url, cookie)
        assert done.headers["Location"] == "/site/page?x=1"
        cookie = done.headers["Set-Cookie"].partition(";")[0]
        assert get("/site/page?x=1", cookie).get_data(as_text=True).endswith("octocat x=1")

    def test_a_proxy_can_remove_the_prefix(self, provider: LocalProvider):
        self.sign_in(self.gate(provider), provider, "", Host="app.example.com")

    def test_a_proxy_can_keep_the_prefix(self, provider: LocalProvider):
        mounted = DispatcherMiddleware(plain_wsgi_app(), {"/site": self.gate(provider)})
        self.sign_in(mounted, provider, "/site", Host="app.example.com")

    def test_a_trusted_proxy_sets_host_and_scheme(self, provider: LocalProvider):
        forwarded = {"Host": "10.0.0.5:8000", "X-Forwarded-Host": "app.example.com", "X-Forwarded-Proto": "https"}
        self.sign_in(self.gate(provider, TRUSTED_PROXIES="1"), provider, "", **forwarded)

    def test_headers_of_an_untrusted_proxy_are_ignored(self, provider: LocalProvider):
        """S35"""
        headers = {**HTML, "Host": "10.0.0.5:8000", "X-Forwarded-Host": "app.example.com"}
        assert send(self.gate(provider), "/page", headers=headers).status_code == 400

    def test_proxy_fix_around_the_gate_works(self, provider: LocalProvider):
        """ProxyFix takes the prefix from a header and replaces SCRIPT_NAME."""
        forwarded = {
            "Host": "10.0.0.5:8000",
            "X-Forwarded-Host": "app.example.com",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Prefix": "/site",
        }
        self.sign_in(ProxyFix(self.gate(provider), x_host=1, x_prefix=1), provider, "", **forwarded)

    def test_a_trusted_proxy_on_this_machine_can_set_https(self, provider: LocalProvider):
        config = Config.from_environ(environ_for(provider, TRUSTED_PROXIES="1"))
        gate = LoginRequired(plain_wsgi_app(), create_app(config, store=MemoryStore()))
        response = send(gate, "/page", headers={**HTML, "X-Forwarded-Proto": "https"})
        assert response.headers["Location"].startswith("https://localhost/auth/?")
        started = send(gate, "/auth/", headers={**HTML, "X-Forwarded-Proto": "https"})
        assert started.headers["Set-Cookie"].startswith("__Host-")


def test_a_view_can_use_the_users_oauth2_session(oauth_app: App, provider: LocalProvider):
    app = flask.Flask("stack")

    @app.get("/login")
    def login() -> str:
        login: str = oauth2_session(flask.request.environ).get_json(provider.profile_url)["login"]
        return login

    browser = Browser(LoginRequired(app, oauth_app), provider)
    assert sign_in(browser, "/login", "/auth") == "octocat"


def test_the_frameworks_own_session_is_independent_of_the_sign_in(oauth_app: App, provider: LocalProvider):
    app = flask.Flask("stack")
    app.secret_key = "x"

    @app.get("/count")
    def count() -> str:
        flask.session["count"] = flask.session.get("count", 0) + 1
        return str(flask.session["count"])

    browser = Browser(LoginRequired(app, oauth_app), provider)
    assert sign_in(browser, "/count", "/auth") == "1"
    assert [browser.get("/count").text for _ in range(3)] == ["2", "3", "4"]
    assert browser.post("/auth/logout").status_int == 303
    assert sign_in(browser, "/count", "/auth") == "5"
