"""Signatures of JSON Web Tokens (RFC 7515, RFC 7517), verified with PyJWT from the extra ``openid``.

PyJWT implements the algorithms. This module decides which key and which algorithm may verify a token, and fetches the
keys through the transport of this application, with its deadlines and limits.
"""

from __future__ import annotations

import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from typing import Any

import requests

from .. import errors
from ..config.provider import Provider
from ..polling import acquire
from ..transport.error_description import build_status_error, describe_error
from ..transport.json import parse_json, read_json
from ..transport.pool import Transport

CACHED_FOR = 3600.0  # seconds after which the keys are fetched again, because one may have been withdrawn
RETRY_AFTER = 60.0  # seconds after a failure until the next attempt; the known keys stay in use
# Seconds between two fetches for tokens that anyone can send: otherwise an attacker could flood the provider.
FETCH_INTERVAL = 10.0

# For each algorithm, the type and curve of its keys (RFC 7518 3.1, RFC 8037 3.1, RFC 9864 2.2). `none` is missing, so
# it is refused. HMAC is missing, so a public key is never used as its secret.
_KEYS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
ASYMMETRIC = frozenset(_KEYS)
_SYMMETRIC = frozenset({"HS256", "HS384", "HS512"})
_PUBLIC_MEMBERS = ("kty", "crv", "n", "e", "x", "y")
_COORDINATE_SIZES = {"P-256": 32, "P-384": 48, "P-521": 66}  # bytes
# Keys that are tried for one token: otherwise a forged token without `kid` could cost thousands of verifications.
_MAX_TRIES = 100

Jwk = Mapping[str, Any]


def verifies_signatures() -> bool:
    """Return whether the extra ``openid`` is installed. Raise ConfigError if its packages cannot be imported."""
    if find_spec("jwt") is None or find_spec("cryptography") is None:
        return False
    try:
        from jwt import PyJWK, algorithms  # noqa: F401, PLC0415
    except ImportError as error:
        raise errors.ConfigError(
            f"PyJWT: cannot be imported ({error})",
            remedy="install 'wsgi-oauth[openid]' again, without the package jwt or a file jwt.py in its place",
        ) from error
    return True


