"""What this application is at one provider, its client id above all (RFC 6749 2), and what it says to that provider."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from urllib.parse import urlencode

from .. import errors
from ..config.settings import ProviderConfig
from ..sessions.session import Session
from ..transport.pool import Transport
from .client import OAuth2Session
from .configured import provider_from_config
from .identity import Identity, limit_lists, read_identity, with_emails, with_groups
from .openid import Discovery
from .provider import Provider
from .refresh import refresh_once
from .token import Token

_log = logging.getLogger(__name__)


class Registration:
    """Shared by all requests; what belongs to one request is in the :class:`OAuth2Session` that is made for it."""

    def __init__(self, config: ProviderConfig, transport: Transport) -> None:
        self._config = config
        self._transport = transport
        self._kinds: set[str] = set()  # of rules that look at this provider's users
        self._matters: Callable[[str], bool] = bool  # whether these mention a group or an address
        self._describe(provider_from_config(config))
        name = self.configured_provider.name
        self.label = config.label or name
        #: What sessions say of whom their token is from. With the name, because a label can be given to somebody else.
        self.key = f"{config.label}:{name}" if config.label else name
        self.title = (
            config.label if config.label and self.configured_provider.title == name else self.configured_provider.title
        )

    def _describe(self, provider: Provider) -> None:
        self.configured_provider = provider
        self.discovery: Discovery | None = None
        if provider.discovery:
            self.discovery = Discovery(provider, self._transport, has_secret=bool(self._config.client_secret))

    @property
    def provider(self) -> Provider:
        """The provider with its endpoints. Raise ProviderError while they cannot be discovered."""
        return self.discovery.provider() if self.discovery else self.configured_provider

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

    def slot(self) -> AbstractContextManager[None]:
        """Hold one of the places for those who wait for this provider. Raise ProviderBusy when all are taken."""
        return self._transport.slot()

    def _refresh(self, session: Session, client: OAuth2Session, stale: Token) -> Token:
        with self.slot():  # before anything is claimed, and also for those who only wait
            return refresh_once(
                session,
                stale,
                lambda: client.refresh_token(client.provider.token_url, token=stale),
                timeout=self._transport.timeout + 2,
            )

    def identify(self, client: OAuth2Session, document: Mapping[str, Any] | None = None) -> Identity:
        """Ask the provider who the user of *client* is; with *document*, the user document, only for what it lacks.

        The lists of addresses and groups are read where the rules need them, or the token's scope is enough.

        :raises errors.ProviderError: when it does not say.
        """
        provider = client.provider
        identity = read_identity(client.get_user_document() if document is None else document, provider)
        if provider.emails_url and (emails := self._listed(client, provider.emails_url, "email")) is not None:
            identity = with_emails(identity, emails, provider.emails)
        if provider.groups_url and (groups := self._listed(client, provider.groups_url, "group")) is not None:
            identity = with_groups(identity, groups, provider.groups)
        return identity

    def bounded_identity(self, identity: Identity) -> Identity:
        """Return what a session keeps of *identity*: of very long lists those that rules mention, and some others."""
        return limit_lists(identity, self._matters)

    def _listed(self, client: OAuth2Session, url: str, kind: str) -> Any:
        """Return the list at *url*, or None where it cannot be had and nobody needs it."""
        scope = client.provider.emails_scope if kind == "email" else client.provider.groups_scope
        # What a rule needs is tried whatever the scope is called: `user` includes `user:email`.
        needed = kind in self._kinds
        if not needed and not set(client.token.get("scope", "").split()).issuperset(scope.split()):
            return None
        try:
            return client.get_json(url, of=object)
        except errors.ProviderForbids:
            return None
        except (errors.ProviderError, errors.TokenRejected) as error:
            if needed:
                raise errors.ProviderError(f"the list of {kind}s cannot be had: {error}") from error
            _log.warning("the list of %ss cannot be had: %s", kind, error)
            return None

    def ask_for(self, kinds: Collection[str], matters: Callable[[str], bool]) -> None:
        """Have each sign-in ask for the scopes without which rules of these *kinds* cannot be judged.

        :param matters: whether they mention a group or an address, which then is not lost among many others.
        """
        self._matters = matters
        self._kinds = {"group" if kind == "org" else kind for kind in kinds}
        described = self.configured_provider
        needed = described.emails_scope.split() if "email" in self._kinds else []
        needed += described.groups_scope.split() if "group" in self._kinds else []
        if needed:
            scopes = dict.fromkeys([*described.scope.split(), *needed])
            self._describe(described._replace(scope=" ".join(scopes)))

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
