"""Providers with personal accounts: social networks, media, games and shops."""

from __future__ import annotations

from ..provider import GroupsDocument, Provider, UserDocument

PROVIDERS = (
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
        # https://developers.facebook.com/docs/graph-api/guides/error-handling
        ended_token_codes=("102", "190"),
        user=UserDocument(subject="id", username="", email_verified=""),
        notes=(
            "A user has a different id in each app.",
            "Accounts may have no email address. Facebook does not say whether an address is verified.",
            "Facebook issues no refresh tokens. An access token is valid for about two months.",
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
        user=UserDocument(name="preferred_username"),
        notes=("The username is the display name, not the login, and can look like another user's.",),
    ),
)
