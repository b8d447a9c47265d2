"""Start the runs of attacks, each in a process of its own, and keep their results."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..messages import Message
from ..recorder import Recorder
from .run import DEADLINE
from .story import Story

_MAX_RUNS = 100  # results that are kept


class RunFailed(Exception):
    """A run has ended without a result."""


@dataclass(frozen=True)
class Run:
    """The result of one run."""

    id: str
    story: str  # its name
    guarded: bool
    has_succeeded: bool
    text: str  # the attacker's gain, or the reason why the attack failed
    log: Sequence[str]  # the application's log
    messages: Sequence[Message]


def carry_out_in_process(stories: Iterable[Story], *, guarded: bool) -> list[dict[str, Any]]:
    """Carry out attacks in a new process, which ends with this one; return the outcome of each as a JSON object.

    :raises RunFailed: if the process has failed, or has not ended in time.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_OAUTH_")}
    names = [story.name for story in stories]
    command = [sys.executable, "-m", "wsgi_oauth.demo.lab.run", "--end-with-input", *names]
    ended, end = os.pipe()  # the system closes `end` when this process ends, for whatever reason
    # The folder is removed here, because a process that is killed leaves its own files.
    with tempfile.TemporaryDirectory(prefix="wsgi-oauth-lab-") as folder:
        process = subprocess.Popen(  # no part of the command comes from a request
            [*command, *([] if guarded else ["--without-guard"])],
            env={**inherited, "TMPDIR": folder, "NO_PROXY": "*", "no_proxy": "*"},
            stdin=ended,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(ended)
        output, problem = process.communicate()
        os.close(end)
    if process.returncode:
        reason = f"no result after {DEADLINE} seconds" if process.returncode < 0 else problem
        raise RunFailed(f"attack lab: the run has failed ({reason.strip()})")
    return [json.loads(line) for line in output.splitlines()]


class Runs:
    """All runs of this demo. One attack is carried out at a time.

    :param recorder: takes the messages of all runs.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()

    def start(self, story: Story, *, guarded: bool) -> Run:
        """Carry out the attack of *story* in a new process; return the result.

        :raises RunFailed: if the process has failed.
        """
        with self._lock:
            [result] = carry_out_in_process([story], guarded=guarded)
            run_id, title = secrets.token_hex(4), f"{story.title} ({'with' if guarded else 'without'} the guard)"
            messages = [
                self._recorder.add(dataclasses.replace(Message.from_json(text), run=run_id, title=title))
                for text in result.pop("messages")
            ]
            run = Run(run_id, **result, messages=messages)
            self._runs[run.id] = run
            if len(self._runs) > _MAX_RUNS:
                del self._runs[next(iter(self._runs))]
        return run

    def find(self, run_id: str) -> Run | None:
        """Return a run; None if its id is unknown."""
        return self._runs.get(run_id)

    def find_last(self, story: Story, *, guarded: bool) -> Run | None:
        """Return the last run of *story* with or without its guard; None if there is none."""
        runs = [run for run in list(self._runs.values()) if (run.story, run.guarded) == (story.name, guarded)]
        return runs[-1] if runs else None
