"""How bytes travel to the provider: deadlines, limits, connections, proxies and TLS, over real sockets.

A provider that is slow, broken or hostile costs bounded time and bounded memory, and what is said of it names no URL.
"""

from __future__ import annotations

import copy
import gzip
import json
import os
import pickle
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
import urllib3
from conftest import Browser, environ_for
from oauthlib.oauth2 import WebApplicationClient
from werkzeug import Request, Response

from wsgi_oauth import Config, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import Server, serve, serve_provider
from wsgi_oauth.oauth.client import OAuth2Session
from wsgi_oauth.oauth.configured import provider_from_config
from wsgi_oauth.transport import transport as transport_module
from wsgi_oauth.transport.transport import Transport

MIB = 1 << 20
PLENTY = 5.0  # seconds: more than any deadline of one second may become on a busy machine
TOKEN = {"access_token": "token-canary", "token_type": "Bearer"}
PROXY_VARIABLES = [f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")]
CA_VARIABLES = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"]

Talk = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def nothing_from_this_machine(one_authority: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may need a proxy or a CA of their own; each test here says which it wants."""
    for name in [*PROXY_VARIABLES, *map(str.upper, PROXY_VARIABLES), *CA_VARIABLES, "NETRC"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", one_authority)


@pytest.fixture
def make_transport() -> Iterator[Callable[..., Transport]]:
    """Make transports whose connections are closed at the end."""
    made: list[Transport] = []

    def make(timeout: float = 10.0) -> Transport:
        made.append(Transport(timeout))
        return made[-1]

    yield make
    for transport in made:
        with suppress(errors.ConfigError):
            transport.adapter.close()


def client(transport: Transport, provider: LocalProvider | None = None, **settings: str) -> OAuth2Session:
    """A client with a token that no provider has given."""
    config = Config.from_environ(environ_for(provider or LocalProvider(), **settings))
    described = provider_from_config(config.providers[0])
    return OAuth2Session(described, "demo-client", "secret-canary", transport, token=dict(TOKEN))


def exchange(session: OAuth2Session, url: str) -> dict[str, Any]:
    return session.fetch_token(url, code="code-canary", code_verifier="verifier-canary")


@contextmanager
def answering(
    body: str | bytes = "{}",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> Iterator[Server]:
    """A server that gives one answer to everything; ``requests`` are those that it saw."""
    seen: list[Request] = []

    @Request.application
    def application(request: Request) -> Response:
        request.get_data()
        seen.append(request)
        return Response(body, status, headers, content_type="application/json")

    with serve(application, ssl_context=ssl_context, host=host) as server:
        server.requests = seen
        yield server


@contextmanager
def talking(talk: Talk) -> Iterator[int]:
    """A TCP server in which *talk* has each connection in a thread of its own; gives its port."""
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

    with socket.create_server(("127.0.0.1", 0)) as listener:
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
    """Read a request's head; empty when the client has gone."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def dribble(connection: socket.socket, byte: bytes = b"x") -> None:
    """Send a byte from time to time until the client has had enough, or for long enough to notice that it never has."""
    until = time.monotonic() + 2 * PLENTY
    while time.monotonic() < until:
        if select.select([connection], [], [], 0.1)[0] and not connection.recv(1024):
            return
        connection.sendall(byte)


@contextmanager
def in_time(limit: float = PLENTY) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit


# Deadlines: wall clock, for all of a request (S24)


@pytest.mark.parametrize("fault", ["slow", "dribble_headers", "dribble_body"])
@pytest.mark.parametrize("endpoint", ["token", "profile"])
def test_a_provider_that_takes_its_time_is_given_up(
    endpoint: str, fault: str, provider: LocalProvider, make_transport: Callable[..., Transport]
) -> None:
    session = client(make_transport(0.4), provider)
    provider.faults.add(f"{endpoint}.{fault}", times=None)
    with in_time(), pytest.raises(errors.ProviderTimeout):
        exchange(session, provider.token_url) if endpoint == "token" else session.get_json(provider.profile_url)
    assert provider.count(endpoint) == 1  # the time is over for a second attempt, too


def test_the_configured_time_is_for_the_whole_request(provider: LocalProvider, tmp_path: Path) -> None:
    """WSGI_OAUTH_UPSTREAM_TIMEOUT, from the environment to the socket."""
    app = create_app(
        Config.from_environ(environ_for(provider, UPSTREAM_TIMEOUT="1", SESSION_STORE=f"file:{tmp_path}/s"))
    )
    browser = Browser(app, provider)
    provider.faults.add("token.dribble_body")
    callback = browser.callback_url()
    with in_time():
        assert browser.get(callback).status_int == 504


def test_a_request_may_ask_for_less_time(provider: LocalProvider, make_transport: Callable[..., Transport]) -> None:
    session = client(make_transport(60), provider)
    provider.faults.add("profile.dribble_headers")
    with in_time(), pytest.raises(errors.ProviderTimeout):
        session.get(provider.profile_url, timeout=0.5)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "byte"),
    [
        pytest.param(b"", b"H", id="status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n", id="one header after the other"),
        pytest.param(CHUNKED, b"1\r\nx\r\n", id="chunks"),
        pytest.param(CHUNKED + b"0", b"0", id="size of a chunk"),
        pytest.param(CHUNKED + b"0\r\n", b"a: b\r\n", id="trailers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", b"x", id="a body without a length"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="continue, for ever"),
    ],
)
def test_wherever_a_provider_dribbles_the_time_ends(
    head: bytes, byte: bytes, make_transport: Callable[..., Transport]
) -> None:
    """A timeout of sockets is for one read, and each read gets its byte in time."""

    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(head)
        dribble(connection, byte)

    with talking(talk) as port, in_time(), pytest.raises(errors.ProviderError):
        client(make_transport(0.4)).get(f"http://127.0.0.1:{port}/")


