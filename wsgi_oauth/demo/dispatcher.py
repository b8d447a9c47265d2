"""The server of the launcher's process: the provider, and the demo's own pages in front of it.

The demo's own pages are below ``/trace`` and ``/lab`` on the provider's port. Their requests are not recorded.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from types import FrameType
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from . import faults
from .local_provider import LocalProvider
from .messages import PROVIDER, Message
from .recorder import Recorder, TakesMessages
from .recording import RecordedParty

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

RECORDER_PATH = "/trace/messages"
"""The path at which the other processes of the demo send their messages."""

_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.ASCII)


class Dispatcher:
    """The provider, recorded, and the demo's own pages.

    :param provider: gets every request that is not for a page of the demo.
    """

    def __init__(self, provider: LocalProvider, recorder: Recorder) -> None:
        self.provider = provider
        self.recorder = recorder
        #: The demo's own pages: a WSGI application by the first segment of its paths, such as ``/trace``.
        self.pages: dict[str, WSGIApplication] = {}
        self._recorded = record_provider(provider, recorder)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        page = self.pages.get("/" + path.split("/")[1]) if path.startswith("/") else None
        if path == RECORDER_PATH:
            return self._receive(Request(environ))(environ, start_response)
        if page is None:
            return self._recorded(environ, start_response)
        if not _LOOPBACK.fullmatch(environ.get("HTTP_HOST", "")):
            # These pages show secrets. A script of another site could read them after DNS rebinding.
            refusal = Response("Open this page at 127.0.0.1 or localhost.\n", 421)
            return refusal(environ, start_response)
        return page(environ, start_response)

    def _receive(self, request: Request) -> Response:
        """Record a message of another process."""
        authorization = request.headers.get("Authorization", "").encode()
        if (
            not secrets.compare_digest(authorization, f"Bearer {self.recorder.key}".encode())
            or request.method != "POST"
        ):
            return Response("Only the demo's own processes may send messages.\n", 403)
        try:
            self.recorder.add(Message.from_json(request.get_data()))
        except (ValueError, TypeError, KeyError) as error:
            return Response(f"message: invalid ({error!r})\n", 400)
        return Response(status=204)


def record_provider(provider: LocalProvider, recorder: TakesMessages, *, party: str = PROVIDER) -> RecordedParty:
    """Return *provider* with recording of its messages.

    :param party: the provider's name in the trace.
    """

    def is_handler(frame: FrameType) -> bool:
        handlers = (each for _, methods in provider.routes.values() for each in methods.values())
        is_fault = frame.f_code.co_filename == faults.__file__
        return is_fault or any(getattr(each, "__code__", None) is frame.f_code for each in handlers)

    def endpoint(path: str) -> str:
        return provider.routes.get(path, ("", {}))[0]

    return RecordedParty(provider, party, recorder, is_handler=is_handler, endpoint=endpoint)
