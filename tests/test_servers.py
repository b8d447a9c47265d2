"""docs/servers.md: its command lines start each server with an application behind the gate, and users can sign in."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import (
    Barrier,
    Gunicorn,
    Site,
    Visitor,
    assert_keeps_secrets,
    environ_for,
    free_port,
    get_and_close,
    secrets_of,
)

DOCUMENT = (Path(__file__).parent.parent / "docs" / "servers.md").read_text()
APPLICATION = """
from wsgi_oauth import LoginRequired, current_identity, get_app


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [current_identity(environ).username.encode()]


app = LoginRequired(application, get_app())
"""
# Each server's command line, or the program that starts it, as the document shows them.
SERVERS: dict[str, tuple[str, str]] = {
    name: (language, code)
    for name, language, code in re.findall(r"<!-- start (\S+) -->\n```(sh|python)\n(.*?)```", DOCUMENT, re.DOTALL)
}


@contextmanager
def started(name: str, site: Site) -> Iterator[Gunicorn]:
    """Start a server on a free port as the document says, and wait until it listens."""
    port = free_port()
    language, code = SERVERS[name]
    assert "8000" in code
    code = code.replace("8000", str(port))
    site.folder.joinpath("myapp.py").write_text(APPLICATION)
    site.folder.joinpath("serve.py").write_text(code)
    command = [sys.executable, "serve.py"] if language == "python" else shlex.split(code.replace("\\\n", ""))
    clean = {variable: value for variable, value in os.environ.items() if not variable.startswith("WSGI_OAUTH_")}
    environ = {
        **clean,
        **environ_for(site.provider, SESSION_STORE=f"file:{site.sessions}"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{Path(__file__).parent.parent}:{site.folder}",
        "NO_PROXY": "127.0.0.1",
    }
    log = site.folder / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            env=environ,
            cwd=site.folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # its workers can then be killed, too
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 60
            while not listens(port):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
            yield Gunicorn(f"http://127.0.0.1:{port}", process, log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_all_servers_that_can_be_installed_are_tested() -> None:
    assert set(SERVERS) == {"waitress", "cheroot", "gevent", "uwsgi", "hypercorn", "granian", "wsgiref"}


@pytest.mark.parametrize("name", SERVERS)
def test_users_sign_in_and_out_through_the_gate_and_no_code_is_logged(name: str, site: Site) -> None:
    with started(name, site) as server, Visitor(server.url, site.provider) as visitor:
        to_sign_in = visitor.get("/page?x=%20y")
        assert to_sign_in.status_code == 302
        callback_url = visitor.callback_url(to_sign_in.headers["Location"])
        # Codes of other providers may have several thousand characters.
        refused = visitor.get(f"{server.url}/auth/callback?state=unknown&code={'c' * 8000}")
        assert (refused.status_code, "<h1>" in refused.text) == (400, True)
        done = visitor.get(callback_url)
        assert (done.status_code, done.headers["Location"]) == (303, "/page?x=%20y")
        assert visitor.get("/page").text == "octocat"
        assert visitor.web.head(f"{server.url}/auth/profile", timeout=60).status_code == 200
        signed_out = visitor.post("/auth/logout")
        assert (signed_out.status_code, signed_out.content) == (303, b"")
        assert visitor.get("/page").status_code == 302
        secrets = secrets_of(site.provider)
        server.process.terminate()
        server.process.wait(timeout=60)
        assert_keeps_secrets(server.log.read_text(), secrets | {"c" * 1000})


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "wsgiref"])  # wsgiref has a single thread
def test_gate_serves_signed_in_users_while_32_requests_wait(
    name: str, site: Site, barrier: Callable[[str], Barrier]
) -> None:
    """All of them wait for the provider or get a 503, so none waits for a thread."""
    with started(name, site) as server, Visitor(server.url, site.provider) as visitor:
        assert visitor.get(visitor.callback_url("/auth/")).status_code == 303
        assert visitor.get("/page").text == "octocat"
        waiting = barrier("profile")
        with ThreadPoolExecutor(32) as threads:
            answers = [threads.submit(get_and_close, visitor.copy(), "/auth/profile") for _ in range(32)]
            try:
                poll(lambda: sum(each.done() for each in answers) + len(waiting.ports) == 32)
                assert visitor.get("/page").text == "octocat"
                assert [each.result().status_code for each in answers if each.done()] == [503] * (
                    32 - len(waiting.ports)
                )
            finally:
                waiting.open()
        assert {each.result().status_code for each in answers} == {200, 503}


def poll(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
