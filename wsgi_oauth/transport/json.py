"""Strict reading of JSON documents from a provider."""

from __future__ import annotations

import json
import math
from typing import Any

import requests

from .. import errors

_NAMES = {dict: "object", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
# Values of Content-Encoding that are not requested, unless an optional package for them is installed.
_COMPRESSIONS = {"br", "compress", "dcb", "dcz", "zstd"}
# Levels of nesting that a document must leave free, because a template writes it deeper in the call stack than this.
_MARGIN = 100


def read_json(
    response: requests.Response, of: type, endpoint: str, *, remedy: str = "", replaces_invalid: bool = False
) -> Any:
    """Return the JSON document in *response*.

    :param of: the expected type: dict, list, or object for any type.
    :raises errors.ProviderError: when the body is not JSON, or JSON of another type.
    """
    try:
        document = parse_json(response.content, replaces_invalid=replaces_invalid)
    except ValueError as error:
        content_type, encoding = (response.headers.get(f"Content-{name}", "") for name in ("Type", "Encoding"))
        expected = "UTF-8" if isinstance(error, UnicodeDecodeError) else "JSON"
        reason = "an empty body" if not response.content.strip() else _describe(error)
        message = f"{endpoint}: the response is not {expected} (got {content_type[:60] or 'no type'!a}; {reason})"
        if encoding.lower() in _COMPRESSIONS:
            message = f"{endpoint}: the response has the encoding {encoding}, which was not requested"
            remedy = "let the provider or its proxy compress as Accept-Encoding permits (RFC 9110 12.5.3)"
        raise errors.ProviderError(message, remedy=remedy) from None
    if not isinstance(document, of):
        expected, got = (_NAMES.get(kind, kind.__name__) for kind in (of, type(document)))
        message = f"{endpoint}: the response must be a JSON {expected} (got {got})"
        raise errors.ProviderError(message, remedy=remedy)
    return document


def _describe(error: ValueError) -> str:
    """Return why a document is invalid, and where. The document itself is not quoted, because it can contain tokens."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    if isinstance(error, UnicodeDecodeError):
        return f"invalid at byte {error.start}"
    return "NaN, an infinite or too long number, or deep nesting"


def parse_json(text: bytes, *, replaces_invalid: bool = False) -> Any:
    """Parse *text* strictly: UTF-8, without NaN, infinite numbers (RFC 8259), or too much nesting to be written again.

    :param replaces_invalid: replace invalid UTF-8 by U+FFFD. That changes no quotes, braces or other ASCII characters.
    """
    try:
        document = _DECODER.decode(text.decode("utf-8-sig", "replace" if replaces_invalid else "strict"))
        if text.count(b"[") + text.count(b"{") > _MARGIN:  # each level has a bracket
            padded = document
            for _ in range(_MARGIN):
                padded = [padded]
            json.dumps(padded)  # fails for deep nesting, which Python can read
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return document


def _parse_finite(text: str) -> float:
    """Return the number in *text*. Raise ValueError for NaN and infinite numbers, such as 1e999."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("the number is not finite")
    return number


_DECODER = json.JSONDecoder(parse_float=_parse_finite, parse_constant=_parse_finite)
