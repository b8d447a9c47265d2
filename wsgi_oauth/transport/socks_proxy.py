"""Connections through a SOCKS proxy (RFC 1928), negotiated by the package PySocks."""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

import socks
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from .deadline import DeadlineConnection, DeadlineHTTPSConnection

_DEFAULT_PORT = 1080  # RFC 1928 3


class _NegotiatingSocket(socks.socksocket):  # type: ignore[misc]  # PySocks has no types
    """A socket whose negotiation with the proxy has a deadline: otherwise each byte could take the whole timeout."""

    deadline = 0.0  # seconds of time.monotonic

    def recv_into(self, *args: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "the proxy did not answer in time")
        socket.socket.settimeout(self, left)
        return int(super().recv_into(*args))


class _SocksConnection(DeadlineConnection):
    def __init__(self, _socks_options: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options = _socks_options

    def _first_hop(self) -> tuple[str, int]:
        return self._options["proxy_host"], self._options["proxy_port"] or _DEFAULT_PORT

    def _open_socket(self, family: int, address: tuple[Any, ...], timeout: float) -> socket.socket:
        options = self._options
        sock = _NegotiatingSocket(family)
        for option in self.socket_options or ():
            sock.setsockopt(*option)
        sock.set_proxy(
            options["socks_version"], *address[:2], options["rdns"], options["username"], options["password"]
        )
        sock.settimeout(timeout)
        sock.deadline = time.monotonic() + timeout
        try:
            sock.connect((self.host, self.port))
            return sock
        except socks.ProxyError as error:
            failure: OSError = error
        while isinstance(failure, socks.ProxyError) and failure.socket_err:
            failure = failure.socket_err
        if isinstance(failure, socks.ProxyError):  # a refusal by the proxy
            failure = ConnectionRefusedError(errno.ECONNREFUSED, f"SOCKS proxy: {failure.msg}")
        raise failure


class _SocksHTTPSConnection(_SocksConnection, DeadlineHTTPSConnection):
    pass


class _SocksHTTPPool(HTTPConnectionPool):
    ConnectionCls = _SocksConnection


class _SocksHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _SocksHTTPSConnection


SOCKS_POOL_CLASSES = {"http": _SocksHTTPPool, "https": _SocksHTTPSPool}
