"""Everything this project believes about URLs: which are safe to send secrets to, which are ours, which are
local paths.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from . import errors

LONGEST_PATH = 1024  # characters of a return URL; a session keeps several
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LAST_PORT = 65535
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_PATH_SAFE = "/!$&'()*+,;=:@~"  # RFC 3986 3.3, pchar
_NOT_PRINTABLE_ASCII = re.compile(r"[^\x21-\x7e]")


class Origin(NamedTuple):
    """Scheme, host and port, as RFC 6454 4 compares them."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: str) -> Origin:
        """Raise ValueError when *url* has a port that is none."""
        parts = urlsplit(url)
        return cls(parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _DEFAULT_PORTS.get(parts.scheme))


def is_loopback(host: str) -> bool:
    """Say whether *host* can only be this machine: RFC 8252 7.3, and the name ``localhost`` of RFC 6761 6.3."""
    host = host.strip("[]").lower()
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def checked(url: str) -> SplitResult:
    """Split an absolute URL that may be configured as an endpoint.

    Plain http is for loopback hosts alone (RFC 6749 3.1.2.1, RFC 8252 8.3), and there is no variable to change that.
    Raise ValueError with the reason, fit to be read by the operator.
    """
    if _NOT_PRINTABLE_ASCII.search(url) or "\\" in url:
        raise ValueError("has characters that no URL has")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise ValueError("must begin with https:// and a host")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("must begin with https://; plain http is for this machine alone (localhost, 127.0.0.1, [::1])")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not carry a user name or a password")
    if "#" in url:
        raise ValueError("must not have a fragment (RFC 6749 3.1)")
    return parts


def is_secure(url: str) -> bool:
    """Say whether a secret may travel to *url*: https, or this machine."""
    try:
        checked(url.partition("#")[0])
    except ValueError:
        return False
    return True


def local_path(candidate: str | None) -> str | None:
    """Return *candidate*, percent-encoded, when it is a path on this origin for every browser (RFC 9700 4.11.1).

    Browsers drop tabs and newlines, take a backslash for a slash and resolve dot segments, so none of them is
    let through, percent-encoded or not.
    """
    if not candidate or not candidate.startswith("/"):
        return None
    if "\\" in candidate or any(ord(c) <= 0x20 or 0x7F <= ord(c) <= 0xA0 for c in candidate):
        return None
    if any(0xD800 <= ord(c) <= 0xDFFF for c in candidate):
        return None
    path = re.split(r"[?#]", candidate, maxsplit=1)[0]
    for _ in range(3):  # what some proxy decodes once more must be harmless too
        path = unquote(path)
    if "\\" in path or any(ord(c) < 0x20 or ord(c) == 0x7F for c in path):
        return None
    segments = path[1:].split("/")
    if any(segment.strip() in {".", ".."} for segment in segments) or "" in (s.strip() for s in segments[:-1]):
        return None
    encoded = quote(candidate, safe="!#$%&'()*+,/:;=?@[]~")
    return encoded if len(encoded) <= LONGEST_PATH else None


def path_and_query(base: str, path: str, query: str) -> str:
    """Return what the browser asked for, below the host, as a URL has it.

    :param base: the URL of the mount point.
    :param path: ``PATH_INFO``.
    :param query: ``QUERY_STRING``.
    """
    # PEP 3333: bytes as latin-1; what a server lets through beyond that is nobody's path.
    path, query = (
        quote(text.encode("latin-1", "replace"), safe=safe)
        for text, safe in ((path, _PATH_SAFE), (query, f"{_PATH_SAFE}?%"))
    )
    return urlsplit(base).path + path + (f"?{query}" if query else "")


class Site:
    """Where this application lives, as browsers see it: the configured public URL or, on this machine, the
    request's own.
    """

    def __init__(self, public_url: str | None, *, trusts_proxies: bool = False) -> None:
        self.public_url = public_url
        self._trusts_proxies = trusts_proxies
        self._origin = Origin.of(public_url) if public_url else None

    def base(self, environ: dict[str, object]) -> str:
        """Return the URL of the mount point, without a slash at the end. Raise BadHost (RFC 9110 7.2)."""
        scheme = str(environ.get("wsgi.url_scheme", "http"))
        if "HTTP_X_FORWARDED_PROTO" in environ and not self._trusts_proxies:
            scheme = "http"  # some servers believe this header from any client on this machine
        origin = _request_origin(scheme, str(environ.get("HTTP_HOST") or _server_host(environ)))
        if self._origin is not None:
            # The scheme is the proxy's affair, and a port that only the proxy knows is too.
            if origin.host != self._origin.host:
                hint = ""
                if "HTTP_X_FORWARDED_HOST" in environ and not self._trusts_proxies:
                    hint = "; there is an X-Forwarded-Host, which counts when WSGI_OAUTH_TRUSTED_PROXIES is set"
                raise errors.BadHost(f"the host {origin.host!a} is not that of WSGI_OAUTH_PUBLIC_URL{hint}")
            assert self.public_url is not None
            return self.public_url
        if not is_loopback(origin.host):
            raise errors.BadHost("without WSGI_OAUTH_PUBLIC_URL only loopback hosts are served")
        script = str(environ.get("SCRIPT_NAME", "")).strip("/")
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        port = "" if origin.port == _DEFAULT_PORTS.get(scheme) else f":{origin.port}"
        prefix = "/" + quote(script.encode("latin-1")) if script else ""  # PEP 3333: bytes as latin-1
        return f"{scheme}://{host}{port}{prefix}"


def _server_host(environ: dict[str, object]) -> str:
    return f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}"


@lru_cache(maxsize=64)  # a site has few
def _request_origin(scheme: str, host: str) -> Origin:
    match = _HOST.fullmatch(host)
    port = int(match["port"]) if match and match["port"] else _DEFAULT_PORTS.get(scheme)
    if match is None or (port or 0) > _LAST_PORT:
        raise errors.BadHost("the Host header is malformed")
    return Origin(scheme, match["name"].strip("[]").lower().rstrip("."), port)
