"""One refresh for all who wait.

A refresh token may be good for one use (RFC 6749 6), and many a provider takes a second use for a theft and ends
the whole grant (RFC 9700 4.14.2). So of all requests that find the token expired, in whatever thread, worker or
machine, one refreshes it, and says so in the session; the others wait for what becomes of it.
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
from ..sessions.session import TOKEN, Session

REFRESH = "oauth_refresh"  # in the session, while somebody refreshes its token
_POLL = 0.02  # seconds
_CLOCK_SKEW = 300.0  # seconds that the clocks of two machines may differ: what is older than that is older for sure
_PAUSES = (0.05, 0.1, 0.2, 0.4)  # seconds between attempts to store what the provider gives only once

Token = dict[str, Any]
_log = logging.getLogger(__name__)


def refreshed(session: Session, stale: Token, refresh: Callable[[], Token], *, timeout: float) -> Token:
    """Return the token that comes after *stale*: by calling *refresh* and storing what it returns, or by waiting for
    somebody who does.

    :param patience: seconds after which whoever refreshes counts as dead, and the next one takes over. Longer than
        a request to the provider can take, so nobody who lives is overtaken. Each who waits measures them with its own
        clock: those of two machines may differ by more.
    :raises errors.TokenRejected: when the provider refuses to refresh, or when the session has ended meanwhile.
    :raises errors.ProviderError: when it cannot be asked. The session and its refresh token stay.
    """
    mine = secrets.token_hex(8)
    theirs, since = "", 0.0
    give_up = time.monotonic() + 3 * timeout
    while time.monotonic() < give_up:
        seen = session.load_latest()
        session.ended_elsewhere = TOKEN not in seen
        if _successor(seen, stale):
            return _taken_over(session, seen)
        claim = seen.get(REFRESH, {})
        _raise_what_has_failed(claim, theirs)
        if claim.get("by", "") != theirs:
            theirs, since = claim.get("by", ""), time.monotonic()
        if theirs and time.monotonic() - since < timeout and time.time() - claim.get("at", 0) < timeout + _CLOCK_SKEW:
            time.sleep(_POLL)
        elif session.change(partial(_claim, stale=stale, mine=mine, dead=theirs)):
            with suppress(_Overtaken):
                return _refresh(session, stale, refresh, mine)
    raise errors.ProviderTimeout("nobody has finished refreshing the token")


class _Overtaken(Exception):
    """Somebody else took over, because this process has slept for very long in the middle."""


def _refresh(session: Session, stale: Token, refresh: Callable[[], Token], mine: str) -> Token:
    try:
        fresh = refresh()
    except BaseException as error:  # SystemExit, too: a worker that has run out of time
        with suppress(errors.StoreError):  # what went wrong at the provider matters more, and the claim dies of age
            rejected = isinstance(error, errors.TokenRejected)
            overtaken = not session.change(lambda data: _fail(data, mine, rejected=rejected))
            if overtaken and not session.ended_elsewhere and rejected:
                raise _Overtaken from None
        raise
    try:
        _keep(session, stale, fresh)
    except errors.SessionTooLarge as error:  # and the old one is used up
        _log.error("a refreshed token is lost: %s", error)
        raise errors.TokenRejected("the refreshed token does not fit into the session") from error
    if session.ended_elsewhere:  # signed out, or signed in anew, while the provider was asked
        raise errors.TokenRejected("the session ended while its token was being refreshed")
    return fresh


def _keep(session: Session, stale: Token, fresh: Token) -> None:
    """Store *fresh* before it is used: once the provider has rotated it, the old refresh token is worth nothing.

    So a store that fails is asked again for a moment: whoever gives up here costs the user the session.
    """
    for pause in _PAUSES:
        try:
            return session.change(lambda data: _store(data, stale, fresh))
        except errors.StoreError:
            time.sleep(pause)
    return session.change(lambda data: _store(data, stale, fresh))


def _successor(data: dict[str, Any], stale: Token) -> bool:
    if not data.get(TOKEN):
        raise errors.TokenRejected("the session ended while its token was being refreshed")
    return bool(data[TOKEN] != stale)  # all of it: the access token may be the same again, for longer


def _taken_over(session: Session, newest: dict[str, Any]) -> Token:
    session.accept_stored(TOKEN, newest[TOKEN])
    return dict(newest[TOKEN])


def _raise_what_has_failed(claim: dict[str, Any], theirs: str) -> None:
    """Share the fate of the one that this request has waited for; what the provider has refused is over for all."""
    if claim.get("rejected"):
        raise errors.TokenRejected("the provider has refused to refresh the token")
    if theirs and claim.get("failed") == theirs:
        raise errors.ProviderUnreachable("the refresh that this request has waited for failed")


def _claim(data: dict[str, Any], stale: Token, mine: str, dead: str) -> bool:
    """Let this request be the one that refreshes, unless somebody other than *dead* does that already."""
    if not data.get(TOKEN) or _successor(data, stale) or data.get(REFRESH, {}).get("by", "") not in {"", dead}:
        return False
    data[REFRESH] = {"by": mine, "at": time.time()}
    return True


def _fail(data: dict[str, Any], mine: str, *, rejected: bool) -> bool:
    if data.get(REFRESH, {}).get("by") != mine:
        return False
    data[REFRESH] = {"failed": mine, "rejected": rejected}
    return True


def _store(data: dict[str, Any], stale: Token, fresh: Token) -> None:
    if data.get(TOKEN) == stale:
        data[TOKEN] = fresh
        data.pop(REFRESH, None)
