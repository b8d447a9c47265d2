"""Tolerated responses of a provider: nothing about the user's identity becomes negotiable (docs/tolerances.md).

The attacker controls text that a provider copies: the own display name, the names of the own groups, an account at a
provider of carelessly written software. The victim is another user of that provider, or the operator with access rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Browser
from openid import Issuer, jwt
from werkzeug import Response

from wsgi_oauth import Config, MemoryStore, create_app
from wsgi_oauth.demo.server import serve_provider

from .conftest import AttackersServer
from .lesson import guarded_by

TOKEN = {"access_token": "some-token", "token_type": "Bearer"}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    with serve_provider(issuer) as server:
        issuer.server = server
        yield issuer


@pytest.fixture
def enters(issuer: Issuer) -> Callable[..., bool]:
    """Return whether the access rule admits the user, after one sign-in."""

    def enters(rule: str, **settings: str) -> bool:
        variables = {"PROVIDER": issuer.url, "CLIENT_ID": issuer.client_id, "CLIENT_SECRET": issuer.client_secret or ""}
        variables |= {"ALLOW": rule, **settings}
        config = Config.from_environ({f"WSGI_OAUTH_{name}": value for name, value in variables.items()})
        browser = Browser(create_app(config, store=MemoryStore()), issuer)
        return browser.get(browser.callback_url()).status_int == 303

    return enters


def as_python_reads_it(subject: Any) -> str:
    return str(subject).lstrip("0+").removesuffix(".0").replace("True", "1")


# Python says that 1, 1.0 and True are equal, and int() reads "+1", "01" and "１".
@guarded_by(
    {
        "wsgi_oauth.oauth.id_token.parse_subject": as_python_reads_it,
        "wsgi_oauth.oauth.identity.parse_subject": as_python_reads_it,
    }
)
def test_subject_that_looks_like_a_number_is_another_users(issuer: Issuer, enters: Callable[..., bool]) -> bool:
    """S30; OpenID Connect Core 5.3.2. A number equals its decimal string, and nothing else."""
    issuer.claims["sub"] = 1
    admitted = []
    for subject in ("01", "+1", "1.0", 1.0, True, "１", [1], None):
        issuer.user["sub"] = subject
        admitted.append(enters("claim:email_verified=true claim:login=octocat"))
    return any(admitted)


def keep_all(value: Any, *_: Any) -> Any:
    return value


@guarded_by({"wsgi_oauth.oauth.resource._without_replaced_text": keep_all})
def test_two_broken_group_names_become_the_same(issuer: Issuer, enters: Callable[..., bool]) -> bool:
    """Latin-1 in UTF-8: `équipe` and `öquipe` are the same after the replacement, so neither may match a rule."""
    issuer.routes["/user"] = ("profile", {"GET": lambda _: Response(b'{"sub": "mona", "groups": ["\xf6quipe"]}')})
    return enters('group:"\N{REPLACEMENT CHARACTER}quipe"')


@guarded_by({"wsgi_oauth.oauth.resource._without_replaced_text": keep_all})
def test_broken_text_matches_a_rule_about_a_claim(issuer: Issuer, enters: Callable[..., bool]) -> bool:
    issuer.routes["/user"] = ("profile", {"GET": lambda _: Response(b'{"sub": "mona", "team": "\xf6"}')})
    return enters('claim:team="\N{REPLACEMENT CHARACTER}"')


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


def test_id_token_that_was_not_requested_names_no_user(
    make_browser: Callable[..., Browser], attackers_server: AttackersServer
) -> None:
    """S30. It is not validated, so none of its claims may fill a gap of the user document."""
    claims = {"sub": "1", "groups": ["admins"], "email": "root@example.com", "email_verified": True, "role": "admin"}
    answer = {**TOKEN, "id_token": jwt(json.dumps(claims).encode())}
    attackers_server.answer = Response(json.dumps(answer), content_type="application/json")
    for rule in ("claim:role=admin", "email:root@example.com", "group:admins"):
        settings = {"TOKEN_URL": f"{attackers_server.url}/token", "GROUPS_CLAIM": "groups", "ALLOW": rule}
        victim = make_browser(**settings)
        assert victim.get(victim.callback_url()).status_int != 303, rule


@pytest.mark.parametrize("status", [200, 400, 403])
def test_error_object_signs_no_user_in(status: int, issuer: Issuer, enters: Callable[..., bool]) -> None:
    """S18. An ended token leads to a refresh or a new sign-in, never to an identity."""
    body = json.dumps({"error": {"sub": "mona", "code": 5}, "user": {"sub": "mona"}})
    issuer.routes["/user"] = ("profile", {"GET": lambda _: Response(body, status)})
    assert not enters("id:mona")


def test_unusable_document_endpoint_does_not_change_who_signed_in(issuer: Issuer, enters: Callable[..., bool]) -> None:
    """Without the document, the validated ID token alone identifies the user, and its groups alone count."""
    issuer.metadata["userinfo_endpoint"] = "http://id.example.com/user"
    issuer.user["groups"] = ["admins"]
    assert enters("id:mona")
    assert not enters("group:admins")
