"""OpenID Connect: an issuer's URL is enough, and what it says about a user is believed only when all of it is right."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests
from conftest import JSON, Browser, parameters, stored_sessions
from openid import HOUR, Issuer, jwt
from webtest import TestResponse
from werkzeug import Response

from wsgi_oauth import Config, MemoryStore, create_app, errors
from wsgi_oauth.config import ProviderConfig
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.oauth.configured import provider_from_config
from wsgi_oauth.oauth.openid import Discovery
from wsgi_oauth.transport.pool import Transport

pytestmark = pytest.mark.usefixtures("small_ca_bundle")


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    with serve_provider(issuer):
        yield issuer


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def visit(issuer: Issuer, store: MemoryStore) -> Callable[..., Browser]:
    """Make a browser in front of an application that knows of the issuer its URL alone, and what else is set."""

    def visit(**settings: str) -> Browser:
        variables = {
            "PROVIDER": issuer.url,
            "CLIENT_ID": issuer.client_id,
            **({"CLIENT_SECRET": issuer.client_secret} if issuer.client_secret else {"CLIENT_AUTH": "none"}),
            **settings,
        }
        config = Config.from_environ({f"WSGI_OAUTH_{name}": value for name, value in variables.items()})
        return Browser(create_app(config, store=store), issuer)

    return visit


@pytest.fixture
def browser(visit: Callable[..., Browser]) -> Browser:
    return visit()


@pytest.fixture
def uptime(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the process have been up for longer: ``uptime(600)``."""
    passed, now = [0.0], time.monotonic

    def forward(seconds: float) -> None:
        passed[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now() + passed[0])
    return forward


def start(browser: Browser) -> TestResponse:
    return browser.get("/", headers=JSON)


def come_back(browser: Browser) -> TestResponse:
    """The dance, up to whatever the callback answers."""
    return browser.get(browser.callback_url(), headers=JSON)


def said(answer: TestResponse) -> tuple[int, str]:
    return answer.status_int, answer.json["error"]


def unavailable() -> Response:
    return Response(status=503)


def test_an_issuers_url_is_enough(browser: Browser, issuer: Issuer, store: MemoryStore) -> None:
    asked = parameters(browser.start())
    assert asked["scope"] == "openid profile email"
    assert len(asked["nonce"]) == 43
    browser.sign_in()
    assert browser.profile().json["sub"] == "mona"
    [identity] = [session["oauth_identity"] for session in stored_sessions(store) if "oauth_identity" in session]
    assert (identity["provider"], identity["subject"]) == (urlsplit(issuer.url).netloc, "mona")
    assert issuer.count("discovery") == 1


def test_each_start_has_a_nonce_of_its_own(browser: Browser) -> None:
    assert len({parameters(browser.start())["nonce"] for _ in range(5)}) == 5


