"""The token endpoint: valid and invalid responses, the redirect URI, and client authentication."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import pytest
from conftest import JSON, Browser, environ_for, parameters
from fixed_server import answering

from wsgi_oauth import Config, FileStore, create_app
from wsgi_oauth.demo.faults import MARKUP, TOKEN_FAULTS
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import Server, serve_provider

SIGNED_IN = 303
CODE_REFUSED = 400
PROVIDERS_FAULT = 502
SILENCE = 504

# The outcome of a sign-in for each fault of the token endpoint.
OUTCOMES = {
    **dict.fromkeys(TOKEN_FAULTS, PROVIDERS_FAULT),
    # RFC 6749 5.2: error responses. Only a refused code can be corrected by the user.
    "invalid_grant": CODE_REFUSED,
    "invalid_grant_403": CODE_REFUSED,
    "error_200": CODE_REFUSED,
    # RFC 6749 5.1: responses with a token, valid or not
    "token_as_html": SIGNED_IN,
    "form_encoded": SIGNED_IN,
    "extra_members": SIGNED_IN,
    "token_type_missing": SIGNED_IN,
    "token_type_null": SIGNED_IN,
    "token_type_upper": SIGNED_IN,
    "expires_in_missing": SIGNED_IN,
    "expires_in_null": SIGNED_IN,
    "expires_in_zero": SIGNED_IN,
    "expires_in_negative": SIGNED_IN,
    "expires_in_string": SIGNED_IN,
    "expires_in_word": SIGNED_IN,
    "expires_in_huge": SIGNED_IN,
    "expires_at": SIGNED_IN,
    "scope_commas": SIGNED_IN,
    "scope_smaller": SIGNED_IN,
    "scope_other": SIGNED_IN,
    "scope_missing": SIGNED_IN,
    "scope_list": SIGNED_IN,
    "refresh_token_missing": SIGNED_IN,
    "id_token_for_another_client": SIGNED_IN,  # without OpenID Connect there is no ID token
    # Responses without a token
    "slow": SILENCE,
    "dribble_headers": SILENCE,
    "dribble_body": SILENCE,
    "close": SIGNED_IN,
}
REDIRECTS = [f"redirect_{status}" for status in (301, 302, 303, 307, 308)]

REFUSED = sorted(name for name, outcome in OUTCOMES.items() if outcome != SIGNED_IN)
ACCEPTED = sorted(OUTCOMES.keys() - set(REFUSED))


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """These tests read the stored token from the folder. They do not depend on the kind of store."""
    return FileStore(tmp_path / "sessions")


def stored_tokens(store: FileStore) -> list[dict[str, Any]]:
    """Return every token in the folder of the store."""
    sessions = [json.loads(path.read_text()) for path in Path(store.folder).glob("*.json")]
    return [session["data"]["oauth_token"] for session in sessions if "oauth_token" in session["data"]]


def stored_token(store: FileStore) -> dict[str, Any]:
    [token] = stored_tokens(store)
    return token


@pytest.fixture
def sign_in_with(make_browser: Callable[..., Browser], store: FileStore) -> Callable[..., dict[str, Any]]:
    """Sign in with this response of the token endpoint, and return the stored token."""

    def sign_in(body: str, content_type: str = "application/json") -> dict[str, Any]:
        with answering(body, headers={"Content-Type": content_type}) as server:
            make_browser(TOKEN_URL=f"{server.url}/token").sign_in()
        return stored_token(store)

    return sign_in


def timeout_for(fault: str) -> str:
    return "1" if OUTCOMES[fault] == SILENCE else "10"


def a_token(**members: Any) -> str:
    return json.dumps({"access_token": "given", "token_type": "Bearer", **members})


# Invalid responses


@pytest.mark.parametrize("fault", REFUSED)
def test_invalid_token_response_signs_no_user_in(
    fault: str, provider: LocalProvider, store: FileStore, make_browser: Callable[..., Browser]
) -> None:
    """S18 to S20, S24 to S26; RFC 6749 5.1, 5.2."""
    browser = make_browser()
    provider.faults.add(f"token.{fault}")
    callback = browser.callback_url()
    began = time.monotonic()
    answer = make_browser(UPSTREAM_TIMEOUT=timeout_for(fault)).share_cookies(browser).get(callback)
    assert time.monotonic() - began < 8
    assert answer.status_int == OUTCOMES[fault]
    assert stored_tokens(store) == []
    assert browser.profile().status_int == 401
    assert provider.count("profile") == 0

    # The page contains no part of the provider's response, its address or an exception.
    assert answer.content_type == "text/html"
    for leak in (
        MARKUP,
        "script",
        "Traceback",
        "Error",
        provider.url,
        str(provider.server.port),
        "Something is up here",
    ):
        assert leak not in answer.text

    # The state is used up (S3), and a code is never sent twice.
    assert browser.get(callback).status_int == 400
    assert provider.count("token") == 1

    browser.sign_in()
    assert browser.profile().json["login"] == "octocat"


@pytest.mark.parametrize("fault", ["invalid_grant", "error_200", "500", "redirect_307", "access_token_null", "hang_up"])
def test_second_sign_in_that_fails_does_not_change_the_first(
    fault: str, provider: LocalProvider, store: FileStore, browser: Browser
) -> None:
    browser.sign_in()
    before = stored_tokens(store)
    provider.faults.add(f"token.{fault}")
    assert browser.get(browser.callback_url()).status_int == OUTCOMES[fault]
    assert stored_tokens(store) == before
    assert browser.profile().json["login"] == "octocat"


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("invalid_grant", "code_refused"),
        ("error_200", "code_refused"),
        ("invalid_client", "client_refused"),
        ("invalid_client_401", "client_refused"),
        ("unauthorized_client", "client_refused"),
        ("500", "provider_error"),
        ("html_200", "provider_error"),
        ("hang_up", "provider_unreachable"),
        ("slow", "provider_timeout"),
    ],
)
def test_json_response_names_the_cause(
    fault: str, cause: str, provider: LocalProvider, make_browser: Callable[..., Browser]
) -> None:
    browser = make_browser(UPSTREAM_TIMEOUT=timeout_for(fault))
    provider.faults.add(f"token.{fault}")
    answer = browser.get(browser.callback_url(), headers=JSON)
    assert answer.status_int == OUTCOMES[fault]
    assert answer.json["error"] == cause
    assert answer.json["id"]


@pytest.mark.parametrize("fault", REDIRECTS)
def test_redirect_to_another_server_is_not_followed(fault: str, provider: LocalProvider, browser: Browser) -> None:
    """S23. With 307 and 308, code, verifier and client secret would be posted to that server."""
    with answering(a_token()) as elsewhere:
        provider.faults.redirect_to = f"{elsewhere.url}/token"
        provider.faults.add(f"token.{fault}")
        assert browser.get(browser.callback_url()).status_int == PROVIDERS_FAULT
        assert elsewhere.connections == 0


@pytest.mark.parametrize("fault", REDIRECTS)
def test_redirect_to_the_same_server_is_not_followed(fault: str, provider: LocalProvider, browser: Browser) -> None:
    provider.faults.redirect_to = provider.token_url
    provider.faults.add(f"token.{fault}")
    assert browser.get(browser.callback_url()).status_int == PROVIDERS_FAULT
    assert provider.count("token") == 1


def test_form_encoded_token_in_a_web_page_is_refused(make_browser: Callable[..., Browser]) -> None:
    """S19: oauthlib would accept this token."""
    page = "<html>?access_token=hidden&token_type=Bearer&x=</html>"
    with answering(page, headers={"Content-Type": "text/html"}) as server:
        browser = make_browser(TOKEN_URL=f"{server.url}/token")
        assert browser.get(browser.callback_url()).status_int == PROVIDERS_FAULT


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(a_token(scope="x" * 100_000), id="scope"),
        pytest.param(a_token(access_token="x" * 100_000), id="access_token"),
        pytest.param(a_token(refresh_token="x" * 100_000), id="refresh_token"),
        pytest.param(a_token(id_token="x" * 100_000), id="id_token"),
        pytest.param(a_token(access_token="x" * 60_000, refresh_token="y" * 65_536, id_token="z" * 65_536), id="all"),
        pytest.param(a_token(expires_in=True), id="true"),
        pytest.param(a_token(expires_in={}), id="object"),
        pytest.param(a_token(token_type=["Bearer"]), id="list"),
        pytest.param(a_token(scope="\ud800"), id="surrogate"),
        pytest.param(a_token(access_token="a b"), id="space"),
        pytest.param(a_token(access_token="a\n"), id="newline"),
        pytest.param(a_token(access_token="\ud800"), id="token-surrogate"),
        pytest.param(a_token(expires_in=1).replace(": 1}", ": 1e999}"), id="infinite"),
        pytest.param(a_token(expires_in=1).replace(": 1}", ": " + "9" * 5000 + "}"), id="5000-digits"),
        pytest.param(a_token().replace("}", "") + ', "x": ' + "[" * 900 + "]" * 900 + "}", id="deep"),
        pytest.param("null", id="null"),
        pytest.param('{"error": null}', id="error-null"),
        pytest.param('{"error": {"message": "no"}}', id="error-object"),
        pytest.param('{"error": "x\\r\\nSet-Cookie: a=b"}', id="error-lines"),
    ],
)
def test_unusual_token_is_usable_or_a_provider_error(body: str, make_browser: Callable[..., Browser]) -> None:
    """S20: no response of a provider is an internal error, and every stored token can be sent."""
    with answering(body) as server:
        browser = make_browser(TOKEN_URL=f"{server.url}/token")
        answer = browser.get(browser.callback_url())
        assert answer.status_int in {SIGNED_IN, PROVIDERS_FAULT}
        # The local provider rejects this token, but a request to it shows that the token could be sent.
        assert browser.profile().status_int == 401
        assert bool(browser.provider.count("profile")) is (answer.status_int == SIGNED_IN)


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"message": "success", "data": {"access_token": "given"}}, "the members 'data', 'message'"),
        ({"id_token": "a.b.c", "token_type": "Bearer"}, "the members 'id_token', 'token_type'"),
        ({"access_token": 12345}, "a JSON value of the type int"),
    ],
    ids=["nested", "only an ID token", "number"],
)
def test_response_without_an_access_token_is_described_in_the_log(
    document: dict[str, Any], found: str, make_browser: Callable[..., Browser], caplog: pytest.LogCaptureFixture
) -> None:
    with answering(json.dumps(document)) as server:
        browser = make_browser(TOKEN_URL=f"{server.url}/token")
        assert browser.get(browser.callback_url()).status_int == PROVIDERS_FAULT
    assert found in caplog.text


@pytest.mark.parametrize(("status", "setting"), [(401, "CLIENT_AUTH"), (404, "TOKEN_URL"), (405, "TOKEN_URL")])
def test_status_without_an_error_code_names_the_setting_that_helps(
    status: int, setting: str, make_browser: Callable[..., Browser], caplog: pytest.LogCaptureFixture
) -> None:
    with answering("<title>Sorry</title>", status) as server:
        browser = make_browser(TOKEN_URL=f"{server.url}/token")
        browser.get(browser.callback_url())
    assert f"WSGI_OAUTH_{setting}" in caplog.text


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (429, "<h1>Too many requests</h1>", (429, "provider_rate_limit")),
        (429, '{"error": "temporarily_unavailable"}', (503, "provider_temporarily_unavailable")),
        (503, "<h1>Maintenance</h1>", (502, "provider_error")),
    ],
)
def test_retry_after_is_passed_on(
    status: int, body: str, outcome: tuple[int, str], make_browser: Callable[..., Browser]
) -> None:
    """S28."""
    with answering(body, status, {"Retry-After": "77"}) as server:
        browser = make_browser(TOKEN_URL=f"{server.url}/token")
        answer = browser.get(browser.callback_url(), headers=JSON)
    assert (answer.status_int, answer.json["error"]) == outcome
    assert answer.headers["Retry-After"] == "77"


def test_error_with_a_description_in_another_encoding_is_understood(make_browser: Callable[..., Browser]) -> None:
    body = '{"error": "invalid_grant", "error_description": "Code ung\xfcltig"}'.encode("latin-1")
    with answering(body, 400) as server:
        browser = make_browser(TOKEN_URL=f"{server.url}/token")
        assert browser.get(browser.callback_url()).status_int == CODE_REFUSED


# Valid responses


@pytest.mark.parametrize(
    ("name", "outcome"), [("name", SIGNED_IN), ("access_token", PROVIDERS_FAULT), ("refresh_token", PROVIDERS_FAULT)]
)
def test_other_encoding_of_a_text_matters_only_in_a_token(
    name: str, outcome: int, make_browser: Callable[..., Browser]
) -> None:
    """ORCID has sent the name of the user in Latin-1."""
    body = json.dumps({**json.loads(a_token()), name: "Jos\xe9"}, ensure_ascii=False).encode("latin-1")
    with answering(body) as server:
        browser = make_browser(TOKEN_URL=f"{server.url}/token")
        assert browser.get(browser.callback_url()).status_int == outcome


@pytest.mark.parametrize("fault", ACCEPTED)
def test_unusual_but_valid_token_signs_the_user_in(fault: str, provider: LocalProvider, browser: Browser) -> None:
    provider.faults.add(f"token.{fault}")
    browser.sign_in()
    assert browser.profile().json["login"] == "octocat"
    assert provider.count("refresh") == 0
    assert provider.count("profile") == 1
    assert provider.exchanges[-1].headers["Authorization"].startswith("Bearer ")


@pytest.mark.parametrize(
    ("fault", "granted"),
    [
        ("scope_commas", "email profile"),
        ("scope_smaller", "profile"),
        ("scope_other", "something:else"),
        ("scope_missing", "email profile"),
    ],
)
def test_granted_scope_is_stored_as_a_sorted_set(
    fault: str, granted: str, provider: LocalProvider, store: FileStore, browser: Browser
) -> None:
    """S22; RFC 6749 3.3, 5.1: separated by spaces or, at GitHub, by commas. Without a scope: as requested."""
    before = dict(os.environ)
    provider.faults.add(f"token.{fault}")
    browser.sign_in()
    assert stored_token(store)["scope"] == granted
    assert dict(os.environ) == before  # oauthlib would need one to accept another scope


@pytest.mark.parametrize(
    ("members", "stored", "warning"),
    [
        ({"token_type": None}, {"token_type": "Bearer"}, "token_type should be bearer (got None)"),
        ({"token_type": "User Access Token"}, {"token_type": "Bearer"}, "(got 'User Access Token')"),
        ({"token_type": ["Bearer"]}, {"token_type": "Bearer"}, "(got ['Bearer'])"),
        ({"scope": ["profile", "email"]}, {"scope": "email profile"}, ""),
        ({"scope": ["email profile"]}, {"scope": "email profile"}, ""),
        ({"scope": None}, {"scope": "email profile"}, ""),
        ({"scope": ""}, {"scope": ""}, ""),
        ({"scope": {"a": 1}}, {"scope": "email profile"}, "scope must be scopes separated by spaces (got {'a': 1})"),
        ({"scope": "profilé email"}, {"scope": "email"}, r"(got 'profil\xe9 email')"),
        ({"expires_in": "3600.0"}, {"expires_in": 3600.0}, ""),
        ({"expires_in": 3599.5}, {"expires_in": 3599.5}, ""),
        ({"expires": 3600}, {"expires_in": 3600}, ""),  # Facebook, before version 2.3 of its API
        ({"expires_in": 60, "expires": 3600}, {"expires_in": 60}, ""),
        ({"expires_in": "0"}, {"expires_in": None}, ""),
        ({"expires_in": -1}, {"expires_in": None}, ""),
        pytest.param({"expires_in": -(10**400)}, {"expires_in": None}, "", id="expires_in of 401 digits"),
        ({"expires_in": "soon"}, {"expires_in": None}, "expires_in must be a number of seconds (got 'soon')"),
        ({"expires_in": "1e5"}, {"expires_in": None}, "(got '1e5')"),
        ({"expires_in": True}, {"expires_in": None}, "(got True)"),
        ({"expires_in": [3600]}, {"expires_in": None}, "(got [3600])"),
        ({"refresh_token": "a b"}, {"refresh_token": "a b"}, ""),
        ({"refresh_token": False}, {"refresh_token": None}, ""),
        ({"id_token": 5}, {"id_token": None}, "an ID token that was not requested is ignored"),
        ({"id_token": "no JWT"}, {"id_token": None}, "an ID token that was not requested is ignored"),
        ({"error": None}, {"token_type": "Bearer"}, ""),
    ],
    ids=str,
)
def test_unusual_metadata_of_a_token_is_normalized_with_a_warning_if_something_is_lost(
    members: dict[str, Any],
    stored: dict[str, Any],
    warning: str,
    sign_in_with: Callable[..., dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S20 to S22."""
    token = sign_in_with(a_token(**members))
    assert {name: token.get(name) for name in stored} == stored
    assert ("expires_at" in token) is ("expires_in" in token)
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len(warnings) == bool(warning)
    assert warning in "".join(warnings)


