"""Path rules of the gate: segments of a path, compared as the protected application sees them (PEP 3333).

Rules that open a path match exactly. Rules that restrict a path also match its other spellings, because the protected
application may treat them as the same path.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Collection
from urllib.parse import unquote

# A path that every server and framework reads in the same way: no empty segments, no dot segments, no percent-encoding
# that is left after decoding, no `;parameters`, no `?`, `#`, backslash or control characters.
_UNAMBIGUOUS = re.compile(r"(?:/(?![ .]*(?:/|\Z))[^/\\;%?#\x00-\x1f\x7f]+)*/?")
_DOT_OR_SPACE_AT_END = re.compile(r"[ .](?:/|\Z)")  # Windows ignores both at the end of a file name


class PublicPaths:
    """The paths that anonymous users may visit: ``/static`` includes everything below it, ``/`` is the front page only.

    :raises TypeError: if *paths* is a single string.
    :raises ValueError: if a path is ambiguous or does not begin with a slash.
    """

    def __init__(self, paths: Collection[str]) -> None:
        self._exact = frozenset(parse_paths(paths, "public"))
        self._prefixes = tuple(f"{path}/" for path in self._exact - {"/"})

    def find(self, script_name: str, path_info: str) -> str | None:
        """Return the longest public path that includes the requested path, or None.

        Ambiguous paths (``//``, ``..``, ``;``, percent-encoded) are never public.
        """
        path = path_info or "/"
        if not self._exact or (path not in self._exact and not path.startswith(self._prefixes)):
            return None
        if _decode(script_name + path_info) is None:
            return None
        including = [public for public in self._exact if path == public or path.startswith(f"{public}/")]
        return max([path if path in self._exact else "", *including], key=len)


class RestrictedPaths:
    """The paths that only some signed-in users may visit, with everything below; ``/`` is the whole application.

    :raises TypeError: if *paths* is a single string.
    :raises ValueError: if a path is ambiguous or does not begin with a slash.
    """

    def __init__(self, paths: Collection[str]) -> None:
        self._folded = {path: _fold(parse_path(path, "allow").encode("latin-1").decode()) for path in paths}

    def find(self, script_name: str, path_info: str) -> list[str]:
        """Return the restricted paths of which the user has to satisfy the rules.

        That is the longest one that includes the requested path. Letter case and compatibility characters make no
        difference. For an ambiguous path, all are returned: the application may read it as any of them.
        """
        path = _decode(script_name + path_info)
        if path is None or _DOT_OR_SPACE_AT_END.search(path):
            return list(self._folded)
        text = _fold(path_info.encode("latin-1").decode())
        # Compatibility characters can fold to dots and spaces, which the application may normalize afterwards.
        return list(dict.fromkeys(self._find_longest(text) + self._find_longest(_normalize_text(text))))

    def _find_longest(self, folded_path: str) -> list[str]:
        requested = folded_path.rstrip("/") + "/"
        including = [path for path, folded in self._folded.items() if requested.startswith(folded.rstrip("/") + "/")]
        longest = max((len(self._folded[path]) for path in including), default=0)
        return [path for path in including if len(self._folded[path]) == longest]


class SignOutPaths:
    """The paths of the application's own sign-out, in every spelling of theirs.

    :raises TypeError: if *paths* is a single string.
    :raises ValueError: if a path is ambiguous or does not begin with a slash.
    """

    def __init__(self, paths: Collection[str]) -> None:
        self._paths = frozenset(_normalize(path) for path in parse_paths(paths, "sign_out"))

    def include(self, path_info: str) -> bool:
        """Return whether this is a sign-out path, or could be one for an application that normalizes paths."""
        return bool(self._paths) and _normalize(path_info) in self._paths


def parse_paths(paths: Collection[str], setting: str) -> list[str]:
    """Return configured paths as :func:`parse_path` does.

    :param setting: its name, for the error message.
    :raises TypeError: if *paths* is a single string, because its characters would be the paths.
    :raises ValueError: if a path is ambiguous or does not begin with a slash.
    """
    if isinstance(paths, str):
        raise TypeError(f"{setting}: must be a collection of paths (got the string {paths!r}); write ({paths!r},)")
    return [parse_path(path, setting) for path in paths]


def parse_path(path: str, setting: str) -> str:
    """Return a configured path as it stands in ``PATH_INFO`` (PEP 3333: bytes as latin-1), without a trailing slash.

    :param setting: its name, for the error message.
    :raises ValueError: if it is ambiguous or does not begin with a slash.
    """
    parsed = path.encode().decode("latin-1")
    if not parsed or "*" in parsed or not _UNAMBIGUOUS.fullmatch(parsed):
        raise ValueError(
            f"{setting}: not a plain path (got {path!a}); write a path such as /static, without wildcards and "
            "percent-encoding"
        )
    return parsed.rstrip("/") or "/"


def _decode(path: str) -> str | None:
    """Return a path of the WSGI environment as text; None if it is ambiguous."""
    try:
        text = path.encode("latin-1").decode()
    except UnicodeError:
        return None
    return text if _UNAMBIGUOUS.fullmatch(path) else None


def _fold(text: str) -> str:
    visible = "".join(character for character in text if unicodedata.category(character) != "Cf")  # as file systems do
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold())


def _normalize(path: str) -> str:
    """Return the path that an application may read in *path*: decoded, without parameters and empty segments."""
    return _fold(_normalize_text(unquote(path.encode("latin-1", "replace").decode(errors="replace"))))


def _normalize_text(path: str) -> str:
    segments = [segment.partition(";")[0].rstrip(" .") or segment for segment in path.replace("\\", "/").split("/")]
    return posixpath.normpath("/" + "/".join(segments).lstrip("/"))
