"""The log as JSON: one object per line, for ``WSGI_OAUTH_LOG_FORMAT=json``."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, TextIO

from .events import Event

# Messages about a request begin with its id, see `events.valid_request_id`.
_MESSAGE = re.compile(r"(?:\[([A-Za-z0-9._:+/=@-]+)\] )?(.*)", re.ASCII | re.DOTALL)


class JsonFormatter(logging.Formatter):
    """Formats a log record as one line with a JSON object in ASCII. A traceback is a string in it.

    Audit events and gunicorn's access log have members of their own. Empty ones are left out (docs/operating.md).
    """

    def format(self, record: logging.LogRecord) -> str:
        request_id, message = _split_message(record)
        members = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": message,
            "request_id": request_id,
            "cause": getattr(record, "cause", ""),
        }
        event = getattr(record, "event", None)
        if isinstance(event, Event):
            fields = {name: value for name, value in vars(event).items() if name not in {"name", "detail", "time"}}
            message = f"{event.name} {event.outcome}" + (f": {event.detail}" if event.detail else "")
            members |= {"event": event.name, **fields, "message": message}
        elif record.name == "gunicorn.access" and isinstance(record.args, Mapping):
            members |= _access_members(record.args)
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            members["stack"] = self.formatStack(record.stack_info)
        return json.dumps({name: value for name, value in members.items() if value != ""}, default=str)


def _split_message(record: logging.LogRecord) -> tuple[str, str]:
    """Return the id of the request that the message is about, and the text of the message behind it."""
    match = _MESSAGE.fullmatch(record.getMessage()) if record.name.startswith("wsgi_oauth") else None
    return (match[1] or "", match[2]) if match else ("", record.getMessage())


def _access_members(atoms: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members for a request, from gunicorn's atoms (its setting ``access_log_format`` names them)."""
    return {
        "message": f"{atoms['m']} {atoms['U']} {atoms['s']}",
        "request": f"{atoms['m']} {atoms['U']}",
        "status": int(atoms["s"]),
        "bytes": atoms["B"],
        "milliseconds": atoms["M"],
        "peer": atoms["h"],
        "request_id": "" if atoms["request_id"] == "-" else atoms["request_id"],
    }


class JsonStream(threading.local):  # each thread has an unfinished message of its own
    """A stream such as ``sys.stderr`` that writes each message to *original* as a line with a JSON object.

    It is for messages that bypass the log, such as an error at the start, or an application's ``print``.
    """

    def __init__(self, original: TextIO) -> None:
        self.original = original
        self._unfinished = ""

    def write(self, text: str) -> int:
        """Write a message when its last line is complete; keep *text* until then."""
        self._unfinished += text
        if self._unfinished.endswith("\n"):
            message, self._unfinished = self._unfinished.strip(), ""
            if message:
                record = logging.LogRecord("stderr", logging.WARNING, "", 0, message, None, None)
                self.original.write(JsonFormatter().format(record) + "\n")
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


def restore_stderr() -> None:
    """Undo the change of ``sys.stderr`` by :func:`write_json`, before new handlers for it are created."""
    if isinstance(sys.stderr, JsonStream):
        sys.stderr = sys.stderr.original


def write_json(*loggers: str) -> None:
    """Write the messages of these loggers, Python's warnings and the text for ``sys.stderr`` as JSON."""
    for name in loggers:
        for handler in logging.getLogger(name).handlers:
            handler.setFormatter(JsonFormatter())
    logging.captureWarnings(True)
    restore_stderr()
    # The handlers of the loggers keep the original sys.stderr.
    sys.stderr = JsonStream(sys.stderr)
