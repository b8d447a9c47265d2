"""Refresh and revocation: tokens that stay valid too long, or not long enough (RFC 6749 6, RFC 7009)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from conftest import JSON, Browser, send
from werkzeug import Response

from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.oauth import refresh

from .conftest import issued_tokens
from .lesson import guarded_by


@guarded_by({"wsgi_oauth.oauth.registration.Registration.revoke": lambda registration, token: None})
def test_stolen_token_stays_valid_after_the_sign_out(
    make_browser: Callable[..., Browser], provider: LocalProvider
) -> bool:
    """S44. A token from a backup, a memory dump or a log must be revoked at the provider."""
    victim = make_browser(REVOCATION_URL=provider.revocation_url)
    victim.sign_in()
    [stolen] = issued_tokens(provider)
    victim.post("/logout")
    used = requests.get(provider.profile_url, headers={"Authorization": f"Bearer {stolen}"}, timeout=10)
    return used.status_code == 200


@guarded_by({"wsgi_oauth.oauth.refresh.acquire_lease": lambda *_, **__: True})
def test_two_tabs_at_the_same_time_use_a_refresh_token_twice(
    victim: Browser, provider: LocalProvider, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> bool:
    """S31, RFC 9700 4.14.2. The provider takes the second use for theft, and revokes the grant.

    The provider answers when a second refresh request has arrived, or when the second tab waits for the first.
    """
    both_arrived = threading.Event()
    check, answer = refresh.check_result, provider.token

    def watched(lease: dict[str, Any], owner: str) -> None:
        check(lease, owner)
        if lease.get("by"):
            both_arrived.set()

    def token(request: Any) -> Response:
        if provider.count("refresh") > 1:
            both_arrived.set()
        both_arrived.wait(30)
        return answer(request)

    victim.sign_in()
    later(3601)
    monkeypatch.setattr(refresh, "check_result", watched)
    provider.routes["/token"] = ("token", {"POST": token})
    headers = {**JSON, "Cookie": f"wsgi_oauth={victim.cookie}"}
    with ThreadPoolExecutor(2) as tabs:
        for _ in range(2):
            tabs.submit(send, victim.app.app, "/profile", headers=headers)
    return provider.count("refresh") > 1
