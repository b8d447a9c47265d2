"""Validation of the authorization response: state, PKCE, issuer, redirect URI, errors, repeated and invalid parameters.

RFC 6749 4.1.2 and 10.12, RFC 9700 2.1 and 4, RFC 9207. tests/attacks shows the attacks that this validation prevents.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from conftest import HTML, JSON, Barrier, Browser, environ_for, parameters, send, stored_sessions

from wsgi_oauth import Config, SessionStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider

HOUR = 3600


# The error codes of RFC 6749 4.1.2.1 and OpenID Connect, an unknown one, and the status of the page for each.
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
    "upper case": "{ISSUER}",
    "a prefix": "{issuer:.12}",
    "a leading space": " {issuer}",
    "null": "null",
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
def other(application: Any, provider: LocalProvider) -> Browser:
    """Return another user's browser for the same application."""
    return Browser(application, provider)


def changed(url: str, **parameters_: str | None) -> str:
    """Return *url* with changed query parameters; None removes one."""
    query = {**parameters(url), **parameters_}
    kept = {name: value for name, value in query.items() if value is not None}
    return f"{url.split('?', maxsplit=1)[0]}?{urlencode(kept)}"


def token_form(provider: LocalProvider, index: int = -1) -> dict[str, str]:
    """Return the form of a request to the token endpoint."""
    exchanges = [exchange for exchange in provider.exchanges if exchange.endpoint == "token"]
    return {name: values[0] for name, values in parse_qs(exchanges[index].body).items()}


def assert_refused(response: Any, provider: LocalProvider, status: int = 400, *, asked: int = 0) -> None:
    """Check that *response* is an error page and that *asked* token requests have been sent."""
    assert response.status_int == status, response
    assert provider.count("token") == asked
    assert "Location" not in response.headers
    assert "<h1>" in response.text


class TestForeignState:
    """S1: a state is valid only in the browser that started the sign-in."""

    def test_is_refused_without_creating_a_session(
        self, browser: Browser, other: Browser, provider: LocalProvider, store: SessionStore
    ):
        attackers = other.callback_url()
        before = stored_sessions(store)
        response = browser.get(attackers)
        assert_refused(response, provider)
        assert "Set-Cookie" not in response.headers
        assert stored_sessions(store) == before

    def test_stays_valid_for_its_owner_after_a_refusal(self, browser: Browser, other: Browser):
        """A stolen state cannot be used up by an attacker."""
        callback = other.callback_url()
        browser.get(callback)
        assert other.get(callback).status_int == 303


class TestMissingState:
    """S2: a missing state never equals a missing state."""

    @pytest.mark.parametrize("situation", ["no cookie", "started", "signed in", "declined"])
    def test_is_refused(self, browser: Browser, provider: LocalProvider, situation: str):
        if situation == "started":
            browser.start()
        elif situation == "signed in":
            browser.sign_in()
        elif situation == "declined":
            browser.get(browser.callback_url(decision="deny"))
        before = provider.count("token")
        for query in NO_STATE:
            assert_refused(browser.get(f"/callback?{query}"), provider, asked=before)
            assert browser.profile().status_int == (200 if situation == "signed in" else 401)

    @pytest.mark.parametrize("fault", ["missing_state", "wrong_state", "error_without_state"])
    def test_is_refused_in_a_response_of_the_provider(self, browser: Browser, provider: LocalProvider, fault: str):
        assert_refused(browser.get(browser.callback_url(fault=f"authorize.{fault}")), provider)


class TestUsedState:
    """S3, RFC 9700 4.2.4."""

    @pytest.mark.parametrize(
        "fault", ["token.500", "token.invalid_grant", "token.hang_up", "token.html_200", "token.empty_200"]
    )
    def test_is_refused_after_a_failed_token_request(self, browser: Browser, provider: LocalProvider, fault: str):
        """The state is consumed before the token request, because the code is still valid after these faults."""
        provider.faults.add(fault)
        callback = browser.callback_url()
        assert browser.get(callback).status_int in {400, 502}
        assert_refused(browser.get(callback), provider, asked=1)

    @pytest.mark.parametrize("fault", ["wrong_iss", "access_denied", "missing_code", "server_error"])
    def test_is_refused_after_an_invalid_response(self, browser: Browser, provider: LocalProvider, fault: str):
        good = browser.callback_url()
        spoilt = {
            "wrong_iss": {"iss": "https://attacker.example"},
            "missing_code": {"code": None},
            "access_denied": {"error": "access_denied"},
            "server_error": {"error": "server_error", "code": None},
        }[fault]
        assert browser.get(changed(good, **spoilt)).status_int in {400, 403}
        assert_refused(browser.get(good), provider)


