"""What the gate costs: a request through it, against a bare Werkzeug hello, and its system calls.

The application behind the gate does next to nothing, so what is measured is the gate. The session is in a file, with
the user document that GitHub gives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.test import create_environ

from wsgi_oauth import Config, LoginRequired, create_app
from wsgi_oauth.app import OAuthApp
from wsgi_oauth.oauth.identity import IDENTITY, read_identity
from wsgi_oauth.sessions.session import TOKEN, Session

from .measure import Report, arguments, interleave, temporary_folder
from .requests import SITE, call, requests_of
from .tutorial import hello

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CALLS = 100  # requests under strace
BEGIN, END = "/benchmark/begins", "/benchmark/ends"  # paths that are looked for there, as marks between the others
WRITING = ("write", "pwrite", "rename", "unlink", "link", "mkdir", "truncate", "utime", "chmod", "O_WRONLY", "O_RDWR")
OCTOCAT = {
    "login": "octocat",
    "id": 583231,
    "node_id": "MDQ6VXNlcjU4MzIzMQ==",
    **{
        f"{what}_url": f"https://api.github.com/users/octocat/{what}"
        for what in ("avatar", "html", "followers", "following", "gists", "starred", "subscriptions", "repos", "events")
    },
    "type": "User",
    "name": "The Octocat",
    "company": "@github",
    "location": "San Francisco",
    "public_repos": 8,
    "followers": 20000,
    "created_at": "2011-01-25T18:44:36Z",
    "updated_at": "2025-01-22T11:24:22Z",
}


def inside(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"Hello"]


class Bench:
    """A gate, and somebody who is signed in."""

    def __init__(self, folder: Path, *, sealed: bool = False) -> None:
        config = Config(
            client_id="an-id",
            client_secret="a-secret",
            public_url=f"{SITE}/auth",
            session_store=f"file:{folder / 'sessions'}",
            session_seal=sealed,
        )
        app = create_app(config)
        assert isinstance(app, OAuthApp)
        self.gate = LoginRequired(inside, app, public=["/public"])
        session = Session(app.sessions)
        session[TOKEN] = {"access_token": "x" * 40, "token_type": "Bearer", "scope": "read:user user:email"}
        session[IDENTITY] = read_identity(OCTOCAT, app.provider).as_dict()
        app.sessions.save(session)
        self.cookie = f"__Host-wsgi_oauth={session.id}"
        time.sleep(2)  # what has just been written is read with more care

    def environ(self, path: str, *, signed_in: bool) -> WSGIEnvironment:
        headers = {"Accept": "text/html,application/json", "Cookie": self.cookie if signed_in else "theme=dark"}
        return {**create_environ(path, SITE, headers=headers), "REMOTE_ADDR": "127.0.0.1"}


def measure(bench: Bench, sealed: Bench, rounds: int, report: Report) -> None:
    page, public = bench.environ("/page", signed_in=True), bench.environ("/public", signed_in=False)
    sealed_page = sealed.environ("/page", signed_in=True)
    asked = [(bench, page), (bench, public), (sealed, sealed_page)]
    assert {call(each.gate, dict(environ))[0] for each, environ in asked} == {"200 OK"}
    cases = {
        "bare Werkzeug": requests_of(hello, page, 300),
        "through the gate, signed in": requests_of(bench.gate, page, 300),
        "through the gate, signed in, sealed": requests_of(sealed.gate, sealed_page, 300),
        "through the gate, anonymous, public path": requests_of(bench.gate, public, 300),
        "the application behind it alone": requests_of(inside, page, 300),
    }
    costs = interleave("requests through the gate", cases, rounds)
    for name, cost in costs.items():
        target = 0.4 if name.endswith("signed in") else None
        report.add(name, cost, base=costs["bare Werkzeug"], unit="x bare Werkzeug", target=target)


def count_system_calls(folder: Path, report: Report) -> None:
    """Run requests under strace, where it works."""
    if not shutil.which("strace") or subprocess.run(["strace", "-qqo", os.devnull, "true"], check=False).returncode:
        print("there is no strace here: system calls are not counted", file=sys.stderr)
        return
    trace = folder / "trace"
    program = [sys.executable, "-m", "benchmarks.gate", "--traced", "--folder", str(folder)]
    subprocess.run(["strace", "-o", str(trace), *program], check=True)
    lines = trace.read_text().splitlines()
    begin, end = (next(n for n, line in enumerate(lines) if mark in line) for mark in (BEGIN, END))
    calls = lines[begin + 1 : end]
    written = [line for line in calls if any(word in line for word in WRITING)]
    report.count("system calls of a signed-in request", len(calls) / CALLS, "", target=4)
    report.count("of these, calls that write", len(written) / CALLS, "")


def traced(folder: Path) -> None:
    """What is run under strace."""
    bench = Bench(folder)
    environ = bench.environ("/page", signed_in=True)
    call(bench.gate, dict(environ))
    os.path.exists(BEGIN)
    for _ in range(CALLS):
        call(bench.gate, dict(environ))
    os.path.exists(END)


def main() -> None:
    parser = arguments(__doc__, rounds=100, folder=True)
    parser.add_argument("--traced", action="store_true", help="only make some requests, for strace")
    options = parser.parse_args()
    with temporary_folder(options.folder) as folder:
        if options.traced:
            traced(folder)
            return
        report = Report("What the gate costs")
        measure(Bench(folder), Bench(folder, sealed=True), options.rounds, report)
        count_system_calls(folder, report)
    report.finish(options.json)


if __name__ == "__main__":
    main()
