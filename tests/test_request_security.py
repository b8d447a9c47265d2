"""Input from browsers and proxies: the Host header, forwarded headers, the session cookie, lifetimes, bodies."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any

import pytest
from conftest import HTML, JSON, Browser, environ_for, parameters, send, stored_sessions

from wsgi_oauth import Config, RequestHandler, SessionStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

PUBLIC = "https://app.example.com"

FOREIGN_HOSTS = [
    "evil.example",
    "app.example.com.evil.example",
    "evil.example:443",
    "xapp.example.com",
    "example.com",
    "app.example.co",
    "127.0.0.1",
    "localhost",
    "[::1]",
]
MALFORMED_HOSTS = [
    "xn--a",
    "xn--a.app.example.com",
    " ",
    "a b",
    "app.example.com evil.example",
    "app.example.com, evil.example",
    "app.example.com/path",
    "app.example.com?x",
    "app.example.com#x",
    "app.example.com\\evil",
    "user@app.example.com",
    "user:pass@app.example.com",
    "app.example.com:",
    "app.example.com:x",
    "app.example.com:80:80",
    "app.example.com:99999999",
    "app.example.com:-1",
    "[::1",
    "::1]",
    "[]",
    "[::1]x",
    "[fe80::1%25eth0]",
    ":80",
    "%",
    "%00",
    "\xe9",
    "\xff",
    "\x00",
    "<script>alert(1)</script>",
    "a" * 5000,
    ".",
    "..",
]

FORGED = {
    "X-Forwarded-For": "10.0.0.1",
    "X-Forwarded-Host": "app.example.com",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "443",
    "X-Forwarded-Prefix": "/evil",
    "Forwarded": "for=10.0.0.1;host=app.example.com;proto=https",
}

INVALID_IDS = [
    "",
    "x",
    "../x",
    "/etc/passwd",
    "A" * 42,
    "A" * 44,
    "A" * 300,
    "A" * 8000,
    "A" * 42 + "/",
    "A" * 42 + "\\",
    "A" * 42 + ".",
    '"' + "A" * 43 + '\\012"',
    "A" * 42 + "\xe9",
    "A" * 42 + "\x00",
    "\xff\xfe",
    "\xed\xa0\x80",
    "%2e%2e%2fx",
    "null",
]


class Notebook(RequestHandler):
    """Stores a note in the session."""

    route = "/notebook"

    def get(self, request):
        return self.jsonify({"note": request.session.get("note")})

    def post(self, request):
        request.session["note"] = request.form["note"]
        return self.jsonify({})


class TestHost:
    """S34: an attacker can choose the Host header, for example to poison links."""

    @pytest.fixture
    def public(self, provider: LocalProvider, store: SessionStore) -> Any:
        """Return an application with a public URL."""
        return create_app(Config.from_environ(environ_for(provider, PUBLIC_URL=PUBLIC)), store=store)

    @pytest.mark.parametrize("path", ["/", "/callback", "/profile", "/logout", "/nope"])
    def test_foreign_host_is_refused_before_anything_else(
        self, public: Any, provider: LocalProvider, store: SessionStore, path: str
    ):
        method = "POST" if path == "/logout" else "GET"
        for host in FOREIGN_HOSTS:
            response = send(public, path, method=method, headers=HTML, HTTP_HOST=host)
            assert response.status_code == 400, host
            assert {"Set-Cookie", "Location"}.isdisjoint(response.headers)
            # The page names the right host, and has a link to it.
            text = re.sub(r"app\.example\.com(?=[/<])", "", response.get_data(as_text=True))
            assert host not in text
        assert (stored_sessions(store), provider.exchanges) == ([], [])

    @pytest.mark.parametrize("proxy", [{}, {"HTTP_X_FORWARDED_HOST": "app.example.com"}], ids=["direct", "proxied"])
    def test_foreign_host_is_logged_with_the_setting_that_may_be_missing(
        self, public: Any, proxy: dict[str, str], caplog: pytest.LogCaptureFixture
    ):
        send(public, "/", headers=HTML, HTTP_HOST="127.0.0.1:8000", **proxy)
        assert "not the host of WSGI_OAUTH_PUBLIC_URL, 'app.example.com' (got '127.0.0.1')" in caplog.text
        assert ("; correct the setting, or let the proxy pass the Host header on" in caplog.text) == (not proxy)
        assert ("WSGI_OAUTH_TRUSTED_PROXIES" in caplog.text) == bool(proxy)

    @pytest.mark.parametrize("configured", [True, False])
    @pytest.mark.parametrize("path", ["/", "/profile", "/callback"])
    def test_malformed_host_is_refused(self, public: Any, application: Any, path: str, *, configured: bool):
        for host in MALFORMED_HOSTS:
            response = send(public if configured else application, path, headers=HTML, HTTP_HOST=host)
            assert response.status_code == 400, ascii(host)
            assert "Location" not in response.headers

    @pytest.mark.parametrize("port", ["65536", "99999"])
    def test_port_out_of_range_is_refused(self, application: Any, port: str):
        for path in ("/", "/profile"):
            response = send(application, path, headers=HTML, HTTP_HOST=f"127.0.0.1:{port}")
            assert response.status_code == 400
            assert "Location" not in response.headers

    @pytest.mark.parametrize("path", ["/healthz", "/nothing", "/logout"])
    def test_malformed_host_is_no_internal_error(self, application: Any, path: str):
        for host in MALFORMED_HOSTS:
            assert send(application, path, headers=HTML, HTTP_HOST=host).status_code < 500, ascii(host)

    @pytest.mark.parametrize("host", ["app.example.com", "APP.example.COM", "app.example.com:443", "app.example.com."])
    def test_equivalent_spellings_of_the_public_host_are_accepted(self, public: Any, host: str):
        response = send(public, "/", headers=HTML, HTTP_HOST=host)
        assert response.status_code == 302
        assert parameters(response.headers["Location"])["redirect_uri"] == f"{PUBLIC}/callback"

    @pytest.mark.parametrize(
        "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.1", "0", "10.0.0.1", "[::2]"]
    )
    def test_only_loopback_hosts_are_accepted_without_a_public_url(self, application: Any, host: str):
        assert send(application, "/", headers=HTML, HTTP_HOST=host).status_code == 400

    @pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "127.0.0.2"])
    def test_loopback_hosts_need_no_public_url(self, application: Any, host: str):
        response = send(application, "/", headers=HTML, HTTP_HOST=host)
        assert parameters(response.headers["Location"])["redirect_uri"] == f"http://{host}/callback"


class TestForwardedHeaders:
    """S35: any client can send them, so only those of a configured proxy count."""

    @pytest.fixture
    def behind(self, provider: LocalProvider, store: SessionStore) -> Callable[..., Any]:
        """Create an application with a public URL behind a number of trusted proxies."""

        def make(trusted: int) -> Any:
            environ = environ_for(provider, PUBLIC_URL=PUBLIC, TRUSTED_PROXIES=str(trusted))
            return create_app(Config.from_environ(environ), store=store)

        return make

    def test_are_ignored_without_configuration(self, application: Any):
        response = send(application, "/", headers={**HTML, **FORGED}, HTTP_HOST="localhost:8000")
        assert parameters(response.headers["Location"])["redirect_uri"] == "http://localhost:8000/callback"
        cookie = response.headers["Set-Cookie"]
        assert cookie.startswith("wsgi_oauth_8000-")
        assert "Secure" not in cookie

    @pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"])
    def test_without_a_public_url_are_reported_once(
        self, application: Any, header: str, caplog: pytest.LogCaptureFixture
    ):
        for _ in range(2):
            send(application, "/", headers={**HTML, header: FORGED[header]}, HTTP_HOST="localhost:8000")
        warnings = [record.message for record in caplog.records if "a proxy seems to be in front" in record.message]
        assert len(warnings) == 1
        assert "set it to the URL that browsers use" in warnings[0]

    @pytest.mark.parametrize("header", FORGED)
    def test_never_turn_an_internal_host_into_the_public_one(self, behind: Callable[..., Any], header: str):
        forged = {**HTML, header: FORGED[header]}
        assert send(behind(0), "/", headers=forged, HTTP_HOST="10.0.0.5:8000").status_code == 400

    def test_are_ignored_without_a_trusted_proxy(self, behind: Callable[..., Any]):
        forged = {**HTML, "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
        response = send(behind(0), "/", headers=forged, HTTP_HOST="app.example.com")
        assert parameters(response.headers["Location"])["redirect_uri"] == f"{PUBLIC}/callback"
        assert response.headers["Set-Cookie"].startswith("__Host-wsgi_oauth-")

    def test_of_a_trusted_proxy_determine_the_host(self, behind: Callable[..., Any]):
        """A proxy may use an internal name for the application."""
        headers = {**HTML, "X-Forwarded-Host": "app.example.com", "X-Forwarded-Proto": "https"}
        response = send(behind(1), "/", headers=headers, HTTP_HOST="10.0.0.5:8000")
        assert response.status_code == 302
        assert parameters(response.headers["Location"])["redirect_uri"] == f"{PUBLIC}/callback"

    def test_of_a_trusted_proxy_are_validated_like_the_host(self, behind: Callable[..., Any]):
        headers = {**HTML, "X-Forwarded-Host": "evil.example"}
        assert send(behind(1), "/", headers=headers, HTTP_HOST="app.example.com").status_code == 400

    def test_are_counted_from_the_right(self, behind: Callable[..., Any]):
        """The nearest proxy appends its value; the client can choose everything to the left of it."""
        headers = {**HTML, "X-Forwarded-Host": "app.example.com, evil.example"}
        assert send(behind(1), "/", headers=headers, HTTP_HOST="10.0.0.5:8000").status_code == 400
        headers = {**HTML, "X-Forwarded-Host": "evil.example, app.example.com"}
        assert send(behind(1), "/", headers=headers, HTTP_HOST="10.0.0.5:8000").status_code == 302


class TestSessionId:
    """S36, S37. attacks/test_fixation.py shows the attacks."""

    def test_is_kept_by_other_requests(self, browser: Browser):
        browser.sign_in()
        before = browser.cookie
        browser.get(browser.callback_url(decision="deny"))
        browser.profile()
        browser.start()
        assert browser.cookie == before

    def test_invalid_id_is_ignored(self, application: Any, store: SessionStore):
        """S54."""
        for planted in INVALID_IDS:
            cookie = {"Cookie": f"wsgi_oauth={planted}"}
            assert send(application, "/profile", headers={**JSON, **cookie}).status_code == 401, ascii(planted)
            assert send(application, "/logout", method="POST", headers={**HTML, **cookie}).status_code == 303
            assert stored_sessions(store) == []
        for planted in INVALID_IDS:
            started = send(application, "/", headers={**HTML, "Cookie": f"wsgi_oauth={planted}"})
            assert started.status_code == 302, ascii(planted)

    @pytest.mark.parametrize(
        "path", ["/profile", "/callback", "/callback?code=x&state=y", "/healthz", "/readyz", "/nothing"]
    )
    def test_is_not_issued_by_a_request_that_needs_no_session(self, browser: Browser, store: SessionStore, path: str):
        assert "Set-Cookie" not in browser.get(path).headers
        assert stored_sessions(store) == []


def set_cookies(response: Any) -> list[str]:
    headers = response.headers
    return headers.getall("Set-Cookie") if hasattr(headers, "getall") else headers.getlist("Set-Cookie")


class TestCookie:
    """S38, S39. attacks/test_cookie_tossing.py shows the attacks."""

    @staticmethod
    def attributes(response: Any) -> tuple[str, dict[str, str | bool]]:
        """Return name and attributes of the first cookie that *response* sets, without a sign-in's own state."""
        name, morsel = next(iter(SimpleCookie(set_cookies(response)[0]).items()))
        attributes = {key: value for key, value in morsel.items() if value}
        if pending := re.fullmatch(r"((?:__Host-)?wsgi_oauth(?:_[0-9]+)?)-.{10}", name):
            assert attributes.pop("max-age") == str(25 * 3600)
            name = pending[1]
        return name, attributes

    @pytest.fixture
    def secure(self, store: SessionStore) -> Any:
        """Return a browser for an application with a public https URL."""
        provider = LocalProvider(redirect_uris=[f"{PUBLIC}/callback"])
        with serve_provider(provider):
            app = create_app(Config.from_environ(environ_for(provider, PUBLIC_URL=PUBLIC)), store=store)
            yield Browser(app, provider, base=PUBLIC)

    def test_has_the_host_prefix_and_is_unreadable_for_scripts(self, secure: Browser):
        response = secure.get("/")
        name, attributes = self.attributes(response)
        assert name == "__Host-wsgi_oauth"
        assert attributes == {"path": "/", "secure": True, "httponly": True, "samesite": "Lax"}

    @pytest.mark.parametrize(
        ("host", "expected"),
        [("localhost", "wsgi_oauth"), ("127.0.0.1:8000", "wsgi_oauth_8000"), ("[::1]:8000", "wsgi_oauth_8000")],
    )
    def test_on_loopback_is_not_secure(self, application: Any, host: str, expected: str):
        """Browsers reject Secure cookies and the __Host- prefix over plain http."""
        name, attributes = self.attributes(send(application, "/", headers=HTML, HTTP_HOST=host))
        assert (name, attributes) == (expected, {"path": "/", "httponly": True, "samesite": "Lax"})

    def test_over_https_on_loopback_is_secure(self, application: Any):
        response = send(application, "/", headers=HTML, wsgi__url_scheme="https")
        assert self.attributes(response)[0] == "__Host-wsgi_oauth"

    @pytest.mark.parametrize(
        "cookies",
        [
            "wsgi_oauth={foreign}, wsgi_oauth={own}",
            "wsgi_oauth={own}; wsgi_oauth=",
            "wsgi_oauth={own},wsgi_oauth={own}",
        ],
    )
    def test_sent_twice_is_ignored(
        self, make_browser: Callable[..., Browser], provider: LocalProvider, store: SessionStore, cookies: str
    ):
        """S39: the application cannot know which of the two is the user's own."""
        own, foreign = make_browser(handlers=(Notebook,)), make_browser(handlers=(Notebook,))
        for browser, note in ((own, "own"), (foreign, "foreign")):
            browser.sign_in()
            browser.post("/notebook", params={"note": note})
        app = own.app.app
        cookie = {"Cookie": cookies.format(own=own.cookie, foreign=foreign.cookie)}
        assert send(app, "/notebook", headers={**HTML, **cookie}).get_json() in ({"note": None}, {"note": "own"})
        started = send(app, "/", headers={**HTML, **cookie})
        assert started.status_code == 302
        assert (foreign.cookie or "?") not in started.headers.get("Set-Cookie", "")
        assert sorted(session.get("note", "") for session in stored_sessions(store))[-2:] == ["foreign", "own"]

    def test_is_found_among_many_others(self, browser: Browser, application: Any):
        browser.sign_in()
        others = "; ".join(f"other{number}=x" for number in range(40))
        headers = {**JSON, "Cookie": f'a="b c"; {others}; wsgi_oauth={browser.cookie}; ; =x; novalue'}
        assert send(application, "/profile", headers=headers).status_code == 200