class TestExpiredState:
    """S4: the server checks the age, whatever the browser keeps. The code of a late response is never exchanged."""

    def test_late_response_starts_the_sign_in_again_towards_the_same_page(
        self, browser: Browser, provider: LocalProvider, later: Callable[[float], None]
    ):
        callback = browser.callback_url("/reports?id=7")
        later(23 * HOUR)
        response = browser.get(callback)
        assert (response.status_int, response.location.partition("?")[0]) == (303, "http://localhost/")
        assert provider.count("token") == 0
        again = browser.get(browser.consent(browser.get(response.location).location))
        assert again.location == "/reports?id=7"

    def test_second_late_response_does_not(self, browser: Browser, later: Callable[[float], None]):
        """Otherwise it could become a redirect loop."""
        callback = browser.callback_url("/reports?id=7")
        later(2 * HOUR)
        callback = browser.consent(browser.get(browser.get(callback).location).location)
        later(2 * HOUR)
        page = browser.get(callback)
        assert page.status_int == 400
        assert "next=%2Freports%3Fid%3D7" in page.text

    def test_late_response_leads_a_signed_in_user_to_the_page(
        self, browser: Browser, provider: LocalProvider, later: Callable[[float], None]
    ):
        callback = browser.callback_url("/reports?id=7")
        browser.sign_in()
        later(2 * HOUR)
        assert browser.get(callback).location == "/reports?id=7"
        assert provider.count("token") == 1

    def test_late_response_of_another_browser_is_refused(
        self, browser: Browser, other: Browser, provider: LocalProvider, later: Callable[[float], None]
    ):
        callback = browser.callback_url()
        later(2 * HOUR)
        assert_refused(other.get(callback), provider)

    def test_late_refusal_is_shown(self, browser: Browser, later: Callable[[float], None]):
        """S12: a user who declines gets a page, and no new sign-in."""
        callback = browser.callback_url(decision="deny")
        later(2 * HOUR)
        assert browser.get(callback).status_int == 403

    def test_response_after_a_day_is_unknown(
        self, browser: Browser, provider: LocalProvider, later: Callable[[float], None]
    ):
        callback = browser.callback_url()
        later(25 * HOUR + 1)
        assert_refused(browser.get(callback), provider)

    @pytest.mark.parametrize("signed_in", [False, True])
    def test_response_is_accepted_for_an_hour(
        self, browser: Browser, later: Callable[[float], None], *, signed_in: bool
    ):
        if signed_in:
            browser.sign_in()
        start = browser.start("/page")
        later(HOUR - 10)
        assert browser.get(browser.consent(start)).location == "/page"

    def test_lifetime_can_be_configured(self, make_browser: Callable[..., Browser], later: Callable[[float], None]):
        browser = make_browser(SIGN_IN_LIFETIME="5m")
        start = browser.start("/page")
        later(290)
        assert browser.get(browser.consent(start)).location == "/page"
        browser.post("/logout")
        start = browser.start("/page")
        later(310)
        assert browser.get(browser.consent(start)).location.startswith("http://localhost/?next=")


