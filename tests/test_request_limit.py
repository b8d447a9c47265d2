"""The request limit: a provider that does not answer occupies some threads of a worker, and never all of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import JSON, Barrier, Browser, Gunicorn, Site, Visitor, get_and_close
from werkzeug import Request, Response

from wsgi_oauth import Config, FileStore, RequestHandler, errors
from wsgi_oauth.demo.faults import FAULTS
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import Server, serve
from wsgi_oauth.oauth.client import OAuth2Session
from wsgi_oauth.oauth.configured import provider_from_config
from wsgi_oauth.oauth.discovery import Discovery
from wsgi_oauth.oauth.presets import GITHUB
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.transport import adapter
from wsgi_oauth.transport.limit import RequestLimit
from wsgi_oauth.transport.pool import Transport

GTHREAD = ("--workers", "1", "--worker-class", "gthread", "--threads", "16")


# Garbage whose collection lets another thread run, as closing a socket does, while threads start and end.
COUNT_DURING_COLLECTIONS = """
import gc
import threading
import time

from wsgi_oauth.transport.server_threads import count_threads


class Garbage:
    def __del__(self):
        time.sleep(0)


def start_threads():
    while not done.is_set():
        thread = threading.Thread(target=time.sleep, args=[0.0001])
        thread.start()
        thread.join()


done = threading.Event()
gc.set_threshold(3)
for _ in range(8):
    threading.Thread(target=start_threads, daemon=True).start()
for number in range(1000):
    for _ in range(number % 4):
        one, other = Garbage(), Garbage()
        one.other, other.other = other, one
    count_threads()
done.set()
"""


@contextmanager
def in_background(copies: list[tuple[Visitor, str]]) -> Iterator[list[Future[requests.Response]]]:
    """Send all requests at the same time, each on its own connection."""
    with ThreadPoolExecutor(len(copies)) as threads:
        yield [threads.submit(get_and_close, *copy) for copy in copies]


def first(count: int, answers: list[Future[requests.Response]]) -> list[requests.Response]:
    """Return the first *count* responses, while the other requests still wait."""
    done = [future.result() for future in islice(as_completed(answers, timeout=30), count)]
    assert sum(future.done() for future in answers) == count
    return done


def assert_busy(answer: requests.Response) -> None:
    """Check that the answer is a 503 with the time to come back, and does not change the session."""
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), answer.text
    assert "provider_busy" in answer.text
    assert "Set-Cookie" not in answer.headers


def assert_serves_other_requests(site: Site, server: Gunicorn) -> None:
    """Check the requests that do not need the provider."""
    with site.visitor(server) as stranger:
        assert stranger.get("/healthz").json() == {"status": "ok"}
        assert stranger.get("/readyz").json() == {"status": "ready"}
        assert stranger.get("/profile", **JSON).status_code == 401
        assert stranger.get("/").status_code == 302
        assert stranger.post("/logout").status_code == 303


def test_the_number_of_slots_is_that_of_a_thread_that_serves_requests() -> None:
    """Other threads, such as those of rechecks, do not see the server, and would permit more."""
    counted = iter([3, 12])
    limit = RequestLimit(lambda: next(counted))
    assert [limit.slots, limit.slots] == [3, 3]


def test_counting_the_threads_never_blocks_all_of_them() -> None:
    """https://github.com/python/cpython/issues/106883"""
    subprocess.run([sys.executable, "-c", COUNT_DURING_COLLECTIONS], check=True, timeout=60)


def test_other_requests_are_served_while_32_wait_for_the_provider(
    site: Site, barrier: Callable[[str], Barrier]
) -> None:
    """Twelve of sixteen threads wait for the provider, and twenty requests get a 503 at once."""
    with site.serve(*GTHREAD, "--preload") as server, site.visitor(server) as visitor:
        visitor.sign_in()
        waiting = barrier("profile")
        with in_background([(visitor.copy(), "/profile") for _ in range(32)]) as answers:
            for answer in first(20, answers):
                assert_busy(answer)
            waiting.wait_for(12)
            assert_serves_other_requests(site, server)
            assert sum(answer.done() for answer in answers) == 20
            waiting.open()
        assert sorted(answer.result().status_code for answer in answers) == [200] * 12 + [503] * 20
        assert site.provider.count("profile") == 12
        assert visitor.profile().status_code == 200


GATED_SITE = """
from wsgi_oauth import LoginRequired, get_app


def page(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["REMOTE_USER"].encode()]


app = LoginRequired(page, get_app())
"""


