"""The application of the demo: ``wsgi_oauth:get_app()``, recorded from outside.

The launcher starts gunicorn with :func:`get_app` of this module. The application has no code for the recording: it
gets a WSGI middleware around it, and its transport a wrapper. Both exist only in the demo's processes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import wsgi_oauth

from ..sessions import manager
from ..sessions.cookie import COOKIE, SESSION_ID
from ..transport.adapter import BoundedAdapter
from ..web.handler import METHODS, RequestHandler
from .messages import APPLICATION, Files
from .recorder import RemoteRecorder, TakesMessages
from .recording import ORIGIN_HEADER, RecordedParty, build_origin

if TYPE_CHECKING:
    import requests
    from _typeshed.wsgi import WSGIApplication

RECORDER_URL, RECORDER_KEY = "DEMO_RECORDER_URL", "DEMO_RECORDER_KEY"
"""The environment variables of the recorder."""

_COOKIE = re.compile(rf"{COOKIE}[\w.-]*=({SESSION_ID.pattern})", re.ASCII)


def get_app() -> WSGIApplication:
    """Return the application for the environment variables, with recording: for gunicorn."""
    recorder = RemoteRecorder(os.environ[RECORDER_URL], os.environ[RECORDER_KEY])
    sessions = Path(os.environ["WSGI_OAUTH_SESSION_STORE"].removeprefix("file:"))
    return record_application(wsgi_oauth.get_app(), recorder, sessions)


def record_application(application: WSGIApplication, recorder: TakesMessages, sessions: Path) -> WSGIApplication:
    """Return *application*, with recording of its messages and of the requests that it sends to a provider.

    :param sessions: the folder of its file store.
    """
    record_requests(recorder.key)
    return RecordedParty(
        application,
        APPLICATION,
        recorder,
        is_handler=is_handler,
        read_session_files=lambda cookies: read_session_files(sessions, cookies),
    )


def is_handler(frame: FrameType) -> bool:
    """Return whether *frame* runs a method like ``get`` of a :class:`RequestHandler`."""
    return frame.f_code.co_name in METHODS and isinstance(frame.f_locals.get("self"), RequestHandler)


def record_requests(key: str) -> None:
    """Add the header of the recording to all requests that this process sends to a provider.

    :param key: the secret of the demo's processes.
    """
    send: Callable[..., Any] = getattr(BoundedAdapter._send, "original", BoundedAdapter._send)

    def send_with_origin(self: BoundedAdapter, request: requests.PreparedRequest, deadline: float) -> Any:
        request.headers[ORIGIN_HEADER] = build_origin(key, APPLICATION)
        return send(self, request, deadline)

    send_with_origin.original = send  # type: ignore[attr-defined]
    BoundedAdapter._send = send_with_origin  # type: ignore[method-assign]


def read_session_files(folder: Path, cookies: list[str]) -> Files:
    """Return the session files of the session ids in the given headers ``Cookie`` and ``Set-Cookie``."""
    ids = [match for cookie in cookies for match in _COOKIE.findall(cookie)]
    # Called by its module, because an attack of the lab replaces it there.
    names = dict.fromkeys(f"{manager.store_key(each)}.json" for each in ids)  # type: ignore[attr-defined]
    return {name: _read_json(folder / name) for name in names}


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):  # ValueError, because some records of the store are not JSON
        return None
