"""The local provider and each of its faults, over real sockets."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import secrets
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote_plus, urlencode, urlsplit

import pytest

from wsgi_oauth.demo.fault_injection import FaultInjector
from wsgi_oauth.demo.faults import AUTHORIZE_FAULTS, FAULTS, PROFILE_FAULTS, REFRESH_FAULTS, REVOKE_FAULTS, TOKEN_FAULTS
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import Server, serve, serve_provider
from wsgi_oauth.demo.signing import decode
from wsgi_oauth.polling import poll

CALLBACK = "http://127.0.0.1:8000/callback"
TIMEOUT = 60  # seconds until a test gives up
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The parameters of the authorization response."""
        query = urlsplit(self.headers["Location"]).query
        return parse_qsl(query, keep_blank_values=True)


def ask(
    method: str,
    url: str,
    form: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> Answer:
    """Send one request on a new connection; redirects are not followed."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    try:
        connection.request(
            method,
            f"{parts.path}?{parts.query}" if parts.query else parts.path,
            urlencode(form) if form is not None else None,
            {**(FORM if form is not None else {}), **(headers or {})},
        )
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def basic(client_id: str, secret: str) -> dict[str, str]:
    """Return an HTTP Basic header with form-encoded id and secret (RFC 6749 2.3.1)."""
    credentials = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class OAuthClient:
    """A client that sends correct requests but validates no response."""

    def __init__(self, provider: LocalProvider) -> None:
        self.provider = provider
        self.verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(self.verifier.encode()).digest()
        self.request = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": CALLBACK,
            "scope": "profile email",
            "state": "a-state",
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }

    def url(self, **changes: str) -> str:
        parameters = {**self.request, **changes}
        query = urlencode({key: value for key, value in parameters.items() if value})
        return f"{self.provider.authorization_url}?{query}"

    def decide(self, decision: str = "allow", fault: str = "", user: str = "", **changes: str) -> Answer:
        return ask("POST", self.url(**changes), {"decision": decision, "fault": fault, "user": user})

    def code(self, **changes: str) -> str:
        return dict(self.decide(**changes).parameters)["code"]

    def ask_token(self, **form: str) -> Answer:
        secret = self.provider.client_secret
        headers = basic(self.provider.client_id, secret) if secret else {}
        return ask("POST", self.provider.token_url, form, headers)

    def exchange(self, code: str, **changes: str) -> Answer:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
            **changes,
        }
        return self.ask_token(**{key: value for key, value in form.items() if value})

    def refresh(self, refresh_token: str, **more: str) -> Answer:
        return self.ask_token(grant_type="refresh_token", refresh_token=refresh_token, **more)

    def sign_in(self) -> dict[str, Any]:
        token: dict[str, Any] = self.exchange(self.code()).json
        return token

    def profile(self, access_token: str) -> Answer:
        return ask("GET", self.provider.profile_url, headers=bearer(access_token))

    def revoke(self, token: str) -> Answer:
        headers = basic(self.provider.client_id, self.provider.client_secret or "")
        return ask("POST", self.provider.revocation_url, {"token": token}, headers)


@pytest.fixture
def provider() -> LocalProvider:
    provider = LocalProvider()
    provider.faults.dribble_interval = 0.01
    return provider


@pytest.fixture
def server(provider: LocalProvider) -> Iterator[Server]:
    with serve_provider(provider) as server:
        yield server


@pytest.fixture
def client(provider: LocalProvider, server: Server) -> OAuthClient:
    return OAuthClient(provider)


class TestSignIn:
    def test_the_consent_page_shows_client_user_scopes_and_redirect_uri(self, client: OAuthClient) -> None:
        answer = ask("GET", client.url())
        page = answer.body.decode()
        assert answer.status == 200
        assert answer.headers.get_content_type() == "text/html"
        for expected in ("demo-client", "Mona Lisa Octocat", "email address", CALLBACK):
            assert expected in page

    def test_allow_leads_to_a_code_a_token_and_the_profile(self, client: OAuthClient, provider: LocalProvider) -> None:
        redirect = client.decide("allow")
        parameters = dict(redirect.parameters)
        assert redirect.status == 302
        assert redirect.headers["Location"].startswith(CALLBACK + "?")
        assert (parameters["state"], parameters["iss"]) == ("a-state", provider.url)

        token = client.exchange(parameters["code"])
        assert token.status == 200
        assert token.headers["Cache-Control"] == "no-store"
        assert token.json["token_type"] == "Bearer"
        assert token.json["expires_in"] == 3600
        assert token.json["scope"] == "profile email"

        profile = client.profile(token.json["access_token"])
        assert (profile.status, profile.json) == (200, dict(provider.user))

    def test_the_consent_form_can_name_the_user_who_stays_the_same_after_a_refresh(self, client: OAuthClient) -> None:
        alice, bob, default_user = (client.exchange(client.code(user=user)).json for user in ("alice", "bob", ""))
        profiles = [client.profile(token["access_token"]).json for token in (alice, bob, default_user)]
        assert [profile["login"] for profile in profiles] == ["alice", "bob", "octocat"]
        assert len({profile["id"] for profile in profiles}) == 3
        fresh = client.refresh(alice["refresh_token"]).json
        assert client.profile(fresh["access_token"]).json == profiles[0]

    def test_an_invalid_user_name_is_rejected(self, client: OAuthClient) -> None:
        assert client.decide(user="<b>").status == 400

    def test_deny_leads_to_access_denied_with_state_and_iss(self, client: OAuthClient, provider: LocalProvider) -> None:
        parameters = dict(client.decide("deny").parameters)
        assert parameters == {"error": "access_denied", "state": "a-state", "iss": provider.url}

    def test_exchanges_are_recorded_in_order(self, client: OAuthClient, provider: LocalProvider) -> None:
        ask("GET", client.url())
        client.profile(client.sign_in()["access_token"])
        exchanges = [(each.method, each.endpoint, each.status) for each in provider.exchanges]
        assert exchanges == [
            ("GET", "authorize", 200),
            ("POST", "authorize", 302),
            ("POST", "token", 200),
            ("GET", "profile", 200),
        ]
        exchange = provider.exchanges[2]
        assert exchange.url == provider.token_url
        assert exchange.headers["authorization"].startswith("Basic ")
        assert parse_qs(exchange.body)["code_verifier"] == [client.verifier]
        assert "access_token" in json.loads(exchange.response_body)
        assert provider.count("authorize") == 2
        assert provider.count("token") == 1

    def test_head_gets_no_body(self, client: OAuthClient) -> None:
        answer = ask("HEAD", client.url())
        assert (answer.status, answer.body) == (200, b"")

    def test_unknown_paths_get_404_and_other_methods_405(self, provider: LocalProvider, server: Server) -> None:
        assert ask("GET", server.url + "/nothing").status == 404
        response = ask("GET", provider.token_url)
        assert (response.status, response.headers["Allow"]) == (405, "POST")

    def test_pages_load_no_resources_and_escape_parameters(self, client: OAuthClient) -> None:
        markup = '"><script>alert(1)</script>'
        page = ask("GET", client.url(state=markup))
        assert "<script" not in page.body.decode()
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        error_page = ask("POST", client.url(), {"decision": "allow", "fault": markup})
        assert error_page.status == 400
        assert "<script" not in error_page.body.decode()

    def test_the_content_security_policy_allows_the_style(self, client: OAuthClient) -> None:
        page = ask("GET", client.url())
        style = page.body.partition(b"<style>")[2].partition(b"</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
        assert f"'sha256-{digest}'" in page.headers["Content-Security-Policy"]


class TestAuthorizationRequest:
    @pytest.mark.parametrize(
        "change",
        [
            {"client_id": "another-client"},
            {"client_id": ""},
            {"redirect_uri": ""},
            {"redirect_uri": "http://attacker.example/callback"},
            {"redirect_uri": "http://127.0.0.1:8000/elsewhere"},
            {"redirect_uri": "http://127.0.0.1:8000/callback#fragment"},
            {"redirect_uri": "ftp://127.0.0.1/callback"},
            {"redirect_uri": "not a uri"},
        ],
    )
    def test_an_invalid_client_or_redirect_uri_gets_no_redirect(
        self, client: OAuthClient, change: dict[str, str]
    ) -> None:
        for answer in (ask("GET", client.url(**change)), client.decide(**change)):
            assert answer.status == 400
            assert "Location" not in answer.headers

    def test_an_unregistered_redirect_uri_gets_a_page_that_names_the_accepted_ones(self, client: OAuthClient) -> None:
        page = ask("GET", client.url(redirect_uri="https://app.example.com/auth/callback")).body.decode()
        assert "<title>Invalid authorization request: Mismatching redirect URI" in page
        assert "on this machine only: localhost" in page
        assert "cannot tell whether the redirect URI is safe" in page

    @pytest.mark.parametrize("form", [{"decision": "maybe"}, {"fault": "unknown"}, {"user": "not a login"}])
    def test_an_invalid_form_says_nothing_about_the_redirect_uri(
        self, client: OAuthClient, form: dict[str, str]
    ) -> None:
        page = ask("POST", client.url(), {"decision": "allow", **form})
        assert page.status == 400
        assert b"redirect URI" not in page.body

    def test_repeated_parameters_and_malformed_queries_get_no_redirect(self, client: OAuthClient) -> None:
        for query in ("&state=again", "&a=%zz"):
            assert ask("GET", client.url() + query).status == 400

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"code_challenge": ""}, "invalid_request"),
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"code_challenge_method": ""}, "invalid_request"),
            ({"code_challenge": "too-short"}, "invalid_request"),
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"scope": "profile root"}, "invalid_scope"),
        ],
    )
    def test_other_errors_are_reported_to_the_client_with_state_and_iss(
        self, client: OAuthClient, provider: LocalProvider, change: dict[str, str], error: str
    ) -> None:
        for answer in (ask("GET", client.url(**change)), client.decide(**change)):
            parameters = dict(answer.parameters)
            assert (parameters["error"], parameters["state"], parameters["iss"]) == (error, "a-state", provider.url)

    def test_registered_redirect_uris_are_compared_exactly(self) -> None:
        registered = "https://app.example/auth/callback"
        provider = LocalProvider(redirect_uris=[registered])
        with serve_provider(provider):
            client = OAuthClient(provider)
            assert client.decide(redirect_uri=registered).status == 302
            assert client.decide(redirect_uri=registered + "/").status == 400
            assert client.decide(redirect_uri=CALLBACK).status == 400

    def test_a_redirect_uri_keeps_its_own_query(self, client: OAuthClient) -> None:
        parameters = client.decide(redirect_uri=CALLBACK + "?tenant=a").parameters
        assert parameters[0] == ("tenant", "a")


class TestOpenIDConnect:
    """OpenID Connect Core, Discovery, and RP-Initiated Logout."""

    @pytest.fixture
    def openid(self, client: OAuthClient) -> OAuthClient:
        client.request |= {"scope": "openid profile", "nonce": "a-nonce"}
        return client

    def test_metadata_name_working_endpoints(self, client: OAuthClient, provider: LocalProvider) -> None:
        metadata = ask("GET", f"{provider.url}/.well-known/openid-configuration").json
        assert metadata["issuer"] == provider.url
        endpoints = {name: url for name, url in metadata.items() if name.endswith(("_endpoint", "_uri"))}
        assert len(endpoints) == 6
        assert 404 not in {ask("GET", url).status for url in endpoints.values()}

    def test_metadata_name_the_members_that_discovery_requires(self, provider: LocalProvider, server: Server) -> None:
        """OpenID Connect Discovery 3"""
        required = {
            *("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "response_types_supported"),
            *("subject_types_supported", "id_token_signing_alg_values_supported"),
        }
        assert required <= set(provider.discovery_document())
        assert "RS256" in provider.discovery_document()["id_token_signing_alg_values_supported"]

    def test_an_independent_library_accepts_the_id_token(self, openid: OAuthClient, provider: LocalProvider) -> None:
        jwt = pytest.importorskip("jwt")
        token = openid.sign_in()
        metadata = ask("GET", f"{provider.url}/.well-known/openid-configuration").json
        [key] = jwt.PyJWKSet.from_dict(ask("GET", metadata["jwks_uri"]).json).keys
        claims = jwt.decode(
            token["id_token"],
            key,
            algorithms=metadata["id_token_signing_alg_values_supported"],
            audience=provider.client_id,
            issuer=metadata["issuer"],
            options={"require": ["iss", "sub", "aud", "exp", "iat", "auth_time"]},
        )
        assert (claims["sub"], claims["nonce"]) == ("583231", "a-nonce")
        digest = hashlib.sha256(token["access_token"].encode()).digest()
        assert claims["at_hash"] == base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")

    def test_an_independent_client_signs_in(self, provider: LocalProvider, server: Server, monkeypatch: Any) -> None:
        """Authlib discovers the endpoints, and validates state, nonce, issuer and signature."""
        flask = pytest.importorskip("flask")
        authlib = pytest.importorskip("authlib.integrations.flask_client")
        monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
        app = flask.Flask(__name__)
        app.secret_key = "a-key"
        registered = authlib.OAuth(app).register(
            "local",
            client_id=provider.client_id,
            client_secret=provider.client_secret,
            server_metadata_url=f"{provider.url}/.well-known/openid-configuration",
            client_kwargs={"scope": "openid profile email", "code_challenge_method": "S256"},
        )
        app.add_url_rule("/", "start", lambda: registered.authorize_redirect(CALLBACK))
        app.add_url_rule("/callback", "callback", lambda: dict(registered.authorize_access_token()["userinfo"]))
        browser = app.test_client()
        redirect = ask("POST", browser.get("/").location, {"decision": "allow"})
        callback = urlsplit(redirect.headers["Location"])
        assert browser.get(f"{callback.path}?{callback.query}").json["sub"] == "583231"

    def test_userinfo_has_the_subject_of_the_id_token(self, openid: OAuthClient, provider: LocalProvider) -> None:
        """OpenID Connect Core 5.3, with GET and POST."""
        token = openid.sign_in()
        answers = [
            ask(method, provider.profile_url, headers=bearer(token["access_token"])) for method in ("GET", "POST")
        ]
        assert [answer.json["sub"] for answer in answers] == ["583231", "583231"]

    def test_a_sign_in_without_the_scope_openid_has_neither_id_token_nor_subject(self, client: OAuthClient) -> None:
        token = client.sign_in()
        assert "id_token" not in token
        assert "sub" not in client.profile(token["access_token"]).json

    def test_a_refreshed_id_token_has_the_time_of_the_sign_in_and_no_nonce(self, openid: OAuthClient) -> None:
        """OpenID Connect Core 12.2"""
        token = openid.sign_in()
        first, second = (
            json.loads(decode(each["id_token"].split(".")[1]))
            for each in (token, openid.refresh(token["refresh_token"]).json)
        )
        assert first["auth_time"] == second["auth_time"]
        assert "nonce" not in second

    def test_the_sign_out_leads_back_to_the_client(self, server: Server) -> None:
        signed_out = CALLBACK.replace("/callback", "/signed-out")
        query = urlencode({"post_logout_redirect_uri": signed_out, "state": "a-state"})
        assert ask("GET", f"{server.url}/end-session?{query}").headers["Location"] == f"{signed_out}?state=a-state"

    @pytest.mark.parametrize(
        "target",
        [
            "https://attacker.example/signed-out",
            "http://attacker.example\\@127.0.0.1/signed-out",
            "http://attacker.example@127.0.0.1/signed-out",
            "http://127.0.0.1/\\attacker.example/signed-out",
            "http://127.0.0.1:9/other-application",
        ],
    )
    def test_the_sign_out_leads_to_no_other_site(self, target: str, server: Server) -> None:
        query = urlencode({"post_logout_redirect_uri": target})
        answer = ask("GET", f"{server.url}/end-session?{query}")
        assert (answer.status, answer.headers["Location"]) == (200, None)


class TestUserDocument:
    @pytest.mark.parametrize(
        ("scope", "released"),
        [
            ("profile", {"id", "name", "login"}),
            ("email", {"id", "email"}),
            ("profile email", {"id", "name", "login", "email"}),
            ("openid", {"id", "sub"}),
        ],
    )
    def test_contains_the_data_of_the_granted_scopes(self, client: OAuthClient, scope: str, released: set[str]) -> None:
        client.request["scope"] = scope
        assert set(client.profile(client.sign_in()["access_token"]).json) == released

    def test_contains_data_that_no_scope_of_the_provider_covers(
        self, client: OAuthClient, provider: LocalProvider
    ) -> None:
        provider.user = {**provider.user, "groups": ["staff"]}
        assert client.profile(client.sign_in()["access_token"]).json["groups"] == ["staff"]


class TestTokenRequest:
    def test_the_second_use_of_a_code_revokes_its_tokens(self, client: OAuthClient) -> None:
        code = client.code()
        token = client.exchange(code).json
        replay = client.exchange(code)
        assert (replay.status, replay.json["error"]) == (400, "invalid_grant")
        assert client.profile(token["access_token"]).status == 401
        assert client.refresh(token["refresh_token"]).json["error"] == "invalid_grant"

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"code_verifier": "x" * 43}, "invalid_grant"),
            ({"code_verifier": "short"}, "invalid_request"),
            ({"code_verifier": ""}, "invalid_request"),
            ({"redirect_uri": CALLBACK + "/"}, "invalid_grant"),
            ({"redirect_uri": ""}, "invalid_request"),
            ({"grant_type": "password"}, "unsupported_grant_type"),
        ],
    )
    def test_a_code_requires_its_verifier_and_its_redirect_uri(
        self, client: OAuthClient, change: dict[str, str], error: str
    ) -> None:
        response = client.exchange(client.code(), **change)
        assert (response.status, response.json["error"]) == (400, error)

    def test_an_unknown_code_is_rejected(self, client: OAuthClient) -> None:
        assert client.exchange("never-issued").json["error"] == "invalid_grant"

    def test_parallel_uses_of_one_code_issue_one_token(self, client: OAuthClient) -> None:
        code = client.code()
        statuses: list[int] = []
        threads = [threading.Thread(target=lambda: statuses.append(client.exchange(code).status)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200] + [400] * 7

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            basic("demo-client", "wrong"),
            basic("x", "demo-secret"),
            {"Authorization": "Basic %"},
        ],
    )
    def test_a_client_must_authenticate(
        self, client: OAuthClient, provider: LocalProvider, headers: dict[str, str]
    ) -> None:
        form = {"grant_type": "authorization_code", "code": client.code()}
        response = ask("POST", provider.token_url, form, headers)
        assert (response.status, response.json["error"]) == (401, "invalid_client")
        assert response.headers["WWW-Authenticate"].startswith("Basic ")

    def test_the_secret_is_accepted_in_the_body_but_not_twice(
        self, client: OAuthClient, provider: LocalProvider
    ) -> None:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": client.sign_in()["refresh_token"],
            "client_id": "demo-client",
            "client_secret": "demo-secret",
        }
        twice = ask("POST", provider.token_url, form, basic("demo-client", "demo-secret"))
        assert twice.status == 401
        assert ask("POST", provider.token_url, form).status == 200

    def test_ids_and_secrets_in_basic_are_form_decoded(self) -> None:
        provider = LocalProvider(client_id="a client:1", client_secret="p%+:/ö")
        with serve_provider(provider):
            assert "access_token" in OAuthClient(provider).sign_in()

    def test_a_public_client_needs_only_pkce(self) -> None:
        provider = LocalProvider(client_secret=None)
        with serve_provider(provider):
            client = OAuthClient(provider)
            answer = client.exchange(client.code(), client_id="demo-client")
            assert answer.status == 200

    @pytest.mark.parametrize("body", ["{}", "%zz=1", "é", "&&&"])
    def test_a_malformed_form_is_rejected(self, server: Server, provider: LocalProvider, body: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        connection.request("POST", "/token", body.encode(), FORM)
        assert connection.getresponse().status in (400, 401)
        connection.close()


class TestRefresh:
    def test_a_refresh_token_rotates(self, client: OAuthClient, provider: LocalProvider) -> None:
        first = client.sign_in()
        second = client.refresh(first["refresh_token"]).json
        assert second["refresh_token"] != first["refresh_token"]
        assert second["scope"] == "profile email"
        assert client.profile(second["access_token"]).status == 200
        assert provider.count("refresh") == 1
        assert provider.count("token") == 2

    def test_a_replayed_refresh_token_revokes_the_whole_grant(self, client: OAuthClient) -> None:
        first = client.sign_in()
        second = client.refresh(first["refresh_token"]).json
        assert client.refresh(first["refresh_token"]).json["error"] == "invalid_grant"
        assert client.refresh(second["refresh_token"]).json["error"] == "invalid_grant"
        assert client.profile(second["access_token"]).status == 401

    def test_a_replay_does_not_affect_other_sign_ins(self, client: OAuthClient) -> None:
        first, other = client.sign_in(), client.sign_in()
        client.refresh(first["refresh_token"])
        client.refresh(first["refresh_token"])
        assert client.profile(other["access_token"]).status == 200

    def test_a_refresh_cannot_extend_the_scope(self, client: OAuthClient) -> None:
        token = client.exchange(client.code(scope="profile")).json
        response = client.refresh(token["refresh_token"], scope="profile email")
        assert response.json["error"] == "invalid_scope"


class TestProfile:
    def test_it_requires_a_valid_token_in_the_header(self, client: OAuthClient, provider: LocalProvider) -> None:
        token = client.sign_in()["access_token"]
        in_the_query = ask("GET", f"{provider.profile_url}?access_token={token}")
        assert in_the_query.status == 401
        assert in_the_query.headers["WWW-Authenticate"] == "Bearer"
        wrong = client.profile("never-issued")
        assert wrong.status == 401
        assert 'error="invalid_token"' in wrong.headers["WWW-Authenticate"]

    def test_an_access_token_expires(self, client: OAuthClient, provider: LocalProvider) -> None:
        token = client.sign_in()["access_token"]
        provider.expire_access_tokens()
        assert client.profile(token).status == 401


class TestRevocation:
    def test_revoking_an_access_token_keeps_the_refresh_token(self, client: OAuthClient) -> None:
        token = client.sign_in()
        assert client.revoke(token["access_token"]).status == 200
        assert client.profile(token["access_token"]).status == 401
        assert client.refresh(token["refresh_token"]).status == 200

    def test_revoking_a_refresh_token_revokes_the_whole_grant(self, client: OAuthClient) -> None:
        token = client.sign_in()
        assert client.revoke(token["refresh_token"]).status == 200
        assert client.profile(token["access_token"]).status == 401
        assert client.refresh(token["refresh_token"]).json["error"] == "invalid_grant"

    def test_revoking_an_unknown_token_succeeds(self, client: OAuthClient) -> None:
        assert client.revoke("never-issued").status == 200  # RFC 7009 2.2

    def test_revocation_requires_client_authentication(self, client: OAuthClient, provider: LocalProvider) -> None:
        token = client.sign_in()["access_token"]
        wrong_secret = basic("demo-client", "wrong")
        assert ask("POST", provider.revocation_url, {"token": token}, wrong_secret).status == 401
        assert client.profile(token).status == 200


class TestFaultInjection:
    def test_a_fault_is_injected_into_the_given_number_of_requests_to_its_endpoint(
        self, client: OAuthClient, provider: LocalProvider
    ) -> None:
        provider.faults.add("profile.500", times=2)
        token = client.sign_in()["access_token"]
        assert [client.profile(token).status for _ in range(3)] == [500, 500, 200]

    def test_a_permanent_fault_stays_until_it_is_cleared(self, client: OAuthClient, provider: LocalProvider) -> None:
        token = client.sign_in()["access_token"]
        provider.faults.add("profile.403", times=None)
        assert {client.profile(token).status for _ in range(5)} == {403}
        provider.faults.clear()
        assert client.profile(token).status == 200

    def test_the_consent_form_can_choose_a_fault(self, client: OAuthClient) -> None:
        assert "iss" not in dict(client.decide(fault="authorize.missing_iss").parameters)
        code = client.code(fault="token.503")
        assert client.exchange(code).status == 503
        assert client.exchange(code).status == 200

    def test_faults_can_be_controlled_over_http(self, client: OAuthClient, server: Server) -> None:
        faults = server.url + "/faults"
        assert ask("POST", faults, {"name": "token.502"}).status == 201
        assert ask("POST", faults, {"name": "profile.403", "times": "always"}).status == 201
        assert ask("POST", faults, {"name": "profile.500", "times": "3"}).status == 201
        shown = ask("GET", faults).json
        assert shown["waiting"] == [["token.502", 1], ["profile.403", None], ["profile.500", 3]]
        assert shown["faults"].keys() == FAULTS.keys()
        assert client.exchange(client.code()).status == 502
        assert ask("DELETE", faults).status == 204
        assert "access_token" in client.sign_in()
        assert ask("GET", server.url + "/exchanges").json["token"] == 2

    @pytest.mark.parametrize("form", [{}, {"name": "token.nonsense"}, {"name": "token.502", "times": "0"}])
    def test_an_unknown_fault_is_rejected(self, server: Server, form: dict[str, str]) -> None:
        assert ask("POST", server.url + "/faults", form).status == 400
        with pytest.raises(ValueError, match="unknown name"):
            FaultInjector(FAULTS).add("nonsense")

    def test_each_fault_has_a_one_line_description(self) -> None:
        for fault in FAULTS.values():
            assert 3 < len(fault.description) < 80
            assert "\n" not in fault.description


Parameters = list[tuple[str, str]]


def names(parameters: Parameters) -> list[str]:
    return [name for name, _ in parameters]


AUTHORIZATION_RESPONSES: dict[str, Callable[[Parameters], bool]] = {
    **{
        code: lambda parameters, code=code: (  # type: ignore[misc]
            ("error", code) in parameters and "code" not in names(parameters) and "iss" in names(parameters)
        )
        for code in (
            "access_denied",
            "consent_required",
            "invalid_request",
            "unauthorized_client",
            "unsupported_response_type",
            "invalid_scope",
            "server_error",
            "temporarily_unavailable",
        )
    },
    "unknown_error": lambda parameters: "error" in names(parameters),
    "markup": lambda parameters: (
        "<script>" in dict(parameters)["error_description"] and "<script>" in dict(parameters)["error_uri"]
    ),
    "error_without_state": lambda parameters: names(parameters) == ["iss", "error"],
    "error_and_code": lambda parameters: {"error", "code", "state"} <= set(names(parameters)),
    "wrong_iss": lambda parameters: dict(parameters)["iss"] == "https://attacker.example",
    "empty_iss": lambda parameters: dict(parameters)["iss"] == "",
    "missing_iss": lambda parameters: names(parameters) == ["code", "state"],
    "duplicate_iss": lambda parameters: names(parameters).count("iss") == 2,
    "wrong_state": lambda parameters: dict(parameters)["state"] == "never-made",
    "missing_state": lambda parameters: names(parameters) == ["code", "iss"],
    "duplicate_state": lambda parameters: names(parameters).count("state") == 2,
    "wrong_code": lambda parameters: dict(parameters)["code"] == "never-issued",
    "missing_code": lambda parameters: names(parameters) == ["state", "iss"],
    "duplicate_code": lambda parameters: names(parameters).count("code") == 2,
    "extra_parameters": lambda parameters: {"code", "session_state"} <= set(names(parameters)),
}


@pytest.mark.parametrize("name", AUTHORIZE_FAULTS)
def test_authorization_fault(name: str, client: OAuthClient) -> None:
    answer = client.decide(fault=f"authorize.{name}")
    assert answer.status == 302
    assert answer.headers["Location"].startswith(CALLBACK + "?")
    assert AUTHORIZATION_RESPONSES[name](answer.parameters)


def is_error(code: str, status: int = 400) -> Callable[[Answer], bool]:
    return lambda answer: (answer.status, answer.json["error"]) == (status, code)


def has(name: str, value: object) -> Callable[[Answer], bool]:
    return lambda answer: answer.status == 200 and answer.json[name] == value


def lacks(name: str) -> Callable[[Answer], bool]:
    return lambda answer: answer.status == 200 and answer.json and name not in answer.json


def is_page(status: int) -> Callable[[Answer], bool]:
    return lambda answer: (
        answer.status == status and answer.headers.get_content_type() == "text/html" and b"<h1>" in answer.body
    )


def redirects(status: int) -> Callable[[Answer], bool]:
    return lambda answer: (answer.status, answer.headers["Location"]) == (status, FaultInjector.redirect_to)


def breaks(parse: Callable[[bytes], object], *errors: type[Exception]) -> Callable[[Answer], bool]:
    def check(answer: Answer) -> bool:
        with pytest.raises(errors):
            parse(answer.body)
        return answer.status == 200

    return check


def is_bomb(answer: Answer) -> bool:
    size = len(gzip.decompress(answer.body))
    return answer.headers["Content-Encoding"] == "gzip" and size > 100 * len(answer.body)


ANSWERS: dict[str, dict[str, Callable[[Answer], bool]]] = {
    "any": {
        "empty_200": lambda answer: (answer.status, answer.body) == (200, b""),
        "html_200": is_page(200),
        "500": is_page(500),
        "502": is_page(502),
        "503": is_page(503),
        "json_list": lambda answer: isinstance(answer.json, list),
        "json_string": lambda answer: isinstance(answer.json, str),
        "malformed_json": breaks(json.loads, json.JSONDecodeError),
        "deep_json": breaks(json.loads, RecursionError),
        "huge_json": lambda answer: answer.json and len(answer.body) > 1 << 20,
        "gzip_bomb": is_bomb,
        "broken_gzip": breaks(gzip.decompress, gzip.BadGzipFile, zlib.error),
        "invalid_utf8": breaks(bytes.decode, UnicodeDecodeError),
        "redirect_301": redirects(301),
        "redirect_302": redirects(302),
        "redirect_303": redirects(303),
        "redirect_307": redirects(307),
        "redirect_308": redirects(308),
        "close": lambda answer: (answer.status, answer.headers["Connection"]) == (200, "close"),
    },
    "token": {
        "invalid_request": is_error("invalid_request"),
        "invalid_client": is_error("invalid_client"),
        "invalid_client_401": is_error("invalid_client", 401),
        "invalid_grant": is_error("invalid_grant"),
        "unauthorized_client": is_error("unauthorized_client"),
        "unsupported_grant_type": is_error("unsupported_grant_type"),
        "invalid_scope": is_error("invalid_scope"),
        "unknown_error": is_error("cat_on_keyboard"),
        "invalid_grant_403": is_error("invalid_grant", 403),
        "error_200": is_error("bad_verification_code", 200),
        "markup": lambda answer: "<script>" in answer.json["error_description"],
        "empty_400": lambda answer: (answer.status, answer.body) == (400, b""),
        "problem_400": lambda answer: answer.status == 400 and "error" not in answer.json,
        "token_in_500": lambda answer: answer.status == 500 and "access_token" in answer.json,
        "token_as_html": lambda answer: (
            answer.headers.get_content_type() == "text/html" and "access_token" in answer.json
        ),
        "form_encoded": lambda answer: (
            answer.headers["Content-Type"] == FORM["Content-Type"] and "access_token" in parse_qs(answer.body.decode())
        ),
        "extra_members": lambda answer: {"id_token", "access_token"} <= set(answer.json),
        "access_token_missing": lacks("access_token"),
        "access_token_null": has("access_token", None),
        "access_token_number": has("access_token", 5),
        "access_token_list": has("access_token", ["a"]),
        "access_token_empty": has("access_token", ""),
        "access_token_non_ascii": lambda answer: not answer.json["access_token"].isascii(),
        "access_token_newline": lambda answer: "\r\n" in answer.json["access_token"],
        "token_type_missing": lacks("token_type"),
        "token_type_null": has("token_type", None),
        "token_type_mac": has("token_type", "mac"),
        "token_type_upper": has("token_type", "BEARER"),
        "expires_in_missing": lacks("expires_in"),
        "expires_in_null": has("expires_in", None),
        "expires_in_zero": has("expires_in", 0),
        "expires_in_negative": has("expires_in", -1),
        "expires_in_string": has("expires_in", "3600"),
        "expires_in_word": has("expires_in", "soon"),
        "expires_in_huge": has("expires_in", 10**400),
        "expires_in_nan": lambda answer: b'"expires_in": NaN' in answer.body,
        "expires_in_infinity": lambda answer: b'"expires_in": Infinity' in answer.body,
        "expires_at": lambda answer: answer.json["expires_at"] > time.time() + 10**7,
        "scope_commas": has("scope", "profile,email"),
        "scope_smaller": has("scope", "profile"),
        "scope_other": has("scope", "something:else"),
        "scope_missing": lacks("scope"),
        "scope_list": has("scope", ["profile", "email"]),
        "refresh_token_missing": lacks("refresh_token"),
        "refresh_token_number": has("refresh_token", 5),
        "id_token_for_another_client": lacks("id_token"),  # the client does not request the scope openid
    },
    "refresh": {"invalid_grant": is_error("invalid_grant"), "503": is_page(503)},
    "profile": {
        "400": lambda answer: answer.status == 400,
        "401": lambda answer: answer.status == 401 and "invalid_token" in answer.headers["WWW-Authenticate"],
        "empty_401": lambda answer: (answer.status, answer.body) == (401, b""),
        "403": lambda answer: answer.status == 403,
        "429": lambda answer: (answer.status, answer.headers["Retry-After"]) == (429, "7"),
        "nan": lambda answer: b"NaN" in answer.body,
    },
    "revoke": {
        "401": is_error("invalid_client", 401),
        "404": is_page(404),
        "ignored": lambda answer: answer.status == 200,
    },
}

TABLES = {"token": TOKEN_FAULTS, "refresh": REFRESH_FAULTS, "profile": PROFILE_FAULTS, "revoke": REVOKE_FAULTS}
CONNECTION_FAULTS = {
    "slow",
    "dribble_headers",
    "dribble_body",
    "hang_up",
    "hang_up_in_headers",
    "cut_body",
    "reset",
}


def faults(*wanted: str) -> list[tuple[str, str]]:
    """Return endpoint and name of the wanted faults; by default, of all but the connection faults."""
    return [
        (endpoint, name)
        for endpoint, table in TABLES.items()
        for name in table
        if (name in wanted if wanted else name not in CONNECTION_FAULTS)
    ]


@pytest.fixture
def trigger(client: OAuthClient, provider: LocalProvider) -> Callable[[str, str], Answer]:
    """Inject a fault, and send one correct request to its endpoint."""

    def trigger(endpoint: str, name: str) -> Answer:
        if endpoint == "token":
            code = client.code(fault=f"token.{name}")
            return client.exchange(code)
        token = client.sign_in()
        provider.faults.add(f"{endpoint}.{name}")
        if endpoint == "refresh":
            return client.refresh(token["refresh_token"])
        if endpoint == "profile":
            return client.profile(token["access_token"])
        return client.revoke(token["refresh_token"])

    return trigger


@pytest.mark.parametrize(("endpoint", "name"), faults())
def test_fault(endpoint: str, name: str, trigger: Callable[[str, str], Answer], provider: LocalProvider) -> None:
    check = ANSWERS[endpoint].get(name) or ANSWERS["any"][name]
    assert check(trigger(endpoint, name))
    assert provider.faults.waiting == []


def test_the_target_of_redirect_faults_can_be_set(
    trigger: Callable[[str, str], Answer], provider: LocalProvider
) -> None:
    provider.faults.redirect_to = "http://127.0.0.1:1/trap"
    assert trigger("token", "redirect_307").headers["Location"] == "http://127.0.0.1:1/trap"


def test_a_fault_with_its_own_response_does_not_process_the_request(
    client: OAuthClient, provider: LocalProvider
) -> None:
    token = client.sign_in()
    provider.faults.add("refresh.503")
    assert client.refresh(token["refresh_token"]).status == 503
    assert client.refresh(token["refresh_token"]).status == 200


class TestConnectionFaults:
    @pytest.mark.parametrize(("endpoint", "name"), faults("hang_up"))
    def test_hang_up_closes_the_connection_before_the_response(
        self, endpoint: str, name: str, trigger: Callable[[str, str], Answer]
    ) -> None:
        with pytest.raises(http.client.RemoteDisconnected):
            trigger(endpoint, name)

    @pytest.mark.parametrize(("endpoint", "name"), faults("reset"))
    def test_reset_resets_the_connection(self, endpoint: str, name: str, trigger: Callable[[str, str], Answer]) -> None:
        with pytest.raises(ConnectionResetError) as reset:
            trigger(endpoint, name)
        assert type(reset.value) is ConnectionResetError

    @pytest.mark.parametrize(("endpoint", "name"), faults("hang_up_in_headers"))
    def test_hang_up_in_headers_closes_the_connection_within_the_headers(
        self, endpoint: str, name: str, trigger: Callable[[str, str], Answer]
    ) -> None:
        answer = trigger(endpoint, name)
        assert answer.headers["Content-Type"] != "application/json"
        assert answer.body == b""

    @pytest.mark.parametrize(("endpoint", "name"), faults("cut_body"))
    def test_cut_body_closes_the_connection_within_the_body(
        self, endpoint: str, name: str, trigger: Callable[[str, str], Answer]
    ) -> None:
        with pytest.raises(http.client.IncompleteRead):
            trigger(endpoint, name)

    @pytest.mark.parametrize(("endpoint", "name"), faults("slow"))
    def test_slow_delays_the_response(
        self,
        endpoint: str,
        name: str,
        trigger: Callable[[str, str], Answer],
        provider: LocalProvider,
    ) -> None:
        provider.faults.slow_seconds = 0.2
        start = time.monotonic()
        assert trigger(endpoint, name).status == 200
        assert time.monotonic() - start >= 0.2

    @pytest.mark.parametrize(("endpoint", "name"), faults("dribble_headers", "dribble_body"))
    def test_dribble_sends_bytes_until_the_client_closes_the_connection(
        self, endpoint: str, name: str, provider: LocalProvider, server: Server
    ) -> None:
        provider.faults.add(f"{endpoint}.{name}")
        path = {"profile": "/user", "revoke": "/revoke"}.get(endpoint, "/token")
        method = "GET" if endpoint == "profile" else "POST"
        received = b""
        with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as sock:
            sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            while not received.endswith(b"xxxxx"):
                received += sock.recv(1)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (b"\r\n\r\n" in received) == (name == "dribble_body")


class TestServer:
    def test_it_keeps_connections_open(self, server: Server, provider: LocalProvider) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        for body in (None, b"a=b", b"x" * 100_000):
            connection.request("POST" if body else "GET", "/nothing", body)
            response = connection.getresponse()
            response.read()
            assert response.status == 404
        connection.close()
        assert server.connections == 1
        ask("GET", server.url + "/")
        assert server.connections == 2

    def test_it_accepts_chunked_bodies_and_http_1_0(self, server: Server, client: OAuthClient) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        connection.request("POST", "/token", iter([b"grant_type=", b"nonsense"]), FORM)
        response = connection.getresponse()
        assert json.loads(response.read())["error"] == "unsupported_grant_type"
        connection.close()
        with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as sock:
            sock.sendall(b"GET /nothing HTTP/1.0\r\n\r\n")
            assert b" 404 " in sock.makefile("rb").read()

    @pytest.mark.parametrize(("length", "status"), [("-1", 400), ("x", 400), ("9" * 12, 413)])
    def test_it_rejects_invalid_and_large_bodies(self, server: Server, length: str, status: int) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as sock:
            head = f"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
            sock.sendall(head.encode() + b"x" * ((1 << 20) + 1 if status == 413 else 0))
            assert f" {status} ".encode() in sock.recv(100)

    def test_a_port_in_use_raises_an_error(self, server: Server) -> None:
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            serve_provider(LocalProvider(), port=server.port)

    def test_closing_twice_is_allowed_and_frees_the_port(self) -> None:
        first = serve_provider(LocalProvider())
        first.close()
        first.close()
        with serve_provider(LocalProvider(), port=first.port) as second:
            assert second.port == first.port

    @pytest.mark.parametrize("fault", ["slow", "dribble_headers", "dribble_body", None])
    def test_closing_ends_all_requests_and_threads(self, provider: LocalProvider, fault: str | None) -> None:
        provider.faults.slow_seconds = 3600
        before = set(threading.enumerate())
        server = serve_provider(provider)
        if fault:
            provider.faults.add(f"profile.{fault}")
        with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as sock:
            sock.sendall(b"GET /user HTTP/1.1\r\nHost: localhost\r\n\r\n")
            for _ in poll(TIMEOUT):
                if provider.count("profile"):
                    break
            server.close()
            while sock.recv(1000):  # until the connection is closed
                pass
        for thread in set(threading.enumerate()) - before:
            thread.join(timeout=TIMEOUT)
            assert not thread.is_alive()

    def test_an_exception_in_the_application_closes_only_its_connection(self) -> None:
        def application(environ: Any, start_response: Any) -> Any:
            if environ["PATH_INFO"] == "/fail":
                raise RuntimeError("a bug")
            start_response("200 OK", [])
            return [b"fine"]

        with serve(application) as server:
            with pytest.raises(http.client.RemoteDisconnected):
                ask("GET", server.url + "/fail")
            assert ask("GET", server.url + "/").body == b"fine"

    def test_a_client_that_starts_no_tls_handshake_blocks_no_other_client(self, provider: LocalProvider) -> None:
        trustme = pytest.importorskip("trustme")
        authority = trustme.CA()
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(ours)
        theirs = ssl.create_default_context()
        authority.configure_trust(theirs)
        with serve_provider(provider, host="localhost", ssl_context=ours) as server:
            assert provider.url == f"https://localhost:{server.port}"
            address = ("localhost", server.port)
            with socket.create_connection(address, timeout=TIMEOUT):  # sends nothing
                connection = http.client.HTTPSConnection(*address, timeout=TIMEOUT, context=theirs)
                for _ in range(2):
                    connection.request("GET", "/user")
                    response = connection.getresponse()
                    assert response.status == 401
                    response.read()
                connection.close()
            provider.faults.add("profile.cut_body")
            connection = http.client.HTTPSConnection(*address, timeout=TIMEOUT, context=theirs)
            connection.request("GET", "/user")
            with pytest.raises((http.client.IncompleteRead, ssl.SSLError)):
                connection.getresponse().read()
            connection.close()


def test_the_provider_works_without_oauthlib_insecure_transport(
    client: OAuthClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAUTHLIB_INSECURE_TRANSPORT would also apply to a client in the same process."""
    monkeypatch.delenv("OAUTHLIB_INSECURE_TRANSPORT", raising=False)
    assert "access_token" in client.sign_in()
