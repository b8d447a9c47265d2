"""Mask secrets in the output of the walk.

Only values whose name is in :data:`PUBLIC` are printed in full. All others are treated as secrets.
"""

from __future__ import annotations

from typing import Any

PUBLIC = frozenset(
    {
        *("response_type", "client_id", "redirect_uri", "scope", "code_challenge_method", "iss", "aud"),
        *("grant_type", "token_type", "error", "error_description", "error_uri", "token_type_hint", "message"),
        *("decision", "fault", "next", "provider", "oauth_provider", "claimed", "id", "login", "name", "email"),
        *("sub", "preferred_username", "groups", "user", "chosen", "scope-email", "scope-groups", "remember"),
        *("Cache-Control", "Retry-After", "WWW-Authenticate"),
    }
)


def mask(value: str) -> str:
    """Return the first four characters and the length, so that a secret can be recognized but not used.

    >>> mask("gho_16C7e42F292c6912E7710c838347Ae178B4a")
    'gho_… (40 characters)'
    """
    if not value:
        return value
    shown = value[:4] if len(value) >= 12 else ""
    return f"{shown}… ({len(value)} characters)"


def mask_parameter(name: str, value: str) -> str:
    """Return a parameter's value, masked unless its name is public."""
    return value if name in PUBLIC else mask(value)


def mask_header(name: str, value: str) -> str:
    """Return a header's value with its secret masked: ``Basic ZGVt… (36 characters)``."""
    if name == "Authorization":
        scheme, _, credentials = value.partition(" ")
        return f"{scheme} {mask(credentials)}"
    if name == "Cookie":
        cookies = [cookie.partition("=") for cookie in value.split("; ")]
        return "; ".join(f"{key}={mask(secret)}" for key, _, secret in cookies)
    if name == "Set-Cookie":
        cookie, semicolon, attributes = value.partition(";")
        key, _, secret = cookie.partition("=")
        return f"{key}={mask(secret)}{semicolon}{attributes}"
    return mask_parameter(name, value)


def mask_json(value: Any, name: str = "") -> Any:
    """Return a copy of a JSON value, with all strings masked whose name is not public.

    Keys longer than 24 characters are masked too, because the session uses states as keys.
    """
    if isinstance(value, dict):
        return {mask(key) if len(key) > 24 else key: mask_json(member, key) for key, member in value.items()}
    if isinstance(value, list):
        return [mask_json(member, name) for member in value]
    return mask_parameter(name, value) if isinstance(value, str) else value
