"""Authlib's authorization server on Flask, in a strict configuration.

All clients must use PKCE, and each client has exactly one authentication method. Refresh tokens require
``offline_access`` and ``prompt=consent`` (OpenID Connect Core 11) and rotate; a second use revokes all tokens of the
sign-in (RFC 9700 4.14.2). Authorization responses contain ``iss`` (RFC 9207).
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector, current_token
from authlib.oauth2.rfc6749 import ClientMixin, OAuth2Error, OAuth2Request, TokenMixin, grants
from authlib.oauth2.rfc6750 import BearerTokenValidator
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9207 import IssuerParameter
from authlib.oidc.core import AuthorizationCodeMixin, OpenIDCode, UserInfo
from authlib.oidc.core.grants.code import OpenIDToken
from flask import Blueprint, Flask, current_app, jsonify, request
from joserfc.jwk import RSAKey
from serving import serve

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # allows plain http

USER = UserInfo(sub="octocat", name="Mona Lisa Octocat", email="octocat@example.com", preferred_username="mona")
METHODS = ("client_secret_basic", "client_secret_post", "none")
SCOPES = ["openid", "profile", "email", "offline_access"]
KEY = RSAKey.generate_key(2048, parameters={"kid": "1"}, private=True)


@dataclass(frozen=True)
class Client(ClientMixin):
    """A client. Its id is the name of its authentication method."""

    client_id: str
    secret: str = "a-secret_as.it~is"

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        return None

    def get_allowed_scope(self, scope: str) -> str:
        return " ".join(each for each in scope.split() if each in SCOPES)

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri == "http://localhost/callback"

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(client_secret, self.secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.client_id

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in {"authorization_code", "refresh_token"}


@dataclass
class Code(AuthorizationCodeMixin):
    client_id: str
    redirect_uri: str
    scope: str
    nonce: str
    challenge: str

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str:
        return self.nonce

    def get_auth_time(self) -> int:
        return int(time.time())

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


@dataclass
class Token(TokenMixin):
    client_id: str
    token: dict[str, Any]
    family: list[Token]
    expires_at: float
    access_revoked: bool = False
    refresh_revoked: bool = False

    def check_client(self, client: Client) -> bool:
        return client.client_id == self.client_id

    def get_scope(self) -> str:
        return self.token["scope"]

    def get_expires_in(self) -> int:
        return self.token["expires_in"]

    def is_expired(self) -> bool:
        return time.time() > self.expires_at

    def is_revoked(self) -> bool:
        return self.access_revoked

    def get_user(self) -> UserInfo:
        return USER


CLIENTS = {method: Client(method) for method in METHODS}
CODES: dict[str, Code] = {}
TOKENS: list[Token] = []


def find(kind: str, value: str) -> Token | None:
    return next((token for token in TOKENS if token.token.get(kind) == value), None)


def save(token: dict[str, Any], request: OAuth2Request) -> None:
    before = request.refresh_token
    family = before.family if before else []
    family.append(Token(request.client.client_id, token, family, time.time() + token["expires_in"]))
    TOKENS.append(family[-1])


class CodeGrant(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = tuple(METHODS)

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        asked = request.payload.data
        ignored = set() if "consent" in asked.get("prompt", "").split() else {"offline_access"}
        scope = " ".join(each for each in request.payload.scope.split() if each not in ignored)
        client_id, redirect_uri = request.client.client_id, asked["redirect_uri"]
        CODES[code] = Code(client_id, redirect_uri, scope, asked["nonce"], asked["code_challenge"])

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        found = CODES.get(code)
        return found if found and found.client_id == client.client_id else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        for code in [code for code, each in CODES.items() if each is authorization_code]:
            del CODES[code]

    def authenticate_user(self, authorization_code: Code) -> UserInfo:
        return USER

    def generate_token(self, *, scope: str, **given: Any) -> dict[str, Any]:
        return super().generate_token(
            **{**given, "include_refresh_token": "offline_access" in scope.split()}, scope=scope
        )


class S256(CodeChallenge):
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def get_authorization_code_challenge(self, authorization_code: Code) -> str:
        return authorization_code.challenge

    def get_authorization_code_challenge_method(self, authorization_code: Code) -> str:
        return "S256"


class RefreshGrant(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = tuple(METHODS)
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        token = find("refresh_token", refresh_token)
        if token and token.refresh_revoked:  # a replay
            for each in token.family:
                each.access_revoked = each.refresh_revoked = True
        return token if token and not token.refresh_revoked else None

    def authenticate_user(self, refresh_token: Token) -> UserInfo:
        return USER

    def revoke_old_credential(self, refresh_token: Token) -> None:
        refresh_token.access_revoked = refresh_token.refresh_revoked = True


class Revocation(RevocationEndpoint):
    CLIENT_AUTH_METHODS = tuple(METHODS)

    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        return find("refresh_token", token_string) or find("access_token", token_string)

    def revoke_token(self, token: Token, request: OAuth2Request) -> None:
        token.access_revoked = token.refresh_revoked = True


class Bearer(BearerTokenValidator):
    def authenticate_token(self, token_string: str) -> Token | None:
        return find("access_token", token_string)


class IdToken(OpenIDToken):
    def resolve_client_private_key(self, client: Client) -> RSAKey:
        return KEY

    def get_client_algorithm(self, client: Client) -> str:
        return "RS256"

    def get_client_claims(self, client: Client) -> dict[str, Any]:
        return {"iss": current_app.config["ISSUER"]}

    def generate_user_info(self, user: UserInfo, scope: str) -> UserInfo:
        return user.filter(scope)


class CodeIdToken(IdToken, OpenIDCode):
    def exists_nonce(self, nonce: str, request: OAuth2Request) -> bool:
        return any(code.nonce == nonce for code in CODES.values())


class Issuer(IssuerParameter):
    def get_issuer(self) -> str:
        return current_app.config["ISSUER"]


server = AuthorizationServer(query_client=CLIENTS.get, save_token=save)
server.register_grant(CodeGrant, [CodeIdToken(require_nonce=True), S256(required=True)])
server.register_grant(RefreshGrant, [IdToken()])
server.register_endpoint(Revocation)
server.register_extension(Issuer())
protect = ResourceProtector()
protect.register_token_validator(Bearer())
routes = Blueprint("routes", __name__)


@routes.get("/.well-known/openid-configuration")
def discovery() -> Any:
    issuer = current_app.config["ISSUER"]
    return jsonify(
        issuer=issuer,
        authorization_endpoint=f"{issuer}/authorize",
        token_endpoint=f"{issuer}/token",
        userinfo_endpoint=f"{issuer}/userinfo",
        revocation_endpoint=f"{issuer}/revoke",
        end_session_endpoint=f"{issuer}/end",
        jwks_uri=f"{issuer}/keys",
        scopes_supported=SCOPES,
        response_types_supported=["code"],
        subject_types_supported=["public"],
        id_token_signing_alg_values_supported=["RS256"],
        token_endpoint_auth_methods_supported=METHODS,
        code_challenge_methods_supported=["S256"],
        authorization_response_iss_parameter_supported=True,
    )


@routes.get("/keys")
def keys() -> Any:
    return jsonify(keys=[KEY.as_dict(private=False)])


@routes.route("/authorize", methods=["GET", "POST"])
def authorize() -> Any:
    try:
        grant = server.get_consent_grant(end_user=USER)
    except OAuth2Error as error:
        return server.handle_error_response(server.create_oauth2_request(None), error)
    if request.method == "GET":
        return '<form method="post"><button name="decision" value="allow">Allow</button></form>'
    allowed = request.form.get("decision") == "allow"
    return server.create_authorization_response(grant=grant, grant_user=USER if allowed else None)


@routes.post("/token")
def token() -> Any:
    return server.create_token_response()


@routes.post("/revoke")
def revoke() -> Any:
    return server.create_endpoint_response("revocation")


@routes.get("/userinfo")
@protect("openid")
def userinfo() -> Any:
    return jsonify(USER.filter(current_token.get_scope()))


@routes.get("/end")
def end() -> str:
    return "Signed out."


def application(issuer: str) -> Flask:
    app = Flask(__name__)
    app.config["ISSUER"] = issuer
    app.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True
    app.config["OAUTH2_TOKEN_EXPIRES_IN"] = {"authorization_code": 120, "refresh_token": 120}
    app.register_blueprint(routes)
    server.init_app(app)
    return app


if __name__ == "__main__":
    serve(application)
