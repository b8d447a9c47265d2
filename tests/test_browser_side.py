"""What the browser is told and believed: where it is sent, the Host it names, its cookie, what others make it do."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import HTML, JSON, Browser, environ_for, parameters, send, stored_sessions
from whatwg import resolved

from wsgi_oauth import Config, FileStore, MemoryStore, RequestHandler, SessionStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

PUBLIC = "https://app.example.com"

HERE = [
    "/",
    "/profile",
    "/a/b",
    "/a/b/",
    "/?q=//evil.example",
    "/a?next=https://evil.example/",
    "/a#//evil.example",
    "/x:y",
]

HOSTS_OF_OTHERS = [
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

IDS_THAT_ARE_NONE = [
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


class Anywhere(RequestHandler):
    """A page of somebody's own under every path, for signed-in users."""

    route = "/pages/<path:name>"

    def get(self, request, name):
        return self.jsonify({"name": name, "token": bool(request.session["oauth_token"])})


class Notebook(RequestHandler):
    """Remembers something in the session."""

    route = "/notebook"

    def get(self, request):
        return self.jsonify({"note": request.session.get("note")})

    def post(self, request):
        request.session["note"] = request.form["note"]
        return self.jsonify({})


class TestTheReturnUrl:
    """S33, RFC 9700 4.11.1: no sign-in here ends at somebody else's page. attacks/test_open_redirect.py tries hard."""

    @pytest.fixture
    def store(self) -> SessionStore:
        return MemoryStore()

    @pytest.mark.parametrize("path", HERE)
    def test_may_be_any_path_of_this_site(self, browser: Browser, path: str):
        response = browser.sign_in(path)
        assert response.location == path
        assert resolved(response.location, "http://localhost/callback")[0] == "http://localhost"

    @pytest.mark.parametrize("first", ["//evil.example", "/profile"])
    def test_given_twice_leads_nowhere_else(self, application: Any, provider: LocalProvider, first: str):
        for query in (f"next={first}&next=//evil.example", f"next=//evil.example&next={first}"):
            started = send(application, "/", query=query, headers=HTML)
            callback = Browser(application, provider).consent(started.headers["Location"])
            headers = {**HTML, "Cookie": started.headers["Set-Cookie"].partition(";")[0]}
            response = send(application, "/callback", query=urlsplit(callback).query, headers=headers)
            assert resolved(response.headers["Location"], callback) == ("http://localhost", "/profile")

    @pytest.mark.parametrize(
        "path",
        ["//evil.example/pages/x", "/pages//evil.example", "/pages/..//evil.example", "/pages/\\evil", "/pages/a?b#c%"],
    )
    def test_of_a_page_that_asked_for_the_sign_in_stays_here_too(self, make_browser: Callable[..., Browser], path: str):
        browser = make_browser(handlers=(Anywhere,))
        app = browser.app.app
        response = send(app, path, headers=HTML)
        if response.status_code == 404:
            return
        location = response.headers["Location"]
        assert resolved(location, "http://localhost")[0] == "http://localhost"
        final = browser.get(browser.consent(browser.get(location).location)).location
        origin, arrived = resolved(final, "http://localhost/callback")
        assert origin == "http://localhost"
        assert not arrived.startswith("//")

    def test_is_not_taken_from_the_callback(self, browser: Browser):
        assert browser.get(browser.callback_url() + "&next=%2Felsewhere").location == "/profile"


