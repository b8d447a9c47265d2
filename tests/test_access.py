"""Access rules: WSGI_OAUTH_ALLOW, and the function `allow` in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from conftest import HTML, JSON, Browser, environ_for, parameters, stored_sessions

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
from wsgi_oauth.config.provider import Provider
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.oauth import service
from wsgi_oauth.oauth.access import Rules
from wsgi_oauth.oauth.claims import find_path
from wsgi_oauth.oauth.presets import GITHUB, PRESETS

OCTOCAT = Identity(
    "github", "583231", username="octocat", email="octocat@github.com", email_verified=True, groups=("github", "cats")
)


def parse(rules: str | Sequence[str], **providers: Provider) -> Rules:
    """Parse rules as the application does, for GitHub unless *providers* are given by label."""
    config = Config(client_id="i", client_secret="s", allow=rules)
    return Rules(config.allow, providers or {"github": GITHUB}, has_labels=len(providers) > 1)


def is_allowed(
    rules: str | Sequence[str], identity: Identity = OCTOCAT, function: Callable[[Identity], Any] | None = None
) -> bool:
    config = Config(client_id="i", client_secret="s", allow=rules)
    try:
        Rules(config.allow, {"github": GITHUB}, function).check(identity, "github")
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
    """The log encodes a colon and a percent sign. An id that looks like an encoded one belongs to another user."""
    user, other = replace(OCTOCAT, subject="urn:ann"), replace(OCTOCAT, subject="urn%3Aann")
    for identity, others in ((user, other), (other, user)):
        printed = f"id:{identity.id.rpartition(':')[2]}"
        assert is_allowed(printed, identity)
        assert not is_allowed(printed, others)
    assert is_allowed("id:urn:ann", user)


@pytest.mark.parametrize(
    ("rule", "identity", "reason"),
    [
        ("email:*@github.com", replace(OCTOCAT, email_verified=False), r"WSGI_OAUTH_TRUST_UNVERIFIED_EMAIL=yes\)$"),
        ("email:*@example.com", replace(OCTOCAT, email_verified=False), "583231@github$"),
        (
            "email:*@github.com",
            replace(OCTOCAT, email=None, email_verified=False),
            "gives no address .*WSGI_OAUTH_SCOPE, or set WSGI_OAUTH_EMAIL_CLAIM",
        ),
        (
            "org:dogs",
            replace(OCTOCAT, groups=()),
            r"no groups \(.* add their scope to WSGI_OAUTH_SCOPE, or set WSGI_OAUTH_GROUPS_CLAIM\)$",
        ),
        ("org:dogs", OCTOCAT, r"names one of the groups that the provider gives \('github', 'cats'\)$"),
        ("claim:team.name=x", OCTOCAT, "gives no claim 'team.name'$"),
        ("claim:type=Bot", replace(OCTOCAT, claims={"type": "User"}), "583231@github$"),
    ],
)
def test_log_names_the_information_that_a_rule_needs_and_the_provider_does_not_give(
    rule: str, identity: Identity, reason: str
) -> None:
    with pytest.raises(errors.NotAllowed, match=reason) as refused:
        parse(rule).check(identity, "github")
    assert "WSGI_OAUTH" not in refused.value.text


def test_address_in_the_remedy_is_that_of_the_labelled_provider() -> None:
    """The name of a setting for one provider contains the label of that provider."""
    rules = parse("email:hub:*@github.com", hub=GITHUB, lab=PRESETS["gitlab"])
    with pytest.raises(errors.NotAllowed, match="WSGI_OAUTH_HUB_TRUST_UNVERIFIED_EMAIL"):
        rules.check(replace(OCTOCAT, email_verified=False), "hub")


# The words of WSGI_OAUTH_ALLOW


STAFF = replace(OCTOCAT, groups=("Domain Admins",))


@pytest.mark.parametrize(
    "rules",
    [
        'group:"Domain Admins"',
        "group:'Domain Admins'",
        '"group:Domain Admins"',
        r"group:Domain\ Admins",
        'user:hubot group:"Domain Admins"\n  org:dogs',
        ("group:Domain Admins",),
        ('group:"Domain Admins"',),
    ],
)
def test_value_with_a_space_is_quoted_as_in_a_shell(rules: str | Sequence[str]) -> None:
    assert is_allowed(rules, STAFF)


def test_value_with_spaces_but_without_quotes_stops_the_start_with_the_corrected_rule() -> None:
    with pytest.raises(errors.ConfigError, match='use quotes: group:"Domain Admins"'):
        parse("org:dogs group:Domain Admins")


@pytest.mark.parametrize(
    "name", ["Sales, EMEA", "O'Brien", 'the "A" team', r"CORP\Admins", "cn=staff,dc=example", "a=b", "x#y"]
)
def test_quoted_value_may_contain_any_character(name: str) -> None:
    escaped = name.replace("\\", r"\\").replace('"', r"\"")
    assert is_allowed(f'group:"{escaped}"', replace(OCTOCAT, groups=(name,)))
    assert is_allowed((f"group:{name}",), replace(OCTOCAT, groups=(name,)))


@pytest.mark.parametrize("rules", ['group:"Domain Admins', "group:O'Brien", "group:x\\", r"group:CORP\Admins"])
def test_unbalanced_quote_and_ambiguous_backslash_stop_the_start(rules: str) -> None:
    with pytest.raises(
        errors.ConfigError, match=r"WSGI_OAUTH_ALLOW: has .* put values with special characters in quotes"
    ):
        parse(rules)


def test_quotes_around_all_rules_stop_the_start() -> None:
    """Docker's `--env-file` keeps the quotes of a value."""
    with pytest.raises(errors.ConfigError, match="quotes enclose the value of one rule"):
        parse('"user:octocat org:dogs"')


