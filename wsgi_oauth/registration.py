"""What this application is at one provider, its client id above all (RFC 6749 2), and what it says to that provider."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlencode

from .catalogue import provider_from_config
from .client import OAuth2Session
from .config import Config
from .oidc import Discovery
from .providers import Provider
from .refresh import refreshed
from .sessions.session import Session
from .transport import Transport

Token = dict[str, Any]


class Registration:
    """Shared by all requests; what belongs to one request is in the :class:`OAuth2Session` that is made for it."""

    def __init__(self, config: Config, transport: Transport) -> None:
        self._config = config
        self._transport = transport
        self._described = provider_from_config(config)
        self.discovery: Discovery | None = None
        if self._described.discovery:
            self.discovery = Discovery(self._described, transport, has_secret=bool(config.client_secret))
        #: What sessions say of whom their token is from: another provider must never see it.
        self.label = config.label or self._described.name
        self.title = self._described.title

    @property
    def provider(self) -> Provider:
        """The provider with its endpoints. Raise ProviderError while they cannot be discovered."""
        return self.discovery.provider() if self.discovery else self._described

    def oauth2_session(
        self, *, token: Token | None = None, redirect_uri: str | None = None, session: Session | None = None
    ) -> OAuth2Session:
        """Return a client for one user and one request, over the transport that all of them share.

        :param session: where *token* comes from, if it does: then it is refreshed there when it has expired.
        """
        return OAuth2Session(
            self.provider,
            self._config.client_id,
            self._config.client_secret,
            self._transport,
            token=token,
            redirect_uri=redirect_uri,
            refresh=partial(self._refresh, session) if session is not None and session.id else None,
        )

    def _refresh(self, session: Session, client: OAuth2Session, stale: Token) -> Token:
        with self._transport.place():  # before anything is claimed, and also for who only waits
            return refreshed(
                session,
                stale,
                lambda: client.refresh_token(client.provider.token_url, token=stale),
                patience=self._config.upstream_timeout + 2,
            )

    def revoke(self, token: Token) -> None:
        """Tell the provider that *token* is over, if it has an endpoint for that.

        :raises errors.ProviderError: when it does not take note of it.
        :raises errors.TokenRejected: when *token* is none.
        """
        if self.provider.revocation_url:
            self.oauth2_session(token=token).revoke_token(self.provider.revocation_url)

    def end_session_url(self, token: Token) -> str:
        """Return where the browser signs out of the provider, too (OpenID Connect RP-Initiated Logout 2), or nothing.

        Only where that is configured: it ends the user's session for all other applications as well.
        """
        wanted = self._config.end_session
        endpoint = wanted if wanted and wanted != "yes" else self.provider.end_session_url
        if not wanted or not endpoint:
            return ""
        hint = {"id_token_hint": token["id_token"]} if "id_token" in token else {}
        query = urlencode({"client_id": self._config.client_id, **hint})
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"
