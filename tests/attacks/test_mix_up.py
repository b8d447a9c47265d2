"""Mix-up (RFC 9700 4.4, RFC 9207): the response comes from another provider than the request was sent to.

The attacker operates or controls a provider, which sends the browser back with a response. A client that does not check
the issuer sends the code, with its own secret, to the wrong token endpoint.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Browser

from wsgi_oauth import errors
from wsgi_oauth.demo.lab.parties import change_parameters, exchanged_codes
from wsgi_oauth.demo.lab.sign_in_attacks import MIX_UP, accept_any_issuer
from wsgi_oauth.demo.lab.story import Outcome, Story
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.oauth import service
from wsgi_oauth.oauth.registration import Registration
from wsgi_oauth.sign_in import Attempt, AuthorizationResponse

from .lesson import guarded_by


@guarded_by({"wsgi_oauth.sign_in.check_response": accept_any_issuer})
def test_response_of_the_attackers_provider(victim: Browser, provider: LocalProvider) -> list[str]:
    """S9, RFC 9207 2.4."""
    victim.get(change_parameters(victim.callback_url(), iss="https://attacker.example"))
    return exchanged_codes(provider)


def compare_the_prefix(response: AuthorizationResponse, start: Attempt, of: Registration) -> None:
    if not response.iss.startswith(of.provider.issuer or ""):
        raise errors.IssuerMismatch("another issuer")


@guarded_by({"wsgi_oauth.sign_in.check_response": compare_the_prefix})
def test_issuer_with_the_same_prefix(victim: Browser, provider: LocalProvider) -> list[str]:
    """S9, RFC 9207 2.4: issuers are compared character by character, without normalization."""
    for added in ("/", ".attacker.example", "@attacker.example", "/authorize", "?", "#"):
        victim.get(change_parameters(victim.callback_url(), iss=provider.url + added))
    return exchanged_codes(provider)


def accept_a_missing_issuer(response: AuthorizationResponse, start: Attempt, of: Registration) -> None:
    if response.iss and response.iss != of.provider.issuer:
        raise errors.IssuerMismatch("another issuer")


@guarded_by({"wsgi_oauth.sign_in.check_response": accept_a_missing_issuer})
def test_response_without_the_issuer_that_the_provider_always_sends(
    make_browser: Callable[..., Browser], provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """S9, RFC 9207 2.4: such a response comes from another provider."""
    known = service.provider_from_config
    always = {"always_sends_issuer": True}
    monkeypatch.setattr(service, "provider_from_config", lambda config: known(config)._replace(**always))
    victim = make_browser()
    victim.get(change_parameters(victim.callback_url(), iss=None))
    return exchanged_codes(provider)


@guarded_by(MIX_UP.guards)
def test_attackers_provider_forwards_the_user_to_the_honest_one_and_receives_the_code(
    play: Callable[[Story], Outcome],
) -> Outcome:
    """S10, RFC 9700 4.4.1. The state and the challenge stay the same. The user knows the honest page and consents."""
    return play(MIX_UP)
