"""Cost of a request through the gate: CPU time as a multiple of a bare Werkzeug application, and system calls.

The application behind the gate does almost nothing, so the cost is that of the gate. The session is stored in a file
and holds the user document of GitHub. The gate has a path rule, and access tokens are permitted.
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

from wsgi_oauth import Config, Identity, LoginRequired, create_app
from wsgi_oauth.oauth.identity import IDENTITY
from wsgi_oauth.sessions.encoding import PROVIDER
from wsgi_oauth.testing import signed_in

from .measure import Report, arguments, interleave, temporary_folder
from .requests import SITE, call_application, request_case
from .tutorial import hello

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

TRACED_REQUESTS = 100
# The traced process looks for these paths before the first and after the last request, to mark them in the trace.
BEGIN, END = "/benchmark/begins", "/benchmark/ends"
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


def protected(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Respond like the smallest application behind the gate."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"Hello"]


class GateBenchmark:
    """A gate with its own session store, and the cookie of a signed-in user."""

    def __init__(self, folder: Path, *, encrypted: bool = False) -> None:
        config = Config(
            client_id="an-id",
            client_secret="a-secret",
            public_url=f"{SITE}/auth",
            session_store=f"file:{folder / 'sessions'}",
            session_seal=encrypted,
            tokens=True,
        )
        app = create_app(config)
        self.gate = LoginRequired(
            protected, app, public=["/public"], allow={"/admin": ["org:staff"]}, sign_out=["/bye"]
        )
        octocat = Identity("github", "583231", username="octocat", name="The Octocat", claims=OCTOCAT)
        token = {"access_token": "x" * 40, "token_type": "Bearer", "scope": "read:user user:email"}
        name, value = signed_in(self.gate, octocat, token=token)
        self.cookie = f"{name}={value}"
        data = {IDENTITY: octocat.as_dict(), PROVIDER: next(iter(app.oauth.registrations.values())).key}
        self.token, _ = app.access_tokens.create(octocat.id, data, name="benchmark", lifetime=3600)
        time.sleep(3)  # otherwise the cache is not used, because the session file was written a moment ago

    def environ(self, path: str, *, signed_in: bool, token: str = "") -> WSGIEnvironment:
        headers = {"Accept": "text/html,application/json", "Cookie": self.cookie if signed_in else "theme=dark"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return {**create_environ(path, SITE, headers=headers), "REMOTE_ADDR": "127.0.0.1"}


def measure(plain: GateBenchmark, encrypted: GateBenchmark, rounds: int, report: Report) -> None:
    page = plain.environ("/page", signed_in=True)
    encrypted_page = encrypted.environ("/page", signed_in=True)
    program = plain.environ("/page", signed_in=False, token=plain.token)
    public = plain.environ("/public", signed_in=False)
    refused = plain.environ("/page", signed_in=False)
    verified = plain.environ("/auth/verify", signed_in=True)
    expected = [
        (plain, page, "200 OK"),
        (encrypted, encrypted_page, "200 OK"),
        (plain, program, "200 OK"),
        (plain, public, "200 OK"),
        (plain, refused, "302 FOUND"),
        (plain, verified, "204 No Content"),
    ]
    for benchmark, environ, status in expected:
        found = call_application(benchmark.gate, dict(environ))[0]
        assert found == status, found
    cases = {
        "bare Werkzeug": (request_case(hello, page, 300), None),
        "gate, signed in": (request_case(plain.gate, page, 300), 0.5),
        "gate, signed in, encrypted sessions": (request_case(encrypted.gate, encrypted_page, 300), 1.5),
        "gate, access token": (request_case(plain.gate, program, 300), 0.5),
        "gate, anonymous, protected page": (request_case(plain.gate, refused, 300), 2.5),
        "gate, anonymous, public page": (request_case(plain.gate, public, 300), None),
        "GET /verify for a proxy, signed in": (request_case(plain.gate, verified, 300), 1.5),
        "the application without the gate": (request_case(protected, page, 300), None),
    }
    costs = interleave("requests through the gate", {name: case for name, (case, _) in cases.items()}, rounds)
    for name, (_, target) in cases.items():
        report.add(name, costs[name], base=costs["bare Werkzeug"], unit="x bare Werkzeug", target=target)


def count_system_calls(folder: Path, report: Report) -> None:
    """Run requests under strace, if it is available, and count their system calls."""
    if not shutil.which("strace") or subprocess.run(["strace", "-qqo", os.devnull, "true"], check=False).returncode:
        print("strace is not available: system calls are not counted", file=sys.stderr)
        return
    trace = folder / "trace"
    program = [sys.executable, "-m", "benchmarks.gate", "--traced", "--folder", str(folder)]
    subprocess.run(["strace", "-o", str(trace), *program], check=True)
    lines = trace.read_text().splitlines()
    begin, end = (next(n for n, line in enumerate(lines) if mark in line) for mark in (BEGIN, END))
    calls = lines[begin + 1 : end]
    writes = [line for line in calls if any(word in line for word in WRITING)]
    report.count("system calls of a signed-in request", len(calls) / TRACED_REQUESTS, "")
    report.count("of these, calls that write", len(writes) / TRACED_REQUESTS, "")


def send_traced_requests(folder: Path) -> None:
    """Send the requests that strace observes."""
    benchmark = GateBenchmark(folder)
    environ = benchmark.environ("/page", signed_in=True)
    call_application(benchmark.gate, dict(environ))
    os.path.exists(BEGIN)
    for _ in range(TRACED_REQUESTS):
        call_application(benchmark.gate, dict(environ))
    os.path.exists(END)


def main() -> None:
    parser = arguments(__doc__, rounds=100, folder=True)
    parser.add_argument("--traced", action="store_true", help="only send some requests, for strace")
    options = parser.parse_args()
    with temporary_folder(options.folder) as folder:
        if options.traced:
            send_traced_requests(folder)
            return
        report = Report("Cost of a request through the gate")
        measure(GateBenchmark(folder), GateBenchmark(folder, encrypted=True), options.rounds, report)
        count_system_calls(folder, report)
    report.finish(options.json)


if __name__ == "__main__":
    main()
