"""The providers that have a name: what each entry says, what it means, and the dance with a provider that is like it.

Nobody can try them all against the live services. So each is checked for what a slip of the pen would break, reads the
user document of its provider's own manual, and signs in at the local provider dressed as that provider.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests_oauthlib.compliance_fixes
from conftest import JSON, Browser, environ_for, parameters
from werkzeug import Request, Response

from tools import providers as generator
from wsgi_oauth import Config, MemoryStore, create_app, errors, urls
from wsgi_oauth.cli.check import ProviderCheck
from wsgi_oauth.config import ProviderConfig
from wsgi_oauth.config.checks import CLIENT_AUTH_METHODS
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.oauth.configured import provider_from_config
from wsgi_oauth.oauth.identity import read_identity
from wsgi_oauth.oauth.presets import PRESETS
from wsgi_oauth.oauth.provider import Provider
from wsgi_oauth.oauth.registration import Registration
from wsgi_oauth.transport.pool import Transport

ENTRIES = list(PRESETS.values())
LOCATED = [entry for entry in ENTRIES if entry.issuer_example]
by_name = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def configured(name: str, issuer: str | None = None, **settings: Any) -> Provider:
    """The provider of that name, at its entry's own example where it needs a place."""
    issuer = issuer or PRESETS[name].issuer_example or None
    return provider_from_config(
        ProviderConfig(client_id="a client", client_secret="s", provider=name, issuer=issuer, **settings)
    )


# Each entry by itself


def test_the_catalogue_has_the_providers_that_it_promises() -> None:
    assert list(PRESETS) == sorted(PRESETS)
    assert PRESETS.keys() == {
        *("atlassian", "auth0", "authentik", "bitbucket", "discord", "dropbox", "facebook", "github"),
        *("github-enterprise", "gitlab", "gitlab-self-managed", "google", "keycloak", "linkedin", "microsoft"),
        *("notion", "okta", "slack", "spotify", "twitch", "zitadel", "zoom"),
    }


@by_name
def test_every_url_is_https_and_complete(entry: Provider) -> None:
    found = configured(entry.name)
    addresses = [
        value for name, value in found._asdict().items() if (name.endswith("_url") or name == "issuer") and value
    ]
    for address in addresses:
        assert urls.checked(address).scheme == "https", address
        assert not re.search(r"[{}\s]|//.*//", address), address
    endpoints = (found.authorization_url, found.token_url, found.profile_url)
    assert all(endpoints) or (found.discovery and not any(endpoints))


@by_name
def test_what_an_entry_says_can_be_used(entry: Provider) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]+", entry.name)
    assert entry.title
    assert entry.registration_url
    assert entry.client_auth in {"", *CLIENT_AUTH_METHODS}
    for scope in (entry.scope, entry.emails_scope, entry.groups_scope):
        assert re.fullmatch(r"([\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*)?", scope)  # RFC 6749 3.3
    assert bool(entry.emails_url) == bool(entry.emails_scope)
    assert bool(entry.groups_url) == bool(entry.groups_scope)
    assert entry.notes
    assert all(re.fullmatch(r"[A-Z`].*[.]", note) for note in entry.notes)


@by_name
def test_openid_connect_is_asked_for_where_an_id_token_is_expected(entry: Provider) -> None:
    if entry.openid or entry.discovery:
        assert "openid" in entry.scope.split()
        assert configured(entry.name).issuer


@by_name
def test_a_user_name_is_fit_for_a_rule_only_where_there_is_one(entry: Provider) -> None:
    assert entry.user.username or not entry.username_is_unique


@by_name
def test_a_fix_is_one_of_the_librarys(entry: Provider) -> None:
    assert not entry.compliance_fix or hasattr(
        requests_oauthlib.compliance_fixes, f"{entry.compliance_fix}_compliance_fix"
    )


@by_name
def test_who_does_without_pkce_says_so_to_people(entry: Provider) -> None:
    """S8: only where a provider refuses it."""
    assert entry.pkce or "PKCE" in " ".join(entry.notes)


# Where a customer's own installation is


