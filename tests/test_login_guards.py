"""What a callback must prove before anything is believed: the attacks on the authorization response, one by one.

RFC 6749 10.12 (cross-site request forgery), RFC 9700 2.1 and 4 (what has been tried since), RFC 9207 (mix-up).
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
import requests
from conftest import HTML, JSON, Browser, environ_for, gunicorn, parameters, send, stored_sessions

from wsgi_oauth import Config, MemoryStore, SessionStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

# RFC 6749 4.1.2.1, what OpenID Connect adds, and one that no document has: the fault's name and the status for it.
ERROR_CODES = {
    "access_denied": 403,
    "consent_required": 403,
    "invalid_request": 400,
    "unauthorized_client": 400,
    "unsupported_response_type": 400,
    "invalid_scope": 400,
    "server_error": 400,
    "temporarily_unavailable": 503,
    "unknown_error": 400,
    "error_and_code": 403,
}
WRONG_ISSUERS = {
    "another host": "https://attacker.example",
    "a slash at the end": "{issuer}/",
    "a path": "{issuer}/authorize",
    "a query": "{issuer}?",
    "a fragment": "{issuer}#",
    "upper case": "{ISSUER}",
    "a prefix of it": "{issuer:.12}",
    "a space before it": " {issuer}",
    "nonsense": "null",
}
NO_STATE = [
    "",
    "code=x",
    "code=x&state=",
    "code=x&state=never-issued",
    "code=x&State=x",
    "code=x&state",
    "state=",
    "error=access_denied",
    "error=access_denied&state=",
    "code=x&state=None",
    "code=x&state=null",
    "code=x&state=%00",
    "code=x&state[]=x",
]


@pytest.fixture
def browser(application: Any, provider: LocalProvider) -> Browser:
    return Browser(application, provider)


@pytest.fixture
def other(application: Any, provider: LocalProvider) -> Browser:
    """Another person's browser, in front of the same application."""
    return Browser(application, provider)


def changed(url: str, **parameters_: str | None) -> str:
    """*url* with other query parameters; None takes one away."""
    query = {**parameters(url), **parameters_}
    kept = {name: value for name, value in query.items() if value is not None}
    return f"{url.split('?', maxsplit=1)[0]}?{urlencode(kept)}"


def token_form(provider: LocalProvider, index: int = -1) -> dict[str, str]:
    """What the application sent to the token endpoint."""
    exchanges = [exchange for exchange in provider.exchanges if exchange.endpoint == "token"]
    return {name: values[0] for name, values in parse_qs(exchanges[index].body).items()}


def assert_refused(response: Any, provider: LocalProvider, status: int = 400, *, asked: int = 0) -> None:
    """A page of ours, and the token endpoint was asked *asked* times in all."""
    assert response.status_int == status, response
    assert provider.count("token") == asked
    assert "Location" not in response.headers
    assert "<h1>" in response.text


class TestTheStateBelongsToTheBrowserThatStarted:
    """S1. Login CSRF: the attacker starts, and the victim finishes, signed in as the attacker."""

    def test_a_state_and_code_of_another_browser_are_refused(
        self, browser: Browser, other: Browser, provider: LocalProvider
    ):
        attackers = other.callback_url()
        browser.start()
        assert_refused(browser.get(attackers), provider)
        assert browser.profile().status_int == 401

    def test_they_are_refused_from_a_browser_without_a_cookie(
        self, browser: Browser, other: Browser, provider: LocalProvider, store: SessionStore
    ):
        attackers = other.callback_url()
        before = stored_sessions(store)
        response = browser.get(attackers)
        assert_refused(response, provider)
        assert "Set-Cookie" not in response.headers
        assert stored_sessions(store) == before

    def test_they_are_refused_from_somebody_who_is_signed_in_and_stays_so(
        self, browser: Browser, other: Browser, provider: LocalProvider
    ):
        browser.sign_in()
        cookie = browser.cookie
        assert_refused(browser.get(other.callback_url()), provider, asked=1)
        assert browser.cookie == cookie
        assert browser.profile().status_int == 200

    def test_they_still_work_where_they_belong(self, browser: Browser, other: Browser):
        """The victim's refusal uses nothing up: whoever guesses or steals a state cannot block its owner."""
        callback = other.callback_url()
        browser.get(callback)
        assert other.get(callback).status_int == 303

    def test_the_victims_state_with_the_attackers_code_is_refused_by_pkce(
        self, browser: Browser, other: Browser, provider: LocalProvider
    ):
        """RFC 9700 4.5: an injected code fits to another verifier."""
        stolen = parameters(other.callback_url())["code"]
        response = browser.get(changed(browser.callback_url(), code=stolen))
        assert response.status_int == 400
        assert browser.profile().status_int == 401
        assert provider.count("token") == 1


