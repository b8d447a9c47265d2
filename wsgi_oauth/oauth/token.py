"""Tokens: parsing of the token endpoint's response (RFC 6749 5), and the age of a stored token.

A token is a dictionary that can be stored as JSON: ``access_token``, ``token_type``, ``issued_at`` (seconds since the
epoch), and where the provider sent them ``refresh_token``, ``id_token``, ``scope`` (separated by spaces),
``expires_in`` (seconds) and ``expires_at`` (seconds since the epoch, by the clock of this machine).
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl

import requests

from .. import errors
from ..config.provider import Provider
from ..transport.error_description import find_error, read_retry_after
from ..transport.json import read_json
from .claims import describe
from .id_token import read_id_token, refuse_encrypted
from .refusal import MUST_WAIT, TEMPORARY, build_refusal, find_error_codes, is_error_object

Token = dict[str, Any]

# Seconds in which a token is new. It cannot have expired then, so a refusal without a reason is the provider's error.
NEW_FOR = 60

MAX_TOKEN = 64 * 1024  # characters; access tokens with hundreds of groups have more than 16 KiB
# RFC 6749 A.12, without the space, because the token is sent in a header.
_TOKEN_SYNTAX = re.compile(rf"[\x21-\x7e]{{1,{MAX_TOKEN}}}", re.ASCII)
_REFRESH_TOKEN_SYNTAX = re.compile(rf"[\x20-\x7e]{{1,{MAX_TOKEN}}}", re.ASCII)  # A.17
_SCOPE_SYNTAX = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+", re.ASCII)  # RFC 6749 3.3, `scope-token`
# Types of tokens that are bound to a key (RFC 9449 5, RFC 6749 7.1) or are not access tokens (RFC 8693 2.2.1).
_OTHER_TYPES = {"dpop", "mac", "n_a"}
_FORM = "application/x-www-form-urlencoded"
_MAX_SCOPE = 8192  # characters; some providers have hundreds of scopes
_MAX_LIFETIME = 10 * 365 * 86400  # seconds
# A token counts as expired this many seconds before its end, at most half its lifetime, because a request takes time.
_LEEWAY = 10

_REFUSALS = range(400, 404)  # statuses with which a provider refuses a refresh token
# Descriptions of a refused refresh token: "refresh_token is invalid", "unable to parse refresh token".
_REFUSED = r"(?i)token\b.*\b(already used|expired|invalid|revoked)\b|\b(expired|invalid|parse|revoked)\b.*token\b"
_LONGEST_BLOCK = 24 * 3600  # seconds for which a firewall may block refreshes without ending sessions
_CHECK_URL = "compare WSGI_OAUTH_TOKEN_URL with the provider's documentation"
_CHECK_SCOPE = "compare WSGI_OAUTH_TOKEN_URL and WSGI_OAUTH_SCOPE with the provider's documentation"
_REMEDIES = {  # for a status without a known error code
    401: "compare WSGI_OAUTH_CLIENT_ID and WSGI_OAUTH_CLIENT_SECRET with the registration, and try another "
    "WSGI_OAUTH_CLIENT_AUTH",
    403: "let the provider, and a firewall in front of it, permit the requests of this machine",
    **dict.fromkeys((404, 405, 410), _CHECK_URL),
}
_log = logging.getLogger(__name__)


def is_token(token: object) -> bool:
    """Return whether a stored *token* has the types that :func:`parse_token_response` gives it."""
    # Another version of this program, or a handler, may have stored other data.
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
    age = time.time() - token.get("issued_at", 0)
    return bool(abs(age) < NEW_FOR)  # negative if the clock of the machine that stored it is ahead


def parse_token_response(
    response: requests.Response,
    provider: Provider,
    previous: Token | None = None,
    *,
    redirect_uri: str = "",
    secrets: Collection[str] = (),
) -> Token:
    """Parse the response of the token endpoint (RFC 6749 5.1, 5.2).

    :param previous: the token that was refreshed.
    :raises errors.Error: for an error code, see :func:`.refusal.build_refusal`.
    :raises errors.ProviderError: for every other response that contains no valid token.
    """
    if 300 <= response.status_code < 400:
        raise errors.ProviderError(
            "the token endpoint redirects; the redirect is not followed, because its target would receive the client "
            "secret",
            remedy="set WSGI_OAUTH_TOKEN_URL to the URL behind the redirect, if the provider's documentation names it",
        )
    status = response.status_code
    document = read_token_document(response) if 200 <= status < 300 else {}
    if not 200 <= status < 300 or has_error(document):
        error = _read_refusal(response, provider, "the token endpoint", redirect_uri, secrets)
        if isinstance(error, errors.ProviderError):
            error.remedy = error.remedy or _REMEDIES.get(status, "")
        raise error
    token = {
        "access_token": parse_token_string(document, "access_token"),
        "token_type": _parse_type(document.get("token_type")),
        "issued_at": time.time(),
        "scope": _parse_scope(document.get("scope"), provider, previous),
        **parse_lifetime(document.get("expires_in", document.get("expires"))),
    }
    if document.get("refresh_token"):
        token["refresh_token"] = parse_token_string(document, "refresh_token")
    if document.get("id_token"):
        try:
            id_token = parse_token_string(document, "id_token")
            refuse_encrypted(id_token, "ID token")
            if not provider.asks_for_id_token:
                read_id_token(id_token)
            token["id_token"] = id_token
        except errors.ProviderError as error:
            if provider.asks_for_id_token:
                raise
            _log.warning("token endpoint: an ID token that was not requested is ignored: %s", error)
    return token


def parse_pushed_response(response: requests.Response, provider: Provider, *, redirect_uri: str) -> str:
    """Parse the response to a pushed authorization request, and return its ``request_uri`` (RFC 9126 2.2, 2.3)."""
    endpoint = "the endpoint for pushed authorization requests"
    if not 200 <= response.status_code < 300:
        raise _read_refusal(response, provider, endpoint, redirect_uri)
    uri = read_json(response, dict, endpoint).get("request_uri")
    if not isinstance(uri, str) or not re.fullmatch(r"[!-~]{1,2000}", uri):
        raise errors.ProviderError(f"{endpoint}: request_uri must be printable ASCII (RFC 9126 2.2; got {uri!a:.80})")
    return uri


def _read_refusal(
    response: requests.Response, provider: Provider, endpoint: str, redirect_uri: str, secrets: Collection[str] = ()
) -> errors.Error:
    """Return the exception for an error of *endpoint*, which is temporary if its status or its code says so."""
    status, (code, description) = response.status_code, find_error(response, secrets)
    default = errors.ProviderFailed if status >= 500 or code in TEMPORARY else errors.ProviderError
    default = errors.ProviderRateLimit if status == 429 or code in MUST_WAIT else default
    code = code or f"status {status}"
    error = build_refusal(code, description, provider, endpoint=endpoint, redirect_uri=redirect_uri, default=default)
    if redirect_uri and isinstance(error, errors.LoginDeclined):
        if status == 401:  # Auth0 and Atlassian deny access to a client with a wrong secret
            error = errors.ClientRefused(error.detail, remedy=_REMEDIES[status])
        error.provider_says = description
    error.retry_after = read_retry_after(response) or error.retry_after
    return error


def read_token_document(response: requests.Response) -> dict[str, Any]:
    """Return the JSON object in *response*, or the members of a form-encoded response.

    A form-encoded response needs the exact content type, otherwise a page of text that repeats a URL could be read as a
    token. The content type of a JSON object is ignored, because a page of text is not a JSON object.
    """
    try:
        # Invalid bytes are replaced, because some providers add names in another encoding. Tokens and codes are ASCII.
        return dict(read_json(response, dict, "token endpoint", remedy=_CHECK_URL, replaces_invalid=True))
    except errors.ProviderError:
        if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() != _FORM:
            raise
    return _read_form(response)


def _read_form(response: requests.Response) -> dict[str, Any]:
    """Return the members of a form-encoded response. A repeated name is an error (RFC 6749 3.2)."""
    try:
        text = response.content.decode("utf-8-sig").strip()
        pairs = parse_qsl(text, strict_parsing=True, errors="strict", max_num_fields=50)
    except ValueError:
        message = "token endpoint: the response is not form-encoded as it declares"
        raise errors.ProviderError(message, remedy=_CHECK_URL) from None
    if len(dict(pairs)) < len(pairs):
        raise errors.ProviderError("token endpoint: the form-encoded response repeats a member")
    return dict(pairs)


def has_error(document: dict[str, Any]) -> bool:
    """Return whether the document reports an error (RFC 6749 5.2). GitHub sends errors with status 200."""
    return bool(document.get("error")) or ("access_token" not in document and is_error_object(document))


def refuses_refresh(response: requests.Response, expires_at: float) -> bool:
    """Return whether the token endpoint has refused a refresh token permanently.

    The error code should be ``invalid_grant``. Some providers send another code or none (problem+json, an empty 400),
    or status 200 and an error object. None of them would accept the same refresh token later, and a new sign-in always
    helps. With other statuses, and with errors that are known to be temporary, a later attempt may succeed.

    An HTML page is the answer of a firewall in front of the endpoint (RFC 6749 5.2). It counts as a refusal from a day
    after the expiry of the access token on, because the session could only show errors.

    :param expires_at: when the access token expires: seconds since the epoch.
    """
    try:
        document = read_token_document(response)
    except errors.ProviderError:
        document = {}
    if "Retry-After" in response.headers or not TEMPORARY.isdisjoint(find_error_codes(document)):
        return False
    is_page = not document and "html" in response.headers.get("Content-Type", "").lower()
    if is_page and time.time() < expires_at + _LONGEST_BLOCK:
        return False
    return response.status_code in _REFUSALS or (200 <= response.status_code < 300 and has_error(document))


def blames_refresh_token(response: requests.Response) -> bool:
    """Return whether ``unauthorized_client`` is about the refresh token: at Atlassian, Gitea and Forgejo.

    Otherwise this client may not refresh tokens, and the access token stays in use.
    """
    code, description = find_error(response)
    return code.lower() == "unauthorized_client" and bool(re.search(_REFUSED, description))


def parse_token_string(document: dict[str, Any], name: str) -> str:
    """Return a token of the response. Raise ProviderError unless it is at most 64 KiB of printable ASCII."""
    value, syntax = document.get(name), _REFRESH_TOKEN_SYNTAX if name == "refresh_token" else _TOKEN_SYNTAX
    if value is None:
        raise errors.ProviderError(f"token endpoint: {name} is missing (got {describe(document)})", remedy=_CHECK_SCOPE)
    if not isinstance(value, str) or not syntax.fullmatch(value):
        raise errors.ProviderError(
            f"token endpoint: {name} must be 1 to {MAX_TOKEN} characters of printable ASCII (got {describe(value)})"
        )
    return value


def _parse_type(token_type: object) -> str:
    """Return ``Bearer``, the only supported type. A missing or unknown type is treated as Bearer, with a warning."""
    name = token_type.strip().lower() if isinstance(token_type, str) else ""
    if name in _OTHER_TYPES:
        raise errors.ProviderError(f"token endpoint: token_type must be bearer (RFC 6749 7.1; got {name!a})")
    if name != "bearer":
        _log.warning("token endpoint: token_type should be bearer (got %.60a); the token is used as one", token_type)
    return "Bearer"


def parse_lifetime(expires_in: object) -> dict[str, float]:
    """Return ``expires_in`` and ``expires_at``, or an empty dictionary for an unknown lifetime (RFC 6749 5.1).

    A token with an unknown lifetime is used until the provider refuses it. Some providers send the number as a string.
    0 or less means that the token does not expire. An unreadable value is ignored with a warning.
    """
    if expires_in in (None, ""):
        return {}
    seconds = math.nan
    if isinstance(expires_in, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}(\.[0-9]{0,18})?\s*", expires_in, re.ASCII):
        seconds = float(expires_in)
    elif isinstance(expires_in, (int, float)) and not isinstance(expires_in, bool):
        seconds = max(0, min(expires_in, _MAX_LIFETIME))  # because not every integer fits into a float
    if math.isnan(seconds):
        _log.warning("token endpoint: expires_in must be a number of seconds (got %.60a); it is ignored", expires_in)
    if not seconds > 0:
        return {}
    seconds = min(seconds, _MAX_LIFETIME)
    return {"expires_in": seconds, "expires_at": time.time() + seconds}


def _parse_scope(scope: object, provider: Provider, previous: Token | None) -> str:
    """Return the granted scopes, sorted. A response without scopes grants the requested ones (RFC 6749 5.1, 6).

    Some providers send a list. Unreadable scopes are ignored with a warning, because no access check uses a scope.
    """
    requested = set((provider.scope if previous is None else str(previous.get("scope", ""))).split())
    text = " ".join(each for each in scope if isinstance(each, str)) if isinstance(scope, list) else scope
    if isinstance(text, str) and len(text) <= _MAX_SCOPE:
        parts = set(re.split(r"[\s,]+", text)) - {""}  # GitHub separates scopes with commas
        granted = {part for part in parts if _SCOPE_SYNTAX.fullmatch(part)}
        is_readable = granted == parts
    else:
        granted, is_readable = requested, scope is None
    if not is_readable:
        _log.warning("token endpoint: scope must be scopes separated by spaces (got %.200a)", scope)
    if requested and granted != requested:
        shown = (" ".join(sorted(scopes)) for scopes in (granted, requested))
        _log.info("the provider granted the scopes %a where %a were requested", *shown)
    return " ".join(sorted(granted))
