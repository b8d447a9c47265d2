"""What the provider remembers, and the questions oauthlib asks about it.

oauthlib knows the protocol and has no memory; :class:`Validator` is its memory and its judgement.
Everything that comes of one sign-in belongs to one :class:`Grant`, so that it can end together.
Not thread-safe: the provider asks one question at a time.
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
    """A registered client. Without a secret it is a public one (RFC 6749 2.1)."""

    client_id: str
    secret: str | None
    redirect_uris: tuple[str, ...]

    def may_redirect_to(self, uri: str) -> bool:
        """Exact comparison (RFC 9700 2.1); with nothing registered, any loopback callback."""
        return uri in self.redirect_uris if self.redirect_uris else is_loopback_callback(uri)


@dataclass
class Grant:
    """What the user allowed one client, once: the family of a code and all tokens it led to."""

    client_id: str
    redirect_uri: str
    scopes: list[str]
    code_challenge: str
    user: str = ""
    revoked: bool = False


@dataclass
class Credential:
    """A code, an access token or a refresh token: good once or for a while, never without grant."""

    grant: Grant
    expires_at: float = math.inf
    spent: bool = False

    @property
    def good(self) -> bool:
        return not (self.spent or self.grant.revoked or time.time() >= self.expires_at)


class GrantValidator(RequestValidator):
    """oauthlib's questions, in the order in which a sign-in meets them."""

    def __init__(self, client: Client, scopes: Collection[str], *, rotate: bool = True) -> None:
        self.client = client
        self.scopes = list(scopes)
        self.rotate = rotate
        self._codes: dict[str, Credential] = {}
        self._access_tokens: dict[str, Credential] = {}
        self._refresh_tokens: dict[str, Credential] = {}

    # The authorization request: who asks, for what, and where does the answer go?

    def validate_client_id(self, client_id: str, request: Request, *_: Any, **__: Any) -> bool:
        request.client = self.client
        return client_id == self.client.client_id

    def validate_redirect_uri(self, client_id: str, redirect_uri: str, request: Request, *_: Any, **__: Any) -> bool:
        return self.client.may_redirect_to(redirect_uri)

    def get_default_redirect_uri(  # type: ignore[override]  # oauthlib accepts None, its stub not
        self, client_id: str, request: Request, *_: Any, **__: Any
    ) -> str | None:
        """RFC 6749 3.1.2.3: it may be left out only where exactly one is registered."""
        registered = self.client.redirect_uris
        return registered[0] if len(registered) == 1 else None

    def validate_response_type(
        self, client_id: str, response_type: str, client: Any, request: Request, *_: Any, **__: Any
    ) -> bool:
        return response_type == "code"

    def get_default_scopes(self, client_id: str, request: Request, *_: Any, **__: Any) -> list[str]:
        return self.scopes

    def validate_scopes(
        self, client_id: str, scopes: list[str], client: Any, request: Request, *_: Any, **__: Any
    ) -> bool:
        return set(scopes) <= set(self.scopes)

    def is_pkce_required(self, client_id: str, request: Request) -> bool:
        """Always, for confidential clients too (RFC 9700 2.1.1)."""
        return True

    def save_authorization_code(self, client_id: str, code: Any, request: Request, *_: Any, **__: Any) -> None:
        grant = Grant(
            client_id,
            request.redirect_uri or "",
            request.scopes or [],
            request.code_challenge or "",
            str(request.user or ""),
        )
        self._codes[code["code"]] = Credential(grant, time.time() + CODE_LIFETIME)

    # The token request: is it this client, and is the code or refresh token good?

    def client_authentication_required(self, request: Request, *_: Any, **__: Any) -> bool:
        return self.client.secret is not None

    def authenticate_client(self, request: Request, *_: Any, **__: Any) -> bool:
        """RFC 6749 2.3.1: HTTP Basic or the body, and never both."""
        request.client = self.client
        basic = _basic_credentials(request.headers.get("Authorization"))
        if basic is None:
            given = (request.client_id or "", request.client_secret or "")
        elif request.client_secret is None:
            given = basic
        else:
            return False
        expected = (self.client.client_id, self.client.secret or "")
        return hmac.compare_digest("\0".join(given).encode(), "\0".join(expected).encode())

    def authenticate_client_id(self, client_id: str, request: Request, *_: Any, **__: Any) -> bool:
        request.client = self.client
        return self.client.secret is None and client_id == self.client.client_id

    def validate_grant_type(
        self, client_id: str, grant_type: str, client: Any, request: Request, *_: Any, **__: Any
    ) -> bool:
        return grant_type in ("authorization_code", "refresh_token")

    def validate_code(self, client_id: str, code: str, client: Any, request: Request, *_: Any, **__: Any) -> bool:
        grant = _open(self._codes.get(code), client_id)
        if grant:
            request.scopes = grant.scopes
        return grant is not None

    def get_code_challenge(self, code: str, request: Request) -> str:
        return self._codes[code].grant.code_challenge

    def get_code_challenge_method(self, code: str, request: Request) -> str:
        return "S256"

    def confirm_redirect_uri(
        self,
        client_id: str,
        code: str,
        redirect_uri: str,
        client: Any,
        request: Request,
        *_: Any,
        **__: Any,
    ) -> bool:
        """The same as in the authorization request, to the byte (RFC 6749 4.1.3)."""
        if redirect_uri != self._codes[code].grant.redirect_uri:
            # oauthlib would say invalid_request; RFC 6749 5.2 says otherwise.
            raise errors.InvalidGrantError(request=request)
        return True

    def invalidate_authorization_code(self, client_id: str, code: str, request: Request, *_: Any, **__: Any) -> None:
        self._codes[code].spent = True

    def validate_refresh_token(self, refresh_token: str, client: Any, request: Request, *_: Any, **__: Any) -> bool:
        return _open(self._refresh_tokens.get(refresh_token), client.client_id) is not None

    def get_original_scopes(self, refresh_token: str, request: Request, *_: Any, **__: Any) -> list[str]:
        return self._refresh_tokens[refresh_token].grant.scopes

    def rotate_refresh_token(self, request: Request) -> bool:
        return self.rotate

    def save_bearer_token(self, token: Any, request: Request, *_: Any, **__: Any) -> None:
        if request.grant_type == "refresh_token":
            used = self._refresh_tokens[request.refresh_token or ""]
            used.spent = self.rotate
        else:
            used = self._codes[request.code or ""]
        expires_at = time.time() + token["expires_in"]
        self._access_tokens[token["access_token"]] = Credential(used.grant, expires_at)
        if "refresh_token" in token:
            self._refresh_tokens.setdefault(token["refresh_token"], Credential(used.grant))

    # Afterwards: the profile, and the end.

    def validate_bearer_token(self, token: str, scopes: list[str], request: Request) -> bool:
        credential = self._access_tokens.get(token)
        request.user = credential.grant.user if credential else None
        return credential is not None and credential.good

    def revoke_token(self, token: str, token_type_hint: str, request: Request, *_: Any, **__: Any) -> None:
        """RFC 7009 2.1: a refresh token takes the access tokens of its grant with it."""
        refresh, access = self._refresh_tokens.get(token), self._access_tokens.get(token)
        if refresh:
            refresh.grant.revoked = True
        if access:
            access.spent = True


