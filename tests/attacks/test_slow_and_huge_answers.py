"""Slow and huge responses of a provider, which would occupy all workers or fill the memory."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable

import requests
from conftest import Browser, raw_server

from .lesson import guarded_by

TOKEN = {"access_token": "a-token", "token_type": "Bearer"}
MEBIBYTE = 1024 * 1024


def read_without_a_limit(response: requests.Response) -> bytes:
    return b"".join(response.raw.stream(65536, decode_content=True))


@guarded_by({"wsgi_oauth.transport.adapter.read_body": read_without_a_limit})
def test_gzip_bomb_fills_the_memory(make_browser: Callable[..., Browser]) -> bool:
    """S25. The decompressed data is a thousand times as large as the response."""
    bomb = gzip.compress(json.dumps({**TOKEN, "padding": "0" * 32 * MEBIBYTE}).encode())
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    with raw_server(lambda connection: connection.sendall(head + bomb)) as url:
        victim = make_browser(TOKEN_URL=f"{url}/token")
        return victim.get(victim.callback_url()).status_int == 303


def dribble(connection: socket.socket) -> None:
    """Send a response byte by byte for longer than the deadline, each byte in time for a timeout of the socket."""
    body = json.dumps(TOKEN).encode().ljust(60)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n")
    for byte in body:
        time.sleep(0.025)
        connection.sendall(bytes([byte]))


@guarded_by(
    {"wsgi_oauth.transport.deadline.DeadlineReader.readinto": lambda reader, buffer: reader._raw.readinto(buffer)}
)
def test_provider_that_sends_a_byte_now_and_then_occupies_a_worker(
    make_browser: Callable[..., Browser],
) -> bool:
    """S24. The timeout of requests applies to one read, so it starts again with each byte."""
    with raw_server(dribble) as url:
        victim = make_browser(TOKEN_URL=f"{url}/token", UPSTREAM_TIMEOUT="1")
        return victim.get(victim.callback_url()).status_int != 504
