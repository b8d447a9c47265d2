"""The users of the local provider, and the claims that each scope releases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

#: The profile of the default user.
OCTOCAT: Mapping[str, object] = MappingProxyType(
    {
        "id": 583231,
        "login": "octocat",
        "name": "Mona Lisa Octocat",
        "email": "octocat@example.com",
    }
)


@dataclass(frozen=True)
class User:
    """A user of the provider.

    :param claims: all data that the provider has, with at least ``login`` and ``name``.
    :param note: a description of the user's special data, for the sign-in page.
    """

    claims: Mapping[str, object]
    note: str = ""

    @property
    def login(self) -> str:
        """The user name, which is unique at this provider."""
        return str(self.claims["login"])

    @property
    def name(self) -> str:
        """The full name."""
        return str(self.claims["name"])


def _user(note: str, number: int, login: str, name: str, *, email_verified: bool, groups: list[str]) -> User:
    address = {"email": f"{login}@example.com", "email_verified": email_verified}
    claims = {"id": number, **address, "groups": groups}
    return User({**claims, "name": name, "preferred_username": login, "login": login}, note)


_LONG_NAME = "Zoë Çağla Nguyễn-Østergård von Löwenstein-Wertheim Ελένη Παπαδοπούλου Ольга عائشة 🐙"
_HUBOT = {"id": 480938, "name": "Hubot", "preferred_username": "hubot", "login": "hubot"}

#: The users of ``wsgi-oauth demo``. The first one is the default user.
USERS = (
    _user(
        "has a verified email address", 583231, "octocat", "Mona Lisa Octocat", email_verified=True, groups=["staff"]
    ),
    _user("is in the group admins", 1906, "grace", "Grace Hopper", email_verified=True, groups=["staff", "admins"]),
    _user("has an unverified email address", 1815, "ada", "Ada Lovelace", email_verified=False, groups=[]),
    User(_HUBOT, "has no email address and no groups"),
    _user("has a long name in several scripts", 2718, "zoe", _LONG_NAME, email_verified=True, groups=["staff"]),
)


@dataclass(frozen=True)
class Scope:
    """A scope: its description for the consent page, and the claims that it releases.

    Users can decline an optional scope on the consent page.
    """

    description: str
    claims: tuple[str, ...] = ()
    is_optional: bool = False


#: The claims of each scope, as in OpenID Connect Core 5.4. ``login`` and ``groups`` are additions, which many providers
#: have in some form. The subject is released with every scope.
SCOPES: Mapping[str, Scope] = {
    "openid": Scope("your account number"),
    "profile": Scope("your profile: name and user name", ("name", "preferred_username", "login")),
    "email": Scope("your email address", ("email", "email_verified"), is_optional=True),
    "groups": Scope("your groups", ("groups",), is_optional=True),
    "offline_access": Scope("access while you are away"),
}


def find_scope(name: str) -> Scope:
    """Return the scope *name*. A scope that is not in :data:`SCOPES` releases no claims."""
    return SCOPES.get(name, Scope(f"the permission {name}"))


def filter_claims(claims: Mapping[str, object], granted: Iterable[str], offered: Iterable[str]) -> dict[str, object]:
    """Return the claims without those of scopes that the provider offers and the user did not grant.

    :param granted: the scopes that the user granted.
    :param offered: the scopes that the provider knows. Claims of other scopes are always released.
    """
    withheld = {claim for scope in {*offered} - {*granted} for claim in find_scope(scope).claims}
    return {name: value for name, value in claims.items() if name not in withheld}
