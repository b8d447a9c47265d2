"""Functions for the protected application: the signed-in user of a request, and the URLs of the sign-in."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from werkzeug import Response
from werkzeug.utils import cached_property

from .. import errors
from ..events import Source
from ..oauth import reauthentication
from ..oauth.client import OAuth2Session
from ..oauth.identity import Identity
from ..sessions.cookie import session_id_from_cookie
from ..sessions.session import Session
from ..web.request import GATE_PREFIX_KEY, Request
from ..web.site import MAX_RETURN_URL, local_path, path_and_query, raw_path_info
from .authentication import IDENTITY_KEY, Authenticator, Login
from .mount import MountedSignIn

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CONTEXT_KEY = "wsgi_oauth.context"
_log = logging.getLogger(__name__)


class RequestContext:
    """A request as it arrived at the gate. Middleware around the gate may later change ``environ``."""

    login: Login | None = None
    _session: Session | None = None

    def __init__(self, sign_in: MountedSignIn, authenticator: Authenticator, environ: WSGIEnvironment) -> None:
        self._sign_in = sign_in
        self._authenticator = authenticator
        self._environ = environ
        self._script_name: str = environ.get("SCRIPT_NAME", "")
        self.path: str = environ.get("PATH_INFO", "")

    @property
    def base_url(self) -> str:
        """The URL of the sign-in. Raise BadHost if the Host header is not this site's."""
        return self._sign_in.base_url(self._environ, self._script_name)

    @property
    def session(self) -> Session:
        """The session of this request. It is read-only for the gate's ordinary requests."""
        if self._session is None:
            self._session = self._authenticator.session(self.login)
            self._session.source = self.get_source()
        return self._session

    @cached_property
    def _request(self) -> Request:
        """The request as the sign-in application would receive it."""
        environ = {**self._sign_in.app.without_proxies(self._environ), GATE_PREFIX_KEY: self._sign_in.prefix}
        request = self._sign_in.app.new_request(environ)
        request.permits_tokens = self._sign_in.app.access_tokens is not None
        return request

    @property
    def is_navigation(self) -> bool:
        """Return whether the request is a navigation, in which a user waits for a page."""
        return self._request.is_navigation

    @property
    def is_page_navigation(self) -> bool:
        """Return whether the request is a navigation to a page to which a sign-in can return."""
        is_program = self.login is not None and self.login.is_token
        return not is_program and self._environ["REQUEST_METHOD"] in {"GET", "HEAD"} and self.is_navigation

    @property
    def may_show_response(self) -> bool:
        """Return whether a browser may show the response in a tab, such as a text, an image or a JSON document."""
        mode = self._environ.get("HTTP_SEC_FETCH_MODE")
        return mode == "navigate" if mode else "text/html" in self._environ.get("HTTP_ACCEPT", "")

    def get_source(self) -> Source:
        """Return the fields of audit events that describe this request."""
        return self._request.source

    def forget_user(self) -> None:
        """Treat the request as anonymous."""
        self.login = self._session = None

    @property
    def may_sign_out(self) -> bool:
        """Return whether a page of this site sent this request, a POST or a GET navigation, with a session's cookie.

        The session may have no :attr:`login` here: on a public path, a user without access counts as anonymous.
        """
        request = self._located_request
        if session_id_from_cookie(self._environ, names=request.cookie_names) is None:
            return False
        if request.method == "POST":
            return request.is_same_origin
        is_page = request.method == "GET" and request.is_navigation and not request.is_prefetch_or_subresource
        site = request.headers.get("Sec-Fetch-Site")
        return is_page and (site == "same-origin" if site else request.is_own_url(request.referrer or ""))

    def sign_out(self) -> tuple[str, list[tuple[str, str]], Iterable[bytes]]:
        """Sign the user out, and return the status, the headers and the body of the sign-out's response."""
        return self._sign_in.sign_out({**self._environ, "SCRIPT_NAME": self._script_name})

    def oauth2_session(self) -> OAuth2Session:
        """Return a client for the provider's API with the user's token, or raise NotSignedIn."""
        if self.login is not None and self.login.is_token:
            raise errors.NotSignedIn(
                "oauth2_session: a program came with an access token for this application, and none for the provider's "
                "API; only the sessions of browsers have one"
            )
        return self._sign_in.app.oauth.oauth2_session(self.session)

    def login_url(self, next_url: str | None = None) -> str:
        """Return the URL that starts a sign-in and returns to *next_url*, by default to the current page."""
        request = self._located_request
        if next_url is None:
            next_url = local_path(request.page_url)
        url = self._sign_in.app.login_url(request.base)
        return f"{url}?{urlencode({'next': next_url})}" if next_url else url

    def logout_url(self) -> str:
        """Return the URL of the sign-out."""
        return self._sign_in.app.logout_url(self.base_url)

    def send_error(self, error: errors.Error, start_response: StartResponse) -> Iterable[bytes]:
        """Respond as the sign-in does: with a redirect to the sign-in, or with a page about *error*."""

        # The error is not raised again, because its traceback would refer to itself until a garbage collection.
        def answer(request: Request) -> Response:
            if not isinstance(error, errors.BadHost):
                request = self._located_request
                if self.login is not None:
                    request.is_program = self.login.is_token
                    request.session = self.session  # the data that this request has read
                is_page = request.method in {"GET", "HEAD"} and not request.is_htmx
                request.next_url = request.current_url if is_page else request.return_url
            return self._sign_in.app.answer_error(request, error)

        return self._sign_in.app.respond(self._request, start_response, answer)

    @cached_property
    def _located_request(self) -> Request:
        """The request, with the URLs that the browser sees. An ambiguous path becomes the front page."""
        request = self._request
        request.base = self.base_url
        gate_url = self._sign_in.gate_url(request.base)
        query = self._environ.get("QUERY_STRING", "")
        raw_path = raw_path_info(self._environ, self._script_name, self.path)
        url = path_and_query(gate_url, self.path, query, raw_path)
        return_url = local_path(url)
        request.current_url = return_url or path_and_query(gate_url, "/", "")
        if return_url is None:
            _log.info(
                "[%s] the return URL is dropped, because its path is ambiguous or it has more than %d characters "
                "(got %d characters, %a); the sign-in leads to %s",
                *(request.id, MAX_RETURN_URL, len(url), url.partition("?")[0][:100], request.current_url),
            )
        return request


