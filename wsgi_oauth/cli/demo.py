"""The options of ``wsgi-oauth demo``.

:mod:`wsgi_oauth.demo` is imported only when the command runs, because no other command needs it.
"""

from __future__ import annotations

import argparse
import re
from functools import partial

_PROFILES = ("keycloak", "entra-id", "adfs", "okta", "github")  # wsgi_oauth.demo.profiles.PROFILES


def add_command(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Start a local provider, and the application under gunicorn, both on loopback. Open the URL that is printed, "
        "or let --walk sign in by itself. Ctrl-C stops both."
    )
    option = parser.add_argument
    port = partial(_parse_number, first=0, last=65535)
    option("--port", type=port, default=8000, help="port of the application; 0 picks a free one (default: 8000)")
    option("--provider-port", type=port, default=8001, help="port of the provider; 0 picks a free one (default: 8001)")
    option("--walk", action="store_true", help="sign in, print every HTTP message of the sign-in, and exit")
    option("--reveal", action="store_true", help="print secrets in full; they are valid for this demo only")
    option(
        "--workers",
        type=partial(_parse_number, first=1, last=999),
        metavar="N",
        help="number of gunicorn workers (default: 2, and 1 with --walk, because each reads the provider's metadata)",
    )
    option("--worker-class", default="gthread", metavar="CLASS", help="class of the workers (default: gthread)")
    option(
        "--profile",
        choices=_PROFILES,
        default="",
        help="product that the provider imitates, and for which settings are printed",
    )
    parser.set_defaults(command=_run, usage_error=parser.error)


def _run(options: argparse.Namespace) -> int:
    from ..demo.launcher import Options, run

    if options.profile and options.walk:
        options.usage_error("--profile: not together with --walk, which explains the tutorial's provider")
    return run(
        Options(
            port=options.port,
            provider_port=options.provider_port,
            workers=options.workers or (1 if options.walk else 2),
            worker_class=options.worker_class,
            walk=options.walk,
            reveal=options.reveal,
            profile=options.profile,
        )
    )


def _parse_number(text: str, *, first: int, last: int) -> int:
    if not (re.fullmatch("[0-9]{1,9}", text) and first <= int(text) <= last):
        raise argparse.ArgumentTypeError(f"must be a number from {first} to {last} (got {text!r})")
    return int(text)
