"""Identity providers that companies use for their employees: services, and servers that they host themselves."""

from __future__ import annotations

from functools import partial

from ...config.provider import (
    END_SESSION_PARAMETERS,
    LOG_IN_AGAIN,
    SELECT_ACCOUNT,
    GroupsDocument,
    Provider,
    UserDocument,
)

# Issuers on these hosts are tenants of Microsoft Entra ID: https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
MICROSOFT_HOSTS = ("login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn")

# An OpenID Connect provider with an installation or tenant for each customer. WSGI_OAUTH_ISSUER is its URL.
_openid_issuer = partial(
    Provider, issuer="{issuer}", openid=True, discovery=True, scope="openid profile email", choose_account=LOG_IN_AGAIN
)

PROVIDERS = (
    _openid_issuer(
        name="adfs",
        title="AD FS",
        documentation_url="https://learn.microsoft.com/windows-server/identity/ad-fs/overview/ad-fs-openid-connect-oauth-flows-scenarios",
        registration_url="https://learn.microsoft.com/windows-server/identity/ad-fs/development/custom-id-tokens-in-ad-fs",
        issuer_example="https://adfs.example.com/adfs",
        # With `allatclaims`, the ID token contains the claims of the Web API's issuance rules. UserInfo has only `sub`:
        # https://learn.microsoft.com/windows-server/identity/ad-fs/development/custom-id-tokens-in-ad-fs
        scope="openid profile email allatclaims",
        client_auth="post",
        # A partner's claims provider can set any user principal name, and nothing says that an address was verified.
        user=UserDocument(
            username="upn unique_name", name="name unique_name", email_verified="", groups="group groups"
        ),
        notes=(
            "Windows Server 2016 with update KB4019472, or a later version.",
            "The issuer is the *Federation Service identifier* in the metadata, mostly `https://<host>/adfs`.",
            "Names and groups come from the ID token. A name is sent in the claim `name` or `unique_name`, groups in "
            "the claim `group` or `groups`, as your issuance rules call them.",
            "AD FS does not say that email addresses are verified. If only your administrators set them, "
            "`WSGI_OAUTH_TRUST_UNVERIFIED_EMAIL=yes` enables the access rule `email:`.",
        ),
    ),
    _openid_issuer(
        name="amazon-cognito",
        title="Amazon Cognito",
        documentation_url="https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-userpools-server-contract-reference.html",
        registration_url="https://console.aws.amazon.com/cognito/v2/idp/user-pools",
        issuer_example="https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE",
        # https://docs.aws.amazon.com/cognito/latest/developerguide/logout-endpoint.html
        end_session_parameters=(("client_id", "{client_id}"), ("logout_uri", "{signed_out_url}")),
        # Users choose their usernames, and a deleted user's name can be taken by another one.
        user=UserDocument(username="cognito:username username", groups="cognito:groups"),
        notes=(
            "The issuer is the *Token signing key URL* of the user pool without `/.well-known/jwks.json`. It contains "
            "the region and the id of the pool.",
            "Add a domain to the user pool, and an app client with a client secret, the *Authorization code grant* "
            "and the scopes `openid`, `profile` and `email`.",
            "Groups of the user pool come from the claim `cognito:groups` of the ID token.",
            "With `WSGI_OAUTH_END_SESSION=yes`, register `<public URL>/signed-out` as an allowed sign-out URL.",
        ),
    ),
    _openid_issuer(
        name="auth0",
        title="Auth0",
        documentation_url="https://auth0.com/docs/get-started/applications/configure-applications-with-oidc-discovery",
        registration_url="https://manage.auth0.com/",
        issuer_example="https://example.eu.auth0.com/",
        # Tenants without RP-initiated logout have another endpoint, which reads `returnTo`:
        # https://auth0.com/docs/authenticate/login/logout/redirect-users-after-logout
        end_session_parameters=(*END_SESSION_PARAMETERS, ("returnTo", "{signed_out_url}")),
        # https://auth0.com/docs/manage-users/user-accounts/user-profiles/user-profile-structure
        user=UserDocument(username="nickname"),
        notes=(
            "To sign out at Auth0, too, set `WSGI_OAUTH_END_SESSION=yes`, or to "
            "`https://example.eu.auth0.com/v2/logout` for a tenant without *RP-Initiated Logout*. Add `<public "
            "URL>/signed-out` to the *Allowed Logout URLs*.",
            "The issuer ends with a slash. Do not leave the slash out.",
            "To get refresh tokens, allow them in the application's settings, and set `WSGI_OAUTH_SCOPE` to `openid "
            "profile email offline_access`.",
        ),
    ),
    _openid_issuer(
        name="authelia",
        title="Authelia",
        documentation_url="https://www.authelia.com/integration/openid-connect/openid-connect-1.0-claims/",
        registration_url="https://www.authelia.com/configuration/identity-providers/openid-connect/clients/",
        issuer_example="https://auth.example.com",
        choose_account=(),
        scope="openid profile email groups",  # the default scopes of a client in Authelia's configuration
        user=UserDocument(groups="groups"),
        username_is_unique=True,  # administrators assign usernames
        notes=(
            "Add the client to `identity_providers.oidc.clients` in Authelia's configuration, with the hash of the "
            "secret.",
            "Authelia reports every email address as verified, because only administrators set addresses.",
        ),
    ),
    _openid_issuer(
        name="authentik",
        title="authentik",
        documentation_url="https://docs.goauthentik.io/add-secure-apps/providers/oauth2/",
        registration_url="{issuer}",
        issuer_example="https://authentik.example.com/application/o/myapp/",
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
    _openid_issuer(
        name="azure-ad-b2c",
        title="Azure AD B2C",
        documentation_url="https://learn.microsoft.com/azure/active-directory-b2c/openid-connect",
        registration_url="https://portal.azure.com/",
        issuer_example="https://contoso.b2clogin.com/11111111-2222-3333-4444-555555555555/v2.0/",
        # The client id as a scope requests an access token for the application itself, otherwise there is none:
        # https://learn.microsoft.com/azure/active-directory-b2c/access-tokens#request-a-token
        scope="openid offline_access {client_id}",
        client_auth="post",
        # Social identity providers of the tenant can send any address.
        user=UserDocument(username="", email="email emails.0", email_verified=""),
        notes=(
            "Set `WSGI_OAUTH_DISCOVERY_URL` to the metadata URL of the user flow, because it is not below the issuer: "
            "`https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_login/v2.0/.well-known/openid-configuration`. "
            "The issuer stands in that document, including the slash at the end.",
            "Select the claims *Display Name*, *Email Addresses* and *User's Object ID* as application claims of the "
            "user flow. They are in the ID token, because Azure AD B2C has no UserInfo endpoint.",
            "Leave *Subject (sub) claim* in the token settings of the user flow at *ObjectID*. With *Not supported*, "
            "all users would have the same id, and no one can sign in until `WSGI_OAUTH_SUBJECT_CLAIM` is `oid`.",
            "Choose a user flow of the version *Recommended*, and enable *Self-service password reset*: otherwise "
            "a forgotten password ends the sign-in with an error page (`AADB2C90118`).",
            "Since May 2025 Microsoft sells Azure AD B2C to existing customers only.",
        ),
    ),
    _openid_issuer(
        name="dex",
        title="Dex",
        documentation_url="https://dexidp.io/docs/configuration/custom-scopes-claims-clients/",
        registration_url="https://dexidp.io/docs/getting-started/#configuration",
        issuer_example="https://dex.example.com/dex",
        choose_account=(),
        scope="openid profile email groups",
        # Two connectors can have the same username for different users.
        user=UserDocument(groups="groups"),
        notes=(
            "Add the client to `staticClients` in Dex's configuration.",
            "Groups and verified addresses are those that the connector reports. A connector with "
            "`insecureSkipEmailVerified` reports every address as verified.",
            "To get refresh tokens, set `WSGI_OAUTH_SCOPE` to `openid profile email groups offline_access`.",
        ),
    ),
    Provider(
        name="google",
        title="Google",
        documentation_url="https://developers.google.com/identity/openid-connect/openid-connect",
        registration_url="https://console.cloud.google.com/auth/clients",
        authorization_url="https://accounts.google.com/o/oauth2/v2/auth",
        token_url="https://oauth2.googleapis.com/token",
        profile_url="https://openidconnect.googleapis.com/v1/userinfo",
        revocation_url="https://oauth2.googleapis.com/revoke",
        jwks_url="https://www.googleapis.com/oauth2/v3/certs",
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
    _openid_issuer(
        name="jumpcloud",
        title="JumpCloud",
        documentation_url="https://jumpcloud.com/support/sso-with-oidc",
        registration_url="https://console.jumpcloud.com/#/sso",
        issuer_example="https://oauth.id.jumpcloud.com/",
        # JumpCloud does not document that addresses are verified.
        user=UserDocument(email_verified="", groups="groups memberOf"),
        notes=(
            "Add a *Custom Application* with *Manage Single Sign-On* and *Configure SSO with OIDC*. The issuer "
            "depends on the region: `https://oauth.id.jumpcloud.com/`, `https://oauth.id.eu.jumpcloud.com/` or "
            "`https://oauth.id.in.jumpcloud.com/`, including the slash at the end.",
            "Choose the client authentication *Client Secret Basic*, or set `WSGI_OAUTH_CLIENT_AUTH=post`.",
            "To get groups, select *include group attribute* and call it `groups` or `memberOf`.",
        ),
    ),
    _openid_issuer(
        name="keycloak",
        title="Keycloak",
        documentation_url="https://www.keycloak.org/securing-apps/oidc-layers",
        registration_url="{issuer}",
        authorization_url="{issuer}/protocol/openid-connect/auth",
        token_url="{issuer}/protocol/openid-connect/token",
        profile_url="{issuer}/protocol/openid-connect/userinfo",
        revocation_url="{issuer}/protocol/openid-connect/revoke",
        end_session_url="{issuer}/protocol/openid-connect/logout",
        jwks_url="{issuer}/protocol/openid-connect/certs",
        issuer_example="https://keycloak.example.com/realms/myrealm",
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
    _openid_issuer(
        name="microsoft",
        title="Microsoft Entra ID",
        documentation_url="https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc",
        registration_url="https://entra.microsoft.com/",
        issuer_example="https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0",
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
            "their *Object Id*: `group:6b0e2a35-0d0b-4a0e-9c8e-3d1a6f2d7c11`. If a user has more than 200 groups, "
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
            "Request no scope of another API (`api://...`), because Entra ID issues a token for one API only: its "
            "UserInfo endpoint would refuse it.",
            "In place of a client secret, Entra ID takes no key without a certificate, but federated credentials, in a "
            "[file that the platform renews](operating.md#client-authentication-with-a-key).",
        ),
    ),
    _openid_issuer(
        name="okta",
        title="Okta",
        documentation_url="https://developer.okta.com/docs/reference/api/oidc/",
        registration_url="https://login.okta.com/",
        issuer_example="https://example.okta.com/oauth2/default",
        user=UserDocument(groups="groups"),
        username_is_unique=True,
        notes=(
            "The issuer is the URL of an authorization server (*Security, API*), or the URL of your Okta domain.",
            "To get refresh tokens, allow them in the application, and set `WSGI_OAUTH_SCOPE` to "
            "`openid profile email offline_access`.",
            "To get groups, add a `groups` claim to the authorization server, and add the scope `groups`.",
        ),
    ),
    _openid_issuer(
        name="onelogin",
        title="OneLogin",
        documentation_url="https://developers.onelogin.com/openid-connect",
        registration_url="https://developers.onelogin.com/openid-connect/connect-to-onelogin",
        issuer_example="https://example.onelogin.com/oidc/2",
        scope="openid profile email groups",  # https://developers.onelogin.com/openid-connect/scopes
        user=UserDocument(email_verified="", groups="groups"),  # OneLogin does not document that addresses are verified
        notes=(
            "Add the application *OpenId Connect (OIDC)*. Choose the token endpoint's authentication method *Basic*, "
            "or set `WSGI_OAUTH_CLIENT_AUTH=post`.",
            "To send groups, open the parameter *Groups* of the application and choose which roles or groups it "
            "contains.",
        ),
    ),
    _openid_issuer(
        name="ory-hydra",
        title="Ory Hydra",
        documentation_url="https://www.ory.com/docs/hydra/self-hosted/quickstart",
        registration_url="https://www.ory.com/docs/hydra/guides/oauth2-clients",
        issuer_example="https://hydra.example.com",
        user=UserDocument(groups="groups"),
        notes=(
            "Create the client with `hydra create oauth2-client --grant-type authorization_code,refresh_token "
            "--response-type code --scope openid,profile,email --redirect-uri <your redirect URI>`.",
            "Your consent application decides which claims Hydra sends, including verified addresses and groups.",
            "The issuer is Hydra's setting `urls.self.issuer`, with a slash at the end if it has one there.",
        ),
    ),
    _openid_issuer(
        name="pingone",
        title="PingOne (Ping Identity)",
        documentation_url="https://docs.pingidentity.com/pingone/applications/p1_add_app_worker.html",
        # https://developer.pingidentity.com/pingone-api/auth/openid-connect-oauth-2.html
        registration_url="https://console.pingone.com/",
        issuer_example="https://auth.pingone.eu/11111111-2222-3333-4444-555555555555/as",
        user=UserDocument(groups="groups memberOfGroupNames"),
        notes=(
            "Add an application of the type *OIDC Web App*. Its page *Configuration* shows the issuer. PingFederate "
            "works with the URL of its issuer as `WSGI_OAUTH_PROVIDER`.",
            "To get groups, add the attribute `groups` with the value *Group Names* to the application's attribute "
            "mappings.",
        ),
    ),
    _openid_issuer(
        name="zitadel",
        title="ZITADEL",
        documentation_url="https://zitadel.com/docs/apis/openidoauth/endpoints",
        registration_url="{issuer}/ui/console",
        issuer_example="https://example.zitadel.cloud",
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
