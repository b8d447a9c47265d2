"""Several providers in one application: each has its own redirect URI, and each token is sent to its own provider."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from conftest import HTML, JSON, Barrier, Browser, parameters, stored_sessions
from werkzeug import Response

from wsgi_oauth import Config, LoginRequired, RequestHandler, SessionStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

CALLBACKS = ("http://localhost/callback/one", "http://localhost/callback/two")


@pytest.fixture
def one() -> Iterator[LocalProvider]:
    provider = LocalProvider(redirect_uris=CALLBACKS)
    with serve_provider(provider):
        yield provider


@pytest.fixture
def other() -> Iterator[LocalProvider]:
    provider = LocalProvider(
        client_id="other-client",
        client_secret="other-secret",
        redirect_uris=CALLBACKS,
        user={"id": 7, "login": "hubot", "name": "Hubot"},
    )
    with serve_provider(provider):
        yield provider


def settings(label: str, provider: LocalProvider) -> dict[str, str]:
    """Return the environment variables of a provider with *label*."""
    own = {
        "CLIENT_ID": provider.client_id,
        "CLIENT_SECRET": provider.client_secret,
        "AUTHORIZATION_URL": provider.authorization_url,
        "TOKEN_URL": provider.token_url,
        "PROFILE_URL": provider.profile_url,
        "REVOCATION_URL": provider.revocation_url,
        "ISSUER": provider.url,
        "SCOPE": "profile email",
    }
    return {f"WSGI_OAUTH_{label}_{name}": value for name, value in own.items()}


@dataclass
class TwoProviders:
    """An application with the providers ``one`` and ``two``, and a browser."""

    one: LocalProvider
    two: LocalProvider
    store: SessionStore
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environ = {
            "WSGI_OAUTH_PROVIDERS": "one two",
            "WSGI_OAUTH_SESSION_STORE": "memory:",
            **settings("ONE", self.one),
            **settings("TWO", self.two),
        }
        self.browser = self.another_browser()

    def another_browser(self) -> Browser:
        return Browser(create_app(Config.from_environ(self.environ), store=self.store), self.one)

    def start(self, label: str) -> str:
        response = self.browser.get(f"/?provider={label}")
        assert response.status_int == 302, response
        location: str = response.location
        return location

    def sign_in(self, label: str) -> Any:
        response = self.browser.get(self.browser.consent(self.start(label)))
        assert response.status_int == 303, response
        return response


@pytest.fixture
def two(one: LocalProvider, other: LocalProvider, store: SessionStore) -> TwoProviders:
    return TwoProviders(one, other, store)


def test_user_chooses_the_provider(two: TwoProviders) -> None:
    page = two.browser.get("/?next=/profile?tab=2")
    assert (page.status_int, page.content_type) == (200, "text/html")
    links = [link["href"] for link in page.html.find_all("a")]
    assert [parameters(link) for link in links] == [
        {"next": "/profile?tab=2", "provider": "one"},
        {"next": "/profile?tab=2", "provider": "two"},
    ]
    assert two.browser.cookie is None


def test_choice_has_a_button_with_the_title_of_each_provider(two: TwoProviders) -> None:
    two.environ |= {"WSGI_OAUTH_ONE_TITLE": "<Example> Inc.", "WSGI_OAUTH_NAME": "Example Wiki"}
    page = two.another_browser().get("/")
    assert page.html.h1.text == "Sign in to Example Wiki"
    assert [link.text for link in page.html.select(".actions a")] == ["Sign in with <Example> Inc.", "Sign in with two"]


def test_program_gets_the_choice_as_json(two: TwoProviders) -> None:
    offered = two.browser.get("/", headers=JSON).json["providers"]
    assert [parameters(each["login_url"])["provider"] for each in offered] == ["one", "two"]


@pytest.mark.parametrize("label", ["three", "ONE", "", "one%00", "../one"])
def test_unknown_provider_shows_the_choice_again(label: str, two: TwoProviders) -> None:
    assert two.browser.get(f"/?provider={label}").status_int == 200
    assert two.browser.get(f"/callback/{label}?state=x&code=y").status_int in {400, 404}


def test_other_site_names_the_provider_by_its_issuer(two: TwoProviders) -> None:
    """OpenID Connect Core 4"""
    for provider, label in ((two.one, "one"), (two.two, "two")):
        location = two.browser.get(f"/?iss={quote(provider.url, safe='')}&provider=one").location
        assert location.startswith(f"{provider.authorization_url}?")
        assert parameters(location)["redirect_uri"].endswith(f"/callback/{label}")


def test_refusal_names_the_setting_with_the_label_of_the_provider(two: TwoProviders, caplog: Any) -> None:
    two.two.faults.add("token.invalid_client_401")
    assert two.browser.get(two.browser.consent(two.start("two"))).status_int == 502
    assert "compare WSGI_OAUTH_TWO_CLIENT_ID and WSGI_OAUTH_TWO_CLIENT_SECRET" in caplog.text


def test_choice_passes_the_parameters_of_the_link_on(two: TwoProviders) -> None:
    two.environ["WSGI_OAUTH_TWO_LOGIN_PARAMETERS"] = "login_hint"
    choice = two.another_browser().get("/?login_hint=ann%40example.com")
    to_one, to_two = [two.another_browser().get(link["href"]).location for link in choice.html.find_all("a")]
    assert parameters(to_two)["login_hint"] == "ann@example.com"
    assert "ann" not in to_one  # the settings of this provider do not list the parameter


def test_each_provider_has_its_own_redirect_uri_client_and_profile(two: TwoProviders) -> None:
    """S10."""
    for label, client, login in (("one", "demo-client", "octocat"), ("two", "other-client", "hubot")):
        request = parameters(two.start(label))
        assert (request["redirect_uri"], request["client_id"]) == (f"http://localhost/callback/{label}", client)
        two.sign_in(label)
        assert two.browser.profile().json["login"] == login


def test_token_is_sent_only_to_its_provider(two: TwoProviders) -> None:
    two.sign_in("two")
    two.browser.profile()
    two.browser.post("/logout")
    assert (two.two.count("profile"), two.two.count("revoke")) == (1, 2)
    assert (two.one.count("profile"), two.one.count("revoke"), two.one.count("token")) == (0, 0, 0)


def test_response_at_the_redirect_uri_of_the_other_provider_is_refused(two: TwoProviders) -> None:
    """S10; RFC 9700 4.4.2: otherwise the code of one provider would be sent to the other. Some send no iss."""
    callback = two.browser.consent(two.start("two")).replace("/callback/two", "/callback/one")
    answer = two.browser.get(re.sub("&iss=[^&]*", "", callback), headers=JSON)
    assert (answer.status_int, answer.json["error"]) == (400, "issuer_mismatch")
    assert (two.one.count("token"), two.two.count("token")) == (0, 0)


def test_two_tabs_with_different_providers_finish_in_any_order(two: TwoProviders) -> None:
    callbacks = [two.browser.consent(two.start(label)) for label in ("one", "two")]
    for callback in reversed(callbacks):
        assert two.browser.get(callback).status_int == 303
    assert two.browser.profile().json["login"] == "octocat"


def test_second_sign_in_with_the_same_provider_keeps_the_provider_of_the_session(two: TwoProviders) -> None:
    for _ in range(2):
        two.sign_in("two")
        assert two.browser.profile().json["login"] == "hubot"
    [session] = stored_sessions(two.store)
    assert session["oauth_provider"].startswith("two:")


def test_session_of_a_removed_provider_requires_a_new_sign_in(two: TwoProviders) -> None:
    """Its token must not be sent to another provider."""
    two.sign_in("two")
    two.environ = {name: value for name, value in two.environ.items() if "_TWO_" not in name}
    two.environ["WSGI_OAUTH_PROVIDERS"] = "one"
    browser = two.another_browser()
    browser.app.cookiejar = two.browser.app.cookiejar
    answer = browser.get("/profile")
    assert (answer.status_int, answer.location.split("?")[0]) == (302, "http://localhost/")
    assert (two.one.count("profile"), stored_sessions(two.store)) == (0, [])


def test_gate_ignores_sessions_of_a_removed_provider(two: TwoProviders) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["REMOTE_USER"].encode()]

    two.sign_in("two")
    two.browser.profile()
    environ = {name: value for name, value in two.environ.items() if "_TWO_" not in name}
    environ["WSGI_OAUTH_PROVIDERS"] = "one"
    gate = LoginRequired(app, create_app(Config.from_environ(environ), store=two.store))
    browser = Browser(gate, two.one)
    browser.app.cookiejar = two.browser.app.cookiejar
    assert browser.get("/inside", headers=JSON).status_int == 401


def test_token_is_not_sent_to_the_provider_that_gets_the_label_later(two: TwoProviders) -> None:
    two.sign_in("two")
    swapped = {name.replace("_ONE_", "_X_").replace("_TWO_", "_ONE_"): value for name, value in two.environ.items()}
    two.environ = {name.replace("_X_", "_TWO_"): value for name, value in swapped.items()}
    browser = two.another_browser()
    browser.app.cookiejar = two.browser.app.cookiejar
    assert browser.profile().json["error"] == "token_rejected"
    assert (two.one.count("profile"), two.two.count("profile")) == (0, 0)


def test_token_of_an_unknown_provider_is_sent_to_none(two: TwoProviders) -> None:
    """The session is older than the second provider."""
    two.sign_in("one")

    class Forget(RequestHandler):
        route = "/forget"

        def get(self, request: Any) -> Any:
            del request.session["oauth_provider"]
            return self.jsonify({})

    app = create_app(Config.from_environ(two.environ), store=two.store, handlers=[Forget])
    browser = Browser(app, two.one)
    browser.app.cookiejar = two.browser.app.cookiejar
    assert browser.get("/forget").status_int == 200
    assert two.browser.profile().json["error"] == "token_rejected"
    assert (two.one.count("profile"), two.two.count("profile")) == (0, 0)


def test_missing_name_of_a_user_is_explained_with_the_settings_of_that_provider(two: TwoProviders, caplog: Any) -> None:
    two.environ["WSGI_OAUTH_REMOTE_USER"] = "email"
    gate = LoginRequired(Response("inside"), create_app(Config.from_environ(two.environ), store=two.store))
    browser = Browser(gate, two.one)
    browser.app.cookiejar = two.browser.app.cookiejar
    two.sign_in("two")
    assert browser.get("/page").status_int == 403
    assert "add its scope to WSGI_OAUTH_TWO_SCOPE" in caplog.text


@pytest.fixture
def swapped(two: TwoProviders) -> TwoProviders:
    """Sign in; then the operator exchanges the providers of the two labels."""
    two.sign_in("one")
    two.browser.profile()
    two.environ |= {**settings("ONE", two.two), **settings("TWO", two.one)}
    return two


def test_swapped_label_does_not_receive_the_token(swapped: TwoProviders) -> None:
    browser = swapped.another_browser()
    browser.app.cookiejar = swapped.browser.app.cookiejar
    browser.profile()
    browser.post("/logout")
    assert (swapped.two.count("profile"), swapped.two.count("revoke")) == (0, 0)


def test_swapped_label_does_not_allow_the_same_user_id(swapped: TwoProviders) -> None:
    """The same id belongs to another user there."""
    swapped.environ["WSGI_OAUTH_ALLOW"] = "id:one:583231"
    gate = LoginRequired(Response("inside"), create_app(Config.from_environ(swapped.environ), store=swapped.store))
    browser = Browser(gate, swapped.one)
    browser.app.cookiejar = swapped.browser.app.cookiejar
    assert browser.get("/page").status_int in {302, 403}


def test_user_of_a_removed_provider_can_sign_out(two: TwoProviders) -> None:
    two.sign_in("two")
    two.environ = {name: value for name, value in two.environ.items() if "_TWO_" not in name}
    two.environ["WSGI_OAUTH_PROVIDERS"] = "one"
    browser = two.another_browser()
    browser.app.cookiejar = two.browser.app.cookiejar
    assert browser.post("/logout").status_int == 303
    assert stored_sessions(two.store) == []


def test_page_after_the_sign_out_names_no_provider_because_it_could_be_the_wrong_one(two: TwoProviders) -> None:
    two.sign_in("two")
    page = two.browser.get(two.browser.post("/logout").location, headers=HTML)
    assert "You may still be signed in at the provider." in page.text


def test_single_provider_needs_no_choice_and_no_label_in_the_redirect_uri(browser: Browser) -> None:
    assert parameters(browser.get("/?provider=github", headers=HTML).location)["redirect_uri"].endswith("/callback")


# A provider that hangs


def test_user_of_a_removed_provider_is_anonymous_for_a_handler(two: TwoProviders) -> None:
    class Greeting(RequestHandler):
        route = "/greeting"

        def get(self, request: Any) -> Any:
            return self.jsonify({"id": self.identity.id})

    def browser_of(labels: str) -> Browser:
        own = tuple(f"WSGI_OAUTH_{label}_" for label in {"ONE", "TWO"} - set(labels.upper().split()))
        environ = {name: value for name, value in two.environ.items() if not name.startswith(own)}
        config = Config.from_environ({**environ, "WSGI_OAUTH_PROVIDERS": labels})
        return Browser(create_app(config, store=two.store, handlers=[Greeting]), two.one)

    two.browser = browser_of("one two")
    two.sign_in("two")
    assert two.browser.get("/greeting").json["id"].startswith("7@")
    later = browser_of("one")
    later.app.set_cookie("wsgi_oauth", two.browser.cookie)
    assert later.get("/greeting", headers=JSON).status_int == 401


def test_hanging_provider_leaves_upstream_slots_for_the_other(
    two: TwoProviders, barrier_of: Callable[..., Barrier]
) -> None:
    """Of three slots, one provider gets two, for user documents and token requests alike."""
    two.environ["WSGI_OAUTH_UPSTREAM_LIMIT"] = "3"
    two.browser = two.another_browser()
    app = two.browser.app.app
    two.sign_in("one")
    hanging, two.browser = two.browser, Browser(app, two.one)
    cookie = {**JSON, "Cookie": f"wsgi_oauth={hanging.cookie}"}
    callback = two.browser.consent(two.start("one"))
    profiles, tokens = barrier_of(two.one, "profile"), barrier_of(two.one, "token")
    with ThreadPoolExecutor(2) as threads:
        waiting = [
            threads.submit(Browser(app, two.one).get, "/profile", headers=cookie),
            threads.submit(two.browser.get, callback),
        ]
        profiles.wait_for(1)
        tokens.wait_for(1)
        assert Browser(app, two.one).get("/profile", headers=cookie).status_int == 503
        two.browser = Browser(app, two.one)
        assert two.browser.get("/callback/one?state=x&code=y").status_int == 503
        two.sign_in("two")
        assert two.browser.profile().json["login"] == "hubot"
        profiles.open()
        tokens.open()
        assert [answer.result().status_int for answer in waiting] == [200, 303]
    assert Browser(app, two.one).get("/profile", headers=cookie).status_int == 200


def test_handler_that_needs_a_hanging_provider_does_not_start(
    two: TwoProviders, barrier_of: Callable[..., Barrier]
) -> None:
    begun: list[str] = []

    class Needy(RequestHandler):
        route = "/needy"

        def get(self, request: Any) -> Any:
            with self.registration.slot():
                begun.append(self.provider.name)
                return self.jsonify(self.oauth2_session().get_json(self.provider.profile_url))

    two.environ["WSGI_OAUTH_UPSTREAM_LIMIT"] = "3"
    app, cookies = create_app(Config.from_environ(two.environ), store=two.store, handlers=[Needy]), []
    for label in ("one", "two"):
        two.browser = Browser(app, two.one)
        two.sign_in(label)
        cookies.append({**JSON, "Cookie": f"wsgi_oauth={two.browser.cookie}"})
    profiles = barrier_of(two.one, "profile")
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(Browser(app, two.one).get, "/profile", headers=cookies[0]) for _ in range(2)]
        profiles.wait_for(2)
        assert Browser(app, two.one).get("/needy", headers=cookies[0]).status_int == 503
        assert begun == []
        assert Browser(app, two.one).get("/needy", headers=cookies[1]).json["login"] == "hubot"
        profiles.open()
        assert [answer.result().status_int for answer in waiting] == [200, 200]


def test_all_providers_share_the_upstream_limit(two: TwoProviders, barrier_of: Callable[..., Barrier]) -> None:
    two.environ["WSGI_OAUTH_UPSTREAM_LIMIT"] = "3"
    two.browser = two.another_browser()
    app, cookies = two.browser.app.app, []
    for label in ("one", "two"):
        two.browser = Browser(app, two.one)
        two.sign_in(label)
        cookies += [{**JSON, "Cookie": f"wsgi_oauth={two.browser.cookie}"}] * 2
    barriers = [barrier_of(provider, "profile") for provider in (two.one, two.two)]
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(Browser(app, two.one).get, "/profile", headers=cookie) for cookie in cookies[:3]]
        barriers[0].wait_for(2)
        barriers[1].wait_for(1)
        assert Browser(app, two.one).get("/profile", headers=cookies[3]).status_int == 503
        for barrier in barriers:
            barrier.open()
        assert [answer.result().status_int for answer in waiting] == [200] * 3
    assert Browser(app, two.one).get("/profile", headers=cookies[3]).status_int == 200
