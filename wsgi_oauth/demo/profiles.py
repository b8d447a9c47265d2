"""Local providers that imitate Keycloak, Entra ID, AD FS, Okta and GitHub Enterprise, based on their documentation.

The ``settings`` of each are the same as in its example in ``docs/providers.md``: only the members of one group have
access. The default user is a member; the consent page offers further users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from oauthlib.common import add_params_to_uri
from werkzeug import Request, Response

from . import provider_pages
from .grants import Grant
from .local_provider import LocalProvider, json_response
from .users import OCTOCAT, User

_MEMBER = str(OCTOCAT["login"])


class Product(LocalProvider):
    """A provider with the URLs, scopes and error descriptions of a product."""

    name = ""  # the name of the preset
    title = "Local provider"
    rule = ""  # the access rule that admits the members of the group
    scopes: Sequence[str] = ()
    logins: tuple[str, ...] = (_MEMBER, "guest")
    #: The code and the description with which the product reports an error of OAuth.
    errors: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def __init__(self, *, scope: str = "", **options: Any) -> None:
        super().__init__(scope=scope or " ".join(self.scopes), **options)
        self.users = [User(LocalProvider.user_document(self, login)) for login in self.logins]

    @property
    def settings(self) -> dict[str, str]:
        return {
            "PROVIDER": self.name,
            "ISSUER": self.issuer,
            "CLIENT_ID": self.client_id,
            "CLIENT_SECRET": self.client_secret or "",
            "ALLOW": self.rule,
        }

    def is_member(self, login: str) -> bool:
        """Return whether the user is in the group of :attr:`rule`."""
        return login in {"", _MEMBER}

    def token(self, request: Request) -> Response:
        response = super().token(request)
        document = response.get_json(silent=True)
        if isinstance(document, dict) and document.get("error") in self.errors:
            code, description = self.errors[document["error"]]
            return json_response({"error": code, "error_description": description}, response.status_code)
        return response

    def redirect_to_client(self, location: str) -> Response:
        """Return the redirect without ``iss``, and with the product's description of an error."""
        parts = urlsplit(location)
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parameters.get("error") in self.errors:
            parameters["error"], parameters["error_description"] = self.errors[parameters["error"]]
        location = parts._replace(query=urlencode(parameters)).geturl()
        return Response(status=302, headers={"Location": location, **provider_pages.HEADERS})

    def redirect_with_error(self, request: Request, code: str, description: str) -> Response:
        """Return the redirect of a valid authorization request to the client, with an error (RFC 6749 4.1.2.1)."""
        parameters = {"error": code, "error_description": description, "state": request.args.get("state", "")}
        return self.validate_authorization_request(
            request,
            lambda _, details: self.redirect_to_client(add_params_to_uri(details["redirect_uri"], parameters.items())),
        )


class OpenIDProduct(Product):
    """A product with OpenID Connect: a discovery document, ID tokens, and an end-session endpoint."""

    sends_refresh_tokens = False  # whether it sends them even without the scope offline_access
    scopes: Sequence[str] = ("openid", "profile", "email", "offline_access")

    def discovery_document(self) -> dict[str, Any]:
        """Return the metadata without the members that only some products have."""
        document = super().discovery_document()
        for name in ("revocation_endpoint", "authorization_response_iss_parameter_supported"):
            del document[name]
        return document

    def token(self, request: Request) -> Response:
        response = super().token(request)
        document = response.get_json(silent=True)
        if self.sends_refresh_tokens or not isinstance(document, dict):
            return response
        grant = self.find_grant(f"Bearer {document.get('access_token')}")
        if grant and "offline_access" not in grant.scopes:
            del document["refresh_token"]
        return json_response(document, response.status_code)


