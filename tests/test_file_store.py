"""The file store: permissions, planted files, full disks, locks, sweeping, processes and threads."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import JSON
from system_calls import (
    HERE,
    KEY,
    OTHER,
    SystemCalls,
    assert_unavailable,
    call_in_a_process,
    key,
    names,
    open_files,
    put,
    record,
    snapshot,
)

from wsgi_oauth import Config, FileStore, create_app, errors
from wsgi_oauth.sessions import file
from wsgi_oauth.sessions.store import MAX_BYTES

NOBODY = 65534
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "sessions")


@pytest.fixture
def folder(store: FileStore) -> Path:
    return Path(store.folder)


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clock forward."""
    real, passed = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + passed[0])
    return lambda seconds: passed.__setitem__(0, passed[0] + seconds)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> SystemCalls:
    return SystemCalls(monkeypatch.setattr)


def mode(path: Path | str) -> str:
    return oct(stat.S_IMODE(os.stat(path).st_mode))


# Permissions (S52, S53)


@contextlib.contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0, 0o022, 0o777], ids=oct)
def test_files_and_folders_are_private_under_any_umask(tmp_path: Path, mask: int):
    """S53: a writable parent folder would let others replace the session folder."""
    folder = tmp_path / "a" / "b" / "sessions"
    with umask(mask):
        store = FileStore(folder)
        store.create(KEY, record())
        store.update(KEY, lambda _: record(b"new"))
        store.update(KEY, lambda data: record(data), move_to=OTHER)
    assert [mode(path) for path in (folder.parents[1], folder.parent, folder)] == [oct(0o700)] * 3
    assert mode(folder / f"{OTHER}.json") == oct(0o600)
    assert store.load(OTHER) == b"new"


def test_files_and_folders_are_private_from_their_creation_on(tmp_path: Path, system: SystemCalls):
    """S53: also before their mode is set."""
    modes = []

    def step(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        result = call(*arguments)
        if name in {"creat", "mkdir"}:
            modes.append(mode(arguments[0]))
        return result

    system.step = step
    with umask(0):
        FileStore(tmp_path / "sessions").create(KEY, record())
    assert modes == [oct(0o700), oct(0o600)]


def become_nobody() -> None:
    if IS_ROOT:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


@pytest.fixture
def folder_of_nobody() -> Iterator[str]:
    """Create a folder that an ordinary user can write to, also when the tests run as root."""
    folder = tempfile.mkdtemp()
    if IS_ROOT:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def test_an_ordinary_user_can_work_with_umask_0777(folder_of_nobody: str):
    """S53. Root could in any case, and tests often run as root."""
    assert call_in_a_process("work_as_nobody", folder_of_nobody, module=__name__) == ["0o700", "0o600", "new"]


def work_as_nobody(folder: str) -> list[str]:
    become_nobody()
    os.umask(0o777)
    store = FileStore(f"{folder}/a/b/sessions")
    store.create(KEY, record())
    store.update(KEY, lambda _: record(b"new"))
    return [mode(store.folder), mode(f"{store.folder}/{KEY}.json"), (store.load(KEY) or b"").decode()]


def test_a_folder_that_cannot_be_listed_is_refused(folder_of_nobody: str):
    assert "cannot be used by the user nobody" in call_in_a_process(
        "open_unreadable_folder", folder_of_nobody, module=__name__
    )


def open_unreadable_folder(folder: str) -> str:
    become_nobody()
    os.chmod(folder, 0o311)
    try:
        FileStore(folder)
    except errors.ConfigError as error:
        return error.detail
    finally:
        os.chmod(folder, 0o700)
    return ""


@pytest.mark.parametrize("bits", [0o720, 0o702, 0o1777], ids=oct)
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, bits: int):
    """S53"""
    folder = tmp_path / "sessions"
    folder.mkdir()
    folder.chmod(bits)
    with pytest.raises(errors.ConfigError, match=rf"others? .*write to .*{re.escape(str(folder))}.*chmod 700"):
        FileStore(folder)
    assert mode(folder) == oct(bits)


def test_a_folder_of_another_user_is_refused(tmp_path: Path):
    """S53"""
    folder = Path("/usr")
    if IS_ROOT:
        folder = tmp_path / "sessions"
        folder.mkdir(0o700)
        os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(errors.ConfigError, match=rf"{re.escape(str(folder))}.* belongs to another user"):
        FileStore(folder)


