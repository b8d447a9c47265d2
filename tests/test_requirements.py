"""The requirements, their tests and their guards, as docs/security.md lists them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import requirements


@pytest.mark.parametrize("number", requirements.KNOWN, ids="S{}".format)
def test_a_requirement_has_a_test_or_is_known_to_have_none(number: int):
    assert bool(requirements.proved()[number]) != (number in requirements.PENDING), (
        "write that test" if number not in requirements.PENDING else "take it out of PENDING"
    )


def test_tests_name_requirements_that_there_are():
    assert requirements.proved().keys() == requirements.KNOWN.keys()


def test_each_attack_has_a_guard_and_says_which_requirement_it_is_about():
    lessons = {(proof.file, proof.names) for proof in requirements.lessons()}
    attacks = {
        (str(path.relative_to(requirements.TESTS)), (line.partition("(")[0].removeprefix("def "),))
        for path in (requirements.TESTS / "attacks").glob("test_*.py")
        for line in path.read_text().splitlines()
        if line.startswith("def test_") and "the_judge" not in line
    }
    assert lessons == attacks


def test_the_document_says_what_the_tests_say():
    text = requirements.DOCUMENT.read_text()
    assert text == requirements.updated(text), "run `python tests/requirements.py --write`"


def test_the_command_prints_it():
    done = subprocess.run(
        [sys.executable, requirements.TESTS / "requirements.py"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "\n".join(requirements.document()) + "\n"


def test_a_run_recites_what_it_has_proved():
    [test] = [proof.id for proof in requirements.proved()[4] if "attacks" in proof.file]
    assert list(requirements.recited([f"{test}[refused]", f"{test}[works without x]"], [])) == [
        "S4   A state expires on the server, after ten minutes. holds in 2 tests"
    ]
    assert next(requirements.recited([], [f"{test}[refused]"])).endswith("1 of 1 tests fail")
