"""The providers that have a name here, and which one is configured.

An entry says in what a provider differs from the specifications, with the source beside it, so that nobody who signs
in with it has to know. ``docs/providers.md`` is made from it.
"""

from __future__ import annotations

from urllib.parse import quote, urljoin, urlsplit

from .. import errors
from ..config.environ import did_you_mean
from ..config.settings import ProviderConfig
from .provider import EmailsDocument, GroupsDocument, Provider, UserDocument

_SELECT = (("prompt", "select_account"),)  # OpenID Connect Core 3.1.2.1
_LOGIN = (("prompt", "login"),)  # for those that know of one account at a time; each server has to understand it

GITHUB = Provider(
    name="github",
    title="GitHub",
    registration_url="https://github.com/settings/applications/new",
    authorization_url="https://github.com/login/oauth/authorize",
    token_url="https://github.com/login/oauth/access_token",  # noqa: S106  # an address
    profile_url="https://api.github.com/user",
    # https://docs.github.com/rest/apps/oauth-applications#delete-an-app-token
    revocation_url="https://api.github.com/applications/{client_id}/token",
    revocation_by="github",
    # Sent with some authorization responses and not with others, so it is checked but never required.
    issuer="https://github.com/login/oauth",
    # https://github.blog/changelog/2024-06-07-account-picker-updates-for-oauth-and-github-app-sign-in/
    choose_account=_SELECT,
    # https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps: id and secret as parameters
    client_auth="post",
    # The address is the one on the public profile, which says nothing about who can read it.
    user=UserDocument(subject="id", username="login", email_verified=""),
    username_is_unique=True,
    # https://docs.github.com/rest/users/emails#list-email-addresses-for-the-authenticated-user
    emails_url="https://api.github.com/user/emails?per_page=100",
    emails_scope="user:email",
    # https://docs.github.com/rest/orgs/orgs#list-organizations-for-the-authenticated-user
    groups_url="https://api.github.com/user/orgs?per_page=100",
    groups_scope="read:org",
    notes=(
        "The address in the profile is the public one, and not verified; with the scope `user:email` GitHub lists "
        "all of a user's addresses and says which of them are.",
        "Tokens of an OAuth app do not expire; those of a GitHub App do, and are refreshed.",
        "An organisation that restricts OAuth apps has to approve yours before it is among a user's organisations.",
    ),
)

GITLAB = Provider(
    # https://docs.gitlab.com/integration/openid_connect_provider/
    name="gitlab",
    title="GitLab",
    registration_url="https://gitlab.com/-/user_settings/applications",
    authorization_url="https://gitlab.com/oauth/authorize",
    token_url="https://gitlab.com/oauth/token",  # noqa: S106  # an address
    profile_url="https://gitlab.com/oauth/userinfo",
    revocation_url="https://gitlab.com/oauth/revoke",  # https://docs.gitlab.com/api/oauth2/#revoke-a-token
    issuer="https://gitlab.com",
    openid=True,
    discovery=True,
    scope="openid profile email",
    user=UserDocument(groups="groups"),  # full paths: company/team
    username_is_unique=True,
    notes=(
        "Register the application with the scopes `openid`, `profile` and `email`.",
        "The groups are full paths (`company/team`), of the groups above a user's own, too.",
    ),
)

