"""Access tokens of the provider for programs: JSON Web Tokens with this application as their audience (RFC 9068).

The claims of the token describe the user or the program. The provider is asked only for its keys.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .. import errors
from ..config.provider import Provider
from .id_token import decode_part, read_audiences, read_subject, read_time
from .identity import Identity, read_identity
from .keys import CACHED_FOR, verifies_signatures
from .registration import Registration

SETTING = "WSGI_OAUTH_BEARER_AUDIENCE"
MAX_LENGTH = 16 * 1024  # characters; servers accept 8 KiB to 16 KiB in a header
# Seconds that the provider's clock may be ahead of ours (RFC 9068 4). An expired token gets no extra time, because
# a program can request a new one at any time.
MAX_CLOCK_SKEW = 60.0

_JWT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+", re.ASCII)


class BearerToken(NamedTuple):
    identity: Identity
    registration: Registration
    valid_until: float  # seconds since the epoch; then it has expired, or must be verified again
    id: str  # `jti`, or "" if it has none


def check_providers(registrations: Iterable[Registration]) -> None:
    """Raise ConfigError without the extra ``openid``, or if no provider has an issuer and keys."""
    if not verifies_signatures():
        raise errors.ConfigError(f"{SETTING}: needs PyJWT; run pip install 'wsgi-oauth[openid]'")
    if not any(each.has_published_keys for each in registrations):
        raise errors.ConfigError(
            f"{SETTING}: no provider has an issuer whose keys are known; set WSGI_OAUTH_PROVIDER to the URL of an "
            "OpenID Connect issuer, and remove the URLs of its endpoints"
        )


def verify_bearer_token(token: str, audience: str, registrations: Iterable[Registration]) -> BearerToken:
    """Verify an access token (RFC 9068 4), and return the user or the program that it describes.

    :param audience: the name of this application in the provider's access tokens.
    :raises errors.InvalidBearerToken: when it is malformed, expired, of another kind, or of another issuer or audience.
    :raises errors.ProviderError: with status 503, when the provider's keys are not available.
    """
    match = _JWT.fullmatch(token) if len(token) <= MAX_LENGTH else None
    header, claims = map(decode_part, match.groups()) if match else (None, None)
    if header is None or claims is None:
        raise errors.InvalidBearerToken(
            f"the access token is not a signed JSON Web Token of at most {MAX_LENGTH} characters (RFC 7519 3)",
            remedy=f"let the program request one for the audience in {SETTING}",
        )
    registration = _find_registration(claims.get("iss"), registrations)
    try:
        provider = registration.provider
        registration.verify_signature(token)
    except errors.IdTokenRefused as error:
        raise errors.InvalidBearerToken(f"the access token is refused: {error}") from None
    except errors.ProviderBusy:
        raise
    except errors.ProviderError as error:
        raise errors.ProviderUnavailable(f"the access token cannot be verified now: {error}") from None
    if not is_access_token(header, claims):
        raise errors.InvalidBearerToken(
            "the token is not marked as an access token, for example by `typ` `at+jwt` in its header (RFC 9068 2.1)",
            remedy="let the provider issue access tokens by RFC 9068 for this audience",
        )
    _check_claims(claims, provider, audience)
    try:
        identity = read_identity({}, provider, claims)
    except errors.ProviderError as error:
        raise errors.InvalidBearerToken(f"the access token does not identify a user: {error}") from None
    token_id = claims.get("jti")
    return BearerToken(
        identity,
        registration,
        # The token is verified again after this time, otherwise a key that the provider has withdrawn would stay valid.
        min(read_time(claims, "exp"), time.time() + CACHED_FOR),
        token_id[:128] if isinstance(token_id, str) else "",
    )


def is_access_token(header: Mapping[str, Any], claims: Mapping[str, Any]) -> bool:
    """Return whether the token is an access token, by its media type or by a claim that only access tokens have.

    ID tokens, logout tokens and signed user documents have the same issuer and the same keys, and may have the same
    audience. An access token must therefore have one of these marks, which the others cannot have:

    - the media type ``at+jwt`` (RFC 9068 2.1);
    - ``typ`` ``Bearer`` among the claims: Keycloak, whose other tokens have ``ID``, ``Logout`` or ``Refresh`` there;
    - ``token_use`` ``access``: Amazon Cognito, whose ID tokens have ``id`` there;
    - ``azpacr``, how the client was authenticated: access tokens of Entra ID, version 2.0;
    - ``cid`` and a list ``scp``: Okta's custom authorization servers.
    """
    media_type = header.get("typ", "JWT")
    kind = media_type.lower().removeprefix("application/") if isinstance(media_type, str) else ""
    if kind == "at+jwt":
        return True
    return kind == "jwt" and (
        claims.get("typ") == "Bearer"
        or claims.get("token_use") == "access"
        or (claims.get("ver") == "2.0" and "azpacr" in claims)
        or ("cid" in claims and isinstance(claims.get("scp"), list))
    )


def _find_registration(issuer: object, registrations: Iterable[Registration]) -> Registration:
    """Return the registration with the provider that *issuer* names. No request is sent to an unknown issuer."""
    candidates = [each for each in registrations if each.has_published_keys]
    for registration in candidates:
        if registration.is_issuer(issuer):
            return registration
    expected = ", ".join(ascii(each.configured_provider.issuer) for each in candidates)
    remedy = "let the program request its token from this issuer"
    if str(issuer).startswith("https://sts.windows.net/"):  # Entra ID, version 1.0
        remedy = "set requestedAccessTokenVersion to 2 in the manifest of the API at Entra ID"
    text = f"the access token is refused for its iss (got {issuer!a:.200}, not {expected})"
    raise errors.InvalidBearerToken(text, remedy=remedy)


def _check_claims(claims: Mapping[str, Any], provider: Provider, audience: str) -> None:
    """Check the issuer, the audience and the times of the token (RFC 9068 4)."""
    now = time.time()
    expected = {
        "iss": (provider.is_issuer(claims.get("iss")), ascii(provider.issuer)),
        "tid": (provider.is_tenant(claims.get("tid"), claims.get("iss")), "the tenant in iss"),
        "aud": (audience in read_audiences(claims), ascii(audience)),
        "exp": (read_time(claims, "exp") > now, "a time after now"),
        "nbf": ("nbf" not in claims or read_time(claims, "nbf") < now + MAX_CLOCK_SKEW, "a time before now"),
        "iat": ("iat" not in claims or read_time(claims, "iat") < now + MAX_CLOCK_SKEW, "a time before now"),
        "sub": (read_subject(claims) is not None, "a text"),
        # Such a token is valid only together with a proof of its key (RFC 8705 3, RFC 9449 7), which is not supported.
        "cnf": ("cnf" not in claims, "a token that is not bound to a key"),
    }
    invalid = {name: value for name, (is_valid, value) in expected.items() if not is_valid}
    problems = [f"{name} (got {claims.get(name)!a:.200}, not {value})" for name, value in invalid.items()]
    if problems:
        # Keycloak omits it since version 25 if a client that is older, or imported, lacks this scope.
        remedy = (
            "let the provider add sub to access tokens (Keycloak: the client scope basic)" if "sub" in invalid else ""
        )
        raise errors.InvalidBearerToken(f"the access token is refused for its {'; '.join(problems)}", remedy=remedy)
