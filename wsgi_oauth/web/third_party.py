"""Sign-ins that another site starts with a form (OpenID Connect Core 1.0, 4)."""

from __future__ import annotations

from urllib.parse import urlencode

from werkzeug import Response

from .. import errors
from .handler import RequestHandler
from .request import Request

MAX_QUERY = 8000  # characters; servers accept about 8 kB in a request line


class ThirdPartyInitiatedLogin(RequestHandler):
    """Redirects ``POST /`` to ``GET /`` with the same parameters.

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
        if len(query) > MAX_QUERY:
            raise errors.UserError("the parameters of the sign-in are too long")
        return self.redirect(f"{request.base}/?{query}", 303)
