"""The participants of an attack: the victim and the attacker with their browsers, and the attacker's tools."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Browser

from wsgi_oauth.demo.lab.parties import AttackersServer, change_parameters, set_stage
from wsgi_oauth.demo.lab.story import Outcome, Story
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
        monkeypatch.setattr(name, replacement)
    return request.param


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


@pytest.fixture
def attackers_server() -> Iterator[AttackersServer]:
    with ExitStack() as stack:
        application = AttackersServer()
        application.url = stack.enter_context(serve(application)).url
        yield application


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Story], Outcome]:
    """Return a function that carries out the attack of a story in the demo's lab, with the parties of the lab."""

    def play(story: Story) -> Outcome:
        with set_stage(tmp_path, story.build) as stage:
            return story.attack(stage)

    return play


@pytest.fixture
def careless_provider(provider: LocalProvider) -> LocalProvider:
    """Return a provider that supports PKCE but accepts a code request without a challenge (RFC 9700 4.8.2)."""
    provider._validator.require_pkce = False
    return provider


def without_pkce(authorization_url: str) -> str:
    """Return the authorization request without its challenge: the resulting code fits any code verifier."""
    return change_parameters(authorization_url, code_challenge=None, code_challenge_method=None)


def issued_tokens(provider: LocalProvider) -> list[str]:
    """Return the access tokens that the provider has issued."""
    answers = [exchange.response_body for exchange in provider.exchanges if exchange.endpoint == "token"]
    return [token for answer in answers for token in re.findall(r'"access_token": *"([^"]+)"', answer)]
