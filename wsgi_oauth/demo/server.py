"""A threaded HTTP/1.1 server for the demo and for tests. It is not for production.

Unlike Werkzeug's development server, it keeps connections open, as real providers do. So tests can
observe a client's connection pool: :attr:`Server.connections` counts the accepted connections.

An application can inject connection faults. It closes the connection without a response by raising
:class:`ConnectionError`, finds the socket in ``environ["werkzeug.socket"]``, and can wait for
``environ[CLOSING]``, an event that is set when the server is closed.
"""

from __future__ import annotations

import io
import logging
import socket
import ssl
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from werkzeug.datastructures import Headers
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.test import run_wsgi_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


log = logging.getLogger(__name__)

#: The ``environ`` key of the :class:`threading.Event` that is set when the server is closed.
CLOSING = "wsgi_oauth.demo.closing"

_MAX_BODY = 1 << 20  # bytes
_CLOSE_TIMEOUT = 2.0  # seconds that close() waits for the threads of open connections
_NO_BODY = frozenset({204, 304})


class Server:
    """A WSGI application on a TCP port, served by daemon threads.

    The constructor binds the port, so it raises :class:`OSError` when the port is in use.
    :meth:`start` accepts connections. As a context manager, the server closes itself at the end.
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
        # close() takes as long as the poll interval, whose default is half a second.
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.02,), name="demo-server", daemon=True
        )
        self.port: int = self._listener.port
        self.url = build_url("https" if ssl_context else "http", host, self.port)

    @property
    def connections(self) -> int:
        """The number of TCP connections accepted so far."""
        return self._listener.accepted

    def start(self) -> Server:
        """Start to accept connections; return the server."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening, close all open connections, and end waiting applications. Idempotent."""
        self._listener.closing.set()
        if self._thread.is_alive():
            self._listener.shutdown()
            self._thread.join()
        self._listener.server_close()
        self._listener.close_connections()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(
    application: WSGIApplication,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
) -> Server:
    """Serve a WSGI application: ``with serve(application) as server: get(server.url)``.

    :param port: 0 picks a free port.
    :raises OSError: when the port is in use.
    """
    return Server(application, host=host, port=port, ssl_context=ssl_context).start()


def build_url(scheme: str, host: str, port: int) -> str:
    """Return the URL of a server, without the default port, because browsers and libraries remove it."""
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    return url.removesuffix(":443" if scheme == "https" else ":80")


class Provider(Protocol):
    """A WSGI application that needs to know its own URL."""

    url: str
    server: Server

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse, /) -> Iterable[bytes]: ...


def serve_provider(
    provider: Provider,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
) -> Server:
    """Serve a provider, and set its server and its URL, which is also its issuer identifier."""
    provider.server = Server(provider, host=host, port=port, ssl_context=ssl_context)
    provider.url = provider.server.url
    return provider.server.start()


class _Handler(WSGIRequestHandler):
    """A connection, with any number of requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise a response in two packets waits for a delayed ACK
    wbufsize = -1  # buffered, so that headers and body are sent together

    if TYPE_CHECKING:
        server: _Listener

    def run_wsgi(self) -> None:
        """Answer one request. Unlike Werkzeug's own method, keep the connection open."""
        environ = self.make_environ()
        environ[CLOSING] = self.server.closing
        try:
            # Read the whole body first, because unread bytes would be taken for the next request.
            environ["wsgi.input"] = io.BytesIO(_read_body(environ))
            self._send(*run_wsgi_app(self.server.app, environ))
        except ConnectionError:  # the client or the application has closed the connection
            self.close_connection = True
        except HTTPException as error:  # the body is invalid, so the next request cannot be found
            self.close_connection = True
            self._send(*run_wsgi_app(error, environ))
        except Exception:
            log.exception("%s %s failed", self.command, environ["PATH_INFO"])
            self.close_connection = True

    def _send(self, body: Iterable[bytes], status: str, headers: Headers) -> None:
        code, _, reason = status.partition(" ")
        try:
            self.send_response(int(code), reason)
            for name, value in headers:
                self.send_header(name, value)
            if "Content-Length" not in headers and int(code) not in _NO_BODY:
                self.close_connection = True  # the end of the connection marks the end of the body
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
        """Write no log, because request lines contain codes and states."""


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
    """The listening socket. It counts all connections, and keeps a list of the open ones to close them."""

    def __init__(self, host: str, port: int, application: WSGIApplication, ssl_context: ssl.SSLContext | None) -> None:
        self.closing = threading.Event()
        self.accepted = 0
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # The port is bound here, because Werkzeug would end the process if the port were in use.
        with socket.create_server((host, port), family=family, backlog=128) as bound:
            super().__init__(host, port, application, _Handler, ssl_context=ssl_context, fd=bound.fileno())
        if ssl_context:
            # Do the TLS handshake in the connection's thread, because it would block accept().
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

    def close_connections(self) -> None:
        """Close all connections, which wakes the threads that read from them, and wait for these threads."""
        with self._changed:
            for connection in self._open:
                try:
                    # SSLSocket.shutdown() would discard the TLS state that the thread uses.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
                except OSError:  # already closed
                    continue
            self._changed.wait_for(lambda: not self._open, timeout=_CLOSE_TIMEOUT)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log errors only at DEBUG level, because many tests break connections on purpose."""
        log.debug("connection failed", exc_info=True)  # noqa: LOG014  # called by an exception handler
