"""Forged host and proxy headers (RFC 9110 7.2): any client can send Host, X-Forwarded-Host and Forwarded.

If the redirect URI is built from them, the provider sends the code to the attacker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conftest import HTML, environ_for, parameters, send
from werkzeug.middleware.proxy_fix import ProxyFix

from wsgi_oauth import Config, MemoryStore, create_app
from wsgi_oauth.demo.lab.request_attacks import FORGED_HOST
from wsgi_oauth.demo.lab.story import Outcome, Story
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.web.site import Site

from .lesson import guarded_by

original_base = Site.base_url


def application_at(provider: LocalProvider, public_url: str | None = None) -> Any:
    settings = {"PUBLIC_URL": public_url} if public_url else {}
    return create_app(Config.from_environ(environ_for(provider, **settings)), store=MemoryStore())


@guarded_by(FORGED_HOST.guards)
def test_forged_host_sends_the_code_to_the_attacker(play: Callable[[Story], Outcome]) -> Outcome:
    """S11, S34. The attacker started the sign-in, and finishes it with the code of the victim."""
    return play(FORGED_HOST)


@guarded_by({"wsgi_oauth.web.site.is_loopback": lambda host: True})
def test_dns_rebinding_reads_the_application_on_loopback(provider: LocalProvider) -> bool:
    """S34. For the browser it is the attacker's own origin, so the same-origin policy allows everything."""
    app = application_at(provider)
    return send(app, "/profile", headers={"Host": "rebound.attacker.example:8000"}).status_code != 400


def trust_one_proxy(app: Any, environ: dict[str, Any]) -> dict[str, Any]:
    environ = {**environ}
    ProxyFix(lambda *_: [], x_for=1, x_proto=1, x_host=1)(environ, lambda *_: None)
    return environ


@guarded_by({"wsgi_oauth.web.application.OAuthApp.without_proxies": trust_one_proxy})
def test_forged_x_forwarded_host_hides_the_requested_host(provider: LocalProvider) -> bool:
    """S35. There is no proxy, so the header comes from the client."""
    app = application_at(provider, "https://app.example.com")
    headers = {**HTML, "Host": "attacker.example", "X-Forwarded-Host": "app.example.com"}
    return send(app, "/", headers=headers).status_code != 400


def scheme_of_the_server(site: Site, environ: dict[str, Any]) -> str:
    environ.pop("HTTP_X_FORWARDED_PROTO", None)
    return original_base(site, environ)


@guarded_by({"wsgi_oauth.web.site.Site.base_url": scheme_of_the_server})
def test_forged_x_forwarded_proto_prevents_sign_ins(provider: LocalProvider) -> bool:
    """S35. gunicorn believes this header from loopback. The cookie would be Secure and the redirect URI https, so with
    a cached response no user of a site without TLS could sign in.
    """
    app = application_at(provider)
    headers = {**HTML, "X-Forwarded-Proto": "https"}
    started = send(app, "/", headers=headers, wsgi__url_scheme="https")  # gunicorn takes the scheme from the header
    redirect_uri = parameters(started.headers["Location"])["redirect_uri"]
    return "Secure" in started.headers["Set-Cookie"] and redirect_uri.startswith("https:")
