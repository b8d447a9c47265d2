"""Sealed sessions: what the store holds is of no use without the cookie that only the browser has (S52)."""

from __future__ import annotations

import gc
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    JSON,
    WORKERS,
    Browser,
    Site,
    assert_keeps_secrets,
    at_the_same_time,
    environ_for,
    get_and_close,
    parameters,
    secrets_of,
    send,
)
from werkzeug import Response

import wsgi_oauth
from wsgi_oauth import Config, FileStore, LoginRequired, MemoryStore, RequestHandler, SessionStore, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sessions.encryption import _LABEL, _NONCE, Encryption, Label
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.redis import RedisStore
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.sessions.store import Record

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

HOUR = 3600
DIARY = "nobody must know of the cheese"


class Diary(RequestHandler):
    """A page that keeps something private in the session."""

    route = "/diary"

    def get(self, request: Any) -> Response:
        return self.jsonify(request.session.get("entry"))

    def post(self, request: Any) -> Response:
        request.session["entry"] = request.form["entry"]
        return self.jsonify(None)


Make = Callable[..., Browser]


@pytest.fixture
def make_sealed(make_browser: Make) -> Make:
    """Make browsers in front of an application that seals its sessions."""
    return partial(make_browser, SESSION_SEAL="yes")


def all_of(store: SessionStore) -> bytes:
    """All that somebody has who takes the disk, the server or the memory that is the store."""
    if isinstance(store, FileStore):
        return b"\n".join(b"%a\n%b" % (path.name, path.read_bytes()) for path in Path(store.folder).iterdir())
    if isinstance(store, RedisStore):
        return b"\n".join(b"%b\n%b" % (key, store._redis.get(key)) for key in store._redis.scan_iter())
    return b"\n".join(b"%a\n%b" % (key, record.data) for key, record in store._records.items())  # type: ignore[attr-defined]


def name_of(browser: Browser, store: SessionStore) -> str:
    """The name under which *store* has the session of *browser*, the only one there that *browser* opens."""
    names = set(store.keys())
    before = {name: store.load(name) for name in names}
    browser.post("/diary", params={"entry": f"a mark {time.monotonic_ns()}"})
    [name] = [name for name in store.keys() if store.load(name) != before.get(name)]
    return name


def put(store: SessionStore, name: str, data: bytes) -> None:
    """Replace what *store* has under *name*."""
    store.delete(name)
    store.create(name, Record(data, time.time() + HOUR))


# What is in the store


def full_of_secrets(browser: Browser) -> tuple[set[str], set[str]]:
    """Sign in, keep something, start another sign-in; return what nobody may learn from that, and who it is about."""
    browser.sign_in()
    profile = browser.profile().json
    browser.post("/diary", params={"entry": DIARY})
    begun = parameters(browser.start())["state"]
    return {*secrets_of(browser.provider, browser.cookie), DIARY, begun}, {profile["login"], str(profile["id"])}


def test_what_the_store_holds_cannot_be_read(store: SessionStore, make_sealed: Make):
    """S52: neither tokens nor who they are of, neither a cookie's id nor a sign-in that has begun."""
    secrets, user = full_of_secrets(make_sealed(handlers=(Diary,)))
    held = all_of(store).decode("latin-1")
    assert held
    assert_keeps_secrets(held, secrets)
    assert not [word for word in (*user, "oauth_", "token", "entry") if word in held]


def test_without_the_seal_all_of_that_is_there(store: SessionStore, make_browser: Make):
    """So that the test above looks for what it can find."""
    browser = make_browser(handlers=(Diary,))
    _, user = full_of_secrets(browser)
    held = all_of(store).decode("latin-1")
    assert all(word in held for word in (*user, DIARY, "access_token"))
    assert browser.cookie not in held


def test_nothing_that_is_in_the_store_opens_a_session(store: SessionStore, make_sealed: Make):
    """S52: with a copy of it, and an application of one's own."""
    victim, thief = make_sealed(), make_sealed()
    victim.sign_in()
    for name in list(store.keys()):
        raw = store.load(name)
        for guess in (name, name[:43], name[-43:]):
            thief.app.set_cookie("wsgi_oauth", guess)
            assert thief.profile().status_int == 401
            assert Encryption().decrypt(guess, name, raw) is None


