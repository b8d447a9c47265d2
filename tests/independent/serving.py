"""Serve a WSGI application until standard input is closed."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002  # Werkzeug's name
        """Write no log, because standard output contains only the URL."""


def serve(make_application: Callable[[str], Any], path: str = "") -> None:
    """Call *make_application* with the issuer's URL, serve the result, and print the URL as JSON.

    :param path: the path of the issuer's URL.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        port = listener.getsockname()[1]
        issuer = f"http://127.0.0.1:{port}{path}"
        application = make_application(issuer)
        server = make_server(
            "127.0.0.1", port, application, threaded=True, request_handler=_Quiet, fd=listener.fileno()
        )
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        print(json.dumps(issuer), flush=True)  # noqa: T201
        sys.stdin.read()
        server.shutdown()
        server.server_close()
