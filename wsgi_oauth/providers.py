"""A provider is data: where its endpoints are and in what it differs from the specifications."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
class Provider:
    """An authorization server, and the resource that says who signed in."""

    name: str  # stable: it qualifies user ids
    title: str  # for people
    authorization_url: str
    token_url: str
    profile_url: str
    revocation_url: str | None = None  # RFC 7009
    issuer: str | None = None  # compared with `iss`, RFC 9207
    always_sends_issuer: bool = False
    scope: str = ""  # separated by spaces, RFC 6749 3.3
    client_auth: str = "basic"  # RFC 6749 2.3.1
    form_encoded_tokens: bool = False  # answers the token request in form encoding instead of JSON
    user: UserDocument = UserDocument()


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
