"""Probes for load balancers, orchestrators and ``wsgi-oauth check --public``, and metrics for Prometheus."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from werkzeug import Response
from werkzeug.exceptions import NotFound

from .. import errors
from ..config import Config
from ..metrics import FOLDER_VARIABLE, Metrics
from ..sessions.encoding import OTHER_ENTRY
from ..sessions.store import Record, SessionStore, store_key
from .handler import RequestHandler
from .request import Request
from .site import split_values

CHECK_HEADER = "Wsgi-Oauth-Check"
# A query that shows whether a proxy drops queries, or encodes them a second time, and the value of its parameter.
CHECK_QUERY, CHECK_VALUE = "check=1%2F2", "1/2"

_CHECK_ENTRY = OTHER_ENTRY + b"check:1"
_CHECK_LIFETIME = 300  # seconds; the command deletes the entry earlier
_log = logging.getLogger(__name__)
# Proxies add at least one of these to each request that they forward.
_PROXY_HEADERS = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")


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
        if names := [name for name in _PROXY_HEADERS if name in request.headers]:
            text = "[%s] metrics: not shown, because the request has headers of proxies (%s); send it without a proxy"
            _log.info(text, request.id, ", ".join(names))
            raise NotFound
        if request.environ.get("wsgi.multiprocess") and self.metrics.folder is None:
            raise errors.ConfigError(
                f"{FOLDER_VARIABLE}: missing, and this server has several processes, each with numbers of its own; set "
                "it to an empty folder before the server starts, or use wsgi_oauth.gunicorn_conf, and restart "
                "the server, because HUP is not enough"
            )
        return Response(self.metrics.render(), content_type=self.metrics.content_type)


@contextmanager
def stored_check_token(store: SessionStore) -> Iterator[str]:
    """Store a new check token in *store* during the block, and return it.

    The application recognizes requests of ``wsgi-oauth check --public`` by it. Only an operator can write to the store,
    so no other client gets a description of its request.
    """
    token = secrets.token_urlsafe(32)
    store.create(_check_key(token), Record(_CHECK_ENTRY, time.time() + _CHECK_LIFETIME))
    try:
        yield token
    finally:
        store.delete(_check_key(token))


def is_check_token(store: SessionStore, token: str) -> bool:
    return store.load(_check_key(token)) == _CHECK_ENTRY


def _check_key(token: str) -> str:
    return store_key(f"wsgi-oauth check {token}")
