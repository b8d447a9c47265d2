"""Measure the peers and wsgi_oauth in one interleaved run. ``python -m benchmarks.peers`` prepares the environment."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import redis
from requests import Session

from .. import floor, growth, performance
from ..application import Application
from ..growth import redis_server
from ..measure import (
    Case,
    Cost,
    arguments,
    every_processor,
    interleave,
    machine,
    one_processor,
    ratio,
    repeated,
    temporary_folder,
)
from ..provider import ROUND_TRIP, Provider, running_provider
from ..requests import WSGIBrowser, request_case, second_start_case
from ..startup import STARTUP_TIMEOUT, process_case
from ..tutorial import hello
from . import SITE, Settings, ours, proxies

PEERS = {
    "the tutorial in Flask": "flask_tutorial",
    "Flask-Dance": "flask_dance_consumer",
    "Authlib": "authlib_flask",
    "django-allauth": "allauth_django",
    "Bottle with Beaker": "bottle_beaker",
    performance.BY_HAND: "by_hand",
}
OURS = "wsgi_oauth"
PACKAGES = (
    *("requests-oauthlib", "Flask", "Flask-Dance", "Authlib", "Django", "django-allauth", "bottle", "Beaker"),
    *("Werkzeug", "requests", "gunicorn", "redis"),
)
CALLBACKS = ("/callback", "/auth/callback", "/login/local/authorized", "/accounts/github/login/callback/")
Result = dict[str, dict[str, float]]  # the value of each row and column


class Peer:
    """An application in this process, with a signed-in and an anonymous browser."""

    def __init__(self, start: str, app: Any, http: Session) -> None:
        self.app = app
        self.start = start
        self._http = http
        self.browser = self.new_browser()
        self.sign_in(self.browser)

    def new_browser(self) -> WSGIBrowser:
        return WSGIBrowser(self.app, self._http)

    def sign_in(self, browser: WSGIBrowser, timer: Any = None) -> None:
        browser.get(browser.consent(browser.get(self.start, timer)), timer)

    def page(self, path: str, calls: int, *, signed_in: bool = True) -> Case:
        browser = self.browser if signed_in else self.new_browser()
        return request_case(self.app, browser.environ(path), calls)

    def profile(self, calls: int) -> Case:
        """Return a case that requests the user document as JSON. For HTML, only wsgi_oauth would render a page."""
        return request_case(self.app, {**self.browser.environ("/profile"), "HTTP_ACCEPT": "application/json"}, calls)

    def sign_ins(self, calls: int) -> Case:
        def run(timer: Any, calls: int) -> None:
            for _ in range(calls):
                self.sign_in(self.new_browser(), timer)

        return Case(run, calls)

    def second_starts(self, calls: int) -> Case:
        return second_start_case(self.new_browser, calls, self.start)


class Comparison:
    """All applications, and the results."""

    def __init__(self, provider: Provider, folder: Path, http: Session, rounds: int) -> None:
        self.provider = provider
        self.rounds = rounds
        self.rows: Result = {}
        base = provider.url
        self.settings = Settings(
            provider.client_id,
            provider.client_secret,
            f"{base}/login/oauth/authorize",
            f"{base}/login/oauth/access_token",
            f"{base}/api/v3/user",
        )
        self._folder = folder
        self._http = http
        self.peers = {name: self._create(module) for name, module in PEERS.items()}
        self.ours = Peer(ours.start, ours.create(self.settings, self._subfolder("ours")), http)
        self.gate = self._create_gate("gate")

    def _subfolder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder

    def _create(self, name: str) -> Peer:
        module = importlib.import_module(f"{__package__}.{name}")
        return Peer(module.start, module.create(self.settings, self._subfolder(name)), self._http)

    def _create_gate(self, name: str, **options: Any) -> Peer:
        return Peer("/auth/", ours.create_gate(self.settings, self._subfolder(name), **options), self._http)

    def record(self, row: str, costs: dict[str, list[Cost]], base: str | None = None, of: str = "cpu") -> None:
        """Record the medians of *costs*: as multiples of the case *base*, or in milliseconds."""
        self.rows[row] = {
            name: ratio(cost, costs[base], of)
            if base is not None
            else 1000 * median(getattr(each, of) for each in cost)
            for name, cost in costs.items()
            if name != base
        }

    def measure_requests(self, redis_url: str) -> None:
        gates = {OURS: self.gate, "with encrypted sessions": self._create_gate("encrypted", session_seal=True)}
        if redis_url:
            gates["with sessions on Redis"] = self._create_gate("redis", session_store=redis_url)
        for gate in gates.values():
            gate.browser.get("/page")  # stores the user in the session
        time.sleep(3)  # otherwise a session file that was just written is not cached
        bare = {"": request_case(hello, self.gate.browser.environ("/page"), 200)}
        everyone = self.peers | gates
        cases = bare | {name: peer.page("/page", 100) for name, peer in everyone.items()}
        if redis_url:
            client = redis.Redis.from_url(redis_url, protocol=2)
            key = next(iter(client.scan_iter()))
            cases["GET of redis-py alone"] = repeated(lambda: client.get(key), 100)
        verify = self.gate.browser.environ("/auth/verify")
        cases["/verify of wsgi_oauth"] = request_case(self.gate.app, verify, 100)
        self.record("a signed-in request", interleave("signed-in requests", cases, self.rounds), "")
        anonymous = {
            name: peer.page("/page", 50, signed_in=False) for name, peer in (self.peers | {OURS: self.gate}).items()
        }
        self.record("an anonymous request", interleave("anonymous requests", bare | anonymous, self.rounds), "")
        everyone = self.peers | {OURS: self.ours}
        starts = {name: peer.page(peer.start, 30, signed_in=False) for name, peer in everyone.items()}
        self.record("the start of a sign-in", interleave("starts", bare | starts, self.rounds), "")
        starts = {name: peer.second_starts(30) for name, peer in everyone.items()}
        self.record("another start in the same session", interleave("second starts", bare | starts, self.rounds), "")

    def measure_provider(self) -> None:
        """Measure requests to the provider, over TLS."""
        everyone = self.peers | {OURS: self.ours}
        rounds = max(self.rounds // 2, 3)
        cases = {name: peer.profile(4 if name != OURS else 20) for name, peer in everyone.items()}
        self.record("/profile over TLS, ms", interleave("/profile", cases, rounds))
        cases = {name: peer.sign_ins(2 if name != OURS else 8) for name, peer in everyone.items()}
        self.record("a whole sign-in over TLS, ms", interleave("sign-in", cases, rounds))
        opened: Result = {"profile": {}, "callback": {}}
        for name, peer in everyone.items():
            opened["profile"][name] = self._count(lambda peer=peer: peer.browser.get("/profile"))
            browser = peer.new_browser()
            callback = browser.consent(browser.get(peer.start))
            opened["callback"][name] = self._count(lambda browser=browser, url=callback: browser.get(url))
        for path, row in opened.items():
            self.rows[f"connections opened for a {path}"] = row
        far = Peer(ours.start, ours.create(self._far_settings(), self._subfolder("far")), self._http)
        self.settings.profile_url = self._far_settings().profile_url  # the peers read it with each request
        cases = {name: peer.profile(2) for name, peer in (self.peers | {OURS: far}).items()}
        with every_processor():  # because this is wall-clock time
            costs = interleave("provider at 20 ms round trip", cases, rounds)
        self.rows["/profile at 20 ms round trip, round trips"] = {
            name: median(each.wall for each in cost) / ROUND_TRIP for name, cost in costs.items()
        }

    def _far_settings(self) -> Settings:
        near = self.settings
        far_url = near.profile_url.replace(self.provider.url, self.provider.far_url)
        return Settings(near.client_id, near.client_secret, near.authorization_url, near.token_url, far_url)

    def _count(self, action: Callable[[], object]) -> int:
        before = self.provider.connections
        action()
        return self.provider.connections - before

    def measure_start(self) -> None:
        """Measure the import and the creation of the application, and the memory of a gunicorn worker."""
        modules = {**PEERS, OURS: "ours", "with the extra openid": "ours_with_openid"}
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        programs = {"": "from werkzeug import Request, Response"}
        for name, module in modules.items():
            folder = self._subfolder(f"start-{module}")
            programs[name] = f"from benchmarks.peers.serve import create; create({module!r}, {str(folder)!r})"
        os.environ.update(self.settings.to_environ())
        costs = interleave("start", {name: process_case(text) for name, text in programs.items()}, self.rounds)
        self.record("import and creation", costs, "")
        memory = self.rows["memory of a worker, MB"] = {}
        for name, module in modules.items():
            config = os.devnull if name in PEERS else "python:wsgi_oauth.gunicorn_conf"
            memory[name] = measure_memory(self._folder / f"start-{module}", module, config)
        memory["without its settings for gunicorn"] = measure_memory(self._folder / "start-ours", "ours", os.devnull)


def measure_memory(folder: Path, module: str, config: str) -> float:
    """Return the resident set size of a gunicorn worker after its first response, in MB.

    :param config: the settings for gunicorn. Those of this project import the application before the fork.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"benchmarks.peers.serve:create({module!r}, {str(folder)!r})"
        command = [sys.executable, "-m", "gunicorn", "--config", config, "--no-control-socket", "--workers", "1"]
        command += ["--bind", f"fd://{listener.fileno()}", "--worker-class", "gthread", "--threads", "4"]
        command += ["--log-level", "error", target]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()])
        try:
            with Session() as http:
                http.trust_env = False
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                http.get(
                    f"{url}/page",
                    headers={"Host": "localhost", "Accept": "text/html"},
                    timeout=STARTUP_TIMEOUT,
                    allow_redirects=False,
                )
            time.sleep(1)  # otherwise the worker may still free memory that it needed to start
            return Application("", process).memory() / 1e6
        finally:
            process.terminate()
            process.wait(30)


