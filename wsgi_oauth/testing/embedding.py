"""For the tests of those who embed: is the sign-in at home in this application?

::

    def test_the_sign_in_is_at_home():
        with local_provider() as environ:
            check_embedding(make_app(create_app(Config.from_environ(environ))), prefix="/auth")

And for all their other tests somebody who is signed in, without any provider::

    client.set_cookie(*signed_in(oauth_app))

Nothing of this belongs into production, and nothing there imports it: the local provider lets everybody in.
"""

from __future__ import annotations

import json
import re
import wsgiref.validate
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.cookies import Morsel, SimpleCookie
from itertools import chain
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock
from urllib.parse import parse_qs, urljoin, urlsplit

import requests
from werkzeug.datastructures import Headers
from werkzeug.test import create_environ
from werkzeug.urls import iri_to_uri

from ..app import OAuthApp
from ..config import PREFIX
from ..config.settings import known_variables
from ..demo.local_provider import OCTOCAT, LocalProvider
from ..demo.server import serve_provider
from ..gate.middleware import LoginRequired, current_identity
from ..oauth.identity import IDENTITY, Identity
from ..sessions.cookie import cookie_name
from ..sessions.session import PROVIDER, TOKEN, Session
from ..urls import is_loopback

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_NAVIGATION = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
_PROGRAM = {"Accept": "application/json"}
_QUERY = "kit=a%20b&kit=caf%C3%A9"  # what a careless redirect loses, or encodes once more
# Who forges this does it through a server in front, or with a header.
_FORGED: Mapping[str, Any] = {
    "REMOTE_USER": "intruder",
    "AUTH_TYPE": "Forged",
    "HTTP_REMOTE_USER": "intruder",
    "HTTP_AUTH_TYPE": "Forged",
    "wsgi_oauth.identity": Identity(
        "forged", "intruder", username="intruder", name="Intruder", email="intruder@example.com"
    ),
}
_CHUNKS = [b"%d of 8\n" % number for number in range(1, 9)]
_COOKIES = ("kit-a", "kit-b")
_UPLOAD = bytes(range(256)) * 64


@contextmanager
def local_provider(public_url: str = "") -> Iterator[dict[str, str]]:
    """Run the local provider on a free port of this machine; yield the ``WSGI_OAUTH_*`` variables for it.

    They are for ``Config.from_environ``, for ``mock.patch.dict(os.environ, ...)`` around an application that uses
    ``get_app``, or for a process of its own: what the environment says otherwise is emptied. Sessions are kept in
    memory. The user is called Mona Lisa Octocat.

    :param public_url: ``WSGI_OAUTH_PUBLIC_URL``, for an application that is tested under its real name.
    """
    provider = LocalProvider(redirect_uris=[f"{public_url.rstrip('/')}/callback"] if public_url else ())
    with serve_provider(provider):
        unset = dict.fromkeys(known_variables(), "")
        settings = {
            "CLIENT_ID": provider.client_id,
            "CLIENT_SECRET": provider.client_secret or "",
            "AUTHORIZATION_URL": provider.authorization_url,
            "TOKEN_URL": provider.token_url,
            "PROFILE_URL": provider.profile_url,
            "REVOCATION_URL": provider.revocation_url,
            "ISSUER": provider.url,
            "PUBLIC_URL": public_url,
            "SESSION_STORE": "memory:",
        }
        yield unset | {PREFIX + name: value for name, value in settings.items()}


