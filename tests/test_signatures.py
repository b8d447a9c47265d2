"""Signatures of ID tokens and user documents (S30; OpenID Connect Core 3.1.3.7, 5.3.2 and 10; RFC 8725).

They need the extra `openid`. Without it, no test of this file is collected.
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from conftest import Browser, Visitor, gunicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from openid import HOUR, Issuer
from werkzeug import Response

from wsgi_oauth import Config, create_app, errors
from wsgi_oauth.demo.local_provider import json_response
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.demo.signing import public_keys, sign_jwt
from wsgi_oauth.polling import poll
from wsgi_oauth.sessions.memory import MemoryStore
from wsgi_oauth.transport.pool import Transport
from wsgi_oauth.web.application import OAuthApp

jwt = pytest.importorskip("jwt")

SECRET = "s" * 32  # as long as the hash of HMAC (RFC 7518 3.2)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer(client_secret=SECRET)
    with serve_provider(issuer):
        yield issuer


@pytest.fixture
def app(issuer: Issuer) -> OAuthApp:
    config = Config(provider=issuer.url, client_id=issuer.client_id, client_secret=SECRET)
    return create_app(config, store=MemoryStore())


@pytest.fixture
def browser(app: OAuthApp, issuer: Issuer) -> Browser:
    return Browser(app, issuer)


class Key:
    """A key of the provider, which signs with PyJWT."""

    def __init__(self, private: Any, algorithm: str, kid: str | None = "new") -> None:
        self.private = private
        self.algorithm = algorithm
        self.kid = kid

    def sign(self, claims: Any, **header: Any) -> str:
        header |= {} if self.kid is None else {"kid": self.kid}
        token: str = jwt.encode(claims, self.private, self.algorithm, headers=header)
        return token

    def jwk(self, **members: Any) -> dict[str, Any]:
        algorithm = jwt.algorithms.get_default_algorithms()[self.algorithm]
        document = json.loads(algorithm.to_jwk(self.private.public_key()))
        document.pop("key_ops", None)
        return {**document, **({} if self.kid is None else {"kid": self.kid}), **members}


def rsa_key(size: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, size)


RSA = rsa_key()


def keys_on(curve: ec.EllipticCurve) -> Iterator[ec.EllipticCurvePrivateKey]:
    return (ec.derive_private_key(number, curve) for number in count(1))


def use(issuer: Issuer, key: Key, *others: dict[str, Any], **members: Any) -> None:
    """Let *issuer* sign ID tokens with *key*, and publish it together with *others*."""
    issuer.sign = key.sign
    publish(issuer, *others, key.jwk(**members))


def publish(issuer: Issuer, *keys: object) -> None:
    issuer.publish_keys = lambda: json_response({"keys": keys})


def sign_with_hmac(claims: dict[str, Any], secret: bytes) -> str:
    """Return a token that is signed with HS256. PyJWT would refuse most of these keys."""
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    content = sign_jwt(claims, alg="HS256", kid="new").rpartition(".")[0]
    return f"{content}.{jwt.utils.base64url_encode(hmac.sign(content.encode(), secret)).decode()}"


def signs_in(browser: Browser) -> bool:
    response = browser.get(browser.callback_url(), headers={"Accept": "application/json"})
    if response.status_int == 303:
        return True
    assert (response.status_int, response.json["error"]) == (502, "id_token_refused")
    return False


class TestIdToken:
    @pytest.mark.parametrize(
        "key",
        [
            Key(RSA, "RS256"),
            Key(RSA, "RS512"),
            Key(RSA, "PS256"),
            Key(ec.generate_private_key(ec.SECP256R1()), "ES256"),
            Key(ec.generate_private_key(ec.SECP384R1()), "ES384"),
            Key(ec.generate_private_key(ec.SECP521R1()), "ES512"),
            Key(ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        ],
        ids=lambda key: key.algorithm,
    )
    def test_is_verified_with_the_published_key(self, key: Key, browser: Browser, issuer: Issuer) -> None:
        use(issuer, key)
        assert signs_in(browser)

    def test_may_have_a_key_that_names_the_curve_as_its_algorithm(self, browser: Browser, issuer: Issuer) -> None:
        use(issuer, Key(ed25519.Ed25519PrivateKey.generate(), "EdDSA"), alg="Ed25519")
        assert signs_in(browser)

    def test_may_name_the_curve_as_its_algorithm(self, browser: Browser, issuer: Issuer) -> None:
        """RFC 9864 2.2"""
        key = Key(ed25519.Ed25519PrivateKey.generate(), "EdDSA")
        publish(issuer, key.jwk())

        def sign(claims: dict[str, Any]) -> str:
            signer = jwt.PyJWS()
            signer.register_algorithm("Ed25519", jwt.algorithms.OKPAlgorithm())
            token: str = signer.encode(json.dumps(claims).encode(), key.private, "Ed25519", headers={"kid": "new"})
            return token

        issuer.sign = sign
        assert signs_in(browser)

    def test_with_a_changed_claim_is_refused(
        self, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        def forge(claims: dict[str, Any]) -> str:
            header, _, signature = sign_jwt({**claims, "sub": "octocat"}).split(".")
            return f"{header}.{sign_jwt(claims).split('.')[1]}.{signature}"

        issuer.sign = forge
        assert not signs_in(browser)
        assert "the signature of the token is invalid" in caplog.text

    def test_signed_with_another_key_of_the_same_name_is_refused(self, browser: Browser, issuer: Issuer) -> None:
        publish(issuer, Key(RSA, "RS256").jwk())
        issuer.sign = Key(rsa_key(), "RS256").sign
        assert not signs_in(browser)

    def test_without_a_key_id_is_verified_with_any_key(self, browser: Browser, issuer: Issuer) -> None:
        """Core 10.1: a key id is required only if there are several keys."""
        use(issuer, Key(RSA, "RS256", kid=None), *public_keys()["keys"])
        assert signs_in(browser)

    def test_fits_a_key_without_a_key_id(self, browser: Browser, issuer: Issuer) -> None:
        issuer.sign = Key(RSA, "RS256").sign
        publish(issuer, Key(RSA, "RS256", kid=None).jwk())
        assert signs_in(browser)

    def test_is_verified_if_two_keys_have_its_key_id(self, browser: Browser, issuer: Issuer) -> None:
        use(issuer, Key(RSA, "RS256"), Key(rsa_key(), "RS256").jwk())
        assert signs_in(browser)

    @pytest.mark.parametrize(
        "other",
        [
            {"kty": "unknown", "kid": "new"},
            {"kty": "EC", "crv": "P-512", "kid": "new", "x": "AA", "y": "AA"},
            {"kty": "RSA", "kid": "new", "n": 5, "e": "AQAB"},
            {"kty": "RSA", "kid": "new"},
            {"kty": "RSA", "kid": "new", "use": "enc", "n": "AQAB", "e": "AQAB"},
            {"kty": ["RSA"], "kid": "new"},
            {"kty": "RSA", "kid": "new", "alg": ["RS256"]},
            {"kty": "RSA", "kid": "new", "key_ops": 5},
            {"kty": "RSA", "kid": "new", "use": {}},
            {"kty": "RSA", "kid": "new", "n": "A" * 4000 + "Q", "e": "AQ"},
            {"kty": "EC", "crv": "P-256", "kid": "new", "x": "AA" * 16, "y": "AA" * 16},
            {"kty": "oct", "kid": "new", "k": "c2VjcmV0"},
            Key(ed448.Ed448PrivateKey.generate(), "EdDSA").jwk(),
            "not an object",
            None,
        ],
        ids=[
            "type",
            "curve",
            "number",
            "incomplete",
            "purpose",
            "list",
            "algorithms",
            "operations",
            "use",
            "exponent",
            "point",
            "secret",
            "Ed448",
            "text",
            "null",
        ],
    )
    def test_is_verified_beside_unusable_keys(self, other: Any, browser: Browser, issuer: Issuer) -> None:
        use(issuer, Key(RSA, "RS256"), other)
        assert signs_in(browser)

    @pytest.mark.parametrize("operations", [None, ["sign"], ["verify"]])
    def test_is_verified_if_its_key_is_for_signatures(
        self, operations: list[str] | None, browser: Browser, issuer: Issuer
    ) -> None:
        """Programs that export the private key and leave out its secret members publish ``sign``."""
        use(issuer, Key(RSA, "RS256"), key_ops=operations)
        assert signs_in(browser)

    @pytest.mark.parametrize("value", [None, ""])
    def test_is_verified_if_members_of_its_key_are_empty(self, value: Any, browser: Browser, issuer: Issuer) -> None:
        use(issuer, Key(RSA, "RS256"), use=value, alg=value, kid=value)
        assert signs_in(browser)

    @pytest.mark.parametrize("encode", [lambda x: x.lstrip(b"\0"), lambda x: b"\0" + x], ids=["shorter", "longer"])
    def test_is_verified_if_a_coordinate_of_its_key_has_another_length(
        self, encode: Callable[[bytes], bytes], browser: Browser, issuer: Issuer
    ) -> None:
        """As with numbers that Keycloak 19 and other encoders in Java publish (RFC 7518 6.2.1.2)."""
        private = next(key for key in keys_on(ec.SECP256R1()) if key.public_key().public_numbers().x < 1 << 248)
        x = private.public_key().public_numbers().x.to_bytes(32, "big")
        use(issuer, Key(private, "ES256"), x=urlsafe_b64encode(encode(x)).rstrip(b"=").decode())
        assert signs_in(browser)

    @pytest.mark.parametrize("x", ["B" * 44, "", "?", 5, None])
    def test_is_verified_beside_a_key_with_an_invalid_coordinate(
        self, x: Any, browser: Browser, issuer: Issuer
    ) -> None:
        key = Key(ec.generate_private_key(ec.SECP256R1()), "ES256")
        issuer.sign = key.sign
        publish(issuer, {**key.jwk(), "x": x}, key.jwk())
        assert signs_in(browser)

    def test_is_verified_if_its_key_has_an_invalid_private_member(self, browser: Browser, issuer: Issuer) -> None:
        use(issuer, Key(RSA, "RS256"), d="not Base64!")
        assert signs_in(browser)

    def test_with_an_empty_key_id_is_verified_with_any_key(self, browser: Browser, issuer: Issuer) -> None:
        issuer.sign = lambda claims: sign_jwt(claims, kid="")
        assert signs_in(browser)

    @pytest.mark.parametrize("members", [{"use": "enc"}, {"alg": "RS512"}, {"key_ops": ["encrypt"]}], ids=str)
    def test_is_refused_if_its_key_is_for_another_purpose(
        self, members: dict[str, str], browser: Browser, issuer: Issuer
    ) -> None:
        """RFC 7517 4.2 to 4.4"""
        use(issuer, Key(RSA, "RS256"), **members)
        assert not signs_in(browser)

    @pytest.mark.filterwarnings("ignore:The RSA key is:jwt.warnings.InsecureKeyLengthWarning")
    def test_is_refused_if_its_key_is_too_short(self, browser: Browser, issuer: Issuer) -> None:
        """RFC 7518 3.3"""
        use(issuer, Key(rsa_key(1024), "RS256"))
        assert not signs_in(browser)

    def test_with_an_algorithm_that_the_metadata_do_not_announce_is_refused(
        self, browser: Browser, issuer: Issuer
    ) -> None:
        issuer.metadata["id_token_signing_alg_values_supported"] = ["ES256"]
        assert not signs_in(browser)

    def test_with_an_unknown_algorithm_is_refused_and_the_log_names_the_accepted_ones(
        self, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata["id_token_signing_alg_values_supported"] = ["ES256K", "ES512"]
        issuer.sign = lambda claims: sign_jwt(claims, alg="ES256K")
        assert not signs_in(browser)
        assert "the algorithm of the token must be ES512 (got 'ES256K'); let the provider" in caplog.text

    @pytest.mark.parametrize("location", ["jku", "x5u"])
    def test_decides_nothing_about_its_key(self, location: str, browser: Browser, issuer: Issuer) -> None:
        key = Key(RSA, "RS256")
        issuer.routes["/foreign"] = ("foreign", {"GET": lambda request: json_response({"keys": [key.jwk()]})})
        issuer.sign = lambda claims: key.sign(claims, jwk=key.jwk(), **{location: f"{issuer.url}/foreign"})
        assert not signs_in(browser)
        assert issuer.count("foreign") == 0

    @pytest.mark.parametrize("header", [{"crit": ["exp"], "exp": 5}, {"crit": []}, {"b64": True}], ids=str)
    def test_with_critical_extensions_is_refused(
        self, header: dict[str, Any], browser: Browser, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RFC 7515 4.1.11. PyJWT before version 2.12 ignores them."""
        monkeypatch.setattr(jwt.PyJWS, "_validate_crit", lambda *arguments: None, raising=False)
        issuer.sign = lambda claims: sign_jwt(claims, **header)
        assert not signs_in(browser)