class TestLifetimes:
    """S40. `test_sessions.py` tests the lifetimes themselves."""

    def test_ended_session_stays_ended(self, make_browser: Callable[..., Browser], later: Callable[[float], None]):
        browser = make_browser(SESSION_IDLE="600")
        browser.sign_in()
        headers = {**JSON, "Cookie": f"wsgi_oauth={browser.cookie}"}
        later(610)
        assert send(browser.app.app, "/profile", headers=headers).status_code == 401
        later(-610)
        later(620)
        assert send(browser.app.app, "/profile", headers=headers).status_code == 401


class TestRequestBodies:
    """S48."""

    @pytest.mark.parametrize("path", ["/logout", "/notebook", "/profile", "/callback", "/"])
    @pytest.mark.parametrize("size", ["100000", "10000000000", "9" * 30])
    def test_with_a_too_large_content_length_are_refused_unread(
        self, make_browser: Callable[..., Browser], path: str, size: str
    ):
        app = make_browser(handlers=(Notebook,)).app.app
        method = "POST" if path in {"/logout", "/notebook"} else "GET"
        response = send(app, path, method=method, headers=HTML, CONTENT_LENGTH=size, wsgi__input=Unreadable())
        assert response.status_code == 413

    @pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
    def test_without_end_are_refused(self, make_browser: Callable[..., Browser], kind: str):
        """A chunked request does not announce its length."""
        app = make_browser(handlers=(Notebook,)).app.app
        endless = Endless()
        response = send(
            app, "/notebook", method="POST", CONTENT_TYPE=kind, wsgi__input=endless, wsgi__input_terminated=True
        )
        assert response.status_code == 413
        assert endless.given < 2**21

    @pytest.mark.parametrize("size", [70_000, 200_000])
    def test_over_the_limit_are_refused_and_not_truncated(self, make_browser: Callable[..., Browser], size: int):
        browser = make_browser(handlers=(Notebook,))
        body, kind = io.BytesIO(b"note=" + b"a" * size), "application/x-www-form-urlencoded"
        response = send(
            browser.app.app,
            "/notebook",
            method="POST",
            CONTENT_TYPE=kind,
            wsgi__input=body,
            wsgi__input_terminated=True,
        )
        assert response.status_code == 413

    @pytest.mark.parametrize("failure", [None, OSError, RuntimeError], ids=["cut", "OSError", "another exception"])
    def test_truncated_or_malformed_are_refused(
        self, make_browser: Callable[..., Browser], failure: type[Exception] | None, caplog: pytest.LogCaptureFixture
    ):
        """gunicorn's exception contains the malformed chunk, which must not reach the log. Its type varies."""
        browser = make_browser(handlers=(Notebook,))
        body: dict[str, Any] = {"wsgi__input": io.BytesIO(b"note=half"), "CONTENT_LENGTH": "50"}
        if failure:
            body = {"wsgi__input": Malformed(failure)}
        kind = "application/x-www-form-urlencoded"
        response = send(
            browser.app.app, "/notebook", method="POST", CONTENT_TYPE=kind, wsgi__input_terminated=True, **body
        )
        assert response.status_code == 400
        assert "canary" not in caplog.text
        assert browser.get("/notebook").json == {"note": None}

    @pytest.mark.parametrize("length", ["-1", "x", "", "1 2", "+5", "٣"])
    def test_with_an_invalid_content_length_are_no_internal_error(self, application: Any, length: str):
        response = send(application, "/logout", method="POST", headers=HTML, CONTENT_LENGTH=length)
        assert response.status_code in {303, 400}

    def test_of_usual_size_are_accepted(self, make_browser: Callable[..., Browser]):
        browser = make_browser(handlers=(Notebook,))
        note = "x" * 30000
        browser.post("/notebook", params={"note": note})
        assert browser.get("/notebook").json == {"note": note}


class Malformed(io.BytesIO):
    """A body with a chunk that the server cannot parse."""

    def __init__(self, kind: type[Exception]) -> None:
        super().__init__()
        self.kind = kind

    def read(self, *_: int) -> bytes:
        raise self.kind("Invalid chunk size: b'canary'")


class Unreadable:
    """A body that must not be read."""

    def read(self, *_: int) -> bytes:
        raise AssertionError("the body was read")

    readline = readlines = __iter__ = read


class Endless:
    """A body without an end."""

    given = 0

    def read(self, size: int = -1) -> bytes:
        size = size if size > 0 else 65536
        self.given += size
        assert self.given < 2**24, "too much was read"
        return b"a" * size

    readline = readlines = __iter__ = read


def test_cookie_is_secure_behind_a_trusted_https_proxy(provider: LocalProvider):
    """S35, S38: also on loopback, where no public URL is needed."""
    app = create_app(Config.from_environ(environ_for(provider, TRUSTED_PROXIES="1")))
    response = send(app, "/", headers={**HTML, "X-Forwarded-Proto": "https"})
    assert response.headers["Set-Cookie"].startswith("__Host-")
    assert "redirect_uri=https%3A%2F%2Flocalhost%2Fcallback" in response.headers["Location"]
