"""``create_app`` and ``get_app``: put the parts of the application together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import cast

from . import errors, flow
from .config import Config, StoreConfig
from .events import Event, Events
from .gate.verify import Verifier, Verify
from .metrics import MeasuredStore, get_metrics
from .oauth.identity import Identity, revocation_names
from .oauth.service import OAuthService
from .sessions.access_tokens import AccessTokens
from .sessions.file import FileStore
from .sessions.manager import SessionManager
from .sessions.memory import MemoryStore
from .sessions.redis import RedisStore
from .sessions.signature_algorithms import SignatureAlgorithms
from .sessions.store import SessionStore
from .sessions.tickets import Tickets
from .transport.adapter import find_ca_bundle
from .web.application import OAuthApp
from .web.backchannel_logout import BackchannelLogout
from .web.hand_over import HandOver, Redemption
from .web.handler import RequestHandler
from .web.health import Healthz, MetricsPage, Readyz
from .web.routing import Routes
from .web.sign_in_handler import ThirdPartyInitiatedLogin
from .web.sign_out import Logout, SignedOut
from .web.tokens import Tokens


def create_app(
    config: Config,
    *,
    store: SessionStore | None = None,
    handlers: Iterable[type[RequestHandler]] = (),
    allow: Callable[[Identity], bool] | None = None,
    on_event: Callable[[Event], object] | None = None,
) -> OAuthApp:
    """Return the WSGI application for *config*.

    It does not read environment variables, and is independent of other applications in the process.

    :param config: ``Config(client_id="...", ...)``, or ``Config.from_environ(os.environ)``.
    :param store: a session store; by default the one of ``config.session_store``.
    :param handlers: handler classes of your own, in addition to those of the sign-in.
    :param allow: decides, with each request of a signed-in user, whether they may enter, in addition to
        ``config.allow``. Only ``True`` admits.
    :param on_event: is called with each audit event (:class:`wsgi_oauth.events.Event`) before the response is sent, so
        it must be quick. Its exceptions are only logged.
    :raises errors.ConfigError: if the configuration cannot work.
    :raises errors.StoreError: if the session folder cannot be created.
    :raises TypeError: if *config* is not a Config, *store* not a session store, *allow* or *on_event* not a function,
        or *handlers* not a collection of complete handler classes.
    :raises ValueError: if two handlers have the same name or route, or a route is invalid.
    """
    if not isinstance(config, Config):
        raise TypeError(
            f"config: must be a Config (got {type(config).__name__}); use Config(...) or Config.from_environ(environ)"
        )
    if not (on_event is None or callable(on_event)):
        raise TypeError(f"on_event: must be a function of an Event (got {on_event!a})")
    if store is not None:
        _check_store(store)
    handlers = _check_handlers(handlers)
    metrics = get_metrics() if config.metrics else None
    listeners = [*([metrics.count_event] if metrics else []), *([on_event] if on_event else [])]
    oauth = OAuthService(config, allow, Events(*listeners), metrics)
    store = open_store(config) if store is None else store
    sessions = build_sessions(config, cast("SessionStore", MeasuredStore(store, metrics)) if metrics else store)
    oauth.algorithms = SignatureAlgorithms(sessions.store, config.session_lifetime)
    access_tokens = AccessTokens(sessions, config.token_lifetime) if config.tokens else None
    tickets = Tickets(sessions) if config.sites else None
    callback: type[RequestHandler] = flow.PostAuthorization
    if oauth.uses_form_post:
        callback = type(callback.__name__, (callback,), {"post": flow.PostAuthorization.get})
    # With several providers, each has its own redirect URI (RFC 9700 4.4.2).
    callback_route = "/callback/<provider>" if oauth.has_labels else "/callback"
    all_handlers: list[type[RequestHandler]] = [
        flow.PreAuthorization,
        ThirdPartyInitiatedLogin,
        callback,
        flow.UsingTheOAuthToken,
        Logout,
        SignedOut,
        type("BackchannelLogout", (BackchannelLogout,), {"sessions": sessions}),
        Verify,
        Healthz,
        type("Readyz", (Readyz,), {"config": config, "store": sessions.store}),
        *([type("Tokens", (Tokens,), {"access_tokens": access_tokens})] if access_tokens else []),
        *([type(each.__name__, (each,), {"tickets": tickets}) for each in (HandOver, Redemption)] if tickets else []),
        *([type("MetricsPage", (MetricsPage,), {"metrics": metrics})] if metrics else []),
        *handlers,
    ]
    routes = Routes((callback_route if each is callback else each.route, each) for each in all_handlers)
    app = OAuthApp(config, sessions, oauth, routes, access_tokens)
    app.metrics = metrics
    app.verifier = Verifier(app)
    return app


def _check_store(store: object) -> None:
    """Raise TypeError if *store* is not a session store."""
    methods = ("load", "create", "update", "delete", "keys", "sweep", "check")
    missing = [name for name in methods if not callable(getattr(store, name, None))]
    if len(missing) == len(methods) or isinstance(store, type):
        raise TypeError(f"store: must be a session store, such as FileStore('/a/folder') (got {store!a:.100})")
    if missing:
        raise TypeError(f"store: {type(store).__name__} lacks {', '.join(missing)}; see wsgi_oauth.SessionStore")


def _check_handlers(handlers: object) -> list[type[RequestHandler]]:
    """Return the handler classes as a list. Raise TypeError if one is incomplete or no handler class."""
    if not isinstance(handlers, Iterable):
        raise TypeError(f"handlers: must be a collection of classes (got {handlers!a:.100}); write handlers=[...]")
    checked = []
    for handler in handlers:
        if not (isinstance(handler, type) and issubclass(handler, RequestHandler)):
            raise TypeError(f"handlers: must be subclasses of RequestHandler (got {handler!a:.100})")
        if not hasattr(handler, "route"):
            raise TypeError(f"{handler.__qualname__}.route: missing; set it to a path such as '/repos'")
        if not handler.methods():
            raise TypeError(f"{handler.__qualname__}: has no method; write get(self, request), post or another one")
        checked.append(handler)
    return checked


def get_app() -> OAuthApp:
    """Return the WSGI application for the ``WSGI_OAUTH_*`` environment variables: ``gunicorn "wsgi_oauth:get_app()"``.

    Errors are those of :func:`create_app`.
    """
    try:
        find_ca_bundle()  # raises ConfigError for a missing file; the bundle is loaded with the first request
        return create_app(Config.from_environ(os.environ))
    except (errors.ConfigError, errors.StoreError) as error:
        raise errors.without_gunicorn_traceback(error) from None


def open_store(config: StoreConfig) -> SessionStore:
    """Return the store that ``WSGI_OAUTH_SESSION_STORE`` names. Raise ConfigError or StoreError if it is unusable."""
    kind, _, place = config.session_store.partition(":")
    if kind == "memory":
        return MemoryStore()
    try:
        return FileStore(place) if kind == "file" else RedisStore(config.session_store)
    except (errors.ConfigError, errors.StoreError) as error:
        raise type(error)(f"WSGI_OAUTH_SESSION_STORE={config.store_name}: {error.detail}") from error


def build_sessions(config: StoreConfig, store: SessionStore) -> SessionManager:
    """Return the manager of the sessions in *store*. Raise ConfigError if a package for encryption is missing."""
    return SessionManager(
        store,
        idle=config.session_idle,
        lifetime=config.session_lifetime,
        encrypted=config.session_seal,
        sign_in_lifetime=config.sign_in_lifetime,
        revocation_names=revocation_names,
    )
