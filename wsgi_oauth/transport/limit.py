"""A limit on the number of requests of a process that wait for a provider at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

from .. import errors
from ..config.settings import UPSTREAM_LIMIT
from ..metrics import Metrics
from .server_threads import count_threads

#: The default for an unknown number of threads. Every server of docs/servers.md starts four or more.
SAFE_SLOTS = 3


def default_slots() -> int:
    """Return three quarters of the server's threads, and at most ``UPSTREAM_LIMIT``. The rest serves other requests."""
    # The result is not cached, because the server can be recognized only in a thread that serves a request.
    threads = count_threads()
    return SAFE_SLOTS if threads is None else max(1, min(UPSTREAM_LIMIT, threads * 3 // 4))


class RequestLimit:
    """A semaphore that never blocks: without a free slot, a request fails at once with ProviderBusy.

    Otherwise a provider that does not answer would soon occupy all threads of a worker, also for requests that do not
    need the provider. Each process needs its own limit, because a fork could copy the lock while it is held.
    """

    def __init__(
        self, slots: int | Callable[[], int], total: RequestLimit | None = None, metrics: Metrics | None = None
    ) -> None:
        self._metrics = metrics
        self._slots = slots
        self._smallest = UPSTREAM_LIMIT  # the smallest result of `slots` so far
        self._total = total  # the limit of all providers together; each slot also occupies a slot there
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def slots(self) -> int:
        """The number of requests that may wait at the same time."""
        if isinstance(self._slots, int):
            return self._slots
        # The result is larger in a thread that serves no request, because the server is not visible there.
        self._smallest = min(self._smallest, self._slots())
        return self._smallest

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot until the end of the block. Inside it, the same thread (or greenlet) takes no other slot.

        :raises errors.ProviderBusy: when all slots are taken.
        """
        if _held.get() is self:
            yield
            return
        with self._total.slot() if self._total else nullcontext():
            self._take()
            outer = _held.set(self)
            try:
                yield
            finally:
                _held.reset(outer)
                with self._lock:
                    self._taken -= 1
                if self._metrics is not None:
                    self._metrics.add_slots(-1)

    def _take(self) -> None:
        with self._lock:
            is_free = self._taken == 0 or self._taken < self.slots  # at least one
            self._taken += is_free
        if not is_free:
            raise errors.ProviderBusy(
                f"WSGI_OAUTH_UPSTREAM_LIMIT: all slots of this worker ({self.slots}) are taken by requests that wait "
                "for the provider; raise it together with the number of threads"
            )
        if self._metrics is not None:
            self._metrics.add_slots(1)


# The limit in which the current thread or greenlet holds a slot.
_held: ContextVar[RequestLimit | None] = ContextVar("_held", default=None)
