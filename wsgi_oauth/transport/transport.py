"""How bytes travel to the provider: one connection pool for each process, and a limit on everything: the time, the
size of an answer, and how many wait at once.

Nothing here knows a token. What requests share is the pool, the TLS context and what the environment says
about proxies; loading a CA bundle takes longer than a whole request, so it is done once.
"""

from __future__ import annotations

import errno
import http.client
import io
import json
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from math import isfinite
from typing import Any, NoReturn
from urllib.parse import urlsplit
from urllib.request import (  # type: ignore[attr-defined]  # typeshed leaves the second out
    getproxies,
    proxy_bypass_environment,
)

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import (
    address_in_network,
    default_headers,
    get_encoding_from_headers,
    is_ipv4_address,
    is_valid_cidr,
    prepend_scheme_if_needed,
    select_proxy,
)
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from .. import errors, urls
from ..config.settings import UPSTREAM_LIMIT

MAX_BYTES = 1024 * 1024  # of an answer, after decompression
POOL_SIZE = 32  # idle connections kept for each host; as many threads as a worker reasonably has
IDLE = 60.0  # seconds: load balancers and NAT forget an idle connection after about as long, not always with a goodbye
_CHUNK = 64 * 1024
_HEADERS = {name: value for name, value in default_headers().items() if name != "Connection"}  # HTTP/1.1 keeps it
_POOL = {"cert_reqs": "CERT_REQUIRED"}  # a part of a pool's name: there is one for each host, whoever asks
_SAFE = {"GET", "HEAD", "OPTIONS"}  # RFC 9110 9.2.1: may be sent again


class Transport:
    """The shared part of all provider requests of one process; made anew after a fork, when it is first used."""

    def __init__(self, timeout: float, limit: int = UPSTREAM_LIMIT, *, within: Transport | None = None) -> None:
        """*timeout*: seconds, wall clock, for one request from the first packet to the last byte of the answer.
        *limit*: how many may wait for the provider at a time; *within*: as a part of those that may wait for any.
        """
        self.timeout = timeout
        self.limit = limit
        self._within = within
        self._adapters: dict[int, BoundedAdapter] = {}  # by process id: after a fork the parent's is not ours

    @property
    def adapter(self) -> BoundedAdapter:
        made = self._adapters.get(os.getpid())
        if made is None:
            # No lock, which a fork could copy in its locked state: of two threads that make one, the first's is used.
            new = self._within.adapter.part(self.limit) if self._within else BoundedAdapter(self.timeout, self.limit)
            made = self._adapters.setdefault(os.getpid(), new)
        return made

    def slot(self) -> AbstractContextManager[None]:
        """Hold one of the places for those who wait for the provider; requests that are sent inside need no other.

        :raises errors.ProviderBusy: at once, when all are taken.
        """
        return self.adapter.request_limit.slot()


