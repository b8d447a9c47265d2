"""The application below a prefix, beside other applications and behind a proxy: every URL and cookie is right."""

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

from wsgi_oauth import Config, LoginRequired, MemoryStore, RequestHandler, create_app
from wsgi_oauth.config import ProviderConfig
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

PUBLIC = "https://app.example.com/auth"


class Repos(RequestHandler):
    route = "/repos/<name>"
    endpoint = "repos"

    def get(self, request, name):
        request.session["oauth_token"]
        return self.jsonify({"here": self.url_for(".repos", name=name), "profile": self.url_for(".profile")})


def neighbour(environ: Any, start_response: Any) -> Any:
    """The application beside the mounted one."""
    return Response(f"neighbour at {environ['SCRIPT_NAME']}|{environ['PATH_INFO']}", 404)(environ, start_response)


def mounted_by_dispatcher(app: Any) -> Any:
    return DispatcherMiddleware(neighbour, {"/auth": app})


def nested_twice(app: Any) -> Any:
    return DispatcherMiddleware(neighbour, {"/a": DispatcherMiddleware(neighbour, {"/b": app})})


def mounted_by_hand(prefix: str) -> Callable[[Any], Any]:
    """Mount the application like a server that moves the prefix to SCRIPT_NAME and changes nothing else."""

    def mount(app: Any) -> Any:
        def moved(environ: Any, start_response: Any) -> Any:
            path = environ["PATH_INFO"]
            assert path.startswith(prefix)
            moved = {**environ, "SCRIPT_NAME": environ["SCRIPT_NAME"] + prefix, "PATH_INFO": path[len(prefix) :]}
            return app(moved, start_response)

        return moved

    return mount


MOUNTS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    # The prefix in URLs, the prefix in environ, and the mounting function.
    "by Werkzeug": ("/auth", "/auth", mounted_by_dispatcher),
    "twice": ("/a/b", "/a/b", nested_twice),
    "at a prefix with a slash": ("/auth", "/auth", mounted_by_hand("/auth")),
    "at a prefix with a space": ("/my%20app", "/my app", mounted_by_hand("/my app")),
    "at a prefix that is not ASCII": ("/caf%C3%A9", "/caf\xc3\xa9", mounted_by_hand("/caf\xc3\xa9")),
    "at a prefix with a percent sign": ("/100%25", "/100%", mounted_by_hand("/100%")),
    "at a prefix like a route": ("/callback", "/callback", mounted_by_hand("/callback")),
}


class Mounted:
    """A browser for an application below a prefix."""

    def __init__(self, prefix: str, raw_prefix: str, app: Any, provider: LocalProvider) -> None:
        self.prefix, self.raw_prefix, self.app, self.provider = prefix, raw_prefix, app, provider
        self.cookie = ""
        self._cookies: dict[str, str] = {}

    def get(self, path: str, headers: dict[str, str] | None = None, *, query: str = "", **more: Any) -> Response:
        """Request *path* below the prefix."""
        sent = {**HTML, **(headers or {}), **({"Cookie": self.cookie} if self.cookie else {})}
        response = send(self.app, self.raw_prefix + path, query=query, headers=sent, **more)
        for header in response.headers.getlist("Set-Cookie"):
            for name, morsel in SimpleCookie(header).items():
                self._cookies[name] = morsel.value
        self.cookie = "; ".join(f"{name}={value}" for name, value in self._cookies.items() if value)
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