# Options of gunicorn, and how many of its threads or greenlets may wait for the provider.
COMMANDS = {
    "settings of the package": (("-c", "python:wsgi_oauth.gunicorn_conf"), 12),
    "16 threads": (("--threads", "16"), 12),
    "8 threads": (("--threads", "8"), 6),
    "gevent": (("--worker-class", "gevent"), 12),
}


@pytest.mark.parametrize(("options", "limit"), COMMANDS.values(), ids=COMMANDS)
def test_gate_serves_signed_in_users_while_32_requests_wait(
    site: Site, barrier: Callable[[str], Barrier], options: tuple[str, ...], limit: int
) -> None:
    """The gate does not ask the provider, because the identity is in the session. A quarter of the threads is free."""
    site.folder.joinpath("gated_site.py").write_text(GATED_SITE)
    with (
        site.serve("--workers", "1", *options, app="gated_site:app") as server,
        site.visitor(server) as visitor,
    ):
        assert visitor.get(visitor.callback_url("/auth/")).status_code == 303
        before = visitor.get("/page")
        waiting = barrier("profile")
        with in_background([(visitor.copy(), "/auth/profile") for _ in range(32)]) as answers:
            first(32 - limit, answers)
            waiting.wait_for(limit)
            after = visitor.get("/page")
            assert visitor.get("/auth/verify").status_code == 204
            assert sum(answer.done() for answer in answers) == 32 - limit
            waiting.open()
        assert (after.status_code, after.text) == (200, before.text)
        assert site.provider.count("profile") == limit + 1


def test_every_documented_number_of_threads_is_tested() -> None:
    root = Path(__file__).parent.parent
    documents = [root / "README.md", *root.glob("docs/*.md"), *root.glob("examples/*.py")]
    numbers = {n for each in documents for n in re.findall(r"gunicorn .*--threads (\d+)", each.read_text())}
    assert "16" in numbers
    assert numbers <= {options[1] for options, _ in COMMANDS.values() if options[0] == "--threads"}


def test_busy_callback_can_be_reloaded(site: Site, barrier: Callable[[str], Barrier]) -> None:
    """Neither its state nor its code has been used."""
    with (
        site.serve(*GTHREAD, UPSTREAM_LIMIT="1") as server,
        site.visitor(server) as hanging,
        site.visitor(server) as visitor,
    ):
        hanging.sign_in()
        waiting = barrier("profile")
        callback_url = visitor.callback_url()
        with in_background([(hanging.copy(), "/profile")]) as [answer]:
            waiting.wait_for(1)
            assert_busy(visitor.get(callback_url))
            assert site.provider.count("token") == 1  # the other visitor's request
            waiting.open()
            assert answer.result().status_code == 200
        assert visitor.get(callback_url).status_code == 303
        assert visitor.profile().status_code == 200


def test_duplicate_callbacks_that_wait_hold_slots_too(site: Site, barrier: Callable[[str], Barrier]) -> None:
    """A user who clicks thirty times while the token endpoint does not answer occupies three threads."""
    with site.serve(*GTHREAD, UPSTREAM_LIMIT="3") as server, site.visitor(server) as visitor:
        callback_url = visitor.callback_url()
        waiting = barrier("token")
        with in_background([(visitor.copy(), callback_url) for _ in range(30)]) as answers:
            for answer in first(27, answers):
                assert_busy(answer)
            waiting.wait_for(1)
            assert_serves_other_requests(site, server)
            waiting.open()
        assert sorted(answer.result().status_code for answer in answers) == [303] * 3 + [503] * 27
        assert site.provider.count("token") == 1


def test_requests_that_wait_for_a_refresh_hold_slots_too(site: Site, barrier: Callable[[str], Barrier]) -> None:
    with site.serve(*GTHREAD) as server, site.visitor(server) as visitor:
        visitor.sign_in()
        expire(site, visitor)
        waiting = barrier("refresh")
        with in_background([(visitor.copy(), "/profile") for _ in range(32)]) as answers:
            for answer in first(20, answers):
                assert_busy(answer)
            waiting.wait_for(1)
            assert_serves_other_requests(site, server)
            waiting.open()
        assert sorted(answer.result().status_code for answer in answers) == [200] * 12 + [503] * 20
        assert site.provider.count("refresh") == 1
        assert visitor.profile().status_code == 200


def expire(site: Site, visitor: Visitor) -> None:
    """Let the token in the visitor's session expire."""
    sessions = SessionManager(FileStore(site.sessions), idle=3600, lifetime=3600)
    session = Session(sessions, sessions.read(visitor.cookie or ""), visitor.cookie)
    session.change(lambda data: data["oauth_token"].update(expires_at=time.time() - 1))