def test_a_gzip_body_that_dribbles_is_given_up(make_transport: Callable[..., Transport]) -> None:
    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"x")[:10])
        dribble(connection, b"\0")

    with talking(talk) as port, in_time(), pytest.raises(errors.ProviderError):
        client(make_transport(0.4)).get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("greeting", [b"", b"\x16\x03\x03\x40\x00"], ids=["silent", "dribbling"])
def test_a_tls_handshake_that_never_ends_is_given_up(greeting: bytes, make_transport: Callable[..., Transport]) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(greeting)
        dribble(connection, greeting and b"\0")

    with talking(talk) as port, in_time(), pytest.raises(errors.ProviderTimeout):
        client(make_transport(0.4)).get(f"https://127.0.0.1:{port}/")


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port on which nobody answers a connection attempt."""
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
    """Let the name ``provider.test`` have these addresses."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **keywords: Any) -> Any:
        if host in {"provider.test", b"provider.test"}:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        return real(host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog refuses")
def test_all_addresses_of_a_name_share_one_deadline(
    monkeypatch: pytest.MonkeyPatch, make_transport: Callable[..., Transport]
) -> None:
    with full_backlog() as port:
        resolve(monkeypatch, [("127.0.0.1", port)] * 20)
        with in_time(), pytest.raises(errors.ProviderTimeout):
            client(make_transport(0.4)).get("https://provider.test/")


def test_an_address_that_refuses_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch, make_transport: Callable[..., Transport], tls: TLS
) -> None:
    tls.trust()
    with socket.socket() as closed, answering('{"here": true}', ssl_context=tls.server("provider.test")) as server:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        resolve(monkeypatch, [("127.0.0.1", closed.getsockname()[1]), ("127.0.0.1", server.port)])
        assert client(make_transport()).get_json("https://provider.test/") == {"here": True}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog refuses")
def test_an_address_that_is_silent_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch, make_transport: Callable[..., Transport], tls: TLS
) -> None:
    """Broken IPv6 beside working IPv4 is met every day."""
    tls.trust()
    with full_backlog() as port, answering('{"here": true}', ssl_context=tls.server("provider.test")) as server:
        resolve(monkeypatch, [("127.0.0.1", port), ("127.0.0.1", server.port)])
        assert client(make_transport(2)).get_json("https://provider.test/") == {"here": True}


# Size: 1 MiB after decompression, and memory stays flat (S25)


def padded(size: int) -> bytes:
    return b'{"padding": "' + b"a" * (size - 15) + b'"}'


def deflated(data: bytes) -> bytes:
    return zlib.compress(data)


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("identity", bytes), ("gzip", gzip.compress), ("deflate", deflated)],
    ids=["identity", "gzip", "deflate"],
)
@pytest.mark.parametrize(("size", "fits"), [(MIB, True), (MIB + 1, False), (5 * MIB, False)])
def test_an_answer_may_have_one_mebibyte_and_no_byte_more(
    size: int, fits: bool, encoding: str, encode: Callable[[bytes], bytes], make_transport: Callable[..., Transport]
) -> None:
    headers = {} if encoding == "identity" else {"Content-Encoding": encoding}
    with answering(encode(padded(size)), headers=headers) as server:
        session = client(make_transport())
        if fits:
            assert len(session.get_json(f"{server.url}/")["padding"]) == size - 15
        else:
            with pytest.raises(errors.ProviderError, match="larger"):
                session.get(f"{server.url}/")


def test_an_answer_without_end_is_refused_when_it_is_too_large(make_transport: Callable[..., Transport]) -> None:
    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with talking(talk) as port, in_time(), pytest.raises(errors.ProviderError, match="larger"):
        client(make_transport(30)).get(f"http://127.0.0.1:{port}/")


