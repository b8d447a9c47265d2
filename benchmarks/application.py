"""Run the application under gunicorn, and kill workers. Linux only, because it reads /proc."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .judge import Kill

ROOT = Path(__file__).parent.parent


@dataclass
class Application:
    """gunicorn with the configuration file of the project."""

    url: str
    process: subprocess.Popen[bytes]

    def workers(self) -> list[int]:
        """Return the ids of gunicorn's worker processes."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, _, rest = status.read_text().partition(" (")
            except OSError:  # the process has ended
                continue
            state, parent = rest.rpartition(") ")[2].split()[:2]
            if int(parent) == self.process.pid and state != "Z":
                found.append(int(pid))
        return found

    def memory(self) -> int:
        """Return the highest resident set size of a worker in bytes (proc_pid_statm(5))."""
        pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.workers())
        return max(pages) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """Return the highest number of open file descriptors of a worker."""
        return max((len(list(Path(f"/proc/{pid}/fd").glob("*"))) for pid in self.workers()), default=0)


@contextmanager
def run_application(log: Path, settings: dict[str, str], workers: int, app: str = "") -> Iterator[Application]:
    """Run gunicorn until the block ends. It writes its log, and that of the application, to the file *log*.

    :param app: ``module:name`` of another application.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WSGI_OAUTH_", "GUNICORN_"))}
    command = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py"), "--workers", str(workers)]
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            [*command, "--bind", f"fd://{listener.fileno()}", "--access-logfile", os.devnull, *filter(None, [app])],
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


def kill_worker(pid: int) -> Kill | None:
    """Kill a process, wait for its end, and return which connections it had. Return None if it has already ended.

    The process is first stopped (SIGSTOP), so that the list of its connections is exact.
    """
    began = time.monotonic()
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        signal.pidfd_send_signal(process, signal.SIGSTOP)
        while not _is_stopped(pid):
            time.sleep(0.001)
        ports = _local_ports(pid)
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [])  # readable when the process has ended (pidfd_open(2))
    except ProcessLookupError:
        return None
    finally:
        os.close(process)
    return Kill(began, time.monotonic(), ports)


def _is_stopped(pid: int) -> bool:
    """Return whether all threads of a process are stopped, or gone (proc_pid_stat(5))."""
    for status in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            state = status.read_text().rpartition(") ")[2][0]
        except OSError:  # the thread has ended
            continue
        if state not in "TZX":
            return False
    return True


def _local_ports(pid: int) -> frozenset[int]:
    """Return the local port of each TCP socket of a process (proc_pid_net(5))."""
    try:
        sockets = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        connections = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    except OSError:  # the process has ended
        return frozenset()
    return frozenset(int(line[1].partition(":")[2], 16) for line in connections if f"socket:[{line[9]}]" in sockets)
