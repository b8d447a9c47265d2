"""``wsgi-oauth sessions`` and ``wsgi-oauth tokens``: what operators do with the session store.

Operators see the signed-in users and the times of their sign-ins. Tokens are never printed. Session ids cannot be
printed, because the store has only their hashes.
"""

from __future__ import annotations

import argparse
import logging
import os
import pwd
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from typing import NoReturn, TypeVar
from urllib.parse import unquote

from .. import errors
from ..app import build_sessions, open_store
from ..characters import escape_for_display
from ..config import PREFIX
from ..config.checks import MAX_LIFETIME
from ..config.settings import StoreConfig
from ..events import SESSION_END, TOKEN_REVOCATION, Event
from ..logs import JsonFormatter
from ..oauth.identity import IDENTITY, Identity, build_user_id
from ..sessions.access_tokens import TOKEN_PREFIX, AccessTokens
from ..sessions.manager import ANONYMOUS, EXPIRED, IGNORED, REVOKED, SIGNED_IN, UNREADABLE, SessionManager, SurveyEntry
from ..sessions.store import store_key

T = TypeVar("T")
Command = Callable[[SessionManager, argparse.Namespace], None]

_PASSES = 2  # because the first one can miss a session that is being written
_PROGRESS_STEP = 10_000  # sessions between two lines of progress


def add_commands(parser: argparse.ArgumentParser) -> None:
    add = describe_group(parser, "sessions")
    add("count", _count, "print the number of sessions by state")
    add("sweep", _sweep, "delete expired sessions")
    add("list", _list, "print a line for each signed-in session: sign-in, last use, expiry (UTC), user")
    end = add("end", _end, "end all sessions of a user, or all sessions")
    selection = end.add_mutually_exclusive_group(required=True)
    selection.add_argument("--user", metavar="ID", help="an id as `list` prints it (583231@github), or a username")
    selection.add_argument("--all", action="store_true", help="every session, in any state")


