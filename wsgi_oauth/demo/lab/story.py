"""An attack with its story, the guard that prevents it, and its outcome."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NamedTuple

from ..browser import summarize
from .parties import Stage, build_application

if TYPE_CHECKING:
    import requests
    from _typeshed.wsgi import WSGIApplication


class Outcome(NamedTuple):
    """The outcome of an attack. It is true if the attack has succeeded."""

    has_succeeded: bool
    gain: str  # a sentence about the attacker's gain
    refusal: requests.Response | str  # the response that ended a failed attack, or a sentence about it

    def __bool__(self) -> bool:
        return self.has_succeeded

    @property
    def text(self) -> str:
        """The gain of a successful attack, or the reason why it failed."""
        if self.has_succeeded:
            return self.gain
        return self.refusal if isinstance(self.refusal, str) else f"The application answers: {summarize(self.refusal)}"


@dataclass(frozen=True)
class Story:
    """An attack and its story. The victim is Victor, the attacker Mallory."""

    name: str  # in the URLs of its pages
    title: str
    goal: str  # the attacker's situation and goal
    course: str  # the steps of the attack
    defence: str  # the reason why the guard prevents it
    standards: tuple[str, ...]  # sections of RFCs, such as "RFC 6749 10.12"
    requirements: tuple[str, ...]  # their ids in docs/requirements.md, such as "S1"
    guards: Mapping[str, Any]  # the replacement of each guard, by the guard's dotted name
    marks: tuple[str, ...]  # parts of the lines in the guards that decide
    acts_at: str  # sender and request of the message at which the guard acts, such as "Victor: GET /callback"
    act: str  # the guard's reaction, a sentence after "Here the guard acts: "
    attack: Callable[[Stage], Outcome]
    build: Callable[[Stage], WSGIApplication] = build_application
    check: str = ""  # the dotted name of the provider's function that compares, if the provider carries out the guard


@contextmanager
def without_guards(guards: Mapping[str, Any]) -> Iterator[None]:
    """Replace *guards* in this process."""
    from unittest import mock  # noqa: PLC0415  # imports asyncio, which the demo itself does not need

    with ExitStack() as stack:
        for name, replacement in guards.items():
            stack.enter_context(mock.patch(name, replacement))
        yield


class SourceText(NamedTuple):
    """The source text of a function, with the comment above it."""

    file: str  # relative to the folder of its package
    line: int
    text: str

    def mark(self, marks: Iterable[str]) -> list[tuple[str, bool]]:
        """Return the lines, and for each whether it contains one of *marks*."""
        return [(line, any(each in line for each in marks)) for line in self.text.splitlines()]


def read_source(value: Any) -> SourceText:
    """Return the source text of *value*: a function, a method or a property."""
    function: Any = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    lines, line = inspect.getsourcelines(function)
    comments = (inspect.getcomments(function) or "").splitlines(keepends=True)
    file = f"{function.__module__.replace('.', '/')}.py"
    return SourceText(file, line - len(comments), textwrap.dedent("".join([*comments, *lines])).rstrip())


def guard_sources(story: Story) -> list[tuple[SourceText, SourceText]]:
    """Return the source text of each guard of *story*, and that of its replacement."""
    return [(read_source(resolve_name(name)), read_source(new)) for name, new in story.guards.items()]


def read_check(story: Story) -> SourceText | None:
    """Return the source text of the provider's check, without its docstring; None if the story has none."""
    if not story.check:
        return None
    source = read_source(resolve_name(story.check))
    return source._replace(text=re.sub(r'\n    """.*?"""', "", source.text, count=1, flags=re.DOTALL))
