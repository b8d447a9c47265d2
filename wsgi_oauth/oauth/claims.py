"""The claims of a user: found by path, merged from the ID token and the user document, limited in size."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..characters import CONTROLS
from ..sessions.encoding import copy_json
from ..transport.error_description import mask_random

_log = logging.getLogger(__name__)

_MAX_TEXT = 512  # characters of a name or an address
_MAX_SIZE = 16 * 1024  # characters of the claims that a session stores, as JSON
_MAX_DEPTH = 20  # levels of nesting in these claims
_MAX_MEMBERS = 100  # limit_claims treats an object with more members as one claim
# These claims describe the ID token, not the user (OpenID Connect Core 2, 3.3.2.11; RFC 7519 4.1).
_ABOUT_THE_TOKEN = {"aud", "azp", "exp", "nbf", "iat", "jti", "nonce", "at_hash", "c_hash", "s_hash"}
# These claims name the issuer of the ID token, so no user document may replace them.
_ABOUT_THE_ISSUER = {"iss", "tid"}
# A claim, and the claim that states whether it is verified (`xms_edov`: Microsoft).
_VERIFIED_BY = (("email", "email_verified"), ("email", "xms_edov"), ("phone_number", "phone_number_verified"))


class Claims(Mapping[str, Any]):
    """The claims of a user, read-only. Each access returns a copy, because many requests share one identity."""

    def __init__(self, claims: Mapping[str, Any]) -> None:
        self._claims = claims

    def __getitem__(self, name: str) -> Any:
        return copy_json(self._claims[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._claims)

    def __len__(self) -> int:
        return len(self._claims)

    def __repr__(self) -> str:
        return repr(self._claims)


def find_value(document: Any, paths: str) -> Any:
    """Return the first value that is neither empty nor missing, or None.

    :param paths: paths separated by spaces. A path is a member's name, or several with dots between them:
        ``data.0.id``.
    """
    return next((found for path in paths.split() if (found := find_path(document, path)) not in (None, "")), None)


def find_path(document: Any, path: str) -> Any:
    """Return the value at *path*, or None.

    :param path: names with dots between them. A name may itself contain dots: the longest matching name is tried first.
        In a list, a number selects one item, and a name the values of all items: ``groups.groupId``.
    """
    if isinstance(document, list):
        name, _, rest = path.partition(".")
        if not re.fullmatch("[0-9]{1,6}", name):
            return [found for item in document if (found := find_path(item, path)) is not None] or None
        found = document[int(name)] if int(name) < len(document) else None
        return find_path(found, rest) if rest else found
    if not isinstance(document, Mapping):
        return None
    if path in document:
        return document[path]
    for dot in reversed([match.start() for match in re.finditer(r"\.", path)]):
        if path[:dot] in document and (found := find_path(document[path[:dot]], path[dot + 1 :])) is not None:
            return found
    return None


def merge_claims(document: Mapping[str, Any], id_token: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims of the user document, and those claims of the ID token that the document lacks.

    A claim such as ``email_verified`` is left out if it is about an address other than the merged one. A claim that is
    nested too deeply is left out with a log line, because Python could not copy it.
    """
    merged = dict(document)
    if id_token:
        # A null in the document does not replace a claim of the ID token.
        own = {name: value for name, value in document.items() if value is not None or name not in id_token}
        merged = {**id_token, **own, **{name: id_token[name] for name in _ABOUT_THE_ISSUER if name in id_token}}
        for name, verified in _VERIFIED_BY:
            source = own if verified in own else id_token
            if source.get(name) != merged.get(name):
                merged.pop(verified, None)
        merged = {name: value for name, value in merged.items() if name not in _ABOUT_THE_TOKEN}
    for name in [name for name, value in merged.items() if not _is_shallow(value, _MAX_DEPTH)]:
        _log.warning("the claim %a is left out, because it is nested too deeply", name[:100])
        del merged[name]
    return merged


def find_text(sources: Iterable[Mapping[str, Any]], paths: str) -> str | None:
    """Return the value that :func:`find_in_sources` finds, if it is a short text or a number; None otherwise.

    A number becomes its decimal digits, and a list with one item that item. Every other value is left out with a log
    line.
    """
    value = unwrap(find_in_sources(sources, paths))
    text = parse_text(value)
    if text is None and value is not None:
        _log.warning("the claim %a is left out, because it is %s", paths, describe(value))
    return text


def find_in_sources(sources: Iterable[Mapping[str, Any]], paths: str) -> Any:
    """Return the first value, or None. The first path is looked up in each of the *sources*, then the next path.

    :param paths: as for :func:`find_value`. ``first_name+last_name`` joins both texts with a space.
    """
    sources = list(sources)
    found = (_find_joined(source, path) for path in paths.split() for source in sources)
    return next((value for value in found if value is not None), None)


def _find_joined(source: Mapping[str, Any], path: str) -> Any:
    value = find_value(source, path)
    if value is None and "+" in path:
        texts = [find_value(source, part) for part in path.split("+")]
        value = " ".join(text for text in texts if isinstance(text, str)) or None
    return value