class TestTheHost:
    """S34: password-reset poisoning and its relatives begin with a Host header that is believed."""

    @pytest.fixture
    def store(self) -> SessionStore:
        return MemoryStore()

    @pytest.fixture
    def public(self, provider: LocalProvider, store: SessionStore) -> Any:
        return create_app(Config.from_environ(environ_for(provider, PUBLIC_URL=PUBLIC)), store=store)

    @pytest.mark.parametrize("path", ["/", "/callback", "/profile", "/logout"])
    def test_of_others_gets_400_before_any_work(
        self, public: Any, provider: LocalProvider, store: SessionStore, path: str
    ):
        method = "POST" if path == "/logout" else "GET"
        for host in HOSTS_OF_OTHERS:
            response = send(public, path, method=method, headers=HTML, HTTP_HOST=host)
            assert response.status_code == 400, host
            assert {"Set-Cookie", "Location"}.isdisjoint(response.headers)
            assert host not in response.get_data(as_text=True)
        assert (stored_sessions(store), provider.exchanges) == ([], [])

    @pytest.mark.parametrize("proxy", [{}, {"HTTP_X_FORWARDED_HOST": "app.example.com"}], ids=["direct", "proxied"])
    def test_of_others_is_in_the_log_with_what_may_be_missing(
        self, public: Any, proxy: dict[str, str], caplog: pytest.LogCaptureFixture
    ):
        send(public, "/", headers=HTML, HTTP_HOST="127.0.0.1:8000", **proxy)
        assert "the host '127.0.0.1' is not that of WSGI_OAUTH_PUBLIC_URL" in caplog.text
        assert ("WSGI_OAUTH_TRUSTED_PROXIES" in caplog.text) == bool(proxy)

    @pytest.mark.parametrize("configured", [True, False])
    @pytest.mark.parametrize("path", ["/", "/profile", "/callback"])
    def test_that_is_malformed_gets_400(self, public: Any, application: Any, path: str, *, configured: bool):
        for host in MALFORMED_HOSTS:
            response = send(public if configured else application, path, headers=HTML, HTTP_HOST=host)
            assert response.status_code == 400, ascii(host)
            assert "Location" not in response.headers

    @pytest.mark.parametrize("port", ["65536", "99999"])
    def test_has_a_port_that_there_is(self, application: Any, port: str):
        for path in ("/", "/profile"):
            response = send(application, path, headers=HTML, HTTP_HOST=f"127.0.0.1:{port}")
            assert response.status_code == 400
            assert "Location" not in response.headers

    @pytest.mark.parametrize("path", ["/healthz", "/nothing", "/logout"])
    def test_that_is_malformed_is_never_a_failure_of_ours(self, application: Any, path: str):
        for host in MALFORMED_HOSTS:
            assert send(application, path, headers=HTML, HTTP_HOST=host).status_code < 500, ascii(host)

    @pytest.mark.parametrize("host", ["app.example.com", "APP.example.COM", "app.example.com:443", "app.example.com."])
    def test_of_our_own_can_be_spelt_in_several_ways(self, public: Any, host: str):
        response = send(public, "/", headers=HTML, HTTP_HOST=host)
        assert response.status_code == 302
        assert parameters(response.headers["Location"])["redirect_uri"] == f"{PUBLIC}/callback"

    @pytest.mark.parametrize(
        "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.1", "0", "10.0.0.1", "[::2]"]
    )
    def test_is_a_loopback_one_where_nothing_is_configured(self, application: Any, host: str):
        assert send(application, "/", headers=HTML, HTTP_HOST=host).status_code == 400

    @pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "127.0.0.2"])
    def test_of_this_machine_needs_no_configuration(self, application: Any, host: str):
        response = send(application, "/", headers=HTML, HTTP_HOST=host)
        assert parameters(response.headers["Location"])["redirect_uri"] == f"http://{host}/callback"


