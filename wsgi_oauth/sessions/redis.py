"""The store for several machines: Redis or Valkey, as one server, with Sentinels, or as a cluster.

A session is the string ``wsgi_oauth:session:<key>``, which Redis deletes when it expires. The lock of a session is a
second key with a lease. One Lua script reads the session and takes the lock. Another one checks the lock, writes and
releases it. Each script is atomic. When a process dies, its lock ends with the lease, after a few seconds. When a
process was stopped for longer than the lease, its write is rejected.

In a cluster, the text in braces decides which server has a key, so a lock and its session are on the same server. A
session that moves to a new key is first stored there and then deleted, because no browser has the new id yet.

The first request opens the first connection, so a fork inherits none.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from operator import methodcaller
from typing import Any

from .. import errors
from ..polling import poll
from ..redis_url import RedisURL
from .store import KEY, Record, StoreErrors, check_size

_SESSION = "wsgi_oauth:session:"
_LOCK = "wsgi_oauth:lock:"
_CLOCK = "wsgi_oauth:clock"  # never stored; the server that would have this key is the clock of a cluster
LEASE = 3.0  # seconds after which a lock expires; an update takes about a millisecond
LOCK_TIMEOUT = 5.0  # seconds to wait for a lock; longer than the lease of a process that died
_SCAN_COUNT = 1000  # keys per SCAN command

# KEYS: session, lock. ARGV: lock owner, lease in ms. Returns the data, nil when it is missing, or 0 when it is locked.
_LOCK_AND_READ = """
local data = redis.call('GET', KEYS[1])
if data and not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
return data
"""

# KEYS: session, lock. ARGV: lock owner, data, time to live in ms (0: delete it). Returns 0 when the lock has expired.
_WRITE_AND_UNLOCK = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) else redis.call('DEL', KEYS[1]) end
redis.call('DEL', KEYS[2])
return 1
"""

# KEYS: session, lock. ARGV: lock owner.
_UNLOCK = """
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
"""

# KEYS: session, lock. Returns 0 when the session is locked.
_DELETE = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""


