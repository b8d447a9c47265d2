"""Concurrent first use: a new application answers several threads at once without an internal error.

Objects that are built on first use, by several threads at once, are a source of rare internal errors: the first request
to an unknown path, the first session of a store, the first connection to the provider.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environ_for

from wsgi_oauth.demo.local_provider import LocalProvider

PROGRAM = '''
import json
import logging
import os
import sys
import threading

import requests
from werkzeug.test import Client

from wsgi_oauth import Config, LoginRequired, RequestHandler, create_app, current_identity

THREADS, ROUNDS = 8, 12
HTML = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


class Note(RequestHandler):
    route = "/notes/<int:number>"
    endpoint = "note"

    def get(self, request, number):
        request.session["number"] = number
        return self.jsonify({"url": self.url_for(".note", number=number)})


def inside(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(current_identity(environ)).encode()]


def sign_in(get, prefix):
    """Start a sign-in, consent at the provider, and finish it."""
    started = get(prefix + "/")
    answer = requests.post(started.location, {"decision": "allow"}, allow_redirects=False, timeout=60)
    get(answer.headers["Location"])


def signed_in_pages(get):
    sign_in(get, "/auth")
    get("/auth/profile")
    get("/page")


ACTIONS = [
    lambda get: get("/auth/unknown"),
    lambda get: get("/auth/"),
    lambda get: get("/auth/callback?code=x&state=y"),
    lambda get: get("/auth/profile"),
    lambda get: get("/auth/notes/7"),
    lambda get: get("/auth/readyz"),
    lambda get: get("/page"),
    lambda get: get("/public/page"),
    signed_in_pages,
]


def visit(gate, first, barrier, statuses):
    """Run all actions, beginning with the one at *first*, each as a new user."""
    barrier.wait(60)
    for offset in range(len(ACTIONS)):
        client = Client(gate)

        def get(url):
            response = client.get(url.removeprefix("http://localhost"), headers=HTML, base_url="http://localhost")
            statuses.append([url.partition("?")[0], response.status_code])
            return response

        ACTIONS[(first + offset) % len(ACTIONS)](get)


def main():
    sys.setswitchinterval(1e-6)
    logging.basicConfig(level=logging.ERROR)
    folder, statuses, errors = os.environ.pop("SESSIONS"), [], []
    threading.excepthook = lambda arguments: errors.append(repr(arguments.exc_value))
    for round_ in range(ROUNDS):
        if folder:
            os.environ["WSGI_OAUTH_SESSION_STORE"] = f"file:{folder}/{round_}"
        app = create_app(Config.from_environ(os.environ), handlers=[Note])
        gate, barrier = LoginRequired(inside, app, public=["/public"]), threading.Barrier(THREADS)
        # All threads begin with the same action in some rounds, and with different actions in others.
        threads = [
            threading.Thread(target=visit, args=(gate, round_ if round_ % 2 else number, barrier, statuses))
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(json.dumps({"statuses": statuses, "errors": errors, "rounds": ROUNDS, "threads": THREADS}))


main()
'''


@pytest.mark.parametrize("store", ["memory", "file"])
def test_new_application_answers_concurrent_requests_without_an_internal_error(
    provider: LocalProvider, tmp_path: Path, one_authority: str, store: str
):
    """S76: eight threads use each of several new applications for the first time, in a new process."""
    environ = {
        **environ_for(provider, UPSTREAM_LIMIT="8"),
        "SESSIONS": str(tmp_path) if store == "file" else "",
        "SSL_CERT_FILE": one_authority,
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(  # noqa: PLW1510 - the output explains a failure
        [sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    failures = [(path, status) for path, status in result["statuses"] if status >= 500]
    assert (failures, result["errors"]) == ([], []), done.stderr
    visits = result["rounds"] * result["threads"]
    for path, status in {"/auth/unknown": 404, "/auth/": 302, "/auth/profile": 200, "/page": 200}.items():
        assert result["statuses"].count([path, status]) >= visits, (path, status)
