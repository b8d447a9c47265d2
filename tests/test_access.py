"""Who may enter, of all who can sign in: WSGI_OAUTH_ALLOW, and a function in Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from conftest import HTML, JSON, Browser, environ_for, parameters, stored_sessions
from werkzeug import Request, Response

from wsgi_oauth import (
    Config,
    Identity,
    LoginRequired,
    MemoryStore,
    RequestHandler,
    SessionStore,
    create_app,
    errors,
    oauth2_session,
)
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import Server, serve
from wsgi_oauth.oauth import registration
from wsgi_oauth.oauth.access import Rules
from wsgi_oauth.oauth.presets import GITHUB, PRESETS

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

OCTOCAT = Identity(
    "github", "583231", username="octocat", email="octocat@github.com", email_verified=True, groups=("github", "cats")
)


@pytest.fixture
def store() -> SessionStore:
    """One kind: what is tested here knows nothing of stores."""
    return MemoryStore()


def admits(rules: str, identity: Identity = OCTOCAT, function: Callable[[Identity], Any] | None = None) -> bool:
    try:
        Rules(rules.split(), {"github": GITHUB}, function).check(identity, "github")
    except errors.NotAllowed:
        return False
    return True


# The rules


def test_without_a_rule_everybody_may_enter() -> None:
    assert admits("")
    assert not Rules((), {"github": GITHUB})


@pytest.mark.parametrize(
    "rule",
    [
        "user:octocat",
        "id:583231",
        "id:github:583231",
        "user:github:octocat",
        "email:octocat@github.com",
        "email:Octocat@GitHub.com",
        "email:*@github.com",
        "org:github",
        "group:cats",
        "user:hubot email:nobody@example.com org:cats",
    ],
)
def test_one_rule_that_fits_is_enough(rule: str) -> None:
    assert admits(rule)


@pytest.mark.parametrize(
    "rule",
    [
        "user:octoca",
        "user:octocat2",
        "user:Octocat",
        "user:583231",
        "id:octocat",
        "id:58323",
        "email:cat@github.com",
        "email:*@hub.com",
        "email:*@example.com",
        "email:*@www.github.com",
        "org:Github",
        "org:git",
        "group:cat",
    ],
)
def test_what_only_looks_alike_does_not_fit(rule: str) -> None:
    assert not admits(rule)


def test_a_name_that_looks_like_somebodys_id_is_not_that_somebody() -> None:
    """Anybody may call themselves 583231."""
    assert not admits("id:583231", replace(OCTOCAT, subject="1", username="583231"))


def test_an_id_can_be_copied_from_where_it_is_printed() -> None:
    """There a colon and a percent sign are encoded; somebody whose id looks like that is somebody else."""
    somebody, other = replace(OCTOCAT, subject="urn:ann"), replace(OCTOCAT, subject="urn%3Aann")
    for identity, others in ((somebody, other), (other, somebody)):
        printed = f"id:{identity.id.rpartition(':')[2]}"
        assert admits(printed, identity)
        assert not admits(printed, others)
    assert admits("id:urn:ann", somebody)


def test_the_log_says_that_it_is_the_verification_which_is_missing() -> None:
    for address, reason in {"octocat@github.com": "address is verified", None: "enter$"}.items():
        nearly = replace(OCTOCAT, email=address, email_verified=False)
        with pytest.raises(errors.NotAllowed, match=reason):
            Rules(["email:*@github.com"], {"github": GITHUB}).check(nearly, "github")


@pytest.mark.parametrize(
    "identity",
    [
        replace(OCTOCAT, email_verified=False),
        replace(OCTOCAT, email=None),
        replace(OCTOCAT, email="mallory@evil.example@github.com"),
        replace(OCTOCAT, email="github.com"),
        replace(OCTOCAT, email="mallory@github.com.evil.example"),
        replace(OCTOCAT, email="mallory@\u0261ithub.com"),  # a letter that looks like a g
        replace(OCTOCAT, email="mi\u212ae@example.com"),  # the sign for kelvin: in lower case it is a plain k
    ],
)
def test_an_address_that_is_not_verified_or_not_plain_fits_nothing(identity: Identity) -> None:
    assert not admits("email:*@github.com email:octocat@github.com email:mike@example.com", identity)


def test_who_has_no_name_does_not_fit_a_rule_about_names() -> None:
    assert not admits("user:None", replace(OCTOCAT, username=None))


@pytest.mark.parametrize(
    "word",
    [
        "octocat",
        "user:",
        ":octocat",
        "users:octocat",
        "user:octocat,id:1",
        "user:octocat,mona",
        "org:octo-org,user:octocat",
        "org:octo-org,acme",
        "group:staff,admins",
        "group:staff,",
        "group:cn=staff,dc=example,user:octocat",
        "email:x",
        "email:@x",
        "email:x@",
        "email:*",
        "email:a*@b.c",
        "email:a@b@c",
        "email:*@b\u00fccher.de",
    ],
)
def test_what_is_no_rule_stops_the_start_and_is_named(word: str) -> None:
    with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_ALLOW") as refused:
        admits(word)
    assert ascii(word) in str(refused.value)


@pytest.mark.parametrize(
    ("provider", "word"),
    [("microsoft", "user:ann"), ("microsoft", "email:*@example.com"), ("zoom", "user:ann"), ("spotify", "org:x")],
)
def test_a_rule_that_is_not_safe_at_a_provider_or_never_true_stops_the_start(provider: str, word: str) -> None:
    with pytest.raises(errors.ConfigError, match=PRESETS[provider].title):
        Rules([word], {provider: PRESETS[provider]})


def test_with_several_providers_a_rule_says_whose_it_is() -> None:
    """A name at one provider is somebody else's at another."""
    two = {"github": GITHUB, "gitlab": PRESETS["gitlab"]}
    rules = Rules(["user:github:octocat", "id:gitlab:7"], two)
    rules.check(OCTOCAT, "github")
    rules.check(Identity("gitlab", "7"), "gitlab")
    for identity in (replace(OCTOCAT, provider="gitlab"), Identity("gitlab", "8")):
        with pytest.raises(errors.NotAllowed):
            rules.check(identity, "gitlab")
    with pytest.raises(errors.NotAllowed):
        rules.check(Identity("github", "7"), "github")
    with pytest.raises(errors.ConfigError, match=r"user:github:octocat.* at github, gitlab"):
        Rules(["user:octocat"], two)


