"""``wsgi-oauth sessions``: what operators see of the store and do with it, and what they never see."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Browser, stored_sessions

import wsgi_oauth
from wsgi_oauth import FileStore, Identity, RequestHandler, errors
from wsgi_oauth.cli import main
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.sessions.store import Record

Run = Callable[..., subprocess.CompletedProcess[str]]
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
OCTOCAT = Identity("github", "583231", "octocat")
HUBOT = Identity("github", "1", "hubot")


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "sessions")


@pytest.fixture
def sign_in(store: FileStore) -> Callable[..., Path]:
    """Put the session of a signed-in user into the store; return its file."""

    def sign_in(identity: Identity | None = OCTOCAT, *, sealed: bool = False, **data: Any) -> Path:
        sessions = SessionManager(store, idle=3600, lifetime=86400, encrypted=sealed)
        session = Session(sessions)
        session["oauth_token"] = {"access_token": "the-token", "token_type": "bearer"}
        if identity:
            session["oauth_identity"] = identity.as_dict()
        session.update(data)
        before = set(Path(store.folder).iterdir())
        sessions.save(session)
        [path] = set(Path(store.folder).iterdir()) - before
        return path

    return sign_in


def environ_of(store: FileStore, **settings: str) -> dict[str, str]:
    """What the command needs: nothing but the store."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_OAUTH_")}
    variables = {
        f"WSGI_OAUTH_{name}": value for name, value in {"SESSION_STORE": f"file:{store.folder}", **settings}.items()
    }
    return inherited | {"PYTHONPATH": str(Path(wsgi_oauth.__file__).parents[1])} | variables


