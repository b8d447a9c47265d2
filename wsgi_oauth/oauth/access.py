"""Who may enter, of all who can sign in: ``WSGI_OAUTH_ALLOW``.

A rule is a kind and a value: ``user:octocat``, ``id:583231``, ``email:ann@example.com``, ``email:*@example.com``,
``org:octo-org`` or ``group:staff``. One that fits is enough; without any rule everybody may enter. With several
providers a rule has to say whose it is, and may with one: ``user:github:octocat``. What cannot be told is a no.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from .. import errors
from ..config import PREFIX
from .identity import Identity
from .provider import Provider

_log = logging.getLogger(__name__)

KINDS = ("user", "id", "email", "org", "group")
# RFC 4514, which is what a directory calls a group: cn=staff,dc=example,dc=com.
_DISTINGUISHED = re.compile(r"[^,=]+=[^,]+(?:,[^,=]+=[^,]+)*")


class Rule(NamedTuple):
    """``kind:value``, at the provider that is called *label* here."""

    kind: str
    value: str
    label: str

    def fits(self, identity: Identity) -> bool:
        if self.kind == "user":
            return identity.username == self.value
        if self.kind == "id":  # as the log and `wsgi-oauth sessions list` print it, or as it is
            printed = identity.id.rpartition(":")[2]
            return self.value == printed or ("%" not in self.value and self.value == identity.subject)
        if self.kind == "email":
            return any(_address_fits(address, self.value) for address in identity.verified_emails)
        return self.value in identity.groups

    def names(self, name: str) -> bool:
        """Say whether *name* is the group or the organisation of this rule, or one of its addresses."""
        return _address_fits(name, self.value) if self.kind == "email" else name == self.value


class Rules:
    """What ``WSGI_OAUTH_ALLOW`` says, and a function in Python; where both are given, both have to agree."""

    def __init__(
        self,
        words: Iterable[str],
        providers: Mapping[str, Provider],
        function: Callable[[Identity], bool] | None = None,
    ) -> None:
        """*providers*: by what each is called here, as they are described.

        :raises errors.ConfigError: for what is no rule, and for a kind of rule that a provider cannot answer for.
        """
        self._rules = [_parse(word, providers) for word in words]
        self._function = function

    def __bool__(self) -> bool:
        return bool(self._rules or self._function)

    def kinds(self, label: str) -> set[str]:
        """Return what the rules look at, at one provider."""
        return {rule.kind for rule in self._rules if rule.label == label}

    def mentions(self, label: str, name: str) -> bool:
        """Say whether a rule lets the group, organisation or address *name* in, at one provider."""
        return any(rule.label == label and rule.names(name) for rule in self._rules)

    def check(self, identity: Identity, label: str) -> None:
        """See that *identity*, of the provider that is called *label* here, may enter.

        :raises errors.NotAllowed: when not.
        """
        allowed = not self._rules or any(rule.label == label and rule.fits(identity) for rule in self._rules)
        if not (allowed and self._function_allows(identity)):
            called = identity.username or identity.email or identity.name or identity.id
            unverified = "email" in self.kinds(label) and identity.email and not identity.verified_emails
            reason = "the provider does not say that their address is verified" if unverified else ""
            raise errors.NotAllowed(identity.id, called, reason)

    def _function_allows(self, identity: Identity) -> bool:
        try:
            return self._function is None or self._function(identity) is True
        except Exception:  # noqa: BLE001  # it is somebody else's, and must not let anybody in by failing
            _log.exception("the function that says who may enter has failed for %s", identity.id)
            return False


def _parse(word: str, providers: Mapping[str, Provider]) -> Rule:
    kind, _, value = word.partition(":")
    # The longest name first: one may be id.example.com, and another one id.example.com:8443.
    named = sorted((label for label in providers if value.startswith(f"{label}:")), key=len, reverse=True)
    label = named[0] if named else next(iter(providers)) if len(providers) == 1 else ""
    value = value.removeprefix(f"{label}:") if named else value
    if "," in word and not (kind == "group" and _DISTINGUISHED.fullmatch(value)):
        raise errors.ConfigError(f"{PREFIX}ALLOW separates rules with spaces, not with commas; it has {word!a}")
    if kind not in KINDS or not value or not label:
        whose = f"{next(iter(providers))}:" if len(providers) > 1 else ""
        raise errors.ConfigError(
            f"{PREFIX}ALLOW must have rules such as user:{whose}octocat, of the kinds {', '.join(KINDS)}"
            f"{whose and ' at ' + ', '.join(providers)}; {word!a} is none"
        )
    if problem := _problem(kind, value, providers[label]):
        raise errors.ConfigError(f"{PREFIX}ALLOW has the rule {word!a}, and {problem}")
    return Rule(kind, value, label)


def _problem(kind: str, value: str, provider: Provider) -> str:
    """Say why a rule of this kind is not safe, or never true, at *provider*."""
    if kind == "user" and not provider.username_is_unique:
        return f"at {provider.title} a username is not one user's alone for ever: use id:, email: or group:"
    if kind == "email" and not (provider.user.email_verified or provider.emails_url):
        return f"{provider.title} does not say which addresses it has verified: use another kind of rule"
    if kind == "email" and not (all(value.partition("@")[::2]) and value.count("@") == 1 and value.isascii()):
        return "that is neither an address nor *@ and a domain, in ASCII"
    if kind == "email" and "*" in value.removeprefix("*@"):
        return "a * stands only for all that is before the @"
    if kind in {"org", "group"} and not (provider.user.groups or provider.groups_url):
        return f"{provider.title} says nothing about organisations or groups"
    return ""


def _address_fits(address: str, value: str) -> bool:
    """Compare without regard to case, as mail does with domains, and providers with all of it."""
    # Before case is forgotten: letters that are not ASCII can become such, and lead to somebody else's address.
    if address.count("@") != 1 or not address.isascii():
        return False
    address, value = address.lower(), value.lower()
    return address == value or (value.startswith("*@") and address.endswith(value[1:]))
