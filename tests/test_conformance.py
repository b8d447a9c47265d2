"""The relying party plans of the OpenID Foundation's conformance suite, imitated: one test for each module.

docs/conformance.md lists the plans. A test is named after its module. The modules of the Basic plan run in both
response modes, because the Form Post plan repeats them. They need the extra `openid`.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import JSON, parameters, send
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from form_post import PUBLIC_URL, FormBrowser, FormPostIssuer
from openid import config_for
from werkzeug import Response

from wsgi_oauth import MemoryStore, SessionStore, create_app
from wsgi_oauth.demo.local_provider import json_response
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.demo.signing import sign_jwt
from wsgi_oauth.web.application import OAuthApp

jwt = pytest.importorskip("jwt")

BASIC = (
    "oidcc-client-test",
    "oidcc-client-test-invalid-iss",
    "oidcc-client-test-missing-sub",
    "oidcc-client-test-invalid-aud",
    "oidcc-client-test-missing-iat",
    "oidcc-client-test-kid-absent-single-jwks",
    "oidcc-client-test-kid-absent-multiple-jwks",
    "oidcc-client-test-idtoken-sig-rs256",
    "oidcc-client-test-idtoken-sig-none",
    "oidcc-client-test-invalid-sig-rs256",
    "oidcc-client-test-userinfo-invalid-sub",
    "oidcc-client-test-nonce-invalid",
    "oidcc-client-test-scope-userinfo-claims",
    "oidcc-client-test-client-secret-basic",
)
LOGOUT = "oidcc-client-test-rp-backchannel-rpinitlogout"
#: The suite's names for the modules of each plan.
PLANS = {
    "oidcc-client-basic-certification-test-plan": BASIC,
    "oidcc-client-formpost-basic-certification-test-plan": BASIC,
    "oidcc-client-config-certification-test-plan": (
        "oidcc-client-test-discovery-openid-config",
        "oidcc-client-test-discovery-jwks-uri-keys",
        "oidcc-client-test-discovery-issuer-mismatch",
        "oidcc-client-test-idtoken-sig-none",
        "oidcc-client-test-signing-key-rotation-just-before-signing",
        "oidcc-client-test-signing-key-rotation",
    ),
    "oidcc-client-rp-initiated-logout-rp-basic": (
        "oidcc-client-test-rp-init-logout",
        "oidcc-client-test-rp-init-logout-other-state",
        "oidcc-client-test-rp-init-logout-no-state",
    ),
    "oidcc-client-back-channel-logout-rp-basic": (
        LOGOUT,
        *(
            f"{LOGOUT}-{name}"
            for name in ("alg-none", "no-event", "with-nonce", "wrong-alg", "wrong-aud", "wrong-event", "wrong-iss")
        ),
    ),
    "oidcc-client-test-3rd-party-init-login-test-plan": ("oidcc-client-test-3rd-party-init-login",),
}

# The suite announces every algorithm that its library knows.
ALGORITHMS = [
    *("none", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES256K", "ES384", "ES512"),
    *("HS256", "HS384", "HS512", "EdDSA", "Ed25519"),
]
EVENT = "http://schemas.openid.net/event/backchannel-logout"
keys = itertools.count()


class SigningKey:
    """A key of the suite's provider."""

    def __init__(self, algorithm: str = "RS256", *, kid: bool = True) -> None:
        is_rsa = algorithm == "RS256"
        self.private: Any = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
        self.algorithm = algorithm
        self.kid = {"kid": f"key {next(keys)}"} if kid else {}

    def sign(self, claims: dict[str, Any]) -> str:
        token: str = jwt.encode(claims, self.private, self.algorithm, headers=self.kid)
        return token

    @property
    def jwk(self) -> dict[str, Any]:
        algorithm = jwt.algorithms.get_default_algorithms()[self.algorithm]
        return {**json.loads(algorithm.to_jwk(self.private.public_key())), "use": "sig", **self.kid}


