"""Print the HTTP messages of the walk with their explanations."""

from __future__ import annotations

import json
import os
import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, TextIO
from urllib.parse import parse_qsl

from .browser import FORM
from .explanations import HEADERS, Explanations
from .kinds import Kind, explain_header, find_kind
from .masking import mask_header, mask_json, mask_parameter
from .messages import Message, parse_object

# A header, parameter or JSON member in print: name, masked value, explanation.
Field = tuple[str, str, str]

_RFC_SECTION = re.compile(r"(RFC|OpenID Connect [A-Z][a-z]+) (\d+) (\d)")


class Printer:
    """Prints at most 100 columns, with colours on a terminal, and in ASCII if the encoding requires it.

    Each explanation is printed once.

    :param reveal: print secrets instead of masking them.
    """

    BOLD, DIM, GREEN = "1", "2", "32"

    def __init__(self, out: TextIO, *, reveal: bool = False) -> None:
        self._out = out
        self._reveal = reveal
        self._colour = out.isatty() and not os.environ.get("NO_COLOR")
        columns = shutil.get_terminal_size((100, 24)).columns if out.isatty() else 100
        self._width = max(60, min(100, columns))
        self._queries: dict[str, int] = {}  # the number of the message that contained each query first
        self._explained: set[str] = set()
        self._requests: dict[str, Message] = {}  # by the id of the exchange
        self.messages = 0

    def title(self, text: str) -> None:
        """Print the title of a step."""
        self._print(f"\n{text}\n{'=' * len(text)}", self.BOLD)

    def question(self, question: str, answer: str) -> None:
        """Print a question of beginners with its answer."""
        self._print(f"\n{question}", self.BOLD)
        self._wrap(answer)

    def paragraph(self, text: str) -> None:
        """Print a paragraph."""
        self._print()
        self._wrap(text)

    def definitions(self, definitions: Mapping[str, str]) -> None:
        """Print terms and their descriptions in two columns."""
        self._print()
        width = max(len(term) for term in definitions)
        for term, description in definitions.items():
            self._wrap(f"{term:<{width}}  {description}", " " * 4, " " * (6 + width))

    def message(self, message: Message) -> None:
        """Print a message: its name and purpose, and the explained headers and parameters."""
        kind = find_kind(message, self._requests.setdefault(message.exchange, message))
        self.messages += 1
        self._print(f"\n{self.messages:2}  {message.sender} → {message.receiver}", self.BOLD)
        self._wrap(f"{kind.name} ({kind.section}). {kind.purpose}".replace(" ()", ""), " " * 4)
        if message.is_request:
            url, mark, query = message.url.partition("?")
            self._wrap(f"{message.method} {url}{mark}{query and '…'}", " " * 4)
        else:
            _, _, query = message.header("Location").partition("?")
            self._wrap(message.status_line, " " * 4)
        self._fields("", self._headers(message.headers, kind))
        self._query("in the query:" if message.is_request else "in the query of that URL:", query, kind.fields)
        self._body(message, kind.fields)

    def _query(self, label: str, query: str, explanations: Explanations) -> None:
        if query in self._queries:
            self._wrap(f"{label} the same as in message {self._queries[query]}", " " * 4)
        elif query:
            self._queries[query] = self.messages
            self._fields(label, self._parameters(query, explanations))

    def _body(self, message: Message, explanations: Explanations) -> None:
        content_type = message.header("Content-Type")
        if message.endpoint in {"discovery", "keys"}:
            self._wrap(f"in the body: JSON, {len(message.body)} characters" if message.body else "", " " * 4)
        elif content_type.startswith(FORM):
            self._fields("in the body, as a form:", self._parameters(message.body, explanations))
        elif "json" in content_type:
            self.members("in the body, as JSON:", parse_object(message) or {}, explanations)
        elif "html" in content_type and not message.header("Location"):
            self._wrap("in the body: an HTML page", " " * 4)

    def members(self, label: str, document: Mapping[str, Any], explanations: Explanations) -> None:
        """Print the members of a JSON object below *label*, or below an empty line."""
        if not label:
            self._print()
        masked = document if self._reveal else mask_json(document)
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in masked.items()}
        self._fields(label, ((name, text, explanations.get(name, "")) for name, text in texts.items()))

    def json_file(self, label: str, document: Any) -> None:
        """Print a JSON document below *label*."""
        self._print()
        self._wrap(label, " " * 4)
        text = json.dumps(document if self._reveal else mask_json(document), indent=2, ensure_ascii=False)
        self._print(textwrap.indent(text, " " * 6))

    def check_passed(self, text: str) -> None:
        """Print the result of a check that passed."""
        self._wrap(f"✓ {text}", " " * 4, " " * 6, self.GREEN)

    def json(self, document: Any) -> None:
        """Print a JSON document without masking or wrapping, so that programs can read it."""
        self._print()
        self._print(json.dumps(document, indent=2))

    def _headers(self, headers: Iterable[tuple[str, str]], kind: Kind) -> Iterable[Field]:
        """Yield the headers that have an explanation, ``Location`` last and without its query."""
        for name, value in sorted(headers, key=lambda header: header[0] == "Location"):
            if name == "Location":
                yield name, value.partition("?")[0], kind.fields.get(name, "")
            elif name in kind.fields or name in HEADERS:
                masked = value if self._reveal else mask_header(name, value)
                yield name, masked, explain_header(kind, name, value)

    def _parameters(self, encoded: str, explanations: Explanations) -> Iterable[Field]:
        """Yield the parameters of a query or a form."""
        for name, value in parse_qsl(encoded, keep_blank_values=True):
            yield name, value if self._reveal else mask_parameter(name, value), explanations.get(name, "")

    def _fields(self, label: str, fields: Iterable[Field]) -> None:
        for name, value, explanation in fields:
            if label:
                self._wrap(label, " " * 4)
                label = ""
            self._wrap(f"{name:<22} {value}", " " * 6, " " * 29)
            if explanation not in self._explained:
                self._wrap(explanation, " " * 29, style=self.DIM)
                self._explained.add(explanation)

    def _wrap(self, text: str, indent: str = "", indent_rest: str | None = None, style: str = "") -> None:
        """Print *text* as lines that fit the width; *indent_rest* indents all lines after the first."""
        lines = textwrap.wrap(
            _RFC_SECTION.sub("\\1\xa0\\2\xa0\\3", text),  # no line break inside "RFC 6749 4.1"
            self._width,
            initial_indent=indent,
            subsequent_indent=indent if indent_rest is None else indent_rest,
            break_on_hyphens=False,
        )
        for line in lines:
            self._print(line, style)

    def _print(self, text: str = "", style: str = "") -> None:
        text = self._encodable(text.replace("\xa0", " "))
        if style and self._colour:
            text = f"\x1b[{style}m{text}\x1b[0m"
        print(text, file=self._out, flush=True)

    def _encodable(self, text: str) -> str:
        encoding = self._out.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.replace("…", "...").replace("→", "->").replace("✓", "ok:")
            text = text.encode(encoding, "replace").decode(encoding)
        return text