def test_a_rule_is_no_function() -> None:
    config = Config(client_id="i", client_secret="s", session_store="memory:")
    with pytest.raises(TypeError, match=r"Config\.allow"):
        create_app(config, allow="user:octocat")  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [False, None, 1, "yes", [True]])
def test_only_true_is_a_yes_of_a_function(answer: Any) -> None:
    assert not admits("", function=lambda _: answer)
    assert admits("", function=lambda _: True)


def test_a_function_and_the_rules_have_to_agree() -> None:
    assert not admits("user:hubot", function=lambda _: True)
    assert not admits("user:octocat", function=lambda _: False)
    assert admits("user:octocat", function=lambda _: True)


# In the application


@pytest.fixture
def application(provider: LocalProvider, store: SessionStore) -> Callable[..., Any]:
    """Make the application with rules; the local provider has verified its user's address, and knows no groups."""

    def make(rules: str = "", **more: Any) -> Any:
        return create_app(Config.from_environ(environ_for(provider, ALLOW=rules)), store=store, **more)

    return make


@pytest.fixture(autouse=True)
def configured_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local provider is in no catalogue; what its user document means is GitHub's affair otherwise."""
    known = registration.provider_from_config
    monkeypatch.setattr(
        registration,
        "provider_from_config",
        lambda config: known(config)._replace(username_is_unique=True, choose_account=(("prompt", "select_account"),)),
    )


def test_who_is_allowed_signs_in_and_notices_nothing(
    application: Callable[..., Any], provider: LocalProvider, store: SessionStore
) -> None:
    browser = Browser(application("user:octocat"), provider)
    assert browser.sign_in().location == "/profile"
    assert browser.profile().json["login"] == "octocat"
    [session] = stored_sessions(store)
    assert session["oauth_identity"]["username"] == "octocat"


def test_who_is_not_allowed_is_told_so_and_not_signed_in(
    application: Callable[..., Any], provider: LocalProvider, store: SessionStore
) -> None:
    browser = Browser(application("user:hubot"), provider)
    answer = browser.get(browser.callback_url("/profile?tab=2"))
    assert (answer.status_int, answer.content_type) == (403, "text/html")
    assert "octocat" in answer.text
    assert not any("oauth_token" in session for session in stored_sessions(store))
    assert browser.profile().json["error"] == "not_signed_in"


