"""The spellings of a path: texts that an application or its file system reads as the same path.

A rule for ``/admin`` must hold for all of them, otherwise another spelling would bypass it:

- ``/Admin``, ``/ádmin``, ``/ａdmin``: case, accents and compatibility characters (:func:`fold`);
- ``/a/../admin``, ``/admin;v=1``, ``/admin.``, ``/@@admin``: removed parts of the path (:func:`normalize`);
- ``/admin.json``: an extension (:func:`find_readings`);
- ``/adm€in``, ``/日/admin``: a removed character outside ASCII (:func:`find_readings`);
- ``/admın``: a replaced one (:func:`may_include`);
- ``/ad$min``, ``/-/admin``, and ``/admin-area`` for ``/admin_area``: punctuation (:func:`may_include`);
- ``/042`` and ``/٤٢`` for ``/42``: a number (:func:`may_include`, :func:`fold`);
- ``/ADMINI~1`` for ``/administration``: a short name (:func:`may_include`).

A path with spellings that programs read in different ways is ambiguous: ``//admin``, ``/a/..`` (:func:`decode`).
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from urllib.parse import unquote

# A path that every server and framework reads in the same way: no empty segments, no dot segments, no percent-encoding
# that is left after decoding, no `;parameters`, no `?`, `#`, backslash or control characters.
UNAMBIGUOUS = re.compile(r"(?:/(?![ .]*(?:/|\Z))[^/\\;%?#\x00-\x1f\x7f]+)*/?")
# A path that has only one reading, apart from letter case. Nearly all paths are like this.
PLAIN = re.compile(r"(?:/[\w-]+(?:\.[\w-]+)*)*/?", re.ASCII)
_MAX_NOT_ASCII = 2000  # bytes of a path
_TO_NORMALIZE = re.compile(r"[ .:;%?#\\]|//|/@@|/\+\+|[^\x00-\x7f]")  # normalization changes only paths that match
_PARAMETERS = re.compile(r"[;:?#]")  # the beginning of parameters; on Windows, `admin:x` is a part of the file `admin`
# Pyramid and Zope read `/@@admin` as the view `admin`, and Plone `/++api++/admin` as `/admin`.
_NAMESPACE = re.compile(r"(?<=/)(?:@@|\+\+[^+/]*\+\+)")
# TurboGears reads `/admin.json` as `/admin`. A name can contain a dot, so there are two ways to remove extensions.
_EXTENSIONS = (re.compile(r"(?<=[^/])\.[^/]*"), re.compile(r"(?<=[^/])\.[^/.]*(?=/|\Z)"))
_OTHER_SPACE = re.compile(r"[^\S ]")
# CherryPy and TurboGears read `/admin-area` and `/admin.area` as `/admin_area`.
_PUNCTUATION = str.maketrans(dict.fromkeys(" !\"#$%&'()*+,-.:;<=>?@[\\]^`{|}~", "_"))
# Others remove punctuation: Werkzeug's `secure_filename` makes `admin` of `_admin`, and Otter Wiki of `ad$min` and
# `-/admin`.
_NO_PUNCTUATION = dict.fromkeys([*_PUNCTUATION, ord("_")])
_LEADING_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")  # Python's `int` and others read 042 as 42
_LETTER = re.compile(r"[a-z0-9]")  # in a folded name
_SHORT_NAME = re.compile(r"~[0-9]")  # FAT and NTFS open `administration` as ADMINI~1, too


def decode(script_name: str, path_info: str) -> str | None:
    """Return ``PATH_INFO`` as text; None if it is ambiguous, together with ``SCRIPT_NAME``.

    A path without a leading slash is ambiguous: with ``SCRIPT_NAME=/app``, gunicorn turns ``/appadmin`` into ``admin``.
    """
    if is_too_long(path_info):
        return None
    try:
        text = path_info.encode("latin-1").decode()
        script_name.encode("latin-1").decode()
    except UnicodeError:
        return None
    return text if path_info[:1] in {"", "/"} and UNAMBIGUOUS.fullmatch(script_name + path_info) else None


def is_too_long(path_info: str) -> bool:
    """Return whether a path with characters outside ASCII is so long that its normalization could take seconds."""
    return len(path_info) > _MAX_NOT_ASCII and not path_info.isascii()


def find_readings(script_name: str, text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each path that an application may read in place of *text*, the decoded ``PATH_INFO``.

    Each comes with its folded segments. The first path is *text* itself.
    """
    readings = [text]
    if not text.isascii():
        # Some applications remove characters outside ASCII, or some of them such as the no-break space.
        readings += [text.encode("ascii", "ignore").decode(), _OTHER_SPACE.sub("", text)]
    if script_name:  # some applications append PATH_INFO to SCRIPT_NAME
        readings.append(script_name.encode("latin-1").decode() + text)
    for reading in readings:
        names = [folded := fold(reading)]
        if _TO_NORMALIZE.search(folded):
            names.append(normalize(folded))
            names += [extension.sub("", name) for extension in _EXTENSIONS for name in names]
        yield from ((reading, split(name)) for name in names)


