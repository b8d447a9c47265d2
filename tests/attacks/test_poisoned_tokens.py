"""What the token endpoint says is believed for as long as the session lasts, so it is read strictly (RFC 6749 5.1).

The provider may be broken, taken over, or not even there: a captive portal, a proxy's error page, a page that repeats
what it was asked. Tolerant readers find tokens in all of them.
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

from wsgi_oauth import MemoryStore, SessionStore

from .conftest import AttackersServer
from .lesson import guarded_by

BEARER = {"access_token": "mallorys-token", "token_type": "Bearer"}


@pytest.fixture
def store() -> SessionStore:
    return MemoryStore()


@pytest.fixture
def signs_in_with(make_browser: Callable[..., Browser], attackers_server: AttackersServer) -> Callable[..., bool]:
    """Say whether the victim is signed in when the token endpoint gives this answer."""
    victim = make_browser(TOKEN_URL=f"{attackers_server.url}/token", PROFILE_URL=f"{attackers_server.url}/user")

    def sign_in(body: Any, content_type: str = "application/json", status: int = 200) -> bool:
        text = body if isinstance(body, str) else json.dumps(body)
        attackers_server.answer = Response(text, status, content_type=content_type)
        return victim.get(victim.callback_url()).status_int == 303

    return sign_in


@guarded_by({"wsgi_oauth.oauth.token.parse_token_string": lambda answer, name: answer[name]})
def test_a_token_with_a_line_break_writes_headers_of_its_own(signs_in_with: Callable[..., bool]) -> bool:
    """S20. It travels in a header, with each request."""
    return signs_in_with({**BEARER, "access_token": "x\r\nX-Admin: true"})


@guarded_by({"wsgi_oauth.oauth.token.parse_token_string": lambda answer, name: answer[name]})
def test_a_token_that_is_no_text_is_kept_and_fails_at_every_request(signs_in_with: Callable[..., bool]) -> bool:
    """S20. The user is signed in, and every page is an error: a token that is stored works, or says why not."""
    return any(signs_in_with({**BEARER, "access_token": token}) for token in ({"a": 1}, ["x"], 7, True, "ä"))


@guarded_by({"wsgi_oauth.oauth.token.parse_lifetime": lambda seconds: {"expires_in": seconds, "expires_at": seconds}})
def test_a_lifetime_that_is_no_number_is_kept_and_fails_at_every_request(signs_in_with: Callable[..., bool]) -> bool:
    """S20, S21."""
    return any(signs_in_with({**BEARER, "expires_in": lifetime}) for lifetime in ("soon", [3600], {"s": 1}, True))


@guarded_by({"wsgi_oauth.oauth.token.check_error": lambda code: None})
def test_an_error_beside_a_token_is_overlooked(signs_in_with: Callable[..., bool]) -> bool:
    """S18. GitHub says no with status 200, so the status is no answer; the word `error` is."""
    return signs_in_with({**BEARER, "error": "bad_verification_code"})


# oauthlib's parse_request_body_response, which tries the one when the other fails.
def json_or_else_form_encoding(response: Any) -> dict[str, Any]:
    try:
        return response.json()
    except ValueError:
        return dict(parse_qsl(response.text))


@guarded_by({"wsgi_oauth.oauth.token.read_token_document": json_or_else_form_encoding})
def test_a_web_page_that_repeats_what_it_was_asked_gives_the_attackers_token(
    signs_in_with: Callable[..., bool],
) -> bool:
    """S19. "We could not find /?&access_token=...": read as a form, an error page holds whatever was asked for."""
    page = "<html><title>Not found: /x?&access_token=mallorys-token&token_type=bearer&</title></html>"
    return signs_in_with(page, "text/html")


@guarded_by({"wsgi_oauth.oauth.token.read_json": lambda response, of, what: json.loads(response.content)})
def test_a_list_of_pairs_is_taken_for_a_token(signs_in_with: Callable[..., bool]) -> bool:
    """S20. Python makes a dictionary of many things."""
    return signs_in_with([["access_token", "mallorys-token"], ["token_type", "Bearer"]])


@guarded_by({"wsgi_oauth.oauth.token._TOKEN_SYNTAX": re.compile(r"[\x21-\x7e]*")})
def test_a_token_that_fills_the_store_keeps_the_user_out(
    make_browser: Callable[..., Browser], attackers_server: AttackersServer
) -> bool:
    """S20. Half a megabyte of token in each session, or an error of the store that is none."""
    attackers_server.answer = Response(
        json.dumps({**BEARER, "access_token": "x" * 500_000}), content_type="application/json"
    )
    victim = make_browser(TOKEN_URL=f"{attackers_server.url}/token")
    return victim.get(victim.callback_url()).status_int in {303, 500, 503}
