"""The gate: WSGI middleware that lets only signed-in users reach an application.

::

    app = LoginRequired(app, get_app(), public=("/", "/static"))
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from io import BytesIO
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from .. import errors
from ..oauth.identity import Identity
from ..web.application import OAuthApp
from . import spelling
from .authentication import IDENTITY_KEY, Authenticator
from .environ import CONTEXT_KEY, RequestContext
from .mount import MountedSignIn
from .paths import PathRules
from .response import GuardedResponse, send_preflight_response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Keys that name the user. Only the gate may set them: otherwise a client could impersonate a user. The headers are
# those of oauth2-proxy, Authelia, Grafana, Traefik, Kong, mod_auth_openidc, cloud providers and others, and those that
# NetBox (Remote-User-Group), Redash (X-Forwarded-Remote-User) and Otter Wiki (X-Otterwiki-Permissions) read by default.
# CherryPy prefers LOGON_USER, which IIS sets, to REMOTE_USER.
IDENTITY_KEYS = frozenset(
    {"REMOTE_USER", "LOGON_USER", "AUTH_TYPE", "HTTP_AUTH_TYPE", "HTTP_AUTHENTICATED_USER", IDENTITY_KEY, CONTEXT_KEY}
    | {
        f"HTTP_{prefix}_{name}"
        for prefix in (
            "REMOTE",
            "X_REMOTE",
            "X_AUTH_REQUEST",
            "X_AUTHENTICATED",
            "X_FORWARDED",
            "X_WEBAUTH",
            "X_AUTHENTIK",
            "X_CONSUMER",
            "X_PROXY",
            "OIDC_CLAIM",
            "X_POMERIUM_CLAIM",
            "X_OTTERWIKI",
        )
        for name in (
            *("USER", "USERNAME", "PREFERRED_USERNAME", "UID", "NAME", "EMAIL", "LOGIN"),
            *("USER_ID", "USER_NAME", "USER_EMAIL", "USER_GROUP", "USER_GROUPS", "USERID", "REMOTE_USER"),
            *("USER_FIRST_NAME", "USER_LAST_NAME", "FULLNAME", "DISPLAYNAME", "ID", "CUSTOM_ID", "SUB"),
            *("GROUP", "GROUPS", "ROLE", "ROLES", "ENTITLEMENTS", "PERMISSIONS", "ACCESS_TOKEN"),
        )
    }
    | {"HTTP_CF_ACCESS_AUTHENTICATED_USER_EMAIL", "HTTP_X_VOUCH_USER", "HTTP_KUBEFLOW_USERID"}
    | {f"HTTP_X_AMZN_OIDC_{name}" for name in ("IDENTITY", "DATA", "ACCESSTOKEN")}
    | {f"HTTP_X_GOOG_AUTHENTICATED_USER_{name}" for name in ("EMAIL", "ID")}
    | {f"HTTP_X_MS_CLIENT_PRINCIPAL{name}" for name in ("", "_ID", "_IDP", "_NAME")}
    | {f"HTTP_TAILSCALE_USER_{name}" for name in ("LOGIN", "NAME")}
    # Gatekeeper for Keycloak, SiteMinder, Oracle Access Manager, IBM WebSEAL, and Shibboleth at Seafile.
    | {f"HTTP_X_AUTH_{name}" for name in ("USERID", "USERNAME", "SUBJECT", "EMAIL", "GROUPS", "ROLES")}
    | {"HTTP_SM_USER", "HTTP_SM_USERDN", "HTTP_OAM_REMOTE_USER", "HTTP_OAM_REMOTE_USER_GROUPS"}
    | {"HTTP_IV_USER", "HTTP_IV_GROUPS", "HTTP_EPPN"}
)
_IDENTITY_PREFIX = "HTTP_X_AUTH_REQUEST_"  # oauth2-proxy can be configured to send any claim
# Headers from which applications behind a proxy take a prefix that they remove from the path.
_PREFIX_HEADERS = frozenset(
    {"HTTP_SCRIPT_NAME", "HTTP_X_SCRIPT_NAME", "HTTP_X_FORWARDED_PREFIX", "HTTP_X_FORWARDED_SCRIPT_NAME"}
    | {"HTTP_X_INGRESS_PATH", "HTTP_X_PREFIX", "HTTP_X_PROXY_PREFIX", "HTTP_X_BASE_PATH"}
    | {"HTTP_X_FORWARDED_PATH", "HTTP_X_PROXY_PATH", "HTTP_X_URL_PREFIX", "HTTP_X_PATH_PREFIX"}
)
# Headers with a URL whose path is such a prefix (devpi), with the path behind such a prefix (Gordo), or with a path to
# prepend (Pyramid). The others contain the whole path; applications on Vercel read most of them.
_URL_HEADER, _ORIGINAL_HEADER, _ROOT_HEADER = "HTTP_X_OUTSIDE_URL", "HTTP_X_ENVOY_ORIGINAL_PATH", "HTTP_X_VHM_ROOT"
_WHOLE_PATH_HEADERS = frozenset(
    {"HTTP_X_ORIGINAL_URL", "HTTP_X_ORIGINAL_URI", "HTTP_X_REWRITE_URL", "HTTP_X_FORWARDED_URL", "HTTP_X_FORWARDED_URI"}
    | {"HTTP_X_FORWARDED_PATH", "HTTP_X_MATCHED_PATH", "HTTP_X_INVOKE_PATH", "HTTP_X_REAL_URI"}
    | {f"HTTP_X_VERCEL_{name}" for name in ("PATH", "MATCHED_PATH", "FORWARDED_PATH", "FORWARDED_URL")}
    | {f"HTTP_X_VERCEL_{name}" for name in ("ORIGINAL_PATH", "ORIGINAL_PATHNAME")}
    | {"HTTP_X_NOW_ROUTE_MATCHES", "HTTP_X_ORIGINAL_PATH"}
)
_PATH_HEADERS = _PREFIX_HEADERS | _WHOLE_PATH_HEADERS | {_URL_HEADER, _ORIGINAL_HEADER, _ROOT_HEADER}
_DESTINATION = "HTTP_DESTINATION"
_ORIGIN = re.compile(r"\A(?:https?:)?//[^/?#]*", re.IGNORECASE)
_SUSPICIOUS_KEYS = IDENTITY_KEYS | _PATH_HEADERS | {_DESTINATION}
# These methods change at most the requested page. Others, such as DELETE and LOCK (RFC 4918 9.6.1 and 9.10.3), and PUT
# in Radicale, change a folder with everything in it.
_METHODS_FOR_ONE_PAGE = frozenset({"GET", "HEAD", "POST", "PATCH", "OPTIONS"})
_METHODS_FOR_ONE_PAGE |= {"PROPFIND", "PROPPATCH", "MKCOL", "REPORT", "SEARCH"}  # WebDAV
_REQUESTED_METHOD = "HTTP_ACCESS_CONTROL_REQUEST_METHOD"
_METHOD_PARAMETER = re.compile(r"_method|method[_-]?override", re.IGNORECASE)
_log = logging.getLogger(__name__)


class LoginRequired:
    """Serve *wsgi_app* to signed-in users, and *oauth_app*, which signs them in, below *prefix*.

    An anonymous user is redirected to the sign-in and returns to the same page. A request that is not a browser's
    navigation gets a 401 with a ``login_url`` as JSON. An :class:`errors.NotSignedIn` that *wsgi_app* raises has the
    same effect, and so has its response of status 401 without ``WWW-Authenticate`` to a browser's GET navigation.

    In the ``environ`` of *wsgi_app*, ``REMOTE_USER`` is the stable id of the user (``583231@github``) or another name,
    ``AUTH_TYPE`` is ``OAuth2`` and ``wsgi_oauth.identity`` the :class:`Identity`. All three are absent for anonymous
    users of a public path, even if the client or the server sends them.

    A response to a signed-in user gets ``Vary: Cookie``, and unless it has a ``Cache-Control`` of its own,
    ``private, no-store`` for pages and ``private, no-cache`` for the rest. An ordinary request reads the session once
    and writes nothing.

    :param wsgi_app: any WSGI application. Other middleware belongs around the gate.
    :param oauth_app: the application that ``create_app`` or ``get_app`` returned.
    :param prefix: the path below which *oauth_app* answers; ``WSGI_OAUTH_PUBLIC_URL`` ends with it.
    :param public: paths that need no sign-in: ``/static`` includes everything below it, ``/`` is the front page only,
        and ``/*`` is the whole application except the paths in *allow*. They begin at the gate and are written without
        percent-encoding. Ambiguous paths (``//``, ``..``, ``;``, ``%``, ``?``, ``#``, backslash, invalid UTF-8) are
        never public.
    :param allow: access rules for parts of the application, in addition to ``WSGI_OAUTH_ALLOW``:
        ``{"/admin": ("group:admins",)}``. A user has to match one of the rules of the longest path that includes the
        requested one; ``/`` includes all. The rules also hold for spellings that applications treat as the same path:
        with other letter case, accents or punctuation, with other characters outside ASCII, and with an extension. Such
        a path also requires the rules of shorter paths. An ambiguous path requires the rules of all paths, and so does
        a WebDAV request that moves or copies a page to a path with other rules, and one that moves, copies, locks,
        replaces or deletes a folder with a restricted page.
    :param remote_user: returns the value of ``REMOTE_USER``, a name that belongs to one user only; by default
        ``WSGI_OAUTH_REMOTE_USER`` decides. If it returns None, "" or a control character, the user gets a 403.
    :param cors_preflight: pass the preflight requests of other origins to *wsgi_app*, without an identity. The body of
        the response is dropped, because an application that ignores the method would show its pages to everyone.
    :param sign_out: paths of the application's own sign-out. A successful POST from a page of this site, or a GET
        navigation, also ends the session of the sign-in.
    :param expire_cookies: names of the application's own cookies that a sign-out deletes.
    :param replace_401: False to pass on every response of status 401 unchanged.
    :raises errors.ConfigError: if the public URL does not end with *prefix*, or if an access rule is invalid.
    :raises TypeError: if an argument has another type, such as a string in place of a collection.
    :raises ValueError: if *prefix* or another path is not a plain path.
    """

    def __init__(
        self,
        wsgi_app: WSGIApplication,
        oauth_app: WSGIApplication,
        *,
        prefix: str = "/auth",
        public: Collection[str] = (),
        allow: Mapping[str, Collection[str]] | None = MappingProxyType({}),
        remote_user: Callable[[Identity], str | None] | None = None,
        cors_preflight: bool = False,
        sign_out: Collection[str] = (),
        expire_cookies: Collection[str] = (),
        replace_401: bool = True,
    ) -> None:
        if not isinstance(oauth_app, OAuthApp):
            raise TypeError(
                f"oauth_app: must be the result of create_app or get_app (got {type(oauth_app).__name__}); "
                "put other middleware around the gate"
            )
        if not (remote_user is None or callable(remote_user)):
            remedy = "WSGI_OAUTH_REMOTE_USER selects id, subject, username or email"
            raise TypeError(f"remote_user: must be a function of an Identity (got {remote_user!a:.100}); {remedy}")
        for name, value in (("cors_preflight", cors_preflight), ("replace_401", replace_401)):
            if not isinstance(value, bool):
                raise TypeError(f"{name}: must be True or False (got {value!a:.100})")
        self.oauth_app = oauth_app
        self.prefix = prefix
        self._wsgi_app = wsgi_app
        allow = allow or {}
        self._sign_in = MountedSignIn(oauth_app, prefix, expire_cookies)
        self._paths = PathRules(sign_in=self._sign_in.prefix, public=public, restricted=allow, sign_out=sign_out)
        self.path_rules = {path: oauth_app.oauth.add_rules(rules, f"allow[{path!r}]") for path, rules in allow.items()}
        self.cors_preflight = cors_preflight
        self.sign_out = tuple(sign_out)
        self.expire_cookies = tuple(expire_cookies)
        self.replace_401 = replace_401
        self.authenticator = Authenticator(oauth_app, remote_user)
        self._is_restricted = oauth_app.oauth.is_restricted
        self._metrics = oauth_app.metrics

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        script_name, path = environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")
        is_for_folder = environ["REQUEST_METHOD"] not in _METHODS_FOR_ONE_PAGE
        is_ambiguous = is_for_folder and self._paths.may_differ_below(script_name, path)
        if not _SUSPICIOUS_KEYS.isdisjoint(environ) or _IDENTITY_PREFIX in "".join(environ):
            is_ambiguous = is_ambiguous or may_change_path(environ) or self._has_other_destination(environ)
            environ = {**environ}
            remove_identity(environ)
        is_sign_in, is_public, restricted, signs_out = self._paths.find(script_name, path, is_ambiguous)
        if is_sign_in:
            return self._sign_in(environ, start_response)
        context = RequestContext(self._sign_in, self.authenticator, environ)
        if self.cors_preflight and is_preflight(environ):
            passed = self.authenticator.application_environ(environ, None)
            passed[CONTEXT_KEY] = context
            passed["wsgi.input"] = BytesIO()  # with HTTP/2, no header shows that there is a body
            try:
                return send_preflight_response(self._wsgi_app, passed, start_response)
            except errors.NotSignedIn as error:  # the application requires a user
                return context.send_error(error, start_response)
        try:
            if is_public:
                self._identify_optional(environ, context)
            else:
                self._require_user(environ, context, restricted, is_ambiguous)
            signs_out = signs_out and context.may_sign_out
        except errors.Error as error:
            if self._metrics is not None:
                self._metrics.count_decision("gate", error)
            return context.send_error(error, start_response)
        if self._metrics is not None:
            self._metrics.count_decision("gate", "public" if is_public else "admitted")
        passed = self.authenticator.application_environ(environ, context.login)
        passed[CONTEXT_KEY] = context
        return GuardedResponse(context, start_response, self.replace_401, signs_out).send(self._wsgi_app, passed)

    def _has_other_destination(self, environ: WSGIEnvironment) -> bool:
        """Return whether a WebDAV request would copy or move a page to a path with other rules (RFC 4918 10.3).

        The page may be a folder. Its contents are copied, too, and those of a folder at the destination are deleted.
        """
        if _DESTINATION not in environ:
            return False
        header, script_name = environ[_DESTINATION], environ.get("SCRIPT_NAME", "")
        destination = unquote(_ORIGIN.sub("", header), "latin-1")
        if destination != _ORIGIN.sub("", unquote(header, "latin-1")):  # some applications decode the URL first
            return True
        prefixes = {name: environ[name] for name in (_PREFIX_HEADERS - _WHOLE_PATH_HEADERS).intersection(environ)}
        if may_change_path({**prefixes, "PATH_INFO": destination}):  # Radicale removes X-Script-Name
            return True
        paths = (environ.get("PATH_INFO", ""), destination.removeprefix(script_name))
        if any(self._paths.may_differ_below(script_name, path) for path in paths):
            return True
        source, target = (self._paths.find(script_name, path) for path in paths)
        return source != target

    def check_store_access(self) -> None:
        """Raise ConfigError if this process, after a change of its user, cannot use the session store."""
        self.oauth_app.check_store_access()

    def _require_user(
        self, environ: WSGIEnvironment, context: RequestContext, restricted_paths: Collection[str], is_ambiguous: bool
    ) -> None:
        """Require an authenticated and authorized user.

        :param restricted_paths: the paths with access rules that the user has to satisfy.
        :param is_ambiguous: whether these are all paths, because of the method or a header.
        """
        login = context.login = self.authenticator.authenticate(environ, context.get_source)
        if login is None:
            self._sign_in.check_path(context.path)
            self.oauth_app.check_memory_store(environ)
            raise errors.NotSignedIn("the gate requires a signed-in user")
        if login.must_identify:
            login = context.login = self.authenticator.identify(login, context.session)
        if self._is_restricted or not login.environ:
            self.authenticator.check_access(login)
        try:
            for path in restricted_paths:
                self.authenticator.check_access(login, self.path_rules[path])
        except errors.NotAllowed as error:
            if spelling.decode(environ.get("SCRIPT_NAME", ""), context.path) is None:
                error.remedy = "the path is ambiguous, so the rules of all paths apply to it"
            elif is_ambiguous:
                error.remedy = "the method or a header may select pages of other paths, so the rules of all paths apply"
            raise

    def _identify_optional(self, environ: WSGIEnvironment, context: RequestContext) -> None:
        """Identify the user of a public path. Users without access count as anonymous.

        Failures of the store and the provider are only logged, because a public page needs neither.
        """
        try:
            login = context.login = self.authenticator.authenticate(environ, context.get_source)
            if login is not None and login.must_identify and (login.identity or context.is_navigation):
                login = context.login = self.authenticator.identify(login, context.session)
            if login is not None and (self._is_restricted or (login.identity and not login.environ)):
                self.authenticator.check_access(login)
        except errors.NotAllowed:
            context.forget_user()
        except errors.Error as error:
            _log.warning("public page: the user is unknown: %s: %s", error.cause, error)
            if self._is_restricted or isinstance(error, errors.NotSignedIn):
                context.forget_user()


def remove_identity(environ: WSGIEnvironment) -> None:
    """Remove the keys that name a user from *environ*. They come from the client, or from a server in front."""
    for name in IDENTITY_KEYS.intersection(environ):
        del environ[name]
    for name in [name for name in environ if name.startswith(_IDENTITY_PREFIX)]:
        del environ[name]


def is_preflight(environ: WSGIEnvironment) -> bool:
    """Return whether a browser asks if another origin may send a request (CORS preflight, Fetch standard 4.8).

    A preflight has no body. Headers and parameters that could change the method, such as X-HTTP-Method-Override and
    `_method`, are not accepted, because the application would otherwise perform an anonymous request of that method.
    """
    return (
        environ["REQUEST_METHOD"] == "OPTIONS"
        and "HTTP_ORIGIN" in environ
        and environ.get("CONTENT_LENGTH") in {None, "", "0"}
        and "HTTP_TRANSFER_ENCODING" not in environ
        and _METHOD_PARAMETER.search(unquote(environ.get("QUERY_STRING", ""), "latin-1")) is None
        and [name for name in environ if "METHOD" in name and name.startswith("HTTP_")] == [_REQUESTED_METHOD]
    )


def may_change_path(environ: WSGIEnvironment) -> bool:
    """Return whether an application that obeys a header of the request could read another path.

    Many applications behind a proxy do so: they remove a prefix from the path (klaus, devpi, and the middleware
    ReverseProxied in numerous versions), prepend one (Pyramid) or replace the path. Any client can send these headers.
    Some applications read a prefix from X-Forwarded-Path, and others the whole path.
    """
    path = environ.get("PATH_INFO", "")
    for name in _PATH_HEADERS.intersection(environ):
        value = environ[name].strip()
        if name == _URL_HEADER:
            try:
                value = urlparse(value).path
            except ValueError:
                return True
        elif name == _ORIGINAL_HEADER:
            value = value.replace(path, "")
        changes = False
        if name in _PREFIX_HEADERS or name in {_URL_HEADER, _ORIGINAL_HEADER}:
            # Some applications remove the prefix everywhere in the path, or remove the first of several prefixes.
            prefixes = unquote(value, "latin-1").split(",")
            changes = bool(value) and any(prefix.strip(" /") in path for prefix in prefixes)
        elif name == _ROOT_HEADER:
            changes = bool(value.strip("/"))
        if name in _WHOLE_PATH_HEADERS:
            named_path = unquote(value.partition("?")[0], "latin-1")
            changes = changes or named_path not in {"", path, environ.get("SCRIPT_NAME", "") + path}
        if changes:
            return True
    return False
