"""Tickets: the hand-over of a session from the main site to a further site.

A ticket consists of 256 random bits, which the browser carries from the main site to the other one in a URL. Under the
hash of the ticket, the store has the session id, encrypted with the ticket. A ticket is valid once, for 30 seconds, on
one site, and in one browser, which has the cookie of the sign-in's state on that site.
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress

from .. import errors
from .encoding import OTHER_ENTRY
from .encryption import decrypt_id, derive_link_id, encrypt_id
from .manager import LINK_ENTRY, SessionManager, link_purpose
from .session import Session
from .store import Record, store_key

TICKET_LIFETIME = 30  # seconds

_TICKET_ENTRY = OTHER_ENTRY + b"ticket:1:"
_USED_ENTRY = OTHER_ENTRY + b"used"


class Tickets:
    """The tickets in the store of *sessions*. Methods raise StoreError if the store fails."""

    def __init__(self, sessions: SessionManager) -> None:
        self._sessions = sessions
        self._store = sessions.store

    def issue(self, session: Session, site: str, state: str) -> str:
        """Return a new ticket for *session*.

        :param site: the URL of the application on the site that may redeem it.
        :param state: the state of the sign-in on that site. The cookie of this state binds the ticket to a browser.
        """
        assert session.id is not None
        ticket = secrets.token_urlsafe(32)
        encrypted = encrypt_id(session.id, ticket, ticket_purpose(site, state))
        self._store.create(store_key(ticket), Record(_TICKET_ENTRY + encrypted, time.time() + TICKET_LIFETIME))
        return ticket

    def redeem(self, ticket: str, site: str, state: str) -> Session | None:
        """Consume *ticket*, and return its session, with a new link for the session cookie of *site*.

        :return: None if the ticket is unknown, used, expired, or of another site or state, or if the session has ended.
        """
        entry = self.consume(ticket)
        session_id = decrypt_id(entry, ticket, ticket_purpose(site, state)) if entry else ""
        stored = self._sessions.read(session_id) if entry else None
        if stored is None or not stored.signed_in:
            return None
        link_id = derive_link_id(session_id, site)
        link = LINK_ENTRY + encrypt_id(session_id, link_id, link_purpose(site))
        # The link has the longest lifetime that the session can have, because a request does not extend the link.
        self._store.create(store_key(link_id), Record(link, stored.started + self._sessions.lifetime))
        session = Session(self._sessions, stored, session_id)
        session.cookie_id = None  # the browser does not have a cookie of this session on this site yet
        return session

    def discard(self, ticket: str) -> None:
        """Make *ticket* unusable."""
        self.consume(ticket)

    def consume(self, ticket: str) -> bytes | None:
        """Make *ticket* unusable, in one atomic step, and return its entry; None if it is unknown, used or expired."""
        found: list[bytes] = []

        def mark_used(raw: bytes) -> Record | None:
            if not raw.startswith(_TICKET_ENTRY):
                return None
            found.append(raw.removeprefix(_TICKET_ENTRY))
            return Record(_USED_ENTRY, time.time() + TICKET_LIFETIME)

        key = store_key(ticket)
        self._store.update(key, mark_used)
        if not found:
            return None
        with suppress(errors.StoreError):  # the used entry expires soon
            self._store.delete(key)
        return found[0]


def ticket_purpose(site: str, state: str) -> str:
    """Return the purpose of a ticket's encryption, which binds it to a site and to the state of a sign-in there."""
    return f"ticket for {site} with state {state}"
