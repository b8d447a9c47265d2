"""What can go wrong, sorted by who can do something about it.

::

    Error
    ├── ConfigError                  the operator: a setting is missing or wrong
    ├── StoreError                   the operator: the session store cannot be read or written
    │   └── SessionTooLarge          whoever wrote the handler: more is put into a session than it takes
    ├── UserError                    the user, or whoever made the request
    │   ├── NotSignedIn              signing in helps
    │   │   ├── TokenRejected        the provider no longer accepts the access token
    │   │   └── SignInAgain          the application behind the gate says 401 to somebody who is signed in
    │   ├── NoLoginInProgress        a callback that no start of this browser belongs to
    │   ├── LoginDeclined            the user said no
    │   ├── NotAllowed               signed in, and not among those who may enter
    │   ├── CodeRefused              the authorization code was used, expired or never valid
    │   ├── BadAuthorizationResponse a callback that breaks RFC 6749 4.1.2
    │   ├── BadHost                  a Host header that is not ours
    │   ├── CrossSite                a request that another site sent
    │   └── NotNow                   a prefetch, a HEAD: only a person's click counts here
    └── ProviderError                the provider answered, but not as RFC 6749 says
        ├── LoginRefused             an error code of RFC 6749 4.1.2.1
        ├── IssuerMismatch           an authorization response of some other server (RFC 9207)
        ├── IdTokenRefused           an ID token that is not for this sign-in (OpenID Connect Core 3.1.3.7)
        ├── ClientRefused            it does not accept this application's id, secret or redirect URI
        ├── ProviderUnreachable      no connection, or one that broke
        ├── ProviderTimeout          no whole answer in time
        ├── ProviderBusy             so many wait for it already that this request was not sent
        ├── ProviderForbids          the token is good, the request is not allowed
        └── ProviderRateLimit        too many requests

Each knows its HTTP status, a stable ``cause`` code that programs can compare, and a text for people: what happened
(``title``, ``text``) and what to do (``advice``). What ``str()`` gives is for the log. None of them carries a secret.
"""

from __future__ import annotations

from typing import ClassVar


class Error(Exception):
    """The root. ``detail`` is for the log; people see the class's own words."""

    status: int = 500
    cause: str = "internal_error"
    side: ClassVar[str] = "this application"
    title: str = "Something went wrong"
    text: str = "An unexpected error happened on this server."
    advice: str = "Try again. If it stays, tell the operator the id below."
    login_text: str = "Sign in"  # of the link to the sign-in
    retry_after: str | None = None  # seconds or an HTTP date, for the header of that name

    def __init__(self, detail: str = "") -> None:
        # Not handed on: ``args`` stays what a subclass was called with, as copies and pickles need it.
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


class ConfigError(Error):
    """The configuration cannot work; the text names the variable and what would be right."""

    cause = "configuration"
    title = "This application is not set up correctly"
    text = "Its configuration is incomplete or wrong."
    advice = "The operator finds the reason in the log."


class StoreError(Error):
    """The session store failed: a full or read-only disk, missing rights, too many open files. Never "unknown
    session".
    """

    status = 503
    cause = "session_store_unavailable"
    title = "Sessions cannot be stored right now"
    text = "This server could not read or write its session store. Your sign-in, if you have one, is not lost."
    advice = "Try again in a moment."
    retry_after: str | None = "5"


class SessionTooLarge(StoreError, ValueError):
    """More than a session may hold. Nothing of it is stored."""

    status = 500
    cause = "session_too_large"
    title = "There is too much to remember"
    text = "This application wanted to remember more about this browser than its session can hold."
    advice = "Tell the operator the id below."
    retry_after = None


class UserError(Error):
    """The request itself cannot be served."""

    status = 400
    side = "this request"
    cause = "bad_request"
    title = "This request cannot be answered"
    text = "It is not a request that this application understands."
    advice = "Go back and try again."


