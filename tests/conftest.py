"""Shared fixtures: a provider on a real socket, an application, a browser, stores and a real gunicorn."""

from __future__ import annotations

import compileall
import fcntl
import http.client
import importlib
import importlib.metadata
import io
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from wsgiref.validate import validator

import pytest
import redis
import requests
import requirements
import trustme
import webtest
from werkzeug import Response
from werkzeug.test import create_environ, run_wsgi_app

import wsgi_oauth
from wsgi_oauth import Config, FileStore, LoginRequired, MemoryStore, RequestHandler, SessionStore, create_app
from wsgi_oauth.cli import check
from wsgi_oauth.cli.finding import Finding
from wsgi_oauth.demo.fault_injection import Fault, FaultContext
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.sessions.redis import RedisStore

# Each server of Werkzeug reads the package's version from its files again.
importlib.metadata.version = cache(importlib.metadata.version)

HTML = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
JSON = {"Accept": "application/json"}

App = Callable[[Any, Any], Any]


def pytest_configure() -> None:
    """Set the profiles of hypothesis.

    It is imported here, because otherwise the processes that tests start would import it with this file, too.
    """
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "the same in every run",
        derandomize=True,
        database=None,
        deadline=None,  # because the duration of an example is irrelevant here
        max_examples=75,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.register_profile(
        "search", settings.get_profile("the same in every run"), derandomize=False, max_examples=5000
    )
    settings.load_profile("the same in every run")


def pytest_collection(session: pytest.Session) -> None:
    """Import a part of the test files first in each worker of pytest-xdist, if all tests run.

    pytest rewrites the assertions of a file when it is imported, and stores the result for the other workers, also with
    PYTHONDONTWRITEBYTECODE. Otherwise each of the workers would rewrite all files at the same time.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args != ["tests"]:
        return
    if worker["workerid"] == "gw0":  # for the processes that tests start
        compileall.compile_dir(Path(wsgi_oauth.__file__).parent, quiet=2)
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "dont_write_bytecode", False)
        for file in files[int(worker["workerid"][2:]) :: worker["workercount"]]:
            with suppress(Exception, pytest.skip.Exception):  # pytest reports the error when it collects the file
                importlib.import_module(file.stem)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List the requirements that this run has tested, unless -q is given. Append the outcomes to $TEST_OUTCOMES."""
    if path := os.environ.get("TEST_OUTCOMES"):
        ids = {
            outcome: [each.nodeid for each in terminalreporter.stats.get(outcome, [])]
            for outcome in ("passed", "skipped")
        }
        ids["passed"] += {id_.partition("::")[0] for id_ in ids["passed"]}  # a whole file can be skipped
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{outcome} {id_}\n" for outcome in ids for id_ in ids[outcome])
    if config.get_verbosity() < 0 or config.option.collectonly:
        return
    passed, failed = (
        [report.nodeid for report in terminalreporter.stats.get(outcome, []) if report.when == "call"]
        for outcome in ("passed", "failed")
    )
    if lines := list(requirements.report(passed, failed)):
        terminalreporter.section("requirements (docs/requirements.md)")
        terminalreporter.write_line("\n".join(lines))


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    """Start an authorization server on its own socket, one per test."""
    provider = LocalProvider()
    with serve_provider(provider):
        yield provider


@pytest.fixture
def issuer() -> Iterator[Any]:
    """Start an OpenID Connect provider on its own socket."""
    from openid import Issuer

    issuer = Issuer()
    with serve_provider(issuer):
        yield issuer


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Start a server that reads a request and then calls *answer* with the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        read_request(connection)
                        answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def read_request(connection: socket.socket) -> None:
    """Read the whole request: otherwise the kernel resets the connection on close and discards the answer."""
    received = connection.recv(65536)
    while b"\r\n\r\n" not in received and (part := connection.recv(65536)):
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    while length and len(body) < int(length[1]) and (part := connection.recv(65536)):
        body += part