class TestTheStateMustBeThere:
    """S2: absent must never equal absent."""

    @pytest.mark.parametrize("situation", ["no cookie", "started", "signed in", "failed"])
    def test_otherwise_the_callback_fails_closed(self, browser: Browser, provider: LocalProvider, situation: str):
        if situation == "started":
            browser.start()
        elif situation == "signed in":
            browser.sign_in()
        elif situation == "failed":
            browser.get(browser.callback_url(decision="deny"))
        before = provider.count("token")
        for query in NO_STATE:
            assert_refused(browser.get(f"/callback?{query}"), provider, asked=before)
            assert browser.profile().status_int == (200 if situation == "signed in" else 401)

    @pytest.mark.parametrize("fault", ["missing_state", "wrong_state", "error_without_state"])
    def test_a_provider_that_loses_the_state_signs_nobody_in(
        self, browser: Browser, provider: LocalProvider, fault: str
    ):
        assert_refused(browser.get(browser.callback_url(fault=f"authorize.{fault}")), provider)


class TestTheStateIsUsedOnce:
    """S3, RFC 9700 4.2.4."""

    @pytest.mark.parametrize(
        "fault", ["token.500", "token.invalid_grant", "token.hang_up", "token.html_200", "token.empty_200"]
    )
    def test_even_when_the_exchange_fails(self, browser: Browser, provider: LocalProvider, fault: str):
        """It is consumed before the exchange, not after: the fault leaves the code itself as good as it was."""
        provider.faults.add(fault)
        callback = browser.callback_url()
        assert browser.get(callback).status_int in {400, 502}
        assert_refused(browser.get(callback), provider, asked=1)

    @pytest.mark.parametrize("fault", ["wrong_iss", "access_denied", "missing_code", "server_error"])
    def test_even_when_the_answer_is_no_good(self, browser: Browser, provider: LocalProvider, fault: str):
        good = browser.callback_url()
        spoilt = {
            "wrong_iss": {"iss": "https://attacker.example"},
            "missing_code": {"code": None},
            "access_denied": {"error": "access_denied"},
            "server_error": {"error": "server_error", "code": None},
        }[fault]
        assert browser.get(changed(good, **spoilt)).status_int in {400, 403}
        assert_refused(browser.get(good), provider)

    def test_by_twenty_copies_at_once_over_several_workers(self, provider: LocalProvider, tmp_path: Path):
        environ = environ_for(provider, SESSION_STORE=f"file:{tmp_path}/sessions")
        with gunicorn(tmp_path, environ, "--workers", "2", "--worker-class", "gthread", "--threads", "10") as server:
            start = requests.get(server.url, headers=HTML, allow_redirects=False, timeout=30)
            answer = requests.post(start.headers["Location"], {"decision": "allow"}, allow_redirects=False, timeout=30)
            callback = answer.headers["Location"]

            def copy(_: int) -> int:
                return requests.get(
                    callback, headers=HTML, cookies=start.cookies, allow_redirects=False, timeout=30
                ).status_code

            with ThreadPoolExecutor(20) as threads:
                statuses = list(threads.map(copy, range(20)))
        assert provider.count("token") == 1
        assert 303 in statuses
        assert set(statuses) <= {303, 400}, "who comes when all is over has a cookie that is no longer good"


