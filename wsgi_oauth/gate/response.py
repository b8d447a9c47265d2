"""The protected application's response, which the gate passes on or replaces (PEP 3333)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import WWWAuthenticate
from werkzeug.wsgi import ClosingIterator

from .. import errors, sign_in
from .environ import RequestContext

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


_VARY = ("Vary", "Cookie")
_FOR_PAGES, _FOR_DATA = ("Cache-Control", "private, no-store"), ("Cache-Control", "private, no-cache")
_HTMX_REDIRECTS = ("hx-redirect", "hx-location")  # https://htmx.org/reference/#response_headers
_SIGN_OUT_HEADERS = {"set-cookie", "clear-site-data"}
_NOT_IN_PREFLIGHTS = {"content-length", "content-encoding", "content-disposition", "etag", "set-cookie"}


class GuardedResponse:
    """Passes a response on, with a few changes.

    - A sign-in starts in place of a 401 without ``WWW-Authenticate`` to a browser's navigation, of a challenge for a
      re-authentication (RFC 9470), and of a NotSignedIn that the application raises.
    - A response to a signed-in user gets ``Vary: Cookie``, and ``Cache-Control`` unless it has its own:
      ``private, no-store`` for pages and other documents that a browser shows in a tab, because the browser could show
      them again after the sign-out (back/forward cache), and ``private, no-cache`` for all other responses.

    :param replaces_401: whether a 401 may start a sign-in.
    :param signs_out: whether a success of the application (2xx or 3xx) also ends the session of the sign-in.
    """

    _started = False
    _replacement: Iterable[bytes] | None = None  # the gate's own body

    def __init__(
        self, context: RequestContext, start_response: StartResponse, replaces_401: bool, signs_out: bool
    ) -> None:
        self._context = context
        self._server_start_response = start_response
        self._replaces_401 = replaces_401
        self._signs_out = signs_out

    def send(self, app: WSGIApplication, environ: WSGIEnvironment) -> Iterable[bytes]:
        """Call *app*, and return its body, without a wrapper if possible."""
        try:
            body = app(environ, self._start_response)
        except errors.NotSignedIn as error:
            if self._started:
                raise
            return self._replace(error)
        if not self._started:  # a generator, which starts the response with its first chunk
            return ClosingIterator(self._iterate(body), getattr(body, "close", None))
        if self._replacement is None:
            return body
        if hasattr(body, "close"):
            body.close()
        return self._replacement

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        self._started = True
        if exc_info:
            self._replacement = None  # the application replaces its first response
        if self._replaces_401 and status[:3] == "401" and self._replace_401(headers, exc_info):
            return _discard
        if self._signs_out and status[:1] in {"2", "3"}:
            after_sign_out = self._sign_out(headers, exc_info)
            if after_sign_out is None:
                return _discard
            headers = after_sign_out
        if self._context.login is not None:
            headers = self._add_cache_headers(headers)
        if exc_info:
            return self._server_start_response(status, headers, exc_info)
        return self._server_start_response(status, headers)

    def _add_cache_headers(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        is_page = None
        for name, value in headers:
            lower_name = name.lower()
            if lower_name == "cache-control":
                return [*headers, _VARY]
            if lower_name == "content-type" and "html" in value:
                is_page = True
            elif lower_name == "content-disposition" and value[:10].lower() == "attachment":
                is_page = False
        if is_page is None:
            is_page = self._context.may_show_response
        return [*headers, _VARY, _FOR_PAGES if is_page else _FOR_DATA]

    def _replace_401(self, headers: list[tuple[str, str]], exc_info: Any) -> bool:
        """Start a sign-in in place of the application's 401. Return False if the 401 must be passed on."""
        challenge = self._find_challenge(headers)
        if challenge is not None:
            self._replace(challenge, exc_info=exc_info)
            return True
        has_challenge = any(name.lower() == "www-authenticate" for name, _ in headers)
        if has_challenge or not self._context.is_page_navigation:
            return False
        error = self._sign_in_error()
        if error is None:
            return False
        cookies = [header for header in headers if header[0].lower() == "set-cookie"]
        self._replace(error, cookies, exc_info)
        return True

    def _find_challenge(self, headers: Iterable[tuple[str, str]]) -> errors.ReauthenticationRequired | None:
        """Return the requirements in the RFC 9470 challenge of the application's 401, for a signed-in user.

        A framework's error handler passes on a ReauthenticationRequired in this way.
        """
        if not self._context.login:
            return None
        for name, value in headers:
            if name.lower() == "www-authenticate" and errors.ReauthenticationRequired.cause in value:
                challenge = WWWAuthenticate.from_header(value)
                max_age, acr = ((challenge and challenge.get(each)) or "" for each in ("max_age", "acr_values"))
                with suppress(ValueError):
                    return errors.ReauthenticationRequired(max_age=int(max_age) if max_age else None, acr=acr.split())
        return None

    def _sign_in_error(self) -> errors.NotSignedIn | None:
        """Return the error for the application's 401, or None if another sign-in would be a redirect loop."""
        if self._context.login is None:
            return errors.NotSignedIn("the application answered with status 401")
        if sign_in.is_redirect_loop(self._context.session):
            return None
        return errors.SignInAgain("the application answered a signed-in user with status 401")

    def _sign_out(self, headers: list[tuple[str, str]], exc_info: Any) -> list[tuple[str, str]] | None:
        """End the session of the sign-in, and return the application's *headers* with those of the sign-out.

        If the application redirects, the target is replaced by the sign-out of the provider, or by the page that
        confirms the sign-out: a protected page would start a new sign-in. If the session cannot be ended, the result is
        None, and an error page replaces the response, because the user is still signed in.
        """
        self._signs_out = False
        status, own_headers, body = self._context.sign_out()
        if status[:1] not in {"2", "3"}:
            self._replacement = body
            self._server_start_response(status, own_headers, *([exc_info] if exc_info else []))
            return None
        if hasattr(body, "close"):
            body.close()
        own = {name.lower(): value for name, value in own_headers}
        # A redirect of the application, also one for htmx, leads to the target of the sign-out.
        location, page = own.get("location"), own.get("hx-redirect") or own.get("location")
        replaced = {"location": ("Location", location)} if location else {}
        if page:
            replaced |= dict.fromkeys(_HTMX_REDIRECTS, ("HX-Redirect", page))
        headers = [replaced.get(header[0].lower(), header) for header in headers]
        return headers + [header for header in own_headers if header[0].lower() in _SIGN_OUT_HEADERS]

    def _replace(
        self, error: errors.NotSignedIn, cookies: Iterable[tuple[str, str]] = (), exc_info: Any = None
    ) -> Iterable[bytes]:
        """Send the gate's own response in place of the application's, with the application's *cookies*."""

        def start_response(status: str, headers: list[tuple[str, str]]) -> object:
            return self._server_start_response(status, [*headers, *cookies], exc_info)

        self._started = True
        self._replacement = self._context.send_error(error, start_response)  # type: ignore[arg-type]
        return self._replacement

    def _iterate(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """Pass on the body of an application that calls start_response when its first chunk is requested."""
        try:
            for chunk in body:
                if self._replacement is not None:
                    break
                yield chunk
        except errors.NotSignedIn as error:
            if self._started:
                raise
            self._replace(error)
        yield from self._replacement or ()


def send_preflight_response(
    app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Call *app*, and send the status and the headers of its response without the body (CORS preflight).

    Browsers ignore the body. An application that ignores the method would show its page to an anonymous user.
    """
    started = False

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        nonlocal started
        started = True
        kept = [header for header in headers if header[0].lower() not in _NOT_IN_PREFLIGHTS]
        kept += [] if status[:3] in {"204", "304"} else [("Content-Length", "0")]  # RFC 9110 8.6
        start_response(status, kept, *([exc_info] if exc_info else []))
        return _discard

    body = app(environ, start)
    try:
        chunks = iter(body)
        while not started:  # a generator starts the response with its first chunk
            next(chunks)
    finally:
        if hasattr(body, "close"):
            body.close()
    return [b""]  # hypercorn sends the status with the first chunk


def _discard(_chunk: bytes) -> None:
    """Discard the body after the gate has replaced the response."""