_ENTRIES = (
    Provider(
        # https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/
        name="atlassian",
        title="Atlassian",
        registration_url="https://developer.atlassian.com/console/myapps/",
        authorization_url="https://auth.atlassian.com/authorize",
        token_url="https://auth.atlassian.com/oauth/token",  # noqa: S106  # an address
        profile_url="https://api.atlassian.com/me",
        scope="read:me offline_access",
        authorization_parameters=(("audience", "api.atlassian.com"), ("prompt", "consent")),  # both required
        client_auth="post",
        user=UserDocument(subject="account_id", username="nickname", email_verified=""),  # nothing documented says so
        notes=(
            "Add the *User identity API* to the app, with the scope `read:me`.",
            "Atlassian asks for consent at each sign-in.",
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
            "The issuer ends with a slash, which belongs to it.",
            "For refresh tokens allow them in the application's settings, and set `WSGI_OAUTH_SCOPE` to "
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
            "The issuer is the *OpenID Configuration Issuer* that authentik shows for the provider, slash at the "
            "end included; each application has its own.",
            "For refresh tokens select the scope `offline_access` in the provider, and set `WSGI_OAUTH_SCOPE` to "
            "`openid profile email offline_access`.",
            # https://github.com/goauthentik/authentik/issues/16205
            "Before version 2025.10 it says of every address that it is verified; go by `user:` or `group:` there.",
        ),
    ),
    Provider(
        # https://developer.atlassian.com/cloud/bitbucket/oauth-2/
        name="bitbucket",
        title="Bitbucket Cloud",
        registration_url="https://support.atlassian.com/bitbucket-cloud/docs/use-oauth-on-bitbucket-cloud/",
        authorization_url="https://bitbucket.org/site/oauth2/authorize",
        token_url="https://bitbucket.org/site/oauth2/access_token",  # noqa: S106  # an address
        profile_url="https://api.bitbucket.org/2.0/user",
        user=UserDocument(subject="uuid", username="", name="display_name", email="", email_verified=""),
        # https://developer.atlassian.com/cloud/bitbucket/rest/api-group-users/#api-user-emails-get
        emails_url="https://api.bitbucket.org/2.0/user/emails",
        emails_scope="email",
        emails=EmailsDocument(items="values", verified="is_confirmed", primary="is_primary"),
        notes=(
            "Scopes are ticked in the OAuth consumer, *Account: Read* and *Account: Email*, and not asked for.",
            "Users have no name that only they can have; the subject is their UUID, in braces.",
        ),
    ),
    Provider(
        # https://discord.com/developers/docs/topics/oauth2
        name="discord",
        title="Discord",
        registration_url="https://discord.com/developers/applications",
        authorization_url="https://discord.com/oauth2/authorize",
        token_url="https://discord.com/api/oauth2/token",  # noqa: S106  # an address
        profile_url="https://discord.com/api/users/@me",
        revocation_url="https://discord.com/api/oauth2/token/revoke",
        scope="identify email",
        # https://discord.com/developers/docs/resources/user: `username` is not unique, says that page
        user=UserDocument(
            subject="id", username="username", name="global_name username", email="email", email_verified="verified"
        ),
        groups_url="https://discord.com/api/users/@me/guilds",
        groups_scope="guilds",
        groups=GroupsDocument(name="id"),  # anybody may call a server as another one is called
        notes=("The groups are the ids of a user's servers, because their names are not unique.",),
    ),
    Provider(
        # https://developers.dropbox.com/oauth-guide
        name="dropbox",
        title="Dropbox",
        registration_url="https://www.dropbox.com/developers/apps",
        authorization_url="https://www.dropbox.com/oauth2/authorize",
        token_url="https://api.dropboxapi.com/oauth2/token",  # noqa: S106  # an address
        profile_url="https://api.dropboxapi.com/2/users/get_current_account",
        scope="account_info.read",
        authorization_parameters=(("token_access_type", "offline"),),  # for a refresh token
        choose_account=(("force_reauthentication", "true"),),
        profile_method="POST",  # https://www.dropbox.com/developers/documentation/http/documentation: RPC endpoints
        user=UserDocument(subject="account_id", username="", name="name.display_name", groups="team.id"),
        notes=("The group is the id of the user's Dropbox team.",),
    ),
    Provider(
        # https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow
        name="facebook",
        title="Facebook",
        registration_url="https://developers.facebook.com/apps/",
        # Without a version in them these are the oldest one that the app may use, so they do not end in two years:
        # https://developers.facebook.com/docs/graph-api/guides/versioning
        authorization_url="https://www.facebook.com/dialog/oauth",
        token_url="https://graph.facebook.com/oauth/access_token",  # noqa: S106  # an address
        profile_url="https://graph.facebook.com/me?fields=id,name,email",
        scope="public_profile email",
        client_auth="post",
        # JSON since version 2.3; for what came before, form encoding called text/plain, the library has a fix.
        compliance_fix="facebook",
        user=UserDocument(subject="id", username="", email_verified=""),
        notes=(
            "A user's id is another one in each app.",
            "Not every account has an address, and nothing says whether it is verified.",
            "There are no refresh tokens; an access token lives for about two months.",
        ),
    ),
    GITHUB,
    GITHUB._replace(
        # https://docs.github.com/enterprise-server/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
        name="github-enterprise",
        title="GitHub Enterprise Server",
        registration_url="{issuer}/settings/applications/new",
        authorization_url="{issuer}/login/oauth/authorize",
        token_url="{issuer}/login/oauth/access_token",  # noqa: S106  # an address
        profile_url="{issuer}/api/v3/user",
        revocation_url="{issuer}/api/v3/applications/{client_id}/token",
        # Which `iss` it sends, if any, is not documented, and its metadata "contain incorrect information":
        # https://docs.github.com/enterprise-server@3.16/apps/github-authentication-discovery-endpoints
        issuer=None,
        issuer_example="https://github.example.com",
        emails_url="{issuer}/api/v3/user/emails?per_page=100",
        groups_url="{issuer}/api/v3/user/orgs?per_page=100",
        notes=(
            "`WSGI_OAUTH_ISSUER` is the address of the server.",
            "The address in the profile is the public one, and not verified; with the scope `user:email` the server "
            "lists all of a user's addresses and says which of them are.",
        ),
    ),
    GITLAB,
    GITLAB._replace(
        name="gitlab-self-managed",
        title="GitLab, self-managed",
        registration_url="{issuer}/-/user_settings/applications",
        authorization_url="{issuer}/oauth/authorize",
        token_url="{issuer}/oauth/token",  # noqa: S106  # an address
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
        token_url="https://oauth2.googleapis.com/token",  # noqa: S106  # an address
        profile_url="https://openidconnect.googleapis.com/v1/userinfo",
        revocation_url="https://oauth2.googleapis.com/revoke",
        issuer="https://accounts.google.com",
        openid=True,
        discovery=True,
        scope="openid profile email",
        # For a refresh token, which Google gives when the user consents and not again:
        # https://developers.google.com/identity/protocols/oauth2/web-server
        authorization_parameters=(("access_type", "offline"),),
        choose_account=_SELECT,
        client_auth="post",
        user=UserDocument(username=""),
        notes=(
            "A refresh token comes with a user's first consent and not again; without it the next sign-in takes one "
            "redirect and no click.",
            "Anybody can make a Google account with an address that they can read, at any domain: a verified address "
            "says that they could once.",
        ),
    ),
    Provider(
        # https://www.keycloak.org/securing-apps/oidc-layers
        name="keycloak",
        title="Keycloak",
        registration_url="{issuer}",
        authorization_url="{issuer}/protocol/openid-connect/auth",
        token_url="{issuer}/protocol/openid-connect/token",  # noqa: S106  # an address
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
            "The issuer is the realm. Before version 17 it has `/auth` in it: `https://.../auth/realms/myrealm`.",
            "Register a client with *Client authentication* on.",
            "For groups add a *Group Membership* mapper to the client, with the claim name `groups`, in the userinfo.",
        ),
    ),
    Provider(
        # https://learn.microsoft.com/linkedin/consumer/integrations/self-serve/sign-in-with-linkedin-v2
        name="linkedin",
        title="LinkedIn",
        registration_url="https://www.linkedin.com/developers/apps",
        authorization_url="https://www.linkedin.com/oauth/v2/authorization",
        token_url="https://www.linkedin.com/oauth/v2/accessToken",  # noqa: S106  # an address
        profile_url="https://api.linkedin.com/v2/userinfo",
        # The ID token stays unread: it has no nonce (https://github.com/directus/directus/issues/23645), and its
        # issuer has changed without notice (https://github.com/keycloak/keycloak/issues/28686).
        scope="openid profile email",
        client_auth="post",
        # "invalid_client" for a code_verifier beside a client secret, challenge or not:
        # https://github.com/UsefulSoftwareCo/executor/issues/2087, https://github.com/teamhanko/hanko/pull/2405
        pkce=False,
        user=UserDocument(username=""),
        notes=(
            "Add the product *Sign In with LinkedIn using OpenID Connect* to the app.",
            "LinkedIn refuses PKCE together with a client secret, so a sign-in is protected by its state alone.",
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
        # The address is what an administrator wrote, of this tenant or of a guest's; never use it to tell who that is:
        # https://learn.microsoft.com/entra/identity-platform/claims-validation
        user=UserDocument(username="", email_verified=""),
        notes=(
            "Register under *App registrations*. The number in the issuer is the *Directory (tenant) ID*; `common`, "
            "`organizations` and `consumers` do not work, because their issuer is that of each user's own tenant.",
            "An address is never verified, so no rule matches it.",
            "A user's subject is another one in each application.",
        ),
    ),
    Provider(
        # https://developers.notion.com/docs/authorization
        name="notion",
        title="Notion",
        registration_url="https://www.notion.so/profile/integrations",
        authorization_url="https://api.notion.com/v1/oauth/authorize",
        # Its manual shows JSON; the form encoding of RFC 6749 4.1.3 is what Auth.js and OpenIddict send:
        # https://github.com/nextauthjs/next-auth/blob/main/packages/core/src/providers/notion.ts
        token_url="https://api.notion.com/v1/oauth/token",  # noqa: S106  # an address
        profile_url="https://api.notion.com/v1/users/me",
        authorization_parameters=(("owner", "user"),),
        profile_headers=(("Notion-Version", "2022-06-28"),),  # https://developers.notion.com/reference/versioning
        # The token is a bot's, and its owner the user: https://developers.notion.com/reference/get-self
        user=UserDocument(
            subject="bot.owner.user.id",
            username="",
            name="bot.owner.user.name",
            email="bot.owner.user.person.email",
            email_verified="",
        ),
        notes=(
            "Register a *public* integration, with the capability to read user information including email addresses.",
            "Notion asks the user which pages to share.",
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
            "The issuer is that of an authorization server (*Security, API*), or your Okta domain alone.",
            "For refresh tokens allow them in the application, and set `WSGI_OAUTH_SCOPE` to "
            "`openid profile email offline_access`; for groups add a `groups` claim and the scope `groups`.",
        ),
    ),
    Provider(
        # https://docs.slack.dev/authentication/sign-in-with-slack/
        name="slack",
        title="Slack",
        registration_url="https://api.slack.com/apps",
        authorization_url="https://slack.com/openid/connect/authorize",
        token_url="https://slack.com/api/openid.connect.token",  # noqa: S106  # an address
        profile_url="https://slack.com/api/openid.connect.userInfo",
        issuer="https://slack.com",
        openid=True,
        discovery=True,
        scope="openid profile email",
        # PKCE is for its public clients: beside a client secret it leads to "internal_error", says
        # https://github.com/paradigmxyz/centaur/pull/1101. The nonce takes its place, as in Auth.js.
        pkce=False,
        # Not the library's compliance fix: it puts the token into the body or the URL (RFC 9700 4.3.2), and the
        # header does: https://docs.slack.dev/reference/methods/openid.connect.userInfo/
        user=UserDocument(username="", groups="https://slack.com/team_id"),
        notes=(
            "The redirect URI has to be https, even on your own machine.",
            "The group is the id of the workspace (`T0R7GR`). An app that is distributed to others lets in users of "
            "any workspace.",
            "Slack refuses PKCE together with a client secret, so the nonce of the ID token protects a sign-in.",
        ),
    ),
    Provider(
        # https://developer.spotify.com/documentation/web-api/tutorials/code-flow
        name="spotify",
        title="Spotify",
        registration_url="https://developer.spotify.com/dashboard",
        authorization_url="https://accounts.spotify.com/authorize",
        token_url="https://accounts.spotify.com/api/token",  # noqa: S106  # an address
        profile_url="https://api.spotify.com/v1/me",
        scope="user-read-email",
        choose_account=(("show_dialog", "true"),),
        # "This email address is unverified; there is no proof that it actually belongs to the user":
        # https://developer.spotify.com/documentation/web-api/reference/get-current-users-profile
        user=UserDocument(subject="id", username="", name="display_name", email_verified=""),
        notes=(
            "An address is never verified, so no rule matches it.",
            "While an app is in development mode, only the users on its list can sign in.",
            "For your own machine register `http://127.0.0.1:8000/callback`; Spotify refuses `localhost`.",
        ),
    ),
    Provider(
        # https://dev.twitch.tv/docs/authentication/getting-tokens-oidc/
        name="twitch",
        title="Twitch",
        registration_url="https://dev.twitch.tv/console/apps",
        authorization_url="https://id.twitch.tv/oauth2/authorize",
        token_url="https://id.twitch.tv/oauth2/token",  # noqa: S106  # an address
        profile_url="https://id.twitch.tv/oauth2/userinfo",
        revocation_url="https://id.twitch.tv/oauth2/revoke",
        issuer="https://id.twitch.tv/oauth2",
        openid=True,
        discovery=True,
        scope="openid user:read:email",
        # Nothing but the subject comes unless it is asked for by name, OpenID Connect Core 5.5.
        authorization_parameters=(
            ("claims", '{"userinfo":{"email":null,"email_verified":null,"preferred_username":null}}'),
        ),
        choose_account=(("force_verify", "true"),),
        client_auth="post",
        lists_scopes=True,
        user=UserDocument(name="preferred_username"),
        notes=("The user name is the display name; it is not the login, and may be written like somebody else's.",),
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
        username_is_unique=True,  # the login name, which has the organisation's domain in it
        notes=(
            "Register a *Web* application with the authentication method *Basic*, or set `WSGI_OAUTH_CLIENT_AUTH`.",
            "For refresh tokens allow them in the application, and set `WSGI_OAUTH_SCOPE` to "
            "`openid profile email offline_access`.",
        ),
    ),
    Provider(
        # https://developers.zoom.us/docs/integrations/oauth/
        name="zoom",
        title="Zoom",
        registration_url="https://marketplace.zoom.us/develop/create",
        authorization_url="https://zoom.us/oauth/authorize",
        token_url="https://zoom.us/oauth/token",  # noqa: S106  # an address
        profile_url="https://api.zoom.us/v2/users/me",
        revocation_url="https://zoom.us/oauth/revoke",
        # `verified` is 0 or 1, which is less than to say so.
        user=UserDocument(
            subject="id", username="", name="display_name first_name", email_verified="", groups="account_id"
        ),
        notes=(
            "Scopes are chosen in the app, `user:read:user` among them, and not asked for.",
            "The group is the id of the Zoom account that the user belongs to.",
        ),
    ),
)

