"""The application under gunicorn, with each kind of worker and a provider on a real socket."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import requests
import trustme
from conftest import (
    WORKERS,
    Barrier,
    Gunicorn,
    Site,
    Visitor,
    assert_keeps_secrets,
    at_the_same_time,
    environ_for,
    get_and_close,
    gunicorn,
    parameters,
    secrets_of,
    until,
)
from gunicorn.config import Config as GunicornConfig

from wsgi_oauth import gunicorn_conf
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.polling import poll

CHECKOUT = Path(__file__).parent.parent


# -- a complete sign-in ------------------------------------------------------------------------------------------------


def complete_sign_in(site: Site, server: Gunicorn) -> None:
    """Sign in, use the token and sign out, and check the responses and the connections."""
    with site.visitor(server) as visitor:
        sent_away = visitor.get("/profile?page=2")
        assert sent_away.status_code == 302
        assert visitor.cookie is None  # because this request needs no session

        callback_url = visitor.callback_url(sent_away.headers["Location"])
        anonymous = visitor.cookie
        signed_in = visitor.get(callback_url)
        assert (signed_in.status_code, signed_in.headers["Location"]) == (303, "/profile?page=2")
        assert visitor.cookie not in {anonymous, None}
        assert len(site.stored()) == 1

        assert visitor.profile().json() == dict(site.provider.user)
        double_click = visitor.get(callback_url)
        assert double_click.status_code == 303
        assert site.provider.count("token") == 1

        before = site.provider.server.connections
        assert {visitor.profile().status_code for _ in range(12)} == {200}
        assert site.provider.server.connections - before <= 2  # one per worker, none per request

        assert visitor.post("/logout").status_code == 303
        assert visitor.cookie is None
        assert site.stored() == []
        assert visitor.profile().status_code == 401


@pytest.mark.parametrize("worker", WORKERS.values(), ids=WORKERS)
def test_complete_sign_in_works_with_a_preloaded_application(site: Site, worker: tuple[str, ...]) -> None:
    with site.serve("--workers", "2", "--preload", *worker) as server:
        complete_sign_in(site, server)
        assert "Traceback" not in server.stop()
        assert server.process.returncode == 0


def test_complete_sign_in_works_over_tls(secure_site: Site) -> None:
    with secure_site.serve("--workers", "2", *WORKERS["sync"]) as server:
        complete_sign_in(secure_site, server)
        assert "Traceback" not in server.stop()


def test_cookie_over_https_has_the_host_prefix(secure_site: Site) -> None:
    """S38, RFC 6265bis 4.1.3.2: no other host and no page over plain http can set a __Host- cookie."""
    with secure_site.serve("--workers", "1") as server, secure_site.visitor(server) as visitor:
        name, _, rest = visitor.get("/").headers["Set-Cookie"].partition("=")
        attributes = {part.strip() for part in rest.split(";")[1:]}
        assert re.fullmatch(r"__Host-wsgi_oauth_[0-9]+-.+", name)
        assert attributes == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax", "Max-Age=90000"}
        redirect_uri = parameters(visitor.get("/").headers["Location"])["redirect_uri"]
        assert redirect_uri == f"{server.url}/callback"


def test_untrusted_certificate_of_the_provider_gets_no_secret(secure_site: Site, tmp_path: Path) -> None:
    """S26: without the private CA, the sign-in ends before the token request."""
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    with gunicorn(
        tmp_path,
        {
            **environ_for(secure_site.provider, SESSION_STORE=f"file:{secure_site.sessions}"),
            "REQUESTS_CA_BUNDLE": str(stranger),
        },
    ) as server:
        assert secure_site.certificates
        with Visitor(server.url, secure_site.provider, secure_site.certificates.ca) as visitor:
            assert visitor.get(visitor.callback_url()).status_code == 502
        assert secure_site.provider.count("token") == 0
        assert "SSLCertVerificationError" in server.log.read_text()


def test_forwarded_scheme_from_loopback_is_ignored(site: Site) -> None:
    """S35: gunicorn believes X-Forwarded-Proto from loopback by default."""
    with site.serve("--workers", "1") as server, site.visitor(server) as visitor:
        answer = visitor.get("/", **{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"})
        assert parameters(answer.headers["Location"])["redirect_uri"] == f"{server.url}/callback"
        assert answer.headers["Set-Cookie"].startswith("wsgi_oauth_")


def test_settings_ignore_script_names_from_loopback(site: Site) -> None:
    """S35: by default, gunicorn believes them. Not every proxy removes them from the requests of clients."""
    options = ("--config", "python:wsgi_oauth.gunicorn_conf", "--workers", "1")
    with site.serve(*options) as server, site.visitor(server) as visitor:
        assert visitor.get("/prefix/", SCRIPT_NAME="/prefix").status_code == 404


def test_settings_accept_codes_of_8_kib(site: Site) -> None:
    """The longest request line that gunicorn can accept without these settings has 8190 bytes."""
    options = ("--config", "python:wsgi_oauth.gunicorn_conf", "--workers", "1")
    with site.serve(*options) as server, site.visitor(server) as visitor:
        answer = visitor.get(f"/callback?state=x&code={'x' * 8192}", Accept="application/json")
        assert answer.json()["error"] == "no_login_in_progress"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
def test_preloaded_application_opens_nothing_before_the_fork(site: Site) -> None:
    """S61: otherwise all workers would share it."""
    with site.serve("--workers", "2", "--preload") as server:
        complete_sign_in(site, server)
        descriptors = Path(f"/proc/{server.process.pid}/fd")
        targets = [os.readlink(descriptor) for descriptor in descriptors.iterdir()]
        assert not [target for target in targets if str(site.sessions) in target]
        assert len([target for target in targets if target.startswith("socket:")]) == 1  # the listening socket


# -- `gunicorn` in a checkout ------------------------------------------------------------------------------------------


def test_gunicorn_without_arguments_serves_a_checkout(site: Site) -> None:
    """gunicorn.conf.py contains the rest."""
    with site.serve(app=None, cwd=CHECKOUT) as server:
        with site.visitor(server) as visitor:
            visitor.sign_in()
            assert visitor.profile().json() == dict(site.provider.user)
            misled = visitor.get("/", SCRIPT_NAME="/elsewhere", **{"X-Forwarded-Proto": "https"})
            assert parameters(misled.headers["Location"])["redirect_uri"] == f"{server.url}/callback"
            path, _, query = visitor.callback_url().partition("?")
            assert "code_refused" in visitor.get(f"{path}?{query.replace('code=', 'code=' + 'x' * 8000)}").text
            assert visitor.get("/" + "x" * 16 * 1024).status_code == 414  # from gunicorn
        said = server.stop()
        assert "Using worker: gthread" in said
        assert "sign_in success" in said  # by the application, in the log of gunicorn
        assert "Traceback" not in said
        assert server.process.returncode == 0


def test_ignored_number_of_workers_is_logged(provider: LocalProvider, tmp_path: Path) -> None:
    """Sessions in memory need a single worker."""
    environ = {**environ_for(provider, SESSION_STORE="memory:"), "WEB_CONCURRENCY": "2"}
    with gunicorn(tmp_path, environ, app=None, cwd=CHECKOUT) as server:
        said = server.stop()
    assert said.count("Booting worker") == 1
    assert said.count("WEB_CONCURRENCY: ignored") == 1


@pytest.mark.parametrize(("port", "bind"), [("9000", "127.0.0.1:9000"), ("", "127.0.0.1:8000")])
def test_port_of_the_environment_may_be_empty(port: str, bind: str) -> None:
    """Docker Compose sets an empty value for a variable that it does not know."""
    code = "from wsgi_oauth.gunicorn_conf import bind; print(bind)"
    environ = {**os.environ, "PORT": port, "PYTHONPATH": str(CHECKOUT)}
    said = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert said.stdout == f"{bind}\n"


INVALID = {
    "nothing is set": ({}, ["WSGI_OAUTH_CLIENT_ID", "WSGI_OAUTH_CLIENT_SECRET"]),
    "no secret": ({"CLIENT_ID": "an-id"}, ["WSGI_OAUTH_CLIENT_SECRET"]),
    "an unknown provider": (
        {"CLIENT_ID": "an-id", "CLIENT_SECRET": "canary", "PROVIDER": "gitbuh"},
        ["WSGI_OAUTH_PROVIDER", "gitbuh", "github"],
    ),
    "a misspelt variable": (
        {"CLIENT_ID": "an-id", "CLIENT_SECRET": "canary", "PUBLIK_URL": "https://shop.example"},
        ["WSGI_OAUTH_PUBLIK_URL", "WSGI_OAUTH_PUBLIC_URL"],
    ),
    "a store that others can write": (
        {"CLIENT_ID": "an-id", "CLIENT_SECRET": "canary", "SESSION_STORE": "file:/tmp"},
        ["/tmp"],
    ),
}
ENTRY_POINTS = {
    "in a checkout": {"app": None, "cwd": CHECKOUT},
    "get_app": {"app": "wsgi_oauth:get_app()"},
    "get_app, preload": {"app": "wsgi_oauth:get_app()", "options": ("--preload",)},
}
INVALID_STARTS = [*((kind, "get_app") for kind in INVALID), *(("an unknown provider", entry) for entry in ENTRY_POINTS)]


@pytest.mark.parametrize(("kind", "entry_point"), dict.fromkeys(INVALID_STARTS))
def test_invalid_configuration_stops_gunicorn_with_an_explanation(tmp_path: Path, kind: str, entry_point: str) -> None:
    (settings, named), entry = INVALID[kind], ENTRY_POINTS[entry_point]
    options = entry.get("options", ())
    environ = {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": "",
        "STATE_DIRECTORY": "",
        **{f"WSGI_OAUTH_{name}": value for name, value in settings.items()},
    }
    with gunicorn(tmp_path, environ, *options, app=entry["app"], cwd=entry.get("cwd")) as server:
        assert server.process.wait(timeout=30) != 0
        said = server.log.read_text()
    assert [name for name in named if name not in said] == []
    assert "Traceback" not in said
    assert "canary" not in said


# -- logs --------------------------------------------------------------------------------------------------------------

BROKEN_SITE = """
import logging
import os