class NotSignedIn(UserError, KeyError):
    """Somebody has to sign in first. Also a KeyError: ``session["oauth_token"]`` raises it."""

    status = 401
    cause = "not_signed_in"
    title = "You are not signed in"
    text = "This page is for signed-in users."
    advice = "Sign in and come back."
    after_rejection: ClassVar[bool] = False  # the last sign-in was rejected: another one may be a redirect loop


class TokenRejected(NotSignedIn):
    """The access token is expired or revoked (RFC 6750 3.1 ``invalid_token``)."""

    cause = "token_rejected"
    title = "Your sign-in has ended"
    text = "The provider no longer accepts the sign-in that it gave to this application."
    after_rejection = True


class SignInAgain(NotSignedIn):
    """HTTP 401 without a challenge, from the application behind the gate, for a request of a signed-in user."""

    cause = "sign_in_again"
    title = "This page asks for a new sign-in"
    text = "You are signed in, and the application does not accept that."
    after_rejection = True


class NoLoginInProgress(UserError):
    """State that is missing, unknown, used, too old or another browser's (RFC 6749 10.12, RFC 9700 4.7)."""

    cause = "no_login_in_progress"
    title = "No sign-in is in progress"
    text = (
        "This browser has not started the sign-in that this link belongs to, or it was finished already, "
        "or it was started too long ago."
    )
    advice = "Start the sign-in again. Cookies must be allowed for this site."


class LoginDeclined(UserError):
    """``access_denied`` (RFC 6749 4.1.2.1): the resource owner said no."""

    status = 403
    cause = "login_declined"
    title = "You declined to sign in"
    text = "You told the provider not to sign you in to this application. Nothing was stored."
    advice = "If that was a mistake, start the sign-in again."


class NotAllowed(UserError):
    """Somebody whom the provider knows, and whom ``WSGI_OAUTH_ALLOW`` does not let in."""

    status = 403
    cause = "not_allowed"
    title = "You may not use this application"
    advice = (
        "Sign in with another account, or ask the operator to let this one in. If the provider does not let you choose "
        "an account, sign out there first."
    )
    login_text = "Sign in with another account"

    def __init__(self, user_id: str, called: str, reason: str = "") -> None:
        """*called*: what people call the account. *reason*: what the operator should know about it, besides."""
        super().__init__(f"{user_id} is not among those who may enter{reason and ': '}{reason}")
        self.text = f"You have signed in as {called}, and this application is not open to that account."


class CodeRefused(UserError):
    """``invalid_grant`` (RFC 6749 5.2): the code was used, is too old or belongs to another client."""

    cause = "code_refused"
    title = "The provider did not accept this sign-in"
    text = "The code that your browser brought from the provider was used before, is too old or was never valid."
    advice = "Start the sign-in again."


class BadAuthorizationResponse(UserError):
    """A repeated, oversized or unreadable parameter, or no code at all (RFC 6749 3.1, 4.1.2)."""

    cause = "bad_authorization_response"
    title = "This is not an answer that a provider gives"
    text = "The link that led here is incomplete or was changed on the way."
    advice = "Start the sign-in again."


class BadHost(UserError):
    """A Host header that is malformed or not the configured one."""

    cause = "bad_host"
    title = "This application does not live at this address"
    text = "The host name in the request is not the one this application is configured for."
    advice = "Open the application at its own address. Its operator sets that with WSGI_OAUTH_PUBLIC_URL."


class CrossSite(UserError):
    """A request with consequences that did not come from this site's own pages."""

    status = 403
    cause = "cross_site_request"
    title = "This request came from another site"
    text = "Only a page of this site may ask for this."
    advice = "Go to this site and try there."


class NotNow(UserError):
    """A prefetch, or a sub-resource of a page, asked for something that only a navigation may start."""

    status = 403
    cause = "not_a_navigation"
    title = "Nothing was done"
    text = "A browser asked for this page ahead of time or as a part of another page. A sign-in starts with a click."
    advice = "Open the page itself."


