"""``wsgi_oauth.testing``: check_embedding accepts a correct integration and reports each problem of a faulty one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from html import escape
from typing import Any
from unittest import mock

import pytest
import requests
import webtest
from conftest import JSON
from werkzeug import Response
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client
from werkzeug.utils import redirect
from werkzeug.wsgi import ClosingIterator

from wsgi_oauth import (
    Config,
    Identity,
    LoginRequired,
    MemoryStore,
    RequestHandler,
    create_app,
    current_identity,
    get_app,
    oauth2_session,
)
from wsgi_oauth.gate import middleware
from wsgi_oauth.gate.environ import RequestContext
from wsgi_oauth.gate.response import GuardedResponse
from wsgi_oauth.sessions.access_tokens import AccessTokens
from wsgi_oauth.testing import Cookie, EmbeddingFault, check_embedding, local_provider, signed_in

WSGI = Callable[[Any, Any], Any]
GITHUB = Config(client_id="id", client_secret="secret", session_store="memory:")
ADA = Identity("github", "1815", username="ada", name="Ada Lovelace")


@pytest.fixture(scope="module")
def environ() -> Iterator[dict[str, str]]:
    with local_provider(groups=["editors"]) as environ:
        yield environ


@pytest.fixture
def oauth_app(environ: dict[str, str]) -> Any:
    return create_app(Config.from_environ(environ))


def hello(environ: Any, start_response: Any) -> Any:
    """An application that shows the user's name."""
    identity = environ.get("wsgi_oauth.identity")
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [escape(identity.name if identity else "anonymous").encode()]


def with_tokens(oauth_app: Any) -> Any:
    """The same application, which permits access tokens."""
    return create_app(replace(oauth_app.config, tokens=True))


def protected(oauth_app: Any) -> LoginRequired:
    """A correct integration."""
    return LoginRequired(hello, oauth_app, public=("/open",))


def findings(app: WSGI, **options: Any) -> list[str]:
    try:
        check_embedding(app, **options)
    except EmbeddingFault as fault:
        return fault.findings
    return []


# -- faulty middleware -------------------------------------------------------------------------------------------------


def with_environ(app: WSGI, change: Callable[[dict[str, Any]], object]) -> WSGI:
    """Middleware that changes the environ of each request."""

    def middleware(environ: Any, start_response: Any) -> Any:
        environ = {**environ}
        change(environ)
        return app(environ, start_response)

    return middleware


def with_response(
    app: WSGI, change: Callable[[str, str, list[tuple[str, str]]], tuple[str, list[tuple[str, str]]]]
) -> WSGI:
    """Middleware that changes the status and the headers of each response: ``change(path, status, headers)``."""

    def middleware(environ: Any, start_response: Any) -> Any:
        def changed(status: str, headers: Any, *exc_info: Any) -> Any:
            return start_response(*change(environ["PATH_INFO"], status, headers), *exc_info)

        return app(environ, changed)

    return middleware


def with_chunks(app: WSGI, change: Callable[[Any], Iterable[Any]]) -> WSGI:
    """Middleware that changes the parts of each response body, and calls close() as it should."""

    def middleware(environ: Any, start_response: Any) -> Any:
        body = app(environ, start_response)
        return ClosingIterator(iter(change(body)), getattr(body, "close", None))

    return middleware


def without_close(app: WSGI) -> WSGI:
    """Middleware that does not call close()."""
    return lambda environ, start_response: (chunk for chunk in app(environ, start_response))


def rejecting(app: WSGI, status: int, method: str, path: str) -> WSGI:
    """Middleware that answers requests below *path* with an error page."""

    def middleware(environ: Any, start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] == method and environ["PATH_INFO"].startswith(path):
            return Response("<h1>Rejected\n</h1>", status, mimetype="text/html")(environ, start_response)
        return app(environ, start_response)

    return middleware


def replacing_401(app: WSGI, body: str) -> WSGI:
    """Middleware that replaces the body of a 401 for API clients."""

    def middleware(environ: Any, start_response: Any) -> Any:
        response = Response.from_app(app, environ) if environ.get("HTTP_ACCEPT") == "application/json" else None
        if response is not None and response.status_code == 401:
            return Response(body, 401)(environ, start_response)
        return app(environ, start_response)

    return middleware


def caching_after_sign_out(app: WSGI) -> WSGI:
    """Middleware that still shows the page after the sign-out, as a cache could."""
    signed_out: list[bool] = []

    def middleware(environ: Any, start_response: Any) -> Any:
        if signed_out:
            return hello(environ, start_response)
        signed_out.extend([True] * (environ["PATH_INFO"] == "/auth/logout"))
        return app(environ, start_response)

    return middleware


def trusting_remote_user(app: WSGI) -> WSGI:
    """Middleware that lets every request with a REMOTE_USER bypass the gate."""
    return lambda environ, start_response: (hello if "REMOTE_USER" in environ else app)(environ, start_response)


def opening_with_authorization(app: WSGI, path: str) -> WSGI:
    """Middleware that opens *path* to every request with credentials."""

    def middleware(environ: Any, start_response: Any) -> Any:
        is_open = environ["PATH_INFO"] == path and "HTTP_AUTHORIZATION" in environ
        return (hello if is_open else app)(environ, start_response)

    return middleware


def requiring_https(app: WSGI) -> WSGI:
    """Middleware that redirects every http request."""

    def middleware(environ: Any, start_response: Any) -> Any:
        if environ["wsgi.url_scheme"] == "http":
            return redirect(f"https://{environ['HTTP_HOST']}{environ['PATH_INFO']}")(environ, start_response)
        return app(environ, start_response)

    return middleware


