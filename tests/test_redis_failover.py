"""Sessions on several Redis servers: Sentinels that replace a failed master, and a cluster."""

from __future__ import annotations

import gc
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from conftest import (
    STORES,
    RedisCluster,
    RedisServer,
    Visitor,
    at_the_same_time,
    environ_for,
    free_port,
    get_and_close,
    gunicorn,
    redis_cluster,
    redis_server,
    sign_in_at,
    store_finding,
)

from wsgi_oauth import Config, errors
from wsgi_oauth.cli import main
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sessions import redis_servers
from wsgi_oauth.sessions.redis import RedisStore
from wsgi_oauth.sessions.store import Record

TIMEOUT = 30  # seconds after which a test has failed
pytestmark = pytest.mark.skipif("redis" not in STORES, reason="TEST_STORES selects other stores")


def key(name: object) -> str:
    return sha256(str(name).encode()).hexdigest()


def record(data: bytes = b"data") -> Record:
    return Record(data, time.time() + 600)


def create_sessions(store: RedisStore, number: int) -> None:
    for each in range(number):
        store.create(key(each), record())


def load_sessions(store: RedisStore, number: int) -> list[bytes | None]:
    return [store.load(key(each)) for each in range(number)]


def until(reached: Callable[[], object]) -> None:
    """Return when *reached* returns something true without an error of the store."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            if reached():
                return
        except errors.StoreError as error:
            assert time.monotonic() < deadline, error  # noqa: PT017
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module", autouse=True)
def frozen_objects() -> Iterator[None]:
    """Exclude the objects of earlier tests from the collections below, which would take a second each."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def collect_stores() -> Iterator[None]:
    """Close the connections of unused stores. Clients of several servers refer to themselves, so that takes a while."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@dataclass
class Watched:
    """A master and its replica, watched by a Sentinel that replaces the master after half a second."""

    servers: list[RedisServer]
    sentinel: RedisServer

    @property
    def url(self) -> str:
        """Return a URL in which the first of two Sentinels has failed."""
        return f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}/sessions/1"

    def master(self) -> RedisServer:
        """Return the server that the Sentinel names."""
        with self.sentinel.client as client:
            port = client.sentinel_masters()["sessions"]["port"]
        return next(server for server in self.servers if server.port == port)

    def replica(self) -> RedisServer:
        return next(server for server in self.servers if server is not self.master())

    def prepare(self) -> None:
        """Start a server that a test has stopped, as a replica, and wait until it is connected and known."""
        master = self.master()
        for server in self.servers:
            if not server.process:
                server.start()
        with self.replica().client as client, master.client as master_client, self.sentinel.client as sentinel:
            client.replicaof("127.0.0.1", master.port)
            until(lambda: master_client.role()[2])
            until(lambda: sentinel.sentinel_slaves("sessions"))
            until(lambda: not sentinel.sentinel_slaves("sessions")[0]["is_disconnected"])
            master_client.flushall()


@contextmanager
def watched_servers(folder: Path, *options: str, sentinel: str = "", tls: bool = False) -> Iterator[Watched]:
    """Start a master, its replica, and a Sentinel with more lines of configuration."""
    with ExitStack() as stack:
        fast = ("--repl-diskless-sync-delay", "0", "--replica-priority", "1", *options)
        master = stack.enter_context(redis_server(folder, *fast, "--dbfilename", "master", tls=tls))
        more = ("--replicaof", "127.0.0.1", str(master.port), "--dbfilename", "replica")
        replica = stack.enter_context(redis_server(folder, *fast, *more, tls=tls))
        configuration = (
            f"sentinel monitor sessions 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds sessions 500\n"
            f"sentinel failover-timeout sessions 1000\n{sentinel}"
        )
        watcher = stack.enter_context(redis_server(folder, tls=tls, sentinel=configuration))
        yield Watched([master, replica], watcher)


@pytest.fixture(scope="module")
def all_watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched_servers(tmp_path_factory.mktemp("watched")) as watched:
        yield watched


@pytest.fixture
def watched(all_watched: Watched) -> Watched:
    """Return the servers, empty and with a connected replica."""
    all_watched.prepare()
    return all_watched


def test_a_failover_causes_a_few_503_responses_and_signs_nobody_out(
    watched: Watched, provider: LocalProvider, tmp_path: Path
):
    """S58: the master is killed right after the sign-in."""
    environ = environ_for(provider, SESSION_STORE=watched.url)
    with gunicorn(tmp_path, environ, "--workers", "2", "--threads", "4") as served:
        cookies = sign_in_at(served.url)
        watched.master().stop()
        statuses = []
        deadline = time.monotonic() + TIMEOUT
        while statuses[-4:] != [200] * 4:
            assert time.monotonic() < deadline
            response = requests.get(f"{served.url}/profile", cookies=cookies, timeout=TIMEOUT, allow_redirects=False)
            statuses.append(response.status_code)
        assert set(statuses) == {200, 503}
        sign_in_at(served.url)


def test_a_write_counts_only_after_a_replica_has_it(watched: Watched, monkeypatch: pytest.MonkeyPatch):
    """Otherwise a failover would lose a sign-in that a browser has seen succeed."""
    store = RedisStore(watched.url)
    store.create(key(1), record(b"old"))
    monkeypatch.setattr(redis_servers, "_ACKNOWLEDGE_TIMEOUT", 0.2)
    watched.replica().signal(signal.SIGSTOP)
    try:
        for operation in (
            lambda: store.create(key(2), record()),
            lambda: store.update(key(1), lambda _: record(b"new")),
            lambda: store.delete(key(1)),
        ):
            with pytest.raises(errors.StoreError, match="no replica has acknowledged"):
                operation()
        store.load(key(1))  # readers need no replica
    finally:
        watched.replica().signal(signal.SIGCONT)
    until(lambda: store.update(key(1), lambda _: record(b"new")) or not store.load(key(1)))


def test_a_former_master_stores_nothing_when_it_comes_back(watched: Watched):
    """It was frozen, missed its replacement, and still has an open connection of this store."""
    store = RedisStore(watched.url)
    store.create(key(1), record())
    former = watched.master()
    former.signal(signal.SIGSTOP)
    try:
        until(lambda: watched.master() is not former)
    finally:
        former.signal(signal.SIGCONT)
    with former.client as client:
        until(lambda: not client.role()[2])
    with pytest.raises(errors.StoreError, match=r"no longer the master|read.only|Connection closed"):
        store.create(key(2), record())
    until(lambda: store.update(key(1), lambda _: record(b"new")))
    assert store.load(key(1)) == b"new"
    assert RedisStore(watched.url).load(key(1)) == b"new"


def test_a_planned_failover_needs_no_restart(watched: Watched):
    store = RedisStore(watched.url)
    store.create(key(1), record())
    former = watched.master()
    with watched.sentinel.client as sentinel:
        sentinel.sentinel_failover("sessions")
    until(lambda: watched.master() is not former)
    with former.client as client:
        until(lambda: client.role()[0] == b"slave")  # before, it still accepts changes, and loses them
    until(lambda: store.update(key(1), lambda data: record(data + b" and more")))
    with watched.master().client as client:
        client.select(1)
        assert client.get(f"wsgi_oauth:session:{key(1)}") == b"data and more"


def test_check_warns_if_a_failover_would_lose_sessions(watched: Watched, provider: LocalProvider):
    assert store_finding(provider, watched.url).level == "ok"
    watched.replica().stop()
    with watched.master().client as client:
        until(lambda: not client.role()[2])
    finding = store_finding(provider, watched.url)
    assert finding.level == "warn"
    assert "no connected replica" in finding.text


def test_errors_name_the_form_of_the_url(watched: Watched, one_cluster: RedisCluster):
    server, watcher, part = watched.master().port, watched.sentinel.port, one_cluster.masters[0].port
    for url, expected in [
        (f"redis+sentinel://127.0.0.1:{server}/sessions", "not a Sentinel; write .* or redis://"),
        (f"redis+sentinel://127.0.0.1:{watcher}/other", "no master 'other'; write the name that the Sentinels use"),
        (f"redis+cluster://127.0.0.1:{server}", "does not belong to a cluster; write redis://"),
        (f"redis://127.0.0.1:{part}/0", r"belongs to a cluster; write redis\+cluster://"),
        # Valkey 9 counts the databases of a cluster, which is one by default.
        (f"redis://127.0.0.1:{part}/1", r"belongs to a cluster; write redis\+cluster://|write a smaller database"),
        (f"redis://127.0.0.1:{server}/999", "DB index is out of range; write a smaller database"),
        (f"redis://127.0.0.1:{watched.replica().port}/0", r"read only replica.*; write .*redis\+sentinel://"),
    ]:
        # Of 20 sessions, some belong to another server of the cluster.
        with pytest.raises(errors.StoreError, match=expected):
            create_sessions(RedisStore(url), 20)


def test_check_recognizes_a_cluster_with_one_server(tmp_path: Path, provider: LocalProvider):
    """It redirects no command, but refuses to read two sessions at once, as the gate does."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with redis_server(tmp_path, *options) as server, server.client as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: client.cluster("INFO")["cluster_state"] == "ok")
        finding = store_finding(provider, server.url)
        assert (finding.level, finding.remedy) == ("FAIL", "write redis+cluster://host:port")
        assert store_finding(provider, server.url.replace("redis://", "redis+cluster://")).level == "warn"  # no replica


