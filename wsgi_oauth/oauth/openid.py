"""OpenID Connect: where an issuer's endpoints are, and what its ID token must say.

Discovery 1.0 makes an issuer's URL all that anybody has to know of a provider; Core 1.0 adds a signed statement about
who signed in to the answer of the token endpoint.
"""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from copy import copy
from math import nan
from typing import Any

from .. import errors, urls
from ..transport.transport import Transport, parse_json, read_json
from .provider import Provider

KEPT = 3600.0  # seconds after which the document is read again
RETRY = 60.0  # seconds until the next try, while there is an older one
PAUSE = 5.0  # seconds for which a failure is remembered: not every request has to wait for the same
CLOCK_SKEW = 300.0  # seconds that the provider's clock may differ from ours

_WELL_KNOWN = "/.well-known/openid-configuration"
ENDPOINTS = {
    "authorization_url": "authorization_endpoint",
    "token_url": "token_endpoint",
    "profile_url": "userinfo_endpoint",
    "revocation_url": "revocation_endpoint",  # RFC 8414 2
    "end_session_url": "end_session_endpoint",  # RP-Initiated Logout 2.1
}
CLIENT_AUTH = {"client_secret_basic": "basic", "client_secret_post": "post", "none": "none"}  # Core 9
_SCOPES = ("openid", "profile", "email", "offline_access")  # Core 5.4, 11
# RFC 7515 3.1: header, payload and signature; the last is empty where there is none.
_JWT = re.compile(r"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*", re.ASCII)


class Discovery:
    """What an issuer says of itself (Discovery 4), read when it is first needed and every hour after that.

    What is configured wins over what is discovered. While the issuer cannot be asked, what it said last holds.
    """

    def __init__(self, described: Provider, transport: Transport, *, has_secret: bool) -> None:
        self._described = described
        self._transport = transport
        self._has_secret = has_secret
        # Plain attributes and no lock, which a fork could copy in its locked state: two threads may both read it.
        self._provider: Provider | None = None
        self._due = 0.0
        self._failure: errors.ProviderError | None = None

    @property
    def url(self) -> str:
        """The document's address: the issuer, without a slash at its end, and a fixed path (Discovery 4)."""
        return f"{(self._described.issuer or '').rstrip('/')}{_WELL_KNOWN}"

    def provider(self) -> Provider:
        """Return the provider with all its endpoints.

        :raises errors.ProviderError: when they cannot be had.
        """
        if time.monotonic() < self._due:
            if self._provider is None and self._failure is not None:
                raise copy(self._failure)  # each with a traceback of its own
            if self._provider is not None:
                return self._provider
        self._due = time.monotonic() + RETRY if self._provider else 0.0  # one asks; the others go on with the old one
        try:
            self._provider = self._read()
        except errors.ProviderError as error:
            if self._provider is not None:
                return self._provider
            if not isinstance(error, errors.ProviderBusy):  # then it was not asked, and there is nothing to remember
                self._failure, self._due = copy(error), time.monotonic() + PAUSE
            raise
        self._due = time.monotonic() + KEPT
        return self._provider

    def read(self) -> Mapping[str, Any]:
        """Return the document as it is now.

        :raises errors.ProviderError: when there is none, or one of another issuer.
        """
        response = self._transport.adapter.fetch("GET", self.url, {"Accept": "application/json"})
        if response.status_code != 200:
            raise errors.ProviderError(f"{self.url} answered with status {response.status_code}")
        document: dict[str, Any] = read_json(response, dict, "discovery")
        said, configured = document.get("issuer"), self._described.issuer
        if said != configured:  # Discovery 4.3: exactly, a slash at the end counts
            raise errors.ProviderError(
                f"{self.url} describes the issuer {_short(said)}, and {configured!a} is configured"
            )
        return document

    def _read(self) -> Provider:
        document, described = self.read(), self._described
        found: dict[str, Any] = {
            name: _endpoint(document, member)
            for name, member in ENDPOINTS.items()
            if document.get(member) and not getattr(described, name)  # null is as good as nothing
        }
        sends_issuer = document.get("authorization_response_iss_parameter_supported") is True  # RFC 9207 3
        provider = described._replace(
            **found,
            client_auth=described.client_auth or self._client_auth(document),
            scope=described.scope or _scope(document),
            always_sends_issuer=described.always_sends_issuer or sends_issuer,
        )
        # Without a UserInfo endpoint (Discovery 3) the ID token says who signed in.
        needed = ["authorization_url", "token_url", *([] if provider.asks_for_id_token else ["profile_url"])]
        missing = [ENDPOINTS[name] for name in needed if not getattr(provider, name)]
        if missing:
            raise errors.ProviderError(f"{self.url} has no {', '.join(missing)}")
        return _asking_for_consent(provider) if _takes_consent(provider, document) else provider

    def _client_auth(self, document: Mapping[str, Any]) -> str:
        """Return the first way that both sides know; what is not said means HTTP Basic (Discovery 3)."""
        if not self._has_secret:
            return "none"
        offered = document.get("token_endpoint_auth_methods_supported")
        if not isinstance(offered, list):
            return "basic"
        ours = [name for method, name in CLIENT_AUTH.items() if method in offered and name != "none"]
        if not ours:
            raise errors.ProviderError(f"{self.url} offers only {_short(offered)} to authenticate clients")
        return ours[0]


