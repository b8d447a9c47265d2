"""The request says where it went (RFC 9110 7.2), and anybody can write that: Host, X-Forwarded-Host, Forwarded.

A program that builds its redirect URI from what the request says has the provider send the code to the attacker.
"""

from __future__ import annotations

from typing import Any

from conftest import HTML, environ_for, parameters, send
from werkzeug.middleware.proxy_fix import ProxyFix

from wsgi_oauth import Config, MemoryStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.urls import Site

from .lesson import guarded_by

trusting_or_not = Site.base


def application_at(provider: LocalProvider, public_url: str | None = None) -> Any:
    settings = {"PUBLIC_URL": public_url} if public_url else {}
    return create_app(Config.from_environ(environ_for(provider, **settings)), store=MemoryStore())


def what_the_request_says(site: Any, environ: dict[str, Any]) -> str:
    return f"https://{environ['HTTP_HOST']}"


@guarded_by({"wsgi_oauth.urls.Site.base": what_the_request_says})
def test_a_poisoned_host_has_the_code_sent_to_the_attacker(provider: LocalProvider) -> bool:
    """S11, S34. By a cache that was fed with it, or a client that can be told what to send."""
    app = application_at(provider, "https://app.example.com")
    started = send(app, "/", headers={**HTML, "Host": "attacker.example"})
    return "attacker.example" in started.headers.get("Location", "")


@guarded_by({"wsgi_oauth.urls.is_loopback": lambda host: True})
def test_a_page_that_rebinds_its_own_name_to_this_machine_talks_to_the_application(provider: LocalProvider) -> bool:
    """S34. DNS rebinding: for the browser it is the attacker's own page, so the same-origin policy lets it read all."""
    app = application_at(provider)
    return send(app, "/profile", headers={"Host": "rebound.attacker.example:8000"}).status_code != 400


def believing(app: Any, environ: dict[str, Any]) -> dict[str, Any]:
    environ = {**environ}
    ProxyFix(lambda *_: [], x_for=1, x_proto=1, x_host=1)(environ, lambda *_: None)
    return environ


@guarded_by({"wsgi_oauth.app.OAuthApp._before_proxies": believing})
def test_a_forwarded_host_hides_the_one_that_was_really_asked_for(provider: LocalProvider) -> bool:
    """S35. No proxy stands in front, so nobody but the client can have written that."""
    app = application_at(provider, "https://app.example.com")
    headers = {**HTML, "Host": "attacker.example", "X-Forwarded-Host": "app.example.com"}
    return send(app, "/", headers=headers).status_code != 400


def the_scheme_of_the_server(site: Site, environ: dict[str, Any]) -> str:
    environ.pop("HTTP_X_FORWARDED_PROTO", None)
    return trusting_or_not(site, environ)


@guarded_by({"wsgi_oauth.urls.Site.base": the_scheme_of_the_server})
def test_a_forwarded_scheme_gives_the_victim_a_cookie_that_never_comes_back(provider: LocalProvider) -> bool:
    """S35. Some servers believe this header from anybody on this machine. The cookie is then Secure, and the redirect
    URI https, on a site without TLS: nobody behind the cache that keeps that answer can sign in any more.
    """
    app = application_at(provider)
    headers = {**HTML, "X-Forwarded-Proto": "https"}
    started = send(app, "/", headers=headers, wsgi__url_scheme="https")  # as the server has understood it
    redirect_uri = parameters(started.headers["Location"])["redirect_uri"]
    return "Secure" in started.headers["Set-Cookie"] and redirect_uri.startswith("https:")