def fold(text: str) -> str:
    """Return *text* without the differences that file systems and databases ignore: letter case, accents, ligatures.

    Digits of all scripts become ASCII, because Python's `int` reads them.
    """
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept = (each for each in decomposed if unicodedata.category(each) not in {"Cc", "Cf", "Mn", "Me"})
    return "".join(str(unicodedata.decimal(each, each)) for each in kept)


def normalize(folded: str) -> str:
    """Return a path from :func:`fold` as an application may normalize it: without parameters, `@@` and dot segments.

    Spaces and dots at the end of a name are removed, too, because Windows ignores them.
    """
    path = unquote(folded).replace("\\", "/").replace("urn:", "").replace("uuid:", "")  # like Python's `UUID`
    segments = _NAMESPACE.sub("", path).split("/")
    names = [_PARAMETERS.split(segment, maxsplit=1)[0].strip(" ") for segment in segments]
    return posixpath.normpath("/" + "/".join(name.rstrip(" .") or name for name in names).lstrip("/"))


def normalize_encoded(path: str) -> str:
    """Decode *path* (PEP 3333: bytes as latin-1); return it folded and normalized, as an application may treat it."""
    if PLAIN.fullmatch(path):
        return path.lower().translate(_PUNCTUATION).rstrip("/") or "/"
    folded = fold(unquote(path.encode("latin-1", "replace").decode(errors="replace")))
    return normalize(folded).translate(_PUNCTUATION)


def split(path: str) -> list[str]:
    """Return the segments of *path*; an empty list for ``/``."""
    return path.strip("/").split("/") if path.strip("/") else []


def without_punctuation(requested: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Return two readings for :func:`may_include`: all *requested* segments, and those that are not only punctuation.

    Each segment is paired with its letters.
    """
    pairs = [(segment, _letters(segment)) for segment in requested]
    return [pairs, [pair for pair in pairs if pair[1]]]


def may_include(segments: Sequence[str], requested: Sequence[tuple[str, str]]) -> bool:
    """Return whether the application may treat *requested* as a path that begins with *segments*. Both are folded.

    :param requested: a result of :func:`without_punctuation`.
    """
    return len(segments) <= len(requested) and all(map(_may_be, requested, segments))


def _may_be(requested: tuple[str, str], name: str) -> bool:
    """Return whether the application may treat a *requested* segment as *name*.

    The application may replace, remove or add punctuation. A character that is still outside ASCII, such as a dotless
    i, may stand for any letters.
    """
    segment, letters = requested
    if letters == _letters(name):
        return True
    if segment.isascii():
        return _SHORT_NAME.search(segment) is not None
    plain = _LETTER.findall(segment)
    remaining = iter(name)
    # Each test consumes the name up to the letter, so the letters have to occur in the same order.
    return bool(plain) and all(letter in remaining for letter in plain)


def _letters(name: str) -> str:
    """Return *name* without punctuation and without the leading zeros of numbers."""
    return _LEADING_ZEROS.sub("", name.translate(_NO_PUNCTUATION))


def build_pattern(paths: Collection[str]) -> str:
    """Return a pattern that matches every plain path that one of the *paths* includes, also with other punctuation."""
    # A plain path contains no other punctuation.
    spellings = (re.escape(path.translate(_PUNCTUATION)).replace("_", "[_.-]") for path in paths)
    return "|".join(spelling + r"(?:[/.]|\Z)" for spelling in spellings) or "(?!)"


def build_lenient_pattern(folded: Collection[str]) -> str:
    """Return a pattern that matches every plain path that one of the *folded* paths may include."""
    if "" in folded or not folded:
        return "" if folded else "(?!)"
    # Each part matches a text in one way only, otherwise long paths could take seconds.
    end, begin = r"[_-]*(?:\.[^/]*)?", r"/(?:[_-]+(?:\.[^/]*)?/)*[_.-]*"
    names = sorted(_letters(path).removeprefix("/") for path in folded)
    spellings = (f"{end}{begin}".join(map(_build_name_pattern, name.split("/"))) for name in names)
    return rf"{begin}(?:{'|'.join(spellings)}){end}(?:/|\Z)"


def _build_name_pattern(name: str) -> str:
    """Return a pattern that matches *name* with more punctuation and with leading zeros."""
    parts = (
        ("(?:0[_.-]*)*" if part.isdigit() else "", map(re.escape, part)) for part in re.findall("[0-9]+|[^0-9]+", name)
    )
    return "[_.-]*".join(zeros + "[_.-]*".join(characters) for zeros, characters in parts)
