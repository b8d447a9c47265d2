"""The exceptions, grouped by the party that can act.

::

    Error
    ├── ConfigError, StoreError, ReauthenticationLoop  the operator or the developer
    ├── UserError                                      the user, or the program that sent the request
    │   └── NotSignedIn                                the user, by signing in
    └── ProviderError                                  the provider, or the operator

Each class has an HTTP ``status``, a stable ``cause`` code for programs, and texts for users: the problem (``title``,
``text``) and the remedy (``advice``). The catalogue (``texts/``) has them under the cause. ``str(error)`` is for the
log: the detail and the operator's remedy. None of them contains a secret. ``docs/operating.md`` lists the codes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import ClassVar
from urllib.parse import urlencode

from .texts import english

CHECK_PROFILE_URL = "compare WSGI_OAUTH_PROFILE_URL and WSGI_OAUTH_SCOPE with the provider's documentation"


class Error(Exception):
    """The base class. Only the log shows *detail* and *remedy*; users see the texts of the class."""

    status: int = 500
    cause: str = "internal_error"
    side: ClassVar[str] = english("side.application")  # the side that caused the error
    title: str = english("internal_error.title")
    text: str = english("internal_error.text")
    advice: str = english("advice.try_again")
    action: ClassVar[str] = "try_again"  # the button that helps the user; see web/pages.py
    retry_after: str | None = None  # seconds or an HTTP date, for the header of that name
    provider_says: str = ""  # the provider's reason for refusing a sign-in of this browser, which the page shows
    challenge: str = ""  # for the header WWW-Authenticate (RFC 9110 11.6.1)
    user: str = ""  # the id of the refused user, for the audit event
    provider: str = ""  # the label of the user's provider

    def __init_subclass__(cls, **attributes: object) -> None:
        """Set *attributes* of the class, and its texts: those under its cause in the catalogue, or inherited ones.

        :param attributes: ``advice`` and ``side`` are keys of the catalogue, such as ``contact_support``.
        """
        for name, value in attributes.items():
            setattr(cls, name, english(f"{name}.{value}") if name in {"advice", "side"} else value)
        for name in ("title", "text", "advice"):
            if "cause" in vars(cls) and name not in vars(cls):
                with suppress(KeyError):  # no such text, or one that needs values (NotAllowed)
                    setattr(cls, name, english(f"{cls.cause}.{name}"))

    def __init__(self, detail: str = "", *, remedy: str = "") -> None:
        # `args` is not changed, because copying and pickling call the subclass with the original arguments.
        self.detail = detail  # the problem
        self.remedy = remedy  # for the operator, with the name of the setting that helps

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.detail, self.remedy)))

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a response about this error, also for the error handler of a framework."""
        headers = {"Retry-After": self.retry_after, "WWW-Authenticate": self.challenge}
        return {name: value for name, value in headers.items() if value}


class ConfigError(Error, cause="configuration", advice="contact_support", action=""):
    """The configuration is invalid. The detail names the setting, the problem and the remedy."""


class StoreError(Error, status=503, cause="session_store_unavailable", advice="try_again_in_a_moment", retry_after="5"):
    """The session store failed: a full or read-only disk, missing permissions, too many open files, no connection.

    In contrast to an unknown session, the user may still be signed in.
    """


class SessionTooLarge(
    StoreError, ValueError, status=500, cause="session_too_large", advice="contact_support", action="", retry_after=None
):
    """The session would exceed its maximum size. The stored session stays unchanged."""


class ReauthenticationLoop(Error, cause="reauthentication_loop", advice="contact_support", action=""):
    """The application raised ReauthenticationRequired again, although the user has just signed in as required."""


class UserError(Error, status=400, side="request", cause="bad_request", action=""):
    """The request cannot be served."""


class NotSignedIn(UserError, KeyError, status=401, cause="not_signed_in", advice="sign_in", action="sign_in"):
    """The user must sign in first. A KeyError, too, because ``session["oauth_token"]`` raises it."""

    after_rejection: ClassVar[bool] = False  # whether a session was rejected; a second time is a redirect loop


class TokenRejected(NotSignedIn, cause="token_rejected", after_rejection=True):
    """The access token has expired or was revoked (RFC 6750 3.1 ``invalid_token``)."""


class SignInAgain(NotSignedIn, cause="sign_in_again", after_rejection=True):
    """The application behind the gate answered a signed-in user with a 401 that has no ``WWW-Authenticate`` header."""


