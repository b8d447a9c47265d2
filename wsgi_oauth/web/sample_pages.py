"""A sample of each page, with which ``wsgi-oauth check`` tries the operator's templates."""

from __future__ import annotations

from typing import Any

from werkzeug.test import create_environ

from .. import errors
from ..texts import english
from . import pages
from .page_templates import PageTemplates
from .request import Request

_SIGN_OUT = pages.Action("sign_out", "https://app.example.com/logout", "a-form-token")
_IDS = {"id": "5f2ad1c0b7e94386", "login_url": "https://app.example.com/"}


#: The variables of each page, by the name of its template, in addition to those of every page.
SAMPLES: dict[str, dict[str, Any]] = {
    "error.html": {
        "message": pages.error_message(errors.ProviderTimeout(), **_IDS)._replace(provider_says="Try again later."),
        "actions": [pages.Action("try_again", "")],
    },
    "not_allowed.html": {
        "message": pages.error_message(errors.NotAllowed("1@github", "ann"), **_IDS),
        "actions": [pages.Action("switch_account", "https://app.example.com/?switch=1")],
    },
    "profile.html": {
        "user": "Ann Smith",
        "provider": "GitHub",
        "document": {
            "name": "Ann Smith",
            "groups": ["staff"],
            "address": {"country": "FR"},
            "admin": False,
            "bio": None,
        },
        "actions": [_SIGN_OUT],
    },
    "providers.html": {"providers": [{"title": "GitHub", "url": "https://app.example.com/?provider=github"}]},
    "sign_out.html": {
        "message": pages.UserMessage(english("sign_out.title"), english("sign_out.text"), "", "signed_in"),
        "actions": [_SIGN_OUT, pages.Action("cancel", "https://app.example.com/profile")],
    },
    "signed_out.html": {
        "message": pages.UserMessage(
            english("signed_out.title"), english("signed_out.text"), english("signed_out.only_here"), "signed_out"
        ),
        "actions": [pages.Action("sign_in", "https://app.example.com/")],
    },
    "tokens.html": {
        "account": "octocat",
        "site": "https://app.example.com/",
        "site_with_token": "https://token:wo_example@app.example.com/",
        "token": "wo_example",
        "tokens": [{"name": "pip", "id": "1", "created": "2026-01-01", "used": "", "expires": "2026-12-31"}],
        "revoked": True,
        "lifetimes": {"1d": "1 day"},
        "default_lifetime": "30d",
        "max_name": 100,
        "url": "/tokens",
        "form_token": "a-form-token",
    },
}


def render_samples(templates: PageTemplates) -> dict[str, Exception | str]:
    """Return each page by the name of its template, or the exception that its template raises."""
    request = Request(create_environ(base_url="https://app.example.com/"))
    request.base = "https://app.example.com"
    rendered: dict[str, Exception | str] = {}
    for name, variables in SAMPLES.items():
        own = dict(variables)
        common = pages.common_variables(request, own.pop("actions", ()))
        try:
            rendered[name] = templates.render_own(name, common | own)
        except Exception as error:  # noqa: BLE001  # templates can raise anything
            rendered[name] = error
    return rendered
