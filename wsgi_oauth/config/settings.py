"""The settings: one line each, with the default, how its variable is parsed, and how its value is checked.

A setting is added as a field of :class:`StoreConfig`, :class:`ProviderConfig` or :class:`SharedConfig`. Its environment
variable is ``WSGI_OAUTH_<FIELD>``. Values that only the list of known providers can judge, such as provider names and
access rules, are checked when the application is created.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar

from .. import errors
from . import checks
from .environ import (
    PREFIX,
    Variables,
    default_session_store,
    parse_count,
    parse_duration,
    parse_seconds,
    parse_words,
    parse_yes_or_no,
    variable_name,
)

THREADS = 16  # threads of a worker in gunicorn.conf.py and the README
UPSTREAM_LIMIT = 12  # below THREADS, because the other threads serve requests that do not need the provider

C = TypeVar("C", bound="StoreConfig")


def _setting(
    default: Any = None,
    parse: Callable[[str], Any] = str,
    check: Callable[[Any], None] | None = None,
    *,
    in_repr: bool = True,
    in_messages: bool = True,
) -> Any:
    metadata = {"parse": parse, "check": check, "in_messages": in_messages}
    return field(default=default, repr=in_repr, metadata=metadata)


def _settings(config: Any) -> list[Field[Any]]:
    """Return the fields of a configuration class or object that are settings."""
    return [each for each in fields(config) if each.metadata]


def _find_problems(config: Any, label: str = "") -> list[str]:
    """Return a message for each setting of *config* with an invalid value."""
    problems = []
    for setting in _settings(config):
        value, check = getattr(config, setting.name), setting.metadata["check"]
        if value is None or check is None:
            continue
        try:
            check(value)
        except ValueError as reason:
            shown = value if setting.metadata["in_messages"] else None
            problems.append(checks.build_message(variable_name(setting.name, label), str(reason), shown))
    return problems


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """The settings of the session store, for tools that manage sessions without signing users in.

    Lifetimes are in seconds.

    :raises errors.ConfigError: with one line for each invalid setting.
    """

    session_store: str = _setting("", check=checks.check_session_store, in_repr=False)  # may contain a password
    session_idle: int = _setting(12 * 3600, parse_duration, checks.check_lifetime)
    session_lifetime: int = _setting(7 * 86400, parse_duration, checks.check_lifetime)
    session_seal: bool = _setting(False, parse_yes_or_no)

    def __post_init__(self) -> None:
        if not self.session_store:
            object.__setattr__(self, "session_store", default_session_store({}))
        if problems := self._problems():
            raise errors.ConfigError("\n".join(problems))

    def _problems(self) -> list[str]:
        return _find_problems(self)

    @property
    def store_name(self) -> str:
        """``session_store`` without a password."""
        return checks.mask_password(self.session_store)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> StoreConfig:
        """Read the ``WSGI_OAUTH_*`` variables of *environ*. An empty variable counts as absent.

        :raises errors.ConfigError: for an invalid or unknown variable.
        """
        variables = Variables(environ)
        values = {"session_store": default_session_store(environ), **variables.read(_settings(StoreConfig))}
        return _build(StoreConfig, values, variables)


@dataclass(frozen=True, kw_only=True)
class ProviderConfig:
    """The settings of one provider. They are checked by the :class:`Config` that contains them."""

    label: str = ""  # from WSGI_OAUTH_PROVIDERS; empty when that is not set
    client_id: str = _setting("", check=checks.check_client_id)
    client_secret: str | None = _setting(check=checks.check_client_secret, in_repr=False, in_messages=False)
    provider: str = _setting("github", check=checks.check_provider)
    authorization_url: str | None = _setting(check=checks.check_url)
    token_url: str | None = _setting(check=checks.check_url)
    profile_url: str | None = _setting(check=checks.check_url)
    revocation_url: str | None = _setting(check=checks.check_url)
    issuer: str | None = _setting(check=checks.check_issuer)
    client_auth: str | None = _setting(check=checks.check_client_auth)
    scope: str | None = _setting(check=checks.check_scope)
    end_session: str | None = _setting(check=checks.check_end_session)

    def variable(self, name: str) -> str:
        """Return the environment variable of the setting *name*."""
        return variable_name(name, self.label)

    def problems(self) -> list[str]:
        """Return a message for each invalid setting and each invalid combination of settings."""
        problems = _find_problems(self, self.label)
        client_id, secret, auth = map(self.variable, ("client_id", "client_secret", "client_auth"))
        if not self.client_id:
            problems.append(
                f"{client_id}: missing; set it to the client id that the provider issued when you registered this "
                "application (GitHub: https://github.com/settings/developers)"
            )
        if self.client_auth == "none" and self.client_secret:
            problems.append(f"{secret}: set although {auth}=none declares a public client; remove one of them")
        elif self.client_auth != "none" and not self.client_secret:
            problems.append(
                f"{secret}: missing; set it or {secret}_FILE to the secret that the provider issued with the client "
                f"id, or set {auth}=none for a public client"
            )
        if self.client_auth == "basic-raw" and ":" in (self.client_id or ""):
            problems.append(
                f"{auth}: basic-raw cannot send a client id that contains a colon (RFC 7617 2); use basic or post"
            )
        return problems


@dataclass(frozen=True, kw_only=True)
class SharedConfig(StoreConfig):
    """The settings of the application that all of its providers share."""

    public_url: str | None = _setting(check=checks.check_public_url)
    upstream_timeout: float = _setting(10.0, parse_seconds, checks.check_upstream_timeout)
    upstream_limit: int = _setting(
        UPSTREAM_LIMIT, parse_count("requests that may wait for the provider"), checks.check_minimum(1)
    )
    trusted_proxies: int = _setting(0, parse_count("proxies"), checks.check_minimum(0))
    allow: tuple[str, ...] = _setting((), parse_words)


@dataclass(frozen=True, init=False)
class Config(SharedConfig):
    """All settings of an application.

    ``Config(client_id="...", client_secret="...", public_url="...")`` configures one provider. Several are given as
    ``Config(providers=[ProviderConfig(label="work", ...), ...], public_url="...")``.

    :raises errors.ConfigError: with one line for each invalid setting.
    :raises TypeError: for an unknown setting, or for a provider's setting together with ``providers``.
    """

    providers: tuple[ProviderConfig, ...]

    def __init__(self, *, providers: Iterable[ProviderConfig] = (), **settings: Any) -> None:
        own = {each.name: settings.pop(each.name) for each in _settings(ProviderConfig) if each.name in settings}
        providers = tuple(providers)
        if own and providers:
            raise TypeError(f"Config: {', '.join(own)} given together with providers; put them into ProviderConfig")
        object.__setattr__(self, "providers", providers or (ProviderConfig(**own),))
        super().__init__(**settings)

    def __post_init__(self) -> None:
        if self.public_url:
            object.__setattr__(self, "public_url", self.public_url.rstrip("/"))
        super().__post_init__()

    def _problems(self) -> list[str]:
        problems = [problem for provider in self.providers for problem in provider.problems()]
        if self.has_labels or len(self.providers) > 1:
            problems += _label_problems([provider.label for provider in self.providers])
        return problems + super()._problems()

    @property
    def has_labels(self) -> bool:
        """Whether providers have labels, which then are a part of their redirect URIs."""
        return bool(self.providers[0].label)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Config:
        """Read the ``WSGI_OAUTH_*`` variables of *environ*. An empty variable counts as absent.

        :raises errors.ConfigError: with one line for each missing, invalid or unknown variable.
        """
        variables = Variables(environ)
        if variables.labels:
            if problems := _label_problems(variables.labels):
                raise errors.ConfigError("\n".join(problems))
            variables.refuse_without_label(_provider_variables())
        providers = []
        for label in variables.labels or [""]:
            secret = variables.read_secret_file("client_secret", label)
            values = variables.read(_settings(ProviderConfig), label)
            providers.append(ProviderConfig(**{"label": label, "provider": label or "github", **secret, **values}))
        shared = {"session_store": default_session_store(environ), **variables.read(_settings(SharedConfig))}
        return _build(Config, {"providers": providers, **shared}, variables)


def _label_problems(labels: list[str]) -> list[str]:
    names = [setting.name for setting in (*_settings(ProviderConfig), *_settings(SharedConfig))]
    try:
        checks.check_labels(labels, names)
    except ValueError as reason:
        return [checks.build_message(f"{PREFIX}PROVIDERS", str(reason))]
    return []


def _build(cls: type[C], values: dict[str, Any], variables: Variables) -> C:
    """Return a *cls* with *values*. Raise one ConfigError for all problems of parsing and checking."""
    labeled = [name for label in variables.labels for name in _provider_variables(label)]
    variables.refuse_unknown([*known_variables(), *labeled], _provider_variables())
    problems = variables.problems
    try:
        config = cls(**values)
    except errors.ConfigError as error:
        problems += error.detail.splitlines()
    if problems:
        raise errors.ConfigError("\n".join(problems))
    return config


def _provider_variables(label: str = "") -> list[str]:
    names = [setting.name for setting in _settings(ProviderConfig)]
    return [variable_name(name, label) for name in (*names, "client_secret_file")]


def known_variables() -> list[str]:
    """Return all environment variables that this program reads, without the labels of providers."""
    shared = [variable_name(setting.name) for setting in _settings(SharedConfig)]
    return [*_provider_variables(), *shared, f"{PREFIX}PROVIDERS"]