class SigningKeys:
    """The public keys of one provider. Requests share them. Raise ImportError without the extra ``openid``."""

    def __init__(self, transport: Transport) -> None:
        import jwt  # noqa: PLC0415  # an optional package; imported now, before the first request thread needs it
        from jwt.algorithms import OKPAlgorithm  # noqa: PLC0415

        self._pyjwt = jwt
        self._signatures = jwt.PyJWS(sorted(ASYMMETRIC | _SYMMETRIC), options={"enforce_minimum_key_length": True})
        self._signatures.register_algorithm("Ed25519", OKPAlgorithm())
        self._transport = transport
        self._keys: tuple[Jwk, ...] = ()
        self._url = ""
        # Seconds of the monotonic clock: of the last request, of the request for the keys in use, and their expiry.
        self._requested = self._loaded = self._valid_until = 0.0
        self._lock = threading.Lock()

    def verify(
        self,
        token: str,
        url: str,
        algorithms: Collection[str] = (),
        *,
        secret: str = "",
        is_direct: bool = False,
        types: Collection[str] = (),
        has_tenants: bool = False,
    ) -> bytes:
        """Verify the signature of *token*, and return its payload.

        The keys are fetched again if none of them verifies the token, because the provider may have changed them.

        :param url: where the provider publishes its keys (``jwks_uri``, OpenID Connect Discovery 3).
        :param algorithms: the algorithms that the provider uses; by default all with a public key.
        :param secret: the client secret, the key of HMAC (Core 10.1). Without it HMAC is refused.
        :param is_direct: whether the token came from the provider itself, and not from a client or a browser.
        :param types: the acceptable values of ``typ`` (RFC 8725 3.11), in lower case; "" permits a token without it.
            By default every value is acceptable.
        :param has_tenants: whether a key with the member ``issuer`` signs for that issuer only, see :func:`_signs_for`.
        :raises errors.SignatureRefused: when no key verifies it, or its header is unacceptable.
        :raises errors.ProviderError: when the keys cannot be fetched.
        """
        header = self._read_header(token)
        if types and str(header.get("typ", "")).lower().removeprefix("application/") not in types:  # RFC 7515 4.1.9
            raise errors.SignatureRefused(f"the token is of another type (got typ {header.get('typ')!a:.40})")
        algorithm = header.get("alg")
        allowed = (set(algorithms) & (ASYMMETRIC | _SYMMETRIC) or ASYMMETRIC) - (set() if secret else _SYMMETRIC)
        if not isinstance(algorithm, str) or algorithm not in allowed:
            accepted = " or ".join(sorted(allowed)) or "asymmetric"
            remedy = "let the provider sign the tokens of this client with such an algorithm"
            text = f"the algorithm of the token must be {accepted} (got {algorithm!a:.40})"
            raise errors.SignatureRefused(text, remedy=remedy)
        if algorithm in _SYMMETRIC:
            return self._verify_with(secret.encode(), token, algorithm)
        kid, arrived = header.get("kid") or None, time.monotonic()
        keys = self._current_keys(url, is_direct=is_direct)
        try:
            return self._try_keys(keys, token, algorithm, kid, has_tenants)
        except errors.SignatureRefused:
            # Keys that another thread has requested before the token arrived may lack the token's key.
            fresh = self._fetch_keys(url, keys, arrived, is_direct=is_direct)
            if fresh is keys:
                raise
        return self._try_keys(fresh, token, algorithm, kid, has_tenants)

    def count(self, url: str) -> int:
        """Return the number of keys that the provider publishes. Raise ProviderError if they cannot be fetched."""
        return len(self._current_keys(url, is_direct=True))

    def _read_header(self, token: str) -> dict[str, Any]:
        try:
            header: dict[str, Any] = self._pyjwt.get_unverified_header(token)
        except (self._pyjwt.PyJWTError, ValueError, RecursionError):
            raise errors.SignatureRefused("the token is not a signed JSON Web Token (RFC 7515 3.1)") from None
        if "crit" in header or "b64" in header:  # extensions (RFC 7515 4.1.11), which old versions of PyJWT ignore
            raise errors.SignatureRefused("the header of the token requires extensions that are not supported")
        return header

    def _try_keys(self, keys: Collection[Jwk], token: str, algorithm: str, kid: object, has_tenants: bool) -> bytes:
        """Return the payload if one of *keys* fits the header and verifies the token. Keys in a header are ignored."""
        kind = _KEYS[algorithm][0]
        suitable = [key for key in keys if _is_suitable(key, algorithm) and (kid is None or key.get("kid", kid) == kid)]
        got = f"alg {algorithm!a}, kid {kid!a:.80}; keys: {len(keys)}"
        problem = errors.SignatureRefused(
            f"the provider publishes no key for the token's signature (got {got})",
            remedy="let the provider publish its key at the jwks_uri of its metadata, with fitting kid, use, key_ops "
            "and alg",
        )
        for key in suitable[:_MAX_TRIES]:
            # Only the public members, because some providers add invalid or even private members.
            members = {name: key[name] for name in _PUBLIC_MEMBERS if name in key}
            try:
                if kind == "EC":
                    members |= {name: _encode_coordinate(key.get(name), key["crv"]) for name in ("x", "y")}
                public = self._pyjwt.PyJWK(members, "EdDSA" if kind == "OKP" else algorithm).key
                payload = self._verify_with(public, token, algorithm)
                if has_tenants and not _signs_for(key, payload):
                    raise errors.SignatureRefused("the key for the token's signature belongs to another issuer")
                return payload
            except errors.SignatureRefused as error:
                problem = error
            except (self._pyjwt.PyJWTError, ValueError, TypeError, OverflowError):  # an unusable key
                continue
        raise problem

    def _verify_with(self, key: Any, token: str, algorithm: str) -> bytes:
        try:
            payload: bytes = self._signatures.decode(token, key, [algorithm])
        except self._pyjwt.InvalidKeyError as error:
            raise errors.SignatureRefused(f"the key for the token's signature is refused: {error}") from None
        except self._pyjwt.PyJWTError:
            remedy = "compare jwks_uri in the metadata with the key of the provider"
            if algorithm in _SYMMETRIC:
                remedy = "compare WSGI_OAUTH_CLIENT_SECRET with the registration"
            raise errors.SignatureRefused("the signature of the token is invalid", remedy=remedy) from None
        return payload

    def _current_keys(self, url: str, *, is_direct: bool) -> tuple[Jwk, ...]:
        keys = self._keys
        if keys and url == self._url and time.monotonic() < self._valid_until:
            return keys
        try:
            return self._fetch_keys(url, keys, is_direct=is_direct)
        except errors.ProviderError:
            if not keys or url != self._url:
                raise
            return keys  # the known keys, while the provider does not answer

    def _fetch_keys(self, url: str, seen: tuple[Jwk, ...], since: float = 0.0, *, is_direct: bool) -> tuple[Jwk, ...]:
        """Fetch the keys, unless another thread has replaced the keys that this one has *seen*.

        :param since: seconds of the monotonic clock; keys that were requested earlier are fetched again.
        :param is_direct: as in :meth:`verify`. If not, ``FETCH_INTERVAL`` has to pass between two fetches.
        """
        # With known keys, the check of a token that anyone can send waits for no other thread, because a flood of such
        # tokens would take all slots from sign-ins.
        is_fetching = self._lock.locked() and self._is_early(self._transport.timeout)
        if not is_direct and self._keys and self._url == url and (is_fetching or self._is_early(FETCH_INTERVAL)):
            return self._keys
        with self._transport.slot():  # limits the waiting threads, including those that wait for the lock
            # A timeout is needed, because a fork may have copied the lock while it was held.
            is_locked = acquire(self._lock, self._transport.timeout + 1)
            try:
                is_early = not is_direct and self._is_early(FETCH_INTERVAL)
                is_replaced = self._keys is not seen and self._loaded >= since
                if self._keys and self._url == url and (is_replaced or is_early):
                    return self._keys
                if is_early:
                    raise errors.ProviderUnavailable(f"{url}, the keys of the provider, were requested a moment ago")
                self._requested = time.monotonic()  # set before the request, because a failure also counts
                self._valid_until = self._requested + RETRY_AFTER  # stays if the request fails
                self._keys, self._url = self._request_keys(url), url
                self._loaded = self._requested
                self._valid_until = self._requested + CACHED_FOR
                return self._keys
            finally:
                if is_locked:
                    self._lock.release()

    def _is_early(self, interval: float) -> bool:
        """Return whether the keys were requested less than *interval* seconds ago."""
        return bool(self._requested) and time.monotonic() < self._requested + interval

    def _request_keys(self, url: str) -> tuple[Jwk, ...]:
        request = requests.Request("GET", url, {"Accept": "application/jwk-set+json, application/json"}).prepare()
        response = self._transport.send(request, endpoint="keys")
        if response.status_code != 200:
            text = f"{url}, the keys of the provider, answered with status {response.status_code}"
            remedy = "correct jwks_uri in the metadata of the issuer; a redirect is not followed"
            raise build_status_error(response, text + describe_error(response), remedy=remedy)
        name = f"the keys of the provider ({url})"
        keys = read_json(response, dict, name).get("keys")
        if not isinstance(keys, list):
            remedy = "let the provider sign the ID tokens of this client with a key"
            raise errors.ProviderError(f"{name} have no list `keys` (RFC 7517 5)", remedy=remedy)
        # Some providers write null or an empty text for a member that a key lacks.
        objects = (key for key in keys if isinstance(key, dict))
        return tuple({name: value for name, value in key.items() if value not in (None, "")} for key in objects)


