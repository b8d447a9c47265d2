"""Ending all sessions of a user at once and in every worker, although the store cannot be searched for them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path

import pytest
from conftest import WORKERS, Application, Barrier, Browser, Guest, Site, at_the_same_time, get_and_close

from wsgi_oauth import FileStore, Identity, LoginRequired, SessionStore
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.redis import RedisStore
from wsgi_oauth.sessions.revocation import Revocation, revocation_key
from wsgi_oauth.sessions.store import Record

HOUR = 3600
MakeBrowser = Callable[..., Browser]
MakeGate = Callable[..., LoginRequired]
WRONG_TIME = pytest.mark.parametrize(
    "record",
    [b"wo-revoked:1:17x", Revocation(time.time() + 24 * HOUR).encode()],
    ids=["damaged", "stored while the clock was ahead"],
)


def end_sessions_of(user: str, store: SessionStore) -> None:
    """End the sessions of *user* as another process does."""
    SessionManager(store, idle=HOUR, lifetime=24 * HOUR).end_sessions_of(user)


def user_of(browser: Browser) -> str:
    """Request the profile, which stores the user in the session, and return the id of the user."""
    return Identity(browser.provider.url.partition("//")[2], str(browser.profile().json["id"])).id


def signed_in(make_browser: MakeBrowser, **settings: str) -> Browser:
    browser = make_browser(**settings)
    browser.sign_in()
    return browser


@pytest.mark.parametrize("seal", ["no", "yes"])
def test_sessions_that_began_earlier_are_over_and_a_later_sign_in_is_not(
    store: SessionStore, make_browser: MakeBrowser, seal: str
):
    laptop, phone = (signed_in(make_browser, SESSION_SEAL=seal) for _ in range(2))
    user = user_of(laptop)
    assert user_of(phone) == user
    end_sessions_of(user, store)
    assert [browser.profile().status_int for browser in (laptop, phone)] == [401, 401]
    laptop.sign_in()
    assert [browser.profile().status_int for browser in (laptop, phone)] == [200, 401]


def test_reverse_proxies_refuse_an_ended_session(store: SessionStore, make_browser: MakeBrowser):
    browser = signed_in(make_browser)
    user = user_of(browser)
    assert browser.get("/verify").status_int == 204
    end_sessions_of(user, store)
    assert browser.get("/verify").status_int == 401


def test_sessions_of_other_users_continue(store: SessionStore, make_browser: MakeBrowser):
    browser = signed_in(make_browser)
    end_sessions_of(f"1{user_of(browser)}", store)
    assert browser.profile().status_int == 200


def test_a_session_whose_user_was_unknown_is_over_once_the_provider_names_the_user(
    store: SessionStore, make_browser: MakeBrowser
):
    known, unknown = (signed_in(make_browser) for _ in range(2))
    end_sessions_of(user_of(known), store)
    assert unknown.profile().status_int == 401


def test_a_refresh_that_began_earlier_brings_no_session_back(
    store: SessionStore, make_browser: MakeBrowser, barrier: Callable[[str], Barrier], later: Callable[[float], None]
):
    """S42"""
    browser = signed_in(make_browser)
    user = user_of(browser)
    later(2 * HOUR)  # the access token has expired
    refresh = barrier("token")
    with ThreadPoolExecutor(1) as background:
        answer = background.submit(browser.profile)
        refresh.wait_for(1)
        end_sessions_of(user, store)
        refresh.open()
        answer.result()
    assert browser.profile().status_int == 401


class TestGate:
    @pytest.fixture
    def store(self, every_store: SessionStore) -> SessionStore:
        """Run these tests with each kind of store, because they notice revocations in different ways."""
        return every_store

    @pytest.fixture
    def guests(self, make_gate: MakeGate, provider: LocalProvider, later: Callable[[float], None]) -> list[Guest]:
        """Return one browser at two gates, with its login in both caches."""
        guests = [Guest(make_gate(SESSION_SEAL="yes"), provider) for _ in range(2)]
        guests[0].sign_in()
        guests[1].share_cookies(guests[0])
        later(3)  # otherwise the file store would give no version
        for _ in range(3):
            assert [guest.get("/page").status_int for guest in guests] == [200, 200]
        return guests

    def test_a_cached_login_is_over_with_the_next_request(
        self, store: SessionStore, guests: list[Guest], inside: Application
    ):
        identity = inside.environ["wsgi_oauth.identity"]
        end_sessions_of(identity.id, store)
        assert [guest.get("/page").status_int for guest in guests] == [302, 302]
        guests[0].sign_in()
        for _ in range(3):
            assert [guest.get("/page").status_int for guest in guests] == [200, 200]

    def test_a_session_whose_user_was_unknown_never_reaches_the_application(
        self, store: SessionStore, make_gate: MakeGate, provider: LocalProvider, inside: Application
    ):
        known, unknown = (Guest(make_gate(), provider) for _ in range(2))
        known.sign_in()
        unknown.get(unknown.consent(unknown.get(unknown.get("/page").location).location))
        end_sessions_of(inside.environ["wsgi_oauth.identity"].id, store)
        inside.seen.clear()
        assert unknown.get("/page").status_int == 302
        assert inside.seen == []


def test_the_versions_of_all_sessions_change_in_every_process(tmp_path: Path, later: Callable[[float], None]):
    here, elsewhere = FileStore(tmp_path / "sessions"), FileStore(tmp_path / "sessions")
    key = "0" * 64
    here.create(key, Record(b"{}", time.time() + HOUR))
    later(3)
    before = here.version(key)
    assert before == here.version(key) == elsewhere.version(key)
    elsewhere.change_versions()
    assert before != here.version(key) == elsewhere.version(key)


def test_the_versions_change_in_a_folder_that_belongs_to_the_image_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """overlayfs renames no folder of a lower layer."""
    store = FileStore(tmp_path / "sessions")
    store.version("0" * 64)
    [before] = (tmp_path / "sessions" / ".generations").iterdir()

    def rename(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr("os.rename", rename)
    store.change_versions()
    [after] = (tmp_path / "sessions" / ".generations").iterdir()
    assert before != after


class TestRecords:
    @pytest.fixture
    def store(self, every_store: SessionStore) -> SessionStore:
        return every_store

    def test_disappear_when_all_sessions_that_they_end_have_expired(
        self, store: SessionStore, later: Callable[[float], None]
    ):
        sessions = SessionManager(store, idle=HOUR, lifetime=2 * HOUR)
        sessions.end_sessions_of("1@github")
        later(2 * HOUR)
        assert store.load(revocation_key("1@github"))
        later(2 * HOUR)
        store.sweep()
        assert store.load(revocation_key("1@github")) is None
        assert list(store.keys()) == []

    def test_are_one_for_each_user_and_no_sessions(self, store: SessionStore):
        sessions = SessionManager(store, idle=HOUR, lifetime=HOUR)
        for _ in range(3):
            sessions.end_sessions_of("1@github")
        assert len(list(store.keys())) == 1
        assert list(sessions.survey()) == []

    def test_do_not_name_the_user(self, store: SessionStore):
        SessionManager(store, idle=HOUR, lifetime=HOUR).end_sessions_of("583231@github")
        [key] = store.keys()
        assert b"583231" not in key.encode() + (store.load(key) or b"")

    def test_end_every_session_if_truncated_or_changed(self):
        """S56. Otherwise the sessions that the record has ended would be usable again."""
        revocation = Revocation(1764491234.125, issued=1764491233.0)
        raw = revocation.encode()
        assert Revocation.decode(raw) == revocation
        damaged = [raw[:length] for length in range(len(raw))]
        number = int.from_bytes(raw, "big")
        damaged += [(number ^ 1 << bit).to_bytes(len(raw), "big") for bit in range(8 * len(raw))]
        assert {Revocation.decode(each).time for each in damaged} == {inf}

    @WRONG_TIME
    def test_end_every_session_but_no_later_one_if_their_time_is_wrong(
        self, store: SessionStore, make_browser: MakeBrowser, record: bytes, caplog: pytest.LogCaptureFixture
    ):
        """Otherwise each sign-in of the user would be ended at once: a redirect loop."""
        laptop, phone = (signed_in(make_browser) for _ in range(2))
        user = user_of(laptop)
        assert user_of(phone) == user
        store.create(revocation_key(user), Record(record, time.time() + HOUR))
        assert laptop.profile().status_int == 401
        assert "revocation record: damaged, or stored while the clock was ahead" in caplog.text
        laptop.sign_in()
        assert [browser.profile().status_int for browser in (laptop, phone)] == [200, 401]

    @WRONG_TIME
    def test_with_a_wrong_time_are_replaced(self, store: SessionStore, make_browser: MakeBrowser, record: bytes):
        browser = signed_in(make_browser)
        user = user_of(browser)
        store.create(revocation_key(user), Record(record, time.time() + HOUR))
        end_sessions_of(user, store)
        browser.sign_in()
        assert browser.profile().status_int == 200


class TestClocks:
    @pytest.fixture
    def store(self, redis_url: str) -> SessionStore:
        return RedisStore(redis_url)

    def test_the_clock_of_the_common_store_decides(
        self, store: SessionStore, make_browser: MakeBrowser, later: Callable[[float], None]
    ):
        """With a fast clock, an old session still ends. With a slow clock, a new sign-in still succeeds."""
        later(30)
        browser = signed_in(make_browser)
        user = user_of(browser)
        later(-30)
        end_sessions_of(user, store)
        assert browser.profile().status_int == 401
        later(-30)
        browser.sign_in()
        assert browser.profile().status_int == 200


APPLICATION = """
import os
from wsgi_oauth import LoginRequired, get_app

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {environ['REMOTE_USER']}".encode()]