class TestTheStateExpires:
    """S4: on the server, whatever the browser keeps."""

    @pytest.mark.parametrize("signed_in", [False, True])
    def test_after_ten_minutes(
        self, browser: Browser, provider: LocalProvider, later: Callable[[float], None], *, signed_in: bool
    ):
        if signed_in:
            browser.sign_in()
        callback = browser.callback_url()
        later(601)
        assert_refused(browser.get(callback), provider, asked=int(signed_in))

    @pytest.mark.parametrize("signed_in", [False, True])
    def test_and_not_before(self, browser: Browser, later: Callable[[float], None], *, signed_in: bool):
        if signed_in:
            browser.sign_in()
        start = browser.start()
        later(590)
        assert browser.get(browser.consent(start)).status_int == 303

    def test_each_start_by_its_own_clock(self, browser: Browser, later: Callable[[float], None]):
        old = browser.start()
        later(400)
        young = browser.start()
        later(300)
        assert browser.get(browser.consent(old)).status_int == 400
        assert browser.get(browser.consent(young)).status_int == 303


class TestManyStarts:
    """S5."""

    def test_two_tabs_both_succeed(self, browser: Browser, provider: LocalProvider):
        tabs = [browser.start(), browser.start()]
        assert [browser.get(browser.consent(tab)).status_int for tab in reversed(tabs)] == [303, 303]
        assert provider.count("token") == 2

    def test_a_thousand_leave_the_session_small(self, browser: Browser, store: SessionStore):
        for _ in range(1000):
            browser.start()
        [session] = stored_sessions(store)
        assert len(session["oauth_state"]) <= 50
        assert len(json.dumps(session)) < 32 * 1024

    def test_the_oldest_goes_first(self, browser: Browser):
        oldest = browser.start()
        newest = [browser.start() for _ in range(100)][-1]
        assert browser.get(browser.consent(newest)).status_int == 303
        assert browser.get(browser.consent(oldest)).status_int == 400

    @pytest.mark.parametrize("character", ["a", "é", "🐙", "%41", "&"])
    def test_with_the_longest_next_there_is_never_break_the_session(self, browser: Browser, character: str):
        """A character of the return URL may take twelve bytes in the store."""
        path = "/" + character * (1000 // len(character))
        for _ in range(30):
            browser.start(path)
        browser.sign_in()
        assert browser.profile().status_int == 200

    def test_many_that_were_finished_do_not_keep_the_next_one_out(self, browser: Browser):
        for _ in range(25):
            assert browser.sign_in().status_int == 303


class TestTheStateIsComparedSafely:
    """S6: as bytes, in constant time."""

    @pytest.mark.parametrize(
        "state", ["%C3%A9", "%FF", "%ED%A0%80", "%F0%9F%90%99", "\xe9", "\xc3\xa9", "%00", "%0D%0A"]
    )
    @pytest.mark.parametrize("started", [False, True])
    def test_what_is_not_ascii_is_refused_and_never_a_failure(
        self, application: Any, browser: Browser, provider: LocalProvider, state: str, *, started: bool
    ):
        headers = dict(HTML)
        if started:
            browser.start()
            headers["Cookie"] = f"wsgi_oauth={browser.cookie}"
        assert send(application, "/callback", query=f"code=x&state={state}", headers=headers).status_code == 400
        assert provider.count("token") == 0

    @pytest.mark.parametrize(
        "change", [str.upper, str.lower, lambda state: state[:-1], lambda state: state + "A", lambda state: f" {state}"]
    )
    def test_almost_right_is_wrong(self, browser: Browser, provider: LocalProvider, change: Callable[[str], str]):
        callback = browser.callback_url()
        wrong = changed(callback, state=change(parameters(callback)["state"]))
        assert_refused(browser.get(wrong), provider)
        assert browser.get(callback).status_int == 303, "a wrong guess uses nothing up"


class TestTheSecretsOfAStart:
    """S7, S8."""

    def test_states_are_long_and_never_the_same(self, browser: Browser):
        states = {parameters(browser.start())["state"] for _ in range(50)}
        assert len(states) == 50
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{22,}", state) for state in states)  # 22 x 6 bits: at least 128
        for position in range(22):
            assert len({state[position] for state in states}) > 10, "each place of it is random"

    def test_the_return_url_stays_on_the_server(self, browser: Browser):
        start = browser.start("/very/private/place")
        assert "private" not in start
        assert "private" not in parameters(browser.consent(start))["state"]

    def test_the_verifier_is_fresh_and_of_the_right_length(self, browser: Browser, provider: LocalProvider):
        """RFC 7636 4.1."""
        for _ in range(20):
            browser.sign_in()
        verifiers = {token_form(provider, index)["code_verifier"] for index in range(20)}
        assert len(verifiers) == 20
        assert all(re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier) for verifier in verifiers)

    def test_the_state_tells_nothing_of_the_verifier(self, browser: Browser, provider: LocalProvider):
        """RFC 7636 7.1: the state is in the URL, the verifier is a secret; no piece of one is in the other."""
        url = browser.callback_url()
        state = parameters(url)["state"]
        browser.get(url)
        verifier = token_form(provider, 0)["code_verifier"]
        assert not {state[i : i + 6] for i in range(38)} & {verifier[i : i + 6] for i in range(38)}

    def test_the_challenge_is_always_s256(self, browser: Browser):
        """RFC 9700 2.1.1: the plain challenge is the verifier itself."""
        asked = parameters(browser.start())
        assert asked["code_challenge_method"] == "S256"
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", asked["code_challenge"])

    def test_the_verifier_leaves_only_for_the_token_endpoint(
        self, browser: Browser, provider: LocalProvider, caplog: pytest.LogCaptureFixture
    ):
        response = browser.sign_in()
        verifier = token_form(provider)["code_verifier"]
        assert all(verifier not in exchange.url for exchange in provider.exchanges)
        assert verifier not in str(response.headers) + response.text + caplog.text + (browser.cookie or "")

    def test_a_provider_that_does_not_check_it_gets_it_all_the_same(self, browser: Browser, provider: LocalProvider):
        browser.sign_in()
        assert token_form(provider).keys() == {"grant_type", "code", "code_verifier", "redirect_uri"}

    def test_a_start_of_its_own_has_a_verifier_of_its_own(self, browser: Browser, provider: LocalProvider):
        tabs = [browser.start(), browser.start()]
        for tab in tabs:
            browser.get(browser.consent(tab))
        for index, tab in enumerate(tabs):
            assert_challenge_fits(parameters(tab)["code_challenge"], token_form(provider, index)["code_verifier"])


