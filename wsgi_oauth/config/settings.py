"""The settings: one line each, with the default and the check of its value.

A setting is added as a field of :class:`StoreConfig`, :class:`ProviderConfig` or :class:`SharedConfig`. Its environment
variable is ``WSGI_OAUTH_<FIELD>``. Provider names and access rules are checked when the application is created.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from hashlib import sha256
from typing import Any, TypeVar

from .. import errors
from ..urls import Origin
from . import checks
from .provider import Provider
from .secret_file import read_secret

PREFIX = "WSGI_OAUTH_"
THREADS = 16  # threads of a worker in gunicorn_conf.py and docs/servers.md
# Three quarters of THREADS, because the other threads serve requests that do not need the provider. transport/limit.py
# lowers this default in a server with fewer threads.
UPSTREAM_LIMIT = 12

# Variables that Kubernetes and Docker set in each container for a service with a name that begins with "wsgi-oauth":
# https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
_SERVICE_VARIABLE = r"(?a)_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)\Z"

C = TypeVar("C", bound="StoreConfig")


def _setting(default: Any, check: Callable[[Any], Any], *, in_repr: bool = True) -> Any:
    return field(default=default, repr=in_repr, metadata={"check": check})


def _url_setting(default: Any, check: Callable[[Any, Collection[str]], Any]) -> Any:
    """Return a field with a check that also takes the hosts for which plain http is accepted."""
    return field(default=default, metadata={"check": check, "is_url": True})


def _settings(config: Any) -> list[Field[Any]]:
    return [each for each in fields(config) if each.metadata]


def variable_name(setting: str, label: str = "") -> str:
    """Return the environment variable of *setting*; with *label*, that of a provider."""
    return f"{PREFIX}{label}{'_' if label else ''}{setting}".upper()


def _check_settings(config: Any, label: str = "", http_hosts: Collection[str] = ()) -> list[str]:
    """Replace the value of each setting by the result of its check. Return a message for each invalid value."""
    problems = []
    for setting in _settings(config):
        value = getattr(config, setting.name)
        if value is None:
            object.__setattr__(config, setting.name, setting.default)
        if value is None or value is setting.default:  # each default is valid
            continue
        try:
            arguments = (value, http_hosts) if "is_url" in setting.metadata else (value,)
            object.__setattr__(config, setting.name, setting.metadata["check"](*arguments))
        except ValueError as reason:
            problem, separator, remedy = str(reason).partition("; ")
            shown = value
            if isinstance(shown, str) and setting.name != "allow":  # rules contain addresses, and no password
                shown = checks.mask_password(shown)
            got = "" if setting.name == "client_secret" else f" (got {shown!a})"
            if isinstance(value, Provider):
                got = f" (in the description of {value.name!a})"
            problems.append(f"{variable_name(setting.name, label)}: {problem}{got}{separator}{remedy}")
        except (AttributeError, TypeError):
            problem = f"must not be of the type {type(value).__name__}; write a text, as in the environment variable"
            problems.append(f"{variable_name(setting.name, label)}: {problem}")
    return problems


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """The settings of the session store, for tools that manage sessions without signing users in.

    Lifetimes are in seconds.

    :raises errors.ConfigError: with one line for each invalid setting.
    """

    # None becomes the default folder. The value is not in the repr, because it may contain a password.
    session_store: str = _setting(None, checks.check_session_store, in_repr=False)
    session_idle: int = _setting(12 * 3600, checks.check_lifetime)
    session_lifetime: int = _setting(7 * 86400, checks.check_lifetime)
    session_seal: bool = _setting(False, checks.check_yes_or_no)
    sign_in_lifetime: int = _setting(3600, checks.check_lifetime)

    def __post_init__(self) -> None:
        if not self.session_store:
            client_ids = [each.client_id for each in getattr(self, "providers", ())]
            object.__setattr__(self, "session_store", _default_session_store({}, client_ids))
        if problems := self._problems():
            raise errors.ConfigError("\n".join(problems))

    def _problems(self) -> list[str]:
        return _check_settings(self)

    @property
    def store_name(self) -> str:
        """``session_store`` without a password."""
        return checks.mask_password(self.session_store)

    @classmethod
    def from_environ(cls: type[C], environ: Mapping[str, str]) -> C:  # noqa: PYI019  # Python 3.10 has no Self
        """Read the ``WSGI_OAUTH_*`` variables of *environ*. An empty variable counts as absent.

        :raises errors.ConfigError: with one line for each missing, invalid or unknown variable.
        """
        # Some loaders of .env files take a byte order mark for a part of the first name.
        named = {name.removeprefix("\ufeff"): text.strip() for name, text in environ.items()}
        # Compose and systemd files set empty variables.
        variables = {name: text for name, text in named.items() if name.startswith(PREFIX) and text}
        labels = variables.get(f"{PREFIX}PROVIDERS", "").lower().split()
        _check_labels(labels)  # otherwise the messages below would contain an invalid label
        problems = _find_unknown(variables.keys(), labels)
        for name in _find_quoted(variables):
            problems.append(f"{name}: the value is in quotes; remove them, because they are a part of the value here")
            variables[name] = variables[name][1:-1]  # otherwise a second message would be about the quotes
        client_ids = [text for name, text in variables.items() if name.endswith("CLIENT_ID")]
        values = {"session_store": _default_session_store(environ, client_ids), **_read(cls, variables)}
        if issubclass(cls, Config):
            values["providers"] = _read_providers(variables, labels, problems)
        try:
            config = cls(**values)
        except errors.ConfigError as error:
            problems += error.detail.splitlines()
        if problems:
            raise errors.ConfigError("\n".join(problems))
        return config


@dataclass(frozen=True, kw_only=True)
class ProviderConfig:
    """The settings of one provider. They are checked by the :class:`Config` that contains them."""

    label: str = ""  # from WSGI_OAUTH_PROVIDERS; empty if that variable is not set
    client_id: str = _setting("", checks.check_client_id)
    client_secret: str | None = _setting(None, checks.check_client_secret, in_repr=False)
    client_secret_file: str | None = _setting(None, str)  # read if client_secret is missing, and when the file changes
    provider: str | Provider = _url_setting("github", checks.check_provider)  # noqa: RUF009  # a dataclass field
    authorization_url: str | None = _url_setting(None, checks.check_url)
    token_url: str | None = _url_setting(None, checks.check_url)
    profile_url: str | None = _url_setting(None, checks.check_url)
    revocation_url: str | None = _url_setting(None, checks.check_url)
    issuer: str | None = _url_setting(None, checks.check_issuer)
    client_auth: str | None = _setting(None, checks.check_client_auth)
    client_key_file: str | None = _setting(None, str)  # a private key, PEM or JWK
    client_key_id: str | None = _setting(None, checks.check_client_id)
    client_key_issuer: str | None = _setting(None, checks.check_client_id)  # for client secrets made from the key
    client_assertion_file: str | None = _setting(None, str)  # read for each request to the token endpoint
    pushed_requests: bool | None = _setting(None, checks.check_yes_or_no)
    response_mode: str | None = _setting(None, checks.check_response_mode)
    scope: str | None = _setting(None, checks.check_scope)
    end_session: str | None = _url_setting(None, checks.check_end_session)
    discovery_url: str | None = _url_setting(None, checks.check_url)
    authorization_parameters: tuple[tuple[str, str], ...] = _setting((), checks.check_parameters)
    login_parameters: tuple[str, ...] = _setting((), checks.check_login_parameters)
    pkce: bool | None = _setting(None, checks.check_yes_or_no)
    subject_claim: str | None = _setting(None, checks.check_claim_paths)
    username_claim: str | None = _setting(None, checks.check_claim_paths)
    name_claim: str | None = _setting(None, checks.check_claim_paths)
    email_claim: str | None = _setting(None, checks.check_claim_paths)
    groups_claim: str | None = _setting(None, checks.check_claim_paths)
    trust_unverified_email: bool = _setting(False, checks.check_yes_or_no)
    title: str = _setting("", checks.check_name)  # the provider's name on pages

    def variable(self, name: str) -> str:
        """Return the environment variable of the setting *name*."""
        return variable_name(name, self.label)

    def with_own_variables(self, text: str) -> str:
        """Return *text* with the names of this provider's variables, which contain its label."""
        names = "|".join(_provider_settings()).upper()
        return re.sub(rf"\b{PREFIX}({names})\b", lambda match: self.variable(match[1]), text)

    def problems(self, http_hosts: Collection[str] = ()) -> list[str]:
        """Return a message for each invalid setting and each invalid combination of settings."""
        problems = []
        if self.client_secret_file and self.client_secret is None:
            try:
                secret = checks.check_client_secret(read_secret(self.client_secret_file))
                object.__setattr__(self, "client_secret", secret)
            except ValueError as problem:
                name = self.variable("client_secret_file")
                problems.append(f"{name}: the file {problem} (got {self.client_secret_file!a})")
        is_unreadable = bool(problems)
        problems += _check_settings(self, self.label, http_hosts)
        client_id, secret, auth = map(self.variable, ("client_id", "client_secret", "client_auth"))
        if not self.client_id:
            place = " (https://github.com/settings/developers)" if self.provider == "github" else ""
            problems.append(
                f"{client_id}: missing; set it to the client id that the provider issued when you registered this "
                f"application{place}"
            )
        if self.client_auth == "none" and self.client_secret:
            problems.append(f"{secret}: set although {auth}=none declares a public client; remove one of them")
        problems += self._key_problems()
        if self.client_auth != "none" and not (self.client_secret or self.has_key or is_unreadable):
            problems.append(
                f"{secret}: missing; set it or {secret}_FILE to the secret that the provider issued with the client "
                f"id, or {self.variable('client_key_file')} to the client's private key, or set {auth}=none for a "
                "public client"
            )
        if self.client_auth == "basic-raw" and ":" in self.client_id:
            problems.append(
                f"{auth}: basic-raw cannot send a client id that contains a colon (RFC 7617 2); use basic or post"
            )
        return problems

    @property
    def has_key(self) -> bool:
        """Whether the client authenticates with a key or an assertion in place of a secret."""
        return bool(self.client_key_file or self.client_assertion_file)

    def _key_problems(self) -> list[str]:
        """Return a message for each setting that contradicts the client's key or assertion."""
        key, assertion = self.variable("client_key_file"), self.variable("client_assertion_file")
        secret, auth = self.variable("client_secret"), self.variable("client_auth")
        problems = []
        if self.client_key_file and self.client_assertion_file:
            problems.append(f"{assertion}: set together with {key}; remove one of them")
        if self.has_key and self.client_secret:
            problems.append(f"{secret}: set together with {key if self.client_key_file else assertion}; remove it")
        if self.has_key and self.client_auth not in {None, "private_key_jwt"}:
            problems.append(f"{auth}: must be private_key_jwt with a key (got {self.client_auth!a}); remove it")
        if self.client_auth == "private_key_jwt" and not self.has_key:
            problems.append(f"{auth}: private_key_jwt needs a key; set {key} or {assertion}")
        without_key = () if self.client_key_file else ("client_key_id", "client_key_issuer")
        unused = [self.variable(name) for name in without_key if getattr(self, name)]
        return problems + [f"{variable}: has no effect without {key}; set {key}" for variable in unused]


