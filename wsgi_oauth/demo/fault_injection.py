"""Misbehaviour on request: how faults wait for their turn, and what they can do when it comes.

A fault belongs to an endpoint and is taken by the next request there::

    provider.faults.add("token.hang_up")            # the next token request
    provider.faults.add("profile.401", times=None)  # every profile request from now on
    provider.faults.clear()

The list of all faults, and what each does, is in :mod:`wsgi_oauth.demo.faults`.
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

#: Where a fault can happen. ``refresh`` is the token endpoint, asked for a refresh.
ENDPOINTS = ("authorize", "token", "refresh", "profile", "revoke")


class HangUp(ConnectionError):
    """The connection ends here, with no (further) answer. A server closes it without a word."""


@dataclass
class FaultContext:
    """What a fault finds when its turn comes."""

    environ: WSGIEnvironment
    faults: FaultInjector
    normal_response: Callable[[], Response]
    """What the provider would have answered. Until it is called nothing has happened: no code is
    used up, no token rotated."""

    def wait(self, seconds: float) -> None:
        """Let time pass; when the server closes meanwhile, hang up at once."""
        closing: threading.Event = self.environ.get(CLOSING) or threading.Event()
        if closing.wait(seconds):
            raise HangUp

    def send(self, data: bytes) -> None:
        """Write to the raw socket, past the server."""
        self._socket.sendall(data)

    def hang_up(self, after: bytes = b"") -> NoReturn:
        """End the connection, if wanted in the middle of an answer."""
        self.send(after)
        raise HangUp

    def reset(self) -> NoReturn:
        """End the connection with a TCP reset, as a crashed machine or a firewall does."""
        linger_for_no_time = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_no_time)
        os.close(self._socket.detach())
        raise HangUp

    def dribble(self, head: bytes) -> NoReturn:
        """Send ``head``, then a byte now and again until somebody has enough.

        Each byte comes in time, so a timeout per read never ends it; only a deadline does.
        """
        self.send(head)
        while True:
            self.wait(self.faults.dribble_interval)
            self.send(b"x")  # raises a ConnectionError itself once the client has gone

    @property
    def _socket(self) -> socket.socket:
        connection: socket.socket = self.environ["werkzeug.socket"]
        return connection


@dataclass(frozen=True)
class Fault:
    """One way to misbehave: where, its name (``endpoint.what``), a line about it, and the deed."""

    name: str
    description: str
    respond: Callable[[FaultContext], Response] = field(repr=False, compare=False)

    @property
    def endpoint(self) -> str:
        return self.name.partition(".")[0]


class FaultInjector:
    """The faults that wait for their turn, in the order they were asked for. Thread-safe."""

    #: Where the redirecting faults send the client. RFC 6761: a name that never resolves.
    redirect_to = "http://elsewhere.invalid/"
    #: How long the slow faults wait, in seconds.
    slow_seconds = 30.0
    #: The time between two bytes of the dribbling faults, in seconds.
    dribble_interval = 0.1

    def __init__(self, known: Mapping[str, Fault]) -> None:
        self.known = dict(known)
        self._waiting: deque[tuple[Fault, int | None]] = deque()
        self._lock = threading.Lock()

    def register(self, *faults: Fault) -> None:
        """Make faults of a test's own known, so that :meth:`add` accepts their names."""
        self.known.update({fault.name: fault for fault in faults})

    def add(self, name: str, *, times: int | None = 1) -> None:
        """Let a fault happen at the next ``times`` requests to its endpoint; None: until cleared.

        Raises :class:`ValueError` for a name that is not registered, or ``times`` below 1.
        """
        if name not in self.known:
            raise ValueError(f"there is no fault named {name!r}")
        if times is not None and times < 1:
            raise ValueError("a fault happens at least once")
        with self._lock:
            self._waiting.append((self.known[name], times))

    def clear(self) -> None:
        """Behave from now on."""
        with self._lock:
            self._waiting.clear()

    def take(self, *endpoints: str) -> Fault | None:
        """The first fault that waits for one of these endpoints, used up by one; None: behave."""
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
        """Name and remaining times of each fault that is still to come."""
        with self._lock:
            return [(fault.name, times) for fault, times in self._waiting]