FORM = "access_token=given&token_type=bearer&scope=profile,email&expires_in=3600&refresh_token=a+b"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", FORM),
        ("Application/X-WWW-Form-Urlencoded; charset=utf-8", f"{FORM}\n"),
        (
            "application/x-www-form-urlencoded",
            a_token(scope=["email", "profile"], expires_in=3600, refresh_token="a b"),
        ),
    ],
)
def test_form_encoded_token_is_accepted_with_its_content_type(
    content_type: str, body: str, sign_in_with: Callable[..., dict[str, Any]]
) -> None:
    """S19."""
    token = sign_in_with(body, content_type)
    assert (token["access_token"], token["scope"], token["refresh_token"]) == ("given", "email profile", "a b")
    assert token["expires_in"] == 3600


@pytest.mark.parametrize(
    "body",
    ["", "access_token", "access_token=", "access_token=a%0D%0Ab", "access_token=%FF", f"{FORM}&access_token=other"],
)
def test_malformed_form_is_refused(body: str, make_browser: Callable[..., Browser]) -> None:
    with answering(body, headers={"Content-Type": "application/x-www-form-urlencoded"}) as server:
        browser = make_browser(TOKEN_URL=f"{server.url}/token")
        assert browser.get(browser.callback_url()).status_int == PROVIDERS_FAULT


