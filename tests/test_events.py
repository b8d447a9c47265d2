"""Audit events in the log and through ``on_event``: user, cause, client and session (S51, S71, S72)."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from conftest import HTML, JSON, Application, Browser, Guest, environ_for, parameters, send
from openid import HOUR, Issuer, config_for
from werkzeug import Response

from wsgi_oauth import Config, FileStore, LoginRequired, SessionStore, create_app, errors, events
from wsgi_oauth.cli.main import main
from wsgi_oauth.demo.fault_injection import Fault
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.events import Event
from wsgi_oauth.sessions.store import store_key

DOCUMENT = (Path(__file__).parent.parent / "docs" / "operating.md").read_text()
OWN = {"Sec-Fetch-Site": "same-origin"}


class Audit:
    """The function for ``on_event``: it keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    def last(self, name: str) -> Event:
        assert self.named(name), [str(event) for event in self.events]
        return self.named(name)[-1]


@pytest.fixture
def audit() -> Audit:
    return Audit()


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "sessions")


@pytest.fixture
def make_app(provider: LocalProvider, store: SessionStore, audit: Audit) -> Callable[..., Any]:
    def make(on_event: Any = audit, **settings: str) -> Any:
        return create_app(Config.from_environ(environ_for(provider, **settings)), store=store, on_event=on_event)

    return make


@pytest.fixture
def make_browser(make_app: Callable[..., Any], provider: LocalProvider) -> Callable[..., Browser]:
    def make(**settings: Any) -> Browser:
        return Browser(make_app(**settings), provider)

    return make


@pytest.fixture
def guest(make_app: Callable[..., Any], provider: LocalProvider, inside: Application) -> Guest:
    """Return a browser that is signed in behind a gate."""
    guest = Guest(LoginRequired(inside, make_app(TOKENS="yes")), provider)
    guest.sign_in()
    return guest


def user_id(provider: LocalProvider) -> str:
    return f"583231@{provider.url.removeprefix('http://').replace(':', '+3A')}"


class TestDocument:
    SECTION = DOCUMENT.partition("## Audit events")[2].partition("\n## ")[0]

    def test_lists_each_event_once(self):
        assert re.findall(r"^\| `(\w+)` \| .* \| ", self.SECTION, re.MULTILINE) == list(events.NAMES)

    def test_lists_each_field_once(self):
        listed = re.findall(r"^- `(\w+)`", self.SECTION, re.MULTILINE)
        assert listed == [field.name for field in fields(Event)]


