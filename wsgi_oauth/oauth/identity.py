"""The identity of a user, in the same form for every provider."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from .. import errors
from ..sessions.encoding import copy_json
from .provider import EmailsDocument, GroupsDocument, Provider

IDENTITY = "oauth_identity"  # key in the session
_log = logging.getLogger(__name__)

_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9._-]")

_SUBJECT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?", re.ASCII)  # OpenID Connect Core 2, `sub`
_MAX_TEXT = 512  # characters of a name or an address
_MAX_CLAIMS = 16 * 1024  # characters of the claims that a session stores
_MAX_DEPTH = 20  # levels of nesting in these claims
_LISTS = ("groups", "also_verified", "unread")  # fields of an identity
_MAX_LIST = 32 * 1024  # characters of the groups, and of the addresses, as JSON


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


@dataclass(frozen=True)
class Identity:
    """A signed-in user.

    ``provider`` and ``subject`` together are unique and never change (OpenID Connect Core 5.7). A username, a name or
    an address can be given to another user one day.
    """

    provider: str
    subject: str
    username: str | None = None
    name: str | None = None
    email: str | None = None
    email_verified: bool = False  # by the provider; otherwise the user can claim any address
    also_verified: tuple[str, ...] = ()  # further verified addresses, where the provider lists them
    groups: tuple[str, ...] = ()  # groups, teams or organizations
    unread: tuple[str, ...] = field(default=(), compare=False)  # lists that the provider does not let us read
    claims: Mapping[str, Any] = field(default_factory=dict, hash=False)  # the user document

    def __post_init__(self) -> None:
        if not isinstance(self.claims, Claims):
            object.__setattr__(self, "claims", Claims(self.claims))

    @property
    def id(self) -> str:
        """The stable and unique id that applications can store: ``583231@github``, the subject and the provider.

        It fits the user tables of existing applications, because it contains only ``A-Z a-z 0-9 . _ - + @``. Each other
        character, and ``+`` and ``@`` in a part, is written as ``+`` and the two hexadecimal digits of its UTF-8 bytes.
        """
        return f"{escape_id(self.subject)}@{escape_id(self.provider)}"

    @property
    def former_id(self) -> str:
        """The id in the form of versions before 1.0, ``github:583231``, which access rules may still contain."""
        return f"{self.provider}:{self.subject.replace('%', '%25').replace(':', '%3A')}"

    @property
    def verified_emails(self) -> tuple[str, ...]:
        """All addresses that the provider has verified."""
        primary = (self.email,) if self.email and self.email_verified else ()
        return primary + self.also_verified

    def with_unread(self, name: str) -> Identity:
        """Return the identity with one more list that the provider does not let this application read."""
        return replace(self, unread=tuple(dict.fromkeys([*self.unread, name])))

    def as_dict(self) -> dict[str, Any]:
        """Return the identity as JSON values, for a session."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return {**vars(self), **lists, "claims": dict(self.claims)}

    @classmethod
    def from_dict(cls, stored: object) -> Identity | None:
        """Return the identity that :meth:`as_dict` gave, or None for anything else, such as data of another version."""
        if not isinstance(stored, dict) or not isinstance(stored.get("claims", {}), dict):
            return None
        try:
            lists = {name: tuple(stored.get(name, ())) for name in _LISTS}
            identity = cls(**{**stored, **lists})
        except TypeError:
            return None
        return identity if isinstance(identity.subject, str) and isinstance(identity.provider, str) else None


def escape_id(part: str) -> str:
    """Return a subject or the name of a provider in the characters of :attr:`Identity.id`."""
    return _NOT_IN_AN_ID.sub(lambda match: "".join(f"+{byte:02X}" for byte in match[0].encode()), part)


