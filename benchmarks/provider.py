"""Run a provider over TLS in its own process, also reachable through a proxy with a longer round trip."""

from __future__ import annotations

import multiprocessing
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

import trustme
from requests import certs

from wsgi_oauth.demo.grants import Grant
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.profiles import Keycloak
from wsgi_oauth.demo.server import serve_provider

ROUND_TRIP = 0.020  # seconds, through the proxy


@dataclass
class Provider:
    """The provider process, seen from the parent process."""

    port: int
    far_port: int  # of the proxy, which adds a round trip of 20 ms
    client_id: str
    client_secret: str
    issuer: str  # of another provider, with OpenID Connect, for a client with the same id and secret
    _pipe: Connection

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def far_url(self) -> str:
        return f"https://127.0.0.1:{self.far_port}"

    @property
    def connections(self) -> int:
        """Return the number of connections accepted so far. Each one began with a TLS handshake."""
        return self._request("count connections")

    def close_after_each_response(self, wanted: bool) -> None:
        """Set whether the provider closes the connection after each response."""
        self._request("close connections" if wanted else "keep connections")

    def _request(self, command: str) -> int:
        self._pipe.send(command)
        return self._pipe.recv()


@contextmanager
def running_provider(folder: Path, redirect_uris: Iterable[str] = ()) -> Iterator[Provider]:
    """Run a provider with a certificate of a private CA until the block ends.

    Its endpoints are also at the paths of GitHub Enterprise, which some clients cannot change.

    ``folder / "ca.pem"`` holds this CA in addition to the usual ones, because a CA bundle of realistic size is slow
    to load.
    """
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    usual = Path(certs.where()).read_text(encoding="utf-8")
    (folder / "ca.pem").write_text(usual + authority.cert_pem.bytes().decode(), encoding="utf-8")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(folder / "server.pem", theirs, tuple(redirect_uris))
    )
    process.start()
    try:
        yield Provider(*ours.recv(), ours)
    finally:
        ours.send("exit")
        process.join()


class _GitHubLike(LocalProvider):
    """Also accepts GitHub's name for a bearer token."""

    def find_grant(self, authorization: str) -> Grant | None:
        return super().find_grant(re.sub("^token ", "Bearer ", authorization))


def _serve(certificate: Path, pipe: Connection, redirect_uris: tuple[str, ...]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    provider = _GitHubLike(redirect_uris=redirect_uris)
    provider.routes["/login/oauth/authorize"] = provider.routes[provider.authorization_path]
    provider.routes["/login/oauth/access_token"] = provider.routes[provider.token_path]
    provider.routes["/api/v3/user"] = provider.routes[provider.profile_path]
    keycloak = Keycloak(client_id=provider.client_id, client_secret=provider.client_secret)
    with (
        serve_provider(provider, ssl_context=context) as server,
        serve_provider(keycloak, ssl_context=context),
        socket.create_server(("127.0.0.1", 0)) as far,
    ):
        threading.Thread(target=_run_slow_proxy, args=(far, server.port), daemon=True).start()
        pipe.send((server.port, far.getsockname()[1], provider.client_id, provider.client_secret, keycloak.issuer))
        while (command := pipe.recv()) != "exit":
            if command == "close connections":
                provider.faults.add("profile.close", times=None)
            elif command == "keep connections":
                provider.faults.clear()
            pipe.send(server.connections)


def _run_slow_proxy(listener: socket.socket, port: int) -> None:
    """Forward connections to *port*. Delay all data by half a round trip, and new connections by one round trip."""
    while True:
        near, _ = listener.accept()
        # The TCP handshake with the proxy is already over. On the long way it would take one round trip.
        opened = time.monotonic() + ROUND_TRIP
        far = socket.create_connection(("127.0.0.1", port))
        for source, target in ((near, far), (far, near)):
            target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            delayed: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
            threading.Thread(target=_receive, args=(source, delayed, opened), daemon=True).start()
            threading.Thread(target=_deliver, args=(target, delayed), daemon=True).start()


def _receive(source: socket.socket, delayed: SimpleQueue[tuple[float, bytes]], opened: float) -> None:
    """Put data from *source* into the queue, each with its time of delivery. An empty one marks the end."""
    data = b"a"
    while data:
        try:
            data = source.recv(65536)
        except OSError:
            data = b""
        delayed.put((max(time.monotonic(), opened) + ROUND_TRIP / 2, data))


def _deliver(target: socket.socket, delayed: SimpleQueue[tuple[float, bytes]]) -> None:
    """Send the data in the queue to *target* when it is due."""
    with target:
        while True:
            due, data = delayed.get()
            time.sleep(max(due - time.monotonic(), 0))
            try:
                if not data:
                    return target.shutdown(socket.SHUT_RDWR)
                target.sendall(data)
            except OSError:
                return None
