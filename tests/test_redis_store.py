"""Sessions on Redis: keys on the server, locks with a lease, and servers that are full, stopped or missing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from conftest import Browser, RedisServer, environ_for, gunicorn, redis_server, sign_in_at, store_finding
from system_calls import KEY, OTHER, key, record

from wsgi_oauth import Config, create_app, errors
from wsgi_oauth.cli import main
from wsgi_oauth.cli.finding import Finding
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.polling import poll
from wsgi_oauth.sessions import redis as module
from wsgi_oauth.sessions import redis_servers
from wsgi_oauth.sessions.redis import RedisStore
from wsgi_oauth.sessions.store import Record

HERE = Path(__file__).parent
TIMEOUT = 30  # seconds after which a test has failed


def lock_of(key: str) -> str:
    """Return the name of a session's lock. The braces make it stay on the session's server of a cluster."""
    return f"wsgi_oauth:lock:{{wsgi_oauth:session:{key}}}"


@pytest.fixture
def store(redis_url: str) -> RedisStore:
    return RedisStore(redis_url)


@pytest.fixture
def server(store: RedisStore, one_redis: RedisServer) -> Iterator[Any]:
    """Return an administrator's connection to the server."""
    with one_redis.client as client:
        yield client


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Start a server that the test may stop."""
    with redis_server(tmp_path) as server:
        yield server


def in_a_process(script: str, *arguments: str) -> subprocess.Popen[str]:
    script = (
        f"import sys, time\nfrom wsgi_oauth.sessions.redis import RedisStore\nfrom test_redis_store import *\n{script}"
    )
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environ,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


# Keys on the server


def test_a_session_is_a_string_that_redis_expires(server: Any, store: RedisStore, make_browser: Callable[..., Browser]):
    browser = make_browser()
    callback = browser.callback_url()
    assert browser.cookie
    [name] = server.keys()
    assert name == b"wsgi_oauth:session:" + key(browser.cookie).encode()
    assert 24.9 * 3600_000 < server.pttl(name) <= 25 * 3600_000
    browser.get(callback)
    [name] = server.keys()
    assert name == b"wsgi_oauth:session:" + key(browser.cookie).encode()
    assert 11.9 * 3600_000 < server.pttl(name) <= 12 * 3600_000


@pytest.mark.parametrize("ahead", [86400, -86400])
def test_the_clock_of_the_server_may_differ(
    server: Any, store: RedisStore, later: Callable[[float], None], ahead: float
):
    later(ahead)
    store.create(KEY, record(seconds=60))
    assert 55_000 < server.pttl(f"wsgi_oauth:session:{KEY}") <= 60_000
    store.update(KEY, lambda data: record(data, seconds=90), move_to=OTHER)
    assert 85_000 < server.pttl(f"wsgi_oauth:session:{OTHER}") <= 90_000
    assert store.load(OTHER) == b"data"


def test_redis_deletes_expired_sessions(store: RedisStore, server: Any):
    store.create(KEY, record(seconds=0.05))
    deadline = time.monotonic() + TIMEOUT
    while server.dbsize():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    store.create(KEY, record(seconds=-1))
    store.create(OTHER, record())
    store.update(OTHER, lambda data: record(data, seconds=-1))
    assert server.dbsize() == 0


def test_operations_leave_no_locks_behind(store: RedisStore, server: Any):
    def fail(_: bytes) -> Record:
        raise ZeroDivisionError

    store.check()
    store.create(KEY, record())
    store.update(KEY, lambda data: record(data))
    store.update(KEY, lambda _: None)
    with pytest.raises(ZeroDivisionError):
        store.update(KEY, fail)
    store.update(KEY, lambda data: record(data), move_to=OTHER)
    assert server.keys() == [f"wsgi_oauth:session:{OTHER}".encode()]
    store.delete(OTHER)
    assert server.keys() == []


def test_other_keys_of_the_database_are_left_alone(store: RedisStore, server: Any):
    names = [KEY, f"session:{KEY}", "wsgi_oauth:session:x", f"wsgi_oauth:session:{KEY}0", lock_of(OTHER)]
    for name in names:
        server.set(name, b"other")
    assert list(store.keys()) == []
    store.sweep()
    assert sorted(server.keys()) == sorted(map(str.encode, names))


# Locks


def test_the_lock_of_a_killed_process_expires(store: RedisStore):
    """S60"""
    store.create(KEY, record(b"old"))
    script = "RedisStore(sys.argv[1]).update(KEY, lambda _: (print(flush=True), time.sleep(600)))"
    process = in_a_process(script, url_of(store))
    assert process.stdout
    with process:
        process.stdout.readline()
        process.kill()
    assert store.load(KEY) == b"old"
    assert store.update(KEY, lambda data: record(data + b" and new"))
    assert store.load(KEY) == b"old and new"


def test_a_process_that_was_stopped_for_too_long_overwrites_nothing(store: RedisStore, server: Any):
    """Its lease has expired, and another process has changed the session since."""
    store.create(KEY, record(b"0"))

    def change(data: bytes) -> Record:
        server.delete(lock_of(KEY))
        assert store.update(KEY, lambda newest: record(newest + b" second"))
        return record(data + b" first")

    with pytest.raises(errors.StoreError, match="longer than the lease"):
        store.update(KEY, change)
    assert store.load(KEY) == b"0 second"
    with pytest.raises(errors.StoreError, match="longer than the lease"):
        store.update(KEY, change, move_to=OTHER)
    assert store.load(OTHER) is None


def test_a_process_that_was_stopped_for_too_long_releases_no_other_lock(store: RedisStore, server: Any):
    store.create(KEY, record(b"0"))

    def change(_: bytes) -> None:
        server.set(lock_of(KEY), "another process")

    assert store.update(KEY, change)
    assert server.get(lock_of(KEY)) == b"another process"


@pytest.mark.parametrize("operation", ["update", "delete"])
def test_a_lock_that_is_never_released_blocks_others_for_a_limited_time(
    store: RedisStore, server: Any, operation: str, monkeypatch: pytest.MonkeyPatch
):
    store.create(KEY, record())
    server.set(lock_of(KEY), "another process")
    monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.1)
    with pytest.raises(errors.StoreError, match="another process"):
        store.delete(KEY) if operation == "delete" else store.update(
            KEY, lambda _: pytest.fail("another process holds the lock")
        )
    assert store.load(KEY) == b"data"


def test_a_lease_is_longer_than_an_update_and_shorter_than_the_lock_timeout(store: RedisStore, server: Any):
    store.create(KEY, record())
    left: list[int] = []
    store.update(KEY, lambda _: left.append(server.pttl(lock_of(KEY))))
    assert 1000 < left[0] <= module.LEASE * 1000 < module.LOCK_TIMEOUT * 1000


# Failing servers (S58)

OPERATIONS: dict[str, Callable[[RedisStore], object]] = {
    "load": lambda store: store.load(KEY),
    "create": lambda store: store.create(KEY, record()),
    "update": lambda store: store.update(KEY, lambda data: record(data)),
    "delete": lambda store: store.delete(KEY),
    "keys": lambda store: list(store.keys()),
    "check": lambda store: store.check(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_stopped_server_is_a_failing_store(own_redis: RedisServer, operation: str):
    """S58"""
    store = RedisStore(own_redis.url)
    store.create(KEY, record())
    own_redis.stop()
    for _ in range(2):
        with pytest.raises(errors.StoreError, match="the session store failed"):
            OPERATIONS[operation](store)
    own_redis.start()
    OPERATIONS[operation](store)


def test_a_hanging_server_fails_requests_in_time_and_signs_nobody_out(own_redis: RedisServer, provider: LocalProvider):
    """S58"""
    config = Config.from_environ(environ_for(provider, SESSION_STORE=own_redis.url))
    app = create_app(config)
    browser, newcomer = Browser(app, provider), Browser(app, provider)
    browser.sign_in()
    own_redis.signal(signal.SIGSTOP)
    began = time.monotonic()
    assert browser.profile().status_int == 503
    assert newcomer.get("/").status_int == 503
    assert newcomer.cookie is None
    assert browser.get("/readyz").status_int == 503
    assert browser.get("/healthz").status_int == 200
    assert time.monotonic() - began < 12  # seconds, for three requests that use the store
    own_redis.signal(signal.SIGCONT)
    assert browser.profile().status_int == 200
    assert browser.get("/readyz").status_int == 200


def test_a_full_server_signs_nobody_out_and_users_can_sign_out(own_redis: RedisServer, provider: LocalProvider):
    """S58, S59: a flood of anonymous starts can fill it for ten minutes. With noeviction it deletes no session."""
    app = create_app(Config.from_environ(environ_for(provider, SESSION_STORE=own_redis.url)))
    stays, leaves, newcomer = (Browser(app, provider) for _ in range(3))
    for browser in (stays, leaves):
        browser.sign_in()
        assert browser.profile().status_int == 200
    with own_redis.client as client:
        client.config_set("maxmemory", 1)
        assert newcomer.get("/").status_int == 503
        assert newcomer.cookie is None
        assert stays.profile().status_int == 200
        assert leaves.post("/logout").status_int == 303
        assert leaves.profile().status_int == 401
        client.config_set("maxmemory", 0)
    newcomer.sign_in()
    assert stays.profile().status_int == 200


def test_the_error_of_a_server_names_the_remedy(own_redis: RedisServer):
    with own_redis.client as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(errors.StoreError, match="'maxmemory'; give the server more memory"):
            RedisStore(own_redis.url).create(KEY, record())
        client.config_set("maxmemory", 0)
        client.config_set("maxclients", 1)
        with pytest.raises(errors.StoreError, match="reached; raise its maxclients"):
            RedisStore(own_redis.url).create(KEY, record())
        client.config_set("maxclients", 100)
        client.config_set("min-replicas-to-write", 1)
        with pytest.raises(errors.StoreError, match=r"NOREPLICAS .*; look into the log and the configuration"):
            RedisStore(own_redis.url).create(KEY, record())
        client.config_set("min-replicas-to-write", 0)


def test_a_read_only_replica_is_a_failing_store(own_redis: RedisServer):
    """S58: for example after a failover, before the address has moved."""
    store = RedisStore(own_redis.url)
    store.create(KEY, record())
    with own_redis.client as client:
        client.replicaof("127.0.0.1", "1")
        assert store.load(KEY) == b"data"
        for operation in ("create", "update", "delete", "check"):
            with pytest.raises(errors.StoreError, match="read only"):
                OPERATIONS[operation](store)
        client.replicaof("NO", "ONE")
    assert store.update(KEY, lambda data: record(data))


def test_open_connections_to_a_former_master_are_replaced(
    own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A hosted provider moves a name to the new master, but connections that are open still lead to the old one."""
    other = RedisServer(tmp_path, own_redis.port, host="127.0.0.2")
    other.start()
    leads_to = {"redis.example": "127.0.0.1"}
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: resolve(leads_to.get(host), *rest, **more))
    try:
        store = RedisStore(own_redis.url.replace("127.0.0.1", "redis.example"))
        store.create(KEY, record())
        with own_redis.client as client:
            client.replicaof(other.host, other.port)
        leads_to["redis.example"] = other.host
        store.create(OTHER, record())
        assert store.load(OTHER) == b"data"
    finally:
        other.stop()


