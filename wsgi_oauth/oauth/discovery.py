"""Discovery of an issuer's endpoints (OpenID Connect Discovery 1.0, RFC 8414)."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from copy import copy
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import requests

from .. import errors, urls
from ..config import ProviderConfig
from ..config.checks import mask_password
from ..config.provider import TENANT, Provider
from ..transport.error_description import build_status_error, describe_error
from ..transport.json import read_json
from ..transport.pool import Transport

_log = logging.getLogger(__name__)

CACHED_FOR = 3600.0  # seconds after which the metadata are fetched again
RETRY_AFTER = 60.0  # seconds until the next attempt, while an older document is in use
FAILURE_CACHED_FOR = 5.0  # seconds: otherwise each request would wait for an issuer that does not answer

ENDPOINTS = {
    "authorization_url": "authorization_endpoint",
    "token_url": "token_endpoint",
    "profile_url": "userinfo_endpoint",
    "revocation_url": "revocation_endpoint",  # RFC 8414 2
    "end_session_url": "end_session_endpoint",  # RP-Initiated Logout 2.1
    "jwks_url": "jwks_uri",
    "pushed_authorization_url": "pushed_authorization_request_endpoint",  # RFC 9126 5
}
CLIENT_AUTH = {  # Core 9
    "client_secret_basic": "basic",
    "client_secret_post": "post",
    "none": "none",
    "private_key_jwt": "private_key_jwt",
}


class OtherIssuer(errors.ProviderError):
    """The metadata name another issuer than the configured one."""


class Metadata(NamedTuple):
    """An issuer's metadata: its discovery document (Discovery 3) or its OAuth 2 metadata (RFC 8414 2)."""

    url: str = ""
    document: Mapping[str, Any] = {}
    is_openid: bool = True  # OAuth 2 metadata may describe a server without ID tokens


