"""A session is a dictionary that belongs to one browser; ``Sessions`` opens, saves, renews and ends it.

The browser holds a random id in a cookie, and the store holds the data under a hash of that id: whoever reads the
store cannot act as anybody. An id that the store does not know is never adopted, so nobody can plant one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from zlib import crc32

from .. import errors
from .encryption import Encryption, Label, is_encrypted, read_label
from .store import Record, SessionStore

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

T = TypeVar("T")

STATE, TOKEN = "oauth_state", "oauth_token"  # the tutorial's names
PROVIDER = "oauth_provider"  # whose the token is
ANONYMOUS_LIFETIME = 600  # seconds: as long as a sign-in may take
COOKIE = "wsgi_oauth"

_ID = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)  # 256 bits of token_urlsafe
_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_log = logging.getLogger(__name__)


class Session(dict[str, Any]):
    """What this application remembers about one browser: JSON values under string keys.

    It is stored when the request is over, if something changed and the handler has answered: with a response, or with
    an error of Werkzeug's. The keys that this request set or removed are applied to the newest stored version, so two
    requests at the same time lose nothing unless both set the same key. For more than that there is :meth:`change`.
    """

    # What most requests leave as it is.
    event: str = ""  # what the log should say about this request
    ended: bool = False  # by this request
    ended_elsewhere: bool = False  # ended, or moved to a new id, by another request meanwhile
    _renewing: bool = False

    def __init__(self, sessions: SessionManager, stored: Stored | None = None, session_id: str | None = None) -> None:
        self._sessions = sessions
        self._stored: Stored | None = None
        if stored is not None:
            self._take(stored)
        self.id = session_id  # what the cookie holds; None until there is something to store
        self._sent_id = session_id
        self._on_save: list[Callable[[dict[str, Any]], object]] = []

    def __missing__(self, key: str) -> Any:
        raise errors.NotSignedIn("the session has no token") if key == TOKEN else KeyError(key)

    @property
    def signed_in(self) -> bool:
        return TOKEN in self

    @property
    def started(self) -> float:
        """When this session began, or when the user last signed in: seconds since the epoch."""
        return self._stored.started if self._stored else time.time()

    def change(self, function: Callable[[dict[str, Any]], T]) -> T:
        """Apply *function* to the newest data while no other request can change it, and store the result at once.

        That makes "is it there, and if so take it away" one step. Return what *function* returns. On a
        session that another request has ended, *function* finds an empty dictionary and what it does is
        forgotten.
        """
        if self.id is None:
            return function(self)
        outcome: list[T] = []

        def apply(stored: Stored) -> Stored:
            outcome.append(function(stored.data))
            return stored._replace(seen=time.time())

        own = _changes(self._stored.data, self) if self._stored else {}
        if not self._sessions.update(self, apply):
            self.ended_elsewhere = True
            outcome.append(function({}))
        for key, value in own.items():  # what this request has changed before is not stored yet, and stays
            if value is _REMOVED:
                self.pop(key, None)
            else:
                self[key] = value
        return outcome[0]

    def change_on_save(self, function: Callable[[dict[str, Any]], object]) -> None:
        """Like :meth:`change`, but together with everything else that this request changed, or not at all."""
        self._on_save.append(function)

    def renew(self) -> None:
        """Give the session a new id when it is saved: what was known before the sign-in opens nothing after
        it (ASVS 7.2.4).

        When somebody signs in over somebody who was signed in before, the data of the first is dropped.
        """
        self._renewing = True

    def end(self) -> None:
        """Forget the session, in the store at once and in the browser with the response."""
        if self.id is not None:
            self._sessions.store.delete(store_key(self.id))
        if self.signed_in:
            self.event = "signed out"
        self.clear()
        self.ended = True

    def load_latest(self) -> dict[str, Any]:
        """Return what is stored now, and leave this request's own copy as it is; an ended session is empty."""
        stored = self._sessions.read(self.id) if self.id is not None else None
        return stored.data if stored else {}

    def accept_stored(self, key: str, value: Any) -> None:
        """Take over what another request has stored under *key*: no change of this one."""
        assert self._stored is not None
        self._stored = self._stored._replace(data={**self._stored.data, key: value})
        self[key] = copy_json(value)

    def reload(self) -> None:
        """Read the newest data; an ended session becomes empty."""
        if self.id is not None:
            stored = self._sessions.read(self.id)
            self._take(stored or Stored(0, 0, {}))

    def _applied(self, data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """Return *data*, the newest, with what this request did to its own copy."""
        return self._completed({key: value for key, value in {**data, **changes}.items() if value is not _REMOVED})

    def _completed(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return *data*, changed by what was to happen when it is saved."""
        for function in self._on_save:
            function(data)
        return data

    def _take(self, stored: Stored) -> None:
        self._stored = stored
        self.clear()
        self.update(copy_json(stored.data))  # to be changed, so that the changes can be told


class Stored(NamedTuple):
    """What the store holds: moments in seconds since the epoch, and the data."""

    started: float
    seen: float
    data: dict[str, Any]

    @property
    def signed_in(self) -> bool:
        return TOKEN in self.data


class Entry(NamedTuple):
    """What :meth:`Sessions.survey` finds under *key*. ``state`` is one of SIGNED_IN, ANONYMOUS, OVER, UNREADABLE and
    IGNORED; of the last three nothing else is known. Of what is sealed there is no data. Moments are seconds since the
    epoch.
    """

    key: str
    state: str
    started: float = 0
    seen: float = 0
    expires: float = 0
    sealed: bool = False
    data: Mapping[str, Any] = {}


SIGNED_IN, ANONYMOUS, OVER, UNREADABLE = "signed in", "anonymous", "over", "unreadable"
IGNORED = "ignored"  # sealed where sessions are not to be, or the other way around


class SessionManager:
    """Opens and saves sessions: the store, the cookie, and the two lifetimes (ASVS 7.3.1, 7.3.2), in seconds.

    :param sealed: whether what is stored can be read with the browser's cookie only.
    :raises errors.ConfigError: when sealing needs a package that is missing.
    """

    def __init__(self, store: SessionStore, *, idle: float, lifetime: float, sealed: bool = False) -> None:
        self.store = store
        self._idle = idle
        self._lifetime = lifetime
        self._seal = Encryption() if sealed else None

    def open(self, environ: WSGIEnvironment, *, secure: bool) -> Session:
        """Return the session that the request's cookie names, or a new one that is stored only if something
        is put into it.
        """
        session_id = session_id_from_cookie(environ, secure=secure)
        stored = self.read(session_id) if session_id else None
        return Session(self, stored, session_id) if stored else Session(self)

    def read(self, session_id: str) -> Stored | None:
        """Return what is stored for *session_id*, unless it is over by the lifetimes that are configured now."""
        raw = self.load(session_id)
        stored = None if raw is None else decode(raw)
        return stored if stored and self.is_alive(stored) else None

    def load(self, session_id: str) -> bytes | None:
        """Return the bytes that :func:`decode` makes a session of."""
        raw = self.store.load(store_key(session_id))
        return None if raw is None else self._unsealed(session_id, raw)

    @property
    def sealed(self) -> bool:
        return self._seal is not None

    def is_alive(self, stored: Stored | Label) -> bool:
        return time.time() < self._expiry(stored)

    def survey(self) -> Iterator[Entry]:
        """Look at all that is stored, one session at a time: for the operator, who has no ids."""
        for key in self.store.keys():
            raw = self.store.load(key)
            yield Entry(key, OVER) if raw is None else self._entry(key, raw)

    def _entry(self, key: str, raw: bytes) -> Entry:
        sealed = is_encrypted(raw)
        found = read_label(raw) if sealed else _parse(raw)
        if found is None or not _is_possible(found):
            return Entry(key, UNREADABLE)
        if not self.is_alive(found):
            return Entry(key, OVER)
        if sealed != self.sealed:
            return Entry(key, IGNORED)
        state = SIGNED_IN if found.signed_in else ANONYMOUS
        data = found.data if isinstance(found, Stored) else {}
        return Entry(key, state, found.started, found.seen, self._expiry(found), sealed, data)

    def save(self, session: Session) -> None:
        """Store what changed. Raise StoreError when that fails; then the old session is as it was."""
        if session.ended:
            return
        if session.id is None:
            data = session._completed(dict(session))
            if data:
                now = time.time()
                self._create(session, Stored(now, now, data))
        elif session._renewing:
            self._renew(session)
        else:
            assert session._stored is not None
            changes = _changes(session._stored.data, session)
            if changes or session._on_save or self.needs_touch(session._stored):
                self.update(
                    session,
                    lambda stored: stored._replace(seen=time.time(), data=session._applied(stored.data, changes)),
                )

    def update(self, session: Session, change: Callable[[Stored], Stored], *, new_id: str | None = None) -> bool:
        """Apply *change* to the newest stored version. Return False when there is none: an ended session
        stays ended.
        """
        assert session.id is not None
        old_id, newest = session.id, list[Stored]()

        def write(raw: bytes) -> Record | None:
            plain = self._unsealed(old_id, raw)
            stored = None if plain is None else decode(plain)
            if stored is None:
                return None
            newest.append(change(stored))
            return self._record(new_id or old_id, newest[0])

        self.store.update(store_key(old_id), write, move_to=store_key(new_id) if new_id else None)
        if not newest:
            return False
        session._take(newest[0])
        return True

    def _create(self, session: Session, stored: Stored) -> None:
        session_id = secrets.token_urlsafe(32)
        self.store.create(store_key(session_id), self._record(session_id, stored))
        session.id = session_id
        session._stored = stored

    def _renew(self, session: Session) -> None:
        assert session._stored is not None
        now = time.time()
        changes = _changes(session._stored.data, session)

        def begin_anew(stored: Stored) -> Stored:
            return Stored(now, now, session._applied(_inherited(stored, changes), changes))

        if session.signed_in:  # a provider may give the same token again
            session.event = "signed in"
        new_id = secrets.token_urlsafe(32)
        if self.update(session, begin_anew, new_id=new_id):
            session.id = new_id
        else:  # another tab finished its sign-in at the same moment and moved the session, or ended it
            self._create(session, begin_anew(session._stored))

    def _record(self, session_id: str, stored: Stored) -> Record:
        data = _encode(stored)
        if self._seal:
            label = Label(stored.started, stored.seen, stored.signed_in)
            data = self._seal.close(session_id, store_key(session_id), label, data)
        return Record(data, self._expiry(stored))

    def _unsealed(self, session_id: str, raw: bytes) -> bytes | None:
        """Return what the store holds as it was before it was sealed.

        Where sessions are sealed, one that is not is none: it would be somebody's who can write to the store, and has
        put it under the name of a browser whose id they do not know.
        """
        if is_encrypted(raw) != self.sealed:
            _log.warning(
                "a session was ignored: it is %ssealed, and WSGI_OAUTH_SESSION_SEAL says otherwise",
                "not " if self.sealed else "",
            )
            return None
        if self._seal is None:
            return raw
        plain = self._seal.open(session_id, store_key(session_id), raw)
        if plain is None:
            _log.warning(_DAMAGED)
        return plain

    def _expiry(self, stored: Stored | Label) -> float:
        idle = self._idle if stored.signed_in else min(self._idle, ANONYMOUS_LIFETIME)
        return min(stored.seen + idle, stored.started + self._lifetime)

    def needs_touch(self, stored: Stored) -> bool:
        """Say whether the idle clock must be written. Not on every request: being a twelfth late is precise enough."""
        return stored.signed_in and time.time() > self._due(stored)

    def cache_valid_until(self, stored: Stored) -> float:
        """Return the moment at which a signed-in session ends or its idle clock is due."""
        return min(self._expiry(stored), self._due(stored))

    def _due(self, stored: Stored) -> float:
        return stored.seen + self._idle / 12

    def cookie(self, session: Session, *, secure: bool) -> str | None:
        """Return the Set-Cookie header (RFC 6265bis 4.1), when the browser's session has another id now or none."""
        attributes = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")
        if session.ended and session.ended_elsewhere:
            return None  # another request has ended or moved it, and the browser may have the new cookie already
        if session.ended and session._sent_id:
            return f"{cookie_name(secure=secure)}=; Max-Age=0{attributes}"
        if session.id and session.id != session._sent_id:
            # While anonymous it goes with the browser window; a sign-in stays as long as the server keeps it.
            age = f"; Max-Age={int(session.started + self._lifetime - time.time())}" if session.signed_in else ""
            return f"{cookie_name(secure=secure)}={session.id}{age}{attributes}"
        return None


def session_id_from_cookie(environ: WSGIEnvironment, *, secure: bool) -> str | None:
    """Return the session id in the request's Cookie header, if there is one."""
    cookies = environ.get("HTTP_COOKIE")
    if not cookies:
        return None
    session_id = _only_one(_SENT[secure].findall(cookies)).strip(' \t"')
    return session_id if _ID.fullmatch(session_id) else None


def cookie_name(*, secure: bool) -> str:
    """``__Host-`` makes browsers refuse a cookie of another host or a plain-http page (RFC 6265bis 4.1.3.2)."""
    return f"__Host-{COOKIE}" if secure else COOKIE


def _only_one(sent: list[str]) -> str:
    """Return the value of the cookie. Of two different ones (RFC 6265 8.6) somebody tossed in theirs, and which one is
    ours cannot be told.
    """
    return sent[0] if len(set(sent)) == 1 else ""


def copy_json(value: Any) -> Any:
    """Copy what JSON can hold; copy.deepcopy takes three times as long."""
    if isinstance(value, dict):
        return {
            name: copy_json(inside) if isinstance(inside, (dict, list)) else inside for name, inside in value.items()
        }
    return [copy_json(inside) for inside in value] if isinstance(value, list) else value


def store_key(session_id: str) -> str:
    """Return what a session is called in the store."""
    return hashlib.sha256(session_id.encode()).hexdigest()


def _encode(stored: Stored) -> bytes:
    """Write JSON that begins with a checksum of the rest: one flipped bit, in a token perhaps, is not to go unseen."""
    # By hand, which is quicker than _asdict().
    rest = _ENCODE({"started": stored.started, "seen": stored.seen, "data": stored.data}).encode()[1:]
    return _checksum(rest) + rest


def decode(raw: bytes) -> Stored | None:
    """Read what the store holds; damaged data is no session."""
    stored = _parse(raw)
    if stored is None:
        _log.warning(_DAMAGED)
    return stored


def _parse(raw: bytes) -> Stored | None:
    checksum, rest = raw[:_CHECKSUM_LENGTH], raw[_CHECKSUM_LENGTH:]
    try:
        if checksum == _checksum(rest):
            stored = Stored(**json.loads(b"{" + rest))
            if rest.count(b"[") + rest.count(b"{") > _HARMLESS:
                # Python may read what is nested so deep that it cannot copy or write it, from some levels further down.
                _ENCODE(copy_json([[[[[stored.data]]]]]))
            if isinstance(stored.data, dict) and _is_possible(stored):
                return stored
    except (ValueError, TypeError, RecursionError):
        pass
    return None


def _is_possible(stored: Stored | Label) -> bool:
    return 0 < stored.started < _FAR_FUTURE and 0 < stored.seen < _FAR_FUTURE


def _checksum(rest: bytes) -> bytes:
    return b'{"crc32":"%08x",' % crc32(rest)


def _inherited(stored: Stored, changes: dict[str, Any]) -> dict[str, Any]:
    """Return what a session keeps when it gets a new id: of another user's, only the sign-ins that are on their way.

    And whose the token is, which is no change when it is the same provider's again.
    """
    second_user = TOKEN in stored.data and TOKEN in changes
    kept = {key: stored.data[key] for key in (STATE, PROVIDER) if key in stored.data}
    return kept if second_user else stored.data


_DAMAGED = "a damaged session was ignored"
_CHECKSUM_LENGTH = len(_checksum(b""))
_SENT = {  # our cookie in the header of the request, RFC 6265 4.2.1
    secure: re.compile(rf"(?:^|;)[ \t]*{cookie_name(secure=secure)}[ \t]*=([^;]*)") for secure in (False, True)
}
_HARMLESS = 100  # brackets, which are too few to be nested too deep
_FAR_FUTURE = 1e11  # seconds since the epoch: no clock says that
_REMOVED = object()


def _changes(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = dict.fromkeys(old.keys() - new.keys(), _REMOVED)
    changes.update((key, value) for key, value in new.items() if key not in old or old[key] != value)
    return changes