@pytest.fixture(scope="session")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a CA bundle with one authority, and throw its private key away."""
    bundle = tmp_path_factory.mktemp("authority") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(bundle))
    return str(bundle)


@pytest.fixture(scope="session", autouse=True)
def small_ca_bundle(one_authority: str) -> Iterator[None]:
    """Use a tiny CA bundle in all tests, because each application loads one, and loading the system's is slow.

    Variables of this machine are removed, because they would take precedence.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("SSL_CERT_FILE", one_authority)
        yield


REDIS_SERVER = os.environ.get("TEST_REDIS_SERVER", "redis-server")  # or valkey-server


@dataclass
class RedisServer:
    """A Redis server on a free port without persistence."""

    folder: Path
    port: int
    options: tuple[str, ...] = ()
    tls: bool = False
    sentinel: str = ""  # the configuration of a Sentinel, which has no sessions
    host: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis{'s' if self.tls else ''}://{self.host}:{self.port}/0"

    @property
    def client(self) -> Any:
        """Open a new connection; the caller closes it."""
        return redis.Redis(self.host, self.port)

    def start(self) -> None:
        ports = ["--tls-port", str(self.port), "--port", "0"] if self.tls else ["--port", str(self.port)]
        where = ["--bind", self.host, *ports, "--dir", str(self.folder)]
        keeps_nothing = ["--save", "", "--appendonly", "no"]
        if self.sentinel:
            path = self.folder / f"{self.port}.conf"
            path.write_text(self.sentinel)
            where, keeps_nothing = [str(path), "--sentinel", *where], []
        self.process = subprocess.Popen(
            [REDIS_SERVER, *where, *keeps_nothing, *self.options], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while True:
            with suppress(OSError), socket.create_connection((self.host, self.port)):
                return
            assert self.process.poll() is None, "redis-server has not started"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def stop(self) -> None:
        """Kill the server, as a power failure would."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start one Chromium for all tests; yield its debugger's URL. Without Chromium, tests skip, and in CI they fail."""
    command = os.environ.get("TEST_CHROMIUM", "chromium")
    if shutil.which(command) is None:
        what = f"{command} is not installed (Debian: apt-get install chromium)"
        pytest.fail(what) if os.environ.get("CI") else pytest.skip(what)
    folder = tmp_path_factory.mktemp("chromium")
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={folder}")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([command, *options, *quiet, "about:blank"], stdout=log, stderr=log)
    port = folder / "DevToolsActivePort"
    deadline = time.monotonic() + 60
    while not (port.exists() and port.read_text().count("\n")):
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, "Chromium does not start"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port.read_text().splitlines()[0]}"
    process.terminate()
    process.wait(timeout=30)


