"""A provider that does not answer takes a few threads, and never all: who does not need it is served as ever."""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import islice

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
from wsgi_oauth.oauth.openid import Discovery
from wsgi_oauth.oauth.presets import GITHUB
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.transport import transport
from wsgi_oauth.transport.transport import RequestLimit, Transport

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

KINDS = {
    "gthread": ("--worker-class", "gthread", "--threads", "16"),
    "gthread, preload": ("--worker-class", "gthread", "--threads", "16", "--preload"),
    "gevent": ("--worker-class", "gevent"),
    "gevent, preload": ("--worker-class", "gevent", "--preload"),
}
GTHREAD = ("--workers", "1", *KINDS["gthread"])


@contextmanager
def in_background(copies: list[tuple[Visitor, str]]) -> Iterator[list[Future[requests.Response]]]:
    """Ask for all of *copies*, each on a connection of its own, and go on meanwhile."""
    with ThreadPoolExecutor(len(copies)) as threads:
        yield [threads.submit(get_and_close, *copy) for copy in copies]


def first(count: int, answers: list[Future[requests.Response]]) -> list[requests.Response]:
    """Return the first *count* that are answered, while the others still wait."""
    done = [future.result() for future in islice(as_completed(answers, timeout=30), count)]
    assert sum(future.done() for future in answers) == count
    return done


def assert_sent_away(answer: requests.Response) -> None:
    """At once, with when to come back, and with nothing taken away."""
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), answer.text
    assert "provider_busy" in answer.text
    assert "Set-Cookie" not in answer.headers


def assert_serves_the_others(site: Site, server: Gunicorn) -> None:
    """Everything that can be had without the provider, as long as it hangs."""
    with site.visitor(server) as stranger:
        assert stranger.get("/healthz").json() == {"status": "ok"}
        assert stranger.get("/readyz").json() == {"status": "ready"}
        assert stranger.get("/profile", **JSON).status_code == 401
        assert stranger.get("/").status_code == 302
        assert stranger.post("/logout").status_code == 200


@pytest.mark.parametrize("worker", KINDS.values(), ids=KINDS)
def test_while_32_requests_hang_everyone_else_is_served(
    site: Site, barrier: Callable[[str], Barrier], worker: tuple[str, ...]
) -> None:
    """Twelve of sixteen threads wait for the provider, and twenty requests hear at once that it is slow."""
    with site.serve("--workers", "1", *worker) as server, site.visitor(server) as visitor:
        visitor.sign_in()
        waiting = barrier("profile")
        with in_background([(visitor.copy(), "/profile") for _ in range(32)]) as answers:
            for sent_away in first(20, answers):
                assert_sent_away(sent_away)
            waiting.wait_for(12)
            assert_serves_the_others(site, server)
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


def test_while_32_requests_hang_a_gate_lets_in_who_is_signed_in(site: Site, barrier: Callable[[str], Barrier]) -> None:
    """Who that is stands in the session: the gate does not ask the provider each time."""
    site.folder.joinpath("gated_site.py").write_text(GATED_SITE)
    with site.serve(*GTHREAD, app="gated_site:app") as server, site.visitor(server) as visitor:
        assert visitor.get(visitor.callback_url("/auth/")).status_code == 303
        before = visitor.get("/page")
        waiting = barrier("profile")
        with in_background([(visitor.copy(), "/auth/profile") for _ in range(32)]) as answers:
            for sent_away in first(20, answers):
                assert_sent_away(sent_away)
            waiting.wait_for(12)
            after = visitor.get("/page")
            assert sum(answer.done() for answer in answers) == 20
            waiting.open()
        assert (after.status_code, after.text) == (200, before.text)
        assert site.provider.count("profile") == 13


def test_a_callback_that_is_sent_away_has_used_up_nothing_and_a_reload_signs_in(
    site: Site, barrier: Callable[[str], Barrier]
) -> None:
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
            assert_sent_away(visitor.get(callback_url))
            assert site.provider.count("token") == 1  # that of the other one
            waiting.open()
            assert answer.result().status_code == 200
        assert visitor.get(callback_url).status_code == 303
        assert visitor.profile().status_code == 200


def test_copies_of_a_callback_that_wait_for_the_first_one_have_places_too(
    site: Site, barrier: Callable[[str], Barrier]
) -> None:
    """Who clicks thirty times while the token endpoint hangs has three threads, and no more."""
    with site.serve(*GTHREAD, UPSTREAM_LIMIT="3") as server, site.visitor(server) as visitor:
        callback_url = visitor.callback_url()
        waiting = barrier("token")
        with in_background([(visitor.copy(), callback_url) for _ in range(30)]) as answers:
            for sent_away in first(27, answers):
                assert_sent_away(sent_away)
            waiting.wait_for(1)
            assert_serves_the_others(site, server)
            waiting.open()
        assert sorted(answer.result().status_code for answer in answers) == [303] * 3 + [503] * 27
        assert site.provider.count("token") == 1


