"""Find the configured provider: a preset, an OpenID Connect issuer, or three endpoint URLs."""

from __future__ import annotations

from urllib.parse import quote, urljoin, urlsplit

from .. import errors
from ..config import ProviderConfig
from ..config.settings import did_you_mean
from .presets import PRESETS
from .provider import Provider, UserDocument

# The metadata of an issuer says nothing about groups; `groups` is the usual name of that claim.
_ISSUERS_USER = UserDocument(groups="groups")
# Most user documents of providers without OpenID Connect have these members.
_UNKNOWN_USER = UserDocument(subject="sub id", username="preferred_username login username")


def provider_from_config(config: ProviderConfig) -> Provider:
    """Return the provider that *config* describes.

    ``provider`` is the URL of an OpenID Connect issuer or the name of a preset. The authorization, token and profile
    URLs together describe any other provider. Otherwise each of them replaces one endpoint.

    :raises errors.ConfigError: for an unknown name, a missing issuer, or settings that contradict each other.
    """
    endpoints = ("authorization_url", "token_url", "profile_url")
    missing = [name for name in endpoints if not getattr(config, name)]
    if "://" in config.provider:
        provider = _from_issuer(config)
    elif not missing:
        provider = _from_endpoints(config)
    elif len(missing) == 1:
        # Otherwise the third endpoint would be the preset's, which would receive the tokens of another provider.
        first, second = (config.variable(name) for name in endpoints if name not in missing)
        raise errors.ConfigError(
            f"{config.variable(missing[0])}: missing; set it together with {first} and {second} to describe a "
            f"provider, or set only one of them to replace an endpoint of {config.provider!a}"
        )
    elif config.provider in PRESETS:
        provider = _from_preset(PRESETS[config.provider], config)
    else:
        suggestion = did_you_mean(config.provider.lower(), PRESETS)
        raise errors.ConfigError(
            f"{config.variable('provider')}: unknown provider (got {config.provider!a}); "
            f"{suggestion}{' ' if suggestion else ''}use one of {', '.join(PRESETS)}, or the https URL of an OpenID "
            f"Connect issuer, or describe another provider with {_names_of_endpoints(config)}"
        )
    replaced = (*endpoints, "revocation_url", "client_auth", "scope")
    return provider._replace(**{name: value for name in replaced if (value := getattr(config, name)) is not None})


def _names_of_endpoints(config: ProviderConfig) -> str:
    first, second, third = map(config.variable, ("authorization_url", "token_url", "profile_url"))
    return f"{first}, {second} and {third}"


def _from_issuer(config: ProviderConfig) -> Provider:
    """Return a provider with endpoints from the issuer's metadata (OpenID Connect Discovery)."""
    issuer = config.provider
    if config.issuer not in {None, issuer}:
        raise errors.ConfigError(
            f"{config.variable('issuer')}: differs from the issuer in {config.variable('provider')} "
            f"(got {config.issuer!a} and {issuer!a}); remove one of them"
        )
    name = provider_name(issuer)
    return Provider(
        name=name,
        title=name,
        issuer=issuer,
        openid=True,
        discovery=True,
        offline_access_takes_consent=True,
        choose_account=(("prompt", "login"),),  # every issuer must support it (OpenID Connect Core 15.1)
        user=_ISSUERS_USER,
    )


def _from_endpoints(config: ProviderConfig) -> Provider:
    """Return a provider that is only known by its three URLs."""
    is_default = config.provider in {ProviderConfig.provider, config.label}
    # A name that resembles no preset is harmless.
    if not is_default and (suggestion := did_you_mean(config.provider, PRESETS)):
        remedy = f"{'' if config.provider in PRESETS else f'{suggestion} '}remove the name or the URLs"
        raise errors.ConfigError(
            f"{config.variable('provider')}: conflicts with {_names_of_endpoints(config)}, which describe a provider "
            f"without a preset (got {config.provider!a}); {remedy}"
        )
    name = provider_name(config.issuer or urljoin(config.authorization_url or "", "/"))
    return Provider(name=name, title=name, issuer=config.issuer, user=_UNKNOWN_USER)


def _from_preset(preset: Provider, config: ProviderConfig) -> Provider:
    """Return *preset* with the issuer and the client id in its URLs."""
    if preset.issuer_example and config.issuer is None:
        raise errors.ConfigError(
            f"{config.variable('issuer')}: missing; set it to the URL of your {preset.title}, "
            f"for example {preset.issuer_example}"
        )
    issuer, client_id = config.issuer or "", quote(config.client_id, safe="")
    urls = {
        name: template.replace("{issuer}", issuer.rstrip("/")).replace("{client_id}", client_id)
        for name, template in preset._asdict().items()
        if name.endswith("_url") and template
    }
    if preset.issuer_example:
        # The name contains the issuer, because each installation has its own users.
        return preset._replace(name=provider_name(issuer), issuer=preset.issuer and issuer, **urls)
    return preset._replace(issuer=issuer or preset.issuer, **urls)


def provider_name(issuer: str) -> str:
    """Return the name of the provider at *issuer*: host and path, because two realms of a host have different users."""
    parts = urlsplit(issuer)
    name = parts.netloc.lower() + parts.path.rstrip("/")
    # Otherwise users of a host called "github" in a private network would get the same ids as users of GitHub.
    return f"{name}/" if name in PRESETS else name
