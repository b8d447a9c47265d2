"""The settings: every variable, every default and every check, in one table and one place.

What cannot work is refused when a :class:`Config` is made, with the name of the variable, the value that it had
(never a secret) and what would be right. What only the catalogue knows, names of providers and rules for their users
above all, is looked at when the application is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .. import errors, urls

PREFIX = "WSGI_OAUTH_"
CLIENT_AUTH_METHODS = ("basic", "basic-raw", "post", "none")
THREADS = 16  # of a worker, in gunicorn.conf.py and in the README
UPSTREAM_LIMIT = 12  # so many of them may wait for the provider; the others are for those who do not need it

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_SECRET = 4096
_UNREAD = "a secret that could not be read"  # stands in for it: one cause, one message
_VSCHAR = re.compile(r"[\x20-\x7e]+")  # RFC 6749 A.1: what a client id consists of; secrets do not always (A.2)


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


def _count(of: str) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,5}", value):
            raise ValueError(f"must be a whole number: how many {of}")
        return int(value)

    return read


def _yes(value: str) -> bool:
    if value not in {"yes", "no"}:
        raise ValueError("must be yes or no")
    return value == "yes"


def _words(value: str) -> tuple[str, ...]:
    return tuple(value.split())


def _setting(
    default: Any = None, read: Callable[[str], Any] = _text, *, secret: bool = False, of_a_provider: bool = False
) -> Any:
    return field(default=default, repr=not secret, metadata={"read": read, "of_a_provider": of_a_provider})


_of_a_provider = partial(_setting, of_a_provider=True)  # with several, each has its own


C = TypeVar("C", bound="StoreConfig")


@dataclass(frozen=True)
class StoreConfig:
    """The settings of the session store: enough for whoever looks after sessions and signs nobody in.

    Each field is the environment variable ``WSGI_OAUTH_<FIELD>``; lifetimes are in seconds.

    :raises errors.ConfigError: with one line for each setting that cannot work.
    """

    session_store: str = _setting("", secret=True)  # its URL may have a password in it
    session_idle: int = _setting(12 * 3600, _seconds)
    session_lifetime: int = _setting(7 * 86400, _seconds)
    session_seal: bool = _setting(False, _yes)

    def __post_init__(self) -> None:
        if not self.session_store:
            object.__setattr__(self, "session_store", f"file:{_state_directory({})}")
        if problems := self._problems():
            raise errors.ConfigError("\n".join(problems))

    def _problems(self) -> list[str]:
        own = {setting.name for setting in fields(self)}
        return [
            f"{self.variable(name)} {problem}"
            for name, check in _CHECKS.items()
            if name in own and (problem := check(self, getattr(self, name)))
        ]

    def variable(self, name: str) -> str:
        """Return the environment variable of the setting *name*."""
        return f"{PREFIX}{name.upper()}"

    @property
    def store_name(self) -> str:
        """``session_store`` as people may see it."""
        return _masked(self.session_store)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> StoreConfig:
        """Read the ``WSGI_OAUTH_*`` variables of *environ*; an empty one counts as absent.

        :raises errors.ConfigError: for a missing, malformed or misspelt variable.
        """
        given = _given(environ)
        # A variable that nobody knows may be one of these, misspelt; the others are not ours to judge.
        labels = tuple(f"{label.upper()}_" for label in _labels(given))
        own = {setting.name.upper() for setting in fields(cls)}
        others = set(_variables()) - own
        relevant = {k: v for k, v in given.items() if k not in others and not k.startswith(labels)}
        return _read(relevant, cls)


@dataclass(frozen=True)
class Config(StoreConfig):
    """All settings. Each field is the environment variable ``WSGI_OAUTH_<FIELD>``; lifetimes are in seconds.

    :raises errors.ConfigError: with one line for each setting that cannot work.
    """

    client_id: str = _of_a_provider("")
    client_secret: str | None = _of_a_provider(secret=True)
    provider: str = _of_a_provider("github")
    authorization_url: str | None = _of_a_provider()
    token_url: str | None = _of_a_provider()
    profile_url: str | None = _of_a_provider()
    revocation_url: str | None = _of_a_provider()
    issuer: str | None = _of_a_provider()
    client_auth: str | None = _of_a_provider()
    scope: str | None = _of_a_provider()
    end_session: str | None = _of_a_provider()
    public_url: str | None = _setting()
    upstream_timeout: float = _setting(10.0, _number)
    upstream_limit: int = _setting(UPSTREAM_LIMIT, _count("requests of one worker may wait for the provider"))
    trusted_proxies: int = _setting(0, _count("proxies stand in front"))
    allow: tuple[str, ...] = _setting((), _words)
    #: With several providers: what this one is called here, and the settings of the others.
    label: str = ""
    also: tuple[Config, ...] = ()

    def __post_init__(self) -> None:
        if self.public_url:
            object.__setattr__(self, "public_url", self.public_url.rstrip("/"))
        super().__post_init__()

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.also and (problem := _check_labels([self.label, *(other.label for other in self.also)])):
            problems.append(f"{PREFIX}PROVIDERS {problem}")
        return problems

    def variable(self, name: str) -> str:
        """Return the environment variable of the setting *name*."""
        own = self.label and _SETTINGS[name].metadata["of_a_provider"]
        return f"{PREFIX}{self.label.upper()}_{name.upper()}" if own else super().variable(name)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Config:
        """Read the ``WSGI_OAUTH_*`` variables of *environ*; an empty one counts as absent.

        :raises errors.ConfigError: for a missing, malformed or misspelt variable.
        """
        given = _given(environ)
        labels = _labels(given)
        given.pop("PROVIDERS", None)
        if not labels:
            return _read(given, Config)
        if problem := _check_labels(labels):
            raise errors.ConfigError(f"{PREFIX}PROVIDERS {problem}")
        return _read_several(given, labels)


def _given(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without their prefix, and where sessions are kept."""
    given = {k.removeprefix(PREFIX): v.strip() for k, v in environ.items() if k.startswith(PREFIX) and v.strip()}
    return {"SESSION_STORE": f"file:{_state_directory(environ)}", **given}