class TestParallelStarts:
    """S5: restored tabs start at the same moment, before any of them has a cookie."""

    @pytest.mark.parametrize("cookie", ["", "wsgi_oauth=" + "A" * 43], ids=["no cookie", "an ended session"])
    def test_all_finish_at_their_own_pages(self, application: Any, provider: LocalProvider, cookie: str):
        browser, started = Browser(application, provider), []
        for page in ("/a", "/b", "/c"):
            headers = {**HTML, "Cookie": cookie} if cookie else HTML
            started.append(send(application, "/", query=f"next={page}", headers=headers))
        for response in started:
            name, _, value = response.headers["Set-Cookie"].partition(";")[0].partition("=")
            browser.app.set_cookie(name, value)
        ends = [browser.get(browser.consent(response.headers["Location"])).location for response in started]
        assert ends == ["/a", "/b", "/c"]
        assert browser.profile().status_int == 200

    def test_tab_that_still_sends_the_old_cookies_finishes_at_its_page(
        self, application: Any, browser: Browser, provider: LocalProvider
    ):
        """Its callback waits in the server's queue while another tab signs in, which changes the session id."""
        browser.sign_in()
        tabs = [browser.start("/first"), browser.start("/second")]
        old_cookies = browser.cookie_header
        callbacks = [browser.consent(tab) for tab in tabs]
        browser.get(callbacks[0])
        headers = {**HTML, "Cookie": old_cookies}
        response = send(application, "/callback", query=urlsplit(callbacks[1]).query, headers=headers)
        assert response.headers["Location"] == "/second"

    def test_tabs_that_finish_at_the_same_moment_reach_their_pages(
        self, application: Any, browser: Browser, provider: LocalProvider, barrier: Callable[[str], Barrier]
    ):
        callbacks = [browser.callback_url("/first"), browser.callback_url("/second")]
        headers = {**HTML, "Cookie": browser.cookie_header}
        token_endpoint = barrier("token")
        with ThreadPoolExecutor(2) as threads:
            tabs = [
                threads.submit(send, application, "/callback", query=urlsplit(url).query, headers=headers)
                for url in callbacks
            ]
            token_endpoint.wait_for(2)
            token_endpoint.open()
        answers = [tab.result() for tab in tabs]
        assert [answer.headers["Location"] for answer in answers] == ["/first", "/second"]
        for answer in answers:
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
            assert send(application, "/profile", headers={**JSON, "Cookie": cookie}).status_code == 200

    def test_cookie_of_a_sign_in_opens_nothing_else(self, application: Any, browser: Browser):
        browser.start()
        pending = browser.cookie
        for name in ("wsgi_oauth", "wsgi_oauth-" + "x" * 10):
            response = send(application, "/profile", headers={**JSON, "Cookie": f"{name}={pending}"})
            assert response.status_code == 401

    def test_session_cookie_is_no_cookie_of_a_sign_in(
        self, application: Any, browser: Browser, provider: LocalProvider
    ):
        browser.sign_in()
        session = browser.cookie
        callback = browser.callback_url()
        name = browser.cookie_header.rpartition("; ")[2].partition("=")[0]
        headers = {**HTML, "Cookie": f"{name}={session}"}
        response = send(application, "/callback", query=urlsplit(callback).query, headers=headers)
        assert response.status_code == 400
        assert provider.count("token") == 1

    def test_cookie_is_deleted_when_its_state_has_been_used(self, browser: Browser):
        for decision in ("allow", "deny"):
            browser.get(browser.callback_url(decision=decision))
            assert "wsgi_oauth-" not in browser.cookie_header


class TestManyStarts:
    """S5: the number of pending sign-ins of one browser is limited."""

    def test_keep_the_cookies_and_the_store_small(self, browser: Browser, store: SessionStore):
        for _ in range(100):
            browser.start()
        assert len(browser.cookie_header) < 2000
        assert len(stored_sessions(store)) <= 20

    def test_evict_the_oldest(self, browser: Browser):
        oldest = browser.start()
        newest = [browser.start() for _ in range(100)][-1]
        assert browser.get(browser.consent(newest)).status_int == 303
        assert browser.get(browser.consent(oldest)).status_int == 400

    def test_with_long_return_urls_can_all_be_finished(self, browser: Browser):
        paths = [f"/{number}?{'x' * 7900}" for number in range(12)]
        starts = [browser.start(path) for path in paths]
        assert [browser.get(browser.consent(start)).location for start in starts] == paths

    def test_can_all_be_finished_one_after_the_other(self, browser: Browser):
        for _ in range(25):
            assert browser.sign_in().status_int == 303


