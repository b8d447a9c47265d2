"""An attacker can read or write files in the session folder, or hand file names to the application.

This happens with a restored backup, another program of the same user, or a misplaced upload. The store therefore checks
each file before it uses it: its name, its type, its size and its checksum.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from zlib import crc32

import pytest
from conftest import HTML, JSON, Browser, Diary, environ_for, send

from wsgi_oauth import Config, FileStore, SessionStore, create_app, errors
from wsgi_oauth.demo.lab.session_attacks import SESSION_LISTING
from wsgi_oauth.demo.lab.story import Outcome, Story
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sessions.encoding import StoredSession
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.store import Record

from .lesson import guarded_by


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def store(folder: Path) -> SessionStore:
    return FileStore(folder)


def file_of(browser: Browser, folder: Path) -> Path:
    """Return the session file of *browser*, which must be the newest file."""
    assert browser.cookie
    return max(folder.glob("*.json"), key=lambda path: path.stat().st_ctime_ns)


def replace_contents(path: Path, contents: bytes) -> None:
    path.write_bytes(contents)
    os.utime(path, (time.time() + 3600,) * 2)


def find_generations_behind_links(store: FileStore) -> list[str]:
    folder = f"{store.folder}/.generations"
    return [os.path.join(folder, name) for name in os.listdir(folder)]


@guarded_by({"wsgi_oauth.sessions.file.FileStore._find_generations": find_generations_behind_links})
def test_the_end_of_a_users_sessions_removes_the_folders_of_another_folder(store: FileStore, tmp_path: Path) -> bool:
    """S55. The attacker has put a link where the store replaces a folder, and asks an operator to sign a user out."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.joinpath("precious").mkdir(parents=True)
    Path(store.folder, ".generations").symlink_to(elsewhere)
    SessionManager(store, idle=3600, lifetime=3600).end_sessions_of("1@github")
    return not elsewhere.joinpath("precious").exists()


@guarded_by({"wsgi_oauth.sessions.file.READ_FLAGS": os.O_RDONLY | os.O_NONBLOCK})
def test_a_symlink_in_place_of_the_attackers_session_opens_the_victims_session(
    make_browser: Callable[..., Browser], folder: Path
) -> bool:
    """S55. An attacker who can create files but not read them would read the session through the application."""
    victim, attacker = make_browser(handlers=(Diary,)), make_browser(handlers=(Diary,))
    victim.post("/diary", params={"entry": "nobody must know"})
    of_the_victim = file_of(victim, folder)
    attacker.post("/diary", params={"entry": "nothing"})
    own = file_of(attacker, folder)
    own.unlink()
    own.symlink_to(of_the_victim)
    return attacker.get("/diary").json == "nobody must know"


class TookTooLong(BaseException):
    """A BaseException, so that no handler catches it."""


def hangs(look: Callable[[], object]) -> bool:
    """Return whether *look* takes longer than two seconds. Normally it takes less than a millisecond."""

    def give_up(*_: object) -> NoReturn:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 2)
    try:
        look()
    except TookTooLong:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return False


@guarded_by({"wsgi_oauth.sessions.file.READ_FLAGS": os.O_RDONLY | os.O_NOFOLLOW})
def test_a_fifo_in_place_of_a_session_blocks_a_worker_forever(store: FileStore, victim: Browser, folder: Path) -> bool:
    """S55. Opening a FIFO waits for a writer, and none ever comes."""
    victim.start()
    path = file_of(victim, folder)
    path.unlink()
    os.mkfifo(path)
    os.utime(path, (time.time() + 3600,) * 2)
    return hangs(lambda: store.load(path.stem))


# Many applications have used the cookie as a file name.
ANY_TEXT = re.compile(r".*", re.DOTALL)
COOKIE_IS_THE_FILE_NAME = {
    "wsgi_oauth.sessions.cookie.SESSION_ID": ANY_TEXT,
    "wsgi_oauth.sessions.manager.store_key": lambda session_id: session_id,
    "wsgi_oauth.sessions.file.KEY": ANY_TEXT,
}


@guarded_by(COOKIE_IS_THE_FILE_NAME)
def test_a_cookie_with_dots_and_slashes_opens_an_uploaded_file(victim: Browser, folder: Path, tmp_path: Path) -> bool:
    """S54. The upload is a copy of a signed-in session, so that its token works."""
    victim.sign_in()
    (tmp_path / "uploads").mkdir()
    shutil.copy2(file_of(victim, folder), tmp_path / "uploads" / "cat.json")
    headers = {**JSON, "Cookie": "wsgi_oauth=../uploads/cat"}
    return send(victim.app.app, "/profile", headers=headers).status_code == 200


@guarded_by(SESSION_LISTING.guards)
def test_a_listing_of_the_folder_reveals_session_ids(play: Callable[[Story], Outcome]) -> Outcome:
    """S52. Listings appear in backup indexes, error messages and tickets. The names are hashes of the ids."""
    return play(SESSION_LISTING)


