"""Properties of open-ended input: no internal errors and no accidental sign-in.

Hypothesis generates the input. It uses the same examples in every run; ``pytest --hypothesis-profile=search
tests/test_properties.py`` looks for new ones.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from zlib import crc32

import pytest
from conftest import HTML, JSON, Browser, environ_for, send
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug import Response
from whatwg import resolved

from wsgi_oauth import Config, FileStore, MemoryStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve, serve_provider
from wsgi_oauth.oauth.identity import IDENTITY

# PEP 3333 passes bytes as characters.
latin_1 = st.text(st.characters(max_codepoint=255))
header_value = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=200)
text = st.text(max_size=200)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=8,
)


class World:
    """A provider, an application, and two signed-in users, who must never be confused."""

    def __init__(self, provider: LocalProvider, folder: Path, **more: str) -> None:
        self.provider = provider
        self.folder = folder
        self.app: Any = create_app(Config.from_environ(environ_for(provider, **more)), store=FileStore(folder))
        self.user = Browser(self.app, provider)
        self.mallory = Browser(self.app, provider)

    def is_anonymous(self, cookie: str) -> bool:
        """Return whether *cookie* belongs to no signed-in user."""
        return send(self.app, "/profile", headers={**JSON, "Cookie": cookie}).status_code != 200


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, one_authority: str) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", one_authority)
        provider = LocalProvider()
        with serve_provider(provider):
            world = World(provider, tmp_path_factory.mktemp("world") / "sessions")
            world.user.sign_in()
            world.mallory.get(world.mallory.callback_url(user="mallory"))
            yield world


def cookie_of(response: Response) -> str:
    return response.headers.get("Set-Cookie", "").partition(";")[0]


def assert_is_valid(response: Response) -> None:
    """Check that *response* has no server error and well-formed headers."""
    assert response.status_code < 500
    assert response.headers["Cache-Control"] == "no-store"
    for name, value in response.headers:
        assert f"{name}{value}".isprintable(), (name, value)
        assert f"{name}{value}".isascii(), (name, value)


names = st.sampled_from(["state", "code", "iss", "error", "error_description", "st%61te", ""]) | text
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=50)  # RFC 6749 A.5, A.11
pairs = st.lists(st.tuples(names, printable | text), max_size=6)
likely = st.fixed_dictionaries({"state": printable, "code": printable}, optional={"iss": text, "error": text})


@given(query=latin_1 | pairs.map(urlencode) | likely.map(urlencode))
def test_no_query_of_the_callback_signs_an_anonymous_user_in(world: World, query: str):
    """S2, S13 to S15."""
    started = send(world.app, "/", headers=HTML)
    before = world.provider.count("token")
    response = send(world.app, "/callback", query=query, headers={**HTML, "Cookie": cookie_of(started)})
    assert_is_valid(response)
    assert response.status_code == 400
    assert world.provider.count("token") == before
    assert world.is_anonymous(cookie_of(started))


@given(changes=st.dictionaries(st.sampled_from(["code", "iss", "error", "scope", "state"]), text, min_size=1))
def test_no_callback_with_the_right_state_and_other_values_signs_in(world: World, changes: dict[str, str]):
    """S9, S14. The state is right, and all other values are generated."""
    started = send(world.app, "/", headers=HTML)
    state = dict(pair.split("=") for pair in urlsplit(started.headers["Location"]).query.split("&"))["state"]
    query = urlencode({"state": state, "iss": world.provider.url, "code": "made-up", **changes})
    response = send(world.app, "/callback", query=query, headers={**HTML, "Cookie": cookie_of(started)})
    assert response.status_code in {400, 403, 503}
    assert world.is_anonymous(cookie_of(started))


@given(cookie=header_value | text.map(lambda value: f"wsgi_oauth={value}".encode().decode("latin-1")))
def test_no_cookie_signs_an_anonymous_user_in(world: World, cookie: str):
    """S37, S54."""
    for path in ("/profile", "/callback", "/"):
        assert_is_valid(send(world.app, path, headers={**HTML, "Cookie": cookie}))
    assert world.is_anonymous(cookie)


MALLORYS = "the cookie of mallory"
tossed = st.sampled_from([MALLORYS, f" {MALLORYS}", f"{MALLORYS},", f"x;{MALLORYS}", f'"{MALLORYS}"'])


@given(junk=st.lists(header_value | tossed, min_size=1, max_size=3), place=st.integers(0, 3))
def test_no_additional_cookie_opens_the_session_of_another_user(world: World, junk: list[str], place: int):
    """S39. The user is either signed in or anonymous."""
    own = f"wsgi_oauth={world.user.cookie}"
    header = "; ".join([*junk[:place], own, *junk[place:]]).replace(MALLORYS, f"wsgi_oauth={world.mallory.cookie}")
    response = send(world.app, "/profile", headers={**JSON, "Cookie": header})
    assert response.status_code in {200, 401}
    assert response.status_code == 401 or response.get_json()["login"] == "octocat"


pieces = st.sampled_from(
    ["/", "//", "\\", ".", "..", "%2e", "%2f", "%5c", "\t", "\n", " ", "\0", "@", ":", "?", "#", "http:"]
)
next_url = st.lists(pieces | st.just("evil.example") | st.text(max_size=3), max_size=8).map("".join) | text


@given(next_url=next_url)
def test_no_next_leads_to_another_site(world: World, next_url: str):
    """S33. The location is resolved as a browser does."""
    query = "next=" + quote(next_url.encode("utf-8", "surrogatepass"), safe="")
    started = send(world.app, "/", query=query, headers=HTML)
    callback = world.user.consent(started.headers["Location"])
    headers = {**HTML, "Cookie": cookie_of(started)}
    signed_in = send(world.app, "/callback", query=urlsplit(callback).query, headers=headers)
    assert signed_in.status_code == 303
    origin, path = resolved(signed_in.headers["Location"], callback)
    assert origin == "http://localhost"
    assert not path.startswith("//")


headers = st.sampled_from(
    [
        *("Host", "Accept", "Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Purpose"),
        *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Authorization", "Range"),
    ]
)


@given(
    path=st.sampled_from(["/", "/callback", "/profile", "/logout", "/nowhere"]),
    method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "PUT", "BREW"]),
    sent=st.dictionaries(headers, header_value, max_size=4),
)
def test_no_header_causes_an_internal_error(world: World, path: str, method: str, sent: dict[str, str]):
    """S15, S16, S34, S35."""
    assert_is_valid(send(world.app, path, method=method, headers=sent))


@given(path=latin_1)
def test_no_path_causes_an_internal_error(world: World, path: str):
    """S15."""
    assert_is_valid(send(world.app, f"/x{path}", headers=HTML))


class TokenEndpoint:
    """A token endpoint with a chosen response, and an application that uses it."""

    body = b""
    client: Any

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return Response(self.body, content_type="application/json")(environ, start_response)


@pytest.fixture(scope="module")
def endpoint(world: World) -> Iterator[TokenEndpoint]:
    answer = TokenEndpoint()
    with serve(answer) as server:
        config = Config.from_environ(environ_for(world.provider, TOKEN_URL=f"{server.url}/token"))
        answer.client = create_app(config, store=MemoryStore())
        yield answer


token_members = st.fixed_dictionaries(
    {},
    optional={
        "access_token": st.just("a-token") | json_values,
        "token_type": st.sampled_from(["bearer", "Bearer", "mac"]) | json_values,
        "expires_in": st.just(3600) | json_values,
        "refresh_token": json_values,
        "scope": st.just("profile email") | json_values,
        "error": json_values,
    },
)


encoded = (token_members | json_values).map(lambda value: json.dumps(value).encode())


@settings(max_examples=100)
@given(body=encoded | st.binary(max_size=100))
def test_no_token_response_causes_an_internal_error(world: World, endpoint: TokenEndpoint, body: bytes):
    """S18 to S20. Either it contains a usable token, or the sign-in fails."""
    endpoint.body = body
    browser = Browser(endpoint.client, world.provider)
    response = browser.get(browser.callback_url())
    if response.status_int == 303:
        token = json.loads(body)
        assert isinstance(token["access_token"], str)
        assert token["access_token"].isascii()
        assert token["access_token"].isprintable()
        assert browser.profile().status_int == 401, "the provider rejects an unknown token"
    else:
        assert response.status_int in {400, 502}
        assert browser.profile().status_int == 401


@pytest.fixture(scope="module")
def session_file(world: World) -> tuple[Path, str]:
    """Return the path of a session file and its cookie."""
    started = send(world.app, "/", headers=HTML)
    return max(world.folder.glob("*.json"), key=lambda path: path.stat().st_ctime_ns), cookie_of(started)


def with_checksum(members: Any) -> bytes:
    """Return a session of any members with a valid checksum."""
    rest = json.dumps(members).encode()[1:]
    return b'{"crc32":"%08x",' % crc32(rest) + rest


moment = st.just(time.time()) | json_values
known = st.sampled_from(["oauth_state", "oauth_token", "oauth_refresh", IDENTITY, "x"])
session_members = st.fixed_dictionaries(
    {"started": moment, "seen": moment, "data": st.dictionaries(known, json_values) | json_values}
)


@given(data=st.binary(max_size=300) | session_members.map(with_checksum))
def test_no_session_file_causes_an_internal_error_or_signs_in(
    world: World, session_file: tuple[Path, str], data: bytes
):
    """S56. Damaged, or valid with types that no version has written."""
    path, cookie = session_file
    for route, query in (("/profile", ""), ("/callback", "code=x&state=x"), ("/", "")):
        path.write_bytes(data)
        os.utime(path, (time.time() + 600,) * 2)
        response = send(world.app, route, query=query, headers={**HTML, "Cookie": cookie})
        assert response.status_code < 500, route
        assert world.is_anonymous(cookie)
