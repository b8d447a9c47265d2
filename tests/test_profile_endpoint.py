"""The user document: the outcome of each response of the provider, rejected tokens, and where the token is sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import webtest
from conftest import JSON, Browser, environ_for, parameters
from fixed_server import answering
from werkzeug import Request, Response

from wsgi_oauth import Config, FileStore, Provider, RequestHandler, create_app
from wsgi_oauth.config.provider import UserDocument
from wsgi_oauth.demo.faults import PROFILE_FAULTS
from wsgi_oauth.demo.local_provider import OCTOCAT, LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.oauth.token import NEW_FOR

SHOWN = 200
SIGN_IN_AGAIN = 401
PROVIDERS_FAULT = 502
SILENCE = 504

# The status of /profile for each fault of the profile endpoint.
OUTCOMES = {
    **dict.fromkeys(PROFILE_FAULTS, PROVIDERS_FAULT),
    "400": PROVIDERS_FAULT,  # for a new token; see below
    "401": SIGN_IN_AGAIN,
    "empty_401": SIGN_IN_AGAIN,
    "403": PROVIDERS_FAULT,  # for the same reason as 400
    "429": 429,
    "slow": SILENCE,
    "dribble_headers": SILENCE,
    "dribble_body": SILENCE,
    "hang_up": SHOWN,  # a GET is repeated once
    "reset": SHOWN,
    "close": SHOWN,
}
REDIRECTS = [f"redirect_{status}" for status in (301, 302, 303, 307, 308)]


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """These tests read the stored session from the folder. They do not depend on the kind of store."""
    return FileStore(tmp_path / "sessions")


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    """A provider without refresh tokens, like GitHub's OAuth apps; see test_refresh.py for refresh tokens."""
    provider = LocalProvider(refresh_tokens=False)
    with serve_provider(provider):
        yield provider


def sessions(store: FileStore) -> list[str]:
    return [path.read_text() for path in Path(store.folder).glob("*.json")]


class TooManyRedirects(AssertionError):
    pass


def follow(browser: Browser, response: webtest.TestResponse, *, at_most: int = 20) -> webtest.TestResponse:
    """Follow redirects as a browser does, with consent at the provider, until there is a page."""
    for _ in range(at_most):
        if response.status_int not in {302, 303}:
            return response
        location = response.location
        if location.startswith(browser.provider.authorization_url):
            location = browser.consent(location)
        response = browser.get(location)
    raise TooManyRedirects


# Faults


@pytest.mark.parametrize("fault", sorted(OUTCOMES))
def test_fault_is_reported_and_ends_the_session_only_if_the_token_is_rejected(
    fault: str, provider: LocalProvider, make_browser: Callable[..., Browser]
) -> None:
    """S23 to S26, S28."""
    browser = make_browser()
    browser.sign_in()
    impatient = make_browser(UPSTREAM_TIMEOUT="1" if OUTCOMES[fault] == SILENCE else "10").share_cookies(browser)
    cookie = browser.cookie
    provider.faults.add(f"profile.{fault}")
    began = time.monotonic()
    answer = impatient.profile()
    assert time.monotonic() - began < 8
    assert answer.status_int == OUTCOMES[fault]
    assert answer.content_type == "application/json"
    if answer.status_int == SHOWN:
        assert answer.json == dict(OCTOCAT)
    else:
        assert answer.json["error"]
        assert answer.json["id"]
        for leak in (provider.url, str(provider.server.port), "Traceback", "Something is up here", "elsewhere"):
            assert leak not in answer.text

    later = browser.profile()
    if OUTCOMES[fault] == SIGN_IN_AGAIN:
        assert browser.cookie is None
        assert (later.status_int, later.json["error"]) == (401, "not_signed_in")
    else:
        assert browser.cookie == cookie
        assert later.json == dict(OCTOCAT)


@pytest.mark.parametrize("fault", ["500", "403", "429", "html_200", "hang_up_in_headers"])
def test_browser_gets_a_page_about_the_fault(fault: str, provider: LocalProvider, browser: Browser) -> None:
    browser.sign_in()
    provider.faults.add(f"profile.{fault}")
    answer = browser.get("/profile")
    assert answer.status_int == OUTCOMES[fault]
    assert answer.content_type == "text/html"
    assert "Location" not in answer.headers


@pytest.mark.parametrize("document", ['{"id": 1e999}', '{"id": -1e999, "login": "octocat"}'])
def test_document_with_an_infinite_number_is_a_provider_error(
    document: str, make_browser: Callable[..., Browser]
) -> None:
    with answering(document) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        assert browser.profile().status_int == PROVIDERS_FAULT


