"""Access rules: WSGI_OAUTH_ALLOW, and the function `allow` in Python."""

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
    RequestHandler,
    SessionStore,
    create_app,
    errors,
    oauth2_session,
)
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import Server, serve
from wsgi_oauth.oauth import service
from wsgi_oauth.oauth.access import Rules
from wsgi_oauth.oauth.presets import GITHUB, PRESETS
from wsgi_oauth.oauth.provider import EmailsDocument, GroupsDocument

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

OCTOCAT = Identity(
    "github", "583231", username="octocat", email="octocat@github.com", email_verified=True, groups=("github", "cats")
)


def is_allowed(rules: str, identity: Identity = OCTOCAT, function: Callable[[Identity], Any] | None = None) -> bool:
    try:
        Rules(rules.split(), {"github": GITHUB}, function).check(identity, "github")
    except errors.NotAllowed:
        return False
    return True


# The rules


def test_without_a_rule_every_user_is_allowed() -> None:
    assert is_allowed("")
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
def test_user_who_matches_one_rule_is_allowed(rule: str) -> None:
    assert is_allowed(rule)


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
def test_similar_value_does_not_match(rule: str) -> None:
    assert not is_allowed(rule)


def test_username_does_not_match_a_rule_about_ids() -> None:
    """Any user can choose the username 583231."""
    assert not is_allowed("id:583231", replace(OCTOCAT, subject="1", username="583231"))


def test_id_can_be_written_as_in_the_log() -> None:
    """There a colon and a percent sign are encoded; a user whose id looks like an encoded one is another user."""
    user, other = replace(OCTOCAT, subject="urn:ann"), replace(OCTOCAT, subject="urn%3Aann")
    for identity, others in ((user, other), (other, user)):
        printed = f"id:{identity.id.rpartition(':')[2]}"
        assert is_allowed(printed, identity)
        assert not is_allowed(printed, others)
    assert is_allowed("id:urn:ann", user)


def test_log_says_that_the_address_is_not_verified() -> None:
    for address, reason in {"octocat@github.com": "address is verified", None: "github:583231$"}.items():
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
        replace(OCTOCAT, email="mallory@\u0261ithub.com"),  # U+0261, which looks like a g
        replace(OCTOCAT, email="mi\u212ae@example.com"),  # U+212A, the kelvin sign: a plain k in lower case
    ],
)
def test_unverified_or_unusual_address_does_not_match(identity: Identity) -> None:
    assert not is_allowed("email:*@github.com email:octocat@github.com email:mike@example.com", identity)


def test_user_without_a_username_matches_no_rule_about_usernames() -> None:
    assert not is_allowed("user:None", replace(OCTOCAT, username=None))


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
def test_invalid_rule_stops_the_start_and_is_named(word: str) -> None:
    with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_ALLOW") as refused:
        is_allowed(word)
    assert ascii(word) in str(refused.value)


@pytest.mark.parametrize(
    ("provider", "word"),
    [("microsoft", "user:ann"), ("microsoft", "email:*@example.com"), ("zoom", "user:ann"), ("spotify", "org:x")],
)
def test_rule_that_a_provider_does_not_support_stops_the_start(provider: str, word: str) -> None:
    with pytest.raises(errors.ConfigError, match=PRESETS[provider].title):
        Rules([word], {provider: PRESETS[provider]})


def test_rule_names_its_provider_if_there_are_several() -> None:
    """The same username can belong to different users at two providers."""
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


def test_argument_allow_must_be_a_function() -> None:
    config = Config(client_id="i", client_secret="s", session_store="memory:")
    with pytest.raises(TypeError, match=r"Config\.allow"):
        create_app(config, allow="user:octocat")  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [False, None, 1, "yes", [True]])
def test_function_allows_a_user_only_with_true(answer: Any) -> None:
    assert not is_allowed("", function=lambda _: answer)
    assert is_allowed("", function=lambda _: True)


def test_user_has_to_satisfy_function_and_rules() -> None:
    assert not is_allowed("user:hubot", function=lambda _: True)
    assert not is_allowed("user:octocat", function=lambda _: False)
    assert is_allowed("user:octocat", function=lambda _: True)


# In the application


@pytest.fixture
def application(provider: LocalProvider, store: SessionStore) -> Callable[..., Any]:
    """Make an application with rules. The local provider has verified addresses and no groups."""

    def make(rules: str = "", **more: Any) -> Any:
        return create_app(Config.from_environ(environ_for(provider, ALLOW=rules)), store=store, **more)

    return make