@pytest.mark.parametrize("entry", LOCATED, ids=lambda entry: entry.name)
def test_a_provider_of_ones_own_has_to_be_located(entry: Provider) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        create_app(Config(client_id="i", client_secret="s", provider=entry.name, session_store="memory:"))
    assert "WSGI_OAUTH_ISSUER" in str(caught.value)
    assert entry.issuer_example in str(caught.value)


@pytest.mark.parametrize("entry", LOCATED, ids=lambda entry: entry.name)
def test_users_of_two_installations_never_share_an_id(entry: Provider) -> None:
    here, there = configured(entry.name), configured(entry.name, "https://other.example.com/realms/second")
    assert here.name != there.name
    assert there.name == "other.example.com/realms/second"


def test_two_realms_of_one_host_are_two_providers() -> None:
    first, second = (configured("keycloak", f"https://sso.example.com/realms/{realm}") for realm in ("one", "two"))
    assert read_identity({"sub": "1"}, first).id == "sso.example.com/realms/one:1"
    assert read_identity({"sub": "1"}, second).id == "sso.example.com/realms/two:1"


def test_a_hosts_name_is_the_same_however_it_is_written() -> None:
    assert (
        configured("zitadel", "https://SSO.Example.com").name == configured("zitadel", "https://sso.example.com").name
    )


def test_a_host_that_is_called_like_a_provider_is_another_one() -> None:
    """Many an installation is https://gitlab to its own network."""
    assert configured("gitlab-self-managed", "https://gitlab").name not in PRESETS
    urls = {f"{name}_url": f"https://GitHub/{name}" for name in ("authorization", "token", "profile")}
    assert configured("github", **urls).name == "github/"


def test_endpoints_are_where_the_installation_is() -> None:
    found = configured("github-enterprise", "https://git.example.com/")
    assert found.authorization_url == "https://git.example.com/login/oauth/authorize"
    assert found.profile_url == "https://git.example.com/api/v3/user"
    assert found.revocation_url == "https://git.example.com/api/v3/applications/a%20client/token"


def test_an_issuer_is_compared_to_the_last_slash() -> None:
    """OpenID Connect Core 3.1.3.7: exactly. Auth0's has a slash at the end."""
    assert configured("auth0", "https://example.eu.auth0.com/").issuer == "https://example.eu.auth0.com/"


def test_one_endpoint_of_an_installation_can_be_moved() -> None:
    moved = configured("gitlab-self-managed", profile_url="https://elsewhere.example.com/me")
    assert (moved.profile_url, moved.token_url) == (
        "https://elsewhere.example.com/me",
        "https://gitlab.example.com/oauth/token",
    )


def test_an_issuer_with_a_query_is_refused() -> None:
    """OpenID Connect Discovery 3: an issuer has none."""
    with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_ISSUER: must not have a query"):
        Config(client_id="a", client_secret="b", provider="keycloak", issuer="https://sso.example.com/realms/one?x=y")


def test_an_unknown_name_is_told_which_are_known() -> None:
    with pytest.raises(errors.ConfigError) as caught:
        create_app(Config(client_id="i", client_secret="s", provider="keyclaok", session_store="memory:"))
    assert all(name in str(caught.value) for name in PRESETS)
    assert "did you mean keycloak?" in str(caught.value)


def test_a_name_and_three_endpoints_are_one_too_many() -> None:
    """The endpoints say nothing of what the catalogue knows, an ID token to be checked for one."""
    urls = {f"{name}_url": f"https://id.example.com/{name}" for name in ("authorization", "token", "profile")}
    for name, hint in (("google", "remove the name"), ("gitlabb", "did you mean gitlab[?]")):
        with pytest.raises(errors.ConfigError, match=f"WSGI_OAUTH_PROVIDER: conflicts .*'{name}'.*{hint}"):
            provider_from_config(ProviderConfig(client_id="i", client_secret="s", provider=name, **urls))
    for name, label in (("google", "google"), ("mine", ""), ("github", "")):
        described = provider_from_config(
            ProviderConfig(client_id="i", client_secret="s", provider=name, label=label, **urls)
        )
        assert (described.name, described.issuer) == ("id.example.com", None)


# What the user document means. Each is the example of the provider's own documentation, shortened.

