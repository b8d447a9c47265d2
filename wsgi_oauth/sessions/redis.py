"""The store for several machines: a Redis or Valkey server.

A session is the string ``wsgi_oauth:session:<key>``, which Redis deletes when it expires. The lock of a session is a
second key with a lease. One Lua script reads the session and takes the lock. Another one checks the lock, writes and
releases it. Each script is atomic. When a process dies, its lock ends with the lease, after a few seconds. When a
process was stopped for longer than the lease, its write is rejected.

The first request opens the first connection, so a fork inherits none.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from .. import errors
from ..polling import poll
from .store import KEY, Record, check_size

_SESSION = "wsgi_oauth:session:"
_LOCK = "wsgi_oauth:lock:"
LEASE = 3.0  # seconds after which a lock expires; an update takes about a millisecond
LOCK_TIMEOUT = 5.0  # seconds to wait for a lock; longer than the lease of a process that died
_CONNECT_TIMEOUT = 2.0  # seconds
_RESPONSE_TIMEOUT = 2.0  # seconds; also the longest wait for a free connection when all are in use
_MAX_CONNECTIONS = 64  # per process
_SCAN_COUNT = 1000  # keys per SCAN command

# KEYS: session, lock. ARGV: lock owner, lease in ms. Returns the data, nil when it is missing, or 0 when it is locked.
_LOCK_AND_READ = """
local data = redis.call('GET', KEYS[1])
if data and not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
return data
"""

# KEYS: session, lock, target. ARGV: lock owner, data, time to live in ms. Returns 0 when the lock has expired.
_WRITE_AND_UNLOCK = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3]) else redis.call('DEL', KEYS[3]) end
if KEYS[3] ~= KEYS[1] then redis.call('DEL', KEYS[1]) end
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
    """Stores sessions on the server at *url*: ``redis://user:password@host:port/db``, or ``rediss://`` for TLS.

    :class:`~wsgi_oauth.SessionStore` describes the methods. When the server does not answer, they raise
    :class:`errors.StoreError` after a few seconds.

    :raises errors.ConfigError: when the ``redis`` package is missing.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis  # noqa: PLC0415  # optional dependency
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.retry import Retry  # noqa: PLC0415
        except ImportError:
            raise errors.ConfigError(
                "sessions on Redis need the redis package: pip install 'wsgi-oauth[redis]'"
            ) from None
        parts = urlsplit(url)
        # A credential provider, because otherwise the password would be in reprs and error reports.
        credentials = redis.UsernamePasswordCredentialProvider(
            unquote(parts.username or ""), unquote(parts.password or "")
        )
        pool = redis.BlockingConnectionPool.from_url(
            parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
            credential_provider=credentials if "@" in parts.netloc else None,
            max_connections=_MAX_CONNECTIONS,
            timeout=_RESPONSE_TIMEOUT,
            socket_connect_timeout=_CONNECT_TIMEOUT,
            socket_timeout=_RESPONSE_TIMEOUT,
            # No retry, because a command may have been executed although its response was lost.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            **({"ssl_check_hostname": True} if url.startswith("rediss:") else {}),
        )
        self._redis: Any = redis.Redis(connection_pool=pool)
        self._failures = (redis.RedisError, OSError)
        self._lock_and_read, self._write_and_unlock, self._unlock, self._delete = map(
            self._redis.register_script, (_LOCK_AND_READ, _WRITE_AND_UNLOCK, _UNLOCK, _DELETE)
        )

    def load(self, key: str) -> bytes | None:
        if not KEY.fullmatch(key):
            return None
        with self._store_errors():
            return self._redis.get(_SESSION + key)  # type: ignore[no-any-return]

    def create(self, key: str, record: Record) -> None:
        if not KEY.fullmatch(key):
            raise ValueError("a key must be 64 hexadecimal digits")
        check_size(record)
        if (left := _milliseconds_left(record)) > 0:
            with self._store_errors():
                self._redis.set(_SESSION + key, record.data, px=left)

    def update(self, key: str, change: Callable[[bytes], Record | None], *, move_to: str | None = None) -> bool:
        target = move_to or key
        if not (KEY.fullmatch(key) and KEY.fullmatch(target)):
            return False
        names, owner = _names(key), secrets.token_hex(16)
        data = self._run_when_unlocked(self._lock_and_read, names, [owner, round(LEASE * 1000)])
        if data is None:
            return False
        written = False
        try:
            record = change(data)
            if record is not None:
                check_size(record)
                arguments: list[str | bytes | int] = [owner, record.data, _milliseconds_left(record)]
                with self._store_errors():
                    written = self._write_and_unlock([*names, _SESSION + target], arguments) == 1
                if not written:
                    raise errors.StoreError(
                        "the session was not stored: this process was stopped for longer than the lease of its lock"
                    )
        finally:
            if not written:
                with suppress(*self._failures):  # because the lease also ends by itself
                    self._unlock(names, [owner])
        return True

    def delete(self, key: str) -> None:
        if KEY.fullmatch(key):
            self._run_when_unlocked(self._delete, _names(key), [])

    def keys(self) -> Iterator[str]:
        with self._store_errors():
            for name in self._redis.scan_iter(match=f"{_SESSION}*", count=_SCAN_COUNT):
                key = name.decode("latin-1").removeprefix(_SESSION)
                if KEY.fullmatch(key):
                    yield key

    def sweep(self) -> int:
        """Return 0, because Redis deletes expired sessions by itself."""
        return 0

    def check(self) -> None:
        key = secrets.token_hex(32)
        self.create(key, Record(b"{}", time.time() + 60))
        self.delete(key)

    def may_evict(self) -> bool:
        """Return whether the server deletes sessions of signed-in users when its memory is full.

        Also return False when the server does not tell, because this user has no permission to ask.
        """
        try:
            memory = self._redis.info("memory")
        except self._failures:
            return False
        return int(memory.get("maxmemory", 0)) > 0 and memory.get("maxmemory_policy", "noeviction") != "noeviction"

    def _run_when_unlocked(self, script: Any, names: list[str], arguments: list[str | int]) -> Any:
        """Run *script* until it returns something other than 0, which means that the session is locked."""
        for _ in poll(LOCK_TIMEOUT):
            with self._store_errors():
                result = script(names, arguments)
            if result != 0:
                return result
        raise errors.StoreError("the session store failed: another process holds this session")

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        """Raise StoreError for errors of the server and the network."""
        try:
            yield
        except self._failures as error:
            # Without the copy of the command that follows, because it contains a session's key.
            reason = str(error).partition(", with args")[0] or type(error).__name__
            raise errors.StoreError(f"the session store failed: {reason}") from error


def _names(key: str) -> list[str]:
    return [_SESSION + key, _LOCK + key]


def _milliseconds_left(record: Record) -> int:
    """Return the time to live of *record*. It is relative, because the server's clock may differ."""
    return round((record.expires - time.time()) * 1000)