def assert_challenge_fits(challenge: str, verifier: str) -> None:
    from hashlib import sha256

    assert urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode() == challenge


class TestTheIssuer:
    """S9, RFC 9207: the mix-up attack, where a code of one provider is carried to another one's token endpoint."""

    @pytest.mark.parametrize("kind", WRONG_ISSUERS)
    def test_must_be_exactly_the_configured_one(self, browser: Browser, provider: LocalProvider, kind: str):
        wrong = WRONG_ISSUERS[kind].format(issuer=provider.url, ISSUER=provider.url.upper())
        assert_refused(browser.get(changed(browser.callback_url(), iss=wrong)), provider)

    @pytest.mark.parametrize("error", ["access_denied", "server_error", "temporarily_unavailable"])
    def test_must_be_right_on_an_error_too(self, browser: Browser, provider: LocalProvider, error: str):
        wrong = changed(browser.callback_url(), code=None, error=error, iss="https://attacker.example")
        response = browser.get(wrong, headers=JSON)
        assert (response.status_int, response.json["error"]) == (400, "issuer_mismatch")

    @pytest.mark.parametrize("fault", ["missing_iss", "empty_iss"])
    def test_may_be_absent_where_the_provider_is_not_known_to_send_it(self, browser: Browser, fault: str):
        assert browser.get(browser.callback_url(fault=f"authorize.{fault}")).status_int == 303

    @pytest.mark.parametrize("fault", ["missing_iss", "empty_iss"])
    def test_must_be_there_where_the_provider_is_known_to_send_it(
        self, application: Any, provider: LocalProvider, fault: str
    ):
        registration = application.registration()
        registration.configured_provider = registration.provider._replace(always_sends_issuer=True)
        browser = Browser(application, provider)
        assert_refused(browser.get(browser.callback_url(fault=f"authorize.{fault}")), provider)
        assert browser.sign_in().status_int == 303

    def test_of_github_is_known_without_being_configured(self, provider: LocalProvider):
        """GitHub sends it with some answers only: https://github.com/login/oauth, and nothing else will do."""
        config = Config(client_id="x", client_secret="y", token_url=provider.token_url, session_store="memory:")
        browser = Browser(create_app(config), provider)
        for issuer, expected in {"https://github.com": "issuer_mismatch", "https://github.com/login/oauth": ""}.items():
            state = parameters(browser.start())["state"]
            query = urlencode({"code": "x", "state": state, "iss": issuer})
            cause = browser.get(f"/callback?{query}", headers=JSON).json["error"]
            assert (cause == "issuer_mismatch") == (expected == "issuer_mismatch")
        assert provider.count("token") == 1

    def test_is_not_checked_where_none_is_configured(self, provider: LocalProvider, store: SessionStore):
        app = create_app(Config.from_environ(environ_for(provider, ISSUER="")), store=store)
        assert Browser(app, provider).sign_in().status_int == 303


