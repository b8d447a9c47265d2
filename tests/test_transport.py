"""The transport over real sockets: deadlines, size limits, connections, proxies, TLS and redirects.

A provider that is slow, broken or hostile costs bounded time and memory, and error messages contain no URL.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme
import urllib3
from conftest import Browser, environ_for, free_port
from fixed_server import answering
from werkzeug import Request, Response

from wsgi_oauth import Config, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import Server, serve, serve_provider
from wsgi_oauth.oauth.client import OAuth2Session
from wsgi_oauth.oauth.configured import provider_from_config
from wsgi_oauth.transport.deadline import MAX_IDLE
from wsgi_oauth.transport.pool import Transport
from wsgi_oauth.urls import have_same_origin

MIB = 1 << 20
GENEROUS = 5.0  # seconds: more than a deadline of one second takes on a busy machine
TOKEN = {"access_token": "token-canary", "token_type": "Bearer"}
PROXY_VARIABLES = [f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")]
CA_VARIABLES = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"]

Talk = Callable[[socket.socket], None]
MakeClient = Callable[..., OAuth2Session]


@pytest.fixture(autouse=True)
def clean_environment(one_authority: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the proxy and CA settings of this machine; each test sets those that it needs."""
    for name in [*PROXY_VARIABLES, *map(str.upper, PROXY_VARIABLES), *CA_VARIABLES, "NETRC"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", one_authority)


@pytest.fixture
def make_transport() -> Iterator[Callable[..., Transport]]:
    """Make transports whose connections are closed at the end of the test."""
    made: list[Transport] = []

    def make(timeout: float = 10.0) -> Transport:
        made.append(Transport(timeout))
        return made[-1]

    yield make
    for transport in made:
        with suppress(errors.ConfigError):
            transport.close()


@pytest.fixture
def make_client(make_transport: Callable[..., Transport]) -> MakeClient:
    """Make clients with a token that no provider has issued, by default each with a transport of its own."""

    def make(timeout: float = 10.0, *, transport: Transport | None = None, **settings: str) -> OAuth2Session:
        config = Config.from_environ(environ_for(LocalProvider(), **settings))
        provider = provider_from_config(config.providers[0])
        transport = transport or make_transport(timeout)
        return OAuth2Session(provider, "demo-client", "secret-canary", transport, token=dict(TOKEN))

    return make


def exchange(client: OAuth2Session, url: str) -> dict[str, Any]:
    return client.fetch_token(url, code="code-canary", code_verifier="verifier-canary")


@contextmanager
def talking(talk: Talk, host: str = "127.0.0.1") -> Iterator[int]:
    """Run a TCP server that calls *talk* with each connection in a thread of its own; give its port."""
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve_one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            talk(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threads.append(threading.Thread(target=serve_one, args=(connection,), daemon=True))
                threads[-1].start()

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(5)
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(5)


def read_head(connection: socket.socket) -> bytes:
    """Read the head of a request; return nothing when the client has closed the connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def dribble(connection: socket.socket, byte: bytes = b"x") -> None:
    """Send a byte now and then until the client gives up, at most for twice as long as a test may take."""
    until = time.monotonic() + 2 * GENEROUS
    while time.monotonic() < until:
        if select.select([connection], [], [], 0.1)[0] and not connection.recv(1024):
            return
        connection.sendall(byte)


def responding(*parts: bytes) -> Talk:
    """Read a request, send *parts*, and close the connection."""

    def talk(connection: socket.socket) -> None:
        read_head(connection)
        for part in parts:
            connection.sendall(part)

    return talk


@contextmanager
def in_time() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < GENEROUS


def run(script: str, *arguments: str, **environ: str) -> str:
    """Run *script* in a new Python process; return its output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_OAUTH_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env={**clean, "PYTHONPATH": str(Path(__file__).parent.parent), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


ASK = """
import os, sys, threading
from wsgi_oauth import errors
from wsgi_oauth.oauth.client import OAuth2Session
from wsgi_oauth.oauth.presets import GITHUB
from wsgi_oauth.transport.pool import Transport

transport = Transport(20)

def ask(url=sys.argv[1]):
    return OAuth2Session(GITHUB, "id", "secret", transport, token={"access_token": "x"}).get(url)
"""


# Deadlines: wall clock, for the whole request (S24)


@pytest.mark.parametrize("fault", ["slow", "dribble_headers", "dribble_body"])
def test_slow_provider_is_given_up_at_the_deadline(
    fault: str, provider: LocalProvider, make_client: MakeClient
) -> None:
    provider.faults.add(f"profile.{fault}", times=None)
    with in_time(), pytest.raises(errors.ProviderTimeout):
        make_client(0.4).get(provider.profile_url)
    assert provider.count("profile") == 1  # no second attempt after the deadline


def test_request_can_have_a_shorter_timeout(provider: LocalProvider, make_client: MakeClient) -> None:
    provider.faults.add("profile.dribble_headers")
    with in_time(), pytest.raises(errors.ProviderTimeout):
        make_client(60).get(provider.profile_url, timeout=0.5)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"x")[:10]


@pytest.mark.parametrize(
    ("head", "byte"),
    [
        pytest.param(b"", b"H", id="status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n", id="headers"),
        pytest.param(CHUNKED, b"1\r\nx\r\n", id="chunks"),
        pytest.param(CHUNKED + b"0", b"0", id="size of a chunk"),
        pytest.param(CHUNKED + b"0\r\n", b"a: b\r\n", id="trailers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", b"x", id="body without a length"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="endless continue"),
        pytest.param(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", id="endless hints"),
        pytest.param(GZIP, b"\0", id="gzip body"),
    ],
)
def test_deadline_covers_every_part_of_a_response(head: bytes, byte: bytes, make_client: MakeClient) -> None:
    """The timeout of a socket applies to one read, and each read gets its byte in time."""

    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(head)
        dribble(connection, byte)

    with talking(talk) as port, in_time(), pytest.raises(errors.ProviderError):
        make_client(0.4).get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("greeting", [b"", b"\x16\x03\x03\x40\x00"], ids=["silent", "dribbling"])
def test_deadline_covers_the_tls_handshake(greeting: bytes, make_client: MakeClient) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(greeting)
        dribble(connection, greeting and b"\0")

    with talking(talk) as port, in_time(), pytest.raises(errors.ProviderTimeout):
        make_client(0.4).get(f"https://127.0.0.1:{port}/")


@contextmanager
def full_backlog() -> Iterator[int]:
    """Give a port at which connection attempts get no answer."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield listener.getsockname()[1]


def resolve(monkeypatch: pytest.MonkeyPatch, addresses: list[tuple[str, int]]) -> None:
    """Let the host name ``provider.test`` have these addresses."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **keywords: Any) -> Any:
        if host in {"provider.test", b"provider.test"}:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        return real(host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.skipif(sys.platform != "linux", reason="on other systems a full backlog refuses connections")
def test_all_addresses_of_a_host_share_one_deadline(monkeypatch: pytest.MonkeyPatch, make_client: MakeClient) -> None:
    with full_backlog() as port:
        resolve(monkeypatch, [("127.0.0.1", port)] * 20)
        with in_time(), pytest.raises(errors.ProviderTimeout):
            make_client(0.4).get("https://provider.test/")


def test_next_address_is_tried_after_one_that_refuses(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, tls: TLS
) -> None:
    tls.trust()
    with socket.socket() as closed, answering('{"here": true}', ssl_context=tls.server("provider.test")) as server:
        closed.bind(("127.0.0.1", 0))  # without listen()
        resolve(monkeypatch, [("127.0.0.1", closed.getsockname()[1]), ("127.0.0.1", server.port)])
        assert make_client().get_json("https://provider.test/") == {"here": True}


@pytest.mark.skipif(sys.platform != "linux", reason="on other systems a full backlog refuses connections")
def test_next_address_is_tried_after_one_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, tls: TLS
) -> None:
    """For example broken IPv6 beside working IPv4."""
    tls.trust()
    with full_backlog() as port, answering('{"here": true}', ssl_context=tls.server("provider.test")) as server:
        resolve(monkeypatch, [("127.0.0.1", port), ("127.0.0.1", server.port)])
        assert make_client(2).get_json("https://provider.test/") == {"here": True}


@pytest.mark.parametrize(
    ("timeout", "outcome"),
    [((0.1, 0.1), errors.ProviderTimeout), ((None, 0.1), errors.ProviderTimeout), ((None, None), None), (None, None)],
    ids=str,
)
def test_pair_of_timeouts_counts_as_their_sum(
    timeout: Any, outcome: type[Exception] | None, make_client: MakeClient
) -> None:
    """In requests a pair is for connecting and for each read."""
    expected = pytest.raises(outcome) if outcome else nullcontext()
    with redirecting(lambda server: f"{server.url}/end", pause=0.5) as server, expected:
        make_client().get(f"{server.url}/start", timeout=timeout)


def test_timeout_of_another_type_is_refused(make_client: MakeClient) -> None:
    with pytest.raises(TypeError, match="must be a number of seconds"):
        make_client().get("https://a.example/", timeout=urllib3.Timeout(1))


# Size: at most 1 MiB after decompression, and constant memory (S25)


def padded(size: int) -> bytes:
    return b'{"padding": "' + b"a" * (size - 15) + b'"}'


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("identity", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress)],
    ids=["identity", "gzip", "deflate"],
)
@pytest.mark.parametrize(("size", "fits"), [(MIB, True), (MIB + 1, False), (5 * MIB, False)])
def test_response_of_more_than_one_mebibyte_is_refused(
    size: int, fits: bool, encoding: str, encode: Callable[[bytes], bytes], make_client: MakeClient
) -> None:
    headers = {} if encoding == "identity" else {"Content-Encoding": encoding}
    with answering(encode(padded(size)), headers=headers) as server:
        if fits:
            assert len(make_client().get_json(f"{server.url}/")["padding"]) == size - 15
        else:
            with pytest.raises(errors.ProviderError, match=r"larger than .*let it send less"):
                make_client().get(f"{server.url}/")


@pytest.mark.parametrize(
    ("status", "name", "value"),
    [
        (403, "cf-mitigated", "challenge"),
        (202, "x-amzn-waf-action", "challenge"),
        (405, "x-amzn-waf-action", "captcha"),
    ],
)
def test_challenge_of_a_firewall_is_no_response_of_the_provider(
    status: int, name: str, value: str, make_client: MakeClient
) -> None:
    """Otherwise a 403 would count as the provider's refusal, and the log would suggest more scopes."""
    with (
        answering("<title>Just a moment...</title>", status, {name: value}) as server,
        pytest.raises(errors.ProviderFailed, match="the firewall of") as caught,
    ):
        make_client().get(f"{server.url}/")
    assert "admit the requests of this machine" in caught.value.remedy


def test_wrong_declaration_of_the_compression_names_its_remedy(make_client: MakeClient) -> None:
    with (
        answering("{}", headers={"Content-Encoding": "gzip"}) as server,
        pytest.raises(errors.ProviderError, match="correct Content-Encoding"),
    ):
        make_client().get(f"{server.url}/")


def test_compression_that_was_not_requested_is_named(make_client: MakeClient) -> None:
    """Some content delivery networks compress for all clients alike."""
    with (
        answering(b"\x8b\x02\x80{}\x03", headers={"Content-Encoding": "br"}) as server,
        pytest.raises(errors.ProviderError, match="encoding br, which was not requested"),
    ):
        make_client().get_json(f"{server.url}/")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b" \n", "an empty body"),
        (b")]}'\n{}", "Expecting value at character 0"),
        (b'{"id": 1}<!-- canary -->', "Extra data at character 9"),
        (b'{"id": NaN}', "NaN"),
        (b'{"id": "\xff"}', "invalid at byte 8"),
    ],
)
def test_answer_that_is_no_json_names_the_reason_without_its_content(
    body: bytes, reason: str, make_client: MakeClient
) -> None:
    """The content type is often the right one, and the body can contain tokens."""
    with answering(body) as server, pytest.raises(errors.ProviderError, match=reason) as caught:
        make_client().get_json(f"{server.url}/")
    assert "canary" not in str(caught.value)


