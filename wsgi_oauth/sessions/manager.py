"""The lifecycle of sessions: open, save, renew, expire.

The browser has a random id in a cookie. The store has the data under a hash of that id, so a copy of it does not
reveal session ids. An unknown id is never used, because an attacker could have planted it (session fixation).
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config.checks import MAX_LIFETIME
from ..events import SIGN_IN
from .cookie import CookieNames, build_set_cookie, pending_cookies, session_id_from_cookie
from .encoding import OTHER_ENTRY, PROVIDER, STATE, TOKEN, StoredSession, are_plausible, decode, encode
from .encryption import Encryption, Label, decrypt_id, derive_link_id, encrypt_id, is_encrypted, read_label
from .revocation import Revocation, is_revoked, revocation_key
from .session import Session
from .store import Record, SessionStore, store_key

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

SIGN_IN_LIFETIME = 3600  # seconds; the default of WSGI_OAUTH_SIGN_IN_LIFETIME
MAX_PENDING = 20  # pending sign-ins per browser
# Seconds for which a pending sign-in is kept after WSGI_OAUTH_SIGN_IN_LIFETIME, so that a late response can restart it.
_LATE_RESPONSE_TIME = 86400
_LATE_RESPONSES_PER_HOUR = 1000  # pending sign-ins per process that are kept so long

SIGNED_IN, ANONYMOUS, EXPIRED, UNREADABLE = "signed in", "anonymous", "expired", "unreadable"
REVOKED = "revoked"
IGNORED = "ignored"  # encrypted although encryption is off, or the other way around

_BROWSER_SESSION = "browser_session"  # in the record of a sign-in: key and encrypted id of the browser's session
LINK_ENTRY = OTHER_ENTRY + b"link:1:"  # see the module encryption
_REVOCATION_MARGIN = 3600  # seconds that a revocation record outlives the sessions, because clocks differ

_DAMAGED = "stored session: damaged; it is ignored, and the user has to sign in again"

_log = logging.getLogger(__name__)


class SurveyEntry(NamedTuple):
    """The description of a stored session for operators. Times are in seconds since the epoch.

    Expired, unreadable and ignored sessions have no times. Encrypted sessions have no data.
    """

    key: str
    state: str  # SIGNED_IN, ANONYMOUS, EXPIRED, UNREADABLE, REVOKED or IGNORED
    started: float = 0
    seen: float = 0
    expires: float = 0
    encrypted: bool = False
    data: Mapping[str, Any] = {}


def browser_session_purpose(key: str) -> str:
    """Return the purpose for the encryption of the browser's session id in a pending sign-in.

    It contains the store's *key* of that session: otherwise one pad would encrypt two ids, and one of them would reveal
    the other.
    """
    return f"browser session {key}"


def link_purpose(site: str) -> str:
    """Return the purpose of a link's encryption, which binds the link to *site*."""
    return f"link to {site}"


