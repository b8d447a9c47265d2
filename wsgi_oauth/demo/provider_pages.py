"""The HTML pages of the local provider: sign-in page, consent page, home page and error pages.

They share the layout and the style sheet of the application's pages, but have a name and a colour of their own, because
learners have to see at which party they are. They need no script, no image and nothing from other hosts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from ..web.page_templates import PageTemplates, hash_style
from .explanations import AUTHORIZATION_REQUEST
from .fault_stories import FaultStory
from .users import SCOPES, User, is_optional

_templates = PageTemplates(str(Path(__file__).parent / "templates" / "provider"))

HEADERS = {
    "Cache-Control": "no-store",
    # No form-action, because browsers would apply it to the redirect to the application too.
    "Content-Security-Policy": f"default-src 'none'; style-src {hash_style(_templates.style)}; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # because the URL of the consent page contains the state
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Release:
    """The data that a scope releases, for the consent page."""

    scope: str
    description: str
    claims: Mapping[str, str]
    is_optional: bool


def sign_in_page(*, provider: str, client: str, users: Sequence[User], parameters: Mapping[str, str]) -> Response:
    """Return the page on which the user chooses who they are. Its form is submitted to the URL of the page itself."""
    return _render(
        "sign_in.html",
        provider,
        "Sign in",
        client=client,
        users=users,
        hint=parameters.get("login_hint", ""),
        parameters=_explain(parameters),
    )


def consent_page(
    *,
    provider: str,
    client: str,
    user: User,
    is_remembered: bool,
    scopes: Iterable[str],
    claims: Mapping[str, object],
    redirect_uri: str,
    parameters: MultiDict[str, str],
    stories: Sequence[FaultStory],
    story: FaultStory | None,
) -> Response:
    """Return the consent page. Its form is submitted to the URL of the page itself.

    :param is_remembered: whether the user is signed in with a session, and can choose another account.
    :param claims: all data that the client would receive.
    :param story: the fault for this sign-in.
    """
    other = MultiDict((name, value) for name, value in parameters.items(multi=True) if name != "prompt")
    other["prompt"] = "select_account"
    return _render(
        "consent.html",
        provider,
        f"{client} would like to sign you in",
        client=client,
        user=user,
        is_remembered=is_remembered,
        releases=list(_releases(scopes, claims)),
        redirect_uri=redirect_uri,
        other_account=f"?{urlencode(list(other.items(multi=True)))}",
        stories=stories,
        story=story,
        parameters=_explain(parameters),
    )


def home_page(
    *,
    provider: str,
    url: str,
    client: str,
    links: Mapping[str, str],
    users: Sequence[User],
    user: User | None,
    endpoints: Mapping[str, str],
    stories: Sequence[FaultStory],
    next_fault: str,
) -> Response:
    """Return the home page: the purpose of the provider, its users and the faults.

    :param user: the user who is signed in at the provider.
    :param next_fault: the name of the fault for the next sign-in.
    """
    return _render(
        "home.html",
        provider,
        "A provider for learning",
        url=url,
        client=client,
        links=links,
        users=users,
        user=user,
        endpoints=endpoints,
        stories=stories,
        next_fault=next_fault,
    )


def sign_out_page(*, provider: str, client: str) -> Response:
    """Return the page that asks whether the user wants to sign out at the provider, too."""
    return _render("sign_out.html", provider, "Sign out here, too?", client=client)


def error_page(*, provider: str, title: str, reason: str, is_request_invalid: bool) -> Response:
    """Return the page for a request that must not be answered with a redirect to the application.

    :param is_request_invalid: whether the authorization request itself is invalid, so that no redirect URI is safe.
    """
    return _render("error.html", provider, title, status=400, reason=reason, is_request_invalid=is_request_invalid)


def _releases(scopes: Iterable[str], claims: Mapping[str, object]) -> Iterator[Release]:
    """Return the data by scope. Data that belong to no scope, such as the user's number, come first."""
    scopes = list(scopes)
    by_scope = {scope: SCOPES[scope].claims if scope in SCOPES else () for scope in scopes}
    covered = {claim for names in by_scope.values() for claim in names}
    always = {name: _as_text(value) for name, value in claims.items() if name not in covered}
    yield Release("", SCOPES["openid"].description, always, is_optional=False)
    for scope in scopes:
        if scope == "openid":
            continue
        released = {name: _as_text(claims[name]) for name in by_scope[scope] if name in claims}
        description = SCOPES[scope].description if scope in SCOPES else f"the permission {scope}"
        yield Release(scope, description, released, is_optional(scope))


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def _explain(parameters: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return name, value and explanation of each parameter of the authorization request."""
    return [
        (name, value, AUTHORIZATION_REQUEST.get(name, "unknown to this provider")) for name, value in parameters.items()
    ]


def _render(template: str, provider: str, title: str, *, status: int = 200, **variables: Any) -> Response:
    names = {"name": provider, "title": title, "language": "en", "parameters": (), **variables}
    html = _templates.render_own(template, names)
    return Response(html, status, HEADERS, content_type="text/html; charset=utf-8")
