"""Strict reading of JSON documents from a provider."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, NoReturn

import requests

from .. import errors


def read_json(response: requests.Response, of: type, endpoint: str) -> Any:
    """Return the JSON document in *response*.

    :param of: the expected type: dict, list, or object for any type.
    :param endpoint: name of the endpoint for the error message.
    :raises errors.ProviderError: when the body is not JSON, or JSON of another type.
    """
    try:
        document = parse_json(response.content)
    except ValueError:
        raise errors.ProviderError(f"{endpoint}: the response is not JSON") from None
    if not isinstance(document, of):
        raise errors.ProviderError(
            f"{endpoint}: the response must be a JSON {of.__name__} (got {type(document).__name__})"
        )
    return document


def parse_json(text: bytes) -> Any:
    """Parse *text* strictly: UTF-8, no NaN and no infinite numbers (RFC 8259), limited nesting.

    :raises ValueError: when it is not valid JSON.
    """
    try:
        return json.loads(text.decode("utf-8-sig"), parse_constant=_refuse_constant, parse_float=_parse_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse_finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):  # for example 1e999
        raise ValueError(f"{digits} is too large")
    return number
