"""The description of a provider as data: its endpoints, and its deviations from the specifications."""

import re
from typing import Literal, NamedTuple

# A placeholder in the issuer of metadata for several tenants. An ID token has the tenant's id in its place:
# https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-the-issuer
TENANT = "{tenantid}"
TENANT_ID = r"[0-9A-Za-z-]{1,64}"  # the claim `tid` of the ID token


class UserDocument(NamedTuple):
    """The members of the user document, and the claims of the ID token, that describe the user.

    Each field is a path with dots (``data.0.id``). The name of a member may itself contain dots
    (``https://slack.com/team_id``). Of several paths, separated by spaces, the first existing one is used; for
    ``groups``, all are used together. ``first_name+last_name`` joins two texts with a space. An empty field means that
    the provider does not give this information. The defaults are the standard claims of OpenID Connect Core 5.1.
    """

    subject: str = "sub"  # never changes, and is never given to another user
    username: str = "preferred_username"
    name: str = "name"  # given_name and family_name replace a missing name
    email: str = "email"
    email_verified: str = "email_verified"  # whether the address at `email` in the same document is verified
    groups: str = ""  # at each path: a list of names or of objects, a single name, or an object with names as members


class EmailsDocument(NamedTuple):
    """A list of the user's email addresses. Fields other than ``url`` and ``scope`` are as in :class:`GroupsDocument`.

    It is read if the user document does not contain a verified address.
    """

    url: str
    scope: str = ""
    items: str = ""
    email: str = "email"  # this path and the next two are looked up in each item
    verified: str = "verified"
    primary: str = "primary"
    next_page: str = ""
    next_page_parameter: str = ""


class GroupsDocument(NamedTuple):
    """A list of the user's organizations, teams or groups, for providers whose user document does not contain them.

    ``items``, ``name``, ``parent`` and ``next_page`` are paths like those of :class:`UserDocument`.
    """

    url: str
    scope: str = ""  # required for the URL (RFC 6749 3.3); requested if an access rule needs the list
    items: str = ""  # the list; empty if the document itself is the list
    name: str = "login"  # in each item: a unique name that only the owner of the group can change
    parent: str = ""  # in each item: the name of the organization; the group is then called parent/name
    next_page: str = ""  # the next page's URL in the document; ``Link: rel="next"`` (RFC 8288) needs no entry
    next_page_parameter: str = ""  # if set, next_page is not a URL but the value of this query parameter
    for_overage: bool = False  # read only if the ID token says that it cannot contain all groups of the user


#: The parameters of the end-session URL. ``signed_out_url`` is the page of this application to which the provider sends
#: the browser back. Parameters without a value are left out.
END_SESSION_PARAMETERS = (
    ("client_id", "{client_id}"),
    ("id_token_hint", "{id_token}"),
    ("post_logout_redirect_uri", "{signed_out_url}"),
    ("state", "{state}"),
)


