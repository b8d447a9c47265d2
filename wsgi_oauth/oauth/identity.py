"""Who signed in, whatever the provider calls it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from .. import errors
from ..sessions.encoding import copy_json
from ..sessions.session import Session
from .provider import EmailsDocument, GroupsDocument, Provider

IDENTITY = "oauth_identity"  # in the session
_log = logging.getLogger(__name__)

_SUBJECT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?", re.ASCII)  # OpenID Connect Core 2, `sub`
_LONGEST_TEXT = 512  # characters of a name or an address
_LARGEST_CLAIMS = 16 * 1024  # characters of a document that is kept with each session
_DEEPEST_CLAIMS = 20  # levels of it
_LARGEST_LIST = 32 * 1024  # characters of all groups, and of all addresses, as JSON


class Claims(Mapping[str, Any]):
    """What the provider said; what is taken out of it is a copy. One identity is given to many requests, and what one
    of them changes is not for the next.
    """

    def __init__(self, said: Mapping[str, Any]) -> None:
        self._said = said

    def __getitem__(self, name: str) -> Any:
        return copy_json(self._said[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._said)

    def __len__(self) -> int:
        return len(self._said)

    def __repr__(self) -> str:
        return repr(self._said)


@dataclass(frozen=True)
class Identity:
    """Somebody who signed in. ``provider`` and ``subject`` together never change and are nobody else's (OpenID
    Connect Core 5.7); a username, a name and an address can be given to somebody else one day.
    """

    provider: str
    subject: str
    username: str | None = None
    name: str | None = None
    email: str | None = None
    email_verified: bool = False  # by the provider: without that anybody can claim any address
    also_verified: tuple[str, ...] = ()  # further addresses, where the provider lists them
    groups: tuple[str, ...] = ()  # organisations, teams, groups: what the provider has of the kind
    claims: Mapping[str, Any] = field(default_factory=dict, hash=False)  # what the provider said, as it said it

    def __post_init__(self) -> None:
        if not isinstance(self.claims, Claims):
            object.__setattr__(self, "claims", Claims(self.claims))

    @property
    def id(self) -> str:
        """The stable, provider-qualified id that applications may store: ``github:583231``. It is nobody else's: what
        follows the last colon is the subject, in which ``%`` and ``:`` are percent-encoded.
        """
        return f"{self.provider}:{self.subject.replace('%', '%25').replace(':', '%3A')}"

    @property
    def verified_emails(self) -> tuple[str, ...]:
        """All addresses that the provider has verified, as far as it says."""
        own = (self.email,) if self.email and self.email_verified else ()
        return own + self.also_verified

    def as_dict(self) -> dict[str, Any]:
        """Return what a session can hold."""
        lists = {"groups": list(self.groups), "also_verified": list(self.also_verified)}
        return {**vars(self), **lists, "claims": dict(self.claims)}

    @classmethod
    def from_dict(cls, stored: object) -> Identity | None:
        """Return what :meth:`as_dict` gave. What another version has stored, perhaps differently, is nobody."""
        if not isinstance(stored, dict) or not isinstance(stored.get("claims", {}), dict):
            return None
        try:
            lists = {name: tuple(stored.get(name, ())) for name in ("groups", "also_verified")}
            identity = cls(**{**stored, **lists})
        except TypeError:
            return None
        return identity if isinstance(identity.subject, str) and isinstance(identity.provider, str) else None


def remember(session: Session, identity: Identity) -> None:
    """Keep in *session*, at once, who signed in. Raise StoreError when that fails."""
    session.change(lambda data: data.update({IDENTITY: identity.as_dict()}))


def read_identity(document: Mapping[str, Any], provider: Provider) -> Identity:
    """Take out of the user document what *provider* says it means.

    :raises errors.ProviderError: when it does not say who that is.
    """
    means = provider.user
    verified = _find(document, means.email_verified)
    subject = _find(document, means.subject)
    if isinstance(subject, int) and not isinstance(subject, bool):
        subject = str(subject)
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise errors.ProviderError(f"the user document has no usable id under {means.subject!r}")
    return Identity(
        provider.name,
        subject,
        username=_text(_find(document, means.username)),
        name=_text(_find(document, means.name)),
        email=_text(_find(document, means.email)),
        email_verified=verified is True or verified == "true",  # some send it as a string
        groups=_names(_find(document, means.groups)),
        claims=document if _can_be_kept(document) else {},
    )


def _can_be_kept(document: Mapping[str, Any]) -> bool:
    return _is_flat(document, _DEEPEST_CLAIMS) and len(json.dumps(document)) <= _LARGEST_CLAIMS


def _is_flat(value: object, levels: int) -> bool:
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_flat(each, levels - 1) for each in inside)


def with_emails(identity: Identity, document: Any, means: EmailsDocument) -> Identity:
    """Take the verified addresses out of a list of the user's; the primary one is the first."""
    listed = [
        (_find(item, means.primary) is True, address)
        for item in _items(document, means.items)
        if _find(item, means.verified) is True and (address := _text(_find(item, means.email)))
    ]
    if not listed:
        return identity
    first, *others = [address for _, address in sorted(listed, key=lambda each: not each[0])]
    return replace(identity, email=first, email_verified=True, also_verified=tuple(others))


def with_groups(identity: Identity, document: Any, means: GroupsDocument) -> Identity:
    """Add the groups of a list to those that the user document names."""
    names = (_text(_find(item, means.name)) for item in _items(document, means.items))
    return replace(identity, groups=tuple(dict.fromkeys([*identity.groups, *filter(None, names)])))


def bounded(identity: Identity, matters: Callable[[str], bool]) -> Identity:
    """Return *identity* with as many groups and addresses as a session can hold, those that *matters* first."""
    groups, addresses = (
        _as_many_as_fit(sorted(names, key=lambda name: not matters(name)))
        for names in (identity.groups, identity.also_verified)
    )
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


def _as_many_as_fit(names: Sequence[str]) -> tuple[str, ...]:
    sizes = accumulate(len(json.dumps(name)) + 1 for name in names)
    return tuple(name for name, size in zip(names, sizes, strict=False) if size <= _LARGEST_LIST)


def _items(document: Any, path: str) -> list[Any]:
    found = _find(document, path) if path else document
    return found if isinstance(found, list) else []


def _find(document: Any, paths: str) -> Any:
    """Follow the first of *paths* that leads to something: names with dots between them (``data.0.id``)."""
    for path in paths.split():
        found = document
        for name in [path] if isinstance(document, Mapping) and path in document else path.split("."):
            if isinstance(found, Mapping):
                found = found.get(name)
            elif isinstance(found, list) and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            else:
                found = None
        if found not in (None, ""):
            return found
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT and value.isprintable() else None


def _names(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(name for value in values if (name := _text(value)))
