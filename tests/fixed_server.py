"""A server with a fixed response, in place of an endpoint of the provider."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from werkzeug import Request, Response

from wsgi_oauth.demo.server import Server, serve


@contextmanager
def answering(
    body: str | bytes = "{}",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> Iterator[Server]:
    """Serve the same response to every request, and record the requests in ``requests`` of the server."""
    seen: list[Request] = []

    @Request.application
    def application(request: Request) -> Response:
        request.get_data()
        seen.append(request)
        return Response(body, status, {"Content-Type": "application/json", **(headers or {})})

    with serve(application, ssl_context=ssl_context, host=host) as server:
        server.requests = seen
        yield server
