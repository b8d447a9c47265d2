"""Bearer tokens: programs use the application with access tokens of the provider (S68; RFC 9068, RFC 6750, RFC 8725).

They need the extra `openid`. Without it, no test of this file is collected.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any

import pytest
from conftest import HTML, JSON, Application, Guest, send
from openid import Issuer
from werkzeug import Response

from wsgi_oauth import Config, LoginRequired, SessionStore, create_app, errors, oauth2_session
from wsgi_oauth.cli.check import findings
from wsgi_oauth.config import ProviderConfig
from wsgi_oauth.demo.local_provider import json_response
from wsgi_oauth.demo.profiles import EntraID
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.demo.signing import public_keys, sign_jwt
from wsgi_oauth.events import Event
from wsgi_oauth.oauth.configured import provider_name
from wsgi_oauth.oauth.identity import escape_id

jwt = pytest.importorskip("jwt")

from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: E402

API = "https://app.example.com/api"
OTHER = "https://other.example.com/api"

SECRET = "s" * 32
RSA = rsa.generate_private_key(65537, 2048)
FOREIGN_RSA = rsa.generate_private_key(65537, 2048)
PUBLIC_KEY = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())), "kid": "new", "key_ops": ["verify"]}


CHANGED_CLAIMS: dict[str, dict[str, Any]] = {
    "another audience": {"aud": OTHER},
    "a longer audience": {"aud": f"{API}/more"},
    "no audience": {"aud": None},
    "a part of an audience": {"aud": [f"{API} {OTHER}"]},
    "an object as audience": {"aud": {API: API}},
    "another issuer": {"iss": "https://evil.example.com"},
    "no issuer": {"iss": None},
    "a list of issuers": {"iss": ["https://id.example.com"]},
    "no expiry": {"exp": None},
    "an unreadable expiry": {"exp": "tomorrow"},
    "true as expiry": {"exp": True},
    "an unreadable beginning": {"nbf": []},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a list as subject": {"sub": ["mona"]},
    "true as subject": {"sub": True},
    "an object as subject": {"sub": {"id": "mona"}},
    "a subject with a line break": {"sub": "mona\nlisa"},
    "bound to a key": {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
}

# The claims and the header that mark an access token
MARKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "RFC 9068": ({}, {"typ": "at+jwt"}),
    "RFC 9068, full type": ({}, {"typ": "application/AT+JWT"}),
    "Keycloak": ({"typ": "Bearer"}, {"typ": "JWT"}),
    "Amazon Cognito": ({"token_use": "access"}, {"typ": None}),
    "Entra ID": ({"ver": "2.0", "azpacr": "1", "scp": "access_as_user"}, {"typ": "JWT"}),
    "Okta": ({"cid": "robot", "scp": ["read"]}, {"typ": None}),
}

OTHER_KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ID token": ({"nonce": "n", "at_hash": "h", "auth_time": 5}, {"typ": "JWT"}),
    "ID token with roles and a scope": ({"roles": ["admin"], "scope": "openid", "scp": "read"}, {"typ": "JWT"}),
    "ID token of Keycloak": ({"typ": "ID"}, {"typ": "JWT"}),
    "ID token of Cognito": ({"token_use": "id"}, {"typ": "JWT"}),
    "refresh token of Keycloak": ({"typ": "Refresh"}, {"typ": "JWT"}),
    "logout token": ({"typ": "Bearer", "events": {}}, {"typ": "logout+jwt"}),
    "logout token without a type": ({"events": {"e": {}}, "sid": "5"}, {"typ": "JWT"}),
    "token introspection": ({"typ": "Bearer"}, {"typ": "token-introspection+jwt"}),
    "key proof": ({"typ": "Bearer"}, {"typ": "dpop+jwt"}),
    "signed user document": ({"email": "mona@example.com"}, {"typ": None}),
    "internal token of Okta": ({}, {"typ": "application/okta-internal-at+jwt"}),
    "a part of the mark of Entra ID": ({"azpacr": "1", "ver": "1.0"}, {"typ": "JWT"}),
    "a part of the mark of Okta": ({"cid": "client", "scp": "read"}, {"typ": "JWT"}),
    "a type that is no text": ({"typ": "Bearer"}, {"typ": ["at+jwt"]}),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Issuer]:
    issuer = Issuer(client_secret=SECRET)
    with serve_provider(issuer):
        yield issuer


@pytest.fixture
def issuer(server: Issuer) -> Issuer:
    server.publish_keys = publish_keys
    server.discover = server.discovery_document
    server.metadata.clear()
    server.claims.clear()
    return server


MakeGate = Callable[..., LoginRequired]


@pytest.fixture
def seen_events() -> list[Event]:
    return []


@pytest.fixture
def make_issuer_gate(issuer: Issuer, inside: Application, store: SessionStore, seen_events: list[Event]) -> MakeGate:
    """Create a gate for access tokens of the issuer: ``make_issuer_gate(public=["/static"], allow=["id:5"])``."""

    def make(*, public: Any = (), paths: Mapping[str, Any] | None = None, **settings: Any) -> LoginRequired:
        values = {"provider": issuer.url, "client_id": issuer.client_id, "client_secret": SECRET}
        config = Config(**{**values, "bearer_audience": API, **settings})
        app = create_app(config, store=store, on_event=seen_events.append)
        return LoginRequired(inside, app, public=public, allow=paths)

    return make


@pytest.fixture
def gate(make_issuer_gate: MakeGate) -> LoginRequired:
    return make_issuer_gate()


@pytest.fixture
def claims(issuer: Issuer) -> dict[str, Any]:
    """Return the claims of a valid access token (RFC 9068 2.2)."""
    now = int(time.time())
    values = {"iss": issuer.url, "aud": API, "sub": "mona", "client_id": "robot", "jti": "5"}
    return {**values, "iat": now, "exp": now + 600}


def access_token(claims: Mapping[str, Any] | bytes, key: rsa.RSAPrivateKey = RSA, **header: Any) -> str:
    """Return a token with these claims. ``typ=None`` leaves the type out of its header."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    headers = {"kid": "new", "typ": "at+jwt", **header}
    token: str = jwt.api_jws.encode(payload, key, "RS256", headers=headers)
    return token


