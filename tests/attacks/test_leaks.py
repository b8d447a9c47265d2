"""Leaked secrets: tokens, codes and session ids in logs, histories, Referer headers, caches and error messages."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest
import requests
from conftest import HTML, Browser, environ_for, parameters, send
from werkzeug import Response

from wsgi_oauth import Config, RequestHandler, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.oauth.client import OAuth2Session
from wsgi_oauth.web.application import OAuthApp

from .conftest import issued_tokens, without_header
from .lesson import guarded_by


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Record all loggers at DEBUG, as an operator would set it to find a fault."""
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    before = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    with caplog.at_level(logging.DEBUG):
        yield caplog
    for logger, level in before:
        logger.setLevel(level)


def logged_by_the_client(log: pytest.LogCaptureFixture) -> str:
    """Return the client's log records only, because test browser and provider run in the same process."""
    return "\n".join(
        f"{record.getMessage()} {record.args!r}"
        for record in log.records
        if record.name.startswith(("wsgi_oauth", "requests_oauthlib", "oauthlib"))
        and not re.search("demo-server|process_request_thread", record.threadName or "")
    )


# requests-oauthlib logs its requests at DEBUG, including the token.
def request_of_the_library(session: OAuth2Session) -> Any:
    with mock.patch.dict(os.environ, OAUTHLIB_INSECURE_TRANSPORT="1"):
        return session.requests_session.get(session.provider.profile_url).json()


@guarded_by({"wsgi_oauth.oauth.client.OAuth2Session.get_user_document": request_of_the_library})
def test_tokens_are_logged_at_debug(victim: Browser, provider: LocalProvider, log: pytest.LogCaptureFixture) -> bool:
    """S49. Logs are sent to collectors, tickets and contractors."""
    victim.sign_in()
    assert victim.profile().status_int == 200
    return any(token in logged_by_the_client(log) for token in issued_tokens(provider))


@guarded_by(
    {"wsgi_oauth.web.request.Request.method_and_path": property(lambda self: f"{self.method} {self.full_path}")}
)
def test_code_and_state_of_a_refused_callback_are_logged(
    victim: Browser, attacker: Browser, log: pytest.LogCaptureFixture
) -> bool:
    """S49, S50. The code of a refused callback is unused and still valid."""
    callback = victim.callback_url()
    attacker.get(callback)
    return parameters(callback)["code"] in logged_by_the_client(log)


class Unescaped(str):
    """A string with an unescaped repr()."""

    __slots__ = ()
    __repr__ = str.__str__


@guarded_by(
    {"wsgi_oauth.web.request.Request.method_and_path": property(lambda self: Unescaped(f"{self.method} {self.path}"))}
)
def test_line_break_in_the_path_forges_a_log_line(log: pytest.LogCaptureFixture, application: Any):
    """S51."""
    send(application, "/\n[0] GET /callback: signed in", headers=HTML)
    return any("\n[0]" in record.getMessage() for record in log.records if record.name.startswith("wsgi_oauth"))


class Repos(RequestHandler):
    """A handler for an API that requires a key in its URLs."""

    route = "/repos"
    url = "http://127.0.0.1:1/repos?key=CANARY"

    def get(self, request: Any) -> Response:
        return self.jsonify(self.oauth2_session().get_json(self.url))


def with_the_message_of_requests(*_: object, **__: object) -> errors.ProviderError:
    with pytest.raises(requests.ConnectionError) as caught:
        requests.get(Repos.url, timeout=10)
    return errors.ProviderUnreachable(str(caught.value))


@guarded_by({"wsgi_oauth.transport.adapter.build_provider_error": with_the_message_of_requests})
def test_url_of_an_unreachable_provider_is_logged_with_its_key(
    make_browser: Callable[..., Browser], log: pytest.LogCaptureFixture
) -> bool:
    """S26. Exceptions of HTTP libraries contain the whole URL."""
    victim = make_browser(handlers=(Repos,))
    victim.sign_in()
    assert victim.get("/repos").status_int == 502
    return "CANARY" in logged_by_the_client(log)


def referer_of_a_link_on(page: Any, url: str) -> str:
    """Return the Referer that a browser sends to the next site (Referrer Policy, W3C)."""
    return "" if page.headers.get("Referrer-Policy") == "no-referrer" else url


@guarded_by({"wsgi_oauth.web.pages.SECURITY_HEADERS": without_header("Referrer-Policy")})
def test_next_site_reads_the_code_in_the_referer(victim: Browser, attacker: Browser) -> bool:
    """S46, S49, RFC 9700 4.2.1. An error page of the callback with a link to another site."""
    callback = victim.callback_url()
    page = attacker.get(callback)
    return parameters(callback)["code"] in referer_of_a_link_on(page, callback)


def show_the_page_at_once(handler: Any, location: str, code: int = 302) -> Response:
    if code == 303:
        return Response("Welcome!", 200)
    return Response(status=code, headers={"Location": location})


@guarded_by({"wsgi_oauth.web.handler.RequestHandler.redirect": show_the_page_at_once})
def test_code_stays_in_the_address_bar_and_the_history(victim: Browser) -> bool:
    """S17. The page after the sign-in has a URL without code and state."""
    callback = victim.callback_url()
    answer = victim.get(callback)
    shown = answer.headers.get("Location") or callback
    return "code=" in urlsplit(shown).query


@guarded_by({"wsgi_oauth.web.pages.SECURITY_HEADERS": without_header("Cache-Control")})
def test_cache_serves_the_profile_to_the_next_user(victim: Browser) -> bool:
    """S45, RFC 9111 5.2.2.5. A proxy, a CDN, or the back button after the sign-out."""
    victim.sign_in()
    return "no-store" not in victim.profile().headers.get("Cache-Control", "")


original_answer = OAuthApp.answer_and_save


def with_the_id_in_the_url(app: Any, request: Any, answer: Any) -> tuple[Response, list[tuple[str, str]], Any]:
    """Add the session id to URLs, as servlets and PHP did for browsers without cookies."""
    response, headers, cookie = original_answer(app, request, answer)
    location = response.headers.get("Location", "")
    if location.startswith("/"):
        headers.remove(("Location", location))
        headers.append(("Location", f"{location};jsessionid={request.session.id}"))
    return response, headers, cookie


@guarded_by({"wsgi_oauth.web.application.OAuthApp.answer_and_save": with_the_id_in_the_url})
def test_shared_link_contains_the_session_id(victim: Browser) -> bool:
    """S49, ASVS 14.2.1."""
    answer = victim.sign_in()
    return bool(victim.cookie) and str(victim.cookie) in answer.location


@pytest.mark.parametrize(
    "setting",
    [
        {"TOKEN_URL": "https://me:CANARY@provider.example/token"},
        {"SESSION_STORE": "redis://localhost:6379/0?username=me&password=CANARY"},
        {"SESSION_STORE": "rediss://:CANARY/0"},
    ],
)
@guarded_by({"wsgi_oauth.config.checks.mask_password": lambda url: url})
def test_password_in_an_invalid_url_is_in_the_error_message(provider: LocalProvider, setting: dict[str, str]) -> bool:
    """S49. The second URL is one of the redis package."""
    try:
        create_app(Config.from_environ(environ_for(provider, **setting)))
    except errors.ConfigError as error:
        return "CANARY" in str(error)
    return True
