"""Check the values of settings.

A check takes the value of one setting, or its text from the environment. It returns the value, or raises ValueError
with ``<problem>`` or ``<problem>; <remedy>``.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Collection, Iterable
from math import nan
from urllib.parse import parse_qsl

from .. import urls
from ..redis_url import SCHEMES, RedisURL
from .provider import EmailsDocument, GroupsDocument, Provider

CLIENT_AUTH_METHODS = ("basic", "basic-raw", "post", "none", "private_key_jwt")

# Parameters on which the security of a sign-in depends. `request` and `request_uri` replace all (RFC 9101).
_RESERVED_PARAMETERS = {
    "client_id": "WSGI_OAUTH_CLIENT_ID",
    "client_secret": "WSGI_OAUTH_CLIENT_SECRET",
    "redirect_uri": "WSGI_OAUTH_PUBLIC_URL",
    "scope": "WSGI_OAUTH_SCOPE",
    "code_challenge": "WSGI_OAUTH_PKCE",
    "code_challenge_method": "WSGI_OAUTH_PKCE",
    "response_mode": "WSGI_OAUTH_RESPONSE_MODE",
    **dict.fromkeys(("response_type", "state", "nonce", "request", "request_uri"), "the application"),
}
# Parameters of the link to the sign-in (OpenID Connect Core 4 for the last two).
_OWN_PARAMETERS = {"next", "provider", "switch", "again", "reauthenticate", "iss", "target_link_uri"}

_QUOTES_REMEDY = (
    """put values with special characters in quotes, for example group:"O'Brien, Inc." or group:'CORP\\Admins'"""
)
_ENDPOINTS = ("authorization", "token", "profile", "revocation", "end_session")
MAX_LIFETIME = 10**9  # seconds
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def mask_password(url: str) -> str:
    """Return *url* without its user name and password, for messages and logs."""
    if url.startswith("file:"):
        return url  # the path of a folder can contain an @
    # Mask everything up to the last @, because the password in a misspelt URL may contain @, / and line breaks.
    masked = re.sub(r":.*@", "://***@", url, flags=re.DOTALL)
    if not masked.startswith("http"):  # the URL of a store
        # A misspelt URL can have the password in its query, or without an @ behind it.
        masked = re.sub(r"(?<=\?)(?!(?:ssl_\w+=[^&=]*(?:&|\Z))+\Z).*|(?<=://):.*", "***", masked, flags=re.DOTALL)
    return masked


def _check_pattern(pattern: str, problem: str) -> Callable[[str], str]:
    """Return a check that raises *problem* for a text that does not match *pattern*."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(problem)
        return value

    return check


check_client_id = _check_pattern(
    r"[\x20-\x7e]*", "contains characters that are not allowed in a client id (RFC 6749 A.1)"
)
# Providers issue secrets with other characters than RFC 6749 A.2 allows.
check_client_secret = _check_pattern(
    r"[^\x00-\x1f\x7f\u200b-\u200f\u2028-\u202e\u2060\ufeff]*",
    "contains a line break, a control character or an invisible character",
)
check_client_auth = _check_pattern("|".join(CLIENT_AUTH_METHODS), f"must be one of {', '.join(CLIENT_AUTH_METHODS)}")
check_cookie_name = _check_pattern(
    r"|(?!__)[A-Za-z0-9_-]{1,64}",
    "must be 1 to 64 letters, digits, _ and -, without the prefix __Host-, which is added",
)
check_audience = _check_pattern(
    r"[\x21-\x7e]{0,512}", "must be one audience in printable ASCII without spaces, as the claim `aud` contains it"
)
check_remote_user = _check_pattern("id|subject|username|email", "must be one of id, subject, username, email")
check_response_mode = _check_pattern("query|form_post", "must be query or form_post")
check_log_format = _check_pattern("text|json", "must be text or json")


