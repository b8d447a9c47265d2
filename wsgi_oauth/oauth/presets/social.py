"""Providers with personal accounts: social networks, media, games and shops."""

from __future__ import annotations

from ...config.provider import LOG_IN_AGAIN, SELECT_ACCOUNT, GroupsDocument, Provider, UserDocument

PROVIDERS = (
    Provider(
        name="amazon",
        title="Amazon",
        documentation_url="https://developer.amazon.com/docs/login-with-amazon/authorization-code-grant.html",
        registration_url="https://developer.amazon.com/loginwithamazon/console/site/lwa/overview.html",
        authorization_url="https://www.amazon.com/ap/oa",
        token_url="https://api.amazon.com/auth/o2/token",
        # https://developer.amazon.com/docs/login-with-amazon/obtain-customer-profile.html
        profile_url="https://api.amazon.com/user/profile",
        scope="profile",
        client_auth="post",
        user=UserDocument(subject="user_id", username="", email_verified=""),
    ),
    Provider(
        name="apple",
        title="Apple",
        documentation_url="https://developer.apple.com/documentation/signinwithapple",
        registration_url="https://developer.apple.com/account/resources/identifiers/list/serviceId",
        # As in https://appleid.apple.com/.well-known/openid-configuration, where no UserInfo endpoint is named.
        issuer="https://appleid.apple.com",
        authorization_url="https://appleid.apple.com/auth/authorize",
        token_url="https://appleid.apple.com/auth/token",
        revocation_url="https://appleid.apple.com/auth/revoke",
        jwks_url="https://appleid.apple.com/auth/keys",
        signing_algorithms=("RS256",),
        openid=True,
        scope="openid name email",
        response_mode="form_post",  # required for the scopes name and email
        sends_user_parameter=True,
        client_auth="post",
        # https://developer.apple.com/documentation/accountorganizationaldatasharing/creating-a-client-secret
        secret_audience="https://appleid.apple.com",
        # https://developer.apple.com/documentation/signinwithapple/verifying-a-user: "up to once a day"
        recheck_interval=86400,
        user=UserDocument(username=""),
        notes=(
            "Register an App ID with *Sign in with Apple*, then a Services ID for it: its identifier is the client id. "
            "Configure *Sign in with Apple* for the Services ID: choose the App ID, and enter the domain and the "
            "redirect URI as the return URL. Apple accepts only redirect URIs with https and a domain name, so "
            "`localhost` does not work.",
            "Create a key for *Sign in with Apple* and the App ID, and download it (this is possible once). Set "
            "`WSGI_OAUTH_CLIENT_KEY_FILE` to the `.p8` file, `WSGI_OAUTH_CLIENT_KEY_ID` to its Key ID and "
            "`WSGI_OAUTH_CLIENT_KEY_ISSUER` to the Team ID, and leave `WSGI_OAUTH_CLIENT_SECRET` unset: the client "
            "secret is made from the key for each request. That needs the extra `openid`: "
            "`pip install 'wsgi-oauth[openid]'`.",
            "Apple [posts its response as a form](operating.md#responses-as-a-form), so proxies must let "
            "`POST /callback` through.",
            "Apple sends the name with a user's first sign-in only, through the browser and unsigned. It is kept with "
            "the session of that sign-in, as `Identity.name`, and no access rule uses it. Later sessions have no name: "
            "an application that needs it should store it with `Identity.id`.",
            "Users may hide their address. Apple then gives a relay address, which is verified, too.",
            "Sessions are rechecked once a day at most, because Apple limits how often a refresh token may be used.",
            "A sign-out revokes the tokens. Apple then also removes the application from the account: other sessions "
            "of the user end with their next recheck, and Apple treats the next sign-in as the first one.",
        ),
    ),
    Provider(
        name="battlenet",
        title="Battle.net",
        documentation_url="https://develop.battle.net/documentation/guides/using-oauth",
        registration_url="https://develop.battle.net/access/clients/create",
        authorization_url="https://oauth.battle.net/authorize",
        token_url="https://oauth.battle.net/token",
        profile_url="https://oauth.battle.net/userinfo",
        scope="openid",
        # Players can change their BattleTags.
        user=UserDocument(
            subject="sub id", username="battletag battle_tag", name="battletag battle_tag", email="", email_verified=""
        ),
        notes=(
            "Players can change their BattleTags, so use the access rule `id:`.",
            "Players in China have accounts of their own at another address, with which they cannot sign in here.",
        ),
    ),
    Provider(
        name="discord",
        title="Discord",
        documentation_url="https://discord.com/developers/docs/topics/oauth2",
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
        name="facebook",
        title="Facebook",
        documentation_url="https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow",
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
            "Accounts may have no email address.",
            "Facebook issues no refresh tokens. An access token is valid for about two months.",
        ),
    ),
    Provider(
        name="kakao",
        title="Kakao",
        documentation_url="https://developers.kakao.com/docs/latest/en/kakaologin/rest-api",
        registration_url="https://developers.kakao.com/console/app",
        authorization_url="https://kauth.kakao.com/oauth/authorize",
        token_url="https://kauth.kakao.com/oauth/token",
        profile_url="https://kapi.kakao.com/v2/user/me",
        choose_account=SELECT_ACCOUNT,
        client_auth="post",
        # An address is verified only if `is_email_valid` and `is_email_verified` are both true.
        user=UserDocument(
            subject="id",
            username="",
            name="kakao_account.profile.nickname properties.nickname",
            email="kakao_account.email",
            email_verified="",
        ),
        notes=(
            "The client id is the *REST API key*. Switch on *Kakao Login* and the client secret, and register the "
            "redirect URI.",
            "Choose the consent items *Nickname* and *Kakao Account (Email)*. The application does not request scopes.",
            "Kakao describes a verified address by two members of the user document, so the access rule `email:` "
            "matches no user.",
        ),
    ),
    Provider(
        name="line",
        title="LINE",
        documentation_url="https://developers.line.biz/en/docs/line-login/integrate-line-login/",
        registration_url="https://developers.line.biz/console/",
        authorization_url="https://access.line.me/oauth2/v2.1/authorize",
        token_url="https://api.line.me/oauth2/v2.1/token",
        profile_url="https://api.line.me/oauth2/v2.1/userinfo",
        revocation_url="https://api.line.me/oauth2/v2.1/revoke",
        jwks_url="https://api.line.me/oauth2/v2.1/certs",
        # https://developers.line.biz/en/docs/line-login/verify-id-token/: with the client secret for web applications
        signing_algorithms=("HS256", "ES256"),
        issuer="https://access.line.me",
        openid=True,
        scope="openid profile email",
        client_auth="post",
        user=UserDocument(username="", email_verified=""),
        notes=(
            "Register a *LINE Login* channel for a web app. The client id is the *Channel ID*.",
            "Email addresses come from the ID token, after you have applied for the permission in the channel's "
            "settings.",
            "A user has a different subject at each LINE provider of yours.",
        ),
    ),
    Provider(
        name="linkedin",
        title="LinkedIn",
        documentation_url="https://learn.microsoft.com/linkedin/consumer/integrations/self-serve/sign-in-with-linkedin-v2",
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
        name="mastodon",
        title="Mastodon",
        documentation_url="https://docs.joinmastodon.org/spec/oauth/",
        registration_url="{issuer}/settings/applications/new",
        authorization_url="{issuer}/oauth/authorize",
        token_url="{issuer}/oauth/token",
        profile_url="{issuer}/api/v1/accounts/verify_credentials",
        revocation_url="{issuer}/oauth/revoke",
        issuer_example="https://mastodon.example.com",
        scope="read:accounts",
        choose_account=(("force_login", "true"),),
        client_auth="post",
        # A username never changes, and stays taken after the account was deleted:
        # https://github.com/mastodon/mastodon/blob/main/config/locales/en.yml (deletes.warning.username_unavailable)
        user=UserDocument(subject="id", username="username", name="display_name username", email="", email_verified=""),
        username_is_unique=True,
        notes=(
            "Set `WSGI_OAUTH_ISSUER` to the URL of the instance. Users of other instances cannot sign in.",
            "Register the application under *Preferences*, *Development*, with the scope `read:accounts` alone.",
        ),
    ),
    Provider(
        name="naver",
        title="Naver",
        documentation_url="https://developers.naver.com/docs/login/api/",
        registration_url="https://developers.naver.com/apps/#/register",
        authorization_url="https://nid.naver.com/oauth2.0/authorize",
        token_url="https://nid.naver.com/oauth2.0/token",
        profile_url="https://openapi.naver.com/v1/nid/me",  # https://developers.naver.com/docs/login/profile/
        choose_account=(("auth_type", "reauthenticate"),),
        client_auth="post",
        user=UserDocument(
            subject="response.id",
            username="",
            name="response.name response.nickname",
            email="response.email",
            email_verified="",
        ),
        notes=(
            "Choose *Naver Login* and the items to read. The application does not request scopes.",
            "A user has a different id in each application. The address is the user's contact address, which need not "
            "be verified.",
        ),
    ),
    Provider(
        name="openstreetmap",
        title="OpenStreetMap",
        documentation_url="https://wiki.openstreetmap.org/wiki/OAuth",
        registration_url="https://www.openstreetmap.org/oauth2/applications/new",
        authorization_url="https://www.openstreetmap.org/oauth2/authorize",
        token_url="https://www.openstreetmap.org/oauth2/token",
        # https://wiki.openstreetmap.org/wiki/API_v0.6#Details_of_the_logged-in_user
        profile_url="https://api.openstreetmap.org/api/0.6/user/details.json",
        revocation_url="https://www.openstreetmap.org/oauth2/revoke",
        scope="read_prefs",
        # Users can change their display names.
        user=UserDocument(
            subject="user.id", username="user.display_name", name="user.display_name", email="", email_verified=""
        ),
        notes=("Register a confidential application with the permission *Read user preferences*.",),
    ),
    Provider(
        name="orcid",
        title="ORCID",
        documentation_url="https://info.orcid.org/documentation/api-tutorials/api-tutorial-get-and-authenticated-orcid-id/",
        registration_url="https://orcid.org/developer-tools",
        authorization_url="https://orcid.org/oauth/authorize",
        token_url="https://orcid.org/oauth/token",
        profile_url="https://orcid.org/oauth/userinfo",
        revocation_url="https://orcid.org/oauth/revoke",
        scope="openid",
        choose_account=LOG_IN_AGAIN,
        client_auth="post",
        user=UserDocument(username="", email="", email_verified=""),
        notes=("The subject is the ORCID iD. Researchers decide whether their name is visible.",),
    ),
    Provider(
        name="patreon",
        title="Patreon",
        documentation_url="https://docs.patreon.com/#oauth",
        registration_url="https://www.patreon.com/portal/registration/register-clients",
        authorization_url="https://www.patreon.com/oauth2/authorize",
        token_url="https://www.patreon.com/api/oauth2/token",
        # https://docs.patreon.com/#get-api-oauth2-v2-identity
        profile_url="https://www.patreon.com/api/oauth2/v2/identity?fields%5Buser%5D=full_name,email,is_email_verified",
        scope="identity identity[email]",
        client_auth="post",
        user=UserDocument(
            subject="data.id",
            username="",
            name="data.attributes.full_name",
            email="data.attributes.email",
            email_verified="data.attributes.is_email_verified",
        ),
        notes=("Register a client with version 2 of the API.",),
    ),
    Provider(
        name="reddit",
        title="Reddit",
        documentation_url="https://github.com/reddit-archive/reddit/wiki/OAuth2",
        registration_url="https://www.reddit.com/prefs/apps",
        authorization_url="https://www.reddit.com/api/v1/authorize",
        token_url="https://www.reddit.com/api/v1/access_token",
        profile_url="https://oauth.reddit.com/api/v1/me",  # https://www.reddit.com/dev/api/#GET_api_v1_me
        revocation_url="https://www.reddit.com/api/v1/revoke_token",
        scope="identity",
        authorization_parameters=(("duration", "permanent"),),  # for a refresh token
        client_auth="basic",
        # A username never changes, and is not available after the account was deleted:
        # https://support.reddithelp.com/hc/articles/204579479
        user=UserDocument(subject="id", username="name", email="", email_verified=""),
        username_is_unique=True,
        notes=("Create an app of the type *web app*.",),
    ),
    Provider(
        name="spotify",
        title="Spotify",
        documentation_url="https://developer.spotify.com/documentation/web-api/tutorials/code-flow",
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
        name="strava",
        title="Strava",
        documentation_url="https://developers.strava.com/docs/authentication/",
        registration_url="https://www.strava.com/settings/api",
        authorization_url="https://www.strava.com/oauth/authorize",
        token_url="https://www.strava.com/api/v3/oauth/token",
        profile_url="https://www.strava.com/api/v3/athlete",
        scope="read",
        client_auth="post",
        user=UserDocument(subject="id", username="", name="firstname+lastname", email="", email_verified=""),
        notes=("Strava compares only the host of the redirect URI: enter it as *Authorization Callback Domain*.",),
    ),
    Provider(
        name="twitch",
        title="Twitch",
        documentation_url="https://dev.twitch.tv/docs/authentication/getting-tokens-oidc/",
        registration_url="https://dev.twitch.tv/console/apps",
        authorization_url="https://id.twitch.tv/oauth2/authorize",
        token_url="https://id.twitch.tv/oauth2/token",
        profile_url="https://id.twitch.tv/oauth2/userinfo",
        revocation_url="https://id.twitch.tv/oauth2/revoke",
        jwks_url="https://id.twitch.tv/oauth2/keys",
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
    Provider(
        name="wikimedia",
        title="Wikimedia",
        documentation_url="https://www.mediawiki.org/wiki/OAuth/For_Developers",
        registration_url="https://meta.wikimedia.org/wiki/Special:OAuthConsumerRegistration/propose/oauth2",
        authorization_url="https://meta.wikimedia.org/w/rest.php/oauth2/authorize",
        token_url="https://meta.wikimedia.org/w/rest.php/oauth2/access_token",
        profile_url="https://meta.wikimedia.org/w/rest.php/oauth2/resource/profile",
        client_auth="post",
        # A username can be changed, and is free afterwards: https://meta.wikimedia.org/wiki/Changing_username
        user=UserDocument(
            username="username", name="realname username", email_verified="confirmed_email", groups="groups"
        ),
        notes=(
            "Choose *User identity verification only* with access to the real name and the email address. The grants "
            "of the registration decide what the application may read, so it does not request scopes.",
            "Groups are the user groups on Meta-Wiki, such as `steward`. All accounts are in the groups `*` and "
            "`user`.",
        ),
    ),
    Provider(
        name="wordpress",
        title="WordPress.com",
        documentation_url="https://developer.wordpress.com/docs/oauth2/",
        registration_url="https://developer.wordpress.com/apps/new/",
        authorization_url="https://public-api.wordpress.com/oauth2/authorize",
        token_url="https://public-api.wordpress.com/oauth2/token",
        # https://developer.wordpress.com/docs/api/1.1/get/me/
        profile_url="https://public-api.wordpress.com/rest/v1.1/me",
        scope="auth",
        client_auth="post",
        # The documentation of the user document does not mention verified addresses.
        user=UserDocument(subject="ID", username="username", name="display_name", email_verified=""),
    ),
    Provider(
        name="x",
        title="X (Twitter)",
        documentation_url="https://docs.x.com/fundamentals/authentication/oauth-2-0/authorization-code",
        registration_url="https://developer.x.com/en/portal/dashboard",
        authorization_url="https://x.com/i/oauth2/authorize",
        token_url="https://api.x.com/2/oauth2/token",
        profile_url="https://api.x.com/2/users/me",  # https://docs.x.com/x-api/users/get-my-user
        revocation_url="https://api.x.com/2/oauth2/revoke",
        scope="users.read tweet.read",  # the user document requires both
        client_auth="basic",
        # Users can change their usernames, which are then free for others.
        user=UserDocument(subject="data.id", username="data.username", name="data.name", email="", email_verified=""),
        notes=(
            "Register an app with *User authentication settings*: *Web App* and the permission *Read*.",
            "Usernames can pass to other users, so use the access rule `id:`.",
            "To get refresh tokens, set `WSGI_OAUTH_SCOPE` to `users.read tweet.read offline.access`.",
        ),
    ),
    Provider(
        name="yahoo",
        title="Yahoo",
        documentation_url="https://developer.yahoo.com/sign-in-with-yahoo/",
        registration_url="https://developer.yahoo.com/apps/create/",
        authorization_url="https://api.login.yahoo.com/oauth2/request_auth",
        token_url="https://api.login.yahoo.com/oauth2/get_token",
        profile_url="https://api.login.yahoo.com/openid/v1/userinfo",
        # The metadata call it `token_revocation_endpoint`, which is not the name in RFC 8414.
        revocation_url="https://api.login.yahoo.com/oauth2/revoke",
        jwks_url="https://api.login.yahoo.com/openid/v1/certs",
        issuer="https://api.login.yahoo.com",
        openid=True,
        scope="openid profile email",
        choose_account=LOG_IN_AGAIN,
        client_auth="basic",
        user=UserDocument(username=""),
        notes=(
            "Select the permissions *OpenID Connect*, *Email* and *Profile* for the app.",
            "The redirect URI must be an https URL, even on your own machine.",
        ),
    ),
    Provider(
        name="yandex",
        title="Yandex",
        documentation_url="https://yandex.com/dev/id/doc/en/",
        registration_url="https://oauth.yandex.com/client/new",
        authorization_url="https://oauth.yandex.com/authorize",
        token_url="https://oauth.yandex.com/token",
        profile_url="https://login.yandex.ru/info?format=json",  # https://yandex.com/dev/id/doc/en/user-information
        choose_account=(("force_confirm", "yes"),),
        client_auth="post",
        user=UserDocument(
            subject="id",
            username="login",
            name="real_name display_name",
            email="default_email emails.0",
            email_verified="",
        ),
        notes=(
            "Select access to the login and name (`login:info`) and to the email address (`login:email`). The "
            "application does not request scopes.",
        ),
    ),
)
