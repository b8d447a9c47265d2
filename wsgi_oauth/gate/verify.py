"""``GET /verify``: the gate for a reverse proxy, which protects applications in any language.

The proxy asks with each request of a client, and passes the client's headers on. The answer says whether the
client has access, and names the user. Other methods get the same answer, because some proxies keep that of the client.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from werkzeug import Response
from werkzeug.exceptions import NotFound

from .. import errors
from ..config.checks import check_rules
from ..config.settings import did_you_mean
from ..oauth.access import Rules
from ..web import pages
from ..web.application import OAuthApp
from ..web.handler import RequestHandler
from ..web.request import Request
from ..web.site import path_and_query
from .authentication import Authenticator, Login

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_QUERY = "the query of /verify"
_CADDY = "if this is the query of a page, let the proxy remove it (Caddy: end the `uri` of forward_auth with `?`)"
_MAX_CACHED_RULES = 128  # queries
_VARY = ("Vary", "Cookie")
_IDENTIFICATION_TIMEOUT = 1.0  # seconds, for the first request of a session without a stored user
_log = logging.getLogger(__name__)
# The headers in which proxies name the URL of the original request. nginx's documentation uses the second one, its
# ingress controller the third one.
_URL_HEADERS = ("HTTP_X_FORWARDED_URI", "HTTP_X_ORIGINAL_URI", "HTTP_X_ORIGINAL_URL")
_HOST = re.compile(r"https?://([^/?#:@\\]+)(?::[0-9]+)?(?=[/?#]|\Z)", re.IGNORECASE)
_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
_SAFE = _VISIBLE.replace("%", "")  # otherwise the encoded form of one name could be the name of another user
_SAFE_IN_GROUP = _SAFE.replace(",", "")  # otherwise one name could be read as two groups


class OriginalRequest(NamedTuple):
    """The client's request to the proxy, for which the proxy asks ``/verify``."""

    method: str
    url: str = ""  # path and query, or the whole URL, in the client's spelling
    is_response_for_browser: bool = False  # whether the proxy passes the response on, as Caddy and Traefik do

    @classmethod
    def of(cls, environ: Mapping[str, Any], proxies: int) -> OriginalRequest:
        """Return the original request from the headers of a trusted proxy. Without one, a client could send them."""
        url = next(filter(None, map(environ.get, _URL_HEADERS)), "")
        own_method = environ["REQUEST_METHOD"].replace("HEAD", "GET")  # HAProxy asks with HEAD about all requests
        if not proxies:
            if url:
                _log.info(
                    "the URL of the original request is ignored, and a sign-in leads to the default page; set "
                    "WSGI_OAUTH_TRUSTED_PROXIES to the number of proxies"
                )
            return cls(own_method)
        method = environ.get("HTTP_X_FORWARDED_METHOD", "")
        return cls(
            method or environ.get("HTTP_X_ORIGINAL_METHOD") or own_method,
            url,
            is_response_for_browser=bool(method) and "HTTP_X_FORWARDED_URI" in environ,
        )


