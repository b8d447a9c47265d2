"""Mix-up (RFC 9700 4.4, RFC 9207): the answer comes from another authorization server than the one that was asked.

The attacker runs a provider, or has taken one over, and sends the browser back with an answer of that one. A client
that does not look who answers brings the code, with its own secret, to a place where it does not belong. So providers
say who they are (``iss``), and clients compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from conftest import Browser, environ_for, parameters

from wsgi_oauth import Config, MemoryStore, SessionStore, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.oauth import registration
from wsgi_oauth.oauth.registration import Registration
from wsgi_oauth.sign_in import AuthorizationResponse, Start
from wsgi_oauth.web.steps import Step

from .conftest import changed, exchanged_codes
from .lesson import guarded_by


@pytest.fixture
def store() -> SessionStore:
    return MemoryStore()


def whoever_answers(response: AuthorizationResponse, start: Start, of: Registration) -> None:
    if response.error or not response.code:
        raise errors.LoginRefused(response.error)


@guarded_by({"wsgi_oauth.sign_in.check": whoever_answers})
def test_an_answer_of_the_attackers_provider_is_taken_for_the_honest_ones(
    victim: Browser, provider: LocalProvider
) -> list[str]:
    """S9, RFC 9207 2.4."""
    victim.get(changed(victim.callback_url(), iss="https://attacker.example"))
    return exchanged_codes(provider)


def same_beginning(response: AuthorizationResponse, start: Start, of: Registration) -> None:
    if not response.iss.startswith(of.provider.issuer or ""):
        raise errors.IssuerMismatch("another issuer")


@guarded_by({"wsgi_oauth.sign_in.check": same_beginning})
def test_an_issuer_that_begins_like_the_honest_one_is_taken_for_it(
    victim: Browser, provider: LocalProvider
) -> list[str]:
    """S9, RFC 9207 2.4: compared as strings, character by character, and nothing is normalised."""
    for added in ("/", ".attacker.example", "@attacker.example", "/authorize", "?", "#"):
        victim.get(changed(victim.callback_url(), iss=provider.url + added))
    return exchanged_codes(provider)


def who_says_nothing_is_believed(response: AuthorizationResponse, start: Start, of: Registration) -> None:
    if response.iss and response.iss != of.provider.issuer:
        raise errors.IssuerMismatch("another issuer")


@guarded_by({"wsgi_oauth.sign_in.check": who_says_nothing_is_believed})
def test_an_attackers_provider_that_leaves_the_issuer_out_is_taken_for_one_that_always_sends_it(
    make_browser: Callable[..., Browser], provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """S9, RFC 9207 2.4: where the issuer is always sent, an answer without one is somebody else's."""
    known = registration.provider_from_config
    always = {"always_sends_issuer": True}
    monkeypatch.setattr(registration, "provider_from_config", lambda config: known(config)._replace(**always))
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
    """One that the operator offers beside the honest one; it has been taken over."""
    provider = LocalProvider(client_id="other-client", redirect_uris=["http://localhost/callback/mallorys"])
    with serve_provider(provider):
        yield provider


@pytest.fixture
def two_providers(honest: LocalProvider, mallorys: LocalProvider, store: SessionStore) -> Browser:
    """A browser at an application that offers both."""
    settings = {
        name.replace("WSGI_OAUTH_", f"WSGI_OAUTH_{label}_"): value
        for label, provider in (("HONEST", honest), ("MALLORYS", mallorys))
        for name, value in environ_for(provider).items()
        if not name.endswith(("_SESSION_STORE", "_UPSTREAM_TIMEOUT"))
    }
    settings |= {"WSGI_OAUTH_PROVIDERS": "honest mallorys", "WSGI_OAUTH_SESSION_STORE": "memory:"}
    return Browser(create_app(Config.from_environ(settings), store=store), honest)


choose_by_label = Step.choose_provider


# One redirect URI for all providers: which one answers, only the start of the sign-in knows.
def choose_by_state(handler: Step, label: str) -> bool:
    records = handler.request.session.get("oauth_state", {})
    record = records.get(handler.request.args.get("state"), {})
    return choose_by_label(handler, record.get("provider", label))


@guarded_by(
    {
        "wsgi_oauth.web.steps.Step.choose_provider": choose_by_state,
        "wsgi_oauth.sign_in.check": whoever_answers,
    }
)
def test_the_attackers_provider_passes_the_user_on_to_the_honest_one_and_is_handed_the_code(
    two_providers: Browser, honest: LocalProvider, mallorys: LocalProvider
) -> bool:
    """S10, RFC 9700 4.4.1. The user picks Mallory's provider, whose page forwards to the honest one, with the same
    state and challenge. The user knows that page, and agrees. The answer comes back, and the application, which thinks
    of Mallory's, brings the honest provider's code to Mallory's token endpoint.
    """
    begun = two_providers.get("/?provider=mallorys").location
    own = {"client_id": honest.client_id, "redirect_uri": "http://localhost/callback/honest"}
    forwarded = changed(begun.replace(mallorys.authorization_url, honest.authorization_url), **own)
    callback = two_providers.consent(forwarded)
    two_providers.get(callback)
    return parameters(callback)["code"] in exchanged_codes(mallorys)