class ReauthenticationRequired(
    NotSignedIn, cause="insufficient_user_authentication", advice="sign_in_again", action="sign_in_again"
):
    """The page requires a more recent or a stronger sign-in (RFC 9470). A handler or an application raises it.

    The user is sent to the provider, and returns to the page by a GET. ``require_recent_login`` raises it only if the
    last sign-in is not sufficient.

    :param max_age: the most seconds since the user was authenticated. 0, the default without *acr*, requires a new
        authentication.
    :param acr: one or several acceptable authentication context class references, the preferred one first. The provider
        defines their names and meanings (OpenID Connect Core 2, ``acr``).
    :raises ValueError: if *max_age* is negative, or if an *acr* is not a word of printable ASCII.
    """

    def __init__(self, *, max_age: float | None = None, acr: str | Iterable[str] = ()) -> None:
        self.acr = (acr,) if isinstance(acr, str) else tuple(acr)
        if max_age is None and not self.acr:
            max_age = 0
        self.max_age = None if max_age is None else int(max_age)
        if self.max_age is not None and not 0 <= self.max_age < 10**9:
            raise ValueError(f"max_age: must be a number of seconds, 0 or more (got {max_age!r})")
        for value in self.acr:  # neither quotes nor backslashes, because the challenge quotes it (RFC 9110 5.6.4)
            if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]{1,255}", value, re.ASCII):
                raise ValueError(f"acr: must be a word of printable ASCII without quotes (got {value!r})")
        super().__init__(f"the page requires a sign-in with {urlencode(self.requirements)}")

    @property
    def requirements(self) -> dict[str, str]:
        """The parameters of the authorization request (OpenID Connect Core 3.1.2.1)."""
        max_age = {} if self.max_age is None else {"max_age": str(self.max_age)}
        return max_age | ({"acr_values": " ".join(self.acr)} if self.acr else {})

    @property
    def challenge(self) -> str:  # type: ignore[override]
        """The challenge for programs (RFC 9470 3). The gate recognizes it in a response of the application, too."""
        parameters = {"error": self.cause, "error_description": self.text, **self.requirements}
        return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())


class NoLoginInProgress(UserError, cause="no_login_in_progress", action="sign_in"):
    """The state is missing, unknown, used, expired, or from another browser (RFC 6749 10.12, RFC 9700 4.7)."""


class UnknownState(NoLoginInProgress):
    """The state of a callback is unknown to this browser or to the session store."""


class LoginDeclined(UserError, status=403, cause="login_declined", action="switch_account"):
    """``access_denied`` (RFC 6749 4.1.2.1): the user declined, or the provider does not admit the account."""


class SignInExpired(UserError, cause="sign_in_expired", advice="sign_in_again", action="sign_in"):
    """The provider's login page has expired, also in a second attempt."""


class NotAllowed(UserError, status=403, cause="not_allowed", action="switch_account"):
    """The access rules exclude the user.

    :param reason: a hint for the operator.
    :param unread: the lists that the provider did not permit this application to read, for the user.
    :param is_page: whether the rules protect a page and not the whole application, for the user.
    """

    def __init__(
        self, user_id: str, account: str, reason: str = "", *, unread: Sequence[str] = (), is_page: bool = False
    ) -> None:
        super().__init__(f"the access rules exclude {user_id}{reason and ': '}{reason}")
        self.text = english("not_allowed.text", account=account)
        if is_page:
            self.title = english("not_allowed.page_title")
            self.text = english("not_allowed.page_text", account=account)
        if unread:
            lists = _describe_list(unread[0])
            for name in unread[1:]:
                lists = english("not_allowed.both", first=lists, second=_describe_list(name))
            self.advice = english("not_allowed.unread", lists=lists)


def _describe_list(name: str) -> str:
    """Return the text about a list such as ``groups (scope read:org)``."""
    kind, _, scope = name.removesuffix(")").partition(" (scope ")
    text = english("not_allowed.groups") if kind == "groups" else english("not_allowed.addresses")
    return english("not_allowed.scope", list=text, scope=scope) if scope else text


