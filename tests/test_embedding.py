"""The code of docs/embedding.md: what it takes from the examples stands there, and the tests that it shows pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_examples import ALL, ENVIRONMENT
from test_testing_kit import answering, everywhere, for_all, good

from wsgi_oauth import Config, create_app
from wsgi_oauth.testing import EmbeddingFault, check_embedding, local_provider

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "embedding.md").read_text()
YOURS = """
from wsgi_oauth import LoginRequired, current_identity


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [current_identity(environ).name.encode()]


"""


def blocks(mark: str) -> list[str]:
    """The fenced blocks behind the comments *mark*."""
    return re.findall(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", DOCUMENT, re.DOTALL)


def test_every_block_of_python_is_taken_from_somewhere_or_tried() -> None:
    marked = re.findall(r"<!-- (?:from \w+\.py|test|yours) -->\n```python\n", DOCUMENT)
    assert len(marked) == DOCUMENT.count("```python\n")


@pytest.mark.parametrize("module", [example.module for example in ALL])
def test_the_lines_for_a_stack_are_those_of_its_example(module: str) -> None:
    example = (ROOT / "examples" / f"{module}.py").read_text()
    excerpts = blocks(f"from {module}.py")
    assert any("LoginRequired(" in excerpt for excerpt in excerpts)
    assert [excerpt for excerpt in excerpts if excerpt not in example] == []


@pytest.mark.parametrize("test", blocks("test"), ids=["the kit", "the kit with get_app", "test clients"])
def test_the_tests_that_it_shows_pass(test: str, tmp_path: Path, one_authority: str) -> None:
    [make_app] = blocks("yours")
    (tmp_path / "yours.py").write_text(YOURS + make_app)
    (tmp_path / "test_yours.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        env={**os.environ, **ENVIRONMENT, "SSL_CERT_FILE": one_authority},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, " passed" in done.stdout) == (0, True), done.stdout + done.stderr


def test_the_kit_says_what_is_quoted(small_ca_bundle: None) -> None:
    with local_provider() as environ:
        app = good(create_app(Config.from_environ(environ)))
        app = answering(app, everywhere(lambda cookie: cookie.replace("Path=/", "Path=/auth")))
        app = answering(app, for_all)
        with pytest.raises(EmbeddingFault) as caught:
            check_embedding(app)
    assert [f"{caught.value}\n"] == blocks("says")
