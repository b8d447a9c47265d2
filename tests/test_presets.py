"""The presets of providers.

The tests send no requests to the real providers. Instead they check each preset for mistakes, read the example of a
user document in the provider's documentation, and sign in to a local provider that behaves like the real one.
"""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qs

import pytest
from conftest import JSON, Browser, environ_for, parameters
from documented_responses import TOKEN_RESPONSES, USER_DOCUMENTS
from werkzeug import Request, Response

from tools import providers as generator
from wsgi_oauth import Config, MemoryStore, create_app, errors, urls
from wsgi_oauth.cli.provider_check import ProviderCheck
from wsgi_oauth.config import ProviderConfig
from wsgi_oauth.config.checks import CLIENT_AUTH_METHODS
from wsgi_oauth.config.provider import Provider
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.oauth.configured import provider_from_config
from wsgi_oauth.oauth.identity import read_identity
from wsgi_oauth.oauth.presets import PRESETS
from wsgi_oauth.oauth.registration import Registration
from wsgi_oauth.transport.pool import Transport

for_each_preset = pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS.keys())


def configured(preset: Provider) -> Provider:
    """Return the provider of *preset*, at its example issuer if it needs one."""
    issuer = preset.issuer_example or None
    return provider_from_config(ProviderConfig(client_id="id", provider=preset.name, issuer=issuer))


def test_names_are_sorted_and_stay_the_same() -> None:
    """A name is a part of user ids. The documented responses list all of them."""
    assert list(PRESETS) == sorted(USER_DOCUMENTS)


@for_each_preset
def test_urls_are_https_and_without_placeholders(preset: Provider) -> None:
    found = configured(preset)
    used_urls = [
        value for name, value in found._asdict().items() if (name.endswith("_url") or name == "issuer") and value
    ]
    for url in [*used_urls, *(each.url for each in found.lists)]:
        page = url.partition("#")[0] if url in {found.documentation_url, found.registration_url} else url
        assert urls.parse_url(page).scheme == "https", url
        assert not re.search(r"[{}\s]|//.*//", url), url
    endpoints = [found.authorization_url, found.token_url]
    if not found.openid:  # otherwise the ID token can describe the user
        endpoints.append(found.profile_url)
    assert all(endpoints) or (found.discovery and not any(endpoints))


@for_each_preset
def test_values_are_valid(preset: Provider) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]*", preset.name)
    assert preset.title
    assert preset.documentation_url.startswith("https://")
    assert preset.registration_url
    assert preset.client_auth in {"", *CLIENT_AUTH_METHODS}
    for scope in (preset.scope, *(each.scope for each in preset.lists)):
        assert re.fullmatch(r"([\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*)?", scope)  # RFC 6749 3.3
    assert all(re.fullmatch(r"[A-Z`].*[.]", note) for note in preset.notes)


@for_each_preset
def test_scope_requests_an_id_token_if_one_is_expected(preset: Provider) -> None:
    if preset.openid or preset.discovery:
        assert "openid" in preset.scope.split()
        assert configured(preset).issuer


@for_each_preset
def test_only_an_existing_username_is_unique(preset: Provider) -> None:
    assert preset.user.username or not preset.username_is_unique


@for_each_preset
def test_sign_out_at_the_provider_has_known_placeholders_only(preset: Provider) -> None:
    sent = dict(preset.end_session_parameters)
    assert set(sent.values()) <= {"{client_id}", "{id_token}", "{signed_out_url}", "{state}"}
    assert "{signed_out_url}" in sent.values()


@for_each_preset
def test_notes_mention_missing_pkce(preset: Provider) -> None:
    """S8: only providers that reject PKCE are used without it."""
    assert preset.pkce or "PKCE" in " ".join(preset.notes)


@for_each_preset
def test_identity_is_read_from_the_documented_user_document(preset: Provider) -> None:
    document, expected = USER_DOCUMENTS[preset.name]
    found = read_identity(document, preset)
    identity = (found.subject, found.username, found.name, found.email, found.email_verified, found.groups)
    assert identity == expected


