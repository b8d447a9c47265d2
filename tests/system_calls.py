"""Observe and disturb the system calls of the file store."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import BuiltinFunctionType, ModuleType
from typing import Any

from wsgi_oauth.sessions import file
from wsgi_oauth.sessions.store import Record

HERE = Path(__file__).parent

Step = Callable[[str, Callable[..., Any], tuple[Any, ...]], Any]


def key(name: object) -> str:
    """Return a key in the application's format: 64 hexadecimal digits."""
    return sha256(str(name).encode()).hexdigest()


def record(data: bytes = b"data", seconds: float = 600) -> Record:
    return Record(data, time.time() + seconds)


KEY, OTHER = key("one"), key("other")


def call_normally(_name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return call(*arguments)


class SystemCalls:
    """Records the system calls of the file store. A test can replace ``step`` to disturb them.

    An open(2) that creates a file is recorded as ``creat``.
    """

    def __init__(self, replace: Callable[[object, str, object], None] = setattr) -> None:
        self.calls: list[str] = []
        self.step: Step = call_normally
        for module in (os, fcntl):
            replace(file, module.__name__, _Observed(module, self))

    def refuse(self, name: str, code: int, times: float = float("inf")) -> None:
        """Make calls of *name* fail with the error *code*."""
        left = [times]

        def step(called: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
            if called == name and left[0] > 0:
                left[0] -= 1
                raise OSError(code, os.strerror(code))
            return call(*arguments)

        self.step = step

    def recover(self) -> None:
        self.step = call_normally


class _Observed:
    def __init__(self, module: ModuleType, system: SystemCalls) -> None:
        self._module = module
        self._system = system

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._module, name)
        if not isinstance(real, BuiltinFunctionType) or name in {"fspath", "getpid", "geteuid", "strerror"}:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            called = "creat" if name == "open" and arguments[1] & os.O_CREAT else name
            self._system.calls.append(called)
            return self._system.step(called, lambda *given: real(*given, **options), arguments)

        return call


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return the contents of every file in *folder*."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def open_files(folder: Path | str) -> list[str]:
    """Return the paths below *folder* that this process holds open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [path for path in found if path.startswith(str(folder))]


def put(folder: Path, name: str, data: bytes = b"data", seconds: float = 600) -> Path:
    """Write a file into the store's folder, as another program could."""
    path = folder / name
    path.write_bytes(data)
    os.utime(path, (time.time() + seconds,) * 2)
    return path


def call_in_a_process(function: str, *arguments: object, module: str) -> Any:
    """Call a function of *module* in a new process, which may fork and die; return its result, which must be JSON."""
    script = f"import json, sys, {module}; print(json.dumps({module}.{function}(*sys.argv[1:])))"
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])},
        capture_output=True,
        timeout=300,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def assert_unavailable(response: Any) -> None:
    """Check that the response is a 503 without a cookie and without a redirect."""
    assert response.status_int == 503, response
    assert "session_store_unavailable" in response.text or "Sessions cannot be stored" in response.text
    assert "Set-Cookie" not in response.headers
    assert "Location" not in response.headers
    assert "Retry-After" in response.headers