from wsgi_oauth import Config, RequestHandler, create_app

logging.basicConfig(level=logging.DEBUG)
for name in logging.root.manager.loggerDict:
    logging.getLogger(name).setLevel(logging.DEBUG)


class Broken(RequestHandler):
    route = "/broken"

    def get(self, request):
        session, code = request.session, request.args.get("code")
        raise RuntimeError("on purpose")


app = create_app(Config.from_environ(os.environ), handlers=[Broken])
"""


def test_access_log_has_no_query_and_no_referer(site: Site) -> None:
    """S50: codes and states are in query strings and in the Referer of the next page."""
    with site.serve("--workers", "1", app=None, cwd=CHECKOUT) as server:
        with site.visitor(server) as visitor:
            callback_url = visitor.callback_url()
            visitor.get(callback_url, Referer=f"{site.provider.url}/authorize?canary")
            visitor.get("/profile?canary", Referer=callback_url)
            visitor.get("/nowhere?canary")
            visitor.get("/callback?code=canary&state=canary")
            secrets = secrets_of(site.provider, visitor.cookie)
        said = server.stop()
    for line in (
        '"GET /" 302',
        '"GET /callback" 303',
        '"GET /profile" 200',
        '"GET /nowhere" 404',
        '"GET /callback" 400',
    ):
        assert line in said
    assert "canary" not in said
    assert "?" not in "".join(line for line in said.splitlines() if '"GET ' in line)
    assert_keeps_secrets(said, secrets)


def test_client_of_a_unix_socket_has_a_dash_in_the_access_log() -> None:
    """It has no address, and programs that read the log expect a word in this place."""
    logger = gunicorn_conf.Logger(GunicornConfig())
    response, request = SimpleNamespace(status="200 OK", sent=0, headers=[]), SimpleNamespace(headers=[])
    environ = {"REQUEST_METHOD": "GET", "RAW_URI": "/", "SERVER_PROTOCOL": "HTTP/1.1"}
    for address, shown in (("", "-"), ("127.0.0.1", "127.0.0.1")):
        atoms = logger.atoms(response, request, {**environ, "REMOTE_ADDR": address}, timedelta())
        assert atoms["h"] == shown


def test_file_of_the_error_log_has_the_log_of_the_application_also_after_a_rotation(site: Site, tmp_path: Path) -> None:
    log, old = tmp_path / "error.log", tmp_path / "error.log.1"
    options = ("--config", f"{CHECKOUT / 'gunicorn.conf.py'}", "--workers", "1", "--error-logfile", str(log))
    with site.serve(*options) as server, site.visitor(server) as visitor:
        visitor.get("/callback?state=unknown")
        assert "sign_in refused" in log.read_text()
        log.rename(old)
        server.process.send_signal(signal.SIGUSR1)
        for _ in poll(60):  # the worker opens the new file when it has received the signal
            visitor.get("/callback?state=unknown")
            if log.exists() and "sign_in refused" in log.read_text():
                break
        else:
            pytest.fail(f"the worker still writes to the old file:\n{old.read_text()}")
        assert "sign_in refused" not in server.stop()


LOG_CONFIG = """
[loggers]
keys = root
[handlers]
keys = file
[formatters]
keys =
[logger_root]
level = INFO
handlers = file
[handler_file]
class = FileHandler
args = ("all.log",)
"""


def test_log_config_of_the_operator_is_used(site: Site, tmp_path: Path) -> None:
    (tmp_path / "log.ini").write_text(LOG_CONFIG)
    options = (
        "--config",
        f"{CHECKOUT / 'gunicorn.conf.py'}",
        "--workers",
        "1",
        "--log-config",
        f"{tmp_path / 'log.ini'}",
    )
    with site.serve(*options, cwd=tmp_path) as server, site.visitor(server) as visitor:
        visitor.get("/callback?state=unknown")
        assert "sign_in refused" in (tmp_path / "all.log").read_text()


GUNICORN_CONF = """
from wsgi_oauth.gunicorn_conf import *

