"""Revocation records, which end the sessions of a user without a search for them.

Encrypted sessions cannot be searched, and a search takes long in a large store. So the store gets a record under a hash
of the user's id, with the time of the revocation. A session that began earlier is over, in every worker from the next
request on, and no refresh or recheck brings it back. A sign-in afterwards is not affected.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from contextlib import suppress
from math import inf

from .encoding import OTHER_ENTRY, checksum

_RECORD = OTHER_ENTRY + b"revoked:1:"
_log = logging.getLogger(__name__)


def revocation_key(name: str) -> str:
    """Return the store's key of the revocation record for *name*, such as the id of a user."""
    return hashlib.sha256(f"the revoked sessions of {name}".encode()).hexdigest()


def encode_revocation(revoked: float) -> bytes:
    """Return the record of a revocation at *revoked* (seconds since the epoch), with a checksum against damage."""
    seconds = repr(revoked).encode()
    return _RECORD + b"%08x:%b" % (checksum(seconds), seconds)


def decode_revocation(raw: bytes) -> float:
    """Return the time in a record. A damaged record revokes all sessions, because its time is unknown."""
    with suppress(ValueError):
        revoked = float(raw.rpartition(b":")[2])
        if raw == encode_revocation(revoked):
            return revoked
    _log.warning(
        "revocation record: damaged, so its user cannot sign in; run `wsgi-oauth sessions end --user` for that user"
    )
    return inf


def is_revoked(started: float, records: Iterable[bytes | None]) -> bool:
    """Return whether one of the *records* ends a session that began at *started*: seconds since the epoch."""
    return any(raw is not None and started <= decode_revocation(raw) for raw in records)