# Claims


EMPLOYEE = replace(
    OCTOCAT,
    claims={
        "department": "Human Resources",
        "level": 5,
        "ratio": 0.5,
        "staff": True,
        "manager": None,
        "hd": "example.com",
        "roles": ["editor", "viewer", 7],
        "realm_access": {"roles": ["admin"], "by.client": {"app.example.com": ["writer"]}},
        "https://claims.example.com/roles": ["owner"],
        "list": [{"name": "first"}],
        "a": {"b.c": "inner"},
        "a.b": {"c": "outer"},
    },
)


@pytest.mark.parametrize(
    "rule",
    [
        'claim:department="Human Resources"',
        "claim:hd=example.com",
        "claim:github:hd=example.com",
        "claim:roles=viewer",
        "claim:roles=7",
        "claim:level=5",
        "claim:ratio=0.5",
        "claim:staff=true",
        "claim:realm_access.roles=admin",
        "claim:realm_access.by.client.app.example.com=writer",
        "claim:https://claims.example.com/roles=owner",
        "claim:list.0.name=first",
        "claim:a.b.c=outer",
    ],
)
def test_claim_matches_if_it_is_the_value_or_a_list_with_it(rule: str) -> None:
    assert is_allowed(rule, EMPLOYEE)


@pytest.mark.parametrize(
    "rule",
    [
        "claim:hd=Example.com",
        "claim:hd=example.co",
        "claim:roles=view",
        'claim:roles=["editor"]',
        "claim:level=5.0",
        "claim:staff=True",
        "claim:staff=1",
        "claim:manager=null",
        "claim:manager=None",
        "claim:realm_access=roles",
        "claim:realm_access.roles.0.x=admin",
        "claim:unknown=x",
        "claim:a.b.c=inner",
        "claim:list=first",
    ],
)
def test_claim_that_is_another_value_does_not_match(rule: str) -> None:
    assert not is_allowed(rule, EMPLOYEE)


def test_claim_of_one_of_several_providers_has_its_label_first() -> None:
    rules = parse("claim:work:https://claims.example.com/roles=owner", work=GITHUB, home=PRESETS["gitlab"])
    rules.check(EMPLOYEE, "work")
    with pytest.raises(errors.NotAllowed):
        rules.check(EMPLOYEE, "home")


def test_claim_with_an_address_is_refused_because_it_may_be_unverified() -> None:
    with pytest.raises(errors.ConfigError, match=r"verified.*use email:"):
        parse("claim:email=octocat@github.com")
    with pytest.raises(errors.ConfigError, match=r"verified.*WSGI_OAUTH_TRUST_UNVERIFIED_EMAIL"):
        parse("claim:email=ann@example.com", spotify=PRESETS["spotify"])
    parse("claim:email=octocat@github.com", github=GITHUB._replace(trusts_emails=True))


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
        "group:*",
        "user:*",
        "group:staff;group:admins",
        "group:staff|user:octocat",
        "email:a@b.c,email:d@e.f",
        "group:cn=staff,dc=example,user:octocat",
        "email:x",
        "email:@x",
        "email:x@",
        "email:*",
        "email:a*@b.c",
        "email:a@b@c",
        "email:*@b\u00fccher.de",
        "claim:x",
        "claim:x=",
        "claim:=x",
        "claim:x=a,claim:y=b",
    ],
)
def test_invalid_rule_stops_the_start_and_is_named(word: str) -> None:
    with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_ALLOW") as refused:
        is_allowed(word)
    assert ascii(word) in str(refused.value)


