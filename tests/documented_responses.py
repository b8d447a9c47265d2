"""User documents and token responses from the documentation of the providers, shortened."""

from __future__ import annotations

from typing import Any

OCTOCAT = {"login": "octocat", "id": 1, "name": "monalisa octocat", "email": "octocat@github.com", "type": "User"}
GITLAB_USER = {
    "sub": "1",
    "name": "Sidney Jones",
    "preferred_username": "sidney",
    "email": "sidney@example.com",
    "email_verified": True,
    "groups": ["company", "company/team"],
}
STANDARD_CLAIMS = {  # https://openid.net/specs/openid-connect-core-1_0.html#UserInfoResponse
    "sub": "248289761001",
    "name": "Jane Doe",
    "preferred_username": "j.doe",
    "email": "janedoe@example.com",
    "email_verified": True,
}
JANE = ("248289761001", "j.doe", "Jane Doe", "janedoe@example.com", True, ())
STAFF = (*JANE[:-1], ("staff",))

FORGE = (  # https://docs.gitea.com/development/oauth2-provider
    {
        "sub": "42",
        "name": "Ann Smith",
        "preferred_username": "ann",
        "email": "ann@example.com",
        "email_verified": True,
        "groups": ["acme", "acme:developers"],
    },
    ("42", "ann", "Ann Smith", "ann@example.com", False, ("acme", "acme:developers")),
)

