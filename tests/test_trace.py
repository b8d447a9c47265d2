"""The trace of ``wsgi-oauth demo``: all messages, in order, with the source lines that produced them."""

from __future__ import annotations

import ast
import contextlib
import gc
import http.server
import importlib
import inspect
import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import requests
from conftest import environ_for
from werkzeug.test import Client

import wsgi_oauth
from wsgi_oauth import Config, MemoryStore, create_app
from wsgi_oauth.demo.browser import Browser, Page, location_of
from wsgi_oauth.demo.dispatcher import Dispatcher
from wsgi_oauth.demo.episodes import divide
from wsgi_oauth.demo.kinds import KINDS
from wsgi_oauth.demo.lab.stories import STORIES
from wsgi_oauth.demo.launcher import Demo, Options, start_demo
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.messages import Message, SourceLine
from wsgi_oauth.demo.recorder import Recorder
from wsgi_oauth.demo.recording import ORIGIN_HEADER
from wsgi_oauth.demo.server import serve
from wsgi_oauth.demo.signing import encode
from wsgi_oauth.demo.trace import Trace
from wsgi_oauth.demo.traced_app import record_application

ROOT = Path(wsgi_oauth.__file__).parents[1]
SIGN_IN = [
    ("browser", "application", "GET", "/", None),
    ("application", "browser", "GET", "/", 302),
    ("browser", "provider", "GET", "/authorize", None),
    ("provider", "browser", "GET", "/authorize", 200),
    ("browser", "provider", "POST", "/authorize", None),
    ("provider", "browser", "POST", "/authorize", 302),
    ("browser", "application", "GET", "/callback", None),
    ("application", "provider", "POST", "/token", None),
    ("provider", "application", "POST", "/token", 200),
    ("application", "browser", "GET", "/callback", 303),
    ("browser", "application", "GET", "/profile", None),
    ("application", "provider", "GET", "/user", None),
    ("provider", "application", "GET", "/user", 200),
    ("application", "browser", "GET", "/profile", 200),
]


class Tab:
    """A browser that counts its messages."""

    def __init__(self) -> None:
        self.browser = Browser()
        self.seen: list[tuple[str, str, int | None]] = []  # method, URL and status; a request has no status

    def open(self, url: str) -> requests.Response:
        """Open a page, follow redirects, and press Allow."""
        form: dict[str, str] | None = None
        while True:
            response = self.browser.get(url) if form is None else self.browser.submit(url, form)
            method = "GET" if form is None else "POST"
            self.seen += [(method, url, None), (method, url, response.status_code)]
            page, form = Page(response.text), None
            if location := location_of(response):
                url = urljoin(url, location)
            elif "/authorize?" in url and page.action is not None:
                url, form = urljoin(url, page.action), page.fields | {"decision": "allow"}
            else:
                return response


