"""The gate: WSGI middleware that lets only signed-in users reach an application.

::

    app = LoginRequired(app, get_app(), public=("/", "/static"))
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from .. import errors
from ..web.application import OAuthApp
from .authentication import IDENTITY_KEY, Authenticator
from .environ import CONTEXT_KEY, RequestContext
from .mount import MountedSignIn
from .paths import PublicPaths
from .response import GuardedResponse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Keys that name the user. Only the gate may set them: otherwise a server in front or a client's header could.
_IDENTITY_KEYS = ("REMOTE_USER", "AUTH_TYPE", "HTTP_REMOTE_USER", "HTTP_AUTH_TYPE", IDENTITY_KEY, CONTEXT_KEY)
_log = logging.getLogger(__name__)


class LoginRequired:
    """Serve *wsgi_app* to signed-in users, and *oauth_app*, which signs them in, below *prefix*.

    An anonymous user is redirected to the sign-in and returns to the same page. A request that is not a browser's
    navigation gets a 401 with a ``login_url`` as JSON. A 401 of *wsgi_app* without ``WWW-Authenticate``, and an
    :class:`errors.NotSignedIn` that it raises, have the same effect.

    In the ``environ`` of *wsgi_app*, ``REMOTE_USER`` is the stable id of the user (``github:583231``), ``AUTH_TYPE``
    is ``OAuth2`` and ``wsgi_oauth.identity`` the :class:`Identity`. All three are absent for anonymous users of a
    public path, whatever the client or the server sends.

    A response to a signed-in user gets ``Vary: Cookie``, and ``Cache-Control: private, no-cache`` unless it has its
    own. An ordinary request reads the session once and writes nothing.

    :param wsgi_app: any WSGI application. Other middleware belongs around the gate.
    :param oauth_app: the application that ``create_app`` or ``get_app`` returned.
    :param prefix: the path below which *oauth_app* answers; ``WSGI_OAUTH_PUBLIC_URL`` ends with it.
    :param public: paths that need no sign-in: ``/static`` includes everything below it, ``/`` is the front page only.
        They begin at the gate and are written without percent-encoding. Ambiguous paths (``//``, ``..``, ``;``, ``%``,
        ``?``, ``#``, backslash, invalid UTF-8) are never public.
    :raises errors.ConfigError: if the public URL does not end with *prefix*.
    :raises TypeError: if *oauth_app* is something else, or *public* is a string.
    :raises ValueError: if *prefix* or a public path is not a plain path.
    """

    def __init__(
        self,
        wsgi_app: WSGIApplication,
        oauth_app: WSGIApplication,
        *,
        prefix: str = "/auth",
        public: Collection[str] = (),
    ) -> None:
        if not isinstance(oauth_app, OAuthApp):
            raise TypeError(
                f"oauth_app: must be the result of create_app or get_app (got {type(oauth_app).__name__}); "
                "put other middleware around the gate"
            )
        self.oauth_app = oauth_app
        self._wsgi_app = wsgi_app
        self._public = PublicPaths(public)
        self._sign_in = MountedSignIn(oauth_app, prefix)
        self.authenticator = Authenticator(oauth_app)
        self._is_restricted = oauth_app.oauth.is_restricted

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        passed = {**environ}
        for name in _IDENTITY_KEYS:
            passed.pop(name, None)
        path = environ.get("PATH_INFO", "")
        if self._sign_in.handles(path):
            return self._sign_in(passed, start_response)
        context = RequestContext(self._sign_in, self.authenticator, environ)
        try:
            if self._public.include(environ.get("SCRIPT_NAME", ""), path):
                self._identify_optional(context)
            else:
                self._require_user(context)
        except errors.Error as error:
            return context.send_error(error, start_response)
        passed[CONTEXT_KEY] = context
        if context.login is not None:
            passed.update(context.login.environ)
        return GuardedResponse(context, start_response).send(self._wsgi_app, passed)

    def _require_user(self, context: RequestContext) -> None:
        """Require an authenticated and authorized user.

        :raises errors.Error: NotSignedIn, NotAllowed, BadHost, StoreError or ProviderError.
        """
        login = context.authenticate()
        if login is None:
            raise errors.NotSignedIn("the gate requires a signed-in user")
        if login.identity is None:
            login = context.login = self.authenticator.identify(login, context.session)
        if self._is_restricted:
            self.authenticator.check_access(login)

    def _identify_optional(self, context: RequestContext) -> None:
        """Identify the user of a public path, if there is one. Users whom the access rules exclude count as anonymous.

        Failures of the store and the provider are only logged, because a public page needs neither.
        """
        try:
            login = context.authenticate()
            if login is not None and login.identity is None and context.is_navigation:
                login = context.login = self.authenticator.identify(login, context.session)
            if login is not None and self._is_restricted:
                self.authenticator.check_access(login)
        except errors.NotAllowed:
            context.forget_user()
        except errors.Error as error:
            _log.warning("public page: the user is unknown: %s: %s", error.cause, error)
            if self._is_restricted:
                context.forget_user()
