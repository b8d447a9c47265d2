"""The errors: what the log, a copy and a programmer get of them. What people see of them is in test_pages.py."""

from __future__ import annotations

import copy
import pickle

import pytest

from wsgi_oauth import errors

EXAMPLES = [
    errors.ProviderError("why"),
    errors.NotSignedIn("why"),
    errors.NotAllowed("github:1", "octocat", "why"),
    errors.LoginRefused("temporarily_unavailable"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "duplicate", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"]
)
def test_a_copy_says_the_same(error, duplicate):
    error.retry_after = "7"
    same = duplicate(error)
    assert type(same) is type(error)
    assert (str(same), vars(same)) == (str(error), vars(error))


def test_the_text_is_what_the_log_needs():
    assert str(errors.NotAllowed("github:1", "octocat", "why")) == "github:1 is not among those who may enter: why"
    assert str(errors.NotSignedIn("why")) == "why"  # a KeyError would show it quoted
