"""Tolerated responses of a provider do not weaken the checks of the user's identity (docs/tolerances.md).

The attacker controls text that a provider copies, such as a display name or the name of a group, or has an account at a
provider with careless software. The victim is another user of that provider, or the operator with access rules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from openid import Issuer, admits
from werkzeug import Response

from .lesson import guarded_by


@pytest.fixture
def enters(issuer: Issuer) -> Callable[..., bool]:
    """Return whether the access rule admits the user, after one sign-in."""
    return partial(admits, issuer)


def keep_all(value: Any, *_: Any) -> Any:
    return value


@guarded_by({"wsgi_oauth.oauth.resource._without_replaced_text": keep_all})
def test_two_broken_group_names_become_the_same(issuer: Issuer, enters: Callable[..., bool]) -> bool:
    """S30. Latin-1 in UTF-8: `équipe` and `öquipe` are the same after the replacement, so neither may match a rule."""
    issuer.routes["/user"] = ("profile", {"GET": lambda _: Response(b'{"sub": "mona", "groups": ["\xf6quipe"]}')})
    return enters('group:"\N{REPLACEMENT CHARACTER}quipe"')


@guarded_by({"wsgi_oauth.oauth.resource._without_replaced_text": keep_all})
def test_broken_text_matches_a_rule_about_a_claim(issuer: Issuer, enters: Callable[..., bool]) -> bool:
    """S30. The replacement character is not part of the user's text."""
    issuer.routes["/user"] = ("profile", {"GET": lambda _: Response(b'{"sub": "mona", "team": "\xf6"}')})
    return enters('claim:team="\N{REPLACEMENT CHARACTER}"')