@dataclass(frozen=True, kw_only=True)
class SharedConfig(StoreConfig):
    """The settings of an application that apply to all its providers."""

    public_url: str | None = _url_setting(None, checks.check_public_url)
    sites: tuple[str, ...] = _url_setting((), checks.check_sites)
    upstream_timeout: float = _setting(10.0, checks.check_upstream_timeout)
    upstream_limit: int = _setting(UPSTREAM_LIMIT, checks.check_number("requests that may wait for the provider", 1))
    trusted_proxies: int = _setting(0, checks.check_number("proxies", 0))
    allow: tuple[str, ...] = _setting((), checks.check_rules)
    remote_user: str = _setting("id", checks.check_remote_user)
    tokens: bool = _setting(False, checks.check_yes_or_no)
    token_lifetime: int = _setting(365 * 86400, checks.check_lifetime)
    bearer_audience: str = _setting("", checks.check_audience)
    cookie_name: str = _setting("", checks.check_cookie_name)
    insecure_http_hosts: tuple[str, ...] = _setting((), checks.check_hosts)
    name: str = _setting("", checks.check_name)  # the application's name on pages
    templates: str = _setting("", checks.check_folder)  # a folder with templates that replace built-in ones
    metrics: bool = _setting(False, checks.check_yes_or_no)
    log_format: str = _setting("text", checks.check_log_format)  # for gunicorn_conf.py
    recheck: int = _setting(3600, checks.check_recheck)  # seconds; 0 means never
    providers: tuple[ProviderConfig, ...] = ()