def test_an_empty_readable_folder_becomes_private_and_one_with_files_keeps_its_mode(tmp_path: Path):
    """S53"""
    for name, expected in (("empty", 0o700), ("full", 0o755)):
        folder = tmp_path / name
        folder.mkdir()
        folder.chmod(0o755)
        if name == "full":
            put(folder, "notes.txt")
        FileStore(folder).create(KEY, record())
        assert mode(folder) == oct(expected)
        assert FileStore(str(folder)).load(KEY) == b"data"


@pytest.mark.parametrize("place", ["/proc/sessions", "/dev/null"])
def test_an_unusable_folder_stops_the_start_and_the_message_names_the_setting(place: str):
    config = Config(client_id="i", client_secret="s", session_store=f"file:{place}")
    with pytest.raises((errors.ConfigError, errors.StoreError), match=r"WSGI_OAUTH_SESSION_STORE.*session folder"):
        create_app(config)


def test_a_folder_below_a_file_is_a_store_error(tmp_path: Path):
    put(tmp_path, "file")
    with pytest.raises(errors.StoreError, match="cannot be created"):
        FileStore(tmp_path / "file" / "sessions")


def test_file_names_and_contents_reveal_no_session_id(make_browser: Callable[..., Any], store: FileStore, folder: Path):
    """S52"""
    browser = make_browser()
    browser.sign_in()
    (name,) = names(folder)
    assert name == f"{key(browser.cookie)}.json"
    assert browser.cookie.encode() not in (folder / name).read_bytes()


# Malformed keys (S54)

MALFORMED = {
    "empty": "",
    "short": KEY[:-1],
    "upper case": KEY.upper(),
    "trailing newline": f"{KEY}\n",
    "parent folder": "../" + "a" * 61,
    "absolute path": "/etc/passwd",
    "NUL": "\0" * 64,
    "300 characters": "a" * 300,
    "lone surrogates": "\ud800" * 64,
    "Arabic digits": "\u0663" * 64,
    "temporary file": f"{KEY}.json.0123456789abcdef.tmp",
}


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_key_reaches_no_file(store: FileStore, folder: Path, system: SystemCalls, malformed: str):
    """S54"""
    assert store.load(malformed) is None
    assert not store.update(malformed, lambda _: pytest.fail("there is nothing to change"))
    store.delete(malformed)
    with pytest.raises(ValueError, match="64"):
        store.create(malformed, record())
    assert system.calls == []
    store.create(KEY, record())
    if malformed:
        assert not store.update(KEY, lambda _: pytest.fail("nothing can move there"), move_to=malformed)
    assert names(folder) == [f"{KEY}.json"]


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_cookie_reaches_no_file(system: SystemCalls, browser: Any, malformed: str):
    """S54"""
    raw = f"wsgi_oauth={malformed}".encode("utf-8", "surrogatepass").decode("latin-1")
    system.calls.clear()
    for cookie in (raw, f'wsgi_oauth="{raw[11:]}"'):
        assert browser.get("/profile", headers=JSON, extra_environ={"HTTP_COOKIE": cookie}).status_int == 401
    assert system.calls == []


# Planted files (S55)


def plant_symlink(path: Path) -> None:
    path.symlink_to(put(path.parent.parent, "elsewhere", b"{}"))


def plant_dangling_symlink(path: Path) -> None:
    path.symlink_to("nowhere")


def plant_symlink_loop(path: Path) -> None:
    path.symlink_to(path.name)


def plant_fifo(path: Path) -> None:
    os.mkfifo(path)
    os.utime(path, (time.time() + 600,) * 2)


def plant_folder(path: Path) -> None:
    path.mkdir()
    os.utime(path, (time.time() + 600,) * 2)


def plant_socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # because the path of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(before)