def unsigned(claims: Mapping[str, Any], **header: Any) -> str:
    """Return the part of a token that is signed."""
    parts = ({"kid": "new", "typ": "at+jwt", **header}, claims)
    return ".".join(jwt.utils.base64url_encode(json.dumps(part).encode()).decode() for part in parts)


def publish_keys() -> Response:
    """Return the keys of ID tokens and of access tokens."""
    return json_response({"keys": [*public_keys()["keys"], PUBLIC_KEY]})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def requests_to(issuer: Issuer) -> Counter[str]:
    """Return how many requests each endpoint of *issuer* has received."""
    return Counter({name: issuer.count(name) for name, _ in issuer.routes.values()})


def admits(gate: LoginRequired, token: str) -> bool:
    """Return whether the gate accepts *token*; a refusal must have the form of RFC 6750 3.1."""
    response = send(gate, "/page", headers=bearer(token))
    if response.status_code == 200:
        return True
    challenge = response.headers["WWW-Authenticate"]
    assert (response.status_code, response.json["error"]) == (401, "invalid_token")
    assert challenge.startswith('Bearer error="invalid_token", error_description="')
    return False


class TestAccessToken:
    """S68"""

    def test_opens_the_application_as_the_user_in_its_claims(
        self, gate: LoginRequired, inside: Application, claims: dict[str, Any], issuer: Issuer
    ):
        token = access_token({**claims, "preferred_username": "octocat", "groups": ["staff"]})
        assert send(gate, "/page", headers=bearer(token)).data == b"inside"
        identity = inside.environ["wsgi_oauth.identity"]
        assert inside.environ["REMOTE_USER"] == identity.id
        assert identity.id.startswith("mona@")
        assert (inside.environ["AUTH_TYPE"], identity.username, identity.groups) == ("Bearer", "octocat", ("staff",))
        assert identity.claims["client_id"] == "robot"

    def test_belongs_to_the_same_user_as_a_sign_in(
        self, gate: LoginRequired, inside: Application, claims: dict[str, Any], issuer: Issuer
    ):
        Guest(gate, issuer).sign_in()
        in_browser = inside.environ["REMOTE_USER"]
        send(gate, "/page", headers=bearer(access_token(claims)))
        assert inside.environ["REMOTE_USER"] == in_browser

    def test_is_described_by_the_configured_claims(
        self, make_issuer_gate: MakeGate, inside: Application, claims: dict[str, Any]
    ):
        gate = make_issuer_gate(subject_claim="oid", groups_claim="realm_access.roles")
        token = access_token({**claims, "oid": "17", "realm_access": {"roles": ["admin"]}})
        assert admits(gate, token)
        identity = inside.environ["wsgi_oauth.identity"]
        assert (identity.subject, identity.groups) == ("17", ("admin",))
        assert not admits(gate, access_token(claims))
        assert not admits(gate, access_token({**claims, "oid": "17", "sub": None}))  # RFC 9068 2.2 requires it

    @pytest.mark.parametrize("verified", [True, False])
    def test_gives_only_a_verified_address_as_the_name(
        self, make_issuer_gate: MakeGate, inside: Application, claims: dict[str, Any], verified: bool
    ):
        gate = make_issuer_gate(remote_user="email")
        token = access_token({**claims, "email": "Mona@example.com", "email_verified": verified})
        response = send(gate, "/page", headers=bearer(token))
        assert response.status_code == (200 if verified else 403)
        assert [seen["REMOTE_USER"] for seen in inside.seen] == (["mona@example.com"] if verified else [])

    def test_may_have_several_audiences(self, gate: LoginRequired, claims: dict[str, Any]):
        assert admits(gate, access_token({**claims, "aud": [OTHER, API]}))

    @pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
    def test_is_accepted_whatever_the_case_of_the_scheme(
        self, gate: LoginRequired, claims: dict[str, Any], scheme: str
    ):
        headers = {"Authorization": f"{scheme}  {access_token(claims)}"}
        assert send(gate, "/page", headers=headers).status_code == 200

    def test_is_verified_with_a_request_for_the_keys_only(
        self, gate: LoginRequired, issuer: Issuer, claims: dict[str, Any]
    ):
        before = requests_to(issuer)
        for sub in ("mona", "lisa"):
            assert admits(gate, access_token({**claims, "sub": sub}))
        assert requests_to(issuer) - before == Counter(discovery=1, keys=1)

    @pytest.mark.parametrize("length", [10, 9000])
    def test_is_verified_once(self, gate: LoginRequired, claims: dict[str, Any], seen_events: list[Event], length: int):
        token = access_token({**claims, "padding": "x" * length})
        assert all(admits(gate, token) for _ in range(3))
        (event,) = seen_events
        assert (event.name, event.token, event.client) == ("token_first_use", "5", "127.0.0.1")
        assert event.user.startswith("mona@")

    def test_is_refused_when_it_has_expired_meanwhile(
        self, gate: LoginRequired, claims: dict[str, Any], later: Callable[[float], None]
    ):
        token = access_token(claims)
        assert admits(gate, token)
        later(601)
        assert not admits(gate, token)

    def test_is_verified_again_after_an_hour(
        self,
        gate: LoginRequired,
        issuer: Issuer,
        claims: dict[str, Any],
        later: Callable[[float], None],
        monkeypatch: pytest.MonkeyPatch,
    ):
        """Otherwise a key that the provider has withdrawn would stay valid for the whole life of a token."""
        token = access_token({**claims, "exp": claims["exp"] + 86400})
        assert admits(gate, token)
        issuer.publish_keys = lambda: json_response(public_keys())
        now = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: now() + 3601)  # the clock of the keys' own cache
        assert admits(gate, token)
        later(3601)
        assert not admits(gate, token)

    @pytest.mark.parametrize("prefix", ["", "bearer "])
    def test_is_not_replaced_by_its_hash(self, gate: LoginRequired, claims: dict[str, Any], prefix: str):
        """The gate caches tokens under their hashes, which are not secret."""
        token = access_token(claims)
        assert admits(gate, token)
        assert not admits(gate, prefix + sha256(token.encode()).hexdigest())

    @pytest.mark.parametrize("prefix", ["", "bearer "])
    def test_in_a_long_header_is_not_replaced_by_the_hash_of_the_header(
        self, gate: LoginRequired, claims: dict[str, Any], prefix: str
    ):
        header = f"Bearer {access_token({**claims, 'padding': 'x' * 1024})}"
        assert send(gate, "/page", headers={"Authorization": header}).status_code == 200
        hashed = prefix + sha256(header.encode()).hexdigest()
        assert send(gate, "/page", headers={"Authorization": hashed}).status_code == 401

    @pytest.mark.parametrize("path", ["/auth/profile", "/auth/tokens", "/auth/"])
    def test_opens_no_page_of_the_sign_in(self, make_issuer_gate: MakeGate, claims: dict[str, Any], path: str):
        gate = make_issuer_gate(tokens="yes")
        assert admits(gate, access_token(claims))
        assert send(gate, path, headers={**bearer(access_token(claims)), **JSON}).status_code != 200

    def test_has_no_access_to_the_api_of_the_provider(
        self, gate: LoginRequired, inside: Application, claims: dict[str, Any]
    ):
        send(gate, "/page", headers=bearer(access_token(claims)))
        with pytest.raises(errors.NotSignedIn, match="a program came with an access token"):
            oauth2_session(inside.environ)

    def test_leads_to_no_redirect_when_the_application_requires_a_sign_in(
        self, gate: LoginRequired, inside: Application, claims: dict[str, Any]
    ):
        """A program cannot sign in, whatever it accepts."""

        def require_sign_in(environ: Any, start_response: Any) -> Any:
            raise errors.NotSignedIn("a page of its own")

        inside.answer = require_sign_in
        response = send(gate, "/page", headers={**bearer(access_token(claims)), **HTML})
        assert (response.status_code, response.json["error"]) == (401, "not_signed_in")

    @pytest.mark.parametrize("path", ["/page", "/static/x"])
    @pytest.mark.parametrize("is_valid", [True, False])
    def test_is_not_passed_on_to_the_application(
        self, make_issuer_gate: MakeGate, inside: Application, claims: dict[str, Any], path: str, is_valid: bool
    ):
        gate = make_issuer_gate(public=["/static"])
        token = access_token(claims if is_valid else {**claims, "aud": OTHER})
        send(gate, path, headers=bearer(token))
        assert all(token not in str(environ) for environ in inside.seen)
        assert [environ.get("AUTH_TYPE") for environ in inside.seen if path != "/page" or is_valid] == (
            ["Bearer"] if is_valid else [None] * (path != "/page")
        )

    def test_and_access_tokens_of_this_application_are_told_apart(
        self, make_issuer_gate: MakeGate, claims: dict[str, Any]
    ):
        gate = make_issuer_gate(tokens="yes")
        assert admits(gate, access_token(claims))
        response = send(gate, "/page", headers={**bearer("wo_" + "A" * 43), **JSON})
        assert (response.status_code, response.json["error"]) == (401, "token_unknown")

    def test_is_ignored_if_no_audience_is_configured(
        self, make_issuer_gate: MakeGate, inside: Application, claims: dict[str, Any]
    ):
        gate = make_issuer_gate(bearer_audience="", public=["/static"])
        response = send(gate, "/page", headers=bearer(access_token(claims)))
        assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
        send(gate, "/static/x", headers=bearer(access_token(claims)))
        assert "HTTP_AUTHORIZATION" in inside.environ  # the application may have tokens of its own


