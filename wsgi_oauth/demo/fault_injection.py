"""Inject faults into the provider's responses.

A fault belongs to an endpoint. It is added to a queue, and the next request to the endpoint gets it::

    provider.faults.add("token.hang_up")            # the next token request
    provider.faults.add("profile.401", times=None)  # every profile request from now on
    provider.faults.clear()

All faults are listed in :mod:`wsgi_oauth.demo.faults`.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from werkzeug.wrappers import Response

from .server import CLOSING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: The endpoints that faults belong to. ``refresh`` is the token endpoint with a refresh token.
ENDPOINTS = ("authorize", "token", "refresh", "profile", "revoke")


class HangUp(ConnectionError):
    """Tells the server to close the connection without sending more data."""


@dataclass
class FaultContext:
    """A request into which a fault is injected, with methods that respond to it."""

    environ: WSGIEnvironment
    faults: FaultInjector
    normal_response: Callable[[], Response]
    """Process the request and return the provider's normal response. Until this is called, the
    request has no effect: the authorization code is unused and no token is rotated."""

    def wait(self, seconds: float) -> None:
        """Wait; close the connection at once if the server is closed meanwhile."""
        closing: threading.Event = self.environ.get(CLOSING) or threading.Event()
        if closing.wait(seconds):
            raise HangUp

    def send(self, data: bytes) -> None:
        """Write bytes directly to the socket, without the server."""
        self._socket.sendall(data)

    def hang_up(self, after: bytes = b"") -> NoReturn:
        """Send *after*, which may be the beginning of a response, and close the connection."""
        self.send(after)
        raise HangUp

    def reset(self) -> NoReturn:
        """Close the connection with a TCP reset, as a crashed machine or a firewall does."""
        zero_linger = struct.pack("ii", 1, 0)  # makes close() send a reset
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, zero_linger)
        os.close(self._socket.detach())
        raise HangUp

    def dribble(self, head: bytes) -> NoReturn:
        """Send *head*, then single bytes until the client closes the connection.

        A timeout per read never expires here, because each byte arrives in time. The client needs a
        deadline for the whole response.
        """
        self.send(head)
        while True:
            self.wait(self.faults.dribble_interval)
            self.send(b"x")  # raises ConnectionError when the client has closed the connection

    @property
    def _socket(self) -> socket.socket:
        connection: socket.socket = self.environ["werkzeug.socket"]
        return connection


@dataclass(frozen=True)
class Fault:
    """A way in which the provider can fail. Its name begins with the endpoint: ``token.hang_up``.

    ``respond`` returns the response, or ends the connection by raising :class:`HangUp`.
    """

    name: str
    description: str
    respond: Callable[[FaultContext], Response] = field(repr=False, compare=False)

    @property
    def endpoint(self) -> str:
        return self.name.partition(".")[0]


class FaultInjector:
    """The queue of faults that are still to be injected. Thread-safe."""

    #: The target of the redirect faults; the name never resolves (RFC 6761).
    redirect_to = "http://elsewhere.invalid/"
    #: The delay of the slow faults, in seconds.
    slow_seconds = 30.0
    #: The time between two bytes of the dribble faults, in seconds.
    dribble_interval = 0.1

    def __init__(self, known: Mapping[str, Fault]) -> None:
        self.known = dict(known)
        self._waiting: deque[tuple[Fault, int | None]] = deque()
        self._lock = threading.Lock()

    def register(self, *faults: Fault) -> None:
        """Add custom faults to the known ones, so that :meth:`add` accepts their names."""
        self.known.update({fault.name: fault for fault in faults})

    def add(self, name: str, *, times: int | None = 1) -> None:
        """Inject a fault into the next *times* requests to its endpoint.

        :param times: None to inject it until :meth:`clear` is called.
        :raises ValueError: when *name* is unknown or *times* is less than 1.
        """
        if name not in self.known:
            raise ValueError(f"fault: unknown name (got {name!r})")
        if times is not None and times < 1:
            raise ValueError(f"times: must be 1 or more (got {times})")
        with self._lock:
            self._waiting.append((self.known[name], times))

    def clear(self) -> None:
        """Empty the queue."""
        with self._lock:
            self._waiting.clear()

    def take(self, *endpoints: str) -> Fault | None:
        """Take the first fault for one of *endpoints* from the queue; return None when no fault matches."""
        with self._lock:
            for index, (fault, times) in enumerate(self._waiting):
                if fault.endpoint in endpoints:
                    if times == 1:
                        del self._waiting[index]
                    elif times is not None:
                        self._waiting[index] = (fault, times - 1)
                    return fault
        return None

    @property
    def waiting(self) -> list[tuple[str, int | None]]:
        """The queue: name and remaining times of each fault."""
        with self._lock:
            return [(fault.name, times) for fault, times in self._waiting]
