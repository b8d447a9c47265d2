"""Every security requirement has a test, and docs/requirements.md is up to date."""

from __future__ import annotations

import pytest
import requirements


@pytest.mark.parametrize("number", requirements.KNOWN, ids="S{}".format)
def test_every_requirement_has_a_test_or_is_listed_as_pending(number: int):
    has_test = bool(requirements.proofs_by_requirement()[number])
    if number in requirements.PENDING:
        assert not has_test, f"remove S{number} from PENDING"
    else:
        assert has_test, f"write a test for S{number}"


def test_tests_name_known_requirements_only():
    assert requirements.proofs_by_requirement().keys() == requirements.KNOWN.keys()


def test_every_attack_has_a_guard_and_names_a_requirement():
    listed = {(proof.file, proof.names) for proof in requirements.guards_by_attack()}
    attacks = {
        (str(path.relative_to(requirements.TESTS)), (line.partition("(")[0].removeprefix("def "),))
        for path in (requirements.TESTS / "attacks").glob("test_*.py")
        for line in path.read_text().splitlines()
        if line.startswith("def test_") and "test_resolver" not in line
    }
    assert listed == attacks


def test_the_document_is_up_to_date():
    assert requirements.DOCUMENT.read_text() == requirements.document(), "run `python tests/requirements.py --write`"


def test_a_test_run_reports_the_requirements_that_it_proved():
    [test] = [proof.id for proof in requirements.proofs_by_requirement()[4] if "attacks" in proof.file]
    assert list(requirements.report([f"{test}[prevented]", f"{test}[succeeds without x]"], [])) == [
        "S4   A state expires on the server after the lifetime of a sign-in; a later code is never exchanged. "
        "2 tests pass"
    ]
    assert next(requirements.report([], [f"{test}[prevented]"])).endswith("1 of 1 tests fail")