def _open(credential: Credential | None, client_id: str) -> Grant | None:
    """The grant behind a code or refresh token, when it is good and this client's.

    One that comes a second time was stolen, now or the first time, and nobody can tell which: all
    its family ends (RFC 6749 4.1.2 for codes, RFC 9700 4.14.2 for refresh tokens).
    """
    if credential is None or credential.grant.client_id != client_id:
        return None
    if credential.spent:
        credential.grant.revoked = True
    return credential.grant if credential.good else None


def _basic_credentials(header: str | None) -> tuple[str, str] | None:
    """Id and secret of an HTTP Basic header, each form-decoded (RFC 6749 2.3.1)."""
    scheme, _, value = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = b64decode(value, validate=True).decode("ascii").partition(":")
    except ValueError:
        return ("", "")
    return unquote_plus(client_id), unquote_plus(secret)


def is_loopback_callback(uri: str) -> bool:
    """Whether a redirect URI leads to ``.../callback`` or ``.../callback/<label>`` on this machine (RFC 8252 7.3)."""
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
    is_callback = re.search(r"/callback(/[a-z0-9_]+)?\Z", parts.path) is not None
    return loopback and parts.scheme in ("http", "https") and is_callback and "#" not in uri


def require_s256(request: Request) -> dict[str, object]:
    """An authorization request's challenge is a SHA-256 (RFC 7636 4.2), never the plain verifier.

    oauthlib takes ``plain`` as well, and as the default.
    """
    if request.code_challenge and request.code_challenge_method != "S256":
        raise errors.UnsupportedCodeChallengeMethodError(request=request)
    if request.code_challenge and not re.fullmatch(r"[\w-]{43}", request.code_challenge, re.ASCII):
        raise errors.InvalidRequestError("code_challenge is not a SHA-256.", request=request)
    return {}


def require_long_verifier(request: Request) -> None:
    """A code verifier has 43 to 128 characters (RFC 7636 4.1)."""
    verifier = request.code_verifier
    if verifier and not re.fullmatch(r"[\w.~-]{43,128}", verifier, re.ASCII):
        raise errors.InvalidRequestError("code_verifier is malformed.", request=request)
