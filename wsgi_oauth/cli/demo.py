"""The options of ``wsgi-oauth demo``.

:mod:`wsgi_oauth.demo` is imported only when the command runs, because no other command needs it.
"""

from __future__ import annotations

import argparse

_PROFILES = ("keycloak", "entra-id", "adfs", "okta", "github")  # wsgi_oauth.demo.profiles.PROFILES


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the demo's description, options and function to *parser*."""
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.description = (
        "Start a local provider, and the application under gunicorn, both on loopback. Open the URL that is printed, "
        "or let --walk sign in by itself. Ctrl-C stops both."
    )
    option = parser.add_argument
    option("--port", type=_parse_port, default=8000, help="port of the application; 0 picks a free one")
    option("--provider-port", type=_parse_port, default=8001, help="port of the provider; 0 picks a free one")
    option("--walk", action="store_true", help="sign in, print every HTTP message of the sign-in, and exit")
    option("--reveal", action="store_true", help="print secrets in full; they are valid for this demo only")
    option(
        "--workers",
        type=_parse_workers,
        default=argparse.SUPPRESS,
        metavar="N",
        help="number of gunicorn workers (default: 2; with --walk 1, because each reads the provider's metadata)",
    )
    option("--worker-class", default="gthread", metavar="CLASS", help="class of the gunicorn workers")
    option(
        "--profile",
        default=argparse.SUPPRESS,
        help=f"product that the provider imitates, and for which settings are printed: {', '.join(_PROFILES)}",
    )
    parser.set_defaults(command=_run, usage_error=parser.error)


def _run(options: argparse.Namespace) -> int:
    from ..demo.launcher import Options, run

    profile = getattr(options, "profile", "")
    if profile and profile not in _PROFILES:
        options.usage_error(f"--profile: must be one of {', '.join(_PROFILES)} (got {profile!a})")
    if profile and options.walk:
        options.usage_error("--profile: not together with --walk, which explains the tutorial's provider")
    return run(
        Options(
            port=options.port,
            provider_port=options.provider_port,
            workers=getattr(options, "workers", 1 if options.walk else 2),
            worker_class=options.worker_class,
            walk=options.walk,
            reveal=options.reveal,
            profile=profile,
        )
    )


def _parse_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535 (got {text!r})")
    return int(text)


def _parse_workers(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1000):
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 999 (got {text!r})")
    return int(text)
