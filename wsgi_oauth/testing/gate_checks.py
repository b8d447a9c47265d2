"""Checks of the gate for a signed-in user: requests and responses that pass through it, and its options."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from werkzeug.urls import iri_to_uri

from .. import errors
from ..gate.authentication import IDENTITY_KEY, Login
from ..gate.environ import CONTEXT_KEY, current_identity
from ..gate.middleware import LoginRequired
from ..oauth.access import Rules
from ..oauth.identity import Identity
from .probe import GateObserver, ProbeApplication
from .wsgi_client import API_CLIENT, NAVIGATION, Answer, WsgiClient, parse_cookies

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_UPLOAD = bytes(range(256)) * 64
_INTRUDER = "intruder@example.com"
# A forged identity, in request headers or from a server in front. This list is independent of the gate's list:
# otherwise an omission there would also be missing here.
_FORGED_HEADERS = (
    *("Remote-User", "Remote-Email", "Remote-Groups", "Remote-Name", "Auth-Type", "X-Remote-User", "X-Remote-Groups"),
    *("X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Groups", "X-Auth-Request-Preferred-Username"),
    *("X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username"),
)
FORGED_ENVIRON: Mapping[str, Any] = {
    "REMOTE_USER": _INTRUDER,
    "AUTH_TYPE": "Forged",
    IDENTITY_KEY: Identity("forged", "intruder", username="intruder", name="Intruder", email=_INTRUDER),
    **{f"HTTP_{name.upper().replace('-', '_')}": _INTRUDER for name in _FORGED_HEADERS},
}
_PREFLIGHT = {"Origin": "https://other.example", "Access-Control-Request-Method": "PUT"}
_CROSS_SITE = {**NAVIGATION, "Origin": "https://other.example", "Sec-Fetch-Site": "cross-site"}


class GateChecks:
    """The checks of a gate that has just served *page* to the signed-in user of *client*.

    Each method is one check. For nearly all requests a probe replaces the application. A check is skipped if middleware
    around the gate refuses its request with a status of 4xx.

    :param gate: the gate that has served the page.
    :param environ: the application's environ for this request.
    :param report: called with the sentence for each problem.
    """

    def __init__(
        self,
        client: WsgiClient,
        observer: GateObserver,
        gate: LoginRequired,
        environ: WSGIEnvironment,
        *,
        page: str,
        report: Callable[[str], object],
    ) -> None:
        self.expire_cookies = gate.expire_cookies
        self._client = client
        self._anonymous = client.without_cookies()
        self._observer = observer
        self._gate = gate
        self._environ = environ
        self._login: Login = environ[CONTEXT_KEY].login
        self._script_name: str = environ.get("SCRIPT_NAME", "")
        self._prefix = self._url(gate.prefix).rstrip("/")  # the URL path of the sign-in
        self._page = page
        self._report = report

    def run(self, sign_in: Callable[[], None]) -> None:
        """Run all checks; *sign_in* signs the user in again."""
        self._check_identity(self._environ, "OAuth2", "in the application behind the gate")
        self._check_forged_identity()
        self._check_streaming()
        self._check_early_disconnect()
        self._check_upload()
        self._check_cookies()
        self._check_forbidden()
        self._check_401()
        self._check_preflight()
        self._check_path_rules()
        if self._gate.oauth_app.access_tokens is not None:
            self._check_access_tokens()
        for path in self._gate.sign_out:
            self._check_sign_out_path(self._url(path), sign_in)

    def _check_identity(self, environ: WSGIEnvironment, auth_type: str, where: str) -> None:
        if current_identity(environ) is None:
            self._report(f"current_identity(environ): missing {where} (got None)")
        for name, expected in {**self._login.environ, "AUTH_TYPE": auth_type}.items():
            if name == IDENTITY_KEY:
                continue
            if name not in environ:
                self._report(f"{name}: missing {where}")
            elif environ[name] != expected:
                self._report(f"{name}: must be {expected!r} {where} (got {environ[name]!r})")

    def _check_forged_identity(self) -> None:
        self._client.get(self._page, environ=FORGED_ENVIRON)
        report_forged_values(self._observer, f"in a signed-in request for {self._page}", self._report)

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
            answer = self._client.send("POST", self._page, body=_UPLOAD)
        if not probe.called:
            if not was_refused(self._observer, answer):
                self._report(
                    f"{self._page}: a POST request does not reach the application behind the gate (got {answer})"
                )
        elif probe.request_body != _UPLOAD:
            self._report(
                f"the request body: only part of it reaches the application (got {len(probe.request_body)} of "
                f"{len(_UPLOAD)} bytes); check for middleware that reads wsgi.input"
            )

    def _check_cookies(self) -> None:
        """Check that the application gets its own cookies, but not the session cookie of the sign-in."""
        client = self._client.without_cookies()
        client.cookies = {**self._client.cookies, **dict.fromkeys(ProbeApplication.COOKIES, "1")}
        with self._observer.replace_application() as probe:
            client.get(self._page)
        if not probe.called:
            return
        cookies = (self._observer.environ or {}).get("HTTP_COOKIE", "")
        if not all(f"{name}=1" in cookies for name in ProbeApplication.COOKIES):
            self._report("HTTP_COOKIE: cookies of the application are lost on the way through the gate")
        self._report_secret(self._login.session_id, "the session cookie")

    def _check_forbidden(self) -> None:
        with self._observer.replace_application("403 Forbidden"):
            answer = self._client.get(self._page)
        if answer.status != 403:
            self._report(f"{self._page}: a 403 of the application must not be replaced (got {answer})")

    def _check_401(self) -> None:
        with self._observer.replace_application("401 Unauthorized") as probe:
            answer = self._client.get(self._page)
        if probe.called and self._gate.replace_401 != self._is_login(answer):
            expected = "start a sign-in" if self._gate.replace_401 else "pass on as it is, because of replace_401=False"
            self._report(
                f"{self._page}: a 401 of the application for a page must {expected} (got {answer}); check for "
                "middleware that replaces responses"
            )
        with self._observer.replace_application("401 Unauthorized") as probe:
            answer = self._client.get(self._page, API_CLIENT)
        if probe.called and (answer.status != 401 or "login_url" in answer.document):
            self._report(
                f"{self._page}: a 401 of the application for an API client must not be replaced (got {answer})"
            )

    def _check_preflight(self) -> None:
        """Check that a CORS preflight reaches the application only with ``cors_preflight``, and without an identity."""
        with self._observer.replace_application() as probe:
            answer = self._anonymous.send("OPTIONS", self._page, _PREFLIGHT, environ=FORGED_ENVIRON)
        if probe.called:
            if not self._gate.cors_preflight:
                self._report(f"{self._page}: an anonymous OPTIONS request reaches the application")
            report_forged_values(self._observer, f"in a CORS preflight for {self._page}", self._report)
        elif self._gate.cors_preflight and (answer.status == 401 or self._is_login(answer)):
            self._report(f"{self._page}: cors_preflight=True, but a CORS preflight needs a sign-in (got {answer})")
        with self._observer.replace_application() as probe:
            self._anonymous.send("OPTIONS", self._page, {**_PREFLIGHT, "X-HTTP-Method-Override": "DELETE"})
        if probe.called:
            self._report(
                f"{self._page}: an anonymous OPTIONS request with X-HTTP-Method-Override reaches the application, "
                "which may take it for another method"
            )

    def _check_path_rules(self) -> None:
        """Check ``allow=`` for the signed-in user, also with other spellings of forbidden paths."""
        for path, rules in self._gate.path_rules.items():
            url = self._url(path)
            with self._observer.replace_application() as probe:
                answer = self._client.get(url)
            if self._admits(rules):
                if not probe.called and answer.status == 403 and self._observer.gate is not None:
                    self._report(f"{url}: allow= admits the user octocat, but the gate does not (got {answer})")
                continue
            if probe.called:
                self._report(f"{url}: allow= does not admit the user octocat, but the request reaches the application")
            for spelling in _other_spellings(path) if path != "/" else ():
                path_info = self._script_name + spelling
                raw = {"PATH_INFO": path_info, "RAW_URI": quote(path_info), "REQUEST_URI": quote(path_info)}
                with self._observer.replace_application() as probe:
                    self._client.get(url, environ=raw)
                if probe.called:
                    self._report(
                        f"{url}: allow= does not admit the user octocat, but {path_info!a} reaches the application, "
                        "which may read it as the same path"
                    )

    def _check_access_tokens(self) -> None:
        """Create an access token, send requests with it, and revoke it."""
        url = f"{self._prefix}/tokens"
        answer = self._post_json(url, {"name": "check_embedding", "lifetime": "60"})
        token = answer.document.get("token")
        if not token:
            self._report(f"{url}: a signed-in user cannot create an access token (got {answer})")
            return
        basic = b64encode(f"user:{token}".encode()).decode()
        for credentials in (f"Bearer {token}", f"Basic {basic}"):
            scheme = credentials.partition(" ")[0]
            answer = self._use_token(credentials)
            if self._observer.environ is None:
                self._report(
                    f"{self._page}: an access token does not open it with {scheme} authentication (got {answer}); "
                    "check that the header Authorization reaches the gate"
                )
                continue
            where = "in the application behind the gate with an access token"
            self._check_identity(self._observer.environ, "Token", where)
            for secret in (token, basic):
                self._report_secret(secret, "the access token")
        answer = self._anonymous.get(f"{self._prefix}/profile", {**API_CLIENT, "Authorization": f"Bearer {token}"})
        if answer.status < 300:
            self._report(f"{self._prefix}/profile: an access token opens it; it must open the application only")
        self._check_challenges()
        for each in self._client.get(url, API_CLIENT).document.get("tokens", []):
            if each.get("name") == "check_embedding":
                self._post_json(url, {"revoke": each["id"]})
        self._use_token(f"Bearer {token}")
        if self._observer.environ is not None:
            self._report(f"{self._page}: an access token opens it after it was revoked at {url}")

    def _check_challenges(self) -> None:
        """Check that a 401 asks programs for a password (RFC 7617), but not browsers, which would open a dialog."""
        script = {**NAVIGATION, "Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
        for client, headers in {"a program": API_CLIENT, "a script in a browser": script}.items():
            answer = self._anonymous.get(self._page, headers)
            challenge = answer.headers.get("WWW-Authenticate", "")
            is_program = headers is API_CLIENT
            if answer.status == 401 and challenge.lower().startswith("basic") != is_program:
                verb = "must" if is_program else "must not"
                self._report(
                    f"WWW-Authenticate: a 401 for {client} {verb} ask for a password (got {challenge!r}); check for "
                    "middleware that changes it"
                )

    def _check_sign_out_path(self, url: str, sign_in: Callable[[], None]) -> None:
        """Check that a POST to the application's sign-out ends the session, unless it comes from another site."""
        cookies = dict(self._client.cookies)
        with self._observer.replace_application("302 Found", [("Location", "/")]):
            self._client.send("POST", url, _CROSS_SITE)
        self._client.cookies = {**cookies}
        if not self._opens(self._page):
            self._report(f"{url}: a POST from another site signs the user out; it must need a page of this site")
            sign_in()
            cookies = dict(self._client.cookies)
        with self._observer.replace_application("302 Found", [("Location", "/")]) as probe:
            answer = self._client.send("POST", url, {**NAVIGATION, "Origin": self._client.url})
        if not probe.called:
            if not was_refused(self._observer, answer):
                self._report(f"{url}: sign_out= contains it, but a POST does not reach the application (got {answer})")
            return
        self._client.cookies = cookies
        if self._opens(self._page):
            self._report(f"{url}: sign_out= contains it, but the session continues after a POST (got {answer})")
        self._client.cookies = {}
        sign_in()

    def _use_token(self, credentials: str) -> Answer:
        """Send a request with an Authorization header; the probe answers."""
        with self._observer.replace_application():
            return self._client.without_cookies().get(self._page, {**API_CLIENT, "Authorization": credentials})

    def _post_json(self, url: str, document: Mapping[str, str]) -> Answer:
        headers = {**API_CLIENT, "Content-Type": "application/json", "Origin": self._client.url}
        return self._client.send("POST", url, headers, body=json.dumps(document).encode())

    def _opens(self, url: str) -> bool:
        with self._observer.replace_application() as probe:
            self._client.get(url)
        return probe.called

    def _admits(self, rules: Rules) -> bool:
        try:
            self._gate.authenticator.check_access(self._login, rules)
        except errors.NotAllowed:
            return False
        return True

    def _is_login(self, answer: Answer) -> bool:
        return answer.is_redirect and answer.location.startswith(f"{self._client.url}{self._prefix}/?")

    def _report_secret(self, secret: str, name: str) -> None:
        """Report each text of the application's environ that contains *secret*."""
        for key, value in (self._observer.environ or {}).items():
            if isinstance(value, str) and secret in value:
                self._report(
                    f"{key}: {name} reaches the application; a fault of the application could reveal it. Check for "
                    "middleware that copies headers"
                )

    def _url(self, path: str) -> str:
        """Return the URL path for *path*, which is relative to the gate."""
        return quote(self._script_name.encode("latin-1")) + iri_to_uri(path)


def report_forged_values(observer: GateObserver, where: str, report: Callable[[str], object]) -> None:
    """Report each value of :data:`FORGED_ENVIRON` that has reached the application."""
    for name, value in (observer.environ or {}).items():
        if value in FORGED_ENVIRON.values():
            report(f"{name}: a forged value reaches the application {where}")


def was_refused(observer: GateObserver, answer: Answer) -> bool:
    """Return whether middleware around the gate has refused a request (4xx, but not 401)."""
    return observer.gate is None and 400 <= answer.status < 500 and answer.status != 401


def _other_spellings(path: str) -> list[str]:
    """Return values of ``PATH_INFO`` that some applications read as *path*, and a path below it."""
    raw, upper = (text.encode().decode("latin-1").rstrip("/") for text in (path, path.upper()))
    encoded = f"/%{ord(raw[1]):02x}{raw[2:]}"
    return [upper, f"/{raw}", f"/x/..{raw}", f"{raw};x", encoded, f"{raw}/", f"{raw}/below"]
