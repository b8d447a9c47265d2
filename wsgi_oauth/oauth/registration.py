"""The registration of this application with one provider (RFC 6749 2)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from .. import errors
from ..config import ProviderConfig
from ..config.provider import Provider
from ..config.secret_file import SecretFile, read_secret
from ..events import FAILED, REFRESH, REFUSED
from ..sessions.session import Session
from ..transport.pool import Transport
from ..urls import Origin
from .access import Rule
from .claims import limit_claims
from .client import OAuth2Session
from .client_key import ClientKey
from .discovery import Discovery, issuer_of_tenants
from .id_token import read_id_token
from .identity import Identity, build_user_id, find_subject, limit_lists, read_identity
from .keys import SigningKeys, verifies_signatures
from .lists import with_lists, with_scopes_for
from .refresh import refresh_once
from .token import MAX_TOKEN, Token

# Characters. Entra ID refuses URLs of more than 4 KB, and many servers and proxies refuse more than 8 KB.
_MAX_END_SESSION_URL = 2000
_log = logging.getLogger(__name__)

Emit = Callable[..., None]  # OAuthService.emit


class Registration:
    """One client at one provider. All requests share it; each request gets its own :class:`OAuth2Session`."""

    def __init__(
        self, config: ProviderConfig, provider: Provider, transport: Transport, rules: Collection[Rule], emit: Emit
    ) -> None:
        self._config = config
        self.with_own_variables = config.with_own_variables
        self._transport = transport
        self.slot = transport.slot  # a provider has slots of its own
        self.rules = rules  # for its users; each sign-in requests the scopes that they need
        self._emit = emit
        self.configured_provider = with_scopes_for(rules, provider)
        #: The keys of the provider's signatures; None if signatures are not verified.
        self.keys = SigningKeys(transport) if provider.openid and verifies_signatures() else None
        self.client_key = ClientKey(config) if config.client_key_file else None
        self.discovery: Discovery | None = None
        if provider.discovery:
            needs_keys = self.keys is not None
            self.discovery = Discovery(self.configured_provider, config, transport, needs_keys=needs_keys)
        self._secret_file: SecretFile | None = None
        if config.client_secret_file and config.client_secret:
            name = config.variable("client_secret_file")
            self._secret_file = SecretFile(config.client_secret_file, config.client_secret, name)
        self.label = config.label or provider.name
        former_key = f"{config.label}:{provider.name}" if config.label else provider.name
        #: Identifies the registration in sessions. It contains the provider's name, because a label can be given to
        #: another provider, and the client id, because another application may use the same store.
        self.key = f"{former_key} {config.client_id}"
        self.session_keys = {self.key, former_key}  # sessions from older versions have a key without the client id
        self.client_id = config.client_id
        self.login_parameters = config.login_parameters
        has_own_title = provider.title != provider.name  # an issuer without a preset has only the name of its host
        self.title = config.title or (provider.title if has_own_title else config.label or provider.title)

    @property
    def client_secret(self) -> str:
        """The current client secret, or an empty string. Apple's is an assertion that the client key signs."""
        if self.client_key is not None and self.configured_provider.secret_audience:
            issuer = self._config.client_key_issuer or ""
            return self.client_key.build_assertion(self.configured_provider.secret_audience, issuer=issuer)
        return self._secret_file.read() if self._secret_file else self._config.client_secret or ""

    def build_assertion(self, endpoint: str) -> str:
        """Return the assertion with which the client authenticates (RFC 7521 4.2), from the key or from the file.

        For an endpoint at another host than the token endpoint, the audience is the issuer. Otherwise a malicious
        issuer could name another provider's token endpoint, and use the assertion there (CVE-2025-27370). With pushed
        requests it is also the issuer: all such providers accept that (RFC 9126 2), and some nothing else (FAPI 2.0).
        """
        provider = self.provider
        if self.client_key is not None:
            is_at_token_host = Origin.of(endpoint) == Origin.of(provider.token_url)
            is_for_issuer = provider.assertion_audience == "issuer" or self.pushes_requests or not is_at_token_host
            audience = provider.issuer if is_for_issuer else provider.token_url
            return self.client_key.build_assertion(audience or provider.token_url, provider.assertion_algorithms)
        path = self._config.client_assertion_file or ""
        try:
            return read_secret(path, longest=MAX_TOKEN)
        except ValueError as problem:
            name = self._config.variable("client_assertion_file")
            remedy = "let the platform write a client assertion there"
            raise errors.ClientAssertionMissing(f"{name}: the file {problem} (got {path!a})", remedy=remedy) from None

    @property
    def pushes_requests(self) -> bool:
        """Whether authorization requests are pushed to the provider (RFC 9126)."""
        configured = self._config.pushed_requests
        return self.provider.requires_pushed_requests if configured is None else configured

    @property
    def provider(self) -> Provider:
        """The provider with its endpoints. Raises ProviderError if they cannot be discovered now."""
        return self.discovery.provider() if self.discovery else self.configured_provider

    @property
    def has_published_keys(self) -> bool:
        """Whether signatures can be verified: the issuer is known, and the URL of its keys is known or discovered."""
        provider = self.configured_provider
        finds_keys = provider.jwks_url or (self.discovery is not None and self.discovery.is_needed)
        return bool(self.keys and provider.issuer and finds_keys)

    def is_issuer(self, iss: object) -> bool:
        """Return whether *iss* is the provider's issuer, without fetching the metadata."""
        provider = self.configured_provider
        issuer = issuer_of_tenants(provider.issuer or "")
        return bool(issuer) and provider._replace(issuer=issuer).is_issuer(iss)

    def verify_signature(
        self, jwt: str, *, types: Collection[str] = (), algorithms: Collection[str] = (), secret: str = ""
    ) -> bytes:
        """Verify the signature of a token that a client or the provider has sent, and return its payload.

        The parameters and the errors are those of :meth:`.keys.SigningKeys.verify`. The caller checks the claims.
        """
        url, has_tenants = self.provider.jwks_url, self.provider.has_tenants
        if self.keys is None or not url:
            raise errors.ProviderError(
                "the URL of the provider's keys is unknown", remedy="add jwks_uri to the metadata of the issuer"
            )
        return self.keys.verify(jwt, url, algorithms, secret=secret, types=types, has_tenants=has_tenants)

    def oauth2_session(
        self, *, token: Token | None = None, redirect_uri: str | None = None, session: Session | None = None
    ) -> OAuth2Session:
        """Return a client for one user and one request.

        :param session: the session that contains *token*; an expired token is refreshed there.
        """
        return OAuth2Session(
            self.provider,
            self.client_id,
            self.client_secret,
            self._transport,
            keys=self.keys,
            build_assertion=self.build_assertion,
            pushes_requests=self.pushes_requests,
            token=token,
            redirect_uri=redirect_uri,
            refresh=partial(self._refresh, session) if session is not None and session.id else None,
        )

    def _refresh(self, session: Session, client: OAuth2Session, expired: Token) -> Token:
        has_asked = False  # stays False if another request has refreshed the token

        def ask() -> Token:
            nonlocal has_asked
            has_asked = True
            return client.refresh_token(client.provider.token_url, token=expired)

        try:
            with self.slot():  # limits the waiting threads, including those that wait for another request's refresh
                token = refresh_once(session, expired, ask, timeout=self._transport.timeout + 2)
        except errors.Error as error:
            if has_asked:
                outcome = REFUSED if isinstance(error, errors.TokenRejected) else FAILED
                self._emit(session, REFRESH, outcome, error)
            raise
        if has_asked:
            self._emit(session, REFRESH)
        return token

    def identify(
        self, client: OAuth2Session, document: Mapping[str, Any] | None = None, *, complete: bool = False
    ) -> Identity:
        """Return the user of *client*, as the ID token, the user document and the provider's lists describe them.

        :param complete: see :func:`.with_lists`.
        :raises errors.ProviderError: if the provider does not identify the user.
        """
        if document is None:
            document = client.get_user_document()
        identity = read_identity(document, client.provider, client.id_token_claims)
        if identity.name is None and "display_name" in client.token:
            identity = replace(identity, name=client.token["display_name"])
        return with_lists(identity, client, self.rules, timeout=self._transport.timeout, complete=complete)

    def read_user_id(self, token: Token) -> str:
        """Return the id of the user (:attr:`Identity.id`) from the ID token; "" if the token is not sufficient."""
        provider = self.provider
        if " " in provider.user.subject:  # several claims: which one counts depends on the user document
            return ""
        try:
            return build_user_id(provider.name, find_subject(({}, read_id_token(token.get("id_token", ""))), provider))
        except errors.ProviderError:
            return ""

    def limit_identity(self, identity: Identity) -> Identity:
        """Return *identity* with the groups, addresses and claims that fit into a session, those in rules first."""
        identity = limit_lists(identity, lambda name: any(rule.names(name) for rule in self.rules))
        claims = limit_claims(
            dict(identity.claims),
            lambda path: any(rule.names_claim(path) for rule in self.rules),
            lambda path, item: any(rule.claim == path and rule.equals(item) for rule in self.rules),
            identity.id,
        )
        return replace(identity, claims=claims)

    def revoke(self, token: Token) -> None:
        """Revoke *token* (RFC 7009), if the provider has an endpoint for that. Raise ProviderError if that fails."""
        if self.provider.revocation_url:
            self.oauth2_session(token=token).revoke_token(self.provider.revocation_url)

    def end_session_url(self, token: Token, *, signed_out_url: str, state: str) -> str:
        """Return the URL at which the browser signs out of the provider (OpenID Connect RP-Initiated Logout 2), or "".

        It is empty unless configured, because that sign-out can also end the user's sessions at other applications. A
        parameter in the configured URL is not added again.

        :param signed_out_url: the page to which the provider sends the browser back.
        :param state: a random value that the provider sends to that page.
        """
        configured = self._config.end_session
        endpoint = configured if configured and configured != "yes" else self.provider.end_session_url
        if not configured or not endpoint:
            return ""
        values = {"client_id": self.client_id, "signed_out_url": signed_out_url, "state": state}
        values["id_token"] = token.get("id_token", "")
        url = self._with_end_session_parameters(endpoint, values)
        if len(url) > _MAX_END_SESSION_URL and values["id_token"]:
            _log.info("sign-out: the provider gets no id_token_hint, because the ID token is too long for a URL")
            url = self._with_end_session_parameters(endpoint, {**values, "id_token": ""})
        return url

    def _with_end_session_parameters(self, endpoint: str, values: Mapping[str, str]) -> str:
        own = dict(parse_qsl(urlsplit(endpoint).query, keep_blank_values=True))
        parameters = {name: value.format_map(values) for name, value in self.provider.end_session_parameters}
        query = urlencode({name: value for name, value in parameters.items() if value and name not in own})
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"