def test_no_two_writes_are_alike(store: SessionStore, make_sealed: Make):
    """A nonce that came twice would give away what both hide (SP 800-38D, appendix A)."""
    browser = make_sealed(handlers=(Diary,))
    browser.post("/diary", params={"entry": DIARY})
    name = name_of(browser, store)
    written = set()
    for number in range(64):
        browser.post("/diary", params={"entry": f"{number:2}"})
        written.add(store.load(name))
    assert len(written) == 64
    began = _LABEL.size + _NONCE
    assert len({raw[began : began + len('{"crc32":')] for raw in written}) == 64  # what is alike before it is sealed


# It works as before


def test_the_whole_dance_and_the_sign_out(store: SessionStore, provider: LocalProvider, make_sealed: Make):
    laptop, phone = make_sealed(), make_sealed()
    for browser in (laptop, phone):
        browser.sign_in()
        before = browser.cookie
        assert [browser.profile().json["login"] for _ in range(3)] == ["octocat"] * 3
        browser.sign_in()
        assert browser.cookie != before
        assert browser.profile().status_int == 200
    laptop.post("/logout")
    assert (laptop.profile().status_int, phone.profile().status_int) == (401, 200)
    assert len(list(store.keys())) == 1


def test_several_tabs_sign_in_side_by_side(make_sealed: Make):
    browser = make_sealed()
    callbacks = [browser.callback_url() for _ in range(3)]
    assert [browser.get(url).status_int for url in callbacks] == [303] * 3
    assert browser.profile().status_int == 200


def test_an_expired_token_is_refreshed(provider: LocalProvider, make_sealed: Make, later: Callable[[float], None]):
    browser = make_sealed()
    browser.sign_in()
    for refreshes in (1, 2):
        later(HOUR)
        assert {browser.profile().status_int for _ in range(3)} == {200}
        assert provider.count("refresh") == refreshes


def test_a_session_ends_when_it_is_idle_and_after_its_lifetime(make_sealed: Make, later: Callable[[float], None]):
    """S40."""
    browser = make_sealed(SESSION_IDLE="600", SESSION_LIFETIME="1500")
    browser.sign_in()
    for _ in range(3):
        later(450)
        assert browser.profile().status_int == 200
    later(200)
    assert browser.profile().status_int == 401
    browser.sign_in()
    later(650)
    assert browser.profile().status_int == 401


def test_of_32_requests_to_four_workers_one_refreshes_and_the_sign_out_is_everywhere(site: Site):
    """S31, S42. Each worker opens what another one has sealed."""
    workers = ("--workers", "4", *WORKERS["gthread"])
    with site.serve(*workers, SESSION_SEAL="yes") as server, site.visitor(server) as visitor:
        visitor.sign_in()
        sessions = SessionManager(FileStore(site.sessions), idle=HOUR, lifetime=HOUR, encrypted=True)
        session = Session(sessions, sessions.read(visitor.cookie or ""), visitor.cookie)
        session.change(lambda data: data["oauth_token"].update(expires_at=time.time() - 1))
        twins = [visitor.copy() for _ in range(32)]
        answers = at_the_same_time(get_and_close, [(twin, "/profile") for twin in twins])
        assert [answer.status_code for answer in answers] == [200] * 32
        assert site.provider.count("refresh") == 1
        assert b"token" not in all_of(sessions.store)
        before = visitor.copy()
        assert visitor.post("/logout").status_code == 200
        assert [get_and_close(before.copy(), "/profile").status_code for _ in range(8)] == [302] * 8
        before.web.close()


# Behind a gate


def inside(environ: Any, start_response: Any) -> Any:
    return Response(environ["REMOTE_USER"])(environ, start_response)


