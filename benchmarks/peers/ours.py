"""wsgi_oauth: the gate in front of ``/page``, and the application itself for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsgi_oauth import Config, LoginRequired, create_app

from . import SITE, Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

start = "/"


def build_config(settings: Settings, folder: Path, **options: Any) -> Config:
    return Config(
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        authorization_url=settings.authorization_url,
        token_url=settings.token_url,
        profile_url=settings.profile_url,
        issuer=settings.authorization_url.partition("/login/")[0],
        scope="profile email",
        **{"public_url": SITE, "session_store": f"file:{folder / 'sessions'}", **options},
    )


def create(settings: Settings, folder: Path, **options: Any) -> Any:
    return create_app(build_config(settings, folder, **options))


def create_gate(settings: Settings, folder: Path, **options: Any) -> Any:
    """Return an application behind the gate, whose sign-in starts at ``/auth/``."""
    config = build_config(settings, folder, public_url=f"{SITE}/auth", **options)
    return LoginRequired(page, create_app(config))


def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"Hello"]
