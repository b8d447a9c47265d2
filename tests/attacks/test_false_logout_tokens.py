"""False logout tokens: an attacker signs users out, or keeps a session that the provider has ended.

OpenID Connect Back-Channel Logout 1.0, 2.6 and 4. They need the extra `openid`.
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from conftest import Browser, send
from openid import Issuer

from wsgi_oauth import Config, SessionStore, create_app
from wsgi_oauth.demo.signing import sign_jwt
from wsgi_oauth.oauth.logout_token import EVENT, build_provider_session
from wsgi_oauth.oauth.registration import Registration

from .lesson import guarded_by

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def issuer(issuer: Issuer) -> Issuer:
    pytest.importorskip("jwt")
    issuer.claims["sid"] = "s1"
    return issuer


@pytest.fixture
def victim(issuer: Issuer, store: SessionStore) -> Browser:
    config = Config(
        provider=issuer.url, client_id=issuer.client_id, client_secret=issuer.client_secret, end_session="yes"
    )
    return Browser(create_app(config, store=store), issuer)


def logout_token(issuer: Issuer, **claims: Any) -> str:
    now = int(time.time())
    claims = {"iss": issuer.url, "aud": issuer.client_id, "iat": now, "exp": now + 120, "jti": "1", **claims}
    return sign_jwt({"sub": "mona", "events": {EVENT: {}}, **claims}, typ="logout+jwt")


def deliver(browser: Browser, token: str) -> None:
    body = urlencode({"logout_token": token}).encode()
    send(browser.app.app, "/backchannel-logout", method="POST", body=body, CONTENT_TYPE=FORM)


@guarded_by({"wsgi_oauth.web.backchannel_logout.is_used": lambda *_: False})
def test_replayed_logout_token_signs_the_user_out_again(victim: Browser, issuer: Issuer) -> bool:
    """S69. Someone who has read the request in the log of a proxy sends it again and again."""
    token = logout_token(issuer)
    deliver(victim, token)
    victim.sign_in()
    deliver(victim, token)
    return victim.profile().status_int == 401


@guarded_by({"wsgi_oauth.oauth.logout_token.find_invalid_claims": lambda *_: []})
def test_id_token_from_the_url_of_a_sign_out_signs_the_user_out(victim: Browser, issuer: Issuer) -> bool:
    """S69, RFC 8725 2.8. An ID token has the same issuer, audience and key, and is in the browser's history."""
    victim.sign_in()
    id_token = parse_qs(urlsplit(victim.post("/logout").location).query)["id_token_hint"][0]
    claims = json.loads(urlsafe_b64decode(id_token.split(".")[1] + "=="))
    assert "events" not in claims
    victim.sign_in()
    deliver(victim, id_token)
    return victim.profile().status_int == 401


def began_at_its_end(registration: Registration, claims: dict[str, Any], asked: float) -> dict[str, Any]:
    return build_provider_session(registration, claims, time.time())


@guarded_by({"wsgi_oauth.web.sign_in_handler.build_provider_session": began_at_its_end})
def test_sign_in_that_is_on_its_way_outlives_the_logout(victim: Browser, issuer: Issuer) -> bool:
    """S69, S42. Someone at a stolen computer keeps the code, waits until the user was signed out, and uses it then."""
    callback_url = victim.callback_url()
    deliver(victim, logout_token(issuer))
    victim.get(callback_url)
    return victim.profile().status_int == 200


@guarded_by({"wsgi_oauth.oauth.logout_token.derive_name": lambda key, issuer, kind, value: f"{kind} {value}"})
def test_logout_token_of_another_client_signs_the_user_out(
    victim: Browser, issuer: Issuer, store: SessionStore
) -> bool:
    """S69, S74. Two applications share a session store, and the attacker operates one of them."""
    victim.sign_in()
    config = Config(provider=issuer.url, client_id="other", client_secret="other secret")
    deliver(Browser(create_app(config, store=store), issuer), logout_token(issuer, aud="other"))
    return victim.profile().status_int == 401