@pytest.fixture
def gate(provider: LocalProvider, store: SessionStore) -> LoginRequired:
    config = Config.from_environ(environ_for(provider, SESSION_SEAL="yes"))
    return LoginRequired(inside, create_app(config, store=store))


@pytest.fixture
def behind(gate: LoginRequired, provider: LocalProvider) -> Browser:
    """Somebody who has signed in at the gate and seen a page behind it."""
    browser = Browser(gate, provider)
    browser.get(browser.consent(browser.get("/auth/").location))
    assert browser.get("/page").text.endswith(":583231")
    return browser


def test_the_gate_lets_in_who_is_signed_in_and_nobody_who_has_left(behind: Browser):
    assert {behind.get("/page").status_int for _ in range(3)} == {200}
    cookie = behind.cookie
    behind.post("/auth/logout")
    behind.app.set_cookie("wsgi_oauth", cookie)
    assert behind.get("/page").status_int == 302


def test_the_gate_remembers_no_session_in_the_open(behind: Browser):
    """What a worker has read before it keeps for later requests only where nothing is sealed."""
    assert behind.get("/page").status_int == 200
    [answer] = [json.loads(each.response_body) for each in behind.provider.exchanges if each.endpoint == "token"]
    gc.collect()
    tokens = [found["oauth_token"] for found in gc.get_objects() if isinstance(found, dict) and "oauth_token" in found]
    assert not any(answer["access_token"] in str(token) for token in tokens)


# What somebody has done to it


@pytest.fixture
def one_session(provider: LocalProvider) -> tuple[Browser, MemoryStore, str, bytes]:
    """A browser that has signed in, and what the store has of it. What damage means is no affair of the store's."""
    store = MemoryStore()
    browser = Browser(create_app(Config.from_environ(environ_for(provider, SESSION_SEAL="yes")), store=store), provider)
    browser.sign_in()
    [name] = store.keys()
    return browser, store, name, store.load(name) or b""


def is_anonymous_with_a_new_id(browser: Browser) -> bool:
    """Send the cookie; see what a program gets, and that a new sign-in gets an id of its own."""
    headers = {**JSON, "Cookie": f"wsgi_oauth={browser.cookie}"}
    answers = [send(browser.app.app, path, headers=headers) for path in ("/profile", "/")]
    given = answers[1].headers["Set-Cookie"].partition(";")[0].partition("=")[2]
    return [answer.status_code for answer in answers] == [401, 302] and given not in {"", browser.cookie}


def test_one_changed_bit_anywhere_and_there_is_no_session(one_session: Any):
    """S56: in the label, too, which everybody can read."""
    browser, store, name, raw = one_session
    for place in range(len(raw)):
        put(store, name, raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :])
        assert is_anonymous_with_a_new_id(browser), f"byte {place}"
        store.sweep()
    put(store, name, raw)
    assert browser.profile().status_int == 200


def test_cut_off_anywhere_and_there_is_no_session(one_session: Any):
    """S56."""
    browser, store, name, raw = one_session
    for length in range(len(raw)):
        put(store, name, raw[:length])
        assert is_anonymous_with_a_new_id(browser), f"{length} bytes"
    put(store, name, raw + b"\0")
    assert is_anonymous_with_a_new_id(browser)


def test_a_session_in_the_place_of_another_is_none(store: SessionStore, make_sealed: Make):
    """A copy of the attacker's own, under the name of the victim's."""
    victim, attacker = make_sealed(handlers=(Diary,)), make_sealed(handlers=(Diary,))
    victim.sign_in()
    attacker.sign_in()
    names = name_of(victim, store), name_of(attacker, store)
    swapped = [store.load(name) for name in reversed(names)]
    for name, data in zip(names, swapped, strict=True):
        put(store, name, data or b"")
    assert is_anonymous_with_a_new_id(victim)
    assert is_anonymous_with_a_new_id(attacker)


def test_the_seal_is_for_one_id_and_one_name():
    seal, (name, other) = Encryption(), ("0" * 64, "1" * 64)
    raw = seal.encrypt("an id", name, Label(1, 1, True), b"{}")
    assert seal.decrypt("an id", name, raw) == b"{}"
    assert seal.decrypt("an id", other, raw) is seal.decrypt("another", name, raw) is None