@pytest.mark.parametrize("name", [name for name, each in PRESETS.items() if not each.user.email_verified])
def test_undocumented_member_does_not_verify_an_email_address(name: str) -> None:
    document, _ = USER_DOCUMENTS[name]
    assert not read_identity({**document, "email_verified": True, "verified": True}, PRESETS[name]).email_verified


class Imitation(LocalProvider):
    """A local provider that requires the requests of a preset, and answers in its way."""

    def __init__(self, preset: Provider) -> None:
        scope = preset.scope.replace("{client_id}", "demo-client") or "profile"
        super().__init__(scope=scope, user=USER_DOCUMENTS[preset.name][0], require_pkce=preset.pkce)
        self.preset = preset
        self.answer_token: Callable[[Response], Response] = lambda answer: answer
        self.routes["/user"] = ("profile", {preset.profile_method: self.profile})

    def decide(self, request: Request) -> Response:
        sent = dict(request.args)
        assert sent.items() >= dict(self.preset.authorization_parameters).items()
        assert ("code_challenge" in sent) == self.preset.pkce
        return super().decide(request)

    def token(self, request: Request) -> Response:
        if not self.preset.pkce and "code_verifier" in request.form:
            return Response('{"error": "invalid_client"}', 401, mimetype="application/json")  # like LinkedIn
        by_header = "Authorization" in request.headers
        assert by_header == (self.preset.client_auth in {"", "basic", "basic-raw"})
        answer = super().token(request)
        if answer.is_json and answer.status_code == 200:
            document = {**answer.get_json(), **TOKEN_RESPONSES.get(self.preset.name, {})}
            present = {name: value for name, value in document.items() if value is not None}
            answer = Response(json.dumps(present), mimetype="application/json")
        return self.answer_token(answer)

    def profile(self, request: Request) -> Response:
        if any(request.headers.get(name) != value for name, value in self.preset.profile_headers):
            return Response('{"code": "missing_version"}', 400, mimetype="application/json")  # like Notion
        if request.get_data(as_text=True) != self.preset.profile_body:
            return Response('{"errors": [{"message": "no query"}]}', 400, mimetype="application/json")  # like Linear
        return super().profile(request)


def config_for(name: str, provider: LocalProvider) -> Config:
    """Return a configuration with the name of a preset, and without endpoints."""
    unset = dict.fromkeys(("AUTHORIZATION_URL", "TOKEN_URL", "PROFILE_URL", "ISSUER", "SCOPE"), "")
    return Config.from_environ(environ_for(provider, PROVIDER=name, **unset))


@pytest.fixture
def imitate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], tuple[Imitation, Browser]]]:
    """``provider, browser = imitate("notion")``: an imitation of Notion, and an application that uses it."""
    with ExitStack() as stack:

        def imitate(name: str) -> tuple[Imitation, Browser]:
            provider = Imitation(PRESETS[name])
            stack.enter_context(serve_provider(provider))
            local = PRESETS[name]._replace(
                authorization_url=provider.authorization_url,
                token_url=provider.token_url,
                profile_url=provider.profile_url,
                issuer=provider.url,
                issuer_example="",
                openid=False,  # because the local provider issues no ID tokens
                discovery=False,
                response_mode="query",  # because the local provider sends no forms
                groups=(),  # at the real provider
            )
            monkeypatch.setitem(PRESETS, name, local)
            return provider, Browser(create_app(config_for(name, provider), store=MemoryStore()), provider)

        yield imitate


@for_each_preset
def test_sign_in_works(preset: Provider, imitate: Any) -> None:
    _, browser = imitate(preset.name)
    browser.sign_in()
    assert browser.profile().json == USER_DOCUMENTS[preset.name][0]


def test_authorization_request_has_the_parameters_of_the_preset(imitate: Any) -> None:
    _, browser = imitate("twitch")
    sent = parameters(browser.start())
    assert sent["claims"] == '{"userinfo":{"email":null,"email_verified":null,"preferred_username":null}}'
    assert sent["scope"] == "openid user:read:email"
    assert sent["code_challenge_method"] == "S256"