def test_endless_response_is_refused(make_client: MakeClient) -> None:
    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with talking(talk) as port, in_time(), pytest.raises(errors.ProviderError, match="larger"):
        make_client(30).get(f"http://127.0.0.1:{port}/")


MEASURE_MEMORY = f"""{ASK}
import resource, tracemalloc
ask()  # now everything is loaded that the first request needs
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tracemalloc.start()
try:
    ask(sys.argv[2])
except errors.ProviderError as error:
    print(error)
print(tracemalloc.get_traced_memory()[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip"])
def test_decompression_bomb_does_not_fill_the_memory(encoding: str) -> None:
    """A hundred mebibytes from some kilobytes. Measured in a new process."""
    encode = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "gzip, gzip": lambda data: gzip.compress(gzip.compress(data)),
    }
    body = encode[encoding](padded(100 * MIB))
    with answering(body, headers={"Content-Encoding": encoding}) as server, answering() as harmless:
        message, peak, growth = run(MEASURE_MEMORY, f"{harmless.url}/", f"{server.url}/").splitlines()
    assert "larger" in message
    assert int(peak) < 8 * MIB
    assert int(growth) < 24 * MIB


# Connections


def test_no_connection_is_opened_in_steady_state(provider: LocalProvider, browser: Browser) -> None:
    """Neither for a profile nor for a callback."""
    browser.sign_in()
    browser.profile()
    callback = browser.callback_url()  # the user's browser has its own connections to the provider
    before = provider.server.connections
    assert browser.get(callback).status_int == 303
    for _ in range(10):
        assert browser.profile().status_int == 200
    assert provider.server.connections == before


def test_connection_is_kept_after_an_error_response(provider: LocalProvider, browser: Browser) -> None:
    browser.sign_in()
    browser.profile()
    before = provider.server.connections
    for fault in ("403", "429", "500", "html_200", "empty_200", "redirect_302"):
        provider.faults.add(f"profile.{fault}")
        browser.profile()
    assert provider.server.connections == before


def test_threads_share_the_connections(make_transport: Callable[..., Transport], make_client: MakeClient) -> None:
    workers, rounds = 8, 3
    all_in_use = threading.Barrier(workers, timeout=20)

    @Request.application
    def application(request: Request) -> Response:
        all_in_use.wait()
        return Response("{}")

    with serve(application) as server, ThreadPoolExecutor(workers) as threads:
        transport = make_transport()
        for _ in range(rounds):
            clients = [make_client(transport=transport) for _ in range(workers)]
            assert all(threads.map(lambda client: client.get(f"{server.url}/").ok, clients))
            assert server.connections == workers


FIRST_USE = f"""{ASK}
import time
from wsgi_oauth import Config
from wsgi_oauth.oauth.discovery import Discovery
from wsgi_oauth.oauth.configured import provider_from_config

