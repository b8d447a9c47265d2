"""Refusals by the provider: the exception for each error code, and the setting that helps.

The error codes are from RFC 6749 4.1.2.1 and 5.2, from OpenID Connect Core 3.1.2.6, and from single providers. Many
providers name the problem only in the description, so that is searched, too.

RFC 6749 5.2 has ``{"error": "invalid_grant"}``. Others are ``{"error": {"code": 190}}``, ``{"errcode": 40001}``,
``{"ok": false, "error": "token_expired"}`` and ``{"errors": [{"code": 89}]}``, often with status 200.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from .. import errors
from ..config.provider import Provider
from ..transport.error_description import quote_description

# Codes with which a provider asks to wait, and all codes of errors after which a later attempt can succeed.
MUST_WAIT = {"rate_limit_exceeded", "rate_limited", "ratelimited", "slow_down", "too_many_requests"}
TEMPORARY = MUST_WAIT | {"fatal_error", "internal_error", "server_error", "service_unavailable"}
TEMPORARY |= {"request_timeout", "temporarily_unavailable"}

# These decide whether a session ends. Those of `transport/error_description.py` only find words for the log.
_ERROR_MEMBERS = ("error", "errors", "errcode", "error_code", "errorCode", "error_id")
_CODE_MEMBERS = (*_ERROR_MEMBERS, "error_name", "code", "type", "reason")
# Messages beside `"code": 200`. The last two are Chinese: "success", and "operation successful".
_SUCCESS = {"ok", "success", "successful", "成功", "操作成功"}
# Words of at most 20 letters, or a number. Error codes are logged, and a longer text could be a token.
_CODE = r"(?as)\s*(-?[0-9]{1,10}|[A-Za-z]{1,20}(?:[_.-][A-Za-z]{1,20}){0,5})(?::\s.*|\s*)"


class _Refusal(NamedTuple):
    error: type[errors.Error]
    codes: Collection[str] = ()
    words: str = "(?!)"  # a regular expression for the description; by default it matches none
    remedy: str = ""


# Keycloak's error after the time limit of its login page: https://github.com/keycloak/keycloak/issues/24112
_EXPIRED = r"^authentication_expired$"
_REFUSALS = (
    _Refusal(errors.SignInExpired, words=_EXPIRED),
    # GitHub, Slack: https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors
    # https://docs.slack.dev/reference/methods/oauth.v2.access
    _Refusal(
        errors.CodeRefused,
        {"invalid_grant", "bad_verification_code", "bad_refresh_token", "invalid_refresh_token", "invalid_code"},
    ),
    # LinkedIn: https://learn.microsoft.com/linkedin/shared/authentication/authorization-code-flow
    # GitHub (as above), Salesforce: https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_flow_errors.htm
    _Refusal(
        errors.LoginDeclined,
        {"access_denied", "consent_required", "user_cancelled_login", "user_cancelled_authorize"}
        | {"unverified_user_email", "inactive_user"},
        remedy="if the user did not decline, permit this account or group to use this client, at the provider",
    ),
    _Refusal(errors.ProviderUnavailable, {"temporarily_unavailable"}),
    _Refusal(
        errors.InteractionRequired,
        {"interaction_required", "login_required", "account_selection_required"},
        remedy="remove prompt=none from WSGI_OAUTH_AUTHORIZATION_PARAMETERS and from links to the sign-in, or change "
        "the provider's policy that the description names",
    ),
    _Refusal(
        errors.RedirectUriRefused,
        {"redirect_uri_mismatch", "bad_redirect_uri"},
        r"redirect[ _]?ur[il](?![a-z])",
        "register exactly this redirect URI at the provider, or correct WSGI_OAUTH_PUBLIC_URL: {redirect_uri}",
    ),
    # Entra ID (AADSTS9002325 and AADSTS9002327), which mentions PKCE although the application sends it.
    _Refusal(
        errors.ClientRefused,
        words="cross-origin",
        remedy="register the redirect URI for the platform Web, and not for a single-page application",
    ),
    _Refusal(
        errors.PkceRefused,
        words=r"pkce|proof key|transform algorithm|code[ _]?challenge|code[ _]?verifier",
        remedy="{pkce_remedy}",
    ),
    _Refusal(
        errors.RequestRefused,
        words=r"pushed authorization requests? .*\b(must|only|required)",
        remedy="set WSGI_OAUTH_PUSHED_REQUESTS=yes",
    ),
    _Refusal(
        errors.ScopeRefused,
        {"invalid_scope", "unauthorized_scope_error"},  # the latter is LinkedIn's
        r"invalid[ _]scope|'scope'",
        "remove the scopes that this client may not request from WSGI_OAUTH_SCOPE (requested: {scope})",
    ),
    _Refusal(
        errors.ScopeRefused,
        words="not consented",  # Entra ID (AADSTS65001)
        remedy="let an administrator of the provider consent to the scopes of this client (requested: {scope})",
    ),
    _Refusal(
        errors.RequestRefused,
        words="https (is )?required",  # Keycloak
        remedy="use the provider's https URLs, or let its proxy report https (X-Forwarded-Proto)",
    ),
    _Refusal(
        errors.ClientRefused,
        words=r"\bsecret\b.*\bexpired",
        remedy="create a new client secret at the provider, and set it as WSGI_OAUTH_CLIENT_SECRET",
    ),
    _Refusal(
        errors.ClientRefused,
        {"invalid_dpop_proof", "use_dpop_nonce"},  # RFC 9449 5 and 8
        remedy="let the provider issue tokens without DPoP to this client",
    ),
    _Refusal(
        errors.ClientRefused,
        words="client is public|public client|client_secret.*not be presented",
        remedy="set WSGI_OAUTH_CLIENT_AUTH=none without WSGI_OAUTH_CLIENT_SECRET, or register a confidential client",
    ),
    _Refusal(
        errors.ClientRefused,
        {"invalid_client", "incorrect_client_credentials", "bad_client_secret", "invalid_client_id"},
        # Keycloak calls a wrong secret unauthorized_client; Facebook, Naver, Twitch and WeChat have codes of their own.
        r"client credentials|client[ _]assertion|(invalid|wrong|validating) (client|app)",
        remedy="compare WSGI_OAUTH_CLIENT_ID and {credentials}",
    ),
    _Refusal(
        errors.ClientRefused,
        {"unauthorized_client", "unsupported_grant_type", "unsupported_response_type"},
        remedy="enable the authorization code flow and refresh tokens for this client at the provider, and compare "
        "WSGI_OAUTH_CLIENT_ID with the registration",
    ),
    _Refusal(
        errors.RequestRefused,
        {
            "invalid_request",
            "invalid_request_object",
            "invalid_request_uri",
            "invalid_target",  # RFC 8707 2
            "registration_not_supported",
            "request_not_supported",
            "request_uri_not_supported",
        },
        remedy="compare WSGI_OAUTH_SCOPE, WSGI_OAUTH_AUTHORIZATION_PARAMETERS, WSGI_OAUTH_CLIENT_AUTH and "
        "WSGI_OAUTH_PKCE with the provider's documentation",
    ),
    # With another code than `invalid_grant`: Facebook, Shopify, Twitch, Zoom, league/oauth2-server.
    _Refusal(
        errors.CodeRefused,
        words=r"(authorization|verification) code\b(?! grant| flow).*\b(expired|invalid|not found|revoked|used)\b|"
        r"\b(expired|invalid|decrypt the) (authorization|verification) code\b(?! grant| flow)",
    ),
)


def build_refusal(
    code: str,
    description: str,
    provider: Provider,
    *,
    endpoint: str,
    redirect_uri: str = "",
    default: type[errors.Error] = errors.ProviderError,
) -> errors.Error:
    """Return the exception for an error code of the provider.

    :param description: the provider's words, from :func:`clean_description`.
    :param redirect_uri: the redirect URI of the sign-in; empty for a refresh. The description of a refused refresh is
        ignored, because it does not concern the settings.
    """
    name = code.partition(":")[0].strip().lower()
    by_code = next((each for each in _REFUSALS if name in each.codes), _Refusal(default))
    searched = _REFUSALS if redirect_uri else ()
    by_words = next((each for each in searched if re.search(each.words, description, re.IGNORECASE)), by_code)
    # An error code for the sign-in, the authorization code or a scope is specific: the description only adds a remedy.
    refusal = by_code if issubclass(by_code.error, (errors.UserError, errors.ScopeRefused)) else by_words
    pkce_remedy = "set WSGI_OAUTH_PKCE=no" if provider.pkce else "remove WSGI_OAUTH_PKCE=no"
    client_auth = provider.client_auth or "basic"
    if client_auth == "private_key_jwt":
        credentials = "WSGI_OAUTH_CLIENT_KEY_FILE (or WSGI_OAUTH_CLIENT_ASSERTION_FILE) with the registration"
    elif provider.secret_audience:
        credentials = "WSGI_OAUTH_CLIENT_KEY_FILE, WSGI_OAUTH_CLIENT_KEY_ID, WSGI_OAUTH_CLIENT_KEY_ISSUER (or "
        credentials += "WSGI_OAUTH_CLIENT_SECRET) with the registration"
    else:
        credentials = "WSGI_OAUTH_CLIENT_SECRET with the registration, and try another WSGI_OAUTH_CLIENT_AUTH "
        credentials += f"(used: {client_auth})"
    remedy = (refusal.remedy or by_words.remedy).format(
        redirect_uri=redirect_uri, scope=provider.scope, credentials=credentials, pkce_remedy=pkce_remedy
    )
    shown = code if re.fullmatch("[ -~]{1,64}", code) else "an unreadable error"
    return refusal.error(f"{endpoint} answered with {shown}{quote_description(description)}", remedy=remedy)


def is_error_object(document: object) -> bool:
    if not isinstance(document, dict):
        return False
    messages = [document[name] for name in ("message", "msg") if name in document]
    has_code = document.get("code") and messages and str(messages[0]).strip().lower() not in _SUCCESS
    has_failed = any(document.get(name) is False for name in ("ok", "success"))
    return bool(has_code or has_failed or any(map(document.get, _ERROR_MEMBERS)))


def find_error_codes(value: object) -> list[str]:
    """Return the error codes in a response, in lower case. A text may begin with one: ``invalid_grant: Expired``."""
    return [code.lower() for code in _find_codes(value, levels=4)]


def _find_codes(value: object, levels: int) -> Iterator[str]:
    if isinstance(value, int) and not isinstance(value, bool) and value:
        value = str(value)
    if isinstance(value, str):
        if match := re.fullmatch(_CODE, value):
            yield match[1]
    elif isinstance(value, list) and levels:
        for item in value[:10]:
            yield from _find_codes(item, levels - 1)
    elif isinstance(value, dict) and levels:
        for name in _CODE_MEMBERS:
            yield from _find_codes(value.get(name), levels - 1)