CATALOGUE = {entry.name: entry for entry in _ENTRIES}

_USUAL = ProviderConfig.provider  # whoever has not set it has not named it

# Nobody has said what its user document means, so this is what most of them do.
_UNDESCRIBED = UserDocument(subject="sub id", username="preferred_username login username")


def provider_from_config(config: ProviderConfig) -> Provider:
    """Return the provider that *config* names or describes.

    The three URLs together describe a provider that is in no catalogue; one alone moves an endpoint of one that is. Of
    an issuer they move endpoints, and all else of OpenID Connect stays.

    :raises errors.ConfigError: for a name that is not in the catalogue, and one whose installation is not told.
    """
    given = [url for url in (config.authorization_url, config.token_url, config.profile_url) if url]
    if "://" in config.provider:
        described = _issuer(config)
    elif len(given) == 2:  # the third would be another provider's, and get this one's tokens
        raise errors.ConfigError(
            f"{_three(config)} describe a provider together: "
            "set the third one, too, or only one of them to move a single endpoint"
        )
    elif len(given) == 3:
        described = _undescribed(config, given[0])
    elif config.provider in CATALOGUE:
        described = _located(CATALOGUE[config.provider], config)
    else:
        raise errors.ConfigError(
            f"{config.variable('provider')} must be one of {', '.join(CATALOGUE)}, or the https URL of an OpenID "
            f"Connect issuer; it is {config.provider!a}; {did_you_mean(config.provider.lower(), CATALOGUE)} "
            f"Any other provider is described by {_three(config)} together"
        )
    names = ("authorization_url", "token_url", "profile_url", "revocation_url", "client_auth", "scope")
    own = {name: value for name in names if (value := getattr(config, name)) is not None}
    return described._replace(**own)


