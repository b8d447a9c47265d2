"""The trace page of ``wsgi-oauth demo``: a sequence diagram of the messages, drawn while they are exchanged.

Each message opens to its parameters, headers and body with explanations, the source line that produced it, the session
file before and after, and the attackers' view. Jinja2 escapes everything, because every client can send messages.
Secrets are masked unless the demo was started with ``--reveal``.
"""

from __future__ import annotations

import difflib
import functools
import json
import linecache
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from . import explanations
from .attackers import POSITIONS, SECRETS, AttackersView, find_views
from .episodes import Episode, divide
from .fault_stories import STORIES
from .glossary import read_glossary
from .kinds import STEPS, Kind, explain_header, find_kind, find_user
from .masking import mask_header, mask_json, mask_name, mask_parameter, mask_text
from .messages import PROVIDER, ROOT, Message, SourceLine, form_of, parse_object, query_of
from .own_pages import FOLDER, Pages, render
from .recorder import Recorder
from .references import link_rfcs, link_terms
from .signing import read_claims

_HEARTBEAT = 15  # seconds between two events without news; they detect closed connections
_CONTEXT = 4  # source lines before and after the line that produced a message

# Headers that matter in a sign-in. The page folds up all others.
_IMPORTANT = {"cookie", "set-cookie", "authorization", "location", "www-authenticate", "referrer-policy"}


class Field(NamedTuple):
    """A parameter, header or JSON member."""

    name: str
    value: str
    explanation: str


class Group(NamedTuple):
    """Fields of one part of a message."""

    title: str
    fields: list[Field]
    is_folded: bool = False


class DiffLine(NamedTuple):
    """A line of a session file: "+" if it is new, "-" if it has gone, "" if it is unchanged."""

    change: str
    text: str


class FileChange(NamedTuple):
    """A session file before and after a request."""

    name: str
    event: str  # "created", "deleted", "changed" or "unchanged"
    lines: list[DiffLine]


class Excerpt(NamedTuple):
    """The source around a line: of each line the number, the text, and whether it is that line."""

    title: str
    source: SourceLine
    lines: list[tuple[int, str, bool]]


@dataclass(frozen=True)
class MessageView:
    """A message as the page shows it."""

    number: int  # in the episode, from 1
    message: Message
    kind: Kind
    step: str  # the heading above the message; "" if it has the same heading as the previous message
    label: str
    sender: int  # the position of the party in the diagram
    receiver: int
    follows: int  # the number of the message whose redirect this request follows, or 0
    purpose: str  # the message in one line
    groups: list[Group]
    body: str
    files: list[FileChange]
    attackers: list[AttackersView]

    @property
    def id(self) -> str:
        """The id of the message on the page."""
        return f"m{self.message.number}"

    @property
    def is_fault(self) -> bool:
        """Whether the provider has injected a fault here."""
        return any(call.file == "wsgi_oauth/demo/faults.py" for call in self.message.chain)

    @property
    def secrets(self) -> dict[str, str]:
        """The secrets in this message that attackers could see, and the reasons why these are of no use to them."""
        return {secret: SECRETS[secret] for view in self.attackers for secret in view.secrets}

    @property
    def excerpts(self) -> list[Excerpt]:
        """The source around the line that produced the message, then that around the line of the handler."""
        handler = self.message.handler
        title = "Source line that raised the error" if handler else "Source line that produced it"
        titles = ((title, self.message.source), ("The line of the handler that called it", handler))
        return [Excerpt(title, source, _read_lines(source)) for title, source in titles if source]

    @property
    def calls(self) -> tuple[SourceLine, ...]:
        """The calls that led to the message, if there are several."""
        return self.message.chain if len(self.message.chain) > 1 else ()


@dataclass(frozen=True)
class EpisodeView:
    """An episode as the page shows it."""

    number: int
    episode: Episode
    messages: list[MessageView]