@dataclass(frozen=True, init=False, repr=False, eq=False)  # SharedConfig compares and shows all fields
class Config(SharedConfig):
    """All settings of an application.

    ``Config(client_id="...", client_secret="...", public_url="...")`` configures one provider. Several are given as
    ``Config(providers=[ProviderConfig(label="work", ...), ...], public_url="...")``. ``provider`` is a name, the URL of
    an issuer, or a :class:`Provider`. A setting that is None has its default.

    :raises errors.ConfigError: with one line for each invalid setting.
    :raises TypeError: for an unknown setting, or for a provider's setting together with ``providers``.
    """

    def __init__(self, *, providers: Iterable[ProviderConfig] = (), **settings: Any) -> None:
        own = {each.name: settings.pop(each.name) for each in _settings(ProviderConfig) if each.name in settings}
        providers = tuple(providers)
        if own and providers:
            raise TypeError(f"Config: {', '.join(own)} given together with providers; put them into ProviderConfig")
        super().__init__(providers=providers or (ProviderConfig(**own),), **settings)

    def _problems(self) -> list[str]:
        if self.has_labels or len(self.providers) > 1:
            _check_labels([provider.label for provider in self.providers])
        try:
            http_hosts = checks.check_hosts(self.insecure_http_hosts or ())
        except (AttributeError, TypeError, ValueError):  # _check_settings reports it below
            http_hosts = ()
        problems = [problem for each in self.providers for problem in each.problems(http_hosts)]
        return problems + (_check_settings(self, http_hosts=http_hosts) or self._find_site_problems())

    def _find_site_problems(self) -> list[str]:
        """Return a message if the main site is unknown, or if two sites have the same host, and so the same cookies."""
        if not self.sites:
            return []
        setting = variable_name("sites")
        if not self.public_url:
            return [f"{setting}: requires the URL of the main site, where users sign in; set {PREFIX}PUBLIC_URL"]
        hosts = [Origin.of(url).host for url in (self.public_url, *self.sites)]
        return [
            f"{setting}: names a host twice, or that of {PREFIX}PUBLIC_URL (got {host!a}); name each host once"
            for host in dict.fromkeys(hosts)
            if hosts.count(host) > 1
        ]

    @property
    def has_labels(self) -> bool:
        """Whether providers have labels. These are parts of the redirect URIs."""
        return bool(self.providers[0].label)