def _undescribed(config: ProviderConfig, authorization_url: str) -> Provider:
    """Return a provider that is known by its three URLs alone."""
    meant = did_you_mean(config.provider, CATALOGUE)  # also by a name that is written as it is
    if meant and config.provider not in {_USUAL, config.label}:
        hint = f"; {meant}" if config.provider not in CATALOGUE else ""
        raise errors.ConfigError(
            f"{config.variable('provider')} is {config.provider!a}, and {_three(config)} together describe a provider "
            f"that is in no catalogue; set either that one, or these{hint}"
        )
    name = name_of(config.issuer or urljoin(authorization_url, "/"))
    return Provider(name=name, title=name, issuer=config.issuer, user=_UNDESCRIBED)


def _three(config: ProviderConfig) -> str:
    return (
        f"{config.variable('authorization_url')}, {config.variable('token_url')} and {config.variable('profile_url')}"
    )


def _issuer(config: ProviderConfig) -> Provider:
    """Return a provider that is known by its issuer's URL alone: all else it says itself (OpenID Connect Discovery)."""
    issuer = config.provider
    if config.issuer not in {None, issuer}:
        raise errors.ConfigError(
            f"{config.variable('issuer')} is {config.issuer!a}, and {config.variable('provider')} names another "
            "issuer: set only one of them"
        )
    name = name_of(issuer)
    # `groups` is no standard claim, and what most servers call it.
    user = UserDocument(groups="groups")
    return Provider(
        name=name,
        title=name,
        issuer=issuer,
        openid=True,
        discovery=True,
        offline_access_takes_consent=True,
        choose_account=_LOGIN,  # which every issuer has to know, OpenID Connect Core 15.1
        user=user,
    )


def name_of(issuer: str) -> str:
    """Return the name that qualifies the ids of *issuer*'s users: two realms of one host have two."""
    parts = urlsplit(issuer)
    name = parts.netloc.lower() + parts.path.rstrip("/")
    return f"{name}/" if name in CATALOGUE else name  # https://github, somewhere inside a company, is not GitHub


def _located(entry: Provider, config: ProviderConfig) -> Provider:
    """Return *entry* for this client and, where every customer has one, for this installation."""
    if entry.issuer_example and config.issuer is None:
        raise errors.ConfigError(
            f"{config.variable('issuer')} is missing: it says where your {entry.title} is, "
            f"for example {entry.issuer_example}"
        )
    issuer, client_id = config.issuer or "", quote(config.client_id, safe="")
    filled = {
        name: template.replace("{issuer}", issuer.rstrip("/")).replace("{client_id}", client_id)
        for name, template in entry._asdict().items()
        if name.endswith("_url") and template
    }
    if entry.issuer_example:
        return entry._replace(name=name_of(issuer), issuer=entry.issuer and issuer, **filled)
    return entry._replace(issuer=issuer or entry.issuer, **filled)
