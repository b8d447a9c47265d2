"""For load balancers and orchestrators: is this process alive, and can it do its work?"""

from __future__ import annotations

from werkzeug import Response

from .handler import Request, RequestHandler


class Healthz(RequestHandler):
    """Alive. Touches neither a session nor the provider."""

    route = "/healthz"
    any_host = True

    def get(self, request: Request) -> Response:
        return self.jsonify({"status": "ok"})


class Readyz(RequestHandler):
    """Ready: a session could be stored now; otherwise 503. The provider is not asked: its trouble is no
    reason for a restart.
    """

    route = "/readyz"
    any_host = True

    def get(self, request: Request) -> Response:
        self.app.sessions.store.check()
        return self.jsonify({"status": "ready"})


HANDLERS = (Healthz, Readyz)
