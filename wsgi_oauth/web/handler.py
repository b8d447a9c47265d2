"""The tutorial's imaginary framework, made real: ``RequestHandler``, a ``route``, and a table of them on
Werkzeug's routing.

::

    class Repos(RequestHandler):
        route = "/repos"

        def get(self, request):
            github = self.oauth2_session(token=request.session["oauth_token"])
            return self.jsonify(github.get_json("https://api.github.com/user/repos", of=list))
"""

from __future__ import annotations

import io
import json
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import IO, TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

import werkzeug
from werkzeug.datastructures import ImmutableMultiDict, MultiDict
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from .. import errors
from ..sessions.session import TOKEN, Session
from ..urls import Origin, path_and_query
from .lazy import cached_property

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.datastructures import Headers
    from werkzeug.routing import MapAdapter

    from ..app import OAuthApp
    from ..oauth.client import OAuth2Session
    from ..oauth.identity import Identity
    from ..oauth.provider import Provider
    from ..oauth.registration import Registration

MAX_BODY = 64 * 1024  # bytes; the flow itself reads no body at all
_PURPOSES = ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_MOZ", "HTTP_X_PURPOSE")
_PAGES = {"document", "iframe", "frame", "empty"}  # Sec-Fetch-Dest of what a script or a person may have asked for
_OURS = {"same-origin", "none"}  # Sec-Fetch-Site of what a page of this site, or no page at all, has asked for
_WITHOUT_BODY = {204, 304}  # RFC 9110 6.4.1
_VISIBLE = re.compile(r"[\x21-\x7e]*")  # RFC 5234, VCHAR
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")


class _NoArgs(ImmutableMultiDict[str, str]):
    """No parameters; Werkzeug would make an exception for each that is looked for, and drop it."""

    def get(self, key: str, default: Any = None, type: Any = None) -> Any:  # type: ignore[override]  # noqa: A002
        return default


_NO_ARGS = _NoArgs()


class Response(werkzeug.Response):
    """Werkzeug's response, for bodies that are complete and headers that are ready to be sent."""

    default_mimetype = "text/plain"

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        """Leave out what Werkzeug does here for other responses, a Location of unknown syntax above all."""
        if self.status_code in _WITHOUT_BODY:
            self.headers.remove("Content-Type")
            self.headers.remove("Content-Length")
        elif "content-length" not in {name.lower() for name, _ in self.headers} and self.is_sequence:
            self.headers.add("Content-Length", str(sum(map(len, self.iter_encoded()))) if self.response else "0")
        return self.headers

    def get_app_iter(self, environ: WSGIEnvironment) -> Iterable[bytes]:
        """Return the body as it is, or none, where nothing has to be closed."""
        if self.response == [] and not self._on_close:
            return []  # whatever was asked for; most redirects
        as_it_is = self.is_sequence and not self._on_close
        if as_it_is and environ["REQUEST_METHOD"] != "HEAD" and self.status_code not in _WITHOUT_BODY:
            return list(self.iter_encoded())
        return super().get_app_iter(environ)


class Request(werkzeug.Request):
    """Werkzeug's request, with the ``session`` of the browser that sent it."""

    max_content_length = MAX_BODY
    max_form_memory_size = MAX_BODY

    #: The URL of the mount point as the browser sees it, without a slash at the end; empty until the host is
    #: known to be ours.
    base: str = ""
    #: Where a sign-in that this request is about should lead in the end; a path of this site.
    next_url: str = ""
    #: How to open the session; set by the application.
    open_session: Callable[[Request], Session]

    @cached_property
    def args(self) -> MultiDict[str, str]:
        """The query's parameters; Werkzeug would take its time to find none, and fails on bytes that are not UTF-8."""
        try:
            return super().args if self.environ.get("QUERY_STRING") else _NO_ARGS
        except UnicodeDecodeError:
            raise errors.UserError("the query is not UTF-8") from None

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body. One that ends by itself (chunked) is read here: Werkzeug would cut it at the limit, and go on, and
        take what a client has not sent to its end for all of it.
        """
        if not self.environ.get("wsgi.input_terminated"):
            return super().stream
        body = b""
        try:
            while part := self.environ["wsgi.input"].read(MAX_BODY + 1 - len(body)):
                body += part
                if len(body) > MAX_BODY:
                    raise RequestEntityTooLarge
        except OSError:  # what servers say of chunks that are none, with the chunk in it
            raise ClientDisconnected from None
        if len(body) < (self.content_length or 0):
            raise ClientDisconnected
        return io.BytesIO(body)

    @cached_property
    def session(self) -> Session:
        """What is remembered about this browser. A request that never asks for it never reads or writes one."""
        return self.open_session(self)

    @cached_property
    def asked_for(self) -> str:
        """Path and query as they stand in the browser's address bar, mount prefix included."""
        return path_and_query(self.base, self.environ.get("PATH_INFO", ""), self.environ.get("QUERY_STRING", ""))

    @property
    def page(self) -> str:
        """Path and query of the page that a person is on: this one, or what has sent a form."""
        if self.method in {"GET", "HEAD"}:
            return self.asked_for
        came_from = self.headers.get("Referer", "")
        return urlsplit(came_from)._replace(scheme="", netloc="").geturl() if self._is_ours(came_from) else ""

    @cached_property
    def id(self) -> str:
        """A random id for the log and for the people who ask about an error."""
        return secrets.token_hex(8)

    @property
    def is_secure_site(self) -> bool:
        """Whether browsers reach this site over https, whatever the proxy in front speaks to us."""
        return self.base.startswith("https:")

    @property
    def is_navigation(self) -> bool:
        """Whether a person waits for a page, and not a script or an image tag for data (Fetch Metadata, W3C)."""
        mode = self.headers.get("Sec-Fetch-Mode")
        if mode is not None and mode != "navigate":
            return False
        return "text/html" in self.headers.get("Accept", "") and "X-Requested-With" not in self.headers

    @property
    def is_ahead_of_time(self) -> bool:
        """Whether a browser prefetches, or fetches a part of some other page: an image cannot sign in, nor can what
        a script or a frame of another site asks for.
        """
        environ = self.environ
        destination = environ.get("HTTP_SEC_FETCH_DEST", "document")
        if destination not in _PAGES:
            return True
        if destination != "document" and environ.get("HTTP_SEC_FETCH_SITE", "none") not in _OURS:
            return True
        if environ.keys().isdisjoint(_PURPOSES):
            return False
        purposes = " ".join([environ.get(name, "") for name in _PURPOSES]).lower()
        return "prefetch" in purposes or "preview" in purposes

    @property
    def is_same_origin(self) -> bool:
        """Whether a page of this site sent this, or no browser did.

        Every browser says so with a POST, in one of these headers; who sends none has no cookie that somebody
        else could abuse.
        """
        site = self.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site in _OURS
        source = self.headers.get("Origin") or self.headers.get("Referer")
        return source is None or self._is_ours(source)

    def _is_ours(self, url: str) -> bool:
        """Whether *url*, or an origin, is of this site."""
        try:
            return Origin.of(url) == Origin.of(self.base)
        except ValueError:
            return False