class Verifier:
    """Answers 204 with the user in ``X-Auth-Request-*``, 401 or 403, from the session or the access token.

    A user whose identity is stored never waits for the provider: a due recheck runs in a thread. A proxy asks with each
    request, so this is not a :class:`RequestHandler`, which would take four times as long.
    """

    def __init__(self, app: OAuthApp) -> None:
        self._app = app
        self._authenticator = Authenticator(app)
        self._read_rules: Callable[[str], Rules | None] = lru_cache(_MAX_CACHED_RULES)(self._parse_query)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        login: Login | None = None
        try:
            query = environ.get("QUERY_STRING")
            rules = self._read_rules(query) if query else None
            login = self._authenticate(environ)
            login = self._require_user(environ, login, rules)
            if environ.get("HTTP_X_REFUSED_STATUS"):
                # Otherwise the client would get a 204, as if the application had processed its request.
                raise errors.IdentityPending("the proxy has refused this request, which would have access now")
        except errors.Error as error:
            if self._app.metrics is not None:
                self._app.metrics.count_decision("verify", error)
            request = self._app.new_request(environ)
            return self._app.respond(request, start_response, partial(self._refuse, error=error, login=login))
        if self._app.metrics is not None:
            self._app.metrics.count_decision("verify", "admitted")
        start_response("204 No Content", [*build_identity_headers(login), *pages.SECURITY_HEADERS.items(), _VARY])
        return [b""]

    def _require_user(self, environ: WSGIEnvironment, login: Login | None, rules: Rules | None) -> Login:
        """Require an authorized user, and return the login with the user's identity."""
        if login is not None and login.must_identify:
            source = Request(environ, populate_request=False).source
            thread = self._authenticator.identify_in_background(login, source)
            if login.identity is None:
                if thread is not None:
                    thread.join(_IDENTIFICATION_TIMEOUT)
                    login = self._authenticate(environ)
                if login is not None and login.identity is None:
                    raise errors.IdentityPending("the provider has not described the user of this session yet")
        if login is None:
            self._app.check_memory_store(environ)
            raise errors.NotSignedIn("the proxy requires a signed-in user")
        if self._app.oauth.is_restricted or not login.environ:
            self._authenticator.check_access(login)
        if rules is not None:
            self._authenticator.check_access(login, rules)
        return login

    def _authenticate(self, environ: WSGIEnvironment) -> Login | None:
        return self._authenticator.authenticate(environ, lambda: Request(environ, populate_request=False).source)

    def _parse_query(self, query: str) -> Rules | None:
        """Return the rules in the parameters ``allow``, or None without such a parameter. A user has to match one rule.

        Other parameters are ignored, because by default Caddy passes on the query of the original request.

        :raises errors.ConfigError: if a rule is invalid, or a parameter is probably meant as one, such as
            ``allowed_groups`` of oauth2-proxy.
        """
        texts: list[str] = []
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name == "allow":
                try:
                    rules = check_rules(value)
                except ValueError as problem:
                    raise errors.ConfigError(f"{_QUERY}: allow={value[:200]!a} {problem}") from None
                texts += rules or [""]  # an empty rule is invalid
            elif name.lower().startswith("allow") or did_you_mean(name.lower(), ["allow"]):
                raise errors.ConfigError(
                    f"{_QUERY}: unknown parameter {name[:200]!a}; write rules such as allow=group:staff; {_CADDY}"
                )
        if not texts:
            return None
        try:
            return self._app.oauth.parse_rules(texts, _QUERY)
        except errors.ConfigError as error:
            error.remedy = _CADDY
            raise

    def _refuse(self, request: Request, error: errors.Error, login: Login | None) -> Response:
        """Return the response about *error*: for the browser if the proxy passes it on, otherwise for the proxy.

        :param login: the login of the refused user, for the audit event; None for an anonymous user.
        """
        environ = request.environ
        request.base = self._app.site.base_url(environ)
        original = OriginalRequest.of(environ, self._app.config.trusted_proxies)
        # With the method and the path of the original request, the response is the same as that of the gate.
        changes = {"REQUEST_METHOD": original.method}
        original_url = without_own_host(original.url, request.base)
        if original_url:
            path, _, query = original_url.partition("?")
            changes |= {"SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query}
        refused = self._app.new_request({**environ, **changes})
        refused.id, refused.base = request.id, request.base
        refused.current_url = self._return_url(request, original_url)
        refused.permits_tokens = self._app.access_tokens is not None
        refused.next_url = refused.return_url
        if login is not None:
            refused.session = self._authenticator.session(login)
        # nginx accepts 2xx, 401 and 403 only. Its configuration redirects the browser to the Location of a 401. Other
        # proxies may show the body of the 401, which is a page.
        return self._app.report_error(refused, error, redirects=original.is_response_for_browser)

    def _return_url(self, request: Request, original_url: str) -> str:
        """Return the page to which a sign-in returns, with the usual checks of a return URL; "" if it is unknown."""
        path, _, query = original_url.partition("?")
        candidate = path_and_query("", path, query, path)
        site, accepted = self._app.site.find_page(candidate, request.base) or ("", "")
        if original_url and site != request.base:
            _log.info(
                "[%s] the original URL is dropped, because it is not a path of this site or too long (got %d "
                "characters, %a); a sign-in leads to the default page",
                *(request.id, len(original_url), path[:100]),
            )
            return ""
        return accepted


class Verify(RequestHandler):
    """The route of :class:`Verifier`, which answers requests itself."""

    route = "/verify"
    skips_access_check = True

    def get(self, request: Request) -> Response:
        raise NotFound  # only for another spelling of the path

    options = get  # otherwise the answer would be a 204


def without_own_host(url: str, base_url: str) -> str:
    """Return *url* without the scheme, host and port, if the host is this site's.

    Behind another proxy, which terminates TLS, the proxy names the scheme and the port of its own connection.
    """
    match = _HOST.match(url)
    if match is None or match[1].lower() != urlsplit(base_url).hostname:
        return url
    path = url[match.end() :]
    return path if path.startswith("/") else f"/{path}"


def build_identity_headers(login: Login) -> list[tuple[str, str]]:
    """Return the headers that name the user, in visible ASCII. Unknown values are left out.

    Other characters, and ``%``, are percent-encoded UTF-8, and so is a comma in the name of a group.
    """
    identity = login.identity
    assert identity is not None  # the user is authorized
    headers = [("X-Auth-Request-User", quote(login.environ["REMOTE_USER"].encode("latin-1"), _SAFE))]
    if identity.verified_emails:
        headers.append(("X-Auth-Request-Email", quote(identity.verified_emails[0], _SAFE)))
    if identity.username:
        headers.append(("X-Auth-Request-Preferred-Username", quote(identity.username, _SAFE)))
    if identity.groups:
        headers.append(("X-Auth-Request-Groups", ",".join([quote(group, _SAFE_IN_GROUP) for group in identity.groups])))
    return headers
