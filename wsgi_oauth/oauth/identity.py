"""The identity of a user, in the same form for every provider."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from types import MappingProxyType
from typing import Any

from .. import errors
from ..characters import escape_for_display
from ..config.provider import EmailsDocument, GroupsDocument, Provider, UserDocument
from ..sessions.encoding import PROVIDER_SESSION, read_object
from .claims import (
    Claims,
    convert_number,
    describe,
    find_in_sources,
    find_text,
    find_value,
    merge_claims,
    parse_groups,
    parse_text,
    unwrap,
)

IDENTITY = "oauth_identity"  # key in the session
_log = logging.getLogger(__name__)

_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9._-]")

_SUBJECT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?", re.ASCII)  # OpenID Connect Core 2, `sub`
# Texts that some providers send for every user without an id: Azure AD B2C, and programs in .NET, Go, JavaScript, Java
# and Python.
_NO_SUBJECTS = {
    "Not supported currently. Use oid claim.",
    "00000000-0000-0000-0000-000000000000",
    "<no value>",
    "[object Object]",
    "undefined",
    "NaN",
    "null",
    "None",
}
_LISTS = ("groups", "also_verified", "unread")  # fields of an identity
_MAX_LIST = 32 * 1024  # characters of the groups, and of the addresses, as JSON


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
    email_verified: bool = False  # whether the provider has verified it; otherwise users could enter any address
    also_verified: tuple[str, ...] = ()  # further verified addresses, if the provider lists them
    groups: tuple[str, ...] = ()  # groups, teams or organizations
    unread: tuple[str, ...] = field(default=(), compare=False)  # lists that this application may not read
    claims: Mapping[str, Any] = field(default_factory=dict, hash=False)  # from the user document and the ID token

    def __post_init__(self) -> None:
        if not isinstance(self.claims, Claims):
            object.__setattr__(self, "claims", Claims(self.claims))

    @property
    def id(self) -> str:
        """The stable and unique id that applications can store: ``583231@github``, the subject and the provider.

        It fits the user tables of existing applications, because it contains only ``A-Z a-z 0-9 . _ - + @``. Each other
        character, and ``+`` and ``@`` in a part, is replaced by its UTF-8 bytes: ``+`` and two hexadecimal digits each.
        """
        return build_user_id(self.provider, self.subject)

    @property
    def former_id(self) -> str:
        """The id in the format of versions before 1.0, ``github:583231``, which access rules may still contain."""
        return f"{self.provider}:{self.subject.replace('%', '%25').replace(':', '%3A')}"

    @property
    def display_name(self) -> str:
        """The username, otherwise the address, the name or the id, with control characters escaped for display."""
        return escape_for_display(self.username or self.email or self.name or self.id)

    @property
    def verified_emails(self) -> tuple[str, ...]:
        """All addresses that the provider has verified."""
        primary = (self.email,) if self.email and self.email_verified else ()
        return primary + self.also_verified

    def as_dict(self) -> dict[str, Any]:
        """Return the identity as JSON values, for a session."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return {**vars(self), **lists, "claims": dict(self.claims)}

    @classmethod
    def from_dict(cls, stored: object) -> Identity | None:
        """Return the identity from the result of :meth:`as_dict`; None for other data, such as another version's."""
        if not isinstance(stored, dict) or not isinstance(stored.get("claims", {}), dict):
            return None
        try:
            lists = {name: tuple(stored.get(name, ())) for name in _LISTS}
            identity = cls(**{**stored, **lists})
        except TypeError:
            return None
        return identity if isinstance(identity.subject, str) and isinstance(identity.provider, str) else None


def revocation_names(session: Mapping[str, Any]) -> list[str]:
    """Return the names by which a revocation finds *session*: the user's id, and names from the ID token if known."""
    identity, names = read_object(session, IDENTITY), read_object(session, PROVIDER_SESSION).get("names")
    ids = [build_user_id(str(identity.get("provider")), str(identity.get("subject")))] if identity else []
    return [*ids, *(names if isinstance(names, list) else [])]


def build_user_id(provider: str, subject: str) -> str:
    """Return the :attr:`Identity.id` of a user."""
    return f"{escape_id(subject)}@{escape_id(provider)}"


def escape_id(part: str) -> str:
    """Return a subject or the name of a provider in the characters of :attr:`Identity.id`."""
    return _NOT_IN_AN_ID.sub(
        lambda match: "".join(f"+{byte:02X}" for byte in match[0].encode(errors="surrogatepass")), part
    )


def read_identity(
    document: Mapping[str, Any], provider: Provider, id_token: Mapping[str, Any] = MappingProxyType({})
) -> Identity:
    """Read the identity from the user document and the ID token, at the paths in the provider's description.

    The user document takes precedence, and the ID token fills gaps (OpenID Connect Core 5.3.2).

    :raises errors.ProviderError: when there is no valid id of the user, or the ID token has another one or no tenant.
    """
    sources, paths = (document, id_token), provider.user
    names = (find_text(sources, name) for name in ("given_name", "family_name"))
    email = find_text(sources, paths.email)
    groups = [each for path in paths.groups.split() for each in parse_groups(find_in_sources(sources, path), path)]
    return Identity(
        provider.name,
        find_subject(sources, provider),
        username=find_text(sources, paths.username),
        name=find_text(sources, paths.name) or " ".join(filter(None, names)) or None,
        email=email,
        email_verified=provider.trusts_emails or is_verified(email, sources, paths),
        groups=tuple(dict.fromkeys(groups)),
        claims=merge_claims(document, id_token),
    )


