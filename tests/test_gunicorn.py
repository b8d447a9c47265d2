"""Real processes: the application under gunicorn, with each kind of worker, and a provider on a real socket."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
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

from wsgi_oauth.demo.local_provider import LocalProvider

CHECKOUT = Path(__file__).parent.parent
PRELOAD = {"": (), "preload": ("--preload",)}


# -- the whole dance ---------------------------------------------------------------------------------------------------


def dance(site: Site, server: Gunicorn) -> None:
    """Sign in, use the token, sign out; with everything that a person would notice on the way."""
    with site.visitor(server) as visitor:
        sent_away = visitor.get("/profile?page=2")
        assert sent_away.status_code == 302
        assert visitor.cookie is None  # a page that needs no session makes none

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
        assert site.provider.server.connections - before <= 2  # one for each worker, and none for each request

        assert visitor.post("/logout").status_code == 200
        assert visitor.cookie is None
        assert site.stored() == []
        assert visitor.profile().status_code == 401


@pytest.mark.parametrize("preload", PRELOAD.values(), ids=PRELOAD)
@pytest.mark.parametrize("worker", WORKERS.values(), ids=WORKERS)
def test_the_whole_dance_works(site: Site, worker: tuple[str, ...], preload: tuple[str, ...]) -> None:
    with site.serve("--workers", "2", *worker, *preload) as server:
        dance(site, server)
        assert "Traceback" not in server.stop()
        assert server.process.returncode == 0


@pytest.mark.parametrize("preload", PRELOAD.values(), ids=PRELOAD)
@pytest.mark.parametrize("worker", WORKERS.values(), ids=WORKERS)
def test_the_whole_dance_works_over_tls(secure_site: Site, worker: tuple[str, ...], preload: tuple[str, ...]) -> None:
    with secure_site.serve("--workers", "2", *worker, *preload) as server:
        dance(secure_site, server)
        assert "Traceback" not in server.stop()


def test_over_https_the_cookie_is_bound_to_this_host(secure_site: Site) -> None:
    """S38, RFC 6265bis 4.1.3.2: another host, or a page of plain http, cannot plant a __Host- cookie."""
    with secure_site.serve("--workers", "1") as server, secure_site.visitor(server) as visitor:
        name, _, rest = visitor.get("/").headers["Set-Cookie"].partition("=")
        attributes = {part.strip() for part in rest.split(";")[1:]}
        assert name == "__Host-wsgi_oauth"
        assert attributes == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"}
        redirect_uri = parameters(visitor.get("/").headers["Location"])["redirect_uri"]
        assert redirect_uri == f"{server.url}/callback"


def test_a_provider_whose_certificate_nobody_vouches_for_gets_no_secret(secure_site: Site, tmp_path: Path) -> None:
    """S26: the same dance without the private CA ends before anything was said."""
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


def test_a_forwarded_scheme_from_this_machine_is_not_believed(site: Site) -> None:
    """S35: gunicorn believes X-Forwarded-Proto from loopback by default; the application must not."""
    with site.serve("--workers", "1") as server, site.visitor(server) as visitor:
        answer = visitor.get("/", **{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"})
        assert parameters(answer.headers["Location"])["redirect_uri"] == f"{server.url}/callback"
        assert answer.headers["Set-Cookie"].startswith("wsgi_oauth=")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
def test_nothing_of_the_application_is_open_before_the_fork(site: Site) -> None:
    """S61: what the parent holds, all of its workers would share."""
    with site.serve("--workers", "2", "--preload") as server:
        dance(site, server)
        descriptors = Path(f"/proc/{server.process.pid}/fd")
        targets = [os.readlink(descriptor) for descriptor in descriptors.iterdir()]
        assert not [target for target in targets if str(site.sessions) in target]
        assert len([target for target in targets if target.startswith("socket:")]) == 1  # the listening one


# -- `gunicorn` in a checkout ------------------------------------------------------------------------------------------


def test_gunicorn_alone_serves_a_checkout(site: Site) -> None:
    """gunicorn.conf.py says what to serve and how; nothing but the variables is needed."""
    with site.serve(app=None, cwd=CHECKOUT) as server:
        with site.visitor(server) as visitor:
            visitor.sign_in()
            assert visitor.profile().json() == dict(site.provider.user)
            misled = visitor.get("/", SCRIPT_NAME="/elsewhere", **{"X-Forwarded-Proto": "https"})
            assert parameters(misled.headers["Location"])["redirect_uri"] == f"{server.url}/callback"
        said = server.stop()
        assert "Using worker: gthread" in said
        assert "signed in" in said  # the application's own log stands beside gunicorn's
        assert "Traceback" not in said
        assert server.process.returncode == 0


BAD = {
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
    "a store for everyone": (
        {"CLIENT_ID": "an-id", "CLIENT_SECRET": "canary", "SESSION_STORE": "file:/tmp"},
        ["/tmp"],
    ),
}
ENTRANCES = {
    "in a checkout": {"app": None, "cwd": CHECKOUT},
    "anywhere": {"app": "wsgi_oauth:get_app()"},
    "anywhere, preload": {"app": "wsgi_oauth:get_app()", "options": ("--preload",)},
}


@pytest.mark.parametrize("entrance", ENTRANCES.values(), ids=ENTRANCES)
@pytest.mark.parametrize(("settings", "named"), BAD.values(), ids=BAD)
def test_gunicorn_stops_at_once_and_says_what_to_set(
    tmp_path: Path, entrance: dict[str, object], settings: dict[str, str], named: list[str]
) -> None:
    options = entrance.get("options", ())
    environ = {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": "",
        "STATE_DIRECTORY": "",
        **{f"WSGI_OAUTH_{name}": value for name, value in settings.items()},
    }
    with gunicorn(tmp_path, environ, *options, app=entrance["app"], cwd=entrance.get("cwd")) as server:
        assert server.process.wait(timeout=30) != 0
        said = server.log.read_text()
    assert [name for name in named if name not in said] == []
    assert "Traceback" not in said
    assert "canary" not in said


# -- what is logged ----------------------------------------------------------------------------------------------------

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


def test_the_access_log_has_neither_query_nor_referer(site: Site) -> None:
    """S50: codes and states stand in query strings, and in the Referer of the next page."""
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


MOUNTED_SITE = """
from werkzeug import Response
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from wsgi_oauth import get_app