# The user document of each preset, and the identity in it: subject, username, name, email address, whether that is
# verified, and groups.
USER_DOCUMENTS: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "adfs": (  # https://learn.microsoft.com/windows-server/identity/ad-fs/development/custom-id-tokens-in-ad-fs
        {
            "sub": "QSMgnGW9yjEkFNRvNsjBWz6r+pCbUvWG0jN5vLFiIJY=",
            "upn": "ann@contoso.com",
            "unique_name": "CONTOSO\\ann",
            "email": "ann@contoso.com",
            "group": ["Domain Users", "Wiki Editors"],
        },
        (
            "QSMgnGW9yjEkFNRvNsjBWz6r+pCbUvWG0jN5vLFiIJY=",
            "ann@contoso.com",
            "CONTOSO\\ann",
            "ann@contoso.com",
            False,
            ("Domain Users", "Wiki Editors"),
        ),
    ),
    "amazon": (  # https://developer.amazon.com/docs/login-with-amazon/obtain-customer-profile.html
        {"user_id": "amzn1.account.K2LI23KL2LK2", "email": "mhashimoto-04@plaxo.com", "name": "Mork Hashimoto"},
        ("amzn1.account.K2LI23KL2LK2", None, "Mork Hashimoto", "mhashimoto-04@plaxo.com", False, ()),
    ),
    "amazon-cognito": (  # https://docs.aws.amazon.com/cognito/latest/developerguide/userinfo-endpoint.html
        {
            "sub": "a1b2c3d4-5678-90ab-cdef-EXAMPLE22222",
            "email_verified": "true",
            "name": "John Doe",
            "email": "john@example.com",
            "username": "JohnDoe",
            # In the ID token: amazon-cognito-user-pools-using-the-id-token.html
            "cognito:groups": ["test-group-a"],
        },
        ("a1b2c3d4-5678-90ab-cdef-EXAMPLE22222", "JohnDoe", "John Doe", "john@example.com", True, ("test-group-a",)),
    ),
    # The claims of the ID token: https://developer.apple.com/documentation/signinwithapple/authenticating-users-with-sign-in-with-apple
    "apple": (
        {
            "iss": "https://appleid.apple.com",
            "sub": "000792.d71059495fa24644b94e4a644e2e3b4a.0638",
            "email": "x7k2m9@privaterelay.appleid.com",
            "email_verified": "true",
            "is_private_email": "true",
            "nonce_supported": True,
        },
        ("000792.d71059495fa24644b94e4a644e2e3b4a.0638", None, None, "x7k2m9@privaterelay.appleid.com", True, ()),
    ),
    "asana": (  # https://developers.asana.com/docs/openid-connect
        {"sub": "1234567890", "name": "Greg Sanchez", "email": "gsanchez@example.com", "picture": "https://x.example/"},
        ("1234567890", None, "Greg Sanchez", "gsanchez@example.com", False, ()),
    ),
    "atlassian": (  # https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/, the User identity API
        {"account_id": "112233aa-bb11", "email": "mia@example.com", "name": "Mia Krystof", "nickname": "mkrystof"},
        ("112233aa-bb11", "mkrystof", "Mia Krystof", "mia@example.com", False, ()),
    ),
    "auth0": (  # https://auth0.com/docs/api/authentication#get-user-info
        {
            "sub": "auth0|1234",
            "nickname": "jane",
            "name": "Jane Doe",
            "email": "jane@example.com",
            "email_verified": False,
        },
        ("auth0|1234", "jane", "Jane Doe", "jane@example.com", False, ()),
    ),
    # https://www.authelia.com/integration/openid-connect/openid-connect-1.0-claims/
    "authelia": ({**STANDARD_CLAIMS, "groups": ["staff"]}, STAFF),
    # https://docs.goauthentik.io/add-secure-apps/providers/oauth2/#default--special-scopes
    "authentik": ({**STANDARD_CLAIMS, "groups": ["staff"]}, STAFF),
    "azure-ad-b2c": (  # https://learn.microsoft.com/azure/active-directory-b2c/tokens-overview#claims
        {
            "sub": "884408e1-2918-4cz0-b12d-3aa027d7563b",
            "name": "David",
            "emails": ["david@contoso.com"],
            "tfp": "B2C_1_signin",
        },
        ("884408e1-2918-4cz0-b12d-3aa027d7563b", None, "David", "david@contoso.com", False, ()),
    ),
    "basecamp": (  # https://github.com/basecamp/api/blob/master/sections/authentication.md
        {
            "expires_at": "2012-03-22T16:56:48-05:00",
            "identity": {
                "id": 9999999,
                "first_name": "Jason",
                "last_name": "Fried",
                "email_address": "jason@basecamp.com",
            },
            "accounts": [{"product": "bc3", "id": 99999999, "name": "Honcho Design"}],
        },
        ("9999999", None, "Jason Fried", "jason@basecamp.com", False, ()),
    ),
    "battlenet": (  # https://community.developer.battle.net/documentation/guides/using-oauth/authorization-code-flow
        {"sub": "12345", "id": 12345, "battletag": "Example#12345"},
        ("12345", "Example#12345", "Example#12345", None, False, ()),
    ),
    "bitbucket": (  # https://developer.atlassian.com/cloud/bitbucket/rest/api-group-users/#api-user-get
        {"type": "user", "uuid": "{b1b2-c3}", "display_name": "Emma", "nickname": "emmap1", "account_id": "5b10"},
        ("{b1b2-c3}", None, "Emma", None, False, ()),
    ),
    "box": (  # https://developer.box.com/reference/get-users-me/
        {
            "id": "11446498",
            "type": "user",
            "name": "Aaron Levie",
            "login": "ceo@example.com",
            "enterprise": {"id": "11446498", "name": "Acme Inc.", "type": "enterprise"},
        },
        ("11446498", None, "Aaron Levie", "ceo@example.com", False, ("11446498",)),
    ),
    "codeberg": FORGE,
    # https://dexidp.io/docs/configuration/custom-scopes-claims-clients/
    "dex": ({**STANDARD_CLAIMS, "groups": ["staff"]}, STAFF),
    "digitalocean": (  # https://docs.digitalocean.com/reference/api/digitalocean/#tag/Account
        {
            "account": {
                "email": "sammy@digitalocean.com",
                "name": "Sammy the Shark",
                "uuid": "b6fr89dbf6d9156cace5f3c78dc9851d957381ef",
                "email_verified": True,
                "status": "active",
                "team": {"uuid": "5df3e3004a17e242b7c20ca6c9fc25b701a47ece", "name": "My Team"},
            }
        },
        (
            "b6fr89dbf6d9156cace5f3c78dc9851d957381ef",
            None,
            "Sammy the Shark",
            "sammy@digitalocean.com",
            True,
            ("5df3e3004a17e242b7c20ca6c9fc25b701a47ece",),
        ),
    ),
    "discord": (  # https://discord.com/developers/docs/resources/user#user-object-example-user
        {
            "id": "80351110224678912",
            "username": "Nelly",
            "discriminator": "1337",
            "global_name": None,
            "verified": True,
            "email": "nelly@discord.com",
        },
        ("80351110224678912", "Nelly", "Nelly", "nelly@discord.com", True, ()),
    ),
    "dropbox": (  # https://www.dropbox.com/developers/documentation/http/documentation#users-get_current_account
        {
            "account_id": "dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc",
            "name": {"given_name": "Franz", "display_name": "Franz Ferdinand (Personal)"},
            "email": "franz@dropbox.com",
            "email_verified": True,
            "team": {"id": "dbtid:AAFdgehTzw7WlXhZJsbGCLePe8RvQGYDr-I", "name": "Acme, Inc."},
        },
        (
            "dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc",
            None,
            "Franz Ferdinand (Personal)",
            "franz@dropbox.com",
            True,
            ("dbtid:AAFdgehTzw7WlXhZJsbGCLePe8RvQGYDr-I",),
        ),
    ),
    "eventbrite": (  # https://www.eventbrite.com/platform/api#/reference/user
        {
            "id": "563480245671",
            "name": "John Doe",
            "first_name": "John",
            "last_name": "Doe",
            "emails": [{"email": "john.doe@eventbrite.com", "verified": True, "primary": True}],
        },
        ("563480245671", None, "John Doe", "john.doe@eventbrite.com", True, ()),
    ),
    "facebook": (  # https://developers.facebook.com/docs/graph-api/overview#me
        {"id": "1234567890", "name": "Jane Smith", "email": "jane@example.com"},
        ("1234567890", None, "Jane Smith", "jane@example.com", False, ()),
    ),
    "figma": (  # https://developers.figma.com/docs/rest-api/users-endpoints/#get-me-endpoint
        {"id": "2345", "email": "lily@example.com", "handle": "Lily", "img_url": "https://x.example/"},
        ("2345", None, "Lily", "lily@example.com", False, ()),
    ),
    "forgejo": FORGE,
    "gitea": FORGE,
    # https://docs.github.com/rest/users/users#get-the-authenticated-user
    "github": (OCTOCAT, ("1", "octocat", "monalisa octocat", "octocat@github.com", False, ())),
    "github-enterprise": (OCTOCAT, ("1", "octocat", "monalisa octocat", "octocat@github.com", False, ())),
    # https://docs.gitlab.com/integration/openid_connect_provider/#shared-information
    "gitlab": (
        GITLAB_USER,
        ("1", "sidney", "Sidney Jones", "sidney@example.com", True, ("company", "company/team")),
    ),
    "gitlab-self-managed": (
        GITLAB_USER,
        ("1", "sidney", "Sidney Jones", "sidney@example.com", True, ("company", "company/team")),
    ),
    "google": (  # https://developers.google.com/identity/openid-connect/openid-connect#an-id-tokens-payload
        {"sub": "10769150350006150715113082367", "name": "J", "email": "j@example.com", "email_verified": True},
        ("10769150350006150715113082367", None, "J", "j@example.com", True, ()),
    ),
    "heroku": (  # https://devcenter.heroku.com/articles/platform-api-reference#account-info
        {
            "id": "01234567-89ab-cdef-0123-456789abcdef",
            "email": "username@example.com",
            "name": "Tina Edmonds",
            "verified": True,
        },
        ("01234567-89ab-cdef-0123-456789abcdef", None, "Tina Edmonds", "username@example.com", False, ()),
    ),
    "hugging-face": (  # https://huggingface.co/docs/hub/oauth
        {
            "sub": "62bd7aa4f5b0a0d0a0d0a0d0",
            "name": "Ada Lovelace",
            "preferred_username": "ada",
            "email": "ada@example.com",
            "email_verified": True,
            "orgs": [{"sub": "5e67bd", "name": "Hugging Face", "preferred_username": "huggingface"}],
        },
        ("62bd7aa4f5b0a0d0a0d0a0d0", "ada", "Ada Lovelace", "ada@example.com", True, ()),
    ),
    "intuit": (  # developer.intuit.com: authentication-and-authorization/openid-connect
        {
            "sub": "1182d6ec-60a1-4aa3-a7f6-d5a1a0b1c2d3",
            "givenName": "John",
            "familyName": "Doe",
            "email": "johndoe@example.com",
            "emailVerified": True,
        },
        ("1182d6ec-60a1-4aa3-a7f6-d5a1a0b1c2d3", None, "John Doe", "johndoe@example.com", True, ()),
    ),
    # https://jumpcloud.com/support/sso-with-oidc
    "jumpcloud": ({**STANDARD_CLAIMS, "memberOf": ["staff"]}, (*JANE[:4], False, ("staff",))),
    "kakao": (  # https://developers.kakao.com/docs/latest/en/kakaologin/rest-api#req-user-info
        {
            "id": 123456789,
            "connected_at": "2022-04-11T01:45:28Z",
            "kakao_account": {
                "profile": {"nickname": "홍길동"},
                "is_email_valid": True,
                "is_email_verified": True,
                "email": "sample@sample.com",
            },
            "properties": {"nickname": "홍길동"},
        },
        ("123456789", None, "홍길동", "sample@sample.com", False, ()),
    ),
    # https://www.keycloak.org/docs/latest/server_admin/#_oidc_token_role_mappings
    "keycloak": ({**STANDARD_CLAIMS, "groups": ["staff"]}, STAFF),
    "line": (  # https://developers.line.biz/en/reference/line-login/#userinfo, the address from the ID token
        {"sub": "U1234567890abcdef1234567890abcdef", "name": "Taro Line", "email": "taro.line@example.com"},
        ("U1234567890abcdef1234567890abcdef", None, "Taro Line", "taro.line@example.com", False, ()),
    ),
    "linear": (  # https://linear.app/developers/graphql
        {
            "data": {
                "viewer": {
                    "id": "90a3d2f1-6a1b-4b60-a6a8-d6ee0e5cc4f0",
                    "name": "Ada Lovelace",
                    "email": "ada@example.com",
                    "organization": {"id": "8e1d9a3c-7c41-4f6c-9a34-3fb1a8a0c6a1", "urlKey": "acme"},
                }
            }
        },
        (
            "90a3d2f1-6a1b-4b60-a6a8-d6ee0e5cc4f0",
            None,
            "Ada Lovelace",
            "ada@example.com",
            False,
            ("8e1d9a3c-7c41-4f6c-9a34-3fb1a8a0c6a1",),
        ),
    ),
    "linkedin": (  # https://learn.microsoft.com/linkedin/consumer/integrations/self-serve/sign-in-with-linkedin-v2
        {
            "sub": "782bbtaQ",
            "name": "John Doe",
            "locale": {"country": "US", "language": "en"},
            "email": "doe@email.com",
            "email_verified": True,
        },
        ("782bbtaQ", None, "John Doe", "doe@email.com", True, ()),
    ),
    "mailchimp": (  # https://mailchimp.com/developer/marketing/guides/access-user-data-oauth-2/
        {
            "dc": "us6",
            "user_id": "3f2a1b",
            "accountname": "Freddie's Jokes",
            "login": {
                "email": "freddie@example.com",
                "login_id": 5551234,
                "login_name": "freddie",
                "login_email": "freddie@example.com",
            },
            "api_endpoint": "https://us6.api.mailchimp.com",
        },
        ("5551234", None, "freddie", "freddie@example.com", False, ("3f2a1b",)),
    ),
    "mastodon": (  # https://docs.joinmastodon.org/methods/accounts/#verify_credentials
        {"id": "14715", "username": "trwnh", "acct": "trwnh", "display_name": "infinite love ⴳ", "bot": False},
        ("14715", "trwnh", "infinite love ⴳ", None, False, ()),
    ),
    "mattermost": (  # https://developers.mattermost.com/api-documentation/#/operations/GetUser
        {
            "id": "4xp9fdt77pncbef59f4k1qe83o",
            "username": "ann",
            "first_name": "Ann",
            "last_name": "Smith",
            "nickname": "",
            "email": "ann@example.com",
            "email_verified": True,
        },
        ("4xp9fdt77pncbef59f4k1qe83o", "ann", "Ann Smith", "ann@example.com", True, ()),
    ),
    "microsoft": (  # https://learn.microsoft.com/entra/identity-platform/userinfo
        {
            "sub": "OLu859SGc2Sr9ZsqbkG-QbeLgJlb41KcdiPoLYNpSFA",
            "name": "Mikah Ollenburg",
            "email": "mikoll@contoso.com",
        },
        ("OLu859SGc2Sr9ZsqbkG-QbeLgJlb41KcdiPoLYNpSFA", None, "Mikah Ollenburg", "mikoll@contoso.com", False, ()),
    ),
    "miro": (  # https://developers.miro.com/reference/get-access-token-information
        {
            "type": "oAuthToken",
            "user": {"type": "user", "id": "3074457350804038700", "name": "John Smith"},
            "team": {"type": "team", "id": "3074457350804038701", "name": "Acme"},
            "scopes": ["identity:read"],
        },
        ("3074457350804038700", None, "John Smith", None, False, ("3074457350804038701",)),
    ),
    "naver": (  # https://developers.naver.com/docs/login/profile/
        {
            "resultcode": "00",
            "message": "success",
            "response": {"email": "openapi@naver.com", "nickname": "OpenAPI", "id": "32742776", "name": "오픈 API"},
        },
        ("32742776", None, "오픈 API", "openapi@naver.com", False, ()),
    ),
    "nextcloud": (  # https://docs.nextcloud.com/server/latest/developer_manual/client_apis/OCS/ocs-api-overview.html
        {
            "ocs": {
                "meta": {"status": "ok", "statuscode": 200, "message": "OK"},
                "data": {
                    "id": "ann",
                    "displayname": "Ann Smith",
                    "email": "ann@example.com",
                    "groups": ["admin", "Wiki Editors"],
                },
            }
        },
        ("ann", "ann", "Ann Smith", "ann@example.com", False, ("admin", "Wiki Editors")),
    ),
    "notion": (  # https://developers.notion.com/reference/get-self
        {
            "object": "user",
            "id": "16d84278-ab0e",
            "name": "Example Integration",
            "type": "bot",
            "bot": {
                "owner": {
                    "type": "user",
                    "user": {"id": "5389a034-eb5c", "name": "Ada", "person": {"email": "ada@makenotion.com"}},
                }
            },
        },
        ("5389a034-eb5c", None, "Ada", "ada@makenotion.com", False, ()),
    ),
    # https://developer.okta.com/docs/api/openapi/okta-oauth/oauth/orgas/userinfo
    "okta": ({**STANDARD_CLAIMS, "groups": ["staff"]}, STAFF),
    "onelogin": (  # https://developers.onelogin.com/openid-connect/api/user-info
        {
            "sub": "42377267",
            "email": "roman.holloway@onelogin.com",
            "preferred_username": "roman.holloway",
            "name": "Roman Holloway",
            "groups": ["Development"],
        },
        ("42377267", "roman.holloway", "Roman Holloway", "roman.holloway@onelogin.com", False, ("Development",)),
    ),
    "openstreetmap": (  # https://wiki.openstreetmap.org/wiki/API_v0.6#Details_of_the_logged-in_user
        {
            "version": "0.6",
            "user": {"id": 1234, "display_name": "Max Muster", "account_created": "2006-07-21T19:28:26Z"},
        },
        ("1234", "Max Muster", "Max Muster", None, False, ()),
    ),
    "orcid": (  # https://info.orcid.org/documentation/api-tutorials/api-tutorial-get-and-authenticated-orcid-id/
        {"sub": "0000-0002-2601-8132", "name": "Credit Name", "family_name": "Jones", "given_name": "Tom"},
        ("0000-0002-2601-8132", None, "Credit Name", None, False, ()),
    ),
    "ory-hydra": (STANDARD_CLAIMS, JANE),  # https://www.ory.com/docs/oauth2-oidc/userinfo-oidc
    "patreon": (  # https://docs.patreon.com/#get-api-oauth2-v2-identity
        {
            "data": {
                "type": "user",
                "id": "12345678",
                "attributes": {"full_name": "Corgi The Dev", "email": "corgi@example.com", "is_email_verified": True},
            }
        },
        ("12345678", None, "Corgi The Dev", "corgi@example.com", True, ()),
    ),
    "paypal": (  # https://developer.paypal.com/docs/api/identity/v1/#userinfo_get
        {
            "user_id": "https://www.paypal.com/webapps/auth/identity/user/mWq6_1sU85v5EG9yHdPxJRrhGHrnMJ-1PQKtX6pcsmA",
            "name": "identity test",
            "payer_id": "WDJJHEBZ4X2LY",
            "verified_account": "true",
            "emails": [{"value": "user1@example.com", "primary": True, "confirmed": True}],
        },
        (
            "https://www.paypal.com/webapps/auth/identity/user/mWq6_1sU85v5EG9yHdPxJRrhGHrnMJ-1PQKtX6pcsmA",
            None,
            "identity test",
            "user1@example.com",
            True,
            (),
        ),
    ),
    # https://developer.pingidentity.com/pingone-api/auth/openid-connect-oauth-2.html
    "pingone": ({**STANDARD_CLAIMS, "groups": ["staff"]}, STAFF),
    "reddit": (  # https://www.reddit.com/dev/api/#GET_api_v1_me
        {"id": "1w72", "name": "reddit", "has_verified_email": True, "verified": True, "total_karma": 100},
        ("1w72", "reddit", "reddit", None, False, ()),
    ),
    "salesforce": (  # help.salesforce.com: remoteaccess_using_userinfo_endpoint
        {
            "sub": "https://example.my.salesforce.com/id/00Dxx0000001gEREAY/005xx000001SwiUAAS",
            "user_id": "005xx000001SwiUAAS",
            "organization_id": "00Dxx0000001gEREAY",
            "preferred_username": "user@example.com",
            "name": "Pat Patterson",
            "email": "user@example.com",
            "email_verified": True,
        },
        (
            "https://example.my.salesforce.com/id/00Dxx0000001gEREAY/005xx000001SwiUAAS",
            "user@example.com",
            "Pat Patterson",
            "user@example.com",
            True,
            ("00Dxx0000001gEREAY",),
        ),
    ),
    "shopify": (  # the ID token: https://shopify.dev/docs/api/customer/latest
        {"sub": "gid://shopify/Customer/1234567890", "email": "customer@example.com"},
        ("gid://shopify/Customer/1234567890", None, None, "customer@example.com", False, ()),
    ),
    "slack": (  # https://docs.slack.dev/reference/methods/openid.connect.userInfo/
        {
            "ok": True,
            "sub": "U0R7JM",
            "https://slack.com/user_id": "U0R7JM",
            "https://slack.com/team_id": "T0R7GR",
            "email": "krane@slack-corp.com",
            "email_verified": True,
            "name": "krane",
        },
        ("U0R7JM", None, "krane", "krane@slack-corp.com", True, ("T0R7GR",)),
    ),
    "spotify": (  # https://developer.spotify.com/documentation/web-api/reference/get-current-users-profile
        {"id": "smedjan", "display_name": "Smedjan", "email": "smedjan@example.com", "type": "user"},
        ("smedjan", None, "Smedjan", "smedjan@example.com", False, ()),
    ),
    "strava": (  # https://developers.strava.com/docs/reference/#api-Athletes-getLoggedInAthlete
        {"id": 1234567890987654321, "username": "marianne_t", "firstname": "Marianne", "lastname": "Teutenberg"},
        ("1234567890987654321", None, "Marianne Teutenberg", None, False, ()),
    ),
    "stripe": (  # https://docs.stripe.com/api/accounts/retrieve
        {
            "id": "acct_1032D82eZvKYlo2C",
            "object": "account",
            "business_profile": {"name": "Acme", "url": None},
            "email": "site@stripe.com",
            "settings": {"dashboard": {"display_name": "Stripe.com", "timezone": "US/Pacific"}},
        },
        ("acct_1032D82eZvKYlo2C", None, "Stripe.com", "site@stripe.com", False, ()),
    ),
    "todoist": (  # https://developer.todoist.com/api/v1/#tag/User
        {"id": "2671355", "email": "me@example.com", "full_name": "Example User", "is_premium": True},
        ("2671355", None, "Example User", "me@example.com", False, ()),
    ),
    "twitch": (  # https://dev.twitch.tv/docs/authentication/getting-tokens-oidc/
        {"sub": "713936733", "preferred_username": "Dallas", "email": "d@example.com", "email_verified": True},
        ("713936733", "Dallas", "Dallas", "d@example.com", True, ()),
    ),
    "wikimedia": (  # https://www.mediawiki.org/wiki/OAuth/For_Developers
        {
            "sub": 12345,
            "username": "Example",
            "realname": "",
            "email": "example@example.org",
            "confirmed_email": True,
            "groups": ["*", "user", "steward"],
        },
        ("12345", "Example", "Example", "example@example.org", True, ("*", "user", "steward")),
    ),
    "wordpress": (  # https://developer.wordpress.com/docs/api/1.1/get/me/
        {
            "ID": 78972699,
            "display_name": "apiexamples",
            "username": "apiexamples",
            "email": "justin+apiexamples@example.com",
            "email_verified": True,
        },
        ("78972699", "apiexamples", "apiexamples", "justin+apiexamples@example.com", False, ()),
    ),
    "x": (  # https://docs.x.com/x-api/users/get-my-user
        {"data": {"id": "2244994945", "name": "X Dev", "username": "TwitterDev"}},
        ("2244994945", "TwitterDev", "X Dev", None, False, ()),
    ),
    "yahoo": (  # https://developer.yahoo.com/sign-in-with-yahoo/
        {"sub": "FSVIDUW3D7FSVIDUW3D72F2F", "name": "Jane Doe", "email": "janedoe@example.com", "email_verified": True},
        ("FSVIDUW3D7FSVIDUW3D72F2F", None, "Jane Doe", "janedoe@example.com", True, ()),
    ),
    "yandex": (  # https://yandex.com/dev/id/doc/en/user-information
        {
            "login": "ivan",
            "id": "1000034426",
            "default_email": "test@yandex.ru",
            "emails": ["test@yandex.ru", "other-test@yandex.ru"],
            "display_name": "ivan",
            "real_name": "Ivan Ivanov",
            "psuid": "1.AAceCw.tbHgw5DtJ9_zeqPrk-Ba2w",
        },
        ("1000034426", "ivan", "Ivan Ivanov", "test@yandex.ru", False, ()),
    ),
    "zitadel": (STANDARD_CLAIMS, JANE),  # https://zitadel.com/docs/apis/openidoauth/claims
    "zoho": (  # https://www.zoho.com/accounts/protocol/oauth/web-server-applications.html
        {
            "First_Name": "Jane",
            "Last_Name": "Doe",
            "Display_Name": "Jane Doe",
            "Email": "jane@example.com",
            "ZUID": 12345678,
        },
        ("12345678", None, "Jane Doe", "jane@example.com", False, ()),
    ),
    "zoom": (  # https://developers.zoom.us/docs/api/users/#tag/users/get/users/{userId}
        {
            "id": "zJKyaiAyTNC-MWjiWC18KQ",
            "first_name": "Jill",
            "display_name": "Jill Chill",
            "email": "jchill@example.com",
            "verified": 1,
            "account_id": "q6gBJVO5TzexKYTb_I2rpg",
        },
        (
            "zJKyaiAyTNC-MWjiWC18KQ",
            None,
            "Jill Chill",
            "jchill@example.com",
            False,
            ("q6gBJVO5TzexKYTb_I2rpg",),
        ),
    ),
}

