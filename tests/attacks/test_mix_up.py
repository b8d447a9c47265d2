"""Mix-up (RFC 9700 4.4, RFC 9207): the answer comes from another authorization server than the one that was asked.

The attacker runs a provider, or has taken one over, and sends the browser back with an answer of that one. A client
that does not look who answers brings the code, with its own secret, to a place where it does not belong. So providers
say who they are (``iss``), and clients compare.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from conftest import Browser

from wsgi_oauth import MemoryStore, SessionStore, errors
from wsgi_oauth.demo.provider import LocalProvider
from wsgi_oauth.login import AuthorizationResponse
from wsgi_oauth.registration import Registration

from .conftest import changed, exchanged_codes
from .lesson import guarded_by


@pytest.fixture
def store() -> SessionStore:
    return MemoryStore()


def whoever_answers(response: AuthorizationResponse, *_: object) -> None:
    if response.error or not response.code:
        raise errors.LoginRefused(response.error)


@guarded_by({"wsgi_oauth.login.check": whoever_answers})
def test_an_answer_of_the_attackers_provider_is_taken_for_the_honest_ones(
    victim: Browser, provider: LocalProvider
) -> list[str]:
    """S9, RFC 9207 2.4."""
    victim.get(changed(victim.callback_url(), iss="https://attacker.example"))
    return exchanged_codes(provider)


def same_beginning(response: AuthorizationResponse, _: object, registration: Registration) -> None:
    if not response.iss.startswith(registration.provider.issuer or ""):
        raise errors.IssuerMismatch("another issuer")


@guarded_by({"wsgi_oauth.login.check": same_beginning})
def test_an_issuer_that_begins_like_the_honest_one_is_taken_for_it(
    victim: Browser, provider: LocalProvider
) -> list[str]:
    """S9, RFC 9207 2.4: compared as strings, character by character, and nothing is normalised."""
    for added in ("/", ".attacker.example", "@attacker.example", "/authorize", "?", "#"):
        victim.get(changed(victim.callback_url(), iss=provider.url + added))
    return exchanged_codes(provider)


def who_says_nothing_is_believed(response: AuthorizationResponse, _: object, registration: Registration) -> None:
    if response.iss and response.iss != registration.provider.issuer:
        raise errors.IssuerMismatch("another issuer")


@guarded_by({"wsgi_oauth.login.check": who_says_nothing_is_believed})
def test_an_attackers_provider_that_leaves_the_issuer_out_is_taken_for_one_that_always_sends_it(
    make_browser: Callable[..., Browser], provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """S9, RFC 9207 2.4: where the issuer is always sent, an answer without one is somebody else's."""
    describe = provider_described_by(monkeypatch)
    describe(always_sends_issuer=True)
    victim = make_browser()
    victim.get(changed(victim.callback_url(), iss=None))
    return exchanged_codes(provider)


def provider_described_by(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change what the application knows about its provider."""
    from wsgi_oauth import registration

    known = registration.provider_from_config

    def describe(**more: bool) -> None:
        monkeypatch.setattr(
            registration, "provider_from_config", lambda config: dataclasses.replace(known(config), **more)
        )

    return describe
