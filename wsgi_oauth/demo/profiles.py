"""Local providers that behave like Keycloak, Entra ID, AD FS, Okta and GitHub Enterprise, as their documentation says.

Each has two users: ``octocat``, who is in a group, and every other login, who is in none. ``settings`` are the
``WSGI_OAUTH_*`` variables of an application that only this group may enter, as ``docs/providers.md`` explains them.
"""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from oauthlib.common import add_params_to_uri
from werkzeug import Request, Response

from .local_provider import OCTOCAT, LocalProvider

_LIFETIME = 3600  # seconds, of ID tokens
_PAGE = 100  # organizations on one page of GitHub's list


class OpenIDProvider(LocalProvider):
    """The local provider with OpenID Connect: a discovery document and ID tokens. Its URLs are those of a product.

    Subclasses set ``name``, ``paths`` and ``rule``, and describe a user with :meth:`id_token_claims` and
    :meth:`user_document`.
    """

    name = ""  # of the preset
    rule = ""  # admits the members of the group
    issuer_path = ""
    paths: ClassVar[Mapping[str, str]] = {}  # of the endpoints: authorize, token, user, revoke, end
    scopes: tuple[str, ...] = ("openid", "profile", "email")

    def __init__(self, *, scope: str = "", **options: Any) -> None:
        # The scopes of the settings are registered, too.
        super().__init__(scope=scope or " ".join(self.scopes), **options)
        self._sign_ins: dict[str, tuple[str, str]] = {}  # nonce and login by code
        for name in ("authorize", "token", "user", "revoke"):
            self.routes[self.paths[name]] = self.routes.pop(f"/{name}")
        document = f"{self.issuer_path}/.well-known/openid-configuration"
        self.routes[document] = ("discovery", {"GET": lambda _: _json(self.discovery_document())})

    @property
    def issuer(self) -> str:
        return self.url + self.issuer_path

    @property
    def authorization_url(self) -> str:
        return self.url + self.paths["authorize"]

    @property
    def token_url(self) -> str:
        return self.url + self.paths["token"]

    @property
    def profile_url(self) -> str:
        return self.url + self.paths["user"]

    @property
    def revocation_url(self) -> str:
        return self.url + self.paths["revoke"]

    @property
    def settings(self) -> dict[str, str]:
        return {
            "PROVIDER": self.name,
            "ISSUER": self.issuer,
            "CLIENT_ID": self.client_id,
            "CLIENT_SECRET": self.client_secret or "",
            "ALLOW": self.rule,
        }

    def discovery_document(self) -> dict[str, Any]:
        """Return the document of OpenID Connect Discovery 3."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": self.authorization_url,
            "token_endpoint": self.token_url,
            "userinfo_endpoint": self.profile_url,
            "revocation_endpoint": self.revocation_url,
            "end_session_endpoint": self.url + self.paths["end"],
            "jwks_uri": f"{self.issuer}/keys",
            "scopes_supported": [*self.scopes, "offline_access"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        }

    def id_token_claims(self, login: str) -> dict[str, Any]:
        """Return the claims about the user with this login; the default user has an empty one."""
        raise NotImplementedError

    def is_member(self, login: str) -> bool:
        """Return whether the user is in the group."""
        return login in {"", OCTOCAT["login"]}

    def decide(self, request: Request) -> Response:
        response = super().decide(request)
        for code in parse_qs(urlsplit(response.headers.get("Location", "")).query).get("code", []):
            self._sign_ins[code] = request.args.get("nonce", ""), request.form.get("user", "")
        return response

    def token(self, request: Request) -> Response:
        response = super().token(request)
        document = response.get_json(silent=True) or {}
        nonce, login = self._sign_ins.pop(request.form.get("code", ""), ("", ""))
        if "openid" not in document.get("scope", "").split():
            return response
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": self.client_id, "iat": now, "exp": now + _LIFETIME, "auth_time": now}
        claims |= self.id_token_claims(login) | ({"nonce": nonce} if nonce else {})
        return _json({**document, "id_token": _sign(claims, self.client_secret or "")})

    def _redirect_to_client(self, location: str) -> Response:
        return Response(status=302, headers={"Location": location})  # without `iss`: of these, only Keycloak sends it


class Keycloak(OpenIDProvider):
    """A realm with a *Group Membership* mapper for the claim ``groups``, with full paths."""

    name = "keycloak"
    rule = "group:/staff"
    issuer_path = "/realms/demo"
    paths: ClassVar[Mapping[str, str]] = {
        name: f"/realms/demo/protocol/openid-connect/{path}"
        for name, path in {
            "authorize": "auth",
            "token": "token",
            "user": "userinfo",
            "revoke": "revoke",
            "end": "logout",
        }.items()
    }

    def id_token_claims(self, login: str) -> dict[str, Any]:
        name = login or str(OCTOCAT["login"])
        groups = ["/staff", "/staff/security"] if self.is_member(login) else []
        roles = {"roles": ["offline_access", "default-roles-demo"]}
        return {"sub": f"id-of-{name}", "preferred_username": name, "groups": groups, "realm_access": roles}

    def user_document(self, login: str) -> dict[str, object]:
        return {**self.id_token_claims(login), "email": super().user_document(login)["email"], "email_verified": True}

    def _redirect_to_client(self, location: str) -> Response:
        parameters = [("session_state", "a-session"), ("iss", self.issuer)]
        return super()._redirect_to_client(add_params_to_uri(location, parameters))


class EntraID(OpenIDProvider):
    """A tenant with a *groups* claim and app roles, which are in the ID token only."""

    name = "microsoft"
    tenant = "11111111-2222-3333-4444-555555555555"
    group = "6b0e2a35-0d0b-4a0e-9c8e-3d1a6f2d7c11"
    rule = f"group:{group}"
    issuer_path = f"/{tenant}/v2.0"
    paths: ClassVar[Mapping[str, str]] = {
        "authorize": f"/{tenant}/oauth2/v2.0/authorize",
        "token": f"/{tenant}/oauth2/v2.0/token",
        "user": "/oidc/userinfo",
        "revoke": "/revoke",
        "end": f"/{tenant}/oauth2/v2.0/logout",
    }
    scopes = ("openid", "profile", "email", "User.Read", "offline_access")

    def id_token_claims(self, login: str) -> dict[str, Any]:
        name = login or str(OCTOCAT["login"])
        claims = {"sub": f"pairwise-{name}", "oid": f"id-of-{name}", "tid": self.tenant, "ver": "2.0"}
        claims["preferred_username"] = f"{name}@corp.example"
        membership = {"groups": [self.group], "roles": ["App.User"]} if self.is_member(login) else {}
        return {**claims, **membership}

    def user_document(self, login: str) -> dict[str, object]:
        document = super().user_document(login)
        return {"sub": f"pairwise-{login or OCTOCAT['login']}", "name": document["name"], "email": document["email"]}


class ADFS(OpenIDProvider):
    """An application group with issuance rules for names and groups. UserInfo has the subject only."""

    name = "adfs"
    rule = 'group:"Reports Readers"'
    issuer_path = "/adfs"
    paths: ClassVar[Mapping[str, str]] = {
        "authorize": "/adfs/oauth2/authorize/",
        "token": "/adfs/oauth2/token/",
        "user": "/adfs/userinfo",
        "revoke": "/adfs/revoke",
        "end": "/adfs/oauth2/logout",
    }
    scopes = ("openid", "profile", "email", "allatclaims")

    def id_token_claims(self, login: str) -> dict[str, Any]:
        name = login or str(OCTOCAT["login"])
        claims = {"sub": f"hash-of-{name}=", "upn": f"{name}@corp.example", "unique_name": f"CORP\\{name}"}
        # A single group is sent as a text, several ones as a list.
        return {**claims, "group": "Reports Readers" if self.is_member(login) else "Domain Users"}

    def user_document(self, login: str) -> dict[str, object]:
        return {"sub": f"hash-of-{login or OCTOCAT['login']}="}


class Okta(OpenIDProvider):
    """An authorization server with a ``groups`` claim. Users who are not assigned to the application are refused."""

    name = "okta"
    rule = "group:staff"
    issuer_path = "/oauth2/default"
    paths: ClassVar[Mapping[str, str]] = {
        name: f"/oauth2/default/v1/{path}"
        for name, path in {
            "authorize": "authorize",
            "token": "token",
            "user": "userinfo",
            "revoke": "revoke",
            "end": "logout",
        }.items()
    }
    scopes = ("openid", "profile", "email", "groups", "offline_access")

    @property
    def settings(self) -> dict[str, str]:
        return {**super().settings, "SCOPE": "openid profile email groups"}

    def id_token_claims(self, login: str) -> dict[str, Any]:
        name = login or str(OCTOCAT["login"])
        groups = ["Everyone", "staff"] if self.is_member(login) else ["Everyone"]
        return {"sub": f"00u-{name}", "preferred_username": f"{name}@corp.example", "groups": groups}

    def user_document(self, login: str) -> dict[str, object]:
        return self.id_token_claims(login)

    def decide(self, request: Request) -> Response:
        if request.form.get("user") != "unassigned":
            return super().decide(request)
        parameters = {
            "error": "access_denied",
            "error_description": "User is not assigned to the client application.",
            "state": request.args.get("state", ""),
        }
        return self._redirect_to_client(add_params_to_uri(request.args.get("redirect_uri", ""), parameters.items()))


class GitHubEnterprise(LocalProvider):
    """A server on which the user is in more organizations than one page of the list has."""

    name = "github-enterprise"
    rule = "org:octo-org group:octo-org/team"

    def __init__(self, *, scope: str = "", **options: Any) -> None:
        super().__init__(scope=scope or "read:org user:email", **options)
        for name, path in {
            "/authorize": "/login/oauth/authorize",
            "/token": "/login/oauth/access_token",
            "/user": "/api/v3/user",
        }.items():
            self.routes[path] = self.routes.pop(name)
        self.routes["/api/v3/user/orgs"] = ("profile", {"GET": self.organizations})
        self.routes["/api/v3/user/teams"] = ("profile", {"GET": self.teams})
        self.routes["/api/v3/user/emails"] = ("profile", {"GET": lambda _: _json({"message": "Not Found"}, 404)})

    @property
    def authorization_url(self) -> str:
        return f"{self.url}/login/oauth/authorize"

    @property
    def token_url(self) -> str:
        return f"{self.url}/login/oauth/access_token"

    @property
    def profile_url(self) -> str:
        return f"{self.url}/api/v3/user"

    @property
    def settings(self) -> dict[str, str]:
        return {
            "PROVIDER": self.name,
            "ISSUER": self.url,
            "CLIENT_ID": self.client_id,
            "CLIENT_SECRET": self.client_secret or "",
            "ALLOW": self.rule,
        }

    def _is_member_token(self, request: Request) -> bool:
        """Return whether the user of the request's token is in the organizations and the team."""
        document = self.profile(request).get_json(silent=True) or {}
        return document.get("login") == OCTOCAT["login"]

    def organizations(self, request: Request) -> Response:
        """GET /api/v3/user/orgs: with pages, as https://docs.github.com/rest/using-the-rest-api says."""
        if not self._is_member_token(request):
            return _json([])
        if request.args.get("page") == "2":
            return _json([{"login": "octo-org"}])
        response = _json([{"login": f"org-{number}"} for number in range(_PAGE)])
        response.headers["Link"] = f'<{self.url}/api/v3/user/orgs?per_page={_PAGE}&page=2>; rel="next"'
        return response

    def teams(self, request: Request) -> Response:
        """GET /api/v3/user/teams"""
        organization = {"login": "octo-org"}
        return _json([{"slug": "team", "organization": organization}] if self._is_member_token(request) else [])

    def token(self, request: Request) -> Response:
        """Report errors with status 200, and separate scopes with commas."""
        response = super().token(request)
        document = response.get_json(silent=True)
        if not isinstance(document, dict):
            return response
        if "scope" in document:
            document["scope"] = ",".join(document["scope"].split())
        return _json(document, 200 if response.status_code == 400 else response.status_code)

    def _redirect_to_client(self, location: str) -> Response:
        return Response(status=302, headers={"Location": location})


#: Profiles by the name of the option ``wsgi-oauth demo --profile``.
PROFILES: Mapping[str, Callable[[], LocalProvider]] = {
    "keycloak": Keycloak,
    "entra-id": EntraID,
    "adfs": ADFS,
    "okta": Okta,
    "github": GitHubEnterprise,
}


def _sign(claims: Mapping[str, Any], key: str) -> str:
    """Return a JSON Web Token with the algorithm HS256 (RFC 7519 3.1)."""
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    content = ".".join(_encode(json.dumps(part).encode()) for part in parts)
    return f"{content}.{_encode(hmac.digest(key.encode(), content.encode(), 'sha256'))}"


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _json(document: object, status: int = 200) -> Response:
    return Response(json.dumps(document), status, content_type="application/json")
