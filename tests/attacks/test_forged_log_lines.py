"""Forged log lines: the attacker chooses text that looks like an event of another user, or like fields of an event.

An operator, or the program that reads the log, then believes that another user has signed in, or does not find the
attacker's actions.
"""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import quote

import pytest
from conftest import HTML, Browser, environ_for, parameters, send
from werkzeug.http import parse_list_header

from wsgi_oauth import Config, create_app
from wsgi_oauth.demo.local_provider import LocalProvider

from .lesson import guarded_by

FORGED = "sign_in success user=victim@github"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "wsgi_oauth")
    return caplog


def is_forged(log: pytest.LogCaptureFixture) -> bool:
    """Return whether the log, read line by line, has an event of the victim."""
    messages = [record.getMessage() for record in log.records if record.name.startswith("wsgi_oauth")]
    assert messages
    # Fields without the quoted ones, and without the text behind them.
    fields = [re.sub(r"'[^']*'", "''", line).partition(": ")[0] for text in messages for line in text.splitlines()]
    return any("user=victim@github" in line for line in fields)


def unchanged(text: Any) -> str:
    return str(text)


@guarded_by({"wsgi_oauth.web.application.valid_request_id": unchanged, "wsgi_oauth.events.quote_field": unchanged})
def test_line_forged_with_the_id_of_a_request(provider: LocalProvider, log: pytest.LogCaptureFixture):
    """S51, S71: a proxy that sets no ``X-Request-ID`` passes on that of the client."""
    app = create_app(Config.from_environ(environ_for(provider, TRUSTED_PROXIES="1")))
    send(app, "/callback", headers={**HTML, "X-Request-ID": f"0] {FORGED} ["})
    return is_forged(log)


def as_a_quoted_list(header: str, proxies: int) -> str:
    """Return the value by RFC 9110 5.6.4, as some versions of Werkzeug do, without those inside of quotes."""
    values = [] if header.count('"') % 2 else parse_list_header(header)
    return values[-proxies] if len(values) >= proxies else ""


@guarded_by({"wsgi_oauth.web.application.find_reported_value": as_a_quoted_list})
def test_quote_hides_the_address_of_a_client(provider: LocalProvider, log: pytest.LogCaptureFixture) -> bool:
    """S71: the proxy adds the address behind the value of the client."""
    app = create_app(Config.from_environ(environ_for(provider, TRUSTED_PROXIES="1")))
    send(app, "/callback", headers={**HTML, "X-Forwarded-For": '", 203.0.113.9'})
    return "client=203.0.113.9 " not in log.text


@guarded_by({"wsgi_oauth.oauth.identity.escape_id": unchanged, "wsgi_oauth.events.quote_field": unchanged})
def test_fields_forged_with_the_id_of_an_account(
    provider: LocalProvider, make_browser: Any, log: pytest.LogCaptureFixture
):
    """S51: some providers let users choose the value that a setting declares to be their id."""
    browser: Browser = make_browser(ALLOW="id:1", SUBJECT_CLAIM="login")
    provider.user = {**provider.user, "login": "mallory user=victim@github"}
    assert browser.get(browser.callback_url()).status_int == 403
    return is_forged(log)


@guarded_by(
    {
        "wsgi_oauth.sign_in.clean_description": lambda text, secrets: text,
        "wsgi_oauth.oauth.refusal.quote_description": unchanged,
        "wsgi_oauth.events.escape_text": unchanged,
    }
)
def test_line_forged_with_the_description_of_an_error(attacker: Browser, log: pytest.LogCaptureFixture):
    """The attacker writes the provider's response, because it comes from the attacker's own browser (S72)."""
    state = parameters(attacker.get("/").location)["state"]
    description = quote(f"no\n{FORGED}")
    attacker.get(f"/callback?error=access_denied&error_description={description}&state={state}")
    return is_forged(log)
