"""Providers for software developers: code hosting, issue trackers and platforms."""

from __future__ import annotations

from ...config.provider import SELECT_ACCOUNT, EmailsDocument, GroupsDocument, Provider, UserDocument

GITHUB = Provider(
    name="github",
    title="GitHub",
    documentation_url="https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps",
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
    choose_account=SELECT_ACCOUNT,
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
        "An organization with SAML single sign-on is missing, with a line in the log, until the member has signed in "
        "to it (`https://github.com/orgs/<name>/sso`), revoked your app (*Settings*, *Applications*) "
        "and signed in again.",
    ),
)

GITLAB = Provider(
    name="gitlab",
    title="GitLab",
    documentation_url="https://docs.gitlab.com/integration/openid_connect_provider/",
    registration_url="https://gitlab.com/-/user_settings/applications",
    authorization_url="https://gitlab.com/oauth/authorize",
    token_url="https://gitlab.com/oauth/token",
    profile_url="https://gitlab.com/oauth/userinfo",
    revocation_url="https://gitlab.com/oauth/revoke",  # https://docs.gitlab.com/api/oauth2/#revoke-a-token
    jwks_url="https://gitlab.com/oauth/discovery/keys",
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

GITEA = Provider(
    name="gitea",
    title="Gitea",
    documentation_url="https://docs.gitea.com/development/oauth2-provider",
    registration_url="{issuer}/user/settings/applications",
    authorization_url="{issuer}/login/oauth/authorize",
    token_url="{issuer}/login/oauth/access_token",
    profile_url="{issuer}/login/oauth/userinfo",
    # The ID token is not used, because versions differ in the slash at the end of their issuer.
    issuer_example="https://gitea.example.com",
    scope="openid profile email groups",
    # Users can change their usernames. `email_verified` says whether the account is active, which needs no verification
    # unless the instance is configured so:
    # https://github.com/go-gitea/gitea/blob/main/services/oauth2_provider/access_token.go
    user=UserDocument(email_verified="", groups="groups"),
    notes=(
        "Set `WSGI_OAUTH_ISSUER` to the URL of the instance.",
        "Groups are organizations (`acme`) and teams (`acme:developers`).",
        "Whether an address is verified depends on the instance's settings. If it requires confirmation "
        "(`REGISTER_EMAIL_CONFIRM`), or only administrators add users, `WSGI_OAUTH_TRUST_UNVERIFIED_EMAIL=yes` enables "
        "the access rule `email:`.",
    ),
)

FORGEJO = GITEA._replace(
    name="forgejo",
    title="Forgejo",
    documentation_url="https://forgejo.org/docs/latest/user/oauth2-provider/",
    issuer_example="https://forgejo.example.com",
)

PROVIDERS = (
    Provider(
        name="atlassian",
        title="Atlassian",
        documentation_url="https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/",
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
        name="bitbucket",
        title="Bitbucket Cloud",
        documentation_url="https://developer.atlassian.com/cloud/bitbucket/oauth-2/",
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
    FORGEJO._replace(
        name="codeberg",
        title="Codeberg",
        registration_url="https://codeberg.org/user/settings/applications",
        authorization_url="https://codeberg.org/login/oauth/authorize",
        token_url="https://codeberg.org/login/oauth/access_token",
        profile_url="https://codeberg.org/login/oauth/userinfo",
        issuer_example="",
        notes=("Groups are organizations (`acme`) and teams (`acme:developers`).",),
    ),
    Provider(
        name="digitalocean",
        title="DigitalOcean",
        documentation_url="https://docs.digitalocean.com/reference/api/oauth/",
        registration_url="https://cloud.digitalocean.com/account/api/applications",
        authorization_url="https://cloud.digitalocean.com/v1/oauth/authorize",
        token_url="https://cloud.digitalocean.com/v1/oauth/token",
        # https://docs.digitalocean.com/reference/api/digitalocean/#tag/Account
        profile_url="https://api.digitalocean.com/v2/account",
        scope="account:read",
        client_auth="post",
        user=UserDocument(
            subject="account.uuid",
            username="",
            name="account.name",
            email="account.email",
            email_verified="account.email_verified",
            groups="account.team.uuid",
        ),
        notes=("The only group is the UUID of the team that the user chose at the sign-in.",),
    ),
    FORGEJO,
    GITEA,
    GITHUB,
    GITHUB._replace(
        name="github-enterprise",
        title="GitHub Enterprise Server",
        documentation_url="https://docs.github.com/enterprise-server/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps",
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
        jwks_url="{issuer}/oauth/discovery/keys",
        issuer="{issuer}",
        issuer_example="https://gitlab.example.com",
    ),
    Provider(
        name="heroku",
        title="Heroku",
        documentation_url="https://devcenter.heroku.com/articles/oauth",
        registration_url="https://dashboard.heroku.com/account/applications",
        authorization_url="https://id.heroku.com/oauth/authorize",
        token_url="https://id.heroku.com/oauth/token",
        profile_url="https://api.heroku.com/account",  # https://devcenter.heroku.com/articles/platform-api-reference#account
        scope="identity",
        client_auth="post",
        profile_headers=(("Accept", "application/vnd.heroku+json; version=3"),),
        # `verified` is about billing information.
        user=UserDocument(subject="id", username="", email_verified=""),
    ),
    Provider(
        name="hugging-face",
        title="Hugging Face",
        documentation_url="https://huggingface.co/docs/hub/oauth",
        registration_url="https://huggingface.co/settings/applications/new",
        authorization_url="https://huggingface.co/oauth/authorize",
        token_url="https://huggingface.co/oauth/token",
        profile_url="https://huggingface.co/oauth/userinfo",
        scope="openid profile email",
        # Users can change their usernames.
        user=UserDocument(),
        # The names of organizations on display are not unique, in contrast to their usernames.
        groups=(GroupsDocument("https://huggingface.co/oauth/userinfo", items="orgs", name="preferred_username"),),
        notes=("Groups are the names of organizations as in their URLs (`huggingface.co/<name>`).",),
    ),
    Provider(
        name="linear",
        title="Linear",
        documentation_url="https://linear.app/developers/oauth-2-0-authentication",
        registration_url="https://linear.app/settings/api/applications/new",
        authorization_url="https://linear.app/oauth/authorize",
        token_url="https://api.linear.app/oauth/token",
        profile_url="https://api.linear.app/graphql",  # https://linear.app/developers/graphql
        revocation_url="https://api.linear.app/oauth/revoke",
        scope="read",
        choose_account=(("prompt", "consent"),),
        client_auth="post",
        profile_method="POST",
        profile_headers=(("Content-Type", "application/json"),),
        profile_body='{"query":"{ viewer { id name email organization { id urlKey } } }"}',
        user=UserDocument(
            subject="data.viewer.id",
            username="",
            name="data.viewer.name",
            email="data.viewer.email",
            email_verified="",
            groups="data.viewer.organization.id",
        ),
        notes=(
            "The only group is the id of the workspace. Its name in URLs can be changed and used by another workspace.",
        ),
    ),
)
