"""The file store with a fault in each of its system calls: in the first, in the second, and so on.

The calls are counted while the store makes them, so a new call is tested without a change here. After each fault,
a new store on the same folder must find every session whole (S58, S60).
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
from system_calls import (
    KEY,
    OTHER,
    SystemCalls,
    assert_unavailable,
    call_in_a_process,
    key,
    open_files,
    put,
    record,
)

from wsgi_oauth import Config, FileStore, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.oauth import refresh
from wsgi_oauth.sessions.session import Session

# A full disk has its own treatment, and so has a file without permissions. EIO stands for all other errors.
CODES = [errno.ENOSPC, errno.EACCES, errno.EIO]
BYSTANDER = key("bystander")
OLD, NEW = b"old" * 1000, b"new" * 1000
STALE = 7200.0  # seconds, which is longer than any writer takes

once_and_lasting = pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])


class Entries:
    """An os.scandir iterator in which each step can fail."""

    def __init__(self, entries: Any, observe: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._entries, self._observe = entries, observe

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self._entries.close()

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        return Entry(self._observe("getdents", lambda: next(self._entries)), self._observe)


class Entry:
    def __init__(self, entry: os.DirEntry[str], observe: Callable[[str, Callable[[], Any]], Any]) -> None:
        self.name, self.path = entry.name, entry.path
        self.stat = lambda **options: observe("stat", lambda: entry.stat(**options))


class Fault:
    """An action in the system call of this *number*, counted from now on."""

    def __init__(self, system: SystemCalls, number: int, act: Callable[[Fault, str, Callable[[], Any]], Any]) -> None:
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
        return Entries(result, self._observe) if name == "scandir" else result


def failing(code: int, *, lasting: bool) -> Callable[[Fault, str, Callable[[], Any]], Any]:
    """Let the call fail, and with *lasting* all later calls as well."""

    def act(fault: Fault, name: str, call: Callable[[], Any]) -> Any:
        turn = len(fault.seen) - 1
        if turn == fault.number or (lasting and turn > fault.number):
            if name == "close":
                call()  # because close(2) closes the file even when it reports an error
            raise OSError(code, os.strerror(code))
        return call()

    return act


def dying(*, after: bool) -> Callable[[Fault, str, Callable[[], Any]], Any]:
    """Kill the process before or after the call."""

    def act(fault: Fault, name: str, call: Callable[[], Any]) -> Any:
        mine = len(fault.seen) - 1 == fault.number
        if mine and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call()
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return act


# The operations of the store


@dataclass(frozen=True)
class Operation:
    """The data under KEY and OTHER *before* and *after* the operation, and the states *between* them."""

    act: Callable[[FileStore], object]
    after: dict[str, bytes]
    between: tuple[dict[str, bytes], ...] = ()

    before = {KEY: OLD}  # noqa: RUF012  # never changed


def load(store: FileStore) -> None:
    assert store.load(KEY) == OLD  # never None, because a failing store must not look like an unknown session


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


def prepared(folder: Path) -> FileStore:
    """Create a store with two sessions, an expired one, and the temporary file of a killed writer."""
    store = FileStore(folder)
    store.create(KEY, record(OLD))
    store.create(BYSTANDER, record(OLD))
    put(folder, f"{key('expired')}.json", OLD, seconds=-1)
    put(folder, f"{KEY}.json.0123456789abcdef.tmp", OLD)
    return store


def stored(store: FileStore) -> dict[str, bytes]:
    return {name: data for name in (KEY, OTHER) if (data := store.load(name)) is not None}


def assert_invariants(folder: Path, allowed: list[dict[str, bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that each session is whole and unlocked, and that a later sweep removes everything else."""
    store = FileStore(folder)
    assert stored(store) in allowed
    assert store.load(BYSTANDER) == OLD
    for name in (KEY, OTHER, BYSTANDER):
        assert store.update(name, lambda data: record(data, 2 * STALE)) is (store.load(name) is not None)
    whole = [name for name in (KEY, OTHER, BYSTANDER) if store.load(name)]
    litter = {path.name for path in folder.iterdir()} - {f"{name}.json" for name in (*whole, key("expired"))}
    assert len(litter) <= 3  # the one from before, and at most two of the fault: check() stores two versions
    now = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now() + STALE)
        store.sweep()
        assert {path.name for path in folder.iterdir()} == {f"{name}.json" for name in (BYSTANDER, *stored(store))}


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> SystemCalls:
    return SystemCalls(monkeypatch.setattr)


@once_and_lasting
@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_with_a_failing_call_has_happened_or_has_not(
    *, tmp_path: Path, system: SystemCalls, monkeypatch: pytest.MonkeyPatch, name: str, code: int, lasting: bool
) -> None:
    """S58. A reported success is stored, and a reported failure is not."""
    operation = OPERATIONS[name]
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
        assert open_files(f"{store.folder}/") == []
        if not fault.happened:
            break
        if stored(store) != operation.after:
            operation.act(store)  # works again, because the fault is over
            assert stored(store) == operation.after
            allowed = [operation.after]
        assert_invariants(Path(store.folder), allowed, monkeypatch)
    assert number >= (1 if name == "open" else 4)