config = Config(client_id="id", client_secret="secret", provider=sys.argv[1], session_store="memory:")
discovery = Discovery(provider_from_config(config.providers[0]), config.providers[0], transport.share())
barrier, failures = threading.Barrier(8), []

def first_use():
    barrier.wait()
    try:
        with transport.slot():
            assert ask().ok
        assert discovery.provider().token_url == sys.argv[1] + "/token_endpoint"
    except BaseException as error:
        failures.append(repr(error))

sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=first_use) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(failures)
"""


def test_first_use_by_eight_threads_at_once_succeeds(one_authority: str) -> None:
    """In a new process, with a switch interval of one microsecond."""

    @Request.application
    def issuer(request: Request) -> Response:
        url = request.host_url.rstrip("/")
        endpoints = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint")
        return Response(json.dumps({"issuer": url, **{name: f"{url}/{name}" for name in endpoints}}))

    with serve(issuer) as server:
        for _ in range(3):
            assert run(FIRST_USE, server.url, SSL_CERT_FILE=one_authority).strip() == "[]"


def test_clients_share_no_cookie_token_or_setting(
    make_transport: Callable[..., Transport], make_client: MakeClient
) -> None:
    with answering(headers={"Set-Cookie": "a=b; Path=/"}) as server:
        transport = make_transport()
        first, second = make_client(transport=transport), make_client(transport=transport)
        first.requests_session.headers["X-Mine"] = "yes"
        first.get(f"{server.url}/")
        second.get(f"{server.url}/", withhold_token=True)
        one, other = server.requests
        assert (one.headers["Authorization"], one.headers["X-Mine"]) == ("Bearer token-canary", "yes")
        assert not {"Authorization", "Cookie", "X-Mine"} & set(other.headers.keys())
        assert server.connections == 1


@pytest.mark.parametrize(
    ("url", "target"), [("", "/"), ("?fields=id,name", "/?fields=id,name"), ("/a%20b;c?d=e%2Ff", "/a%20b;c?d=e%2Ff")]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_url_is_requested_exactly_as_configured(url: str, target: str, host: str, make_client: MakeClient) -> None:
    with answering('{"id": 1}', host=host) as server:
        endpoint = server.url + url
        client = make_client(PROFILE_URL=endpoint, TOKEN_URL=endpoint, AUTHORIZATION_URL=endpoint)
        assert client.get_user_document() == {"id": 1}
        [request] = server.requests
        assert request.environ["RAW_URI"] == target
        assert re.fullmatch(r"wsgi-oauth/[0-9.]+ \(\+https://\S+\)", request.headers["User-Agent"])


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_connection_that_the_provider_closed_is_replaced(method: str, make_client: MakeClient) -> None:
    """The provider keeps the connection, as usual in HTTP/1.1, and closes it after a while."""
    seen: list[bytes] = []
    closed = threading.Semaphore(0)
    answered = threading.Semaphore(0)
    token = json.dumps({"access_token": "new", "token_type": "Bearer"}).encode()

    def talk(connection: socket.socket) -> None:
        seen.append(read_head(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(token), token))
        answered.acquire(timeout=5)
        connection.shutdown(socket.SHUT_RDWR)
        closed.release()

    with talking(talk) as port:
        client = make_client()
        for _ in range(3):
            if method == "GET":
                assert client.get(f"http://127.0.0.1:{port}/").status_code == 200
            else:
                exchange(client, f"http://127.0.0.1:{port}/")
            answered.release()
            assert closed.acquire(timeout=5)
    assert [head.split()[0].decode() for head in seen] == [method] * 3


@pytest.mark.parametrize("fault", ["hang_up", "reset"])
def test_get_is_repeated_once_when_the_connection_breaks(
    fault: str, provider: LocalProvider, make_client: MakeClient
) -> None:
    client = make_client()
    provider.faults.add(f"profile.{fault}")
    assert client.get(provider.profile_url).status_code == 401
    assert provider.count("profile") == 2
    provider.faults.add(f"profile.{fault}", times=None)
    with pytest.raises(errors.ProviderUnreachable):
        client.get(provider.profile_url)
    assert provider.count("profile") == 4


def test_exception_that_is_handled_meanwhile_is_no_cause_of_a_failure(
    provider: LocalProvider, make_client: MakeClient
) -> None:
    """A rejected token is refreshed, and keys are fetched again, while an exception is handled."""
    client = make_client()
    provider.faults.add("profile.reset")
    try:
        raise PermissionError(errno.EACCES, "of a file")
    except PermissionError:
        assert client.get(provider.profile_url).status_code == 401
        with pytest.raises(errors.ProviderUnreachable) as caught:
            client.get(f"http://127.0.0.1:{free_port()}/")
    assert provider.count("profile") == 2
    assert "ConnectionRefusedError" in caught.value.detail
    assert "whether the server is running" in caught.value.remedy


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EACCES, "SELinux: setsebool -P httpd_can_network_connect on"),
        (errno.EPERM, "systemd: IPAddressAllow="),
        (errno.EMFILE, "raise the limit of open files"),
        (errno.ECONNREFUSED, "whether the server is running"),
    ],
)
def test_connection_that_this_machine_does_not_permit_names_the_remedy(
    code: int, remedy: str, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(errors.ProviderUnreachable) as caught:
        make_client().get("http://127.0.0.1:9/")
    assert remedy in (caught.value.remedy or "")


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(b"\0\0\x12\4\0\0\0\0\0", "it does not begin as HTTP/1.1", id="HTTP/2"),
        pytest.param(b"\x15\3\1\0\2\2\x46", "it does not begin as HTTP/1.1", id="alert of TLS"),
        pytest.param(OK + b"a: b\r\n" * 101 + b"\r\n", "or more than 100", id="many headers"),
        pytest.param(OK + b"Garbage\r\n\r\n", "its headers are malformed", id="malformed header"),
        pytest.param(OK + b"a: " + b"b" * 65536 + b"\r\n\r\n", "more than 65536 bytes", id="long header"),
        pytest.param(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "contradictory", id="two lengths"),
        pytest.param(OK + b"Content-Length: 9\r\n\r\n{}", "it ends too early", id="short body"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "it ends too early", id="no last chunk"),
    ],
)
def test_answer_that_is_no_http_names_the_reason(answer: bytes, reason: str, make_client: MakeClient) -> None:
    """The remedy is neither to start the server nor to open the firewall."""

    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(answer)

    with talking(talk) as port, pytest.raises(errors.ProviderUnreachable, match=f"is not valid: .*{reason}") as caught:
        make_client().get(f"http://127.0.0.1:{port}/")
    assert "HTTP/1.1 is needed" in (caught.value.remedy or "")


@pytest.mark.parametrize("warm", [True, False], ids=["pooled connection", "new connection"])
@pytest.mark.parametrize("fault", ["hang_up", "reset", "hang_up_in_headers", "cut_body"])
def test_post_is_never_repeated(fault: str, warm: bool, provider: LocalProvider, make_client: MakeClient) -> None:
    """A provider that sees an authorization code twice should revoke the token (RFC 6749 4.1.2)."""
    client = make_client()
    if warm:
        assert client.get(provider.profile_url).status_code == 401
    provider.faults.add(f"token.{fault}", times=None)
    with pytest.raises(errors.ProviderError):
        exchange(client, provider.token_url)
    assert provider.count("token") == 1


@pytest.mark.parametrize("fault", ["hang_up_in_headers", "cut_body", "dribble_body", "huge_json"])
def test_connection_is_not_reused_after_a_failure(fault: str, provider: LocalProvider, make_client: MakeClient) -> None:
    """Otherwise the rest of one user's response would be the beginning of another's."""
    client = make_client(0.4 if fault.startswith("dribble") else 10)
    provider.faults.add(f"profile.{fault}")
    with suppress(errors.ProviderError):
        client.get(provider.profile_url)
    assert client.get(provider.profile_url).json() == {"message": "Bad credentials"}
    assert provider.server.connections == 2


@pytest.mark.parametrize("interim", ["102 Processing", "103 Early Hints", "104 Upload Resumption Supported"])
def test_interim_response_is_not_taken_for_the_response(interim: str, make_client: MakeClient) -> None:
    """Otherwise the connection's next request would get the response, perhaps with another user's token."""

    def talk(connection: socket.socket) -> None:
        while head := read_head(connection):
            path = head.split()[1]
            connection.sendall(f"HTTP/1.1 {interim}\r\nLink: </style.css>; rel=preload\r\n\r\n".encode() * 2)
            select.select([connection], [], [], 0.1)  # the response is late enough for a next request to come first
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    client = make_client()
    with talking(talk) as port:
        for path in ("/first", "/second"):
            response = client.get(f"http://127.0.0.1:{port}{path}")
            assert (response.status_code, response.text) == (200, path)


@pytest.mark.parametrize("clock", ["monotonic", "time"])
def test_connection_that_was_idle_for_a_minute_is_not_reused(
    clock: str, monkeypatch: pytest.MonkeyPatch, provider: LocalProvider, make_client: MakeClient
) -> None:
    """NAT devices and load balancers drop it, often without closing it; a POST would be lost.

    While a machine is suspended, only its wall clock goes on.
    """
    client = make_client()
    client.get(provider.profile_url)
    real = getattr(time, clock)
    monkeypatch.setattr(time, clock, lambda: real() + MAX_IDLE + 1)
    client.get(provider.profile_url)
    assert provider.server.connections == 2


FORK = f"""{ASK}
if sys.argv[2] == "used":
    ask()
