"""OpenID Connect: discovery of an issuer, and validation of its ID tokens and user documents."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests
from conftest import JSON, Browser, free_port, parameters, stored_sessions
from openid import HOUR, Issuer, config_for
from webtest import TestResponse
from werkzeug import Response

from wsgi_oauth import MemoryStore, RequestHandler, create_app, errors
from wsgi_oauth.config import ProviderConfig
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.demo.signing import sign_jwt
from wsgi_oauth.oauth.configured import provider_from_config
from wsgi_oauth.oauth.discovery import Discovery
from wsgi_oauth.transport.pool import Transport


@pytest.fixture
def visit(issuer: Issuer, store: MemoryStore) -> Callable[..., Browser]:
    """Make a browser for an application that is configured with the URL of the issuer and further settings."""

    def visit(*, handlers: tuple[type[RequestHandler], ...] = (), **settings: str) -> Browser:
        return Browser(create_app(config_for(issuer, **settings), store=store, handlers=handlers), issuer)

    return visit


@pytest.fixture
def browser(visit: Callable[..., Browser]) -> Browser:
    return visit()


@pytest.fixture
def uptime(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Advance the monotonic clock: ``uptime(600)``."""
    passed, now = [0.0], time.monotonic

    def forward(seconds: float) -> None:
        passed[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now() + passed[0])
    return forward


def start(browser: Browser) -> TestResponse:
    return browser.get("/", headers=JSON)


def finish_sign_in(browser: Browser) -> TestResponse:
    """Sign in, and return the response of the callback."""
    return browser.get(browser.callback_url(), headers=JSON)


