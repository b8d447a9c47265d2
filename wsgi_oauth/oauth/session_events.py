"""Audit events about a session and its user."""

from __future__ import annotations

from .. import errors
from ..events import SUCCESS, Event, build_fingerprint
from ..sessions.session import Session
from ..sessions.store import store_key
from .identity import IDENTITY, Identity


def build_event(
    session: Session,
    name: str,
    outcome: str = SUCCESS,
    error: errors.Error | None = None,
    *,
    provider: str,
    user: str = "",
    **values: str,
) -> Event:
    """Return the audit event *name* about *session* and its stored user.

    :param provider: the label of the provider, unless *error* has another one.
    :param user: the id of the user; by default from *error*, otherwise from the identity in the session.
    """
    if not user:
        known = Identity.from_dict((session.stored.data if session.stored else session).get(IDENTITY))
        user = (error and error.user) or (known.id if known else "")
    return Event(
        name,
        outcome,
        cause=error.cause if error else "",
        user=user,
        provider=(error and error.provider) or provider,
        session=build_fingerprint(store_key(session.id)) if session.id else "",
        **{"detail": str(error or ""), **session.source._asdict(), **values},
    )
