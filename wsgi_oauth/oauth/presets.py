"""The providers that are known by name.

Each preset states where a provider differs from the specifications, with a link to the documentation that says so.
``docs/providers.md`` is generated from it. :mod:`.configured` looks presets up.
"""

from __future__ import annotations

from .provider import EmailsDocument, GroupsDocument, Provider, UserDocument

# Parameters that let the user sign in with another account (OpenID Connect Core 3.1.2.1). Every OpenID Connect provider
# supports `login`, which asks for the password again; `select_account` is optional.
_SELECT = (("prompt", "select_account"),)
_LOGIN = (("prompt", "login"),)

GITHUB = Provider(
    name="github",
    title="GitHub",
    registration_url="https://github.com/settings/applications/new",
    authorization_url="https://github.com/login/oauth/authorize",
    token_url="https://github.com/login/oauth/access_token",
    profile_url="https://api.github.com/user",
    # https://docs.github.com/rest/apps/oauth-applications#delete-an-app-token
    revocation_url="https://api.github.com/applications/{client_id}/token",
    revocation_by="github",
    # GitHub sends `iss` with only some authorization responses, so it is checked but not required.
    issuer="https://github.com/login/oauth",
    # https://github.blog/changelog/2024-06-07-account-picker-updates-for-oauth-and-github-app-sign-in/
    choose_account=_SELECT,
    # https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
    client_auth="post",
    # The public profile does not say whether the email address is verified.
    user=UserDocument(subject="id", username="login", email_verified=""),
    username_is_unique=True,
    # https://docs.github.com/rest/users/emails#list-email-addresses-for-the-authenticated-user
    emails=EmailsDocument("https://api.github.com/user/emails?per_page=100", "user:email"),
    groups=(
        # https://docs.github.com/rest/orgs/orgs#list-organizations-for-the-authenticated-user
        GroupsDocument("https://api.github.com/user/orgs?per_page=100", "read:org"),
        # https://docs.github.com/rest/teams/teams#list-teams-for-the-authenticated-user
        GroupsDocument(
            "https://api.github.com/user/teams?per_page=100", "read:org", name="slug", parent="organization.login"
        ),
    ),
    notes=(
        "The public profile contains an unverified email address or none. With the scope `user:email`, the verified "
        "addresses are read from GitHub's list of addresses.",
        "Groups are organizations (`octo-org`) and teams (`octo-org/team`, with the team's name as in its URL).",
        "A GitHub App has permissions in place of scopes: *Email addresses* (read) of the account, and *Members* "
        "(read) of the organization.",
        "Access tokens of an OAuth app do not expire. Those of a GitHub App expire, and are refreshed.",
        "An organization that restricts OAuth apps is missing from its members' groups until it approves your app.",
    ),
)

GITLAB = Provider(
    # https://docs.gitlab.com/integration/openid_connect_provider/
    name="gitlab",
    title="GitLab",
    registration_url="https://gitlab.com/-/user_settings/applications",
    authorization_url="https://gitlab.com/oauth/authorize",
    token_url="https://gitlab.com/oauth/token",
    profile_url="https://gitlab.com/oauth/userinfo",
    revocation_url="https://gitlab.com/oauth/revoke",  # https://docs.gitlab.com/api/oauth2/#revoke-a-token
    issuer="https://gitlab.com",
    openid=True,
    discovery=True,
    scope="openid profile email",
    user=UserDocument(groups="groups"),
    username_is_unique=True,
    notes=(
        "Register the application with the scopes `openid`, `profile` and `email`.",
        "Groups are full paths (`company/team`). The parent groups of a user's groups are included.",
    ),
)