def _labels(given: Mapping[str, str]) -> list[str]:
    return [label.lower() for label in given.get("PROVIDERS", "").split()]


def _variables() -> list[str]:
    return [name.upper() for name in _SETTINGS] + ["CLIENT_SECRET_FILE", "PROVIDERS"]


def _variables_of_a_provider() -> set[str]:
    own = {name.upper() for name, setting in _SETTINGS.items() if setting.metadata["of_a_provider"]}
    return own | {"CLIENT_SECRET_FILE"}


def _read(given: dict[str, str], make: Callable[..., C], label: str = "") -> C:
    """Make the configuration that the variables *given* describe, each without its prefix and its provider's label."""
    problems: list[str] = []
    values: dict[str, Any] = {}
    own = f"{PREFIX}{label.upper()}_" if label else PREFIX
    _take_secret_file(given, own, problems)
    for name, setting in _SETTINGS.items():
        value = given.pop(name.upper(), None)
        if value is None:
            continue
        try:
            values[name] = setting.metadata["read"](value)
        except ValueError as reason:
            problems.append(f"{PREFIX}{name.upper()} {reason}; it is {value!r}")
    problems += _unknown(given, _variables())
    try:
        config = make(**values)
    except errors.ConfigError as error:
        reported = {line.split()[0] for line in problems}
        problems += [line for line in error.detail.splitlines() if line.split()[0] not in reported]
    if problems:
        raise errors.ConfigError("\n".join(problems))
    return config


def _read_several(given: dict[str, str], labels: list[str]) -> Config:
    """Give each provider its own variables, ``WSGI_OAUTH_<LABEL>_CLIENT_ID`` and so on, and those that all share."""
    of_a_provider = _variables_of_a_provider()
    problems = [
        f"{PREFIX}{name} is one provider's, and {PREFIX}PROVIDERS gives each a label: "
        f"set {', '.join(f'{PREFIX}{label.upper()}_{name}' for label in labels)}"
        for name in sorted(of_a_provider & given.keys())
    ]
    own = {
        label: {
            name: value for name in of_a_provider if (value := given.pop(f"{label.upper()}_{name}", None)) is not None
        }
        for label in labels
    }
    shared = {name: given.pop(name) for name in _variables() if name in given and name not in of_a_provider}
    of_each = [f"{label.upper()}_{name}" for label in labels for name in sorted(of_a_provider)]
    problems += _unknown(given.keys() - of_a_provider, [*of_each, *_variables()])
    configs: list[Config] = []
    for label in reversed(labels):  # the first holds the others
        others = tuple(reversed(configs)) if label == labels[0] else ()
        try:
            make = partial(Config, label=label, also=others)
            configs.append(_read({"PROVIDER": label, **shared, **own[label]}, make, label))
        except errors.ConfigError as error:
            problems += [line for line in error.detail.splitlines() if line not in problems]
    if problems:
        raise errors.ConfigError("\n".join(problems))
    return configs[-1]


def _take_secret_file(given: dict[str, str], prefix: str, problems: list[str]) -> None:
    """Put the contents of CLIENT_SECRET_FILE where CLIENT_SECRET would be."""
    path = given.pop("CLIENT_SECRET_FILE", None)
    if path is None:
        return
    name = f"{prefix}CLIENT_SECRET_FILE"
    if "CLIENT_SECRET" in given:
        problems.append(f"{name} and {prefix}CLIENT_SECRET are both set; keep one of them")
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


def _unknown(names: Iterable[str], known: Collection[str]) -> list[str]:
    return [f"{PREFIX}{name} is not a variable of this version{_hint(name, known)}" for name in sorted(names)]


