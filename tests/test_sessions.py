"""Sessions as a browser and a handler use them: storing, merging, ids, lifetimes and the cookie."""

from __future__ import annotations

import gc
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from conftest import JSON, STORES, Browser, age, environ_for, send
from werkzeug import Response

from wsgi_oauth import Config, FileStore, LoginRequired, MemoryStore, RequestHandler, SessionStore, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sessions.cookie import CookieNames
from wsgi_oauth.sessions.manager import SessionManager
from wsgi_oauth.sessions.redis import RedisStore
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.sessions.store import MAX_BYTES, Record

HOUR, DAY = 3600, 86400
Act = Callable[[Any], Any]


class Watched:
    """A store that records its calls, and can let another request act before the next move."""

    def __init__(self, store: SessionStore) -> None:
        self.store = store
        self.calls: list[str] = []
        self.known: set[str] = set()
        self.before_next_move: list[Callable[[], object]] = []

    def load(self, key: str) -> bytes | None:
        self.calls.append("load")
        return self.store.load(key)

    def create(self, key: str, record: Record) -> None:
        self.calls.append("create")
        self.known.add(key)
        self.store.create(key, record)

    def update(self, key: str, change: Callable[[bytes], Record | None], *, move_to: str | None = None) -> bool:
        while move_to and self.before_next_move:
            self.before_next_move.pop()()
        self.calls.append("move" if move_to else "update")
        self.known.add(move_to or key)
        return self.store.update(key, change, move_to=move_to)

    def delete(self, key: str) -> None:
        self.calls.append("delete")
        self.store.delete(key)

    def keys(self) -> Iterator[str]:
        return self.store.keys()

    def sweep(self) -> int:
        return self.store.sweep()

    def check(self) -> None:
        self.store.check()

    def writes(self) -> list[str]:
        """Return the writing calls since the last call of this method."""
        writes = [call for call in self.calls if call != "load"]
        self.calls.clear()
        return writes

    def alive(self) -> list[str]:
        """Return the keys of all sessions."""
        return [key for key in sorted(self.known) if self.store.load(key) is not None]


