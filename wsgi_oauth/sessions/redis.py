"""Sessions on a Redis server, or a Valkey one: the store for many machines.

A session is the string ``wsgi_oauth:session:<key>``, and Redis itself forgets it when it is over. Exclusion is a
second key with a lease, taken by whoever updates the session and let go by the write itself: one Lua script reads
and takes, another one compares, writes and lets go, each in one step. A process that dies keeps the others from
that session for as long as the lease, a few seconds; one that was stopped for longer than that has its write
refused.

Nothing is connected before it is needed, so nothing is inherited by a fork.
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
_LEASE = 3.0  # seconds after which whoever holds a session counts as dead; an update takes a millisecond
_LOCK_TIMEOUT = 5.0  # seconds to wait for another's update, so that a dead holder is waited for
_CONNECT = 2.0  # seconds for a connection
_ANSWER = 2.0  # seconds for an answer, and for a free connection when all are in use
_CONNECTIONS = 64  # per process: as many requests can talk to Redis at the same time
_PAGE = 1000  # keys that one step of a walk asks for

# KEYS: session, lock. ARGV: who asks, lease in ms. Gives the data, nil when there is none, 0 when another one holds it.
_TAKE = """
local data = redis.call('GET', KEYS[1])
if data and not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
return data
"""

# KEYS: session, lock, where to write. ARGV: who asks, data, time to live in ms. Gives 0 when the lease has run out.
_WRITE = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3]) else redis.call('DEL', KEYS[3]) end
if KEYS[3] ~= KEYS[1] then redis.call('DEL', KEYS[1]) end
redis.call('DEL', KEYS[2])
return 1
"""

# KEYS: session, lock. ARGV: who asks.
_LET_GO = """
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
"""

# KEYS: session, lock. Gives 0 when somebody holds it.
_DELETE = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""


class RedisStore:
    """Sessions on the server at *url*: ``redis://user:password@host:port/db``, or ``rediss://`` for TLS.

    See :class:`~wsgi_oauth.SessionStore` for what each method promises. A server that does not answer is an
    :class:`errors.StoreError` after a few seconds, and is asked again by the next request.

    :raises errors.ConfigError: when the ``redis`` package is missing.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis  # noqa: PLC0415  # an extra
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.retry import Retry  # noqa: PLC0415
        except ImportError:
            raise errors.ConfigError(
                "sessions on Redis need the redis package: pip install 'wsgi-oauth[redis]'"
            ) from None
        parts = urlsplit(url)
        # Handed over like this a password is in nobody's repr, and so in no report of an error.
        credentials = redis.UsernamePasswordCredentialProvider(
            unquote(parts.username or ""), unquote(parts.password or "")
        )
        pool = redis.BlockingConnectionPool.from_url(
            parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
            credential_provider=credentials if "@" in parts.netloc else None,
            max_connections=_CONNECTIONS,
            timeout=_ANSWER,
            socket_connect_timeout=_CONNECT,
            socket_timeout=_ANSWER,
            # A command whose answer was lost may have been carried out; sending it again would be another one.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            **({"ssl_check_hostname": True} if url.startswith("rediss:") else {}),
        )
        self._redis: Any = redis.Redis(connection_pool=pool)
        self._failures = (redis.RedisError, OSError)
        self._take, self._write, self._let_go, self._delete = map(
            self._redis.register_script, (_TAKE, _WRITE, _LET_GO, _DELETE)
        )

    def load(self, key: str) -> bytes | None:
        if not KEY.fullmatch(key):
            return None
        with self._store_errors():
            return self._redis.get(_SESSION + key)  # type: ignore[no-any-return]

    def create(self, key: str, record: Record) -> None:
        if not KEY.fullmatch(key):
            raise ValueError("a key is 64 hexadecimal digits")
        check_size(record)
        if (left := _milliseconds_left(record)) > 0:
            with self._store_errors():
                self._redis.set(_SESSION + key, record.data, px=left)

    def update(self, key: str, change: Callable[[bytes], Record | None], *, move_to: str | None = None) -> bool:
        target = move_to or key
        if not (KEY.fullmatch(key) and KEY.fullmatch(target)):
            return False
        names, me = _names(key), secrets.token_hex(16)
        data = self._when_free(self._take, names, [me, round(_LEASE * 1000)])
        if data is None:
            return False
        written = False
        try:
            record = change(data)
            if record is not None:
                check_size(record)
                arguments: list[str | bytes | int] = [me, record.data, _milliseconds_left(record)]
                with self._store_errors():
                    written = self._write([*names, _SESSION + target], arguments) == 1
                if not written:
                    raise errors.StoreError(
                        "another process has taken this session over: this one was stopped for too long"
                    )
        finally:
            if not written:
                with suppress(*self._failures):  # the lease ends by itself
                    self._let_go(names, [me])
        return True

    def delete(self, key: str) -> None:
        if KEY.fullmatch(key):
            self._when_free(self._delete, _names(key), [])

    def keys(self) -> Iterator[str]:
        with self._store_errors():
            for name in self._redis.scan_iter(match=f"{_SESSION}*", count=_PAGE):
                key = name.decode("latin-1").removeprefix(_SESSION)
                if KEY.fullmatch(key):
                    yield key

    def sweep(self) -> int:
        """Redis does it by itself."""
        return 0

    def check(self) -> None:
        key = secrets.token_hex(32)
        self.create(key, Record(b"{}", time.time() + 60))
        self.delete(key)

    def may_evict(self) -> bool:
        """Whether the server throws sessions out when its memory is full, those of signed-in users among them.

        False, too, when it does not say: not everybody may ask.
        """
        try:
            memory = self._redis.info("memory")
        except self._failures:
            return False
        return int(memory.get("maxmemory", 0)) > 0 and memory.get("maxmemory_policy", "noeviction") != "noeviction"

    def _when_free(self, script: Any, names: list[str], arguments: list[str | int]) -> Any:
        """Run *script* again and again, for as long as it says that somebody else holds the session."""
        for _ in poll(_LOCK_TIMEOUT):
            with self._store_errors():
                result = script(names, arguments)
            if result != 0:
                return result
        raise errors.StoreError("the session store failed: another process holds this session")

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        """Turn what the server and the network say into the one error that callers know."""
        try:
            yield
        except self._failures as error:
            # What follows is a copy of the command, with a key in it.
            reason = str(error).partition(", with args")[0] or type(error).__name__
            raise errors.StoreError(f"the session store failed: {reason}") from error


def _names(key: str) -> list[str]:
    return [_SESSION + key, _LOCK + key]


def _milliseconds_left(record: Record) -> int:
    """A span, not a moment: the server's clock need not agree with ours."""
    return round((record.expires - time.time()) * 1000)
