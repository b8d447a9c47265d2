"""Who takes part: a victim, an attacker, each with a browser, and what the attacker brings along."""

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

from .lesson import told


def without_header(*names: str) -> dict[str, tuple[str, str]]:
    """What every answer has, but not these."""
    return {known: header for known, header in pages.SECURITY_HEADERS.items() if header[0] not in names}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tell each lesson with all its guards, and then once without each of them."""
    if guards := getattr(metafunc.function, "guards", None):
        metafunc.parametrize("guard_taken_out", [None, *guards], ids=told, indirect=True)


@pytest.fixture
def guard_taken_out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any] | None:
    for name, substitute in (request.param or {}).items():
        monkeypatch.setattr(name, substitute, raising=False)  # that there is no GET may be a guard, too
    return request.param


@pytest.fixture(autouse=True)
def _quick(small_ca_bundle: None) -> None:
    """Applications by the dozen, and none of them speaks TLS."""


@pytest.fixture
def victim(make_browser: Callable[..., Browser]) -> Browser:
    """Somebody's browser in front of the application."""
    return make_browser()


@pytest.fixture
def attacker(make_browser: Callable[..., Browser]) -> Browser:
    """Another one, in front of the same application; for the provider, the attacker is a user called mallory."""
    browser = make_browser()
    browser.consent = partial(browser.consent, user="mallory")  # type: ignore[method-assign]
    return browser


class AttackersServer:
    """A server of the attacker's that writes down what it gets, and answers with :attr:`answer`."""

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
    """A provider that knows PKCE and can be talked out of it, as many can (RFC 9700 4.8): who asks without a challenge
    gets a code for any verifier.
    """
    challenge = GrantValidator.get_code_challenge
    monkeypatch.setattr(GrantValidator, "is_pkce_required", lambda *_: False)
    monkeypatch.setattr(GrantValidator, "get_code_challenge", lambda *arguments: challenge(*arguments) or None)
    return provider


def changed(url: str, **changes: str | None) -> str:
    """Return *url* with other query parameters; None takes one away."""
    query = {name: value for name, value in {**parameters(url), **changes}.items() if value is not None}
    return f"{url.partition('?')[0]}?{urlencode(query)}"


def without_pkce(authorization_url: str) -> str:
    """Return the authorization request as the attacker changes it, to get a code that fits to any verifier."""
    return changed(authorization_url, code_challenge=None, code_challenge_method=None)


def exchanged_codes(provider: LocalProvider) -> list[str]:
    """Return the codes that the application has brought to the token endpoint."""
    forms = [parse_qs(exchange.body) for exchange in provider.exchanges if exchange.endpoint == "token"]
    return [form["code"][0] for form in forms if "code" in form]


def issued_tokens(provider: LocalProvider) -> list[str]:
    """Return the access tokens that the provider has given."""
    answers = [exchange.response_body for exchange in provider.exchanges if exchange.endpoint == "token"]
    return [token for answer in answers for token in re.findall(r'"access_token": *"([^"]+)"', answer)]
