"""How a lesson is told with its guard in place, and without it.

::

    @guarded_by({"wsgi_oauth.sign_in._find": any_start_of_this_browser})
    def test_the_attackers_link_finishes_the_victims_sign_in(victim, attacker):
        ...
        return victim.profile().status_int == 200  # what the attacker gains

The test returns what the attacker has gained. With every guard in place that must be nothing (false, empty); with the
guard taken out it must be something. The product knows nothing of all this: a guard is a function, or a value, that
the lesson replaces by what a program without it would do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any


def guarded_by(without: Mapping[str, Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say what keeps the attack from working: the dotted names of the guard, and what stands there without it.

    Several names are one defence in depth: all of them have to go before the attack succeeds. Several decorators are
    several guards, each of which alone is indispensable.
    """

    def decorate(attack: Callable[..., Any]) -> Callable[..., Any]:
        lesson = attack if hasattr(attack, "guards") else _told_with_and_without(attack)
        lesson.guards.insert(0, without)  # type: ignore[attr-defined]
        return lesson

    return decorate


def _told_with_and_without(attack: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(attack)
    def lesson(guard_taken_out: Mapping[str, Any] | None, **fixtures: Any) -> None:
        gained = attack(**fixtures)
        if guard_taken_out is None:
            assert not gained, f"the attacker has gained {gained!r}"
        else:
            assert gained, "the attack fails even without this guard, so the lesson proves nothing about it"

    signature = inspect.signature(attack)
    first = inspect.Parameter("guard_taken_out", inspect.Parameter.POSITIONAL_OR_KEYWORD)  # before what it protects
    lesson.__signature__ = signature.replace(parameters=[first, *signature.parameters.values()])  # type: ignore[attr-defined]
    lesson.guards = []  # type: ignore[attr-defined]
    return lesson


def told(guard: Mapping[str, Any] | None) -> str:
    """The id of one telling: ``refused``, or ``works without login._find``."""
    return "refused" if guard is None else "works without " + " and ".join(map(short, guard))


def short(name: str) -> str:
    """``login._find`` for ``wsgi_oauth.sign_in._find``; of a method, class and method."""
    parts = name.removeprefix("wsgi_oauth.").split(".")
    return ".".join(parts[-2:])
