"""The OAuth client of this application: its providers, its users, and their access."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .. import errors
from ..config import PREFIX, Config
from ..sessions.session import PROVIDER, TOKEN, Session
from ..transport.pool import Transport
from .access import Rules
from .client import OAuth2Session
from .configured import provider_from_config
from .identity import IDENTITY, Identity, save_identity
from .registration import Registration

_log = logging.getLogger(__name__)


class OAuthService:
    """The OAuth operations that handlers and the gate use. Shared by all requests, it holds no data of a request.

    :param allow: decides about a signed-in user in addition to ``config.allow``; only ``True`` admits.
    :raises errors.ConfigError: if a provider or an access rule is unknown or unusable.
    :raises TypeError: if *allow* is not callable.
    """

    def __init__(self, config: Config, allow: Callable[[Identity], bool] | None = None) -> None:
        if not (allow is None or callable(allow)):
            raise TypeError(f"allow: must be a function of an Identity (got {allow!a}); rules belong into Config.allow")
        self.transport = Transport(
            config.upstream_timeout, config.upstream_limit, http_hosts=config.insecure_http_hosts
        )
        self._config = config
        self._providers = {}
        for each in config.providers:
            provider = provider_from_config(each)
            self._providers[each.label or provider.name] = provider
        self._rules = Rules(config.allow, self._providers, allow, has_labels=config.has_labels)
        self._added_rules: list[Rules] = []  # for parts of the application
        self.has_labels = config.has_labels
        self.registrations = self._build_registrations()

    def _build_registrations(self) -> dict[str, Registration]:
        """Return a registration for each provider, by label. Each requests the scopes that the access rules need."""
        return {
            label: Registration(
                each,
                provider,
                # One hanging provider of several must not use up all slots.
                self.transport if len(self._providers) == 1 else self.transport.share(),
                [rule for rules in (self._rules, *self._added_rules) for rule in rules.for_provider(label)],
            )
            for each, (label, provider) in zip(self._config.providers, self._providers.items(), strict=True)
        }

    @property
    def is_restricted(self) -> bool:
        """Return whether access rules keep some signed-in users out."""
        return bool(self._rules)

    @property
    def sign_in_timeout(self) -> float:
        """Seconds that one callback may take: a token request, and with rules the user document and the lists."""
        lists = max(len(each.configured_provider.lists) for each in self.registrations.values())
        requests = 2 + lists if self.is_restricted else 1
        return requests * self.transport.timeout + 2

    def registration(self, label: str) -> Registration | None:
        """Return the registration with this label, or the only one if *label* is empty; None if that is ambiguous."""
        if not self.has_labels or (not label and len(self.registrations) == 1):
            return next(iter(self.registrations.values()))
        return self.registrations.get(label)

    def label_of_issuer(self, issuer: str) -> str:
        """Return the label of the registration with *issuer*, which must equal the configured one exactly.

        :raises errors.UnknownIssuer: if there is none.
        """
        for label, registration in self.registrations.items():
            if registration.configured_provider.issuer == issuer:
                return label
        raise errors.UnknownIssuer(f"iss: not the issuer of a configured provider (got {issuer[:200]!a})")

    def registration_of(self, session: Mapping[str, Any]) -> Registration:
        """Return the registration with the provider that issued the token of *session*; without a token, the first.

        :raises errors.TokenRejected: if that provider was removed from the configuration. No other may get its token.
        """
        registrations = list(self.registrations.values())
        if TOKEN not in session:
            return registrations[0]
        # A session without a provider was stored before several providers were possible.
        key = session.get(PROVIDER, registrations[0].key if len(registrations) == 1 else "")
        for each in registrations:
            if each.key == key:
                return each
        raise errors.TokenRejected("the token is from a provider that was removed from the configuration")

    def oauth2_session(self, session: Session) -> OAuth2Session:
        """Return a client with the token of *session*, which is refreshed when it has expired.

        :raises errors.NotSignedIn: if there is no token.
        """
        return self.registration_of(session).oauth2_session(token=session[TOKEN], session=session)

    def identify(self, session: Session) -> Identity:
        """Return the signed-in user. The provider is asked once for each session, and the answer is stored.

        :raises errors.NotSignedIn: if nobody is signed in.
        :raises errors.ProviderError: if the provider does not identify the user.
        """
        token, registration = session[TOKEN], self.registration_of(session)
        known = Identity.from_dict(session.get(IDENTITY))
        if known is not None:  # without a client, because its endpoints may have to be discovered
            return known
        identity = registration.identify(registration.oauth2_session(token=token, session=session))
        try:
            save_identity(session, registration.bounded_identity(identity))
        except errors.StoreError as error:  # the next request tries again
            _log.warning("the identity of %s was not stored: %s", identity.id, error)
        if session.ended_elsewhere:
            raise errors.NotSignedIn("the session ended while the provider was asked for the user")
        return identity

    def remember_user(self, session: Session, client: OAuth2Session, document: Mapping[str, Any]) -> None:
        """Store the user that *document*, the user document, describes. A failure is only logged."""
        if Identity.from_dict(session.get(IDENTITY)) is not None:
            return
        registration = self.registration_of(session)
        try:
            save_identity(session, registration.bounded_identity(registration.identify(client, document)))
        except (errors.ProviderError, errors.StoreError) as error:
            _log.warning("the signed-in user was not stored: %s", error)

    def add_rules(self, rules: Iterable[str], setting: str) -> Rules:
        """Return access rules for a part of the application. From now on their scopes are requested at each sign-in.

        :param setting: its name, for the error message.
        :raises errors.ConfigError: for an invalid rule, or if there is none.
        :raises TypeError: if *rules* is a single string.
        """
        if isinstance(rules, str):
            raise TypeError(f"{setting}: must be a collection of rules (got the string {rules!r}); write ({rules!r},)")
        try:
            parsed = Rules(rules, self._providers, has_labels=self.has_labels)
        except errors.ConfigError as error:
            raise errors.ConfigError(error.detail.replace(f"{PREFIX}ALLOW", setting)) from None
        if not parsed:
            raise errors.ConfigError(
                f"{setting}: no rule; name the users who may visit this path, such as group:admins"
            )
        self._added_rules.append(parsed)
        self.registrations = self._build_registrations()
        return parsed

    def check_access(self, identity: Identity, registration: Registration, rules: Rules | None = None) -> None:
        """Check that the access rules admit *identity*, a user of this registration's provider.

        :param rules: the rules of a part of the application; by default those of the configuration.
        :raises errors.NotAllowed: if they do not.
        """
        (self._rules if rules is None else rules).check(identity, registration.label)