def _read(config: type, variables: Mapping[str, str], label: str = "") -> dict[str, Any]:
    """Return the text of each setting of *config* that is set."""
    names = {setting.name: variable_name(setting.name, label) for setting in _settings(config)}
    return {setting: variables[name] for setting, name in names.items() if name in variables}


def _read_providers(variables: Mapping[str, str], labels: list[str], problems: list[str]) -> list[ProviderConfig]:
    """Return the settings of each provider, and add a message for each problem to *problems*."""
    for setting in _provider_settings() if labels else []:
        if (name := variable_name(setting)) in variables:
            own = ", ".join(variable_name(setting, label) for label in labels)
            problems.append(f"{name}: must name its provider, because {PREFIX}PROVIDERS is set; instead set {own}")
    providers = []
    for label in labels or [""]:
        values = {"label": label, "provider": label or "github", **_read(ProviderConfig, variables, label)}
        secret, file = variable_name("client_secret", label), variable_name("client_secret_file", label)
        if secret in variables and file in variables:
            problems.append(f"{file}: set together with {secret}; remove one of them")
        providers.append(ProviderConfig(**values))
    return providers


def _find_unknown(variables: Collection[str], labels: list[str]) -> list[str]:
    """Return a message for each unknown variable, because it is probably misspelt."""
    problems = []
    known = {*known_variables(), *(variable_name(name, label) for name in _provider_settings() for label in labels)}
    settings = "|".join(_provider_settings()).upper()
    for name in sorted(name for name in set(variables) - known if not re.search(_SERVICE_VARIABLE, name)):
        remedy = did_you_mean(name.upper(), known) or "remove it, or correct its name"
        match = re.fullmatch(rf"{PREFIX}(\w+?)_({settings})", name, re.ASCII)
        if match and match[1].lower() not in labels:
            remedy = f"is {match[1].lower()!a} missing from {PREFIX}PROVIDERS?"
        problems.append(f"{name}: unknown variable; {remedy}")
    return problems