def mounted(oauth_app: Any, script_name: str) -> WSGI:
    """Mount the sign-in at /auth without a gate, with *script_name* as SCRIPT_NAME."""

    def dispatch(environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path.startswith("/auth"):
            moved = {**environ, "SCRIPT_NAME": script_name, "PATH_INFO": path.removeprefix("/auth")}
            return oauth_app(moved, start_response)
        return hello(environ, start_response)

    return dispatch


def with_own_handler(oauth_app: Any) -> WSGI:
    """An application without a gate, with a handler that requires a sign-in."""

    class Page(RequestHandler):
        route = "/page"

        def get(self, request: Any) -> Response:
            return self.jsonify(bool(request.session["oauth_token"]))

    return mounted(create_app(oauth_app.config, handlers=[Page]), "/auth")


# -- changes of environ and response -----------------------------------------------------------------------------------


def at(path: str, **values: str) -> Callable[[dict[str, Any]], object]:
    """Change the environ of requests for one path."""
    return lambda environ: environ.update(values) if environ["PATH_INFO"] == path else None


def on(path: str, change: Callable[[str, Any], Any]) -> Callable[[str, str, Any], Any]:
    """Change the responses of one path."""
    return lambda path_, status, headers: change(status, headers) if path_ == path else (status, headers)


def set_cookie(change: Callable[[str], str]) -> Callable[[str, str, Any], Any]:
    """Change every Set-Cookie header."""
    return lambda path, status, headers: (
        status,
        [(name, change(value) if name == "Set-Cookie" else value) for name, value in headers],
    )


def location(change: Callable[[str], str]) -> Callable[[str, Any], Any]:
    """Change the Location header."""
    return lambda status, headers: (
        status,
        [(name, change(value) if name == "Location" else value) for name, value in headers],
    )


def without_set_cookie(status: str, headers: Any) -> Any:
    return status, [header for header in headers if header[0] != "Set-Cookie"]


def redirecting_401(path: str, status: str, headers: Any) -> Any:
    return ("302 Found", [*headers, ("Location", "/login")]) if status.startswith("401") else (status, headers)


def replacing_403(path: str, status: str, headers: Any) -> Any:
    return ("200 OK" if status.startswith("403") else status), headers


def publicly_cacheable(path: str, status: str, headers: Any) -> Any:
    private = [header for header in headers if header[0] != "Cache-Control"]
    return status, [*private, ("Cache-Control", "public, max-age=60")]


def without_challenge(path: str, status: str, headers: Any) -> Any:
    return status, [header for header in headers if header[0] != "WWW-Authenticate"]


def always_asking_for_a_password(path: str, status: str, headers: Any) -> Any:
    _, others = without_challenge(path, status, headers)
    return status, [*others, ("WWW-Authenticate", "Basic")] if status.startswith("401") else others


def hiding_sign_in_again(path: str, status: str, headers: Any) -> Any:
    again = any("probe-a" in value for _, value in headers) and status.startswith("302")
    return ("200 OK", headers) if again else (status, headers)


def merging_headers(path: str, status: str, headers: Any) -> Any:
    """Keep only the first header of each name."""
    return status, list(dict(reversed(headers)).items())


# name: the application, the options of check_embedding, the finding
PROBLEMS: dict[str, tuple[Callable[[Any], WSGI], dict[str, Any], str]] = {
    "no gate": (
        lambda oauth_app: mounted(oauth_app, "/auth"),
        {},
        r"^/: no gate requires a sign-in \(got 200\); pass page=",
    ),
    "a page with its own sign-in check": (
        with_own_handler,
        {"page": "/auth/page"},
        r"^/auth/page: the request did not pass through LoginRequired",
    ),
    "another prefix": (
        lambda oauth_app: LoginRequired(hello, oauth_app, prefix="/login"),
        {},
        r"^the login URL: must be http://localhost/auth/ \(got http://localhost/login/\); the prefix /auth is lost",
    ),
    "a lost prefix": (
        lambda oauth_app: mounted(oauth_app, ""),
        {"page": None},
        r"; the prefix /auth is lost: move it from PATH_INFO to SCRIPT_NAME when you mount the sign-in",
    ),
    "a sign-in below a prefix instead of the root": (
        lambda oauth_app: LoginRequired(hello, oauth_app),
        {"prefix": ""},
        r"^the login URL: must be http://localhost/ \(got http://localhost/auth/\)$",
    ),
    "a doubled prefix": (
        lambda oauth_app: mounted(oauth_app, "/auth/auth"),
        {"page": None},
        r" \(got http://localhost/auth/auth/\); the prefix /auth is doubled, because it is added again to SCRIPT_NAME",
    ),
    "an unreachable sign-in": (
        lambda oauth_app: rejecting(protected(oauth_app), 404, "GET", "/auth"),
        {},
        r"^/auth/: no sign-in starts here \(got 404 \(Rejected\)\); mount the sign-in at this path",
    ),
    "another provider": (
        lambda oauth_app: protected(create_app(GITHUB)),
        {},
        r"^the sign-in: it must use the local provider \(got https://github.com/login/oauth/authorize\)",
    ),
    "an unregistered redirect URI": (
        lambda oauth_app: protected(create_app(replace(oauth_app.config, public_url="https://app.example.com/auth"))),
        {"url": "https://app.example.com"},
        r"^the authorization request: the local provider refuses it "
        r"\(got Invalid authorization request: Mismatching redirect URI\)$",
    ),
    "a 401 for browsers": (
        lambda oauth_app: rejecting(protected(oauth_app), 401, "GET", "/"),
        {},
        r"^/: an anonymous browser must be redirected to http://localhost/auth/ \(got 401 \(Rejected\)\)$",
    ),
    "a redirect for API clients": (
        lambda oauth_app: with_response(protected(oauth_app), redirecting_401),
        {},
        r"^/: an anonymous API client must get a 401 with a login_url as JSON \(got 302 to http://localhost/login\)",
    ),
    "a 401 without JSON": (
        lambda oauth_app: replacing_401(protected(oauth_app), "Go away"),
        {},
        r"^/: the 401 for API clients must contain the login_url http://localhost/auth/ as JSON \(got b'Go away'\)$",
    ),
    "a 401 with other JSON": (
        lambda oauth_app: replacing_401(protected(oauth_app), "[]"),
        {},
        r"^/: the 401 for API clients must contain the login_url .* \(got b'\[\]'\)$",
    ),
    "a protected path that should be public": (
        protected,
        {"public": ("/open", "/static")},
        r"^/static: a public path must not require a sign-in",
    ),
    "a public path that fails without a user": (
        lambda oauth_app: LoginRequired(rejecting(hello, 500, "GET", "/open"), oauth_app, public=("/open",)),
        {"public": ("/open",)},
        r"^/open: an error for anonymous users \(got 500 \(Rejected\)\); current_identity is None there",
    ),
    "a trusted REMOTE_USER": (
        lambda oauth_app: trusting_remote_user(protected(oauth_app)),
        {},
        r"^/: a forged REMOTE_USER or wsgi_oauth.identity gives access without a sign-in",
    ),
    "a query that is lost before the gate": (
        lambda oauth_app: with_environ(protected(oauth_app), at("/", QUERY_STRING="")),
        {},
        r"^the login URL: it does not lead back to /\?kit=a%20b&kit=caf%C3%A9 \(got the query 'next=%2F'\)$",
    ),
    "a query that is lost after the sign-in": (
        lambda oauth_app: with_response(
            protected(oauth_app), on("/auth/callback", location(lambda url: url.partition("?")[0]))
        ),
        {},
        r"^/auth/callback: the query is lost; must redirect back to /\?kit=a%20b&kit=caf%C3%A9 \(got http://localhost/\)$",
    ),
    "another page after the sign-in": (
        lambda oauth_app: with_response(protected(oauth_app), on("/auth/callback", location(lambda url: "/home"))),
        {},
        r"^/auth/callback: must redirect back to / \(got http://localhost/home\)$",
    ),
    "a callback without its query": (
        lambda oauth_app: with_environ(protected(oauth_app), at("/auth/callback", QUERY_STRING="")),
        {},
        r"^/auth/callback: must redirect to the page \(got 400 \(.*\)\); check that the query",
    ),
    "no session cookie": (
        lambda oauth_app: with_response(protected(oauth_app), on("/auth/", without_set_cookie)),
        {},
        r"^the session cookie: /auth/ does not set wsgi_oauth; check for middleware that removes Set-Cookie$",
    ),
    "a session cookie with another path": (
        lambda oauth_app: with_response(
            protected(oauth_app), set_cookie(lambda value: value.replace("Path=/", "Path=/auth"))
        ),
        {},
        r"^the session cookie: its path must be '/' \(got '/auth'\)",
    ),
    "a session cookie with a domain": (
        lambda oauth_app: with_response(protected(oauth_app), set_cookie(lambda value: value + "; Domain=example.com")),
        {},
        r"^the session cookie: its domain must be '' \(got 'example.com'\)",
    ),
    "a session cookie without HttpOnly": (
        lambda oauth_app: with_response(
            protected(oauth_app), set_cookie(lambda value: value.replace("; HttpOnly", ""))
        ),
        {},
        r"^the session cookie: its httponly must be True \(got ''\)",
    ),
    "a session cookie with SameSite=None": (
        lambda oauth_app: with_response(protected(oauth_app), set_cookie(lambda value: value.replace("Lax", "None"))),
        {},
        r"^the session cookie: its samesite must be 'Lax' \(got 'None'\)",
    ),
    "a session cookie that does not reach the gate": (
        lambda oauth_app: with_environ(protected(oauth_app), at("/", HTTP_COOKIE="")),
        {},
        r"^/: a signed-in user must not be redirected to the sign-in \(got 302\)",
    ),
    "a page that fails": (
        lambda oauth_app: LoginRequired(Response("<h1>Oh no</h1>", 500), oauth_app),
        {},
        r"^/: a signed-in user must get the page \(got 500 \(Oh no\)\)$",
    ),
    "a page that ignores the user": (
        lambda oauth_app: LoginRequired(Response("hello"), oauth_app),
        {"shows": "Octocat"},
        r"^/: must show 'Octocat' to a signed-in user \(got b'hello'\)$",
    ),
    "a buffered stream": (
        lambda oauth_app: with_chunks(protected(oauth_app), list),
        {},
        r"^the response body: it is buffered",
    ),
    "a changed response body": (
        lambda oauth_app: with_chunks(protected(oauth_app), lambda body: (chunk.upper() for chunk in body)),
        {},
        r"^the response body: it differs from that of the application behind the gate$",
    ),
    "a public Cache-Control": (
        lambda oauth_app: with_response(protected(oauth_app), publicly_cacheable),
        {},
        r"^Cache-Control: a shared cache may store a user's page; .* \(got 'public, max-age=60'\)$",
    ),
    "a lost Set-Cookie": (
        lambda oauth_app: with_response(protected(oauth_app), merging_headers),
        {},
        r"^Set-Cookie: cookies of the application are lost \(probe-b\)$",
    ),
    "no close() after an early disconnect": (
        lambda oauth_app: without_close(protected(oauth_app)),
        {},
        r"^close\(\): not called on the application's response after the browser disconnects early",
    ),
    "a request body that middleware reads": (
        lambda oauth_app: with_environ(protected(oauth_app), lambda environ: environ["wsgi.input"].read(1000)),
        {},
        r"^the request body: only part of it reaches the application \(got 15384 of 16384 bytes\)",
    ),
    "rejected POST requests": (
        lambda oauth_app: rejecting(protected(oauth_app), 500, "POST", "/"),
        {},
        r"^/: a POST request does not reach the application behind the gate \(got 500 \(Rejected\)\)$",
    ),
    "a replaced 403": (
        lambda oauth_app: with_response(protected(oauth_app), replacing_403),
        {},
        r"^/: a 403 of the application must not be replaced \(got 200\)$",
    ),
    "a rejected sign-out": (
        lambda oauth_app: rejecting(protected(oauth_app), 403, "POST", "/auth/logout"),
        {},
        r"^/auth/logout: a POST request must sign the user out \(got 403 \(Rejected\)\)$",
    ),
    "a session cookie after the sign-out": (
        lambda oauth_app: with_response(protected(oauth_app), on("/auth/logout", without_set_cookie)),
        {},
        r"^the session cookie: it still exists after the sign-out at /auth/logout",
    ),
    "a page that is cached after the sign-out": (
        lambda oauth_app: caching_after_sign_out(protected(oauth_app)),
        {},
        r"^/: it is still shown after the sign-out with the old cookie",
    ),
    "no call of start_response": (
        lambda oauth_app: lambda environ, start_response: [],
        {},
        r"^GET /: the application did not call start_response$",
    ),
    "a copy of the session cookie": (
        lambda oauth_app: with_environ(
            protected(oauth_app), lambda environ: environ.update(ORIGINAL_COOKIE=environ.get("HTTP_COOKIE", ""))
        ),
        {},
        r"^ORIGINAL_COOKIE: the session cookie reaches the application",
    ),
    "a lost Authorization header": (
        lambda oauth_app: with_environ(
            protected(with_tokens(oauth_app)), lambda environ: environ.pop("HTTP_AUTHORIZATION", "")
        ),
        {},
        r"^/: an access token does not open it with Bearer authentication \(got 401\); check that the header",
    ),
    "a rejected creation of tokens": (
        lambda oauth_app: rejecting(protected(with_tokens(oauth_app)), 403, "POST", "/auth/tokens"),
        {},
        r"^/auth/tokens: a signed-in user cannot create an access token \(got 403",
    ),
    "a lost challenge for programs": (
        lambda oauth_app: with_response(protected(with_tokens(oauth_app)), without_challenge),
        {},
        r"^WWW-Authenticate: a 401 for a program must ask for a password \(got ''\)",
    ),
    "a password dialog in browsers": (
        lambda oauth_app: with_response(protected(with_tokens(oauth_app)), always_asking_for_a_password),
        {},
        r"^WWW-Authenticate: a 401 for a script in a browser must not ask for a password \(got 'Basic'\)",
    ),
    "a profile that a token opens": (
        lambda oauth_app: opening_with_authorization(protected(with_tokens(oauth_app)), "/auth/profile"),
        {},
        r"^/auth/profile: an access token opens it; it must open the application only$",
    ),
    "a replaced 401 of an API": (
        lambda oauth_app: with_response(protected(oauth_app), redirecting_401),
        {},
        r"^/: a 401 of the application for an API client must not be replaced \(got 302\)$",
    ),
    "a 401 that no longer starts a sign-in": (
        lambda oauth_app: with_response(protected(oauth_app), hiding_sign_in_again),
        {},
        r"^/: a 401 of the application for a page must start a sign-in \(got 200\)",
    ),
    "a path rule that excludes the page": (
        lambda oauth_app: LoginRequired(hello, oauth_app, allow={"/": ("group:admins",)}),
        {},
        r"^/: access denied \(got 403 \(.*\)\); the access rules must admit the user octocat to page=$",
    ),
    "an application that rejects the user with a 401": (
        lambda oauth_app: LoginRequired(Response("Who are you?", 401), oauth_app),
        {},
        r"^/: the application sends a signed-in user to the sign-in again, .* pass replace_401=False if",
    ),
    "a rejected sign-out of the application": (
        lambda oauth_app: rejecting(LoginRequired(hello, oauth_app, sign_out=("/bye",)), 500, "POST", "/bye"),
        {},
        r"^/bye: sign_out= contains it, but a POST does not reach the application \(got 500 \(Rejected\)\)$",
    ),
    "cookies that are not expired": (
        lambda oauth_app: with_response(
            LoginRequired(hello, oauth_app, expire_cookies=("mine",)), on("/auth/logout", without_set_cookie)
        ),
        {},
        r"^expire_cookies: the sign-out at /auth/logout does not expire mine$",
    ),
    "a redirect to another scheme": (
        lambda oauth_app: requiring_https(protected(oauth_app)),
        {},
        r"^/: the application redirects to another host or scheme \(got https://localhost/\); pass that as url=",
    ),
    "a body of text instead of bytes": (
        lambda oauth_app: with_chunks(protected(oauth_app), lambda body: (chunk.decode() for chunk in body)),
        {},
        r"^GET /\S*: the response violates PEP 3333 \(Iterator yielded non-bytestring",
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_each_problem_is_reported(problem: str, oauth_app: Any) -> None:
    make, options, expected = PROBLEMS[problem]
    found = findings(make(oauth_app), **options)
    assert any(re.search(expected, finding) for finding in found), found


# -- a faulty gate --------------------------------------------------------------------------------


@pytest.fixture
def around_call(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Replace how the gate calls its application: ``function(call, response, app, environ)``."""

    def put(function: Any) -> None:
        call = GuardedResponse.send
        monkeypatch.setattr(GuardedResponse, "send", lambda *arguments: function(call, *arguments))

    return put


def test_a_gate_that_does_not_call_close_is_reported(oauth_app: Any, around_call: Callable[[Any], None]) -> None:
    around_call(lambda call, *arguments: iter(list(call(*arguments))))
    found = findings(protected(oauth_app))
    assert [finding.partition(";")[0] for finding in found] == [
        "the response body: it is buffered, so the browser gets no part before the last is ready",
        "close(): not called on the application's response after it was read to the end",
        "close(): not called on the application's response after the browser disconnects early",
    ]


@pytest.mark.parametrize(
    ("script_name", "expected"),
    [
        ("", "(got http://localhost/callback); the prefix /auth is lost"),
        ("/auth/auth", "(got http://localhost/auth/auth/callback); the prefix /auth is doubled"),
    ],
)
def test_a_gate_with_a_wrong_prefix_is_reported(
    oauth_app: Any, monkeypatch: pytest.MonkeyPatch, script_name: str, expected: str
) -> None:
    call = type(oauth_app).__call__
    monkeypatch.setattr(
        type(oauth_app),
        "__call__",
        lambda self, environ, start_response: call(self, {**environ, "SCRIPT_NAME": script_name}, start_response),
    )
    [finding] = findings(protected(oauth_app))
    assert finding.startswith(f"the redirect URI: must be http://localhost/auth/callback {expected}")


def test_a_gate_that_passes_on_a_forged_identity_is_reported(oauth_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "remove_identity", lambda environ: None)
    gate = LoginRequired(hello, oauth_app, public=("/open",), cors_preflight=True)
    found = set(findings(gate, public=("/open",)))
    for name in ("REMOTE_USER", "AUTH_TYPE", "wsgi_oauth.identity", "HTTP_REMOTE_USER", "HTTP_X_FORWARDED_EMAIL"):
        assert f"{name}: a forged value reaches the application on the public path /open" in found
        assert f"{name}: a forged value reaches the application in a CORS preflight for /" in found
    for name in ("HTTP_REMOTE_USER", "HTTP_X_AUTH_REQUEST_GROUPS", "HTTP_X_REMOTE_USER"):
        assert f"{name}: a forged value reaches the application in a signed-in request for /" in found


def test_a_gate_that_does_not_remove_its_cookie_is_reported(oauth_app: Any, around_call: Callable[[Any], None]) -> None:
    around_call(
        lambda call, self, app, environ: call(
            self, app, {**environ, "HTTP_COOKIE": self._context._environ.get("HTTP_COOKIE", "")}
        )
    )
    [finding] = findings(protected(oauth_app))
    assert finding.startswith("HTTP_COOKIE: the session cookie reaches the application")


def test_a_gate_that_removes_all_cookies_is_reported(oauth_app: Any, around_call: Callable[[Any], None]) -> None:
    around_call(lambda call, self, app, environ: call(self, app, {**environ, "HTTP_COOKIE": ""}))
    [finding] = findings(protected(oauth_app))
    assert finding == "HTTP_COOKIE: cookies of the application are lost on the way through the gate"


def faulty_paths(gate: LoginRequired, find: Callable[[str, str], list[str]]) -> LoginRequired:
    """Let the gate find its restricted paths with another function of SCRIPT_NAME and PATH_INFO."""
    original_find = gate._paths.find
    gate._paths.find = lambda script_name, path, is_ambiguous=False: (  # type: ignore[method-assign]
        original_find(script_name, path)._replace(
            restricted=tuple(gate.path_rules if is_ambiguous else find(script_name, path)), is_public=False
        )
    )
    return gate


def test_a_gate_that_ignores_path_rules_is_reported(oauth_app: Any) -> None:
    gate = LoginRequired(hello, oauth_app, allow={"/admin": ("group:admins",), "/open": ("group:editors",)})
    found = findings(faulty_paths(gate, lambda script_name, path: []))
    assert "/admin: allow= does not admit the user octocat, but the request reaches the application" in found


def test_a_gate_that_applies_path_rules_to_one_spelling_only_is_reported(oauth_app: Any) -> None:
    gate = LoginRequired(hello, oauth_app, allow={"/für": ("group:admins",)})
    [raw] = ["/für".encode().decode("latin-1")]
    found = findings(faulty_paths(gate, lambda script_name, path: ["/für"] if path == raw else []))
    assert [finding.partition("but ")[2].partition(" reaches")[0] for finding in found] == [
        ascii(spelling.encode().decode("latin-1"))
        for spelling in ("/FÜR", "//für", "/x/../für", "/für;x", "/%66ür", "/für/", "/für/below")
    ]


def test_a_gate_that_applies_path_rules_to_other_paths_is_reported(oauth_app: Any) -> None:
    gate = LoginRequired(hello, oauth_app, allow={"/admin": ("group:admins",), "/wiki": ("group:editors",)})
    faulty_paths(gate, lambda script_name, path: [] if path == "/" else ["/admin", "/wiki"])
    [finding] = findings(gate)
    assert finding.startswith("/wiki: allow= admits the user octocat, but the gate does not (got 403")


@pytest.mark.parametrize(
    ("is_preflight", "permitted", "expected"),
    [
        (lambda environ: False, True, "/: cors_preflight=True, but a CORS preflight needs a sign-in (got 401)"),
        (lambda environ: environ["REQUEST_METHOD"] == "OPTIONS", True, "request with X-HTTP-Method-Override reaches"),
    ],
)
def test_a_gate_with_a_wrong_idea_of_preflights_is_reported(
    oauth_app: Any, monkeypatch: pytest.MonkeyPatch, is_preflight: Any, permitted: bool, expected: str
) -> None:
    monkeypatch.setattr(middleware, "is_preflight", is_preflight)
    [finding] = findings(LoginRequired(hello, oauth_app, cors_preflight=permitted))
    assert expected in finding


def test_a_gate_that_passes_preflights_without_permission_is_reported(
    oauth_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = protected(oauth_app)
    require_user = gate._require_user
    monkeypatch.setattr(
        gate,
        "_require_user",
        lambda environ, *arguments: (
            None if environ["REQUEST_METHOD"] == "OPTIONS" else require_user(environ, *arguments)
        ),
    )
    assert "/: an anonymous OPTIONS request reaches the application" in findings(gate)


def test_a_gate_that_passes_on_an_access_token_is_reported(oauth_app: Any, around_call: Callable[[Any], None]) -> None:
    around_call(
        lambda call, self, app, environ: call(
            self, app, {**environ, "CREDENTIALS": self._context._environ.get("HTTP_AUTHORIZATION", "")}
        )
    )
    found = findings(protected(with_tokens(oauth_app)))
    assert [finding.partition(";")[0] for finding in found] == ["CREDENTIALS: the access token reaches the application"]


def test_a_gate_that_does_not_mark_access_tokens_is_reported(
    oauth_app: Any, around_call: Callable[[Any], None]
) -> None:
    around_call(lambda call, self, app, environ: call(self, app, {**environ, "AUTH_TYPE": "OAuth2"}))
    where = "in the application behind the gate with an access token"
    assert findings(protected(with_tokens(oauth_app))) == [f"AUTH_TYPE: must be 'Token' {where} (got 'OAuth2')"]


def test_a_token_that_outlives_its_revocation_is_reported(oauth_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AccessTokens, "delete", lambda self, owner, info: None)
    assert findings(protected(with_tokens(oauth_app))) == [
        "/: an access token opens it after it was revoked at /auth/tokens"
    ]


@pytest.mark.parametrize(
    ("may_sign_out", "expected"),
    [
        (False, "/bye: sign_out= contains it, but the session continues after a POST (got 302)"),
        (True, "/bye: a POST from another site signs the user out; it must need a page of this site"),
    ],
)
def test_a_gate_with_a_wrong_idea_of_sign_outs_is_reported(
    oauth_app: Any, monkeypatch: pytest.MonkeyPatch, may_sign_out: bool, expected: str
) -> None:
    monkeypatch.setattr(RequestContext, "may_sign_out", may_sign_out)
    assert findings(LoginRequired(hello, oauth_app, sign_out=("/bye",))) == [expected]


@pytest.mark.parametrize(
    ("is_page_navigation", "expected"),
    [
        (False, "/: a 401 of the application for a page must start a sign-in (got 401)"),
        (True, "/: a 401 of the application for an API client must not be replaced (got 401)"),
    ],
)
def test_a_gate_with_a_wrong_idea_of_401s_is_reported(
    oauth_app: Any, monkeypatch: pytest.MonkeyPatch, is_page_navigation: bool, expected: str
) -> None:
    monkeypatch.setattr(RequestContext, "is_page_navigation", is_page_navigation)
    [finding] = findings(protected(oauth_app))
    assert finding.startswith(expected)


def test_a_gate_that_replaces_401s_against_its_option_is_reported(
    oauth_app: Any, around_call: Callable[[Any], None]
) -> None:
    def call_with_replacement(call: Any, response: GuardedResponse, *arguments: Any) -> Any:
        response._replaces_401 = True
        return call(response, *arguments)

    around_call(call_with_replacement)
    [finding] = findings(LoginRequired(hello, oauth_app, replace_401=False))
    assert finding.startswith(
        "/: a 401 of the application for a page must pass on as it is, because of replace_401=False"
    )


def test_a_gate_that_does_not_set_the_identity_is_reported(oauth_app: Any, around_call: Callable[[Any], None]) -> None:
    keys = {"REMOTE_USER", "AUTH_TYPE", "wsgi_oauth.identity"}
    around_call(
        lambda call, self, app, environ: call(
            self, app, {name: value for name, value in environ.items() if name not in keys}
        )
    )
    assert findings(protected(oauth_app)) == [
        "current_identity(environ): missing in the application behind the gate (got None)",
        "REMOTE_USER: missing in the application behind the gate",
        "AUTH_TYPE: missing in the application behind the gate",
    ]


def test_a_gate_that_sets_a_wrong_identity_is_reported(oauth_app: Any, around_call: Callable[[Any], None]) -> None:
    around_call(lambda call, self, app, environ: call(self, app, {**environ, "REMOTE_USER": "octocat"}))
    [finding] = findings(protected(oauth_app))
    expected = r"REMOTE_USER: must be '583231@127.0.0.1\+3A[0-9]+' in the application behind the gate \(got 'octocat'\)"
    assert re.fullmatch(expected, finding)


# -- correct integrations ----------------------------------------------------------------------------------------------


def test_a_correct_gate_passes(oauth_app: Any) -> None:
    check_embedding(protected(oauth_app), public=("/open",), shows="Mona Lisa Octocat")


def test_a_gate_below_a_path_passes(oauth_app: Any) -> None:
    app = DispatcherMiddleware(Response("elsewhere", 404), {"/intern": protected(oauth_app)})
    check_embedding(app, prefix="/intern/auth", page="/intern/", public=("/intern/open",), shows="Octocat")


@pytest.mark.parametrize("prefix", ["/auth", "/auth/", "/deep/down", ""])
def test_a_mounted_sign_in_without_a_gate_passes(oauth_app: Any, prefix: str) -> None:
    app = DispatcherMiddleware(hello, {prefix.rstrip("/"): oauth_app})
    check_embedding(app, prefix=prefix, page=None, shows="octocat")


def test_paths_may_contain_non_ascii_characters(oauth_app: Any) -> None:
    gated = LoginRequired(hello, oauth_app, prefix="/anmelden für alle", public=("/für alle",))
    check_embedding(gated, prefix="/anmelden für alle", page="/café", public=("/für alle",))


def test_local_provider_overrides_all_other_settings_of_the_environment() -> None:
    others = {"PROVIDER": "google", "PROVIDERS": "google github", "TRUSTED_PROXIES": "1", "CLIENT_SECRET_FILE": "/no"}
    with (
        mock.patch.dict(os.environ, {f"WSGI_OAUTH_{name}": value for name, value in others.items()}),
        local_provider() as environ,
        mock.patch.dict(os.environ, environ),
    ):
        check_embedding(LoginRequired(hello, get_app()))


def test_an_application_with_a_public_url_passes() -> None:
    with local_provider("https://app.example.com/auth/") as environ:
        oauth_app = create_app(Config.from_environ(environ))
        check_embedding(protected(oauth_app), url="https://app.example.com")


def test_a_missing_url_argument_is_reported() -> None:
    with local_provider("https://app.example.com/auth/") as environ:
        [finding] = findings(protected(create_app(Config.from_environ(environ))))
    assert re.search(
        r"^/: an anonymous browser .* \(got 400 .*\); if WSGI_OAUTH_PUBLIC_URL is set, pass .* as url=",
        finding,
    )


def test_a_denied_user_is_reported_with_the_username(environ: dict[str, str]) -> None:
    [finding] = findings(protected(create_app(Config.from_environ(environ), allow=lambda identity: False)))
    assert re.search(r"^/auth/callback: access denied \(got 403 .*\); .* allow= must accept the user octocat", finding)


def test_an_application_configured_by_the_environment_passes() -> None:
    with local_provider() as environ, mock.patch.dict(os.environ, environ):
        check_embedding(LoginRequired(hello, get_app()))


EVERY_OPTION = {
    "public": ("/open",),
    "allow": {"/admin": ("group:admins",), "/wiki": ("group:editors",)},
    "remote_user": lambda identity: identity.username,  # octocat
    "cors_preflight": True,
    "sign_out": ("/bye", "/account/logout/"),
    "expire_cookies": ("mine",),
    "replace_401": False,
}
BROWSER_HEADERS = {"HOST", "ACCEPT", "ACCEPT_LANGUAGE", "USER_AGENT", "COOKIE", "ORIGIN"}


def test_a_gate_with_every_option_passes(oauth_app: Any) -> None:
    oauth_app = create_app(replace(oauth_app.config, tokens=True, cookie_name="crew"))
    gate = LoginRequired(hello, oauth_app, **EVERY_OPTION)
    check_embedding(gate, public=("/open",), shows="Mona Lisa Octocat")
    below = DispatcherMiddleware(Response("elsewhere", 404), {"/intern": gate})
    check_embedding(below, prefix="/intern/auth", page="/intern/", public=("/intern/open",))


def refusing(app: WSGI, status: int, is_refused: Callable[[Any], bool]) -> WSGI:
    """Refuse some requests before they reach *app*."""

    def middleware(environ: Any, start_response: Any) -> Any:
        return (Response("Refused", status) if is_refused(environ) else app)(environ, start_response)

    return middleware


# Refusals of the application, or of a layer around the gate. They are no faults of the integration.
STRICT: dict[str, Callable[[WSGI], WSGI]] = {
    "unknown query parameters": lambda app: refusing(app, 400, lambda environ: "kit=" in environ["QUERY_STRING"]),
    "unknown headers": lambda app: refusing(
        app,
        400,
        lambda environ: any(
            name[5:] not in BROWSER_HEADERS and not name.startswith("HTTP_SEC_FETCH_")
            for name in environ
            if name.startswith("HTTP_")
        ),
    ),
    "requests without a browser's headers": lambda app: refusing(
        app, 403, lambda environ: not {"HTTP_USER_AGENT", "HTTP_ACCEPT", "HTTP_HOST"} <= environ.keys()
    ),
    "programs": lambda app: refusing(app, 406, lambda environ: "text/html" not in environ.get("HTTP_ACCEPT", "")),
    "unknown methods": lambda app: refusing(
        app,
        405,
        lambda environ: environ["REQUEST_METHOD"] != "GET" and not environ["PATH_INFO"].startswith("/auth/"),
    ),
    "POST requests without a CSRF token": lambda app: refusing(
        app,
        403,
        lambda environ: environ["REQUEST_METHOD"] == "POST" and not environ["PATH_INFO"].startswith("/auth/"),
    ),
    "other hosts": lambda app: refusing(app, 400, lambda environ: environ.get("HTTP_HOST") != "localhost"),
    "unknown paths": lambda app: refusing(
        app, 404, lambda environ: environ["PATH_INFO"] != "/" and not environ["PATH_INFO"].startswith("/auth/")
    ),
}


@pytest.mark.parametrize("place", ["in the application", "around the gate"])
@pytest.mark.parametrize("refused", STRICT)
def test_an_application_may_refuse(oauth_app: Any, refused: str, place: str) -> None:
    strict = STRICT[refused]
    options = {**EVERY_OPTION, "replace_401": True}
    if place == "in the application":
        check_embedding(LoginRequired(strict(hello), with_tokens(oauth_app), **options), public=("/open",))
    else:
        check_embedding(strict(LoginRequired(hello, oauth_app, **options)), public=("/open",))


@pytest.mark.parametrize(
    "application",
    [
        Response("Not here", 404),
        Response("Not you", 403),
        Response("Who are you?", 401, {"WWW-Authenticate": "Basic"}),
        redirect("/login"),
        redirect("https://elsewhere.example/"),
    ],
    ids=["answers 404", "answers 403", "asks for a password", "redirects each path to its login", "redirects away"],
)
def test_an_application_may_answer_each_page_in_its_own_way(oauth_app: Any, application: WSGI) -> None:
    check_embedding(LoginRequired(application, oauth_app))


def test_an_application_may_redirect_to_the_page_that_shows_the_user(oauth_app: Any) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        return (hello if environ["PATH_INFO"] == "/en/home" else redirect("/en/home"))(environ, start_response)

    check_embedding(LoginRequired(application, oauth_app), shows="Mona Lisa Octocat")


def test_a_layer_around_the_gate_may_answer_preflights_itself(oauth_app: Any) -> None:
    gate = LoginRequired(hello, oauth_app, cors_preflight=True)
    check_embedding(rejecting(gate, 200, "OPTIONS", "/"))


def test_a_page_may_need_its_query(oauth_app: Any) -> None:
    application = refusing(hello, 400, lambda environ: environ["QUERY_STRING"] != "page=1")
    check_embedding(LoginRequired(application, oauth_app), page="/?page=1", shows="Mona Lisa Octocat")


def test_an_application_may_set_its_own_cookies(oauth_app: Any) -> None:
    mine = with_response(hello, lambda path, status, headers: (status, [*headers, ("Set-Cookie", "mine=1; Path=/")]))
    check_embedding(LoginRequired(mine, oauth_app))


def test_exceptions_of_the_application_are_passed_on(oauth_app: Any) -> None:
    def failing(environ: Any, start_response: Any) -> Any:
        raise ZeroDivisionError

    def asserting(environ: Any, start_response: Any) -> Any:
        raise AssertionError("an assertion of the application")

    with pytest.raises(ZeroDivisionError):
        check_embedding(LoginRequired(failing, oauth_app))
    with pytest.raises(AssertionError, match="an assertion of the application"):
        check_embedding(LoginRequired(asserting, oauth_app))


def test_the_error_message_lists_all_findings(oauth_app: Any) -> None:
    with pytest.raises(AssertionError) as caught:
        check_embedding(without_close(with_response(protected(oauth_app), publicly_cacheable)))
    assert str(caught.value).startswith(
        "login integration problems:\n"
        "- Cache-Control: a shared cache may store a user's page; must contain private or no-store (got 'public, "
        "max-age=60')\n"
        "- close(): not called"
    )


def test_the_gate_is_unchanged_after_the_check(oauth_app: Any) -> None:
    call, app = LoginRequired.__call__, protected(oauth_app)
    check_embedding(app)
    findings(without_close(app))
    assert LoginRequired.__call__ is call
    assert app._wsgi_app is hello


def test_the_local_provider_stops_at_the_end_of_its_block() -> None:
    with local_provider() as environ:
        url = environ["WSGI_OAUTH_PROFILE_URL"]
        assert requests.get(url, timeout=60).status_code == 401
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=60)


# -- signed_in ----------------------------------------------------------------------


def test_signed_in_works_with_werkzeugs_client() -> None:
    app = protected(create_app(GITHUB))
    client = Client(app)
    client.set_cookie(*signed_in(app, ADA))
    assert client.get("/").text == "Ada Lovelace"


def test_signed_in_works_with_webtest() -> None:
    app = protected(create_app(GITHUB))
    client = webtest.TestApp(app)
    client.set_cookie(*signed_in(app, ADA))
    assert client.get("/").text == "Ada Lovelace"


def test_signed_in_works_with_a_cookie_header() -> None:
    app = protected(create_app(GITHUB))
    assert Client(app, use_cookies=False).get("/", headers={"Cookie": str(signed_in(app, ADA))}).text == "Ada Lovelace"


def test_signed_in_returns_a_secure_cookie_for_an_https_public_url() -> None:
    app = protected(create_app(replace(GITHUB, public_url="https://app.example.com/auth")))
    client = Client(app)
    cookie = signed_in(app, ADA)
    assert cookie.name == "__Host-wsgi_oauth"
    client.set_cookie(*cookie, domain="app.example.com", secure=True)
    assert client.get("/", base_url="https://app.example.com").text == "Ada Lovelace"


def test_the_default_user_is_mona_lisa_octocat_at_the_configured_provider() -> None:
    oauth_app = create_app(GITHUB)
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(environ)
        return hello(environ, start_response)

    response = Client(LoginRequired(app, oauth_app), use_cookies=False).get(
        "/", headers={"Cookie": str(signed_in(oauth_app))}
    )
    assert response.text == "Mona Lisa Octocat"
    assert seen[0]["REMOTE_USER"] == "583231@github"
    assert current_identity(seen[0]).username == "octocat"


def test_the_test_can_choose_the_access_token() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        return Response(oauth2_session(environ).token["access_token"])(environ, start_response)

    gated = LoginRequired(app, create_app(GITHUB))
    cookie = signed_in(gated, token={"access_token": "adas-token", "token_type": "Bearer"})
    assert Client(gated, use_cookies=False).get("/", headers={"Cookie": str(cookie)}).text == "adas-token"


def test_a_user_from_signed_in_can_sign_out() -> None:
    app = protected(create_app(GITHUB))
    client = Client(app)
    client.set_cookie(*signed_in(app))
    assert client.post("/auth/logout", headers={"Origin": "http://localhost"}).status_code == 303
    assert client.get("/", headers=JSON).status_code == 401


def test_the_cookie_is_valid_for_applications_with_the_same_store() -> None:
    store = MemoryStore()
    mine, sibling, other = create_app(GITHUB, store=store), create_app(GITHUB, store=store), create_app(GITHUB)
    headers = {"Cookie": str(signed_in(mine)), **JSON}
    statuses = [
        Client(protected(app), use_cookies=False).get("/", headers=headers).status_code
        for app in (mine, sibling, other)
    ]
    assert statuses == [200, 200, 401]


def test_signed_in_accepts_only_the_application_itself() -> None:
    """A URL, a configuration or other middleware is refused."""
    for other in (hello, GITHUB, "http://localhost", without_close(protected(create_app(GITHUB)))):
        with pytest.raises(TypeError, match="app must be the LoginRequired gate"):
            signed_in(other)  # type: ignore[arg-type]


def test_a_cookie_formats_itself_as_a_header_value() -> None:
    assert str(Cookie("wsgi_oauth", "abc")) == "wsgi_oauth=abc"
