"""Repeated parameters (RFC 6749 3.1): one component checks the first value and another one uses the last.

Werkzeug takes the first, oauthlib and PHP the last.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from conftest import Browser

from wsgi_oauth.demo.lab.parties import change_parameters, exchanged_codes
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sign_in import AuthorizationResponse

from .lesson import guarded_by


def one_of_two(index: int):
    def parse(query: bytes) -> AuthorizationResponse:
        given = parse_qs(query.decode())
        return AuthorizationResponse(
            **{name: given.get(name, [""])[index] for name in ("state", "code", "iss", "error")}
        )

    return parse


use_the_first, use_the_last = one_of_two(0), one_of_two(-1)


@guarded_by({"wsgi_oauth.sign_in.AuthorizationResponse.parse": use_the_last})
def test_second_code_bypasses_a_firewall_that_checks_the_first(victim: Browser, provider: LocalProvider) -> bool:
    """S13"""
    victim.get(f"{victim.callback_url()}&code=ATTACKERS")
    return "ATTACKERS" in exchanged_codes(provider)


@guarded_by({"wsgi_oauth.sign_in.AuthorizationResponse.parse": use_the_first})
def test_first_code_bypasses_a_firewall_that_checks_the_last(victim: Browser, provider: LocalProvider) -> bool:
    """S13"""
    path, _, query = victim.callback_url().partition("?")
    victim.get(f"{path}?code=ATTACKERS&{query}")
    return "ATTACKERS" in exchanged_codes(provider)


@guarded_by({"wsgi_oauth.sign_in.AuthorizationResponse.parse": use_the_first})
def test_first_issuer_hides_the_real_one(victim: Browser, provider: LocalProvider) -> bool:
    """S13, S9. The attacker's provider responds, and the attacker prepends the honest issuer."""
    path, _, query = change_parameters(victim.callback_url(), iss="https://attacker.example").partition("?")
    victim.get(f"{path}?iss={provider.url}&{query}")
    return exchanged_codes(provider) != []