class SuiteProvider(FormPostIssuer):
    """An imitation of the suite's provider, which each module changes."""

    def __init__(self) -> None:
        super().__init__(scope="openid profile email phone address offline_access")
        self.session_id = secrets.token_hex(16)
        self.metadata |= {
            "scopes_supported": ["openid", "phone", "profile", "email", "address", "offline_access"],
            "response_modes_supported": ["query", "fragment", "form_post"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "id_token_signing_alg_values_supported": ALGORITHMS,
            "frontchannel_logout_supported": True,
            "backchannel_logout_supported": True,
            "backchannel_logout_session_supported": True,
            "authorization_response_iss_parameter_supported": None,
        }
        self.claims["sid"] = self.session_id
        self.user = {"sub": "user-subject-1234531", "name": "Demo T. User", "email": "user@example.com"}
        self.elliptic = SigningKey("ES256")
        self.use(SigningKey())

    def use(self, key: SigningKey, *others: SigningKey) -> None:
        """Sign with *key*, and publish it together with a key for ES256 and *others*."""
        self.key = key
        self.sign = key.sign
        documents = [each.jwk for each in (*others, key, self.elliptic)]
        self.publish_keys = lambda: json_response({"keys": documents})

    def logout_claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {"iss": self.url, "sub": self.user["sub"], "aud": self.client_id, "jti": secrets.token_hex(16)}
        claims |= {"sid": self.session_id, "events": {EVENT: {}}, "iat": now, "exp": now + 120, **changes}
        return {name: value for name, value in claims.items() if value is not None}


@pytest.fixture
def op() -> Iterator[SuiteProvider]:
    op = SuiteProvider()
    with serve_provider(op):
        yield op


@pytest.fixture
def mode() -> str:
    return "query"


class RelyingParty(FormBrowser):
    """The browser in which an operator of the suite uses the application."""

    def __init__(self, app: OAuthApp, op: SuiteProvider, mode: str) -> None:
        super().__init__(app, op, PUBLIC_URL)
        self.mode = mode

    def finish(self, authorization_url: str) -> Any:
        """Consent; return the answer to the authorization response."""
        if self.mode == "form_post":
            return self.send_form(self.form(authorization_url=authorization_url), headers=JSON)
        return self.get(self.consent(authorization_url), headers=JSON)

    def signs_in(self) -> bool:
        """Sign in; return whether the application has accepted the ID token."""
        response = self.finish(self.start())
        if response.status_int == 303:
            return True
        assert (response.status_int, response.json["error"]) == (502, "id_token_refused")
        assert self.profile().status_int == 401
        return False

    def exchange(self, endpoint: str) -> Any:
        """Return the last request to an endpoint of the provider."""
        return [each for each in self.provider.exchanges if each.endpoint == endpoint][-1]


@pytest.fixture
def make(op: SuiteProvider, mode: str) -> Callable[[], RelyingParty]:
    """Create browsers of an application that has just started, with a store of its own."""

    def make(store: SessionStore | None = None) -> RelyingParty:
        config = config_for(op, PUBLIC_URL=PUBLIC_URL, RESPONSE_MODE=mode, END_SESSION="yes")
        return RelyingParty(create_app(config, store=store or MemoryStore()), op, mode)

    return make


@pytest.fixture
def rp(make: Callable[[], RelyingParty]) -> RelyingParty:
    return make()


class TestBasicAndFormPost:
    @pytest.fixture(params=["query", "form_post"])
    def mode(self, request: pytest.FixtureRequest) -> str:
        mode: str = request.param
        return mode

    def test_oidcc_client_test(self, rp: RelyingParty) -> None:
        url = rp.start()
        sent = parameters(url)
        assert (sent["response_type"], sent["redirect_uri"]) == ("code", f"{PUBLIC_URL}/callback")
        assert sent.get("response_mode", "query") == rp.mode
        assert "openid" in sent["scope"].split()
        assert sent["state"]
        assert sent["nonce"]
        assert rp.finish(url).status_int == 303
        assert rp.profile().json["sub"] == "user-subject-1234531"
        request = rp.exchange("profile")
        assert request.headers["Authorization"].startswith("Bearer ")
        assert "access_token" not in request.url

    def test_oidcc_client_test_invalid_iss(self, rp: RelyingParty, op: SuiteProvider) -> None:
        op.claims["iss"] = f"{op.url}1"
        assert not rp.signs_in()

    def test_oidcc_client_test_missing_sub(self, rp: RelyingParty, op: SuiteProvider) -> None:
        op.claims["sub"] = None
        assert not rp.signs_in()

    def test_oidcc_client_test_invalid_aud(self, rp: RelyingParty, op: SuiteProvider) -> None:
        op.claims["aud"] = f"{op.client_id}1"
        assert not rp.signs_in()

    def test_oidcc_client_test_missing_iat(self, rp: RelyingParty, op: SuiteProvider) -> None:
        op.claims["iat"] = None
        assert not rp.signs_in()

    def test_oidcc_client_test_kid_absent_single_jwks(self, rp: RelyingParty, op: SuiteProvider) -> None:
        op.sign = lambda claims: jwt.encode(claims, op.key.private, "RS256")  # the key itself may have a `kid`
        assert rp.signs_in()

    def test_oidcc_client_test_kid_absent_multiple_jwks(self, rp: RelyingParty, op: SuiteProvider) -> None:
        op.use(SigningKey(kid=False), SigningKey(kid=False))
        assert rp.signs_in()

    def test_oidcc_client_test_idtoken_sig_rs256(self, rp: RelyingParty, op: SuiteProvider) -> None:
        assert rp.signs_in()
        assert op.count("keys") == 1

    def test_oidcc_client_test_idtoken_sig_none(self, rp: RelyingParty, op: SuiteProvider) -> None:
        """The suite skips the module for a client that refuses unsigned ID tokens."""
        op.sign = lambda claims: sign_jwt(claims, alg="none").rpartition(".")[0] + "."
        assert not rp.signs_in()

    def test_oidcc_client_test_invalid_sig_rs256(self, rp: RelyingParty, op: SuiteProvider) -> None:
        def sign(claims: dict[str, Any]) -> str:
            content, _, signature = op.key.sign(claims).rpartition(".")
            return f"{content}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"

        op.sign = sign
        assert not rp.signs_in()

    def test_oidcc_client_test_userinfo_invalid_sub(self, rp: RelyingParty, op: SuiteProvider) -> None:
        op.claims["sub"] = op.user["sub"]
        op.user = {**op.user, "sub": "invalid"}
        assert rp.signs_in()
        assert (rp.profile().status_int, rp.profile().json["error"]) == (502, "id_token_refused")

    def test_oidcc_client_test_nonce_invalid(self, rp: RelyingParty, op: SuiteProvider) -> None:
        op.claims["nonce"] = "invalid"
        assert not rp.signs_in()

    def test_oidcc_client_test_scope_userinfo_claims(self, rp: RelyingParty, op: SuiteProvider) -> None:
        assert {"openid", "profile", "email"} <= set(parameters(rp.start())["scope"].split())
        assert rp.signs_in()
        assert rp.profile().json == op.user

    def test_oidcc_client_test_client_secret_basic(self, rp: RelyingParty, op: SuiteProvider) -> None:
        assert rp.signs_in()
        scheme, _, credentials = rp.exchange("token").headers["Authorization"].partition(" ")
        assert (scheme, b64decode(credentials).decode()) == ("Basic", f"{op.client_id}:{op.client_secret}")
        assert "client_secret" not in rp.exchange("token").body


class TestConfig:
    def test_oidcc_client_test_discovery_openid_config(self, rp: RelyingParty, op: SuiteProvider) -> None:
        assert rp.start().startswith(op.authorization_url)
        assert op.count("discovery") == 1
        assert rp.signs_in()

    def test_oidcc_client_test_discovery_jwks_uri_keys(self, rp: RelyingParty, op: SuiteProvider) -> None:
        path = f"/jwks{secrets.token_hex(5)}"
        op.metadata["jwks_uri"] = f"{op.url}{path}"
        op.routes[path] = ("random keys", {"GET": lambda request: op.publish_keys()})
        assert rp.signs_in()
        assert (op.count("random keys"), op.count("keys")) == (1, 0)

    def test_oidcc_client_test_discovery_issuer_mismatch(self, rp: RelyingParty, op: SuiteProvider) -> None:
        op.metadata["issuer"] = f"{op.url}/invalid"
        assert rp.get("/").status_int == 502
        assert op.count("authorize") == 0

    def test_oidcc_client_test_signing_key_rotation_just_before_signing(
        self, rp: RelyingParty, op: SuiteProvider
    ) -> None:
        assert rp.signs_in()
        fetched = op.count("keys")

        def sign(claims: dict[str, Any]) -> str:
            op.use(SigningKey())
            return op.key.sign(claims)

        op.sign = sign
        assert rp.signs_in()
        assert op.count("keys") == fetched + 1

    def test_oidcc_client_test_signing_key_rotation(self, rp: RelyingParty, op: SuiteProvider) -> None:
        assert rp.signs_in()
        url = rp.start()
        op.use(SigningKey())
        assert rp.finish(url).status_int == 303
        assert op.count("keys") == 2


class TestRpInitiatedLogout:
    def sign_out(self, rp: RelyingParty, op: SuiteProvider) -> str:
        """Sign out, as the suite expects it; return the ``state`` for the way back."""
        assert rp.signs_in()
        response = rp.post("/logout")
        assert response.location.startswith(f"{op.url}/end?")
        sent = parameters(response.location)
        assert sent["post_logout_redirect_uri"] == f"{PUBLIC_URL}/signed-out"
        assert jwt.decode(sent["id_token_hint"], options={"verify_signature": False})["sub"] == op.user["sub"]
        assert rp.profile().status_int == 401
        return sent["state"]

    def test_oidcc_client_test_rp_init_logout(self, rp: RelyingParty, op: SuiteProvider) -> None:
        state = self.sign_out(rp, op)
        page = rp.get(f"/signed-out?{urlencode({'state': state})}")
        assert (page.status_int, "is complete, too" in page.text) == (200, True)

    def test_oidcc_client_test_rp_init_logout_other_state(self, rp: RelyingParty, op: SuiteProvider) -> None:
        self.sign_out(rp, op)
        page = rp.get("/signed-out?state=other")
        assert (page.status_int, "is complete, too" in page.text) == (200, False)

    def test_oidcc_client_test_rp_init_logout_no_state(self, rp: RelyingParty, op: SuiteProvider) -> None:
        self.sign_out(rp, op)
        page = rp.get("/signed-out")
        assert (page.status_int, "is complete, too" in page.text) == (200, False)


class TestBackchannelLogout:
    """The user signs out; the provider then sends a logout token, which also concerns another browser of the user."""

    @pytest.fixture
    def deliver(self, make: Callable[..., RelyingParty], op: SuiteProvider) -> Callable[[str], tuple[int, int]]:
        """Return a function that returns the status of the logout, and that of the other browser's session."""

        def deliver(token: str) -> tuple[int, int]:
            store = MemoryStore()
            rp, other = make(store), make(store)
            assert other.signs_in()
            assert rp.signs_in()
            assert rp.post("/logout").location.startswith(f"{op.url}/end?")
            body = urlencode({"logout_token": token}).encode()
            content_type = "application/x-www-form-urlencoded"
            app = rp.app.app
            response: Response = send(app, "/backchannel-logout", method="POST", body=body, CONTENT_TYPE=content_type)
            assert response.headers["Cache-Control"] == "no-store"
            return response.status_code, other.profile().status_int

        return deliver

    def test_oidcc_client_test_rp_backchannel_rpinitlogout(self, deliver: Any, op: SuiteProvider) -> None:
        assert deliver(op.sign(op.logout_claims())) == (200, 401)

    def test_oidcc_client_test_rp_backchannel_rpinitlogout_alg_none(self, deliver: Any, op: SuiteProvider) -> None:
        token = sign_jwt(op.logout_claims(), alg="none").rpartition(".")[0] + "."
        assert deliver(token) == (400, 200)

    def test_oidcc_client_test_rp_backchannel_rpinitlogout_no_event(self, deliver: Any, op: SuiteProvider) -> None:
        assert deliver(op.sign(op.logout_claims(events=None))) == (400, 200)

    def test_oidcc_client_test_rp_backchannel_rpinitlogout_with_nonce(self, deliver: Any, op: SuiteProvider) -> None:
        assert deliver(op.sign(op.logout_claims(nonce="any"))) == (400, 200)

    def test_oidcc_client_test_rp_backchannel_rpinitlogout_wrong_alg(self, deliver: Any, op: SuiteProvider) -> None:
        assert deliver(op.elliptic.sign(op.logout_claims())) == (400, 200)

    def test_oidcc_client_test_rp_backchannel_rpinitlogout_wrong_aud(self, deliver: Any, op: SuiteProvider) -> None:
        assert deliver(op.sign(op.logout_claims(aud=f"{op.client_id}1"))) == (400, 200)

    def test_oidcc_client_test_rp_backchannel_rpinitlogout_wrong_event(self, deliver: Any, op: SuiteProvider) -> None:
        assert deliver(op.sign(op.logout_claims(events={f"{EVENT}-invalid": {}}))) == (400, 200)

    def test_oidcc_client_test_rp_backchannel_rpinitlogout_wrong_iss(self, deliver: Any, op: SuiteProvider) -> None:
        assert deliver(op.sign(op.logout_claims(iss=f"{op.url}1"))) == (400, 200)


class TestThirdPartyInitiatedLogin:
    def test_oidcc_client_test_3rd_party_init_login(self, rp: RelyingParty, op: SuiteProvider) -> None:
        started = rp.get(f"/?{urlencode({'iss': op.url})}")
        assert started.location.startswith(op.authorization_url)
        assert rp.finish(started.location).status_int == 303
        assert rp.profile().status_int == 200
        assert rp.get("/?iss=https%3A%2F%2Funknown.example.com").status_int == 400


def test_document_lists_each_module_of_each_plan_with_its_test() -> None:
    document = (Path(__file__).parent.parent / "docs" / "conformance.md").read_text()
    sections = re.split(r"^## .*?`(oidcc-client-[\w-]+)`$", document, flags=re.MULTILINE)[1:]
    listed = {
        plan: dict(re.findall(r"^\| `(oidcc-client-[\w-]+)` \|(?:.*\|)? `(test_\w+)` \|$", text, re.MULTILINE))
        for plan, text in zip(sections[::2], sections[1::2], strict=True)
    }
    assert listed == {
        plan: {module: f"test_{module.replace('-', '_')}" for module in modules} for plan, modules in PLANS.items()
    }
    tests = {name for each in globals().values() if isinstance(each, type) for name in vars(each)}
    assert {test for each in listed.values() for test in each.values()} <= tests
