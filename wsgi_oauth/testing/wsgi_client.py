"""A test client that calls a WSGI application in this process and validates its calls with PEP 3333."""

from __future__ import annotations

import json
import re
import wsgiref.validate
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.cookies import Morsel, SimpleCookie
from itertools import chain
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from werkzeug.datastructures import Headers
from werkzeug.test import create_environ

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# The headers of a browser that opens a page, and those of a program. Some applications refuse requests without them.
NAVIGATION = {
    "Accept": "text/html",
    "Accept-Language": "en",
    "User-Agent": "Mozilla/5.0 (wsgi_oauth.testing)",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}
API_CLIENT = {"Accept": "application/json", "User-Agent": "wsgi_oauth.testing"}


class InvalidResponse(Exception):
    """The application did not call ``start_response``, or violates PEP 3333."""


class Answer(NamedTuple):
    """A complete response. The location is an absolute URL, or empty."""

    status: int
    headers: Headers
    body: bytes
    location: str

    @property
    def is_redirect(self) -> bool:
        """Whether the browser follows the response to another URL."""
        return self.status in {301, 302, 303, 307, 308}

    @property
    def cookies(self) -> dict[str, Morsel[str]]:
        """The cookies that the response sets."""
        return parse_cookies(self.headers)

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object in the body; an empty object if the body contains something else."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    def __str__(self) -> str:
        heading = parse_heading(self.body.decode(errors="replace"))
        return f"{self.status} ({heading})" if heading else str(self.status)


class OpenResponse(NamedTuple):
    """A response whose body is read part by part."""

    status: int
    headers: Headers
    chunks: Iterator[bytes]


class WsgiClient:
    """A test client with cookies, like a browser. It does not follow redirects."""

    def __init__(self, app: WSGIApplication, url: str) -> None:
        self.app = app
        self.url = url
        self.cookies: dict[str, str] = {}

    def without_cookies(self) -> WsgiClient:
        """Return another client without cookies."""
        return WsgiClient(self.app, self.url)

    def get(
        self, path: str, headers: Mapping[str, str] = NAVIGATION, *, environ: Mapping[str, Any] | None = None
    ) -> Answer:
        """Send a GET request."""
        return self.send("GET", path, headers, environ=environ)

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] = NAVIGATION,
        *,
        body: bytes = b"",
        environ: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Send a request for a path or a URL of the application; store the cookies of the response."""
        with self.open(path, headers, method=method, body=body, environ=environ) as response:
            content = b"".join(response.chunks)
        for name, cookie in parse_cookies(response.headers).items():
            self.cookies.pop(name, None)
            if cookie.value and cookie["max-age"] != "0":
                self.cookies[name] = cookie.value
        location = response.headers.get("Location", "")
        if location:
            location = urljoin(urljoin(self.url, path), location)
        return Answer(response.status, response.headers, content, location)

    @contextmanager
    def open(
        self,
        path: str,
        headers: Mapping[str, str] = NAVIGATION,
        *,
        method: str = "GET",
        body: bytes = b"",
        environ: Mapping[str, Any] | None = None,
    ) -> Iterator[OpenResponse]:
        """Send a request. The response is closed at the end of the block, even if its body was not read to the end.

        :param environ: additional entries for the WSGI environ, as a server or outer middleware could set them.
        :raises InvalidResponse: when the response violates PEP 3333.
        """
        target = urlsplit(urljoin(self.url, path))._replace(scheme="", netloc="", fragment="").geturl()
        full_environ = create_environ(target, self.url, method=method, headers=Headers(headers.items()), data=body)
        full_environ.update({"REMOTE_ADDR": "127.0.0.1", **(environ or {})})
        if self.cookies:
            full_environ["HTTP_COOKIE"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        written: list[bytes] = []
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
            started.append((status, headers))
            return written.append

        try:
            response: Any = wsgiref.validate.validator(self.app)(full_environ, start_response)
            with closing(response) as chunks:
                first = next(chunks, b"")  # a generator calls start_response when its first part is read
                if not started:
                    raise InvalidResponse(f"{method} {target}: the application did not call start_response")
                status, response_headers = started[-1]
                yield OpenResponse(int(status[:3]), Headers(response_headers), chain(written, [first], chunks))
        except AssertionError as error:
            if extract_tb(error.__traceback__)[-1].filename != wsgiref.validate.__file__:
                raise
            raise InvalidResponse(f"{method} {target}: the response violates PEP 3333 ({error})") from error


def parse_cookies(headers: Headers) -> dict[str, Morsel[str]]:
    """Return the cookies of all Set-Cookie headers."""
    cookies: dict[str, Morsel[str]] = {}
    for set_cookie in headers.getlist("Set-Cookie"):
        cookies.update(SimpleCookie(set_cookie))
    return cookies


def parse_heading(page: str) -> str:
    """Return the heading of an HTML page in one line; "" without a heading."""
    match = re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)
    return " ".join(match[1].split()) if match else ""
