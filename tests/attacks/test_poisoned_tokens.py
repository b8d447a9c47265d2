"""Poisoned token responses: a token is used as long as the session lasts, so it is parsed strictly (RFC 6749 5.1).

The response may come from an attacker, from a captive portal, or from the error page of a proxy. A tolerant parser
finds tokens in all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
from conftest import Browser
from werkzeug import Response

from wsgi_oauth.demo.lab.parties import AttackersServer

from .lesson import guarded_by

BEARER = {"access_token": "mallorys-token", "token_type": "Bearer"}


@pytest.fixture
def signs_in_with(make_browser: Callable[..., Browser], attackers_server: AttackersServer) -> Callable[..., bool]:
    """Return whether the victim is signed in when the token endpoint sends this response."""
    victim = make_browser(TOKEN_URL=f"{attackers_server.url}/token", PROFILE_URL=f"{attackers_server.url}/user")

    def sign_in(body: Any, content_type: str = "application/json", status: int = 200) -> bool:
        text = body if isinstance(body, str) else json.dumps(body)
        attackers_server.answer = Response(text, status, content_type=content_type)
        return victim.get(victim.callback_url()).status_int == 303

    return sign_in


@guarded_by({"wsgi_oauth.oauth.token.parse_token_string": lambda answer, name: answer[name]})
def test_token_with_a_line_break_adds_a_request_header(signs_in_with: Callable[..., bool]) -> bool:
    """S20. The token is sent in a header of each request."""
    return signs_in_with({**BEARER, "access_token": "x\r\nX-Admin: true"})


@guarded_by({"wsgi_oauth.oauth.token.parse_token_string": lambda answer, name: answer[name]})
def test_token_of_another_type_is_stored_and_fails_in_every_request(signs_in_with: Callable[..., bool]) -> bool:
    """S20. The user would be signed in, and every page would be an error."""
    return any(signs_in_with({**BEARER, "access_token": token}) for token in ({"a": 1}, ["x"], 7, True, "ä"))


def lifetime_as_it_is(seconds: Any) -> dict[str, Any]:
    return {"expires_in": seconds, "expires_at": seconds}


@guarded_by({"wsgi_oauth.oauth.token.parse_lifetime": lifetime_as_it_is})
def test_lifetime_of_another_type_is_stored_and_fails_in_every_request(
    make_browser: Callable[..., Browser], attackers_server: AttackersServer
) -> bool:
    """S20, S21. An unreadable lifetime counts as not known."""
    victim = make_browser(TOKEN_URL=f"{attackers_server.url}/token", PROFILE_URL=f"{attackers_server.url}/user")
    document, failed = attackers_server.answer, []
    for lifetime in ("soon", [3600], {"s": 1}, True):
        answer = json.dumps({**BEARER, "expires_in": lifetime})
        attackers_server.answer = Response(answer, content_type="application/json")
        victim.get(victim.callback_url())
        attackers_server.answer = document
        failed.append(victim.profile().status_int != 200)
    return any(failed)


@guarded_by({"wsgi_oauth.oauth.token._OTHER_TYPES": set()})
def test_token_that_is_bound_to_a_key_is_sent_without_the_key(signs_in_with: Callable[..., bool]) -> bool:
    """S20; RFC 9449 5. Other unknown types count as Bearer."""
    return any(signs_in_with({**BEARER, "token_type": name}) for name in ("DPoP", "dpop", " mac", "N_A"))


@guarded_by({"wsgi_oauth.oauth.token.has_error": lambda document: False})
def test_error_beside_a_token_is_overlooked(signs_in_with: Callable[..., bool]) -> bool:
    """S18. GitHub sends errors with status 200, so the status alone does not tell."""
    return signs_in_with({**BEARER, "error": "bad_verification_code"})


# As in oauthlib's parse_request_body_response, which falls back to form encoding.
def json_or_form_encoding(response: Any) -> dict[str, Any]:
    try:
        return response.json()
    except ValueError:
        return dict(parse_qsl(response.text))


@guarded_by({"wsgi_oauth.oauth.token.read_token_document": json_or_form_encoding})
def test_web_page_that_repeats_the_request_contains_the_attackers_token(
    signs_in_with: Callable[..., bool],
) -> bool:
    """S19. "Not found: /?&access_token=...": parsed as a form, an error page contains the parameters of its URL."""
    page = "<html><title>Not found: /x?&access_token=mallorys-token&token_type=bearer&</title></html>"
    return signs_in_with(page, "text/html")


@guarded_by({"wsgi_oauth.oauth.token.read_token_document": json_or_form_encoding})
def test_text_that_repeats_the_request_contains_the_attackers_token(signs_in_with: Callable[..., bool]) -> bool:
    """S19. Form encoding needs its own content type."""
    text = "access_token=mallorys-token&token_type=bearer"
    types = ("text/plain", "text/html", "application/x-www-form-urlencoded-x", "application/octet-stream", "")
    return any(signs_in_with(text, content_type) for content_type in types)


def any_value(response: Any) -> dict[str, Any]:
    return dict(parse_qsl(response.text))


@guarded_by({"wsgi_oauth.oauth.token._read_form": any_value})
def test_form_with_two_tokens_contains_the_attackers_token(signs_in_with: Callable[..., bool]) -> bool:
    """S19; RFC 6749 3.2. Programs differ in which of two values they take."""
    text = "access_token=the-victims&token_type=bearer&access_token=mallorys-token"
    return signs_in_with(text, "application/x-www-form-urlencoded")


@guarded_by({"wsgi_oauth.oauth.token.read_json": lambda response, of, what, **_: json.loads(response.content)})
def test_list_of_pairs_is_accepted_as_a_token(signs_in_with: Callable[..., bool]) -> bool:
    """S20. Python converts a list of pairs to a dictionary."""
    return signs_in_with([["access_token", "mallorys-token"], ["token_type", "Bearer"]])


@guarded_by({"wsgi_oauth.oauth.token._TOKEN_SYNTAX": re.compile(r"[\x21-\x7e]*")})
def test_huge_token_fills_the_store(make_browser: Callable[..., Browser], attackers_server: AttackersServer) -> bool:
    """S20. Each session would need half a megabyte, or the error would blame the store."""
    attackers_server.answer = Response(
        json.dumps({**BEARER, "access_token": "x" * 500_000}), content_type="application/json"
    )
    victim = make_browser(TOKEN_URL=f"{attackers_server.url}/token")
    return victim.get(victim.callback_url()).status_int in {303, 500, 503}
