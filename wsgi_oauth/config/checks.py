"""Validate the values of settings.

A check takes the value of one setting and raises ValueError when it is invalid. The text of the error is
``<problem>`` or ``<problem>; <remedy>``. :func:`build_message` adds the name of the setting and its value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from urllib.parse import urlsplit

from .. import urls

CLIENT_AUTH_METHODS = ("basic", "basic-raw", "post", "none")


def build_message(setting: str, reason: str, value: object = None) -> str:
    """Return ``<setting>: <problem> (got <value>); <remedy>``.

    :param reason: the problem, and the remedy after a semicolon.
    :param value: the invalid value; None when it is missing or secret. Passwords in URLs are masked.
    """
    problem, separator, remedy = reason.partition("; ")
    got = ascii(mask_password(value)) if isinstance(value, str) else value
    return f"{setting}: {problem}{'' if value is None else f' (got {got})'}{separator}{remedy}"


def mask_password(url: str) -> str:
    """Return *url* without its user name and password, for messages and logs."""
    if url.startswith("file:"):
        return url  # because the path of a folder can contain an @
    # Everything up to the last @, because the password of a misspelt URL may itself contain @, / and line breaks.
    return re.sub(r":.*@", "://***@", url, flags=re.DOTALL)


def check_client_id(value: str) -> None:
    """Require the characters that RFC 6749 A.1 allows."""
    if not re.fullmatch(r"[\x20-\x7e]*", value):
        raise ValueError("contains characters that are not allowed in a client id (RFC 6749 A.1)")


def check_client_secret(value: str) -> None:
    """Refuse control characters. Others are allowed, because providers issue such secrets despite RFC 6749 A.2."""
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError("contains a line break or another control character")


def check_client_auth(value: str) -> None:
    if value not in CLIENT_AUTH_METHODS:
        raise ValueError(f"must be one of {', '.join(CLIENT_AUTH_METHODS)}")


def check_scope(value: str) -> None:
    """Require the characters of RFC 6749 3.3: ``scope-token = 1*( %x21 / %x23-5B / %x5D-7E )``."""
    if not re.fullmatch(r"[\x20\x21\x23-\x5b\x5d-\x7e]*", value):
        raise ValueError("must be scopes separated by spaces, in ASCII without quotes or backslashes (RFC 6749 3.3)")


def check_url(value: str) -> None:
    """Require an https URL, or http on a loopback host."""
    urls.checked(value)


def check_issuer(value: str) -> None:
    """Require a URL without a query (OpenID Connect Discovery 3, RFC 8414 2)."""
    if "?" in value:
        raise ValueError("must not have a query")
    check_url(value)


def check_provider(value: str) -> None:
    """Check the URL of an issuer. Names are looked up when the application is created."""
    if "://" in value:
        check_issuer(value)


def check_end_session(value: str) -> None:
    if value == "yes":
        return
    try:
        check_url(value)
    except ValueError as reason:
        raise ValueError(f"must be yes or the URL of the provider's end-session endpoint: {reason}") from None


def check_public_url(value: str) -> None:
    if "?" in value:
        raise ValueError("must not have a query")
    if value.endswith("/callback"):
        raise ValueError("must be the URL of the application; remove /callback")
    check_url(value)


def check_lifetime(value: int) -> None:
    if not 0 < value < 10**9:
        raise ValueError("must be above 0 and at most 30 years, in seconds")


def check_upstream_timeout(value: float) -> None:
    if not 0 < value <= 300:
        raise ValueError("must be a number of seconds above 0 and at most 300")


def check_minimum(minimum: int) -> Callable[[int], None]:
    """Return a check that refuses numbers below *minimum*."""

    def check(value: int) -> None:
        if value < minimum:
            raise ValueError(f"must be {minimum} or more")

    return check


def check_session_store(value: str) -> None:
    kind, _, place = value.partition(":")
    if kind in {"redis", "rediss"}:
        _check_redis_url(value)
    elif not (value == "memory:" or (kind == "file" and os.path.isabs(place) and "\0" not in place)):
        raise ValueError("must be file:/an/absolute/path, redis://host:port/db, or memory: for a single process")


def _check_redis_url(value: str) -> None:
    try:
        parts = urlsplit(value)
        host, port, extra = parts.hostname, parts.port, parts.query or parts.fragment
    except ValueError:  # an invalid port or IPv6 address
        host = None
    if not host or port == 0 or extra or not re.fullmatch(r"(/[0-9]{0,9})?", parts.path):
        raise ValueError("must be redis://host:port/db, with user:password@ before the host if needed")


def check_labels(labels: Sequence[str], settings: Collection[str]) -> None:
    """Require short, different labels that cannot be confused with a setting.

    :param settings: the names of all settings.
    """
    for label in labels:
        if not re.fullmatch("[a-z][a-z0-9_]{0,31}", label, re.ASCII):
            raise ValueError(f"invalid label {label!a}; use short names of letters, digits and _, separated by spaces")
        # Otherwise WSGI_OAUTH_SESSION_IDLE could be a setting of the provider "session".
        if any(name.startswith(f"{label}_") for name in settings):
            raise ValueError(f"the label {label!a} is the beginning of other settings; choose another label")
    if len(labels) != len(set(labels)):
        raise ValueError("names a provider twice; give each provider its own label")
