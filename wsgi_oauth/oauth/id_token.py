"""Validation of ID tokens (OpenID Connect Core 1.0, 2 and 3.1.3.7)."""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from math import inf, nan
from typing import Any

import requests

from .. import errors
from ..config.provider import Provider
from ..transport.json import parse_json
from .claims import convert_number, find_value

MAX_CLOCK_SKEW = 300.0  # seconds that the provider's clock may differ from ours

# RFC 7515 3.1: header, payload and signature. The signature is empty when the algorithm is "none".
_JWT = re.compile(r"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*", re.ASCII)

# The media types of other tokens (RFC 8725 3.11). ID tokens have no registered type of their own.
_OTHER_TYPES = frozenset(
    f"{kind}+jwt" for kind in ("at", "logout", "secevent", "dpop", "token-introspection", "oauth-authz-req")
)

_CHECK_CLIENT = "compare WSGI_OAUTH_CLIENT_ID with the registration"
CHECK_CLOCK = "compare the clock of this machine with the provider's"
_TIMES = {"exp", "nbf", "iat"}
_REMEDIES = {
    "iss": "set WSGI_OAUTH_ISSUER, or WSGI_OAUTH_PROVIDER, to the issuer in the provider's documentation",
    "aud": _CHECK_CLIENT,
    "azp": _CHECK_CLIENT,
    "nonce": "let the provider return the nonce of the authorization request unchanged",
    "sub": "let the provider send the user's id as a text of sub",
}


def check_id_token(id_token: str, provider: Provider, client_id: str, *, nonce: str | None) -> dict[str, Any]:
    """Validate an ID token (Core 3.1.3.7), and return its claims.

    Its signature is verified separately (:mod:`.keys`).

    :param nonce: the nonce of the authorization request; None for an ID token of a refresh (Core 12.2).
    :raises errors.IdTokenRefused: when it is malformed, expired, or issued by or for another party.
    """
    claims = read_id_token(id_token)
    media_type = str((decode_part(id_token.partition(".")[0]) or {}).get("typ"))
    if media_type.lower().removeprefix("application/") in _OTHER_TYPES:  # RFC 7515 4.1.9
        raise errors.IdTokenRefused(
            f"the ID token is marked as another kind of token (RFC 8725 3.11; got typ {media_type!a})",
            remedy="let the token endpoint of the provider send an ID token as id_token",
        )
    now = time.time()
    valid = {
        "iss": provider.is_issuer(claims.get("iss")),
        "tid": provider.is_tenant(claims.get("tid"), claims.get("iss")),
        "aud": client_id in read_audiences(claims),
        "azp": convert_number(claims.get("azp", client_id)) == client_id,
        "exp": read_time(claims, "exp") > now - MAX_CLOCK_SKEW,
        "nbf": "nbf" not in claims or read_time(claims, "nbf") < now + MAX_CLOCK_SKEW,
        "iat": read_time(claims, "iat") < now + MAX_CLOCK_SKEW,
        "nonce": nonce is None or claims.get("nonce") == nonce,
        "sub": read_subject(claims) is not None,
    }
    invalid = [claim for claim, is_valid in valid.items() if not is_valid]
    if invalid:
        missing = [claim for claim in invalid if claims.get(claim) is None]
        shown = [claim for claim in invalid if claim in missing or claim not in {"nonce", "sub"}]
        got = ", ".join(f"{claim}={claims.get(claim)!a:.200}" for claim in shown)
        remedies = dict.fromkeys(_find_remedy(claims, claim) for claim in invalid if claim not in missing)
        if missing:
            remedies[f"configure or update the provider so that its ID tokens contain {', '.join(missing)}"] = None
        raise errors.IdTokenRefused(
            f"the ID token is refused for its {', '.join(invalid)} (Core 3.1.3.7{got and f'; got {got}'})",
            remedy="; ".join(filter(None, remedies)),
        )
    return claims


def _find_remedy(claims: Mapping[str, Any], claim: str) -> str:
    """Return the remedy for an invalid claim. For a time, the clocks differ, or its unit is not seconds."""
    if claim not in _TIMES:
        return _REMEDIES.get(claim, "")
    is_in_seconds = read_time(claims, claim) < 100 * time.time()  # false for NaN, too
    return CHECK_CLOCK if is_in_seconds else f"let the provider send {claim} in seconds since 1970 (RFC 7519 2)"


def check_refreshed_id_token(id_token: str, previous: str, provider: Provider, client_id: str) -> None:
    """Validate the ID token of a refresh. User and sign-in must be those of the *previous* ID token (Core 12.2)."""
    claims = check_id_token(id_token, provider, client_id, nonce=None)
    first = read_id_token(previous)
    is_same_user = read_subject(claims) == read_subject(first) and claims["iss"] == first.get("iss")
    if not is_same_user or claims.get("nonce", first.get("nonce")) != first.get("nonce"):
        raise errors.IdTokenRefused("the refreshed ID token is about another user or another sign-in (Core 12.2)")


