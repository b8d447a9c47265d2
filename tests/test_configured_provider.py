"""Finding the configured provider: by the name of a preset, the URL of an issuer, or three endpoint URLs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Browser

from wsgi_oauth import Config, GroupsDocument, Provider, UserDocument, create_app, errors
from wsgi_oauth.config import ProviderConfig
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.oauth.configured import provider_from_config
from wsgi_oauth.oauth.identity import read_identity
from wsgi_oauth.oauth.presets import PRESETS

ENDPOINTS = {
    "authorization_url": "https://id.example.com/authorize",
    "token_url": "https://id.example.com/token",
    "profile_url": "https://id.example.com/user",
}
WITH_INSTALLATIONS = pytest.mark.parametrize("name", [name for name, each in PRESETS.items() if each.issuer_example])


def configured(provider: str | Provider = "github", **settings: Any) -> Provider:
    return provider_from_config(ProviderConfig(client_id="a client", client_secret="s", provider=provider, **settings))


class TestPreset:
    def test_default_is_github(self) -> None:
        github = configured()
        assert github.authorization_url == "https://github.com/login/oauth/authorize"
        assert github.token_url == "https://github.com/login/oauth/access_token"
        assert github.profile_url == "https://api.github.com/user"
        assert github.issuer == "https://github.com/login/oauth"
        assert github.client_auth == "post"

    def test_unknown_name_stops_the_start_with_a_suggestion(self) -> None:
        for name, suggestion in {"keyclaok": "keycloak", "id.example.com": "https://id.example.com"}.items():
            with pytest.raises(errors.ConfigError) as caught:
                create_app(Config(client_id="i", client_secret="s", provider=name, session_store="memory:"))
            message = f"WSGI_OAUTH_PROVIDER: unknown provider (got '{name}'); did you mean {suggestion}?"
            assert str(caught.value) == message

    def test_unknown_name_that_resembles_no_other_stops_the_start_with_all_names(self) -> None:
        with pytest.raises(errors.ConfigError) as caught:
            create_app(Config(client_id="i", client_secret="s", provider="our-login", session_store="memory:"))
        assert all(name in str(caught.value) for name in [*PRESETS, "WSGI_OAUTH_TOKEN_URL"])

    @pytest.mark.parametrize("name", [*ENDPOINTS, "revocation_url", "issuer"])
    def test_setting_replaces_one_endpoint(self, name: str) -> None:
        changed = {name: "https://elsewhere.example/x"}
        assert configured(**changed) == configured()._replace(**changed)

    def test_two_endpoints_need_the_third_one(self) -> None:
        """Otherwise GitHub would receive the tokens of another provider."""
        for missing in ENDPOINTS:
            others = {name: url for name, url in ENDPOINTS.items() if name != missing}
            with pytest.raises(errors.ConfigError, match=f"WSGI_OAUTH_{missing.upper()}: missing; "):
                configured(**others)


class TestInstallation:
    """Presets of software that customers host themselves, or of services with a tenant for each customer."""

    @WITH_INSTALLATIONS
    def test_issuer_is_required(self, name: str) -> None:
        with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_ISSUER: missing; ") as caught:
            configured(name)
        assert PRESETS[name].issuer_example in str(caught.value)

    @WITH_INSTALLATIONS
    def test_users_of_two_installations_have_different_ids(self, name: str) -> None:
        first = configured(name, issuer=PRESETS[name].issuer_example)
        second = configured(name, issuer="https://other.example.com/realms/second")
        assert first.name != second.name == "other.example.com/realms/second"

    def test_users_of_two_realms_have_different_ids(self) -> None:
        realms = [configured("keycloak", issuer=f"https://sso.example.com/realms/{realm}") for realm in ("one", "two")]
        assert [read_identity({"sub": "1"}, realm).id for realm in realms] == [
            "1@sso.example.com+2Frealms+2Fone",
            "1@sso.example.com+2Frealms+2Ftwo",
        ]

    def test_name_does_not_depend_on_the_spelling_of_the_host(self) -> None:
        names = [
            configured("zitadel", issuer=f"https://{host}").name for host in ("SSO.Example.com", "sso.example.com")
        ]
        assert names[0] == names[1]

    def test_host_with_the_name_of_a_preset_is_another_provider(self) -> None:
        """Hosts of private networks often have such names."""
        assert configured("gitlab-self-managed", issuer="https://gitlab").name not in PRESETS
        endpoints = {name: f"https://GitHub/{name}" for name in ENDPOINTS}
        assert configured("github", **endpoints).name == "github/"

    def test_endpoints_contain_the_issuer_and_the_client_id(self) -> None:
        found = configured("github-enterprise", issuer="https://git.example.com/")
        assert found.authorization_url == "https://git.example.com/login/oauth/authorize"
        assert found.profile_url == "https://git.example.com/api/v3/user"
        assert found.revocation_url == "https://git.example.com/api/v3/applications/a%20client/token"

    def test_issuer_keeps_its_slash(self) -> None:
        """OpenID Connect Core 3.1.3.7 compares exactly, and Auth0's issuers end with a slash."""
        issuer = "https://example.eu.auth0.com/"
        assert configured("auth0", issuer=issuer).issuer == issuer

    def test_setting_replaces_one_endpoint(self) -> None:
        moved = configured(
            "gitlab-self-managed", issuer="https://git.example.com", profile_url="https://me.example.com"
        )
        assert (moved.profile_url, moved.token_url) == ("https://me.example.com", "https://git.example.com/oauth/token")


