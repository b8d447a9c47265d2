"""Sign in with Apple: a form, a client secret made from a key, a name at the first sign-in only, and rare refreshes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import environ_for as environ_of
from conftest import parameters
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from form_post import PUBLIC_URL, FormBrowser, FormPostIssuer
from openid import HOUR
from werkzeug import Request, Response

from wsgi_oauth import Config, Identity, LoginRequired, MemoryStore, create_app, current_identity, errors
from wsgi_oauth.cli.check import findings
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.oauth.presets import PRESETS

DAY = 24 * HOUR
MONA = {"name": {"firstName": "Mona", "lastName": "Lisa"}, "email": "mona@icloud.com"}
KEY = ec.generate_private_key(ec.SECP256R1())


class Apple(FormPostIssuer):
    """Apple's endpoints, as its documentation describes them."""

    def __init__(self) -> None:
        super().__init__(client_secret=None, scope="openid name email")
        self.user_parameter = json.dumps(MONA)  # empty at later sign-ins
        self.client_secrets: list[str] = []
        self.refreshes = 0
        self.claims = {"email": "x7k2m9@privaterelay.appleid.com", "email_verified": "true", "is_private_email": "true"}

    def decide(self, request: Request) -> Response:
        assert request.args["response_mode"] == "form_post"  # because of the scopes
        return super().decide(request)

    def more_fields(self, request: Request) -> dict[str, str]:
        return {"user": self.user_parameter} if self.user_parameter else {}

    def token(self, request: Request) -> Response:
        assert "Authorization" not in request.headers
        self.client_secrets.append(request.form["client_secret"])
        if request.form["grant_type"] != "refresh_token":
            return super().token(request)
        self.refreshes += 1
        answer = super().token(request)
        if answer.status_code != 200:
            return answer
        rest = {name: answer.get_json()[name] for name in ("access_token", "token_type", "expires_in")}
        return Response(json.dumps(rest), mimetype="application/json")


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> Iterator[Apple]:
    """Serve an imitation of Apple, to which the preset leads."""
    apple = Apple()
    with serve_provider(apple):
        local = PRESETS["apple"]._replace(
            issuer=apple.url,
            authorization_url=apple.authorization_url,
            token_url=apple.token_url,
            revocation_url=apple.revocation_url,
            jwks_url=f"{apple.url}/keys",
        )
        monkeypatch.setitem(PRESETS, "apple", local)
        yield apple


def environ_for(apple: Apple, **settings: str) -> dict[str, str]:
    unset = dict.fromkeys(("AUTHORIZATION_URL", "TOKEN_URL", "PROFILE_URL", "ISSUER", "SCOPE"), "")
    own = {"PROVIDER": "apple", "CLIENT_SECRET": "a-secret", "PUBLIC_URL": f"{PUBLIC_URL}/auth"}
    own |= {"SESSION_IDLE": "7d", **settings}
    return environ_of(apple, **unset, **own)


class AppleBrowser(FormBrowser):
    """A browser in front of an application that shows the identity of its user."""

    def __init__(self, apple: Apple, store: MemoryStore, **settings: str) -> None:
        app = create_app(Config.from_environ(environ_for(apple, **settings)), store=store)

        @Request.application
        def show(request: Request) -> Response:
            identity = current_identity(request.environ)
            assert identity
            return Response(json.dumps(identity.as_dict()), mimetype="application/json")

        super().__init__(LoginRequired(show, app), apple)

    def start(self, next_url: str | None = None) -> str:
        return self.get(f"/auth/?next={next_url or '/'}").location

    def post_form(self, **changes: str) -> Any:
        return self.send_form({**self.form(), **changes}, path="/auth/callback")

    def identity(self) -> Identity:
        identity = Identity.from_dict(self.get("/").json)
        assert identity
        return identity


@pytest.fixture
def browser(apple: Apple, store: MemoryStore) -> AppleBrowser:
    return AppleBrowser(apple, store)


def test_sign_in_identifies_the_user_by_the_id_token(browser: AppleBrowser) -> None:
    assert parameters(browser.start())["scope"] == "openid name email"
    assert browser.post_form().status_int == 303
    identity = browser.identity()
    assert (identity.provider, identity.subject, identity.username) == ("apple", "mona", None)
    assert identity.verified_emails == ("x7k2m9@privaterelay.appleid.com",)  # the text "true" counts


