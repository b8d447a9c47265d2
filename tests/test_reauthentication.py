"""Re-authentication: pages that require a recent or a strong sign-in (RFC 9470), and the verification of both."""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
from conftest import JSON, Browser, environ_for, parameters, stored_sessions
from openid import HOUR, Issuer, config_for
from webtest import TestResponse
from werkzeug import Request, Response

from wsgi_oauth import (
    Config,
    Identity,
    LoginRequired,
    RequestHandler,
    SessionStore,
    create_app,
    current_identity,
    errors,
    require_recent_login,
)
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.testing import signed_in

MINUTE = 60
FETCH = {**JSON, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}


class AuthenticatingIssuer(Issuer):
    """An issuer that remembers its users, and authenticates them again if a client requires it."""

    def __init__(self) -> None:
        super().__init__(expires_in=6 * HOUR)
        self.authenticated_at = 0.0
        self.methods = {"gold", "silver"}

    def decide(self, request: Request) -> Response:
        asked, now = request.args, time.time()
        too_old = now - self.authenticated_at > float(asked.get("max_age", "inf"))
        if too_old or "login" in asked.get("prompt", "") or not self.authenticated_at:
            self.authenticated_at = now
        strong = [acr for acr in asked.get("acr_values", "").split() if acr in self.methods]
        self.claims |= {"auth_time": int(self.authenticated_at), "acr": strong[0] if strong else "bronze"}
        return super().decide(request)


@pytest.fixture
def issuer() -> Iterator[AuthenticatingIssuer]:
    issuer = AuthenticatingIssuer()
    with serve_provider(issuer):
        yield issuer


class Admin(RequestHandler):
    """A handler that requires a sign-in within the last five minutes."""

    route = "/admin"

    def get(self, request: Any) -> Response:
        self.require_recent_login(max_age=300)
        return self.jsonify("admin")

    post = get


class Stubborn(RequestHandler):
    """A handler that always requires another sign-in."""

    route = "/stubborn"

    def get(self, request: Any) -> Response:
        raise errors.ReauthenticationRequired(max_age=300)


MakeBrowser = Callable[..., Browser]


@pytest.fixture
def make_browser(issuer: Issuer, store: SessionStore) -> MakeBrowser:
    def make(**settings: str) -> Browser:
        return Browser(create_app(config_for(issuer, **settings), store=store, handlers=[Admin, Stubborn]), issuer)

    return make


@pytest.fixture
def browser(make_browser: MakeBrowser) -> Browser:
    """Return a signed-in browser at an application with handlers of its own."""
    browser = make_browser()
    browser.sign_in()
    return browser


MakeGuest = Callable[..., Browser]


@pytest.fixture
def make_guest(issuer: Issuer, store: SessionStore) -> MakeGuest:
    """Make a browser for a gate around an application, and sign in."""

    def make(app: Any, **settings: str) -> Browser:
        gate = LoginRequired(app, create_app(config_for(issuer, **settings), store=store), public=["/public"])
        guest = Browser(gate, issuer)
        assert follow(guest, guest.get("/auth/?next=/page")).status_int == 303
        return guest

    return make


def asked(answer: TestResponse) -> dict[str, str]:
    """Return the parameters of the authorization request."""
    assert answer.status_int == 302, answer
    return parameters(answer.location)


def follow(browser: Browser, answer: TestResponse) -> TestResponse:
    """Follow the redirect of *answer* to the provider, consent, and return the response of the callback."""
    return browser.get(browser.consent(answer.location))


def authenticate_again(browser: Browser, answer: TestResponse) -> TestResponse:
    """Follow *answer* through the sign-in, and return the page to which it leads."""
    return browser.get(follow(browser, browser.get(answer.location)).location)


def admin(environ: Any, start_response: Any) -> Any:
    """A protected application: it requires a sign-in within the last five minutes below /admin and /public."""
    if environ["PATH_INFO"] != "/page":
        require_recent_login(environ, max_age=300)
    return Response(f"page of {environ.get('REMOTE_USER')}")(environ, start_response)


def strong(environ: Any, start_response: Any) -> Any:
    """A protected application that requires one of two authentication methods."""
    require_recent_login(environ, acr=["gold", "silver"])
    return Response("strong")(environ, start_response)


