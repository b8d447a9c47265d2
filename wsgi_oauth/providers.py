"""A provider is data: where its endpoints are and in what it differs from the specifications."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from . import errors
from .config import PREFIX, Config


@dataclass(frozen=True)
class UserDocument:
    """What the document at the profile URL means: for each thing the name of its member.

    A path has dots in it (``data.0.id``), several separated by spaces are tried in turn, and nothing means: this
    provider does not say. The defaults are the standard claims of OpenID Connect Core 5.1.
    """

    subject: str = "sub"  # never changes, and is never given to somebody else
    username: str = "preferred_username"
    name: str = "name"
    email: str = "email"
    email_verified: str = "email_verified"
    groups: str = ""


@dataclass(frozen=True)
class EmailsDocument:
    """What a document that lists the user's addresses means; paths as in :class:`UserDocument`."""

    items: str = ""  # where the list is; nothing: the document is the list
    email: str = "email"  # of an item
    verified: str = "verified"
    primary: str = "primary"


@dataclass(frozen=True)
class GroupsDocument:
    """What a document that lists the user's groups means; paths as in :class:`UserDocument`."""

    items: str = ""  # where the list is; nothing: the document is the list
    name: str = "login"  # of an item: unique at this provider, and its owner's alone to change


@dataclass(frozen=True)
class Provider:
    """An authorization server, and the resource that says who signed in.

    An entry states only in what it differs. ``{issuer}`` in a URL stands for ``WSGI_OAUTH_ISSUER``, without a slash at
    its end: where a customer's own installation or tenant is.
    """

    name: str  # stable: it qualifies user ids
    title: str  # for people
    registration_url: str = ""  # where a client is registered, RFC 6749 2; for people
    authorization_url: str = ""  # RFC 6749 3.1
    token_url: str = ""  # RFC 6749 3.2
    profile_url: str = ""  # OpenID Connect Core 5.3, or what the provider has in its place
    revocation_url: str | None = None  # RFC 7009 2; `{client_id}` in it stands for the client's id
    revocation_by: Literal["rfc7009", "github"] = "rfc7009"  # github: DELETE, Basic, and JSON with the access token
    end_session_url: str = ""  # OpenID Connect RP-Initiated Logout 2
    issuer: str | None = None  # compared with `iss`, RFC 9207 2.4 and OpenID Connect Core 3.1.3.7
    issuer_example: str = ""  # given: WSGI_OAUTH_ISSUER has to say where the installation is, and looks like this
    always_sends_issuer: bool = False  # in authorization responses, RFC 9207 3
    openid: bool = False  # an ID token comes with the access token, OpenID Connect Core 3.1.3.3
    discovery: bool = False  # endpoints not given here come from the issuer's document, OpenID Connect Discovery 4
    scope: str = ""  # separated by spaces, RFC 6749 3.3
    authorization_parameters: tuple[tuple[str, str], ...] = ()  # with each authorization request, RFC 6749 8.2
    choose_account: tuple[tuple[str, str], ...] = ()  # the same, to be asked which account; OpenID Connect Core 3.1.2.1
    client_auth: str = "basic"  # RFC 6749 2.3.1
    token_request: Literal["form", "json"] = "form"  # noqa: S105  # what the token endpoint reads, RFC 6749 4.1.3
    form_encoded_tokens: bool = False  # answers the token request in form encoding instead of JSON, RFC 6749 5.1
    compliance_fix: str = ""  # the one of requests_oauthlib.compliance_fixes that its token answers need
    profile_headers: tuple[tuple[str, str], ...] = ()  # at the profile URL; `{client_id}` stands for the client's id
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


GITHUB = Provider(
    name="github",
    title="GitHub",
    authorization_url="https://github.com/login/oauth/authorize",
    token_url="https://github.com/login/oauth/access_token",  # noqa: S106  # an address
    profile_url="https://api.github.com/user",
    # Sent with some authorization responses and not with others, so it is checked but never required.
    issuer="https://github.com/login/oauth",
    # https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps: id and secret as parameters
    client_auth="post",
    # The address is the one on the public profile, which says nothing about who can read it.
    user=UserDocument(subject="id", username="login", email_verified=""),
)

# Nobody has said what its user document means, so this is what most of them do.
_UNDESCRIBED = UserDocument(subject="sub id", username="preferred_username login username")

CATALOGUE = {provider.name: provider for provider in (GITHUB,)}


def provider_from_config(config: Config) -> Provider:
    """Return the provider that *config* names or describes.

    The three URLs together describe a provider that is in no catalogue; one alone moves an endpoint of one that is.

    :raises errors.ConfigError: for a name that is not in the catalogue.
    """
    endpoints = {
        name: url
        for name in (
            "authorization_url",
            "token_url",
            "profile_url",
            "revocation_url",
            "issuer",
            "client_auth",
            "scope",
        )
        if (url := getattr(config, name)) is not None
    }
    given = [url for url in (config.authorization_url, config.token_url, config.profile_url) if url]
    if len(given) == 2:  # the third would be another provider's, and get this one's tokens
        raise errors.ConfigError(
            f"{PREFIX}AUTHORIZATION_URL, {PREFIX}TOKEN_URL and {PREFIX}PROFILE_URL describe a provider together: "
            "set the third one, too, or only one of them to move a single endpoint"
        )
    if len(given) == 3:
        host = urlsplit(config.issuer or given[0]).netloc
        return Provider(name=host, title=host, user=_UNDESCRIBED, **endpoints)
    try:
        return replace(CATALOGUE[config.provider], **endpoints)
    except KeyError:
        raise errors.ConfigError(
            f"{PREFIX}PROVIDER must be one of {', '.join(sorted(CATALOGUE))}; it is {config.provider!a}. "
            f"Any other provider is described by {PREFIX}AUTHORIZATION_URL, {PREFIX}TOKEN_URL and "
            f"{PREFIX}PROFILE_URL together"
        ) from None
