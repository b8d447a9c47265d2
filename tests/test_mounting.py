"""Under a prefix, in somebody else's application, behind a proxy: every URL, cookie and redirect is still right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from conftest import HTML, JSON, Browser, environ_for, parameters, send
from werkzeug import Response
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from wsgi_oauth import Config, MemoryStore, RequestHandler, create_app
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

PUBLIC = "https://app.example.com/auth"


class Repos(RequestHandler):
    route = "/repos/<name>"
    endpoint = "repos"

    def get(self, request, name):
        request.session["oauth_token"]
        return self.jsonify({"here": self.url_for(".repos", name=name), "profile": self.url_for(".profile")})


def neighbour(environ: Any, start_response: Any) -> Any:
    """What lives beside us."""
    return Response(f"neighbour at {environ['SCRIPT_NAME']}|{environ['PATH_INFO']}", 404)(environ, start_response)


def mounted_by_dispatcher(app: Any) -> Any:
    return DispatcherMiddleware(neighbour, {"/auth": app})


def nested_twice(app: Any) -> Any:
    return DispatcherMiddleware(neighbour, {"/a": DispatcherMiddleware(neighbour, {"/b": app})})


def mounted_by_hand(prefix: str) -> Callable[[Any], Any]:
    """As a server or a framework does that moves the prefix and leaves everything else alone."""

    def mount(app: Any) -> Any:
        def moved(environ: Any, start_response: Any) -> Any:
            path = environ["PATH_INFO"]
            assert path.startswith(prefix)
            moved = {**environ, "SCRIPT_NAME": environ["SCRIPT_NAME"] + prefix, "PATH_INFO": path[len(prefix) :]}
            return app(moved, start_response)

        return moved

    return mount


MOUNTS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    # name: the prefix as browsers write it, the prefix in environ, what mounts
    "at the root": ("", "", lambda app: app),
    "by Werkzeug": ("/auth", "/auth", mounted_by_dispatcher),
    "twice": ("/a/b", "/a/b", nested_twice),
    "at a prefix with a slash": ("/auth", "/auth", mounted_by_hand("/auth")),
    "at a prefix with a space": ("/my%20app", "/my app", mounted_by_hand("/my app")),
    "at a prefix that is not ASCII": ("/caf%C3%A9", "/caf\xc3\xa9", mounted_by_hand("/caf\xc3\xa9")),
    "at a prefix with a percent sign": ("/100%25", "/100%", mounted_by_hand("/100%")),
    "at a prefix like a route": ("/callback", "/callback", mounted_by_hand("/callback")),
}


class Mounted:
    """A browser in front of an application that is mounted somewhere; it has one cookie, and knows nothing else."""

    def __init__(self, prefix: str, raw_prefix: str, app: Any, provider: LocalProvider) -> None:
        self.prefix, self.raw_prefix, self.app, self.provider = prefix, raw_prefix, app, provider
        self.cookie = ""

    def get(self, path: str, headers: dict[str, str] | None = None, *, query: str = "", **more: Any) -> Response:
        """*path* is below the prefix."""
        sent = {**HTML, **(headers or {}), **({"Cookie": self.cookie} if self.cookie else {})}
        response = send(self.app, self.raw_prefix + path, query=query, headers=sent, **more)
        for name, morsel in SimpleCookie(response.headers.get("Set-Cookie", "")).items():
            self.cookie = f"{name}={morsel.value}" if morsel.value else ""
        return response

    def follow(self, location: str, **more: Any) -> Response:
        parts = urlsplit(location)
        assert parts.netloc in {"", "localhost"}
        assert parts.path.startswith(self.prefix), f"{location} is outside of {self.prefix}"
        return self.get(parts.path[len(self.prefix) :], query=parts.query, **more)

    def come_back(self, authorization_url: str) -> str:
        answer = requests.post(authorization_url, {"decision": "allow"}, allow_redirects=False, timeout=10)
        return answer.headers["Location"]

    def sign_in(self, query: str = "") -> Response:
        started = self.get("/", query=query)
        return self.follow(self.come_back(started.headers["Location"]))


@pytest.fixture(params=MOUNTS)
def mounted(request: pytest.FixtureRequest, provider: LocalProvider) -> Mounted:
    prefix, raw_prefix, mount = MOUNTS[request.param]
    config = Config.from_environ(environ_for(provider))
    app = create_app(config, store=MemoryStore(), handlers=[Repos])
    return Mounted(prefix, raw_prefix, mount(app), provider)


class TestUnderAnyPrefix:
    def test_the_redirect_uri_has_it(self, mounted: Mounted):
        asked = parameters(mounted.get("/").headers["Location"])
        assert asked["redirect_uri"] == f"http://localhost{mounted.prefix}/callback"

    def test_the_redirect_uri_is_the_same_in_the_token_request(self, mounted: Mounted, provider: LocalProvider):
        mounted.sign_in()
        [exchange] = [e for e in provider.exchanges if e.endpoint == "token"]
        assert parse_qs(exchange.body)["redirect_uri"] == [f"http://localhost{mounted.prefix}/callback"]

    def test_the_dance_ends_at_its_profile(self, mounted: Mounted):
        response = mounted.sign_in()
        assert (response.status_code, response.headers["Location"]) == (303, f"{mounted.prefix}/profile")
        assert mounted.follow(response.headers["Location"]).get_json()["login"] == "octocat"

    def test_the_cookie_is_for_the_whole_host(self, mounted: Mounted):
        """One that was bound to the prefix could be shadowed from another one, and __Host- demands it."""
        [(name, morsel)] = SimpleCookie(mounted.get("/").headers["Set-Cookie"]).items()
        assert (name, morsel["path"], morsel["domain"]) == ("wsgi_oauth", "/", "")

    def test_who_is_not_signed_in_comes_back_to_where_they_were(self, mounted: Mounted):
        response = mounted.get("/repos/mine", query="page=2")
        assert response.status_code == 302
        location = urlsplit(response.headers["Location"])
        assert location.path == f"{mounted.prefix}/"
        callback = mounted.come_back(mounted.follow(response.headers["Location"]).headers["Location"])
        final = mounted.follow(callback).headers["Location"]
        assert final == f"{mounted.prefix}/repos/mine?page=2"
        assert mounted.follow(final).status_code == 200

    def test_a_program_is_told_the_whole_url_of_the_sign_in(self, mounted: Mounted):
        response = mounted.get("/profile", headers=JSON)
        assert response.get_json()["login_url"] == f"http://localhost{mounted.prefix}/"

    def test_url_for_has_it(self, mounted: Mounted):
        mounted.sign_in()
        assert mounted.get("/repos/a b").get_json() == {
            "here": f"{mounted.prefix}/repos/a%20b",
            "profile": f"{mounted.prefix}/profile",
        }

    def test_next_may_lead_outside_of_it_but_not_outside_of_the_host(self, mounted: Mounted):
        """The prefix is a part of a site; the site's other pages are as good as ours."""
        response = mounted.sign_in(urlencode({"next": "/elsewhere/on/this/host"}))
        assert response.headers["Location"] == "/elsewhere/on/this/host"
        response = mounted.sign_in(urlencode({"next": "//evil.example"}))
        assert response.headers["Location"] == f"{mounted.prefix}/profile"

    def test_an_error_page_links_to_its_own_sign_in(self, mounted: Mounted):
        page = mounted.get("/callback", query="code=x&state=y").get_data(as_text=True)
        assert f'href="http://localhost{mounted.prefix}/"' in page

    def test_the_sign_out_works_and_links_to_its_own_sign_in(self, mounted: Mounted):
        mounted.sign_in()
        response = mounted.get("/logout", method="POST", headers={"Origin": "http://localhost"})
        assert response.status_code == 200
        assert mounted.cookie == ""
        assert f'{mounted.prefix}/">Sign in' in response.get_data(as_text=True)

    def test_the_bare_prefix_starts_a_sign_in(self, mounted: Mounted):
        """Werkzeug's dispatcher leaves PATH_INFO empty then."""
        response = mounted.get("")
        assert response.status_code == 302
        asked = parameters(response.headers["Location"])
        assert asked["redirect_uri"] == f"http://localhost{mounted.prefix}/callback"

    def test_the_probes_are_there(self, mounted: Mounted):
        assert [mounted.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]

    def test_what_has_no_route_is_not_found(self, mounted: Mounted):
        assert mounted.get("/nothing").status_code == 404

    def test_odd_slashes_find_no_way_out(self, mounted: Mounted):
        for path in ("//", "//evil.example", "//evil.example/profile", "/../profile", "/./profile", "//profile"):
            response = mounted.get(path)
            location = urlsplit(response.headers.get("Location", "/"))
            assert location.netloc in {"", "localhost", urlsplit(mounted.provider.url).netloc}


