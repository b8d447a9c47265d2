"""The gate under gunicorn: streaming, uploads, sendfile and disconnects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import JSON, WORKERS, Gunicorn, Site, Visitor, until

ANY_WORKER = pytest.mark.parametrize("worker", WORKERS.values(), ids=WORKERS)

APPLICATION = '''
import hashlib
import json
import os
import resource
import threading

from wsgi_oauth import LoginRequired, current_identity, get_app

go = threading.Event()
sendfile = os.sendfile


def noted(*arguments):
    sent = sendfile(*arguments)
    print("sendfile", sent, flush=True)
    return sent


os.sendfile = noted


class Body:
    """An endless body that logs when it is closed."""

    def __iter__(self):
        while True:
            yield b"x" * 65536

    def close(self):
        print("the body is closed", flush=True)


def chunks(environ, start_response):
    """Call start_response only when the first chunk is requested."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first\\n"
    go.wait(30)
    yield b"second\\n"


def upload(environ, start_response):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sha, size = hashlib.sha256(), 0
    while part := environ["wsgi.input"].read(65536):
        sha.update(part)
        size += len(part)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"size": size, "sha256": sha.hexdigest(), "grown": grown}).encode()]


def inside(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/chunks":
        return chunks(environ, start_response)
    if path == "/go":
        go.set()
    if path == "/upload":
        return upload(environ, start_response)
    if path == "/fails":
        raise RuntimeError("the application has failed")
    if path == "/file":
        file = open(os.environ["BIG_FILE"], "rb")
        size = str(os.stat(file.fileno()).st_size)
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", size)])
        return environ["wsgi.file_wrapper"](file, 8192)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/for-ever":
        return Body()
    return [str(current_identity(environ)).encode()]


app = LoginRequired(inside, get_app())
'''


class Guest(Visitor):
    """A browser for an application behind the gate."""

    def sign_in_at_the_gate(self) -> None:
        to_sign_in = self.get("/page").headers["Location"]
        done = self.get(self.callback_url(to_sign_in)).headers["Location"]
        page = self.get(done)
        assert (page.status_code, "octocat" in page.text) == (200, True)


@contextmanager
def gated(site: Site, *options: str) -> Iterator[tuple[Gunicorn, Guest]]:
    """Start gunicorn with the gate, and sign a user in."""
    site.folder.joinpath("gated.py").write_text(APPLICATION)
    with site.serve(*options, app="gated:app") as server, Guest(server.url, site.provider) as guest:
        guest.sign_in_at_the_gate()
        yield server, guest


def test_public_url_without_the_prefix_stops_the_start_with_an_explanation(site: Site):
    site.folder.joinpath("gated.py").write_text(APPLICATION)
    with site.serve(app="gated:app", PUBLIC_URL="https://shop.example") as server:
        assert server.process.wait(timeout=30) != 0
        said = server.log.read_text()
    assert "wsgi_oauth cannot start:\nWSGI_OAUTH_PUBLIC_URL: must end with /auth" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_file_is_sent_with_sendfile(site: Site, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """gunicorn uses sendfile only if the application returns gunicorn's own file wrapper. gevent never uses it."""
    big = tmp_path / "big"
    big.write_bytes(b"0123456789abcdef" * 65536)
    monkeypatch.setenv("BIG_FILE", str(big))
    with gated(site, *WORKERS[kind]) as (server, guest):
        assert guest.get("/file").content == big.read_bytes()
        until(r"sendfile \d+", server)


def test_large_upload_is_passed_on_without_buffering(site: Site):
    part, parts = b"\x00\xff" * 32768, 1600  # 100 MB
    sha = hashlib.sha256()
    for _ in range(parts):
        sha.update(part)
    with gated(site, *WORKERS["gthread"]) as (_, guest):
        response = guest.web.post(f"{guest.url}/upload", data=(part for _ in range(parts)), timeout=60)
    document = response.json()
    assert (document["size"], document["sha256"]) == (len(part) * parts, sha.hexdigest())
    assert document["grown"] < 20_000  # kB


def test_upload_of_an_anonymous_user_is_refused(site: Site):
    with gated(site, *WORKERS["gthread"]) as (server, _), Guest(server.url, site.provider) as stranger:
        response = stranger.web.post(f"{server.url}/upload", data=b"x" * 100_000, headers=JSON, timeout=60)
        assert response.status_code == 401
        assert response.json()["login_url"] == f"{server.url}/auth/"


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_response_is_streamed_chunk_by_chunk(site: Site, kind: str):
    """The second chunk is created only after the first has arrived, and another request has said so."""
    with (
        gated(site, *WORKERS[kind]) as (_, guest),
        guest.copy() as other,
        guest.web.get(f"{guest.url}/chunks", stream=True, timeout=60) as response,
    ):
        lines = response.iter_lines(chunk_size=1)
        assert next(lines) == b"first"
        assert other.get("/go").status_code == 200
        assert next(lines) == b"second"


@ANY_WORKER
def test_body_is_closed_if_the_client_disconnects(site: Site, worker: tuple[str, ...]):
    with gated(site, *worker) as (server, guest):
        with guest.web.get(f"{guest.url}/for-ever", stream=True, timeout=60) as response:
            assert next(response.iter_content(10)) == b"x" * 10
        until("the body is closed", server)


def test_exception_of_the_application_is_handled_by_gunicorn(site: Site):
    with gated(site, *WORKERS["sync"]) as (server, guest):
        response = guest.get("/fails")
        assert (response.status_code, "Cause" in response.text) == (500, False)
        until("RuntimeError: the application has failed", server)
