"""An HTTP adapter for requests to a provider, with one TLS context, a deadline, and a limit on the response's size."""

from __future__ import annotations

import errno
import http.client
import ipaddress
import os
import re
import socket
import ssl
import sys
import time
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.exceptions import LocationParseError, NewConnectionError, ProxySchemeUnknown

from .. import errors
from .deadline import MAX_BYTES, POOL_CLASSES
from .error_description import clean_description, quote_description

_POOL_SIZE = 32  # idle connections to each host; a worker rarely has more threads
_CHUNK = 64 * 1024
_NO_RETRIES = urllib3.Retry(False, redirect=False)
_POOL_KEY = {"cert_reqs": "CERT_REQUIRED"}  # certificates are always verified, by the TLS context
# The error codes of OpenSSL for an unknown authority: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
# Remedies for failures of this machine, by the error codes of connect(2) and socket(2).
_LOCAL_REMEDIES = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM),
        "let the security policy of this machine permit outgoing connections (SELinux: setsebool -P "
        "httpd_can_network_connect on; systemd: IPAddressAllow=; or its firewall)",
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (systemd: LimitNOFILE=)"),
}
# Problems of an answer, by the exact class of the exception, because subclasses stand for connections that have ended.
_INVALID_ANSWERS: dict[type, str] = {
    http.client.BadStatusLine: "it does not begin as HTTP/1.1",
    http.client.LineTooLong: "a line of its headers has more than 65536 bytes",
    http.client.HTTPException: "its headers are malformed, or more than 100",
    urllib3.exceptions.InvalidHeader: "its headers are contradictory",
    urllib3.exceptions.IncompleteRead: "it ends too early",
    ValueError: "it ends too early, or a chunk is malformed",  # from the length of the chunk
}
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}  # RFC 9110 9.2.1
# Headers of challenges, with which firewalls test whether the client is a browser, and their values:
# https://developers.cloudflare.com/cloudflare-challenges/challenge-types/challenge-pages/detect-response/
# https://docs.aws.amazon.com/waf/latest/developerguide/waf-captcha-and-challenge-actions.html
_CHALLENGES = {"cf-mitigated": {"challenge"}, "x-amzn-waf-action": {"captcha", "challenge"}}


class BoundedAdapter(HTTPAdapter):
    """requests' adapter with a TLS context and proxy settings that are loaded once.

    Loading a CA bundle for each connection, as requests does, would take longer than the request itself.
    """

    def __init__(self) -> None:
        """Raise ConfigError when the CA bundle cannot be loaded."""
        self._tls = _load_tls_context()
        self._proxies = getproxies()
        super().__init__(pool_maxsize=_POOL_SIZE)

    def exchange(self, request: requests.PreparedRequest, deadline: float) -> requests.Response:
        """Send *request* and read the whole response. Follow no redirect.

        :param deadline: seconds of ``time.monotonic``.
        :raises errors.ProviderError: when it fails; see :meth:`Transport.send`.
        """
        handled = sys.exc_info()[1]  # for example the rejection of a token, which this request refreshes
        try:
            try:
                response = self._send(request, deadline)
            except urllib3.exceptions.HTTPError as error:
                # The provider closed a pooled connection just now. A POST is not repeated, because its authorization
                # code or refresh token can be used only once.
                is_closed = isinstance(_find_cause(error, handled), (ConnectionResetError, BrokenPipeError))
                if request.method not in _SAFE_METHODS or not is_closed:
                    raise
                response = self._send(request, deadline)
            response._content = read_body(response)
            response._content_consumed = True  # type: ignore[attr-defined]
            check_challenge(response)
            return response
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            # "from None", because the text of the original exception contains the URL.
            host = urlsplit(request.url or "").hostname or ""
            raise build_provider_error(error, host, is_late=time.monotonic() >= deadline, handled=handled) from None

    def _send(self, request: requests.PreparedRequest, deadline: float) -> requests.Response:
        """Send *request* through urllib3. The method of requests would add half the cost of an exchange."""
        parts = urlsplit(request.url or "")
        manager: Any = self.poolmanager
        if proxy := self._find_proxy(parts):
            manager = self.proxy_manager_for(proxy)
        pool = manager.connection_from_host(parts.hostname, parts.port, parts.scheme, _POOL_KEY)
        raw = pool.urlopen(
            request.method,
            request.path_url,
            request.body,
            request.headers,
            retries=_NO_RETRIES,
            redirect=False,
            preload_content=False,  # read_body limits the size
            decode_content=False,
            chunked=request.body is not None and "Content-Length" not in request.headers,
            timeout=urllib3.Timeout(total=max(deadline - time.monotonic(), 0.001)),
        )
        return self.build_response(request, raw)

    def _find_proxy(self, parts: SplitResult) -> str | None:
        """Return the proxy for a URL, from the values of HTTPS_PROXY and NO_PROXY at the creation of this adapter."""
        # Plain http is never sent through a proxy: otherwise the proxy could read the token.
        if parts.scheme == "http" or not self._proxies:
            return None
        names = re.split(r"[\s,]+", self._proxies.get("no", ""))
        if any(_is_within(parts.hostname or "", str(parts.port or 443), name.lower()) for name in names):
            return None
        proxy = (select_proxy(parts.geturl(), self._proxies) or "").strip()
        return proxy if "://" in proxy or not proxy else f"http://{proxy.removeprefix('//')}"

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOL_CLASSES

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        pool_classes: Any = POOL_CLASSES
        if proxy.lower().startswith("socks"):
            try:
                from .socks_proxy import SOCKS_POOL_CLASSES as pool_classes  # noqa: N811, PLC0415  # optional dependency
            except ImportError:
                raise errors.ProviderUnreachable(
                    "HTTPS_PROXY or ALL_PROXY: a SOCKS proxy needs the package PySocks; pip install PySocks"
                ) from None
            # Desktops write socks:// for SOCKS 5. The proxy resolves the host names.
            proxy = re.sub("^socks:", "socks5h:", proxy, flags=re.IGNORECASE)
        try:
            if "\\" in proxy:  # ends the host for urllib3, as for browsers
                raise LocationParseError("")
            manager = super().proxy_manager_for(proxy, ssl_context=self._tls, **kwargs)
        except (ProxySchemeUnknown, LocationParseError):
            raise errors.ProviderUnreachable(
                "HTTPS_PROXY or ALL_PROXY: is not the URL of a proxy",
                remedy="set http://proxy.example.com:3128, without quotes, and with special characters of user and "
                "password percent-encoded",
            ) from None
        manager.pool_classes_by_scheme = pool_classes
        return manager


