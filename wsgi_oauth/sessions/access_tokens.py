"""Access tokens for programs: how they are stored, found and revoked.

A token is ``wo_`` and 256 random bits; the prefix lets secret scanners recognize it. The store has two kinds of entry:

- The *token entry*, under the hash of the token: its owner's identity and its expiry. If sessions are encrypted, it is
  encrypted, too, with a key that is derived from the token. Operators then find the token by the line in front, which
  describes it as the list does. A request with a token reads only this entry.
- The *list* of a user's tokens, under the hash of the user's id: names, times and keys, but not the tokens. Users and
  operators see and revoke tokens with it.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from .. import errors
from ..characters import NOT_DISPLAYED
from ..texts import duration, english
from .encoding import OTHER_ENTRY, StoredSession, are_plausible, decode
from .manager import SessionManager
from .store import KEY, Record, store_key

TOKEN_PREFIX = "wo_"  # noqa: S105  # not secret
MAX_TOKENS = 50  # per user
MAX_NAME = 100  # characters
USE_INTERVAL = 300  # seconds; the precision of the stored last use, because each update costs a write

_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_TOKEN_ENTRY = OTHER_ENTRY + b"token:1:"
_DESCRIBED_ENTRY = OTHER_ENTRY + b"token:2:"  # an encrypted token entry with a description
_LIST_ENTRY = OTHER_ENTRY + b"tokens:1:"
_LIST_LIFETIME = 86400  # seconds for which a list is kept at least
_log = logging.getLogger(__name__)


class TokenInfo(NamedTuple):
    """The description of a token for its owner. Times are in seconds since the epoch."""

    id: str  # random; shown to users, and not secret
    name: str
    created: float
    expires: float
    used: float  # 0: never
    key: str  # the store's key of the token entry


class AccessTokens:
    """The access tokens in the store of *sessions*. Methods raise StoreError if the store fails."""

    def __init__(self, sessions: SessionManager, max_lifetime: float) -> None:
        self.max_lifetime = max_lifetime  # of a new token, in seconds
        self._sessions = sessions
        self._store = sessions.store

    def create(self, owner: str, data: dict[str, Any], *, name: str, lifetime: float) -> tuple[str, TokenInfo]:
        """Create a token of the user with the id *owner*, and return it. Only its hash is stored.

        :param data: the owner's identity and provider, for requests with this token.
        :raises errors.BadToken: if the name is invalid, the lifetime too long, or the number of tokens too large.
        """
        name = name.strip()
        if not 0 < len(name) <= MAX_NAME or NOT_DISPLAYED.search(name):
            raise errors.BadToken(english("bad_token_request.name", maximum=MAX_NAME))
        if not 0 < lifetime <= self.max_lifetime:
            raise errors.BadToken(english("bad_token_request.lifetime", maximum=duration(self.max_lifetime)))
        token, now = f"{TOKEN_PREFIX}{secrets.token_urlsafe(32)}", time.time()
        info = TokenInfo(secrets.token_hex(8), name, now, now + lifetime, 0, store_key(token))
        entry = {**data, "owner": owner, "info": info._asdict()}
        raw = self._sessions.build_record(token, StoredSession(now, now, entry)).data
        start = _DESCRIBED_ENTRY + _encode_tokens(owner, [info]) + b"\n" if self._sessions.encrypted else _TOKEN_ENTRY

        def add(tokens: dict[str, TokenInfo]) -> None:
            if len(tokens) >= MAX_TOKENS and len(self._usable(tokens)) >= MAX_TOKENS:
                raise errors.BadToken(english("bad_token_request.too_many", maximum=MAX_TOKENS))
            tokens[info.id] = info

        # The token first: a token without an entry in the list is added to the list when it is used.
        self._store.create(info.key, Record(start + raw, info.expires))
        try:
            self._change_list(owner, add)
        except errors.Error:
            self._store.delete(info.key)
            raise
        return token, info

    def parse(self, token: str, raw: bytes) -> StoredSession | None:
        """Return the entry *raw* of *token*, with the data of :meth:`create` and ``info``; None if it is unusable."""
        is_described = raw.startswith(_DESCRIBED_ENTRY)
        if is_described:
            line, _, encoded = raw.partition(b"\n")
        elif raw.startswith(_TOKEN_ENTRY):
            line, encoded = b"", raw.removeprefix(_TOKEN_ENTRY)
        else:
            return None
        stored = self._sessions.decode(token, encoded)
        if stored is None or not _is_usable(stored):
            return None
        # The line is not encrypted. If it was changed, operators would not find the token.
        if is_described and _read_description(line) != (stored.data["owner"], read_info(stored)):
            return None
        return stored

    def list(self, owner: str) -> list[TokenInfo]:
        """Return the tokens of the user with the id *owner* that can still be used, oldest first."""
        raw = self._store.load(_list_key(owner))
        return sorted(self._usable(_decode_list(raw)[1]) if raw else [], key=lambda info: info.created)

    def revoke(self, owner: str, token_id: str) -> bool:
        """Revoke a token, and return whether it existed. It is refused from the next request on, in every worker."""
        raw = self._store.load(_list_key(owner))
        info = _decode_list(raw)[1].get(token_id) if raw else None
        if info is None:
            return False
        self.delete(owner, info)
        return True

    def delete(self, owner: str, info: TokenInfo) -> None:
        """Delete a token of :meth:`list` or :meth:`survey`."""
        self._store.delete(info.key)  # a token without an entry is refused, and is not shown
        try:
            self._change_list(owner, lambda tokens: tokens.pop(info.id, None))
        except errors.StoreError as error:  # such as a store that is full, and can still delete
            _log.warning("a revoked access token is still in the list of its owner: %s", error)

    def record_use(self, stored: StoredSession) -> bool:
        """Store that a token was used now, and return whether it was the first time. A failure is only logged."""
        info, now, is_first = read_info(stored), time.time(), False

        def change(tokens: dict[str, TokenInfo]) -> object:
            nonlocal is_first
            known = tokens.get(info.id, info)
            is_first = known.used == 0
            if abs(now - known.used) < USE_INTERVAL:  # later than now: the clock was ahead
                return False
            tokens[info.id] = known._replace(used=now)
            return True

        try:
            self._change_list(stored.data["owner"], change)
        except errors.StoreError as error:
            _log.warning("the last use of an access token was not stored: %s", error)
            return False
        return is_first

    def survey(self) -> Iterator[tuple[str, TokenInfo]]:
        """Yield each token that can be used, with the id of its owner, for operators."""
        for key in self._store.keys():
            raw = self._store.load(key)
            if raw is None:
                continue
            if raw.startswith(_LIST_ENTRY):
                owner = _decode_list(raw)[0]
                yield from ((owner, info) for info in self.list(owner))
                continue
            # A token that the list lacks is included, too: the list can be damaged, and of several tokens that a user
            # without a list creates at the same moment, it may have only one.
            owner, info = _read_description(raw)
            if info is not None and all(key != listed.key for listed in self.list(owner)):
                yield owner, info._replace(key=key)

    def _usable(self, tokens: dict[str, TokenInfo]) -> tuple[TokenInfo, ...]:
        now = time.time()
        return tuple(each for each in tokens.values() if now < each.expires and self._store.load(each.key) is not None)

    def _change_list(self, owner: str, change: Callable[[dict[str, TokenInfo]], object]) -> None:
        """Apply *change* to the newest list of *owner*'s tokens. Nothing is stored if it returns False."""
        key = _list_key(owner)

        def write(raw: bytes) -> Record | None:
            tokens = _decode_list(raw)[1]
            return None if change(tokens) is False else _encode_list(owner, tokens)

        if not self._store.update(key, write):
            tokens: dict[str, TokenInfo] = {}
            if change(tokens) is not False and tokens:
                self._store.create(key, _encode_list(owner, tokens))


