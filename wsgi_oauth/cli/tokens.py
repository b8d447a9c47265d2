"""``wsgi-oauth tokens``: list and revoke the access tokens of programs. The tokens themselves are never printed."""

from __future__ import annotations

import argparse
import sys

from ..characters import escape_for_display
from ..events import TOKEN_REVOCATION
from ..sessions.access_tokens import TOKEN_PREFIX, AccessTokens
from ..sessions.manager import SessionManager
from ..sessions.store import store_key
from .sessions import describe_group, format_time, print_event


def add_commands(parser: argparse.ArgumentParser) -> None:
    add = describe_group(parser, "tokens")
    add("list", _list, "print a line for each token: creation, last use, expiry (UTC), id, owner, name")
    revoke = add("revoke", _revoke, "revoke one token, all tokens of a user, or all tokens")
    selection = revoke.add_mutually_exclusive_group(required=True)
    selection.add_argument("--id", help="the id of a token, as `list` prints it, or a token that has leaked (wo_...)")
    selection.add_argument("--user", metavar="ID", help="the id of a user, as `list` prints it (583231@github)")
    selection.add_argument("--all", action="store_true", help="every token")


def _list(sessions: SessionManager, options: argparse.Namespace) -> None:
    print(options.store, file=sys.stderr)  # other programs may read the list on stdout
    for owner, info in AccessTokens(sessions, max_lifetime=0).survey():
        used = format_time(info.used) if info.used else f"{'never':<20}"
        names = map(escape_for_display, (owner, info.name))
        print(format_time(info.created), used, format_time(info.expires), info.id, *names, sep="  ")


def _revoke(sessions: SessionManager, options: argparse.Namespace) -> None:
    tokens, revoked = AccessTokens(sessions, max_lifetime=0), 0
    is_token = (options.id or "").startswith(TOKEN_PREFIX) and options.id.isascii()
    key = store_key(options.id) if is_token else None
    try:
        for owner, info in tokens.survey():
            if options.all or options.id == info.id or key == info.key or options.user == owner:
                tokens.delete(owner, info)
                revoked += 1
                print_event(TOKEN_REVOCATION, user=owner, token=info.id, detail=escape_for_display(info.name))
    finally:
        print(options.store)
        print(f"access tokens: {revoked} revoked")
    if not (revoked or options.all):
        problem = f"belongs to {options.user!a}" if options.id is None else f"has the id {options.id!a}"
        problem = "has this value" if is_token else problem  # never printed
        print(f"No access token {problem}. `wsgi-oauth tokens list` prints all ids and owners.")