OCTOCAT = {"login": "octocat", "id": 1, "name": "monalisa octocat", "email": "octocat@github.com", "type": "User"}
GITLAB_USER = {
    "sub": "1",
    "name": "Sidney Jones",
    "preferred_username": "sidney",
    "email": "sidney@example.com",
    "email_verified": True,
    "groups": ["company", "company/team"],
}
STANDARD_CLAIMS = {  # https://openid.net/specs/openid-connect-core-1_0.html#UserInfoResponse
    "sub": "248289761001",
    "name": "Jane Doe",
    "preferred_username": "j.doe",
    "email": "janedoe@example.com",
    "email_verified": True,
}
JANE = ("248289761001", "j.doe", "Jane Doe", "janedoe@example.com", True, ())
STAFF = (*JANE[:-1], ("staff",))

DOCUMENTS: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "atlassian": (  # https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/, the User identity API
        {"account_id": "112233aa-bb11", "email": "mia@example.com", "name": "Mia Krystof", "nickname": "mkrystof"},
        ("112233aa-bb11", "mkrystof", "Mia Krystof", "mia@example.com", False, ()),
    ),
    "auth0": (  # https://auth0.com/docs/api/authentication#get-user-info
        {
            "sub": "auth0|1234",
            "nickname": "jane",
            "name": "Jane Doe",
            "email": "jane@example.com",
            "email_verified": False,
        },
        ("auth0|1234", "jane", "Jane Doe", "jane@example.com", False, ()),
    ),
    # https://docs.goauthentik.io/add-secure-apps/providers/oauth2/#default--special-scopes
    "authentik": ({**STANDARD_CLAIMS, "groups": ["staff"]}, STAFF),
    "bitbucket": (  # https://developer.atlassian.com/cloud/bitbucket/rest/api-group-users/#api-user-get
        {"type": "user", "uuid": "{b1b2-c3}", "display_name": "Emma", "nickname": "emmap1", "account_id": "5b10"},
        ("{b1b2-c3}", None, "Emma", None, False, ()),
    ),
    "discord": (  # https://discord.com/developers/docs/resources/user#user-object-example-user
        {
            "id": "80351110224678912",
            "username": "Nelly",
            "discriminator": "1337",
            "global_name": None,
            "verified": True,
            "email": "nelly@discord.com",
        },
        ("80351110224678912", "Nelly", "Nelly", "nelly@discord.com", True, ()),
    ),
    "dropbox": (  # https://www.dropbox.com/developers/documentation/http/documentation#users-get_current_account
        {
            "account_id": "dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc",
            "name": {"given_name": "Franz", "display_name": "Franz Ferdinand (Personal)"},
            "email": "franz@dropbox.com",
            "email_verified": True,
            "team": {"id": "dbtid:AAFdgehTzw7WlXhZJsbGCLePe8RvQGYDr-I", "name": "Acme, Inc."},
        },
        (
            "dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc",
            None,
            "Franz Ferdinand (Personal)",
            "franz@dropbox.com",
            True,
            ("dbtid:AAFdgehTzw7WlXhZJsbGCLePe8RvQGYDr-I",),
        ),
    ),
    "facebook": (  # https://developers.facebook.com/docs/graph-api/overview#me
        {"id": "1234567890", "name": "Jane Smith", "email": "jane@example.com"},
        ("1234567890", None, "Jane Smith", "jane@example.com", False, ()),
    ),
    # https://docs.github.com/rest/users/users#get-the-authenticated-user
    "github": (OCTOCAT, ("1", "octocat", "monalisa octocat", "octocat@github.com", False, ())),
    "github-enterprise": (OCTOCAT, ("1", "octocat", "monalisa octocat", "octocat@github.com", False, ())),
    # https://docs.gitlab.com/integration/openid_connect_provider/#shared-information
    "gitlab": (
        GITLAB_USER,
        ("1", "sidney", "Sidney Jones", "sidney@example.com", True, ("company", "company/team")),
    ),
    "gitlab-self-managed": (
        GITLAB_USER,
        ("1", "sidney", "Sidney Jones", "sidney@example.com", True, ("company", "company/team")),
    ),
    "google": (  # https://developers.google.com/identity/openid-connect/openid-connect#an-id-tokens-payload
        {"sub": "10769150350006150715113082367", "name": "J", "email": "j@example.com", "email_verified": True},
        ("10769150350006150715113082367", None, "J", "j@example.com", True, ()),
    ),
    # https://www.keycloak.org/docs/latest/server_admin/#_oidc_token_role_mappings
    "keycloak": ({**STANDARD_CLAIMS, "groups": ["staff"]}, STAFF),
    "linkedin": (  # https://learn.microsoft.com/linkedin/consumer/integrations/self-serve/sign-in-with-linkedin-v2
        {
            "sub": "782bbtaQ",
            "name": "John Doe",
            "locale": {"country": "US", "language": "en"},
            "email": "doe@email.com",
            "email_verified": True,
        },
        ("782bbtaQ", None, "John Doe", "doe@email.com", True, ()),
    ),
    "microsoft": (  # https://learn.microsoft.com/entra/identity-platform/userinfo
        {
            "sub": "OLu859SGc2Sr9ZsqbkG-QbeLgJlb41KcdiPoLYNpSFA",
            "name": "Mikah Ollenburg",
            "email": "mikoll@contoso.com",
        },
        ("OLu859SGc2Sr9ZsqbkG-QbeLgJlb41KcdiPoLYNpSFA", None, "Mikah Ollenburg", "mikoll@contoso.com", False, ()),
    ),
    "notion": (  # https://developers.notion.com/reference/get-self
        {
            "object": "user",
            "id": "16d84278-ab0e",
            "name": "Example Integration",
            "type": "bot",
            "bot": {
                "owner": {
                    "type": "user",
                    "user": {"id": "5389a034-eb5c", "name": "Ada", "person": {"email": "ada@makenotion.com"}},
                }
            },
        },
        ("5389a034-eb5c", None, "Ada", "ada@makenotion.com", False, ()),
    ),
    # https://developer.okta.com/docs/api/openapi/okta-oauth/oauth/orgas/userinfo
    "okta": ({**STANDARD_CLAIMS, "groups": ["staff"]}, STAFF),
    "slack": (  # https://docs.slack.dev/reference/methods/openid.connect.userInfo/
        {
            "ok": True,
            "sub": "U0R7JM",
            "https://slack.com/user_id": "U0R7JM",
            "https://slack.com/team_id": "T0R7GR",
            "email": "krane@slack-corp.com",
            "email_verified": True,
            "name": "krane",
        },
        ("U0R7JM", None, "krane", "krane@slack-corp.com", True, ("T0R7GR",)),
    ),
    "spotify": (  # https://developer.spotify.com/documentation/web-api/reference/get-current-users-profile
        {"id": "smedjan", "display_name": "Smedjan", "email": "smedjan@example.com", "type": "user"},
        ("smedjan", None, "Smedjan", "smedjan@example.com", False, ()),
    ),
    "twitch": (  # https://dev.twitch.tv/docs/authentication/getting-tokens-oidc/
        {"sub": "713936733", "preferred_username": "Dallas", "email": "d@example.com", "email_verified": True},
        ("713936733", "Dallas", "Dallas", "d@example.com", True, ()),
    ),
    "zitadel": (STANDARD_CLAIMS, JANE),  # https://zitadel.com/docs/apis/openidoauth/claims
    "zoom": (  # https://developers.zoom.us/docs/api/users/#tag/users/get/users/{userId}
        {
            "id": "zJKyaiAyTNC-MWjiWC18KQ",
            "first_name": "Jill",
            "display_name": "Jill Chill",
            "email": "jchill@example.com",
            "verified": 1,
            "account_id": "q6gBJVO5TzexKYTb_I2rpg",
        },
        (
            "zJKyaiAyTNC-MWjiWC18KQ",
            None,
            "Jill Chill",
            "jchill@example.com",
            False,
            ("q6gBJVO5TzexKYTb_I2rpg",),
        ),
    ),
}