class TestStateComparison:
    """S6: states are compared as bytes and in constant time."""

    @pytest.mark.parametrize(
        "state", ["%C3%A9", "%FF", "%ED%A0%80", "%F0%9F%90%99", "\xe9", "\xc3\xa9", "%00", "%0D%0A"]
    )
    @pytest.mark.parametrize("started", [False, True])
    def test_non_ascii_state_is_refused(
        self, application: Any, browser: Browser, provider: LocalProvider, state: str, *, started: bool
    ):
        headers = dict(HTML)
        if started:
            browser.start()
            headers["Cookie"] = browser.cookie_header
        assert send(application, "/callback", query=f"code=x&state={state}", headers=headers).status_code == 400
        assert provider.count("token") == 0

    @pytest.mark.parametrize(
        "change", [str.upper, str.lower, lambda state: state[:-1], lambda state: state + "A", lambda state: f" {state}"]
    )
    def test_nearly_equal_state_is_refused(
        self, browser: Browser, provider: LocalProvider, change: Callable[[str], str]
    ):
        callback = browser.callback_url()
        wrong = changed(callback, state=change(parameters(callback)["state"]))
        assert_refused(browser.get(wrong), provider)
        assert browser.get(callback).status_int == 303, "a wrong guess consumes nothing"

    def test_time_says_nothing_about_the_state(self, browser: Browser, monkeypatch: pytest.MonkeyPatch):
        callback, compare, compared = browser.callback_url(), hmac.compare_digest, []
        monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(b) or compare(a, b))
        assert browser.get(callback).status_int == 303
        assert parameters(callback)["state"].encode() in compared


class TestGeneratedSecrets:
    """S7, S8."""

    def test_states_are_long_and_random(self, browser: Browser):
        states = {parameters(browser.start())["state"] for _ in range(50)}
        assert len(states) == 50
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{22,}", state) for state in states)  # 22 x 6 bits: at least 128
        for position in range(22):
            assert len({state[position] for state in states}) > 10, "every character is random"

    def test_return_url_is_not_sent_to_the_provider(self, browser: Browser):
        start = browser.start("/very/private/place")
        assert "private" not in start
        assert "private" not in parameters(browser.consent(start))["state"]

    def test_code_verifiers_are_unique_and_long_enough(self, browser: Browser, provider: LocalProvider):
        """RFC 7636 4.1."""
        for _ in range(20):
            browser.sign_in()
        verifiers = {token_form(provider, index)["code_verifier"] for index in range(20)}
        assert len(verifiers) == 20
        assert all(re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier) for verifier in verifiers)

    def test_state_and_code_verifier_share_no_characters(self, browser: Browser, provider: LocalProvider):
        """RFC 7636 7.1: the state is in URLs, and the verifier is a secret. No part of one reveals the other."""
        url = browser.callback_url()
        state = parameters(url)["state"]
        browser.get(url)
        verifier = token_form(provider, 0)["code_verifier"]
        assert not {state[i : i + 6] for i in range(38)} & {verifier[i : i + 6] for i in range(38)}

    def test_challenge_method_is_always_s256(self, browser: Browser):
        """RFC 9700 2.1.1: the plain method would reveal the verifier."""
        asked = parameters(browser.start())
        assert asked["code_challenge_method"] == "S256"
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", asked["code_challenge"])

    def test_code_verifier_is_sent_only_to_the_token_endpoint(
        self, browser: Browser, provider: LocalProvider, caplog: pytest.LogCaptureFixture
    ):
        response = browser.sign_in()
        verifier = token_form(provider)["code_verifier"]
        assert all(verifier not in exchange.url for exchange in provider.exchanges)
        assert verifier not in str(response.headers) + response.text + caplog.text + (browser.cookie or "")


