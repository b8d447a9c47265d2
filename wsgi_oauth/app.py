"""The WSGI application: find the handler, open the session, answer, save, and let nothing out that was not
meant to go.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from werkzeug import Response
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from . import errors, flow, sign_in
from .config import Config, StoreConfig
from .config.environ import variable_name
from .oauth.access import Rules
from .oauth.client import OAuth2Session
from .oauth.identity import IDENTITY, Identity, save_identity
from .oauth.provider import Provider
from .oauth.registration import Registration
from .sessions.file import FileStore
from .sessions.manager import SessionManager
from .sessions.memory import MemoryStore
from .sessions.redis import RedisStore
from .sessions.session import PROVIDER, TOKEN, Session
from .sessions.store import SessionStore
from .transport.adapter import find_ca_bundle
from .transport.pool import Transport
from .urls import Site, local_path
from .web import health, pages
from .web.handler import Request, RequestHandler, Routes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger("wsgi_oauth")

# What lets somebody keep an answer for others (RFC 9111 5.2, 5.3, RFC 9213; Cloudflare, Akamai, nginx).
_FOR_CACHES = {
    "cache-control",
    "cdn-cache-control",
    "cloudflare-cdn-cache-control",
    "edge-control",
    "expires",
    "surrogate-control",
    "x-accel-expires",
}


class OAuthApp:
    """One application for all threads. It holds what never changes; what belongs to a request lives on the request."""

    def __init__(
        self,
        config: Config,
        store: SessionStore,
        handlers: Iterable[type[RequestHandler]] = (),
        allow: Callable[[Identity], bool] | None = None,
    ) -> None:
        self.config = config
        self.site = Site(config.public_url, trusts_proxies=config.trusted_proxies > 0)
        self.sessions = SessionManager(
            store, idle=config.session_idle, lifetime=config.session_lifetime, encrypted=config.session_seal
        )
        self.transport = Transport(config.upstream_timeout, config.upstream_limit)
        self._in_order = [Registration(each, self._part_of_transport()) for each in config.providers]
        self.registrations = {each.label: each for each in self._in_order}
        if not (allow is None or callable(allow)):
            raise TypeError(f"allow must be a function of an Identity, not {allow!a}; rules are in Config.allow")
        self.rules = Rules(config.allow, {each.label: each.configured_provider for each in self._in_order}, allow)
        for each in self._in_order:
            each.ask_for(self.rules.kinds(each.label), partial(self.rules.mentions, each.label))
        flow_handlers = flow.HANDLERS_FOR_SEVERAL if config.has_labels else flow.HANDLERS
        self.routes = Routes([*flow_handlers, *health.HANDLERS, *handlers])
        self._signs_out_elsewhere = any(each.end_session for each in config.providers)
        trusted = config.trusted_proxies
        # Not the prefix: it is a part of the public URL, and few proxies remove a client's own header.
        self._proxy_fix = ProxyFix(_nothing, x_for=trusted, x_proto=trusted, x_host=trusted) if trusted else None

    def _part_of_transport(self) -> Transport:
        """Return the way to one provider: of several, none can take all the places by hanging."""
        if len(self.config.providers) == 1:
            return self.transport
        return self.transport.share()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self.respond(self._before_proxies(environ), start_response, self._dispatch)

    def base(self, environ: WSGIEnvironment) -> str:
        """Return the URL of the mount point as browsers see it, without a slash at the end. Raise BadHost."""
        return self.site.base(self._before_proxies(environ))

    def _before_proxies(self, environ: WSGIEnvironment) -> WSGIEnvironment:
        """Return *environ* as it would be without the proxies that are trusted."""
        if self._proxy_fix:
            environ = {**environ}
            self._proxy_fix(environ, _nothing)  # in place
        return environ

    def respond(
        self, environ: WSGIEnvironment, start_response: StartResponse, answer: Callable[[Request], Response]
    ) -> Iterable[bytes]:
        """Send what *answer* returns, and the session; or a page for the error that it raises."""
        request = Request(environ, populate_request=False)  # in environ, each would keep the other alive
        request.open_session = self._open_session
        headers, cookie = None, None
        try:
            response, headers, cookie = self._answer(request, answer)
        except errors.Error as error:
            response = self._refuse(request, error)
        # A fault of ours, of a handler of one's own, or a gunicorn worker that has run out of time (SIGABRT, as
        # SystemExit): that one ends after this answer, and would otherwise log the whole URI, with the code in it.
        except (Exception, SystemExit):  # noqa: BLE001
            response = self._refuse(request, errors.Error("an unexpected exception"), with_traceback=True)
        if headers is None:
            headers = response.get_wsgi_headers(environ).to_wsgi_list()
        always = pages.SECURITY_HEADERS
        if self._signs_out_elsewhere:
            always = always | pages.FORMS_LEAD_AWAY
        start_response(response.status, _completed(headers, cookie, always))
        return response.get_app_iter(environ)

    @property
    def provider(self) -> Provider:
        """The provider; of several, the first."""
        return self.registration().provider

    def registration(self, session: Mapping[str, Any] | None = None) -> Registration:
        """Return how the application is registered with the provider that gave *session* its token; without, the first.

        :raises errors.TokenRejected: when there is no such provider any more: its token is for nobody else.
        """
        registered = self._in_order
        if session is None or TOKEN not in session:
            return registered[0]
        for each in registered:
            # A session from before providers were told apart is that of the only one.
            if session.get(PROVIDER, each.key if len(registered) == 1 else "") == each.key:
                return each
        raise errors.TokenRejected("the session's token is from a provider that is not configured")

    def oauth2_session(
        self,
        *,
        token: dict[str, Any] | None = None,
        redirect_uri: str | None = None,
        session: Session | None = None,
    ) -> OAuth2Session:
        """Return a client for one user and one request.

        :param session: where *token* comes from, if it does: then it is refreshed there when it has expired.
        """
        return self.registration(session).oauth2_session(token=token, redirect_uri=redirect_uri, session=session)

    def identify(self, session: Session) -> Identity:
        """Return who is signed in; the provider is asked the first time, and what it says is remembered.

        :raises errors.NotSignedIn: when nobody is.
        :raises errors.ProviderError: when the provider does not say who it is.
        """
        token, registration = session[TOKEN], self.registration(session)  # without these there is nobody
        known = Identity.from_dict(session.get(IDENTITY))
        if known is not None:
            return known
        identity = registration.identify(registration.oauth2_session(token=token, session=session))
        try:
            save_identity(session, registration.bounded_identity(identity))
        except errors.StoreError as error:  # who it is, is known all the same; the next request tries again
            _log.warning("who signed in is not remembered: %s", error)
        if session.ended_elsewhere:
            raise errors.NotSignedIn("the session ended while the provider was asked who that is")
        return identity

    def admit(self, identity: Identity, session: Mapping[str, Any]) -> None:
        """See that *identity*, whose *session* it is, may be here. Raise NotAllowed."""
        self.rules.check(identity, self.registration(session).label)

    def _answer(
        self, request: Request, answer: Callable[[Request], Response]
    ) -> tuple[Response, list[tuple[str, str]], str | None]:
        """Return the response, its headers, and the session's cookie, which the response itself stays without: a
        handler may have one for many.
        """
        try:
            response = answer(request)
        except errors.TokenRejected as error:
            response = self._sign_in_again(request, error)
        except HTTPException as error:  # an answer like any other: what a handler has put into the session is stored
            response = self._http_error(request, error)
        try:
            headers = response.get_wsgi_headers(request.environ).to_wsgi_list()
            cookie = self._save_session(request)
        except BaseException:
            response.close()  # it will not be sent, and may hold a file
            raise
        return response, headers, cookie

    def _dispatch(self, request: Request) -> Response:
        try:
            handler, arguments = self.routes.match(request)
        except HTTPException:
            request.base = self.site.base(request.environ)  # whether this is our host at all comes first
            raise
        if not handler.any_host:
            request.base = self.site.base(request.environ)
        if not handler.open_to_everyone and self.rules:
            request.open_session = self._open_admitted_session
        response = handler(self, request).answer(**arguments)
        if "session" in request.__dict__ and not handler.get_has_consequences:
            request.session.pop(sign_in.AGAIN, None)  # the token has done its work: this is no circle
        return response

    def _open_session(self, request: Request) -> Session:
        return self.sessions.open(request.environ, secure=request.is_secure_site)

    def _open_admitted_session(self, request: Request) -> Session:
        """Open the session of somebody who may be here: also by the rules of today, whenever the sign-in was."""
        session = self._open_session(request)
        if session.signed_in:
            self.admit(self.identify(session), session)
        return session

    def _save_session(self, request: Request) -> str | None:
        """Store first, promise then: no cookie and no redirect leaves for a session that is not stored."""
        session = request.__dict__.get("session")  # a cached property: absent when nobody asked for it
        if session is None:
            return None
        self.sessions.save(session)
        if session.event:
            _log.info("[%s] %s", request.id, session.event)
        return self.sessions.cookie(session, secure=request.is_secure_site)

    def _sign_in_again(self, request: Request, error: errors.TokenRejected) -> Response:
        """End a session whose token is worth nothing any more; not one to which another request has just given a new
        token.
        """
        request.open_session = self._open_session  # to be ended, even if it was refused when it was opened
        session = request.session
        newest = session.load_latest().get(TOKEN)
        if newest and newest != session.get(TOKEN):
            raise errors.ProviderError("the token was refused when another request had refreshed it already") from error
        circling = sign_in.is_redirect_loop(session)
        session.end()
        if circling:  # a provider that refuses each token it gives must not keep a browser going round
            raise errors.ProviderError("the provider refuses the token that it has just given") from error
        return self._refuse(request, error)

    def _refuse(self, request: Request, error: errors.Error, *, with_traceback: bool = False) -> Response:
        """Answer an error with its own page, or with the way to sign in where that helps."""
        level, what = _level(error), (request.id, _route(request), error.cause, error.detail)
        _log.log(level, "[%s] %a: %s: %s", *what, exc_info=with_traceback)
        login_url = self._login_url(request)
        who = isinstance(error, (errors.NotSignedIn, errors.NotAllowed))
        next_url = request.next_url or (local_path(request.page) if who else "") or ""
        may_go = login_url and request.is_navigation and request.method == "GET"
        if may_go and isinstance(error, errors.NotSignedIn):
            again = {"again": "1"} if error.again else {}
            return Response(status=302, headers={"Location": f"{login_url}?{urlencode({'next': next_url, **again})}"})
        as_json = pages.wants_json(request) or (who and not request.is_navigation)
        if login_url and isinstance(error, errors.NotAllowed):
            login_url += f"?{urlencode({'switch': '1', 'next': next_url})}"
        elif login_url and next_url and not as_json:  # what a program has asked for is no page to go to
            login_url += f"?{urlencode({'next': next_url})}"
        message = pages.Message.of(error, id=request.id, login_url=login_url)
        response = pages.show(message, as_json=as_json)
        if error.retry_after:
            response.headers["Retry-After"] = error.retry_after
        return response

    def _login_url(self, request: Request) -> str:
        return f"{request.base}{flow.PreAuthorization.route}" if request.base else ""

    def _http_error(self, request: Request, error: HTTPException) -> Response:
        """Show Werkzeug's own errors, 404 and 405 among them, the way ours are shown."""
        if error.response is not None or error.code is None or error.code < 400:
            return Response.force_type(error.get_response(request.environ))
        cause = error.name.lower().replace(" ", "_")
        side = errors.UserError.side if error.code < 500 else errors.Error.side
        message = pages.Message(
            error.name,
            error.description or "",
            "Check the address, and what was sent to it.",
            cause,
            status=error.code,
            side=side,
            id=request.id,
        )
        as_json = pages.wants_json(request)
        opened = error.code == 405 and request.method == "GET" and request.path == flow.Logout.route
        if opened and not as_json:  # like a page
            message = pages.with_button(message, logout_url=f"{request.base}{flow.Logout.route}")
        reason = getattr(error, "original_exception", None)  # InternalServerError's
        level = logging.ERROR if error.code >= 500 else logging.WARNING
        _log.log(level, "[%s] %a: %s", request.id, _route(request), cause, exc_info=reason)
        response = pages.show(message, as_json=as_json)
        # Allow, WWW-Authenticate, Retry-After, Content-Range: what the status is nothing without.
        response.headers.extend(header for header in error.get_headers() if header[0].lower() != "content-type")
        return response


