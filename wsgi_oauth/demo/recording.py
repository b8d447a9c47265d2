"""Record the messages of a party: WSGI middleware around its application, from outside.

A server records each request that arrives and each response that it sends, so that every message between two parties
is recorded once, by the server. A request from another server, such as a token request, has a header that only the demo
adds (:func:`build_origin`). It contains the sender, the source lines and the request of the browser to which it
belongs. The middleware removes it, so neither the application nor the trace contains it. Requests of this package's
processes that the demo has not started are recognized by their User-Agent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import io
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from werkzeug.datastructures import EnvironHeaders
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from .messages import APPLICATION, BROWSER, MAX_BODY, PROVIDER, ROOT, Files, Message, SourceLine, load_json
from .recorder import TakesMessages
from .sources import IsHandler, Source, find_source, is_own_module

if TYPE_CHECKING:
    import socket

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ORIGIN_HEADER = "X-Demo-Origin"
"""The header that the demo adds to requests between servers."""

_ORIGIN_KEY = "HTTP_X_DEMO_ORIGIN"
_MAX_REQUEST_BODY = 1 << 20  # bytes; a longer body is not recorded, but passed on unread
_IGNORED = {"/favicon.ico", "/healthz"}  # requests of browsers and of the launcher, which belong to no sign-in


class Origin(NamedTuple):
    """The origin of a request: the browser, or another server with the source of the request."""

    sender: str = BROWSER
    parent: str = ""
    source: Source = Source()


def build_origin(key: str, sender: str, is_handler: IsHandler = lambda frame: False) -> str:
    """Return the value of :data:`ORIGIN_HEADER` for a request that this thread is about to send.

    :param key: the secret of the demo's processes: otherwise a browser could pretend to be a server.
    :param sender: the party that sends it, unless this thread is answering a request of another party.
    :param is_handler: recognizes the function of the sender that sends it, for the source line.
    """
    if (answering := _answering.get()) is None:
        source = find_source(is_handler)
        return json.dumps([key, sender, "", source.chain, source.main])
    source = find_source(answering.is_handler)
    return json.dumps([key, answering.request.receiver, answering.request.exchange, source.chain, source.main])


def read_origin(key: str, header: str) -> Origin:
    """Return the origin in the header's value. Without a valid header, the sender is the browser."""
    try:
        sent_key, sender, parent, chain, main = load_json(header)
        if not secrets.compare_digest(sent_key.encode(), key.encode()):
            return Origin()
        source = Source(tuple(SourceLine(*each) for each in chain), main and SourceLine(*main))
        is_own = all(is_own_module(os.path.normpath(ROOT / line.file)) for line in [source.main, *source.chain] if line)
        return Origin(sender, parent, source if is_own else Source())
    except (ValueError, TypeError, AttributeError):
        return Origin()


class _Answering:
    """A request that is being answered, and the response objects created for it, each with its source lines."""

    def __init__(self, request: Message, is_handler: IsHandler) -> None:
        self.request = request
        self.is_handler = is_handler
        self.created: list[tuple[Response, Source]] = []

    def find_source(self, status: int) -> Source | None:
        """Return the source lines of the response: the last created response object with *status*."""
        return next((source for response, source in reversed(self.created) if response.status_code == status), None)


_answering: ContextVar[_Answering | None] = ContextVar("answering", default=None)
_watch_lock = threading.Lock()


def watch_responses() -> None:
    """Record the source of each Werkzeug response, from now on and in this process. Idempotent.

    Responses outside a recorded request are ignored.
    """
    with _watch_lock:
        if hasattr(Response.__init__, "original"):
            return
        create = Response.__init__

        def watched_create(self: Response, *args: Any, **kwargs: Any) -> None:
            create(self, *args, **kwargs)
            if answering := _answering.get():
                answering.created.append((self, find_source(answering.is_handler)))

        watched_create.original = create  # type: ignore[attr-defined]
        Response.__init__ = watched_create  # type: ignore[method-assign]


