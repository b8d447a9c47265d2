"""Discovery of an issuer's endpoints (OpenID Connect Discovery 1.0)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from copy import copy
from typing import Any

import requests

from .. import errors, urls
from ..transport.json import read_json
from ..transport.pool import Transport
from .provider import Provider

CACHED_FOR = 3600.0  # seconds after which the discovery document is fetched again
RETRY_AFTER = 60.0  # seconds until the next attempt, while an older document is there
FAILURE_CACHED_FOR = 5.0  # seconds: otherwise each request would wait for an issuer that does not answer

ENDPOINTS = {
    "authorization_url": "authorization_endpoint",
    "token_url": "token_endpoint",
    "profile_url": "userinfo_endpoint",
    "revocation_url": "revocation_endpoint",  # RFC 8414 2
    "end_session_url": "end_session_endpoint",  # RP-Initiated Logout 2.1
}
CLIENT_AUTH = {"client_secret_basic": "basic", "client_secret_post": "post", "none": "none"}  # Core 9


class Discovery:
    """An issuer's discovery document (Discovery 4), fetched when it is first needed and then every hour.

    Configured endpoints take precedence over discovered ones. While the issuer cannot be reached, the last document
    stays in use.

    :param configured: the provider, which may lack endpoints.
    :param has_secret: whether this application has a client secret.
    """

    def __init__(self, configured: Provider, transport: Transport, *, has_secret: bool) -> None:
        self._configured = configured
        self._transport = transport
        self._has_secret = has_secret
        # The path is appended to the issuer without a slash at its end (Discovery 4).
        self._url = f"{(configured.issuer or '').rstrip('/')}/.well-known/openid-configuration"
        # Without a lock, because a fork could copy it in its locked state. Two threads may both fetch the document.
        self._provider: Provider | None = None
        self._failure: errors.ProviderError | None = None
        self._valid_until = 0.0

    def provider(self) -> Provider:
        """Return the provider with all its endpoints, from the cache or the issuer.

        :raises errors.ProviderError: when the document cannot be fetched, or is invalid.
        """
        known, failure = self._provider, self._failure
        if time.monotonic() < self._valid_until:
            if known is not None:
                return known
            if failure is not None:
                raise copy(failure)  # a copy, because each exception has its own traceback
        if known is not None:
            self._valid_until = time.monotonic() + RETRY_AFTER  # meanwhile other threads use the known document
        try:
            self._provider = provider = self._complete(self.fetch_document())
        except errors.ProviderError as error:
            if self._provider is not None:
                return self._provider
            if not isinstance(error, errors.ProviderBusy):  # then the issuer was not even asked
                self._failure = copy(error)
                self._valid_until = time.monotonic() + FAILURE_CACHED_FOR
            raise
        self._valid_until = time.monotonic() + CACHED_FOR
        return provider

    def fetch_document(self) -> dict[str, Any]:
        """Fetch the discovery document.

        :raises errors.ProviderError: when it is missing, or belongs to another issuer.
        """
        response = self._transport.send(requests.Request("GET", self._url, {"Accept": "application/json"}).prepare())
        if response.status_code != 200:
            raise errors.ProviderError(f"{self._url} answered with status {response.status_code}")
        document: dict[str, Any] = read_json(response, dict, "discovery document")
        issuer, configured = ascii(document.get("issuer"))[:200], self._configured.issuer
        if document.get("issuer") != configured:  # Discovery 4.3: exactly, including a trailing slash
            raise errors.ProviderError(f"{self._url} describes the issuer {issuer}, and {configured!a} is configured")
        return document

    def _complete(self, document: Mapping[str, Any]) -> Provider:
        """Return the configured provider with the missing endpoints and settings from the document."""
        configured = self._configured
        discovered = {
            name: _read_endpoint(document, member)
            for name, member in ENDPOINTS.items()
            if document.get(member) and not getattr(configured, name)
        }
        scopes = document.get("scopes_supported")
        if not isinstance(scopes, list):
            scopes = ["profile", "email"]
        sends_issuer = document.get("authorization_response_iss_parameter_supported") is True  # RFC 9207 3
        provider = configured._replace(
            **discovered,  # type: ignore[arg-type]
            client_auth=configured.client_auth or self._choose_client_auth(document),
            # The user's identity and, if the issuer has that scope, a refresh token (Core 5.4, 11).
            scope=configured.scope
            or " ".join(["openid", *(each for each in ("profile", "email", "offline_access") if each in scopes)]),
            always_sends_issuer=configured.always_sends_issuer or sends_issuer,
        )
        # Without a UserInfo endpoint (Discovery 3) the ID token says who signed in.
        required = ["authorization_url", "token_url", *([] if provider.asks_for_id_token else ["profile_url"])]
        missing = [ENDPOINTS[name] for name in required if not getattr(provider, name)]
        if missing:
            raise errors.ProviderError(f"{self._url} has no {', '.join(missing)}")
        prompts = document.get("prompt_values_supported")  # Initiating User Registration 1.0, 4
        supports_consent = not isinstance(prompts, list) or "consent" in prompts
        if provider.offline_access_takes_consent and "offline_access" in provider.scope.split() and supports_consent:
            # Otherwise the issuer ignores the scope (Core 11).
            choose = " ".join([*dict(provider.choose_account).values(), "consent"])
            return provider._replace(
                authorization_parameters=(("prompt", "consent"),), choose_account=(("prompt", choose),)
            )
        return provider

    def _choose_client_auth(self, document: Mapping[str, Any]) -> str:
        """Return the first method that both sides support; HTTP Basic is the default (Discovery 3)."""
        offered = document.get("token_endpoint_auth_methods_supported")
        if not self._has_secret:
            return "none"
        if not isinstance(offered, list) or "client_secret_basic" in offered:
            return "basic"
        if "client_secret_post" in offered:
            return "post"
        raise errors.ProviderError(f"{self._url} offers only {ascii(offered)[:200]} to authenticate clients")


def _read_endpoint(document: Mapping[str, Any], member: str) -> str:
    url = str(document[member])
    try:
        # Plain http is allowed for an issuer on this machine only: a remote issuer could otherwise have this
        # application send requests to services of this machine.
        if urls.checked(url).scheme == "http" and str(document["issuer"]).startswith("https:"):
            raise ValueError("must begin with https://, as the issuer does")
    except ValueError as reason:
        raise errors.ProviderError(f"the issuer's {member} {reason}") from None
    return url
