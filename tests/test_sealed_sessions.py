"""Encrypted sessions (WSGI_OAUTH_SESSION_SEAL=yes): the store is useless without the browser's cookie (S52)."""

from __future__ import annotations

import base64
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
    Diary,
    Site,
    assert_keeps_secrets,
    at_the_same_time,
    environ_for,
    get_and_close,
    parameters,
    secrets_of,
)
from werkzeug import Response

import wsgi_oauth
from wsgi_oauth import Config, FileStore, LoginRequired, MemoryStore, SessionStore, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sessions.encoding import StoredSession, decode
from wsgi_oauth.sessions.encryption import Encryption, Label, derive_key
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.sessions.store import Record, store_key

HOUR = 3600
ENTRY = "a secret about cheese"

# The session with this id, as version 0.1 stored it.
OLD_ID = "A" * 42 + "b"
OLD_SESSION = base64.b64decode(
    "c2VhbGVkOjFB2tJ0gAAAAEHa0nSAYAAAAXZErvn/65ofIILGEZtLlaOYWlVP9yjURRvnF26HD7TpEzGxnyv45sQ2LT40KoBD8ZQWuoO10SSa9Hi/"
    "fcpOT5k5Nw0kQ8bM9pr03j6QbZWrdIMNpGSfKfM92rXHcZZnQI2sHCC9oLcydRHdFGSS/Pr8wkknffH9CV9nSk8jvgIelFgsjh5h3z9reJ4="
)


Make = Callable[..., Browser]


@pytest.fixture
def make_encrypted(make_browser: Make) -> Make:
    """Create browsers for an application that encrypts its sessions."""
    return partial(make_browser, handlers=(Diary,), SESSION_SEAL="yes")


def contents(store: SessionStore) -> bytes:
    """Return all keys and data of *store*, as in a stolen backup."""
    return b"\n".join(b"%b\n%b" % (key.encode(), store.load(key) or b"") for key in store.keys())


def replace(store: SessionStore, key: str, data: bytes) -> None:
    store.delete(key)
    store.create(key, Record(data, time.time() + HOUR))


# Confidentiality


def store_secrets(browser: Browser) -> tuple[set[str], set[str]]:
    """Sign in, write into the diary, start another sign-in; return the secrets and the words about the user."""
    browser.sign_in()
    profile = browser.profile().json
    browser.post("/diary", params={"entry": ENTRY})
    state = parameters(browser.start())["state"]
    return {*secrets_of(browser.provider, browser.cookie), ENTRY, state}, {profile["login"], str(profile["id"])}


def test_the_store_contains_no_readable_secrets_or_user_data(store: SessionStore, make_encrypted: Make):
    """S52"""
    secrets, user = store_secrets(make_encrypted())
    stolen = contents(store).decode("latin-1")
    assert stolen
    assert_keeps_secrets(stolen, secrets)
    assert not [word for word in (*user, "oauth_", "token", "entry") if word in stolen]


def test_without_encryption_they_are_readable(store: SessionStore, make_browser: Make):
    """This proves that the test above would find them."""
    browser = make_browser(handlers=(Diary,))
    _, user = store_secrets(browser)
    stolen = contents(store).decode("latin-1")
    assert all(word in stolen for word in (*user, ENTRY, "access_token"))
    assert browser.cookie not in stolen


def test_no_part_of_a_store_key_opens_a_session(store: SessionStore, make_encrypted: Make):
    """S52"""
    victim, thief = make_encrypted(), make_encrypted()
    victim.sign_in()
    for key in list(store.keys()):
        for guess in (key, key[:43], key[-43:]):
            thief.app.set_cookie("wsgi_oauth", guess)
            assert thief.profile().status_int == 401
            assert Encryption().decrypt(guess, key, store.load(key) or b"") is None


def test_every_write_has_a_new_nonce():
    """A repeated nonce would reveal both plaintexts (SP 800-38D, appendix A)."""
    encryption, label = Encryption(), Label(1, 1, True)
    written = [encryption.encrypt("an id", "a key", label, b"the same") for _ in range(1000)]
    assert len({raw[-30:-16] for raw in written}) == 1000


def test_the_key_is_derived_as_rfc_5869_says():
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    purpose = b"wsgi_oauth: the key that seals a session"
    for session_id in ("", "x", "A" * 43, "é" * 100):
        assert derive_key(session_id) == HKDF(SHA256(), 32, None, purpose).derive(session_id.encode())