class TestHandler:
    def test_gets_users_who_have_just_signed_in(self, browser: Browser):
        assert browser.get("/admin").json == "admin"

    def test_sends_other_users_to_the_provider_and_back(
        self, browser: Browser, issuer: AuthenticatingIssuer, later: Callable[[float], None]
    ):
        later(10 * MINUTE)
        answer = browser.get("/admin?tab=2")
        started = browser.get(answer.location)
        assert (asked(started)["max_age"], asked(started)["prompt"]) == ("300", "login")
        done = follow(browser, started)
        assert (done.status_int, done.location) == (303, "/admin?tab=2")
        assert browser.get(done.location).json == "admin"

    def test_that_looks_at_no_sign_in_gets_an_error_in_place_of_a_loop(
        self, browser: Browser, caplog: pytest.LogCaptureFixture, later: Callable[[float], None]
    ):
        later(HOUR)
        page = authenticate_again(browser, browser.get("/stubborn"))
        assert page.status_int == 500
        assert "asks for a sign-in again and again" in page
        assert "require_recent_login" in caplog.messages[-1]

    def test_page_of_a_form_is_shown_again_after_the_sign_in(self, browser: Browser, later: Callable[[float], None]):
        """The form's data cannot be sent again. A redirect would be blocked by the `form-action` of many sites."""
        later(HOUR)
        page = browser.post("/admin", headers={"Referer": "http://localhost/admin?edit=7"})
        assert page.status_int == 401
        link = page.html.find("a")["href"]
        assert parameters(link)["next"] == "/admin?edit=7"
        assert asked(browser.get(link))["max_age"] == "300"

    def test_target_of_a_form_without_referrer_is_shown_after_the_sign_in(
        self, browser: Browser, later: Callable[[float], None]
    ):
        later(HOUR)
        assert parameters(browser.post("/admin").html.find("a")["href"])["next"] == "/admin"

    def test_refuses_programs_with_a_challenge(self, browser: Browser, later: Callable[[float], None]):
        """RFC 9470 3"""
        later(HOUR)
        answer = browser.get("/admin", headers=FETCH)
        assert (answer.status_int, answer.json["error"]) == (401, "insufficient_user_authentication")
        challenge = answer.headers["WWW-Authenticate"]
        assert challenge.startswith('Bearer error="insufficient_user_authentication", error_description="')
        assert challenge.endswith(', max_age="300"')
        assert asked(browser.get(answer.json["login_url"]))["max_age"] == "300"