def test_form_encoded_error_is_understood(make_browser: Callable[..., Browser]) -> None:
    """GitHub sends such errors, with status 200, to clients that do not ask for JSON."""
    body = "error=bad_verification_code&error_description=The+code+passed+is+incorrect+or+expired."
    with answering(body, headers={"Content-Type": "application/x-www-form-urlencoded"}) as server:
        browser = make_browser(TOKEN_URL=f"{server.url}/token")
        assert browser.get(browser.callback_url()).status_int == CODE_REFUSED


@pytest.mark.parametrize("fault", ["expires_at", "expires_in_string", None])
def test_expiry_is_computed_from_expires_in(
    fault: str | None, provider: LocalProvider, store: FileStore, browser: Browser
) -> None:
    """S21: oauthlib would use an expires_at of the provider, which is not a standard member."""
    if fault:
        provider.faults.add(f"token.{fault}")
    browser.sign_in()
    assert abs(stored_token(store)["expires_at"] - (time.time() + 3600)) < 60


def test_huge_lifetime_is_limited(provider: LocalProvider, store: FileStore, browser: Browser) -> None:
    provider.faults.add("token.expires_in_huge")
    browser.sign_in()
    assert time.time() < stored_token(store)["expires_at"] < time.time() + 100 * 365 * 86400


