"""A provider is data: where its endpoints are and in what it differs from the specifications."""

# No postponed annotations: NamedTuple would compile each of them, which is a third of the work of this module.
from typing import Literal, NamedTuple


class UserDocument(NamedTuple):
    """What the document at the profile URL means: for each thing the name of its member.

    A path has dots in it (``data.0.id``), unless they are the member's own (``https://slack.com/team_id``); several
    separated by spaces are tried in turn, and nothing means: this provider does not say. The defaults are the standard
    claims of OpenID Connect Core 5.1.
    """

    subject: str = "sub"  # never changes, and is never given to somebody else
    username: str = "preferred_username"
    name: str = "name"
    email: str = "email"
    email_verified: str = "email_verified"
    groups: str = ""


class EmailsDocument(NamedTuple):
    """What a document that lists the user's addresses means; paths as in :class:`UserDocument`."""

    items: str = ""  # where the list is; nothing: the document is the list
    email: str = "email"  # of an item
    verified: str = "verified"
    primary: str = "primary"


class GroupsDocument(NamedTuple):
    """What a document that lists the user's groups means; paths as in :class:`UserDocument`."""

    items: str = ""  # where the list is; nothing: the document is the list
    name: str = "login"  # of an item: unique at this provider, and its owner's alone to change


class Provider(NamedTuple):
    """An authorization server, and the resource that says who signed in.

    An entry states only in what it differs. In a URL ``{issuer}`` stands for ``WSGI_OAUTH_ISSUER``, where a customer's
    own installation or tenant is, without a slash at its end; ``{client_id}`` stands for the client's id.
    """

    name: str  # stable: it qualifies user ids
    title: str  # for people
    registration_url: str = ""  # where a client is registered, RFC 6749 2; for people
    authorization_url: str = ""  # RFC 6749 3.1
    token_url: str = ""  # RFC 6749 3.2
    profile_url: str = ""  # OpenID Connect Core 5.3, or what the provider has in its place
    revocation_url: str | None = None  # RFC 7009 2
    revocation_by: Literal["rfc7009", "github"] = "rfc7009"  # github: DELETE, Basic, and JSON with the access token
    end_session_url: str = ""  # OpenID Connect RP-Initiated Logout 2
    issuer: str | None = None  # compared with `iss`, RFC 9207 2.4 and OpenID Connect Core 3.1.3.7
    issuer_example: str = ""  # given: WSGI_OAUTH_ISSUER has to say where the installation is, and looks like this
    always_sends_issuer: bool = False  # in authorization responses, RFC 9207 3
    openid: bool = False  # an ID token comes with the access token, OpenID Connect Core 3.1.3.3
    discovery: bool = False  # endpoints not given here come from the issuer's document, OpenID Connect Discovery 4
    scope: str = ""  # separated by spaces, RFC 6749 3.3
    authorization_parameters: tuple[tuple[str, str], ...] = ()  # with each authorization request, RFC 6749 8.2
    offline_access_takes_consent: bool = False  # the scope is heard with prompt=consent only, OpenID Connect Core 11
    choose_account: tuple[tuple[str, str], ...] = ()  # the same, to be asked which account; OpenID Connect Core 3.1.2.1
    client_auth: str = ""  # RFC 6749 2.3.1; nothing: what the issuer's document offers, else basic
    pkce: bool = True  # RFC 7636; without it the nonce has to do (RFC 9700 2.1.1), or, if need be, the state alone
    lists_scopes: bool = False  # grants them as a list instead of a string, RFC 6749 3.3
    compliance_fix: str = ""  # the one of requests_oauthlib.compliance_fixes that its token answers need
    profile_method: Literal["GET", "POST"] = "GET"  # at the profile URL; both are right, OpenID Connect Core 5.3.1
    profile_headers: tuple[tuple[str, str], ...] = ()  # at the profile URL, besides the usual ones
    user: UserDocument = UserDocument()  # what the document at the profile URL means
    username_is_unique: bool = False  # at any time one user's alone, who alone can change it: fit for a rule
    emails_url: str = ""  # lists addresses and says which of them are verified, where the user document does not
    emails_scope: str = ""  # what reading it takes
    emails: EmailsDocument = EmailsDocument()
    groups_url: str = ""  # lists organisations, teams or groups, where the user document does not
    groups_scope: str = ""  # what reading it takes
    groups: GroupsDocument = GroupsDocument()
    notes: tuple[str, ...] = ()  # what is odd about it; sentences for people
    tried: str = ""  # against what this entry was tried; nothing: written from its documentation alone

    @property
    def asks_for_id_token(self) -> bool:
        """Whether the scope makes it an OpenID Connect sign-in (Core 3.1.2.1)."""
        return self.openid and "openid" in self.scope.split()