child = os.fork()
if child == 0:
    ask()
    ask()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
ask()
"""


@pytest.mark.parametrize("parent", ["used", "unused"])
def test_child_process_inherits_no_connection(parent: str) -> None:
    """S61: for gunicorn's --preload. Two processes on one connection would receive each other's responses."""
    with answering() as server:
        run(FORK, f"{server.url}/", parent)
        assert server.connections == 2


WATCH_FIRST = f"""{ASK}
ask()
seen = []
watched = {{"os.putenv", "os.unsetenv", "open"}}
sys.addaudithook(lambda event, arguments: seen.append(event) if event in watched else None)
ask()
ask(sys.argv[1] + "another/path?query")
print(seen)
"""


def test_request_opens_no_file_and_changes_no_environment_variable() -> None:
    """oauthlib sets variables to accept plain http; other threads would see them."""
    with answering() as server:
        assert run(WATCH_FIRST, f"{server.url}/").strip() == "[]"


# Proxies


class Proxy:
    """A small proxy that supports CONNECT, and records the heads of all requests."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.greeting = b"HTTP/1.1 200 Connection established\r\n\r\n"
        self.dribbles = False
        self.url = ""

    def talk(self, connection: socket.socket) -> None:
        head = read_head(connection)
        if not head:
            return
        self.heads.append(head)
        if self.dribbles:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Dribble: ")
            dribble(connection)
            return
        method, target, _ = head.decode().split(" ", 2)
        if method != "CONNECT" or b" 200 " not in self.greeting:
            connection.sendall(self.greeting.replace(b" 200 ", b" 501 "))
            return
        host, _, port = target.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as upstream:
            connection.sendall(self.greeting)
            self._pump(connection, upstream)

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        while True:
            for source in select.select([one, other], [], [])[0]:
                data = source.recv(65536)
                if not data:
                    return
                (other if source is one else one).sendall(data)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    with talking(proxy.talk) as port:
        proxy.url = f"http://127.0.0.1:{port}"
        yield proxy


