"""An application for three host names without a common domain, and a browser that visits all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from conftest import Browser, environ_for
from werkzeug import Request, Response

from wsgi_oauth import Config
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.gate.environ import require_recent_login

MAIN, WIKI, FILES = "https://login.example.com", "https://wiki.example.org", "https://files.example.net"


@Request.application
def wiki(request: Request) -> Response:
    if request.path == "/refused":
        return Response("refused", 401)
    if request.path == "/sudo":
        require_recent_login(request.environ, max_age=300)
    name = request.environ.get("REMOTE_USER", "").partition("@")[0]
    return Response(f"{name} at {request.url}")


@dataclass
class User:
    """A user whose browser keeps the cookies of each host apart, and follows redirects between hosts."""

    app: Any
    provider: LocalProvider
    name: str = ""  # the user name at the provider
    browsers: dict[str, Browser] = field(default_factory=dict)
    trail: list[str] = field(default_factory=list)  # the URLs of the last visit

    def at(self, url: str) -> Browser:
        """Return the view of the browser that has the cookies of the host of *url*."""
        base = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        return self.browsers.setdefault(base, Browser(self.app, self.provider, base))

    def get(self, url: str, **kwargs: Any) -> Any:
        """Request *url* without following redirects."""
        return self.at(url).get(url, **kwargs)

    def visit(self, url: str, until: str = "?never?") -> Any:
        """Navigate to *url* and follow redirects, up to the URL that contains *until*; consent at the provider."""
        self.trail = []
        while True:
            self.trail.append(url)
            if until in url:
                return None
            assert len(self.trail) < 20, self.trail
            if url.startswith(self.provider.url):
                url = self.at(MAIN).consent(url, user=self.name)
                continue
            response = self.get(url)
            if response.status_int not in {302, 303}:
                return response
            url = urljoin(url, response.location)

    def sign_out(self, url: str) -> Any:
        """Sign out with the form of a page on the site of *url*."""
        response = self.at(url).post("/auth/logout", headers={"Sec-Fetch-Site": "same-origin"})
        return self.visit(urljoin(url, response.location)) if response.status_int == 303 else response


@contextmanager
def provider_of_main() -> Iterator[LocalProvider]:
    """Start a provider that knows the redirect URI of the main site only."""
    provider = LocalProvider(redirect_uris=[f"{MAIN}/auth/callback"])
    with serve_provider(provider):
        yield provider


def config(provider: LocalProvider, **settings: str) -> Config:
    values = {"PUBLIC_URL": f"{MAIN}/auth", "SITES": f"{WIKI} {FILES}/", **settings}
    return Config.from_environ(environ_for(provider, **values))