# Members of documented token responses that differ from RFC 6749 5.1, or that are additional.
# None stands for a member that is missing.
TOKEN_RESPONSES: dict[str, dict[str, Any]] = {
    "asana": {"token_type": "bearer", "data": {"gid": "4673218951", "name": "Greg Sanchez", "id": 4673218951}},
    "basecamp": {"token_type": None, "expires_in": 1209600},  # draft 5 of OAuth 2 has no token_type
    "box": {"token_type": "bearer", "restricted_to": []},
    "digitalocean": {"scope": "account:read", "info": {"name": "Sammy the Shark", "uuid": "e028b1b918853eca7fba"}},
    "figma": {"user_id_string": "2345", "expires_in": 7776000},
    "github": {"token_type": "bearer", "scope": "repo,gist"},
    "heroku": {"user_id": "01234567-89ab-cdef-0123-456789abcdef", "session_nonce": "2bf3ec81701ec291"},
    "intuit": {"x_refresh_token_expires_in": 8726400},
    "kakao": {"token_type": "bearer", "refresh_token_expires_in": 5184000, "scope": "account_email profile_nickname"},
    "linear": {"scope": ["read"], "expires_in": 86399},
    "linkedin": {"token_type": None, "expires_in": 86400},
    "mailchimp": {"expires_in": 0, "scope": None},
    "mastodon": {"created_at": 1573979017, "scope": "read:accounts"},
    "mattermost": {"token_type": "bearer", "scope": "user"},
    "miro": {"user_id": "9876543210", "team_id": "5434545", "scope": "boards:read", "expires_in": 3599},
    "naver": {"token_type": "bearer", "expires_in": "3600"},
    "nextcloud": {"user_id": "ann"},
    "orcid": {"token_type": "bearer", "name": "Sofia Garcia", "orcid": "0000-0001-2345-6789", "expires_in": 631138518},
    "patreon": {"expires_in": "2678400", "scope": "identity identity[email]"},
    "paypal": {"nonce": "2026-11-30T12:00:00Z", "scope": "openid profile email", "expires_in": "28800"},
    "salesforce": {
        "instance_url": "https://example.my.salesforce.com",
        "issued_at": "1278448832702",
        "signature": "0Cm=",
    },
    "strava": {"expires_at": 1568775134, "expires_in": 20566, "athlete": {"id": 1234567890987654321}},
    "stripe": {
        "token_type": "bearer",
        "scope": "read_only",
        "livemode": False,
        "stripe_user_id": "acct_1032D82eZvKYlo2C",
    },
    "twitch": {"scope": ["openid", "user:read:email"]},
    "wordpress": {"blog_id": "0", "blog_url": None, "token_type": "bearer", "scope": "auth"},
    "yandex": {"token_type": "bearer", "expires_in": 124234123534},
    "zoho": {"api_domain": "https://www.zohoapis.com", "expires_in": 3600},
}
