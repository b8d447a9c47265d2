"""Errors as responses: a page or JSON, with a log line that has the same id."""

from __future__ import annotations

import logging
import re
from urllib.parse import urlencode

from werkzeug import Response
from werkzeug.exceptions import HTTPException

from .. import errors
from ..events import HAND_OVER, SIGN_IN
from ..texts import english
from . import pages
from .redirect import Redirect, redirect_script
from .request import Request
from .site import local_path

# Browsers, search engines and password managers request these paths from every site.
_ROUTINE_PATH = (
    r"(?a)/(?:(?:favicon|apple-touch-icon)[\w.-]*\.(?:ico|png|svg)|(?:robots|ads|app-ads|humans|security|llms)\.txt"
    r"|sitemap[\w.-]*\.xml(?:\.gz)?|browserconfig\.xml|(?:site\.)?(?:web)?manifest(?:\.json)?|\.well-known/.*)"
)
# Title, text and advice of the errors that requests to this application can cause.
_HTTP_ERRORS = {
    404: (english("not_found.title"), english("not_found.text"), english("not_found.advice")),
    405: (english("method_not_allowed.title"), english("method_not_allowed.text"), english("bad_request.advice")),
    413: (
        english("request_entity_too_large.title"),
        english("request_entity_too_large.text"),
        english("request_entity_too_large.advice"),
    ),
}
_log = logging.getLogger("wsgi_oauth")


def build_error_response(
    request: Request, error: errors.Error, *, login_url: str, logout_url: str, redirects: bool = True
) -> Response:
    """Return the page about *error*, or the redirect to the sign-in if signing in helps.

    :param login_url: the URL that starts a sign-in; "" if the host of the request is not this site's.
    :param logout_url: the URL of the sign-out, whose 403 shows a sign-out button to the session's user.
    :param redirects: False for a page with the URL of the sign-in in ``Location``, in place of the redirect.
    """
    concerns_user = isinstance(error, (errors.NotSignedIn, errors.NotAllowed, errors.InvalidBearerToken))
    next_url = request.next_url or (local_path(request.page_url) if concerns_user else "") or ""
    requirements = {}
    if isinstance(error, errors.ReauthenticationRequired):
        requirements = {"reauthenticate": urlencode(error.requirements)}
        next_url = next_url or local_path(request.current_url) or ""  # the form's own URL if it has no referrer
    sign_in_url = ""
    if isinstance(error, errors.NotSignedIn) and login_url:
        again = {"again": "1"} if error.after_rejection else {}
        sign_in_url = f"{login_url}?{urlencode({'next': next_url, **again, **requirements})}"
    # With an unknown token, the request after the sign-in would be refused again.
    starts_sign_in = request.is_navigation and request.method == "GET" and not isinstance(error, errors.TokenUnknown)
    if sign_in_url and starts_sign_in and redirects:
        return Redirect(sign_in_url)

    # The redirect does not need this, and reading the Accept header takes nearly as long as the redirect itself.
    as_json = request.wants_json or (concerns_user and not request.is_navigation)
    # The link on the page. For programs it lacks `next`, which would be the URL of an API call.
    query = {"next": next_url} if next_url and not as_json else {}
    if isinstance(error, (errors.NotAllowed, errors.LoginDeclined)):
        query = {"switch": "1", "next": next_url}
    site_url = getattr(error, "site_url", "")  # of BadHost, whose request has a wrong host
    link_url = site_url and f"{site_url.removesuffix(request.gate_prefix)}/"
    if login_url:
        link_url = f"{login_url}?{urlencode(query | requirements)}".rstrip("?")
    message = pages.error_message(error, id=request.id, login_url=link_url)
    actions = _find_actions(request, error, login_url=link_url, logout_url=logout_url)
    template = "not_allowed.html" if isinstance(error, errors.NotAllowed) else "error.html"
    response = pages.show_message(message, request, template, actions, as_json=as_json)
    if sign_in_url:
        redirect_script(request, response, sign_in_url, passes_on=redirects)
    if sign_in_url and starts_sign_in:
        response.headers["Location"] = sign_in_url
    response.headers.update(error.headers)
    if isinstance(error, errors.NotSignedIn):
        response.headers.setdefault("WWW-Authenticate", request.challenge)
    return response


def _find_actions(request: Request, error: errors.Error, *, login_url: str, logout_url: str) -> list[pages.Action]:
    """Return a list with the button that helps after *error*. *login_url* starts a sign-in, or is ""."""
    if isinstance(error, errors.CrossSite) and logout_url == request.base + request.path and request.form_token:
        return [pages.Action("sign_out", logout_url, request.form_token)]
    is_form_of_provider = request.event_name == SIGN_IN and request.method == "POST"  # a link cannot repeat a POST
    can_repeat = not (request.has_used_state or is_form_of_provider)
    if error.action == "open_page" or (error.action == "try_again" and can_repeat):
        return [pages.Action(error.action, _find_same_page(request))]
    if error.action and login_url:
        return [pages.Action(error.action, login_url)]
    return _front_page_action(request)


def _front_page_action(request: Request) -> list[pages.Action]:
    """Return a list with the button to the application; an empty list for an unknown host."""
    return [pages.Action("open_application", request.front_page)] if request.base else []


def _find_same_page(request: Request) -> str:
    # During a sign-in it contains a code or a ticket, which no page may show. Browsers resolve "" to it (RFC 3986 4.4).
    if request.event_name in {SIGN_IN, HAND_OVER}:
        return ""
    return request.next_url or request.return_url or local_path(request.current_url) or ""


def build_http_error_response(request: Request, error: HTTPException) -> Response:
    """Return the page of a Werkzeug error such as 404 or 405. A response inside the exception is returned unchanged."""
    if error.response is not None or error.code is None or error.code < 400:
        return Response.force_type(error.get_response(request.environ))
    has_failed = error.code >= 500
    title, text, advice = _HTTP_ERRORS.get(error.code) or (
        english("internal_error.title" if has_failed else "bad_request.title"),
        english("http_error.text", status=f"{error.code} {error.name}"),
        english("advice.try_again" if has_failed else "bad_request.advice"),
    )
    if error.description and error.description != type(error).description:  # not Werkzeug's own text
        text = error.description
    cause = error.name.lower().replace(" ", "_")
    side = errors.Error.side if has_failed else errors.UserError.side
    message = pages.UserMessage(title, text, advice, cause, error.code, side, request.id)
    original_exception = getattr(error, "original_exception", None)  # an attribute of InternalServerError
    level = logging.ERROR if has_failed else logging.WARNING
    if error.code == 404 and re.fullmatch(_ROUTINE_PATH, request.path):
        level = logging.INFO
    remedy = request.prefix_advice if error.code in {404, 405} and not request.has_handler else ""
    if error.code == 405 and request.method == "POST" and request.path.startswith("/callback"):
        remedy = "; if the provider sends its response as a form, set WSGI_OAUTH_RESPONSE_MODE=form_post"
    values = (request.id, request.method_and_path, message.cause, remedy)
    _log.log(level, "[%s] %a: %s%s", *values, exc_info=original_exception, extra={"cause": message.cause})
    actions = _front_page_action(request)
    response = pages.show_message(message, request, "error.html", actions, as_json=request.wants_json)
    # Allow, WWW-Authenticate, Retry-After and Content-Range belong to their statuses.
    response.headers.extend(header for header in error.get_headers() if header[0].lower() != "content-type")
    return response
