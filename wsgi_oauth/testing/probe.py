"""Observe and replace the application behind the gate during a check."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest import mock

from ..gate.middleware import LoginRequired
from ..web.application import OAuthApp

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class ProbeApplication:
    """An application to put behind the gate. It records its calls, and whether its response was read and closed.

    Its response has eight parts, which are produced one by one, and sets two cookies.
    """

    CHUNKS = tuple(b"%d of 8\n" % number for number in range(1, 9))
    COOKIES = ("probe-a", "probe-b")

    def __init__(self, status: str = "200 OK", headers: Collection[tuple[str, str]] = ()) -> None:
        self._status = status
        self._headers = headers
        self.called = self.closed = False
        self.request_body = b""
        self.produced = 0  # number of the response's parts that have been read

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.called = True
        self.request_body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        cookies = [("Set-Cookie", f"{name}=1") for name in self.COOKIES]
        start_response(self._status, [("Content-Type", "text/plain"), *cookies, *self._headers])
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self.produced == len(self.CHUNKS):
            raise StopIteration
        self.produced += 1
        return self.CHUNKS[self.produced - 1]

    def close(self) -> None:
        """Record that the server has closed the response."""
        self.closed = True


class GateObserver:
    """Records the gate and the environ of the last request, and can replace the application behind the gate."""

    def __init__(self) -> None:
        self.oauth_app: OAuthApp | None = None  # the sign-in
        self.gate: LoginRequired | None = None
        self.environ: WSGIEnvironment | None = None  # the environ of the application behind the gate
        self._replacement: WSGIApplication | None = None

    def watch(self, app: WSGIApplication) -> WSGIApplication:
        """Return *app* in a middleware that resets the record before each request."""

        def watched(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            self.gate = self.environ = None
            return app(environ, start_response)

        return watched

    @contextmanager
    def observe_all_gates(self) -> Iterator[None]:
        """Observe every gate of this process, because the gate can be anywhere inside the application."""
        call = LoginRequired.__call__
        call_sign_in = OAuthApp.__call__

        def observed(gate: LoginRequired, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            self.gate, self.oauth_app = gate, gate.oauth_app
            with mock.patch.object(gate, "_wsgi_app", self._recording(gate._wsgi_app)):
                return call(gate, environ, start_response)

        def observed_sign_in(
            oauth_app: OAuthApp, environ: WSGIEnvironment, start_response: StartResponse
        ) -> Iterable[bytes]:
            self.oauth_app = oauth_app
            return call_sign_in(oauth_app, environ, start_response)

        with (
            mock.patch.object(LoginRequired, "__call__", observed),
            mock.patch.object(OAuthApp, "__call__", observed_sign_in),
        ):
            yield

    @contextmanager
    def replace_application(
        self, status: str = "200 OK", headers: Collection[tuple[str, str]] = ()
    ) -> Iterator[ProbeApplication]:
        """Let a new :class:`ProbeApplication` answer in place of the application behind the gate."""
        probe = self._replacement = ProbeApplication(status, headers)
        try:
            yield probe
        finally:
            self._replacement = None

    def _recording(self, application: WSGIApplication) -> WSGIApplication:
        def recording(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            self.environ = {**environ}
            return (self._replacement or application)(environ, start_response)

        return recording
