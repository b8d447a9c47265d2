"""The file store, with a fault in each of its system calls: the first, the second, and so on until there is none left.

The calls are counted while the store makes them, so whatever is added to it is tried as well. After each fault the
folder is opened anew, and what must always hold is looked at (S58, S60).
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from conftest import Browser, environ_for
from test_file_store import KEY, OTHER, System, assert_unavailable, call_in_a_process, descriptors, key, put, record

from wsgi_oauth import Config, FileStore, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.oauth import refresh
from wsgi_oauth.sessions.session import Session

CODES = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EIO, errno.EINTR]
BYSTANDER = key("bystander")
OLD, NEW = b"old" * 1000, b"new" * 1000
STALE = 7200.0  # seconds: older than any writer is

code_of_each = pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
once_and_for_good = pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])


class Directory:
    """What os.scandir gives, and lets a fault happen in each of its steps."""

    def __init__(self, entries: Any, observe: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._entries, self._observe = entries, observe
        self.close = entries.close

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        return Entry(self._observe("getdents", lambda: next(self._entries)), self._observe)


class Entry:
    def __init__(self, entry: os.DirEntry[str], observe: Callable[[str, Callable[[], Any]], Any]) -> None:
        self.name, self.path = entry.name, entry.path
        self.stat = lambda **options: observe("stat", lambda: entry.stat(**options))


class Fault:
    """Something that happens in the system call of this *number*, counted from now on."""

    def __init__(self, system: System, number: int, act: Callable[[Fault, str, Callable[[], Any]], Any]) -> None:
        self.number = number
        self.seen: list[str] = []
        self._act = act
        system.step = lambda name, call, arguments: self._observe(name, lambda: call(*arguments))

    @property
    def happened(self) -> bool:
        return len(self.seen) > self.number

    def _observe(self, name: str, call: Callable[[], Any]) -> Any:
        self.seen.append(name)
        result = self._act(self, name, call)
        return Directory(result, self._observe) if name == "scandir" else result


def failing(code: int, *, lasting: bool) -> Callable[[Fault, str, Callable[[], Any]], Any]:
    """The call fails; with *lasting* all that come after it, too."""

    def act(fault: Fault, name: str, call: Callable[[], Any]) -> Any:
        turn = len(fault.seen) - 1
        if turn == fault.number or (lasting and turn > fault.number):
            if name == "close":
                call()  # close(2) closes, whatever it reports
            raise OSError(code, os.strerror(code))
        return call()

    return act


def dying(*, after: bool) -> Callable[[Fault, str, Callable[[], Any]], Any]:
    """The process is killed before or after the call."""

    def act(fault: Fault, name: str, call: Callable[[], Any]) -> Any:
        mine = len(fault.seen) - 1 == fault.number
        if mine and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call()
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return act


# What the store does, and what may be there in the middle of it


@dataclass(frozen=True)
class Operation:
    """*before*, *after*: what KEY and OTHER hold. *between*: what else a moment may see."""

    act: Callable[[FileStore], object]
    after: dict[str, bytes]
    between: tuple[dict[str, bytes], ...] = ()

    before = {KEY: OLD}  # noqa: RUF012  # never changed


def load(store: FileStore) -> None:
    assert store.load(KEY) == OLD  # never None: a store that fails is no unknown session


OPERATIONS = {
    "open": Operation(lambda store: FileStore(store.folder), {KEY: OLD}),
    "load": Operation(load, {KEY: OLD}),
    "create": Operation(lambda store: store.create(OTHER, record(NEW)), {KEY: OLD, OTHER: NEW}),
    "save": Operation(lambda store: store.update(KEY, lambda _: record(NEW)), {KEY: NEW}),
    "move": Operation(
        lambda store: store.update(KEY, lambda _: record(NEW), move_to=OTHER),
        {OTHER: NEW},
        between=({KEY: OLD, OTHER: NEW},),
    ),
    "delete": Operation(lambda store: store.delete(KEY), {}),
    "sweep": Operation(lambda store: store.sweep(), {KEY: OLD}),
    "check": Operation(lambda store: store.check(), {KEY: OLD}),
}
each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def prepared(folder: Path) -> FileStore:
    """A session, that of a bystander, one that is over, and what a killed writer has left behind."""
    store = FileStore(folder)
    store.create(KEY, record(OLD))
    store.create(BYSTANDER, record(OLD))
    put(folder, f"{key('expired')}.json", OLD, seconds=-1)
    put(folder, f"{KEY}.json.0123456789abcdef.tmp", OLD)
    return store


def held(store: FileStore) -> dict[str, bytes]:
    """What is there under the two keys."""
    return {name: data for name in (KEY, OTHER) if (data := store.load(name)) is not None}


def assert_invariants(folder: Path, allowed: list[dict[str, bytes]], later: Callable[[float], None]) -> None:
    """Each session is wholly old or wholly new and free, and what is left over goes away by itself."""
    store = FileStore(folder)
    assert held(store) in allowed
    assert store.load(BYSTANDER) == OLD
    for name in (KEY, OTHER, BYSTANDER):
        assert store.update(name, lambda data: record(data, 2 * STALE)) is (store.load(name) is not None)
    whole = [name for name in (KEY, OTHER, BYSTANDER) if store.load(name)]
    litter = {path.name for path in folder.iterdir()} - {f"{name}.json" for name in (*whole, key("expired"))}
    assert len(litter) <= 3  # what was there before, and what this fault has left: of a check a session and its change
    later(STALE)
    store.sweep()
    assert {path.name for path in folder.iterdir()} == {f"{name}.json" for name in (BYSTANDER, *held(store))}


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    return System(monkeypatch.setattr)


@code_of_each
@once_and_for_good
@each_operation
def test_whichever_call_fails_the_operation_has_happened_or_has_not(
    *, tmp_path: Path, system: System, monkeypatch: pytest.MonkeyPatch, operation: Operation, code: int, lasting: bool
) -> None:
    """S58. What was reported as done is there, what was reported as failed is not."""
    for number in count():
        system.recover()
        store = prepared(tmp_path / str(number))
        fault = Fault(system, number, failing(code, lasting=lasting))
        try:
            operation.act(store)
            allowed = [operation.after]
        except errors.StoreError:
            allowed = [operation.before, *(operation.between if lasting else ())]
        system.recover()
        assert descriptors(f"{store.folder}/") == []
        if not fault.happened:
            break
        if held(store) != operation.after:
            operation.act(store)  # the cause is gone, and it works
            assert held(store) == operation.after
            allowed = [operation.after]
        with monkeypatch.context() as patch:
            assert_invariants(Path(store.folder), allowed, lambda seconds: pass_time(patch, seconds))
    assert number >= (1 if operation is OPERATIONS["open"] else 4)


def pass_time(patch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time
    patch.setattr(time, "time", lambda: now() + seconds)


def killed_in_each_call(name: str, place: str) -> list[str]:
    """Try an operation again and again, killed before or after each of its calls; return what broke."""
    broken = []
    for after in (False, True):
        for number in count():
            store = prepared(Path(place, f"{after}-{number}"))
            child = os.fork()
            if child == 0:
                Fault(System(), number, dying(after=after))
                OPERATIONS[name].act(store)
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code == 0:
                break
            operation = OPERATIONS[name]
            with pytest.MonkeyPatch.context() as patch:
                try:
                    assert code == -signal.SIGKILL
                    allowed = [operation.before, operation.after, *operation.between]
                    assert_invariants(Path(store.folder), allowed, lambda seconds: pass_time(patch, seconds))
                except AssertionError as error:
                    broken.append(f"killed {after=} call {number}: {error!r}")
        broken += [] if number >= 2 else ["it was never killed"]
    return broken


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "open"])
def test_wherever_the_process_is_killed_each_session_is_wholly_old_or_new(tmp_path: Path, name: str) -> None:
    """S60"""
    assert call_in_a_process("killed_in_each_call", name, tmp_path, module=__name__) == []


# Over HTTP: 503 with nothing promised, or it has worked


@dataclass(frozen=True)
class Visit:
    """A request that stores something: what comes before it, the request, and the status of its success."""

    prepare: Callable[[Browser], str]
    succeeds_with: int
    signed_in: bool = True  # whether the user was signed in before
    method: str = "get"


def start_signed_in(browser: Browser) -> str:
    browser.sign_in()
    return "/"


def profile_signed_in(browser: Browser) -> str:
    browser.sign_in()
    return "/profile"


def second_callback(browser: Browser) -> str:
    browser.sign_in()
    return browser.callback_url()


def profile_expired(browser: Browser) -> str:
    browser.sign_in()
    expire(browser)
    return "/profile"


def expire(browser: Browser) -> None:
    """Let the token be too old, without waiting for it."""
    sessions = browser.oauth_app.sessions
    session = Session(sessions, sessions.read(browser.cookie or ""), browser.cookie)
    session.change(lambda data: data["oauth_token"].update(expires_at=time.time() - 1))


VISITS = {
    "a first start": Visit(lambda browser: "/", 302, signed_in=False),
    "a start of somebody signed in": Visit(start_signed_in, 302),
    "a first callback": Visit(lambda browser: browser.callback_url(), 303, signed_in=False),
    "a callback of somebody signed in": Visit(second_callback, 303),
    "the first profile": Visit(profile_signed_in, 200),
    "a profile with a refresh": Visit(profile_expired, 200),
    "a sign-out": Visit(lambda browser: (browser.sign_in(), "/logout")[1], 200, method="post"),
}


@pytest.mark.usefixtures("small_ca_bundle")
@once_and_for_good
@pytest.mark.parametrize("visit", VISITS.values(), ids=VISITS)
def test_whichever_call_fails_nobody_loses_a_session_and_nothing_is_promised_that_is_not_stored(
    *,
    tmp_path: Path,
    system: System,
    provider: LocalProvider,
    later: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    visit: Visit,
    lasting: bool,
) -> None:
    """S58. One case is beyond help: a provider has rotated the refresh token, and from that moment on nothing can be
    stored. Then the user signs in again (S32).
    """
    monkeypatch.setattr(refresh, "_PAUSES", (0,) * 4)
    for number in count():
        system.recover()
        folder = tmp_path / str(number)
        browser, bystander = browsers(folder, provider)
        url = visit.prepare(browser)
        before = browser.cookie
        fault = Fault(system, number, failing(errno.ENOSPC, lasting=lasting))
        refreshes = provider.count("refresh")
        answer = getattr(browser, visit.method)(url)
        system.recover()
        assert descriptors(f"{folder}/") == []
        assert bystander.profile().status_int == 200, fault.seen
        if answer.status_int == visit.succeeds_with:
            assert signed_in(browser) == (url != "/logout" and (visit.signed_in or "/callback" in url)), fault.seen
        else:
            assert_unavailable(answer)
            assert browser.cookie == before
            later(60)  # a refresh that did not come to its end is over
            beyond_help = lasting and provider.count("refresh") > refreshes
            assert signed_in(browser) == (visit.signed_in and not beyond_help), fault.seen
        browser.sign_in()
        assert signed_in(browser)
        if not fault.happened:
            break
    assert answer.status_int == visit.succeeds_with
    assert number >= 5


def browsers(folder: Path, provider: LocalProvider) -> tuple[Browser, Browser]:
    """Two in front of a new application; the second is signed in."""
    app = create_app(Config.from_environ(environ_for(provider)), store=FileStore(folder))
    browser, bystander = (Browser(app, provider) for _ in range(2))
    browser.oauth_app = app
    bystander.sign_in()
    return browser, bystander


def signed_in(browser: Browser) -> bool:
    """Whether an application that starts now knows the browser's session."""
    return browser.profile().status_int == 200