handlers = {
    "console": {"class": "logging.StreamHandler"},
    "file": {"class": "logging.FileHandler", "filename": "application.log"},
}
logconfig_dict = {"handlers": handlers, "loggers": {"wsgi_oauth": {"handlers": ["file"], "propagate": False}}}
"""


def test_handlers_of_the_operator_for_the_log_of_the_application_are_used(site: Site, tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(GUNICORN_CONF)
    options = ("--config", f"{tmp_path / 'gunicorn.conf.py'}", "--workers", "1")
    with site.serve(*options, cwd=tmp_path) as server, site.visitor(server) as visitor:
        visitor.get("/callback?state=unknown")
        assert "sign_in refused" not in server.stop()
    assert "sign_in refused" in (tmp_path / "application.log").read_text()


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("100000 100000", 1), ("50000 100000", 1), ("150000 100000", 2), ("max 100000", 4), ("9900000 100000", 4)],
)
def test_number_of_workers_depends_on_the_processors_of_the_container(
    limit: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_max = tmp_path / "cpu.max"
    cpu_max.write_text(f"{limit}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert gunicorn_conf.count_processors(str(cpu_max)) == expected
    assert gunicorn_conf.count_processors(str(tmp_path / "missing")) == 4


@pytest.mark.parametrize(("limit", "expected"), [("max", 129), (512 * 2**20, 8), (2**30 * 64, 129), (2**20, 1)])
def test_number_of_workers_follows_the_memory_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | int, expected: int
) -> None:
    """Without a limit of its processors, a container has all those of the machine."""
    monkeypatch.setattr(gunicorn_conf, "count_processors", lambda: 64)
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    assert gunicorn_conf.count_workers(str(tmp_path / "memory.max")) == expected
    assert gunicorn_conf.count_workers(str(tmp_path / "missing")) == 129


MOUNTED_SITE = """
from werkzeug import Response
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from wsgi_oauth import get_app