class Keycloak(OpenIDProduct):
    """A realm with a *Group Membership* mapper for the claim ``groups``, without full paths.

    Realm roles are in the ID token. The user ``late`` stays on the login page for too long: the provider answers with
    an error that asks the client to start again.
    """

    name = "keycloak"
    rule = 'group:"Wiki Editors"'
    issuer_path = "/realms/myrealm"
    keys_path = "/protocol/openid-connect/certs"
    authorization_path = f"{issuer_path}/protocol/openid-connect/auth"
    token_path = f"{issuer_path}/protocol/openid-connect/token"
    profile_path = f"{issuer_path}/protocol/openid-connect/userinfo"
    revocation_path = f"{issuer_path}/protocol/openid-connect/revoke"
    end_session_path = f"{issuer_path}/protocol/openid-connect/logout"
    sends_refresh_tokens = True
    logins = (*Product.logins, "late")
    errors: ClassVar[Mapping[str, tuple[str, str]]] = {
        "invalid_client": ("unauthorized_client", "Invalid client or Invalid client credentials"),
        "invalid_grant": ("invalid_grant", "Code not valid"),
    }

    @property
    def settings(self) -> dict[str, str]:
        return {**super().settings, "END_SESSION": "yes"}

    def discovery_document(self) -> dict[str, Any]:
        return {
            **super().discovery_document(),
            "revocation_endpoint": self.revocation_url,
            "authorization_response_iss_parameter_supported": True,
        }

    def id_token_claims(self, grant: Grant) -> dict[str, Any]:
        roles = ["offline_access", "default-roles-myrealm", *(["wiki-editor"] if self.is_member(grant.user) else [])]
        return {**self.user_document(grant.user), "realm_access": {"roles": roles}}

    def user_document(self, login: str) -> dict[str, object]:
        name = login or _MEMBER
        groups = ["Wiki Editors", "Everyone"] if self.is_member(login) else ["Everyone"]
        address = {"email": f"{name}@example.com", "email_verified": True}
        return {"sub": f"id-of-{name}", "preferred_username": name, "name": name.title(), "groups": groups, **address}

    def decide(self, request: Request) -> Response:
        if request.form.get("user") == "late":
            return self.redirect_with_error(request, "temporarily_unavailable", "authentication_expired")
        return super().decide(request)

    def redirect_to_client(self, location: str) -> Response:
        parameters = [("session_state", "a-session"), ("iss", self.issuer)]
        return super().redirect_to_client(add_params_to_uri(location, parameters))


class EntraID(OpenIDProduct):
    """A tenant with a *groups* claim and app roles, which are in the ID token only.

    ``/organizations/v2.0`` and ``/common/v2.0`` are the issuers for all tenants. The user ``partner`` belongs to
    another tenant. ``many-groups`` has so many groups that the ID token refers to Microsoft Graph:
    https://learn.microsoft.com/security/zero-trust/develop/configure-tokens-group-claims-app-roles#group-overages
    """

    name = "microsoft"
    tenant = "11111111-2222-3333-4444-555555555555"
    other_tenant = "66666666-7777-8888-9999-000000000000"
    group = "6b0e2a35-0d0b-4a0e-9c8e-3d1a6f2d7c11"
    rule = f"group:{group}"
    issuer_path = f"/{tenant}/v2.0"
    authorization_path = f"/{tenant}/oauth2/v2.0/authorize"
    token_path = f"/{tenant}/oauth2/v2.0/token"
    profile_path = "/oidc/userinfo"
    end_session_path = f"/{tenant}/oauth2/v2.0/logout"
    graph_path = "/v1.0/me/transitiveMemberOf"
    scopes = ("openid", "profile", "email", "offline_access", "User.Read")
    # many-groups is not offered, because the application would send the token to the real Microsoft Graph.
    logins = (*Product.logins, "partner")
    errors: ClassVar[Mapping[str, tuple[str, str]]] = {
        "access_denied": ("access_denied", "AADSTS65004: User declined to consent to access the app."),
        "invalid_client": ("invalid_client", "AADSTS7000215: Invalid client secret provided."),
        "invalid_grant": ("invalid_grant", "AADSTS54005: OAuth2 Authorization code was already redeemed."),
        "invalid_scope": (
            "invalid_scope",
            "AADSTS70011: The provided value for 'scope' is not valid.",
        ),
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.routes[self.graph_path] = ("graph", {"GET": self.list_groups})
        authorization = self.routes[self.authorization_path]
        for name in ("organizations", "common"):
            self.routes[f"/{name}/oauth2/v2.0/authorize"] = authorization
            self.routes[f"/{name}/v2.0/.well-known/openid-configuration"] = (
                "discovery",
                {"GET": self.show_document_of_tenants},
            )

    def show_document_of_tenants(self, request: Request) -> Response:
        """GET the discovery document for all tenants. Its issuer contains a placeholder."""
        document = {
            **self.discovery_document(),
            "issuer": f"{self.url}/{{tenantid}}/v2.0",
            "authorization_endpoint": f"{self.url}/{request.path.split('/')[1]}/oauth2/v2.0/authorize",
        }
        return json_response(document)

    def id_token_claims(self, grant: Grant) -> dict[str, Any]:
        name = grant.user or _MEMBER
        tenant = self.other_tenant if name == "partner" else self.tenant
        claims = {
            "iss": f"{self.url}/{tenant}/v2.0",
            "sub": f"pairwise-{name}",
            "oid": f"id-of-{name}",
            "tid": tenant,
            "ver": "2.0",
            "preferred_username": f"{name}@corp.example",
        }
        if name == "many-groups":
            endpoint = f"https://graph.windows.net/{tenant}/users/id-of-{name}/getMemberObjects"
            return {**claims, "_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": endpoint}}}
        return {**claims, "groups": [self.group], "roles": ["App.User"]} if self.is_member(name) else claims

    def user_document(self, login: str) -> dict[str, object]:
        document = super().user_document(login)
        return {"sub": f"pairwise-{login or _MEMBER}", "name": document["name"], "email": document["email"]}

    def decide(self, request: Request) -> Response:
        if request.form.get("user") == "partner" and request.path == self.authorization_path:
            return self.error_page("Sign in", "AADSTS50020: The user account does not exist in the tenant.")
        return super().decide(request)

    def list_groups(self, request: Request) -> Response:
        """GET /v1.0/me/transitiveMemberOf, on two pages: https://learn.microsoft.com/graph/paging."""
        grant = self.find_grant(request.headers.get("Authorization", ""))
        if grant is None:
            return json_response({"error": {"code": "InvalidAuthenticationToken"}}, 401)
        if "User.Read" not in grant.scopes:
            message = "Insufficient privileges to complete the operation."
            return json_response({"error": {"code": "Authorization_RequestDenied", "message": message}}, 403)
        if "$skiptoken" in request.args:
            return json_response({"value": [{"@odata.type": "#microsoft.graph.group", "id": self.group}]})
        following = f"{request.base_url}?{urlencode({'$select': 'id', '$top': '999', '$skiptoken': 'next'})}"
        groups = [{"@odata.type": "#microsoft.graph.group", "id": f"group-{number}"} for number in range(999)]
        return json_response({"value": groups, "@odata.nextLink": following})


