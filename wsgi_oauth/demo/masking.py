"""Mask secrets in the output of the walk and on the trace page.

Only values with a name in :data:`PUBLIC`, and known headers without secrets, are shown in full. All others are treated
as secrets.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from .explanations import ALL_HEADERS

PUBLIC = frozenset(
    {
        *("response_type", "client_id", "redirect_uri", "scope", "code_challenge_method", "iss", "aud"),
        *("grant_type", "token_type", "error", "error_description", "error_uri", "token_type_hint", "message"),
        *("decision", "fault", "next", "provider", "oauth_provider", "claimed", "id", "login", "name", "email"),
        *("sub", "preferred_username", "groups", "user", "chosen", "scope-email", "scope-groups", "remember"),
    }
)

_URLS = {"redirect_uri", "next", "iss", "error_uri"}
_TEXTS = {"error_description", "message"}
_URL_HEADERS = {"location", "referer"}
_PUBLIC_HEADERS = {name.lower() for name in ALL_HEADERS} - {
    *_URL_HEADERS,
    *("cookie", "set-cookie", "authorization", "x-request-id"),
}
_LONGEST_NAME = 24  # characters; a longer name is a secret, such as the states that the session uses as keys


def mask(value: str) -> str:
    """Return the first four characters and the length, so that a secret can be recognized but not used.

    >>> mask("gho_16C7e42F292c6912E7710c838347Ae178B4a")
    'gho_… (40 characters)'
    """
    if not value:
        return value
    shown = value[:4] if len(value) >= 12 else ""
    return f"{shown}… ({len(value)} characters)"


def mask_name(name: str) -> str:
    """Return the name of a parameter or of a JSON member, masked if it is too long for one."""
    return mask(name) if len(name) > _LONGEST_NAME else name


def mask_parameter(name: str, value: str) -> str:
    """Return a parameter's value, masked unless its name is public. A public URL or text can contain secrets, too."""
    if name not in PUBLIC:
        return mask(value)
    if name in _URLS:
        return mask_url(value)
    return mask_text(value) if name in _TEXTS else value


def mask_url(url: str) -> str:
    """Return *url* with the secrets in its query and its fragment masked."""
    rest, hash_sign, fragment = url.partition("#")
    base, question_mark, query = rest.partition("?")
    parameters = "&".join(
        f"{mask_name(name)}={mask_parameter(name, value)}" for name, value in parse_qsl(query, keep_blank_values=True)
    )
    return f"{base}{question_mark}{parameters}{hash_sign}{mask(fragment)}"


def mask_text(text: str) -> str:
    """Return *text* with everything masked that is long enough to be a secret."""
    return re.sub(r"[A-Za-z0-9_\-.~+/=]{20,}", lambda match: mask(match[0]), text)


def mask_header(name: str, value: str) -> str:
    """Return a header's value with its secret masked: ``Basic ZGVt… (36 characters)``."""
    name = name.lower()
    if name == "authorization":
        scheme, space, credentials = value.partition(" ")
        return f"{scheme} {mask(credentials)}" if space else mask(value)
    if name == "cookie":
        return "; ".join(map(_mask_cookie, value.split("; ")))
    if name == "set-cookie":
        cookie, semicolon, attributes = value.partition(";")
        return f"{_mask_cookie(cookie)}{semicolon}{attributes}"
    if name in _URL_HEADERS:
        return mask_url(value)
    return value if name in _PUBLIC_HEADERS else mask(value)


def _mask_cookie(cookie: str) -> str:
    """Return a cookie with its value masked. A cookie without a name is a value (RFC 6265bis 5.6)."""
    name, equals_sign, value = cookie.partition("=")
    return f"{name}={mask(value)}" if equals_sign else mask(cookie)


def mask_json(value: Any, name: str = "") -> Any:
    """Return a copy of a JSON value, with all strings masked whose name is not public."""
    if isinstance(value, dict):
        return {mask_name(key): mask_json(member, key) for key, member in value.items()}
    if isinstance(value, list):
        return [mask_json(member, name) for member in value]
    return mask_parameter(name, value) if isinstance(value, str) else value