@pytest.mark.parametrize("name", ["linkedin", "slack"])
def test_providers_without_pkce_receive_neither_challenge_nor_verifier(name: str, imitate: Any) -> None:
    provider, browser = imitate(name)
    assert not {"code_challenge", "code_challenge_method"} & parameters(browser.start()).keys()
    browser.sign_in()
    assert "code_verifier" not in parse_qs(provider.exchanges[-1].body)


def test_client_authentication_follows_the_preset(imitate: Any) -> None:
    for name in ("spotify", "facebook"):
        provider, browser = imitate(name)
        browser.sign_in()
        [exchange] = [each for each in provider.exchanges if each.endpoint == "token"]
        form = parse_qs(exchange.body)
        if name == "spotify":
            scheme, _, credentials = exchange.headers["Authorization"].partition(" ")
            assert (scheme, b64decode(credentials)) == ("Basic", b"demo-client:demo-secret")
            assert "client_secret" not in form
        else:
            assert (form["client_id"], form["client_secret"]) == (["demo-client"], ["demo-secret"])


@pytest.mark.parametrize(
    ("error", "cause"),
    [("invalid_code", "code_refused"), ("bad_client_secret", "client_refused"), ("internal_error", "provider_error")],
)
def test_error_codes_of_slack_are_understood(error: str, cause: str, imitate: Any) -> None:
    """https://docs.slack.dev/reference/methods/oauth.v2.access: with status 200."""
    provider, browser = imitate("slack")
    provider.answer_token = lambda answer: Response(
        json.dumps({"ok": False, "error": error}), mimetype="application/json"
    )
    assert browser.get(browser.callback_url(), headers=JSON).json["error"] == cause


def test_access_token_is_sent_in_the_header_only(imitate: Any) -> None:
    """S27. The compliance fix of requests-oauthlib for Slack would move it to the body or the URL."""
    provider, browser = imitate("slack")
    browser.sign_in()
    browser.profile()
    [exchange] = [each for each in provider.exchanges if each.endpoint == "profile"]
    assert exchange.headers["Authorization"].startswith("Bearer ")
    assert "token" not in exchange.url + exchange.body


@pytest.mark.parametrize("error", ["user_cancelled_login", "user_cancelled_authorize"])
def test_user_who_declines_at_linkedin_gets_the_usual_page(error: str, imitate: Any) -> None:
    """S12."""
    _, browser = imitate("linkedin")
    state = parameters(browser.start())["state"]
    declined = browser.get(f"/callback?error={error}&state={state}", headers=JSON)
    assert declined.json["error"] == errors.LoginDeclined.cause


@pytest.mark.parametrize(("name", "method"), [("dropbox", "POST"), ("notion", "GET")])
def test_check_command_requests_the_user_document_as_the_provider_requires(
    name: str, method: str, imitate: Any
) -> None:
    provider, _ = imitate(name)
    [config] = config_for(name, provider).providers
    registration = Registration(config, provider_from_config(config), Transport(10), (), lambda *_: None)
    findings = list(ProviderCheck(config, registration, "http://localhost").endpoint_findings())
    assert [finding.level for finding in findings if "profile endpoint" in finding.text] == ["ok"]
    [sent] = [exchange for exchange in provider.exchanges if exchange.endpoint == "profile"]
    assert sent.method == method
    assert set(PRESETS[name].profile_headers) <= set(sent.headers.items())


EXAMPLES = re.findall(r"<!-- example ([\w-]+) -->\n```sh\n(.*?)```", generator.TEMPLATE.read_text(), re.DOTALL)


@pytest.mark.parametrize("script", [script for _, script in EXAMPLES], ids=[name for name, _ in EXAMPLES])
def test_settings_of_an_example_start_the_application(script: str) -> None:
    words = shlex.split(script, comments=True)
    settings = dict(word.split("=", 1) for word in words if word != "export")
    config = Config.from_environ(settings)
    create_app(config, store=MemoryStore())
    assert len(config.allow) == 1


def test_document_about_providers_is_up_to_date() -> None:
    assert generator.DOCUMENT.read_text() == generator.page(), "run `python tools/providers.py --write`"
