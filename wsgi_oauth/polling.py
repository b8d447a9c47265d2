"""Waiting for another thread, process or machine that cannot notify this one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator


def poll(timeout: float, *, pause: float = 0.0005, longest_pause: float = 0.02) -> Iterator[None]:
    """Yield before each attempt of a ``for`` loop, and sleep between two attempts.

    ::

        for _ in poll(5.0):
            if lock.acquire(blocking=False):
                return
        raise TimeoutError

    There is at least one attempt, and a last one when the time is over. Sleeping works in every kind of worker.
    Blocking does not: with gevent, the holder of the lock may run in the same thread.

    :param timeout: seconds of wall-clock time after which the loop ends.
    :param pause: seconds between the first two attempts. It doubles after each one, up to *longest_pause*.
    """
    deadline = time.monotonic() + timeout
    while True:
        yield
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(pause, left))
        pause = min(pause * 2, longest_pause)


def acquire(lock: threading.Lock, timeout: float) -> bool:
    """Acquire *lock*, and return whether that was possible within *timeout* seconds. Threads and greenlets can wait."""
    # gunicorn loads the application before gevent replaces the locks, so `lock` may block all greenlets of the worker.
    return any(lock.acquire(blocking=False) for _ in poll(timeout))
