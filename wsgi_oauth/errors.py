"""The exceptions, grouped by the party that can act.

::

    Error
    ├── ConfigError                  operator: a setting is missing or invalid
    ├── StoreError                   operator: the session store cannot be read or written
    │   └── SessionTooLarge          developer: a handler stores more in the session than it can hold
    ├── ReauthenticationLoop         developer: a page requires a sign-in that has just happened
    ├── UserError                    user or client: the request cannot be served
    │   ├── NotSignedIn              signing in helps
    │   │   ├── TokenRejected        the provider no longer accepts the access token
    │   │   ├── SignInAgain          the application behind the gate answered a signed-in user with 401
    │   │   └── ReauthenticationRequired  a page requires a more recent or a stronger sign-in (RFC 9470)
    │   ├── NoLoginInProgress        callback without a sign-in of this browser
    │   │   └── UnknownState         the state is unknown to this browser or to the session store
    │   ├── LoginDeclined            the user declined, or the provider does not admit the account
    │   ├── SignInExpired            the provider's login page waited too long
    │   ├── NotAllowed               the access rules exclude the user
    │   ├── CodeRefused              the authorization code was used, has expired or is invalid
    │   ├── BadAuthorizationResponse callback that violates RFC 6749 4.1.2
    │   ├── BadHost                  malformed or foreign Host header
    │   ├── InvalidBearerToken       a program's access token of the provider is invalid (RFC 6750 3.1)
    │   ├── UnknownIssuer            another site starts a sign-in with a provider that is not configured
    │   ├── CrossSite                unsafe request from another site
    │   ├── LogoutTokenRefused       invalid or repeated logout token (OpenID Connect Back-Channel Logout 2.6)
    │   └── NotNow                   prefetch or subresource of a page
    └── ProviderError                provider: an unusable answer, or none
        ├── ProviderFailed           a failure of the provider (status 5xx)
        ├── LoginRefused             error code in the authorization response (RFC 6749 4.1.2.1)
        │   ├── ProviderUnavailable  the provider is overloaded or under maintenance
        │   └── InteractionRequired  the provider may not ask the user (OpenID Connect Core 3.1.2.6)
        ├── IssuerMismatch           authorization response of another provider (RFC 9207)
        ├── IdTokenRefused           invalid ID token (OpenID Connect Core 3.1.3.7)
        │   └── AuthenticationNotConfirmed  it does not confirm the required max_age or acr_values
        ├── ClientRefused            client id or client secret rejected
        ├── RequestRefused           the provider does not accept the form of the request
        │   ├── RedirectUriRefused   another redirect URI is registered
        │   ├── PkceRefused          the provider does not accept PKCE, or requires it
        │   └── ScopeRefused         a scope is unknown or not permitted
        ├── ProviderUnreachable      no connection, or a broken one
        │   ├── TlsFailed            no secure connection
        │   └── ProxyRefused         the HTTP proxy between here and the provider refuses
        ├── ProviderTimeout          no complete answer in time
        ├── ProviderBusy             too many requests already wait for the provider
        ├── IdentityPending      /verify: the user of a session is not known yet
        ├── ProviderForbids          the token may not do this (RFC 6750 3.1)
        └── ProviderRateLimit        too many requests (RFC 6585 4)

Each class has an HTTP ``status``, a stable ``cause`` code for programs, and texts for users: what happened (``title``,
``text``) and what to do (``advice``). ``str(error)`` is for the log: the detail, and the remedy for the operator. None
of them contains a secret. ``docs/operating.md`` lists the codes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import ClassVar
from urllib.parse import urlencode

CHECK_PROFILE_URL = "compare WSGI_OAUTH_PROFILE_URL and WSGI_OAUTH_SCOPE with the provider's documentation"


class Error(Exception):
    """The base class. Only the log shows *detail* and *remedy*; users see the texts of the class."""

    status: int = 500
    cause: str = "internal_error"
    side: ClassVar[str] = "this application"  # the side that caused the error
    title: str = "Something went wrong"
    text: str = "An unexpected error happened on this server."
    advice: str = "Try again. If the error persists, tell the operator the id below."
    action: ClassVar[str] = "try_again"  # the button that helps the user; see web/pages.py
    retry_after: str | None = None  # seconds or an HTTP date, for the header of that name
    provider_says: str = ""  # the provider's own description, for the page of an authorization response
    user: str = ""  # the id of the refused user, for the audit event
    provider: str = ""  # the label of the user's provider

    def __init__(self, detail: str = "", *, remedy: str = "") -> None:
        """
        :param detail: the problem.
        :param remedy: what the operator can do, with the name of the setting that helps.
        """
        # Leave `args` alone: copying and pickling call the subclass with its original arguments.
        self.detail = detail
        self.remedy = remedy

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.detail, self.remedy)))

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a response about this error, also for the error handler of a framework."""
        return {"Retry-After": self.retry_after} if self.retry_after else {}


