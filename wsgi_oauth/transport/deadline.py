"""Connections with one wall-clock deadline for the whole response.

The timeout of a socket applies to a single read, so a provider that sends one byte every few seconds could occupy a
worker forever. Here each read gets only the time that is left until the deadline.
"""

from __future__ import annotations

import errno
import http.client
import io
import socket
import time
from functools import partial
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

MAX_BYTES = 1024 * 1024  # the longest response body, after decompression
# Seconds. Load balancers and NAT devices drop an idle connection after about a minute, often without closing it.
MAX_IDLE = 60.0


class DeadlineReader(io.RawIOBase):
    """Reads from *raw*, the unbuffered stream of a socket. Fails after the deadline (``time.monotonic``) or 2 MiB."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, deadline: float) -> None:
        self._sock, self._raw, self._deadline = sock, raw, deadline
        # Bytes from the network are limited, too, because endless headers, and compressed data without content, never
        # reach the limit on the body.
        self._allowance = 2 * MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read once. Raise TimeoutError after the deadline, ConnectionAbortedError after too many bytes."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "the deadline of the whole request has passed")
        self._sock.settimeout(left)
        count = self._raw.readinto(buffer)
        self._allowance -= count or 0
        if self._allowance < 0:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the response is too long")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, deadline: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        buffered: Any = self.fp
        self.fp = io.BufferedReader(DeadlineReader(sock, buffered.detach(), deadline))

    def begin(self) -> None:
        super().begin()
        while self.status < 200:
            # http.client takes each interim response except 100, such as 103 (Early Hints), for the response itself and
            # leaves the real one, perhaps with the token of another user, to the connection's next request.
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin()
        if self.msg.defects:
            # Otherwise urllib3 would log the malformed headers, perhaps with a token in them, and continue.
            raise http.client.HTTPException("the headers are malformed")


def _read_clocks() -> tuple[float, float]:
    # The monotonic clock of Linux stops while the machine is suspended, and the wall clock can be set back.
    return time.monotonic(), time.time()


class DeadlineConnection(HTTPConnection):
    """Apply urllib3's read timeout to the whole response, and its connect timeout to all addresses of a host."""

    _last_used = (0.0, 0.0)

    def getresponse(self) -> Any:
        self._last_used = _read_clocks()
        self._set_deadline()
        return super().getresponse()

    def connect(self) -> None:
        self._set_deadline()  # for the response of a proxy to CONNECT
        super().connect()

    def _set_deadline(self) -> None:
        # urllib3 has set the timeout to the time that is left for the whole request.
        deadline = time.monotonic() + float(self.timeout or 0)
        self.response_class = partial(_DeadlineResponse, deadline=deadline)  # type: ignore[assignment]

    @property
    def is_connected(self) -> bool:
        idle = max(now - then for now, then in zip(_read_clocks(), self._last_used, strict=True))
        return super().is_connected and idle < MAX_IDLE

    def _new_conn(self) -> socket.socket:
        deadline = time.monotonic() + float(self.timeout or 0)
        try:
            host, port = self._first_hop()
            # An IPv6 address in the URL of a proxy is still in brackets.
            addresses = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, self, socket.gaierror(*error.args[:2])) from error
        failure: OSError = OSError(errno.EADDRNOTAVAIL, "the host name has no address")
        for number, (family, *_, address) in enumerate(addresses):
            # The remaining time is divided among the remaining addresses: otherwise an address that does not answer
            # (broken IPv6 beside working IPv4) would use all of it.
            share = max(deadline - time.monotonic(), 0.001) / (len(addresses) - number)
            try:
                sock = self._open_socket(family, address, share)
                sock.settimeout(max(deadline - time.monotonic(), 0.001))  # for the TLS handshake
                return sock
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "no connection in time") from failure
        raise NewConnectionError(self, "no connection") from failure

    def _first_hop(self) -> tuple[str, int]:
        """Return host and port of the provider or of the SOCKS proxy."""
        return self._dns_host, self.port or 0

    def _open_socket(self, family: int, address: tuple[Any, ...], timeout: float) -> socket.socket:
        """Connect to *address*, of the given address family, within *timeout* seconds."""
        return urllib3.util.connection.create_connection(
            (str(address[0]), int(address[1])), timeout, self.source_address, self.socket_options
        )


class DeadlineHTTPSConnection(DeadlineConnection, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = DeadlineConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = DeadlineHTTPSConnection


POOL_CLASSES = {"http": _HTTPPool, "https": _HTTPSPool}
