"""The identity of a user, as read from the provider's user document."""

from __future__ import annotations

import dataclasses
import json
import pickle
from dataclasses import replace
from typing import Any

import pytest

from wsgi_oauth import Identity, errors
from wsgi_oauth.config.provider import UserDocument
from wsgi_oauth.oauth.identity import limit_lists, read_identity
from wsgi_oauth.oauth.presets import GITHUB

STANDARD = GITHUB._replace(name="idp", user=UserDocument())


def test_subject_at_github_is_the_id_because_a_login_can_change() -> None:
    identity = read_identity({"id": 583231, "login": "octocat", "name": "The Octocat"}, GITHUB)
    assert identity.id == "583231@github"
    assert (identity.username, identity.name) == ("octocat", "The Octocat")


def test_id_as_a_string_is_the_same_subject() -> None:
    assert read_identity({"id": "583231"}, GITHUB) == dataclasses.replace(
        read_identity({"id": 583231}, GITHUB), claims={"id": "583231"}
    )


@pytest.mark.parametrize(
    "subject", ["Not supported currently. Use oid claim.", "00000000-0000-0000-0000-000000000000", "undefined", "null"]
)
def test_text_in_place_of_a_subject_is_refused(subject: str) -> None:
    """Otherwise all users would be one: all ID tokens of Azure AD B2C had that text (passport-azure-ad#253)."""
    with pytest.raises(errors.ProviderError, match="which is no id and could stand for several users") as raised:
        read_identity({"sub": subject, "oid": "7"}, STANDARD)
    assert "set WSGI_OAUTH_SUBJECT_CLAIM" in (raised.value.remedy or "")
    by_oid = STANDARD._replace(user=UserDocument(subject="oid"))
    assert read_identity({"sub": subject, "oid": "7"}, by_oid).subject == "7"


@pytest.mark.parametrize("subject", [None, "", True, 1.5, [], {}, "a\nb", " a", "a ", "é", "x" * 256])
def test_invalid_subject_is_refused(subject: object) -> None:
    with pytest.raises(errors.ProviderError, match=r"'sub' must be 1 to 255 characters of printable ASCII \(.*; got "):
        read_identity({"sub": subject}, STANDARD)


def test_document_without_a_subject_is_refused() -> None:
    with pytest.raises(errors.ProviderError):
        read_identity({"name": "Mona"}, STANDARD)


@pytest.mark.parametrize(
    ("said", "verified"), [(True, True), ("true", True), (False, False), ("false", False), (1, False), ("yes", False)]
)
def test_address_is_verified_only_if_the_provider_says_true(said: object, verified: bool) -> None:
    identity = read_identity({"sub": "1", "email": "a@example.com", "email_verified": said}, STANDARD)
    assert identity.email_verified is verified


def test_address_in_the_user_document_of_github_is_not_verified() -> None:
    assert not read_identity({"id": 1, "email": "a@example.com", "email_verified": True}, GITHUB).email_verified


def test_values_that_are_not_short_printable_text_are_left_out() -> None:
    identity = read_identity({"sub": "1", "name": "a\nb", "email": {"x": 1}, "preferred_username": "y" * 513}, STANDARD)
    assert (identity.name, identity.email, identity.username) == (None, None, None)


def test_path_leads_into_objects_and_lists() -> None:
    twitch = STANDARD._replace(user=UserDocument(subject="data.0.id", groups="data.0.teams"))
    identity = read_identity({"data": [{"id": "44", "teams": ["red", "", 5, "blue"]}]}, twitch)
    assert identity.subject == "44"
    assert identity.groups == ("red", "5", "blue")


@pytest.mark.parametrize("depth", [100, 480, 500, 550, 600, 900])
def test_claim_that_is_nested_deeply_is_left_out(depth: int, caplog: pytest.LogCaptureFixture) -> None:
    deep: Any = []
    for _ in range(depth):
        deep = [deep]
    assert read_identity({"sub": "1", "deep": deep}, STANDARD).claims == {"sub": "1"}
    assert "the claim 'deep' is left out" in caplog.text


def test_claims_are_read_only() -> None:
    identity = Identity.from_dict(read_identity({"sub": "1"}, STANDARD).as_dict())
    assert identity is not None
    with pytest.raises(TypeError):
        identity.claims["admin"] = True  # type: ignore[index]


@pytest.mark.parametrize("comes_from_a_session", [False, True])
def test_values_of_claims_are_copies(comes_from_a_session: bool) -> None:
    """Otherwise a request could change the identity for later requests, and for their access check."""
    said = {"sub": "1", "roles": ["user"], "plan": {"name": "free"}}
    identity = read_identity(said, STANDARD)
    if comes_from_a_session:
        stored = Identity.from_dict(identity.as_dict())
        assert stored is not None
        identity = stored
    identity.claims["roles"].append("admin")
    identity.claims["plan"]["name"] = "paid"
    assert identity.claims == {"sub": "1", "roles": ["user"], "plan": {"name": "free"}}
    assert json.loads(json.dumps(dict(identity.claims))) == said
    assert pickle.loads(pickle.dumps(identity)) == replace(identity, groups=()) == identity
    assert repr(identity.claims) == repr(said)


def test_different_users_have_different_ids() -> None:
    """The name of a provider can end with a port, and a subject can begin like a port."""
    staff = Identity("id.example.com:8443", "1")
    others = [Identity("id.example.com", subject) for subject in ("8443:1", "8443%3A1", "8443%253A1")]
    assert len({identity.id for identity in [staff, *others]}) == 4
    assert len({identity.former_id for identity in [staff, *others]}) == 4


@pytest.mark.parametrize(
    ("provider", "subject", "user_id"),
    [
        ("github", "583231", "583231@github"),
        ("login.example.com:8443/realms/staff", "a.b_c-d", "a.b_c-d@login.example.com+3A8443+2Frealms+2Fstaff"),
        ("idp", "auth0|a+b@c d%", "auth0+7Ca+2Bb+40c+20d+25@idp"),
        ("idp", "\ud800", "+ED+A0+80@idp"),  # from a changed session file
    ],
)
def test_id_contains_only_characters_that_user_tables_accept(provider: str, subject: str, user_id: str) -> None:
    assert Identity(provider, subject).id == user_id


def test_long_lists_are_cut_and_names_in_access_rules_are_kept() -> None:
    names = tuple(f"{number:0400}" for number in range(1000))
    identity = Identity("idp", "1", groups=names, also_verified=names)
    kept = limit_lists(identity, lambda name: name == names[-1])
    for names_kept in (kept.groups, kept.also_verified):
        assert names[-1] in names_kept
        assert 50 < len(names_kept) < 100
    short = replace(identity, groups=names[:3], also_verified=())
    assert limit_lists(short, lambda name: name == names[2]) is short


def test_identity_is_hashable() -> None:
    identity = read_identity({"sub": "1", "roles": ["user"]}, STANDARD)
    assert {identity, replace(identity), replace(identity, subject="2")} == {identity, replace(identity, subject="2")}


def test_stored_identity_is_restored() -> None:
    identity = read_identity({"sub": "1", "name": "A"}, STANDARD)
    assert Identity.from_dict(identity.as_dict()) == identity


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        "x",
        {},
        {"subject": "1"},
        {"provider": 1, "subject": "1"},
        {"x": 1},
        {"provider": "a", "subject": "1", "claims": []},
    ],
)
def test_invalid_stored_identity_is_none(stored: Any) -> None:
    assert Identity.from_dict(stored) is None