def open_tabs(demo: Demo, number: int) -> list[Tab]:
    """Sign in with several browsers at the same time."""
    tabs = [Tab() for _ in range(number)]
    threads = [threading.Thread(target=tab.open, args=(f"{demo.url}/",)) for tab in tabs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tabs


def summary(message: Message) -> tuple[str, str, str, str, int | None]:
    return message.sender, message.receiver, message.method, urlsplit(message.url).path, message.status


def identify(message: Message) -> tuple[str, str, int | None]:
    return message.method, message.url, message.status


@pytest.fixture(scope="module")
def running() -> Iterator[Demo]:
    with start_demo(Options(port=0, provider_port=0, walk=True)) as running:
        yield running


@pytest.fixture
def demo(running: Demo) -> Demo:
    running.recorder.clear()
    running.provider.faults.clear()
    return running


class TestMessages:
    def test_all_messages_of_a_sign_in_are_there_in_order(self, demo: Demo) -> None:
        Tab().open(f"{demo.url}/")
        # The application reads the provider's metadata and keys once.
        messages = [each for each in demo.recorder.messages if each.endpoint not in {"discovery", "keys"}]
        assert [summary(each) for each in messages] == SIGN_IN
        assert [each.number for each in demo.recorder.messages] == sorted(
            each.number for each in demo.recorder.messages
        )

    def test_they_are_exactly_those_that_browsers_and_the_provider_count(
        self, demo: Demo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Four tabs at the same time, with faults. The provider's messages are counted where they are read and sent."""
        at_provider: list[tuple[str, str, int | None]] = []
        parse, send = http.server.BaseHTTPRequestHandler.parse_request, http.server.BaseHTTPRequestHandler.send_response

        def count_request(self: Any) -> bool:
            parsed = parse(self)
            at_provider.append((self.command, demo.provider.url + self.path, None))
            return parsed

        def count_response(self: Any, code: int, *args: Any) -> None:
            at_provider.append((self.command, demo.provider.url + self.path, code))
            send(self, code, *args)

        monkeypatch.setattr(http.server.BaseHTTPRequestHandler, "parse_request", count_request)
        monkeypatch.setattr(http.server.BaseHTTPRequestHandler, "send_response", count_response)
        for fault in ("token.500", "profile.401"):
            demo.provider.faults.add(fault)
        tabs = open_tabs(demo, 4)
        messages = demo.recorder.messages
        of_browsers = [each for each in messages if "browser" in {each.sender, each.receiver}]
        of_provider = [each for each in messages if "provider" in {each.sender, each.receiver}]
        assert Counter(map(identify, of_browsers)) == Counter(seen for tab in tabs for seen in tab.seen)
        assert Counter(map(identify, of_provider)) == Counter(seen for seen in at_provider if "/trace/" not in seen[1])

    def test_each_message_follows_its_cause(self, demo: Demo) -> None:
        open_tabs(demo, 4)
        open_exchanges: set[str] = set()
        for message in demo.recorder.messages:
            assert not message.parent or message.parent in open_exchanges
            if message.is_request:
                open_exchanges.add(message.exchange)
            else:
                open_exchanges.remove(message.exchange)
        assert not open_exchanges

    def test_health_checks_and_icons_are_not_recorded(self, demo: Demo) -> None:
        for url in (f"{demo.url}/healthz", f"{demo.url}/favicon.ico", f"{demo.provider.url}/favicon.ico"):
            Tab().open(url)
        assert demo.recorder.messages == ()

    def test_a_connection_that_a_fault_ends_is_a_response_without_a_status(self, demo: Demo) -> None:
        for fault, beginning in (("token.hang_up", ""), ("token.reset", ""), ("token.cut_body", "HTTP/1.1 200 OK\r\n")):
            demo.provider.faults.add(fault)
            Tab().open(f"{demo.url}/")
            # The provider records the end of the connection in a thread, perhaps after the browser has its answer.
            [response] = demo.recorder.wait_for(
                lambda messages: [each for each in messages if each.endpoint == "token" and not each.is_request], 60
            )
            assert response.status == 0
            assert response.body.startswith(beginning)
            assert response.source
            assert response.source.file == "wsgi_oauth/demo/faults.py"
            demo.recorder.clear()

    def test_the_session_file_is_recorded_before_and_after(self, demo: Demo) -> None:
        Tab().open(f"{demo.url}/")
        start, callback, profile = (
            each for each in demo.recorder.messages if each.sender == "application" and each.receiver == "browser"
        )
        [pending] = start.session_after
        assert start.session_before == {pending: None}
        assert start.session_after[pending]["data"].keys() == {"oauth_state"}
        [signed_in] = callback.session_after.keys() - {pending}
        assert callback.session_after[pending] is None
        assert callback.session_before[pending] is not None
        assert "oauth_token" in callback.session_after[signed_in]["data"]
        assert profile.session_before.keys() == profile.session_after.keys() == {signed_in}

    def test_the_origin_header_of_the_demo_is_neither_passed_on_nor_shown(self, demo: Demo) -> None:
        Tab().open(f"{demo.url}/")
        assert not any(each.header(ORIGIN_HEADER) for each in demo.recorder.messages)
        assert not any(ORIGIN_HEADER in each.headers for each in demo.provider.exchanges)

    def test_a_browser_cannot_pretend_to_be_the_application(self, demo: Demo) -> None:
        """Otherwise the trace would show lines of any file."""
        place = ["/etc/passwd", 1, "f"]
        origin = json.dumps(["", "application", "", [place], place])
        Browser().get(f"{demo.provider.url}/", {ORIGIN_HEADER: origin})
        assert [(each.sender, each.receiver) for each in demo.recorder.messages] == [
            ("browser", "provider"),
            ("provider", "browser"),
        ]
        assert demo.recorder.messages[0].source is None

    def test_a_request_of_the_check_command_is_one_of_the_application(self, demo: Demo) -> None:
        """As is one of an application that the demo has not started, such as the one in the README."""
        config = Config(client_id=demo.provider.client_id, client_secret="s", provider=demo.provider.url)
        Client(create_app(config, store=MemoryStore())).get("/")
        assert [(each.sender, each.receiver, each.endpoint) for each in demo.recorder.messages] == [
            ("application", "provider", "discovery"),
            ("provider", "application", "discovery"),
        ]

    def test_a_deeply_nested_origin_header_is_ignored(self, demo: Demo) -> None:
        assert Browser().get(f"{demo.provider.url}/", {ORIGIN_HEADER: "[" * 8000}).status_code == 200
        assert demo.recorder.messages[0].sender == "browser"

    @pytest.mark.parametrize("file", ["/etc/passwd", f"{ROOT}/setup.py", f"{ROOT}/wsgi_oauth/../tests/conftest.py"])
    def test_only_modules_of_the_package_are_sources(self, demo: Demo, file: str) -> None:
        place = [file, 1, "f"]
        origin = json.dumps([demo.recorder.key, "application", "", [place], place])
        Browser().get(f"{demo.provider.url}/", {ORIGIN_HEADER: origin})
        message = demo.recorder.messages[0]
        assert (message.sender, message.source, message.chain) == ("application", None, ())

    def test_only_the_processes_of_the_demo_can_add_messages(self, demo: Demo) -> None:
        for authorization in ("", "Bearer ", "Bearer wrong"):
            headers = {"Authorization": authorization}
            assert Browser().send("POST", f"{demo.provider.url}/trace/messages", headers).status_code == 403

    def test_they_survive_json(self, demo: Demo) -> None:
        Tab().open(f"{demo.url}/")
        for message in demo.recorder.messages:
            assert Message.from_json(message.to_json()) == message


class TestRecorder:
    MESSAGE = Message("browser", "application", "1", "GET", "http://127.0.0.1/")

    def test_the_oldest_sign_in_is_dropped_and_counted(self) -> None:
        recorder = Recorder(limit=5)
        for number, state in enumerate("aabcbc"):
            url = f"http://127.0.0.1/callback?state={state}"
            recorder.add(Message("provider", "browser", f"{number}-", "GET", "", 302, (("Location", url),)))
            recorder.add(Message("browser", "application", f"{number}", "GET", url))
        assert [each.url[-1] for each in recorder.messages if each.is_request] == ["c", "c"]
        assert recorder.dropped + len(recorder.messages) == 12

    def test_many_short_messages_are_dropped_together(self) -> None:
        """Otherwise each request would wait until all messages have been divided into sign-ins."""
        recorder = Recorder(limit=50)
        for number in range(51):
            recorder.add(Message("browser", "application", str(number), "GET", f"http://127.0.0.1/{number}"))
        assert (len(recorder.messages), recorder.dropped) == (45, 6)

    def test_waiting_ends_with_the_expected_message(self) -> None:
        recorder = Recorder()
        threading.Timer(0.01, recorder.add, [self.MESSAGE]).start()
        assert recorder.wait_for(lambda messages: len(messages) == 1, timeout=60)

    def test_waiting_ends_when_the_recorder_is_closed(self) -> None:
        recorder = Recorder()
        threading.Timer(0.01, recorder.close).start()
        assert not recorder.wait_for(lambda messages: bool(messages), timeout=60)


# -- source lines: without the line there is no message -------------------------------------------------------------


class Removed(Exception):
    """Raised by a line that a test has replaced."""


class Story:
    """The application and the provider in this process, so that a test can change their code."""

    def __init__(self, dispatcher: Dispatcher, url: str) -> None:
        self.dispatcher = dispatcher
        self.url = url
        self.tab = Tab()

    def sign_in(self) -> None:
        self.tab.open(f"{self.url}/profile")

    def refresh(self) -> None:
        self.dispatcher.provider.faults.add("profile.401")
        self.tab.open(f"{self.url}/profile")

    def leave(self) -> None:
        self.sign_out(self.tab, self.url)

    def meet_another_issuer(self) -> None:
        self.dispatcher.provider.faults.add("authorize.wrong_iss")
        self.tab.open(f"{self.url}/")

    def lose_the_connection(self) -> None:
        self.dispatcher.provider.faults.add("token.cut_body")
        self.tab.open(f"{self.url}/")

    ACTS = (sign_in, refresh, leave, meet_another_issuer, lose_the_connection)
    SIGNED_IN = (refresh, leave)

    def play(self, act: Callable[[Story], None], line: SourceLine | None = None) -> list[Message]:
        """Play one act, without *line* if it is given; return its messages."""
        self.tab = Tab()
        self.dispatcher.provider.faults.clear()
        if act in self.SIGNED_IN:
            self.sign_in()
        self.dispatcher.recorder.clear()
        with pytest.MonkeyPatch.context() as monkeypatch:
            if line:
                remove_line(line, monkeypatch)
            with contextlib.suppress(Exception):  # the missing line can break the rest of the act
                act(self)
        return list(self.dispatcher.recorder.messages)

    @staticmethod
    def sign_out(tab: Tab, url: str) -> None:
        page = Page(tab.open(f"{url}/logout").text)
        assert page.action is not None
        tab.browser.submit(urljoin(f"{url}/logout", page.action), page.fields)


def kind(message: Message) -> tuple[Any, ...]:
    """Return the properties of a message that distinguish it in the story, without random values and ports."""
    is_refresh = "grant_type=refresh_token" in message.body
    return (*summary(message), is_refresh, message.status == 0 and message.body[:15])


def functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """Yield all functions and methods that are defined in *module*, without their decorators."""
    classes = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    for each in [value for owner in (module, *classes) for value in vars(owner).values()]:
        if isinstance(each, property):
            each = each.fget  # noqa: PLW2901
        if isinstance(each, cached_property):
            each = each.func  # noqa: PLW2901
        if isinstance(each, (staticmethod, classmethod)):
            each = each.__func__  # noqa: PLW2901
        if inspect.isfunction(each) and inspect.unwrap(each).__module__ == module.__name__:
            yield inspect.unwrap(each)


def removed() -> None:
    raise Removed


class Remover(ast.NodeTransformer):
    """Puts a call of :func:`removed` in front of the innermost statement of a line, or of the lambda in it.

    The statement itself stays, because the names in it decide which variables the function has.
    """

    def __init__(self, source: SourceLine) -> None:
        self.source = source
        self.has_replaced = False

    def visit(self, node: ast.AST) -> Any:
        line = getattr(node, "lineno", None)
        if line and not line <= self.source.line <= (getattr(node, "end_lineno", None) or 0):
            return node
        self.generic_visit(node)
        wanted: Any = ast.Lambda if self.source.function == "<lambda>" else ast.stmt
        if self.has_replaced or not isinstance(node, wanted) or isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            return node
        self.has_replaced = True
        call = ast.parse("__import__('test_trace').removed()").body[0]
        if isinstance(node, ast.Lambda):
            node.body = ast.BoolOp(ast.Or(), [call.value, node.body])  # type: ignore[attr-defined]
            return ast.fix_missing_locations(node)
        return [ast.copy_location(call, node), node]


def code_objects(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_objects(constant)


def remove_line(source: SourceLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the statement at *source* in the running program with one that raises."""
    name = source.file.removesuffix(".py").replace("/", ".")
    module = importlib.import_module(name)
    assert module.__file__
    tree = Remover(source).visit(ast.parse(Path(module.__file__).read_text()))
    changed = compile(tree, module.__file__, "exec", dont_inherit=True)
    for function in functions_of(module):
        for code in code_objects(function.__code__):
            if source.line not in {line for _, _, line in code.co_lines()} or code.co_name != source.function:
                continue
            # The function itself, or the functions inside it that exist already.
            for live in {function, *(each for each in gc.get_referrers(code) if inspect.isfunction(each))}:
                [new_code] = [each for each in code_objects(changed) if place(each) == place(live.__code__)]
                monkeypatch.setattr(live, "__code__", new_code)
            return
    raise AssertionError(f"{source} is in no function")


def place(code: CodeType) -> tuple[object, ...]:
    return code.co_name, code.co_firstlineno, code.co_freevars


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("sessions")
    folder.chmod(0o700)
    dispatcher = Dispatcher(LocalProvider(), Recorder())
    with serve(dispatcher) as provider:
        dispatcher.provider.url = provider.url
        environ = environ_for(dispatcher.provider, SESSION_STORE=f"file:{folder}")
        application = create_app(Config.from_environ(environ))
        with serve(record_application(application, dispatcher.recorder, folder)) as server:
            yield Story(dispatcher, server.url)


@pytest.fixture(scope="module")
def acts(story: Story) -> list[list[Message]]:
    return [story.play(act) for act in Story.ACTS]


@pytest.fixture(scope="module")
def told(acts: list[list[Message]]) -> list[Message]:
    return [message for messages in acts for message in messages]


class TestSourceLines:
    def test_the_lines_of_the_sign_in_are_those_of_the_page(self, told: list[Message]) -> None:
        texts = [each.source.text for each in told if each.source and each.source.file == "wsgi_oauth/flow.py"]
        assert texts[:6] == [
            'github = self.oauth2_session(token=request.session["oauth_token"])',
            "return self.redirect(authorization_url)",
            "token = github.fetch_token(self.token_url, **attempt.parameters)",
            "return self.redirect(attempt.next_url, 303)",
            "document = self.fetch_user_document(github)",
            "return self.show_page(document) if request.wants_page else self.jsonify(document)",
        ]

    def test_the_line_of_a_refusal_is_the_check_that_the_page_has_called(self, told: list[Message]) -> None:
        [refusal] = [each for each in told if each.status == 400]
        assert refusal.source
        assert refusal.handler
        assert (refusal.source.file, refusal.source.function) == ("wsgi_oauth/sign_in.py", "check_response")
        assert refusal.source.text.startswith("raise ")
        assert refusal.handler.text == "with self.consumed_attempt() as attempt:"

    def test_every_message_of_a_server_has_a_line_and_no_message_of_the_browser(self, told: list[Message]) -> None:
        assert [summary(each) for each in told if (each.source is None) != (each.sender == "browser")] == []

    def test_each_line_has_its_text(self, told: list[Message]) -> None:
        for line in {line for message in told for line in message.chain}:
            assert (ROOT / line.file).read_text().splitlines()[line.line - 1].strip() == line.text

    def test_without_the_line_there_is_no_such_message(self, story: Story, acts: list[list[Message]]) -> None:
        """Each statement that the trace names is taken out of the program once: then the message must be missing."""
        proved: set[SourceLine] = set()
        wrong = []
        for act, messages in zip(Story.ACTS, acts, strict=True):
            everything = Counter(kind(each) for each in messages)
            for line in dict.fromkeys(line for message in messages for line in message.chain):
                if line not in proved:
                    left = Counter(kind(each) for each in story.play(act, line))
                    kinds = {kind(each) for each in messages if line in each.chain}
                    wrong += [(line, each) for each in kinds if left[each] >= everything[each]]
                proved.add(line)
        assert wrong == []
        assert {message.source for messages in acts for message in messages} - {None} <= proved


# -- the page -------------------------------------------------------------------------------------------------------


class Diagram(HTMLParser):
    """The trace page as a screen reader gets it: titles, messages, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.titles: list[str] = []
        self.messages: list[str] = []
        self.text = ""
        self._in: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kind = dict(attrs).get("class") or ""
        if tag == "h2":
            self.titles.append("")
        if kind == "arrow":
            self.messages.append("")
        if tag not in {"meta", "br", "input", "link"}:
            self._in.append(kind if kind == "arrow" else tag)

    def handle_endtag(self, tag: str) -> None:
        if self._in:
            self._in.pop()

    def handle_data(self, data: str) -> None:
        if self._in and self._in[-1] in {"style", "script"}:
            return
        self.text += data
        if "h2" in self._in:
            self.titles[-1] += data
        if "arrow" in self._in:
            self.messages[-1] += data


@pytest.fixture
def read_page(demo: Demo) -> Callable[..., Diagram]:
    def read_page(path: str = "/trace") -> Diagram:
        return Diagram(Browser().get(demo.provider.url + path).text)

    return read_page


def test_a_recheck_is_recognized_by_the_request_for_the_user_document() -> None:
    page = {"exchange": "1", "method": "GET", "url": "http://127.0.0.1:8000/tokens"}
    asked = {
        "exchange": "2",
        "method": "GET",
        "url": "http://127.0.0.1:8001/user",
        "endpoint": "profile",
        "parent": "1",
    }
    messages = [
        Message("browser", "application", **page),
        Message("application", "provider", **asked),
        Message("provider", "application", **asked, status=200),
        Message("application", "browser", **page, status=200),
    ]
    assert [(each.title, len(each.messages)) for each in divide(messages)] == [("Recheck", 4)]


@pytest.mark.parametrize(("seconds", "episodes"), [(1, 1), (11, 2)])
def test_a_late_request_for_the_target_of_a_redirect_is_a_new_episode(seconds: float, episodes: int) -> None:
    redirect = {"exchange": "1", "method": "GET", "url": "http://127.0.0.1:8000/page"}
    messages = [
        Message("browser", "application", **redirect),
        Message("application", "browser", **redirect, status=302, headers=(("Location", "/profile"),)),
        Message("browser", "application", "2", "GET", "http://127.0.0.1:8000/profile", time=seconds),
    ]
    assert len(divide(messages)) == episodes


def test_in_the_lab_no_sentence_speaks_to_the_reader() -> None:
    assert [each.name for each in KINDS.values() if re.search(r"\byou", each.tell("Victor"), re.IGNORECASE)] == []


class TestPage:
    def test_it_lists_all_messages_with_sender_and_receiver(
        self, demo: Demo, read_page: Callable[..., Diagram]
    ) -> None:
        Tab().open(f"{demo.url}/")
        page = read_page()
        assert page.titles == ["1. Sign-in"]
        messages = [" ".join(each.split()) for each in page.messages]
        assert messages[0] == "browser to application: GET /"
        assert "application to browser: 302 Found" in messages
        assert "browser to provider: GET /authorize?…" in messages
        assert len(page.messages) == len(demo.recorder.messages) >= 14

    def test_two_tabs_a_refresh_and_a_sign_out_have_titles(self, demo: Demo, read_page: Callable[..., Diagram]) -> None:
        tabs = open_tabs(demo, 2)
        demo.provider.faults.add("profile.401")
        tabs[0].open(f"{demo.url}/profile")
        tabs[0].open(f"{demo.url}/profile")
        Story.sign_out(tabs[0], demo.url)
        assert read_page().titles == [
            "5. Sign-out",
            "4. Profile page",
            "3. Refresh",
            "2. Sign-in",
            "1. Sign-in",
        ]
        metadata = {"discovery", "keys"}
        episodes = divide([each for each in demo.recorder.messages if each.endpoint not in metadata])
        assert [len(each.messages) for each in episodes] == [14, 14, 8, 4, 8]

    @pytest.mark.parametrize(
        ("fault", "title"),
        [
            ("authorize.access_denied", "Sign-in, declined"),
            ("authorize.wrong_iss", "Sign-in, refused"),
            ("token.500", "Sign-in, refused"),
            ("token.hang_up", "Sign-in, refused"),
            ("token.id_token_for_another_client", "Sign-in, refused"),
        ],
    )
    def test_a_fault_appears_in_the_title(
        self, demo: Demo, read_page: Callable[..., Diagram], fault: str, title: str
    ) -> None:
        demo.provider.faults.add(fault)
        Tab().open(f"{demo.url}/")
        assert read_page().titles == [f"1. {title}"]
        assert "A fault has replaced or changed this response." in read_page().text

    def test_the_title_of_a_chosen_fault_is_shown(self) -> None:
        recorder = Recorder()
        form = {"headers": (("Content-Type", "application/x-www-form-urlencoded"),), "body": "fault=token.503"}
        recorder.add(Message("browser", "provider", "1", "POST", "http://127.0.0.1/authorize", **form))
        assert "The provider is down for maintenance" in Client(Trace(recorder, "", "")).get("/trace").text

    def test_runs_of_the_lab_and_the_providers_own_pages_are_left_out(
        self, demo: Demo, read_page: Callable[..., Diagram]
    ) -> None:
        Tab().open(f"{demo.provider.url}/")
        demo.recorder.add(Message("Victor", "application", "1", "GET", f"{demo.url}/", run="a", title="An attack"))
        Tab().open(f"{demo.url}/signed-out")
        assert read_page().titles == ["1. Signed-out page"]
        assert read_page("/trace?run=a").titles == ["1. An attack"]

    def test_each_parameter_and_header_has_an_explanation(self, demo: Demo, read_page: Callable[..., Diagram]) -> None:
        tab = Tab()
        tab.open(f"{demo.url}/profile")
        demo.provider.faults.add("profile.401")
        tab.open(f"{demo.url}/profile")
        Story.sign_out(tab, demo.url)
        trace = Trace(demo.recorder, "", "")
        fields = [
            (view.kind.name, field.name)
            for episode in divide(demo.recorder.messages)
            for view in trace.view(episode)
            for group in view.groups
            for field in group.fields
            if not field.explanation
        ]
        assert fields == []

    def test_deleted_cookies_are_those_of_the_sign_in_and_of_the_session(self, demo: Demo) -> None:
        tab = Tab()
        tab.open(f"{demo.url}/")
        Story.sign_out(tab, demo.url)
        deleted = {
            field.explanation.partition(".")[0]
            for episode in divide(demo.recorder.messages)
            for view in Trace(demo.recorder, "", "").view(episode)
            for group in view.groups
            for field in group.fields
            if field.name == "Set-Cookie" and "Max-Age=0" in field.value
        }
        assert deleted == {"deletes the cookie of the finished sign-in", "deletes the session cookie"}

    def test_no_secret_is_shown_without_reveal(self, demo: Demo, read_page: Callable[..., Diagram]) -> None:
        Tab().open(f"{demo.url}/")
        secrets = set()
        for message in demo.recorder.messages:
            wire = [message.url, message.header("Location"), json.dumps(list(message.session_after.values()))]
            wire += [message.header(name) for name in ("Cookie", "Set-Cookie", "Authorization")]
            if "html" not in message.header("Content-Type") and message.endpoint not in {"discovery", "keys"}:
                wire.append(message.body)
            secrets |= set(re.findall(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{22,}", " ".join(wire)))
        secrets = {each for each in secrets if not each.startswith("wsgi_oauth_")}  # names of cookies
        assert len(secrets) >= 9  # state, challenge, verifier, code, Basic, two tokens, two session ids
        text = read_page().text
        assert [secret for secret in secrets if secret[:5] in text] == []

    def test_no_secret_in_an_unusual_place_is_shown_without_reveal(
        self, demo: Demo, read_page: Callable[..., Diagram]
    ) -> None:
        secret, browser = "zUVkT2b9mQxR4sWc7eYdGh1J", Browser()
        for path, headers, document in [
            (f"/?next=/page?token={secret}", {}, {}),
            (f"/nope?redirect_uri=http://127.0.0.1/%23access_token={secret}", {}, {}),
            (f"/nope?error=access_denied&error_description=the+code+{secret}+is+invalid", {}, {}),
            (f"/nope?{secret}2", {}, {}),
            ("/nope", {"Authorization": secret}, {}),
            ("/nope", {"Cookie": secret}, {}),
            ("/nope", {"Referer": f"{demo.url}/page?iss=1#{secret}"}, {}),
            ("/nope", {}, {f"{secret}2": 1, "message": f"code={secret}", "next": f"/?code={secret}"}),
        ]:
            if document:
                browser.send("POST", demo.url + path, {"Content-Type": "application/json"}, json.dumps(document))
            else:
                browser.get(demo.url + path, headers)
        text = read_page().text
        assert "zUVk… (24 characters)" in text
        assert secret[:5] not in text

    def test_secrets_are_shown_with_reveal(self, demo: Demo) -> None:
        Tab().open(f"{demo.url}/")
        [token] = [each for each in demo.recorder.messages if each.endpoint == "token" and not each.is_request]
        trace = Client(Trace(demo.recorder, "", "", reveal=True))
        assert json.loads(token.body)["access_token"] in trace.get("/trace").get_data(as_text=True)

    def test_values_of_attackers_are_text_and_no_markup(self, demo: Demo, read_page: Callable[..., Diagram]) -> None:
        browser = Browser()
        markup = "<script>alert(1)</script>"
        for url in (f"{demo.url}/callback?error={markup}&state={markup}", f"{demo.provider.url}/{markup}?{markup}=1"):
            browser.get(url.replace("<", "%3C"), {"User-Agent": markup})
        html = browser.get(f"{demo.provider.url}/trace").text
        assert markup not in html
        assert "&lt;script&gt;alert(1)" in html

    @pytest.mark.parametrize(
        ("host", "body"),
        [
            ("[", ""),
            ("", '{"a": ' + "[" * 900 + "]" * 900 + "}"),
            ("", json.dumps({"id_token": "." + encode(b'{"a":' * 900 + b"1" + b"}" * 900) + "."})),
            ("", r'{"name": "\ud800"}'),
        ],
        ids=["malformed host", "deep JSON", "deep token", "lone surrogate"],
    )
    def test_a_hostile_message_breaks_no_page(
        self, host: str, body: str, demo: Demo, read_page: Callable[..., Diagram]
    ) -> None:
        """Each site can make the browser send such a body: ``text/plain;json`` needs no permission (Fetch 2.2.2)."""
        headers = {"Content-Type": "text/plain;json", **({"Host": host} if host else {})}
        Browser().send("POST", f"{demo.url}/nope", headers, body)
        assert len(read_page().messages) == 2

    def test_a_malformed_redirect_breaks_no_page(self) -> None:
        recorder = Recorder()
        url = "http://127.0.0.1/"
        recorder.add(Message("browser", "application", "1", "GET", url))
        recorder.add(Message("application", "browser", "1", "GET", url, 302, (("Location", "http://["),)))
        assert "http://[" in Client(Trace(recorder, "", "")).get("/trace").text

    def test_other_host_names_are_refused(self, demo: Demo) -> None:
        """Otherwise a site whose name leads to 127.0.0.1 could read the page (DNS rebinding)."""
        for path in ("/trace", "/trace/events", "/trace/glossary"):
            response = Browser().get(demo.provider.url + path, {"Host": "attacker.example:8001"})
            assert response.status_code == 421

    def test_it_sends_an_event_for_new_messages(self, demo: Demo) -> None:
        with urllib.request.urlopen(f"{demo.provider.url}/trace/events", timeout=60) as events:
            assert events.readline() == b"data: 0\n"
            Tab().open(f"{demo.url}/signed-out")
            last = demo.recorder.messages[-1].number
            assert b"data: %d\n" % last in iter(events.readline, b"")  # several messages may share an event

    def test_a_part_of_the_page_is_enough_for_an_update(self, demo: Demo, read_page: Callable[..., Diagram]) -> None:
        Tab().open(f"{demo.url}/")
        last = demo.recorder.messages[-1].number
        Tab().open(f"{demo.url}/signed-out")
        assert read_page(f"/trace?after={last}").titles == ["2. Signed-out page"]

    def test_the_pages_of_the_application_link_to_it(self, demo: Demo) -> None:
        for path in ("/signed-out", "/nowhere", "/callback"):
            assert f'href="{demo.provider.url}/trace"' in Browser().get(demo.url + path).text

    def test_the_attackers_view_of_all_messages_is_explained_once(
        self, demo: Demo, read_page: Callable[..., Diagram]
    ) -> None:
        Tab().open(f"{demo.url}/")
        text = read_page().text
        assert text.count("(same-origin policy)") == text.count("Over https, only the names") == 1
        assert text.count("with a code and a state of the attacker") == 1
        assert "Without https, as here on your own machine: code and state." in text

    def test_it_decodes_the_id_token(self, demo: Demo, read_page: Callable[..., Diagram]) -> None:
        Tab().open(f"{demo.url}/")
        assert "Claims in the ID token" in read_page().text

    def test_terms_link_to_the_glossary(self, demo: Demo) -> None:
        Tab().open(f"{demo.url}/")
        trace, glossary = (Browser().get(demo.provider.url + path).text for path in ("/trace", "/trace/glossary"))
        links = set(re.findall(r'href="/trace/glossary#([^"]+)"', trace))
        assert {"state", "pkce", "code-verifier"} <= links
        assert links <= set(re.findall(r'id="([^"]+)"', glossary))

    def test_attacks_link_to_their_stories_in_the_lab(self, demo: Demo) -> None:
        Tab().open(f"{demo.url}/")
        trace = Browser().get(f"{demo.provider.url}/trace").text
        linked = set(re.findall(r'href="/lab/([^"]+)"', trace))
        assert {"mix-up", "login-csrf"} <= linked <= STORIES.keys()

    def test_the_glossary_explains_the_terms(self, read_page: Callable[..., Diagram]) -> None:
        page = read_page("/trace/glossary")
        assert "Code verifier: the secret of PKCE" in page.text
        assert "*" not in page.text


def test_a_production_application_contains_no_trace(tmp_path: Path) -> None:
    """No import of the demo, no changed class and no route."""
    script = """
import os, sys
import wsgi_oauth
from wsgi_oauth.transport.adapter import BoundedAdapter
from werkzeug import Response
from werkzeug.test import Client
app = wsgi_oauth.get_app()
client = Client(app)
print(*(client.get(path, base_url="http://127.0.0.1").status_code for path in ("/", "/trace", "/lab")))
print([name for name in sys.modules if name.startswith("wsgi_oauth.demo")])
print(hasattr(Response.__init__, "original"), hasattr(BoundedAdapter._send, "original"), type(app).__name__)
"""
    environ = {
        "PYTHONPATH": str(ROOT),
        "WSGI_OAUTH_CLIENT_ID": "id",
        "WSGI_OAUTH_CLIENT_SECRET": "secret",
        "WSGI_OAUTH_SESSION_STORE": "memory:",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["302 404 404", "[]", "False False OAuthApp"], done.stderr