MEASURE = """
import resource, sys, tracemalloc
from wsgi_oauth import Config, create_app, errors
from wsgi_oauth.oauth.client import OAuth2Session
from wsgi_oauth.oauth.presets import GITHUB
from wsgi_oauth.transport.transport import Transport

def ask(url):
    try:
        OAuth2Session(GITHUB, "id", "secret", Transport(60), token={"access_token": "x"}).get(url)
    except errors.ProviderError as error:
        print(error)

ask(sys.argv[1])  # whatever is loaded at the first request is loaded
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tracemalloc.start()
ask(sys.argv[2])
print(tracemalloc.get_traced_memory()[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip"])
def test_a_bomb_of_a_hundred_mebibytes_leaves_memory_flat(encoding: str) -> None:
    """Some kilobytes on the wire. Measured in a process of its own."""
    bomb = {"gzip": gzip.compress, "deflate": deflated, "gzip, gzip": lambda data: gzip.compress(gzip.compress(data))}
    body = bomb[encoding](padded(100 * MIB))
    with answering(body, headers={"Content-Encoding": encoding}) as server, answering() as harmless:
        text = run(MEASURE, f"{harmless.url}/", f"{server.url}/")
    message, peak, growth = text.splitlines()
    assert "larger" in message
    assert int(peak) < 8 * MIB
    assert int(growth) < 24 * MIB


def run(script: str, *arguments: str, **environ: str) -> str:
    """Run *script* in a Python of its own; return what it prints."""
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


# Connections: kept, shared, mended


def test_in_steady_state_no_connection_is_opened(provider: LocalProvider, browser: Browser) -> None:
    """Neither for a profile nor for a sign-in: the provider saw this application before."""
    browser.sign_in()
    browser.profile()
    callback = browser.callback_url()  # the user's own browser has connections of its own
    before = provider.server.connections
    assert browser.get(callback).status_int == 303
    for _ in range(10):
        assert browser.profile().status_int == 200
    assert provider.server.connections == before


def test_a_refused_request_keeps_its_connection(provider: LocalProvider, browser: Browser) -> None:
    browser.sign_in()
    browser.profile()
    before = provider.server.connections
    for fault in ("403", "429", "500", "html_200", "empty_200", "redirect_302"):
        provider.faults.add(f"profile.{fault}")
        browser.profile()
    assert provider.server.connections == before


def test_threads_share_the_connections_that_there_are(make_transport: Callable[..., Transport]) -> None:
    workers, rounds = 8, 3
    together = threading.Barrier(workers)
    inside = threading.Barrier(workers, timeout=20)

    @Request.application
    def application(request: Request) -> Response:
        inside.wait()  # all of them are in use at once
        return Response("{}")

    with serve(application) as server:
        transport = make_transport()
        counts: set[int] = set()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(rounds):
                    together.wait(20)
                    client(transport).get(f"{server.url}/")
                    together.wait(20)
                    counts.add(server.connections)
            except BaseException as error:  # noqa: BLE001  # shown below
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert counts == {workers}


def test_nothing_of_one_request_is_left_for_the_next(make_transport: Callable[..., Transport]) -> None:
    """The connection is shared; cookies, token and headers are one session's own."""
    with answering(headers={"Set-Cookie": "a=b; Path=/"}) as server:
        transport = make_transport()
        first, second = client(transport), client(transport)
        first.headers["X-Mine"] = "yes"
        first.get(f"{server.url}/")
        second.get(f"{server.url}/", withhold_token=True)
        one, other = server.requests
        assert one.headers["Authorization"] == "Bearer token-canary"
        assert not {"Authorization", "Cookie", "X-Mine"} & set(other.headers.keys())
        assert server.connections == 1


def ask_for_the_user(transport: Transport, url: str) -> Any:
    """As the application itself asks."""
    return client(transport, PROFILE_URL=url, TOKEN_URL=url, AUTHORIZATION_URL=url).get_user_document()


def test_what_the_application_asks_and_what_a_page_asks_share_a_connection(
    make_transport: Callable[..., Transport], tls: TLS
) -> None:
    tls.trust()
    with answering(ssl_context=tls.server()) as server:
        transport = make_transport()
        with pytest.raises(errors.ProviderError):
            exchange(client(transport), f"{server.url}/token")
        ask_for_the_user(transport, f"{server.url}/user")
        client(transport).get(f"{server.url}/repos")
        assert (len(server.requests), server.connections) == (3, 1)


