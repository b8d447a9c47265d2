"""Who may enter, of all who can sign in: ``WSGI_OAUTH_ALLOW``.

A rule is a kind and a value: ``user:octocat``, ``id:583231``, ``email:ann@example.com``, ``email:*@example.com``,
``org:octo-org`` or ``group:staff``. One that fits is enough; without any rule everybody may enter. With several
providers a rule says whose it is: ``user:github:octocat``. Anything that cannot be told is a no.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from . import errors
from .config import PREFIX
from .identity import Identity
from .providers import Provider

KINDS = ("user", "id", "email", "org", "group")


class Rule(NamedTuple):
    """``kind:value``, at the provider that is called *label* here."""

    kind: str
    value: str
    label: str

    def fits(self, identity: Identity) -> bool:
        if self.kind == "user":
            return identity.username == self.value
        if self.kind == "id":
            return identity.subject == self.value
        if self.kind == "email":
            return _address_fits(identity, self.value)
        return self.value in identity.groups


class Rules:
    """What ``WSGI_OAUTH_ALLOW`` says, and a function in Python; where both are given, both have to agree."""

    def __init__(
        self,
        words: Iterable[str],
        providers: Mapping[str, Provider],
        function: Callable[[Identity], bool] | None = None,
    ) -> None:
        """*providers*: by what each is called here, as they are described.

        :raises errors.ConfigError: for a rule that nobody could ever fit, or that fits whom it should not.
        """
        self._rules = [_parse(word, providers) for word in words]
        self._function = function

    def __bool__(self) -> bool:
        return bool(self._rules or self._function)

    def kinds(self, label: str) -> set[str]:
        """Return what the rules look at, at one provider."""
        return {rule.kind for rule in self._rules if rule.label == label}

    def check(self, identity: Identity, label: str) -> None:
        """See that *identity*, of the provider that is called *label* here, may enter.

        :raises errors.NotAllowed: when not.
        """
        allowed = not self._rules or any(rule.label == label and rule.fits(identity) for rule in self._rules)
        if not allowed or (self._function and self._function(identity) is not True):
            raise errors.NotAllowed(identity.id, identity.username or identity.email or identity.name or identity.id)


def _parse(word: str, providers: Mapping[str, Provider]) -> Rule:
    kind, _, value = word.partition(":")
    label = next(iter(providers))
    if len(providers) > 1:
        label, _, value = value.partition(":")
    if kind not in KINDS or not value or label not in providers:
        whose = f":{'|'.join(providers)}" if len(providers) > 1 else ""
        raise errors.ConfigError(f"{PREFIX}ALLOW must have rules like {'|'.join(KINDS)}{whose}:value; {word!a} is none")
    if problem := _problem(kind, value, providers[label]):
        raise errors.ConfigError(f"{PREFIX}ALLOW has the rule {word!a}, and {problem}")
    return Rule(kind, value, label)


def _problem(kind: str, value: str, provider: Provider) -> str:
    """Say why a rule of this kind is not safe, or never true, at *provider*."""
    if kind == "user" and not provider.username_is_unique:
        return f"at {provider.title} a username is not one user's alone for ever: use id:, email: or group:"
    if kind == "email" and not (provider.user.email_verified or provider.emails_url):
        return f"{provider.title} does not say which addresses it has verified: use another kind of rule"
    if kind == "email" and not all(value.rpartition("@")[::2]):
        return "that is neither an address nor *@ and a domain"
    if kind == "email" and "*" in value.removeprefix("*@"):
        return "a * stands only for all that is before the @"
    if kind in {"org", "group"} and not (provider.user.groups or provider.groups_url):
        return f"{provider.title} says nothing about organisations or groups"
    return ""


def _address_fits(identity: Identity, value: str) -> bool:
    """Compare without regard to case, as mail does with domains, and providers with all of it."""
    address = (identity.email or "").lower()
    if not identity.email_verified or address.count("@") != 1 or not address.isascii():
        return False
    local, _, domain = value.lower().rpartition("@")
    return address == value.lower() or (local == "*" and address.endswith(f"@{domain}"))