@by_name
def test_the_documented_user_is_read(entry: Provider) -> None:
    document, expected = DOCUMENTS[entry.name]
    found = read_identity(document, entry)
    said = (found.subject, found.username, found.name, found.email, found.email_verified, found.groups)
    assert said == expected


@pytest.mark.parametrize("name", ["facebook", "github", "microsoft", "spotify"])
def test_an_address_that_the_provider_does_not_vouch_for_is_not_verified(name: str) -> None:
    """Whatever the document says besides: anybody could have written it."""
    document, _ = DOCUMENTS[name]
    assert not read_identity({**document, "email_verified": True, "verified": True}, PRESETS[name]).email_verified


# The dance


class Dressed(LocalProvider):
    """The local provider in the clothes of another one: it wants to be asked as that one does."""

    def __init__(self, entry: Provider) -> None:
        super().__init__(scope=entry.scope or "profile", user=DOCUMENTS[entry.name][0])
        self.entry = entry
        self.answer_token: Callable[[Response], Response] = lambda answer: answer
        self.routes["/user"] = ("profile", {entry.profile_method: self.profile})
        if not entry.pkce:
            grant: Any = self._oauth.auth_grant
            grant.request_validator.is_pkce_required = lambda *_: False
            grant.request_validator.get_code_challenge = lambda *_: None

    def decide(self, request: Request) -> Response:
        asked = dict(request.args)
        assert asked.items() >= dict(self.entry.authorization_parameters).items()
        assert ("code_challenge" in asked) == self.entry.pkce
        return super().decide(request)

    def token(self, request: Request) -> Response:
        if not self.entry.pkce and "code_verifier" in request.form:
            return Response('{"error": "invalid_client"}', 401, mimetype="application/json")  # says LinkedIn
        by_header = "Authorization" in request.headers
        assert by_header == (self.entry.client_auth in {"", "basic", "basic-raw"})
        answer = super().token(request)
        if self.entry.lists_scopes and answer.is_json:
            document = answer.get_json()
            answer = Response(json.dumps({**document, "scope": document["scope"].split()}), mimetype="application/json")
        return self.answer_token(answer)

    def profile(self, request: Request) -> Response:
        if any(request.headers.get(name) != value for name, value in self.entry.profile_headers):
            return Response('{"code": "missing_version"}', 400, mimetype="application/json")  # says Notion
        return super().profile(request)


