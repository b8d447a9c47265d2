"""All faults that the local provider can inject, with a description of each.

The full name of a fault is ``endpoint.name``. A fault that sends a response of its own does not
process the request, so the authorization code or refresh token can be used afterwards. A fault that
modifies the normal response processes the request first.
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

from . import signing
from .fault_injection import Fault, FaultContext

Respond = Callable[[FaultContext], Response]
Table = dict[str, tuple[str, Respond]]
Parameters = list[tuple[str, str]]
Token = dict[str, Any]

HTML = "text/html; charset=utf-8"
JSON = "application/json"
MARKUP = '<script>alert("reflected")</script>'

MIB = 1 << 20
HUGE = 2 * MIB
BOMB = 100 * MIB
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


# -- responses that replace the normal one -----------------------------------------------------------------------------


def _respond(body: str | bytes, content_type: str = JSON, status: int = 200, **headers: str) -> Respond:
    renamed = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda context: Response(body, status, renamed, content_type=content_type)


def _respond_html(status: int, **headers: str) -> Respond:
    body = f"<!doctype html><title>{status}</title><h1>An HTML page</h1>"
    return _respond(body, HTML, status, **headers)


def _respond_error(code: str, status: int = 400, **more: str) -> Respond:
    return _respond(json.dumps({"error": code, **more}), JSON, status)


def _redirect(status: int) -> Respond:
    return lambda context: Response(status=status, headers={"Location": context.faults.redirect_to})


def _respond_gzip_bomb(document: str) -> Respond:
    return lambda context: Response(_bomb_body(document), 200, {"Content-Encoding": "gzip"}, content_type=JSON)


@cache
def _bomb_body(document: str) -> bytes:
    return gzip.compress(_padded(document, BOMB))


def _padded(document: str, size: int) -> bytes:
    """Return a JSON object with an additional member of *size* bytes."""
    return b'%b, "padding": "%b"}' % (document[:-1].encode(), b"a" * size)


def _nested(document: str) -> str:
    """Return a JSON object with an additional member that is nested too deeply for a recursive parser."""
    return f'{document[:-1]}, "deep": {"[" * 100_000}{"]" * 100_000}}}'


# -- modified responses ------------------------------------------------------------------------------------------------


def _modify(change: Callable[[Response], object]) -> Respond:
    """Modify the normal response. An error response is not changed."""

    def respond(context: FaultContext) -> Response:
        response = context.normal_response()
        if response.status_code < 400:
            change(response)
        return response

    return respond


def _set_headers(**headers: str) -> Respond:
    return _modify(lambda response: response.headers.update(headers))


def _modify_token(change: Callable[[Token], Token]) -> Respond:
    return _modify(lambda response: response.set_data(json.dumps(change(response.get_json()))))


def _set_member(name: str, value: object) -> Respond:
    return _modify_token(lambda token: {**token, name: value})


def _remove_member(name: str) -> Respond:
    return _modify_token(lambda token: {key: value for key, value in token.items() if key != name})


def _modify_scope(change: Callable[[list[str]], object]) -> Respond:
    return _modify_token(lambda token: {**token, "scope": change(token["scope"].split())})


def _change_audience(token: Token) -> Token:
    if "id_token" not in token:
        return token
    claims = signing.read_claims(token["id_token"])
    return {**token, "id_token": signing.sign_jwt({**claims, "aud": "another-client"})}


def _form_encode(response: Response) -> None:
    response.set_data(urlencode(response.get_json()))
    response.content_type = "application/x-www-form-urlencoded"


# -- modified authorization responses (RFC 6749 4.1.2) -----------------------------------------------------------------


def _modify_parameters(change: Callable[[Parameters], Parameters]) -> Respond:
    def modify(response: Response) -> None:
        if response.location:
            parts = urlsplit(response.location)
            changed = change(parse_qsl(parts.query, keep_blank_values=True))
            response.location = parts._replace(query=urlencode(changed)).geturl()

    return _modify(modify)


def _remove(*names: str) -> Respond:
    return _modify_parameters(lambda parameters: [pair for pair in parameters if pair[0] not in names])


def _set(*, remove: tuple[str, ...] = (), **new: str) -> Respond:
    removed = {*remove, *new}
    return _modify_parameters(
        lambda parameters: [*(pair for pair in parameters if pair[0] not in removed), *new.items()]
    )


def _repeat(name: str) -> Respond:
    return _modify_parameters(lambda parameters: [*parameters, *(pair for pair in parameters if pair[0] == name)])


def _error(code: str, *, remove: tuple[str, ...] = ("code",), **more: str) -> Respond:
    return _set(remove=remove, error=code, **more)


# -- connection faults -------------------------------------------------------------------------------------------------


def _slow(context: FaultContext) -> Response:
    context.wait(context.faults.slow_seconds)
    return context.normal_response()


def _dribble(head: bytes) -> Respond:
    return lambda context: context.dribble(head)


def _hang_up(after: bytes = b"") -> Respond:
    return lambda context: context.hang_up(after)


# -- the faults of each endpoint ---------------------------------------------------------------------------------------


def _back_channel_faults(document: str) -> Table:
    """Return the faults of every endpoint that the client calls directly.

    :param document: a successful JSON response of the endpoint.
    """
    return {
        "empty_200": ("200 with an empty body", _respond("")),
        "html_200": ("200 with an HTML page", _respond_html(200)),
        "500": ("500 with an HTML page", _respond_html(500)),
        "502": ("502 with an HTML page", _respond_html(502)),
        "503": ("503 with an HTML page and Retry-After", _respond_html(503, Retry_After="2")),
        "json_list": ("a JSON list instead of an object", _respond(f"[{document}]")),
        "json_string": ("a JSON string instead of an object", _respond('"hello"')),
        "malformed_json": ("incomplete JSON", _respond(document[:-1])),
        "deep_json": ("JSON with 100 000 nested lists", _respond(_nested(document))),
        "huge_json": ("2 MiB of JSON", lambda context: _respond(_padded(document, HUGE))(context)),
        "gzip_bomb": ("100 MiB of JSON, compressed to 100 kB", _respond_gzip_bomb(document)),
        "broken_gzip": (
            "Content-Encoding: gzip, but an uncompressed body",
            _respond(document, Content_Encoding="gzip"),
        ),
        "invalid_utf8": ("a body that is not valid UTF-8", _respond(b'{"name": "\xff\xfe"}')),
        # A client that follows a 307 or 308 would repeat its POST at the other origin.
        **{
            f"redirect_{status}": (f"{status} to another origin", _redirect(status))
            for status in (301, 302, 303, 307, 308)
        },
        "slow": ("a response after 30 seconds", _slow),
        "dribble_headers": ("endless headers, byte by byte", _dribble(HEAD + b"X-Dribble: ")),
        "dribble_body": ("an endless body, byte by byte", _dribble(HEAD + b'Content-Length: 1000000\r\n\r\n{"x": "')),
        "hang_up": ("closes the connection before the response", _hang_up()),
        "hang_up_in_headers": ("closes the connection within the headers", _hang_up(HEAD[:40])),
        "cut_body": (
            "closes the connection within the body",
            _hang_up(HEAD + b"Content-Length: 1000\r\n\r\n" + document[:-1].encode()),
        ),
        "reset": ("resets the connection before the response", lambda context: context.reset()),
        "close": ("closes the connection after a normal response", _set_headers(Connection="close")),
    }


AUTHORIZE_FAULTS: Table = {
    # Error codes of RFC 6749 4.1.2.1 and OpenID Connect
    "access_denied": ("the user declines", _error("access_denied")),
    "consent_required": ("the user declines, with OpenID Connect's error code", _error("consent_required")),
    "invalid_request": ("the request is malformed", _error("invalid_request")),
    "unauthorized_client": ("the client may not request codes", _error("unauthorized_client")),
    "unsupported_response_type": ("the provider issues no codes", _error("unsupported_response_type")),
    "invalid_scope": ("the scope is unknown", _error("invalid_scope")),
    "server_error": ("an internal error", _error("server_error")),
    "temporarily_unavailable": ("the provider is overloaded", _error("temporarily_unavailable")),
    "unknown_error": ("an error code that no specification defines", _error("cat_on_keyboard")),
    "markup": (
        "an error whose description and URI contain a <script>",
        _error("server_error", error_description=MARKUP, error_uri=f"javascript:{MARKUP}"),
    ),
    "error_without_state": ("an error without state", _error("access_denied", remove=("code", "state"))),
    "error_and_code": ("an error together with a code", _error("access_denied", remove=())),
    # RFC 9207
    "wrong_iss": ("the iss of another provider", _set(iss="https://attacker.example")),
    "empty_iss": ("an empty iss", _set(iss="")),
    "missing_iss": ("a missing iss", _remove("iss")),
    "duplicate_iss": ("iss twice", _repeat("iss")),
    # RFC 6749 4.1.2, 3.1
    "wrong_state": ("an unknown state", _set(state="never-made")),
    "missing_state": ("a missing state", _remove("state")),
    "duplicate_state": ("state twice", _repeat("state")),
    "wrong_code": ("an unknown code", _set(code="never-issued")),
    "missing_code": ("a missing code", _remove("code")),
    "duplicate_code": ("code twice", _repeat("code")),
    "extra_parameters": ("additional parameters", _set(session_state="a.b", locale="en")),
}

TOKEN_FAULTS: Table = {
    # Error codes of RFC 6749 5.2, and deviations of real providers
    "invalid_request": ("the request is malformed", _respond_error("invalid_request")),
    "invalid_client": ("client authentication failed, status 400", _respond_error("invalid_client")),
    "invalid_client_401": ("client authentication failed, status 401", _respond_error("invalid_client", 401)),
    "invalid_grant": ("the code or refresh token is invalid", _respond_error("invalid_grant")),
    "unauthorized_client": ("the client may not use this grant type", _respond_error("unauthorized_client")),
    "unsupported_grant_type": ("the grant type is not supported", _respond_error("unsupported_grant_type")),
    "invalid_scope": ("the scope is unknown", _respond_error("invalid_scope")),
    "unknown_error": ("an error code that no specification defines", _respond_error("cat_on_keyboard")),
    "invalid_grant_403": ("the code is invalid, status 403", _respond_error("invalid_grant", 403)),
    "error_200": (
        "an error with status 200, like GitHub",
        _respond_error(
            "bad_verification_code",
            200,
            error_description="The code passed is incorrect or expired.",
            error_uri="https://docs.github.com/apps",
        ),
    ),
    "markup": ("an error that contains a <script>", _respond_error("x", error_description=MARKUP)),
    "empty_400": ("400 with an empty body", _respond("", status=400)),
    "problem_400": (
        "400 with application/problem+json",
        _respond('{"title": "Bad Request", "status": 400}', "application/problem+json", 400),
    ),
    # The token response (RFC 6749 5.1)
    "token_in_500": ("a token with status 500", _modify(lambda response: setattr(response, "status_code", 500))),
    "token_as_html": (
        "a token with the content type text/html",
        _modify(lambda response: setattr(response, "content_type", HTML)),
    ),
    "form_encoded": ("a form-encoded token", _modify(_form_encode)),
    "id_token_for_another_client": ("an ID token for another client", _modify_token(_change_audience)),
    "extra_members": ("an id_token that was not requested", _set_member("id_token", "a.b.c")),
    # ... and its members
    "access_token_missing": ("a missing access_token", _remove_member("access_token")),
    "access_token_null": ("access_token null", _set_member("access_token", None)),
    "access_token_number": ("access_token 5", _set_member("access_token", 5)),
    "access_token_list": ("access_token is a list", _set_member("access_token", ["a"])),
    "access_token_empty": ("an empty access_token", _set_member("access_token", "")),
    "access_token_non_ascii": ("access_token contains é", _set_member("access_token", "clé")),
    "access_token_newline": ("access_token contains CR LF", _set_member("access_token", "a\r\nb: c")),
    "token_type_missing": ("a missing token_type", _remove_member("token_type")),
    "token_type_null": ("token_type null", _set_member("token_type", None)),
    "token_type_mac": ("token_type mac", _set_member("token_type", "mac")),
    "token_type_upper": ("token_type BEARER, which is valid", _set_member("token_type", "BEARER")),
    "expires_in_missing": ("a missing expires_in", _remove_member("expires_in")),
    "expires_in_null": ("expires_in null", _set_member("expires_in", None)),
    "expires_in_zero": ("expires_in 0", _set_member("expires_in", 0)),
    "expires_in_negative": ("expires_in -1", _set_member("expires_in", -1)),
    "expires_in_string": ('expires_in "3600", a string', _set_member("expires_in", "3600")),
    "expires_in_word": ('expires_in "soon"', _set_member("expires_in", "soon")),
    "expires_in_huge": ("expires_in 10 to the power of 400", _set_member("expires_in", 10**400)),
    "expires_in_nan": ("expires_in NaN", _set_member("expires_in", math.nan)),
    "expires_in_infinity": ("expires_in Infinity", _set_member("expires_in", math.inf)),
    "expires_at": ("an additional expires_at, far in the future", _set_member("expires_at", 4102444800)),
    "scope_commas": ("scopes separated by commas, like GitHub", _modify_scope(",".join)),
    "scope_smaller": ("a scope without its last part", _modify_scope(lambda scopes: " ".join(scopes[:-1]))),
    "scope_other": ("a scope that was not requested", _set_member("scope", "something:else")),
    "scope_missing": ("a missing scope: as requested", _remove_member("scope")),
    "scope_list": ("the scope as a JSON list", _modify_scope(list)),
    "refresh_token_missing": ("a missing refresh_token", _remove_member("refresh_token")),
    "refresh_token_number": ("refresh_token 5", _set_member("refresh_token", 5)),
    **_back_channel_faults('{"access_token": "never-issued", "token_type": "Bearer", "expires_in": 3600}'),
}

REFRESH_FAULTS: Table = {
    "invalid_grant": ("the refresh token is invalid", _respond_error("invalid_grant")),
    "503": ("503 with an HTML page", _respond_html(503)),
    "slow": ("a response after 30 seconds", _slow),
}

PROFILE_FAULTS: Table = {
    "400": ("the access token is rejected with 400", _respond('{"message": "Bad token"}', status=400)),
    "401": (
        "the access token is rejected with 401 (RFC 6750 3.1)",
        _respond('{"message": "Bad credentials"}', status=401, WWW_Authenticate='Bearer error="invalid_token"'),
    ),
    "empty_401": ("401 with an empty body", _respond("", status=401)),
    "403": ("the access token gives no access to the profile", _respond('{"message": "Forbidden"}', status=403)),
    "429": ("too many requests", _respond('{"message": "Slow down"}', status=429, Retry_After="7")),
    "nan": ("JSON that contains NaN", _respond('{"id": NaN, "login": "octocat"}')),
    **_back_channel_faults('{"id": 583231, "login": "octocat"}'),
}

REVOKE_FAULTS: Table = {
    "401": ("client authentication failed", _respond_error("invalid_client", 401)),
    "404": ("404 with an HTML page", _respond_html(404)),
    "ignored": ("200, but the token stays valid", _respond("")),
    **_back_channel_faults('{"revoked": true}'),
}

FAULTS: dict[str, Fault] = {
    f"{endpoint}.{name}": Fault(f"{endpoint}.{name}", description, respond)
    for endpoint, table in {
        "authorize": AUTHORIZE_FAULTS,
        "token": TOKEN_FAULTS,
        "refresh": REFRESH_FAULTS,
        "profile": PROFILE_FAULTS,
        "revoke": REVOKE_FAULTS,
    }.items()
    for name, (description, respond) in table.items()
}