@pytest.mark.parametrize("depth", [10, 100, 300, 600, 800, 900, 930, 960, 990, 2000])
def test_deep_document_is_shown_or_a_provider_error(depth: int, make_browser: Callable[..., Browser]) -> None:
    """S20: Python reads deeper documents than it can write."""
    with answering('{"id": 1, "deep": ' + "[" * depth + "]" * depth + "}") as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        for accept in ("application/json", "text/html"):
            page = browser.get("/profile", headers={"Accept": accept}, expect_errors=True)
            assert page.status_int in ({SHOWN} if depth <= 10 else {SHOWN, PROVIDERS_FAULT})


@pytest.mark.parametrize("status", [203, 204, 205, 300, 304, 305])
def test_document_needs_a_2xx_status(status: int, make_browser: Callable[..., Browser]) -> None:
    with answering("" if status in {204, 205, 304} else '{"login": "octocat"}', status) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        assert browser.profile().status_int == (SHOWN if status == 203 else PROVIDERS_FAULT)


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (301, {"Location": "/user/?token=canary"}, "redirects to '/user/', which is not followed"),
        (404, {}, "404"),
        (400, {}, "400"),
        (405, {}, "405"),
        (204, {}, "not JSON"),
    ],
)
def test_answer_without_a_document_names_the_setting_in_the_log(
    status: int,
    headers: dict[str, str],
    words: str,
    make_browser: Callable[..., Browser],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with answering("", status, headers) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        assert browser.profile().json["error"] == "provider_error"
    [line] = [line for line in caplog.text.splitlines() if "user document" in line]
    assert words in line
    assert "WSGI_OAUTH_PROFILE_URL" in line
    assert "canary" not in line


def test_blocked_account_is_named_in_the_log_of_its_sign_in(
    make_browser: Callable[..., Browser], caplog: pytest.LogCaptureFixture
) -> None:
    with answering('{"message": "Your account has been blocked."}', 403) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user", ALLOW="id:583231")
        assert browser.get(browser.callback_url()).status_int == PROVIDERS_FAULT
    assert "blocked or deleted" in caplog.text
    assert "; restore the account at the provider" in caplog.text
    assert "WSGI_OAUTH_PROFILE_URL" not in caplog.text


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"user_id": 5, "name": "Mona"}, "an object with the members 'name', 'user_id'"),
        ({"id": 5.5}, "a JSON value of the type float"),
        ({"id": "\u0436"}, "a text of 1 characters"),
    ],
    ids=["other member", "fraction", "Cyrillic"],
)
def test_document_without_a_usable_id_is_described_in_the_log(
    document: dict[str, object],
    found: str,
    make_browser: Callable[..., Browser],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with answering(json.dumps(document)) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        browser.profile()
    assert f"got {found}); set WSGI_OAUTH_SUBJECT_CLAIM" in caplog.text


# 403 and 429: rate limits


def test_retry_after_of_the_provider_is_passed_on(provider: LocalProvider, browser: Browser) -> None:
    browser.sign_in()
    provider.faults.add("profile.429")
    answer = browser.profile()
    assert (answer.status_int, answer.headers["Retry-After"]) == (429, "7")
    assert answer.json["error"] == "provider_rate_limit"


@pytest.mark.parametrize(
    ("retry_after", "passed_on"),
    [
        ("120", "120"),
        ("Wed, 21 Oct 2065 07:28:00 GMT", "Wed, 21 Oct 2065 07:28:00 GMT"),
        ("soon", None),
        ("-1", None),
        ("", None),
        ("9" * 40, None),
        ('120"><script>', None),
        (None, None),
    ],
)
def test_invalid_retry_after_is_not_passed_on(
    retry_after: str | None, passed_on: str | None, make_browser: Callable[..., Browser]
) -> None:
    """RFC 9110 10.2.3: seconds or a date."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    with answering("{}", 429, headers) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        answer = browser.profile()
        assert (answer.status_int, answer.headers.get("Retry-After")) == (429, passed_on)


@pytest.mark.parametrize(
    ("remaining", "pause"), [("0", None), ("14", "60")], ids=["the primary limit", "a secondary limit"]
)
def test_403_of_github_can_be_a_rate_limit(
    remaining: str, pause: str | None, make_browser: Callable[..., Browser]
) -> None:
    """The primary limit has no remaining requests, the secondary limit a Retry-After."""
    headers = {"X-RateLimit-Remaining": remaining, **({"Retry-After": pause} if pause else {})}
    with answering("{}", 403, headers) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        answer = browser.profile()
        assert (answer.status_int, answer.headers.get("Retry-After")) == (429, pause)


@pytest.mark.parametrize(
    ("status", "challenge", "outcome"),
    [
        (401, None, SIGN_IN_AGAIN),
        (401, "Basic", SIGN_IN_AGAIN),
        (401, 'Bearer error="invalid_token"', SIGN_IN_AGAIN),
        (400, 'Bearer error="invalid_token"', SIGN_IN_AGAIN),
        (403, 'Bearer error="invalid_token"', SIGN_IN_AGAIN),
        (400, None, PROVIDERS_FAULT),
        (400, 'Bearer error="invalid_request"', PROVIDERS_FAULT),
        (403, 'Bearer error="insufficient_scope"', 403),
        (403, None, PROVIDERS_FAULT),
        (404, None, PROVIDERS_FAULT),
        (418, None, PROVIDERS_FAULT),
    ],
)
def test_status_and_challenge_say_whether_the_token_is_rejected(
    status: int, challenge: str | None, outcome: int, make_browser: Callable[..., Browser]
) -> None:
    """RFC 6750 3.1, and providers that use another status."""
    with answering("", status, {"WWW-Authenticate": challenge} if challenge else {}) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        assert browser.profile().status_int == outcome


PROBLEM = '{"type": "https://example.com/problems/7", "title": "Forbidden", "status": 403}'  # RFC 9457
NO_REASON = [
    "",
    "Forbidden by policy",
    "Forbidden",
    PROBLEM,
    "[]",
    '{"message": "Forbidden"}',
    '{"error": "invalid_token"',
]


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("body", [*NO_REASON, '{"error": "unknown"}', '{"error": {"code": 7}}'])
def test_refusal_without_a_known_reason_means_that_an_old_token_has_ended(
    status: int, body: str, make_browser: Callable[..., Browser], later: Callable[[float], None]
) -> None:
    """A request for the user document has no parameters, so mostly nothing but the token can be wrong with it."""
    with answering(body, status) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        later(NEW_FOR + 1)
        assert browser.profile().status_int == SIGN_IN_AGAIN


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("body", NO_REASON)
def test_refusal_without_a_reason_for_a_new_token_is_a_provider_fault(
    status: int, body: str, make_browser: Callable[..., Browser], store: FileStore
) -> None:
    """A token that was issued less than a minute ago cannot have ended yet; the session stays."""
    with answering(body, status) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        assert browser.profile().status_int == PROVIDERS_FAULT
        assert stored_access_token(store)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, '{"error": "invalid_token"}'),
        (403, '{"error": {"code": "invalid_token"}}'),
        (403, "Bad_OAuth_Token"),  # Salesforce
        (400, '{"error_id": 403, "error_name": "invalid_access_token"}'),  # Stack Exchange
        (403, '[{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]'),
        (200, '{"ok": false, "error": "token_expired"}'),  # Slack
        (200, '{"ok": false}'),
        (200, '{"error": {"error_code": 5, "error_msg": "User authorization failed"}}'),  # VK
        (200, '{"errcode": 40001, "errmsg": "invalid credential"}'),  # WeChat
        (200, '{"errors": [{"code": 89, "message": "Invalid or expired token."}]}'),  # Twitter
    ],
)
def test_error_in_the_body_says_that_a_new_token_has_ended(
    status: int, body: str, make_browser: Callable[..., Browser]
) -> None:
    with answering(body, status) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        assert browser.profile().status_int == SIGN_IN_AGAIN


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, '{"error": "insufficient_scope"}', PROVIDERS_FAULT),
        (403, '{"error": "insufficient_scope"}', 403),
        (200, '{"ok": false, "error": "missing_scope"}', 403),
        (200, '{"ok": false, "error": "ratelimited"}', 429),
        (200, '{"error": "temporarily_unavailable"}', PROVIDERS_FAULT),
    ],
)
def test_error_with_another_reason_ends_no_session(
    status: int, body: str, outcome: int, make_browser: Callable[..., Browser], later: Callable[[float], None]
) -> None:
    with answering(body, status) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        later(NEW_FOR + 1)
        assert browser.profile().status_int == outcome
        assert browser.cookie


@pytest.mark.parametrize(
    "document",
    [
        {"id": 1, "error": "a member of that name"},
        {"id": 1, "errors": ["partial"]},
        {"login": "octocat", "error": None, "errors": [], "code": 0},
        {"code": 200, "msg": "OK", "data": {"uid": 1}},  # openidconnect-rs#100
        {"code": "0000", "message": "Success", "data": {"uid": 1}},
    ],
)
def test_document_that_names_the_user_is_no_error(
    document: dict[str, object], make_browser: Callable[..., Browser]
) -> None:
    with answering(json.dumps(document)) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        assert browser.profile().json == document


@pytest.mark.parametrize(
    ("code", "outcome"), [(190, SIGN_IN_AGAIN), (4, PROVIDERS_FAULT), (10, PROVIDERS_FAULT)], ids=str
)
def test_known_codes_of_a_provider_are_the_only_ones_that_end_a_session(
    code: int, outcome: int, provider: LocalProvider, store: FileStore, later: Callable[[float], None]
) -> None:
    """As at Facebook: 190 is an invalid token, 4 a rate limit, 10 a missing permission."""
    variables = environ_for(provider)
    description = Provider(
        name="graph",
        title="Graph",
        authorization_url=provider.authorization_url,
        token_url=provider.token_url,
        profile_url=provider.profile_url,
        user=UserDocument(subject="id"),
        ended_token_codes=("102", "190"),
    )
    body = json.dumps({"error": {"message": "No", "type": "OAuthException", "code": code}})
    provider.routes["/user"] = ("profile", {"GET": lambda _: Response(body, 400)})
    config = Config(
        client_id=variables["WSGI_OAUTH_CLIENT_ID"],
        client_secret=variables["WSGI_OAUTH_CLIENT_SECRET"],
        provider=description,
        session_store="memory:",
    )
    browser = Browser(create_app(config, store=store), provider)
    browser.sign_in()
    later(NEW_FOR + 1)
    assert browser.profile().status_int == outcome


# Broken text


LATIN_1 = '{"id": 1, "login": "josé", "name": "José", "team": "Équipe", "groups": ["a", "é"], "bio\u00e9": "x"}'.encode(
    "latin-1"
)


def test_document_in_latin_1_is_shown_without_broken_texts(
    make_browser: Callable[..., Browser], caplog: pytest.LogCaptureFixture
) -> None:
    """ORCID has sent such documents. A replaced text could equal that of a rule."""
    with answering(LATIN_1) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        assert browser.profile().json == {"id": 1, "login": None, "name": None, "team": None, "groups": ["a", None]}
    assert "user document: invalid UTF-8" in caplog.text


@pytest.mark.parametrize("content_type", ["text/html", "text/plain; charset=latin-1", "application/octet-stream", ""])
def test_document_with_another_content_type_or_a_byte_order_mark_is_read(
    content_type: str, make_browser: Callable[..., Browser]
) -> None:
    with answering(b'\xef\xbb\xbf{"id": 1, "login": "jos\xc3\xa9"}', headers={"Content-Type": content_type}) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        assert browser.profile().json["login"] == "josé"


# Rejected tokens


@pytest.mark.parametrize("fault", ["401", "empty_401"])
def test_browser_signs_in_again_and_returns_to_the_page(
    fault: str, provider: LocalProvider, store: FileStore, browser: Browser
) -> None:
    """S28."""
    browser.sign_in()
    old_cookie = browser.cookie
    provider.faults.add(f"profile.{fault}")
    answer = browser.get("/profile?tab=2")
    assert answer.status_int == 302
    assert parameters(answer.location)["next"] == "/profile?tab=2"
    assert not any("oauth_token" in session for session in sessions(store))
    page = follow(browser, answer)
    assert "octocat" in page.text
    assert page.request.path_qs == "/profile?tab=2"
    assert browser.cookie != old_cookie
    assert provider.count("token") == 2


@pytest.mark.parametrize("fault", ["401", "empty_401"])
def test_program_gets_a_401_with_the_url_of_the_sign_in(
    fault: str, provider: LocalProvider, store: FileStore, browser: Browser
) -> None:
    browser.sign_in()
    provider.faults.add(f"profile.{fault}")
    answer = browser.profile()
    assert answer.status_int == 401
    assert answer.json["error"] == "token_rejected"
    assert answer.json["login_url"] == "http://localhost/"
    assert "Location" not in answer.headers
    assert sessions(store) == []


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Mode": "cors"}, {"X-Requested-With": "XMLHttpRequest"}])
def test_script_is_not_redirected_to_the_sign_in(
    headers: dict[str, str], provider: LocalProvider, browser: Browser
) -> None:
    browser.sign_in()
    provider.faults.add("profile.401")
    assert browser.get("/profile", headers=headers).status_int == 401


def test_redirect_loop_ends_if_the_provider_rejects_every_token(provider: LocalProvider, browser: Browser) -> None:
    browser.sign_in()
    provider.faults.add("profile.401", times=None)
    page = follow(browser, browser.get("/profile"))
    assert page.status_int == PROVIDERS_FAULT
    assert page.content_type == "text/html"
    assert provider.count("token") <= 3


def test_redirect_loop_ends_if_the_provider_answers_every_token_with_an_error_object(
    make_browser: Callable[..., Browser],
) -> None:
    with answering('{"error": {"error_code": 5}}') as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        page = follow(browser, browser.get("/profile"))
        assert page.status_int == PROVIDERS_FAULT
        assert browser.provider.count("token") <= 3


def test_sign_in_works_after_a_redirect_loop(provider: LocalProvider, browser: Browser) -> None:
    provider.faults.add("profile.401", times=None)
    assert follow(browser, browser.get("/profile")).status_int == PROVIDERS_FAULT
    provider.faults.clear()
    assert "octocat" in follow(browser, browser.get("/profile")).text


def test_rejections_with_a_success_in_between_are_no_redirect_loop(provider: LocalProvider, browser: Browser) -> None:
    browser.sign_in()
    for _ in range(3):
        provider.faults.add("profile.401")
        assert "octocat" in follow(browser, browser.get("/profile")).text


def test_cookie_of_an_ended_session_is_invalid(provider: LocalProvider, browser: Browser) -> None:
    browser.sign_in()
    cookie = browser.cookie
    provider.faults.add("profile.401")
    browser.profile()
    browser.app.set_cookie("wsgi_oauth", cookie)
    assert browser.profile().status_int == 401
    assert provider.count("profile") == 1


# Expired tokens


def test_expired_token_is_not_sent(provider: LocalProvider, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """S21."""
    browser.sign_in()
    assert browser.profile().status_int == SHOWN
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    answer = browser.profile()
    assert (answer.status_int, answer.json["error"]) == (401, "token_rejected")
    assert provider.count("profile") == 1


def test_token_is_used_until_shortly_before_it_expires(
    provider: LocalProvider, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.sign_in()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3540)
    assert browser.profile().status_int == SHOWN


@pytest.mark.parametrize("fault", ["missing", "zero", "negative", "word"])
def test_token_with_an_unknown_lifetime_is_used_until_it_is_rejected(
    fault: str, provider: LocalProvider, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S21."""
    provider.faults.add(f"token.expires_in_{fault}")
    browser.sign_in()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 11 * 3600)
    browser.profile()
    assert provider.count("profile") == 1  # the provider decides


