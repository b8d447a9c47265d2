"""Everything goes wrong at once: many browsers sign in, use, refresh and sign out, while workers are killed with -9,
the provider misbehaves in every way it knows, and anonymous starts flood in.

Nothing may be lost, and nobody may be somebody else. Each answer that is not what a user hopes for must have a reason:
a fault that the provider noted for this very user while the request was on its way, or a kill that broke it. Exits
with 1 when something has none. Linux only: it looks into /proc.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import requests

from wsgi_oauth import FileStore
from wsgi_oauth.config.settings import UPSTREAM_LIMIT
from wsgi_oauth.sessions.file import is_unfinished

from .measure import machine, temporary_folder
from .moody import ROTATED, Entry, moody_provider

ROOT = Path(__file__).parent.parent
TIMEOUT = 5  # seconds, WSGI_OAUTH_UPSTREAM_TIMEOUT
WAITING = 3 * (TIMEOUT + 2)  # seconds that a request may wait for the refresh of another
JSON = {"Accept": "application/json"}
REJECTING = {"profile.401", "profile.empty_401"}  # a token that is not expired; it may have been refreshed just now
IN_A_REFRESH = "a kill in the middle of a refresh"
BUSY = "a busy machine"  # on which even an honest provider takes longer than the deadline
DYING = 0.5  # seconds that a process which was killed may take to go
DESCRIPTORS = 64  # of an idle worker: gunicorn's own, its connections to the provider, and some to spare


# -- what happened, and why --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """An answer that no user hopes for. *began*, *ended*: of the request, or of the sign-in that it belongs to. *good*:
    when the user was last seen signed in.
    """

    what: str  # a status and a cause, or one of the words below
    user: str
    began: float
    ended: float
    about: str = ""
    good: float = 0.0

    SIGNED_OUT = "signed out"
    WRONG_USER = "wrong user"
    CAME_BACK = "signed in after a sign-out"
    BROKEN = "broken connection"


class Inquest:
    """Finds the reason of each trouble in what was done on purpose."""

    def __init__(
        self,
        diary: Iterable[Entry],
        kills: list[float],
        broken: Iterable[Trouble],
        asking: list[tuple[float, float]],
    ) -> None:
        self._kills = kills
        self._asking = asking
        self._diary: dict[str, list[Entry]] = {}
        self._broken: dict[str, list[Trouble]] = {}
        for entry in diary:
            self._diary.setdefault(entry.user, []).append(entry)
        for trouble in broken:
            self._broken.setdefault(trouble.user, []).append(trouble)

    def reason(self, trouble: Trouble) -> str:
        """Return why it happened, or nothing."""
        if trouble.what == Trouble.BROKEN:
            return "a kill" if self._killed(trouble.began, trouble.ended) else ""
        if trouble.what == Trouble.SIGNED_OUT:
            return self._why_signed_out(trouble)
        if "provider_busy" in trouble.what:
            return "a crowd" if self._crowd(trouble.began, trouble.ended) >= UPSTREAM_LIMIT else ""
        ours = trouble.what.startswith("500") or "session_store" in trouble.what
        if ours or trouble.what in {Trouble.WRONG_USER, Trouble.CAME_BACK}:
            return ""  # neither a provider nor a kill is an excuse
        return self._why_refused(trouble)

    def evidence(self, trouble: Trouble) -> str:
        """Tell what else happened to this user, in seconds before the trouble."""
        happened = {
            **{entry.at: f"{entry.endpoint}: {entry.what}" for entry in self._diary.get(trouble.user, ())},
            **{lost.ended: f"lost the answer to: {lost.about}" for lost in self._broken.get(trouble.user, ())},
            **dict.fromkeys(self._kills, "a worker was killed"),
            trouble.began: "it began",
            trouble.good: "last seen signed in",
        }
        lines = [f"{trouble.user}: {trouble.what} {trouble.about[:300]}"]
        lines += [
            f"  {trouble.ended - at:8.3f}  {happened[at]}" for at in sorted(happened) if 0 <= trouble.ended - at < 20
        ]
        return "\n".join(lines)

    def _why_refused(self, trouble: Trouble) -> str:
        if any(entry.is_fault for entry in self._entries(trouble.user, trouble.began - WAITING, trouble.ended)):
            return "a fault"
        gave_up = trouble.ended - trouble.began >= TIMEOUT
        if gave_up and ("provider_timeout" in trouble.what or "provider_unreachable" in trouble.what):
            return BUSY  # the deadline has passed, or that of a request whose refresh this one has waited for
        if "no_login_in_progress" in trouble.what and self._lost_answers(trouble.user, trouble.began, trouble.ended):
            return "a kill"
        return ""

    def _why_signed_out(self, trouble: Trouble) -> str:
        entries = self._entries(trouble.user, trouble.began, trouble.ended)
        if any(entry.what == "token.refresh_token_missing" for entry in entries):
            return "the provider"
        recent = [entry for entry in entries if entry.is_fault and entry.at >= trouble.good]
        if any(entry.what in REJECTING or entry.endpoint == "refresh" for entry in recent):
            return "the provider"
        refreshes = [entry for entry in entries if entry.endpoint == "refresh"]
        if not refreshes:
            return ""
        if refreshes[-1].is_fault:  # the provider may have rotated, and given nothing that could be used
            return "the provider"
        lost = self._lost_answers(trouble.user, trouble.began, trouble.ended)
        at = refreshes[-1].at
        return IN_A_REFRESH if any(answer.began <= at <= answer.ended + DYING for answer in lost) else ""

    def _entries(self, user: str, began: float, ended: float) -> list[Entry]:
        return [entry for entry in self._diary.get(user, ()) if began <= entry.at <= ended]

    def _lost_answers(self, user: str, began: float, ended: float) -> list[Trouble]:
        broken = self._broken.get(user, ())
        return [lost for lost in broken if began <= lost.ended <= ended and self._killed(lost.began, lost.ended)]

    def _killed(self, began: float, ended: float) -> bool:
        position = bisect_left(self._kills, began - DYING)
        return position < len(self._kills) and self._kills[position] <= ended

    def _crowd(self, began: float, ended: float) -> int:
        """How many other requests that need the provider were under way."""
        return sum(since <= ended and until >= began for since, until in self._asking) - 1


# -- browsers ----------------------------------------------------------------------------------------------------------


@dataclass
class Record:
    """What a browser has done and met."""

    done: Counter[str] = field(default_factory=Counter)
    troubles: list[Trouble] = field(default_factory=list)
    broken: list[Trouble] = field(default_factory=list)
    asking: list[tuple[float, float]] = field(default_factory=list)  # requests that may need the provider: from, until


class Browser:
    """Somebody with a name of their own, who must never see another one."""

    def __init__(self, url: str, name: str, seed: int) -> None:
        self.name = name
        self.record = Record()
        self._url = url
        self._random = random.Random(seed)
        self._web = _web()
        self._last_use = time.monotonic()
        self._signed_in_since: float | None = None
        self._good = 0.0
        self._in_doubt = False  # a sign-out whose answer was lost: nobody knows whether it has happened

    @property
    def signed_in(self) -> bool:
        return self._signed_in_since is not None

    def act(self) -> None:
        """Do one of the things that people do."""
        if not self.signed_in:
            return self.sign_in()
        what = self._random.random()
        if what < 0.85:
            return self.look()
        if what < 0.97:
            return self.open_many_tabs()
        return self.sign_out()

    def sign_in(self) -> None:
        began = time.monotonic()
        start = self._ask("GET", "/", "start")
        if start is None:
            return None
        if start.status_code != 302:
            return self._note(start, began)
        callback = self._consent(start.headers["Location"])
        answers = self._twice(callback) if self._random.random() < 0.2 else [self._ask("GET", callback, "callback")]
        if answers == [None]:
            answers = [self._ask("GET", callback, "callback")]  # a person reloads the page
        for answer in answers:
            if answer is not None and answer.status_code == 303 and "Set-Cookie" in answer.headers:
                self._web.cookies.update(answer.cookies)
                self._signed_in_since, self._good, self._in_doubt = began, began, False
                self.record.done["sign-ins"] += 1
        for answer in answers:
            # A copy of a callback that comes when the first one is finished brings an id that has ended with it.
            late = self.signed_in and answer is not None and answer.status_code == 400
            if answer is not None and answer.status_code != 303 and not late:
                self._note(answer, began)
        return None

    def look(self) -> None:
        began = time.monotonic()
        self._judge([self._ask("GET", "/profile", "profile")], began)

    def open_many_tabs(self) -> None:
        """At the same time, so that a token that has expired has many who need the next one."""
        began = time.monotonic()
        self._judge(self._at_the_same_time("/profile", "profile", 4), began)

    def sign_out(self) -> None:
        """And see that who kept the cookie is signed out, too."""
        cookies = self._web.cookies.copy()
        began = time.monotonic()
        answer = self._ask("POST", "/logout", "sign-out")
        if answer is None:
            self._in_doubt = True
            return
        if answer.status_code != 200:
            self._note(answer, began)
            return
        self._forget()
        self._web.cookies.update(cookies)
        after = self._ask("GET", "/profile", "profile")
        self._web.cookies.clear()
        if after is not None and after.status_code == 200:
            self._trouble(Trouble.CAME_BACK, began)
        elif after is not None and after.status_code != 401:
            self._note(after, began)

    def close(self) -> None:
        self._web.close()

    def _judge(self, answers: list[requests.Response | None], began: float) -> None:
        statuses = [answer.status_code for answer in answers if answer is not None]
        for answer in answers:
            if answer is None or answer.status_code == 401:
                continue
            if answer.status_code != 200:
                self._note(answer, began)
            elif answer.json().get("login") != self.name:
                self._trouble(Trouble.WRONG_USER, began, answer.text)
        if 401 in statuses:
            if not self._in_doubt:
                since = self._signed_in_since or began
                self.record.troubles.append(
                    Trouble(Trouble.SIGNED_OUT, self.name, since, time.monotonic(), good=self._good)
                )
            self._forget()
        elif 200 in statuses:
            self._good, self._in_doubt = began, False

    def _forget(self) -> None:
        self._signed_in_since = None
        self._web.cookies.clear()

    def _consent(self, url: str) -> str:
        form = {"decision": "allow", "user": self.name}
        with _web() as web:
            location = web.post(url, form, allow_redirects=False, timeout=60).headers["Location"]
        return location.removeprefix(self._url)

    def _twice(self, path: str) -> list[requests.Response | None]:
        return self._at_the_same_time(path, "callback", 2)

    def _at_the_same_time(self, path: str, what: str, count: int) -> list[requests.Response | None]:
        def ask(_: int) -> requests.Response | None:
            with _web() as tab:
                tab.cookies.update(self._web.cookies)
                return self._ask("GET", path, what, tab)

        with ThreadPoolExecutor(count) as tabs:
            return list(tabs.map(ask, range(count)))

    def _ask(self, method: str, path: str, what: str, tab: requests.Session | None = None) -> requests.Response | None:
        """Return the answer, or None when the connection broke before it came."""
        began = time.monotonic()
        headers = {**JSON, "Origin": self._url} if method == "POST" else JSON
        try:
            answer = (tab or self._web).request(
                method, self._url + path, headers=headers, allow_redirects=False, timeout=60
            )
        except requests.RequestException:
            # A connection that was kept may have died at any time since it was last used.
            since = began if tab else min(began, self._last_use)
            self.record.broken.append(Trouble(Trouble.BROKEN, self.name, since, time.monotonic(), what))
            return None
        finally:
            self.record.done[what] += 1
            if path.startswith(("/callback", "/profile")):
                self.record.asking.append((began, time.monotonic()))
            if tab is None:
                self._last_use = time.monotonic()
        return answer

    def _note(self, answer: requests.Response, began: float) -> None:
        self._trouble(f"{answer.status_code} {answer.json().get('error')}", began, answer.text)

    def _trouble(self, what: str, began: float, about: str = "") -> None:
        self.record.troubles.append(Trouble(what, self.name, began, time.monotonic(), about))


def _web() -> requests.Session:
    web = requests.Session()
    web.trust_env = False
    return web


class Stranger(Browser):
    """Starts again and again, without a cookie, and never comes back."""

    def act(self) -> None:
        began = time.monotonic()
        answer = self._ask("GET", "/", "anonymous starts")
        self._web.cookies.clear()
        if answer is not None and answer.status_code != 302:
            self._note(answer, began)
        time.sleep(0.01)


# -- the run -----------------------------------------------------------------------------------------------------------


@dataclass
class Application:
    """gunicorn, with the configuration that people deploy."""

    url: str
    process: subprocess.Popen[bytes]

    def workers(self) -> list[int]:
        """Return the processes that gunicorn has forked (proc(5))."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, _, rest = status.read_text().partition(" (")
            except OSError:  # gone meanwhile
                continue
            state, parent = rest.rpartition(") ")[2].split()[:2]
            if int(parent) == self.process.pid and state != "Z":
                found.append(int(pid))
        return found

    def descriptors(self) -> int:
        """Return how many the worker with the most has open."""
        return max(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.workers())


@contextmanager
def application(folder: Path, settings: dict[str, str], workers: int) -> Iterator[Application]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WSGI_OAUTH_", "GUNICORN_"))}
    command = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py"), "--workers", str(workers)]
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        output = stack.enter_context((folder / "gunicorn.log").open("wb"))
        process = subprocess.Popen(
            [*command, "--bind", f"fd://{listener.fileno()}", "--access-logfile", os.devnull],
            env={**clean, **settings, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"},
            pass_fds=[listener.fileno()],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Application(f"http://127.0.0.1:{listener.getsockname()[1]}", process)
        finally:
            process.terminate()
            process.wait(60)


class Chaos:
    """One run: browsers in threads, and kills in this one."""

    def __init__(self, options: argparse.Namespace, app: Application) -> None:
        self._options = options
        self._app = app
        self._random = random.Random(options.seed)
        self._over = threading.Event()
        self._crashes: list[Exception] = []
        self._began = time.monotonic()
        self.kills: list[float] = []
        self.browsers = [Browser(app.url, f"user-{n}", options.seed + n) for n in range(options.browsers)]
        self.strangers = [Stranger(app.url, f"stranger-{n}", n) for n in range(2)]

    @property
    def all(self) -> list[Browser]:
        return [*self.browsers, *self.strangers]

    @property
    def operations(self) -> int:
        return sum(count for browser in self.all for what, count in browser.record.done.items() if what != "sign-ins")

    def run(self) -> None:
        threads = [threading.Thread(target=self._keep_acting, args=(browser,)) for browser in self.all]
        for thread in threads:
            thread.start()
        try:
            while (progress := self._progress()) < 1 and not self._over.is_set():
                self._show(progress)
                if len(self.kills) < progress * self._options.kills:
                    self._kill()
                time.sleep(0.05)
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
            self._show(1)
        if self._crashes:
            raise self._crashes[0]

    def take_stock(self) -> None:
        """When all is quiet, everybody who was signed in still is."""
        for browser in self.browsers:
            if browser.signed_in:
                browser.look()

    def _keep_acting(self, browser: Browser) -> None:
        try:
            while not self._over.is_set():
                browser.act()
        except Exception as crash:  # noqa: BLE001  # one of a browser itself ends the run
            self._crashes.append(crash)
            self._over.set()

    def _progress(self) -> float:
        """From 0 to 1: by the operations, or by the time."""
        done = self.operations / self._options.operations
        passed = (time.monotonic() - self._began) / self._options.seconds if self._options.seconds else 0
        return max(done, passed) if len(self.kills) >= self._options.kills else min(max(done, passed), 0.999)

    def _kill(self) -> None:
        workers = self._app.workers()
        if workers:
            self.kills.append(time.monotonic())
            os.kill(self._random.choice(workers), signal.SIGKILL)

    def _show(self, progress: float) -> None:
        if sys.stderr.isatty():
            bar = "#" * round(30 * progress)
            counts = f"{self.operations} operations, {len(self.kills)} kills"
            print(f"\r[{bar:<30}] {counts} ", end="\n" if progress == 1 else "", file=sys.stderr, flush=True)


# -- the end -----------------------------------------------------------------------------------------------------------


class Summary:
    """The table, and whether all that must hold does."""

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


def summarize(chaos: Chaos, diary: list[Entry], catalogue: list[str], summary: Summary) -> list[str]:
    """Count, and return the evidence for what has no reason."""
    done = sum((browser.record.done for browser in chaos.all), Counter[str]())
    broken = [trouble for browser in chaos.all for trouble in browser.record.broken]
    troubles = [trouble for browser in chaos.all for trouble in browser.record.troubles]
    asking = [interval for browser in chaos.all for interval in browser.record.asking]
    inquest = Inquest(diary, chaos.kills, broken, asking)
    reasons = {trouble: inquest.reason(trouble) for trouble in [*troubles, *broken]}
    faults = [entry.what for entry in diary if entry.is_fault and not entry.again]

    def of(matches: Callable[[Trouble], bool], reason: str | None = None) -> int:
        return sum(matches(trouble) and (reason is None or why == reason) for trouble, why in reasons.items())

    def is_5xx(trouble: Trouble) -> bool:
        return trouble.what.startswith("5")

    def is_signed_out(trouble: Trouble) -> bool:
        return trouble.what == Trouble.SIGNED_OUT

    summary.count("operations", chaos.operations)
    for what in ("sign-ins", "profile", "sign-out", "anonymous starts"):
        summary.count(f"  {what}", done[what])
    summary.count("  refreshes", sum(entry.what == ROTATED for entry in diary))
    summary.count("workers killed with -9", len(chaos.kills))
    summary.count("  requests whose connection broke", len(broken))
    summary.count("faults of the provider", len(faults))
    summary.count(f"  kinds, of {len(catalogue)}", len(set(faults)))
    summary.count("answers 5xx for a reason", of(is_5xx) - of(is_5xx, ""))
    summary.count(
        f"  for {BUSY}, on which the provider was too slow by itself", of(is_5xx, BUSY), at_most=chaos.operations // 100
    )
    summary.count("  sent away, because others wait for the provider", of(lambda t: "provider_busy" in t.what))
    summary.count(
        "signed out by the provider: token refused, or rotated and not given", of(is_signed_out, "the provider")
    )
    summary.count(f"signed out by {IN_A_REFRESH}", of(is_signed_out, IN_A_REFRESH), at_most=len(chaos.kills))
    summary.count("sessions lost", of(is_signed_out, ""), at_most=0)
    summary.count("wrong user seen", of(lambda trouble: trouble.what == Trouble.WRONG_USER), at_most=0)
    summary.count("signed in after a sign-out", of(lambda trouble: trouble.what == Trouble.CAME_BACK), at_most=0)
    summary.count("answers 5xx without a reason", of(is_5xx, ""), at_most=0)
    summary.count("answers 4xx without a reason", of(lambda t: t.what.startswith("4"), ""), at_most=0)
    summary.count("connections broken without a reason", of(lambda t: t.what == Trouble.BROKEN, ""), at_most=0)
    return [inquest.evidence(trouble) for trouble, why in reasons.items() if not why]


def count_files(sessions: Path, chaos: Chaos, summary: Summary) -> None:
    """What lies in the folder now, when the anonymous have expired, and when everything has."""
    unfinished = [path for path in sessions.iterdir() if path.suffix != ".json" or is_unfinished(path.stat())]
    summary.count("unfinished files left by killed writers", len(unfinished), at_most=len(chaos.kills))
    for when, hours, at_most in (
        ("session files two hours later", 2, len(chaos.browsers) + len(chaos.kills)),
        ("files after a day", 24, 0),
    ):
        now = time.time()
        with mock.patch("time.time", lambda later=now + 3600 * hours: later):
            FileStore(sessions).sweep()
        summary.count(when, len(list(sessions.iterdir())), at_most=at_most)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--operations", type=int, default=10_000, help="requests to the application until the end")
    parser.add_argument("--seconds", type=float, help="end after so long, if that is earlier")
    parser.add_argument("--kills", type=int, default=100, help="spread evenly over the run")
    parser.add_argument("--browsers", type=int, default=24, help="how many people there are")
    parser.add_argument("--workers", type=int, default=4, help="gunicorn's processes")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="of every choice; the timing has none"
    )
    parser.add_argument("--folder", help="where to make a temporary folder")
    return parser.parse_args()


def main() -> int:
    chosen, summary = options(), Summary()
    with temporary_folder(chosen.folder) as folder, moody_provider(chosen.seed, slow=TIMEOUT + 1) as provider:
        sessions = folder / "sessions"
        settings = {
            **provider.settings,
            "WSGI_OAUTH_SESSION_STORE": f"file:{sessions}",
            "WSGI_OAUTH_UPSTREAM_TIMEOUT": str(TIMEOUT),
        }
        with application(folder, settings, chosen.workers) as app:
            chaos = Chaos(chosen, app)
            chaos.run()
            provider.behave()
            chaos.take_stock()
            for browser in chaos.all:
                browser.close()
            unexplained = summarize(chaos, provider.diary(), provider.catalogue(), summary)
            summary.count("descriptors of a worker", app.descriptors(), at_most=DESCRIPTORS)
        count_files(sessions, chaos, summary)
        print(f"Chaos, seed {chosen.seed}\n{machine()}\n")
        summary.show()
        for evidence in unexplained[:10]:
            print(f"\n{evidence}", file=sys.stderr)
    return int(summary.failed)


if __name__ == "__main__":
    sys.exit(main())