class TLS:
    """A certificate authority for a test, and server contexts with its certificates."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.authority = trustme.CA()
        self.bundle = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.bundle))
        self._monkeypatch = monkeypatch

    def server(self, *names: str, authority: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (authority or self.authority).issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
        return context

    def trust(self, variable: str = "REQUESTS_CA_BUNDLE") -> None:
        self._monkeypatch.setenv(variable, str(self.bundle))


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TLS:
    return TLS(tmp_path, monkeypatch)


@pytest.mark.parametrize("setting", ["HTTPS_PROXY=http://", "https_proxy=//", "ALL_PROXY=", "HTTPS_PROXY= http://"])
def test_https_requests_use_the_proxy_of_the_environment(
    setting: str, monkeypatch: pytest.MonkeyPatch, proxy: Proxy, tls: TLS, make_client: MakeClient
) -> None:
    tls.trust()
    variable, _, scheme = setting.partition("=")
    monkeypatch.setenv(variable, proxy.url.replace("http://", scheme))
    with answering('{"here": true}', ssl_context=tls.server()) as server:
        client = make_client()
        for _ in range(2):
            assert client.get_json(f"{server.url}/path?query") == {"here": True}
        assert server.connections == 1
    [head] = proxy.heads  # a single tunnel, and no secret outside it
    assert head.startswith(b"CONNECT 127.0.0.1:%d " % server.port)
    for secret in (b"canary", b"path", b"query", b"Authorization"):
        assert secret not in head


def test_proxy_can_be_a_host_name_without_a_scheme(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, tls: TLS, make_client: MakeClient
) -> None:
    """Otherwise urllib3 takes a name without dots for a scheme."""
    tls.trust()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http://127.0.0.1", "localhost"))
    with answering(ssl_context=tls.server()) as server:
        assert make_client().get(f"{server.url}/").ok
    assert len(proxy.heads) == 1


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_proxy_can_have_an_ipv6_address(
    scheme: str, monkeypatch: pytest.MonkeyPatch, tls: TLS, make_client: MakeClient
) -> None:
    tls.trust()
    with talking((Proxy() if scheme == "http" else SocksProxy()).talk, "::1") as port:
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://[::1]:{port}")
        with answering(ssl_context=tls.server("provider.test", "127.0.0.1")) as server:
            host = "127.0.0.1" if scheme == "http" else "provider.test"
            assert make_client().get(f"https://{host}:{server.port}/").ok


@pytest.mark.parametrize(
    "value",
    [
        "http://127.0.0.1:99999",
        "direct://",
        '"http://user:canary@proxy.test:3128"',
        "http://user:canary#1@proxy.test:3128",
        "http://CORP\\user:canary@proxy.test:3128",  # a user of a Windows domain
    ],
)
def test_invalid_proxy_is_named_with_its_remedy(
    value: str, monkeypatch: pytest.MonkeyPatch, make_client: MakeClient
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(errors.ProviderUnreachable, match="HTTPS_PROXY or ALL_PROXY: is not the URL") as caught:
        make_client().get("https://provider.test/")
    assert "http://proxy.example.com:3128" in caught.value.remedy
    assert "percent-encoded" in caught.value.remedy
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("407 Proxy Authentication Required", "user and password into HTTPS_PROXY"),
        ("407 Negotiate", "NTLM or Kerberos"),
        ("403 Forbidden host", "NO_PROXY"),
        ("503 Service Unavailable", "can resolve and reach"),  # Squid, for an unknown or unreachable host
    ],
)
def test_refusal_of_the_proxy_is_quoted_with_its_remedy(
    status: str, remedy: str, monkeypatch: pytest.MonkeyPatch, proxy: Proxy, make_client: MakeClient
) -> None:
    """S72"""
    proxy.greeting = f"HTTP/1.1 {status}\r\n\r\n".encode()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http://", "http://me:canary@"))
    with pytest.raises(errors.ProxyRefused) as refused:
        make_client().get_json("https://provider.invalid/user")
    number, _, reason = status.partition(" ")
    assert f'status {number} ("{reason}")' in str(refused.value)
    assert remedy in refused.value.remedy
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "example.com, 127.0.0.1", "*", "127.0.0.0/8", "127.1.2.3/8"])
def test_hosts_in_no_proxy_are_reached_directly(
    no_proxy: str, monkeypatch: pytest.MonkeyPatch, proxy: Proxy, tls: TLS, make_client: MakeClient
) -> None:
    tls.trust()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    with answering(ssl_context=tls.server()) as server:
        assert make_client().get(f"{server.url}/").ok
    assert proxy.heads == []


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("id.localhost", "*.localhost"),
        ("id.localhost", "a, *.LocalHost"),
        ("id.localhost", ".localhost"),
        ("id.localhost", "a.localhost id.localhost"),
        ("id.localhost", "localhost:1"),
        ("localhost", "localhost"),
        ("[::1]", "::/64"),
        ("[::1]", "[::1]"),
    ],
)
def test_no_proxy_can_have_the_forms_of_other_programs(
    host: str, no_proxy: str, monkeypatch: pytest.MonkeyPatch, proxy: Proxy, make_client: MakeClient
) -> None:
    """Java, Go and Node know names with an asterisk, networks of IPv6, and spaces as separators."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    with pytest.raises(errors.ProviderUnreachable):
        make_client().get(f"https://{host}:1/")
    assert proxy.heads == []


@pytest.mark.parametrize("no_proxy", ["", ",", ".", "*.", "a", "host", "ocalhost", "localhost:443", "127.0.0.1", "x*"])
def test_other_names_in_no_proxy_do_not_bypass_the_proxy(
    no_proxy: str, monkeypatch: pytest.MonkeyPatch, proxy: Proxy, make_client: MakeClient
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    with pytest.raises(errors.ProviderUnreachable):
        make_client().get("https://localhost:1/")
    assert proxy.heads


def test_proxy_settings_are_read_once(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, tls: TLS, make_client: MakeClient
) -> None:
    """Reading the environment for each request would take longer than everything else."""
    tls.trust()
    with answering(ssl_context=tls.server(), headers={"Connection": "close"}) as server:
        direct = make_client()
        direct.get(f"{server.url}/")
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        direct.get(f"{server.url}/other")
        assert proxy.heads == []
        proxied = make_client()
        proxied.get(f"{server.url}/")
        monkeypatch.setenv("NO_PROXY", "*")
        proxied.get(f"{server.url}/other")
        assert len(proxy.heads) == 2


def test_plain_http_never_uses_a_proxy(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, provider: LocalProvider, make_client: MakeClient
) -> None:
    """Plain http is accepted on this machine, where nobody else can read it; a proxy could."""
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, proxy.url)
    make_client().get(provider.profile_url)
    assert proxy.heads == []
    assert provider.count("profile") == 1


