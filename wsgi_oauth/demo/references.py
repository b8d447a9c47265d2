"""References to the sections of standards and to the glossary, as links."""

from __future__ import annotations

import functools
import re

from markupsafe import Markup, escape

from .glossary import read_glossary

_RFC = re.compile(r"RFC (\d+)\b(?: ([\d.]+\d|\d))?")

ATTACKS = ("login csrf", "code injection", "mix-up", "open redirect", "session fixation")
"""Names of attacks. With hyphens, they are the names of the stories in the lab."""


def link_rfcs(text: str) -> Markup:
    """Return *text* as HTML, with a link for each section of an RFC."""

    def link(match: re.Match[str]) -> str:
        number, section = match.groups()
        anchor = f"#section-{section}" if section else ""
        return f'<a href="https://www.rfc-editor.org/rfc/rfc{number}{anchor}" rel="noreferrer">{match[0]}</a>'

    return Markup(_RFC.sub(link, str(escape(text))))  # noqa: S704  # escaped


@functools.cache
def _find_terms() -> dict[str, str]:
    """Return the URLs of the glossary's terms by their names in lower case."""
    parties = {"client", "user-agent", "authorization-server", "resource-owner"}  # they are on the page already
    names = {
        name: f"/trace/glossary#{entry.id}"
        for entry in read_glossary()
        if entry.id not in parties
        for name in entry.names
    }
    return dict(sorted(names.items(), key=lambda item: -len(item[0])))


def link_terms(text: str) -> Markup:
    """Return *text* as HTML, with links for RFCs, and for the first occurrence of each term and attack.

    Terms lead to the glossary, attacks to their stories in the lab.
    """
    terms, seen = {**{name: f"/lab/{name.replace(' ', '-')}" for name in ATTACKS}, **_find_terms()}, set[str]()

    def link(match: re.Match[str]) -> str:
        term = terms[match[0].lower()]
        if term in seen:
            return match[0]
        seen.add(term)
        return f'<a class="term" href="{term}">{match[0]}</a>'

    words = "|".join(re.escape(term) for term in terms)
    return Markup(re.sub(rf"(?i)\b(?:{words})\b", link, str(link_rfcs(text))))  # noqa: S704  # escaped
