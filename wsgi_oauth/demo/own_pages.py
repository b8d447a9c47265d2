"""The demo's own pages: the application's layout and style sheet, with templates of the demo.

They must be reachable under loopback host names only (DNS rebinding).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map
from werkzeug.wrappers import Request, Response

from ..web.page_templates import PageTemplates
from ..web.pages import security_headers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FOLDER = Path(__file__).parent / "templates"

_templates = PageTemplates(str(FOLDER))
_HEADERS = security_headers(_templates)
_POLICY = "Content-Security-Policy"


class Pages:
    """A WSGI application. The endpoints of its routes are the names of its methods."""

    routes: Map

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            endpoint, values = self.routes.bind_to_environ(environ).match()
            response: Response = getattr(self, endpoint)(Request(environ), **values)
        except HTTPException as error:
            response = render("problem.html", status=error.code or 500, title=error.name, text=error.description)
            response.allow.update(getattr(error, "valid_methods", None) or ())
        return response(environ, start_response)


def render(template: str, *, status: int = 200, has_script: bool = False, **variables: Any) -> Response:
    """Return a page of the demo.

    :param template: the file name in ``demo/templates``.
    :param has_script: whether the page uses a script of this server.
    """
    common = {"name": "wsgi_oauth demo", "monogram": "W", "language": "en", "actions": ()}
    html = _templates.render_own(template, common | variables)
    headers = _HEADERS
    if has_script:
        headers = {**_HEADERS, _POLICY: f"{_HEADERS[_POLICY]}; script-src 'self'; connect-src 'self'"}
    return Response(html, status, headers, mimetype="text/html")