def test_code_and_verifier_are_sent_in_the_body(provider: LocalProvider, browser: Browser) -> None:
    callback = browser.callback_url()
    browser.get(callback)
    [exchange] = [exchange for exchange in provider.exchanges if exchange.endpoint == "token"]
    assert exchange.url == provider.token_url
    assert exchange.method == "POST"
    form = parse_qs(exchange.body, strict_parsing=True)
    assert form["grant_type"] == ["authorization_code"]
    assert form["code"] == [parameters(callback)["code"]]
    assert len(form["code_verifier"][0]) >= 43


# The redirect URI


@pytest.mark.parametrize(
    ("public_url", "at_start", "at_callback"),
    [
        (None, {}, {}),
        (None, {"Host": "127.0.0.1:9000"}, {"Host": "localhost:9000"}),
        (None, {"Host": "[::1]:80"}, {"Host": "LOCALHOST"}),
        (None, {"X-Forwarded-Host": "evil.example"}, {"X-Forwarded-Host": "other.example"}),
        (None, {"X-Forwarded-Proto": "https", "X-Forwarded-Port": "1"}, {}),
        (None, {"Forwarded": "host=evil.example;proto=https"}, {"X-Forwarded-Prefix": "/evil"}),
        (None, {"X-Script-Name": "/evil"}, {"X-Original-URL": "/evil"}),
        (None, {"X-Original-Host": "evil.example", "X-Host": "evil.example"}, {"X-Rewrite-Url": "/evil"}),
        (None, {"Host": "localhost."}, {"Host": "localhost:80"}),
        ("http://localhost", {"Host": "localhost:1"}, {"Host": "localhost:2"}),
        ("http://localhost/", {}, {"X-Forwarded-Prefix": "/evil"}),
        ("http://localhost/under/a/prefix//", {}, {}),
        ("http://localhost/sp%20ace", {}, {}),
        ("https://localhost:8443", {}, {}),
    ],
)
def test_redirect_uri_is_identical_in_both_requests(
    public_url: str | None,
    at_start: dict[str, str],
    at_callback: dict[str, str],
    provider: LocalProvider,
    make_browser: Callable[..., Browser],
) -> None:
    """S11; RFC 6749 4.1.3: the provider compares them character by character."""
    browser = make_browser(**({"PUBLIC_URL": public_url} if public_url else {}))
    begun = browser.get("/", headers=at_start)
    authorization_url = begun.location
    callback = browser.consent(authorization_url)
    cookie = {"Cookie": begun.headers["Set-Cookie"].partition(";")[0]}  # a browser would send it to the same host only
    answer = browser.get("/callback?" + callback.partition("?")[2], headers={**at_callback, **cookie})
    assert answer.status_int == SIGNED_IN
    first = parameters(authorization_url)["redirect_uri"]
    [exchange] = [exchange for exchange in provider.exchanges if exchange.endpoint == "token"]
    assert parse_qs(exchange.body)["redirect_uri"] == [first]
    assert "evil" not in first
    if public_url:
        assert first == public_url.rstrip("/") + "/callback"