def test_an_error_that_quotes_the_command_does_not_reveal_the_key(tmp_path: Path):
    """S49: the server quotes the arguments of an unknown command."""
    with redis_server(tmp_path, "--rename-command", "MGET", "RENAMED") as server:
        with pytest.raises(errors.StoreError, match="unknown command") as caught:
            RedisStore(server.url).load(KEY)
        assert KEY in str(caught.value.__cause__)
        assert KEY not in str(caught.value)


def test_a_late_response_is_not_taken_for_the_next_one(own_redis: RedisServer):
    """S62: the timeout of a gunicorn worker raises SystemExit, possibly in the middle of a read."""
    store = RedisStore(own_redis.url)
    store.create(KEY, record(b"first"))
    store.create(OTHER, record(b"second"))

    def stop(*_: object) -> None:
        raise SystemExit

    usual = signal.signal(signal.SIGALRM, stop)
    try:
        own_redis.signal(signal.SIGSTOP)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(SystemExit):
            store.load(KEY)
    finally:
        signal.signal(signal.SIGALRM, usual)
        own_redis.signal(signal.SIGCONT)
    assert store.load(OTHER) == b"second"


# Connections


def test_the_number_of_connections_is_limited(one_redis: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(redis_servers._POOL_OPTIONS, "max_connections", 2)
    store = RedisStore(redis_url)
    store.create(KEY, record(b"0"))
    with one_redis.client as client, ThreadPoolExecutor(8) as threads:
        before = client.info("stats")["total_connections_received"]
        for done in [threads.submit(store.load, KEY) for _ in range(200)]:
            assert done.result() == b"0"
        assert client.info("stats")["total_connections_received"] - before <= 2


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="needs the timers of Linux")
def test_an_idle_connection_is_kept_alive(own_redis: RedisServer):
    """Load balancers forget idle connections after some minutes: Azure after 4, AWS after 6."""
    store = RedisStore(own_redis.url)
    store.check()
    connections = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    [timer] = [
        fields[5] for fields in connections if fields[2] == f"0100007F:{own_redis.port:04X}" and fields[3] == "01"
    ]
    kind, hundredths = timer.split(":")
    assert (kind, int(hundredths, 16) <= 60 * 100) == ("02", True)  # the timer of keepalive packets


