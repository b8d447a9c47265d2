"""Serve a WSGI application in a process of its own, for as long as somebody listens to it."""

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
        """Say nothing: stdout belongs to whoever has started this."""


def serve(make_application: Callable[[str], Any], path: str = "") -> None:
    """Serve what *make_application* makes of the issuer's URL; print that URL, and end when stdin does.

    :param path: of the issuer, below the host.
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
