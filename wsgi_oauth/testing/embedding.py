"""Check how the sign-in is integrated into an application."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import requests
from werkzeug.urls import iri_to_uri

from ..gate.environ import current_identity
from ..oauth.identity import Identity
from ..sessions.cookie import CookieNames
from ..urls import is_loopback
from .probe import GateObserver, ProbeApplication
from .wsgi_client import NAVIGATION, Answer, InvalidResponse, WsgiClient, parse_cookies, parse_heading

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

_API_CLIENT = {"Accept": "application/json"}
_QUERY = "kit=a%20b&kit=caf%C3%A9"  # faulty redirects lose such a query or encode it twice
_UPLOAD = bytes(range(256)) * 64
# An identity as an attacker could forge it, with request headers or through a server in front.
_FORGED_ENVIRON: Mapping[str, Any] = {
    "REMOTE_USER": "intruder",
    "AUTH_TYPE": "Forged",
    "HTTP_REMOTE_USER": "intruder",
    "HTTP_AUTH_TYPE": "Forged",
    "wsgi_oauth.identity": Identity(
        "forged", "intruder", username="intruder", name="Intruder", email="intruder@example.com"
    ),
}


class EmbeddingFault(AssertionError):
    """The problems that :func:`check_embedding` found, one sentence each in :attr:`findings`."""

    def __init__(self, findings: Collection[str]) -> None:
        super().__init__("\n".join(["login integration problems:", *(f"- {finding}" for finding in findings)]))
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
    """Check the integration of the sign-in with *app*: sign in through the local provider, use the page, sign out.

    *app* is called in this process, under :mod:`wsgiref.validate`. For some requests a probe replaces the application
    behind the gate, to check that uploads, streams and ``close()`` pass through the gate and all middleware.

    :param app: the whole application, as a server would call it, configured for :func:`local_provider`.
    :param prefix: the path of the sign-in, starting at the host.
    :param page: a path behind the gate that answers a GET request of a signed-in user; None when *app* has no gate and
        only mounts the sign-in.
    :param public: paths that anonymous users can open.
    :param shows: a text, such as the user's name, that *page* shows to Mona Lisa Octocat.
    :param url: scheme and host of *app*: those of ``WSGI_OAUTH_PUBLIC_URL``, if that is set.
    :raises EmbeddingFault: with all problems found; it is an AssertionError.
        Exceptions of *app* itself are passed on unchanged.
    """
    check = _Check(app, url.rstrip("/"), prefix.rstrip("/"), page, public=public, shows=shows)
    try:
        check.run()
    except (_CannotContinue, InvalidResponse) as reason:
        check.findings.append(str(reason))
    if check.findings:
        raise EmbeddingFault(check.findings)


class _CannotContinue(Exception):
    """A problem that makes all later steps meaningless."""


class _Check:
    """One sign-in with all its checks. Each method is a step and appends to :attr:`findings`."""

    def __init__(
        self, app: WSGIApplication, url: str, prefix: str, page: str | None, *, public: Collection[str], shows: str
    ) -> None:
        self.findings: list[str] = []
        self._has_gate = page is not None
        self._prefix = iri_to_uri(prefix)
        self._page = f"{self._prefix}/profile" if page is None else iri_to_uri(page)
        self._page_with_query = f"{self._page}?{_QUERY}"
        self._public = public
        self._shows = shows
        self._login_url = f"{url}{self._prefix}/"
        self._client = WsgiClient(app, url)
        self._observer = GateObserver()

    def run(self) -> None:
        with self._observer.observe_all_gates():
            login_url = self._check_redirect_to_sign_in()
            self._check_api_client()
            self._check_public_paths()
            if self._has_gate:
                self._check_forged_identity_of_anonymous_user()
            self._sign_in(login_url)
            self._check_page()
            if self._has_gate:
                self._check_forged_identity_of_signed_in_user()
                self._check_streaming()
                self._check_early_disconnect()
                self._check_upload()
                self._check_forbidden()
            self._sign_out()

    def _check_redirect_to_sign_in(self) -> str:
        """Open the page as an anonymous user; return the URL to which that redirects."""
        answer = self._client.get(self._page_with_query)
        if answer.status < 300 and self._has_gate:
            raise _CannotContinue(
                f"{self._page}: no gate requires a sign-in (got {answer}); pass page=, a path behind the gate, or "
                "page=None if the sign-in is mounted without LoginRequired"
            )
        if not answer.is_redirect:
            remedy = "; if WSGI_OAUTH_PUBLIC_URL is set, pass its scheme and host as url="
            raise _CannotContinue(
                f"{self._page}: an anonymous browser must be redirected to {self._login_url} (got {answer})"
                + (remedy if answer.status == 400 else "")
            )
        login_url, _, query = answer.location.partition("?")
        self._check_url("the login URL", login_url, self._login_url)
        if parse_qs(query).get("next") != [self._page_with_query]:
            self._report(f"the login URL: it does not lead back to {self._page_with_query} (got the query {query!r})")
        return answer.location

    def _check_api_client(self) -> None:
        answer = self._client.without_cookies().get(self._page, _API_CLIENT)
        if answer.status != 401:
            location = f" to {answer.location}" if answer.is_redirect else ""
            self._report(
                f"{self._page}: an anonymous API client must get a 401 with a login_url as JSON (got "
                f"{answer.status}{location}); check for middleware that replaces responses"
            )
        elif answer.document.get("login_url") != self._login_url:
            self._report(
                f"{self._page}: the 401 for API clients must contain the login_url {self._login_url} as JSON (got "
                f"{answer.body[:200]!r})"
            )

    def _check_public_paths(self) -> None:
        for path in self._public:
            self._observer.reset()
            answer = self._client.without_cookies().get(path, environ=_FORGED_ENVIRON)
            if answer.location.startswith(self._login_url):
                self._report(f"{path}: a public path must not require a sign-in; add it to public= of LoginRequired")
            self._report_forged_values(f"on the public path {path}")

    def _check_forged_identity_of_anonymous_user(self) -> None:
        self._observer.reset()
        answer = self._client.without_cookies().get(self._page, environ=_FORGED_ENVIRON)
        if self._observer.environ is not None or answer.status < 300:
            self._report(
                f"{self._page}: a forged REMOTE_USER or wsgi_oauth.identity gives access without a sign-in; trust only "
                "the values that LoginRequired sets"
            )

    def _sign_in(self, login_url: str) -> None:
        """Sign in through the local provider, and check the redirect back to the page."""
        answer = self._client.get(login_url)
        if not answer.is_redirect:
            raise _CannotContinue(
                f"{self._prefix}/: no sign-in starts here (got {answer}); mount the sign-in at this path, or pass "
                "prefix="
            )
        authorization = urlsplit(answer.location)
        parameters = {name: values[0] for name, values in parse_qs(authorization.query).items()}
        if "redirect_uri" not in parameters or not is_loopback(authorization.hostname or ""):
            raise _CannotContinue(
                f"the sign-in: it must use the local provider (got {answer.location.partition('?')[0]}); configure the "
                "application with the variables from local_provider()"
            )
        self._check_url("the redirect URI", parameters["redirect_uri"], f"{self._login_url}callback")
        self._check_cookie(answer)
        answer = self._client.get(self._consent(answer.location))
        callback = f"{self._prefix}/callback"
        if answer.status == 403:
            raise _CannotContinue(
                f"{callback}: access denied (got {answer}); WSGI_OAUTH_ALLOW or allow= must accept the user octocat"
            )
        if not answer.is_redirect:
            raise _CannotContinue(
                f"{callback}: must redirect to the page (got {answer}); check that the query and the session cookie "
                "reach the application"
            )
        location, _, query = answer.location.partition("?")
        if urlsplit(location).path != self._page:
            self._report(f"{callback}: must redirect back to {self._page} (got {location})")
        elif query != _QUERY:
            self._report(
                f"{callback}: the query is lost; must redirect back to {self._page_with_query} (got {answer.location})"
            )

    def _consent(self, authorization_url: str) -> str:
        """Press Allow on the provider's consent page; return the callback URL."""
        with requests.Session() as session:
            session.trust_env = False  # no proxy, because the provider runs on this machine
            answer = session.post(authorization_url, {"decision": "allow"}, allow_redirects=False, timeout=60)
        if not answer.is_redirect:
            reason = parse_heading(answer.text) or answer.status_code
            raise _CannotContinue(f"the authorization request: the local provider refuses it (got {reason})")
        return answer.headers["Location"]

    def _check_cookie(self, answer: Answer) -> None:
        name = CookieNames.of_site(self._client.url).session
        # The name of a sign-in's own cookie begins with that of the session cookie.
        cookie = next((cookie for key, cookie in answer.cookies.items() if key.startswith(name)), None)
        if cookie is None:
            raise _CannotContinue(
                f"the session cookie: {self._prefix}/ does not set {name}; check for middleware that removes Set-Cookie"
            )
        expected = {"path": "/", "domain": "", "httponly": True, "samesite": "Lax"}
        expected["secure"] = True if name.startswith("__Host-") else ""
        for attribute, value in expected.items():
            if cookie[attribute] != value:
                self._report(
                    f"the session cookie: its {attribute} must be {value!r} (got {cookie[attribute]!r}); check for "
                    "middleware that changes Set-Cookie"
                )

    def _check_page(self) -> None:
        """Open the page as a signed-in user."""
        self._observer.reset()
        answer = self._client.get(self._page_with_query)
        if answer.location.startswith(self._login_url):
            raise _CannotContinue(
                f"{self._page}: a signed-in user must not be redirected to the sign-in (got {answer}); check that the "
                "session cookie reaches the gate"
            )
        if answer.status >= 300:
            self._report(f"{self._page}: a signed-in user must get the page (got {answer})")
        elif self._shows not in answer.body.decode(errors="replace"):
            self._report(f"{self._page}: must show {self._shows!r} to a signed-in user (got {answer.body[:200]!r})")
        if not self._has_gate:
            return
        if self._observer.environ is None:
            raise _CannotContinue(
                f"{self._page}: the request did not pass through LoginRequired, so the application cannot know the user"
            )
        self._check_identity(self._observer.environ)

    def _check_identity(self, environ: WSGIEnvironment) -> None:
        identity = current_identity(environ)
        if identity is None:
            self._report("current_identity(environ): missing in the application behind the gate (got None)")
        for name, expected in {"REMOTE_USER": identity and identity.id, "AUTH_TYPE": "OAuth2"}.items():
            if name not in environ:
                self._report(f"{name}: missing in the application behind the gate")
            elif environ[name] != expected:
                self._report(f"{name}: must be {expected!r} in the application behind the gate (got {environ[name]!r})")

    def _check_forged_identity_of_signed_in_user(self) -> None:
        self._observer.reset()
        self._client.get(self._page, environ=_FORGED_ENVIRON)
        self._report_forged_values(f"in a signed-in request for {self._page}")

    def _report_forged_values(self, where: str) -> None:
        for name, value in _FORGED_ENVIRON.items():
            if self._observer.environ is not None and self._observer.environ.get(name) == value:
                self._report(f"{name}: a forged value reaches the application {where}")

    def _check_streaming(self) -> None:
        with self._observer.replace_application() as probe, self._client.open(self._page) as response:
            first = next(response.chunks, b"")
            if probe.produced == len(probe.CHUNKS):
                self._report("the response body: it is buffered, so the browser gets no part before the last is ready")
            if first + b"".join(response.chunks) != b"".join(probe.CHUNKS):
                self._report("the response body: it differs from that of the application behind the gate")
            cache_control = response.headers.get("Cache-Control", "")
            if not {"private", "no-store"} & set(re.split(r"[\s,]+", cache_control.lower())):
                self._report(
                    "Cache-Control: a shared cache may store a user's page; must contain private or no-store (got "
                    f"{cache_control!r})"
                )
            missing = set(probe.COOKIES) - parse_cookies(response.headers).keys()
            if missing:
                self._report(f"Set-Cookie: cookies of the application are lost ({', '.join(sorted(missing))})")
        self._check_closed(probe, "after it was read to the end")

    def _check_early_disconnect(self) -> None:
        with self._observer.replace_application() as probe, self._client.open(self._page) as response:
            next(response.chunks, b"")
        self._check_closed(probe, "after the browser disconnects early")

    def _check_closed(self, probe: ProbeApplication, when: str) -> None:
        if probe.called and not probe.closed:
            self._report(
                f"close(): not called on the application's response {when}; its open files and database connections "
                "are never closed"
            )

    def _check_upload(self) -> None:
        with self._observer.replace_application() as probe:
            self._client.send("POST", self._page, body=_UPLOAD)
        if not probe.called:
            self._report(f"{self._page}: a POST request does not reach the application behind the gate")
        elif probe.request_body != _UPLOAD:
            self._report(
                f"the request body: only part of it reaches the application (got {len(probe.request_body)} of "
                f"{len(_UPLOAD)} bytes); check for middleware that reads wsgi.input"
            )

    def _check_forbidden(self) -> None:
        with self._observer.replace_application("403 Forbidden"):
            answer = self._client.get(self._page)
        if answer.status != 403:
            self._report(f"{self._page}: a 403 of the application must not be replaced (got {answer})")

    def _sign_out(self) -> None:
        path = f"{self._prefix}/logout"
        cookies_before = dict(self._client.cookies)
        answer = self._client.send("POST", path, {**NAVIGATION, "Origin": self._client.url})
        if answer.status >= 400:
            raise _CannotContinue(f"{path}: a POST request must sign the user out (got {answer})")
        if CookieNames.of_site(self._client.url).session in self._client.cookies:
            self._report(
                f"the session cookie: it still exists after the sign-out at {path}; check for middleware that removes "
                "Set-Cookie"
            )
        for details, cookies in {"": {}, " with the old cookie": cookies_before}.items():
            self._client.cookies = {**cookies}
            if self._client.get(self._page).status < 300:
                self._report(
                    f"{self._page}: it is still shown after the sign-out{details}; check for a cache in front of "
                    "the gate"
                )

    def _check_url(self, subject: str, url: str, expected: str) -> None:
        if url == expected:
            return
        finding = f"{subject}: must be {expected} (got {url})"
        if self._prefix and self._prefix * 2 in url:
            finding += f"; the prefix {self._prefix} is doubled, because it is added again to SCRIPT_NAME"
        elif self._prefix not in url:
            finding += (
                f"; the prefix {self._prefix} is lost: move it from PATH_INFO to SCRIPT_NAME when you mount the "
                "sign-in, or pass prefix= if it is mounted at another path"
            )
        raise _CannotContinue(finding)

    def _report(self, finding: str) -> None:
        self.findings.append(finding)
