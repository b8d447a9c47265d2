"""Tolerated responses of a provider name no other user (docs/tolerances.md)."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import pytest
from conftest import Browser
from openid import Issuer, admits
from werkzeug import Response

from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.signing import sign_jwt


@pytest.fixture
def enters(issuer: Issuer) -> Callable[..., bool]:
    """Return whether the access rule admits the user, after one sign-in."""
    return partial(admits, issuer)


@pytest.mark.parametrize(
    "document",
    [
        b'{"sub": "mona\xff", "login": "octocat"}',
        b'{"sub\xff": "mona", "login": "octocat"}',
        b'{"sub": "mona", "sub": "\xff"}',
        b'{"sub": "\xff", "name": "mona"}',
    ],
)
def test_broken_text_is_no_subject(document: bytes, issuer: Issuer, enters: Callable[..., bool]) -> None:
    issuer.routes["/user"] = ("profile", {"GET": lambda _: Response(document)})
    assert not enters("id:mona")


def test_broken_text_in_front_of_a_quote_changes_no_other_member(issuer: Issuer, enters: Callable[..., bool]) -> None:
    """A decoder that takes the quote for the rest of a character would find the attacker's groups in the own name."""
    document = b'{"sub": "mona", "name": "\xe2", "groups": ["guests"], "x": ", \\"groups\\": [\\"admins\\"]"}'
    issuer.routes["/user"] = ("profile", {"GET": lambda _: Response(document)})
    assert enters("group:guests")
    assert not enters("group:admins")


@pytest.mark.parametrize("status", [200, 400, 403])
def test_error_object_signs_no_user_in(status: int, issuer: Issuer, enters: Callable[..., bool]) -> None:
    """S18. An invalid token leads to a refresh or a new sign-in, never to an identity."""
    body = json.dumps({"error": {"sub": "mona", "code": 5}, "user": {"sub": "mona"}})
    issuer.routes["/user"] = ("profile", {"GET": lambda _: Response(body, status)})
    assert not enters("id:mona")


def test_unusable_document_endpoint_does_not_change_who_signed_in(issuer: Issuer, enters: Callable[..., bool]) -> None:
    """Without the document, the validated ID token alone identifies the user, and its groups alone count."""
    issuer.metadata["userinfo_endpoint"] = "http://id.example.com/user"
    issuer.user["groups"] = ["admins"]
    assert enters("id:mona")
    assert not enters("group:admins")


def test_id_token_that_was_not_requested_names_no_user(
    make_browser: Callable[..., Browser], provider: LocalProvider
) -> None:
    """S30. It is not validated, so none of its claims may fill a gap of the user document."""
    claims = {"sub": "1", "groups": ["admins"], "email": "root@example.com", "email_verified": True, "role": "admin"}
    token = {"access_token": "some-token", "token_type": "Bearer", "id_token": sign_jwt(json.dumps(claims).encode())}
    provider.routes["/token"] = ("token", {"POST": lambda _: Response(json.dumps(token), mimetype="application/json")})
    user = Response(json.dumps({"id": 583231, "login": "octocat"}), mimetype="application/json")
    provider.routes["/user"] = ("profile", {"GET": lambda _: user})
    for rule in ("claim:role=admin", "email:root@example.com", "group:admins"):
        victim = make_browser(GROUPS_CLAIM="groups", ALLOW=rule)
        assert victim.get(victim.callback_url()).status_int == 403, rule
