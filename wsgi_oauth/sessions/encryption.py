"""Sealing: the store holds ciphertext, and the key is in the browser's cookie alone.

A sealed session is a label, a nonce, and the session encrypted with AES-256-GCM. The label is what operators can see
without a key; it cannot be changed unnoticed. The key is derived from the session id, and the name under which the
store keeps the session is another hash of it: neither leads to the other, nor back to the id.

Whoever takes the store, a backup of it or the whole disk, without a browser's cookie, has nothing of that session.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import NamedTuple

from .. import errors

_MAGIC = b"sealed:1"
_LABEL = Struct("!8sdd?")
_NONCE = 12  # bytes, SP 800-38D 5.2.1.1
_TAG = 16
_PURPOSE = b"wsgi_oauth: the key that seals a session"


class Label(NamedTuple):
    """What everybody can read on a sealed session; moments in seconds since the epoch."""

    started: float
    seen: float
    signed_in: bool


def is_encrypted(raw: bytes) -> bool:
    return raw.startswith(_MAGIC)


def read_label(raw: bytes) -> Label | None:
    """Return what a sealed session says on the outside, which only :meth:`Seal.open` can vouch for."""
    return Label(*_LABEL.unpack_from(raw)[1:]) if len(raw) >= _LABEL.size else None


class Encryption:
    """Encrypts sessions, each with a key of its own.

    A nonce is random, and must not come twice under one key. For that a session would have to be written more than
    2**32 times (SP 800-38D 8.3): a thousand times a second, for seven weeks, without a new sign-in.

    :raises errors.ConfigError: when the ``cryptography`` package is missing.
    """

    def __init__(self) -> None:
        try:
            from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # an extra
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
            from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415
        except ImportError:
            raise errors.ConfigError(
                "WSGI_OAUTH_SESSION_SEAL=yes needs the cryptography package: pip install 'wsgi-oauth[sealed]'"
            ) from None

        def cipher(session_id: str) -> AESGCM:
            # RFC 5869 3.1: an id, which is random and of one session only, needs no salt.
            return AESGCM(HKDF(SHA256(), 32, None, _PURPOSE).derive(session_id.encode()))

        self._cipher = cipher
        self._invalid = InvalidTag

    def close(self, session_id: str, name: str, label: Label, plain: bytes) -> bytes:
        """Seal *plain*, to be stored under *name* and nowhere else."""
        outside = _LABEL.pack(_MAGIC, *label)
        nonce = os.urandom(_NONCE)
        return outside + nonce + self._cipher(session_id).encrypt(nonce, plain, outside + name.encode())

    def open(self, session_id: str, name: str, raw: bytes) -> bytes | None:
        """Return what was sealed for *session_id* and *name*; None when anything about it is different now."""
        outside, rest = raw[: _LABEL.size], raw[_LABEL.size :]
        if len(rest) < _NONCE + _TAG:
            return None
        try:
            return self._cipher(session_id).decrypt(rest[:_NONCE], rest[_NONCE:], outside + name.encode())
        except self._invalid:
            return None
