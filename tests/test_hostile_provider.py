"""Malformed HTTP responses of a provider: each is a provider error, and nothing of it is logged."""

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

from wsgi_oauth.oauth.token import MAX_TOKEN

GOOD = json.dumps({"access_token": "TOKENCANARY", "token_type": "Bearer"}).encode()


def respond(response: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(response)


RESPONSES = {
    "incomplete address": b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
    "port 99999": b"HTTP/1.1 302 Found\r\nLocation: http://x:99999/\r\nContent-Length: 0\r\n\r\n",
    "port abc": b"HTTP/1.1 302 Found\r\nLocation: http://x:abc/\r\nContent-Length: 0\r\n\r\n",
    "location is not UTF-8": b"HTTP/1.1 302 Found\r\nLocation: http://x/\xff\xfe\r\nContent-Length: 0\r\n\r\n",
    "chunk of negative size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n0\r\n\r\n",
    "status 600": b"HTTP/1.1 600 Odd\r\nContent-Length: %d\r\n\r\n%b" % (len(GOOD), GOOD),
    "no empty line after the headers": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{\r\n "
    b'"access_token": "TOKENCANARY", "token_type": "Bearer"\r\n}\r\n\r\n',
}


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
def test_malformed_token_response_is_a_provider_error_and_not_logged(
    make_browser: Callable[..., Browser], response: bytes, caplog: pytest.LogCaptureFixture
):
    """S18, S23, S26, S49"""
    caplog.set_level(logging.WARNING)
    with raw_server(respond(response)) as url:
        browser = make_browser(TOKEN_URL=f"{url}/token")
        assert browser.get(browser.callback_url()).status_int == 502
        assert browser.profile().status_int == 401
    assert "CANARY" not in caplog.text


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
def test_malformed_user_document_is_a_provider_error(make_browser: Callable[..., Browser], response: bytes):
    with raw_server(respond(response)) as url:
        browser = make_browser(PROFILE_URL=f"{url}/user")
        browser.sign_in()
        assert browser.profile().status_int == 502


def test_largest_accepted_token_can_be_stored(make_browser: Callable[..., Browser]):
    """S20. A quote takes two characters in JSON. The browser has other pending sign-ins."""
    large: dict[str, Any] = dict.fromkeys(("access_token", "refresh_token", "id_token"), '"' * MAX_TOKEN)
    body = json.dumps({**large, "token_type": "Bearer", "scope": '"' * 8192}).encode()
    with raw_server(respond(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))) as url:
        browser = make_browser(TOKEN_URL=f"{url}/token")
        for _ in range(3):
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
except errors.ProviderUnreachable:  # otherwise ProviderTimeout, at the deadline
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_endless_data_that_decompresses_to_nothing_is_refused():
    """S25: the compressed bytes are limited too."""
    done = run([sys.executable, "-c", FLOOD], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64  # MiB