def test_who_waits_for_the_refresh_of_another_has_a_place_too(site: Site, barrier: Callable[[str], Barrier]) -> None:
    """The thirty-two of one page whose token has expired: one refreshes, eleven wait, and the rest comes again."""
    with site.serve(*GTHREAD) as server, site.visitor(server) as visitor:
        visitor.sign_in()
        expire(site, visitor)
        waiting = barrier("refresh")
        with in_background([(visitor.copy(), "/profile") for _ in range(32)]) as answers:
            for sent_away in first(20, answers):
                assert_sent_away(sent_away)
            waiting.wait_for(1)
            assert_serves_the_others(site, server)
            waiting.open()
        assert sorted(answer.result().status_code for answer in answers) == [200] * 12 + [503] * 20
        assert site.provider.count("refresh") == 1
        assert visitor.profile().status_code == 200


def expire(site: Site, visitor: Visitor) -> None:
    """Let the token in the session be too old, without waiting for it."""
    sessions = SessionManager(FileStore(site.sessions), idle=3600, lifetime=3600)
    session = Session(sessions, sessions.read(visitor.cookie or ""), visitor.cookie)
    session.change(lambda data: data["oauth_token"].update(expires_at=time.time() - 1))


# A place is given back, whatever happens


@pytest.mark.parametrize("fault", [name for name in FAULTS if name.startswith("profile.")])
def test_after_each_misbehaviour_the_place_is_free_again(
    provider: LocalProvider, make_browser: Callable[..., Browser], fault: str
) -> None:
    slow = {"profile.slow", "profile.dribble_headers", "profile.dribble_body"}
    browser = make_browser()
    browser.sign_in()
    impatient = make_browser(UPSTREAM_LIMIT="1", UPSTREAM_TIMEOUT="0.3" if fault in slow else "10")
    impatient.app.cookiejar = browser.app.cookiejar
    provider.faults.add(fault)
    assert impatient.profile().status_int != 503
    browser.sign_in()
    assert impatient.profile().status_int in ({200, 504} if fault in slow else {200})


