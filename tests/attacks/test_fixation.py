"""Session fixation (ASVS 7.2.4): the attacker knows the session's id before it is worth anything, or long after.

The id gets into the victim's browser by a neighbour's subdomain, a shared computer, a page over plain http. The victim
signs in, and the attacker, who holds the same id, is signed in too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from conftest import HTML, Browser, send
from werkzeug import Response

from wsgi_oauth import RequestHandler
from wsgi_oauth.sessions.cookie import session_id_from_cookie
from wsgi_oauth.sessions.encoding import StoredSession
from wsgi_oauth.sessions.manager import SessionManager, store_key
from wsgi_oauth.sessions.session import Session

from .lesson import guarded_by


class Notebook(RequestHandler):
    """A page that keeps something in the session."""

    route = "/notebook"

    def get(self, request: Any) -> Response:
        return self.jsonify(request.session.get("note"))

    def post(self, request: Any) -> Response:
        request.session["note"] = request.form["note"]
        return self.jsonify(None)


def plant(browser: Browser, session_id: str | None) -> None:
    """Put a session cookie into somebody else's browser."""
    browser.app.reset()
    browser.app.set_cookie("wsgi_oauth", session_id or "")


# PHP without session.use_strict_mode, and whoever says `sessions.get(id) or sessions.create(id)`.
def adopt_any_id(sessions: SessionManager, environ: dict[str, Any], *, secure: bool) -> Session:
    session_id = session_id_from_cookie(environ, secure=secure)
    if not session_id:
        return Session(sessions)
    stored = sessions.read(session_id)
    if stored is None:
        stored = StoredSession(time.time(), time.time(), {})
        sessions.store.create(store_key(session_id), sessions.build_record(session_id, stored))
    return Session(sessions, stored, session_id)


def keep_the_id(session: Session) -> None:
    pass


@guarded_by(
    {
        "wsgi_oauth.sessions.manager.SessionManager.open": adopt_any_id,
        "wsgi_oauth.sessions.session.Session.renew": keep_the_id,
    }
)
def test_the_attacker_makes_up_an_id_and_plants_it_before_the_sign_in(victim: Browser, attacker: Browser) -> bool:
    """S37. Two guards: an id that the server has not given is no session, and a sign-in changes the id."""
    plant(victim, "A" * 43)
    victim.get(victim.callback_url())
    plant(attacker, "A" * 43)
    return attacker.profile().status_int == 200


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.open": adopt_any_id})
def test_the_attacker_makes_up_an_id_and_shares_what_an_anonymous_victim_keeps(
    make_browser: Callable[..., Browser],
) -> str | None:
    """S37. A session is worth something before the sign-in, too: a basket, a form, a sign-in that is on its way."""
    victim, attacker = make_browser(handlers=(Notebook,)), make_browser(handlers=(Notebook,))
    plant(victim, "A" * 43)
    victim.post("/notebook", params={"note": "what I want for my birthday"})
    plant(attacker, "A" * 43)
    return attacker.get("/notebook").json


@guarded_by({"wsgi_oauth.sessions.session.Session.renew": keep_the_id})
def test_the_attacker_gets_a_real_id_and_plants_it_before_the_sign_in(victim: Browser, attacker: Browser) -> bool:
    """S36. The server has given this id itself, so strictness does not help: the sign-in has to change it."""
    attacker.start()
    known = attacker.cookie
    plant(victim, known)
    victim.get(victim.callback_url())
    plant(attacker, known)
    return attacker.profile().status_int == 200


@guarded_by({"wsgi_oauth.sessions.session.Session.renew": keep_the_id})
def test_an_id_that_was_stolen_once_is_good_for_the_next_sign_in_as_well(victim: Browser, attacker: Browser) -> bool:
    """S36. Who fears that somebody has their session signs in anew."""
    victim.sign_in()
    stolen = victim.cookie
    victim.sign_in()
    plant(attacker, stolen)
    return attacker.profile().status_int == 200


def everything(data: dict[str, Any]) -> dict[str, Any]:
    return data


@guarded_by({"wsgi_oauth.sessions.manager.inherited_data": everything})
def test_the_next_user_of_a_shared_computer_reads_what_the_first_one_left(
    make_browser: Callable[..., Browser],
) -> str | None:
    """S36. Signed in over somebody who did not sign out."""
    computer = make_browser(handlers=(Notebook,))
    computer.sign_in()
    computer.post("/notebook", params={"note": "the victim's diary"})
    computer.sign_in()
    return computer.get("/notebook").json


def clear_the_cookie_alone(session: Session) -> None:
    session.clear()
    session.ended = True


@guarded_by({"wsgi_oauth.sessions.session.Session.end": clear_the_cookie_alone})
def test_a_stolen_cookie_survives_the_sign_out(victim: Browser, attacker: Browser) -> bool:
    """S41. A cookie that is cleared in one browser is still good in every other one that has a copy."""
    victim.sign_in()
    stolen = victim.cookie
    victim.post("/logout")
    plant(attacker, stolen)
    return attacker.profile().status_int == 200


def until_the_end_of_the_world(sessions: SessionManager, stored: StoredSession) -> float:
    return time.time() + 10**9


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.expiry": until_the_end_of_the_world})
def test_a_cookie_from_a_computer_that_was_thrown_away_still_signs_in(
    make_browser: Callable[..., Browser], later: Callable[[float], None]
) -> bool:
    """S40, ASVS 7.3.1. The cookie's own lifetime is a wish: only the server can end a session."""
    computer = make_browser(handlers=(Notebook,))
    computer.sign_in()
    computer.post("/notebook", params={"note": "mine"})
    kept = f"wsgi_oauth={computer.cookie}"
    later(30 * 86400)
    return send(computer.app.app, "/notebook", headers={**HTML, "Cookie": kept}).get_json() == "mine"