def _is_within(host: str, port: str, name: str) -> bool:
    """Return whether *name*, an item of NO_PROXY in one of the forms of other programs, includes *host*."""
    if name == "*":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(name.strip("[]"), strict=False)
    name, _, name_port = name.partition(":")
    domain = name.removeprefix("*").lstrip(".")
    return bool(domain) and name_port in {"", port} and f".{host}".endswith(f".{domain}")


def find_ca_bundle() -> str:
    """Return the path in REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE or SSL_CERT_FILE, otherwise the CA bundle of requests.

    :raises errors.ConfigError: when the path does not exist.
    """
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        if path := os.environ.get(name):
            if not os.path.exists(path):
                raise errors.ConfigError(f"{name}: the CA bundle does not exist (got {path!r}); correct the path")
            return path
    return requests.utils.DEFAULT_CA_BUNDLE_PATH


def _load_tls_context() -> ssl.SSLContext:
    path = find_ca_bundle()
    try:
        if os.path.isdir(path):
            if not any(re.fullmatch(r"[0-9a-f]{8}\.[0-9]+", name) for name in os.listdir(path)):
                text = (
                    f"the CA bundle {path!r} has no file named by a hash, as OpenSSL requires; run openssl rehash in it"
                )
                raise errors.ConfigError(text)
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # including ssl.SSLError
        if error.filename == os.environ.get("SSLKEYLOGFILE", ""):
            text = f"SSLKEYLOGFILE: cannot be written: {error.strerror} (got {error.filename!r}); unset it"
            raise errors.ConfigError(text) from error
        raise errors.ConfigError(
            f"the CA bundle {path!r} cannot be loaded: {error.strerror or error}; let REQUESTS_CA_BUNDLE name a file "
            "with certificates in PEM format, or a folder of them"
        ) from error


def read_body(response: requests.Response) -> bytes:
    """Return the decompressed body. Raise ProviderError when it has more than 1 MiB."""
    parts, size = [], 0
    for part in response.raw.stream(_CHUNK, decode_content=True):
        size += len(part)
        if size > MAX_BYTES:
            response.close()  # closes the connection, too, because the rest of the body is unread
            message = f"the provider's response is larger than {MAX_BYTES} bytes"
            raise errors.ProviderError(message, remedy="let it send less, such as fewer groups or no picture")
        parts.append(part)
    return b"".join(parts)


def check_challenge(response: requests.Response) -> None:
    """Raise ProviderFailed if a firewall has answered with a challenge in place of the provider."""
    # Otherwise its status, such as 403, would count as the provider's refusal, and end sessions.
    for name, values in _CHALLENGES.items():
        if response.headers.get(name) in values:
            host = urlsplit(response.url).hostname
            raise errors.ProviderFailed(
                f"the firewall of {host} takes this application for a bot, and answered with a challenge ({name})",
                remedy="let the firewall admit the requests of this machine to the provider",
            )


