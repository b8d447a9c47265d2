"""The gate under a real gunicorn: what only a server and a socket can show."""

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
    """Goes on for ever, and says when it is closed."""

    def __iter__(self):
        while True:
            yield b"x" * 65536

    def close(self):
        print("the body is closed", flush=True)


def chunks(environ, start_response):
    """A generator: start_response is called when the first chunk is asked for."""
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
    """A browser in front of the gate."""

    def enter(self) -> None:
        to_sign_in = self.get("/page").headers["Location"]
        done = self.get(self.callback_url(to_sign_in)).headers["Location"]
        page = self.get(done)
        assert (page.status_code, "octocat" in page.text) == (200, True)


@contextmanager
def gated(site: Site, *options: str) -> Iterator[tuple[Gunicorn, Guest]]:
    """A gunicorn with the gate, and somebody who is signed in."""
    site.folder.joinpath("gated.py").write_text(APPLICATION)
    with site.serve(*options, app="gated:app") as server, Guest(server.url, site.provider) as guest:
        guest.enter()
        yield server, guest


def test_a_public_url_without_the_prefix_stops_the_start_and_says_what_to_set(site: Site):
    site.folder.joinpath("gated.py").write_text(APPLICATION)
    with site.serve(app="gated:app", PUBLIC_URL="https://shop.example") as server:
        assert server.process.wait(timeout=30) != 0
        said = server.log.read_text()
    assert "wsgi_oauth cannot start:\nWSGI_OAUTH_PUBLIC_URL must end with /auth" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_a_file_is_sent_by_the_kernel(site: Site, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """gunicorn asks for sendfile only when what it gets back is the very file wrapper that it has offered. (gevent's
    sockets have no use for it.)
    """
    big = tmp_path / "big"
    big.write_bytes(b"0123456789abcdef" * 65536)
    monkeypatch.setenv("BIG_FILE", str(big))
    with gated(site, *WORKERS[kind]) as (server, guest):
        assert guest.get("/file").content == big.read_bytes()
        until(r"sendfile \d+", server)


@ANY_WORKER
def test_a_large_upload_passes_and_is_never_in_memory(site: Site, worker: tuple[str, ...]):
    part, parts = b"\x00\xff" * 32768, 1600  # 100 MB
    sha = hashlib.sha256()
    for _ in range(parts):
        sha.update(part)
    with gated(site, *worker) as (_, guest):
        response = guest.web.post(f"{guest.url}/upload", data=(part for _ in range(parts)), timeout=60)
    document = response.json()
    assert (document["size"], document["sha256"]) == (len(part) * parts, sha.hexdigest())
    assert document["grown"] < 20_000  # kB


def test_an_upload_of_somebody_unknown_is_refused_and_not_read(site: Site):
    with gated(site, *WORKERS["gthread"]) as (server, _), Guest(server.url, site.provider) as stranger:
        response = stranger.web.post(f"{server.url}/upload", data=b"x" * 100_000, headers=JSON, timeout=60)
        assert response.status_code == 401
        assert response.json()["login_url"] == f"{server.url}/auth/"


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_a_stream_arrives_chunk_by_chunk(site: Site, kind: str):
    """The second chunk is made only after the first has arrived here, and another request has said so."""
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
def test_a_client_that_goes_away_closes_what_the_application_has_returned(site: Site, worker: tuple[str, ...]):
    with gated(site, *worker) as (server, guest):
        with guest.web.get(f"{guest.url}/for-ever", stream=True, timeout=60) as response:
            assert next(response.iter_content(10)) == b"x" * 10
        until("the body is closed", server)


def test_an_exception_in_the_application_is_gunicorns_affair_as_without_the_gate(site: Site):
    with gated(site, *WORKERS["sync"]) as (server, guest):
        response = guest.get("/fails")
        assert (response.status_code, "Cause" in response.text) == (500, False)
        until("RuntimeError: the application has failed", server)
