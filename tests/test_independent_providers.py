"""The whole sign-in with authorization servers of other projects, configured with only their URL.

Each server is a file in ``tests/independent`` and runs in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from conftest import JSON, Browser, parameters, stored_sessions
from webtest import TestResponse

from wsgi_oauth import Config, MemoryStore, create_app
from wsgi_oauth.cli import check

LIFETIME = 120  # seconds until an access token of these servers expires
# The client authentication methods. The servers use their names as client ids.
METHODS = {"basic": "client_secret_basic", "post": "client_secret_post", "none": "none"}


@dataclass
class Server:
    """An authorization server: the forms of its consent page, and its limitations."""

    file: str
    allow: dict[str, str]  # the form that grants consent
    deny: dict[str, str]  # the form that denies it
    subject: str = "octocat"
    # Settings with the endpoints that its discovery document lacks, relative to the issuer.
    settings: dict[str, str] = field(default_factory=dict)
    scope: str = ""  # to configure, if the default scope gives no refresh token
    secret: str = "a secret: with + and %"
    methods: tuple[str, ...] = tuple(METHODS)
    registers_clients: bool = True
    sends_issuer: bool = True
    revokes: bool = True
    issuer: str = ""

    @property
    def document(self) -> dict[str, Any]:
        return requests.get(f"{self.issuer}/.well-known/openid-configuration", timeout=60).json()

    def userinfo(self, access_token: str) -> int:
        """Return the status of the UserInfo response for *access_token*."""
        bearer = {"Authorization": f"Bearer {access_token}"}
        return requests.get(self.document["userinfo_endpoint"], headers=bearer, timeout=60).status_code


SERVERS = {
    "oidc-provider-mock": Server(
        "mock_server.py",
        allow={"sub": "octocat"},
        deny={"action": "deny"},
        methods=("basic",),
        registers_clients=False,
        sends_issuer=False,
        revokes=False,
    ),
    "Authlib": Server(
        "authlib_server.py",
        allow={"decision": "allow"},
        deny={"decision": "deny"},
        scope="openid profile email offline_access",
        secret="a-secret_as.it~is",  # because Authlib does not form-decode Basic credentials (RFC 6749 2.3.1)
    ),
    "Django OAuth Toolkit": Server(
        "django_server.py",
        allow={"allow": "Authorize"},
        deny={},
        subject="1",
        # Listed only in its RFC 8414 metadata.
        settings={"REVOCATION_URL": "/revoke_token/"},
    ),
}


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run the test with each server. A server stops when its standard input is closed."""
    chosen = SERVERS[request.param]
    program = Path(__file__).parent / "independent" / chosen.file
    errors = tmp_path_factory.mktemp("server") / "stderr"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        ) as process,
    ):
        first_line = process.stdout.readline()
        assert first_line, errors.read_text()
        chosen.issuer = json.loads(first_line)
        yield chosen
        process.communicate()


class FormBrowser(Browser):
    """A browser that submits the consent form of any server."""

    def __init__(self, application: Any, server: Server) -> None:
        super().__init__(application, server)
        self.application = application

    def submit(self, authorization_url: str, form: dict[str, str]) -> str:
        """Submit *form* on the server's consent page; return the redirect's target."""
        with requests.Session() as web:
            web.trust_env = False
            page = web.get(authorization_url, timeout=60)
            assert page.status_code == 200, page.text
            answer = web.post(page.url, data={**hidden_fields(page.text), **form}, allow_redirects=False, timeout=60)
        assert answer.status_code in {302, 303}, answer.text
        return answer.headers["Location"]

    def consent(self, authorization_url: str, **_: str) -> str:
        return self.submit(authorization_url, self.provider.allow)

    def copy(self) -> FormBrowser:
        """Return another browser with the same cookie, for parallel requests."""
        twin = FormBrowser(self.application, self.provider)
        twin.app.set_cookie("wsgi_oauth", self.cookie)
        return twin


