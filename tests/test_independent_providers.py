"""The whole dance with authorization servers that this project did not write, known by nothing but their URL.

Each runs in a process of its own, on a real socket, from a file in ``tests/independent``.
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

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

LIFETIME = 120  # seconds, of an access token at each of them
# How clients authenticate; and they are called so, too.
METHODS = {"basic": "client_secret_basic", "post": "client_secret_post", "none": "none"}


@dataclass
class Server:
    """An authorization server, and what is known of it besides its URL: what a person does there, what it lacks."""

    file: str
    allow: dict[str, str]  # what its page is answered with
    deny: dict[str, str]
    subject: str = "octocat"
    settings: dict[str, str] = field(default_factory=dict)  # below the issuer: what its document does not say
    secret: str = "a secret: with + and %"
    methods: tuple[str, ...] = tuple(METHODS)
    knows_its_clients: bool = True
    sends_issuer: bool = True
    revokes: bool = True
    issuer: str = ""

    @property
    def document(self) -> dict[str, Any]:
        return requests.get(f"{self.issuer}/.well-known/openid-configuration", timeout=10).json()

    def userinfo(self, access_token: str) -> int:
        """The status with which it answers who brings *access_token*."""
        bearer = {"Authorization": f"Bearer {access_token}"}
        return requests.get(self.document["userinfo_endpoint"], headers=bearer, timeout=10).status_code


SERVERS = {
    "oidc-provider-mock": Server(
        "mock_server.py",
        allow={"sub": "octocat"},
        deny={"action": "deny"},
        methods=("basic",),
        knows_its_clients=False,
        sends_issuer=False,
        revokes=False,
    ),
    "Authlib": Server(
        "authlib_server.py",
        allow={"decision": "allow"},
        deny={"decision": "deny"},
        secret="a-secret_as.it~is",  # it does not form-decode the header (RFC 6749 2.3.1)
    ),
    "Django OAuth Toolkit": Server(
        "django_server.py",
        allow={"allow": "Authorize"},
        deny={},
        subject="1",
        # It tells in its RFC 8414 metadata alone.
        settings={"REVOCATION_URL": "/revoke_token/"},
    ),
}


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each of them; it ends when nobody holds its stdin any more."""
    chosen = SERVERS[request.param]
    program = Path(__file__).parent / "independent" / chosen.file
    errors = tmp_path_factory.mktemp("server") / "stderr"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        ) as process,
    ):
        said = process.stdout.readline()
        assert said, errors.read_text()
        chosen.issuer = json.loads(said)
        yield chosen
        process.communicate()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class Person(Browser):
    """A browser whose user answers the page of any server."""

    def __init__(self, application: Any, server: Server) -> None:
        super().__init__(application, server)
        self.application = application

    def answer(self, authorization_url: str, filled_in: dict[str, str]) -> str:
        """Fill in the form that the server shows, and send it; return the URL to which that leads."""
        with requests.Session() as web:
            web.trust_env = False
            page = web.get(authorization_url, timeout=10)
            assert page.status_code == 200, page.text
            answer = web.post(
                page.url, data={**hidden_fields(page.text), **filled_in}, allow_redirects=False, timeout=10
            )
        assert answer.status_code in {302, 303}, answer.text
        return answer.headers["Location"]

    def consent(self, authorization_url: str, **_: str) -> str:
        return self.answer(authorization_url, self.provider.allow)

    def copy(self) -> Person:
        """The same browser once more, for a request at the same time."""
        twin = Person(self.application, self.provider)
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
    """Make the environment of an application that knows of the server its issuer alone."""

    def environ(*, client_auth: str = "basic", **settings: str) -> dict[str, str]:
        given = {
            "PROVIDER": server.issuer,
            "CLIENT_ID": METHODS[client_auth],
            **({"CLIENT_AUTH": "none"} if client_auth == "none" else {"CLIENT_SECRET": server.secret}),
            **{name: f"{server.issuer}{path}" for name, path in server.settings.items()},
            **settings,
        }
        return {f"WSGI_OAUTH_{name}": value for name, value in given.items()}

    return environ


@pytest.fixture
def visit(environ: Callable[..., dict[str, str]], server: Server, store: MemoryStore) -> Callable[..., Person]:
    """Make browsers in front of such an application."""

    def visit(**settings: str) -> Person:
        return Person(create_app(Config.from_environ(environ(**settings)), store=store), server)

    return visit


@pytest.fixture
def person(visit: Callable[..., Person]) -> Person:
    return visit()


def session_of(store: MemoryStore) -> dict[str, Any]:
    [session] = stored_sessions(store)
    return session


def said(answer: TestResponse) -> tuple[int, str]:
    return answer.status_int, answer.json["error"]


def test_the_issuers_url_is_enough_to_sign_in(person: Person, server: Server, store: MemoryStore) -> None:
    assert urlsplit(person.sign_in().location).path == "/profile"
    profile = person.profile().json
    assert (profile["sub"], profile["email"]) == (server.subject, "octocat@example.com")
    identity = session_of(store)["oauth_identity"]
    where = urlsplit(server.issuer)
    assert (identity["provider"], identity["subject"]) == (where.netloc + where.path, server.subject)
    assert identity["name"] == "Mona Lisa Octocat"


