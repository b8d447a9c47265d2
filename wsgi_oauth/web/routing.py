"""The table of handlers, on Werkzeug's routing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from werkzeug import Response
from werkzeug.routing import Map, MapAdapter, Rule

from .handler import RequestHandler
from .request import Request


class Routes:
    """Finds the handler of a request, and builds the path of a handler.

    :param handlers: pairs of a route and a handler class.
    :raises ValueError: if two handlers have the same name or answer the same method of a route, or a route is invalid.
    """

    def __init__(self, handlers: Iterable[tuple[str, type[RequestHandler]]]) -> None:
        self._handlers: dict[str, type[RequestHandler]] = {}
        self._methods: defaultdict[str, set[str]] = defaultdict(set)  # the answered methods of each route
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
            rules.append((route, name, methods))
        # OPTIONS has one answer for each route, unless a handler has its own.
        self._adapter = _compile(
            tuple((route, name, frozenset(own | ({"OPTIONS"} - self._methods[route]))) for route, name, own in rules)
        )
        self._fixed_paths = {name: self._adapter.build(name) for route, name, _ in rules if "<" not in route}

    def match(self, request: Request) -> tuple[type[RequestHandler], dict[str, Any]]:
        """Return the handler class of *request* and the variables of its route, or raise a 404 or 405."""
        rule, arguments = self._adapter.match(request.path, request.method, return_rule=True)
        if request.method == "OPTIONS" and "OPTIONS" not in self._methods[rule.rule]:
            allowed = ", ".join(sorted(self._methods[rule.rule] | {"OPTIONS"}))
            return _ProbeOptions if self._handlers[rule.endpoint].any_host else _Options, {"allowed": allowed}
        return self._handlers[rule.endpoint], dict(arguments)

    def handler(self, name: str) -> type[RequestHandler]:
        return self._handlers[name]

    def build_path(self, endpoint: str, values: dict[str, Any]) -> str:
        """Return the path of a handler, below the mount point. Raise BuildError if there is no such handler."""
        if endpoint in self._fixed_paths and not values:  # built once, because each start of a sign-in needs two
            return self._fixed_paths[endpoint]
        return self._adapter.build(endpoint, values)


@lru_cache(maxsize=16)
def _compile(rules: tuple[tuple[str, str, frozenset[str]], ...]) -> MapAdapter:
    """Compile *rules*: routes, endpoints and methods. Applications with the same rules share the result."""
    # The cache is for tests, which create many applications: compiling takes nine tenths of create_app.
    # Redirects for slashes are off, because their target would contain a host name that the client chose.
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
    """Answers OPTIONS for probes: under any host name, because load balancers send the server's address as the host."""

    any_host = True