@pytest.mark.parametrize(
    ("url", "target"), [("", "/"), ("?fields=id,name", "/?fields=id,name"), ("/a%20b;c?d=e%2Ff", "/a%20b;c?d=e%2Ff")]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_endpoint_is_asked_for_as_it_is_configured(
    url: str, target: str, host: str, make_transport: Callable[..., Transport]
) -> None:
    with answering('{"id": 1}', host=host) as server:
        assert ask_for_the_user(make_transport(), server.url + url) == {"id": 1}
        [request] = server.requests
        assert request.environ["RAW_URI"] == target
        assert request.headers["Authorization"] == "Bearer token-canary"
        assert request.headers["User-Agent"].startswith("python-requests/")


def test_no_secret_goes_to_an_endpoint_without_tls(make_transport: Callable[..., Transport]) -> None:
    """S29: the configuration refuses such a URL, discovery does, and so does the last one who could."""
    with pytest.raises(ValueError, match="https only"):
        exchange(client(make_transport()), "http://provider.example/token")


def test_what_is_set_on_a_client_before_it_is_used_stays(make_transport: Callable[..., Transport]) -> None:
    with answering() as server:
        mine = client(make_transport())
        mine.auth, mine.max_redirects, mine.state = ("user", "password"), 3, "a-state"
        mine.get(f"{server.url}/", withhold_token=True)
        assert server.requests[0].authorization.username == "user"
        assert (mine.max_redirects, mine.state, mine.access_token) == (3, "a-state", TOKEN["access_token"])


@pytest.mark.parametrize("of", [copy.copy, lambda session: pickle.loads(pickle.dumps(session))], ids=["copy", "pickle"])
def test_a_copy_of_a_client_is_none_and_says_so(
    of: Callable[[Any], Any], make_transport: Callable[..., Transport]
) -> None:
    """requests copies what it knows of, and that is not all."""
    with pytest.raises(AttributeError):
        of(client(make_transport())).get("https://api.example.com/")


def test_a_client_that_another_thread_is_setting_up_is_whole_for_this_one(
    make_transport: Callable[..., Transport],
) -> None:
    fresh = client(make_transport())
    theirs = vars(fresh)["_client"] = WebApplicationClient("theirs", token={"access_token": "theirs"})
    assert fresh.compliance_hook["protected_request"] == set()
    assert (fresh._client, fresh.token["access_token"]) == (theirs, "theirs")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connection_that_the_provider_has_closed_meanwhile_is_replaced(
    method: str, make_transport: Callable[..., Transport]
) -> None:
    """It kept the connection, as HTTP/1.1 does, and closed it without a word when nothing came for a while."""
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
        session = client(make_transport())
        for _ in range(3):
            if method == "GET":
                assert session.get(f"http://127.0.0.1:{port}/").status_code == 200
            else:
                exchange(session, f"http://127.0.0.1:{port}/")
            answered.release()
            assert closed.acquire(timeout=5)
    assert [head.split()[0].decode() for head in seen] == [method] * 3


@pytest.mark.parametrize("fault", ["hang_up", "reset"])
def test_a_get_that_meets_a_dying_connection_is_sent_once_more(
    fault: str, provider: LocalProvider, make_transport: Callable[..., Transport]
) -> None:
    session = client(make_transport(), provider)
    assert session.get(provider.profile_url).status_code == 401  # the connection is there
    provider.faults.add(f"profile.{fault}")
    assert session.get(provider.profile_url).status_code == 401
    assert provider.count("profile") == 3


@pytest.mark.parametrize("fault", ["hang_up", "reset"])
def test_a_get_is_sent_no_more_than_twice(
    fault: str, provider: LocalProvider, make_transport: Callable[..., Transport]
) -> None:
    session = client(make_transport(), provider)
    provider.faults.add(f"profile.{fault}", times=None)
    with pytest.raises(errors.ProviderUnreachable):
        session.get(provider.profile_url)
    assert provider.count("profile") == 2


@pytest.mark.parametrize("warm", [True, False], ids=["kept connection", "new connection"])
@pytest.mark.parametrize("fault", ["hang_up", "reset", "hang_up_in_headers", "cut_body"])
def test_a_post_is_never_sent_twice(
    fault: str, warm: bool, provider: LocalProvider, make_transport: Callable[..., Transport]
) -> None:
    """A code is good for one use; a provider that saw it twice has to revoke what it gave (RFC 6749 4.1.2)."""
    session = client(make_transport(), provider)
    if warm:
        assert session.get(provider.profile_url).status_code == 401
    provider.faults.add(f"token.{fault}", times=None)
    with pytest.raises(errors.ProviderError):
        exchange(session, provider.token_url)
    assert provider.count("token") == 1


@pytest.mark.parametrize("fault", ["hang_up_in_headers", "cut_body", "dribble_body", "huge_json"])
def test_a_connection_on_which_something_went_wrong_is_not_used_again(
    fault: str, provider: LocalProvider, make_transport: Callable[..., Transport]
) -> None:
    """Or the rest of one user's answer would be the beginning of another's."""
    session = client(make_transport(0.4 if fault.startswith("dribble") else 10), provider)
    provider.faults.add(f"profile.{fault}")
    with suppress(errors.ProviderError):
        session.get(provider.profile_url)
    assert session.get(provider.profile_url).json() == {"message": "Bad credentials"}
    assert provider.server.connections == 2


def test_a_connection_that_was_idle_for_long_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, provider: LocalProvider, make_transport: Callable[..., Transport]
) -> None:
    """NAT and load balancers forget it, not always with a goodbye; a POST would be lost on it."""
    session = client(make_transport(), provider)
    session.get(provider.profile_url)
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + transport_module.IDLE + 1)
    session.get(provider.profile_url)
    assert provider.server.connections == 2


FORK = """
import os, sys
from wsgi_oauth.oauth.client import OAuth2Session
from wsgi_oauth.oauth.presets import GITHUB
from wsgi_oauth.transport.transport import Transport

transport = Transport(20)

def ask():
    assert OAuth2Session(GITHUB, "id", "secret", transport, token={"access_token": "x"}).get(sys.argv[1]).ok

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
def test_parent_and_child_of_a_fork_share_no_connection_and_no_lock(parent: str) -> None:
    """S61: under preload. Two processes that read one connection take each other's answers."""
    with answering() as server:
        run(FORK, f"{server.url}/", parent)
        assert server.connections == 2


