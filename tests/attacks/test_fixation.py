"""Session fixation (ASVS 7.2.4): the attacker knows the session id of the victim before or after the sign-in.

The id gets into the browser of the victim from a neighbouring subdomain, a shared computer or a page over plain http.
When the victim signs in, the attacker, who has the same id, is signed in too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from conftest import HTML, Browser, send
from werkzeug import Response

from wsgi_oauth import RequestHandler
from wsgi_oauth.demo.lab.session_attacks import COOKIE_REPLAY, SESSION_FIXATION, keep_the_id
from wsgi_oauth.demo.lab.story import Outcome, Story
from wsgi_oauth.sessions.cookie import CookieNames, session_id_from_cookie
from wsgi_oauth.sessions.encoding import StoredSession
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.sessions.store import store_key

from .lesson import guarded_by


class Notebook(RequestHandler):
    """Stores a note in the session."""

    route = "/notebook"

    def get(self, request: Any) -> Response:
        return self.jsonify(request.session.get("note"))

    def post(self, request: Any) -> Response:
        request.session["note"] = request.form["note"]
        return self.jsonify(None)


def plant(browser: Browser, session_id: str | None) -> None:
    """Put a session cookie into another user's browser."""
    browser.app.reset()
    browser.app.set_cookie("wsgi_oauth", session_id or "")


open_session = SessionManager.open


# PHP without session.use_strict_mode, or `sessions.get(id) or sessions.create(id)`.
def adopt_any_id(
    sessions: SessionManager, environ: dict[str, Any], purpose: str = "", *, names: CookieNames
) -> Session:
    if purpose:
        return open_session(sessions, environ, purpose, names=names)
    session_id = session_id_from_cookie(environ, names=names)
    if not session_id:
        return Session(sessions)
    stored = sessions.read(session_id)
    if stored is None:
        stored = StoredSession(time.time(), time.time(), {})
        sessions.store.create(store_key(session_id), sessions.build_record(session_id, stored))
    return Session(sessions, stored, session_id)


@guarded_by(
    {
        "wsgi_oauth.sessions.manager.SessionManager.open": adopt_any_id,
        "wsgi_oauth.sessions.session.Session.renew": keep_the_id,
    }
)
def test_invented_id_is_planted_before_the_sign_in(victim: Browser, attacker: Browser) -> bool:
    """S37. Two guards: an id that the server has not issued is ignored, and a sign-in changes the id."""
    plant(victim, "A" * 43)
    victim.get(victim.callback_url())
    plant(attacker, "A" * 43)
    return attacker.profile().status_int == 200


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.open": adopt_any_id})
def test_invented_id_gives_access_to_the_data_of_an_anonymous_victim(
    make_browser: Callable[..., Browser],
) -> str | None:
    """S37. An anonymous session can hold a form, a basket or a pending sign-in."""
    victim, attacker = make_browser(handlers=(Notebook,)), make_browser(handlers=(Notebook,))
    plant(victim, "A" * 43)
    victim.post("/notebook", params={"note": "my wish list"})
    plant(attacker, "A" * 43)
    return attacker.get("/notebook").json


@guarded_by(SESSION_FIXATION.guards)
def test_issued_id_is_planted_before_the_sign_in(play: Callable[[Story], Outcome]) -> Outcome:
    """S36. The server has issued this id to the attacker, so only changing it at the sign-in helps."""
    return play(SESSION_FIXATION)


@guarded_by({"wsgi_oauth.sessions.session.Session.renew": keep_the_id})
def test_stolen_id_is_still_valid_after_the_victim_signs_in_again(victim: Browser, attacker: Browser) -> bool:
    """S36. A user who suspects a theft signs in again."""
    victim.sign_in()
    stolen = victim.cookie
    victim.sign_in()
    plant(attacker, stolen)
    return attacker.profile().status_int == 200


def keep_all_data(data: dict[str, Any]) -> dict[str, Any]:
    return data


@guarded_by({"wsgi_oauth.sessions.manager.inherited_data": keep_all_data})
def test_next_user_of_a_shared_computer_reads_the_data_of_the_previous_one(
    make_browser: Callable[..., Browser],
) -> str | None:
    """S36. The second user signs in although the first has not signed out."""
    computer = make_browser(handlers=(Notebook,))
    computer.sign_in()
    computer.post("/notebook", params={"note": "the victim's diary"})
    computer.sign_in()
    return computer.get("/notebook").json


@guarded_by(COOKIE_REPLAY.guards)
def test_stolen_cookie_is_still_valid_after_the_sign_out(play: Callable[[Story], Outcome]) -> Outcome:
    """S41. Clearing a cookie in one browser does not affect its copies."""
    return play(COOKIE_REPLAY)


def never_expire(sessions: SessionManager, stored: StoredSession) -> float:
    return time.time() + 10**9


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.expiry": never_expire})
def test_cookie_of_a_discarded_computer_is_still_valid(
    make_browser: Callable[..., Browser], later: Callable[[float], None]
) -> bool:
    """S40, ASVS 7.3.1. Only the server can enforce the lifetime of a session."""
    computer = make_browser(handlers=(Notebook,))
    computer.sign_in()
    computer.post("/notebook", params={"note": "mine"})
    kept = f"wsgi_oauth={computer.cookie}"
    later(30 * 86400)
    return send(computer.app.app, "/notebook", headers={**HTML, "Cookie": kept}).get_json() == "mine"
