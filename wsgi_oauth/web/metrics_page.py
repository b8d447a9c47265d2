"""``GET /metrics`` for Prometheus."""

from __future__ import annotations

from werkzeug import Response
from werkzeug.exceptions import NotFound

from .. import errors
from ..metrics import FOLDER_VARIABLE, Metrics
from .handler import RequestHandler
from .request import Request

# Proxies add at least one of these to each request that they forward.
_PROXY_HEADERS = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")


class MetricsPage(RequestHandler):
    """The metrics of all workers, for requests that come directly.

    The public should not see them. Prometheus connects to the application directly, and browsers connect to a proxy, so
    a request that a proxy has forwarded gets a 404.
    """

    route = "/metrics"
    endpoint = "metrics"
    any_host = True
    metrics: Metrics  # set by create_app

    def get(self, request: Request) -> Response:
        if any(name in request.headers for name in _PROXY_HEADERS):
            raise NotFound
        if request.environ.get("wsgi.multiprocess") and self.metrics.folder is None:
            raise errors.ConfigError(
                f"{FOLDER_VARIABLE}: missing, and this server has several processes, each with numbers of its own; set "
                "it to an empty folder before the server starts, or use wsgi_oauth.gunicorn_conf, and restart "
                "the server, because HUP is not enough"
            )
        return Response(self.metrics.render(), content_type=self.metrics.content_type)
