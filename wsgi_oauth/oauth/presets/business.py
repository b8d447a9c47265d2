"""Applications that teams work with: communication, documents, sales and payments."""

from __future__ import annotations

from ..provider import Provider, UserDocument

PROVIDERS = (
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
        # https://docs.slack.dev/authentication/sign-in-with-slack/
        name="slack",
        title="Slack",
        registration_url="https://api.slack.com/apps",
        authorization_url="https://slack.com/openid/connect/authorize",
        token_url="https://slack.com/api/openid.connect.token",
        profile_url="https://slack.com/api/openid.connect.userInfo",
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