def find_subject(sources: tuple[Mapping[str, Any], Mapping[str, Any]], provider: Provider) -> str:
    """Return the id of the user. Where users of several tenants can sign in, it begins with the id of the tenant."""
    subjects: list[object] = []
    for path in provider.user.subject.split():
        subjects = [convert_number(value) for source in sources if (value := find_value(source, path)) is not None]
        if subjects:
            break
    if any(subject != subjects[0] for subject in subjects):
        raise errors.IdTokenRefused(
            f"the user document and the ID token have different ids of the user at {provider.user.subject!a}"
        )
    subject = subjects[0] if subjects else None
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise errors.ProviderError(
            f"the id of the user at {provider.user.subject!a} must be 1 to 255 characters of printable ASCII "
            f"(OpenID Connect Core 2; got {describe(sources[0] if subject is None else subject)})",
            remedy="set WSGI_OAUTH_SUBJECT_CLAIM to the claim that identifies the user",
        )
    if subject in _NO_SUBJECTS:
        raise errors.ProviderError(
            f"the id of the user at {provider.user.subject!a} is {subject!a}, which is no id and could stand for "
            "several users",
            remedy="correct the claim at the provider, or set WSGI_OAUTH_SUBJECT_CLAIM to the claim that identifies "
            "the user",
        )
    if not provider.has_tenants:
        return subject
    tenant = provider.tenant_of(str(sources[1].get("iss")))
    if tenant is None:
        raise errors.IdTokenRefused("no ID token names the tenant of the user; add openid to the scope")
    return f"{tenant.lower()}.{subject}"  # unambiguous, because the id of a tenant contains no dot


def is_verified(email: str | None, sources: Iterable[Mapping[str, Any]], paths: UserDocument) -> bool:
    """Return whether the address *email* is verified. The first of the *sources* with a statement about it decides."""
    statements = (
        find_value(source, paths.email_verified)
        for source in sources
        # If `email` differs from the configured claim, `email_verified` is not about the address in that claim.
        if unwrap(find_value(source, paths.email)) == email and unwrap(find_value(source, "email")) in (None, email)
    )
    verified = next((each for each in statements if each is not None), False)
    if paths.email_verified == "xms_edov" and verified in (1, "1"):
        verified = True  # Microsoft documents a boolean, and sends 1 in some tokens
    return email is not None and (verified is True or verified == "true")  # Amazon Cognito sends a string


def with_emails(identity: Identity, items: list[Any], paths: EmailsDocument, *, trusted: bool = False) -> Identity:
    """Return *identity* with the verified addresses of a list, beginning with the primary one.

    :param trusted: whether all addresses count as verified.
    """
    verified = [
        (find_value(item, paths.primary) is not True, address)
        for item in items
        if (trusted or find_value(item, paths.verified) is True)
        and (address := parse_text(find_value(item, paths.email)))
    ]
    if not verified:
        return identity
    primary, *others = [address for _, address in sorted(verified, key=lambda each: each[0])]
    return replace(identity, email=primary, email_verified=True, also_verified=tuple(others))


def with_groups(identity: Identity, items: list[Any], paths: GroupsDocument) -> Identity:
    """Return *identity* with the groups of a list added."""
    names, unreadable = [], []
    for item in items:
        parts = [parse_text(find_value(item, path)) for path in (paths.parent, paths.name) if path]
        if all(parts):
            names.append("/".join(filter(None, parts)))
        else:
            unreadable.append(item)
    if unreadable:
        where = f"{paths.parent} and {paths.name}" if paths.parent else paths.name
        text = "%d of %d groups have no name at %s, and are left out; the first one is %s"
        _log.warning(text, len(unreadable), len(items), where, describe(unreadable[0]))
    return replace(identity, groups=tuple(dict.fromkeys([*identity.groups, *names])))


def limit_lists(identity: Identity, is_needed: Callable[[str], bool]) -> Identity:
    """Return *identity* with as many groups and addresses as a session can store.

    :param is_needed: whether an access rule names this group or address. Such names are dropped last.
    """
    groups, addresses = _limit(identity.groups, is_needed), _limit(identity.also_verified, is_needed)
    if (len(groups), len(addresses)) == (len(identity.groups), len(identity.also_verified)):
        return identity
    sizes = map(len, (identity.groups, identity.also_verified, groups, addresses))
    _log.warning("%s has %d groups and %d further addresses; %d and %d of them are kept", identity.id, *sizes)
    return replace(identity, groups=groups, also_verified=addresses)


def _limit(names: tuple[str, ...], is_needed: Callable[[str], bool]) -> tuple[str, ...]:
    needed_first = sorted(names, key=lambda name: not is_needed(name))
    sizes = accumulate(len(json.dumps(name)) + 1 for name in needed_first)
    return tuple(name for name, size in zip(needed_first, sizes, strict=True) if size <= _MAX_LIST)
