"""The private key of a client. It signs assertions, which authenticate the client (RFC 7523), or Apple's client secret.

The extra ``openid`` is required.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Collection
from hashlib import sha256
from typing import Any

from .. import errors
from ..config import ProviderConfig
from ..config.secret_file import read_secret
from .keys import verifies_signatures

LIFETIME = 60  # seconds; each request gets a new assertion (RFC 7523 3, item 4)
_MAX_FILE = 64 * 1024  # characters
_ALGORITHMS = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
_RSA_ALGORITHMS = ("RS256", "PS256", "RS384", "PS384", "RS512", "PS512")  # in order of preference


class ClientKey:
    """The key in ``WSGI_OAUTH_CLIENT_KEY_FILE``: RSA, EC or Ed25519, as PEM (RFC 7468) or as a JWK (RFC 7517).

    :raises errors.ConfigError: if the extra ``openid`` is missing, or the file contains no usable key.
    """

    def __init__(self, config: ProviderConfig) -> None:
        self._setting = config.variable("client_key_file")
        self._client_id = config.client_id
        if not verifies_signatures():
            raise errors.ConfigError(f"{self._setting}: needs PyJWT; run pip install 'wsgi-oauth[openid]'")
        import jwt  # noqa: PLC0415  # an optional package
        from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415

        self._jwt = jwt
        self._signatures = jwt.PyJWS()
        self._signatures.register_algorithm("Ed25519", jwt.algorithms.OKPAlgorithm())  # the new name of EdDSA
        path = config.client_key_file or ""
        try:
            text = read_secret(path, longest=_MAX_FILE)
        except ValueError as problem:
            raise self._error(f"the file {problem}", ascii(path)) from None
        self._key, kid = self._parse(text)
        if isinstance(self._key, rsa.RSAPrivateKey):
            if self._key.key_size < 2048:
                raise self._error("an RSA key must have 2048 bits or more (RFC 7518 3.3)", f"{self._key.key_size} bits")
            self.algorithms: tuple[str, ...] = _RSA_ALGORITHMS
        elif isinstance(self._key, ec.EllipticCurvePrivateKey):
            self.algorithms = _ALGORITHMS.get(self._key.curve.name, ())
            if not self.algorithms:
                raise self._error("the curve must be P-256, P-384 or P-521", self._key.curve.name)
        else:
            self.algorithms = ("EdDSA", "Ed25519")  # RFC 9864 2.2
        # By default, the thumbprint of the public key (RFC 7638 3).
        text = json.dumps(self._public_members(), separators=(",", ":"), sort_keys=True)
        thumbprint = jwt.utils.base64url_encode(sha256(text.encode()).digest()).decode()
        self.key_id: str = config.client_key_id or kid or thumbprint

    def _error(self, problem: str, got: str) -> errors.ConfigError:
        return errors.ConfigError(f"{self._setting}: {problem} (got {got})")

    def _parse(self, text: str) -> tuple[Any, str]:
        """Return the private key and its id, which only a JWK has."""
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

        key: Any = None
        kid = ""
        problem = "the file contains no private key in PEM or as a JWK"
        try:
            if text.startswith("{"):
                document = json.loads(text)
                kid = document.get("kid", "")
                # PyJWT may not know the `alg` of the key.
                key = self._jwt.PyJWK({name: value for name, value in document.items() if name != "alg"}).key
            else:
                key = load_pem_private_key(text.encode(), password=None)
        except TypeError:  # from load_pem_private_key
            problem = "the private key is encrypted; decrypt it with openssl pkey -in OLD -out NEW"
        except (ValueError, RecursionError, self._jwt.PyJWTError):
            pass
        if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
            if hasattr(key, "private_bytes"):
                raise self._error("the key must be RSA, EC or Ed25519", type(key).__name__)
            raise self._error(problem, f"{len(text)} characters")
        return key, kid if isinstance(kid, str) else ""

    def _public_members(self) -> dict[str, str]:
        algorithm = self._jwt.algorithms.get_default_algorithms()[self.algorithms[0]]
        document = json.loads(algorithm.to_jwk(self._key.public_key()))
        return {name: document[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in document}

    def public_jwk(self) -> dict[str, str]:
        """Return the public key, which operators register at the provider (RFC 7517 4)."""
        return {**self._public_members(), "kid": self.key_id, "use": "sig"}

    def build_assertion(self, audience: str, supported: Collection[str] = (), *, issuer: str = "") -> str:
        """Return a signed JSON Web Token that authenticates the client (RFC 7523 3; OpenID Connect Core 9).

        :param audience: the provider's issuer or token endpoint.
        :param supported: the algorithms that the provider supports; empty if they are unknown.
        """
        now = int(time.time())
        claims = {
            "iss": issuer or self._client_id,
            "sub": self._client_id,
            "aud": audience,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + LIFETIME,
        }
        algorithm = next((each for each in self.algorithms if each in supported), self.algorithms[0])
        content = json.dumps(claims).encode()
        return str(self._signatures.encode(content, self._key, algorithm, headers={"kid": self.key_id}))