@pytest.mark.parametrize("password_of_sentinel", ["requirepass hush", ""])
def test_sentinels_with_passwords_and_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password_of_sentinel: str, provider: LocalProvider
):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    file = str(tmp_path / "server.pem")
    tls = ("--tls-cert-file", file, "--tls-key-file", file, "--tls-ca-cert-file", str(tmp_path / "ca.pem"))
    options = (*tls, "--tls-auth-clients", "no", "--tls-replication", "yes")
    lines = "\n".join(f"{name[2:]} {value}" for name, value in zip(options[::2], options[1::2], strict=True))
    sentinel = f"sentinel auth-pass sessions hush\n{lines}\n{password_of_sentinel}\n"
    passwords = ("--requirepass", "hush", "--masterauth", "hush")
    with watched_servers(tmp_path, *options, *passwords, sentinel=sentinel, tls=True) as watched:
        url = watched.url.replace("redis+sentinel://", "rediss+sentinel://:hush@")
        with pytest.raises(errors.StoreError, match="CERTIFICATE_VERIFY_FAILED"):
            RedisStore(url).check()
        trusting = f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}&ssl_cert_reqs=required"
        assert Config.from_environ(environ_for(provider, SESSION_STORE=trusting)).session_store == trusting
        until(lambda: RedisStore(trusting).check() is None)
        with pytest.raises(errors.StoreError, match=r"invalid username-password|Authentication required") as caught:
            RedisStore(trusting.replace("hush", "wrong-password")).check()
        assert "wrong-password" not in str(caught.value)


