"""Refresh of expired tokens: once for all concurrent requests, and without a sign-out during an outage."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import (
    WORKERS,
    Barrier,
    Browser,
    Gunicorn,
    Site,
    Visitor,
    at_the_same_time,
    environ_for,
    parameters,
    stored_sessions,
)
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from werkzeug import Response

from wsgi_oauth import Config, FileStore, RequestHandler, SessionStore, create_app, errors
from wsgi_oauth.demo.fault_injection import Fault, FaultContext
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.oauth import client, refresh
from wsgi_oauth.oauth.token import NEW_FOR
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.sessions.store import MAX_BYTES

HOUR = 3600


def token_of(store: SessionStore) -> dict[str, Any]:
    [session] = stored_sessions(store)
    token: dict[str, Any] = session["oauth_token"]
    return token


# One request


def test_expired_token_is_refreshed_and_stored(
    provider: LocalProvider, store: SessionStore, browser: Browser, later: Callable[[float], None]
) -> None:
    browser.sign_in()
    cookie, before = browser.cookie, token_of(store)
    later(HOUR)
    provider.faults.add("token.expires_at")
    assert browser.profile().json["login"] == "octocat"
    after = token_of(store)
    assert before["access_token"] != after["access_token"]
    assert before["refresh_token"] != after["refresh_token"]
    assert after["expires_at"] == pytest.approx(time.time() + HOUR, abs=60)  # S21: from the local clock
    assert browser.cookie == cookie
    assert provider.count("refresh") == 1


def test_refreshed_token_is_used_until_it_expires(
    provider: LocalProvider, browser: Browser, later: Callable[[float], None]
) -> None:
    browser.sign_in()
    for refreshes in (1, 2, 3):
        later(HOUR)
        assert {browser.profile().status_int for _ in range(3)} == {200}
        assert provider.count("refresh") == refreshes


def test_token_is_refreshed_a_few_seconds_before_it_expires(
    provider: LocalProvider, browser: Browser, later: Callable[[float], None]
) -> None:
    """Otherwise it could expire on the way to the provider."""
    browser.sign_in()
    later(HOUR - 5)
    assert browser.profile().status_int == 200
    assert provider.count("refresh") == 1


def test_token_that_expires_between_two_looks_at_the_clock_ends_no_session(
    provider: LocalProvider, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.sign_in()
    results = iter([False])  # and True from the second call on
    monkeypatch.setattr(client, "has_expired", lambda token: next(results, True))
    assert browser.profile().json["login"] == "octocat"
    assert provider.count("refresh") == 0


def test_refresh_request_is_authenticated_and_has_no_scope(
    provider: LocalProvider, browser: Browser, later: Callable[[float], None]
) -> None:
    """RFC 6749 6."""
    browser.sign_in()
    later(HOUR)
    browser.profile()
    [refresh] = [exchange for exchange in provider.exchanges if "grant_type=refresh_token" in exchange.body]
    assert refresh.headers["Authorization"].startswith("Basic ")
    assert set(parameters(f"?{refresh.body}")) == {"grant_type", "refresh_token"}


def test_401_is_answered_with_one_refresh(provider: LocalProvider, browser: Browser) -> None:
    """S28: a provider can revoke a token before it expires."""
    browser.sign_in()
    provider.faults.add("profile.401")
    assert browser.profile().json["login"] == "octocat"
    assert (provider.count("refresh"), provider.count("profile")) == (1, 2)


@pytest.mark.parametrize(
    "refusal",
    [
        {"status": 400},
        {"status": 400, "response": '{"error": "invalid_token"}'},
        {"status": 403, "response": '{"error": "invalid_token"}'},
    ],
    ids=str,
)
def test_other_rejections_of_an_old_token_are_answered_with_one_refresh(
    provider: LocalProvider, browser: Browser, later: Callable[[float], None], refusal: dict[str, Any]
) -> None:
    """Some servers answer a request with an expired token like this, for example oidc-provider-mock."""
    answers = [Response(**refusal), None]
    honest = provider.profile
    provider.routes["/user"] = ("profile", {"GET": lambda request: answers.pop(0) or honest(request)})
    browser.sign_in()
    later(NEW_FOR + 1)
    assert browser.profile().json["login"] == "octocat"
    assert provider.count("refresh") == 1


def test_user_has_to_sign_in_again_if_the_refreshed_token_is_rejected(
    provider: LocalProvider, browser: Browser
) -> None:
    refusal = {"status": 403, "response": '{"error": "invalid_token"}'}
    provider.routes["/user"] = ("profile", {"GET": lambda request: Response(**refusal)})
    browser.sign_in()
    assert browser.profile().json["error"] == "token_rejected"
    assert (provider.count("refresh"), provider.count("profile")) == (1, 2)


def test_invalid_token_of_another_endpoint_is_not_the_access_token(
    provider: LocalProvider, make_browser: Callable[..., Browser]
) -> None:
    """For example a token of an invitation: the request is not repeated, and the session stays."""

    class Invite(RequestHandler):
        route = "/invite"

        def post(self, request: Any) -> Any:
            answer = self.oauth2_session().post(f"{provider.url}/invitations", json={"token": "stale"})
            return self.jsonify({"status": answer.status_code})

        def get(self, request: Any) -> Any:
            return self.jsonify(self.oauth2_session().get_json(f"{provider.url}/invitations"))

    def refuse(request: Any) -> Response:
        asked.append(request.method)
        return Response('{"error": "invalid_token"}', 400)

    asked: list[str] = []
    provider.routes["/invitations"] = ("invitations", {"POST": refuse, "GET": refuse})
    browser = make_browser(handlers=(Invite,))
    browser.sign_in()
    assert browser.post("/invite").json == {"status": 400}
    assert browser.get("/invite").status_int == 502
    assert (asked, provider.count("refresh")) == (["POST", "GET"], 0)
    assert browser.profile().status_int == 200


def test_400_without_a_reason_after_a_refresh_is_a_provider_fault_and_ends_no_session(
    provider: LocalProvider, browser: Browser, later: Callable[[float], None]
) -> None:
    browser.sign_in()
    later(HOUR)
    provider.faults.add("profile.400")
    assert browser.profile().status_int == 502
    assert (provider.count("refresh"), provider.count("profile")) == (1, 1)
    provider.faults.add("profile.400")
    assert browser.profile().status_int == 502  # also in the next request, which finds a new token
    assert browser.profile().json["login"] == "octocat"
    assert provider.count("refresh") == 1


def test_400_without_a_reason_for_an_old_token_is_answered_with_one_refresh(
    provider: LocalProvider, browser: Browser, later: Callable[[float], None]
) -> None:
    provider.routes["/user"] = ("profile", {"GET": lambda request: Response(status=400)})
    browser.sign_in()
    later(NEW_FOR + 1)
    assert browser.profile().status_int == 502
    assert (provider.count("refresh"), provider.count("profile")) == (1, 2)


def test_400_with_another_reason_does_not_cause_a_refresh(provider: LocalProvider, browser: Browser) -> None:
    reason = {"WWW-Authenticate": 'Bearer error="invalid_request"'}
    provider.routes["/user"] = ("profile", {"GET": lambda request: Response(status=400, headers=reason)})
    browser.sign_in()
    browser.profile()
    assert provider.count("refresh") == 0


def test_user_has_to_sign_in_again_if_the_refreshed_token_gets_a_401(
    provider: LocalProvider, store: SessionStore, browser: Browser
) -> None:
    browser.sign_in()
    provider.faults.add("profile.401", times=None)
    answer = browser.get("/profile?tab=2")
    assert parameters(answer.location)["next"] == "/profile?tab=2"
    assert (provider.count("refresh"), provider.count("profile")) == (1, 2)
    assert stored_sessions(store) == []


def test_refresh_token_stays_if_the_response_has_none(
    store: SessionStore, make_browser: Callable[..., Browser], provider: LocalProvider, later: Callable[[float], None]
) -> None:
    """S31; RFC 6749 6."""
    browser = make_browser()
    browser.sign_in()
    before = token_of(store)
    later(HOUR)
    provider.faults.add("token.refresh_token_missing")
    assert browser.profile().status_int == 200
    assert token_of(store)["refresh_token"] == before["refresh_token"]


def test_granted_scope_stays_if_the_response_has_none(
    provider: LocalProvider, store: SessionStore, browser: Browser, later: Callable[[float], None]
) -> None:
    provider.faults.add("token.scope_smaller")
    browser.sign_in()
    assert token_of(store)["scope"] == "profile"
    later(HOUR)
    provider.faults.add("token.scope_missing")
    assert browser.profile().status_int == 200
    assert token_of(store)["scope"] == "profile"


# Failures


@pytest.mark.parametrize(
    "fault",
    ["refresh.invalid_grant", "token.error_200", "token.invalid_grant_403", "token.empty_400", "token.problem_400"],
)
def test_refused_refresh_ends_the_session_and_the_sign_in_returns_to_the_page(
    fault: str, provider: LocalProvider, store: SessionStore, browser: Browser, later: Callable[[float], None]
) -> None:
    browser.sign_in()
    later(HOUR)
    provider.faults.add(fault)
    answer = browser.get("/profile?tab=2")
    assert answer.status_int == 302
    assert stored_sessions(store) == []
    back = browser.get(browser.consent(browser.get(answer.location).location))
    assert (back.status_int, back.location) == (303, "/profile?tab=2")
    assert browser.profile().json["login"] == "octocat"


OUTAGES = {
    "refresh.503": 502,
    "refresh.slow": 504,
    "token.500": 502,
    "token.hang_up": 502,
    "token.html_200": 502,
    "token.malformed_json": 502,
    "token.redirect_307": 502,
    "token.dribble_body": 504,
    "token.access_token_missing": 502,
}


@pytest.mark.parametrize("fault", OUTAGES)
def test_session_stays_during_an_outage(
    fault: str,
    provider: LocalProvider,
    store: SessionStore,
    make_browser: Callable[..., Browser],
    later: Callable[[float], None],
) -> None:
    """S31."""
    browser = make_browser()
    browser.sign_in()
    impatient = make_browser(UPSTREAM_TIMEOUT="1" if OUTAGES[fault] == 504 else "10").share_cookies(browser)
    cookie, before = browser.cookie, token_of(store)
    later(HOUR)
    provider.faults.add(fault)
    assert impatient.profile().status_int == OUTAGES[fault]
    assert (browser.cookie, token_of(store)) == (cookie, before)
    if fault != "token.access_token_missing":  # because the rotated refresh token is lost
        assert browser.profile().json["login"] == "octocat"


def answer_refreshes(provider: LocalProvider, *answers: Response) -> None:
    """Let the token endpoint give these responses, one after the other, to requests after the sign-in."""
    for number, answer in enumerate(answers):
        fault = Fault(f"token.answer_{number}", "", lambda _, answer=answer: answer)
        provider.faults.register(fault)
        provider.faults.add(fault.name)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"errcode": 40030, "errmsg": "invalid refresh_token"}', 200),  # WeChat
        ('{"ok": false, "error": "invalid_refresh_token"}', 200),  # Slack
        ('{"error": {"code": 100, "type": "OAuthException"}}', 200),
        ('{"success": false}', 200),
        ('{"error": "invalid_grant: Token is expired or invalid."}', 400),  # EVE Online
        ("error=bad_refresh_token&error_description=Expired", 400),
        ("<h1>Forbidden</h1>", 403),
        # Atlassian: https://github.com/raycast/extensions/issues/11836
        ('{"error": "unauthorized_client", "error_description": "refresh_token is invalid"}', 403),
        # Gitea and Forgejo, for an expired one, and for one that was used
        ('{"error": "unauthorized_client", "error_description": "unable to parse refresh token"}', 400),
        ('{"error": "unauthorized_client", "error_description": "token was already used"}', 400),
    ],
)
def test_refusal_in_another_wording_ends_the_session(
    body: str, status: int, provider: LocalProvider, browser: Browser, later: Callable[[float], None]
) -> None:
    """S31: otherwise each later page would be an error."""
    browser.sign_in()
    later(HOUR)
    answer_refreshes(provider, Response(body, status))
    assert browser.profile().json["error"] == "token_rejected"
    assert browser.profile().json["error"] == "not_signed_in"


def test_page_of_a_firewall_ends_the_session_after_a_day(
    provider: LocalProvider, make_browser: Callable[..., Browser], later: Callable[[float], None]
) -> None:
    browser = make_browser(SESSION_IDLE="48h")
    browser.sign_in()
    answer_refreshes(provider, *[Response("<h1>Forbidden</h1>", 403, content_type="text/html")] * 3)
    later(24 * HOUR)
    assert browser.profile().status_int == 502
    later(26 * HOUR)
    assert browser.profile().json["error"] == "token_rejected"


@pytest.mark.parametrize(
    "answer",
    [
        Response('{"error": "temporarily_unavailable"}', 400),
        Response('{"ok": false, "error": "ratelimited"}'),
        Response('{"message": "Too many requests"}', 403, {"Retry-After": "30"}),
        Response("<h1>Sign in to the network of this hotel</h1>"),
        Response("<h1>Forbidden</h1>", 403, content_type="text/html"),  # a firewall
        Response("<title>Just a moment...</title>", 403, {"cf-mitigated": "challenge"}),  # a firewall
        Response("{}"),
        Response("", 429),
    ],
    ids=lambda answer: f"{answer.status_code} {answer.get_data(as_text=True)[:40]}",
)
def test_temporary_failure_of_a_refresh_keeps_the_session(
    answer: Response, provider: LocalProvider, browser: Browser, later: Callable[[float], None]
) -> None:
    """S31."""
    browser.sign_in()
    later(HOUR)
    answer_refreshes(provider, answer)
    assert browser.profile().status_int in {429, 502, 503}
    assert browser.profile().json["login"] == "octocat"


def test_token_that_expires_before_it_could_be_used_ends_no_session(
    provider: LocalProvider, browser: Browser, later: Callable[[float], None]
) -> None:
    """For example on a slow network, or on a machine that was suspended."""

    def arrive_late(_: FaultContext) -> Response:
        later(HOUR)
        return Response("", 401)

    provider.faults.register(Fault("profile.late", "", arrive_late))
    browser.sign_in()
    later(HOUR)
    provider.faults.add("profile.late")
    assert browser.profile().status_int == 502
    assert browser.profile().json["login"] == "octocat"
    assert provider.count("refresh") == 2


def test_token_of_another_request_that_has_expired_meanwhile_is_refreshed(
    provider: LocalProvider, store: SessionStore, browser: Browser, later: Callable[[float], None]
) -> None:
    """This request was suspended between reading the session and the refresh."""

    class Late(RequestHandler):
        route = "/late"

        def get(self, request: Any) -> Any:
            client = self.oauth2_session()
            later(HOUR)
            assert other.profile().status_int == 200  # refreshes
            later(HOUR)
            return self.jsonify(client.get_user_document())

    app = create_app(Config.from_environ(environ_for(provider)), store=store, handlers=(Late,))
    suspended, other = Browser(app, provider), Browser(app, provider)
    suspended.sign_in()
    other.app.set_cookie("wsgi_oauth", suspended.cookie)
    assert suspended.get("/late").json["login"] == "octocat"
    assert provider.count("refresh") == 2


@pytest.mark.parametrize("newest", [{}, {"oauth_token": {}}, {"oauth_token": {"access_token": "new"}}])
def test_token_that_another_request_has_replaced_is_not_refreshed_again(newest: dict[str, Any]) -> None:
    """S31: the rotated refresh token was used. A second use would look like a theft to the provider."""
    stale = {"access_token": "old"}
    data = dict(newest)
    assert not refresh.acquire_lease(data, stale=stale, new_owner="me", expired_owner="")
    assert data == newest
    assert refresh.acquire_lease({"oauth_token": stale}, stale=stale, new_owner="me", expired_owner="")


def test_refused_client_does_not_end_the_session(
    provider: LocalProvider, store: SessionStore, browser: Browser, later: Callable[[float], None]
) -> None:
    browser.sign_in()
    later(HOUR)
    provider.faults.add("token.invalid_client_401")
    answer = browser.profile()
    assert (answer.status_int, answer.json["error"]) == (502, "client_refused")
    assert token_of(store)
    assert browser.profile().json["login"] == "octocat"


@pytest.mark.parametrize(
    "error",
    [
        {"error": "unauthorized_client"},
        {  # Auth0
            "error": "unauthorized_client",
            "error_description": "Grant type 'refresh_token' not allowed for the client.",
        },
        {"error": "invalid_client", "error_description": "JWT token is expired"},  # a client assertion
    ],
    ids=str,
)
def test_client_that_may_not_refresh_tokens_is_the_cause_in_the_log(
    error: dict[str, str], provider: LocalProvider, browser: Browser, later: Callable[[float], None]
) -> None:
    browser.sign_in()
    later(HOUR)
    answer_refreshes(provider, Response(json.dumps(error), 400))
    assert browser.profile().json["error"] == "client_refused"


def test_user_has_to_sign_in_again_without_a_refresh_token(
    provider: LocalProvider, browser: Browser, later: Callable[[float], None]
) -> None:
    provider.faults.add("token.refresh_token_missing")
    browser.sign_in()
    later(HOUR)
    assert browser.profile().json["error"] == "token_rejected"
    assert provider.count("refresh") == 0


def test_token_that_cannot_be_stored_is_not_used_and_a_new_sign_in_works(
    provider: LocalProvider,
    store: SessionStore,
    browser: Browser,
    later: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S31: a token is saved before it is used. S32: the stored refresh token has been rotated."""
    browser.sign_in()
    later(HOUR)
    update = store.update

    def fails_at_the_token(*args: Any, **kwargs: Any) -> bool:
        if provider.count("refresh"):
            raise errors.StoreError("no space left")
        return update(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(store, "update", fails_at_the_token)
        assert browser.profile().status_int == 503
    assert provider.count("profile") == 0

    later(600)  # now the lease has expired, in spite of clock skew
    answer = browser.get("/profile")
    assert answer.status_int == 302
    browser.get(browser.consent(browser.get(answer.location).location))
    assert browser.profile().json["login"] == "octocat"


# Concurrent requests


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def together(browser: Browser, count: int) -> list[Any]:
    """Request the profile *count* times at the same time, with the cookie of one browser."""
    barrier = threading.Barrier(count)
    cookie = f"wsgi_oauth={browser.cookie}"
    application = browser.app.app

    def ask(_: int) -> Any:
        twin = Browser(application, browser.provider)
        barrier.wait(30)
        return twin.get("/profile", headers={"Accept": "application/json", "Cookie": cookie})

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(ask, range(count)))


