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
_MODULUS = int(
    "92b409d49d8a4198e2237e7d51d6706a982fe6b1f0253352615ab499aaf19a86451a22fd41d616c4500485be45df5b88ad975497f4e7e528"
    "3ae38c5dfb8462a7cbf9e4d5bb5f708ecbc6b77a0acb604095b6372771730ac68b17e09abe09f4ce9a5f8a5e81cece152b86b02fc6f73be5"
    "171e8c33f7f05ce454518f24f0b4e8df3436c832928fce2c9c62c94c482587079d4cbae6d5111b1ff6ac7fe5053f2816346665a294a26d7b"
    "06ff11ab8f0f0722e1d905df4b0d767b0fc3df0873d053be844f4da54f1900e8ef697373ba6ac7fad19b8ce924b9183c129cba7e778c6b6c"
    "5f9265fca953157403b5511cb28702b141bef0ef1a0d8b48491bb4653bbe267b",
    16,
)
_PUBLIC_EXPONENT = 65537
_PRIVATE_EXPONENT = int(
    "130088a61bbd2cefa96efbddd8ac0430a7c375f2c60e7e28d007bde28a54097615dcf8fb969102aeed47160470d6d46b8e41f948f0db2eac"
    "0e2b56385586aeceaeeae5f0a74e0942d31df6105ea0918d9c0c17a074c9f81dd7d0c11cda1113bec51bd5f79581c78b7cc6a695f1aed423"
    "c18c5e905c050175e92962a20ac9ac160c5e9a2f458ee9d623ed11d6c6e9b5a8e9e97a1a848c56ede8a693d90c24711b13e5705dc0393911"
    "72e28de45f3b863c4d93e644966d20225bc04680c863acb75523ff0c1ffb6f50978e551b0ae48f01299cbd9ad576ea8c3f314168c7c5de45"
    "c2adb727ac97cdb39505abb745d35c96edfa2cde1ce0ae672ce2cfb732e15fcd",
    16,
)
_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")  # DigestInfo without the hash (RFC 8017 9.2)


def sign_jwt(claims: Mapping[str, Any] | bytes, **header: Any) -> str:
    """Return *claims* as a signed JSON Web Token (RFC 7519 3).

    :param claims: the claims, or their JSON form as bytes.
    :param header: further members of the header, or other values of ``alg``, ``kid`` and ``typ``.
    """
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    header = {"alg": "RS256", "kid": "demo", "typ": "JWT", **header}
    content = f"{encode(json.dumps(header).encode())}.{encode(payload)}"
    # RSASSA-PKCS1-v1_5 (RFC 8017 8.2.1)
    digest = _SHA256 + hashlib.sha256(content.encode()).digest()
    padded = b"\0\1" + b"\xff" * (_SIZE - len(digest) - 3) + b"\0" + digest
    signature = pow(int.from_bytes(padded, "big"), _PRIVATE_EXPONENT, _MODULUS)
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