def describe_group(
    parser: argparse.ArgumentParser, group: str
) -> Callable[[str, Command, str], argparse.ArgumentParser]:
    """Describe the commands ``sessions`` or ``tokens``. Return a function that adds a command with its help text."""
    objects = "access tokens of programs" if group == "tokens" else group
    parser.description = (
        f"Manage the {objects} in the store of WSGI_OAUTH_SESSION_STORE. Run this command as the application's user, "
        "with the application's environment. Exit with 0 on success, 1 if the store fails, and 2 for a usage error."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(command=lambda options: _run(command, options, group), usage_error=added.error)
        return added

    return add


def _run(command: Command, options: argparse.Namespace, name: str) -> int:
    """Call *command* with the sessions in the configured store, and return the exit status."""
    try:
        config = StoreConfig.from_environ(os.environ)
        options.store = f"session store {config.store_name}"  # printed, so that operators notice a wrong environment
        kind, _, path = config.session_store.partition(":")
        if kind == "memory":
            raise errors.ConfigError(
                "its sessions exist only in the memory of the application's workers; restart the workers to delete them"
            )
        if kind == "file" and not os.path.isdir(path):  # otherwise FileStore would create an empty folder
            raise errors.StoreError(
                "the folder does not exist; run this command as the application's user, with its environment"
            )
        command(build_sessions(config, open_store(config)), options)
    except errors.Error as error:
        store = "" if str(error).startswith(PREFIX) else f"{options.store.rstrip(':')}: "
        print(f"wsgi-oauth {name}: {store}{error}", file=sys.stderr)
        return 1
    return 0


def _count(sessions: SessionManager, options: argparse.Namespace) -> None:
    counted = Counter(entry.state for entry in _with_progress(sessions.survey()))
    print(options.store)
    for state in (SIGNED_IN, ANONYMOUS, EXPIRED, UNREADABLE, *([REVOKED] if counted[REVOKED] else [])):
        print(f"{state:<10}  {counted[state]}")
    if counted[IGNORED]:
        they_are, setting = ("not encrypted", "yes") if sessions.encrypted else ("encrypted", "no")
        print(f"{IGNORED:<10}  {counted[IGNORED]}  {they_are}, but {PREFIX}SESSION_SEAL is {setting}")


def _sweep(sessions: SessionManager, options: argparse.Namespace) -> None:
    deleted = sessions.store.sweep()
    left = sum(1 for _ in _with_progress(sessions.survey()))
    print(options.store)
    print(f"expired sessions: {deleted} deleted, {left} other sessions left")


def _list(sessions: SessionManager, options: argparse.Namespace) -> None:
    entries = sessions.survey()
    print(options.store, file=sys.stderr)  # other programs may read the list on stdout
    if sys.stdout.isatty():
        print(f"{'SIGNED IN':<20}  {'LAST SEEN':<20}  {'EXPIRES':<20}  USER")
    else:
        entries = _with_progress(entries)
    for entry in entries:
        if entry.state != SIGNED_IN:
            continue
        identity = _identity(entry)
        user = f"{identity.id} {identity.username or ''}".rstrip() if identity else "-"
        times = map(format_time, (entry.started, entry.seen, entry.expires))
        print(*times, "(encrypted)" if entry.encrypted else escape_for_display(user), sep="  ")


def format_time(seconds: float) -> str:
    """Return a time in UTC (ISO 8601), from seconds since the epoch."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _end(sessions: SessionManager, options: argparse.Namespace) -> None:
    if options.all:
        _end_all(sessions, options)
        return
    user = _find_user(sessions, options)
    # This ends all sessions of the user at once, also encrypted ones, which the search below cannot find. The longest
    # possible lifetime is used, because the application may have other settings than this shell.
    sessions.end_sessions_of(user, lifetime=MAX_LIFETIME)
    ended = unknown = encrypted = 0
    try:
        for _ in range(_PASSES):
            unknown = encrypted = 0
            for entry in _with_progress(sessions.survey()):
                identity = _identity(entry)
                if identity and identity.id == user:
                    sessions.store.delete(entry.key)
                    ended += 1
                elif entry.state == SIGNED_IN and identity is None:
                    encrypted += entry.encrypted
                    unknown += not entry.encrypted
    finally:  # after an error or Ctrl-C, report the sessions that have ended
        print(options.store)
        print(f"sessions of {escape_for_display(user)}: {ended} ended")
        print_event(SESSION_END, user=user, detail=f"all sessions of this user, {ended} of them found")
    if encrypted:
        print(
            f"{encrypted} encrypted sessions: those of this user have ended, too; their number is unknown, because "
            "only the user's browser can decrypt them. Make sure that the id is right: sign-ins are logged with it."
        )
    elif not (ended or unknown):
        print("No signed-in user has this id. `wsgi-oauth sessions list` prints the ids of all signed-in users.")
    if unknown:
        print(
            f"{unknown} sessions without a known user, because they have not requested /profile: those of this user "
            "end as soon as the provider has been asked"
        )
    if tokens := AccessTokens(sessions, max_lifetime=0).list(user):
        print(
            f"access tokens of this user that are still valid: {len(tokens)}; `wsgi-oauth tokens revoke --user "
            f"{escape_for_display(user)}` revokes all"
        )


def _end_all(sessions: SessionManager, options: argparse.Namespace) -> None:
    ended = 0
    try:
        for _ in range(_PASSES):
            for entry in _with_progress(sessions.survey()):
                sessions.store.delete(entry.key)
                ended += 1
    finally:
        print(options.store)
        print(f"all sessions: {ended} ended, expired ones included")
        print_event(SESSION_END, detail=f"all sessions of all users, {ended} found")


def print_event(name: str, *, detail: str, user: str = "", token: str = "") -> None:
    """Print the audit event of an operator's command to stderr, in the format of ``WSGI_OAUTH_LOG_FORMAT``.

    Its detail begins with the name of the operator's account.
    """
    event = Event(name, cause="operator", user=user, token=token, detail=f"by {_operator()}: {detail}")
    record = logging.makeLogRecord({"name": "wsgi_oauth.events", "levelname": "INFO", "msg": event, "event": event})
    is_json = os.environ.get(f"{PREFIX}LOG_FORMAT", "").strip() == "json"
    formatter = JsonFormatter() if is_json else logging.Formatter("%(asctime)s [%(levelname)s] %(message)s")
    print(formatter.format(record), file=sys.stderr)


def _operator() -> str:
    """Return the name of the operator's account; with sudo, also that of the original account."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container without this user
        name = str(os.getuid())
    behind_sudo = os.environ.get("SUDO_USER")
    return f"{name} ({escape_for_display(behind_sudo)})" if behind_sudo else name


def _find_user(sessions: SessionManager, options: argparse.Namespace) -> str:
    """Return the id of the user that ``--user`` names: by its current or former id, or by an unambiguous username."""
    ids, encrypted = set(), False
    for entry in _with_progress(sessions.survey()):
        encrypted = encrypted or entry.encrypted
        identity = _identity(entry)
        if identity and options.user in {identity.id, identity.former_id}:
            return identity.id
        if identity and isinstance(identity.username, str) and identity.username.casefold() == options.user.casefold():
            ids.add(identity.id)
    usage_error: Callable[[str], NoReturn] = options.usage_error
    if len(ids) > 1:
        choices = " or ".join(f"--user {escape_for_display(user)}" for user in sorted(ids))
        usage_error(f"--user: several users are called {options.user!a}; write {choices}")
    if not ids and (user := _parse_user_id(options.user)):  # an id without a readable session
        return user
    if not ids:
        why = ", but usernames in encrypted sessions cannot be read here" if encrypted else ""
        usage_error(f"--user: no signed-in user is called {options.user!a}{why}; write an id such as 583231@github")
    return ids.pop()


def _parse_user_id(text: str) -> str | None:
    """Return the id of a user, also if *text* has the format of versions before 1.0; None if it is a username."""
    if "@" in text:
        return text
    provider, colon, subject = text.rpartition(":")
    return build_user_id(provider, unquote(subject)) if colon else None


def _identity(entry: SurveyEntry) -> Identity | None:
    return Identity.from_dict(entry.data.get(IDENTITY)) if entry.state in {SIGNED_IN, REVOKED} else None


def _with_progress(items: Iterable[T]) -> Iterator[T]:
    """Yield *items*, and print their number so far if stderr is a terminal."""
    on_terminal = sys.stderr.isatty()
    for number, item in enumerate(items, 1):
        yield item
        if on_terminal and number % _PROGRESS_STEP == 0:
            print(f"{number:,} sessions read", file=sys.stderr)


# Access tokens of programs


def add_token_commands(parser: argparse.ArgumentParser) -> None:
    add = describe_group(parser, "tokens")
    add("list", _list_tokens, "print a line for each token: creation, last use, expiry (UTC), id, owner, name")
    revoke = add("revoke", _revoke, "revoke one token, all tokens of a user, or all tokens")
    selection = revoke.add_mutually_exclusive_group(required=True)
    selection.add_argument("--id", help="the id of a token, as `list` prints it, or a token that has leaked (wo_...)")
    selection.add_argument("--user", metavar="ID", help="the id of a user, as `list` prints it (583231@github)")
    selection.add_argument("--all", action="store_true", help="every token")


def _list_tokens(sessions: SessionManager, options: argparse.Namespace) -> None:
    print(options.store, file=sys.stderr)  # other programs may read the list on stdout
    for owner, info in AccessTokens(sessions, max_lifetime=0).survey():
        used = format_time(info.used) if info.used else f"{'never':<20}"
        names = map(escape_for_display, (owner, info.name))
        print(format_time(info.created), used, format_time(info.expires), info.id, *names, sep="  ")


def _revoke(sessions: SessionManager, options: argparse.Namespace) -> None:
    tokens, revoked, user = AccessTokens(sessions, max_lifetime=0), 0, None
    if options.user is not None and (user := _parse_user_id(options.user)) is None:
        options.usage_error(f"--user: not an id (got {options.user!a}); `wsgi-oauth tokens list` prints ids")
    is_token = (options.id or "").startswith(TOKEN_PREFIX) and options.id.isascii()
    key = store_key(options.id) if is_token else None
    try:
        for owner, info in tokens.survey():
            if options.all or options.id == info.id or key == info.key or user == owner:
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