class RedisStore:
    """Stores sessions at *url*. ``rediss`` in place of ``redis`` means TLS:

    - ``redis://user:password@host:port/db``: one server,
    - ``redis+sentinel://user:password@host:port,host:port/service/db``: the master that the Sentinels call *service*,
    - ``redis+cluster://user:password@host:port,host:port``: some of the servers of a cluster.

    :class:`~wsgi_oauth.SessionStore` describes the methods. When a server does not answer, they raise
    :class:`errors.StoreError` after a few seconds.

    :raises errors.ConfigError: when the ``redis`` package is missing or too old, or a file of certificates is unusable.
    :raises ValueError: when *url* is invalid.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis  # noqa: F401, PLC0415  # optional dependency

            from . import redis_servers  # noqa: PLC0415  # imports it, too
        except ImportError as error:  # missing, too old, or another module is called redis
            reason = str(error).replace(";", ",")  # a semicolon would separate the remedy
            text = f"sessions on Redis need the redis package (got {reason!a}); pip install 'wsgi-oauth[redis]'"
            raise errors.ConfigError(text) from None
        self._servers = redis_servers.open_servers(RedisURL.parse(url))
        self._failures = redis_servers.FAILURES
        self._store_errors = StoreErrors(self._failures, redis_servers.describe)

    def load(self, key: str) -> bytes | None:
        return self.load_all([key])[0] if KEY.fullmatch(key) else None

    def load_all(self, keys: Sequence[str]) -> list[bytes | None]:
        with self._store_errors:
            return self._servers.get_all([_SESSION + key for key in keys])

    def time(self) -> float:
        with self._store_errors:
            seconds, microseconds = self._servers.run(_CLOCK, lambda server: server.time(), durable=False)
        return float(seconds + microseconds / 1e6)

    def create(self, key: str, record: Record) -> None:
        if not KEY.fullmatch(key):
            raise ValueError("a key must be 64 hexadecimal digits")
        check_size(record)
        if (left := _milliseconds_left(record)) > 0:
            name = _SESSION + key
            with self._store_errors:
                self._servers.run(name, lambda server: server.set(name, record.data, px=left), durable=True)

    def update(self, key: str, change: Callable[[bytes], Record | None], *, move_to: str | None = None) -> bool:
        target = move_to or key
        if not (KEY.fullmatch(key) and KEY.fullmatch(target)):
            return False
        owner = secrets.token_hex(16)
        data = self._run_when_unlocked(key, _LOCK_AND_READ, owner, round(LEASE * 1000))
        if data is None:
            return False
        written = moving = False
        try:
            record = change(data)
            if record is not None:
                check_size(record)
                if move_to and move_to != key:
                    moving = True
                    self.create(move_to, record)
                    record = Record(b"", 0)  # expired: deletes the session under its old key
                left = max(_milliseconds_left(record), 0)
                written = self._run(key, _WRITE_AND_UNLOCK, owner, record.data, left, durable=True) == 1
                if not written:
                    reason = "this process was stopped for longer than the lease of its lock"
                    raise errors.StoreError(f"the session was not stored: {reason}")
        finally:
            if not written:
                with suppress(errors.StoreError):  # the lease also expires by itself
                    self._run(key, _UNLOCK, owner)
                    if move_to and moving:
                        self.delete(move_to)
        return True

    def delete(self, key: str) -> None:
        if KEY.fullmatch(key):
            self._run_when_unlocked(key, _DELETE, durable=True)

    def keys(self) -> Iterator[str]:
        with self._store_errors:
            for name in self._servers.client.scan_iter(match=f"{_SESSION}*", count=_SCAN_COUNT):
                key = name.decode("latin-1").removeprefix(_SESSION)
                if KEY.fullmatch(key):
                    yield key

    def sweep(self) -> int:
        """Return 0, because Redis deletes expired sessions by itself."""
        return 0

    def check(self) -> None:
        key = secrets.token_hex(32)
        self.create(key, Record(b"{}", time.time() + 60))
        self.load_all([key, secrets.token_hex(32)])  # a cluster refuses this if the URL is not that of a cluster
        self.delete(key)

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Yield problems of the servers that can lose sessions, with remedies. Unavailable settings are skipped."""
        with suppress(*self._failures):
            for master in self._servers.masters():
                memory = master.info("memory")
                if int(memory.get("maxmemory", 0)) > 0 and memory.get("maxmemory_policy", "noeviction") != "noeviction":
                    yield (
                        "the server signs users out when its memory is full",
                        "set its maxmemory-policy to noeviction; when memory is full, new sign-ins then fail instead",
                    )
                    return
        with suppress(*self._failures):
            if self._servers.replicated and any(not master.role()[2] for master in self._servers.masters()):
                yield (
                    "a server has no connected replica, so its sessions are lost if it fails",
                    "connect a replica; until then, sign-ins are stored on this server alone",
                )

    def _run_when_unlocked(self, key: str, script: str, *arguments: str | int, durable: bool = False) -> Any:
        """Run *script* until it returns something other than 0, which means that the session is locked."""
        for _ in poll(LOCK_TIMEOUT):
            result = self._run(key, script, *arguments, durable=durable)
            if result != 0:
                return result
        raise errors.StoreError("the session store failed: another process holds this session")

    def _run(self, key: str, script: str, *arguments: str | bytes | int, durable: bool = False) -> Any:
        """Run *script* with the session *key* and its lock."""
        session = _SESSION + key
        lock = f"{_LOCK}{{{session}}}"
        operation = methodcaller("eval", script, 2, session, lock, *arguments)
        with self._store_errors:
            return self._servers.run(session, operation, durable=durable)


def _milliseconds_left(record: Record) -> int:
    """Return the time to live of *record*. It is relative, because the server's clock may differ."""
    return round((record.expires - time.time()) * 1000)
