"""Responses of protected resources: the document, or the error of the token or the request (RFC 6750 3)."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from typing import Any, NoReturn

import requests

from .. import errors
from ..config.provider import Provider
from ..transport.error_description import build_status_error, describe_error, find_error, read_retry_after
from ..transport.json import parse_json, read_json
from .claims import find_value
from .refusal import MUST_WAIT, TEMPORARY, find_error_codes, is_error_object

# Codes that mean that the token is invalid, in lower case: RFC 6750 3.1, and codes of single APIs.
# https://docs.slack.dev/reference/methods/users.identity
# https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_using_userinfo_endpoint.htm
_INVALID_TOKEN = {
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
# Codes that mean that the token is valid, but does not permit the request.
_FORBIDDEN = {"insufficient_scope", "missing_scope", "no_permission"}
_OTHER_REASONS = _FORBIDDEN | TEMPORARY | {"invalid_request"}
# GitLab: "Your account has been blocked"; GitHub: "Your account was suspended"; others: "user_not_found".
_ENDED = "blocked|deactivated|deleted|disabled|inactive|locked|suspended|not[ _]found"
_ENDED_ACCOUNT = (
    rf"(?i)\b(account|user)[ _](is |was |has been |does )?({_ENDED}|not[ _]exist)|({_ENDED})[ _](account|user)\b"
)
_REPLACED = "\N{REPLACEMENT CHARACTER}"
_log = logging.getLogger(__name__)

_CHECK_SCOPE = "the scopes in WSGI_OAUTH_SCOPE may not be sufficient"


def read_resource(
    response: requests.Response, of: type, secrets: Collection[str] = (), *, name: str = "resource", remedy: str = ""
) -> Any:
    """Return the JSON document of a protected resource.

    :param of: the expected type: dict, list, or object for any type.
    :raises errors.TokenRejected: when the provider rejects the token.
    :raises errors.ProviderError: for every other response that is not a JSON document with status 2xx.
    """
    if not 200 <= response.status_code < 300:
        _refuse(response, secrets, name, remedy)
    return read_json(response, of, name, remedy=remedy)


def read_user_document(
    response: requests.Response, provider: Provider, *, is_new: bool, secrets: Collection[str] = ()
) -> dict[str, Any]:
    """Return the user document.

    Providers report an expired or revoked token in many ways: with status 400 or 403, or with status 200 and an error
    object. A request for the user document has no parameters, so in most cases only the token can be invalid.

    :param is_new: whether the token was issued moments ago. Then a refusal without a reason is the provider's error.
    :raises errors.TokenRejected: when the token is invalid.
    :raises errors.Error: as :func:`read_resource` does.
    """
    status = response.status_code
    if status == 200:
        document = _parse_user_document(response.content, provider)
        # A document that names the user is never an error object.
        if not is_error_object(document) or _names_user(document, provider):
            if isinstance(document, dict):
                return document
            return dict(read_json(response, dict, "user document", remedy=errors.CHECK_PROFILE_URL))
    elif _reports_ended_account(response):
        raise errors.TokenRejected(
            f"the provider reports that the account was blocked or deleted{describe_error(response, secrets)}",
            remedy="restore the account at the provider if the user should have access",
        )
    elif status not in {400, 403} or rejects_token(response) or _must_wait(response):
        return dict(read_resource(response, dict, secrets, name="user document", remedy=errors.CHECK_PROFILE_URL))
    raise _build_error(response, provider, is_new, secrets)


def _reports_ended_account(response: requests.Response) -> bool:
    """Return whether a JSON response says that the user's account was blocked or deleted."""
    # Some providers refresh the tokens of such an account, so also a new token can get this answer.
    if response.status_code not in {400, 403, 404, 410} or _must_wait(response):
        return False
    try:
        parse_json(response.content, replaces_invalid=True)
    except ValueError:  # a page, perhaps of a proxy
        return False
    return any(re.search(_ENDED_ACCOUNT, text) for text in find_error(response))


