"""``wsgi-oauth sessions``: count, sweep, list and end sessions, and never print ids or tokens."""

from __future__ import annotations

import io
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
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from conftest import Browser, stored_sessions

import wsgi_oauth
from wsgi_oauth import FileStore, Identity, RequestHandler, errors
from wsgi_oauth.cli import main, sessions
from wsgi_oauth.sessions.encoding import StoredSession
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.sessions.store import Record, store_key

Run = Callable[..., subprocess.CompletedProcess[str]]
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
OCTOCAT = Identity("github", "583231", "octocat")
HUBOT = Identity("github", "1", "hubot")


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "sessions")


@pytest.fixture
def sign_in(store: FileStore) -> Callable[..., Path]:
    """Store the session of a signed-in user; return its file."""

    def sign_in(identity: Identity | None = OCTOCAT, *, sealed: bool = False, **data: Any) -> Path:
        manager = SessionManager(store, idle=3600, lifetime=86400, encrypted=sealed)
        session = Session(manager)
        session["oauth_token"] = {"access_token": "the-token", "token_type": "bearer"}
        if identity:
            session["oauth_identity"] = identity.as_dict()
        session.update(data)
        before = set(Path(store.folder).iterdir())
        manager.save(session)
        [path] = set(Path(store.folder).iterdir()) - before
        return path

    return sign_in


def environ_of(store: FileStore, **settings: str) -> dict[str, str]:
    """Return an environment that configures nothing but the store."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_OAUTH_")}
    variables = {
        f"WSGI_OAUTH_{name}": value for name, value in {"SESSION_STORE": f"file:{store.folder}", **settings}.items()
    }
    return inherited | {"PYTHONPATH": str(Path(wsgi_oauth.__file__).parents[1])} | variables


@pytest.fixture
def run(store: FileStore) -> Run:
    """Run the command in this process: ``run("end", "--user", "1@github", SESSION_IDLE="1h")``."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as monkeypatch, redirect_stdout(out), redirect_stderr(err):
            monkeypatch.setattr(os, "environ", environ_of(store, **settings))
            try:
                status = main.main(["sessions", *arguments])
            except SystemExit as stopped:
                status = int(stopped.code or 0)
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())

    return run


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "wsgi_oauth", "sessions", *arguments]


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    """Return the output of a successful command, without the name of the store and audit events."""
    assert done.returncode == 0, done.stderr
    printed = re.sub(r".* \[INFO\] session_end .*\n", "", done.stderr + done.stdout)
    named, others = re.subn(r"session store file:/\S+/sessions\n", "", printed), done.stderr
    assert named[1] == 1, others
    return named[0]