class TestIssuer:
    def test_url_selects_discovery(self) -> None:
        found = configured("https://id.example.com/realm")
        assert found.name == found.title == "id.example.com/realm"
        assert (found.issuer, found.openid, found.discovery) == ("https://id.example.com/realm", True, True)
        assert found.user.groups == "groups"

    def test_other_issuer_is_a_contradiction(self) -> None:
        issuer = "https://id.example.com"
        assert configured(issuer, issuer=issuer).issuer == issuer
        with pytest.raises(errors.ConfigError, match=r"WSGI_OAUTH_ISSUER: differs .*; remove one of them"):
            configured(issuer, issuer="https://other.example.com")


class TestThreeEndpoints:
    def test_they_describe_a_provider(self) -> None:
        """S29: all endpoints come from the configuration."""
        found = configured(**ENDPOINTS, issuer="https://issuer.example", scope="a b", client_auth="post")
        assert {name: getattr(found, name) for name in ENDPOINTS} == ENDPOINTS
        assert (found.issuer, found.scope, found.client_auth) == ("https://issuer.example", "a b", "post")
        assert "github" not in repr(found).lower()

    def test_other_settings_follow_the_specification(self) -> None:
        found = configured(**ENDPOINTS)
        assert (found.client_auth, found.issuer, found.scope, found.revocation_url) == ("", None, "", None)

    @pytest.mark.parametrize(("name", "remedy"), [("google", "remove the name"), ("gitlabb", "did you mean gitlab?")])
    def test_they_contradict_the_name_of_a_preset(self, name: str, remedy: str) -> None:
        """Because without the preset the ID token, for example, would not be validated."""
        with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_PROVIDER: conflicts with ") as caught:
            configured(name, **ENDPOINTS)
        assert f"(got '{name}'); {remedy}" in str(caught.value)

    @pytest.mark.parametrize(("name", "label"), [("google", "google"), ("mine", ""), ("github", "")])
    def test_label_default_or_other_name_is_not_a_contradiction(self, name: str, label: str) -> None:
        found = configured(name, label=label, **ENDPOINTS)
        assert (found.name, found.issuer) == ("id.example.com", None)


class TestClaims:
    """Settings that say which claims describe the user."""

    def test_they_replace_the_sources_of_the_preset(self) -> None:
        paths = {name: f"{name}_a data.{name}" for name in ("subject", "username", "name", "email", "groups")}
        found = configured("google", **{f"{name}_claim": value for name, value in paths.items()})
        assert found.user._asdict() == {**PRESETS["google"].user._asdict(), **paths}

    @pytest.mark.parametrize(("rule", "setting"), [("group:staff", "groups_claim"), ("email:a@b.c", "email_claim")])
    def test_they_permit_rules_that_the_preset_does_not_support(self, rule: str, setting: str) -> None:
        settings: dict[str, Any] = {"client_id": "i", "client_secret": "s", "provider": "spotify", "allow": rule}
        with pytest.raises(errors.ConfigError):
            create_app(Config(**settings, session_store="memory:"))
        create_app(Config(**settings, **{setting: "x"}, session_store="memory:"))

    def test_address_at_a_configured_claim_must_still_be_verified(self) -> None:
        spotify = configured("spotify", email_claim="mail")
        assert not read_identity({"id": "1", "mail": "a@b.c"}, spotify).email_verified
        assert read_identity({"id": "1", "mail": "a@b.c", "email_verified": True}, spotify).email_verified

    def test_username_at_a_configured_claim_is_not_unique(self) -> None:
        """Otherwise `user:` could match a nickname that each user chooses."""
        issuer = PRESETS["keycloak"].issuer_example
        assert configured("keycloak", issuer=issuer, username_claim="preferred_username").username_is_unique
        assert not configured("keycloak", issuer=issuer, username_claim="nickname").username_is_unique
        with pytest.raises(errors.ConfigError, match="can pass to another user"):
            create_app(
                Config(
                    client_id="i",
                    client_secret="s",
                    provider="keycloak",
                    issuer=issuer,
                    username_claim="nickname",
                    allow="user:ann",
                    session_store="memory:",
                )
            )


