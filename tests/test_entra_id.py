"""Microsoft Entra ID: groups and roles in the ID token, group overage, verified addresses, and several tenants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from conftest import JSON, Browser, stored_sessions
from openid import HOUR, Issuer
from webtest import TestResponse
from werkzeug import Request, Response

from wsgi_oauth import Config, MemoryStore, create_app
from wsgi_oauth.cli.check import findings
from wsgi_oauth.config import ProviderConfig
from wsgi_oauth.demo.local_provider import json_response
from wsgi_oauth.demo.server import serve, serve_provider
from wsgi_oauth.demo.signing import public_keys
from wsgi_oauth.oauth import service
from wsgi_oauth.oauth.configured import provider_from_config
from wsgi_oauth.oauth.discovery import Discovery
from wsgi_oauth.transport.pool import Transport

OURS, THEIRS = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"
GROUP = "6b0e2a35-0d0b-4a0e-9c8e-3d1a6f2d7c11"
USER_DOCUMENT = {"sub": "mona", "name": "Mona", "email": "mona@corp.example"}


class Tenants(Issuer):
    """The issuer of the tenant OURS, and of all tenants at /organizations/v2.0."""

    def __init__(self) -> None:
        super().__init__(scope="openid profile email User.Read")
        self.user = USER_DOCUMENT
        self.tenant = OURS  # the tenant of the next user who signs in
        self.in_discovery = OURS
        for tenant in (OURS, "organizations", "common"):
            self.routes[f"/{tenant}/v2.0/.well-known/openid-configuration"] = (
                "discovery",
                {"GET": lambda request: self.discover()},
            )

    def issuer_of(self, tenant: str) -> str:
        return f"{self.url}/{tenant}/v2.0"

    def discovery_document(self) -> Response:
        self.metadata = {
            "issuer": self.issuer_of(self.in_discovery),
            "authorization_response_iss_parameter_supported": None,
            **self.metadata,
        }
        return super().discovery_document()

    def token(self, request: Request) -> Response:
        self.claims = {"iss": self.issuer_of(self.tenant), "tid": self.tenant, **self.claims}
        return super().token(request)


@pytest.fixture
def entra() -> Iterator[Tenants]:
    entra = Tenants()
    with serve_provider(entra):
        yield entra


MakeBrowser = Callable[..., Browser]


def settings_for(entra: Tenants, **settings: str) -> dict[str, str]:
    known = {
        "PROVIDER": "microsoft",
        "ISSUER": entra.issuer_of(entra.in_discovery),
        "CLIENT_ID": entra.client_id,
        "CLIENT_SECRET": str(entra.client_secret),
        "SCOPE": "openid profile email",
    }
    return {f"WSGI_OAUTH_{name}": value for name, value in {**known, **settings}.items()}


@pytest.fixture
def make_browser(entra: Tenants, store: MemoryStore) -> MakeBrowser:
    def make_browser(**settings: str) -> Browser:
        return Browser(create_app(Config.from_environ(settings_for(entra, **settings)), store=store), entra)

    return make_browser


@pytest.fixture
def of_all_tenants(entra: Tenants, make_browser: MakeBrowser) -> MakeBrowser:
    """Make a browser at an application for users of several tenants."""

    def make_browser_of_all(name: str = "organizations", **settings: str) -> Browser:
        entra.in_discovery = "{tenantid}"
        return make_browser(ISSUER=entra.issuer_of(name), **settings)

    return make_browser_of_all


def sign_in(browser: Browser, iss: str | None = None) -> TestResponse:
    """Sign in, and return the response of the callback, whose parameter ``iss`` is absent or *iss*."""
    callback = browser.callback_url().partition("&iss=")[0]
    return browser.get(callback + (f"&iss={quote(iss, safe='')}" if iss else ""), headers=JSON)


def identities(store: MemoryStore) -> list[dict[str, Any]]:
    return [session["oauth_identity"] for session in stored_sessions(store) if "oauth_identity" in session]


class TestOneTenant:
    def test_groups_and_roles_are_in_the_id_token(
        self, entra: Tenants, make_browser: MakeBrowser, store: MemoryStore
    ) -> None:
        entra.claims |= {"groups": [GROUP], "roles": ["App.Admin"]}
        for rule, status in {GROUP: 303, "App.Admin": 303, "App.Other": 403}.items():
            assert sign_in(make_browser(ALLOW=f"group:{rule}")).status_int == status
        assert identities(store)[0]["groups"] == [GROUP, "App.Admin"]

    def test_rule_about_a_role_matches_no_group_of_the_same_name(
        self, entra: Tenants, make_browser: MakeBrowser
    ) -> None:
        entra.claims["groups"] = ["App.Admin"]
        assert sign_in(make_browser(ALLOW="claim:roles=App.Admin")).status_int == 403
        entra.claims["roles"] = ["App.Admin"]
        assert sign_in(make_browser(ALLOW="claim:roles=App.Admin")).status_int == 303

    @pytest.mark.parametrize("is_in_document", [True, False])
    @pytest.mark.parametrize(
        ("verified", "status"),
        [(True, 303), ("1", 303), (1, 303), ("true", 303), (False, 403), ("0", 403), (0, 403), (None, 403)],
        ids=repr,
    )
    def test_address_is_verified_only_by_xms_edov(
        self, verified: object, status: int, is_in_document: bool, entra: Tenants, make_browser: MakeBrowser
    ) -> None:
        if not is_in_document:
            entra.user = {"sub": "mona"}
        entra.claims |= {"email": "mona@corp.example", "email_verified": True, "xms_edov": verified}
        assert sign_in(make_browser(ALLOW="email:*@corp.example")).status_int == status

    def test_xms_edov_verifies_no_other_address(self, entra: Tenants, make_browser: MakeBrowser) -> None:
        entra.claims |= {"email": "mallory@evil.example", "xms_edov": True}
        for address in ("*@corp.example", "*@evil.example"):
            assert sign_in(make_browser(ALLOW=f"email:{address}")).status_int == 403

    def test_id_token_of_another_tenant_is_refused(self, entra: Tenants, make_browser: MakeBrowser) -> None:
        entra.tenant = THEIRS
        assert sign_in(make_browser()).json["error"] == "id_token_refused"

    @pytest.mark.parametrize("host", ["login.microsoftonline.com", "login.microsoftonline.us"])
    def test_url_of_an_issuer_of_microsoft_selects_the_preset(self, host: str) -> None:
        issuer = f"https://{host}/{OURS}/v2.0"
        by_url = ProviderConfig(client_id="i", client_secret="s", provider=issuer)
        by_name = ProviderConfig(client_id="i", client_secret="s", provider="microsoft", issuer=issuer)
        assert provider_from_config(by_url) == provider_from_config(by_name)
        assert provider_from_config(by_url).user.groups == "groups roles"


class TestGroupOverage:
    """For a user with more than 200 groups, the ID token contains a reference instead of the groups."""

    @pytest.fixture
    def graph(self, entra: Tenants, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Request]]:
        """Serve Microsoft Graph, and record its requests."""
        requests: list[Request] = []
        self.pages: dict[str, Any] = {}

        @Request.application
        def answer(request: Request) -> Response:
            requests.append(request)
            page = request.args.get("page", "1")
            document = {"value": [{"@odata.type": "#microsoft.graph.group", "id": f"group-{page}"}]}
            if page < "3":
                document["@odata.nextLink"] = f"{request.base_url}?page={int(page) + 1}"
            return Response(json.dumps(document), self.status, mimetype="application/json")

        self.status = 200
        known = provider_from_config
        with serve(answer) as server:

            def local(config: ProviderConfig) -> Any:
                provider = known(config)
                [groups] = provider.groups
                url = groups.url.replace("https://graph.microsoft.com", server.url)
                return provider._replace(groups=(groups._replace(url=url),))

            monkeypatch.setattr(service, "provider_from_config", local)
            yield requests

    @pytest.mark.parametrize(
        "overage",
        [
            {
                "_claim_names": {"groups": "src1"},
                "_claim_sources": {"src1": {"endpoint": "https://evil.example/groups"}},
            },
            {"hasgroups": True},
            {"hasgroups": "true"},
        ],
        ids=["claim names", "hasgroups", "hasgroups as a string"],
    )
    def test_groups_are_read_from_all_pages_of_microsoft_graph(
        self, overage: dict[str, Any], entra: Tenants, make_browser: MakeBrowser, graph: list[Request]
    ) -> None:
        """The address in the token is not used, because the access token must not be sent to it."""
        entra.claims |= overage
        assert sign_in(make_browser(ALLOW="group:group-3")).status_int == 303
        assert [request.path for request in graph] == ["/v1.0/me/transitiveMemberOf"] * 3
        assert graph[0].headers["Authorization"].startswith("Bearer ")

    def test_graph_is_not_asked_without_an_overage(
        self, entra: Tenants, make_browser: MakeBrowser, graph: list[Request]
    ) -> None:
        entra.claims["groups"] = [GROUP]
        assert sign_in(make_browser(ALLOW=f"group:{GROUP}")).status_int == 303
        assert not graph

    def test_missing_permission_is_named_to_the_user_and_in_the_log(
        self, entra: Tenants, make_browser: MakeBrowser, graph: list[Request], caplog: pytest.LogCaptureFixture
    ) -> None:
        self.status = 403
        entra.claims["hasgroups"] = True
        response = sign_in(make_browser(ALLOW="group:group-1"))
        assert response.status_int == 403
        assert "User.Read" in response.text
        assert "User.Read" in caplog.text

    def test_overage_without_a_rule_about_groups_leaves_a_log_line(
        self,
        entra: Tenants,
        make_browser: MakeBrowser,
        graph: list[Request],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        entra.claims["hasgroups"] = True
        browser = make_browser()
        assert sign_in(browser).status_int == 303
        browser.profile()
        assert "has too many groups for the ID token" in caplog.text
        assert "let the provider send fewer" in caplog.text
        assert not graph

    def test_scope_is_requested_for_a_rule_about_groups(self, make_browser: MakeBrowser) -> None:
        assert "User.Read" in make_browser(ALLOW="group:x").start()
        assert "User.Read" not in make_browser().start()

    def test_national_clouds_have_another_host(self, entra: Tenants) -> None:
        entra.metadata["msgraph_host"] = "graph.microsoft.us"
        config = ProviderConfig(
            client_id="i", client_secret="s", provider="microsoft", issuer=entra.issuer_of(OURS), scope="openid"
        )
        [groups] = Discovery(provider_from_config(config), config, Transport(10, 1)).provider().groups
        assert groups.url.startswith("https://graph.microsoft.us/v1.0/me/")


class TestSeveralTenants:
    @pytest.mark.parametrize("name", ["organizations", "common"])
    def test_users_of_two_tenants_with_the_same_subject_have_different_ids(
        self, name: str, entra: Tenants, of_all_tenants: MakeBrowser, store: MemoryStore
    ) -> None:
        for tenant in (OURS, THEIRS):
            entra.claims, entra.tenant = {}, tenant
            browser = of_all_tenants(name)
            assert sign_in(browser).status_int == 303
            assert browser.profile().json["sub"] == "mona"
        assert {each["subject"] for each in identities(store)} == {f"{OURS}.mona", f"{THEIRS}.mona"}
        assert len({each["provider"] for each in identities(store)}) == 1

    @pytest.mark.parametrize(("signer", "status"), [(OURS, 303), ("{tenantid}", 303), (THEIRS, 502)])
    def test_id_token_is_signed_with_a_key_of_its_tenant(
        self, signer: str, status: int, entra: Tenants, of_all_tenants: MakeBrowser
    ) -> None:
        """S30: in 2023, attackers signed tokens of organizations with a stolen key for personal accounts."""
        pytest.importorskip("jwt")
        key = {**public_keys()["keys"][0], "issuer": entra.issuer_of(signer)}
        entra.publish_keys = lambda: json_response({"keys": [key]})
        assert sign_in(of_all_tenants()).status_int == status

    def test_rule_names_the_tenants(self, entra: Tenants, of_all_tenants: MakeBrowser) -> None:
        for tenant, status in ((OURS, 303), (THEIRS, 403)):
            entra.claims, entra.tenant = {}, tenant
            assert sign_in(of_all_tenants(ALLOW=f"claim:tid={OURS}")).status_int == status

    @pytest.mark.parametrize(
        "claims",
        [
            {"tid": THEIRS},
            {"tid": None},
            {"tid": ["x"]},
            {"tid": "{tenantid}", "iss": "{url}/{{tenantid}}/v2.0"},
            {"tid": "a/b", "iss": "{url}/a/b/v2.0"},
            {"tid": "", "iss": "{url}//v2.0"},
            {"iss": "https://evil.example/11111111-2222-3333-4444-555555555555/v2.0"},
            {"iss": "{url}/11111111-2222-3333-4444-555555555555/v2.0/"},
            {"iss": "{url}/11111111-2222-3333-4444-555555555555/v2.0\n"},
            {"iss": "{url}/organizations/v2.0"},
            {"iss": None},
        ],
        ids=str,
    )
    def test_issuer_that_is_not_the_one_of_the_tenant_is_refused(
        self, claims: dict[str, Any], entra: Tenants, of_all_tenants: MakeBrowser
    ) -> None:
        """OpenID Connect Core 3.1.3.7, item 2."""
        entra.claims |= {
            name: value.format(url=entra.url) if name == "iss" and value else value for name, value in claims.items()
        }
        response = sign_in(of_all_tenants())
        assert (response.status_int, response.json["error"]) == (502, "id_token_refused")

    def test_user_document_cannot_name_another_tenant(self, entra: Tenants, of_all_tenants: MakeBrowser) -> None:
        entra.tenant, entra.user = THEIRS, {**USER_DOCUMENT, "tid": OURS, "iss": entra.issuer_of(OURS)}
        assert sign_in(of_all_tenants(ALLOW=f"claim:tid={OURS}")).status_int == 403

    def test_user_document_without_an_id_token_is_refused(
        self, entra: Tenants, of_all_tenants: MakeBrowser, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Because without an ID token the tenant is unknown."""
        browser = of_all_tenants(SCOPE="profile", ALLOW=f"claim:tid={OURS}")
        entra.user = {**USER_DOCUMENT, "tid": OURS, "iss": entra.issuer_of(OURS)}
        assert sign_in(browser).json["error"] == "id_token_refused"
        assert "add openid to the scope" in caplog.text

    @pytest.mark.parametrize(
        ("iss", "error"),
        [
            ("{url}/11111111-2222-3333-4444-555555555555/v2.0", None),
            ("{url}/organizations/v2.0/", "issuer_mismatch"),
            ("{url}", "issuer_mismatch"),
            ("https://evil.example/11111111-2222-3333-4444-555555555555/v2.0", "issuer_mismatch"),
        ],
    )
    def test_authorization_response_may_name_the_issuer_of_a_tenant(
        self, iss: str, error: str | None, entra: Tenants, of_all_tenants: MakeBrowser
    ) -> None:
        """RFC 9207 2.4."""
        response = sign_in(of_all_tenants(), iss.format(url=entra.url))
        assert (response.status_int, error and response.json["error"]) == (400 if error else 303, error)

    def test_refreshed_id_token_of_another_tenant_ends_the_session(
        self, entra: Tenants, of_all_tenants: MakeBrowser, later: Callable[[float], None]
    ) -> None:
        """OpenID Connect Core 12.2."""
        browser = of_all_tenants()
        sign_in(browser)
        entra.claims, entra.tenant = {}, THEIRS
        later(HOUR)
        assert browser.profile().status_int == 401
        assert entra.count("refresh") == 1

    def test_placeholder_is_accepted_only_in_the_place_of_the_configured_name(
        self, entra: Tenants, make_browser: MakeBrowser
    ) -> None:
        """Otherwise the document of one tenant could admit the users of all."""
        entra.in_discovery = "{tenantid}"
        response = make_browser(ISSUER=entra.issuer_of(OURS)).get("/", headers=JSON)
        assert (response.status_int, response.json["error"]) == (502, "provider_error")

    @pytest.mark.parametrize(
        ("rules", "level"),
        [
            ("", "FAIL"),
            (f"group:{GROUP}", "FAIL"),
            (f"claim:tid={OURS}", "ok"),
            (f"claim:tid={OURS} claim:tid={THEIRS}", "ok"),
            (f"claim:tid={OURS} group:App.Admin", "warn"),
        ],
    )
    def test_check_requires_a_rule_about_tenants(self, rules: str, level: str, entra: Tenants) -> None:
        entra.in_discovery = "{tenantid}"
        settings = settings_for(entra, ISSUER=entra.issuer_of("organizations"), ALLOW=rules, SESSION_STORE="memory:")
        found = [each for each in findings(settings) if each.text.startswith("access: ") and "tenant" in each.text]
        assert [each.level for each in found] == [level]
        assert level != "FAIL" or "claim:tid=" in found[0].remedy

    def test_check_does_not_expect_scopes_of_microsoft_graph_in_the_document(self, entra: Tenants) -> None:
        found = list(findings(settings_for(entra, ALLOW=f"group:{GROUP}", SESSION_STORE="memory:")))
        assert any("User.Read" in each.text for each in found if each.text.startswith("scope: "))
        assert not any("scopes_supported lacks" in each.text for each in found)