class NoUserName(NotAllowed, cause="no_user_name"):
    """There is no name for the application behind the gate. *kind* is ``WSGI_OAUTH_REMOTE_USER`` or "function"."""

    def __init__(self, user_id: str, account: str, kind: str) -> None:
        self.user = user_id
        missing, remedy = "user name", "set another WSGI_OAUTH_REMOTE_USER"
        text = english("no_user_name.text", account=account)
        if kind == "email":
            missing = "verified email address"
            remedy = "add its scope to WSGI_OAUTH_SCOPE, set WSGI_OAUTH_TRUST_UNVERIFIED_EMAIL=yes if users cannot "
            remedy += "choose their address, or set another WSGI_OAUTH_REMOTE_USER"
            text = english("no_user_name.email_text", account=account)
        elif kind == "function":
            remedy = "if this user may enter, let the function remote_user of the gate return a name"
            text = english("no_user_name.unknown_text", account=account)
        Error.__init__(self, f"{user_id} has no {missing} for REMOTE_USER", remedy=remedy)
        self.text = text


class CodeRefused(UserError, cause="code_refused", advice="sign_in_again", action="sign_in"):
    """The authorization code was used, has expired or belongs to another client: ``invalid_grant`` (RFC 6749 5.2)."""


class BadAuthorizationResponse(UserError, cause="bad_authorization_response", advice="sign_in_again", action="sign_in"):
    """A parameter is repeated, too long or unreadable, or the code is missing (RFC 6749 3.1, 4.1.2)."""


class BadHost(UserError, cause="bad_host", action="open_application"):
    """The Host header is malformed, or not the configured one."""

    def __init__(self, detail: str, *, site_url: str = "") -> None:
        super().__init__(detail)
        self.site_url = site_url  # the right URL, if it is known


class CallbackWithoutProvider(UserError, status=404, cause="callback_without_provider", advice="contact_support"):
    """The registered redirect URI lacks the label of the provider, which ``WSGI_OAUTH_PROVIDERS`` requires."""


class UnknownIssuer(UserError, cause="unknown_issuer", action="sign_in"):
    """Another site starts a sign-in (OpenID Connect Core 4) with an issuer that is not configured here."""


class CrossSite(UserError, status=403, cause="cross_site_request", action="open_page"):
    """A request that changes something came from another site."""


class LogoutTokenRefused(UserError, cause="logout_token_refused"):
    """A logout token is invalid, or was received before (OpenID Connect Back-Channel Logout 1.0, 2.6)."""


class BadToken(UserError, cause="bad_token_request", action="open_page"):
    """An access token cannot be created as requested."""

    def __init__(self, text: str) -> None:
        super().__init__(f"access token: {text}")
        self.text = text


class TokenUnknown(NotSignedIn, cause="token_unknown", action=""):
    """A program sent an access token that is unknown, has expired or was revoked."""

    title = english("invalid_token.title")


class InvalidBearerToken(UserError, status=401, cause="invalid_token"):
    """A program sent an access token of the provider that is invalid or not for this application."""

    @property
    def challenge(self) -> str:  # type: ignore[override]
        """The challenge for programs (RFC 6750 3)."""
        return f'Bearer error="{self.cause}", error_description="{self.text}"'


class NotNow(UserError, status=403, cause="not_a_navigation", action="open_page"):
    """A prefetch, or a subresource of a page, requested a URL that only a navigation may open."""


class ProviderError(Error, status=502, side="provider", cause="provider_error"):
    """The provider's answer violates RFC 6749 or RFC 6750, or is missing."""


class ProviderFailed(ProviderError, advice="try_again_in_minutes_or_contact_support"):
    """A failure of the provider: status 5xx (RFC 9110 15.6)."""

    title = english("provider_failed.title")
    text = english("provider_failed.text")


class ClientAssertionMissing(
    ProviderError, side="application", cause="client_assertion_missing", advice="contact_support", action=""
):
    """The file with the client's assertion cannot be read (RFC 7521 4.2)."""


class LoginRefused(ProviderError, status=400, cause="login_refused"):
    """The authorization response contains an error code (RFC 6749 4.1.2.1)."""


class ProviderUnavailable(
    LoginRefused, status=503, cause="provider_temporarily_unavailable", advice="try_again_in_minutes", retry_after="60"
):
    """The provider is overloaded or under maintenance: ``temporarily_unavailable`` (RFC 6749 4.1.2.1)."""


class InteractionRequired(LoginRefused, side="application", cause="interaction_required"):
    """``login_required`` and similar codes, the answers to ``prompt=none`` (OpenID Connect Core 3.1.2.6)."""


