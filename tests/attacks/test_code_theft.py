"""Code theft (RFC 9700 4.5): the attacker has a code of the victim, from a log, the browser history or a proxy.

A code is useless without its code verifier (PKCE, RFC 7636), which the application sends only to the token endpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from conftest import Browser
from werkzeug import Response

from wsgi_oauth import RequestHandler, errors
from wsgi_oauth.demo.lab.parties import AttackersServer
from wsgi_oauth.demo.lab.request_attacks import TOKEN_REDIRECT
from wsgi_oauth.demo.lab.sign_in_attacks import CODE_INJECTION
from wsgi_oauth.demo.lab.story import Outcome, Story
from wsgi_oauth.demo.local_provider import LocalProvider

from .conftest import issued_tokens
from .lesson import guarded_by


@guarded_by(CODE_INJECTION.guards)
def test_stolen_code_is_injected_into_the_sign_in_of_the_attacker(play: Callable[[Story], Outcome]) -> Outcome:
    """S8, RFC 9700 4.5.1. The state is the attacker's own, but the code fits only the victim's code verifier."""
    return play(CODE_INJECTION)


@guarded_by({"wsgi_oauth.sign_in.Attempt.code_challenge": property(lambda start: start.code_verifier)})
def test_code_verifier_is_read_from_the_browser_history(victim: Browser, provider: LocalProvider) -> bool:
    """S8, RFC 9700 2.1.1. The challenge method `plain` puts the verifier itself into the URL."""
    url = victim.start()
    victim.get(victim.consent(url))
    [form] = [parse_qs(exchange.body) for exchange in provider.exchanges if exchange.endpoint == "token"]
    return form["code_verifier"][0] in url


@guarded_by(TOKEN_REDIRECT.guards)
def test_redirecting_token_endpoint_sends_the_client_secret_to_the_attacker(
    play: Callable[[Story], Outcome],
) -> Outcome:
    """S23, ASVS 15.3.2. An open redirect at the provider is enough: 307 repeats a POST with its body."""
    return play(TOKEN_REDIRECT)


class Repos(RequestHandler):
    """A handler that follows redirects, as some APIs require."""

    route = "/repos"

    def get(self, request: Any) -> Response:
        api = self.oauth2_session(token=request.session["oauth_token"])
        return self.jsonify({"status": api.get(self.provider.profile_url, allow_redirects=True).status_code})


@guarded_by({"wsgi_oauth.transport.pool.have_same_origin": lambda url, other: True})
def test_redirecting_api_sends_the_access_token_to_the_attacker(
    make_browser: Callable[..., Browser], provider: LocalProvider, attackers_server: AttackersServer
) -> bool:
    """S23, S27. The token must not follow a redirect to another origin."""
    victim = make_browser(handlers=(Repos,))
    victim.sign_in()
    provider.faults.redirect_to = f"{attackers_server.url}/user"
    provider.faults.add("profile.redirect_302")
    victim.get("/repos")
    [token] = issued_tokens(provider)
    return attackers_server.has_seen(token)


@guarded_by({"wsgi_oauth.config.checks.urls.is_loopback": lambda host: True})
def test_token_endpoint_without_tls_reveals_code_and_secret_to_the_network(
    make_browser: Callable[..., Browser],
) -> bool:
    """S29, RFC 6749 3.2. A mistyped http:// in the configuration must stop the start."""
    try:
        make_browser(TOKEN_URL="http://provider.example.com/token")
    except errors.ConfigError:
        return False
    return True