def test_address_that_is_not_verified_does_not_count(browser: AppleBrowser, apple: Apple) -> None:
    apple.claims["email_verified"] = "false"
    browser.post_form()
    assert browser.identity().verified_emails == ()


def test_user_who_cancels_gets_the_page_of_a_user_who_declines(browser: AppleBrowser) -> None:
    state = parameters(browser.start())["state"]
    form = {"state": state, "error": "user_cancelled_authorize"}
    response = browser.send_form(form, path="/auth/callback")
    assert response.status_int == 403
    assert "declined" in response.text


class TestName:
    def test_from_the_first_sign_in_is_kept_with_the_session(
        self, browser: AppleBrowser, apple: Apple, later: Callable[[float], None]
    ) -> None:
        browser.post_form()
        assert browser.identity().name == "Mona Lisa"
        later(DAY + 1)  # after a refresh and a recheck
        assert browser.identity().name == "Mona Lisa"
        assert apple.refreshes == 1

    def test_is_unknown_in_later_sessions(self, browser: AppleBrowser, apple: Apple) -> None:
        apple.user_parameter = ""
        browser.post_form()
        assert browser.identity().name is None

    def test_in_the_id_token_takes_precedence(self, browser: AppleBrowser, apple: Apple) -> None:
        apple.claims["name"] = "Mona"
        browser.post_form()
        assert browser.identity().name == "Mona"

    @pytest.mark.parametrize(
        "user",
        [
            "{}",
            "null",
            "[]",
            "{",
            "[" * 4000,
            '{"name": "Mona"}',
            '{"name": {"firstName": ["Mona"], "lastName": {}}}',
            '{"name": {"firstName": "Mona\\u0000\\r\\n", "lastName": "\\ud800"}}',
            json.dumps({"name": {"firstName": "M" * 513, "lastName": ""}}),
            json.dumps({"name": {"firstName": "M" * 500, "lastName": "L" * 500}}),
            json.dumps({**MONA, "more": "x" * 9000}),
        ],
    )
    def test_that_is_unusable_is_ignored(self, browser: AppleBrowser, user: str) -> None:
        """S15"""
        assert browser.post_form(user=user).status_int == 303
        assert browser.identity().name is None

    def test_is_kept_in_every_script(self, browser: AppleBrowser) -> None:
        browser.post_form(user=json.dumps({"name": {"firstName": "نیما", "lastName": "川口"}}, ensure_ascii=False))
        assert browser.identity().name == "نیما 川口"

    def test_is_the_only_claim_that_is_read_from_the_form(self, browser: AppleBrowser) -> None:
        """Users can change the form, because the browser sends it without a signature."""
        user = {"name": {"firstName": "a", "lastName": "b"}, "email": "boss@example.com", "sub": "boss"}
        browser.post_form(user=json.dumps({**user, "groups": ["admins"], "username": "boss"}))
        identity = browser.identity()
        assert "boss" not in json.dumps(identity.as_dict())
        assert "name" not in identity.claims
        assert identity.groups == ()

    @pytest.mark.parametrize("rule", ["claim:name=Mona", "claim:display_name=Mona", "email:mona@icloud.com"])
    def test_opens_nothing(self, apple: Apple, store: MemoryStore, rule: str) -> None:
        browser = AppleBrowser(apple, store, ALLOW=rule)
        user = {"name": {"firstName": "Mona", "lastName": ""}, "email": "mona@icloud.com"}
        assert browser.post_form(user=json.dumps(user)).status_int == 403

    def test_of_another_provider_is_ignored(self) -> None:
        assert [name for name, preset in PRESETS.items() if preset.sends_user_parameter] == ["apple"]