def check_scope(value: str) -> str:
    """Require scopes separated by spaces (RFC 6749 3.3), and return them with single spaces."""
    # Some providers have scopes with commas, so a comma is wrong only beside openid.
    is_separated = not re.search(r"\bopenid(,|;|\+|%20)|(,|;|\+|%20)openid\b", value)
    if not is_separated or not re.fullmatch(r"[\x20\x21\x23-\x5b\x5d-\x7e]*", value):
        raise ValueError("must be scopes separated by spaces, in ASCII without quotes or backslashes (RFC 6749 3.3)")
    return " ".join(value.split())  # some providers refuse an empty scope between two spaces


check_name = _check_pattern(
    r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,100}", "must have at most 100 characters, without control characters"
)


def check_folder(value: str) -> str:
    """Require a folder that can be read, and return its absolute path; "" for an empty value."""
    if value:
        try:
            os.listdir(value)
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}; create the folder, or correct its path") from None
    return value and os.path.abspath(value)


def check_url(value: str, http_hosts: Collection[str] = ()) -> str:
    """Require an https URL, or http on a loopback host or one of *http_hosts*."""
    urls.parse_url(value, http_hosts)
    return value


def check_issuer(value: str, http_hosts: Collection[str] = ()) -> str:
    """Require a URL without a query (OpenID Connect Discovery 3, RFC 8414 2)."""
    if "?" in value:
        raise ValueError("must not have a query")
    if "/.well-known/" in value:
        raise ValueError("must be the issuer, not the URL of its metadata; remove /.well-known and the rest")
    return check_url(value, http_hosts)


def check_provider(value: str | Provider, http_hosts: Collection[str] = ()) -> str | Provider:
    """Check a description of a provider or the URL of an issuer."""
    if isinstance(value, Provider):
        _check_description(value, http_hosts)
        return value
    # A name of a known provider is checked when the application is created.
    return check_issuer(value, http_hosts) if "://" in value else value


def _check_description(provider: Provider, http_hosts: Collection[str]) -> None:
    """Require values of the right types, a usable name, endpoints that may receive secrets, an issuer for ID tokens."""
    _check_types(provider)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", provider.name, re.ASCII):
        raise ValueError("its name must have at most 63 characters from a-z, 0-9, dots and hyphens")
    endpoints = ("authorization_url", "token_url", *(() if provider.openid else ("profile_url",)))
    missing = [name for name in endpoints if not getattr(provider, name)]
    if missing and not provider.discovery:
        raise ValueError(f"it has no {', '.join(missing)}; add them, or the issuer with discovery=True")
    if (provider.openid or provider.discovery) and not provider.issuer:
        raise ValueError("it has no issuer, with which ID tokens and the metadata are compared; add it")
    urls_by_name = {f"{name}_url": getattr(provider, f"{name}_url") for name in _ENDPOINTS}
    urls_by_name |= {"issuer": provider.issuer, **{each.scope or "list": each.url for each in provider.lists}}
    for name, url in urls_by_name.items():
        try:
            if url and not url.startswith("{issuer}"):  # replaced by WSGI_OAUTH_ISSUER, which is checked, too
                check_url(url, http_hosts)
        except ValueError as reason:
            problem, separator, remedy = str(reason).partition("; ")
            raise ValueError(f"its {name} {problem} (got {mask_password(url)!a}){separator}{remedy}") from None
    _check_value("client_auth", provider.client_auth or "basic", check_client_auth)
    _check_value("response_mode", provider.response_mode, check_response_mode)


def _check_value(name: str, value: str, check: Callable[[str], object]) -> None:
    try:
        check(value)
    except ValueError as reason:
        raise ValueError(f"its {name} {reason} (got {value!a})") from None


def _check_types(provider: Provider) -> None:
    """Require values of the types of the fields, and lists that can be read."""
    for name, default in {"name": "", "title": "", **Provider._field_defaults}.items():
        value = getattr(provider, name)
        if default is not None and not isinstance(value, type(default)):
            raise ValueError(f"its {name} must be of the type {type(default).__name__} (got {value!a:.100})")
    # A single GroupsDocument, without a comma behind it, is a tuple of texts.
    are_groups = all(isinstance(each, GroupsDocument) for each in provider.groups)
    for name, is_right, right in (
        ("groups", are_groups, "a tuple of GroupsDocument"),
        ("emails", isinstance(provider.emails, EmailsDocument | None), "an EmailsDocument"),
    ):
        if not is_right:
            raise ValueError(f"its {name} must be {right} (got {getattr(provider, name)!a:.100})")


