"""Cost of a start: CPU time to import the package and create an application, and the memory of a ready worker."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import requests

from .application import run_application
from .measure import Case, Report, Timer, arguments, interleave, temporary_folder

PROGRAMS = {
    "python without imports": "",
    "bare Werkzeug": "from werkzeug import Request, Response",
    "the tutorial's imports": "from werkzeug import Request, Response; from requests_oauthlib import OAuth2Session",
    "wsgi_oauth, import and create_app": (
        "import wsgi_oauth; wsgi_oauth.create_app("
        "wsgi_oauth.Config(client_id='an-id', client_secret='a-secret', session_store='memory:'))"
    ),
}
STARTUP_TIMEOUT = 30  # seconds
MB = 1_000_000


def process_case(program: str) -> Case:
    """Return a case that runs *program* in a new Python process."""

    def run(timer: Timer, calls: int) -> None:
        for _ in range(calls):
            before = _cpu_time_of_children()
            with timer:
                subprocess.run([sys.executable, "-c", program], check=True)
            timer.cpu += _cpu_time_of_children() - before

    return Case(run, calls=1)


def _cpu_time_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure_memory(folder: Path) -> int:
    """Return the resident set size of a gunicorn worker in bytes, after its first response."""
    settings = {
        "WSGI_OAUTH_CLIENT_ID": "an-id",
        "WSGI_OAUTH_CLIENT_SECRET": "a-secret",
        "WSGI_OAUTH_SESSION_STORE": f"file:{folder / 'sessions'}",
    }
    log = folder / "gunicorn.log"
    with run_application(log, settings, workers=1) as app, requests.Session() as http:
        http.trust_env = False
        response = http.get(f"{app.url}/healthz", timeout=STARTUP_TIMEOUT)
        assert response.status_code == 200, log.read_text()
        time.sleep(1)  # otherwise the worker may still free memory that it needed to start
        return app.memory()


def main() -> None:
    options = arguments(__doc__, rounds=30).parse_args()
    # The round of warm-up compiles the modules. Later rounds read the compiled ones.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    costs = interleave("start", {name: process_case(program) for name, program in PROGRAMS.items()}, options.rounds)
    report = Report("Cost of a start (of a whole process, including the interpreter)")
    for name, cost in costs.items():
        target = 2.2 if name.startswith("wsgi_oauth") else None
        report.add(name, cost, base=costs["bare Werkzeug"], unit="x bare Werkzeug", target=target)
    if sys.platform == "linux":
        with temporary_folder(None) as folder:
            report.count("memory of a ready worker", measure_memory(folder) / MB, "MB", target=36)
    report.finish(options.json)


if __name__ == "__main__":
    main()