@pytest.fixture(scope="module")
def connected_chromium(chromium: str) -> Iterator[Any]:
    """Connect Playwright to Chromium. It stops after each module, because its event loop would disturb other tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.connect_over_cdp(chromium)


@pytest.fixture
def page(connected_chromium: Any) -> Iterator[Any]:
    """Open a page of a new browser profile, without cookies (https://playwright.dev/python/docs/api/class-page)."""
    with connected_chromium.new_context(ignore_https_errors=True, locale="en-US") as context:
        context.set_default_timeout(30_000)
        yield context.new_page()


_own_ports: set[int] = set()


def free_port() -> int:
    """Return a port for a server that another process starts. No other test gets it until this process ends.

    The port is below those that the kernel assigns to connections, and a record lock reserves it for this process.
    """
    while (port := 20_000 + secrets.randbelow(12_000)) in _own_ports or not _reserve_port(port):
        pass
    _own_ports.add(port)
    return port


def _reserve_port(port: int) -> bool:
    with suppress(OSError), socket.create_server(("127.0.0.1", port)):
        fcntl.lockf(_port_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        return True
    return False


@cache
def _port_locks() -> int:
    """Open the file whose bytes are the locks of the ports. Closing it would release all locks of this process."""
    return os.open(Path(tempfile.gettempdir(), f"wsgi-oauth-test-ports-{os.getuid()}"), os.O_CREAT | os.O_RDWR)


@contextmanager
def redis_server(folder: Path, *options: str, tls: bool = False, sentinel: str = "") -> Iterator[RedisServer]:
    """Start a Redis server with *options*. Without redis-server on the machine the test is skipped, and fails in CI."""
    if shutil.which(REDIS_SERVER) is None:
        what = f"{REDIS_SERVER} is not installed (Debian: apt-get install redis-server)"
        pytest.fail(what) if os.environ.get("CI") else pytest.skip(what)
    server = RedisServer(folder, free_port(), options, tls, sentinel)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def one_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Start one Redis server for all tests that share it."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(one_redis: RedisServer) -> str:
    """Return the URL of the shared Redis server after emptying it."""
    with one_redis.client as client:
        client.flushall()
    return one_redis.url


@dataclass
class RedisCluster:
    """A cluster whose first server has a replica. Each of the masters has a third of the sessions."""

    masters: list[RedisServer]
    replica: RedisServer

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.masters)

    def wait_until(self, reached: Callable[[Any], bool]) -> None:
        """Return when *reached* is true for the clients of all running servers."""
        deadline = time.monotonic() + 30
        for server in (*self.masters, self.replica):
            if server.process:
                with server.client as client:
                    while not reached(client):
                        assert time.monotonic() < deadline, "the cluster does not reach this state"
                        time.sleep(0.02)


@contextmanager
def redis_cluster(folder: Path) -> Iterator[RedisCluster]:
    """Start three masters, and a replica that replaces the first master half a second after its failure."""
    with ExitStack() as stack:
        servers, buses = [], []
        for number in range(4):
            own_folder = folder / str(number)
            own_folder.mkdir()
            buses.append(free_port())
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "500", "--cluster-port", str(buses[-1]))
            more = ("--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no")
            servers.append(
                stack.enter_context(redis_server(own_folder, *options, *more, "--repl-diskless-sync-delay", "0"))
            )
        cluster = RedisCluster(servers[:3], servers[3])
        clients = [stack.enter_context(server.client) for server in servers]
        for number, client in enumerate(clients[:3]):
            slots = (number * 16384 // 3, (number + 1) * 16384 // 3 - 1)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", *slots)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server, bus in zip(servers[1:], buses[1:], strict=True):
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        cluster.wait_until(lambda client: client.cluster("INFO")["cluster_known_nodes"] == "4")
        clients[3].execute_command("CLUSTER", "REPLICATE", clients[0].execute_command("CLUSTER", "MYID"))
        cluster.wait_until(lambda client: client.cluster("INFO")["cluster_state"] == "ok")
        while not clients[0].role()[2]:
            time.sleep(0.02)
        yield cluster


@pytest.fixture(scope="session")
def one_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Start one cluster for all tests that share it and do not change it."""
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster_url(one_cluster: RedisCluster) -> str:
    """Return the URL of the shared cluster after emptying it."""
    for server in one_cluster.masters:
        with server.client as client:
            client.flushall()
    return one_cluster.url


# The implementations of a session store. TEST_STORES=file selects one of them, for a quick run.
STORES = os.environ.get("TEST_STORES", "memory file redis").split()


@pytest.fixture(params=STORES)
def every_store(request: pytest.FixtureRequest, tmp_path: Path) -> SessionStore:
    """Run the test once with each kind of store: only for behaviour in which stores can differ."""
    return new_store(request.param, request, tmp_path)


def new_store(kind: str, request: pytest.FixtureRequest, folder: Path) -> SessionStore:
    if kind == "redis":
        return RedisStore(request.getfixturevalue("redis_url"))
    if kind == "cluster":
        store = RedisStore(request.getfixturevalue("cluster_url"))
        request.addfinalizer(store._servers.client.disconnect_connection_pools)
        return store
    return MemoryStore() if kind == "memory" else FileStore(folder / "sessions")


@pytest.fixture
def store() -> SessionStore:
    """Return the store of the application under test."""
    return MemoryStore()


def environ_for(provider: LocalProvider, **settings: str) -> dict[str, str]:
    """Return the WSGI_OAUTH_* variables for *provider* plus *settings*: ``environ_for(provider, PUBLIC_URL="...")``."""
    variables = {
        "CLIENT_ID": provider.client_id,
        "CLIENT_SECRET": provider.client_secret or "",
        "AUTHORIZATION_URL": provider.authorization_url,
        "TOKEN_URL": provider.token_url,
        "PROFILE_URL": provider.profile_url,
        "ISSUER": provider.url,
        "SCOPE": "profile email",
        "SESSION_STORE": "memory:",
        "UPSTREAM_TIMEOUT": "10",
        **settings,
    }
    return {f"WSGI_OAUTH_{name}": value for name, value in variables.items()}


def store_finding(provider: LocalProvider, url: str) -> Finding:
    """Return the finding of ``wsgi-oauth check`` about the Redis server at *url*."""
    findings = check.findings(environ_for(provider, SESSION_STORE=url))
    [finding] = [each for each in findings if each.text.startswith("session store redis")]
    return finding


class Diary(RequestHandler):
    """Stores a private text in the session."""

    route = "/diary"

    def get(self, request: Any) -> Response:
        return self.jsonify(request.session.get("entry"))

    def post(self, request: Any) -> Response:
        request.session["entry"] = request.form["entry"]
        return self.jsonify(None)


def session_cookie(jar: CookieJar) -> str | None:
    """Return the value of the session cookie in *jar*; before the sign-in, that of the latest pending sign-in."""
    values = {cookie.name: cookie.value for cookie in jar if "wsgi_oauth" in cookie.name}
    names = sorted(values, key=lambda name: name.endswith("wsgi_oauth"))
    return values[names[-1]] if names else None


class Browser:
    """A browser with cookies. wsgiref and WebTest check on each request that the application obeys PEP 3333."""

    def __init__(self, app: Any, provider: LocalProvider, base: str = "http://localhost") -> None:
        self.provider = provider
        self.base = base
        parts = urlsplit(base)
        extra = {"HTTP_HOST": parts.netloc, "wsgi.url_scheme": parts.scheme, "REMOTE_ADDR": "127.0.0.1"}
        self.app = webtest.TestApp(validator(app), extra_environ=extra, lint=True)

    def get(self, url: str, headers: dict[str, str] | None = None, **kwargs: Any) -> webtest.TestResponse:
        """Navigate to a path or URL of the application. Redirects are not followed, and any status is accepted."""
        return self.app.get(self._local(url), headers={**HTML, **(headers or {})}, status="*", **kwargs)

    def post(self, url: str, headers: dict[str, str] | None = None, **kwargs: Any) -> webtest.TestResponse:
        return self.app.post(
            self._local(url), headers={**HTML, "Origin": self.base, **(headers or {})}, status="*", **kwargs
        )

    def start(self, next_url: str | None = None) -> str:
        """Start a sign-in; return the URL of the provider's authorization endpoint."""
        response = self.get("/" if next_url is None else f"/?next={requests.utils.quote(next_url, safe='')}")
        assert response.status_int == 302, response
        return response.location

    def consent(self, authorization_url: str, *, decision: str = "allow", fault: str = "", user: str = "") -> str:
        """Submit the provider's consent page as *user*; return the callback URL of its redirect."""
        parts = urlsplit(authorization_url)
        form = urlencode({"decision": decision, "fault": fault, "user": user})
        # http.client takes a third of the CPU time of requests.
        with closing(http.client.HTTPConnection(parts.netloc, timeout=10)) as connection:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", f"{parts.path}?{parts.query}", form, headers)
            answer = connection.getresponse()
            assert answer.status in {302, 303}, answer.read()
            return answer.headers["Location"]

    def callback_url(self, next_url: str | None = None, **consent: str) -> str:
        """Start a sign-in and consent; return the callback URL, which is not yet requested."""
        return self.consent(self.start(next_url), **consent)

    def sign_in(self, next_url: str | None = None) -> webtest.TestResponse:
        """Complete a sign-in; return the response of the callback."""
        response = self.get(self.callback_url(next_url))
        assert response.status_int == 303, response
        return response

    def share_cookies(self, other: Browser) -> Browser:
        """Use the cookies of *other* from now on, in the same browser, but for another configuration."""
        self.app.cookiejar = other.app.cookiejar
        return self

    def profile(self) -> webtest.TestResponse:
        """Request /profile as a program that wants JSON."""
        return self.get("/profile", headers=JSON)

    @property
    def cookie(self) -> str | None:
        """Return the value of the session cookie; before the sign-in, that of the pending sign-in."""
        return session_cookie(self.app.cookiejar)

    @property
    def cookie_header(self) -> str:
        """Return the Cookie header that this browser sends."""
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.app.cookiejar)

    def _local(self, url: str) -> str:
        parts = urlsplit(url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


@pytest.fixture
def make_browser(provider: LocalProvider, store: SessionStore) -> Callable[..., Browser]:
    """Create browsers for one application: ``make_browser()``, or with other settings and handlers.

    Call it twice with the same settings for two browsers of one application.
    """
    applications: dict[Any, Any] = {}

    def make(*, handlers: tuple[Any, ...] = (), base: str = "http://localhost", **settings: str) -> Browser:
        key = (handlers, tuple(sorted(settings.items())))
        if key not in applications:
            config = Config.from_environ(environ_for(provider, **settings))
            applications[key] = create_app(config, store=store, handlers=handlers)
        return Browser(applications[key], provider, base)

    return make


@pytest.fixture
def browser(make_browser: Callable[..., Browser]) -> Browser:
    return make_browser()


def parameters(url: str) -> dict[str, str]:
    """Return the query parameters of *url*, which may not repeat one."""
    found = parse_qs(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
    assert all(len(values) == 1 for values in found.values())
    return {name: values[0] for name, values in found.items()}


@pytest.fixture
def application(provider: LocalProvider, store: SessionStore) -> Any:
    """Return the application itself: ``send(application, "/")`` can send any bytes."""
    return create_app(Config.from_environ(environ_for(provider)), store=store)


def send(
    app: Any,
    path: str = "/",
    *,
    method: str = "GET",
    query: str = "",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    **environ: Any,
) -> Response:
    """Call *app* like a lenient server, which does not quote, check or correct anything.

    *path* and *query* are native strings of PEP 3333 (bytes as latin-1); *environ* wins over everything.
    """
    made = create_environ(base_url="http://localhost", method=method, input_stream=io.BytesIO(body))
    made.update(PATH_INFO=path, QUERY_STRING=query, REMOTE_ADDR="127.0.0.1")
    if body:
        made["CONTENT_LENGTH"] = str(len(body))
    for name, value in (headers or {}).items():
        made["HTTP_" + name.upper().replace("-", "_")] = value
    made.update({name.replace("__", "."): value for name, value in environ.items()})
    chunks, status, answered = run_wsgi_app(app, made, buffered=True)
    return Response(b"".join(chunks), status, answered)


def stored_sessions(store: SessionStore) -> list[dict[str, Any]]:
    """Return the data of each session in *store*."""
    return [json.loads(data)["data"] for key in store.keys() if (data := store.load(key)) is not None]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[[float], None]:
    """Advance the clock of this process: ``later(600)``."""
    passed, now = [0.0], time.time

    def forward(seconds: float) -> None:
        passed[0] += seconds
        if "store" in request.fixturenames:
            age(request.getfixturevalue("store"), seconds)

    monkeypatch.setattr(time, "time", lambda: now() + passed[0])
    return forward


def age(store: SessionStore, seconds: float) -> None:
    """Advance the clock of a store that has its own."""
    if isinstance(store, RedisStore):
        for name in store._servers.client.scan_iter():
            store._servers.client.pexpire(name, store._servers.client.pttl(name) - round(seconds * 1000))


@dataclass
class Gunicorn:
    """A gunicorn process that serves the application on a real socket."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def stop(self) -> str:
        """Stop gunicorn with SIGTERM; return its log."""
        self.process.terminate()
        self.process.wait(timeout=90)  # because a worker that misses the signal while it is forked is killed after 30 s
        return self.log.read_text()


@contextmanager
def gunicorn(
    tmp_path: Path,
    environ: dict[str, str],
    *options: str,
    app: str | None = "wsgi_oauth:get_app()",
    cwd: Path | None = None,
) -> Iterator[Gunicorn]:
    """Start gunicorn with *environ* and *options*, and wait until a worker answers or gunicorn has ended.

    The listening socket is created here and handed over, so that early connections wait instead of failing.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        port = listener.getsockname()[1]
        log = tmp_path / f"gunicorn-{port}.log"
        output = stack.enter_context(log.open("w"))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_OAUTH_")}
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "--bind",
            f"fd://{listener.fileno()}",
            "--no-control-socket",
            *options,
        ]
        process = stack.enter_context(
            subprocess.Popen(
                [*command, *([app] if app else [])],
                env={**clean, "PYTHONPATH": str(Path(__file__).parent.parent), "NO_PROXY": "127.0.0.1", **environ},
                pass_fds=[listener.fileno()],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd or tmp_path,
                text=True,
            )
        )
        try:
            server = Gunicorn(f"http{'s' * ('--certfile' in options)}://127.0.0.1:{port}", process, log)
            wait_until_it_answers(server)
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(timeout=90)
            except subprocess.TimeoutExpired:
                process.kill()


def sign_in_at(url: str) -> dict[str, str]:
    """Sign in like a browser; return the cookies."""
    with requests.Session() as browser:
        browser.headers.update({"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"})
        start = browser.get(url + "/", allow_redirects=False, timeout=30)
        consent = browser.post(start.headers["Location"], data={"decision": "allow"}, allow_redirects=False, timeout=30)
        assert browser.get(consent.headers["Location"], allow_redirects=False, timeout=30).status_code == 303
        return dict(browser.cookies)


def wait_until_it_answers(server: Gunicorn) -> None:
    """Return when a worker has answered a request, or when gunicorn has ended."""
    parts = urlsplit(server.url)

    def probe() -> None:
        connection = http.client.HTTPConnection(parts.netloc, timeout=90)
        if parts.scheme == "https":
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(parts.netloc, timeout=90, context=context)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/healthz", headers={"Connection": "close"})
            connection.getresponse().read()
        connection.close()

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    while thread.is_alive() and server.process.poll() is None:
        thread.join(0.02)


# -- real processes ----------------------------------------------------------------------------------------------------


WORKERS = {
    "sync": ("--worker-class", "sync"),
    "gthread": ("--worker-class", "gthread", "--threads", "8"),
    "gevent": ("--worker-class", "gevent"),
}


class Visitor:
    """A browser on a real socket, with cookies. Redirects are not followed, and any status is accepted."""

    def __init__(self, url: str, provider: LocalProvider, ca: str | None = None) -> None:
        self.url = url
        self.provider = provider
        self.web = requests.Session()
        self.web.trust_env = False
        self.web.verify = ca or True
        self.web.headers.update(HTML)

    def get(self, url: str, **headers: str) -> requests.Response:
        """Request a path or URL of the application."""
        whole = url if url.startswith("http") else self.url + url
        return self.web.get(whole, headers=headers, allow_redirects=False, timeout=60)

    def post(self, path: str, **headers: str) -> requests.Response:
        return self.web.post(
            self.url + path, headers={"Origin": self.url, **headers}, allow_redirects=False, timeout=60
        )

    def copy(self) -> Visitor:
        """Return another browser with the same cookies, for a concurrent request."""
        twin = Visitor(self.url, self.provider)
        twin.web.verify = self.web.verify
        twin.web.cookies.update(self.web.cookies)
        return twin

    def consent(self, authorization_url: str) -> str:
        """Submit the provider's consent page; return the callback URL of its redirect."""
        answer = self.web.post(authorization_url, data={"decision": "allow"}, allow_redirects=False, timeout=60)
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

    def callback_url(self, start: str = "/") -> str:
        response = self.get(start)
        assert response.status_code == 302, response.text
        return self.consent(response.headers["Location"])

    def sign_in(self) -> requests.Response:
        response = self.get(self.callback_url())
        assert response.status_code == 303, response.text
        return response

    def profile(self) -> requests.Response:
        return self.get("/profile", **JSON)

    @property
    def cookie(self) -> str | None:
        return session_cookie(self.web.cookies)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.web.close()


@dataclass
class Site:
    """A provider, a folder of sessions, and methods that serve and visit the application."""

    provider: LocalProvider
    folder: Path
    certificates: Certificates | None = None

    @property
    def sessions(self) -> Path:
        return self.folder / "sessions"

    @contextmanager
    def serve(
        self,
        *options: str,
        app: str | None = "wsgi_oauth:get_app()",
        cwd: Path | None = None,
        **settings: str,
    ) -> Iterator[Gunicorn]:
        """Start gunicorn, with TLS if there are certificates."""
        environ = environ_for(self.provider, SESSION_STORE=f"file:{self.sessions}", **settings)
        if self.certificates:
            options = (*options, "--certfile", self.certificates.chain, "--keyfile", self.certificates.key)
            environ["REQUESTS_CA_BUNDLE"] = self.certificates.ca
        with gunicorn(self.folder, environ, *options, app=app, cwd=cwd) as server:
            yield server

    def visitor(self, server: Gunicorn) -> Visitor:
        return Visitor(server.url, self.provider, self.certificates and self.certificates.ca)

    def stored(self) -> list[dict[str, object]]:
        """Return the data of all session files; all files in the folder must be complete sessions."""
        files = list(self.sessions.iterdir())
        assert all(re.fullmatch(r"[0-9a-f]{64}\.json", file.name) for file in files), files
        return [json.loads(file.read_text())["data"] for file in files]


@dataclass
class Certificates:
    """The files of a server certificate for loopback, issued by a private authority."""

    ca: str
    chain: str
    key: str

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


class Barrier:
    """Requests that have reached the provider and are answered after ``open()``."""

    def __init__(self) -> None:
        self._arrivals = threading.Semaphore(0)
        self._opened = threading.Event()
        self.open = self._opened.set
        self.answer: Response | None = None  # replaces the provider's own answer
        self.ports: list[int] = []  # the client's ports

    def wait_for(self, requests_: int) -> None:
        """Return when *requests_* more requests have arrived."""
        for _ in range(requests_):
            assert self._arrivals.acquire(timeout=60), "the request did not reach the provider"

    def act(self, context: FaultContext) -> object:
        self.ports.append(int(context.environ["REMOTE_PORT"]))
        self._arrivals.release()
        assert self._opened.wait(120)
        return self.answer or context.normal_response()


def at_the_same_time(function: Callable[..., requests.Response], copies: list[tuple]) -> list[requests.Response]:
    """Call *function* with each of *copies* in threads that start together."""
    together = threading.Barrier(len(copies))

    def call(arguments: tuple) -> requests.Response:
        together.wait(60)
        return function(*arguments)

    with ThreadPoolExecutor(len(copies)) as threads:
        return list(threads.map(call, copies))


def get_and_close(visitor: Visitor, url: str) -> requests.Response:
    with visitor:
        return visitor.get(url, Connection="close")


def until(said: str, server: Gunicorn, times: int = 1) -> str:
    """Wait until gunicorn's log matches *said* for the *times*-th time; return the last group, or the whole match."""
    deadline = time.monotonic() + 60
    while len(found := list(re.finditer(said, server.log.read_text()))) < times:
        assert time.monotonic() < deadline, f"gunicorn never said {said!r}:\n{server.log.read_text()}"
        time.sleep(0.02)
    return found[times - 1][found[times - 1].re.groups]


def secrets_of(provider: LocalProvider, *session_ids: str | None) -> set[str]:
    """Return every secret in the exchanges between provider and application, and *session_ids*."""
    found = {provider.client_secret, *session_ids}
    for exchange in provider.exchanges:
        sent_back = exchange.response_headers.get("Location", "")
        for parameters_ in (urlsplit(exchange.url).query, urlsplit(sent_back).query, exchange.body):
            given = parse_qs(parameters_)
            found.update(*(given.get(name, []) for name in ("state", "code", "code_verifier", "refresh_token")))
        found.update(exchange.headers.get("Authorization", "").split()[1:])
        found.update(re.findall(r'_token": "([^"]+)"', exchange.response_body))
    return {secret for secret in found if secret}


def assert_keeps_secrets(text: str, secrets: set[str]) -> None:
    assert len(secrets) > 3, "the canaries themselves are missing"
    leaks = [line for line in text.splitlines() if any(secret in line for secret in secrets)]
    assert not leaks


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server.private_key_pem.write_to_path(folder / "key.pem")
    for pem in server.cert_chain_pems:
        pem.write_to_path(folder / "chain.pem", append=True)
    return Certificates(str(folder / "ca.pem"), str(folder / "chain.pem"), str(folder / "key.pem"))


@pytest.fixture
def site(provider: LocalProvider, tmp_path: Path) -> Site:
    """Serve application and provider over plain http on loopback."""
    return Site(provider, tmp_path)


@pytest.fixture
def secure_site(certificates: Certificates, tmp_path: Path) -> Iterator[Site]:
    """Serve application and provider over TLS, with a private CA."""
    provider = LocalProvider()
    with serve_provider(provider, ssl_context=certificates.context()):
        yield Site(provider, tmp_path, certificates)


@pytest.fixture
def barrier_of() -> Iterator[Callable[[LocalProvider, str], Barrier]]:
    """Delay a provider's answers at an endpoint: ``barrier_of(provider, "token")``."""
    barriers: list[tuple[LocalProvider, Barrier]] = []

    def put(provider: LocalProvider, endpoint: str) -> Barrier:
        barrier, name = Barrier(), f"{endpoint}.waits"
        barriers.append((provider, barrier))
        fault = Fault(name, "delays its answers until the test goes on", barrier.act)
        provider.faults.register(fault)
        provider.faults.add(name, times=None)
        return barrier

    yield put
    for provider, barrier in barriers:
        provider.faults.clear()
        barrier.open()


@pytest.fixture
def barrier(provider: LocalProvider, barrier_of: Callable[[LocalProvider, str], Barrier]) -> Callable[[str], Barrier]:
    """Delay the provider's answers at an endpoint: ``barrier("token")``."""
    return partial(barrier_of, provider)


class Application:
    """The protected application: it records the environ of each request and responds with ``answer``."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.answer: App = Response("inside")

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.seen.append(environ)
        return self.answer(environ, start_response)

    @property
    def environ(self) -> dict[str, Any]:
        """Return the environ of the last request."""
        return self.seen[-1]


class Guest(Browser):
    """A browser for an application behind a gate."""

    def __init__(self, gate: LoginRequired, provider: LocalProvider) -> None:
        super().__init__(gate, provider)
        self.gate = gate

    def sign_in(self, path: str = "/page") -> webtest.TestResponse:
        """Request *path*, follow the redirects through the provider, and return the page."""
        response = self.get(path)
        assert response.status_int == 302, response
        started = self.get(response.location)
        done = self.get(self.consent(started.location))
        assert done.status_int == 303, done
        return self.get(done.location)


@pytest.fixture
def inside() -> Application:
    return Application()


@pytest.fixture
def make_gate(provider: LocalProvider, store: SessionStore, inside: Application) -> Callable[..., LoginRequired]:
    """Create a gate around ``inside``: ``make_gate(public=["/static"], PUBLIC_URL="https://...")``."""

    def make(*, app: Any = inside, **arguments: Any) -> LoginRequired:
        settings = {name: value for name, value in arguments.items() if name.isupper()}
        options = {name: value for name, value in arguments.items() if not name.isupper()}
        config = Config.from_environ(environ_for(provider, **settings))
        return LoginRequired(app, create_app(config, store=store), **options)

    return make


@pytest.fixture
def visitor(make_gate: Callable[..., LoginRequired], provider: LocalProvider) -> Guest:
    """Return a browser for a gate with two public paths."""
    return Guest(make_gate(public=["/", "/static"]), provider)


@pytest.fixture
def signed_in(visitor: Guest, inside: Application) -> Guest:
    assert visitor.sign_in().text == "inside"
    inside.seen.clear()
    return visitor
