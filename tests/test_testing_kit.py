"""The kit for those who embed: a good mounting passes, and of a bad one it says what is wrong, in words."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
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
from wsgi_oauth.testing import Cookie, EmbeddingFault, check_embedding, local_provider, signed_in

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

WSGI = Callable[[Any, Any], Any]


@pytest.fixture(scope="module")
def environ() -> Iterator[dict[str, str]]:
    with local_provider() as environ:
        yield environ


@pytest.fixture
def oauth_app(environ: dict[str, str]) -> Any:
    return create_app(Config.from_environ(environ))


def hello(environ: Any, start_response: Any) -> Any:
    """An application that greets whoever is there."""
    identity = current_identity(environ)
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [escape(identity.name if identity else "nobody").encode()]


def good(oauth_app: Any) -> LoginRequired:
    return LoginRequired(hello, oauth_app, public=("/open",))


def findings(app: WSGI, **options: Any) -> list[str]:
    try:
        check_embedding(app, **options)
    except EmbeddingFault as fault:
        return fault.findings
    return []


# -- middleware, and what it may do to others --------------------------------------------------------------------------


def asking(app: WSGI, change: Callable[[dict[str, Any]], object]) -> WSGI:
    """Let *change* do something to each request."""

    def asking(environ: Any, start_response: Any) -> Any:
        environ = {**environ}
        change(environ)
        return app(environ, start_response)

    return asking


def answering(
    app: WSGI, change: Callable[[str, str, list[tuple[str, str]]], tuple[str, list[tuple[str, str]]]]
) -> WSGI:
    """Let *change* do something to status and headers: ``change(path, status, headers)``."""

    def answering(environ: Any, start_response: Any) -> Any:
        def changed(status: str, headers: Any, *exc_info: Any) -> Any:
            return start_response(*change(environ["PATH_INFO"], status, headers), *exc_info)

        return app(environ, changed)

    return answering


def refusing(app: WSGI, status: int, method: str, path: str) -> WSGI:
    """Answer some requests with *status* and no further."""

    def refusing(environ: Any, start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] == method and environ["PATH_INFO"].startswith(path):
            return Response("<h1>Not here</h1>", status, mimetype="text/html")(environ, start_response)
        return app(environ, start_response)

    return refusing


def mounting(oauth_app: Any, script_name: str) -> WSGI:
    """Mount by hand, and tell *script_name*."""

    def mounting(environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path.startswith("/auth"):
            moved = {**environ, "SCRIPT_NAME": script_name, "PATH_INFO": path.removeprefix("/auth")}
            return oauth_app(moved, start_response)
        return hello(environ, start_response)

    return mounting


def of_cookies(headers: list[tuple[str, str]], change: Callable[[str], str]) -> list[tuple[str, str]]:
    return [(name, change(value) if name == "Set-Cookie" else value) for name, value in headers]


def without(headers: list[tuple[str, str]], name: str) -> list[tuple[str, str]]:
    return [header for header in headers if header[0] != name]


def without_close(app: WSGI) -> WSGI:
    return lambda environ, start_response: (chunk for chunk in app(environ, start_response))


def all_at_once(app: WSGI) -> WSGI:
    def all_at_once(environ: Any, start_response: Any) -> Any:
        body = app(environ, start_response)
        return ClosingIterator(iter(list(body)), getattr(body, "close", None))

    return all_at_once


def shouting(app: WSGI) -> WSGI:
    def shouting(environ: Any, start_response: Any) -> Any:
        body = app(environ, start_response)
        return ClosingIterator((chunk.upper() for chunk in body), getattr(body, "close", None))

    return shouting


def in_text(app: WSGI) -> WSGI:
    def in_text(environ: Any, start_response: Any) -> Any:
        body = app(environ, start_response)
        return ClosingIterator((chunk.decode() for chunk in body), getattr(body, "close", None))

    return in_text


def forgetting_nobody(app: WSGI) -> WSGI:
    """Show a page of before, as a cache does that knows nothing of a sign-out."""
    signed_out: list[bool] = []

    def forgetting_nobody(environ: Any, start_response: Any) -> Any:
        if signed_out:
            return hello(environ, start_response)
        signed_out.extend([True] * (environ["PATH_INFO"] == "/auth/logout"))
        return app(environ, start_response)

    return forgetting_nobody


def opening_for_claims(app: WSGI) -> WSGI:
    """Believe a proxy in front that has signed somebody in."""
    return lambda environ, start_response: (hello if "REMOTE_USER" in environ else app)(environ, start_response)


def guarding_itself(oauth_app: Any) -> WSGI:
    """A page that asks for a sign-in without any gate."""

    class Page(RequestHandler):
        route = "/page"

        def get(self, request: Any) -> Response:
            return self.jsonify(bool(request.session["oauth_token"]))

    return mounting(create_app(oauth_app.config, handlers=[Page]), "/auth")


def everywhere(change: Callable[[str], str]) -> Callable[[str, str, Any], Any]:
    """Change each Set-Cookie."""
    return lambda path, status, headers: (status, of_cookies(headers, change))


def on(place: str, change: Callable[[str, Any], Any]) -> Callable[[str, str, Any], Any]:
    """Change status and headers of one path."""
    return lambda path, status, headers: change(status, headers) if path == place else (status, headers)


def cut_query(status: str, headers: Any) -> Any:
    return status, [(name, value.partition("?")[0] if name == "Location" else value) for name, value in headers]


def send_home(status: str, headers: Any) -> Any:
    return status, [(name, "/home" if name == "Location" else value) for name, value in headers]


def no_cookie(status: str, headers: Any) -> Any:
    return status, without(headers, "Set-Cookie")


def to_a_login_page(path: str, status: str, headers: Any) -> Any:
    return ("302 Found", [*headers, ("Location", "/login")]) if status.startswith("401") else (status, headers)


def saying_less(app: WSGI, words: str) -> WSGI:
    """Answer programs in *words* of its own."""

    def saying_less(environ: Any, start_response: Any) -> Any:
        response = Response.from_app(app, environ) if environ.get("HTTP_ACCEPT") == "application/json" else None
        if response is not None and response.status_code == 401:
            return Response(words, 401)(environ, start_response)
        return app(environ, start_response)

    return saying_less


def to_an_error_page(path: str, status: str, headers: Any) -> Any:
    return ("200 OK" if status.startswith("403") else status), headers


def for_all(path: str, status: str, headers: Any) -> Any:
    return status, [*without(headers, "Cache-Control"), ("Cache-Control", "public, max-age=60")]


def the_last_of_each(path: str, status: str, headers: Any) -> Any:
    return status, list(dict(headers).items())


def at(path: str, **values: str) -> Callable[[dict[str, Any]], object]:
    """Change the environ of requests for one path."""
    return lambda environ: environ.update(values) if environ["PATH_INFO"] == path else None


# name: what mounts the sign-in, what the kit is asked, what it says
FAULTS: dict[str, tuple[Callable[[Any], WSGI], dict[str, Any], str]] = {
    "no gate": (
        lambda oauth_app: mounting(oauth_app, "/auth"),
        {},
        r"^/ answers 200 to a browser that is not signed in: no gate asks for a sign-in there\. Pass page=",
    ),
    "a page that guards itself": (
        guarding_itself,
        {"page": "/auth/page"},
        r"^/auth/page did not come through LoginRequired",
    ),
    "another prefix": (
        lambda oauth_app: LoginRequired(hello, oauth_app, prefix="/login"),
        {},
        r"^the prefix is lost: the sign-in that a browser is sent to is http://localhost/login/, right would be "
        r"http://localhost/auth/",
    ),
    "a lost prefix": (
        lambda oauth_app: mounting(oauth_app, ""),
        {"page": None},
        r"^the prefix is lost: .*has to move /auth from PATH_INFO to SCRIPT_NAME; if it is",
    ),
    "a sign-in that is not at the root": (
        lambda oauth_app: LoginRequired(hello, oauth_app),
        {"prefix": ""},
        r"^the sign-in that a browser is sent to is http://localhost/auth/, right would be http://localhost/$",
    ),
    "a doubled prefix": (
        lambda oauth_app: mounting(oauth_app, "/auth/auth"),
        {"page": None},
        r"^the prefix is doubled: .* is http://localhost/auth/auth/, right would be http://localhost/auth/",
    ),
    "a sign-in that is not reachable": (
        lambda oauth_app: refusing(good(oauth_app), 404, "GET", "/auth"),
        {},
        r"^/auth/ answers 404 \(Not here\), and starts no sign-in: it is not mounted there$",
    ),
    "another provider": (
        lambda oauth_app: good(create_app(Config(client_id="id", client_secret="secret", session_store="memory:"))),
        {},
        r"^the sign-in leads to https://github.com/login/oauth/authorize, which is not the local provider",
    ),
    "a redirect URI that is not registered": (
        lambda oauth_app: good(create_app(replace(oauth_app.config, public_url="https://app.example.com/auth"))),
        {"url": "https://app.example.com"},
        r"^the local provider refuses to sign in: This request makes no sense$",
    ),
    "browsers that are told off": (
        lambda oauth_app: refusing(good(oauth_app), 401, "GET", "/"),
        {},
        r"^/ answers 401 \(Not here\) to a browser that is not signed in; right would be a redirect to http://localhost/auth/$",
    ),
    "programs that are redirected": (
        lambda oauth_app: answering(good(oauth_app), to_a_login_page),
        {},
        r"^/ answers 302 and leads to http://localhost/login to a program that is not signed in; right would be a 401",
    ),
    "programs that are not told where to sign in": (
        lambda oauth_app: saying_less(good(oauth_app), "Go away"),
        {},
        r"^the 401 for programs has no login_url http://localhost/auth/ in its JSON",
    ),
    "programs that are told something else": (
        lambda oauth_app: saying_less(good(oauth_app), "[]"),
        {},
        r"^the 401 for programs has no login_url http://localhost/auth/ in its JSON: b'\[\]'$",
    ),
    "a public path that is not": (
        good,
        {"public": ("/open", "/static")},
        r"^/static should be public, and asks for a sign-in$",
    ),
    "a proxy that is believed": (
        lambda oauth_app: opening_for_claims(good(oauth_app)),
        {},
        r"^a REMOTE_USER or wsgi_oauth.identity from outside opens / without any sign-in$",
    ),
    "a query that is lost before the gate": (
        lambda oauth_app: asking(good(oauth_app), at("/", QUERY_STRING="")),
        {},
        r"^the sign-in will not lead back to /\?kit=a%20b&kit=caf%C3%A9: it starts with 'next=%2F'$",
    ),
    "a query that is lost on the way back": (
        lambda oauth_app: answering(good(oauth_app), on("/auth/callback", cut_query)),
        {},
        r"^the query string is lost at the sign-in: of /\?kit=a%20b&kit=caf%C3%A9 comes back http://localhost/$",
    ),
    "another page than the one asked for": (
        lambda oauth_app: answering(good(oauth_app), on("/auth/callback", send_home)),
        {},
        r"^after the sign-in the browser is sent to http://localhost/home, and not back to /$",
    ),
    "a callback without its query": (
        lambda oauth_app: asking(good(oauth_app), at("/auth/callback", QUERY_STRING="")),
        {},
        r"^the callback answers 400 \(No sign-in is in progress\) instead of a redirect",
    ),
    "no cookie": (
        lambda oauth_app: answering(good(oauth_app), on("/auth/", no_cookie)),
        {},
        r"^the sign-in sets no cookie wsgi_oauth: something takes its Set-Cookie away$",
    ),
    "a cookie for a part of the site": (
        lambda oauth_app: answering(good(oauth_app), everywhere(lambda it: it.replace("Path=/", "Path=/auth"))),
        {},
        r"^something changes the session cookie: its path is '/auth', right would be '/'$",
    ),
    "a cookie for other hosts": (
        lambda oauth_app: answering(good(oauth_app), everywhere(lambda it: it + "; Domain=example.com")),
        {},
        r"^something changes the session cookie: its domain is 'example.com', right would be ''$",
    ),
    "a cookie for scripts": (
        lambda oauth_app: answering(good(oauth_app), everywhere(lambda it: it.replace("; HttpOnly", ""))),
        {},
        r"^something changes the session cookie: its httponly is '', right would be True$",
    ),
    "a cookie for other sites": (
        lambda oauth_app: answering(good(oauth_app), everywhere(lambda it: it.replace("Lax", "None"))),
        {},
        r"^something changes the session cookie: its samesite is 'None', right would be 'Lax'$",
    ),
    "a cookie that does not reach the page": (
        lambda oauth_app: asking(good(oauth_app), at("/", HTTP_COOKIE="")),
        {},
        r"^/ answers 302 to whoever is signed in, and asks for another sign-in: the session cookie does not reach it$",
    ),
    "a page that fails": (
        lambda oauth_app: LoginRequired(Response("<h1>Oh no</h1>", 500), oauth_app),
        {},
        r"^/ answers 500 \(Oh no\) to whoever is signed in$",
    ),
    "an application that does not care who is there": (
        lambda oauth_app: LoginRequired(Response("hello"), oauth_app),
        {"shows": "Octocat"},
        r"^/ does not show 'Octocat' to whoever is signed in: b'hello'$",
    ),
    "a stream that is held back": (
        lambda oauth_app: all_at_once(good(oauth_app)),
        {},
        r"^a stream is held back: ",
    ),
    "a response that is changed": (
        lambda oauth_app: shouting(good(oauth_app)),
        {},
        r"^a response does not arrive as the application has made it$",
    ),
    "a page for all": (
        lambda oauth_app: answering(good(oauth_app), for_all),
        {},
        r"^a page for one user may be kept for all: its Cache-Control is 'public, max-age=60', and not private$",
    ),
    "one Set-Cookie of two": (
        lambda oauth_app: answering(good(oauth_app), the_last_of_each),
        {},
        r"^a Set-Cookie of the application is lost: kit-a$",
    ),
    "close() that is swallowed": (
        lambda oauth_app: without_close(good(oauth_app)),
        {},
        r"^close\(\) is swallowed when the browser hangs up in the middle: ",
    ),
    "a body that is read by somebody else": (
        lambda oauth_app: asking(good(oauth_app), lambda environ: environ["wsgi.input"].read(1000)),
        {},
        r"^the body of a request does not arrive as it was sent, 15384 bytes of 16384: something has read it$",
    ),
    "an application that nobody may post to": (
        lambda oauth_app: refusing(good(oauth_app), 405, "POST", "/"),
        {},
        r"^a POST to / does not reach the application behind the gate$",
    ),
    "a 403 that is replaced": (
        lambda oauth_app: answering(good(oauth_app), to_an_error_page),
        {},
        r"^a 403 of the application becomes 200$",
    ),
    "a sign-out that is refused": (
        lambda oauth_app: refusing(good(oauth_app), 403, "POST", "/auth/logout"),
        {},
        r"^nobody can sign out: a POST to /auth/logout answers 403 \(Not here\)$",
    ),
    "a cookie that stays": (
        lambda oauth_app: answering(good(oauth_app), on("/auth/logout", no_cookie)),
        {},
        r"^the session cookie is still there after a POST to /auth/logout",
    ),
    "a page that stays": (
        lambda oauth_app: forgetting_nobody(good(oauth_app)),
        {},
        r"^/ is shown after the sign-out when the old cookie is sent again: ",
    ),
    "no answer": (
        lambda oauth_app: lambda environ, start_response: [],
        {},
        r"^nothing answers GET /\?kit=a%20b&kit=caf%C3%A9: start_response is not called$",
    ),
    "text where PEP 3333 wants bytes": (
        lambda oauth_app: in_text(good(oauth_app)),
        {},
        r"^the answer to GET /\S* is not as PEP 3333 has it: Iterator yielded non-bytestring",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_kit_says_what_is_wrong(fault: str, oauth_app: Any) -> None:
    make, options, words = FAULTS[fault]
    found = findings(make(oauth_app), **options)
    assert any(re.search(words, finding) for finding in found), found


# -- the gate itself, broken on purpose --------------------------------------------------------------------------------


@pytest.fixture
def around_call(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Put a function around how the gate calls its application: ``function(call, gate, environ, answer)``."""

    def put(function: Any) -> None:
        call = LoginRequired._call
        monkeypatch.setattr(LoginRequired, "_call", lambda *arguments: function(call, *arguments))

    return put