class TestGate:
    def test_passes_users_who_have_just_signed_in(self, make_guest: MakeGuest):
        assert make_guest(admin).get("/admin").text.startswith("page of mona")

    def test_sends_other_users_to_the_provider_and_back(self, make_guest: MakeGuest, later: Callable[[float], None]):
        guest = make_guest(admin)
        later(10 * MINUTE)
        assert guest.get("/page").status_int == 200
        answer = guest.get("/admin?tab=2")
        started = guest.get(answer.location)
        assert (asked(started)["max_age"], asked(started)["prompt"]) == ("300", "login")
        done = follow(guest, started)
        assert (done.status_int, done.location) == (303, "/admin?tab=2")
        assert guest.get(done.location).status_int == 200
        later(10 * MINUTE)
        assert guest.get("/admin").status_int == 302

    def test_asks_for_an_authentication_method(self, make_guest: MakeGuest):
        guest = make_guest(strong)
        answer = guest.get("/page")
        assert asked(guest.get(answer.location))["acr_values"] == "gold silver"
        assert authenticate_again(guest, answer).text == "strong"

    def test_serves_an_application_that_compares_the_claims(
        self, make_guest: MakeGuest, later: Callable[[float], None]
    ):
        def app(environ: Any, start_response: Any) -> Any:
            identity = current_identity(environ)
            if identity is None or time.time() - identity.claims.get("auth_time", 0) > 300:
                raise errors.ReauthenticationRequired(max_age=300)
            return Response("recent")(environ, start_response)

        guest = make_guest(app)
        later(10 * MINUTE)
        assert authenticate_again(guest, guest.get("/page")).text == "recent"

    def test_shows_an_error_in_place_of_a_loop(self, make_guest: MakeGuest, later: Callable[[float], None]):
        def app(environ: Any, start_response: Any) -> Any:
            raise errors.ReauthenticationRequired(max_age=0)

        guest = make_guest(app)
        later(HOUR)
        assert authenticate_again(guest, guest.get("/page")).status_int == 500

    def test_accepts_a_sign_in_right_after_it_if_it_must_be_new(
        self, make_guest: MakeGuest, later: Callable[[float], None]
    ):
        def app(environ: Any, start_response: Any) -> Any:
            require_recent_login(environ, max_age=0)
            return Response("new")(environ, start_response)

        guest = make_guest(app)
        later(HOUR)
        assert authenticate_again(guest, guest.get("/page")).text == "new"
        later(2 * MINUTE)
        assert guest.get("/page").status_int == 302

    def test_lets_the_provider_decide_about_anonymous_users(self, make_guest: MakeGuest):
        guest = make_guest(admin)
        guest.app.reset()
        answer = guest.get("/public")
        assert asked(guest.get(answer.location))["max_age"] == "300"
        assert authenticate_again(guest, answer).status_int == 200

    def test_refuses_programs_with_a_challenge(self, make_guest: MakeGuest, later: Callable[[float], None]):
        guest = make_guest(strong)
        answer = guest.get("/page", headers=FETCH)
        assert answer.status_int == 401
        assert answer.headers["WWW-Authenticate"].endswith(', acr_values="gold silver"')

    def test_handles_a_generator_that_has_not_started_the_response(
        self, make_guest: MakeGuest, later: Callable[[float], None]
    ):
        def app(environ: Any, start_response: Any) -> Any:
            require_recent_login(environ, max_age=300)
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"late"

        guest = make_guest(app)
        assert guest.get("/page").text == "late"
        later(HOUR)
        assert authenticate_again(guest, guest.get("/page")).text == "late"

    def test_recognizes_the_challenge_of_a_framework(self, make_guest: MakeGuest, later: Callable[[float], None]):
        """Frameworks turn the exception into a response of their error handler."""
        app = flask.Flask(__name__)

        @app.errorhandler(errors.Error)
        def respond(error: errors.Error) -> Any:
            return error.text, error.status, error.headers

        @app.get("/page")
        def page() -> str:
            require_recent_login(flask.request.environ, max_age=300, acr="gold")
            return "framework"

        guest = make_guest(app)
        later(HOUR)
        answer = guest.get("/page")
        sent = asked(guest.get(answer.location))
        assert (sent["max_age"], sent["acr_values"]) == ("300", "gold")
        assert authenticate_again(guest, answer).text == "framework"

    @pytest.mark.parametrize(
        "challenge", ['Bearer realm="api"', 'Bearer error="insufficient_user_authentication", max_age="-1"']
    )
    def test_passes_other_challenges_on(self, make_guest: MakeGuest, challenge: str):
        guest = make_guest(Response("no", 401, {"WWW-Authenticate": challenge}))
        answer = guest.get("/page")
        assert (answer.status_int, answer.headers["WWW-Authenticate"]) == (401, challenge)