def _find_quoted(variables: Mapping[str, str]) -> list[str]:
    """Return the names of variables with quotes, which `docker run --env-file` does not remove."""
    # In access rules, quotes are part of the syntax.
    return [
        name
        for name, text in variables.items()
        if name != f"{PREFIX}ALLOW" and len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    ]


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return a question that suggests the name among *known* that is most similar to *name*, or an empty string."""
    close = get_close_matches(name, known, 1, cutoff=0.8)
    return f"did you mean {close[0]}?" if close else ""


def _check_labels(labels: list[str]) -> None:
    """Require short, different labels that cannot be confused with a setting."""
    problem = ""
    for label in labels:
        if not re.fullmatch("[a-z][a-z0-9_]{0,31}", label, re.ASCII):
            problem = f"invalid label {label!a}; use short names of letters, digits and _, separated by spaces"
        # Otherwise WSGI_OAUTH_SESSION_IDLE could be a setting of the provider "session".
        elif any(name.startswith(variable_name("", label)) for name in known_variables()):
            problem = f"the label {label!a} is the beginning of other settings; choose another label"
    if len(labels) != len(set(labels)):
        problem = "names a provider twice; give each provider its own label"
    if problem:
        raise errors.ConfigError(f"{PREFIX}PROVIDERS: {problem}")


def _provider_settings() -> list[str]:
    return [setting.name for setting in _settings(ProviderConfig)]


def known_variables() -> list[str]:
    """Return all environment variables that this program reads, without the labels of providers."""
    shared = [setting.name for setting in _settings(SharedConfig)]
    return [variable_name(name) for name in (*_provider_settings(), *shared, "providers")]


def _default_session_store(environ: Mapping[str, str], client_ids: Iterable[str]) -> str:
    """Return ``file:`` and a folder in systemd's ``StateDirectory=``, otherwise in the user's XDG state directory.

    A user may run several applications, so the name of the folder in their directory depends on the client ids. Without
    a home directory, as in some containers, return an empty text.
    """
    service = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if service:
        return f"file:{os.path.join(service, 'sessions')}"
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the specification says to ignore relative paths
        home = environ.get("HOME") or os.path.expanduser("~")
        if home.startswith("~"):  # neither HOME nor an entry in the user database
            return ""
        state = os.path.join(home, ".local", "state")
    application = sha256(" ".join(sorted(map(str, client_ids))).encode()).hexdigest()[:8]
    return f"file:{os.path.join(state, 'wsgi_oauth', f'sessions-{application}')}"