def test_a_gate_that_swallows_close_is_noticed(oauth_app: Any, around_call: Callable[[Any], None]) -> None:
    around_call(lambda call, *arguments: iter(list(call(*arguments))))
    found = findings(good(oauth_app))
    assert [finding.partition(":")[0] for finding in found] == [
        "a stream is held back",
        "close() is swallowed of a response that was read to its end",
        "close() is swallowed when the browser hangs up in the middle",
    ]


@pytest.mark.parametrize(
    ("script_name", "words"),
    [
        ("", "the prefix is lost: the redirect URI is http://localhost/callback, right would be"),
        ("/auth/auth", "the prefix is doubled: the redirect URI is http://localhost/auth/auth/callback, right would"),
    ],
)
def test_a_gate_that_gets_the_prefix_wrong_is_noticed(
    oauth_app: Any, monkeypatch: pytest.MonkeyPatch, script_name: str, words: str
) -> None:
    call = type(oauth_app).__call__
    monkeypatch.setattr(
        type(oauth_app),
        "__call__",
        lambda self, environ, start_response: call(self, {**environ, "SCRIPT_NAME": script_name}, start_response),
    )
    [finding] = findings(good(oauth_app))
    assert finding.startswith(words)


def test_a_gate_that_lets_a_forged_identity_pass_is_noticed(oauth_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_CLAIMS", ())
    assert {
        "REMOTE_USER from outside passes to the application, on a public path /open",
        "AUTH_TYPE from outside passes to the application, on a public path /open",
        "wsgi_oauth.identity from outside passes to the application, on a public path /open",
        "HTTP_REMOTE_USER from outside passes to the application, on a signed-in request of /",
        "HTTP_AUTH_TYPE from outside passes to the application, on a signed-in request of /",
    } <= set(findings(good(oauth_app), public=("/open",)))


def test_a_gate_that_does_not_say_who_is_there_is_noticed(oauth_app: Any, around_call: Callable[[Any], None]) -> None:
    told = {"REMOTE_USER", "AUTH_TYPE", "wsgi_oauth.identity"}
    around_call(
        lambda call, self, environ, answer: call(
            self, {name: value for name, value in environ.items() if name not in told}, answer
        )
    )
    assert findings(good(oauth_app)) == [
        "the application does not find who is signed in: current_identity(environ) is None",
        "the application does not find REMOTE_USER",
        "the application does not find AUTH_TYPE",
    ]


def test_a_gate_that_says_somebody_else_is_noticed(oauth_app: Any, around_call: Callable[[Any], None]) -> None:
    around_call(lambda call, self, environ, answer: call(self, {**environ, "REMOTE_USER": "octocat"}, answer))
    [finding] = findings(good(oauth_app))
    assert re.fullmatch(
        r"the application finds 'octocat' as REMOTE_USER, right would be '127.0.0.1:[0-9]+:583231'", finding
    )


# -- what is right -----------------------------------------------------------------------------------------------------


def test_a_good_gate_passes(oauth_app: Any) -> None:
    check_embedding(good(oauth_app), public=("/open",), shows="Mona Lisa Octocat")


def test_a_gate_that_is_mounted_below_a_path_passes(oauth_app: Any) -> None:
    app = DispatcherMiddleware(Response("elsewhere", 404), {"/intern": good(oauth_app)})
    check_embedding(app, prefix="/intern/auth", page="/intern/", public=("/intern/open",), shows="Octocat")


@pytest.mark.parametrize("prefix", ["/auth", "/auth/", "/deep/down", ""])
def test_a_sign_in_that_is_only_mounted_passes(oauth_app: Any, prefix: str) -> None:
    app = DispatcherMiddleware(hello, {prefix.rstrip("/"): oauth_app})
    check_embedding(app, prefix=prefix, page=None, shows="octocat")


def test_paths_may_have_other_characters_than_ascii(oauth_app: Any) -> None:
    gated = LoginRequired(hello, oauth_app, prefix="/anmelden für alle", public=("/für alle",))
    check_embedding(gated, prefix="/anmelden für alle", page="/café", public=("/für alle",))


def test_what_the_environment_says_otherwise_does_not_get_in() -> None:
    others = {"PROVIDER": "google", "PROVIDERS": "google github", "TRUSTED_PROXIES": "1", "CLIENT_SECRET_FILE": "/no"}
    with (
        mock.patch.dict(os.environ, {f"WSGI_OAUTH_{name}": value for name, value in others.items()}),
        local_provider() as environ,
        mock.patch.dict(os.environ, environ),
    ):
        check_embedding(LoginRequired(hello, get_app()))


def test_an_application_under_its_real_name_passes() -> None:
    with local_provider("https://app.example.com/auth/") as environ:
        oauth_app = create_app(Config.from_environ(environ))
        check_embedding(good(oauth_app), url="https://app.example.com")


def test_an_application_under_its_real_name_is_told_which_url_to_pass() -> None:
    with local_provider("https://app.example.com/auth/") as environ:
        [finding] = findings(good(create_app(Config.from_environ(environ))))
    assert re.search(r"^/ answers 400 \(.*\) to a browser .*; with WSGI_OAUTH_PUBLIC_URL set, pass url=", finding)


def test_who_must_be_let_in_is_named(environ: dict[str, str]) -> None:
    [finding] = findings(good(create_app(Config.from_environ(environ), allow=lambda identity: False)))
    assert re.search(r"^the callback answers 403 .* allow= must let in .* whose username is octocat", finding)


def test_an_application_that_is_set_up_by_the_environment_passes() -> None:
    with local_provider() as environ, mock.patch.dict(os.environ, environ):
        check_embedding(LoginRequired(hello, get_app()))


def test_an_application_may_have_cookies_and_a_sign_out_of_its_own(oauth_app: Any) -> None:
    mine = answering(hello, lambda path, status, headers: (status, [*headers, ("Set-Cookie", "mine=1; Path=/")]))
    check_embedding(LoginRequired(mine, oauth_app))


def test_what_the_application_raises_comes_out_as_it_is(oauth_app: Any) -> None:
    def failing(environ: Any, start_response: Any) -> Any:
        raise ZeroDivisionError

    def asserting(environ: Any, start_response: Any) -> Any:
        raise AssertionError("an assertion of the application")

    with pytest.raises(ZeroDivisionError):
        check_embedding(LoginRequired(failing, oauth_app))
    with pytest.raises(AssertionError, match="an assertion of the application"):
        check_embedding(LoginRequired(asserting, oauth_app))


def test_all_that_was_found_stands_in_the_error(oauth_app: Any) -> None:
    with pytest.raises(AssertionError) as caught:
        check_embedding(without_close(answering(good(oauth_app), for_all)))
    assert str(caught.value).startswith(
        "the sign-in is not at home in this application:\n"
        "- a page for one user may be kept for all: its Cache-Control is 'public, max-age=60', and not private\n"
        "- close() is swallowed"
    )


def test_the_gate_is_as_it_was_afterwards(oauth_app: Any) -> None:
    call, app = LoginRequired.__call__, good(oauth_app)
    check_embedding(app)
    findings(without_close(app))
    assert LoginRequired.__call__ is call
    assert app._wsgi_app is hello


def test_the_local_provider_ends_with_its_block() -> None:
    with local_provider() as environ:
        url = environ["WSGI_OAUTH_PROFILE_URL"]
        assert requests.get(url, timeout=10).status_code == 401
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=10)


