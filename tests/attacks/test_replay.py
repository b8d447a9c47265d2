"""The same answer once more (RFC 9700 4.2.4): a callback URL stands in histories, proxies' logs and reloaded tabs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import HTML, Browser, send
from werkzeug import Response

from wsgi_oauth import sign_in
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sign_in import STATE

from .conftest import exchanged_codes
from .lesson import guarded_by


def look_and_leave_it_there(data: dict[str, Any], state: str) -> dict[str, Any] | None:
    record = data.get(STATE, {}).get(state)
    return dict(record) if record else None


@guarded_by({"wsgi_oauth.sign_in._claim": look_and_leave_it_there})
def test_copies_of_a_callback_at_the_same_time_are_each_exchanged(
    victim: Browser, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """S3. "Look whether it is there, then take it away" are two steps, and between them there is room for a crowd.

    The provider answers only when a second copy has come in, or waits for the first one as it should.
    """
    everybody_is_here = threading.Event()
    wait, exchange = sign_in._wait_for_the_first_copy, provider.token

    def waiting(*arguments: Any) -> None:
        everybody_is_here.set()
        wait(*arguments)

    def token(request: Any) -> Response:
        if provider.count("token") > 1:
            everybody_is_here.set()
        everybody_is_here.wait(30)
        return exchange(request)

    monkeypatch.setattr(sign_in, "_wait_for_the_first_copy", waiting)
    provider.routes["/token"] = ("token", {"POST": token})
    callback = victim.callback_url()
    copy = threading.Thread(target=visit, args=(victim, callback))
    copy.start()
    visit(victim, callback)
    copy.join()
    return len(exchanged_codes(provider)) > 1


def visit(browser: Browser, callback: str) -> None:
    headers = {**HTML, "Cookie": f"wsgi_oauth={browser.cookie}"}
    send(browser.app.app, "/callback", query=callback.partition("?")[2], headers=headers)


def for_ever(data: dict[str, Any]) -> dict[str, Any]:
    return data.get(STATE, {})


@guarded_by({"wsgi_oauth.sign_in._alive": for_ever})
def test_a_callback_that_somebody_finds_in_the_history_an_hour_later_still_works(
    victim: Browser, provider: LocalProvider, later: Callable[[float], None]
) -> bool:
    """S4. The victim, signed in, has begun once more and left; the state expires on the server, whatever is kept."""
    victim.sign_in()
    callback = victim.callback_url()
    later(3600)
    victim.get(callback)
    return len(exchanged_codes(provider)) > 1
