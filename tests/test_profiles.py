"""From nothing to "only this group may enter", with local providers that behave like well-known products."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from conftest import JSON, Browser, parameters

from wsgi_oauth import Config, MemoryStore, create_app
from wsgi_oauth.cli import demo
from wsgi_oauth.cli.check import findings
from wsgi_oauth.cli.main import main
from wsgi_oauth.demo.profiles import PROFILES
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.oauth.presets import PRESETS

DOCUMENT = (Path(__file__).parents[1] / "docs" / "providers.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- example ([\w-]+) -->\n```sh\n(.*?)```", DOCUMENT, re.DOTALL))
OF_THIS_MACHINE = {"PROVIDER", "ISSUER", "CLIENT_ID", "CLIENT_SECRET", "PUBLIC_URL"}  # differ from the example

ServeProduct = Callable[[str], Any]


@pytest.fixture
def serve_product() -> Iterator[ServeProduct]:
    servers = []

    def serve_product(name: str) -> Any:
        product: Any = PROFILES[name]()
        servers.append(serve_provider(product))
        return product

    yield serve_product
    for server in servers:
        server.close()


@pytest.fixture(params=PROFILES)
def product(request: pytest.FixtureRequest, serve_product: ServeProduct) -> Any:
    return serve_product(request.param)


def environ_for(product: Any, **settings: str) -> dict[str, str]:
    settings = {"SESSION_STORE": "memory:", **product.settings, **settings}
    return {f"WSGI_OAUTH_{name}": value for name, value in settings.items()}


def open_browser(product: Any, **settings: str) -> Browser:
    return Browser(create_app(Config.from_environ(environ_for(product, **settings))), product)


@pytest.mark.parametrize(
    ("profile", "example"),
    [("keycloak", "keycloak"), ("entra-id", "microsoft"), ("adfs", "adfs"), ("okta", "okta"), ("github", "github")],
)
def test_settings_are_those_of_the_example_in_the_document(
    profile: str, example: str, serve_product: ServeProduct
) -> None:
    words = shlex.split(EXAMPLES[example], comments=True)
    documented = dict(word.removeprefix("WSGI_OAUTH_").split("=", 1) for word in words if word != "export")
    settings = serve_product(profile).settings
    assert {name: value for name, value in settings.items() if name not in OF_THIS_MACHINE} == {
        name: value for name, value in documented.items() if name not in OF_THIS_MACHINE
    }
    assert settings["PROVIDER"].startswith(documented["PROVIDER"])


class TestEachProfile:
    def test_member_of_the_group_enters(self, product: Any) -> None:
        browser = open_browser(product)
        assert browser.get(browser.callback_url()).status_int == 303
        assert browser.profile().status_int == 200

    def test_other_user_is_kept_out_and_the_log_says_why(self, product: Any, caplog: pytest.LogCaptureFixture) -> None:
        browser = open_browser(product)
        assert browser.get(browser.callback_url(user="guest")).status_int == 403
        [line] = [each.getMessage() for each in caplog.records if "not_allowed" in each.getMessage()]
        assert "the provider gives" in line

    def test_check_finds_no_problem(self, product: Any) -> None:
        assert not [found for found in findings(environ_for(product)) if found.level == "FAIL"]

    def test_wrong_client_secret_is_reported_in_the_words_of_the_product(
        self, product: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        browser = open_browser(product, CLIENT_SECRET="wrong")
        response = browser.get(browser.callback_url(), headers=JSON)
        assert (response.status_int, response.json["error"]) == (502, "client_refused")
        _, description = product.errors.get("invalid_client", ("", "invalid_client"))
        assert description in caplog.text

    def test_sign_in_page_offers_the_users(self, product: Any) -> None:
        page = requests.get(open_browser(product).start(), timeout=10).text
        assert re.findall('<button name="user" value="(.*?)"', page) == list(product.logins)


class TestKeycloak:
    def test_login_page_that_waited_too_long_starts_again_once(self, serve_product: ServeProduct) -> None:
        browser = open_browser(serve_product("keycloak"))
        again = browser.get(browser.get(browser.callback_url(user="late")).location)
        assert again.location.startswith(browser.provider.authorization_url)
        response = browser.get(browser.consent(again.location, user="late"), headers=JSON)
        assert (response.status_int, response.json["error"]) == (400, "sign_in_expired")

    @pytest.mark.parametrize(("user", "status"), [("octocat", 303), ("guest", 403)])
    def test_rule_about_a_realm_role_is_decided_by_the_id_token(
        self, user: str, status: int, serve_product: ServeProduct
    ) -> None:
        browser = open_browser(serve_product("keycloak"), ALLOW="claim:realm_access.roles=wiki-editor")
        assert browser.get(browser.callback_url(user=user)).status_int == status

    def test_offline_session_is_not_requested(self, serve_product: ServeProduct) -> None:
        assert parameters(open_browser(serve_product("keycloak")).start())["scope"] == "openid profile email"

    def test_sign_out_continues_to_the_provider_and_back(self, serve_product: ServeProduct) -> None:
        browser = open_browser(serve_product("keycloak"))
        browser.sign_in()
        at_provider = requests.get(browser.post("/logout").location, allow_redirects=False, timeout=10)
        assert browser.get(at_provider.headers["Location"]).status_int == 200


class TestEntraID:
    @pytest.mark.parametrize("name", ["organizations", "common"])
    @pytest.mark.parametrize(("user", "status"), [("octocat", 303), ("partner", 403)])
    def test_users_of_several_tenants_are_told_apart_by_a_rule(
        self, name: str, user: str, status: int, serve_product: ServeProduct
    ) -> None:
        product = serve_product("entra-id")
        browser = open_browser(product, ISSUER=f"{product.url}/{name}/v2.0", ALLOW=f"claim:tid={product.tenant}")
        assert browser.get(browser.callback_url(user=user)).status_int == status

    def test_user_with_many_groups_enters_through_microsoft_graph(self, serve_product: ServeProduct) -> None:
        product, preset = serve_product("entra-id"), PRESETS["microsoft"]
        groups = preset.groups[0]._replace(url=f"{product.url}{product.graph_path}?$select=id&$top=999")
        config = Config(
            provider=preset._replace(name="local-entra-id", groups=(groups,)),
            issuer=product.issuer,
            client_id=product.client_id,
            client_secret=product.client_secret,
            allow=[product.rule],
        )
        browser = Browser(create_app(config, store=MemoryStore()), product)
        assert browser.get(browser.callback_url(user="many-groups")).status_int == 303
        assert product.count("graph") == 2


class TestADFS:
    def test_missing_scope_is_visible_in_the_log(
        self, serve_product: ServeProduct, caplog: pytest.LogCaptureFixture
    ) -> None:
        browser = open_browser(serve_product("adfs"), SCOPE="openid profile email")
        assert browser.get(browser.callback_url()).status_int == 403
        assert "the provider gives no groups" in caplog.text


class TestOkta:
    def test_user_who_is_not_assigned_is_not_blamed(
        self, serve_product: ServeProduct, caplog: pytest.LogCaptureFixture
    ) -> None:
        browser = open_browser(serve_product("okta"))
        page = browser.get(browser.callback_url(user="unassigned"))
        assert page.status_int == 403
        assert "User is not assigned to the client application." in caplog.text
        assert "You declined" not in page.text


class TestGitHub:
    def test_organization_on_a_later_page_is_found(self, serve_product: ServeProduct) -> None:
        browser = open_browser(serve_product("github"), ALLOW="org:octo-org")
        start = browser.start()
        assert parameters(start)["scope"] == "read:org"
        assert browser.get(browser.consent(start)).status_int == 303

    @pytest.mark.parametrize(
        ("rule", "granted", "missing"),
        [
            ("group:octo-org/wiki-editors", "user:email", "read:org"),
            ("email:octocat@example.com", "read:org", "user:email"),
        ],
    )
    def test_missing_scope_of_a_list_is_named(
        self,
        rule: str,
        granted: str,
        missing: str,
        serve_product: ServeProduct,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        browser = open_browser(serve_product("github"), ALLOW=rule)
        start = browser.start()
        narrowed = f"{start.partition('?')[0]}?{urlencode({**parameters(start), 'scope': granted})}"
        assert browser.get(browser.consent(narrowed)).status_int == 403
        assert missing in caplog.text

    def test_verified_address_is_read_from_the_list(self, serve_product: ServeProduct) -> None:
        browser = open_browser(serve_product("github"), ALLOW="email:octocat@example.com")
        assert browser.get(browser.callback_url()).status_int == 303

    def test_sign_out_deletes_the_token(self, serve_product: ServeProduct) -> None:
        product = serve_product("github")
        browser = open_browser(product)
        browser.sign_in()
        [token] = [json.loads(each.response_body) for each in product.exchanges if each.endpoint == "token"]
        assert product.find_grant(f"Bearer {token['access_token']}") is not None
        browser.post("/logout")
        assert product.find_grant(f"Bearer {token['access_token']}") is None

    def test_code_that_was_used_is_an_error_with_status_200(self, serve_product: ServeProduct) -> None:
        product = serve_product("github")
        data = {"grant_type": "authorization_code", "code": "x", "code_verifier": "x" * 43}
        data |= {"client_id": product.client_id, "client_secret": product.client_secret}
        answer = requests.post(product.token_url, data=data, timeout=10)
        assert (answer.status_code, answer.text.partition("&")[0]) == (200, "error=bad_verification_code")


def test_option_of_the_demo_names_every_profile() -> None:
    assert tuple(PROFILES) == demo._PROFILES


@pytest.mark.parametrize("arguments", [["--profile", "nobody"], ["--profile", "okta", "--walk"]])
def test_demo_refuses_an_unusable_profile(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["demo", *arguments])
    assert caught.value.code == 2
    assert "--profile: " in capsys.readouterr().err
