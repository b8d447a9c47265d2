"""Floods: the effects of a page full of images, or of a script in a loop, must stay small."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from conftest import HTML, Browser, environ_for, send, stored_sessions
from werkzeug import Response

from wsgi_oauth import Config, FileStore, RequestHandler, SessionStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sessions import manager

from .lesson import guarded_by

IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors", "Accept": "image/*"}


@guarded_by({"wsgi_oauth.web.request.Request.is_prefetch_or_subresource": False})
def test_page_full_of_images_evicts_the_pending_sign_in_of_the_victim(victim: Browser) -> bool:
    """S43. Fifty `<img src="https://app.example.com/">` load while the victim is at the provider."""
    started = victim.start()
    for _ in range(50):
        victim.get("/", headers=IMAGE)
    return victim.get(victim.consent(started)).status_int != 303


@guarded_by({"wsgi_oauth.web.request.Request.is_prefetch_or_subresource": False})
def test_prefetch_of_the_callback_consumes_the_code(victim: Browser, provider: LocalProvider) -> bool:
    """S16. Only a navigation may finish a sign-in."""
    victim.get(victim.callback_url(), headers={"Sec-Purpose": "prefetch"})
    return provider.count("token") > 0


@guarded_by({"wsgi_oauth.web.request.MAX_ACCEPT": 10**9})
def test_thousands_of_languages_keep_the_worker_busy(victim: Browser) -> bool:
    """S48. Lists in headers are capped like bodies: otherwise this one makes an error page 15 times as expensive."""
    languages = "xx;q=0.1," * 800 + "de"
    return 'lang="de"' in victim.get("/nothing", headers={**HTML, "Accept-Language": languages}).text


@guarded_by({"wsgi_oauth.web.application.MAX_PENDING": 10**9})
def test_repeated_starts_fill_the_cookies_and_the_store(victim: Browser, store: SessionStore) -> bool:
    """S5. Servers accept about 8 kB of cookies."""
    for _ in range(150):
        victim.start("/" + "n" * 1000)
    return len(victim.cookie_header) > 8000 or len(stored_sessions(store)) > 100


@guarded_by({"wsgi_oauth.sessions.manager._HourlyLimit.take": lambda limit: True})
@guarded_by({"wsgi_oauth.sessions.file.FileStore.sweep_slice": lambda store: None})
def test_abandoned_sign_ins_fill_the_disk(
    provider: LocalProvider, tmp_path: Any, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> bool:
    """S59. Only a few are kept longer than a sign-in may take, and each creation of a session deletes expired ones."""
    monkeypatch.setattr(manager, "_LATE_RESPONSES_PER_HOUR", 5)
    store = FileStore(tmp_path / "sessions")
    app = create_app(Config.from_environ(environ_for(provider)), store=store)
    for _ in range(10):
        for _ in range(30):
            send(app, "/", headers=HTML)
        later(3601)
    return len(os.listdir(store.folder)) > 150


class Form(RequestHandler):
    """A handler that reads the body of an anonymous request."""

    route = "/form"

    def post(self, request: Any) -> Response:
        return self.jsonify({"read": len(request.get_data())})


class Endless:
    """A body without an announced length."""

    given = 0

    def read(self, size: int = -1) -> bytes:
        part = b"x" * min(size if size >= 0 else 65536, 65536, 8 * 1024 * 1024 - self.given)
        self.given += len(part)
        return part


@guarded_by({"wsgi_oauth.web.request.MAX_BODY": 10**9, "wsgi_oauth.web.request.Request.max_content_length": None})
def test_endless_body_fills_the_memory(provider: LocalProvider, store: SessionStore) -> bool:
    """S48. A chunked body does not announce its length."""
    app = create_app(Config.from_environ(environ_for(provider)), store=store, handlers=[Form])
    body = Endless()
    send(app, "/form", method="POST", headers=HTML, wsgi__input=body, wsgi__input_terminated=True)
    return body.given > 1024 * 1024