def current_identity(environ: WSGIEnvironment) -> Identity | None:
    """Return the signed-in user; None for an anonymous user of a public path.

    :raises LookupError: if the request did not pass :class:`LoginRequired`.
    """
    _context(environ)
    identity: Identity | None = environ.get(IDENTITY_KEY)
    return identity


def oauth2_session(environ: WSGIEnvironment) -> OAuth2Session:
    """Return a client for the provider's API with the user's token: refreshed, pooled, with deadlines.

    ``oauth2_session(environ).get_json("https://api.github.com/user/repos", of=list)``. It is for this request only.

    :raises errors.NotSignedIn: for an anonymous user of a public path.
    :raises LookupError: if the request did not pass :class:`LoginRequired`.
    """
    return _context(environ).oauth2_session()


def require_recent_login(
    environ: WSGIEnvironment, *, max_age: float | None = None, acr: str | Iterable[str] = ()
) -> None:
    """Require that the user has signed in recently, or strongly enough. Otherwise the user does so and returns.

    :param max_age: see :class:`errors.ReauthenticationRequired`, like *acr*.
    :raises errors.ReauthenticationRequired: if the last sign-in is not sufficient, or for an anonymous user.
    :raises LookupError: if the request did not pass :class:`LoginRequired`.
    """
    login = _context(environ).login
    error = errors.ReauthenticationRequired(max_age=max_age, acr=acr)
    reauthentication.require_recent_login({} if login is None else login.stored.data, error)


def login_url(environ: WSGIEnvironment, next_url: str | None = None) -> str:
    """Return the URL that starts a sign-in.

    :param next_url: the page to which the user returns: a path of this site, or the URL of a page of any of the sites;
        by default the current page.
    :raises errors.BadHost: on a public path, if the Host header is not this site's.
    :raises LookupError: if the request did not pass :class:`LoginRequired`.
    """
    return _context(environ).login_url(next_url)


def logout_url(environ: WSGIEnvironment) -> str:
    """Return the URL that signs out, by a POST: ``<form method="post" action="...">``.

    :raises errors.BadHost: on a public path, if the Host header is not this site's.
    :raises LookupError: if the request did not pass :class:`LoginRequired`.
    """
    return _context(environ).logout_url()


def _context(environ: WSGIEnvironment) -> RequestContext:
    try:
        context: RequestContext = environ[CONTEXT_KEY]
    except KeyError:
        raise LookupError(
            "environ: this request did not pass wsgi_oauth.LoginRequired; wrap the WSGI application that the server "
            "starts. A framework's own test client and management commands call the views without the gate: in tests, "
            "send requests through the gate (wsgi_oauth.testing.signed_in)"
        ) from None
    return context