class ADFS(OpenIDProduct):
    """An application group with issuance rules for names and groups. UserInfo has the subject only.

    https://learn.microsoft.com/windows-server/identity/ad-fs/development/custom-id-tokens-in-ad-fs
    """

    name = "adfs"
    rule = 'group:"Wiki Editors"'
    issuer_path = "/adfs"
    authorization_path = "/adfs/oauth2/authorize/"
    token_path = "/adfs/oauth2/token/"
    profile_path = "/adfs/userinfo"
    end_session_path = "/adfs/oauth2/logout"
    scopes = ("openid", "profile", "email", "allatclaims")
    sends_refresh_tokens = True

    def id_token_claims(self, grant: Grant) -> dict[str, Any]:
        name = grant.user or _MEMBER
        claims = {**self.user_document(name), "upn": f"{name}@corp.example", "unique_name": f"CORP\\{name}"}
        # A single group is sent as a text, several ones as a list.
        group = ["Domain Users", "Wiki Editors"] if self.is_member(name) else "Domain Users"
        return {**claims, "group": group} if "allatclaims" in grant.scopes else claims

    def user_document(self, login: str) -> dict[str, object]:
        return {"sub": f"hash-of-{login or _MEMBER}="}


class Okta(OpenIDProduct):
    """An organization with a groups claim filter. Users who are not assigned to the application are refused.

    Names and groups are only in the UserInfo response, because an access token is issued, too:
    https://developer.okta.com/docs/api/openapi/okta-oauth/guides/overview/
    """

    name = "okta"
    rule = 'group:"Wiki Editors"'
    authorization_path = "/oauth2/v1/authorize"
    token_path = "/oauth2/v1/token"
    profile_path = "/oauth2/v1/userinfo"
    revocation_path = "/oauth2/v1/revoke"
    end_session_path = "/oauth2/v1/logout"
    scopes = ("openid", "profile", "email", "groups", "offline_access")
    logins = (*Product.logins, "unassigned")
    errors: ClassVar[Mapping[str, tuple[str, str]]] = {
        "invalid_client": ("invalid_client", "The client secret supplied for a confidential client is invalid."),
        "invalid_grant": ("invalid_grant", "The authorization code is invalid or has expired."),
    }

    @property
    def settings(self) -> dict[str, str]:
        return {**super().settings, "SCOPE": "openid profile email groups", "END_SESSION": "yes"}

    def discovery_document(self) -> dict[str, Any]:
        return {**super().discovery_document(), "revocation_endpoint": self.revocation_url}

    def id_token_claims(self, grant: Grant) -> dict[str, Any]:
        return {"sub": f"00u-{grant.user or _MEMBER}"}

    def user_document(self, login: str) -> dict[str, object]:
        name = login or _MEMBER
        address = {"email": f"{name}@corp.example", "email_verified": True}
        return {"sub": f"00u-{name}", "preferred_username": f"{name}@corp.example", "name": name.title(), **address}

    def profile(self, request: Request) -> Response:
        response, grant = super().profile(request), self.find_grant(request.headers.get("Authorization", ""))
        document = response.get_json(silent=True)
        if grant is None or "groups" not in grant.scopes or not isinstance(document, dict):
            return response
        groups = ["Everyone", "Wiki Editors"] if self.is_member(grant.user) else ["Everyone"]
        return json_response({**document, "groups": groups})

    def decide(self, request: Request) -> Response:
        if request.form.get("user") == "unassigned":
            description = "User is not assigned to the client application."
            return self.redirect_with_error(request, "access_denied", description)
        return super().decide(request)


