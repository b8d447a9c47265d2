"""The log: no secret at any level, no forged lines, and one line for each event."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
import requests
from conftest import HTML, JSON, Browser, environ_for, gunicorn, parameters, send, stored_sessions
from werkzeug import Response

from wsgi_oauth import Config, RequestHandler, SessionStore, create_app
from wsgi_oauth.demo.fault_injection import Fault
from wsgi_oauth.demo.faults import FAULTS
from wsgi_oauth.demo.local_provider import LocalProvider

SLOW_FAULTS = {"slow", "dribble_headers", "dribble_body"}  # because they take as long as the deadline
FAULTS = [
    name
    for name in FAULTS
    if name.partition(".")[0] in {"authorize", "token", "profile"} and name.partition(".")[2] not in SLOW_FAULTS
]
SECRET = "s3cr3t-" + "of-this-client/+%"


class Recorder(logging.Handler):
    """Records the message, arguments and exception of every log record at every level.

    The provider runs in threads of this process, and its log records are ignored.
    """

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []
        self.paused = False

    def emit(self, record: logging.LogRecord) -> None:
        of_the_provider = re.search(r"demo-server|process_request_thread", record.threadName or "")
        if not self.paused and not of_the_provider:
            self.lines.append(f"{self.format(record)} {record.args!r} {record.msg!r}")

    @contextmanager
    def pause(self) -> Iterator[None]:
        self.paused = True
        try:
            yield
        finally:
            self.paused = False

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class RecordingBrowser(Browser):
    """A browser that keeps its responses and does not record its own requests to the provider."""

    def __init__(self, recorder: Recorder, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.recorder = recorder
        self.answers: list[Any] = []

    def get(self, url: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
        self.answers.append(super().get(url, headers, **more))
        return self.answers[-1]

    def post(self, url: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
        self.answers.append(super().post(url, headers, **more))
        return self.answers[-1]

    def consent(self, *arguments: Any, **more: Any) -> str:
        with self.recorder.pause():
            return super().consent(*arguments, **more)

    @property
    def cookies(self) -> set[str]:
        """Return every session id that was issued."""
        given = " ".join(value for answer in self.answers for value in answer.headers.getall("Set-Cookie"))
        return set(re.findall(r"wsgi_oauth[\w-]*=([^;]+)", given))


class Repos(RequestHandler):
    route = "/repos/<path:name>"

    def get(self, request, name):
        request.session["oauth_token"]
        raise RuntimeError("a bug of the handler")


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Set every logger to DEBUG and record everything."""
    recorder = Recorder()
    recorder.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    everything = [logging.getLogger(), *(logging.getLogger(name) for name in list(logging.root.manager.loggerDict))]
    before = [(logger, logger.level, logger.disabled) for logger in everything]
    for logger in everything:
        logger.setLevel(logging.DEBUG)
        logger.disabled = False
    logging.root.addHandler(recorder)
    yield recorder
    logging.root.removeHandler(recorder)
    for logger, level, disabled in before:
        logger.setLevel(level)
        logger.disabled = disabled


@pytest.fixture
def application(provider: LocalProvider, store: SessionStore) -> Any:
    return create_app(Config.from_environ(environ_for(provider)), store=store, handlers=[Repos])


@pytest.fixture
def browser(application: Any, provider: LocalProvider, recorder: Recorder) -> RecordingBrowser:
    return RecordingBrowser(recorder, application, provider)


def secrets_of_sign_in(provider: LocalProvider, browser: RecordingBrowser, *callbacks: str) -> set[str]:
    """Return the secrets of all sign-ins, taken from the provider's exchanges and the browser's cookies."""
    found = {unquote(browser.cookie or ""), *browser.cookies}
    credentials = f"{provider.client_id}:{quote(provider.client_secret or '', safe='')}"
    found |= {provider.client_secret or "", b64encode(credentials.encode()).decode()}
    for url in callbacks:
        found |= {
            value
            for name, value in parse_qs(urlsplit(url).query).items()
            if name in {"code", "state"}
            for value in value
        }
    for exchange in provider.exchanges:
        if exchange.endpoint == "token":
            form = parse_qs(exchange.body)
            found |= {form[name][0] for name in ("code", "code_verifier", "refresh_token") if name in form}
            found |= set(re.findall(r'(?:access|refresh)_token"?[=:]\s*"?([^"&,}\s]+)', exchange.response_body))
        if exchange.endpoint == "authorize":
            found |= {parameters(exchange.url)["state"]}
        found.add(exchange.headers.get("Authorization", "").partition(" ")[2])
    return {secret for secret in found if len(secret) >= 8 and secret not in {"never-issued", "never-made"}}


