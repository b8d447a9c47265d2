"""The provider's own words about an error: in the log, masked and bounded, and on a page only as text (S47, S72)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from conftest import HTML, Browser, parameters
from werkzeug import Response

from wsgi_oauth.demo.local_provider import LocalProvider

WORDS = "AADSTS7000215: Invalid client secret provided"


def answers(provider: LocalProvider, path: str, response: Callable[..., Response]) -> None:
    """Let the provider answer requests for *path* with *response*."""
    endpoint, handlers = provider.routes[path]
    provider.routes[path] = (endpoint, dict.fromkeys(handlers, response))


def json_response(document: object, status: int, content_type: str = "application/json") -> Callable[..., Response]:
    return lambda _: Response(json.dumps(document), status, content_type=content_type)


TOKEN_ERRORS: list[Callable[..., Response]] = [
    json_response({"error": "invalid_client", "error_description": WORDS}, 401),
    json_response({"error": "invalid_client", "error_description": WORDS}, 200),
    json_response({"error": {"code": 190, "type": "OAuthException", "message": WORDS}}, 400),
    json_response({"type": "about:blank", "title": "Unauthorized", "detail": WORDS}, 401, "application/problem+json"),
    json_response({"errors": [{"code": "E1", "message": WORDS}]}, 400),
    json_response({"errorCode": "E1", "errorSummary": WORDS}, 400),
    json_response({"error": "invalid_grant", "error_description": [WORDS]}, 400),
    json_response({"error": "invalid_client", "error_description": "malformed", "hint": WORDS}, 401),
    json_response({"error": "invalid_client", "error_description": "malformed", "error_hint": WORDS}, 401),
    lambda _: Response(f"<html><title>{WORDS}</title></html>", 400, content_type="text/html"),
    lambda _: Response(WORDS, 400, content_type="text/plain"),
]


class TestLog:
    @pytest.mark.parametrize("response", TOKEN_ERRORS, ids=range(len(TOKEN_ERRORS)))
    def test_contains_the_words_of_the_token_endpoint(
        self, browser: Browser, provider: LocalProvider, response: Callable[..., Response], caplog: Any
    ):
        """S72"""
        answers(provider, "/token", response)
        browser.get(browser.callback_url())
        assert WORDS in caplog.text

    def test_contains_the_words_of_the_user_document_endpoint(
        self, browser: Browser, provider: LocalProvider, caplog: Any
    ):
        """S72"""
        browser.sign_in()
        answers(provider, "/user", json_response({"error": "insufficient_scope", "message": WORDS}, 403))
        browser.profile()
        assert WORDS in caplog.text

    def test_contains_the_words_of_a_refused_refresh(
        self, browser: Browser, provider: LocalProvider, later: Callable[[float], None], caplog: Any
    ):
        """S72"""
        caplog.set_level("INFO")
        browser.sign_in()
        answers(provider, "/token", json_response({"error": "invalid_grant", "error_description": WORDS}, 400))
        later(4000)
        browser.profile()
        assert WORDS in caplog.text

    @pytest.mark.parametrize("name", ["error_description", "error_description=malformed&hint", "error_hint"])
    def test_contains_the_words_of_the_authorization_endpoint(self, name: str, browser: Browser, caplog: Any):
        """S72"""
        state = parameters(browser.callback_url())["state"]
        browser.get(f"/callback?error=invalid_scope&{name}={quote(WORDS)}&state={state}")
        assert WORDS in caplog.text
        assert "WSGI_OAUTH_SCOPE" in caplog.text

    def test_contains_the_words_of_an_xml_document_alone(self, browser: Browser, provider: LocalProvider, caplog: Any):
        text = f"<?xml version='1.0'?><OAuth><error>invalid_client</error><text>{WORDS}</text></OAuth>"
        answers(provider, "/token", lambda _: Response(text, 400, content_type="application/xml"))
        browser.get(browser.callback_url())
        assert f'"invalid_client {WORDS}"' in caplog.text

    @pytest.mark.parametrize("state", ["", "&state=", "&state=unknown"])
    def test_contains_the_words_of_a_response_without_a_valid_state(self, browser: Browser, state: str, caplog: Any):
        """S72"""
        browser.start()
        page = browser.get(f"/callback?error=invalid_scope&error_description={quote(WORDS)}{state}")
        assert f"invalid_scope: {WORDS}" in caplog.text
        assert WORDS not in page.text

    def test_names_the_check_of_proxies_if_the_response_has_no_state(self, browser: Browser, caplog: Any):
        browser.start()
        browser.get("/callback")
        assert "a proxy removes the query, which `wsgi-oauth check --public` finds" in caplog.text

    @pytest.mark.parametrize("query", ["authCode=c0de&app_id=1&state={}", "authCode=c0de&app_id=1&amp;state={}"])
    def test_contains_the_names_of_the_parameters_of_an_incomplete_response(
        self, browser: Browser, query: str, caplog: Any
    ):
        browser.get(f"/callback?{query.format(parameters(browser.callback_url())['state'])}")
        assert "got the parameters: authCode app_id " in caplog.text
        assert "c0de" not in caplog.text

    @pytest.mark.parametrize(
        "query",
        ["error=x&error_description=for+c0de&code=c0de", "error=c0de", "error=" + "q" * 41, "state=c0de&error=c0de"],
    )
    def test_contains_no_code_of_an_error_without_a_valid_state(self, browser: Browser, query: str, caplog: Any):
        """S49, S72: a provider can repeat the code, or send it under a wrong name."""
        assert browser.get(f"/callback?{query}").status_int == 400
        assert "c0de" not in caplog.text
        assert "q" * 41 not in caplog.text

    def test_contains_no_code_that_has_no_name(self, browser: Browser, caplog: Any):
        """S49"""
        browser.get("/callback?c0de")
        assert "got the parameters: none" in caplog.text

    def test_contains_at_most_300_printable_ascii_characters_of_them(
        self, browser: Browser, provider: LocalProvider, caplog: Any
    ):
        """S72"""
        answers(
            provider, "/token", json_response({"error": "x", "error_description": "é\n\x1b[31m" + "long " * 500}, 400)
        )
        browser.get(browser.callback_url())
        [line] = [record.getMessage() for record in caplog.records if "token endpoint" in record.getMessage()]
        assert line.isprintable()
        assert line.isascii()
        assert len(line) < 600

    @pytest.mark.parametrize(
        ("status", "remedy"),
        [(401, "WSGI_OAUTH_CLIENT_SECRET"), (403, "firewall"), (404, "WSGI_OAUTH_TOKEN_URL")],
    )
    def test_names_the_remedy_for_a_status_without_an_error_code(
        self, browser: Browser, provider: LocalProvider, caplog: Any, *, status: int, remedy: str
    ):
        answers(provider, "/token", lambda _: Response("<h1>Access denied</h1>", status, content_type="text/html"))
        assert browser.get(browser.callback_url()).status_int == 502
        assert remedy in caplog.text

    @pytest.mark.parametrize("status", [401, 403])
    def test_names_no_setting_if_the_code_is_refused(
        self, browser: Browser, provider: LocalProvider, caplog: Any, status: int
    ):
        """Doorkeeper and Auth0 send these statuses in place of 400."""
        answers(provider, "/token", json_response({"error": "invalid_grant"}, status))
        assert browser.get(browser.callback_url()).status_int == 400
        assert "invalid_grant" in caplog.text
        assert "WSGI_OAUTH_" not in caplog.text

    def test_names_scopes_of_another_api_if_a_new_token_is_refused(
        self, make_browser: Callable[..., Browser], provider: LocalProvider, caplog: Any
    ):
        """As with Entra ID: https://github.com/oauth2-proxy/oauth2-proxy/issues/1680"""
        answers(provider, "/user", json_response({"error": {"message": "Invalid audience."}}, 401))
        browser = make_browser(ALLOW="id:583231")
        assert browser.get(browser.callback_url()).status_int == 502
        assert "request no scope of another API" in caplog.text

    @pytest.mark.parametrize("encode", [str, quote, lambda secret: secret[:30] + "..."])
    def test_contains_no_secret_that_they_repeat(
        self, browser: Browser, provider: LocalProvider, encode: Callable[[str], str], caplog: Any
    ):
        """S49, S72"""
        secrets: list[str] = []

        def repeat(request: Any) -> Response:
            secrets.extend([request.form["code"], request.form["code_verifier"], str(provider.client_secret)])
            words = " and ".join(encode(secret) for secret in secrets)
            return Response(
                json.dumps({"error": "x", "error_description": words}), 400, content_type="application/json"
            )

        answers(provider, "/token", repeat)
        browser.get(browser.callback_url())
        assert len(secrets) == 3
        assert "***" in caplog.text
        for secret in secrets:
            assert secret[:20] not in caplog.text

    def test_contains_no_token_that_they_repeat(self, browser: Browser, provider: LocalProvider, caplog: Any):
        """S49, S72: also those that the request did not contain."""
        browser.sign_in()
        [exchange] = [each for each in provider.exchanges if each.endpoint == "token"]
        token = json.loads(exchange.response_body)
        secrets = [token["access_token"], token["refresh_token"], str(provider.client_secret)]
        answers(provider, "/user", json_response({"error": "insufficient_scope", "message": " ".join(secrets)}, 403))
        browser.profile()
        assert "*** *** ***" in caplog.text
        assert not [secret for secret in secrets if secret in caplog.text]

    @pytest.mark.parametrize("status", [200, 500])
    @pytest.mark.parametrize("content_type", ["text/plain", "text/html", "application/x-www-form-urlencoded"])
    def test_contains_no_token_of_an_unreadable_response(
        self, browser: Browser, provider: LocalProvider, caplog: Any, *, status: int, content_type: str
    ):
        """S49: a response in a wrong form can contain a good token."""
        alone = "canary-0123456789-0123456789==&x=1"  # a bare token, which is a name in a form
        short = ["canary"] if status == 200 else []  # the text of an error, which a failure may contain
        for body in ('{"access_token": "canary-1", "x', "access_token=canary-1&token_type=bearer&", alone, *short):
            answers(provider, "/token", lambda _, body=body: Response(body, status, content_type=content_type))
            assert browser.get(browser.callback_url()).status_int == 502
        assert "canary" not in caplog.text

    @pytest.mark.parametrize("repeated", ["a", "-"])
    def test_costs_little_time_for_a_hostile_response(self, browser: Browser, provider: LocalProvider, repeated: str):
        """S24: a slow regular expression would stop all threads of the worker."""
        body = repeated * (20_000 // len(repeated))
        answers(provider, "/token", lambda _: Response(body, 500, content_type="text/html"))
        url, began = browser.callback_url(), time.process_time()
        assert browser.get(url).status_int == 502
        assert time.process_time() - began < 0.5

    @pytest.mark.parametrize(
        ("code", "words", "cause", "remedy"),
        [
            ("invalid_client", "", "client_refused", "WSGI_OAUTH_CLIENT_AUTH"),
            ("unauthorized_client", "", "client_refused", "WSGI_OAUTH_CLIENT_ID"),
            (  # Keycloak
                *("unauthorized_client", "Invalid client or Invalid client credentials"),
                *("client_refused", "WSGI_OAUTH_CLIENT_SECRET"),
            ),
            ("redirect_uri_mismatch", "", "redirect_uri_refused", "http://localhost/callback"),
            ("invalid_request", "code_verifier is not allowed", "pkce_refused", "WSGI_OAUTH_PKCE=no"),
            ("invalid_request", "PKCE is required", "pkce_refused", "WSGI_OAUTH_PKCE"),
            (  # RFC 7636 4.4.1
                *("invalid_request", "transform algorithm not supported"),
                *("pkce_refused", "WSGI_OAUTH_PKCE=no"),
            ),
            (  # Entra ID
                *("invalid_request", "Proof Key for Code Exchange is required for cross-origin redemption"),
                *("client_refused", "for the platform Web"),
            ),
            ("invalid_grant", "The user has not consented to use it", "code_refused", "administrator of the provider"),
            ("invalid_client", "The provided client secret keys are expired.", "client_refused", "a new client secret"),
            ("use_dpop_nonce", "", "client_refused", "without DPoP"),
            ("invalid_request", "HTTPS required", "request_refused", "X-Forwarded-Proto"),  # Keycloak
            ("interaction_required", "Blocked by a policy", "interaction_required", "provider's policy"),
            ("invalid_scope", "", "scope_refused", "WSGI_OAUTH_SCOPE"),
            ("unauthorized_scope_error", "", "scope_refused", "WSGI_OAUTH_SCOPE"),  # LinkedIn
            ("invalid_request", "Client is public", "client_refused", "WSGI_OAUTH_CLIENT_AUTH=none"),
            ("invalid_request", "", "request_refused", "WSGI_OAUTH_AUTHORIZATION_PARAMETERS"),
            ("1", "Error validating client secret.", "client_refused", "WSGI_OAUTH_CLIENT_SECRET"),  # Facebook
            ("101", "Invalid application ID.", "client_refused", "WSGI_OAUTH_CLIENT_ID"),  # Facebook
            ("invalid_request", "wrong client id / secret pair", "client_refused", "WSGI_OAUTH_CLIENT_ID"),  # Naver
            ("invalid_scope", "Invalid client scopes: groups", "scope_refused", "WSGI_OAUTH_SCOPE"),
            ("100", "This authorization code has been used.", "code_refused", ""),  # Facebook
            ("invalid_request", "Invalid authorization code", "code_refused", ""),  # Zoom
            ("invalid_request", "Cannot decrypt the authorization code", "code_refused", ""),  # league/oauth2-server
            ("x", "redirect uri does not match. Or authorization code expired", "redirect_uri_refused", ""),  # LinkedIn
            ("unauthorized_client", "The authorization code grant type is invalid", "client_refused", ""),
            ("unauthorized_client", "Invalid authorization code flow", "client_refused", ""),
        ],
    )
    def test_names_the_setting_that_helps(
        self, browser: Browser, provider: LocalProvider, caplog: Any, *, code: str, words: str, cause: str, remedy: str
    ):
        answers(provider, "/token", json_response({"error": code, "error_description": words}, 400))
        page = browser.get(browser.callback_url(), {"Accept": "application/json"})
        assert page.json["error"] == cause
        assert remedy in caplog.text

    def test_names_the_settings_of_the_client_for_an_error_in_the_form_of_fitbit(
        self, browser: Browser, provider: LocalProvider, caplog: Any
    ):
        refusal = {"errors": [{"errorType": "invalid_client", "message": "Unknown"}], "success": False}
        answers(provider, "/token", json_response(refusal, 401))
        page = browser.get(browser.callback_url(), {"Accept": "application/json"})
        assert page.json["error"] == "client_refused"
        assert 'invalid_client ("Unknown")' in caplog.text

    def test_names_the_settings_of_the_client_if_the_token_endpoint_denies_access_to_it(
        self, browser: Browser, provider: LocalProvider, caplog: Any
    ):
        """As Auth0 and Atlassian do, for a wrong client secret."""
        denial = {"error": "access_denied", "error_description": "Unauthorized"}
        answers(provider, "/token", json_response(denial, 401))
        page = browser.get(browser.callback_url(), {"Accept": "application/json"})
        assert page.json["error"] == "client_refused"
        assert "compare WSGI_OAUTH_CLIENT_ID and WSGI_OAUTH_CLIENT_SECRET" in caplog.text


class TestPage:
    def back(self, browser: Browser, **response: str) -> Any:
        state = parameters(browser.callback_url("/profile"))["state"]
        query = "&".join(f"{name}={quote(value)}" for name, value in {**response, "state": state}.items())
        return browser.get(f"/callback?{query}", HTML)

    def test_shows_the_words_of_the_authorization_response_as_text(self, browser: Browser):
        """S47: the state was accepted, so the response belongs to a sign-in of this browser."""
        page = self.back(browser, error="access_denied", error_description="<b>Not assigned</b>")
        assert "&lt;b&gt;Not assigned&lt;/b&gt;" in page.text
        assert "provider" in page.text.lower()

    def test_shows_the_words_of_the_token_endpoint_about_the_user(self, browser: Browser, provider: LocalProvider):
        """GitHub requires a verified address: https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps"""
        denial = {"error": "unverified_user_email", "error_description": "The user must have a <verified> email."}
        answers(provider, "/token", json_response(denial, 200))
        page = browser.get(browser.callback_url(), HTML)
        assert page.status_int == 403
        assert "The user must have a &lt;verified&gt; email." in page.text

    def test_blames_no_user_for_the_decision_of_an_administrator(self, browser: Browser):
        page = self.back(browser, error="access_denied", error_description="User is not assigned")
        assert page.status_int == 403
        assert "You declined" not in page.text
        assert "switch=1" in page.text

    def test_calls_only_a_passing_failure_temporary(self, browser: Browser, provider: LocalProvider):
        for status, is_temporary in ((500, True), (400, False)):
            answers(provider, "/token", json_response({"error": "unsupported_grant_type"}, status))
            page = browser.get(browser.callback_url(), HTML)
            assert ("few minutes" in page.text) == (is_temporary and "client_refused" not in page.text), status


class TestExpiredLoginPage:
    """Keycloak reports a login page that was open for too long as temporarily_unavailable."""

    EXPIRED = "error=temporarily_unavailable&error_description=authentication_expired"

    def test_restarts_the_sign_in_once_towards_the_same_page(self, browser: Browser):
        state = parameters(browser.callback_url("/profile?page=2"))["state"]
        restart = browser.get(f"/callback?{self.EXPIRED}&state={state}", HTML)
        assert restart.status_int in {302, 303}
        started = browser.get(restart.location, HTML)
        done = browser.get(browser.consent(started.location), HTML)
        assert (done.status_int, done.location) == (303, "/profile?page=2")

    def test_does_not_restart_it_twice(self, browser: Browser):
        state = parameters(browser.callback_url())["state"]
        restart = browser.get(f"/callback?{self.EXPIRED}&state={state}", HTML)
        started = browser.get(restart.location, HTML)
        page = browser.get(f"/callback?{self.EXPIRED}&state={parameters(started.location)['state']}", HTML)
        assert page.status_int == 400
        assert "sign_in_expired" in page.text