def _build_error(
    response: requests.Response, provider: Provider, is_new: bool, secrets: Collection[str]
) -> errors.Error:
    """Return the error for a refused request for the user document."""
    status, codes = response.status_code, _find_error_codes(response)
    description = describe_error(response, secrets) or " and no reason"
    message = f"the provider answered the request for the user document with status {status}{description}"
    is_invalid = codes & (_INVALID_TOKEN | {code.lower() for code in provider.ended_token_codes})
    has_other_reason = codes & _OTHER_REASONS or (codes and provider.ended_token_codes)
    if is_invalid or (not has_other_reason and (status == 200 or not is_new)):
        return errors.TokenRejected(message)
    if codes & MUST_WAIT:
        return errors.ProviderRateLimit(message)
    if status == 403 or (status == 200 and codes & _FORBIDDEN):
        error = errors.ProviderForbids(message, remedy=_CHECK_SCOPE)
        error.status = 403 if codes else 502  # without a reason, the provider is at fault
        return error
    return errors.ProviderError(message, remedy=errors.CHECK_PROFILE_URL)


def _parse_user_document(content: bytes, provider: Provider) -> Any:
    """Parse a user document; return None if it is not JSON. Invalid UTF-8 is accepted if the document names the user.

    Each text with invalid bytes is left out, because two different texts could be equal after a replacement, and an
    access rule could match the wrong one.
    """
    try:
        return parse_json(content)
    except UnicodeDecodeError:
        pass
    except ValueError:
        return None
    try:
        document = _without_replaced_text(parse_json(content, replaces_invalid=True))
    except (ValueError, RecursionError):
        return None
    if not _names_user(document, provider):
        return None
    _log.warning("user document: invalid UTF-8; texts that contain it are left out")
    return document


def _names_user(document: Any, provider: Provider) -> bool:
    return find_value(document, f"{provider.user.subject} sub") is not None


def _without_replaced_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_replaced_text(member) for name, member in value.items() if _REPLACED not in name}
    if isinstance(value, list):
        return [_without_replaced_text(item) for item in value]
    return None if isinstance(value, str) and _REPLACED in value else value


def _find_error_codes(response: requests.Response) -> set[str]:
    """Return the error codes in a refusal: in its challenge (RFC 6750 3.1) and in its body."""
    challenge = re.findall(r'\berror="?(\w+)', response.headers.get("WWW-Authenticate", ""), re.ASCII)
    try:
        document = parse_json(response.content, replaces_invalid=True)
    except ValueError:
        text = response.content[:100].decode("ascii", "replace").strip()
        document = text if "_" in text else None  # Salesforce answers with the code as plain text
    return {*find_error_codes(challenge), *find_error_codes(document)}


def rejects_token(response: requests.Response) -> bool:
    """Return whether the provider rejects the access token: status 401, or ``invalid_token`` in the challenge."""
    challenge = response.headers.get("WWW-Authenticate", "")
    return response.status_code == 401 or (response.status_code in {400, 403} and "invalid_token" in challenge)


def _must_wait(response: requests.Response) -> bool:
    """Return whether the provider asks to wait (RFC 6585 4), as GitHub does with status 403."""
    # https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api#rate-limit-errors
    has_reached_limit = "Retry-After" in response.headers or response.headers.get("X-RateLimit-Remaining") == "0"
    return response.status_code == 429 or (response.status_code == 403 and has_reached_limit)


def _refuse(response: requests.Response, secrets: Collection[str], name: str, remedy: str) -> NoReturn:
    status = response.status_code
    description = describe_error(response, secrets)
    if response.is_redirect:
        target = re.split("[?#]", response.headers["Location"])[0]
        description = f" and redirects to {target[:200]!a}, which is not followed"
    message = f"the provider answered a request for the {name} with status {status}{description}"
    if rejects_token(response):
        raise errors.TokenRejected(message)
    if _must_wait(response):
        error = errors.ProviderRateLimit(message)
        error.retry_after = read_retry_after(response)
        raise error
    if status == 403:
        raise errors.ProviderForbids(message, remedy=_CHECK_SCOPE)
    raise build_status_error(response, message, remedy=remedy)