def assert_nothing_leaked(
    provider: LocalProvider, browser: RecordingBrowser, recorder: Recorder, *callbacks: str
) -> None:
    """S49: no secret is in a log record, page or Location, except the state for the provider."""
    secrets = secrets_of_sign_in(provider, browser, *callbacks)
    assert len(secrets) >= 5, "the secrets are missing"
    places = {"the log": recorder.text}
    for number, answer in enumerate(browser.answers):
        places[f"page {number}"] = answer.text
        location = answer.headers.get("Location", "")
        if not location.startswith(provider.authorization_url):
            places[f"Location {number}"] = location
    for place, text in places.items():
        for secret in secrets:
            assert secret not in text, f"{secret} is in {place}"
            assert quote(secret, safe="") not in text, f"{secret} is in {place}, percent-encoded"
    for exchange in provider.exchanges:
        assert "Referer" not in exchange.headers
        if exchange.endpoint == "profile":
            assert "?" not in exchange.url


class TestSecretsAreNotShown:
    """S49."""

    def test_in_a_complete_sign_in(self, browser: RecordingBrowser, provider: LocalProvider, recorder: Recorder):
        callback = browser.callback_url("/profile")
        browser.get(callback)
        browser.get(callback)
        browser.get("/profile")
        browser.get("/repos/mine")
        second = browser.callback_url()
        browser.get(second)
        browser.post("/logout")
        browser.get(second)
        assert "sign_in success" in recorder.text
        assert "a bug of the handler" in recorder.text
        assert_nothing_leaked(provider, browser, recorder, callback, second)

    @pytest.mark.parametrize("fault", FAULTS)
    def test_with_any_fault_of_the_provider(
        self, browser: RecordingBrowser, provider: LocalProvider, recorder: Recorder, store: SessionStore, fault: str
    ):
        if fault.startswith("authorize."):
            callback = browser.callback_url(fault=fault)
        else:
            callback = browser.callback_url()
            provider.faults.add(fault)
        [verifier] = [record["code_verifier"] for record in stored_sessions(store)[0]["oauth_state"].values()]
        browser.get(callback)
        browser.get(callback, headers=JSON)
        browser.get("/profile", headers=JSON)
        browser.get("/profile")
        assert_nothing_leaked(provider, browser, recorder, callback, f"?state={verifier}")

    @pytest.mark.parametrize("method", ["basic", "basic-raw", "post"])
    def test_with_any_client_authentication(self, recorder: Recorder, method: str, store: SessionStore):
        from wsgi_oauth.demo.server import serve_provider

        provider = LocalProvider(client_secret=SECRET)
        with serve_provider(provider):
            app = create_app(Config.from_environ(environ_for(provider, CLIENT_AUTH=method)), store=store)
            browser = RecordingBrowser(recorder, app, provider)
            for fault in ("token.invalid_client_401", "token.hang_up", "token.redirect_307"):
                provider.faults.add(fault)
                browser.get(browser.callback_url())
            callback = browser.callback_url()
            browser.get(callback)
            assert_nothing_leaked(provider, browser, recorder, callback)
        assert SECRET not in recorder.text + repr(app)

    @pytest.mark.parametrize(
        "query", ["code={c}&state={s}", "code={c}&code={c}&state={s}", "error={c}&state={s}", "{c}={s}"]
    )
    @pytest.mark.parametrize("path", ["/callback", "/", "/profile", "/nothing", "/repos/mine"])
    def test_from_a_query(self, application: Any, recorder: Recorder, path: str, query: str):
        secret, state = "c0de-of-a-user", "st4te-of-a-user"
        response = send(application, path, query=query.format(c=secret, s=state), headers=JSON)
        assert secret not in recorder.text
        assert state not in recorder.text + response.get_data(as_text=True)

    def test_in_repr_of_config_and_application(self, provider: LocalProvider):
        config = Config.from_environ(environ_for(provider))
        assert "demo-secret" not in repr(config) + str(config) + repr(create_app(config))

    def test_that_the_library_would_log(self, recorder: Recorder):
        """The library's own methods log tokens at DEBUG, which proves that this file would notice a leak."""
        from requests_oauthlib import OAuth2Session

        class Answer(requests.adapters.BaseAdapter):
            def send(self, request: Any, **_: Any) -> requests.Response:
                response = requests.Response()
                response.status_code, response.request = 200, request
                response._content = b'{"access_token": "t0ken-of-a-user", "token_type": "Bearer"}'
                return response

            def close(self) -> None:
                pass

        with OAuth2Session("client") as session:
            session.mount("https://", Answer())
            session.fetch_token("https://provider.example/token", code="c0de-of-a-user", client_secret="x")
        assert "t0ken-of-a-user" in recorder.text
        assert "c0de-of-a-user" in recorder.text


