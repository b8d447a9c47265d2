"""The store in the hands of somebody who has no cookie: a backup, a disk from a bin, a dump of a Redis that was open to
the network. With ``WSGI_OAUTH_SESSION_SEAL=yes`` there is nothing in it.

Whoever can read it has the application's code, too, and with a disk its configuration. So the key must be in neither.
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

from wsgi_oauth import MemoryStore, SessionStore
from wsgi_oauth.sessions.encryption import Encryption
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.store import Record

from .lesson import guarded_by


@pytest.fixture
def store() -> SessionStore:
    return MemoryStore()


@pytest.fixture
def make_browser(make_browser: Callable[..., Browser]) -> Callable[..., Browser]:
    return partial(make_browser, SESSION_SEAL="yes")


def works_at_the_provider(victim: Browser, stolen: bytes) -> bool:
    """Use every token that is in *stolen*, without the application."""
    tokens = re.findall(rb'"access_token":"([^"]+)"', stolen)
    answers = [
        requests.get(victim.provider.profile_url, headers={"Authorization": f"Bearer {token.decode()}"}, timeout=10)
        for token in tokens
    ]
    return any(answer.status_code == 200 for answer in answers)


def in_the_open(_seal: Encryption, _session_id: str, _name: str, _label: Any, plain: bytes) -> bytes:
    return b"sealed:1" + plain


def as_it_lies_there(_seal: Encryption, _session_id: str, _name: str, raw: bytes) -> bytes:
    return raw.removeprefix(b"sealed:1")


@guarded_by(
    {
        "wsgi_oauth.sessions.encryption.Encryption.encrypt": in_the_open,
        "wsgi_oauth.sessions.encryption.Encryption.decrypt": as_it_lies_there,
    }
)
def test_who_steals_the_backup_uses_the_tokens_in_it(victim: Browser, store: SessionStore) -> bool:
    """S52. The session's id is not in the backup, and the tokens need none: they are good at the provider."""
    victim.sign_in()
    assert victim.profile().status_int == 200
    backup = [store.load(name) or b"" for name in store.keys()]
    return any(works_at_the_provider(victim, stolen) for stolen in backup)


close, open_ = Encryption.encrypt, Encryption.decrypt


# What comes to mind first: the application has the name at hand, and it looks random.
def with_a_key_from_the_name(seal: Encryption, _session_id: str, name: str, label: Any, plain: bytes) -> bytes:
    return close(seal, name, name, label, plain)


def by_the_name(seal: Encryption, _session_id: str, name: str, raw: bytes) -> bytes | None:
    return open_(seal, name, name, raw)


@guarded_by(
    {
        "wsgi_oauth.sessions.encryption.Encryption.encrypt": with_a_key_from_the_name,
        "wsgi_oauth.sessions.encryption.Encryption.decrypt": by_the_name,
    }
)
def test_the_key_lies_beside_the_lock(victim: Browser, store: SessionStore) -> bool:
    """S52. Everything is encrypted, and whoever has the backup and the code has all that the key is made of."""
    victim.sign_in()
    assert victim.profile().status_int == 200
    thief = Encryption()
    backup = [(name, store.load(name) or b"") for name in store.keys()]
    return any(works_at_the_provider(victim, thief.decrypt(name, name, stolen) or b"") for name, stolen in backup)


unsealed = SessionManager.decrypt


# To sign nobody out on the day on which sealing is switched on.
def also_what_is_not_sealed(sessions: SessionManager, session_id: str, raw: bytes) -> bytes | None:
    return raw if raw.startswith(b"{") else unsealed(sessions, session_id, raw)


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.decrypt": also_what_is_not_sealed})
def test_a_restored_backup_has_the_attackers_session_under_the_victims_name(
    victim: Browser, make_browser: Callable[..., Browser], store: SessionStore
) -> bool:
    """S52. From then on the victim works, and keeps what is private, in the account of the attacker. To seal a session
    for the victim's browser the attacker would need its cookie; to write one that is not sealed, nothing.
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
