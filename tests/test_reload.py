"""HUP under gunicorn: new settings in all workers, and no request is lost."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Barrier, Gunicorn, Site, get_and_close, until

CONFIGURATION = (Path(__file__).parent.parent / "examples" / "deployment" / "gunicorn.conf.py").read_text()


@pytest.fixture
def site(site: Site) -> Site:
    """Configure gunicorn as docs/deployment.md says, with two workers."""
    code = CONFIGURATION.replace("/etc/wsgi-oauth/settings.env", str(site.folder / "settings.env"))
    site.folder.joinpath("gunicorn.conf.py").write_text(code)
    return site


def set_to(site: Site, **settings: str) -> None:
    lines = ["# settings", *(f"WSGI_OAUTH_{name}={value}" for name, value in settings.items())]
    site.folder.joinpath("settings.env").write_text("\n".join(lines))


def hang_up(server: Gunicorn, said: str) -> None:
    """Send HUP, and wait for the line *said* in the log, and for the end of the two old workers."""
    ended = len(re.findall("Worker exiting", server.log.read_text()))
    server.process.send_signal(signal.SIGHUP)
    until(said, server)
    until("Worker exiting", server, times=ended + 2)


def cookie_of(site: Site, server: Gunicorn) -> str:
    with site.visitor(server) as visitor:
        return visitor.get("/", Connection="close").headers["Set-Cookie"].partition("-")[0]


@contextmanager
def requests_all_the_time(site: Site, server: Gunicorn) -> Iterator[list[int]]:
    """Send one request after the other, each on its own connection, and collect their status codes."""
    statuses: list[int] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            statuses.append(get_and_close(site.visitor(server), "/healthz").status_code)

    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(run) for _ in range(2)]
        try:
            yield statuses
        finally:
            stop.set()
        for each in runs:
            each.result()


def test_new_settings_a_new_secret_and_new_templates_take_effect_and_no_request_is_lost(
    site: Site, barrier: Callable[[str], Barrier]
) -> None:
    template = site.folder / "templates" / "error.html"
    template.parent.mkdir()
    template.write_text("the first template")
    set_to(site, COOKIE_NAME="first", TEMPLATES=str(template.parent))
    with site.serve("--workers", "2", app=None) as server, site.visitor(server) as visitor:
        assert cookie_of(site, server) == "first"
        assert get_and_close(visitor, "/nothing").text == "the first template"
        template.write_text("the second template")
        callback_url = visitor.callback_url()
        waiting = barrier("token")
        with requests_all_the_time(site, server) as statuses, ThreadPoolExecutor(1) as thread:
            answer = thread.submit(get_and_close, visitor.copy(), callback_url)
            waiting.wait_for(1)  # an old worker has begun to answer the callback, and will finish
            changed = {"CLIENT_SECRET": "the-new-secret", "LOG_FORMAT": "json", "TEMPLATES": str(template.parent)}
            set_to(site, COOKIE_NAME="second", **changed)
            server.process.send_signal(signal.SIGHUP)
            until("has the new settings", server)
            until("Booting worker", server, times=4)
            waiting.open()
            assert answer.result().status_code == 303
            until("Worker exiting", server, times=2)
        assert set(statuses) == {200}
        assert cookie_of(site, server) == "second"
        assert get_and_close(visitor, "/nothing").text == "the second template"
        until('"logger": "gunicorn.access"', server)  # the access log is JSON
        validator = site.provider._validator
        validator.client = replace(validator.client, secret="the-new-secret")
        site.provider.faults.clear()
        with site.visitor(server) as later:
            later.sign_in()


def test_invalid_setting_keeps_the_previous_ones_and_is_explained(site: Site) -> None:
    set_to(site, COOKIE_NAME="first")
    with site.serve("--workers", "2", app=None) as server:
        set_to(site, COOKIE_NAME="__bad")
        hang_up(
            server, "keeps its previous settings, because the new ones are invalid:\nWSGI_OAUTH_COOKIE_NAME: must be"
        )
        assert cookie_of(site, server) == "first"
        set_to(site, COOKIE_NAME="second")
        hang_up(server, "has the new settings")
        assert cookie_of(site, server) == "second"
        assert "Traceback" not in server.log.read_text()


OWN_APPLICATION = """
from wsgi_oauth import get_app


def create():
    return get_app()


app = create()
"""


@pytest.mark.parametrize(
    ("name", "said", "cookie"),
    [
        ("myapp:create()", "HUP: myapp:create\\(\\) has the new settings", "second"),
        ("myapp:app", "HUP: myapp:app keeps its settings, because it is a variable", "first"),
    ],
)
def test_own_application_gets_new_settings_from_its_function(site: Site, name: str, said: str, cookie: str) -> None:
    site.folder.joinpath("myapp.py").write_text(OWN_APPLICATION)
    set_to(site, COOKIE_NAME="first")
    with site.serve("--workers", "2", app=name) as server:
        set_to(site, COOKIE_NAME="second")
        hang_up(server, said)
        assert cookie_of(site, server) == cookie
