"""Every fault the local provider can show: where, its name, a line about it, and the deed.

A fault's full name is ``endpoint.name``. One that gives an answer of its own leaves the grant as it
was, so a code or refresh token can be used afterwards; one that spoils the honest answer lets the
provider do its work first.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from werkzeug.wrappers import Response

from .fault_injection import Fault, FaultContext

Act = Callable[[FaultContext], Response]
Table = dict[str, tuple[str, Act]]
Parameters = list[tuple[str, str]]
Token = dict[str, Any]

HTML = "text/html; charset=utf-8"
JSON = "application/json"
MARKUP = '<script>alert("reflected")</script>'

MIB = 1 << 20
HUGE = 2 * MIB
BOMB = 100 * MIB
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


# An answer of its own, in place of the honest one.


def _answer(body: str | bytes, content_type: str = JSON, status: int = 200, **headers: str) -> Act:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda context: Response(body, status, named, content_type=content_type)


def _page(status: int, **headers: str) -> Act:
    body = f"<!doctype html><title>{status}</title><h1>Something is up here</h1>"
    return _answer(body, HTML, status, **headers)


def _oauth_error(code: str, status: int = 400, **more: str) -> Act:
    return _answer(json.dumps({"error": code, **more}), JSON, status)


def _redirect(status: int) -> Act:
    return lambda context: Response(status=status, headers={"Location": context.faults.redirect_to})


def _bomb(document: str) -> Act:
    return lambda context: Response(_bomb_body(document), 200, {"Content-Encoding": "gzip"}, content_type=JSON)


@cache
def _bomb_body(document: str) -> bytes:
    return gzip.compress(_padded(document, BOMB))


def _padded(document: str, size: int) -> bytes:
    """A JSON object with one more member, ``size`` bytes long."""
    return b'%b, "padding": "%b"}' % (document[:-1].encode(), b"a" * size)


def _nested(document: str) -> str:
    """A JSON object with one more member, deeper than any parser's stack."""
    return f'{document[:-1]}, "deep": {"[" * 100_000}{"]" * 100_000}}}'


# The honest answer, spoilt. A refusal is passed on as it is.


def _spoilt(spoil: Callable[[Response], object]) -> Act:
    def act(context: FaultContext) -> Response:
        response = context.normal_response()
        if response.status_code < 400:
            spoil(response)
        return response

    return act


def _with_status(status: int) -> Act:
    return _spoilt(lambda response: setattr(response, "status_code", status))


def _with_headers(**headers: str) -> Act:
    return _spoilt(lambda response: response.headers.update(headers))


def _token(change: Callable[[Token], Token]) -> Act:
    return _spoilt(lambda response: response.set_data(json.dumps(change(response.get_json()))))


def _with_member(name: str, value: object) -> Act:
    return _token(lambda token: {**token, name: value})


def _without_member(name: str) -> Act:
    return _token(lambda token: {key: value for key, value in token.items() if key != name})


def _with_scope(change: Callable[[list[str]], str]) -> Act:
    return _token(lambda token: {**token, "scope": change(token["scope"].split())})


def _form_encoded(response: Response) -> None:
    response.set_data(urlencode(response.get_json()))
    response.content_type = "application/x-www-form-urlencoded"


# The authorization response's parameters (RFC 6749 4.1.2), changed.


def _parameters(change: Callable[[Parameters], Parameters]) -> Act:
    def spoil(response: Response) -> None:
        if response.location:
            parts = urlsplit(response.location)
            changed = change(parse_qsl(parts.query, keep_blank_values=True))
            response.location = parts._replace(query=urlencode(changed)).geturl()

    return _spoilt(spoil)


def _without(*names: str) -> Act:
    return _parameters(lambda given: [pair for pair in given if pair[0] not in names])


def _with(without: tuple[str, ...] = (), **new: str) -> Act:
    dropped = {*without, *new}
    return _parameters(lambda given: [*(pair for pair in given if pair[0] not in dropped), *new.items()])


def _twice(name: str) -> Act:
    return _parameters(lambda given: [*given, *(pair for pair in given if pair[0] == name)])


def _error(code: str, without: tuple[str, ...] = ("code",), **more: str) -> Act:
    return _with(without, error=code, **more)


# The connection.


def _slow(context: FaultContext) -> Response:
    context.wait(context.faults.slow_seconds)
    return context.normal_response()


def _dribble(head: bytes) -> Act:
    return lambda context: context.dribble(head)


def _hang_up(after: bytes = b"") -> Act:
    return lambda context: context.hang_up(after)