class TestIssuer:
    """S9, RFC 9207: the defence against mix-up attacks, which carry a code to another provider's token endpoint."""

    @pytest.mark.parametrize("kind", WRONG_ISSUERS)
    def test_must_equal_the_configured_one(self, browser: Browser, provider: LocalProvider, kind: str):
        wrong = WRONG_ISSUERS[kind].format(issuer=provider.url, ISSUER=provider.url.upper())
        assert_refused(browser.get(changed(browser.callback_url(), iss=wrong)), provider)

    def test_that_was_encoded_twice_is_refused_with_the_cause(self, browser: Browser, caplog: pytest.LogCaptureFixture):
        response = browser.get(browser.callback_url().replace("%", "%25"), headers=JSON)
        assert (response.status_int, response.json["error"]) == (400, "issuer_mismatch")
        assert "encodes queries a second time" in caplog.text

    @pytest.mark.parametrize("error", ["access_denied", "server_error", "temporarily_unavailable"])
    def test_must_also_equal_it_in_an_error(self, browser: Browser, provider: LocalProvider, error: str):
        wrong = changed(browser.callback_url(), code=None, error=error, iss="https://attacker.example")
        response = browser.get(wrong, headers=JSON)
        assert (response.status_int, response.json["error"]) == (400, "issuer_mismatch")

    @pytest.mark.parametrize("fault", ["missing_iss", "empty_iss"])
    def test_may_be_missing_if_the_provider_is_not_known_to_send_it(self, browser: Browser, fault: str):
        assert browser.get(browser.callback_url(fault=f"authorize.{fault}")).status_int == 303

    @pytest.mark.parametrize("fault", ["missing_iss", "empty_iss"])
    def test_must_be_present_if_the_provider_always_sends_it(
        self, application: Any, provider: LocalProvider, fault: str, caplog: pytest.LogCaptureFixture
    ):
        [registration] = application.oauth.registrations.values()
        registration.configured_provider = registration.provider._replace(always_sends_issuer=True)
        browser = Browser(application, provider)
        assert_refused(browser.get(browser.callback_url(fault=f"authorize.{fault}")), provider)
        assert "let the provider send iss, as its metadata announce" in caplog.text
        assert browser.sign_in().status_int == 303

    def test_of_github_is_known_without_configuration(self, provider: LocalProvider):
        """GitHub sends the issuer https://github.com/login/oauth in some responses."""
        config = Config(client_id="x", client_secret="y", token_url=provider.token_url, session_store="memory:")
        browser = Browser(create_app(config), provider)
        for issuer, expected in {"https://github.com": "issuer_mismatch", "https://github.com/login/oauth": ""}.items():
            state = parameters(browser.start())["state"]
            query = urlencode({"code": "x", "state": state, "iss": issuer})
            cause = browser.get(f"/callback?{query}", headers=JSON).json["error"]
            assert (cause == "issuer_mismatch") == (expected == "issuer_mismatch")
        assert provider.count("token") == 1

    def test_is_not_checked_without_a_configured_issuer(self, provider: LocalProvider, store: SessionStore):
        app = create_app(Config.from_environ(environ_for(provider, ISSUER="")), store=store)
        assert Browser(app, provider).sign_in().status_int == 303


class TestRedirectUri:
    """S11. `test_token_endpoint.py` compares it in both requests."""

    @pytest.mark.parametrize("path", ["/", "//", "///", ""])
    def test_ignores_repeated_slashes(self, application: Any, path: str):
        start = send(application, path, headers=HTML).headers["Location"]
        assert parameters(start)["redirect_uri"] == "http://localhost/callback"