# Clusters


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """Start a cluster that the test may change."""
    with redis_cluster(tmp_path) as cluster:
        yield cluster


def test_a_cluster_loses_no_session_when_a_master_fails(own_cluster: RedisCluster, provider: LocalProvider):
    store = RedisStore(own_cluster.url)
    create_sessions(store, 30)
    own_cluster.masters[0].stop()
    for number in range(30):
        until(lambda number=number: store.load(key(number)) == b"data")
        until(lambda number=number: store.update(key(number), lambda data: record(data + b"1")))
    assert len(list(store.keys())) == 30
    own_cluster.masters[1].stop()
    with pytest.raises(errors.StoreError):
        load_sessions(store, 30)


def test_servers_that_all_have_new_addresses_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """For example after a restart of all pods. The name in the URL leads to the new ones."""
    port, leads_to = free_port(), {"redis.example": "127.0.0.1"}
    servers = []
    for host in ("127.0.0.1", "127.0.0.2"):
        folder = tmp_path / host
        folder.mkdir()
        bus = ("--cluster-port", str(free_port()), "--cluster-announce-ip", host)
        servers.append(RedisServer(folder, port, ("--cluster-enabled", "yes", *bus), host=host))
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **more: resolve(leads_to.get(host, host), *rest, **more)
    )
    try:
        for server in servers:
            server.start()
            with server.client as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                until(lambda client=client: client.cluster("INFO")["cluster_state"] == "ok")
        store = RedisStore(f"redis+cluster://redis.example:{port}")
        store.create(key(1), record(b"old"))
        leads_to["redis.example"] = servers[1].host
        servers[0].stop()
        until(lambda: store.create(key(1), record(b"new")) is None)
        with servers[1].client as client:
            assert client.get(f"wsgi_oauth:session:{key(1)}") == b"new"
    finally:
        for server in servers:
            server.stop()


def test_a_hanging_cluster_fails_all_requests_in_time(own_cluster: RedisCluster):
    """S58: also requests that come at the same moment."""
    store = RedisStore(own_cluster.url)
    store.create(key(1), record())
    for server in (*own_cluster.masters, own_cluster.replica):
        server.signal(signal.SIGSTOP)

    def fails(_: int) -> float:
        began = time.monotonic()
        with pytest.raises(errors.StoreError):
            store.load(key(1))
        return time.monotonic() - began

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(fails, range(8))) < 6  # seconds
    for server in (*own_cluster.masters, own_cluster.replica):
        server.signal(signal.SIGCONT)
    until(lambda: store.load(key(1)))


