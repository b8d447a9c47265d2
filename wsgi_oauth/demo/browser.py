"""A small browser for the walk: it keeps cookies and reads HTML forms. The walk follows redirects itself."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode, urlsplit

from werkzeug.datastructures import Headers

FORM = "application/x-www-form-urlencoded"
TIMEOUT = 60  # seconds for one response; the application stops waiting for the provider much earlier


class NoAnswer(Exception):
    """The server did not answer the request."""


@dataclass(frozen=True)
class HttpRequest:
    """A request message."""

    method: str
    url: str
    headers: Headers = field(default_factory=Headers)
    body: str = ""


@dataclass(frozen=True)
class HttpResponse:
    """A response message."""

    status: int
    headers: Headers
    body: str = ""

    @property
    def location(self) -> str | None:
        """The redirect target; None when this is not a redirect."""
        return self.headers.get("Location") if 300 <= self.status < 400 else None

    @property
    def document(self) -> Any:
        """The JSON value of the body; None when the body is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.status} {http.client.responses.get(self.status, '')}".strip()

    def summary(self) -> str:
        """Return the status, with the title or error of the body: ``403 Forbidden: Sign-in declined``."""
        document = self.document
        if isinstance(document, dict):
            title = document.get("title") or document.get("error") or ""
        else:
            title = Page(self.body).heading
        return f"{self}: {title}" if title else str(self)


class Page(HTMLParser):
    """The parts of an HTML page that the walk needs: the heading, the first form, hidden fields and ticks."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.heading = ""
        self.action: str | None = None  # the URL of the form; None when the page has no form
        self.fields: dict[str, str] = {}
        self._in_heading = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the heading, the form and its fields."""
        attributes = dict(attrs)
        if tag == "h1":
            self._in_heading = True
        elif tag == "form" and self.action is None:
            self.action = attributes.get("action") or ""
        elif tag == "input" and (attributes.get("type") == "hidden" or "checked" in attributes):
            self.fields[attributes.get("name") or ""] = attributes.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        """Record the end of the heading."""
        if tag == "h1":
            self._in_heading = False

    def handle_data(self, data: str) -> None:
        """Add *data* to the heading."""
        if self._in_heading:
            self.heading += data


class Browser:
    """Makes requests with cookies. :meth:`send` is separate, so that a request can be printed before its response.

    Cookies are kept per host and port. Real browsers ignore the port (RFC 6265 8.5). Here only the port
    tells the application from the provider; a real provider has another host.
    """

    def __init__(self) -> None:
        self._cookies: dict[str, dict[str, str]] = {}

    def get(self, url: str) -> HttpRequest:
        """Return the request that follows a link or a redirect to *url*."""
        return HttpRequest("GET", url, self._headers(url))

    def submit(self, url: str, form: Mapping[str, str]) -> HttpRequest:
        """Return the request that submits *form* to *url*."""
        headers = self._headers(url)
        headers.extend({"Content-Type": FORM, "Origin": _origin(url)})
        return HttpRequest("POST", url, headers, urlencode(form))

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send *request* and return the response; redirects are not followed.

        :raises NoAnswer: when the connection fails or ends too early.
        """
        parts = urlsplit(request.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)
        target = parts._replace(scheme="", netloc="", path=parts.path or "/").geturl()
        try:
            connection.request(request.method, target, request.body, dict(request.headers))
            answer = connection.getresponse()
            response = HttpResponse(answer.status, Headers(answer.getheaders()), answer.read().decode(errors="replace"))
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"no answer from {_origin(request.url)} ({error!r})") from error
        finally:
            connection.close()
        self._store_cookies(parts.netloc, response.headers.getlist("Set-Cookie"))
        return response

    def cookies(self, url: str) -> list[str]:
        """Return the values of the cookies for *url*."""
        return list(self._cookies.get(urlsplit(url).netloc, {}).values())

    def _headers(self, url: str) -> Headers:
        headers = Headers({"Accept": "text/html,*/*;q=0.8", "User-Agent": "wsgi-oauth-demo"})
        if jar := self._cookies.get(urlsplit(url).netloc):
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        return headers

    def _store_cookies(self, netloc: str, set_cookies: Iterable[str]) -> None:
        jar = self._cookies.setdefault(netloc, {})
        for cookie in set_cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            jar[name.strip()] = value.strip()
            if not value:  # a deleted cookie
                del jar[name.strip()]


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
