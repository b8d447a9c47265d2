"""The URLs of this application: its public URL, and return URLs on this site."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from .. import errors
from ..sessions.cookie import CookieNames
from ..urls import DEFAULT_PORTS, Origin, is_address, is_loopback

MAX_RETURN_URL = 8000  # characters; some applications keep their whole view in the query
_FORWARDED_KEYS = frozenset(
    {"HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST", "HTTP_FORWARDED"}
)
_log = logging.getLogger(__name__)
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f-\xa0\\\ud800-\udfff]")  # lone surrogates cannot be encoded
_NOT_IN_A_PATH = re.compile(r"[\x00-\x1f\x7f\\]")
# Two slashes at the beginning, or a dot segment. Other empty segments are usual in paths that contain a URL.
_MAY_LEAVE_SITE = re.compile(r"\A/\s*/|/\s*\.\.?\s*(?:/|\Z)")
_PATH_SAFE = "/!$&'()*+,;=:@~"  # RFC 3986 3.3, pchar
_QUERY_SAFE = f"{_PATH_SAFE}?%"


class Site:
    """The URLs of this application in browsers.

    The main site has the configured public URL. Users sign in there. Each further site has a URL of its own. Without a
    public URL, the URL is taken from the request, for loopback hosts only.

    :param sites: the URLs of the further sites. A URL without a path gets the path of the public URL.
    """

    def __init__(
        self, public_url: str | None, *, proxies: int = 0, sites: Iterable[str] = (), cookie_name: str = ""
    ) -> None:
        self.public_url = public_url
        path = urlsplit(public_url or "").path
        #: The URLs of the application on the further sites, by host.
        self.further_urls = {Origin.of(url).host: url if urlsplit(url).path else url + path for url in sites}
        self._proxies = proxies  # how many are trusted for X-Forwarded-*
        self._cookie_name = cookie_name  # WSGI_OAUTH_COOKIE_NAME
        self._has_warned = False  # whether the log has the warning about a proxy without a public URL
        self._urls_by_host = {**self.further_urls, **({Origin.of(public_url).host: public_url} if public_url else {})}
        self._cookie_names = {
            url: CookieNames.of_site(url, cookie_name, site=url if self.is_further(url) else "")
            for url in self._urls_by_host.values()
        }

    def base_url(self, environ: Mapping[str, Any]) -> str:
        """Return the URL of the mount point, without a trailing slash, or raise BadHost for another site's host."""
        if (exact := self._urls_by_host.get(environ.get("HTTP_HOST", ""))) is not None:
            return exact
        server = f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}"
        host, port = _parse_host(environ.get("HTTP_HOST") or server)
        if self.public_url is not None:
            # Only the name is compared, because TLS and the public port often end at a proxy.
            base_url = self._urls_by_host.get(host)
            if base_url is None:
                remedy = self._find_host_remedy(environ, host)
                sites = " or of WSGI_OAUTH_SITES" if self.further_urls else ""
                expected = f"{Origin.of(self.public_url).host!a}{sites}"
                raise errors.BadHost(
                    f"Host header: not the host of WSGI_OAUTH_PUBLIC_URL, {expected} (got {host!a}){remedy}",
                    site_url=self.public_url,
                )
            return base_url
        if not is_loopback(host):
            raise errors.BadHost(f"Host header: not a loopback host (got {host!a}); set WSGI_OAUTH_PUBLIC_URL")
        if not self._has_warned and _FORWARDED_KEYS.intersection(environ):
            self._has_warned = True
            _log.warning(
                "a proxy seems to be in front of this application (X-Forwarded-* or Forwarded is present), and "
                "WSGI_OAUTH_PUBLIC_URL is not set; set it to the URL that browsers use, otherwise sign-ins through the "
                "proxy lead to %s",
                host,
            )
        scheme = environ.get("wsgi.url_scheme", "http")
        if "HTTP_X_FORWARDED_PROTO" in environ and not self._proxies:
            scheme = "http"  # because some servers take the scheme from this header, and every client can send it
        script = str(environ.get("SCRIPT_NAME", "")).strip("/")
        prefix = "/" + quote(script.encode("latin-1")) if script else ""  # PEP 3333: bytes as latin-1
        shown_host = f"[{host}]" if ":" in host else host
        shown_port = "" if port in {None, DEFAULT_PORTS.get(scheme)} else f":{port}"
        return f"{scheme}://{shown_host}{shown_port}{prefix}"

    def is_further(self, base_url: str) -> bool:
        """Return whether *base_url*, a result of :meth:`base_url`, belongs to a further site."""
        return base_url in self.further_urls.values()

    def find_further_url(self, host: str) -> str | None:
        """Return the URL of this application on a further site; None if *host* is not one of ``WSGI_OAUTH_SITES``."""
        return self.further_urls.get(host)

    def cookie_names(self, base_url: str) -> CookieNames:
        return self._cookie_names.get(base_url) or CookieNames.of_site(base_url, self._cookie_name)

    def find_page(self, url: str, base_url: str) -> tuple[str, str] | None:
        """Return the site to which *url* belongs, as the URL of the application there, and the path of the page.

        :param url: a path of the site of *base_url*, or the absolute URL of a page of any site.
        :return: None if it is not a page of any of the sites; see :func:`local_path`.
        """
        for site in (base_url, *self._urls_by_host.values()):
            origin = urlsplit(site)._replace(path="").geturl()
            is_absolute = url[: len(origin)].lower() == origin.lower()
            path = local_path((url[len(origin) :] or "/") if is_absolute else url)
            if path is not None:
                return site, path
        return None

    def _find_host_remedy(self, environ: Mapping[str, Any], host: str) -> str:
        """Return the remedy for a wrong host, as the end of a message."""
        values = len(split_values(environ.get("HTTP_X_FORWARDED_HOST", "")))
        if values and not self._proxies:
            return "; X-Forwarded-Host is ignored unless WSGI_OAUTH_TRUSTED_PROXIES is set"
        if values and values != self._proxies:
            return (
                f"; X-Forwarded-Host has {values} values, and WSGI_OAUTH_TRUSTED_PROXIES is {self._proxies}: each "
                "proxy has to add its own value, so correct the number or the proxies"
            )
        remedy = (
            "; correct the setting, or let the proxy pass the Host header on (nginx: `proxy_set_header Host $host;`)"
        )
        if _FORWARDED_KEYS.intersection(environ):
            remedy += ", or send X-Forwarded-Host and set WSGI_OAUTH_TRUSTED_PROXIES"
        elif is_address(host):
            remedy += ", or let health checks request /healthz (with a gate, below its prefix)"
        return remedy