def test_a_cluster_that_fails_while_no_thread_can_be_started_is_a_failing_store(
    own_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
):
    """S76: the locations of the slots are refreshed in a thread."""
    store, attempts = RedisStore(own_cluster.url), []

    def fail(thread: threading.Thread) -> None:
        attempts.append(thread)
        raise RuntimeError("can't start new thread")

    store.create(key(1), record())
    for server in own_cluster.masters:
        server.stop()
    monkeypatch.setattr(threading.Thread, "start", fail)
    for _ in range(2):
        with pytest.raises(errors.StoreError):
            store.load(key(1))
    assert len(attempts) == 2


def test_a_session_whose_slot_moves_is_found_and_changed(one_cluster: RedisCluster, cluster_url: str):
    """MOVED and ASK: the cluster gives a part of the sessions to another server."""
    store = RedisStore(cluster_url)
    store.create(key(1), record(b"0"))
    store.create(key(2), record(b"0"))
    reader = RedisStore(cluster_url)
    assert reader.load_all([key(1), key(2)]) == [b"0", b"0"]
    name = f"wsgi_oauth:session:{key(1)}"
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client) for server in one_cluster.masters]
        slot = clients[0].execute_command("CLUSTER", "KEYSLOT", name)
        source = next(client for client in clients if slot_is_at(client, slot))
        target = next(client for client in clients if client is not source)
        ids = {client: client.execute_command("CLUSTER", "MYID") for client in clients}
        target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        port = target.connection_pool.connection_kwargs["port"]
        source.execute_command("MIGRATE", "127.0.0.1", port, name, 0, 5000)
        assert store.load(key(1)) == b"0"
        assert reader.load_all([key(1), key(2)]) == [b"0", b"0"]
        changed: list[bool] = []
        update = threading.Thread(target=lambda: changed.append(store.update(key(1), lambda data: record(data + b"1"))))
        update.start()
        update.join(0.2)
        assert changed == []  # it waits until the whole slot has moved
        for client in (target, source):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        update.join(TIMEOUT)
        assert changed == [True]
        assert target.get(name) == b"01"
        assert reader.load_all([key(1), key(2)]) == [b"01", b"0"]
    assert store.load(key(1)) == b"01"


def slot_is_at(client: Any, slot: int) -> bool:
    """Return whether the server of *client* has *slot*."""
    own = client.execute_command("CLUSTER", "MYID")
    slots = client.execute_command("CLUSTER SLOTS")
    return any(first <= slot <= last and own == master[2] for first, last, master, *_ in slots)


def test_sessions_of_all_servers_are_counted(
    one_cluster: RedisCluster, cluster_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    store = RedisStore(cluster_url)
    create_sessions(store, 30)
    for server in one_cluster.masters:
        with server.client as client:
            assert client.dbsize() > 0
    monkeypatch.setattr("os.environ", {"WSGI_OAUTH_SESSION_STORE": cluster_url})
    assert main.main(["sessions", "count"]) == 0
    assert "unreadable  30" in capsys.readouterr().out


def test_first_requests_of_a_worker_with_greenlets_wait_for_one_connection_to_the_cluster(
    cluster_url: str, provider: LocalProvider, tmp_path: Path
):
    """gunicorn loads the application before gevent replaces the locks, and such a lock blocks all greenlets."""
    pytest.importorskip("gevent")
    environ = environ_for(provider, SESSION_STORE=cluster_url)
    with gunicorn(tmp_path, environ, "--worker-class", "gevent", "--preload") as server:
        copies = [(Visitor(server.url, provider), "/") for _ in range(4)]
        assert [answer.status_code for answer in at_the_same_time(get_and_close, copies)] == [302] * 4


def test_a_cluster_reads_several_keys_at_once_and_has_one_clock(cluster_url: str):
    """A session and the record that can revoke it are on different servers."""
    store = RedisStore(cluster_url)
    for number in range(10):
        store.create(key(number), record(str(number).encode()))
    assert store.load_all([key(number) for number in range(11)]) == [*(b"%d" % number for number in range(10)), None]
    before, after = store.time(), store.time()
    assert time.time() - 60 < before <= after < time.time() + 60


def test_concurrent_first_requests_share_one_client(cluster_url: str):
    """S76"""
    store = RedisStore(cluster_url)
    barrier = threading.Barrier(8)
    clients = []

    def first_use() -> None:
        barrier.wait()
        store.load(key(1))
        clients.append(store._servers.client)

    threads = [threading.Thread(target=first_use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, clients))) == 1
    assert len(clients) == 8
