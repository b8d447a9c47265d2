"""``RequestHandler``: the tutorial's imaginary framework.

::

    class Repos(RequestHandler):
        route = "/repos"

        def get(self, request):
            github = self.oauth2_session(token=request.session["oauth_token"])
            return self.jsonify(github.get_json("https://api.github.com/user/repos", of=list))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from werkzeug import Response
from werkzeug.utils import cached_property

from .. import errors
from ..config.provider import Provider
from ..events import ACCESS
from ..oauth.client import OAuth2Session
from ..oauth.identity import Identity
from ..oauth.reauthentication import require_recent_login
from ..oauth.registration import Registration
from ..oauth.service import OAuthService
from ..sessions.encoding import TOKEN
from .redirect import Redirect
from .request import Request

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
# Returns the path of a handler, below the mount point, for its endpoint and the variables of its route.
BuildPath = Callable[[str, dict[str, Any]], str]


class RequestHandler:
    """Answers one request. Subclass it, set ``route``, and write ``get(self, request)``, ``post`` and so on.

    A handler is created for each request, so its attributes belong to that request only.
    """

    #: The path below the mount point, in Werkzeug's syntax: ``/repos/<owner>`` calls ``get(request, owner=...)``.
    route: ClassVar[str]
    #: The name for ``url_for``; by default the class name in lower case.
    endpoint: ClassVar[str] = ""
    #: Whether a GET changes something. Then HEAD is answered without calling ``get``, and prefetches are rejected.
    get_is_unsafe: ClassVar[bool] = False
    #: Whether the handler also serves users that the access rules (``WSGI_OAUTH_ALLOW``) exclude.
    skips_access_check: ClassVar[bool] = False
    #: Whether each request asks the provider about the user, so that a recheck would be a second request.
    skips_recheck: ClassVar[bool] = False
    #: Whether the handler answers under every host name, for probes of load balancers. It has no session and no URLs.
    any_host: ClassVar[bool] = False
    #: The name of the audit event of a request that fails.
    event_name: ClassVar[str] = ACCESS

    def __init__(self, request: Request, oauth: OAuthService, build_path: BuildPath) -> None:
        self.request = request
        self.oauth = oauth
        self._build_path = build_path

    @cached_property
    def registration(self) -> Registration:
        """The registration with the provider that issued the session's token; without a token, with the first one."""
        return self.oauth.registration_of(self.request.session)

    @property
    def provider(self) -> Provider:
        """The provider of this request, with its endpoints.

        :raises errors.ProviderError: if its endpoints cannot be discovered.
        """
        return self.registration.provider

    @cached_property
    def identity(self) -> Identity:
        """The signed-in user. The provider is asked once for each session, and then at each recheck.

        :raises errors.NotSignedIn: if the user is anonymous. The user is sent to the sign-in and returns to this page.
        :raises errors.ProviderError: if the provider's answer does not identify the user.
        """
        return self.oauth.identify(self.request.session)

    def require_recent_login(self, *, max_age: float | None = None, acr: str | Iterable[str] = ()) -> None:
        """Require that the user has signed in recently, or strongly enough. Otherwise the user does so and returns.

        :param max_age: see :class:`errors.ReauthenticationRequired`, like *acr*.
        :raises errors.ReauthenticationRequired: if the last sign-in is not sufficient.
        """
        require_recent_login(self.request.session, errors.ReauthenticationRequired(max_age=max_age, acr=acr))

    def fetch_user_document(self, client: OAuth2Session) -> dict[str, Any]:
        """Return the user document, and store the identity that it describes in the session.

        :raises errors.TokenRejected: if the provider no longer accepts the token.
        :raises errors.ProviderError: if there is no usable answer.
        """
        document = client.get_user_document()
        self.oauth.remember_user(self.request.session, client, document)
        return document

    @classmethod
    def name(cls) -> str:
        """Return the endpoint name for ``url_for``."""
        return cls.endpoint or cls.__name__.lower()

    @classmethod
    def methods(cls) -> set[str]:
        """Return the HTTP methods that this handler answers; HEAD is included with GET (RFC 9110 9.3.2)."""
        methods = {method.upper() for method in METHODS if hasattr(cls, method)}
        return methods | ({"HEAD"} if "GET" in methods else set())

    def answer(self, **arguments: Any) -> Response:
        """Call the handler's method for the HTTP method of the request, with the variables of the route."""
        method = self.request.method.lower()
        if self.get_is_unsafe and method in {"get", "head", "post"}:
            if self.request.is_prefetch_or_subresource:
                raise errors.NotNow("a prefetch or a subresource cannot start a sign-in")
            if method == "head":
                return Response()
        if method == "head" and not hasattr(self, "head"):
            method = "get"
        response = getattr(self, method)(self.request, **arguments)
        if not isinstance(response, Response):
            raise TypeError(
                f"{type(self).__name__}.{method}: must return a werkzeug Response (got {type(response).__name__}); "
                "use self.redirect or self.jsonify"
            )
        return response

    def redirect(self, location: str, code: int = 302) -> Response:
        """Redirect the browser to *location*. Characters that are not allowed in a URL are percent-encoded."""
        return Redirect(location, code)

    def jsonify(self, document: Any = None, **members: Any) -> Response:
        """Answer with *document* as JSON, or with an object of these *members*, as in Flask."""
        return Response(json.dumps(members or document, allow_nan=False) + "\n", mimetype="application/json")

    def url_for(self, endpoint: str, *, external: bool = False, **values: Any) -> str:
        """Return the path of a handler, mount prefix included: ``self.url_for(".profile")``.

        :param external: return the absolute URL.
        """
        url = self.request.base + self._build_path(endpoint.removeprefix("."), values)
        return url if external else url[url.index("/", len("https://")) :]

    def oauth2_session(self, *, token: dict[str, Any] | None = None, redirect_uri: str | None = None) -> OAuth2Session:
        """Return a client for the provider's API.

        :param token: by default the signed-in user's. The user's own token is refreshed when it has expired.
        :param redirect_uri: the redirect URI of a sign-in, which needs no token.
        """
        if redirect_uri is not None:
            return self.registration.oauth2_session(token=token, redirect_uri=redirect_uri)
        session = self.request.session
        own_token = session.get(TOKEN)
        if token is None or token == own_token:
            return self.registration.oauth2_session(token=own_token, session=session)
        return self.registration.oauth2_session(token=token)
