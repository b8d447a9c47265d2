"""Large tokens: an access token, a refresh token and an ID token of 64 KiB fit into a session together."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Application, Browser, Guest, environ_for
from werkzeug import Response

from wsgi_oauth import Config, LoginRequired, SessionStore, create_app
from wsgi_oauth.demo.fault_injection import Fault, FaultContext
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.signing import sign_jwt
from wsgi_oauth.gate import authentication
from wsgi_oauth.oauth.token import MAX_TOKEN


def id_token_of(size: int) -> str:
    """Return an ID token of at least *size* characters."""
    return sign_jwt(json.dumps({"sub": "octocat", "groups": ["g" * 100] * (size * 3 // 4 // 104)}).encode())


@pytest.fixture
def large_provider(provider: LocalProvider) -> LocalProvider:
    """Return a provider whose token responses contain a large refresh token and a large ID token."""

    def enlarge(context: FaultContext) -> Response:
        answer = context.normal_response()
        document = answer.get_json() | {"refresh_token": "r f" + "r" * (MAX_TOKEN - 3), "id_token": id_token_of(60_000)}
        return Response(json.dumps(document), mimetype="application/json")

    provider.faults.register(Fault("token.large", "", enlarge))
    provider.faults.add("token.large", times=None)
    return provider


@pytest.mark.parametrize("encrypted", ["no", "yes"])
def test_large_tokens_are_stored_and_read_at_the_gate(
    encrypted: str, large_provider: LocalProvider, every_store: SessionStore, inside: Application
) -> None:
    config = Config.from_environ(environ_for(large_provider, SESSION_SEAL=encrypted))
    visitor = Guest(LoginRequired(inside, create_app(config, store=every_store)), large_provider)
    assert visitor.sign_in().text == "inside"
    assert visitor.get("/page").text == "inside"
    [key] = every_store.keys()
    assert len(every_store.load(key) or b"") > MAX_TOKEN + 60_000
    assert visitor.post("/auth/logout").status_int == 303
    assert list(every_store.keys()) == []


def test_access_token_of_64_kib_is_sent(provider: LocalProvider, make_browser: Callable[..., Browser]) -> None:
    """http.server reads headers of at most 64 KiB, with the header's name."""
    size = MAX_TOKEN - len("Authorization: Bearer \r\n")
    provider.faults.register(
        Fault("token.large", "", lambda _: Response(json.dumps({"access_token": "a" * size, "token_type": "Bearer"})))
    )
    provider.faults.add("token.large")
    browser = make_browser()
    browser.sign_in()
    assert browser.profile().status_int == 401  # the provider knows no such token
    assert provider.exchanges[-1].headers["Authorization"] == "Bearer " + "a" * size


def test_token_above_64_kib_is_refused(provider: LocalProvider, browser: Browser) -> None:
    """S20."""
    document: dict[str, Any] = {"access_token": "a" * (MAX_TOKEN + 1), "token_type": "Bearer"}
    provider.faults.register(Fault("token.large", "", lambda _: Response(json.dumps(document))))
    provider.faults.add("token.large")
    assert browser.get(browser.callback_url()).status_int == 502


def test_large_sessions_do_not_fill_the_memory_of_the_gate(
    large_provider: LocalProvider,
    make_gate: Callable[..., LoginRequired],
    inside: Application,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(authentication, "_MAX_CACHED_BYTES", 300_000)
    gate = make_gate()
    visitors = [Guest(gate, large_provider) for _ in range(5)]
    for visitor in visitors:
        visitor.sign_in()
    assert {visitor.get("/page").text for visitor in visitors} == {"inside"}
    assert len({id(login.raw) for login in gate.authenticator._cache.values()}) < len(visitors)
