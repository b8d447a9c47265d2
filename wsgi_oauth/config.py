"""The settings: every variable, every default and every check, in one table and one place.

A :class:`Config` that exists is usable; what cannot work is refused when it is made, with the name of the
variable, the value that it had (never a secret) and what would be right.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from . import errors, urls

PREFIX = "WSGI_OAUTH_"
CLIENT_AUTH_METHODS = ("basic", "basic-raw", "post", "none")

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_SECRET = 4096
_UNREAD = "a secret that could not be read"  # stands in for it: one cause, one message
_VSCHAR = re.compile(r"[\x20-\x7e]+")  # RFC 6749 A.1 and A.2: what a client id and a secret consist of


def _text(value: str) -> str:
    return value


def _seconds(value: str) -> int:
    """Read ``90``, ``30m``, ``12h`` or ``7d``."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", value)
    if match is None or not int(match[1]):
        raise ValueError("must be seconds above 0, or a number with s, m, h or d behind it: 30m, 12h, 7d")
    return int(match[1]) * _UNITS[match[2]]


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError("must be a number of seconds") from None


def _count(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", value):
        raise ValueError("must be a whole number: how many proxies stand in front")
    return int(value)


def _setting(default: Any = None, read: Callable[[str], Any] = _text, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"read": read})


@dataclass(frozen=True)
class Config:
    """All settings. Each field is the environment variable ``WSGI_OAUTH_<FIELD>``; lifetimes are in seconds.

    :raises errors.ConfigError: with one line for each setting that cannot work.
    """

    client_id: str = _setting("")
    client_secret: str | None = _setting(secret=True)
    provider: str = _setting("github")
    authorization_url: str | None = _setting()
    token_url: str | None = _setting()
    profile_url: str | None = _setting()
    revocation_url: str | None = _setting()
    issuer: str | None = _setting()
    client_auth: str | None = _setting()
    scope: str | None = _setting()
    public_url: str | None = _setting()
    session_store: str = _setting("")
    session_idle: int = _setting(12 * 3600, _seconds)
    session_lifetime: int = _setting(7 * 86400, _seconds)
    upstream_timeout: float = _setting(10.0, _number)
    trusted_proxies: int = _setting(0, _count)

    def __post_init__(self) -> None:
        if self.public_url:
            object.__setattr__(self, "public_url", self.public_url.rstrip("/"))
        if not self.session_store:
            object.__setattr__(self, "session_store", f"file:{_state_directory({})}")
        problems = [
            f"{PREFIX}{name.upper()} {problem}"
            for name, check in _CHECKS.items()
            if (problem := check(self, getattr(self, name)))
        ]
        if problems:
            raise errors.ConfigError("\n".join(problems))

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Config:
        """Read the ``WSGI_OAUTH_*`` variables of *environ*; an empty one counts as absent.

        :raises errors.ConfigError: for a missing, malformed or misspelt variable.
        """
        given = {k.removeprefix(PREFIX): v.strip() for k, v in environ.items() if k.startswith(PREFIX) and v.strip()}
        problems: list[str] = []
        values: dict[str, Any] = {}
        _take_secret_file(given, problems)
        for setting in fields(cls):
            value = given.pop(setting.name.upper(), None)
            if value is None:
                continue
            try:
                values[setting.name] = setting.metadata["read"](value)
            except ValueError as reason:
                problems.append(f"{PREFIX}{setting.name.upper()} {reason}; it is {value!r}")
        problems += [f"{PREFIX}{name} is not a variable of this version{_did_you_mean(name)}" for name in given]
        values.setdefault("session_store", f"file:{_state_directory(environ)}")
        try:
            config = cls(**values)
        except errors.ConfigError as error:
            reported = {line.split()[0] for line in problems}
            problems += [line for line in error.detail.splitlines() if line.split()[0] not in reported]
        if problems:
            raise errors.ConfigError("\n".join(problems))
        return config


def _take_secret_file(given: dict[str, str], problems: list[str]) -> None:
    """Put the contents of CLIENT_SECRET_FILE where CLIENT_SECRET would be."""
    path = given.pop("CLIENT_SECRET_FILE", None)
    if path is None:
        return
    name = f"{PREFIX}CLIENT_SECRET_FILE"
    if "CLIENT_SECRET" in given:
        problems.append(f"{name} and {PREFIX}CLIENT_SECRET are both set; keep one of them")
        return
    try:
        with open(path, encoding="utf-8-sig") as file:  # some editors put a byte order mark first
            secret = file.read(_LONGEST_SECRET + 1).strip()
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is not UTF-8 text"
        problems.append(f"{name} names {path!r}, which cannot be read: {reason}")
        given["CLIENT_SECRET"] = _UNREAD
        return
    if not secret or len(secret) > _LONGEST_SECRET:
        problems.append(f"{name} names {path!r}, which is {'too large for a secret' if secret else 'empty'}")
    given["CLIENT_SECRET"] = secret or _UNREAD


