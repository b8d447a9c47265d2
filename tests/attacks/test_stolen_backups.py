"""An attacker has a copy of the session store: a stolen backup, a discarded disk, or an unprotected Redis server.

With ``WSGI_OAUTH_SESSION_SEAL=yes`` the copy is useless. The attacker also knows the application's code, and possibly
its configuration, so neither may contain the key.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import requests
from conftest import Browser

from wsgi_oauth import SessionStore
from wsgi_oauth.sessions.encryption import Encryption
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.store import Record

from .lesson import guarded_by


@pytest.fixture
def make_browser(make_browser: Callable[..., Browser]) -> Callable[..., Browser]:
    return partial(make_browser, SESSION_SEAL="yes")


def works_at_the_provider(victim: Browser, stolen: bytes) -> bool:
    """Return whether the provider accepts one of the tokens in *stolen*."""
    tokens = re.findall(rb'"access_token":"([^"]+)"', stolen)
    answers = [
        requests.get(victim.provider.profile_url, headers={"Authorization": f"Bearer {token.decode()}"}, timeout=10)
        for token in tokens
    ]
    return any(answer.status_code == 200 for answer in answers)


def store_plaintext(_encryption: Encryption, _session_id: str, _key: str, _label: Any, plain: bytes) -> bytes:
    return b"sealed:1" + plain


def load_plaintext(_encryption: Encryption, _session_id: str, _key: str, raw: bytes) -> bytes:
    return raw.removeprefix(b"sealed:1")


@guarded_by(
    {
        "wsgi_oauth.sessions.encryption.Encryption.encrypt": store_plaintext,
        "wsgi_oauth.sessions.encryption.Encryption.decrypt": load_plaintext,
    }
)
def test_the_tokens_in_a_stolen_backup_can_be_used(victim: Browser, store: SessionStore) -> bool:
    """S52. The backup contains no session id, but the tokens work at the provider without one."""
    victim.sign_in()
    assert victim.profile().status_int == 200
    backup = [store.load(name) or b"" for name in store.keys()]
    return any(works_at_the_provider(victim, stolen) for stolen in backup)


encrypt, decrypt = Encryption.encrypt, Encryption.decrypt


# The obvious mistake: the store's key is at hand and looks random.
def encrypt_with_store_key(encryption: Encryption, _session_id: str, key: str, label: Any, plain: bytes) -> bytes:
    return encrypt(encryption, key, key, label, plain)


def decrypt_with_store_key(encryption: Encryption, _session_id: str, key: str, raw: bytes) -> bytes | None:
    return decrypt(encryption, key, key, raw)


@guarded_by(
    {
        "wsgi_oauth.sessions.encryption.Encryption.encrypt": encrypt_with_store_key,
        "wsgi_oauth.sessions.encryption.Encryption.decrypt": decrypt_with_store_key,
    }
)
def test_the_encryption_key_can_be_computed_from_the_backup(victim: Browser, store: SessionStore) -> bool:
    """S52. Encryption is useless if the key is derived from data in the store."""
    victim.sign_in()
    assert victim.profile().status_int == 200
    thief = Encryption()
    backup = [(name, store.load(name) or b"") for name in store.keys()]
    return any(works_at_the_provider(victim, thief.decrypt(name, name, stolen) or b"") for name, stolen in backup)


decrypt_session = SessionManager.decrypt


# A tempting convenience: users stay signed in when encryption is switched on.
def accept_plaintext(sessions: SessionManager, session_id: str, raw: bytes) -> bytes | None:
    return raw if raw.startswith(b"{") else decrypt_session(sessions, session_id, raw)


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.decrypt": accept_plaintext})
def test_a_plaintext_session_can_be_planted_under_the_victims_key(
    victim: Browser, make_browser: Callable[..., Browser], store: SessionStore
) -> bool:
    """S52. The victim would work in the attacker's account, and enter private data there. To encrypt a session for the
    victim's browser, the attacker would need its cookie. To write a plaintext session, the attacker needs nothing.
    """
    victim.sign_in()
    [name] = store.keys()
    attacker = make_browser(SESSION_SEAL="no")
    attacker.get(attacker.consent(attacker.start(), user="mallory"))
    [own] = [each for each in store.keys() if each != name]
    planted = store.load(own) or b""
    store.delete(name)
    store.create(name, Record(planted, time.time() + 3600))
    return "mallory" in victim.profile().text