def hidden_fields(html: str) -> dict[str, str]:
    found: dict[str, str] = {}

    class Form(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            about = dict(attributes)
            if tag == "input" and about.get("type") == "hidden":
                found[about["name"]] = about.get("value") or ""

    Form().feed(html)
    return found


@pytest.fixture
def environ(server: Server) -> Callable[..., dict[str, str]]:
    """Build the environment of an application that knows only the server's issuer."""

    def environ(*, client_auth: str = "basic", **settings: str) -> dict[str, str]:
        variables = {
            "PROVIDER": server.issuer,
            "CLIENT_ID": METHODS[client_auth],
            **({"CLIENT_AUTH": "none"} if client_auth == "none" else {"CLIENT_SECRET": server.secret}),
            **({"SCOPE": server.scope} if server.scope else {}),
            **{name: f"{server.issuer}{path}" for name, path in server.settings.items()},
            **settings,
        }
        return {f"WSGI_OAUTH_{name}": value for name, value in variables.items()}

    return environ


@pytest.fixture
def open_browser(
    environ: Callable[..., dict[str, str]], server: Server, store: MemoryStore
) -> Callable[..., FormBrowser]:
    """Create an application and a browser for it."""

    def open_browser(**settings: str) -> FormBrowser:
        return FormBrowser(create_app(Config.from_environ(environ(**settings)), store=store), server)

    return open_browser


@pytest.fixture
def browser(open_browser: Callable[..., FormBrowser]) -> FormBrowser:
    return open_browser()


def session_of(store: MemoryStore) -> dict[str, Any]:
    [session] = stored_sessions(store)
    return session


def status_and_error(answer: TestResponse) -> tuple[int, str]:
    return answer.status_int, answer.json["error"]


def test_signs_in_with_only_the_issuers_url(browser: FormBrowser, server: Server, store: MemoryStore) -> None:
    assert urlsplit(browser.sign_in().location).path == "/profile"
    profile = browser.profile().json
    assert (profile["sub"], profile["email"]) == (server.subject, "octocat@example.com")
    identity = session_of(store)["oauth_identity"]
    issuer = urlsplit(server.issuer)
    assert (identity["provider"], identity["subject"]) == (issuer.netloc + issuer.path, server.subject)
    assert identity["name"] == "Mona Lisa Octocat"


@pytest.mark.parametrize(
    ("server", "client_auth"),
    [(name, method) for name, server in SERVERS.items() for method in server.methods],
    indirect=["server"],
)
def test_each_client_authentication_method_works(
    client_auth: str, open_browser: Callable[..., FormBrowser], store: MemoryStore, later: Callable[[float], None]
) -> None:
    """RFC 6749 2.3.1: in code exchange, refresh and revocation."""
    browser = open_browser(client_auth=client_auth, CLIENT_AUTH=client_auth)
    browser.sign_in()
    later(LIFETIME)
    assert browser.profile().status_int == 200
    assert browser.post("/logout").status_int == 303
    assert stored_sessions(store) == []


@pytest.mark.parametrize(
    "server", [name for name, server in SERVERS.items() if server.registers_clients], indirect=True
)
def test_a_wrong_client_secret_is_reported_as_configuration_problem(open_browser: Callable[..., FormBrowser]) -> None:
    browser = open_browser(CLIENT_SECRET="another")
    assert status_and_error(browser.get(browser.callback_url(), headers=JSON)) == (502, "client_refused")


def test_the_check_command_finds_no_problem(environ: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    settings = environ(
        PUBLIC_URL="http://localhost", SESSION_STORE=f"file:{tmp_path}/sessions", END_SESSION="yes", SCOPE="openid"
    )
    found = list(check.findings(settings))
    # The metadata of a server need not say whether it gives refresh tokens.
    problems = [str(each) for each in found if each.level != "ok" and "refresh tokens: unknown" not in each.text]
    assert problems == []
    assert "accepts the client id and secret" in "".join(each.text for each in found)


def test_an_unknown_code_is_refused(browser: FormBrowser, store: MemoryStore) -> None:
    callback = browser.callback_url()
    code = parameters(callback)["code"]
    assert status_and_error(browser.get(callback.replace(code, "another"), headers=JSON)) == (400, "code_refused")
    assert "oauth_token" not in session_of(store)


def test_a_stolen_code_cannot_be_used_in_another_browser(
    browser: FormBrowser, open_browser: Callable[..., FormBrowser], store: MemoryStore
) -> None:
    """RFC 7636, OpenID Connect Core 15.5.2: the server compares the code challenge."""
    stolen = parameters(browser.callback_url())["code"]
    attacker = open_browser()
    callback = attacker.callback_url()
    own_code = parameters(callback)["code"]
    answer = attacker.get(callback.replace(own_code, stolen), headers=JSON)
    assert answer.status_int in {400, 502}
    assert not any("oauth_token" in session for session in stored_sessions(store))


def test_a_user_who_declines_is_not_signed_in(browser: FormBrowser, server: Server, store: MemoryStore) -> None:
    answer = browser.get(browser.submit(browser.start(), server.deny), headers=JSON)
    # One server omits the state, so the application cannot find the declined sign-in.
    assert status_and_error(answer) in {(403, "login_declined"), (400, "no_login_in_progress")}
    assert "oauth_token" not in session_of(store)


def test_a_missing_iss_is_refused_if_the_metadata_announces_it(browser: FormBrowser, server: Server) -> None:
    """RFC 9207"""
    callback = browser.callback_url()
    if server.sends_issuer:
        assert parameters(callback)["iss"] == server.issuer
        without = callback.replace("iss=", "is=")
        assert status_and_error(browser.get(without, headers=JSON)) == (400, "issuer_mismatch")
    else:
        assert "iss" not in parameters(callback)


def test_an_expired_token_is_refreshed_repeatedly(
    browser: FormBrowser, store: MemoryStore, later: Callable[[float], None]
) -> None:
    """S21: each refresh uses the latest refresh token, with and without rotation."""
    browser.sign_in()
    for _ in range(3):
        before = session_of(store)["oauth_token"]
        later(LIFETIME)
        assert browser.profile().status_int == 200
        after = session_of(store)["oauth_token"]
        # One server issues refreshed tokens that are valid for days.
        assert (before["access_token"] != after["access_token"]) == (before["expires_in"] == LIFETIME)


def test_parallel_requests_cause_one_refresh(
    browser: FormBrowser, store: MemoryStore, later: Callable[[float], None]
) -> None:
    """S31: two of these servers revoke all tokens when a refresh token is used twice."""
    browser.sign_in()
    for _ in range(2):
        later(LIFETIME)
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(FormBrowser.profile, [browser.copy() for _ in range(8)]))
        assert [answer.status_int for answer in answers] == [200] * 8
    assert browser.profile().status_int == 200


def test_sign_out_revokes_the_token(browser: FormBrowser, server: Server, store: MemoryStore) -> None:
    """S44; RFC 7009"""
    browser.sign_in()
    token = session_of(store)["oauth_token"]["access_token"]
    assert server.userinfo(token) == 200
    assert browser.post("/logout").status_int == 303
    assert stored_sessions(store) == []
    assert (server.userinfo(token) == 401) == server.revokes


def test_a_token_revoked_by_the_server_leads_to_a_new_sign_in(
    browser: FormBrowser, server: Server, store: MemoryStore, later: Callable[[float], None]
) -> None:
    """S28: the server rejects both the access token and the refresh."""
    browser.sign_in()
    if server.revokes:
        browser.application.oauth.registration_with_label("").revoke(session_of(store)["oauth_token"])
    else:
        requests.post(f"{server.issuer}/users/{server.subject}/revoke-tokens", timeout=60).raise_for_status()
    later(61)  # because one server rejects the token with a 400, which counts only for tokens that are not new
    answer = browser.get("/profile")
    assert answer.status_int == 302
    assert stored_sessions(store) == []
    browser.sign_in()
    assert browser.profile().status_int == 200


def test_sign_out_can_continue_at_the_server(open_browser: Callable[..., FormBrowser], server: Server) -> None:
    """OpenID Connect RP-Initiated Logout 2"""
    browser = open_browser(END_SESSION="yes")
    browser.sign_in()
    answer = browser.post("/logout")
    assert answer.status_int == 303
    assert answer.location.startswith(f"{server.document['end_session_endpoint']}?")
    logout_page = requests.get(answer.location, timeout=60)
    assert logout_page.status_code == 200, logout_page.text