def test_a_session_of_an_earlier_version_can_be_read():
    plain = Encryption().decrypt(OLD_ID, store_key(OLD_ID), OLD_SESSION)
    assert plain
    assert decode(plain) == StoredSession(1_800_000_000.0, 1_800_000_001.5, {"oauth_token": {"access_token": "token"}})


# Signing in and out


def test_sign_in_profile_and_sign_out_work(store: SessionStore, make_encrypted: Make):
    laptop, phone = make_encrypted(), make_encrypted()
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


def test_four_workers_refresh_once_and_sign_out_everywhere(site: Site):
    """S31, S42: each worker decrypts the sessions that another one has stored."""
    workers = ("--workers", "4", *WORKERS["gthread"])
    # Enough slots, however the requests are distributed.
    with site.serve(*workers, SESSION_SEAL="yes", UPSTREAM_LIMIT="32") as server, site.visitor(server) as visitor:
        visitor.sign_in()
        sessions = SessionManager(FileStore(site.sessions), idle=HOUR, lifetime=HOUR, encrypted=True)
        session = Session(sessions, sessions.read(visitor.cookie or ""), visitor.cookie)
        session.change(lambda data: data["oauth_token"].update(expires_at=time.time() - 1))
        copies = [visitor.copy() for _ in range(32)]
        answers = at_the_same_time(get_and_close, [(copy, "/profile") for copy in copies])
        assert [answer.status_code for answer in answers] == [200] * 32
        assert site.provider.count("refresh") == 1
        assert b"token" not in contents(sessions.store)
        before = visitor.copy()
        assert visitor.post("/logout").status_code == 303
        assert [get_and_close(before.copy(), "/profile").status_code for _ in range(8)] == [302] * 8
        before.web.close()


# Behind a gate


@pytest.fixture
def behind_gate(provider: LocalProvider, store: SessionStore) -> Browser:
    """Return a browser that has signed in at the gate and requested a page behind it."""

    def page(environ: Any, start_response: Any) -> Any:
        return Response(environ["REMOTE_USER"])(environ, start_response)

    app = create_app(Config.from_environ(environ_for(provider, SESSION_SEAL="yes")), store=store)
    browser = Browser(LoginRequired(page, app), provider)
    browser.get(browser.consent(browser.get("/auth/").location))
    assert browser.get("/page").text.startswith("583231@")
    return browser


def test_the_gate_admits_signed_in_users_only(behind_gate: Browser):
    assert {behind_gate.get("/page").status_int for _ in range(3)} == {200}
    cookie = behind_gate.cookie
    behind_gate.post("/auth/logout")
    behind_gate.app.set_cookie("wsgi_oauth", cookie)
    assert behind_gate.get("/page").status_int == 302


# Integrity


@pytest.fixture
def stored() -> tuple[SessionManager, str, bytes]:
    """Store an encrypted session; return its manager, its id and its bytes."""
    manager = SessionManager(MemoryStore(), idle=HOUR, lifetime=HOUR, encrypted=True)
    session = Session(manager)
    session.update(oauth_token={"access_token": "token"})
    manager.save(session)
    assert session.id
    return manager, session.id, manager.store.load(store_key(session.id)) or b""


def test_a_session_with_a_changed_bit_is_rejected(stored: tuple[SessionManager, str, bytes]):
    """S56: also in the label, which is readable."""
    manager, session_id, raw = stored
    for place in range(len(raw)):
        replace(
            manager.store, store_key(session_id), raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :]
        )
        assert manager.read(session_id) is None, f"byte {place}"
    replace(manager.store, store_key(session_id), raw)
    assert manager.read(session_id)


def test_a_truncated_or_extended_session_is_rejected(stored: tuple[SessionManager, str, bytes]):
    """S56"""
    manager, session_id, raw = stored
    for damaged in (*(raw[:length] for length in range(len(raw))), raw + b"\0"):
        replace(manager.store, store_key(session_id), damaged)
        assert manager.read(session_id) is None, len(damaged)


def test_a_session_is_valid_for_one_id_and_one_store_key_only():
    """S52: a copy of the attacker's session under the victim's key does not sign the victim in as the attacker."""
    encryption, key, other = Encryption(), "0" * 64, "1" * 64
    raw = encryption.encrypt("an id", key, Label(1, 1, True), b"{}")
    assert encryption.decrypt("an id", key, raw) == b"{}"
    assert encryption.decrypt("an id", other, raw) is None
    assert encryption.decrypt("another id", key, raw) is None