class TestConfusedAlgorithms:
    """RFC 8725 2.1"""

    @pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
    def test_unsigned_token_is_refused(self, name: str, browser: Browser, issuer: Issuer) -> None:
        issuer.metadata["id_token_signing_alg_values_supported"] = ["none", "RS256"]
        issuer.sign = lambda claims: sign_jwt(claims, alg=name).rpartition(".")[0] + "."
        assert not signs_in(browser)

    @pytest.mark.parametrize("announced", [["RS256"], ["RS256", "HS256"], None])
    @pytest.mark.parametrize("form", ["PEM", "DER", "JWK"])
    def test_public_key_is_no_key_of_hmac(
        self, announced: list[str] | None, form: str, browser: Browser, issuer: Issuer
    ) -> None:
        issuer.metadata["id_token_signing_alg_values_supported"] = announced
        public = RSA.public_key()
        encoding = serialization.Encoding.PEM if form == "PEM" else serialization.Encoding.DER
        secret = public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        if form == "JWK":
            secret = json.dumps(Key(RSA, "RS256").jwk()).encode()
        publish(issuer, Key(RSA, "RS256").jwk(), {"kty": "oct", "kid": "new", "k": "c2VjcmV0"})
        issuer.sign = lambda claims: sign_with_hmac(claims, secret)
        assert not signs_in(browser)

    @pytest.mark.parametrize(("announced", "is_accepted"), [(["HS256"], True), (["RS256"], False), (None, False)])
    def test_client_secret_is_a_key_only_if_the_provider_announces_that(
        self, announced: list[str] | None, is_accepted: bool, browser: Browser, issuer: Issuer
    ) -> None:
        """Core 3.1.3.7, item 8"""
        issuer.metadata["id_token_signing_alg_values_supported"] = announced
        issuer.sign = lambda claims: jwt.encode(claims, SECRET, "HS256")
        assert signs_in(browser) == is_accepted

    def test_missing_secret_of_a_public_client_is_no_key_of_hmac(self, caplog: pytest.LogCaptureFixture) -> None:
        """PyJWT before version 2.11 accepts an empty key."""
        issuer = Issuer(client_secret=None)
        issuer.metadata["id_token_signing_alg_values_supported"] = ["HS256"]
        issuer.sign = lambda claims: sign_with_hmac(claims, b"")
        with serve_provider(issuer):
            config = Config(provider=issuer.url, client_id=issuer.client_id, client_auth="none")
            assert not signs_in(Browser(create_app(config, store=MemoryStore()), issuer))
        assert "must be asymmetric (got 'HS256')" in caplog.text

    def test_client_secret_needs_no_published_keys(
        self, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata |= {"id_token_signing_alg_values_supported": ["HS256"], "jwks_uri": None}
        issuer.sign = lambda claims: jwt.encode(claims, "x" * 40, "HS256")
        assert not signs_in(browser)
        assert "the signature of the token is invalid; compare WSGI_OAUTH_CLIENT_SECRET" in caplog.text
        issuer.sign = lambda claims: jwt.encode(claims, SECRET, "HS256")
        assert signs_in(browser)

    def test_curve_must_fit_the_algorithm(self, browser: Browser, issuer: Issuer) -> None:
        key = Key(ec.generate_private_key(ec.SECP384R1()), "ES384")
        publish(issuer, key.jwk())
        issuer.sign = lambda claims: _with_header(key.sign(claims), alg="ES256", kid="new")
        assert not signs_in(browser)


def _with_header(token: str, **header: str) -> str:
    return f"{sign_jwt({}, **header).split('.')[0]}.{token.partition('.')[2]}"


class TestKeys:
    @pytest.fixture
    def keys_age(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
        """Advance the clock of the cache: ``keys_age(60)``."""
        now, passed = time.monotonic, [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: now() + passed[0])
        return lambda seconds: passed.append(passed.pop() + seconds)

    def test_are_fetched_once(self, browser: Browser, issuer: Issuer) -> None:
        assert all(signs_in(browser) for _ in range(3))
        assert issuer.count("keys") == 1

    @pytest.mark.parametrize("kid", ["new", "demo"])
    def test_that_were_rotated_fail_no_sign_in(self, kid: str, browser: Browser, issuer: Issuer) -> None:
        """Also if the new key has the name of the old one."""
        assert signs_in(browser)
        use(issuer, Key(RSA, "RS256", kid))
        assert signs_in(browser)
        assert issuer.count("keys") == 2

    def test_that_are_rotated_during_many_sign_ins_fail_none(self, app: OAuthApp, issuer: Issuer) -> None:
        assert signs_in(Browser(app, issuer))
        use(issuer, Key(RSA, "RS256"))
        callbacks = [(each := Browser(app, issuer), each.callback_url()) for _ in range(6)]
        statuses: list[int] = []
        threads = [Thread(target=lambda b=b, url=url: statuses.append(b.get(url).status_int)) for b, url in callbacks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [303] * 6

    def test_that_were_requested_before_the_token_arrived_are_requested_again(
        self, app: OAuthApp, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another sign-in may have requested them just before the provider rotated them."""
        first, second = Browser(app, issuer), Browser(app, issuer)
        assert signs_in(first)
        urls = first.callback_url(), second.callback_url()
        slots, is_waiting, statuses = [], Event(), []
        slot = Transport.slot

        def count_slots(self: Transport) -> Any:
            slots.append(1)
            if len(slots) == 2:  # each callback takes one for the keys
                is_waiting.set()
            return slot(self)

        monkeypatch.setattr(Transport, "slot", count_slots)
        thread = Thread(target=lambda: statuses.append(second.get(urls[1]).status_int))
        keys = [Key(RSA, "RS256", "first"), Key(rsa_key(), "RS256", "second")]

        def publish_keys() -> Response:
            issuer.sign = keys[1].sign
            publish(issuer, keys[1].jwk())
            thread.start()
            assert is_waiting.wait(10)
            return json_response({"keys": [keys[0].jwk()]})

        issuer.sign, issuer.publish_keys = keys[0].sign, publish_keys
        statuses.append(first.get(urls[0]).status_int)
        thread.join()
        assert statuses == [303, 303]

    def test_are_fetched_again_after_an_hour(
        self, browser: Browser, issuer: Issuer, keys_age: Callable[[float], None]
    ) -> None:
        """A withdrawn key must not stay valid."""
        assert signs_in(browser)
        publish(issuer, Key(RSA, "RS256").jwk())
        keys_age(HOUR)
        assert not signs_in(browser)

    def test_stay_in_use_while_the_provider_does_not_answer(
        self, browser: Browser, issuer: Issuer, keys_age: Callable[[float], None]
    ) -> None:
        """It is asked once in a minute. Otherwise each sign-in would wait for its timeout."""
        assert signs_in(browser)
        keys_age(HOUR)
        issuer.publish_keys = lambda: Response(status=503)
        assert all(signs_in(browser) for _ in range(3))
        assert issuer.count("keys") == 2

    def test_that_were_withdrawn_during_an_outage_are_refused_a_minute_after_it(
        self, browser: Browser, issuer: Issuer, keys_age: Callable[[float], None]
    ) -> None:
        """Otherwise an attacker who can disturb one request could use a stolen key for another hour."""
        assert signs_in(browser)
        keys_age(HOUR)
        issuer.publish_keys = lambda: Response(status=503)
        assert signs_in(browser)
        publish(issuer, Key(RSA, "RS256").jwk())
        keys_age(60)
        assert not signs_in(browser)

    @pytest.mark.parametrize(
        "answer",
        [
            lambda: Response(status=404),
            lambda: Response(status=302, headers={"Location": "/user"}),
            lambda: Response("no JSON"),
            lambda: json_response([]),
            lambda: json_response({"keys": {}}),
            lambda: Response(b" " * 2_000_000),
        ],
        ids=["missing", "redirect", "no JSON", "list", "object", "huge"],
    )
    def test_that_cannot_be_read_are_the_fault_of_the_provider(
        self, answer: Callable[[], Response], browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.publish_keys = answer
        response = browser.get(browser.callback_url(), headers={"Accept": "application/json"})
        assert (response.status_int, issuer.count("keys")) == (502, 1)
        assert "the keys of the provider" in caplog.text or "larger than" in caplog.text

    @pytest.mark.parametrize(
        ("status", "cause", "words"),
        [
            (302, "provider_error", "correct jwks_uri"),
            (429, "provider_rate_limit", "429"),
            (503, "provider_error", "503"),
        ],
    )
    def test_that_are_not_served_have_the_remedy_in_the_log(
        self, browser: Browser, issuer: Issuer, caplog: Any, *, status: int, cause: str, words: str
    ) -> None:
        issuer.publish_keys = lambda: Response(status=status, headers={"Location": "/user", "Retry-After": "77"})
        response = browser.get(browser.callback_url(), headers={"Accept": "application/json"})
        assert response.json["error"] == cause
        assert response.headers.get("Retry-After") == (None if status == 302 else "77")
        assert words in caplog.text

    def test_can_be_many(self, browser: Browser, issuer: Issuer) -> None:
        key = Key(RSA, "RS256")
        use(issuer, key, *(key.jwk(kid=f"old-{number}") for number in range(300)))
        assert signs_in(browser)

    def test_are_not_all_tried_for_a_token_without_a_key_id(self, browser: Browser, issuer: Issuer) -> None:
        """Otherwise a forged token could cost thousands of verifications."""
        use(issuer, Key(RSA, "RS256", None), *[Key(rsa_key(), "RS256", None).jwk()] * 100)
        assert not signs_in(browser)

    def test_are_counted_in_the_log_if_none_has_the_id_in_the_token(
        self, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.sign = Key(RSA, "RS256").sign
        assert not signs_in(browser)
        assert "publishes no key for the token's signature (got alg 'RS256', kid 'new'; keys: 1)" in caplog.text
        assert "let the provider publish its key" in caplog.text

    def test_do_not_stop_a_worker_with_greenlets_while_several_sign_ins_wait_for_them(
        self, issuer: Issuer, tmp_path: Path
    ) -> None:
        """gunicorn loads the application before gevent replaces the locks, and such a lock blocks all greenlets."""
        pytest.importorskip("gevent")
        asked, answered = Event(), Event()

        def publish_later() -> Response:
            asked.set()
            assert answered.wait(60)
            return json_response(public_keys())

        issuer.publish_keys = publish_later
        settings = {"PROVIDER": issuer.url, "CLIENT_ID": issuer.client_id, "CLIENT_SECRET": SECRET}
        environ = {f"WSGI_OAUTH_{name}": value for name, value in settings.items()}
        environ["WSGI_OAUTH_SESSION_STORE"] = "memory:"
        options = ("--worker-class", "gevent", "--preload")
        with gunicorn(tmp_path, environ, *options) as server, ThreadPoolExecutor(2) as threads:
            visitors = [Visitor(server.url, issuer) for _ in range(3)]
            urls = [visitor.callback_url() for visitor in visitors[:2]]
            callbacks = [threads.submit(visitor.get, url) for visitor, url in zip(visitors, urls, strict=False)]
            assert asked.wait(60)
            for _ in poll(60):
                if issuer.count("token") == 2:
                    break
            assert visitors[2].get("/healthz").status_code == 200
            answered.set()
            assert [callback.result().status_code for callback in callbacks] == [303, 303]
            assert issuer.count("keys") == 1

    def test_are_required_in_the_metadata(
        self, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata["jwks_uri"] = None
        assert browser.get("/").status_int == 502
        assert "has no jwks_uri" in caplog.text


class TestUserDocument:
    def test_with_a_valid_signature_is_read(self, browser: Browser, issuer: Issuer) -> None:
        issuer.signs_user_document(iss=issuer.url, aud=issuer.client_id)
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"

    @pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
    def test_has_another_content_type_at_some_providers(
        self, content_type: str, browser: Browser, issuer: Issuer
    ) -> None:
        """As with WSO2 Identity Server up to 5.11: https://github.com/wso2/product-is/issues/12128"""
        issuer.signs_user_document(content_type)
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"
        issuer.sign = Key(RSA, "RS256").sign
        assert browser.profile().json["error"] == "id_token_refused"

    @pytest.mark.parametrize("claim", ["iss", "aud", "exp", "nbf"])
    def test_can_have_claims_that_are_null(self, claim: str, browser: Browser, issuer: Issuer) -> None:
        issuer.signs_user_document(**{claim: None})
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"

    def test_with_another_signature_is_refused(self, browser: Browser, issuer: Issuer) -> None:
        browser.sign_in()
        issuer.sign = Key(RSA, "RS256").sign
        issuer.signs_user_document()
        assert browser.profile().json["error"] == "id_token_refused"

    @pytest.mark.parametrize(("announced", "status"), [(["ES256"], 200), (["none", "RS256"], 502), (None, 502)])
    def test_may_have_an_algorithm_of_its_own_if_the_metadata_announce_it(
        self, announced: Any, status: int, browser: Browser, issuer: Issuer
    ) -> None:
        """OpenID Connect Discovery 3, userinfo_signing_alg_values_supported"""
        issuer.metadata |= {
            "id_token_signing_alg_values_supported": ["RS256"],
            "userinfo_signing_alg_values_supported": announced,
        }
        browser.sign_in()
        use(issuer, Key(ec.generate_private_key(ec.SECP256R1()), "ES256"))
        issuer.signs_user_document()
        assert browser.profile().status_int == status


class TestRefreshedIdToken:
    def test_with_another_signature_ends_the_session(
        self, browser: Browser, issuer: Issuer, later: Callable[[float], None]
    ) -> None:
        browser.sign_in()
        issuer.sign = Key(RSA, "RS256").sign
        later(3600)
        assert browser.profile().status_int in {302, 401}


def test_package_with_the_module_name_of_pyjwt_is_named(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package jwt, or a file jwt.py of the application, takes its place."""
    monkeypatch.delattr("jwt.PyJWK")
    with pytest.raises(errors.ConfigError, match=r"PyJWT: cannot be imported \(cannot import name 'PyJWK'") as caught:
        create_app(Config(provider=issuer.url, client_id="id", client_secret=SECRET), store=MemoryStore())
    assert "without the package jwt or a file jwt.py" in caught.value.remedy
