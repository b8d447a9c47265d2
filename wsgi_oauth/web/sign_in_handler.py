"""The base class of the sign-in's handlers: several providers, duplicate callbacks, access rules and other sites."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

from werkzeug import Response
from werkzeug.exceptions import HTTPException, NotFound, UnsupportedMediaType, abort

from .. import errors, sign_in
from ..events import SIGN_IN
from ..oauth.client import OAuth2Session
from ..oauth.id_token import read_algorithm
from ..oauth.identity import IDENTITY
from ..oauth.keys import ASYMMETRIC
from ..oauth.logout_token import build_provider_session
from ..oauth.reauthentication import AUTHENTICATION, build_authentication, parse_requirements
from ..oauth.recheck import build_identity_data
from ..sessions.cookie import FORM_POST, read_cookies
from ..sessions.encoding import PROVIDER, PROVIDER_SESSION
from ..sessions.session import Session
from . import pages
from .handler import RequestHandler
from .request import Request
from .site import MAX_RETURN_URL

_log = logging.getLogger("wsgi_oauth")
HAND_OVER_ROUTE = "/hand-over"
_MAX_QUERY = 8000  # characters; servers accept about 8 kB in a request line
_RETURN_NAMES = ("next", "target_link_uri")  # the parameters with the return URL
# The parameters with the return URL at oauth2-proxy, ingress controllers and vouch-proxy, and in many applications.
_FOREIGN_RETURN_NAMES = frozenset({"rd", "url", "redirect", "redirect_to", "redirect_url", "return_to", "return_url"})
# Parameters of the sign-in itself, beside those that are passed on to the provider.
_OWN_NAMES = frozenset(
    {*_RETURN_NAMES, "provider", "reauthenticate", "restarted", "again", "switch", "browser", "iss", "login_hint"}
)
# Long enough for a login_hint that is a token of the site that starts the sign-in.
_LOGIN_PARAMETER = r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,2048}"


class SignInHandler(RequestHandler):
    """A handler that starts or finishes a sign-in."""

    get_is_unsafe = True
    skips_access_check = True
    event_name = SIGN_IN

    def answer(self, *, provider: str = "", **arguments: Any) -> Response:
        """Call the handler's method. *provider* is the label in a callback's path."""
        self._callback_label = provider
        try:
            return super().answer(**arguments)
        except HTTPException as response:  # raised by abort
            if response.response is None:
                raise
            return Response.force_type(response.get_response(self.request.environ))
        except errors.Error as error:
            if "registration" in vars(self):  # otherwise the error does not concern one of the providers
                error.remedy = self.registration.with_own_variables(error.remedy)
                error.provider = self.registration.label
            raise

    @property
    def authorization_base_url(self) -> str:
        """The provider's authorization endpoint (RFC 6749 3.1)."""
        return self.provider.authorization_url

    @property
    def token_url(self) -> str:
        """The provider's token endpoint (RFC 6749 3.2)."""
        return self.provider.token_url

    def oauth2_session(self, *, token: dict[str, Any] | None = None, redirect_uri: str | None = None) -> OAuth2Session:
        """Return a client without a token, with the redirect URI of this attempt (RFC 6749 4.1.3)."""
        return self.registration.oauth2_session(token=token, redirect_uri=redirect_uri or self._attempt.redirect_uri)

    def new_attempt(self) -> sign_in.Attempt:
        """Return a new sign-in attempt with the named provider, or abort with a page to choose one."""
        arguments = self.request.args.to_dict()
        if self.request.is_office and "browser" not in arguments:
            # Otherwise the browser would open the provider's page, and return without the cookie of the sign-in.
            url = f"{self.request.base}{self.route}?{urlencode({**arguments, 'browser': '1'})}"
            abort(pages.continuation(self.request, url))
        site, next_url = self._find_return_page(arguments)
        if site != self.request.base:
            query = {name: value for name, value in arguments.items() if name not in _RETURN_NAMES}
            abort(self.redirect(f"{site}{self.route}?{urlencode({**query, 'next': next_url})}"))
        if self.request.is_further_site:
            abort(self._begin_hand_over(next_url))
        label = arguments.get("provider", "")
        if "iss" in arguments:  # another site starts the sign-in (OpenID Connect Core 4)
            label = self.oauth.registration_with_issuer(arguments["iss"]).label
        if not label and "reauthenticate" in arguments and self.request.session.signed_in:
            label = self.registration.label  # the provider of the last sign-in
        if not self.choose_provider(label):
            abort(pages.provider_choice(self.request, self._sign_in_urls()))
        label, provider = self.registration.label, self.provider
        values = {"provider": label} if self.oauth.has_labels else {}
        self.request.is_form_post = provider.response_mode == "form_post"
        self._attempt = sign_in.Attempt.new(
            redirect_uri=self.url_for(".callback", external=True, **values),
            next_url=next_url,
            provider=label,
            restarted="restarted" in arguments,
            after_rejection="again" in arguments,
        ).for_authorization(
            provider,
            self._login_parameters(arguments),
            choose_account="switch" in arguments,
            reauthentication=parse_requirements(arguments.get("reauthenticate", "")),
        )
        return self._attempt

    def _begin_hand_over(self, next_url: str) -> Response:
        """Return the redirect to the main site, which signs the user in and hands the session over with a ticket."""
        # The ticket is valid only with the state, whose cookie only this browser has (login CSRF).
        attempt = self._attempt = sign_in.Attempt.new(
            redirect_uri=self.url_for(".redemption", external=True),
            next_url=next_url,
            restarted="restarted" in self.request.args,
        )
        attempt.save(self.request.pending_session(attempt.state), attempt.state)
        query = {name: value for name, value in self.request.args.items() if name not in {*_RETURN_NAMES, "restarted"}}
        query |= {"site": urlsplit(self.request.base).hostname or "", "state": attempt.state}
        return self.redirect(f"{self.request.site.public_url}{HAND_OVER_ROUTE}?{urlencode(query)}")

    def _find_return_page(self, arguments: Mapping[str, str]) -> tuple[str, str]:
        """Return the site, as the URL of the application there, and the path of the page to which the sign-in leads."""
        given = arguments.get("next") or arguments.get("target_link_uri") or ""
        page = self.request.site.find_page(given, self.request.base) if given else None
        if given and page is None:
            _log.warning(
                "[%s] next: dropped, because it is not a path of this site or has more than %d characters "
                "(got %d characters, %a); the sign-in leads to %s",
                *(self.request.id, MAX_RETURN_URL, len(given), given.partition("?")[0][:100], self._default_page),
            )
        ignored = set() if given else _FOREIGN_RETURN_NAMES.intersection(arguments)
        for name in ignored:
            _log.warning(
                "[%s] %s: ignored (got %a); write the page to which a sign-in returns as next=",
                *(self.request.id, name, arguments[name].partition("?")[0][:100]),
            )
        if page and "?" in self.request.environ["QUERY_STRING"]:  # the page is not encoded, so an "&" has ended it
            passed_on = {name for each in self.oauth.registrations.values() for name in each.login_parameters}
            if lost := sorted(arguments.keys() - _OWN_NAMES - passed_on):
                _log.warning(
                    "[%s] next: ends before %.100a; write the page percent-encoded: ? as %%3F, & as %%26, %% as %%25",
                    *(self.request.id, lost),
                )
        return page or (self.request.base, self._default_page)

    @property
    def _default_page(self) -> str:
        """The default return URL: the front page of the protected application, or the profile."""
        return urlsplit(self.request.front_page).path if self.request.gate_prefix else self.url_for(".profile")

    def _login_parameters(self, arguments: Mapping[str, str]) -> dict[str, str]:
        """Return the parameters in the link to the sign-in that may be passed on to the provider."""
        names = (*self.registration.login_parameters, *(("login_hint",) if "iss" in arguments else ()))
        parameters = {name: value for name, value in arguments.items() if name in names}
        for name, value in parameters.items():
            if not re.fullmatch(_LOGIN_PARAMETER, value):
                raise errors.UserError(f"{name}: too long for a parameter of the sign-in, or not printable")
        return parameters

    @contextmanager
    def consumed_attempt(self) -> Iterator[sign_in.Attempt]:
        """Check the authorization response, and yield its attempt.

        A duplicate of a finished callback is redirected to the same page. When the block succeeds, the session belongs
        to this provider and gets a new id; otherwise the attempt has failed.
        """
        if self.request.is_further_site or not self.choose_provider(self._callback_label):
            raise NotFound
        response = self._read_response()
        pending = self.request.pending_session(response.state)
        session = self.request.session  # opened second, because the pending session may contain its id
        # Take the slot first: otherwise the state would be used up, and the code could not be exchanged.
        with self.registration.slot():
            attempt = self.consume_state(pending, response)
            with sign_in.removing_failed(pending, attempt):
                try:
                    sign_in.check_response(response, attempt, self.registration)
                except errors.SignInExpired as error:
                    if attempt.restarted:
                        raise
                    _log.info("[%s] %s: the sign-in starts again", self.request.id, error)
                    abort(self.restart(attempt))
                self.check_response_mode()
                if attempt.late:  # the code is not exchanged
                    abort(self.redirect(attempt.next_url, 303) if session.signed_in else self.restart(attempt))
                self._attempt = attempt
                display_name = response.user_name if self.provider.sends_user_parameter else ""
                yield attempt.for_token_request(response.code, display_name)
        sign_in.finish(session, attempt)
        session[PROVIDER] = self.registration.key  # the token is sent to this provider only
        session.renew()  # a new session id, because an attacker may have planted the old one (session fixation)

    def consume_state(self, pending: Session, response: sign_in.AuthorizationResponse) -> sign_in.Attempt:
        """Consume the state in *response*, and return its attempt. A duplicate is redirected to the same page."""
        lifetime, timeout = self.oauth.sign_in_lifetime, self.oauth.sign_in_timeout
        try:
            attempt = sign_in.consume_state(pending, self.request.session, response, lifetime=lifetime, timeout=timeout)
        except errors.UnknownState as error:
            error.remedy = self.find_remedy(response.state)
            raise
        if attempt.finished:
            abort(self.redirect(attempt.next_url, 303))
        self.request.has_used_state = True
        self.request.next_url = attempt.next_url
        return attempt

    def _read_response(self) -> sign_in.AuthorizationResponse:
        """Return the authorization response: the query of a GET, or the form of a POST, whose query is ignored."""
        request = self.request
        if request.method != "POST":
            response = sign_in.AuthorizationResponse.parse(request.query_string)
            # Providers may send errors in the URL even if a form was requested.
            cookie = request.cookie_names.name(sign_in.cookie_purpose(response.state))
            cookies = dict(read_cookies(request.environ))
            request.is_form_post = cookie not in cookies and f"{cookie}{FORM_POST}" in cookies
            return response
        if request.mimetype != "application/x-www-form-urlencoded":
            raise UnsupportedMediaType("The body must be a form (application/x-www-form-urlencoded).")
        request.is_form_post = True
        return sign_in.AuthorizationResponse.parse(request.get_data(cache=False))

    def check_response_mode(self) -> None:
        """Raise BadAuthorizationResponse if a form was requested, and the code came in the URL, which can leak."""
        if self.request.is_form_post and self.request.method != "POST":
            raise errors.BadAuthorizationResponse(
                "authorization response: the code came in the URL, although form_post was requested",
                remedy="set WSGI_OAUTH_RESPONSE_MODE=query if the provider does not support form_post",
            )

    def find_remedy(self, state: str) -> str:
        """Return the remedy for an unknown state. The cookies of the browser suggest the cause."""
        request = self.request
        names = [name for name, _ in read_cookies(request.environ)]
        cookies = request.environ.get("HTTP_COOKIE", "").split(";")
        if any(request.cookie_names.session in cookie and "," in cookie for cookie in cookies):
            return (
                "a proxy sends each cookie in a header of its own, as browsers do with HTTP/2, and the server joins "
                "them with commas; let the proxy join them with semicolons (RFC 9113 8.2.3), or turn its HTTP/2 off"
            )
        if request.is_form_post and request.cookie_names.name(sign_in.cookie_purpose(state)) in names:
            return (
                "the provider sent the response with a form, which was not requested; set "
                "WSGI_OAUTH_RESPONSE_MODE=form_post if it always does that"
            )
        purpose = sign_in.cookie_purpose(state) + (FORM_POST if request.is_form_post else "")
        if request.cookie_names.name(purpose) in names:
            return (
                "the browser has the cookie of this sign-in, but the session store does not know it: another worker or "
                "machine may use another store (compare WSGI_OAUTH_SESSION_STORE; memory: is for a single process), "
                "the sign-in is too old, or it was finished, but the response was lost because a worker was killed"
            )
        if any(name.startswith(request.cookie_names.session) for name in names):
            return (
                "the browser has cookies of this application, but none of this sign-in: it was finished or cancelled "
                "before, or started in another browser, or the user has bookmarked the provider's page"
            )
        return (
            "the browser sent no cookie of this application: it blocks cookies, or the user has bookmarked the "
            "provider's page, or the sign-in started in another browser or at another address (the right one is "
            f"{request.base}/), or a proxy changes Set-Cookie, which `wsgi-oauth check --public` finds"
        )

    def restart(self, attempt: sign_in.Attempt) -> Response:
        """Return the redirect that starts the sign-in of *attempt* again, towards the same page."""
        # Another restart could begin a redirect loop.
        if attempt.restarted:
            raise errors.NoLoginInProgress("sign-in: the sign-in took too long, for the second time")
        label, again = attempt.provider if self.oauth.has_labels else "", "1" if attempt.after_rejection else ""
        query = {"next": attempt.next_url, "provider": label, "restarted": "1", "again": again}
        parameters = urlencode({name: value for name, value in query.items() if value})
        return self.redirect(f"{self.url_for('.preauthorization', external=True)}?{parameters}", 303)

    def check_access(self, client: OAuth2Session) -> None:
        """Check, before the token is stored, that the access rules admit the user of *client*.

        The session gets the identity of the user, because ``/verify`` does not ask the provider. Without access rules,
        the identity is left to the gate and to ``/profile`` if the sign-in leads there.

        :raises errors.NotAllowed: if the access rules exclude the user.
        :raises errors.ProviderError: if there are access rules, and the provider does not identify the user.
        """
        self._record_sign_in(client)
        leads_to_own_page = self.request.gate_prefix or self._attempt.next_url == self.url_for(".profile")
        if not self.oauth.is_restricted and leads_to_own_page:
            return
        try:
            identity = self.registration.identify(client)
        except (errors.TokenRejected, errors.ProviderError) as error:
            if not self.oauth.is_restricted:
                _log.warning("[%s] the signed-in user is not known yet: %s", self.request.id, error)
                return
            if isinstance(error, errors.ProviderError):
                raise
            raise errors.build_new_token_error(error) from error
        self.oauth.check_access(identity, self.registration)
        stored = build_identity_data(self.registration.limit_identity(identity))
        # This is stored on save, because the change of the session id drops all earlier data.
        self.request.session.change_on_save(lambda data: data.update(stored))

    def _record_sign_in(self, client: OAuth2Session) -> None:
        """Remove the previous user from the session, and record how this one has signed in, for later requests."""
        session, pending, claims = self.request.session, self.request.pending, client.id_token_claims
        assert pending is not None
        session.pop(IDENTITY, None)
        session[AUTHENTICATION] = build_authentication(claims, self._attempt.requirements)
        session[PROVIDER_SESSION] = build_provider_session(self.registration, claims, pending.started)
        if claims and self.registration.keys and self.oauth.algorithms:
            algorithm, announced = read_algorithm(client.token["id_token"]), self.provider.signing_algorithms
            is_ambiguous = len(ASYMMETRIC.intersection(announced)) > 1
            self.oauth.algorithms.record(self.registration.key, algorithm, is_ambiguous=is_ambiguous)

    def choose_provider(self, label: str) -> bool:
        """Set ``registration`` by its label. Return False if the label is unknown or ambiguous."""
        registration = self.oauth.registration_with_label(label)
        if registration is None:
            return False
        self.registration = registration
        registration.provider  # noqa: B018  # discovers the endpoints before state and code are used
        return True

    def _sign_in_urls(self) -> dict[str, str]:
        """Return the start URL of a sign-in with each provider, by the provider's title."""
        registrations = self.oauth.registrations
        titles = Counter(each.title for each in registrations.values())
        return {
            each.title if titles[each.title] == 1 else f"{each.title} ({label})": (
                f"{self.request.base}{self.route}?{urlencode({**self.request.args, 'provider': label})}"
            )
            for label, each in registrations.items()
        }


class ThirdPartyInitiatedLogin(RequestHandler):
    """Redirects ``POST /`` to ``GET /`` with the same parameters (OpenID Connect Core 1.0, 4).

    Browsers send the session cookie with the GET, but not with a POST from another site. Without the cookie, the
    sign-in would replace the session of a signed-in user.
    """

    route = "/"
    skips_access_check = True

    def post(self, request: Request) -> Response:
        if "iss" not in request.form:
            detail = "iss: missing; a POST to this URL starts a sign-in from another site"
            raise errors.UnknownIssuer(detail + request.prefix_advice)
        query = urlencode(list(request.form.items()))
        if len(query) > _MAX_QUERY:
            raise errors.UserError("the parameters of the sign-in are too long")
        return self.redirect(f"{request.base}/?{query}", 303)
