"""The gate: who is let in, who is sent where, and what the application behind it notices of that: nothing else."""

from __future__ import annotations

import gc
import io
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import webtest
from conftest import HTML, JSON, Browser, environ_for, parameters, send, stored_sessions
from openid import Issuer
from werkzeug import Response
from werkzeug.test import create_environ
from werkzeug.wsgi import FileWrapper

from wsgi_oauth import (
    Config,
    FileStore,
    Identity,
    LoginRequired,
    MemoryStore,
    RequestHandler,
    SessionStore,
    create_app,
    current_identity,
    errors,
    login_url,
    logout_url,
    oauth2_session,
)
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.sessions.manager import SessionManager

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

AJAX = {"Accept": "text/html", "X-Requested-With": "XMLHttpRequest"}
FETCH = {"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
IMAGE = {"Accept": "text/html,image/*", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
KEYS = ("REMOTE_USER", "AUTH_TYPE", "wsgi_oauth.identity")
HOUR = 3600

App = Callable[[Any, Any], Any]


class Inside:
    """The application behind the gate: it keeps the ``environ`` of each request, and does what the test says."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.answer: App = Response("inside")

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.seen.append(environ)
        return self.answer(environ, start_response)

    @property
    def environ(self) -> dict[str, Any]:
        """What the last request found."""
        return self.seen[-1]


class Visitor(Browser):
    """A browser in front of a gate."""

    def __init__(self, gate: LoginRequired, provider: LocalProvider) -> None:
        super().__init__(gate, provider)
        self.gate = gate

    def sign_in(self, path: str = "/page") -> webtest.TestResponse:
        """Ask for *path* and follow where that leads, through the provider; return the page."""
        response = self.get(path)
        assert response.status_int == 302, response
        started = self.get(response.location)
        done = self.get(self.consent(started.location))
        assert done.status_int == 303, done
        return self.get(done.location)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """Only this one: the gate asks a store for no more than the sign-in does."""
    return FileStore(tmp_path / "sessions")


@pytest.fixture
def inside() -> Inside:
    return Inside()


@pytest.fixture
def make_gate(provider: LocalProvider, store: SessionStore, inside: Inside) -> Callable[..., LoginRequired]:
    """Make a gate around ``inside``: ``make_gate(public=["/static"], PUBLIC_URL="https://...")``."""

    def make(*, prefix: str = "/auth", public: Any = (), app: Any = inside, **settings: str) -> LoginRequired:
        config = Config.from_environ(environ_for(provider, **settings))
        return LoginRequired(app, create_app(config, store=store), prefix=prefix, public=public)

    return make


@pytest.fixture
def visitor(make_gate: Callable[..., LoginRequired], provider: LocalProvider) -> Visitor:
    """Somebody in front of a gate with two public paths."""
    return Visitor(make_gate(public=["/", "/static"]), provider)


@pytest.fixture
def signed_in(visitor: Visitor, inside: Inside) -> Visitor:
    assert visitor.sign_in().text == "inside"
    inside.seen.clear()
    return visitor


def subject(provider: LocalProvider) -> str:
    return f"{urlsplit(provider.url).netloc}:583231"


class TestWhoIsNotSignedIn:
    def test_is_sent_to_sign_in_and_comes_back_to_where_they_were(self, visitor: Visitor, inside: Inside):
        page = visitor.sign_in("/caf%C3%A9/a%20b;v=1?q=%E2%82%AC&q=2&empty=")
        assert page.text == "inside"
        assert inside.environ["PATH_INFO"] == "/café/a b;v=1".encode().decode("latin-1")
        assert inside.environ["QUERY_STRING"] == "q=%E2%82%AC&q=2&empty="
        assert len(inside.seen) == 1  # and has not been inside before

    @pytest.mark.parametrize("path", ["/%E9", "/page?q=%E9", "/page?q=a+b%2Fc&next=/x", "/a:b@c,d!e", "/page?"])
    def test_comes_back_to_the_same_bytes(self, visitor: Visitor, inside: Inside, path: str):
        location = visitor.get(path).location
        assert parameters(location)["next"] == path.rstrip("?")

    @pytest.mark.parametrize("headers", [JSON, AJAX, FETCH, IMAGE, {"Accept": "*/*"}, {}], ids=repr)
    def test_is_told_so_as_json_when_it_is_no_page_that_was_asked_for(self, visitor: Visitor, headers: dict[str, str]):
        response = visitor.app.get("/api", headers=headers, status="*")
        assert (response.status_int, response.content_type) == (401, "application/json")
        assert (response.json["error"], response.json["login_url"]) == ("not_signed_in", "http://localhost/auth/")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    def test_is_never_redirected_away_from_something_that_was_sent(self, visitor: Visitor, method: str):
        response = visitor.app.request("/page", method=method, headers=JSON, status="*")
        assert (response.status_int, response.content_type) == (401, "application/json")

    def test_gets_a_page_with_a_link_for_a_form_that_was_sent_too_late(self, visitor: Visitor):
        response = visitor.post("/form", params={"text": "x" * 100_000})
        assert (response.status_int, response.content_type) == (401, "text/html")
        assert 'href="http://localhost/auth/">Sign in' in response.text

    def test_has_not_been_noticed_inside(self, visitor: Visitor, inside: Inside):
        visitor.get("/page")
        visitor.get("/page", JSON)
        visitor.post("/page")
        assert inside.seen == []

    def test_gets_nothing_that_a_cache_may_keep(self, visitor: Visitor):
        """S45"""
        for response in (visitor.get("/page"), visitor.get("/page", JSON)):
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["Vary"] == "Cookie"
            assert "Set-Cookie" not in response.headers

    def test_gets_no_session_by_asking(self, visitor: Visitor, store: SessionStore):
        """S37"""
        visitor.get("/page")
        visitor.get("/page", JSON)
        assert stored_sessions(store) == []

    def test_is_not_let_in_by_a_sign_in_that_has_only_been_started(self, visitor: Visitor, inside: Inside):
        visitor.get("/auth/")
        assert visitor.cookie
        assert visitor.get("/page").status_int == 302

    def test_is_not_let_in_by_a_session_that_never_was(self, visitor: Visitor):
        for value in ("A" * 43, "", "../x", "A" * 300, "\xff" * 43):
            assert send(visitor.gate, "/page", headers={**HTML, "Cookie": f"wsgi_oauth={value}"}).status_code == 302

    @pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", "/x/..//evil.example", "/%2e%2e/evil"])
    def test_comes_back_to_the_front_page_from_where_nobody_should_be_sent_to(self, visitor: Visitor, path: str):
        """S33"""
        response = send(visitor.gate, path, headers=HTML)
        assert parameters(response.headers["Location"])["next"] == "/"

    def test_comes_back_to_the_front_page_from_an_address_that_is_too_long_to_be_kept(self, visitor: Visitor):
        assert parameters(visitor.get("/page?" + "x" * 2000).location)["next"] == "/"


class TestWhoIsSignedIn:
    def test_is_known_inside(self, signed_in: Visitor, inside: Inside, provider: LocalProvider):
        assert signed_in.get("/page").text == "inside"
        assert inside.environ["REMOTE_USER"] == subject(provider)
        assert inside.environ["AUTH_TYPE"] == "OAuth2"
        identity = inside.environ["wsgi_oauth.identity"]
        assert isinstance(identity, Identity)
        assert identity is current_identity(inside.environ)
        assert (identity.id, identity.username) == (subject(provider), "octocat")

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND"])
    def test_can_use_every_method(self, signed_in: Visitor, inside: Inside, method: str):
        cookie = f"wsgi_oauth={signed_in.cookie}"
        assert send(signed_in.gate, "/page", method=method, headers={"Cookie": cookie}).status_code == 200
        assert inside.environ["REQUEST_METHOD"] == method

    def test_is_asked_about_at_the_provider_once(self, signed_in: Visitor, provider: LocalProvider):
        for path in ("/page", "/other", "/static/x", "/"):
            assert signed_in.get(path).status_int == 200
        assert provider.count("profile") == 1

    def test_is_the_same_for_a_profile_page_that_came_first(
        self, visitor: Visitor, provider: LocalProvider, inside: Inside
    ):
        visitor.get(visitor.consent(visitor.get("/auth/").location))
        assert visitor.get("/auth/profile").json["login"] == "octocat"
        visitor.get("/page")
        assert inside.environ["REMOTE_USER"] == subject(provider)
        assert provider.count("profile") == 1

    def test_shows_no_token_inside(self, signed_in: Visitor, inside: Inside, store: SessionStore):
        signed_in.get("/page")
        [session] = stored_sessions(store)
        shown = repr({**inside.environ, "HTTP_COOKIE": ""})
        assert session["oauth_token"]["access_token"] not in shown
        assert session["oauth_token"]["refresh_token"] not in shown
        assert signed_in.cookie not in shown

    def test_leaves_no_trace_in_the_environ_of_the_server(self, signed_in: Visitor):
        seen: list[dict[str, Any]] = []
        gate = signed_in.gate

        def watching(environ: Any, start_response: Any) -> Any:
            seen.append(dict(environ))
            answer = gate(environ, start_response)
            seen.append(dict(environ))
            return answer

        for path in ("/page", "/static/x", "/auth/profile", "/auth"):
            send(watching, path, headers={**HTML, "Cookie": f"wsgi_oauth={signed_in.cookie}"})
            before, after = (dict(each) for each in seen[-2:])
            assert before == after, path

    def test_is_nobody_with_two_cookies(self, signed_in: Visitor):
        """S39"""
        for header in (f"wsgi_oauth={signed_in.cookie}; wsgi_oauth={'A' * 43}", f"wsgi_oauth={signed_in.cookie},x"):
            assert send(signed_in.gate, "/page", headers={**HTML, "Cookie": header}).status_code == 302

    def test_is_out_after_the_sign_out(self, signed_in: Visitor):
        cookie = signed_in.cookie
        assert signed_in.post("/auth/logout").status_int == 200
        assert signed_in.get("/page").status_int == 302
        copy = send(signed_in.gate, "/page", headers={**HTML, "Cookie": f"wsgi_oauth={cookie}"})
        assert copy.status_code == 302

    def test_is_out_when_the_session_is_over(self, signed_in: Visitor, later: Callable[[float], None]):
        """S40"""
        later(13 * HOUR)
        assert signed_in.get("/page").status_int == 302

    def test_is_out_by_the_lifetimes_of_today(
        self, signed_in: Visitor, make_gate: Callable[..., LoginRequired], later: Callable[[float], None]
    ):
        stricter = make_gate(SESSION_IDLE="30m")
        cookie = {"Cookie": f"wsgi_oauth={signed_in.cookie}"}
        assert send(stricter, "/page", headers={**HTML, **cookie}).status_code == 200
        later(HOUR / 2 + 1)
        assert send(stricter, "/page", headers={**HTML, **cookie}).status_code == 302
        assert signed_in.get("/page").status_int == 200

    def test_stays_as_long_as_there_is_a_request_now_and_then(self, signed_in: Visitor, later: Callable[[float], None]):
        for _ in range(5):
            later(11 * HOUR)
            assert signed_in.get("/page").status_int == 200

    def test_is_somebody_else_after_somebody_else_has_signed_in(
        self, signed_in: Visitor, inside: Inside, provider: LocalProvider
    ):
        """S36"""
        provider.user = {"id": 42, "login": "another"}
        signed_in.get(signed_in.consent(signed_in.get("/auth/").location))
        signed_in.get("/page")
        assert current_identity(inside.environ).username == "another"  # type: ignore[union-attr]

    def test_is_somebody_else_also_when_a_page_has_only_forgotten_the_token_of_the_first(
        self, provider: LocalProvider, store: SessionStore, inside: Inside
    ):
        """S36"""

        class Forget(RequestHandler):
            route = "/forget"

            def get(self, request: Any) -> Any:
                del request.session["oauth_token"]
                return self.jsonify({})

        app = create_app(Config.from_environ(environ_for(provider)), store=store, handlers=[Forget])
        visitor = Visitor(LoginRequired(inside, app), provider)
        visitor.sign_in()
        visitor.get("/auth/forget")
        provider.user = {"id": 42, "login": "another"}
        visitor.sign_in()
        assert current_identity(inside.environ).username == "another"  # type: ignore[union-attr]

    @pytest.mark.parametrize("path", ["/page", "/auth/profile"])
    def test_gets_in_when_an_issuer_lists_more_groups_than_a_session_holds(
        self, inside: Inside, store: SessionStore, caplog: pytest.LogCaptureFixture, path: str
    ):
        """Thousands of them are nothing unusual in a directory; a rule's own is kept among them."""
        names = [f"cn=größe-{number:06},ou=groups,dc=example,dc=com" for number in range(6000)]
        issuer = Issuer()
        issuer.user = {**issuer.user, "groups": names}
        with serve_provider(issuer):
            for allow in ("", f"group:{names[-1]}"):
                settings = {
                    "PROVIDER": issuer.url,
                    "CLIENT_ID": issuer.client_id,
                    "CLIENT_SECRET": issuer.client_secret,
                }
                config = Config.from_environ({f"WSGI_OAUTH_{n}": v for n, v in {**settings, "ALLOW": allow}.items()})
                visitor = Visitor(LoginRequired(inside, create_app(config, store=store)), issuer)
                visitor.sign_in(path)
                assert [visitor.get("/page").text for _ in range(2)] == ["inside"] * 2
                identity = current_identity(inside.environ)
                assert identity is not None
                assert 100 < len(identity.groups) < 6000
                assert not allow or names[-1] in identity.groups
                assert "6000 groups" in caplog.text

    def test_is_judged_at_the_sign_in_by_all_groups_that_the_issuer_lists(self, inside: Inside, store: SessionStore):
        """Not only by those that a session holds: one of the others may be the one that says no."""
        issuer = Issuer()
        issuer.user = {**issuer.user, "groups": [*("x" * 500 + str(number) for number in range(500)), "suspended"]}
        settings = {"CLIENT_ID": issuer.client_id, "CLIENT_SECRET": issuer.client_secret}
        with serve_provider(issuer):
            config = Config(provider=issuer.url, **{name.lower(): value for name, value in settings.items()})
            app = create_app(config, store=store, allow=lambda identity: "suspended" not in identity.groups)
            visitor = Visitor(LoginRequired(inside, app), issuer)
            started = visitor.get(visitor.get("/page").location)
            assert visitor.get(visitor.consent(started.location)).status_int == 403
            assert visitor.get("/page").status_int == 302

    def test_is_not_told_where_others_were_going(self, inside: Inside, store: SessionStore):
        """What has failed is remembered for a moment, and raised again for everybody."""
        issuer = Issuer()
        with serve_provider(issuer):
            settings = {"client_id": issuer.client_id, "client_secret": issuer.client_secret, "provider": issuer.url}
            signed_in = Visitor(LoginRequired(inside, create_app(Config(**settings), store=store)), issuer)
            started = signed_in.get(signed_in.get("/page").location)
            signed_in.get(signed_in.consent(started.location))
            issuer.discover = lambda: Response(status=500)
            gate = LoginRequired(inside, create_app(Config(**settings), store=store))
            later = Visitor(gate, issuer)
            later.app.set_cookie("wsgi_oauth", signed_in.cookie)
            assert "canary" in later.get("/reset?token=canary").text
            assert "canary" not in Visitor(gate, issuer).get("/auth/").text

    @pytest.mark.parametrize("path", ["/page", "/"])
    def test_gets_in_when_the_provider_says_more_of_them_than_a_session_holds(
        self, visitor: Visitor, provider: LocalProvider, path: str
    ):
        """Thousands of groups are nothing unusual in a directory."""
        names = [f"cn=group-{number:06},ou=groups,dc=example,dc=com" for number in range(6000)]
        provider.user = {**provider.user, "groups": names}
        done = visitor.get(visitor.consent(visitor.get(f"/auth/?next={path}").location))
        assert visitor.get(done.location).text == "inside"

    def test_is_served_at_this_host_alone(self, make_gate: Callable[..., LoginRequired], inside: Inside):
        """S34"""
        gate = make_gate(PUBLIC_URL="https://app.example.com/auth")
        for host in ("evil.example", "app.example.com.evil.example", "a b", "xn--a"):
            response = send(gate, "/page", headers={**HTML, "Host": host})
            assert (response.status_code, inside.seen) == (400, [])


class TestAnOrdinaryRequest:
    """Of somebody who is signed in."""

    def test_writes_nothing_and_asks_nobody(
        self, signed_in: Visitor, store: SessionStore, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
    ):
        for forbidden in ("create", "update", "delete"):
            monkeypatch.setattr(store, forbidden, None)
        asked = len(provider.exchanges)
        assert {signed_in.get("/page").status_int for _ in range(3)} == {200}
        assert len(provider.exchanges) == asked

    def test_notes_now_and_then_that_there_was_one(
        self, signed_in: Visitor, store: SessionStore, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
    ):
        """S40: the idle clock is written at most every twelfth of the time."""
        updates: list[str] = []
        update = store.update
        monkeypatch.setattr(
            store, "update", lambda key, *more, **named: updates.append(key) or update(key, *more, **named)
        )
        for _ in range(4):
            later(HOUR + 1)
            for _ in range(3):
                assert signed_in.get("/page").status_int == 200
        assert len(updates) == 4

    def test_is_answered_even_when_that_cannot_be_noted(
        self, signed_in: Visitor, store: SessionStore, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
    ):
        """S58: a full disk takes nobody's session away."""
        monkeypatch.setattr(store, "update", refusing)
        later(2 * HOUR)
        assert signed_in.get("/page").status_int == 200


def refusing(*_: object, **__: object) -> None:
    raise errors.StoreError("the disk is full")


class TestTheLinkOfAnErrorPage:
    """Behind the gate a person comes from a page of the application, and goes back there."""

    @pytest.mark.parametrize("path", ["/page?a=b", "/"])
    def test_leads_back_to_the_page(self, make_gate: Callable[..., LoginRequired], provider: LocalProvider, path: str):
        visitor = Visitor(make_gate(), provider)
        started = visitor.get(visitor.get(path).location)
        declined = visitor.get(visitor.consent(started.location, decision="deny"))
        assert f'"http://localhost/auth/?{urlencode({"next": path})}"' in declined.text

    def test_leads_back_to_the_form_that_nobody_was_signed_in_for(self, visitor: Visitor):
        page = visitor.post("/form", {"Referer": "http://localhost/page"})
        assert page.status_int == 401
        assert '"http://localhost/auth/?next=%2Fpage"' in page.text


class TestWhatCannotBeDecided:
    """The gate stays shut, and says whose fault it is."""

    @pytest.mark.parametrize(
        ("fault", "status"),
        [("500", 502), ("hang_up_in_headers", 502), ("html_200", 502), ("slow", 504), ("403", 403), ("429", 429)],
    )
    def test_a_provider_that_does_not_say_who_that_is(
        self,
        make_gate: Callable[..., LoginRequired],
        inside: Inside,
        provider: LocalProvider,
        fault: str,
        status: int,
    ):
        visitor = Visitor(make_gate(UPSTREAM_TIMEOUT="1" if fault == "slow" else "10"), provider)
        provider.faults.add(f"profile.{fault}")
        refused = visitor.sign_in()
        assert (refused.status_int, inside.seen) == (status, [])
        assert visitor.get("/page").text == "inside"  # it has not cost the session

    def test_a_user_document_without_an_id(self, visitor: Visitor, inside: Inside, provider: LocalProvider):
        provider.user = {"login": "octocat"}
        refused = visitor.sign_in()
        assert (refused.status_int, inside.seen) == (502, [])
        assert "Cause: provider_error" in refused.text

    def test_a_token_that_the_provider_takes_back_means_a_new_sign_in(
        self, visitor: Visitor, inside: Inside, provider: LocalProvider, store: SessionStore
    ):
        provider.faults.add("profile.401", times=2)  # and once more with the refreshed one
        response = visitor.sign_in()
        assert response.status_int == 302
        assert parameters(response.location) == {"next": "/page", "again": "1"}
        assert stored_sessions(store) == []
        assert visitor.cookie is None
        assert visitor.sign_in().text == "inside"

    def test_a_provider_that_refuses_each_token_it_gives_does_not_keep_the_browser_going_round(
        self, visitor: Visitor, provider: LocalProvider
    ):
        provider.faults.add("profile.401", times=None)
        response = visitor.get("/page")
        for _ in range(20):
            if response.status_int not in {302, 303}:
                break
            location = response.location
            if location.startswith(provider.authorization_url):
                location = visitor.consent(location)
            response = visitor.get(location)
        assert response.status_int == 502

    def test_a_store_that_fails(self, signed_in: Visitor, inside: Inside, store: SessionStore, monkeypatch: Any):
        """S58: that is not the same as nobody."""
        monkeypatch.setattr(store, "load", refusing)
        response = signed_in.get("/page")
        assert (response.status_int, inside.seen) == (503, [])
        assert response.headers["Retry-After"] == "5"

    def test_a_store_that_fails_leaves_the_public_pages(
        self, signed_in: Visitor, inside: Inside, store: SessionStore, monkeypatch: Any, caplog: Any
    ):
        monkeypatch.setattr(store, "load", refusing)
        assert signed_in.get("/").text == "inside"
        assert current_identity(inside.environ) is None
        assert "the disk is full" in caplog.text

    def test_a_store_that_cannot_write_does_not_cost_the_user_the_page(
        self, visitor: Visitor, inside: Inside, store: SessionStore, provider: LocalProvider, monkeypatch: Any
    ):
        visitor.get(visitor.consent(visitor.get("/auth/").location))
        monkeypatch.setattr(store, "update", refusing)
        assert visitor.get("/page").text == "inside"
        assert inside.environ["REMOTE_USER"] == subject(provider)

    def test_a_sign_out_while_the_provider_is_asked_wins(
        self, visitor: Visitor, inside: Inside, provider: LocalProvider, barrier: Any, store: SessionStore
    ):
        """S42"""
        visitor.get(visitor.consent(visitor.get("/auth/").location))
        cookie = {"Cookie": f"wsgi_oauth={visitor.cookie}"}
        waiting = barrier("profile")
        with ThreadPoolExecutor(1) as background:
            late = background.submit(send, visitor.gate, "/page", headers={**HTML, **cookie})
            waiting.wait_for(1)
            assert visitor.post("/auth/logout").status_int == 200
            waiting.open()
        assert late.result().status_code == 302
        assert inside.seen == []
        assert stored_sessions(store) == []

    def test_what_another_version_has_remembered_is_asked_for_again(
        self, signed_in: Visitor, inside: Inside, store: SessionStore, provider: LocalProvider
    ):
        application = signed_in.gate
        sessions = SessionManager(store, idle=HOUR, lifetime=HOUR)
        session = sessions.open({"HTTP_COOKIE": f"wsgi_oauth={signed_in.cookie}"}, secure=False)
        session["oauth_identity"] = {"who": "knows"}
        sessions.save(session)
        for _ in range(2):
            assert send(application, "/page", headers={"Cookie": f"wsgi_oauth={signed_in.cookie}"}).status_code == 200
        assert inside.environ["REMOTE_USER"] == subject(provider)
        assert provider.count("profile") == 2


SPOOFS = {
    "REMOTE_USER": "github:1",
    "AUTH_TYPE": "OAuth2",
    "HTTP_REMOTE_USER": "github:1",
    "HTTP_AUTH_TYPE": "OAuth2",
    "wsgi_oauth.identity": Identity("github", "1"),
    "wsgi_oauth.visit": object(),
}


class TestASpoofedIdentity:
    @pytest.mark.parametrize("name", SPOOFS)
    def test_does_not_reach_a_public_page(self, visitor: Visitor, inside: Inside, name: str):
        send(visitor.gate, "/static/x", **{name.replace(".", "__"): SPOOFS[name]})
        assert inside.environ.get(name) is not SPOOFS[name]
        assert current_identity(inside.environ) is None
        assert "REMOTE_USER" not in inside.environ
        assert "AUTH_TYPE" not in inside.environ

    @pytest.mark.parametrize("name", SPOOFS)
    def test_opens_nothing(self, visitor: Visitor, inside: Inside, name: str):
        response = send(visitor.gate, "/page", headers=HTML, **{name.replace(".", "__"): SPOOFS[name]})
        assert (response.status_code, inside.seen) == (302, [])

    def test_does_not_replace_the_real_one(self, signed_in: Visitor, inside: Inside, provider: LocalProvider):
        spoofs = {name.replace(".", "__"): value for name, value in SPOOFS.items()}
        send(signed_in.gate, "/page", headers={"Cookie": f"wsgi_oauth={signed_in.cookie}"}, **spoofs)
        assert inside.environ["REMOTE_USER"] == subject(provider)
        assert current_identity(inside.environ).id == subject(provider)  # type: ignore[union-attr]
        assert {"HTTP_REMOTE_USER", "HTTP_AUTH_TYPE"}.isdisjoint(inside.environ)
        assert login_url(inside.environ, "/x") == "http://localhost/auth/?next=%2Fx"

    def test_does_not_reach_the_sign_in(self, visitor: Visitor):
        seen: list[dict[str, Any]] = []
        gate = visitor.gate
        oauth_app = gate._oauth_app

        def watched(environ: Any, start_response: Any) -> Any:
            seen.append(environ)
            return oauth_app(environ, start_response)

        gate._oauth_app = watched
        send(gate, "/auth/healthz", **{name.replace(".", "__"): value for name, value in SPOOFS.items()})
        assert SPOOFS.keys().isdisjoint(seen[0])


# What PATH_INFO may look like after the server has decoded it, and whether it is public below these rules.
PUBLIC = ["/static", "/about/", "/a b", "/café", "/Deep/er"]
PATHS = {
    "/static": True,
    "/static/": True,
    "/static/app.css": True,
    "/static/a/b/c.css": True,
    "/static/...x": True,
    "/static/.well-known": True,
    "/static/a:b@c,d=e": True,
    "/static/caf\xc3\xa9": True,
    "/about": True,
    "/about/us": True,
    "/a b": True,
    "/a b/c": True,
    "/caf\xc3\xa9/menu": True,
    "/Deep/er/still": True,
    # another path
    "": False,
    "/": False,
    "/staticx": False,
    "/static.css": False,
    "/statics/": False,
    "/stati": False,
    "/Static/app.css": False,
    "/STATIC": False,
    "/about us": False,
    "/deep/er": False,
    "/Deep": False,
    "/x/static/app.css": False,
    "static/app.css": False,
    "*": False,
    # the same path, perhaps, for somebody else
    "//static/app.css": False,
    "/static//app.css": False,
    "/static//": False,
    "/static/../admin": False,
    "/static/..": False,
    "/static/.": False,
    "/static/./app.css": False,
    "/static/a/../../admin": False,
    "/./static/app.css": False,
    "/x/../static/app.css": False,
    "/static/.. /admin": False,
    "/static/ ../admin": False,
    "/static/.../admin": False,
    "/static/..;/admin": False,
    "/static/x;y=1": False,
    "/static;/admin": False,
    "/static\\..\\admin": False,
    "/static/\\admin": False,
    "\\static": False,
    "/static/%2e%2e/admin": False,
    "/static/%2E%2E%2Fadmin": False,
    "/static%2fapp.css": False,
    "/static/%252e%252e/admin": False,
    "/static/..?/admin": False,  # who puts it into a URL as it is has a path that ends there
    "/static/..#/admin": False,
    "/static/\x00": False,
    "/static/\n../admin": False,
    "/static/\t": False,
    "/static/\x7f": False,
    "/static/\xff": False,
    "/static/\xc0\xae\xc0\xae/admin": False,  # an overlong encoding of two dots
    "/static/\xed\xa0\x80": False,  # a lone surrogate
    "/static/caf\xe9": False,
    "/caf\xe9": False,
}


class TestAPublicPath:
    @pytest.mark.parametrize("path", PATHS, ids=ascii)
    def test_is_what_the_rules_say_and_nothing_that_looks_odd(
        self, make_gate: Callable[..., LoginRequired], inside: Inside, path: str
    ):
        response = send(make_gate(public=PUBLIC), path, headers=HTML)
        assert (response.status_code == 200) is PATHS[path]
        assert bool(inside.seen) is PATHS[path]
        if not PATHS[path]:
            assert response.status_code == 302

    @pytest.mark.parametrize("path", PATHS, ids=ascii)
    def test_is_never_there_without_a_rule(self, make_gate: Callable[..., LoginRequired], inside: Inside, path: str):
        assert send(make_gate(), path, headers=HTML).status_code == 302
        assert inside.seen == []

    def test_of_one_slash_is_the_front_page_alone(self, make_gate: Callable[..., LoginRequired]):
        gate = make_gate(public=["/"])
        statuses = {
            path: send(gate, path, headers=HTML).status_code for path in ("/", "", "/page", "//", "/.", "/x/..")
        }
        assert statuses == {"/": 200, "": 200, "/page": 302, "//": 302, "/.": 302, "/x/..": 302}

    def test_is_below_the_place_where_the_gate_is_mounted(self, make_gate: Callable[..., LoginRequired]):
        gate = make_gate(public=["/static"])
        for script, path, status in [
            ("/site", "/static/x", 200),
            ("/static", "/page", 302),  # all of the gate would be public
            ("/site", "/site/static/x", 302),
            ("/site/..", "/static/x", 302),
            ("/site/", "/static/x", 302),
        ]:
            assert send(gate, path, headers=HTML, SCRIPT_NAME=script).status_code == status, (script, path)

    def test_knows_who_is_there(self, signed_in: Visitor, inside: Inside, provider: LocalProvider):
        signed_in.get("/static/x")
        assert inside.environ["REMOTE_USER"] == subject(provider)
        assert current_identity(inside.environ)

    def test_knows_it_right_after_the_sign_in(self, visitor: Visitor, inside: Inside, provider: LocalProvider):
        visitor.get("/")
        started = visitor.get(login_url(inside.environ))
        done = visitor.get(visitor.consent(started.location))
        assert urlsplit(done.location).path == "/"
        visitor.get("/")
        assert inside.environ["REMOTE_USER"] == subject(provider)

    def test_does_not_wait_for_the_provider_for_a_picture(
        self, visitor: Visitor, inside: Inside, provider: LocalProvider
    ):
        visitor.get(visitor.consent(visitor.get("/auth/").location))
        visitor.get("/static/x.png", IMAGE)
        assert current_identity(inside.environ) is None
        assert provider.count("profile") == 0

    def test_is_shown_when_the_provider_fails(self, visitor: Visitor, inside: Inside, provider: LocalProvider):
        visitor.get(visitor.consent(visitor.get("/auth/").location))
        provider.faults.add("profile.500")
        assert visitor.get("/").text == "inside"
        assert current_identity(inside.environ) is None

    def test_tells_nobody_anything_about_nobody(self, visitor: Visitor, inside: Inside):
        visitor.get("/")
        assert set(KEYS).isdisjoint(inside.environ)
        assert current_identity(inside.environ) is None
        with pytest.raises(errors.NotSignedIn):
            oauth2_session(inside.environ)

    def test_costs_an_anonymous_visitor_nothing(
        self, visitor: Visitor, store: SessionStore, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
    ):
        for forbidden in ("load", "create", "update", "delete"):
            monkeypatch.setattr(store, forbidden, None)
        response = visitor.get("/static/x")
        assert response.status_int == 200
        assert {"Set-Cookie", "Vary", "Cache-Control"}.isdisjoint(response.headers)
        assert not provider.exchanges

    def test_is_there_under_every_host_name(self, make_gate: Callable[..., LoginRequired], inside: Inside):
        """As a probe asks for it."""
        gate = make_gate(public=["/static"], PUBLIC_URL="https://app.example.com/auth")
        for headers in ({"Host": "10.0.0.5"}, {"Host": "10.0.0.5", "Cookie": "wsgi_oauth=x"}):
            assert send(gate, "/static/x", headers=headers).status_code == 200
            with pytest.raises(errors.BadHost):
                login_url(inside.environ)


class TestThePrefix:
    @pytest.mark.parametrize(
        ("path", "ours"),
        [
            ("/auth", True),
            ("/auth/", True),
            ("/auth/nothing", True),
            ("/auth/../page", True),  # what the sign-in does not know, it does not find
            ("/auth//evil", True),
            ("/authors", False),
            ("/Auth/", False),
            ("//auth/", False),
            ("/x/../auth/", False),
            ("/auth;x", False),
        ],
    )
    def test_is_a_whole_segment(self, make_gate: Callable[..., LoginRequired], inside: Inside, path: str, ours: bool):
        response = send(make_gate(), path, headers=HTML)
        assert ("/auth/?next=" not in response.headers.get("Location", "")) is ours
        assert inside.seen == []

    def test_cannot_be_made_public_or_taken_by_the_application(
        self, make_gate: Callable[..., LoginRequired], inside: Inside
    ):
        assert send(make_gate(public=["/auth"]), "/auth/healthz").status_code == 200
        assert inside.seen == []

    @pytest.mark.parametrize("prefix", ["/login", "/a/b", "/auth/", "/my login", "/café"])
    def test_may_be_another_one(
        self, make_gate: Callable[..., LoginRequired], provider: LocalProvider, prefix: str, inside: Inside
    ):
        visitor = Visitor(make_gate(prefix=prefix), provider)
        assert visitor.sign_in("/page?x=1").text == "inside"
        assert inside.environ["QUERY_STRING"] == "x=1"

    @pytest.mark.parametrize("prefix", ["", "/", "auth", "//auth", "/../auth", "/auth//x", "/a;b", "/%61uth", "/*"])
    def test_that_cannot_work_is_refused_at_the_start(self, make_gate: Callable[..., LoginRequired], prefix: str):
        with pytest.raises(ValueError, match="path"):
            make_gate(prefix=prefix)

    def test_must_be_the_end_of_the_public_url(self, make_gate: Callable[..., LoginRequired]):
        for url in ("https://app.example.com", "https://app.example.com/login", "https://app.example.com/oauth"):
            with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_PUBLIC_URL must end with /auth"):
                make_gate(PUBLIC_URL=url)
        make_gate(PUBLIC_URL="https://app.example.com/site/auth/")
        make_gate(PUBLIC_URL="https://app.example.com/caf%C3%A9", prefix="/café")


class TestWhatCannotWork:
    @pytest.mark.parametrize("public", ["/static", "/"])
    def test_one_text_instead_of_several_paths(self, make_gate: Callable[..., LoginRequired], public: str):
        """Its letters would be the paths, and one of them a slash."""
        with pytest.raises(TypeError, match="several paths"):
            make_gate(public=public)

    @pytest.mark.parametrize("rule", ["", "static", "/static/*", "/static//x", "/..", "/a%20b", "/a;b", "https://x/y"])
    def test_a_rule_that_is_no_path(self, make_gate: Callable[..., LoginRequired], rule: str):
        with pytest.raises(ValueError, match="public must have paths"):
            make_gate(public=[rule])
        with pytest.raises(ValueError, match="prefix must be a path"):
            make_gate(prefix=rule)

    def test_a_sign_in_that_is_wrapped_in_something(self, inside: Inside, provider: LocalProvider):
        app = create_app(Config.from_environ(environ_for(provider)), store=MemoryStore())
        with pytest.raises(TypeError, match="create_app"):
            LoginRequired(inside, lambda environ, start_response: app(environ, start_response))


class TestA401OfTheApplication:
    """Without ``WWW-Authenticate``: it wants somebody who is signed in, or signed in again."""

    def says(self, status: str, *headers: tuple[str, str]) -> App:
        return Response("its own words", status, dict(headers), mimetype="text/plain")

    def test_starts_a_sign_in_on_a_public_page(self, visitor: Visitor, inside: Inside):
        inside.answer = self.says("401 Unauthorized")
        response = visitor.get("/static/mine?x=1")
        assert response.status_int == 302
        assert parameters(response.location) == {"next": "/static/mine?x=1"}

    def test_tells_a_program_where_to_sign_in(self, visitor: Visitor, inside: Inside):
        inside.answer = self.says("401 Unauthorized")
        response = visitor.get("/static/mine", JSON)
        assert (response.status_int, response.json["login_url"]) == (401, "http://localhost/auth/")

    def test_starts_another_sign_in_for_who_is_signed_in(self, signed_in: Visitor, inside: Inside):
        inside.answer = self.says("401 Unauthorized")
        response = signed_in.get("/page")
        assert response.status_int == 302
        assert parameters(response.location) == {"next": "/page", "again": "1"}

    def test_leaves_the_session_as_it_is(self, signed_in: Visitor, inside: Inside):
        inside.answer = self.says("401 Unauthorized")
        assert signed_in.get("/page", JSON).json["error"] == "sign_in_again"
        inside.answer = Response("inside")
        assert signed_in.get("/page").text == "inside"

    def test_does_not_keep_a_browser_going_round(self, visitor: Visitor, inside: Inside):
        """The second time the application is believed: it does not want this user."""
        inside.answer = self.says("401 Unauthorized")
        again = visitor.sign_in()
        assert again.status_int == 302
        done = visitor.get(visitor.consent(visitor.get(again.location).location))
        page = visitor.get(done.location)
        assert (page.status_int, page.text) == (401, "its own words")

    @pytest.mark.parametrize("challenge", ["WWW-Authenticate", "www-authenticate"])
    def test_with_a_challenge_passes(self, signed_in: Visitor, inside: Inside, challenge: str):
        inside.answer = self.says("401 Unauthorized", (challenge, 'Basic realm="inside"'))
        response = signed_in.get("/page")
        assert (response.status_int, response.text) == (401, "its own words")

    @pytest.mark.parametrize("status", ["403 Forbidden", "400 Bad Request", "407 Proxy", "500 Oops", "404 Not Found"])
    def test_is_the_only_status_that_means_that(self, signed_in: Visitor, inside: Inside, status: str):
        inside.answer = self.says(status)
        response = signed_in.get("/page")
        assert (response.status_int, response.text) == (int(status[:3]), "its own words")

    def test_keeps_the_cookies_that_the_application_sets(self, visitor: Visitor, inside: Inside):
        inside.answer = self.says("401 Unauthorized", ("Set-Cookie", "flash=sign%20in"))
        response = visitor.get("/")
        assert response.status_int == 302
        assert response.headers.getall("Set-Cookie") == ["flash=sign%20in"]

    def test_is_closed(self, visitor: Visitor, inside: Inside):
        body = Body([b"x"])

        def app(environ: Any, start_response: Any) -> Any:
            start_response("401 Unauthorized", [])
            return body

        inside.answer = app
        assert send(visitor.gate, "/", headers=HTML).status_code == 302
        assert body.closed == 1
        assert body.asked == 0

    def test_of_a_generator_is_the_same(self, visitor: Visitor, inside: Inside):
        events = []

        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            try:
                start_response("401 Unauthorized", [("Content-Type", "text/plain")])
                yield b"its own "
                events.append("asked for more")
                yield b"words"
            finally:
                events.append("closed")

        inside.answer = app
        response = visitor.get("/")
        assert (response.status_int, response.text) == (302, "")
        assert events == ["closed"]

    def test_of_a_generator_without_a_body_is_the_same(self, visitor: Visitor, inside: Inside):
        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response("401 Unauthorized", [("Content-Type", "text/plain")])
            yield from ()

        inside.answer = app
        assert visitor.get("/", JSON).json["login_url"]

    def test_takes_what_is_written_below_it(self, visitor: Visitor, inside: Inside):
        def app(environ: Any, start_response: Any) -> Any:
            write = start_response("401 Unauthorized", [("Content-Type", "text/plain")])
            write(b"its own words")
            return []

        inside.answer = app
        response = visitor.get("/", JSON)
        assert response.json["error"] == "not_signed_in"

    def test_after_an_error_is_the_same(self, visitor: Visitor, inside: Inside):
        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [("Content-Type", "text/plain")])
            try:
                raise KeyError("user")
            except KeyError:
                start_response("401 Unauthorized", [("Content-Type", "text/plain")], sys.exc_info())
            return [b"its own words"]

        inside.answer = app
        assert visitor.get("/").status_int == 302

    def test_gives_way_to_an_error_that_comes_after_it(self, visitor: Visitor, inside: Inside):
        def app(environ: Any, start_response: Any) -> Any:
            start_response("401 Unauthorized", [("Content-Type", "text/plain")])
            try:
                raise OSError
            except OSError:
                start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
            return [b"an error page"]

        inside.answer = app
        response = visitor.get("/")
        assert (response.status_int, response.text) == (500, "an error page")

    @pytest.mark.parametrize("lazy", [False, True])
    def test_may_also_be_an_error_of_ours(self, visitor: Visitor, inside: Inside, lazy: bool):
        """As oauth2_session() raises it for somebody who is not signed in."""

        def app(environ: Any, start_response: Any) -> Any:
            oauth2_session(environ)
            raise AssertionError

        def generator(environ: Any, start_response: Any) -> Iterator[bytes]:
            yield from app(environ, start_response)

        inside.answer = generator if lazy else app
        assert parameters(visitor.get("/").location) == {"next": "/"}
        assert visitor.get("/", JSON).status_int == 401

    def test_may_also_be_a_token_that_the_provider_refuses(
        self, signed_in: Visitor, inside: Inside, provider: LocalProvider, store: SessionStore
    ):
        def app(environ: Any, start_response: Any) -> Any:
            document = oauth2_session(environ).get_json(provider.profile_url)
            return Response(json.dumps(document))(environ, start_response)

        inside.answer = app
        provider.faults.add("profile.401", times=2)
        response = signed_in.get("/page")
        assert parameters(response.location) == {"next": "/page", "again": "1"}
        assert stored_sessions(store) == []
        assert signed_in.cookie is None


class Body:
    """What an application returns: it counts what is done with it."""

    def __init__(self, chunks: list[bytes], fails: bool = False) -> None:
        self.chunks = iter(chunks)
        self.fails = fails
        self.asked = self.closed = 0

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        self.asked += 1
        if self.fails:
            raise OSError("in the middle")
        return next(self.chunks)

    def close(self) -> None:
        self.closed += 1


class Server:
    """Calls an application as a server does, and keeps exactly what it was given."""

    def __init__(self, app: Any, cookie: str | None, path: str = "/page") -> None:
        self.started: list[Any] = []
        self.written: list[bytes] = []
        self.environ = create_environ(path, "http://localhost", headers={"Cookie": f"wsgi_oauth={cookie}"})
        self.body = app(self.environ, self.start_response)

    def start_response(self, *arguments: Any) -> Any:
        self.started.append(arguments)
        return self.written.append


@pytest.fixture
def serve(signed_in: Visitor, inside: Inside) -> Callable[..., Server]:
    """Serve one request of somebody who is signed in, by the application that is given."""

    def serve(app: App, path: str = "/page") -> Server:
        inside.answer = app
        return Server(signed_in.gate, signed_in.cookie, path)

    return serve


def starting(body: Any, *headers: tuple[str, str], status: str = "200 OK") -> App:
    def app(environ: Any, start_response: Any) -> Any:
        start_response(status, list(headers))
        return body

    return app


class TestManners:
    """PEP 3333, in both directions. The browsers above check it too, on each request."""

    def test_the_body_is_the_very_one_that_the_application_returns(self, serve: Callable[..., Server]):
        for body in (Body([b"x"]), [b"x"], (), FileWrapper(io.BytesIO(b"x")), (chunk for chunk in [b"x"])):
            assert serve(starting(body)).body is body

    def test_nothing_of_it_is_asked_for_in_advance(self, serve: Callable[..., Server]):
        body = Body([b"x"])
        serve(starting(body))
        assert (body.asked, body.closed) == (0, 0)

    def test_a_generator_comes_chunk_by_chunk(self, serve: Callable[..., Server]):
        made: list[int] = []

        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            for number in range(5):
                made.append(number)
                yield b"%d" % number

        server = serve(app)
        assert server.started == []
        chunks = iter(server.body)
        for number in range(5):
            assert next(chunks) == b"%d" % number
            assert made == list(range(number + 1))
        assert list(chunks) == []

    @pytest.mark.parametrize("read", [0, 1])
    def test_a_generator_is_closed_when_the_client_has_gone(self, serve: Callable[..., Server], read: int):
        closed: list[bool] = []

        class Lazy(Body):
            def close(self) -> None:
                closed.append(True)

        def app(environ: Any, start_response: Any) -> Any:
            class Starting(Lazy):
                def __next__(self) -> bytes:
                    if not self.asked:
                        start_response("200 OK", [])
                    return super().__next__()

            return Starting([b"a", b"b"])

        body = serve(app).body
        for _ in range(read):
            next(iter(body))
        body.close()
        assert closed == [True]

    def test_write_is_the_servers_own(self, serve: Callable[..., Server]):
        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [])(b"written")
            return []

        assert serve(app).written == [b"written"]

    def test_exc_info_arrives(self, serve: Callable[..., Server]):
        information = (ValueError, ValueError("x"), None)

        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [])
            start_response("500 Oops", [], information)
            return []

        first, second = serve(app).started
        assert len(first) == 2
        assert second[0] == "500 Oops"
        assert second[2] is information

    @pytest.mark.parametrize("error", [OSError("x"), KeyError("x"), errors.ProviderTimeout("x"), SystemExit(1)])
    def test_an_exception_arrives_where_it_would_have_arrived(self, serve: Callable[..., Server], error: BaseException):
        def app(environ: Any, start_response: Any) -> Any:
            raise error

        with pytest.raises(type(error)) as caught:
            serve(app)
        assert caught.value is error

    def test_an_exception_in_the_body_does_too(self, serve: Callable[..., Server]):
        body = serve(starting(Body([], fails=True))).body
        with pytest.raises(OSError, match="in the middle"):
            next(iter(body))

    def test_an_error_of_ours_does_too_once_the_answer_has_begun(self, serve: Callable[..., Server]):
        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [])
            raise errors.NotSignedIn("too late")

        def generator(environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"x"
            raise errors.NotSignedIn("too late")

        with pytest.raises(errors.NotSignedIn):
            serve(app)
        with pytest.raises(errors.NotSignedIn):
            list(serve(generator).body)

    def test_the_input_is_the_servers_own_and_nobody_has_read_of_it(
        self, visitor: Visitor, signed_in: Visitor, inside: Inside
    ):
        class Untouched:
            def __getattr__(self, name: str) -> Any:
                raise AssertionError(name)

        stream = Untouched()
        for path in ("/page", "/static/x"):
            environ = create_environ(path, "http://localhost", method="POST")
            environ.update({"wsgi.input": stream, "HTTP_COOKIE": f"wsgi_oauth={signed_in.cookie}"})
            assert b"".join(visitor.gate(environ, lambda *_: None)) == b"inside"
            assert inside.environ["wsgi.input"] is stream
            environ["HTTP_COOKIE"] = ""
            visitor.gate(environ, lambda *_: None)  # nor to refuse it

    def test_what_the_server_offers_is_offered(self, signed_in: Visitor, inside: Inside):
        environ = create_environ("/page", "http://localhost", headers={"Cookie": f"wsgi_oauth={signed_in.cookie}"})
        environ["wsgi.file_wrapper"] = environ["gunicorn.socket"] = offered = object()
        signed_in.gate(environ, lambda *_: None)
        assert inside.environ["wsgi.file_wrapper"] is inside.environ["gunicorn.socket"] is offered

    def test_the_headers_are_the_applications_own_with_two_for_caches(self, serve: Callable[..., Server]):
        headers = [("Content-Length", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Odd", "")]
        [(status, sent)] = serve(starting([b"x"], *headers)).started
        assert status == "200 OK"
        assert sent == [*headers, ("Vary", "Cookie"), ("Cache-Control", "private, no-cache")]

    @pytest.mark.parametrize("said", [("Cache-Control", "public, max-age=60"), ("cache-control", "no-store")])
    def test_what_the_application_says_to_caches_holds(self, serve: Callable[..., Server], said: tuple[str, str]):
        """And it varies, so a shared cache does not show it to who is not signed in."""
        [(_, sent)] = serve(starting([], said, ("Vary", "Accept"))).started
        assert sent == [said, ("Vary", "Accept"), ("Vary", "Cookie")]

    def test_the_list_of_headers_stays_the_applications(self, serve: Callable[..., Server]):
        headers = [("Content-Type", "text/plain")]

        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", headers)
            return []

        serve(app)
        assert headers == [("Content-Type", "text/plain")]

    def test_a_request_leaves_nothing_for_the_garbage_collector(self, serve: Callable[..., Server]):
        serve(starting([b"x"]))
        gc.collect()
        gc.disable()
        try:
            serve(starting([b"x"]))
            inside_out = gc.collect()
        finally:
            gc.enable()
        assert inside_out < 20


class TestTheFunctionsOfEnviron:
    def test_the_client_asks_the_provider_for_the_user(
        self, signed_in: Visitor, inside: Inside, provider: LocalProvider
    ):
        def app(environ: Any, start_response: Any) -> Any:
            document = oauth2_session(environ).get_json(provider.profile_url)
            return Response(document["login"])(environ, start_response)

        inside.answer = app
        assert signed_in.get("/page").text == "octocat"

    def test_the_client_refreshes_the_token_and_what_it_gets_is_stored(
        self, signed_in: Visitor, inside: Inside, provider: LocalProvider, store: SessionStore, later: Any
    ):
        [before] = stored_sessions(store)

        def app(environ: Any, start_response: Any) -> Any:
            assert oauth2_session(environ).get_json(provider.profile_url)
            assert oauth2_session(environ).get_json(provider.profile_url)
            return Response("fresh")(environ, start_response)

        later(HOUR)
        inside.answer = app
        assert signed_in.get("/page").text == "fresh"
        [after] = stored_sessions(store)
        assert after["oauth_token"]["access_token"] != before["oauth_token"]["access_token"]
        assert signed_in.get("/page").text == "fresh"
        assert provider.count("refresh") == 1

    def test_a_token_that_has_expired_when_another_request_has_the_next_one_ends_nothing(
        self, signed_in: Visitor, inside: Inside, provider: LocalProvider, later: Any
    ):
        """A client refreshes once; of two requests the slower one must not sign out the faster."""
        twin = {"Cookie": f"wsgi_oauth={signed_in.cookie}"}
        others: list[str] = []

        def app(environ: Any, start_response: Any) -> Any:
            github = oauth2_session(environ)
            later(HOUR)
            github.get_json(provider.profile_url)
            if environ["PATH_INFO"] == "/slow":
                others.append(Visitor(signed_in.gate, provider).get("/quick", headers=twin).text)
                later(HOUR)
                others.append(Visitor(signed_in.gate, provider).get("/quick", headers=twin).text)
                github.get_json(provider.profile_url)
            return Response("fine")(environ, start_response)

        inside.answer = app
        assert signed_in.get("/slow").status_int == 502
        assert others == ["fine", "fine"]
        assert signed_in.get("/quick").text == "fine"

    def test_an_expired_token_alone_keeps_nobody_out(
        self, make_gate: Callable[..., LoginRequired], inside: Inside, later: Any, store: SessionStore
    ):
        """The session says who is signed in; the token is for the provider's API."""
        provider = LocalProvider(refresh_tokens=False)
        with serve_provider(provider) as server:
            provider.server = server
            config = Config.from_environ(environ_for(provider))
            visitor = Visitor(LoginRequired(inside, create_app(config, store=store)), provider)
            visitor.sign_in()
            later(2 * HOUR)
            assert visitor.get("/page").text == "inside"

    def test_the_login_url_leads_back_to_this_page(self, visitor: Visitor, inside: Inside):
        visitor.get("/static/x?a=b%20c&d")
        assert login_url(inside.environ) == "http://localhost/auth/?next=%2Fstatic%2Fx%3Fa%3Db%2520c%26d"

    def test_the_login_url_leads_wherever_it_should(self, visitor: Visitor, inside: Inside):
        visitor.get("/")
        assert login_url(inside.environ, "/welcome?a=1") == "http://localhost/auth/?next=%2Fwelcome%3Fa%3D1"

    def test_the_login_url_does_not_lead_back_to_what_was_sent(self, signed_in: Visitor, inside: Inside):
        signed_in.post("/form")
        assert login_url(inside.environ) == "http://localhost/auth/"

    def test_the_login_url_leads_back_to_the_page_that_has_sent_it(self, signed_in: Visitor, inside: Inside):
        signed_in.post("/form", {"Referer": "http://localhost/page?step=2"})
        assert login_url(inside.environ) == "http://localhost/auth/?next=%2Fpage%3Fstep%3D2"
        signed_in.post("/form", {"Referer": "http://evil.example/page"})
        assert login_url(inside.environ) == "http://localhost/auth/"

    def test_the_logout_url_signs_out(self, signed_in: Visitor, inside: Inside):
        signed_in.get("/page")
        assert logout_url(inside.environ) == "http://localhost/auth/logout"
        assert signed_in.post(logout_url(inside.environ)).status_int == 200
        assert signed_in.get("/page").status_int == 302

    def test_they_know_where_the_gate_is_whatever_the_application_does_to_environ(
        self, visitor: Visitor, inside: Inside
    ):
        """As an inner dispatcher does, and Bottle's mount when the body is made."""

        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [("Content-Type", "text/plain")])
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/static", "/x"
            yield login_url(environ).encode()
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = "", "/gone"
            yield b" " + logout_url({**environ}).encode()

        inside.answer = app
        assert visitor.get("/static/x").text == (
            "http://localhost/auth/?next=%2Fstatic%2Fx http://localhost/auth/logout"
        )

    @pytest.mark.parametrize("function", [login_url, logout_url, oauth2_session])
    def test_without_a_gate_they_say_so(self, function: Callable[[Any], Any]):
        with pytest.raises(LookupError, match="LoginRequired"):
            function(create_environ("/"))

    def test_without_a_gate_nobody_is_signed_in(self):
        assert current_identity(create_environ("/")) is None


def test_a_gate_inside_a_gate_asks_for_its_own_sign_in(
    make_gate: Callable[..., LoginRequired], inside: Inside, provider: LocalProvider
):
    """The inner one believes nothing that it is told, not even by its like."""
    inner = make_gate(prefix="/inner")
    config = Config.from_environ(environ_for(provider))
    outer = LoginRequired(inner, create_app(config, store=MemoryStore()), public=["/inner"])
    visitor = Visitor(outer, provider)
    assert visitor.get("/page").location.startswith("http://localhost/auth/?")
    response = visitor.sign_in()
    assert response.status_int == 302
    assert response.location.startswith("http://localhost/inner/?")
    assert inside.seen == []


def test_two_gates_around_two_applications_share_one_sign_in(provider: LocalProvider):
    app = create_app(Config.from_environ(environ_for(provider)), store=MemoryStore())
    one, two = Inside(), Inside()
    first, second = LoginRequired(one, app), LoginRequired(two, app)
    visitor = Visitor(first, provider)
    visitor.sign_in()
    assert send(second, "/page", headers={"Cookie": f"wsgi_oauth={visitor.cookie}"}).status_code == 200
    assert one.environ["REMOTE_USER"] == two.environ["REMOTE_USER"]


def test_with_several_providers_everybody_is_who_their_own_provider_says(inside: Inside, store: SessionStore):
    users = {"one": {"id": 1, "login": "octocat"}, "two": {"id": 1, "login": "hubot"}}
    callbacks = [f"http://localhost/auth/callback/{label}" for label in users]
    with ExitStack() as stack:
        environ = {"WSGI_OAUTH_PROVIDERS": "one two", "WSGI_OAUTH_SESSION_STORE": "memory:"}
        for label, user in users.items():
            provider = LocalProvider(redirect_uris=callbacks, user=user)
            provider.server = stack.enter_context(serve_provider(provider))
            own = environ_for(provider)
            environ |= {
                name.replace("OAUTH_", f"OAUTH_{label.upper()}_"): own[name]
                for name in own
                if name.endswith(("_ID", "_SECRET", "_URL", "_ISSUER", "_SCOPE"))
            }
        gate = LoginRequired(inside, create_app(Config.from_environ(environ), store=store))
        seen = set()
        for label in users:
            visitor = Visitor(gate, provider)
            choice = visitor.get(visitor.get("/page?x=1").location)
            [link] = [link["href"] for link in choice.html.find_all("a") if f"provider={label}" in link["href"]]
            done = visitor.get(visitor.consent(visitor.get(link).location))
            assert urlsplit(done.location).query == "x=1"
            assert visitor.get(done.location).text == "inside"
            identity = current_identity(inside.environ)
            assert identity is not None
            assert identity.username == users[label]["login"]
            seen.add(inside.environ["REMOTE_USER"])
        assert len(seen) == 2


def test_a_refusal_is_logged_without_the_query(visitor: Visitor, caplog: pytest.LogCaptureFixture):
    """S50, S51"""
    caplog.set_level("INFO")
    visitor.get("/page?secret=x")
    assert "'GET /page': not_signed_in" in caplog.text
    assert "secret" not in caplog.text


def test_next_is_where_the_browser_was_and_nothing_that_it_says_in_headers(visitor: Visitor):
    response = visitor.get("/page", {"X-Original-URL": "/evil", "X-Forwarded-Prefix": "/evil", "Referer": "/evil"})
    assert parse_qs(urlsplit(response.location).query)["next"] == ["/page"]


class TestWhoWasHereBefore:
    """The gate remembers what a request has led to, and takes that for the same request alone."""

    @pytest.fixture
    def cookie(self, signed_in: Visitor) -> str:
        assert {signed_in.get("/page").status_int for _ in range(2)} == {200}
        return f"wsgi_oauth={signed_in.cookie}"

    def test_is_out_when_the_session_is_over(self, signed_in: Visitor, cookie: str, later: Callable[[float], None]):
        later(7 * 24 * HOUR)
        assert signed_in.get("/page").status_int == 302

    def test_is_out_when_somebody_else_has_ended_the_session(self, signed_in: Visitor, cookie: str, store: FileStore):
        for key in FileStore(store.folder).keys():
            FileStore(store.folder).delete(key)
        assert signed_in.get("/page").status_int == 302

    @pytest.mark.parametrize(
        "elsewhere",
        [{"HTTP_HOST": "evil.example"}, {"HTTP_HOST": "", "SERVER_NAME": "evil.example"}],
        ids=["by the Host header", "by the server's own name"],
    )
    def test_is_nobody_at_another_host(self, signed_in: Visitor, cookie: str, elsewhere: dict[str, str]):
        """S34"""
        for usual in ({"HTTP_HOST": "localhost"}, {"HTTP_HOST": "", "SERVER_NAME": "localhost"}):
            assert send(signed_in.gate, "/page", headers={"Cookie": cookie}, **usual).status_code == 200
        assert send(signed_in.gate, "/page", headers={"Cookie": cookie}, **elsewhere).status_code == 400

    def test_is_nobody_over_https_with_a_cookie_of_plain_http(self, signed_in: Visitor, cookie: str):
        """S38: there it has another name, which no plain-http page can set."""
        assert send(signed_in.gate, "/page", headers={"Cookie": cookie}).status_code == 200
        assert send(signed_in.gate, "/page", headers={"Cookie": cookie}, wsgi__url_scheme="https").status_code == 401

    @pytest.mark.parametrize("changed", ["host", "proto"])
    def test_is_judged_by_what_a_trusted_proxy_says_now(
        self, signed_in: Visitor, cookie: str, make_gate: Callable[..., LoginRequired], changed: str
    ):
        """S34, S35, S38"""
        gate = make_gate(TRUSTED_PROXIES="1")
        usual = {"HTTP_X_FORWARDED_HOST": "localhost", "HTTP_X_FORWARDED_PROTO": "http"}
        other = {"host": "evil.example", "proto": "https"}[changed]
        for _ in range(2):
            assert send(gate, "/page", headers={"Cookie": cookie}, **usual).status_code == 200
        elsewhere = {**usual, f"HTTP_X_FORWARDED_{changed.upper()}": other}
        expected = {"host": 400, "proto": 401}[changed]
        assert send(gate, "/page", headers={"Cookie": cookie}, **elsewhere).status_code == expected

    def test_is_out_by_the_lifetime_of_today_which_may_end_before_the_store_lets_go(
        self, cookie: str, make_gate: Callable[..., LoginRequired], later: Callable[[float], None]
    ):
        """S40"""
        stricter = make_gate(SESSION_LIFETIME="30m")
        assert send(stricter, "/page", headers={"Cookie": cookie}).status_code == 200
        later(HOUR / 2 + 1)
        assert send(stricter, "/page", headers={"Cookie": cookie}).status_code == 401

    def test_does_not_pile_up(self, signed_in: Visitor, cookie: str):
        """Whatever else a browser sends along, its session is kept once."""
        for number in range(600):
            assert send(signed_in.gate, "/page", headers={"Cookie": f"{cookie}; n={number}"}).status_code == 200
        known = signed_in.gate._known.values()
        assert 1 < len(known) <= 512
        assert len({id(each.stored) for each in known}) == len({id(each.raw) for each in known}) == 1

    @pytest.mark.parametrize("header", ["Cookie", "X-Forwarded-Host", "X-Forwarded-Proto"])
    def test_does_not_pile_up_what_a_client_sends_besides(self, signed_in: Visitor, cookie: str, header: str):
        """Some hundred headers of 8 kB each make one, and 512 of those are no little memory."""
        for number in range(10):
            padding = f"n={number}{'x' * 100_000}"
            headers = {"Cookie": f"{cookie}; {padding}"} if header == "Cookie" else {"Cookie": cookie, header: padding}
            assert send(signed_in.gate, "/page", headers=headers).status_code == 200
        assert sum(len(str(asked)) for asked in signed_in.gate._known) < 20_000

    def test_is_forgotten_when_the_session_has_ended(self, signed_in: Visitor, cookie: str):
        assert signed_in.gate._known
        signed_in.post("/auth/logout", headers={"Origin": "http://localhost"})
        assert send(signed_in.gate, "/page", headers={"Cookie": cookie}).status_code == 401
        assert all(cookie not in str(asked) for asked in signed_in.gate._known)
