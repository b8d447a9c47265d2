"""Characters that names must not contain, such as controls and changes of the writing direction."""

from __future__ import annotations

import re

# Control characters, line separators and lone surrogates. Every other character can be a part of a name: Japanese has a
# space of its own, and Persian, Indic scripts and emoji use invisible characters.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# CONTROLS, and embeddings, overrides and isolates, which reorder the text around a name (UAX #9, 2.1 to 2.4).
NOT_DISPLAYED = re.compile(rf"[\u202a-\u202e\u2066-\u2069]|{CONTROLS.pattern}")


def escape_for_display(text: str) -> str:
    """Return *text* for a page, a log or a terminal: control characters and changes of direction become escapes."""
    return NOT_DISPLAYED.sub(lambda match: ascii(match[0])[1:-1], text)