class TestBesideOthers:
    def test_the_neighbours_keep_their_own(self, provider: LocalProvider):
        app = mounted_by_dispatcher(create_app(Config.from_environ(environ_for(provider))))
        for path in ("/", "/authentic", "/author/profile", "/profile", "/callback"):
            assert send(app, path, headers=HTML).get_data(as_text=True) == f"neighbour at |{path}"

    def test_two_mounts_are_two_applications_for_one_browser(self, provider: LocalProvider):
        """Each knows only its own sessions: the cookie is one, the stores are two."""
        one, two = (create_app(Config.from_environ(environ_for(provider))) for _ in range(2))
        both = DispatcherMiddleware(neighbour, {"/one": one, "/two": two})
        browser = Mounted("/one", "/one", both, provider)
        browser.sign_in()
        assert send(both, "/one/profile", headers={**JSON, "Cookie": browser.cookie}).status_code == 200
        assert send(both, "/two/profile", headers={**JSON, "Cookie": browser.cookie}).status_code == 401

    def test_two_mounts_of_one_application_share_their_sessions(self, provider: LocalProvider):
        app = create_app(Config.from_environ(environ_for(provider)))
        both = DispatcherMiddleware(neighbour, {"/one": app, "/two": app})
        browser = Mounted("/one", "/one", both, provider)
        browser.sign_in()
        assert send(both, "/two/profile", headers={**JSON, "Cookie": browser.cookie}).status_code == 200

    def test_environ_is_left_as_it_was(self, provider: LocalProvider):
        app = create_app(Config.from_environ(environ_for(provider)))
        seen: list[dict[str, Any]] = []

        def watching(environ: Any, start_response: Any) -> Any:
            before = dict(environ)
            answer = app(environ, start_response)
            seen.extend([before, dict(environ)])
            return answer

        send(watching, "/profile", headers=HTML)
        assert seen[0] == seen[1]

    def test_the_body_is_made_before_the_mount_takes_its_prefix_back(self, provider: LocalProvider):
        """Bottle's mount restores SCRIPT_NAME before it iterates."""
        app = create_app(Config.from_environ(environ_for(provider)))

        def bottle(environ: Any, start_response: Any) -> Any:
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/auth", environ["PATH_INFO"].removeprefix("/auth")
            answer = app(environ, start_response)
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = "", "/gone"
            return answer

        document = send(bottle, "/auth/profile", headers=JSON).get_json()
        assert document["login_url"] == "http://localhost/auth/"

    @pytest.mark.parametrize("script", ["//evil.example", "/\\evil.example", "//evil.example/..", "/auth/", "//"])
    def test_an_odd_mount_point_leads_nowhere_else(self, provider: LocalProvider, script: str):
        """Some servers take SCRIPT_NAME from a header."""
        app = create_app(Config.from_environ(environ_for(provider)))
        response = send(app, "/profile", headers=HTML, SCRIPT_NAME=script)
        assert response.status_code in {302, 400}
        if response.status_code == 302:
            location = urlsplit(response.headers["Location"])
            assert (location.scheme, location.netloc) == ("http", "localhost")
            [back] = parse_qs(location.query).get("next", ["/"])
            started = send(app, "/", headers=HTML, query=urlencode({"next": back}), SCRIPT_NAME=script)
            assert urlsplit(started.headers["Location"]).netloc == urlsplit(provider.url).netloc
            answer = requests.post(
                started.headers["Location"], {"decision": "allow"}, allow_redirects=False, timeout=10
            )
            if answer.status_code == 302:
                cookie = started.headers["Set-Cookie"].partition(";")[0]
                query = urlsplit(answer.headers["Location"]).query
                done = send(app, "/callback", query=query, headers={**HTML, "Cookie": cookie}, SCRIPT_NAME=script)
                assert not done.headers.get("Location", "").replace("\\", "/").startswith("//")


