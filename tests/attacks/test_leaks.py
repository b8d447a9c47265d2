"""Secrets in places that are read by others: logs, histories, the Referer of the next page, caches, error pages.

Each secret here is a canary: after the dance everybody looks whether it sings.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest
import requests_oauthlib
from conftest import HTML, Browser, environ_for, parameters, send
from werkzeug import Response

from wsgi_oauth import Config, MemoryStore, RequestHandler, SessionStore, create_app, errors
from wsgi_oauth.app import OAuthApp
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.oauth.client import OAuth2Session

from .conftest import issued_tokens, without_header
from .lesson import guarded_by


@pytest.fixture
def store() -> SessionStore:
    return MemoryStore()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that any logger says, as an operator who looks for something would set it: DEBUG for all."""
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    before = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    with caplog.at_level(logging.DEBUG):
        yield caplog
    for logger, level in before:
        logger.setLevel(level)


def ours(log: pytest.LogCaptureFixture) -> str:
    """What was logged by this side; the browser of these tests and the provider run in the same process."""
    return "\n".join(
        f"{record.getMessage()} {record.args!r}"
        for record in log.records
        if record.name.startswith(("wsgi_oauth", "requests_oauthlib", "oauthlib"))
        and not re.search("demo-server|process_request_thread", record.threadName or "")
    )


# requests-oauthlib logs at DEBUG what it sends, token and all.
def as_the_library_does(session: OAuth2Session) -> Any:
    settings = {"withhold_token": False, "allow_redirects": False}
    with mock.patch.dict(os.environ, OAUTHLIB_INSECURE_TRANSPORT="1"):
        return requests_oauthlib.OAuth2Session.request(session, "GET", session.provider.profile_url, **settings).json()


@guarded_by({"wsgi_oauth.oauth.client.OAuth2Session.get_user_document": as_the_library_does})
def test_an_operator_who_turns_debug_on_has_everybodys_tokens_in_the_log(
    victim: Browser, provider: LocalProvider, log: pytest.LogCaptureFixture
) -> bool:
    """S49. The log goes to a collector, to a ticket, to a contractor."""
    victim.sign_in()
    assert victim.profile().status_int == 200
    return any(token in ours(log) for token in issued_tokens(provider))


@guarded_by({"wsgi_oauth.app._route": lambda request: f"{request.method} {request.full_path}"})
def test_a_refused_callback_leaves_code_and_state_in_the_log(
    victim: Browser, attacker: Browser, log: pytest.LogCaptureFixture
) -> bool:
    """S49, S50. A refused code has not been used: it is still good."""
    callback = victim.callback_url()
    attacker.get(callback)
    return parameters(callback)["code"] in ours(log)


class AsItIs(str):
    """What a log shows of it when nobody escapes it."""

    __slots__ = ()
    __repr__ = str.__str__


@guarded_by({"wsgi_oauth.app._route": lambda request: AsItIs(f"{request.method} {request.path}")})
def test_a_line_break_in_the_path_writes_a_line_of_its_own_into_the_log(
    log: pytest.LogCaptureFixture, application: Any
):
    """S51."""
    send(application, "/\n[0] GET /callback: signed in", headers=HTML)
    return any("\n[0]" in record.getMessage() for record in log.records if record.name.startswith("wsgi_oauth"))


class Repos(RequestHandler):
    """A page of somebody's own, for an API that wants a key of theirs in its URLs."""

    route = "/repos"

    def get(self, request: Any) -> Response:
        return self.jsonify(self.oauth2_session().get_json("http://127.0.0.1:1/repos?key=CANARY"))


def in_its_own_words(error: Exception, late: bool) -> errors.ProviderError:
    return errors.ProviderUnreachable(str(error))


@guarded_by({"wsgi_oauth.transport.transport._explained": in_its_own_words})
def test_a_provider_that_is_down_has_its_internal_address_and_key_in_the_log(
    make_browser: Callable[..., Browser], log: pytest.LogCaptureFixture
) -> bool:
    """S26. Exceptions of HTTP libraries have the whole URL in their text, and some endpoints have a key in theirs."""
    victim = make_browser(handlers=(Repos,))
    victim.sign_in()
    assert victim.get("/repos").status_int == 502
    return "CANARY" in ours(log)


def referer_of_a_link_on(page: Any, url: str) -> str:
    """What a browser tells the next site (Referrer Policy, W3C); older ones tell all unless asked not to."""
    return "" if page.headers.get("Referrer-Policy") == "no-referrer" else url


@guarded_by({"wsgi_oauth.web.pages.SECURITY_HEADERS": without_header("Referrer-Policy")})
def test_the_next_site_reads_the_code_in_its_referer(victim: Browser, attacker: Browser) -> bool:
    """S46, S49, RFC 9700 4.2.1. An error page at the callback's own address, with a link on it to somewhere."""
    callback = victim.callback_url()
    page = attacker.get(callback)
    return parameters(callback)["code"] in referer_of_a_link_on(page, callback)


def stay_here(handler: Any, location: str, code: int = 302) -> Response:
    if code == 303:
        return Response("Welcome!", 200)
    return Response(status=code, headers={"Location": location})


@guarded_by({"wsgi_oauth.web.handler.RequestHandler.redirect": stay_here})
def test_the_code_stays_in_the_address_bar_and_in_the_history(victim: Browser) -> bool:
    """S17. What is shown after the sign-in has another address, without code and state."""
    callback = victim.callback_url()
    answer = victim.get(callback)
    shown = answer.headers.get("Location") or callback
    return "code=" in urlsplit(shown).query


@guarded_by({"wsgi_oauth.web.pages.SECURITY_HEADERS": without_header("Cache-Control")})
def test_the_next_user_of_a_cache_gets_the_victims_profile(victim: Browser) -> bool:
    """S45, RFC 9111 5.2.2.5. A proxy, a CDN, or the back button after the sign-out."""
    victim.sign_in()
    return "no-store" not in victim.profile().headers.get("Cache-Control", "")


answer_with_a_cookie = OAuthApp._answer


def with_the_id_in_the_address(app: Any, request: Any, answer: Any) -> tuple[Response, list[tuple[str, str]], Any]:
    """Put the id into the address, too, for browsers without cookies, as servlets and PHP did."""
    response, headers, cookie = answer_with_a_cookie(app, request, answer)
    location = response.headers.get("Location", "")
    if location.startswith("/"):
        headers.remove(("Location", location))
        headers.append(("Location", f"{location};jsessionid={request.session.id}"))
    return response, headers, cookie


@guarded_by({"wsgi_oauth.app.OAuthApp._answer": with_the_id_in_the_address})
def test_a_link_that_the_victim_passes_on_carries_the_session(victim: Browser) -> bool:
    """S49, ASVS 14.2.1."""
    answer = victim.sign_in()
    return bool(victim.cookie) and str(victim.cookie) in answer.location


@guarded_by({"wsgi_oauth.config.checks.mask_password": lambda url: url})
def test_a_password_in_a_misspelt_url_is_in_the_message_that_the_operator_pastes_into_a_ticket(
    provider: LocalProvider,
) -> bool:
    """S49."""
    try:
        create_app(Config.from_environ(environ_for(provider, TOKEN_URL="https://me:CANARY@provider.example/token")))
    except errors.ConfigError as error:
        return "CANARY" in str(error)
    return True