def read_identity(document: Mapping[str, Any], provider: Provider) -> Identity:
    """Read the identity from a user document, by the provider's description of it.

    :raises errors.ProviderError: when the document contains no valid id of the user.
    """
    paths = provider.user
    subject = find_value(document, paths.subject)
    if isinstance(subject, int) and not isinstance(subject, bool):
        subject = str(subject)
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise errors.ProviderError(f"the user document has no valid id at {paths.subject!r}")
    verified = find_value(document, paths.email_verified)
    groups = find_value(document, paths.groups)
    is_small = _is_shallow(document, _MAX_DEPTH) and len(json.dumps(document)) <= _MAX_CLAIMS
    return Identity(
        provider.name,
        subject,
        username=_parse_text(find_value(document, paths.username)),
        name=_parse_text(find_value(document, paths.name)),
        email=_parse_text(find_value(document, paths.email)),
        email_verified=provider.trusts_emails or verified is True or verified == "true",  # some send a string
        groups=tuple(filter(None, map(_parse_text, groups if isinstance(groups, list) else [groups]))),
        claims=document if is_small else {},
    )


def with_emails(identity: Identity, items: list[Any], paths: EmailsDocument, *, trusted: bool = False) -> Identity:
    """Return *identity* with the verified addresses of a list, beginning with the primary one.

    :param trusted: whether all addresses count as verified.
    """
    verified = [
        (find_value(item, paths.primary) is not True, address)
        for item in items
        if (trusted or find_value(item, paths.verified) is True)
        and (address := _parse_text(find_value(item, paths.email)))
    ]
    if not verified:
        return identity
    primary, *others = [address for _, address in sorted(verified, key=lambda each: each[0])]
    return replace(identity, email=primary, email_verified=True, also_verified=tuple(others))


def with_groups(identity: Identity, items: list[Any], paths: GroupsDocument) -> Identity:
    """Return *identity* with the groups of a list, in addition to those that it has."""
    names = []
    for item in items:
        parts = [_parse_text(find_value(item, path)) for path in (paths.parent, paths.name) if path]
        if all(parts):
            names.append("/".join(filter(None, parts)))
    return replace(identity, groups=tuple(dict.fromkeys([*identity.groups, *names])))


def limit_lists(identity: Identity, is_needed: Callable[[str], bool]) -> Identity:
    """Return *identity* with as many groups and addresses as a session can store.

    :param is_needed: whether an access rule names a group or an address. These are kept first.
    """
    groups, addresses = _limit(identity.groups, is_needed), _limit(identity.also_verified, is_needed)
    if (len(groups), len(addresses)) == (len(identity.groups), len(identity.also_verified)):
        return identity
    _log.warning(
        "%s has %d groups and %d further addresses; %d and %d of them are kept",
        identity.id,
        len(identity.groups),
        len(identity.also_verified),
        len(groups),
        len(addresses),
    )
    return replace(identity, groups=groups, also_verified=addresses)


def _limit(names: tuple[str, ...], is_needed: Callable[[str], bool]) -> tuple[str, ...]:
    needed_first = sorted(names, key=lambda name: not is_needed(name))
    sizes = accumulate(len(json.dumps(name)) + 1 for name in needed_first)
    return tuple(name for name, size in zip(needed_first, sizes, strict=True) if size <= _MAX_LIST)


def _is_shallow(value: object, levels: int) -> bool:
    members = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(member, levels - 1) for member in members)


def find_value(document: Any, paths: str) -> Any:
    """Return the first value that is neither empty nor missing, or None.

    :param paths: paths separated by spaces. A path is a member's name, or several with dots between them:
        ``data.0.id``.
    """
    return next((found for path in paths.split() if (found := find_path(document, path)) not in (None, "")), None)


def find_path(document: Any, path: str) -> Any:
    """Return the value at *path*, or None.

    :param path: names with dots between them. A name that itself contains dots is found, too; the longest name first.
    """
    if isinstance(document, list):
        name, _, rest = path.partition(".")
        found = document[int(name)] if re.fullmatch("[0-9]{1,6}", name) and int(name) < len(document) else None
        return find_path(found, rest) if rest else found
    if not isinstance(document, Mapping):
        return None
    if path in document:
        return document[path]
    for dot in reversed([match.start() for match in re.finditer(r"\.", path)]):
        if path[:dot] in document and (found := find_path(document[path[:dot]], path[dot + 1 :])) is not None:
            return found
    return None


def _parse_text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and value.isprintable() else None