def named(name: str, provider: LocalProvider) -> Config:
    """The configuration for *provider* that says its name and nothing else about it."""
    left_out = dict.fromkeys(("AUTHORIZATION_URL", "TOKEN_URL", "PROFILE_URL", "ISSUER", "SCOPE"), "")
    return Config.from_environ(environ_for(provider, PROVIDER=name, **left_out))


@pytest.fixture
def dress(monkeypatch: pytest.MonkeyPatch, small_ca_bundle: None) -> Iterator[Callable[[str], tuple[Dressed, Browser]]]:
    """``provider, browser = dress("notion")``: an application that takes the local provider for that one."""
    with ExitStack() as stack:

        def dressed(name: str) -> tuple[Dressed, Browser]:
            provider = Dressed(PRESETS[name])
            provider.server = stack.enter_context(serve_provider(provider))
            here = PRESETS[name]._replace(
                authorization_url=provider.authorization_url,
                token_url=provider.token_url,
                profile_url=provider.profile_url,
                issuer=provider.url,
                issuer_example="",
                openid=False,  # it has no ID tokens
                discovery=False,
            )
            monkeypatch.setitem(PRESETS, name, here)
            return provider, Browser(create_app(named(name, provider), store=MemoryStore()), provider)

        yield dressed


@by_name
def test_a_sign_in_works_with_a_provider_that_is_like_it(entry: Provider, dress: Any) -> None:
    _, browser = dress(entry.name)
    browser.sign_in()
    assert browser.profile().json == DOCUMENTS[entry.name][0]


def test_what_the_provider_is_always_asked_with_is_in_the_authorization_request(dress: Any) -> None:
    _, browser = dress("twitch")
    asked = parameters(browser.start())
    assert asked["claims"] == '{"userinfo":{"email":null,"email_verified":null,"preferred_username":null}}'
    assert asked["scope"] == "openid user:read:email"
    assert asked["code_challenge_method"] == "S256"