def plant_device(path: Path) -> None:
    """Create a device like /dev/zero. Without the permission for that, a link to /dev/zero has to do."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.stat("/dev/zero").st_rdev)
        os.close(os.open(path, os.O_RDONLY))
        os.utime(path, (time.time() + 600,) * 2)
    except PermissionError:
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/zero")


def plant_gigabyte(path: Path) -> None:
    put(path.parent, path.name)
    os.truncate(path, 1 << 30)
    os.utime(path, (time.time() + 600,) * 2)


def plant_one_byte_too_many(path: Path) -> None:
    put(path.parent, path.name, b"a" * (MAX_BYTES + 1))


@pytest.fixture
def no_hanging() -> Iterator[None]:
    """Fail a test that waits forever, as opening a FIFO does."""

    def hangs(*_: object) -> None:
        pytest.fail("this hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


PLANTS = [
    plant_symlink,
    plant_dangling_symlink,
    plant_symlink_loop,
    plant_fifo,
    plant_folder,
    plant_socket,
    plant_device,
    plant_gigabyte,
    plant_one_byte_too_many,
]


@pytest.mark.usefixtures("no_hanging")
@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_file_counts_as_absent_and_is_not_read(
    store: FileStore, folder: Path, system: SystemCalls, plant: Callable[[Path], None]
):
    """S55"""
    path = folder / f"{KEY}.json"
    plant(path)
    assert store.load(KEY) is None
    assert not store.update(KEY, lambda _: pytest.fail("there is nothing to change"))
    assert not store.update(KEY, lambda _: pytest.fail("there is nothing to change"), move_to=OTHER)
    assert "read" not in system.calls
    store.delete(KEY)
    assert names(folder) in ([], [path.name])
    assert open_files(folder / KEY) == []


@pytest.mark.usefixtures("no_hanging")
@pytest.mark.parametrize("name", [f"{OTHER}.json", f"{OTHER}.json.0123456789abcdef.tmp"], ids=["session", "temporary"])
@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_file_does_not_stop_a_sweep(
    store: FileStore, folder: Path, pass_time: Callable[[float], None], plant: Callable[[Path], None], name: str
):
    """S55, S57"""
    plant(folder / name)
    for number in range(10):
        store.create(key(number), record(seconds=60))
    pass_time(7200)
    assert store.sweep() >= 10
    assert names(folder) in ([], [name])
    if plant is plant_symlink:
        assert (folder.parent / "elsewhere").exists()


# Atomic writes (S57, S60, S62)


@pytest.mark.parametrize("operation", ["create", "update", "move"])
def test_readers_find_the_old_session_until_the_new_one_is_complete(
    store: FileStore, folder: Path, system: SystemCalls, operation: str
):
    """S57: at each system call, another process finds all of the old session or all of the new one."""
    found = []

    def step(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        found.append((other.load(KEY), other.load(OTHER)))
        return call(*arguments)

    if operation != "create":
        store.create(KEY, record(b"old"))
    other = LoadsWithoutObservation(folder)
    system.step = step
    if operation == "create":
        store.create(KEY, record(b"new"))
    else:
        store.update(KEY, lambda _: record(b"new"), move_to=OTHER if operation == "move" else None)
    system.recover()
    found.append((other.load(KEY), other.load(OTHER)))
    expected = {
        "create": [(None, None), (b"new", None)],
        "update": [(b"old", None), (b"new", None)],
        "move": [(b"old", None), (b"old", b"new"), (None, b"new")],
    }
    assert list(dict.fromkeys(found)) == expected[operation]


class LoadsWithoutObservation:
    """Loads sessions like another process: without observed system calls."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: str) -> bytes | None:
        try:
            path = self._folder / f"{key}.json"
            return path.read_bytes() if path.stat().st_mtime > time.time() else None
        except FileNotFoundError:
            return None


def test_a_short_write_is_continued(store: FileStore, system: SystemCalls):
    """S57: write(2) can take less than it was given, for example on an almost full disk."""
    system.step = lambda name, call, arguments: call(
        *((arguments[0], arguments[1][:7]) if name == "write" else arguments)
    )
    data = bytes(range(256)) * 4
    store.create(KEY, record(data))
    assert store.load(KEY) == data


@pytest.mark.parametrize("call", ["unlink", "rename"])
def test_a_move_whose_last_step_fails_has_not_happened(store: FileStore, folder: Path, system: SystemCalls, call: str):
    """S36, S58: otherwise a signed-in session with an unknown id would remain."""
    store.create(KEY, record())
    before = snapshot(folder)
    system.refuse(call, errno.EIO, times=1)
    with pytest.raises(errors.StoreError):
        store.update(KEY, lambda _: record(b"new"), move_to=OTHER)
    assert snapshot(folder) == before