class SessionManager:
    """Opens and saves sessions in *store*, and enforces both lifetimes (ASVS 7.3.1, 7.3.2)."""

    def __init__(
        self,
        store: SessionStore,
        *,
        idle: float,
        lifetime: float,
        encrypted: bool = False,
        sign_in_lifetime: float = SIGN_IN_LIFETIME,
        revocation_names: Callable[[Mapping[str, Any]], Iterable[str]] = lambda _: (),
    ) -> None:
        self.store = store
        self._idle = idle  # seconds without a request after which a session expires
        self.lifetime = lifetime  # seconds after the sign-in at which a session expires in any case
        self._sign_in_lifetime = sign_in_lifetime  # seconds that a sign-in may take
        self._revocation_names = revocation_names  # of a session's data; all sessions with a name end together
        self._late_responses = _HourlyLimit(_LATE_RESPONSES_PER_HOUR)
        self.encrypted = encrypted  # with a key that is derived from the browser's cookie
        self._encryption = Encryption() if encrypted else None

    # Reading

    def find_session_id(self, environ: WSGIEnvironment, names: CookieNames) -> str | None:
        """Return the session id in the cookie, or from the link of a further site's cookie."""
        value = session_id_from_cookie(environ, names=names)
        return self._follow_link(value, names.site) if value and names.site else value

    def _follow_link(self, link_id: str, site: str) -> str | None:
        raw = self.store.load(store_key(link_id))
        if raw is None or not raw.startswith(LINK_ENTRY):
            return None
        return decrypt_id(raw.removeprefix(LINK_ENTRY), link_id, link_purpose(site))

    def open(self, environ: WSGIEnvironment, purpose: str = "", *, names: CookieNames) -> Session:
        """Return the session of the request's cookie, or a new one, which is stored only when it gets data.

        :param purpose: the purpose of the cookie of a pending sign-in. It opens only that pending session.
        """
        session_id = session_id_from_cookie(environ, purpose, names=names)
        linked_id = self._follow_link(session_id, names.site) if session_id and names.site and not purpose else None
        session_id = linked_id or session_id
        stored = self.read(session_id) if session_id else None
        # On a further site, only a link opens a signed-in session. The main site's cookie does not.
        lacks_link = bool(names.site) and not linked_id and stored is not None and stored.signed_in
        if stored is None or _is_pending(stored) != bool(purpose) or lacks_link:
            stored = session_id = None
        session = Session(self, stored, session_id)
        session.purpose = purpose
        return session

    def store_browser_session(self, pending: Session, session_id: str) -> None:
        """Store the id of the browser's session in *pending*, unless *pending* is finished.

        The callback needs it, because forms of other sites lack the session cookie. *pending*'s cookie encrypts it.
        """
        if pending.id is None or all("claimed" in record for record in pending.get(STATE, {}).values()):
            return
        key = store_key(session_id)
        encrypted = encrypt_id(session_id, pending.id, browser_session_purpose(key))

        def write(stored: StoredSession) -> StoredSession:
            for record in stored.data.get(STATE, {}).values():
                record[_BROWSER_SESSION] = [key, encrypted.hex()]
            return stored  # with an unchanged last use, because the sign-in is still unused

        self.update(pending, write)

    def open_browser_session(self, pending: Session) -> Session:
        """Return the browser's session, whose id *pending* contains (:meth:`store_browser_session`), or a new one."""
        for record in pending.get(STATE, {}).values():
            key, encrypted = record.get(_BROWSER_SESSION, ("", ""))
            session_id = decrypt_id(bytes.fromhex(encrypted), pending.id or "", browser_session_purpose(key))
            stored = self.read(session_id)
            if stored is not None:
                return Session(self, stored, session_id)
        return Session(self)

    def read(self, session_id: str) -> StoredSession | None:
        """Return the stored session, or None when it is unknown, damaged, revoked, or expired (:meth:`expiry`)."""
        raw = self.store.load(store_key(session_id))
        stored = None if raw is None else self.decode(session_id, raw)
        return stored if stored and self.is_alive(stored) and not self.is_revoked(stored) else None

    def decode(self, session_id: str, raw: bytes) -> StoredSession | None:
        """Decrypt and decode *raw*. Return None with a log line when it is damaged or must not be used."""
        plain = self.decrypt(session_id, raw)
        stored = None if plain is None else decode(plain)
        if plain is not None and stored is None:
            _log.warning(_DAMAGED)
        return stored

    def decrypt(self, session_id: str, raw: bytes) -> bytes | None:
        """Return the plaintext of *raw*, or None with a log line when it must not be used.

        With encryption on, plaintext sessions are rejected: otherwise an attacker could plant one in the store.
        """
        if raw.startswith(OTHER_ENTRY):
            return None
        if is_encrypted(raw) != self.encrypted:
            _log.warning(
                "stored session: ignored, because it is %sencrypted and WSGI_OAUTH_SESSION_SEAL is %s",
                *(("not ", "yes") if self.encrypted else ("", "no")),
            )
            return None
        if self._encryption is None:
            return raw
        plain = self._encryption.decrypt(session_id, store_key(session_id), raw)
        if plain is None:
            _log.warning(_DAMAGED)
        return plain

    def survey(self) -> Iterator[SurveyEntry]:
        """Yield an entry for each stored session, for operators, who have no session ids."""
        for key in self.store.keys():
            raw = self.store.load(key)
            if raw is None or not raw.startswith(OTHER_ENTRY):
                yield SurveyEntry(key, EXPIRED) if raw is None else self._describe(key, raw)

    def _describe(self, key: str, raw: bytes) -> SurveyEntry:
        encrypted = is_encrypted(raw)
        found = read_label(raw) if encrypted else decode(raw)
        if found is None or not are_plausible(found.started, found.seen):
            return SurveyEntry(key, UNREADABLE)
        if not self.is_alive(found):
            return SurveyEntry(key, EXPIRED)
        if encrypted != self.encrypted:
            return SurveyEntry(key, IGNORED)
        state = SIGNED_IN if found.signed_in else ANONYMOUS
        data = found.data if isinstance(found, StoredSession) else {}
        if isinstance(found, StoredSession) and self.is_revoked(found):
            state = REVOKED
        return SurveyEntry(key, state, found.started, found.seen, self.expiry(found), encrypted, data)

    # Lifetimes

    def expiry(self, stored: StoredSession | Label) -> float:
        """Return when the session expires: seconds since the epoch. Anonymous sessions have a short lifetime."""
        if stored.signed_in:
            return min(stored.seen + self._idle, stored.started + self.lifetime)
        if not _is_pending(stored):
            return stored.seen + min(self._idle, self._sign_in_lifetime)
        unused = stored.seen == stored.started  # because each change of the session by a callback sets `seen`
        return stored.started + self._sign_in_lifetime + (_LATE_RESPONSE_TIME if unused else 0)

    def is_alive(self, stored: StoredSession | Label) -> bool:
        return time.time() < self.expiry(stored)

    def needs_touch(self, stored: StoredSession) -> bool:
        """Return whether the time of the last request should be written.

        It is written at most once in a twelfth of the idle time, so most requests write nothing.
        """
        return stored.signed_in and time.time() > self._next_touch(stored)

    def cache_valid_until(self, stored: StoredSession) -> float:
        """Return when a cached copy of *stored* must be checked again: seconds since the epoch."""
        return min(self.expiry(stored), self._next_touch(stored))

    def _next_touch(self, stored: StoredSession) -> float:
        return stored.seen + self._idle / 12

    # Revocation

    def end_sessions_of(self, *names: str, issued: float = -inf, lifetime: float | None = None) -> None:
        """End all sessions with one of these revocation names, such as the id of their user.

        Every worker rejects them from the next request on. Sessions whose sign-in starts later are not affected.

        :param issued: when the provider ended its own session: seconds since the epoch, by its clock.
        :param lifetime: the longest lifetime of a session in the store, in seconds; by default this manager's.
        """
        self._store_revocations(map(revocation_key, names), issued, self.lifetime if lifetime is None else lifetime)

    def _store_revocations(self, keys: Iterable[str], issued: float, lifetime: float) -> None:
        new = Revocation(self._store_time(), issued)
        expires = time.time() + self._sign_in_lifetime + lifetime + _REVOCATION_MARGIN

        def merge(raw: bytes) -> Record:
            known = Revocation.decode(raw).corrected(new.time)
            return Record(Revocation(*map(max, new, known)).encode(), expires)

        for key in keys:
            if not self.store.update(key, merge):
                self.store.create(key, Record(new.encode(), expires))
        # The versions change last, because a request that notices the new version must find the record.
        change_versions: Callable[[], None] = getattr(self.store, "change_versions", lambda: None)
        change_versions()

    def is_revoked(self, stored: StoredSession) -> bool:
        """Return whether the session has been ended by :meth:`end_sessions_of`.

        A record with a wrong time is corrected: otherwise each sign-in of its user would be ended at once, and the
        browser would be in a redirect loop.
        """
        keys = self.revocation_keys(stored)
        records = self.load_all(keys) if keys else []
        if not is_revoked(stored, records):
            return False
        known = {key: Revocation.decode(raw) for key, raw in zip(keys, records, strict=True) if raw is not None}
        now = self._store_time()
        if wrong := [key for key, each in known.items() if each != each.corrected(now)]:
            _log.warning("revocation record: damaged, or stored while the clock was ahead; its user has to sign in")
            self._store_revocations(wrong, -inf, MAX_LIFETIME)
        return True

    def revocation_keys(self, stored: StoredSession) -> list[str]:
        """Return the store's keys of the records that can revoke this session."""
        return [revocation_key(name) for name in self._revocation_names(stored.data)] if stored.signed_in else []

    def load_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the data under each of *keys*, in one request to the store's server if possible."""
        load_all: Callable[[Sequence[str]], list[bytes | None]] | None = getattr(self.store, "load_all", None)
        return [self.store.load(key) for key in keys] if load_all is None else load_all(keys)

    def _store_time(self) -> float:
        """Return the time of the store's clock. All machines share it, so sign-ins and revocations can be compared."""
        clock: Callable[[], float] = getattr(self.store, "time", time.time)
        return clock()

    # Writing

    def save(self, session: Session) -> None:
        """Store this request's changes. If that fails, raise StoreError; the stored session stays unchanged."""
        if session.ended:
            return
        if session.renewing and session.signed_in:
            session.event = SIGN_IN
        if session.stored is None or session.id is None:
            now = self._store_time()  # also for pending sessions: their start is compared with revocations
            data: dict[str, Any] = {}
            session.merge_into(data)
            if data:
                self._create(session, StoredSession(now, now, data))
        elif session.renewing:
            self._renew(session)
        elif session.changes() or session.changes_on_save or self.needs_touch(session.stored):

            def merge(stored: StoredSession) -> StoredSession:
                session.merge_into(stored.data)
                return stored._replace(seen=time.time())

            self.update(session, merge)

    def update(
        self, session: Session, change: Callable[[StoredSession], StoredSession], *, new_id: str | None = None
    ) -> bool:
        """Apply *change* to the newest version, and move it to *new_id*, if given. Return False if it has ended."""
        assert session.id is not None
        old_id, newest = session.id, list[StoredSession]()

        def write(raw: bytes) -> Record | None:
            stored = self.decode(old_id, raw)
            if stored is None:
                return None
            newest.append(change(stored))
            return self.build_record(new_id or old_id, newest[0])

        self.store.update(store_key(old_id), write, move_to=store_key(new_id) if new_id else None)
        if not newest:
            return False
        session.replace(newest[0])
        return True

    def delete(self, session_id: str) -> None:
        self.store.delete(store_key(session_id))

    def build_record(self, session_id: str, stored: StoredSession) -> Record:
        """Encode *stored*, encrypt it if encryption is on, and add its expiry."""
        data = encode(stored)
        if self._encryption:
            label = Label(stored.started, stored.seen, stored.signed_in)
            data = self._encryption.encrypt(session_id, store_key(session_id), label, data)
        return Record(data, self.expiry(stored))

    def _create(self, session: Session, stored: StoredSession) -> None:
        session_id = secrets.token_urlsafe(32)
        record = self.build_record(session_id, stored)
        if session.purpose and not self._late_responses.take():
            # Otherwise many unfinished sign-ins would fill the store for a day.
            record = record._replace(expires=stored.started + self._sign_in_lifetime)
        self.store.create(store_key(session_id), record)
        session.id, session.stored = session_id, stored

    def _renew(self, session: Session) -> None:
        assert session.stored is not None
        now = self._store_time()

        def start_again(stored: StoredSession) -> StoredSession:
            replaces_token = TOKEN in stored.data and TOKEN in session.changes()
            data = inherited_data(stored.data) if replaces_token else stored.data
            session.merge_into(data)
            return StoredSession(now, now, data)

        new_id = secrets.token_urlsafe(32)
        if self.update(session, start_again, new_id=new_id):
            session.id = new_id
        else:  # Another request ended the session, or finished a sign-in and moved it, at the same moment.
            self._create(session, start_again(session.stored))

    # The cookie

    def cookie(self, session: Session, *, names: CookieNames) -> str | None:
        """Return the Set-Cookie header for the response, or None if the browser's cookie does not change."""
        if session.ended:
            if session.ended_elsewhere or not session.cookie_id:
                return None  # With ended_elsewhere, the browser may already hold the cookie of the moved session.
            return build_set_cookie("", session.purpose, names=names, max_age=0)
        if session.id is None or session.id == session.cookie_id:
            return None
        # The cookie of an anonymous session ends when the browser is closed. Others last as long as the session.
        max_age = None
        if session.purpose:
            # With form_post, the browser sends the cookie also with forms of other sites, so its lifetime is shorter.
            late = self._sign_in_lifetime if session.is_form_post else _LATE_RESPONSE_TIME
            max_age = int(self._sign_in_lifetime + late)
        elif session.signed_in:
            max_age = int(session.started + self.lifetime - time.time())
        is_linked = names.site and session.signed_in
        value = derive_link_id(session.id, names.site) if is_linked else session.id
        return build_set_cookie(value, session.purpose, names=names, max_age=max_age)

    def evict_pending(self, environ: WSGIEnvironment, *, keep: int, names: CookieNames) -> list[str]:
        """End all but the newest pending sign-ins of a browser, because servers limit the length of the Cookie header.

        :param keep: the number of pending sign-ins that remain.
        :return: the Set-Cookie headers that delete their cookies.
        """
        pending = pending_cookies(environ, names)
        evicted = pending[:-keep] if keep else pending
        for _, session_id in evicted:
            self.delete(session_id)
        return [build_set_cookie("", purpose, names=names, max_age=0) for purpose, _ in evicted]


def _is_pending(stored: StoredSession | Label) -> bool:
    """Return whether *stored* is the pending session of a sign-in. An anonymous session's label counts as pending."""
    return not stored.signed_in and (isinstance(stored, Label) or stored.data.keys() == {STATE})


class _HourlyLimit:
    """Permits an action *limit* times in each hour. Concurrent threads may exceed the limit by a few."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._hour = 0
        self._taken = 0

    def take(self) -> bool:
        """Count the action, and return whether it is permitted."""
        hour = int(time.time() // 3600)
        if hour != self._hour:
            self._hour, self._taken = hour, 0
        self._taken += 1
        return self._taken <= self._limit


def inherited_data(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data that is kept when a user signs in again: the finished sign-ins and the provider."""
    return {key: data[key] for key in (STATE, PROVIDER) if key in data}
