"""The simplest store: a dictionary and a lock. For tests, for applications with one process, and as an example."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice

from .store import Record, check_size


class MemoryStore:
    """Stores sessions in the memory of the process. :class:`~wsgi_oauth.SessionStore` describes the methods."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, Record] = OrderedDict()
        # One lock for all sessions is enough, because no operation takes long.
        self._lock = threading.Lock()

    def load(self, key: str) -> bytes | None:
        record = self._records.get(key)
        return record.data if record and record.expires > time.time() else None

    def create(self, key: str, record: Record) -> None:
        check_size(record)
        with self._lock:
            self._records[key] = record
            self._sweep_slice()

    def update(self, key: str, change: Callable[[bytes], Record | None], *, move_to: str | None = None) -> bool:
        with self._lock:
            data = self.load(key)
            if data is None:
                return False
            record = change(data)
            if record is not None:
                check_size(record)
                self._records[move_to or key] = record
                if move_to and move_to != key:
                    del self._records[key]
            return True

    def delete(self, key: str) -> None:
        with self._lock:
            self._records.pop(key, None)

    def keys(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._records))

    def sweep(self) -> int:
        with self._lock:
            now = time.time()
            expired = [key for key, record in self._records.items() if record.expires <= now]
            for key in expired:
                del self._records[key]
            return len(expired)

    def check(self) -> None:
        pass

    def _sweep_slice(self) -> None:
        """Check two records and move them to the end, so that expired sessions cannot accumulate."""
        for key in list(islice(self._records, 2)):
            if self._records[key].expires <= time.time():
                del self._records[key]
            else:
                self._records.move_to_end(key)
