"""The session: a dictionary with the data that the application keeps for one browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from .. import errors
from ..events import Source
from .cookie import FORM_POST
from .encoding import TOKEN, StoredSession, copy_json

T = TypeVar("T")
_REMOVED = object()  # stands for the value of a key that the request removed


class Session(dict[str, Any]):
    """JSON values under string keys, for one browser.

    When the handler has answered, the keys that it set or removed are merged into the newest stored version. Concurrent
    requests therefore lose nothing, unless two of them set the same key. :meth:`change` is one atomic step.
    """

    event: str = ""  # the name of the audit event that this request causes when the session is saved
    ended: bool = False  # whether this request ended the session
    ended_elsewhere: bool = False  # whether another request ended the session, or gave it a new id
    renewing: bool = False  # whether saving gives the session a new id
    source = Source()  # the request that opened the session, for audit events
    purpose: str = ""  # the suffix of its cookie's name, for a pending sign-in; empty for the browser's session

    def __init__(self, manager: Any, stored: StoredSession | None = None, session_id: str | None = None) -> None:
        self.id = session_id  # None until the session is stored
        self.cookie_id = session_id  # the id that the browser sent
        self.stored: StoredSession | None = None
        self.changes_on_save: list[Callable[[dict[str, Any]], object]] = []
        self._manager = manager  # a SessionManager; an import of its module would be circular
        if stored is not None:
            self.replace(stored)

    def __missing__(self, key: str) -> Any:
        raise errors.NotSignedIn("the session has no token") if key == TOKEN else KeyError(key)

    @property
    def signed_in(self) -> bool:
        """Whether the session holds an access token."""
        return TOKEN in self

    @property
    def is_form_post(self) -> bool:
        return self.purpose.endswith(FORM_POST)

    @property
    def started(self) -> float:
        """When the session began, or when the user last signed in: seconds since the epoch."""
        return self.stored.started if self.stored else time.time()

    def change(self, function: Callable[[dict[str, Any]], T]) -> T:
        """Call *function* with the newest stored data under the session's lock, and store them. Return its result.

        No other request can change the data in between, so a check and the change that depends on it are one step.
        If another request has ended the session, *function* gets an empty dictionary whose changes are discarded.
        """
        if self.id is None:
            return function(self)
        outcome: list[T] = []

        def apply(stored: StoredSession) -> StoredSession:
            outcome.append(function(stored.data))
            return stored._replace(seen=time.time())

        unsaved = self.changes()
        if not self._manager.update(self, apply):
            self.ended_elsewhere = True
            outcome.append(function({}))
        _apply(unsaved, self)
        return outcome[0]

    def change_on_save(self, function: Callable[[dict[str, Any]], object]) -> None:
        """Call *function* with the newest stored data when this session is saved, in one write with its changes."""
        self.changes_on_save.append(function)

    def renew(self) -> None:
        """Give the session a new id when it is saved, against session fixation (ASVS 7.2.4).

        If the session was signed in before, perhaps by another user, its earlier data is dropped.
        """
        self.renewing = True

    def end(self) -> None:
        """Delete the session: in the store at once, in the browser with the response."""
        if self.id is not None:
            self._manager.delete(self.id)
        self.clear()
        self.ended = True

    def load_latest(self) -> dict[str, Any]:
        """Return the newest stored data, without changing this copy. The data of an ended session is empty."""
        stored = self._manager.read(self.id) if self.id is not None else None
        return stored.data if stored else {}

    def accept_stored(self, key: str, value: Any) -> None:
        """Set *key* to a *value* that is already stored, without recording a change by this request."""
        assert self.stored is not None
        self.stored = self.stored._replace(data={**self.stored.data, key: value})
        self[key] = copy_json(value)

    def replace(self, stored: StoredSession) -> None:
        """Replace this copy by the data of *stored*."""
        self.stored = stored
        self.clear()
        self.update(copy_json(stored.data))  # a copy: changes are found by comparison with the original

    def changes(self) -> dict[str, Any]:
        """Return the keys that this request set, with their values, and the removed keys with ``_REMOVED``."""
        before = self.stored.data if self.stored else {}
        changed = {key: value for key, value in self.items() if key not in before or before[key] != value}
        return {**changed, **dict.fromkeys(before.keys() - self.keys(), _REMOVED)}

    def merge_into(self, data: dict[str, Any]) -> None:
        """Apply this request's changes to *data*, the newest stored version."""
        _apply(self.changes(), data)
        for function in self.changes_on_save:
            function(data)


def _apply(changes: dict[str, Any], data: dict[str, Any]) -> None:
    for key, value in changes.items():
        if value is _REMOVED:
            data.pop(key, None)
        else:
            data[key] = value