def _completed(
    headers: list[tuple[str, str]], cookie: str | None, always: Mapping[str, tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return *headers* with the session's *cookie*, and with what is *always* on an answer."""
    given = {name.lower() for name, _ in headers}
    if cookie is not None and not given.isdisjoint(_FOR_CACHES):  # this is for nobody else, whatever a handler has said
        headers = [header for header in headers if header[0].lower() not in _FOR_CACHES]
        given -= _FOR_CACHES
    if not given.isdisjoint(always):  # a page has its own
        always = {name: header for name, header in always.items() if name not in given}
    cookies = [] if cookie is None else [("Set-Cookie", cookie)]
    return [*headers, *cookies, *always.values(), ("Vary", "Cookie")]


def _level(error: errors.Error) -> int:
    """What the operator should look at is an error, what a user or a provider did is not. It is a warning, as somebody
    may ask about the id on its page, also where nobody has set up any logging. That a sign-in is needed is neither.
    """
    if isinstance(error, errors.NotSignedIn):
        return logging.INFO
    if isinstance(error, errors.ClientRefused) or not isinstance(error, (errors.UserError, errors.ProviderError)):
        return logging.ERROR
    return logging.WARNING


def _route(request: Request) -> str:
    """Method and path, as the browser has it: never the query, where code and state are."""
    return f"{request.method} {request.root_path}{request.path}"


def _nothing(*_: object) -> Any:
    """What ProxyFix has around it, where only its view of environ is wanted."""


def open_store(config: StoreConfig) -> SessionStore:
    """Open the store that ``WSGI_OAUTH_SESSION_STORE`` names.

    :raises errors.ConfigError: when it cannot be used as it is set up.
    :raises errors.StoreError: when it cannot be made.
    """
    kind, _, place = config.session_store.partition(":")
    if kind == "memory":
        return MemoryStore()
    try:
        return FileStore(place) if kind == "file" else RedisStore(config.session_store)
    except (errors.ConfigError, errors.StoreError) as error:
        variable = variable_name("session_store")
        raise type(error)(f"{variable} is {config.store_name!a}, and {error.detail}") from error


def create_app(
    config: Config,
    *,
    store: SessionStore | None = None,
    handlers: Iterable[type[RequestHandler]] = (),
    allow: Callable[[Identity], bool] | None = None,
) -> WSGIApplication:
    """Return the application for *config*, with *handlers* of your own beside the flow's.

    Reads no environment and shares nothing with other applications of the process.

    :param config: ``Config(client_id="...", ...)``, or ``Config.from_environ(os.environ)``.
    :param handlers: classes; a route or a name that the flow's or another one has is refused.
    :param store: instead of the one that ``config.session_store`` names.
    :param allow: who may enter, of those whom ``config.allow`` lets in: called with each request of somebody who is
        signed in; only ``True`` is a yes.
    :raises errors.ConfigError: when it cannot work.
    :raises errors.StoreError: when the folder of the session store cannot be made.
    :raises ValueError: for handlers that cannot be told apart, and for a route that is none.
    """
    return OAuthApp(config, store if store is not None else open_store(config), handlers, allow)


def get_app() -> WSGIApplication:
    """Return the application for the environment's ``WSGI_OAUTH_*`` variables: ``gunicorn "wsgi_oauth:get_app()"``.

    :raises errors.Error: ConfigError or StoreError, when it cannot work.
    """
    try:
        find_ca_bundle()  # loading it can wait; that it is missing should not
        return create_app(Config.from_environ(os.environ))
    except (errors.ConfigError, errors.StoreError) as error:
        raise stopping_gunicorn(error) from None


def stopping_gunicorn(error: errors.Error) -> errors.Error:
    """Make *error* also one of those whose text gunicorn prints without a traceback: AppImportError in a
    worker, RuntimeError under preload.
    """
    gunicorn = sys.modules.get("gunicorn.errors")
    if gunicorn is None:
        return error
    kind = type(type(error).__name__, (type(error), gunicorn.AppImportError, RuntimeError), {})
    return kind(f"wsgi_oauth cannot start:\n{error.detail}")  # type: ignore[no-any-return]
