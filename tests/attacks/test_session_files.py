"""The session folder in the hands of somebody who can put files there, or read them: a restored backup, another program
of the same user, an upload that went astray.

A file is worth nothing until it has been looked at: that it is one, that it is small, that it is whole.
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
from conftest import HTML, JSON, Browser, environ_for, send
from werkzeug import Response

from wsgi_oauth import Config, FileStore, RequestHandler, SessionStore, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sessions import file
from wsgi_oauth.sessions.encoding import StoredSession
from wsgi_oauth.sessions.store import Record

from .lesson import guarded_by


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def store(folder: Path) -> SessionStore:
    return FileStore(folder)


def file_of(browser: Browser, folder: Path) -> Path:
    """The session file of *browser*, which has just been written."""
    assert browser.cookie
    return max(folder.glob("*.json"), key=lambda path: path.stat().st_ctime_ns)


def replace_contents(path: Path, contents: bytes) -> None:
    path.write_bytes(contents)
    os.utime(path, (time.time() + 3600,) * 2)


class Diary(RequestHandler):
    """A page that keeps something private in the session."""

    route = "/diary"

    def get(self, request: Any) -> Response:
        return self.jsonify(request.session.get("entry"))

    def post(self, request: Any) -> Response:
        request.session["entry"] = request.form["entry"]
        return self.jsonify(None)


@guarded_by({"wsgi_oauth.sessions.file._READ": os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC})
def test_a_link_in_the_place_of_the_attackers_session_leads_to_the_victims(
    make_browser: Callable[..., Browser], folder: Path
) -> bool:
    """S55. Who can only name files there, and not read them, would read this one through the application."""
    victim, attacker = make_browser(handlers=(Diary,)), make_browser(handlers=(Diary,))
    victim.post("/diary", params={"entry": "nobody must know"})
    of_the_victim = file_of(victim, folder)
    attacker.post("/diary", params={"entry": "nothing"})
    own = file_of(attacker, folder)
    own.unlink()
    own.symlink_to(of_the_victim)
    return attacker.get("/diary").json == "nobody must know"


class TookTooLong(BaseException):
    """Nothing catches it on the way."""


def hangs(look: Callable[[], object]) -> bool:
    """Say whether *look* would wait for ever; two seconds are that, for something that takes a millisecond."""

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


@guarded_by({"wsgi_oauth.sessions.file._READ": os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC})
def test_a_pipe_in_the_place_of_a_session_stops_a_worker_for_ever(
    store: FileStore, victim: Browser, folder: Path
) -> bool:
    """S55. Opening a FIFO waits for somebody who writes into it, and nobody will."""
    victim.start()
    path = file_of(victim, folder)
    path.unlink()
    os.mkfifo(path)
    os.utime(path, (time.time() + 3600,) * 2)
    return hangs(lambda: store.load(path.stem))


# An application that takes the cookie for a file's name, as many have done.
ANY_TEXT = re.compile(r".*", re.DOTALL)
COOKIE_IS_THE_FILE_NAME = {
    "wsgi_oauth.sessions.cookie.SESSION_ID": ANY_TEXT,
    "wsgi_oauth.sessions.manager.store_key": lambda session_id: session_id,
    "wsgi_oauth.sessions.file.KEY": ANY_TEXT,
}


@guarded_by(COOKIE_IS_THE_FILE_NAME)
def test_a_cookie_with_dots_and_slashes_opens_a_file_that_the_attacker_has_uploaded(
    victim: Browser, folder: Path, tmp_path: Path
) -> bool:
    """S54. The upload is a session that says "signed in"; here it is a copy of one, to have a token that works."""
    victim.sign_in()
    (tmp_path / "uploads").mkdir()
    shutil.copy2(file_of(victim, folder), tmp_path / "uploads" / "cat.json")
    headers = {**JSON, "Cookie": "wsgi_oauth=../uploads/cat"}
    return send(victim.app.app, "/profile", headers=headers).status_code == 200


@guarded_by({name: COOKIE_IS_THE_FILE_NAME[name] for name in list(COOKIE_IS_THE_FILE_NAME)[1:]})
def test_a_listing_of_the_folder_is_a_list_of_session_ids(victim: Browser, folder: Path) -> bool:
    """S52. In a backup's index, an error message, the output of `ls` in a ticket. The names are hashes of the ids."""
    victim.sign_in()
    return any(
        send(victim.app.app, "/profile", headers={**JSON, "Cookie": f"wsgi_oauth={name.stem}"}).status_code == 200
        for name in folder.iterdir()
    )