class TestLoggingOfTheHost:
    """S49, S63: the application that embeds this one has configured its own logging."""

    @staticmethod
    def state() -> dict[str, Any]:
        loggers = {"": logging.root, **logging.root.manager.loggerDict}
        return {
            name: (logger.level, logger.disabled, logger.propagate, list(logger.handlers), list(logger.filters))
            for name, logger in loggers.items()
            if isinstance(logger, logging.Logger)
        }

    def test_is_unchanged_by_a_sign_in(self, provider: LocalProvider):
        before, lasting, hooks = (
            self.state(),
            logging.raiseExceptions,
            (logging.lastResort, logging.root.manager.disable),
        )
        browser = Browser(create_app(Config.from_environ(environ_for(provider))), provider)
        browser.sign_in()
        browser.profile()
        browser.post("/logout")
        after = self.state()
        assert {name: after[name] for name in before} == before
        for name in after.keys() - before.keys():
            assert after[name] == (logging.NOTSET, False, True, [], []), name
        assert (lasting, hooks) == (logging.raiseExceptions, (logging.lastResort, logging.root.manager.disable))

    def test_is_unchanged_by_the_import(self):
        program = """
import logging, os, signal
before = dict(os.environ), signal.getsignal(signal.SIGTERM), os.umask(0o27)
os.umask(before[2])
import wsgi_oauth
assert (dict(os.environ), signal.getsignal(signal.SIGTERM), os.umask(0o27)) == before
assert logging.root.handlers == [] and logging.root.level == logging.WARNING
for name, logger in logging.root.manager.loggerDict.items():
    if name.startswith(("wsgi_oauth", "oauthlib", "requests_oauthlib")) and isinstance(logger, logging.Logger):
        ours = [h for h in logger.handlers if not isinstance(h, logging.NullHandler)]
        assert (logger.level, logger.disabled, logger.propagate, ours, logger.filters) == (0, False, True, [], []), name
"""
        root = str(Path(__file__).parent.parent)
        subprocess.run([sys.executable, "-c", program], check=True, cwd=root, timeout=60)

    def test_still_logs_its_own_use_of_requests_oauthlib(self, provider: LocalProvider, recorder: Recorder):
        """Another part of the process may use requests-oauthlib and log its requests."""
        Browser(create_app(Config.from_environ(environ_for(provider))), provider).sign_in()
        logging.getLogger("requests_oauthlib.oauth2_session").debug("logged by the host, first")
        logging.getLogger("oauthlib.oauth2").debug("logged by the host, second")
        assert "logged by the host, second" in recorder.text
        assert "logged by the host, first" in recorder.text


CONTROL_CHARACTERS = "\r\n2026-01-01 FAKE signed in\x1b[31m\x1b]0;title\x07\x9b\u2028\x85"
LATIN_1 = CONTROL_CHARACTERS.encode().decode("latin-1")


