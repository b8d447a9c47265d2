"""Applications that teams work with: communication, documents, sales and payments."""

from __future__ import annotations

from ...config.provider import LOG_IN_AGAIN, GroupsDocument, Provider, UserDocument

PROVIDERS = (
    Provider(
        name="asana",
        title="Asana",
        documentation_url="https://developers.asana.com/docs/openid-connect",
        registration_url="https://app.asana.com/0/my-apps",
        authorization_url="https://app.asana.com/-/oauth_authorize",
        token_url="https://app.asana.com/-/oauth_token",
        profile_url="https://app.asana.com/api/1.0/openid_connect/userinfo",
        revocation_url="https://app.asana.com/-/oauth_revoke",  # https://developers.asana.com/docs/oauth#token-deauthorization-endpoint
        scope="openid profile email",
        client_auth="post",
        user=UserDocument(username="", email_verified=""),
        notes=(
            "Register the scopes `openid`, `profile` and `email`. An app with *Full permissions* cannot request them.",
        ),
    ),
    Provider(
        name="basecamp",
        title="Basecamp",
        documentation_url="https://github.com/basecamp/api/blob/master/sections/authentication.md",
        registration_url="https://launchpad.37signals.com/integrations",
        authorization_url="https://launchpad.37signals.com/authorization/new",
        token_url="https://launchpad.37signals.com/authorization/token?type=web_server",
        profile_url="https://launchpad.37signals.com/authorization.json",
        authorization_parameters=(("type", "web_server"),),  # from a draft of OAuth 2
        client_auth="post",
        user=UserDocument(
            subject="identity.id",
            username="",
            name="identity.first_name+identity.last_name",
            email="identity.email_address",
            email_verified="",
        ),
        groups=(GroupsDocument("https://launchpad.37signals.com/authorization.json", items="accounts", name="id"),),
        notes=(
            "Groups are the ids of the user's Basecamp accounts.",
            "A token is valid for two weeks, and is not refreshed.",
        ),
    ),
    Provider(
        name="box",
        title="Box",
        documentation_url="https://developer.box.com/guides/authentication/oauth2/without-sdk/",
        registration_url="https://app.box.com/developers/console",
        authorization_url="https://account.box.com/api/oauth2/authorize",
        token_url="https://api.box.com/oauth2/token",
        profile_url="https://api.box.com/2.0/users/me?fields=id,name,login,enterprise",
        revocation_url="https://api.box.com/oauth2/revoke",
        client_auth="post",
        # https://developer.box.com/reference/get-users-me/
        user=UserDocument(subject="id", username="", email="login", email_verified="", groups="enterprise.id"),
        notes=(
            "Create a *Custom App* with *User Authentication (OAuth 2.0)*. The application does not request scopes.",
            "The only group is the id of the enterprise.",
        ),
    ),
    Provider(
        name="dropbox",
        title="Dropbox",
        documentation_url="https://developers.dropbox.com/oauth-guide",
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
        name="eventbrite",
        title="Eventbrite",
        documentation_url="https://www.eventbrite.com/platform/api#/introduction/authentication",
        registration_url="https://www.eventbrite.com/account-settings/apps",
        authorization_url="https://www.eventbrite.com/oauth/authorize",
        token_url="https://www.eventbrite.com/oauth/token",
        profile_url="https://www.eventbriteapi.com/v3/users/me/",
        client_auth="post",
        user=UserDocument(
            subject="id",
            username="",
            email="emails.0.email",
            email_verified="emails.0.verified",
        ),
        notes=("An address counts as verified if it is the first one of the account and Eventbrite has verified it.",),
    ),
    Provider(
        name="figma",
        title="Figma",
        documentation_url="https://developers.figma.com/docs/rest-api/authentication/",
        registration_url="https://www.figma.com/developers/apps",
        authorization_url="https://www.figma.com/oauth",
        token_url="https://api.figma.com/v1/oauth/token",
        profile_url="https://api.figma.com/v1/me",
        scope="current_user:read",
        client_auth="basic",
        user=UserDocument(subject="id", username="", name="handle", email_verified=""),
        notes=("A token is valid for 90 days. Figma refreshes tokens at another URL, which is not used.",),
    ),
    Provider(
        name="intuit",
        title="Intuit",
        documentation_url="https://developer.intuit.com/app/developer/qbo/docs/develop/authentication-and-authorization/openid-connect",
        registration_url="https://developer.intuit.com/app/developer/dashboard",
        authorization_url="https://appcenter.intuit.com/connect/oauth2",
        token_url="https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer",
        profile_url="https://accounts.platform.intuit.com/v1/openid_connect/userinfo",
        revocation_url="https://developer.api.intuit.com/v2/oauth2/tokens/revoke",
        scope="openid profile email",
        client_auth="basic",
        user=UserDocument(username="", name="givenName+familyName", email_verified="emailVerified"),
        notes=(
            "With the keys for development, set `WSGI_OAUTH_PROFILE_URL` to "
            "`https://sandbox-accounts.platform.intuit.com/v1/openid_connect/userinfo`.",
        ),
    ),
    Provider(
        name="mailchimp",
        title="Mailchimp",
        documentation_url="https://mailchimp.com/developer/marketing/guides/access-user-data-oauth-2/",
        registration_url="https://admin.mailchimp.com/account/oauth2/",
        authorization_url="https://login.mailchimp.com/oauth2/authorize",
        token_url="https://login.mailchimp.com/oauth2/token",
        profile_url="https://login.mailchimp.com/oauth2/metadata",
        client_auth="post",
        user=UserDocument(
            subject="login.login_id",
            username="",
            name="login.login_name",
            email="login.email login.login_email",
            email_verified="",
            groups="user_id",
        ),
        notes=(
            "The only group is the id of the Mailchimp account (`user_id`).",
            "On your own machine register `http://127.0.0.1:8000/callback`, because Mailchimp rejects `localhost`.",
            "Tokens do not expire.",
        ),
    ),
    Provider(
        name="mattermost",
        title="Mattermost",
        documentation_url="https://developers.mattermost.com/integrate/apps/authentication/oauth2/",
        registration_url="{issuer}",
        authorization_url="{issuer}/oauth/authorize",
        token_url="{issuer}/oauth/access_token",
        # https://developers.mattermost.com/api-documentation/#/operations/GetUser
        profile_url="{issuer}/api/v4/users/me",
        issuer_example="https://mattermost.example.com",
        client_auth="post",
        # Users can change their usernames.
        user=UserDocument(subject="id", username="username", name="first_name+last_name nickname username"),
        groups=(GroupsDocument("{issuer}/api/v4/users/me/teams", name="name"),),
        notes=(
            "Set `WSGI_OAUTH_ISSUER` to the URL of the server.",
            "Switch on the OAuth 2.0 service provider in the system console, and add the application under "
            "*Integrations*, *OAuth 2.0 Applications*.",
            "Groups are the names of the user's teams as in their URLs.",
        ),
    ),
    Provider(
        name="miro",
        title="Miro",
        documentation_url="https://developers.miro.com/docs/getting-started-with-oauth",
        registration_url="https://miro.com/app/settings/user-profile/apps",
        authorization_url="https://miro.com/oauth/authorize",
        token_url="https://api.miro.com/v1/oauth/token",
        profile_url="https://api.miro.com/v1/oauth-token",  # https://developers.miro.com/reference/get-access-token-information
        client_auth="post",
        user=UserDocument(
            subject="user.id", username="", name="user.name", email="", email_verified="", groups="team.id"
        ),
        notes=("The only group is the id of the team for which the user installed the app.",),
    ),
    Provider(
        name="nextcloud",
        title="Nextcloud",
        documentation_url="https://docs.nextcloud.com/server/latest/admin_manual/configuration_server/oauth2.html",
        registration_url="{issuer}/settings/admin/security",
        authorization_url="{issuer}/apps/oauth2/authorize",
        token_url="{issuer}/apps/oauth2/api/v1/token",
        # https://docs.nextcloud.com/server/latest/developer_manual/client_apis/OCS/ocs-api-overview.html#user-metadata
        profile_url="{issuer}/ocs/v2.php/cloud/user?format=json",
        issuer_example="https://cloud.example.com",
        client_auth="post",
        profile_headers=(("OCS-APIRequest", "true"),),
        # A user's id is the username at the sign-in, which never changes:
        # https://docs.nextcloud.com/server/latest/admin_manual/configuration_user/user_configuration.html
        user=UserDocument(
            subject="ocs.data.id",
            username="ocs.data.id",
            name="ocs.data.displayname ocs.data.display-name",
            email="ocs.data.email",
            email_verified="",
            groups="ocs.data.groups",
        ),
        username_is_unique=True,
        notes=(
            "Set `WSGI_OAUTH_ISSUER` to the URL of the server, including `/index.php` if its URLs contain that.",
            "Add the client under *Administration settings*, *Security*, *OAuth 2.0 clients*.",
            "Users can change their email addresses without verification.",
        ),
    ),
    Provider(
        name="notion",
        title="Notion",
        documentation_url="https://developers.notion.com/docs/authorization",
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
        name="paypal",
        title="PayPal",
        documentation_url="https://developer.paypal.com/docs/log-in-with-paypal/integrate/",
        registration_url="https://developer.paypal.com/dashboard/applications/live",
        authorization_url="https://www.paypal.com/signin/authorize",
        token_url="https://api-m.paypal.com/v1/oauth2/token",
        # https://developer.paypal.com/docs/api/identity/v1/#userinfo_get
        profile_url="https://api-m.paypal.com/v1/identity/oauth2/userinfo?schema=paypalv1.1",
        scope="openid profile email",
        client_auth="basic",
        user=UserDocument(subject="user_id", username="", email="emails.0.value", email_verified="emails.0.confirmed"),
        notes=(
            "Switch on *Log in with PayPal* for the app, and select *Full name* and *Email* in its advanced settings.",
            "In the sandbox, set `WSGI_OAUTH_AUTHORIZATION_URL` and the like to the addresses of the sandbox.",
        ),
    ),
    Provider(
        name="salesforce",
        title="Salesforce",
        documentation_url="https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_web_server_flow.htm",
        registration_url="https://help.salesforce.com/s/articleView?id=xcloud.create_a_local_external_client_app.htm",
        authorization_url="{issuer}/services/oauth2/authorize",
        token_url="{issuer}/services/oauth2/token",
        # https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_using_userinfo_endpoint.htm
        profile_url="{issuer}/services/oauth2/userinfo",
        revocation_url="{issuer}/services/oauth2/revoke",
        # With status 403, as plain text: https://github.com/forcedotcom/SalesforceMobileSDK-iOS/issues/3398
        ended_token_codes=("Bad_OAuth_Token",),
        issuer_example="https://example.my.salesforce.com",
        scope="openid profile email",
        choose_account=LOG_IN_AGAIN,
        client_auth="post",
        # Usernames are unique in all organizations, but another organization can take a name that is free again.
        user=UserDocument(groups="organization_id"),
        notes=(
            "Set `WSGI_OAUTH_ISSUER` to your *My Domain* URL, or to `https://login.salesforce.com` for the users of "
            "all organizations.",
            "Select the OAuth scopes `openid`, `profile` and `email` in the app, and *Require Proof Key for Code "
            "Exchange*.",
            "The only group is the id of the organization.",
            "To get refresh tokens, select `refresh_token` in the app, and set `WSGI_OAUTH_SCOPE` to `openid profile "
            "email refresh_token`.",
        ),
    ),
    Provider(
        name="shopify",
        title="Shopify (customers of a shop)",
        documentation_url="https://shopify.dev/docs/api/customer/latest",
        registration_url="https://shopify.dev/docs/storefronts/headless/building-with-the-customer-account-api/getting-started",
        authorization_url="{issuer}/oauth/authorize",
        token_url="{issuer}/oauth/token",
        end_session_url="{issuer}/logout",
        issuer="{issuer}",
        issuer_example="https://shopify.com/authentication/12345678901",
        openid=True,
        scope="openid email",
        client_auth="basic",
        # There is no UserInfo endpoint. The documentation does not mention verified addresses.
        user=UserDocument(username="", email_verified=""),
        notes=(
            "Customers of one shop sign in, with its *Customer Account API* and a *Confidential* client. Merchants "
            "cannot sign in, because Shopify's other API names the user in no user document.",
            "The number in the issuer is the id of the shop. The document at `https://<your "
            "shop>/.well-known/openid-configuration` shows it.",
        ),
    ),
    Provider(
        name="slack",
        title="Slack",
        documentation_url="https://docs.slack.dev/authentication/sign-in-with-slack/",
        registration_url="https://api.slack.com/apps",
        authorization_url="https://slack.com/openid/connect/authorize",
        token_url="https://slack.com/api/openid.connect.token",
        profile_url="https://slack.com/api/openid.connect.userInfo",
        jwks_url="https://slack.com/openid/connect/keys",
        issuer="https://slack.com",
        # Errors have status 200: https://docs.slack.dev/reference/methods/openid.connect.userInfo/#errors
        ended_token_codes=("account_inactive", "invalid_auth", "not_authed", "token_expired", "token_revoked"),
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
        name="stripe",
        title="Stripe",
        documentation_url="https://docs.stripe.com/connect/oauth-reference",
        registration_url="https://dashboard.stripe.com/settings/connect/onboarding-options/oauth",
        authorization_url="https://connect.stripe.com/oauth/authorize",
        token_url="https://connect.stripe.com/oauth/token",
        profile_url="https://api.stripe.com/v1/account",  # https://docs.stripe.com/api/accounts/retrieve
        scope="read_only",
        client_auth="post",
        user=UserDocument(
            subject="id",
            username="",
            name="settings.dashboard.display_name business_profile.name",
            email_verified="",
        ),
        notes=(
            "The client id is that of the platform account (`ca_...`). The client secret is its secret API key.",
            "The subject is a Stripe account (`acct_...`), not a person.",
        ),
    ),
    Provider(
        name="todoist",
        title="Todoist",
        documentation_url="https://developer.todoist.com/api/v1/#tag/Authorization",
        registration_url="https://developer.todoist.com/appconsole.html",
        authorization_url="https://todoist.com/oauth/authorize",
        token_url="https://todoist.com/oauth/access_token",
        profile_url="https://api.todoist.com/api/v1/user",
        scope="data:read",
        client_auth="post",
        user=UserDocument(subject="id", username="", name="full_name", email_verified=""),
    ),
    Provider(
        name="zoho",
        title="Zoho",
        documentation_url="https://www.zoho.com/accounts/protocol/oauth/web-server-applications.html",
        registration_url="https://api-console.zoho.com/",
        authorization_url="{issuer}/oauth/v2/auth",
        token_url="{issuer}/oauth/v2/token",
        profile_url="{issuer}/oauth/user/info",
        issuer_example="https://accounts.zoho.com",
        scope="AaaServer.profile.READ",
        choose_account=(("prompt", "consent"),),
        client_auth="post",
        user=UserDocument(subject="ZUID", username="", name="Display_Name", email="Email", email_verified=""),
        notes=(
            "Set `WSGI_OAUTH_ISSUER` to the accounts server of your data centre: `https://accounts.zoho.com`, "
            "`https://accounts.zoho.eu`, `https://accounts.zoho.in` and so on.",
            "Add a *Server-based Application*.",
        ),
    ),
    Provider(
        name="zoom",
        title="Zoom",
        documentation_url="https://developers.zoom.us/docs/integrations/oauth/",
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
