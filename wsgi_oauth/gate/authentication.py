"""Authentication: the signed-in session of a request, and its user."""

from __future__ import annotations

import logging
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from hashlib import sha256
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import errors
from ..characters import CONTROLS
from ..events import TOKEN_FIRST_USE, Event, Source
from ..oauth.access import Rules
from ..oauth.bearer import verify_bearer_token
from ..oauth.identity import IDENTITY, Identity
from ..oauth.registration import Registration
from ..sessions.access_tokens import TOKEN_PREFIX, USE_INTERVAL, read_info
from ..sessions.cookie import COOKIE, CookieNames, own_cookies_pattern
from ..sessions.encoding import PROVIDER, StoredSession
from ..sessions.revocation import is_revoked
from ..sessions.session import Session
from ..sessions.store import store_key
from ..urls import have_same_origin
from ..web.application import OAuthApp

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

IDENTITY_KEY = "wsgi_oauth.identity"
_MAX_CACHED = 512  # entries
_MAX_CACHED_BYTES = 64 * 1024 * 1024  # size of the stored sessions; few have more than 10 KiB, but tokens can be large
_MAX_CACHE_KEY = 4096  # characters, because clients may send long Cookie headers
_MAX_CACHED_HEADER = 1024  # characters; a longer Authorization header is represented by its hash
_log = logging.getLogger(__name__)


class Login(NamedTuple):
    """A signed-in session, or the access token of a program."""

    session_id: str
    key: str  # the store's key of the session
    raw: bytes  # the stored session, encoded
    stored: StoredSession
    identity: Identity | None  # None until the provider has been asked
    environ: Mapping[str, Any]  # the keys for the protected application
    valid_until: float  # seconds since the epoch: when it expires, must be rechecked, or its last use must be stored
    must_identify: bool  # whether the provider must be asked for the user: for the first time, or at a recheck
    version: object = None  # the version of the stored session; None if the store has no versions
    revocation_keys: tuple[str, ...] = ()  # the store's keys of the records that can revoke this session
    is_token: bool = False  # whether this is the access token of a program instead of a session
    is_stored: bool = True  # False for an access token of the provider
    other_cookies: str = ""  # the Cookie header without the cookies of this program