class Discovery:
    """An issuer's metadata, fetched when they are first needed and then every hour.

    Configured endpoints take precedence over discovered ones. If none is missing, nothing is fetched. While the issuer
    cannot be reached, the last metadata stay in use.
    """

    def __init__(
        self, configured: Provider, config: ProviderConfig, transport: Transport, *, needs_keys: bool = False
    ) -> None:
        self._needs_keys = needs_keys  # whether signatures are verified, for which metadata must name the keys
        self._configured = configured
        self._config = config
        self._transport = transport
        # The path is appended to the issuer without a slash at its end (Discovery 4).
        self._url = config.discovery_url or f"{(configured.issuer or '').rstrip('/')}/.well-known/openid-configuration"
        if not self.is_needed:
            _log.info("the metadata of %s are not fetched, because all endpoints are known", configured.issuer)
        # There is no lock, because a fork could copy it while it is held. Two threads may both fetch the document.
        self._provider: Provider | None = None
        self._failure: errors.ProviderError | None = None
        self._valid_until = 0.0

    @property
    def is_needed(self) -> bool:
        """Whether this application uses an endpoint that is neither configured nor part of a preset."""
        known = self._configured
        needs_end_session = self._config.end_session == "yes" and not known.end_session_url
        needs_pushed_requests = self._config.pushed_requests and not known.pushed_authorization_url
        has_others = known.authorization_url and known.token_url and known.profile_url
        return bool(needs_end_session or needs_pushed_requests or not has_others)

    def provider(self) -> Provider:
        """Return the provider with its endpoints, from the cache or the issuer. Raise ProviderError if both fail."""
        if not self.is_needed:
            return self._complete(Metadata())
        known, failure = self._provider, self._failure
        if time.monotonic() < self._valid_until:
            if known is not None:
                return known
            if failure is not None:
                raise copy(failure)  # a copy, because each exception has its own traceback
        if known is not None:
            self._valid_until = time.monotonic() + RETRY_AFTER  # meanwhile other threads use the known document
        try:
            self._provider = provider = self._complete(self.fetch_metadata())
        except errors.ProviderError as error:
            if self._provider is not None:
                return self._provider
            if not isinstance(error, errors.ProviderBusy):  # with ProviderBusy, no request was sent
                self._failure = copy(error)
                self._valid_until = time.monotonic() + FAILURE_CACHED_FOR
            raise
        self._valid_until = time.monotonic() + CACHED_FOR
        return provider

    def fetch_metadata(self) -> Metadata:
        """Fetch the discovery document, or the OAuth 2 metadata (RFC 8414 3) of an issuer without one.

        Redirects are followed within the origin only, because the metadata decide where the client secret is sent.
        """
        response, is_openid = self._get(self._url), True
        if response.status_code == 404 and not self._config.discovery_url:
            # The well-known path is inserted before the issuer's path (RFC 8414 3.1).
            parts = urlsplit(self._configured.issuer or "")
            path = f"/.well-known/oauth-authorization-server{parts.path.rstrip('/')}"
            oauth_response = self._get(parts._replace(path=path).geturl())
            if oauth_response.status_code == 200:
                response, is_openid = oauth_response, False
        setting = self._config.variable("discovery_url")
        if response.is_redirect:
            target = urls.Origin.of(urljoin(response.url, response.headers["Location"]))
            text = f"{response.url} redirects to another origin, which is not followed "
            text += f"(got {target.scheme}://{target.host[:200]})"
            raise errors.ProviderError(text, remedy=f"set {setting} to the URL of the metadata if that is right")
        if response.status_code != 200:
            message = f"{response.url} answered with status {response.status_code}{describe_error(response)}"
            remedy = f"set {setting} if the metadata are at another URL, or correct the realm or tenant in the issuer"
            raise build_status_error(response, message, remedy=remedy)
        remedy = f"set {setting} if they are at another URL than {response.url}"
        document: dict[str, Any] = read_json(response, dict, "metadata", remedy=remedy)
        issuer, configured = ascii(document.get("issuer"))[:200], self._configured.issuer
        # Compared exactly, including a trailing slash (Discovery 4.3).
        if document.get("issuer") not in ((configured, issuer_of_tenants(configured)) if configured else ()):
            problem = f"{response.url} describes the issuer {issuer}, and {configured!a} is configured"
            variable = self._config.variable("issuer" if self._config.issuer else "provider")
            remedy = f"set {variable} to exactly the issuer in the metadata if it is the right one; if they are not "
            remedy += f"below that URL, set {setting}, too"
            if configured and document.get("issuer") == configured.replace("https:", "http:", 1):
                remedy = "correct the public URL of the provider, or let its proxy send X-Forwarded-Proto: https"
            raise OtherIssuer(problem, remedy=remedy)
        return Metadata(response.url, document, is_openid)

    def _get(self, url: str) -> requests.Response:
        request = requests.Request("GET", url, {"Accept": "application/json"}).prepare()
        return self._transport.send(request, allow_redirects=True, same_origin=True, endpoint="metadata")

    def _complete(self, metadata: Metadata) -> Provider:
        """Return the configured provider with the missing endpoints and settings from the metadata."""
        configured, document = self._configured, metadata.document
        discovered, problems = self._read_endpoints(document)
        sends_issuer = document.get("authorization_response_iss_parameter_supported") is True  # RFC 9207 3
        groups, graph = configured.groups, document.get("msgraph_host")
        if isinstance(graph, str) and re.fullmatch(r"[a-z0-9.-]+", graph):  # Microsoft Graph in a national cloud
            url = f"//{graph}/"
            groups = tuple(each._replace(url=each.url.replace("//graph.microsoft.com/", url)) for each in groups)
        provider = configured._replace(
            # If one provider serves many tenants, its issuer contains a placeholder for the tenant.
            issuer=document.get("issuer", configured.issuer),
            groups=groups,
            **discovered,  # type: ignore[arg-type]
            signing_algorithms=configured.signing_algorithms
            or _read_algorithms(document, "id_token_signing_alg_values_supported"),
            document_algorithms=configured.document_algorithms
            or _read_algorithms(document, "userinfo_signing_alg_values_supported"),
            assertion_algorithms=_read_algorithms(document, "token_endpoint_auth_signing_alg_values_supported"),
            requires_pushed_requests=configured.requires_pushed_requests
            or document.get("require_pushed_authorization_requests") is True,
            client_auth=configured.client_auth or self._choose_client_auth(document),
            scope=configured.scope or _choose_scope(metadata),
            always_sends_issuer=configured.always_sends_issuer or sends_issuer,
        )
        self._check_endpoints(provider, problems, metadata.url)
        prompts = document.get("prompt_values_supported")  # Initiating User Registration 1.0, 4
        supports_consent = not isinstance(prompts, list) or "consent" in prompts
        if provider.offline_access_takes_consent and "offline_access" in provider.scope.split() and supports_consent:
            # Otherwise the issuer ignores the scope (Core 11).
            parameters = {"prompt": "consent", **dict(provider.authorization_parameters)}
            return provider._replace(authorization_parameters=tuple(parameters.items()))
        return provider

    def _check_endpoints(self, provider: Provider, problems: Mapping[str, str], metadata_url: str) -> None:
        """Check that *provider* has the endpoints that a sign-in needs, and that they are usable."""
        # Without a UserInfo endpoint (Discovery 3) the ID token identifies the user.
        required = ["authorization_url", "token_url", *([] if provider.asks_for_id_token else ["profile_url"])]
        needs_keys = self._needs_keys and provider.asks_for_id_token and not provider.signs_with_secret
        if needs_keys and metadata_url:
            required.append("jwks_url")
        requires_push = provider.requires_pushed_requests and self._config.pushed_requests is None
        if requires_push and metadata_url and not provider.pushed_authorization_url:
            text = f"{metadata_url} requires pushed authorization requests, but has no endpoint for them (RFC 9126 5)"
            remedy = f"correct the metadata, or set {self._config.variable('pushed_requests')}=no"
            raise errors.ProviderError(problems.get("pushed_authorization_url", text), remedy=remedy)
        for name, problem in problems.items():
            if name in required:
                remedy = "correct the metadata"
                if name != "jwks_url":  # it has no setting
                    remedy += f", or set {self._config.variable(name)}"
                raise errors.ProviderError(problem, remedy=remedy)
            _log.warning("%s; it is ignored, because no sign-in needs it", problem)
        missing = [name for name in required if not getattr(provider, name)]
        if missing:
            remedy = f"set {', '.join(map(self._config.variable, missing))}"
            if "jwks_url" in missing:  # it has no setting
                remedy = "the ID tokens of this issuer cannot be verified; correct its metadata"
            members = ", ".join(ENDPOINTS[name] for name in missing)
            raise errors.ProviderError(f"{metadata_url} has no {members}", remedy=remedy)

    def _choose_client_auth(self, document: Mapping[str, Any]) -> str:
        """Return the first method that both sides support; HTTP Basic is the default (Discovery 3)."""
        offered = document.get("token_endpoint_auth_methods_supported")
        if self._config.has_key:
            return "private_key_jwt"
        if not self._config.client_secret:
            return "none"
        if not isinstance(offered, list) or "client_secret_basic" in offered:
            return "basic"
        if "client_secret_post" in offered:
            return "post"
        remedy = "register a client that may use client_secret_basic or client_secret_post, and set "
        remedy += self._config.variable("client_auth")
        text = f"{self._url} offers only {ascii(offered)[:200]} to authenticate clients"
        raise errors.ProviderError(text, remedy=remedy)

    def _read_endpoints(self, document: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
        """Return the URLs of the endpoints that are not configured, and the problems of unusable ones."""
        endpoints, problems = {}, {}
        http_hosts = self._transport.http_hosts
        for name, member in ENDPOINTS.items():
            url = str(document.get(member) or "")
            if not url or getattr(self._configured, name):
                continue
            try:
                parts = urls.parse_url(url, http_hosts)
                # Otherwise a remote issuer could make this application send requests to services of this machine.
                is_allowed = parts.hostname in http_hosts or not str(document["issuer"]).startswith("https:")
                if parts.scheme == "http" and not is_allowed:
                    raise ValueError("must begin with https://, as the issuer does")
                endpoints[name] = url
            except ValueError as reason:
                problems[name] = f"the issuer's {member} {reason} (got {mask_password(url)[:200]!a})"
        return endpoints, problems


def _choose_scope(metadata: Metadata) -> str:
    """Return the supported scopes of the user's identity (Core 5.4)."""
    supported = metadata.document.get("scopes_supported")
    if not isinstance(supported, list):
        supported = ["profile", "email"] if metadata.is_openid else []
    if metadata.is_openid:
        supported = ["openid", *supported]
    # Without offline_access, because it begins a second session at Keycloak that no sign-out ends.
    return " ".join(each for each in ("openid", "profile", "email") if each in supported)


def _read_algorithms(document: Mapping[str, Any], member: str) -> tuple[str, ...]:
    """Return the algorithms in *member* of the metadata (Discovery 3); empty if it is missing."""
    announced = document.get(member)
    return tuple(each for each in announced if isinstance(each, str)) if isinstance(announced, list) else ()


def issuer_of_tenants(configured: str) -> str:
    """Return the issuer that the metadata must name: *configured*, with TENANT in place of a group of tenants."""
    # https://learn.microsoft.com/entra/identity-platform/howto-convert-app-to-be-multi-tenant
    return re.sub(r"(?<=/)(common|organizations)(?=/|$)", TENANT, configured, count=1)
