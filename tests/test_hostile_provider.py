"""Answers that no honest provider gives, byte by byte: each ends in a page about the provider, and in nothing else."""

from __future__ import annotations

import json
import logging
import socket
import sys
from collections.abc import Callable
from subprocess import run
from typing import Any

import pytest
from conftest import Browser, raw_server

GOOD = json.dumps({"access_token": "TOKENCANARY", "token_type": "Bearer"}).encode()


def says(answer: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(answer)


ANSWERS = {
    "a redirect to half an address": b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
    "a redirect to a port of 99999": b"HTTP/1.1 302 Found\r\nLocation: http://x:99999/\r\nContent-Length: 0\r\n\r\n",
    "a redirect to a port of abc": b"HTTP/1.1 302 Found\r\nLocation: http://x:abc/\r\nContent-Length: 0\r\n\r\n",
    "a redirect to no text": b"HTTP/1.1 302 Found\r\nLocation: http://x/\xff\xfe\r\nContent-Length: 0\r\n\r\n",
    "a chunk of less than nothing": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n0\r\n\r\n",
    "a status of 600": b"HTTP/1.1 600 Odd\r\nContent-Length: %d\r\n\r\n%b" % (len(GOOD), GOOD),
    "no line between headers and body": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{\r\n "
    b'"access_token": "TOKENCANARY", "token_type": "Bearer"\r\n}\r\n\r\n',
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_from_the_token_endpoint_it_is_the_providers_fault_and_in_no_log(
    make_browser: Callable[..., Browser], answer: bytes, caplog: pytest.LogCaptureFixture
):
    """S18, S23, S26, S49"""
    caplog.set_level(logging.WARNING)
    with raw_server(says(answer)) as url:
        browser = make_browser(TOKEN_URL=f"{url}/token")
        assert browser.get(browser.callback_url()).status_int == 502
        assert browser.profile().status_int == 401
    assert "CANARY" not in caplog.text


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_from_the_profile_endpoint_it_is_the_providers_fault(make_browser: Callable[..., Browser], answer: bytes):
    with raw_server(says(answer)) as url:
        browser = make_browser(PROFILE_URL=f"{url}/user")
        browser.sign_in()
        assert browser.profile().status_int == 502


def test_the_largest_token_that_is_accepted_can_be_stored(make_browser: Callable[..., Browser]):
    """S20: quotes double in JSON."""
    large: dict[str, Any] = dict.fromkeys(("access_token", "refresh_token", "id_token"), '"' * 16384)
    body = json.dumps({**large, "token_type": "Bearer", "scope": '"' * 8192}).encode()
    with raw_server(says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))) as url:
        browser = make_browser(TOKEN_URL=f"{url}/token")
        for _ in range(25):
            begun = browser.start("/" + "n" * 1000)
        assert browser.get(browser.consent(begun)).status_int == 303
        assert browser.get("/?next=/" + "n" * 1000).status_int == 302


FLOOD = """
import resource, socket, sys, threading
from wsgi_oauth import errors
from wsgi_oauth.transport.pool import Transport
import requests

listener = socket.create_server(("127.0.0.1", 0))
def serve():
    connection, _ = listener.accept()
    connection.recv(65536)
    try:
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Encoding: deflate\\r\\n\\r\\n\\x78\\x9c")
        while True:
            connection.sendall(b"\\x00\\x00\\x00\\xff\\xff" * 10000)
    except OSError:
        pass
threading.Thread(target=serve, daemon=True).start()
request = requests.Request("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/").prepare()
transport = Transport(30)
transport.load()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    transport.send(request)
except errors.ProviderError:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_what_decompresses_to_nothing_for_ever_costs_little_memory():
    """S25: not only what comes out is counted, but also what came in."""
    done = run([sys.executable, "-c", FLOOD], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64  # MiB