app = LoginRequired(application, get_app())
"""


def test_an_operator_ends_the_encrypted_sessions_of_a_user_in_every_worker(site: Site):
    site.folder.joinpath("gated.py").write_text(APPLICATION)
    settings = {"SESSION_SEAL": "yes"}
    with (
        site.serve("--workers", "2", *WORKERS["sync"], app="gated:app", **settings) as server,
        site.visitor(server) as visitor,
    ):
        visitor.get(visitor.get(visitor.callback_url(visitor.get("/page").headers["Location"])).headers["Location"])
        user, workers = "", set[str]()
        while len(workers) < 2:
            answers = at_the_same_time(get_and_close, [(visitor.copy(), "/page")] * 4)
            assert [answer.status_code for answer in answers] == [200] * 4
            for answer in answers:
                worker, user = answer.text.split()
                workers.add(worker)
        environ = {**os.environ, "WSGI_OAUTH_SESSION_STORE": f"file:{site.sessions}", "WSGI_OAUTH_SESSION_SEAL": "yes"}
        subprocess.run(
            [sys.executable, "-m", "wsgi_oauth", "sessions", "end", "--user", user],
            env=environ,
            check=True,
            timeout=60,
        )
        answers = at_the_same_time(get_and_close, [(visitor.copy(), "/page")] * 12)
        assert [answer.status_code for answer in answers] == [302] * 12
