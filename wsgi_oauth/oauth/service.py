"""The OAuth client of this application: its providers, its users, and their access rights."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from .. import errors
from ..config import PREFIX, Config
from ..config.checks import check_rules
from ..events import (
    FAILED,
    IDENTIFICATION,
    RECHECK,
    REFUSED,
    SESSION_END,
    SIGN_IN,
    SUCCESS,
    Event,
    Events,
    build_fingerprint,
)
from ..metrics import Metrics
from ..sessions.encoding import PROVIDER, TOKEN
from ..sessions.session import Session
from ..sessions.signature_algorithms import SignatureAlgorithms
from ..sessions.store import store_key
from ..transport.pool import Transport
from ..urls import is_loopback
from .access import Rules
from .bearer import check_providers
from .client import OAuth2Session
from .configured import provider_from_config
from .identity import IDENTITY, Identity
from .recheck import RETRY_AFTER, begin_recheck, build_identity_data, next_recheck
from .registration import Registration

_log = logging.getLogger(__name__)


class OAuthService:
    """The OAuth operations that handlers and the gate use. All requests share it, so it holds no data of a request.

    :param allow: decides about a signed-in user in addition to ``config.allow``; only ``True`` admits.
    :raises errors.ConfigError: if a provider or an access rule is unknown or unusable.
    """

    def __init__(
        self, config: Config, allow: Callable[[Identity], bool] | None, events: Events, metrics: Metrics | None
    ) -> None:
        if not (allow is None or callable(allow)):
            raise TypeError(f"allow: must be a function of an Identity (got {allow!a}); put rules into Config.allow")
        self.transport = Transport(
            config.upstream_timeout, config.upstream_limit, http_hosts=config.insecure_http_hosts, metrics=metrics
        )
        self.events = events
        #: The signature algorithms of ID tokens, in the session store; set by ``create_app``.
        self.algorithms: SignatureAlgorithms | None = None
        self._config = config
        found = [(each.label, provider_from_config(each)) for each in config.providers]
        self._providers = {label or provider.name: provider for label, provider in found}
        self._check_remote_user(config.remote_user)
        self._check_response_modes(config.public_url)
        self._rules = Rules(config.allow, self._providers, allow, has_labels=config.has_labels)
        self._added_rules: list[Rules] = []  # the path rules of a gate
        self.has_labels = config.has_labels
        self.remote_user_kind = config.remote_user
        self.sign_in_lifetime = config.sign_in_lifetime
        self.registrations = self._build_registrations()
        self.accepts_bearer_tokens = bool(config.bearer_audience)
        if self.accepts_bearer_tokens:
            check_providers(self.registrations.values())

    def _build_registrations(self) -> dict[str, Registration]:
        """Return a registration for each provider, by label. Each requests the scopes that the access rules need."""
        return {
            label: Registration(
                config,
                provider,
                # A provider that does not answer must not use up the slots of the other providers.
                self.transport if len(self._providers) == 1 else self.transport.share(),
                [rule for rules in (self._rules, *self._added_rules) for rule in rules.for_provider(label)],
                self.emit,
            )
            for config, (label, provider) in zip(self._config.providers, self._providers.items(), strict=True)
        }

    def _check_remote_user(self, kind: str) -> None:
        """Check that a value of this kind belongs to one user only, among the users of all providers."""
        setting = f"{PREFIX}REMOTE_USER"
        if kind in {"username", "subject"} and len(self._providers) > 1:
            raise errors.ConfigError(
                f"{setting}: users of different providers may have the same {kind} (got {kind!a}); use id or email"
            )
        for provider in self._providers.values():
            if kind == "username" and not provider.username_is_unique:
                problem = f"a username at {provider.title} can pass to another user (got 'username')"
                raise errors.ConfigError(f"{setting}: {problem}; use id, subject or email")

    def _check_response_modes(self, public_url: str | None) -> None:
        """Check that the public URL is https if a provider answers with a form, which needs a Secure cookie."""
        parts = urlsplit(public_url or "http://localhost")
        if self.uses_form_post and parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise errors.ConfigError(
                f"{PREFIX}PUBLIC_URL: must begin with https, because a provider answers with a form (response mode "
                f"form_post), for which browsers need a cookie with the attribute Secure (got {public_url!a})"
            )

    def remote_user(self, identity: Identity) -> str | None:
        """Return the name of the user for other applications (``WSGI_OAUTH_REMOTE_USER``); None if it is unknown."""
        if self.remote_user_kind == "email":
            address = identity.verified_emails[0] if identity.verified_emails else None
            # Lower case, because mail servers and providers ignore the case. ASCII only, because lower() turns some
            # other letters into ASCII: into the address of another user.
            return address.lower() if address and address.isascii() else address
        name: str | None = getattr(identity, self.remote_user_kind)
        return name

    @property
    def is_restricted(self) -> bool:
        """Whether access rules keep some signed-in users out."""
        return bool(self._rules)

    @property
    def uses_form_post(self) -> bool:
        """Whether a provider answers authorization requests with a form."""
        return any(provider.response_mode == "form_post" for provider in self._providers.values())

    @property
    def has_request_limit(self) -> bool:
        """Whether a provider limits how often it can be asked about a user. Then only rechecks ask it."""
        return any(provider.recheck_interval for provider in self._providers.values())

    @property
    def sign_in_timeout(self) -> float:
        """Seconds that one callback may take: the token request, the user document and the lists."""
        lists = max(len(each.configured_provider.lists) for each in self.registrations.values())
        return (2 + lists) * self.transport.timeout + 2

    def registration_with_label(self, label: str) -> Registration | None:
        """Return the registration with this label, or None. With a single provider, the label may be empty."""
        if not self.has_labels or (not label and len(self.registrations) == 1):
            return next(iter(self.registrations.values()))
        return self.registrations.get(label)

    def registration_with_issuer(self, issuer: str) -> Registration:
        """Return the registration with exactly this *issuer*, or raise UnknownIssuer."""
        for each in self.registrations.values():
            if each.configured_provider.issuer == issuer:
                return each
        raise errors.UnknownIssuer(f"iss: not the issuer of a configured provider (got {issuer[:200]!a})")

    def registration_with_key(self, key: str) -> Registration | None:
        """Return the registration whose ``key`` a session or an access token contains, or None."""
        return next((each for each in self.registrations.values() if key in each.session_keys), None)

    def registration_of(self, session: Mapping[str, Any]) -> Registration:
        """Return the registration that the data of a session or an access token names; the first one if anonymous."""
        if TOKEN not in session and PROVIDER not in session:
            return next(iter(self.registrations.values()))
        registration = self._find_registration(session)
        if registration is None:
            # The provider was removed from the configuration. No other may get its token.
            raise errors.TokenRejected(
                "the token is from a provider or client id that is not configured; if another application on this host "
                "has created the session, give each its own WSGI_OAUTH_COOKIE_NAME"
            )
        return registration

    def _find_registration(self, session: Mapping[str, Any]) -> Registration | None:
        keys = [each.key for each in self.registrations.values()]
        # A session without a provider is from a version that had a single provider.
        return self.registration_with_key(session.get(PROVIDER, keys[0] if len(keys) == 1 else ""))

    def oauth2_session(self, session: Session) -> OAuth2Session:
        """Return a client with the token of *session*, refreshed when it has expired, or raise NotSignedIn."""
        return self.registration_of(session).oauth2_session(token=session[TOKEN], session=session)

    def identify(self, session: Session) -> Identity:
        """Return the signed-in user. The provider is asked once for each session, and then at each recheck.

        :raises errors.NotSignedIn: if the user is anonymous, or if a recheck ends the session.
        :raises errors.ProviderError: if the provider does not identify the user.
        """
        token, registration = session[TOKEN], self.registration_of(session)
        if IDENTITY in session:
            self.recheck(session)
        known = Identity.from_dict(session.get(IDENTITY))
        if known is not None:  # returned before a client is built, which may need a discovery
            return known
        identity = registration.identify(registration.oauth2_session(token=token, session=session))
        self._store_identity(session, registration.limit_identity(identity))
        return identity

    def remember_user(self, session: Session, client: OAuth2Session, document: Mapping[str, Any]) -> None:
        """Store the user that *document*, the user document, describes. A failure is only logged.

        :raises errors.NotSignedIn: if the session has ended or was revoked meanwhile.
        """
        if IDENTITY in session:
            return
        registration = self.registration_of(session)
        try:
            self._store_identity(session, registration.limit_identity(registration.identify(client, document)))
        except errors.ProviderError as error:
            _log.warning("the signed-in user was not stored: %s", error)

    def _store_identity(self, session: Session, identity: Identity) -> None:
        """Store the user. A failure is only logged, because the next request asks the provider again."""
        data = build_identity_data(identity)

        def replace(stored: dict[str, Any]) -> bool:
            is_new = TOKEN in stored and IDENTITY not in stored
            stored.update(data)
            return is_new

        try:
            is_identification = session.change(replace)
            # change() does not notice that a session was revoked.
            if session.id is not None and not session.load_latest():
                session.ended_elsewhere = True
            elif is_identification:
                self.emit(session, IDENTIFICATION)
        except errors.StoreError as error:
            _log.warning("the identity of %s was not stored: %s", identity.id, error)
            session.accept_stored(IDENTITY, data[IDENTITY])  # for the rest of this request
        if session.ended_elsewhere:
            raise errors.NotSignedIn("the session ended while the provider was asked for the user")

    def next_recheck(self, session: Mapping[str, Any], started: float) -> float:
        """Return when the provider has to be asked again about a user; see :func:`.recheck.next_recheck`."""
        return next_recheck(session, started, self._recheck_interval(session))

    def _recheck_interval(self, session: Mapping[str, Any]) -> float:
        """Return the seconds between two rechecks of a session; 0 for never."""
        registration = self._find_registration(session)
        shortest = registration.configured_provider.recheck_interval if registration else 0
        return max(self._config.recheck, shortest) if self._config.recheck else 0

    def recheck(self, session: Session) -> None:
        """Ask the provider again about the user of *session*, if ``WSGI_OAUTH_RECHECK`` seconds have passed.

        One request of a session asks; the others continue with the stored identity. If the provider or the store fails,
        the session stays as it is, and a request a minute later asks again.

        :raises errors.TokenRejected: if the provider refuses, or describes another user. The session has ended then.
        :raises errors.NotSignedIn: if the session has ended meanwhile.
        """
        if time.time() < self.next_recheck(session, session.started):
            return
        registration = self.registration_of(session)
        begin = partial(
            begin_recheck,
            started=session.started,
            interval=self._recheck_interval(session),
            retry_after=max(RETRY_AFTER, self.transport.timeout + self.sign_in_timeout),  # longer than a recheck takes
        )
        try:
            with registration.slot():  # first, otherwise an attempt without a free slot would be stored
                if session.change(begin):
                    self._ask_again(session, registration)
        except errors.ProviderBusy:
            pass  # the next request tries again
        except (errors.ProviderError, errors.StoreError) as error:
            self.emit(session, RECHECK, FAILED, error, detail=f"postponed, and the session continues: {error}")
        if session.ended_elsewhere:
            raise errors.NotSignedIn("the session ended while the provider was asked for the user")

    def _ask_again(self, session: Session, registration: Registration) -> None:
        """Replace the stored identity by the provider's current description of the user, or end the session."""
        known = Identity.from_dict(session.get(IDENTITY))
        try:
            client = registration.oauth2_session(token=session[TOKEN], session=session)
            client.renew_token()
            identity = registration.identify(client, complete=True)
            if known is not None and (identity.provider, identity.subject) != (known.provider, known.subject):
                raise errors.TokenRejected(f"the provider now describes another user (got {identity.id!a})")
        except (errors.TokenRejected, errors.IdTokenRefused) as error:
            self.end_rejected(session, error, RECHECK, REFUSED)
            raise errors.TokenRejected(f"recheck: {error}") from error
        identity = registration.limit_identity(identity)
        self._store_identity(session, identity)
        self.emit(session, RECHECK, user=identity.id, detail="unchanged" if identity == known else "updated")

    def end_rejected(
        self, session: Session, error: errors.Error, event: str = SESSION_END, outcome: str = SUCCESS
    ) -> bool:
        """End *session*, whose token was rejected with *error*. Return whether it still existed.

        :raises errors.ProviderError: if another request has refreshed the token meanwhile.
        """
        latest_token = session.load_latest().get(TOKEN)
        if latest_token and latest_token != session.get(TOKEN):
            raise errors.ProviderError("the token was rejected after another request had refreshed it") from error
        session.end()
        if latest_token:
            self.emit(session, event, outcome, error)
        return bool(latest_token)

    def emit(
        self,
        session: Session,
        name: str,
        outcome: str = SUCCESS,
        error: errors.Error | None = None,
        *,
        level: int | None = None,
        exc_info: bool = False,
        **values: str,
    ) -> None:
        """Emit the audit event *name* about *session* and its stored user.

        :param error: the reason, if the outcome is not success.
        :param values: further fields of the event.
        """
        data = session.stored.data if session.stored else session
        registration = self._find_registration(data) if TOKEN in data else None
        known = Identity.from_dict(data.get(IDENTITY))
        fields: dict[str, Any] = {
            "user": (error and error.user) or (known.id if known else ""),
            "provider": (error and error.provider) or (registration.label if registration else ""),
            "session": build_fingerprint(store_key(session.id)) if session.id else "",
            "cause": error.cause if error else "",
            "detail": str(error or ""),
            **session.source._asdict(),
            **values,
        }
        if name == SIGN_IN and IDENTITY not in data and registration:
            fields["user"] = registration.read_user_id(data[TOKEN]) or fields["user"]
        self.events.emit(Event(name, outcome, **fields), level=level, exc_info=exc_info)

    def add_rules(self, rules: Iterable[str], setting: str) -> Rules:
        """Return access rules for a part of the application, and request their scopes at each sign-in from now on."""
        if isinstance(rules, str):
            raise TypeError(f"{setting}: must be a collection of rules (got the string {rules!r}); write ({rules!r},)")
        parsed = self.parse_rules(check_rules(rules), setting)
        if not parsed:
            problem = "no rule; name the users who may visit this path, such as group:admins"
            raise errors.ConfigError(f"{setting}: {problem}")
        self._added_rules.append(parsed)
        self.registrations = self._build_registrations()
        return parsed

    def parse_rules(self, rules: Iterable[str], setting: str) -> Rules:
        """Return access rules, without requesting scopes for them. Raise ConfigError for an invalid rule."""
        return Rules(rules, self._providers, has_labels=self.has_labels, setting=setting)

    def check_access(self, identity: Identity, registration: Registration, rules: Rules | None = None) -> None:
        """Raise NotAllowed unless *rules*, by default those of the configuration, admit a user of this provider."""
        try:
            (self._rules if rules is None else rules).check(identity, registration.label)
        except errors.NotAllowed as error:
            error.user, error.provider = identity.id, registration.label
            raise
