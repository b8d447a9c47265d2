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
from test_file_store import KEY, OTHER, System, call_in_a_process, descriptors, key, put, record

from wsgi_oauth import FileStore, errors

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
    litter = [path.name for path in folder.iterdir() if path.suffix != ".json"]
    assert len(litter) <= 2  # what was there before, and what this fault has left
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