class TestProviderErrors:
    """S12, RFC 6749 4.1.2.1."""

    @pytest.mark.parametrize(("code", "status"), ERROR_CODES.items())
    def test_show_a_page_consume_the_state_and_keep_the_session(
        self, browser: Browser, provider: LocalProvider, code: str, status: int
    ):
        browser.sign_in()
        cookie = browser.cookie
        callback = browser.callback_url(fault=f"authorize.{code}")
        assert_refused(browser.get(callback), provider, status, asked=1)
        assert browser.get(callback, headers=JSON).json["error"] == "no_login_in_progress"
        assert browser.cookie == cookie
        assert browser.profile().status_int == 200

    def test_are_reported_only_with_a_valid_state(self, browser: Browser, other: Browser):
        """Otherwise an attacker could choose the error page that a link shows."""
        foreign = other.callback_url(fault="authorize.server_error")
        browser.start()
        assert browser.get(foreign, headers=JSON).json["error"] == "no_login_in_progress"

    def test_say_that_the_user_declined(self, browser: Browser):
        page = browser.get(browser.callback_url(decision="deny"))
        assert page.status_int == 403
        assert "declined" in page.text

    def test_count_as_declined_only_if_the_user_declined(self, browser: Browser):
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
    """S13, RFC 6749 3.1: libraries disagree on whether the first or the last value counts."""

    @pytest.mark.parametrize("name", ["state", "code", "iss", "error"])
    def test_are_refused(self, browser: Browser, provider: LocalProvider, name: str):
        for value in ("", "x", "same"):
            for before in (True, False):
                path, _, query = browser.callback_url().partition("?")
                if name == "error":
                    query += "&error="
                same = parse_qs(query, keep_blank_values=True)[name][0]
                added = urlencode({name: same if value == "same" else value})
                query = f"{added}&{query}" if before else f"{query}&{added}"
                assert_refused(browser.get(f"{path}?{query}"), provider)

    def test_are_refused_with_a_percent_encoded_name(self, application: Any, browser: Browser, provider: LocalProvider):
        query = urlsplit(browser.callback_url()).query
        headers = {**HTML, "Cookie": browser.cookie_header}
        for added in ("%73tate=x", "c%6Fde=x", "%65rror=x", "%69ss=x&i%73s=x"):
            assert send(application, "/callback", query=f"{query}&{added}", headers=headers).status_code in {400, 403}
        assert provider.count("token") == 0


class TestUnusualParameters:
    """S14, S15."""

    @pytest.mark.parametrize("name", ["error", "iss"])
    def test_empty_value_is_treated_as_missing(self, browser: Browser, name: str):
        assert browser.get(changed(browser.callback_url(), **{name: ""})).status_int == 303

    def test_empty_code_is_treated_as_missing(self, browser: Browser, provider: LocalProvider):
        assert_refused(browser.get(changed(browser.callback_url(), code="")), provider)

    def test_response_without_code_and_error_is_refused(self, browser: Browser, provider: LocalProvider):
        assert_refused(browser.get(browser.callback_url(fault="authorize.missing_code")), provider)

    def test_error_takes_precedence_over_a_code(self, browser: Browser, provider: LocalProvider):
        assert_refused(browser.get(browser.callback_url(fault="authorize.error_and_code")), provider, 403)

    def test_unknown_parameters_are_ignored(self, browser: Browser):
        """RFC 6749 4.1.2."""
        assert browser.get(browser.callback_url(fault="authorize.extra_parameters")).status_int == 303

    def test_repeated_unknown_parameters_are_ignored(self, browser: Browser):
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
            "x" * 8192,
            "x" * 8193,
            "x" * 7900,
            "%E2%80%AE",
            "<script>alert(1)</script>",
            "'\"&;",
        ],
        ids=lambda value: ascii(value)[:24],
    )
    def test_invalid_bytes_are_refused_or_ignored(
        self, application: Any, browser: Browser, value: str, caplog: pytest.LogCaptureFixture
    ):
        """They cause no internal error and inject neither a header nor a line into the log."""
        for name in ("state", "code", "iss", "error", "error_description", "locale"):
            given = urlsplit(browser.callback_url()).query.split("&")
            query = "&".join([*(pair for pair in given if not pair.startswith(f"{name}=")), f"{name}={value}"])
            headers = {**HTML, "Cookie": browser.cookie_header}
            response = send(application, "/callback", query=query, headers=headers)
            assert response.status_code in {303, 400, 403}, name
            assert "x=y" not in str(response.headers.getlist("Set-Cookie"))
            browser.app.reset()
        logged = [record for record in caplog.records if record.name.startswith("wsgi_oauth")]
        assert all(record.levelname in {"INFO", "WARNING"} for record in logged)
        assert all(record.getMessage().isprintable() for record in logged)

    @pytest.mark.parametrize(
        "query", ["next=\xff", "next=%ff", "next=/%00", "\xff=\xff", "again=\xff", "%", "&&&", "=", "next"]
    )
    def test_invalid_bytes_in_the_query_of_the_start_are_no_internal_error(self, application: Any, query: str):
        assert send(application, "/", query=query, headers=HTML).status_code in {302, 400}

    @pytest.mark.parametrize(
        "path", ["/\xff", "/%00", "/callback\x00", "/profile\n", "/\xed\xa0\x80", "/..", "/\x1b[31m", "x"]
    )
    def test_invalid_bytes_in_the_path_are_no_internal_error(self, application: Any, path: str):
        assert send(application, path, headers=HTML).status_code in {400, 404}

    @pytest.mark.parametrize("length", [1000, 8192])
    def test_long_code_is_sent_unchanged(self, browser: Browser, provider: LocalProvider, length: int):
        """The provider decides whether a code is valid, and some providers issue long ones."""
        response = browser.get(changed(browser.callback_url(), code="x" * length), headers=JSON)
        assert (response.status_int, response.json["error"]) == (400, "code_refused")
        assert token_form(provider)["code"] == "x" * length

    def test_code_of_all_printable_characters_is_sent_unchanged(self, browser: Browser, provider: LocalProvider):
        """RFC 6749 A.11: %x20-7E."""
        code = "".join(map(chr, range(0x20, 0x7F)))
        browser.get(changed(browser.callback_url(), code=code))
        assert token_form(provider)["code"] == code


