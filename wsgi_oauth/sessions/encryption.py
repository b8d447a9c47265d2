"""Encrypted sessions: the store holds ciphertext, and the key is derived from the browser's cookie.

An encrypted session consists of a label, a nonce, and the session under AES-256-GCM. Operators can read the label
without a key, and the encryption authenticates it. The encryption key and the store's key are two different hashes of
the session id, so neither reveals the other or the id. A stolen copy of the store is useless without a cookie.

*Links.* Browsers send a cookie to one host only, and a stolen cookie of one site must not be valid on another site. The
session cookie of a further site (``WSGI_OAUTH_SITES``) therefore contains a *link id*, which is derived from the
session id. Under the hash of the link id, the store has the *link*: the session id, encrypted with a one-time pad. The
pad is derived from the link id and the site, so neither the store nor another site's cookie reveals the session id. A
changed or copied link decrypts to a random id without a session.
"""

from __future__ import annotations

import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from struct import Struct
from typing import NamedTuple

from .. import errors

_MAGIC = b"sealed:1"
_LABEL = Struct("!8sdd?")  # magic, started, seen, signed in
_NONCE = 12  # bytes (SP 800-38D 5.2.1.1)
_TAG = 16  # bytes
_SALT = bytes(32)  # RFC 5869 3.1: a session id is random and unique, so it needs no salt.
_ID = 32  # bytes of a decoded session id
_PURPOSE = b"wsgi_oauth: the key that seals a session"


class Label(NamedTuple):
    """The unencrypted part of an encrypted session. Times are in seconds since the epoch."""

    started: float
    seen: float
    signed_in: bool


def is_encrypted(raw: bytes) -> bool:
    return raw.startswith(_MAGIC)


def read_label(raw: bytes) -> Label | None:
    """Return the label of an encrypted session, or None when it is cut off. Only decryption authenticates it."""
    return Label(*_LABEL.unpack_from(raw)[1:]) if len(raw) >= _LABEL.size else None


def derive_key(session_id: str) -> bytes:
    """Return the encryption key of a session: HKDF-SHA-256 (RFC 5869) with an output of one block."""
    pseudorandom_key = hmac.digest(_SALT, session_id.encode(), "sha256")
    return hmac.digest(pseudorandom_key, _PURPOSE + b"\x01", "sha256")


class Encryption:
    """Encrypts each session with its own key.

    A random nonce must not repeat under one key. That limits a session to 2**32 writes (SP 800-38D 8.3): a
    thousand writes per second for seven weeks, without a new sign-in.

    :raises errors.ConfigError: when the ``cryptography`` package is missing.
    """

    def __init__(self) -> None:
        try:
            from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # optional dependency
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
        except ImportError as error:  # missing, or not usable in a subinterpreter of mod_wsgi
            text = f"WSGI_OAUTH_SESSION_SEAL: yes needs the package cryptography (got {str(error)!a})"
            raise errors.ConfigError(f"{text}; pip install 'wsgi-oauth[sealed]'") from None
        self._aesgcm = AESGCM
        self._invalid = InvalidTag

    def encrypt(self, session_id: str, key: str, label: Label, plain: bytes) -> bytes:
        """Return *plain* encrypted and bound to *key*, the store's key of the session."""
        header = _LABEL.pack(_MAGIC, *label)
        nonce = os.urandom(_NONCE)
        cipher = self._aesgcm(derive_key(session_id))
        return header + nonce + cipher.encrypt(nonce, plain, header + key.encode())

    def decrypt(self, session_id: str, key: str, raw: bytes) -> bytes | None:
        """Return the plaintext of *raw*, or None when it was damaged, changed, or encrypted for another session."""
        header, rest = raw[: _LABEL.size], raw[_LABEL.size :]
        if len(rest) < _NONCE + _TAG:
            return None
        cipher = self._aesgcm(derive_key(session_id))
        try:
            return cipher.decrypt(rest[:_NONCE], rest[_NONCE:], header + key.encode())
        except self._invalid:
            return None


def derive_link_id(session_id: str, site: str) -> str:
    """Return the value of the session cookie on a further *site* (a URL). It does not reveal the session id."""
    return _encode(hmac.digest(session_id.encode(), f"wsgi_oauth: link to {site}".encode(), "sha256"))


def encrypt_id(session_id: str, secret: str, purpose: str) -> bytes:
    """Return *session_id*, encrypted with a one-time pad.

    :param secret: 256 random bits that are used for one session id only.
    :param purpose: part of the key; :func:`decrypt_id` needs the same value.
    """
    return apply_pad(urlsafe_b64decode(f"{session_id}="), secret, purpose)


def decrypt_id(encrypted: bytes, secret: str, purpose: str) -> str:
    """Return the session id in *encrypted*; an unknown id if *secret* or *purpose* is wrong."""
    return _encode(apply_pad(encrypted, secret, purpose))


def apply_pad(data: bytes, secret: str, purpose: str) -> bytes:
    """Encrypt or decrypt *data*: both are the same operation."""
    pad = hmac.digest(secret.encode(), f"wsgi_oauth: pad for {purpose}".encode(), "sha256")
    return bytes(a ^ b for a, b in zip(data[:_ID], pad, strict=False))


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