class ProviderError(Error):
    """The provider's answer is not one that RFC 6749 or RFC 6750 allows."""

    status = 502
    side = "the provider"
    cause = "provider_error"
    title = "The provider gave an answer that cannot be used"
    text = "The sign-in provider answered with an error, or with something this application cannot understand."
    advice = "Try again in a few minutes."


class LoginRefused(ProviderError):
    """An error code in the authorization response (RFC 6749 4.1.2.1)."""

    status = 400
    cause = "login_refused"
    title = "The provider refused the sign-in"
    text = "The provider ended the sign-in with an error before it could be finished."
    advice = "Start the sign-in again. If it stays, tell the operator the id below."

    def __init__(self, code: str) -> None:
        super().__init__(f"the authorization response carries the error {code!a}")
        if code == "temporarily_unavailable":
            self.status = 503
            self.cause = "provider_temporarily_unavailable"
            self.title = "The provider is not available right now"
            self.text = "The provider says that it is overloaded or under maintenance."
            self.advice = "Try again in a few minutes."
            self.retry_after = "60"


class IssuerMismatch(ProviderError):
    """``iss`` is not the configured issuer, or is missing where it is always sent (RFC 9207 2.4)."""

    status = 400
    cause = "issuer_mismatch"
    title = "This answer came from the wrong provider"
    text = "The sign-in was started with one provider, and the answer names another one."
    advice = "Start the sign-in again. If it stays, tell the operator the id below."


class IdTokenRefused(ProviderError):
    """An ID token that is malformed, too old, or about another sign-in (OpenID Connect Core 3.1.3.7)."""

    cause = "id_token_refused"
    title = "The provider's statement about you cannot be used"
    text = "The sign-in provider said who you are in a way that does not belong to this sign-in."
    advice = "Start the sign-in again. If it stays, tell the operator the id below."


class ClientRefused(ProviderError):
    """``invalid_client`` and its like (RFC 6749 5.2): only the operator can mend that."""

    side = "this application"
    cause = "client_refused"
    title = "The provider does not accept this application"
    text = "The provider refused the client id, the client secret or the redirect URI of this application."
    advice = "The operator finds the provider's error code in the log and compares the settings with the registration."


class ProviderUnreachable(ProviderError):
    """DNS, connection, TLS, or an answer that was cut off."""

    cause = "provider_unreachable"
    title = "The provider cannot be reached"
    text = "The connection to the sign-in provider failed or broke."


class ProviderTimeout(ProviderError):
    """Not a whole answer within the configured time, wall clock."""

    status = 504
    cause = "provider_timeout"
    title = "The provider does not answer"
    text = "The sign-in provider did not answer in time."


class ProviderBusy(ProviderError):
    """As many requests of this process wait for the provider as may (``WSGI_OAUTH_UPSTREAM_LIMIT``). Nothing was sent
    to it, and nothing has changed: the same request may come again.
    """

    status = 503
    cause = "provider_busy"
    title = "Too many are waiting for the provider"
    text = (
        "The sign-in provider answers slowly, and others wait for it already. Your request was not sent to it, "
        "and your sign-in, if you have one, is not lost."
    )
    advice = "Reload this page in a moment."
    retry_after = "5"


class ProviderForbids(ProviderError):
    """HTTP 403: the token is accepted, the request is not (RFC 6750 3.1 ``insufficient_scope``)."""

    status = 403
    cause = "provider_forbids"
    title = "The provider does not allow this"
    text = "You are signed in, but the provider does not let this application see what it asked for."
    advice = "The application may need more scopes, or your account fewer restrictions."


class ProviderRateLimit(ProviderError):
    """HTTP 429 (RFC 6585 4)."""

    status = 429
    cause = "provider_rate_limit"
    title = "The provider asks for a pause"
    text = "This application has asked the provider too often."
    advice = "Try again later."
