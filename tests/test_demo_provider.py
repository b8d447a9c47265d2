"""The local provider: an honest one first, then each of its faults, over real sockets."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import secrets
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote_plus, urlencode, urlsplit

import pytest

from wsgi_oauth.demo.fault_injection import FaultInjector
from wsgi_oauth.demo.faults import AUTHORIZE_FAULTS, FAULTS, PROFILE_FAULTS, REFRESH_FAULTS, REVOKE_FAULTS, TOKEN_FAULTS
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import Server, serve, serve_provider

CALLBACK = "http://127.0.0.1:8000/callback"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """What the authorization response tells the client."""
        query = urlsplit(self.headers["Location"]).query
        return parse_qsl(query, keep_blank_values=True)


def ask(
    method: str,
    url: str,
    form: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 5,
) -> Answer:
    """One request on a connection of its own; redirects are not followed."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    try:
        connection.request(
            method,
            f"{parts.path}?{parts.query}" if parts.query else parts.path,
            urlencode(form) if form is not None else None,
            {**(FORM if form is not None else {}), **(headers or {})},
        )
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def basic(client_id: str, secret: str) -> dict[str, str]:
    """RFC 6749 2.3.1: form-encode both, then HTTP Basic."""
    credentials = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Dancer:
    """A client that knows the steps and checks nothing."""

    def __init__(self, provider: LocalProvider) -> None:
        self.provider = provider
        self.verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(self.verifier.encode()).digest()
        self.request = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": CALLBACK,
            "scope": "profile email",
            "state": "a-state",
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }

    def url(self, **changes: str) -> str:
        parameters = {**self.request, **changes}
        query = urlencode({key: value for key, value in parameters.items() if value})
        return f"{self.provider.authorization_url}?{query}"

    def decide(self, decision: str = "allow", fault: str = "", user: str = "", **changes: str) -> Answer:
        return ask("POST", self.url(**changes), {"decision": decision, "fault": fault, "user": user})

    def code(self, **changes: str) -> str:
        return dict(self.decide(**changes).parameters)["code"]

    def ask_token(self, **form: str) -> Answer:
        secret = self.provider.client_secret
        headers = basic(self.provider.client_id, secret) if secret else {}
        return ask("POST", self.provider.token_url, form, headers)

    def exchange(self, code: str, **changes: str) -> Answer:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
            **changes,
        }
        return self.ask_token(**{key: value for key, value in form.items() if value})

    def refresh(self, refresh_token: str, **more: str) -> Answer:
        return self.ask_token(grant_type="refresh_token", refresh_token=refresh_token, **more)

    def sign_in(self) -> dict[str, Any]:
        token: dict[str, Any] = self.exchange(self.code()).json
        return token

    def profile(self, access_token: str) -> Answer:
        return ask("GET", self.provider.profile_url, headers=bearer(access_token))

    def revoke(self, token: str) -> Answer:
        headers = basic(self.provider.client_id, self.provider.client_secret or "")
        return ask("POST", self.provider.revocation_url, {"token": token}, headers)


@pytest.fixture
def provider() -> LocalProvider:
    provider = LocalProvider()
    provider.faults.dribble_interval = 0.01
    return provider


@pytest.fixture
def server(provider: LocalProvider) -> Iterator[Server]:
    with serve_provider(provider) as server:
        yield server


@pytest.fixture
def dancer(provider: LocalProvider, server: Server) -> Dancer:
    return Dancer(provider)


