"""Access rules: which signed-in users may use the application (``WSGI_OAUTH_ALLOW``).

A rule is a kind and a value: ``user:octocat``, ``id:583231``, ``email:ann@example.com``, ``email:*@example.com``,
``org:octo-org``, ``group:staff`` or ``claim:department=sales``. A user needs to match one rule; without any rule all
users have access. With several providers each rule names its provider by its label: ``user:github:octocat``. A rule
never matches if the provider does not give the data that it needs.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from .. import errors
from ..config.provider import Provider
from ..config.settings import PREFIX, variable_name
from .claims import find_path
from .identity import Identity, escape_id

_log = logging.getLogger(__name__)

# The kinds of rules, with an example of a value.
KINDS = {
    "user": "octocat",
    "id": "583231",
    "email": "*@example.com",
    "org": "octo-org",
    "group": "staff",
    "claim": "department=sales",
}
_SECOND_RULE = rf"[\s,;|](?:{'|'.join(KINDS)}):\S"  # in the value of a rule


class Rule(NamedTuple):
    """``kind:value`` at the provider with this *label*, or ``claim:<claim>=value``."""

    kind: str
    value: str
    label: str
    claim: str = ""  # name or path of the claim

    def matches(self, identity: Identity) -> bool:
        """Return whether the rule gives this user access."""
        if self.kind == "user":
            return identity.username == self.value
        if self.kind == "id":
            if self.value.endswith(f"@{escape_id(identity.provider)}"):
                return self.value == identity.id
            # The value is a subject, either escaped as in `former_id` or unchanged.
            former = identity.former_id.rpartition(":")[2]
            return self.value == former or ("%" not in self.value and self.value == identity.subject)
        if self.kind == "email":
            return any(_address_matches(address, self.value) for address in identity.verified_emails)
        if self.kind == "claim":
            found = find_path(identity.claims, self.claim)
            return any(map(self.equals, found if isinstance(found, list) else [found]))
        return self.value in identity.groups

    def equals(self, claim: object) -> bool:
        """Return whether a claim, or an item of it, equals the value. Numbers and booleans are compared as JSON."""
        if isinstance(claim, (bool, int, float)):
            return json.dumps(claim) == self.value
        return claim == self.value

    def names(self, name: str) -> bool:
        """Return whether *name* is the group, the organization or an address of this rule."""
        return _address_matches(name, self.value) if self.kind == "email" else name == self.value

    def names_claim(self, path: str) -> bool:
        """Return whether the rule is about the claim at *path* or about a member of it."""
        return self.claim == path or self.claim.startswith(f"{path}.")


class Rules:
    """The access rules of a setting, and the function ``allow``. If there are both, a user has to satisfy both."""

    def __init__(
        self,
        rules: Iterable[str],
        providers: Mapping[str, Provider],
        function: Callable[[Identity], bool] | None = None,
        *,
        has_labels: bool = False,
        setting: str = f"{PREFIX}ALLOW",
    ) -> None:
        """Raise ConfigError for an invalid rule, or a kind of rule that its provider does not support."""
        self._providers = providers
        self._setting = setting  # its name; rules other than WSGI_OAUTH_ALLOW concern a part of the application
        self._has_labels = has_labels  # whether the names of the providers' settings contain their labels
        self._function = function
        texts = list(rules)
        self._rules = [self._parse(text, previous=texts[:position]) for position, text in enumerate(texts)]

    def __bool__(self) -> bool:
        return bool(self._rules or self._function)

    def for_provider(self, label: str) -> list[Rule]:
        return [rule for rule in self._rules if rule.label == label]

    def check(self, identity: Identity, label: str) -> None:
        """Raise NotAllowed unless a user of the provider with this *label* has access."""
        allowed = not self._rules or any(rule.label == label and rule.matches(identity) for rule in self._rules)
        if not (allowed and self._function_allows(identity)):
            is_page_rule = self._setting != f"{PREFIX}ALLOW"
            reasons = "" if allowed else "; ".join(self._find_reasons(identity, label))
            reason = ": ".join(filter(None, (self._setting if is_page_rule else "", reasons)))
            raise errors.NotAllowed(
                identity.id, identity.display_name, reason, unread=identity.unread, is_page=is_page_rule
            )

    def _find_reasons(self, identity: Identity, label: str) -> Iterator[str]:
        """Yield the reasons why no rule matches, as far as the operator can change them."""
        rules = self.for_provider(label)
        kinds = {rule.kind for rule in rules}
        if any(rule.kind == "email" and rule.names(identity.email or "") for rule in rules):
            setting = self._variable("trust_unverified_email", label)
            yield f"the provider does not say that the address is verified (if users cannot choose it: {setting}=yes)"
        elif "email" in kinds and not identity.email:
            scope, claim = self._variable("scope", label), self._variable("email_claim", label)
            yield f"the provider gives no address (if the user has one: add its scope to {scope}, or set {claim})"
        if identity.unread:
            yield f"the provider did not permit this application to read the {' and '.join(identity.unread)}"
        elif kinds & {"group", "org"} and not identity.groups:
            scope, claim = self._variable("scope", label), self._variable("groups_claim", label)
            yield f"the provider gives no groups (if the user has some: add their scope to {scope}, or set {claim})"
        elif kinds & {"group", "org"}:
            named = ", ".join(ascii(group[:100]) for group in identity.groups[:5])
            more = ", ..." if len(identity.groups) > 5 else ""
            yield f"no rule names one of the groups that the provider gives ({named}{more})"
        for claim in sorted({rule.claim for rule in rules if rule.claim}):
            if find_path(identity.claims, claim) is None:
                yield f"the provider gives no claim {claim!a}"

    def _function_allows(self, identity: Identity) -> bool:
        try:
            return self._function is None or self._function(identity) is True
        except Exception:  # noqa: BLE001  # a function that fails must not give access
            _log.exception("the function `allow` failed for %s; access is denied", identity.id)
            return False

    def _parse(self, text: str, *, previous: Sequence[str] = ()) -> Rule:
        """Parse ``kind:value`` or ``kind:label:value``.

        :param previous: the rules before this one, for the error message about a value with a space.
        """
        kind, _, value = text.partition(":")
        # The longest label first, because one can begin with another: id.example.com and id.example.com:8443.
        labels = sorted((label for label in self._providers if value.startswith(f"{label}:")), key=len, reverse=True)
        label = next(iter(self._providers)) if len(self._providers) == 1 else ""
        if labels:
            label, value = labels[0], value.removeprefix(f"{labels[0]}:")
        if kind not in KINDS or not value or not label:
            problem, remedy = "not a rule", self._describe_rules()
            if previous and kind not in KINDS:
                start, _, rest = f"{previous[-1]} {text}".partition(":")
                quoted = re.sub(r'(["\\])', r"\\\1", rest)
                remedy = f'if it belongs to the value before it, use quotes: {start}:"{quoted}"; if not, {remedy}'
        elif re.search(_SECOND_RULE, value):
            problem, remedy = "two rules in one", "separate rules by spaces; quotes enclose the value of one rule"
        elif value == "*":
            problem, remedy = "a * is not a wildcard here", "name the users, or remove all rules to admit every user"
        elif problem := _find_missing(kind, self._providers[label]):
            remedy = self._find_alternatives(kind, label)
        elif kind == "claim":
            claim, _, value = value.partition("=")
            problem, remedy = self._check_claim(claim, value, label)
            if not problem:
                return Rule(kind, value, label, claim)
        elif kind == "email" and (problem := _find_invalid_address(value)):
            remedy = "write an address or *@ and a domain, in ASCII"
        else:
            return Rule(kind, value, label)
        raise errors.ConfigError(f"{self._setting}: {problem} (got {text!a:.300}); {remedy}")

    def _variable(self, setting: str, label: str) -> str:
        return variable_name(setting, label if self._has_labels else "")

    def _describe_rules(self) -> str:
        several = len(self._providers) > 1
        kinds = [each for each in KINDS if any(not _find_missing(each, p) for p in self._providers.values())]
        example = f"{kinds[0]}:{next(iter(self._providers)) + ':' if several else ''}{KINDS[kinds[0]]}"
        at = f" at {', '.join(self._providers)}" if several else ""
        return f"write rules such as {example}, of the kinds {', '.join(kinds)}{at}"

    def _find_alternatives(self, kind: str, label: str) -> str:
        """Return the remedy for a rule of a kind that the provider does not support."""
        provider = self._providers[label]
        remedy = f"use {' or '.join(f'{each}:' for each in KINDS if not _find_missing(each, provider))}"
        if kind == "email" and provider.user.email:
            setting = self._variable("trust_unverified_email", label)
            remedy += f", or set {setting}=yes if users cannot choose addresses there"
        if kind in {"org", "group"}:
            remedy += f", or set {self._variable('groups_claim', label)} to the claim with the groups, if there is one"
        return remedy

    def _check_claim(self, claim: str, value: str, label: str) -> tuple[str, str]:
        """Return why the rule is invalid or unsafe and the remedy, or two empty strings."""
        provider = self._providers[label]
        if not claim or not value:
            return "not the name and the value of a claim", f"write claim:{KINDS['claim']}"
        # Otherwise a user could claim another user's address.
        if claim in {"email", *provider.user.email.split()} and not provider.trusts_emails:
            remedy = "use email:, which admits verified addresses only"
            if not provider.verifies_emails:
                remedy = self._find_alternatives("email", label)
            return "the claim does not say whether the address is verified", remedy
        return "", ""


def _find_missing(kind: str, provider: Provider) -> str:
    """Return why a rule of this kind is unsafe or can never match at *provider*, or an empty string."""
    if kind == "user" and not provider.user.username:
        return f"{provider.title} does not give usernames"
    if kind == "user" and not provider.username_is_unique:
        return f"a username at {provider.title} can pass to another user"
    if kind == "email" and not provider.verifies_emails:
        return f"{provider.title} does not say which addresses it has verified"
    if kind in {"org", "group"} and not (provider.user.groups or provider.groups):
        return f"{provider.title} does not give organizations or groups"
    return ""


def _find_invalid_address(value: str) -> str:
    """Return why *value* is neither an address nor ``*@`` and a domain, or an empty string."""
    if not (all(value.partition("@")[::2]) and value.count("@") == 1 and value.isascii()):
        return "not an address"
    return "a * in the middle of an address" if "*" in value.removeprefix("*@") else ""


def _address_matches(address: str, value: str) -> bool:
    # ASCII only, because lower() turns some other letters into ASCII: into the address of another user.
    if address.count("@") != 1 or not address.isascii():
        return False
    address, value = address.lower(), value.lower()  # mail servers and providers ignore the case
    return address == value or (value.startswith("*@") and address.endswith(value[1:]))