# Where the token is sent


class EveryMethod(RequestHandler):
    """Call the provider's API with every method."""

    route = "/every-method"

    def get(self, request: Request) -> Response:
        client = self.oauth2_session(token=request.session["oauth_token"])
        url = self.provider.profile_url
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            client.request(
                method, url, params={"page": "2"}, data={"a": "b"} if method in {"POST", "PUT", "PATCH"} else None
            )
        return self.jsonify({"ok": True})


def stored_access_token(store: FileStore) -> str:
    [session] = sessions(store)
    return str(json.loads(session)["data"]["oauth_token"]["access_token"])


def test_token_is_sent_in_the_authorization_header_only(store: FileStore, make_browser: Callable[..., Browser]) -> None:
    """S27; RFC 9700 4.3.2: URLs are written to logs and histories."""
    with answering("{}") as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user", handlers=(EveryMethod,))
        browser.sign_in()
        token = stored_access_token(store)
        assert browser.get("/profile").status_int == SHOWN
        assert browser.get("/every-method").status_int == SHOWN
        assert len(server.requests) == 8
        for request in server.requests:
            assert request.headers["Authorization"] == f"Bearer {token}"
            others = [value for name, value in request.headers if name != "Authorization"]
            assert token not in f"{request.url} {request.get_data(as_text=True)} {others}"