class RequestLimit:
    """Keeps a provider that does not answer from taking all threads of a process: so many may wait, and whoever comes
    then hears of it at once.

    Whoever waits for what another request gets from the provider, a copy of a callback or one of many that need the
    same refresh, occupies a thread just the same, and needs a place, too.
    """

    def __init__(self, places: int, whole: RequestLimit | None = None) -> None:
        """*whole*: what a place here takes one of as well: that of all providers together."""
        self._whole = whole
        # A deque is changed in one step. A lock could be copied by a fork in its locked state.
        self._free = deque(range(places))

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a place for all that this thread, or greenlet, does inside."""
        give_back = self.take()
        try:
            before = _inside.set(self)
            try:
                yield
            finally:
                _inside.reset(before)
        finally:
            give_back()

    def take(self) -> Callable[[], object]:
        """Take a place, unless this thread holds one; return what gives it back, to be called once.

        :raises errors.ProviderBusy: when all are taken.
        """
        if _inside.get() is self:
            return lambda: None
        try:
            place = self._free.pop()
        except IndexError:
            raise errors.ProviderBusy(
                "as many requests wait for the provider as WSGI_OAUTH_UPSTREAM_LIMIT lets a worker have"
            ) from None
        if self._whole is None:
            return lambda: self._free.append(place)
        try:
            give_back_there = self._whole.take()
        except errors.ProviderBusy:
            self._free.append(place)
            raise

        def give_back() -> None:
            self._free.append(place)
            give_back_there()

        return give_back


_inside: ContextVar[RequestLimit | None] = ContextVar("_inside", default=None)  # where this thread holds a place


def ca_bundle() -> str:
    """Return the file or folder of the authorities to trust: what requests would take, and SSL_CERT_FILE.

    :raises errors.ConfigError: when there is no such file.
    """
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        if place := os.environ.get(name):
            if not os.path.exists(place):
                raise errors.ConfigError(f"{name} names {place!r}, which does not exist")
            return place
    return requests.utils.DEFAULT_CA_BUNDLE_PATH


def _tls_context() -> ssl.SSLContext:
    place = ca_bundle()
    try:
        if os.path.isdir(place):
            return ssl.create_default_context(capath=place)
        return ssl.create_default_context(cafile=place)
    except OSError as error:  # ssl.SSLError is one
        raise errors.ConfigError(f"the CA bundle {place!r} cannot be loaded: {error.strerror or error}") from error


class Deadline(float):
    """The moment, in seconds of ``time.monotonic``, at which a whole answer must be there."""

    @classmethod
    def after(cls, timeout: float | tuple[float | None, ...] | None, usual: float) -> Deadline:
        """*timeout*: seconds; as a tuple, which in requests means one for each phase, all of them; or as *usual*."""
        seconds = sum(filter(None, timeout)) if isinstance(timeout, tuple) else timeout
        if not isinstance(seconds, (int, float, type(None))):
            raise TypeError(f"timeout must be seconds, for all of it, and is {seconds!a}")
        return cls(time.monotonic() + float(seconds or usual))


class BoundedAdapter(HTTPAdapter):
    """requests' own adapter with a TLS context that is loaded once, a wall-clock deadline, and a cap on the
    answer's size and on the number of requests at a time.
    """

    def __init__(self, timeout: float, limit: int) -> None:
        self.timeout = timeout
        self.request_limit = RequestLimit(limit)
        self._tls = _tls_context()
        self._proxies = getproxies()
        super().__init__(pool_maxsize=POOL_SIZE)

    def part(self, limit: int) -> BoundedAdapter:
        """Return one with the same connections and TLS context, of which fewer may wait at a time."""
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__, request_limit=RequestLimit(limit, self.request_limit))
        return part

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._tls, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Set no CA bundle on the connection: it would be loaded again for each one. The context has it, and
        always verifies.
        """

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> tuple[Any, Any]:
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, _POOL

    def proxies_for(self, url: str) -> dict[str, str]:
        """Return the proxies for *url* by HTTPS_PROXY and NO_PROXY, as they were when this process first asked."""
        parts = urlsplit(url)
        # Plain http is for this machine alone (see urls.checked): a proxy would see the token.
        direct = parts.scheme == "http" or not self._proxies or self._bypasses(parts.netloc, parts.hostname or "")
        return {} if direct else self._proxies

    def _bypasses(self, netloc: str, host: str) -> bool:
        if proxy_bypass_environment(netloc, self._proxies):
            return True
        networks = [name.strip() for name in self._proxies.get("no", "").split(",")]
        return is_ipv4_address(host) and any(address_in_network(host, name) for name in networks if is_valid_cidr(name))

    def send(  # type: ignore[override]
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        **kwargs: Any,
    ) -> requests.Response:
        """Send, and read the answer unless *stream*; *timeout*, in seconds or as a Deadline, is for all of it.

        A *stream* has its place until it is read, closed or forgotten.

        :raises errors.ProviderBusy: when as many as may are waiting.
        :raises errors.ProviderTimeout: when the time is over.
        :raises errors.ProviderUnreachable: for every other trouble on the way.
        :raises errors.ProviderError: for an answer of more than 1 MiB.
        """
        if kwargs.get("verify", True) is not True or kwargs.get("cert"):
            raise ValueError(
                "certificates are always verified; REQUESTS_CA_BUNDLE or SSL_CERT_FILE names a CA of your own"
            )
        attempt = partial(super().send, request, True, **kwargs)  # as a stream: it is read here
        deadline = timeout if isinstance(timeout, Deadline) else Deadline.after(timeout, self.timeout)
        with ExitStack() as place:
            place.callback(self.request_limit.take())
            response = _bounded(attempt, request.method, deadline, whole=not stream)
            if stream:
                answer: Any = response.raw._original_response
                answer.when_over(place.pop_all().close)
            return response

    def fetch(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> requests.Response:
        """Send a request that is complete as it is, and read the answer; no redirect is followed.

        requests would look for cookies, hooks and settings first, and take longer for that than all the rest takes.
        Raises what :meth:`send` raises.
        """
        if not urls.is_secure(url):
            raise ValueError("a secret is sent over https only (RFC 6749 3.2, RFC 6750 5.3), or to this machine")
        give_back = self.request_limit.take()
        try:
            attempt = partial(self._fetch, method, url, {**_HEADERS, **headers}, body)
            return _bounded(attempt, method, Deadline.after(None, self.timeout))
        finally:
            give_back()

    def _fetch(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout: Any
    ) -> requests.Response:
        parts, proxies = urlsplit(url), self.proxies_for(url)
        proxy = select_proxy(url, proxies) if proxies else None
        manager: urllib3.PoolManager = self.poolmanager
        if proxy:
            manager = self.proxy_manager_for(prepend_scheme_if_needed(proxy, "http"))  # type: ignore[no-untyped-call]
        pool = manager.connection_from_host(parts.hostname, parts.port, parts.scheme, _POOL)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        answer = pool.urlopen(
            method, target, body, headers, retries=False, redirect=False, preload_content=False, timeout=timeout
        )
        response = requests.Response()
        response.url = url
        response.raw = answer
        response.status_code = answer.status
        response.headers = answer.headers  # type: ignore[assignment]  # as good as a CaseInsensitiveDict
        response.encoding = get_encoding_from_headers(response.headers)
        return response


def _bounded(
    attempt: Callable[[Any], requests.Response], method: str | None, deadline: Deadline, *, whole: bool = True
) -> requests.Response:
    """Let *attempt* send something, read the *whole* answer, and name what goes wrong in words of our own."""
    try:
        response = _unless_hung_up(attempt, method, deadline)
        if whole:
            response._content = _read(response)
            response._content_consumed = True  # type: ignore[attr-defined]
        return response
    except (
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
        ValueError,
    ) as error:
        raise _explained(error, time.monotonic() >= deadline) from None  # the original has the URL in its text


def _unless_hung_up(
    attempt: Callable[[Any], requests.Response], method: str | None, deadline: Deadline
) -> requests.Response:
    """Send once more when a pooled connection turns out to be closed by the provider, if that can do no harm."""
    try:
        return attempt(_remaining(deadline))
    except (requests.ConnectionError, urllib3.exceptions.HTTPError) as error:
        if method not in _SAFE or not isinstance(_innermost(error), (ConnectionResetError, BrokenPipeError)):
            raise
        return attempt(_remaining(deadline))


def read_json(response: requests.Response, of: type, what: str) -> Any:
    """Return the JSON document that *response* holds.

    :raises errors.ProviderError: when there is none, or one that is no *of*.
    """
    try:
        document = parse_json(response.content)
    except ValueError:
        raise errors.ProviderError(f"the provider's answer to a {what} request is not JSON") from None
    if not isinstance(document, of):
        raise errors.ProviderError(
            f"the provider's answer to a {what} request is JSON of another kind than {of.__name__}"
        )
    return document


def parse_json(text: bytes) -> Any:
    """Return what *text* says, read strictly: UTF-8, no NaN (RFC 8259), no depth that ends the interpreter's patience.

    :raises ValueError: when it is no JSON.
    """
    try:
        return json.loads(text.decode("utf-8-sig"), parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("too deep") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):  # 1e999
        raise ValueError(digits)
    return number


def _remaining(deadline: Deadline) -> Any:  # requests' stubs do not know that a Timeout may pass
    return urllib3.Timeout(total=max(deadline - time.monotonic(), 0.001))


def _read(response: requests.Response) -> bytes:
    parts, size = [], 0
    for part in response.raw.stream(_CHUNK, decode_content=True):
        size += len(part)
        if size > MAX_BYTES:
            response.close()  # the rest is not wanted: the connection goes, too
            raise errors.ProviderError(f"the provider's answer is larger than {MAX_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _innermost(error: BaseException) -> BaseException:
    """requests wraps urllib3's error, which wraps the system's; the last one knows what happened."""
    seen = {id(error)}
    while True:
        inside = [error.__cause__, getattr(error, "reason", None), *reversed(error.args), error.__context__]
        found = next((e for e in inside if isinstance(e, BaseException) and id(e) not in seen), None)
        if found is None:
            return error
        seen.add(id(found))
        error = found


def _explained(error: Exception, late: bool) -> errors.ProviderError:
    """Name the cause for the log, in words that can hold no URL and no secret."""
    cause = _innermost(error)
    if isinstance(error, urllib3.exceptions.DecodeError):
        return errors.ProviderError("the provider's answer is not encoded as it says")
    gave_up = isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError))
    refused = isinstance(error, NewConnectionError)  # to urllib3 a kind of timeout
    if late or isinstance(cause, TimeoutError) or (gave_up and not refused):
        return errors.ProviderTimeout("the provider did not answer in time")
    reason = getattr(cause, "verify_message", "") or getattr(cause, "strerror", None) or ""
    return errors.ProviderUnreachable(
        f"the request to the provider failed: {type(cause).__name__}{reason and ': '}{reason}"
    )