app = DispatcherMiddleware(Response("hello"), {"/login": get_app()})
"""


def test_both_logs_have_the_path_of_the_browser(site: Site) -> None:
    site.folder.joinpath("mounted_site.py").write_text(MOUNTED_SITE)
    options = ("--config", f"{CHECKOUT / 'gunicorn.conf.py'}", "--workers", "1")
    with site.serve(*options, app="mounted_site:app") as server:
        with site.visitor(server) as visitor:
            for path in ("/login/", "/login/callback", "/login", "/elsewhere"):
                visitor.get(path)
        said = server.stop()
    for line in (
        '"GET /login/" 302',
        '"GET /login/callback" 400',
        '"GET /login" 302',
        '"GET /elsewhere" 200',
        "cause=no_login_in_progress request='GET /login/callback'",
    ):
        assert line in said


MALFORMED = [
    b"GET /callback?code=canary&state=canary x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /callback?code=canary&name=\xe9 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"),
    b"GET /callback#code=canary x HTTP/1.1\r\n\r\n",
    b"GET /profile HTTP/1.1\r\nHost: localhost\r\nCookie wsgi_oauth=canary\r\n\r\n",
    b"GET /profile HTTP/1.1\r\nHost: localhost\r\nCookie: wsgi_oauth=canary\x00\r\n\r\n",
    b"GET /profile HTTP/1.1\r\nHost: localhost\r\nCookie: wsgi_oauth=canary\r\n folded\r\n\r\n",
    b"GET /profile HTTP/1.1\r\nHost: localhost\r\nExpect: canary\r\n\r\n",
    b"POST /logout HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n\r\n",
    b"POST /backchannel-logout HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Transfer-Encoding: chunked\r\n\r\ncanary\r\n\r\n",
    b"canary&state=canary HTTP/1.1\r\n\r\n",
    b"GET /callback?code=canary HT",
    b"GET /profile HTTP/1.1\r\nCookie: wsgi_oauth=canary\r\n",
]


def send_malformed_requests(server: Gunicorn) -> None:
    """Send requests that gunicorn refuses, each of which contains a secret."""
    address = urlsplit(server.url)
    for request in MALFORMED:
        with socket.create_connection((address.hostname, address.port), timeout=60) as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while client.recv(65536):  # until gunicorn has refused the request
                    pass


@pytest.mark.parametrize("worker", [WORKERS["sync"], WORKERS["gthread"]], ids=["sync", "gthread"])
def test_no_secret_is_logged_at_debug(site: Site, worker: tuple[str, ...]) -> None:
    """S49, S50: with DEBUG for every logger, an access log, failed sign-ins and malformed requests."""
    site.folder.joinpath("broken_site.py").write_text(BROKEN_SITE)
    faults = ["token.500", "token.error_200", "token.malformed_json", "token.hang_up", "token.cut_body"]
    ids = []
    options = ("--workers", "1", "--config", str(CHECKOUT / "gunicorn.conf.py"), "--log-level", "debug", *worker)
    with site.serve(*options, app="broken_site:app") as server:
        with site.visitor(server) as visitor:
            for fault in faults:
                site.provider.faults.add(fault)
                assert visitor.get(visitor.callback_url()).status_code in {400, 502}
            ids.append(visitor.cookie)
            visitor.sign_in()
            ids.append(visitor.cookie)
            assert visitor.profile().status_code == 200
            callback_url = visitor.callback_url()
            broken = visitor.get(callback_url.replace("/callback?", "/broken?"), Referer=callback_url).text
            assert visitor.get(f"{callback_url}&iss=https://attacker.example").status_code == 400
            visitor.get(callback_url, Cookie="")
            visitor.post("/logout")
        send_malformed_requests(server)
        said = server.stop()
    assert "on purpose" in said  # because the operator must see the failure
    assert re.search(r"Id: ([0-9a-f]{16})", broken)[1] in said
    assert "Invalid request from ip=127.0.0.1: InvalidRequestLine" in said
    assert "canary" not in said
    assert_keeps_secrets(said, secrets_of(site.provider, *ids))


# -- concurrency ------------------------------------------------------------------------------------------------------


PAUSED_SITE = """
import os
import threading
import time

