"""Exceptions: copies, pickles and the text for the log. test_pages.py tests their pages."""

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
def test_copy_has_the_same_type_text_and_attributes(error, duplicate):
    error.retry_after = "7"
    same = duplicate(error)
    assert type(same) is type(error)
    assert (str(same), vars(same)) == (str(error), vars(error))


def test_text_names_the_user_and_the_reason():
    assert str(errors.NotAllowed("github:1", "octocat", "why")) == "the access rules exclude github:1: why"
    assert str(errors.NotSignedIn("why")) == "why"  # a KeyError would show it quoted