def error_of(done: subprocess.CompletedProcess[str], status: int = 1) -> str:
    """Return the error message of a failed command, which must not be a traceback."""
    assert (done.returncode, done.stdout) == (status, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def counted(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    lines = (line.rsplit(maxsplit=1) for line in output_of(done).splitlines())
    return {name.strip(): int(number) for name, number in lines}


# Counting


def test_count_prints_the_number_of_sessions_by_state(
    run: Run, store: FileStore, sign_in: Callable[..., Path], make_browser: Callable[..., Browser]
):
    make_browser().sign_in()
    make_browser().start()
    make_browser().start()
    expired, damaged = sign_in(), sign_in()
    os.utime(expired, (1, 1))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"]")
    os.utime(damaged, (time.time() + 60, time.time() + 60))
    assert counted(run("count")) == {"signed in": 1, "anonymous": 2, "expired": 1, "unreadable": 1}


def test_count_uses_the_configured_lifetime_of_sign_ins(run: Run, store: FileStore):
    manager = SessionManager(store, idle=12 * 3600, lifetime=86400, sign_in_lifetime=12 * 3600)
    two_hours_ago = time.time() - 7200
    record = manager.build_record("id", StoredSession(two_hours_ago, two_hours_ago, {"cart": [1]}))
    store.create(store_key("id"), record)
    assert counted(run("count", SIGN_IN_LIFETIME="12h")) == {
        "signed in": 0,
        "anonymous": 1,
        "expired": 0,
        "unreadable": 0,
    }


def test_count_of_an_empty_store_is_zero(run: Run):
    assert set(counted(run("count")).values()) == {0}


def test_sessions_expire_by_the_current_settings(
    run: Run, sign_in: Callable[..., Path], later: Callable[[float], None]
):
    path = sign_in()
    later(1800)
    assert counted(run("count"))["expired"] == 0
    assert counted(run("count", SESSION_IDLE="29m"))["expired"] == 1
    assert counted(run("count", SESSION_LIFETIME="29m"))["expired"] == 1
    run("sweep", SESSION_IDLE="29m")
    assert path.exists()  # because a setting of this shell alone must not end sessions


# Sweeping


def test_sweep_deletes_expired_sessions_only(run: Run, sign_in: Callable[..., Path]):
    alive, expired = [sign_in() for _ in range(3)], [sign_in() for _ in range(2)]
    for path in expired:
        os.utime(path, (1, 1))
    assert output_of(run("sweep")) == "expired sessions: 2 deleted, 3 other sessions left\n"
    assert [path.exists() for path in alive + expired] == [True] * 3 + [False] * 2
    assert output_of(run("sweep")) == "expired sessions: 0 deleted, 3 other sessions left\n"


# Listing


def test_list_prints_a_line_for_each_signed_in_session(
    run: Run, sign_in: Callable[..., Path], make_browser: Callable[..., Browser]
):
    sign_in(OCTOCAT)
    sign_in(HUBOT)
    sign_in(Identity("example", "with no name"))
    sign_in(None)
    make_browser().start()
    lines = output_of(run("list")).splitlines()
    assert all(re.match(rf"{MOMENT}  {MOMENT}  {MOMENT}  \S", line) for line in lines)
    assert sorted(line[66:] for line in lines) == [
        "-",
        "1@github hubot",
        "583231@github octocat",
        "with+20no+20name@example",
    ]


def test_list_prints_times_in_utc(store: FileStore, sign_in: Callable[..., Path]):
    sign_in()
    began = int(time.time())
    environ = environ_of(store, SESSION_IDLE="90m", SESSION_LIFETIME="2h") | {"TZ": "Asia/Tokyo"}
    done = subprocess.run(command("list"), env=environ, capture_output=True, text=True, timeout=60, check=False)
    signed_in, seen, expires = (
        time.mktime(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
        for moment in output_of(done).split()[:3]
    )
    assert abs(signed_in - began) <= 2
    assert seen == signed_in
    assert expires - seen == 5400


def test_list_prints_the_user_after_the_first_profile_request(run: Run, browser: Browser):
    browser.sign_in()
    assert output_of(run("list")).endswith("  -\n")
    browser.profile()
    assert output_of(run("list")).rstrip().endswith(" octocat")


def test_no_command_prints_session_ids_keys_or_tokens(run: Run, store: FileStore, browser: Browser):
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


def test_control_characters_in_user_names_are_escaped(run: Run, sign_in: Callable[..., Path]):
    sign_in(Identity("github", "1\x1b[2J", "evil\r\n\x07\x9b\u202egnp.exe"))
    assert output_of(run("list"))[66:] == "1+1B+5B2J@github evil\\r\\n\\x07\\x9b\\u202egnp.exe\n"
    assert "\x1b" not in output_of(run("end", "--user", "github:1\x1b[2J"))


def test_list_escapes_names_that_the_terminal_cannot_print(store: FileStore, sign_in: Callable[..., Path]):
    sign_in(Identity("github", "1", "jürgen"))
    environ = environ_of(store) | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command("list"), env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert output_of(done).endswith("1@github j\\xfcrgen\n")


def test_list_prints_column_names_on_a_terminal(store: FileStore, sign_in: Callable[..., Path]):
    sign_in()
    output, terminal = pty.openpty()
    subprocess.run(command("list"), env=environ_of(store), stdout=terminal, check=True, timeout=60)
    os.close(terminal)
    with open(output, encoding="utf-8", newline="") as shown:
        first, second = shown.readline(), shown.readline()
    assert first.split() == ["SIGNED", "IN", "LAST", "SEEN", "EXPIRES", "USER"]
    assert first.index("USER") == second.index("583231@")


def test_list_ends_quietly_when_its_reader_stops(store: FileStore, sign_in: Callable[..., Path]):
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
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"session store file:{store.folder}".encode()]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_under_the_output_is_an_error_with_its_remedy(store: FileStore):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            command("count"), env=environ_of(store), stdout=full, stderr=subprocess.PIPE, check=False, timeout=60
        )
    assert done.returncode == 1
    text = b"wsgi-oauth: standard output: the disk is full; free disk space, or use another file"
    assert done.stderr.splitlines()[-1] == text