def main() -> None:
    parser = arguments(__doc__, rounds=20, folder=True)
    parser.prog = "python -m benchmarks.peers"
    parser.add_argument("--no-proxies", action="store_true", help="without nginx and Apache")
    parser.add_argument("--sessions", type=int, default=1_000_000, help="the largest store; 0: measure no growth")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md, docs/scaling.md and the plot")
    options = parser.parse_args()
    if options.write and (options.no_proxies or not options.sessions):
        parser.error("--write needs all measurements")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    document: dict[str, Any] = {
        "machine": f"{machine()}, {processor()}",
        "date": time.strftime("%Y-%m-%d"),
        "rounds": options.rounds,
        "versions": {name: version(name) for name in PACKAGES},
    }
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder(options.folder))
        with one_processor(), ExitStack() as started:
            provider = started.enter_context(running_provider(folder, [SITE + path for path in CALLBACKS]))
            http = started.enter_context(Session())
            redis_url = started.enter_context(redis_server(folder))
            http.verify = os.environ["REQUESTS_CA_BUNDLE"] = str(folder / "ca.pem")
            comparison = Comparison(provider, folder, http, options.rounds)
            comparison.measure_requests(redis_url)
            comparison.measure_provider()
            comparison.measure_start()
        document["rows"] = comparison.rows
        with one_processor():
            with temporary_folder(options.folder) as own_folder:
                costs = floor.measure(own_folder, 5 * options.rounds)
            document["floor"] = {name: ratio(cost, costs[floor.BARE], "cpu") for name, cost in costs.items()}
            document["servers"] = {} if options.no_proxies else proxies.compare(folder, options.rounds)
    sizes = options.sessions
    document["growth"] = growth.measure(options.folder, sizes, 2 * options.rounds) if sizes else {}
    print("\n".join(performance.comparison_table(document)))
    if options.json:
        Path(options.json).write_text(json.dumps(document, indent=2) + "\n")
    if options.write:
        performance.RESULTS.write_text(json.dumps(document, indent=2) + "\n")
        performance.write_documents()
        performance.write_plot()


def processor() -> str:
    """Return the model of the processor, if the system tells it."""
    with suppress(OSError):
        if found := re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return found[1]
    return platform.machine()


if __name__ == "__main__":
    main()
