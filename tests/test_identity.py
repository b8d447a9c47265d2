"""Who signed in, as the provider's user document says it."""

from __future__ import annotations

import dataclasses
import json
import pickle
from dataclasses import replace
from typing import Any

import pytest

from wsgi_oauth import Identity, errors
from wsgi_oauth.oauth.identity import limit_lists, read_identity
from wsgi_oauth.oauth.presets import GITHUB
from wsgi_oauth.oauth.provider import UserDocument

STANDARD = GITHUB._replace(name="idp", user=UserDocument())


def test_the_number_that_github_gives_is_the_subject_and_not_the_login_which_can_change() -> None:
    identity = read_identity({"id": 583231, "login": "octocat", "name": "The Octocat"}, GITHUB)
    assert identity.id == "github:583231"
    assert (identity.username, identity.name) == ("octocat", "The Octocat")


def test_a_number_in_quotes_is_the_same_subject() -> None:
    assert read_identity({"id": "583231"}, GITHUB) == dataclasses.replace(
        read_identity({"id": 583231}, GITHUB), claims={"id": "583231"}
    )


@pytest.mark.parametrize("subject", [None, "", True, 1.5, [], {}, "a\nb", " a", "a ", "é", "x" * 256])
def test_a_subject_that_could_be_mistaken_for_another_is_refused(subject: object) -> None:
    with pytest.raises(errors.ProviderError):
        read_identity({"sub": subject}, STANDARD)


def test_a_document_without_a_subject_is_nobody() -> None:
    with pytest.raises(errors.ProviderError):
        read_identity({"name": "Somebody"}, STANDARD)


@pytest.mark.parametrize(
    ("said", "verified"), [(True, True), ("true", True), (False, False), ("false", False), (1, False), ("yes", False)]
)
def test_an_address_is_verified_only_when_the_provider_says_so_in_so_many_words(said: object, verified: bool) -> None:
    identity = read_identity({"sub": "1", "email": "a@example.com", "email_verified": said}, STANDARD)
    assert identity.email_verified is verified


def test_github_says_nothing_about_who_can_read_the_address_of_a_profile() -> None:
    assert not read_identity({"id": 1, "email": "a@example.com", "email_verified": True}, GITHUB).email_verified


def test_what_is_no_printable_text_is_left_out() -> None:
    identity = read_identity({"sub": "1", "name": "a\nb", "email": ["x"], "preferred_username": "y" * 513}, STANDARD)
    assert (identity.name, identity.email, identity.username) == (None, None, None)


def test_a_path_leads_into_objects_and_lists() -> None:
    twitch = STANDARD._replace(user=UserDocument(subject="data.0.id", groups="data.0.teams"))
    identity = read_identity({"data": [{"id": "44", "teams": ["red", "", 5, "blue"]}]}, twitch)
    assert identity.subject == "44"
    assert identity.groups == ("red", "blue")


def test_a_document_that_is_too_large_to_be_kept_still_says_who_it_is() -> None:
    identity = read_identity({"sub": "1", "name": "A", "avatar": "x" * 100_000}, STANDARD)
    assert (identity.name, identity.claims) == ("A", {})


@pytest.mark.parametrize("depth", [100, 480, 500, 550, 600, 900])
def test_a_document_that_is_too_deep_to_be_kept_still_says_who_it_is(depth: int) -> None:
    deep: Any = []
    for _ in range(depth):
        deep = [deep]
    assert read_identity({"sub": "1", "deep": deep}, STANDARD).claims == {}


def test_what_one_request_writes_into_the_claims_is_refused_and_not_the_next_ones() -> None:
    identity = Identity.from_dict(read_identity({"sub": "1"}, STANDARD).as_dict())
    assert identity is not None
    with pytest.raises(TypeError):
        identity.claims["admin"] = True  # type: ignore[index]


@pytest.mark.parametrize("comes_from_a_session", [False, True])
def test_what_is_taken_out_of_the_claims_is_a_copy(comes_from_a_session: bool) -> None:
    """Who changes it has changed nothing for the next request, nor for who asks whether they may enter."""
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


def test_no_two_identities_have_the_same_id() -> None:
    """A provider's name may end in a port, and a subject begin like one."""
    staff = Identity("id.example.com:8443", "1")
    others = [Identity("id.example.com", subject) for subject in ("8443:1", "8443%3A1", "8443%253A1")]
    assert len({identity.id for identity in [staff, *others]}) == 4
    assert Identity("github", "583231").id == "github:583231"


def test_of_very_long_lists_a_session_keeps_what_matters_first() -> None:
    names = tuple(f"{number:0400}" for number in range(1000))
    identity = Identity("idp", "1", groups=names, also_verified=names)
    kept = limit_lists(identity, lambda name: name == names[-1])
    for names_kept in (kept.groups, kept.also_verified):
        assert names[-1] in names_kept
        assert 50 < len(names_kept) < 100
    short = replace(identity, groups=names[:3], also_verified=())
    assert limit_lists(short, lambda name: name == names[2]) is short


def test_an_identity_can_be_in_a_set() -> None:
    identity = read_identity({"sub": "1", "roles": ["user"]}, STANDARD)
    assert {identity, replace(identity), replace(identity, subject="2")} == {identity, replace(identity, subject="2")}


def test_an_identity_comes_back_from_a_session_as_it_was() -> None:
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
def test_what_another_version_has_stored_differently_is_nobody(stored: Any) -> None:
    assert Identity.from_dict(stored) is None