class TestSuccess:
    """S17."""

    @pytest.mark.parametrize("next_url", [None, "/somewhere?q=1"])
    def test_redirects_to_a_url_without_code_and_state(self, browser: Browser, next_url: str | None):
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
    """Codes, like states, are used once."""

    def test_used_code_is_refused_with_a_new_state(self, browser: Browser, provider: LocalProvider):
        """RFC 6749 4.1.2: the provider refuses it."""
        used = browser.callback_url()
        browser.get(used)
        again = changed(browser.callback_url(), code=parameters(used)["code"])
        assert_refused(browser.get(again), provider, asked=2)


class TestBookmarkOfTheProvidersPage:
    """Its state is used or unknown, so each sign-in from it fails (S1)."""

    def test_is_named_on_the_page_as_a_possible_cause(self, browser: Browser):
        page = browser.get("/callback?code=x&state=of-last-week", headers=HTML)
        assert page.status_int == 400
        assert "not a bookmark of the sign-in page" in page.text


class TestUnknownState:
    """The log tells the operator the cause that the browser's cookies reveal."""

    def logged(self, browser: Browser, callback: str, cookie: str, caplog: pytest.LogCaptureFixture) -> str:
        headers = {**HTML, **({"Cookie": cookie} if cookie else {})}
        response = send(browser.app.app, "/callback", query=urlsplit(callback).query, headers=headers)
        assert response.status_code == 400
        return caplog.text

    def test_without_any_cookie(self, browser: Browser, caplog: pytest.LogCaptureFixture):
        said = self.logged(browser, browser.callback_url(), "", caplog)
        assert "the browser sent no cookie of this application: it blocks cookies, or the user has bookmarked" in said

    @pytest.mark.parametrize("header", ["theme=dark,{}", "{}, theme=dark", "a=1; {},b=2; c=3"])
    def test_with_cookies_that_a_proxy_has_split(self, browser: Browser, header: str, caplog: pytest.LogCaptureFixture):
        """S39: the comma is no separator, because the value of another host's cookie may contain it."""
        callback = browser.callback_url()
        said = self.logged(browser, callback, header.format(browser.cookie_header), caplog)
        assert "a proxy sends each cookie in a header of its own" in said

    def test_with_the_cookie_of_another_store(self, browser: Browser, store: SessionStore, caplog: Any):
        callback, cookie = browser.callback_url(), browser.cookie_header
        for key in list(store.keys()):
            store.delete(key)
        said = self.logged(browser, callback, cookie, caplog)
        assert "the session store does not know it: another worker or machine may use another store" in said

    def test_with_the_cookie_of_another_sign_in(self, browser: Browser, make_browser: Any, caplog: Any):
        callback = browser.callback_url()
        other = make_browser()
        other.callback_url()
        said = self.logged(browser, callback, other.cookie_header, caplog)
        assert "the browser has cookies of this application, but none of this sign-in" in said
