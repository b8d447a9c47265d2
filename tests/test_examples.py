"""Each example under gunicorn, with the local provider and a browser, and checked by check_embedding."""

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

from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


class Example(NamedTuple):
    """An example: the paths of its home page and of a page that shows the profile."""

    module: str
    home: str = "/"
    profile: str = "/profile"


TWO = Example("two_applications", profile="/reports/")
ALL = [
    Example(module) for module in ("bare_wsgi", "bottle_app", "django_app", "falcon_app", "flask_app", "pyramid_app")
]
ALL.append(TWO)
# Applications of other projects, which test_recipes.py tests.
RECIPES = ["appbuilder_app", "django_admin", "klaus_app", "pypiserver_app", "radicale_app", "wsgidav_app"]

CHECK = """
import importlib, os, sys
from unittest import mock
from wsgi_oauth.testing import check_embedding, local_provider

module, page, *public = sys.argv[1:]
with local_provider() as environ, mock.patch.dict(os.environ, environ):
    check_embedding(importlib.import_module(module).app, page=page, public=public, shows="Mona Lisa Octocat")
"""


# The variables that the examples need besides WSGI_OAUTH_*.
ENVIRONMENT = {"PYTHONPATH": f"{ROOT}:{EXAMPLES}", "DJANGO_SECRET_KEY": "test"}


def run(folder: Path, *command: str) -> None:
    """Run Python in *folder*, where an example can store its database."""
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **ENVIRONMENT},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The current folder of all examples; the one with Django stores its database there."""
    folder = tmp_path_factory.mktemp("examples")
    run(folder, str(EXAMPLES / "django_app.py"), "migrate")
    return folder


@pytest.fixture(scope="module", params=ALL, ids=lambda example: example.module)
def example(request: pytest.FixtureRequest) -> Example:
    return request.param


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    provider = LocalProvider()
    with serve_provider(provider):
        yield Site(provider, folder)


@pytest.fixture(scope="module")
def server(example: Example, site: Site) -> Iterator[Gunicorn]:
    """The example, started with the command in its docstring."""
    variables = environ_for(site.provider, SESSION_STORE=f"file:{site.sessions}") | ENVIRONMENT
    # One worker, because gunicorn waits 30 seconds for a worker that it stops while the worker starts.
    options = ("-c", "python:wsgi_oauth.gunicorn_conf", "--workers", "1")
    with gunicorn(site.folder, variables, *options, app=f"{example.module}:app") as server:
        yield server
        assert "Traceback" not in server.stop()


def sign_in(visitor: Visitor, page: str) -> str:
    """Open *page*, sign in, and return the page to which that leads back."""
    start = visitor.get(page)
    assert start.status_code == 302, start.text
    callback = visitor.get(visitor.callback_url(start.headers["Location"]))
    assert (callback.status_code, callback.headers["Location"]) == (303, page)
    return visitor.get(page).text


def test_runserver_of_django_uses_the_gate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environ_for(LocalProvider()).items():
        monkeypatch.setenv(name, value)
    code = "from django.core.servers.basehttp import get_internal_wsgi_application as find"
    run(folder, str(EXAMPLES / "django_app.py"), "shell", "-c", f"{code}; assert 'LoginRequired' in repr(find())")


def test_every_example_is_tested() -> None:
    assert sorted([*(example.module for example in ALL), *RECIPES]) == sorted(
        path.stem for path in EXAMPLES.glob("*.py")
    )


def test_each_docstring_has_the_gunicorn_command() -> None:
    for example in ALL:
        command = f"gunicorn -c python:wsgi_oauth.gunicorn_conf {example.module}:app"
        assert f"``{command}``" in (EXAMPLES / f"{example.module}.py").read_text()


def test_a_user_signs_in_sees_the_name_and_signs_out(example: Example, server: Gunicorn, site: Site) -> None:
    with site.visitor(server) as visitor:
        assert "Mona Lisa Octocat" in sign_in(visitor, f"{example.profile}?page=2")
        home = visitor.get(example.home).text
        assert "Mona Lisa Octocat" in home

        [action] = re.findall(r'<form method="post" action="([^"]+)"><button>Sign out</button>', home)
        assert unescape(action) == f"{server.url}/auth/logout"
        assert visitor.post("/auth/logout").status_code == 303
        assert visitor.cookie is None
        assert visitor.get(example.profile).status_code == 302


def test_a_revoked_token_leads_to_a_new_sign_in(example: Example, server: Gunicorn, site: Site) -> None:
    with site.visitor(server) as visitor:
        sign_in(visitor, example.profile)
        site.provider.faults.add("profile.401", times=2)  # the second fault rejects the refreshed token
        again = visitor.get(example.profile)
        assert again.status_code == 302, again.text
        assert visitor.get(visitor.callback_url(again.headers["Location"])).headers["Location"] == example.profile
        assert "Mona Lisa Octocat" in visitor.get(example.profile).text


def test_check_embedding_finds_no_problem(example: Example, folder: Path) -> None:
    page, public = (example.profile, ["/"]) if example is TWO else (example.home, [])
    run(folder, "-c", CHECK, example.module, page, *public)
