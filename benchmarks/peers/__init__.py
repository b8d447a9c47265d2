"""The same small application with each of the peers, configured as its documentation says.

Each module has ``create(settings, folder)``, which returns a WSGI application with these paths:

- ``/page`` needs a signed-in user, and responds with a short text,
- the start of a sign-in, which is ``start`` in the module,
- ``/profile`` requests the user document with the user's token.

All of them use PKCE, because the local provider requires it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, fields

SITE = "https://localhost"


@dataclass
class Settings:
    """The client and the provider's endpoints. The applications read *profile_url* with each request."""

    client_id: str
    client_secret: str
    authorization_url: str
    token_url: str
    profile_url: str

    @classmethod
    def from_environ(cls) -> Settings:
        """Read ``PEER_CLIENT_ID`` and so on, for an application in a process of its own."""
        return cls(*(os.environ[f"PEER_{each.name.upper()}"] for each in fields(cls)))

    def to_environ(self) -> dict[str, str]:
        return {f"PEER_{each.name.upper()}": getattr(self, each.name) for each in fields(self)}


def create_code_verifier() -> tuple[str, str]:
    """Return a code verifier and its challenge (RFC 7636 4.1, 4.2), which requests-oauthlib's tutorial lacks."""
    verifier = secrets.token_urlsafe(32)
    return verifier, urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