def test_proxy_without_tls_needs_http_in_its_url(monkeypatch: pytest.MonkeyPatch, make_client: MakeClient) -> None:
    """Many write https:// because of the name of the variable."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with talking(talk) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{port}")
        with pytest.raises(errors.TlsFailed, match="the HTTP proxy in HTTPS_PROXY failed") as caught:
            make_client().get("https://provider.test/")
    assert "begin HTTPS_PROXY with http://" in caught.value.remedy


def test_error_about_a_proxy_does_not_contain_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, make_client: MakeClient
) -> None:
    proxy.greeting = b"HTTP/1.1 407 reason-canary\r\n\r\n"
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://user:password-canary@"))
    with pytest.raises(errors.ProviderUnreachable) as caught:
        make_client().get("https://provider.test/")
    assert b"Proxy-Authorization: Basic " in proxy.heads[0]
    assert "reason-canary" in str(caught.value)
    assert "password-canary" not in str(caught.value)


class SocksProxy:
    """A small SOCKS 5 proxy (RFC 1928) that leads every host name to this machine, and records the names."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.credentials = b""
        self.reply = b"\x05\x00\x00\x01" + bytes(6)
        self.dribbles = False
        self.address = ""

    def talk(self, connection: socket.socket) -> None:
        def read(count: int) -> bytes:
            return b"".join(connection.recv(1) for _ in range(count))

        methods = read(read(2)[1])
        if self.dribbles:
            connection.sendall(b"\x05\x00")
            read(5)
            connection.sendall(b"\x05\x00\x00\x03\xff")  # announces a host name of 255 characters
            dribble(connection)
            return
        if b"\x02" in methods:  # RFC 1929
            connection.sendall(b"\x05\x02")
            name = read(read(2)[1])
            self.credentials = name + b":" + read(read(1)[0])
            connection.sendall(b"\x01\x00")
        else:
            connection.sendall(b"\x05\x00")
        kind = read(4)[3]
        self.hosts.append(read(read(1)[0]).decode() if kind == 3 else socket.inet_ntoa(read(4)))
        port = int.from_bytes(read(2), "big")
        connection.sendall(self.reply)
        if self.reply[1] == 0:
            with socket.create_connection(("127.0.0.1", port)) as upstream:
                Proxy._pump(connection, upstream)


@pytest.fixture
def socks() -> Iterator[SocksProxy]:
    proxy = SocksProxy()
    with talking(proxy.talk) as port:
        proxy.address = f"127.0.0.1:{port}"
        yield proxy


class TestSocksProxy:
    """SOCKS proxies need the package PySocks."""

    @pytest.mark.parametrize("setting", ["HTTPS_PROXY=socks5h", "https_proxy=SOCKS5H", "ALL_PROXY=socks"])
    def test_receives_the_host_name_and_nothing_else(
        self,
        setting: str,
        monkeypatch: pytest.MonkeyPatch,
        socks: SocksProxy,
        tls: TLS,
        make_client: MakeClient,
    ) -> None:
        tls.trust()
        variable, _, scheme = setting.partition("=")
        monkeypatch.setenv(variable, f"{scheme}://{socks.address}")
        with answering('{"here": true}', ssl_context=tls.server("provider.test")) as server:
            client = make_client()
            for _ in range(2):
                assert client.get_json(f"https://provider.test:{server.port}/path") == {"here": True}
            assert server.connections == 1  # the connection is kept open
        assert socks.hosts == ["provider.test"]

    def test_receives_an_address_if_this_machine_resolves_the_name(
        self, monkeypatch: pytest.MonkeyPatch, socks: SocksProxy, tls: TLS, make_client: MakeClient
    ) -> None:
        tls.trust()
        monkeypatch.setenv("HTTPS_PROXY", f"socks5://{socks.address}")
        with answering(ssl_context=tls.server()) as server:
            assert make_client().get(f"{server.url}/").ok
        assert socks.hosts == ["127.0.0.1"]

    def test_receives_its_own_credentials(
        self, monkeypatch: pytest.MonkeyPatch, socks: SocksProxy, tls: TLS, make_client: MakeClient
    ) -> None:
        tls.trust()
        monkeypatch.setenv("HTTPS_PROXY", f"socks5h://user:pass%20word@{socks.address}")
        with answering(ssl_context=tls.server("provider.test")) as server:
            assert make_client().get(f"https://provider.test:{server.port}/").ok
        assert socks.credentials == b"user:pass word"

    def test_with_an_impostor_behind_it_receives_no_request(
        self, monkeypatch: pytest.MonkeyPatch, socks: SocksProxy, tls: TLS, make_client: MakeClient
    ) -> None:
        tls.trust()
        monkeypatch.setenv("HTTPS_PROXY", f"socks5h://{socks.address}")
        with answering(ssl_context=tls.server("other.test")) as server:
            with pytest.raises(errors.ProviderUnreachable, match="SSLCertVerificationError"):
                make_client().get(f"https://provider.test:{server.port}/")
            assert server.requests == []

    def test_that_dribbles_is_given_up_at_the_deadline(
        self, monkeypatch: pytest.MonkeyPatch, socks: SocksProxy, make_client: MakeClient
    ) -> None:
        """S24"""
        socks.dribbles = True
        monkeypatch.setenv("HTTPS_PROXY", f"socks5h://{socks.address}")
        with in_time(), pytest.raises(errors.ProviderTimeout):
            make_client(0.4).get("https://provider.test/")

    def test_that_refuses_is_described_without_its_password(
        self, monkeypatch: pytest.MonkeyPatch, socks: SocksProxy, make_client: MakeClient
    ) -> None:
        socks.reply = b"\x05\x02\x00\x01" + bytes(6)
        monkeypatch.setenv("HTTPS_PROXY", f"socks5h://user:password-canary@{socks.address}")
        with pytest.raises(errors.ProviderUnreachable, match="SOCKS proxy: 0x02: Connection not allowed") as caught:
            make_client().get("https://provider.test/")
        assert "canary" not in str(caught.value)

    def test_that_does_not_listen_is_a_provider_error(
        self, monkeypatch: pytest.MonkeyPatch, make_client: MakeClient
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", f"socks5h://127.0.0.1:{free_port()}")
        with pytest.raises(errors.ProviderUnreachable, match="ConnectionRefusedError"):
            make_client().get("https://provider.test/")

    def test_without_the_package_is_an_error_that_names_it(
        self, monkeypatch: pytest.MonkeyPatch, socks: SocksProxy, make_client: MakeClient
    ) -> None:
        monkeypatch.setitem(sys.modules, "wsgi_oauth.transport.socks_proxy", None)  # the import then fails
        monkeypatch.setenv("ALL_PROXY", f"socks5h://user:password-canary@{socks.address}")
        with pytest.raises(errors.ProviderUnreachable, match="pip install PySocks") as caught:
            make_client().get("https://provider.test/")
        assert "canary" not in str(caught.value)

    def test_is_not_needed_for_plain_http(
        self, monkeypatch: pytest.MonkeyPatch, provider: LocalProvider, make_client: MakeClient
    ) -> None:
        monkeypatch.setitem(sys.modules, "wsgi_oauth.transport.socks_proxy", None)
        monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:9")
        assert make_client().get(provider.profile_url).status_code == 401


def test_deadline_covers_the_response_of_a_proxy(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, make_client: MakeClient
) -> None:
    """S24: the response to CONNECT as well."""
    proxy.dribbles = True
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with in_time(), pytest.raises(errors.ProviderTimeout):
        make_client(0.4).get("https://provider.test/")


def test_tunnel_of_a_later_request_has_its_own_deadline(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, tls: TLS, make_client: MakeClient
) -> None:
    tls.trust()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with answering(ssl_context=tls.server(), headers={"Connection": "close"}) as server:
        client = make_client()
        assert client.get(f"{server.url}/", timeout=20).ok
        real = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: real() + 30)
        assert client.get(f"{server.url}/").ok
    assert len(proxy.heads) == 2


