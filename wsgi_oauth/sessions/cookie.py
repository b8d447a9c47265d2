"""Cookies: their names, the Cookie header and the Set-Cookie header (RFC 6265, RFC 6265bis)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

COOKIE = "wsgi_oauth"

SESSION_ID = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
"""A session id: 256 random bits from ``secrets.token_urlsafe(32)``."""

# The purpose of a cookie is the part of its name after the name of the session cookie. That of a pending sign-in is a
# hash of its state, with this number of characters, and ends with FORM_POST if the provider answers with a form.
PENDING_PURPOSE_LENGTH = 10
FORM_POST = ".post"
SIGN_OUT_PURPOSE = "sign-out"  # the cookie contains the state of the sign-out at the provider
_PENDING_PURPOSE = re.compile(rf"[A-Za-z0-9_-]{{{PENDING_PURPOSE_LENGTH}}}(?:{re.escape(FORM_POST)})?", re.ASCII)


class CookieNames(NamedTuple):
    """The names of a site's cookies.

    The ``__Host-`` prefix makes browsers reject a cookie that another host or a plain-http page sets
    (RFC 6265bis 4.1.3.2). It requires https, and so does the attribute ``Secure``.
    """

    session: str  # the name of the session cookie; the names of the others begin with it
    secure: bool  # whether browsers use https for this site
    site: str = ""  # the URL of a further site, whose session cookie holds a link; empty for the main site

    @classmethod
    def of_site(cls, base_url: str, configured: str = "", *, site: str = "") -> CookieNames:
        """Return the names for the site at *base_url*.

        A port other than 80 and 443 is a part of the name, because browsers send cookies to all ports (RFC 6265 8.5).

        :param configured: the value of ``WSGI_OAUTH_COOKIE_NAME``.
        :param site: *base_url* for a further site.
        """
        parts = urlsplit(base_url)
        secure = parts.scheme == "https"
        name = configured or (COOKIE if parts.port in {None, 80, 443} else f"{COOKIE}_{parts.port}")
        return cls(f"{'__Host-' if secure else ''}{name}", secure, site)

    def name(self, purpose: str = "") -> str:
        """Return the name of the session cookie, or of the cookie for another *purpose*."""
        return f"{self.session}-{purpose}" if purpose else self.session


def read_cookie(environ: WSGIEnvironment, purpose: str = "", *, names: CookieNames) -> str | None:
    """Return the value of the cookie in the request's Cookie header, or None when it is missing or ambiguous."""
    name = names.name(purpose)
    if name not in environ.get("HTTP_COOKIE", ""):
        return None
    return unambiguous_value([value for key, value in read_cookies(environ) if key == name])


def read_cookies(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    """Return the names and values of all cookies, in the order of the Cookie header."""
    pairs = (pair.partition("=") for pair in environ.get("HTTP_COOKIE", "").split(";"))
    return [(name.strip(" \t"), value.strip(' \t"')) for name, _, value in pairs]


def session_id_from_cookie(environ: WSGIEnvironment, purpose: str = "", *, names: CookieNames) -> str | None:
    """Return the session id in the cookie, or None when it is missing, malformed or ambiguous."""
    value = read_cookie(environ, purpose, names=names)
    return value if value and SESSION_ID.fullmatch(value) else None


def pending_cookies(environ: WSGIEnvironment, names: CookieNames) -> list[tuple[str, str]]:
    """Return purpose and value of the cookies of pending sign-ins, the oldest first (RFC 6265 5.4)."""
    prefix = f"{names.session}-"
    if prefix not in environ.get("HTTP_COOKIE", ""):
        return []
    found = [(name.removeprefix(prefix), value) for name, value in read_cookies(environ) if name.startswith(prefix)]
    return [(purpose, value) for purpose, value in found if _PENDING_PURPOSE.fullmatch(purpose)]


def unambiguous_value(values: list[str]) -> str | None:
    """Return the cookie's value, or None when the browser sent two different ones."""
    # One of them may come from another host of the domain (RFC 6265 8.6), and the server cannot tell which one.
    return values[0] if len(set(values)) == 1 else None


def build_set_cookie(value: str, purpose: str = "", *, names: CookieNames, max_age: int | None = None) -> str:
    """Return the Set-Cookie header (RFC 6265bis 4.1) for *value*.

    With a form from another site, browsers send only cookies with ``SameSite=None``, which also need ``Secure``. On
    loopback hosts, browsers accept ``Secure`` over http.

    :param max_age: seconds until the browser deletes the cookie; None to keep it until the browser is closed.
    """
    is_cross_site = purpose.endswith(FORM_POST)
    age = "" if max_age is None else f"Max-Age={max_age}; "
    secure = "Secure; " if names.secure or is_cross_site else ""
    same_site = "None" if is_cross_site else "Lax"
    return f"{names.name(purpose)}={value}; {age}{secure}HttpOnly; Path=/; SameSite={same_site}"


def own_cookies_pattern(name: str) -> re.Pattern[str]:
    """Return the pattern of the cookies of this program, on every port, in a Cookie header.

    Cookies of the application, such as ``app-theme`` beside the session cookie ``app``, do not match. A comma separates
    cookies, too, because servers join several Cookie headers with it.

    :param name: the name of the session cookie, without ``__Host-`` and the port.
    """
    port = "(?:_[0-9]+)?" if name == COOKIE else ""  # a configured name never contains the port
    pending = rf"-{_PENDING_PURPOSE.pattern}\s*=[\s\"]*{SESSION_ID.pattern}[\s\"]*(?=[;,]|$)"
    others = rf"(?:-{SIGN_OUT_PURPOSE})?\s*=[^;,]*"
    return re.compile(rf"(?:^|[;,])\s*(?:__Host-)?{re.escape(name)}{port}(?:{pending}|{others})")
