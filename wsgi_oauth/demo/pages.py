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


def render(template: str, *, status: int = 200, **variables: Any) -> Response:
    """Return a page of the demo. It needs no script.

    :param template: the file name in ``demo/templates``.
    """
    html = _templates.render_own(template, {"name": "wsgi_oauth demo", "language": "en", "actions": (), **variables})
    return Response(html, status, _HEADERS, mimetype="text/html")