class TestDiscovery:
    """S29: where the endpoints are is what the issuer says, and no one else (OpenID Connect Discovery 1.0, 4)."""

    @pytest.mark.parametrize(
        "other",
        [
            lambda url: f"{url}/",
            lambda url: url.replace("127.0.0.1", "localhost"),
            lambda url: url.replace("http", "HTTP"),
            lambda url: url.replace("http", "https"),
            lambda url: url.rpartition(":")[0],
            lambda url: f"{url}/realm",
            lambda url: f" {url}",
            lambda url: [url],
            lambda url: "",
            lambda url: None,
        ],
        ids=["slash", "host", "case", "scheme", "port", "path", "space", "list", "empty", "missing"],
    )
    def test_a_document_of_any_other_issuer_is_refused(
        self, other: Callable[[str], Any], browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata["issuer"] = other(issuer.url)
        assert said(start(browser)) == (502, "provider_error")
        assert "describes the issuer" in caplog.text

    def test_a_slash_at_the_issuers_end_belongs_to_it_and_not_to_the_documents_address(
        self, visit: Callable[..., Browser], issuer: Issuer
    ) -> None:
        with_slash = f"{issuer.url}/realm/"
        issuer.routes["/realm/.well-known/openid-configuration"] = issuer.routes["/.well-known/openid-configuration"]
        issuer.metadata["issuer"] = issuer.claims["iss"] = with_slash
        browser = visit(PROVIDER=with_slash)
        callback = browser.callback_url().replace(quote(issuer.url, safe=""), quote(with_slash, safe=""))
        assert browser.get(callback).status_int == 303
        assert browser.profile().json["sub"] == "mona"

    @pytest.mark.parametrize("member", ["authorization_endpoint", "token_endpoint"])
    @pytest.mark.parametrize("missing", [None, "", []], ids=repr)
    def test_an_endpoint_that_is_not_there_is_named(
        self, member: str, missing: object, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata[member] = missing
        assert said(start(browser)) == (502, "provider_error")
        assert f"has no {member}" in caplog.text

    @pytest.mark.parametrize(
        "member", ["authorization_endpoint", "token_endpoint", "userinfo_endpoint", "revocation_endpoint"]
    )
    @pytest.mark.parametrize(
        "url",
        [
            "http://id.example.com/endpoint",
            "ftp://id.example.com/endpoint",
            "https://user@id.example.com/endpoint",
            "https://id.example.com/endpoint#here",
            "https://id.example.com/end point",
            "https://id.example.com:99999/",
            "/endpoint",
            "javascript:alert(1)",
            5,
            {"url": "https://id.example.com/endpoint"},
        ],
        ids=str,
    )
    def test_an_endpoint_to_which_no_secret_may_go_is_refused(
        self, member: str, url: object, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata[member] = url
        answer = start(browser)
        assert said(answer) == (502, "provider_error")
        assert f"the issuer's {member}" in caplog.text
        assert "example.com" not in answer.text

    @pytest.mark.parametrize("member", ["token_endpoint", "userinfo_endpoint", "revocation_endpoint"])
    def test_an_issuer_elsewhere_has_no_endpoints_on_this_machine(self, member: str) -> None:
        """Or whoever runs it reads, at /profile, what a service of this machine says to nobody else."""
        url = "https://id.example.com"
        endpoints = {
            "authorization_endpoint": f"{url}/a",
            "token_endpoint": f"{url}/t",
            "userinfo_endpoint": f"{url}/u",
        }
        document = {"issuer": url, **endpoints, member: "http://127.0.0.1:8500/v1/agent/self"}
        answer = requests.Response()
        answer.status_code, answer.raw = 200, io.BytesIO(json.dumps(document).encode())
        transport = Transport(10, 1)
        transport.send = lambda *_, **__: answer  # type: ignore[method-assign]
        described = provider_from_config(ProviderConfig(client_id="x", client_secret="y", provider=url))
        with pytest.raises(errors.ProviderError, match=member):
            Discovery(described, transport, has_secret=True).provider()

    @pytest.mark.parametrize("member", ["issuer", "token_endpoint_auth_methods_supported"])
    def test_what_a_document_says_does_not_fill_the_log(
        self, member: str, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata[member] = ["x" * 500_000]
        assert said(start(browser)) == (502, "provider_error")
        assert len(caplog.text) < 10_000

    def test_what_need_not_be_there_may_be_null(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        """Some servers write null for what they do not have."""
        optional = ("revocation_endpoint", "end_session_endpoint", "scopes_supported", "prompt_values_supported")
        document = json.loads(issuer.discovery_document().get_data()) | dict.fromkeys(optional)
        issuer.discover = lambda: Response(json.dumps(document), mimetype="application/json")
        browser = visit(END_SESSION="yes")
        browser.sign_in()
        assert browser.post("/logout").status_int == 200
        assert issuer.count("revoke") == 0

    @pytest.mark.parametrize(
        "answer",
        [
            Response("<!doctype html><title>Welcome</title>", mimetype="text/html"),
            Response(""),
            Response("[]", mimetype="application/json"),
            Response("null", mimetype="application/json"),
            Response('{"issuer": NaN}', mimetype="application/json"),
            Response('{"a":' * 100_000, mimetype="application/json"),
            Response(b"\xff\xfe{\x00}\x00", mimetype="application/json"),
            Response(b'{"issuer": "' + b"x" * 2**21 + b'"}', mimetype="application/json"),
            Response(status=204),
        ],
        ids=["HTML", "nothing", "list", "null", "NaN", "deep", "UTF-16", "2MiB", "204"],
    )
    def test_what_is_no_document_is_the_providers_fault(
        self, answer: Response, browser: Browser, issuer: Issuer
    ) -> None:
        """S25"""
        issuer.discover = lambda: answer
        assert said(start(browser)) == (502, "provider_error")

    @pytest.mark.parametrize("status", [404, 500, 503, 203])
    def test_a_document_comes_with_status_200(self, status: int, browser: Browser, issuer: Issuer) -> None:
        """Discovery 4.2"""
        issuer.discover = lambda: Response(issuer.discovery_document().get_data(), status)
        assert said(start(browser)) == (502, "provider_error")

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_not_followed(self, status: int, browser: Browser, issuer: Issuer) -> None:
        """S23. The document says where the client secret goes."""
        issuer.routes["/elsewhere"] = ("elsewhere", {"GET": lambda request: issuer.discovery_document()})
        location = {"Location": f"{issuer.url}/elsewhere"}
        issuer.discover = lambda: Response(issuer.discovery_document().get_data(), status, location)
        assert said(start(browser)) == (502, "provider_error")
        assert issuer.count("elsewhere") == 0

    def test_an_issuer_that_does_not_answer_is_given_up_in_time(
        self, visit: Callable[..., Browser], issuer: Issuer
    ) -> None:
        """S24"""
        over = threading.Event()

        def slow() -> Response:
            over.wait(60)
            return unavailable()

        issuer.discover = slow
        assert said(start(visit(UPSTREAM_TIMEOUT="1"))) == (504, "provider_timeout")
        over.set()

    def test_an_issuer_that_cannot_be_reached_is_not_there(self, visit: Callable[..., Browser]) -> None:
        """S26"""
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            nowhere = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        assert said(start(visit(PROVIDER=nowhere))) == (502, "provider_unreachable")

    def test_a_byte_order_mark_and_members_that_nobody_knows_do_no_harm(self, browser: Browser, issuer: Issuer) -> None:
        issuer.metadata["x_endpoint"] = "relative"
        document = b"\xef\xbb\xbf" + issuer.discovery_document().get_data()
        issuer.discover = lambda: Response(document, content_type="application/json; charset=UTF-8")
        browser.sign_in()

    def test_the_document_is_read_again_after_an_hour(
        self, browser: Browser, issuer: Issuer, uptime: Callable[[float], None]
    ) -> None:
        browser.sign_in()
        issuer.metadata["scopes_supported"] = ["openid"]
        uptime(HOUR - 60)
        assert parameters(browser.start())["scope"] == "openid profile email"
        assert issuer.count("discovery") == 1
        uptime(120)
        assert parameters(browser.start())["scope"] == "openid"
        assert issuer.count("discovery") == 2

    @pytest.mark.parametrize("problem", ["unavailable", "another issuer", "no token endpoint"])
    def test_while_the_issuer_cannot_be_asked_what_it_said_last_holds(
        self, problem: str, browser: Browser, issuer: Issuer, uptime: Callable[[float], None]
    ) -> None:
        browser.sign_in()
        uptime(HOUR + 1)
        if problem == "unavailable":
            issuer.discover = unavailable
        else:
            issuer.metadata |= {"token_endpoint": None} if "token" in problem else {"issuer": "https://example.com"}
        browser.sign_in()
        assert browser.profile().status_int == 200
        assert issuer.count("discovery") == 2  # one of all those requests has tried
        uptime(61)
        browser.start()
        assert issuer.count("discovery") == 3

    def test_a_failure_is_remembered_for_a_moment_so_that_not_everybody_waits_for_it(
        self, browser: Browser, issuer: Issuer, uptime: Callable[[float], None]
    ) -> None:
        issuer.discover = unavailable
        assert [said(start(browser)) for _ in range(3)] == [(502, "provider_error")] * 3
        assert issuer.count("discovery") == 1
        issuer.discover = issuer.discovery_document
        uptime(6)
        browser.sign_in()

    def test_who_is_signed_in_can_sign_out_without_the_issuer(
        self, visit: Callable[..., Browser], issuer: Issuer, store: MemoryStore
    ) -> None:
        """S44"""
        browser = visit()
        browser.sign_in()
        issuer.discover = unavailable
        restarted = visit(END_SESSION="yes")
        restarted.app.set_cookie("wsgi_oauth", browser.cookie)
        assert restarted.post("/logout").status_int == 200
        assert stored_sessions(store) == []


class TestWhatIsConfiguredWins:
    def test_an_endpoint(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        issuer.metadata["token_endpoint"] = "http://id.example.com/token"
        browser = visit(TOKEN_URL=issuer.token_url)
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"

    def test_all_three_endpoints_and_the_id_token_is_checked_all_the_same(
        self, visit: Callable[..., Browser], issuer: Issuer
    ) -> None:
        """Or three more settings would take the nonce, the issuer and the audience away without a word."""
        urls = {f"{name.upper()}_URL": getattr(issuer, f"{name}_url") for name in ("authorization", "token", "profile")}
        issuer.metadata |= dict.fromkeys(("authorization_endpoint", "token_endpoint"), "http://id.example.com/")
        visit(**dict(list(urls.items())[:2])).sign_in()
        browser = visit(**urls)
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"
        issuer.claims["aud"] = "another client"
        assert browser.get(browser.callback_url()).status_int == 502

    def test_the_scope_and_how_the_client_authenticates(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        issuer.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_basic"]
        browser = visit(SCOPE="openid email", CLIENT_AUTH="post")
        assert parameters(browser.start())["scope"] == "openid email"
        browser.sign_in()
        assert "client_secret=" in issuer.exchanges[-1].body


class TestWhatTheIssuerOffers:
    @pytest.mark.parametrize(
        ("offered", "basic"),
        [
            (None, True),  # Discovery 3: the default
            (["client_secret_basic"], True),
            (["client_secret_post", "client_secret_basic"], True),
            (["private_key_jwt", "client_secret_post", "none"], False),
        ],
        ids=repr,
    )
    def test_the_client_authenticates_as_the_issuer_wants_it(
        self, offered: list[str] | None, basic: bool, browser: Browser, issuer: Issuer
    ) -> None:
        issuer.metadata["token_endpoint_auth_methods_supported"] = offered
        browser.sign_in()
        exchange = issuer.exchanges[-1]
        assert ("Authorization" in exchange.headers, "client_secret=" in exchange.body) == (basic, not basic)

    @pytest.mark.parametrize("offered", [["private_key_jwt"], ["none"], []], ids=repr)
    def test_a_way_that_nobody_here_knows_is_named(
        self, offered: list[str], browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata["token_endpoint_auth_methods_supported"] = offered
        assert said(start(browser)) == (502, "provider_error")
        assert f"offers only {offered} to authenticate clients" in caplog.text

    def test_a_public_client_says_who_it_is_and_no_more(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        public = Issuer(client_secret=None)
        public.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_basic"]
        with serve_provider(public):
            browser = visit(PROVIDER=public.url, CLIENT_AUTH="none", CLIENT_SECRET="")
            browser.sign_in()
        exchange = public.exchanges[-1]
        assert "Authorization" not in exchange.headers
        assert parse_qs(exchange.body)["client_id"] == [public.client_id]

    @pytest.mark.parametrize(
        ("offered", "asked"),
        [
            (None, "openid profile email"),
            ("openid", "openid profile email"),  # not a list
            (["openid", "email", "address", "groups"], "openid email"),
            (["email"], "openid email"),  # without it there would be no sign-in
            (["offline_access", "openid"], "openid offline_access"),
        ],
        ids=repr,
    )
    def test_what_the_issuer_has_of_the_usual_scopes_is_asked_for(
        self, offered: object, asked: str, browser: Browser, issuer: Issuer
    ) -> None:
        issuer.metadata["scopes_supported"] = offered
        assert parameters(browser.start())["scope"] == asked

    def test_offline_access_takes_the_users_consent(self, browser: Browser, issuer: Issuer) -> None:
        """Core 11: else an issuer must ignore it, and nobody would get a refresh token."""
        issuer.metadata["scopes_supported"] = ["openid", "offline_access"]
        assert parameters(browser.start())["prompt"] == "consent"
        assert parameters(browser.get("/?switch=1").location)["prompt"] == "login consent"

    def test_without_it_no_consent_is_asked_for(self, browser: Browser) -> None:
        assert "prompt" not in parameters(browser.start())
        assert parameters(browser.get("/?switch=1").location)["prompt"] == "login"

    def test_an_issuer_that_does_not_know_such_a_prompt_is_not_asked(self, browser: Browser, issuer: Issuer) -> None:
        issuer.metadata |= {"scopes_supported": ["openid", "offline_access"], "prompt_values_supported": ["none"]}
        assert "prompt" not in parameters(browser.start())

    def test_what_is_configured_leaves_it_out(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        issuer.metadata["scopes_supported"] = ["openid", "offline_access"]
        assert "prompt" not in parameters(visit(SCOPE="openid").start())


class TestTheIssuerInTheAuthorizationResponse:
    """S9; RFC 9207 2.4, 3."""

    def test_is_required_where_the_document_promises_it(self, browser: Browser, store: MemoryStore) -> None:
        callback = browser.callback_url().partition("&iss=")[0]
        assert said(browser.get(callback, headers=JSON)) == (400, "issuer_mismatch")
        assert_nobody_is_signed_in(browser, store)

    def test_is_not_what_an_error_needs_to_be_one(self, browser: Browser, store: MemoryStore) -> None:
        """Django OAuth Toolkit sends it with codes alone. Nobody is signed in by an error, whoever it is from."""
        declined = browser.consent(browser.start(), decision="deny")
        assert said(browser.get(declined.partition("&iss=")[0], headers=JSON)) == (403, "login_declined")
        declined = browser.consent(browser.start(), decision="deny")
        wrong = declined.partition("&iss=")[0] + "&iss=https%3A%2F%2Fid.example.com"
        assert said(browser.get(wrong, headers=JSON)) == (400, "issuer_mismatch")
        assert_nobody_is_signed_in(browser, store)

    @pytest.mark.parametrize("promise", [None, False, "true", 1], ids=repr)
    def test_may_be_missing_where_it_does_not(self, promise: object, browser: Browser, issuer: Issuer) -> None:
        issuer.metadata["authorization_response_iss_parameter_supported"] = promise
        assert browser.get(browser.callback_url().partition("&iss=")[0]).status_int == 303

    def test_must_be_the_right_one_where_it_is_sent_all_the_same(
        self, browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        issuer.metadata["authorization_response_iss_parameter_supported"] = None
        callback = browser.callback_url().partition("&iss=")[0]
        answer = browser.get(f"{callback}&iss=https%3A%2F%2Fid.example.com", headers=JSON)
        assert said(answer) == (400, "issuer_mismatch")
        assert_nobody_is_signed_in(browser, store)


def assert_nobody_is_signed_in(browser: Browser, store: MemoryStore) -> None:
    assert browser.profile().status_int == 401
    assert not any("oauth_token" in session or "oauth_identity" in session for session in stored_sessions(store))


CLIENT = "demo-client"
WRONG: dict[str, list[Any]] = {
    "iss": ["https://id.example.com", "", None, 5],
    "aud": ["another-client", "DEMO-CLIENT", "", None, 5, [], ["another-client"], {CLIENT: 1}, [[CLIENT]]],
    "azp": ["another-client", "", 5],
    "exp": [0, -1, None, "tomorrow", "9999999999", True, [9999999999]],
    "iat": [9_999_999_999, None, "yesterday", False, {}],
    "nonce": ["another sign-in's", "", None, 5, "\ud800", ["nonce"]],
    "sub": [None, "", 5, ["mona"], {"mona": 1}],
}


class TestAnIdToken:
    """S30; OpenID Connect Core 3.1.3.7."""

    @pytest.mark.parametrize("wrong", [(claim, value) for claim, values in WRONG.items() for value in values], ids=str)
    def test_with_a_claim_that_is_wrong_signs_nobody_in(
        self,
        wrong: tuple[str, Any],
        browser: Browser,
        issuer: Issuer,
        store: MemoryStore,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        claim, value = wrong
        issuer.claims[claim] = value
        assert said(come_back(browser)) == (502, "id_token_refused")
        assert f"refused for its {claim}" in caplog.text
        assert_nobody_is_signed_in(browser, store)

    def test_of_an_issuer_that_is_right_but_for_a_slash_signs_nobody_in(
        self, browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        issuer.claims["iss"] = f"{issuer.url}/"
        assert said(come_back(browser)) == (502, "id_token_refused")
        assert_nobody_is_signed_in(browser, store)

    def test_that_is_for_others_too_says_to_whom_it_was_issued(
        self, browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        """Core 3.1.3.7, items 3 to 5."""
        issuer.claims["aud"] = [CLIENT, "another-client"]
        assert said(come_back(browser)) == (502, "id_token_refused")
        assert_nobody_is_signed_in(browser, store)
        issuer.claims["azp"] = CLIENT
        browser.sign_in()

    def test_of_another_start_signs_nobody_in(self, browser: Browser, issuer: Issuer, store: MemoryStore) -> None:
        """Core 15.5.2: a code that was injected brings the ID token of its own sign-in."""
        stolen = parameters(browser.start())["nonce"]
        issuer.claims["nonce"] = stolen
        assert said(come_back(browser)) == (502, "id_token_refused")
        assert_nobody_is_signed_in(browser, store)

    @pytest.mark.parametrize(
        "claims",
        [
            {"aud": [CLIENT]},
            {"azp": CLIENT},
            {"exp": 10**400},
            {"exp": time.time() + HOUR + 0.5},
            {"acr": "1", "https://example.com/roles": ["a"], "address": {"country": "NO"}, "auth_time": "?"},
        ],
        ids=lambda claims: " ".join(claims),
    )
    def test_with_what_is_unusual_and_right_is_taken(
        self, claims: dict[str, Any], browser: Browser, issuer: Issuer
    ) -> None:
        issuer.claims |= claims
        browser.sign_in()

    @pytest.mark.parametrize(("claim", "seconds"), [("exp", -200), ("iat", 200)])
    def test_of_a_clock_that_is_some_minutes_off_is_taken(
        self, claim: str, seconds: int, browser: Browser, issuer: Issuer
    ) -> None:
        issuer.claims[claim] = time.time() + seconds
        browser.sign_in()

    @pytest.mark.parametrize(("claim", "seconds"), [("exp", -400), ("iat", 400)])
    def test_of_a_clock_that_is_further_off_is_not(
        self, claim: str, seconds: int, browser: Browser, issuer: Issuer
    ) -> None:
        issuer.claims[claim] = time.time() + seconds
        assert said(come_back(browser)) == (502, "id_token_refused")

    @pytest.mark.parametrize(
        "forged",
        [
            lambda token: None,
            lambda token: token.partition(".")[2],
            lambda token: f"{token}.e30",
            lambda token: f"{token}.e30.e30",  # RFC 7516 3.1: encrypted
            lambda token: token.replace(".", ".!", 1),
            lambda token: token.replace(".", ".=", 1),
            lambda token: token.replace(".", "=.", 1),
            lambda token: token.replace(".", ".\xff", 1).encode("latin-1").decode("utf-8", "ignore").replace(".", ".+"),
            lambda token: f".{token.partition('.')[2]}",
            lambda token: f"{token.partition('.')[0]}..{token.rpartition('.')[2]}",
            lambda token: {"jwt": token},
            lambda token: [token],
            lambda token: token * 100,
            lambda token: jwt(b""),
            lambda token: jwt(b"mona"),
            lambda token: jwt(b"[]"),
            lambda token: jwt(b'"mona"'),
            lambda token: jwt(b"5"),
            lambda token: jwt(b"null"),
            lambda token: jwt(b"{"),
            lambda token: jwt(b'{"sub": "\xff"}'),
            lambda token: jwt(b'{"a":' * 2000 + b"1" + b"}" * 2000),
            lambda token: jwt(b"[" * 10_000),
            lambda token: jwt(b'{"exp": ' + b"9" * 10_000 + b"}"),
            lambda token: jwt(b'{"exp": 1e999}'),
            lambda token: jwt(b'{"exp": Infinity}'),
            lambda token: jwt(b'{"exp": NaN}'),
        ],
        ids=[
            *("missing", "two parts", "four parts", "five parts", "not base64", "padding", "padded header"),
            *("other base64", "no header", "no payload", "object", "list", "very long", "empty payload", "no JSON"),
            *("claims are a list", "a string", "a number", "null", "half a document", "no UTF-8", "deep", "deeper"),
            *("number beyond measure", "1e999", "Infinity", "NaN"),
        ],
    )
    def test_that_is_none_signs_nobody_in(
        self, forged: Callable[[str], Any], browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        issuer.sign = lambda claims: forged(issuer.signed(claims))
        status, cause = said(come_back(browser))
        assert (status, cause in {"id_token_refused", "provider_error"}) == (502, True)
        assert_nobody_is_signed_in(browser, store)

    @pytest.mark.parametrize("number", [b"1e999", b"Infinity"])
    def test_that_never_ends_is_none(self, number: bytes, browser: Browser, issuer: Issuer, store: MemoryStore) -> None:
        def endless(claims: dict[str, Any]) -> str:
            return jwt(json.dumps({**claims, "exp": "EXP"}).encode().replace(b'"EXP"', number))

        issuer.sign = endless
        assert said(come_back(browser)) == (502, "id_token_refused")
        assert_nobody_is_signed_in(browser, store)

    def test_that_is_missing_is_what_the_log_says(
        self, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.sign = lambda claims: None
        assert said(come_back(browser)) == (502, "id_token_refused")
        assert "gave no ID token" in caplog.text

    def test_is_not_asked_for_where_the_scope_leaves_openid_out(
        self, visit: Callable[..., Browser], issuer: Issuer
    ) -> None:
        browser = visit(SCOPE="profile email")
        assert "nonce" not in parameters(browser.start())
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"


class TestTheUserDocument:
    """S30; OpenID Connect Core 5.3.2: an access token that was swapped must not make somebody of somebody else."""

    @pytest.mark.parametrize("sub", ["mallory", "MONA", "mona ", "", None, 5], ids=repr)
    def test_of_another_subject_is_neither_shown_nor_remembered(
        self, sub: object, browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        browser.sign_in()
        issuer.user = {**issuer.user, "sub": sub, "name": "Mallory"}
        answer = browser.profile()
        assert said(answer) == (502, "id_token_refused")
        assert "Mallory" not in answer.text
        assert not any("oauth_identity" in session for session in stored_sessions(store))

    def test_is_what_the_id_token_says_where_the_issuer_has_no_other(
        self, browser: Browser, issuer: Issuer, store: MemoryStore, later: Callable[[float], None]
    ) -> None:
        """Discovery 3: an issuer need not have a UserInfo endpoint."""
        issuer.metadata["userinfo_endpoint"] = None
        issuer.claims["email"] = "mona@example.com"
        browser.sign_in()
        assert browser.profile().json["email"] == "mona@example.com"
        [session] = stored_sessions(store)
        assert (session["oauth_identity"]["subject"], session["oauth_identity"]["email"]) == (
            "mona",
            "mona@example.com",
        )
        later(HOUR)
        assert browser.profile().json["sub"] == "mona"
        assert (issuer.count("refresh"), issuer.count("profile")) == (1, 0)

    def test_has_to_be_somewhere_when_no_id_token_is_asked_for(
        self, visit: Callable[..., Browser], issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata["userinfo_endpoint"] = None
        assert said(start(visit(SCOPE="email"))) == (502, "provider_error")
        assert "has no userinfo_endpoint" in caplog.text

    def test_is_json_as_it_is_unless_a_client_has_registered_for_something_else(
        self, browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        """Core 5.3.2: a signed one, application/jwt, is for who asked for it."""
        browser.sign_in()
        signed = Response(issuer.signed(dict(issuer.user)), content_type="application/jwt")
        issuer.routes["/user"] = ("profile", {"GET": lambda request: signed})
        assert said(browser.profile()) == (502, "provider_error")
        assert not any("oauth_identity" in session for session in stored_sessions(store))

    def test_without_a_subject_is_about_nobody(self, browser: Browser, issuer: Issuer) -> None:
        browser.sign_in()
        issuer.user = {name: value for name, value in issuer.user.items() if name != "sub"}
        assert said(browser.profile()) == (502, "id_token_refused")


class TestARefreshedIdToken:
    """S30; OpenID Connect Core 12.2."""

    def test_takes_the_place_of_the_first_and_needs_no_nonce(
        self, browser: Browser, store: MemoryStore, later: Callable[[float], None]
    ) -> None:
        browser.sign_in()
        [before] = stored_sessions(store)
        later(HOUR)
        assert browser.profile().status_int == 200
        [after] = stored_sessions(store)
        assert before["oauth_token"]["id_token"] != after["oauth_token"]["id_token"]

    def test_may_be_left_out_and_then_the_first_stays(
        self, browser: Browser, issuer: Issuer, store: MemoryStore, later: Callable[[float], None]
    ) -> None:
        browser.sign_in()
        [before] = stored_sessions(store)
        later(HOUR)
        issuer.sign = lambda claims: None
        assert browser.profile().status_int == 200
        [after] = stored_sessions(store)
        assert before["oauth_token"]["id_token"] == after["oauth_token"]["id_token"]

    @pytest.mark.parametrize(
        "claims",
        [{"sub": "mallory"}, {"nonce": "another"}, {"aud": "another-client"}, {"iss": "https://id.example.com"}],
        ids=str,
    )
    def test_about_somebody_else_ends_the_session(
        self,
        claims: dict[str, str],
        browser: Browser,
        issuer: Issuer,
        store: MemoryStore,
        later: Callable[[float], None],
    ) -> None:
        browser.sign_in()
        later(HOUR)
        issuer.claims |= claims
        issuer.user = {**issuer.user, "sub": claims.get("sub", "mona")}
        assert said(browser.profile()) == (401, "token_rejected")
        assert stored_sessions(store) == []

    def test_may_say_the_first_nonce_again(
        self, browser: Browser, issuer: Issuer, later: Callable[[float], None]
    ) -> None:
        authorization_url = browser.start()
        browser.get(browser.consent(authorization_url))
        later(HOUR)
        issuer.claims["nonce"] = parameters(authorization_url)["nonce"]
        assert browser.profile().status_int == 200


class TestSigningOut:
    """OpenID Connect RP-Initiated Logout 2, RFC 7009."""

    def test_goes_on_at_the_issuers_own_endpoint_with_the_id_token(
        self, visit: Callable[..., Browser], issuer: Issuer, store: MemoryStore
    ) -> None:
        browser = visit(END_SESSION="yes")
        browser.sign_in()
        [session] = stored_sessions(store)
        answer = browser.post("/logout")
        assert (answer.status_int, answer.location.partition("?")[0]) == (303, f"{issuer.url}/end")
        assert parameters(answer.location) == {
            "client_id": CLIENT,
            "id_token_hint": session["oauth_token"]["id_token"],
        }
        assert issuer.count("revoke") == 2

    def test_may_lead_there_from_a_form(self, visit: Callable[..., Browser], browser: Browser) -> None:
        """Browsers apply form-action to redirects as well; seen in Chromium 156, which does nothing at all then."""
        leaving = visit(END_SESSION="yes").get("/profile", {"Accept": "application/json"})
        assert "form-action" not in leaving.headers["Content-Security-Policy"]
        staying = browser.get("/profile", {"Accept": "application/json"})
        assert "form-action 'self'" in staying.headers["Content-Security-Policy"]

    def test_stays_here_unless_that_is_configured(self, browser: Browser, issuer: Issuer) -> None:
        browser.sign_in()
        assert browser.post("/logout").status_int == 200
        assert issuer.count("revoke") == 2