class Authenticator:
    """Finds the signed-in session of a request.

    It has the gate's only cache, which maps a request's headers to a login. Parsing and checking a session costs twice
    as much as all other work of the gate. A cached login is used only while the store holds the same data, so a
    sign-out or a change in another process takes effect at once. Access rules are evaluated with every request.
    """

    def __init__(self, app: OAuthApp, remote_user: Callable[[Identity], str | None] | None = None) -> None:
        self._app = app
        self._remote_user = remote_user or app.oauth.remote_user  # returns the value of REMOTE_USER
        self._name_source = "function" if remote_user else app.oauth.remote_user_kind
        self._oauth = app.oauth
        self._sessions = app.sessions
        self._cookie_name = app.config.cookie_name or COOKIE  # a part of the name of each cookie
        self._own_cookies = own_cookies_pattern(self._cookie_name)
        self._access_tokens = app.access_tokens
        store: Any = app.sessions.store
        # Without change_versions, the versions of a store would not change with a revocation.
        has_versions = all(hasattr(store, name) for name in ("version", "is_current", "change_versions"))
        self._version: Callable[[str], object] | None = store.version if has_versions else None
        self._has_version: Callable[[object], bool] | None = store.is_current if has_versions else None
        # Keyed by the request's headers and by the store's key, because different requests may share one session.
        self._cache: dict[tuple[str | bytes | bool | None, ...] | str, Login] = {}
        self._cached_bytes = 0  # approximate, because threads update it without a lock
        self._in_background = set[str]()  # keys of the sessions that background threads recheck
        self._max_background = app.config.upstream_limit

    def authenticate(self, environ: WSGIEnvironment, source: Callable[[], Source] = Source) -> Login | None:
        """Return the access token of the request, or the signed-in session of its cookie, or None.

        :param source: describes the request, for audit events.
        :raises errors.StoreError: if the store cannot be read.
        :raises errors.BadHost: if the Host header is not this site's.
        :raises errors.TokenUnknown: if the access token is unknown, has expired or was revoked.
        :raises errors.InvalidBearerToken: if the access token of the provider is invalid.
        :raises errors.ProviderError: with status 503, if such a token cannot be verified now.
        """
        get = environ.get
        authorization: str | bytes | None = get("HTTP_AUTHORIZATION")
        if isinstance(authorization, str) and len(authorization) > _MAX_CACHED_HEADER:
            # Bytes, which equal no header: otherwise the hash would be accepted in place of the token.
            authorization = sha256(authorization.encode(errors="surrogatepass")).digest()
        is_foreign = authorization is not None and self._is_from_another_site(environ)
        # All headers that select the login: the token, the cookies, and the URL of this site.
        cache_key = (
            authorization,
            is_foreign,
            get("HTTP_COOKIE"),
            get("HTTP_HOST") or get("SERVER_NAME"),
            get("wsgi.url_scheme"),
            get("HTTP_X_FORWARDED_HOST"),
            get("HTTP_X_FORWARDED_PROTO"),
        )
        cached = self._cache.get(cache_key)
        if cached is not None and time.time() < cached.valid_until and self._is_current(cached):
            return cached
        token = None if authorization is None else self._find_token(environ)
        if token is not None and is_foreign:
            _log.info(
                "an access token as the password is ignored, because another site has caused the request; send it as a "
                "bearer token (Origin: %.200a)",
                get("HTTP_ORIGIN"),
            )
            token = None
        if token is not None:
            self._cache.pop(cache_key, None)
            self._app.base_url(environ)  # checks the host
            is_own = self._access_tokens is not None and token.startswith(TOKEN_PREFIX)
            read_token = self._read_access_token if is_own else self._read_bearer_token
            login: Login | None = read_token(token, source)
        elif self._cookie_name in environ.get("HTTP_COOKIE", ""):
            login = self._read_session(environ, self._app.site.cookie_names(self._app.base_url(environ)))
        else:
            return None
        self._update_cache(cache_key, login)
        if login is not None and not login.is_token and self._sessions.needs_touch(login.stored):
            self._touch(login)
        return login

    def application_environ(self, environ: WSGIEnvironment, login: Login | None) -> WSGIEnvironment:
        """Return a copy of *environ* with the keys that name the user, and without the credentials of this program.

        Otherwise a page of the application that shows its request would reveal the token or the cookies.
        """
        if login is not None and not login.is_token:
            passed = {**environ, **login.environ, "HTTP_COOKIE": login.other_cookies}
        else:
            passed = {**environ, **(login.environ if login is not None else {})}
            passed["HTTP_COOKIE"] = self._without_own_cookies(environ.get("HTTP_COOKIE", ""))
        if not passed["HTTP_COOKIE"]:  # some applications cannot read an empty header
            del passed["HTTP_COOKIE"]
        if "HTTP_AUTHORIZATION" in environ and (
            (login is not None and login.is_token) or self._find_token(environ) is not None
        ):
            del passed["HTTP_AUTHORIZATION"]
        return passed

    def _is_from_another_site(self, environ: WSGIEnvironment) -> bool:
        """Return whether a page of another site caused this request with Basic authentication (CSRF).

        Browsers remember the user name and the password, for example from a URL that contains them, and add them to
        such requests. ``Origin`` is for old browsers, and for plain http, where no browser sends ``Sec-Fetch-Site``.
        """
        if environ["HTTP_AUTHORIZATION"][:6].lower() != "basic ":
            return False
        if site := environ.get("HTTP_SEC_FETCH_SITE"):
            return site in {"cross-site", "same-site"}
        return "HTTP_ORIGIN" in environ and not have_same_origin(environ["HTTP_ORIGIN"], self._app.base_url(environ))

    def _find_token(self, environ: WSGIEnvironment) -> str | None:
        """Return the access token of a program in the Authorization header; None without a token that can be used.

        The header contains a bearer token (RFC 6750 2.1), or a token of this application as the password of Basic
        authentication with any user name (RFC 7617 2).
        """
        scheme, _, credentials = environ["HTTP_AUTHORIZATION"].partition(" ")
        is_basic, credentials = scheme.lower() == "basic", credentials.strip()
        if is_basic:
            try:
                # Many programs write the user name as latin-1, although the challenge asks for UTF-8.
                # A password from a file often ends with the end of a line.
                credentials = b64decode(credentials, validate=True).partition(b":")[2].decode("latin-1").rstrip()
            except ValueError:  # not Base64
                return None
        elif scheme.lower() != "bearer":
            return None
        is_own = self._access_tokens is not None and credentials.startswith(TOKEN_PREFIX)
        return credentials if is_own or (self._oauth.accepts_bearer_tokens and not is_basic) else None

    def _without_own_cookies(self, header: str) -> str:
        return self._own_cookies.sub("", header).lstrip(";, \t") if self._cookie_name in header else header

    def session(self, login: Login | None) -> Session:
        """Return the session of *login*, or a new one."""
        if login is None or login.is_token:
            return Session(self._sessions)
        return Session(self._sessions, login.stored, login.session_id)

    def identify(self, login: Login, session: Session) -> Login:
        """Return *login* with its identity, see :meth:`.OAuthService.identify`."""
        identity = self._oauth.identify(session)
        return login._replace(identity=identity, environ=self._build_environ(identity), must_identify=False)

    def identify_in_background(self, login: Login, source: Source) -> Thread | None:
        """Identify the user of *login* in a thread, so that the request does not wait for the provider.

        A session has one thread at a time, and a process at most as many as requests may wait for the provider. If no
        thread can be started, a later request of the session tries again.

        :return: the thread that this call has started, or None.
        """
        if login.key in self._in_background or len(self._in_background) >= self._max_background:
            return None
        session = self.session(login)
        session.source = source
        thread = Thread(target=self._identify_in_background, args=(login, session), name="recheck", daemon=True)
        self._in_background.add(login.key)
        try:
            thread.start()
        except RuntimeError as error:  # too many threads, or the process ends
            self._in_background.discard(login.key)
            _log.warning("recheck: postponed, because no thread can be started: %s", error)
            return None
        return thread

    def _identify_in_background(self, login: Login, session: Session) -> None:
        try:
            try:
                self.identify(login, session)
            except errors.TokenRejected as error:
                if not session.ended:  # otherwise a recheck has ended it
                    self._oauth.end_rejected(session, error)
        except errors.NotSignedIn:  # the session has ended meanwhile
            pass
        except errors.Error as error:
            _log.warning("the user of a session is not known yet: %s: %s", error.cause, error)
        except Exception:  # noqa: BLE001  # otherwise only threading.excepthook would report it
            _log.exception("the user of a session is not known yet")
        finally:
            self._in_background.discard(login.key)

    def check_access(self, login: Login, rules: Rules | None = None) -> None:
        """Check that the current access rules admit the user, and that there is a value for ``REMOTE_USER``.

        :param rules: the rules of a part of the application; by default those of the configuration.
        :raises errors.NotAllowed: if the rules exclude the user, or if the user is not identified yet.
        :raises errors.NoUserName: if there is no such value.
        """
        if login.identity is None:
            raise errors.NotAllowed("an unidentified user", "an unidentified user")
        registration = self._oauth.registration_of(login.stored.data)
        try:
            if not login.environ:
                raise errors.NoUserName(login.identity.id, login.identity.display_name, self._name_source)
            self._oauth.check_access(login.identity, registration, rules)
        except errors.NotAllowed as error:
            error.remedy = registration.with_own_variables(error.remedy)
            if not login.is_stored:
                error.challenge = 'Bearer error="insufficient_scope"'
            raise

    def _read_access_token(self, token: str, source: Callable[[], Source]) -> Login:
        assert self._access_tokens is not None
        key = store_key(token)
        version = self._version(key) if self._version else None  # read before the data, which may change in between
        raw = self._sessions.store.load(key)
        stored = self._access_tokens.parse(token, raw) if raw is not None else None
        identity = Identity.from_dict(stored.data.get(IDENTITY)) if stored else None
        if raw is None or stored is None or identity is None:
            raise errors.TokenUnknown("an access token is unknown, has expired or was revoked")
        registration = self._oauth.registration_with_key(stored.data.get(PROVIDER, ""))
        if registration is None:
            raise errors.TokenUnknown("the provider of the owner of an access token was removed from the configuration")
        info = read_info(stored)
        if self._access_tokens.record_use(stored):
            self._emit_first_use(info.id, identity, registration, source)
        environ, valid_until = self._build_environ(identity, "Token"), min(info.expires, time.time() + USE_INTERVAL)
        return Login(
            "", key, raw, stored, identity, environ, valid_until, must_identify=False, version=version, is_token=True
        )

    def _read_bearer_token(self, token: str, source: Callable[[], Source]) -> Login:
        audience, registrations = self._app.config.bearer_audience, self._oauth.registrations.values()
        identity, registration, valid_until, token_id = verify_bearer_token(token, audience, registrations)
        self._emit_first_use(token_id, identity, registration, source)
        now, environ = time.time(), self._build_environ(identity, "Bearer")
        key, stored = store_key(token), StoredSession(now, now, {PROVIDER: registration.key})
        return Login(
            "", key, b"", stored, identity, environ, valid_until, must_identify=False, is_token=True, is_stored=False
        )

    def _emit_first_use(
        self, token_id: str, identity: Identity, registration: Registration, source: Callable[[], Source]
    ) -> None:
        fields = {"token": token_id, "user": identity.id, "provider": registration.label, **source()._asdict()}
        self._oauth.events.emit(Event(TOKEN_FIRST_USE, **fields))

    def _read_session(self, environ: WSGIEnvironment, names: CookieNames) -> Login | None:
        session_id = self._sessions.find_session_id(environ, names)
        if session_id is None:
            return None
        key = store_key(session_id)
        version = self._version(key) if self._version else None  # read before the data, which may change in between
        raw = self._sessions.store.load(key)
        login = self._cache.get(key)
        if login is None or login.raw != raw:
            self._cache.pop(key, None)
            login = None if raw is None else self._parse_session(session_id, key, raw)
        if login is None or not self._sessions.is_alive(login.stored) or self._sessions.is_revoked(login.stored):
            return None
        next_recheck = self._oauth.next_recheck(login.stored.data, login.stored.started)
        return login._replace(
            valid_until=min(self._sessions.cache_valid_until(login.stored), next_recheck),
            must_identify=login.identity is None or next_recheck <= time.time(),
            version=version,
            other_cookies=self._without_own_cookies(environ["HTTP_COOKIE"]),
        )

    def _is_current(self, login: Login) -> bool:
        """Return whether the stored session is unchanged since *login* was cached, and is not revoked."""
        if not login.is_stored:
            return True
        if self._has_version is not None:  # a version also changes with each revocation
            return login.version is not None and self._has_version(login.version)
        raw, *records = self._sessions.load_all([login.key, *login.revocation_keys])
        return raw == login.raw and not is_revoked(login.stored, records)

    def _parse_session(self, session_id: str, key: str, raw: bytes) -> Login | None:
        stored = self._sessions.decode(session_id, raw)
        if stored is None or not stored.signed_in:
            return None
        try:
            self._oauth.registration_of(stored.data)
        except errors.TokenRejected:  # the provider was removed from the configuration
            return None
        identity = Identity.from_dict(stored.data.get(IDENTITY))
        return Login(
            *(session_id, key, raw, stored, identity, self._build_environ(identity)),
            valid_until=0,
            must_identify=True,
            revocation_keys=tuple(self._sessions.revocation_keys(stored)),
        )

    def _update_cache(self, cache_key: tuple[str | bytes | bool | None, ...], login: Login | None) -> None:
        too_large = sum(len(text) for text in cache_key if isinstance(text, str)) > _MAX_CACHE_KEY
        if login is None or too_large:
            self._cache.pop(cache_key, None)
            return
        if len(self._cache) >= _MAX_CACHED or self._cached_bytes > _MAX_CACHED_BYTES:
            self._cache.clear()  # simpler than an eviction order, and safe with threads
            self._cached_bytes = 0
        self._cached_bytes += len(login.raw)
        self._cache[cache_key] = self._cache[login.key] = login

    def _build_environ(self, identity: Identity | None, auth_type: str = "OAuth2") -> Mapping[str, Any]:
        """Return the keys of ``environ`` that name the user; empty if there is no valid value for ``REMOTE_USER``."""
        if identity is None:
            return {}
        try:
            name = self._remote_user(identity)
        except Exception:  # noqa: BLE001  # because an application's function that fails must not give access
            _log.exception("the function `remote_user` failed for %s; access is denied", identity.id)
            return {}
        if not isinstance(name, str) or not name or CONTROLS.search(name):
            return {}
        # PEP 3333: bytes as latin-1.
        return {"REMOTE_USER": name.encode().decode("latin-1"), "AUTH_TYPE": auth_type, IDENTITY_KEY: identity}

    def _touch(self, login: Login) -> None:
        """Store that the session was used now. A failure is only logged, because the next request tries again."""
        try:
            self._sessions.save(self.session(login))
        except errors.StoreError as error:
            _log.warning("the last use of a session was not stored: %s", error)