def test_from_there_a_link_leads_to_another_account_and_back(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    browser = Browser(application("user:hubot"), provider)
    answer = browser.get(browser.callback_url("/profile?tab=2"))
    [link] = answer.html.find_all("a")
    assert "another account" in link.text
    switching = browser.get(link["href"])
    assert parameters(switching.location)["prompt"] == "select_account"
    provider.user = {**provider.user, "login": "hubot"}
    assert browser.get(browser.consent(switching.location)).location == "/profile?tab=2"


def test_an_ordinary_sign_in_does_not_ask_for_an_account(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    assert "prompt" not in parameters(Browser(application("user:octocat"), provider).start())


def test_who_signs_in_once_more_is_not_forgotten(
    application: Callable[..., Any], provider: LocalProvider, store: SessionStore
) -> None:
    """The provider has just said who it is; the next page need not ask again."""
    browser = Browser(application("user:octocat"), provider)
    browser.sign_in()
    browser.sign_in()
    [session] = stored_sessions(store)
    assert session["oauth_identity"]["username"] == "octocat"


def test_a_refused_account_costs_nobody_the_session_that_was_there(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    browser = Browser(application("user:octocat"), provider)
    browser.sign_in()
    cookie = browser.cookie
    again = browser.start()
    provider.user = {**provider.user, "id": 7, "login": "hubot"}
    assert browser.get(browser.consent(again)).status_int == 403
    assert browser.cookie == cookie


def test_the_rules_of_today_hold_for_the_sign_ins_of_yesterday(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    """Whoever is taken off the list is out with the next request, and can still sign out."""
    browser = Browser(application("user:octocat"), provider)
    browser.sign_in()
    later = Browser(application("user:hubot"), provider)
    later.app.cookiejar = browser.app.cookiejar
    answer = later.profile()
    assert (answer.status_int, answer.json["error"]) == (403, "not_allowed")
    assert later.get("/").status_int == 302
    assert later.post("/logout").status_int == 200


def test_a_session_from_before_there_were_rules_is_looked_at_too(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    browser = Browser(application(), provider)
    browser.sign_in()
    later = Browser(application("user:hubot"), provider)
    later.app.cookiejar = browser.app.cookiejar
    assert later.profile().status_int == 403


class Secret(RequestHandler):
    route = "/secret"

    def get(self, request: Any) -> Any:
        return self.jsonify({"secret": bool(request.session["oauth_token"])})


def test_the_rules_hold_for_pages_of_ones_own(application: Callable[..., Any], provider: LocalProvider) -> None:
    browser = Browser(application(handlers=[Secret]), provider)
    browser.sign_in()
    later = Browser(application("user:hubot", handlers=[Secret]), provider)
    later.app.cookiejar = browser.app.cookiejar
    assert later.get("/secret", headers=JSON).json["error"] == "not_allowed"


def test_the_rules_hold_at_the_gate(application: Callable[..., Any], provider: LocalProvider) -> None:
    def protected(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(environ.get("REMOTE_USER", "nobody")).encode()]

    def gated(allow: str) -> Any:
        return LoginRequired(protected, application(allow), public=("/public",))

    browser = Browser(gated("user:octocat"), provider)
    started = browser.get("/auth/?next=/inside").location
    browser.get(browser.consent(started))
    assert browser.get("/inside").text.endswith(":583231")
    later = Browser(gated("user:hubot"), provider)
    later.app.cookiejar = browser.app.cookiejar
    refused = later.get("/inside")
    assert refused.status_int == 403
    assert "switch=1" in refused.html.find("a")["href"]
    assert later.get("/public").text == "nobody"


@pytest.mark.parametrize("headers", [HTML, JSON], ids=["page", "program"])
@pytest.mark.parametrize("pages", [[], ["/inside"]], ids=["not known yet", "known"])
def test_on_a_public_page_who_may_not_enter_is_nobody_with_a_token_of_nobody(
    pages: list[str], headers: dict[str, str], application: Callable[..., Any], provider: LocalProvider
) -> None:
    """Also when the page does not ask who it is, and goes by whether there is a token."""

    def shown(environ: Any, start_response: Any) -> Any:
        try:
            name = oauth2_session(environ).get_json(provider.profile_url)["login"]
        except errors.NotSignedIn:
            name = "nobody"
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [name.encode()]

    browser = Browser(LoginRequired(shown, application(), public=("/public",)), provider)
    browser.get(browser.consent(browser.get("/auth/?next=/public").location))
    for page in pages:
        assert browser.get(page).text == "octocat"
    later = Browser(LoginRequired(shown, application("user:hubot"), public=("/public",)), provider)
    later.app.cookiejar = browser.app.cookiejar
    assert later.app.get("/public", headers=headers).text == "nobody"


def test_a_provider_that_cannot_say_who_it_is_does_not_open_a_public_page_further(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    def shown(environ: Any, start_response: Any) -> Any:
        try:
            name = oauth2_session(environ).get_json(provider.profile_url)["login"]
        except errors.NotSignedIn:
            name = "nobody"
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [name.encode()]

    browser = Browser(LoginRequired(shown, application(), public=("/public",)), provider)
    browser.get(browser.consent(browser.get("/auth/?next=/public").location))
    later = Browser(LoginRequired(shown, application("user:hubot"), public=("/public",)), provider)
    later.app.cookiejar = browser.app.cookiejar
    provider.faults.add("profile.500")
    assert later.get("/public").text == "nobody"


class Lenient(RequestHandler):
    route = "/lenient"

    def get(self, request: Any) -> Any:
        with suppress(errors.Error):
            request.session.get("greeting")
        return self.jsonify({"token": "oauth_token" in request.session})


def test_a_page_that_takes_a_refusal_lightly_gets_the_next_one(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    """However often it asks for the session."""
    browser = Browser(application(), provider)
    browser.sign_in()
    later = Browser(application("user:hubot", handlers=[Lenient]), provider)
    later.app.cookiejar = browser.app.cookiejar
    assert later.get("/lenient", headers=JSON).json.get("error") == "not_allowed"


def test_a_session_whose_token_is_refused_ends_also_when_that_shows_at_the_rules(
    application: Callable[..., Any], provider: LocalProvider, store: SessionStore
) -> None:
    browser = Browser(application(), provider)
    browser.sign_in()
    later = Browser(application("user:octocat"), provider)
    later.app.cookiejar = browser.app.cookiejar
    provider.faults.add("profile.401", times=None)
    assert later.profile().status_int == 401
    assert stored_sessions(store) == []
    assert provider.count("refresh") == 1


@pytest.mark.parametrize("fault", ["500", "html_200", "empty_200", "401"])
def test_when_nobody_can_say_who_it_is_nobody_enters(
    fault: str, application: Callable[..., Any], provider: LocalProvider, store: SessionStore
) -> None:
    browser = Browser(application("user:octocat"), provider)
    callback = browser.callback_url()
    provider.faults.add(f"profile.{fault}", times=None)
    assert browser.get(callback).status_int >= 400
    assert not any("oauth_token" in session for session in stored_sessions(store))


def test_a_function_decides_and_one_that_fails_lets_nobody_in(
    application: Callable[..., Any], provider: LocalProvider, store: SessionStore
) -> None:
    asked = []

    def allow(identity: Identity) -> bool:
        asked.append(identity.id.rpartition(":")[2])
        return identity.username == "octocat"

    Browser(application(allow=allow), provider).sign_in()
    assert asked == ["583231"]
    broken = Browser(application(allow=lambda identity: identity.nonsense), provider)
    assert broken.get(broken.callback_url()).status_int == 403
    assert len([session for session in stored_sessions(store) if "oauth_token" in session]) == 1


def test_a_function_that_fails_at_the_gate_is_a_no_and_no_exception(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(environ.get("REMOTE_USER", "nobody")).encode()]

    browser = Browser(LoginRequired(app, application(), public=("/public",)), provider)
    browser.get(browser.consent(browser.get("/auth/?next=/inside").location))
    assert browser.get("/inside").status_int == 200
    oauth_app = application(allow=lambda identity: identity.nonsense)
    later = Browser(LoginRequired(app, oauth_app, public=("/public",)), provider)
    later.app.cookiejar = browser.app.cookiejar
    assert later.get("/inside").status_int == 403
    assert later.get("/public").text == "nobody"


def test_on_a_public_page_who_is_not_allowed_is_a_stranger_without_a_token(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        try:
            token = str(oauth2_session(environ).token)
        except errors.NotSignedIn:
            token = "none"
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [token.encode()]

    browser = Browser(LoginRequired(app, application(), public=("/public",)), provider)
    browser.get(browser.consent(browser.get("/auth/?next=/public").location))
    assert "access_token" in browser.get("/public").text
    later = Browser(LoginRequired(app, application("user:hubot"), public=("/public",)), provider)
    later.app.cookiejar = browser.app.cookiejar
    assert later.get("/public").text == "none"


def test_a_script_gets_the_refusal_as_json(application: Callable[..., Any], provider: LocalProvider) -> None:
    browser = Browser(application(), provider)
    browser.sign_in()
    later = Browser(application("user:hubot"), provider)
    later.app.cookiejar = browser.app.cookiejar
    answer = later.get("/profile", headers={"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"})
    assert (answer.status_int, answer.json["error"]) == (403, "not_allowed")


# What a rule needs is asked for, and read


@pytest.mark.parametrize(
    ("allow", "scope"),
    [("", ""), ("user:octocat", ""), ("email:*@github.com", "user:email"), ("org:github", "read:org")],
)
def test_the_scope_that_a_rule_needs_is_asked_for(allow: str, scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"CLIENT_ID": "x", "CLIENT_SECRET": "y", "SESSION_STORE": "memory:", "ALLOW": allow}
    app: Any = create_app(Config.from_environ({f"WSGI_OAUTH_{name}": value for name, value in environ.items()}))
    assert app.provider.scope == scope


LISTS = {
    "/user/emails": [
        {"email": "cat@example.com", "primary": True, "verified": False},
        {"email": "old@github.com", "primary": False, "verified": True},
        {"email": "cat@example.org", "primary": True, "verified": True},
    ],
    "/user/orgs": [{"login": "github", "id": 9919}, {"login": "cats"}],
}


@pytest.mark.parametrize(
    ("allow", "status"),
    [
        ("email:*@github.com", 303),
        ("email:*@example.com", 403),
        ("email:*@example.org", 303),
        ("org:cats", 303),
        ("org:dogs", 403),
        ("org:9919", 403),
    ],
)
def test_verified_addresses_and_organisations_come_from_the_providers_lists(
    allow: str, status: int, provider: LocalProvider, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listing(LISTS) as server:
        list_at(server.url, monkeypatch)
        app = create_app(Config.from_environ(environ_for(provider, ALLOW=allow)), store=store)
        browser = Browser(app, provider)
        assert browser.get(browser.callback_url()).status_int == status


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_list_that_nobody_needs_and_that_fails_costs_nobody_the_profile(
    status: int, provider: LocalProvider, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listing({}, status) as server:
        list_at(server.url, monkeypatch)
        browser = Browser(create_app(Config.from_environ(environ_for(provider)), store=store), provider)
        browser.sign_in()
        assert browser.profile().json["login"] == "octocat"
        [session] = stored_sessions(store)
        assert session["oauth_identity"]["username"] == "octocat"


@pytest.mark.parametrize(("status", "outcome"), [(401, 502), (403, 403), (404, 502), (500, 502)])
def test_a_list_that_a_rule_needs_and_that_fails_lets_nobody_in(
    *, status: int, outcome: int, provider: LocalProvider, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listing({}, status) as server:
        list_at(server.url, monkeypatch)
        app = create_app(Config.from_environ(environ_for(provider, ALLOW="org:cats")), store=store)
        browser = Browser(app, provider)
        assert browser.get(browser.callback_url()).status_int == outcome
        assert not any("oauth_token" in session for session in stored_sessions(store))


@contextmanager
def listing(lists: dict[str, Any], status: int = 200) -> Iterator[Server]:
    """A server that has *lists* for who comes with a token."""

    @Request.application
    def api(request: Request) -> Response:
        assert request.headers["Authorization"].startswith("Bearer ")
        return Response(json.dumps(lists.get(request.path)), status, mimetype="application/json")

    with serve(api) as server:
        yield server


def list_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the provider list addresses and groups there, for scopes that each token has."""
    known = registration.provider_from_config
    lists = {"emails_url": f"{url}/user/emails", "emails_scope": "email"}
    lists |= {"groups_url": f"{url}/user/orgs", "groups_scope": "profile"}
    monkeypatch.setattr(registration, "provider_from_config", lambda config: known(config)._replace(**lists))