@pytest.mark.parametrize("fault", REDIRECTS)
def test_redirect_to_another_server_is_not_followed(fault: str, provider: LocalProvider, browser: Browser) -> None:
    """S23: it receives no request at all."""
    with answering('{"login": "mallory"}') as elsewhere:
        browser.sign_in()
        provider.faults.redirect_to = f"{elsewhere.url}/user"
        provider.faults.add(f"profile.{fault}")
        answer = browser.profile()
        assert [request.headers.get("Authorization") for request in elsewhere.requests] == []
        assert answer.status_int == PROVIDERS_FAULT


def test_redirect_to_the_same_server_is_not_followed(provider: LocalProvider, browser: Browser) -> None:
    browser.sign_in()
    provider.faults.redirect_to = provider.profile_url
    provider.faults.add("profile.redirect_302", times=None)
    assert browser.profile().status_int == PROVIDERS_FAULT
    assert provider.count("profile") == 1


def test_token_is_not_sent_to_the_browser(store: FileStore, browser: Browser) -> None:
    browser.sign_in()
    token = stored_access_token(store)
    answer = browser.get("/profile", headers=JSON)
    assert token not in f"{answer.headers} {answer.text} {browser.cookie}"


def test_cookie_of_the_provider_is_not_stored(make_browser: Callable[..., Browser]) -> None:
    """Otherwise one user's session at the provider would be used for another user."""
    with answering("{}", headers={"Set-Cookie": "provider=one-users; Path=/"}) as server:
        one = make_browser(PROFILE_URL=f"{server.url}/user")
        other = make_browser(PROFILE_URL=f"{server.url}/user")
        for browser in (one, other, one):
            browser.sign_in()
            assert browser.profile().status_int == SHOWN
        assert [request.headers.get("Cookie") for request in server.requests] == [None] * 3