class RequestHandler:
    """Answers one request. Subclass it, give it a ``route``, and write ``get(self, request)``, ``post`` and so on.

    A handler is made for each request, so what it keeps on ``self`` is that request's alone.
    """

    #: Where it answers, below the mount point; Werkzeug's rule syntax: ``/repos/<owner>`` calls
    #: ``get(request, owner=...)``.
    route: ClassVar[str]
    #: The name for ``url_for``; without it, the class's name in lower case.
    endpoint: ClassVar[str] = ""
    #: Whether even a GET has consequences. Then HEAD is answered without calling it, and a prefetch is refused.
    get_has_consequences: ClassVar[bool] = False
    #: Whether also those may come who have signed in and may not enter: see ``WSGI_OAUTH_ALLOW``.
    open_to_everyone: ClassVar[bool] = False
    #: Whether all it does is of no use without the provider. Then it is not begun when as many as may wait for that.
    needs_provider: ClassVar[bool] = False
    #: Whether it answers under any host name, as a load balancer's probe needs it. Then it has no URLs of
    #: its own and no session.
    any_host: ClassVar[bool] = False

    def __init__(self, app: OAuthApp, request: Request) -> None:
        self.app = app
        self.request = request
        self.config = app.config

    @cached_property
    def registration(self) -> Registration:
        """How this application is registered with the provider that this request is about: the session's, unless the
        request itself says which.
        """
        return self.app.registration(self.request.session)

    @cached_property
    def provider(self) -> Provider:
        """The provider that this request is about, with its endpoints; whoever sets ``registration`` sets this, too."""
        return self.registration.provider

    @cached_property
    def identity(self) -> Identity:
        """Who is signed in. The provider is asked the first time, and what it says is remembered.

        :raises errors.NotSignedIn: when nobody is, which sends a person to sign in and back here.
        :raises errors.ProviderError: when the provider does not say who it is.
        """
        return self.app.identify(self.request.session)

    @classmethod
    def name(cls) -> str:
        return cls.endpoint or cls.__name__.lower()

    @classmethod
    def methods(cls) -> set[str]:
        """Return what it answers; HEAD comes with ``get`` (RFC 9110 9.3.2)."""
        written = {method.upper() for method in METHODS if hasattr(cls, method)}
        return written | ({"HEAD"} if "GET" in written else set())

    def answer(self, **arguments: Any) -> werkzeug.Response:
        """Call the method that the request names."""
        request, method = self.request, self.request.method.lower()
        if self.get_has_consequences and method in {"get", "head"}:
            if request.is_ahead_of_time:
                raise errors.NotNow("a prefetch or a sub-resource")
            if method == "head":
                return Response()
        if method == "head" and not hasattr(self, "head"):
            method = "get"
        if method == "options" and not hasattr(self, "options"):
            return Response(status=204, headers={"Allow": ", ".join(self.app.routes.methods(self.route))})
        with self.slot(**arguments) if self.needs_provider else nullcontext():
            response = getattr(self, method)(request, **arguments)
        if not isinstance(response, werkzeug.Response):
            raise TypeError(
                f"{type(self).__name__}.{method} must return a Response; self.redirect and self.jsonify make one"
            )
        return response

    def slot(self, **_arguments: Any) -> AbstractContextManager[None]:
        """Hold one of the places for those who wait for the provider. Raise ProviderBusy when all are taken."""
        return self.registration.slot()

    def redirect(self, location: str, code: int = 302) -> werkzeug.Response:
        """Send the browser to *location*; what no URL can hold is percent-encoded, and all else used as it is."""
        if not _VISIBLE.fullmatch(location):
            location = quote(location, safe="!#$%&'()*+,/:;=?@[]~")
        response = Response(status=code, content_type="text/plain")
        response.headers.add("Location", location)
        return response

    def jsonify(self, document: Any) -> werkzeug.Response:
        """Answer with *document* as JSON."""
        return Response(json.dumps(document, allow_nan=False) + "\n", mimetype="application/json")

    def url_for(self, endpoint: str, *, external: bool = False, **values: Any) -> str:
        """Return the path of a handler by its name, mount prefix included: ``self.url_for(".profile")``;
        *external*: the whole URL.
        """
        url = self.request.base + self.app.routes.path(endpoint.removeprefix("."), values)
        return url if external else url[url.index("/", len("https://")) :]

    def oauth2_session(self, *, token: dict[str, Any] | None = None, redirect_uri: str | None = None) -> OAuth2Session:
        """Return a client for the provider's API: with *token*, else with that of the signed-in user, if
        there is one. The user's own is refreshed when it has expired.
        """
        if redirect_uri is not None:
            return self.registration.oauth2_session(token=token, redirect_uri=redirect_uri)
        session = self.request.session
        own = session.get(TOKEN)
        if token is None or token == own:
            return self.registration.oauth2_session(token=own, session=session)
        return self.registration.oauth2_session(token=token)


class Routes:
    """Which handler answers where. Raises Werkzeug's NotFound and MethodNotAllowed."""

    def __init__(self, handlers: Iterable[type[RequestHandler]]) -> None:
        self._handlers: dict[str, type[RequestHandler]] = {}
        self._methods: defaultdict[str, dict[str, type[RequestHandler]]] = defaultdict(dict)  # who answers, by route
        for handler in handlers:
            if not handler.route.startswith("/"):
                raise ValueError(f"{handler.__qualname__}: a route begins with a slash, {handler.route!a} does not")
            methods, taken = handler.methods(), self._methods[handler.route]
            if handler.name() in self._handlers or methods & taken.keys():
                raise ValueError(
                    f"{handler.__qualname__}: another handler has this name or this route; set `endpoint` or `route`"
                )
            self._handlers[handler.name()] = handler
            taken |= dict.fromkeys(methods, handler)
        for handler in self._handlers.values():  # where none has written it, any can say what all of them answer
            self._methods[handler.route].setdefault("OPTIONS", handler)
        # Most routes are plain paths, for which a look into a dictionary is enough.
        self._plain = {
            (method, route): handler
            for route, methods_of_it in self._methods.items()
            if "<" not in route
            for method, handler in methods_of_it.items()
        }
        self._paths = {name: handler.route for name, handler in self._handlers.items() if "<" not in handler.route}
        self._adapter: MapAdapter | None = None  # holds nothing of a request
        if len(self._paths) < len(self._handlers):
            self._routing()  # so that a route that is none is refused now

    def _routing(self) -> MapAdapter:
        """Return Werkzeug's routing, for routes with variables, and for what is no route at all."""
        if self._adapter is None:
            # A tenth of a start, which most applications can do without until somebody mistypes a path.
            from werkzeug.routing import Map, Rule  # noqa: PLC0415

            rules = [
                Rule(handler.route, endpoint=name, methods=self._methods_of(handler))
                for name, handler in self._handlers.items()
            ]
            # No redirects for slashes: they would lead to a place that the client chose.
            routes = Map(rules, merge_slashes=False, strict_slashes=False, redirect_defaults=False)
            self._adapter = routes.bind("", "/")
        return self._adapter

    def match(self, request: Request) -> tuple[type[RequestHandler], dict[str, Any]]:
        if "CONTENT_LENGTH" in request.environ and (request.content_length or 0) > MAX_BODY:
            raise RequestEntityTooLarge
        plain = self._plain.get((request.method, request.path))
        if plain is not None:
            return plain, {}
        endpoint, arguments = self._routing().match(request.path, request.method)
        return self._handlers[endpoint], dict(arguments)

    def _methods_of(self, handler: type[RequestHandler]) -> list[str]:
        return [method for method, answers in self._methods[handler.route].items() if answers is handler]

    def methods(self, route: str) -> list[str]:
        """Return the methods that are answered at *route*, a handler's."""
        return sorted(self._methods[route])

    def path(self, endpoint: str, values: dict[str, Any]) -> str:
        """Return the path of the handler of that name. Raise Werkzeug's BuildError when there is none."""
        if not values and endpoint in self._paths:
            return self._paths[endpoint]
        return self._routing().build(endpoint, values)