class TestForwardedHeaders:
    """S35: anybody can send them, so only those of a proxy that was named count."""

    @pytest.fixture
    def store(self) -> SessionStore:
        return MemoryStore()

    @pytest.fixture
    def behind(self, provider: LocalProvider, store: SessionStore) -> Callable[..., Any]:
        """An application with a public URL, behind as many proxies as it is told."""

        def make(trusted: int) -> Any:
            environ = environ_for(provider, PUBLIC_URL=PUBLIC, TRUSTED_PROXIES=str(trusted))
            return create_app(Config.from_environ(environ), store=store)

        return make

    def test_change_nothing_on_this_machine(self, application: Any):
        response = send(application, "/", headers={**HTML, **FORGED}, HTTP_HOST="localhost:8000")
        assert parameters(response.headers["Location"])["redirect_uri"] == "http://localhost:8000/callback"
        cookie = response.headers["Set-Cookie"]
        assert cookie.startswith("wsgi_oauth=")
        assert "Secure" not in cookie

    @pytest.mark.parametrize("header", FORGED)
    def test_do_not_make_an_internal_name_ours(self, behind: Callable[..., Any], header: str):
        forged = {**HTML, header: FORGED[header]}
        assert send(behind(0), "/", headers=forged, HTTP_HOST="10.0.0.5:8000").status_code == 400

    def test_do_not_hide_a_host_that_is_not_ours(self, behind: Callable[..., Any]):
        assert send(behind(0), "/", headers={**HTML, **FORGED}, HTTP_HOST="evil.example").status_code == 400

    def test_do_not_hurt_where_they_are_ignored(self, behind: Callable[..., Any]):
        forged = {**HTML, "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
        response = send(behind(0), "/", headers=forged, HTTP_HOST="app.example.com")
        assert parameters(response.headers["Location"])["redirect_uri"] == f"{PUBLIC}/callback"
        assert response.headers["Set-Cookie"].startswith("__Host-wsgi_oauth=")

    def test_of_a_trusted_proxy_name_the_host(self, behind: Callable[..., Any]):
        """A proxy that speaks to us by an internal name tells the real one here."""
        headers = {**HTML, "X-Forwarded-Host": "app.example.com", "X-Forwarded-Proto": "https"}
        response = send(behind(1), "/", headers=headers, HTTP_HOST="10.0.0.5:8000")
        assert response.status_code == 302
        assert parameters(response.headers["Location"])["redirect_uri"] == f"{PUBLIC}/callback"

    def test_of_a_trusted_proxy_are_checked_like_the_host(self, behind: Callable[..., Any]):
        headers = {**HTML, "X-Forwarded-Host": "evil.example"}
        assert send(behind(1), "/", headers=headers, HTTP_HOST="app.example.com").status_code == 400

    def test_count_from_the_right_so_the_clients_own_are_not_believed(self, behind: Callable[..., Any]):
        """The nearest proxy appends what it saw; everything to the left came from outside."""
        headers = {**HTML, "X-Forwarded-Host": "app.example.com, evil.example"}
        assert send(behind(1), "/", headers=headers, HTTP_HOST="10.0.0.5:8000").status_code == 400
        headers = {**HTML, "X-Forwarded-Host": "evil.example, app.example.com"}
        assert send(behind(1), "/", headers=headers, HTTP_HOST="10.0.0.5:8000").status_code == 302


class TestTheSessionId:
    """S36, S37, ASVS 7.2.4: session fixation."""

    def test_changes_at_the_sign_in(self, browser: Browser, store: SessionStore):
        browser.start()
        before = browser.cookie
        browser.sign_in()
        assert browser.cookie != before
        assert len(stored_sessions(store)) == 1

    def test_from_before_the_sign_in_opens_nothing(self, browser: Browser, application: Any):
        browser.start()
        before = browser.cookie
        browser.sign_in()
        assert send(application, "/profile", headers={**JSON, "Cookie": f"wsgi_oauth={before}"}).status_code == 401

    def test_changes_at_a_second_sign_in(self, browser: Browser, application: Any, store: SessionStore):
        browser.sign_in()
        before = browser.cookie
        browser.sign_in()
        assert browser.cookie != before
        assert send(application, "/profile", headers={**JSON, "Cookie": f"wsgi_oauth={before}"}).status_code == 401
        assert len(stored_sessions(store)) == 1

    def test_leaves_no_file_of_the_old_one(self, provider: LocalProvider, tmp_path: Path):
        store = FileStore(tmp_path / "sessions")
        browser = Browser(create_app(Config.from_environ(environ_for(provider)), store=store), provider)
        seen = []
        for step in (browser.start, browser.sign_in, browser.sign_in):
            step()
            seen.append({path.name for path in (tmp_path / "sessions").iterdir()})
        assert [len(names) for names in seen] == [1, 1, 1]
        assert len(set.union(*seen)) == 3

    def test_does_not_change_without_a_sign_in(self, browser: Browser):
        browser.sign_in()
        before = browser.cookie
        browser.get(browser.callback_url(decision="deny"))
        browser.profile()
        browser.start()
        assert browser.cookie == before

    def test_of_a_second_user_leads_to_none_of_the_first_ones_data(
        self, make_browser: Callable[..., Browser], provider: LocalProvider, store: SessionStore
    ):
        browser = make_browser(handlers=(Notebook,))
        browser.sign_in()
        browser.post("/notebook", params={"note": "the first one's"})
        first = stored_sessions(store)[0]["oauth_token"]["access_token"]
        provider.user = {**provider.user, "id": 2, "login": "second"}
        browser.sign_in()
        assert browser.get("/notebook").json == {"note": None}
        assert browser.profile().json["login"] == "second"
        assert first not in str(stored_sessions(store))

    def test_that_the_store_does_not_know_is_never_adopted(self, application: Any, store: SessionStore):
        """An attacker plants a cookie, the victim signs in, and the attacker would know the id."""
        planted = "A" * 43
        response = send(application, "/", headers={**HTML, "Cookie": f"wsgi_oauth={planted}"})
        assert response.status_code == 302
        assert planted not in response.headers["Set-Cookie"]
        headers = {**JSON, "Cookie": f"wsgi_oauth={planted}"}
        assert send(application, "/profile", headers=headers).status_code == 401

    def test_that_is_none_opens_nothing(self, application: Any, store: SessionStore):
        """S54."""
        for planted in IDS_THAT_ARE_NONE:
            cookie = {"Cookie": f"wsgi_oauth={planted}"}
            assert send(application, "/profile", headers={**JSON, **cookie}).status_code == 401, ascii(planted)
            assert send(application, "/logout", method="POST", headers={**HTML, **cookie}).status_code == 200
            assert stored_sessions(store) == []
        for planted in IDS_THAT_ARE_NONE:
            started = send(application, "/", headers={**HTML, "Cookie": f"wsgi_oauth={planted}"})
            assert started.status_code == 302, ascii(planted)

    @pytest.mark.parametrize(
        "path", ["/profile", "/callback", "/callback?code=x&state=y", "/healthz", "/readyz", "/nothing"]
    )
    def test_is_not_given_for_a_get_that_needs_none(self, browser: Browser, store: SessionStore, path: str):
        assert "Set-Cookie" not in browser.get(path).headers
        assert stored_sessions(store) == []

    def test_is_not_given_for_a_look_into_an_empty_session(
        self, make_browser: Callable[..., Browser], store: SessionStore
    ):
        response = make_browser(handlers=(Notebook,)).get("/notebook")
        assert response.json == {"note": None}
        assert "Set-Cookie" not in response.headers
        assert stored_sessions(store) == []

    def test_is_not_sent_again_when_nothing_changed(self, browser: Browser):
        browser.sign_in()
        assert "Set-Cookie" not in browser.profile().headers


class TestTheCookie:
    """S38, S39."""

    @staticmethod
    def attributes(response: Any) -> tuple[str, dict[str, str | bool]]:
        [(name, morsel)] = SimpleCookie(response.headers["Set-Cookie"]).items()
        return name, {key: value for key, value in morsel.items() if value}

    @pytest.fixture
    def secure(self, store: SessionStore) -> Any:
        """An application at a public https URL, with a provider that knows it."""
        provider = LocalProvider(redirect_uris=[f"{PUBLIC}/callback"])
        with serve_provider(provider) as server:
            provider.server = server
            app = create_app(Config.from_environ(environ_for(provider, PUBLIC_URL=PUBLIC)), store=store)
            yield Browser(app, provider, base=PUBLIC)

    def test_is_bound_to_the_host_and_out_of_reach_for_scripts(self, secure: Browser):
        response = secure.get("/")
        name, attributes = self.attributes(response)
        assert name == "__Host-wsgi_oauth"
        assert attributes == {"path": "/", "secure": True, "httponly": True, "samesite": "Lax"}

    def test_is_the_same_when_signed_in_but_lasts(self, secure: Browser):
        response = secure.get(secure.callback_url())
        assert response.status_int == 303
        name, attributes = self.attributes(response)
        assert 0 < int(attributes.pop("max-age")) <= 7 * 86400
        attributes.pop("expires", None)
        assert name == "__Host-wsgi_oauth"
        assert attributes == {"path": "/", "secure": True, "httponly": True, "samesite": "Lax"}

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000"])
    def test_on_this_machine_has_no_prefix_and_is_not_secure(self, application: Any, host: str):
        """Browsers take neither over plain http."""
        name, attributes = self.attributes(send(application, "/", headers=HTML, HTTP_HOST=host))
        assert (name, attributes) == ("wsgi_oauth", {"path": "/", "httponly": True, "samesite": "Lax"})

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_of_an_https_site_is_secure_whatever_the_proxy_speaks(self, secure: Browser, scheme: str):
        """TLS ends at the proxy, and the last leg is plain http."""
        response = send(secure.app.app, "/", headers=HTML, HTTP_HOST="app.example.com", wsgi__url_scheme=scheme)
        assert self.attributes(response)[0] == "__Host-wsgi_oauth"

    def test_over_https_on_this_machine_is_secure_too(self, application: Any):
        response = send(application, "/", headers=HTML, wsgi__url_scheme="https")
        assert self.attributes(response)[0] == "__Host-wsgi_oauth"

    def test_without_the_prefix_means_nothing_at_an_https_site(self, secure: Browser):
        """A neighbour's subdomain can set the one, never the other (RFC 6265bis 4.1.3.2)."""
        secure.get(secure.callback_url())
        headers = {**JSON, "Cookie": f"wsgi_oauth={secure.cookie}"}
        response = send(secure.app.app, "/profile", headers=headers, HTTP_HOST="app.example.com")
        assert response.status_code == 401

    @pytest.mark.parametrize(
        "cookies",
        [
            "wsgi_oauth={theirs}; wsgi_oauth={ours}",
            "wsgi_oauth={ours}; wsgi_oauth={theirs}",
            "wsgi_oauth={theirs}, wsgi_oauth={ours}",
            "wsgi_oauth={ours}; wsgi_oauth=",
            "wsgi_oauth={ours},wsgi_oauth={ours}",
        ],
    )
    def test_twice_signs_nobody_in_as_somebody_else(
        self, make_browser: Callable[..., Browser], provider: LocalProvider, store: SessionStore, cookies: str
    ):
        """S39: cookie tossing. Which of the two is the user's own cannot be told."""
        ours, theirs = make_browser(handlers=(Notebook,)), make_browser(handlers=(Notebook,))
        for browser, note in ((ours, "ours"), (theirs, "theirs")):
            browser.sign_in()
            browser.post("/notebook", params={"note": note})
        app = ours.app.app
        cookie = {"Cookie": cookies.format(ours=ours.cookie, theirs=theirs.cookie)}
        assert send(app, "/notebook", headers={**HTML, **cookie}).get_json() in ({"note": None}, {"note": "ours"})
        started = send(app, "/", headers={**HTML, **cookie})
        assert started.status_code == 302
        assert (theirs.cookie or "?") not in started.headers.get("Set-Cookie", "")
        assert sorted(session.get("note", "") for session in stored_sessions(store))[-2:] == ["ours", "theirs"]

    def test_among_many_others_is_found(self, browser: Browser, application: Any):
        browser.sign_in()
        others = "; ".join(f"other{number}=x" for number in range(40))
        headers = {**JSON, "Cookie": f'a="b c"; {others}; wsgi_oauth={browser.cookie}; ; =x; novalue'}
        assert send(application, "/profile", headers=headers).status_code == 200


class TestLifetimes:
    """S40, ASVS 7.3.1 and 7.3.2: on the server, whatever the browser keeps."""

    @pytest.fixture
    def signed_in(self, make_browser: Callable[..., Browser]) -> Callable[[], int]:
        """Somebody who was just signed in; call it for the status of a profile request with that cookie."""
        browser = make_browser(SESSION_IDLE="600", SESSION_LIFETIME="1500")
        browser.sign_in()
        headers = {**JSON, "Cookie": f"wsgi_oauth={browser.cookie}"}
        return lambda: send(browser.app.app, "/profile", headers=headers).status_code

    def test_a_session_that_nobody_uses_ends(self, signed_in: Callable[[], int], later: Callable[[float], None]):
        later(610)
        assert signed_in() == 401

    def test_one_that_is_used_goes_on(self, signed_in: Callable[[], int], later: Callable[[float], None]):
        for _ in range(2):
            later(500)
            assert signed_in() == 200

    def test_but_not_for_ever(self, signed_in: Callable[[], int], later: Callable[[float], None]):
        for _ in range(3):
            later(450)
            assert signed_in() == 200
        later(151)
        assert signed_in() == 401

    def test_one_that_has_ended_does_not_come_back(self, signed_in: Callable[[], int], later: Callable[[float], None]):
        later(610)
        assert signed_in() == 401
        later(-610)
        later(620)
        assert signed_in() == 401

    def test_a_shorter_lifetime_counts_for_sessions_that_exist(
        self, make_browser: Callable[..., Browser], later: Callable[[float], None]
    ):
        browser = make_browser()
        browser.sign_in()
        headers = {**JSON, "Cookie": f"wsgi_oauth={browser.cookie}"}
        stricter = make_browser(SESSION_IDLE="60").app.app
        assert send(stricter, "/profile", headers=headers).status_code == 200
        later(61)
        assert send(stricter, "/profile", headers=headers).status_code == 401

    def test_a_new_sign_in_begins_anew(self, make_browser: Callable[..., Browser], later: Callable[[float], None]):
        browser = make_browser(SESSION_LIFETIME="1000")
        browser.sign_in()
        later(900)
        browser.sign_in()
        later(900)
        assert browser.profile().status_int == 200

    def test_the_cookie_lasts_no_longer_than_the_session(self, make_browser: Callable[..., Browser]):
        response = make_browser(SESSION_LIFETIME="1000").sign_in()
        assert 990 <= int(re.search(r"Max-Age=(\d+)", response.headers["Set-Cookie"])[1]) <= 1000


class TestLogout:
    """S41."""

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
    def test_that_another_site_asks_for_does_nothing(self, browser: Browser, headers: dict[str, str]):
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
    def test_of_this_sites_own_pages_works(self, browser: Browser, headers: dict[str, str], store: SessionStore):
        browser.sign_in()
        cookie = {"Cookie": f"wsgi_oauth={browser.cookie}"}
        response = send(browser.app.app, "/logout", method="POST", headers={**HTML, **cookie, **headers})
        assert response.status_code == 200
        assert stored_sessions(store) == []

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
    def test_by_another_method_does_nothing(self, browser: Browser, method: str):
        browser.sign_in()
        cookie = {"Cookie": f"wsgi_oauth={browser.cookie}"}
        response = send(browser.app.app, "/logout", method=method, headers={**HTML, **cookie})
        assert response.status_code == (204 if method == "OPTIONS" else 405)
        assert browser.profile().status_int == 200

    def test_deletes_the_file_and_clears_the_cookie(self, provider: LocalProvider, tmp_path: Path):
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

    def test_clears_the_cookie_of_an_https_site_with_its_own_attributes(self, provider: LocalProvider):
        app = create_app(Config.from_environ(environ_for(provider, PUBLIC_URL=PUBLIC)))
        cookie = send(app, "/", headers=HTML, HTTP_HOST="app.example.com").headers["Set-Cookie"].partition(";")[0]
        response = send(app, "/logout", method="POST", headers={**HTML, "Cookie": cookie}, HTTP_HOST="app.example.com")
        cleared = response.headers["Set-Cookie"]
        assert cleared.startswith("__Host-wsgi_oauth=;")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cleared.split("; "))

    def test_without_a_session_creates_nothing(self, browser: Browser, store: SessionStore):
        response = browser.post("/logout")
        assert response.status_int == 200
        assert "Set-Cookie" not in response.headers
        assert stored_sessions(store) == []

    def test_twice_is_no_error(self, browser: Browser):
        browser.sign_in()
        assert [browser.post("/logout").status_int for _ in range(2)] == [200, 200]

    def test_ends_a_sign_in_that_is_on_its_way(self, browser: Browser):
        callback = browser.callback_url()
        browser.post("/logout")
        assert browser.get(callback).status_int == 400


