"""docs/embedding.md: its code comes from examples/, and the tests that it shows pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from test_examples import ALL, ENVIRONMENT, RECIPES
from test_testing_kit import protected, publicly_cacheable, set_cookie, with_response
from werkzeug.test import Client

from wsgi_oauth import Config, LoginRequired, create_app
from wsgi_oauth.testing import EmbeddingFault, check_embedding, local_provider, signed_in

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "embedding.md").read_text()
YOURS = """
from wsgi_oauth import LoginRequired, current_identity


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [current_identity(environ).name.encode()]


"""


def blocks(mark: str) -> list[str]:
    """Return the fenced blocks that follow the comment ``<!-- mark -->``."""
    return re.findall(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", DOCUMENT, re.DOTALL)


def test_every_python_block_is_marked_with_its_source() -> None:
    marked = re.findall(r"<!-- (?:from \w+\.py|test|yours|option|header|step up) -->\n```python\n", DOCUMENT)
    assert len(marked) == DOCUMENT.count("```python\n")


@pytest.mark.parametrize("module", [*(example.module for example in ALL), *RECIPES])
def test_the_code_for_an_application_comes_from_its_example(module: str) -> None:
    example = (ROOT / "examples" / f"{module}.py").read_text()
    excerpts = blocks(f"from {module}.py")
    assert any("LoginRequired(" in excerpt for excerpt in excerpts)
    assert [excerpt for excerpt in excerpts if excerpt not in example] == []


@pytest.mark.parametrize("test", blocks("test"), ids=["check_embedding", "check_embedding with get_app", "signed_in"])
def test_the_tests_in_the_document_pass(test: str, tmp_path: Path) -> None:
    [make_app] = blocks("yours")
    (tmp_path / "yours.py").write_text(YOURS + make_app)
    (tmp_path / "test_yours.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        # Loading hypothesis and other plugins, which the test does not use, takes longer than the test.
        env={**os.environ, **ENVIRONMENT, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, " passed" in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.parametrize("statement", blocks("option"))
def test_the_shown_options_exist(statement: str) -> None:
    config = Config(client_id="x", client_secret="x", session_store="memory:")
    names = {"LoginRequired": LoginRequired, "application": None, "get_app": lambda: create_app(config)}
    exec(statement, names)  # a part of our own document
    assert isinstance(names["app"], LoginRequired)


def test_the_shown_header_names_the_user_of_the_gate() -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [repr(environ.get("HTTP_X_PROXY_USER")).encode()]

    oauth_app = create_app(Config(client_id="x", client_secret="x", session_store="memory:"))
    names = {
        "application": application,
        "LoginRequired": partial(LoginRequired, public=("/",)),
        "get_app": lambda: oauth_app,
    }
    exec(blocks("header")[0], names)  # a part of our own document
    client = Client(names["app"])
    forged = {"X-Proxy-User": "admin"}
    assert client.get("/", headers=forged).text == "None"
    client.set_cookie(*signed_in(oauth_app))
    assert client.get("/", headers=forged).text == "'583231@github'"


def test_the_shown_page_requires_a_recent_sign_in() -> None:
    names: dict[str, Any] = {}
    exec(blocks("step up")[0], names)  # a part of our own document
    config = Config(client_id="x", client_secret="x", session_store="memory:")
    gate = LoginRequired(names["delete_account"], create_app(config))
    client = Client(gate)
    client.set_cookie(*signed_in(gate))
    response = client.get("/", headers={"Accept": "text/html"})
    assert "reauthenticate=max_age" in response.headers["Location"]


def test_the_quoted_message_of_check_embedding_is_current() -> None:
    with local_provider() as environ:
        app = protected(create_app(Config.from_environ(environ)))
        app = with_response(app, set_cookie(lambda value: value.replace("Path=/", "Path=/auth")))
        app = with_response(app, publicly_cacheable)
        with pytest.raises(EmbeddingFault) as caught:
            check_embedding(app)
    assert [f"{caught.value}\n"] == blocks("says")