@pytest.mark.parametrize("move_to", [None, OTHER])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_system_exit_at_any_system_call_leaves_a_whole_session(
    tmp_path: Path, system: SystemCalls, moment: str, move_to: str | None
):
    """S62: the timeout of a gunicorn worker raises SystemExit between any two instructions."""
    ends = []
    for number in range(100):
        store = FileStore(tmp_path / str(number))
        store.create(KEY, record(b"old"))
        system.calls.clear()

        def step(name: str, call: Callable[..., Any], arguments: tuple[Any, ...], number: int = number) -> Any:
            mine = len(system.calls) - 1 == number
            if mine and moment == "before":
                if name == "close":
                    call(*arguments)  # because otherwise the test itself would leak the descriptor
                raise SystemExit(1)
            result = call(*arguments)
            if mine:
                if name in {"open", "creat"}:
                    os.close(result)
                raise SystemExit(1)
            return result

        system.step = step
        try:
            store.update(KEY, lambda _: record(b"new"), move_to=move_to)
        except SystemExit:
            ends.append(system.calls[number])
        else:
            break
        finally:
            system.recover()
        left = (store.load(KEY), store.load(OTHER))
        allowed = [(b"old", None), (b"old", b"new"), (None, b"new")] if move_to else [(b"old", None), (b"new", None)]
        assert left in allowed, ends[-1]
        assert all(store.update(each, lambda _: None) for each in (KEY, OTHER) if store.load(each)), ends[-1]
        assert [name for name in names(Path(store.folder)) if name.endswith(".tmp")] == [] or ends[-1] == "creat"
        assert open_files(f"{store.folder}/{KEY}") == []
    assert len(ends) > 8


# Versions, by which the gate's cache notices changes


def test_the_version_changes_with_every_change_of_the_file(
    store: FileStore, folder: Path, pass_time: Callable[[float], None]
):
    """S56: also when a program damages the file and restores its size and modification time."""
    store.create(KEY, record())
    pass_time(3)
    versions = [store.version(KEY)]
    FileStore(folder).update(KEY, lambda _: record(b"new!"))
    versions.append(store.version(KEY))
    path = folder / f"{KEY}.json"
    before = path.stat()
    time.sleep(0.05)  # so that the clock of the file system ticks
    with path.open("r+b") as file_:
        file_.write(b"evil")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    versions.append(store.version(KEY))
    path.unlink()
    put(folder, path.name, b"evil")
    versions.append(store.version(KEY))
    assert None not in versions
    assert [store.is_current(each) for each in versions] == [False, False, False, True]


def test_a_session_without_a_reliable_version_has_none(store: FileStore, pass_time: Callable[[float], None]):
    """Two writes within one tick of the file system's clock have the same change time, so a new file has none."""
    store.create(KEY, record(seconds=60))
    assert store.version(KEY) is None
    pass_time(3)
    assert store.version(KEY)
    assert store.version(OTHER) is None


# The keys of all sessions


def test_keys_yields_only_sessions(store: FileStore, folder: Path):
    store.create(KEY, record())
    for name in ("package.json", f"{OTHER}.json.0123456789abcdef.tmp", f"{OTHER.upper()}.json", f"{OTHER}.jso", OTHER):
        put(folder, name)
    assert list(store.keys()) == [KEY]


# Failing disks (S58). test_file_store_faults.py lets every single system call fail.


def test_a_missing_folder_is_a_failing_store_and_signs_nobody_out(folder: Path, browser: Any, store: FileStore):
    """S58: for example an unmounted disk."""
    browser.sign_in()
    cookie = browser.cookie
    folder.rename(folder.parent / "unmounted")
    for url in ("/profile", "/verify", "/", "/readyz"):
        assert_unavailable(browser.get(url))
    with pytest.raises(errors.StoreError):
        list(store.keys())
    assert not folder.exists()
    (folder.parent / "unmounted").rename(folder)
    assert browser.cookie == cookie
    assert browser.profile().status_int == 200


@pytest.mark.parametrize(("call", "code"), [("creat", errno.EROFS), ("rename", errno.EACCES), ("unlink", errno.EIO)])
def test_readyz_fails_when_no_session_can_be_stored(system: SystemCalls, browser: Any, call: str, code: int):
    system.refuse(call, code)
    assert_unavailable(browser.get("/readyz"))
    system.recover()
    assert browser.get("/readyz").status_int == 200


def test_readyz_fails_when_a_stored_session_is_not_found(system: SystemCalls, browser: Any, caplog: Any):
    """For example on a file system that does not keep modification times, as those for object storage."""
    system.step = lambda name, call, arguments: None if name == "utime" else call(*arguments)
    with caplog.at_level("ERROR"):
        assert_unavailable(browser.get("/readyz"))
    assert "modification times, use a local disk" in caplog.text