def local_path(candidate: str | None) -> str | None:
    """Return *candidate*, percent-encoded, if every browser resolves it to a path of this origin; otherwise None.

    Browsers drop tabs and newlines, read a backslash as a slash and resolve dot segments. Such URLs are rejected,
    percent-encoded or not, because a redirect to them could leave this site (RFC 9700 4.11.1).
    """
    if not candidate or not candidate.startswith("/") or _NOT_IN_A_URL.search(candidate):
        return None
    path = _without_query(candidate)
    for _ in range(3 if "%" in path else 0):  # because proxies may decode it again
        path = unquote(path)
    if _NOT_IN_A_PATH.search(path) or _MAY_LEAVE_SITE.search(path):
        return None
    encoded = quote(candidate, safe="!#$%&'()*+,/:;=?@[]~")
    return encoded if len(encoded) <= MAX_RETURN_URL else None


def split_values(header: str) -> list[str]:
    """Return the values in a header of proxies such as ``X-Forwarded-For``."""
    # Werkzeug's ProxyFix obeys quotes (RFC 9110 5.6.4). A client's quote would hide the values of the proxies.
    return [value for part in header.split(",") if (value := part.strip(' \t"'))]


def raw_path_info(environ: Mapping[str, Any], script_name: str, path_info: str) -> str | None:
    """Return the original spelling of *path_info*, such as ``/a%2Fb``; None if it is unknown."""
    # gunicorn passes the request target on as RAW_URI, uWSGI and waitress as REQUEST_URI.
    prefix = quote(script_name.encode("latin-1", "replace"), safe=_PATH_SAFE)
    for name in ("RAW_URI", "REQUEST_URI"):
        raw = _without_query(environ.get(name, "")).removeprefix(prefix)
        if raw.startswith("/") and unquote(raw, "latin-1") == path_info:  # otherwise a middleware has changed the path
            return raw
    return None


def path_and_query(base_url: str, path: str, query: str, raw_path: str | None = None) -> str:
    """Return the requested path and query as the browser's address bar shows them, below *base_url*.

    :param raw_path: the original spelling of *path* (``PATH_INFO``), if it is known.
    """
    # PEP 3333 passes bytes as latin-1. Other characters come from broken servers only.
    encoded_path = quote((raw_path or path).encode("latin-1", "replace"), safe=_PATH_SAFE + ("%" if raw_path else ""))
    encoded_query = f"?{quote(query.encode('latin-1', 'replace'), safe=_QUERY_SAFE)}" if query else ""
    return urlsplit(base_url).path + encoded_path + encoded_query


def _without_query(url: str) -> str:
    return url.partition("?")[0].partition("#")[0]


def _parse_host(header: str) -> tuple[str, int | None]:
    match = _HOST.fullmatch(header)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port or 0) > 65535:
        raise errors.BadHost("Host header: malformed")
    return match["name"].strip("[]").lower().rstrip("."), port
