"""The decorator of an attack: the attack must fail, and it must succeed without the guard that prevents it.

::

    @guarded_by({"wsgi_oauth.sign_in.find_record": ignore_the_state})
    def test_login_csrf_with_a_link_without_pkce(victim, attacker):
        ...
        return victim.profile().status_int == 200  # whether the attack has succeeded

The function carries out the attack and returns whether it has succeeded. It runs once with all guards, and once without
each of them. The package has no switches for that: a guard is a function or a value of the package, which the test
replaces by the code of a program without this guard.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any


def guarded_by(replacements: Mapping[str, Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Name the guard that prevents the attack, by its dotted name, with its replacement.

    Several names in one decorator are a defence in depth: the attack succeeds only if all of them are replaced. Several
    decorators are several guards, each of which is necessary.
    """

    def decorate(attack: Callable[..., Any]) -> Callable[..., Any]:
        test = attack if hasattr(attack, "guards") else _test_with_and_without_guard(attack)
        test.guards.insert(0, replacements)
        return test

    return decorate


def _test_with_and_without_guard(attack: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(attack)
    def test(removed_guard: Mapping[str, Any] | None, **fixtures: Any) -> None:
        result = attack(**fixtures)
        if removed_guard is None:
            assert not result, f"the attack has succeeded: {result!r}"
        else:
            assert result, "the attack fails even without this guard, so this test proves nothing about it"

    signature = inspect.signature(attack)
    # The first fixture, because the guard has to be removed before the other fixtures create an application.
    first = inspect.Parameter("removed_guard", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    test.__signature__ = signature.replace(parameters=[first, *signature.parameters.values()])
    test.guards = []
    return test


def run_id(replacements: Mapping[str, Any] | None) -> str:
    """Return the id of one run: ``prevented``, or ``succeeds without sign_in.find_start``."""
    return "prevented" if replacements is None else "succeeds without " + " and ".join(map(short_name, replacements))


def short_name(name: str) -> str:
    """Return the last two parts of a dotted name: ``sign_in.find_start``, or a class and its method."""
    return ".".join(name.removeprefix("wsgi_oauth.").split(".")[-2:])