on_every_store = pytest.mark.parametrize("store", STORES, indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Watched:
    """Return the store of the application: in memory, or with ``on_every_store`` each kind in turn."""
    kind = getattr(request, "param", "memory")
    if kind == "redis":
        return Watched(RedisStore(request.getfixturevalue("redis_url")))
    return Watched(FileStore(tmp_path / "sessions") if kind == "file" else MemoryStore())


class Page(RequestHandler):
    """Calls a function of the test with the session."""

    route = "/page"
    endpoint = "page"
    acts: list[Act] = []  # noqa: RUF012

    def get(self, request):
        return self.jsonify({"result": self.acts.pop()(request.session)})


class Visitor:
    """A browser. Its requests call functions of the test with their session."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def does(self, act: Act, **headers: str) -> Any:
        """Call *act* with the session of one request; return its result."""
        Page.acts.append(act)
        response = self.browser.get("/page", headers=headers)
        Page.acts.clear()
        assert response.status_int == 200, response
        self.response = response
        return response.json["result"]

    def sees(self) -> dict[str, Any]:
        """Return the session without the data of sign-ins."""
        return self.does(lambda session: {k: v for k, v in session.items() if not k.startswith("oauth_")})

    def is_signed_in(self) -> bool:
        return self.does(lambda session: session.signed_in)

    def sends(self, cookie: str | None) -> None:
        """Send *cookie* from now on."""
        self.browser.app.reset()
        if cookie is not None:
            self.browser.app.set_cookie("wsgi_oauth", cookie)

    @property
    def cookie(self) -> str:
        assert self.browser.cookie
        return self.browser.cookie


@pytest.fixture
def make_visitor(make_browser: Callable[..., Any]) -> Callable[..., Visitor]:
    """Create visitors of one application. A visitor *like* another one sends the same cookie."""

    def make(like: Visitor | None = None, **settings: str) -> Visitor:
        visitor = Visitor(make_browser(handlers=(Page,), **settings))
        if like is not None:
            visitor.sends(like.cookie)
        return visitor

    return make


@pytest.fixture
def visitor(make_visitor: Callable[..., Visitor]) -> Visitor:
    return make_visitor()


@pytest.fixture
def signed_in(visitor: Visitor, store: Watched) -> Visitor:
    visitor.browser.sign_in()
    store.calls.clear()
    return visitor


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch, store: Watched) -> Callable[[float], None]:
    """Move the clock forward."""
    now = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now[0])

    def let_pass(seconds: float) -> None:
        now[0] += seconds
        age(store.store, seconds)

    return let_pass


def sets(**values: Any) -> Act:
    return lambda session: session.update(values)


def key(cookie: str) -> str:
    return sha256(cookie.encode()).hexdigest()


def set_cookies(response: Any) -> list[str]:
    return response.headers.getall("Set-Cookie")


# Storing


@on_every_store
def test_session_data_is_there_in_the_next_request(visitor: Visitor):
    visitor.does(sets(cart=["a", {"b": 1.5}], name="é\U0001f600", nothing=None))
    assert visitor.sees() == {"cart": ["a", {"b": 1.5}], "name": "é\U0001f600", "nothing": None}


def test_a_request_that_needs_no_session_creates_none(visitor: Visitor, store: Watched):
    """S37"""
    for url in ("/profile", "/healthz", "/nowhere", "/callback?code=x&state=y", "/callback", "/page/", "/logout"):
        assert "Set-Cookie" not in visitor.browser.get(url).headers
    visitor.browser.post("/logout")
    assert visitor.sees() == {}
    visitor.does(lambda session: session.get("cart"))
    assert store.writes() == []
    assert visitor.browser.cookie is None


def test_a_request_that_does_not_use_the_session_does_not_load_it(signed_in: Visitor, store: Watched):
    for url in ("/healthz", "/nowhere"):
        signed_in.browser.get(url)
    assert store.calls == []


def test_an_unchanged_session_is_not_written(signed_in: Visitor, store: Watched):
    signed_in.does(sets(cart=[1]))
    assert store.writes() == ["update"]
    for act in (
        lambda session: session["cart"][0],
        lambda session: sorted(session),
        lambda session: session.update(cart=[1]),
        lambda session: session["cart"].sort(),
        lambda session: session.setdefault("cart", []),
        lambda session: session.pop("nothing", None),
    ):
        signed_in.does(act)
        assert store.writes() == []
        assert set_cookies(signed_in.response) == []


@pytest.mark.parametrize(
    ("act", "left"),
    [
        (lambda session: session["cart"].append(2), {"cart": [1, 2], "deep": {"a": [{"b": 1}]}}),
        (lambda session: session["deep"]["a"][0].update(b=2), {"cart": [1], "deep": {"a": [{"b": 2}]}}),
        (lambda session: session["deep"]["a"].clear(), {"cart": [1], "deep": {"a": []}}),
        (lambda session: session.update(cart=True), {"cart": True, "deep": {"a": [{"b": 1}]}}),
        (lambda session: session.pop("cart") and None, {"deep": {"a": [{"b": 1}]}}),
        (lambda session: session.popitem() and None, {"cart": [1]}),
        (lambda session: session.__ior__({"more": 1}) and None, {"cart": [1], "deep": {"a": [{"b": 1}]}, "more": 1}),
        (lambda session: session.setdefault("more", 1), {"cart": [1], "deep": {"a": [{"b": 1}]}, "more": 1}),
        (lambda session: session.clear(), {}),
    ],
    ids=["append", "nested", "nested clear", "other type", "pop", "popitem", "or", "setdefault", "clear"],
)
def test_every_kind_of_change_is_stored(visitor: Visitor, store: Watched, act: Act, left: dict[str, Any]):
    visitor.does(sets(cart=[1], deep={"a": [{"b": 1}]}))
    store.calls.clear()
    visitor.does(act)
    assert store.writes() == ["update"]
    assert visitor.sees() == left


def test_an_emptied_session_keeps_its_id(visitor: Visitor):
    visitor.does(sets(cart=[1]))
    cookie = visitor.cookie
    visitor.does(lambda session: session.clear())
    visitor.does(sets(cart=[2]))
    assert visitor.cookie == cookie
    assert visitor.sees() == {"cart": [2]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes", {1}])
def test_a_value_that_json_cannot_hold_is_an_error_and_changes_nothing(visitor: Visitor, store: Watched, value: Any):
    visitor.does(sets(cart=[1]))
    Page.acts.append(sets(cart=[2], value=value))
    assert visitor.browser.get("/page").status_int == 500
    assert visitor.sees() == {"cart": [1]}
    visitor.does(sets(cart=[3]))
    assert visitor.sees() == {"cart": [3]}


def test_a_too_large_session_is_an_error_and_changes_nothing(visitor: Visitor):
    visitor.does(sets(cart=[1]))
    Page.acts.append(sets(cart="a" * MAX_BYTES))
    assert visitor.browser.get("/page").status_int >= 400
    assert visitor.sees() == {"cart": [1]}


def test_a_failing_handler_changes_nothing(visitor: Visitor, store: Watched):
    visitor.does(sets(cart=[1]))
    store.calls.clear()

    def fail(session: Any) -> None:
        session["cart"].append(2)
        raise ZeroDivisionError

    Page.acts.append(fail)
    assert visitor.browser.get("/page").status_int == 500
    assert store.writes() == []
    assert visitor.sees() == {"cart": [1]}


# Concurrent requests


@on_every_store
def test_concurrent_requests_that_set_different_keys_lose_nothing(
    visitor: Visitor, make_visitor: Callable[..., Visitor]
):
    visitor.does(sets(a=0, b=0, c=0, gone=1))
    other = make_visitor(like=visitor)

    def act(session: Any) -> None:
        other.does(lambda theirs: theirs.update(b=2, new=[1]))
        session["a"] = 1
        del session["gone"]

    visitor.does(act)
    assert visitor.sees() == {"a": 1, "b": 2, "c": 0, "new": [1]}


def test_a_key_that_one_request_removed_is_not_restored_by_another(
    visitor: Visitor, make_visitor: Callable[..., Visitor]
):
    visitor.does(sets(a=0, b=0))
    other = make_visitor(like=visitor)

    def act(session: Any) -> None:
        other.does(lambda theirs: theirs.pop("b"))
        session["a"] = 1

    visitor.does(act)
    assert visitor.sees() == {"a": 1}


def test_the_last_of_two_requests_that_set_the_same_key_wins(visitor: Visitor, make_visitor: Callable[..., Visitor]):
    visitor.does(sets(a=0))
    other = make_visitor(like=visitor)

    def act(session: Any) -> None:
        session["a"] = 1
        other.does(sets(a=2))

    visitor.does(act)
    assert visitor.sees() == {"a": 1}


@on_every_store
def test_eight_parallel_requests_lose_nothing(visitor: Visitor, make_visitor: Callable[..., Visitor]):
    """All of them load the session before the first one saves it."""
    visitor.does(sets(start=0))
    together = threading.Barrier(8, timeout=30)

    def act(session: Any) -> None:
        together.wait()
        session[f"key {threading.get_ident()}"] = 1

    def visit(copy: Visitor) -> None:
        assert copy.browser.get("/page").status_int == 200

    copies = [make_visitor(like=visitor) for _ in range(8)]
    Page.acts.extend([act] * 8)
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(visit, copy) for copy in copies]:
            done.result()
    assert len(visitor.sees()) == 9


@on_every_store
def test_change_reads_and_writes_the_newest_data_in_one_step(visitor: Visitor, make_visitor: Callable[..., Visitor]):
    visitor.does(sets(count=1))
    other = make_visitor(like=visitor)

    def count_up(data: dict[str, Any]) -> int:
        data["count"] += 1
        return data["count"]

    def act(session: Any) -> list[int]:
        first = other.does(lambda theirs: theirs.change(count_up))
        second = session.change(count_up)
        return [first, second, session["count"], other.sees()["count"]]

    assert visitor.does(act) == [2, 3, 3, 3]


def test_change_keeps_the_unsaved_changes_of_the_request(visitor: Visitor):
    visitor.does(sets(count=1))

    def act(session: Any) -> None:
        session["mine"] = "set before"
        session.change(lambda data: data.update(count=2))

    visitor.does(act)
    assert visitor.sees() == {"count": 2, "mine": "set before"}


def test_change_on_save_gets_the_newest_data_at_the_end_of_the_request(
    visitor: Visitor, make_visitor: Callable[..., Visitor]
):
    visitor.does(sets(count=1))
    other = make_visitor(like=visitor)

    def act(session: Any) -> None:
        session.change_on_save(lambda data: data.update(count=data["count"] + 1))
        session["mine"] = 1
        other.does(sets(count=10))

    visitor.does(act)
    assert visitor.sees() == {"count": 11, "mine": 1}


def test_change_on_save_works_in_a_new_session(visitor: Visitor):
    visitor.does(lambda session: session.change_on_save(lambda data: data.update(count=1)))
    assert visitor.sees() == {"count": 1}


# Ending


@on_every_store
def test_an_ended_session_is_deleted_and_its_cookie_is_useless(signed_in: Visitor, store: Watched):
    cookie = signed_in.cookie
    signed_in.browser.post("/logout")
    assert store.alive() == []
    assert signed_in.browser.cookie is None
    signed_in.sends(cookie)
    assert not signed_in.is_signed_in()


@on_every_store
@pytest.mark.parametrize(
    "act",
    [
        sets(cart=[1]),
        lambda session: session.change(lambda data: data.update(cart=[1])),
        lambda session: session.change_on_save(lambda data: data.update(cart=[1])),
        lambda session: session.clear(),
    ],
    ids=["set", "change", "change on save", "clear"],
)
def test_a_session_that_another_request_ended_stays_ended(
    signed_in: Visitor, make_visitor: Callable[..., Visitor], store: Watched, act: Act
):
    """S42"""
    other = make_visitor(like=signed_in)
    cookie = signed_in.cookie

    def race(session: Any) -> None:
        assert other.browser.post("/logout").status_int == 303
        act(session)

    signed_in.does(race)
    assert store.alive() == []
    assert set_cookies(signed_in.response) == []
    signed_in.sends(cookie)
    assert not signed_in.is_signed_in()


def test_ending_a_session_that_another_tab_has_renewed_leaves_the_new_cookie_alone(
    signed_in: Visitor, make_visitor: Callable[..., Visitor]
):
    """S36: the tabs share one cookie, and it already holds the new id."""
    tab = make_visitor(like=signed_in)

    def act(session: Any) -> None:
        tab.browser.sign_in()
        session.change(lambda data: None)
        session.end()

    signed_in.does(act)
    assert set_cookies(signed_in.response) == []
    assert tab.is_signed_in()


def test_data_that_is_set_after_the_end_is_discarded(signed_in: Visitor, store: Watched):
    def act(session: Any) -> None:
        session.end()
        session["cart"] = [1]

    signed_in.does(act)
    assert store.alive() == []
    assert signed_in.browser.cookie is None
    assert signed_in.sees() == {}


def test_a_session_can_be_ended_twice_and_before_it_is_stored(visitor: Visitor, store: Watched):
    visitor.does(lambda session: session.end())
    assert store.writes() == []
    assert set_cookies(visitor.response) == []
    visitor.does(sets(cart=[1]))
    visitor.does(lambda session: [session.end(), session.end()])
    assert store.alive() == []


def test_a_session_and_its_tokens_are_freed_with_the_response(provider: LocalProvider, store: Watched):
    """They must not wait for the garbage collector, because they contain secrets and can be large."""
    kept: list[weakref.ref[Any]] = []

    class Watch(RequestHandler):
        route = "/watch"

        def get(self, request):
            kept.extend(map(weakref.ref, (self, request, request.session)))
            return self.jsonify(dict(request.session))

    app = create_app(Config.from_environ(environ_for(provider)), store=store, handlers=[Watch])
    browser = Browser(app, provider)
    browser.sign_in()
    headers = {**JSON, "Cookie": f"wsgi_oauth={browser.cookie}"}
    gc.disable()
    try:
        assert "oauth_token" in send(app, "/watch", headers=headers).get_json()
        assert [ref() for ref in kept] == [None, None, None]
    finally:
        gc.enable()


# A new id with every sign-in (S36)


@on_every_store
def test_a_sign_in_changes_the_id_and_deletes_the_old_session(visitor: Visitor, store: Watched):
    """S36, ASVS 7.2.4: an attacker may have planted or seen the old id (session fixation)."""
    callback = visitor.browser.callback_url()
    before = visitor.cookie
    assert store.alive() == [key(before)]
    visitor.browser.get(callback)
    after = visitor.cookie
    assert after != before
    assert store.alive() == [key(after)]
    visitor.sends(before)
    assert visitor.does(dict) == {}
    visitor.sends(after)
    assert visitor.is_signed_in()


def test_a_second_sign_in_changes_the_id_again(signed_in: Visitor, store: Watched):
    first = signed_in.cookie
    signed_in.browser.sign_in()
    assert signed_in.cookie != first
    assert store.alive() == [key(signed_in.cookie)]


def test_data_from_before_the_sign_in_is_kept(visitor: Visitor):
    visitor.does(sets(cart=[1]))
    visitor.browser.sign_in()
    assert visitor.sees() == {"cart": [1]}


def test_a_second_user_does_not_inherit_the_data_of_the_first(signed_in: Visitor):
    """S36"""
    signed_in.does(sets(cart=["the first user's"]))
    signed_in.browser.sign_in()
    assert signed_in.sees() == {}
    assert signed_in.is_signed_in()


@on_every_store
def test_two_tabs_that_sign_in_at_once_inherit_nothing_from_the_first_user(
    signed_in: Visitor, make_visitor: Callable[..., Visitor], store: Watched
):
    """S36: the second tab finds that the first one has moved the session."""
    signed_in.does(sets(cart=["the first user's"]))
    tab = make_visitor(like=signed_in)
    mine, theirs = signed_in.browser.callback_url(), tab.browser.callback_url()
    store.before_next_move.append(lambda: tab.browser.get(theirs))
    assert signed_in.browser.get(mine).status_int == 303
    assert signed_in.is_signed_in()
    assert tab.is_signed_in()
    assert (signed_in.sees(), tab.sees()) == ({}, {})


def test_a_second_user_inherits_nothing_when_the_first_signs_out_meanwhile(
    signed_in: Visitor, make_visitor: Callable[..., Visitor], store: Watched
):
    """S36"""
    signed_in.does(sets(cart=["the first user's"]))
    tab = make_visitor(like=signed_in)
    callback = signed_in.browser.callback_url()
    store.before_next_move.append(lambda: tab.browser.post("/logout"))
    assert signed_in.browser.get(callback).status_int == 303
    assert signed_in.sees() == {}


def test_a_sign_in_succeeds_while_many_others_are_started(
    visitor: Visitor, make_visitor: Callable[..., Visitor], store: Watched
):
    """S43: their records may evict the record of this one, which was already consumed."""
    callback = visitor.browser.callback_url()
    tab = make_visitor(like=visitor)
    store.before_next_move.append(lambda: [tab.browser.start() for _ in range(30)])
    assert visitor.browser.get(callback).status_int == 303
    assert visitor.is_signed_in()


def test_a_renewed_session_keeps_concurrent_changes_of_other_requests(
    visitor: Visitor, make_visitor: Callable[..., Visitor]
):
    visitor.does(sets(cart=[1]))
    other = make_visitor(like=visitor)

    def act(session: Any) -> None:
        session.renew()
        session["mine"] = 1
        other.does(sets(theirs=2))

    before = visitor.cookie
    visitor.does(act)
    assert visitor.cookie != before
    assert visitor.sees() == {"cart": [1], "mine": 1, "theirs": 2}


def test_ids_are_long_and_random(make_visitor: Callable[..., Visitor]):
    """S7"""
    ids = set()
    for _ in range(20):
        visitor = make_visitor()
        visitor.browser.start()
        ids.add(visitor.cookie)
    assert len(ids) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", id_) for id_ in ids)


# Lifetimes (S40)

SHORT = {"SESSION_IDLE": "1h", "SESSION_LIFETIME": "10h"}


@on_every_store
def test_an_idle_session_expires(make_visitor: Callable[..., Visitor], pass_time: Callable[[float], None]):
    """S40: on the server, because a browser may keep sending the cookie."""
    visitor = make_visitor(**SHORT)
    visitor.browser.sign_in()
    cookie = visitor.cookie
    pass_time(HOUR - 1)
    assert visitor.is_signed_in()  # this request restarts the idle time
    pass_time(HOUR - 1)
    assert visitor.is_signed_in()
    pass_time(HOUR + 1)
    visitor.sends(cookie)
    assert not visitor.is_signed_in()


def test_an_active_session_expires_at_the_end_of_its_lifetime(
    make_visitor: Callable[..., Visitor], pass_time: Callable[[float], None]
):
    """S40"""
    visitor = make_visitor(**SHORT)
    visitor.browser.sign_in()
    cookie = visitor.cookie
    for number in range(19):
        pass_time(HOUR / 2)
        visitor.does(sets(number=number))
        assert visitor.is_signed_in()
    pass_time(HOUR / 2 + 1)
    visitor.sends(cookie)
    assert not visitor.is_signed_in()


def test_a_new_sign_in_starts_a_new_lifetime(make_visitor: Callable[..., Visitor], pass_time: Callable[[float], None]):
    visitor = make_visitor(**SHORT)
    visitor.browser.sign_in()
    for _ in range(15):
        pass_time(HOUR / 2)
        assert visitor.is_signed_in()
    visitor.browser.sign_in()
    for _ in range(18):
        pass_time(HOUR / 2)
        assert visitor.is_signed_in()


def test_current_settings_apply_to_existing_sessions(
    make_visitor: Callable[..., Visitor], pass_time: Callable[[float], None]
):
    visitor = make_visitor(SESSION_IDLE="7d", SESSION_LIFETIME="7d", RECHECK="never")
    visitor.browser.sign_in()
    pass_time(2 * HOUR)
    assert visitor.is_signed_in()
    assert not make_visitor(like=visitor, SESSION_IDLE="1h").is_signed_in()
    assert not make_visitor(like=visitor, SESSION_LIFETIME="1h").is_signed_in()
    assert make_visitor(like=visitor, SESSION_IDLE="3h", SESSION_LIFETIME="3h").is_signed_in()


def test_the_time_of_the_last_request_is_written_rarely(
    make_visitor: Callable[..., Visitor], store: Watched, pass_time: Callable[[float], None]
):
    visitor = make_visitor(SESSION_IDLE="12h", RECHECK="never")
    visitor.browser.sign_in()
    store.calls.clear()
    writes = []
    for minute in range(1, 181):
        pass_time(60)
        assert visitor.is_signed_in()
        writes += [minute] * len(store.writes())
    assert 1 <= len(writes) <= 3
    assert writes[0] >= 60


@on_every_store
def test_anonymous_sessions_expire_after_an_hour(visitor: Visitor, store: Watched, pass_time: Callable[[float], None]):
    """S59: otherwise a flood of them could fill the store."""
    visitor.does(sets(cart=[1]))
    (alive,) = store.alive()
    pass_time(HOUR - 1)
    assert store.load(alive)
    pass_time(2)
    assert store.load(alive) is None
    assert visitor.does(dict) == {}


def test_reading_an_anonymous_session_writes_nothing(
    visitor: Visitor, store: Watched, pass_time: Callable[[float], None]
):
    visitor.does(sets(cart=[1]))
    store.calls.clear()
    for _ in range(9):
        pass_time(60)
        assert visitor.sees() == {"cart": [1]}
    assert store.writes() == []


# Cookies from the browser


def test_an_unknown_id_is_not_adopted(make_visitor: Callable[..., Visitor], store: Watched):
    """S37: otherwise an attacker could choose it (session fixation)."""
    planted = "A" * 43
    for first_step in (lambda v: v.does(sets(cart=[1])), lambda v: v.browser.start(), lambda v: v.browser.sign_in()):
        visitor = make_visitor()
        visitor.sends(planted)
        first_step(visitor)
        assert planted not in {cookie.value for cookie in visitor.browser.app.cookiejar if cookie.domain == "localhost"}
        assert key(planted) not in store.alive()
    visitor.sends(planted)
    assert visitor.does(dict) == {}


def test_the_id_of_a_pending_sign_in_opens_no_session(visitor: Visitor, make_visitor: Callable[..., Visitor]):
    """S70: its cookie opens nothing else. Pages of the application would otherwise see the code verifier."""
    visitor.browser.start()
    [pending] = [each.value for each in visitor.browser.app.cookiejar if each.name.startswith("wsgi_oauth-")]
    other = make_visitor()
    other.sends(pending)
    assert other.does(dict) == {}


def test_an_ended_id_is_not_adopted(signed_in: Visitor, store: Watched):
    """S37"""
    ended = signed_in.cookie
    signed_in.browser.post("/logout")
    signed_in.sends(ended)
    response = signed_in.browser.get("/")
    assert ended not in "".join(set_cookies(response))
    assert key(ended) not in store.alive()


@pytest.mark.parametrize(
    "header",
    [
        "wsgi_oauth={first}; wsgi_oauth={second}",
        "wsgi_oauth={second}; wsgi_oauth={first}",
        "wsgi_oauth={first}; other=1; wsgi_oauth={unknown}",
        "wsgi_oauth={unknown}; wsgi_oauth={first}",
        "wsgi_oauth={first}; wsgi_oauth=",
        "wsgi_oauth={first},wsgi_oauth={second}",
        "wsgi_oauth={first}, wsgi_oauth={second}",
        'wsgi_oauth="{first},{second}"',
        "wsgi_oauth={first} {second}",
    ],
)
def test_two_different_session_cookies_are_both_ignored(
    make_visitor: Callable[..., Visitor], store: Watched, header: str
):
    """S39, RFC 6265 8.6: another host may have set one of them. gunicorn joins two Cookie headers with a comma."""
    first, second = make_visitor(), make_visitor()
    first.browser.sign_in()
    second.browser.sign_in()
    before = store.alive()
    cookies = header.format(first=first.cookie, second=second.cookie, unknown="A" * 43)
    mixed = make_visitor()
    assert mixed.does(lambda session: dict(session), Cookie=cookies) == {}
    assert set_cookies(mixed.response) == []
    response = mixed.browser.get("/", headers={"Cookie": cookies})
    assert response.status_int == 302
    assert mixed.cookie not in {first.cookie, second.cookie, "A" * 43}
    assert set(before) < set(store.alive())
    assert first.is_signed_in()
    assert second.is_signed_in()


def test_the_same_session_cookie_twice_is_accepted(signed_in: Visitor, make_visitor: Callable[..., Visitor]):
    """S39"""
    twice = f"wsgi_oauth={signed_in.cookie}; theme=dark; wsgi_oauth={signed_in.cookie}"
    assert make_visitor().does(lambda session: session.signed_in, Cookie=twice)


def test_other_and_malformed_cookies_are_skipped(signed_in: Visitor, make_visitor: Callable[..., Visitor]):
    for cookies in (
        "theme=dark; wsgi_oauth={}; x=y",
        '=; ; a; wsgi_oauth={}; b="',
        "xwsgi_oauth=1; wsgi_oauth={}; wsgi_oauthx=2",
        "__Host-wsgi_oauth=x; wsgi_oauth={}",
    ):
        header = cookies.format(signed_in.cookie)
        assert make_visitor().does(lambda session: session.signed_in, Cookie=header), cookies


@on_every_store
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff", b"[" * 50_000, b'{"started": 1, "seen": 1, "data": []}'],
    ids=lambda body: body[:9],
)
def test_a_damaged_session_is_anonymous_and_gets_a_new_id(
    visitor: Visitor, store: Watched, caplog: pytest.LogCaptureFixture, body: bytes
):
    """S56"""
    visitor.browser.sign_in()
    old = visitor.cookie
    store.update(key(old), lambda _: Record(body, time.time() + DAY))
    assert visitor.does(dict) == {}
    assert "damaged" in caplog.text
    assert old not in caplog.text
    visitor.browser.sign_in()
    assert visitor.cookie != old
    assert visitor.is_signed_in()


def test_a_session_that_is_damaged_during_a_request_is_not_saved(visitor: Visitor, store: Watched):
    visitor.does(sets(cart=[1]))
    cookie = visitor.cookie

    def act(session: Any) -> None:
        store.store.update(key(cookie), lambda _: Record(b"{", time.time() + DAY))
        session["cart"] = [2]

    visitor.does(act)
    assert store.load(key(cookie)) == b"{"
    assert visitor.sees() == {}


# The cookie (S38)


def attributes(response: Any) -> dict[str, Any]:
    """Return the attributes of the session cookie that *response* sets or deletes."""
    found = [item for header in set_cookies(response) for item in SimpleCookie(header).items()]
    ((name, morsel),) = [(name, morsel) for name, morsel in found if name.endswith("wsgi_oauth")]
    return {"name": name, "value": morsel.value, **{key_: value for key_, value in morsel.items() if value}}


def test_the_cookie_of_a_https_site(make_visitor: Callable[..., Visitor]):
    """S38: __Host- (RFC 6265bis 4.1.3.2) keeps other hosts of the domain from setting it."""
    site = "https://app.example"
    visitor = make_visitor(base=site, PUBLIC_URL=site)
    visitor.does(sets(cart=[1]))
    start = attributes(visitor.response)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", start.pop("value"))
    assert start == {"name": "__Host-wsgi_oauth", "path": "/", "secure": True, "httponly": True, "samesite": "Lax"}


def test_the_cookie_of_a_https_site_behind_a_plain_http_proxy(make_visitor: Callable[..., Visitor]):
    """S38: the public URL decides."""
    visitor = make_visitor(base="http://app.example", PUBLIC_URL="https://app.example")
    visitor.does(sets(cart=[1]))
    start = attributes(visitor.response)
    assert (start["name"], start["secure"]) == ("__Host-wsgi_oauth", True)


def test_the_cookie_below_a_mount_prefix_is_for_the_whole_host(make_browser: Callable[..., Any]):
    """S38: __Host- requires the path /."""
    browser = make_browser(base="https://app.example", PUBLIC_URL="https://app.example/auth")
    start = browser.app.get("/", headers={"Accept": "text/html"}, extra_environ={"SCRIPT_NAME": "/auth"})
    ((name, morsel),) = SimpleCookie(set_cookies(start)[0]).items()
    assert name.startswith("__Host-wsgi_oauth-")
    assert morsel["path"] == "/"


def test_a_https_site_does_not_read_the_cookie_of_plain_http(signed_in: Visitor, make_visitor: Callable[..., Visitor]):
    """S38: an attacker on the network can set that cookie."""
    site = "https://app.example"
    secure = make_visitor(base=site, PUBLIC_URL=site)
    assert secure.does(lambda session: session.signed_in, Cookie=f"__Host-wsgi_oauth={signed_in.cookie}")
    assert not secure.does(lambda session: session.signed_in, Cookie=f"wsgi_oauth={signed_in.cookie}")


def test_only_the_cookie_of_a_signed_in_session_outlives_the_browser_window(make_visitor: Callable[..., Visitor]):
    visitor = make_visitor(**SHORT)
    visitor.does(sets(cart=[1]))
    assert not {"max-age", "expires"} & attributes(visitor.response).keys()
    answer = attributes(visitor.browser.sign_in())
    assert 10 * HOUR - 60 <= int(answer["max-age"]) <= 10 * HOUR


def test_the_cookie_is_set_only_when_the_id_changes(signed_in: Visitor):
    signed_in.does(sets(cart=[1]))
    assert set_cookies(signed_in.response) == []
    assert set_cookies(signed_in.browser.profile()) == []


@pytest.mark.parametrize("site", ["https://localhost", "http://localhost"])
def test_the_cookie_is_cleared_with_the_attributes_it_was_set_with(make_browser: Callable[..., Any], site: str):
    """S41: otherwise the browser would keep it."""
    browser = make_browser(base=site, **({"PUBLIC_URL": site} if site.startswith("https") else {}))
    given = attributes(browser.sign_in())
    cleared = attributes(browser.post("/logout"))
    assert cleared["value"] == ""
    assert cleared["max-age"] == "0"
    for attribute in ("name", "path", "secure", "httponly", "samesite", "domain"):
        assert cleared.get(attribute) == given.get(attribute)


@pytest.mark.parametrize(
    "data",
    [
        {"oauth_state": value}
        for value in (None, 5, "x", [1], {"s": 5}, {"s": {}}, {"s": {"started": "x"}}, {"s": {"started": 9e10}})
    ]
    + [
        {"oauth_token": value}
        for value in (
            None,
            5,
            "x",
            [],
            {},
            {"access_token": 5, "expires_at": "x"},
            {"access_token": "a\r\nb"},
            {"access_token": "\ud800"},
        )
    ],
    ids=str,
)
def test_session_data_of_other_types_leads_to_a_new_sign_in(data: dict, provider: LocalProvider) -> None:
    """S56: for example the data of another version."""
    store = MemoryStore()
    browser = Browser(create_app(Config.from_environ(environ_for(provider)), store=store), provider)
    browser.start()
    sessions = SessionManager(store, idle=1000, lifetime=1000)
    session = Session(sessions, sessions.read(browser.cookie), browser.cookie)
    assert session.change(lambda stored: stored.update(data)) is None
    assert browser.get("/profile", headers=JSON).status_int == 401
    assert browser.get("/callback?code=x&state=s").status_int == 400
    browser.sign_in()
    assert browser.profile().status_int == 200


def test_memory_store_refuses_the_first_request_of_a_server_with_several_processes(
    provider: LocalProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise a sign-in fails whenever the callback reaches another process."""
    application = create_app(Config.from_environ(environ_for(provider)), store=MemoryStore())
    gate = LoginRequired(Response("page"), application)
    for app, path in ((application, "/"), (application, "/verify"), (gate, "/page")):
        assert send(app, path, wsgi__multiprocess=True).status_code == 500
        assert "use file: or redis:, or start one worker" in caplog.text
        caplog.clear()


def test_session_of_another_client_id_is_not_accepted(provider: LocalProvider, tmp_path: Path) -> None:
    """S74: another application uses the same store and the same host."""
    store = FileStore(tmp_path / "shared")
    one, two = (
        Browser(create_app(Config.from_environ(environ_for(provider, CLIENT_ID=name)), store=store), provider)
        for name in (provider.client_id, "another")
    )
    one.sign_in()
    two.app.set_cookie("wsgi_oauth", one.cookie or "")
    assert two.get("/profile", JSON).status_int == 401


@pytest.mark.parametrize(
    ("url", "configured", "name"),
    [
        ("http://localhost", "", "wsgi_oauth"),
        ("http://localhost:80/x", "", "wsgi_oauth"),
        ("http://127.0.0.1:8001", "", "wsgi_oauth_8001"),
        ("https://app.example.com", "", "__Host-wsgi_oauth"),
        ("https://app.example.com:443", "", "__Host-wsgi_oauth"),
        ("https://app.example.com:8443/auth", "", "__Host-wsgi_oauth_8443"),
        ("https://app.example.com:8443", "reports", "__Host-reports"),
    ],
)
def test_name_of_the_session_cookie_differs_for_each_port_of_a_host(url: str, configured: str, name: str) -> None:
    """RFC 6265 8.5: browsers send the cookies of all ports of a host."""
    assert CookieNames.of_site(url, configured).session == name


def test_name_of_the_session_cookie_can_be_configured(provider: LocalProvider) -> None:
    app = create_app(Config.from_environ(environ_for(provider, COOKIE_NAME="reports")), store=MemoryStore())
    browser = Browser(app, provider)
    browser.sign_in()
    [cookie] = browser.app.cookiejar
    assert cookie.name == "reports"
    gate = LoginRequired(Response("inside"), app)
    assert send(gate, "/", headers={"Cookie": f"reports={cookie.value}"}).status_code == 200


@pytest.mark.parametrize("name", ["__Host-x", "a b", "a=b", "ä", "x" * 65])
def test_invalid_name_of_the_session_cookie_stops_the_start(name: str) -> None:
    with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_COOKIE_NAME"):
        Config(client_id="x", client_secret="x", cookie_name=name)