@pytest.mark.parametrize("descriptor", [1, 2])
def test_commands_succeed_with_a_closed_stream(store: FileStore, descriptor: int):
    """Cron jobs and supervisors close streams (`>&-`)."""
    for name in ("list", "sweep"):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {descriptor}>&-', "sh", *command(name)],
            env=environ_of(store),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False)


# Ending


def test_end_user_ends_all_sessions_of_one_user_only(run: Run, sign_in: Callable[..., Path]):
    theirs, others = [sign_in(OCTOCAT) for _ in range(3)], [sign_in(HUBOT), sign_in(Identity("gitlab", "583231"))]
    assert output_of(run("end", "--user", "583231@github")) == "sessions of 583231@github: 3 ended\n"
    assert [path.exists() for path in theirs + others] == [False] * 3 + [True] * 2
    ended, advice = output_of(run("end", "--user", "583231@github")).splitlines()
    assert ended == "sessions of 583231@github: 0 ended"
    assert "sessions list` prints" in advice  # because the id may be mistyped


def test_a_user_whose_sessions_were_ended_has_to_sign_in_again(run: Run, make_browser: Callable[..., Browser]):
    laptop, phone = make_browser(), make_browser()
    for browser in (laptop, phone):
        browser.sign_in()
        assert browser.profile().status_int == 200
    [user] = {line[66:].split()[0] for line in output_of(run("list")).splitlines()}
    assert output_of(run("end", "--user", user)).endswith(": 2 ended\n")
    assert (laptop.profile().status_int, phone.profile().status_int) == (401, 401)
    laptop.sign_in()
    assert (laptop.profile().status_int, phone.profile().status_int) == (200, 401)


class Slow(RequestHandler):
    """Changes its session, and waits for the test before it answers."""

    route = "/slow"
    begun, go_on = threading.Event(), threading.Event()

    def get(self, request):
        request.session["note"] = "changed"
        self.begun.set()
        assert self.go_on.wait(60)
        return self.jsonify({})


def test_an_ended_session_stays_ended_while_a_request_is_changing_it(
    run: Run, store: FileStore, make_browser: Callable[..., Browser]
):
    """S42"""
    browser = make_browser(handlers=(Slow,))
    browser.sign_in()
    subject = browser.profile().json["id"]
    user = f"{browser.provider.url.partition('//')[2]}:{subject}"
    with ThreadPoolExecutor(1) as background:
        answer = background.submit(browser.get, "/slow")
        try:
            assert Slow.begun.wait(60)
            assert output_of(run("end", "--user", user)).endswith(": 1 ended\n")
        finally:
            Slow.go_on.set()
        answer.result()
    assert list(SessionManager(store, idle=3600, lifetime=86400).survey()) == []
    assert browser.profile().status_int == 401


def test_end_user_lasts_as_long_as_the_sessions_of_an_application_with_a_longer_lifetime(
    run: Run, make_browser: Callable[..., Browser], later: Callable[[float], None]
):
    browser = make_browser(SESSION_SEAL="yes", SESSION_LIFETIME="30d", SESSION_IDLE="30d", RECHECK="never")
    browser.sign_in()
    user = Identity(browser.provider.url.partition("//")[2], str(browser.profile().json["id"])).id
    run("end", "--user", user, SESSION_LIFETIME="1h", SESSION_SEAL="yes")
    later(20 * 86400)
    assert browser.profile().status_int == 401


def test_end_user_counts_the_sessions_of_unknown_users(run: Run, sign_in: Callable[..., Path]):
    sign_in(OCTOCAT)
    unknown = [sign_in(None), sign_in(None), sign_in(None, oauth_identity={"from": "another version"})]
    first, second = output_of(run("end", "--user", "583231@github")).splitlines()
    assert first == "sessions of 583231@github: 1 ended"
    assert second.startswith("3 sessions without a known user")
    assert all(path.exists() for path in unknown)


@pytest.mark.parametrize("written", ["octocat", "OctoCat"])
def test_end_user_accepts_a_username_that_is_unique(run: Run, sign_in: Callable[..., Path], written: str):
    theirs, other = sign_in(OCTOCAT), sign_in(HUBOT)
    assert output_of(run("end", "--user", written)) == "sessions of 583231@github: 1 ended\n"
    assert (theirs.exists(), other.exists()) == (False, True)