class IssuerMismatch(ProviderError, status=400, cause="issuer_mismatch"):
    """``iss`` is not the configured issuer, or is missing where it is required (RFC 9207 2.4)."""


class IdTokenRefused(ProviderError, cause="id_token_refused"):
    """The ID token is malformed, has expired, or belongs to another sign-in (OpenID Connect Core 3.1.3.7)."""


class SignatureRefused(IdTokenRefused):
    """No key of the provider verifies the signature of a JSON Web Token (OpenID Connect Core 3.1.3.7, RFC 7515 5.2)."""


class AuthenticationNotConfirmed(IdTokenRefused, status=403, cause="authentication_not_confirmed"):
    """The ID token does not confirm the required ``max_age`` or ``acr_values`` (OpenID Connect Core 3.1.3.7)."""


class ClientRefused(ProviderError, side="application", cause="client_refused", advice="contact_support", action=""):
    """The provider rejects the client: ``invalid_client`` and similar codes (RFC 6749 5.2)."""


class RequestRefused(ProviderError, side="application", cause="request_refused", advice="contact_support", action=""):
    """The provider does not accept the form of the request: ``invalid_request`` (RFC 6749 4.1.2.1, 5.2)."""


class RedirectUriRefused(RequestRefused, cause="redirect_uri_refused"):
    """The redirect URI is not the registered one (RFC 6749 3.1.2.4)."""


class PkceRefused(RequestRefused, cause="pkce_refused"):
    """The provider does not accept PKCE, or requires it (RFC 7636)."""


class ScopeRefused(RequestRefused, cause="scope_refused"):
    """A scope is unknown or not permitted: ``invalid_scope`` (RFC 6749 4.1.2.1)."""


class ProviderUnreachable(
    ProviderError, cause="provider_unreachable", advice="try_again_in_minutes_or_contact_support"
):
    """DNS, connection or TLS failed, or the answer was cut off."""


class TlsFailed(ProviderUnreachable, cause="tls_failed"):
    """The TLS handshake failed, for example because the certificate is not trusted."""


class ProxyRefused(ProviderUnreachable, side="application", cause="proxy_refused"):
    """The HTTP proxy on the way to the provider refuses the connection: 407 and similar (RFC 9110 15.5.8)."""


class ProviderTimeout(
    ProviderError, status=504, cause="provider_timeout", advice="try_again_in_minutes_or_contact_support"
):
    """The provider did not answer completely within ``WSGI_OAUTH_UPSTREAM_TIMEOUT``, in wall-clock time."""


class ProviderBusy(ProviderError, status=503, cause="provider_busy", advice="try_again_in_a_moment", retry_after="5"):
    """``WSGI_OAUTH_UPSTREAM_LIMIT`` requests of this process already wait for the provider. Nothing was sent."""


class IdentityPending(
    ProviderError, status=503, cause="identity_pending", advice="try_again_in_a_moment", retry_after="2"
):
    """``/verify``: the provider has not described the user yet, or a request that was refused is allowed now."""


class ProviderForbids(ProviderError, status=403, cause="provider_forbids"):
    """HTTP 403: the token is valid, but does not permit the request (RFC 6750 3.1 ``insufficient_scope``)."""


class ProviderRateLimit(ProviderError, status=429, cause="provider_rate_limit", advice="try_again_in_minutes"):
    """HTTP 429: too many requests (RFC 6585 4)."""


def build_new_token_error(error: Error) -> ProviderError:
    """Return the provider's error for the rejection *error* of a token that it has just issued."""
    text = f"the provider rejects the token that it has just issued: {error.detail}"
    remedy = "request no scope of another API, because Entra ID and AD FS issue a token for one API only, or "
    return ProviderError(text, remedy=error.remedy or remedy + CHECK_PROFILE_URL)


def without_gunicorn_traceback(error: Error) -> Error:
    """Return *error* as an exception whose text gunicorn prints without a traceback, if gunicorn is running.

    gunicorn does so for AppImportError in a worker, and for RuntimeError with ``--preload``.
    """
    gunicorn = sys.modules.get("gunicorn.errors")
    if gunicorn is None:
        return error
    kind = type(type(error).__name__, (type(error), gunicorn.AppImportError, RuntimeError), {})
    return kind(f"wsgi_oauth cannot start:\n{error.detail}")  # type: ignore[no-any-return]