class TestLogInjection:
    """S51: CR and LF would forge lines, and ESC would control the operator's terminal."""

    @pytest.mark.parametrize(
        "given",
        [
            {"path": f"/{LATIN_1}"},
            {"path": f"/repos/{LATIN_1}"},
            {"path": "/callback", "query": f"code=x&state=y&error={quote(CONTROL_CHARACTERS)}"},
            {"path": "/callback", "query": f"state={quote(CONTROL_CHARACTERS)}"},
            {"path": "/callback", "query": f"code=x&iss={quote(CONTROL_CHARACTERS)}&state=x"},
            {"path": "/", "query": f"next=/{quote(CONTROL_CHARACTERS)}"},
            {"path": "/", "HTTP_HOST": f"localhost{LATIN_1}"},
            {"path": "/", "HTTP_HOST": LATIN_1},
            {"path": "/profile", "HTTP_USER_AGENT": LATIN_1, "HTTP_REFERER": LATIN_1},
            {"path": "/profile", "HTTP_COOKIE": f"wsgi_oauth={LATIN_1}"},
            {"path": "/logout", "method": "POST", "HTTP_ORIGIN": LATIN_1},
            {"path": "/", "method": "BREW\r\nFAKE"},
            {"path": "/", "REMOTE_ADDR": LATIN_1, "HTTP_X_FORWARDED_FOR": LATIN_1},
        ],
        ids=lambda given: ascii(given)[:60],
    )
    def test_from_a_request(self, application: Any, recorder: Recorder, given: dict[str, str]):
        send(application, headers=JSON, **given)
        for line in recorder.lines:
            message = line.splitlines()[0] if "Traceback" in line else line
            assert message.isprintable(), ascii(line)
            assert len(line.splitlines()) == 1

    def test_from_the_path_of_a_failed_handler(
        self, browser: RecordingBrowser, application: Any, caplog: pytest.LogCaptureFixture
    ):
        browser.sign_in()
        caplog.clear()
        headers = {**JSON, "Cookie": f"wsgi_oauth={browser.cookie}"}
        assert send(application, "/repos/x\rFAKE\x1b[31m\x07\xc2\x85", headers=headers).status_code == 500
        [failed] = [record for record in caplog.records if record.exc_info]
        assert failed.getMessage().isprintable()

    @pytest.mark.parametrize("member", ["error", "scope", "token_type"])
    def test_from_the_provider(self, recorder: Recorder, store: SessionStore, member: str):
        from wsgi_oauth.demo.server import serve_provider

        class ControlCharacters(LocalProvider):
            def token(self, request: Any) -> Any:
                response = super().token(request)
                response.set_data(json.dumps({**response.get_json(), member: CONTROL_CHARACTERS}))
                return response

        provider = ControlCharacters()
        with serve_provider(provider):
            app = create_app(Config.from_environ(environ_for(provider)), store=store)
            browser = RecordingBrowser(recorder, app, provider)
            browser.get(browser.callback_url())
        assert any(line.startswith("wsgi_oauth") for line in recorder.lines)
        assert all(line.isprintable() for line in recorder.lines if line.startswith("wsgi_oauth"))

    def test_in_the_access_log(self, provider: LocalProvider, tmp_path: Path):
        """gunicorn logs the decoded path, which the client chooses."""
        configuration = str(Path(__file__).parent.parent / "gunicorn.conf.py")
        options = ["--config", configuration, "--workers", "1"]
        with gunicorn(tmp_path, environ_for(provider), *options) as server:
            path = quote("/x\r\nFAKE 200\x1b[31m")
            assert requests.get(server.url + path, headers=HTML, timeout=30).status_code == 404
            log = server.stop()
        assert "/x" in log
        assert not re.search(r"^FAKE", log, re.MULTILINE)
        assert "\x1b" not in log