@pytest.mark.parametrize(
    ("provider", "word"),
    [("microsoft", "user:ann"), ("spotify", "email:*@example.com"), ("zoom", "user:ann"), ("spotify", "org:x")],
)
def test_rule_that_a_provider_does_not_support_stops_the_start(provider: str, word: str) -> None:
    with pytest.raises(errors.ConfigError, match=PRESETS[provider].title):
        parse(word, **{provider: PRESETS[provider]})


@pytest.mark.parametrize(
    ("provider", "word", "kinds"),
    [
        ("spotify", "org:x", "use id: or claim:, or set WSGI_OAUTH_GROUPS_CLAIM"),
        ("spotify", "staff", "write rules such as id:583231, of the kinds id, claim$"),
        ("github", "staff", "such as user:octocat, of the kinds user, id, email, org, group, claim$"),
        ("google", "user:ann", "does not give usernames.*use id: or email: or claim:$"),
    ],
)
def test_error_suggests_only_rules_that_the_provider_supports(provider: str, word: str, kinds: str) -> None:
    with pytest.raises(errors.ConfigError, match=kinds):
        parse(word, **{provider: PRESETS[provider]})


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


@pytest.mark.parametrize("nested", [False, True])
def test_claim_in_a_rule_survives_the_limit_on_stored_claims(
    nested: bool, application: Callable[..., Any], provider: LocalProvider, store: SessionStore
) -> None:
    """A member of many groups has all of their distinguished names in one claim."""
    roles = [f"cn=group {number},{'ou=department,' * 10}dc=example" for number in range(500)]
    claim = {"roles": [*roles, "admin"], "large": "x" * 20_000}
    provider.user = {**provider.user, **({"realm_access": claim} if nested else claim)}
    name = "realm_access.roles" if nested else "roles"
    browser = Browser(application(f"claim:{name}=admin claim:{name}=cn=x,dc=example"), provider)
    browser.sign_in()
    assert browser.profile().status_int == 200
    [session] = stored_sessions(store)
    assert find_path(session["oauth_identity"]["claims"], name) == ["admin"]


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
    later = Browser(application("user:hubot"), provider).share_cookies(browser)
    answer = later.profile()
    assert (answer.status_int, answer.json["error"]) == (403, "not_allowed")
    assert later.get("/").status_int == 302
    assert later.post("/logout").status_int == 303


def test_new_rules_apply_to_existing_sessions_without_an_identity(
    application: Callable[..., Any], provider: LocalProvider
) -> None:
    browser = Browser(application(), provider)
    browser.sign_in()
    later = Browser(application("user:hubot"), provider).share_cookies(browser)
    assert later.profile().status_int == 403


class Secret(RequestHandler):
    route = "/secret"

    def get(self, request: Any) -> Any:
        return self.jsonify({"secret": bool(request.session["oauth_token"])})


def test_rules_apply_to_handlers_of_the_application(application: Callable[..., Any], provider: LocalProvider) -> None:
    browser = Browser(application(handlers=[Secret]), provider)
    browser.sign_in()
    later = Browser(application("user:hubot", handlers=[Secret]), provider).share_cookies(browser)
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
    assert browser.get("/inside").text.startswith("583231@")
    later = Browser(gated("user:hubot"), provider).share_cookies(browser)
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
    later.share_cookies(browser)
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
    later = Browser(application("user:hubot", handlers=[Lenient]), provider).share_cookies(browser)
    assert later.get("/lenient", headers=JSON).json.get("error") == "not_allowed"


def test_token_that_is_rejected_during_the_access_check_ends_the_session(
    application: Callable[..., Any], provider: LocalProvider, store: SessionStore
) -> None:
    browser = Browser(application(), provider)
    browser.sign_in()
    later = Browser(application("user:octocat"), provider).share_cookies(browser)
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
        asked.append(identity.subject)
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
    later = Browser(LoginRequired(app, oauth_app, public=("/public",)), provider).share_cookies(browser)
    assert later.get("/inside").status_int == 403
    assert later.get("/public").text == "anonymous"


def test_script_gets_the_refusal_as_json(application: Callable[..., Any], provider: LocalProvider) -> None:
    browser = Browser(application(), provider)
    browser.sign_in()
    later = Browser(application("user:hubot"), provider).share_cookies(browser)
    answer = later.get("/profile", headers={"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"})
    assert (answer.status_int, answer.json["error"]) == (403, "not_allowed")


@pytest.mark.parametrize("rule", ["id:583231", "id:583231@github", "id:github:583231"])
def test_id_rule_accepts_the_subject_and_both_forms_of_the_id(rule: str) -> None:
    assert is_allowed(rule, OCTOCAT)


def test_id_rule_with_a_whole_id_matches_no_subject_of_the_same_text() -> None:
    assert not is_allowed("id:583231@github", replace(OCTOCAT, subject="583231@github"))
