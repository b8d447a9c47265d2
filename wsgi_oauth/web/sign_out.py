"""The sign-out, which the tutorial lacks."""

from __future__ import annotations

import logging
from typing import Any

from werkzeug import Response

from .. import errors
from ..sessions.session import TOKEN
from . import pages
from .handler import RequestHandler
from .request import Request

_log = logging.getLogger(__name__)


class Logout(RequestHandler):
    """End the session and revoke its token. Only a POST from this site's own pages does that (CSRF)."""

    route = "/logout"
    skips_access_check = True

    def post(self, request: Request) -> Response:
        if not request.is_same_origin:
            raise errors.CrossSite("sign-out: requested by another site")
        last = request.session.load_latest()  # another request may have refreshed the token meanwhile
        request.session.end()  # first, because the user is signed out here whatever the provider answers
        if end_session_url := self._sign_out_at_provider(last):
            return self.redirect(end_session_url, 303)
        return pages.signed_out(request, login_url=self.url_for(".preauthorization", external=True))

    def _sign_out_at_provider(self, data: dict[str, Any]) -> str:
        """Revoke the token (RFC 7009), and return the provider's end-session URL, or "". Failures are only logged."""
        end_session_url = ""
        if TOKEN in data:
            try:
                registration = self.oauth.registration_of(data)
                end_session_url = registration.end_session_url(data[TOKEN])
                registration.revoke(data[TOKEN])
            except errors.Error as error:
                _log.warning("[%s] the token was not revoked: %s", self.request.id, error)
        return end_session_url
