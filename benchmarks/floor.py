"""Lower bounds: the cost of small programs that do a part of the work only, in multiples of a bare application.

They show which targets plain Python code on Werkzeug can meet on a machine. None of them is safe to use.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from werkzeug import Request, Response
from werkzeug.routing import Map, Rule
from werkzeug.test import create_environ

from wsgi_oauth.sessions.file import write_atomically
from wsgi_oauth.sessions.store import Record

from .gate import protected
from .measure import Cost, Report, arguments, interleave, repeated, temporary_folder
from .requests import SITE, request_case
from .tutorial import hello

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

BARE = "bare Werkzeug"
_ROUTES = Map([Rule(path, endpoint=path) for path in ("/", "/callback", "/profile", "/logout")]).bind("localhost")


def gate_by_hand(session: Path, cookie: str) -> WSGIApplication:
    """Return a gate without rules, which finds a login by the Cookie header and looks whether its file has changed."""
    logins = {cookie: (os.fspath(session), session.lstat().st_ctime_ns, {"REMOTE_USER": "583231@github"})}

    def gate(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
            return start_response(status, [*headers, ("Vary", "Cookie"), ("Cache-Control", "private, no-cache")])

        path, changed, identity = logins[environ["HTTP_COOKIE"]]
        assert os.lstat(path).st_ctime_ns == changed
        return protected({**environ, **identity}, start)

    return gate


def uncached_gate_by_hand(folder: Path) -> WSGIApplication:
    """Return a gate without rules and without a cache, which reads one cookie and one file."""

    def gate(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        session_id = environ["HTTP_COOKIE"].partition("=")[2]
        with open(f"{folder}/{session_id}", "rb") as file:
            identity = json.load(file)
        return protected({**environ, "REMOTE_USER": identity["id"]}, start_response)

    return gate


def redirect_by_hand(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Redirect, with Werkzeug's request, routing and response alone."""
    _ROUTES.match(Request(environ).path)
    return Response(status=302, headers={"Location": "/page"})(environ, start_response)


def start_by_hand(folder: Path) -> WSGIApplication:
    """Return a start of a sign-in with PKCE, whose state is in a file, like a session of this project."""

    def start(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        _ROUTES.match(request.path)
        state, verifier, session_id = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        parameters = {
            "response_type": "code",
            "client_id": "an-id",
            "redirect_uri": f"{SITE}/callback",
            "scope": "profile email",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        record = {"started": time.time(), "code_verifier": verifier, "next": "/profile"}
        write_session(folder, session_id, {"oauth_state": {state: record}})
        response = Response(status=302, headers={"Location": f"{SITE}/authorize?{urlencode(parameters)}"})
        response.set_cookie("session", session_id, secure=True, httponly=True, samesite="Lax")
        return response(environ, start_response)

    return start


def write_session(folder: Path, session_id: str, data: dict[str, Any]) -> None:
    path = f"{folder}/{sha256(session_id.encode()).hexdigest()}.json"
    write_atomically(path, Record(json.dumps(data).encode(), time.time() + 3600))


def measure(folder: Path, rounds: int) -> dict[str, list[Cost]]:
    """Return the costs of the parts, and of the bare application, with files in *folder*."""
    write_session(folder, "an-id", {"oauth_token": "x" * 400})
    [session] = folder.iterdir()
    (folder / "an-id").write_text(json.dumps({"id": "583231@github"}))
    cookie = "__Host-wsgi_oauth=an-id"
    environ = {**create_environ("/", SITE, headers={"Cookie": cookie}), "REMOTE_ADDR": "127.0.0.1"}
    data = {"oauth_state": {"x" * 43: {"code_verifier": "x" * 43, "next": "/profile"}}}
    cases = {
        BARE: request_case(hello, environ, 300),
        "`lstat` of a session file": repeated(lambda: os.lstat(session), 300),
        "a gate by hand: one dictionary, one `lstat`": request_case(gate_by_hand(session, cookie), environ, 300),
        "a gate by hand without a cache: one cookie, one file": request_case(
            uncached_gate_by_hand(folder), environ, 300
        ),
        "a redirect by hand: Werkzeug's request, routing and response": request_case(redirect_by_hand, environ, 100),
        "writing a session file, with its rename": repeated(lambda: write_session(folder, "another-id", data), 100),
        "a start of a sign-in by hand: PKCE, one file, one cookie": request_case(start_by_hand(folder), environ, 50),
    }
    return interleave("lower bounds", cases, rounds)


def main() -> None:
    options = arguments(__doc__, rounds=100, folder=True).parse_args()
    with temporary_folder(options.folder) as folder:
        costs = measure(folder, options.rounds)
    report = Report("Lower bounds")
    for name, cost in costs.items():
        report.add(name, cost, base=costs[BARE], unit="x bare Werkzeug")
    report.finish(options.json)


if __name__ == "__main__":
    main()