class ConfigError(Error):
    """The configuration is invalid. The detail names the setting, the problem and the remedy."""

    cause = "configuration"
    title = "This application is not set up correctly"
    text = "Its configuration is incomplete or invalid."
    advice = "The operator finds the reason in the log."
    action = ""


class StoreError(Error):
    """The session store failed: a full or read-only disk, missing permissions, too many open files, no connection.

    That is different from an unknown session: the user may still be signed in.
    """

    status = 503
    cause = "session_store_unavailable"
    title = "Sessions cannot be stored right now"
    text = "This server could not read or write its session store. If you were signed in, you still are."
    advice = "Try again in a moment."
    retry_after: str | None = "5"


class SessionTooLarge(StoreError, ValueError):
    """The session would exceed its maximum size. The stored session stays as it was."""

    status = 500
    cause = "session_too_large"
    title = "The session is too large"
    text = "This application tried to store more data about this browser than a session can hold."
    advice = "Tell the operator the id below."
    action = ""
    retry_after = None


class ReauthenticationLoop(Error):
    """The application raised ReauthenticationRequired again, although the user has just signed in as required."""

    cause = "reauthentication_loop"
    title = "This page asks for a sign-in again and again"
    text = "You have just signed in as this page requires, but it asks you to sign in once more."
    advice = "Tell the operator the id below."
    action = ""


class UserError(Error):
    """The request cannot be served."""

    status = 400
    side = "this request"
    cause = "bad_request"
    title = "This request cannot be answered"
    text = "This application does not understand the request."
    advice = "Go back and try again."
    action = ""


class NotSignedIn(UserError, KeyError):
    """The user must sign in first. A KeyError, too, because ``session["oauth_token"]`` raises it."""

    status = 401
    cause = "not_signed_in"
    title = "You are not signed in"
    text = "This page is for signed-in users."
    advice = "Sign in and come back."
    action = "sign_in"
    after_rejection: ClassVar[bool] = False  # a rejected session caused it; repeated, that is a redirect loop


class TokenRejected(NotSignedIn):
    """The access token has expired or was revoked (RFC 6750 3.1 ``invalid_token``)."""

    cause = "token_rejected"
    title = "Your sign-in has ended"
    text = "The provider no longer accepts your sign-in to this application."
    after_rejection = True


class SignInAgain(NotSignedIn):
    """The application behind the gate answered a signed-in user with a 401 that has no ``WWW-Authenticate`` header."""

    cause = "sign_in_again"
    title = "This page asks for a new sign-in"
    text = "You are signed in, but the application does not accept this sign-in."
    after_rejection = True


