"""``wsgi-oauth tokens``: list and revoke the access tokens of programs. The tokens themselves are never printed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import datetime, timezone

from ..events import TOKEN_REVOCATION
from ..oauth.claims import displayed
from ..sessions.access_tokens import AccessTokens
from ..sessions.manager import SessionManager
from .sessions import print_event, run

Command = Callable[[AccessTokens, argparse.Namespace], None]


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands ``list`` and ``revoke`` to *parser*."""
    parser.description = (
        "Manage the access tokens in the store of WSGI_OAUTH_SESSION_STORE. Run it as the application's user, with the "
        "application's environment. Exits 0 on success, 1 when the store fails, and 2 for a usage error."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        def with_tokens(sessions: SessionManager, options: argparse.Namespace) -> None:
            command(AccessTokens(sessions, max_lifetime=0), options)

        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(command=lambda options: run(with_tokens, options, "tokens"))
        return added

    add("list", _list, "print a line for each token: creation, last use, expiry (UTC), id, owner, name")
    revoke = add("revoke", _revoke, "revoke one token, all tokens of a user, or all tokens")
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("--id", help="the id of a token, as `list` prints it")
    which.add_argument("--user", metavar="ID", help="the id of a user, as `list` prints it (583231@github)")
    which.add_argument("--all", action="store_true", help="every token")


def _list(tokens: AccessTokens, options: argparse.Namespace) -> None:
    print(options.store, file=sys.stderr)  # because other programs may read the list
    for owner, info in tokens.survey():
        times = (_format_time(seconds) for seconds in (info.created, info.used, info.expires))
        print(*times, info.id, displayed(owner), displayed(info.name), sep="  ")


def _revoke(tokens: AccessTokens, options: argparse.Namespace) -> None:
    revoked = 0
    try:
        for owner, info in tokens.survey():
            if options.all or options.id == info.id or options.user == owner:
                tokens.delete(owner, info)
                revoked += 1
                print_event(TOKEN_REVOCATION, user=owner, token=info.id, detail=displayed(info.name))
    finally:
        print(options.store)
        print(f"access tokens: {revoked} revoked")
    if not (revoked or options.all):
        problem = f"has the id {options.id!a}" if options.id else f"belongs to {options.user!a}"
        print(f"No access token {problem}. `wsgi-oauth tokens list` prints all ids and owners.")


def _format_time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else f"{'never':<20}"