class TestTheRedirectUri:
    """S11, RFC 6749 4.1.3: byte for byte the same in both requests."""

    def redirect_uris(self, browser: Browser, provider: LocalProvider, **headers: str) -> set[str]:
        start = browser.get("/", headers=headers).location
        browser.get(browser.consent(start), headers=headers)
        return {parameters(start)["redirect_uri"], token_form(provider)["redirect_uri"]}

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"X-Forwarded-Host": "evil.example"},
            {"X-Forwarded-Proto": "https", "X-Forwarded-Port": "8443"},
            {"X-Forwarded-Prefix": "/evil"},
            {"Forwarded": "host=evil.example;proto=https"},
            {"X-Original-Host": "evil.example", "X-Host": "evil.example", "X-Rewrite-Url": "/evil"},
            {"Host": "LOCALHOST"},
            {"Host": "localhost:80"},
            {"Host": "localhost."},
        ],
        ids=str,
    )
    def test_is_the_same_whatever_headers_come(
        self, browser: Browser, provider: LocalProvider, headers: dict[str, str]
    ):
        [uri] = self.redirect_uris(browser, provider, **headers)
        assert uri in {"http://localhost/callback", "http://localhost./callback"}

    @pytest.mark.parametrize("path", ["/", "//", "///", ""])
    def test_is_the_same_whatever_slashes_come(self, application: Any, path: str):
        start = send(application, path, headers=HTML).headers["Location"]
        assert parameters(start)["redirect_uri"] == "http://localhost/callback"

    @pytest.mark.parametrize(
        "public_url", ["https://localhost", "https://localhost/", "https://localhost:8443", "http://127.0.0.1:8000"]
    )
    def test_comes_from_the_configured_public_url(self, provider: LocalProvider, public_url: str, store: SessionStore):
        app = create_app(Config.from_environ(environ_for(provider, PUBLIC_URL=public_url)), store=store)
        browser = Browser(app, provider, base="{0.scheme}://{0.netloc}".format(urlsplit(public_url)))
        assert self.redirect_uris(browser, provider) == {public_url.rstrip("/") + "/callback"}

    def test_belongs_to_the_start_even_when_the_user_comes_back_by_another_name(
        self, application: Any, browser: Browser, provider: LocalProvider
    ):
        callback = browser.callback_url()
        headers = {**HTML, "Cookie": f"wsgi_oauth={browser.cookie}"}
        response = send(
            application, "/callback", query=urlsplit(callback).query, headers=headers, HTTP_HOST="127.0.0.1:8000"
        )
        assert response.status_code == 303
        assert token_form(provider)["redirect_uri"] == "http://localhost/callback"