app = DispatcherMiddleware(Response("hello"), {"/login": get_app()})
"""


def test_both_logs_have_the_path_that_the_browser_asked_for(site: Site) -> None:
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
        "'GET /login/callback': no_login_in_progress",
    ):
        assert line in said


@pytest.mark.parametrize("worker", WORKERS.values(), ids=WORKERS)
def test_no_secret_is_logged_even_while_debugging(site: Site, worker: tuple[str, ...]) -> None:
    """S49, S50: DEBUG for every logger and for gunicorn, an access log, and every kind of failure."""
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
        said = server.stop()
    assert "on purpose" in said  # the operator learns of the failure
    assert re.search(r"Id: ([0-9a-f]{16})", broken)[1] in said
    assert_keeps_secrets(said, secrets_of(site.provider, *ids))


MALFORMED = [
    b"GET /callback?code=canary&state=canary x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /callback?code=canary&name=\xe9 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"),
    b"GET /callback#code=canary x HTTP/1.1\r\n\r\n",
    b"GET /profile HTTP/1.1\r\nHost: localhost\r\nCookie wsgi_oauth=canary\r\n\r\n",
    b"GET /profile HTTP/1.1\r\nHost: localhost\r\nCookie: wsgi_oauth=canary\x00\r\n\r\n",
    b"GET /profile HTTP/1.1\r\nHost: localhost\r\nCookie: wsgi_oauth=canary\r\n folded\r\n\r\n",
    b"GET /profile HTTP/1.1\r\nHost: localhost\r\nExpect: canary\r\n\r\n",
    b"POST /logout HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n\r\n",
    b"canary&state=canary HTTP/1.1\r\n\r\n",
    b"GET /callback?code=canary HT",
    b"GET /profile HTTP/1.1\r\nCookie: wsgi_oauth=canary\r\n",
]


@pytest.mark.parametrize("worker", WORKERS.values(), ids=WORKERS)
def test_nothing_of_a_malformed_request_is_logged_even_while_debugging(site: Site, worker: tuple[str, ...]) -> None:
    """S49, S50: what is wrong with it may be one letter beside a code that nobody has used yet."""
    options = ("--workers", "1", "--config", str(CHECKOUT / "gunicorn.conf.py"), "--log-level", "debug", *worker)
    with site.serve(*options) as server:
        address = urlsplit(server.url)
        for request in MALFORMED:
            with socket.create_connection((address.hostname, address.port), timeout=30) as client:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):  # until gunicorn has understood that nothing will come of it
                    pass
        said = server.stop()
    assert "Invalid request from ip=127.0.0.1: InvalidRequestLine" in said
    assert "canary" not in said


# -- at the same time --------------------------------------------------------------------------------------------------


WATCHED_SITE = """
import os
import threading
import time

