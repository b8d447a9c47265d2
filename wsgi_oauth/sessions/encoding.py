"""The stored form of a session: JSON that begins with a checksum, and the keys in it.

The checksum detects damage such as a flipped bit in a token. It is no protection against an attacker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from zlib import crc32

# The keys in the data of a session. The first two are the tutorial's.
STATE = "oauth_state"  # the pending sign-ins, by state
TOKEN = "oauth_token"  # noqa: S105
PROVIDER = "oauth_provider"  # the registration (label and name) with the provider that issued the token
# {"asked": when the sign-in started, by the clock of the store; "issued": when the provider issued the ID token, by its
# own clock; "names": the names by which the provider can end the session}, times in seconds since the epoch.
PROVIDER_SESSION = "oauth_session"

OTHER_ENTRY = b"wo-"
"""The prefix of other entries in a store than sessions, such as access tokens."""

_MAX_BRACKETS = 100  # data with fewer brackets cannot be nested too deeply
_MAX_TIME = 1e11  # seconds since the epoch; a session with a later time is damaged

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


class StoredSession(NamedTuple):
    """The content of a stored session. Times are in seconds since the epoch."""

    started: float
    seen: float
    data: dict[str, Any]

    @property
    def signed_in(self) -> bool:
        """Whether the session holds an access token."""
        return TOKEN in self.data


def encode(stored: StoredSession) -> bytes:
    """Return *stored* as JSON with a leading checksum. Raise TypeError or ValueError for other data than JSON."""
    rest = _ENCODER.encode(stored._asdict()).encode()[1:]
    return _prefix(checksum(rest)) + rest


def decode(raw: bytes) -> StoredSession | None:
    """Return the session in *raw*, or None when it is damaged."""
    start, rest = raw[:_PREFIX_LENGTH], raw[_PREFIX_LENGTH:]
    if start != _prefix(checksum(rest)):
        return None
    try:
        stored = StoredSession(**json.loads("{" + rest.decode()))
        check_nesting(stored.data, rest)
        is_valid = isinstance(stored.data, dict) and are_plausible(stored.started, stored.seen)
    except (ValueError, TypeError, RecursionError):
        return None
    return stored if is_valid else None


def checksum(rest: bytes) -> int:
    return crc32(rest)


def check_nesting(data: Any, raw: bytes) -> None:
    """Raise RecursionError when *data*, which was read from *raw*, is nested too deeply to be copied and written."""
    # Python's JSON parser accepts deeper nesting than its encoder, so such a session could be read but never saved.
    if raw.count(b"[") + raw.count(b"{") > _MAX_BRACKETS:
        # Five extra levels, because copying and writing start deeper in the call stack than this check.
        json.dumps(copy_json([[[[[data]]]]]))


def are_plausible(started: float, seen: float) -> bool:
    """Return whether both times are possible for a session."""
    return 0 < started < _MAX_TIME and 0 < seen < _MAX_TIME


def copy_json(value: Any) -> Any:
    """Return a deep copy of a JSON value. ``copy.deepcopy`` takes three times as long."""
    if isinstance(value, dict):
        return {name: copy_json(inner) for name, inner in value.items()}
    return [copy_json(inner) for inner in value] if isinstance(value, list) else value


def read_object(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the object under *key* in the data of a session; an empty one if another version stored something else."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _prefix(crc: int) -> bytes:
    return b'{"crc32":"%08x",' % crc


_PREFIX_LENGTH = len(_prefix(0))
