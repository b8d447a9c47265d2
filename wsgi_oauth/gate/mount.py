"""The sign-in application, mounted below a prefix of the protected application."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from .. import errors
from ..web.application import OAuthApp, build_prefix_error
from ..web.request import GATE_PREFIX_KEY
from .paths import parse_path

_SECURE_PREFIXES = ("__Host-", "__Secure-")  # browsers ignore Set-Cookie for them without `Secure` (RFC 6265bis 4.1.3)
_COOKIE_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 6265 4.1.1, RFC 9110 5.6.2

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class MountedSignIn:
    """*app*, mounted below *prefix*. Its sign-out deletes *expire_cookies*. See :class:`.LoginRequired` for errors."""

    def __init__(self, app: OAuthApp, prefix: str, expire_cookies: Collection[str] = ()) -> None:
        self.app = app
        if isinstance(expire_cookies, str):
            raise TypeError(f"expire_cookies: must be a collection of names (got {expire_cookies!r})")
        for name in expire_cookies:
            if not re.fullmatch(_COOKIE_NAME, name):
                raise ValueError(f"expire_cookies: not the name of a cookie (got {name!a})")
        self._expirations = [
            ("Set-Cookie", f"{name}=; Max-Age=0; Path=/{'; Secure' if name.startswith(_SECURE_PREFIXES) else ''}")
            for name in expire_cookies
        ]
        self.prefix = parse_path(prefix, "prefix")
        if self.prefix == "/":
            raise ValueError("prefix: must be a path that the application does not use (got '/'); use /auth")
        urls = [("WSGI_OAUTH_PUBLIC_URL", app.site.public_url)]
        urls += [("WSGI_OAUTH_SITES", url) for url in app.site.further_urls.values()]
        for variable, url in urls:
            if url and not unquote(urlsplit(url).path, "latin-1").endswith(self.prefix):
                raise errors.without_gunicorn_traceback(
                    errors.ConfigError(
                        f"{variable}: must end with {prefix}, where the gate mounts the sign-in (got {url!a}); append "
                        f"{prefix}, or pass another prefix to LoginRequired"
                    )
                )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        mounted = {
            **environ,
            "SCRIPT_NAME": environ.get("SCRIPT_NAME", "").rstrip("/") + self.prefix,
            "PATH_INFO": path[len(self.prefix) :],
            GATE_PREFIX_KEY: self.prefix,
        }
        # Werkzeug's routing ignores additional slashes around a path.
        is_logout = mounted["PATH_INFO"].strip("/") == self.app.logout_path.strip("/")
        if not (self._expirations and is_logout and environ["REQUEST_METHOD"] == "POST"):
            return self.app(mounted, start_response)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            return start_response(status, headers + (self._expirations if status[:1] in {"2", "3"} else []), exc_info)

        return self.app(mounted, start)

    def sign_out(self, environ: WSGIEnvironment) -> tuple[str, list[tuple[str, str]], Iterable[bytes]]:
        """Sign the user of a request out, and return the status, the headers and the body of the sign-out's response.

        The caller has checked that the request comes from a page of this site.
        """
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], _exc_info: Any = None, /) -> Any:
            started.append((status, headers))

        request = {
            **environ,
            "PATH_INFO": self.prefix + self.app.logout_path,
            "QUERY_STRING": "",
            "REQUEST_METHOD": "POST",
            "CONTENT_LENGTH": "0",
            "HTTP_ACCEPT": "text/html",
            "HTTP_SEC_FETCH_SITE": "same-origin",
            "HTTP_X_INERTIA": "",  # its 409 would replace the application's response
            "wsgi.input": io.BytesIO(),
        }
        request.pop("HTTP_TRANSFER_ENCODING", None)
        body = self(request, start)
        return (*started[0], body)

    def base_url(self, environ: WSGIEnvironment, script_name: str) -> str:
        """Return the URL of the sign-in in browsers, for a gate that is mounted at *script_name*, or raise BadHost."""
        return self.app.base_url({**environ, "SCRIPT_NAME": script_name.rstrip("/") + self.prefix})

    def check_path(self, path: str) -> None:
        """Check that *path* (``PATH_INFO``) is not a URL of the sign-in with a prefix that the proxy should remove.

        Otherwise the browser would be in a redirect loop. Raise ConfigError if it contains the prefix.
        """
        public_path = unquote(urlsplit(self.app.site.public_url or "").path, "latin-1")
        if public_path != self.prefix and f"{path}/".startswith(f"{public_path}/") and public_path:
            raise build_prefix_error(public_path.removesuffix(self.prefix))

    def gate_url(self, base_url: str) -> str:
        """Return the URL at which the gate is mounted. *base_url* is the URL of the sign-in."""
        return base_url.rsplit("/", self.prefix.count("/"))[0]
