"""Responses of protected resources: the document, or what is wrong with the token or the request (RFC 6750 3)."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import requests

from .. import errors
from ..transport.json import parse_json, read_json

# RFC 6750 3.1: error codes that say that the token is valid.
_OTHER_REASONS = ("invalid_request", "insufficient_scope")


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


def rejects_token(response: requests.Response) -> bool:
    """Return whether the provider rejects the access token: status 401, or ``invalid_token`` as the challenge."""
    challenge = response.headers.get("WWW-Authenticate", "")
    return response.status_code == 401 or (response.status_code in {400, 403} and "invalid_token" in challenge)


def has_ended_token(response: requests.Response, *, is_new: bool) -> bool:
    """Return whether a response from the user document's endpoint says with status 400 or 403 that the token has ended.

    It says so with the error code ``invalid_token`` in its body; some providers answer 400 without any code. A request
    for the user document has no parameters, so nothing but the token can be wrong with it.

    :param is_new: whether the token was issued moments ago. Then 400 without a code is a fault of the provider.
    """
    if response.status_code not in {400, 403}:
        return False
    try:
        document = parse_json(response.content)
    except ValueError:
        document = None
    code = document.get("error") if isinstance(document, dict) else None
    has_no_reason = "WWW-Authenticate" not in response.headers and code not in _OTHER_REASONS
    return code == "invalid_token" or (response.status_code == 400 and has_no_reason and not is_new)


def _refuse(response: requests.Response) -> NoReturn:
    status = response.status_code
    message = f"the provider answered a request for a resource with status {status}"
    if rejects_token(response):
        raise errors.TokenRejected(message)
    # https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api#rate-limit-errors
    must_wait = "Retry-After" in response.headers or response.headers.get("X-RateLimit-Remaining") == "0"
    if status == 429 or (status == 403 and must_wait):
        error = errors.ProviderRateLimit(message)
        # RFC 9110 10.2.3: seconds or a date. Nothing else is copied into the header of our own response.
        retry_after = response.headers.get("Retry-After", "")
        if re.fullmatch(r"[0-9]{1,9}|[A-Z][a-z]{2}, [A-Za-z0-9: ]{24}", retry_after, re.ASCII):
            error.retry_after = retry_after
        raise error
    raise errors.ProviderForbids(message) if status == 403 else errors.ProviderError(message)