@pytest.mark.parametrize("name", ["linkedin", "slack"])
def test_pkce_is_left_out_on_both_ways_or_on_none(name: str, dress: Any) -> None:
    provider, browser = dress(name)
    assert not {"code_challenge", "code_challenge_method"} & parameters(browser.start()).keys()
    browser.sign_in()
    assert "code_verifier" not in parse_qs(provider.exchanges[-1].body)


def test_client_id_and_secret_travel_the_way_the_provider_documents(dress: Any) -> None:
    for name in ("spotify", "facebook"):
        provider, browser = dress(name)
        browser.sign_in()
        [exchange] = [each for each in provider.exchanges if each.endpoint == "token"]
        form = parse_qs(exchange.body)
        if name == "spotify":
            scheme, _, credentials = exchange.headers["Authorization"].partition(" ")
            assert (scheme, b64decode(credentials)) == ("Basic", b"demo-client:demo-secret")
            assert "client_secret" not in form
        else:
            assert (form["client_id"], form["client_secret"]) == (["demo-client"], ["demo-secret"])


def test_facebooks_old_token_answer_is_read_with_the_librarys_fix(dress: Any) -> None:
    """Form encoding, called text/plain, with `expires` and no token_type: before version 2.3 of its API."""
    provider, browser = dress("facebook")

    def as_it_was(answer: Response) -> Response:
        token = answer.get_json()["access_token"]
        return Response(f"access_token={token}&expires=5183999", mimetype="text/plain")

    provider.answer_token = as_it_was
    browser.sign_in()
    assert browser.profile().json["id"] == "1234567890"


def test_no_other_provider_may_answer_like_that(dress: Any) -> None:
    provider, browser = dress("spotify")
    provider.answer_token = lambda answer: Response("access_token=x&token_type=bearer", mimetype="text/plain")
    assert browser.get(browser.callback_url()).status_int == 502


@pytest.mark.parametrize(
    ("error", "cause"),
    [("invalid_code", "code_refused"), ("bad_client_secret", "client_refused"), ("internal_error", "provider_error")],
)
def test_slacks_own_error_codes_are_understood(error: str, cause: str, dress: Any) -> None:
    """https://docs.slack.dev/reference/methods/oauth.v2.access: with status 200."""
    provider, browser = dress("slack")
    provider.answer_token = lambda answer: Response(
        json.dumps({"ok": False, "error": error}), mimetype="application/json"
    )
    assert browser.get(browser.callback_url(), headers=JSON).json["error"] == cause


def test_a_token_is_never_anywhere_but_in_the_header(dress: Any) -> None:
    """S27. The library's fix for Slack would put it into the body or the URL."""
    provider, browser = dress("slack")
    browser.sign_in()
    browser.profile()
    [exchange] = [each for each in provider.exchanges if each.endpoint == "profile"]
    assert exchange.headers["Authorization"].startswith("Bearer ")
    assert "token" not in exchange.url + exchange.body


@pytest.mark.parametrize("error", ["user_cancelled_login", "user_cancelled_authorize"])
def test_who_declines_at_linkedin_is_told_what_others_are_told(error: str, dress: Any) -> None:
    """S12: a page that says so."""
    _, browser = dress("linkedin")
    state = parameters(browser.start())["state"]
    declined = browser.get(f"/callback?error={error}&state={state}", headers=JSON)
    assert declined.json["error"] == errors.LoginDeclined.cause


@pytest.mark.parametrize(("name", "method"), [("dropbox", "POST"), ("notion", "GET")])
def test_the_check_command_asks_the_profile_the_way_the_provider_wants(name: str, method: str, dress: Any) -> None:
    provider, _ = dress(name)
    [config] = named(name, provider).providers
    check = ProviderCheck(config, Registration(config, Transport(10)), "http://localhost")
    findings = list(check.endpoint_findings())
    assert [finding.level for finding in findings if "profile endpoint" in finding.text] == ["ok"]
    [asked] = [exchange for exchange in provider.exchanges if exchange.endpoint == "profile"]
    assert asked.method == method
    assert set(PRESETS[name].profile_headers) <= set(asked.headers.items())


def test_the_document_about_providers_is_up_to_date() -> None:
    assert generator.DOCUMENT.read_text() == generator.page(), "run `python tools/providers.py --write`"