def test_a_damaged_session_is_anonymous_and_logged_without_its_id(
    store: SessionStore, make_encrypted: Make, caplog: pytest.LogCaptureFixture
):
    """S49, S56"""
    browser = make_encrypted()
    browser.sign_in()
    [key] = store.keys()
    replace(store, key, (store.load(key) or b"")[:-1])
    assert browser.get("/profile", headers=JSON).status_int == 401
    assert "stored session: damaged" in caplog.text
    assert not [secret for secret in (key, browser.cookie) if secret in caplog.text]


# Switching encryption on and off


@pytest.mark.parametrize(("before", "after"), [("no", "yes"), ("yes", "no")])
def test_users_sign_in_again_after_the_setting_changes(
    store: SessionStore, make_browser: Make, before: str, after: str, caplog: pytest.LogCaptureFixture
):
    """Machines with different settings can share a store: each ignores the other's sessions and says so in the log."""
    old, new = (make_browser(handlers=(Diary,), SESSION_SEAL=setting) for setting in (before, after))
    old.sign_in()
    records = {key: store.load(key) for key in store.keys()}
    new.app.set_cookie("wsgi_oauth", old.cookie)
    with caplog.at_level(logging.WARNING):
        new.post("/diary", params={"entry": ENTRY})
        assert new.profile().status_int == 401
    problem = "encrypted and WSGI_OAUTH_SESSION_SEAL is no"
    if after == "yes":
        problem = "not encrypted and WSGI_OAUTH_SESSION_SEAL is yes"
    assert f"stored session: ignored, because it is {problem}" in caplog.text
    assert {key: store.load(key) for key in records} == records
    new.sign_in()
    assert new.cookie != old.cookie
    assert (old.profile().status_int, new.profile().status_int) == (200, 200)


# The optional package


def test_a_missing_package_stops_the_start_only_with_encryption(
    monkeypatch: pytest.MonkeyPatch, provider: LocalProvider
):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(errors.ConfigError, match=r"SESSION_SEAL: yes needs .*; pip install 'wsgi-oauth\[sealed\]'"):
        create_app(Config.from_environ(environ_for(provider, SESSION_SEAL="yes")))
    create_app(Config.from_environ(environ_for(provider, SESSION_SEAL="no")))


def test_the_reason_why_the_package_cannot_be_imported_is_shown(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
):
    """mod_wsgi runs an application in a subinterpreter by default, which the package cryptography refuses."""
    monkeypatch.delattr("cryptography.exceptions.InvalidTag")
    with pytest.raises(errors.ConfigError, match=r"package cryptography \(got .cannot import name 'InvalidTag'"):
        create_app(Config.from_environ(environ_for(provider, SESSION_SEAL="yes")))


def test_gunicorn_does_not_start_with_encryption_and_without_the_package(site: Site, tmp_path: Path):
    (tmp_path / "cryptography.py").write_text("raise ImportError\n")
    check = [sys.executable, "-m", "gunicorn", "--check-config", "wsgi_oauth:get_app()"]
    for setting, status in (("yes", 1), ("no", 0)):
        environ = environ_for(site.provider, SESSION_SEAL=setting, ISSUER="")  # signatures need the package, too
        environ["PYTHONPATH"] = f"{tmp_path}:{Path(wsgi_oauth.__file__).parents[1]}"
        done = subprocess.run(check, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == status, done.stderr
        assert ("pip install 'wsgi-oauth[sealed]'" in done.stderr) is (setting == "yes")


def test_the_package_is_imported_only_with_encryption(provider: LocalProvider):
    script = (
        "import os, sys, wsgi_oauth\n"
        "wsgi_oauth.create_app(wsgi_oauth.Config.from_environ(os.environ))\n"
        "print('cryptography' in sys.modules)"
    )
    for setting, imported in (("no", "False"), ("yes", "True")):
        environ = environ_for(provider, SESSION_SEAL=setting, ISSUER="")  # signatures need the package, too
        environ["PYTHONPATH"] = str(Path(wsgi_oauth.__file__).parents[1])
        done = subprocess.run(
            [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.strip() == imported