def test_damage_is_in_the_log_without_the_session(one_session: Any, caplog: pytest.LogCaptureFixture):
    browser, store, name, raw = one_session
    put(store, name, raw[:-1])
    assert browser.profile().status_int == 401
    assert "stored session: damaged" in caplog.text
    assert not [secret for secret in (name, browser.cookie) if secret in caplog.text]


# Switching it on and off


@pytest.mark.parametrize(("before", "after"), [("no", "yes"), ("yes", "no")])
def test_whoever_was_signed_in_when_the_setting_changes_signs_in_again(
    make_browser: Make, before: str, after: str, caplog: pytest.LogCaptureFixture
):
    """And the log says why."""
    old, new = make_browser(SESSION_SEAL=before), make_browser(SESSION_SEAL=after)
    old.sign_in()
    new.app.set_cookie("wsgi_oauth", old.cookie)
    with caplog.at_level(logging.WARNING):
        assert new.profile().status_int == 401
    how, now = ("encrypted", "no") if before == "yes" else ("not encrypted", "yes")
    assert f"stored session: ignored, because it is {how} and WSGI_OAUTH_SESSION_SEAL is {now}" in caplog.text
    new.sign_in()
    assert new.cookie != old.cookie
    assert (old.profile().status_int, new.profile().status_int) == (200, 200)


def test_a_session_that_was_sealed_stays_sealed_and_one_that_was_not_is_left_as_it_is(
    store: SessionStore, make_browser: Make
):
    """Two machines, one of which has not been told of the setting yet: neither touches what it cannot vouch for."""
    for before, after in (("no", "yes"), ("yes", "no")):
        old, new = (make_browser(handlers=(Diary,), SESSION_SEAL=setting) for setting in (before, after))
        old.sign_in()
        new.app.set_cookie("wsgi_oauth", old.cookie)
        records = {name: store.load(name) for name in store.keys()}
        new.post("/diary", params={"entry": DIARY})
        assert new.cookie != old.cookie
        assert {name: store.load(name) for name in records} == records


# Without the package


@pytest.fixture
def without_cryptography(tmp_path: Path) -> dict[str, str]:
    """The environment of an installation that has not got the extra."""
    folder = tmp_path / "hides"
    folder.mkdir()
    (folder / "cryptography.py").write_text("raise ImportError\n")
    return {"PYTHONPATH": f"{folder}:{Path(wsgi_oauth.__file__).parents[1]}"}


def test_a_missing_package_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch, provider: LocalProvider):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(errors.ConfigError, match=r"SESSION_SEAL=yes needs .* pip install 'wsgi-oauth\[sealed\]'"):
        create_app(Config.from_environ(environ_for(provider, SESSION_SEAL="yes")))
    create_app(Config.from_environ(environ_for(provider, SESSION_SEAL="no")))


def test_gunicorn_does_not_start_without_the_package(site: Site, without_cryptography: dict[str, str]):
    check = [sys.executable, "-m", "gunicorn", "--check-config", "wsgi_oauth:get_app()"]
    for seal, status in (("yes", 1), ("no", 0)):
        environ = environ_for(site.provider, SESSION_SEAL=seal) | without_cryptography
        done = subprocess.run(check, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == status, done.stderr
        assert ("pip install 'wsgi-oauth[sealed]'" in done.stderr) is (seal == "yes")


def test_who_does_not_seal_does_not_import_it(provider: LocalProvider):
    script = (
        "import os, sys, wsgi_oauth\n"
        "wsgi_oauth.create_app(wsgi_oauth.Config.from_environ(os.environ))\n"
        "print('cryptography' in sys.modules)"
    )
    for seal, imported in (("no", "False"), ("yes", "True")):
        environ = environ_for(provider, SESSION_SEAL=seal) | {"PYTHONPATH": str(Path(wsgi_oauth.__file__).parents[1])}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.strip() == imported
