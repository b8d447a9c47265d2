"""Back-channel logout: the provider signs a user out of this application (OpenID Connect Back-Channel Logout 1.0)."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

from werkzeug import Response

from .. import errors
from ..events import FAILED, REFUSED, SESSION_END, SUCCESS, Event
from ..oauth.keys import verifies_signatures
from ..oauth.logout_token import check_logout_token
from ..sessions.encoding import OTHER_ENTRY
from ..sessions.manager import SessionManager
from ..sessions.store import Record, SessionStore, store_key
from .handler import RequestHandler
from .request import Request

_USED_ENTRY = OTHER_ENTRY + b"used-token:1"  # its key is a hash of the token's id; every worker detects a replay


class BackchannelLogout(RequestHandler):
    """Ends the sessions that a logout token names, in all workers.

    Only the provider can sign such a token, so cookies and origin do not matter, and it may use an internal address.
    """

    route = "/backchannel-logout"
    any_host = True
    skips_access_check = True
    event_name = SESSION_END
    sessions: SessionManager  # set by create_app

    def post(self, request: Request) -> Response:
        try:
            self._end_sessions(request)
        except errors.Error as error:
            is_refused = isinstance(error, errors.UserError)
            # Anyone can send this request, so a missing package is a warning.
            is_failure = error.side == errors.Error.side and not isinstance(error, errors.ConfigError)
            level = logging.ERROR if is_failure else logging.WARNING
            self._emit(Event(SESSION_END, REFUSED if is_refused else FAILED, error.cause, detail=str(error)), level)
            description = error.detail if is_refused else "the log of the application contains the reason"
            document = {"error": "invalid_request" if is_refused else error.cause, "error_description": description}
            # Section 2.8 requires status 400 for failures, too.
            return Response(json.dumps(document) + "\n", 400, mimetype="application/json")
        return Response(status=200)

    def _end_sessions(self, request: Request) -> None:
        """End the sessions, then store that the token was used, so that it can be sent again if the store fails."""
        if not verifies_signatures():
            raise errors.ConfigError(
                "back-channel logout: signatures cannot be verified; run pip install 'wsgi-oauth[openid]'"
            )
        tokens = request.form.getlist("logout_token")
        if len(tokens) != 1:
            raise errors.LogoutTokenRefused("logout_token: the form must contain it once")
        assert self.oauth.algorithms is not None
        logout = check_logout_token(tokens[0], self.oauth.registrations.values(), self.oauth.algorithms.find)
        store = self.sessions.store
        if is_used(store, logout.token_id):
            raise errors.LogoutTokenRefused("logout token: received before (jti)")
        self.sessions.end_sessions_of(*logout.names, issued=logout.issued)
        store.create(store_key(f"the used token {logout.token_id}"), Record(_USED_ENTRY, logout.expires))
        extent = "one session there" if logout.is_one_session else "all sessions of this user there"
        detail = f"the provider has ended {extent}"
        self._emit(Event(SESSION_END, SUCCESS, "provider", logout.user, logout.label, detail=detail))

    def _emit(self, event: Event, level: int | None = None) -> None:
        self.oauth.events.emit(replace(event, **self.request.source._asdict()), level=level)


def is_used(store: SessionStore, token_id: str) -> bool:
    return store.load(store_key(f"the used token {token_id}")) is not None
