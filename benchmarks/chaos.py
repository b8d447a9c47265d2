"""Check that no session is lost when workers are killed and the provider fails.

Many browsers sign in, use their session, refresh tokens and sign out, while workers are killed with SIGKILL, the
provider injects every fault that it knows, and anonymous browsers start sign-ins. Each error that a user meets must
have a cause: a fault that the provider injected for this user, or a kill. The audit events in the log and in the
metrics must agree with each other and with the browsers. The exit status is 1 if an error has no cause. Then
the application's log is kept, and its tracebacks are printed. Linux only, because it reads /proc.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import requests

from wsgi_oauth import FileStore
from wsgi_oauth.events import NAMES, SIGN_IN, SUCCESS

from .application import Application, kill_worker, run_application
from .browsers import AnonymousBrowser, Browser
from .faulty_provider import FAULT, ISSUED, Event, run_faulty_provider
from .judge import (
    BROKEN,
    BUSY_MACHINE,
    FAULT_INJECTED,
    KILLED_IN_REFRESH,
    SIGNED_IN_AFTER_SIGN_OUT,
    SIGNED_OUT,
    TIMEOUT,
    UPSTREAM_LIMIT,
    WRONG_USER,
    Incident,
    Judge,
    Kill,
)
from .measure import machine, temporary_folder

# File descriptors of an idle worker: those of gunicorn, its connections to the provider, and some to spare.
MOST_DESCRIPTORS = 64
SETTLING_TIME = 30  # seconds in which an idle worker must have closed the connections that its clients closed


# -- the run -----------------------------------------------------------------------------------------------------------


class Chaos:
    """A run: each browser acts in its own thread, and this thread kills workers."""

    def __init__(self, options: argparse.Namespace, app: Application) -> None:
        self._options = options
        self._app = app
        self._random = random.Random(options.seed)
        self._over = threading.Event()
        self._crashes: list[Exception] = []
        self._began = time.monotonic()
        self.kills: list[Kill] = []
        self.users = [Browser(app.url, f"user-{n}", options.seed + n) for n in range(options.browsers)]
        self.browsers = [*self.users, *(AnonymousBrowser(app.url, f"anonymous-{n}", n) for n in range(2))]

    @property
    def operations(self) -> int:
        return sum(len(browser.exchanges) for browser in self.browsers)

    def run(self) -> None:
        threads = [threading.Thread(target=self._keep_acting, args=(browser,)) for browser in self.browsers]
        for thread in threads:
            thread.start()
        try:
            while (progress := self._progress()) < 1 and not self._over.is_set():
                if len(self.kills) < progress * self._options.kills:
                    self._kill_one()
                time.sleep(0.05)
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        if self._crashes:
            raise self._crashes[0]

    def check_sessions(self) -> None:
        """Let each signed-in user open the profile, after the last fault and kill."""
        for browser in self.users:
            if browser.signed_in:
                browser.open_profile()
        for browser in self.browsers:
            browser.close()

    def _keep_acting(self, browser: Browser) -> None:
        try:
            while not self._over.is_set():
                browser.act()
        except Exception as crash:  # noqa: BLE001  # an error in this program ends the run
            self._crashes.append(crash)
            self._over.set()

    def _progress(self) -> float:
        """Return a number between 0 and 1, by operations or by time; 1 only after the last kill."""
        done = self.operations / self._options.operations
        passed = (time.monotonic() - self._began) / self._options.seconds if self._options.seconds else 0
        return max(done, passed) if len(self.kills) >= self._options.kills else min(max(done, passed), 0.999)

    def _kill_one(self) -> None:
        workers = self._app.workers()
        if workers and (kill := kill_worker(self._random.choice(workers))):
            self.kills.append(kill)


# -- the results -------------------------------------------------------------------------------------------------------


class Summary:
    """The table of results, and whether one of them exceeds its limit."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []
        self.failed = False

    def count(self, what: str, value: int, *, at_most: int | None = None) -> None:
        verdict = ""
        if at_most is not None:
            self.failed |= value > at_most
            verdict = f"must be {'at most ' if at_most else ''}{at_most}" + (": FAILED" if value > at_most else "")
        self.lines.append((what, f"{value:,}", verdict))

    def show(self) -> None:
        width, digits = (max(len(line[column]) for line in self.lines) for column in (0, 1))
        for what, value, verdict in self.lines:
            print(f"{what:<{width}}  {value:>{digits}}  {verdict}".rstrip())


