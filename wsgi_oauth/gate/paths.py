"""Path rules of the gate: which paths are public, restricted, or sign the user out.

Rules that open a path match exactly. Rules that restrict a path also match its other spellings (:mod:`.spelling`),
because the protected application may treat them as the same path.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Collection
from typing import NamedTuple

from . import spelling

_EVERYTHING = "/*"  # makes all unambiguous paths public


class PathRule(NamedTuple):
    """The rules that apply to a path."""

    is_sign_in: bool = False  # the sign-in itself answers
    is_public: bool = False
    restricted: tuple[str, ...] = ()  # the restricted paths that include it
    signs_out: bool = False


class PathRules:
    """The :class:`PublicPaths`, :class:`RestrictedPaths` and :class:`SignOutPaths` of a gate.

    :param sign_in: the path of the sign-in, a result of :func:`parse_path`.
    """

    def __init__(
        self, *, sign_in: str, public: Collection[str], restricted: Collection[str], sign_out: Collection[str]
    ) -> None:
        self._sign_in = sign_in
        self._below_sign_in = f"{sign_in}/"
        self._public = PublicPaths(public)
        self._restricted = RestrictedPaths(restricted)
        self._sign_out = SignOutPaths(sign_out)
        # Matches the path of most requests: a plain path, without a rule for it or for a path above it. This saves a
        # seventh of the time of a signed-in request through the gate.
        paths = {sign_in, *self._public.paths, *self._sign_out.paths} - {"/"}
        ruled = f"{spelling.build_pattern(paths)}|{spelling.build_lenient_pattern(self._restricted.folded)}"
        pattern = rf"(?!/?\Z|{ruled}){spelling.PLAIN.pattern}"
        self._has_no_rule = re.compile(pattern, re.ASCII | re.IGNORECASE).fullmatch
        self._no_rule = PathRule(is_public=self._public.includes_everything)

    def find(self, script_name: str, path_info: str, is_ambiguous: bool = False) -> PathRule:
        """Return the rule for the requested path.

        :param is_ambiguous: whether the application may read another path, for example from a header.
        """
        if not script_name and not is_ambiguous and self._has_no_rule(path_info):
            return self._no_rule
        if path_info == self._sign_in or path_info.startswith(self._below_sign_in):
            return PathRule(is_sign_in=True)
        signs_out = self._sign_out.include(path_info)
        if is_ambiguous:
            return PathRule(restricted=tuple(self._restricted.paths), signs_out=signs_out)
        restricted = self._restricted.find(script_name, path_info)
        public = self._public.find(script_name, path_info)
        is_public = public is not None and all(_depth(public) > _depth(each) for each in restricted)
        if is_public and script_name and restricted:
            # A path that is restricted only together with SCRIPT_NAME does not lie above the public one.
            is_public = restricted == self._restricted.find("", path_info)
        return PathRule(is_public=is_public, restricted=tuple(restricted), signs_out=signs_out)

    def may_differ_below(self, script_name: str, path_info: str) -> bool:
        """Return whether pages below the requested path may have other rules than that path."""
        # A public front page does not include the pages below it.
        return not path_info.strip("/") or self._restricted.has_path_below(script_name, path_info)


class PublicPaths:
    """The paths that anonymous users may visit: ``/static`` includes everything below it, ``/`` is the front page only,
    and ``/*`` is the whole application. Errors are those of :func:`parse_paths`.
    """

    def __init__(self, paths: Collection[str]) -> None:
        named = paths if isinstance(paths, str) else [path for path in paths if path != _EVERYTHING]
        self.paths = frozenset(parse_paths(named, "public"))
        self.includes_everything = _EVERYTHING in paths
        self._prefixes = tuple(f"{path}/" for path in self.paths - {"/"})

    def find(self, script_name: str, path_info: str) -> str | None:
        """Return the longest public path that includes the requested path, or None; "" if only ``/*`` includes it.

        Ambiguous paths (``//``, ``..``, ``;``, percent-encoded) are never public.
        """
        path = path_info or "/"
        if not self.includes_everything and path not in self.paths and not path.startswith(self._prefixes):
            return None
        text = spelling.decode(script_name, path_info)
        # The application may convert compatibility characters to dots and slashes.
        if text is None or not (text.isascii() or spelling.UNAMBIGUOUS.fullmatch(unicodedata.normalize("NFKC", text))):
            return None
        including = [public for public in self.paths if path == public or path.startswith(f"{public}/")]
        return max([path if path in self.paths else "", *including], key=len)


class RestrictedPaths:
    """The paths that only some signed-in users may visit, with everything below; ``/`` is the whole application."""

    def __init__(self, paths: Collection[str]) -> None:
        self._texts = {path: parse_path(path, "allow").encode("latin-1").decode() for path in paths}
        self._segments = {path: spelling.split(spelling.fold(text)) for path, text in self._texts.items()}
        self.paths = list(self._segments)
        #: The folded paths; "" for the whole application.
        self.folded = {"/".join(["", *segments]) for segments in self._segments.values()}
        self._may_include = re.compile(spelling.build_lenient_pattern(self.folded - {""}), re.ASCII | re.IGNORECASE)

    def find(self, script_name: str, path_info: str) -> list[str]:
        """Return the restricted paths whose rules apply.

        - The longest path that includes the requested one exactly.
        - Each longer path that may include it, because the application may ignore letter case, accents and characters
          that file systems ignore, replace or remove the other characters outside ASCII and punctuation, and remove an
          extension.
        - For an ambiguous path all paths, because the application may read it as any of them.
        """
        if not script_name and spelling.PLAIN.fullmatch(path_info) and not self._may_include.match(path_info):
            return ["/"] if "" in self.folded else []
        text = spelling.decode(script_name, path_info)
        if text is None:
            return self.paths
        readings = itertools.starmap(self._find_longest, spelling.find_readings(script_name, text))
        return list(dict.fromkeys(path for paths in readings for path in paths))

    def has_path_below(self, script_name: str, path_info: str) -> bool:
        """Return whether a restricted path may be below the requested one."""
        text = spelling.decode(script_name, path_info)
        if text is None:
            return True
        return any(
            len(names) < len(segments) and spelling.may_include(segments[: len(names)], names)
            for _, requested in spelling.find_readings(script_name, text)
            for names in spelling.without_punctuation(requested)
            for segments in self._segments.values()
        )

    def _find_longest(self, reading: str, requested: list[str]) -> list[str]:
        """Return the longest path that certainly includes *reading*, and longer ones that may do so.

        :param requested: the segments of *reading*, folded and perhaps normalized.
        """
        certain = [
            segments
            for path, segments in self._segments.items()
            if requested[: len(segments)] == segments and f"{reading}/".startswith(f"{self._texts[path]}/")
        ]
        longest = max(map(len, certain), default=0)
        readings = spelling.without_punctuation(requested)  # once, not for each rule, because a segment can be long
        return [
            path
            for path, segments in self._segments.items()
            if longest <= len(segments) and any(spelling.may_include(segments, each) for each in readings)
        ]


class SignOutPaths:
    """The paths of the application's own sign-out, in all their spellings."""

    def __init__(self, paths: Collection[str]) -> None:
        #: The normalized paths.
        self.paths = frozenset(spelling.normalize_encoded(path) for path in parse_paths(paths, "sign_out"))

    def include(self, path_info: str) -> bool:
        """Return whether this is a sign-out path, or could be one for an application that normalizes paths."""
        if not self.paths or spelling.is_too_long(path_info):
            return False
        return spelling.normalize_encoded(path_info) in self.paths


def parse_paths(paths: Collection[str], setting: str) -> list[str]:
    """Return each of the configured *paths*, parsed by :func:`parse_path`.

    :param setting: its name, for the error message.
    :raises TypeError: if *paths* is a single string, because its characters would be the paths.
    :raises ValueError: if a path is ambiguous or does not begin with a slash.
    """
    if isinstance(paths, str):
        raise TypeError(f"{setting}: must be a collection of paths (got the string {paths!r}); write ({paths!r},)")
    return [parse_path(path, setting) for path in paths]


def parse_path(path: str, setting: str) -> str:
    """Return a configured path in the form of ``PATH_INFO`` (PEP 3333: bytes as latin-1), without a trailing slash.

    :param setting: its name, for the error message.
    :raises ValueError: if it is ambiguous or does not begin with a slash.
    """
    parsed = path.encode().decode("latin-1")
    if not parsed or "*" in parsed or not spelling.UNAMBIGUOUS.fullmatch(parsed):
        raise ValueError(
            f"{setting}: not a plain path (got {path!a}); write a path such as /static, without wildcards and "
            "percent-encoding"
        )
    return parsed.rstrip("/") or "/"


def _depth(path: str) -> int:
    """Return the number of segments of a configured path."""
    return path.rstrip("/").count("/")
