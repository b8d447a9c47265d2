"""``WSGI_OAUTH_LOG_FORMAT=json``: each line that gunicorn, the sign-in and the application write is a JSON object."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests
from conftest import HTML, JSON, Site

from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.logs import JsonStream

FORGED = '"}\r\n{"event": "sign_in"\x1b[31m\u2028'

APPLICATION = r"""
import logging, sys, warnings
from wsgi_oauth import LoginRequired, get_app

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/public/error":
        raise ValueError("a fault\nin two lines")
    if path == "/public/print":
        print("printed\nin two lines", file=sys.stderr)
        environ["wsgi.errors"].write("written\nin two lines\n")
        logging.getLogger("shop").warning("[shop] logged by the shop")
        warnings.warn("a warning of Python")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]

app = LoginRequired(application, get_app(), public=["/public"])
"""


@dataclass
class Written:
    """The log of a server, after some requests."""

    text: str
    page_id: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def find(self, **members: Any) -> dict[str, Any]:
        """Return the only object with these members."""
        found = [each for each in self.objects if members.items() <= each.items()]
        assert len(found) == 1, (members, found)
        return found[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    folder = tmp_path_factory.mktemp("json-log")
    folder.joinpath("shop.py").write_text(APPLICATION)
    provider = LocalProvider()
    with serve_provider(provider):
        site = Site(provider, folder)
        options = ["--config", "python:wsgi_oauth.gunicorn_conf", "--workers", "1"]
        with site.serve(*options, app="shop:app", LOG_FORMAT="json", TRUSTED_PROXIES="1") as server:
            with site.visitor(server) as visitor:
                assert visitor.get(visitor.callback_url("/auth/")).status_code == 303
            page = requests.get(f"{server.url}/auth/callback?code=canary&state=canary", headers=JSON, timeout=30)
            requests.get(f"{server.url}/public/error?code=canary", timeout=30)
            requests.get(f"{server.url}/public/print", timeout=30)
            requests.get(f"{server.url}/public/x", headers={"X-Request-ID": "edge-1", "User-Agent": '"}{'}, timeout=30)
            headers = {"X-Request-ID": "next-1", **HTML}
            requests.get(f"{server.url}/auth/?next=//evil.example", headers=headers, allow_redirects=False, timeout=30)
            requests.get(server.url + quote(f"/public/{FORGED}"), headers=HTML, timeout=30)
            malformed(server.url)
            text = server.stop()
        yield Written(text, page.json()["id"])


def malformed(url: str) -> None:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        connection.sendall(b"GET /auth/callback?code=canary&name=\xe9 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.recv(1000)


def test_each_line_is_one_object_in_ascii(written: Written) -> None:
    assert written.text.isascii()
    for each in written.objects:
        assert {"time", "level", "logger", "message", "process"} <= each.keys()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", each["time"])
    assert "canary" not in written.text


def test_event_has_its_fields(written: Written) -> None:
    event = written.find(event="sign_in", outcome="success")
    assert event["level"] == "INFO"
    assert event["client"] == "127.0.0.1"
    assert event.keys() >= {"provider", "session", "request_id"}
    assert "cause" not in event


def test_message_about_a_request_has_its_id(written: Written) -> None:
    note = written.find(level="WARNING", request_id="next-1")
    assert note["message"].startswith("next: dropped, because it is not a path of this site")


def test_message_of_the_application_keeps_its_brackets(written: Written) -> None:
    assert written.find(logger="shop", message="[shop] logged by the shop").keys().isdisjoint({"request_id"})


def test_page_event_and_access_log_have_the_same_id(written: Written) -> None:
    refusal = written.find(event="sign_in", request_id=written.page_id)
    assert (refusal["level"], refusal["cause"]) == ("WARNING", "no_login_in_progress")
    assert "[" not in refusal["message"].partition(":")[0]
    request = written.find(logger="gunicorn.access", request_id=written.page_id)
    assert (request["request"], request["status"], request["peer"]) == ("GET /auth/callback", 400, "127.0.0.1")
    assert isinstance(request["bytes"], int)
    assert isinstance(request["milliseconds"], int)


def test_access_log_has_the_id_of_a_trusted_proxy(written: Written) -> None:
    assert written.find(logger="gunicorn.access", request_id="edge-1")["request"] == "GET /public/x"
    assert "request_id" not in written.find(logger="gunicorn.access", request="GET /public/print")


def test_path_cannot_forge_an_object(written: Written) -> None:
    assert len([each for each in written.objects if each.get("event") == "sign_in"]) == 2


def test_traceback_is_a_member(written: Written) -> None:
    [failed] = [each for each in written.objects if "exception" in each]
    assert failed["level"] == "ERROR"
    assert "ValueError: a fault\nin two lines" in failed["exception"]


def test_start_and_stop_of_gunicorn(written: Written) -> None:
    messages = [each["message"] for each in written.objects if each["logger"] == "gunicorn.error"]
    assert any(message.startswith("Listening at") for message in messages)
    assert any("Shutting down" in message for message in messages)


@pytest.mark.parametrize(
    "members",
    [
        {"logger": "stderr", "message": "printed\nin two lines"},
        {"logger": "stderr", "message": "written\nin two lines"},
        {"logger": "shop", "message": "[shop] logged by the shop", "level": "WARNING"},
    ],
    ids=lambda members: members["message"],
)
def test_output_of_the_application(written: Written, members: dict[str, str]) -> None:
    written.find(**members)


def test_output_of_several_threads_is_neither_mixed_nor_lost() -> None:
    original = io.StringIO()
    stream = JsonStream(original)
    stream.write("begun by one thread, ")
    with ThreadPoolExecutor(1) as executor:
        executor.submit(stream.write, "of another thread\n").result()
    stream.write("and finished by it\n")
    messages = [json.loads(line)["message"] for line in original.getvalue().splitlines()]
    assert messages == ["of another thread", "begun by one thread, and finished by it"]


def test_warning_of_python(written: Written) -> None:
    [warning] = [each for each in written.objects if each["logger"] == "py.warnings"]
    assert "a warning of Python" in warning["message"]


def test_reason_why_the_start_stops(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_OAUTH_")}
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--config", "python:wsgi_oauth.gunicorn_conf", "--bind", "127.0.0.1:0"],
        env={**environ, "WSGI_OAUTH_LOG_FORMAT": "json", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    messages = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    assert any("WSGI_OAUTH_CLIENT_ID: missing" in message for message in messages)
