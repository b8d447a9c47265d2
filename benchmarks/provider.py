"""A provider over TLS in a process of its own, and a longer way to it: what the benchmark of requests speaks to."""

from __future__ import annotations

import multiprocessing
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

import trustme
from requests import certs

from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

ROUND_TRIP = 0.020  # seconds, on the longer way


@dataclass
class Provider:
    """The provider as this process sees it."""

    port: int
    far_port: int  # the same one, a round trip of 20 ms away
    client_id: str
    client_secret: str
    _pipe: Connection

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def far_url(self) -> str:
        return f"https://127.0.0.1:{self.far_port}"

    @property
    def connections(self) -> int:
        """How many connections it has accepted so far; each began with a TLS handshake."""
        return self._ask("count")

    def hang_up_after_each_answer(self, wanted: bool) -> None:
        self._ask("hang up" if wanted else "behave")

    def _ask(self, question: str) -> int:
        self._pipe.send(question)
        return self._pipe.recv()


@contextmanager
def running_provider(folder: Path) -> Iterator[Provider]:
    """Start it with a certificate of a private CA; ``folder / "ca.pem"`` is that CA among the usual hundred others."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    usual = Path(certs.where()).read_text(encoding="utf-8")
    (folder / "ca.pem").write_text(usual + authority.cert_pem.bytes().decode(), encoding="utf-8")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(folder / "server.pem", there))
    process.start()
    try:
        yield Provider(*here.recv(), here)
    finally:
        here.send("stop")
        process.join()


def _serve(certificate: Path, pipe: Connection) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    provider = LocalProvider()
    with serve_provider(provider, ssl_context=context) as server, socket.create_server(("127.0.0.1", 0)) as far:
        threading.Thread(target=_lengthen, args=(far, server.port), daemon=True).start()
        pipe.send((server.port, far.getsockname()[1], provider.client_id, provider.client_secret))
        while (question := pipe.recv()) != "stop":
            if question == "hang up":
                provider.faults.add("profile.close", times=None)
            elif question == "behave":
                provider.faults.clear()
            pipe.send(server.connections)


def _lengthen(listener: socket.socket, port: int) -> None:
    """Pass everything on to *port*, half a round trip later, and what opens a connection one more round trip later."""
    while True:
        near, _ = listener.accept()
        opened = time.monotonic() + ROUND_TRIP  # SYN and SYN-ACK, which loopback has already exchanged
        there = socket.create_connection(("127.0.0.1", port))
        for source, target in ((near, there), (there, near)):
            target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            on_the_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
            threading.Thread(target=_send_off, args=(source, on_the_way, opened), daemon=True).start()
            threading.Thread(target=_deliver, args=(target, on_the_way), daemon=True).start()


def _send_off(source: socket.socket, on_the_way: SimpleQueue[tuple[float, bytes]], opened: float) -> None:
    data = b"a"
    while data:
        try:
            data = source.recv(65536)
        except OSError:
            data = b""
        on_the_way.put((max(time.monotonic(), opened) + ROUND_TRIP / 2, data))


def _deliver(target: socket.socket, on_the_way: SimpleQueue[tuple[float, bytes]]) -> None:
    with target:
        while True:
            due, data = on_the_way.get()
            time.sleep(max(due - time.monotonic(), 0))
            try:
                if not data:
                    return target.shutdown(socket.SHUT_RDWR)
                target.sendall(data)
            except OSError:
                return None
