"""Carry out attacks in a process of its own: ``python -m wsgi_oauth.demo.lab.run login-csrf --without-guard``.

Each attack prints a line of JSON. The process ends when one of them has taken :data:`DEADLINE` seconds.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import signal
import tempfile
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ..recorder import Recorder
from .parties import set_stage
from .stories import STORIES
from .story import Story, without_guards

DEADLINE = 30  # seconds; one attack takes less than one


def carry_out(story: Story, *, guarded: bool) -> dict[str, Any]:
    """Carry out the attack of *story*; return its outcome as a JSON object.

    :param guarded: False to replace the guards in this process during the attack.
    """
    recorder = Recorder()
    log, logger = io.StringIO(), logging.getLogger("wsgi_oauth")
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with (
            nullcontext() if guarded else without_guards(story.guards),
            tempfile.TemporaryDirectory(prefix="wsgi-oauth-lab-") as folder,
            set_stage(Path(folder), story.build, recorder) as stage,
        ):
            outcome = story.attack(stage)
    finally:
        logger.removeHandler(handler)
    return {
        "story": story.name,
        "guarded": guarded,
        "has_succeeded": outcome.has_succeeded,
        "text": outcome.text,
        "log": log.getvalue().splitlines(),
        "messages": [message.to_json() for message in recorder.messages],
    }


def end_with_input() -> None:
    """End this process when the standard input ends."""
    os.read(0, 1)
    os._exit(1)


def main() -> None:
    """Carry out the attacks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=STORIES)
    parser.add_argument("--without-guard", action="store_true")
    parser.add_argument("--end-with-input", action="store_true", help="end when the standard input ends")
    options = parser.parse_args()
    if options.end_with_input:
        threading.Thread(target=end_with_input, daemon=True).start()
    for name in options.names:
        signal.alarm(DEADLINE)
        print(json.dumps(carry_out(STORIES[name], guarded=not options.without_guard)), flush=True)


if __name__ == "__main__":
    main()