@pytest.mark.parametrize("path", ["/profile", "/callback"])
def test_a_worker_that_times_out_in_the_middle_gives_its_place_back(
    make_browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """S62: as SystemExit, anywhere."""

    def time_out(_: object) -> bytes:
        raise SystemExit(1)

    browser = make_browser(UPSTREAM_LIMIT="1")
    browser.sign_in()
    url = browser.callback_url() if path == "/callback" else path
    with monkeypatch.context() as patch:
        patch.setattr(transport, "_read", time_out)
        assert browser.get(url).status_int == 500
    browser.sign_in()
    assert browser.profile().status_int == 200


def test_a_handler_that_fails_between_two_requests_keeps_no_place(make_browser: Callable[..., Browser]) -> None:
    class Careless(RequestHandler):
        route = "/careless"
        needs_provider = True

        def get(self, request: Request) -> Response:
            self.oauth2_session().get_json(self.provider.profile_url)
            raise RuntimeError("on purpose")

    browser = make_browser(handlers=(Careless,), UPSTREAM_LIMIT="1")
    browser.sign_in()
    assert [browser.get("/careless").status_int for _ in range(3)] == [500] * 3
    assert browser.profile().status_int == 200


# What a place is, seen from the transport


@pytest.fixture
def shared() -> Iterator[Transport]:
    """A transport with a single place."""
    only = Transport(10, limit=1)
    yield only
    only.adapter.close()


@pytest.fixture
def api() -> Iterator[Server]:
    @Request.application
    def application(request: Request) -> Response:
        body = b"a" * 100_000
        return Response(status=204) if request.path == "/empty" else Response(body, content_type="text/plain")

    with serve(application) as server:
        yield server


def ask(shared: Transport, url: str, **options: bool) -> requests.Response:
    return OAuth2Session(GITHUB, "id", "secret", shared, token={"access_token": "x"}).get(url, **options)


def assert_is_free(shared: Transport, api: Server) -> None:
    assert ask(shared, f"{api.url}/").status_code == 200


def assert_is_taken(shared: Transport, api: Server) -> None:
    with pytest.raises(errors.ProviderBusy, match="WSGI_OAUTH_UPSTREAM_LIMIT"):
        ask(shared, f"{api.url}/")


ENDS: dict[str, Callable[[requests.Response], object]] = {
    "read": lambda stream: stream.content,
    "read piece by piece": lambda stream: list(stream.iter_content(1000)),
    "closed": lambda stream: stream.close(),
    "closed after a part": lambda stream: (next(stream.iter_content(1000)), stream.close()),
    "closed twice": lambda stream: (stream.close(), stream.close()),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_answer_that_is_read_bit_by_bit_has_its_place_until_it_is_over(
    shared: Transport, api: Server, end: Callable[[requests.Response], object]
) -> None:
    stream = ask(shared, f"{api.url}/", stream=True)
    assert_is_taken(shared, api)
    end(stream)
    assert_is_free(shared, api)
    with ask(shared, f"{api.url}/", stream=True):
        assert_is_taken(shared, api)  # and no place has come into being


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_answer_that_was_forgotten_gives_its_place_back(shared: Transport, api: Server) -> None:
    forgotten = ask(shared, f"{api.url}/", stream=True)
    assert_is_taken(shared, api)
    del forgotten
    gc.collect()
    assert_is_free(shared, api)


def test_an_answer_without_a_body_gives_its_place_back_when_it_is_read(shared: Transport, api: Server) -> None:
    assert ask(shared, f"{api.url}/empty", stream=True).content == b""
    assert_is_free(shared, api)


def test_inside_a_place_a_request_needs_no_other_and_a_thread_of_its_own_does(shared: Transport, api: Server) -> None:
    with shared.slot():
        assert_is_free(shared, api)
        with shared.slot():
            assert_is_free(shared, api)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(assert_is_taken, shared, api).result()
    assert_is_free(shared, api)


def test_places_are_those_of_one_application(shared: Transport, api: Server) -> None:
    """Two of them in a process, for two providers: one that hangs is not the trouble of the other."""
    other = Transport(10, limit=1)
    with shared.slot():
        with other.slot(), ThreadPoolExecutor(1) as thread:
            thread.submit(assert_is_taken, other, api).result()
        assert_is_free(other, api)
    other.adapter.close()


def test_a_part_loses_no_place_when_the_whole_has_none() -> None:
    whole = RequestLimit(1)
    part = RequestLimit(2, whole)
    give_back = whole.take()
    for _ in range(5):
        with pytest.raises(errors.ProviderBusy):
            part.take()
    give_back()
    for _ in range(5):
        part.take()()


def test_a_part_has_the_connections_of_the_whole(shared: Transport) -> None:
    """And its TLS context, which takes longer to load than a whole request."""
    parts = [Transport(10, 1, within=shared).adapter for _ in range(2)]
    assert {id(part.poolmanager) for part in parts} == {id(shared.adapter.poolmanager)}
    assert len({id(part.request_limit) for part in parts}) == 2


def test_no_place_is_lost_or_made_when_many_come_and_go(api: Server) -> None:
    few, inside, most, lock = Transport(10, limit=3), [0], [0], threading.Lock()

    def come_and_go(_: int) -> int:
        try:
            with few.slot():
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
        assert sum(threads.map(come_and_go, range(5000))) > 0
    assert (inside[0], most[0] <= 3) == (0, True)
    places = [few.adapter.request_limit.take() for _ in range(3)]
    with pytest.raises(errors.ProviderBusy):
        few.adapter.request_limit.take()
    assert len(places) == 3
    few.adapter.close()


def test_who_is_sent_away_has_learned_nothing_about_the_issuer(shared: Transport) -> None:
    """That it cannot be asked is remembered for some seconds, so that not each request waits; here it was not asked."""

    @Request.application
    def issuer(request: Request) -> Response:
        endpoints = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")
        url = request.host_url.rstrip("/")
        return Response(json.dumps({"issuer": url, **{name: f"{url}/{name}" for name in endpoints}}))

    with serve(issuer) as server:
        config = Config(client_id="id", client_secret="secret", provider=server.url, session_store="memory:")
        discovery = Discovery(provider_from_config(config.providers[0]), shared, has_secret=True)
        give_back = shared.adapter.request_limit.take()
        with pytest.raises(errors.ProviderBusy):
            discovery.provider()
        give_back()
        assert discovery.provider().token_url == f"{server.url}/token_endpoint"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_has_all_its_places_whatever_its_parent_was_doing(shared: Transport) -> None:
    """S61"""
    with shared.slot():
        child = os.fork()
        if child == 0:
            try:
                shared.adapter.request_limit.take()
            except errors.ProviderBusy:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


def test_the_default_leaves_threads_over() -> None:
    """Of those that gunicorn.conf.py starts."""
    names: dict[str, int] = {}
    with open(os.path.join(os.path.dirname(__file__), "..", "gunicorn.conf.py"), encoding="utf-8") as file:
        exec(compile(file.read(), "gunicorn.conf.py", "exec"), names)
    left = names["threads"] - Config(client_id="id", client_secret="x", session_store="memory:").upstream_limit
    assert left >= 4