class TestVerification:
    """S30: the ID token has to confirm ``max_age`` and ``acr_values`` (OpenID Connect Core 3.1.3.7)."""

    @pytest.mark.parametrize("auth_time", [None, 1, "soon", True, 4_000_000_000])
    def test_refuses_a_sign_in_that_is_not_recent(
        self, browser: Browser, issuer: Issuer, later: Callable[[float], None], auth_time: Any
    ):
        later(HOUR)
        cookie = browser.cookie
        started = browser.get(browser.get("/admin").location)
        callback = browser.consent(started.location)
        issuer.claims["auth_time"] = auth_time
        page = browser.get(callback)
        assert page.status_int == 403
        assert "The provider did not confirm" in page
        assert browser.cookie == cookie
        assert browser.profile().status_int == 200  # the last sign-in stays

    @pytest.mark.parametrize("behind", [-250, 250])
    def test_accepts_a_provider_whose_clock_differs(
        self, browser: Browser, issuer: Issuer, later: Callable[[float], None], behind: int
    ):
        later(HOUR)
        started = browser.get(browser.get("/admin").location)
        callback = browser.consent(started.location)
        issuer.claims["auth_time"] -= behind
        assert browser.get(browser.get(callback).location).json == "admin"

    def test_counts_a_confirmed_sign_in_as_new_if_the_clock_of_the_provider_is_behind(
        self, make_guest: MakeGuest, issuer: Issuer, later: Callable[[float], None]
    ):
        def app(environ: Any, start_response: Any) -> Any:
            require_recent_login(environ, max_age=0)
            return Response("new")(environ, start_response)

        guest = make_guest(app)
        later(HOUR)
        started = guest.get(guest.get("/page").location)
        callback = guest.consent(started.location)
        issuer.claims["auth_time"] -= 250
        assert guest.get(guest.get(callback).location).text == "new"

    @pytest.mark.parametrize("acr", [None, "bronze", ["gold"], "gold silver", "GOLD"])
    def test_refuses_another_authentication_method(self, make_guest: MakeGuest, issuer: Issuer, acr: Any):
        guest = make_guest(strong)
        started = guest.get(guest.get("/page").location)
        callback = guest.consent(started.location)
        issuer.claims["acr"] = acr
        assert guest.get(callback).status_int == 403

    def test_names_the_cause_for_the_operator(
        self, make_guest: MakeGuest, issuer: AuthenticatingIssuer, caplog: pytest.LogCaptureFixture
    ):
        issuer.methods.clear()
        guest = make_guest(strong)
        follow(guest, guest.get(guest.get("/page").location))
        assert "acr is not one of the requested 'gold silver' (got 'bronze')" in caplog.messages[-1]

    @pytest.mark.parametrize(("name", "value"), [("max_age", "300"), ("acr_values", "gold")])
    def test_includes_configured_parameters(
        self, make_browser: MakeBrowser, issuer: AuthenticatingIssuer, store: SessionStore, name: str, value: str
    ):
        browser = make_browser(AUTHORIZATION_PARAMETERS=f"{name}={value}")
        callback = browser.callback_url()
        issuer.claims |= {"auth_time": 1, "acr": "bronze"}
        assert browser.get(callback, headers=JSON).json["error"] == "authentication_not_confirmed"
        assert not any("oauth_token" in session for session in stored_sessions(store))
        browser.sign_in()

    def test_uses_the_values_of_the_request_if_the_configuration_changes_meanwhile(
        self, make_browser: MakeBrowser, issuer: Issuer
    ):
        browser = make_browser(AUTHORIZATION_PARAMETERS="acr_values=gold")
        callback = browser.callback_url()
        issuer.claims["acr"] = "bronze"
        restarted = make_browser()
        for cookie in browser.app.cookiejar:
            restarted.app.cookiejar.set_cookie(cookie)
        assert restarted.get(callback).status_int == 403

    def test_is_not_repeated_for_a_refreshed_id_token(
        self, make_guest: MakeGuest, issuer: Issuer, later: Callable[[float], None]
    ):
        """It may lack these claims (Core 12.2), and it must not make an old sign-in look new."""
        guest = make_guest(admin)
        assert guest.get("/page").status_int == 200
        later(HOUR)
        issuer.claims |= {"auth_time": int(time.time()), "acr": "gold"}
        assert guest.get("/page").status_int == 200
        assert issuer.count("refresh") == 1
        assert guest.get("/admin").status_int == 302


