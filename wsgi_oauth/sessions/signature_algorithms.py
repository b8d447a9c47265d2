"""The signature algorithms of the ID tokens that this client has received.

A logout token must be signed with the same algorithm (OpenID Connect Back-Channel Logout 1.0, 2.6). Issuers announce
several algorithms, but not which of them is registered for this client.
"""

from __future__ import annotations

import logging
import time

from .. import errors
from .encoding import OTHER_ENTRY
from .store import Record, SessionStore, store_key

_ENTRY = OTHER_ENTRY + b"algorithm:1:"
_PURPOSE = "the signature algorithm of "
_INTERVAL = 86400.0  # seconds after which a process stores the same algorithm again
_log = logging.getLogger(__name__)


class SignatureAlgorithms:
    """The algorithms of the ID tokens that this process has received, and those in *store*, by registration."""

    def __init__(self, store: SessionStore, lifetime: float) -> None:
        self._store = store
        self._lifetime = lifetime
        self._seen: dict[str, str] = {}
        self._stored: dict[str, tuple[str, float]] = {}  # the algorithm that this process stored, and the time

    def record(self, registration_key: str, algorithm: str, *, is_ambiguous: bool) -> None:
        """Record the algorithm of an ID token. A failure is only logged, because the next sign-in tries again.

        :param is_ambiguous: whether the issuer announces several algorithms with public keys. Only then is the
            algorithm stored for other processes.
        """
        self._seen[registration_key] = algorithm
        now = time.time()
        known, stored = self._stored.get(registration_key, ("", 0.0))
        if not is_ambiguous or (known == algorithm and now < stored + _INTERVAL):
            return
        key = store_key(f"{_PURPOSE}{registration_key}")
        record = Record(_ENTRY + algorithm.encode(), now + self._lifetime + 2 * _INTERVAL)
        try:
            if not self._store.update(key, lambda _: record):
                self._store.create(key, record)
        except errors.StoreError as error:
            _log.warning("the algorithm of an ID token was not stored: %s", error)
            return
        self._stored[registration_key] = (algorithm, now)

    def find(self, registration_key: str) -> set[str]:
        """Return the algorithm of the latest ID token of this process, and the latest one in the store, if known."""
        raw = self._store.load(store_key(f"{_PURPOSE}{registration_key}")) or b""
        stored = raw.removeprefix(_ENTRY).decode("ascii", "replace") if raw.startswith(_ENTRY) else ""
        return {stored, self._seen.get(registration_key, "")} - {""}