# -- somebody who is signed in without a provider ----------------------------------------------------------------------


GITHUB = Config(client_id="id", client_secret="secret", session_store="memory:")
ADA = Identity("github", "1815", username="ada", name="Ada Lovelace")


def test_werkzeugs_test_client_is_signed_in() -> None:
    app = good(create_app(GITHUB))
    client = Client(app)
    client.set_cookie(*signed_in(app, ADA))
    assert client.get("/").text == "Ada Lovelace"


def test_webtest_is_signed_in() -> None:
    app = good(create_app(GITHUB))
    client = webtest.TestApp(app)
    client.set_cookie(*signed_in(app, ADA))
    assert client.get("/").text == "Ada Lovelace"


def test_any_client_is_signed_in_by_a_header() -> None:
    app = good(create_app(GITHUB))
    assert Client(app, use_cookies=False).get("/", headers={"Cookie": str(signed_in(app, ADA))}).text == "Ada Lovelace"


def test_under_an_https_name_the_cookie_is_for_https() -> None:
    app = good(create_app(replace(GITHUB, public_url="https://app.example.com/auth")))
    client = Client(app)
    cookie = signed_in(app, ADA)
    assert cookie.name == "__Host-wsgi_oauth"
    client.set_cookie(*cookie, domain="app.example.com", secure=True)
    assert client.get("/", base_url="https://app.example.com").text == "Ada Lovelace"


