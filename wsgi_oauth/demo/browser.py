"""A small browser for the walk and the lab: it keeps cookies and reads HTML forms, but follows no redirects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit

import requests
from requests.cookies import RequestsCookieJar

from .messages import describe_status

FORM = "application/x-www-form-urlencoded"
TIMEOUT = 60  # seconds for one response; the application stops waiting for the provider much earlier


class NoAnswer(Exception):
    """The server did not answer the request."""


class Page(HTMLParser):
    """The parts of an HTML page that a walk needs: the heading, the first form, hidden fields and ticks."""

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
    """Makes requests with cookies.

    Cookies are kept per host and port. Real browsers ignore the port (RFC 6265 8.5). Here only the port
    tells the application from the provider; a real provider has another host.
    """

    def __init__(self) -> None:
        self.cookies: defaultdict[str, RequestsCookieJar] = defaultdict(RequestsCookieJar)  # by host and port

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Follow a link or a redirect to *url*; return the response."""
        return self.send("GET", url, headers or {})

    def submit(self, url: str, form: Mapping[str, str]) -> requests.Response:
        """Submit *form* to *url*; return the response."""
        return self.send("POST", url, {"Content-Type": FORM, "Origin": _origin(url)}, urlencode(form))

    def send(self, method: str, url: str, headers: Mapping[str, str], body: str = "") -> requests.Response:
        """Send a request; return the response.

        :raises NoAnswer: when the connection fails or ends too early.
        """
        with requests.Session() as session:
            session.trust_env = False  # no proxy, because all servers are on this machine
            session.cookies = self.cookies[urlsplit(url).netloc]
            session.headers.clear()
            session.headers.update({"Accept": "text/html,*/*;q=0.8", "User-Agent": "wsgi-oauth-demo", **headers})
            try:
                response = session.request(method, url, data=body, allow_redirects=False, timeout=TIMEOUT)
            except requests.RequestException as error:
                raise NoAnswer(f"no answer from {_origin(url)} ({error})") from error
        response.encoding = "utf-8"
        return response


def location_of(response: requests.Response) -> str:
    """Return the target of a redirect; "" if *response* is not one."""
    return response.headers.get("Location", "") if response.is_redirect else ""


def summarize(response: requests.Response) -> str:
    """Return the status, with the title or error of the body: ``403 Forbidden: Sign-in declined``."""
    try:
        document = response.json()
    except ValueError:
        document = None
    if isinstance(document, dict):
        title = document.get("title") or document.get("error")
    else:
        title = Page(response.text).heading
    status = describe_status(response.status_code)
    return f"{status}: {title}" if title else status


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
