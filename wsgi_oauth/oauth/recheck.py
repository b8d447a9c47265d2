"""Rechecks: when a request asks the provider again about a signed-in user.

Among all threads, workers and machines, one request of a session asks: it first stores in the session that the next
attempt is due a minute later. The other requests continue with the stored identity, and do not wait.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from math import inf
from typing import Any

from ..sessions.encoding import TOKEN, read_object
from .id_token import MAX_CLOCK_SKEW
from .identity import IDENTITY, Identity
from .token import has_expired, is_token

# In the session: {"checked": when the provider last described the user, "retry": when to ask again}, in seconds
# since the epoch.
RECHECK = "oauth_recheck"
RETRY_AFTER = 60.0  # seconds after a recheck without an answer


def build_identity_data(identity: Identity) -> dict[str, Any]:
    """Return the session data for *identity*, which the provider has just described."""
    return {IDENTITY: identity.as_dict(), RECHECK: {"checked": time.time()}}


def next_recheck(session: Mapping[str, Any], started: float, interval: float) -> float:
    """Return when the provider has to be asked again: seconds since the epoch, or infinity.

    For a session without an identity, the interval begins with the sign-in. An identity without the time of a check was
    stored by an older version, and is checked at once. A session whose token has expired and cannot be refreshed is
    never checked, because the provider would reject the token.

    :param started: when the user signed in, in seconds since the epoch.
    :param interval: seconds between two checks; 0 means never.
    """
    if not interval or TOKEN not in session:
        return inf
    times = read_object(session, RECHECK)
    checked = _read_time(times, "checked", default=0.0 if IDENTITY in session else started)
    retry = _read_time(times, "retry", default=0.0)
    # A later time was stored while the clock was ahead. It is ignored, otherwise the session would not be checked.
    latest = time.time() + interval + MAX_CLOCK_SKEW
    due = max(0.0 if checked > latest else checked + interval, 0.0 if retry > latest else retry)
    token = session[TOKEN]
    if due <= time.time() and is_token(token) and "refresh_token" not in token and has_expired(token):
        return inf
    return due


def begin_recheck(session: dict[str, Any], *, started: float, interval: float, retry_after: float) -> bool:
    """Store when the next attempt is due. Return False if another request has begun the recheck.

    :param session: the newest stored data, under the session's lock; empty if the session has ended.
    """
    now = time.time()
    if now < next_recheck(session, started, interval):
        return False
    session[RECHECK] = {**read_object(session, RECHECK), "retry": now + retry_after}
    return True


def _read_time(times: Mapping[str, Any], name: str, *, default: float) -> float:
    value = times.get(name)
    return value if isinstance(value, (int, float)) else default
