"""Probes for load balancers and orchestrators, and for ``wsgi-oauth check --public``."""

from __future__ import annotations

from typing import Any

from werkzeug import Response

from ..config import Config
from ..sessions.check_token import CHECK_HEADER, CHECK_VALUE, is_check_token
from ..sessions.store import SessionStore
from .handler import RequestHandler
from .request import Request
from .site import split_values


class Healthz(RequestHandler):
    """The process is alive. Uses neither a session nor the provider."""

    route = "/healthz"
    any_host = True

    def get(self, request: Request) -> Response:
        return self.jsonify({"status": "ok"})


class Readyz(RequestHandler):
    """Answer 200 if the process can store sessions, otherwise 503.

    The provider is not asked, because its failure is no reason to restart this process. Only a request
    with a check token gets a description of the request, as the application sees it, and of some settings.
    """

    route = "/readyz"
    any_host = True
    config: Config  # set by create_app
    store: SessionStore  # set by create_app

    def get(self, request: Request) -> Response:
        self.store.check()  # raises StoreError
        document: dict[str, Any] = {"status": "ready"}
        token = request.headers.get(CHECK_HEADER, "")
        if token and is_check_token(self.store, token):
            environ, headers = request.environ, request.headers
            document["request"] = {
                "scheme": environ["wsgi.url_scheme"],
                "host": environ.get("HTTP_HOST", ""),
                "client": environ.get("REMOTE_ADDR", ""),
                "has_query": request.args.get("check") == CHECK_VALUE,
                "has_cookie": "HTTP_COOKIE" in environ,
                "forwarded": {
                    name: len(split_values(headers.get(f"X-Forwarded-{name}", ""))) for name in ("For", "Proto", "Host")
                },
            }
            document["settings"] = {
                "public_url": self.config.public_url,
                "trusted_proxies": self.config.trusted_proxies,
                "sites": list(self.config.sites),
                "allow": list(self.config.allow),
            }
        return self.jsonify(document)