class TestEvents:
    """S51: an operator can follow all events."""

    @pytest.fixture
    def logged(self, caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
        caplog.set_level(logging.INFO, "wsgi_oauth")
        return lambda: [record for record in caplog.records if record.name.startswith("wsgi_oauth")]

    def test_sign_in_and_sign_out_are_logged_with_request_ids(
        self, browser: RecordingBrowser, logged: Callable[[], list[logging.LogRecord]]
    ):
        browser.sign_in()
        browser.post("/logout")
        messages = [record.getMessage() for record in logged() if "success" in record.getMessage()]
        assert re.match(r"\[[0-9a-f]{16}\] sign_in success ", messages[0])
        assert re.match(r"\[[0-9a-f]{16}\] sign_out success ", messages[-1])
        assert messages[0][:18] != messages[-1][:18]

    def test_failed_sign_in_is_not_logged_as_sign_in(
        self, browser: RecordingBrowser, provider: LocalProvider, logged: Callable[[], list[logging.LogRecord]]
    ):
        browser.get(browser.callback_url(decision="deny"))
        provider.faults.add("token.500")
        browser.get(browser.callback_url())
        browser.post("/logout", headers={"Origin": "https://evil.example"})
        assert not [record for record in logged() if "sign_in success" in record.getMessage()]
        assert not [record for record in logged() if "sign_out success" in record.getMessage()]

    def test_sign_out_of_an_anonymous_user_is_not_logged(
        self, browser: RecordingBrowser, logged: Callable[[], list[logging.LogRecord]]
    ):
        browser.post("/logout")
        assert logged() == []

    @pytest.mark.parametrize(
        ("fault", "level"),
        [
            ("authorize.access_denied", "WARNING"),
            ("authorize.wrong_state", "WARNING"),
            ("authorize.server_error", "WARNING"),
            ("token.invalid_grant", "WARNING"),
            ("token.hang_up", "WARNING"),
            ("token.invalid_client_401", "ERROR"),
        ],
    )
    def test_refusal_is_logged_with_its_id_and_level(
        self,
        browser: RecordingBrowser,
        provider: LocalProvider,
        logged: Callable[[], list[logging.LogRecord]],
        fault: str,
        level: str,
    ):
        """Only faults that the operator can fix are errors. Warnings are visible without a logging configuration."""
        if fault.startswith("token."):
            provider.faults.add(fault)
            response = browser.get(browser.callback_url(), headers=JSON)
        else:
            response = browser.get(browser.callback_url(fault=fault), headers=JSON)
        [record] = [record for record in logged() if response.json["id"] in record.getMessage()]
        assert record.levelname == level
        assert response.json["error"] in record.getMessage()
        assert "/callback" in record.getMessage()

    def test_unknown_path_is_logged_with_its_id(
        self, browser: RecordingBrowser, logged: Callable[[], list[logging.LogRecord]]
    ):
        response = browser.get("/nowhere", headers=JSON)
        [record] = [record for record in logged() if response.json["id"] in record.getMessage()]
        assert record.levelname == "WARNING"

    def test_anonymous_request_is_logged_at_info(
        self, browser: RecordingBrowser, logged: Callable[[], list[logging.LogRecord]]
    ):
        browser.get("/profile")
        response = browser.get("/profile", headers=JSON)
        assert [record.levelname for record in logged()] == ["INFO", "INFO"]
        assert response.json["id"] in logged()[-1].getMessage()

    def test_duplicate_callback_is_not_logged_as_sign_in(
        self, browser: RecordingBrowser, logged: Callable[[], list[logging.LogRecord]]
    ):
        callback = browser.callback_url()
        browser.get(callback)
        browser.get(callback)
        assert len([record for record in logged() if "sign_in success" in record.getMessage()]) == 1

    def test_second_sign_in_with_an_identical_token_is_logged(
        self, browser: RecordingBrowser, provider: LocalProvider, logged: Callable[[], list[logging.LogRecord]]
    ):
        same = Fault("token.same", "", lambda _: Response('{"access_token": "same", "token_type": "bearer"}'))
        provider.faults.register(same)
        provider.faults.add(same.name, times=2)
        browser.sign_in()
        browser.sign_in()
        assert len([record for record in logged() if "sign_in success" in record.getMessage()]) == 2

    def test_successful_request_is_not_logged(
        self, browser: RecordingBrowser, logged: Callable[[], list[logging.LogRecord]]
    ):
        browser.sign_in()
        browser.profile()  # identifies the user
        before = len(logged())
        browser.profile()
        assert len(logged()) == before


def test_concurrent_requests_have_different_ids(application: Any):
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(send(application, "/callback", headers=JSON).get_json()["id"]))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 10