class TestRefresh:
    """Apple may refuse to refresh a token more than once a day."""

    def test_happens_once_a_day(self, browser: AppleBrowser, apple: Apple, later: Callable[[float], None]) -> None:
        browser.post_form()
        for _ in range(30):
            later(HOUR)
            assert browser.get("/").status_int == 200
            assert browser.get("/auth/profile").status_int == 200
        assert apple.refreshes == 1
        assert browser.identity().verified_emails  # from the first ID token, because a refresh gives no new one

    def test_ends_the_session_of_a_user_who_has_removed_the_application(
        self, browser: AppleBrowser, apple: Apple, later: Callable[[float], None]
    ) -> None:
        browser.post_form()
        browser.get("/")
        apple.routes["/token"] = ("token", {"POST": lambda _: Response('{"error": "invalid_grant"}', 400)})
        later(DAY - 60)
        assert browser.get("/").status_int == 200
        later(120)
        assert browser.get("/").status_int == 302

    def test_of_a_user_of_the_profile_page_ends_the_session_too(
        self, browser: AppleBrowser, apple: Apple, later: Callable[[float], None]
    ) -> None:
        browser.post_form()
        apple.routes["/token"] = ("token", {"POST": lambda _: Response('{"error": "invalid_grant"}', 400)})
        assert browser.get("/auth/profile").status_int == 200
        later(DAY + 60)
        assert browser.get("/auth/profile").status_int == 302

    def test_is_switched_off_with_rechecks(
        self, apple: Apple, store: MemoryStore, later: Callable[[float], None]
    ) -> None:
        browser = AppleBrowser(apple, store, RECHECK="never")
        browser.post_form()
        for _ in range(2):
            assert browser.get("/").status_int == 200
            later(2 * DAY)
        assert apple.refreshes == 0


class TestClientSecret:
    """S32"""

    @pytest.fixture
    def key_file(self, tmp_path: Path) -> Path:
        path = tmp_path / "AuthKey_ABC123DEFG.p8"
        path.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return path

    def test_is_made_from_the_key(self, apple: Apple, store: MemoryStore, key_file: Path) -> None:
        jwt = pytest.importorskip("jwt")
        settings = {"CLIENT_KEY_FILE": str(key_file), "CLIENT_KEY_ID": "ABC123DEFG", "CLIENT_KEY_ISSUER": "DEF123GHIJ"}
        browser = AppleBrowser(apple, store, CLIENT_SECRET="", **settings)
        assert browser.post_form().status_int == 303
        browser.post("/auth/logout")
        [secret] = apple.client_secrets
        assert jwt.get_unverified_header(secret) == {"alg": "ES256", "kid": "ABC123DEFG", "typ": "JWT"}
        claims = jwt.decode(secret, KEY.public_key(), ["ES256"], audience="https://appleid.apple.com")
        assert (claims["iss"], claims["sub"]) == ("DEF123GHIJ", apple.client_id)
        assert 0 < claims["exp"] - claims["iat"] <= 15777000  # six months

    def test_needs_the_team(self, apple: Apple, key_file: Path) -> None:
        environ = environ_for(apple, CLIENT_SECRET="", CLIENT_KEY_FILE=str(key_file))
        with pytest.raises(errors.ConfigError, match="CLIENT_KEY_ISSUER: missing"):
            create_app(Config.from_environ(environ))

    def test_needs_the_id_of_the_key(self, apple: Apple, key_file: Path, tmp_path: Path) -> None:
        pytest.importorskip("jwt")
        settings = {"CLIENT_KEY_FILE": str(key_file), "CLIENT_KEY_ISSUER": "DEF123GHIJ"}
        environ = environ_for(apple, CLIENT_SECRET="", SESSION_STORE=f"file:{tmp_path / 'sessions'}", **settings)
        assert "WSGI_OAUTH_CLIENT_KEY_ID: missing" in "".join(each.text for each in findings(environ))

    def test_needs_a_key_or_a_secret(self, apple: Apple) -> None:
        with pytest.raises(errors.ConfigError, match=r"CLIENT_SECRET: missing.*CLIENT_KEY_FILE"):
            Config.from_environ(environ_for(apple, CLIENT_SECRET=""))


def test_sign_out_revokes_the_refresh_token_first(browser: AppleBrowser, apple: Apple) -> None:
    """S44"""
    browser.post_form()
    browser.post("/auth/logout")
    revocations = [parameters(f"?{exchange.body}") for exchange in apple.exchanges if exchange.endpoint == "revoke"]
    assert [form["token_type_hint"] for form in revocations] == ["refresh_token", "access_token"]
    assert all(form["client_secret"] for form in revocations)
