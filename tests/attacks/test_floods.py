"""Floods: a page full of images, a script in a loop. What anybody can cause without signing in has to be small."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from conftest import HTML, Browser, environ_for, send, stored_sessions
from werkzeug import Response

from wsgi_oauth import Config, FileStore, RequestHandler, SessionStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sessions.encoding import StoredSession
from wsgi_oauth.sessions.manager import SessionManager

from .lesson import guarded_by

IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors", "Accept": "image/*"}


@guarded_by({"wsgi_oauth.web.handler.Request.is_ahead_of_time": False})
def test_a_page_full_of_images_pushes_the_victims_own_sign_in_out(victim: Browser) -> bool:
    """S43. Fifty times <img src="https://app.example.com/">, while the victim types the password at the provider."""
    started = victim.start()
    for _ in range(50):
        victim.get("/", headers=IMAGE)
    return victim.get(victim.consent(started)).status_int != 303


@guarded_by({"wsgi_oauth.web.handler.Request.is_ahead_of_time": False})
def test_a_browser_that_prefetches_the_callback_uses_the_answer_up(victim: Browser, provider: LocalProvider) -> bool:
    """S16. Nobody has clicked yet; what signs somebody in has to be a navigation."""
    victim.get(victim.callback_url(), headers={"Sec-Purpose": "prefetch"})
    return provider.count("token") > 0


@guarded_by({"wsgi_oauth.sign_in.MAX_RECORDS": 10**9})
def test_one_browser_that_starts_again_and_again_grows_its_session_without_end(
    victim: Browser, store: SessionStore
) -> bool:
    """S5."""
    for _ in range(150):
        victim.start("/" + "n" * 1000)
    [session] = stored_sessions(store)
    return len(json.dumps(session)) > 65536


def as_long_as_everybody(sessions: SessionManager, stored: StoredSession) -> float:
    return stored.seen + sessions._idle


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.expiry": as_long_as_everybody})
@guarded_by({"wsgi_oauth.sessions.file.FileStore._sweep_slice": lambda store: None})
def test_who_never_comes_back_fills_the_disk_with_sessions(
    provider: LocalProvider, tmp_path: Any, later: Callable[[float], None]
) -> bool:
    """S59. A start leaves a session of ten minutes, and whoever makes new ones takes the old ones away."""
    store = FileStore(tmp_path / "sessions")
    app = create_app(Config.from_environ(environ_for(provider)), store=store)
    for _ in range(10):
        for _ in range(30):
            send(app, "/", headers=HTML)
        later(601)
    return len(os.listdir(store.folder)) > 150


class Form(RequestHandler):
    """A page of somebody's own that reads a form, before anybody has signed in."""

    route = "/form"

    def post(self, request: Any) -> Response:
        return self.jsonify({"read": len(request.get_data())})


class Endless:
    """A body that never says how long it is."""

    given = 0

    def read(self, size: int = -1) -> bytes:
        part = b"x" * min(size if size >= 0 else 65536, 65536, 8 * 1024 * 1024 - self.given)
        self.given += len(part)
        return part


@guarded_by({"wsgi_oauth.web.handler.MAX_BODY": 10**9, "wsgi_oauth.web.handler.Request.max_content_length": None})
def test_a_body_without_end_fills_the_memory(provider: LocalProvider, store: SessionStore) -> bool:
    """S48. Chunked, so no length announces it."""
    app = create_app(Config.from_environ(environ_for(provider)), store=store, handlers=[Form])
    body = Endless()
    send(app, "/form", method="POST", headers=HTML, wsgi__input=body, wsgi__input_terminated=True)
    return body.given > 1024 * 1024
