"""Access tokens for programs: the page on which users create and revoke them, and its JSON form."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from urllib.parse import urljoin, urlsplit

from werkzeug import Response
from werkzeug.exceptions import NotFound

from .. import errors
from ..config.checks import check_lifetime
from ..events import TOKEN_CREATION, TOKEN_REVOCATION
from ..oauth.identity import IDENTITY
from ..sessions.access_tokens import MAX_NAME, AccessTokens, TokenInfo
from ..sessions.encoding import PROVIDER
from ..texts import duration, english
from . import pages
from .handler import RequestHandler
from .request import Request

_LIFETIMES = ("1d", "7d", "30d", "90d", "365d")
_DEFAULT_LIFETIME = "30d"  # or the next shorter one that the maximum permits
_REVOKED = "oauth_token_revoked"  # session key: the next page says that a token was revoked


class Tokens(RequestHandler):
    """List, create and revoke the access tokens of the signed-in user. A change needs a POST from this site (CSRF)."""

    route = "/tokens"
    event_name = TOKEN_CREATION
    access_tokens: AccessTokens  # set by create_app

    def get(self, request: Request) -> Response:
        if request.is_further_site:
            return self.redirect(f"{request.site.public_url}{self.route}")
        return self._respond()

    def post(self, request: Request) -> Response:
        if request.is_further_site:  # otherwise a script or the operator of one site could get access to the others
            raise NotFound(english("tokens.main_site"))
        owner = self.identity.id  # before the body is read, because an anonymous user is sent to the sign-in
        if not (request.is_same_origin or request.has_form_token):
            raise errors.CrossSite("access tokens: requested by another site")
        form = self._read_form()
        if "revoke" in form:
            request.event_name = TOKEN_REVOCATION
            if not self.access_tokens.revoke(owner, form["revoke"]):
                raise NotFound(english("tokens.unknown"))
            self.oauth.emit(request.session, TOKEN_REVOCATION, token=form["revoke"])
            if request.wants_json:
                return self._respond()
            request.session[_REVOKED] = True
            return self.redirect(self.url_for(".tokens"), 303)
        try:
            lifetime = check_lifetime(form.get("lifetime", self._lifetimes()[1]))
        except ValueError:
            lifetime = 0  # refused below
        data = {IDENTITY: self.identity.as_dict(), PROVIDER: self.registration.key}
        token, info = self.access_tokens.create(owner, data, name=form.get("name", ""), lifetime=lifetime)
        self.oauth.emit(request.session, TOKEN_CREATION, token=info.id)
        return self._respond(token)

    def _read_form(self) -> dict[str, str]:
        """Return the fields of a form, or the members of a JSON object; those that are no strings as ""."""
        if not self.request.is_json:
            return dict(self.request.form.items())
        try:
            document: Any = self.request.get_json(silent=True)
        except RecursionError:  # nested too deeply
            document = None
        if not isinstance(document, dict):
            raise errors.BadToken("The body must be a JSON object.")
        return {name: value if isinstance(value, str) else "" for name, value in document.items()}

    def _lifetimes(self) -> tuple[list[str], str]:
        """Return the lifetimes that the page offers, and the default."""
        longest = self.access_tokens.max_lifetime
        offered = [each for each in _LIFETIMES if check_lifetime(each) <= longest] or [str(int(longest))]
        default = check_lifetime(_DEFAULT_LIFETIME)
        return offered, [each for each in offered if check_lifetime(each) <= default][-1]

    def _respond(self, token: str = "") -> Response:
        """Return the list of tokens, and *token* if it was just created."""
        tokens = self.access_tokens.list(self.identity.id)
        if self.request.wants_json:
            shown = [{name: value for name, value in info._asdict().items() if name != "key"} for info in tokens]
            response = self.jsonify({**({"token": token} if token else {}), "tokens": shown})
        else:
            response = pages.render("tokens.html", self.request, **self._describe(tokens, token))
        response.status_code = 201 if token else 200
        return response

    def _describe(self, tokens: list[TokenInfo], token: str) -> dict[str, Any]:
        # Behind a proxy that asks /verify, the application is at the root of the host.
        site = self.request.front_page if self.request.gate_prefix else urljoin(self.request.front_page, "/")
        parts = urlsplit(site)
        lifetimes, default_lifetime = self._lifetimes()
        is_get = self.request.method == "GET"  # HEAD changes nothing
        return {
            "account": self.identity.display_name,  # because another tab may have changed it
            "site": site,
            "token": token,
            "site_with_token": parts._replace(netloc=f"token:{token}@{parts.netloc}").geturl(),
            "tokens": [
                {
                    "name": info.name,
                    "id": info.id,
                    "created": _format_time(info.created),
                    "used": _format_time(info.used) if info.used else "",
                    "expires": _format_time(info.expires),
                }
                for info in tokens
            ],
            "revoked": is_get and self.request.session.pop(_REVOKED, False),
            "default_lifetime": default_lifetime,
            "lifetimes": {value: self.request.texts.translate(duration(check_lifetime(value))) for value in lifetimes},
            "max_name": MAX_NAME,
            "url": self.url_for(".tokens"),
            "form_token": self.request.form_token,
        }


def _format_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