def same_checksum_for_everything(rest: bytes) -> int:
    return 0


def is_used(browser: Browser, cookie: str | None, provider: LocalProvider) -> bool:
    """Return whether the stored session still signs in, or its token is at least sent to the provider."""
    headers = {**JSON, "Cookie": f"wsgi_oauth={cookie}"}
    return send(browser.app.app, "/profile", headers=headers).status_code != 401 or provider.count("profile") > 0


@guarded_by({"wsgi_oauth.sessions.encoding.checksum": same_checksum_for_everything})
def test_a_flipped_bit_changes_a_token_unnoticed(victim: Browser, provider: LocalProvider, folder: Path) -> bool:
    """S56. After a disk error or a failed copy, JSON with another letter in it is still JSON."""
    victim.sign_in()
    path, cookie = file_of(victim, folder), victim.cookie
    whole = path.read_bytes()
    for offset in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << offset % 7
        replace_contents(path, bytes(damaged))
        if is_used(victim, cookie, provider):
            return True
    return False


def repair(raw: bytes) -> StoredSession | None:
    """Close the open brackets and quotes of *raw*, and accept the result."""
    for end in ("", "}", '"}', "}}", '"}}', "}}}", '"}}}', "}}}}", '"}}}}'):
        try:
            found = json.loads(raw.decode() + end)
            return StoredSession(
                found.get("started", time.time()), found.get("seen", time.time()), found.get("data", {})
            )
        except (ValueError, AttributeError):
            continue
    return None


@guarded_by({"wsgi_oauth.sessions.manager.decode": repair})
def test_a_truncated_session_is_repaired_to_one_that_was_never_stored(
    victim: Browser, provider: LocalProvider, folder: Path
) -> bool:
    """S56, S60. At every offset, a truncated session is invalid."""
    victim.sign_in()
    path, cookie = file_of(victim, folder), victim.cookie
    whole = path.read_bytes()
    for length in range(len(whole)):
        replace_contents(path, whole[:length])
        if is_used(victim, cookie, provider):
            return True
    return False


class Payload:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@guarded_by({"wsgi_oauth.sessions.manager.decode": pickle.loads})
def test_a_pickled_session_file_runs_the_attackers_code(victim: Browser, folder: Path, tmp_path: Path) -> bool:
    """S56. A pickle is a program: an attacker with one writable file could do everything that the application can."""
    callback = victim.callback_url()
    replace_contents(file_of(victim, folder), pickle.dumps(Payload(tmp_path / "run")))
    victim.get(callback)
    return (tmp_path / "run").exists()


@guarded_by({"wsgi_oauth.sessions.encoding.check_nesting": lambda data, raw: None})
def test_a_deeply_nested_session_fails_every_request_of_its_browser(victim: Browser, folder: Path) -> bool:
    """S56. Python's JSON parser accepts deeper nesting than Python can copy."""
    victim.sign_in()
    path = file_of(victim, folder)
    for depth in range(300, 20_000, 150):
        nested = "[" * depth + "]" * depth
        rest = f'"started":{time.time()},"seen":{time.time()},"data":{{"x":{nested}}}}}'.encode()
        replace_contents(path, b'{"crc32":"%08x",%b' % (crc32(rest), rest))
        if victim.profile().status_int == 500:
            return True
        try:
            json.loads(nested)
        except RecursionError:
            return False
    return False


@guarded_by({"wsgi_oauth.sessions.file.check_folder": lambda folder: None})
def test_a_world_writable_folder_lets_every_user_write_sessions(provider: LocalProvider, tmp_path: Path) -> bool:
    """S53. For example /tmp/sessions, which an attacker created before the application's first start."""
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    try:
        app = create_app(Config.from_environ(environ_for(provider, SESSION_STORE=f"file:{open_to_all}")))
    except errors.ConfigError:
        return False
    return send(app, "/", headers=HTML).status_code == 302


class Killed(BaseException):
    """Ends the request like a kill, in which no handler runs."""


def write_in_place(path: str, record: Record) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, record.data)
        os.utime(descriptor, (record.expires, record.expires))
    finally:
        os.close(descriptor)


@guarded_by({"wsgi_oauth.sessions.file.write_atomically": write_in_place})
def test_a_worker_that_is_killed_while_saving_signs_the_user_out(
    make_browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> bool:
    """S57, S60. An attacker can get a worker killed, for example with requests that use much memory."""
    victim = make_browser(handlers=(Diary,))
    victim.sign_in()

    write = os.write

    def write_half(descriptor: int, data: bytes) -> NoReturn:
        write(descriptor, data[: len(data) // 2])
        raise Killed

    with monkeypatch.context() as worker:
        worker.setattr(os, "write", write_half)
        with pytest.raises(Killed):
            victim.post("/diary", params={"entry": "today"})
    return victim.profile().status_int != 200