class TestBodies:
    """S48."""

    @pytest.fixture
    def store(self) -> SessionStore:
        return MemoryStore()

    @pytest.mark.parametrize("path", ["/logout", "/notebook", "/profile", "/callback", "/"])
    @pytest.mark.parametrize("size", ["100000", "10000000000", "9" * 30])
    def test_that_are_announced_as_too_large_are_refused_unread(
        self, make_browser: Callable[..., Browser], path: str, size: str
    ):
        app = make_browser(handlers=(Notebook,)).app.app
        method = "POST" if path in {"/logout", "/notebook"} else "GET"
        response = send(app, path, method=method, headers=HTML, CONTENT_LENGTH=size, wsgi__input=Unreadable())
        assert response.status_code == 413

    @pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
    def test_that_never_end_are_refused(self, make_browser: Callable[..., Browser], kind: str):
        """Chunked: nobody says beforehand how much will come."""
        app = make_browser(handlers=(Notebook,)).app.app
        endless = Endless()
        response = send(
            app, "/notebook", method="POST", CONTENT_TYPE=kind, wsgi__input=endless, wsgi__input_terminated=True
        )
        assert response.status_code == 413
        assert endless.given < 2**21

    @pytest.mark.parametrize("size", [70_000, 200_000])
    def test_that_are_longer_than_allowed_are_not_cut_and_taken(self, make_browser: Callable[..., Browser], size: int):
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

    @pytest.mark.parametrize("broken", ["cut", "malformed"])
    def test_that_are_cut_or_malformed_are_not_taken_for_whole(
        self, make_browser: Callable[..., Browser], broken: str, caplog: pytest.LogCaptureFixture
    ):
        """gunicorn says what is wrong with a chunk, with the chunk in it; and nothing when a client hangs up."""
        browser = make_browser(handlers=(Notebook,))
        body = {"wsgi__input": io.BytesIO(b"note=half"), "CONTENT_LENGTH": "50"}
        if broken == "malformed":
            body = {"wsgi__input": Malformed()}
        kind = "application/x-www-form-urlencoded"
        response = send(
            browser.app.app, "/notebook", method="POST", CONTENT_TYPE=kind, wsgi__input_terminated=True, **body
        )
        assert response.status_code == 400
        assert "canary" not in caplog.text
        assert browser.get("/notebook").json == {"note": None}

    @pytest.mark.parametrize("length", ["-1", "x", "", "1 2", "+5", "٣"])
    def test_of_a_length_that_is_none_are_no_failure_of_ours(self, application: Any, length: str):
        response = send(application, "/logout", method="POST", headers=HTML, CONTENT_LENGTH=length)
        assert response.status_code in {200, 400}

    def test_of_a_normal_size_pass(self, make_browser: Callable[..., Browser]):
        browser = make_browser(handlers=(Notebook,))
        note = "x" * 30000
        browser.post("/notebook", params={"note": note})
        assert browser.get("/notebook").json == {"note": note}


