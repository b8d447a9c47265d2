"""Stale sign-ins: accounts that have ended, and sign-ins that are older or weaker than a page requires (RFC 9470)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf

import pytest
from conftest import Browser, parameters
from openid import HOUR, Issuer, config_for
from werkzeug import Response

from wsgi_oauth import MemoryStore, RequestHandler, create_app
from wsgi_oauth.demo.fault_injection import Fault
from wsgi_oauth.demo.server import serve_provider

from .lesson import guarded_by


class Payments(RequestHandler):
    """A page for a sign-in within the last five minutes."""

    route = "/payments"

    def get(self, request: object) -> Response:
        self.require_recent_login(max_age=300)
        return self.jsonify(self.identity.username)


class Documents(RequestHandler):
    """A page for every signed-in user."""

    route = "/documents"

    def get(self, request: object) -> Response:
        return self.jsonify(self.identity.username)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer(expires_in=6 * HOUR)
    with serve_provider(issuer):
        yield issuer


@pytest.fixture
def make_victim(issuer: Issuer) -> Callable[..., Browser]:
    def make(**settings: str) -> Browser:
        return Browser(
            create_app(config_for(issuer, **settings), store=MemoryStore(), handlers=[Payments, Documents]), issuer
        )

    return make


@guarded_by({"wsgi_oauth.oauth.service.next_recheck": lambda *_: inf})
def test_dismissed_employee_continues_to_work(
    make_victim: Callable[..., Browser], issuer: Issuer, later: Callable[[float], None]
) -> bool:
    """S28. The account is disabled at the provider while its session lives."""
    employee = make_victim()
    employee.sign_in()
    employee.get("/documents")
    for name in ("token.disabled", "profile.disabled"):
        issuer.faults.register(Fault(name, "", lambda _: Response('{"error": "invalid_grant"}', 400)))
        issuer.faults.add(name, times=None)
    later(HOUR)
    return employee.get("/documents").status_int == 200


@guarded_by({"wsgi_oauth.oauth.client.check_requirements": lambda claims, requirements: None})
def test_unattended_computer_pays_because_the_provider_asks_for_no_password(
    make_victim: Callable[..., Browser], issuer: Issuer, later: Callable[[float], None]
) -> bool:
    """S30. The provider ignores ``max_age``, and says so in ``auth_time``."""
    victim = make_victim()
    victim.sign_in()
    later(HOUR)
    started = victim.get(victim.get("/payments").location)
    issuer.claims["auth_time"] = 1
    return victim.get(victim.consent(started.location)).status_int == 303


@guarded_by({"wsgi_oauth.sign_in.combine_requirements": lambda configured, requested: {**configured, **requested}})
def test_link_to_the_sign_in_leaves_out_the_second_factor(make_victim: Callable[..., Browser]) -> bool:
    """S30. The operator requires a second factor of every sign-in."""
    thief = make_victim(AUTHORIZATION_PARAMETERS="acr_values=second-factor")
    answer = thief.get("/?reauthenticate=acr_values%3Dpassword")
    return answer.status_int == 302 and parameters(answer.location)["acr_values"] == "password"