class TestSignIn:
    """S71"""

    def test_names_the_user_if_rules_have_identified_them(
        self, make_browser: Callable[..., Browser], audit: Audit, provider: LocalProvider
    ):
        make_browser(ALLOW="id:583231").sign_in()
        [event] = audit.events
        assert (event.name, event.outcome, event.cause) == ("sign_in", "success", "")
        assert event.user == user_id(provider)
        assert event.client == "127.0.0.1"
        assert re.fullmatch("[0-9a-f]{16}", event.request_id)

    def test_is_followed_by_the_identification_of_a_user_who_was_unknown(
        self, make_browser: Callable[..., Browser], audit: Audit, provider: LocalProvider
    ):
        browser = make_browser()
        browser.sign_in()
        browser.profile()
        browser.profile()
        assert [(each.name, each.user) for each in audit.events] == [
            ("sign_in", ""),
            ("identification", user_id(provider)),
        ]
        assert len({each.session for each in audit.events}) == 1

    def test_names_the_user_of_an_id_token(self, store: SessionStore, audit: Audit):
        issuer = Issuer()
        with serve_provider(issuer):
            browser = Browser(create_app(config_for(issuer), store=store, on_event=audit), issuer)
            browser.sign_in()
            browser.profile()
        assert audit.last("sign_in").user == audit.last("identification").user != ""

    def test_names_no_user_whose_id_may_be_in_the_user_document(self, store: SessionStore, audit: Audit):
        issuer = Issuer()
        issuer.user = {**issuer.user, "employee": "7"}
        with serve_provider(issuer):
            app = create_app(config_for(issuer, SUBJECT_CLAIM="employee sub"), store=store, on_event=audit)
            browser = Browser(app, issuer)
            browser.sign_in()
            browser.profile()
        assert audit.last("sign_in").user == ""
        assert audit.last("identification").user.startswith("7@")

    def test_that_is_refused_names_user_and_cause(
        self, make_browser: Callable[..., Browser], audit: Audit, provider: LocalProvider
    ):
        browser = make_browser(ALLOW="id:1")
        page = browser.get(browser.callback_url(), JSON).json
        [event] = audit.events
        assert (event.name, event.outcome, event.cause) == ("sign_in", "refused", "not_allowed")
        assert (event.user, event.request_id) == (user_id(provider), page["id"])
        assert event.request == "GET /callback"

    def test_that_is_refused_is_not_one_of_the_user_who_is_signed_in(
        self, make_browser: Callable[..., Browser], audit: Audit
    ):
        browser = make_browser(ALLOW="id:583231")
        browser.sign_in()
        browser.get(browser.callback_url(decision="deny"))
        assert (audit.last("sign_in").cause, audit.last("sign_in").user) == ("login_declined", "")

    def test_that_fails_at_the_provider_is_no_refusal(
        self, make_browser: Callable[..., Browser], audit: Audit, provider: LocalProvider
    ):
        browser = make_browser()
        provider.faults.add("token.500")
        browser.get(browser.callback_url())
        [event] = audit.events
        assert (event.name, event.outcome, event.cause) == ("sign_in", "failed", "provider_error")

    def test_is_reported_once_for_duplicates_of_a_callback(self, make_browser: Callable[..., Browser], audit: Audit):
        browser = make_browser()
        callback = browser.callback_url()
        browser.get(callback)
        browser.get(callback)
        assert len(audit.events) == 1

    def test_that_cannot_be_stored_is_no_success(
        self, make_browser: Callable[..., Browser], audit: Audit, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ):
        browser = make_browser()
        callback = browser.callback_url()

        def fail(*_: object) -> None:
            raise errors.StoreError("no space left on device")

        monkeypatch.setattr(store, "create", fail)
        browser.get(callback)
        assert [(each.outcome, each.cause) for each in audit.events] == [("failed", "session_store_unavailable")]


class TestAccess:
    def test_that_is_refused_names_user_session_and_cause(
        self, guest: Guest, make_app: Callable[..., Any], audit: Audit, provider: LocalProvider, inside: Application
    ):
        gate = LoginRequired(inside, make_app(ALLOW="id:1"))
        assert send(gate, "/page", headers={**HTML, "Cookie": guest.cookie_header}).status_code == 403
        event = audit.last("access")
        assert (event.outcome, event.cause, event.user) == ("refused", "not_allowed", user_id(provider))
        assert (event.session, event.request) == (audit.last("sign_in").session, "GET /page")

    def test_that_is_refused_to_a_proxy_names_user_session_and_page(
        self, guest: Guest, make_app: Callable[..., Any], audit: Audit, provider: LocalProvider
    ):
        app = make_app(ALLOW="id:1", TRUSTED_PROXIES="1")
        headers = {**HTML, "Cookie": guest.cookie_header, "X-Original-URL": "http://localhost/page?x=1"}
        assert send(app, "/verify", headers=headers).status_code == 403
        event = audit.last("access")
        assert (event.outcome, event.cause, event.user) == ("refused", "not_allowed", user_id(provider))
        assert (event.session, event.request) == (audit.last("sign_in").session, "GET /page")

    def test_of_an_anonymous_user_is_no_event(self, make_browser: Callable[..., Browser], audit: Audit):
        assert make_browser().get("/profile", JSON).status_int == 401
        assert audit.events == []

    def test_that_fails_is_an_event(self, guest: Guest, audit: Audit, provider: LocalProvider):
        provider.faults.add("profile.500")
        guest.get("/auth/profile", JSON)
        event = audit.last("access")
        assert (event.outcome, event.cause, event.user) == ("failed", "provider_error", user_id(provider))


