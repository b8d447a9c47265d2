"""The file store: rights, planted and damaged files, disks that fail, processes that are killed, and what it costs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pickle
import random
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
import tracemalloc
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import BuiltinFunctionType, ModuleType
from typing import Any
from unittest import mock
from zlib import crc32

import pytest

from wsgi_oauth import Config, FileStore, RequestHandler, create_app, errors
from wsgi_oauth.sessions import file
from wsgi_oauth.sessions.store import MAX_BYTES, Record

HERE = Path(__file__).parent
NOBODY = 65534
IS_ROOT = os.geteuid() == 0
JSON = {"Accept": "application/json"}


def key(name: object) -> str:
    """A key as the application makes them: 64 hexadecimal digits."""
    return sha256(str(name).encode()).hexdigest()


def record(data: bytes = b"data", seconds: float = 600) -> Record:
    return Record(data, time.time() + seconds)


KEY, OTHER = key("one"), key("other")


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "sessions")


@pytest.fixture
def folder(store: FileStore) -> Path:
    return Path(store.folder)


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let seconds pass without waiting for them."""
    real, passed = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + passed[0])
    return lambda seconds: passed.__setitem__(0, passed[0] + seconds)


Step = Callable[[str, Callable[..., Any], tuple[Any, ...]], Any]


def _just_call(_name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return call(*arguments)


class System:
    """The system calls that the store makes: each is noted, and a test can step in.

    An open(2) that makes a file goes by its old name, ``creat``.
    """

    def __init__(self, replace: Callable[[object, str, object], None] = setattr) -> None:
        self.calls: list[str] = []
        self.step: Step = _just_call
        for module in (os, fcntl):
            replace(file, module.__name__, _Observed(module, self))

    def refuse(
        self, name: str, code: int, times: float = float("inf"), when: Callable[[], bool] = lambda: True
    ) -> None:
        """Make the calls of that name fail, as many as *times*, while *when* is true."""
        left = [times]

        def step(called: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
            if called == name and left[0] > 0 and when():
                left[0] -= 1
                if name == "close":  # close(2) closes, whatever it reports
                    call(*arguments)
                raise OSError(code, os.strerror(code))
            return call(*arguments)

        self.step = step

    def recover(self) -> None:
        self.step = _just_call


class _Observed:
    def __init__(self, module: ModuleType, system: System) -> None:
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


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    return System(monkeypatch.setattr)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def snapshot(folder: Path) -> dict[str, bytes]:
    """All that is in *folder*."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def descriptors(folder: Path | str) -> list[str]:
    """What this process holds open of *folder*."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [path for path in found if path.startswith(str(folder))]


def mode(path: Path | str) -> str:
    return oct(stat.S_IMODE(os.stat(path).st_mode))


def put(folder: Path, name: str, data: bytes = b"data", seconds: float = 600) -> Path:
    """Write a file into the store's folder, as somebody with access to it could; an empty one counts as unfinished."""
    path = folder / name
    path.write_bytes(data)
    os.utime(path, (time.time() + seconds,) * 2)
    return path


def call_in_a_process(function: str, *arguments: object, module: str = __name__) -> Any:
    """Call a function of *module* in a process of its own, which may fork and die; return what it returns, as JSON."""
    script = f"import json, sys, {module}; print(json.dumps({module}.{function}(*sys.argv[1:])))"
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])},
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


# Who may read it (S52, S53)


@contextlib.contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


UMASKS = pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o777], ids=oct)


@UMASKS
def test_files_are_for_their_owner_alone_under_any_umask(tmp_path: Path, mask: int):
    """S53"""
    with umask(mask):
        store = FileStore(tmp_path / "sessions")
        store.create(KEY, record())
        assert mode(store.folder) == oct(0o700)
        assert mode(f"{store.folder}/{KEY}.json") == oct(0o600)
        store.update(KEY, lambda _: record(b"new"))
        store.update(KEY, lambda data: record(data), move_to=OTHER)
        assert mode(f"{store.folder}/{OTHER}.json") == oct(0o600)
        assert store.load(OTHER) == b"new"


def test_a_file_is_for_its_owner_alone_from_its_first_moment(store: FileStore, folder: Path, system: System):
    """S53: not only once fchmod(2) has been there."""
    modes = []

    def step(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        result = call(*arguments)
        if name == "creat":
            modes.extend(mode(folder / path) for path in names(folder))
        return result

    system.step = step
    with umask(0):
        store.create(KEY, record())
    assert modes == [oct(0o600)]


@UMASKS
def test_folders_above_that_had_to_be_made_let_nobody_else_in(tmp_path: Path, mask: int):
    """S53: who can write to a folder above can put another one in this one's place."""
    with umask(mask):
        FileStore(tmp_path / "a" / "b" / "sessions")
    assert [mode(path) for path in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "sessions")] == [
        oct(0o700)
    ] * 3


@pytest.mark.parametrize("place", ["/proc/sessions", "/dev/null"])
def test_a_start_that_fails_for_the_store_names_the_variable_and_what_it_was(place: str):
    config = Config(client_id="i", client_secret="s", session_store=f"file:{place}")
    with pytest.raises((errors.ConfigError, errors.StoreError)) as failed:
        create_app(config)
    assert str(failed.value).startswith(f"WSGI_OAUTH_SESSION_STORE is 'file:{place}', and the session folder")


def test_a_folder_that_its_owner_cannot_read_is_a_failing_store_and_no_traceback():
    """S53; root could."""
    folder = tempfile.mkdtemp()
    try:
        if IS_ROOT:
            os.chown(folder, NOBODY, NOBODY)
        assert call_in_a_process("open_what_cannot_be_read", folder) == "the session store failed: Permission denied"
    finally:
        shutil.rmtree(folder)


def open_what_cannot_be_read(folder: str) -> str:
    _become_nobody()
    os.chmod(folder, 0o311)
    try:
        FileStore(folder)
    except errors.StoreError as error:
        return error.detail
    finally:
        os.chmod(folder, 0o700)
    return ""


def test_an_ordinary_user_can_work_under_a_umask_that_takes_everything():
    """S53; root, as whom tests often run, could always."""
    folder = tempfile.mkdtemp()
    try:
        if IS_ROOT:
            os.chown(folder, NOBODY, NOBODY)
        assert call_in_a_process("work_as_nobody", folder) == ["0o700", "0o600", "new"]
    finally:
        shutil.rmtree(folder)


def _become_nobody() -> None:
    if IS_ROOT:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def work_as_nobody(folder: str) -> list[str]:
    _become_nobody()
    os.umask(0o777)
    store = FileStore(f"{folder}/a/b/sessions")
    store.create(KEY, record())
    store.update(KEY, lambda _: record(b"new"))
    return [mode(store.folder), mode(f"{store.folder}/{KEY}.json"), (store.load(KEY) or b"").decode()]