class TestAnyPrefix:
    def test_complete_sign_in_works(self, mounted: Mounted, provider: LocalProvider):
        started = mounted.get("/")
        [(name, morsel)] = SimpleCookie(started.headers["Set-Cookie"]).items()
        assert (morsel["path"], morsel["domain"]) == ("/", ""), "__Host- requires the whole host"
        assert name.startswith("wsgi_oauth-")
        redirect_uri = f"http://localhost{mounted.prefix}/callback"
        assert parameters(started.headers["Location"])["redirect_uri"] == redirect_uri
        response = mounted.follow(mounted.come_back(started.headers["Location"]))
        [exchange] = [e for e in provider.exchanges if e.endpoint == "token"]
        assert parse_qs(exchange.body)["redirect_uri"] == [redirect_uri]
        assert (response.status_code, response.headers["Location"]) == (303, f"{mounted.prefix}/profile")
        assert "octocat" in mounted.follow(response.headers["Location"]).get_data(as_text=True)

    def test_anonymous_user_returns_to_the_requested_page(self, mounted: Mounted):
        response = mounted.get("/repos/mine", query="page=2")
        assert response.status_code == 302
        location = urlsplit(response.headers["Location"])
        assert location.path == f"{mounted.prefix}/"
        callback = mounted.come_back(mounted.follow(response.headers["Location"]).headers["Location"])
        final = mounted.follow(callback).headers["Location"]
        assert final == f"{mounted.prefix}/repos/mine?page=2"
        assert mounted.follow(final).status_code == 200

    def test_urls_of_handlers_contain_the_prefix(self, mounted: Mounted):
        mounted.sign_in()
        assert mounted.get("/repos/a b").get_json() == {
            "here": f"{mounted.prefix}/repos/a%20b",
            "profile": f"{mounted.prefix}/profile",
        }

    def test_error_responses_have_the_url_of_the_sign_in(self, mounted: Mounted):
        page = mounted.get("/callback", query="code=x&state=y").get_data(as_text=True)
        assert f'href="http://localhost{mounted.prefix}/"' in page
        response = mounted.get("/profile", headers=JSON)
        assert response.get_json()["login_url"] == f"http://localhost{mounted.prefix}/"

    def test_sign_out_page_links_to_the_sign_in(self, mounted: Mounted):
        mounted.sign_in()
        response = mounted.get("/logout", method="POST", headers={"Origin": "http://localhost"})
        assert response.headers["Location"] == f"http://localhost{mounted.prefix}/signed-out"
        assert mounted.cookie == ""
        response = mounted.get("/signed-out")
        assert f'{mounted.prefix}/">Sign in' in response.get_data(as_text=True)

    def test_prefix_without_slash_starts_a_sign_in(self, mounted: Mounted):
        """Werkzeug's dispatcher leaves PATH_INFO empty."""
        response = mounted.get("")
        assert response.status_code == 302
        asked = parameters(response.headers["Location"])
        assert asked["redirect_uri"] == f"http://localhost{mounted.prefix}/callback"

    def test_probes_are_answered_and_unknown_paths_are_not_found(self, mounted: Mounted):
        assert [mounted.get(path).status_code for path in ("/healthz", "/readyz", "/nothing")] == [200, 200, 404]

    def test_ambiguous_paths_never_lead_to_another_host(self, mounted: Mounted):
        for path in ("//", "//evil.example", "//evil.example/profile", "/../profile", "/./profile", "//profile"):
            response = mounted.get(path)
            location = urlsplit(response.headers.get("Location", "/"))
            assert location.netloc in {"", "localhost", urlsplit(mounted.provider.url).netloc}


def test_return_url_may_be_outside_the_prefix_but_not_on_another_host(provider: LocalProvider):
    """S33: the other pages of the site are trusted like those below the prefix."""
    app = mounted_by_dispatcher(create_app(Config.from_environ(environ_for(provider))))
    mounted = Mounted("/auth", "/auth", app, provider)
    response = mounted.sign_in(urlencode({"next": "/elsewhere/on/this/host"}))
    assert response.headers["Location"] == "/elsewhere/on/this/host"
    response = mounted.sign_in(urlencode({"next": "//evil.example"}))
    assert response.headers["Location"] == "/auth/profile"


