"""Audit events: sign-ins, refusals, and the beginning and the end of sessions and access tokens.

Each event becomes one line of the log, and is passed to the function ``on_event`` of ``create_app``.
``docs/operating.md`` documents the names and the fields, which never change their meaning.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

SUCCESS = "success"
REFUSED = "refused"  # because of the user or the request
FAILED = "failed"  # because of the provider, the store or the configuration

SIGN_IN = "sign_in"
IDENTIFICATION = "identification"
ACCESS = "access"
SIGN_OUT = "sign_out"
REFRESH = "refresh"
RECHECK = "recheck"
SESSION_END = "session_end"
HAND_OVER = "hand_over"
TOKEN_CREATION = "token_creation"  # noqa: S105  # the name of an event
TOKEN_FIRST_USE = "token_first_use"  # noqa: S105
TOKEN_REVOCATION = "token_revocation"  # noqa: S105

NAMES = (
    *(SIGN_IN, IDENTIFICATION, ACCESS, SIGN_OUT, REFRESH, RECHECK, SESSION_END, HAND_OVER),
    *(TOKEN_CREATION, TOKEN_FIRST_USE, TOKEN_REVOCATION),
)

REQUEST_ID_KEY = "wsgi_oauth.request_id"  # in environ
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}", re.ASCII)
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]+")
_log = logging.getLogger(__name__)


class Source(NamedTuple):
    """The request that causes an event."""

    request_id: str = ""
    client: str = ""  # the client's address, from the headers of trusted proxies


@dataclass(frozen=True)
class Event:
    """An audit event. It contains no token, code, state, cookie or session id. Unknown values are empty."""

    name: str  # one of NAMES
    outcome: str = SUCCESS  # or REFUSED or FAILED
    cause: str = ""  # the error code of a refusal or failure, as in docs/operating.md
    user: str = ""  # the id of the user (Identity.id)
    provider: str = ""  # the label or the name of the provider
    client: str = ""  # the client's address
    request_id: str = ""  # the id that an error page of the same request shows
    session: str = ""  # the fingerprint of the session
    token: str = ""  # the public id of an access token for programs, as /tokens lists it
    request: str = ""  # method and path of the request, without its query
    detail: str = ""  # an explanation for people; its wording can change
    time: float = field(default_factory=time.time)  # seconds since the epoch

    def __str__(self) -> str:
        """The event as a line of the log, in printable ASCII."""
        names = ("user", "provider", "client", "session", "token", "cause", "request")
        fields = [f"{name}={quote_field(value)}" for name in names if (value := getattr(self, name))]
        request_id = f"[{self.request_id}] " if self.request_id else ""
        detail = f": {escape_text(self.detail)}" if self.detail else ""
        return request_id + " ".join([self.name, self.outcome, *fields]) + detail


class Events:
    """Writes events to the log and passes them to *listeners*, which delay the request, but cannot make it fail."""

    def __init__(self, *listeners: Callable[[Event], object]) -> None:
        self._listeners = listeners

    def emit(self, event: Event, *, level: int | None = None, exc_info: bool = False) -> None:
        """Log *event*, and call the listeners with it. Their exceptions are only logged.

        :param level: by default INFO for success, and WARNING otherwise.
        """
        level = level or (logging.INFO if event.outcome == SUCCESS else logging.WARNING)
        with suppress(Exception):  # a log handler may fail
            _log.log(level, "%s", event, exc_info=exc_info, extra={"event": event})
        for listener in self._listeners:
            try:
                listener(event)
            except (Exception, SystemExit):  # noqa: BLE001  # an event must not fail its request
                with suppress(Exception):
                    _log.exception("[%s] on_event failed for %s", event.request_id, event.name)


def build_fingerprint(key: str) -> str:
    """Return the fingerprint of a session, a hash of its key in the store. It is not secret."""
    return sha256(f"wsgi_oauth: fingerprint {key}".encode()).hexdigest()[:16] if key else ""


def valid_request_id(header: str) -> str:
    """Return the value of the header ``X-Request-ID``; "" if it is too long or contains unusual characters."""
    return header if _REQUEST_ID.fullmatch(header) else ""


def escape_text(text: str) -> str:
    """Return *text* in printable ASCII, with escapes for other characters, which could forge lines of the log."""
    return _NOT_PRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def quote_field(value: str) -> str:
    """Return *value* in printable ASCII; quoted if it contains characters that separate fields."""
    return value if re.fullmatch(r"[\x21\x23-\x26\x28-\x7e]+", value, re.ASCII) else ascii(value)