class RecordedParty:
    """WSGI middleware that records the requests to a party and its responses.

    :param application: the party's own application.
    :param party: its name, such as ``provider``.
    :param recorder: takes the messages.
    :param is_handler: recognizes the functions of the party that answer requests, for the source lines.
    :param endpoint: returns the name of the endpoint at a path.
    :param read_session_files: returns the session files of a list of cookie headers.
    """

    def __init__(
        self,
        application: WSGIApplication,
        party: str,
        recorder: TakesMessages,
        *,
        is_handler: IsHandler = lambda frame: False,
        endpoint: Callable[[str], str] = lambda path: "",
        read_session_files: Callable[[list[str]], Files] = lambda cookies: {},
    ) -> None:
        watch_responses()
        self._application = application
        self._party = party
        self._recorder = recorder
        self._is_handler = is_handler
        self._endpoint = endpoint
        self._read_session_files = read_session_files

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        origin = read_origin(self._recorder.key, environ.pop(_ORIGIN_KEY, ""))
        if environ["PATH_INFO"] in _IGNORED:
            return self._application(environ, start_response)
        sender = origin.sender
        if self._party == PROVIDER and environ.get("HTTP_USER_AGENT", "").startswith("wsgi-oauth/"):
            sender = APPLICATION  # an application that the demo has not started, or `wsgi-oauth check`
        request = Message(
            sender=sender,
            receiver=self._party,
            exchange=secrets.token_hex(8),
            method=environ["REQUEST_METHOD"],
            url=_read_url(environ),
            headers=tuple(EnvironHeaders(environ).items()),
            body=_read_body(environ),
            time=time.time(),
            parent=origin.parent,
            endpoint=self._endpoint(environ["PATH_INFO"]),
            **_describe(origin.source),
        )
        self._recorder.add(request)
        record_response = partial(self._record_response, request, self._read_session_files([request.header("Cookie")]))
        connection = None
        if "werkzeug.socket" in environ:
            connection = environ["werkzeug.socket"] = _RawSocket(environ["werkzeug.socket"], record_response)
        answering = _Answering(request, self._is_handler)
        started: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            source = answering.find_source(int(status[:3])) or find_source(self._is_handler)
            started[:] = [status, headers, exc_info, source]
            return body.write

        body = io.BytesIO()
        token = _answering.set(answering)
        try:
            with contextlib.closing(ClosingIterator(self._application(environ, start))) as chunks:
                body.writelines(chunks)
        except BaseException:  # for example the ConnectionError by which a fault ends the connection
            if connection is None or not connection.has_sent:
                record_response(source=find_source(self._is_handler))
            raise
        finally:
            _answering.reset(token)
        status, headers, exc_info, source = started
        text = _text(body.getvalue(), dict(headers))
        record_response(status=int(status[:3]), headers=headers, body=text, source=source)
        start_response(status, headers, exc_info)
        return [body.getvalue()]

    def _record_response(
        self,
        request: Message,
        files_before: Files,
        *,
        status: int = 0,
        headers: Sequence[tuple[str, str]] = (),
        body: str = "",
        source: Source,
    ) -> None:
        """Record the response to *request*; without a status, the end of the connection.

        :param files_before: the session files of the request's cookies, before the request.
        """
        set_cookies = [value for name, value in headers if name.lower() == "set-cookie"]
        # A cookie that the response sets has no file in files_before.
        files_after = self._read_session_files([request.header("Cookie"), *set_cookies])
        response = dataclasses.replace(
            request,
            sender=request.receiver,
            receiver=request.sender,
            status=status,
            headers=tuple(headers),
            body=body,
            time=time.time(),
            session_before={name: files_before.get(name) for name in files_after},
            session_after=files_after,
            **_describe(source, status),
        )
        self._recorder.add(response)


class _RawSocket:
    """The connection of a request, to which a fault may write without the server."""

    def __init__(self, connection: socket.socket, record_response: Callable[..., None]) -> None:
        self._connection = connection
        self._record_response = record_response
        self.has_sent = False

    def sendall(self, data: bytes) -> None:
        """Record the beginning of the response, then send it."""
        if not self.has_sent:
            self.has_sent = True
            answering = _answering.get()
            source = find_source(answering.is_handler) if answering else Source()
            self._record_response(body=data[:MAX_BODY].decode("latin-1"), source=source)
        self._connection.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _read_url(environ: WSGIEnvironment) -> str:
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"]
    host = environ.get("HTTP_HOST", "")
    url = target if target.startswith("http") else f"{environ['wsgi.url_scheme']}://{host}{target}"
    try:
        urlsplit(url)
    except ValueError:  # a malformed Host header would break the pages on which the message appears
        return f"{environ['wsgi.url_scheme']}://malformed/{environ['PATH_INFO'].lstrip('/')}"
    return url


def _read_body(environ: WSGIEnvironment) -> str:
    """Return the request's body for the record, and leave it for the application."""
    length = environ.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()) or int(length) > _MAX_REQUEST_BODY:
        return "(not recorded)"
    if length == "0":
        return ""
    body = environ["wsgi.input"].read(int(length))
    environ["wsgi.input"] = io.BytesIO(body)
    return _text(body, {"Content-Type": environ.get("CONTENT_TYPE", "")})


def _text(body: bytes, headers: dict[str, str]) -> str:
    if "Content-Encoding" in headers:
        return f"({len(body)} bytes, {headers['Content-Encoding']})"
    text = body[:MAX_BODY].decode(errors="replace")
    return text if len(body) <= MAX_BODY else f"{text}\n(the first {MAX_BODY} of {len(body)} bytes)"


def _describe(source: Source, status: int = 0) -> dict[str, Any]:
    """Return the arguments of :class:`Message` for *source*. The source of an error is the line that raised it."""
    raised = source.raised if status >= http.client.BAD_REQUEST else None
    handler = source.main if raised and raised != source.main else None
    return {"source": raised or source.main, "handler": handler, "chain": source.chain}