class TestLink:
    """S75: the link to the sign-in names the requirements, and anybody can write such a link."""

    @pytest.mark.parametrize(
        ("query", "max_age", "acr_values"),
        [
            ("max_age%3D999999", "300", "gold silver"),
            ("max_age%3D60", "60", "gold silver"),
            ("acr_values%3Dsilver+bronze", "300", "silver"),
            ("max_age%3D-1%26acr_values%3D%250Agold%26prompt%3Dnone%26scope%3Devil", "300", "gold silver"),
        ],
    )
    def test_makes_configured_requirements_only_stricter(
        self, make_browser: MakeBrowser, query: str, max_age: str, acr_values: str
    ):
        browser = make_browser(AUTHORIZATION_PARAMETERS="max_age=300&acr_values=gold+silver")
        sent = asked(browser.get(f"/?reauthenticate={query}"))
        assert (sent["max_age"], sent["acr_values"]) == (max_age, acr_values)
        assert "evil" not in sent["scope"]

    def test_cannot_ask_for_an_authentication_method_that_the_configuration_excludes(
        self, make_browser: MakeBrowser, caplog: pytest.LogCaptureFixture
    ):
        browser = make_browser(AUTHORIZATION_PARAMETERS="acr_values=gold")
        assert browser.get("/?reauthenticate=acr_values%3Dbronze").status_int == 403
        assert "WSGI_OAUTH_AUTHORIZATION_PARAMETERS: acr_values" in caplog.messages[-1]

    def test_keeps_the_configured_prompt(self, make_browser: MakeBrowser):
        browser = make_browser(AUTHORIZATION_PARAMETERS="prompt=consent")
        assert asked(browser.get("/?reauthenticate=max_age%3D60"))["prompt"] == "login consent"

    def test_leads_to_the_provider_of_the_session(self, issuer: Issuer, store: SessionStore, provider: LocalProvider):
        labelled = {"WSGI_OAUTH_PROVIDERS": "other work", "WSGI_OAUTH_WORK_PROVIDER": issuer.url}
        for label, each in {"WORK": issuer, "OTHER": provider}.items():
            labelled |= {
                f"WSGI_OAUTH_{label}_CLIENT_ID": each.client_id,
                f"WSGI_OAUTH_{label}_CLIENT_SECRET": each.client_secret or "",
            }
        other = environ_for(provider)
        for name in ("AUTHORIZATION_URL", "TOKEN_URL", "PROFILE_URL"):
            labelled[f"WSGI_OAUTH_OTHER_{name}"] = other[f"WSGI_OAUTH_{name}"]
        browser = Browser(create_app(Config.from_environ(labelled), store=store, handlers=[Admin]), issuer)
        browser.get(browser.consent(browser.get("/?provider=work").location))
        answer = browser.get("/?reauthenticate=max_age%3D60")
        assert answer.location.startswith(issuer.authorization_url)


def test_provider_without_id_tokens_leads_to_a_clear_error(provider: LocalProvider, caplog: pytest.LogCaptureFixture):
    browser = Browser(create_app(Config.from_environ(environ_for(provider)), handlers=[Admin]), provider)
    browser.sign_in()
    page = browser.get(browser.get("/admin").location)
    assert page.status_int == 403
    assert "issues no ID token" in caplog.messages[-1]
    assert browser.profile().status_int == 200


@pytest.mark.parametrize("parameter", ["max_age=300", "acr_values=gold"])
def test_requirements_that_nothing_can_confirm_stop_the_start(provider: LocalProvider, parameter: str):
    with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_AUTHORIZATION_PARAMETERS: contains"):
        create_app(Config.from_environ(environ_for(provider, AUTHORIZATION_PARAMETERS=parameter)))


@pytest.mark.parametrize("parameter", ["max_age=soon", "max_age=-1", "acr_values=a%0Ab", "acr_values="])
def test_invalid_requirements_stop_the_start(issuer: Issuer, parameter: str):
    with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_AUTHORIZATION_PARAMETERS: contains"):
        config_for(issuer, AUTHORIZATION_PARAMETERS=parameter)


class TestException:
    def test_without_arguments_requires_a_new_sign_in(self):
        assert errors.ReauthenticationRequired().requirements == {"max_age": "0"}

    @pytest.mark.parametrize("arguments", [{"max_age": -1}, {"acr": "two words"}, {"acr": ["a", 'b"']}, {"acr": ""}])
    def test_rejects_invalid_arguments(self, arguments: dict[str, Any]):
        with pytest.raises(ValueError, match="must be"):
            errors.ReauthenticationRequired(**arguments)

    @pytest.mark.parametrize("duplicate", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
    def test_can_be_copied(self, duplicate: Callable[[Any], Any]):
        error = duplicate(errors.ReauthenticationRequired(max_age=5, acr=["a", "b"]))
        assert error.requirements == {"max_age": "5", "acr_values": "a b"}
        assert "max_age=5" in str(error)


def test_testing_kit_signs_users_in_with_a_time_and_a_method(issuer: Issuer, store: SessionStore):
    gate = LoginRequired(strong, create_app(config_for(issuer), store=store))
    guest = Browser(gate, issuer)
    guest.app.set_cookie(*signed_in(gate, Identity("example", "1", claims={"acr": "gold"})))
    assert guest.get("/page").text == "strong"
