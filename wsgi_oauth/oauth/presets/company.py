"""Identity providers that companies use for their employees: services, and servers that they host themselves."""

from __future__ import annotations

from ..provider import LOG_IN_AGAIN, SELECT_ACCOUNT, GroupsDocument, Provider, UserDocument

# Issuers on these hosts are tenants of Microsoft Entra ID: https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
MICROSOFT_HOSTS = ("login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn")

PROVIDERS = (
    Provider(
        # https://auth0.com/docs/get-started/applications/configure-applications-with-oidc-discovery
        name="auth0",
        title="Auth0",
        registration_url="https://manage.auth0.com/",
        issuer="{issuer}",
        issuer_example="https://example.eu.auth0.com/",
        openid=True,
        discovery=True,
        scope="openid profile email",
        choose_account=LOG_IN_AGAIN,
        # https://auth0.com/docs/manage-users/user-accounts/user-profiles/user-profile-structure
        user=UserDocument(username="nickname"),
        notes=(
            "The issuer ends with a slash. Do not leave the slash out.",
            "To get refresh tokens, allow them in the application's settings, and set `WSGI_OAUTH_SCOPE` to "
            "`openid profile email offline_access`.",
        ),
    ),
    Provider(
        # https://docs.goauthentik.io/add-secure-apps/providers/oauth2/
        name="authentik",
        title="authentik",
        registration_url="{issuer}",
        issuer="{issuer}",
        issuer_example="https://authentik.example.com/application/o/myapp/",
        openid=True,
        discovery=True,
        scope="openid profile email",
        choose_account=LOG_IN_AGAIN,
        user=UserDocument(groups="groups"),
        username_is_unique=True,
        notes=(
            "The issuer is the *OpenID Configuration Issuer* that authentik shows for the provider, including the "
            "slash at the end. Each application has its own issuer.",
            "To get refresh tokens, select the scope `offline_access` in the provider, and set `WSGI_OAUTH_SCOPE` to "
            "`openid profile email offline_access`.",
            # https://github.com/goauthentik/authentik/issues/16205
            "Before version 2025.10, authentik reports every email address as verified. Use the access rules `user:` "
            "or `group:` with these versions.",
        ),
    ),
    Provider(
        # https://developers.google.com/identity/openid-connect/openid-connect
        name="google",
        title="Google",
        registration_url="https://console.cloud.google.com/auth/clients",
        authorization_url="https://accounts.google.com/o/oauth2/v2/auth",
        token_url="https://oauth2.googleapis.com/token",
        profile_url="https://openidconnect.googleapis.com/v1/userinfo",
        revocation_url="https://oauth2.googleapis.com/revoke",
        issuer="https://accounts.google.com",
        openid=True,
        discovery=True,
        scope="openid profile email",
        # Requests a refresh token, which Google issues only when the user gives consent:
        # https://developers.google.com/identity/protocols/oauth2/web-server
        authorization_parameters=(("access_type", "offline"),),
        choose_account=SELECT_ACCOUNT,
        client_auth="post",
        user=UserDocument(username=""),
        notes=(
            "Google issues a refresh token only when a user gives consent for the first time. Without one, the next "
            "sign-in needs a redirect but no click.",
            # https://developers.google.com/identity/openid-connect/openid-connect#validatinganidtoken
            "To admit only the accounts of a Google Workspace organization, set "
            "`WSGI_OAUTH_ALLOW=claim:hd=example.com`.",
            "A Google account can have an email address of any domain. A verified address proves only that the user "
            "could once read its mail.",
        ),
    ),
    Provider(
        # https://www.keycloak.org/securing-apps/oidc-layers
        name="keycloak",
        title="Keycloak",
        registration_url="{issuer}",
        authorization_url="{issuer}/protocol/openid-connect/auth",
        token_url="{issuer}/protocol/openid-connect/token",
        profile_url="{issuer}/protocol/openid-connect/userinfo",
        revocation_url="{issuer}/protocol/openid-connect/revoke",
        end_session_url="{issuer}/protocol/openid-connect/logout",
        issuer="{issuer}",
        issuer_example="https://keycloak.example.com/realms/myrealm",
        openid=True,
        discovery=True,
        scope="openid profile email",
        choose_account=LOG_IN_AGAIN,
        user=UserDocument(groups="groups"),
        username_is_unique=True,
        notes=(
            "The issuer is the URL of the realm. Before version 17 it contains `/auth`: "
            "`https://keycloak.example.com/auth/realms/myrealm`.",
            "Register a client with *Client authentication* switched on.",
            "To get groups, add a *Group Membership* mapper with the claim name `groups` to the client, and add it to "
            "the userinfo.",
        ),
    ),
    Provider(
        # https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
        name="microsoft",
        title="Microsoft Entra ID",
        registration_url="https://entra.microsoft.com/",
        issuer="{issuer}",
        issuer_example="https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0",
        openid=True,
        discovery=True,
        scope="openid profile email offline_access",
        choose_account=SELECT_ACCOUNT,
        client_auth="post",
        # Administrators of any tenant can set any email address, so only the optional claim `xms_edov` verifies one:
        # https://learn.microsoft.com/entra/identity-platform/migrate-off-email-claim-authorization
        # Group ids and the roles of the application are in the ID token:
        # https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference
        user=UserDocument(email_verified="xms_edov", groups="groups roles"),
        groups=(
            # https://learn.microsoft.com/graph/api/user-list-transitivememberof
            GroupsDocument(
                url="https://graph.microsoft.com/v1.0/me/transitiveMemberOf?$select=id&$top=999",
                scope="User.Read",
                items="value",
                name="id",
                next_page="@odata.nextLink",
                for_overage=True,
            ),
        ),
        notes=(
            "Register the application under *App registrations*. The UUID in the issuer is the *Directory (tenant) "
            "ID*.",
            "To get groups, add a *groups claim* under *Token configuration* (for ID tokens). Rules name groups by "
            "their *Object Id*: `group:6b0e2a35-0d0b-4a0e-9c8e-3d1a6f2d7c11`. Of a user with more than 200 groups, "
            "they are read from Microsoft Graph, which needs the delegated permission `User.Read`.",
            "The *App roles* of a user count as groups, too: `group:App.Admin`. If the groups claim contains names "
            "instead of ids, a group can have the same name as a role. `claim:roles=App.Admin` matches the role only.",
            "An `email:` rule matches only addresses whose domain Microsoft has verified. Add the optional claims "
            "`email` and `xms_edov` to the ID token. Do not set `WSGI_OAUTH_TRUST_UNVERIFIED_EMAIL` for several "
            "tenants, because the administrators of each tenant can set any address.",
            "To admit several tenants, set `WSGI_OAUTH_ISSUER` to "
            "`https://login.microsoftonline.com/organizations/v2.0` (with personal accounts: `common`), and list the "
            'tenants: `WSGI_OAUTH_ALLOW="claim:tid=<first id> claim:tid=<second id>"`. Without such a rule, users '
            "of every tenant in the world can sign in. The subject of a user then begins with the tenant's id.",
            "A user has a different subject in each application. The username is the address with which the user "
            "signs in, and can pass to another user.",
        ),
    ),
    Provider(
        # https://developer.okta.com/docs/reference/api/oidc/
        name="okta",
        title="Okta",
        registration_url="https://login.okta.com/",
        issuer="{issuer}",
        issuer_example="https://example.okta.com/oauth2/default",
        openid=True,
        discovery=True,
        scope="openid profile email",
        choose_account=LOG_IN_AGAIN,
        user=UserDocument(groups="groups"),
        username_is_unique=True,
        notes=(
            "The issuer is the URL of an authorization server (*Security, API*), or the URL of your Okta domain.",
            "To get refresh tokens, allow them in the application, and set `WSGI_OAUTH_SCOPE` to "
            "`openid profile email offline_access`.",
            "To get groups, add a `groups` claim to the authorization server, and add the scope `groups`.",
        ),
    ),
    Provider(
        # https://zitadel.com/docs/apis/openidoauth/endpoints
        name="zitadel",
        title="ZITADEL",
        registration_url="{issuer}/ui/console",
        issuer="{issuer}",
        issuer_example="https://example.zitadel.cloud",
        openid=True,
        discovery=True,
        scope="openid profile email",
        choose_account=SELECT_ACCOUNT,
        user=UserDocument(),
        username_is_unique=True,  # the login name, which contains the domain of the organization
        notes=(
            "Register a *Web* application with the authentication method *Basic*, or set `WSGI_OAUTH_CLIENT_AUTH`.",
            "To get refresh tokens, allow them in the application, and set `WSGI_OAUTH_SCOPE` to "
            "`openid profile email offline_access`.",
        ),
    ),
)