def test_without_a_name_it_is_the_local_providers_user_as_the_configured_provider_would_call_them() -> None:
    oauth_app = create_app(GITHUB)
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(environ)
        return hello(environ, start_response)

    response = Client(LoginRequired(app, oauth_app), use_cookies=False).get(
        "/", headers={"Cookie": str(signed_in(oauth_app))}
    )
    assert response.text == "Mona Lisa Octocat"
    assert seen[0]["REMOTE_USER"] == "github:583231"
    assert current_identity(seen[0]).username == "octocat"


def test_the_token_is_the_one_that_the_test_wants() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        return Response(oauth2_session(environ).token["access_token"])(environ, start_response)

    gated = LoginRequired(app, create_app(GITHUB))
    cookie = signed_in(gated, token={"access_token": "of-ada", "token_type": "Bearer"})
    assert Client(gated, use_cookies=False).get("/", headers={"Cookie": str(cookie)}).text == "of-ada"


def test_who_is_signed_in_can_sign_out() -> None:
    app = good(create_app(GITHUB))
    client = Client(app)
    client.set_cookie(*signed_in(app))
    assert client.post("/auth/logout", headers={"Origin": "http://localhost"}).status_code == 200
    assert client.get("/", headers=JSON).status_code == 401


def test_it_opens_what_shares_the_store_and_nothing_else() -> None:
    store = MemoryStore()
    mine, sibling, stranger = create_app(GITHUB, store=store), create_app(GITHUB, store=store), create_app(GITHUB)
    headers = {"Cookie": str(signed_in(mine)), **JSON}
    assert [
        Client(good(app), use_cookies=False).get("/", headers=headers).status_code for app in (mine, sibling, stranger)
    ] == [
        200,
        200,
        401,
    ]


def test_it_needs_the_application_itself() -> None:
    """No back door: a URL, a configuration or somebody else's middleware opens nothing."""
    for other in (hello, GITHUB, "http://localhost", without_close(good(create_app(GITHUB)))):
        with pytest.raises(TypeError, match="needs the LoginRequired gate, or what create_app or get_app returned"):
            signed_in(other)  # type: ignore[arg-type]


def test_the_cookie_says_what_a_header_says() -> None:
    assert str(Cookie("wsgi_oauth", "abc")) == "wsgi_oauth=abc"