# The page for browsers


NESTED = {
    "sub": "7",
    "name": "<b>Mona</b>",
    "groups": ["staff", {"team": "docs"}],
    "address": {"country": "FR"},
    "admin": False,
    "bio": None,
    "count": 0,
    "items": [],
}


@pytest.fixture
def profile_page(make_browser: Callable[..., Browser]) -> webtest.TestResponse:
    with answering(json.dumps(NESTED)) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user", SUBJECT_CLAIM="sub", TITLE="Example Inc.")
        browser.sign_in()
        return browser.get("/profile")


def test_page_lists_the_whole_document_as_text(profile_page: webtest.TestResponse) -> None:
    """S47"""
    assert profile_page.html.h1.text == "<b>Mona</b>"
    rows = [row.get_text(" ", strip=True) for row in profile_page.html.select(".rows > div")]
    assert rows == [
        *("sub 7", "name <b>Mona</b>", "groups staff team docs", "address country FR", "admin no", "bio –", "count 0"),
        "items",
    ]
    assert "Example Inc." in profile_page.text
    assert profile_page.html.find("img") is None


def test_page_has_a_sign_out_button(browser: Browser) -> None:
    browser.sign_in()
    assert browser.get("/profile").form.submit(headers={"Origin": "null"}).location.endswith("/signed-out")
    assert browser.profile().status_int == SIGN_IN_AGAIN


