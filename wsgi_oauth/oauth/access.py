"""Access rules: which of the users who can sign in may use the application (``WSGI_OAUTH_ALLOW``).

A rule is a kind and a value: ``user:octocat``, ``id:583231``, ``email:ann@example.com``, ``email:*@example.com``,
``org:octo-org`` or ``group:staff``. A user needs to match one rule; without any rule all users have access. With
several providers each rule names its provider: ``user:github:octocat``. A value that the provider does not give
matches no rule.
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
# RFC 4514: the names of a directory's groups contain commas, for example cn=staff,dc=example,dc=com.
_DISTINGUISHED_NAME = re.compile(r"[^,=]+=[^,]+(?:,[^,=]+=[^,]+)*")


class Rule(NamedTuple):
    """``kind:value`` at the provider with this *label*."""

    kind: str
    value: str
    label: str

    def matches(self, identity: Identity) -> bool:
        """Return whether the rule gives this user access."""
        if self.kind == "user":
            return identity.username == self.value
        if self.kind == "id":  # percent-encoded as in the log and in `wsgi-oauth sessions list`, or plain
            encoded = identity.id.rpartition(":")[2]
            return self.value == encoded or ("%" not in self.value and self.value == identity.subject)
        if self.kind == "email":
            return any(_address_matches(address, self.value) for address in identity.verified_emails)
        return self.value in identity.groups

    def names(self, name: str) -> bool:
        """Return whether *name* is the group, the organization or an address of this rule."""
        return _address_matches(name, self.value) if self.kind == "email" else name == self.value


class Rules:
    """The access rules of the configuration and of a Python function. If there are both, a user has to satisfy both."""

    def __init__(
        self,
        rules: Iterable[str],
        providers: Mapping[str, Provider],
        function: Callable[[Identity], bool] | None = None,
    ) -> None:
        """
        :param providers: the providers by label.
        :raises errors.ConfigError: for an invalid rule, or a kind of rule that its provider does not support.
        """
        self._rules = [parse_rule(rule, providers) for rule in rules]
        self._function = function

    def __bool__(self) -> bool:
        return bool(self._rules or self._function)

    def for_provider(self, label: str) -> list[Rule]:
        """Return the rules for the users of one provider."""
        return [rule for rule in self._rules if rule.label == label]

    def check(self, identity: Identity, label: str) -> None:
        """Check that a user of the provider with this *label* has access.

        :raises errors.NotAllowed: otherwise.
        """
        allowed = not self._rules or any(rule.label == label and rule.matches(identity) for rule in self._rules)
        if not (allowed and self._function_allows(identity)):
            account = identity.username or identity.email or identity.name or identity.id
            has_email_rule = any(rule.kind == "email" for rule in self.for_provider(label))
            is_unverified = has_email_rule and identity.email and not identity.verified_emails
            reason = "the provider does not say that their address is verified" if is_unverified else ""
            raise errors.NotAllowed(identity.id, account, reason)

    def _function_allows(self, identity: Identity) -> bool:
        try:
            return self._function is None or self._function(identity) is True
        except Exception:  # noqa: BLE001  # because an application's function that fails must not give access
            _log.exception("the function `allow` failed for %s; access is denied", identity.id)
            return False


def parse_rule(text: str, providers: Mapping[str, Provider]) -> Rule:
    """Parse ``kind:value`` or ``kind:label:value``.

    :param providers: the providers by label.
    :raises errors.ConfigError: for an invalid rule, or a kind of rule that its provider does not support.
    """
    kind, _, value = text.partition(":")
    # The longest label first, because one can begin with another: id.example.com and id.example.com:8443.
    labels = sorted((label for label in providers if value.startswith(f"{label}:")), key=len, reverse=True)
    label = labels[0] if labels else next(iter(providers)) if len(providers) == 1 else ""
    value = value.removeprefix(f"{label}:") if labels else value
    if "," in text and not (kind == "group" and _DISTINGUISHED_NAME.fullmatch(value)):
        raise errors.ConfigError(f"{PREFIX}ALLOW: rules are separated by spaces, not by commas (got {text!a})")
    if kind not in KINDS or not value or not label:
        example = f"user:{next(iter(providers))}:octocat" if len(providers) > 1 else "user:octocat"
        at = f" at {', '.join(providers)}" if len(providers) > 1 else ""
        raise errors.ConfigError(
            f"{PREFIX}ALLOW: not a rule (got {text!a}); write rules such as {example}, "
            f"of the kinds {', '.join(KINDS)}{at}"
        )
    if found := _find_problem(kind, value, providers[label]):
        problem, remedy = found
        raise errors.ConfigError(f"{PREFIX}ALLOW: {problem} (got {text!a}); {remedy}")
    return Rule(kind, value, label)


def _find_problem(kind: str, value: str, provider: Provider) -> tuple[str, str] | None:
    """Return why a rule of this kind is unsafe or can never match at *provider*, and what to do instead."""
    if kind == "user" and not provider.username_is_unique:
        return f"a username at {provider.title} can pass to another user", f"use {_find_safe_kinds(provider)}"
    if kind == "email" and not provider.verifies_emails:
        return f"{provider.title} does not say which addresses it has verified", "use another kind of rule"
    if kind == "email" and not (all(value.partition("@")[::2]) and value.count("@") == 1 and value.isascii()):
        return "not an address", "write an address or *@ and a domain, in ASCII"
    if kind == "email" and "*" in value.removeprefix("*@"):
        return "a * in the middle of an address", "write an address or *@ and a domain"
    if kind in {"org", "group"} and not provider.has_groups:
        return f"{provider.title} does not give organizations or groups", "use another kind of rule"
    return None


def _find_safe_kinds(provider: Provider) -> str:
    """Return the kinds of rules other than ``user:`` that can match at *provider*, as a text."""
    kinds = ["id:"]
    if provider.verifies_emails:
        kinds.append("email:")
    if provider.has_groups:
        kinds.append("group:")
    return " or ".join(kinds)


def _address_matches(address: str, value: str) -> bool:
    # ASCII only, because lower() turns some other letters into ASCII: into the address of another user.
    if address.count("@") != 1 or not address.isascii():
        return False
    address, value = address.lower(), value.lower()  # mail servers and providers ignore the case
    return address == value or (value.startswith("*@") and address.endswith(value[1:]))
