"""Responses of protected resources: the document, or what is wrong with the token or the request (RFC 6750 3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import requests

from .. import errors
from ..transport.json import parse_json, read_json
from .claims import find_value
from .provider import Provider

# Codes that say that the token has ended, in lower case: RFC 6750 3.1, and the words of APIs that have their own.
# https://docs.slack.dev/reference/methods/users.identity
# https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_using_userinfo_endpoint.htm
_ENDED = {
    "access_token_expired",
    "account_inactive",
    "bad_oauth_token",
    "expired_access_token",
    "expired_token",
    "invalid_access_token",
    "invalid_auth",
    "invalid_session_id",
    "invalid_token",
    "revoked_access_token",
    "token_expired",
    "token_revoked",
}
# Codes that say that the token is valid, but does not permit the request.
_FORBIDDEN = {"insufficient_scope", "missing_scope", "no_permission"}
_MUST_WAIT = {"rate_limit_exceeded", "rate_limited", "ratelimited", "too_many_requests"}
_OTHER_REASONS = _FORBIDDEN | _MUST_WAIT | {"invalid_request", "server_error", "temporarily_unavailable"}
# Members that contain an error code, or an object with such members.
_CODE_MEMBERS = ("error", "errors", "errcode", "error_code", "errorCode", "error_subcode", "code", "type", "reason")


def read_resource(response: requests.Response, of: type) -> Any:
    """Return the JSON document of a protected resource.

    :param of: the expected type: dict, list, or object for any type.
    :raises errors.TokenRejected: when the provider rejects the token.
    :raises errors.ProviderForbids: for status 403.
    :raises errors.ProviderRateLimit: when the provider asks to wait.
    :raises errors.ProviderError: for every other response that is not a JSON document with status 2xx.
    """
    if not 200 <= response.status_code < 300:
        _refuse(response)
    return read_json(response, of, "resource")


def read_user_document(response: requests.Response, provider: Provider, *, is_new: bool) -> dict[str, Any]:
    """Return the user document.

    Providers say in many ways that a token has ended: with status 400 or 403, or with status 200 and an error object.
    A request for the user document has no parameters, so mostly nothing but the token can be wrong with it.

    :param is_new: whether the token was issued moments ago. Then a refusal without a reason is the provider's fault.
    :raises errors.TokenRejected: when the token has ended.
    :raises errors.Error: as :func:`read_resource` does.
    """
    codes = read_error_codes(response, provider)
    if codes is None or rejects_token(response) or _must_wait(response):
        return dict(read_resource(response, dict))
    status = response.status_code
    message = f"the provider answered the request for the user document with status {status} and " + (
        f"the error {' '.join(sorted(codes))[:100]!a}" if codes else "no error code"
    )
    known = _ENDED | {code.lower() for code in provider.ended_token_codes}
    is_other_reason = codes & _OTHER_REASONS or (codes and provider.ended_token_codes)
    if codes & known or (not is_other_reason and (status == 200 or not is_new)):
        raise errors.TokenRejected(message)
    if codes & _MUST_WAIT:
        raise errors.ProviderRateLimit(message)
    if status == 403 or (status == 200 and codes & _FORBIDDEN):
        error = errors.ProviderForbids(message)
        error.status = 403 if codes else 502
        raise error
    raise errors.ProviderError(message)


def rejects_token(response: requests.Response) -> bool:
    """Return whether the provider rejects the access token: status 401, or ``invalid_token`` as the challenge."""
    challenge = response.headers.get("WWW-Authenticate", "")
    return response.status_code == 401 or (response.status_code in {400, 403} and "invalid_token" in challenge)


def read_error_codes(response: requests.Response, provider: Provider) -> set[str] | None:
    """Return the error codes in a refusal of the user document, in lower case, or None when it is no refusal.

    Refusals are the statuses 400 and 403, and status 200 with an error object. A document that names the user is never
    an error object.
    """
    status = response.status_code
    if status not in {200, 400, 403}:
        return None
    challenge = re.findall(r'\berror="?([A-Za-z_]{1,64})', response.headers.get("WWW-Authenticate", ""))
    try:
        document = parse_json(response.content)
    except ValueError:
        # Salesforce answers with the code as plain text.
        text = re.fullmatch(rb"\s*([A-Za-z_]{1,64})\s*", response.content)
        document = {"error": text[1].decode()} if text else None
    if status == 200 and not (_is_error_object(document) and find_value(document, provider.user.subject) is None):
        return None
    return {code.lower() for code in [*challenge, *_find_codes(document)]}


def _is_error_object(document: object) -> bool:
    if not isinstance(document, dict):
        return False
    failed = any(document.get(name) is False for name in ("ok", "success"))
    return failed or any(document.get(name) for name in _CODE_MEMBERS[:5])


def _find_codes(value: object, levels: int = 4) -> Iterator[str]:
    """Yield the error codes in an error object, in whatever member it has them."""
    if isinstance(value, str) and len(value) <= 64:
        yield value
    elif isinstance(value, int) and not isinstance(value, bool) and value:
        yield str(value)
    elif isinstance(value, list) and levels:
        for item in value[:10]:
            yield from _find_codes(item, levels - 1)
    elif isinstance(value, dict) and levels:
        for name in _CODE_MEMBERS:
            yield from _find_codes(value.get(name), levels - 1)


def _must_wait(response: requests.Response) -> bool:
    """Return whether the provider asks to wait (RFC 6585 4), as GitHub does with status 403.

    https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api#rate-limit-errors
    """
    has_reached_limit = "Retry-After" in response.headers or response.headers.get("X-RateLimit-Remaining") == "0"
    return response.status_code == 429 or (response.status_code == 403 and has_reached_limit)


def _refuse(response: requests.Response) -> NoReturn:
    status = response.status_code
    message = f"the provider answered a request for a resource with status {status}"
    if rejects_token(response):
        raise errors.TokenRejected(message)
    if _must_wait(response):
        error = errors.ProviderRateLimit(message)
        # RFC 9110 10.2.3: seconds or a date. Nothing else is copied into the header of our own response.
        retry_after = response.headers.get("Retry-After", "")
        if re.fullmatch(r"[0-9]{1,9}|[A-Z][a-z]{2}, [A-Za-z0-9: ]{24}", retry_after, re.ASCII):
            error.retry_after = retry_after
        raise error
    raise errors.ProviderForbids(message) if status == 403 else errors.ProviderError(message)
