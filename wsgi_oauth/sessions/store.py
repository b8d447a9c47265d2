"""What a session store is. It knows bytes, keys and moments in time, and nothing of HTTP or OAuth.

The contract, which ``tests/test_store_contract.py`` runs over every store:

*Keys* are 64 lower-case hexadecimal digits, the hash of a session id. The id itself never reaches a store, so
neither a listing nor a stolen copy of one opens a session.

*Unknown, expired, deleted, damaged*: all four are the same to a reader, ``None``. A store never gives back
half a session.

*Failing* is something else: a store that cannot say whether a session exists raises
:class:`errors.StoreError`, because an operator's full disk must not look like a signed-out user. What was
stored before stays as it was.

*Concurrent*: readers never wait. ``update`` and ``delete`` of one key exclude each other, between threads and
between processes, so that an update always starts from the newest data, and one that comes after a delete
finds nothing. A process that dies releases its exclusion, within seconds at most, and leaves each session wholly
old or wholly new.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from .. import errors


class Record(NamedTuple):
    """What is to be stored: *data*, until *expires* (seconds since the epoch)."""

    data: bytes
    expires: float


KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)

MAX_BYTES = 256 * 1024
"""A larger session is refused by ``create`` and ``update``: it is a mistake or an attack."""


def check_size(record: Record) -> None:
    """Raise SessionTooLarge when *record* is larger than MAX_BYTES."""
    if len(record.data) > MAX_BYTES:
        raise errors.SessionTooLarge(f"a session of {len(record.data)} bytes is larger than the {MAX_BYTES} allowed")


class SessionStore(Protocol):
    """Seven methods; :class:`~wsgi_oauth.MemoryStore` is the worked example."""

    def load(self, key: str) -> bytes | None:
        """Return the data stored under *key*, or None."""

    def create(self, key: str, record: Record) -> None:
        """Store a session under a *key* that is new."""

    def update(self, key: str, change: Callable[[bytes], Record | None], *, move_to: str | None = None) -> bool:
        """Replace what is stored under *key* by what *change* makes of it, while nobody else can.

        *change* gets the newest data; when it returns None everything stays as it is. It must be quick:
        others wait for it. With *move_to* the result is stored under that new key, and the old key is gone.
        Return False, without calling *change*, when there is nothing under *key*.
        """

    def delete(self, key: str) -> None:
        """Forget *key*, if it is there."""

    def keys(self) -> Iterator[str]:
        """Go through the keys of all that is stored, at whatever pace the caller likes, while others work on.

        A session that is there the whole time is given, and given once unless something is written meanwhile. One that
        comes or goes may be given or not; so may one that has expired and was not swept yet.
        """

    def sweep(self) -> int:
        """Remove what has expired, all of it. Return how many sessions that was: 0 where they go by themselves."""

    def check(self) -> None:
        """Raise StoreError when a session could not be stored now."""