class TestTheDance:
    def test_the_user_is_asked_in_a_page_that_says_who_what_and_where_to(self, dancer: Dancer) -> None:
        answer = ask("GET", dancer.url())
        page = answer.body.decode()
        assert answer.status == 200
        assert answer.headers.get_content_type() == "text/html"
        for expected in ("demo-client", "Mona Lisa Octocat", "e-mail address", CALLBACK):
            assert expected in page
        for fault in FAULTS:
            assert f'value="{fault}"' in page

    def test_allowing_leads_to_a_code_a_token_and_the_profile(self, dancer: Dancer, provider: LocalProvider) -> None:
        back = dancer.decide("allow")
        told = dict(back.parameters)
        assert back.status == 302
        assert back.headers["Location"].startswith(CALLBACK + "?")
        assert (told["state"], told["iss"]) == ("a-state", provider.url)

        token = dancer.exchange(told["code"])
        assert token.status == 200
        assert token.headers["Cache-Control"] == "no-store"
        assert token.json["token_type"] == "Bearer"
        assert token.json["expires_in"] == 3600
        assert token.json["scope"] == "profile email"

        profile = dancer.profile(token.json["access_token"])
        assert (profile.status, profile.json) == (200, dict(provider.user))

    def test_whoever_the_consent_names_is_signed_in_and_stays_that_user_after_a_refresh(self, dancer: Dancer) -> None:
        alice, bob, usual = (dancer.exchange(dancer.code(user=user)).json for user in ("alice", "bob", ""))
        profiles = [dancer.profile(token["access_token"]).json for token in (alice, bob, usual)]
        assert [profile["login"] for profile in profiles] == ["alice", "bob", "octocat"]
        assert len({profile["id"] for profile in profiles}) == 3
        fresh = dancer.refresh(alice["refresh_token"]).json
        assert dancer.profile(fresh["access_token"]).json == profiles[0]

    def test_a_name_that_no_user_has_is_refused(self, dancer: Dancer) -> None:
        assert dancer.decide(user="<b>").status == 400

    def test_denying_leads_to_access_denied_with_state_and_iss(self, dancer: Dancer, provider: LocalProvider) -> None:
        told = dict(dancer.decide("deny").parameters)
        assert told == {"error": "access_denied", "state": "a-state", "iss": provider.url}

    def test_every_message_is_remembered_in_order(self, dancer: Dancer, provider: LocalProvider) -> None:
        ask("GET", dancer.url())
        dancer.profile(dancer.sign_in()["access_token"])
        seen = [(one.method, one.endpoint, one.status) for one in provider.exchanges]
        assert seen == [
            ("GET", "authorize", 200),
            ("POST", "authorize", 302),
            ("POST", "token", 200),
            ("GET", "profile", 200),
        ]
        exchange = provider.exchanges[2]
        assert exchange.url == provider.token_url
        assert exchange.headers["authorization"].startswith("Basic ")
        assert parse_qs(exchange.body)["code_verifier"] == [dancer.verifier]
        assert "access_token" in json.loads(exchange.response_body)
        assert provider.count("authorize") == 2
        assert provider.count("token") == 1

    def test_the_home_page_says_what_this_is(self, server: Server) -> None:
        answer = ask("GET", server.url + "/")
        assert answer.status == 200
        assert f"{server.url}/authorize" in answer.body.decode()
        assert "token.gzip_bomb" in answer.body.decode()

    def test_head_is_answered_without_a_body(self, dancer: Dancer) -> None:
        answer = ask("HEAD", dancer.url())
        assert (answer.status, answer.body) == (200, b"")

    def test_what_is_not_there_is_404_and_other_methods_are_405(self, provider: LocalProvider, server: Server) -> None:
        assert ask("GET", server.url + "/nothing").status == 404
        refused = ask("GET", provider.token_url)
        assert (refused.status, refused.headers["Allow"]) == (405, "POST")

    def test_its_documents_load_nothing_and_reflect_nothing(self, dancer: Dancer) -> None:
        evil = '"><script>alert(1)</script>'
        page = ask("GET", dancer.url(state=evil))
        assert "<script" not in page.body.decode()
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        refusal = ask("POST", dancer.url(), {"decision": "allow", "fault": evil})
        assert refusal.status == 400
        assert "<script" not in refusal.body.decode()

    def test_a_style_that_the_policy_allows(self, dancer: Dancer) -> None:
        page = ask("GET", dancer.url())
        style = page.body.partition(b"<style>")[2].partition(b"</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
        assert f"'sha256-{digest}'" in page.headers["Content-Security-Policy"]


class TestTheAuthorizationRequest:
    @pytest.mark.parametrize(
        "change",
        [
            {"client_id": "somebody-else"},
            {"client_id": ""},
            {"redirect_uri": ""},
            {"redirect_uri": "http://attacker.example/callback"},
            {"redirect_uri": "http://127.0.0.1:8000/elsewhere"},
            {"redirect_uri": "http://127.0.0.1:8000/callback#fragment"},
            {"redirect_uri": "ftp://127.0.0.1/callback"},
            {"redirect_uri": "not a uri"},
        ],
    )
    def test_who_cannot_be_trusted_gets_no_redirect(self, dancer: Dancer, change: dict[str, str]) -> None:
        for answer in (ask("GET", dancer.url(**change)), dancer.decide(**change)):
            assert answer.status == 400
            assert "Location" not in answer.headers

    def test_repeated_parameters_and_broken_queries_get_no_redirect(self, dancer: Dancer) -> None:
        for query in ("&state=again", "&a=%zz"):
            assert ask("GET", dancer.url() + query).status == 400

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"code_challenge": ""}, "invalid_request"),
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"code_challenge_method": ""}, "invalid_request"),
            ({"code_challenge": "too-short"}, "invalid_request"),
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"scope": "profile root"}, "invalid_scope"),
        ],
    )
    def test_what_is_wrong_is_told_to_the_client_with_state_and_iss(
        self, dancer: Dancer, provider: LocalProvider, change: dict[str, str], error: str
    ) -> None:
        for answer in (ask("GET", dancer.url(**change)), dancer.decide(**change)):
            told = dict(answer.parameters)
            assert (told["error"], told["state"], told["iss"]) == (error, "a-state", provider.url)

    def test_registered_redirect_uris_are_compared_exactly(self) -> None:
        registered = "https://app.example/auth/callback"
        provider = LocalProvider(redirect_uris=[registered])
        with serve_provider(provider):
            dancer = Dancer(provider)
            assert dancer.decide(redirect_uri=registered).status == 302
            assert dancer.decide(redirect_uri=registered + "/").status == 400
            assert dancer.decide(redirect_uri=CALLBACK).status == 400

    def test_a_redirect_uri_keeps_its_own_query(self, dancer: Dancer) -> None:
        told = dancer.decide(redirect_uri=CALLBACK + "?tenant=a").parameters
        assert told[0] == ("tenant", "a")