class TestWithEveryStore:
    @pytest.fixture
    def store(self, every_store: SessionStore) -> SessionStore:
        return every_store

    def test_one_of_many_concurrent_requests_refreshes(
        self, provider: LocalProvider, make_browser: Callable[..., Browser], later: Callable[[float], None]
    ) -> None:
        """S31. The provider revokes the grant when a refresh token is used twice (RFC 9700 4.14.2)."""
        browser = make_browser(UPSTREAM_LIMIT="16")
        browser.sign_in()
        later(HOUR)
        assert [answer.status_int for answer in together(browser, 16)] == [200] * 16
        assert provider.count("refresh") == 1


def test_refresh_that_returns_the_same_access_token_happens_once(
    provider: LocalProvider,
    store: SessionStore,
    browser: Browser,
    later: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S31: only the expiry and the refresh token change."""
    browser.sign_in()
    before = token_of(store)
    later(HOUR)
    all_wait, check = threading.Semaphore(0), refresh.check_result
    token = provider.routes["/token"][1]["POST"]

    def watched(lease: dict[str, Any], owner: str) -> None:
        check(lease, owner)
        if lease.get("by"):
            all_wait.release()

    def same_again(request: Any) -> Response:
        assert all_wait.acquire(timeout=30)
        answer = {**token(request).get_json(), "access_token": before["access_token"]}
        return Response(json.dumps(answer), mimetype="application/json")

    monkeypatch.setattr(refresh, "check_result", watched)
    provider.routes["/token"] = ("token", {"POST": same_again})
    provider.routes["/user"] = ("profile", {"GET": lambda _: Response(json.dumps(dict(provider.user)))})
    assert [answer.status_int for answer in together(browser, 2)] == [200, 200]
    assert provider.count("refresh") == 1
    assert token_of(store)["refresh_token"] != before["refresh_token"]


def test_rejection_of_a_token_that_was_replaced_meanwhile_does_not_end_the_session(
    provider: LocalProvider, browser: Browser, later: Callable[[float], None]
) -> None:
    """The slower of two requests is rejected with the previous token."""
    browser.sign_in()
    twin = {"Accept": "application/json", "Cookie": f"wsgi_oauth={browser.cookie}"}
    others: list[int] = []

    def let_another_refresh(context: FaultContext) -> Response:
        later(HOUR)
        others.append(Browser(browser.app.app, provider).get("/profile", headers=twin).status_int)
        return Response("", 401)

    refused, slow = (
        Fault("profile.refused", "", lambda _: Response("", 401)),
        Fault("profile.late", "", let_another_refresh),
    )
    provider.faults.register(refused, slow)
    provider.faults.add(refused.name)  # the first response, after which this request refreshes
    provider.faults.add(slow.name)  # the second response
    assert browser.profile().status_int == 502
    assert others == [200]
    assert browser.profile().status_int == 200


def test_user_has_to_sign_in_again_if_the_token_does_not_fit_into_the_session(
    provider: LocalProvider, store: SessionStore, make_browser: Callable[..., Browser], later: Callable[[float], None]
) -> None:
    """The old refresh token is used up, so it must not be sent again."""

    class Fill(RequestHandler):
        route = "/fill"

        def get(self, request: Any) -> Any:
            request.session["filling"] = "x" * int(request.args["size"])
            return self.jsonify({})

    browser = make_browser(handlers=(Fill,))
    browser.sign_in()
    assert (
        browser.get(f"/fill?size={MAX_BYTES}", headers={"Accept": "application/json"}).json["error"]
        == "session_too_large"
    )
    assert browser.get(f"/fill?size={MAX_BYTES - 2500}").status_int == 200
    huge = Fault("token.huge", "", lambda _: Response(json.dumps({"access_token": "x" * 9000, "token_type": "bearer"})))
    provider.faults.register(huge)
    provider.faults.add(huge.name)
    later(HOUR)
    answer = browser.profile()
    assert (answer.status_int, answer.json["error"]) == (401, "token_rejected")
    assert stored_sessions(store) == []
    assert provider.count("refresh") == 1
    browser.sign_in()
    assert browser.profile().status_int == 200


OUTAGE = Response("busy", 503)
REFUSAL = Response('{"error": "invalid_grant"}', 400, content_type="application/json")


@pytest.mark.parametrize(
    ("answer", "status", "then"), [(OUTAGE, 502, 200), (REFUSAL, 401, 401)], ids=["outage", "refusal"]
)
def test_waiting_requests_share_the_failure_of_the_refresh(
    *,
    answer: Response,
    status: int,
    then: int,
    provider: LocalProvider,
    store: SessionStore,
    browser: Browser,
    barrier: Callable[[str], Barrier],
    later: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise each of them would wait for the provider, and send a refused refresh token again."""
    browser.sign_in()
    later(HOUR)
    load, loads = store.load, Counter[int]()

    def counted(key: str) -> bytes | None:
        loads[threading.get_ident()] += 1
        return load(key)

    monkeypatch.setattr(store, "load", counted)
    waiting = barrier("refresh")
    waiting.answer = answer
    with ThreadPoolExecutor(1) as thread:
        answers = thread.submit(together, browser, 8)
        waiting.wait_for(1)
        # The other seven requests wait for the lease, because each thread has loaded the session more than nine times.
        wait_until(lambda: sum(times > 9 for times in loads.values()) == 7)
        waiting.open()
        assert [each.status_int for each in answers.result()] == [status] * 8
    assert provider.count("refresh") == 1
    provider.faults.clear()
    assert browser.profile().status_int == then


def test_session_that_ends_during_a_refresh_stays_ended(
    store: SessionStore, browser: Browser, barrier: Callable[[str], Barrier], later: Callable[[float], None]
) -> None:
    """S42."""
    browser.sign_in()
    later(HOUR)
    waiting = barrier("refresh")
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(together, browser, 1)
        waiting.wait_for(1)
        assert browser.post("/logout").status_int == 303
        waiting.open()
        assert [each.status_int for each in answer.result()] == [401]
    assert stored_sessions(store) == []


def test_sign_in_as_another_user_during_a_refresh_stays(
    provider: LocalProvider,
    make_browser: Callable[..., Browser],
    barrier: Callable[[str], Barrier],
    later: Callable[[float], None],
) -> None:
    """The response for the old session arrives last, and must not change the cookie."""
    browser, other_tab = make_browser(), make_browser()
    browser.sign_in()
    other_tab.app.set_cookie("wsgi_oauth", browser.cookie)
    later(HOUR)
    waiting = barrier("refresh")
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(other_tab.profile)
        waiting.wait_for(1)
        provider.user = {**provider.user, "id": 7, "login": "hubot"}
        browser.sign_in()
        waiting.open()
        assert answer.result().status_int == 401
    assert "Set-Cookie" not in answer.result().headers


def test_lease_of_a_request_that_has_crashed_long_ago_is_not_waited_for(
    store: SessionStore, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.sign_in()
    session_id = browser.cookie or ""
    sessions = SessionManager(store, idle=12 * HOUR, lifetime=24 * HOUR)
    session = Session(sessions, sessions.read(session_id), session_id)
    session.change(lambda data: data.update(oauth_refresh={"by": "a dead process", "at": time.time() - HOUR}))
    fresh = {**session["oauth_token"], "access_token": "fresh"}
    monkeypatch.setattr(refresh, "poll", lambda _timeout: [0.0])  # a single attempt
    assert refresh.refresh_once(session, session["oauth_token"], lambda: fresh, timeout=10) == fresh


def test_lease_from_the_future_expires(store: SessionStore, browser: Browser, later: Callable[[float], None]) -> None:
    """S31: the clock was an hour ahead when a process got the lease and was killed."""
    browser.sign_in()
    later(2 * HOUR)
    sessions = SessionManager(store, idle=12 * HOUR, lifetime=24 * HOUR)
    session = Session(sessions, sessions.read(browser.cookie or ""), browser.cookie)
    session.change(lambda data: data.update(oauth_refresh={"by": "a dead process", "at": time.time()}))
    later(-HOUR)
    fresh = {**session["oauth_token"], "access_token": "fresh"}
    assert refresh.refresh_once(session, session["oauth_token"], lambda: fresh, timeout=0.1) == fresh


def test_clock_that_jumps_during_a_refresh_does_not_cause_a_second_one(
    provider: LocalProvider, browser: Browser, barrier: Callable[[str], Barrier], later: Callable[[float], None]
) -> None:
    """S31. The clocks of two machines can differ as well."""
    browser.sign_in()
    later(HOUR)
    waiting = barrier("refresh")
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(together, browser, 1)
        waiting.wait_for(1)
        later(60)
        second = threads.submit(together, browser, 1)
        with suppress(FutureTimeoutError):
            second.result(1)  # it waits, or has wrongly started a refresh
        waiting.open()
        assert [answer.status_int for answer in first.result() + second.result()] == [200, 200]
    assert provider.count("refresh") == 1


def test_other_changes_of_the_session_are_kept_with_a_refresh(
    provider: LocalProvider, store: SessionStore, browser: Browser, later: Callable[[float], None]
) -> None:
    browser.sign_in()
    [before] = stored_sessions(store)
    later(HOUR)
    assert browser.profile().status_int == 200
    [after] = stored_sessions(store)
    assert after["oauth_token"] != before["oauth_token"]
    assert after["oauth_state"] == before["oauth_state"]


# Several workers


class Persistent(Visitor):
    """A visitor that repeats a request when the connection breaks, as browsers do with a GET."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.web.mount("http://", HTTPAdapter(max_retries=Retry(connect=5, read=5, backoff_factor=0.1)))


def expire(site: Site, visitor: Visitor) -> None:
    """Let the token in the visitor's session expire."""
    sessions = SessionManager(FileStore(site.sessions), idle=HOUR, lifetime=HOUR)
    session = Session(sessions, sessions.read(visitor.cookie or ""), visitor.cookie)
    session.change(lambda data: data["oauth_token"].update(expires_at=time.time() - 1))


def profiles(site: Site, server: Gunicorn, visitor: Visitor, count: int) -> list[requests.Response]:
    """Request the profile *count* times at the same time, on separate connections, with the cookie of one browser."""
    twins = [Persistent(server.url, site.provider) for _ in range(count)]
    for twin in twins:
        twin.web.cookies.update(visitor.web.cookies)
    return at_the_same_time(Persistent.profile, [(twin,) for twin in twins])


FOUR_WORKERS = ("--workers", "4", *WORKERS["gthread"])


def test_one_of_32_requests_to_four_workers_refreshes(site: Site) -> None:
    """S31."""
    with site.serve(*FOUR_WORKERS) as server, site.visitor(server) as visitor:
        visitor.sign_in()
        for refreshes in (1, 2):
            expire(site, visitor)
            answers = profiles(site, server, visitor, 32)
            assert [answer.status_code for answer in answers] == [200] * 32
            assert site.provider.count("refresh") == refreshes


def test_another_worker_takes_over_the_lease_of_a_killed_worker(site: Site, barrier: Callable[[str], Barrier]) -> None:
    """S31, S60. The provider has not answered, and so has not rotated the refresh token."""
    with site.serve(*FOUR_WORKERS, UPSTREAM_TIMEOUT="2") as server, site.visitor(server) as visitor:
        visitor.sign_in()
        expire(site, visitor)
        waiting = barrier("refresh")
        with ThreadPoolExecutor(1) as thread:
            answers = thread.submit(profiles, site, server, visitor, 32)
            waiting.wait_for(1)
            os.kill(owner_of_connection(server, waiting.ports[0], site.provider.server.port), signal.SIGKILL)
            site.provider.faults.clear()
            assert [answer.status_code for answer in answers.result()] == [200] * 32
        assert site.provider.count("refresh") == 2


def owner_of_connection(server: Gunicorn, source: int, target: int) -> int:
    """Return the worker of *server* that connected from one port to the other (proc(5)).

    It has to be quick, because the connection has a deadline. Reading the files of all processes can take seconds.
    """
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = [f":{source:04X}", f":{target:04X}"]
    [inode] = [fields[9] for fields in lines if [address[-5:] for address in fields[1:3]] == ports]
    for worker in re.findall(r"Booting worker with pid: (\d+)", server.log.read_text()):
        for descriptor in Path(f"/proc/{worker}/fd").iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) == f"socket:[{inode}]":
                    return int(worker)
    raise AssertionError(f"no worker is connected from port {source}")