def check_end_session(value: str, http_hosts: Collection[str] = ()) -> str:
    if value == "yes":
        return value
    if "://" not in value:
        raise ValueError("must be yes or the URL of the provider's end-session endpoint; otherwise unset it")
    return check_url(value, http_hosts)


def check_public_url(value: str, http_hosts: Collection[str] = ()) -> str:
    """Return the URL without a slash at its end."""
    value = value.rstrip("/")
    if "?" in value:
        raise ValueError("must not have a query")
    if value.endswith("/callback"):
        raise ValueError("must be the URL of the application; remove /callback")
    check_url(value, http_hosts)
    # Browsers and proxies change such a path, so requests would have another one than the redirect URI.
    if re.search(r"/\.{0,2}(/|\Z)", value.partition("://")[2]):
        raise ValueError("has an empty segment or a dot segment in its path; remove it")
    return value


def check_sites(value: Iterable[str], http_hosts: Collection[str] = ()) -> tuple[str, ...]:
    """Return the URLs of further sites without slashes at their ends."""
    return tuple(check_public_url(url, http_hosts) for url in check_words(value))


def check_session_store(value: str) -> str:
    kind, _, place = value.partition(":")
    if kind in SCHEMES:
        RedisURL.parse(value)
    elif not (value == "memory:" or (kind == "file" and os.path.isabs(place) and "\0" not in place)):
        problem = "must be" if value else "missing, and this user has no home directory; set"
        redis = "redis://host:port/db for Redis or Valkey (rediss with TLS, redis+sentinel or redis+cluster)"
        raise ValueError(f"{problem} file:/an/absolute/path, {redis}, or memory: for a single process")
    return value


def check_lifetime(value: int | str) -> int:
    """Return the seconds of ``90``, ``30m``, ``12h`` or ``7d``."""
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", value)
        value = int(match[1]) * _UNITS[match[2]] if match else 0
    if value <= 0:
        raise ValueError("must be a positive duration such as 90, 30m, 12h or 7d")
    if value >= MAX_LIFETIME:
        raise ValueError("must be at most 30 years")
    return value


def check_recheck(value: int | str) -> int:
    """Return the seconds of a duration, or 0 for ``never``."""
    return 0 if value in {0, "never"} else check_lifetime(value)