class Trace(Pages):
    """The pages of the trace.

    :param recorder: has the messages.
    :param provider_url: the URL of the provider.
    :param application_url: the URL of the application.
    :param reveal: whether secrets are shown in full.
    """

    routes = Map(
        [
            Rule("/trace", endpoint="show", methods=["GET"]),
            Rule("/trace/glossary", endpoint="show_glossary", methods=["GET"]),
            Rule("/trace/events", endpoint="stream", methods=["GET"]),
            Rule("/trace/script.js", endpoint="send_script", methods=["GET"]),
        ],
        strict_slashes=False,
        merge_slashes=False,
    )

    def __init__(self, recorder: Recorder, provider_url: str, application_url: str, *, reveal: bool = False) -> None:
        self._recorder = recorder
        self._provider_url = provider_url
        self._application_url = application_url
        self._reveal = reveal

    def show(self, request: Request) -> Response:
        """GET /trace: all episodes outside the lab, the newest first, without the provider's own pages.

        ``run`` selects a run of the lab instead, and ``after`` the episodes with messages after a number.
        """
        run, after = request.args.get("run", ""), request.args.get("after", 0, type=int)
        shown = [
            each
            for each in divide(self._recorder.messages)
            if each.messages[0].run == run and not each.is_providers_page
        ]
        episodes = [
            EpisodeView(number, episode, self.view(episode))
            for number, episode in enumerate(shown, 1)
            if episode.messages[-1].number > after
        ]
        return render(
            "trace.html",
            has_script=True,
            link_rfcs=link_rfcs,
            link_terms=link_terms,
            run=run,
            episodes=list(reversed(episodes)),
            dropped=self._recorder.dropped,
            reveal=self._reveal,
            application_url=self._application_url,
            provider_url=self._provider_url,
            positions=POSITIONS,
            fault_titles={each.name: each.title for each in STORIES},
            last=max((each.episode.messages[-1].number for each in episodes), default=after),
        )

    def show_glossary(self, _request: Request) -> Response:
        """GET /trace/glossary: show the glossary of the documentation."""
        return render("glossary.html", entries=read_glossary())

    def send_script(self, _request: Request) -> Response:
        """GET /trace/script.js: send the script of the trace."""
        script = (FOLDER / "trace.js").read_text(encoding="utf-8")
        return Response(script, headers={"Cache-Control": "no-store"}, content_type="text/javascript; charset=utf-8")

    def stream(self, _request: Request) -> Response:
        """GET /trace/events: return a stream with an event for each change (Server-sent events, HTML 9.2)."""

        def generate() -> Iterator[bytes]:
            event = b""
            while not self._recorder.is_closed:
                latest = self._recorder.wait_for(functools.partial(_build_event, previous=event), _HEARTBEAT)
                yield latest or b": nothing new\n\n"
                event = latest or event

        return Response(generate(), headers={"Cache-Control": "no-store"}, content_type="text/event-stream")

    def view(self, episode: Episode) -> list[MessageView]:
        """Return the messages of *episode* as the page shows them."""
        requests = {each.exchange: each for each in episode.requests}
        redirects: dict[str, int] = {}
        steps = list(STEPS if episode.is_sign_in else ())
        is_new_step = True
        views: list[MessageView] = []
        for number, message in enumerate(episode.messages, 1):
            request = requests.get(message.exchange, message)
            kind = find_kind(message, request)
            views.append(
                MessageView(
                    number=number,
                    message=message,
                    kind=kind,
                    step=steps[0][0] if is_new_step and steps else "",
                    label=build_label(message),
                    sender=episode.parties.index(message.sender),
                    receiver=episode.parties.index(message.receiver),
                    follows=redirects.get(message.url, 0) if message.is_request else 0,
                    # A run of the lab has several users, so the sentence names them instead of "you".
                    purpose=kind.tell(find_user(request, requests)) if message.run else kind.purpose,
                    groups=list(self._groups(message, kind)),
                    body=self._body(message),
                    files=[self._change(name, message) for name in message.session_after],
                    attackers=find_views(message, request),
                )
            )
            if message.target:
                redirects[message.target] = number
            is_new_step = bool(steps) and kind.name == steps[0][1]
            steps = steps[is_new_step:]
        return views

    def _groups(self, message: Message, kind: Kind) -> Iterator[Group]:
        def fields(parameters: Iterable[tuple[str, str]]) -> list[Field]:
            return [self._field(kind, name, value) for name, value in parameters]

        if message.is_request and (query := urlsplit(message.url).query):
            yield Group("Parameters in the URL", fields(parse_qsl(query, keep_blank_values=True)))
        important = [(name, value) for name, value in message.headers if name.lower() in _IMPORTANT]
        others = [(name, value) for name, value in message.headers if name.lower() not in _IMPORTANT]
        if important:
            yield Group("Headers", [self._header_field(message, kind, name, value) for name, value in important])
        if location := query_of(message.target):
            yield Group("Parameters in the URL of Location", fields(location.items()))
        if form := form_of(message):
            yield Group("Form in the body", fields(form.items()))
        if (document := parse_object(message)) is not None:
            is_public = self._reveal or message.endpoint in {"discovery", "keys"}
            members = [
                Field(
                    name if is_public else mask_name(name),
                    _show(value if is_public else mask_json(value, name)),
                    _explain(kind, name),
                )
                for name, value in document.items()
            ]
            yield Group("JSON in the body", members)
            if claims := read_claims(document.get("id_token")):
                masked = claims if self._reveal else mask_json(claims)
                yield Group(
                    "Claims in the ID token",
                    [
                        Field(name, _show(value), _explain(kind, name, explanations.ID_TOKEN))
                        for name, value in masked.items()
                    ],
                )
        if others:
            yield Group(
                f"{len(others)} further headers",
                [self._header_field(message, kind, name, value) for name, value in others],
                is_folded=True,
            )

    def _header_field(self, message: Message, kind: Kind, name: str, value: str) -> Field:
        explanation = explain_header(kind, name, value)
        if name.lower() == "cookie" and message.receiver == PROVIDER:
            explanation = explanations.COOKIE_AT_PROVIDER
        elif name.lower() == "authorization" and value.lower().startswith("bearer"):
            explanation = explanations.PROFILE_REQUEST["Authorization"]
        return Field(name, value if self._reveal else mask_header(name, value), explanation)

    def _field(self, kind: Kind, name: str, value: str) -> Field:
        """Return the field for a parameter."""
        explanation = _explain(kind, name)
        if self._reveal:
            return Field(name, value, explanation)
        return Field(mask_name(name), mask_parameter(name, value), explanation)

    def _body(self, message: Message) -> str:
        """Return the body as text, if it is not shown as fields."""
        if not message.body or form_of(message) or parse_object(message) is not None:
            return ""
        if self._reveal or message.status == 0 or "html" not in message.header("Content-Type"):
            return message.body if self._reveal else mask_text(message.body)
        return f"(an HTML page of {len(message.body)} characters)"

    def _change(self, name: str, message: Message) -> FileChange:
        before, after = message.session_before.get(name), message.session_after[name]
        event = "unchanged"
        if before != after:
            event = "created" if before is None else "deleted" if after is None else "changed"
        return FileChange(f"{name[:8]}….json", event, list(self._compare(before, after)))

    def _compare(self, before: Any, after: Any) -> Iterator[DiffLine]:
        """Compare two JSON values line by line, and mask the lines afterwards."""
        old, new = _pretty(before), _pretty(after)
        shown_old, shown_new = (old, new) if self._reveal else (_pretty(mask_json(before)), _pretty(mask_json(after)))
        matcher = difflib.SequenceMatcher(None, [each.rstrip(",") for each in old], [each.rstrip(",") for each in new])
        for tag, old_start, old_end, new_start, new_end in matcher.get_opcodes():
            if tag == "equal":
                yield from (DiffLine("", line) for line in shown_new[new_start:new_end])
            else:
                yield from (DiffLine("-", line) for line in shown_old[old_start:old_end])
                yield from (DiffLine("+", line) for line in shown_new[new_start:new_end])


def _build_event(messages: Sequence[Message], *, previous: bytes) -> bytes:
    """Return the event with the number of the last message; b"" if that is the *previous* event."""
    event = b"data: %d\n\n" % (messages[-1].number if messages else 0)
    return b"" if event == previous else event


def _read_lines(source: SourceLine) -> list[tuple[int, str, bool]]:
    lines = linecache.getlines(str(ROOT / source.file))
    numbers = range(max(1, source.line - _CONTEXT), min(len(lines), source.line + _CONTEXT) + 1)
    return [(number, lines[number - 1].rstrip("\n"), number == source.line) for number in numbers]


def _pretty(value: Any) -> list[str]:
    """Return the lines of a session file; none if it does not exist."""
    return [] if value is None else json.dumps(value, indent=2, ensure_ascii=False).split("\n")


def _show(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _explain(kind: Kind, name: str, known: explanations.Explanations = MappingProxyType({})) -> str:
    return known.get(name) or kind.fields.get(name) or explanations.PARAMETERS.get(name, "")


def build_label(message: Message) -> str:
    """Return the first line of the message, without the query."""
    if not message.is_request:
        return message.status_line
    parts = urlsplit(message.url)
    return f"{message.method} {parts.path}{'?…' if parts.query else ''}"
