"""A small threaded HTTP/1.1 server, for the demo and for tests.

Werkzeug's own development server closes the connection after each answer. This one keeps it, as
real providers do, so that a client's connection pool can be watched: :attr:`Server.connections`
counts what was accepted. It also lets an application misbehave on purpose: raising
:class:`ConnectionError` hangs up without a word, ``environ["werkzeug.socket"]`` is the raw socket,
and ``environ[CLOSING]`` an event that is set when the server closes, for whoever waits.

Not for production: loopback only, by default and by intent.
"""

from __future__ import annotations

import io
import logging
import socket
import ssl
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import Headers
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.test import run_wsgi_app

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

    from .local_provider import LocalProvider

log = logging.getLogger(__name__)

#: The ``environ`` key of the :class:`threading.Event` that is set when the server closes.
CLOSING = "wsgi_oauth.demo.closing"

_MAX_BODY = 1 << 20
_LOCK_TIMEOUT = 2.0  # seconds that close() waits for threads that are on their way out
_NO_BODY = frozenset({204, 304})


class Server:
    """An application on a TCP port of its own, answered by daemon threads.

    Binding happens here, so a taken port raises :class:`OSError` at once and the port is known
    before anything is served; :meth:`start` begins to answer. As a context manager it closes
    itself at the end.
    """

    def __init__(
        self,
        application: WSGIApplication,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._listener = _Listener(host, port, application, ssl_context)
        # The default poll interval of half a second is how long close() would take.
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.02,), name="demo-server", daemon=True
        )
        self.port: int = self._listener.port
        scheme = "https" if ssl_context else "http"
        self.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many TCP connections were accepted so far."""
        return self._listener.accepted

    def start(self) -> Server:
        """Begin to answer; returns itself."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening, end every open connection and whatever still waits. Idempotent."""
        self._listener.closing.set()
        if self._thread.is_alive():
            self._listener.shutdown()
            self._thread.join()
        self._listener.server_close()
        self._listener.hang_up_everywhere()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def serve(
    application: WSGIApplication,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
) -> Server:
    """Serve any WSGI application: ``with serve(application) as server: get(server.url)``.

    Port 0 picks a free one. Raises :class:`OSError` when the port is taken.
    """
    return Server(application, host=host, port=port, ssl_context=ssl_context).start()


def serve_provider(
    provider: LocalProvider,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
) -> Server:
    """Serve a provider and tell it its URL, which is its issuer as well, before anybody asks."""
    server = Server(provider, host=host, port=port, ssl_context=ssl_context)
    provider.url = server.url
    return server.start()


class _Handler(WSGIRequestHandler):
    """One connection: any number of requests, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an answer in two packets waits for a delayed ACK
    wbufsize = -1  # headers and body leave together

    if TYPE_CHECKING:
        server: _Listener

    def run_wsgi(self) -> None:
        """Answer one request and, unlike Werkzeug's own method, keep the connection."""
        environ = self.make_environ()
        environ[CLOSING] = self.server.closing
        try:
            # Read in full before the answer: what is left unread would be the next request.
            environ["wsgi.input"] = io.BytesIO(_read_body(environ))
            self._answer(*run_wsgi_app(self.server.app, environ))
        except ConnectionError:  # the client went away, or the application wants to hang up
            self.close_connection = True
        except HTTPException as refusal:  # of a body that cannot be read, so neither can the rest
            self.close_connection = True
            self._answer(*run_wsgi_app(refusal, environ))
        except Exception:
            log.exception("%s %s failed", self.command, environ["PATH_INFO"])
            self.close_connection = True

    def _answer(self, body: Iterable[bytes], status: str, headers: Headers) -> None:
        code, _, reason = status.partition(" ")
        try:
            self.send_response(int(code), reason)
            for name, value in headers:
                self.send_header(name, value)
            if "Content-Length" not in headers and int(code) not in _NO_BODY:
                self.close_connection = True  # the end of the connection ends the body
            if self.close_connection and "Connection" not in headers:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                for chunk in body:
                    self.wfile.write(chunk)
                    self.wfile.flush()
            self.wfile.flush()
        finally:
            if hasattr(body, "close"):
                body.close()

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002  # Werkzeug's name
        """Say nothing: a request line here holds codes and states."""


def _read_body(environ: WSGIEnvironment) -> bytes:
    stream = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):  # chunked
        body = io.BufferedReader(stream).read(_MAX_BODY + 1)
    else:
        length = environ.get("CONTENT_LENGTH") or "0"
        if not (length.isascii() and length.isdigit()):
            raise BadRequest("Content-Length is not a number.")
        body = stream.read(min(int(length), _MAX_BODY + 1))
    if len(body) > _MAX_BODY:
        raise RequestEntityTooLarge
    return body


class _Listener(ThreadedWSGIServer):
    """Counts connections, and remembers the open ones to be able to end them."""

    def __init__(
        self,
        host: str,
        port: int,
        application: WSGIApplication,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.closing = threading.Event()
        self.accepted = 0
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # Werkzeug ends the process when a port is taken; a socket of our own raises OSError.
        with socket.create_server((host, port), family=family, backlog=128) as bound:
            super().__init__(host, port, application, _Handler, ssl_context=ssl_context, fd=bound.fileno())
        if ssl_context:
            # Shake hands in the connection's own thread, at its first read, not in accept().
            listening: Any = self.socket
            listening.do_handshake_on_connect = False

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self.accepted += 1
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def hang_up_everywhere(self) -> None:
        """End all connections, which wakes the threads that read from them; wait for these."""
        with self._changed:
            for connection in self._open:
                try:
                    # Not SSLSocket.shutdown(): it would take the TLS state away from its thread.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
                except OSError:  # it had ended by itself
                    continue
            self._changed.wait_for(lambda: not self._open, timeout=_LOCK_TIMEOUT)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that ended badly is what many tests are about: no traceback on stderr."""
        log.debug("a connection ended badly", exc_info=True)  # noqa: LOG014  # called while one is handled