def test_redirect_uri_is_below_the_public_url(store: FileStore) -> None:
    registered = "https://app.example/sign-in/callback"
    provider = LocalProvider(redirect_uris=[registered])
    with serve_provider(provider):
        app = create_app(
            Config.from_environ(environ_for(provider, PUBLIC_URL="https://app.example/sign-in")), store=store
        )
        browser = Browser(app, provider, base="https://app.example")
        authorization_url = browser.start()
        assert parameters(authorization_url)["redirect_uri"] == registered
        callback = browser.consent(authorization_url)
        assert callback.startswith(f"{registered}?")
        assert browser.get(callback.replace("/sign-in", "", 1)).status_int == SIGNED_IN


# How the client authenticates (RFC 6749 2.3.1)

CREDENTIALS = [
    pytest.param("client", "secret", id="plain"),
    pytest.param("client%20id", "50%25+%zz", id="percent"),
    pytest.param("a+b", "c+d", id="plus"),
    pytest.param("id:with:colons", "se:cr:et", id="colon"),
    pytest.param("https://app.example/id", "AbC/dEf==", id="slash"),
    pytest.param("my client", "my secret", id="space"),
    pytest.param("client", "pässwörd", id="latin-1"),
    pytest.param("client", "пароль-秘密-€", id="beyond-latin-1"),
    pytest.param("a&b=c", "d&e=f;g?#", id="form-characters"),
    pytest.param("~._-", "~._-*!'()", id="unreserved"),
]