@pytest.fixture
def run(store: FileStore) -> Run:
    """Run the command: ``run("end", "--user", "github:1", SESSION_IDLE="1h")``."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            env=environ_of(store, **settings),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "wsgi_oauth", "sessions", *arguments]


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that did its work has printed."""
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def complaint(done: subprocess.CompletedProcess[str], status: int = 1) -> str:
    """What a command that could not do its work has said about that; never a traceback."""
    assert (done.returncode, done.stdout) == (status, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def counted(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    lines = (line.rsplit(maxsplit=1) for line in said(done).splitlines())
    return {name.strip(): int(number) for name, number in lines}


# Counting


def test_each_kind_is_counted(
    run: Run, store: FileStore, sign_in: Callable[..., Path], make_browser: Callable[..., Browser]
):
    make_browser().sign_in()
    make_browser().start()
    make_browser().start()
    over, damaged = sign_in(), sign_in()
    os.utime(over, (1, 1))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"]")
    os.utime(damaged, (time.time() + 60, time.time() + 60))
    assert counted(run("count")) == {"signed in": 1, "anonymous": 2, "expired": 1, "unreadable": 1}


def test_an_empty_store_counts_nothing(run: Run):
    assert set(counted(run("count")).values()) == {0}


def test_what_is_over_by_the_lifetimes_of_now_is_over(
    run: Run, sign_in: Callable[..., Path], later: Callable[[float], None]
):
    """As for the application, which reads the same settings."""
    later(-1800)
    path = sign_in()
    assert counted(run("count"))["expired"] == 0
    assert counted(run("count", SESSION_IDLE="29m"))["expired"] == 1
    assert counted(run("count", SESSION_LIFETIME="29m"))["expired"] == 1
    run("sweep", SESSION_IDLE="29m")
    assert path.exists()  # a setting that only this shell has ends nobody's session


# Sweeping


def test_a_sweep_takes_away_what_is_over_and_nothing_else(run: Run, sign_in: Callable[..., Path]):
    alive, over = [sign_in() for _ in range(3)], [sign_in() for _ in range(2)]
    for path in over:
        os.utime(path, (1, 1))
    assert said(run("sweep")) == "2 taken away, 3 left\n"
    assert [path.exists() for path in alive + over] == [True] * 3 + [False] * 2
    assert said(run("sweep")) == "0 taken away, 3 left\n"


# Listing


def test_each_signed_in_session_is_a_line(run: Run, sign_in: Callable[..., Path], make_browser: Callable[..., Browser]):
    sign_in(OCTOCAT)
    sign_in(HUBOT)
    sign_in(Identity("example", "with no name"))
    sign_in(None)
    make_browser().start()
    lines = said(run("list")).splitlines()
    assert all(re.match(rf"{MOMENT}  {MOMENT}  {MOMENT}  \S", line) for line in lines)
    assert sorted(line[66:] for line in lines) == [
        "-",
        "example:with no name",
        "github:1 hubot",
        "github:583231 octocat",
    ]


def test_the_moments_are_those_of_the_session_in_utc(store: FileStore, sign_in: Callable[..., Path]):
    sign_in()
    began = int(time.time())
    environ = environ_of(store, SESSION_IDLE="90m", SESSION_LIFETIME="2h") | {"TZ": "Asia/Tokyo"}
    done = subprocess.run(command("list"), env=environ, capture_output=True, text=True, timeout=60, check=False)
    signed_in, seen, expires = (
        time.mktime(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone for moment in said(done).split()[:3]
    )
    assert abs(signed_in - began) <= 2
    assert seen == signed_in
    assert expires - seen == 5400


def test_who_signed_in_is_known_once_the_profile_was_shown(run: Run, browser: Browser):
    browser.sign_in()
    assert said(run("list")).endswith("  -\n")
    browser.profile()
    assert said(run("list")).endswith(":583231 octocat\n")


def test_ids_tokens_and_keys_are_never_printed(run: Run, store: FileStore, browser: Browser):
    browser.sign_in()
    user = browser.profile().json
    [token] = [session["oauth_token"]["access_token"] for session in stored_sessions(store)]
    printed = [run(*arguments) for arguments in (["count"], ["list"], ["sweep"], ["end", "--user", user["login"]])]
    everything = "".join(done.stdout + done.stderr for done in printed)
    assert "octocat" in everything
    assert browser.cookie
    assert browser.cookie not in everything
    assert token not in everything
    assert not re.search(r"[0-9a-f]{64}", everything)


def test_what_would_command_the_terminal_is_shown_instead(run: Run, sign_in: Callable[..., Path]):
    sign_in(Identity("github", "1\x1b[2J", "evil\r\n\x07\x9b\u202egnp.exe"))
    assert said(run("list"))[66:] == "github:1\\x1b[2J evil\\r\\n\\x07\\x9b\\u202egnp.exe\n"
    assert "\x1b" not in said(run("end", "--user", "github:1\x1b[2J"))


def test_a_name_that_the_terminal_cannot_show_is_no_reason_to_stop(store: FileStore, sign_in: Callable[..., Path]):
    sign_in(Identity("github", "1", "jürgen"))
    environ = environ_of(store) | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command("list"), env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert said(done).endswith("github:1 j\\xfcrgen\n")


def test_on_a_terminal_the_columns_have_names(store: FileStore, sign_in: Callable[..., Path]):
    sign_in()
    output, terminal = pty.openpty()
    subprocess.run(command("list"), env=environ_of(store), stdout=terminal, check=True, timeout=60)
    os.close(terminal)
    with open(output, encoding="utf-8", newline="") as shown:
        first, second = shown.readline(), shown.readline()
    assert first.split() == ["SIGNED", "IN", "LAST", "SEEN", "EXPIRES", "USER"]
    assert first.index("USER") == second.index("github:")


def test_a_reader_that_wants_no_more_ends_the_list_without_noise(store: FileStore, sign_in: Callable[..., Path]):
    sign_in()
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command("list"),
        env=environ_of(store) | {"PYTHONUNBUFFERED": ""},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


# Ending


def test_every_session_of_a_user_is_ended_and_nobody_elses(run: Run, sign_in: Callable[..., Path]):
    theirs, others = [sign_in(OCTOCAT) for _ in range(3)], [sign_in(HUBOT), sign_in(Identity("gitlab", "583231"))]
    assert said(run("end", "--user", "github:583231")) == "3 ended: sessions of github:583231\n"
    assert [path.exists() for path in theirs + others] == [False] * 3 + [True] * 2
    ended, advice = said(run("end", "--user", "github:583231")).splitlines()
    assert ended == "0 ended: sessions of github:583231"
    assert "`list` prints" in advice  # or somebody who mistypes an id would believe that the user is out


def test_who_is_ended_has_to_sign_in_again(run: Run, make_browser: Callable[..., Browser]):
    laptop, phone = make_browser(), make_browser()
    for browser in (laptop, phone):
        browser.sign_in()
        assert browser.profile().status_int == 200
    [user] = {line[66:].split()[0] for line in said(run("list")).splitlines()}
    assert said(run("end", "--user", user)).startswith("2 ended")
    assert (laptop.profile().status_int, phone.profile().status_int) == (401, 401)
    laptop.sign_in()
    assert (laptop.profile().status_int, phone.profile().status_int) == (200, 401)


class Slow(RequestHandler):
    """Changes its session, and is at it for as long as a test wants."""

    route = "/slow"
    begun, go_on = threading.Event(), threading.Event()

    def get(self, request):
        request.session["note"] = "changed"
        self.begun.set()
        assert self.go_on.wait(60)
        return self.jsonify({})


def test_an_ended_session_stays_ended_though_a_request_was_still_changing_it(
    run: Run, store: FileStore, make_browser: Callable[..., Browser]
):
    """S42, with the operator in the user's place."""
    browser = make_browser(handlers=(Slow,))
    browser.sign_in()
    user = f"{browser.provider.url.partition('//')[2]}:{browser.profile().json['id']}"
    with ThreadPoolExecutor(1) as background:
        answer = background.submit(browser.get, "/slow")
        try:
            assert Slow.begun.wait(60)
            assert said(run("end", "--user", user)).startswith("1 ended")
        finally:
            Slow.go_on.set()
        answer.result()
    assert list(Path(store.folder).iterdir()) == []
    assert browser.profile().status_int == 401


def test_sessions_whose_user_is_not_known_are_left_and_counted(run: Run, sign_in: Callable[..., Path]):
    sign_in(OCTOCAT)
    unknown = [sign_in(None), sign_in(None), sign_in(None, oauth_identity={"of": "another version"})]
    first, second = said(run("end", "--user", "github:583231")).splitlines()
    assert first == "1 ended: sessions of github:583231"
    assert second.startswith("3 left alone: signed-in sessions whose user is not known")
    assert all(path.exists() for path in unknown)


@pytest.mark.parametrize("written", ["octocat", "OctoCat"])
def test_a_username_is_enough_while_there_is_one_of_that_name(run: Run, sign_in: Callable[..., Path], written: str):
    theirs, other = sign_in(OCTOCAT), sign_in(HUBOT)
    assert said(run("end", "--user", written)) == "1 ended: sessions of github:583231\n"
    assert (theirs.exists(), other.exists()) == (False, True)


def test_a_username_of_several_users_ends_nobody_and_says_what_to_write(run: Run, sign_in: Callable[..., Path]):
    paths = [sign_in(OCTOCAT), sign_in(Identity("github", "99", "octocat"))]
    said = complaint(run("end", "--user", "octocat"), 2)
    assert "--user github:583231 or --user github:99" in said
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize("name", ["octocta", "583231", ""])
def test_a_username_that_nobody_has_says_what_to_write(run: Run, sign_in: Callable[..., Path], name: str):
    path = sign_in(OCTOCAT)
    sign_in(Identity("github", "2"))
    assert "like github:583231" in complaint(run("end", "--user", name), 2)
    assert path.exists()


def test_all_sessions_are_ended_whatever_they_are(
    run: Run, store: FileStore, sign_in: Callable[..., Path], make_browser: Callable[..., Browser]
):
    browser = make_browser()
    browser.sign_in()
    make_browser().start()
    sign_in(None)
    sign_in(sealed=True)
    sign_in().write_bytes(b"damaged")
    assert said(run("end", "--all")) == "5 ended: all sessions, those that had expired included\n"
    assert list(Path(store.folder).iterdir()) == []
    assert browser.profile().status_int == 401


# Sealed sessions, which an operator cannot open either


def test_sealed_sessions_are_counted_like_the_others(
    run: Run, sign_in: Callable[..., Path], make_browser: Callable[..., Browser]
):
    make_browser(SESSION_SEAL="yes").sign_in()
    make_browser(SESSION_SEAL="yes").start()
    over = sign_in(sealed=True)
    for contents in (b"sealed:1", b"sealed:1" + 17 * b"\x7f", b"sealed:1" + 17 * b"\xff", b"sealed:1" + bytes(17)):
        damaged = sign_in(sealed=True)
        damaged.write_bytes(contents)
        os.utime(damaged, (time.time() + 60, time.time() + 60))
    os.utime(over, (1, 1))
    found = counted(run("count", SESSION_SEAL="yes"))
    assert found == {"signed in": 1, "anonymous": 1, "expired": 1, "unreadable": 4}


def test_sealed_sessions_are_over_by_the_lifetimes_of_now(
    run: Run, sign_in: Callable[..., Path], later: Callable[[float], None]
):
    later(-1800)
    sign_in(sealed=True)
    assert counted(run("count", SESSION_SEAL="yes", SESSION_IDLE="31m"))["signed in"] == 1
    assert counted(run("count", SESSION_SEAL="yes", SESSION_IDLE="29m"))["expired"] == 1


@pytest.mark.parametrize(
    ("seal", "line"),
    [
        ("yes", "ignored     2  they are not sealed, and WSGI_OAUTH_SESSION_SEAL is yes"),
        ("no", "ignored     1  they are sealed, and WSGI_OAUTH_SESSION_SEAL is not yes here"),
    ],
)
def test_what_the_application_ignores_is_counted_and_neither_listed_nor_swept(
    run: Run, sign_in: Callable[..., Path], seal: str, line: str
):
    """A setting that only this shell has, or has not, ends nobody's session."""
    for sealed in (True, False, False):
        sign_in(sealed=sealed)
    assert said(run("count", SESSION_SEAL=seal)).splitlines()[-1] == line
    listed = said(run("list", SESSION_SEAL=seal)).splitlines()
    assert [row[66:] for row in listed] == (["(sealed)"] if seal == "yes" else ["github:583231 octocat"] * 2)
    assert said(run("sweep", SESSION_SEAL=seal)) == "0 taken away, 3 left\n"


def test_the_list_has_when_but_not_who(run: Run, sign_in: Callable[..., Path]):
    sign_in(sealed=True)
    assert re.fullmatch(rf"{MOMENT}  {MOMENT}  {MOMENT}  \(sealed\)\n", said(run("list", SESSION_SEAL="yes")))


def test_whose_a_sealed_session_is_cannot_be_told_and_that_is_said(run: Run, sign_in: Callable[..., Path]):
    paths = [sign_in(sealed=True), sign_in(HUBOT, sealed=True)]
    first, second = said(run("end", "--user", "github:583231", SESSION_SEAL="yes")).splitlines()
    assert first == "0 ended: sessions of github:583231"
    assert second.startswith("2 left alone: sealed sessions")
    for advice in ("--all", "WSGI_OAUTH_ALLOW"):
        assert advice in second
        assert advice in complaint(run("end", "--user", "octocat", SESSION_SEAL="yes"), 2)
    assert all(path.exists() for path in paths)


# What can go wrong


def test_the_package_that_seals_is_asked_for(run: Run, tmp_path: Path):
    (tmp_path / "cryptography.py").write_text("raise ImportError")
    hiding = {"PYTHONPATH": f"{tmp_path}:{Path(wsgi_oauth.__file__).parents[1]}"}
    store = FileStore(tmp_path / "sessions")
    environ = environ_of(store, SESSION_SEAL="yes") | hiding
    done = subprocess.run(command("count"), env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'wsgi-oauth[sealed]'" in complaint(done)


def test_the_store_is_all_that_has_to_be_configured(run: Run):
    """Above, there is no client id; here even what is configured beside the store cannot work."""
    said(run("count", TOKEN_URL="nonsense", CLIENT_SECRET_FILE="/nowhere"))


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("SESION_STORE", "file:/somewhere", "did you mean WSGI_OAUTH_SESSION_STORE"),
        ("SESSION_STORE", "sessions", "file:/an/absolute/path"),
        ("SESSION_IDLE", "soon", "must be a positive duration"),
    ],
)
def test_a_setting_of_the_store_that_cannot_work_is_named(run: Run, name: str, value: str, hint: str):
    said = complaint(run("count", **{name: value}))
    assert f"WSGI_OAUTH_{name}" in said
    assert hint in said


@pytest.mark.parametrize("arguments", [["count"], ["sweep"], ["list"], ["end", "--user", "github:1"]])
def test_sessions_in_memory_are_out_of_reach_and_that_is_said(run: Run, arguments: list[str]):
    assert "in the application's workers alone" in complaint(run(*arguments, SESSION_STORE="memory:"))


def test_a_folder_that_is_not_there_is_not_made(run: Run, tmp_path: Path):
    """An operator with another environment than the application's must not learn that nobody is signed in."""
    elsewhere = tmp_path / "elsewhere"
    assert f"file:{elsewhere}" in complaint(run("count", SESSION_STORE=f"file:{elsewhere}"))
    assert not elsewhere.exists()


@pytest.mark.parametrize("arguments", [["count"], ["sweep"], ["list"], ["end", "--user", "github:1"]])
def test_a_store_that_fails_is_said_without_a_traceback(
    store: FileStore, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: object) -> Iterator[str]:
        raise errors.StoreError("the session store failed: Input/output error")

    monkeypatch.setattr(os, "environ", environ_of(store))
    monkeypatch.setattr(FileStore, "keys", fail)
    monkeypatch.setattr(FileStore, "sweep", fail)
    assert main.main(["sessions", *arguments]) == 1
    assert (
        f"session store file:{store.folder}: the session store failed: Input/output error\n" in capsys.readouterr().err
    )


def test_a_store_that_fails_halfway_does_not_hide_what_was_done(
    store: FileStore,
    sign_in: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    delete = FileStore.delete
    done: list[str] = []

    def delete_once(self: FileStore, key: str) -> None:
        if done:
            raise errors.StoreError("the session store failed: Read-only file system")
        done.append(key)
        delete(self, key)

    sign_in()
    sign_in()
    monkeypatch.setattr(os, "environ", environ_of(store))
    monkeypatch.setattr(FileStore, "delete", delete_once)
    assert main.main(["sessions", "end", "--user", "octocat"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "1 ended: sessions of github:583231\n"
    assert "Read-only file system" in printed.err


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["end"], ["end", "--all", "--user", "github:1"], ["count", "--user", "github:1"]],
)
def test_a_usage_error_is_2(run: Run, arguments: list[str]):
    assert complaint(run(*arguments), 2).startswith("usage: wsgi-oauth")


# Much work


def test_long_work_shows_its_progress_on_a_terminal_and_says_nothing_in_a_pipe(
    store: FileStore, sign_in: Callable[..., Path]
):
    """The work is long because somebody holds the session that is to be ended."""
    path = sign_in()
    output, terminal = pty.openpty()
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        in_a_pipe, on_a_terminal = (
            subprocess.Popen(
                command("end", "--user", "github:583231"),
                env=environ_of(store),
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                text=True,
            )
            for stderr in (subprocess.PIPE, terminal)
        )
        os.close(terminal)
        shown = b""
        while shown.count(b"\r") < 2:
            shown += os.read(output, 1000)
    assert shown.startswith(b"\r1 sessions looked at\r1 sessions looked at")
    assert in_a_pipe.communicate(timeout=60) == (None, "")
    assert on_a_terminal.wait(60) == 0
    rest = b""
    while not rest.endswith(b"\r\x1b[K"):  # and the line is taken away
        rest += os.read(output, 1000)
    os.close(output)


def test_ten_thousand_sessions_do_not_need_more_memory(
    store: FileStore, sign_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    for number in range(10_000):
        store.create(f"{number:064x}", Record(b"unreadable", time.time() + 3600))
    for _ in range(20):
        sign_in()
    monkeypatch.setattr(os, "environ", environ_of(store))
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        for arguments in (["sweep"], ["list"], ["end", "--user", "github:583231"]):
            tracemalloc.start()
            try:
                assert main.main(["sessions", *arguments]) == 0
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < 500_000  # their keys alone would need more than a million bytes