@pytest.mark.parametrize("bits", [0o720, 0o702, 0o770, 0o777, 0o1777, 0o2770], ids=oct)
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, bits: int):
    """S53"""
    folder = tmp_path / "sessions"
    folder.mkdir()
    folder.chmod(bits)
    with pytest.raises(errors.ConfigError, match=rf"others can write to .*{re.escape(str(folder))}.*chmod 700"):
        FileStore(folder)
    assert mode(folder) == oct(bits)


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path):
    """S53"""
    folder = Path("/usr")
    if IS_ROOT:
        folder = tmp_path / "sessions"
        folder.mkdir(0o700)
        os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(errors.ConfigError, match=rf"{re.escape(str(folder))}.* belongs to another user"):
        FileStore(folder)


def test_a_folder_that_is_there_already_is_used_as_it_is(tmp_path: Path):
    folder = tmp_path / "sessions"
    folder.mkdir(0o700)
    FileStore(folder).create(KEY, record())
    assert FileStore(str(folder)).load(KEY) == b"data"


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path):
    put(tmp_path, "sessions")
    with pytest.raises(errors.ConfigError, match="is not a folder"):
        FileStore(tmp_path / "sessions")


def test_a_folder_that_cannot_be_made_is_an_error_of_the_store(tmp_path: Path):
    put(tmp_path, "file")
    with pytest.raises(errors.StoreError, match="cannot be made"):
        FileStore(tmp_path / "file" / "sessions")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    with pytest.raises(errors.StoreError, match="cannot be made"):
        FileStore(tmp_path / "nowhere")


def test_a_listing_opens_no_session(store: FileStore, folder: Path, make_browser: Callable[..., Any]):
    """S52: neither a name nor a file's contents gives the id that the browser holds."""
    browser = make_browser()
    browser.sign_in()
    (name,) = names(folder)
    assert name == f"{key(browser.cookie)}.json"
    assert browser.cookie.encode() not in (folder / name).read_bytes()
    for stolen in (name, name.removesuffix(".json"), name[:43]):
        assert make_browser().get("/profile", headers=JSON | {"Cookie": f"wsgi_oauth={stolen}"}).status_int == 401


# What a key looks like (S54)

