"""Pages for users: errors, the sign-out, and the choice of a provider. Programs get the same as JSON."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import urlsplit

from markupsafe import Markup
from werkzeug import Response

from .. import errors
from .request import Request

_STYLE = Markup(
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:12vh auto;"
    "padding:0 1.5rem;color:#1c2430;background:#fff}"
    "h1{font-size:1.5rem;line-height:1.25}small{color:#596575}a{color:#0b57d0}"
    "@media(prefers-color-scheme:dark){body{color:#e6e9ef;background:#14181f}small{color:#98a3b3}a{color:#8ab4f8}}"
)
_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"

# On every response, unless a handler sets another value.
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"{_POLICY}; form-action 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# If sign-outs continue at the provider, form-action must be absent, because browsers apply it to the redirect after a
# form, too: https://github.com/w3c/webappsec-csp/issues/8
FORM_REDIRECT_HEADERS = {"Content-Security-Policy": _POLICY}


def form_redirect_headers(main_url: str) -> dict[str, str]:
    """Return the headers with which a sign-out on a further site can continue on the main site at *main_url*."""
    origin = urlsplit(main_url)._replace(path="").geturl()
    return {"Content-Security-Policy": f"{_POLICY}; form-action 'self' {origin}"}


_PAGE = Markup(
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    '<meta name="robots" content="noindex"><title>{title}</title><style>{style}</style>'
    "<h1>{title}</h1>{body}</html>\n"
)
_LINK = Markup('<p><a href="{url}">{text}</a></p>')
_LOGOUT_FORM = Markup(
    '<form method="post" action="{url}"><input type="hidden" name="token" value="{token}">'
    "<p><button>Sign out</button></p></form>"
)


_SIGN_OUT_THERE = "You may still be signed in at the provider. If others use this browser, sign out there, too."


class Message(NamedTuple):
    """An event, the side that caused it, and advice for the user. All texts but ``provider_says`` are our own."""

    title: str
    text: str
    advice: str
    cause: str  # a stable code for programs
    status: int = 200
    side: str = ""
    id: str = ""  # also in the log
    login_url: str = ""
    login_text: str = "Sign in"
    provider_says: str = ""  # the provider's words, which are shown as text and never as markup or a link
    logout_url: str = ""  # shows a sign-out button instead of a sign-in link
    form_token: str = ""  # for that button


def build_message(message: Message, *, as_json: bool) -> Response:
    """Return a response that shows *message*, as a page or as JSON."""
    if not as_json:
        return Response(_build_page(message), message.status, mimetype="text/html")
    document = {
        name: value
        for name, value in message._asdict().items()
        if value != "" and name not in {"login_text", "logout_url", "form_token"}
    }
    if message.status >= 400:
        document["error"] = document.pop("cause")
    # Escaped, because the provider's words may contain markup, and something may show them as HTML.
    text = json.dumps(document).replace("<", "\\u003c")
    return Response(text + "\n", message.status, mimetype="application/json")


def signed_out(request: Request, *, confirmed: bool, logout_url: str) -> Response:
    """Return the page after a sign-out. It never redirects to the sign-in.

    :param confirmed: whether the provider has confirmed the sign-out there.
    """
    there = "The sign-out at the provider is complete, too." if confirmed else _SIGN_OUT_THERE
    message = Message(
        "You are signed out",
        "This application has forgotten you.",
        there,
        "signed_out",
        login_url=request.front_page,
        login_text="Go to the application" if request.gate_prefix else Message._field_defaults["login_text"],
    )
    if request.session.signed_in:
        text = "This browser is signed in to this application."
        message = message._replace(title="You are signed in", text=text, advice="", cause="signed_in")
        message = with_logout_form(message, request, logout_url)
    return build_message(message, as_json=request.wants_json)


def provider_choice(request: Request, sign_in_urls: Mapping[str, str]) -> Response:
    """Let the user choose a provider. *sign_in_urls* has the start URL of a sign-in by the provider's title."""
    if request.wants_json:
        providers = [{"title": title, "login_url": url} for title, url in sign_in_urls.items()]
        return Response(json.dumps({"providers": providers}) + "\n", mimetype="application/json")
    links = Markup().join(_LINK.format(url=url, text=title) for title, url in sign_in_urls.items())
    return Response(build_page("Sign in with", links), mimetype="text/html")


def build_logout_form(message: Message, request: Request, logout_url: str) -> Message:
    """Turn the 405 of ``GET /logout`` into a page with a sign-out button, because a link must not sign out (CSRF)."""
    message = message._replace(
        title="Do you want to sign out?",
        text="Opening this address does not sign you out, because any page could contain a link to it.",
        advice="",
    )
    return with_logout_form(message, request, logout_url)


def with_logout_form(message: Message, request: Request, logout_url: str) -> Message:
    """Return *message* with a sign-out button for the session of *request*."""
    return message._replace(logout_url=logout_url, form_token=request.form_token)


def error_message(error: errors.Error, *, id: str, login_url: str) -> Message:  # noqa: A002  # as in the message
    """Return the message about *error*."""
    return Message(
        error.title,
        error.text,
        error.advice,
        error.cause,
        status=error.status,
        side=error.side,
        id=id,
        login_url=login_url,
        login_text=error.login_text,
        provider_says=error.provider_says,
    )


def build_page(title: str, body: Markup) -> Markup:
    """Return a page with this title and content."""
    return _PAGE.format(title=title, style=_STYLE, body=body)


def _build_page(message: Message) -> Markup:
    action = Markup("")
    if message.logout_url:
        action = _LOGOUT_FORM.format(url=message.logout_url, token=message.form_token)
    elif message.login_url:
        action = _LINK.format(url=message.login_url, text=message.login_text)
    facts = {"Code": message.cause, "Caused by": message.side, "Id": message.id}
    details = " · ".join(f"{name}: {value}" for name, value in facts.items() if value)
    quote = Markup("<p>The provider says: <q>{}</q></p>").format(message.provider_says)
    body = Markup("<p>{text}</p>{quote}{action}<p><small>{details}</small></p>").format(
        text=f"{message.text} {message.advice}".rstrip(),
        quote=quote if message.provider_says else "",
        action=action,
        details=details,
    )
    return build_page(message.title, body)