@pytest.mark.parametrize(
    ("server", "client_auth"),
    [(name, method) for name, server in SERVERS.items() for method in server.methods],
    indirect=["server"],
)
def test_each_way_of_a_client_to_say_who_it_is(
    client_auth: str, visit: Callable[..., Person], store: MemoryStore, later: Callable[[float], None]
) -> None:
    """RFC 6749 2.3.1: also when it refreshes, and when it revokes."""
    person = visit(client_auth=client_auth, CLIENT_AUTH=client_auth)
    person.sign_in()
    later(LIFETIME)
    assert person.profile().status_int == 200
    assert person.post("/logout").status_int == 200
    assert stored_sessions(store) == []


@pytest.mark.parametrize(
    "server", [name for name, server in SERVERS.items() if server.knows_its_clients], indirect=True
)
def test_a_secret_that_is_wrong_is_the_operators_affair(visit: Callable[..., Person]) -> None:
    person = visit(CLIENT_SECRET="another")
    assert said(person.get(person.callback_url(), headers=JSON)) == (502, "client_refused")


def test_the_check_command_has_nothing_against_it(environ: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    settings = environ(
        PUBLIC_URL="http://localhost", SESSION_STORE=f"file:{tmp_path}/sessions", END_SESSION="yes", SCOPE="openid"
    )
    found = list(check.findings(settings))
    assert [str(each) for each in found if each.level != "ok"] == []
    assert "accepts the client id and secret" in "".join(each.what for each in found)


def test_a_code_that_the_server_did_not_give_signs_nobody_in(person: Person, store: MemoryStore) -> None:
    callback = person.callback_url()
    code = parameters(callback)["code"]
    assert said(person.get(callback.replace(code, "another"), headers=JSON)) == (400, "code_refused")
    assert "oauth_token" not in session_of(store)


def test_a_code_is_worth_nothing_in_another_browser(
    person: Person, visit: Callable[..., Person], store: MemoryStore
) -> None:
    """RFC 7636, OpenID Connect Core 15.5.2: the server compares the challenge, before anybody looks at the nonce."""
    stolen = parameters(person.callback_url())["code"]
    thief = visit()
    callback = thief.callback_url()
    own = parameters(callback)["code"]
    answer = thief.get(callback.replace(own, stolen), headers=JSON)
    assert answer.status_int in {400, 502}
    assert not any("oauth_token" in session for session in stored_sessions(store))


def test_who_says_no_is_not_signed_in(person: Person, server: Server, store: MemoryStore) -> None:
    answer = person.get(person.answer(person.start(), server.deny), headers=JSON)
    # Without a state, as one of them sends it, nobody knows which start was declined.
    assert said(answer) in {(403, "login_declined"), (400, "no_login_in_progress")}
    assert "oauth_token" not in session_of(store)


def test_the_answer_says_whose_it_is_where_the_document_promises_that(person: Person, server: Server) -> None:
    """RFC 9207"""
    callback = person.callback_url()
    if server.sends_issuer:
        assert parameters(callback)["iss"] == server.issuer
        without = callback.replace("iss=", "is=")
        assert said(person.get(without, headers=JSON)) == (400, "issuer_mismatch")
    else:
        assert "iss" not in parameters(callback)


def test_a_token_that_has_expired_is_refreshed_again_and_again(
    person: Person, store: MemoryStore, later: Callable[[float], None]
) -> None:
    """S21: rotated or not, the one that came last is the one that is used next."""
    person.sign_in()
    for _ in range(3):
        before = session_of(store)["oauth_token"]
        later(LIFETIME)
        assert person.profile().status_int == 200
        after = session_of(store)["oauth_token"]
        # One of them lets what it has refreshed live for days.
        assert (before["access_token"] != after["access_token"]) == (before["expires_in"] == LIFETIME)


def test_of_many_requests_one_refreshes(person: Person, store: MemoryStore, later: Callable[[float], None]) -> None:
    """S31: two of these servers end the whole sign-in when a refresh token comes twice."""
    person.sign_in()
    for _ in range(2):
        later(LIFETIME)
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(Person.profile, [person.copy() for _ in range(8)]))
        assert [answer.status_int for answer in answers] == [200] * 8
    assert person.profile().status_int == 200


def test_signing_out_ends_the_token_at_the_server(person: Person, server: Server, store: MemoryStore) -> None:
    """S44; RFC 7009"""
    person.sign_in()
    token = session_of(store)["oauth_token"]["access_token"]
    assert server.userinfo(token) == 200
    assert person.post("/logout").status_int == 200
    assert stored_sessions(store) == []
    assert (server.userinfo(token) == 401) == server.revokes


def test_a_sign_in_that_the_server_has_ended_leads_to_a_new_one(
    person: Person, server: Server, store: MemoryStore
) -> None:
    """S28: the token is refused, and so is the refresh."""
    person.sign_in()
    if server.revokes:
        person.application.registration().revoke(session_of(store)["oauth_token"])
    else:
        requests.post(f"{server.issuer}/users/{server.subject}/revoke-tokens", timeout=10).raise_for_status()
    answer = person.get("/profile")
    assert answer.status_int == 302
    assert stored_sessions(store) == []
    person.sign_in()
    assert person.profile().status_int == 200


def test_signing_out_can_go_on_at_the_server(visit: Callable[..., Person], server: Server) -> None:
    """OpenID Connect RP-Initiated Logout 2"""
    person = visit(END_SESSION="yes")
    person.sign_in()
    answer = person.post("/logout")
    assert answer.status_int == 303
    assert answer.location.startswith(f"{server.document['end_session_endpoint']}?")
    there = requests.get(answer.location, timeout=10)
    assert there.status_code == 200, there.text
