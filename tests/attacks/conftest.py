"""The participants of an attack: the victim and the attacker with their browsers, and the attacker's tools."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from conftest import Browser, parameters
from werkzeug import Request, Response

from wsgi_oauth.demo.grants import GrantValidator
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve
from wsgi_oauth.web import pages

from .lesson import run_id


def without_header(*names: str) -> dict[str, str]:
    """Return the security headers without those called *names*."""
    return {name: value for name, value in pages.SECURITY_HEADERS.items() if name not in names}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each attack with all guards, and once without each of them."""
    if guards := getattr(metafunc.function, "guards", None):
        metafunc.parametrize("removed_guard", [None, *guards], ids=run_id, indirect=True)


@pytest.fixture
def removed_guard(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any] | None:
    """Replace the guard of this run."""
    for name, replacement in (request.param or {}).items():
        # Logout has no GET method, and its absence is the guard.
        monkeypatch.setattr(name, replacement, raising=not name.endswith(".Logout.get"))
    return request.param


@pytest.fixture(autouse=True)
def _small_ca_bundle(small_ca_bundle: None) -> None:
    """Load a tiny CA bundle in all attacks, because they create many applications without TLS."""


@pytest.fixture
def victim(make_browser: Callable[..., Browser]) -> Browser:
    """Return the victim's browser."""
    return make_browser()


@pytest.fixture
def attacker(make_browser: Callable[..., Browser]) -> Browser:
    """Return the attacker's browser. At the provider, the attacker is the user mallory."""
    browser = make_browser()
    browser.consent = partial(browser.consent, user="mallory")  # type: ignore[method-assign]
    return browser


class AttackersServer:
    """A server of the attacker that records its requests and responds with :attr:`answer`."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.answer = Response('{"login": "mallory"}', content_type="application/json")
        self.url = ""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        self.seen.append(f"{request.url}\n{request.headers}\n{request.get_data(as_text=True)}")
        return self.answer(environ, start_response)

    def has_seen(self, secret: str) -> bool:
        return any(secret in request for request in self.seen)


@pytest.fixture
def attackers_server() -> Iterator[AttackersServer]:
    with ExitStack() as stack:
        application = AttackersServer()
        application.url = stack.enter_context(serve(application)).url
        yield application


@pytest.fixture
def careless_provider(provider: LocalProvider, monkeypatch: pytest.MonkeyPatch) -> LocalProvider:
    """Return a provider that supports PKCE but accepts a code request without a challenge (RFC 9700 4.8.2)."""
    challenge = GrantValidator.get_code_challenge
    monkeypatch.setattr(GrantValidator, "is_pkce_required", lambda *_: False)
    monkeypatch.setattr(GrantValidator, "get_code_challenge", lambda *arguments: challenge(*arguments) or None)
    return provider


def changed(url: str, **changes: str | None) -> str:
    """Return *url* with changed query parameters; None removes one."""
    query = {name: value for name, value in {**parameters(url), **changes}.items() if value is not None}
    return f"{url.partition('?')[0]}?{urlencode(query)}"


def without_pkce(authorization_url: str) -> str:
    """Return the authorization request without its challenge: the resulting code fits any code verifier."""
    return changed(authorization_url, code_challenge=None, code_challenge_method=None)


def exchanged_codes(provider: LocalProvider) -> list[str]:
    """Return the codes that the application has sent to the token endpoint."""
    forms = [parse_qs(exchange.body) for exchange in provider.exchanges if exchange.endpoint == "token"]
    return [form["code"][0] for form in forms if "code" in form]


def issued_tokens(provider: LocalProvider) -> list[str]:
    """Return the access tokens that the provider has issued."""
    answers = [exchange.response_body for exchange in provider.exchanges if exchange.endpoint == "token"]
    return [token for answer in answers for token in re.findall(r'"access_token": *"([^"]+)"', answer)]