class Cookie(NamedTuple):
    """The cookie of somebody who is signed in; ``str(cookie)`` is what a ``Cookie`` header says."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


def signed_in(
    app: WSGIApplication, identity: Identity | None = None, *, token: Mapping[str, Any] | None = None
) -> Cookie:
    """Sign somebody in without a provider, by writing a session into the store of *app*; return their cookie.

    It opens *app* alone, and what shares its store. With an https ``WSGI_OAUTH_PUBLIC_URL`` it is a cookie for https,
    so the test client has to ask for that URL.

    :param app: the gate, or what ``create_app`` or ``get_app`` returned.
    :param identity: who that is; if nobody is named, Mona Lisa Octocat.
    :param token: what ``oauth2_session(environ)`` sends to the provider's API, as the provider would have given it.
    :raises TypeError: when *app* is neither.
    :raises errors.StoreError: when the session cannot be stored.
    """
    oauth_app = app._oauth_app if isinstance(app, LoginRequired) else app
    if not isinstance(oauth_app, OAuthApp):
        raise TypeError("signed_in needs the LoginRequired gate, or what create_app or get_app returned")
    first, *others = oauth_app.registrations.values()
    somebody = identity or Identity(
        first.configured_provider.name,
        str(OCTOCAT["id"]),
        username=str(OCTOCAT["login"]),
        name=str(OCTOCAT["name"]),
        email=str(OCTOCAT["email"]),
    )
    session = Session(oauth_app.sessions)
    session[TOKEN] = dict(token or {"access_token": "of-a-test", "token_type": "Bearer"})
    session[PROVIDER] = next(
        (each.key for each in others if each.configured_provider.name == somebody.provider), first.key
    )
    session[IDENTITY] = somebody.as_dict()
    oauth_app.sessions.save(session)
    assert session.id is not None
    return Cookie(cookie_name(secure=(oauth_app.config.public_url or "").startswith("https:")), session.id)


class EmbeddingFault(AssertionError):
    """What :func:`check_embedding` has found: ``findings``, a sentence each."""

    def __init__(self, findings: Collection[str]) -> None:
        super().__init__("\n".join(["the sign-in is not at home in this application:", *map("- {}".format, findings)]))
        self.findings = list(findings)


def check_embedding(
    app: WSGIApplication,
    *,
    prefix: str = "/auth",
    page: str | None = "/",
    public: Collection[str] = (),
    shows: str = "",
    url: str = "http://localhost",
) -> None:
    """Sign in at *app* through the local provider, look around, sign out, and say all that is wrong.

    *app* is called in this process, under :mod:`wsgiref.validate`. For some requests an application of the kit stands
    behind the gate in place of yours, to see whether uploads, streams and ``close()`` get through to it.

    :param app: the application as a server would be given it, set up for :func:`local_provider`.
    :param prefix: the path of the sign-in, from the host on.
    :param page: a path behind the gate that answers a GET of whoever is signed in; None when *app* has no gate, and the
        sign-in is only mounted.
    :param public: paths that everybody may see.
    :param shows: a text that *page* shows to Mona Lisa Octocat, such as her name.
    :param url: scheme and host under which *app* is called: those of ``WSGI_OAUTH_PUBLIC_URL``, if it is set.
    :raises EmbeddingFault: an AssertionError with the findings. What *app* itself raises comes out as it is.
    """
    inspection = _Inspection(app, url.rstrip("/"), prefix.rstrip("/"), page, public=public, shows=shows)
    try:
        inspection.run()
    except _Stuck as reason:  # what would come next makes no sense any more
        inspection.findings.append(str(reason))
    if inspection.findings:
        raise EmbeddingFault(inspection.findings)


class _Stuck(Exception):
    """A finding after which nothing else can be looked at."""


class _Inspection:
    """One visit: each method is a step of it, and notes what it finds."""

    def __init__(
        self, app: WSGIApplication, url: str, prefix: str, page: str | None, *, public: Collection[str], shows: str
    ) -> None:
        self.findings: list[str] = []
        self._gated = page is not None
        self._prefix = iri_to_uri(prefix)
        self._page = f"{self._prefix}/profile" if page is None else iri_to_uri(page)
        self._here = f"{self._page}?{_QUERY}"
        self._public = public
        self._shows = shows
        self._sign_in = f"{url}{self._prefix}/"
        self._browser = _Browser(app, url)
        self._behind = _Behind()

    def run(self) -> None:
        with self._behind.every_gate():
            start = self._be_sent_to_sign_in()
            self._ask_as_a_program()
            self._see_public_pages()
            self._forge_an_identity()
            self._sign_in_and_come_back(start)
            self._see_the_page()
            if self._gated:
                self._forge_another_identity()
                self._stream()
                self._hang_up()
                self._upload()
                self._be_forbidden()
            self._sign_out()

    def _be_sent_to_sign_in(self) -> str:
        answer = self._browser.get(self._here)
        told = f"{self._page} answers {answer} to a browser that is not signed in"
        if answer.status < 300 and self._gated:
            raise _Stuck(
                f"{told}: no gate asks for a sign-in there. Pass page=, a path that needs one, or page=None for "
                "a sign-in that is mounted without LoginRequired"
            )
        if not answer.is_redirect:
            host = "; with WSGI_OAUTH_PUBLIC_URL set, pass url=, its scheme and host" if answer.status == 400 else ""
            raise _Stuck(f"{told}; right would be a redirect to {self._sign_in}{host}")
        to, _, query = answer.location.partition("?")
        self._compare("the sign-in that a browser is sent to", to, self._sign_in)
        if parse_qs(query).get("next") != [self._here]:
            self._find(f"the sign-in will not lead back to {self._here}: it starts with {query!r}")
        return answer.location

    def _ask_as_a_program(self) -> None:
        answer = self._browser.somebody_else().get(self._page, _PROGRAM)
        if answer.status != 401:
            led = f" and leads to {answer.location}" if answer.is_redirect else ""
            self._find(
                f"{self._page} answers {answer.status}{led} to a program that is not signed in; right would be "
                "a 401 with a login_url as JSON, which something has replaced"
            )
        elif answer.document.get("login_url") != self._sign_in:
            self._find(f"the 401 for programs has no login_url {self._sign_in} in its JSON: {answer.body[:200]!r}")

    def _see_public_pages(self) -> None:
        for path in self._public:
            self._behind.forget()
            answer = self._browser.somebody_else().get(path, forged=_FORGED)
            if answer.location.startswith(self._sign_in):
                self._find(f"{path} should be public, and asks for a sign-in")
            self._look_for_forgeries(f"public path {path}")

    def _forge_an_identity(self) -> None:
        if not self._gated:
            return
        self._behind.forget()
        answer = self._browser.somebody_else().get(self._page, forged=_FORGED)
        if self._behind.environ is not None or answer.status < 300:
            self._find(f"a REMOTE_USER or wsgi_oauth.identity from outside opens {self._page} without any sign-in")

    def _sign_in_and_come_back(self, start: str) -> None:
        answer = self._browser.get(start)
        if not answer.is_redirect:
            raise _Stuck(f"{self._prefix}/ answers {answer}, and starts no sign-in: it is not mounted there")
        asked = {name: values[0] for name, values in parse_qs(urlsplit(answer.location).query).items()}
        if "redirect_uri" not in asked or not is_loopback(urlsplit(answer.location).hostname or ""):
            raise _Stuck(
                f"the sign-in leads to {answer.location.partition('?')[0]}, which is not the local provider: make "
                "the application from the variables that local_provider() yields"
            )
        self._compare("the redirect URI", asked["redirect_uri"], f"{self._sign_in}callback")
        self._look_at_the_cookie(answer)
        answer = self._browser.get(self._consent(answer.location))
        if answer.status == 403:
            raise _Stuck(
                f"the callback answers {answer}: WSGI_OAUTH_ALLOW or allow= must let in the user of this check, whose "
                "username is octocat"
            )
        if not answer.is_redirect:
            raise _Stuck(
                f"the callback answers {answer} instead of a redirect: its query or the cookie has not reached it"
            )
        back, _, query = answer.location.partition("?")
        if urlsplit(back).path != self._page:
            self._find(f"after the sign-in the browser is sent to {back}, and not back to {self._page}")
        elif query != _QUERY:
            self._find(f"the query string is lost at the sign-in: of {self._here} comes back {answer.location}")

    def _consent(self, authorization_url: str) -> str:
        """Press the provider's Allow; return where that leads."""
        with requests.Session() as web:
            web.trust_env = False  # the provider is on this machine: no proxy leads there
            answer = web.post(authorization_url, {"decision": "allow"}, allow_redirects=False, timeout=10)
        if not answer.is_redirect:
            raise _Stuck(f"the local provider refuses to sign in: {_heading(answer.text) or answer.status_code}")
        return answer.headers["Location"]

    def _look_at_the_cookie(self, answer: _Answer) -> None:
        name = cookie_name(secure=self._browser.url.startswith("https:"))
        cookie = answer.cookies.get(name)
        if cookie is None:
            raise _Stuck(f"the sign-in sets no cookie {name}: something takes its Set-Cookie away")
        right = {"path": "/", "domain": "", "httponly": True, "samesite": "Lax"}
        right["secure"] = True if name.startswith("__Host-") else ""
        for attribute, value in right.items():
            if cookie[attribute] != value:
                self._find(
                    f"something changes the session cookie: its {attribute} is {cookie[attribute]!r}, right would be "
                    f"{value!r}"
                )

    def _see_the_page(self) -> None:
        self._behind.forget()
        answer = self._browser.get(self._here)
        told = f"{self._page} answers {answer} to whoever is signed in"
        if answer.location.startswith(self._sign_in):
            raise _Stuck(f"{told}, and asks for another sign-in: the session cookie does not reach it")
        if answer.status >= 300:
            self._find(told)
        elif self._shows not in answer.body.decode(errors="replace"):
            self._find(f"{self._page} does not show {self._shows!r} to whoever is signed in: {answer.body[:200]!r}")
        if not self._gated:
            return
        if self._behind.environ is None:
            raise _Stuck(f"{self._page} did not come through LoginRequired: the application cannot know who is there")
        self._look_for_the_identity(self._behind.environ)

    def _look_for_the_identity(self, environ: WSGIEnvironment) -> None:
        identity = current_identity(environ)
        if identity is None:
            self._find("the application does not find who is signed in: current_identity(environ) is None")
        for name, right in {"REMOTE_USER": identity and identity.id, "AUTH_TYPE": "OAuth2"}.items():
            if name not in environ:
                self._find(f"the application does not find {name}")
            elif environ[name] != right:
                self._find(f"the application finds {environ[name]!r} as {name}, right would be {right!r}")

    def _forge_another_identity(self) -> None:
        self._behind.forget()
        self._browser.get(self._page, forged=_FORGED)
        self._look_for_forgeries(f"signed-in request of {self._page}")

    def _look_for_forgeries(self, where: str) -> None:
        for name, value in _FORGED.items():
            if self._behind.environ is not None and self._behind.environ.get(name) == value:
                self._find(f"{name} from outside passes to the application, on a {where}")

    def _stream(self) -> None:
        with self._behind.put(_Probe()) as probe, self._browser.open(self._page) as answer:
            first = next(answer.chunks, b"")
            if probe.made == len(_CHUNKS):
                self._find(
                    "a stream is held back: all of it had been asked for before its first bytes went to the browser"
                )
            if first + b"".join(answer.chunks) != b"".join(_CHUNKS):
                self._find("a response does not arrive as the application has made it")
            cache_control = answer.headers.get("Cache-Control", "")
            if not {"private", "no-store"} & set(re.split(r"[\s,]+", cache_control.lower())):
                self._find(
                    f"a page for one user may be kept for all: its Cache-Control is {cache_control!r}, and not private"
                )
            missing = set(_COOKIES) - _cookies(answer.headers).keys()
            if missing:
                self._find(f"a Set-Cookie of the application is lost: {', '.join(sorted(missing))}")
        self._look_whether_closed(probe, "of a response that was read to its end")

    def _hang_up(self) -> None:
        with self._behind.put(_Probe()) as probe, self._browser.open(self._page) as answer:
            next(answer.chunks, b"")
        self._look_whether_closed(probe, "when the browser hangs up in the middle")

    def _look_whether_closed(self, probe: _Probe, when: str) -> None:
        if probe.called and not probe.closed:
            self._find(
                f"close() is swallowed {when}: whatever the application holds open for it, a file or a database "
                "connection, stays open"
            )

    def _upload(self) -> None:
        with self._behind.put(_Probe()) as probe:
            self._browser.send("POST", self._page, body=_UPLOAD)
        if not probe.called:
            self._find(f"a POST to {self._page} does not reach the application behind the gate")
        elif probe.body != _UPLOAD:
            arrived = f"{len(probe.body)} bytes of {len(_UPLOAD)}"
            self._find(f"the body of a request does not arrive as it was sent, {arrived}: something has read it")

    def _be_forbidden(self) -> None:
        with self._behind.put(_Probe("403 Forbidden")):
            answer = self._browser.get(self._page)
        if answer.status != 403:
            self._find(f"a 403 of the application becomes {answer}")

    def _sign_out(self) -> None:
        path = f"{self._prefix}/logout"
        before = dict(self._browser.cookies)
        answer = self._browser.send("POST", path, {**_NAVIGATION, "Origin": self._browser.url})
        if answer.status >= 400:
            raise _Stuck(f"nobody can sign out: a POST to {path} answers {answer}")
        if any(cookie_name(secure=secure) in self._browser.cookies for secure in (False, True)):
            self._find(f"the session cookie is still there after a POST to {path}: something takes Set-Cookie away")
        for what, cookies in {"": {}, " when the old cookie is sent again": before}.items():
            self._browser.cookies = {**cookies}
            if self._browser.get(self._page).status < 300:
                self._find(f"{self._page} is shown after the sign-out{what}: something keeps it, or who was there")

    def _compare(self, what: str, is_: str, right: str) -> None:
        """Raise _Stuck when a URL with the prefix in it is not what it should be."""
        if is_ == right:
            return
        finding = f"{what} is {is_}, right would be {right}"
        if self._prefix and self._prefix * 2 in is_:
            finding = f"the prefix is doubled: {finding}. SCRIPT_NAME has it already where it is added once more"
        elif self._prefix not in is_:
            finding = (
                f"the prefix is lost: {finding}. Whatever mounts the sign-in has to move {self._prefix} from PATH_INFO "
                "to SCRIPT_NAME; if it is mounted elsewhere, pass prefix="
            )
        raise _Stuck(finding)

    def _find(self, finding: str) -> None:
        self.findings.append(finding)