class GitHubEnterprise(Product):
    """GitHub Enterprise. Lists have pages and need scopes, and the token endpoint reports errors with status 200.

    https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps,
    https://docs.github.com/rest/using-the-rest-api/using-pagination-in-the-rest-api
    """

    name = "github-enterprise"
    rule = "group:octo-org/wiki-editors"
    authorization_path = "/login/oauth/authorize"
    token_path = "/login/oauth/access_token"
    profile_path = "/api/v3/user"
    scopes = ("read:org", "user:email")
    errors: ClassVar[Mapping[str, tuple[str, str]]] = {
        "access_denied": ("access_denied", "The user has denied your application access."),
        "invalid_client": ("incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect."),
        "invalid_grant": ("bad_verification_code", "The code passed is incorrect or expired."),
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(default_scope="", refresh_tokens=False, **options)
        organizations = [*({"login": f"org-{number}"} for number in range(150)), {"login": "octo-org"}]
        names = [*(("other-org", f"team-{number}") for number in range(150)), ("octo-org", "wiki-editors")]
        teams = [{"slug": slug, "organization": {"login": organization}} for organization, slug in names]
        address = {"email": OCTOCAT["email"], "verified": True, "primary": True}
        lists: dict[str, tuple[str, int, list[Any]]] = {
            "orgs": ("read:org", 403, organizations),
            "teams": ("read:org", 403, teams),
            "emails": ("user:email", 404, [address]),
        }
        for name, (scope, status, items) in lists.items():
            self.routes[f"{self.profile_path}/{name}"] = ("list", {"GET": self._serve_list(scope, status, items)})
        self.routes[f"/api/v3/applications/{self.client_id}/token"] = ("revoke", {"DELETE": self.delete_token})

    def _serve_list(self, scope: str, status: int, items: list[Any]) -> Callable[[Request], Response]:
        """Return the handler of a list: *items* for the member, empty for other users, *status* without *scope*."""

        def respond(request: Request) -> Response:
            grant = self.find_grant(request.headers.get("Authorization", ""))
            if grant is None:
                return json_response({"message": "Bad credentials"}, 401)
            if scope not in grant.scopes:
                return json_response({"message": "Not Found" if status == 404 else f"Requires {scope}"}, status)
            listed = items if self.is_member(grant.user) else []
            size, page = (request.args.get(name, default, int) for name, default in (("per_page", 30), ("page", 1)))
            response = json_response(listed[(page - 1) * size : page * size])
            if page * size < len(listed):
                query = urlencode({"per_page": size, "page": page + 1})
                response.headers["Link"] = f'<{request.base_url}?{query}>; rel="next"'
            return response

        return respond

    def token(self, request: Request) -> Response:
        """POST /login/oauth/access_token: form-encoded unless the client accepts JSON; the token does not expire."""
        response = super().token(request)
        document = response.get_json(silent=True)
        if not isinstance(document, dict):
            return response
        document.pop("expires_in", None)
        if "access_token" in document:
            document["scope"] = ",".join(document.get("scope", "").split())
        if "application/json" in request.headers.get("Accept", ""):
            return json_response(document)
        return Response(urlencode(document), content_type="application/x-www-form-urlencoded; charset=utf-8")

    def delete_token(self, request: Request) -> Response:
        """DELETE /api/v3/applications/{client_id}/token: https://docs.github.com/rest/apps/oauth-applications."""
        credentials = request.authorization
        if credentials is None or (credentials.username, credentials.password) != (self.client_id, self.client_secret):
            return json_response({"message": "Requires authentication"}, 401)
        grant = self.find_grant(f"Bearer {(request.get_json(silent=True) or {}).get('access_token')}")
        if grant is None:
            return json_response({"message": "Not Found"}, 404)
        grant.revoked = True
        return Response(status=204)


#: Profiles by the name of the option ``wsgi-oauth demo --profile``.
PROFILES: Mapping[str, Callable[[], LocalProvider]] = {
    "keycloak": Keycloak,
    "entra-id": EntraID,
    "adfs": ADFS,
    "okta": Okta,
    "github": GitHubEnterprise,
}
