"""The HTML pages of the local provider: sign-in page, consent page, home page and error pages.

They share the layout and the style sheet of the application's pages, but have a name and a colour of their own, because
learners have to see at which party they are. They need no script, no image and nothing from other hosts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from werkzeug.wrappers import Response

from ..web.page_templates import PageTemplates, hash_style
from .explanations import AUTHORIZATION_REQUEST
from .users import find_scope

_templates = PageTemplates(str(Path(__file__).parent / "templates" / "provider"))

HEADERS = {
    "Cache-Control": "no-store",
    # No form-action, because browsers would apply it to the redirect to the application too.
    "Content-Security-Policy": f"default-src 'none'; style-src {hash_style(_templates.style)}; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # because the URL of the consent page contains the state
    "X-Content-Type-Options": "nosniff",
}


class Release(NamedTuple):
    """The data that a scope releases, for the consent page."""

    scope: str
    description: str
    claims: Mapping[str, str]
    is_optional: bool


def render(
    template: str, *, status: int = 200, parameters: Mapping[str, str] = MappingProxyType({}), **variables: Any
) -> Response:
    """Return a page. Its forms without an action are submitted to the URL of the page itself.

    :param template: the file name in ``demo/templates/provider``.
    :param parameters: the parameters of the authorization request, to be shown with explanations.
    """
    common = {"language": "en", "parameters": parameters, "explanations": AUTHORIZATION_REQUEST}
    html = _templates.render_own(template, common | variables)
    return Response(html, status, HEADERS, content_type="text/html; charset=utf-8")


def list_releases(scopes: Iterable[str], claims: Mapping[str, object]) -> Iterator[Release]:
    """Yield the data by scope. Data that belong to no scope, such as the user's number, come first."""
    by_name = {name: find_scope(name) for name in scopes}
    covered = {claim for scope in by_name.values() for claim in scope.claims}
    always = {name: _as_text(value) for name, value in claims.items() if name not in covered}
    yield Release("", find_scope("openid").description, always, is_optional=False)
    for name, scope in by_name.items():
        if name != "openid":
            released = {claim: _as_text(claims[claim]) for claim in scope.claims if claim in claims}
            yield Release(name, scope.description, released, scope.is_optional)


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value) or "none"
    return value if isinstance(value, str) else json.dumps(value)
