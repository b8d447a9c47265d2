"""The provider's grants, authorization codes and tokens, kept in memory.

oauthlib implements the protocol, and leaves storage and decisions to a request validator:
:class:`GrantValidator`. All codes and tokens of one sign-in belong to one :class:`Grant`,
so that they can be revoked together. The classes are not thread-safe; the provider holds a lock.
"""

from __future__ import annotations

import hmac
import ipaddress
import math
import re
import time
from base64 import b64decode
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from oauthlib.common import Request
from oauthlib.oauth2 import RequestValidator
from oauthlib.oauth2.rfc6749 import errors

CODE_LIFETIME = 60.0  # seconds; RFC 6749 4.1.2 recommends at most ten minutes


@dataclass(frozen=True)
class Client:
    """A registered client. A client without a secret is a public client (RFC 6749 2.1)."""

    client_id: str
    secret: str | None
    redirect_uris: tuple[str, ...]

    def accepts_redirect_uri(self, uri: str) -> bool:
        """Return whether *uri* is registered, by exact comparison (RFC 9700 2.1).

        Without any registered URI, every callback URL on this machine is accepted.
        """
        return uri in self.redirect_uris if self.redirect_uris else is_loopback_callback(uri)


@dataclass
class Grant:
    """The user's authorization of a client: one sign-in, with its code and all tokens that follow from it."""

    client_id: str
    redirect_uri: str
    scopes: list[str]
    code_challenge: str
    user: str = ""
    nonce: str | None = None  # the nonce for the ID token of the sign-in (OpenID Connect Core 3.1.2.1)
    signed_in_at: float = 0.0  # when the user signed in at the provider
    fault: str = ""  # the name of a fault for this sign-in
    revoked: bool = False


@dataclass
class Credential:
    """An authorization code, an access token or a refresh token."""

    grant: Grant
    expires_at: float = math.inf
    used: bool = False  # for an access token: whether it was revoked

    @property
    def is_valid(self) -> bool:
        """Whether it is unused, not expired, and its grant is not revoked."""
        return not (self.used or self.grant.revoked or time.time() >= self.expires_at)


class GrantValidator(RequestValidator):
    """The request validator for oauthlib. Its methods follow the order of a sign-in."""

    def __init__(
        self,
        client: Client,
        scopes: Collection[str],
        *,
        default_scopes: Collection[str],
        require_pkce: bool = True,
    ) -> None:
        self.client = client
        self.scopes = list(scopes)
        self.default_scopes = list(default_scopes)
        self.require_pkce = require_pkce
        self._codes: dict[str, Credential] = {}
        self._access_tokens: dict[str, Credential] = {}
        self._refresh_tokens: dict[str, Credential] = {}

    # The authorization request.

    def validate_client_id(self, client_id: str, request: Request, *_: Any, **__: Any) -> bool:
        request.client = self.client
        return client_id == self.client.client_id

    def validate_redirect_uri(self, client_id: str, redirect_uri: str, *_: Any, **__: Any) -> bool:
        return self.client.accepts_redirect_uri(redirect_uri)

    def get_default_redirect_uri(  # type: ignore[override]  # oauthlib accepts None, its stub not
        self, *_: Any, **__: Any
    ) -> str | None:
        """Return the registered redirect URI if there is exactly one, otherwise None (RFC 6749 3.1.2.3)."""
        registered = self.client.redirect_uris
        return registered[0] if len(registered) == 1 else None

    def validate_response_type(self, client_id: str, response_type: str, *_: Any, **__: Any) -> bool:
        return response_type == "code"

    def get_default_scopes(self, *_: Any, **__: Any) -> list[str]:
        return self.default_scopes

    def validate_scopes(self, client_id: str, scopes: list[str], *_: Any, **__: Any) -> bool:
        return set(scopes) <= set(self.scopes)

    def is_pkce_required(self, *_: Any) -> bool:
        """Return whether an authorization request needs a code challenge, also from confidential clients."""
        return self.require_pkce

    def save_authorization_code(self, client_id: str, code: Any, request: Request, *_: Any, **__: Any) -> None:
        grant = Grant(
            client_id,
            request.redirect_uri or "",
            request.scopes or [],
            request.code_challenge or "",
            str(request.user or ""),
            request.nonce,
            float(request.signed_in_at or 0),
            request.fault or "",
        )
        self._codes[code["code"]] = Credential(grant, time.time() + CODE_LIFETIME)

    # The token request.

    def client_authentication_required(self, *_: Any, **__: Any) -> bool:
        return self.client.secret is not None

    def authenticate_client(self, request: Request, *_: Any, **__: Any) -> bool:
        """Return whether id and secret are correct, in HTTP Basic or in the body, but not in both (RFC 6749 2.3.1)."""
        request.client = self.client
        basic = _basic_credentials(request.headers.get("Authorization"))
        if basic is None:
            credentials = (request.client_id or "", request.client_secret or "")
        elif request.client_secret is None:
            credentials = basic
        else:
            return False
        expected = (self.client.client_id, self.client.secret or "")
        return hmac.compare_digest("\0".join(credentials).encode(), "\0".join(expected).encode())

    def authenticate_client_id(self, client_id: str, request: Request, *_: Any, **__: Any) -> bool:
        request.client = self.client
        return self.client.secret is None and client_id == self.client.client_id

    def validate_grant_type(self, client_id: str, grant_type: str, *_: Any, **__: Any) -> bool:
        return grant_type in ("authorization_code", "refresh_token")

    def validate_code(self, client_id: str, code: str, client: Any, request: Request, *_: Any, **__: Any) -> bool:
        grant = _valid_grant(self._codes.get(code), client_id)
        if grant:
            request.scopes = grant.scopes
        return grant is not None

    def get_code_challenge(  # type: ignore[override]  # oauthlib accepts None, its stub not
        self, code: str, request: Request
    ) -> str | None:
        """Return the code challenge of the authorization request. Without one (None), any code verifier is accepted."""
        return self._codes[code].grant.code_challenge or None

    def get_code_challenge_method(self, *_: Any) -> str:
        return "S256"

    def confirm_redirect_uri(
        self, client_id: str, code: str, redirect_uri: str, client: Any, request: Request, *_: Any, **__: Any
    ) -> bool:
        """Check that the redirect URI is identical to that of the authorization request (RFC 6749 4.1.3)."""
        if redirect_uri != self._codes[code].grant.redirect_uri:
            # If this returned False, oauthlib would answer invalid_request; RFC 6749 5.2 requires invalid_grant.
            raise errors.InvalidGrantError(request=request)
        return True

    def invalidate_authorization_code(self, client_id: str, code: str, *_: Any, **__: Any) -> None:
        self._codes[code].used = True

    def validate_refresh_token(self, refresh_token: str, client: Any, *_: Any, **__: Any) -> bool:
        return _valid_grant(self._refresh_tokens.get(refresh_token), client.client_id) is not None

    def get_original_scopes(self, refresh_token: str, *_: Any, **__: Any) -> list[str]:
        return self._refresh_tokens[refresh_token].grant.scopes

    def save_bearer_token(self, token: Any, request: Request, *_: Any, **__: Any) -> None:
        if request.grant_type == "refresh_token":
            credential = self._refresh_tokens[request.refresh_token or ""]
            credential.used = True
        else:
            credential = self._codes[request.code or ""]
        expires_at = time.time() + token["expires_in"]
        self._access_tokens[token["access_token"]] = Credential(credential.grant, expires_at)
        if "refresh_token" in token:
            self._refresh_tokens[token["refresh_token"]] = Credential(credential.grant)

    # The profile request and the revocation request.

    def find_grant_of(self, credential: str) -> Grant | None:
        """Return the grant of a code or token, valid or not; None for every other text."""
        for table in (self._codes, self._refresh_tokens, self._access_tokens):
            if credential in table:
                return table[credential].grant
        return None

    def find_grant(self, access_token: str) -> Grant | None:
        """Return the grant of a valid access token; None for every other text."""
        credential = self._access_tokens.get(access_token)
        return credential.grant if credential is not None and credential.is_valid else None

    def expire_access_tokens(self) -> None:
        """Let all access tokens expire now."""
        for credential in self._access_tokens.values():
            credential.expires_at = min(credential.expires_at, time.time())

    def revoke_token(self, token: str, *_: Any, **__: Any) -> None:
        """Revoke a token; with a refresh token, the whole grant (RFC 7009 2.1)."""
        refresh, access = self._refresh_tokens.get(token), self._access_tokens.get(token)
        if refresh:
            refresh.grant.revoked = True
        if access:
            access.used = True