class TestRules:
    def test_are_evaluated_with_each_request(self, make_issuer_gate: MakeGate, claims: dict[str, Any]):
        gate = make_issuer_gate(allow=["group:staff"], paths={"/admin": ["group:admins"]})
        token = access_token({**claims, "groups": ["staff"]})
        statuses = [send(gate, path, headers=bearer(token)).status_code for path in ("/page", "/admin", "/page")]
        assert statuses == [200, 403, 200]

    def test_that_exclude_the_user_ask_for_a_token_with_more_rights(
        self, make_issuer_gate: MakeGate, claims: dict[str, Any]
    ):
        """RFC 6750 3.1"""
        gate = make_issuer_gate(allow=["group:staff"])
        response = send(gate, "/page", headers=bearer(access_token(claims)))
        assert (response.status_code, response.json["error"]) == (403, "not_allowed")
        assert response.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope"'

    def test_of_a_proxy_narrow_the_access(self, make_issuer_gate: MakeGate, claims: dict[str, Any]):
        gate = make_issuer_gate()
        headers = bearer(access_token({**claims, "groups": ["staff"]}))
        answers = [send(gate, "/auth/verify", query=f"allow=group:{name}", headers=headers) for name in ("staff", "x")]
        assert [answer.status_code for answer in answers] == [204, 403]
        assert answers[0].headers["X-Auth-Request-User"].startswith("mona@")
        assert answers[0].headers["X-Auth-Request-Groups"] == "staff"