class Malformed(io.BytesIO):
    """A body of which the server cannot read the next chunk."""

    def read(self, *_: int) -> bytes:
        raise OSError("Invalid chunk size: b'canary'")


class Unreadable:
    """A body that nobody should touch."""

    def read(self, *_: int) -> bytes:
        raise AssertionError("this body was to be refused by its announced length")

    readline = readlines = __iter__ = read


class Endless:
    """A body without an end."""

    given = 0

    def read(self, size: int = -1) -> bytes:
        size = size if size > 0 else 65536
        self.given += size
        assert self.given < 2**24, "it would read for ever"
        return b"a" * size

    readline = readlines = __iter__ = read


@pytest.mark.parametrize(("method", "path"), [("GET", "/nope"), ("POST", "/"), ("GET", "/")])
def test_another_host_is_refused_before_anything_else_is_said(provider: LocalProvider, method: str, path: str):
    """S34: neither 404 nor 405 tells what is here."""
    app = create_app(Config.from_environ(environ_for(provider, PUBLIC_URL="https://app.example")))
    assert send(app, path, method=method, HTTP_HOST="evil.example").status_code == 400


def test_behind_a_trusted_proxy_that_speaks_https_the_cookie_is_secure(provider: LocalProvider):
    """S35, S38: on this machine, where no public URL is needed."""
    app = create_app(Config.from_environ(environ_for(provider, TRUSTED_PROXIES="1")))
    response = send(app, "/", headers={**HTML, "X-Forwarded-Proto": "https"})
    assert response.headers["Set-Cookie"].startswith("__Host-")
    assert "redirect_uri=https%3A%2F%2Flocalhost%2Fcallback" in response.headers["Location"]
