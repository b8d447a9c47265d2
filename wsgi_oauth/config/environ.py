"""Read settings from the ``WSGI_OAUTH_*`` environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import Field
from typing import Any

from .checks import build_message

PREFIX = "WSGI_OAUTH_"

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_SECRET = 4096  # characters
# Stands in for a secret file that cannot be read, because a second message about a missing secret would mislead.
_UNREADABLE_SECRET = "a secret that could not be read"  # noqa: S105  # not a secret


def variable_name(setting: str, label: str = "") -> str:
    """Return the environment variable of *setting*, of the provider *label* if several are configured."""
    return f"{PREFIX}{label}{'_' if label else ''}{setting}".upper()


# Parsers: each reads the text of a variable and raises ValueError, as the checks do.


def parse_duration(value: str) -> int:
    """Return the seconds of ``90``, ``30m``, ``12h`` or ``7d``."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", value)
    if match is None or not int(match[1]):
        raise ValueError("must be a positive duration such as 90, 30m, 12h or 7d")
    return int(match[1]) * _UNITS[match[2]]


def parse_seconds(value: str) -> float:
    """Return a number of seconds, which may have a fraction."""
    try:
        return float(value)
    except ValueError:
        raise ValueError("must be a number of seconds") from None


def parse_count(of: str) -> Callable[[str], int]:
    """Return a parser for the number of *of*."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,5}", value):
            raise ValueError(f"must be a whole number of {of}")
        return int(value)

    return parse


def parse_yes_or_no(value: str) -> bool:
    """Return True for ``yes`` and False for ``no``."""
    if value not in {"yes", "no"}:
        raise ValueError("must be yes or no")
    return value == "yes"


def parse_words(value: str) -> tuple[str, ...]:
    """Split *value* at spaces."""
    return tuple(value.split())


class Variables:
    """The ``WSGI_OAUTH_*`` variables of *environ* that have not been read yet, and the problems found so far.

    An empty variable counts as absent, because Compose and systemd files set variables like that.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._unread = {k: v.strip() for k, v in environ.items() if k.startswith(PREFIX) and v.strip()}
        self.problems: list[str] = []
        self.labels = self._unread.pop(f"{PREFIX}PROVIDERS", "").lower().split()

    def read(self, settings: Iterable[Field[Any]], label: str = "") -> dict[str, Any]:
        """Return the values of *settings* by name. Absent and invalid ones are left out."""
        values: dict[str, Any] = {}
        for setting in settings:
            name = variable_name(setting.name, label)
            text = self._unread.pop(name, None)
            if text is None:
                continue
            try:
                values[setting.name] = setting.metadata["parse"](text)
            except ValueError as reason:
                self.problems.append(build_message(name, str(reason), text))
        return values

    def read_secret_file(self, setting: str, label: str = "") -> dict[str, str]:
        """Return the secret in the file that ``WSGI_OAUTH_<SETTING>_FILE`` names, as the value of *setting*."""
        variable = variable_name(setting, label)
        path = self._unread.pop(f"{variable}_FILE", None)
        if path is None:
            return {}
        if variable in self._unread:
            self.problems.append(f"{variable}_FILE: set together with {variable}; remove one of them")
            return {}
        try:
            with open(path, encoding="utf-8-sig") as file:  # some editors begin a file with a byte order mark
                secret = file.read(_LONGEST_SECRET + 1).strip()
            problem = "" if secret else "is empty"
            if len(secret) > _LONGEST_SECRET:
                problem = "is too large for a secret"
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
        except ValueError:
            problem = "is not UTF-8 text"
        if problem:
            self.problems.append(build_message(f"{variable}_FILE", f"the file {problem}", path))
            secret = _UNREADABLE_SECRET
        return {setting: secret}

    def refuse_without_label(self, names: Iterable[str]) -> None:
        """Add a problem for each of the variables *names* that is set although every provider has a label."""
        for name in names:
            if self._unread.pop(name, None) is not None:
                own = ", ".join(variable_name(name.removeprefix(PREFIX), label) for label in self.labels)
                self.problems.append(f"{name}: must name its provider when {PREFIX}PROVIDERS is set; set {own}")

    def refuse_unknown(self, known: Collection[str], of_a_provider: Iterable[str]) -> None:
        """Add a problem for each unknown variable, because it is probably misspelt.

        :param known: all variables of this program.
        :param of_a_provider: the variables of each provider, without a label.
        """
        names = "|".join(name.removeprefix(PREFIX) for name in of_a_provider)
        for name in sorted(self._unread.keys() - known):
            remedy = did_you_mean(name, known) or "remove it, or correct its name"
            match = re.fullmatch(rf"{PREFIX}(\w+?)_({names})", name, re.ASCII)
            if match and variable_name("client_id", match[1]) not in known:
                remedy = f"is {match[1].lower()!a} missing from {PREFIX}PROVIDERS?"
            self.problems.append(f"{name}: unknown variable; {remedy}")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return a question that suggests the name among *known* that is most similar to *name*, or an empty string."""
    from difflib import get_close_matches  # noqa: PLC0415  # because the import is slow and only errors need it

    close = get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else ""


def default_session_store(environ: Mapping[str, str]) -> str:
    """Return ``file:`` and the default folder of the sessions.

    It lies in systemd's ``StateDirectory=``, otherwise in the user's XDG state directory.
    """
    service = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if service:
        return f"file:{os.path.join(service, 'sessions')}"
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the specification says to ignore relative paths
        home = environ.get("HOME") or os.path.expanduser("~")
        state = os.path.join(home, ".local", "state")
    return f"file:{os.path.join(state, 'wsgi_oauth', 'sessions')}"
