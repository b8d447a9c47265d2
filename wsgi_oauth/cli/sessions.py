"""``wsgi-oauth sessions``: what operators do with the store.

They see who is signed in and since when. Ids and tokens are never printed, and no id could be: the store has none.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from typing import TypeVar

from .. import errors
from ..app import open_store
from ..config import PREFIX, StoreConfig
from ..oauth.identity import IDENTITY, Identity
from ..sessions.manager import ANONYMOUS, EXPIRED, IGNORED, SIGNED_IN, UNREADABLE, SessionManager
from ..sessions.manager import SurveyEntry as Entry

T = TypeVar("T")
Command = Callable[[SessionManager, argparse.Namespace], int]

_EVERY = 0.5  # seconds between two signs of life
_SEALED = (
    "sealed sessions, of which only the browser can tell whose they are; `end --all` ends them all, "
    f"and {PREFIX}ALLOW keeps a user out at the next request"
)


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Give *parser* the commands ``count``, ``sweep``, ``list`` and ``end``."""
    parser.description = (
        "Look after the sessions in the store that the environment names. Run it as the application's user and with "
        "its environment. Exits 0, 1 when the store fails, or 2 for a usage error."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(command=lambda options: _run(command, options), usage_error=added.error)
        return added

    add("count", _count, "say how many sessions there are, of each kind")
    add("sweep", _sweep, "take away the sessions that have expired")
    add("list", _list, "print a line for each signed-in session: signed in, last seen, expires (UTC), user")
    end = add("end", _end, "sign a user out everywhere, or everybody")
    whom = end.add_mutually_exclusive_group(required=True)
    whom.add_argument("--user", metavar="ID", help="as `list` prints it: github:583231, or octocat")
    whom.add_argument("--all", action="store_true", help="every session, whatever it is")


def _run(command: Command, options: argparse.Namespace) -> int:
    name = ""  # a setting that cannot work is named by its own message
    try:
        config = StoreConfig.from_environ(os.environ)
        name = f"session store {config.store_name}: "
        return command(_open(config), options)
    except errors.Error as error:
        print(f"wsgi-oauth sessions: {name}{error}", file=sys.stderr)
        return 1


def _open(config: StoreConfig) -> SessionManager:
    kind, _, place = config.session_store.partition(":")
    if kind == "memory":
        raise errors.ConfigError(
            "these sessions live in the application's workers alone, and no command can reach them; "
            "restarting the application ends them all"
        )
    if kind == "file" and not os.path.isdir(place):  # which the store would make, to find it empty
        raise errors.StoreError(
            "there is no such folder, so nothing was stored in it; "
            "does this command run with the application's environment, and as its user?"
        )
    return SessionManager(
        open_store(config), idle=config.session_idle, lifetime=config.session_lifetime, encrypted=config.session_seal
    )


def _count(sessions: SessionManager, _: argparse.Namespace) -> int:
    with _Progress() as progress:
        counted = Counter(entry.state for entry in progress.through(sessions.survey()))
    for state in (SIGNED_IN, ANONYMOUS, EXPIRED, UNREADABLE):
        print(f"{state:<10}  {counted[state]}")
    if counted[IGNORED]:
        how, setting = ("not sealed", "is yes") if sessions.encrypted else ("sealed", "is not yes here")
        print(f"{IGNORED:<10}  {counted[IGNORED]}  they are {how}, and {PREFIX}SESSION_SEAL {setting}")
    return 0


def _sweep(sessions: SessionManager, _: argparse.Namespace) -> int:
    with _Progress() as progress:
        swept = sessions.store.sweep()
        left = sum(1 for _ in progress.through(sessions.store.keys()))
    print(f"{swept} taken away, {left} left")
    return 0


def _list(sessions: SessionManager, _: argparse.Namespace) -> int:
    on_terminal = sys.stdout.isatty()
    if on_terminal:
        print(f"{'SIGNED IN':<20}  {'LAST SEEN':<20}  {'EXPIRES':<20}  USER")
    with _Progress(visible=not on_terminal) as progress:  # on a terminal the lines themselves show it
        for entry in progress.through(sessions.survey()):
            if entry.state == SIGNED_IN:
                print(*map(_utc, (entry.started, entry.seen, entry.expires)), _name(entry), sep="  ")
    return 0


def _end(sessions: SessionManager, options: argparse.Namespace) -> int:
    if options.all:
        return _end_all(sessions)
    user, ended, unknown, sealed = _user(sessions, options), 0, 0, 0
    try:
        with _Progress() as progress:
            for _ in range(2):  # a session that was just being written may be overlooked once, or known only now
                unknown = sealed = 0
                for entry in progress.through(sessions.survey()):
                    identity = _identity(entry)
                    sealed += entry.state == SIGNED_IN and entry.encrypted
                    unknown += entry.state == SIGNED_IN and not entry.encrypted and identity is None
                    if identity and identity.id == user:
                        sessions.store.delete(entry.key)
                        ended += 1
    finally:  # whatever stops this halfway, a failing store or Ctrl-C: what is done is done
        print(f"{ended} ended: sessions of {_printable(user)}")
    if not (ended or unknown or sealed):
        print("Nobody who is signed in has that id; `list` prints those that there are.")
    if unknown:
        print(f"{unknown} left alone: signed-in sessions whose user is not known, because they never asked")
    if sealed:
        print(f"{sealed} left alone: {_SEALED}")
    return 0


def _end_all(sessions: SessionManager) -> int:
    ended = 0
    try:
        with _Progress() as progress:
            for _ in range(2):  # as above
                for key in progress.through(sessions.store.keys()):
                    sessions.store.delete(key)
                    ended += 1
    finally:
        print(f"{ended} ended: all sessions, those that had expired included")
    return 0


def _user(sessions: SessionManager, options: argparse.Namespace) -> str:
    """Return the id that ``--user`` means. A username is good enough while there is one such user."""
    wanted: str = options.user
    if ":" in wanted:
        return wanted
    with _Progress() as progress:
        ids, sealed = set(), False
        for entry in progress.through(sessions.survey()):
            sealed |= entry.encrypted
            if (known := _identity(entry)) and _folded(known.username) == wanted.casefold():
                ids.add(known.id)
    if sealed and not ids:
        options.usage_error(f"nobody is known as {wanted!a}: there are {_SEALED}")
    if len(ids) != 1:
        several = " or ".join(f"--user {_printable(known)}" for known in sorted(ids))
        options.usage_error(
            f"several users are called {wanted!a}: write {several}"
            if several
            else f"nobody who is signed in is known as {wanted!a}: write an id as `list` prints it, like github:583231"
        )
    return ids.pop()


def _folded(username: object) -> str | None:
    return username.casefold() if isinstance(username, str) else None


def _identity(entry: Entry) -> Identity | None:
    return Identity.from_dict(entry.data.get(IDENTITY)) if entry.state == SIGNED_IN else None


def _name(entry: Entry) -> str:
    if entry.encrypted:
        return "(sealed)"
    identity = _identity(entry)
    if identity is None:
        return "-"
    return _printable(f"{identity.id} {identity.username}" if identity.username else identity.id)


def _printable(text: str) -> str:
    """Show control characters, and what turns the direction of writing, instead of obeying them."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Progress:
    """A line on the terminal, twice a second, while the work inside takes long; nothing at all in a pipe."""

    def __init__(self, *, visible: bool = True) -> None:
        self._looked_at = 0
        self._visible = visible and sys.stderr.isatty()
        self._began = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def through(self, items: Iterable[T]) -> Iterator[T]:
        """Give *items*, and count them."""
        for item in items:
            self._looked_at += 1
            yield item

    def __enter__(self) -> _Progress:
        if self._visible:
            self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        if self._visible:
            self._thread.join()

    def _show(self) -> None:
        while not self._done.wait(_EVERY):
            seconds = round(time.monotonic() - self._began)
            so_far = f"{self._looked_at} sessions looked at" if self._looked_at else f"{seconds} s"
            print(f"\r{so_far}", end="", file=sys.stderr, flush=True)
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