def _upstream(document: str) -> Table:
    """What can go wrong at any endpoint that the client itself asks, whatever it asks there."""
    return {
        "empty_200": ("success without a body", _answer("")),
        "html_200": ("success, and it is a web page", _page(200)),
        "500": ("500 with a web page", _page(500)),
        "502": ("502 with a web page", _page(502)),
        "503": ("503 with a web page", _page(503, Retry_After="2")),
        "json_list": ("JSON, but a list", _answer(f"[{document}]")),
        "json_string": ("JSON, but a string", _answer('"hello"')),
        "malformed_json": ("JSON that breaks off", _answer(document[:-1])),
        "deep_json": ("JSON nested 100 000 deep", _answer(_nested(document))),
        "huge_json": ("2 MiB of JSON", lambda context: _answer(_padded(document, HUGE))(context)),
        "gzip_bomb": ("100 kB of gzip that hold 100 MiB of JSON", _bomb(document)),
        "broken_gzip": ("says gzip and is not", _answer(document, Content_Encoding="gzip")),
        "invalid_utf8": ("bytes that are not UTF-8", _answer(b'{"name": "\xff\xfe"}')),
        "redirect_301": ("301 to another origin", _redirect(301)),
        "redirect_302": ("302 to another origin", _redirect(302)),
        "redirect_303": ("303 to another origin", _redirect(303)),
        "redirect_307": ("307 to another origin, which repeats a POST there", _redirect(307)),
        "redirect_308": ("308 to another origin, which repeats a POST there", _redirect(308)),
        "slow": ("answers after half a minute", _slow),
        "dribble_headers": ("headers byte by byte, for ever", _dribble(HEAD + b"X-Dribble: ")),
        "dribble_body": (
            "a body byte by byte, for ever",
            _dribble(HEAD + b'Content-Length: 1000000\r\n\r\n{"x": "'),
        ),
        "hang_up": ("closes the connection without an answer", _hang_up()),
        "hang_up_in_headers": ("closes it in the middle of the headers", _hang_up(HEAD[:40])),
        "cut_body": (
            "closes it in the middle of the body",
            _hang_up(HEAD + b"Content-Length: 1000\r\n\r\n" + document[:-1].encode()),
        ),
        "reset": ("resets the connection without an answer", lambda context: context.reset()),
        "close": ("answers well, then closes the connection", _with_headers(Connection="close")),
    }


AUTHORIZE_FAULTS: Table = {
    # The codes of RFC 6749 4.1.2.1, and what else is met
    "access_denied": ("the person declines", _error("access_denied")),
    "consent_required": ("declines, as OpenID Connect says it", _error("consent_required")),
    "invalid_request": ("calls the request malformed", _error("invalid_request")),
    "unauthorized_client": ("the client may not ask for a code", _error("unauthorized_client")),
    "unsupported_response_type": ("issues no codes", _error("unsupported_response_type")),
    "invalid_scope": ("does not know the scope", _error("invalid_scope")),
    "server_error": ("something broke", _error("server_error")),
    "temporarily_unavailable": ("too busy just now", _error("temporarily_unavailable")),
    "unknown_error": ("an error code that no document has", _error("cat_on_keyboard")),
    "markup": (
        "an error whose description and URI are a <script>",
        _error("server_error", error_description=MARKUP, error_uri=f"javascript:{MARKUP}"),
    ),
    "error_without_state": ("declines without state", _error("access_denied", ("code", "state"))),
    "error_and_code": ("an error and a code at once", _error("access_denied", ())),
    # RFC 9207
    "wrong_iss": ("another provider's iss", _with(iss="https://attacker.example")),
    "empty_iss": ("an empty iss", _with(iss="")),
    "missing_iss": ("no iss", _without("iss")),
    "duplicate_iss": ("iss twice", _twice("iss")),
    # RFC 6749 4.1.2, 3.1
    "wrong_state": ("a state that the client never made", _with(state="never-made")),
    "missing_state": ("no state", _without("state")),
    "duplicate_state": ("state twice", _twice("state")),
    "wrong_code": ("a code that was never issued", _with(code="never-issued")),
    "missing_code": ("no code", _without("code")),
    "duplicate_code": ("code twice", _twice("code")),
    "extra_parameters": ("parameters nobody asked for", _with(session_state="a.b", locale="en")),
}