def _is_suitable(key: Jwk, algorithm: str) -> bool:
    """Return whether *key* is meant for signatures with *algorithm* (RFC 7517 4.1 to 4.4). Members can be anything."""
    kind, curve = _KEYS[algorithm]
    operations = key.get("key_ops")
    return (
        key.get("kty") == kind
        and (curve is None or key.get("crv") == curve)
        and key.get("use", "sig") == "sig"
        # Some providers publish the operation of the private key.
        and (operations is None or (isinstance(operations, list) and ("verify" in operations or "sign" in operations)))
        # With a known curve, EdDSA and Ed25519 are the same algorithm (RFC 9864 2.2).
        and key.get("alg", algorithm) in (("EdDSA", "Ed25519") if kind == "OKP" else (algorithm,))
    )


def _encode_coordinate(text: Any, curve: str) -> str:
    """Return a coordinate in the full size of *curve* (RFC 7518 6.2.1.2). Some providers omit leading zeros."""
    number = int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")
    return urlsafe_b64encode(number.to_bytes(_COORDINATE_SIZES[curve], "big")).decode()


def _signs_for(key: Jwk, payload: bytes) -> bool:
    """Return whether *key* belongs to the issuer in *payload*. A key without ``issuer`` belongs to all."""
    # Entra ID publishes the keys of all tenants together. A key of personal accounts must not sign for an organization.
    # https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-the-issuer
    issuer = key.get("issuer")
    claims = parse_json(payload)
    iss = claims.get("iss") if isinstance(claims, dict) else None
    return issuer is None or Provider("", "", issuer=str(issuer)).is_issuer(iss)
