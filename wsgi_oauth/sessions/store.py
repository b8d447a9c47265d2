"""The contract of a session store. A store handles keys, bytes and times, and is independent of HTTP and OAuth.

``tests/test_store_contract.py`` checks this contract for every store:

*Keys* are 64 lower-case hexadecimal digits: the hash of a session id. The id itself never reaches a store, so
neither a listing nor a stolen copy reveals a session id.

*Unknown, expired, deleted and damaged* sessions are the same to a reader: ``None``. A store never returns a part of a
session.

*Failures* are different. A store that cannot be read or written raises :class:`errors.StoreError`: otherwise a full
disk would sign users out. The stored session stays unchanged.

*Concurrency*: readers never wait. ``update`` and ``delete`` of the same key exclude each other, between threads and
between processes. An update therefore always starts from the newest data, and after a delete it finds nothing. When a
process dies, its lock is released within seconds, and the store has each session in its old or in its new version.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from .. import errors


class Record(NamedTuple):
    """The *data* of a session, and when it *expires*: seconds since the epoch."""

    data: bytes
    expires: float


KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)

MAX_BYTES = 768 * 1024
"""The size of the largest session: three tokens of 64 KiB, escaped, with claims, groups and pending sign-ins."""


def store_key(name: str) -> str:
    """Return the store's key for a session id, a token or another name: a hash, which reveals no id and no token."""
    return hashlib.sha256(name.encode()).hexdigest()


def check_size(record: Record) -> None:
    """Raise SessionTooLarge when *record* is larger than MAX_BYTES."""
    if len(record.data) > MAX_BYTES:
        raise errors.SessionTooLarge(f"the session has {len(record.data)} bytes; at most {MAX_BYTES} can be stored")


class StoreErrors:
    """A context manager that raises StoreError for the *failures* of a store.

    A ``contextmanager`` function would make a load a tenth slower.
    """

    def __init__(self, failures: tuple[type[Exception], ...], describe: Callable[[Exception], str]) -> None:
        self._failures = failures
        self._describe = describe  # returns the text of a failure, without session keys

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, self._failures):
            raise errors.StoreError(f"the session store failed: {self._describe(error)}") from error


class SessionStore(Protocol):
    """The methods of a session store. :class:`~wsgi_oauth.MemoryStore` is the simplest example.

    Each method raises :class:`errors.StoreError` when the store fails. A store may also have these methods:

    - ``version(key)``, ``is_current(version)`` and ``change_versions()`` detect a changed session without loading it.
      ``version`` returns a value that changes with each write of the session and with each call of
      ``change_versions``, or None if it must be loaded. ``is_current`` returns whether it still has this version.
    - ``load_all(keys)`` returns a list with the result of ``load`` for each key, in one request to the server.
    - ``time()`` returns the seconds since the epoch by the server's clock, where several machines share the store.
    """

    def load(self, key: str) -> bytes | None:
        """Return the data stored under *key*, or None."""

    def create(self, key: str, record: Record) -> None:
        """Store *record* under a new *key*. Raise SessionTooLarge when the data is larger than MAX_BYTES."""

    def update(self, key: str, change: Callable[[bytes], Record | None], *, move_to: str | None = None) -> bool:
        """Call *change* with the newest data under *key*, and store its result.

        No other update or delete of *key* can happen in between. When *change* returns None, nothing is stored. It
        must be quick, because others wait for it.

        :param move_to: a new key for the result; the old key is deleted.
        :return: False, without a call of *change*, when nothing is stored under *key*.
        :raises errors.SessionTooLarge: when the result is larger than MAX_BYTES.
        """

    def delete(self, key: str) -> None:
        """Delete the session under *key*, if it exists."""

    def keys(self) -> Iterator[str]:
        """Yield the keys of all sessions, while others may read and write.

        A session that exists during the whole iteration is yielded, and only once unless it is written meanwhile.
        A session that is created or deleted meanwhile may be yielded or not. So may an expired one.
        """

    def sweep(self) -> int:
        """Delete all expired sessions. Return their number, or 0 when the store deletes them by itself."""

    def check(self) -> None:
        """Check that sessions can be stored. Raise StoreError when they cannot."""
