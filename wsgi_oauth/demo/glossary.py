"""The glossary of the documentation as a page of the demo."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup, escape

from .messages import ROOT

_PLACES = (ROOT / "docs", Path(sys.prefix) / "share" / "doc" / "wsgi-oauth" / "docs")
_ENTRY = re.compile(r'(?m)^(?:\*\*(?P<heading>.+)\*\*$|- <a id="(?P<id>[\w-]+)"></a>(?P<text>.+)$)')


class Entry(NamedTuple):
    """A heading, or a term with its explanation. A heading has no id."""

    id: str
    text: Markup
    names: tuple[str, ...] = ()
    """The term and its other names, in lower case."""


def read_glossary() -> list[Entry]:
    """Return the entries of docs/glossary.md; empty if the documentation is not installed."""
    for folder in _PLACES:
        try:
            return list(_parse((folder / "glossary.md").read_text(encoding="utf-8")))
        except OSError:
            continue
    return []


def _parse(document: str) -> Iterator[Entry]:
    for match in _ENTRY.finditer(document):
        text = str(escape(match["heading"] or match["text"]))
        text = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", text)  # removes links, whose targets are files
        for mark, tag in (("**", "strong"), ("*", "em"), ("`", "code")):
            mark = re.escape(mark)  # noqa: PLW2901
            text = re.sub(f"{mark}(.+?){mark}", rf"<{tag}>\1</{tag}>", text)
        term = re.match(r"\*\*(.+?)\*\*(?: \(([^)]+)\))?", match["text"] or "")
        names = [each for part in (term.groups() if term else ()) if part for each in part.split(", ")]
        yield Entry(match["id"] or "", Markup(text), tuple(each.lower() for each in names))  # noqa: S704  # escaped above
