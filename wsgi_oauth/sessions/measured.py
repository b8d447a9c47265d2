"""A wrapper that measures the operations of a session store."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from .. import errors
from ..metrics import Metrics
from .store import SessionStore

_OPERATIONS = ("load", "load_all", "create", "update", "delete", "sweep", "check", "version", "is_current", "time")


class MeasuredStore:
    """Behaves like *original*, and reports the duration of each operation to *metrics*."""

    def __init__(self, original: SessionStore, metrics: Metrics) -> None:
        self.original = original
        self._metrics = metrics
        for name in _OPERATIONS:
            if hasattr(original, name):
                setattr(self, name, self._measured(name, getattr(original, name)))

    def _measured(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        observe, clock = self._metrics.observe_store, time.perf_counter

        @wraps(operation)
        def measured(*arguments: Any, **options: Any) -> Any:
            started, outcome = clock(), "ok"
            try:
                return operation(*arguments, **options)
            except errors.StoreError:
                outcome = "error"
                raise
            finally:
                observe(name, outcome, clock() - started)

        return measured

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)
