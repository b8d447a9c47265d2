"""Measure the file store, and compare it with the same system calls made by hand in the same folder.

By hand, a create is open, write, close and rename; a load is open, read and close; a delete is unlink; and a sweep is
scandir, stat and unlink. It includes neither locks nor checks nor sweeping. Both sides write and read JSON.

Operations that delete files are measured last, because ext4 needs long to find a new inode after many were freed.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from wsgi_oauth import FileStore
from wsgi_oauth.sessions.store import Record

from .measure import Case, Cost, Report, Timer, arguments, interleave, progress, temporary_folder

SESSION: dict[str, Any] = {
    "started": 1_800_000_000.0,
    "seen": 1_800_000_000.0,
    "data": {
        "oauth_state": {},
        "oauth_token": {
            "access_token": "a" * 40,
            "refresh_token": "r" * 80,
            "token_type": "Bearer",
            "scope": "email profile",
            "expires_in": 3600,
            "expires_at": 1_800_003_600.0,
        },
    },
}
HOUR = 3600
CALLS = 20


def dumped() -> bytes:
    return json.dumps(SESSION).encode()


def record() -> Record:
    return Record(dumped(), time.time() + HOUR)


class ByHand:
    """Makes the system calls only."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def path(self, key: str) -> str:
        return f"{self.folder}/{key}.json"

    def create(self, key: str) -> None:
        path = self.path(key)
        descriptor = os.open(f"{path}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, dumped())
        os.close(descriptor)
        os.rename(f"{path}.tmp", path)

    def load(self, key: str) -> object:
        descriptor = os.open(self.path(key), os.O_RDONLY)
        data = os.read(descriptor, 65536)
        os.close(descriptor)
        return json.loads(data)

    def save(self, key: str) -> None:
        self.load(key)
        self.create(key)

    def delete(self, key: str) -> None:
        os.unlink(self.path(key))

    def sweep(self) -> None:
        now = time.time()
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.stat().st_mtime < now:
                    os.unlink(entry.path)


class ByStore:
    """Does the same with the store."""

    def __init__(self, store: FileStore) -> None:
        self.store = store
        self.delete = store.delete
        self.sweep = store.sweep

    def create(self, key: str) -> None:
        self.store.create(key, record())

    def load(self, key: str) -> object:
        return json.loads(self.store.load(key) or b"null")

    def save(self, key: str) -> None:
        def change(data: bytes) -> Record:
            json.loads(data)
            return record()

        assert self.store.update(key, change)


class Folder:
    """A folder with many sessions that have not expired."""

    def __init__(self, path: Path, sessions: int) -> None:
        self.path = path
        self.hand = ByHand(path)
        self.ours = ByStore(FileStore(path))
        self._extra: list[str] = []
        self.keys = [secrets.token_hex(32) for _ in range(sessions)]
        self._next = cycle(secrets.SystemRandom().sample(self.keys, min(sessions, 20_000)))
        self.fill(self.keys, time.time() + 24 * HOUR)

    def fill(self, keys: Iterable[str], expires: float) -> None:
        for key in keys:
            self.hand.create(key)
            os.utime(self.hand.path(key), (expires, expires))

    def known(self, operation: Callable[[str], object]) -> Case:
        """Return a case that uses another existing session each time."""

        def run(timer: Timer, calls: int) -> None:
            keys = [next(self._next) for _ in range(calls)]
            with timer:
                for key in keys:
                    operation(key)
            self._keep(keys)

        return Case(run, CALLS)

    def creating(self, create: Callable[[str], object]) -> Case:
        def run(timer: Timer, calls: int) -> None:
            keys = new_keys(calls)
            with timer:
                for key in keys:
                    create(key)
            self._keep(keys)
            self._extra += keys

        return Case(run, CALLS)

    def _keep(self, keys: list[str]) -> None:
        """Set an expiry, because files that were written by hand have none, and the store would delete them."""
        for key in keys:
            os.utime(self.hand.path(key), (time.time() + HOUR,) * 2)

    def remove_extra(self) -> None:
        """Delete the created sessions, only after the last round, because this would slow down ext4."""
        while self._extra:
            self.hand.delete(self._extra.pop())

    def deleting(self, delete: Callable[[str], object]) -> Case:
        def run(timer: Timer, calls: int) -> None:
            keys = new_keys(calls)
            self.fill(keys, time.time() + HOUR)
            with timer:
                for key in keys:
                    delete(key)

        return Case(run, CALLS)

    def sweeping(self, sweep: Callable[[], object]) -> Case:
        """Return a case that deletes the expired tenth of the sessions."""

        def run(timer: Timer, calls: int) -> None:
            for _ in range(calls):
                self.fill(new_keys(len(self.keys) // 10), time.time() - HOUR)
                with timer:
                    sweep()

        return Case(run, calls=1)

    def opening(self) -> Case:
        def run(timer: Timer, calls: int) -> None:
            with timer:
                for _ in range(calls):
                    FileStore(self.path)

        return Case(run, calls=10)


def new_keys(count: int) -> list[str]:
    return [secrets.token_hex(32) for _ in range(count)]


def measure(folder: Folder, rounds: int, sweeps: int) -> dict[str, list[Cost]]:
    sides = {"": folder.ours, " by hand": folder.hand}
    size = f"{len(folder.keys):,} sessions"
    making: dict[str, Case] = {"open": folder.opening()}
    for who, side in sides.items():
        making[f"create{who}"] = folder.creating(side.create)
        making[f"load{who}"] = folder.known(side.load)
    saving = {f"save{who}": folder.known(side.save) for who, side in sides.items()}
    deleting = {f"delete{who}": folder.deleting(side.delete) for who, side in sides.items()}
    sweeping = {f"sweep{who}": folder.sweeping(side.sweep) for who, side in sides.items()}
    costs = interleave(f"{size}, create and load", making, rounds)
    folder.remove_extra()
    costs |= interleave(f"{size}, save", saving, rounds)
    costs |= interleave(f"{size}, delete", deleting, rounds)
    return costs | interleave(f"{size}, sweep", sweeping, sweeps)


def tell(costs: dict[str, list[Cost]], report: Report, size: int) -> None:
    for operation in ("create", "load", "save", "delete", "sweep"):
        base = costs[f"{operation} by hand"]
        target = None if operation == "delete" else 1.6
        report.add(
            f"{operation}, {size:,}", costs[operation], base=base, unit="x by hand (wall)", target=target, of="wall"
        )
        report.add(f"{operation} by hand, {size:,}", base)
    slowest = max(cost.wall for cost in costs["open"])
    report.add(f"open, {size:,}", costs["open"])
    report.count(f"open, {size:,}", slowest * 1000, "ms at most", target=5)


@contextmanager
def filled(parent: str | None, sessions: int) -> Iterator[Folder]:
    with temporary_folder(parent) as path:
        for _ in progress(f"making {sessions:,} sessions", 1):
            folder = Folder(path, sessions)
        yield folder
        for _ in progress("cleaning up", 1):
            for entry in os.scandir(path):
                os.unlink(entry.path)


def main() -> None:
    parser = arguments(__doc__, rounds=30, folder=True)
    parser.add_argument(
        "--large", action="store_true", help="with 1 000 000 sessions, too: some minutes, 4 GB, 1.1 M inodes"
    )
    options = parser.parse_args()
    report = Report("File store")
    with filled(options.folder, 1_000) as folder:
        small = measure(folder, options.rounds, options.rounds)
        tell(small, report, 1_000)
    if options.large:
        with filled(options.folder, 1_000_000) as folder:
            large = measure(folder, options.rounds, sweeps=3)
            tell(large, report, 1_000_000)
        for operation in ("create", "load", "save", "delete"):
            now, then = (median(cost.wall for cost in costs[operation]) for costs in (large, small))
            report.count(f"{operation}, growth", now / then, "x at 1,000", target=2)
    report.finish(options.json)


if __name__ == "__main__":
    main()
