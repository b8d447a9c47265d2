"""Check the integration of the sign-in with an application."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import requests
from werkzeug.urls import iri_to_uri

from ..sessions.cookie import CookieNames
from ..urls import is_loopback
from .gate_checks import FORGED_ENVIRON, GateChecks, report_forged_values, was_refused
from .probe import GateObserver
from .wsgi_client import API_CLIENT, NAVIGATION, Answer, InvalidResponse, WsgiClient, parse_heading

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_MAX_REDIRECTS = 10
_QUERY = "kit=a%20b&kit=caf%C3%A9"  # faulty redirects lose such a query or encode it twice


class EmbeddingFault(AssertionError):
    """The problems that :func:`check_embedding` found, as sentences in :attr:`findings`."""

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

    *app* is called in this process, under :mod:`wsgiref.validate`. For most requests a probe replaces the application
    behind the gate, to check that uploads, streams and ``close()`` pass through the gate and all middleware. The
    options of the gate are checked, too: path rules, access tokens, CORS preflight, the application's own sign-out.
    *app* may refuse requests with unknown query parameters, headers or methods (4xx). The checks of these requests are
    then skipped.

    :param app: the whole application, as a server would call it, configured for :func:`local_provider`.
    :param prefix: the path of the sign-in, starting at the host.
    :param page: a path behind the gate, with a query if necessary, that answers a GET request of a signed-in user; None
        if *app* mounts only the sign-in, without a gate.
    :param public: paths that anonymous users can open.
    :param shows: a text, such as the user's name, that *page* shows to Mona Lisa Octocat.
    :param url: scheme and host of *app*; the same as in ``WSGI_OAUTH_PUBLIC_URL``, if that is set.
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
        self._return_url = self._page
        self._public = public
        self._shows = shows
        self._login_url = f"{url}{self._prefix}/"
        self._observer = GateObserver()
        self._client = WsgiClient(self._observer.watch(app), url)

    def run(self) -> None:
        with self._observer.observe_all_gates():
            login_url = self._check_redirect_to_sign_in()
            self._check_api_client()
            self._check_public_paths()
            if self._has_gate:
                self._check_forged_identity_of_anonymous_user()
            self._sign_in(login_url)
            gate_checks = self._check_page()
            if gate_checks is not None:
                gate_checks.run(lambda: self._sign_in(login_url))
            self._sign_out(gate_checks.expire_cookies if gate_checks else ())

    def _check_redirect_to_sign_in(self) -> str:
        """Open the page as an anonymous user, and return the target of the redirect."""
        answer = self._client.get(self._page)
        if self._has_gate and (answer.status < 300 or self._observer.environ is not None):
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
        if not answer.location.startswith(f"{self._client.url}/"):
            raise _CannotContinue(
                f"{self._page}: the application redirects to another host or scheme (got {answer.location}); pass that "
                "as url=, and to local_provider"
            )
        self._check_login_url(answer, self._page)
        separator = "&" if "?" in self._page else "?"
        page_with_query = f"{self._page}{separator}{_QUERY}"
        answer_to_query = self._client.get(page_with_query)
        if self._observer.gate is None and not answer_to_query.location.startswith(self._login_url):
            # Go on without a query, because middleware around the gate refuses or removes unknown parameters.
            return answer.location
        self._check_login_url(answer_to_query, page_with_query)
        self._return_url = page_with_query
        return answer_to_query.location

    def _check_login_url(self, answer: Answer, return_url: str) -> None:
        """Check that a redirect leads to the sign-in, and from there back to *return_url*."""
        login_url, _, query = answer.location.partition("?")
        self._check_url("the login URL", login_url, self._login_url)
        if parse_qs(query).get("next") != [return_url]:
            self._report(f"the login URL: it does not lead back to {return_url} (got the query {query!r})")

    def _check_api_client(self) -> None:
        answer = self._client.without_cookies().get(self._page, API_CLIENT)
        if was_refused(self._observer, answer):
            return
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
            answer = self._client.without_cookies().get(path)
            if answer.location.startswith(self._login_url):
                self._report(f"{path}: a public path must not require a sign-in; add it to public= of LoginRequired")
            elif answer.status >= 500:
                self._report(f"{path}: an error for anonymous users (got {answer}); current_identity is None there")
            self._client.without_cookies().get(path, environ=FORGED_ENVIRON)
            report_forged_values(self._observer, f"on the public path {path}", self._report)

    def _check_forged_identity_of_anonymous_user(self) -> None:
        answer = self._client.without_cookies().get(self._page, environ=FORGED_ENVIRON)
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
        location = answer.location.removeprefix(self._client.url)
        if location == self._return_url:
            return
        if location.partition("?")[0] == self._page.partition("?")[0]:
            self._report(
                f"{callback}: the query is lost; must redirect back to {self._return_url} (got {answer.location})"
            )
        else:
            self._report(f"{callback}: must redirect back to {self._page} (got {answer.location})")

    def _consent(self, authorization_url: str) -> str:
        """Press Allow on the provider's consent page; return the callback URL."""
        with requests.Session() as session:
            session.trust_env = False  # without a proxy, because the provider runs on this machine
            answer = session.post(authorization_url, {"decision": "allow"}, allow_redirects=False, timeout=60)
        if not answer.is_redirect:
            reason = parse_heading(answer.text) or answer.status_code
            raise _CannotContinue(f"the authorization request: the local provider refuses it (got {reason})")
        return answer.headers["Location"]

    def _check_cookie(self, answer: Answer) -> None:
        name = self._cookie_name
        # The name of a pending sign-in's cookie begins with the name of the session cookie.
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

    def _check_page(self) -> GateChecks | None:
        """Open the page as a signed-in user, and return the checks of the gate that serves it."""
        answer = self._client.get(self._page)
        is_login = answer.location.startswith(self._login_url)
        gate, environ = self._observer.gate, self._observer.environ
        if environ is not None and gate is not None:
            # The gate has passed the request on.
            if is_login:
                self._report(
                    f"{self._page}: the application sends a signed-in user to the sign-in again, for example with a "
                    "401; make it use the identity from the gate, or pass replace_401=False if it has its own sign-in"
                )
            elif answer.status >= 500:
                self._report(f"{self._page}: a signed-in user must get the page (got {answer})")
        elif is_login:
            raise _CannotContinue(
                f"{self._page}: a signed-in user must not be redirected to the sign-in (got {answer}); check that the "
                "session cookie reaches the gate"
            )
        elif gate is not None:
            raise _CannotContinue(
                f"{self._page}: access denied (got {answer}); the access rules must admit the user octocat to page="
            )
        elif answer.status >= 300:
            self._report(f"{self._page}: a signed-in user must get the page (got {answer})")
        if self._shows and not is_login and self._shows not in self._follow(answer).body.decode(errors="replace"):
            self._report(f"{self._page}: must show {self._shows!r} to a signed-in user (got {answer.body[:200]!r})")
        if environ is not None and gate is not None:
            return GateChecks(self._client, self._observer, gate, environ, page=self._page, report=self._report)
        if self._has_gate:
            raise _CannotContinue(
                f"{self._page}: the request did not pass through LoginRequired, so the application cannot know the user"
            )
        return None

    def _follow(self, answer: Answer) -> Answer:
        """Follow the redirects of the application within this site, as a browser does."""
        for _ in range(_MAX_REDIRECTS):
            if not answer.location.startswith(f"{self._client.url}/"):
                break
            answer = self._client.get(answer.location)
        return answer

    def _sign_out(self, expire_cookies: Collection[str]) -> None:
        path = f"{self._prefix}/logout"
        cookies_before = dict(self._client.cookies)
        answer = self._client.send("POST", path, {**NAVIGATION, "Origin": self._client.url})
        if answer.status >= 400:
            raise _CannotContinue(f"{path}: a POST request must sign the user out (got {answer})")
        expired = {name for name, cookie in answer.cookies.items() if cookie["max-age"] == "0"}
        kept = sorted(set(expire_cookies) - expired)
        if kept:
            self._report(f"expire_cookies: the sign-out at {path} does not expire {', '.join(kept)}")
        if self._cookie_name in self._client.cookies:
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

    @property
    def _cookie_name(self) -> str:
        oauth_app = self._observer.oauth_app
        return CookieNames.of_site(self._client.url, oauth_app.config.cookie_name if oauth_app else "").session

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
        if finding not in self.findings:
            self.findings.append(finding)