class Provider(NamedTuple):
    """An authorization server, and the resource that describes the signed-in user.

    The defaults follow the specifications. In URLs and in the scope, ``{issuer}`` stands for ``WSGI_OAUTH_ISSUER``
    without a slash at the end (the installation or tenant of a customer), and ``{client_id}`` for the client id.
    """

    name: str  # part of user ids, so it must not change
    title: str  # the name on pages
    documentation_url: str = ""  # where the provider documents the sign-in
    registration_url: str = ""  # page where operators register a client (RFC 6749 2)
    authorization_url: str = ""  # RFC 6749 3.1
    token_url: str = ""  # RFC 6749 3.2
    profile_url: str = ""  # the user document: UserInfo endpoint (OpenID Connect Core 5.3) or its equivalent
    revocation_url: str | None = None  # RFC 7009 2
    revocation_by: Literal["rfc7009", "github"] = "rfc7009"  # github: DELETE with Basic authentication and a JSON body
    end_session_url: str = ""  # OpenID Connect RP-Initiated Logout 2
    end_session_parameters: tuple[tuple[str, str], ...] = END_SESSION_PARAMETERS  # templates
    jwks_url: str = ""  # the keys of its signatures (RFC 7517 5); used with the extra `openid`
    signing_algorithms: tuple[str, ...] = ()  # for ID tokens; by default from the metadata, or all with public keys
    document_algorithms: tuple[str, ...] = ()  # for signed user documents; by default those of ID tokens
    issuer: str | None = None  # compared with `iss` (RFC 9207 2.4, OpenID Connect Core 3.1.3.7); may contain TENANT
    issuer_example: str = ""  # an example of WSGI_OAUTH_ISSUER, which is then required
    always_sends_issuer: bool = False  # whether each authorization response contains `iss` (RFC 9207 3)
    openid: bool = False  # the token response contains an ID token (OpenID Connect Core 3.1.3.3)
    discovery: bool = False  # endpoints without a URL here come from the metadata (OpenID Connect Discovery 4)
    scope: str = ""  # default scopes, separated by spaces (RFC 6749 3.3)
    authorization_parameters: tuple[tuple[str, str], ...] = ()  # for each authorization request (RFC 6749 8.2)
    offline_access_takes_consent: bool = False  # offline_access needs prompt=consent (OpenID Connect Core 11)
    choose_account: tuple[tuple[str, str], ...] = ()  # parameters that let the user choose another account
    client_auth: str = ""  # RFC 6749 2.3.1; empty: a method from the issuer's metadata, otherwise basic
    # The audience of a client assertion (RFC 7523 3): the URL of the token endpoint, or the issuer.
    assertion_audience: Literal["token_url", "issuer"] = "token_url"
    assertion_algorithms: tuple[str, ...] = ()  # supported algorithms for client assertions; empty if unknown
    # At Apple, the client secret is a JWT for this audience, which the client's key signs.
    secret_audience: str = ""
    pushed_authorization_url: str = ""  # RFC 9126 2
    requires_pushed_requests: bool = False  # RFC 9126 5
    # How the authorization response is sent (OAuth 2.0 Multiple Response Type Encoding Practices 2.1)
    response_mode: Literal["query", "form_post"] = "query"
    sends_user_parameter: bool = False  # the response to a user's first sign-in contains the name in `user` (Apple)
    pkce: bool = True  # RFC 7636; without it the nonce or the state alone protects the code (RFC 9700 2.1.1)
    # Seconds; the minimum for WSGI_OAUTH_RECHECK, because the provider limits how often tokens are refreshed
    recheck_interval: int = 0
    profile_method: Literal["GET", "POST"] = "GET"  # for the profile URL (both allowed by OpenID Connect Core 5.3.1)
    profile_headers: tuple[tuple[str, str], ...] = ()  # additional headers for the profile URL
    profile_body: str = ""  # body of the POST request, for APIs that expect a query there (GraphQL)
    # Error codes of the profile URL for an invalid token, besides `invalid_token` (RFC 6750 3.1). If given, other
    # codes do not end a session. Compared without regard to case: ("190",), ("token_expired",).
    ended_token_codes: tuple[str, ...] = ()
    user: UserDocument = UserDocument()
    trusts_emails: bool = False  # all addresses count as verified (WSGI_OAUTH_TRUST_UNVERIFIED_EMAIL)
    username_is_unique: bool = False  # no two users share it, and only its user can change it: safe in access rules
    emails: EmailsDocument | None = None  # verified email addresses, if the user document does not contain them
    groups: tuple[GroupsDocument, ...] = ()  # organizations, teams and groups outside of the user document
    notes: tuple[str, ...] = ()  # advice for operators in docs/providers.md, as whole sentences in Markdown
    tried: str = ""  # how this description was tested; empty if it was written from the documentation only

    @property
    def has_tenants(self) -> bool:
        """Whether users of several tenants can sign in, whose ID tokens have different issuers."""
        return TENANT in (self.issuer or "")

    def is_issuer(self, iss: object) -> bool:
        """Return whether *iss* is the provider's issuer, exactly (RFC 9207 2.4, OpenID Connect Core 3.1.3.7)."""
        return isinstance(iss, str) and (self.tenant_of(iss) is not None if self.has_tenants else iss == self.issuer)

    def tenant_of(self, iss: str) -> str | None:
        """Return the tenant in *iss*, an issuer of this provider; None for other issuers and without tenants."""
        before, placeholder, after = (self.issuer or "").partition(TENANT)
        match = re.fullmatch(f"{re.escape(before)}({TENANT_ID}){re.escape(after)}", iss, re.ASCII)
        return match[1] if placeholder and match else None

    def is_tenant(self, tid: object, iss: object) -> bool:
        """Return whether *tid* is the tenant in *iss*, an issuer of this provider, or the provider has no tenants."""
        return not self.has_tenants or tid == self.tenant_of(str(iss))

    @property
    def lists(self) -> tuple[EmailsDocument | GroupsDocument, ...]:
        """All lists of addresses and groups."""
        return (*((self.emails,) if self.emails else ()), *self.groups)

    @property
    def verifies_emails(self) -> bool:
        """Whether the provider's data shows which addresses are verified, or all are trusted."""
        return bool(self.user.email_verified or self.emails or self.trusts_emails)

    @property
    def sends_nonce(self) -> bool:
        """Whether the sign-in is an OpenID Connect request (Core 3.1.2.1), for which some providers require a nonce."""
        return "openid" in self.scope.split()

    @property
    def signs_with_secret(self) -> bool:
        """Whether the provider signs ID tokens with the client secret only (HMAC, Core 10.1), and has no keys."""
        algorithms = set(self.signing_algorithms) - {"none"}
        return bool(algorithms) and all(each.startswith("HS") for each in algorithms)

    @property
    def asks_for_id_token(self) -> bool:
        """Whether the token response must contain an ID token that this application validates."""
        return self.openid and self.sends_nonce


# Parameters that let the user sign in with another account (OpenID Connect Core 3.1.2.1), for `choose_account`. Every
# OpenID Connect provider supports `login`, which asks for the password again; `select_account` is optional.
SELECT_ACCOUNT = (("prompt", "select_account"),)
LOG_IN_AGAIN = (("prompt", "login"),)