def unwrap(value: object) -> object:
    """Return the only item of a list, otherwise *value*. Some directories send single values as lists."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def convert_number(value: object) -> object:
    """Return *value*, an integer as text, because some providers send an id in one document as a number only."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def parse_text(value: object) -> str | None:
    """Return *value* if it can be a name or an address, in any script; None otherwise. A number becomes a text."""
    value = convert_number(value)
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and not CONTROLS.search(value) else None


def parse_groups(value: object, path: str) -> list[str]:
    """Return the names of groups, and log a description of unreadable ones.

    :param value: a list of names or of objects, a single name or object, or an object whose members are named after
        the groups (ZITADEL) or numbered. The name of a group object is its ``name``, ``displayName`` or ``id``.
    :param path: the path of *value*, for the log.
    """
    if isinstance(value, Mapping) and value and all(isinstance(member, Mapping) for member in value.values()):
        value = list(value)
    elif isinstance(value, Mapping) and all(key.isdecimal() and isinstance(value[key], str) for key in value):
        value = list(value.values())  # PHP writes a list with gaps as an object
    items = [item for item in (value if isinstance(value, list) else [value]) if item not in (None, "")]
    found = (find_value(item, "name displayName id") if isinstance(item, Mapping) else item for item in items)
    names = [parse_text(each) for each in found]
    unreadable = [item for item, name in zip(items, names, strict=True) if name is None]
    if unreadable:
        text = "the groups at %a: %d of %d are unreadable and left out; the first one is %s"
        if isinstance(unreadable[0], Mapping):
            text += "; name the member with the group in WSGI_OAUTH_GROUPS_CLAIM, in the form groups.member"
        _log.warning(text, path, len(unreadable), len(items), describe(unreadable[0]))
    elif len(names) == 1 and "," in str(names[0]) and "=" not in str(names[0]):  # not a distinguished name (RFC 4514)
        text = "the groups at %a: a text with commas counts as one name, because names can contain commas; "
        text += "let the provider send a list"
        _log.warning(text, path)
    return [name for name in names if name is not None]


def describe(value: object) -> str:
    """Return a description of *value* for the log: its type, and its size or members, without the content."""
    if isinstance(value, str):
        return f"a text of {len(value)} characters" + (" with control characters" if CONTROLS.search(value) else "")
    if isinstance(value, Mapping):
        names = mask_random(ascii(sorted(value))[1:-1][:1000])  # a token without a name is read as a name
        return f"an object with the members {names[:200] or 'none'}"
    if isinstance(value, list):
        return f"a list of {len(value)} items"
    return f"a JSON value of the type {type(value).__name__}"


def limit_claims(
    claims: Mapping[str, Any], is_needed: Callable[[str], bool], is_compared: Callable[[str, Any], bool], user: str
) -> Mapping[str, Any]:
    """Return the claims that fit into a session. The largest are dropped, one at a time.

    The members of a small object count as single claims, because some providers wrap the whole user document.

    :param is_needed: whether an access rule names the claim at this path. Such claims are dropped last.
    :param is_compared: whether an access rule names this item of a list at this path. Large lists keep only such items.
    :param user: the user's id, for the log line about dropped claims.
    """
    if len(json.dumps(claims)) <= _MAX_SIZE:
        return claims
    values = dict(_list_claims(claims))
    sizes = {path: _count_characters(path, value) for path, value in values.items()}
    total = sum(sizes.values())
    dropped = []
    for path in sorted(sizes, key=lambda path: (is_needed(".".join(path)), -sizes[path])):
        if total <= _MAX_SIZE:
            break
        total -= sizes.pop(path)
        name, value = ".".join(path), values[path]
        if is_needed(name) and isinstance(value, list):
            values[path] = [item for item in value if is_compared(name, item)]
            sizes[path] = _count_characters(path, values[path])
            total += sizes[path]
        dropped.append(name[:100])
    names = ", ".join(map(ascii, dropped[:10])) + (", ..." if len(dropped) > 10 else "")
    _log.warning("%s: %d claims are too large for a session, and are left out: %s", user, len(dropped), names)
    kept: dict[str, Any] = {}
    for path in sizes:
        parent = kept
        for name in path[:-1]:
            parent = parent.setdefault(name, {})
        parent[path[-1]] = values[path]
    return kept


def _count_characters(path: tuple[str, ...], value: object) -> int:
    """Return an upper limit of the size of a claim as JSON, with the names and the braces around it."""
    return len(json.dumps([*path, value])) + 4 * len(path)


def _list_claims(claims: Mapping[str, Any], parents: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and the value of each claim. The members of a small object are claims of their own."""
    for name, value in claims.items():
        path = (*parents, name)
        if isinstance(value, Mapping) and 0 < len(value) <= _MAX_MEMBERS:
            yield from _list_claims(value, path)
        else:
            yield path, value


def _is_shallow(value: object, levels: int) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    members = value if isinstance(value, list) else []
    return levels > 0 and all(_is_shallow(member, levels - 1) for member in members)
