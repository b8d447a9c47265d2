"""What people see when it is not what they came for: one small page, or the same as JSON for programs."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from typing import NamedTuple

from .. import errors
from .handler import Request, Response

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:12vh auto;"
    "padding:0 1.5rem;color:#1c2430;background:#fff}"
    "h1{font-size:1.5rem;line-height:1.25}small{color:#596575}a{color:#0b57d0}"
    "@media(prefers-color-scheme:dark){body{color:#e6e9ef;background:#14181f}small{color:#98a3b3}a{color:#8ab4f8}}"
)
_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()

_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"

# On every answer, by the name in lower case; a handler of one's own may set another value for its own pages.
SECURITY_HEADERS = {
    name.lower(): (name, value)
    for name, value in {
        "Cache-Control": "no-store",
        "Content-Security-Policy": f"{_POLICY}; form-action 'self'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }.items()
}
# Where a sign-out goes on to the provider. Browsers apply form-action also to where a form's target redirects to, and
# would end it half way: https://github.com/w3c/webappsec-csp/issues/8
FORMS_LEAD_AWAY = {"content-security-policy": ("Content-Security-Policy", _POLICY)}


class Message(NamedTuple):
    """What happened, whose side it is on, and what to do next; all of it our own words."""

    title: str
    text: str
    advice: str
    cause: str  # stable, for programs
    status: int = 200
    side: str = ""
    id: str = ""  # stands in the log, too
    login_url: str = ""
    login_text: str = "Sign in"
    logout_url: str = ""  # of a button

    @classmethod
    def of(cls, error: errors.Error, *, id: str, login_url: str) -> Message:  # noqa: A002  # the field's name
        return cls(
            error.title,
            error.text,
            error.advice,
            error.cause,
            status=error.status,
            side=error.side,
            id=id,
            login_url=login_url,
            login_text=error.login_text,
        )


def wants_json(request: Request) -> bool:
    """Whether the client prefers JSON to a page (RFC 9110 12.5.1)."""
    accepted = request.accept_mimetypes
    return bool(accepted) and accepted.best_match(["text/html", "application/json"], "text/html") == "application/json"


def show(message: Message, *, as_json: bool) -> Response:
    """Answer with *message*."""
    if not as_json:
        return Response(_page(message), message.status, mimetype="text/html")
    shown = message._replace(login_text="", logout_url="")._asdict()
    document = {name: value for name, value in shown.items() if value != ""}
    if message.status >= 400:
        document["error"] = document.pop("cause")
    return Response(json.dumps(document) + "\n", message.status, mimetype="application/json")


def signed_out(request: Request, *, login_url: str) -> Response:
    """Answer a sign-out. Not with a redirect to the sign-in, which many a provider would finish without a word."""
    message = Message(
        "You are signed out", "This application has forgotten you.", "", "signed_out", login_url=login_url
    )
    return show(message, as_json=wants_json(request))


def with_button(message: Message, *, logout_url: str) -> Message:
    """Let whoever has opened the address of the sign-out do that, which takes more than a link (CSRF)."""
    return message._replace(
        title="Do you want to sign out?",
        text="Opening this address is not enough: any page could have a link to it.",
        advice="",
        logout_url=logout_url,
    )


def choice(request: Request, options: Mapping[str, str]) -> Response:
    """Let the user say with whom to sign in: *options* are the providers' titles, and where each sign-in starts."""
    if wants_json(request):
        document = [{"title": title, "login_url": url} for title, url in options.items()]
        return Response(json.dumps({"providers": document}) + "\n", mimetype="application/json")
    links = "".join(f'<p><a href="{escape(url)}">{escape(title)}</a></p>' for title, url in options.items())
    return Response(_html("Sign in with", links), mimetype="text/html")


def _page(message: Message) -> str:
    link = f'<p><a href="{escape(message.login_url)}">{escape(message.login_text)}</a></p>' if message.login_url else ""
    if message.logout_url:
        link = f'<form method="post" action="{escape(message.logout_url)}"><p><button>Sign out</button></p></form>'
    facts = {"Cause": message.cause, "On the side of": message.side, "Id": message.id}
    small = " · ".join(f"{name}: {escape(value)}" for name, value in facts.items() if value)
    return _html(
        message.title,
        f"<p>{escape(f'{message.text} {message.advice}'.rstrip())}</p>{link}<p><small>{small}</small></p>",
    )


def _html(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="robots" content="noindex"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{body}</html>\n"
    )