def test_end_user_rejects_a_username_of_several_users(run: Run, sign_in: Callable[..., Path]):
    paths = [sign_in(OCTOCAT), sign_in(Identity("github", "99", "octocat"))]
    error = error_of(run("end", "--user", "octocat"), 2)
    assert "--user 583231@github or --user 99@github" in error
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize("name", ["octocta", "583231", ""])
def test_end_user_rejects_an_unknown_username(run: Run, sign_in: Callable[..., Path], name: str):
    path = sign_in(OCTOCAT)
    sign_in(Identity("github", "2"))
    assert "such as 583231@github" in error_of(run("end", "--user", name), 2)
    assert path.exists()


def test_end_all_ends_sessions_in_every_state(
    run: Run, store: FileStore, sign_in: Callable[..., Path], make_browser: Callable[..., Browser]
):
    browser = make_browser()
    browser.sign_in()
    make_browser().start()
    sign_in(None)
    sign_in(sealed=True)
    sign_in().write_bytes(b"damaged")
    assert output_of(run("end", "--all")) == "all sessions: 5 ended, expired ones included\n"
    assert list(Path(store.folder).iterdir()) == []
    assert browser.profile().status_int == 401


# Encrypted sessions


def test_count_reads_the_labels_of_encrypted_sessions(
    run: Run, sign_in: Callable[..., Path], make_browser: Callable[..., Browser]
):
    make_browser(SESSION_SEAL="yes").sign_in()
    make_browser(SESSION_SEAL="yes").start()
    expired = sign_in(sealed=True)
    for contents in (b"sealed:1", b"sealed:1" + 17 * b"\x7f", b"sealed:1" + 17 * b"\xff", b"sealed:1" + bytes(17)):
        damaged = sign_in(sealed=True)
        damaged.write_bytes(contents)
        os.utime(damaged, (time.time() + 60, time.time() + 60))
    os.utime(expired, (1, 1))
    found = counted(run("count", SESSION_SEAL="yes"))
    assert found == {"signed in": 1, "anonymous": 1, "expired": 1, "unreadable": 4}


def test_encrypted_sessions_expire_by_the_current_settings(
    run: Run, sign_in: Callable[..., Path], later: Callable[[float], None]
):
    sign_in(sealed=True)
    later(1800)
    assert counted(run("count", SESSION_SEAL="yes", SESSION_IDLE="31m"))["signed in"] == 1
    assert counted(run("count", SESSION_SEAL="yes", SESSION_IDLE="29m"))["expired"] == 1


@pytest.mark.parametrize(
    ("seal", "line"),
    [
        ("yes", "ignored     2  not encrypted, but WSGI_OAUTH_SESSION_SEAL is yes"),
        ("no", "ignored     1  encrypted, but WSGI_OAUTH_SESSION_SEAL is no"),
    ],
)
def test_sessions_that_the_application_ignores_are_counted_but_not_listed_or_swept(
    run: Run, sign_in: Callable[..., Path], seal: str, line: str
):
    """A setting of this shell alone must not end sessions."""
    for sealed in (True, False, False):
        sign_in(sealed=sealed)
    assert output_of(run("count", SESSION_SEAL=seal)).splitlines()[-1] == line
    listed = output_of(run("list", SESSION_SEAL=seal)).splitlines()
    assert [row[66:] for row in listed] == (["(encrypted)"] if seal == "yes" else ["583231@github octocat"] * 2)
    assert output_of(run("sweep", SESSION_SEAL=seal)) == "expired sessions: 0 deleted, 3 other sessions left\n"


def test_list_prints_no_user_for_encrypted_sessions(run: Run, sign_in: Callable[..., Path]):
    sign_in(sealed=True)
    assert re.fullmatch(rf"{MOMENT}  {MOMENT}  {MOMENT}  \(encrypted\)\n", output_of(run("list", SESSION_SEAL="yes")))


@pytest.mark.parametrize("form", ["id", "former_id"])
def test_end_user_ends_encrypted_sessions_without_a_search(run: Run, make_browser: Callable[..., Browser], form: str):
    browser = make_browser(SESSION_SEAL="yes")
    browser.sign_in()
    user = Identity(browser.provider.url.partition("//")[2], str(browser.profile().json["id"]))
    printed = output_of(run("end", "--user", getattr(user, form), SESSION_SEAL="yes"))
    assert printed.startswith(f"sessions of {user.id}: 0 ended\n1 encrypted sessions: those of this user have ended")
    assert browser.profile().status_int == 401


