"""A provider that answers without end: slowly, so that each worker waits for it, or so much that memory runs out."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable

import pytest
import requests
from conftest import Browser, raw_server

from wsgi_oauth import MemoryStore, SessionStore

from .lesson import guarded_by

TOKEN = {"access_token": "a-token", "token_type": "Bearer"}
MEBIBYTE = 1024 * 1024


@pytest.fixture
def store() -> SessionStore:
    return MemoryStore()


def all_there_is(response: requests.Response) -> bytes:
    return b"".join(response.raw.stream(65536, decode_content=True))


@guarded_by({"wsgi_oauth.transport.adapter.read_body": all_there_is})
def test_a_gzip_bomb_of_few_kilobytes_fills_the_memory(make_browser: Callable[..., Browser]) -> bool:
    """S25. A thousandfold: what counts is the size that comes out, not the one that comes in."""
    bomb = gzip.compress(json.dumps({**TOKEN, "padding": "0" * 32 * MEBIBYTE}).encode())
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    with raw_server(lambda connection: connection.sendall(head + bomb)) as url:
        victim = make_browser(TOKEN_URL=f"{url}/token")
        return victim.get(victim.callback_url()).status_int == 303


def dribble(connection: socket.socket) -> None:
    """Send an answer, a byte at a time, for longer than the deadline; none of them is late."""
    body = json.dumps(TOKEN).encode().ljust(60)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n")
    for byte in body:
        time.sleep(0.025)
        connection.sendall(bytes([byte]))


@guarded_by(
    {"wsgi_oauth.transport.deadline.DeadlineReader.readinto": lambda reader, buffer: reader._raw.readinto(buffer)}
)
def test_a_provider_that_sends_a_byte_now_and_then_keeps_a_worker_for_ever(
    make_browser: Callable[..., Browser],
) -> bool:
    """S24. A timeout of requests is for one read, and begins anew with each byte; a deadline does not."""
    with raw_server(dribble) as url:
        victim = make_browser(TOKEN_URL=f"{url}/token", UPSTREAM_TIMEOUT="1")
        return victim.get(victim.callback_url()).status_int != 504
