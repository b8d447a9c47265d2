"""What the steps of the flow share: which provider a request is about, whose token it is, and who may enter."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from .. import errors
from ..oauth.identity import IDENTITY, Identity, save_identity
from ..sessions.session import TOKEN
from .handler import RequestHandler

if TYPE_CHECKING:
    from ..oauth.client import OAuth2Session

_log = logging.getLogger(__name__)


class Step(RequestHandler):
    """A handler of the flow."""

    def choose_provider(self, label: str) -> bool:
        """Let this request be about the provider that is called *label* here; without a label, about the only one.

        Return False when that does not say which.
        """
        registered = self.app.registrations.get(label)
        if registered is None and (len(self.config.providers) > 1 or (self.config.has_labels and label)):
            return False
        self.registration = registered or self.app.registration()
        # Its endpoints may have to be discovered: before anything of a sign-in is used up.
        self.provider = self.registration.provider
        return True

    def slot(self, provider: str = "", **_arguments: Any) -> AbstractContextManager[None]:
        """Hold one of the places of the provider that a callback is about."""
        return (self.app.registrations.get(provider) or self.app.registration()).slot()

    def sign_in_urls(self) -> dict[str, str]:
        """Return where the sign-in with each provider starts, by the provider's title; all else stays as asked for."""
        titles = Counter(each.title for each in self.app.registrations.values())
        return {
            each.title if titles[each.title] == 1 else f"{each.title} ({label})": (
                f"{self.request.base}{self.route}?{urlencode({**self.request.args, 'provider': label})}"
            )
            for label, each in self.app.registrations.items()
        }

    def callback_url(self) -> str:
        """Return the redirect URI, as registered with the provider that this request is about."""
        own = {"provider": self.registration.label} if self.config.has_labels else {}
        return self.url_for(".callback", external=True, **own)

    @property
    def timeout(self) -> float:
        """Seconds for which a second copy of a callback waits for the first: as long as that may ask the provider."""
        requests = 4 if self.app.rules else 1  # the token; the user document and two lists
        return requests * self.config.upstream_timeout + 2

    def admit(self, client: OAuth2Session) -> None:
        """See, before anything is stored, that the user of *client* may enter, where not everybody may.

        :raises errors.NotAllowed: when that is somebody else.
        :raises errors.ProviderError: when the provider does not say who it is.
        """
        self.request.session.pop(IDENTITY, None)  # of whoever was here before
        if not self.app.rules:
            return
        try:
            identity = self.registration.identify(client)
            self.app.rules.check(identity, self.registration.label)
        except errors.TokenRejected as error:
            raise errors.ProviderError("the provider refuses the token that it has just given") from error
        # Also when it is who was here before, whose other data ends with this sign-in.
        kept = self.registration.bounded_identity(identity).as_dict()
        self.request.session.change_on_save(lambda data: data.update({IDENTITY: kept}))

    def remember_identity(self, client: OAuth2Session, document: dict[str, Any]) -> None:
        """Keep in the session whom *document*, the user document that *client* got, is about.

        The page is worth more than the note: a document that says nothing useful and a store that cannot write
        are in the log, for the operator, and the next request tries again.
        """
        session = self.request.session
        if Identity.from_dict(session.get(IDENTITY)) is None:
            try:
                save_identity(session, self.registration.bounded_identity(self.registration.identify(client, document)))
            except (errors.ProviderError, errors.StoreError) as error:
                _log.warning("[%s] who signed in is not remembered: %s", self.request.id, error)

    def sign_out_of_provider(self, last: dict[str, Any]) -> str:
        """Tell the provider that the token of a session is over (RFC 7009), where it wants to know.

        When that fails, the log says so: the user is signed out of here all the same.

        :param last: what was in the session when it ended.
        :return: where the browser has to go to sign out there as well, or nothing.
        """
        leave = ""
        if TOKEN not in last:
            return leave
        try:
            registration = self.app.registration(last)
            leave = registration.end_session_url(last[TOKEN])
            registration.revoke(last[TOKEN])
        except errors.Error as error:
            _log.warning("[%s] the provider has not revoked the token: %s", self.request.id, error)
        return leave
