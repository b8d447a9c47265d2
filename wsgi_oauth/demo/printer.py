"""Print the HTTP messages of the walk with their explanations."""

from __future__ import annotations

import json
import os
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO
from urllib.parse import parse_qsl

from werkzeug.datastructures import Headers

from .browser import FORM, HttpRequest, HttpResponse
from .explanations import HEADERS, Explanations
from .masking import mask_header, mask_json, mask_parameter

# A header, parameter or JSON member in print: name, masked value, explanation.
Field = tuple[str, str, str]

_RFC_SECTION = re.compile(r"RFC (\d+) (\d)")


class Printer:
    """Prints at most 100 columns, with colours on a terminal, and in ASCII where the encoding requires it."""

    BOLD, DIM, GREEN = "1", "2", "32"

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._colour = out.isatty() and not os.environ.get("NO_COLOR")
        columns = shutil.get_terminal_size((100, 24)).columns if out.isatty() else 100
        self._width = max(60, min(100, columns))
        self._redirect_message = 0  # the number of the last message that redirected to a URL with a query
        self.messages = 0

    def title(self, text: str) -> None:
        """Print the title of a step."""
        self._print(f"\n{text}\n{'=' * len(text)}", self.BOLD)

    def paragraph(self, text: str) -> None:
        """Print a paragraph."""
        self._print()
        self._wrap(text)

    def definitions(self, definitions: Mapping[str, str]) -> None:
        """Print terms and their descriptions in two columns."""
        self._print()
        for term, description in definitions.items():
            self._wrap(f"{term:<13} {description}", " " * 4, " " * 18)

    def request(
        self,
        sender: str,
        receiver: str,
        request: HttpRequest,
        explanations: Explanations,
        *,
        same_query: bool = False,
    ) -> None:
        """Print a request.

        :param same_query: refer to the redirect that was printed before instead of repeating its query.
        """
        url, mark, query = request.url.partition("?")
        self._message(sender, receiver, f"{request.method} {url}{mark}{query and '…'}")
        self._fields("", header_fields(request.headers, explanations))
        if query and same_query:
            self._wrap(f"in the query: the same as in message {self._redirect_message}", " " * 4)
        else:
            self._fields("in the query:", parameter_fields(query, explanations))
        if request.headers.get("Content-Type", "").startswith(FORM):
            self._fields("in the body, as a form:", parameter_fields(request.body, explanations))

    def response(self, sender: str, receiver: str, response: HttpResponse, explanations: Explanations) -> None:
        """Print a response, with the parameters of the URL to which it redirects."""
        self._message(sender, receiver, str(response))
        self._fields("", header_fields(response.headers, explanations))
        _, _, query = (response.location or "").partition("?")
        if query:
            self._redirect_message = self.messages
        self._fields("in the query of that URL:", parameter_fields(query, explanations))
        if response.is_page:
            self._wrap("in the body: an HTML page", " " * 4)
        if isinstance(response.document, dict):
            self._fields("in the body, as JSON:", member_fields(response.document, explanations))

    def json_file(self, label: str, document: Any) -> None:
        """Print a JSON document below *label*. The caller has masked it."""
        self._print()
        self._wrap(label, " " * 4)
        text = json.dumps(document, indent=2, ensure_ascii=False)
        self._print(textwrap.indent(text, " " * 6))

    def check_passed(self, text: str) -> None:
        """Print the result of a check that passed."""
        self._wrap(f"✓ {text}", " " * 4, " " * 6, self.GREEN)

    def json(self, document: Any) -> None:
        """Print a JSON document without masking or wrapping, so that programs can read it."""
        self._print()
        self._print(json.dumps(document, indent=2))

    def _message(self, sender: str, receiver: str, first_line: str) -> None:
        self.messages += 1
        self._print(f"\n{self.messages:2}  {sender} → {receiver}", self.BOLD)
        self._wrap(first_line, " " * 4)

    def _fields(self, label: str, fields: Iterable[Field]) -> None:
        for name, value, explanation in fields:
            if label:
                self._wrap(label, " " * 4)
                label = ""
            self._wrap(f"{name:<22} {value}", " " * 6, " " * 29)
            self._wrap(explanation, " " * 29, style=self.DIM)

    def _wrap(self, text: str, indent: str = "", indent_rest: str | None = None, style: str = "") -> None:
        """Print *text* as lines that fit the width; *indent_rest* indents all lines after the first."""
        lines = textwrap.wrap(
            _RFC_SECTION.sub("RFC\xa0\\1\xa0\\2", text),  # no line break inside "RFC 6749 4.1"
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


def header_fields(headers: Headers, explanations: Explanations) -> Iterator[Field]:
    """Yield the headers that have an explanation, ``Location`` last and without its query."""
    for name, value in sorted(headers.items(), key=lambda header: header[0] == "Location"):
        if name == "Location":
            yield name, value.partition("?")[0], explanations.get(name, "")
        elif name == "Set-Cookie" and "Max-Age=0" in value:
            yield name, mask_header(name, value), "deletes the cookie of the finished sign-in"
        elif name in explanations or name in HEADERS:
            yield name, mask_header(name, value), explanations.get(name) or HEADERS.get(name, "")


def parameter_fields(encoded: str, explanations: Explanations) -> Iterator[Field]:
    """Yield the parameters of a query or a form."""
    for name, value in parse_qsl(encoded, keep_blank_values=True):
        yield name, mask_parameter(name, value), explanations.get(name, "")


def member_fields(document: Mapping[str, Any], explanations: Explanations) -> Iterator[Field]:
    """Yield the members of a JSON object."""
    for name, value in mask_json(document).items():
        yield name, value if isinstance(value, str) else json.dumps(value), explanations.get(name, "")
