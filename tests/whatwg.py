"""Resolve a redirect like a browser, according to the URL standard (https://url.spec.whatwg.org/).

urllib follows RFC 3986, but browsers do not: they strip, repair and normalize URLs, and attackers use that. So tests of
redirects need the parser of the URL standard. This one implements its states for http and https, in their order.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple
from urllib.parse import unquote

C0_CONTROL_OR_SPACE = "".join(map(chr, range(0x21)))
DEFAULT_PORTS = {"http": "80", "https": "443"}
FORBIDDEN_IN_A_HOST = re.compile(r"[\x00-\x20#%/:<>?@\[\\\]^`{|}\x7f]")


class Target(NamedTuple):
    """An origin such as ``http://localhost`` and a path; for other schemes than http, ``javascript:`` and the rest."""

    origin: str
    path: str


INVALID = Target("", "")  # the browser shows an error and opens no page


def resolved(location: str, base: str) -> Target:
    """Return the target of a ``Location`` header in the response to *base*, an http or https URL."""
    at = re.fullmatch(r"(https?)://([^/?#]*)([^?#]*).*", base, re.DOTALL)
    assert at, base
    text = re.sub(r"[\t\n\r]", "", location.strip(C0_CONTROL_OR_SPACE))
    # Scheme state.
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.\-]*):(.*)", text, re.DOTALL)
    if scheme is None:
        return _relative(text, at)
    name, rest = scheme[1].lower(), scheme[2]
    if name not in DEFAULT_PORTS:
        return Target(f"{name}:", rest)
    # Special relative or authority state: on an http page, `http:path` is a relative URL.
    if name == at[1] and not rest.startswith("//"):
        return _relative(rest, at)
    return _with_authority(name, rest)  # special authority slashes state: slashes may be missing


def _relative(text: str, at: re.Match[str]) -> Target:
    """Resolve a relative URL (relative state, relative slash state). A backslash counts as a slash."""
    origin, path = f"{at[1]}://{at[2]}", _path_of(text)
    if path.startswith("//"):
        return _with_authority(at[1], text)
    if path.startswith("/"):
        return Target(origin, _without_dots(path))
    folder = at[3].rpartition("/")[0]
    return Target(origin, _without_dots(f"{folder}/{path}" if path else at[3] or "/"))


def _with_authority(scheme: str, text: str) -> Target:
    """Parse a URL after its scheme (states: special authority ignore slashes, authority, host, port)."""
    authority, slash, path = _path_of(text).lstrip("/").partition("/")
    host, _, port = authority.rpartition("@")[2].partition(":")  # no test uses IPv6 addresses
    host = _host(host)
    if not host or not (port.isascii() and (port.isdigit() or not port)):
        return INVALID
    shown = "" if port in {"", DEFAULT_PORTS[scheme]} else f":{port}"
    return Target(f"{scheme}://{host}{shown}", _without_dots(slash + path))


def _host(text: str) -> str:
    """Parse a host (host parser): decode percent-encoding, map to ASCII like UTS #46, and numbers to IPv4."""
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
    """Parse a path (path state): remove dot segments, also percent-encoded ones, but keep empty segments."""
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
