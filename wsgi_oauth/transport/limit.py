"""A limit on how many requests of a process may wait for a provider at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

from .. import errors


class RequestLimit:
    """A semaphore that never blocks: a request that finds no free slot fails at once with ProviderBusy.

    Without it, a provider that does not answer would soon occupy all threads of a worker, and the worker would no
    longer answer requests that do not need the provider.
    """

    def __init__(self, slots: int, total: RequestLimit | None = None) -> None:
        """
        :param slots: number of requests that may wait at the same time.
        :param total: the limit of all providers together, from which each slot takes one as well.
        """
        # A deque instead of a semaphore, because a fork could copy the semaphore's lock in its locked state.
        self._free = deque([None] * slots)
        self._total = total

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot until the end of the block. Inside it, the same thread (or greenlet) needs no second slot.

        :raises errors.ProviderBusy: when all slots are taken.
        """
        if _held.get() is self:
            yield
            return
        with ExitStack() as release:
            for limit in (self, self._total):
                if limit is not None:
                    limit._take()
                    release.callback(limit._free.append, None)
            outer = _held.set(self)
            release.callback(_held.reset, outer)
            yield

    def _take(self) -> None:
        try:
            self._free.pop()
        except IndexError:
            raise errors.ProviderBusy(
                "WSGI_OAUTH_UPSTREAM_LIMIT: all slots of this worker are taken by requests that wait for the provider; "
                "raise it together with the number of threads"
            ) from None


# The limit in which the current thread or greenlet holds a slot.
_held: ContextVar[RequestLimit | None] = ContextVar("_held", default=None)
