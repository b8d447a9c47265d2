"""A provider that answers authorization requests with a form (OAuth 2.0 Form Post Response Mode)."""

from __future__ import annotations

import re
from html import escape, unescape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
import webtest
from conftest import HTML, Browser
from openid import Issuer
from werkzeug import Request, Response

PUBLIC_URL = "https://localhost"


class FormPostIssuer(Issuer):
    """An OpenID Connect provider that sends codes as a form, and errors with a redirect unless told otherwise."""

    sends_errors_as_form = False

    def decide(self, request: Request) -> Response:
        response = super().decide(request)
        location = response.headers.get("Location", "")
        fields = dict(parse_qsl(urlsplit(location).query))
        if request.args.get("response_mode") != "form_post" or not location:
            return response
        if "error" in fields and not self.sends_errors_as_form:
            return response
        return self.build_form(location.partition("?")[0], fields | self.more_fields(request))

    def more_fields(self, request: Request) -> dict[str, str]:
        """Return further fields of the form."""
        return {"session_state": "1"}

    def build_form(self, action: str, fields: dict[str, str]) -> Response:
        inputs = "".join(
            f'<input type="hidden" name="{escape(name)}" value="{escape(value)}"/>' for name, value in fields.items()
        )
        page = f'<form method="post" action="{escape(action)}">{inputs}</form>'
        return Response(f"{page}<script>document.forms[0].submit()</script>", mimetype="text/html")


class FormBrowser(Browser):
    """A browser at ``https://localhost`` that posts the provider's form, without cookies for the same site alone."""

    def __init__(self, app: Any, provider: Any, base: str = PUBLIC_URL) -> None:
        super().__init__(app, provider, base)

    def form(self, next_url: str | None = None, authorization_url: str = "", **consent: str) -> dict[str, str]:
        """Start a sign-in and consent; return the fields of the provider's form, which is not yet sent."""
        url = authorization_url or self.start(next_url)
        answer = requests.post(url, data={"decision": "allow", **consent}, allow_redirects=False, timeout=10)
        assert answer.status_code == 200, answer.text
        found = re.findall(r'name="([^"]*)" value="([^"]*)"', answer.text)
        return {unescape(name): unescape(value) for name, value in found}

    def send_form(
        self, fields: Any, headers: dict[str, str] | None = None, path: str = "/callback", **kwargs: Any
    ) -> webtest.TestResponse:
        """Post *fields* from a page of the provider: only cookies with SameSite=None are sent along."""
        jar, held = self.app.cookiejar, list(self.app.cookiejar)
        for cookie in held:
            if cookie.get_nonstandard_attr("SameSite") != "None":
                jar.clear(cookie.domain, cookie.path, cookie.name)
        sent = {each.name for each in jar}
        cross_site = {"Origin": "https://provider.example", "Sec-Fetch-Site": "cross-site"}
        response = self.app.post(path, fields, headers={**HTML, **cross_site, **(headers or {})}, status="*", **kwargs)
        answered = {line.partition("=")[0] for line in response.headers.getall("Set-Cookie")}
        for cookie in held:
            if cookie.name not in sent | answered:
                jar.set_cookie(cookie)
        return response

    def sign_in(self, next_url: str | None = None) -> webtest.TestResponse:
        response = self.send_form(self.form(next_url))
        assert response.status_int == 303, response
        return response