def read_id_token(id_token: str) -> dict[str, Any]:
    """Return the claims of an ID token without validation. Raise IdTokenRefused if it is missing or malformed."""
    if not id_token:
        raise errors.IdTokenRefused(
            "the token endpoint gave no ID token, and the scope openid asks for one",
            remedy="enable OpenID Connect for this client at the provider, or remove openid from WSGI_OAUTH_SCOPE",
        )
    return _read_claims(id_token, "ID token")


def _read_claims(token: str, name: str) -> dict[str, Any]:
    jwt = _JWT.fullmatch(token)
    claims = decode_part(jwt[1]) if jwt else None
    if claims is None:
        raise errors.IdTokenRefused(f"the {name} is not a signed JSON Web Token with claims in it (RFC 7519 3)")
    return claims


def refuse_encrypted(token: str, name: str, error: type[errors.ProviderError] = errors.IdTokenRefused) -> None:
    """Raise *error* for an encrypted JSON Web Token, which has five parts (RFC 7516 3.1)."""
    if token.count(".") == 4:
        raise error(
            f"the {name} is encrypted, which is not supported (RFC 7516)",
            remedy=f"let the provider sign the {name} of this client without encrypting it",
        )


def decode_part(part: str) -> dict[str, Any] | None:
    """Return the header or the claims in a part of a JSON Web Token (RFC 7515 3.1), or None if it is malformed.

    Members with the value null are left out, because some providers write it for a claim that is missing.
    """
    try:
        document = parse_json(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    return {name: value for name, value in document.items() if value is not None}


def read_algorithm(id_token: str) -> str:
    """Return the algorithm in the header of a verified ID token (RFC 7515 4.1.1)."""
    return str((decode_part(id_token.partition(".")[0]) or {})["alg"])


def is_signed_document(response: requests.Response) -> bool:
    """Return whether *response* is a user document in the form of a JSON Web Token (Core 5.3.2)."""
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    # Some providers send another type. The header of a token begins with `{"`, in Base64, which is not JSON.
    is_token = content_type == "application/jwt" or response.content.startswith(b"eyJ")
    return response.status_code == 200 and is_token


def read_signed_document(document: str, provider: Provider, client_id: str) -> dict[str, Any]:
    """Return the claims of a signed user document. Its issuer and audience are checked if present (Core 5.3.2)."""
    refuse_encrypted(document, "user document", errors.ProviderError)
    claims = _read_claims(document, "user document")
    valid = {
        "iss": "iss" not in claims or provider.issuer is None or provider.is_issuer(claims["iss"]),
        "aud": "aud" not in claims or client_id in read_audiences(claims),
        "exp": "exp" not in claims or read_time(claims, "exp") > time.time() - MAX_CLOCK_SKEW,
        "nbf": "nbf" not in claims or read_time(claims, "nbf") < time.time() + MAX_CLOCK_SKEW,
    }
    invalid = {claim: f"{claim}={claims[claim]!a:.200}" for claim, is_valid in valid.items() if not is_valid}
    if invalid:
        text = f"the user document is refused for its {', '.join(invalid.values())} (Core 5.3.2)"
        raise errors.IdTokenRefused(
            text, remedy="; ".join(dict.fromkeys(_find_remedy(claims, claim) for claim in invalid))
        )
    return claims


def check_userinfo(document: Mapping[str, Any], id_token: str, paths: str = "") -> None:
    """Raise IdTokenRefused unless the user document and the ID token are about the same user (Core 5.3.2).

    :param paths: the configured paths of the id of the user. Some providers wrap the document: ``data.sub``.
    """
    # Otherwise an attacker who swaps the access token could sign in as another user.
    subject = read_subject(read_id_token(id_token))
    wrapped = " ".join(path for path in paths.split() if path.endswith(".sub"))
    found = document["sub"] if document.get("sub") is not None else find_value(document, wrapped)
    if subject is None or convert_number(found) != subject:
        raise errors.IdTokenRefused(
            "the user document and the ID token have different subjects "
            f"(Core 5.3.2; got {found!a:.80} and {subject!a:.80})",
            remedy="set WSGI_OAUTH_PROFILE_URL to the provider's UserInfo endpoint, whose response must contain sub; "
            "if an object of the response contains it, set WSGI_OAUTH_SUBJECT_CLAIM to its path, such as data.sub",
        )


def read_audiences(claims: Mapping[str, Any]) -> list[Any]:
    """Return the claim ``aud`` as a list (Core 2). A single audience is sent as a string. Numbers become strings."""
    audience = claims.get("aud")
    return [convert_number(each) for each in (audience if isinstance(audience, list) else [audience])]


def read_subject(claims: Mapping[str, Any], name: str = "sub") -> str | None:
    """Return the claim ``sub`` (Core 2), or None when it is missing or invalid. A number equals its decimal string.

    :param name: another claim of this form, such as ``sid``.
    """
    subject = convert_number(claims.get(name))
    return subject if isinstance(subject, str) and subject else None


def read_time(claims: Mapping[str, Any], name: str) -> float:
    """Return a time in seconds since the epoch, also from a numeric string.

    If it is invalid, return NaN: every comparison with it is false. A number that is too large for a float is infinite.
    """
    value = claims.get(name)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", value, re.ASCII):
        return float(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return nan
    try:
        return float(value)
    except OverflowError:  # an integer with hundreds of digits
        return inf if value > 0 else nan
