"""Signatures of the local providers' ID tokens: RS256 (RFC 7518 3.3) in plain Python, without an optional package.

The private key is public, because it is in this file. It is for demos and tests only.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from .messages import load_json

_SIZE = 256  # bytes of the modulus
_PRIME_1 = int(
    "c4f7033682341a8e81a17c9db2da48f084c75d791100b594fd2dc5d9cc7b85b7afb2db0ee28704b45eca7148064c6a5d12541fdce2d9da14"
    "d4fdc4f88199e177c5d375c0bbd90b64c0c3df7ebacc6198dfeb24b93f0c286f25b06b3da1cb84534a18896bbdd21781e9d7fc307e547b91"
    "84c7bb929461a7f8927258631f1706fd",
    16,
)
_PRIME_2 = int(
    "beac7c1a74814170c909a240b7ba9896a4ce48e598a1c015233f88401b9a39d2ccb8ae2446e9f295a1ff8428a7470764d5e42b808f1f88d0"
    "0b7a6a1ba3ee444e7041860847cf4478e6faf6a014aa5c4216e7f48443daaa314e86e9aadcc7dcd733a8bdb55f62434d0225f7e77f84203a"
    "892fffcefa063d9dda32806486fae8d7",
    16,
)
_PUBLIC_EXPONENT = 65537
_MODULUS = _PRIME_1 * _PRIME_2
# The exponents and the coefficient for the Chinese remainder theorem (RFC 8017 3.2), which makes signing four times as
# fast.
_EXPONENT_1 = pow(_PUBLIC_EXPONENT, -1, _PRIME_1 - 1)
_EXPONENT_2 = pow(_PUBLIC_EXPONENT, -1, _PRIME_2 - 1)
_COEFFICIENT = pow(_PRIME_2, -1, _PRIME_1)
_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")  # DigestInfo without the hash (RFC 8017 9.2)


def sign_jwt(claims: Mapping[str, Any] | bytes, **header: Any) -> str:
    """Return *claims* as a signed JSON Web Token (RFC 7519 3).

    :param claims: the claims, or their JSON form as bytes.
    :param header: further members of the header, or other values of ``alg``, ``kid`` and ``typ``.
    """
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    header = {"alg": "RS256", "kid": "demo", "typ": "JWT", **header}
    content = f"{encode(json.dumps(header).encode())}.{encode(payload)}"
    # RSASSA-PKCS1-v1_5 (RFC 8017 8.2.1 and 5.1.2)
    digest = _SHA256 + hashlib.sha256(content.encode()).digest()
    padded = b"\0\1" + b"\xff" * (_SIZE - len(digest) - 3) + b"\0" + digest
    message = int.from_bytes(padded, "big")
    part_1, part_2 = pow(message, _EXPONENT_1, _PRIME_1), pow(message, _EXPONENT_2, _PRIME_2)
    signature = part_2 + _PRIME_2 * ((part_1 - part_2) * _COEFFICIENT % _PRIME_1)
    return f"{content}.{encode(signature.to_bytes(_SIZE, 'big'))}"


def hash_access_token(token: str) -> str:
    """Return the claim ``at_hash``, which ties an ID token to an access token (OpenID Connect Core 3.1.3.6)."""
    return encode(hashlib.sha256(token.encode()).digest()[:16])


def is_own_token(token: str) -> bool:
    """Return whether *token* is a signed JSON Web Token from :func:`sign_jwt`, expired or not."""
    head, _, payload = token.rpartition(".")[0].partition(".")
    try:
        return bool(payload) and sign_jwt(decode(payload), **load_json(decode(head))) == token
    except (ValueError, TypeError):  # TypeError: the header is not an object
        return False


def read_claims(token: object) -> dict[str, Any]:
    """Return the claims of a JSON Web Token (RFC 7519 3) without any check; empty if it is malformed."""
    try:
        claims = load_json(decode(str(token).split(".")[1]))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def public_keys() -> dict[str, Any]:
    """Return the JWK set with the public key (RFC 7517 5)."""
    modulus, exponent = _MODULUS.to_bytes(_SIZE, "big"), _PUBLIC_EXPONENT.to_bytes(3, "big")
    return {"keys": [{"kty": "RSA", "kid": "demo", "use": "sig", "n": encode(modulus), "e": encode(exponent)}]}


def encode(data: bytes) -> str:
    """Return *data* in base64url without padding (RFC 7515 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Return the data of *text* in base64url without padding.

    :raises ValueError: when *text* is malformed.
    """
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
