"""The claims of the user: merged from the ID token and the user document, in every script, limited in size."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wsgi_oauth import Identity, errors
from wsgi_oauth.characters import escape_for_display
from wsgi_oauth.config.provider import Provider, UserDocument
from wsgi_oauth.oauth.claims import limit_claims
from wsgi_oauth.oauth.identity import read_identity

ISSUER = Provider("idp", "IdP", issuer="https://id.example.com", openid=True, user=UserDocument(groups="groups"))
EVERY_SCRIPT = [
    "Iñaki",
    "Анна",
    "علی‌رضا",  # Persian, with a zero-width non-joiner
    "Ada \U0001f469\u200d\U0001f4bb",  # an emoji with a zero-width joiner
    "Ada\u00a0Lovelace",
    "山田\u3000太郎",
    "\u05d0\u05d3\u05d4\u200f",  # Hebrew, with a mark
    "e\u0301ric",
    "क्‍ष",
]


def read(document: dict[str, Any], id_token: dict[str, Any] | None = None, **paths: str) -> Identity:
    """Return the identity of the user 1 with these claims, at paths that differ from the standard."""
    provider = ISSUER._replace(user=ISSUER.user._replace(**paths))
    return read_identity({"sub": "1", **document}, provider, {"sub": "1", **(id_token or {})})


class TestSources:
    """OpenID Connect Core 5.3.2, 5.6: the user document and the ID token describe the same user."""

    def test_id_token_fills_the_gaps_of_the_user_document(self) -> None:
        """AD FS has the subject alone in its user document."""
        identity = read({}, {"name": "Ann", "preferred_username": "ann", "email": "a@b.c", "groups": ["x"]})
        assert (identity.name, identity.username, identity.email) == ("Ann", "ann", "a@b.c")
        assert identity.groups == ("x",)
        assert identity.claims["groups"] == ["x"]

    def test_user_document_takes_precedence(self) -> None:
        identity = read({"name": "New", "groups": []}, {"name": "Old", "groups": ["admins"], "hd": "example.com"})
        assert (identity.name, identity.groups) == ("New", ())
        assert identity.claims == {"sub": "1", "name": "New", "groups": [], "hd": "example.com"}

    @pytest.mark.parametrize("missing", [None, ""])
    def test_empty_value_is_a_gap(self, missing: object) -> None:
        assert read({"name": missing}, {"name": "Ann"}).name == "Ann"

    def test_nested_claims_fill_gaps_too(self) -> None:
        identity = read({"realm_access": {}}, {"realm_access": {"roles": ["staff"]}}, groups="realm_access.roles")
        assert identity.groups == ("staff",)

    def test_claims_contain_nothing_about_the_token_itself(self) -> None:
        about_the_token = dict.fromkeys(["aud", "azp", "exp", "iat", "nbf", "nonce", "at_hash", "jti"], "x")
        assert read({}, {**about_the_token, "auth_time": 5}).claims == {"sub": "1", "auth_time": 5}

    def test_user_document_replaces_neither_issuer_nor_tenant(self) -> None:
        identity = read(
            {"iss": "https://evil.example", "tid": "theirs"}, {"iss": "https://id.example.com", "tid": "ours"}
        )
        assert (identity.claims["iss"], identity.claims["tid"]) == ("https://id.example.com", "ours")


class TestSubject:
    @pytest.mark.parametrize("path", ["sub", "oid", "missing oid"])
    def test_number_equals_its_decimal_string(self, path: str) -> None:
        assert read({"sub": 35, "oid": 35}, {"sub": "35", "oid": "35"}, subject=path).subject == "35"

    @pytest.mark.parametrize("other", [36, "035", "35.0", 35.0, True, ["35"]])
    def test_different_subjects_are_refused(self, other: object) -> None:
        with pytest.raises(errors.IdTokenRefused, match="different ids of the user at 'oid'"):
            read({"oid": other}, {"oid": "35"}, subject="oid")


class TestEmail:
    """An address counts as verified only if the same document gives the address and calls it verified."""

    @pytest.mark.parametrize(
        ("document", "id_token", "verified"),
        [
            ({"email": "a@b.c", "email_verified": True}, {}, True),
            ({}, {"email": "a@b.c", "email_verified": "true"}, True),
            ({"email": "a@b.c"}, {"email": "a@b.c", "email_verified": True}, True),
            ({"email": "a@b.c"}, {"email": "mine@b.c", "email_verified": True}, False),
            ({"email": "a@b.c", "email_verified": False}, {"email": "a@b.c", "email_verified": True}, False),
            ({"email": "a@b.c", "email_verified": "false"}, {"email": "a@b.c", "email_verified": True}, False),
            ({"email": "a@b.c"}, {"email_verified": True}, False),
            ({"email_verified": True}, {"email": "a@b.c"}, False),
            ({"email": "a@b.c", "email_verified": None}, {"email": "a@b.c", "email_verified": True}, True),
            ({"email": ["a@b.c"], "email_verified": True}, {}, True),  # Micro Focus Access Manager (vouch-proxy#329)
            ({"email": ["a@b.c"]}, {"email": ["mine@b.c"], "email_verified": True}, False),
        ],
    )
    def test_is_verified_for_this_address_only(
        self, document: dict[str, Any], id_token: dict[str, Any], verified: bool
    ) -> None:
        identity = read(document, id_token)
        assert (identity.email, identity.email_verified) == ("a@b.c", verified)
        assert (identity.claims.get("email_verified") in (True, "true")) == verified

    @pytest.mark.parametrize("email", [["a@b.c", "d@b.c"], [], [["a@b.c"]], [None]], ids=repr)
    def test_in_another_list_is_left_out(self, email: list[object]) -> None:
        identity = read({"email": email, "email_verified": True})
        assert (identity.email, identity.email_verified) == (None, False)

    def test_at_another_claim_is_not_verified_by_a_statement_about_the_standard_claim(self) -> None:
        document = {"mail": "boss@b.c", "email": "me@b.c", "email_verified": True}
        assert not read(document, email="mail").email_verified
        assert read({"mail": "a@b.c", "email_verified": True}, email="mail").email_verified


class TestNames:
    @pytest.mark.parametrize("name", EVERY_SCRIPT)
    def test_are_kept_in_every_script(self, name: str, caplog: pytest.LogCaptureFixture) -> None:
        identity = read({"name": name, "preferred_username": name, "groups": [name]})
        assert (identity.name, identity.username, identity.groups) == (name, name, (name,))
        assert not caplog.text

    @pytest.mark.parametrize("character", ["\n", "\x00", "\x1b", "\x85", "\u2028", "\u2029", "\ud800"])
    def test_with_a_control_character_are_left_out_with_a_log_line(
        self, character: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        identity = read({"name": f"a{character}b", "groups": [f"c{character}d", "staff"]})
        assert (identity.name, identity.groups) == (None, ("staff",))
        assert "the claim 'name' is left out, because it is a text of 3 characters with control" in caplog.text
        assert "the groups at 'groups': 1 of 2 are unreadable" in caplog.text
        assert character not in caplog.text.replace("\n", "") or character == "\n"

    def test_that_are_missing_are_combined_from_their_parts(self) -> None:
        assert read({"given_name": "Ada", "family_name": "Lovelace"}).name == "Ada Lovelace"
        assert read({"given_name": "Ada"}, {"family_name": "Lovelace"}).name == "Ada Lovelace"
        assert read({"given_name": "Ada"}).name == "Ada"
        assert read({"name": "A. L.", "given_name": "Ada"}).name == "A. L."
        assert read({"given_name": ["Ada"], "family_name": ["Lovelace"]}).name == "Ada Lovelace"

    @pytest.mark.parametrize("character", ["\u202a", "\u202e", "\u2066", "\u2069", "\x1b", "\n", "\u2028"])
    def test_do_not_reorder_the_text_around_them(self, character: str) -> None:
        """Otherwise the name `nimda` could be shown as `admin`."""
        identity = Identity("idp", "1", username=f"{character}nimda")
        assert character not in identity.display_name
        assert identity.display_name.endswith("nimda")

    @pytest.mark.parametrize("name", EVERY_SCRIPT)
    def test_are_displayed_unchanged_in_every_script(self, name: str) -> None:
        assert escape_for_display(name) == name


class TestGroups:
    @pytest.mark.parametrize(
        ("said", "groups"),
        [
            (["staff", "admins", "staff"], ("staff", "admins")),
            ("staff", ("staff",)),
            ("Domain Admins", ("Domain Admins",)),
            ("cn=staff,dc=example", ("cn=staff,dc=example",)),
            ([{"name": "staff", "id": "5"}, {"displayName": "admins", "id": "6"}, {"id": 7}], ("staff", "admins", "7")),
            ({"name": "staff", "id": "5"}, ("staff",)),
            ({"staff": {"org1": "example.com"}, "admins": {}}, ("staff", "admins")),
            ({"0": "staff", "2": "admins"}, ("staff", "admins")),  # PHP, if an item was removed (pkp-lib#6007)
            ({"0": {"0": "example.com"}, "2": {}}, ("0", "2")),
            ([], ()),
            (["", None], ()),
        ],
    )
    def test_are_read_in_every_shape(
        self, said: object, groups: tuple[str, ...], caplog: pytest.LogCaptureFixture
    ) -> None:
        assert read({"groups": said}).groups == groups
        assert not caplog.text

    @pytest.mark.parametrize(
        ("said", "shape"),
        [
            ("admins,staff", "a text with commas counts as one name"),
            (["admins,staff"], "let the provider send a list"),
            ([True, "staff"], "1 of 2 are unreadable and left out; the first one is a JSON value of the type bool"),
            (
                [{"uid": "s3cret"}],
                "an object with the members 'uid'; name the member with the group in WSGI_OAUTH_GROUPS",
            ),
            ([["s3cret"]], "a list of 1 items"),
            ({"staff": True}, "an object with the members 'staff'"),
            (["s3cret" * 100], "a text of 600 characters"),
        ],
    )
    def test_that_are_unreadable_are_logged_by_their_shape(
        self, said: object, shape: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        read({"groups": said})
        assert "the groups at 'groups': " in caplog.text
        assert shape in caplog.text
        assert "s3cret" not in caplog.text

    def test_of_all_paths_count_together(self) -> None:
        paths = "groups cognito:groups https://claims.example.com/roles realm_access.roles resource_access.my.app.roles"
        document = {
            "groups": "a",
            "cognito:groups": ["b", "a"],
            "https://claims.example.com/roles": ["c"],
            "resource_access": {"my.app": {"roles": ["d"]}},
        }
        identity = read(document, {"groups": ["not this"], "realm_access": {"roles": ["e"]}}, groups=paths)
        assert identity.groups == ("a", "b", "c", "e", "d")

    def test_can_have_their_names_in_any_member_of_objects(self) -> None:
        """The groups of cidaas have a ``groupId`` in place of a name."""
        said = [{"groupId": "staff", "roles": ["user"]}, {"roles": ["user"]}, "other", {"groupId": "admins"}]
        assert read({"groups": said}, groups="groups.groupId").groups == ("staff", "admins")
        assert read({"teams": [{"team": {"slug": "ops"}}]}, groups="teams.team.slug").groups == ("ops",)
        assert read({"groups": [{"name": "staff"}]}, groups="groups.groupId").groups == ()

    def test_at_a_member_of_objects_can_be_missing_in_the_user_document(self) -> None:
        id_token = {"groups": [{"groupId": "staff"}]}
        assert read({"groups": []}, id_token, groups="groups.groupId").groups == ("staff",)


class TestSize:
    """The claims have to fit into a session."""

    @staticmethod
    def limit(claims: dict[str, Any], *needed: str) -> dict[str, Any]:
        return dict(limit_claims(claims, lambda path: path in needed, lambda path, item: item == "kept", "1@idp"))

    def test_largest_claim_is_dropped_first_with_a_log_line(self, caplog: pytest.LogCaptureFixture) -> None:
        claims = {"sub": "1", "picture": "x" * 20_000, "certificates": ["y" * 10_000], "department": "R&D"}
        assert self.limit(claims) == {name: claims[name] for name in ("sub", "certificates", "department")}
        assert "1@idp: 1 claims are too large for a session, and are left out: 'picture'" in caplog.text

    def test_claim_of_a_rule_is_dropped_last(self) -> None:
        claims = {"roles": ["x" * 9_000, "kept"], "picture": "x" * 8_000}
        assert list(self.limit(claims, "roles")) == ["roles"]
        assert list(self.limit(claims)) == ["picture"]
        assert self.limit({"roles": ["x" * 20_000, "kept"]}, "roles") == {"roles": ["kept"]}

    def test_members_of_a_wrapper_are_claims_of_their_own(self) -> None:
        claims = {"ocs": {"data": {"id": "ada", "avatar": "x" * 20_000, "quota": {"used": 5}}}}
        assert self.limit(claims) == {"ocs": {"data": {"id": "ada", "quota": {"used": 5}}}}

    def test_large_object_is_one_claim(self) -> None:
        claims = {"sub": "1", "permissions": {str(number): True for number in range(5000)}}
        assert self.limit(claims) == {"sub": "1"}

    @pytest.mark.parametrize(
        "claims",
        [
            {str(number): "x" * 100 for number in range(10_000)},
            {str(number): {"a": {"b": number}} for number in range(10_000)},
            {"x" * 20_000: {"y" * 20_000: 1}},
            {"é" * 2_000: "é" * 4_000},
        ],
    )
    def test_rest_always_fits(self, claims: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
        assert len(json.dumps(self.limit(claims))) <= 16 * 1024
        assert len(caplog.text) < 3_000

    def test_claims_that_fit_are_unchanged(self, caplog: pytest.LogCaptureFixture) -> None:
        claims = {"sub": "1", "picture": "x" * 16_000}
        assert self.limit(claims) is not claims
        assert self.limit(claims) == claims
        assert not caplog.text
