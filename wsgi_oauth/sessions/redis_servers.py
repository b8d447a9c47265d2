"""The servers of a Redis deployment: a single server, a master with Sentinels, or a cluster.

Each class executes the commands of :class:`.RedisStore` on the right server, and knows the servers with all sessions.

Replication is asynchronous: a server confirms a write before its replicas have it, and a failover would lose the write.
With Sentinels and in a cluster, a write is therefore followed by ``WAIT``: it counts only after a replica has
acknowledged it. A server without a connected replica, for example after a failover, stores sessions alone.

The module is imported when a store is created, because the ``redis`` package is optional.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from functools import lru_cache
from operator import methodcaller
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import AskError, MovedError, RedisClusterException, SlotNotCoveredError, TryAgainError
from redis.retry import Retry
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from .. import errors
from ..polling import acquire, poll
from ..redis_url import RedisURL

T = TypeVar("T")
Operation = Callable[[Any], T]  # receives a redis.Redis

FAILURES = (redis.RedisError, RedisClusterException, OSError)
"""The exceptions of the server, the library and the network."""

_CONNECT_TIMEOUT = 2.0  # seconds
_RESPONSE_TIMEOUT = 2.0  # seconds; also the longest wait for a free connection when all are in use
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # seconds, seconds, number of attempts
_ACKNOWLEDGE_TIMEOUT = 1.0  # seconds, shorter than _RESPONSE_TIMEOUT, for the acknowledgement of a write by a replica
_REDIRECT_TIMEOUT = 5.0  # seconds until a slot that moves to another server must have arrived
_POOL_OPTIONS: dict[str, Any] = {"max_connections": 64, "timeout": _RESPONSE_TIMEOUT}  # for each process and server
_pack = lru_cache(maxsize=1024)(redis.Connection().pack_command)  # this connection is never opened

# Errors that only a cluster returns. A cluster of one server redirects no command, so it is recognized by these.
_SIGNS_OF_A_CLUSTER = ("Keys in request don't hash to the same slot", "SELECT is not allowed in cluster mode")
_REMEDIES = {
    "DB index is out of range": "write a smaller database number, or leave it out",
    "called without any password configured": "remove user and password from the URL",
    "Authentication required": "write redis://user:password@host:port, or redis://:password@host:port without a user",
    "invalid username-password pair": "correct user and password in the URL, with special characters percent-encoded",
    "this user has no permissions": "give it the access list in docs/operating.md",
    "used memory > 'maxmemory'": "give the server more memory, or lower WSGI_OAUTH_SESSION_IDLE",
    "max number of clients reached": "raise its maxclients, or start fewer workers and threads",
}


def _is_older(*version: int) -> bool:
    """Return whether redis-py is older than *version*."""
    return tuple(int(part) for part in redis.__version__.split(".")[:2]) < version


_COMMAND = ["MGET"] if _is_older(5, 3) else []  # older pools require the name of the command


class SingleServer:
    """One server, or one address behind which a hosted provider replaces the server.

    The methods of all three classes raise one of FAILURES. ``client`` is for commands that concern all sessions.
    """

    replicated = False

    def __init__(self, url: RedisURL) -> None:
        [(host, port)] = url.hosts
        kind = redis.SSLConnection if url.tls else redis.Connection
        options = _POOL_OPTIONS | _connection_options(url)
        pool = redis.BlockingConnectionPool(connection_class=kind, host=host, port=port, db=url.database, **options)
        self.client: Any = redis.Redis(connection_pool=pool)

    def run(self, key: str, operation: Operation[T], *, durable: bool) -> T:
        """Call *operation* with a client of the server that has *key*, and return its result.

        If the server has rejected the command without executing it, *operation* is called again.

        :param durable: whether a connected replica must acknowledge the write.
        :raises errors.StoreError: when no replica has acknowledged the write.
        """
        try:
            return operation(self.client)
        except redis.ResponseError as error:
            if not is_read_only(error) or _is_older(7):  # old pools would close connections in use
                raise
            # After a failover, the address belongs to the new master, but connections are still open to the old one.
            self.client.connection_pool.disconnect(inuse_connections=False)
            return operation(self.client)

    def get_all(self, names: Sequence[str]) -> list[bytes | None]:
        """Return the values of the keys *names*, None for each that is missing.

        Each signed-in request calls this, with the same names. So the command is packed once, and sent without the
        client, whose method ``mget`` would make such a request a third slower.
        """
        pool = self.client.connection_pool
        connection = pool.get_connection(*_COMMAND)
        try:
            connection.send_packed_command(_pack("MGET", *names))
            return connection.read_response()  # type: ignore[no-any-return]
        finally:
            pool.release(connection)

    def masters(self) -> Iterable[Any]:
        """Return a client for each server that accepts writes."""
        return [self.client]


class SentinelServers(SingleServer):
    """A master that Sentinels watch, and replace by a replica when it fails."""

    replicated = True

    def __init__(self, url: RedisURL) -> None:
        options = _connection_options(url)
        sentinel_options = {**options, "ssl": url.tls, "redis_connect_func": _connect_to_sentinel}
        sentinels = _Sentinels(url.hosts, sentinel_kwargs=sentinel_options)
        self._pool: Any = _SentinelPool(
            url.service,
            sentinels,
            connection_class=SentinelManagedSSLConnection if url.tls else SentinelManagedConnection,
            db=url.database,
            **_POOL_OPTIONS,
            **options,
        )
        self.client: Any = redis.Redis(connection_pool=self._pool)

    def run(self, key: str, operation: Operation[T], *, durable: bool) -> T:
        if not durable:
            return operation(self.client)
        with self.client.client() as connection:
            result = operation(connection)
            if not _wait_for_replica(connection):
                # No replica is connected. This is normal for a single server, but also for a former master.
                address = (connection.connection.host, connection.connection.port)
                if self._pool.get_master_address() != address:
                    raise errors.StoreError("the session store failed: the server is no longer the master")
            return result


class ClusterServers:
    """A cluster, in which each server has a part of the sessions.

    The library's client finds the servers, but does not execute the commands: while servers hang, all threads would
    wait for it to ask one server after the other for a slot.
    """

    replicated = True

    def __init__(self, url: RedisURL) -> None:
        self._url = url
        self._client: Any = None
        self._connecting = threading.Lock()
        self._refreshing = threading.Lock()

    @property
    def client(self) -> Any:
        """Return the client, which connects when it is created."""
        if self._client is None:
            if not acquire(self._connecting, _CONNECT_TIMEOUT):
                raise errors.StoreError("the session store failed: no server of the cluster has answered yet")
            try:
                if self._client is None:
                    self._client = self._connect()
            finally:
                self._connecting.release()
        return self._client

    def _connect(self) -> Any:
        url = self._url
        host, port = url.hosts[0]
        return RedisCluster(
            # A pool of another class is accepted only together with a URL.
            url=f"{'rediss' if url.tls else 'redis'}://{f'[{host}]' if ':' in host else host}:{port}",
            startup_nodes=[ClusterNode(host, port) for host, port in url.hosts],
            connection_pool_class=redis.BlockingConnectionPool,
            require_full_coverage=False,  # the sessions of the other servers stay usable
            **_POOL_OPTIONS,
            **_connection_options(url),
        )

    def run(self, key: str, operation: Operation[T], *, durable: bool) -> T:
        node, asking = None, False
        for _ in poll(_REDIRECT_TIMEOUT):
            client = self.client  # another one if all servers have new addresses
            try:
                server = client.get_redis_connection(node or client.get_node_from_key(key))
                with server.client() if durable or asking else nullcontext(server) as connection:
                    if asking:
                        connection.execute_command("ASKING")
                    result = operation(connection)
                    if durable:
                        _wait_for_replica(connection)
                    return result
            except AskError as error:  # or MovedError: the slot is moving or has moved; the command was not executed
                asking = not isinstance(error, MovedError)
                node = client.get_node(error.host, error.port)
                if node is None:
                    self._ask_servers()
                elif not asking:
                    self._refresh()
            except TryAgainError:  # the session has moved, but not its lock; the command was not executed
                node, asking = None, False
            except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ClusterDownError, SlotNotCoveredError):
                self._refresh()  # another server may have replaced this one
                raise
        raise errors.StoreError("the session store failed: the cluster has not finished moving this session")

    def get_all(self, names: Sequence[str]) -> list[bytes | None]:
        return [self.run(name, methodcaller("get", name), durable=False) for name in names]

    def _refresh(self) -> None:
        """Ask the servers for the location of the slots, in a thread, unless another thread is doing so."""
        if self._refreshing.acquire(blocking=False):
            try:
                threading.Thread(target=self._refresh_now, daemon=True).start()
            except RuntimeError:  # too many threads, or the process ends; the next failure tries again
                self._refreshing.release()

    def _refresh_now(self) -> None:
        try:
            with suppress(*FAILURES):
                self._ask_servers()
        finally:
            self._refreshing.release()

    def _ask_servers(self) -> None:
        try:
            self._client.nodes_manager.initialize()
        except FAILURES:  # all servers may have new addresses; the host names in the URL resolve to them
            self._client = self._connect()

    def masters(self) -> Iterable[Any]:
        return [node.redis_connection for node in self.client.get_primaries()]


class _Sentinels(Sentinel):
    """Finds the master through the Sentinels, or reports the problem of each Sentinel."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        problems = []
        for sentinel in self.sentinels:
            options = sentinel.connection_pool.connection_kwargs
            name = f"Sentinel {options['host']}:{options['port']}"
            try:
                state = sentinel.sentinel_masters().get(service_name)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                problems.append(f"{name}: {error}")
                continue
            if not state:
                problems.append(f"{name} knows no master {service_name!r}; write the name that the Sentinels use")
            elif not self.check_master_state(state, service_name):
                problems.append(f"{name} is waiting for a new master of {service_name!r}")
            else:
                # Ask this one first the next time, because others may be unreachable.
                self.sentinels = [sentinel, *(each for each in self.sentinels if each is not sentinel)]
                return state["ip"], state["port"]
        raise MasterNotFoundError(", ".join(problems))


