"""Links: how the cookie of a further site leads to a session of the main site.

Browsers send a cookie to one host only, and a stolen cookie of one site must not open another site. The session cookie
of a further site (``WSGI_OAUTH_SITES``) therefore holds a *link id*, which is derived from the session id. The store
holds the link under the hash of the link id: the session id, encrypted with a one-time pad. The pad is derived from the
link id and the site, so neither the store nor another site's cookie leads to the session id. An entry that was changed
or copied decrypts to a random id, which no session has.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

_BYTES = 32  # of a session id


def derive_link_id(session_id: str, site: str) -> str:
    """Return the value of the session cookie on *site*, from which the session id cannot be computed.

    :param site: the URL of the application on that site.
    """
    return _encode(hmac.digest(session_id.encode(), f"wsgi_oauth: link to {site}".encode(), "sha256"))


def encrypt_id(session_id: str, secret: str, purpose: str) -> bytes:
    """Return *session_id*, encrypted with a one-time pad.

    :param secret: 256 random bits that are used for one session id only.
    :param purpose: the use for which :func:`decrypt_id` returns the session id; part of the key.
    """
    return apply_pad(urlsafe_b64decode(f"{session_id}="), secret, purpose)


def decrypt_id(encrypted: bytes, secret: str, purpose: str) -> str:
    """Return the session id in *encrypted*; an unknown id if *secret* or *purpose* is wrong."""
    return _encode(apply_pad(encrypted, secret, purpose))


def apply_pad(data: bytes, secret: str, purpose: str) -> bytes:
    pad = hmac.digest(secret.encode(), f"wsgi_oauth: pad for {purpose}".encode(), "sha256")
    return bytes(a ^ b for a, b in zip(data[:_BYTES], pad, strict=False))


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
