"""What a request costs: CPU time of the application's process, against bare Werkzeug and the tutorial's own code.

The provider runs in another process, over TLS. The CA bundle has its private CA and the usual hundred others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from requests import Session
from werkzeug.test import create_environ

from wsgi_oauth import Config, create_app

from .measure import Case, Cost, Report, Timer, arguments, interleave, repeated, temporary_folder
from .provider import ROUND_TRIP, Provider, running_provider
from .tutorial import Tutorial, hello

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

SITE = "https://localhost"


class Visitor:
    """A browser in front of *app*, without sockets. Its own work is never inside a timer."""

    def __init__(self, app: WSGIApplication, web: Session) -> None:
        """*web*: how it reaches the provider. All share it: what each would load and free, the next to be timed has
        to get back from the system.
        """
        self.app = app
        self.cookie = ""
        self._web = web
        self._consent = {"decision": "allow"}

    def environ(self, url: str) -> WSGIEnvironment:
        environ = create_environ(url.removeprefix(SITE), SITE, headers={"Cookie": self.cookie} if self.cookie else {})
        return {**environ, "HTTP_ACCEPT": "text/html,application/json", "REMOTE_ADDR": "127.0.0.1"}

    def get(self, url: str, timer: Timer | None = None) -> str:
        """Return the Location of the answer."""
        environ = self.environ(url)
        with timer or Timer():
            status, headers, body = call(self.app, environ)
        assert status[:3] in {"200", "302", "303"}, (status, body)
        for name, value in headers:
            if name.lower() == "set-cookie":
                self.cookie = value.partition(";")[0]
        return dict(headers).get("Location", "")

    def allow(self, authorization_url: str) -> str:
        answer = self._web.post(authorization_url, data=self._consent, allow_redirects=False, timeout=10)
        return answer.headers["Location"]

    def sign_in(self, timer: Timer | None = None) -> None:
        self.get(self.allow(self.get("/", timer)), timer)


def call(app: WSGIApplication, environ: WSGIEnvironment) -> tuple[str, list[tuple[str, str]], bytes]:
    """Do what a server does."""
    said: list[Any] = []
    body = app(environ, lambda status, headers, _=None: said.extend((status, headers)))  # type: ignore[arg-type,return-value]
    return said[0], said[1], b"".join(body)


def requests_of(app: WSGIApplication, environ: WSGIEnvironment, calls: int) -> Case:
    """The same request, again and again."""
    return repeated(lambda: call(app, dict(environ)), calls)


def sign_ins(make: Callable[[], Visitor], calls: int) -> Case:
    """A new browser each time: ``/`` and ``/callback``, without what happens on the provider's page."""

    def run(timer: Timer, calls: int) -> None:
        for _ in range(calls):
            make().sign_in(timer)

    return Case(run, calls)


def config_for(provider: Provider, folder: Path, base: str) -> Config:
    return Config(
        client_id=provider.client_id,
        client_secret=provider.client_secret,
        authorization_url=f"{provider.url}/authorize",
        token_url=f"{base}/token",
        profile_url=f"{base}/user",
        issuer=provider.url,
        scope="profile email",
        public_url=SITE,
        session_store=f"file:{folder / 'sessions'}",
    )