def count_incidents(chaos: Chaos, events: list[Event], catalogue: list[str], summary: Summary) -> list[str]:
    """Add the number of incidents of each kind to *summary*. Return the evidence of those that have no cause."""
    counts = sum((browser.counts for browser in chaos.browsers), Counter[str]())
    incidents = [incident for browser in chaos.browsers for incident in browser.incidents]
    judge = Judge((exchange for browser in chaos.browsers for exchange in browser.exchanges), events, chaos.kills)
    causes = {incident: judge.cause(incident) for incident in incidents}
    faults = [event.fault for event in events if event.kind == FAULT]

    def number(matches: Callable[[Incident], bool], cause: str | None = None) -> int:
        return sum(matches(incident) and (cause is None or found == cause) for incident, found in causes.items())

    def is_5xx(incident: Incident) -> bool:
        return incident.what.startswith("5")

    def is_signed_out(incident: Incident) -> bool:
        return incident.what == SIGNED_OUT

    summary.count("operations", chaos.operations)
    for what in ("sign-ins", "profile", "sign-out", "anonymous starts"):
        summary.count(f"  {what}", counts[what])
    summary.count("  refreshes", sum(event.kind == ISSUED and event.endpoint == "refresh" for event in events))
    summary.count("workers killed", len(chaos.kills))
    summary.count("  broken connections", number(lambda incident: incident.what == BROKEN))
    summary.count("faults of the provider", len(faults))
    summary.count(f"  kinds, of {len(catalogue)}", len(set(faults)))
    summary.count("5xx responses with a cause", number(is_5xx) - number(is_5xx, ""))
    summary.count(
        "  timeouts without a fault, on a busy machine", number(is_5xx, BUSY_MACHINE), at_most=chaos.operations // 100
    )
    summary.count(
        "  503 because too many requests wait for the provider",
        number(lambda incident: "provider_busy" in incident.what),
    )
    summary.count("sessions ended by a fault", number(is_signed_out, FAULT_INJECTED))
    summary.count("sessions ended by a kill during a refresh", number(is_signed_out, KILLED_IN_REFRESH))
    summary.count("sessions ended by a timeout on a busy machine", number(is_signed_out, BUSY_MACHINE))
    summary.count("sessions lost", number(is_signed_out, ""), at_most=0)
    summary.count("wrong user seen", number(lambda incident: incident.what == WRONG_USER), at_most=0)
    summary.count(
        "signed in after sign-out", number(lambda incident: incident.what == SIGNED_IN_AFTER_SIGN_OUT), at_most=0
    )
    summary.count("5xx responses without a cause", number(is_5xx, ""), at_most=0)
    # Also other unexpected responses, such as a redirect where the profile was expected.
    named = {SIGNED_OUT, WRONG_USER, SIGNED_IN_AFTER_SIGN_OUT, BROKEN}
    summary.count(
        "other unexpected responses without a cause",
        number(lambda incident: not is_5xx(incident) and incident.what not in named, ""),
        at_most=0,
    )
    summary.count("connections broken without a cause", number(lambda incident: incident.what == BROKEN, ""), at_most=0)
    return [judge.evidence(incident) for incident, cause in causes.items() if not cause]


def logged_events(log: str) -> Counter[tuple[str, str]]:
    """Return how often the application's log has each audit event, by name and outcome."""
    pattern = rf"^\[.*?\] (?:\[\S+\] )*({'|'.join(NAMES)}) (success|refused|failed)\b"
    return Counter((match[1], match[2]) for match in re.finditer(pattern, log, re.MULTILINE))


def counted_events(metrics: str) -> Counter[tuple[str, str]]:
    """Return the same from the text of ``/metrics``."""
    found = Counter[tuple[str, str]]()
    for labels, value in re.findall(r"^wsgi_oauth_events_total\{(.*)\} (\S+)$", metrics, re.MULTILINE):
        label = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        found[label["event"], label["outcome"]] += int(float(value))
    return found


def compare_events(chaos: Chaos, log: str, metrics: str, summary: Summary) -> None:
    """Compare the audit events of the log and of the metrics with each other, and with the responses to the browsers.

    A worker may be killed after it has logged an event, and before it has counted it or has sent the response. The
    browser then sees a broken connection.
    """
    logged, counted = logged_events(log), counted_events(metrics)
    broken = [each for browser in chaos.browsers for each in browser.exchanges if each.result == BROKEN]
    seen = sum(browser.counts["sign-ins"] for browser in chaos.browsers)
    unseen = logged[SIGN_IN, SUCCESS] - seen
    summary.count("audit events", logged.total())
    summary.count("sign-ins without an event", max(0, -unseen), at_most=0)
    broken_callbacks = sum(each.endpoint == "callback" for each in broken)
    summary.count("events of sign-ins with a broken connection", max(0, unseen), at_most=broken_callbacks)
    summary.count("events that the metrics lack", (logged - counted).total(), at_most=len(broken))
    summary.count("events that only the metrics have", (counted - logged).total(), at_most=0)


