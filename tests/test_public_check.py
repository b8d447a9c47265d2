"""``wsgi-oauth check --public``: mistakes of the proxies in front of the application, seen from outside."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from conftest import Certificates, environ_for, send

from wsgi_oauth import Config, FileStore, create_app, errors
from wsgi_oauth.cli import check as check_command
from wsgi_oauth.cli.finding import Finding
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import Server, serve
from wsgi_oauth.transport.adapter import BoundedAdapter
from wsgi_oauth.web.health import CHECK_HEADER, stored_check_token

PREFIX = "/auth"


class Proxy:
    """A reverse proxy in front of the application, as a layer of WSGI."""

    def __init__(self) -> None:
        self.application: Any = None
        self.prefix = PREFIX
        self.host = ""  # replaces the client's Host header
        self.headers: dict[str, str] = {}  # set in each request
        self.appends_client = False
        self.answer: tuple[str, list[tuple[str, str]]] | None = None  # status and headers, without the application
        self.body = b"<title>of the proxy</title>"  # the body of this answer
        self.drops_cookies = False
        self.drops = ""  # a variable of the WSGI environ that does not arrive
        self.encodes_queries = False
        self.cached_path = ""  # the answer to this path becomes the answer to all later requests
        self.changed_cookie = ("", "")  # a text of Set-Cookie, and its replacement
        self.asks_verify = False  # asks /verify also for requests to the sign-in itself

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if self.answer:
            start_response(*self.answer)
            return [self.body]
        environ = dict(environ)
        if self.asks_verify and environ["PATH_INFO"] == "/readyz":
            environ["PATH_INFO"] = "/verify"
        elif self.prefix:
            if not environ["PATH_INFO"].startswith(f"{self.prefix}/"):
                start_response("404 Not Found", [])
                return [b""]
            environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(self.prefix)
        environ["HTTP_HOST"] = self.host or environ["HTTP_HOST"]
        if self.appends_client:
            given = environ.get("HTTP_X_FORWARDED_FOR", "")
            environ["HTTP_X_FORWARDED_FOR"] = f"{given}, {environ['REMOTE_ADDR']}".strip(", ")
        environ.update({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in self.headers.items()})
        environ["wsgi.url_scheme"] = "http"
        environ.pop(self.drops, None)
        if self.encodes_queries:
            environ["QUERY_STRING"] = environ["QUERY_STRING"].replace("%", "%25")

        def respond(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            self.answer = (status, headers) if self.cached_path == environ["PATH_INFO"] else None
            if self.drops_cookies:
                headers = [header for header in headers if header[0] != "Set-Cookie"]
            headers = [(name, value.replace(*self.changed_cookie)) for name, value in headers]
            return start_response(status, headers, exc_info)

        return self.application(environ, respond)


@pytest.fixture
def proxy() -> Proxy:
    return Proxy()


@pytest.fixture
def server(proxy: Proxy, certificates: Certificates) -> Iterator[Server]:
    with serve(proxy, ssl_context=certificates.context()) as server:
        yield server


@pytest.fixture
def settings(provider: LocalProvider, server: Server, tmp_path: Path) -> dict[str, str]:
    port = urlsplit(server.url).port
    return environ_for(
        provider, PUBLIC_URL=f"https://localhost:{port}{PREFIX}", SESSION_STORE=f"file:{tmp_path / 'sessions'}"
    )


@pytest.fixture
def check(
    proxy: Proxy, settings: dict[str, str], certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Finding]]:
    """Start the application with the settings, and return the findings about its public URL.

    Settings in *application* are those of the application alone, and all others those of the command, too.
    """
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.ca)

    def check(application: dict[str, str] | None = None, **changes: str) -> list[Finding]:
        environ = {**settings, **{f"WSGI_OAUTH_{name}": value for name, value in changes.items()}}
        running = {**environ, **{f"WSGI_OAUTH_{name}": value for name, value in (application or {}).items()}}
        proxy.application = create_app(Config.from_environ(running))
        without = list(check_command.findings(environ))
        return list(check_command.findings(environ, public=True))[len(without) :]

    return check


def problem(found: list[Finding]) -> Finding:
    """Return the only finding of the level warn or FAIL."""
    problems = [each for each in found if each.level != "ok"]
    assert len(problems) == 1, problems
    return problems[0]


def test_an_application_that_works_has_no_problem(check: Callable[..., list[Finding]], tmp_path: Path):
    found = check()
    assert [finding.level for finding in found] == ["ok", "ok"]
    assert "trusted proxies: 0" in found[0].text
    assert re.match("sign-in: https://localhost:[0-9]+/auth/ starts at ", found[1].text)
    assert list(FileStore(tmp_path / "sessions").keys()) == []


def test_the_right_number_of_trusted_proxies_has_no_problem(check: Callable[..., list[Finding]], proxy: Proxy):
    proxy.appends_client = True
    proxy.headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "localhost"}
    assert [finding.level for finding in check(TRUSTED_PROXIES="1")] == ["ok", "ok"]


@pytest.mark.parametrize(
    "document",
    [
        {"request": {}},
        {"request": {}, "settings": {}},
        {"request": [], "settings": {"trusted_proxies": 0, "public_url": None, "sites": [], "allow": []}},
        {
            "request": {
                "scheme": "https",
                "host": "[",
                "client": "",
                "forwarded": {"For": 0, "Proto": 0},
                "has_query": True,
                "has_cookie": True,
            },
            "settings": {"trusted_proxies": 0, "public_url": None, "sites": [], "allow": []},
        },
        {
            "request": {
                "scheme": "https",
                "host": "a",
                "client": "",
                "forwarded": {"For": "0", "Proto": {}},
                "has_query": True,
                "has_cookie": True,
            },
            "settings": {"trusted_proxies": 0, "public_url": "", "sites": [], "allow": []},
        },
        {
            "request": {
                "scheme": "\x1b[2Jhttps",
                "host": "a",
                "client": "",
                "forwarded": {"For": 0, "Proto": 0},
                "has_query": True,
                "has_cookie": True,
            },
            "settings": {"trusted_proxies": 0, "public_url": "", "sites": [], "allow": []},
        },
    ],
    ids=["no settings", "empty", "a list", "an invalid host", "texts as numbers", "escape sequences"],
)
def test_server_that_imitates_a_part_of_the_description_is_reported(
    check: Callable[..., list[Finding]], proxy: Proxy, document: dict[str, Any]
):
    body = json.dumps({"status": "ready", **document}).encode()
    proxy.answer = ("200 OK", [("Content-Type", "application/json"), ("Location", "http://[")])
    proxy.body = body
    findings = check()
    assert [finding.level for finding in findings] == ["warn", "FAIL"]
    assert "the proxies cannot be checked" in findings[0].text


def test_wrong_host_names_the_directive_that_passes_it_on(check: Callable[..., list[Finding]], proxy: Proxy):
    proxy.host = "backend:8000"
    first, second = check()[0], check()[-1]
    assert (first.level, "sees 'backend' in place of 'localhost'" in first.text) == ("FAIL", True)
    assert "proxy_set_header Host $host" in first.remedy
    assert (second.level, "'bad_host'" in second.text) == ("FAIL", True)


def test_prefix_that_the_proxy_keeps_is_a_failure(check: Callable[..., list[Finding]], proxy: Proxy):
    proxy.prefix = ""
    finding = problem(check())
    assert finding.level == "FAIL"
    assert "status 500, 'configuration'" in finding.text
    assert finding.remedy.startswith(
        "let the proxy remove /auth (nginx: `location /auth/ { proxy_pass http://backend/; }`"
    )


def test_path_that_leads_nowhere_is_a_failure(check: Callable[..., list[Finding]], proxy: Proxy):
    proxy.prefix = "/other"
    finding = problem(check())
    assert (finding.level, "status 404" in finding.text) == ("FAIL", True)
    assert "let the proxy send /auth/ to the application and remove /auth" in finding.remedy


def test_sign_in_that_the_proxy_protects_is_a_failure_that_names_the_path(
    check: Callable[..., list[Finding]], proxy: Proxy, settings: dict[str, str]
):
    proxy.asks_verify, proxy.prefix = True, ""
    url = settings["WSGI_OAUTH_PUBLIC_URL"].removesuffix(PREFIX)
    finding = next(each for each in check(PUBLIC_URL=url) if each.level == "FAIL")
    assert finding.text == f"public URL {url}: the proxy requires a signed-in user for the sign-in itself"
    assert "correct the path of WSGI_OAUTH_PUBLIC_URL" in finding.remedy


@pytest.mark.parametrize(
    ("status", "headers", "text"),
    [
        ("502 Bad Gateway", [], "the proxy does not reach the application"),
        ("301 Moved", [("Location", "https://www.example.com/")], "redirects to 'https://www.example.com/'"),
        ("401 Unauthorized", [], "in front of the application refuses"),
        ("200 OK", [("Content-Type", "text/html")], "another application answers"),
    ],
)
def test_answer_of_something_else_is_a_failure_with_its_cause(
    check: Callable[..., list[Finding]], proxy: Proxy, status: str, headers: list[tuple[str, str]], text: str
):
    proxy.answer = (status, headers)
    finding = problem(check())
    assert finding.level == "FAIL"
    assert text in finding.text
    assert finding.remedy


def test_scheme_that_the_proxy_reports_wrongly_is_a_failure(check: Callable[..., list[Finding]], proxy: Proxy):
    proxy.appends_client = True
    proxy.headers = {"X-Forwarded-Proto": "http", "X-Forwarded-Host": "localhost"}
    found = check(TRUSTED_PROXIES="1")
    assert found[0].text == "scheme: the proxy reports http, and browsers use https"
    assert "redirects to itself" in found[-1].text


class TestTrustedProxies:
    def test_too_many_believe_a_client(self, check: Callable[..., list[Finding]], proxy: Proxy):
        proxy.appends_client = True
        proxy.headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "localhost"}
        finding = check(TRUSTED_PROXIES="2")[0]
        assert (finding.level, finding.text.partition(" of any")[0]) == (
            "FAIL",
            "proxies: the application believes X-Forwarded-For",
        )
        assert finding.remedy.startswith("set WSGI_OAUTH_TRUSTED_PROXIES=1")

    def test_a_proxy_that_passes_headers_of_clients_on_is_a_failure(
        self, check: Callable[..., list[Finding]], proxy: Proxy
    ):
        proxy.appends_client = True
        finding = check(TRUSTED_PROXIES="1")[0]
        assert "believes X-Forwarded-Host, X-Forwarded-Proto of any client" in finding.text
        assert "proxy_set_header X-Forwarded-Host $host" in finding.remedy

    def test_too_few_hide_the_addresses_of_clients(self, check: Callable[..., list[Finding]], proxy: Proxy):
        proxy.appends_client = True
        finding = problem(check())
        assert (finding.level, "the log names a proxy" in finding.text) == ("warn", True)
        assert "/verify requires does not return to the requested page" in finding.text
        assert "TRUSTED_PROXIES=1" in finding.remedy

    def test_more_than_exist_hide_the_addresses_of_clients(self, check: Callable[..., list[Finding]], proxy: Proxy):
        proxy.headers = {
            "X-Forwarded-For": "203.0.113.9",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "localhost",
        }
        finding = check(TRUSTED_PROXIES="2")[0]
        assert (finding.level, finding.text) == ("warn", "proxies: 2 are trusted, but 1 set X-Forwarded-For")
        assert finding.remedy == "set WSGI_OAUTH_TRUSTED_PROXIES=1, or correct the proxies"


def test_cookie_that_the_proxy_drops_is_a_failure(check: Callable[..., list[Finding]], proxy: Proxy):
    proxy.drops_cookies = True
    assert re.match(r"sign-in: the cookie __Host-wsgi_oauth_\d+ does not arrive", problem(check()).text)


@pytest.mark.parametrize(
    ("dropped", "text"), [("QUERY_STRING", "the query does not arrive"), ("HTTP_COOKIE", "cookies do not arrive")]
)
def test_part_of_requests_that_a_cache_drops_is_a_failure(
    check: Callable[..., list[Finding]], proxy: Proxy, dropped: str, text: str
):
    proxy.drops = dropped
    finding = problem(check())
    assert (finding.level, text in finding.text) == ("FAIL", True)


def test_query_that_is_encoded_a_second_time_is_a_failure(check: Callable[..., list[Finding]], proxy: Proxy):
    """Some adapters between AWS load balancers and WSGI do that, and codes with a slash are then refused."""
    proxy.encodes_queries = True
    assert "the query does not arrive unchanged" in problem(check()).text


def test_cache_that_stores_the_start_of_a_sign_in_is_a_failure(check: Callable[..., list[Finding]], proxy: Proxy):
    """For example nginx with `proxy_ignore_headers Cache-Control Set-Cookie`. Users would get the cookies of others."""
    proxy.cached_path = "/"
    assert "a cache in front of the application has stored it" in problem(check()).text


@pytest.mark.parametrize(
    ("mode", "old", "new"),
    [
        ("query", "SameSite=Lax", "SameSite=Lax; SameSite=Strict"),  # does not come with the response of the provider
        ("query", "Path=/", "Path=/app/"),
        ("query", "Path=/", "Path=/; Domain=localhost"),
        ("query", "Secure; ", ""),
        ("form_post", "SameSite=None", "SameSite=Lax"),
    ],
)
def test_changed_cookie_is_a_failure(check: Callable[..., list[Finding]], proxy: Proxy, mode: str, old: str, new: str):
    """S38, S70"""
    assert all(finding.level == "ok" for finding in check(RESPONSE_MODE=mode))
    proxy.changed_cookie = old, new
    assert "sign-in: the proxy changes the attributes of cookies" in problem(check(RESPONSE_MODE=mode)).text


class TestPlainHttp:
    """The public URL has the default port, so that port 80 of its host is requested, too."""

    @pytest.fixture
    def port_80(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> requests.Response:
        """The answer of port 80. Its status 0 means that the connection is refused. Port 443 is that of the server."""
        answer = requests.Response()
        original = BoundedAdapter.exchange

        def exchange(adapter: BoundedAdapter, request: requests.PreparedRequest, deadline: float) -> requests.Response:
            parts = urlsplit(request.url or "")
            if parts.scheme == "http" and not parts.port:
                assert (parts.hostname, parts.path) == ("::1", f"{PREFIX}/healthz")
                if not answer.status_code:
                    raise errors.ProviderUnreachable("refused")
                return answer
            if not parts.port:
                request.headers["Host"] = parts.netloc
                request.url = parts._replace(netloc=urlsplit(server.url).netloc).geturl()
            return original(adapter, request, deadline)

        monkeypatch.setattr(BoundedAdapter, "exchange", exchange)
        answer.status_code = 0
        return answer

    @pytest.mark.parametrize(
        ("status", "location", "result"),
        [
            (0, "", ("ok", "plain http: not answered at [::1]")),
            (301, f"https://[::1]{PREFIX}/healthz", ("ok", "plain http: [::1] redirects to https")),
            (301, "/", ("warn", "plain http: [::1] answers with status 301 in place of a redirect to https")),
            (200, "", ("warn", "plain http: [::1] answers with status 200 in place of a redirect to https")),
        ],
    )
    def test_should_be_redirected_to_https(
        self,
        check: Callable[..., list[Finding]],
        port_80: requests.Response,
        status: int,
        location: str,
        result: tuple[str, str],
    ):
        port_80.status_code, port_80.headers["Location"] = status, location
        finding = check(PUBLIC_URL=f"https://[::1]{PREFIX}")[-1]
        assert (finding.level, finding.text) == result


def test_other_settings_of_the_application_are_a_failure(check: Callable[..., list[Finding]]):
    finding = problem(check({"CLIENT_ID": "another"}))
    assert "sends the client_id 'another' in place of" in finding.text


@pytest.mark.parametrize(
    ("name", "value"), [("SITES", "https://wiki.example.org"), ("ALLOW", "id:1"), ("TRUSTED_PROXIES", "1")]
)
def test_settings_that_the_application_has_not_yet_reloaded_are_a_failure(
    check: Callable[..., list[Finding]], name: str, value: str
):
    failures = [finding.text for finding in check({name: value}) if finding.level == "FAIL"]
    assert f"the application runs with WSGI_OAUTH_{name}=" in failures[0]


def test_other_store_of_the_application_is_a_warning_that_names_this_one(
    check: Callable[..., list[Finding]], tmp_path: Path
):
    finding = problem(check({"SESSION_STORE": f"file:{tmp_path / 'other'}"}))
    assert finding.level == "warn"
    assert f"another session store than this shell (file:{tmp_path / 'sessions'})" in finding.text


def test_invalid_certificate_is_a_failure(
    check: Callable[..., list[Finding]], one_authority: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", one_authority)
    finding = problem(check())
    assert "SSLCertVerificationError" in finding.text
    assert "install a valid certificate" in finding.remedy


def test_server_that_does_not_run_is_a_failure(check: Callable[..., list[Finding]], server: Server):
    server.close()
    finding = problem(check())
    assert (finding.level, "ConnectionRefusedError" in finding.text) == ("FAIL", True)


def test_missing_public_url_is_a_failure(provider: LocalProvider, tmp_path: Path):
    environ = environ_for(provider, PUBLIC_URL="", SESSION_STORE=f"file:{tmp_path / 'sessions'}")
    finding = list(check_command.findings(environ, public=True))[-1]
    assert (finding.level, "public URL: not set" in finding.text) == ("FAIL", True)


@pytest.mark.parametrize("token", ["", "x", "A" * 43])
def test_the_application_tells_strangers_nothing_about_requests(provider: LocalProvider, tmp_path: Path, token: str):
    store = FileStore(tmp_path / "sessions")
    app = create_app(Config.from_environ(environ_for(provider)), store=store)
    with stored_check_token(store) as known:
        assert send(app, "/readyz", headers={CHECK_HEADER: known}).get_json().keys() > {"status"}
        assert send(app, "/readyz", headers={CHECK_HEADER: token}).get_json() == {"status": "ready"}
    assert send(app, "/readyz", headers={CHECK_HEADER: known}).get_json() == {"status": "ready"}
