"""Re-authentication: requirements on the time and the strength of a sign-in (OpenID Connect Core 2, RFC 9470).

The requirements of an authorization request are its parameters ``max_age`` (seconds) and ``acr_values`` (authentication
context class references, separated by spaces). The ID token answers them with ``auth_time`` and ``acr``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from math import inf, isnan
from typing import Any
from urllib.parse import parse_qsl

from .. import errors
from ..config.checks import is_requirement
from ..sessions.encoding import read_object
from .id_token import MAX_CLOCK_SKEW, read_time

# In the session: {"finished": when the sign-in finished, "at": when the provider authenticated the user, "acr": ...},
# times in seconds since the epoch. The last two are absent if the ID token lacks them. A refresh does not change them.
AUTHENTICATION = "oauth_authentication"
LEEWAY = 60.0  # seconds beyond max_age, because the way back from the provider takes time
_REQUIREMENTS = ("max_age", "acr_values")
_LOOP_TIME = 30.0  # seconds; a page that requires another sign-in within this time causes a redirect loop


def parse_requirements(query: str) -> dict[str, str]:
    """Return the valid requirements in *query*, which has the form ``max_age=300&acr_values=gold``."""
    return _select_valid(dict(parse_qsl(query[:2048]))) if query else {}


def _select_valid(parameters: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if name in _REQUIREMENTS and is_requirement(name, value)}


def combine_requirements(configured: Mapping[str, str], requested: Mapping[str, str]) -> dict[str, str]:
    """Return the stricter of *configured* and *requested* requirements. A link must not weaken the configuration.

    Other parameters and invalid values are ignored.

    :raises errors.AuthenticationNotConfirmed: if the two lists in ``acr_values`` have no value in common.
    """
    found, both = {}, [_select_valid(configured), _select_valid(requested)]
    if max_ages := [each["max_age"] for each in both if "max_age" in each]:
        found["max_age"] = min(max_ages, key=int)
    if lists := [each["acr_values"].split() for each in both if "acr_values" in each]:
        common = [acr for acr in lists[-1] if acr in lists[0]]
        if not common:
            raise errors.AuthenticationNotConfirmed(
                "WSGI_OAUTH_AUTHORIZATION_PARAMETERS: acr_values contains none of those that this page requires "
                f"(got {lists[0]!a}, required {lists[-1]!a}); add one of them"
            )
        found["acr_values"] = " ".join(common)
    return found


def check_requirements(claims: Mapping[str, Any], requirements: Mapping[str, str]) -> None:
    """Raise AuthenticationNotConfirmed unless the claims of an ID token meet the *requirements* (Core 3.1.3.7)."""
    max_age, acr_values, now = requirements.get("max_age"), requirements.get("acr_values"), time.time()
    if max_age is not None:
        age = now - read_time(claims, "auth_time")
        if not -MAX_CLOCK_SKEW <= age <= int(max_age) + MAX_CLOCK_SKEW:  # false for NaN, too
            raise errors.AuthenticationNotConfirmed(
                f"ID token: auth_time does not confirm max_age={max_age} (got {claims.get('auth_time')!a:.50}); use a "
                "provider that authenticates the user again and sends auth_time (OpenID Connect Core 2)"
            )
    if acr_values is not None and claims.get("acr") not in acr_values.split():
        raise errors.AuthenticationNotConfirmed(
            f"ID token: acr is not one of the requested {acr_values!a} (got {claims.get('acr')!a:.100}); enable these "
            "authentication methods at the provider, or require others"
        )


def build_authentication(claims: Mapping[str, Any], requirements: Mapping[str, str]) -> dict[str, Any]:
    """Return the value of :data:`AUTHENTICATION` for a sign-in that has just finished, from its ID token."""
    now = time.time()
    authentication: dict[str, Any] = {"finished": now}
    at = read_time(claims, "auth_time")
    if not isnan(at):
        # The provider's clock may be wrong. With max_age, the user was authenticated at most that long ago.
        earliest = now - int(requirements["max_age"]) if "max_age" in requirements else at
        authentication["at"] = min(now, max(at, earliest))
    if isinstance(claims.get("acr"), str):
        authentication["acr"] = claims["acr"]
    return authentication


def require_recent_login(session: Mapping[str, Any], error: errors.ReauthenticationRequired) -> None:
    """Raise *error* unless the last sign-in of *session* meets the requirements of *error*."""
    if not _meets(read_object(session, AUTHENTICATION), error):
        raise error


def check_redirect_loop(session: Mapping[str, Any], error: errors.ReauthenticationRequired) -> None:
    """Raise ReauthenticationLoop if the user has just finished a sign-in that meets the requirements of *error*."""
    authentication = read_object(session, AUTHENTICATION)
    if time.time() - authentication.get("finished", 0) < _LOOP_TIME and _meets(authentication, error):
        raise errors.ReauthenticationLoop(
            "ReauthenticationRequired: raised although the user has just signed in as required; raise it with "
            "require_recent_login, which looks at the last sign-in"
        ) from error


def _meets(authentication: Mapping[str, Any], error: errors.ReauthenticationRequired) -> bool:
    is_recent = error.max_age is None or time.time() - authentication.get("at", -inf) <= error.max_age + LEEWAY
    return is_recent and (not error.acr or authentication.get("acr") in error.acr)
