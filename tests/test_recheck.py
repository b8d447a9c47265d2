"""Rechecks: sessions lose access with the account at the provider, and keep it during an outage."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import JSON, WORKERS, Barrier, Browser, Site, Visitor, at_the_same_time, environ_for, stored_sessions
from openid import HOUR, Issuer, config_for
from webtest import TestResponse
from werkzeug import Response

from wsgi_oauth import (
    Config,
    FileStore,
    LoginRequired,
    RequestHandler,
    SessionStore,
    create_app,
    current_identity,
    errors,
)
from wsgi_oauth.demo.fault_injection import Fault
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.session import Session

MINUTE = 60


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer(expires_in=6 * HOUR)
    issuer.user = {**issuer.user, "groups": ["staff"]}
    with serve_provider(issuer):
        yield issuer


def show_groups(environ: Any, start_response: Any) -> Any:
    """The protected application: it responds with the groups of the user."""
    identity = current_identity(environ)
    groups = json.dumps(identity and list(identity.groups))
    return Response(groups, mimetype="application/json")(environ, start_response)


class Groups(RequestHandler):
    route = "/groups"

    def get(self, request: Any) -> Response:
        return self.jsonify(list(self.identity.groups))


class Secret(RequestHandler):
    """A handler that needs a signed-in user, but no data about the user."""

    route = "/secret"

    def get(self, request: Any) -> Response:
        return self.jsonify("secret" if request.session["oauth_token"] else "")


class Guest(Browser):
    """A browser for the gate around ``show_groups``."""

    def groups(self, path: str = "/page") -> Any:
        """Return the groups that the application shows."""
        answer = self.get(path)
        assert answer.status_int == 200, answer
        return answer.json

    def sign_in_at_the_gate(self) -> None:
        started = self.get("/auth/?next=/page")
        assert self.get(self.consent(started.location)).status_int == 303


@pytest.fixture
def make_guest(issuer: Issuer, store: SessionStore) -> Callable[..., Guest]:
    """Make a browser for a gate with *settings*, and sign in."""

    def make(**settings: str) -> Guest:
        oauth_app = create_app(config_for(issuer, **settings), store=store)
        guest = Guest(LoginRequired(show_groups, oauth_app, public=["/public"]), issuer)
        guest.sign_in_at_the_gate()
        assert guest.groups() == ["staff"]
        return guest

    return make


@pytest.fixture
def make_browser(issuer: Issuer, store: SessionStore) -> Callable[..., Browser]:
    """Make a browser for handlers of one's own, and sign in."""

    def make(**settings: str) -> Browser:
        browser = Browser(create_app(config_for(issuer, **settings), store=store, handlers=[Groups, Secret]), issuer)
        browser.sign_in()
        return browser

    return make


def is_sign_in(answer: TestResponse) -> bool:
    """Return whether *answer* redirects to the sign-in."""
    return answer.status_int == 302 and "next=" in answer.location


def disable_account(issuer: Issuer) -> None:
    """Let the provider refuse the user's tokens, as after an administrator has disabled the account."""
    for fault in (
        Fault("token.disabled", "", lambda _: Response('{"error": "invalid_grant"}', 400)),
        Fault("profile.disabled", "", lambda _: Response('{"error": "invalid_token"}', 401)),
    ):
        issuer.faults.register(fault)
        issuer.faults.add(fault.name, times=None)


def block_account(issuer: Issuer, body: str, status: int, headers: dict[str, str] | None = None) -> None:
    """Let the provider refuse the user document with this answer, although it still refreshes the user's token."""
    fault = Fault("profile.blocked", "", lambda _: Response(body, status, headers))
    issuer.faults.register(fault)
    issuer.faults.add(fault.name, times=None)


def stop_answering(issuer: Issuer) -> None:
    for endpoint in ("token", "profile"):
        fault = Fault(f"{endpoint}.outage", "", lambda _: Response("maintenance", 503))
        issuer.faults.register(fault)
        issuer.faults.add(fault.name, times=None)


def asked(issuer: Issuer) -> tuple[int, int]:
    """Return how many refreshes and user documents were requested."""
    return issuer.count("refresh"), issuer.count("profile")