WRONG = {
    "empty": "",
    "short": KEY[:-1],
    "long": f"{KEY}0",
    "upper case": KEY.upper(),
    "newline": f"{KEY}\n",
    "newline inside": f"{KEY[:-1]}\n",
    "parent": "../" + "a" * 61,
    "absolute": "/etc/passwd",
    "nul": "\0" * 64,
    "nul at the end": f"{KEY[:-1]}\0",
    "300 characters": "a" * 300,
    "surrogate": "\ud800" * 64,
    "digits of another script": "\u0663" * 64,
    "a temporary name": f"{KEY}.json.0123456789abcdef.tmp",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_name_that_is_no_key_reaches_no_file(store: FileStore, folder: Path, system: System, wrong: str):
    """S54"""
    assert store.load(wrong) is None
    assert not store.update(wrong, lambda _: pytest.fail("there is nothing to change"))
    store.delete(wrong)
    with pytest.raises(ValueError, match="64"):
        store.create(wrong, record())
    assert system.calls == []
    store.create(KEY, record())
    if wrong:
        assert not store.update(KEY, lambda _: pytest.fail("there is nowhere to move to"), move_to=wrong)
    assert names(folder) == [f"{KEY}.json"]


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_cookie_that_is_no_id_reaches_no_file(system: System, browser: Any, wrong: str):
    """S54, from the browser's side; what HTTP cannot carry comes as it would through a careless server."""
    raw = f"wsgi_oauth={wrong}".encode("utf-8", "surrogatepass").decode("latin-1")
    system.calls.clear()
    for cookie in (raw, f'wsgi_oauth="{raw[11:]}"'):
        assert browser.get("/profile", headers=JSON, extra_environ={"HTTP_COOKIE": cookie}).status_int == 401
    assert system.calls == []


# What somebody could plant (S55)


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
    os.chdir(path.parent)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(before)


def plant_device(path: Path) -> None:
    """As /dev/zero, where that can be made and opened; elsewhere a link to it is all that anybody could plant."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.stat("/dev/zero").st_rdev)
        os.close(os.open(path, os.O_RDONLY))
        os.utime(path, (time.time() + 600,) * 2)
    except PermissionError:
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/zero")


def plant_sparse_gigabyte(path: Path) -> None:
    put(path.parent, path.name)
    os.truncate(path, 1 << 30)
    os.utime(path, (time.time() + 600,) * 2)


def plant_a_byte_too_many(path: Path) -> None:
    put(path.parent, path.name, b"a" * (MAX_BYTES + 1))


@pytest.fixture
def no_hanging() -> Iterator[None]:
    """End a test whose system call waits for somebody who never comes, as at the other end of a FIFO."""

    def hangs(*_: object) -> None:
        pytest.fail("this hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


PLANTED = pytest.mark.parametrize(
    "plant",
    [
        plant_symlink,
        plant_dangling_symlink,
        plant_symlink_loop,
        plant_fifo,
        plant_folder,
        plant_socket,
        plant_device,
        plant_sparse_gigabyte,
        plant_a_byte_too_many,
    ],
)


@pytest.mark.usefixtures("no_hanging")
@PLANTED
def test_what_is_planted_counts_as_absent(
    store: FileStore, folder: Path, system: System, plant: Callable[[Path], None]
):
    """S55"""
    path = folder / f"{KEY}.json"
    plant(path)
    assert store.load(KEY) is None
    assert not store.update(KEY, lambda _: pytest.fail("there is nothing to change"))
    assert not store.update(KEY, lambda _: pytest.fail("there is nothing to change"), move_to=OTHER)
    assert "read" not in system.calls  # a gigabyte is not even begun
    store.delete(KEY)
    assert names(folder) in ([], [path.name])
    assert not descriptors(folder / KEY)


@pytest.mark.usefixtures("no_hanging")
@PLANTED
def test_a_browser_whose_file_was_replaced_is_anonymous_and_can_sign_in_again(
    folder: Path, browser: Any, plant: Callable[[Path], None]
):
    """S55"""
    browser.sign_in()
    old = browser.cookie
    path = folder / f"{key(old)}.json"
    path.unlink()
    plant(path)
    assert browser.profile().status_int == 401
    browser.sign_in()
    assert browser.cookie != old
    assert browser.profile().status_int == 200


@pytest.mark.usefixtures("no_hanging")
@PLANTED
def test_what_is_planted_does_not_disturb_a_sweep(
    store: FileStore, folder: Path, pass_time: Callable[[float], None], plant: Callable[[Path], None]
):
    """S55"""
    plant(folder / f"{OTHER}.json")
    plant_target = folder.parent / "elsewhere"
    for number in range(10):
        store.create(key(number), record(seconds=60))
    pass_time(7200)
    assert store.sweep() >= 10
    assert names(folder) in ([], [f"{OTHER}.json"])
    if plant is plant_symlink:
        assert plant_target.exists()


@pytest.mark.usefixtures("no_hanging")
@pytest.mark.parametrize("plant", [plant_symlink, plant_fifo, plant_folder, plant_socket])
def test_what_is_planted_under_a_temporary_name_does_not_disturb_a_sweep(
    store: FileStore, folder: Path, pass_time: Callable[[float], None], plant: Callable[[Path], None]
):
    """S55, S57"""
    plant(folder / f"{OTHER}.json.0123456789abcdef.tmp")
    for number in range(10):
        store.create(key(number), record(seconds=60))
    pass_time(7200)
    for _ in range(40):
        store.create(key("new"), record())
    assert [number for number in range(10) if (folder / f"{key(number)}.json").exists()] == []
    assert store.sweep() == 0


# Damage (S56)


class Look(RequestHandler):
    """Says what the session holds."""

    route = "/look"

    def get(self, request):
        return self.jsonify({"data": dict(request.session)})


@pytest.fixture
def signed_in(make_browser: Callable[..., Any]) -> Any:
    """A browser that is signed in, with another sign-in on its way."""
    browser = make_browser(handlers=(Look,))
    browser.sign_in()
    browser.start("/elsewhere")
    return browser


@pytest.fixture
def session_file(signed_in: Any, folder: Path) -> Path:
    return folder / f"{key(signed_in.cookie)}.json"


def look(browser: Any) -> dict[str, Any]:
    response = browser.get("/look", headers=JSON)
    assert response.status_int == 200, response
    return response.json["data"]


def test_a_session_that_was_cut_at_any_offset_is_anonymous(signed_in: Any, session_file: Path):
    """S56"""
    whole = session_file.read_bytes()
    assert look(signed_in).keys() >= {"oauth_token", "oauth_state"}
    for length in range(len(whole)):
        put(session_file.parent, session_file.name, whole[:length])
        assert look(signed_in) == {}


def test_a_session_with_a_flipped_bit_is_anonymous(signed_in: Any, session_file: Path):
    """S56: every third bit, which over eight bits a byte means each of the eight."""
    whole = session_file.read_bytes()
    believed = []
    for bit in range(0, len(whole) * 8, 3):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        put(session_file.parent, session_file.name, bytes(damaged))
        if look(signed_in):
            believed.append(bytes(damaged[max(0, bit // 8 - 8) : bit // 8 + 8]))
    assert believed == []


def test_a_flipped_bit_never_ends_in_a_server_error(make_browser: Callable[..., Any], folder: Path):
    """S56"""
    browser = make_browser()
    browser.start("/elsewhere")
    cookie = {"Cookie": f"wsgi_oauth={browser.cookie}"}
    name = f"{key(browser.cookie)}.json"
    whole = (folder / name).read_bytes()
    answers = []
    for bit in range(0, len(whole) * 8, 3):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        put(folder, name, bytes(damaged))
        status = make_browser().get("/", headers=cookie).status_int
        if status != 302:
            answers.append((status, bytes(damaged[max(0, bit // 8 - 8) : bit // 8 + 8])))
    assert answers == []


NOW = int(time.time())
DAMAGED = {
    "empty": b"",
    "zeros": b"\0" * 500,
    "not utf-8": b'{"started": 1, "seen": 1, "data": {"\xff": 1}}',
    "half a surrogate of utf-16": b"\xff\xfe\x00\xd8",
    "null": b"null",
    "a number": b"5",
    "a string": b'"session"',
    "a list": b"[1, 2, {}]",
    "no members": b"{}",
    "a member too few": b'{"started": %d, "data": {"oauth_token": {}}}' % NOW,
    "a member too many": b'{"started": %d, "seen": %d, "data": {"oauth_token": {}}, "more": 1}' % (NOW, NOW),
    "two documents": b'{"started": %d, "seen": %d, "data": {"a": 1}}{}' % (NOW, NOW),
    **{
        f"moments of {what}": b'{"started": %b, "seen": %b, "data": {"oauth_token": {"access_token": "x"}}}'
        % (text, text)
        for what, text in {
            "null": b"null",
            "text": b'"%d"' % NOW,
            "lists": b"[]",
            "objects": b"{}",
            "NaN": b"NaN",
            "infinity": b"Infinity",
            "1e400": b"1e400",
            "1e300": b"1e300",
            "400 digits": b"9" * 400,
            "5000 digits": b"9" * 5000,
            "below zero": b"-1",
        }.items()
    },
    **{
        f"data of {what}": b'{"started": %d, "seen": %d, "data": %b}' % (NOW, NOW, text)
        for what, text in {"null": b"null", "text": b'"oauth_token"', "a list": b'["oauth_token"]', "5": b"5"}.items()
    },
}


def with_checksum(body: bytes) -> bytes:
    """Give *body* the checksum that the application would give it: then it is its contents alone that are wrong."""
    return b'{"crc32":"%08x",' % crc32(body[1:]) + body[1:] if body[:1] == b"{" else body


@pytest.mark.parametrize("form", [bytes, with_checksum])
@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED)
def test_a_file_that_is_no_session_is_anonymous_with_a_new_id(
    signed_in: Any, session_file: Path, body: bytes, form: Callable[[bytes], bytes]
):
    """S56"""
    put(session_file.parent, session_file.name, form(body))
    old = signed_in.cookie
    assert look(signed_in) == {}
    assert signed_in.profile().status_int == 401
    signed_in.sign_in()
    assert signed_in.cookie != old
    assert signed_in.profile().status_int == 200


INSIDE = {
    f"{member} {value}": (member, value)
    for member, values in {
        "oauth_token": ("null", "5", '"x"', "[]", "{}", '{"access_token": 5}', '{"access_token": "\\ud800"}'),
        "oauth_state": ("null", "5", '"x"', "[1]", '{"s": 5}', '{"s": {}}', '{"s": {"started": "x"}}'),
        "oauth_again": ("5", "{}"),
    }.items()
    for value in values
}


@pytest.mark.parametrize(("member", "value"), INSIDE.values(), ids=INSIDE)
def test_wrong_types_inside_a_session_never_end_in_a_server_error(
    signed_in: Any, session_file: Path, member: str, value: str
):
    """S56: the file is one of ours by its form, and its members are of no type that we ever wrote."""
    stored = json.loads(session_file.read_bytes())
    stored["data"][member] = json.loads(value)
    put(session_file.parent, session_file.name, json.dumps(stored).encode())
    assert signed_in.profile().status_int in ({200, 401} if member != "oauth_token" else {401})
    put(session_file.parent, session_file.name, json.dumps(stored).encode())
    signed_in.sign_in()
    assert signed_in.profile().status_int == 200


def test_the_checksum_of_these_tests_is_that_of_the_application(signed_in: Any, session_file: Path):
    whole = session_file.read_bytes()
    rest = b"{" + whole[len(with_checksum(b"{")) :]
    assert with_checksum(rest) == whole
    put(session_file.parent, session_file.name, with_checksum(rest.replace(b"/elsewhere", b"/somewhere")))
    assert "/somewhere" in str(look(signed_in))


def test_no_nesting_is_too_deep(signed_in: Any, session_file: Path):
    """S56: json gives up at some depth; what it can still read must also be written and copied, or be no session."""

    def put_nested(depth: int) -> None:
        nested = b"[" * depth + b"]" * depth
        body = b'{"started":%d,"seen":%d,"data":{"x":%b}}' % (NOW, NOW, nested)
        put(session_file.parent, session_file.name, with_checksum(body))

    def is_read(depth: int) -> bool:
        try:
            json.loads("[" * depth + "]" * depth)
        except RecursionError:
            return False
        return True

    read, unread = 1, MAX_BYTES // 2 - 100
    while unread - read > 1 and not is_read(unread):
        middle = (read + unread) // 2
        read, unread = (middle, unread) if is_read(middle) else (read, middle)
    for depth in range(max(1, unread - 200), min(unread + 50, MAX_BYTES // 2 - 100)):
        put_nested(depth)
        assert signed_in.get("/").status_int == 302, depth
    put_nested(MAX_BYTES // 2 - 100)
    assert signed_in.profile().status_int == 401


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_session_is_never_unpickled(signed_in: Any, session_file: Path, tmp_path: Path, protocol: int):
    """S56: or a file would be a program."""
    put(session_file.parent, session_file.name, pickle.dumps(_Trap(tmp_path / "sprung"), protocol))
    assert look(signed_in) == {}
    assert not (tmp_path / "sprung").exists()


# Unfinished files (S57)


def test_a_new_session_is_one_when_its_expiry_is_set_which_comes_last(store: FileStore, folder: Path, system: System):
    """S57, S59: until then nobody finds it, and no sweep takes it away."""
    seen = []

    def step(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        system.step = _just_call
        other = FileStore(folder)
        seen.append((name, other.load(KEY), other.update(KEY, lambda _: None), other.sweep(), names(folder)))
        system.step = step
        return call(*arguments)

    system.step = step
    store.create(KEY, record(b"new"))
    system.recover()
    absent = (None, False, 0)
    assert [(name, tuple(found)) for name, *found, _ in seen[:5]] == [
        ("creat", absent),
        ("fchmod", absent),
        ("write", absent),
        ("close", absent),
        ("utime", absent),
    ]
    assert [left for *_, left in seen[1:]] == [[f"{KEY}.json"]] * (len(seen) - 1)
    assert store.load(KEY) == b"new"


def test_a_new_session_that_its_writer_did_not_finish_is_swept_when_no_writer_can_be_at_it(
    store: FileStore, folder: Path, pass_time: Callable[[float], None]
):
    """S57, S60: whether it had been written or not."""
    (folder / f"{KEY}.json").touch()
    (folder / f"{OTHER}.json").write_bytes(b"new")
    assert store.sweep() == 0
    assert len(names(folder)) == 2
    pass_time(7200)
    store.sweep()
    assert names(folder) == []


def test_a_create_takes_the_place_of_what_one_that_failed_has_left(store: FileStore, folder: Path):
    (folder / f"{KEY}.json").write_bytes(b"half")
    store.create(KEY, record(b"whole"))
    assert store.load(KEY) == b"whole"
    assert names(folder) == [f"{KEY}.json"]


def test_a_session_is_written_in_full_under_another_name_and_renamed(store: FileStore, folder: Path, system: System):
    """S57"""
    seen = []

    def step(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if name == "rename":
            (temporary,) = set(names(folder)) - {f"{KEY}.json"}
            seen.append((temporary, (folder / temporary).read_bytes(), store.load(KEY)))
        return call(*arguments)

    store.create(KEY, record(b"old"))
    system.step = step
    store.update(KEY, lambda _: record(b"new"))
    ((temporary, data, loaded),) = seen
    assert (data, loaded) == (b"new", b"old")
    assert re.fullmatch(rf"{KEY}\.json\.[0-9a-f]{{16}}\.tmp", temporary)
    assert store.load(temporary) is None
    assert store.load(temporary.removesuffix(".tmp")) is None
    assert names(folder) == [f"{KEY}.json"]


def test_a_write_that_takes_less_than_it_was_given_is_continued(store: FileStore, system: System):
    """write(2) may do that at any time, and does on a disk that is nearly full."""

    def step(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if name == "write":
            arguments = (arguments[0], arguments[1][:7])
        return call(*arguments)

    system.step = step
    data = bytes(range(256)) * 4
    store.create(KEY, record(data))
    assert store.load(KEY) == data


def test_temporary_files_without_a_writer_are_swept(store: FileStore, folder: Path, pass_time: Callable[[float], None]):
    """S57; their modification time says nothing, because it may already be their session's expiry."""
    stale = [put(folder, f"{key(n)}.json.{n:016x}.tmp", seconds=86400) for n in range(3)]
    for _ in range(5):
        store.create(key("new"), record())
    assert store.sweep() == 0
    assert all(path.exists() for path in stale)  # their writers may be at it
    pass_time(7200)
    for _ in range(40):
        store.create(key("new"), record())
    assert not any(path.exists() for path in stale)
    put(folder, f"{KEY}.json.0123456789abcdef.tmp")
    pass_time(7200)
    store.sweep()
    assert [name for name in names(folder) if name.endswith(".tmp")] == []


def test_a_sweep_leaves_alone_what_is_not_the_stores_own(
    store: FileStore, folder: Path, pass_time: Callable[[float], None]
):
    """Somebody may have named a folder that holds other things too."""
    others = ["package.json", "notes.txt", "work.tmp", f"{KEY[:-1]}.json", f"{KEY}.json.bak", f"{KEY}.tmp", ".json"]
    for name in others:
        put(folder, name, b"{}", seconds=-86400)
    pass_time(7200)
    for number in range(20):
        store.create(key(number), record())
    store.sweep()
    assert set(others) - set(names(folder)) == set()


# Walking


def test_a_walk_gives_sessions_alone(store: FileStore, folder: Path):
    store.create(KEY, record())
    for name in ("package.json", f"{OTHER}.json.0123456789abcdef.tmp", f"{OTHER.upper()}.json", f"{OTHER}.jso", OTHER):
        put(folder, name)
    assert list(store.keys()) == [KEY]


def test_a_walk_reads_the_folder_as_it_goes_and_opens_no_session(store: FileStore, folder: Path, system: System):
    looked_at: list[str] = []
    for number in range(100):
        put(folder, f"{key(number)}.json")
    system.step = lambda name, call, arguments: (
        _Counted(call(*arguments), looked_at) if name == "scandir" else call(*arguments)
    )
    walk = store.keys()
    next(walk)
    assert len(looked_at) == 1
    assert len(list(walk)) == 99
    assert set(system.calls) <= {"scandir"}


def test_a_walk_through_a_folder_that_is_gone_is_a_failing_store(store: FileStore, folder: Path):
    folder.rmdir()
    with pytest.raises(errors.StoreError):
        list(store.keys())


# Disks and descriptors that give out (S58)

WRITING = [
    ("creat", errno.ENOSPC),
    ("creat", errno.EDQUOT),
    ("creat", errno.EACCES),
    ("creat", errno.EROFS),
    ("creat", errno.EMFILE),
    ("creat", errno.ENFILE),
    ("fchmod", errno.EPERM),
    ("write", errno.ENOSPC),
    ("write", errno.EDQUOT),
    ("write", errno.EFBIG),
    ("write", errno.EIO),
    ("utime", errno.EROFS),
    ("close", errno.ENOSPC),
    ("close", errno.EDQUOT),
]
REPLACING = [
    ("rename", errno.ENOSPC),
    ("rename", errno.EDQUOT),
    ("rename", errno.EROFS),
    ("rename", errno.EACCES),
]
READING = [
    ("open", errno.EACCES),
    ("open", errno.EMFILE),
    ("open", errno.ENFILE),
    ("open", errno.EIO),
    ("open", errno.ENOTDIR),
    ("fstat", errno.EIO),
    ("read", errno.EIO),
    ("read", errno.ESTALE),
]
LOCKING = [("flock", errno.ENOLCK), ("flock", errno.EINTR), ("lstat", errno.EIO), ("lstat", errno.EACCES)]
REMOVING = [("unlink", errno.EROFS), ("unlink", errno.EACCES), ("unlink", errno.EIO)]


def refusals(*tables: list[tuple[str, int]]) -> pytest.MarkDecorator:
    rows = [row for table in tables for row in table]
    return pytest.mark.parametrize(
        ("call", "code"), rows, ids=[f"{call}-{errno.errorcode[code]}" for call, code in rows]
    )


def assert_unavailable(response: Any) -> None:
    """503 that says so, and promises nothing."""
    assert response.status_int == 503, response
    assert "session_store_unavailable" in response.text or "Sessions cannot be stored" in response.text
    assert "Set-Cookie" not in response.headers
    assert "Location" not in response.headers
    assert "Retry-After" in response.headers


@refusals(WRITING)
def test_a_sign_in_that_cannot_be_stored_is_not_started(
    folder: Path, system: System, browser: Any, call: str, code: int
):
    """S58"""
    system.refuse(call, code)
    assert_unavailable(browser.get("/"))
    assert names(folder) == []
    assert descriptors(folder) == []
    system.recover()
    browser.sign_in()


@refusals(READING)
def test_a_store_that_cannot_be_read_is_not_a_signed_out_user(
    folder: Path, system: System, browser: Any, call: str, code: int
):
    """S58"""
    browser.sign_in()
    before, cookie = snapshot(folder), browser.cookie
    system.refuse(call, code)
    for url in ("/profile", "/", "/callback?code=x&state=y"):
        assert_unavailable(browser.get(url))
    system.recover()
    assert snapshot(folder) == before
    assert browser.cookie == cookie
    assert browser.profile().status_int == 200


@refusals(READING, LOCKING, WRITING, REPLACING)
def test_a_save_that_fails_leaves_the_old_session(folder: Path, system: System, browser: Any, call: str, code: int):
    """S58"""
    browser.sign_in()
    before, open_before = snapshot(folder), descriptors(folder)
    system.refuse(call, code)
    assert_unavailable(browser.get("/"))
    assert snapshot(folder) == before
    assert descriptors(folder) == open_before
    system.recover()
    assert browser.profile().status_int == 200
    assert browser.get("/").status_int == 302  # and nothing is left locked


@refusals(READING, LOCKING, WRITING, REPLACING, REMOVING)
def test_a_sign_in_that_cannot_be_stored_does_not_succeed(
    folder: Path, system: System, browser: Any, call: str, code: int
):
    """S58: the provider gave a token, the disk then gave out: no redirect that says it worked, no cookie, no litter."""
    url = browser.callback_url()
    cookie, name = browser.cookie, names(folder)
    times = 1 if call == "unlink" else float("inf")  # then there is hope for what cleans up behind it
    system.refuse(call, code, times, when=lambda: browser.provider.count("token") > 0)
    assert_unavailable(browser.get(url))
    assert browser.provider.count("token") == 1
    assert names(folder) == name
    system.recover()
    assert browser.cookie == cookie
    assert browser.profile().status_int == 401
    browser.sign_in()
    assert browser.profile().status_int == 200


@refusals([row for row in READING if row[0] != "read"], LOCKING, REMOVING)
def test_a_sign_out_that_cannot_be_stored_is_not_confirmed(
    folder: Path, system: System, browser: Any, call: str, code: int
):
    """S58"""
    browser.sign_in()
    before = snapshot(folder)
    system.refuse(call, code)
    assert_unavailable(browser.post("/logout"))
    assert snapshot(folder) == before
    system.recover()
    assert browser.profile().status_int == 200
    assert browser.post("/logout").status_int == 200
    assert names(folder) == []


def test_readyz_says_when_what_was_stored_is_not_found(system: System, browser: Any):
    """S58: a file system that does not keep the moment at which a session expires, for one."""
    system.step = lambda name, call, arguments: None if name == "utime" else call(*arguments)
    assert_unavailable(browser.get("/readyz"))


@refusals(WRITING, REPLACING, REMOVING)
def test_readyz_says_when_no_session_could_be_stored(system: System, browser: Any, call: str, code: int):
    system.refuse(call, code)
    assert_unavailable(browser.get("/readyz"))
    system.recover()
    assert browser.get("/readyz").status_int == 200


def test_a_failing_store_tells_nobody_which_session_it_was(system: System, browser: Any, caplog: Any):
    """S49: the system's own error text would have the path."""
    browser.sign_in()
    system.refuse("open", errno.EIO)
    with caplog.at_level("DEBUG"):
        page = browser.profile().text
    assert "Input/output error" in caplog.text
    assert "Traceback" not in caplog.text
    for text in (caplog.text, page):
        assert browser.cookie not in text
        assert key(browser.cookie) not in text


def test_trouble_while_sweeping_is_not_the_trouble_of_who_signs_in(
    store: FileStore, system: System, browser: Any, pass_time: Callable[[float], None]
):
    store.create(KEY, record(seconds=60))
    pass_time(61)
    for call in ("scandir", "open", "flock", "unlink"):
        system.refuse(call, errno.EIO)
        for _ in range(4):
            browser.app.reset()
            assert browser.get("/").status_int == 302
    system.recover()
    assert store.sweep() == 1


def test_a_folder_that_is_gone_is_a_failing_store(folder: Path, browser: Any):
    """S58: an unmounted disk has not signed anybody out."""
    browser.sign_in()
    cookie = browser.cookie
    folder.rename(folder.parent / "unmounted")
    assert_unavailable(browser.get("/profile"))
    assert_unavailable(browser.get("/"))
    assert_unavailable(browser.get("/readyz"))
    (folder.parent / "unmounted").rename(folder)
    assert browser.cookie == cookie
    assert browser.profile().status_int == 200


@contextlib.contextmanager
def limit(what: int, value: int) -> Iterator[None]:
    before = resource.getrlimit(what)
    resource.setrlimit(what, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def test_a_kernel_that_takes_only_half_of_a_session_leaves_the_old_one(store: FileStore, folder: Path):
    """S58, and no stand-in: RLIMIT_FSIZE makes write(2) take some bytes and refuse the next (EFBIG)."""
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


def failures_without_descriptors(folder: str) -> dict[str, Any]:
    """Try everything while no descriptor is left; say what was refused, whether the folder is as it was, and what
    the session is afterwards. It needs a process of its own: elsewhere a collection may set a descriptor free.
    """
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


def test_a_process_without_descriptors_fails_and_recovers(tmp_path: Path):
    """S58, and no stand-in: EMFILE."""
    outcome = call_in_a_process("failures_without_descriptors", tmp_path)
    reason = "the session store failed: Too many open files"
    assert outcome["refused"] == dict.fromkeys(("load", "create", "update", "delete", "sweep", "check"), reason)
    assert outcome["untouched"]
    assert outcome["left"] == "data"


def test_whoever_signs_in_takes_a_little_litter_away_and_not_all(
    store: FileStore, folder: Path, pass_time: Callable[[float], None]
):
    """S57, S59: somebody may have stopped a thousand writers, or planted what looks like it."""
    litter = [put(folder, f"{key(n)}.json.{n:016x}.tmp") for n in range(1000)]
    pass_time(7200)
    store.create(KEY, record())
    assert 700 < sum(path.exists() for path in litter) < 1000


class Disk:
    """A disk of 64 kB for the store's folder; where none can be mounted, the kernel's answers are put in instead."""

    def __init__(self, folder: Path, system: System) -> None:
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
def disk(tmp_path: Path, system: System) -> Iterator[Disk]:
    disk = Disk(tmp_path / "sessions", system)
    yield disk
    disk.remove()


def test_a_full_disk_signs_nobody_out(disk: Disk, folder: Path, browser: Any, make_browser: Callable[..., Any]):
    """S58"""
    browser.sign_in()
    disk.fill()
    before = names(folder)
    assert_unavailable(browser.get("/"))
    assert_unavailable(make_browser().get("/"))
    assert_unavailable(browser.get("/readyz"))
    assert browser.profile().status_int == 200
    assert names(folder) == before
    disk.empty()
    browser.sign_in()


def test_a_disk_that_is_full_of_what_is_over_makes_room(
    disk: Disk, folder: Path, browser: Any, pass_time: Callable[[float], None]
):
    """S58, S59: nobody has to sweep it."""
    for number in range(8):
        put(folder, f"{key(number)}.json", b"x" * 4096, seconds=60)
    disk.fill()
    assert_unavailable(browser.get("/"))
    pass_time(61)
    if not disk.mounted:
        disk.empty()  # nothing here knows how much room there is
    browser.sign_in()
    assert browser.get("/readyz").status_int == 200


def test_on_a_disk_that_is_full_a_user_can_still_sign_out(disk: Disk, browser: Any):
    browser.sign_in()
    disk.fill()
    assert browser.post("/logout").status_int == 200
    assert browser.profile().status_int == 401


def test_a_disk_that_became_read_only_signs_nobody_out(disk: Disk, folder: Path, browser: Any):
    """S58"""
    browser.sign_in()
    before = snapshot(folder)
    disk.protect()
    assert_unavailable(browser.get("/"))
    assert browser.profile().status_int == 200
    assert snapshot(folder) == before
    disk.unprotect()
    browser.sign_in()


# Killed at any moment (S60, S62)

KILLED = -signal.SIGKILL
NEW = b"new" * 1000


def killed_in_each_call(place: str, move_to: str) -> list[dict[str, Any]]:
    """Die by kill -9 before, within or after the first, second, ... system call of a save; say what is left."""
    rounds = []
    for moment in ("before", "within", "after"):
        number = 0
        while True:
            folder = f"{place}/{moment}-{number}"
            store = FileStore(folder)
            store.create(KEY, record(b"old"))
            child = os.fork()
            if child == 0:
                _save_and_die(FileStore(folder), moment, number, move_to)
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            if code != KILLED:
                assert code == 0, code
                break
            rounds.append({"moment": moment, "number": number, **_left(store, move_to)})
            number += 1
    return rounds


def _save_and_die(store: FileStore, moment: str, number: int, move_to: str) -> None:
    system = System()

    def step(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        mine = len(system.calls) - 1 == number
        if mine and moment == "within" and name == "write":
            os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
        if mine and moment != "after":
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    system.step = step
    try:
        store.update(KEY, lambda _: record(NEW), move_to=move_to or None)
    finally:
        os._exit(0)


def _left(store: FileStore, move_to: str) -> dict[str, Any]:
    """What an unfinished save has left: under the old key, under the new one, besides, and whether it is free."""
    found = {name: data.decode() if (data := store.load(name)) else None for name in (KEY, move_to)}
    litter = [name for name in os.listdir(store.folder) if not name.endswith(".json")]
    free = all(store.update(name, lambda _: record(b"later")) for name in (KEY, move_to) if found.get(name))
    return {"old": found[KEY], "new": found[move_to], "litter": litter, "free": free}


def test_a_save_that_is_killed_in_any_system_call_leaves_the_old_session_or_the_new_one(tmp_path: Path):
    """S60"""
    rounds = call_in_a_process("killed_in_each_call", tmp_path, "")
    assert len(rounds) >= 3 * 12  # open, fstat, flock, ..., rename, close
    assert {left["old"] for left in rounds} == {"old", NEW.decode()}
    assert all(left["free"] for left in rounds)
    assert all(len(left["litter"]) <= 1 for left in rounds)
    for moment in ("before", "within", "after"):
        in_order = [left["old"] for left in rounds if left["moment"] == moment]
        assert in_order == sorted(in_order, key=["old", NEW.decode()].index)  # once new, it stays new


def test_a_move_that_is_killed_in_any_system_call_leaves_a_whole_session(tmp_path: Path):
    """S60, S36: for a moment there are both, never neither, and never the new data under the old id."""
    rounds = call_in_a_process("killed_in_each_call", tmp_path, OTHER)
    assert {(left["old"], left["new"]) for left in rounds} == {
        ("old", None),
        ("old", NEW.decode()),
        (None, NEW.decode()),
    }
    assert all(left["free"] for left in rounds)


def test_what_killed_writers_leave_is_swept(tmp_path: Path, pass_time: Callable[[float], None]):
    """S60: no litter that grows."""
    rounds = call_in_a_process("killed_in_each_call", tmp_path, "")
    littered = [FileStore(tmp_path / f"{left['moment']}-{left['number']}") for left in rounds if left["litter"]]
    assert littered
    pass_time(7200)
    for store in littered:
        store.sweep()
        assert names(Path(store.folder)) == []


@pytest.mark.parametrize("move_to", [None, OTHER])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_save_that_is_ended_by_system_exit_leaves_a_whole_session(
    tmp_path: Path, system: System, moment: str, move_to: str | None
):
    """S62: that is how a gunicorn worker's timeout arrives, between any two instructions."""
    ends = []
    for number in range(100):
        store = FileStore(tmp_path / str(number))
        store.create(KEY, record(b"old"))
        system.calls.clear()

        def step(name: str, call: Callable[..., Any], arguments: tuple[Any, ...], number: int = number) -> Any:
            mine = len(system.calls) - 1 == number
            if mine and moment == "before":
                if name == "close":
                    call(*arguments)  # an exception before close(2) would be the test's own leak
                raise SystemExit(1)
            result = call(*arguments)
            if mine:
                if name in {"open", "creat"}:
                    os.close(result)
                raise SystemExit(1)
            return result

        system.step = step
        try:
            store.update(KEY, lambda _: record(NEW), move_to=move_to)
        except SystemExit:
            ends.append(system.calls[number])
        else:
            break
        finally:
            system.recover()
        left = _left(store, move_to or "")
        assert (left["old"], left["new"]) in {
            None: [("old", None), (NEW.decode(), None)],
            OTHER: [("old", None), ("old", NEW.decode()), (None, NEW.decode())],
        }[move_to], ends[-1]
        assert left["free"], ends[-1]
        assert left["litter"] == [] or ends[-1] == "creat", ends[-1]
        assert descriptors(f"{store.folder}/{KEY}") == []
    assert {"open", "fstat", "flock", "creat", "write", "utime", "rename", "close"} <= set(ends)


def test_a_sweep_that_is_ended_by_system_exit_lets_the_next_one_in(
    store: FileStore, system: System, pass_time: Callable[[float], None]
):
    """S62"""
    store.create(KEY, record(seconds=60))
    pass_time(61)

    def step(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if name == "unlink":
            raise SystemExit(1)
        return call(*arguments)

    system.step = step
    with pytest.raises(SystemExit):  # noqa: PT012 - by one of the first
        for _ in range(20):
            store.create(OTHER, record())
    system.recover()
    for _ in range(20):
        store.create(OTHER, record())
    assert not os.path.exists(f"{store.folder}/{KEY}.json")


@pytest.mark.parametrize("call", ["unlink", "rename"])
def test_a_move_whose_last_step_is_refused_has_not_happened(store: FileStore, folder: Path, system: System, call: str):
    """S36, S58: one of the two sessions would have been nobody's, and yet signed in."""
    store.create(KEY, record())
    before = snapshot(folder)
    system.refuse(call, errno.EIO, times=1)
    with pytest.raises(errors.StoreError):
        store.update(KEY, lambda _: record(b"new"), move_to=OTHER)
    assert snapshot(folder) == before


# Exclusion


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a session as a stopped process would, for as long as the test likes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@pytest.mark.usefixtures("no_hanging")
def test_who_holds_a_session_for_ever_does_not_stop_the_others_for_ever(
    store: FileStore, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    store.create(KEY, record())
    store.create(OTHER, record())
    with held(folder / f"{KEY}.json"):
        with pytest.raises(errors.StoreError, match="holds this session"):
            store.update(KEY, lambda _: pytest.fail("somebody else is at it"))
        with pytest.raises(errors.StoreError, match="holds this session"):
            store.delete(KEY)
        assert store.load(KEY) == b"data"  # readers never wait
        assert store.update(OTHER, lambda _: record(b"new"))
    assert store.update(KEY, lambda _: record(b"new"))


def test_a_sweep_does_not_wait_for_who_holds_an_expired_session(
    store: FileStore, folder: Path, pass_time: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
):
    """S59: who signs in does not wait for somebody else's session."""
    for number in range(5):
        store.create(key(number), record(seconds=60))
    pass_time(61)
    with held(folder / f"{key(2)}.json"):
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("a sweep waits"))
        for _ in range(40):
            store.create(key("new"), record())
        assert (folder / f"{key(2)}.json").exists()
        assert not any((folder / f"{key(number)}.json").exists() for number in (0, 1, 3, 4))
        assert store.sweep() == 0
    assert store.sweep() == 1


# Sweeping (S59)


@pytest.mark.parametrize("call", ["open", "flock", "lstat"])
def test_a_session_that_is_renewed_while_it_is_swept_stays(
    store: FileStore, folder: Path, system: System, pass_time: Callable[[float], None], call: str
):
    """S59: between looking and removing, somebody whose clock is a little behind stores it anew."""
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


class _Counted:
    """A scan of the folder that notes what is read of it."""

    def __init__(self, scan: Any, seen: list[str]) -> None:
        self._scan = scan
        self._seen = seen

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> Any:
        entry = next(self._scan)
        self._seen.append(entry.name)
        return entry

    def close(self) -> None:
        self._scan.close()

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _LookedAt(_Counted):
    """One that notes which entries are looked at more closely."""

    def __next__(self) -> Any:
        entry = next(self._scan)
        noted = mock.Mock(path=entry.path, stat=lambda **how: self._seen.append(entry.name) or entry.stat(**how))
        noted.name = entry.name
        return noted


def test_each_create_looks_at_a_few_entries_and_all_of_them_together_at_everything(
    store: FileStore, folder: Path, system: System, pass_time: Callable[[float], None]
):
    """S59: never O(sessions) in one request."""
    for number in range(500):
        put(folder, f"{key(number)}.json", seconds=60 if number % 2 else 6000)
    pass_time(61)
    looked_at: list[str] = []
    system.step = lambda name, call, arguments: (
        _LookedAt(call(*arguments), looked_at) if name == "scandir" else call(*arguments)
    )
    costs = []
    for _ in range(1000):
        before = len(looked_at)
        store.create(KEY, record(seconds=6000))
        costs.append(len(looked_at) - before)
    assert max(costs) <= 23  # twenty that were over, and a few that were not
    assert sum(costs) <= 1000
    assert sum(1 for number in range(1, 500, 2) if (folder / f"{key(number)}.json").exists()) == 0
    assert len(names(folder)) == 251
    assert len(looked_at) > len(set(looked_at))  # and the next pass is on its way


def test_a_folder_whose_sessions_come_and_go_keeps_to_about_twice_what_is_alive(
    store: FileStore, folder: Path, pass_time: Callable[[float], None]
):
    """S59: however long that goes on."""
    sizes = []
    for number in range(2000):
        store.create(key(number), record(seconds=100))
        pass_time(1)
        sizes.append(len(names(folder)))
    assert max(sizes) <= 300
    assert sum(sizes[1000:]) / 1000 <= 250


def test_no_create_takes_away_more_than_a_few_sessions(
    store: FileStore, folder: Path, system: System, pass_time: Callable[[float], None]
):
    """S59: not even when all were over."""
    for number in range(200):
        put(folder, f"{key(number)}.json", seconds=60)
    pass_time(61)
    costs = []
    for number in range(200, 230):
        system.calls.clear()
        store.create(key(number), record())
        costs.append(system.calls.count("unlink"))
    assert max(costs) == 20
    assert sum(costs) == 200


def test_what_another_worker_has_taken_away_holds_up_nobody(
    folder: Path, pass_time: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
):
    """S59: a walk that has read the names already goes past them."""
    monkeypatch.setattr(random, "randrange", lambda _: 0)  # where it begins
    one, other = FileStore(folder), FileStore(folder)
    for number in range(200):
        put(folder, f"{key(number)}.json", seconds=60)
    pass_time(61)
    one.create(key("new"), record())
    other.sweep()
    late = put(folder, f"{OTHER}.json", seconds=-60)
    for _ in range(20):
        one.create(key("new"), record())
    assert not late.exists()


@pytest.mark.parametrize("creates", [10**6, 10], ids=["that live long", "that are replaced after ten creates"])
def test_a_folder_of_several_workers_keeps_to_a_few_times_what_is_alive(
    folder: Path, pass_time: Callable[[float], None], creates: int
):
    """S59: they walk through the same entries, and who is new begins anew."""
    stores = [FileStore(folder) for _ in range(4)]
    for number in range(100):
        stores[0].create(key(f"signed in {number}"), record(seconds=10**6))
    for number in range(6000):
        store = stores[number % 4]
        store.create(key(number), record(seconds=100))
        if number % creates > creates - 5:
            stores[number % 4] = FileStore(folder)
        pass_time(1)
    assert len(names(folder)) <= 200 * 6


def test_no_other_operation_looks_at_the_folder(store: FileStore, system: System):
    for number in range(10):
        store.create(key(number), record())
    system.calls.clear()
    store.load(key(1))
    store.update(key(2), lambda _: record())
    store.update(key(3), lambda _: record(), move_to=OTHER)
    store.delete(key(4))
    assert "scandir" not in system.calls


def test_opening_a_store_looks_at_no_session(store: FileStore, folder: Path, system: System):
    for number in range(10):
        store.create(key(number), record())
    system.calls.clear()
    FileStore(folder)
    assert not {"scandir", "listdir", "open"} & set(system.calls)


# Descriptors (S61)


def test_descriptors_do_not_pile_up(store: FileStore, folder: Path, system: System):
    store.create(KEY, record())
    plant_fifo(folder / f"{OTHER}.json")
    for number in range(50):
        store.create(key(number), record())
        store.update(KEY, lambda data: record(data))
        store.update(key(number), lambda data: record(data), move_to=key(f"moved {number}"))
        store.load(key(f"moved {number}"))
        store.delete(key(f"moved {number}"))
        store.load(OTHER)
        store.update(OTHER, lambda data: record(data))
        for call in ("fstat", "read", "flock", "lstat", "creat", "write", "utime", "rename", "unlink"):
            system.refuse(call, errno.EIO, times=1)
            with contextlib.suppress(errors.StoreError):
                store.update(KEY, lambda data: record(data), move_to=key(f"again {number}"))
            with contextlib.suppress(errors.StoreError):
                store.load(KEY)
        system.recover()
    assert len(descriptors(folder)) <= 1  # the folder itself, which is being swept
    store._scans.clear()
    assert descriptors(folder) == []


def test_a_store_that_was_only_opened_holds_nothing_that_a_fork_could_inherit(store: FileStore, folder: Path):
    """S61: that is what --preload hands to the workers."""
    assert store.load(KEY) is None
    assert descriptors(folder) == []


def swept_on_both_sides_of_a_fork(folder: str) -> list[Any]:
    """Fork in the middle of a sweep, while a thread is at it, and let the child create; say what each side holds."""
    store = FileStore(folder)
    for number in range(10):
        store.create(key(number), record())
    before = descriptors(folder)
    with store._scans[os.getpid()].lock:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for number in range(200):
                    store.create(key(f"child {number}"), record())
                while not descriptors(folder):  # it has just come to the end of a walk
                    store.create(OTHER, record())
                left = sum(name in os.listdir(folder) for name in map("{}.json".format, map(key, range(100, 150))))
                os.write(write, json.dumps([len(descriptors(folder)), left]).encode())
            finally:
                os._exit(0)
        os.close(write)
        with open(read) as answer:
            in_the_child = json.loads(answer.read())
        os.waitpid(child, 0)
    return [len(before), *in_the_child]


def test_after_a_fork_both_sides_sweep_by_themselves(store: FileStore, folder: Path):
    """S61: a lock that was held at that moment, and a folder that was half read, are the parent's alone."""
    for number in range(100, 150):
        put(folder, f"{key(number)}.json", seconds=-10)
    before, after, left = call_in_a_process("swept_on_both_sides_of_a_fork", folder)
    assert (before, after, left) == (1, 1, 0)


# What it costs


def test_a_load_is_four_system_calls(store: FileStore, system: System):
    store.create(KEY, record())
    system.calls.clear()
    assert store.load(KEY)
    assert system.calls == ["open", "fstat", "read", "close"]


@pytest.fixture
def known(store: FileStore, system: System, pass_time: Callable[[float], None]) -> FileStore:
    """A store that has read one session when it had not been written for a while."""
    store.create(KEY, record())
    pass_time(3)
    assert store.load(KEY) == b"data"
    system.calls.clear()
    return store


def test_a_load_of_what_has_not_changed_is_one_system_call(known: FileStore, system: System):
    assert known.load(KEY) == b"data"
    assert system.calls == ["lstat"]


def test_what_has_just_been_written_is_read_in_full_each_time(store: FileStore, system: System):
    """Two changes within one tick of the file system's clock would look like one."""
    store.create(KEY, record())
    for _ in range(3):
        store.load(KEY)
    assert "lstat" not in system.calls


def test_a_change_by_another_process_is_seen_at_once(known: FileStore, folder: Path):
    FileStore(folder).update(KEY, lambda _: record(b"new!"))
    assert known.load(KEY) == b"new!"
    FileStore(folder).delete(KEY)
    assert known.load(KEY) is None


def test_damage_is_seen_even_when_it_is_made_to_look_like_nothing(known: FileStore, folder: Path):
    """S56: of the same length, in the same file, with its old modification time."""
    path = folder / f"{KEY}.json"
    before = path.stat()
    with path.open("r+b") as file_:
        file_.write(b"evil")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert known.load(KEY) == b"evil"


def test_what_is_known_ends_all_the_same(known: FileStore, pass_time: Callable[[float], None]):
    pass_time(600)
    assert known.load(KEY) is None


@pytest.mark.usefixtures("no_hanging")
@PLANTED
def test_what_is_planted_in_the_place_of_what_is_known_counts_as_absent(
    known: FileStore, folder: Path, plant: Callable[[Path], None]
):
    """S55"""
    path = folder / f"{KEY}.json"
    path.unlink()
    plant(path)
    assert known.load(KEY) is None


def test_a_folder_that_is_gone_takes_what_is_known_with_it(known: FileStore, folder: Path):
    shutil.rmtree(folder)
    with pytest.raises(errors.StoreError):
        known.load(KEY)


def test_what_is_known_does_not_pile_up(store: FileStore, pass_time: Callable[[float], None]):
    """Neither in number nor in size."""
    numbers = range(1500)
    for number in numbers:
        store.create(key(number), record(b"x" * (100_000 if number % 100 == 0 else 1000)))
    pass_time(3)
    tracemalloc.start()
    try:
        assert all(store.load(key(number)) for number in numbers)
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()


LOADS = 50


def load_between_marks(folder: str) -> None:
    store = FileStore(folder)
    store.load(KEY)
    for mark in ("/begin", "/end"):
        os.access(mark, os.F_OK)
        for _ in range(LOADS if mark == "/begin" else 0):
            store.load(KEY)


def test_a_load_is_four_system_calls_as_the_kernel_counts(store: FileStore, folder: Path, tmp_path: Path):
    """strace counts where there is one; without it, the test above has counted what the store asks for."""
    store.create(KEY, record())
    trace = tmp_path / "trace"
    calls = "open,openat,stat,lstat,fstat,newfstatat,statx,read,pread64,lseek,ioctl,close,flock,fcntl,access,faccessat2"
    command = ["strace", "-qq", "-o", str(trace), "-e", f"trace={calls}", sys.executable, "-c"]
    script = "import sys, test_file_store; test_file_store.load_between_marks(sys.argv[1])"
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    try:
        done = subprocess.run(
            [*command, script, str(folder)], env=environ, capture_output=True, timeout=60, check=False
        )
    except FileNotFoundError:
        return
    if done.returncode and b"ptrace" in done.stderr:
        return
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    begin, end = (next(i for i, line in enumerate(lines) if f'"{mark}"' in line) for mark in ("/begin", "/end"))
    assert LOADS <= len(lines[begin + 1 : end]) <= 4 * LOADS, lines[begin + 1 : begin + 12]
