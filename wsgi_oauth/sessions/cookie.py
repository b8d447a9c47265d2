"""The session cookie: its name, strict reading, and the Set-Cookie header (RFC 6265, RFC 6265bis)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

COOKIE = "wsgi_oauth"

SESSION_ID = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
"""A session id: 256 random bits from ``secrets.token_urlsafe(32)``."""


def cookie_name(*, secure: bool) -> str:
    """Return the name of the session cookie.

    The ``__Host-`` prefix makes browsers reject a cookie that another host or a plain-http page sets
    (RFC 6265bis 4.1.3.2). It requires https.
    """
    return f"__Host-{COOKIE}" if secure else COOKIE


def session_id_from_cookie(environ: WSGIEnvironment, *, secure: bool) -> str | None:
    """Return the session id in the request's Cookie header, or None when it is missing, malformed or ambiguous."""
    name = cookie_name(secure=secure)
    values = [
        value.strip(' \t"')
        for key, _, value in (pair.partition("=") for pair in environ.get("HTTP_COOKIE", "").split(";"))
        if key.strip(" \t") == name
    ]
    value = unambiguous_value(values)
    return value if value and SESSION_ID.fullmatch(value) else None


def unambiguous_value(values: list[str]) -> str | None:
    """Return the cookie's value, or None when the browser sent two different ones.

    One of the two may come from another host of the domain (RFC 6265 8.6), and the server cannot tell which one.
    """
    return values[0] if len(set(values)) == 1 else None


def build_set_cookie(value: str, *, secure: bool, max_age: int | None = None) -> str:
    """Return the Set-Cookie header (RFC 6265bis 4.1) for the session id *value*.

    :param max_age: seconds until the browser deletes the cookie; None to keep it until the browser is closed.
    """
    attributes = ["Path=/", "HttpOnly", "SameSite=Lax"]
    if max_age is not None:
        attributes.insert(0, f"Max-Age={max_age}")
    if secure:
        attributes.append("Secure")
    return "; ".join([f"{cookie_name(secure=secure)}={value}", *attributes])
