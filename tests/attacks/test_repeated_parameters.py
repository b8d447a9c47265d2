"""Two values for one parameter (RFC 6749 3.1): who looks first sees the one, who acts on it takes the other.

Werkzeug takes the first, oauthlib the last, PHP the last, some firewalls none of them.
"""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from conftest import Browser

from wsgi_oauth import MemoryStore, SessionStore
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sign_in import AuthorizationResponse

from .conftest import changed, exchanged_codes
from .lesson import guarded_by


@pytest.fixture
def store() -> SessionStore:
    return MemoryStore()


def one_of_two(index: int):
    def parse(query: bytes) -> AuthorizationResponse:
        given = parse_qs(query.decode())
        return AuthorizationResponse(
            **{name: given.get(name, [""])[index] for name in ("state", "code", "iss", "error")}
        )

    return parse


take_the_first, take_the_last = one_of_two(0), one_of_two(-1)


@guarded_by({"wsgi_oauth.sign_in.AuthorizationResponse.parse": take_the_last})
def test_a_code_behind_the_code_slips_past_a_firewall_that_looks_at_the_first(
    victim: Browser, provider: LocalProvider
) -> bool:
    """S13"""
    victim.get(f"{victim.callback_url()}&code=ATTACKERS")
    return "ATTACKERS" in exchanged_codes(provider)


@guarded_by({"wsgi_oauth.sign_in.AuthorizationResponse.parse": take_the_first})
def test_a_code_before_the_code_slips_past_a_firewall_that_looks_at_the_last(
    victim: Browser, provider: LocalProvider
) -> bool:
    """S13"""
    path, _, query = victim.callback_url().partition("?")
    victim.get(f"{path}?code=ATTACKERS&{query}")
    return "ATTACKERS" in exchanged_codes(provider)


@guarded_by({"wsgi_oauth.sign_in.AuthorizationResponse.parse": take_the_first})
def test_an_issuer_before_the_issuer_hides_where_the_answer_came_from(victim: Browser, provider: LocalProvider) -> bool:
    """S13, S9. The answer is the attacker's server's, and the honest issuer was put in front of it."""
    path, _, query = changed(victim.callback_url(), iss="https://attacker.example").partition("?")
    victim.get(f"{path}?iss={provider.url}&{query}")
    return exchanged_codes(provider) != []
