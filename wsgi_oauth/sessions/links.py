"""Links: the session cookie of a further site refers to a session of the main site.

Browsers send a cookie to one host only, and a stolen cookie of one site must not be valid on another site. The session
cookie of a further site (``WSGI_OAUTH_SITES``) therefore contains a *link id*, which is derived from the session id.
Under the hash of the link id, the store has the *link*: the session id, encrypted with a one-time pad. The pad is
derived from the link id and the site, so neither the store nor another site's cookie reveals the session id. A changed
or copied link decrypts to a random id without a session.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

_BYTES = 32  # the length of a decoded session id


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
    return bytes(a ^ b for a, b in zip(data[:_BYTES], pad, strict=False))


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
