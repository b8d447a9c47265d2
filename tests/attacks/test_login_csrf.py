"""Login CSRF (RFC 6749 10.12, RFC 9700 4.7): the attacker begins a sign-in, and the victim's browser finishes it.

The victim is then signed in as the attacker, and what the victim uploads, pays or connects ends up in the attacker's
account. PKCE alone does not help: the attacker takes the challenge out of the request, and a provider that can be
talked out of PKCE gives a code that fits to any verifier (RFC 9700 4.8). So these attackers always do.
"""

from __future__ import annotations

import hmac
import itertools
import re
from typing import Any

import pytest
from conftest import Browser, parameters, stored_sessions

from wsgi_oauth import errors
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.sign_in import AuthorizationResponse, Start

from .conftest import changed, without_pkce
from .lesson import guarded_by

pytestmark = pytest.mark.usefixtures("careless_provider")


def signed_in_as_the_attacker(victim: Browser) -> bool:
    return victim.profile().json.get("login") == "mallory"


def everybodys(session: Session) -> list[dict[str, Any]]:
    return [data for data in stored_sessions(session._manager.store) if "oauth_state" in data]


# A program that says `if request.args.get("state") != session.get("state"): abort()`: None equals None.
def absent_equals_absent(session: Session, response: AuthorizationResponse, *, timeout: float) -> Start:
    if response.state or session.get("oauth_state"):
        raise errors.NoLoginInProgress("the states differ")
    [provider] = {record["provider"] for data in everybodys(session) for record in data["oauth_state"].values()}
    return Start("", "v" * 43, "http://localhost/callback", "/profile", provider)


# Authlib, CVE-2025-68158: states in a cache of the server's, where every browser finds them.
def any_start_of_any_browser(session: Session, response: AuthorizationResponse, *, timeout: float) -> Start:
    for data in everybodys(session):
        record = data["oauth_state"].get(response.state)
        if record:
            names = ("code_verifier", "redirect_uri", "next", "provider")
            return Start(response.state, *(record[name] for name in names))
    raise errors.NoLoginInProgress("never issued")


# "A sign-in is in progress, so this must be its end."
def any_start_of_this_browser(records: dict[str, Any], state: str) -> dict[str, Any] | None:
    return next(iter(records.values()), None)


@guarded_by({"wsgi_oauth.sign_in.claim": absent_equals_absent})
def test_a_link_without_a_state_signs_the_victim_in_as_the_attacker(victim: Browser, attacker: Browser) -> bool:
    """S2. The shortest attack there is: a callback link with a code and nothing else, in a mail or an image."""
    attackers_link = attacker.consent(without_pkce(attacker.start()))
    victim.get(changed(attackers_link, state=None))
    return signed_in_as_the_attacker(victim)


@guarded_by({"wsgi_oauth.sign_in.claim": any_start_of_any_browser})
def test_the_attackers_flow_finishes_in_the_victims_browser(victim: Browser, attacker: Browser) -> bool:
    """S1. The state is one that this server has issued. To somebody else."""
    attackers_link = attacker.callback_url()
    victim.get(attackers_link)
    return signed_in_as_the_attacker(victim)


@guarded_by({"wsgi_oauth.sign_in._find": any_start_of_this_browser})
def test_a_link_that_was_made_without_pkce_finishes_the_sign_in_that_the_victim_has_begun(
    victim: Browser, attacker: Browser
) -> bool:
    """S1. A link that opens the application and, a moment later, in the background, the attacker's callback."""
    attackers_link = attacker.consent(without_pkce(attacker.start()))
    victim.start()
    victim.get(attackers_link)
    return signed_in_as_the_attacker(victim)


@guarded_by({"wsgi_oauth.sign_in.claim": any_start_of_any_browser})
def test_the_victim_is_moved_to_the_attackers_account_while_being_signed_in(victim: Browser, attacker: Browser) -> bool:
    """S1, S12. Nobody notices that the account has changed under their hands."""
    victim.sign_in()
    victim.get(attacker.callback_url())
    return signed_in_as_the_attacker(victim)


numbers = itertools.count(1000)


def begin_with_a_number(**given: Any) -> Start:
    return Start(f"login-{next(numbers)}", "v" * 43, **given)


@guarded_by({"wsgi_oauth.sign_in.begin": begin_with_a_number})
def test_the_attacker_guesses_the_state_that_the_victim_will_get(victim: Browser, attacker: Browser) -> bool:
    """S7. A state that is a counter, a time or a hash of the user's name is known to whoever has seen the last one."""
    code = parameters(attacker.consent(without_pkce(attacker.start())))["code"]
    own_state = parameters(attacker.start())["state"]
    next_one = f"login-{int(own_state.removeprefix('login-')) + 1}" if own_state.startswith("login-") else own_state
    victim.start()
    victim.get(f"/callback?code={code}&state={next_one}")
    return signed_in_as_the_attacker(victim)


def as_text(records: dict[str, Any], state: str) -> dict[str, Any] | None:
    return next((record for known, record in records.items() if hmac.compare_digest(known, state)), None)


@guarded_by({"wsgi_oauth.sign_in._find": as_text, "wsgi_oauth.sign_in._UNREADABLE": re.compile("(?!)")})
def test_a_link_with_an_accent_in_its_state_is_an_error_of_the_server(victim: Browser) -> bool:
    """S6, S15. hmac.compare_digest raises for text that is not ASCII, and somebody is called out of bed."""
    victim.start()
    return victim.get("/callback?code=x&state=%C3%A9").status_int >= 500
