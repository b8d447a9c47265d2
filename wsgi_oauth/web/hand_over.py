"""The hand-over of a session to a further site (``WSGI_OAUTH_SITES``), because browsers share no cookies between hosts.

1. ``/`` on the further site stores the return URL, sets a cookie for a new state, and redirects to:
2. ``/hand-over`` on the main site, which signs the user in if necessary, and redirects with a ticket to:
3. ``/redeem`` on the further site, which sets the session cookie of that site and redirects to the page.
"""

from __future__ import annotations

from urllib.parse import urlencode

from werkzeug import Response
from werkzeug.exceptions import NotFound, abort

from .. import errors, sign_in
from ..events import HAND_OVER
from ..sessions.cookie import SESSION_ID
from ..sessions.tickets import Tickets
from .handler import RequestHandler
from .request import Request
from .sign_in_handler import HAND_OVER_ROUTE, SignInHandler

# Parameters of a link to the sign-in that require a new sign-in even from a signed-in user.
_FORCING = {"again", "iss", "provider", "reauthenticate", "switch"}


class HandOver(RequestHandler):
    """Issues a ticket for a further site, on the main site."""

    route = HAND_OVER_ROUTE
    event_name = HAND_OVER
    get_is_unsafe = True
    tickets: Tickets  # set by create_app

    def get(self, request: Request) -> Response:
        if request.is_further_site:
            raise NotFound
        arguments = dict(request.args.items())
        host, state = arguments.pop("site", ""), arguments.pop("state", "")
        site = request.site.find_further_url(host)
        if site is None:
            raise errors.UserError(f"hand-over: the site is not one of WSGI_OAUTH_SITES (got {host[:200]!a})")
        if not SESSION_ID.fullmatch(state):
            raise errors.UserError("hand-over: the state is malformed")
        if not request.session.signed_in or not _FORCING.isdisjoint(arguments):
            query = {**arguments, "next": self.url_for(".handover", site=host, state=state)}
            return self.redirect(f"{self.url_for('.preauthorization', external=True)}?{urlencode(query)}")
        query = {"state": state, "ticket": self.tickets.issue(request.session, site, state)}
        return self.redirect(f"{site}{Redemption.route}?{urlencode(query)}", 303)


class Redemption(SignInHandler):
    """Redeems a ticket, on the further site: sets its session cookie and returns to the page where the user started.

    Only the browser that started the sign-in has the cookie of the state. A duplicate of the request (a reload, a
    double click) is redirected to the same page.
    """

    route = "/redeem"
    event_name = HAND_OVER
    tickets: Tickets  # set by create_app

    def get(self, request: Request) -> Response:
        if not request.is_further_site:
            raise NotFound
        state, ticket = request.args.get("state", ""), request.args.get("ticket", "")
        pending = request.pending_session(state)
        try:
            attempt = self.consume_state(pending, sign_in.AuthorizationResponse(state))
        except errors.NoLoginInProgress:
            self.tickets.discard(ticket)  # otherwise an attacker who has the state's cookie could use the ticket
            raise
        with sign_in.removing_failed(pending, attempt):
            session = self.tickets.redeem(ticket, request.base, state)
            if session is None and attempt.restarted:
                remedy = "let all sites use the same WSGI_OAUTH_SESSION_STORE"
                raise errors.NoLoginInProgress("hand-over: the ticket is not valid, for the second time", remedy=remedy)
            if session is None:
                abort(self.restart(attempt))
        session.event, session.source = HAND_OVER, request.source
        sign_in.finish(session, attempt)
        request.session = session
        return self.redirect(attempt.next_url, 303)
