"""The command ``wsgi-oauth``."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence

from ..version import __version__
from . import check, demo, sessions
from .finding import locate_document


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in *arguments*, by default those of the process, and return its exit status."""
    # A stream that is closed at the start is None, for example in a cron job with `>&-`.
    sys.stdout, sys.stderr = (each or open(os.devnull, "w") for each in (sys.stdout, sys.stderr))  # noqa: SIM115
    options = _build_parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Otherwise a name that the terminal's encoding cannot represent raises UnicodeEncodeError.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = command(options)
        # Otherwise Python flushes at exit, where it reports a broken pipe as an error.
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader has finished, for example in: wsgi-oauth demo --walk | head
        _discard_output()
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _discard_output()
        print("wsgi-oauth: standard output: the disk is full; free disk space, or use another file", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # the status that shells report for SIGINT


def _discard_output() -> None:
    """Discard the output that is not written yet. Otherwise Python reports an error at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsgi-oauth",
        description="The OAuth 2 web application flow as a plain WSGI application.",
        epilog="`gunicorn -c python:wsgi_oauth.gunicorn_conf` serves the application. "
        f"{locate_document('operating.md')} explains the commands.",
    )
    parser.add_argument("--version", action="version", version=f"wsgi-oauth {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo.add_command(commands.add_parser("demo", help="try it offline with a local provider"))
    check.add_command(commands.add_parser("check", help="check the configuration"))
    sessions.add_commands(commands.add_parser("sessions", help="count, list, sweep or end sessions"))
    sessions.add_token_commands(commands.add_parser("tokens", help="list or revoke the access tokens of programs"))
    return parser