class ReauthenticationRequired(NotSignedIn):
    """The page requires a more recent or a stronger sign-in (RFC 9470). A handler or an application raises it.

    The user is sent to the provider, and returns to the page by a GET. ``require_recent_login`` raises it only if the
    last sign-in is not sufficient.

    :param max_age: seconds since the user proved to the provider who they are; 0 demands it now. It is the default if
        *acr* is not given.
    :param acr: one or several acceptable authentication context class references, the preferred one first; their names
        and meanings are the provider's (OpenID Connect Core 2, ``acr``).
    :raises ValueError: if *max_age* is negative, or if an *acr* is not a word of printable ASCII.
    """

    cause = "insufficient_user_authentication"
    title = "This page needs a new sign-in"
    text = "You are signed in, but this page requires a more recent or a stronger sign-in."
    advice = "Sign in again and come back."
    action = "sign_in_again"

    def __init__(self, *, max_age: float | None = None, acr: str | Iterable[str] = ()) -> None:
        self.acr = (acr,) if isinstance(acr, str) else tuple(acr)
        self.max_age = 0 if max_age is None and not self.acr else None if max_age is None else int(max_age)
        if self.max_age is not None and not 0 <= self.max_age < 10**9:
            raise ValueError(f"max_age: must be a number of seconds, 0 or more (got {max_age!r})")
        for value in self.acr:
            if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]{1,255}", value, re.ASCII):
                raise ValueError(f"acr: must be a word of printable ASCII without quotes (got {value!r})")
        super().__init__(f"the page requires a sign-in with {urlencode(self.requirements)}")

    @property
    def requirements(self) -> dict[str, str]:
        """The parameters of the authorization request (OpenID Connect Core 3.1.2.1)."""
        max_age = {} if self.max_age is None else {"max_age": str(self.max_age)}
        return max_age | ({"acr_values": " ".join(self.acr)} if self.acr else {})

    @property
    def headers(self) -> dict[str, str]:
        """The challenge for programs (RFC 9470 3). The gate recognizes it in a response of the application, too."""
        parameters = {"error": self.cause, "error_description": self.text, **self.requirements}
        return {"WWW-Authenticate": "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())}


class NoLoginInProgress(UserError):
    """The state is missing, unknown, used, expired, or of another browser (RFC 6749 10.12, RFC 9700 4.7)."""

    cause = "no_login_in_progress"
    title = "No sign-in is in progress"
    text = "This browser did not start this sign-in, or the sign-in was finished before, or it took too long."
    advice = "Start the sign-in again. Cookies must be allowed for this site."
    action = "sign_in"


class UnknownState(NoLoginInProgress):
    """The state of a callback is unknown to this browser or to the session store."""


class LoginDeclined(UserError):
    """``access_denied`` (RFC 6749 4.1.2.1): the user declined, or the provider does not admit the account."""

    status = 403
    cause = "login_declined"
    title = "The sign-in was declined"
    text = "Either the sign-in was declined at the provider, or this account may not use this application."
    advice = "Sign in with another account, or ask the administrator of your account for access."
    action = "switch_account"


class SignInExpired(UserError):
    """The provider's login page waited too long, and so did the one of the new sign-in that followed."""

    cause = "sign_in_expired"
    title = "The sign-in took too long"
    text = "The provider's login page has expired."
    advice = "Start the sign-in again."
    action = "sign_in"


class NotAllowed(UserError):
    """The access rules exclude the user.

    :param user_id: the user's id, for the log.
    :param account: the name of the account, for the user.
    :param reason: a hint for the operator.
    :param unread: the lists that the provider did not permit this application to read, for the user.
    :param place: the part of the application that the rules protect, for the user.
    """

    status = 403
    cause = "not_allowed"
    title = "You may not use this application"
    advice = (
        "Sign in with another account, or ask the operator for access. If the provider does not let you choose an "
        "account, sign out there first."
    )
    action = "switch_account"
    challenge = ""  # for a program with an access token of the provider (RFC 6750 3.1)

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": self.challenge} if self.challenge else {}

    def __init__(
        self,
        user_id: str,
        account: str,
        reason: str = "",
        *,
        unread: Sequence[str] = (),
        place: str = "this application",
    ) -> None:
        super().__init__(f"the access rules exclude {user_id}{reason and ': '}{reason}")
        self.title = f"You may not use {place}"
        self.text = f"You signed in as {account}, and this account has no access to {place}."
        if unread:
            self.text += f" The provider did not permit the application to read your {' and '.join(unread)}."


class NoUserName(NotAllowed):
    """The provider gives no name by which the application behind the gate can know the user.

    :param user_id: the user's id, for the log.
    :param account: the name of the account, for the user.
    :param kind: the value of ``WSGI_OAUTH_REMOTE_USER``.
    """

    cause = "no_user_name"
    title = "This application does not know your account"

    def __init__(self, user_id: str, account: str, kind: str) -> None:
        self.user = user_id
        missing = "verified email address" if kind == "email" else "user name"
        Error.__init__(self, f"{user_id} has no {missing} for REMOTE_USER; see WSGI_OAUTH_REMOTE_USER")
        self.text = f"You signed in as {account}. This application needs a {missing}, and the provider gives none."


class CodeRefused(UserError):
    """The authorization code was used, has expired or belongs to another client: ``invalid_grant`` (RFC 6749 5.2)."""

    cause = "code_refused"
    title = "The provider did not accept this sign-in"
    text = "The authorization code was used before, has expired or is invalid."
    advice = "Start the sign-in again."
    action = "sign_in"


class BadAuthorizationResponse(UserError):
    """A parameter is repeated, too long or unreadable, or the code is missing (RFC 6749 3.1, 4.1.2)."""

    cause = "bad_authorization_response"
    title = "The provider's response is invalid"
    text = "The link that led here is incomplete, or was changed on the way."
    advice = "Start the sign-in again."
    action = "sign_in"


class BadHost(UserError):
    """The Host header is malformed, or not the configured one.

    :param site_url: the right address, if it is known.
    """

    cause = "bad_host"
    title = "This application has another address"
    text = "The application is not configured for the host name in the request."
    advice = "Open the application at its own address. Its operator sets that address with WSGI_OAUTH_PUBLIC_URL."
    action = "open_application"

    def __init__(self, detail: str, *, site_url: str = "") -> None:
        super().__init__(detail)
        self.site_url = site_url


class CallbackWithoutProvider(UserError):
    """The redirect URI that is registered with one of several providers lacks its label."""

    status = 404
    cause = "callback_without_provider"
    title = "The sign-in provider sent you to a wrong address"
    text = "The application has several sign-in providers, and each has its own callback address."
    advice = "The operator finds the right address in the log."


class UnknownIssuer(UserError):
    """Another site starts a sign-in (OpenID Connect Core 4) with an issuer that is not configured here."""

    cause = "unknown_issuer"
    title = "This sign-in provider is unknown here"
    text = "Another site has sent you here to sign in with a provider that this application does not use."
    advice = "Open this application itself to sign in, or tell its operator the id below."
    action = "sign_in"


class CrossSite(UserError):
    """A request that changes something came from another site."""

    status = 403
    cause = "cross_site_request"
    title = "This request came from another site"
    text = "Only a page of this site may send this request."
    advice = "Open the page of this site and try there."
    action = "open_page"


class LogoutTokenRefused(UserError):
    """A logout token is invalid, or was received before (OpenID Connect Back-Channel Logout 1.0, 2.6)."""

    cause = "logout_token_refused"
    title = "The logout token is invalid"
    text = "The token does not prove that the provider has signed a user out."
    advice = "The operator finds the reason in the log."


class BadToken(UserError):
    """An access token cannot be created as requested."""

    cause = "bad_token_request"
    title = "This token cannot be created"
    advice = "Go back and change the form."
    action = "open_page"

    def __init__(self, text: str) -> None:
        super().__init__(f"access token: {text}")
        self.text = text


class TokenUnknown(NotSignedIn):
    """A program sent an access token that is unknown, has expired or was revoked."""

    cause = "token_unknown"
    title = "The access token is not valid"
    text = "The access token is unknown, has expired, or was revoked."
    advice = "Create a new one."
    action = ""


class InvalidBearerToken(UserError):
    """A program sent an access token of the provider that is invalid, or no access token for this application."""

    status = 401
    cause = "invalid_token"
    title = "The access token is not valid"
    text = "The access token has expired, or is not an access token that the provider has issued for this application."
    advice = "Request a new one from the provider."

    @property
    def headers(self) -> dict[str, str]:
        """The challenge for programs (RFC 6750 3)."""
        return {"WWW-Authenticate": f'Bearer error="{self.cause}", error_description="{self.text}"'}


class NotNow(UserError):
    """A prefetch, or a subresource of a page, requested a URL that only a navigation may open."""

    status = 403
    cause = "not_a_navigation"
    title = "Nothing was done"
    text = "The browser requested this page in advance, or as a part of another page. A sign-in starts with a click."
    advice = "Open the page itself."
    action = "open_page"


class ProviderError(Error):
    """The provider's answer violates RFC 6749 or RFC 6750, or is missing."""

    status = 502
    side = "the provider"
    cause = "provider_error"
    title = "The provider's answer cannot be used"
    text = "The sign-in provider answered with an error, or in a way that this application does not understand."
    advice = "Tell the operator the id below; the log contains the reason."


class ProviderFailed(ProviderError):
    """A failure of the provider: status 5xx (RFC 9110 15.6)."""

    title = "The provider has a problem"
    text = "The sign-in provider could not answer because of an error on its side."
    advice = "Try again in a few minutes. If the error persists, tell the operator the id below."


class ClientAssertionMissing(ProviderError):
    """The file with the client's assertion cannot be read (RFC 7521 4.2)."""

    side = "this application"
    cause = "client_assertion_missing"
    title = "This application cannot identify itself to the provider"
    text = "A file that this application needs for each sign-in is missing."
    advice = "Tell the operator the id below; the log contains the reason."


class LoginRefused(ProviderError):
    """The authorization response contains an error code (RFC 6749 4.1.2.1)."""

    status = 400
    cause = "login_refused"
    title = "The provider refused the sign-in"
    text = "The provider ended the sign-in with an error."
    advice = "Start the sign-in again. If the error persists, tell the operator the id below."


class ProviderUnavailable(LoginRefused):
    """The provider is overloaded or under maintenance: ``temporarily_unavailable`` (RFC 6749 4.1.2.1)."""

    status = 503
    cause = "provider_temporarily_unavailable"
    title = "The provider is not available right now"
    text = "The provider is overloaded or under maintenance."
    advice = "Try again in a few minutes."
    retry_after = "60"


class InteractionRequired(LoginRefused):
    """``login_required`` and similar codes (OpenID Connect Core 3.1.2.6), which answer ``prompt=none``."""

    side = "this application"
    cause = "interaction_required"
    title = "The provider has to ask you something first"
    text = "The provider cannot sign you in without asking you, and this application does not permit that."
    advice = "Sign in at the provider, then start the sign-in again."


class IssuerMismatch(ProviderError):
    """``iss`` is not the configured issuer, or is missing where it is required (RFC 9207 2.4)."""

    status = 400
    cause = "issuer_mismatch"
    title = "This answer came from the wrong provider"
    text = "The sign-in was started with one provider, but another one answered."
    advice = "Start the sign-in again. If the error persists, tell the operator the id below."


class IdTokenRefused(ProviderError):
    """The ID token is malformed, has expired, or belongs to another sign-in (OpenID Connect Core 3.1.3.7)."""

    cause = "id_token_refused"
    title = "The provider's ID token is invalid"
    text = "The provider's statement about your identity does not belong to this sign-in."
    advice = "Start the sign-in again. If the error persists, tell the operator the id below."


class SignatureRefused(IdTokenRefused):
    """No key of the provider verifies the signature of a JSON Web Token (OpenID Connect Core 3.1.3.7, RFC 7515 5.2)."""


class AuthenticationNotConfirmed(IdTokenRefused):
    """The ID token does not confirm the required ``max_age`` or ``acr_values`` (OpenID Connect Core 3.1.3.7)."""

    status = 403
    cause = "authentication_not_confirmed"
    title = "The provider did not confirm the required sign-in"
    text = "A more recent or a stronger sign-in is required here, and the provider did not confirm one."
    advice = "Sign in again. If the error persists, tell the operator the id below."


class ClientRefused(ProviderError):
    """The provider rejects the client: ``invalid_client`` and similar codes (RFC 6749 5.2)."""

    side = "this application"
    cause = "client_refused"
    title = "The provider does not accept this application"
    text = "The provider rejected the client id or the client secret of this application."
    advice = "Tell the operator the id below; the log contains the reason and the setting."


class RequestRefused(ProviderError):
    """The provider does not accept the form of the request: ``invalid_request`` (RFC 6749 4.1.2.1, 5.2)."""

    side = "this application"
    cause = "request_refused"
    title = "The provider does not accept the request of this application"
    text = "The settings of this application do not fit this provider."
    advice = ClientRefused.advice


class RedirectUriRefused(RequestRefused):
    """The redirect URI is not the registered one (RFC 6749 3.1.2.4)."""

    cause = "redirect_uri_refused"


class PkceRefused(RequestRefused):
    """The provider does not accept PKCE, or requires it (RFC 7636)."""

    cause = "pkce_refused"


class ScopeRefused(RequestRefused):
    """A scope is unknown or not permitted: ``invalid_scope`` (RFC 6749 4.1.2.1)."""

    cause = "scope_refused"


class ProviderUnreachable(ProviderError):
    """DNS, connection or TLS failed, or the answer was cut off."""

    cause = "provider_unreachable"
    title = "The provider cannot be reached"
    text = "The connection to the sign-in provider failed."
    advice = ProviderFailed.advice


class TlsFailed(ProviderUnreachable):
    """The TLS handshake failed, for example because the certificate is not trusted."""

    cause = "tls_failed"
    text = "This application cannot establish a secure connection to the sign-in provider."
    advice = ClientRefused.advice


class ProxyRefused(ProviderUnreachable):
    """The HTTP proxy on the way to the provider refuses the connection: 407 and similar (RFC 9110 15.5.8)."""

    side = "this application"
    cause = "proxy_refused"
    text = "The proxy that this application uses does not let it connect to the sign-in provider."
    advice = ClientRefused.advice


class ProviderTimeout(ProviderError):
    """The provider did not answer completely within ``WSGI_OAUTH_UPSTREAM_TIMEOUT``, in wall-clock time."""

    status = 504
    cause = "provider_timeout"
    title = "The provider does not answer"
    text = "The sign-in provider did not answer in time."
    advice = ProviderFailed.advice


class ProviderBusy(ProviderError):
    """``WSGI_OAUTH_UPSTREAM_LIMIT`` requests of this process already wait for the provider. Nothing was sent."""

    status = 503
    cause = "provider_busy"
    title = "The provider is slow right now"
    text = "Many users wait for the sign-in provider already. If you were signed in, you still are."
    advice = "Reload this page in a moment."
    retry_after = "5"


class IdentityPending(ProviderError):
    """``/verify`` knows no user for the session yet. The provider is asked in the background."""

    status = 503
    cause = "identity_pending"
    title = "Your sign-in is not complete yet"
    text = "You are signed in, but the sign-in provider has not said yet who you are."
    advice = "Reload this page in a moment."
    retry_after = "2"


class ProviderForbids(ProviderError):
    """HTTP 403: the token is valid, but does not permit the request (RFC 6750 3.1 ``insufficient_scope``)."""

    status = 403
    cause = "provider_forbids"
    title = "The provider does not allow this"
    text = "You are signed in, but the provider does not give this application the requested data."
    advice = "The application may need more scopes, or your account fewer restrictions."


class ProviderRateLimit(ProviderError):
    """HTTP 429: too many requests (RFC 6585 4)."""

    status = 429
    cause = "provider_rate_limit"
    title = "The provider asks this application to wait"
    text = "This application has asked the provider too often."
    advice = "Try again later."


def without_gunicorn_traceback(error: Error) -> Error:
    """Return *error* as an exception whose text gunicorn prints without a traceback, if gunicorn is running.

    That is AppImportError in a worker and RuntimeError with ``--preload``.
    """
    gunicorn = sys.modules.get("gunicorn.errors")
    if gunicorn is None:
        return error
    kind = type(type(error).__name__, (type(error), gunicorn.AppImportError, RuntimeError), {})
    return kind(f"wsgi_oauth cannot start:\n{error.detail}")  # type: ignore[no-any-return]
