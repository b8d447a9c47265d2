"""The gate: an application of any kind, for those who are signed in.

::

    app = LoginRequired(app, get_app(), public=("/", "/static"))

It stands around the whole application and does as PEP 3333 asks of middleware: what the server gives is copied before
it is changed, what the application gives is passed on as it is. A request of somebody who is signed in costs one look
into the session store, and writes nothing.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlencode, urlsplit

from werkzeug import Response
from werkzeug.wsgi import ClosingIterator

from .. import errors, sign_in
from ..app import OAuthApp, stopping_gunicorn
from ..flow import Logout, PreAuthorization
from ..oauth.client import OAuth2Session
from ..oauth.identity import IDENTITY, Identity
from ..sessions.cookie import COOKIE, session_id_from_cookie
from ..sessions.encoding import StoredSession, decode
from ..sessions.manager import store_key
from ..sessions.session import TOKEN, Session
from ..urls import local_path, path_and_query
from ..web.handler import Request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_IDENTITY = "wsgi_oauth.identity"
_VISIT = "wsgi_oauth.visit"
# What says who the user is, from a server in front or from a client that writes it as a header.
_CLAIMS = ("REMOTE_USER", "AUTH_TYPE", "HTTP_REMOTE_USER", "HTTP_AUTH_TYPE", _IDENTITY, _VISIT)

_MOST_KEPT = 512  # requests that are remembered
_LONGEST_KEPT = 4096  # characters of what is compared of each: a client may send some hundred times as many

# A path that means the same to everybody who may read it: no empty segment, no `.` or `..`, nothing that is still
# percent-encoded, no `;parameters`, no `?` or `#`, no backslash, no control characters.
_PLAIN = re.compile(r"(?:/(?![ .]*(?:/|\Z))[^/\\;%?#\x00-\x1f\x7f]+)*/?")
_VARY = ("Vary", "Cookie")
_PRIVATE = ("Cache-Control", "private, no-cache")
_log = logging.getLogger(__name__)


class LoginRequired:
    """*wsgi_app* for those who are signed in, and *oauth_app*, which signs them in, below *prefix*.

    Whoever is not signed in is sent to sign in and comes back to the same page; what is no navigation of a browser
    gets a 401 with a ``login_url`` as JSON. A 401 of *wsgi_app* itself means the same, unless it has a
    ``WWW-Authenticate`` of its own; so does an :class:`errors.NotSignedIn` that comes out of it.

    In the ``environ`` of *wsgi_app* ``REMOTE_USER`` is the stable id of the user (``github:583231``), ``AUTH_TYPE``
    is ``OAuth2`` and ``wsgi_oauth.identity`` the :class:`Identity`; for anonymous visitors of a public path all
    three are absent, whatever the client or the server says.

    A response for a signed-in user gets ``Vary: Cookie``, and where it says nothing about caches
    ``Cache-Control: private, no-cache``.

    :param oauth_app: what ``create_app`` or ``get_app`` returns. Other middleware belongs around the gate.
    :param prefix: a path below which *oauth_app* answers; ``WSGI_OAUTH_PUBLIC_URL`` ends with it.
    :param public: paths for everybody: ``/static`` is that path and all below it, ``/`` the front page alone. Like
        *prefix* they begin where the gate is mounted, and are written without percent-encoding. A path that somebody
        else may read in another way (``//``, ``..``, ``;``, ``%``, ``?``, ``#``, a backslash, bytes that are not UTF-8)
        is never public.
    :raises errors.ConfigError: when the public URL does not end with *prefix*.
    :raises TypeError: when *oauth_app* is something else, and for *public* as one text.
    :raises ValueError: for a path that is not such a one.
    """

    def __init__(
        self,
        wsgi_app: WSGIApplication,
        oauth_app: WSGIApplication,
        *,
        prefix: str = "/auth",
        public: Collection[str] = (),
    ) -> None:
        if not isinstance(oauth_app, OAuthApp):
            raise TypeError("oauth_app must be what create_app or get_app returns; middleware belongs around the gate")
        if isinstance(public, str):
            raise TypeError(f"public must be several paths, not one text: ({public!r},)")
        self._wsgi_app = wsgi_app
        self._oauth_app = oauth_app
        self._sessions = oauth_app.sessions
        self._has_rules = bool(oauth_app.rules)
        self._prefix = _rule(prefix, "prefix must be a path such as /auth")
        if self._prefix == "/":
            raise ValueError("prefix must be a path below which only the sign-in lives, such as /auth")
        self._below_prefix = f"{self._prefix}/"
        self._public = frozenset(_rule(path, "public must have paths such as /static") for path in public)
        self._below_public = tuple(f"{rule}/" for rule in self._public - {"/"})
        self._known: dict[tuple[Any, ...], _Known] = {}
        # What many requests of one browser have in common is kept once; of a sealed session, for one request only.
        self._read = _read if self._sessions.encrypted else lru_cache(maxsize=256)(_read)
        public_url = oauth_app.config.public_url
        if public_url and not unquote(urlsplit(public_url).path, "latin-1").endswith(self._prefix):
            problem = f"must end with {prefix}, where the gate mounts the sign-in; it is {public_url!a}"
            raise stopping_gunicorn(errors.ConfigError(f"WSGI_OAUTH_PUBLIC_URL {problem}"))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        passed = {**environ}
        for name in _CLAIMS:
            passed.pop(name, None)
        path = environ.get("PATH_INFO", "")
        if path == self._prefix or path.startswith(self._below_prefix):
            passed["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "").rstrip("/") + self._prefix
            passed["PATH_INFO"] = path[len(self._prefix) :]
            return self._oauth_app(passed, start_response)
        visit = _Visit(self, environ, start_response)
        try:
            if self._is_public(visit.script, path):
                self._welcome(visit)
            else:
                visit.enter()
        except errors.Error as error:
            return visit.refuse(error, start_response)
        passed[_VISIT] = visit
        if visit.known is not None:
            passed.update(visit.known.claims)
        return self._call(passed, visit)

    def _base(self, environ: WSGIEnvironment, script: str) -> str:
        """Return the URL of the sign-in as browsers see it. Raise BadHost."""
        return self._oauth_app.base({**environ, "SCRIPT_NAME": script.rstrip("/") + self._prefix})

    def _remember(self, asked: tuple[Any, ...], known: _Known | None) -> None:
        """Keep what a request has led to, for the next ones. What was sealed is kept for one request only."""
        if known is None or self._sessions.encrypted or sum(len(text or "") for text in asked) > _LONGEST_KEPT:
            self._known.pop(asked, None)
            return
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()  # safe with threads, and cheaper than to know who came last
        self._known[asked] = known

    def _outside(self, base: str) -> str:
        """Return the URL of the gate itself, for the URL of its sign-in."""
        return base.rsplit("/", self._prefix.count("/"))[0]

    def _welcome(self, visit: _Visit) -> None:
        """See who comes to a public path, where nothing keeps anybody out."""
        if COOKIE not in visit.environ.get("HTTP_COOKIE", ""):
            return
        try:
            known = visit.recognize()
            identity = known and (known.identity or (visit.ask() if visit.is_page() else None))
            if self._has_rules and identity is not None:
                visit.admit(identity)
            elif self._has_rules:  # who that is, is not known, so nobody knows whether they may
                visit.forget()
        except errors.NotAllowed:
            visit.forget()
        except errors.Error as error:  # a page for everybody needs neither the store nor the provider
            _log.warning("a public page is shown as to nobody: %s: %s", error.cause, error)
            if self._has_rules:
                visit.forget()

    def _is_public(self, script: str, path: str) -> bool:
        """Look at the path as the application will see it, decoded once; what is odd in any way is not public."""
        if (path or "/") not in self._public and not path.startswith(self._below_public):
            return False
        try:
            (script + path).encode("latin-1").decode()
        except UnicodeError:
            return False
        return _PLAIN.fullmatch(script + path) is not None

    def _call(self, environ: WSGIEnvironment, visit: _Visit) -> Iterable[bytes]:
        """Call the application; return what it returns, and not something around it, wherever that can be."""
        try:
            body = self._wsgi_app(environ, visit.start_response)
        except errors.NotSignedIn as error:
            if visit.answered:
                raise
            return visit.answer_instead(error)
        if not visit.answered:  # a generator: it begins with its first chunk
            return ClosingIterator(_late(body, visit), getattr(body, "close", None))
        return body if visit.instead is None else visit.replace(body)


class _Known(NamedTuple):
    """What a request has led to. The same request leads there again until *until* (seconds since the epoch), as long
    as the store has the same *raw* under *key*.
    """

    session_id: str
    key: str
    raw: bytes
    stored: StoredSession
    identity: Identity | None  # None as long as the provider was not asked who that is
    claims: Mapping[str, Any]  # what the application finds in environ
    until: float


class _Visit:
    """A request that the gate looks at: who that is, what the functions of ``environ`` need to know of it, and what is
    answered.

    It keeps where the request was: what stands around the gate may move ``SCRIPT_NAME`` back before the body is made.
    """

    known: _Known | None = None
    answered = False  # whether the response has begun
    instead: Iterable[bytes] | None = None  # the body, when the gate answers for the application
    _session: Session | None = None

    def __init__(self, gate: LoginRequired, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self._gate = gate
        self.environ = environ  # the server's, which the application does not get
        self._start_response = start_response
        self.script: str = environ.get("SCRIPT_NAME", "")
        self.path: str = environ.get("PATH_INFO", "")

    @property
    def base(self) -> str:
        """The URL of the sign-in. Raise BadHost."""
        return self._gate._base(self.environ, self.script)

    @property
    def session(self) -> Session:
        """The session, for those who want more of it than to know who it is."""
        if self._session is None:
            known = self.known
            stored, session_id = (known.stored, known.session_id) if known else (None, None)
            self._session = Session(self._gate._sessions, stored, session_id)
        return self._session

    def enter(self) -> None:
        """See that somebody is signed in who may enter. Raise what keeps them out: NotSignedIn, NotAllowed, BadHost,
        StoreError, ProviderError.
        """
        known = self.recognize()
        if known is None:
            raise errors.NotSignedIn("the gate is for signed-in users")
        identity = known.identity or self.ask()
        if self._gate._has_rules:
            self.admit(identity)

    def forget(self) -> None:
        """Go on as with anybody."""
        self.known = self._session = None

    def admit(self, identity: Identity) -> None:
        """See that *identity* may enter, by the rules of today. Raise NotAllowed."""
        assert self.known is not None
        self._gate._oauth_app.admit(identity, self.known.stored.data)

    def recognize(self) -> _Known | None:
        """Look into the session of the request's cookie for who that is. Raise StoreError, BadHost."""
        gate, get = self._gate, self.environ.get
        # All that decides whose session that is: the cookies, and by which scheme and host the browser came.
        asked = (
            get("HTTP_COOKIE"),
            get("HTTP_HOST") or get("SERVER_NAME"),
            get("wsgi.url_scheme"),
            get("HTTP_X_FORWARDED_HOST"),
            get("HTTP_X_FORWARDED_PROTO"),
        )
        known = gate._known.get(asked)
        if known is not None and time.time() < known.until and gate._sessions.store.load(known.key) == known.raw:
            self.known = known
            return known
        self.known = known = self._look()
        gate._remember(asked, known)
        if known is not None and gate._sessions.needs_touch(known.stored):
            self._keep_alive()
        return known

    def _look(self) -> _Known | None:
        sessions = self._gate._sessions
        session_id = session_id_from_cookie(self.environ, secure=self.base.startswith("https:"))
        loaded = sessions.load(session_id) if session_id else None
        if session_id is None or loaded is None:
            return None
        raw, stored, identity, claims = self._gate._read(loaded)
        if stored is None or not (stored.signed_in and sessions.is_alive(stored)):
            return None
        try:
            self._gate._oauth_app.registration(stored.data)
        except errors.TokenRejected:  # of a provider that was taken out
            return None
        until = sessions.cache_valid_until(stored)
        return _Known(session_id, store_key(session_id), raw, stored, identity, claims, until)

    def ask(self) -> Identity:
        """Ask the provider who signed in, and remember it: the first request of a session does that."""
        assert self.known is not None
        identity = self._gate._oauth_app.identify(self.session)
        self.known = self.known._replace(identity=identity, claims=_claims(identity))
        return identity

    def oauth2_session(self) -> OAuth2Session:
        return self._gate._oauth_app.oauth2_session(token=self.session[TOKEN], session=self.session)

    def login_url(self, next_url: str | None) -> str:
        if next_url is None:
            next_url = local_path(self._located(Request(self.environ, populate_request=False)).page)
        query = f"?{urlencode({'next': next_url})}" if next_url else ""
        return f"{self.base}{PreAuthorization.route}{query}"

    def logout_url(self) -> str:
        return self.base + Logout.route

    def refuse(self, error: errors.Error, start_response: StartResponse) -> Iterable[bytes]:
        """Answer as the sign-in itself does: with the way to sign in, or with a page about *error*."""

        def answer(request: Request) -> Response:
            if not isinstance(error, errors.BadHost):
                request.session = self.session  # as this request found it, so that a later one of another is told
                request.next_url = local_path(self._located(request).page) or ""
            raise error

        return self._gate._oauth_app.respond({**self.environ}, start_response, answer)

    def refuse_again(self) -> errors.NotSignedIn | None:
        """Return what a 401 of the application means, or None when another sign-in would lead in a circle."""
        if self.known is None:
            return errors.NotSignedIn("the application asks for a sign-in")
        if sign_in.is_redirect_loop(self.session):
            return None
        return errors.SignInAgain("the application asks for another sign-in")

    def is_page(self) -> bool:
        return Request(self.environ, populate_request=False).is_navigation

    def _located(self, request: Request) -> Request:
        """Tell *request* where the sign-in is, and where the browser: on the front page, when nobody should be sent
        back to where it is.
        """
        request.base = self.base
        outside = self._gate._outside(request.base)
        here = path_and_query(outside, self.path, self.environ.get("QUERY_STRING", ""))
        request.asked_for = local_path(here) or path_and_query(outside, "/", "")
        return request

    def _keep_alive(self) -> None:
        try:
            self._gate._sessions.save(self.session)
        except errors.StoreError as error:  # the session is as good as before; the next request tries again
            _log.warning("the idle clock of a session cannot be written: %s", error)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        """PEP 3333's, for the application behind the gate. What it says is passed on at once."""
        self.answered = True
        if exc_info:
            self.instead = None  # whatever was to be said instead of the first answer
        if status.startswith("401") and not _has(headers, "www-authenticate"):
            error = self.refuse_again()
            if error is not None:
                cookies = [header for header in headers if header[0].lower() == "set-cookie"]
                self.answer_instead(error, cookies, exc_info)
                return _discard
        if self.known is not None:
            headers = [*headers, _VARY] if _has(headers, "cache-control") else [*headers, _VARY, _PRIVATE]
        return self._start_response(status, headers, exc_info) if exc_info else self._start_response(status, headers)

    def answer_instead(
        self, error: errors.NotSignedIn, cookies: Iterable[tuple[str, str]] = (), exc_info: Any = None
    ) -> Iterable[bytes]:
        """Answer for the application, with the *cookies* that it sets."""

        def start_response(status: str, headers: list[tuple[str, str]]) -> object:
            return self._start_response(status, [*headers, *cookies], exc_info)

        self.answered = True
        self.instead = self.refuse(error, start_response)  # type: ignore[arg-type]
        return self.instead

    def replace(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Close *body*, which nobody will see, and return the gate's own."""
        assert self.instead is not None
        if hasattr(body, "close"):
            body.close()
        return self.instead


def current_identity(environ: WSGIEnvironment) -> Identity | None:
    """Return who is signed in, or None: on a public path, or where no gate is."""
    identity: Identity | None = environ.get(_IDENTITY)
    return identity


def oauth2_session(environ: WSGIEnvironment) -> OAuth2Session:
    """Return the signed-in user's client for the provider's API: refreshed, pooled, with deadlines.

    ``oauth2_session(environ).get_json("https://api.github.com/user/repos", of=list)``. It is for this request only.

    :raises errors.NotSignedIn: for an anonymous visitor of a public path.
    :raises LookupError: when the request has not come through :class:`LoginRequired`.
    """
    return _visit_of(environ).oauth2_session()


def login_url(environ: WSGIEnvironment, next_url: str | None = None) -> str:
    """Return the URL that starts a sign-in, and comes back to *next_url*: a path of this site, or else this page.

    :raises errors.BadHost: on a public path, for a Host header that is not this site's.
    :raises LookupError: when the request has not come through :class:`LoginRequired`.
    """
    return _visit_of(environ).login_url(next_url)


def logout_url(environ: WSGIEnvironment) -> str:
    """Return the URL that signs out, by a POST: ``<form method="post" action="...">``.

    Raises what :func:`login_url` raises.
    """
    return _visit_of(environ).logout_url()


def _read(raw: bytes) -> tuple[bytes, StoredSession | None, Identity | None, Mapping[str, Any]]:
    """Return *raw*, and what it means: all that stays the same as long as the store has it, and nobody changes."""
    stored = decode(raw)
    identity = stored and Identity.from_dict(stored.data.get(IDENTITY))
    return raw, stored, identity, _claims(identity)


def _claims(identity: Identity | None) -> Mapping[str, Any]:
    """Return what the application finds in ``environ`` of who is signed in."""
    return {} if identity is None else {"REMOTE_USER": identity.id, "AUTH_TYPE": "OAuth2", _IDENTITY: identity}


def _visit_of(environ: WSGIEnvironment) -> _Visit:
    try:
        visit: _Visit = environ[_VISIT]
    except KeyError:
        raise LookupError("this request has not come through wsgi_oauth.LoginRequired") from None
    return visit


def _rule(path: str, requirement: str) -> str:
    """Return a path of the configuration as it stands in ``PATH_INFO`` (PEP 3333: bytes as latin-1)."""
    rule = path.encode().decode("latin-1")
    if not rule or "*" in rule or not _PLAIN.fullmatch(rule):
        raise ValueError(f"{requirement}: {path!a} is none; it begins with a slash, and is taken as it is")
    return rule.rstrip("/") or "/"


def _has(headers: list[tuple[str, str]], name: str) -> bool:
    for header, _ in headers:  # noqa: SIM110  # twice as fast as any(), and asked with each response
        if header.lower() == name:
            return True
    return False


def _late(body: Iterable[bytes], visit: _Visit) -> Iterator[bytes]:
    """Pass *body* on, of an application that calls start_response only when it is asked for its first chunk."""
    try:
        for chunk in body:
            if visit.instead is not None:
                break
            yield chunk
    except errors.NotSignedIn as error:
        if visit.answered:
            raise
        visit.answer_instead(error)
    yield from visit.instead or ()


def _discard(_chunk: bytes) -> None:
    """Take what an application writes below a status that the gate has replaced."""