def _short(said: object) -> str:
    """What a document says, for a line of the log."""
    return ascii(said)[:200]


def _endpoint(document: Mapping[str, Any], member: str) -> str:
    url = str(document[member])
    try:
        # Plain http is for this machine alone, and so for an issuer on it: another's would have us ask around here.
        if urls.checked(url).scheme == "http" and str(document["issuer"]).startswith("https:"):
            raise ValueError("must begin with https://, as the issuer does")
    except ValueError as reason:
        raise errors.ProviderError(f"the issuer's {member} {reason}") from None
    return url


def _scope(document: Mapping[str, Any]) -> str:
    """Return what to ask for: who it is, and a refresh token where the issuer has a scope for that (Core 11)."""
    offered = document.get("scopes_supported")
    if not isinstance(offered, list):
        return " ".join(_SCOPES[:3])
    return " ".join(scope for scope in _SCOPES if scope in offered or scope == "openid")


def _takes_consent(provider: Provider, document: Mapping[str, Any]) -> bool:
    """Say whether the user's consent has to be asked for, or the issuer must ignore `offline_access` (Core 11)."""
    if not (provider.offline_access_takes_consent and "offline_access" in provider.scope.split()):
        return False
    known = document.get("prompt_values_supported")  # Initiating User Registration 1.0, 4
    return not isinstance(known, list) or "consent" in known


def _asking_for_consent(provider: Provider) -> Provider:
    choose = " ".join([*dict(provider.choose_account).values(), "consent"])
    return provider._replace(authorization_parameters=(("prompt", "consent"),), choose_account=(("prompt", choose),))


def check_id_token(id_token: str, provider: Provider, client_id: str, *, nonce: str | None) -> dict[str, Any]:
    """Return what an ID token claims, checked after Core 3.1.3.7.

    Its signature is not looked at: it comes from the token endpoint itself, over TLS (item 6 there).

    :param nonce: what the authorization request had; None for a token that a refresh brought (Core 12.2).
    :raises errors.IdTokenRefused: when it is none, or somebody else's, or too old.
    """
    claims = read_id_token(id_token)
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    authorized = claims.get("azp", client_id if len(audiences) == 1 else None)
    now = time.time()
    faults = {
        "iss": claims.get("iss") != provider.issuer,
        "aud": client_id not in audiences,
        "azp": authorized != client_id,
        "exp": not now - CLOCK_SKEW < _moment(claims, "exp"),
        "iat": not _moment(claims, "iat") < now + CLOCK_SKEW,
        "nonce": nonce is not None and claims.get("nonce") != nonce,
        "sub": not (isinstance(claims.get("sub"), str) and claims["sub"]),
    }
    wrong = [claim for claim, fault in faults.items() if fault]
    if wrong:
        raise errors.IdTokenRefused(f"the ID token is refused for its {', '.join(wrong)} (OpenID Connect Core 3.1.3.7)")
    return claims


def check_refreshed_id_token(id_token: str, before: str, provider: Provider, client_id: str) -> None:
    """See that the ID token that a refresh brought is about the same user and sign-in as the one *before* (Core 12.2).

    :raises errors.IdTokenRefused: when it is not, or is none.
    """
    claims = check_id_token(id_token, provider, client_id, nonce=None)
    first = read_id_token(before)
    if claims["sub"] != first.get("sub") or claims.get("nonce", first.get("nonce")) != first.get("nonce"):
        raise errors.IdTokenRefused("the refreshed ID token is about somebody else or another sign-in (Core 12.2)")


def read_id_token(id_token: str) -> dict[str, Any]:
    """Return the claims of a signed ID token, unchecked.

    :raises errors.IdTokenRefused: when it is not of that form.
    """
    if not id_token:
        raise errors.IdTokenRefused("the token endpoint gave no ID token, and the scope `openid` asks for one")
    jwt = _JWT.fullmatch(id_token)
    try:
        claims = parse_json(urlsafe_b64decode(jwt[1] + "=" * (-len(jwt[1]) % 4))) if jwt else None
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise errors.IdTokenRefused("the ID token is not a signed JSON Web Token with claims in it (RFC 7519 3)")
    return claims


def check_userinfo(document: Mapping[str, Any], id_token: str) -> None:
    """See that both speak of the same user (Core 5.3.2): or a token that was swapped would sign somebody else in.

    :raises errors.IdTokenRefused: when they do not.
    """
    if document.get("sub") != read_id_token(id_token).get("sub"):
        raise errors.IdTokenRefused("the user document and the ID token have different subjects (Core 5.3.2)")


def _moment(claims: Mapping[str, Any], name: str) -> float:
    """Return a time in seconds since the epoch; what is none compares as false with everything."""
    value = claims.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else nan
