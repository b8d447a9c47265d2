"""The HTTP messages that the trace, the lab and the walk show, with sender, receiver and source line."""

from __future__ import annotations

import http.client
import json
import linecache
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urljoin, urlsplit

BROWSER, APPLICATION, PROVIDER = "browser", "application", "provider"
# The further parties of the attack lab: the browsers of victim and attacker, and the attacker's servers.
VICTIM, ATTACKER, ATTACKERS_SITE, ATTACKERS_PROVIDER = "Victor", "Mallory", "Mallory's site", "Mallory's provider"
ATTACKERS = frozenset({ATTACKER, ATTACKERS_SITE, ATTACKERS_PROVIDER})

MAX_BODY = 20_000
"""Bytes of a body that are recorded."""

ROOT = Path(__file__).parents[2]
"""The folder that contains the package."""

_MAX_DEPTH = 50

Files = Mapping[str, Any]
"""Session files: the JSON value of each by its name; None for a file that does not exist."""


class SourceLine(NamedTuple):
    """A line of this project's source code."""

    file: str  # relative to ROOT, such as "wsgi_oauth/flow.py"
    line: int  # from 1
    function: str

    @property
    def text(self) -> str:
        """The line without indentation."""
        return linecache.getline(str(ROOT / self.file), self.line).strip()


@dataclass(frozen=True)
class Message:
    """An HTTP request or response between two parties."""

    sender: str
    receiver: str
    exchange: str
    """The id that a request and its response share."""
    method: str
    url: str
    """The URL of the request, also in its response."""
    status: int | None = None
    """None for a request. 0 if the connection ended without a whole response."""
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    """The first :data:`MAX_BODY` bytes; of a compressed body, a description in parentheses."""
    time: float = 0.0
    """Seconds since the epoch."""
    parent: str = ""
    """The id of the exchange during which a server sent this message; empty for the messages of the browser."""
    endpoint: str = ""
    """The name of the endpoint of the provider, such as ``token``; empty for the other parties."""
    source: SourceLine | None = None
    """The line that produced this message; None for the messages of the browser."""
    handler: SourceLine | None = None
    """The line of the function that answers the request, if it has called ``source``: of an error page."""
    chain: tuple[SourceLine, ...] = ()
    """All calls of this project that led to the message, the outermost first."""
    session_before: Files = field(default_factory=dict)
    """The session files of this browser's cookies before the request; only in responses of the application."""
    session_after: Files = field(default_factory=dict)
    run: str = ""
    """The id of a run in the attack lab; empty outside the lab."""
    title: str = ""
    """The title of that run."""
    number: int = 0
    """The position among all messages, from 1. The recorder sets it."""

    @property
    def is_attackers(self) -> bool:
        """Whether the attacker of the lab, or a server of the attacker, sent this message."""
        return self.sender in ATTACKERS

    @property
    def is_request(self) -> bool:
        """Whether this is a request and not a response."""
        return self.status is None

    @property
    def status_line(self) -> str:
        """The status of this response with its reason phrase, such as ``200 OK``."""
        return describe_status(self.status) if self.status else "connection ended"

    def header(self, name: str) -> str:
        """Return the first value of a header; "" if it is missing."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    @property
    def target(self) -> str:
        """The absolute URL to which this response redirects; "" without a redirect, or if the URL is malformed."""
        location = self.header("Location")
        try:
            return location and urljoin(self.url, location)
        except ValueError:
            return ""

    def to_json(self) -> str:
        """Return the message as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Message:
        """Return the message in *text*, a result of :meth:`to_json`.

        :raises ValueError, TypeError, KeyError: if *text* is anything else.
        """
        document = json.loads(text)
        source, handler = document.pop("source"), document.pop("handler")
        return cls(
            **document
            | {
                "source": source and SourceLine(*source),
                "handler": handler and SourceLine(*handler),
                "chain": tuple(SourceLine(*each) for each in document["chain"]),
                "headers": tuple((name, value) for name, value in document["headers"]),
            }
        )


def describe_status(status: int) -> str:
    """Return *status* with its reason phrase, such as ``200 OK``."""
    return f"{status} {http.client.responses.get(status, '')}".strip()


def load_json(text: str | bytes) -> Any:
    """Return the JSON value in *text*, which anybody may have written.

    :raises ValueError: if it is malformed, or nested more deeply than Python can mask and write it.
    """
    text = text.decode() if isinstance(text, bytes) else text
    depths = accumulate(1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", text))
    if max(depths, default=0) > _MAX_DEPTH:
        raise ValueError("JSON: nested too deeply")
    return json.loads(text)


def query_of(url: str) -> dict[str, str]:
    """Return the parameters in the query of *url*."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def form_of(message: Message) -> dict[str, str]:
    """Return the fields of the form that *message* submits."""
    is_form = message.header("Content-Type").startswith("application/x-www-form-urlencoded")
    return dict(parse_qsl(message.body, keep_blank_values=True)) if is_form else {}


def parse_object(message: Message) -> Mapping[str, Any] | None:
    """Return the JSON object in the body of *message*; None if the body is something else, or nested too deeply."""
    if "json" not in message.header("Content-Type"):
        return None
    try:
        document = load_json(message.body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