TOKEN_FAULTS: Table = {
    # The codes of RFC 6749 5.2, and how they come in practice
    "invalid_request": ("calls the request malformed", _oauth_error("invalid_request")),
    "invalid_client": ("does not know the client, 400", _oauth_error("invalid_client")),
    "invalid_client_401": ("does not know the client, 401", _oauth_error("invalid_client", 401)),
    "invalid_grant": ("refuses the code or refresh token", _oauth_error("invalid_grant")),
    "unauthorized_client": ("this client may not do that", _oauth_error("unauthorized_client")),
    "unsupported_grant_type": ("no such grant", _oauth_error("unsupported_grant_type")),
    "invalid_scope": ("does not know the scope", _oauth_error("invalid_scope")),
    "unknown_error": ("an error code that no document has", _oauth_error("cat_on_keyboard")),
    "invalid_grant_403": ("refuses the code with 403", _oauth_error("invalid_grant", 403)),
    "error_200": (
        "an error with HTTP 200, as GitHub does",
        _oauth_error(
            "bad_verification_code",
            200,
            error_description="The code passed is incorrect or expired.",
            error_uri="https://docs.github.com/apps",
        ),
    ),
    "markup": ("an error with a <script>", _oauth_error("x", error_description=MARKUP)),
    "empty_400": ("400 without a body", _answer("", status=400)),
    "problem_400": (
        "400 with application/problem+json",
        _answer('{"title": "Bad Request", "status": 400}', "application/problem+json", 400),
    ),
    # RFC 6749 5.1: how the token is written
    "token_in_500": ("a token, with status 500", _with_status(500)),
    "token_as_html": (
        "a token, called text/html",
        _spoilt(lambda response: setattr(response, "content_type", HTML)),
    ),
    "form_encoded": ("a token in form encoding", _spoilt(_form_encoded)),
    "extra_members": ("members nobody asked for", _with_member("id_token", "a.b.c")),
    # ... and each of its members
    "access_token_missing": ("no access_token", _without_member("access_token")),
    "access_token_null": ("access_token null", _with_member("access_token", None)),
    "access_token_number": ("access_token 5", _with_member("access_token", 5)),
    "access_token_list": ("access_token a list", _with_member("access_token", ["a"])),
    "access_token_empty": ("access_token empty", _with_member("access_token", "")),
    "access_token_non_ascii": ("access_token with é", _with_member("access_token", "clé")),
    "access_token_newline": ("access_token with CR LF", _with_member("access_token", "a\r\nb: c")),
    "token_type_missing": ("no token_type", _without_member("token_type")),
    "token_type_null": ("token_type null", _with_member("token_type", None)),
    "token_type_mac": ("token_type mac", _with_member("token_type", "mac")),
    "token_type_upper": ("token_type BEARER, which is fine", _with_member("token_type", "BEARER")),
    "expires_in_missing": ("no expires_in", _without_member("expires_in")),
    "expires_in_null": ("expires_in null", _with_member("expires_in", None)),
    "expires_in_zero": ("expires_in 0: expired at once", _with_member("expires_in", 0)),
    "expires_in_negative": ("expires_in -1", _with_member("expires_in", -1)),
    "expires_in_string": ('expires_in "3600", in quotes', _with_member("expires_in", "3600")),
    "expires_in_word": ('expires_in "soon"', _with_member("expires_in", "soon")),
    "expires_in_huge": ("expires_in 10 to the 400", _with_member("expires_in", 10**400)),
    "expires_in_nan": ("expires_in NaN", _with_member("expires_in", math.nan)),
    "expires_in_infinity": ("expires_in Infinity", _with_member("expires_in", math.inf)),
    "expires_at": ("an expires_at, far too late", _with_member("expires_at", 4102444800)),
    "scope_commas": ("scopes separated by commas, as GitHub does", _with_scope(",".join)),
    "scope_smaller": ("without the last scope", _with_scope(lambda all_: " ".join(all_[:-1]))),
    "scope_other": ("another scope altogether", _with_member("scope", "something:else")),
    "scope_missing": ("no scope, which means as asked", _without_member("scope")),
    "scope_list": ("scopes as a JSON list", _token(lambda t: {**t, "scope": t["scope"].split()})),
    "refresh_token_missing": ("no refresh_token", _without_member("refresh_token")),
    "refresh_token_number": ("refresh_token 5", _with_member("refresh_token", 5)),
    **_upstream('{"access_token": "never-issued", "token_type": "Bearer", "expires_in": 3600}'),
}

REFRESH_FAULTS: Table = {
    "invalid_grant": ("refuses the refresh token", _oauth_error("invalid_grant")),
    "503": ("503 with a web page", _page(503)),
    "slow": ("answers after half a minute", _slow),
}

PROFILE_FAULTS: Table = {
    "400": ("refuses the token with 400", _answer('{"message": "Bad token"}', status=400)),
    "401": (
        "refuses the token (RFC 6750 3.1)",
        _answer(
            '{"message": "Bad credentials"}',
            status=401,
            WWW_Authenticate='Bearer error="invalid_token"',
        ),
    ),
    "empty_401": ("refuses the token without a word", _answer("", status=401)),
    "403": ("not with this token", _answer('{"message": "Forbidden"}', status=403)),
    "429": (
        "too many requests",
        _answer('{"message": "Slow down"}', status=429, Retry_After="7"),
    ),
    "nan": ("JSON with a NaN", _answer('{"id": NaN, "login": "octocat"}')),
    **_upstream('{"id": 583231, "login": "octocat"}'),
}

REVOKE_FAULTS: Table = {
    "401": ("does not know the client", _oauth_error("invalid_client", 401)),
    "404": ("there is no such endpoint", _page(404)),
    "ignored": ("says 200 and does nothing", _answer("")),
    **_upstream('{"revoked": true}'),
}

FAULTS: dict[str, Fault] = {
    f"{endpoint}.{name}": Fault(f"{endpoint}.{name}", description, act)
    for endpoint, table in {
        "authorize": AUTHORIZE_FAULTS,
        "token": TOKEN_FAULTS,
        "refresh": REFRESH_FAULTS,
        "profile": PROFILE_FAULTS,
        "revoke": REVOKE_FAULTS,
    }.items()
    for name, (description, act) in table.items()
}
