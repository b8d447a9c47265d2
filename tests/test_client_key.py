"""Clients that authenticate with a key or an assertion, and pushed requests (RFC 7523, RFC 9126; S32).

They need the extra `openid`. Without it, no test of this file is collected.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from conftest import JSON, Browser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from openid import HOUR, Issuer
from werkzeug import Request, Response

from wsgi_oauth import Config, create_app, errors
from wsgi_oauth.cli.main import main
from wsgi_oauth.demo.local_provider import json_response
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.sessions.memory import MemoryStore

jwt = pytest.importorskip("jwt")

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEYS = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


class KeyIssuer(Issuer):
    """An issuer whose client authenticates with an assertion at every endpoint."""

    def __init__(self) -> None:
        super().__init__(client_secret=None)  # the local provider then asks for the client id only
        self.assertions: list[tuple[str, str]] = []  # the path and the assertion of each request
        self.pushed: list[dict[str, str]] = []
        self.push: Callable[[dict[str, str]], Response] = lambda form: json_response(
            {"request_uri": f"urn:ietf:params:oauth:request_uri:{len(self.pushed)}", "expires_in": 60}, 201
        )
        self.routes["/par"] = ("push", {"POST": self._take_push})
        self.metadata |= {"token_endpoint_auth_methods_supported": ["private_key_jwt"]}

    def _note(self, request: Request) -> None:
        assert request.form.get("client_assertion_type") == ASSERTION
        self.assertions.append((request.path, request.form["client_assertion"]))

    def token(self, request: Request) -> Response:
        self._note(request)
        return super().token(request)

    def revoke(self, request: Request) -> Response:
        self._note(request)
        return super().revoke(request)

    def _take_push(self, request: Request) -> Response:
        self._note(request)
        self.pushed.append(request.form.to_dict())
        return self.push(self.pushed[-1])


@pytest.fixture
def issuer() -> Iterator[KeyIssuer]:
    issuer = KeyIssuer()
    with serve_provider(issuer):
        yield issuer


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return write_pem(tmp_path / "key.pem", KEYS["ES256"])


@pytest.fixture
def visit(issuer: KeyIssuer) -> Callable[..., Browser]:
    def visit(**settings: Any) -> Browser:
        config = Config(provider=issuer.url, client_id=issuer.client_id, **settings)
        return Browser(create_app(config, store=MemoryStore()), issuer)

    return visit


@pytest.fixture
def check(
    issuer: KeyIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    def check(**settings: str) -> str:
        store = f"file:{tmp_path / 'sessions'}"
        settings = {"PROVIDER": issuer.url, "CLIENT_ID": issuer.client_id, "SESSION_STORE": store, **settings}
        for name, value in settings.items():
            monkeypatch.setenv(f"WSGI_OAUTH_{name}", value)
        main(["check"])
        return capsys.readouterr().out

    return check


def write_pem(path: Path, key: Any, encryption: Any = None) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    path.chmod(0o600)
    return path


def read(assertion: str, algorithm: str, audience: str) -> dict[str, Any]:
    """Verify *assertion* as a provider does, and return its claims."""
    required = {"require": ["iss", "sub", "aud", "exp", "iat", "jti"]}
    public = KEYS[algorithm].public_key()
    claims: dict[str, Any] = jwt.decode(assertion, public, [algorithm], audience=audience, options=required)
    return claims


class TestAssertion:
    @pytest.mark.parametrize("algorithm", KEYS)
    def test_authenticates_the_client(
        self, algorithm: str, issuer: KeyIssuer, visit: Callable[..., Browser], tmp_path: Path
    ) -> None:
        visit(client_key_file=str(write_pem(tmp_path / "key", KEYS[algorithm])), client_key_id="k1").sign_in()
        [(_, assertion)] = issuer.assertions
        claims = read(assertion, algorithm, issuer.token_url)
        assert (claims["iss"], claims["sub"], claims["aud"]) == (issuer.client_id, issuer.client_id, issuer.token_url)
        assert 0 < claims["exp"] - claims["iat"] <= 60
        assert jwt.get_unverified_header(assertion)["kid"] == "k1"

    def test_is_a_new_one_for_each_request_of_token_refresh_and_revocation(
        self, issuer: KeyIssuer, visit: Callable[..., Browser], key_file: Path, later: Callable[[float], None]
    ) -> None:
        browser = visit(client_key_file=str(key_file))
        browser.sign_in()
        later(HOUR)
        assert browser.profile().status_int == 200
        browser.post("/logout", headers={"Origin": "http://localhost"})
        paths = [path for path, _ in issuer.assertions]
        assert (paths[:2], set(paths[2:])) == (["/token", "/token"], {"/revoke"})
        numbers = [jwt.decode(each, options={"verify_signature": False})["jti"] for _, each in issuer.assertions]
        assert len(set(numbers)) == len(numbers)

    def test_is_worth_nothing_at_the_token_endpoint_of_another_issuer(
        self, issuer: KeyIssuer, visit: Callable[..., Browser], key_file: Path
    ) -> None:
        """A malicious issuer receives it, and names the token endpoint of another one (CVE-2025-27370)."""
        issuer.metadata["revocation_endpoint"] = f"{issuer.url.replace('127.0.0.1', 'localhost')}/revoke"
        browser = visit(client_key_file=str(key_file))
        browser.sign_in()
        browser.post("/logout", headers={"Origin": "http://localhost"})
        path, assertion = issuer.assertions[-1]
        assert path == "/revoke"
        assert read(assertion, "ES256", issuer.url)["aud"] == issuer.url

    @pytest.mark.parametrize(("key", "supported"), [("RS256", "PS256"), ("EdDSA", "Ed25519")])
    def test_is_signed_with_an_algorithm_that_the_provider_supports(
        self, key: str, supported: str, issuer: KeyIssuer, visit: Callable[..., Browser], tmp_path: Path
    ) -> None:
        issuer.metadata["token_endpoint_auth_signing_alg_values_supported"] = ["ES256", supported]
        visit(client_key_file=str(write_pem(tmp_path / "key", KEYS[key]))).sign_in()
        assert jwt.get_unverified_header(issuer.assertions[0][1])["alg"] == supported

    def test_comes_from_a_file_that_is_read_for_each_request(
        self, issuer: KeyIssuer, visit: Callable[..., Browser], tmp_path: Path
    ) -> None:
        file = tmp_path / "token"
        file.write_text("first.client.assertion\n")
        browser = visit(client_assertion_file=str(file))
        browser.sign_in()
        file.write_text("second.client.assertion\n")
        browser.sign_in()
        assert [each for _, each in issuer.assertions] == ["first.client.assertion", "second.client.assertion"]

    def test_that_is_missing_is_named_in_the_log(
        self, visit: Callable[..., Browser], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        browser = visit(client_assertion_file=str(tmp_path / "missing"))
        response = browser.get(browser.callback_url(), headers={"Accept": "application/json"})
        assert (response.status_int, response.json["error"]) == (502, "client_assertion_missing")
        assert "WSGI_OAUTH_CLIENT_ASSERTION_FILE: the file cannot be read" in caplog.text

    def test_that_is_no_token_is_a_failure_of_the_check(
        self, issuer: KeyIssuer, check: Callable[..., str], key_file: Path
    ) -> None:
        refusal = json_response(
            {"error": "invalid_request", "error_description": "invalid client_assertion format"}, 400
        )
        issuer.routes["/token"] = ("token", {"POST": lambda _: refusal})
        finding = check(CLIENT_ASSERTION_FILE=str(key_file)).partition("FAIL  token endpoint")[2]
        assert "WSGI_OAUTH_CLIENT_ASSERTION_FILE) with the registration" in finding

    def test_is_masked_if_the_provider_repeats_it(
        self, issuer: KeyIssuer, visit: Callable[..., Browser], key_file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """S72"""

        def token(request: Request) -> Response:
            description = f"bad assertion {request.form['client_assertion']}"
            return json_response({"error": "invalid_client", "error_description": description}, 400)

        issuer.routes["/token"] = ("token", {"POST": token})
        browser = visit(client_key_file=str(key_file))
        assert browser.get(browser.callback_url()).status_int == 502
        assert "bad assertion ***" in caplog.text


class TestKeyFile:
    def test_may_be_a_jwk_with_its_own_id(
        self, issuer: KeyIssuer, visit: Callable[..., Browser], tmp_path: Path
    ) -> None:
        file = tmp_path / "key.json"
        algorithm = jwt.algorithms.get_default_algorithms()["ES256"]
        jwk = {**json.loads(algorithm.to_jwk(KEYS["ES256"])), "kid": "mine", "alg": "ESP256"}  # RFC 9864 2.1
        file.write_text(json.dumps(jwk))
        visit(client_key_file=str(file)).sign_in()
        assert jwt.get_unverified_header(issuer.assertions[0][1])["kid"] == "mine"

    @pytest.mark.parametrize("content", ["no key", "{}", "{", '{"kty": "oct", "k": "c2VjcmV0"}', '{"kty":' * 9000])
    def test_without_a_private_key_stops_the_start(
        self, content: str, visit: Callable[..., Browser], tmp_path: Path
    ) -> None:
        file = tmp_path / "key"
        file.write_text(content)
        with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_CLIENT_KEY_FILE: the file contains no private key"):
            visit(client_key_file=str(file))

    def test_that_is_empty_stops_the_start(self, visit: Callable[..., Browser], tmp_path: Path) -> None:
        (tmp_path / "key").touch()
        with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_CLIENT_KEY_FILE: the file is empty"):
            visit(client_key_file=str(tmp_path / "key"))

    def test_with_a_public_key_stops_the_start(self, visit: Callable[..., Browser], tmp_path: Path) -> None:
        file = tmp_path / "key"
        algorithm = jwt.algorithms.get_default_algorithms()["RS256"]
        file.write_text(algorithm.to_jwk(KEYS["RS256"].public_key()))
        with pytest.raises(errors.ConfigError, match="contains no private key"):
            visit(client_key_file=str(file))

    def test_that_is_encrypted_stops_the_start(self, visit: Callable[..., Browser], tmp_path: Path) -> None:
        file = write_pem(tmp_path / "key", KEYS["ES256"], BestAvailableEncryption(b"password"))
        with pytest.raises(errors.ConfigError, match="is encrypted; decrypt it"):
            visit(client_key_file=str(file))

    def test_with_a_short_key_stops_the_start(self, visit: Callable[..., Browser], tmp_path: Path) -> None:
        file = write_pem(tmp_path / "key", rsa.generate_private_key(65537, 1024))
        with pytest.raises(errors.ConfigError, match="2048 bits or more"):
            visit(client_key_file=str(file))

    def test_with_a_key_for_encryption_stops_the_start(self, visit: Callable[..., Browser], tmp_path: Path) -> None:
        file = write_pem(tmp_path / "key", x25519.X25519PrivateKey.generate())
        with pytest.raises(errors.ConfigError, match=r"the key must be RSA, EC or Ed25519 \(got X25519PrivateKey\)"):
            visit(client_key_file=str(file))

    def test_that_is_missing_stops_the_start(self, visit: Callable[..., Browser], tmp_path: Path) -> None:
        with pytest.raises(errors.ConfigError, match="the file cannot be read"):
            visit(client_key_file=str(tmp_path / "missing"))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"client_secret": "secret"}, "WSGI_OAUTH_CLIENT_SECRET: set together"),
            ({"client_assertion_file": "token"}, "WSGI_OAUTH_CLIENT_ASSERTION_FILE: set together"),
            ({"client_auth": "basic"}, "WSGI_OAUTH_CLIENT_AUTH: must be private_key_jwt"),
            ({"client_key_issuer": "TEAM"}, "WSGI_OAUTH_CLIENT_KEY_ISSUER: has no effect"),
            ({"client_key_file": None, "client_auth": "private_key_jwt"}, "needs a key"),
            ({"client_key_file": None, "client_secret": "s", "client_key_id": "1"}, "KEY_ID: has no effect without"),
        ],
        ids=str,
    )
    def test_contradictions_stop_the_start(
        self, settings: dict[str, Any], message: str, visit: Callable[..., Browser], key_file: Path
    ) -> None:
        with pytest.raises(errors.ConfigError, match=message):
            visit(**{"client_key_file": str(key_file), **settings})

    def test_is_shown_as_a_public_key_by_the_check(self, check: Callable[..., str], key_file: Path) -> None:
        key_file.chmod(0o644)
        output = check(CLIENT_KEY_FILE=str(key_file))
        assert '"kty": "EC"' in output
        assert '"d"' not in output
        assert "its mode is 0644" in output

    @pytest.mark.parametrize(("supported", "is_warning"), [(["RS256", "PS256"], True), (["RS256", "ES256"], False)])
    def test_of_a_type_that_the_provider_does_not_support_is_a_warning(
        self, supported: list[str], is_warning: bool, check: Callable[..., str], issuer: KeyIssuer, key_file: Path
    ) -> None:
        issuer.metadata["token_endpoint_auth_signing_alg_values_supported"] = supported
        assert ("warn  client key: signs with ES256" in check(CLIENT_KEY_FILE=str(key_file))) is is_warning

    @pytest.mark.parametrize(
        ("setting", "remedy"),
        [
            ("CLIENT_KEY_FILE", "register the public key above"),
            ("CLIENT_ASSERTION_FILE", "WSGI_OAUTH_CLIENT_ASSERTION_FILE) with the registration"),
        ],
    )
    def test_is_the_remedy_if_the_provider_refuses_the_client(
        self, setting: str, remedy: str, check: Callable[..., str], issuer: KeyIssuer, key_file: Path
    ) -> None:
        issuer.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_basic"]
        output = check(CLIENT_ID="another", **{setting: str(key_file)})
        assert remedy in output
        assert "permit private_key_jwt for this client" in output
        assert "WSGI_OAUTH_CLIENT_SECRET" not in output


class TestPushedRequest:
    """RFC 9126"""

    @pytest.fixture
    def browser(self, issuer: KeyIssuer, visit: Callable[..., Browser], key_file: Path) -> Browser:
        issuer.metadata["pushed_authorization_request_endpoint"] = f"{issuer.url}/par"
        return visit(client_key_file=str(key_file), pushed_requests=True)

    def test_takes_the_parameters_from_the_browser(self, browser: Browser, issuer: KeyIssuer) -> None:
        query = parse_qs(urlsplit(browser.start()).query)
        assert query == {"client_id": [issuer.client_id], "request_uri": ["urn:ietf:params:oauth:request_uri:1"]}
        [pushed] = issuer.pushed
        assert {"state", "nonce", "code_challenge", "redirect_uri", "scope", "response_type"} <= pushed.keys()
        assert [path for path, _ in issuer.assertions] == ["/par"]

    def test_leads_to_a_complete_sign_in(self, browser: Browser, issuer: KeyIssuer) -> None:
        browser.start()
        pushed = {name: value for name, value in issuer.pushed[0].items() if name != "client_assertion"}
        callback = browser.consent(f"{issuer.authorization_url}?{urlencode(pushed)}")
        assert browser.get(callback).status_int == 303

    def test_and_the_token_request_have_the_issuer_as_the_audience_of_their_assertions(
        self, browser: Browser, issuer: KeyIssuer
    ) -> None:
        """FAPI 2.0 5.3.2.1, item 8"""
        self.test_leads_to_a_complete_sign_in(browser, issuer)
        assert [path for path, _ in issuer.assertions] == ["/par", "/token"]
        assert {read(assertion, "ES256", issuer.url)["aud"] for _, assertion in issuer.assertions} == {issuer.url}

    @pytest.mark.parametrize("is_required", [True, False])
    def test_follows_the_metadata_without_a_setting(
        self, is_required: bool, issuer: KeyIssuer, visit: Callable[..., Browser], key_file: Path
    ) -> None:
        issuer.metadata |= {
            "pushed_authorization_request_endpoint": f"{issuer.url}/par",
            "require_pushed_authorization_requests": is_required,
        }
        assert ("request_uri=" in visit(client_key_file=str(key_file)).start()) == is_required

    @pytest.mark.parametrize(
        ("answer", "status", "cause"),
        [
            (lambda form: json_response({"error": "invalid_client"}, 401), 502, "client_refused"),
            (lambda form: json_response({"error": "invalid_request"}, 400), 502, "request_refused"),
            (lambda form: Response(status=503), 502, "provider_error"),
            (lambda form: json_response({}, 201), 502, "provider_error"),
            (lambda form: json_response({"request_uri": "a b"}, 201), 502, "provider_error"),
            (lambda form: json_response({"request_uri": 5}, 201), 502, "provider_error"),
            (lambda form: Response("no JSON", 201), 502, "provider_error"),
            (lambda form: Response(status=307, headers={"Location": "/user"}), 502, "provider_error"),
        ],
        ids=["client", "request", "outage", "no URI", "invalid URI", "number", "no JSON", "redirect"],
    )
    def test_that_is_refused_starts_no_sign_in(
        self,
        answer: Callable[[dict[str, str]], Response],
        status: int,
        cause: str,
        browser: Browser,
        issuer: KeyIssuer,
    ) -> None:
        issuer.push = answer
        response = browser.get("/", headers={"Accept": "application/json"})
        assert (response.status_int, response.json["error"]) == (status, cause)

    def test_with_a_refused_key_names_the_setting(
        self, browser: Browser, issuer: KeyIssuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.push = lambda form: json_response({"error": "invalid_client"}, 401)
        browser.get("/")
        assert "compare WSGI_OAUTH_CLIENT_ID and WSGI_OAUTH_CLIENT_KEY_FILE" in caplog.text

    def test_endpoint_is_discovered_although_all_others_are_known(
        self, issuer: KeyIssuer, visit: Callable[..., Browser], key_file: Path
    ) -> None:
        issuer.metadata["pushed_authorization_request_endpoint"] = f"{issuer.url}/par"
        known = {f"{name}_url": getattr(issuer, f"{name}_url") for name in ("authorization", "token", "profile")}
        assert "request_uri=" in visit(client_key_file=str(key_file), pushed_requests=True, **known).start()

    @pytest.mark.parametrize(
        ("endpoint", "problem"),
        [
            (None, "requires pushed authorization requests, but has no endpoint for them"),
            ("/par", "the issuer's pushed_authorization_request_endpoint must"),
        ],
    )
    def test_without_an_endpoint_is_a_fault_of_metadata_that_require_it(
        self,
        endpoint: str | None,
        problem: str,
        issuer: KeyIssuer,
        visit: Callable[..., Browser],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        issuer.metadata |= {
            "pushed_authorization_request_endpoint": endpoint,
            "require_pushed_authorization_requests": True,
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }
        response = visit(client_secret="secret").get("/", headers=JSON)
        assert (response.status_int, response.json["error"]) == (502, "provider_error")
        assert problem in caplog.text
        assert "correct the metadata, or set WSGI_OAUTH_PUSHED_REQUESTS=no" in caplog.text
        browser = visit(client_secret="secret", pushed_requests=False)
        assert "code_challenge=" in browser.start()

    def test_without_an_endpoint_is_a_wrong_setting_of_the_operator(
        self, visit: Callable[..., Browser], key_file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        response = visit(client_key_file=str(key_file), pushed_requests=True).get("/", headers=JSON)
        assert (response.status_int, response.json["error"]) == (500, "configuration")
        assert "set WSGI_OAUTH_PUSHED_REQUESTS=no" in caplog.text