# A timeout of sockets is for one read; a provider that sends a byte from time to time would keep a worker for
# ever. So each read gets only what is left of the whole.


class _DeadlineReader(io.RawIOBase):
    """The receiving half of *sock*, until *deadline*."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, deadline: float) -> None:
        self._sock, self._raw, self._deadline = sock, raw, deadline
        self._allowance = 2 * MAX_BYTES  # also of what decompresses to nothing, and of headers without end
        self.when_closed: Callable[[], object] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "the deadline of the whole request has passed")
        self._sock.settimeout(left)
        count = self._raw.readinto(buffer)
        self._allowance -= count or 0
        if self._allowance < 0:
            raise ConnectionAbortedError(errno.ECONNABORTED, "more than any answer may have")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
        if self.when_closed:
            self.when_closed()


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, deadline: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        buffered: Any = self.fp
        self._reader = _DeadlineReader(sock, buffered.detach(), deadline)
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        super().begin()
        if self.msg.defects:  # urllib3 would log them together with what follows, a token perhaps, and go on
            raise http.client.HTTPException("the headers are malformed")

    def when_over(self, function: Callable[[], object]) -> None:
        """Call *function*, perhaps more than once, when nothing more is read from the connection."""
        self._reader.when_closed = function


class _Deadlines(HTTPConnection):
    """Makes urllib3's read timeout cover the answer as a whole, and its connect timeout all addresses together."""

    _last_used = 0.0

    def getresponse(self) -> Any:
        self._last_used = time.monotonic()
        self._set_deadline()
        return super().getresponse()

    def connect(self) -> None:
        self._set_deadline()  # a proxy answers, too, before the tunnel is there
        super().connect()

    def _set_deadline(self) -> None:
        deadline = time.monotonic() + float(self.timeout or 0)  # urllib3 has set that to what is left of the total
        self.response_class = partial(_DeadlineResponse, deadline=deadline)  # type: ignore[assignment]

    @property
    def is_connected(self) -> bool:
        return super().is_connected and time.monotonic() - self._last_used < IDLE

    def _new_conn(self) -> socket.socket:
        deadline = time.monotonic() + float(self.timeout or 0)
        try:
            addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, self, socket.gaierror(*error.args[:2])) from error
        failure: OSError = OSError(errno.EADDRNOTAVAIL, "the name has no address")
        for number, (*_, address) in enumerate(addresses):
            try:  # each gets its share of what is left, so that a silent one leaves time for the next
                left = max(deadline - time.monotonic(), 0.001) / (len(addresses) - number)
                sock = urllib3.util.connection.create_connection(
                    (str(address[0]), int(address[1])), left, self.source_address, self.socket_options
                )
                sock.settimeout(max(deadline - time.monotonic(), 0.001))  # for the TLS handshake
                return sock
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "no connection in time") from failure
        raise NewConnectionError(self, "no connection") from failure


class _HTTPConnection(_Deadlines):
    pass


class _HTTPSConnection(_Deadlines, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection
