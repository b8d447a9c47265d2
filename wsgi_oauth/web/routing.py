"""The table of handlers. Werkzeug's routing matches the routes with variables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from werkzeug import Response
from werkzeug.exceptions import MethodNotAllowed, NotFound

from .handler import RequestHandler
from .request import Request

if TYPE_CHECKING:
    from werkzeug.routing import MapAdapter

_PATH_CHARACTERS = "!$&'()*+,/:;=@"  # allowed in a path without percent-encoding (RFC 3986 3.3)


class Routes:
    """Finds the handler of a request, and builds the path of a handler.

    :param handlers: pairs of a route and a handler class.
    :raises ValueError: if two handlers have the same name or answer the same method of the same route, or if a route
        is invalid.
    """

    def __init__(self, handlers: Iterable[tuple[str, type[RequestHandler]]]) -> None:
        self._handlers: dict[str, type[RequestHandler]] = {}
        self._methods: defaultdict[str, set[str]] = defaultdict(set)  # the answered methods of each route
        self._any_host: set[str] = set()  # the routes that are answered under every host name
        # The results of `match` for routes without variables, by route and method.
        self._static: dict[tuple[str, str], tuple[type[RequestHandler], dict[str, Any]]] = {}
        self._paths: dict[str, str] = {}  # of the same handlers, by name
        rules = []
        for route, handler in handlers:
            name, methods = handler.name(), handler.methods()
            if not route.startswith("/"):
                raise ValueError(f"{handler.__qualname__}.route: must begin with a slash (got {route!a})")
            if name in self._handlers or methods & self._methods[route]:
                raise ValueError(
                    f"{handler.__qualname__}: another handler has this name or this route; set `endpoint` or `route`"
                )
            self._handlers[name] = handler
            self._methods[route] |= methods
            if "<" not in route:
                self._static |= {(route, method): (handler, {}) for method in methods}
                self._paths[name] = quote(route, safe=_PATH_CHARACTERS)
            if handler.any_host:
                self._any_host.add(route)
            rules.append((route, name, methods))
        # OPTIONS has one answer for each route, unless a handler has its own.
        for route in {route for route, _ in self._static}:
            self._static.setdefault((route, "OPTIONS"), self._match_options(route))
        self._adapter = None
        if len(self._paths) < len(rules):
            self._adapter = _compile(
                (route, name, own | ({"OPTIONS"} - self._methods[route])) for route, name, own in rules
            )

    def match(self, request: Request) -> tuple[type[RequestHandler], dict[str, Any]]:
        """Return the handler class of *request* and the variables of its route, or raise a 404 or 405."""
        path, method = request.path, request.method
        if (path, method) in self._static:
            return self._static[path, method]
        if self._adapter:
            rule, arguments = self._adapter.match(path, method, return_rule=True)
            if method == "OPTIONS" and "OPTIONS" not in self._methods[rule.rule]:
                return self._match_options(rule.rule)
            return self._handlers[rule.endpoint], dict(arguments)
        other = path.removesuffix("/") if path.endswith("/") else f"{path}/"  # the same route, as below
        if (other, method) in self._static:
            return self._static[other, method]
        if allowed := {each for route, each in self._static if route in {path, other}}:
            raise MethodNotAllowed(sorted(allowed))
        raise NotFound

    def _match_options(self, route: str) -> tuple[type[RequestHandler], dict[str, Any]]:
        allowed = ", ".join(sorted(self._methods[route] | {"OPTIONS"}))
        return _ProbeOptions if route in self._any_host else _Options, {"allowed": allowed}

    def handler(self, name: str) -> type[RequestHandler]:
        """Return the handler class with this name."""
        return self._handlers[name]

    def build_path(self, endpoint: str, values: dict[str, Any]) -> str:
        """Return the path of a handler, below the mount point, with *values* that are no variables as the query.

        :raises LookupError: if there is no such handler.
        """
        if endpoint in self._paths:
            query = urlencode({name: value for name, value in values.items() if value is not None}, doseq=True)
            return self._paths[endpoint] + (f"?{query}" if query else "")
        if not self._adapter:
            raise LookupError(f"url_for: no handler has the name {endpoint!a}; use {', '.join(sorted(self._paths))}")
        return self._adapter.build(endpoint, values)


def _compile(rules: Iterable[tuple[str, str, set[str]]]) -> MapAdapter:
    """Compile *rules*: routes, endpoints and methods."""
    # Imported only for routes with variables, because it takes a quarter of the time of importing this package.
    from werkzeug.routing import Map, Rule  # noqa: PLC0415

    # Without redirects for slashes, because their target would contain a host name that the client chose.
    routes = Map(
        [Rule(route, endpoint=endpoint, methods=methods) for route, endpoint, methods in rules],
        merge_slashes=False,
        strict_slashes=False,
        redirect_defaults=False,
    )
    routes.update()  # now, because several request threads must not sort the rules at the same time
    return routes.bind("", "/")


class _Options(RequestHandler):
    """Answers OPTIONS with the methods of a route (RFC 9110 9.3.7)."""

    skips_access_check = True

    def options(self, request: Request, allowed: str) -> Response:
        response = Response(status=204, headers={"Allow": allowed})
        del response.headers["Content-Type"]  # it would describe a body (RFC 9110 15.3.5)
        return response


class _ProbeOptions(_Options):
    """The same for a probe under any host name, because load balancers send the server's address as the host."""

    any_host = True