class TestSession:
    def test_end_by_the_user_is_a_sign_out(self, guest: Guest, audit: Audit, provider: LocalProvider):
        guest.post("/auth/logout")
        event = audit.last("sign_out")
        assert (event.outcome, event.user) == ("success", user_id(provider))
        assert event.session == audit.last("sign_in").session
        guest.post("/auth/logout")
        assert len(audit.named("sign_out")) == 1

    def test_sign_out_by_another_site_is_refused(self, guest: Guest, audit: Audit):
        guest.post("/auth/logout", headers={"Origin": "https://evil.example"})
        assert (audit.last("sign_out").outcome, audit.last("sign_out").cause) == ("refused", "cross_site_request")

    def test_end_because_of_a_rejected_token(self, guest: Guest, audit: Audit, provider: LocalProvider):
        provider.faults.add("profile.401", times=None)
        provider.faults.add("token.invalid_grant", times=None)
        guest.get("/auth/profile", JSON)
        assert [(each.name, each.outcome, each.cause) for each in audit.events[2:]] == [
            ("refresh", "refused", "token_rejected"),
            ("session_end", "success", "token_rejected"),
        ]
        assert {each.user for each in audit.events[2:]} == {user_id(provider)}

    def test_refresh(self, guest: Guest, audit: Audit, provider: LocalProvider, later: Callable[[float], None]):
        later(HOUR)
        guest.get("/auth/profile", JSON)
        assert audit.last("refresh").outcome == "success"
        assert audit.last("refresh").user == user_id(provider)

    def test_refresh_during_an_outage(
        self, guest: Guest, audit: Audit, provider: LocalProvider, later: Callable[[float], None]
    ):
        later(HOUR)
        provider.faults.add("token.500", times=None)
        guest.get("/auth/profile", JSON)
        assert (audit.last("refresh").outcome, audit.last("refresh").cause) == ("failed", "provider_error")

    def test_recheck(self, guest: Guest, audit: Audit, provider: LocalProvider, later: Callable[[float], None]):
        later(HOUR + 1)
        guest.get("/page")
        assert (audit.last("recheck").outcome, audit.last("recheck").detail) == ("success", "unchanged")
        outage = Fault("profile.outage", "", lambda _: Response("maintenance", 503))
        provider.faults.register(outage)
        provider.faults.add(outage.name)
        later(HOUR + 1)
        guest.get("/page")
        assert (audit.last("recheck").outcome, audit.last("recheck").cause) == ("failed", "provider_error")
        assert audit.last("recheck").request_id == audit.last("refresh").request_id

    def test_recheck_that_the_provider_refuses(
        self, guest: Guest, audit: Audit, provider: LocalProvider, later: Callable[[float], None]
    ):
        provider.faults.add("profile.401", times=None)
        provider.faults.add("token.invalid_grant", times=None)
        later(HOUR + 1)
        guest.get("/page")
        assert (audit.last("recheck").outcome, audit.last("recheck").cause) == ("refused", "token_rejected")
        assert audit.last("recheck").user == user_id(provider)
        assert audit.named("session_end") == []


class TestAccessTokens:
    def test_creation_first_use_and_revocation(self, guest: Guest, audit: Audit, provider: LocalProvider):
        created = guest.app.post_json("/auth/tokens", {"name": "ci", "lifetime": "1d"}, headers={**JSON, **OWN}).json
        token_id = created["tokens"][0]["id"]
        for _ in range(2):
            send(guest.gate, "/page", headers={"Authorization": f"Bearer {created['token']}"})
        guest.app.post_json("/auth/tokens", {"revoke": token_id}, headers={**JSON, **OWN})
        send(guest.gate, "/page", headers={"Authorization": f"Bearer {created['token']}"})
        *changes, refusal = audit.events[2:]
        assert [each.name for each in changes] == ["token_creation", "token_first_use", "token_revocation"]
        assert {(each.user, each.token) for each in changes} == {(user_id(provider), token_id)}
        assert (refusal.name, refusal.cause) == ("access", "token_unknown")
        assert created["token"] not in repr(audit.events)

    def test_refused_creation(self, guest: Guest, audit: Audit):
        body = {"name": "ci", "lifetime": "1000d"}
        guest.app.post_json("/auth/tokens", body, headers={**JSON, **OWN}, status=400)
        assert (audit.last("token_creation").outcome, audit.last("token_creation").cause) == (
            "refused",
            "bad_token_request",
        )


