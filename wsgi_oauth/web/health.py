"""Probes for load balancers and orchestrators."""

from __future__ import annotations

from werkzeug import Response

from .handler import RequestHandler
from .request import Request


class Healthz(RequestHandler):
    """The process is alive. Uses neither a session nor the provider."""

    route = "/healthz"
    any_host = True

    def get(self, request: Request) -> Response:
        return self.jsonify({"status": "ok"})


class Readyz(RequestHandler):
    """The process can store sessions; otherwise 503.

    The provider is not asked, because its failure is no reason to restart this process.
    """

    route = "/readyz"
    any_host = True

    def get(self, request: Request) -> Response:
        request.check_store()
        return self.jsonify({"status": "ready"})
