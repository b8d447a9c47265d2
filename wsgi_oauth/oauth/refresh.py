"""One refresh of an expired token for all requests of a session, in all threads, workers and machines.

A refresh token may be valid for a single use (RFC 6749 6), and many providers treat a second use as theft and revoke
the whole grant (RFC 9700 4.14.2). So the request that refreshes holds a lease, which is stored in the session, and the
other requests wait for the result.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from .. import errors
from ..polling import poll
from ..sessions.encoding import TOKEN
from ..sessions.session import Session
from .token import Token

# The session's key of the lease: {"by": owner, "at": seconds since the epoch}. After a failure, the value is
# {"failed": owner, "rejected": whether the provider refused the refresh token}.
LEASE = "oauth_refresh"
_MAX_CLOCK_SKEW = 300.0  # seconds that the clocks of two machines may differ
_SAVE_PAUSES = (0.05, 0.1, 0.2, 0.4)  # seconds between attempts to save the new token
_log = logging.getLogger(__name__)


class _LeaseLost(Exception):
    """Another request took over the lease, because this process was suspended for longer than the timeout."""


def refresh_once(session: Session, stale: Token, refresh: Callable[[], Token], *, timeout: float) -> Token:
    """Return the token that replaces *stale*: from *refresh*, or from another request that is already refreshing it.

    :param refresh: function that sends the refresh request. Its result is saved before it is returned.
    :param timeout: seconds after which a lease expires, longer than a request to the provider can take. Each waiting
        request measures this time with its own clock, because the clocks of two machines may differ.
    :raises errors.TokenRejected: when the provider refuses to refresh, or when the session has ended meanwhile.
    :raises errors.ProviderError: when the provider cannot be asked. The session and its refresh token stay.
    """
    me = secrets.token_hex(8)
    owner, waiting_since = "", 0.0
    for _ in poll(3 * timeout):
        newest = session.load_latest()
        session.ended_elsewhere = TOKEN not in newest
        if not newest.get(TOKEN):
            raise errors.TokenRejected("the session ended while its token was being refreshed")
        # Compare the whole token, because a provider may send the same access token with a new lifetime.
        if newest[TOKEN] != stale:
            session.accept_stored(TOKEN, newest[TOKEN])
            return dict(newest[TOKEN])
        lease = newest.get(LEASE, {})
        check_result(lease, owner)
        if lease.get("by", "") != owner:
            owner, waiting_since = lease.get("by", ""), time.monotonic()
        is_held = owner and time.monotonic() - waiting_since < timeout
        # A lease that is much older is from a request that has crashed: do not wait for it.
        if is_held and time.time() - lease.get("at", 0) < timeout + _MAX_CLOCK_SKEW:
            continue
        if session.change(partial(acquire_lease, stale=stale, new_owner=me, expired_owner=owner)):
            with suppress(_LeaseLost):
                return _refresh_as_owner(session, stale, refresh, me)
    raise errors.ProviderTimeout("no request has finished refreshing the token in time")


def acquire_lease(data: dict[str, Any], *, stale: Token, new_owner: str, expired_owner: str) -> bool:
    """Store a lease in the session's *data*. Return False if the token was replaced, or another request has a lease."""
    if data.get(TOKEN) != stale or data.get(LEASE, {}).get("by", "") not in {"", expired_owner}:
        return False
    data[LEASE] = {"by": new_owner, "at": time.time()}
    return True


def check_result(lease: dict[str, Any], owner: str) -> None:
    """Check that no other request has failed to refresh the token.

    Otherwise the waiting requests would repeat the refresh, one after the other, while the provider does not answer.

    :param owner: the request that held the lease, and for which this one has waited; empty if there was none.
    :raises errors.TokenRejected: when the provider refused the refresh token, sent by any request.
    :raises errors.ProviderUnreachable: when the refresh of *owner* failed for another reason.
    """
    if lease.get("rejected"):
        raise errors.TokenRejected("the provider has refused to refresh the token")
    if owner and lease.get("failed") == owner:
        raise errors.ProviderUnreachable("the refresh for which this request has waited failed")


def _refresh_as_owner(session: Session, stale: Token, refresh: Callable[[], Token], me: str) -> Token:
    try:
        fresh = refresh()
    except BaseException as error:  # including SystemExit, which gunicorn raises in a worker after a timeout
        is_rejected = isinstance(error, errors.TokenRejected)
        has_lease = True
        with suppress(errors.StoreError):  # the lease expires by itself, and the provider's error is more useful
            has_lease = session.change(partial(_record_failure, owner=me, is_rejected=is_rejected))
        # The provider may have rejected the token because the new owner of the lease had refreshed it.
        if is_rejected and not has_lease and not session.ended_elsewhere:
            raise _LeaseLost from None
        raise
    try:
        _save(session, stale, fresh)
    except errors.SessionTooLarge as error:
        _log.error("the refreshed token is lost: %s", error)
        # The user has to sign in again, because the old refresh token is used up.
        raise errors.TokenRejected("the refreshed token does not fit into the session") from error
    if session.ended_elsewhere:  # a sign-out or another sign-in has ended it
        raise errors.TokenRejected("the session ended while its token was being refreshed")
    return fresh


def _record_failure(data: dict[str, Any], *, owner: str, is_rejected: bool) -> bool:
    if data.get(LEASE, {}).get("by") != owner:
        return False
    data[LEASE] = {"failed": owner, "rejected": is_rejected}
    return True


def _save(session: Session, stale: Token, fresh: Token) -> None:
    """Save the new token before it is used, with a few attempts: the old refresh token is invalid from now on."""

    def replace(data: dict[str, Any]) -> None:
        if data.get(TOKEN) == stale:
            data[TOKEN] = fresh
            data.pop(LEASE, None)

    for pause in _SAVE_PAUSES:
        try:
            return session.change(replace)
        except errors.StoreError:
            time.sleep(pause)
    return session.change(replace)