def read_info(stored: StoredSession) -> TokenInfo:
    """Return the name, the times and the key of a token from its entry, a result of :meth:`AccessTokens.parse`."""
    return TokenInfo(**stored.data["info"])


def _read_description(raw: bytes) -> tuple[str, TokenInfo | None]:
    """Return the owner and the description of the token with the entry *raw*, or None if it cannot be used."""
    if raw.startswith(_DESCRIBED_ENTRY):
        owner, tokens = _decode_list(raw.partition(b"\n")[0])
        info = next(iter(tokens.values()), None)
        return owner, info if info is not None and time.time() < info.expires else None
    stored = decode(raw.removeprefix(_TOKEN_ENTRY)) if raw.startswith(_TOKEN_ENTRY) else None
    if stored is None or not _is_usable(stored):
        return "", None
    return stored.data["owner"], read_info(stored)


def _is_usable(stored: StoredSession) -> bool:
    """Return whether the token of an entry can be used: the entry is undamaged, and has not expired."""
    try:
        _parse_owner(stored.data["owner"])
        return time.time() < _parse_info(stored.data["info"]).expires
    except (ValueError, TypeError, KeyError):
        return False


def _parse_owner(owner: Any) -> str:
    """Return the id of a user. Raise TypeError or ValueError if it is damaged."""
    if not re.fullmatch(r"[\x21-\x7e]+", owner):  # see Identity.id
        raise ValueError("not the id of a user")
    return str(owner)


def _parse_info(document: Any) -> TokenInfo:
    """Return the description of a token. Raise TypeError or ValueError if it is damaged."""
    info = TokenInfo(**document)
    are_valid = are_plausible(info.created, info.expires) and are_plausible(info.created, info.used or info.created)
    if not (are_valid and isinstance(info.name, str) and _ID.fullmatch(info.id) and KEY.fullmatch(info.key)):
        raise ValueError("not the description of a token")
    return info


def _list_key(owner: str) -> str:
    return store_key(f"the access tokens of {owner}")


def _encode_list(owner: str, tokens: dict[str, TokenInfo]) -> Record:
    now = time.time()
    usable = {token_id: info for token_id, info in tokens.items() if info.expires > now}
    # An empty list is kept, because tokens that are created at the same time without a list replace each other's list.
    expires = max([now + _LIST_LIFETIME, *(info.expires for info in usable.values())])
    return Record(_LIST_ENTRY + _encode_tokens(owner, usable.values()), expires)


def _encode_tokens(owner: str, tokens: Iterable[TokenInfo]) -> bytes:
    return json.dumps({"owner": owner, "tokens": [info._asdict() for info in tokens]}).encode()


def _decode_list(raw: bytes) -> tuple[str, dict[str, TokenInfo]]:
    """Return the owner and the tokens of a list; none if the list is damaged. Each token is added again at its use."""
    try:
        document = json.loads(raw.removeprefix(_LIST_ENTRY).removeprefix(_DESCRIBED_ENTRY))
        tokens = [_parse_info(token) for token in document["tokens"]]
        return _parse_owner(document["owner"]), {info.id: info for info in tokens}
    except (ValueError, TypeError, KeyError, RecursionError):
        _log.warning("the list of a user's access tokens is damaged")
        return "", {}
