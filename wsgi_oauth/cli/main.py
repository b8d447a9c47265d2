"""The command line. ``wsgi-oauth demo`` is here, ``wsgi-oauth check`` in ``checkup``, ``wsgi-oauth sessions`` in
``housekeeping``.

The demo is imported by its own command alone: an application in production has nothing of it.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

from .. import __version__
from . import check, demo, sessions


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that *arguments* (by default those of the process) name.

    Returns the exit status; a usage error raises SystemExit(2), as argparse does.
    """
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name or a path need not fit into the terminal's encoding
    try:
        status = command(options)
        sys.stdout.flush()  # here, where a reader who is gone is no surprise
        return status
    except BrokenPipeError:  # somebody reads only the beginning: wsgi-oauth demo --walk | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130  # what shells report for SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsgi-oauth",
        description="The OAuth 2 web application flow as a plain WSGI application.",
    )
    parser.add_argument("--version", action="version", version=f"wsgi-oauth {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo.add_command(commands.add_parser("demo", help="try it offline with a local provider"))
    check.add_command(commands.add_parser("check", help="look whether the configuration would work"))
    sessions.add_commands(commands.add_parser("sessions", help="count, list, sweep or end sessions"))
    return parser
