"""Login CSRF (RFC 6749 10.12, RFC 9700 4.7): the attacker starts a sign-in, and the browser of the victim finishes it.

The victim is then signed in as the attacker, and stores data, payments or connections in the account of the attacker.
PKCE alone does not help, because some providers issue a code that fits any verifier if the attacker removes the
challenge (RFC 9700 4.8.2). These attacks use such a provider.
"""

from __future__ import annotations

import hmac
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Browser, parameters, stored_sessions

from wsgi_oauth import errors
from wsgi_oauth.demo.lab.parties import change_parameters
from wsgi_oauth.demo.lab.sign_in_attacks import LOGIN_CSRF, find_in_all_sessions
from wsgi_oauth.demo.lab.story import Outcome, Story
from wsgi_oauth.sessions.cookie import PENDING_PURPOSE_LENGTH
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.sign_in import Attempt, AuthorizationResponse

from .conftest import without_pkce
from .lesson import guarded_by

pytestmark = pytest.mark.usefixtures("careless_provider")


def signed_in_as_the_attacker(victim: Browser) -> bool:
    return victim.profile().json.get("login") == "mallory"


def all_pending(session: Session) -> list[dict[str, Any]]:
    """Return the data of all sessions with a pending sign-in."""
    return [data for data in stored_sessions(session._manager.store) if "oauth_state" in data]


# `if request.args.get("state") != session.get("state"): abort()`, where None equals None.
def accept_a_missing_state(_: Session, session: Session, response: AuthorizationResponse, **__: float) -> Attempt:
    if response.state or session.get("oauth_state"):
        raise errors.NoLoginInProgress("the states differ")
    [provider] = {record["provider"] for data in all_pending(session) for record in data["oauth_state"].values()}
    return Attempt("", "v" * 43, "http://localhost/callback", "/profile", provider)


# Accept any response while a sign-in is pending.
def ignore_the_state(records: dict[str, Any], state: str) -> dict[str, Any] | None:
    return next(iter(records.values()), None)


@guarded_by({"wsgi_oauth.sign_in.consume_state": accept_a_missing_state})
def test_link_with_a_code_and_no_state(victim: Browser, attacker: Browser) -> bool:
    """S2. The shortest attack: a callback link with a code, in a mail or an image."""
    attackers_link = attacker.consent(without_pkce(attacker.start()))
    victim.get(change_parameters(attackers_link, state=None))
    return signed_in_as_the_attacker(victim)


@guarded_by(LOGIN_CSRF.guards)
def test_link_with_the_state_of_the_attacker(play: Callable[[Story], Outcome]) -> Outcome:
    """S1. The server has issued this state, but to the attacker."""
    return play(LOGIN_CSRF)


@guarded_by(
    {
        "wsgi_oauth.sign_in.find_record": ignore_the_state,
        "wsgi_oauth.sign_in.cookie_purpose": lambda _: "x" * PENDING_PURPOSE_LENGTH,
    }
)
def test_link_during_a_pending_sign_in_of_the_victim(victim: Browser, attacker: Browser) -> bool:
    """S1. A page opens the application and then, in the background, the attacker's callback."""
    attackers_link = attacker.consent(without_pkce(attacker.start()))
    victim.start()
    victim.get(attackers_link)
    return signed_in_as_the_attacker(victim)


@guarded_by({"wsgi_oauth.sign_in.consume_state": find_in_all_sessions})
def test_link_that_replaces_the_account_of_a_signed_in_victim(victim: Browser, attacker: Browser) -> bool:
    """S1, S12. The victim does not notice that the account has changed."""
    victim.sign_in()
    victim.get(attacker.callback_url())
    return signed_in_as_the_attacker(victim)


numbers = itertools.count(1000)


def begin_with_a_counter(**given: Any) -> Attempt:
    return Attempt(f"login-{next(numbers)}", "v" * 43, **given)


@guarded_by({"wsgi_oauth.sign_in.Attempt.new": begin_with_a_counter})
def test_guessed_state(victim: Browser, attacker: Browser) -> bool:
    """S7. A counter, a time or a hash of the user name is predictable."""
    code = parameters(attacker.consent(without_pkce(attacker.start())))["code"]
    own_state = parameters(attacker.start())["state"]
    next_one = f"login-{int(own_state.removeprefix('login-')) + 1}" if own_state.startswith("login-") else own_state
    victim.start()
    victim.get(f"/callback?code={code}&state={next_one}")
    return signed_in_as_the_attacker(victim)


def compare_as_text(records: dict[str, Any], state: str) -> dict[str, Any] | None:
    return next((record for known, record in records.items() if hmac.compare_digest(known, state)), None)


@guarded_by(
    {
        "wsgi_oauth.sign_in.find_record": compare_as_text,
        "wsgi_oauth.sign_in.cookie_purpose": lambda _: "x" * PENDING_PURPOSE_LENGTH,
        "wsgi_oauth.sign_in.NOT_PRINTABLE": re.compile("(?!)"),
    }
)
def test_non_ascii_state_causes_an_internal_error(victim: Browser) -> bool:
    """S6, S15. hmac.compare_digest raises TypeError for text that is not ASCII."""
    victim.start()
    return victim.get("/callback?code=x&state=%C3%A9").status_int >= 500