def _valid_grant(credential: Credential | None, client_id: str) -> Grant | None:
    """Return the grant of a code or refresh token, or None when the credential is invalid for this client.

    A second use revokes the whole grant, because one of the two can be an attacker's
    (RFC 6749 4.1.2 for codes, RFC 9700 4.14.2 for refresh tokens).
    """
    if credential is None or credential.grant.client_id != client_id:
        return None
    if credential.used:
        credential.grant.revoked = True
    return credential.grant if credential.is_valid else None


def _basic_credentials(header: str | None) -> tuple[str, str] | None:
    """Return id and secret from an HTTP Basic header, form-decoded (RFC 6749 2.3.1); None without such a header."""
    scheme, _, value = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = b64decode(value, validate=True).decode("ascii").partition(":")
    except ValueError:
        return ("", "")
    return unquote_plus(client_id), unquote_plus(secret)


def is_loopback_callback(uri: str) -> bool:
    """Return whether *uri* is ``.../callback`` or ``.../callback/<label>`` on this machine (RFC 8252 7.3)."""
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
    is_callback = re.search(r"/callback(/[a-z0-9_]+)?\Z", parts.path) is not None
    # Browsers and servers do not agree on a backslash, nor on everything that can stand before "@".
    is_plain = not re.search(r"[#@\\\x00-\x20]", uri)
    return loopback and parts.scheme in ("http", "https") and is_callback and is_plain


def check_code_challenge(request: Request) -> dict[str, object]:
    """Check that the code challenge of an authorization request is a SHA-256 hash (RFC 7636 4.2).

    oauthlib would also accept the method ``plain``, and use it by default.
    """
    if request.code_challenge and request.code_challenge_method != "S256":
        raise errors.UnsupportedCodeChallengeMethodError(request=request)
    if request.code_challenge and not re.fullmatch(r"[\w-]{43}", request.code_challenge, re.ASCII):
        raise errors.InvalidRequestError("code_challenge is not a SHA-256 hash.", request=request)
    return {}


def check_code_verifier(request: Request) -> None:
    """Check that the code verifier of a token request has 43 to 128 allowed characters (RFC 7636 4.1)."""
    verifier = request.code_verifier
    if verifier and not re.fullmatch(r"[\w.~-]{43,128}", verifier, re.ASCII):
        raise errors.InvalidRequestError("code_verifier is malformed.", request=request)
