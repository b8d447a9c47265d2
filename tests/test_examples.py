"""Each example under a real gunicorn, with the local provider and a browser; and what the kit has to say about it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Gunicorn, Site, Visitor, environ_for, gunicorn

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


class Example(NamedTuple):
    """Where it greets its user, and where it shows what the provider says."""

    module: str
    home: str = "/"
    profile: str = "/profile"


TWO = Example("two_applications", profile="/reports/")
ALL = [
    Example(module) for module in ("bare_wsgi", "bottle_app", "django_app", "falcon_app", "flask_app", "pyramid_app")
]
ALL.append(TWO)

CONFORMANCE = """
import importlib, os, sys
from unittest import mock
from wsgi_oauth.testing import check_embedding, local_provider

module, page, *public = sys.argv[1:]
with local_provider() as environ, mock.patch.dict(os.environ, environ):
    check_embedding(importlib.import_module(module).app, page=page, public=public, shows="Mona Lisa Octocat")
"""


# What the examples need beside the WSGI_OAUTH_* variables.
ENVIRONMENT = {"PYTHONPATH": f"{ROOT}:{EXAMPLES}", "DJANGO_SECRET_KEY": "of-a-test"}


def run(folder: Path, *command: str) -> None:
    """Run Python in *folder*, where an example may leave its database."""
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **ENVIRONMENT},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(params=ALL, ids=lambda example: example.module)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Example:
    if request.param.module == "django_app":
        run(tmp_path, str(EXAMPLES / "django_app.py"), "migrate")
    return request.param


@pytest.fixture
def server(example: Example, site: Site, tmp_path: Path) -> Iterator[Gunicorn]:
    """The example as its first line says, with sessions in files."""
    variables = environ_for(site.provider, SESSION_STORE=f"file:{site.sessions}") | ENVIRONMENT
    with gunicorn(tmp_path, variables, "--threads", "16", "--workers", "2", app=f"{example.module}:app") as server:
        yield server


def sign_in(visitor: Visitor, asked_for: str) -> str:
    """Open a page, be sent to sign in, agree, come back; return the page."""
    start = visitor.get(asked_for)
    assert start.status_code == 302, start.text
    back = visitor.get(visitor.callback_url(start.headers["Location"]))
    assert (back.status_code, back.headers["Location"]) == (303, asked_for)
    return visitor.get(asked_for).text


def test_no_example_is_forgotten() -> None:
    assert sorted(example.module for example in ALL) == sorted(path.stem for path in EXAMPLES.glob("*.py"))


def test_an_example_says_how_it_is_started() -> None:
    for example in ALL:
        assert f"``gunicorn --threads 16 {example.module}:app``" in (EXAMPLES / f"{example.module}.py").read_text()


def test_somebody_signs_in_is_greeted_and_signs_out(example: Example, server: Gunicorn, site: Site) -> None:
    with site.visitor(server) as visitor:
        assert "Mona Lisa Octocat" in sign_in(visitor, f"{example.profile}?page=2")
        home = visitor.get(example.home).text
        assert "Mona Lisa Octocat" in home

        [action] = re.findall(r'<form method="post" action="([^"]+)"><button>Sign out</button>', home)
        assert unescape(action) == f"{server.url}/auth/logout"
        assert visitor.post("/auth/logout").status_code == 200
        assert visitor.cookie is None
        assert visitor.get(example.profile).status_code == 302
    assert "Traceback" not in server.stop()


def test_whom_the_provider_no_longer_knows_signs_in_again(example: Example, server: Gunicorn, site: Site) -> None:
    with site.visitor(server) as visitor:
        sign_in(visitor, example.profile)
        site.provider.faults.add("profile.401", times=2)  # the second time with a token that was refreshed
        again = visitor.get(example.profile)
        assert again.status_code == 302, again.text
        assert visitor.get(visitor.callback_url(again.headers["Location"])).headers["Location"] == example.profile
        assert "Mona Lisa Octocat" in visitor.get(example.profile).text


def test_the_kit_has_nothing_to_say_about_it(example: Example, tmp_path: Path) -> None:
    page, public = (example.profile, ["/"]) if example is TWO else (example.home, [])
    run(tmp_path, "-c", CONFORMANCE, example.module, page, *public)
