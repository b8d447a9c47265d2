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


def has_invalid_token_body(response: requests.Response) -> bool:
    """Return whether the body of a response has the error code ``invalid_token``.

    This counts for the user document only: elsewhere the code can mean a token that the request itself contained.
    """
    return find_error_code(response) == "invalid_token"


def is_refusal_without_reason(response: requests.Response) -> bool:
    """Return whether the status is 400 without a known error code.

    Some providers answer a request for the user document like this when the token has ended. That request has no
    parameters, so nothing else can be wrong with it.
    """
    if response.status_code != 400 or "WWW-Authenticate" in response.headers:
        return False
    return find_error_code(response) not in _OTHER_REASONS


def find_error_code(response: requests.Response) -> object:
    """Return the ``error`` member of the JSON document in a response with status 400 or 403, or None."""
    if response.status_code not in {400, 403}:
        return None
    try:
        document = parse_json(response.content)
    except ValueError:
        return None
    return document.get("error") if isinstance(document, dict) else None


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
