"""Tokens: parsing of the token endpoint's response (RFC 6749 5), and the age of a stored token.

A token is a dictionary that can be stored as JSON: ``access_token``, ``token_type``, ``issued_at`` (seconds since the
epoch), and where the provider sent them ``refresh_token``, ``id_token``, ``scope`` (separated by spaces),
``expires_in`` (seconds) and ``expires_at`` (seconds since the epoch, by the clock of this machine).
"""

from __future__ import annotations

import logging
import re
import time
from typing import Any

import requests

from .. import errors
from ..transport.json import read_json
from .provider import Provider

Token = dict[str, Any]

# Seconds after its issue during which a token is new. A provider that refuses a new token without a reason has a
# fault: the token cannot have ended yet.
NEW_FOR = 60

# RFC 6749 A.12, without the space, because the token is sent in a header. 16 KiB is more than any provider needs.
_TOKEN_SYNTAX = re.compile(r"[\x21-\x7e]{1,16384}", re.ASCII)
_ERROR_SYNTAX = re.compile(r"[a-z][a-z_]{0,63}", re.ASCII)
_MAX_SCOPE = 8192  # characters; some providers have hundreds of scopes
_MAX_LIFETIME = 10 * 365 * 86400  # seconds
_LEEWAY = 10  # seconds before its end at which a token counts as expired, because a request takes time

# RFC 6749 5.2 `invalid_grant`, and the names that GitHub and Slack use for it:
# https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors
# https://docs.slack.dev/reference/methods/oauth.v2.access
_GRANT_ERRORS = {"invalid_grant", "bad_verification_code", "bad_refresh_token", "invalid_code"}
_CLIENT_ERRORS = {
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "incorrect_client_credentials",
    "redirect_uri_mismatch",
    "bad_client_secret",
    "bad_redirect_uri",
    "invalid_client_id",
}
_log = logging.getLogger(__name__)


def is_token(token: object) -> bool:
    """Return whether a stored *token* has the types that :func:`parse_token_response` gives it.

    Another version of this program, or a handler, may have stored something else.
    """
    if not isinstance(token, dict) or not _TOKEN_SYNTAX.fullmatch(str(token.get("access_token", ""))):
        return False
    times = (token.get(name, 0) for name in ("issued_at", "expires_at", "expires_in"))
    return all(isinstance(seconds, (int, float)) for seconds in times)


def has_expired(token: Token) -> bool:
    """Return whether *token* has expired, or will expire before a request could reach the provider."""
    expires_at = token.get("expires_at")
    return expires_at is not None and time.time() > expires_at - min(_LEEWAY, token.get("expires_in", 0) / 2)


def is_new(token: Token) -> bool:
    """Return whether the provider issued *token* in the last minute."""
    return bool(
        abs(time.time() - token.get("issued_at", 0)) < NEW_FOR
    )  # abs, because clocks of machines differ a little


def parse_token_response(response: requests.Response, provider: Provider, previous: Token | None = None) -> Token:
    """Parse the response of the token endpoint (RFC 6749 5.1, 5.2).

    :param previous: the token that was refreshed.
    :raises errors.CodeRefused: when the provider refused the authorization code or the refresh token.
    :raises errors.ClientRefused: when the provider refused the client.
    :raises errors.ProviderError: for every other response that contains no valid token.
    """
    if 300 <= response.status_code < 400:
        raise errors.ProviderError(
            "the token endpoint redirects; that is not followed, because the client secret would be sent along"
        )
    document = read_token_document(response)
    if "error" in document:
        check_error(document["error"])
    if not 200 <= response.status_code < 300:
        raise errors.ProviderError(f"the token endpoint answered with status {response.status_code}")
    if str(document.get("token_type")).lower() != "bearer":
        raise errors.ProviderError("the token endpoint: token_type must be bearer (RFC 6749 7.1)")
    token = {
        "access_token": parse_token_string(document, "access_token"),
        "token_type": "Bearer",
        "issued_at": time.time(),
        "scope": _parse_scope(document.get("scope"), provider, previous),
        **parse_lifetime(document.get("expires_in")),
    }
    for name in ("refresh_token", "id_token"):
        if document.get(name):
            token[name] = parse_token_string(document, name)
    return token


def read_token_document(response: requests.Response) -> dict[str, Any]:
    """Return the JSON object in *response*. Raise ProviderError when there is none; form encoding is not accepted."""
    try:
        return dict(read_json(response, dict, "token endpoint"))
    except errors.ProviderError as error:
        if 200 <= response.status_code < 300:
            raise
        raise errors.ProviderError(
            f"the token endpoint answered with status {response.status_code}, and {error}"
        ) from None


def check_error(code: object) -> None:
    """Raise the exception for an error code of the token endpoint (RFC 6749 5.2), which GitHub sends with status 200.

    :raises errors.CodeRefused: for ``invalid_grant``.
    :raises errors.ClientRefused: for ``invalid_client`` and similar codes.
    :raises errors.ProviderError: for every other code.
    """
    name = code if isinstance(code, str) and _ERROR_SYNTAX.fullmatch(code) else "an unreadable error"
    message = f"the token endpoint answered with {name}"
    if name in _GRANT_ERRORS:
        raise errors.CodeRefused(message)
    if name in _CLIENT_ERRORS:
        raise errors.ClientRefused(
            f"{message}; compare client id, secret, WSGI_OAUTH_CLIENT_AUTH and redirect URI with the registration"
        )
    raise errors.ProviderError(message)


def parse_token_string(document: dict[str, Any], name: str) -> str:
    """Return a token of the response. Raise ProviderError unless it is at most 16 KiB of printable ASCII."""
    value = document.get(name)
    if not isinstance(value, str) or not _TOKEN_SYNTAX.fullmatch(value):
        raise errors.ProviderError(f"the token endpoint: {name} must be 1 to 16384 characters of printable ASCII")
    return value


def parse_lifetime(expires_in: object) -> dict[str, float]:
    """Return ``expires_in`` and ``expires_at``, or nothing when the lifetime is unknown (RFC 6749 5.1).

    Some providers send the number as a string. With 0 or less the token has expired already.

    :raises errors.ProviderError: when it is not a number.
    """
    if expires_in is None or expires_in == "":
        return {}
    if isinstance(expires_in, str) and re.fullmatch(r"-?[0-9]{1,18}", expires_in):
        expires_in = int(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, (int, float)):
        raise errors.ProviderError("the token endpoint: expires_in must be a number of seconds")
    seconds = max(0, min(expires_in, _MAX_LIFETIME))
    return {"expires_in": seconds, "expires_at": time.time() + seconds}


def _parse_scope(scope: object, provider: Provider, previous: Token | None) -> str:
    """Return the granted scopes, sorted. Without any in the response they are those requested (RFC 6749 5.1, 6)."""
    requested = set((provider.scope if previous is None else str(previous.get("scope", ""))).split())
    if provider.lists_scopes and isinstance(scope, list):
        scope = " ".join(map(str, scope))
    if scope is None:
        granted = requested
    elif isinstance(scope, str) and len(scope) <= _MAX_SCOPE and scope.isascii():
        granted = set(re.split(r"[\s,]+", scope)) - {""}  # GitHub separates scopes with commas
    else:
        raise errors.ProviderError(f"the token endpoint: scope must be at most {_MAX_SCOPE} characters of ASCII")
    if requested and granted != requested:
        _log.info(
            "the provider granted the scopes %a where %a were requested",
            " ".join(sorted(granted)),
            " ".join(sorted(requested)),
        )
    return " ".join(sorted(granted))
