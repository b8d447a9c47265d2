"""The stored form of a session: damaged, truncated and forged bytes are never accepted (S56)."""

from __future__ import annotations

import gc
import json
import time
from typing import Any
from zlib import crc32

import pytest

from wsgi_oauth.sessions.encoding import StoredSession, copy_json, decode, encode
from wsgi_oauth.sessions.store import MAX_BYTES

NOW = int(time.time())
DATA = {"oauth_state": {"s": {"next": "/é"}}, "oauth_token": {"access_token": "a" * 40, "expires_at": NOW + 3600.5}}
STORED = StoredSession(NOW - 60.25, NOW, DATA)


def with_checksum(body: bytes) -> bytes:
    """Return *body*, a JSON object, with a correct checksum, so that only its contents can be wrong."""
    return b'{"crc32":"%08x",' % crc32(body[1:]) + body[1:]


def test_a_session_is_decoded_as_it_was_encoded():
    raw = encode(STORED)
    assert decode(raw) == STORED
    assert json.loads(raw)["data"] == DATA  # and the file is plain JSON
    assert with_checksum(b"{" + raw[len(with_checksum(b"{")) :]) == raw


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes", {1}])
def test_data_that_json_cannot_hold_is_not_encoded(value: Any):
    with pytest.raises((TypeError, ValueError)):
        encode(STORED._replace(data={"value": value}))


def test_a_session_that_was_truncated_at_any_offset_is_rejected():
    """S56, S60"""
    raw = encode(STORED)
    assert [length for length in range(len(raw)) if decode(raw[:length])] == []


def test_a_session_with_any_flipped_bit_is_rejected():
    """S56"""
    raw = encode(STORED)
    accepted = []
    for bit in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        if decode(bytes(damaged)):
            accepted.append(bit)
    assert accepted == []


TIMES = ["null", '"1"', "[]", "{}", "NaN", "Infinity", "1e400", "1e300", "9" * 400, "9" * 5000, "-1", "true1"]
INVALID = {
    "empty": b"",
    "zeros": b"\0" * 500,
    "not UTF-8": b'{"started": 1, "seen": 1, "data": {"\xff": 1}}',
    "half a surrogate of UTF-16": b"\xff\xfe\x00\xd8",
    "a number": b"5",
    "a list": b"[1, 2, {}]",
    "an empty object": b"{}",
    "a missing member": b'{"started": %d, "data": {"oauth_token": {}}}' % NOW,
    "an unknown member": b'{"started": %d, "seen": %d, "data": {"oauth_token": {}}, "more": 1}' % (NOW, NOW),
    "two documents": b'{"started": %d, "seen": %d, "data": {"a": 1}}{}' % (NOW, NOW),
    **{
        f"times of {text[:20]}": f'{{"started": {text}, "seen": {text}, "data": {{"oauth_token": {{}}}}}}'.encode()
        for text in TIMES
    },
    **{
        f"data of {text}": f'{{"started": {NOW}, "seen": {NOW}, "data": {text}}}'.encode()
        for text in ("null", '"oauth_token"', '["oauth_token"]', "5")
    },
}


@pytest.mark.parametrize("checksum", [False, True], ids=["without checksum", "with checksum"])
@pytest.mark.parametrize("body", INVALID.values(), ids=INVALID)
def test_bytes_that_are_not_a_session_are_rejected(body: bytes, checksum: bool):
    """S56"""
    assert decode(with_checksum(body) if checksum else body) is None


def test_a_decoded_session_can_always_be_copied_and_encoded():
    """S56. Python's JSON parser accepts deeper nesting than its encoder, up to a depth that depends on the version."""

    def decode_nested(depth: int) -> StoredSession | None:
        body = b'{"started":%d,"seen":%d,"data":{"x":%b}}' % (NOW, NOW, b"[" * depth + b"]" * depth)
        return decode(with_checksum(body))

    def is_accepted(depth: int) -> bool:
        try:
            json.loads("[" * depth + "]" * depth)
        except RecursionError:
            return False
        return True

    gc.collect()  # otherwise the objects of other tests would be finalized in the deep recursion, which would fail
    low, high = 1, MAX_BYTES // 2 - 100
    while high - low > 1 and not is_accepted(high):
        middle = (low + high) // 2
        low, high = (middle, high) if is_accepted(middle) else (low, middle)
    for depth in range(max(1, high - 200), min(high + 50, MAX_BYTES // 2 - 100)):
        if stored := decode_nested(depth):
            assert encode(stored._replace(data=copy_json(stored.data)))
    assert decode_nested(MAX_BYTES // 2 - 100) is None