def test_an_unused_store_has_no_connection(own_redis: RedisServer):
    """S61: a store that was created before the fork is all that --preload shares with the workers."""
    with own_redis.client as client:
        client.ping()
        before = client.info("stats")["total_connections_received"]
        store = RedisStore(own_redis.url)
        assert client.info("stats")["total_connections_received"] == before
        assert store.load(KEY) is None
        assert client.info("stats")["total_connections_received"] == before + 1


def test_after_a_fork_parent_and_child_use_different_connections(own_redis: RedisServer):
    """S61: even if the store was used before."""
    script = """
import os, json
store = RedisStore(sys.argv[1])
store.create(KEY, record(b"0"))
mine = store._servers.client.client_id()
read, write = os.pipe()
if os.fork() == 0:
    for _ in range(100):
        store.update(KEY, lambda data: record(b"%d" % (int(data) + 1)))
    os.write(write, b"%d" % store._servers.client.client_id())
    os._exit(0)
os.close(write)
for _ in range(100):
    store.update(KEY, lambda data: record(b"%d" % (int(data) + 1)))
theirs = int(os.read(read, 100))
os.wait()
print(json.dumps([mine, store._servers.client.client_id(), theirs, int(store.load(KEY))]))
"""
    process = in_a_process(script, own_redis.url)
    printed, _ = process.communicate(timeout=TIMEOUT)
    mine, still_mine, theirs, counted = json.loads(printed)
    assert (mine, counted) == (still_mine, 200)
    assert theirs != mine