def build_provider_error(
    error: Exception, host: str, *, is_late: bool, handled: BaseException | None = None
) -> errors.ProviderError:
    """Return an exception that describes *error* without its text, which could contain a URL or a secret.

    :param handled: the exception that was handled when the request was sent.
    """
    cause = _find_cause(error, handled)
    if isinstance(error, urllib3.exceptions.DecodeError):
        remedy = "correct Content-Encoding at the provider, or at a proxy in between"
        return errors.ProviderError(
            "the provider's response does not have the encoding that it declares", remedy=remedy
        )
    # To urllib3 a refused connection is a kind of timeout.
    timed_out = isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError))
    if is_late or isinstance(cause, TimeoutError) or (timed_out and not isinstance(error, NewConnectionError)):
        remedy = "check the firewall and HTTPS_PROXY, or increase WSGI_OAUTH_UPSTREAM_TIMEOUT"
        return errors.ProviderTimeout(f"{host} did not answer in time", remedy=remedy)
    # http.client reports a refused CONNECT (RFC 9110 9.3.6) only by this text.
    if refused := re.fullmatch(r"Tunnel connection failed: (\d{3}) ?(.*)", str(cause), re.DOTALL):
        status, reason = refused.groups()
        remedy = "permit this host there, or name it in NO_PROXY"
        if status == "407":
            remedy = "put user and password into HTTPS_PROXY, percent-encoded: http://user:password@proxy.example.com"
            remedy += "; if the proxy requires NTLM or Kerberos, run a program such as Px or Cntlm in between"
        elif status.startswith("5"):
            remedy = "check whether the proxy can resolve and reach this host, or name it in NO_PROXY"
        text = f"the HTTP proxy refuses the connection to {host} with status {status}"
        return errors.ProxyRefused(text + quote_description(clean_description(reason, ())), remedy=remedy)
    target = "the HTTP proxy in HTTPS_PROXY" if isinstance(error, urllib3.exceptions.ProxyError) else host
    reason = getattr(cause, "verify_message", "") or getattr(cause, "strerror", None) or ""
    message = f"the connection to {target} failed: {type(cause).__name__}{reason and ': '}{reason}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        remedy = (
            "set REQUESTS_CA_BUNDLE to a file with the private certificate authority (with those of the system: "
            "/etc/ssl/certs/ca-certificates.crt), or let the server send its intermediate certificates, or check the "
            "host"
        )
        if cause.verify_code not in _UNKNOWN_AUTHORITY:
            remedy = (
                "give the server a valid certificate for this host name, of at least 2048 bits and as RFC 5280 "
                "requires, or correct the clock of this machine"
            )
        return errors.TlsFailed(message, remedy=remedy)
    if isinstance(cause, ssl.SSLError):
        remedy = (
            "check whether the server uses https on this port, with TLS 1.2 or newer and secure keys, has a "
            "certificate for this host name, and requires none of its clients; or whether a firewall ends connections"
        )
        if isinstance(error, urllib3.exceptions.ProxyError):
            remedy = "begin HTTPS_PROXY with http://, because most proxies use no TLS themselves"
        return errors.TlsFailed(message, remedy=remedy)
    return _build_unreachable(cause, target, message)


def _build_unreachable(cause: BaseException, target: str, message: str) -> errors.ProviderUnreachable:
    remedy = "check the host, the port, the firewall and HTTPS_PROXY, and whether the server is running"
    remedy = _LOCAL_REMEDIES.get(getattr(cause, "errno", 0), remedy)
    if isinstance(cause, socket.gaierror):
        remedy = "check the host name, and whether this machine (or the proxy in HTTPS_PROXY) can resolve it"
    elif invalid := _INVALID_ANSWERS.get(type(cause)):
        message = f"the answer of {target} is not valid: {invalid}"
        remedy = "check the port, and whether a proxy in between changes answers; HTTP/1.1 is needed"
    return errors.ProviderUnreachable(message, remedy=remedy)


def _find_cause(error: BaseException, handled: BaseException | None) -> BaseException:
    """Return the innermost exception: urllib3 wraps that of the operating system. *handled* did not cause *error*."""
    seen = {id(error), id(handled)}
    while True:
        wrapped = [error.__cause__, getattr(error, "reason", None), *reversed(error.args), error.__context__]
        inner = next((e for e in wrapped if isinstance(e, BaseException) and id(e) not in seen), None)
        if inner is None:
            return error
        seen.add(id(inner))
        error = inner