@contextmanager
def registered(client_id: str, secret: str | None, method: str, store: FileStore) -> Iterator[tuple[Browser, Server]]:
    """Give a browser for an application with these credentials, and the server at its token endpoint."""
    provider = LocalProvider(client_id=client_id, client_secret=secret)
    with serve_provider(provider), answering(a_token()) as server:
        environ = environ_for(provider, TOKEN_URL=f"{server.url}/token", CLIENT_AUTH=method)
        yield Browser(create_app(Config.from_environ(environ), store=store), provider), server


def token_request(
    client_id: str, secret: str | None, method: str, store: FileStore
) -> tuple[dict[str, str], str | None]:
    """Sign in; return the form and the Authorization header of the token request."""
    with registered(client_id, secret, method, store) as (browser, server):
        browser.sign_in()
    [request] = server.requests
    assert request.headers["Content-Type"].partition(";")[0] == "application/x-www-form-urlencoded"
    assert not request.query_string
    form = parse_qs(request.get_data(as_text=True), keep_blank_values=True, strict_parsing=True)
    assert all(len(values) == 1 for values in form.values())
    return {name: values[0] for name, values in form.items()}, request.headers.get("Authorization")


def basic_credentials(header: str | None) -> bytes:
    scheme, _, encoded = (header or "").partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(encoded, validate=True)