class TestBesideOtherApplications:
    def test_paths_outside_the_prefix_belong_to_the_others(self, provider: LocalProvider):
        app = mounted_by_dispatcher(create_app(Config.from_environ(environ_for(provider))))
        for path in ("/", "/authentic", "/author/profile", "/profile", "/callback"):
            assert send(app, path, headers=HTML).get_data(as_text=True) == f"neighbour at |{path}"

    def test_two_applications_do_not_share_sessions(self, provider: LocalProvider):
        """The browser has one cookie, but each application has its own store."""
        one, two = (create_app(Config.from_environ(environ_for(provider))) for _ in range(2))
        both = DispatcherMiddleware(neighbour, {"/one": one, "/two": two})
        browser = Mounted("/one", "/one", both, provider)
        browser.sign_in()
        assert send(both, "/one/profile", headers={**JSON, "Cookie": browser.cookie}).status_code == 200
        assert send(both, "/two/profile", headers={**JSON, "Cookie": browser.cookie}).status_code == 401

    def test_one_application_mounted_twice_shares_sessions(self, provider: LocalProvider):
        app = create_app(Config.from_environ(environ_for(provider)))
        both = DispatcherMiddleware(neighbour, {"/one": app, "/two": app})
        browser = Mounted("/one", "/one", both, provider)
        browser.sign_in()
        assert send(both, "/two/profile", headers={**JSON, "Cookie": browser.cookie}).status_code == 200

    def test_environ_of_the_server_is_unchanged(self, provider: LocalProvider):
        app = create_app(Config.from_environ(environ_for(provider)))
        seen: list[dict[str, Any]] = []

        def watching(environ: Any, start_response: Any) -> Any:
            before = dict(environ)
            answer = app(environ, start_response)
            seen.extend([before, dict(environ)])
            return answer

        send(watching, "/profile", headers=HTML)
        assert seen[0] == seen[1]

    def test_body_is_complete_before_the_mount_restores_environ(self, provider: LocalProvider):
        """Bottle's mount restores SCRIPT_NAME before it iterates over the body."""
        app = create_app(Config.from_environ(environ_for(provider)))

        def bottle(environ: Any, start_response: Any) -> Any:
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/auth", environ["PATH_INFO"].removeprefix("/auth")
            answer = app(environ, start_response)
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = "", "/gone"
            return answer

        document = send(bottle, "/auth/profile", headers=JSON).get_json()
        assert document["login_url"] == "http://localhost/auth/"

    @pytest.mark.parametrize("script", ["//evil.example", "/\\evil.example", "//evil.example/..", "/auth/", "//"])
    def test_forged_script_name_never_leads_to_another_host(self, provider: LocalProvider, script: str):
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


class TestProxyThatRemovesThePrefix:
    """``location /auth/ { proxy_pass http://backend/; }``: only WSGI_OAUTH_PUBLIC_URL contains the prefix."""

    @pytest.fixture
    def behind(self) -> Iterator[Mounted]:
        provider = LocalProvider(redirect_uris=[f"{PUBLIC}/callback"])
        with serve_provider(provider):
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

    def test_complete_sign_in_works(self, behind: Mounted, follow: Callable[[str], Response]):
        started = behind.get("/")
        assert parameters(started.headers["Location"])["redirect_uri"] == f"{PUBLIC}/callback"
        done = follow(behind.come_back(started.headers["Location"]))
        assert (done.status_code, done.headers["Location"]) == (303, "/auth/profile")
        assert "octocat" in follow(done.headers["Location"]).get_data(as_text=True)
        assert parse_qs(next(e for e in behind.provider.exchanges if e.endpoint == "token").body)["redirect_uri"] == [
            f"{PUBLIC}/callback"
        ]

    def test_anonymous_user_returns_to_the_public_url(self, behind: Mounted, follow: Callable[[str], Response]):
        response = behind.get("/repos/mine", query="a=b")
        started = follow(response.headers["Location"])
        done = follow(behind.come_back(started.headers["Location"]))
        assert done.headers["Location"] == "/auth/repos/mine?a=b"
        assert follow(done.headers["Location"]).get_json() == {"here": "/auth/repos/mine", "profile": "/auth/profile"}

    def test_cookie_is_secure(self, behind: Mounted):
        [(name, morsel)] = SimpleCookie(behind.get("/").headers["Set-Cookie"]).items()
        assert (name[:18], morsel["path"], morsel["secure"]) == ("__Host-wsgi_oauth-", "/", True)

    def test_pages_link_to_the_public_url(self, behind: Mounted):
        assert f'href="{PUBLIC}/"' in behind.get("/callback").get_data(as_text=True)
        assert behind.get("/profile", headers=JSON).get_json()["login_url"] == f"{PUBLIC}/"

    @pytest.mark.parametrize("origin", ["https://app.example.com", "https://app.example.com:443"])
    def test_sign_out_accepts_the_public_origin(self, behind: Mounted, origin: str):
        response = behind.get("/logout", method="POST", headers={"Origin": origin})
        assert response.status_code == 303

    @pytest.mark.parametrize("origin", ["http://app.example.com", "http://10.0.0.5:8000", "https://evil.example"])
    def test_sign_out_refuses_other_origins(self, behind: Mounted, origin: str):
        assert behind.get("/logout", method="POST", headers={"Origin": origin}).status_code == 403

    def test_prefix_of_the_public_url_is_not_doubled(self, provider: LocalProvider):
        """The proxy leaves the prefix in place, so both contain it."""
        app = create_app(Config.from_environ(environ_for(provider, PUBLIC_URL=PUBLIC)))
        for mounted in (mounted_by_dispatcher(app), ProxyFix(mounted_by_dispatcher(app), x_host=1)):
            response = send(mounted, "/auth/", headers=HTML, HTTP_HOST="app.example.com")
            assert parameters(response.headers["Location"])["redirect_uri"] == f"{PUBLIC}/callback"

    def test_forwarded_prefix_is_ignored(self, behind: Mounted):
        response = behind.get("/", headers={"X-Forwarded-Prefix": "/evil", "X-Script-Name": "/evil"})
        assert parameters(response.headers["Location"])["redirect_uri"] == f"{PUBLIC}/callback"