# Passwords and TLS

PASSWORD = "correct/horse:battery@staple"
QUOTED = "correct%2Fhorse%3Abattery%40staple"


@pytest.fixture
def locked_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Start a server that requires a password."""
    with redis_server(tmp_path, "--requirepass", PASSWORD) as server:
        yield server


def test_a_password_is_used_and_never_shown(
    locked_redis: RedisServer, provider: LocalProvider, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG")
    url = locked_redis.url.replace("//", f"//:{QUOTED}@")
    config = Config.from_environ(environ_for(provider, SESSION_STORE=url))
    store = RedisStore(config.session_store)
    store.check()
    shown = [repr(config), config.store_name, repr(store), repr(vars(store)), caplog.text]
    with pytest.raises(errors.StoreError) as caught:
        RedisStore(url.replace("horse", "donkey")).check()
    shown += [str(caught.value), str(caught.value.__cause__)]
    with pytest.raises(errors.StoreError) as caught:
        RedisStore(locked_redis.url).check()
    shown.append(str(caught.value))
    assert "invalid username-password pair" in str(shown)
    assert "Authentication required" in str(shown)
    assert "battery" not in str(shown)
    assert "staple" not in str(shown)


def test_the_documented_access_list_is_enough(one_redis: RedisServer, server: Any, store: RedisStore):
    document = HERE.parent.joinpath("docs", "operating.md").read_text()
    rules = re.search("`(~wsgi_oauth:.*?)`", document)
    assert rules
    server.execute_command("ACL", "SETUSER", "app", "on", ">secret", "-@all", *rules[1].split())
    limited = RedisStore(one_redis.url.replace("//", "//app:secret@"))
    limited.create(KEY, record())
    for operation in OPERATIONS.values():
        operation(limited)
    limited.load_all([KEY, OTHER])
    limited.time()
    limited.update(KEY, lambda data: record(data), move_to=OTHER)
    server.config_set("maxmemory", 10**9)
    server.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "signs users out" in next(limited.warnings())[0]
    finally:
        server.config_set("maxmemory", 0)
        server.config_set("maxmemory-policy", "noeviction")


def test_tls_requires_a_valid_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    authority = trustme.CA()
    certificates = {"good": authority.issue_cert("127.0.0.1"), "other": authority.issue_cert("elsewhere.example")}
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other-ca.pem")

    def answer(name: str, ca: str) -> str:
        certificates[name].private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{name}.pem")
        files = [str(tmp_path / f"{name}.pem")] * 2
        options = ("--tls-cert-file", files[0], "--tls-key-file", files[1], "--tls-auth-clients", "no")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / f"{ca}.pem"))
        with redis_server(tmp_path, *options, tls=True) as server:
            store = RedisStore(server.url)
            try:
                store.check()
            except errors.StoreError as error:
                return str(error)
            return "stored"

    assert answer("good", "ca") == "stored"
    assert "CERTIFICATE_VERIFY_FAILED" in answer("good", "other-ca")
    assert "CERTIFICATE_VERIFY_FAILED" in answer("other", "ca")


def test_a_server_can_require_a_certificate_of_the_client(tmp_path: Path, provider: LocalProvider):
    """Redis does by default with TLS (tls-auth-clients)."""
    authority = trustme.CA()
    paths = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "server", "client", "key")}
    authority.cert_pem.write_to_path(paths["ca"])
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(paths["server"])
    client = authority.issue_cert("wsgi-oauth.example")
    client.cert_chain_pems[0].write_to_path(paths["client"])
    client.private_key_pem.write_to_path(paths["key"])
    options = ("--tls-cert-file", paths["server"], "--tls-key-file", paths["server"], "--tls-ca-cert-file", paths["ca"])
    with redis_server(tmp_path, *options, tls=True) as server:
        url = f"{server.url}?ssl_ca_certs={paths['ca']}"
        assert "?ssl_certfile=" in store_finding(provider, url).remedy
        url += f"&ssl_certfile={paths['client']}&ssl_keyfile={paths['key']}"
        assert store_finding(provider, url).level == "ok"
        assert store_finding(provider, url.replace("key.pem", "client.pem")).level == "FAIL"  # not a key


# Configuration


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6379/0",
        "rediss://redis.example:6380/15",
        "redis://:password@10.0.0.1/1",
        "redis://user:pass%40word@[::1]:6379/",
        "rediss://default:password@redis.example:6380?ssl_cert_reqs=required",
        "rediss://redis.example/?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/etc/ssl/redis.pem",
        "rediss://redis.example?ssl_certfile=/etc/ssl/client.pem",
        "redis+sentinel://one.example,[::1]:26380,10.0.0.1/my-service.1",
        "rediss+sentinel://user:password@one.example:26379/service/15",
        "redis+cluster://one.example",
        "rediss+cluster://:password@one.example:6379,two.example:6379/0",
    ],
)
def test_valid_urls_are_accepted(provider: LocalProvider, url: str):
    assert Config.from_environ(environ_for(provider, SESSION_STORE=url)).session_store == url


@pytest.mark.parametrize(
    "url",
    [
        "redis:",
        "redis://",
        "redis://:secret@/0",
        "redis://:secret@host:port",
        "redis://:secret@host:0/",
        "redis://:secret@host:99999",
        "redis://:secret@host/name",
        "redis://:secret@host/0?socket_timeout=3600",
        "redis://:secret@host/0#1",
        "redis://:secret/with/slashes@host/0",
        "redis://:secret@host,other/0",
        "rediss://:secret@host/0?ssl_cert_reqs=required&socket_timeout=1",
        "redis:secret@host",
        "rediss:/:secret@host/0",
        "reddis://:secret@host/0",
    ],
)
def test_invalid_urls_are_rejected_without_showing_the_password(provider: LocalProvider, url: str):
    with pytest.raises(
        errors.ConfigError, match=r"^WSGI_OAUTH_SESSION_STORE: must be .*redis://host:port/db"
    ) as caught:
        Config.from_environ(environ_for(provider, SESSION_STORE=url))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://:secret@host",
        "redis+sentinel://:secret@host/service/name",
        "redis+sentinel://:secret@one:1,/service",
        "redis+sentinel://:secret@one:1,:two/service",
        "redis+cluster://:secret@host/1",
        "redis+cluster://:secret@host:0",
        "redis+cluster://",
    ],
)
def test_invalid_urls_of_several_servers_are_rejected(provider: LocalProvider, url: str):
    form = url.partition(":")[0].replace("+", r"\+")
    with pytest.raises(errors.ConfigError, match=f"^WSGI_OAUTH_SESSION_STORE: must be {form}://host:port,") as caught:
        Config.from_environ(environ_for(provider, SESSION_STORE=url))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["none", "None", "CERT_NONE", "optional", "CERT_OPTIONAL", ""])
def test_certificates_are_always_verified(provider: LocalProvider, value: str):
    """Some hosted providers document URLs that turn the verification off."""
    url = f"rediss://:secret@redis.example:6380/0?ssl_cert_reqs={value}"
    with pytest.raises(
        errors.ConfigError, match=r"^WSGI_OAUTH_SESSION_STORE: ssl_cert_reqs must be required.*add \?ssl_ca_certs="
    ) as caught:
        Config.from_environ(environ_for(provider, SESSION_STORE=url))
    assert "secret" not in str(caught.value)


def test_options_of_tls_without_tls_are_an_error(provider: LocalProvider):
    with pytest.raises(errors.ConfigError, match=r"ssl_cert_reqs has no effect without TLS \(got .*\); write rediss"):
        Config.from_environ(environ_for(provider, SESSION_STORE="redis://redis.example?ssl_cert_reqs=required"))


def test_a_missing_file_of_certificates_stops_the_start(provider: LocalProvider, tmp_path: Path):
    url = f"rediss://redis.example?ssl_ca_certs={tmp_path}/missing.pem"
    with pytest.raises(errors.ConfigError, match=r"missing\.pem"):
        create_app(Config.from_environ(environ_for(provider, SESSION_STORE=url)))


@pytest.mark.parametrize("url", ["redis+cluster://redis.example", "redis+sentinel://redis.example/service"])
def test_an_old_package_cannot_be_used_for_several_servers(monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setattr("redis.__version__", "6.4.0")
    with pytest.raises(errors.ConfigError, match="version 7 of the redis package"):
        RedisStore(url)


def test_a_missing_package_is_an_error_that_names_the_package(provider: LocalProvider, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    config = Config.from_environ(environ_for(provider, SESSION_STORE="redis://localhost"))
    with pytest.raises(errors.ConfigError, match=r"got 'import of redis halted.*pip install 'wsgi-oauth\[redis\]'"):
        create_app(config)


# The commands


def test_check_reports_a_missing_package_without_further_advice(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "redis", None)
    finding = store_finding(provider, "redis://localhost")
    assert (finding.level, finding.remedy) == ("FAIL", "pip install 'wsgi-oauth[redis]'")
    assert "need the redis package (got 'import of redis halted, None" in finding.text


def test_check_reports_whether_a_session_can_be_stored(locked_redis: RedisServer, provider: LocalProvider):
    masked = f"session store redis://***@127.0.0.1:{locked_redis.port}/0: "
    good, bad = (locked_redis.url.replace("//", f"//:{password}@") for password in (QUOTED, "wrong-password"))
    assert store_finding(provider, good) == Finding("ok", f"{masked}a session can be stored")
    finding = store_finding(provider, bad)
    assert finding.level == "FAIL"
    assert finding.text.startswith(masked)
    assert "correct user and password in the URL" in finding.remedy
    assert "rediss" in store_finding(provider, good.replace("redis://", "rediss://")).remedy
    locked_redis.stop()
    finding = store_finding(provider, good)
    assert finding.level == "FAIL"
    assert "refused" in finding.text


def test_check_warns_about_eviction(own_redis: RedisServer, provider: LocalProvider):
    with own_redis.client as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert store_finding(provider, own_redis.url).level == "ok"
        client.config_set("maxmemory", "100mb")
        finding = store_finding(provider, own_redis.url)
        assert (finding.level, "noeviction" in finding.remedy) == ("warn", True)
        client.config_set("maxmemory-policy", "noeviction")
        assert store_finding(provider, own_redis.url).level == "ok"


def test_the_sessions_command_works_on_redis(
    store: RedisStore, server: Any, make_browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    browser = make_browser()
    browser.sign_in()
    browser.profile()
    make_browser().start()
    monkeypatch.setattr(os, "environ", {"WSGI_OAUTH_SESSION_STORE": url_of(store)})
    assert main.main(["sessions", "count"]) == 0
    name, *counts = capsys.readouterr().out.splitlines()
    assert name == f"session store {url_of(store)}"
    assert [line.split()[-1] for line in counts] == ["1", "1", "0", "0"]
    assert main.main(["sessions", "sweep"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "expired sessions: 0 deleted, 2 other sessions left"
    assert main.main(["sessions", "end", "--user", "octocat"]) == 0
    assert capsys.readouterr().out.endswith(": 1 ended\n")
    assert browser.profile().status_int == 401


def test_the_sessions_command_reports_a_stopped_server_without_its_password(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    own_redis.stop()
    url = own_redis.url.replace("//", "//:secret@")
    monkeypatch.setattr(os, "environ", {"WSGI_OAUTH_SESSION_STORE": url})
    assert main.main(["sessions", "count"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"wsgi-oauth sessions: session store redis://***@127.0.0.1:{own_redis.port}/0: ")
    assert "refused" in error
    assert "secret" not in error


# Many workers

COUNTING_SITE = """
import os

