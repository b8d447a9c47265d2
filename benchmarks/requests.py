"""Cost of a request: CPU time of the application's process, compared with bare Werkzeug and with the tutorial's code.

The provider runs in another process, over TLS. The CA bundle has its private CA and about a hundred others.
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
from wsgi_oauth.oauth.keys import verifies_signatures

from .measure import Case, Cost, Report, Timer, arguments, interleave, repeated, temporary_folder
from .provider import ROUND_TRIP, Provider, running_provider
from .tutorial import Tutorial, hello

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

SITE = "https://localhost"


class WSGIBrowser:
    """Calls an application without sockets, and keeps its cookies. Only the application is inside the timer.

    :param http: for the provider's pages. All browsers share it, because memory that one browser allocates and frees
        would slow down the next measurement.
    """

    def __init__(self, app: WSGIApplication, http: Session) -> None:
        self.app = app
        self.cookies: dict[str, str] = {}
        self._http = http

    def environ(self, url: str) -> WSGIEnvironment:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items() if value)
        environ = create_environ(url.removeprefix(SITE), SITE, headers={"Cookie": cookies} if cookies else {})
        return {**environ, "HTTP_ACCEPT": "text/html,application/json", "REMOTE_ADDR": "127.0.0.1"}

    def get(self, url: str, timer: Timer | None = None) -> str:
        """Send a request, and return the Location of the response, or an empty string."""
        environ = self.environ(url)
        with timer or Timer():
            status, headers, body = call_application(self.app, environ)
        assert status[:3] in {"200", "302", "303"}, (status, body)
        for name, value in headers:
            if name.lower() == "set-cookie":
                key, _, content = value.partition(";")[0].partition("=")
                self.cookies[key] = content
        return dict(headers).get("Location", "")

    def consent(self, authorization_url: str) -> str:
        """Allow the access on the provider's page, and return the URL of the callback."""
        response = self._http.post(authorization_url, data={"decision": "allow"}, allow_redirects=False, timeout=10)
        return response.headers["Location"]

    def sign_in(self, timer: Timer | None = None) -> None:
        self.get(self.consent(self.get("/", timer)), timer)


def call_application(app: WSGIApplication, environ: WSGIEnvironment) -> tuple[str, list[tuple[str, str]], bytes]:
    """Call *app* as a server does, and return status, headers and body."""
    started: list[Any] = []
    body = app(environ, lambda status, headers, _=None: started.extend((status, headers)))  # type: ignore[arg-type,return-value]
    content = b"".join(body)
    if close := getattr(body, "close", None):
        close()
    return started[0], started[1], content


def request_case(app: WSGIApplication, environ: WSGIEnvironment, calls: int) -> Case:
    """Return a case that repeats the same request."""
    return repeated(lambda: call_application(app, dict(environ)), calls)


def sign_in_case(new_browser: Callable[[], WSGIBrowser], calls: int) -> Case:
    """Return a case that sends ``/`` and ``/callback`` from a new browser each time, without the provider's page."""

    def run(timer: Timer, calls: int) -> None:
        for _ in range(calls):
            new_browser().sign_in(timer)

    return Case(run, calls)


def second_start_case(new_browser: Callable[[], WSGIBrowser], calls: int, path: str = "/") -> Case:
    """Return a case that sends *path* twice from a new browser each time, and measures the second request."""

    def run(timer: Timer, calls: int) -> None:
        for _ in range(calls):
            browser = new_browser()
            browser.get(path)
            browser.get(path, timer)

    return Case(run, calls)


def config_for(provider: Provider, folder: Path, base: str) -> Config:
    """Return a configuration that sends requests to the provider at the URL *base*."""
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


