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
from . import check, sessions


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
    demo = commands.add_parser(
        "demo",
        help="try it, offline, with a local provider",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_demo(demo)
    check.add_command(commands.add_parser("check", help="look whether the configuration would work"))
    sessions.add_commands(commands.add_parser("sessions", help="count, list, sweep or end sessions"))
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Start a local provider, and the application under gunicorn, both on loopback. Open the "
        "URL that is printed, or let --walk sign in by itself. Ctrl-C stops both."
    )
    option = parser.add_argument
    option("--port", type=_port, default=8000, help="the application's; 0 picks a free one")
    option("--provider-port", type=_port, default=8001, help="the provider's")
    option("--walk", action="store_true", help="sign in, print every HTTP message of it, and exit")
    option("--workers", type=_positive, default=2, metavar="N", help="gunicorn's processes")
    option("--worker-class", default="gthread", metavar="CLASS", help="gunicorn's kind of worker")
    parser.set_defaults(command=_demo)


def _demo(options: argparse.Namespace) -> int:
    from .demo import Options, run

    return run(
        Options(
            port=options.port,
            provider_port=options.provider_port,
            workers=options.workers,
            worker_class=options.worker_class,
            walk=options.walk,
        )
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1000):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes: 1 or more")
    return int(text)