# What the environment says: read once, and only what is documented


class Proxy:
    """A tiny proxy that knows CONNECT, and remembers what was said to it."""

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
    """A certificate authority of one's own, and what it issues."""

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


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_https_goes_through_the_proxy_of_the_environment(
    variable: str, monkeypatch: pytest.MonkeyPatch, proxy: Proxy, tls: TLS, make_transport: Callable[..., Transport]
) -> None:
    tls.trust()
    monkeypatch.setenv(variable, proxy.url)
    with answering('{"here": true}', ssl_context=tls.server()) as server:
        session = client(make_transport())
        assert session.get_json(f"{server.url}/path?query") == {"here": True}
        assert session.get_json(f"{server.url}/path?query") == {"here": True}
        assert server.connections == 1
        assert server.requests[0].headers["Authorization"] == "Bearer token-canary"
    [head] = proxy.heads  # one tunnel is enough, and nothing that matters is said outside it
    assert head.startswith(b"CONNECT 127.0.0.1:%d " % server.port)
    for secret in (b"canary", b"path", b"query", b"Authorization"):
        assert secret not in head


@pytest.mark.parametrize("scheme", ["http://", "//", ""])
def test_a_whole_sign_in_goes_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, tls: TLS, scheme: str
) -> None:
    tls.trust()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http://", scheme))
    monkeypatch.setenv("NO_PROXY", "elsewhere.example")
    provider = LocalProvider()
    with serve_provider(provider, ssl_context=tls.server()) as server:
        browser = Browser(create_app(Config.from_environ(environ_for(provider))), provider)
        browser.sign_in()
        assert browser.profile().json["login"] == "octocat"
        assert len(proxy.heads) == server.connections == 2  # the user's own browser has a proxy, too


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "example.com, 127.0.0.1", "*", "127.0.0.0/8"])
def test_no_proxy_names_what_is_reached_directly(
    no_proxy: str, monkeypatch: pytest.MonkeyPatch, proxy: Proxy, tls: TLS, make_transport: Callable[..., Transport]
) -> None:
    tls.trust()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    with answering(ssl_context=tls.server()) as server:
        assert client(make_transport()).get(f"{server.url}/").ok
    assert proxy.heads == []


def test_the_proxies_are_read_once(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, tls: TLS, make_transport: Callable[..., Transport]
) -> None:
    """Reading the environment for each request costs more than all the rest, and changes its meaning in the middle."""
    tls.trust()
    with answering(ssl_context=tls.server(), headers={"Connection": "close"}) as server:
        direct = make_transport()
        client(direct).get(f"{server.url}/")
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        client(direct).get(f"{server.url}/other")
        assert proxy.heads == []
        proxied = make_transport()
        client(proxied).get(f"{server.url}/")
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "*")
        client(proxied).get(f"{server.url}/other")
        assert len(proxy.heads) == 2


def test_plain_http_stays_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, provider: LocalProvider, make_transport: Callable[..., Transport]
) -> None:
    """It is accepted for loopback because nobody else can read it; to a proxy it would carry secrets in clear."""
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    with suppress(errors.ProviderError):
        client(make_transport(), provider).get(provider.profile_url)
    assert proxy.heads == []
    assert provider.count("profile") == 1


def test_a_proxy_that_refuses_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, make_transport: Callable[..., Transport]
) -> None:
    proxy.greeting = b"HTTP/1.1 407 reason-canary\r\n\r\n"
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://user:password-canary@"))
    with pytest.raises(errors.ProviderUnreachable) as caught:
        client(make_transport()).get("https://provider.test/")
    assert b"Proxy-Authorization: Basic " in proxy.heads[0]
    assert "canary" not in str(caught.value)


def test_a_proxy_that_dribbles_is_given_up(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, make_transport: Callable[..., Transport]
) -> None:
    """S24: the answer to CONNECT counts as well."""
    proxy.dribbles = True
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with in_time(), pytest.raises(errors.ProviderTimeout):
        client(make_transport(0.4)).get("https://provider.test/")


def test_a_tunnel_is_dug_again_when_the_provider_has_closed_the_last_one(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, tls: TLS, make_transport: Callable[..., Transport]
) -> None:
    """Later than the first request's deadline: each request has its own."""
    tls.trust()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with answering(ssl_context=tls.server(), headers={"Connection": "close"}) as server:
        session = client(make_transport())
        assert session.get(f"{server.url}/", timeout=1).ok
        real = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: real() + 30)
        assert session.get(f"{server.url}/").ok
    assert len(proxy.heads) == 2


