"""Path rules of the gate: segments of a path, compared as the protected application sees them (PEP 3333)."""

from __future__ import annotations

import re
from collections.abc import Collection

# A path that every server and framework reads in the same way: no empty segments, no dot segments, no percent-encoding
# that is left after decoding, no `;parameters`, no `?`, `#`, backslash or control characters.
_UNAMBIGUOUS = re.compile(r"(?:/(?![ .]*(?:/|\Z))[^/\\;%?#\x00-\x1f\x7f]+)*/?")


class PublicPaths:
    """The paths that anonymous users may visit: ``/static`` includes everything below it, ``/`` is the front page only.

    :raises TypeError: if *paths* is a single string.
    :raises ValueError: if a path is ambiguous or does not begin with a slash.
    """

    def __init__(self, paths: Collection[str]) -> None:
        if isinstance(paths, str):
            raise TypeError(f"public: must be a collection of paths (got the string {paths!r}); write ({paths!r},)")
        self._exact = frozenset(parse_path(path, "public") for path in paths)
        self._prefixes = tuple(f"{path}/" for path in self._exact - {"/"})

    def include(self, script_name: str, path_info: str) -> bool:
        """Return whether the path is public. Ambiguous paths (``//``, ``..``, ``;``, percent-encoded) never are."""
        if not self._exact or ((path_info or "/") not in self._exact and not path_info.startswith(self._prefixes)):
            return False
        path = script_name + path_info
        try:
            path.encode("latin-1").decode()
        except UnicodeError:
            return False
        return _UNAMBIGUOUS.fullmatch(path) is not None


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
