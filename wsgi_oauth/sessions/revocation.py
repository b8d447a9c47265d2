"""Revocation records, which end sessions without a search for them.

Encrypted sessions cannot be searched, and a search takes long in a large store. So the store gets a record with the
time of the revocation, under a hash of the *revocation name*: the user's id, or the user's session at the provider.
From the next request on, every worker rejects sessions whose sign-in started earlier. Later sign-ins are not affected.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from math import inf
from typing import NamedTuple

from .encoding import OTHER_ENTRY, PROVIDER_SESSION, StoredSession, checksum, read_object
from .store import store_key

_RECORD = OTHER_ENTRY + b"revoked:1:"
_MAX_CLOCK_SKEW = 60.0  # seconds that the time of a record may be ahead, for example after a failover of Redis


class Revocation(NamedTuple):
    """The time before which sessions are revoked. Times are in seconds since the epoch."""

    time: float  # when the revocation was stored, by the clock of the store
    issued: float = -inf  # when the provider ended its own session, by its own clock

    def ends(self, stored: StoredSession) -> bool:
        # A sign-in that started before the revocation may have finished after it. The times of the ID token and the
        # logout token are compared, too, because both are from the provider's clock.
        times = read_object(stored.data, PROVIDER_SESSION)
        return bool(times.get("asked", stored.started) <= self.time or times.get("issued", inf) < self.issued)

    def corrected(self, now: float) -> Revocation:
        """Return this revocation with the time *now* if its own time is in the future.

        The record is damaged then, or was stored while the clock was ahead.
        """
        return self._replace(time=now) if self.time > now + _MAX_CLOCK_SKEW else self

    def encode(self) -> bytes:
        """Return the record of this revocation for the store, with a checksum against damage."""
        times = ":".join(repr(float(each)) for each in self if each > -inf).encode()
        return _RECORD + b"%08x:%b" % (checksum(times), times)

    @classmethod
    def decode(cls, raw: bytes) -> Revocation:
        """Return the revocation in a record. A damaged record revokes all sessions: its time is infinite."""
        with suppress(ValueError, TypeError):
            revocation = cls(*map(float, raw.removeprefix(_RECORD).split(b":")[1:]))
            if raw == revocation.encode():
                return revocation
        return cls(inf)


def revocation_key(name: str) -> str:
    """Return the store's key of the revocation record for *name*, such as the id of a user."""
    return store_key(f"the revoked sessions of {name}")


def is_revoked(stored: StoredSession, records: Iterable[bytes | None]) -> bool:
    """Return whether one of the *records* ends the session *stored*."""
    return any(raw is not None and Revocation.decode(raw).ends(stored) for raw in records)