class TestTheTokenRequest:
    def test_a_code_is_good_once_and_its_second_use_ends_what_it_led_to(self, dancer: Dancer) -> None:
        code = dancer.code()
        token = dancer.exchange(code).json
        again = dancer.exchange(code)
        assert (again.status, again.json["error"]) == (400, "invalid_grant")
        assert dancer.profile(token["access_token"]).status == 401
        assert dancer.refresh(token["refresh_token"]).json["error"] == "invalid_grant"

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"code_verifier": "x" * 43}, "invalid_grant"),
            ({"code_verifier": "short"}, "invalid_request"),
            ({"code_verifier": ""}, "invalid_request"),
            ({"redirect_uri": CALLBACK + "/"}, "invalid_grant"),
            ({"redirect_uri": ""}, "invalid_request"),
            ({"grant_type": "password"}, "unsupported_grant_type"),
        ],
    )
    def test_a_code_needs_its_verifier_and_its_redirect_uri(
        self, dancer: Dancer, change: dict[str, str], error: str
    ) -> None:
        refused = dancer.exchange(dancer.code(), **change)
        assert (refused.status, refused.json["error"]) == (400, error)

    def test_a_code_that_was_never_issued_is_refused(self, dancer: Dancer) -> None:
        assert dancer.exchange("never-issued").json["error"] == "invalid_grant"

    def test_parallel_uses_of_one_code_give_one_token(self, dancer: Dancer) -> None:
        code = dancer.code()
        statuses: list[int] = []
        threads = [threading.Thread(target=lambda: statuses.append(dancer.exchange(code).status)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200] + [400] * 7

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            basic("demo-client", "wrong"),
            basic("x", "demo-secret"),
            {"Authorization": "Basic %"},
        ],
    )
    def test_a_client_must_prove_who_it_is(
        self, dancer: Dancer, provider: LocalProvider, headers: dict[str, str]
    ) -> None:
        form = {"grant_type": "authorization_code", "code": dancer.code()}
        refused = ask("POST", provider.token_url, form, headers)
        assert (refused.status, refused.json["error"]) == (401, "invalid_client")
        assert refused.headers["WWW-Authenticate"].startswith("Basic ")

    def test_the_secret_may_stand_in_the_body_but_not_in_two_places(
        self, dancer: Dancer, provider: LocalProvider
    ) -> None:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": dancer.sign_in()["refresh_token"],
            "client_id": "demo-client",
            "client_secret": "demo-secret",
        }
        twice = ask("POST", provider.token_url, form, basic("demo-client", "demo-secret"))
        assert twice.status == 401
        assert ask("POST", provider.token_url, form).status == 200

    def test_ids_and_secrets_are_form_encoded_before_basic(self) -> None:
        provider = LocalProvider(client_id="a client:1", client_secret="p%+:/ö")
        with serve_provider(provider):
            assert "access_token" in Dancer(provider).sign_in()

    def test_a_public_client_has_pkce_alone(self) -> None:
        provider = LocalProvider(client_secret=None)
        with serve_provider(provider):
            dancer = Dancer(provider)
            answer = dancer.exchange(dancer.code(), client_id="demo-client")
            assert answer.status == 200

    @pytest.mark.parametrize("body", ["{}", "%zz=1", "é", "&&&"])
    def test_a_body_that_is_no_form_is_refused(self, server: Server, provider: LocalProvider, body: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("POST", "/token", body.encode(), FORM)
        assert connection.getresponse().status in (400, 401)
        connection.close()


class TestRefreshing:
    def test_a_refresh_token_rotates(self, dancer: Dancer, provider: LocalProvider) -> None:
        first = dancer.sign_in()
        second = dancer.refresh(first["refresh_token"]).json
        assert second["refresh_token"] != first["refresh_token"]
        assert second["scope"] == "profile email"
        assert dancer.profile(second["access_token"]).status == 200
        assert provider.count("refresh") == 1
        assert provider.count("token") == 2

    def test_a_rotated_one_that_comes_again_ends_the_whole_family(self, dancer: Dancer) -> None:
        first = dancer.sign_in()
        second = dancer.refresh(first["refresh_token"]).json
        assert dancer.refresh(first["refresh_token"]).json["error"] == "invalid_grant"
        assert dancer.refresh(second["refresh_token"]).json["error"] == "invalid_grant"
        assert dancer.profile(second["access_token"]).status == 401

    def test_another_sign_in_is_another_family(self, dancer: Dancer) -> None:
        first, other = dancer.sign_in(), dancer.sign_in()
        dancer.refresh(first["refresh_token"])
        dancer.refresh(first["refresh_token"])
        assert dancer.profile(other["access_token"]).status == 200

    def test_rotation_can_be_left_out(self) -> None:
        provider = LocalProvider(rotate_refresh_tokens=False)
        with serve_provider(provider):
            dancer = Dancer(provider)
            first = dancer.sign_in()
            for _ in range(2):
                again = dancer.refresh(first["refresh_token"]).json
                assert again["refresh_token"] == first["refresh_token"]

    def test_a_refresh_cannot_widen_the_scope(self, dancer: Dancer) -> None:
        token = dancer.exchange(dancer.code(scope="profile")).json
        refused = dancer.refresh(token["refresh_token"], scope="profile email")
        assert refused.json["error"] == "invalid_scope"


class TestTheProfile:
    def test_it_wants_a_good_token_in_the_header(self, dancer: Dancer, provider: LocalProvider) -> None:
        token = dancer.sign_in()["access_token"]
        in_the_query = ask("GET", f"{provider.profile_url}?access_token={token}")
        assert in_the_query.status == 401
        assert in_the_query.headers["WWW-Authenticate"] == "Bearer"
        wrong = dancer.profile("never-issued")
        assert wrong.status == 401
        assert 'error="invalid_token"' in wrong.headers["WWW-Authenticate"]

    def test_an_access_token_expires(self) -> None:
        provider = LocalProvider(expires_in=-1)
        with serve_provider(provider):
            dancer = Dancer(provider)
            assert dancer.profile(dancer.sign_in()["access_token"]).status == 401


class TestRevoking:
    def test_an_access_token_ends_alone(self, dancer: Dancer) -> None:
        token = dancer.sign_in()
        assert dancer.revoke(token["access_token"]).status == 200
        assert dancer.profile(token["access_token"]).status == 401
        assert dancer.refresh(token["refresh_token"]).status == 200

    def test_a_refresh_token_takes_its_family_along(self, dancer: Dancer) -> None:
        token = dancer.sign_in()
        assert dancer.revoke(token["refresh_token"]).status == 200
        assert dancer.profile(token["access_token"]).status == 401
        assert dancer.refresh(token["refresh_token"]).json["error"] == "invalid_grant"

    def test_an_unknown_token_is_no_error(self, dancer: Dancer) -> None:
        assert dancer.revoke("never-issued").status == 200  # RFC 7009 2.2

    def test_a_stranger_cannot_revoke(self, dancer: Dancer, provider: LocalProvider) -> None:
        token = dancer.sign_in()["access_token"]
        stranger = basic("demo-client", "wrong")
        assert ask("POST", provider.revocation_url, {"token": token}, stranger).status == 401
        assert dancer.profile(token).status == 200


class TestFaultsOnRequest:
    def test_a_fault_happens_as_often_as_asked_and_at_its_endpoint_alone(
        self, dancer: Dancer, provider: LocalProvider
    ) -> None:
        provider.faults.add("profile.500", times=2)
        token = dancer.sign_in()["access_token"]
        assert [dancer.profile(token).status for _ in range(3)] == [500, 500, 200]

    def test_one_can_stay_until_it_is_cleared(self, dancer: Dancer, provider: LocalProvider) -> None:
        token = dancer.sign_in()["access_token"]
        provider.faults.add("profile.403", times=None)
        assert {dancer.profile(token).status for _ in range(5)} == {403}
        provider.faults.clear()
        assert dancer.profile(token).status == 200

    def test_the_user_can_pick_one_on_the_consent_page(self, dancer: Dancer) -> None:
        assert "iss" not in dict(dancer.decide(fault="authorize.missing_iss").parameters)
        code = dancer.code(fault="token.503")
        assert dancer.exchange(code).status == 503
        assert dancer.exchange(code).status == 200

    def test_another_process_can_ask_for_one(self, dancer: Dancer, server: Server) -> None:
        faults = server.url + "/faults"
        assert ask("POST", faults, {"name": "token.502"}).status == 201
        assert ask("POST", faults, {"name": "profile.403", "times": "always"}).status == 201
        assert ask("POST", faults, {"name": "profile.500", "times": "3"}).status == 201
        shown = ask("GET", faults).json
        assert shown["waiting"] == [["token.502", 1], ["profile.403", None], ["profile.500", 3]]
        assert shown["faults"].keys() == FAULTS.keys()
        assert dancer.exchange(dancer.code()).status == 502
        assert ask("DELETE", faults).status == 204
        assert "access_token" in dancer.sign_in()
        assert ask("GET", server.url + "/exchanges").json["token"] == 2

    @pytest.mark.parametrize("form", [{}, {"name": "token.nonsense"}, {"name": "token.502", "times": "0"}])
    def test_what_is_no_fault_is_refused(self, server: Server, form: dict[str, str]) -> None:
        assert ask("POST", server.url + "/faults", form).status == 400
        with pytest.raises(ValueError, match="unknown name"):
            FaultInjector(FAULTS).add("nonsense")

    def test_each_says_in_a_line_what_it_does(self) -> None:
        for fault in FAULTS.values():
            assert 3 < len(fault.description) < 80
            assert "\n" not in fault.description


Parameters = list[tuple[str, str]]


def names(parameters: Parameters) -> list[str]:
    return [name for name, _ in parameters]


AUTHORIZATION_RESPONSES: dict[str, Callable[[Parameters], bool]] = {
    **{
        code: lambda told, code=code: (  # type: ignore[misc]
            ("error", code) in told and "code" not in names(told) and "iss" in names(told)
        )
        for code in (
            "access_denied",
            "consent_required",
            "invalid_request",
            "unauthorized_client",
            "unsupported_response_type",
            "invalid_scope",
            "server_error",
            "temporarily_unavailable",
        )
    },
    "unknown_error": lambda told: "error" in names(told),
    "markup": lambda told: "<script>" in dict(told)["error_description"] and "<script>" in dict(told)["error_uri"],
    "error_without_state": lambda told: names(told) == ["iss", "error"],
    "error_and_code": lambda told: {"error", "code", "state"} <= set(names(told)),
    "wrong_iss": lambda told: dict(told)["iss"] == "https://attacker.example",
    "empty_iss": lambda told: dict(told)["iss"] == "",
    "missing_iss": lambda told: names(told) == ["code", "state"],
    "duplicate_iss": lambda told: names(told).count("iss") == 2,
    "wrong_state": lambda told: dict(told)["state"] == "never-made",
    "missing_state": lambda told: names(told) == ["code", "iss"],
    "duplicate_state": lambda told: names(told).count("state") == 2,
    "wrong_code": lambda told: dict(told)["code"] == "never-issued",
    "missing_code": lambda told: names(told) == ["state", "iss"],
    "duplicate_code": lambda told: names(told).count("code") == 2,
    "extra_parameters": lambda told: {"code", "session_state"} <= set(names(told)),
}


@pytest.mark.parametrize("name", AUTHORIZE_FAULTS)
def test_an_authorization_response_with(name: str, dancer: Dancer) -> None:
    answer = dancer.decide(fault=f"authorize.{name}")
    assert answer.status == 302
    assert answer.headers["Location"].startswith(CALLBACK + "?")
    assert AUTHORIZATION_RESPONSES[name](answer.parameters)


def is_error(code: str, status: int = 400) -> Callable[[Answer], bool]:
    return lambda answer: (answer.status, answer.json["error"]) == (status, code)


def has(name: str, value: object) -> Callable[[Answer], bool]:
    return lambda answer: answer.status == 200 and answer.json[name] == value


def lacks(name: str) -> Callable[[Answer], bool]:
    return lambda answer: answer.status == 200 and answer.json and name not in answer.json


def is_page(status: int) -> Callable[[Answer], bool]:
    return lambda answer: (
        answer.status == status and answer.headers.get_content_type() == "text/html" and b"<h1>" in answer.body
    )


def redirects(status: int) -> Callable[[Answer], bool]:
    return lambda answer: (answer.status, answer.headers["Location"]) == (status, FaultInjector.redirect_to)


def breaks(parse: Callable[[bytes], object], *errors: type[Exception]) -> Callable[[Answer], bool]:
    def check(answer: Answer) -> bool:
        with pytest.raises(errors):
            parse(answer.body)
        return answer.status == 200

    return check


def is_bomb(answer: Answer) -> bool:
    size = len(gzip.decompress(answer.body))
    return answer.headers["Content-Encoding"] == "gzip" and size > 100 * len(answer.body)


ANSWERS: dict[str, dict[str, Callable[[Answer], bool]]] = {
    "any": {
        "empty_200": lambda answer: (answer.status, answer.body) == (200, b""),
        "html_200": is_page(200),
        "500": is_page(500),
        "502": is_page(502),
        "503": is_page(503),
        "json_list": lambda answer: isinstance(answer.json, list),
        "json_string": lambda answer: isinstance(answer.json, str),
        "malformed_json": breaks(json.loads, json.JSONDecodeError),
        "deep_json": breaks(json.loads, RecursionError),
        "huge_json": lambda answer: answer.json and len(answer.body) > 1 << 20,
        "gzip_bomb": is_bomb,
        "broken_gzip": breaks(gzip.decompress, gzip.BadGzipFile, zlib.error),
        "invalid_utf8": breaks(bytes.decode, UnicodeDecodeError),
        "redirect_301": redirects(301),
        "redirect_302": redirects(302),
        "redirect_303": redirects(303),
        "redirect_307": redirects(307),
        "redirect_308": redirects(308),
        "close": lambda answer: (answer.status, answer.headers["Connection"]) == (200, "close"),
    },
    "token": {
        "invalid_request": is_error("invalid_request"),
        "invalid_client": is_error("invalid_client"),
        "invalid_client_401": is_error("invalid_client", 401),
        "invalid_grant": is_error("invalid_grant"),
        "unauthorized_client": is_error("unauthorized_client"),
        "unsupported_grant_type": is_error("unsupported_grant_type"),
        "invalid_scope": is_error("invalid_scope"),
        "unknown_error": is_error("cat_on_keyboard"),
        "invalid_grant_403": is_error("invalid_grant", 403),
        "error_200": is_error("bad_verification_code", 200),
        "markup": lambda answer: "<script>" in answer.json["error_description"],
        "empty_400": lambda answer: (answer.status, answer.body) == (400, b""),
        "problem_400": lambda answer: answer.status == 400 and "error" not in answer.json,
        "token_in_500": lambda answer: answer.status == 500 and "access_token" in answer.json,
        "token_as_html": lambda answer: (
            answer.headers.get_content_type() == "text/html" and "access_token" in answer.json
        ),
        "form_encoded": lambda answer: (
            answer.headers["Content-Type"] == FORM["Content-Type"] and "access_token" in parse_qs(answer.body.decode())
        ),
        "extra_members": lambda answer: {"id_token", "access_token"} <= set(answer.json),
        "access_token_missing": lacks("access_token"),
        "access_token_null": has("access_token", None),
        "access_token_number": has("access_token", 5),
        "access_token_list": has("access_token", ["a"]),
        "access_token_empty": has("access_token", ""),
        "access_token_non_ascii": lambda answer: not answer.json["access_token"].isascii(),
        "access_token_newline": lambda answer: "\r\n" in answer.json["access_token"],
        "token_type_missing": lacks("token_type"),
        "token_type_null": has("token_type", None),
        "token_type_mac": has("token_type", "mac"),
        "token_type_upper": has("token_type", "BEARER"),
        "expires_in_missing": lacks("expires_in"),
        "expires_in_null": has("expires_in", None),
        "expires_in_zero": has("expires_in", 0),
        "expires_in_negative": has("expires_in", -1),
        "expires_in_string": has("expires_in", "3600"),
        "expires_in_word": has("expires_in", "soon"),
        "expires_in_huge": has("expires_in", 10**400),
        "expires_in_nan": lambda answer: b'"expires_in": NaN' in answer.body,
        "expires_in_infinity": lambda answer: b'"expires_in": Infinity' in answer.body,
        "expires_at": lambda answer: answer.json["expires_at"] > time.time() + 10**7,
        "scope_commas": has("scope", "profile,email"),
        "scope_smaller": has("scope", "profile"),
        "scope_other": has("scope", "something:else"),
        "scope_missing": lacks("scope"),
        "scope_list": has("scope", ["profile", "email"]),
        "refresh_token_missing": lacks("refresh_token"),
        "refresh_token_number": has("refresh_token", 5),
    },
    "refresh": {"invalid_grant": is_error("invalid_grant"), "503": is_page(503)},
    "profile": {
        "400": lambda answer: answer.status == 400,
        "401": lambda answer: answer.status == 401 and "invalid_token" in answer.headers["WWW-Authenticate"],
        "empty_401": lambda answer: (answer.status, answer.body) == (401, b""),
        "403": lambda answer: answer.status == 403,
        "429": lambda answer: (answer.status, answer.headers["Retry-After"]) == (429, "7"),
        "nan": lambda answer: b"NaN" in answer.body,
    },
    "revoke": {
        "401": is_error("invalid_client", 401),
        "404": is_page(404),
        "ignored": lambda answer: answer.status == 200,
    },
}

TABLES = {"token": TOKEN_FAULTS, "refresh": REFRESH_FAULTS, "profile": PROFILE_FAULTS, "revoke": REVOKE_FAULTS}
ON_THE_WIRE = {
    "slow",
    "dribble_headers",
    "dribble_body",
    "hang_up",
    "hang_up_in_headers",
    "cut_body",
    "reset",
}


def faults(*wanted: str) -> list[tuple[str, str]]:
    """Endpoint and name of each fault, those of the connection only when they are asked for."""
    return [
        (endpoint, name)
        for endpoint, table in TABLES.items()
        for name in table
        if (name in wanted if wanted else name not in ON_THE_WIRE)
    ]


@pytest.fixture
def provoke(dancer: Dancer, provider: LocalProvider) -> Callable[[str, str], Answer]:
    """Ask an endpoint once, well, while a fault of its waits there."""

    def provoke(endpoint: str, name: str) -> Answer:
        if endpoint == "token":
            code = dancer.code(fault=f"token.{name}")
            return dancer.exchange(code)
        token = dancer.sign_in()
        provider.faults.add(f"{endpoint}.{name}")
        if endpoint == "refresh":
            return dancer.refresh(token["refresh_token"])
        if endpoint == "profile":
            return dancer.profile(token["access_token"])
        return dancer.revoke(token["refresh_token"])

    return provoke


@pytest.mark.parametrize(("endpoint", "name"), faults())
def test_an_answer_of(endpoint: str, name: str, provoke: Callable[[str, str], Answer], provider: LocalProvider) -> None:
    check = ANSWERS[endpoint].get(name) or ANSWERS["any"][name]
    assert check(provoke(endpoint, name))
    assert provider.faults.waiting == []


def test_a_redirect_leads_where_the_test_wants(provoke: Callable[[str, str], Answer], provider: LocalProvider) -> None:
    provider.faults.redirect_to = "http://127.0.0.1:1/trap"
    assert provoke("token", "redirect_307").headers["Location"] == "http://127.0.0.1:1/trap"


def test_a_fault_with_an_answer_of_its_own_uses_nothing_up(dancer: Dancer, provider: LocalProvider) -> None:
    token = dancer.sign_in()
    provider.faults.add("refresh.503")
    assert dancer.refresh(token["refresh_token"]).status == 503
    assert dancer.refresh(token["refresh_token"]).status == 200


class TestTheConnection:
    @pytest.mark.parametrize(("endpoint", "name"), faults("hang_up"))
    def test_hangs_up_without_an_answer(self, endpoint: str, name: str, provoke: Callable[[str, str], Answer]) -> None:
        with pytest.raises(http.client.RemoteDisconnected):
            provoke(endpoint, name)

    @pytest.mark.parametrize(("endpoint", "name"), faults("reset"))
    def test_is_reset(self, endpoint: str, name: str, provoke: Callable[[str, str], Answer]) -> None:
        with pytest.raises(ConnectionResetError) as reset:
            provoke(endpoint, name)
        assert type(reset.value) is ConnectionResetError

    @pytest.mark.parametrize(("endpoint", "name"), faults("hang_up_in_headers"))
    def test_ends_in_the_headers(self, endpoint: str, name: str, provoke: Callable[[str, str], Answer]) -> None:
        answer = provoke(endpoint, name)
        assert answer.headers["Content-Type"] != "application/json"
        assert answer.body == b""

    @pytest.mark.parametrize(("endpoint", "name"), faults("cut_body"))
    def test_ends_in_the_body(self, endpoint: str, name: str, provoke: Callable[[str, str], Answer]) -> None:
        with pytest.raises(http.client.IncompleteRead):
            provoke(endpoint, name)

    @pytest.mark.parametrize(("endpoint", "name"), faults("slow"))
    def test_waits_before_it_answers(
        self,
        endpoint: str,
        name: str,
        provoke: Callable[[str, str], Answer],
        provider: LocalProvider,
    ) -> None:
        provider.faults.slow_seconds = 0.2
        start = time.monotonic()
        assert provoke(endpoint, name).status == 200
        assert time.monotonic() - start >= 0.2

    @pytest.mark.parametrize(("endpoint", "name"), faults("dribble_headers", "dribble_body"))
    def test_dribbles_for_as_long_as_the_client_bears_it(
        self, endpoint: str, name: str, provider: LocalProvider, server: Server
    ) -> None:
        provider.faults.add(f"{endpoint}.{name}")
        path = {"profile": "/user", "revoke": "/revoke"}.get(endpoint, "/token")
        method = "GET" if endpoint == "profile" else "POST"
        received = b""
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            while not received.endswith(b"xxxxx"):
                received += client.recv(1)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (b"\r\n\r\n" in received) == (name == "dribble_body")


class TestTheServer:
    def test_keeps_connections(self, server: Server, provider: LocalProvider) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        for body in (None, b"a=b", b"x" * 100_000):
            connection.request("POST" if body else "GET", "/nothing", body)
            response = connection.getresponse()
            response.read()
            assert response.status == 404
        connection.close()
        assert server.connections == 1
        ask("GET", server.url + "/")
        assert server.connections == 2

    def test_understands_chunks_and_http_1_0(self, server: Server, dancer: Dancer) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("POST", "/token", iter([b"grant_type=", b"nonsense"]), FORM)
        response = connection.getresponse()
        assert json.loads(response.read())["error"] == "unsupported_grant_type"
        connection.close()
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.sendall(b"GET /nothing HTTP/1.0\r\n\r\n")
            assert b" 404 " in client.makefile("rb").read()

    @pytest.mark.parametrize(("length", "status"), [("-1", 400), ("x", 400), ("9" * 12, 413)])
    def test_refuses_bodies_it_cannot_read(self, server: Server, length: str, status: int) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            head = f"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
            client.sendall(head.encode() + b"x" * ((1 << 20) + 1 if status == 413 else 0))
            assert f" {status} ".encode() in client.recv(100)

    def test_says_at_once_that_a_port_is_taken(self, server: Server) -> None:
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            serve_provider(LocalProvider(), port=server.port)

    def test_frees_its_port_and_can_be_closed_twice(self) -> None:
        first = serve_provider(LocalProvider())
        first.close()
        first.close()
        with serve_provider(LocalProvider(), port=first.port) as second:
            assert second.port == first.port

    @pytest.mark.parametrize("fault", ["slow", "dribble_headers", "dribble_body", None])
    def test_closing_is_quick_whatever_goes_on(self, provider: LocalProvider, fault: str | None) -> None:
        before = set(threading.enumerate())
        server = serve_provider(provider)
        if fault:
            provider.faults.add(f"profile.{fault}")
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.sendall(b"GET /user HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while not provider.count("profile"):
                time.sleep(0.001)
            start = time.monotonic()
            server.close()
            assert time.monotonic() - start < 1
            while client.recv(1000):  # it ends
                pass
        for thread in set(threading.enumerate()) - before:
            thread.join(timeout=1)
            assert not thread.is_alive()

    def test_an_application_that_fails_ends_the_connection_and_nothing_else(self) -> None:
        def application(environ: Any, start_response: Any) -> Any:
            if environ["PATH_INFO"] == "/fail":
                raise RuntimeError("a bug")
            start_response("200 OK", [])
            return [b"fine"]

        with serve(application) as server:
            with pytest.raises(http.client.RemoteDisconnected):
                ask("GET", server.url + "/fail")
            assert ask("GET", server.url + "/").body == b"fine"

    def test_speaks_tls_and_nobody_can_hold_it_up(self, provider: LocalProvider) -> None:
        trustme = pytest.importorskip("trustme")
        authority = trustme.CA()
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(ours)
        theirs = ssl.create_default_context()
        authority.configure_trust(theirs)
        with serve_provider(provider, host="localhost", ssl_context=ours) as server:
            assert provider.url == f"https://localhost:{server.port}"
            address = ("localhost", server.port)
            with socket.create_connection(address, timeout=5):  # says nothing at all
                connection = http.client.HTTPSConnection(*address, timeout=5, context=theirs)
                for _ in range(2):
                    connection.request("GET", "/user")
                    response = connection.getresponse()
                    assert response.status == 401
                    response.read()
                connection.close()
            provider.faults.add("profile.cut_body")
            connection = http.client.HTTPSConnection(*address, timeout=5, context=theirs)
            connection.request("GET", "/user")
            with pytest.raises((http.client.IncompleteRead, ssl.SSLError)):
                connection.getresponse().read()
            connection.close()


def test_the_provider_changes_nothing_in_its_process(dancer: Dancer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No OAUTHLIB_INSECURE_TRANSPORT: that switch is the whole process's, the client's as well."""
    monkeypatch.delenv("OAUTHLIB_INSECURE_TRANSPORT", raising=False)
    assert "access_token" in dancer.sign_in()
