"""Records of used one-time tokens: every worker on every machine detects a replay.

The functions raise StoreError when the store fails.
"""

from __future__ import annotations

import hashlib

from .encoding import OTHER_ENTRY
from .store import Record, SessionStore

_ENTRY = OTHER_ENTRY + b"used-token:1"


def is_used(store: SessionStore, token_id: str) -> bool:
    """Return whether a token has been used."""
    return store.load(_key(token_id)) is not None


def record_use(store: SessionStore, token_id: str, expires: float) -> None:
    """Store that a token has been used.

    :param token_id: a text that identifies the token; the store gets a hash of it.
    :param expires: when the token expires, in seconds since the epoch.
    """
    store.create(_key(token_id), Record(_ENTRY, expires))


def _key(token_id: str) -> str:
    return hashlib.sha256(f"the used token {token_id}".encode()).hexdigest()