def killed_in_each_call(place: str) -> dict[str, list[str]]:
    """Return the violations of each operation that a process can be killed in."""
    return {name: violations(name, Path(place, name)) for name in KILLED}


def violations(name: str, folder: Path) -> list[str]:
    """Repeat an operation, killed before or after each of its system calls, and return the violations."""
    broken = []
    for after in (False, True):
        for number in count():
            store = prepared(folder / f"{after}-{number}")
            child = os.fork()
            if child == 0:
                Fault(SystemCalls(), number, dying(after=after))
                OPERATIONS[name].act(store)
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code == 0:
                break
            with pytest.MonkeyPatch.context() as patch:
                try:
                    assert code == -signal.SIGKILL
                    operation = OPERATIONS[name]
                    assert_invariants(
                        Path(store.folder), [operation.before, *operation.between, operation.after], patch
                    )
                except AssertionError as error:
                    broken.append(f"killed {'after' if after else 'before'} call {number}: {error!r}")
        broken += [] if number >= 2 else ["the process was never killed"]
    return broken


KILLED = [name for name in OPERATIONS if name != "open"]


@pytest.fixture(scope="module")
def after_kills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return the violations by operation, from one process that forks all others."""
    return call_in_a_process("killed_in_each_call", tmp_path_factory.mktemp("killed"), module=__name__)


@pytest.mark.parametrize("name", KILLED)
def test_a_process_that_is_killed_at_any_call_leaves_whole_sessions(
    after_kills: dict[str, list[str]], name: str
) -> None:
    """S60"""
    assert after_kills[name] == []


# Requests over HTTP: each one succeeds, or is answered with 503 and without a new session cookie.


@dataclass(frozen=True)
class Visit:
    """A request that stores something: its preparation, which returns its URL, and the status of its success."""

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


def profile_with_expired_token(browser: Browser) -> str:
    browser.sign_in()
    sessions = browser.oauth_app.sessions
    session = Session(sessions, sessions.read(browser.cookie or ""), browser.cookie)
    session.change(lambda data: data["oauth_token"].update(expires_at=time.time() - 1))
    return "/profile"


VISITS = {
    "first start": Visit(lambda browser: "/", 302, signed_in=False),
    "start when signed in": Visit(start_signed_in, 302),
    "first callback": Visit(lambda browser: browser.callback_url(), 303, signed_in=False),
    "callback when signed in": Visit(second_callback, 303),
    "first profile": Visit(profile_signed_in, 200),
    "profile with a refresh": Visit(profile_with_expired_token, 200),
    "sign-out": Visit(lambda browser: (browser.sign_in(), "/logout")[1], 303, method="post"),
}


# A call that fails once can leave a part of the work undone, which matters where a session exists already.
FAULTS = [(name, True) for name in VISITS]
FAULTS += [(name, False) for name in ("callback when signed in", "profile with a refresh", "sign-out")]


@pytest.mark.parametrize(("name", "lasting"), FAULTS)
def test_a_request_with_a_failing_call_loses_no_session_and_promises_nothing(
    *,
    tmp_path: Path,
    system: SystemCalls,
    provider: LocalProvider,
    later: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    lasting: bool,
) -> None:
    """S58. One loss is unavoidable: the provider rotates the refresh token, and then the store fails permanently. The
    user has to sign in again (S32).
    """
    visit = VISITS[name]
    monkeypatch.setattr(refresh, "_SAVE_PAUSES", (0,) * 4)
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
        assert bystander.profile().status_int == 200, fault.seen
        if answer.status_int == visit.succeeds_with:
            assert is_signed_in(browser) == (url != "/logout" and (visit.signed_in or "/callback" in url)), fault.seen
        else:
            assert_unavailable(answer)
            assert browser.cookie == before
            later(400)  # so that the lease of an unfinished refresh has expired, whatever the clock skew
            token_is_lost = lasting and provider.count("refresh") > refreshes
            assert is_signed_in(browser) == (visit.signed_in and not token_is_lost), fault.seen
        browser.sign_in()
        assert is_signed_in(browser)
        if not fault.happened:
            break
    assert answer.status_int == visit.succeeds_with
    assert number >= 5


def browsers(folder: Path, provider: LocalProvider) -> tuple[Browser, Browser]:
    """Return two browsers of a new application. The second is signed in."""
    app = create_app(Config.from_environ(environ_for(provider)), store=FileStore(folder))
    browser, bystander = (Browser(app, provider) for _ in range(2))
    browser.oauth_app = app
    bystander.sign_in()
    return browser, bystander


def is_signed_in(browser: Browser) -> bool:
    return browser.profile().status_int == 200