unusable_urls = pytest.mark.parametrize(
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


def said(answer: TestResponse) -> tuple[int, str]:
    return answer.status_int, answer.json["error"]


def unavailable() -> Response:
    return Response(status=503)


def serve_at(issuer: Issuer, path: str) -> None:
    """Serve the discovery document at *path* as well. Requests are counted under that name."""
    issuer.routes[path] = (path, {"GET": lambda request: issuer.discovery_document()})


def test_sign_in_needs_only_the_url_of_the_issuer(browser: Browser, issuer: Issuer, store: MemoryStore) -> None:
    asked = parameters(browser.start())
    assert asked["scope"] == "openid profile email"
    assert len(asked["nonce"]) == 43
    browser.sign_in()
    assert browser.profile().json["sub"] == "mona"
    [identity] = [session["oauth_identity"] for session in stored_sessions(store) if "oauth_identity" in session]
    assert (identity["provider"], identity["subject"]) == (urlsplit(issuer.url).netloc, "mona")
    assert issuer.count("discovery") == 1


def test_each_sign_in_has_a_new_nonce(browser: Browser) -> None:
    assert len({parameters(browser.start())["nonce"] for _ in range(5)}) == 5


class TestDiscovery:
    """S29: the endpoints come from the issuer's document (OpenID Connect Discovery 1.0, 4)."""

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
    def test_document_of_another_issuer_is_refused(
        self, other: Callable[[str], Any], browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata["issuer"] = other(issuer.url)
        assert said(start(browser)) == (502, "provider_error")
        assert "describes the issuer" in caplog.text
        assert "set WSGI_OAUTH_PROVIDER to exactly the issuer in the metadata" in caplog.text

    def test_issuer_that_does_not_know_its_scheme_is_refused_with_the_remedy(self) -> None:
        """Its proxy terminates TLS, and does not say so."""
        answer = requests.Response()
        answer.status_code, answer.raw = 200, io.BytesIO(b'{"issuer": "http://id.example.com"}')
        transport = Transport(10, 1)
        transport.send = lambda *_, **__: answer  # type: ignore[method-assign]
        config = ProviderConfig(client_id="x", client_secret="y", provider="https://id.example.com")
        with pytest.raises(errors.ProviderError, match="let its proxy send X-Forwarded-Proto: https"):
            Discovery(provider_from_config(config), config, transport).provider()

    def test_trailing_slash_is_part_of_the_issuer_but_not_of_the_url(
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
    def test_missing_endpoint_is_named_in_the_log(
        self, member: str, missing: object, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata[member] = missing
        assert said(start(browser)) == (502, "provider_error")
        assert f"has no {member}" in caplog.text

    @pytest.mark.parametrize("member", ["authorization_endpoint", "token_endpoint"])
    @unusable_urls
    def test_insecure_or_invalid_endpoint_is_refused(
        self, member: str, url: object, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata[member] = url
        answer = start(browser)
        assert said(answer) == (502, "provider_error")
        assert f"the issuer's {member}" in caplog.text
        shown = str(url).replace("https://user@", "https://***@")
        assert (
            f"(got {shown!a}); correct the metadata, or set WSGI_OAUTH_{member.split('_', maxsplit=1)[0].upper()}_URL"
            in caplog.text
        )
        assert "example.com" not in answer.text

    @pytest.mark.parametrize("member", ["userinfo_endpoint", "revocation_endpoint", "end_session_endpoint"])
    @unusable_urls
    def test_unusable_endpoint_that_no_sign_in_needs_is_ignored(
        self, member: str, url: object, visit: Callable[..., Browser], issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without a UserInfo endpoint the ID token says who signed in."""
        issuer.metadata[member] = url
        browser = visit(END_SESSION="yes")
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"
        assert f"the issuer's {member}" in caplog.text
        location = browser.post("/logout").headers.get("Location", "")
        assert "example.com" not in location

    def test_user_document_is_needed_without_an_id_token(
        self, visit: Callable[..., Browser], issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata["userinfo_endpoint"] = "/user"
        assert said(start(visit(SCOPE="profile"))) == (502, "provider_error")
        assert "the issuer's userinfo_endpoint" in caplog.text

    @pytest.mark.parametrize(
        "member", ["token_endpoint", "userinfo_endpoint", "revocation_endpoint", "end_session_endpoint"]
    )
    def test_remote_issuer_cannot_have_endpoints_on_this_machine(self, member: str) -> None:
        """Otherwise its operator could read responses of a local service at /profile."""
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
        config = ProviderConfig(client_id="x", client_secret="y", provider=url)
        with suppress(errors.ProviderError):  # raised for a required endpoint
            assert "127.0.0.1" not in str(Discovery(provider_from_config(config), config, transport).provider())

    @pytest.mark.parametrize(("hosts", "is_accepted"), [((), False), (("other",), False), (("keycloak",), True)])
    def test_remote_issuer_can_have_endpoints_on_named_hosts_only(
        self, hosts: tuple[str, ...], is_accepted: bool
    ) -> None:
        """In a cluster the issuer is a public URL, and its endpoints for applications are services of the cluster."""
        url = "https://id.example.com"
        document = {"issuer": url, "authorization_endpoint": f"{url}/a", "token_endpoint": "http://keycloak:8080/t"}
        answer = requests.Response()
        answer.status_code, answer.raw = 200, io.BytesIO(json.dumps(document).encode())
        transport = Transport(10, 1, http_hosts=hosts)
        transport.send = lambda *_, **__: answer  # type: ignore[method-assign]
        config = ProviderConfig(client_id="x", client_secret="y", provider=url)
        discovery = Discovery(provider_from_config(config), config, transport)
        if is_accepted:
            assert discovery.provider().token_url == "http://keycloak:8080/t"
        else:
            with pytest.raises(errors.ProviderError, match="token_endpoint must begin with https"):
                discovery.provider()

    def test_issuer_and_document_can_be_on_named_hosts(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        """0.0.0.0 is this machine, but not a loopback address."""
        url = issuer.url.replace("127.0.0.1", "0.0.0.0")
        for name in ("authorization", "token", "userinfo", "revocation"):
            path = {"authorization": "authorize", "userinfo": "user", "revocation": "revoke"}.get(name, name)
            issuer.metadata[f"{name}_endpoint"] = f"{url}/{path}"
        browser = visit(DISCOVERY_URL=f"{url}/.well-known/openid-configuration", INSECURE_HTTP_HOSTS="0.0.0.0")
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"

    @pytest.mark.parametrize("member", ["issuer", "token_endpoint_auth_methods_supported"])
    def test_long_values_are_shortened_in_the_log(
        self, member: str, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata[member] = ["x" * 500_000]
        assert said(start(browser)) == (502, "provider_error")
        assert len(caplog.text) < 10_000

    def test_optional_members_can_be_null(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        """Some servers send null for a feature that they lack."""
        optional = ("revocation_endpoint", "end_session_endpoint", "scopes_supported", "prompt_values_supported")
        document = json.loads(issuer.discovery_document().get_data()) | dict.fromkeys(optional)
        issuer.discover = lambda: Response(json.dumps(document), mimetype="application/json")
        browser = visit(END_SESSION="yes")
        browser.sign_in()
        assert browser.post("/logout").status_int == 303
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
    def test_invalid_document_is_a_provider_error(self, answer: Response, browser: Browser, issuer: Issuer) -> None:
        """S25"""
        issuer.discover = lambda: answer
        assert said(start(browser)) == (502, "provider_error")

    def test_rate_limit_is_passed_on(self, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
        issuer.discover = lambda: Response(status=429, headers={"Retry-After": "77"})
        answer = start(browser)
        assert (answer.status_int, answer.headers["Retry-After"]) == (429, "77")
        assert "WSGI_OAUTH_DISCOVERY_URL" not in caplog.text

    @pytest.mark.parametrize("status", [404, 500, 503, 203])
    def test_document_with_another_status_than_200_is_refused(
        self, status: int, browser: Browser, issuer: Issuer
    ) -> None:
        """Discovery 4.2"""
        issuer.discover = lambda: Response(issuer.discovery_document().get_data(), status)
        assert said(start(browser)) == (502, "provider_error")

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("location", ["{url}/elsewhere", "/elsewhere", "/a/../elsewhere"])
    def test_redirect_within_the_origin_is_followed(
        self, location: str, status: int, browser: Browser, issuer: Issuer
    ) -> None:
        """Nextcloud redirects to /index.php/.well-known/openid-configuration."""
        serve_at(issuer, "/elsewhere")
        issuer.discover = lambda: Response("moved", status, {"Location": location.format(url=issuer.url)})
        browser.sign_in()

    @pytest.mark.parametrize(
        "location", ["{other}/elsewhere", "//localhost:{port}/elsewhere", "https://id.example.com/"]
    )
    def test_redirect_to_another_origin_is_not_followed(
        self, location: str, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """S29. The client secret is sent to an endpoint of the document."""
        serve_at(issuer, "/elsewhere")
        target = location.format(other=issuer.url.replace("127.0.0.1", "localhost"), port=urlsplit(issuer.url).port)
        issuer.discover = lambda: Response(status=302, headers={"Location": target})
        assert said(start(browser)) == (502, "provider_error")
        assert issuer.count("elsewhere") == 0
        assert "redirects to another origin" in caplog.text
        assert "set WSGI_OAUTH_DISCOVERY_URL" in caplog.text

    def test_redirect_loop_ends(self, browser: Browser, issuer: Issuer) -> None:
        issuer.discover = lambda: Response(status=302, headers={"Location": "/.well-known/openid-configuration"})
        assert said(start(browser)) == (502, "provider_error")
        assert issuer.count("discovery") < 50

    def test_issuer_that_does_not_answer_is_given_up_at_the_deadline(
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

    def test_unreachable_issuer_is_a_provider_error(self, visit: Callable[..., Browser]) -> None:
        """S26"""
        assert said(start(visit(PROVIDER=f"http://127.0.0.1:{free_port()}"))) == (502, "provider_unreachable")

    def test_byte_order_mark_and_unknown_members_are_ignored(self, browser: Browser, issuer: Issuer) -> None:
        issuer.metadata["x_endpoint"] = "relative"
        document = b"\xef\xbb\xbf" + issuer.discovery_document().get_data()
        issuer.discover = lambda: Response(document, content_type="application/json; charset=UTF-8")
        browser.sign_in()

    def test_document_is_fetched_again_after_an_hour(
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
    def test_last_document_stays_in_use_during_an_outage(
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
        assert issuer.count("discovery") == 2  # a single request has tried
        uptime(61)
        browser.start()
        assert issuer.count("discovery") == 3

    def test_failure_is_cached_for_some_seconds(
        self, browser: Browser, issuer: Issuer, uptime: Callable[[float], None]
    ) -> None:
        issuer.discover = unavailable
        assert [said(start(browser)) for _ in range(3)] == [(502, "provider_error")] * 3
        assert issuer.count("discovery") == 1
        issuer.discover = issuer.discovery_document
        uptime(6)
        browser.sign_in()

    def test_known_user_is_identified_and_admitted_during_an_outage(
        self, visit: Callable[..., Browser], issuer: Issuer
    ) -> None:
        """A worker that has started during the outage cannot discover the endpoints, and does not need them."""

        class Greeting(RequestHandler):
            route = "/greeting"

            def get(self, request: Any) -> Response:
                return self.jsonify(self.identity.subject)

        browser = visit(ALLOW="id:mona")
        browser.sign_in()
        issuer.discover = unavailable
        restarted = visit(handlers=(Greeting,), ALLOW="id:mona")
        restarted.app.set_cookie("wsgi_oauth", browser.cookie)
        assert restarted.get("/greeting", headers=JSON).json == "mona"

    def test_signing_out_works_during_an_outage(
        self, visit: Callable[..., Browser], issuer: Issuer, store: MemoryStore
    ) -> None:
        """S44"""
        browser = visit()
        browser.sign_in()
        issuer.discover = unavailable
        restarted = visit(END_SESSION="yes")
        restarted.app.set_cookie("wsgi_oauth", browser.cookie)
        assert restarted.post("/logout").status_int == 303
        assert stored_sessions(store) == []


class TestDiscoveryUrl:
    """A document that is not below the issuer's URL: WSGI_OAUTH_DISCOVERY_URL."""

    @pytest.fixture(autouse=True)
    def tenant(self, issuer: Issuer) -> None:
        """Serve the document of an issuer as Azure AD B2C does: below the policy, without a UserInfo endpoint."""
        issuer.metadata |= {"issuer": f"{issuer.url}/guid/v2.0/", "userinfo_endpoint": None}
        issuer.claims["iss"] = f"{issuer.url}/guid/v2.0/"
        issuer.metadata["authorization_response_iss_parameter_supported"] = None
        serve_at(issuer, "/policy/v2.0/document")

    def callback(self, browser: Browser) -> str:
        return browser.callback_url().partition("&iss=")[0]

    def test_locates_the_document(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        browser = visit(PROVIDER=f"{issuer.url}/guid/v2.0/", DISCOVERY_URL=f"{issuer.url}/policy/v2.0/document")
        assert browser.get(self.callback(browser)).status_int == 303
        assert browser.profile().json["iss"] == f"{issuer.url}/guid/v2.0/"
        assert (issuer.count("discovery"), issuer.count("/policy/v2.0/document")) == (0, 1)

    def test_locates_the_document_of_a_preset(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        settings = {"ISSUER": f"{issuer.url}/guid/v2.0/", "DISCOVERY_URL": f"{issuer.url}/policy/v2.0/document"}
        browser = visit(PROVIDER="zitadel", **settings)
        assert browser.get(self.callback(browser)).status_int == 303

    @pytest.mark.parametrize("other", ["/guid/v2.0", "/other/v2.0/", "/policy/v2.0"])
    def test_cannot_make_the_document_of_another_issuer_acceptable(
        self, other: str, visit: Callable[..., Browser], issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """S29"""
        browser = visit(PROVIDER=issuer.url + other, DISCOVERY_URL=f"{issuer.url}/policy/v2.0/document")
        assert said(start(browser)) == (502, "provider_error")
        assert "describes the issuer" in caplog.text

    def test_is_named_in_the_log_when_the_issuer_has_no_document(
        self, visit: Callable[..., Browser], issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert said(start(visit(PROVIDER=f"{issuer.url}/guid/v2.0/"))) == (502, "provider_error")
        assert 'status 404 ("Not found."); set WSGI_OAUTH_DISCOVERY_URL' in caplog.text
        assert "correct the realm or tenant in the issuer" in caplog.text

    def test_of_a_provider_without_discovery_stops_the_start(
        self, visit: Callable[..., Browser], issuer: Issuer
    ) -> None:
        with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_DISCOVERY_URL: has no effect"):
            visit(PROVIDER="github", DISCOVERY_URL=f"{issuer.url}/policy/v2.0/document")


class TestOAuthMetadata:
    """RFC 8414: the metadata of a server without a discovery document."""

    @pytest.fixture(autouse=True)
    def metadata_only(self, issuer: Issuer) -> None:
        issuer.discover = lambda: Response(status=404)
        serve_at(issuer, "/.well-known/oauth-authorization-server")

    def test_are_used_if_there_is_no_discovery_document(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        issuer.metadata |= {"scopes_supported": ["profile", "repo"], "userinfo_endpoint": None}
        browser = visit(PROFILE_URL=issuer.profile_url)
        asked = parameters(browser.start())
        assert asked["scope"] == "profile"
        assert "nonce" not in asked
        browser.sign_in()
        assert browser.profile().json["login"] == "octocat"

    def test_are_those_of_an_openid_provider_if_they_list_the_scope(
        self, browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        assert parameters(browser.start())["scope"] == "openid profile email"
        issuer.claims["aud"] = "another client"
        assert said(finish_sign_in(browser)) == (502, "id_token_refused")
        assert_not_signed_in(browser, store)

    def test_are_located_before_the_path_of_the_issuer(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        """RFC 8414 3.1"""
        serve_at(issuer, "/.well-known/oauth-authorization-server/tenant/1")
        issuer.metadata |= {"issuer": f"{issuer.url}/tenant/1/", "authorization_response_iss_parameter_supported": None}
        visit(PROVIDER=f"{issuer.url}/tenant/1/").start()
        assert issuer.count("/.well-known/oauth-authorization-server/tenant/1") == 1

    def test_of_another_issuer_are_refused(
        self, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """S29; RFC 8414 3.3"""
        issuer.metadata["issuer"] = f"{issuer.url}/other"
        assert said(start(browser)) == (502, "provider_error")
        assert "describes the issuer" in caplog.text

    def test_are_not_asked_for_when_the_issuer_is_merely_out_of_order(self, browser: Browser, issuer: Issuer) -> None:
        issuer.discover = unavailable
        assert said(start(browser)) == (502, "provider_error")
        assert issuer.count("/.well-known/oauth-authorization-server") == 0

    def test_need_the_setting_for_the_user_document(
        self, visit: Callable[..., Browser], issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata |= {"scopes_supported": None, "userinfo_endpoint": None}
        assert said(start(visit())) == (502, "provider_error")
        assert "set WSGI_OAUTH_PROFILE_URL" in caplog.text


class TestConfiguredEndpoints:
    @pytest.fixture
    def endpoints(self, issuer: Issuer) -> dict[str, str]:
        """Return the settings of all endpoints, for an issuer whose own URL is not reachable from the application."""
        return {f"{name}_URL": getattr(issuer, f"{name.lower()}_url") for name in ("AUTHORIZATION", "TOKEN", "PROFILE")}

    def test_make_the_document_unnecessary(
        self, endpoints: dict[str, str], visit: Callable[..., Browser], issuer: Issuer
    ) -> None:
        public = "https://id.example.com/realms/corp"  # not reachable from here
        issuer.claims["iss"] = public
        browser = visit(PROVIDER=public, **endpoints)
        assert browser.get(browser.callback_url().partition("&iss=")[0]).status_int == 303
        assert browser.profile().json["sub"] == "mona"
        assert issuer.count("discovery") == 0

    def test_do_not_replace_the_issuer_of_id_tokens(
        self, endpoints: dict[str, str], visit: Callable[..., Browser], store: MemoryStore
    ) -> None:
        """S30"""
        browser = visit(PROVIDER="https://id.example.com", **endpoints)
        callback = browser.callback_url().partition("&iss=")[0]
        assert said(browser.get(callback, headers=JSON)) == (502, "id_token_refused")
        assert_not_signed_in(browser, store)

    def test_do_not_make_it_unnecessary_if_one_is_missing(
        self, endpoints: dict[str, str], visit: Callable[..., Browser], issuer: Issuer
    ) -> None:
        del endpoints["TOKEN_URL"]
        visit(**endpoints).sign_in()
        assert issuer.count("discovery") == 1

    def test_do_not_make_it_unnecessary_if_users_sign_out_at_the_issuer(
        self, endpoints: dict[str, str], visit: Callable[..., Browser], issuer: Issuer
    ) -> None:
        browser = visit(**endpoints, END_SESSION="yes")
        browser.sign_in()
        assert browser.post("/logout").location.startswith(f"{issuer.url}/end?")


class TestThreeUrls:
    """A provider that is described by its endpoints, with the scope openid."""

    @pytest.fixture
    def three(self, visit: Callable[..., Browser], issuer: Issuer) -> Callable[..., Browser]:
        urls = {f"{name}_URL": getattr(issuer, f"{name.lower()}_url") for name in ("AUTHORIZATION", "TOKEN", "PROFILE")}
        return lambda **more: visit(PROVIDER="github", SCOPE="openid profile", **urls, **more)

    def test_receives_a_nonce(self, three: Callable[..., Browser]) -> None:
        """Some issuers require one."""
        assert len(parameters(three().start())["nonce"]) == 43

    @pytest.mark.parametrize("claim", ["iss", "aud", "nonce"])
    def test_has_its_id_token_validated_if_its_issuer_is_known(
        self, claim: str, three: Callable[..., Browser], issuer: Issuer, store: MemoryStore
    ) -> None:
        """S30"""
        browser = three(ISSUER=issuer.url)
        browser.sign_in()
        browser = three(ISSUER=issuer.url)
        issuer.claims[claim] = "another"
        assert said(finish_sign_in(browser)) == (502, "id_token_refused")

    def test_is_identified_by_the_user_document_alone_if_its_issuer_is_unknown(
        self, three: Callable[..., Browser], issuer: Issuer
    ) -> None:
        """Without an issuer to compare, an ID token of any party would be accepted."""
        issuer.claims |= {"sub": "mallory", "iss": "https://evil.example.com"}
        browser = three()
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"


class TestConfiguredValueTakesPrecedence:
    def test_over_one_discovered_endpoint(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        issuer.metadata["token_endpoint"] = "http://id.example.com/token"
        browser = visit(TOKEN_URL=issuer.token_url)
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"

    def test_over_all_endpoints_and_the_id_token_is_still_validated(
        self, visit: Callable[..., Browser], issuer: Issuer
    ) -> None:
        """Otherwise three settings would silently disable the checks of nonce, issuer and audience."""
        urls = {f"{name.upper()}_URL": getattr(issuer, f"{name}_url") for name in ("authorization", "token", "profile")}
        issuer.metadata |= dict.fromkeys(("authorization_endpoint", "token_endpoint"), "http://id.example.com/")
        visit(**dict(list(urls.items())[:2])).sign_in()
        browser = visit(**urls)
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"
        issuer.claims["aud"] = "another client"
        assert browser.get(browser.callback_url()).status_int == 502

    def test_over_scope_and_client_authentication(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        issuer.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_basic"]
        browser = visit(SCOPE="openid email", CLIENT_AUTH="post")
        assert parameters(browser.start())["scope"] == "openid email"
        browser.sign_in()
        assert "client_secret=" in issuer.exchanges[-1].body


class TestOffersOfTheIssuer:
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
    def test_client_uses_an_offered_authentication_method(
        self, offered: list[str] | None, basic: bool, browser: Browser, issuer: Issuer
    ) -> None:
        issuer.metadata["token_endpoint_auth_methods_supported"] = offered
        browser.sign_in()
        exchange = issuer.exchanges[-1]
        assert ("Authorization" in exchange.headers, "client_secret=" in exchange.body) == (basic, not basic)

    @pytest.mark.parametrize("offered", [["private_key_jwt"], ["none"], []], ids=repr)
    def test_unsupported_authentication_methods_are_named_in_the_log(
        self, offered: list[str], browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata["token_endpoint_auth_methods_supported"] = offered
        assert said(start(browser)) == (502, "provider_error")
        assert f"offers only {offered} to authenticate clients" in caplog.text

    def test_public_client_sends_only_its_id(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
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
            (["email"], "openid email"),  # without `openid` there would be no sign-in
            # With offline_access, Keycloak would begin a second session, which no sign-out ends.
            (["offline_access", "openid"], "openid"),
        ],
        ids=repr,
    )
    def test_offered_standard_scopes_are_requested(
        self, offered: object, asked: str, browser: Browser, issuer: Issuer
    ) -> None:
        issuer.metadata["scopes_supported"] = offered
        assert parameters(browser.start())["scope"] == asked

    def test_configured_offline_access_is_requested_with_consent(self, visit: Callable[..., Browser]) -> None:
        """Core 11: otherwise an issuer must ignore it, and would issue no refresh token."""
        browser = visit(SCOPE="openid offline_access")
        assert parameters(browser.start())["prompt"] == "consent"
        assert parameters(browser.get("/?switch=1").location)["prompt"] == "login consent"

    def test_consent_is_not_requested_without_offline_access(self, browser: Browser) -> None:
        assert "prompt" not in parameters(browser.start())
        assert parameters(browser.get("/?switch=1").location)["prompt"] == "login"

    def test_consent_is_not_requested_from_an_issuer_that_does_not_support_it(
        self, visit: Callable[..., Browser], issuer: Issuer
    ) -> None:
        issuer.metadata["prompt_values_supported"] = ["none"]
        assert "prompt" not in parameters(visit(SCOPE="openid offline_access").start())


class TestTheIssuerInTheAuthorizationResponse:
    """S9; RFC 9207 2.4, 3."""

    def test_is_required_if_the_document_declares_it(self, browser: Browser, store: MemoryStore) -> None:
        callback = browser.callback_url().partition("&iss=")[0]
        assert said(browser.get(callback, headers=JSON)) == (400, "issuer_mismatch")
        assert_not_signed_in(browser, store)

    def test_is_optional_in_an_error_response_but_must_be_right(self, browser: Browser, store: MemoryStore) -> None:
        """Django OAuth Toolkit sends it only with a code. An error response signs no user in."""
        declined = browser.consent(browser.start(), decision="deny")
        assert said(browser.get(declined.partition("&iss=")[0], headers=JSON)) == (403, "login_declined")
        declined = browser.consent(browser.start(), decision="deny")
        wrong = declined.partition("&iss=")[0] + "&iss=https%3A%2F%2Fid.example.com"
        assert said(browser.get(wrong, headers=JSON)) == (400, "issuer_mismatch")
        assert_not_signed_in(browser, store)

    @pytest.mark.parametrize("promise", [None, False, "true", 1], ids=repr)
    def test_is_optional_if_the_document_does_not_declare_it(
        self, promise: object, browser: Browser, issuer: Issuer
    ) -> None:
        issuer.metadata["authorization_response_iss_parameter_supported"] = promise
        assert browser.get(browser.callback_url().partition("&iss=")[0]).status_int == 303

    def test_must_be_right_even_if_the_document_does_not_declare_it(
        self, browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        issuer.metadata["authorization_response_iss_parameter_supported"] = None
        callback = browser.callback_url().partition("&iss=")[0]
        answer = browser.get(f"{callback}&iss=https%3A%2F%2Fid.example.com", headers=JSON)
        assert said(answer) == (400, "issuer_mismatch")
        assert_not_signed_in(browser, store)


def assert_not_signed_in(browser: Browser, store: MemoryStore) -> None:
    assert browser.profile().status_int == 401
    assert not any("oauth_token" in session or "oauth_identity" in session for session in stored_sessions(store))


CLIENT = "demo-client"
WRONG: dict[str, list[Any]] = {
    "iss": ["https://id.example.com", "", None, 5],
    "aud": ["another-client", "DEMO-CLIENT", "", None, 5, [], ["another-client"], {CLIENT: 1}, [[CLIENT]]],
    "azp": ["another-client", "", 5],
    "exp": [0, -1, None, "tomorrow", "0", "1e99", "inf", "nan", "-1", " 9999999999", True, [9999999999]],
    "nbf": [9_999_999_999, "9999999999", "", "soon", True, {}],
    "iat": [9_999_999_999, "9999999999", None, "yesterday", False, {}],
    "nonce": ["another sign-in's", "", None, 5, "\ud800", ["nonce"]],
    "sub": [None, "", 5.0, True, ["mona"], {"mona": 1}],
}


class TestIdToken:
    """S30; OpenID Connect Core 3.1.3.7."""

    @pytest.mark.parametrize("wrong", [(claim, value) for claim, values in WRONG.items() for value in values], ids=str)
    def test_with_an_invalid_claim_is_refused(
        self,
        wrong: tuple[str, Any],
        browser: Browser,
        issuer: Issuer,
        store: MemoryStore,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        claim, value = wrong
        issuer.claims[claim] = value
        assert said(finish_sign_in(browser)) == (502, "id_token_refused")
        assert f"refused for its {claim}" in caplog.text
        assert_not_signed_in(browser, store)

    def test_of_an_issuer_that_differs_by_a_slash_is_refused(
        self, browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        issuer.claims["iss"] = f"{issuer.url}/"
        assert said(finish_sign_in(browser)) == (502, "id_token_refused")
        assert_not_signed_in(browser, store)

    def test_for_several_audiences_needs_no_authorized_party(self, browser: Browser, issuer: Issuer) -> None:
        """Core 3.1.3.7, items 3 to 5."""
        issuer.claims["aud"] = [CLIENT, "another-client"]
        browser.sign_in()

    @pytest.mark.parametrize("audience", [CLIENT, [CLIENT], [CLIENT, "another-client"]], ids=str)
    def test_for_another_authorized_party_is_refused(
        self, audience: object, browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        issuer.claims.update(aud=audience, azp="another-client")
        assert said(finish_sign_in(browser)) == (502, "id_token_refused")
        assert_not_signed_in(browser, store)

    @pytest.mark.parametrize("typ", ["at+jwt", "logout+jwt", "application/at+jwt", "AT+JWT"])
    def test_that_is_marked_as_another_kind_of_token_is_refused(
        self, typ: str, browser: Browser, issuer: Issuer, store: MemoryStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """RFC 8725 3.11 and 3.12"""
        issuer.sign = lambda claims: sign_jwt(claims, typ=typ)
        assert said(finish_sign_in(browser)) == (502, "id_token_refused")
        assert f"got typ '{typ}'" in caplog.text
        assert_not_signed_in(browser, store)

    @pytest.mark.parametrize("typ", ["JWT", "jwt", "application/jwt", "id_token+jwt", "", None, 5])
    def test_may_have_any_other_type(self, typ: object, browser: Browser, issuer: Issuer) -> None:
        """Connect2id, for example, marks ID tokens with `id_token+jwt`."""
        issuer.sign = lambda claims: sign_jwt(claims, typ=typ)
        browser.sign_in()

    def test_may_contain_times_as_strings(self, browser: Browser, issuer: Issuer) -> None:
        now = time.time()
        issuer.claims.update(exp=f"{now + 60:.3f}", iat=f"{now:.0f}", nbf=f"{now:.0f}")
        browser.sign_in()

    @pytest.mark.parametrize(("claimed", "documented"), [(35, "35"), ("35", 35), (35, 35)])
    def test_may_contain_a_number_as_subject(
        self, claimed: object, documented: object, browser: Browser, issuer: Issuer
    ) -> None:
        """It equals its decimal string: the document and the ID token can differ in the type."""
        issuer.claims["sub"], issuer.user["sub"] = claimed, documented
        browser.sign_in()
        assert browser.profile().status_int == 200

    @pytest.mark.parametrize(("client_id", "status"), [("35", 303), ("035", 502), ("35.0", 502)])
    def test_may_contain_numbers_as_audience_and_authorized_party(self, client_id: str, status: int) -> None:
        """The ids of clients are numbers in some databases, for example in that of Laravel Passport."""
        issuer = Issuer(client_id=client_id)
        issuer.claims.update(aud=[35], azp=35)
        with serve_provider(issuer):
            browser = Browser(create_app(config_for(issuer), store=MemoryStore()), issuer)
            assert browser.get(browser.callback_url()).status_int == status

    @pytest.mark.parametrize(
        ("claimed", "documented"),
        [(35, "035"), (35, "35.0"), (35, "+35"), (35, 35.0), (1, True), ("1", True), (35, 36)],
    )
    def test_with_another_subject_than_the_document_is_refused(
        self, claimed: object, documented: object, browser: Browser, issuer: Issuer, caplog: Any
    ) -> None:
        issuer.claims["sub"], issuer.user["sub"] = claimed, documented
        browser.sign_in()
        assert said(browser.profile()) == (502, "id_token_refused")
        assert f"got {documented!r} and '{claimed}'); set WSGI_OAUTH_PROFILE_URL" in caplog.text

    def test_of_another_sign_in_is_refused(self, browser: Browser, issuer: Issuer, store: MemoryStore) -> None:
        """Core 15.5.2: an injected code leads to the ID token of another sign-in."""
        stolen = parameters(browser.start())["nonce"]
        issuer.claims["nonce"] = stolen
        assert said(finish_sign_in(browser)) == (502, "id_token_refused")
        assert_not_signed_in(browser, store)

    @pytest.mark.parametrize(
        "claims",
        [
            {"aud": [CLIENT]},
            {"azp": CLIENT},
            {"exp": 10**400},
            {"exp": 4_000_000_000.5},
            {"acr": "1", "https://example.com/roles": ["a"], "address": {"country": "NO"}, "auth_time": "?"},
        ],
        ids=lambda claims: " ".join(claims),
    )
    def test_with_unusual_but_valid_claims_is_accepted(
        self, claims: dict[str, Any], browser: Browser, issuer: Issuer
    ) -> None:
        issuer.claims |= claims
        browser.sign_in()

    @pytest.mark.parametrize(
        ("claim", "status"), [("azp", 303), ("nbf", 303), ("acr", 303), ("exp", 502), ("nonce", 502)]
    )
    def test_null_counts_as_a_missing_claim(self, claim: str, status: int, browser: Browser, issuer: Issuer) -> None:
        issuer.sign = lambda claims: sign_jwt({**claims, claim: None})
        assert finish_sign_in(browser).status_int == status

    @pytest.mark.parametrize(("claim", "seconds"), [("exp", -200), ("iat", 200)])
    def test_within_the_permitted_clock_skew_is_accepted(
        self, claim: str, seconds: int, browser: Browser, issuer: Issuer
    ) -> None:
        issuer.claims[claim] = time.time() + seconds
        browser.sign_in()

    @pytest.mark.parametrize("claim", ["iss", "aud", "exp", "iat", "nonce", "sub"])
    def test_without_a_required_claim_is_refused_with_the_remedy(
        self, claim: str, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.claims[claim] = None
        assert said(finish_sign_in(browser)) == (502, "id_token_refused")
        assert (
            f"got {claim}=None); configure or update the provider so that its ID tokens contain {claim}" in caplog.text
        )

    @pytest.mark.parametrize(
        ("claim", "value", "remedy"),
        [
            ("exp", 1, "compare the clock of this machine"),
            ("exp", "2031-01-01T00:00:00Z", "let the provider send exp in seconds since 1970"),
            ("iat", 1_796_000_000_000, "let the provider send iat in seconds since 1970"),
            ("nonce", "another", "let the provider return the nonce"),
            ("sub", "", "as a text of sub"),
        ],
    )
    def test_with_an_invalid_claim_is_refused_with_the_remedy(
        self,
        browser: Browser,
        issuer: Issuer,
        caplog: pytest.LogCaptureFixture,
        *,
        claim: str,
        value: object,
        remedy: str,
    ) -> None:
        issuer.claims[claim] = value
        assert said(finish_sign_in(browser)) == (502, "id_token_refused")
        assert remedy in caplog.text

    def test_that_is_encrypted_is_refused_with_the_remedy(self, browser: Browser, issuer: Issuer, caplog: Any) -> None:
        issuer.sign = lambda claims: "e30.b.c.d.e"  # RFC 7516 3.1
        assert said(finish_sign_in(browser)) == (502, "id_token_refused")
        assert "let the provider sign the ID token of this client without encrypting it" in caplog.text

    @pytest.mark.parametrize(("claim", "seconds"), [("exp", -400), ("iat", 400)])
    def test_outside_the_permitted_clock_skew_is_refused(
        self, claim: str, seconds: int, browser: Browser, issuer: Issuer
    ) -> None:
        issuer.claims[claim] = time.time() + seconds
        assert said(finish_sign_in(browser)) == (502, "id_token_refused")

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
            lambda token: sign_jwt(b""),
            lambda token: sign_jwt(b"mona"),
            lambda token: sign_jwt(b"[]"),
            lambda token: sign_jwt(b'"mona"'),
            lambda token: sign_jwt(b"5"),
            lambda token: sign_jwt(b"null"),
            lambda token: sign_jwt(b"{"),
            lambda token: sign_jwt(b'{"sub": "\xff"}'),
            lambda token: sign_jwt(b'{"a":' * 2000 + b"1" + b"}" * 2000),
            lambda token: sign_jwt(b"[" * 10_000),
            lambda token: sign_jwt(b'{"exp": ' + b"9" * 10_000 + b"}"),
            lambda token: sign_jwt(b'{"exp": 1e999}'),
            lambda token: sign_jwt(b'{"exp": Infinity}'),
            lambda token: sign_jwt(b'{"exp": NaN}'),
        ],
        ids=[
            *("missing", "two parts", "four parts", "five parts", "not base64", "padding", "padded header"),
            *("other base64", "no header", "no payload", "object", "list", "very long", "empty payload", "no JSON"),
            *("claims are a list", "a string", "a number", "null", "half a document", "no UTF-8", "deep", "deeper"),
            *("number beyond measure", "1e999", "Infinity", "NaN"),
        ],
    )
    def test_that_is_malformed_is_refused(
        self, forged: Callable[[str], Any], browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        issuer.sign = lambda claims: forged(sign_jwt(claims))
        status, cause = said(finish_sign_in(browser))
        assert (status, cause in {"id_token_refused", "provider_error"}) == (502, True)
        assert_not_signed_in(browser, store)

    @pytest.mark.parametrize("number", [b"1e999", b"Infinity"])
    def test_without_an_end_is_refused(
        self, number: bytes, browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        def endless(claims: dict[str, Any]) -> str:
            return sign_jwt(json.dumps({**claims, "exp": "EXP"}).encode().replace(b'"EXP"', number))

        issuer.sign = endless
        assert said(finish_sign_in(browser)) == (502, "id_token_refused")
        assert_not_signed_in(browser, store)

    def test_that_is_missing_is_named_in_the_log(
        self, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.sign = lambda claims: None
        assert said(finish_sign_in(browser)) == (502, "id_token_refused")
        assert "gave no ID token" in caplog.text

    def test_is_not_requested_without_the_scope_openid(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        browser = visit(SCOPE="profile email")
        assert "nonce" not in parameters(browser.start())
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"

    def test_that_was_not_validated_describes_no_user(self, visit: Callable[..., Browser], issuer: Issuer) -> None:
        """Without a configured issuer, the issuer of an ID token cannot be checked."""
        issuer.claims["groups"] = ["staff"]
        urls = {
            "AUTHORIZATION_URL": issuer.authorization_url,
            "TOKEN_URL": issuer.token_url,
            "PROFILE_URL": issuer.profile_url,
        }
        settings = {"SCOPE": "openid profile email", "GROUPS_CLAIM": "groups", "ALLOW": "group:staff", **urls}
        assert said(finish_sign_in(visit(PROVIDER="", **settings))) == (403, "not_allowed")
        known = {"PROVIDER": "", "ISSUER": issuer.url}
        assert finish_sign_in(visit(**settings, **known)).status_int == 303


class TestUserDocument:
    """S30; OpenID Connect Core 5.3.2: otherwise a swapped access token would sign in another user."""

    @pytest.mark.parametrize("sub", ["mallory", "MONA", "mona ", "", None, 5], ids=repr)
    def test_of_another_subject_is_neither_shown_nor_stored(
        self, sub: object, browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        browser.sign_in()
        issuer.user = {**issuer.user, "sub": sub, "name": "Mallory"}
        answer = browser.profile()
        assert said(answer) == (502, "id_token_refused")
        assert "Mallory" not in answer.text
        assert not any("oauth_identity" in session for session in stored_sessions(store))

    def test_is_the_claims_of_the_id_token_without_a_userinfo_endpoint(
        self, browser: Browser, issuer: Issuer, store: MemoryStore, later: Callable[[float], None]
    ) -> None:
        """Discovery 3: the UserInfo endpoint is optional."""
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

    def test_needs_a_userinfo_endpoint_without_the_scope_openid(
        self, visit: Callable[..., Browser], issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        issuer.metadata["userinfo_endpoint"] = None
        assert said(start(visit(SCOPE="email"))) == (502, "provider_error")
        assert "has no userinfo_endpoint" in caplog.text

    @pytest.mark.parametrize(
        ("document", "status"),
        [
            ({"data": {"sub": "mona"}}, 200),
            ({"data": {"sub": "mallory"}}, 502),
            ({"sub": "mallory", "data": {"sub": "mona"}}, 502),
            ({"data": {"id": "mona"}}, 502),
        ],
    )
    def test_may_be_wrapped(
        self, document: dict[str, object], status: int, visit: Callable[..., Browser], issuer: Issuer
    ) -> None:
        """The configured path names the subject, which must still be that of the ID token (openidconnect-rs#100)."""
        browser = visit(SUBJECT_CLAIM="data.sub data.id sub")
        browser.sign_in()
        issuer.user = {"code": 200, "msg": "OK", **document}
        assert browser.profile().status_int == status

    def test_is_requested_with_post_where_get_is_not_allowed(self, browser: Browser, issuer: Issuer) -> None:
        """OpenID Connect Core 5.3: issuers must support both, but itsme supported only POST (IdentityModel#93)."""
        answer = issuer.routes["/user"][1]["GET"]
        issuer.routes["/user"] = ("profile", {"POST": answer})
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"
        request = issuer.exchanges[-1]
        assert (request.method, request.body) == ("POST", "")
        assert request.headers["Authorization"].startswith("Bearer ")

    @pytest.mark.parametrize(
        "content_type", ["application/jwt", "Application/JWT; charset=utf-8", "application/jwt; charset=undefined"]
    )
    def test_may_be_a_signed_token(self, content_type: str, browser: Browser, issuer: Issuer) -> None:
        issuer.signs_user_document(content_type, iss=issuer.url, aud=[issuer.client_id, "another"])
        browser.sign_in()
        assert browser.profile().json["sub"] == "mona"

    def test_is_accepted_in_both_forms(self, browser: Browser, issuer: Issuer) -> None:
        """OpenID Connect Core 5.3.2: the form depends on the registration, and some issuers negotiate it."""
        browser.sign_in()
        browser.profile()
        accepted = issuer.exchanges[-1].headers["Accept"]
        assert accepted == "application/json, application/jwt;q=0.5"

    @pytest.mark.parametrize(
        "claims",
        [
            {"aud": "another client"},
            {"aud": []},
            {"iss": "https://another.example"},
            {"exp": 1},
            {"exp": "tomorrow"},
            {"nbf": 9_999_999_999},
            {"sub": "mallory"},
        ],
        ids=repr,
    )
    def test_that_is_signed_for_other_parties_or_another_time_is_refused(
        self, claims: dict[str, Any], browser: Browser, issuer: Issuer, store: MemoryStore
    ) -> None:
        browser.sign_in()
        issuer.signs_user_document(**claims)
        assert said(browser.profile()) == (502, "id_token_refused")
        assert not any("oauth_identity" in session for session in stored_sessions(store))

    def test_that_is_signed_for_another_client_names_the_setting_in_the_log(
        self, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        browser.sign_in()
        issuer.signs_user_document(aud="another client")
        browser.profile()
        assert "aud='another client' (Core 5.3.2); compare WSGI_OAUTH_CLIENT_ID" in caplog.text

    @pytest.mark.parametrize("body", ["", "{}", "a.b"])
    def test_that_is_declared_as_signed_but_malformed_is_named_in_the_log(
        self, body: str, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        browser.sign_in()
        response = Response(body, content_type="application/jwt")
        issuer.routes["/user"] = ("profile", {"GET": lambda request: response})
        assert said(browser.profile()) == (502, "id_token_refused")
        assert "the user document is not a signed JSON Web Token" in caplog.text

    def test_that_is_encrypted_is_refused_with_the_remedy(
        self, browser: Browser, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        browser.sign_in()
        encrypted = Response("a.b.c.d.e", content_type="application/jwt")
        issuer.routes["/user"] = ("profile", {"GET": lambda request: encrypted})
        assert said(browser.profile()) == (502, "provider_error")
        assert "without encrypting it" in caplog.text

    def test_without_a_subject_is_refused(self, browser: Browser, issuer: Issuer) -> None:
        browser.sign_in()
        issuer.user = {name: value for name, value in issuer.user.items() if name != "sub"}
        assert said(browser.profile()) == (502, "id_token_refused")


class TestRefreshedIdToken:
    """S30; OpenID Connect Core 12.2."""

    def test_replaces_the_first_and_needs_no_nonce(
        self, browser: Browser, store: MemoryStore, later: Callable[[float], None]
    ) -> None:
        browser.sign_in()
        [before] = stored_sessions(store)
        later(HOUR)
        assert browser.profile().status_int == 200
        [after] = stored_sessions(store)
        assert before["oauth_token"]["id_token"] != after["oauth_token"]["id_token"]

    def test_is_optional_and_then_the_first_stays(
        self, browser: Browser, issuer: Issuer, store: MemoryStore, later: Callable[[float], None]
    ) -> None:
        browser.sign_in()
        [before] = stored_sessions(store)
        later(HOUR)
        issuer.sign = lambda claims: None
        assert browser.profile().status_int == 200
        [after] = stored_sessions(store)
        assert before["oauth_token"]["id_token"] == after["oauth_token"]["id_token"]

    def test_may_be_the_first_although_it_has_expired(
        self, browser: Browser, issuer: Issuer, store: MemoryStore, later: Callable[[float], None]
    ) -> None:
        browser.sign_in()
        [before] = stored_sessions(store)
        later(2 * HOUR)
        issuer.sign = lambda claims: before["oauth_token"]["id_token"]
        assert browser.profile().status_int == 200

    @pytest.mark.parametrize(
        "claims",
        [{"sub": "mallory"}, {"nonce": "another"}, {"aud": "another-client"}, {"iss": "https://id.example.com"}],
        ids=str,
    )
    def test_about_another_user_or_sign_in_ends_the_session(
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

    def test_can_contain_the_first_nonce(
        self, browser: Browser, issuer: Issuer, later: Callable[[float], None]
    ) -> None:
        authorization_url = browser.start()
        browser.get(browser.consent(authorization_url))
        later(HOUR)
        issuer.claims["nonce"] = parameters(authorization_url)["nonce"]
        assert browser.profile().status_int == 200

    def test_can_contain_null_as_nonce(self, browser: Browser, issuer: Issuer, later: Callable[[float], None]) -> None:
        browser.sign_in()
        later(HOUR)
        issuer.sign = lambda claims: sign_jwt({**claims, "nonce": None})
        assert browser.profile().status_int == 200


class TestSignOut:
    """OpenID Connect RP-Initiated Logout 2, RFC 7009."""

    def test_continues_at_the_issuer_with_the_id_token(
        self, visit: Callable[..., Browser], issuer: Issuer, store: MemoryStore
    ) -> None:
        browser = visit(END_SESSION="yes")
        browser.sign_in()
        [session] = stored_sessions(store)
        answer = browser.post("/logout")
        assert (answer.status_int, answer.location.partition("?")[0]) == (303, f"{issuer.url}/end")
        asked = parameters(answer.location)
        assert asked["client_id"] == CLIENT
        assert asked["id_token_hint"] == session["oauth_token"]["id_token"]
        assert asked["post_logout_redirect_uri"].endswith("/signed-out")
        assert issuer.count("revoke") == 2

    def test_redirect_to_the_issuer_is_allowed_by_the_content_security_policy(
        self, visit: Callable[..., Browser], browser: Browser
    ) -> None:
        """Browsers apply form-action to redirects of a form as well, and show nothing when it forbids them."""
        leaving = visit(END_SESSION="yes").get("/profile", {"Accept": "application/json"})
        assert "form-action" not in leaving.headers["Content-Security-Policy"]
        staying = browser.get("/profile", {"Accept": "application/json"})
        assert "form-action 'self'" in staying.headers["Content-Security-Policy"]

    def test_does_not_involve_the_issuer_by_default(self, browser: Browser, issuer: Issuer) -> None:
        browser.sign_in()
        assert browser.post("/logout").status_int == 303
        assert issuer.count("revoke") == 2
