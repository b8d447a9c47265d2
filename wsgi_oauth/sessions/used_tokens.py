"""Records of tokens that may be used once, so that a replay is noticed in every worker and on every machine."""

from __future__ import annotations

import hashlib

from .encoding import OTHER_ENTRY
from .store import Record, SessionStore

_ENTRY = OTHER_ENTRY + b"used-token:1"


def is_used(store: SessionStore, token_id: str) -> bool:
    """Return whether a token has been used.

    :raises errors.StoreError: when the store fails.
    """
    return store.load(_key(token_id)) is not None


def record_use(store: SessionStore, token_id: str, expires: float) -> None:
    """Store that a token has been used.

    :param token_id: its issuer and its ``jti``, of which the store gets a hash.
    :param expires: when the token expires, in seconds since the epoch.
    :raises errors.StoreError: when the store fails.
    """
    store.create(_key(token_id), Record(_ENTRY, expires))


def _key(token_id: str) -> str:
    return hashlib.sha256(f"the used token {token_id}".encode()).hexdigest()
