"""Logout tokens: the provider ends a session by a request to this application (OpenID Connect Back-Channel Logout 1.0).

The session of a user contains revocation names, which are derived from the subject and the session id (``sid``) in the
ID token. The same names are derived from a logout token, and :meth:`SessionManager.end_sessions_of` ends the sessions.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from .. import errors
from .id_token import CHECK_CLOCK, MAX_CLOCK_SKEW, read_audiences, read_id_token, read_subject, read_time
from .registration import Registration

EVENT = "http://schemas.openid.net/event/backchannel-logout"  # Back-Channel Logout 2.4
TYPES = ("logout+jwt", "jwt", "")  # values of `typ`; the first is only recommended (2.4)
DEFAULT_LIFETIME = 120.0  # seconds, of a token without `exp`; 2.4 recommends this value for `exp`
MAX_LIFETIME = 86400.0  # seconds; until a token expires, its use is stored to detect a replay


class Logout(NamedTuple):
    """The content of a valid logout token. Times are in seconds since the epoch, by the provider's clock."""

    label: str  # the provider's label
    user: str  # the id of the user; empty if the token does not name the user
    names: tuple[str, ...]  # revocation names of the sessions that end, see SessionManager.end_sessions_of
    issued: float
    token_id: str
    expires: float
    is_one_session: bool  # otherwise all sessions of the user end


def build_provider_session(registration: Registration, claims: Mapping[str, Any], started: float) -> dict[str, Any]:
    """Return the session data that revocations are compared with.

    :param claims: the claims of the ID token; empty without OpenID Connect.
    :param started: the start of the sign-in, by the clock of the store.
    """
    subject, session_id = read_subject(claims), read_subject(claims, "sid")
    if registration.keys is None or subject is None:
        return {"asked": started}
    name = partial(derive_name, registration.key, claims["iss"])
    own = name("session", session_id) if session_id else name("without session", subject)
    return {"asked": started, "issued": read_time(claims, "iat"), "names": [name("subject", subject), own]}


def check_logout_token(
    token: str, registrations: Iterable[Registration], find_algorithms: Callable[[str], Collection[str]]
) -> Logout:
    """Validate a logout token (Back-Channel Logout 2.6), and return its content. The caller checks for a replay.

    :param find_algorithms: returns the algorithms of the ID tokens for a registration's key; empty if unknown.
    :raises errors.Error: LogoutTokenRefused, or a ProviderError when the provider cannot be asked for its keys.
    """
    if token.count(".") == 4:
        raise errors.LogoutTokenRefused(
            "logout token: encrypted, which is not supported",
            remedy="let the provider sign the ID tokens of this client without encrypting them",
        )
    try:
        claims = read_id_token(token)
    except errors.IdTokenRefused:
        raise errors.LogoutTokenRefused("logout token: not a signed JSON Web Token with claims in it") from None
    found = find_registrations(claims, registrations)
    registration = found[0]
    try:
        algorithms = find_algorithms(registration.key) or registration.provider.signing_algorithms
        secret = registration.client_secret  # for HMAC, as in ID tokens
        registration.verify_signature(token, types=TYPES, algorithms=algorithms, secret=secret)
    except errors.SignatureRefused as error:
        raise errors.LogoutTokenRefused(f"logout token: {error.detail}", remedy=error.remedy) from None
    invalid = find_invalid_claims(claims, registration)
    if invalid:
        got = ", ".join(f"{claim}={claims[claim]!a:.200}" for claim in invalid if claim in claims)
        raise errors.LogoutTokenRefused(
            f"logout token: {', '.join(invalid)} invalid or missing (Back-Channel Logout 2.6{got and f'; got {got}'})",
            remedy=CHECK_CLOCK if any(claim in claims for claim in ("iat", "exp", "nbf") if claim in invalid) else "",
        )
    subject, session_id = read_subject(claims), read_subject(claims, "sid")
    kinds = [("subject", subject)]
    if session_id is not None:  # without session: the provider may have omitted `sid` from the ID token
        kinds = [("session", session_id), ("without session", subject)]
    names = [derive_name(each.key, claims["iss"], kind, value) for each in found for kind, value in kinds if value]
    return Logout(
        registration.label,
        registration.read_user_id({"id_token": token}),
        tuple(names),
        read_time(claims, "iat"),
        derive_name(registration.key, claims["iss"], "token", str(claims.get("jti"))),
        read_expiry(claims) + MAX_CLOCK_SKEW,
        session_id is not None,
    )


def find_invalid_claims(claims: Mapping[str, Any], registration: Registration) -> list[str]:
    """Return the names of the claims that are invalid or missing (Back-Channel Logout 2.4, 2.6)."""
    now = time.time()
    subject, session_id, token_id = read_subject(claims), read_subject(claims, "sid"), read_subject(claims, "jti")
    events = claims.get("events")
    valid = {
        "iss": registration.provider.is_issuer(claims.get("iss")),
        "iat": read_time(claims, "iat") < now + MAX_CLOCK_SKEW,
        "exp": read_expiry(claims) > now - MAX_CLOCK_SKEW,
        "nbf": "nbf" not in claims or read_time(claims, "nbf") < now + MAX_CLOCK_SKEW,
        "events": isinstance(events, dict) and isinstance(events.get(EVENT), dict),
        "nonce": "nonce" not in claims,
        "jti": token_id is not None,
        "sub": subject is not None or "sub" not in claims,
        "sid": session_id is not None or "sid" not in claims,
        "sub or sid": subject is not None or session_id is not None,
    }
    return [claim for claim, is_valid in valid.items() if not is_valid]


def read_expiry(claims: Mapping[str, Any]) -> float:
    """Return when a logout token expires: seconds since the epoch, or NaN if its times are invalid."""
    issued = read_time(claims, "iat")
    return min(read_time(claims, "exp") if "exp" in claims else issued + DEFAULT_LIFETIME, issued + MAX_LIFETIME)


def find_registrations(claims: Mapping[str, Any], registrations: Iterable[Registration]) -> list[Registration]:
    """Return the registrations that ``iss`` and ``aud`` in *claims* name. Raise LogoutTokenRefused without one."""
    found = [each for each in registrations if each.is_issuer(claims.get("iss"))]
    if not found:
        raise errors.LogoutTokenRefused(
            f"logout token: iss is not the issuer of a configured provider (got {claims.get('iss')!a:.200})"
        )
    found = [each for each in found if each.client_id in read_audiences(claims)]
    if not found:
        raise errors.LogoutTokenRefused(
            f"logout token: aud is not the client id (got {claims.get('aud')!a:.200})",
            remedy="compare WSGI_OAUTH_CLIENT_ID with the client at which the URL is registered",
        )
    return found


def derive_name(registration_key: str, issuer: str, kind: str, value: str) -> str:
    """Return the revocation name for a claim of this kind: a hash, which reveals no claim."""
    # It covers the registration, because another application may use the same store.
    return hashlib.sha256(json.dumps([kind, registration_key, issuer, value]).encode()).hexdigest()[:40]
