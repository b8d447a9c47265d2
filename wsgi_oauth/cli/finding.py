"""A result of ``wsgi-oauth check``, and the documents that it names."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ..version import DOCUMENTS


@dataclass(frozen=True)
class Finding:
    level: str  # ok, warn or FAIL
    text: str
    remedy: str = ""
    label: str = ""  # the provider's label, if several are configured

    def __str__(self) -> str:
        subject = f"{self.label}: " if self.label else ""
        return f"{self.level:<5} {subject}{self.text}" + (f"\n      -> {self.remedy}" if self.remedy else "")


def ok(text: str, remedy: str = "") -> Finding:
    """Return the finding that a part works; *remedy* is a suggestion."""
    return Finding("ok", text, remedy)


def warn(text: str, remedy: str) -> Finding:
    """Return the finding that a part may not work, or not for everyone."""
    return Finding("warn", text, remedy)


def fail(text: str, remedy: str = "") -> Finding:
    """Return the finding that no user can sign in."""
    return Finding("FAIL", text, remedy)


def locate_document(name: str) -> str:
    """Return the path of a document in the environment or in the checkout, or its URL if it is in neither."""
    installed, checkout = Path(sys.prefix, "share", "doc", "wsgi-oauth", "docs"), Path(__file__).parents[2] / "docs"
    found = [folder / name for folder in (installed, checkout) if (folder / name).exists()]
    return str(found[0]) if found else f"{DOCUMENTS}/{name}"