class RequestBenchmark:
    """Both applications, each with a near provider and with one at a round trip of 20 ms."""

    def __init__(self, provider: Provider, folder: Path, http: Session) -> None:
        self.provider = provider
        self.http = http
        near = config_for(provider, folder, provider.url)
        far = config_for(provider, folder, provider.far_url)
        self.near = {"wsgi_oauth": create_app(near), "tutorial": Tutorial(near)}
        self.far = {"wsgi_oauth": create_app(far), "tutorial": Tutorial(far)}
        self.openid = Config(
            provider=provider.issuer,
            client_id=provider.client_id,
            client_secret=provider.client_secret,
            public_url=SITE,
            session_store=f"file:{folder / 'openid'}",
        )

    def browser(self, app: WSGIApplication, *, signed_in: bool = True) -> WSGIBrowser:
        browser = WSGIBrowser(app, self.http)
        if signed_in:
            browser.sign_in()
        return browser

    def page(
        self, app: WSGIApplication, path: str, calls: int, *, signed_in: bool = False, accept: str = "application/json"
    ) -> Case:
        browser = self.browser(app, signed_in=signed_in)
        return request_case(app, {**browser.environ(path), "HTTP_ACCEPT": accept}, calls)

    def measure_without_provider(self, rounds: int) -> dict[str, list[Cost]]:
        """Measure responses that need no request to the provider."""
        ours, tutorial = self.near["wsgi_oauth"], self.near["tutorial"]
        started = self.browser(ours, signed_in=False)
        for _ in range(20):  # the highest number of one browser
            started.get("/")
        cases = {
            "bare Werkzeug": request_case(hello, self.browser(hello, signed_in=False).environ("/"), 300),
            "/healthz": self.page(ours, "/healthz", 300),
            "/": self.page(ours, "/", 300),
            "page about an error": self.page(ours, "/favicon.ico", 300, accept="text/html"),
            "the same as JSON": self.page(ours, "/favicon.ico", 300),
            "/ again, in the same browser": second_start_case(lambda: self.browser(ours, signed_in=False), 50),
            "/ again, with twenty pending sign-ins": request_case(ours, started.environ("/"), 50),
            "/ of the tutorial": self.page(tutorial, "/", 50),
        }
        return interleave("requests without the provider", cases, rounds)

    def measure_with_provider(self, rounds: int) -> dict[str, list[Cost]]:
        """Measure responses that need requests to the provider."""
        ours, tutorial = self.near["wsgi_oauth"], self.near["tutorial"]
        cases = {
            "/profile": self.page(ours, "/profile", 20, signed_in=True),
            "/profile of the tutorial": self.page(tutorial, "/profile", 4, signed_in=True),
            "sign-in": sign_in_case(lambda: self.browser(ours, signed_in=False), 4),
            "sign-in of the tutorial": sign_in_case(lambda: self.browser(tutorial, signed_in=False), 4),
        }
        return interleave("requests with the provider", cases, rounds)

    def measure_new_connections(self, rounds: int) -> dict[str, list[Cost]]:
        """Measure with a provider that closes each connection, so that each request needs a new one."""
        cases = {
            "/profile": self.page(self.near["wsgi_oauth"], "/profile", 4, signed_in=True),
            "/profile of the tutorial": self.page(self.near["tutorial"], "/profile", 4, signed_in=True),
        }
        self.provider.close_after_each_response(True)
        costs = interleave("new connections", cases, rounds)
        self.provider.close_after_each_response(False)
        return costs

    def measure_signatures(self, rounds: int) -> dict[str, list[Cost]]:
        """Measure sign-ins with ID tokens (RS256), whose keys the application with signatures has cached."""
        apps = {
            "sign-in with an ID token": create_app(self.openid),
            "the same, signature verified": create_app(self.openid),
        }
        for registration in apps["sign-in with an ID token"].oauth.registrations.values():
            registration.keys = None  # as without the extra `openid`
        cases = {
            name: sign_in_case(lambda app=app: self.browser(app, signed_in=False), 2) for name, app in apps.items()
        }
        return interleave("signatures of ID tokens", cases, rounds)

    def measure_far_provider(self, rounds: int) -> dict[str, list[Cost]]:
        cases = {
            "/profile": self.page(self.far["wsgi_oauth"], "/profile", 4, signed_in=True),
            "/profile of the tutorial": self.page(self.far["tutorial"], "/profile", 4, signed_in=True),
        }
        return interleave("provider at 20 ms round trip", cases, rounds)

    def count_connections(self, app: WSGIApplication) -> tuple[float, float]:
        """Return how many connections a second callback opens, and how many a second profile request."""
        signed_in = self.browser(app)
        signed_in.get("/profile")
        profile = self._count_new_connections(lambda: signed_in.get("/profile"))
        browser = self.browser(app, signed_in=False)
        callback = browser.consent(browser.get("/"))
        return self._count_new_connections(lambda: browser.get(callback)), profile

    def _count_new_connections(self, action: Callable[[], object]) -> int:
        before = self.provider.connections
        action()
        return self.provider.connections - before


def measure(benchmark: RequestBenchmark, rounds: int, report: Report) -> None:
    without = benchmark.measure_without_provider(rounds)
    targets = {"/": 7, "/ again, in the same browser": 8}
    for name, costs in without.items():
        report.add(name, costs, base=without["bare Werkzeug"], unit="x bare Werkzeug", target=targets.get(name))
    fewer_rounds = max(rounds // 3, 5)
    with_provider = benchmark.measure_with_provider(fewer_rounds)
    for name, target in {"/profile": 1 / 25, "sign-in": 1 / 14}.items():
        tutorial = with_provider[f"{name} of the tutorial"]
        report.add(name, with_provider[name], base=tutorial, unit="x the tutorial", target=target)
        report.add(f"{name} of the tutorial", tutorial)
    new = benchmark.measure_new_connections(fewer_rounds)
    tutorial = new["/profile of the tutorial"]
    report.add("/profile, new connection", new["/profile"], base=tutorial, unit="x the tutorial")
    if verifies_signatures():
        (name, plain), (verified_name, verified) = benchmark.measure_signatures(fewer_rounds).items()
        report.add(name, plain)
        report.add(verified_name, verified, base=plain, unit="x the same without")
        more = median(a.cpu - b.cpu for a, b in zip(verified, plain, strict=True))
        report.count("CPU that a verified signature adds to a sign-in", more * 1000, "ms", target=1.5)
    far = benchmark.measure_far_provider(fewer_rounds)
    tutorial = far["/profile of the tutorial"]
    report.add("/profile, 20 ms away", far["/profile"], base=tutorial, unit="x the tutorial (wall)", of="wall")
    report.add("/profile of the tutorial, 20 ms away", tutorial)
    trips = median(cost.wall for cost in far["/profile"]) / ROUND_TRIP
    report.count("/profile, 20 ms away", trips, "round trips", target=1.15)
    for name, app in benchmark.near.items():
        connections = zip(("/callback", "/profile"), benchmark.count_connections(app), strict=True)
        for path, opened in connections:
            target = 0 if name == "wsgi_oauth" else None
            report.count(f"connections opened for a {path}: {name}", opened, "TCP and TLS handshakes", target)


def main() -> None:
    options = arguments(__doc__, rounds=30, folder=True).parse_args()
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    report = Report("Cost of a request")
    with temporary_folder(options.folder) as folder, running_provider(folder) as provider, Session() as http:
        http.verify = os.environ["REQUESTS_CA_BUNDLE"] = str(folder / "ca.pem")
        measure(RequestBenchmark(provider, folder, http), options.rounds, report)
    report.finish(options.json)


if __name__ == "__main__":
    main()
