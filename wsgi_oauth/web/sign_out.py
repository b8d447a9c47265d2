"""The sign-out, which the tutorial lacks."""

from __future__ import annotations

import hmac
import logging
import secrets
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

from werkzeug import Response

from .. import errors
from ..events import SIGN_OUT
from ..sessions.cookie import SIGN_OUT_PURPOSE, build_set_cookie, read_cookie
from ..sessions.encoding import TOKEN
from ..texts import english
from . import pages
from .handler import RequestHandler
from .redirect import redirect_script
from .request import Request

_STATE_LIFETIME = 3600  # seconds
_log = logging.getLogger(__name__)


class Logout(RequestHandler):
    """End the session and revoke its token. Only a POST from this site's own pages does that (CSRF)."""

    route = "/logout"
    skips_access_check = True
    event_name = SIGN_OUT

    def get(self, request: Request) -> Response:
        if not request.session.signed_in:
            return _show_signed_out(self, confirmed=False)
        urls = {"logout_url": self.url_for(".logout", external=True), "cancel_url": self._previous_page()}
        return pages.sign_out_question(english("sign_out.title"), request, **urls)

    def _previous_page(self) -> str:
        """Return the page that links to the sign-out; if it is unknown, the front page or the profile."""
        request = self.request
        referrer = request.referrer or ""
        if request.is_own_url(referrer) and urlsplit(referrer).path != request.root_path + self.route:
            return referrer
        return request.front_page if request.gate_prefix else self.url_for(".profile", external=True)

    def post(self, request: Request) -> Response:
        if not (request.is_same_origin or request.has_form_token):
            raise errors.CrossSite("sign-out: requested by another site")
        if request.is_further_site and not request.session.signed_in:
            # The session may still exist under a new id, which only the main site's cookie has.
            return self.redirect(f"{request.site.public_url}{SignedOut.route}", 303)
        last = request.session.load_latest()  # another request may have refreshed the token meanwhile
        request.session.end()  # before the requests to the provider, which may fail
        if TOKEN in last:
            self.oauth.emit(request.session, SIGN_OUT)
        request.cancels_pending = True  # otherwise another tab could sign the user in again
        signed_out_url = self.url_for(".signedout", external=True)
        state = secrets.token_urlsafe(32)
        if request.is_further_site:  # only the main site's URL is registered; the main site redirects back here
            state = f"{state}.{urlsplit(request.base).hostname}"
        registered_url = f"{request.site.public_url or request.base}{SignedOut.route}"
        end_session_url = self._sign_out_at_provider(last, registered_url, state)
        response = self.redirect(end_session_url or signed_out_url, 303)
        if end_session_url and request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            # A script cannot follow a redirect to the provider (CORS), so it gets the URL to open.
            response = self.jsonify(end_session_url=end_session_url)
            redirect_script(request, response, end_session_url)
        cookie = partial(build_set_cookie, purpose=SIGN_OUT_PURPOSE, names=request.cookie_names)
        if end_session_url:
            response.headers.add("Set-Cookie", cookie(state, max_age=_STATE_LIFETIME))
        elif TOKEN in last and "Chrome/" in request.headers.get("User-Agent", ""):
            # Chromium keeps pages in its back/forward cache until a cookie changes, and overlooks one change if
            # redirects that set a cookie led to the page, as after a sign-in. So a second cookie changes.
            response.headers.add("Set-Cookie", cookie(state, max_age=_STATE_LIFETIME))
            response.headers.add("Set-Cookie", cookie("", max_age=0))
        return response

    def _sign_out_at_provider(self, data: dict[str, Any], signed_out_url: str, state: str) -> str:
        """Revoke the token (RFC 7009), and return the provider's end-session URL, or "". Failures are only logged."""
        end_session_url = ""
        if TOKEN in data:
            try:
                registration = self.oauth.registration_of(data)
                end_session_url = registration.end_session_url(data[TOKEN], signed_out_url=signed_out_url, state=state)
                registration.revoke(data[TOKEN])
            except errors.Error as error:
                _log.warning("[%s] the token was not revoked: %s", self.request.id, error)
        return end_session_url


class SignedOut(RequestHandler):
    """Confirm the sign-out to browsers that come from ``/logout`` or from the provider.

    The page changes nothing and never starts a sign-in, because many providers would finish one without asking.
    """

    route = "/signed-out"
    skips_access_check = True

    def get(self, request: Request) -> Response:
        state = read_cookie(request.environ, SIGN_OUT_PURPOSE, names=request.cookie_names)
        returned = request.args.get("state", "")
        further_url = request.site.find_further_url(returned.partition(".")[2])
        if further_url and not request.is_further_site:  # only that site gets the cookie of this sign-out
            return self.redirect(f"{further_url}{self.route}?{urlencode({'state': returned})}", 303)
        # Anyone can link to this page, so it confirms only a sign-out of this browser.
        confirmed = bool(state) and hmac.compare_digest(str(state).encode(), returned.encode(errors="replace"))
        response = _show_signed_out(self, confirmed=confirmed)
        if confirmed:
            cookie = build_set_cookie("", SIGN_OUT_PURPOSE, names=request.cookie_names, max_age=0)
            response.headers.add("Set-Cookie", cookie)
        return response


def _show_signed_out(handler: RequestHandler, *, confirmed: bool) -> Response:
    """Return the signed-out page; for a signed-in session, the page that asks whether to sign out.

    :param confirmed: whether the provider has confirmed the sign-out at the provider.
    """
    request, front_page = handler.request, handler.request.front_page
    if request.session.signed_in:
        urls = {"logout_url": handler.url_for(".logout", external=True), "cancel_url": front_page}
        return pages.sign_out_question(english("signed_in.title"), request, **urls)
    name, providers = request.application_name, [each.title for each in handler.oauth.registrations.values()]
    text = english("signed_out.text_named", application=name) if name else english("signed_out.text")
    both, only_here = english("signed_out.both"), english("signed_out.only_here")
    if len(providers) == 1:  # with several, the provider of the ended session is unknown
        both = english("signed_out.both_named", provider=providers[0])
        only_here = english("signed_out.only_here_named", provider=providers[0])
    advice = both if confirmed else only_here
    message = pages.UserMessage(english("signed_out.title"), text, advice, "signed_out", login_url=front_page)
    action = pages.Action("open_application" if request.gate_prefix else "sign_in", front_page)
    return pages.show_message(message, request, "signed_out.html", [action], as_json=request.wants_json)