def _did_you_mean(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # takes time to import, and is for mistakes

    known = [setting.name.upper() for setting in fields(Config)] + ["CLIENT_SECRET_FILE"]
    close = get_close_matches(name, known, 1)
    return f"; did you mean {PREFIX}{close[0]}?" if close else ""


def _state_directory(environ: Mapping[str, str]) -> str:
    """The sessions' folder: under systemd's StateDirectory=, else the user's own (XDG Base Directory Specification)."""
    service = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if service:
        return os.path.join(service, "sessions")
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the specification says to ignore a relative one
        home = environ.get("HOME") or os.path.expanduser("~")
        state = os.path.join(home, ".local", "state")
    return os.path.join(state, "wsgi_oauth", "sessions")


# A check gets the whole configuration and the value, and says what is wrong with it, or nothing.


def _check_client_id(_config: Config, value: str) -> str:
    if not value:
        return (
            "is missing: it is the client id that the provider gave this application when it was registered "
            "(GitHub: https://github.com/settings/developers)"
        )
    return "" if _VSCHAR.fullmatch(value) else f"has characters that no client id has (RFC 6749 A.1); it is {value!a}"


def _check_client_secret(config: Config, value: str | None) -> str:
    if config.client_auth == "none":
        return f"is set, but {PREFIX}CLIENT_AUTH=none says that this client has no secret" if value else ""
    if not value:
        return (
            "is missing: it is the secret that came with the client id; set it, or WSGI_OAUTH_CLIENT_SECRET_FILE, "
            f"or {PREFIX}CLIENT_AUTH=none for a public client"
        )
    return "has a line break or another control character in it" if re.search(r"[\x00-\x1f\x7f]", value) else ""


def _check_client_auth(config: Config, value: str | None) -> str:
    if value == "basic-raw" and ":" in config.client_id:
        return "must be basic or post: with basic-raw a client id must not have a colon in it (RFC 7617 2)"
    if value is None or value in CLIENT_AUTH_METHODS:
        return ""
    return f"must be one of {', '.join(CLIENT_AUTH_METHODS)}; it is {value!r}"


def _check_scope(_config: Config, value: str | None) -> str:
    # RFC 6749 3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
    if value is None or re.fullmatch(r"[\x20\x21\x23-\x5b\x5d-\x7e]*", value):
        return ""
    return f"must be scopes separated by spaces (RFC 6749 3.3); it is {value!a}"


def _check_url(_config: Config, value: str | None) -> str:
    if value is None:
        return ""
    try:
        urls.checked(value)
    except ValueError as reason:
        return f"{reason}; it is {_shown(value)}"
    return ""


def _check_public_url(config: Config, value: str | None) -> str:
    if value and "?" in value:
        return f"must not have a query; it is {_shown(value)}"
    if value and value.endswith("/callback"):
        return f"must be the URL of the application, without /callback; it is {_shown(value)}"
    return _check_url(config, value)


def _check_lifetime(_config: Config, value: int) -> str:
    return "" if 0 < value < 10**9 else f"must be above 0 and at most 30 years, in seconds; it is {value}"


def _check_trusted_proxies(_config: Config, value: int) -> str:
    return "" if value >= 0 else f"must be 0 or more; it is {value}"


def _shown(value: str) -> str:
    """Return *value* for a message, without a password that a URL may carry."""
    return ascii(re.sub(r"//.*@", "//***@", value))


def _check_upstream_timeout(_config: Config, value: float) -> str:
    return "" if 0 < value <= 300 else f"must be seconds above 0, at most 300; it is {value}"


def _check_session_store(_config: Config, value: str) -> str:
    kind, _, place = value.partition(":")
    if kind == "memory" and not place:
        return ""
    if kind == "file" and os.path.isabs(place) and "\0" not in place:
        return ""
    return f"must be file:/an/absolute/path, or memory: for one process; it is {_shown(value)}"


_CHECKS: dict[str, Callable[[Config, Any], str]] = {
    "client_id": _check_client_id,
    "client_secret": _check_client_secret,
    "client_auth": _check_client_auth,
    "authorization_url": _check_url,
    "token_url": _check_url,
    "profile_url": _check_url,
    "revocation_url": _check_url,
    "issuer": _check_url,
    "scope": _check_scope,
    "public_url": _check_public_url,
    "session_store": _check_session_store,
    "session_idle": _check_lifetime,
    "session_lifetime": _check_lifetime,
    "trusted_proxies": _check_trusted_proxies,
    "upstream_timeout": _check_upstream_timeout,
}