from wsgi_oauth import Config, FileStore, create_app

current = threading.local()


class PausedStore(FileStore):
    def load(self, key):
        data = super().load(key)
        if current.is_new:
            current.is_new = False
            print("session opened", flush=True)
            while current.is_late and not os.path.exists("go"):
                time.sleep(0.01)
        return data

    def update(self, key, change, **kwargs):
        def slowly(data):
            time.sleep(0.01)  # so that concurrent updates overlap
            return change(data)

        return super().update(key, slowly, **kwargs)


config = Config.from_environ(os.environ)
application = create_app(config, store=PausedStore(config.session_store.removeprefix("file:")))


def app(environ, start_response):
    current.is_new = True
    current.is_late = "HTTP_X_LATE" in environ
    return application(environ, start_response)
"""


@pytest.fixture
def paused_site(site: Site) -> Site:
    """Return a site whose application logs each opened session, and holds requests with ``X-Late`` there.

    Its updates are slow enough to overlap.
    """
    site.folder.joinpath("paused_site.py").write_text(PAUSED_SITE)
    return site


def test_twenty_identical_callbacks_cause_one_token_request(
    paused_site: Site, barrier: Callable[[str], Barrier]
) -> None:
    """S3 (RFC 9700 4.2.4): with two workers and many threads, every copy is redirected to the page."""
    waiting = barrier("token")
    options = ("--workers", "2", *WORKERS["gthread"], "--threads", "20")
    with (
        paused_site.serve(*options, app="paused_site:app", UPSTREAM_LIMIT="20") as server,
        paused_site.visitor(server) as visitor,
    ):
        callback_url = visitor.callback_url()
        copies = [(visitor.copy(), callback_url) for _ in range(20)]
        with ThreadPoolExecutor(1) as background:
            answers = background.submit(at_the_same_time, get_and_close, copies)
            waiting.wait_for(1)
            until("session opened", server, times=20)
            waiting.open()
        answers = answers.result()
        assert [(answer.status_code, answer.headers.get("Location")) for answer in answers] == [(303, "/profile")] * 20
        assert paused_site.provider.count("token") == 1

        new = [answer.cookies for answer in answers if answer.cookies]
        assert len(new) == 1  # because no copy replaces the new session
        visitor.web.cookies.update(new[0])
        assert visitor.profile().status_code == 200


def test_copy_that_overlaps_the_end_of_the_first_is_redirected_to_the_same_page(paused_site: Site) -> None:
    """S3: the copy has opened the session before the sign-in changes its id."""
    with (
        paused_site.serve("--threads", "4", app="paused_site:app") as server,
        paused_site.visitor(server) as visitor,
        ThreadPoolExecutor(1) as background,
    ):
        callback_url = visitor.callback_url()
        late = visitor.copy()
        late.web.headers["X-Late"] = "yes"
        pending = background.submit(get_and_close, late, callback_url)
        until("session opened", server)
        assert visitor.get(callback_url).status_code == 303
        paused_site.folder.joinpath("go").touch()
        answer = pending.result()
        assert (answer.status_code, answer.headers.get("Location")) == (303, "/profile")
        assert paused_site.provider.count("token") == 1


def test_twenty_concurrent_tabs_can_all_finish(paused_site: Site) -> None:
    """S5: starts of one browser in two workers do not overwrite each other."""
    options = ("--workers", "2", *WORKERS["gthread"])
    with paused_site.serve(*options, app="paused_site:app") as server, paused_site.visitor(server) as visitor:
        tabs = at_the_same_time(get_and_close, [(visitor.copy(), f"/?next=/tab/{n}") for n in range(20)])
        for tab in tabs:
            visitor.web.cookies.update(tab.cookies)
        for number, tab in enumerate(tabs):
            answer = visitor.get(visitor.consent(tab.headers["Location"]))
            assert (answer.status_code, answer.headers.get("Location")) == (303, f"/tab/{number}")
        assert len(paused_site.stored()) == 1


# -- killed processes --------------------------------------------------------------------------------------------------


def test_worker_killed_during_the_token_request_leaves_complete_sessions(
    site: Site, barrier: Callable[[str], Barrier]
) -> None:
    """S60: every session is complete, no lock remains, and the next sign-in works."""
    waiting = barrier("token")
    with (
        site.serve("--workers", "1", *WORKERS["gthread"], UPSTREAM_TIMEOUT="60") as server,
        site.visitor(server) as visitor,
        site.visitor(server) as bystander,
    ):
        bystander.get("/")
        callback_url = visitor.callback_url()
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(get_and_close, visitor.copy(), callback_url)
            waiting.wait_for(1)
            os.kill(int(until(r"Booting worker with pid: (\d+)", server)), signal.SIGKILL)
            with pytest.raises(requests.ConnectionError):
                answer.result()
        waiting.open()
        assert ["oauth_token" in data for data in site.stored()] == [False, False]

        for same in (
            visitor.copy(),
            bystander.copy(),
        ):  # on new connections, because the old ones have died with the worker
            with same:
                same.sign_in()
                assert same.profile().status_code == 200
        assert ["oauth_token" in data for data in site.stored()].count(True) == 2


@pytest.fixture
def timed_out(site: Site, barrier: Callable[[str], Barrier]) -> Iterator[tuple[Gunicorn, Visitor]]:
    """Let gunicorn abort a sync worker during a callback: SIGABRT, which is raised as SystemExit."""
    waiting = barrier("token")
    configuration = str(CHECKOUT / "gunicorn.conf.py")
    options = (
        "--config",
        configuration,
        "--workers",
        "1",
        *WORKERS["sync"],
        "--threads",
        "1",
        "--timeout",
        "3",
        "--preload",
    )
    with site.serve(*options, UPSTREAM_TIMEOUT="60") as server, site.visitor(server) as visitor:
        callback_url = visitor.callback_url()
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(get_and_close, visitor.copy(), callback_url)
            waiting.wait_for(1)
            until("WORKER TIMEOUT", server)
            until("Booting worker with pid", server, times=2)
            with suppress(requests.ConnectionError):
                assert answer.result().status_code >= 500
        site.provider.faults.clear()
        waiting.open()
        yield server, visitor


def test_aborted_worker_leaves_the_session_unchanged(site: Site, timed_out: tuple[Gunicorn, Visitor]) -> None:
    """S62: the pending sign-in is over, and the next one works."""
    _, visitor = timed_out
    [session] = site.stored()
    assert session.keys() == {"oauth_state"}
    visitor.sign_in()
    assert visitor.profile().status_code == 200


def test_aborted_worker_logs_no_request_line(site: Site, timed_out: tuple[Gunicorn, Visitor]) -> None:
    """S50: gunicorn logs the whole URI of a request that ends with an exception, including SystemExit."""
    server, visitor = timed_out
    assert "callback?" not in server.log.read_text()
    assert_keeps_secrets(server.log.read_text(), secrets_of(site.provider, visitor.cookie))


def test_sigterm_waits_for_a_pending_callback(site: Site, barrier: Callable[[str], Barrier]) -> None:
    """A deployment interrupts no sign-in. The single worker has answered before, otherwise it could miss the signal."""
    waiting = barrier("token")
    with (
        site.serve("--workers", "1", *WORKERS["gthread"], "--log-level", "debug") as server,
        site.visitor(server) as visitor,
    ):
        callback_url = visitor.callback_url()
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(get_and_close, visitor.copy(), callback_url)
            waiting.wait_for(1)
            server.process.terminate()
            until("Handling signal: term", server)
            waiting.open()
            assert answer.result().status_code == 303
        assert server.process.wait(30) == 0
        assert ["oauth_token" in data for data in site.stored()] == [True]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start gunicorn with --user")
def test_session_folder_of_another_user_stops_the_start(provider: LocalProvider, tmp_path: Path) -> None:
    """gunicorn --user does not change HOME, so the default folder is that of root."""
    tmp_path.chmod(0o700)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("WSGI_OAUTH_")},
        **environ_for(provider),
        "HOME": str(tmp_path),
    }
    del environ["WSGI_OAUTH_SESSION_STORE"]
    environ.pop("XDG_STATE_HOME", None)
    arguments = ["--user", "nobody", "--group", "nogroup", "--workers", "1", "--bind", "127.0.0.1:0"]
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", *arguments],
        cwd=CHECKOUT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "cannot be used by the user nobody" in done.stderr
    assert "put a folder of that user into WSGI_OAUTH_SESSION_STORE" in done.stderr