def whatever_it_says(rest: bytes) -> int:
    return 0


def is_used(browser: Browser, cookie: str | None, provider: LocalProvider) -> bool:
    """Say whether what is stored still signs somebody in, or is at least shown to the provider."""
    headers = {**JSON, "Cookie": f"wsgi_oauth={cookie}"}
    return send(browser.app.app, "/profile", headers=headers).status_code != 401 or provider.count("profile") > 0


@guarded_by({"wsgi_oauth.sessions.encoding.checksum": whatever_it_says})
def test_a_flipped_bit_changes_a_token_or_a_time_and_nobody_notices(
    victim: Browser, provider: LocalProvider, folder: Path
) -> bool:
    """S56. A disk that forgets, a copy that went wrong: JSON is still JSON with another letter in it."""
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


def what_can_be_read(raw: bytes) -> StoredSession | None:
    """Take the longest beginning that can be made whole by closing what is open."""
    for end in ("", "}", '"}', "}}", '"}}', "}}}", '"}}}', "}}}}", '"}}}}'):
        try:
            found = json.loads(raw.decode() + end)
            return StoredSession(
                found.get("started", time.time()), found.get("seen", time.time()), found.get("data", {})
            )
        except (ValueError, AttributeError):
            continue
    return None


@guarded_by({"wsgi_oauth.sessions.manager.decode": what_can_be_read})
def test_a_session_that_was_cut_off_anywhere_is_repaired_to_something_that_nobody_has_stored(
    victim: Browser, provider: LocalProvider, folder: Path
) -> bool:
    """S56, S60. At every offset: half a session is none."""
    victim.sign_in()
    path, cookie = file_of(victim, folder), victim.cookie
    whole = path.read_bytes()
    for length in range(len(whole)):
        replace_contents(path, whole[:length])
        if is_used(victim, cookie, provider):
            return True
    return False


class Payload:
    """An object that does something when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@guarded_by({"wsgi_oauth.sessions.manager.decode": pickle.loads})
def test_a_session_file_runs_the_attackers_program(victim: Browser, folder: Path, tmp_path: Path) -> bool:
    """S56. A pickle is a program. Who can write one file could then do all that the application can."""
    victim.start()
    replace_contents(file_of(victim, folder), pickle.dumps(Payload(tmp_path / "run")))
    victim.get("/profile")
    return (tmp_path / "run").exists()


@guarded_by({"wsgi_oauth.sessions.encoding.check_nesting": lambda data, raw: None})
def test_a_session_nested_too_deep_fails_every_request_of_its_browser(victim: Browser, folder: Path) -> bool:
    """S56. Python's JSON reads deeper than Python can copy, so what could be read cannot be used."""
    victim.start()
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


@guarded_by({"wsgi_oauth.sessions.file._prepare": lambda folder: None})
def test_a_folder_that_everybody_can_write_to_lets_everybody_write_sessions(
    provider: LocalProvider, tmp_path: Path
) -> bool:
    """S53. /tmp/sessions, made by the attacker before the application was started for the first time."""
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    try:
        app = create_app(Config.from_environ(environ_for(provider, SESSION_STORE=f"file:{open_to_all}")))
    except errors.ConfigError:
        return False
    return send(app, "/", headers=HTML).status_code == 302


class Killed(BaseException):
    """What a kill looks like from inside: nothing more of the program runs."""


def write_in_place(store: FileStore, path: str, record: Record) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        file._write_all(descriptor, record.data)
        os.utime(descriptor, (record.expires, record.expires))
    finally:
        os.close(descriptor)


@guarded_by({"wsgi_oauth.sessions.file.FileStore._replace": write_in_place})
def test_a_worker_that_is_killed_while_it_saves_signs_the_user_out(
    make_browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> bool:
    """S57, S60. Whoever can have a worker killed, with a request that eats memory, ends others' sessions."""
    victim = make_browser(handlers=(Diary,))
    victim.sign_in()

    def write_half(descriptor: int, data: bytes) -> NoReturn:
        os.write(descriptor, data[: len(data) // 2])
        raise Killed

    with monkeypatch.context() as worker:
        worker.setattr(file, "_write_all", write_half)
        with pytest.raises(Killed):
            victim.post("/diary", params={"entry": "today"})
    return victim.profile().status_int != 200