from wsgi_oauth import Config, RequestHandler, create_app


class Count(RequestHandler):
    route = "/count"

    def get(self, request):
        request.session.change(lambda data: data.update(count=data.get("count", 0) + 1))
        request.session[f"seen {request.args['number']}"] = True
        return self.jsonify({"worker": os.getpid()})


class Seen(RequestHandler):
    route = "/seen"

    def get(self, request):
        return self.jsonify({"count": request.session["count"], "seen": sum("seen" in key for key in request.session)})


app = create_app(Config.from_environ(os.environ), handlers=[Count, Seen])
"""


@pytest.mark.parametrize("worker", ["gthread", "gevent"])
def test_workers_that_change_one_session_at_once_lose_nothing_and_reconnect(
    own_redis: RedisServer, provider: LocalProvider, tmp_path: Path, worker: str
):
    tmp_path.joinpath("counting_site.py").write_text(COUNTING_SITE)
    environ = environ_for(provider, SESSION_STORE=own_redis.url)
    options = ("--workers", "2", "--worker-class", worker, "--threads", "8", "--preload")
    if worker == "gevent":
        options = ("--workers", "2", "--worker-class", worker)
    with gunicorn(tmp_path, environ, *options, app="counting_site:app") as served:
        cookies = sign_in_at(served.url)

        def get(path: str) -> requests.Response:
            return requests.get(served.url + path, cookies=cookies, timeout=TIMEOUT, allow_redirects=False)

        answers: list[requests.Response] = []
        with ThreadPoolExecutor(16) as threads:
            for _ in poll(60):  # until both workers have answered, because one may have started later
                numbers = range(len(answers), len(answers) + 40)
                answers += threads.map(lambda number: get(f"/count?number={number}"), numbers)
                assert {answer.status_code for answer in answers} == {200}
                if len({answer.json()["worker"] for answer in answers}) == 2:
                    break
            else:
                pytest.fail("only one worker has answered")
        assert get("/seen").json() == {"count": len(answers), "seen": len(answers)}

        own_redis.stop()
        assert {get("/seen").status_code for _ in range(8)} == {503}
        own_redis.start()
        assert {get("/readyz").status_code for _ in range(8)} == {200}
        cookies = sign_in_at(served.url)
        assert get("/count?number=1").status_code == 200
        assert get("/seen").json() == {"count": 1, "seen": 1}


def url_of(store: RedisStore) -> str:
    return f"redis://127.0.0.1:{store._servers.client.connection_pool.connection_kwargs['port']}/0"
