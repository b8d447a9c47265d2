"""Mix-up (RFC 9700 4.4, RFC 9207): the response comes from another provider than the one that was asked.

The attacker operates or controls a provider and sends the browser back with a response of it. A client that does not
check the issuer sends the code, with its own secret, to the wrong token endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from conftest import Browser, environ_for, parameters

from wsgi_oauth import Config, SessionStore, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.oauth import service
from wsgi_oauth.oauth.registration import Registration
from wsgi_oauth.sign_in import Attempt, AuthorizationResponse
from wsgi_oauth.web.sign_in_handler import SignInHandler

from .conftest import changed, exchanged_codes
from .lesson import guarded_by


def accept_any_issuer(response: AuthorizationResponse, start: Attempt, of: Registration) -> None:
    if response.error or not response.code:
        raise errors.LoginRefused(response.error)


@guarded_by({"wsgi_oauth.sign_in.check_response": accept_any_issuer})
def test_response_of_the_attackers_provider(victim: Browser, provider: LocalProvider) -> list[str]:
    """S9, RFC 9207 2.4."""
    victim.get(changed(victim.callback_url(), iss="https://attacker.example"))
    return exchanged_codes(provider)


def compare_the_prefix(response: AuthorizationResponse, start: Attempt, of: Registration) -> None:
    if not response.iss.startswith(of.provider.issuer or ""):
        raise errors.IssuerMismatch("another issuer")


@guarded_by({"wsgi_oauth.sign_in.check_response": compare_the_prefix})
def test_issuer_with_the_same_prefix(victim: Browser, provider: LocalProvider) -> list[str]:
    """S9, RFC 9207 2.4: issuers are compared character by character, without normalization."""
    for added in ("/", ".attacker.example", "@attacker.example", "/authorize", "?", "#"):
        victim.get(changed(victim.callback_url(), iss=provider.url + added))
    return exchanged_codes(provider)


def accept_a_missing_issuer(response: AuthorizationResponse, start: Attempt, of: Registration) -> None:
    if response.iss and response.iss != of.provider.issuer:
        raise errors.IssuerMismatch("another issuer")


@guarded_by({"wsgi_oauth.sign_in.check_response": accept_a_missing_issuer})
def test_response_without_the_issuer_that_the_provider_always_sends(
    make_browser: Callable[..., Browser], provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """S9, RFC 9207 2.4: such a response comes from another provider."""
    known = service.provider_from_config
    always = {"always_sends_issuer": True}
    monkeypatch.setattr(service, "provider_from_config", lambda config: known(config)._replace(**always))
    victim = make_browser()
    victim.get(changed(victim.callback_url(), iss=None))
    return exchanged_codes(provider)


@pytest.fixture
def honest() -> Iterator[LocalProvider]:
    provider = LocalProvider(redirect_uris=["http://localhost/callback/honest"])
    with serve_provider(provider):
        yield provider


@pytest.fixture
def mallorys() -> Iterator[LocalProvider]:
    """Return a second configured provider, which the attacker controls."""
    provider = LocalProvider(client_id="other-client", redirect_uris=["http://localhost/callback/mallorys"])
    with serve_provider(provider):
        yield provider


@pytest.fixture
def two_providers(honest: LocalProvider, mallorys: LocalProvider, store: SessionStore) -> Browser:
    """Return a browser for an application with both providers."""
    settings = {
        name.replace("WSGI_OAUTH_", f"WSGI_OAUTH_{label}_"): value
        for label, provider in (("HONEST", honest), ("MALLORYS", mallorys))
        for name, value in environ_for(provider).items()
        if not name.endswith(("_SESSION_STORE", "_UPSTREAM_TIMEOUT"))
    }
    settings |= {"WSGI_OAUTH_PROVIDERS": "honest mallorys", "WSGI_OAUTH_SESSION_STORE": "memory:"}
    return Browser(create_app(Config.from_environ(settings), store=store), honest)


choose_by_label = SignInHandler.choose_provider


# One redirect URI for all providers: only the pending sign-in says which one responds.
def choose_by_state(handler: SignInHandler, label: str) -> bool:
    state = handler.request.args.get("state", "")
    record = handler.request.pending_session(state).get("oauth_state", {}).get(state, {})
    return choose_by_label(handler, record.get("provider", label))


@guarded_by(
    {
        "wsgi_oauth.web.sign_in_handler.SignInHandler.choose_provider": choose_by_state,
        "wsgi_oauth.sign_in.check_response": accept_any_issuer,
    }
)
def test_attackers_provider_forwards_the_user_to_the_honest_one_and_receives_the_code(
    two_providers: Browser, honest: LocalProvider, mallorys: LocalProvider
) -> bool:
    """S10, RFC 9700 4.4.1. The user chooses the attacker's provider, whose page forwards to the honest one.

    The state and the challenge stay the same. The user knows the honest page and consents. The application, which
    expects a response of the attacker's provider, sends the honest provider's code to the attacker's token endpoint.
    """
    started = two_providers.get("/?provider=mallorys").location
    own = {"client_id": honest.client_id, "redirect_uri": "http://localhost/callback/honest"}
    forwarded = changed(started.replace(mallorys.authorization_url, honest.authorization_url), **own)
    callback = two_providers.consent(forwarded)
    two_providers.get(callback)
    return parameters(callback)["code"] in exchanged_codes(mallorys)
