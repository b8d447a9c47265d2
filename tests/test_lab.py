"""The attack lab of the demo: each attack fails with its guard and succeeds without it, in a process of its own."""

from __future__ import annotations

import dataclasses
import os
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requirements
from werkzeug.test import Client, TestResponse

import wsgi_oauth
from wsgi_oauth.demo.dispatcher import Dispatcher
from wsgi_oauth.demo.lab import runs as runs_module
from wsgi_oauth.demo.lab.runs import RunFailed, Runs, carry_out_in_process
from wsgi_oauth.demo.lab.stories import STORIES
from wsgi_oauth.demo.lab.story import Story, guard_sources, read_check
from wsgi_oauth.demo.lab.web import LabPages
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.messages import ATTACKER, VICTIM, Message
from wsgi_oauth.demo.recorder import Recorder

PROJECT = Path(wsgi_oauth.__file__).parents[1]
each_story = pytest.mark.parametrize("story", STORIES.values(), ids=lambda story: story.name)


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, bool], dict[str, Any]]:
    """Return the outcomes of all attacks, with and without their guards, from two processes."""
    found = {}
    for guarded in (True, False):
        for outcome in carry_out_in_process(STORIES.values(), guarded=guarded):
            found[outcome["story"], guarded] = outcome
    return found


@each_story
class TestAttack:
    def test_fails_with_its_guard_and_gives_the_reason(self, story: Story, outcomes: Any) -> None:
        outcome = outcomes[story.name, True]
        assert not outcome["has_succeeded"], outcome
        assert outcome["text"]

    def test_succeeds_without_its_guard(self, story: Story, outcomes: Any) -> None:
        outcome = outcomes[story.name, False]
        assert outcome["has_succeeded"], outcome
        assert {"Victor", "Mallory"} & set(outcome["text"].replace("'", " ").split())

    def test_each_message_names_its_sender_and_the_line_that_sent_it(self, story: Story, outcomes: Any) -> None:
        messages = [Message.from_json(text) for text in outcomes[story.name, False]["messages"]]
        requests = [message for message in messages if message.is_request]
        assert len(messages) == 2 * len(requests)
        for request in requests:
            assert request.sender != "browser"
            assert request.source, request
            if request.sender in {VICTIM, ATTACKER}:
                assert request.source.file.endswith("_attacks.py")

    def test_shows_guard_and_replacement_as_they_stand_in_the_source(self, story: Story) -> None:
        for guard, replacement in guard_sources(story):
            assert guard != replacement
            for source in (guard, replacement):
                lines = (PROJECT / source.file).read_text().splitlines()[source.line - 1 :]
                shown = source.text.splitlines()
                assert [line.strip() for line in lines[: len(shown)]] == [line.strip() for line in shown]

    def test_marks_lines_of_its_guard(self, story: Story) -> None:
        sources = [*(guard for guard, _ in guard_sources(story)), *filter(None, [read_check(story)])]
        assert all(any(is_marked for _, is_marked in source.mark(story.marks)) for source in sources)
        assert all(any(mark in source.text for source in sources) for mark in story.marks)

    @pytest.mark.parametrize("guarded", [True, False])
    def test_its_guard_acts_at_a_message_of_the_run(self, story: Story, guarded: bool, outcomes: Any) -> None:
        messages = [Message.from_json(text) for text in outcomes[story.name, guarded]["messages"]]
        requests = [f"{each.sender}: {each.method} {urlsplit(each.url).path}" for each in messages if each.is_request]
        assert story.acts_at in requests

    def test_has_a_story_of_at_most_120_words(self, story: Story) -> None:
        assert len(f"{story.goal} {story.course} {story.defence}".split()) <= 120

    def test_is_carried_out_by_the_test_of_its_requirement(self, story: Story) -> None:
        tested = [
            proof.requirements
            for proof, guards in requirements.guards_by_attack().items()
            if tuple(story.guards) in guards
        ]
        numbers = {int(name.removeprefix("S")) for name in story.requirements}
        assert any(numbers <= each for each in tested), story.requirements


@pytest.mark.parametrize("guarded", [True, False])
def test_trace_of_the_stolen_listing_contains_the_session_files(guarded: bool, outcomes: Any) -> None:
    messages = [Message.from_json(text) for text in outcomes["session-listing", guarded]["messages"]]
    [callback] = [each for each in messages if not each.is_request and "/callback" in each.url]
    assert any(callback.session_after.values())


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def client(recorder: Recorder) -> Client:
    """Return a client of the demo's server, which has the lab in front of the provider."""
    dispatcher = Dispatcher(LocalProvider(), recorder)
    dispatcher.pages["/lab"] = LabPages(Runs(recorder))
    return Client(dispatcher)


def find_token(client: Client) -> str:
    page = client.get("/lab/login-csrf").text
    return page.partition('name="token" value="')[2].partition('"')[0]


@pytest.fixture(scope="module")
def unguarded(client: Client) -> TestResponse:
    """Start an attack without its guard, as the button does; return the page of the result."""
    started = client.post("/lab/login-csrf", data={"token": find_token(client), "guard": "no"})
    assert started.status_code == 303
    return client.get(started.headers["Location"])


