"""The transport: every HTTP request to a provider goes through :meth:`Transport.send`."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import NamedTuple
from urllib.parse import urljoin

import requests
import urllib3

from .. import errors, urls
from ..config.settings import UPSTREAM_LIMIT
from ..metrics import Metrics
from ..urls import have_same_origin
from ..version import USER_AGENT
from .adapter import BoundedAdapter
from .limit import RequestLimit, default_slots

_MAX_REDIRECTS = 30  # the default of requests


class _ProcessState(NamedTuple):
    adapter: BoundedAdapter
    limit: RequestLimit


class Transport:
    """The connection pool and the request limit of an application, separate in each process.

    It stores neither tokens nor cookies. Threads share the pool, the TLS context and the proxy settings.
    """

    def __init__(
        self,
        timeout: float,
        limit: int = UPSTREAM_LIMIT,
        *,
        http_hosts: Collection[str] = (),
        total: Transport | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Raise ConfigError if another package has replaced urllib3."""
        # An installation of niquests replaces urllib3. The deadlines depend on its classes.
        if not issubclass(urllib3.connection.HTTPConnection, http.client.HTTPConnection):
            raise errors.ConfigError(
                f"urllib3: replaced by the package urllib3-future (got version {urllib3.__version__}), with which "
                "requests to the provider have no deadline; run `pip uninstall urllib3-future`, and then "
                "`pip install --force-reinstall urllib3`"
            )
        self._metrics = metrics
        self.timeout = timeout  # seconds from connecting to the last byte of the response (wall clock)
        self.limit = limit  # of waiting requests; the default is lower in a server with few threads
        self.http_hosts = http_hosts  # for which plain http is accepted, besides this machine
        self._total = total  # of all providers: has the connections, and its limit includes these requests
        self._states: dict[int, _ProcessState] = {}  # by process id: a child must not use its parent's sockets

    def share(self) -> Transport:
        """Return the transport for one of several providers, with the same connections and two thirds of the slots."""
        # Otherwise one provider that does not answer would block the sign-in with all others.
        return Transport(self.timeout, self.limit, http_hosts=self.http_hosts, total=self, metrics=self._metrics)

    def slot(self) -> AbstractContextManager[None]:
        """Hold a slot for requests that wait for the provider. Raise ProviderBusy when all slots are taken."""
        return self._state().limit.slot()

    def load(self) -> None:
        """Load the CA bundle and the proxy settings now. Raise ConfigError when the CA bundle cannot be loaded."""
        self._state()

    def close(self) -> None:
        self._state().adapter.close()

    def send(
        self,
        request: requests.PreparedRequest,
        *,
        timeout: float | tuple[float | None, ...] | None = None,
        allow_redirects: bool = False,
        same_origin: bool = False,
        endpoint: str = "api",
    ) -> requests.Response:
        """Send *request* and return the whole response.

        The Authorization header is never sent to another origin by a redirect.

        :param same_origin: return a redirect to another origin instead of following it.
        :param endpoint: the name of the provider's endpoint, for the metrics.
        :param timeout: seconds for the whole exchange, redirects included; by default the configured ones. A pair, as
            in requests, means its sum.
        :raises errors.ProviderBusy: when all slots are taken.
        :raises errors.ProviderTimeout: when the time is over.
        :raises errors.ProviderUnreachable: for every other failure of the connection.
        :raises errors.ProviderError: for a response of more than 1 MiB, or a redirect that cannot be followed.
        """
        started, outcome = time.monotonic(), errors.Error.cause
        seconds = sum(filter(None, timeout)) if isinstance(timeout, tuple) else timeout
        if not isinstance(seconds, (int, float, type(None))):
            raise TypeError(f"timeout: must be a number of seconds for the whole request (got {timeout!a})")
        deadline = started + (seconds or self.timeout)
        try:
            response = self._send(request, deadline, allow_redirects=allow_redirects, same_origin=same_origin)
            outcome = f"{response.status_code // 100}xx"
            return response
        except errors.Error as error:
            outcome = error.cause
            raise
        finally:
            if self._metrics is not None:
                self._metrics.observe_upstream(endpoint, outcome, time.monotonic() - started)

    def _send(
        self, request: requests.PreparedRequest, deadline: float, *, allow_redirects: bool, same_origin: bool
    ) -> requests.Response:
        request.headers.setdefault("User-Agent", USER_AGENT)
        adapter, limit = self._state()
        if not urls.is_secure(request.url or "", self.http_hosts):
            raise ValueError("secrets are sent over https only (RFC 6749 3.2, RFC 6750 5.3), or to this machine")
        with limit.slot():
            for _ in range(_MAX_REDIRECTS + 1):
                response = adapter.exchange(request, deadline)
                if not (allow_redirects and response.is_redirect):
                    return response
                request = build_redirected_request(response, self.http_hosts)
                if same_origin and not have_same_origin(request.url or "", response.url):
                    return response
        raise errors.ProviderError(f"the provider redirected more than {_MAX_REDIRECTS} times")

    def _state(self) -> _ProcessState:
        pid = os.getpid()
        if pid not in self._states:
            if self._total is None:
                slots = default_slots if self.limit == UPSTREAM_LIMIT else self.limit
                state = _ProcessState(BoundedAdapter(), RequestLimit(slots, metrics=self._metrics))
            else:
                adapter, total = self._total._state()
                state = _ProcessState(adapter, RequestLimit(lambda: max(1, total.slots * 2 // 3), total))
            # There is no lock, because a fork could copy it while it is held. If two threads create one, one is kept.
            self._states.setdefault(pid, state)
        return self._states[pid]


def build_redirected_request(response: requests.Response, http_hosts: Collection[str] = ()) -> requests.PreparedRequest:
    """Build the request that follows a redirect (RFC 9110 15.4).

    :raises errors.ProviderError: when the target is not a URL to which secrets may be sent.
    """
    request, status = response.request.copy(), response.status_code
    try:
        location = response.headers["Location"].encode("latin-1").decode()  # most servers send UTF-8
        request.prepare_url(urljoin(response.url, location), None)
        if not urls.is_secure(request.url or "", http_hosts):
            raise ValueError
    except ValueError:  # including UnicodeError and requests.exceptions.InvalidURL
        raise errors.ProviderError(
            "the provider redirects to a URL to which no secret may be sent",
            remedy="configure the https URL behind the redirect, or name its host in WSGI_OAUTH_INSECURE_HTTP_HOSTS",
        ) from None
    if (status in {302, 303} and request.method != "HEAD") or (status == 301 and request.method == "POST"):
        request.method, request.body = "GET", None
        for name in ("Content-Length", "Content-Type", "Transfer-Encoding"):
            request.headers.pop(name, None)
    if not have_same_origin(request.url or "", response.url):
        for name in ("Authorization", "Cookie"):
            request.headers.pop(name, None)
    return request
