"""Where a browser goes: the URL standard (https://url.spec.whatwg.org/), as far as a redirect needs it.

urllib follows RFC 3986, and no browser does: they strip, repair and normalise, and an attacker knows how. A judge of
redirects has to do the same, so here is the standard's basic URL parser for http and https, in the order of its states.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple
from urllib.parse import unquote

C0_CONTROL_OR_SPACE = "".join(map(chr, range(0x21)))
DEFAULT_PORTS = {"http": "80", "https": "443"}
FORBIDDEN_IN_A_HOST = re.compile(r"[\x00-\x20#%/:<>?@\[\\\]^`{|}\x7f]")


class Place(NamedTuple):
    """``http://localhost`` and ``/profile``; for another scheme than http, ``javascript:`` and the rest."""

    origin: str
    path: str


NOWHERE = Place("", "")  # a URL that is none: the browser shows an error and stays


def resolved(location: str, base: str) -> Place:
    """Follow a ``Location`` that came in the answer to *base*, an http or https URL."""
    at = re.fullmatch(r"(https?)://([^/?#]*)([^?#]*).*", base, re.DOTALL)
    assert at, base
    text = re.sub(r"[\t\n\r]", "", location.strip(C0_CONTROL_OR_SPACE))
    # Scheme state.
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.\-]*):(.*)", text, re.DOTALL)
    if scheme is None:
        return _relative(text, at)
    name, rest = scheme[1].lower(), scheme[2]
    if name not in DEFAULT_PORTS:
        return Place(f"{name}:", rest)
    # Special relative or authority state: `http:path` is relative for a page that is http itself.
    if name == at[1] and not rest.startswith("//"):
        return _relative(rest, at)
    return _with_authority(name, rest)  # special authority slashes state: missing ones are forgiven


def _relative(text: str, at: re.Match[str]) -> Place:
    """Relative state and relative slash state: for these schemes a backslash is a slash."""
    origin, path = f"{at[1]}://{at[2]}", _path_of(text)
    if path.startswith("//"):
        return _with_authority(at[1], text)
    if path.startswith("/"):
        return Place(origin, _without_dots(path))
    folder = at[3].rpartition("/")[0]
    return Place(origin, _without_dots(f"{folder}/{path}" if path else at[3] or "/"))


def _with_authority(scheme: str, text: str) -> Place:
    """Special authority ignore slashes state, authority state, host state, port state."""
    authority, slash, path = _path_of(text).lstrip("/").partition("/")
    host, _, port = authority.rpartition("@")[2].partition(":")  # IPv6 addresses are nobody's payload here
    host = _host(host)
    if not host or not (port.isascii() and (port.isdigit() or not port)):
        return NOWHERE
    shown = "" if port in {"", DEFAULT_PORTS[scheme]} else f":{port}"
    return Place(f"{scheme}://{host}{shown}", _without_dots(slash + path))


def _host(text: str) -> str:
    """Host parser: percent-decoded, mapped to ASCII as UTS #46 does (full-width dots become dots), numbers to IPv4."""
    name = unicodedata.normalize("NFKC", unquote(text, errors="replace")).replace("\u3002", ".").lower()
    if not name or FORBIDDEN_IN_A_HOST.search(name):
        return ""
    number = re.fullmatch(r"0x([0-9a-f]+)|([0-9]+)", name)
    if number:
        value = int(number[1], 16) if number[1] else int(number[2])
        name = ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))
    return name


def _path_of(text: str) -> str:
    return re.split("[?#]", text, maxsplit=1)[0].replace("\\", "/")


def _without_dots(path: str) -> str:
    """Path state: dot segments go, percent-encoded or not; empty segments stay."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for index, segment in enumerate(segments):
        name = segment.lower().replace("%2e", ".")
        if name == "..":
            kept = kept[:-1]
        if name not in {".", ".."}:
            kept.append(segment)
        elif index == len(segments) - 1:
            kept.append("")
    return "/" + "/".join(kept)