def change_session(store: SessionStore, cookie: str | None, change: Callable[[dict[str, Any]], object]) -> None:
    sessions = SessionManager(store, idle=12 * HOUR, lifetime=168 * HOUR)
    session = Session(sessions, sessions.read(cookie or ""), cookie)
    session.change(lambda data: change(data) and None)


class TestCurrentIdentity:
    def test_is_asked_for_again_after_an_hour(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        guest = make_guest()
        issuer.user = {**issuer.user, "groups": ["board"]}
        later(HOUR - 10)
        assert guest.groups() == ["staff"]
        later(20)
        assert guest.groups() == ["board"]

    def test_is_asked_for_with_a_refreshed_token(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        """Otherwise a provider that checks tokens by their signature would not notice that an account has ended."""
        guest = make_guest()
        before = asked(issuer)
        later(HOUR)
        assert {str(guest.groups()) for _ in range(3)} == {"['staff']"}
        assert asked(issuer) == (before[0] + 1, before[1] + 1)

    def test_comes_from_the_refreshed_id_token_without_a_user_document(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        issuer.metadata["userinfo_endpoint"] = None
        issuer.claims["groups"] = ["staff"]
        guest = make_guest()
        issuer.claims["groups"] = ["board"]
        later(HOUR)
        assert guest.groups() == ["board"]

    def test_is_asked_for_with_the_valid_token_if_the_client_may_not_refresh(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        guest = make_guest()
        refusal = Fault("token.refusal", "", lambda _: Response('{"error": "unauthorized_client"}', 400))
        issuer.faults.register(refusal)
        issuer.faults.add(refusal.name)
        issuer.user = {**issuer.user, "groups": ["board"]}
        later(HOUR)
        assert guest.groups() == ["board"]

    def test_is_asked_for_once_in_a_session_of_an_older_version(
        self, make_guest: Callable[..., Guest], issuer: Issuer, store: SessionStore
    ):
        """These sessions contain no time of the last check."""
        guest = make_guest()
        change_session(store, guest.cookie, lambda data: data.pop("oauth_recheck"))
        issuer.user = {**issuer.user, "groups": ["board"]}
        before = asked(issuer)
        assert [guest.groups() for _ in range(3)] == [["board"]] * 3
        assert asked(issuer)[1] == before[1] + 1

    def test_is_asked_for_after_a_sign_in_with_a_clock_that_was_ahead(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        """A machine without a battery for its clock may start with any time."""
        later(30 * 24 * HOUR)
        guest = make_guest()
        issuer.user = {**issuer.user, "groups": ["former"]}
        later(-30 * 24 * HOUR)
        assert guest.groups() == ["former"]
        issuer.user = {**issuer.user, "groups": ["staff"]}
        assert guest.groups() == ["former"]  # now with the right time

    def test_is_never_asked_for_again_if_rechecks_are_off(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        guest = make_guest(RECHECK="never", SESSION_IDLE="7d")
        before = asked(issuer)
        later(100 * HOUR)
        assert guest.groups() == ["staff"]
        assert asked(issuer) == before

    def test_follows_a_changed_setting_at_once(
        self, make_guest: Callable[..., Guest], issuer: Issuer, store: SessionStore, later: Callable[[float], None]
    ):
        guest = make_guest()
        issuer.user = {**issuer.user, "groups": ["board"]}
        later(10 * MINUTE)
        restarted = Guest(LoginRequired(show_groups, create_app(config_for(issuer, RECHECK="5m"), store=store)), issuer)
        restarted.app.set_cookie("wsgi_oauth", guest.cookie)
        assert restarted.groups() == ["board"]

    def test_is_updated_on_public_paths(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        guest = make_guest()
        issuer.user = {**issuer.user, "groups": ["board"]}
        later(HOUR)
        assert guest.groups("/public") == ["board"]

    def test_is_updated_by_a_script_on_a_public_path(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        guest = make_guest()
        issuer.user = {**issuer.user, "groups": ["board"]}
        later(HOUR)
        assert guest.get("/public", headers={**JSON, "Sec-Fetch-Mode": "cors"}).json == ["board"]

    def test_is_asked_for_without_a_refresh_if_the_token_is_new(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        guest = make_guest(RECHECK="5s")
        before = asked(issuer)
        later(10)
        guest.groups()
        assert asked(issuer) == (before[0], before[1] + 1)

    @pytest.mark.parametrize("rules", [{}, {"ALLOW": "group:staff group:board"}], ids=["no rules", "rules"])
    def test_is_updated_for_own_handlers(
        self,
        make_browser: Callable[..., Browser],
        issuer: Issuer,
        later: Callable[[float], None],
        rules: dict[str, str],
    ):
        browser = make_browser(**rules)
        assert browser.get("/groups").json == ["staff"]
        issuer.user = {**issuer.user, "groups": ["board"]}
        later(HOUR)
        assert browser.get("/groups").json == ["board"]


class TestRefusal:
    """The provider no longer accepts the user."""

    def test_ends_the_session(
        self, make_guest: Callable[..., Guest], issuer: Issuer, store: SessionStore, later: Callable[[float], None]
    ):
        guest = make_guest()
        disable_account(issuer)
        later(HOUR)
        answer = guest.get("/page")
        assert is_sign_in(answer)
        assert "Max-Age=0" in answer.headers["Set-Cookie"]
        assert stored_sessions(store) == []

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (403, '{"message": "403 Forbidden - Your account has been blocked."}'),  # GitLab
            (403, '{"message": "Sorry. Your account was suspended."}'),  # GitHub
            (404, '{"error": "user_not_found"}'),
            (410, '{"error": {"code": 410, "message": "This user does not exist."}}'),
            (400, '{"error": "invalid_request", "error_description": "Inactive user"}'),
        ],
    )
    def test_of_an_account_ends_the_session_although_its_token_is_new(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None], status: int, body: str
    ):
        guest = make_guest()
        block_account(issuer, body, status)
        later(HOUR)
        assert is_sign_in(guest.get("/page"))
        assert issuer.count("refresh") == 1

    @pytest.mark.parametrize(("status", "headers"), [(403, {"Retry-After": "60"}), (500, {})])
    def test_is_not_assumed_if_the_provider_asks_to_wait_or_fails(
        self,
        make_guest: Callable[..., Guest],
        issuer: Issuer,
        later: Callable[[float], None],
        status: int,
        headers: dict[str, str],
    ):
        """Some providers say that an account is blocked for a while after too many requests."""
        guest = make_guest()
        block_account(issuer, '{"message": "Your account was suspended for a minute."}', status, headers)
        later(HOUR)
        assert guest.get("/page").status_int == 200

    def test_ends_the_session_if_there_is_no_refresh_token(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        issuer.faults.add("token.refresh_token_missing")
        guest = make_guest()
        disable_account(issuer)
        later(HOUR)
        assert is_sign_in(guest.get("/page"))

    def test_is_a_401_for_programs(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        guest = make_guest()
        disable_account(issuer)
        later(HOUR)
        answer = guest.get("/page", headers={**JSON, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"})
        assert (answer.status_int, answer.json["error"]) == (401, "token_rejected")

    def test_makes_the_user_anonymous_on_public_paths(
        self, make_guest: Callable[..., Guest], issuer: Issuer, store: SessionStore, later: Callable[[float], None]
    ):
        guest = make_guest()
        disable_account(issuer)
        later(HOUR)
        assert guest.groups("/public") is None
        assert stored_sessions(store) == []

    @pytest.mark.parametrize("path", ["/groups", "/secret"])
    def test_ends_the_session_of_own_handlers(
        self,
        make_browser: Callable[..., Browser],
        issuer: Issuer,
        store: SessionStore,
        later: Callable[[float], None],
        path: str,
    ):
        browser = make_browser()
        assert browser.get(path).status_int == 200
        disable_account(issuer)
        later(HOUR)
        assert is_sign_in(browser.get(path))
        assert stored_sessions(store) == []

    def test_is_assumed_if_the_provider_describes_another_user(
        self, make_guest: Callable[..., Guest], issuer: Issuer, store: SessionStore, later: Callable[[float], None]
    ):
        guest = make_guest()
        issuer.user = {**issuer.user, "sub": "lisa", "groups": ["board"]}
        later(HOUR)
        assert is_sign_in(guest.get("/page"))
        assert stored_sessions(store) == []

    def test_is_assumed_if_another_user_has_the_account_without_openid_connect(
        self, provider: LocalProvider, store: SessionStore, later: Callable[[float], None]
    ):
        config = Config.from_environ(environ_for(provider))
        browser = Browser(create_app(config, store=store, handlers=[Groups]), provider)
        browser.sign_in()
        assert browser.get("/groups").status_int == 200
        provider.user = {**provider.user, "id": 7}
        later(HOUR)
        assert is_sign_in(browser.get("/groups"))
        assert stored_sessions(store) == []

    def test_by_the_access_rules_keeps_the_session(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        """The page names the account, and lets the user choose another one."""
        guest = make_guest(ALLOW="group:staff")
        issuer.user = {**issuer.user, "groups": ["board"]}
        later(HOUR)
        assert [guest.get("/page").status_int for _ in range(2)] == [403, 403]
        issuer.user = {**issuer.user, "groups": ["staff"]}
        later(HOUR)
        assert guest.groups() == ["staff"]

    def test_of_a_token_that_was_refreshed_meanwhile_ends_no_session(
        self, make_guest: Callable[..., Guest], issuer: Issuer, store: SessionStore, later: Callable[[float], None]
    ):
        guest = make_guest()

        def refresh_elsewhere(_: Any) -> Response:
            change_session(store, guest.cookie, lambda data: data["oauth_token"].update(access_token="newer"))
            return Response("", 401)

        refused = Fault("profile.refused", "", refresh_elsewhere)
        issuer.faults.register(refused)
        issuer.faults.add(refused.name)
        later(HOUR)
        assert guest.groups() == ["staff"]


class TestOutage:
    """The provider, the store or this worker cannot do the recheck now."""

    def test_ends_no_session_and_the_recheck_is_repeated_after_a_minute(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        guest = make_guest()
        stop_answering(issuer)
        issuer.user = {**issuer.user, "groups": ["board"]}
        later(HOUR)
        assert guest.groups() == ["staff"]
        before = asked(issuer)
        later(MINUTE - 10)
        assert guest.groups() == ["staff"]
        assert asked(issuer) == before
        issuer.faults.clear()
        later(20)
        assert guest.groups() == ["board"]

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (403, "<h1>Your account has been blocked</h1>"),  # a page, perhaps of a proxy
            (403, '{"message": "Forbidden"}'),
            (404, '{"message": "Not Found"}'),
            (500, '{"message": "User not found"}'),
        ],
    )
    def test_is_any_answer_that_does_not_name_the_account(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None], status: int, body: str
    ):
        guest = make_guest()
        block_account(issuer, body, status)
        later(HOUR)
        assert guest.groups() == ["staff"]

    def test_is_a_challenge_of_a_firewall(
        self,
        make_guest: Callable[..., Guest],
        issuer: Issuer,
        store: SessionStore,
        later: Callable[[float], None],
    ):
        """Without a refresh token, another 403 without a reason would mean that the access token is invalid."""
        guest = make_guest(RECHECK="10m")
        change_session(store, guest.cookie, lambda data: data["oauth_token"].pop("refresh_token"))
        block_account(issuer, "<title>Just a moment...</title>", 403, {"cf-mitigated": "challenge"})
        later(10 * MINUTE)
        assert guest.groups() == ["staff"]

    def test_is_logged_with_its_cause(
        self,
        make_guest: Callable[..., Guest],
        issuer: Issuer,
        later: Callable[[float], None],
        caplog: pytest.LogCaptureFixture,
    ):
        guest = make_guest()
        stop_answering(issuer)
        later(HOUR)
        guest.groups()
        [line] = [each for each in caplog.messages if "recheck failed" in each]
        assert "status 503" in line

    def test_ends_no_session_of_own_handlers(
        self, make_browser: Callable[..., Browser], issuer: Issuer, later: Callable[[float], None]
    ):
        browser = make_browser()
        assert browser.get("/groups").json == ["staff"]
        stop_answering(issuer)
        later(HOUR)
        assert browser.get("/groups").json == ["staff"]
        assert browser.get("/secret").json == "secret"

    def test_of_the_store_fails_no_request(
        self,
        make_guest: Callable[..., Guest],
        issuer: Issuer,
        store: SessionStore,
        later: Callable[[float], None],
        monkeypatch: pytest.MonkeyPatch,
    ):
        """S76: the store is read-only."""
        guest = make_guest()

        def fail(*_: Any, **__: Any) -> None:
            raise errors.StoreError("read-only file system")

        before = asked(issuer)
        monkeypatch.setattr(store, "update", fail)
        later(HOUR)
        assert guest.groups() == ["staff"]
        assert asked(issuer) == before

    def test_of_the_store_after_the_provider_has_answered_fails_no_request(
        self,
        make_guest: Callable[..., Guest],
        issuer: Issuer,
        store: SessionStore,
        later: Callable[[float], None],
        monkeypatch: pytest.MonkeyPatch,
    ):
        """S76. The new groups apply to this request already."""
        issuer.faults.add("token.refresh_token_missing")
        guest = make_guest()
        issuer.user = {**issuer.user, "groups": ["board"]}
        update, documents = store.update, issuer.count("profile")

        def fail(*args: Any, **options: Any) -> Any:
            if issuer.count("profile") > documents:
                raise errors.StoreError("no space left")
            return update(*args, **options)

        monkeypatch.setattr(store, "update", fail)
        later(HOUR)
        assert guest.groups() == ["board"]

    def test_is_no_reason_to_wait_for_a_slot(
        self,
        make_guest: Callable[..., Guest],
        issuer: Issuer,
        barrier_of: Callable[..., Barrier],
        later: Callable[[float], None],
    ):
        """All slots of WSGI_OAUTH_UPSTREAM_LIMIT are taken; the recheck follows as soon as one is free."""
        guest = make_guest(UPSTREAM_LIMIT="1")
        other = Guest(guest.app.app, issuer)
        other.sign_in_at_the_gate()
        assert other.groups() == ["staff"]
        issuer.user = {**issuer.user, "groups": ["board"]}
        later(HOUR)
        waiting = barrier_of(issuer, "profile")
        with ThreadPoolExecutor(1) as thread:
            slow = thread.submit(other.groups)
            waiting.wait_for(1)
            assert guest.groups() == ["staff"]
            waiting.open()
            assert slow.result() == ["board"]
        assert guest.groups() == ["board"]

    def test_is_not_what_an_expired_token_is(
        self, make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]
    ):
        """A token that cannot be refreshed says nothing about the account, so the session continues."""
        issuer.faults.add("token.refresh_token_missing")
        guest = make_guest()
        before = asked(issuer)
        later(7 * HOUR)
        assert guest.groups() == ["staff"]
        assert asked(issuer) == before


class TestConcurrentRequests:
    def test_continue_with_the_old_identity_while_one_asks(
        self,
        make_guest: Callable[..., Guest],
        issuer: Issuer,
        barrier_of: Callable[..., Barrier],
        later: Callable[[float], None],
    ):
        guest = make_guest()
        issuer.user = {**issuer.user, "groups": ["board"]}
        later(HOUR)
        before = asked(issuer)
        waiting = barrier_of(issuer, "profile")
        twin = Guest(guest.app.app, issuer)
        twin.app.set_cookie("wsgi_oauth", guest.cookie)
        with ThreadPoolExecutor(1) as thread:
            slow = thread.submit(guest.groups)
            waiting.wait_for(1)
            assert [twin.groups() for _ in range(3)] == [["staff"]] * 3
            waiting.open()
            assert slow.result() == ["board"]
        assert twin.groups() == ["board"]
        assert asked(issuer) == (before[0] + 1, before[1] + 1)

    def test_that_find_the_recheck_due_at_the_same_moment_ask_once(
        self,
        make_guest: Callable[..., Guest],
        issuer: Issuer,
        store: SessionStore,
        later: Callable[[float], None],
        monkeypatch: pytest.MonkeyPatch,
    ):
        # Otherwise the first update would write the time of the last request, and not begin the recheck.
        guest = make_guest(SESSION_IDLE="7d")
        twin = Guest(guest.app.app, issuer)
        twin.app.set_cookie("wsgi_oauth", guest.cookie)
        later(HOUR)
        before = asked(issuer)
        both = threading.Barrier(2)
        waits, update = iter([both.wait] * 2), store.update

        def update_together(*args: Any, **options: Any) -> Any:
            next(waits, lambda _: None)(30)
            return update(*args, **options)

        monkeypatch.setattr(store, "update", update_together)
        with ThreadPoolExecutor(2) as threads:
            answers = [threads.submit(each.groups) for each in (guest, twin)]
            assert [answer.result() for answer in answers] == [["staff"]] * 2
        assert asked(issuer) == (before[0] + 1, before[1] + 1)

    def test_do_not_bring_back_a_session_that_ended_during_the_recheck(
        self,
        make_guest: Callable[..., Guest],
        issuer: Issuer,
        store: SessionStore,
        barrier_of: Callable[..., Barrier],
        later: Callable[[float], None],
    ):
        """S42."""
        guest = make_guest()
        later(HOUR)
        waiting = barrier_of(issuer, "profile")
        waiting.answer = Response(json.dumps(dict(issuer.user)), mimetype="application/json")
        twin = Guest(guest.app.app, issuer)
        twin.app.set_cookie("wsgi_oauth", guest.cookie)
        with ThreadPoolExecutor(1) as thread:
            slow = thread.submit(guest.get, "/page")
            waiting.wait_for(1)
            assert twin.post("/auth/logout").status_int < 400
            waiting.open()
            assert is_sign_in(slow.result())
        assert stored_sessions(store) == []

    def test_take_over_from_a_worker_that_died_after_a_minute(
        self,
        make_guest: Callable[..., Guest],
        issuer: Issuer,
        store: SessionStore,
        later: Callable[[float], None],
        monkeypatch: pytest.MonkeyPatch,
    ):
        guest = make_guest()
        issuer.user = {**issuer.user, "groups": ["board"]}
        later(HOUR)
        change_session(store, guest.cookie, lambda data: data["oauth_recheck"].update(retry=time.time() + MINUTE))
        assert guest.groups() == ["staff"]
        later(MINUTE)
        assert guest.groups() == ["board"]

    def test_to_four_workers_cause_one_recheck(self, site: Site):
        (site.folder / "gate.py").write_text(
            "from wsgi_oauth import LoginRequired, get_app\n"
            "def application(environ, start_response):\n"
            "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
            "    return [environ['REMOTE_USER'].encode()]\n"
            "app = LoginRequired(application, get_app())\n"
        )
        with site.serve("--workers", "4", *WORKERS["gthread"], app="gate:app", cwd=site.folder) as server:
            visitor = site.visitor(server)
            visitor.get(visitor.callback_url("/auth/"))
            assert visitor.get("/page").status_code == 200
            before = site.provider.count("refresh"), site.provider.count("profile")
            store = FileStore(site.sessions)

            def forget_the_check(data: dict[str, Any]) -> None:
                data["oauth_recheck"]["checked"] -= HOUR
                data["oauth_token"]["issued_at"] -= HOUR

            change_session(store, visitor.cookie, forget_the_check)
            twins = [visitor.copy() for _ in range(32)]
            answers = at_the_same_time(Visitor.get, [(twin, "/page") for twin in twins])
            assert [answer.status_code for answer in answers] == [200] * 32
            assert site.provider.count("refresh") == before[0] + 1
            assert site.provider.count("profile") == before[1] + 1


def test_profile_page_asks_the_provider_only_once(
    make_browser: Callable[..., Browser], issuer: Issuer, later: Callable[[float], None]
):
    """Its own request for the user document notices an ended account, too."""
    browser = make_browser()
    assert browser.profile().status_int == 200
    later(HOUR)
    before = asked(issuer)
    assert browser.profile().status_int == 200
    assert asked(issuer) == (before[0], before[1] + 1)


def test_sign_in_counts_as_a_check_of_a_user_whom_nobody_has_asked_for(
    make_browser: Callable[..., Browser], issuer: Issuer, later: Callable[[float], None]
):
    browser = make_browser()
    later(HOUR - 10)
    assert browser.get("/secret").status_int == 200
    assert asked(issuer) == (0, 0)
    later(20)
    assert browser.get("/secret").status_int == 200
    assert asked(issuer) == (1, 1)


def test_sign_in_counts_as_a_check(make_guest: Callable[..., Guest], issuer: Issuer, later: Callable[[float], None]):
    guest = make_guest(ALLOW="group:staff")
    later(HOUR / 2)
    guest.sign_in_at_the_gate()
    before = asked(issuer)
    later(HOUR / 2 + 10)
    assert guest.groups() == ["staff"]
    assert asked(issuer) == before
