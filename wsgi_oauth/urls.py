"""URLs that may carry secrets, and the comparison of origins."""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_NOT_PRINTABLE_ASCII = re.compile(r"[^\x21-\x7e]")


class Origin(NamedTuple):
    """Scheme, host and port of a URL, as RFC 6454 4 compares them."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: str) -> Origin:
        """Return the origin of *url*. Raise ValueError if its port is invalid."""
        parts = urlsplit(url)
        return cls(parts.scheme, (parts.hostname or "").rstrip("."), parts.port or DEFAULT_PORTS.get(parts.scheme))


def have_same_origin(url: str, other: str) -> bool:
    """Return whether two URLs have the same origin. ``null``, an invalid URL and a path have none."""
    try:
        origin = Origin.of(url)
        return bool(origin.host) and origin == Origin.of(other)
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Return whether *host* is this machine: a loopback address (RFC 8252 7.3) or ``localhost`` (RFC 6761 6.3)."""
    host = host.strip("[]").lower()
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def is_address(host: str) -> bool:
    """Return whether *host* is an IP address, without brackets."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def parse_url(url: str, http_hosts: Collection[str] = ()) -> SplitResult:
    """Return the parts of *url*, an absolute URL that may receive secrets.

    Plain http is accepted for loopback hosts (RFC 6749 3.1.2.1, RFC 8252 8.3) and for *http_hosts*.

    :raises ValueError: for any other URL. A message to the operator has its text after the name of the setting.
    """
    if _NOT_PRINTABLE_ASCII.search(url) or "\\" in url:
        raise ValueError(
            "has characters that no URL has; write letters of a host outside ASCII as xn--..., remove or encode others"
        )
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is not a URL; correct its host or its port") from None
    if parts.scheme not in DEFAULT_PORTS or not host:
        raise ValueError("must begin with https:// and a host")
    if not (_HOST_NAME.fullmatch(host) or is_address(host)):
        raise ValueError("has characters that no host name has; write one host, without wildcards and commas")
    if parts.scheme == "http" and not is_loopback(host) and host not in http_hosts:
        raise ValueError(
            "must begin with https://; plain http is for this machine alone (localhost, 127.0.0.1, [::1]), and for "
            "hosts of a private network in WSGI_OAUTH_INSECURE_HTTP_HOSTS"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user name or a password")
    if "#" in url:
        raise ValueError("must not have a fragment (RFC 6749 3.1)")
    return parts


def is_secure(url: str, http_hosts: Collection[str] = ()) -> bool:
    """Return whether secrets may be sent to *url*: over https, to this machine, or to one of *http_hosts*."""
    try:
        parse_url(url.partition("#")[0], http_hosts)
    except ValueError:
        return False
    return True