@pytest.mark.parametrize(("client_id", "secret"), CREDENTIALS)
def test_basic_form_encodes_id_and_secret(client_id: str, secret: str, store: FileStore) -> None:
    """Therefore the colon between them is the only one, and everything is ASCII."""
    form, authorization = token_request(client_id, secret, "basic", store)
    sent = basic_credentials(authorization).decode("ascii")
    assert [unquote_plus(part) for part in sent.split(":")] == [client_id, secret]
    assert form.keys().isdisjoint({"client_id", "client_secret"})  # RFC 6749 2.3: one method for each request


@pytest.mark.parametrize(("client_id", "secret"), [case for case in CREDENTIALS if ":" not in case.values[0]])
def test_basic_raw_does_not_encode_id_and_secret(client_id: str, secret: str, store: FileStore) -> None:
    """For servers that do not decode them; RFC 7617 2.1 allows UTF-8."""
    form, authorization = token_request(client_id, secret, "basic-raw", store)
    assert basic_credentials(authorization) == f"{client_id}:{secret}".encode()
    assert form.keys().isdisjoint({"client_id", "client_secret"})


@pytest.mark.parametrize(("client_id", "secret"), CREDENTIALS)
def test_post_sends_id_and_secret_in_the_form(client_id: str, secret: str, store: FileStore) -> None:
    form, authorization = token_request(client_id, secret, "post", store)
    assert (form["client_id"], form["client_secret"]) == (client_id, secret)
    assert authorization is None


@pytest.mark.parametrize("client_id", sorted({case.values[0] for case in CREDENTIALS}))
def test_public_client_sends_its_id_without_a_secret(client_id: str, store: FileStore) -> None:
    form, authorization = token_request(client_id, None, "none", store)
    assert form["client_id"] == client_id
    assert "client_secret" not in form
    assert authorization is None


@pytest.mark.parametrize(
    ("method", "client_id", "secret"),
    [
        *((method, *case.values) for method in ("basic", "post") for case in CREDENTIALS),
        ("none", "demo-client", None),
    ],
)
def test_local_provider_accepts_the_credentials(
    method: str, client_id: str, secret: str | None, store: FileStore
) -> None:
    provider = LocalProvider(client_id=client_id, client_secret=secret)
    with serve_provider(provider):
        config = Config.from_environ(environ_for(provider, CLIENT_AUTH=method))
        browser = Browser(create_app(config, store=store), provider)
        browser.sign_in()
        assert browser.profile().json["login"] == "octocat"


def test_basic_is_the_default(provider: LocalProvider, browser: Browser) -> None:
    browser.sign_in()
    [exchange] = [exchange for exchange in provider.exchanges if exchange.endpoint == "token"]
    assert basic_credentials(exchange.headers["Authorization"]) == b"demo-client:demo-secret"


def test_wrong_secret_is_logged_with_the_settings_to_check(
    provider: LocalProvider, make_browser: Callable[..., Browser], caplog: pytest.LogCaptureFixture
) -> None:
    browser = make_browser(CLIENT_SECRET="wrong-canary")
    answer = browser.get(browser.callback_url(), headers=JSON)
    assert (answer.status_int, answer.json["error"]) == (PROVIDERS_FAULT, "client_refused")
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "WSGI_OAUTH_CLIENT_AUTH" in record.getMessage()
    assert answer.json["id"] in record.getMessage()
    assert "wrong-canary" not in caplog.text