class TestPages:
    def test_list_all_attacks(self, client: Client) -> None:
        page = client.get("/lab")
        assert page.status_code == 200
        assert all(f'href="/lab/{name}"' in page.text for name in STORIES)

    def test_show_the_result_of_a_run(self, unguarded: TestResponse) -> None:
        assert unguarded.status_code == 200
        assert "The attack succeeded" in unguarded.text
        assert "Victor is signed in as Mallory." in unguarded.text

    def test_show_the_message_at_which_the_guard_acts(self, unguarded: TestResponse) -> None:
        assert unguarded.text.count("Here the guard is missing.") == 1
        assert "The browser of Victor brings the code to the application." in unguarded.text

    def test_mark_the_lines_of_the_guard_that_decide(self, client: Client) -> None:
        page = client.get("/lab/code-injection").text
        assert "<mark>    return cls(secrets.token_urlsafe(32)" in page
        assert "rfc6749/grant_types/authorization_code.py" in page

    def test_link_to_the_last_result_from_the_list(self, client: Client, unguarded: TestResponse) -> None:
        assert f'href="{unguarded.request.path}"' in client.get("/lab").text

    def test_record_the_messages_of_a_run_under_its_title(self, recorder: Recorder, unguarded: TestResponse) -> None:
        run_id = unguarded.request.path.rpartition("/")[2]
        messages = [message for message in recorder.messages if message.run == run_id]
        assert {message.title for message in messages} == {f"{STORIES['login-csrf'].title} (without the guard)"}
        assert len(messages) > 10

    def test_run_no_script_and_cannot_be_framed(self, unguarded: TestResponse) -> None:
        policy = unguarded.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "frame-ancestors 'none'" in policy

    @pytest.mark.parametrize("form", [{}, {"token": "x"}, {"token": "\u00e9"}])
    def test_start_nothing_for_another_site(self, client: Client, recorder: Recorder, form: dict[str, str]) -> None:
        before = len(recorder.messages)
        assert client.post("/lab/login-csrf", data=form).status_code == 403
        assert len(recorder.messages) == before

    def test_answer_under_loopback_names_only(self, client: Client) -> None:
        assert client.get("/lab", headers={"Host": "attacker.example"}).status_code == 421

    @pytest.mark.parametrize("path", ["/lab/unknown", "/lab/login-csrf/unknown", "/lab/a/b/c"])
    def test_say_that_an_attack_or_a_run_is_unknown(self, client: Client, path: str) -> None:
        page = client.get(path)
        assert page.status_code == 404
        assert "Attack lab" in page.text

    def test_name_the_methods_of_a_page(self, client: Client) -> None:
        answer = client.delete("/lab")
        assert answer.status_code == 405
        assert set(answer.allow) == {"GET", "HEAD"}

    def test_say_why_a_run_has_failed(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise RunFailed("attack lab: the run has failed (no result after 30 seconds)")

        monkeypatch.setattr(runs_module, "carry_out_in_process", fail)
        page = client.post("/lab/login-csrf", data={"token": find_token(client), "guard": "no"})
        assert page.status_code == 500
        assert "no result after 30 seconds" in page.text


OUTCOME = {"story": "mix-up", "guarded": True, "has_succeeded": False, "text": "", "log": [], "messages": []}

# Runs an attack in a daemon thread, as the server of the demo does, until its input ends. The attack is the program in
# its argument.
# A program that starts a run with the Python that its argument names, as the demo does.
DEMO = """
import sys
from wsgi_oauth.demo.lab.runs import carry_out_in_process
from wsgi_oauth.demo.lab.stories import STORIES
sys.executable = sys.argv[1]
carry_out_in_process(STORIES.values(), guarded=True)
"""
# A run whose attack takes long. It writes to the pipe.
RUN = """
import sys, time
from wsgi_oauth.demo.lab import run
pipe = open({pipe!r}, "w")
run.carry_out = lambda *_, **__: (print("started", file=pipe, flush=True), time.sleep(30))
run.main()
"""


class TestRuns:
    def test_a_failed_process_gives_its_reason(self) -> None:
        unknown = dataclasses.replace(STORIES["mix-up"], name="unknown")
        with pytest.raises(RunFailed, match="invalid choice: 'unknown'"):
            carry_out_in_process([unknown], guarded=True)

    def test_a_process_ends_with_the_demo(self, tmp_path: Path) -> None:
        """Otherwise an attack in progress would outlive it, by up to 30 seconds."""
        pipe, run, python = (tmp_path / name for name in ("pipe", "run.py", "python"))
        os.mkfifo(pipe)
        run.write_text(RUN.format(pipe=str(pipe)))
        python.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -c "$(cat {run})" "$@"\n')
        python.chmod(0o700)
        with (
            open(pipe, "rb", buffering=0, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as lines,
            subprocess.Popen([sys.executable, "-c", DEMO, str(python)]) as demo,
        ):
            assert select.select([lines], [], [], 60)[0]
            assert lines.read() == b"started\n"
            demo.kill()
            assert select.select([lines], [], [], 20)[0]  # the end of the pipe, which only the run keeps open
            assert lines.read() == b""

    def test_one_attack_is_carried_out_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        running, most = [], []
        second = threading.Event()

        def carry_out(*_: Any, **__: Any) -> list[dict[str, Any]]:
            running.append(1)
            most.append(len(running))
            second.wait(0.05)
            running.pop()
            outcome = {
                "story": "mix-up",
                "guarded": True,
                "has_succeeded": False,
                "text": "",
                "log": [],
                "messages": [],
            }
            return [outcome]

        monkeypatch.setattr(runs_module, "carry_out_in_process", carry_out)
        runs = Runs(Recorder())
        threads = [
            threading.Thread(target=runs.start, args=[STORIES["mix-up"]], kwargs={"guarded": True}) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1, 1, 1]

    def test_old_results_are_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runs_module, "carry_out_in_process", lambda *_, **__: [{**OUTCOME}])
        runs = Runs(Recorder())
        ids = [runs.start(STORIES["mix-up"], guarded=True).id for _ in range(101)]
        assert runs.find(ids[0]) is None
        assert runs.find(ids[1])
        assert runs.find_last(STORIES["mix-up"], guarded=True) == runs.find(ids[-1])
