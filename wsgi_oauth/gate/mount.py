"""The sign-in application, mounted below a prefix of the protected application."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from .. import errors
from ..app import without_gunicorn_traceback
from ..web.application import OAuthApp
from .paths import parse_path

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class MountedSignIn:
    """*app*, mounted below *prefix*.

    :raises errors.ConfigError: if ``WSGI_OAUTH_PUBLIC_URL`` does not end with *prefix*.
    :raises ValueError: if *prefix* is not a plain path below ``/``.
    """

    def __init__(self, app: OAuthApp, prefix: str) -> None:
        self.app = app
        self._prefix = parse_path(prefix, "prefix")
        if self._prefix == "/":
            raise ValueError("prefix: must be a path below which only the sign-in lives (got '/'); use /auth")
        self._below_prefix = f"{self._prefix}/"
        public_url = app.site.public_url
        if public_url and not unquote(urlsplit(public_url).path, "latin-1").endswith(self._prefix):
            raise without_gunicorn_traceback(
                errors.ConfigError(
                    f"WSGI_OAUTH_PUBLIC_URL: must end with {prefix}, where the gate mounts the sign-in "
                    f"(got {public_url!a}); append {prefix}, or pass another prefix to LoginRequired"
                )
            )

    def handles(self, path: str) -> bool:
        """Return whether *path* (``PATH_INFO``) belongs to the sign-in."""
        return path == self._prefix or path.startswith(self._below_prefix)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        mounted = {
            **environ,
            "SCRIPT_NAME": environ.get("SCRIPT_NAME", "").rstrip("/") + self._prefix,
            "PATH_INFO": path[len(self._prefix) :],
        }
        return self.app(mounted, start_response)

    def base_url(self, environ: WSGIEnvironment, script_name: str) -> str:
        """Return the URL of the sign-in as browsers see it, for a gate at *script_name*.

        :raises errors.BadHost: if the Host header is not this site's.
        """
        return self.app.base_url({**environ, "SCRIPT_NAME": script_name.rstrip("/") + self._prefix})

    def gate_url(self, base_url: str) -> str:
        """Return the URL at which the gate itself is mounted, from the URL of its sign-in."""
        return base_url.rsplit("/", self._prefix.count("/"))[0]
