"""What a start costs: a new process that imports the package and makes an application, against bare Werkzeug."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from .measure import Case, Report, Timer, arguments, interleave

PROGRAMS = {
    "python, and nothing else": "",
    "bare Werkzeug": "from werkzeug import Request, Response",
    "the tutorial's imports": "from werkzeug import Request, Response; from requests_oauthlib import OAuth2Session",
    "wsgi_oauth, application made": (
        "import wsgi_oauth; wsgi_oauth.create_app("
        "wsgi_oauth.Config(client_id='an-id', client_secret='a-secret', session_store='memory:'))"
    ),
}


def started(program: str) -> Case:
    def run(timer: Timer, calls: int) -> None:
        for _ in range(calls):
            before = _children()
            with timer:
                subprocess.run([sys.executable, "-c", program], check=True)
            timer.cpu += _children() - before

    return Case(run, calls=1)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    options = arguments(__doc__, rounds=30).parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the warm-up compiles; from then on it is read
    costs = interleave("starting", {name: started(program) for name, program in PROGRAMS.items()}, options.rounds)
    report = Report("What a start costs (a whole process, interpreter included)")
    for name, cost in costs.items():
        target = 1.95 if name.startswith("wsgi_oauth") else None
        report.add(name, cost, base=costs["bare Werkzeug"], unit="x bare Werkzeug", target=target)
    report.finish(options.json)


if __name__ == "__main__":
    main()