@pytest.mark.parametrize(("method", "secret"), [("post", "demo-secret"), ("none", None)])
def test_a_netrc_file_says_nothing_to_a_provider(
    method: str, secret: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """requests would put a password from there into the Authorization header, even over one that is there."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password netrc-canary\ndefault login me password netrc-canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    provider = LocalProvider(client_secret=secret)
    with serve_provider(provider):
        browser = Browser(create_app(Config.from_environ(environ_for(provider, CLIENT_AUTH=method))), provider)
        browser.sign_in()
        assert browser.profile().json["login"] == "octocat"
    [token_request] = [seen for seen in provider.exchanges if seen.endpoint == "token"]
    assert "Authorization" not in token_request.headers


QUIET = """
import os, sys
from wsgi_oauth.oauth.client import OAuth2Session
from wsgi_oauth.oauth.presets import GITHUB
from wsgi_oauth.transport.transport import Transport

transport = Transport(20)

def ask(url):
    assert OAuth2Session(GITHUB, "id", "secret", transport, token={"access_token": "x"}).get(url).ok

ask(sys.argv[1])
seen = []
sys.addaudithook(lambda event, arguments: seen.append(event) if event in {"os.putenv", "os.unsetenv", "open"} else None)
ask(sys.argv[1])
ask(sys.argv[1] + "another/path?query")
print(seen)
"""


def test_a_request_opens_no_file_and_never_writes_the_environment() -> None:
    """Not even for a moment: another thread may look, and what it puts back may be wrong."""
    with answering() as server:
        assert run(QUIET, f"{server.url}/").strip() == "[]"


# TLS


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"])
def test_a_private_authority_is_trusted_when_the_environment_names_it(
    variable: str, tls: TLS, make_transport: Callable[..., Transport]
) -> None:
    with answering(ssl_context=tls.server()) as server:
        with pytest.raises(errors.ProviderUnreachable, match="SSLCertVerificationError"):
            client(make_transport()).get(f"{server.url}/")
        tls.trust(variable)
        assert client(make_transport()).get(f"{server.url}/").ok


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_folder_of_authorities_is_trusted(
    variable: str, tls: TLS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_transport: Callable[..., Transport]
) -> None:
    try:
        command = ["openssl", "x509", "-hash", "-noout", "-in", str(tls.bundle)]
        name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the openssl command, which knows how such a folder's files are named")
    folder = tmp_path / "authorities"
    folder.mkdir()
    (folder / f"{name}.0").write_bytes(tls.bundle.read_bytes())
    monkeypatch.setenv(variable, str(folder))
    with answering(ssl_context=tls.server()) as server:
        assert client(make_transport()).get(f"{server.url}/").ok
        wrong = trustme.CA()
        with answering(ssl_context=tls.server(authority=wrong)) as impostor, pytest.raises(errors.ProviderUnreachable):
            client(make_transport()).get(f"{impostor.url}/")


def test_requests_ca_bundle_wins_as_it_does_for_requests(
    tls: TLS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_transport: Callable[..., Transport]
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    tls.trust("REQUESTS_CA_BUNDLE")
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    with answering(ssl_context=tls.server()) as server:
        assert client(make_transport()).get(f"{server.url}/").ok


def wrong_authority(tls: TLS) -> ssl.SSLContext:
    return tls.server(authority=trustme.CA())


def wrong_name(tls: TLS) -> ssl.SSLContext:
    return tls.server("elsewhere.example", "127.0.0.2")


def expired(tls: TLS) -> ssl.SSLContext:
    from datetime import datetime, timedelta, timezone

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = datetime.now(timezone.utc) - timedelta(days=1)
    tls.authority.issue_cert("127.0.0.1", not_before=past - timedelta(days=1), not_after=past).configure_cert(context)
    return context


def outdated_protocol(tls: TLS) -> ssl.SSLContext:
    context = tls.server()
    context.set_ciphers("ALL:@SECLEVEL=0")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


@pytest.mark.parametrize("impostor", [wrong_authority, wrong_name, expired, outdated_protocol])
def test_an_impostor_gets_neither_code_nor_secret_nor_token(
    impostor: Callable[[TLS], ssl.SSLContext], tls: TLS, make_browser: Callable[..., Browser]
) -> None:
    """S26: a 502, and the other side has not seen a single request."""
    tls.trust()
    with answering(ssl_context=impostor(tls)) as server:
        browser = make_browser(TOKEN_URL=f"{server.url}/token")
        answer = browser.get(browser.callback_url())
        assert answer.status_int == 502
        assert server.requests == []
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        assert browser.profile().status_int == 502
        assert server.requests == []
        assert server.connections == 2  # what is no accident is not tried again


def test_a_whole_sign_in_over_tls_opens_one_connection(tls: TLS) -> None:
    tls.trust()
    provider = LocalProvider()
    with serve_provider(provider, ssl_context=tls.server()) as server:
        browser = Browser(create_app(Config.from_environ(environ_for(provider))), provider)
        callback = browser.callback_url()
        before = server.connections
        assert browser.get(callback).status_int == 303
        for _ in range(3):
            assert browser.profile().json["login"] == "octocat"
        assert server.connections == before + 1


def test_the_ca_bundle_is_loaded_once(tls: TLS, make_transport: Callable[..., Transport]) -> None:
    """It takes longer than a whole request. Here it is gone before the second connection is opened."""
    tls.trust()
    with answering(ssl_context=tls.server(), headers={"Connection": "close"}) as server:
        transport = make_transport()
        client(transport).get(f"{server.url}/")
        tls.bundle.unlink()
        for _ in range(3):
            assert client(transport).get(f"{server.url}/").ok
        assert server.connections == 4


@pytest.mark.parametrize("contents", [None, "", "this is no certificate"])
def test_a_ca_bundle_that_cannot_be_loaded_is_the_operators_affair(
    contents: str | None, tls: TLS, make_transport: Callable[..., Transport]
) -> None:
    tls.trust()
    tls.bundle.unlink()
    if contents is not None:
        tls.bundle.write_text(contents)
    with pytest.raises(errors.ConfigError, match=r"ca\.pem"):
        client(make_transport()).get("https://127.0.0.1:1/")


@pytest.mark.parametrize("options", [{"verify": False}, {"verify": "/some/ca.pem"}, {"cert": "/some/cert.pem"}])
def test_nobody_can_switch_verification_off(
    options: dict[str, Any], tls: TLS, make_transport: Callable[..., Transport]
) -> None:
    with answering(ssl_context=tls.server()) as server:
        session = client(make_transport())
        with pytest.raises(ValueError, match="always verified"):
            session.get(f"{server.url}/", **options)
        for name, value in options.items():
            setattr(session, name, value)
        with pytest.raises(ValueError, match="always verified"):
            session.get(f"{server.url}/")
        assert server.requests == []


@pytest.mark.parametrize(
    "url",
    ["http://provider.example/", "http://127.0.0.1.example/", "ftp://127.0.0.1/", "//127.0.0.1/", "file:///etc/passwd"],
)
def test_a_token_is_sent_over_https_or_to_this_machine(url: str, make_transport: Callable[..., Transport]) -> None:
    with pytest.raises(ValueError, match="https"):
        client(make_transport()).get(url)


# Redirects (S23)


@contextmanager
def redirecting(to: Callable[[Server], str], status: int = 302, pause: float = 0) -> Iterator[Server]:
    """A server that redirects ``/start`` after a *pause* of some seconds, and answers everything else."""
    seen: list[Request] = []

    @Request.application
    def application(request: Request) -> Response:
        seen.append(request)
        if request.path == "/start":
            time.sleep(pause)
            return Response(status=status, headers={"Location": to(server)})
        return Response("{}", content_type="application/json")

    with serve(application) as server:
        server.requests = seen
        yield server


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_unless_somebody_asks_for_it(
    status: int, make_transport: Callable[..., Transport]
) -> None:
    methods = ["get", "head", "post", "put", "patch", "delete", "options"]
    with redirecting(lambda server: f"{server.url}/end", status) as server:
        session = client(make_transport())
        for method in methods:
            assert getattr(session, method)(f"{server.url}/start").status_code == status
        assert [(request.method.lower(), request.path) for request in server.requests] == [
            (method, "/start") for method in methods
        ]


def test_a_redirect_that_was_asked_for_keeps_the_token_on_its_origin(make_transport: Callable[..., Transport]) -> None:
    with redirecting(lambda server: f"{server.url}/end") as server:
        client(make_transport()).get(f"{server.url}/start", allow_redirects=True)
        assert [request.headers.get("Authorization") for request in server.requests] == ["Bearer token-canary"] * 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["another port", "another name"])
def test_a_redirect_to_another_origin_never_carries_the_token(
    host: str, make_transport: Callable[..., Transport]
) -> None:
    with answering() as elsewhere, redirecting(lambda _: f"http://{host}:{elsewhere.port}/end") as server:
        client(make_transport()).get(f"{server.url}/start", allow_redirects=True)
        [request] = elsewhere.requests
        assert "Authorization" not in request.headers


def test_a_redirect_from_https_to_http_never_carries_the_token(
    tls: TLS, make_transport: Callable[..., Transport]
) -> None:
    """On the same host even that would keep it: requests allows http to https, and a change of the default port."""
    session = client(make_transport())
    assert session.should_strip_auth("https://a.example/", "http://a.example/")
    assert session.should_strip_auth("http://a.example/", "https://a.example/")
    assert session.should_strip_auth("https://a.example/", "https://a.example:444/")
    assert not session.should_strip_auth("https://a.example/", "https://A.example:443/b")


@pytest.mark.parametrize(
    "location", ["http://[", "ftp://127.0.0.1/", "/start", "https://a:b:c/", "https://nowhere.invalid/"]
)
def test_a_redirect_that_leads_nowhere_is_the_providers_fault(
    location: str, make_transport: Callable[..., Transport]
) -> None:
    """Even where following was asked for; what goes round ends."""
    with redirecting(lambda _: location) as server, in_time(), pytest.raises(errors.ProviderError):
        client(make_transport(2)).get(f"{server.url}/start", allow_redirects=True)


def test_redirects_that_were_asked_for_share_one_deadline(make_transport: Callable[..., Transport]) -> None:
    """S24: thirty hops that take a tenth of a second each are not thirty requests."""
    with redirecting(lambda server: f"{server.url}/start", pause=0.1) as server:
        with in_time(), pytest.raises(errors.ProviderTimeout):
            client(make_transport()).get(f"{server.url}/start", allow_redirects=True, timeout=0.5)
        assert len(server.requests) < 10


@pytest.mark.parametrize(
    ("timeout", "outcome"),
    [((0.1, 0.1), errors.ProviderTimeout), ((None, 0.1), errors.ProviderTimeout), ((None, None), None), (None, None)],
    ids=str,
)
def test_a_timeout_can_be_written_as_in_requests(
    timeout: Any, outcome: type[Exception] | None, make_transport: Callable[..., Transport]
) -> None:
    """As a pair: seconds to connect, and seconds to read. Together they are for all of it."""
    expected = pytest.raises(outcome) if outcome else nullcontext()
    with redirecting(lambda server: f"{server.url}/end", pause=0.5) as server, expected:
        client(make_transport()).get(f"{server.url}/start", timeout=timeout)


def test_a_timeout_that_is_none_is_refused_in_words(make_transport: Callable[..., Transport]) -> None:
    with pytest.raises(TypeError, match="must be seconds"):
        client(make_transport()).get("https://a.example/", timeout=urllib3.Timeout(1))


def test_a_document_can_be_asked_for_with_no_headers_in_so_many_words(make_transport: Callable[..., Transport]) -> None:
    with answering('{"id": 1}') as server:
        assert client(make_transport()).get_json(f"{server.url}/", headers=None) == {"id": 1}
        assert server.requests[0].headers["Accept"] == "application/json"


# What is said about a failure (S26)


def refused_port(stack: ExitStack) -> str:
    closed = stack.enter_context(socket.socket())
    closed.bind(("127.0.0.1", 0))
    return f"https://127.0.0.1:{closed.getsockname()[1]}"


def unknown_name(stack: ExitStack) -> str:
    return "https://host-canary.invalid"


def impossible_name(stack: ExitStack) -> str:
    return f"https://{'host-canary' * 10}.invalid"


def not_tls(stack: ExitStack) -> str:
    return stack.enter_context(answering()).url.replace("http:", "https:")


def no_http(stack: ExitStack) -> str:
    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"SSH-2.0-answer-canary\r\n")

    return f"http://127.0.0.1:{stack.enter_context(talking(talk))}"


def header_flood(stack: ExitStack) -> str:
    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\n" + b"".join(b"Header-Canary-%d: x\r\n" % n for n in range(5000)) + b"\r\n"
        )

    return f"http://127.0.0.1:{stack.enter_context(talking(talk))}"


def header_line_without_end(stack: ExitStack) -> str:
    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nA: " + b"canary" * 100_000)

    return f"http://127.0.0.1:{stack.enter_context(talking(talk))}"


def fault_of_the_provider(name: str) -> Callable[[ExitStack], str]:
    def place(stack: ExitStack) -> str:
        provider = LocalProvider()
        server = stack.enter_context(serve_provider(provider))
        provider.faults.add(f"profile.{name}", times=None)
        return f"{server.url}/user"

    place.__name__ = name
    return place


TROUBLE = [
    refused_port,
    unknown_name,
    impossible_name,
    not_tls,
    no_http,
    header_flood,
    header_line_without_end,
    *map(fault_of_the_provider, ["hang_up", "reset", "cut_body", "broken_gzip", "gzip_bomb", "hang_up_in_headers"]),
]


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda place: place.__name__)
def test_no_failure_names_a_url_or_a_secret(
    trouble: Callable[[ExitStack], str], make_transport: Callable[..., Transport]
) -> None:
    """requests' own texts have the whole URL in them, with its query; they go to the log and must not."""
    with ExitStack() as stack:
        base = trouble(stack)
        url = f"{base.rstrip('/')}{'' if base.endswith('/user') else '/path-canary'}?code=query-canary"
        with in_time(), pytest.raises(errors.ProviderError) as caught:
            client(make_transport(4)).get_json(url)
    said = "".join(traceback.format_exception(caught.value)[-1:]) + repr(caught.value) + caught.value.detail
    for leak in ("canary", "://", base.partition("://")[2].partition("/")[0], "object at 0x", "HTTPConnectionPool"):
        assert leak not in said
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert caught.value.status == 502


@pytest.mark.parametrize(
    "trouble", [refused_port, unknown_name, impossible_name, not_tls], ids=lambda place: place.__name__
)
def test_a_sign_in_at_an_unreachable_provider_is_a_502(
    trouble: Callable[[ExitStack], str], make_browser: Callable[..., Browser], caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:
        url = f"{trouble(stack)}/token"
        browser = make_browser(TOKEN_URL=url)
        answer = browser.get(browser.callback_url())
    assert answer.status_int == 502
    assert url not in answer.text
    assert "canary" not in answer.text
    assert "Traceback" not in caplog.text