def test_the_error_of_a_failing_store_names_no_session(system: SystemCalls, browser: Any, caplog: Any):
    """S49: the operating system's own message would contain the path, and the path a session's key."""
    browser.sign_in()
    system.refuse("open", errno.EIO)
    with caplog.at_level("DEBUG"):
        page = browser.profile().text
    assert "Input/output error" in caplog.text
    for text in (caplog.text, page):
        assert browser.cookie not in text
        assert key(browser.cookie) not in text


@contextlib.contextmanager
def limit(what: int, value: int) -> Iterator[None]:
    before = resource.getrlimit(what)
    resource.setrlimit(what, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def test_a_file_size_limit_leaves_the_old_session(store: FileStore, folder: Path):
    """S58, with the real kernel: RLIMIT_FSIZE makes write(2) take some bytes and refuse the rest."""
    store.create(KEY, record())
    before = snapshot(folder)
    with limit(resource.RLIMIT_FSIZE, 100):
        for attempt in (
            lambda: store.update(KEY, lambda _: record(b"x" * 1000)),
            lambda: store.update(KEY, lambda _: record(b"x" * 1000), move_to=OTHER),
            lambda: store.create(OTHER, record(b"x" * 1000)),
        ):
            with pytest.raises(errors.StoreError, match="too large"):
                attempt()
    assert snapshot(folder) == before
    assert store.update(KEY, lambda _: record(b"x" * 1000))


def test_a_process_without_free_descriptors_fails_and_recovers(tmp_path: Path):
    """S58, with the real kernel: EMFILE."""
    outcome = call_in_a_process("fail_without_descriptors", tmp_path, module=__name__)
    reason = "the session store failed: Too many open files; raise the limit of open files (systemd: LimitNOFILE=)"
    assert outcome["refused"] == dict.fromkeys(("load", "create", "update", "delete", "sweep", "check"), reason)
    assert outcome["untouched"]
    assert outcome["left"] == "data"


def fail_without_descriptors(folder: str) -> dict[str, Any]:
    """Try every operation in a process that cannot open another file."""
    logging.disable()  # because a failing sweep is logged, and here that would go to stderr
    store = FileStore(folder)
    store.create(KEY, record())
    before = snapshot(Path(folder))
    probe = os.dup(0)
    os.close(probe)
    attempts = {
        "load": lambda: store.load(KEY),
        "create": lambda: store.create(OTHER, record()),
        "update": lambda: store.update(KEY, lambda _: record(b"new")),
        "delete": lambda: store.delete(KEY),
        "sweep": store.sweep,
        "check": store.check,
    }
    refused = {}
    with limit(resource.RLIMIT_NOFILE, probe):
        for name, attempt in attempts.items():
            try:
                attempt()
            except errors.StoreError as error:
                refused[name] = error.detail
    return {"refused": refused, "untouched": snapshot(Path(folder)) == before, "left": str(store.load(KEY), "ascii")}


class Disk:
    """A disk of 64 kB for the store's folder. Where none can be mounted, the kernel's errors are simulated."""

    def __init__(self, folder: Path, system: SystemCalls) -> None:
        self._folder = folder
        self._system = system
        folder.mkdir(0o700)
        self.mounted = self._run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs")

    def fill(self) -> None:
        if not self.mounted:
            self._system.refuse("write", errno.ENOSPC)
            return
        with contextlib.suppress(OSError), open(self._folder / "filler", "wb", buffering=0) as filler:
            while filler.write(b"a" * 4096):
                pass

    def empty(self) -> None:
        self._system.recover()
        (self._folder / "filler").unlink(missing_ok=True)

    def protect(self) -> None:
        if not (self.mounted and self._run("mount", "-o", "remount,ro")):
            self._system.refuse("creat", errno.EROFS)

    def unprotect(self) -> None:
        self._system.recover()
        if self.mounted:
            self._run("mount", "-o", "remount,rw")

    def remove(self) -> None:
        if self.mounted:
            self._run("umount", "--lazy")

    def _run(self, *command: str) -> bool:
        return subprocess.run([*command, str(self._folder)], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path, system: SystemCalls) -> Iterator[Disk]:
    disk = Disk(tmp_path / "sessions", system)
    yield disk
    disk.remove()


def test_a_full_disk_signs_nobody_out_and_users_can_sign_out(
    disk: Disk, folder: Path, browser: Any, make_browser: Callable[..., Any]
):
    """S58"""
    browser.sign_in()
    disk.fill()
    before = names(folder)
    assert_unavailable(browser.get("/"))
    assert_unavailable(make_browser().get("/"))
    assert_unavailable(browser.get("/readyz"))
    assert browser.profile().status_int == 200
    assert names(folder) == before
    assert browser.post("/logout").status_int == 303
    assert browser.profile().status_int == 401
    disk.empty()
    browser.sign_in()


def test_a_disk_full_of_expired_sessions_makes_room_for_new_ones(
    disk: Disk, folder: Path, browser: Any, pass_time: Callable[[float], None]
):
    """S58, S59"""
    for number in range(8):
        put(folder, f"{key(number)}.json", b"x" * 4096, seconds=60)
    disk.fill()
    assert_unavailable(browser.get("/"))
    pass_time(61)
    if not disk.mounted:
        disk.empty()  # simulated errors do not depend on the free space
    browser.sign_in()
    assert browser.get("/readyz").status_int == 200


def test_a_read_only_disk_signs_nobody_out(disk: Disk, folder: Path, browser: Any):
    """S58"""
    browser.sign_in()
    before = snapshot(folder)
    disk.protect()
    assert_unavailable(browser.get("/"))
    assert browser.profile().status_int == 200
    assert snapshot(folder) == before
    disk.unprotect()
    browser.sign_in()


# Locks


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a session, like a process that was stopped."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def test_sessions_are_locked_on_nfs(store: FileStore, system: SystemCalls):
    """An NFS client grants an exclusive lock only for a file that is open for writing (flock(2))."""

    def step(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if name == "flock" and fcntl.fcntl(arguments[0], fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return call(*arguments)

    system.step = step
    store.create(KEY, record())
    assert store.update(KEY, lambda _: record(b"new"))
    assert store.load(KEY) == b"new"
    store.delete(KEY)
    assert store.load(KEY) is None


@pytest.mark.parametrize(
    ("call", "code", "remedy"),
    [
        ("flock", errno.ENOLCK, "has no locks, so use a local disk"),
        ("rename", errno.ENOSPC, "inodes"),
        ("creat", errno.EMFILE, "LimitNOFILE="),
        ("creat", errno.EROFS, "StateDirectory="),
        ("creat", errno.EACCES, "StateDirectory="),
        ("creat", errno.EDQUOT, "free disk space"),
        ("creat", errno.EPERM, "file system has permissions"),
        ("creat", errno.ENOENT, "restart this program, which creates the folder"),
    ],
)
def test_the_error_of_a_disk_names_its_remedy(store: FileStore, system: SystemCalls, call: str, code: int, remedy: str):
    store.create(KEY, record())
    system.refuse(call, code)
    with pytest.raises(errors.StoreError, match=f"{os.strerror(code)}; .*{remedy}"):
        store.update(KEY, lambda _: record())


def test_a_folder_on_a_read_only_file_system_names_the_remedy(tmp_path: Path, system: SystemCalls):
    """For example with systemd's ProtectSystem=strict, or in a container with a read-only root file system."""
    system.refuse("mkdir", errno.EROFS)
    with pytest.raises(errors.StoreError, match=r"Read-only file system; .*StateDirectory="):
        FileStore(tmp_path / "sessions")


@pytest.mark.usefixtures("no_hanging")
def test_a_stopped_process_blocks_only_its_own_session_and_not_forever(
    store: FileStore, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(file, "LOCK_TIMEOUT", 0.1)
    store.create(KEY, record())
    store.create(OTHER, record())
    with locked(folder / f"{KEY}.json"):
        with pytest.raises(errors.StoreError, match="holds this session"):
            store.update(KEY, lambda _: pytest.fail("another process holds the lock"))
        with pytest.raises(errors.StoreError, match="holds this session"):
            store.delete(KEY)
        assert store.load(KEY) == b"data"
        assert store.update(OTHER, lambda _: record(b"new"))
    assert store.update(KEY, lambda _: record(b"new"))


# Sweeping (S57, S59, S76)


def test_sweeping_removes_expired_sessions_and_stale_temporary_files_only(
    store: FileStore, folder: Path, pass_time: Callable[[float], None]
):
    """S57. The modification time of a temporary file can already be the expiry of its session."""
    other_files = ["package.json", "notes.txt", "work.tmp", f"{KEY[:-1]}.json", f"{KEY}.json.bak", f"{KEY}.tmp"]
    for name in other_files:
        put(folder, name, b"{}", seconds=-86400)
    store.create(KEY, record(seconds=86400))
    store.create(OTHER, record(seconds=60))
    temporary = put(folder, f"{OTHER}.json.0123456789abcdef.tmp", seconds=86400)
    pass_time(61)
    assert store.sweep() == 1
    assert names(folder) == sorted([*other_files, f"{KEY}.json", temporary.name])
    pass_time(7200)
    assert store.sweep() == 0
    assert names(folder) == sorted([*other_files, f"{KEY}.json"])


@pytest.mark.parametrize("call", ["open", "flock", "lstat"])
def test_a_session_that_is_stored_anew_while_it_is_swept_stays(
    store: FileStore, folder: Path, system: SystemCalls, pass_time: Callable[[float], None], call: str
):
    """S59: an update that began before the expiry can end after the sweep has looked at the file."""
    store.create(KEY, record(seconds=60))
    pass_time(61)
    renewed = []

    def step(name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if name == call and not renewed:
            renewed.append(put(folder, "new", b"renewed").rename(folder / f"{KEY}.json"))
        return real(*arguments)

    system.step = step
    assert store.sweep() == 0
    assert renewed
    assert store.load(KEY) == b"renewed"


def test_a_sweep_does_not_wait_for_a_locked_session(
    store: FileStore, folder: Path, pass_time: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
):
    """S59"""
    for number in range(5):
        store.create(key(number), record(seconds=60))
    pass_time(61)
    with locked(folder / f"{key(2)}.json"):
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("the sweep waits"))
        assert store.sweep() == 4
        for _ in range(10):
            store.create(key("new"), record())
    assert store.sweep() == 1


def test_no_create_removes_more_than_a_few_files_and_all_of_them_together_remove_everything(
    store: FileStore, folder: Path, pass_time: Callable[[float], None]
):
    """S59: also when everything has expired at once, or a thousand writers were killed."""
    for number in range(200):
        put(folder, f"{key(number)}.json", seconds=60)
        put(folder, f"{key(number)}.json.{number:016x}.tmp")
    pass_time(7200)
    removed = []
    for number in range(200, 300):
        before = len(names(folder))
        store.create(key(number), record())
        removed.append(before + 1 - len(names(folder)))
    assert max(removed) == 20
    assert names(folder) == sorted(f"{key(number)}.json" for number in range(200, 300))


def test_no_create_looks_at_more_than_a_few_entries(store: FileStore, folder: Path, system: SystemCalls):
    """S59: never O(sessions) in one request. The names of a thousand entries are read when a walk begins."""
    for number in range(3000):
        put(folder, f"{key(number)}.json")
    read: list[str] = []

    class Entries:
        def __init__(self, entries: Any) -> None:
            self._entries = entries

        def __enter__(self) -> Entries:
            return self

        def __exit__(self, *_: object) -> None:
            self._entries.close()

        def __iter__(self) -> Entries:
            return self

        def __next__(self) -> Any:
            read.append("name")
            return next(self._entries)

    system.step = lambda name, call, arguments: Entries(call(*arguments)) if name == "scandir" else call(*arguments)
    costs = []
    for _ in range(100):
        before = len(read)
        store.create(KEY, record())
        costs.append(len(read) - before)
    assert max(costs) <= 1000
    assert sorted(costs)[-2] <= 20


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("creates", [10**6, 10], ids=["long-lived", "replaced after ten creates"])
def test_the_folder_stays_within_a_few_times_its_live_sessions(
    folder: Path, pass_time: Callable[[float], None], workers: int, creates: int
):
    """S59: several workers walk through the same entries, and a new worker begins again."""
    stores = [FileStore(folder) for _ in range(workers)]
    for number in range(50):
        stores[0].create(key(f"signed in {number}"), record(seconds=10**6))
    sizes = []
    for number in range(1500):
        stores[number % workers].create(key(number), record(seconds=50))
        if number % creates > creates - workers - 1:
            stores[number % workers] = FileStore(folder)
        pass_time(1)
        if number % 10 == 0:
            sizes.append(len(names(folder)))
    assert max(sizes) <= 100 * (3 if workers == 1 and creates > 10 else 6)


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error", "/path/key"), RuntimeError("changed"), MemoryError()]
)
def test_a_failing_sweep_fails_no_create(
    store: FileStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
):
    """S76"""

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", fail)
        store.create(KEY, record())
        store.create(OTHER, record())
    assert store.load(KEY) == b"data"
    assert "sweeping failed" in caplog.text
    assert "/path/key" not in caplog.text


def test_a_sweep_that_failed_or_was_interrupted_goes_on_later(
    store: FileStore, folder: Path, system: SystemCalls, pass_time: Callable[[float], None]
):
    """S62, S76"""
    for number in range(5):
        put(folder, f"{key(number)}.json", seconds=60)
    pass_time(61)

    def step(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if name == "unlink":
            raise SystemExit(1)
        return call(*arguments)

    system.step = step
    with pytest.raises(SystemExit):  # noqa: PT012
        for _ in range(5):
            store.create(OTHER, record())
    system.refuse("unlink", errno.EIO, times=1)
    for _ in range(20):
        store.create(OTHER, record())
    assert names(folder) == [f"{OTHER}.json"]


# Processes and threads (S61, S76)


def test_an_unused_store_holds_no_open_file(store: FileStore, folder: Path):
    """S61: a store that was created before the fork is all that --preload shares with the workers."""
    assert store.load(KEY) is None
    assert open_files(folder) == []


@pytest.mark.usefixtures("no_hanging")
def test_open_files_do_not_accumulate(store: FileStore, folder: Path):
    store.create(KEY, record())
    plant_fifo(folder / f"{OTHER}.json")
    for number in range(50):
        store.create(key(number), record())
        store.update(KEY, lambda data: record(data))
        store.update(key(number), lambda data: record(data), move_to=key(f"moved {number}"))
        store.load(key(f"moved {number}"))
        store.delete(key(f"moved {number}"))
        store.load(OTHER)
    assert set(open_files(folder)) <= {str(folder)}
    assert len(open_files(folder)) <= 1  # the folder, which is being swept


def test_parent_and_child_sweep_independently_after_a_fork(store: FileStore, folder: Path):
    """S61: a lock that a thread of the parent held, and the position in the folder, do not concern the child."""
    for number in range(100, 150):
        put(folder, f"{key(number)}.json", seconds=-10)
    assert call_in_a_process("sweep_on_both_sides_of_a_fork", folder, module=__name__) == 0


def sweep_on_both_sides_of_a_fork(folder: str) -> int:
    """Fork while a thread is sweeping, create sessions in the child only, and count the expired ones that are left."""
    store = FileStore(folder)
    store.create(KEY, record())
    store._sweeper._lock.acquire()
    child = os.fork()
    if child == 0:
        for number in range(200):
            store.create(key(f"child {number}"), record())
        os._exit(0)
    os.waitpid(child, 0)
    return len({f"{key(number)}.json" for number in range(100, 150)} & set(os.listdir(folder)))


FIRST_USE = """
import sys, threading, time
from wsgi_oauth import FileStore, MemoryStore
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.sessions.store import Record

sys.setswitchinterval(1e-6)
kind, folder, fork = sys.argv[1:]
failures = []

def use_store(number):
    key = f"{number:064x}"
    store.create(key, Record(b"1", time.time() + 60))
    assert store.update(key, lambda data: Record(data + b"2", time.time() + 60))
    assert store.load(key) == b"12"
    store.delete(key)

def use_manager(number):
    session = Session(manager)
    session["number"] = number
    manager.save(session)
    assert manager.read(session.id).data == {"number": number}
    session.renew()
    manager.save(session)
    session.end()

def run(use, number):
    together.wait()
    try:
        for turn in range(5):
            use(number * 10 + turn)
    except BaseException as error:
        failures.append(repr(error))

import logging
import os
for turn in range(20):
    store = FileStore(folder) if kind == "file" else MemoryStore()
    manager = SessionManager(store, idle=60, lifetime=60, encrypted=kind == "encrypted")
    if fork == "fork" and (child := os.fork()):
        assert os.waitpid(child, 0)[1] == 0
        continue
    together = threading.Barrier(8)
    uses = [use_store, use_manager] * 4
    threads = [threading.Thread(target=run, args=(use, number)) for number, use in enumerate(uses)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures, failures
    assert not list(store.keys())
    if fork == "fork":
        os._exit(0)
"""


@pytest.mark.parametrize(("kind", "fork"), [("file", "fork"), ("file", ""), ("memory", ""), ("encrypted", "")])
def test_eight_threads_can_use_a_store_and_its_sessions_for_the_first_time_at_once(
    tmp_path: Path, kind: str, fork: str
):
    """S76: in a new process, and in a worker that was just forked."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FIRST_USE, kind, str(tmp_path / "sessions"), fork],
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