from wsgi_oauth import Config, FileStore, create_app

current = threading.local()


class WatchedStore(FileStore):
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
            time.sleep(0.01)  # the others' chance to spoil it
            return change(data)

        return super().update(key, slowly, **kwargs)


config = Config.from_environ(os.environ)
application = create_app(config, store=WatchedStore(config.session_store.removeprefix("file:")))


def app(environ, start_response):
    current.is_new = True
    current.is_late = "HTTP_X_LATE" in environ
    return application(environ, start_response)
"""


@pytest.fixture
def watched_site(site: Site) -> Site:
    """``watched_site:app`` says when a request has opened its session, and lets one with ``X-Late`` wait there.

    Its updates take long enough to get in each other's way.
    """
    site.folder.joinpath("watched_site.py").write_text(WATCHED_SITE)
    return site


@pytest.mark.parametrize("worker", [WORKERS["gthread"], WORKERS["gevent"]], ids=["gthread", "gevent"])
def test_of_twenty_identical_callbacks_one_asks_for_the_token(
    watched_site: Site, barrier: Callable[[str], Barrier], worker: tuple[str, ...]
) -> None:
    """S3 (RFC 9700 4.2.4): two workers, many threads, and nobody who clicked twice sees an error."""
    waiting = barrier("token")
    options = ("--workers", "2", *worker, "--threads", "20")
    with (
        watched_site.serve(*options, app="watched_site:app", UPSTREAM_LIMIT="20") as server,
        watched_site.visitor(server) as visitor,
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
        assert watched_site.provider.count("token") == 1

        new = [answer.cookies for answer in answers if answer.cookies]
        assert len(new) == 1  # no late copy takes the new session away again
        visitor.web.cookies.update(new[0])
        assert visitor.profile().status_code == 200


def test_a_copy_that_was_about_to_begin_when_the_first_one_ended_leads_to_the_same_place(watched_site: Site) -> None:
    """S3: it has found the session in its place, and a moment later the sign-in has moved that to a new id."""
    with (
        watched_site.serve("--threads", "4", app="watched_site:app") as server,
        watched_site.visitor(server) as visitor,
        ThreadPoolExecutor(1) as background,
    ):
        callback_url = visitor.callback_url()
        late = visitor.copy()
        late.web.headers["X-Late"] = "yes"
        pending = background.submit(get_and_close, late, callback_url)
        until("session opened", server)
        assert visitor.get(callback_url).status_code == 303
        watched_site.folder.joinpath("go").touch()
        answer = pending.result()
        assert (answer.status_code, answer.headers.get("Location")) == (303, "/profile")
        assert watched_site.provider.count("token") == 1


def test_a_callback_that_fails_is_not_tried_again_by_its_copies(site: Site, provider: LocalProvider) -> None:
    """S3: the state is used up before the exchange, also when the exchange fails."""
    provider.faults.add("token.503", times=None)
    with site.serve("--workers", "2", *WORKERS["gthread"]) as server, site.visitor(server) as visitor:
        callback_url = visitor.callback_url()
        answers = at_the_same_time(get_and_close, [(visitor.copy(), callback_url) for _ in range(12)])
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [400] * 11 + [502]
        assert provider.count("token") == 1


def test_of_twenty_tabs_that_start_at_the_same_time_each_can_finish(watched_site: Site) -> None:
    """S5: the starts of one session, on two workers, take nothing away from each other."""
    options = ("--workers", "2", *WORKERS["gthread"])
    with watched_site.serve(*options, app="watched_site:app") as server, watched_site.visitor(server) as visitor:
        visitor.get("/")
        tabs = at_the_same_time(get_and_close, [(visitor.copy(), f"/?next=/tab/{n}") for n in range(20)])
        for number, tab in enumerate(tabs):
            answer = visitor.get(visitor.consent(tab.headers["Location"]))
            assert (answer.status_code, answer.headers.get("Location")) == (303, f"/tab/{number}")
        assert len(watched_site.stored()) == 1


# -- processes that die ------------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_in_the_middle_of_an_exchange_breaks_nothing(
    site: Site, barrier: Callable[[str], Barrier]
) -> None:
    """S60: each session is wholly old or wholly new, no lock stays behind, and the next sign-in works."""
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

        for same in (visitor.copy(), bystander.copy()):  # on new connections: the old ones died with the worker
            with same:
                same.sign_in()
                assert same.profile().status_code == 200
        assert len(site.stored()) == 2


@pytest.fixture
def timed_out(site: Site, barrier: Callable[[str], Barrier]) -> Iterator[tuple[Gunicorn, Visitor]]:
    """A sync worker that gunicorn has ended in the middle of a callback: SIGABRT, raised as SystemExit."""
    waiting = barrier("token")
    configuration = str(CHECKOUT / "gunicorn.conf.py")
    options = ("--config", configuration, "--workers", "1", *WORKERS["sync"], "--threads", "1", "--timeout", "2")
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


def test_a_worker_that_times_out_leaves_the_session_as_it_was(site: Site, timed_out: tuple[Gunicorn, Visitor]) -> None:
    """S62: the sign-in is over, everything else goes on."""
    _, visitor = timed_out
    assert site.stored() == [{"oauth_state": {}}]
    visitor.sign_in()
    assert visitor.profile().status_code == 200


def test_a_worker_that_times_out_logs_no_request_line(site: Site, timed_out: tuple[Gunicorn, Visitor]) -> None:
    """S50: gunicorn logs the whole URI of a request that an exception has ended, a SystemExit too."""
    server, visitor = timed_out
    assert "?" not in server.log.read_text()
    assert_keeps_secrets(server.log.read_text(), secrets_of(site.provider, visitor.cookie))


@pytest.mark.parametrize("worker", WORKERS.values(), ids=WORKERS)
def test_a_sign_in_that_is_on_its_way_is_finished_before_gunicorn_goes(
    site: Site, barrier: Callable[[str], Barrier], worker: tuple[str, ...]
) -> None:
    """A deployment (SIGTERM) costs nobody the sign-in. There is one worker, and it has answered: one that was just
    being forked misses the signal, and gunicorn waits for it until it loses patience.
    """
    waiting = barrier("token")
    with site.serve("--workers", "1", *worker, "--log-level", "debug") as server, site.visitor(server) as visitor:
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