_ENTRIES = (
    Provider(
        # https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/
        name="atlassian",
        title="Atlassian",
        registration_url="https://developer.atlassian.com/console/myapps/",
        authorization_url="https://auth.atlassian.com/authorize",
        token_url="https://auth.atlassian.com/oauth/token",
        profile_url="https://api.atlassian.com/me",
        scope="read:me offline_access",
        authorization_parameters=(("audience", "api.atlassian.com"), ("prompt", "consent")),  # both are required
        client_auth="post",
        user=UserDocument(subject="account_id", username="nickname", email_verified=""),  # not documented
        notes=(
            "Add the *User identity API* with the scope `read:me` to the app.",
            "Atlassian asks users for consent at each sign-in.",
        ),
    ),
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
        choose_account=_LOGIN,
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
        choose_account=_LOGIN,
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
        # https://developer.atlassian.com/cloud/bitbucket/oauth-2/
        name="bitbucket",
        title="Bitbucket Cloud",
        registration_url="https://support.atlassian.com/bitbucket-cloud/docs/use-oauth-on-bitbucket-cloud/",
        authorization_url="https://bitbucket.org/site/oauth2/authorize",
        token_url="https://bitbucket.org/site/oauth2/access_token",
        profile_url="https://api.bitbucket.org/2.0/user",
        user=UserDocument(subject="uuid", username="", name="display_name", email="", email_verified=""),
        # https://developer.atlassian.com/cloud/bitbucket/rest/api-group-users/#api-user-emails-get
        emails=EmailsDocument(
            "https://api.bitbucket.org/2.0/user/emails",
            "email",
            items="values",
            verified="is_confirmed",
            primary="is_primary",
            next_page="next",  # https://developer.atlassian.com/cloud/bitbucket/rest/intro/#pagination
        ),
        notes=(
            "Select the scopes *Account: Read* and *Account: Email* in the OAuth consumer. The application does not "
            "request scopes.",
            "Bitbucket has no unique usernames. The subject is the user's UUID in braces.",
        ),
    ),
    Provider(
        # https://discord.com/developers/docs/topics/oauth2
        name="discord",
        title="Discord",
        registration_url="https://discord.com/developers/applications",
        authorization_url="https://discord.com/oauth2/authorize",
        token_url="https://discord.com/api/oauth2/token",
        profile_url="https://discord.com/api/users/@me",
        revocation_url="https://discord.com/api/oauth2/token/revoke",
        scope="identify email",
        # `username` is not unique: https://discord.com/developers/docs/resources/user
        user=UserDocument(
            subject="id", username="username", name="global_name username", email="email", email_verified="verified"
        ),
        # One page has 200 servers, and a user cannot join more. Their names are not unique.
        groups=(GroupsDocument("https://discord.com/api/users/@me/guilds", "guilds", name="id"),),
        notes=("Groups are the ids of the user's servers, because the names of servers are not unique.",),
    ),
    Provider(
        # https://developers.dropbox.com/oauth-guide
        name="dropbox",
        title="Dropbox",
        registration_url="https://www.dropbox.com/developers/apps",
        authorization_url="https://www.dropbox.com/oauth2/authorize",
        token_url="https://api.dropboxapi.com/oauth2/token",
        profile_url="https://api.dropboxapi.com/2/users/get_current_account",
        scope="account_info.read",
        authorization_parameters=(("token_access_type", "offline"),),  # for a refresh token
        choose_account=(("force_reauthentication", "true"),),
        profile_method="POST",  # https://www.dropbox.com/developers/documentation/http/documentation: RPC endpoints
        user=UserDocument(subject="account_id", username="", name="name.display_name", groups="team.id"),
        notes=("The only group is the id of the user's Dropbox team.",),
    ),
    Provider(
        # https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow
        name="facebook",
        title="Facebook",
        registration_url="https://developers.facebook.com/apps/",
        # URLs without a version use the oldest version that the app may use. A version stops working after two years:
        # https://developers.facebook.com/docs/graph-api/guides/versioning
        authorization_url="https://www.facebook.com/dialog/oauth",
        token_url="https://graph.facebook.com/oauth/access_token",
        profile_url="https://graph.facebook.com/me?fields=id,name,email",
        scope="public_profile email",
        client_auth="post",
        # Before API version 2.3 token responses were form-encoded but declared as text/plain.
        compliance_fix="facebook",
        user=UserDocument(subject="id", username="", email_verified=""),
        notes=(
            "A user has a different id in each app.",
            "Accounts may have no email address. Facebook does not say whether an address is verified.",
            "Facebook issues no refresh tokens. An access token is valid for about two months.",
        ),
    ),
    GITHUB,
    GITHUB._replace(
        # https://docs.github.com/enterprise-server/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
        name="github-enterprise",
        title="GitHub Enterprise Server",
        registration_url="{issuer}/settings/applications/new",
        authorization_url="{issuer}/login/oauth/authorize",
        token_url="{issuer}/login/oauth/access_token",
        profile_url="{issuer}/api/v3/user",
        revocation_url="{issuer}/api/v3/applications/{client_id}/token",
        # No documentation says which `iss` it sends, and its metadata "contain incorrect information":
        # https://docs.github.com/enterprise-server@3.16/apps/github-authentication-discovery-endpoints
        issuer=None,
        issuer_example="https://github.example.com",
        emails=EmailsDocument("{issuer}/api/v3/user/emails?per_page=100", "user:email"),
        groups=tuple(
            each._replace(url=each.url.replace("https://api.github.com", "{issuer}/api/v3")) for each in GITHUB.groups
        ),
        notes=(
            "Set `WSGI_OAUTH_ISSUER` to the URL of the server.",
            "The public profile contains an unverified email address or none. With the scope `user:email`, the "
            "verified addresses are read from the server's list of addresses.",
            "Groups are organizations (`octo-org`) and teams (`octo-org/team`, with the team's name as in its URL).",
        ),
    ),
    GITLAB,
    GITLAB._replace(
        name="gitlab-self-managed",
        title="GitLab, self-managed",
        registration_url="{issuer}/-/user_settings/applications",
        authorization_url="{issuer}/oauth/authorize",
        token_url="{issuer}/oauth/token",
        profile_url="{issuer}/oauth/userinfo",
        revocation_url="{issuer}/oauth/revoke",
        issuer="{issuer}",
        issuer_example="https://gitlab.example.com",
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
        choose_account=_SELECT,
        client_auth="post",
        user=UserDocument(username=""),
        notes=(
            "Google issues a refresh token only when a user gives consent for the first time. Without one, the next "
            "sign-in needs a redirect but no click.",
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
        choose_account=_LOGIN,
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
        # https://learn.microsoft.com/linkedin/consumer/integrations/self-serve/sign-in-with-linkedin-v2
        name="linkedin",
        title="LinkedIn",
        registration_url="https://www.linkedin.com/developers/apps",
        authorization_url="https://www.linkedin.com/oauth/v2/authorization",
        token_url="https://www.linkedin.com/oauth/v2/accessToken",
        profile_url="https://api.linkedin.com/v2/userinfo",
        # The ID token is ignored, because it has no nonce (https://github.com/directus/directus/issues/23645) and its
        # issuer has changed without notice (https://github.com/keycloak/keycloak/issues/28686).
        scope="openid profile email",
        client_auth="post",
        # LinkedIn answers "invalid_client" to a code verifier together with a client secret:
        # https://github.com/UsefulSoftwareCo/executor/issues/2087, https://github.com/teamhanko/hanko/pull/2405
        pkce=False,
        user=UserDocument(username=""),
        notes=(
            "Add the product *Sign In with LinkedIn using OpenID Connect* to the app.",
            "LinkedIn rejects PKCE together with a client secret, so only the state protects a sign-in.",
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
        choose_account=_SELECT,
        client_auth="post",
        # Administrators of any tenant can set any email address, so it must not identify users:
        # https://learn.microsoft.com/entra/identity-platform/claims-validation
        user=UserDocument(username="", email_verified=""),
        notes=(
            "Register the application under *App registrations*. The UUID in the issuer is the *Directory (tenant) "
            "ID*. `common`, `organizations` and `consumers` do not work, because each tenant is a different issuer.",
            "Email addresses count as unverified, so the access rule `email:` matches no user.",
            "A user has a different subject in each application.",
        ),
    ),
    Provider(
        # https://developers.notion.com/docs/authorization
        name="notion",
        title="Notion",
        registration_url="https://www.notion.so/profile/integrations",
        authorization_url="https://api.notion.com/v1/oauth/authorize",
        # The documentation shows JSON, but the endpoint accepts form encoding (RFC 6749 4.1.3), as Auth.js sends it:
        # https://github.com/nextauthjs/next-auth/blob/main/packages/core/src/providers/notion.ts
        token_url="https://api.notion.com/v1/oauth/token",
        profile_url="https://api.notion.com/v1/users/me",
        authorization_parameters=(("owner", "user"),),
        profile_headers=(("Notion-Version", "2022-06-28"),),  # https://developers.notion.com/reference/versioning
        # The token belongs to a bot, whose owner is the user: https://developers.notion.com/reference/get-self
        user=UserDocument(
            subject="bot.owner.user.id",
            username="",
            name="bot.owner.user.name",
            email="bot.owner.user.person.email",
            email_verified="",
        ),
        notes=(
            "Register a *public* integration with the capability to read user information including email addresses.",
            "Notion asks users which pages to share.",
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
        choose_account=_LOGIN,
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
        # https://docs.slack.dev/authentication/sign-in-with-slack/
        name="slack",
        title="Slack",
        registration_url="https://api.slack.com/apps",
        authorization_url="https://slack.com/openid/connect/authorize",
        token_url="https://slack.com/api/openid.connect.token",
        profile_url="https://slack.com/api/openid.connect.userInfo",
        issuer="https://slack.com",
        openid=True,
        discovery=True,
        scope="openid profile email",
        # Slack supports PKCE for public clients only. Together with a client secret it leads to "internal_error":
        # https://github.com/paradigmxyz/centaur/pull/1101. The nonce protects the code instead, as in Auth.js.
        pkce=False,
        # The compliance fix of requests-oauthlib is not used, because it moves the token from the header to the body
        # or URL (RFC 9700 4.3.2). The header works: https://docs.slack.dev/reference/methods/openid.connect.userInfo/
        user=UserDocument(username="", groups="https://slack.com/team_id"),
        notes=(
            "The redirect URI must be an https URL, even on your own machine.",
            "The only group is the id of the workspace (`T0R7GR`). Users of any workspace can sign in to an app "
            "that is distributed publicly.",
            "Slack rejects PKCE together with a client secret, so the nonce of the ID token protects a sign-in.",
        ),
    ),
    Provider(
        # https://developer.spotify.com/documentation/web-api/tutorials/code-flow
        name="spotify",
        title="Spotify",
        registration_url="https://developer.spotify.com/dashboard",
        authorization_url="https://accounts.spotify.com/authorize",
        token_url="https://accounts.spotify.com/api/token",
        profile_url="https://api.spotify.com/v1/me",
        scope="user-read-email",
        choose_account=(("show_dialog", "true"),),
        # "This email address is unverified; there is no proof that it actually belongs to the user":
        # https://developer.spotify.com/documentation/web-api/reference/get-current-users-profile
        user=UserDocument(subject="id", username="", name="display_name", email_verified=""),
        notes=(
            "Spotify does not verify email addresses, so the access rule `email:` matches no user.",
            "While an app is in development mode, only the users in its list can sign in.",
            "On your own machine register `http://127.0.0.1:8000/callback`, because Spotify rejects `localhost`.",
        ),
    ),
    Provider(
        # https://dev.twitch.tv/docs/authentication/getting-tokens-oidc/
        name="twitch",
        title="Twitch",
        registration_url="https://dev.twitch.tv/console/apps",
        authorization_url="https://id.twitch.tv/oauth2/authorize",
        token_url="https://id.twitch.tv/oauth2/token",
        profile_url="https://id.twitch.tv/oauth2/userinfo",
        revocation_url="https://id.twitch.tv/oauth2/revoke",
        issuer="https://id.twitch.tv/oauth2",
        openid=True,
        discovery=True,
        scope="openid user:read:email",
        # Twitch returns only the subject and the claims that are requested by name (OpenID Connect Core 5.5).
        authorization_parameters=(
            ("claims", '{"userinfo":{"email":null,"email_verified":null,"preferred_username":null}}'),
        ),
        choose_account=(("force_verify", "true"),),
        client_auth="post",
        lists_scopes=True,
        user=UserDocument(name="preferred_username"),
        notes=("The username is the display name, not the login, and can look like another user's.",),
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
        choose_account=_SELECT,
        user=UserDocument(),
        username_is_unique=True,  # the login name, which contains the domain of the organization
        notes=(
            "Register a *Web* application with the authentication method *Basic*, or set `WSGI_OAUTH_CLIENT_AUTH`.",
            "To get refresh tokens, allow them in the application, and set `WSGI_OAUTH_SCOPE` to "
            "`openid profile email offline_access`.",
        ),
    ),
    Provider(
        # https://developers.zoom.us/docs/integrations/oauth/
        name="zoom",
        title="Zoom",
        registration_url="https://marketplace.zoom.us/develop/create",
        authorization_url="https://zoom.us/oauth/authorize",
        token_url="https://zoom.us/oauth/token",
        profile_url="https://api.zoom.us/v2/users/me",
        revocation_url="https://zoom.us/oauth/revoke",
        # `verified` is 0 or 1, and the documentation does not say what it means.
        user=UserDocument(
            subject="id", username="", name="display_name first_name", email_verified="", groups="account_id"
        ),
        notes=(
            "Add the scope `user:read:user` to the app. The application does not request scopes.",
            "The only group is the id of the Zoom account that the user belongs to.",
        ),
    ),
)

PRESETS = {preset.name: preset for preset in _ENTRIES}