def proxied(app: Any) -> Any:
    """A proxy that terminates TLS and passes the Host header on."""

    def proxy(environ: Any, start_response: Any) -> Any:
        environ["HTTP_HOST"] = "app.example.com"
        environ.update(SERVER_NAME="10.0.0.5", SERVER_PORT="8000", REMOTE_ADDR="10.0.0.1")
        return app(environ, start_response)

    return proxy


def test_sign_in_below_a_prefix_obeys_pep_3333(provider: LocalProvider):
    """The browser checks each request and response."""
    app = mounted_by_dispatcher(create_app(Config.from_environ(environ_for(provider))))
    browser = Browser(app, provider)
    callback = browser.consent(browser.get("/auth/").location)
    assert browser.get(callback).location == "/auth/profile"
    assert browser.get("/auth/profile", headers=JSON).json["login"] == "octocat"
    assert browser.post("/auth/logout").status_int == 303
    assert browser.get("/auth/profile", headers=JSON).status_int == 401


class TestMisconfiguredProxy:
    """Each mistake has its own message for the operator, with the remedy."""

    def answer(self, app: Any, path: str, caplog: pytest.LogCaptureFixture, **headers: str) -> tuple[int, str]:
        response = send(
            app, path, headers={**HTML, **{name.replace("_", "-"): value for name, value in headers.items()}}
        )
        return response.status_code, caplog.text

    def make(self, provider: LocalProvider, **settings: str) -> Any:
        return create_app(Config.from_environ(environ_for(provider, **settings)))

    def test_that_leaves_the_prefix_in_the_path_is_named(self, provider: LocalProvider, caplog: Any):
        app = self.make(provider, PUBLIC_URL="https://app.example.com/intern")
        status, log = self.answer(app, "/intern/callback", caplog, Host="app.example.com")
        assert status == 500
        assert "still contains the prefix '/intern' of WSGI_OAUTH_PUBLIC_URL; let the proxy remove it" in log

    def test_that_leaves_the_prefix_in_the_path_causes_no_redirect_loop_at_a_gate(
        self, provider: LocalProvider, caplog: Any
    ):
        app = self.make(provider, PUBLIC_URL="https://app.example.com/intern/auth")
        gate = LoginRequired(Response("inside"), app)
        status, log = self.answer(gate, "/intern/auth/", caplog, Host="app.example.com")
        assert status == 500
        assert "still contains the prefix '/intern' of" in log

    def test_that_passes_no_host_on_is_named(self, provider: LocalProvider, caplog: Any):
        app = self.make(provider, PUBLIC_URL="https://app.example.com")
        status, log = self.answer(app, "/", caplog, Host="127.0.0.1:8000", X_Forwarded_For="10.0.0.1")
        assert (status, "let the proxy pass the Host header on" in log) == (400, True)

    def test_is_told_apart_from_a_health_check(self, provider: LocalProvider, caplog: Any):
        """Load balancers check a machine by its address, and take it out of service after a status 400."""
        app = self.make(provider, PUBLIC_URL="https://app.example.com")
        status, log = self.answer(app, "/", caplog, Host="10.0.0.5:8000", User_Agent="GoogleHC/1.0")
        assert (status, "let health checks request /healthz" in log) == (400, True)

    @pytest.mark.parametrize(
        ("hosts", "proxies", "problem"),
        [
            ("app.example.com", "2", "has 1 values, and WSGI_OAUTH_TRUSTED_PROXIES is 2"),
            ("app.example.com, inner.example", "1", "has 2 values, and WSGI_OAUTH_TRUSTED_PROXIES is 1"),
        ],
    )
    def test_that_adds_another_number_of_values_is_named(
        self, provider: LocalProvider, caplog: Any, hosts: str, proxies: str, problem: str
    ):
        app = self.make(provider, PUBLIC_URL="https://app.example.com", TRUSTED_PROXIES=proxies)
        status, log = self.answer(app, "/", caplog, Host="127.0.0.1:8000", X_Forwarded_Host=hosts)
        assert (status, problem in log) == (400, True)

    def test_that_forwards_http_to_an_https_site_is_redirected(self, provider: LocalProvider):
        app = self.make(provider, PUBLIC_URL="https://app.example.com/x", TRUSTED_PROXIES="1")
        forwarded = {"X-Forwarded-Proto": "http", "X-Forwarded-Host": "app.example.com", "X-Forwarded-For": "10.0.0.1"}
        request = {"Accept": "text/html", "Host": "10.0.0.9", **forwarded}
        response = send(app, "/", query="next=/page", headers=request)
        assert response.location == "https://app.example.com/x/?next=/page"
        assert "Set-Cookie" not in response.headers

    def test_that_forwards_http_to_an_https_site_on_this_machine_is_redirected(self, provider: LocalProvider):
        """Browsers send Sec-Fetch-Mode there over http, too."""
        app = self.make(provider, PUBLIC_URL="https://localhost/x", TRUSTED_PROXIES="1")
        headers = {**HTML, "Host": "localhost", "X-Forwarded-Proto": "http"}
        assert send(app, "/", headers=headers).location == "https://localhost/x/"

    def test_that_reports_http_for_https_causes_no_redirect_loop(self, provider: LocalProvider, caplog: Any):
        """Browsers send Sec-Fetch-Mode over https only."""
        app = self.make(provider, PUBLIC_URL="https://app.example.com/x", TRUSTED_PROXIES="1")
        for _ in range(2):
            headers = {**HTML, "Host": "app.example.com", "X-Forwarded-Proto": "http"}
            assert send(app, "/", headers=headers).location.startswith(provider.authorization_url)
        assert caplog.text.count("X-Forwarded-Proto: must be https") == 1

    @pytest.mark.parametrize(("proxies", "forwarded"), [("1", {}), ("0", {}), ("0", {"X-Forwarded-Proto": "http"})])
    def test_that_does_not_report_the_scheme_causes_no_redirect_loop(
        self, provider: LocalProvider, proxies: str, forwarded: dict[str, str]
    ):
        """S35: every client can send the header to an application that trusts no proxy."""
        app = self.make(provider, PUBLIC_URL="https://app.example.com/x", TRUSTED_PROXIES=proxies)
        headers = {"Accept": "text/html", "Host": "app.example.com", **forwarded}
        assert send(app, "/", headers=headers).location.startswith(provider.authorization_url)

    def test_page_for_a_wrong_host_links_to_the_right_one(self, provider: LocalProvider):
        app = self.make(provider, PUBLIC_URL="https://app.example.com/auth")
        for wsgi_app, path, link in [
            (app, "/", "https://app.example.com/auth/"),
            (LoginRequired(Response("inside"), app), "/auth/", "https://app.example.com/"),
            (LoginRequired(Response("inside"), app), "/page", "https://app.example.com/"),
        ]:
            response = send(wsgi_app, path, headers={**HTML, "Host": "www.example.com"})
            assert response.status_code == 400
            assert f'<a href="{link}">Open the application</a>' in response.get_data(as_text=True)


def test_callback_without_a_label_is_reported_with_the_right_redirect_uris(caplog: pytest.LogCaptureFixture) -> None:
    providers = [ProviderConfig(label=label, client_id="x", client_secret="x") for label in ("one", "two")]
    app = create_app(Config(providers=providers, session_store="memory:", public_url="https://app.example.com"))
    response = send(app, "/callback", query="code=x&state=y", headers={**HTML, "Host": "app.example.com"})
    assert response.status_code == 404
    assert "register https://app.example.com/callback/one or https://app.example.com/callback/two" in caplog.text