class TestRefusal:
    """S68"""

    @pytest.mark.parametrize("change", CHANGED_CLAIMS.values(), ids=CHANGED_CLAIMS.keys())
    def test_of_claims(self, change: dict[str, Any], gate: LoginRequired, claims: dict[str, Any], inside: Application):
        changed = {name: value for name, value in {**claims, **change}.items() if value is not None}
        assert not admits(gate, access_token(changed))
        assert inside.seen == []

    # The times are computed in the test, because minutes can pass between the import of this file and the test.
    @pytest.mark.parametrize(
        ("claim", "seconds"),
        [("exp", -1), ("nbf", 300), ("iat", 300)],
        ids=["expired", "not valid yet", "issued in the future"],
    )
    def test_of_times(
        self, claim: str, seconds: int, gate: LoginRequired, claims: dict[str, Any], inside: Application
    ) -> None:
        assert not admits(gate, access_token({**claims, claim: time.time() + seconds}))
        assert inside.seen == []

    @pytest.mark.parametrize("slash", ["/", "?", "#", " "])
    def test_of_an_issuer_with_one_more_character(self, slash: str, gate: LoginRequired, claims: dict[str, Any]):
        assert not admits(gate, access_token({**claims, "iss": claims["iss"] + slash}))

    def test_of_another_issuer_if_the_path_of_the_issuer_looks_like_tenants(
        self, make_issuer_gate: MakeGate, issuer: Issuer, claims: dict[str, Any]
    ):
        issuer.metadata["issuer"] = f"{issuer.url}/common"
        issuer.routes["/common/.well-known/openid-configuration"] = ("discovery", {"GET": lambda _: issuer.discover()})
        gate = make_issuer_gate(provider=f"{issuer.url}/common")
        assert admits(gate, access_token({**claims, "iss": f"{issuer.url}/common"}))
        assert not admits(gate, access_token({**claims, "iss": f"{issuer.url}/11111111"}))

    @pytest.mark.parametrize("claim", ["nbf", "iat", "cnf"])
    def test_ignores_an_optional_claim_that_is_null(self, claim: str, gate: LoginRequired, claims: dict[str, Any]):
        assert admits(gate, access_token({**claims, claim: None}))

    def test_tolerates_a_clock_that_is_slightly_ahead(self, gate: LoginRequired, claims: dict[str, Any]):
        soon = time.time() + 30
        assert admits(gate, access_token({**claims, "nbf": soon, "iat": soon}))

    @pytest.mark.parametrize("headers", [HTML, JSON, {}], ids=["browser", "json", "program"])
    @pytest.mark.parametrize("path", ["/page", "/auth/verify"])
    def test_is_never_a_redirect(self, path: str, headers: dict[str, str], gate: LoginRequired, claims: dict[str, Any]):
        expired = bearer(access_token({**claims, "exp": 5}))
        response = send(gate, path, headers={**expired, **headers})
        assert response.status_code == 401
        assert "Location" not in response.headers
        assert response.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')

    def test_that_is_no_json_web_token_names_the_remedy_in_the_log(
        self, gate: LoginRequired, caplog: pytest.LogCaptureFixture
    ) -> None:
        send(gate, headers=bearer("opaque"))
        assert "let the program request one for the audience in WSGI_OAUTH_BEARER_AUDIENCE" in caplog.text

    @pytest.mark.parametrize(
        ("issuer_of_token", "remedy"),
        [
            ("https://other.example", "let the program request its token from this issuer"),
            ("https://sts.windows.net/11111111-2222-3333-4444-555555555555/", "set requestedAccessTokenVersion to 2"),
        ],
    )
    def test_of_another_issuer_names_the_remedy_in_the_log(
        self,
        gate: LoginRequired,
        claims: dict[str, Any],
        caplog: pytest.LogCaptureFixture,
        issuer_of_token: str,
        remedy: str,
    ) -> None:
        """The second one is that of Entra ID, version 1.0, unless the API requests version 2.0."""
        send(gate, headers=bearer(access_token({**claims, "iss": issuer_of_token})))
        assert remedy in caplog.text

    def test_names_the_scope_that_keycloak_needs_for_a_subject(
        self, gate: LoginRequired, claims: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Since version 25, Keycloak omits `sub` for some clients (keycloak#31082, keycloak#34306, keycloak#41098)."""
        send(gate, headers=bearer(access_token({**claims, "sub": None})))
        assert "for its sub (got None, not a text); let the provider add sub" in caplog.text
        assert "the client scope basic" in caplog.text

    def test_names_the_claim_and_the_expected_value_in_the_log(
        self,
        gate: LoginRequired,
        claims: dict[str, Any],
        caplog: pytest.LogCaptureFixture,
        seen_events: list[Event],
    ):
        caplog.set_level(logging.DEBUG)
        token = access_token({**claims, "aud": OTHER})
        response = send(gate, "/page", headers={**bearer(token), **JSON})
        assert f"the access token is refused for its aud (got '{OTHER}', not '{API}')" in caplog.text
        assert OTHER not in response.get_data(as_text=True)
        assert [(event.name, event.outcome, event.cause) for event in seen_events] == [
            ("access", "refused", "invalid_token")
        ]
        assert not any(part in caplog.text for part in token.split("."))

    @pytest.mark.parametrize(
        "credentials",
        ["", "x", "a.b.c", "wo_" + "A" * 43, "....", "a.b.c.d.e", "a" * 20000, "\xe9.\xe9.\xe9", "e30.e30.e30"],
        ids=lambda text: text[:10],
    )
    def test_of_credentials_that_are_no_token(self, credentials: str, gate: LoginRequired, issuer: Issuer):
        before = requests_to(issuer)
        assert not admits(gate, credentials)
        assert requests_to(issuer) == before

    def test_of_a_huge_token(self, gate: LoginRequired, claims: dict[str, Any]):
        assert not admits(gate, access_token({**claims, "padding": "x" * 20000}))

    @pytest.mark.parametrize(
        "payload", [b"5", b"[]", b'"text"', b"null", b"{", b"\xff", b'{"a":' * 1500 + b"1" + b"}" * 1500], ids=repr
    )
    def test_of_a_payload_that_is_no_object(self, payload: bytes, gate: LoginRequired):
        assert not admits(gate, access_token(payload))

    def test_of_a_token_inside_a_token(self, gate: LoginRequired, claims: dict[str, Any]):
        """RFC 7519 5.2"""
        assert not admits(gate, access_token(access_token(claims).encode(), cty="JWT"))

    @pytest.mark.parametrize("name", ["iss", "aud", "exp"])
    def test_judges_the_same_value_of_a_repeated_claim_everywhere(
        self, name: str, gate: LoginRequired, claims: dict[str, Any]
    ):
        """RFC 7519 4: the last one counts."""
        wrong = {"iss": "https://evil.example.com", "aud": OTHER, "exp": 5}[name]
        good, bad = json.dumps({name: claims.pop(name)})[1:-1], json.dumps({name: wrong})[1:-1]
        rest = json.dumps(claims)[1:]
        assert admits(gate, access_token(f"{{{bad},{good},{rest}".encode()))
        assert not admits(gate, access_token(f"{{{good},{bad},{rest}".encode()))

    @pytest.mark.parametrize("place", ["query", "form", "cookie", "basic", "custom header"])
    def test_of_a_token_outside_of_the_header(
        self, place: str, gate: LoginRequired, claims: dict[str, Any], inside: Application
    ):
        """RFC 9700 4.3.2; browsers send some of these by themselves."""
        token = access_token(claims)
        password = urlsafe_b64encode(f"x:{token}".encode()).decode()
        request: dict[str, Any] = {
            "query": {"query": f"access_token={token}"},
            "form": {"method": "POST", "body": f"access_token={token}".encode()},
            "cookie": {"headers": {"Cookie": f"wsgi_oauth={token}; Authorization=Bearer {token}"}},
            "basic": {"headers": {"Authorization": f"Basic {password}"}},
            "custom header": {"headers": {"X-Forwarded-Access-Token": token, "X-Authorization": f"Bearer {token}"}},
        }[place]
        request.setdefault("CONTENT_TYPE", "application/x-www-form-urlencoded")
        assert send(gate, "/page", **request).status_code == 401
        assert inside.seen == []

    @pytest.mark.parametrize("form", ["{0},{1}", "{0}, {1}", "{1}, {0}", "Basic eDp5, {0}", "{0} {1}"])
    def test_of_two_headers_that_a_server_has_joined(
        self, form: str, gate: LoginRequired, claims: dict[str, Any], inside: Application
    ):
        first, second = (f"Bearer {access_token({**claims, 'sub': sub})}" for sub in ("mona", "lisa"))
        headers = {"Authorization": form.format(first, second)}
        assert send(gate, "/page", headers=headers).status_code == 401
        assert inside.seen == []


class TestSignature:
    """S68; RFC 8725 2.1 and 3.1"""

    def test_of_another_key_with_the_same_name_is_refused(self, gate: LoginRequired, claims: dict[str, Any]):
        assert admits(gate, access_token(claims))
        assert not admits(gate, access_token(claims, FOREIGN_RSA))

    def test_of_another_token_is_refused(self, gate: LoginRequired, claims: dict[str, Any]):
        """The claims of one token with the signature of another one, also if the gate knows that one."""
        token = access_token(claims)
        assert admits(gate, token)
        content, signature = access_token({**claims, "sub": "lisa"}).rpartition(".")[0], token.rpartition(".")[2]
        assert not admits(gate, f"{content}.{signature}")

    def test_with_the_client_secret_is_refused(self, gate: LoginRequired, issuer: Issuer, claims: dict[str, Any]):
        """Also if the provider signs ID tokens with the client secret (OpenID Connect Core 10.1)."""
        issuer.metadata["id_token_signing_alg_values_supported"] = ["RS256", "HS256"]
        content = unsigned(claims, alg="HS256")
        hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
        signature = jwt.utils.base64url_encode(hmac.sign(content.encode(), SECRET.encode())).decode()
        assert not admits(gate, f"{content}.{signature}")

    def test_may_use_another_algorithm_than_those_of_id_tokens(
        self, gate: LoginRequired, issuer: Issuer, claims: dict[str, Any]
    ):
        issuer.metadata["id_token_signing_alg_values_supported"] = ["ES256"]
        assert admits(gate, access_token(claims))


class TestKeys:
    def test_that_the_provider_has_added_are_fetched(
        self, gate: LoginRequired, issuer: Issuer, claims: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ):
        issuer.publish_keys = lambda: json_response({"keys": [PUBLIC_KEY]})
        assert admits(gate, access_token(claims))
        issuer.publish_keys = lambda: json_response(public_keys())
        monkeypatch.setattr("wsgi_oauth.oauth.keys.FETCH_INTERVAL", 0.0)
        assert admits(gate, sign_jwt(claims, typ="at+jwt"))

    def test_are_not_fetched_for_each_token_with_an_unknown_key(
        self, gate: LoginRequired, issuer: Issuer, claims: dict[str, Any]
    ):
        """Otherwise anyone could have this application flood the provider with requests."""
        before = requests_to(issuer)
        assert not any(admits(gate, access_token(claims, kid=f"unknown {n}")) for n in range(5))
        assert requests_to(issuer) - before == Counter(discovery=1, keys=1)

    @pytest.mark.parametrize("path", ["/page", "/auth/verify"])
    @pytest.mark.parametrize("place", ["publish_keys", "discover"])
    def test_that_are_not_available_are_no_fault_of_the_token(
        self, place: str, path: str, gate: LoginRequired, issuer: Issuer, claims: dict[str, Any]
    ):
        setattr(issuer, place, lambda: Response(status=500))
        for _ in range(2):
            response = send(gate, path, headers={**bearer(access_token(claims)), **HTML})
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0

    def test_that_are_not_available_are_not_fetched_for_each_token(
        self, gate: LoginRequired, issuer: Issuer, claims: dict[str, Any]
    ):
        """Otherwise anyone could make this application flood a failing provider with requests."""
        issuer.publish_keys = lambda: Response(status=500)
        before = requests_to(issuer)
        statuses = {send(gate, "/page", headers=bearer(access_token(claims))).status_code for _ in range(5)}
        assert statuses == {503}
        assert requests_to(issuer) - before == Counter(discovery=1, keys=1)

    def test_that_do_not_arrive_take_only_as_many_threads_as_may_wait_for_the_provider(
        self, make_issuer_gate: MakeGate, issuer: Issuer, claims: dict[str, Any]
    ):
        gate = make_issuer_gate(upstream_limit=1)
        asked, answer = threading.Event(), threading.Event()

        def hang() -> Response:
            asked.set()
            answer.wait(10)
            return publish_keys()

        issuer.publish_keys = hang
        statuses: list[int] = []
        token = access_token(claims)
        thread = threading.Thread(
            target=lambda: statuses.append(send(gate, "/page", headers=bearer(token)).status_code)
        )
        thread.start()
        try:
            assert asked.wait(10)
            response = send(gate, "/page", headers={**bearer(access_token(claims, kid="x")), **JSON})
            assert (response.status_code, response.json["error"]) == (503, "provider_busy")
        finally:
            answer.set()
            thread.join()
        assert statuses == [200]

    def test_that_arrive_slowly_delay_no_token_with_an_unknown_key(
        self,
        make_issuer_gate: MakeGate,
        issuer: Issuer,
        claims: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
    ):
        """Otherwise false tokens would take all slots for requests to the provider, and nobody could sign in."""
        gate = make_issuer_gate(upstream_limit=2, upstream_timeout=60)
        assert admits(gate, access_token(claims))
        asked, answer = threading.Event(), threading.Event()

        def hang() -> Response:
            asked.set()
            answer.wait(60)
            return publish_keys()

        issuer.publish_keys = hang
        now, passed = time.monotonic, [11.0]
        monkeypatch.setattr(time, "monotonic", lambda: now() + passed[0])
        false = access_token(claims, kid="x")
        threads = [threading.Thread(target=admits, args=[gate, false], daemon=True) for _ in range(2)]
        threads[0].start()
        assert asked.wait(10)
        passed[0] += 11
        threads[1].start()
        threads[1].join(10)
        try:
            assert not threads[1].is_alive()
        finally:
            answer.set()
            threads[0].join()
            threads[1].join()

    def test_of_an_unknown_issuer_are_not_requested(self, gate: LoginRequired, issuer: Issuer, claims: dict[str, Any]):
        before = requests_to(issuer)
        assert not admits(gate, access_token({**claims, "iss": "https://evil.example.com"}))
        assert requests_to(issuer) == before


class TestSetting:
    """`WSGI_OAUTH_BEARER_AUDIENCE`; S68"""

    def test_needs_the_extra(self, make_issuer_gate: MakeGate, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("wsgi_oauth.oauth.bearer.verifies_signatures", lambda: False)
        with pytest.raises(errors.ConfigError, match=r"WSGI_OAUTH_BEARER_AUDIENCE: .*wsgi-oauth\[openid\]"):
            make_issuer_gate()

    def test_needs_an_issuer_with_keys(self, issuer: Issuer):
        endpoints = {f"{name}_url": f"{issuer.url}/{name}" for name in ("authorization", "token", "profile")}
        client = {"client_id": "x", "client_secret": "y"}
        cases: list[dict[str, Any]] = [
            {"provider": "github"},
            endpoints,
            {**endpoints, "issuer": issuer.url},
            {**endpoints, "provider": issuer.url},
        ]
        for settings in cases:
            with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_BEARER_AUDIENCE: no provider has an issuer"):
                create_app(Config(**client, **settings, bearer_audience=API))

    @pytest.mark.parametrize("value", [f"{API} {OTHER}", "a\nb", "\xe9", "a" * 600])
    def test_is_one_audience(self, value: str):
        with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_BEARER_AUDIENCE: must be one audience"):
            Config(client_id="x", client_secret="y", bearer_audience=value)

    def test_is_shown_by_the_check(self, issuer: Issuer):
        variables = {"PROVIDER": issuer.url, "CLIENT_ID": issuer.client_id, "CLIENT_SECRET": SECRET}
        variables |= {"BEARER_AUDIENCE": API, "SESSION_STORE": "memory:"}
        found = findings({f"WSGI_OAUTH_{name}": value for name, value in variables.items()})
        assert f"access tokens: those of {issuer.url} for the audience '{API}'" in [each.text for each in found]

    def test_applies_to_each_of_several_issuers(self, issuer: Issuer, inside: Application, store: SessionStore):
        other = Issuer()
        other.publish_keys = publish_keys
        with serve_provider(other):
            providers = [
                ProviderConfig(label=label, provider=each.url, client_id="x", client_secret="y")
                for label, each in (("work", issuer), ("home", other))
            ]
            app = create_app(Config(providers=providers, bearer_audience=API, allow=["id:home:mona"]), store=store)
            gate = LoginRequired(inside, app)
            claims = {"aud": API, "sub": "mona", "exp": time.time() + 60}
            statuses = [
                send(gate, "/page", headers=bearer(access_token({**claims, "iss": each.url}))).status_code
                for each in (issuer, other)
            ]
        assert statuses == [403, 200]
        assert inside.environ["REMOTE_USER"].endswith(f"@{escape_id(provider_name(other.url))}")

    def test_does_not_apply_to_a_provider_without_published_keys(
        self, issuer: Issuer, inside: Application, store: SessionStore, claims: dict[str, Any]
    ):
        """GitHub has an issuer (RFC 9207), but signs no tokens."""
        providers = [
            ProviderConfig(label="work", provider=issuer.url, client_id="x", client_secret="y"),
            ProviderConfig(label="code", provider="github", client_id="x", client_secret="y"),
        ]
        gate = LoginRequired(inside, create_app(Config(providers=providers, bearer_audience=API), store=store))
        token = access_token({**claims, "iss": "https://github.com/login/oauth"})
        assert send(gate, "/page", headers=bearer(token)).status_code == 401


class TestSeveralTenants:
    """Entra ID for all tenants, whose issuers differ; S68"""

    def test_have_users_whose_ids_contain_the_tenant(self, inside: Application, store: SessionStore):
        entra = EntraID()
        with serve_provider(entra):
            settings = {"provider": "microsoft", "issuer": f"{entra.url}/organizations/v2.0"}
            app = create_app(Config(**settings, client_id="x", client_secret="y", bearer_audience=API), store=store)
            gate = LoginRequired(inside, app)
            tenant = entra.tenant
            claims = {"iss": f"{entra.url}/{tenant}/v2.0", "tid": tenant, "aud": API, "sub": "mona"}
            claims |= {"exp": time.time() + 60, "ver": "2.0", "azpacr": "1"}
            assert admits(gate, sign_jwt(claims))
            for change in (
                {"tid": entra.other_tenant},
                {"iss": f"{entra.url}/{{tenantid}}/v2.0", "tid": "{tenantid}"},
                {"iss": f"{entra.url}/{tenant}/v1.0"},
                {"iss": f"{entra.url}/{tenant}/x/v2.0", "tid": f"{tenant}/x"},
            ):
                assert not admits(gate, sign_jwt({**claims, **change}))
        assert inside.environ["wsgi_oauth.identity"].subject == f"{tenant}.mona"

    @pytest.mark.parametrize("tenant", [EntraID.tenant, "{tenantid}", EntraID.other_tenant])
    def test_are_signed_with_a_key_of_their_tenant(self, inside: Application, store: SessionStore, tenant: str):
        """In 2023, attackers signed tokens of organizations with a stolen key for personal accounts."""
        entra = EntraID()
        with serve_provider(entra):
            key = {**public_keys()["keys"][0], "issuer": f"{entra.url}/{tenant}/v2.0"}
            entra.routes[f"{entra.issuer_path}{entra.keys_path}"] = (
                "keys",
                {"GET": lambda request: json_response({"keys": [key]})},
            )
            settings = {"provider": "microsoft", "issuer": f"{entra.url}/organizations/v2.0"}
            app = create_app(Config(**settings, client_id="x", client_secret="y", bearer_audience=API), store=store)
            claims = {"iss": f"{entra.url}/{entra.tenant}/v2.0", "tid": entra.tenant, "aud": API, "sub": "mona"}
            claims |= {"exp": time.time() + 60, "ver": "2.0", "azpacr": "1"}
            assert admits(LoginRequired(inside, app), sign_jwt(claims)) == (tenant != entra.other_tenant)


class TestKind:
    """An ID token is not an access token (S68; RFC 8725 2.8 and 3.11)."""

    @pytest.mark.parametrize(("more", "header"), MARKS.values(), ids=MARKS.keys())
    def test_of_an_access_token_is_known_by_the_mark_of_its_provider(
        self, more: dict[str, Any], header: dict[str, Any], gate: LoginRequired, claims: dict[str, Any]
    ):
        assert admits(gate, access_token({**claims, **more}, **header))

    @pytest.mark.parametrize(("more", "header"), OTHER_KINDS.values(), ids=OTHER_KINDS.keys())
    def test_of_another_token_opens_nothing(
        self, more: dict[str, Any], header: dict[str, Any], gate: LoginRequired, claims: dict[str, Any]
    ):
        assert not admits(gate, access_token({**claims, "aud": ["client", API], **more}, **header))

    def test_of_an_id_token_for_this_client_opens_nothing_if_the_audience_is_the_client(
        self, make_issuer_gate: MakeGate, issuer: Issuer, claims: dict[str, Any]
    ):
        gate = make_issuer_gate(bearer_audience=issuer.client_id)
        own = {**claims, "aud": issuer.client_id}
        assert not admits(gate, access_token(own, typ="JWT"))
        assert admits(gate, access_token(own))

    def test_of_an_access_token_signs_no_one_in(self, gate: LoginRequired, issuer: Issuer):
        """As an ID token: its audience is another one."""
        issuer.claims = {"aud": API}
        browser = Guest(gate, issuer)
        started = browser.get(browser.get("/page").location)
        assert browser.get(browser.consent(started.location), JSON).status_int == 502
