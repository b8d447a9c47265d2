"""Signing out: here at once, and at the provider as far as it goes along."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
import requests
from conftest import JSON, Browser, environ_for, parameters, stored_sessions
from werkzeug import Request, Response

from wsgi_oauth import Config, SessionStore, create_app
from wsgi_oauth.demo.faults import REVOKE_FAULTS
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

HOUR = 3600


@pytest.fixture
def leaving(make_browser: Callable[..., Browser], provider: LocalProvider) -> Browser:
    """Somebody who has signed in with a provider that revokes tokens."""
    browser = make_browser(REVOCATION_URL=provider.revocation_url, UPSTREAM_TIMEOUT="2")
    browser.sign_in()
    return browser


def revoked(provider: LocalProvider) -> list[dict[str, str]]:
    return [parameters(f"?{exchange.body}") for exchange in provider.exchanges if exchange.url.endswith("/revoke")]


def test_the_refresh_token_is_revoked_first_and_then_the_access_token(
    leaving: Browser, provider: LocalProvider, store: SessionStore
) -> None:
    """S44; RFC 7009 2.1."""
    [session] = stored_sessions(store)
    token = session["oauth_token"]
    assert leaving.post("/logout").status_int == 200
    assert revoked(provider) == [
        {"token": token["refresh_token"], "token_type_hint": "refresh_token"},
        {"token": token["access_token"], "token_type_hint": "access_token"},
    ]
    assert provider.exchanges[-1].headers["Authorization"].startswith("Basic ")


def test_the_token_is_worth_nothing_afterwards(leaving: Browser, provider: LocalProvider, store: SessionStore) -> None:

    [session] = stored_sessions(store)
    bearer = {"Authorization": f"Bearer {session['oauth_token']['access_token']}"}
    assert requests.get(provider.profile_url, headers=bearer, timeout=10).status_code == 200
    leaving.post("/logout")
    assert requests.get(provider.profile_url, headers=bearer, timeout=10).status_code == 401


def test_what_a_refresh_has_brought_meanwhile_is_what_is_revoked(
    leaving: Browser, provider: LocalProvider, store: SessionStore, later: Callable[[float], None]
) -> None:
    later(HOUR)
    leaving.profile()
    [session] = stored_sessions(store)
    leaving.post("/logout")
    assert revoked(provider)[0]["token"] == session["oauth_token"]["refresh_token"]


@pytest.mark.parametrize("fault", sorted(REVOKE_FAULTS))
def test_the_user_is_signed_out_whatever_the_provider_says(
    fault: str, leaving: Browser, provider: LocalProvider, store: SessionStore
) -> None:
    """S44: and in bounded time."""
    cookie = leaving.cookie
    provider.faults.add(f"revoke.{fault}", times=None)
    began = time.monotonic()
    answer = leaving.post("/logout", headers=JSON)
    assert time.monotonic() - began < 15
    assert (answer.status_int, answer.json["cause"]) == (200, "signed_out")
    assert leaving.cookie is None
    assert stored_sessions(store) == []
    leaving.app.set_cookie("wsgi_oauth", cookie)
    assert leaving.profile().status_int == 401


def test_a_provider_that_cannot_be_asked_is_asked_once(leaving: Browser, provider: LocalProvider) -> None:
    provider.faults.add("revoke.slow", times=None)
    leaving.post("/logout")
    assert provider.count("revoke") == 1


def test_what_went_wrong_there_is_in_the_log_without_the_token(
    leaving: Browser, provider: LocalProvider, store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    [session] = stored_sessions(store)
    provider.faults.add("revoke.401")
    leaving.post("/logout")
    assert "the provider has not revoked the token" in caplog.text
    assert session["oauth_token"]["access_token"] not in caplog.text


def test_a_provider_without_such_an_endpoint_is_not_asked(browser: Browser, provider: LocalProvider) -> None:
    browser.sign_in()
    assert browser.post("/logout").status_int == 200
    assert provider.count("revoke") == 0


def test_who_is_not_signed_in_revokes_nothing(make_browser: Callable[..., Browser], provider: LocalProvider) -> None:
    browser = make_browser(REVOCATION_URL=provider.revocation_url)
    browser.get("/")
    assert browser.post("/logout").status_int == 200
    assert provider.count("revoke") == 0


def test_github_is_told_in_its_own_way(application: Any, provider: LocalProvider, store: SessionStore) -> None:
    """https://docs.github.com/rest/apps/oauth-applications#delete-an-app-token"""
    seen: list[Request] = []

    @Request.application
    def api(request: Request) -> Response:
        request.get_data()
        seen.append(request)
        return Response(status=204)

    browser, registration = Browser(application, provider), application.registration()
    with serve(api) as server:
        registration.configured_provider = registration.provider._replace(
            revocation_url=f"{server.url}/applications/{{client_id}}/token",
            revocation_by="github",
        )
        browser.sign_in()
        [session] = stored_sessions(store)
        assert browser.post("/logout").status_int == 200
    [request] = seen
    assert (request.method, request.path) == ("DELETE", "/applications/demo-client/token")
    assert b64decode(request.headers["Authorization"].split()[1]) == b"demo-client:demo-secret"
    assert json.loads(request.get_data()) == {"access_token": session["oauth_token"]["access_token"]}


# OpenID Connect RP-Initiated Logout


def test_where_it_is_configured_the_browser_signs_out_at_the_provider_too(
    make_browser: Callable[..., Browser], provider: LocalProvider, store: SessionStore
) -> None:
    browser = make_browser(END_SESSION="https://id.example.com/end?tenant=1", REVOCATION_URL=provider.revocation_url)
    provider.faults.add("token.extra_members")
    browser.sign_in()
    answer = browser.post("/logout")
    assert answer.status_int == 303
    assert answer.location.startswith("https://id.example.com/end?tenant=1&")
    assert parameters(answer.location) == {"tenant": "1", "client_id": "demo-client", "id_token_hint": "a.b.c"}
    assert stored_sessions(store) == []
    assert provider.count("revoke") == 2


def test_yes_means_the_providers_own_endpoint_and_without_one_a_page(
    provider: LocalProvider, store: SessionStore
) -> None:
    application = create_app(Config.from_environ(environ_for(provider, END_SESSION="yes")), store=store)
    browser = Browser(application, provider)
    browser.sign_in()
    assert browser.post("/logout").status_int == 200
    registration = application.registration()
    registration.configured_provider = registration.provider._replace(end_session_url="https://id.example.com/end")
    browser.sign_in()
    assert browser.post("/logout").location == "https://id.example.com/end?client_id=demo-client"


def test_who_was_not_signed_in_stays_here(make_browser: Callable[..., Browser]) -> None:
    assert make_browser(END_SESSION="https://id.example.com/end").post("/logout").status_int == 200