class Bench:
    """The two applications, each also with a provider that is far away, and a signed-in visitor of each."""

    def __init__(self, provider: Provider, folder: Path, web: Session) -> None:
        self.provider = provider
        self.web = web
        near = config_for(provider, folder, provider.url)
        far = config_for(provider, folder, provider.far_url)
        self.near = {"wsgi_oauth": create_app(near), "tutorial": Tutorial(near)}
        self.far = {"wsgi_oauth": create_app(far), "tutorial": Tutorial(far)}

    def visitor(self, app: WSGIApplication, *, signed_in: bool = True) -> Visitor:
        visitor = Visitor(app, self.web)
        if signed_in:
            visitor.sign_in()
        return visitor

    def page(self, app: WSGIApplication, path: str, calls: int, *, signed_in: bool = False) -> Case:
        visitor = self.visitor(app, signed_in=signed_in)
        return requests_of(app, visitor.environ(path), calls)

    def cheap(self, rounds: int) -> dict[str, list[Cost]]:
        """Requests that do not ask the provider."""
        ours, theirs = self.near["wsgi_oauth"], self.near["tutorial"]
        started = self.visitor(ours, signed_in=False)
        started.get("/")
        cases = {
            "bare Werkzeug": requests_of(hello, self.visitor(hello, signed_in=False).environ("/"), 300),
            "/healthz": self.page(ours, "/healthz", 300),
            "/": self.page(ours, "/", 300),
            "/ again, in the same session": requests_of(ours, started.environ("/"), 50),
            "/ of the tutorial": self.page(theirs, "/", 50),
        }
        return interleave("requests without the provider", cases, rounds)

    def asking(self, rounds: int) -> dict[str, list[Cost]]:
        """Requests that ask the provider."""
        ours, theirs = self.near["wsgi_oauth"], self.near["tutorial"]
        cases = {
            "/profile": self.page(ours, "/profile", 20, signed_in=True),
            "/profile of the tutorial": self.page(theirs, "/profile", 4, signed_in=True),
            "sign-in": sign_ins(lambda: self.visitor(ours, signed_in=False), 4),
            "sign-in of the tutorial": sign_ins(lambda: self.visitor(theirs, signed_in=False), 4),
        }
        return interleave("requests that ask the provider", cases, rounds)

    def new_connections(self, rounds: int) -> dict[str, list[Cost]]:
        """The same for a provider that hangs up after each answer, so that the next request must connect."""
        cases = {
            "/profile": self.page(self.near["wsgi_oauth"], "/profile", 4, signed_in=True),
            "/profile of the tutorial": self.page(self.near["tutorial"], "/profile", 4, signed_in=True),
        }
        self.provider.hang_up_after_each_answer(True)
        costs = interleave("new connections", cases, rounds)
        self.provider.hang_up_after_each_answer(False)
        return costs

    def far_away(self, rounds: int) -> dict[str, list[Cost]]:
        cases = {
            "/profile": self.page(self.far["wsgi_oauth"], "/profile", 4, signed_in=True),
            "/profile of the tutorial": self.page(self.far["tutorial"], "/profile", 4, signed_in=True),
        }
        return interleave("a provider far away", cases, rounds)

    def connections(self, app: WSGIApplication) -> tuple[float, float]:
        """How many connections a callback and a profile request open, when both have happened before."""
        signed_in = self.visitor(app)
        signed_in.get("/profile")
        profile = self._opened(lambda: signed_in.get("/profile"))
        visitor = self.visitor(app, signed_in=False)
        callback = visitor.allow(visitor.get("/"))
        return self._opened(lambda: visitor.get(callback)), profile

    def _opened(self, action: Callable[[], object]) -> int:
        before = self.provider.connections
        action()
        return self.provider.connections - before


def measure(bench: Bench, rounds: int, report: Report) -> None:
    cheap, few = bench.cheap(rounds), max(rounds // 3, 5)
    asking, new, far = bench.asking(few), bench.new_connections(few), bench.far_away(few)
    for name, costs in cheap.items():
        target = 5 if name == "/" else None
        report.add(name, costs, base=cheap["bare Werkzeug"], unit="x bare Werkzeug", target=target)
    for name, target in {"/profile": 1 / 25, "sign-in": 1 / 14}.items():
        theirs = asking[f"{name} of the tutorial"]
        report.add(name, asking[name], base=theirs, unit="x the tutorial's", target=target)
        report.add(f"{name} of the tutorial", theirs)
    theirs = new["/profile of the tutorial"]
    report.add("/profile, new connection", new["/profile"], base=theirs, unit="x the tutorial's", target=0.12)
    theirs = far["/profile of the tutorial"]
    report.add("/profile, 20 ms away", far["/profile"], base=theirs, unit="x the tutorial's (wall)", of="wall")
    report.add("/profile of the tutorial, 20 ms away", theirs)
    trips = median(cost.wall for cost in far["/profile"]) / ROUND_TRIP
    report.count("/profile, 20 ms away", trips, "round trips", target=1.15)
    for name, app in bench.near.items():
        target = 0 if name == "wsgi_oauth" else None
        for request, opened in zip(("/callback", "/profile"), bench.connections(app), strict=True):
            report.count(f"connections for a {request}: {name}", opened, "TCP and TLS handshakes", target)


def main() -> None:
    options = arguments(__doc__, rounds=30, folder=True).parse_args()
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    report = Report("What a request costs")
    with temporary_folder(options.folder) as folder, running_provider(folder) as provider, Session() as web:
        web.verify = os.environ["REQUESTS_CA_BUNDLE"] = str(folder / "ca.pem")
        measure(Bench(provider, folder, web), options.rounds, report)
    report.finish(options.json)


if __name__ == "__main__":
    main()