class _Answer(NamedTuple):
    """What came back, *location* as the browser would understand it."""

    status: int
    headers: Headers
    body: bytes
    location: str

    @property
    def is_redirect(self) -> bool:
        return self.status in {301, 302, 303, 307, 308}

    @property
    def cookies(self) -> dict[str, Morsel[str]]:
        return _cookies(self.headers)

    @property
    def document(self) -> dict[str, Any]:
        """The body as JSON; an empty one when it is none."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    def __str__(self) -> str:
        heading = _heading(self.body.decode(errors="replace"))
        return f"{self.status} ({heading})" if heading else str(self.status)


class _Open(NamedTuple):
    """A response that is still on its way."""

    status: int
    headers: Headers
    chunks: Iterator[bytes]


class _Browser:
    """A browser with cookies, in front of an application that is looked at for PEP 3333."""

    def __init__(self, app: WSGIApplication, url: str) -> None:
        self.app = app
        self.url = url
        self.cookies: dict[str, str] = {}

    def somebody_else(self) -> _Browser:
        """Another browser, without any cookie."""
        return _Browser(self.app, self.url)

    def get(
        self, path: str, headers: Mapping[str, str] = _NAVIGATION, *, forged: Mapping[str, Any] | None = None
    ) -> _Answer:
        return self.send("GET", path, headers, forged=forged)

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] = _NAVIGATION,
        *,
        body: bytes = b"",
        forged: Mapping[str, Any] | None = None,
    ) -> _Answer:
        """Send a request for a path or a URL of the application, and follow no redirect."""
        with self.open(path, headers, method=method, body=body, forged=forged) as answer:
            whole = b"".join(answer.chunks)
        for name, cookie in _cookies(answer.headers).items():
            self.cookies.pop(name, None)
            if cookie.value and cookie["max-age"] != "0":
                self.cookies[name] = cookie.value
        location = answer.headers.get("Location", "")
        here = urljoin(self.url, path)
        return _Answer(answer.status, answer.headers, whole, urljoin(here, location) if location else "")

    @contextmanager
    def open(
        self,
        path: str,
        headers: Mapping[str, str] = _NAVIGATION,
        *,
        method: str = "GET",
        body: bytes = b"",
        forged: Mapping[str, Any] | None = None,
    ) -> Iterator[_Open]:
        """Send a request; what comes back is closed at the end, wherever that is."""
        target = urlsplit(urljoin(self.url, path))._replace(scheme="", netloc="", fragment="").geturl()
        environ = create_environ(target, self.url, method=method, headers=Headers(headers.items()), data=body)
        environ.update({"REMOTE_ADDR": "127.0.0.1", **(forged or {})})
        if self.cookies:
            environ["HTTP_COOKIE"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        written: list[bytes] = []
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
            begun.append((status, headers))
            return written.append

        try:
            answer: Any = wsgiref.validate.validator(self.app)(environ, start_response)
            with closing(answer) as chunks:  # the validator's, which has a close() in every case
                first = next(chunks, b"")  # a generator calls start_response when it is asked for that
                if not begun:
                    raise _Stuck(f"nothing answers {method} {target}: start_response is not called")
                status, answered = begun[-1]
                yield _Open(int(status[:3]), Headers(answered), chain(written, [first], chunks))
        except AssertionError as error:
            if extract_tb(error.__traceback__)[-1].filename != wsgiref.validate.__file__:
                raise
            raise _Stuck(f"the answer to {method} {target} is not as PEP 3333 has it: {error}") from error


class _Behind:
    """Stands between the gates of this process and what is behind them, and sees what arrives there."""

    def __init__(self) -> None:
        self.environ: WSGIEnvironment | None = None
        self._instead: WSGIApplication | None = None

    def forget(self) -> None:
        self.environ = None

    @contextmanager
    def every_gate(self) -> Iterator[None]:
        """Look at what passes, as long as this lasts: the gate itself may be deep inside the application."""
        call = LoginRequired.__call__

        def watched(gate: LoginRequired, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            with mock.patch.object(gate, "_wsgi_app", self._noting(gate._wsgi_app)):
                return call(gate, environ, start_response)

        with mock.patch.object(LoginRequired, "__call__", watched):
            yield

    @contextmanager
    def put(self, probe: _Probe) -> Iterator[_Probe]:
        """Let *probe* answer for the application."""
        self._instead = probe
        try:
            yield probe
        finally:
            self._instead = None

    def _noting(self, own: WSGIApplication) -> WSGIApplication:
        def noting(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            self.environ = {**environ}
            return (self._instead or own)(environ, start_response)

        return noting


class _Probe:
    """An application that sees how it is treated: it makes a chunk when it is asked for one, and waits for close()."""

    def __init__(self, status: str = "200 OK") -> None:
        self._status = status
        self.called = self.closed = False
        self.body = b""
        self.made = 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.called = True
        self.body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        cookies = [("Set-Cookie", f"{name}=1") for name in _COOKIES]
        start_response(self._status, [("Content-Type", "text/plain"), *cookies])
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self.made == len(_CHUNKS):
            raise StopIteration
        self.made += 1
        return _CHUNKS[self.made - 1]

    def close(self) -> None:
        self.closed = True


def _cookies(headers: Headers) -> dict[str, Morsel[str]]:
    found: dict[str, Morsel[str]] = {}
    for set_cookie in headers.getlist("Set-Cookie"):
        found.update(SimpleCookie(set_cookie))
    return found


def _heading(page: str) -> str:
    """Return the heading of an HTML page, or nothing."""
    match = re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)
    return match[1] if match else ""