@pytest.fixture(autouse=True)
def configured_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Describe the local provider so that rules about usernames are supported."""
    known = service.provider_from_config
    monkeypatch.setattr(
        service,
        "provider_from_config",
        lambda config: known(config)._replace(username_is_unique=True, choose_account=(("prompt", "select_account"),)),
    )


def test_allowed_user_signs_in(application: Callable[..., Any], provider: LocalProvider, store: SessionStore) -> None:
    browser = Browser(application("user:octocat"), provider)
    assert browser.sign_in().location == "/profile"
    assert browser.profile().json["login"] == "octocat"
    [session] = stored_sessions(store)
    assert session["oauth_identity"]["username"] == "octocat"


def test_other_user_gets_a_403_and_is_not_signed_in(
    application: Callable[..., Any], provider: LocalProvider, store: SessionStore
) -> None:
    browser = Browser(application("user:hubot"), provider)
    answer = browser.get(browser.callback_url("/profile?tab=2"))
    assert (answer.status_int, answer.content_type) == (403, "text/html")
    assert "octocat" in answer.text
    assert not any("oauth_token" in session for session in stored_sessions(store))
    assert browser.profile().json["error"] == "not_signed_in"


def test_page_links_to_a_sign_in_with_another_account(application: Callable[..., Any], provider: LocalProvider) -> None:
    browser = Browser(application("user:hubot"), provider)
    answer = browser.get(browser.callback_url("/profile?tab=2"))
    [link] = answer.html.find_all("a")
    assert "another account" in link.text
    switching = browser.get(link["href"])
    assert parameters(switching.location)["prompt"] == "select_account"
    provider.user = {**provider.user, "login": "hubot"}
    assert browser.get(browser.consent(switching.location)).location == "/profile?tab=2"


def test_normal_sign_in_does_not_request_the_choice_of_an_account(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    assert "prompt" not in parameters(Browser(application("user:octocat"), provider).start())


def test_identity_stays_after_a_second_sign_in_of_the_same_user(
    application: Callable[..., Any], provider: LocalProvider, store: SessionStore
) -> None:
    browser = Browser(application("user:octocat"), provider)
    browser.sign_in()
    browser.sign_in()
    [session] = stored_sessions(store)
    assert session["oauth_identity"]["username"] == "octocat"


def test_refused_second_account_does_not_end_the_session(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    browser = Browser(application("user:octocat"), provider)
    browser.sign_in()
    cookie = browser.cookie
    again = browser.start()
    provider.user = {**provider.user, "id": 7, "login": "hubot"}
    assert browser.get(browser.consent(again)).status_int == 403
    assert browser.cookie == cookie


def test_changed_rules_apply_to_existing_sessions(application: Callable[..., Any], provider: LocalProvider) -> None:
    """The user loses access with the next request, and can still sign out."""
    browser = Browser(application("user:octocat"), provider)
    browser.sign_in()
    later = Browser(application("user:hubot"), provider)
    later.app.cookiejar = browser.app.cookiejar
    answer = later.profile()
    assert (answer.status_int, answer.json["error"]) == (403, "not_allowed")
    assert later.get("/").status_int == 302
    assert later.post("/logout").status_int == 200


def test_new_rules_apply_to_existing_sessions_without_an_identity(
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


def test_rules_apply_to_handlers_of_the_application(application: Callable[..., Any], provider: LocalProvider) -> None:
    browser = Browser(application(handlers=[Secret]), provider)
    browser.sign_in()
    later = Browser(application("user:hubot", handlers=[Secret]), provider)
    later.app.cookiejar = browser.app.cookiejar
    assert later.get("/secret", headers=JSON).json["error"] == "not_allowed"


def test_rules_apply_at_the_gate(application: Callable[..., Any], provider: LocalProvider) -> None:
    def protected(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(environ.get("REMOTE_USER", "anonymous")).encode()]

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
    assert later.get("/public").text == "anonymous"


def show_login(environ: Any, start_response: Any) -> Any:
    """Show the login of the signed-in user, read from the provider without a check of the identity."""
    try:
        name = oauth2_session(environ).get_json(environ["test.profile_url"])["login"]
    except errors.NotSignedIn:
        name = "anonymous"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [name.encode()]


@pytest.mark.parametrize("headers", [HTML, JSON], ids=["page", "program"])
@pytest.mark.parametrize("reason", ["not allowed", "not allowed, identity known", "identity unavailable"])
def test_public_page_of_the_gate_has_no_token_of_a_user_without_access(
    reason: str, headers: dict[str, str], application: Callable[..., Any], provider: LocalProvider
) -> None:
    def gated(allow: str) -> Browser:
        browser = Browser(LoginRequired(show_login, application(allow), public=("/public",)), provider)
        browser.app.extra_environ["test.profile_url"] = provider.profile_url
        return browser

    browser, later = gated(""), gated("user:hubot")
    browser.get(browser.consent(browser.get("/auth/?next=/public").location))
    assert browser.get("/public").text == "octocat"
    if reason.endswith("known"):
        assert browser.get("/inside").text == "octocat"
    later.app.cookiejar = browser.app.cookiejar
    if reason == "identity unavailable":
        provider.faults.add("profile.500")
    assert later.app.get("/public", headers=headers).text == "anonymous"


class Lenient(RequestHandler):
    route = "/lenient"

    def get(self, request: Any) -> Any:
        with suppress(errors.Error):
            request.session.get("greeting")
        return self.jsonify({"token": "oauth_token" in request.session})


def test_handler_that_catches_the_refusal_gets_it_again(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    browser = Browser(application(), provider)
    browser.sign_in()
    later = Browser(application("user:hubot", handlers=[Lenient]), provider)
    later.app.cookiejar = browser.app.cookiejar
    assert later.get("/lenient", headers=JSON).json.get("error") == "not_allowed"


def test_token_that_is_rejected_during_the_access_check_ends_the_session(
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
def test_user_is_not_signed_in_if_the_identity_is_unknown(
    fault: str, application: Callable[..., Any], provider: LocalProvider, store: SessionStore
) -> None:
    browser = Browser(application("user:octocat"), provider)
    callback = browser.callback_url()
    provider.faults.add(f"profile.{fault}", times=None)
    assert browser.get(callback).status_int >= 400
    assert not any("oauth_token" in session for session in stored_sessions(store))


def test_function_decides_and_denies_access_if_it_fails(
    application: Callable[..., Any], provider: LocalProvider, store: SessionStore
) -> None:
    asked = []

    def allow(identity: Identity) -> bool:
        asked.append(identity.id.rpartition(":")[2])
        return identity.username == "octocat"

    Browser(application(allow=allow), provider).sign_in()
    assert asked == ["583231"]
    broken = Browser(application(allow=lambda identity: identity.unknown), provider)
    assert broken.get(broken.callback_url()).status_int == 403
    assert len([session for session in stored_sessions(store) if "oauth_token" in session]) == 1


def test_function_that_fails_at_the_gate_denies_access(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(environ.get("REMOTE_USER", "anonymous")).encode()]

    browser = Browser(LoginRequired(app, application(), public=("/public",)), provider)
    browser.get(browser.consent(browser.get("/auth/?next=/inside").location))
    assert browser.get("/inside").status_int == 200
    oauth_app = application(allow=lambda identity: identity.unknown)
    later = Browser(LoginRequired(app, oauth_app, public=("/public",)), provider)
    later.app.cookiejar = browser.app.cookiejar
    assert later.get("/inside").status_int == 403
    assert later.get("/public").text == "anonymous"


def test_script_gets_the_refusal_as_json(application: Callable[..., Any], provider: LocalProvider) -> None:
    browser = Browser(application(), provider)
    browser.sign_in()
    later = Browser(application("user:hubot"), provider)
    later.app.cookiejar = browser.app.cookiejar
    answer = later.get("/profile", headers={"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"})
    assert (answer.status_int, answer.json["error"]) == (403, "not_allowed")


# Lists of addresses and organisations


@pytest.mark.parametrize(
    ("allow", "scope"),
    [("", ""), ("user:octocat", ""), ("email:*@github.com", "user:email"), ("org:github", "read:org")],
)
def test_scope_for_the_rules_is_requested(allow: str, scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"CLIENT_ID": "x", "CLIENT_SECRET": "y", "SESSION_STORE": "memory:", "ALLOW": allow}
    app: Any = create_app(Config.from_environ({f"WSGI_OAUTH_{name}": value for name, value in environ.items()}))
    assert next(iter(app.oauth.registrations.values())).provider.scope == scope


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
def test_verified_addresses_and_organisations_are_read_from_lists(
    allow: str, status: int, provider: LocalProvider, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listing(LISTS) as server:
        list_at(server.url, monkeypatch)
        app = create_app(Config.from_environ(environ_for(provider, ALLOW=allow)), store=store)
        browser = Browser(app, provider)
        assert browser.get(browser.callback_url()).status_int == status


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_list_that_no_rule_needs_may_fail(
    status: int, provider: LocalProvider, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listing({}, status) as server:
        list_at(server.url, monkeypatch)
        browser = Browser(create_app(Config.from_environ(environ_for(provider)), store=store), provider)
        browser.sign_in()
        assert browser.profile().json["login"] == "octocat"
        [session] = stored_sessions(store)
        assert session["oauth_identity"]["username"] == "octocat"


@pytest.mark.parametrize(("status", "outcome"), [(401, 502), (403, 403), (404, 403), (500, 502)])
def test_sign_in_fails_if_a_needed_list_fails(
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
    """Serve *lists* to requests with a token."""

    @Request.application
    def api(request: Request) -> Response:
        assert request.headers["Authorization"].startswith("Bearer ")
        return Response(json.dumps(lists.get(request.path)), status, mimetype="application/json")

    with serve(api) as server:
        yield server


def list_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the provider have lists of addresses and groups at *url*, for scopes that each token has."""
    known = service.provider_from_config
    lists: dict[str, Any] = {"emails": EmailsDocument(f"{url}/user/emails", "email")}
    lists["groups"] = (GroupsDocument(f"{url}/user/orgs", "profile"),)
    monkeypatch.setattr(service, "provider_from_config", lambda config: known(config)._replace(**lists))
