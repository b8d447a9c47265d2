"""Measure how the cost of a session grows with the number of stored sessions, in files and on Redis.

All sizes are measured in one interleaved run. For files it is the CPU time of this process, which includes that of the
kernel; for Redis, that of this process and that of the server. A session has the size of a usual one.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import redis

from wsgi_oauth.sessions.redis import RedisStore

from .measure import Case, Cost, Timer, arguments, interleave, one_processor, progress, temporary_folder
from .store import HOUR, ByStore, Folder, dumped, new_keys

OPERATIONS = ("load", "load for the gate", "save", "create", "delete")
SIZES = (1_000, 10_000, 100_000, 1_000_000)


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a Redis server, if one is installed, and yield its URL, or an empty string."""
    if not shutil.which("redis-server"):
        print("redis-server is not installed: sessions on Redis are not measured", file=sys.stderr)
        yield ""
        return
    port = 20_000 + secrets.randbelow(12_000)  # below those that the kernel assigns, which another process could take
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


class RedisSessions:
    """A server with many sessions."""

    def __init__(self, url: str, sessions: int) -> None:
        self.client: Any = redis.Redis.from_url(url, protocol=2)
        self.url = url
        store = RedisStore(url)
        self.store = ByStore(store)  # type: ignore[arg-type]
        # The gate also reads a record of the user, which usually does not exist.
        self._load_for_gate = lambda key: store.load_all([key, key[::-1]])
        self.keys = new_keys(sessions)
        empty = self._memory()
        for first in range(0, sessions, 10_000):
            pipeline = self.client.pipeline(transaction=False)
            for key in self.keys[first : first + 10_000]:
                pipeline.set(f"wsgi_oauth:session:{key}", dumped(), px=24 * HOUR * 1000)
            pipeline.execute()
        self.bytes_per_session = (self._memory() - empty) / sessions
        self._next = cycle(self.keys[:20_000])
        self.served: dict[str, list[float]] = {}  # the server's CPU time, per operation

    def _memory(self) -> int:
        return int(self.client.info("memory")["used_memory"])

    def cpu_time(self) -> float:
        usage = self.client.info("cpu")
        return float(usage["used_cpu_user"]) + float(usage["used_cpu_sys"])

    def load_at_once(self, connections: int = 16, calls: int = 100) -> float:
        """Return the server's CPU time of a read by the gate, in seconds, if many processes read at the same time."""
        pool = redis.ConnectionPool.from_url(self.url, protocol=2)
        opened = [pool.get_connection() for _ in range(connections)]
        before = self.cpu_time()
        for _ in range(calls):
            for connection in opened:
                key = next(self._next)
                connection.send_command("MGET", f"wsgi_oauth:session:{key}", f"wsgi_oauth:session:{key[::-1]}")
            for connection in opened:
                connection.read_response()
        used = self.cpu_time() - before
        for connection in opened:
            connection.disconnect()
        return used / (connections * calls)

    def case(self, name: str) -> Case:
        operation: Callable[[str], object] = getattr(self.store, name, self._load_for_gate)

        def run(timer: Timer, calls: int) -> None:
            keys = [next(self._next) for _ in range(calls)] if name.startswith(("load", "save")) else new_keys(calls)
            if name == "delete":
                for key in keys:
                    self.store.create(key)
            before = self.cpu_time()
            with timer:
                for key in keys:
                    operation(key)
            self.served.setdefault(name, []).append((self.cpu_time() - before) / calls)
            if name == "create":
                self.client.delete(*(f"wsgi_oauth:session:{key}" for key in keys))

        return Case(run, calls=100)


def measure_files(parent: str | None, sizes: tuple[int, ...], rounds: int) -> dict[str, dict[str, float]]:
    """Return the microseconds of each operation by number of sessions, and the bytes of a session on the disk."""
    with ExitStack() as stack:
        folders = {}
        for size in sizes:
            path = stack.enter_context(temporary_folder(parent))
            for _ in progress(f"making {size:,} files", 1):
                folders[size] = Folder(path, size)
        rows: dict[str, dict[str, float]] = {}
        # Operations that delete files come last, because ext4 needs long to find a new inode after many were freed.
        for name in ("create", "load", "save", "delete"):
            make = {"create": Folder.creating, "delete": Folder.deleting}.get(name, Folder.known)
            cases = {str(size): make(folder, getattr(folder.ours, name)) for size, folder in folders.items()}
            rows[name] = _microseconds(interleave(f"files: {name}", cases, rounds))
        path = next(Path(folders[sizes[0]].path).glob("*.json"))
        rows["bytes per session"] = {str(sizes[0]): path.stat().st_blocks * 512}
        for size, folder in folders.items():
            for _ in progress(f"removing {size:,} files", 1):
                for entry in os.scandir(folder.path):
                    os.unlink(entry.path)
    return rows


def measure_redis(parent: str | None, sizes: tuple[int, ...], rounds: int) -> dict[str, dict[str, float]]:
    """Return microseconds of each operation and size, in this process and on the server, and the bytes of a session."""
    with one_processor(), ExitStack() as stack:
        servers = {}
        for size in sizes:
            url = stack.enter_context(redis_server(stack.enter_context(temporary_folder(parent))))
            if not url:
                return {}
            for _ in progress(f"making {size:,} sessions on Redis", 1):
                servers[size] = RedisSessions(url, size)
        rows: dict[str, dict[str, float]] = {}
        for name in OPERATIONS:
            cases = {str(size): server.case(name) for size, server in servers.items()}
            rows[name] = _microseconds(interleave(f"Redis: {name}", cases, rounds))
            rows[f"{name}, on the server"] = {
                str(size): 1e6 * median(server.served[name]) for size, server in servers.items()
            }
        rows[f"{OPERATIONS[1]}, on a busy server"] = {
            str(size): 1e6 * median(server.load_at_once() for _ in progress("Redis: busy server", rounds))
            for size, server in servers.items()
        }
        rows["bytes per session"] = {str(size): server.bytes_per_session for size, server in servers.items()}
    return rows


def _microseconds(costs: dict[str, list[Cost]]) -> dict[str, float]:
    return {name: 1e6 * median(cost.cpu for cost in each) for name, each in costs.items()}


def measure(parent: str | None, largest: int, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    sizes = tuple(size for size in SIZES if size <= largest)
    return {"files": measure_files(parent, sizes, rounds), "Redis": measure_redis(parent, sizes, rounds)}


def main() -> None:
    parser = arguments(__doc__, rounds=40, folder=True)
    parser.add_argument("--sessions", type=int, default=SIZES[-1], help="the largest number of sessions")
    options = parser.parse_args()
    result = measure(options.folder, options.sessions, options.rounds)
    for store, rows in result.items():
        for row, values in rows.items():
            print(f"{store}: {row:24}", *(f"{int(size):>9,}: {value:8.1f}" for size, value in values.items()))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