def count_descriptors(app: Application) -> int:
    """Return the highest number of file descriptors of a worker, when the workers are idle."""
    deadline = time.monotonic() + SETTLING_TIME
    while (found := app.descriptors()) > MOST_DESCRIPTORS and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def count_files(sessions: Path, chaos: Chaos, summary: Summary) -> None:
    """Count the files of killed workers, and those that are left after all sessions and sign-ins have expired.

    The record of a sign-in is kept for a day after its lifetime, so that a late response leads to the right page.
    """
    unfinished = [path for path in sessions.iterdir() if path.suffix != ".json" or not path.stat().st_size]
    summary.count("unfinished files left by killed workers", len(unfinished), at_most=len(chaos.kills))
    now = time.time()
    with mock.patch("time.time", lambda later=now + 26 * 3600: later):
        FileStore(sessions).sweep()
    summary.count("session files after 26 hours", len(list(sessions.iterdir())), at_most=0)


def tracebacks(log: str) -> Counter[str]:
    """Return the different tracebacks in *log*, and how often each of them occurs."""
    pattern = r"^Traceback \(most recent call last\):\n(?:[ \t].*\n)+\S.*$"
    return Counter(match[0] for match in re.finditer(pattern, log, re.MULTILINE))


def report_failure(log: Path, seed: int, evidence: list[str]) -> None:
    """Print the evidence and the tracebacks of a failed run, and keep its log."""
    for each in evidence[:10]:
        print(f"\n{each}", file=sys.stderr)
    for traceback, times in tracebacks(log.read_text(errors="replace")).most_common(10):
        print(f"\nIn the application's log, {times} times:\n{traceback}", file=sys.stderr)
    kept = Path(tempfile.mkdtemp(prefix=f"wsgi-oauth-chaos-{seed}-"), log.name)
    shutil.copyfile(log, kept)
    print(f"\nThe application's log: {kept}", file=sys.stderr)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--operations", type=int, default=10_000, help="end after this number of requests")
    parser.add_argument("--seconds", type=float, help="end after this time, if that is earlier")
    parser.add_argument("--kills", type=int, default=100, help="number of kills, spread evenly over the run")
    parser.add_argument("--browsers", type=int, default=24, help="number of users")
    parser.add_argument("--workers", type=int, default=4, help="number of gunicorn's workers")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="for all random choices, but the timing still varies"
    )
    parser.add_argument("--folder", help="where to create a temporary folder")
    return parser.parse_args()


def main() -> int:
    options, summary = parse_arguments(), Summary()
    evidence: list[str] = []
    with temporary_folder(options.folder) as folder:
        log, sessions = folder / "gunicorn.log", folder / "sessions"
        passed = False
        try:
            with run_faulty_provider(options.seed, slow_seconds=TIMEOUT + 1) as provider:
                settings = {
                    **provider.settings,
                    "WSGI_OAUTH_SESSION_STORE": f"file:{sessions}",
                    "WSGI_OAUTH_METRICS": "yes",
                    "WSGI_OAUTH_UPSTREAM_TIMEOUT": str(TIMEOUT),
                    "WSGI_OAUTH_UPSTREAM_LIMIT": str(UPSTREAM_LIMIT),
                }
                with run_application(log, settings, options.workers) as app:
                    chaos = Chaos(options, app)
                    chaos.run()
                    provider.stop_faults()
                    chaos.check_sessions()
                    evidence = count_incidents(chaos, provider.events(), provider.catalogue(), summary)
                    metrics = requests.get(f"{app.url}/metrics", timeout=TIMEOUT).text
                    compare_events(chaos, log.read_text(errors="replace"), metrics, summary)
                    summary.count("file descriptors of a worker", count_descriptors(app), at_most=MOST_DESCRIPTORS)
            count_files(sessions, chaos, summary)
            print(f"Chaos, seed {options.seed}\n{machine()}\n")
            summary.show()
            passed = not summary.failed
        finally:
            if not passed and log.exists():
                report_failure(log, options.seed, evidence)
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