class TestErrorsOfTheProvider:
    """S12, RFC 6749 4.1.2.1."""

    @pytest.mark.parametrize(("code", "status"), ERROR_CODES.items())
    def test_each_becomes_a_page_and_never_a_new_redirect(
        self, browser: Browser, provider: LocalProvider, code: str, status: int
    ):
        assert_refused(browser.get(browser.callback_url(fault=f"authorize.{code}")), provider, status)
        assert browser.profile().status_int == 401

    @pytest.mark.parametrize("code", ERROR_CODES)
    def test_the_state_is_consumed(self, browser: Browser, provider: LocalProvider, code: str):
        callback = browser.callback_url(fault=f"authorize.{code}")
        browser.get(callback)
        assert browser.get(callback, headers=JSON).json["error"] == "no_login_in_progress"

    @pytest.mark.parametrize("code", ERROR_CODES)
    def test_the_state_is_checked_first(self, browser: Browser, other: Browser, code: str):
        """Nobody can show a victim an error page of their choice with a link."""
        attackers = other.callback_url(fault=f"authorize.{code}")
        browser.start()
        assert browser.get(attackers, headers=JSON).json["error"] == "no_login_in_progress"

    @pytest.mark.parametrize("code", ERROR_CODES)
    def test_a_login_that_exists_stays(self, browser: Browser, code: str):
        browser.sign_in()
        cookie = browser.cookie
        browser.get(browser.callback_url(fault=f"authorize.{code}"))
        assert browser.cookie == cookie
        assert browser.profile().status_int == 200

    def test_who_declines_is_told_so(self, browser: Browser):
        page = browser.get(browser.callback_url(decision="deny"))
        assert page.status_int == 403
        assert "declined" in page.text

    def test_a_provider_that_is_busy_is_worth_another_try(self, browser: Browser):
        response = browser.get(browser.callback_url(fault="authorize.temporarily_unavailable"), headers=JSON)
        assert response.json["error"] == "provider_temporarily_unavailable"
        assert int(response.headers["Retry-After"]) > 0

    def test_only_the_user_said_no_counts_as_declined(self, browser: Browser):
        causes = {
            code: browser.get(browser.callback_url(fault=f"authorize.{code}"), headers=JSON).json["error"]
            for code in ERROR_CODES
        }
        assert {code for code, cause in causes.items() if cause == "login_declined"} == {
            "access_denied",
            "consent_required",
            "error_and_code",
        }


class TestRepeatedParameters:
    """S13, RFC 6749 3.1: one library takes the first value, the next one the last."""

    @pytest.mark.parametrize("name", ["state", "code", "iss"])
    def test_a_provider_that_sends_one_twice_is_refused(self, browser: Browser, provider: LocalProvider, name: str):
        assert_refused(browser.get(browser.callback_url(fault=f"authorize.duplicate_{name}")), provider)

    @pytest.mark.parametrize("name", ["state", "code", "iss", "error"])
    @pytest.mark.parametrize("value", ["", "x", "same"])
    @pytest.mark.parametrize("where", ["before", "after"])
    def test_an_attacker_who_adds_one_is_refused(
        self, browser: Browser, provider: LocalProvider, name: str, value: str, where: str
    ):
        callback = browser.callback_url()
        path, _, query = callback.partition("?")
        if name == "error":
            query += "&error="
        same = parse_qs(query, keep_blank_values=True)[name][0]
        added = urlencode({name: same if value == "same" else value})
        assert_refused(
            browser.get(f"{path}?{added}&{query}" if where == "before" else f"{path}?{query}&{added}"), provider
        )

    def test_the_name_can_be_spelt_in_another_way(self, application: Any, browser: Browser, provider: LocalProvider):
        query = urlsplit(browser.callback_url()).query
        headers = {**HTML, "Cookie": f"wsgi_oauth={browser.cookie}"}
        for added in ("%73tate=x", "c%6Fde=x", "%65rror=x", "%69ss=x&i%73s=x"):
            assert send(application, "/callback", query=f"{query}&{added}", headers=headers).status_code in {400, 403}
        assert provider.count("token") == 0