def check_upstream_timeout(value: float | str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = nan
    if not 0 < seconds <= 300:
        raise ValueError("must be a number of seconds above 0 and at most 300")
    return seconds


def check_number(of: str, minimum: int) -> Callable[[int | str], int]:
    """Return a check of a whole number of things, such as "proxies", which must be *minimum* or more."""

    def check(value: int | str) -> int:
        if not re.fullmatch("[0-9]{1,9}", str(value)) or int(value) < minimum:
            raise ValueError(f"must be a whole number of {of}, {minimum} or more")
        return int(value)

    return check


def check_yes_or_no(value: bool | str) -> bool:
    if value not in {True, False, "yes", "no"}:
        raise ValueError("must be yes or no")
    return value in {True, "yes"}


# Brackets, commas, and $ or / at the beginning belong to other languages for paths, and no claim has such a name.
_CLAIM_PATH = r"(?![$/])[^\s\x00-\x1f\x7f\[\],]+"
check_claim_paths = _check_pattern(
    rf"\s*{_CLAIM_PATH}( +{_CLAIM_PATH})*\s*",
    "must be the name of a claim, or a path with dots such as realm_access.roles; separate several with spaces",
)


def check_parameters(value: str | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the names and values of ``name=value&name=value``."""
    try:
        pairs = parse_qsl(value, keep_blank_values=True, strict_parsing=True) if isinstance(value, str) else value
        pairs = [(name, parameter) for name, parameter in pairs]
    except ValueError:
        raise ValueError("must be parameters such as prompt=login&hd=example.com") from None
    if len(dict(pairs)) != len(pairs):
        raise ValueError("names a parameter twice; remove one of them")
    for name, parameter in pairs:
        _check_parameter_name(name)
        if name == "max_age" and not is_requirement(name, parameter):
            raise ValueError("contains a max_age that is not a number of seconds")
        if name == "acr_values" and not is_requirement(name, parameter):
            raise ValueError("contains acr_values that are not words of ASCII, separated by single spaces")
    return tuple(pairs)


def is_requirement(name: str, value: str) -> bool:
    """Return whether *value* is valid for *name*, ``max_age`` or ``acr_values`` (OpenID Connect Core 3.1.2.1)."""
    pattern = r"[0-9]{1,9}" if name == "max_age" else r"[\x21-\x7e]+( [\x21-\x7e]+)*"
    return bool(re.fullmatch(pattern, value))


def check_login_parameters(value: Iterable[str]) -> tuple[str, ...]:
    """Return the names of parameters that a link to the sign-in may pass on."""
    names = check_words(value)
    for name in names:
        if name in _OWN_PARAMETERS:
            raise ValueError(f"contains {name}, which this application reads itself; remove it")
        _check_parameter_name(name)
    return names


def _check_parameter_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise ValueError(f"contains {name[:80]!a}, which is not the name of a parameter (RFC 6749 8.2); correct it")
    if name in _RESERVED_PARAMETERS:
        source = _RESERVED_PARAMETERS[name]
        remedy = f"remove it, and use {source}" if source.startswith("WSGI_OAUTH_") else "remove it"
        raise ValueError(f"contains {name}, which is set by {source}; {remedy}")


def check_hosts(value: Iterable[str]) -> tuple[str, ...]:
    """Return host names, without ports, in lower case."""
    hosts = tuple(host.lower() for host in check_words(value))
    if any(not re.fullmatch(r"[a-z0-9._-]+|\[?[0-9a-f:.]+\]?", host) for host in hosts):
        raise ValueError("must be host names or addresses without scheme and port, separated by spaces")
    return tuple(host.strip("[]") for host in hosts)


def check_words(value: Iterable[str]) -> tuple[str, ...]:
    """Return the words of a text, or a list of words as a tuple."""
    return tuple(value.split() if isinstance(value, str) else value)


# POSIX Shell Command Language 2.2: a word consists of plain characters, escaped characters and quoted parts.
_QUOTED = r""""(?:[^"\\]|\\.)*"|'[^']*'"""
_WORD = rf"""(?s)(?:[^\s"'\\]|\\.|{_QUOTED})+"""
_QUOTED_VALUE = r"""([:=])(["'])([^"']*)\2\Z"""
# RFC 4514: the names of a directory's groups contain commas, for example cn=staff,dc=example,dc=com.
_WITH_DISTINGUISHED_NAME = r"(?:group|claim):[^,=]+=[^,]+(?:,[^,=]+=[^,]+)*"


def check_rules(value: Iterable[str]) -> tuple[str, ...]:
    """Return access rules. A text is split like a shell line: ``user:octocat group:"Domain Admins"``.

    In a collection, each rule is a text of its own, and quotes around its value are allowed, but not needed.
    """
    if not isinstance(value, str):
        return tuple(re.sub(_QUOTED_VALUE, r"\1\3", rule) for rule in value)
    try:
        rules = tuple(shlex.split(value))
    except ValueError:  # an unfinished quote, or a backslash at the end
        raise ValueError(
            "has a quotation mark without its counterpart or ends with a backslash; " + _QUOTES_REMEDY
        ) from None
    for word in re.findall(_WORD, value):
        unquoted = re.sub(_QUOTED, "", word, flags=re.DOTALL)
        if re.search(r"\\[A-Za-z0-9]", unquoted):
            raise ValueError("has a backslash before a letter; " + _QUOTES_REMEDY)
        if "," in re.sub(r"\\.", "", unquoted) and not re.fullmatch(_WITH_DISTINGUISHED_NAME, word):
            raise ValueError("rules are separated by spaces, not by commas; write a space, or " + _QUOTES_REMEDY)
    return rules