@pytest.mark.parametrize(("method", "secret"), [("post", "demo-secret"), ("none", None)])
def test_netrc_file_is_not_used(
    method: str, secret: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """requests would send a password from it in the Authorization header, even instead of the token."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password netrc-canary\ndefault login me password netrc-canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    provider = LocalProvider(client_secret=secret)
    with serve_provider(provider):
        browser = Browser(create_app(Config.from_environ(environ_for(provider, CLIENT_AUTH=method))), provider)
        browser.sign_in()
        assert browser.profile().json["login"] == "octocat"
    [token_request] = [seen for seen in provider.exchanges if seen.endpoint == "token"]
    assert "Authorization" not in token_request.headers


# TLS


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"])
def test_private_authority_of_the_environment_is_trusted(variable: str, tls: TLS, make_client: MakeClient) -> None:
    with answering(ssl_context=tls.server()) as server:
        with pytest.raises(errors.ProviderUnreachable, match="SSLCertVerificationError"):
            make_client().get(f"{server.url}/")
        tls.trust(variable)
        assert make_client().get(f"{server.url}/").ok


def test_folder_of_authorities_is_trusted(
    tls: TLS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_client: MakeClient
) -> None:
    try:
        command = ["openssl", "x509", "-hash", "-noout", "-in", str(tls.bundle)]
        name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the openssl command for the names of the files in such a folder")
    folder = tmp_path / "authorities"
    folder.mkdir()
    (folder / f"{name}.0").write_bytes(tls.bundle.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(folder))
    with answering(ssl_context=tls.server()) as server:
        assert make_client().get(f"{server.url}/").ok
    with answering(ssl_context=wrong_authority(tls)) as impostor, pytest.raises(errors.ProviderUnreachable):
        make_client().get(f"{impostor.url}/")


def test_folder_of_authorities_needs_the_names_of_openssl(
    tls: TLS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_client: MakeClient
) -> None:
    """A ConfigMap of Kubernetes has other names, and OpenSSL would ignore all of its files."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.bundle.parent))
    with pytest.raises(errors.ConfigError, match="run openssl rehash"):
        make_client().get("https://127.0.0.1:1/")


def test_requests_ca_bundle_takes_precedence(
    tls: TLS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_client: MakeClient
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    tls.trust("REQUESTS_CA_BUNDLE")
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    with answering(ssl_context=tls.server()) as server:
        assert make_client().get(f"{server.url}/").ok


def wrong_authority(tls: TLS) -> ssl.SSLContext:
    return tls.server(authority=trustme.CA())


def wrong_name(tls: TLS) -> ssl.SSLContext:
    return tls.server("elsewhere.example", "127.0.0.2")


def expired(tls: TLS) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = datetime.now(timezone.utc) - timedelta(days=1)
    tls.authority.issue_cert("127.0.0.1", not_before=past - timedelta(days=1), not_after=past).configure_cert(context)
    return context


def outdated_protocol(tls: TLS) -> ssl.SSLContext:
    context = tls.server()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def certificate_of_the_client_required(tls: TLS) -> ssl.SSLContext:
    context = tls.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # with TLS 1.3, the connection can end before the client knows
    return context


def name_without_certificate(tls: TLS) -> ssl.SSLContext:
    context = tls.server()
    context.sni_callback = lambda *_: ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    return context


@pytest.mark.parametrize(
    ("impostor", "remedy"),
    [
        (certificate_of_the_client_required, "requires none of its clients"),
        (name_without_certificate, "has a certificate for this host name"),
        (wrong_authority, "set REQUESTS_CA_BUNDLE"),
        (wrong_name, "a valid certificate for this host name"),
        (expired, "a valid certificate for this host name"),
        (outdated_protocol, "with TLS 1.2 or newer"),
    ],
)
def test_impostor_receives_no_request(
    impostor: Callable[[TLS], ssl.SSLContext], remedy: str, tls: TLS, make_client: MakeClient
) -> None:
    """S26. The failed handshake is not repeated either."""
    tls.trust()
    with answering(ssl_context=impostor(tls)) as server:
        with pytest.raises(errors.ProviderUnreachable, match=remedy):
            exchange(make_client(), f"{server.url}/token")
        with pytest.raises(errors.ProviderUnreachable):
            make_client().get(f"{server.url}/user")
        assert server.requests == []
        assert server.connections == 2


def test_ca_bundle_is_loaded_once(tls: TLS, make_client: MakeClient) -> None:
    """Loading takes longer than a whole request. Here the file is gone before the second connection."""
    tls.trust()
    with answering(ssl_context=tls.server(), headers={"Connection": "close"}) as server:
        client = make_client()
        client.get(f"{server.url}/")
        tls.bundle.unlink()
        for _ in range(3):
            assert client.get(f"{server.url}/").ok
        assert server.connections == 4


@pytest.mark.parametrize("contents", [None, "", "this is no certificate"])
def test_invalid_ca_bundle_is_a_configuration_error(contents: str | None, tls: TLS, make_client: MakeClient) -> None:
    tls.trust()
    tls.bundle.unlink()
    if contents is not None:
        tls.bundle.write_text(contents)
    with pytest.raises(errors.ConfigError, match=r"ca\.pem"):
        make_client().get("https://127.0.0.1:1/")


def test_key_log_that_cannot_be_written_is_not_called_a_ca_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_client: MakeClient
) -> None:
    """Programs that analyse TLS set this variable for all programs of a user."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "missing" / "keys"))
    with pytest.raises(errors.ConfigError, match="SSLKEYLOGFILE: cannot be written: No such file"):
        make_client().get("https://127.0.0.1:1/")


def test_verification_cannot_be_switched_off(tls: TLS, make_client: MakeClient) -> None:
    with answering(ssl_context=tls.server()) as server:
        client = make_client()
        with pytest.raises(TypeError, match="verify"):
            client.get(f"{server.url}/", verify=False)
        client.requests_session.verify = False
        with pytest.raises(errors.ProviderUnreachable, match="SSLCertVerificationError"):
            client.get(f"{server.url}/")
        assert server.requests == []


@pytest.mark.parametrize(
    "url",
    ["http://provider.example/", "http://127.0.0.1.example/", "ftp://127.0.0.1/", "//127.0.0.1/", "file:///etc/passwd"],
)
def test_secrets_are_sent_over_https_or_to_this_machine_only(url: str, make_client: MakeClient) -> None:
    """S29."""
    with pytest.raises(ValueError, match="https"):
        make_client().get(url)
    with pytest.raises(ValueError, match="https"):
        exchange(make_client(), url)


# Redirects (S23)


@contextmanager
def redirecting(to: Callable[[Server], str], status: int = 302, pause: float = 0) -> Iterator[Server]:
    """Serve a redirect at ``/start``, after *pause* seconds, and an empty document elsewhere."""
    seen: list[Request] = []

    @Request.application
    def application(request: Request) -> Response:
        request.get_data()
        seen.append(request)
        if request.path == "/start":
            time.sleep(pause)
            return Response(status=status, headers={"Location": to(server)})
        return Response("{}", content_type="application/json")

    with serve(application) as server:
        server.requests = seen
        yield server


METHODS = ("get", "head", "post", "put", "patch", "delete", "options")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed_by_default(status: int, make_client: MakeClient) -> None:
    with redirecting(lambda server: f"{server.url}/end", status) as server:
        client = make_client()
        for method in METHODS:
            assert getattr(client, method)(f"{server.url}/start").status_code == status
        assert [(request.method.lower(), request.path) for request in server.requests] == [
            (method, "/start") for method in METHODS
        ]


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (301, "PUT", "PUT"),
        (302, "POST", "GET"),
        (302, "HEAD", "HEAD"),
        (303, "PUT", "GET"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
    ],
)
def test_followed_redirect_repeats_the_body_or_becomes_a_get(
    status: int, method: str, then: str, make_client: MakeClient
) -> None:
    """RFC 9110 15.4, as requests and browsers do it. On the same origin the token is sent again."""
    body = None if method == "HEAD" else b"some data"
    with redirecting(lambda server: "/end?a=b", status) as server:
        make_client().request(method, f"{server.url}/start", body, allow_redirects=True)
        first, second = server.requests
        assert (second.method, second.full_path) == (then, "/end?a=b")
        assert second.get_data() == (first.get_data() if then == method else b"")
        assert second.headers["Authorization"] == "Bearer token-canary"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["another port", "another name"])
def test_redirect_to_another_origin_does_not_carry_the_token(host: str, make_client: MakeClient) -> None:
    with answering() as elsewhere, redirecting(lambda _: f"http://{host}:{elsewhere.port}/end") as server:
        client = make_client()
        client.get(f"{server.url}/start", allow_redirects=True, cookies={"a": "b"})
        [request] = elsewhere.requests
        assert not {"Authorization", "Cookie"} & set(request.headers.keys())


def test_origin_is_scheme_host_and_port() -> None:
    assert have_same_origin("https://a.example/", "https://A.example:443/b")
    assert not have_same_origin("https://a.example/", "http://a.example/")
    assert not have_same_origin("http://a.example/", "https://a.example/")
    assert not have_same_origin("https://a.example/", "https://a.example:444/")
    for url in ("null", "", "/path", "https://a.example:x/", "https://[a/"):
        assert not have_same_origin(url, url)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://[", "no secret"),
        ("ftp://127.0.0.1/", "no secret"),
        ("http://provider.example/", "no secret"),
        ("https://a:b:c/", "no secret"),
        ("https://nowhere.invalid/", "gaierror"),
        ("/start", "more than 30 times"),
    ],
)
def test_redirect_that_cannot_be_followed_is_a_provider_error(
    location: str, message: str, make_client: MakeClient
) -> None:
    response = b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location.encode()
    with talking(responding(response)) as port, in_time(), pytest.raises(errors.ProviderError, match=message):
        make_client(4).get(f"http://127.0.0.1:{port}/start", allow_redirects=True)


def test_followed_redirects_share_one_deadline(make_client: MakeClient) -> None:
    """S24: thirty redirects of a tenth of a second each."""
    with redirecting(lambda server: f"{server.url}/start", pause=0.1) as server:
        with in_time(), pytest.raises(errors.ProviderTimeout):
            make_client().get(f"{server.url}/start", allow_redirects=True, timeout=0.5)
        assert len(server.requests) < 10


# Error messages (S26)


def refused_port(stack: ExitStack) -> str:
    closed = stack.enter_context(socket.socket())
    closed.bind(("127.0.0.1", 0))
    return f"https://127.0.0.1:{closed.getsockname()[1]}"


def unknown_name(stack: ExitStack) -> str:
    return "https://unknown-host.invalid"


def impossible_name(stack: ExitStack) -> str:
    return f"https://{'impossible-name' * 10}.invalid"


def not_tls(stack: ExitStack) -> str:
    return stack.enter_context(answering()).url.replace("http:", "https:")


def serving(name: str, *parts: bytes) -> Callable[[ExitStack], str]:
    def trouble(stack: ExitStack) -> str:
        return f"http://127.0.0.1:{stack.enter_context(talking(responding(*parts)))}"

    trouble.__name__ = name
    return trouble


def provider_fault(name: str) -> Callable[[ExitStack], str]:
    def trouble(stack: ExitStack) -> str:
        provider = LocalProvider()
        server = stack.enter_context(serve_provider(provider))
        provider.faults.add(f"profile.{name}", times=None)
        return f"{server.url}/user"

    trouble.__name__ = name
    return trouble


MANY_HEADERS = b"".join(b"Header-Canary-%d: x\r\n" % number for number in range(5000))
TROUBLES = [
    refused_port,
    unknown_name,
    impossible_name,
    not_tls,
    serving("not_http", b"SSH-2.0-answer-canary\r\n"),
    serving("many_headers", b"HTTP/1.1 200 OK\r\n", MANY_HEADERS, b"\r\n"),
    serving("endless_header", b"HTTP/1.1 200 OK\r\nA: " + b"canary" * 100_000),
    *map(provider_fault, ["hang_up", "reset", "cut_body", "broken_gzip", "gzip_bomb", "hang_up_in_headers"]),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_error_contains_no_url_and_no_secret(trouble: Callable[[ExitStack], str], make_client: MakeClient) -> None:
    """The texts of requests' exceptions contain the whole URL, with its query, and would be logged."""
    with ExitStack() as stack:
        base = trouble(stack)
        url = f"{base.rstrip('/')}{'' if base.endswith('/user') else '/path-canary'}?code=query-canary"
        with in_time(), pytest.raises(errors.ProviderError) as caught:
            make_client(4).get_json(url)
    said = "".join(traceback.format_exception(caught.value)[-1:]) + repr(caught.value) + caught.value.detail
    for leak in ("canary", "://", "object at 0x", "HTTPConnectionPool"):
        assert leak not in said
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert caught.value.status == 502


def test_package_that_replaces_urllib3_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """urllib3-future has other classes, and the deadlines of this program would have no effect."""
    monkeypatch.setattr("urllib3.connection.HTTPConnection", object)
    with pytest.raises(errors.ConfigError, match="urllib3-future"):
        create_app(Config(client_id="x", client_secret="x", session_store="memory:"))