def _hint(name: str, known: Collection[str]) -> str:
    label = re.fullmatch(rf"(\w+?)_({'|'.join(_variables_of_a_provider())})", name, re.ASCII)
    if label and f"{label[1]}_CLIENT_ID" not in known:
        return f"; is {label[1].lower()!a} missing from {PREFIX}PROVIDERS?"
    return did_you_mean(name, known, PREFIX)


def did_you_mean(name: str, known: Collection[str], prefix: str = "") -> str:
    """Return what to add to a message about *name*, which is none of those *known*."""
    from difflib import get_close_matches  # noqa: PLC0415  # takes time to import, and is for mistakes

    close = get_close_matches(name, known, 1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


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
        no_secret = f"{config.variable('client_auth')}=none says that this client has no secret"
        return f"is set, but {no_secret}" if value else ""
    if not value:
        return (
            "is missing: it is the secret that came with the client id; set it, or "
            f"{config.variable('client_secret')}_FILE, or {config.variable('client_auth')}=none for a public client"
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


def _check_provider(config: Config, value: str) -> str:
    return _check_issuer(config, value) if "://" in value else ""


def _check_end_session(config: Config, value: str | None) -> str:
    problem = "" if value == "yes" else _check_url(config, value)
    return problem and f"must be yes, or the URL of the provider's end-session endpoint: it {problem}"


def _check_labels(labels: list[str]) -> str:
    if len(labels) != len(set(labels)):
        return "names a provider twice"
    mixed_up = [label for label in labels for name in _SETTINGS if name.startswith(f"{label}_")]
    if mixed_up:
        return f"must not have the label {mixed_up[0]!a}: other variables begin like it"
    wrong = [label for label in labels if not re.fullmatch("[a-z][a-z0-9_]{0,31}", label, re.ASCII)]
    return f"must be short names of letters, digits and _, separated by spaces; {wrong[0]!a} is none" if wrong else ""


def _check_issuer(config: Config, value: str | None) -> str:
    if value and "?" in value:  # OpenID Connect Discovery 3, RFC 8414 2
        return f"must not have a query; it is {_shown(value)}"
    return _check_url(config, value)


def _check_public_url(config: Config, value: str | None) -> str:
    if value and "?" in value:
        return f"must not have a query; it is {_shown(value)}"
    if value and value.endswith("/callback"):
        return f"must be the URL of the application, without /callback; it is {_shown(value)}"
    return _check_url(config, value)


def _check_lifetime(_config: StoreConfig, value: int) -> str:
    return "" if 0 < value < 10**9 else f"must be above 0 and at most 30 years, in seconds; it is {value}"


def _check_trusted_proxies(_config: Config, value: int) -> str:
    return "" if value >= 0 else f"must be 0 or more; it is {value}"


def _shown(value: str) -> str:
    """Return *value* for a message, without a password that a URL may carry."""
    return ascii(_masked(value))


def _masked(url: str) -> str:
    return re.sub(r"//.*@", "//***@", url)


def _check_upstream_timeout(_config: Config, value: float) -> str:
    return "" if 0 < value <= 300 else f"must be seconds above 0, at most 300; it is {value}"


def _check_upstream_limit(_config: Config, value: int) -> str:
    return "" if value >= 1 else f"must be 1 or more; it is {value}"


def _check_session_store(_config: StoreConfig, value: str) -> str:
    kind, _, place = value.partition(":")
    if kind == "memory" and not place:
        return ""
    if kind == "file" and os.path.isabs(place) and "\0" not in place:
        return ""
    if kind in {"redis", "rediss"}:
        return _check_redis(value)
    return f"must be file:/an/absolute/path, redis://host:port/db, or memory: for one process; it is {_shown(value)}"


def _check_redis(value: str) -> str:
    try:
        parts = urlsplit(value)
        extra = parts.query or parts.fragment
        if parts.hostname and parts.port != 0 and re.fullmatch(r"(/[0-9]{0,9})?", parts.path) and not extra:
            return ""
    except ValueError:  # a port that is none
        pass
    masked = re.sub(r":.*@", "://***@", value, flags=re.DOTALL)
    return f"must be redis://host:port/db, perhaps with user:password@ before the host; it is {masked!a}"


_CHECKS: dict[str, Callable[[Any, Any], str]] = {
    "client_id": _check_client_id,
    "client_secret": _check_client_secret,
    "provider": _check_provider,
    "client_auth": _check_client_auth,
    "authorization_url": _check_url,
    "token_url": _check_url,
    "profile_url": _check_url,
    "revocation_url": _check_url,
    "issuer": _check_issuer,
    "scope": _check_scope,
    "end_session": _check_end_session,
    "public_url": _check_public_url,
    "session_store": _check_session_store,
    "session_idle": _check_lifetime,
    "session_lifetime": _check_lifetime,
    "trusted_proxies": _check_trusted_proxies,
    "upstream_timeout": _check_upstream_timeout,
    "upstream_limit": _check_upstream_limit,
}
_SETTINGS = {setting.name: setting for setting in fields(Config) if setting.metadata}