class _SentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """A pool of connections to the master, limited in size."""


def open_servers(url: RedisURL) -> SingleServer | ClusterServers:
    """Return the servers at *url*. Raise ConfigError for an old redis package or an unusable TLS file."""
    if url.kind != "server" and _is_older(7):  # old pools close connections in use, and do not compare host names
        text = f"Sentinels and clusters need version 7 of the redis package (got {redis.__version__})"
        raise errors.ConfigError(f"{text}; pip install --upgrade 'redis>=7'")
    if url.tls_files:
        ca_certs, certificate, key = map(url.tls_files.get, ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"))
        try:
            context = ssl.create_default_context(cafile=ca_certs)
            if certificate:
                # The empty password prevents OpenSSL from asking the terminal for the password of an encrypted key.
                context.load_cert_chain(certificate, key, password="")
        except OSError as error:  # including SSLError
            names = ", ".join(f"{name}: {path}" for name, path in url.tls_files.items())
            remedy = "name readable files in PEM format, and no encrypted key"
            raise errors.ConfigError(f"{names}: {error}; {remedy}") from None
    if url.kind == "cluster":
        return ClusterServers(url)
    return SentinelServers(url) if url.kind == "sentinel" else SingleServer(url)


def describe(error: Exception) -> str:
    """Return the text of *error*, and the remedy if the URL has the wrong form for these servers."""
    # A copy of the command is left out, because it contains a session's key.
    text = str(error).partition(", with args")[0] or type(error).__name__
    if isinstance(error, MovedError) or text.startswith("MOVED ") or any(each in text for each in _SIGNS_OF_A_CLUSTER):
        return "the server belongs to a cluster; write redis+cluster://host:port"
    for sign, remedy in _REMEDIES.items():
        if sign in text:
            return f"{text.rstrip('.')}; {remedy}"
    if isinstance(error, redis.ResponseError) and is_read_only(error):
        return f"{text}; write the address of the master, or redis+sentinel://host:port/service with its Sentinels"
    if "unknown command" in text and "SENTINEL" in text.upper():
        return "the server is not a Sentinel; write the address of a Sentinel (usually port 26379), or redis://host:port/db"
    if "Cluster mode is not enabled" in text or "cluster support disabled" in text:
        return "the server does not belong to a cluster; write redis://host:port/db"
    if isinstance(error, redis.ResponseError):  # for example without scripts, or without a replica that it requires
        text = f"{text.rstrip('.')}; look into the log and the configuration of the server, which gave this answer"
    return text


def is_read_only(error: redis.ResponseError) -> bool:
    """Return whether a replica has rejected a write."""
    # The text is checked, too, because redis-py raises another class for scripts on a server before Redis 7.
    return isinstance(error, redis.exceptions.ReadOnlyError) or "READONLY" in str(error)


def _wait_for_replica(connection: Any) -> bool:
    """Wait until a replica has the writes of *connection*. Return False when no replica is connected.

    :raises errors.StoreError: when a connected replica does not acknowledge them in time.
    """
    if not connection.role()[2]:
        return False
    if not connection.wait(1, round(_ACKNOWLEDGE_TIMEOUT * 1000)):
        raise errors.StoreError("the session store failed: no replica has acknowledged the session")
    return True


def _connect_to_sentinel(connection: Any) -> None:
    """Send the password to the Sentinel. If it is refused, connect without a password."""
    try:
        connection.on_connect()
    except redis.AuthenticationError:
        credentials, connection.credential_provider = connection.credential_provider, None
        try:
            connection.on_connect()
            connection.send_command("PING")
            connection.read_response()
        finally:
            connection.credential_provider = credentials


def _connection_options(url: RedisURL) -> dict[str, Any]:
    keepalive = {getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)}
    options: dict[str, Any] = {
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        "socket_timeout": _RESPONSE_TIMEOUT,
        # Otherwise a load balancer forgets an idle connection after some minutes, and the next request fails.
        "socket_keepalive": True,
        "socket_keepalive_options": keepalive,
        # Commands are not repeated, because one may have been executed although its response was lost.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if url.user or url.password:
        # A credential provider keeps the password out of reprs and error reports.
        options["credential_provider"] = redis.UsernamePasswordCredentialProvider(url.user, url.password)
    if url.tls:
        options |= {"ssl_check_hostname": True, "ssl_cert_reqs": "required", **url.tls_files}
    return options
