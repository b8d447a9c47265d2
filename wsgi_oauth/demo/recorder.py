"""Collect the messages of all processes of the demo in one place, in causal order.

The recorder is in the launcher's process. Each server sends it a message before that message can have an effect: a
request before it is answered, and a response before it is sent. The server continues only after the recorder has
confirmed the message. So the order of arrival is the order of cause and effect, independently of the clocks.
"""

from __future__ import annotations

import dataclasses
import http.client
import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from .episodes import divide
from .messages import Message

MAX_MESSAGES = 600
"""When the recorder has more, it drops the oldest sign-ins."""

_TIMEOUT = 10  # seconds for sending a message to the recorder
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class TakesMessages(Protocol):
    """A recorder of this process, or a client for the recorder of another process."""

    key: str
    """A secret of the demo's processes."""

    def add(self, message: Message) -> object: ...


class Recorder:
    """The messages of all processes. Thread-safe."""

    def __init__(self, limit: int = MAX_MESSAGES) -> None:
        self.key = secrets.token_urlsafe(32)
        #: The number of messages that were dropped because there were too many.
        self.dropped = 0
        self._limit = limit
        self._messages: list[Message] = []
        self._last = 0
        self._changed = threading.Condition()
        self._is_closed = False

    @property
    def messages(self) -> Sequence[Message]:
        """All messages so far, in causal order."""
        with self._changed:
            return tuple(self._messages)

    def add(self, message: Message) -> Message:
        """Record *message*; return it with its place in the order."""
        with self._changed:
            self._last += 1
            message = dataclasses.replace(message, number=self._last)
            self._messages.append(message)
            if len(self._messages) > self._limit:
                self._drop_oldest()
            self._changed.notify_all()
        return message

    def _drop_oldest(self) -> None:
        """Drop a tenth of the messages, in whole episodes, because it takes long to find the episodes."""
        oldest: set[int] = set()
        for episode in divide(self._messages):
            oldest.update(each.number for each in episode.messages)
            if len(oldest) > self._limit // 10:
                break
        self._messages = [each for each in self._messages if each.number not in oldest]
        self.dropped += len(oldest)

    def clear(self) -> None:
        """Delete all messages."""
        with self._changed:
            self._messages.clear()
            self.dropped = 0
            self._changed.notify_all()

    def wait_for(self, find: Callable[[Sequence[Message]], _T], timeout: float) -> _T:
        """Wait until *find* returns a true value for the messages so far, and return it.

        After *timeout* seconds, or when the recorder is closed, return the result of a last call.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or find(tuple(self._messages)), timeout)
            return find(tuple(self._messages))

    def close(self) -> None:
        """End all calls of :meth:`wait_for`."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether the demo is ending."""
        return self._is_closed


class RemoteRecorder:
    """The recorder of another process.

    :param url: the URL at which that process takes messages.
    :param key: the secret of the demo's processes.
    """

    def __init__(self, url: str, key: str) -> None:
        self._parts = urlsplit(url)
        self.key = key

    def add(self, message: Message) -> None:
        """Record *message*. A failure is only logged, because the application is more important than its trace."""
        connection = http.client.HTTPConnection(self._parts.netloc, timeout=_TIMEOUT)
        try:
            connection.request("POST", self._parts.path, message.to_json(), {"Authorization": f"Bearer {self.key}"})
            response = connection.getresponse()
            response.read()
            if response.status != http.client.NO_CONTENT:
                raise OSError(f"status {response.status}")
        except (OSError, http.client.HTTPException) as error:
            _log.warning("the trace lacks a message: %r", error)
        finally:
            connection.close()
