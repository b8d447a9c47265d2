"""The page that shows a signed-in user the user document."""

from __future__ import annotations

from typing import Any

from werkzeug import Response

from ..oauth.identity import IDENTITY, Identity
from . import pages
from .handler import RequestHandler


class ProfileHandler(RequestHandler):
    skips_recheck = True  # because it asks the provider anyway

    def show_page(self, document: dict[str, Any]) -> Response:
        """Return the page about the signed-in user, with a button for the sign-out."""
        request = self.request
        identity = Identity.from_dict(request.session.get(IDENTITY))  # None if the document does not identify the user
        sign_out = pages.Action("sign_out", self.url_for(".logout", external=True), request.form_token)
        return pages.render(
            "profile.html",
            request,
            document=document,
            user=identity and (identity.name or identity.display_name),
            provider=self.registration.title,
            actions=[sign_out],
        )