DOCUMENT = Path(__file__).parents[1] / "docs" / "providers.md"
WIKI = Provider(name="wiki", title="The wiki", user=UserDocument(subject="id"), **ENDPOINTS)


class TestDescription:
    """A provider that an application describes in Python."""

    def test_code_in_the_document_signs_a_user_in(
        self, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        [code] = re.findall(r"<!-- own-provider -->\n```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
        user = {"id": 7, "login": "ann", "first": "Ann", "last": "Smith", "email": "ann@example.com"}
        provider.user = {"user": user, "groups": [{"slug": "editors"}, {"slug": "staff"}]}
        for path, url in {
            "oauth/authorize": provider.authorization_url,
            "oauth/token": provider.token_url,
            "api/me/groups": provider.profile_url,
            "api/me": provider.profile_url,
        }.items():
            code = code.replace(f"https://wiki.example.com/{path}", url)
        monkeypatch.setenv("WIKI_CLIENT_ID", provider.client_id)
        monkeypatch.setenv("WIKI_CLIENT_SECRET", provider.client_secret or "")
        names: dict[str, Any] = {}
        exec(code.replace("provider=WIKI,", 'provider=WIKI, session_store="memory:",'), names)  # our own document
        browser = Browser(names["app"], provider)
        browser.sign_in()
        assert browser.profile().json["user"]["login"] == "ann"

    def test_its_values_are_used(self) -> None:
        found = configured(WIKI)
        assert (found.name, found.title, found.user.subject) == ("wiki", "The wiki", "id")
        assert {name: getattr(found, name) for name in ENDPOINTS} == ENDPOINTS

    def test_settings_replace_single_values(self) -> None:
        found = configured(WIKI, scope="a b", token_url="https://wiki.example.com/t")
        assert (found.scope, found.token_url, found.name) == ("a b", "https://wiki.example.com/t", "wiki")

    def test_issuer_replaces_its_placeholder(self) -> None:
        urls = {name: f"{{issuer}}/{name}" for name in ENDPOINTS}
        tenants = WIKI._replace(issuer_example="https://acme.example.com", **urls)
        found = configured(tenants, issuer="https://acme.example.com")
        assert (found.token_url, found.name) == ("https://acme.example.com/token_url", "acme.example.com")

    def test_name_of_a_known_provider_is_refused(self) -> None:
        """Otherwise its users would have the ids, and with them the rights, of users of the known provider."""
        with pytest.raises(errors.ConfigError, match=r"WSGI_OAUTH_PROVIDER: .*'github'.*; choose another name"):
            configured(WIKI._replace(name="github"))

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"name": "my wiki"}, "its name must have"),
            ({"name": "wiki:admin"}, "its name must have"),
            ({"scope": ("read", "write")}, "its scope must be of the type str"),
            ({"user": "id"}, "its user must be of the type UserDocument"),
            ({"token_url": "http://wiki.example.com/token"}, "its token_url must begin with https:// (got 'http://w"),
            ({"profile_url": ""}, "it has no profile_url"),
            ({"openid": True, "scope": "openid"}, "it has no issuer"),
            ({"discovery": True}, "it has no issuer"),
            ({"issuer": "http://wiki.example.com"}, "its issuer must begin with https"),
            ({"groups": (GroupsDocument("http://wiki.example.com/groups"),)}, "must begin with https"),
            (
                {"groups": GroupsDocument("https://wiki.example.com/groups")},
                "its groups must be a tuple of GroupsDocument",
            ),
            ({"groups": ("https://wiki.example.com/groups",)}, "its groups must be a tuple of GroupsDocument"),
            ({"emails": "https://wiki.example.com/emails"}, "its emails must be an EmailsDocument"),
            ({"client_auth": "header"}, "its client_auth must be one of basic"),
            ({"response_mode": "fragment"}, "its response_mode must be query or form_post (got 'fragment')"),
        ],
    )
    def test_unusable_description_stops_the_start(self, change: dict[str, Any], problem: str) -> None:
        with pytest.raises(errors.ConfigError) as caught:
            Config(client_id="i", client_secret="s", provider=WIKI._replace(**change))
        assert str(caught.value).startswith("WSGI_OAUTH_PROVIDER: ")
        assert problem in str(caught.value)
        assert f"(in the description of {WIKI._replace(**change).name!a})" in str(caught.value)

    def test_plain_http_is_accepted_for_listed_hosts(self) -> None:
        local = WIKI._replace(token_url="http://wiki.internal/token")
        Config(client_id="i", client_secret="s", provider=local, insecure_http_hosts="wiki.internal")

    def test_two_of_several_providers_can_be_descriptions(self) -> None:
        both = [
            ProviderConfig(label=label, client_id="i", client_secret="s", provider=WIKI._replace(name=label))
            for label in ("wiki", "shop")
        ]
        assert [provider_from_config(each).name for each in Config(providers=both).providers] == ["wiki", "shop"]
