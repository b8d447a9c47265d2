"""Path rules of the gate: which paths are public, restricted, or sign the user out.

Rules that open a path match exactly. Rules that restrict a path also match its other spellings, because the protected
application may treat them as the same path.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import NamedTuple
from urllib.parse import unquote

# A path that every server and framework reads in the same way: no empty segments, no dot segments, no percent-encoding
# that is left after decoding, no `;parameters`, no `?`, `#`, backslash or control characters.
_UNAMBIGUOUS = re.compile(r"(?:/(?![ .]*(?:/|\Z))[^/\\;%?#\x00-\x1f\x7f]+)*/?")
# A path that has only one reading, apart from letter case. Nearly all paths are like this.
_PLAIN = re.compile(r"(?:/[\w-]+(?:\.[\w-]+)*)*/?", re.ASCII)
_PARAMETERS = re.compile(r"[;:?#]")  # the beginning of parameters; on Windows, `admin:x` is a part of the file `admin`
_TO_NORMALIZE = re.compile(r"[ .:;%?#\\]|//|/@@|/\+\+|[^\x00-\x7f]")  # normalization changes only paths that match
_OTHER_SPACE = re.compile(r"[^\S ]")
_EVERYTHING = "/*"  # makes all unambiguous paths public
# Pyramid and Zope read `/@@admin` as the view `admin`, and Plone `/++api++/admin` as `/admin`.
_NAMESPACE = re.compile(r"(?<=/)(?:@@|\+\+[^+/]*\+\+)")
# TurboGears reads `/admin.json` as `/admin`. A name can contain a dot, so there are two ways to remove extensions.
_EXTENSIONS = (re.compile(r"(?<=[^/])\.[^/]*"), re.compile(r"(?<=[^/])\.[^/.]*(?=/|\Z)"))
# CherryPy and TurboGears read `/admin-area` and `/admin.area` as `/admin_area`.
_PUNCTUATION = str.maketrans(dict.fromkeys(" !\"#$%&'()*+,-.:;<=>?@[\\]^`{|}~", "_"))
# Others remove it: Werkzeug's `secure_filename` makes `admin` of `_admin`, and Otter Wiki of `ad$min` and `-/admin`.
_NO_PUNCTUATION = dict.fromkeys([*_PUNCTUATION, ord("_")])
_LETTER = re.compile(r"[a-z0-9]")  # in a folded name
_MAX_NOT_ASCII = 2000  # bytes of a path
_SHORT_NAME = re.compile(r"~[0-9]")  # ADMINI~1: FAT and NTFS open `administration` under this name, too


class PathRule(NamedTuple):
    """The rules that apply to a path."""

    is_sign_in: bool = False  # the sign-in itself answers
    is_public: bool = False
    restricted: tuple[str, ...] = ()  # the restricted paths that include it
    signs_out: bool = False


class PathRules:
    """The path rules of a gate, see :class:`PublicPaths`, :class:`RestrictedPaths` and :class:`SignOutPaths`.

    :param sign_in: the path of the sign-in, as returned by :func:`parse_path`.
    :raises TypeError: if one of the others is a single string.
    :raises ValueError: if a path is ambiguous or does not begin with a slash.
    """

    def __init__(
        self, *, sign_in: str, public: Collection[str], restricted: Collection[str], sign_out: Collection[str]
    ) -> None:
        self._sign_in = sign_in
        self._below_sign_in = f"{sign_in}/"
        self._public = PublicPaths(public)
        self._restricted = RestrictedPaths(restricted)
        self._sign_out = SignOutPaths(sign_out)
        # Matches a plain path without any rule for it or for a path above it, as in most requests. This saves a seventh
        # of the time of a signed-in request through the gate.
        paths = {sign_in, *self._public.paths, *self._sign_out.paths} - {"/"}
        pattern = rf"(?!/?\Z|{_build_pattern(paths)}|{_build_lenient_pattern(self._restricted.folded)}){_PLAIN.pattern}"
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
        return PathRule(is_public=is_public, restricted=tuple(restricted), signs_out=signs_out)


class PublicPaths:
    """The paths that anonymous users may visit: ``/static`` includes everything below it, ``/`` is the front page only,
    and ``/*`` is the whole application.

    :raises TypeError: if *paths* is a single string.
    :raises ValueError: if a path is ambiguous or does not begin with a slash.
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
        text = _decode(script_name, path_info)
        # The application may convert compatibility characters to dots and slashes.
        if text is None or not (text.isascii() or _UNAMBIGUOUS.fullmatch(unicodedata.normalize("NFKC", text))):
            return None
        including = [public for public in self.paths if path == public or path.startswith(f"{public}/")]
        return max([path if path in self.paths else "", *including], key=len)


class RestrictedPaths:
    """The paths that only some signed-in users may visit, with everything below; ``/`` is the whole application.

    :raises TypeError: if *paths* is a single string.
    :raises ValueError: if a path is ambiguous or does not begin with a slash.
    """

    def __init__(self, paths: Collection[str]) -> None:
        self._segments = {path: _split(_fold(parse_path(path, "allow").encode("latin-1").decode())) for path in paths}
        self.paths = list(self._segments)
        #: The folded paths; "" for the whole application.
        self.folded = {"/".join(["", *segments]) for segments in self._segments.values()}
        self._may_include = re.compile(_build_lenient_pattern(self.folded - {""}), re.ASCII | re.IGNORECASE)

    def find(self, script_name: str, path_info: str) -> list[str]:
        """Return the restricted paths whose rules apply.

        This is the longest one that includes the requested path, without regard to letter case, accents and characters
        that file systems ignore, and each longer one that may include it: any other character outside ASCII may stand
        for any letters, punctuation for other or no punctuation, and a name with an extension for the name without it.
        For an ambiguous path, all are returned, because the application may read it as any of them.
        """
        if not script_name and _PLAIN.fullmatch(path_info) and not self._may_include.match(path_info):
            return ["/"] if "" in self.folded else []
        text = _decode(script_name, path_info)
        if text is None:
            return self.paths
        # Some applications remove characters outside ASCII, or some of them such as the no-break space.
        ascii_only = "/".join(each.encode("ascii", "ignore").decode() or each for each in text.split("/"))
        readings = [text] if text.isascii() else [text, ascii_only, _OTHER_SPACE.sub("", text)]
        if script_name:
            # Some applications append PATH_INFO to SCRIPT_NAME.
            readings.append(script_name.encode("latin-1").decode() + text)
        found: dict[str, None] = {}
        for reading in map(_fold, readings):
            names = [reading]
            if _TO_NORMALIZE.search(reading):
                names.append(_normalize(reading))
                names += [extension.sub("", name) for extension in _EXTENSIONS for name in names]
            for name in names:
                found.update(dict.fromkeys(self._find_longest(_split(name))))
        return list(found)

    def _find_longest(self, requested: list[str]) -> list[str]:
        """Return the longest path that certainly includes the requested segments, and longer ones that may do so."""
        certain = [path for path, segments in self._segments.items() if requested[: len(segments)] == segments]
        longest = max((len(self._segments[path]) for path in certain), default=0)
        # Translated once, not for each rule, because a segment can be long.
        pairs = [(segment, segment.translate(_NO_PUNCTUATION)) for segment in requested]
        with_letters = [(segment, letters) for segment, letters in pairs if letters]
        return [
            path
            for path, segments in self._segments.items()
            if longest <= len(segments) and (_may_include(segments, pairs) or _may_include(segments, with_letters))
        ]


class SignOutPaths:
    """The paths of the application's own sign-out, in all their spellings.

    :raises TypeError: if *paths* is a single string.
    :raises ValueError: if a path is ambiguous or does not begin with a slash.
    """

    def __init__(self, paths: Collection[str]) -> None:
        #: The normalized paths.
        self.paths = frozenset(_normalize_encoded(path) for path in parse_paths(paths, "sign_out"))

    def include(self, path_info: str) -> bool:
        """Return whether this is a sign-out path, or could be one for an application that normalizes paths."""
        return bool(self.paths) and not _is_too_long(path_info) and _normalize_encoded(path_info) in self.paths


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
    if not parsed or "*" in parsed or not _UNAMBIGUOUS.fullmatch(parsed):
        raise ValueError(
            f"{setting}: not a plain path (got {path!a}); write a path such as /static, without wildcards and "
            "percent-encoding"
        )
    return parsed.rstrip("/") or "/"


def _build_pattern(paths: Collection[str]) -> str:
    """Return a pattern that matches every plain path that one of the *paths* includes, also with other punctuation."""
    # A plain path contains no other punctuation.
    spellings = (re.escape(path.translate(_PUNCTUATION)).replace("_", "[_.-]") for path in paths)
    return "|".join(spelling + r"(?:[/.]|\Z)" for spelling in spellings) or "(?!)"


def _build_lenient_pattern(folded: Collection[str]) -> str:
    """Return a pattern that matches every plain path that one of the *folded* paths may include."""
    if "" in folded or not folded:
        return "" if folded else "(?!)"
    # Each part matches a text in one way only, otherwise long paths could take seconds.
    end, begin = r"[_-]*(?:\.[^/]*)?", "/(?:[_.-]+/)*[_.-]*"
    names = sorted(path.translate(_NO_PUNCTUATION).removeprefix("/") for path in folded)
    spellings = (
        f"{end}{begin}".join("[_.-]*".join(map(re.escape, segment)) for segment in name.split("/")) for name in names
    )
    return rf"{begin}(?:{'|'.join(spellings)}){end}(?:/|\Z)"


def _depth(path: str) -> int:
    """Return the number of segments of a configured path."""
    return path.rstrip("/").count("/")


def _decode(script_name: str, path_info: str) -> str | None:
    """Return ``PATH_INFO`` as text; None if it is ambiguous, together with ``SCRIPT_NAME``.

    A long path outside ASCII counts as ambiguous, because its normalization could take seconds.
    A path without a leading slash is ambiguous: with ``SCRIPT_NAME=/app``, gunicorn turns ``/appadmin`` into ``admin``.
    """
    if _is_too_long(path_info):
        return None
    try:
        text = path_info.encode("latin-1").decode()
        script_name.encode("latin-1").decode()
    except UnicodeError:
        return None
    return text if path_info[:1] in {"", "/"} and _UNAMBIGUOUS.fullmatch(script_name + path_info) else None


def _is_too_long(path_info: str) -> bool:
    return len(path_info) > _MAX_NOT_ASCII and not path_info.isascii()


def _fold(text: str) -> str:
    """Return *text* without the differences that file systems and databases ignore: letter case, accents, ligatures."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(each for each in decomposed if unicodedata.category(each) not in {"Cf", "Mn", "Me"})


def _normalize(folded: str) -> str:
    """Return a path from :func:`_fold` as an application may normalize it: without parameters, `@@` and dot segments.

    Spaces and dots at the end of a name are removed, too, because Windows ignores them.
    """
    segments = _NAMESPACE.sub("", unquote(folded).replace("\\", "/")).split("/")
    names = [_PARAMETERS.split(segment, maxsplit=1)[0].strip(" ") for segment in segments]
    return posixpath.normpath("/" + "/".join(name.rstrip(" .") or name for name in names).lstrip("/"))


def _normalize_encoded(path: str) -> str:
    """Decode *path* (PEP 3333: bytes as latin-1); return it folded and normalized, as an application may treat it."""
    if _PLAIN.fullmatch(path):
        return path.lower().translate(_PUNCTUATION).rstrip("/") or "/"
    folded = _fold(unquote(path.encode("latin-1", "replace").decode(errors="replace")))
    return _normalize(folded).translate(_PUNCTUATION)


def _split(path: str) -> list[str]:
    return path.strip("/").split("/") if path.strip("/") else []


def _may_include(segments: Sequence[str], requested: Sequence[tuple[str, str]]) -> bool:
    """Return whether the application may treat *requested* as a path that begins with *segments*. Both are folded.

    :param requested: the segments of the path, each with and without punctuation.
    """
    return len(segments) <= len(requested) and all(map(_may_be, requested, segments))


def _may_be(requested: tuple[str, str], name: str) -> bool:
    """Return whether the application may treat a *requested* segment as *name*. Both are folded.

    The application may replace or remove punctuation, but adds none. A character that is still outside ASCII, such as
    a dotless i, may stand for any letters.
    """
    segment, without_punctuation = requested
    if len(segment) >= len(name) and without_punctuation == name.translate(_NO_PUNCTUATION):
        return True
    if segment.isascii():
        return _SHORT_NAME.search(segment) is not None
    letters = iter(name)
    plain = _LETTER.findall(segment)
    return bool(plain) and all(each in letters for each in plain)
