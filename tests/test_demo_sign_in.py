"""The pages of the local provider: sign-in, consent, home page, and the ten faults with their stories."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from conftest import JSON, Browser, parameters

from wsgi_oauth import Config, MemoryStore, create_app
from wsgi_oauth.demo.fault_stories import STORIES
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.demo.signing import decode, encode
from wsgi_oauth.demo.users import USERS

CALLBACK = "http://localhost/callback"


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    """Start the provider of the demo, with its users."""
    provider = LocalProvider()
    provider.set_users(USERS)
    with serve_provider(provider):
        yield provider


class Visitor(requests.Session):
    """A browser at the provider. It follows redirects to the provider only."""

    def __init__(self, provider: LocalProvider) -> None:
        super().__init__()
        self.provider = provider
        self.trust_env = False

    def get_redirect_target(self, response: requests.Response) -> str | None:
        target = super().get_redirect_target(response)
        return target if target and target.startswith(self.provider.url) else None

    def start(self, scope: str = "openid profile email groups", **more: str) -> requests.Response:
        """Come from the application with an authorization request."""
        query = {
            "response_type": "code",
            "client_id": "demo-client",
            "redirect_uri": CALLBACK,
            "scope": scope,
            "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "code_challenge_method": "S256",
            **more,
        }
        return self.get(f"{self.provider.authorization_url}?{urlencode(query)}")

    def press(self, page: requests.Response, **form: str) -> requests.Response:
        """Submit the form on *page* with its hidden and ticked fields, and the fields in *form*; "" unticks a field."""
        fields = re.findall(r'<input type="(?:hidden|checkbox)" name="([^"]+)" value="([^"]*)"(.*?)>', page.text)
        unticked = {"remember"} | {name for name, value in form.items() if not value}
        sent = {name: html.unescape(value) for name, value, _ in fields if name not in unticked}
        return self.post(page.url, data=sent | {name: value for name, value in form.items() if value})

    def sign_in(self, user: str = "octocat", **request: str) -> requests.Response:
        """Choose a user; return the consent page."""
        return self.press(self.start(**request), user=user)

    def fetch_token(self, answer: requests.Response) -> Any:
        """Exchange the code in an authorization response for a token."""
        form = {
            "grant_type": "authorization_code",
            "code": parameters(answer.headers["Location"])["code"],
            "redirect_uri": CALLBACK,
            "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        }
        return requests.post(self.provider.token_url, data=form, auth=("demo-client", "demo-secret"), timeout=10).json()

    def fetch_user(self, token: Any) -> Any:
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        return requests.get(self.provider.profile_url, headers=headers, timeout=10).json()


@pytest.fixture
def visitor(provider: LocalProvider) -> Iterator[Visitor]:
    with Visitor(provider) as visitor:
        yield visitor


def heading(page: requests.Response) -> str:
    return re.findall("<h1>(.*?)</h1>", page.text)[0]


def named_data(page: requests.Response) -> dict[str, str]:
    """Return the data that the consent page names, with their values."""
    return {name: html.unescape(value) for name, value in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd></div>", page.text)}


class TestSignIn:
    def test_begins_with_the_choice_of_a_user(self, visitor: Visitor) -> None:
        page = visitor.start()
        assert heading(page) == "Sign in"
        assert re.findall('name="user" value="(.*?)"', page.text) == [user.login for user in USERS]

    def test_continues_with_the_consent_page_of_that_user(self, visitor: Visitor) -> None:
        page = visitor.sign_in("grace")
        assert heading(page) == "demo-client would like to sign you in"
        assert named_data(page)["name"] == "Grace Hopper"

    def test_is_remembered_so_that_the_second_one_asks_for_consent_only(self, visitor: Visitor) -> None:
        visitor.press(visitor.sign_in("grace"), decision="allow")
        assert named_data(visitor.start())["name"] == "Grace Hopper"

    def test_asks_nothing_if_the_user_wanted_not_to_be_asked_again(self, visitor: Visitor) -> None:
        visitor.press(visitor.sign_in("grace"), decision="allow", remember="yes")
        token = visitor.fetch_token(visitor.start())
        assert visitor.fetch_user(token)["login"] == "grace"

    def test_asks_again_for_a_scope_that_was_not_allowed_before(self, visitor: Visitor) -> None:
        visitor.press(visitor.sign_in(scope="openid"), decision="allow", remember="yes")
        assert "would like" in heading(visitor.start(scope="openid email"))

    def test_asks_for_the_user_after_the_sign_out_at_the_provider(self, visitor: Visitor) -> None:
        visitor.sign_in()
        assert "You are signed in" not in visitor.post(f"{visitor.provider.url}/sign-out").text
        assert heading(visitor.start()) == "Sign in"

    def test_is_forgotten_after_many_others(self, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wsgi_oauth.demo.local_provider._MAX_SESSIONS", 2)
        visitor.sign_in()
        for expected in ("would like", "Sign in"):
            with Visitor(visitor.provider) as other:
                other.sign_in()
            assert expected in heading(visitor.start())

    def test_answers_to_the_open_page_of_the_user_before_for_that_user(self, visitor: Visitor) -> None:
        """Two tabs: the consent page of one user is still open when another user signs in."""
        page = visitor.sign_in("grace")
        visitor.sign_in("ada", prompt="login")
        token = visitor.fetch_token(visitor.press(page, decision="allow"))
        assert visitor.fetch_user(token)["login"] == "grace"

    def test_the_id_token_has_the_time_of_the_sign_in_at_the_provider(
        self, visitor: Visitor, later: Callable[[float], None]
    ) -> None:
        """OpenID Connect Core 2"""
        first, second = [], []
        for claims in (first, second):
            page = visitor.start() if first else visitor.sign_in()
            token = visitor.fetch_token(visitor.press(page, decision="allow"))
            claims.append(json.loads(decode(token["id_token"].split(".")[1])))
            later(300)
        assert second[0]["iat"] - first[0]["iat"] >= 300
        assert second[0]["auth_time"] == first[0]["auth_time"]


class TestParametersOfTheRequest:
    """OpenID Connect Core 3.1.2.1"""

    @pytest.mark.parametrize("prompt", ["login", "select_account"])
    def test_prompt_asks_a_signed_in_user_to_choose_again_once(self, visitor: Visitor, prompt: str) -> None:
        visitor.sign_in("grace")
        page = visitor.start(prompt=prompt)
        assert heading(page) == "Sign in"
        assert named_data(visitor.press(page, user="ada"))["name"] == "Ada Lovelace"

    def test_max_age_asks_a_user_again_who_signed_in_long_ago(
        self, visitor: Visitor, later: Callable[[float], None]
    ) -> None:
        visitor.sign_in()
        assert heading(visitor.start(max_age="60")) != "Sign in"
        later(61)
        assert heading(visitor.start(max_age="60")) == "Sign in"

    def test_prompt_none_shows_no_page(self, visitor: Visitor) -> None:
        errors = [parameters(visitor.start(prompt="none").headers["Location"])["error"]]
        page = visitor.sign_in()
        errors.append(parameters(visitor.start(prompt="none").headers["Location"])["error"])
        assert errors == ["login_required", "consent_required"]
        visitor.press(page, decision="allow", remember="yes")
        assert "code" in parameters(visitor.start(prompt="none").headers["Location"])


class TestConsentPage:
    @pytest.mark.parametrize("user", USERS, ids=lambda user: user.login)
    @pytest.mark.parametrize("scope", ["openid profile email groups", "openid email", "profile"])
    def test_names_exactly_the_data_of_the_user_document(self, visitor: Visitor, user: Any, scope: str) -> None:
        page = visitor.sign_in(user.login, scope=scope)
        document = visitor.fetch_user(visitor.fetch_token(visitor.press(page, decision="allow")))
        texts = {True: "yes", False: "no"}
        shown = {
            name: ", ".join(value) or "none" if isinstance(value, list) else texts.get(value, str(value))
            for name, value in document.items()
        }
        assert named_data(page) == shown

    def test_lets_the_user_decline_an_optional_scope(self, visitor: Visitor) -> None:
        token = visitor.fetch_token(visitor.press(visitor.sign_in(), **{"decision": "allow", "scope-email": ""}))
        assert token["scope"] == "openid profile groups"
        assert "email" not in visitor.fetch_user(token)

    def test_grants_a_required_scope_even_if_the_form_lacks_it(self, visitor: Visitor) -> None:
        page = visitor.sign_in()
        answer = visitor.post(page.url, data={"decision": "allow", "chosen": "scopes"})
        assert visitor.fetch_token(answer)["scope"] == "openid profile"


@pytest.mark.parametrize("path", ["authorize", "next-fault", "sign-out", "faults"])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_form_of_another_site_is_refused(visitor: Visitor, path: str, site: str) -> None:
    """RFC 6749 10.12"""
    visitor.sign_in()
    form = {"decision": "allow", "user": "grace", "fault": "token.500", "name": "token.500"}
    answer = visitor.post(f"{visitor.provider.url}/{path}", data=form, headers={"Sec-Fetch-Site": site})
    assert (answer.status_code, visitor.provider.next_fault, visitor.provider.faults.waiting) == (403, "", [])


class TestSignOutOfTheClient:
    """OpenID Connect RP-Initiated Logout 1.0"""

    def test_with_its_id_token_ends_the_session_at_the_provider(self, visitor: Visitor) -> None:
        token = visitor.fetch_token(visitor.press(visitor.sign_in(), decision="allow"))
        query = {"id_token_hint": token["id_token"], "post_logout_redirect_uri": "http://localhost/signed-out"}
        answer = visitor.get(f"{visitor.provider.url}/end-session?{urlencode(query)}")
        assert answer.headers["Location"] == "http://localhost/signed-out"
        assert heading(visitor.start()) == "Sign in"

    def test_with_the_id_token_of_another_user_asks_first(self, visitor: Visitor) -> None:
        attackers = visitor.fetch_token(visitor.press(visitor.sign_in("grace"), decision="allow"))
        visitor.cookies.clear()
        visitor.sign_in("octocat")
        query = {"id_token_hint": attackers["id_token"]}
        assert heading(visitor.get(f"{visitor.provider.url}/end-session?{urlencode(query)}")) == "Sign out here, too?"

    @pytest.mark.parametrize("hint", ["", "x", "x.y.z", "e30.e30.e30", f"{encode(b'[' * 9000)}.e30.e30"])
    def test_without_it_asks_first(self, visitor: Visitor, hint: str) -> None:
        visitor.sign_in()
        page = visitor.get(f"{visitor.provider.url}/end-session?{urlencode({'id_token_hint': hint})}")
        assert heading(page) == "Sign out here, too?"
        assert heading(visitor.start()) != "Sign in"
        visitor.press(page, sign_out="no")
        assert heading(visitor.start()) != "Sign in"
        visitor.press(page, sign_out="yes")
        assert heading(visitor.start()) == "Sign in"


class TestFaults:
    def test_home_page_offers_ten_of_them(self, visitor: Visitor) -> None:
        page = visitor.get(visitor.provider.url).text
        assert re.findall('name="fault" value="(.*?)"', page) == [story.name for story in STORIES]
        assert len(STORIES) == 10
        assert "gzip_bomb" not in page

    def test_consent_page_offers_those_for_the_id_token_only_with_openid(self, visitor: Visitor) -> None:
        fault = 'value="token.id_token_for_another_client"'
        assert fault in visitor.sign_in().text
        page = visitor.start(scope="profile").text
        assert fault not in page
        assert 'value="token.503"' in page

    def test_chosen_one_is_shown_on_the_consent_page_and_can_be_cancelled_there(self, visitor: Visitor) -> None:
        [story] = [each for each in STORIES if each.name == "token.invalid_grant"]
        home = visitor.post(f"{visitor.provider.url}/next-fault", data={"fault": story.name})
        assert "Cancel the fault" in home.text
        page = visitor.sign_in()
        assert story.event in page.text
        assert "This applies to this sign-in only." in page.text
        page = visitor.press(page, cancel_fault="yes")
        assert story.event not in page.text
        assert "access_token" in visitor.fetch_token(visitor.press(page, decision="allow"))

    def test_chosen_one_is_shown_although_the_consent_is_remembered(self, visitor: Visitor) -> None:
        visitor.press(visitor.sign_in(), decision="allow", remember="yes")
        visitor.post(f"{visitor.provider.url}/next-fault", data={"fault": STORIES[0].name})
        assert STORIES[0].event in visitor.start().text

    def test_applies_to_one_sign_in_and_not_to_others_at_the_same_time(self, visitor: Visitor) -> None:
        page = visitor.sign_in()
        faulty = visitor.press(page, decision="allow", fault="token.invalid_grant")
        sound = visitor.press(page, decision="allow")
        assert "access_token" in visitor.fetch_token(sound)
        assert visitor.fetch_token(faulty)["error"] == "invalid_grant"
        assert "access_token" in visitor.fetch_token(faulty)  # the fault has happened

    def test_is_over_when_the_user_declines(self, visitor: Visitor) -> None:
        visitor.post(f"{visitor.provider.url}/next-fault", data={"fault": "token.invalid_grant"})
        visitor.press(visitor.sign_in(), decision="deny")
        assert "access_token" in visitor.fetch_token(visitor.press(visitor.start(), decision="allow"))


#: For each story, the outcome of the sign-in at the application: the status and the error code, or none.
ENDS = {
    "token.slow": (504, "provider_timeout"),
    "token.503": (502, "provider_error"),
    "token.html_200": (502, "provider_error"),
    "token.invalid_grant": (400, "code_refused"),
    "token.invalid_client_401": (502, "client_refused"),
    "authorize.wrong_state": (400, "no_login_in_progress"),
    "authorize.wrong_iss": (400, "issuer_mismatch"),
    "token.id_token_for_another_client": (502, "id_token_refused"),
    "profile.401": (303, ""),
    "revoke.503": (303, ""),
}


class TestStories:
    """The effect of the ten faults on the application of the demo."""

    @staticmethod
    def open_browser(provider: LocalProvider, timeout: str = "30") -> Browser:
        settings = {**provider.settings, "SESSION_STORE": "memory:", "UPSTREAM_TIMEOUT": timeout}
        config = Config.from_environ({f"WSGI_OAUTH_{name}": value for name, value in settings.items()})
        return Browser(create_app(config, store=MemoryStore()), provider)

    @pytest.fixture
    def browser(self, provider: LocalProvider) -> Browser:
        return self.open_browser(provider)

    @pytest.mark.parametrize("name", [story.name for story in STORIES])
    def test_sign_in_ends_as_the_story_says_and_the_next_one_succeeds(self, provider: LocalProvider, name: str) -> None:
        browser = self.open_browser(provider, timeout="2" if name == "token.slow" else "30")
        answer = browser.get(browser.callback_url(fault=name), headers=JSON)
        assert (answer.status_int, "" if answer.status_int == 303 else answer.json["error"]) == ENDS[name]
        browser = self.open_browser(provider)
        browser.sign_in()
        assert browser.profile().json["login"] == "octocat"

    @pytest.mark.parametrize("name", ["authorize.wrong_state", "authorize.wrong_iss"])
    def test_false_answer_causes_no_token_request(self, browser: Browser, provider: LocalProvider, name: str) -> None:
        browser.get(browser.callback_url(fault=name))
        assert provider.count("token") == 0

    def test_expired_access_token_is_refreshed(self, browser: Browser, provider: LocalProvider) -> None:
        browser.get(browser.callback_url(fault="profile.401"))
        assert browser.profile().status_int == 200
        assert provider.count("refresh") == 1

    def test_unheard_sign_out_ends_the_session_all_the_same(
        self, browser: Browser, caplog: pytest.LogCaptureFixture
    ) -> None:
        browser.get(browser.callback_url(fault="revoke.503"))
        assert browser.post("/logout").location.endswith("/signed-out")
        assert browser.profile().status_int == 401
        assert "the token was not revoked" in caplog.text