# Slots are released in every case


@pytest.mark.parametrize("fault", [name for name in FAULTS if name.startswith("profile.")])
def test_slot_is_released_after_every_fault(
    provider: LocalProvider, make_browser: Callable[..., Browser], fault: str
) -> None:
    slow = {"profile.slow", "profile.dribble_headers", "profile.dribble_body"}
    browser = make_browser()
    browser.sign_in()
    limited = make_browser(UPSTREAM_LIMIT="1", UPSTREAM_TIMEOUT="0.3" if fault in slow else "10").share_cookies(browser)
    provider.faults.add(fault)
    assert limited.profile().status_int != 503
    browser.sign_in()
    assert limited.profile().status_int in ({200, 504} if fault in slow else {200})


@pytest.mark.parametrize("path", ["/profile", "/callback"])
def test_slot_is_released_when_the_worker_times_out(
    make_browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """S62: gunicorn raises SystemExit at an arbitrary place."""

    def time_out(_: object) -> bytes:
        raise SystemExit(1)

    browser = make_browser(UPSTREAM_LIMIT="1")
    browser.sign_in()
    url = browser.callback_url() if path == "/callback" else path
    with monkeypatch.context() as patch:
        patch.setattr(adapter, "read_body", time_out)
        assert browser.get(url).status_int == 500
    browser.sign_in()
    assert browser.profile().status_int == 200


def test_slot_is_released_when_a_handler_fails(make_browser: Callable[..., Browser]) -> None:
    class Failing(RequestHandler):
        route = "/failing"

        def get(self, request: Request) -> Response:
            self.oauth2_session().get_json(self.provider.profile_url)
            raise RuntimeError("on purpose")

    browser = make_browser(handlers=(Failing,), UPSTREAM_LIMIT="1")
    browser.sign_in()
    assert [browser.get("/failing").status_int for _ in range(3)] == [500] * 3
    assert browser.profile().status_int == 200


# The limit itself


@pytest.fixture
def single() -> Iterator[Transport]:
    """A transport with a single slot."""
    transport = Transport(10, limit=1)
    yield transport
    transport.close()


@pytest.fixture
def api() -> Iterator[Server]:
    @Request.application
    def application(request: Request) -> Response:
        return Response("{}", content_type="application/json")

    with serve(application) as server:
        yield server


def ask(transport: Transport, api: Server) -> int:
    client = OAuth2Session(GITHUB, "id", "secret", transport, token={"access_token": "x"})
    return client.get(f"{api.url}/").status_code


def test_thread_that_holds_a_slot_needs_no_other(single: Transport, api: Server) -> None:
    with single.slot():
        assert ask(single, api) == 200
        with single.slot():
            assert ask(single, api) == 200
        with ThreadPoolExecutor(1) as thread, pytest.raises(errors.ProviderBusy, match="WSGI_OAUTH_UPSTREAM_LIMIT"):
            thread.submit(ask, single, api).result()
    assert ask(single, api) == 200


def test_two_applications_have_separate_slots(single: Transport, api: Server) -> None:
    other = Transport(10, limit=1)
    with single.slot():
        assert ask(other, api) == 200
        with other.slot(), ThreadPoolExecutor(1) as thread, pytest.raises(errors.ProviderBusy):
            thread.submit(ask, other, api).result()
    other.close()


def test_one_of_several_providers_has_two_thirds_of_the_slots() -> None:
    total = Transport(10, limit=6)
    one, other = total.share(), total.share()
    assert hold_in_threads(one, 6) == 4
    assert hold_in_threads(one, 6, then=lambda: hold_in_threads(other, 6)) == 4 + 2
    total.close()


def hold_in_threads(transport: Transport, count: int, then: Callable[[], int] = lambda: 0) -> int:
    """Take a slot in each of *count* threads; return how many there were, plus what *then* returns meanwhile."""
    taken, release = threading.Semaphore(0), threading.Event()

    def hold() -> int:
        try:
            with transport.slot():
                taken.release()
                release.wait(30)
                return 1
        except errors.ProviderBusy:
            taken.release()
            return 0

    with ThreadPoolExecutor(count) as threads:
        held = [threads.submit(hold) for _ in range(count)]
        for _ in range(count):
            assert taken.acquire(timeout=30)
        more = then()
        release.set()
        return sum(future.result() for future in held) + more


@pytest.mark.parametrize(("slots", "slots_of_part"), [(1, 2), (2, 1)])
def test_refused_request_keeps_no_slot(slots: int, slots_of_part: int) -> None:
    total = RequestLimit(slots)
    part = RequestLimit(slots_of_part, total)
    other_request = copy_context()
    with part.slot():
        for _ in range(5):
            with pytest.raises(errors.ProviderBusy):
                other_request.run(part.slot().__enter__)
        if slots > slots_of_part:
            with RequestLimit(1, total).slot():
                pass
    with part.slot():
        pass


def test_providers_share_the_connections(api: Server) -> None:
    total = Transport(10, limit=6)
    assert [ask(total.share(), api) for _ in range(3)] == [200] * 3
    assert api.connections == 1
    total.close()


def test_concurrent_use_neither_loses_nor_adds_slots() -> None:
    limit, inside, most, lock = RequestLimit(3), [0], [0], threading.Lock()

    def use(_: int) -> int:
        try:
            with limit.slot():
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                time.sleep(0)
                with lock:
                    inside[0] -= 1
                return 1
        except errors.ProviderBusy:
            return 0

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(use, range(5000))) > 0
    assert (inside[0], most[0] <= 3) == (0, True)
    with ThreadPoolExecutor(3) as threads:
        barrier = threading.Barrier(3, timeout=30)

        def use_together() -> None:
            with limit.slot():
                barrier.wait()

        for future in [threads.submit(use_together) for _ in range(3)]:
            future.result()