def test_end_user_needs_an_id_for_encrypted_sessions(run: Run, sign_in: Callable[..., Path]):
    sign_in(sealed=True)
    error = error_of(run("end", "--user", "octocat", SESSION_SEAL="yes"), 2)
    assert "usernames in encrypted sessions cannot be read here; write an id such as 583231@github" in error


# Errors


def test_encryption_without_the_cryptography_package_is_an_error(run: Run, tmp_path: Path):
    (tmp_path / "cryptography.py").write_text("raise ImportError")
    hiding = {"PYTHONPATH": f"{tmp_path}:{Path(wsgi_oauth.__file__).parents[1]}"}
    store = FileStore(tmp_path / "sessions")
    environ = environ_of(store, SESSION_SEAL="yes") | hiding
    done = subprocess.run(command("count"), env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'wsgi-oauth[sealed]'" in error_of(done)


def test_only_the_store_has_to_be_configured(run: Run):
    output_of(run("count", TOKEN_URL="nonsense", CLIENT_SECRET_FILE="/nowhere"))


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("SESION_STORE", "file:/somewhere", "did you mean WSGI_OAUTH_SESSION_STORE"),
        ("SESSION_STORE", "sessions", "file:/an/absolute/path"),
        ("SESSION_IDLE", "soon", "must be a positive duration"),
    ],
)
def test_an_invalid_setting_of_the_store_is_named(run: Run, name: str, value: str, hint: str):
    error = error_of(run("count", **{name: value}))
    assert f"WSGI_OAUTH_{name}" in error
    assert hint in error


@pytest.mark.parametrize("arguments", [["count"], ["sweep"], ["list"], ["end", "--user", "1@github"]])
def test_the_memory_store_is_an_error(run: Run, arguments: list[str]):
    assert "only in the memory of the application's workers" in error_of(run(*arguments, SESSION_STORE="memory:"))


def test_a_missing_folder_is_an_error_and_is_not_created(run: Run, tmp_path: Path):
    """Otherwise an operator with the wrong environment would believe that no user is signed in."""
    elsewhere = tmp_path / "elsewhere"
    assert f"file:{elsewhere}" in error_of(run("count", SESSION_STORE=f"file:{elsewhere}"))
    assert not elsewhere.exists()


@pytest.mark.parametrize("arguments", [["count"], ["sweep"], ["list"], ["end", "--user", "1@github"]])
def test_a_failing_store_is_an_error_without_a_traceback(
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


def test_a_store_that_fails_halfway_leaves_a_correct_count(
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
    assert printed.out.endswith("sessions of 583231@github: 1 ended\n")
    assert "Read-only file system" in printed.err


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["end"], ["end", "--all", "--user", "1@github"], ["count", "--user", "1@github"]],
)
def test_a_usage_error_exits_with_2(run: Run, arguments: list[str]):
    assert error_of(run(*arguments), 2).startswith("usage: wsgi-oauth")


# Many sessions


@pytest.mark.parametrize("on_terminal", [True, False])
def test_progress_is_printed_to_a_terminal_only(
    store: FileStore,
    sign_in: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    on_terminal: bool,
):
    for _ in range(5):
        sign_in()
    monkeypatch.setattr(os, "environ", environ_of(store))
    monkeypatch.setattr(sessions, "_PROGRESS_STEP", 2)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_terminal)
    assert main.main(["sessions", "count"]) == 0
    assert capsys.readouterr().err == ("2 sessions read\n4 sessions read\n" if on_terminal else "")


def test_five_thousand_sessions_are_processed_one_at_a_time(
    store: FileStore, sign_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    for number in range(5_000):
        store.create(f"{number:064x}", Record(b"unreadable", time.time() + 3600))
    for _ in range(20):
        sign_in()
    monkeypatch.setattr(os, "environ", environ_of(store))
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        for arguments in (["sweep"], ["list"], ["end", "--user", "583231@github"]):
            tracemalloc.start()
            try:
                assert main.main(["sessions", *arguments]) == 0
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < 500_000  # bytes; the keys alone would need more
