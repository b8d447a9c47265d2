"""Check tokens: the application recognizes a request of ``wsgi-oauth check --public``.

The command stores an entry under the hash of 256 random bits, and sends these bits in a header. Only an operator can
write to the store, so no other client gets a description of its request.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .cookie import SESSION_ID
from .encoding import OTHER_ENTRY
from .store import Record, SessionStore, store_key

CHECK_HEADER = "Wsgi-Oauth-Check"
# A query that shows whether a proxy drops queries, or encodes them a second time, and the value of its parameter.
CHECK_QUERY, CHECK_VALUE = "check=1%2F2", "1/2"

_ENTRY = OTHER_ENTRY + b"check:1"
_LIFETIME = 300  # seconds; the command deletes the entry earlier


@contextmanager
def stored_check_token(store: SessionStore) -> Iterator[str]:
    """Store a new token in *store* during the block, and return it."""
    token = secrets.token_urlsafe(32)
    store.create(_key(token), Record(_ENTRY, time.time() + _LIFETIME))
    try:
        yield token
    finally:
        store.delete(_key(token))


def is_check_token(store: SessionStore, token: str) -> bool:
    """Return whether *token* is in *store*."""
    return SESSION_ID.fullmatch(token) is not None and store.load(_key(token)) == _ENTRY


def _key(token: str) -> str:
    return store_key(f"wsgi-oauth check {token}")