class TestBehindAProxyThatTakesThePrefixAway:
    """``location /auth/ { proxy_pass http://backend/; }``: only WSGI_OAUTH_PUBLIC_URL knows the prefix."""

    @pytest.fixture
    def behind(self) -> Iterator[Mounted]:
        provider = LocalProvider(redirect_uris=[f"{PUBLIC}/callback"])
        with serve_provider(provider) as server:
            provider.server = server
            config = Config.from_environ(environ_for(provider, PUBLIC_URL=PUBLIC))
            app = create_app(config, store=MemoryStore(), handlers=[Repos])
            yield Mounted("/auth", "", proxied(app), provider)

    @pytest.fixture
    def follow(self, behind: Mounted) -> Callable[[str], Response]:
        def follow(location: str) -> Response:
            parts = urlsplit(location)
            assert f"{parts.scheme}://{parts.netloc}" in {"://", "https://app.example.com"}
            assert parts.path.startswith("/auth/")
            return behind.get(parts.path.removeprefix("/auth"), query=parts.query)

        return follow

    def test_the_whole_dance_works(self, behind: Mounted, follow: Callable[[str], Response]):
        started = behind.get("/")
        assert parameters(started.headers["Location"])["redirect_uri"] == f"{PUBLIC}/callback"
        done = follow(behind.come_back(started.headers["Location"]))
        assert (done.status_code, done.headers["Location"]) == (303, "/auth/profile")
        assert follow(done.headers["Location"]).get_json()["login"] == "octocat"
        assert parse_qs(next(e for e in behind.provider.exchanges if e.endpoint == "token").body)["redirect_uri"] == [
            f"{PUBLIC}/callback"
        ]

    def test_who_is_not_signed_in_comes_back_to_the_public_url(
        self, behind: Mounted, follow: Callable[[str], Response]
    ):
        response = behind.get("/repos/mine", query="a=b")
        started = follow(response.headers["Location"])
        done = follow(behind.come_back(started.headers["Location"]))
        assert done.headers["Location"] == "/auth/repos/mine?a=b"
        assert follow(done.headers["Location"]).get_json() == {"here": "/auth/repos/mine", "profile": "/auth/profile"}

    def test_the_cookie_is_that_of_an_https_site(self, behind: Mounted):
        [(name, morsel)] = SimpleCookie(behind.get("/").headers["Set-Cookie"]).items()
        assert (name, morsel["path"], morsel["secure"]) == ("__Host-wsgi_oauth", "/", True)

    def test_the_pages_link_to_the_public_url(self, behind: Mounted):
        assert f'href="{PUBLIC}/"' in behind.get("/callback").get_data(as_text=True)
        assert behind.get("/profile", headers=JSON).get_json()["login_url"] == f"{PUBLIC}/"

    @pytest.mark.parametrize("origin", ["https://app.example.com", "https://app.example.com:443"])
    def test_the_sign_out_takes_the_public_origin_for_its_own(self, behind: Mounted, origin: str):
        response = behind.get("/logout", method="POST", headers={"Origin": origin})
        assert response.status_code == 200

    @pytest.mark.parametrize("origin", ["http://app.example.com", "http://10.0.0.5:8000", "https://evil.example"])
    def test_the_sign_out_takes_no_other(self, behind: Mounted, origin: str):
        assert behind.get("/logout", method="POST", headers={"Origin": origin}).status_code == 403

    def test_the_public_url_wins_over_the_mount_point(self, provider: LocalProvider):
        """Both know the prefix, as when the proxy leaves it in place: it is not doubled."""
        app = create_app(Config.from_environ(environ_for(provider, PUBLIC_URL=PUBLIC)))
        for mounted in (mounted_by_dispatcher(app), ProxyFix(mounted_by_dispatcher(app), x_host=1)):
            response = send(mounted, "/auth/", headers=HTML, HTTP_HOST="app.example.com")
            assert parameters(response.headers["Location"])["redirect_uri"] == f"{PUBLIC}/callback"

    def test_a_forwarded_prefix_changes_nothing(self, behind: Mounted):
        response = behind.get("/", headers={"X-Forwarded-Prefix": "/evil", "X-Script-Name": "/evil"})
        assert parameters(response.headers["Location"])["redirect_uri"] == f"{PUBLIC}/callback"


def proxied(app: Any) -> Any:
    """TLS ends at the proxy; the Host header is passed on."""

    def proxy(environ: Any, start_response: Any) -> Any:
        environ["HTTP_HOST"] = "app.example.com"
        environ.update(SERVER_NAME="10.0.0.5", SERVER_PORT="8000", REMOTE_ADDR="10.0.0.1")
        return app(environ, start_response)

    return proxy


def test_the_whole_browser_works_under_a_prefix_too(provider: LocalProvider):
    """Once more with everything PEP 3333 demands being checked on the way."""
    app = mounted_by_dispatcher(create_app(Config.from_environ(environ_for(provider))))
    browser = Browser(app, provider)
    callback = browser.consent(browser.get("/auth/").location)
    assert browser.get(callback).location == "/auth/profile"
    assert browser.get("/auth/profile").json["login"] == "octocat"
    assert browser.post("/auth/logout").status_int == 200
    assert browser.get("/auth/profile", headers=JSON).status_int == 401
