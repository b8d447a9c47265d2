"""Replay (RFC 9700 4.2.4): a callback URL is in histories, proxy logs and restored tabs, and is requested once more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import HTML, Barrier, Browser, send

from wsgi_oauth import MemoryStore, SessionStore
from wsgi_oauth.demo.lab.parties import exchanged_codes
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sign_in import STATE

from .lesson import guarded_by


class WatchedStore(MemoryStore):
    """A store that reports each update."""

    def __init__(self) -> None:
        super().__init__()
        self.updated = threading.Event()

    def update(self, *arguments: Any, **more: Any) -> bool:
        try:
            return super().update(*arguments, **more)
        finally:
            self.updated.set()


@pytest.fixture
def store() -> SessionStore:
    return WatchedStore()


def read_without_marking(data: dict[str, Any], state: str) -> dict[str, Any] | None:
    record = data.get(STATE, {}).get(state)
    return dict(record) if record else None


@guarded_by({"wsgi_oauth.sign_in.consume_record": read_without_marking})
def test_concurrent_copies_of_a_callback_are_both_exchanged(
    victim: Browser, provider: LocalProvider, store: WatchedStore, barrier: Callable[[str], Barrier]
) -> bool:
    """S3. Looking up a state and deleting it must be one step, because a second copy can arrive between two steps."""
    callback = victim.callback_url()
    headers = {**HTML, "Cookie": victim.cookie_header}

    def request_callback() -> None:
        send(victim.app.app, "/callback", query=callback.partition("?")[2], headers=headers)

    token_endpoint = barrier("token")
    with ThreadPoolExecutor(2) as threads:
        threads.submit(request_callback)
        token_endpoint.wait_for(1)
        store.updated.clear()
        threads.submit(request_callback)
        assert store.updated.wait(30), "the second copy has not looked up its state"
        token_endpoint.open()
    return len(exchanged_codes(provider)) > 1


@guarded_by({"wsgi_oauth.sign_in.is_late": lambda record, lifetime: False})
def test_callback_from_the_history_is_accepted_an_hour_later(
    victim: Browser, provider: LocalProvider, later: Callable[[float], None]
) -> bool:
    """S4. A signed-in victim has started another sign-in and left. The server must not exchange its code."""
    victim.sign_in()
    callback = victim.callback_url()
    later(3600)
    victim.get(callback)
    return len(exchanged_codes(provider)) > 1
