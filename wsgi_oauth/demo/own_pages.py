"""The demo's own pages: the application's layout and style sheet, with templates of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from werkzeug.wrappers import Response

from ..web.page_templates import PageTemplates
from ..web.pages import security_headers

_FOLDER = Path(__file__).parent / "templates"

_templates = PageTemplates(str(_FOLDER))
_HEADERS = security_headers(_templates)
_POLICY = "Content-Security-Policy"


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