class TestOddParameters:
    """S14, S15."""

    @pytest.mark.parametrize("name", ["error", "iss"])
    def test_an_empty_value_counts_as_absent(self, browser: Browser, name: str):
        assert browser.get(changed(browser.callback_url(), **{name: ""})).status_int == 303

    def test_an_empty_code_counts_as_absent(self, browser: Browser, provider: LocalProvider):
        assert_refused(browser.get(changed(browser.callback_url(), code="")), provider)

    def test_no_code_and_no_error_is_no_answer(self, browser: Browser, provider: LocalProvider):
        assert_refused(browser.get(browser.callback_url(fault="authorize.missing_code")), provider)

    def test_an_error_beside_a_code_is_an_error(self, browser: Browser, provider: LocalProvider):
        assert_refused(browser.get(browser.callback_url(fault="authorize.error_and_code")), provider, 403)

    def test_parameters_that_nobody_knows_are_ignored(self, browser: Browser):
        """RFC 6749 4.1.2."""
        assert browser.get(browser.callback_url(fault="authorize.extra_parameters")).status_int == 303

    def test_not_even_twice(self, browser: Browser):
        assert browser.get(browser.callback_url() + "&locale=en&locale=de&=&==&x").status_int == 303

    @pytest.mark.parametrize(
        "value",
        [
            "%00",
            "a%00b",
            "%0D%0ASet-Cookie:%20x=y",
            "%0d%0a",
            "%1B%5B31m",
            "%FF%FE",
            "%C3",
            "%ED%A0%80",
            "%",
            "%zz",
            "\xff\xfe",
            "\xc3\xa9",
            "x" * 4096,
            "x" * 4097,
            "x" * 7900,
            "%E2%80%AE",
            "<script>alert(1)</script>",
            "'\"&;",
        ],
        ids=lambda value: ascii(value)[:24],
    )
    def test_odd_bytes_get_an_answer(
        self, application: Any, browser: Browser, value: str, caplog: pytest.LogCaptureFixture
    ):
        """Refused or handled: never a failure of ours, never a header or a log line that breaks in two."""
        for name in ("state", "code", "iss", "error", "error_description", "locale"):
            given = urlsplit(browser.callback_url()).query.split("&")
            query = "&".join([*(pair for pair in given if not pair.startswith(f"{name}=")), f"{name}={value}"])
            headers = {**HTML, "Cookie": f"wsgi_oauth={browser.cookie}"}
            response = send(application, "/callback", query=query, headers=headers)
            assert response.status_code in {303, 400, 403}, name
            assert "x=y" not in str(response.headers.getlist("Set-Cookie"))
            browser.app.reset()
        ours = [record for record in caplog.records if record.name.startswith("wsgi_oauth")]
        assert all(record.levelname in {"INFO", "WARNING"} for record in ours)
        assert all(record.getMessage().isprintable() for record in ours)

    @pytest.mark.parametrize(
        "query", ["next=\xff", "next=%ff", "next=/%00", "\xff=\xff", "again=\xff", "%", "&&&", "=", "next"]
    )
    def test_odd_bytes_at_the_start_get_an_answer(self, application: Any, query: str):
        assert send(application, "/", query=query, headers=HTML).status_code in {302, 400}

    @pytest.mark.parametrize(
        "path", ["/\xff", "/%00", "/callback\x00", "/profile\n", "/\xed\xa0\x80", "/..", "/\x1b[31m", "x"]
    )
    def test_odd_bytes_in_the_path_get_an_answer(self, application: Any, path: str):
        assert send(application, path, headers=HTML).status_code in {400, 404}

    @pytest.mark.parametrize("length", [1000, 4096])
    def test_a_long_code_reaches_the_provider_whole(self, browser: Browser, provider: LocalProvider, length: int):
        """Some providers' codes are long; whether one is good is theirs to say."""
        response = browser.get(changed(browser.callback_url(), code="x" * length), headers=JSON)
        assert (response.status_int, response.json["error"]) == (400, "code_refused")
        assert token_form(provider)["code"] == "x" * length

    def test_a_code_of_every_printable_character_reaches_the_provider_whole(
        self, browser: Browser, provider: LocalProvider
    ):
        """RFC 6749 A.11: %x20-7E."""
        code = "".join(map(chr, range(0x20, 0x7F)))
        browser.get(changed(browser.callback_url(), code=code))
        assert token_form(provider)["code"] == code


class TestSuccess:
    """S17."""

    @pytest.mark.parametrize("next_url", [None, "/somewhere?q=1"])
    def test_leads_to_a_url_without_code_or_state(self, browser: Browser, next_url: str | None):
        callback = browser.callback_url(next_url)
        response = browser.get(callback)
        assert response.status_int == 303
        given = parameters(callback)
        for secret in (given["code"], given["state"], quote(given["state"])):
            assert secret not in response.location
            assert secret not in response.text
        assert response.location == (next_url or "/profile")

    def test_needs_a_code_that_the_provider_accepts(self, browser: Browser, provider: LocalProvider):
        assert_refused(browser.get(browser.callback_url(fault="authorize.wrong_code")), provider, asked=1)
        assert browser.profile().status_int == 401


class TestReplay:
    @pytest.fixture
    def store(self) -> SessionStore:
        return MemoryStore()

    def test_a_code_that_was_used_before_is_refused_with_a_new_state(self, browser: Browser, provider: LocalProvider):
        """RFC 6749 4.1.2: the code is the provider's to refuse; a new start does not make it good again."""
        used = browser.callback_url()
        browser.get(used)
        again = changed(browser.callback_url(), code=parameters(used)["code"])
        assert_refused(browser.get(again), provider, asked=2)
