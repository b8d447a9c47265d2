"""The cookies: their names, strict reading, and the Set-Cookie header (RFC 6265, RFC 6265bis)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

COOKIE = "wsgi_oauth"

_OWN_COOKIES = re.compile(rf"(?:^|;)[ \t]*(?:__Host-)?{COOKIE}(?:-[^=;]*)?[ \t]*=[^;]*")

SESSION_ID = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
"""A session id: 256 random bits from ``secrets.token_urlsafe(32)``."""

PENDING_PURPOSE_LENGTH = 10  # characters of the name of a sign-in's cookie, after the name of the session cookie
_PENDING_NAME = re.compile(rf"(?:__Host-)?{COOKIE}-([A-Za-z0-9_-]{{{PENDING_PURPOSE_LENGTH}}})", re.ASCII)


def cookie_name(purpose: str = "", *, secure: bool) -> str:
    """Return the name of the session cookie, or of the cookie for another *purpose*.

    The ``__Host-`` prefix makes browsers reject a cookie that another host or a plain-http page sets
    (RFC 6265bis 4.1.3.2). It requires https.
    """
    return f"{'__Host-' if secure else ''}{COOKIE}{'-' if purpose else ''}{purpose}"


def read_cookie(environ: WSGIEnvironment, purpose: str = "", *, secure: bool) -> str | None:
    """Return the value of the cookie in the request's Cookie header, or None when it is missing or ambiguous."""
    name = cookie_name(purpose, secure=secure)
    if name not in environ.get("HTTP_COOKIE", ""):
        return None
    return unambiguous_value([value for key, value in read_cookies(environ) if key == name])


def read_cookies(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    """Return the names and values of all cookies, in the order of the Cookie header."""
    pairs = (pair.partition("=") for pair in environ.get("HTTP_COOKIE", "").split(";"))
    return [(name.strip(" \t"), value.strip(' \t"')) for name, _, value in pairs]


def session_id_from_cookie(environ: WSGIEnvironment, purpose: str = "", *, secure: bool) -> str | None:
    """Return the session id in the cookie, or None when it is missing, malformed or ambiguous."""
    value = read_cookie(environ, purpose, secure=secure)
    return value if value and SESSION_ID.fullmatch(value) else None


def pending_cookies(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    """Return purpose and value of the cookies of pending sign-ins, the oldest first (RFC 6265 5.4)."""
    if f"{COOKIE}-" not in environ.get("HTTP_COOKIE", ""):
        return []
    found = [(_PENDING_NAME.fullmatch(name), value) for name, value in read_cookies(environ)]
    return [(match[1], value) for match, value in found if match]


def unambiguous_value(values: list[str]) -> str | None:
    """Return the cookie's value, or None when the browser sent two different ones.

    One of the two may come from another host of the domain (RFC 6265 8.6), and the server cannot tell which one.
    """
    return values[0] if len(set(values)) == 1 else None


def build_set_cookie(value: str, purpose: str = "", *, secure: bool, max_age: int | None = None) -> str:
    """Return the Set-Cookie header (RFC 6265bis 4.1) for *value*.

    :param max_age: seconds until the browser deletes the cookie; None to keep it until the browser is closed.
    """
    attributes = ["Path=/", "HttpOnly", "SameSite=Lax"]
    if max_age is not None:
        attributes.insert(0, f"Max-Age={max_age}")
    if secure:
        attributes.append("Secure")
    return "; ".join([f"{cookie_name(purpose, secure=secure)}={value}", *attributes])


def without_own_cookies(header: str) -> str:
    """Return a Cookie header without the cookies of this program, which no other application may see."""
    return _OWN_COOKIES.sub("", header).lstrip("; \t")
