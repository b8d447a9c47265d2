"""Pages for users, rendered from templates, and the same as JSON for programs."""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from werkzeug import Response

from .. import errors
from ..texts import english
from ..urls import is_address
from .page_templates import PageTemplates, describe_failure, hash_style
from .request import Request

_log = logging.getLogger("wsgi_oauth")

_POLICY = "default-src 'none'; style-src {style}; base-uri 'none'; frame-ancestors 'none'"
_BUILT_IN_STYLE = PageTemplates().style

# On every response, unless a handler sets another value.
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"{_POLICY.format(style=hash_style(_BUILT_IN_STYLE))}; form-action 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def security_headers(
    templates: PageTemplates, *, sign_out_continues: bool = False, main_url: str = ""
) -> dict[str, str]:
    """Return the headers of every response of an application.

    :param templates: the templates. The policy permits their style sheet.
    :param sign_out_continues: whether sign-outs continue at the provider. Then form-action must be absent, because
        browsers apply it to the redirect after a form, too: https://github.com/w3c/webappsec-csp/issues/8
    :param main_url: the URL of the main site, at which a sign-out on a further site continues; "" without such sites.
    """
    if templates.style == _BUILT_IN_STYLE and not (sign_out_continues or main_url):
        return SECURITY_HEADERS
    policy = _POLICY.format(style=hash_style(templates.style))
    if not sign_out_continues:
        origin = f" {urlsplit(main_url)._replace(path='').geturl()}" if main_url else ""
        policy += f"; form-action 'self'{origin}"
    return SECURITY_HEADERS | {"Content-Security-Policy": policy}


class Action(NamedTuple):
    """A button of a page: a link, or a form if it has a token. The first one of a page is the recommended one."""

    kind: str  # the text of this key in the catalogue, without "action."
    url: str  # "" is the page itself, requested again with GET
    form_token: str = ""


class UserMessage(NamedTuple):
    """An event, the side that caused it, and advice for the user. All texts but ``provider_says`` are our own."""

    title: str
    text: str
    advice: str
    cause: str  # a stable code for programs
    status: int = 200
    side: str = ""
    id: str = ""  # of the request; the log has it, too
    login_url: str = ""
    provider_says: str = ""  # the provider's words, which are shown as text and never as markup or a link


def render(
    name: str, request: Request, *, status: int = 200, actions: Iterable[Action] = (), **variables: Any
) -> Response:
    """Return the page of the template *name*, in the language of the browser.

    :param variables: variables of the template, in addition to those of every page.
    """
    try:
        page = request.templates.render(name, common_variables(request, actions) | variables, request_id=request.id)
    except Exception as error:  # noqa: BLE001  # for example an OSError, because the process has too many open files
        _log.error(
            "[%s] the page %s cannot be rendered, so its text is sent: %s",
            *(request.id, name, describe_failure(error)),
        )
        message = variables.get("message") or error_message(errors.Error(), id=request.id, login_url="")
        text = f"{message.title}\n\n{message.text} {message.advice}\n\n{message.cause} {message.id}\n"
        status = status if status >= 400 else errors.Error.status
        return Response(text.encode(errors="replace"), status, mimetype="text/plain")
    return Response(page, status, headers={"Content-Language": request.texts.language}, mimetype="text/html")


def common_variables(request: Request, actions: Iterable[Action]) -> dict[str, Any]:
    """Return the variables of every page. The application's name is ``WSGI_OAUTH_NAME``, or the name of its host."""
    # Never the host of the request itself, because an attacker may have sent it.
    host = urlsplit(request.base or request.site.public_url or "").hostname or ""
    texts = request.texts
    return {
        "name": request.application_name or host,
        "monogram": (request.application_name or ("" if is_address(host) else host))[:1].upper(),
        "actions": [{**action._asdict(), "text": texts.get(f"action.{action.kind}")} for action in actions],
        "language": texts.language,
        "t": texts.get,
    }


def show_message(
    message: UserMessage, request: Request, template: str, actions: Sequence[Action], *, as_json: bool
) -> Response:
    """Return a response that shows *message*, as a page or as JSON."""
    if not as_json:
        translate = request.texts.translate
        texts = {name: translate(getattr(message, name)) for name in ("title", "text", "advice", "side")}
        message = message._replace(**texts)
        return render(template, request, status=message.status, message=message, actions=actions)
    document = {name: value for name, value in message._asdict().items() if value != ""}
    if message.status >= 400:
        document["error"] = document.pop("cause")
    # Escaped, because the provider's words may contain markup, and a client may show the JSON as HTML.
    text = json.dumps(document).replace("<", "\\u003c")
    return Response(text + "\n", message.status, mimetype="application/json")


def sign_out_question(title: str, request: Request, *, logout_url: str, cancel_url: str) -> Response:
    """Ask a signed-in user whether to sign out, because a link must not do that (CSRF)."""
    name = request.application_name
    text = english("sign_out.text_named", application=name) if name else english("sign_out.text")
    message = UserMessage(title, text, "", "signed_in", login_url=request.front_page)
    actions = [Action("sign_out", logout_url, request.form_token), Action("cancel", cancel_url)]
    return show_message(message, request, "sign_out.html", actions, as_json=request.wants_json)


def continuation(request: Request, url: str) -> Response:
    """Return a page that leads a browser to *url*. A program that only follows redirects stops at this page."""
    url, text = html.escape(url), html.escape(request.texts.get("action.sign_in"))
    head = f'<meta charset="utf-8"><title>{text}</title><meta http-equiv="refresh" content="0; url={url}">'
    return Response(f'<!doctype html>{head}<a href="{url}">{text}</a>\n', mimetype="text/html")


def provider_choice(request: Request, sign_in_urls: Mapping[str, str]) -> Response:
    """Let the user choose a provider. *sign_in_urls* has the start URL of a sign-in by the provider's title."""
    key = "login_url" if request.wants_json else "url"
    providers = [{"title": title, key: url} for title, url in sign_in_urls.items()]
    if request.wants_json:
        return Response(json.dumps({"providers": providers}) + "\n", mimetype="application/json")
    return render("providers.html", request, providers=providers)


def error_message(error: errors.Error, *, id: str, login_url: str) -> UserMessage:  # noqa: A002  # as in the message
    own = {name: getattr(error, name) for name in UserMessage._fields if name not in {"id", "login_url"}}
    return UserMessage(**own, id=id, login_url=login_url)
