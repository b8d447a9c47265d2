"""The WSGI application: finds the handler of a request, opens and saves its session, and turns errors into pages."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from werkzeug import Response
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException, abort

from .. import errors, sign_in
from ..config import Config
from ..events import FAILED, REFUSED, REQUEST_ID_KEY, SIGN_IN, valid_request_id
from ..metrics import MeasuredStore, Metrics
from ..oauth.reauthentication import check_redirect_loop
from ..oauth.service import OAuthService
from ..sessions.access_tokens import AccessTokens
from ..sessions.cookie import FORM_POST, build_set_cookie, pending_cookies, session_id_from_cookie
from ..sessions.file import FileStore, check_folder
from ..sessions.manager import MAX_PENDING, SessionManager
from ..sessions.memory import MemoryStore
from ..sessions.session import Session
from ..urls import is_loopback
from . import pages
from .error_responses import build_error_response, build_http_error_response
from .handler import RequestHandler
from .page_templates import PageTemplates
from .redirect import Redirect
from .request import Request
from .routing import Routes
from .site import Site, split_values

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger("wsgi_oauth")

# Characters. By default gunicorn accepts request lines of 4094 characters, and nginx response headers of 4096 in total.
_MAX_LOGIN_URL = 2000

# Headers that let caches store a response (RFC 9111 5.2, 5.3, RFC 9213; Cloudflare, Akamai, nginx).
_CACHE_HEADERS = {
    "cache-control",
    "cdn-cache-control",
    "cloudflare-cdn-cache-control",
    "edge-control",
    "expires",
    "surrogate-control",
    "x-accel-expires",
}

# The headers of trusted proxies, and the keys of environ that they replace. X-Forwarded-Prefix is ignored, because few
# proxies remove it from a client's request. The prefix is part of the public URL.
_KEYS_BY_PROXY_HEADER = {
    "HTTP_X_FORWARDED_FOR": "REMOTE_ADDR",
    "HTTP_X_FORWARDED_PROTO": "wsgi.url_scheme",
    "HTTP_X_FORWARDED_HOST": "HTTP_HOST",
}

# Azure Application Gateway appends the client's port to its address.
_ADDRESS_WITH_PORT = re.compile(r"(?:\[([^]]+)\]|([0-9.]+))(?::[0-9]+)?", re.ASCII)


class OAuthApp:
    """The WSGI application. All threads share it, so it holds no data of a request."""

    def __init__(
        self, config: Config, sessions: SessionManager, oauth: OAuthService, routes: Routes, tokens: AccessTokens | None
    ) -> None:
        self.config = config
        self.site = Site(
            config.public_url, proxies=config.trusted_proxies, sites=config.sites, cookie_name=config.cookie_name
        )
        self.sessions = sessions
        store = sessions.store
        self._store: object = store.original if isinstance(store, MeasuredStore) else store
        self.oauth = oauth
        self.access_tokens = tokens  # None: not permitted by the configuration
        self._routes = routes
        self._login_path = routes.build_path("preauthorization", {})
        self.logout_path = routes.build_path("logout", {})
        self._verify_path = routes.build_path("verify", {})
        #: Answers ``/verify`` in place of a handler, which would take twice as long.
        self.verifier: WSGIApplication | None = None
        self.metrics: Metrics | None = None
        self.templates = PageTemplates(config.templates)
        continues, main_url = any(each.end_session for each in config.providers), config.public_url or ""
        security_headers = pages.security_headers(
            self.templates, sign_out_continues=continues, main_url=main_url if config.sites else ""
        )
        self._headers = {name.lower(): (name, value) for name, value in security_headers.items()}
        self._has_logged_proto = False  # whether the log has the warning about a wrong X-Forwarded-Proto

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ = self.without_proxies(environ)
        if environ.get("PATH_INFO") == self._verify_path and self.verifier:
            return self.verifier(environ, start_response)
        return self.respond(self.new_request(environ), start_response, self._dispatch)

    def check_store_access(self) -> None:
        """Raise ConfigError if this process, after a change of its user, cannot use the session store."""
        if isinstance(self._store, FileStore):
            check_folder(self._store.folder)

    def base_url(self, environ: WSGIEnvironment) -> str:
        """Return the URL of the mount point in browsers, without a trailing slash; see :meth:`.Site.base_url`."""
        return self.site.base_url(self.without_proxies(environ))

    def login_url(self, base_url: str) -> str:
        """Return the URL that starts a sign-in; "" if *base_url* is not known."""
        return base_url and base_url + self._login_path

    def logout_url(self, base_url: str) -> str:
        return base_url + self.logout_path

    def without_proxies(self, environ: WSGIEnvironment) -> WSGIEnvironment:
        """Return *environ* with the client, scheme, host and request id from the headers of trusted proxies."""
        if proxies := self.config.trusted_proxies:
            environ = {REQUEST_ID_KEY: valid_request_id(environ.get("HTTP_X_REQUEST_ID", "")), **environ}
            for header, key in _KEYS_BY_PROXY_HEADER.items():
                if value := find_reported_value(environ.get(header, ""), proxies):
                    environ[key] = value
            if with_port := _ADDRESS_WITH_PORT.fullmatch(environ.get("REMOTE_ADDR", "")):
                environ["REMOTE_ADDR"] = with_port[1] or with_port[2]
        return environ

    def new_request(self, environ: WSGIEnvironment) -> Request:
        """Return the request in *environ*, with the sessions, the URLs and the templates of this application."""
        request = Request(environ, populate_request=False)  # otherwise request and environ would refer to each other
        request.open_session = self._open_session
        request.open_pending = self._open_pending
        request.site = self.site
        request.templates, request.application_name = self.templates, self.config.name
        return request

    def respond(
        self, request: Request, start_response: StartResponse, answer: Callable[[Request], Response]
    ) -> Iterable[bytes]:
        """Save the session and send the response of *answer*, or a page about the error that it raises."""
        environ = request.environ
        headers: list[tuple[str, str]] | None = None
        cookies: list[str] = []
        try:
            response, headers, cookies = self.answer_and_save(request, answer)
        except errors.Error as error:
            response = self.report_error(request, error)
            if request.pending and request.has_used_state and not isinstance(error, errors.StoreError):
                # The stored record remains for duplicates of this callback.
                cookies = [build_set_cookie("", request.pending.purpose, names=request.cookie_names, max_age=0)]
        # gunicorn raises SystemExit in a worker that exceeds its timeout. Catch it, because otherwise gunicorn would
        # log the whole URI with the code. The worker ends after this response.
        except (Exception, SystemExit):  # noqa: BLE001
            response = self.report_error(request, errors.Error("unexpected exception"), with_traceback=True)
        if headers is None:
            headers = response.get_wsgi_headers(environ).to_wsgi_list()
        headers = [*self._add_headers(headers, cookies), ("X-Request-ID", request.id)]
        start_response(response.status, headers)
        if not response.response or environ["REQUEST_METHOD"] == "HEAD" or response.status_code in {204, 304}:
            # hypercorn sends the status with the first chunk, and answers 500 if there is none.
            response.close()
            return [b""]
        return response.get_app_iter(environ)

    def answer_and_save(
        self, request: Request, answer: Callable[[Request], Response]
    ) -> tuple[Response, list[tuple[str, str]], list[str]]:
        """Return the response, its headers, and the Set-Cookie headers of its sessions."""
        try:
            response = answer(request)
        except (errors.TokenRejected, errors.ReauthenticationRequired) as error:
            response = self.answer_error(request, error)
        except HTTPException as error:  # the session is saved, as after every answer
            response = build_http_error_response(request, error)
        try:
            # The cookies are not put into the response, because a handler may return one response object to many users.
            headers = response.get_wsgi_headers(request.environ).to_wsgi_list()
            cookies = self._save_sessions(request)
        except BaseException:
            response.close()  # because it may hold an open file
            raise
        return response, headers, cookies

    def _dispatch(self, request: Request) -> Response:
        """Return the answer of the request's handler, after the checks that each request has to pass."""
        handler_class, arguments = self._find_handler(request)
        request.has_handler = True
        if not handler_class.any_host:
            self.check_memory_store(request.environ)
            request.base = self.site.base_url(request.environ)
            self._redirect_to_https(request)
        # A handler that skips the recheck asks the provider about the user itself, with every request.
        asks_provider = handler_class.skips_recheck and not (self.oauth.is_restricted or self.oauth.has_request_limit)
        if not (asks_provider or handler_class.skips_access_check):
            request.open_session = self._open_checked_session
        request.event_name = handler_class.event_name
        response = handler_class(request, self.oauth, self._routes.build_path).answer(**arguments)
        if request.has_opened_session and not handler_class.get_is_unsafe:
            request.session.pop(sign_in.REDIRECT_LOOP, None)  # the request has succeeded
        return response

    def _find_handler(self, request: Request) -> tuple[type[RequestHandler], dict[str, Any]]:
        """Return the class of the handler, and the variables of its route. Check the size of the body and the host."""
        try:
            request.check_content_length()
            return self._routes.match(request)
        except HTTPException:
            request.base = self.site.base_url(request.environ)  # a wrong host is reported before a wrong path
            prefix = unquote(urlsplit(request.base if self.site.public_url else "").path)
            if prefix and f"{request.path}/".startswith(f"{prefix}/"):
                raise build_prefix_error(prefix) from None
            if request.path == "/callback" and self.oauth.has_labels:
                uris = [f"{request.base}/callback/{label}" for label in self.oauth.registrations]
                raise errors.CallbackWithoutProvider(
                    f"redirect URI: lacks the label of a provider; register {' or '.join(uris)} with the providers"
                ) from None
            raise

    def check_memory_store(self, environ: WSGIEnvironment) -> None:
        """Raise ConfigError if sessions are stored in memory and the server has several processes."""
        if environ.get("wsgi.multiprocess") and isinstance(self._store, MemoryStore):
            raise errors.ConfigError(
                "WSGI_OAUTH_SESSION_STORE: memory: is for a server with one process, and this server has several; use "
                "file: or redis:, or start one worker (gunicorn --workers 1 --threads 16)"
            )

    def _redirect_to_https(self, request: Request) -> None:
        """Redirect a navigation over http to the https URL, because browsers reject Secure cookies over http.

        Only a trusted proxy can tell that the browser used http. Browsers send Fetch Metadata over https only (and to
        loopback hosts). If they are present, the proxy reports the wrong scheme, and a redirect would be repeated
        forever.
        """
        environ = request.environ
        reports_scheme = self.config.trusted_proxies and "HTTP_X_FORWARDED_PROTO" in environ
        if not (reports_scheme and environ["wsgi.url_scheme"] == "http" and request.base.startswith("https:")):
            return
        parts = urlsplit(request.base)
        if "HTTP_SEC_FETCH_MODE" in environ and not is_loopback(parts.hostname or ""):
            if not self._has_logged_proto:
                self._has_logged_proto = True
                _log.warning(
                    "X-Forwarded-Proto: must be https if the browser uses https (got 'http'); let the inner proxy "
                    "pass on the header of the proxy that terminates TLS"
                )
        elif request.method == "GET" and request.is_navigation:
            abort(Redirect(parts._replace(path="").geturl() + request.current_url))

    def _open_session(self, request: Request) -> Session:
        session = self.sessions.open(request.environ, names=request.cookie_names)
        if request.is_form_post and request.pending and session.id is None:
            session = self.sessions.open_browser_session(request.pending)
        session.source = request.source
        return session

    def _open_pending(self, request: Request, state: str) -> Session:
        purpose = sign_in.cookie_purpose(state) + (FORM_POST if request.is_form_post else "")
        return self.sessions.open(request.environ, purpose, names=request.cookie_names)

    def _open_checked_session(self, request: Request) -> Session:
        """Open the session, recheck its user if a recheck is due, and check the current access rules."""
        session = self._open_session(request)
        if session.signed_in and not self.oauth.is_restricted:
            self.oauth.recheck(session)
        elif session.signed_in:
            self.oauth.check_access(self.oauth.identify(session), self.oauth.registration_of(session))
        return session

    def _save_sessions(self, request: Request) -> list[str]:
        """Store the sessions, before any cookie or redirect is sent. Return the Set-Cookie headers."""
        cookies: list[str | None] = []
        if request.has_opened_session:
            session = request.session
            self.sessions.save(session)
            if session.event:
                self.oauth.emit(session, session.event, detail=f"on {request.base}" if request.is_further_site else "")
            cookies.append(self.sessions.cookie(session, names=request.cookie_names))
        if request.pending is not None:
            # The pending session is stored last, because duplicates of the callback wait until the user is signed in.
            cookies += self._save_pending(request, request.pending)
        if request.cancels_pending:
            cookies += self._evict_pending(request, keep=0)
        return [cookie for cookie in cookies if cookie]

    def _save_pending(self, request: Request, pending: Session) -> list[str | None]:
        """Store a pending session, or end it after its state was used. Return the Set-Cookie headers."""
        names = request.cookie_names
        if request.has_used_state:
            self._end_pending(request, pending)
        else:
            self.sessions.save(pending)
        cookies = [self.sessions.cookie(pending, names=names)]
        if pending.id != pending.cookie_id:
            if pending.is_form_post:
                self._store_browser_session(request, [pending])
            cookies += self._evict_pending(request, keep=MAX_PENDING - 1)
        if request.has_used_state and self.oauth.uses_form_post:
            purposes = [purpose for purpose, _ in pending_cookies(request.environ, names)]
            # A generator, because _store_browser_session opens each session, and only logs a failure of the store.
            others = (self.sessions.open(request.environ, purpose, names=names) for purpose in purposes)
            self._store_browser_session(request, others)
        return cookies

    def _store_browser_session(self, request: Request, pending: Iterable[Session]) -> None:
        """Store the id of the browser's session in *pending* sessions that expect a form. A failure is only logged."""
        session_id = session_id_from_cookie(request.environ, names=request.cookie_names)
        session_id = request.session.id if request.has_opened_session else session_id
        try:
            for each in pending if session_id else ():
                if each.is_form_post and session_id:
                    self.sessions.store_browser_session(each, session_id)
        except errors.StoreError as error:
            _log.warning("[%s] a sign-in will not end the session that it replaces: %s", request.id, error)

    def _end_pending(self, request: Request, pending: Session) -> None:
        """End the pending session of a finished sign-in. A failure is only logged, because the user is signed in."""
        try:
            # With form_post the record is kept until it expires, because a duplicate of the form has no other cookie.
            if not (pending.is_form_post and pending.change(sign_in.mark_finished)):
                pending.end()
        except errors.StoreError as error:
            _log.warning("[%s] the record of a finished sign-in was not deleted: %s", request.id, error)

    def _evict_pending(self, request: Request, *, keep: int) -> list[str]:
        """Limit the pending sign-ins of this browser, and return the Set-Cookie headers. A failure is only logged."""
        try:
            return self.sessions.evict_pending(request.environ, keep=keep, names=request.cookie_names)
        except errors.StoreError as error:
            _log.warning("[%s] old sign-ins of a browser were not deleted: %s", request.id, error)
            return []

    def answer_error(self, request: Request, error: errors.Error) -> Response:
        """Return the page about *error*, or the redirect to the sign-in. End a session whose token was rejected."""
        if isinstance(error, errors.TokenRejected):
            request.open_session = self._open_session  # without access check, because it may have raised the error
            in_loop = sign_in.is_redirect_loop(request.session)
            request.has_ended_session = self.oauth.end_rejected(request.session, error)
            if in_loop:
                raise errors.build_new_token_error(error) from error
        elif isinstance(error, errors.ReauthenticationRequired):
            check_redirect_loop(request.session, error)
        response = self.report_error(request, error)
        # Start the sign-in at once if its URL would be too long for servers.
        if isinstance(response, Redirect) and len(response.headers["Location"]) > _MAX_LOGIN_URL:
            request.args = MultiDict(parse_qsl(urlsplit(response.headers["Location"]).query))
            return self._routes.handler("preauthorization")(request, self.oauth, self._routes.build_path).answer()
        return response

    def report_error(
        self, request: Request, error: errors.Error, *, redirects: bool = True, with_traceback: bool = False
    ) -> Response:
        """Log *error*, and return the page about it, or the redirect to the sign-in."""
        self._log_error(request, error, with_traceback=with_traceback)
        urls = {"login_url": self.login_url(request.base), "logout_url": self.logout_url(request.base)}
        return build_error_response(request, error, **urls, redirects=redirects)

    def _log_error(self, request: Request, error: errors.Error, *, with_traceback: bool) -> None:
        """Emit the audit event of a refusal or a failure. A redirect and the answer to a prefetch are only logged."""
        # A refused access token is an event, because the program gets no redirect.
        if isinstance(error, (errors.NotSignedIn, errors.NotNow)) and not isinstance(error, errors.TokenUnknown):
            # The end of a session already has an audit event.
            if not request.has_ended_session and _log.isEnabledFor(logging.INFO):
                values = (request.id, request.method_and_path, error.cause, error)
                _log.info("[%s] %a: %s: %s", *values, extra={"cause": error.cause})
            return
        # The event of a failed sign-in names no user, because the signed-in user may be another one.
        has_session = request.has_opened_session and request.event_name != SIGN_IN
        session = request.session if has_session else Session(self.sessions)
        session.source = request.source
        outcome = REFUSED if isinstance(error, errors.UserError) else FAILED
        # ERROR for the operator's problems. WARNING for those of users and providers, because Python shows warnings
        # even without a logging configuration, and the id on an error page must be found in the log.
        level = logging.ERROR if error.side == errors.Error.side else logging.WARNING
        name, request_line = request.event_name, request.method_and_path
        self.oauth.emit(session, name, outcome, error, level=level, exc_info=with_traceback, request=request_line)

    def _add_headers(self, headers: list[tuple[str, str]], cookies: list[str]) -> list[tuple[str, str]]:
        """Return *headers* with the cookies of sessions, the security headers and ``Vary``."""
        if cookies:  # caches must never store them, so the handler's cache headers are removed
            headers = [header for header in headers if header[0].lower() not in _CACHE_HEADERS]
            headers += [("Set-Cookie", cookie) for cookie in cookies]
        names = {name.lower() for name, _ in headers}
        defaults = [header for name, header in self._headers.items() if name not in names]
        return [*headers, *defaults, ("Vary", "Cookie")]


def find_reported_value(header: str, proxies: int) -> str:
    """Return the value that the outermost trusted proxy has added to *header*, or ""."""
    values = split_values(header)
    return values[-proxies] if len(values) >= proxies else ""


def build_prefix_error(prefix: str) -> errors.ConfigError:
    """Return the error for a path that still contains *prefix*, a part of the public URL."""
    return errors.ConfigError(
        f"request path: still contains the prefix {prefix!a} of WSGI_OAUTH_PUBLIC_URL; let the proxy remove it (nginx: "
        f"`location {prefix}/ {{ proxy_pass http://backend/; }}`), or start gunicorn with SCRIPT_NAME={prefix}"
    )