class TestOperator:
    """Commands print their events to stderr."""

    @pytest.fixture(autouse=True)
    def _environ(self, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WSGI_OAUTH_SESSION_STORE", f"file:{store.folder}")

    def test_ends_the_sessions_of_a_user(
        self, guest: Guest, provider: LocalProvider, capsys: pytest.CaptureFixture[str]
    ):
        assert main(["sessions", "end", "--user", user_id(provider)]) == 0
        printed = capsys.readouterr().err
        assert f"session_end success user={user_id(provider)} cause=operator: by " in printed

    def test_revokes_tokens(self, guest: Guest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        monkeypatch.setenv("WSGI_OAUTH_LOG_FORMAT", "json")
        guest.app.post_json("/auth/tokens", {"name": "ci", "lifetime": "1d"}, headers={**JSON, **OWN})
        assert main(["tokens", "revoke", "--all"]) == 0
        event = json.loads(capsys.readouterr().err)
        assert (event["event"], event["cause"]) == ("token_revocation", "operator")


class TestOnEvent:
    @pytest.mark.parametrize("failure", [RuntimeError, SystemExit])
    def test_that_fails_affects_no_request_and_is_logged_once(
        self, failure: type[BaseException], make_browser: Callable[..., Browser], caplog: pytest.LogCaptureFixture
    ):
        def fail(event: Event) -> None:
            raise failure("the database is down")

        make_browser(on_event=fail).sign_in()
        assert [each.levelname for each in caplog.records if each.exc_info] == ["ERROR"]
        assert "on_event failed for sign_in" in caplog.text

    def test_must_be_a_function(self, make_app: Callable[..., Any]):
        with pytest.raises(TypeError, match="on_event: must be a function"):
            make_app(on_event="events.log")

    def test_receives_what_the_log_says(
        self, make_browser: Callable[..., Browser], audit: Audit, caplog: pytest.LogCaptureFixture
    ):
        caplog.set_level(logging.INFO, "wsgi_oauth")
        browser = make_browser()
        browser.sign_in()
        browser.post("/logout")
        assert [each.getMessage() for each in caplog.records if each.name == "wsgi_oauth.events"] == [
            str(event) for event in audit.events
        ]

    def test_receives_no_secret(self, make_browser: Callable[..., Browser], audit: Audit, provider: LocalProvider):
        """S71"""
        browser = make_browser()
        callback = browser.callback_url()
        browser.get(callback)
        secrets = {browser.cookie or "-", *parameters(callback).values()}
        browser.post("/logout")
        browser.get(callback)
        provider.faults.add("token.invalid_grant")
        browser.get(browser.callback_url())
        assert len(audit.events) == 4
        for exchange in provider.exchanges:
            secrets |= set(re.findall(r'_token"?[=:]\s*"?([^"&,}\s]+)', exchange.response_body))
        assert len(secrets) > 3
        assert not [secret for secret in secrets if len(secret) > 5 and secret in repr(audit.events)]


class TestLog:
    def test_handler_that_fails_affects_no_request(
        self, make_browser: Callable[..., Browser], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ):
        """S76"""
        caplog.set_level(logging.INFO, "wsgi_oauth")
        monkeypatch.setattr(caplog.handler, "emit", lambda record: 1 / 0)
        browser = make_browser()
        assert browser.get(browser.callback_url()).status_int == 303

    def test_line_has_no_control_characters(self):
        event = Event("access", user="a b\n", detail="two\nlines \x1b[31m\u2028")
        assert str(event) == r"access success user='a b\n': two\nlines \x1b[31m\u2028"


CLAIMED = {"X-Forwarded-For": "203.0.113.9", "X-Request-ID": "edge-4711"}


@pytest.mark.parametrize("client", ["::1 user=victim", "::1'", '::1"', "\u200b", "::1\n"], ids=ascii)
def test_a_value_with_a_separator_is_quoted_in_the_log(client: str) -> None:
    """S51: otherwise a client could add fields, for example by a header of a proxy that passes it on."""
    assert str(Event(events.SIGN_OUT, user="ann@github", client=client)) == (
        f"sign_out success user=ann@github client={client!a}"
    )


class TestSource:
    """S35, S71: the address and the id of a request."""

    def sent(self, app: Any, audit: Audit, **headers: str) -> Event:
        response = send(app, "/callback", headers={**JSON, **CLAIMED, **headers})
        assert response.headers["X-Request-ID"] == response.get_json()["id"] == audit.events[-1].request_id
        return audit.events[-1]

    @pytest.mark.parametrize(
        ("value", "client"),
        [
            ("203.0.113.9:51234", "203.0.113.9"),
            ("[2001:db8::9]:443", "2001:db8::9"),
            ("[2001:db8::9]", "2001:db8::9"),
            ("2001:db8::9", "2001:db8::9"),
        ],
    )
    def test_has_no_port(self, make_app: Callable[..., Any], audit: Audit, value: str, client: str):
        """Azure Application Gateway adds the port of the connection, so the addresses of one client would differ."""
        assert self.sent(make_app(TRUSTED_PROXIES="1"), audit, **{"X-Forwarded-For": value}).client == client

    @pytest.mark.parametrize("value", ['", 203.0.113.9', '"203.0.113.9"'])
    def test_is_not_hidden_by_a_quote(self, make_app: Callable[..., Any], audit: Audit, value: str):
        assert self.sent(make_app(TRUSTED_PROXIES="1"), audit, **{"X-Forwarded-For": value}).client == "203.0.113.9"

    def test_is_the_client_of_a_trusted_proxy(self, make_app: Callable[..., Any], audit: Audit):
        event = self.sent(make_app(TRUSTED_PROXIES="1"), audit)
        assert (event.client, event.request_id) == ("203.0.113.9", "edge-4711")

    def test_is_not_what_a_client_claims(self, make_app: Callable[..., Any], audit: Audit):
        event = self.sent(make_app(), audit)
        assert event.client != "203.0.113.9"
        assert re.fullmatch("[0-9a-f]{16}", event.request_id)

    @pytest.mark.parametrize("value", ["", "x" * 129, "a b", "a]", "a\xe9", '"', "<b>"])
    def test_ignores_a_request_id_with_unusual_characters(self, make_app: Callable[..., Any], audit: Audit, value: str):
        event = self.sent(make_app(TRUSTED_PROXIES="1"), audit, **{"X-Request-ID": value})
        assert re.fullmatch("[0-9a-f]{16}", event.request_id)

    def test_is_the_same_for_all_events_of_a_request_behind_the_gate(
        self, make_app: Callable[..., Any], audit: Audit, provider: LocalProvider, inside: Application
    ):
        guest = Guest(LoginRequired(inside, make_app(TRUSTED_PROXIES="1")), provider)
        guest.app.extra_environ.update(HTTP_X_REQUEST_ID="edge-1", HTTP_X_FORWARDED_FOR="203.0.113.9")
        guest.sign_in()
        assert {(each.request_id, each.client) for each in audit.events} == {("edge-1", "203.0.113.9")}
        assert {each.name for each in audit.events} == {"sign_in", "identification"}


def test_fingerprint_of_a_session_opens_nothing(guest: Guest, audit: Audit, store: FileStore):
    session_id = guest.cookie or ""
    fingerprint = audit.last("sign_in").session
    assert re.fullmatch("[0-9a-f]{16}", fingerprint)
    assert fingerprint not in session_id + store_key(session_id)
    assert events.build_fingerprint(store_key(session_id)) == fingerprint


@pytest.mark.parametrize(
    ("path", "level"),
    [
        *[(path, "INFO") for path in ("/favicon.ico", "/robots.txt", "/apple-touch-icon-120x120-precomposed.png")],
        *[(path, "INFO") for path in ("/.well-known/change-password", "/sitemap.xml", "/site.webmanifest")],
        *[(path, "WARNING") for path in ("/favicon.ico/x", "/x/robots.txt", "/wp-login.php")],
    ],
)
def test_routine_request_for_a_missing_file_is_no_warning(
    make_app: Callable[..., Any], caplog: pytest.LogCaptureFixture, path: str, level: str
):
    caplog.set_level(logging.INFO, "wsgi_oauth")
    assert send(make_app(), path).status_code == 404
    [record] = caplog.records
    assert record.levelname == level


@pytest.fixture(autouse=True)
def _provider_threads_do_not_log() -> Iterator[None]:
    """Keep the log of the provider, which runs in this process, out of caplog."""
    logger = logging.getLogger("oauthlib")
    before = logger.level
    logger.setLevel(logging.WARNING)
    yield
    logger.setLevel(before)
