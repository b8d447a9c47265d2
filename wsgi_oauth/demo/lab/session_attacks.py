"""Attacks on sessions and their cookies: fixation, a stolen cookie, a stolen listing, and cookie tossing."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

from ...sessions.session import Session
from .parties import Stage
from .story import Outcome, Story


def keep_the_id(session: Session) -> None:
    pass


def plant_a_session_id(stage: Stage) -> Outcome:
    stage.attacker.post("/notebook", note="any note, to get a session")
    stage.victim.set_cookie(*stage.attacker.session_cookie)
    stage.victim.sign_in()
    answer = stage.attacker.profile()
    is_victim = answer.json().get("login") == stage.victim.login
    return Outcome(is_victim, "Mallory is signed in as Victor, with the session id that she had planted.", answer)


SESSION_FIXATION = Story(
    name="session-fixation",
    title="Session fixation: the attacker knows the session id in advance",
    goal="""
        Mallory cannot read Victor's cookies, but she can set one: from a neighbouring subdomain, or on a
        computer that both use. She wants to be signed in as Victor.
    """,
    course="""
        She writes a note in the application, and so gets a session id. She plants it in Victor's browser.
        Victor signs in. If the session keeps its id, Mallory's browser now has the id of a signed-in session.
    """,
    defence="""
        A sign-in gives the session a new id, which only Victor's browser receives. The old id is worth nothing.
    """,
    standards=("RFC 6265 8.4", "OWASP ASVS 7.2.4"),
    requirements=("S36",),
    guards={"wsgi_oauth.sessions.session.Session.renew": keep_the_id},
    marks=("self.renewing = True",),
    acts_at="Victor: GET /callback",
    act="the session gets a new id, which only Victor's browser receives.",
    attack=plant_a_session_id,
)


def clear_the_cookie_alone(session: Session) -> None:
    session.clear()
    session.ended = True


def replay_the_cookie(stage: Stage) -> Outcome:
    stage.victim.sign_in()
    stage.victim.post("/notebook", note="Victor's diary")
    stage.attacker.set_cookie(*stage.victim.session_cookie)
    stage.victim.post("/logout")
    note = stage.attacker.visit("/notebook").json()["note"]
    gain = f"After Victor's sign-out, Mallory reads his notebook: {note!r}."
    return Outcome(bool(note), gain, "The application does not know this session any more. It shows an empty notebook.")


COOKIE_REPLAY = Story(
    name="cookie-replay",
    title="Replay: a stolen cookie after the sign-out",
    goal="""
        Mallory has copied Victor's session cookie, for example from a backup of his computer. She wants to read
        his notes. Victor feels safe, because he has signed out.
    """,
    course="""
        Victor signs in, writes in his notebook and signs out. Mallory then sends the copied cookie to the
        application.
    """,
    defence="""
        A sign-out deletes the session on the server, and so every copy of the cookie is worthless. Applications
        that keep the whole session in the cookie cannot do that: they only ask Victor's browser to forget it.
    """,
    standards=("OWASP ASVS 7.4.1",),
    requirements=("S41",),
    guards={"wsgi_oauth.sessions.session.Session.end": clear_the_cookie_alone},
    marks=("self._manager.delete(self.id)",),
    acts_at="Victor: POST /logout",
    act="the application deletes the session on the server.",
    attack=replay_the_cookie,
)


# The result looks like a hash, but the id can be computed from it.
def spell_in_hexadecimal(session_id: str) -> str:
    return urlsafe_b64decode(session_id + "=").hex()


def turn_file_names_into_cookies(stage: Stage) -> Outcome:
    stage.victim.sign_in()
    stage.attacker.post("/notebook", note="any note, to learn the name of the cookie")
    name, _ = stage.attacker.session_cookie
    for file in stage.sessions.glob("*.json"):
        session_id = urlsafe_b64encode(bytes.fromhex(file.stem)).rstrip(b"=").decode()
        stage.attacker.set_cookie(name, session_id)
        answer = stage.attacker.profile()
        if answer.json().get("login") == stage.victim.login:
            return Outcome(True, "Mallory is signed in as Victor, with a cookie made from a file name.", answer)
    return Outcome(False, "", answer)


SESSION_LISTING = Story(
    name="session-listing",
    title="Stolen listing: the names of session files",
    goal="""
        Mallory has seen a listing of the folder with the session files: in an index of a backup, an error
        message or a support ticket. She cannot read the files, and wants to enter the application as one of its
        users.
    """,
    course="""
        She turns each file name into a session id, sets it as her cookie, and opens the profile page.
    """,
    defence="""
        The name of a file is the SHA-256 hash of the session id. The id cannot be computed from it. Without
        this guard, the name is the id in another spelling, which looks the same to a human.
    """,
    standards=("RFC 6819 5.1.4.1.3",),
    requirements=("S52",),
    guards={"wsgi_oauth.sessions.manager.store_key": spell_in_hexadecimal},
    marks=("hashlib.sha256(",),
    acts_at="Mallory: GET /profile",
    act="the cookie made from the file name is no session id, so the application does not know it.",
    attack=turn_file_names_into_cookies,
)


def take_the_first(values: list[str]) -> str | None:
    return next(iter(values), None)


def toss_a_cookie(stage: Stage) -> Outcome:
    stage.attacker.sign_in()
    stage.victim.sign_in()
    stage.victim.set_cookie(*stage.attacker.session_cookie, path="/notebook")
    stage.victim.post("/notebook", note="Victor's diary")
    note = stage.attacker.visit("/notebook").json()["note"]
    gain = f"Victor has written into Mallory's notebook. She reads: {note!r}."
    return Outcome(bool(note), gain, "Victor's request counts as anonymous, so Mallory's notebook is still empty.")


COOKIE_TOSSING = Story(
    name="cookie-tossing",
    title="Cookie tossing: the victim works in the attacker's session",
    goal="""
        Mallory controls a neighbouring subdomain, and can set cookies for the whole domain. She wants Victor to
        write into her account.
    """,
    course="""
        She signs in and puts her own session cookie, with a longer path, into Victor's browser. Victor's
        browser now sends two cookies of the same name, Mallory's first. A cookie does not name the host that
        has set it. An application that takes the first one shows Victor the session of Mallory.
    """,
    defence="""
        A request with two different session cookies counts as anonymous, because the application cannot know
        which of them is the user's own. (With https, the prefix __Host- of the name also stops the attacker's
        cookie.)
    """,
    standards=("RFC 6265 8.6",),
    requirements=("S39",),
    guards={"wsgi_oauth.sessions.cookie.unambiguous_value": take_the_first},
    marks=("return values[0] if",),
    acts_at="Victor: POST /notebook",
    act="the request has two different session cookies, so the application uses neither.",
    attack=toss_a_cookie,
)