def test_page_replaces_lone_surrogates(make_browser: Callable[..., Browser]) -> None:
    """S20: JSON can contain them (RFC 8259 8.2), and UTF-8 cannot."""
    with answering(r'{"id": 1, "bio": "A\ud800", "\udfff": "x"}') as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        page = browser.get("/profile")
        rows = [row.get_text(" ", strip=True) for row in page.html.select(".rows > div")]
        assert rows == ["id 1", "bio A?", "? x"]


def test_page_shows_a_huge_document_as_json(make_browser: Callable[..., Browser]) -> None:
    """S25: an element for each of 100,000 values would keep the worker busy for seconds."""
    text = json.dumps({"id": 1, "x": [[0] * 5] * 20_000})
    with answering(text) as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        assert browser.get("/profile").html.pre.text == text


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "*/*"},
        {"Accept": "application/json, text/html;q=0.9"},
        {"Sec-Fetch-Mode": "cors"},
        {"X-Requested-With": "XMLHttpRequest"},
    ],
    ids=str,
)
def test_program_gets_the_document_of_the_provider(headers: dict[str, str], browser: Browser) -> None:
    browser.sign_in()
    assert browser.get("/profile", headers=headers).json == OCTOCAT


def test_page_of_a_deeply_nested_document_ends_in_json(make_browser: Callable[..., Browser]) -> None:
    with answering('{"id": 1, "x": ' + "[" * 500 + "]" * 500 + "}") as server:
        browser = make_browser(PROFILE_URL=f"{server.url}/user")
        browser.sign_in()
        page = browser.get("/profile")
        assert (page.status_int, page.text.count("<ul>"), "[" * 495 + "]" * 495 in page.text) == (200, 5, True)