def test_busy_transport_is_not_remembered_as_a_failure_of_the_issuer(single: Transport) -> None:
    """A failed discovery is remembered for some seconds, but here the issuer was not asked."""

    @Request.application
    def issuer(request: Request) -> Response:
        endpoints = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")
        url = request.host_url.rstrip("/")
        return Response(json.dumps({"issuer": url, **{name: f"{url}/{name}" for name in endpoints}}))

    with serve(issuer) as server, ThreadPoolExecutor(1) as thread:
        config = Config(client_id="id", client_secret="secret", provider=server.url, session_store="memory:")
        discovery = Discovery(provider_from_config(config.providers[0]), config.providers[0], single)
        with single.slot(), pytest.raises(errors.ProviderBusy):
            thread.submit(discovery.provider).result()
        assert discovery.provider().token_url == f"{server.url}/token_endpoint"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_child_process_has_all_its_slots(single: Transport) -> None:
    """S61: even if its parent was using slots at the fork."""
    with single.slot():
        child = os.fork()
        if child == 0:
            with ThreadPoolExecutor(1) as thread:
                os._exit(0 if thread.submit(single.slot().__enter__).exception() is None else 1)
        assert os.waitpid(child, 0)[1] == 0


# The default


def serve_request(transport: Transport, *, multithread: bool = True) -> int:
    """Call a WSGI application, and return the number of slots that it has."""

    def application(environ: dict[str, Any], start_response: object) -> int:
        return slots_of(transport)

    return application({"wsgi.multithread": multithread}, None)


@pytest.mark.parametrize(("threads", "slots"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (16, 12), (40, 12)])
def test_default_is_three_quarters_of_the_threads_and_at_most_twelve(threads: int, slots: int) -> None:
    transport = Transport(10)
    with ThreadPoolExecutor(threads) as server:
        assert server.submit(serve_request, transport).result() == slots
    transport.close()


def slots_of(transport: Transport) -> int:
    """Take slots until none is free, and return their number."""
    with ExitStack() as held:
        for count in range(100):
            try:
                # Each in a context of its own, because a thread that holds a slot needs no other.
                context = copy_context()
                manager = transport.slot()
                context.run(manager.__enter__)
                held.callback(context.run, manager.__exit__, None, None, None)
            except errors.ProviderBusy:
                return count
    return 100


def test_default_is_three_for_threads_of_an_unknown_server() -> None:
    transport, counted = Transport(10), []
    thread = threading.Thread(target=lambda: counted.append(serve_request(transport)))
    thread.start()
    thread.join()
    assert counted == [3]
    transport.close()


def test_server_that_serves_one_request_at_a_time_has_all_slots() -> None:
    transport = Transport(10)
    with ThreadPoolExecutor(4) as server:
        assert server.submit(serve_request, transport, multithread=False).result() == 12
    transport.close()


def test_thread_pool_of_an_application_does_not_count_as_the_server() -> None:
    transport = Transport(10)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(slots_of, transport).result() == 12
    transport.close()


def test_configured_limit_is_independent_of_the_threads() -> None:
    transport = Transport(10, limit=20)
    with ThreadPoolExecutor(4) as server:
        assert server.submit(serve_request, transport).result() == 20
    transport.close()
