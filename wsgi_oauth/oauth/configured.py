"""The configured provider: a preset, an OpenID Connect issuer, or three endpoint URLs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from .. import errors
from ..config import ProviderConfig
from ..config.provider import LOG_IN_AGAIN, Provider, UserDocument
from ..config.settings import did_you_mean
from .presets import PRESETS
from .presets.company import MICROSOFT_HOSTS

_ENDPOINTS = ("authorization_url", "token_url", "profile_url")


def provider_from_config(config: ProviderConfig) -> Provider:
    """Return the provider that *config* describes.

    ``provider`` is a description, the URL of an OpenID Connect issuer or the name of a preset. The authorization, token
    and profile URLs together describe any other provider. Otherwise each of them replaces one endpoint.

    :raises errors.ConfigError: for an unknown name, a missing issuer, or settings that contradict each other.
    """
    variables = [config.variable(name) for name in _ENDPOINTS]
    missing = [config.variable(name) for name in _ENDPOINTS if not getattr(config, name)]
    if isinstance(config.provider, Provider):
        if config.provider.name in PRESETS:
            raise errors.ConfigError(
                f"{config.variable('provider')}: its users would get the same ids as those of a known provider "
                f"(got the name {config.provider.name!a}); choose another name"
            )
        return _with_settings(_from_preset(config.provider, config), config)
    if "://" in config.provider:
        provider = _from_issuer(config.provider, config)
    elif not missing:
        provider = _from_urls(config)
    elif len(missing) == 1:
        # Otherwise the third endpoint would be the preset's, which would receive the tokens of another provider.
        raise errors.ConfigError(
            f"{missing[0]}: missing; set all of {', '.join(variables)} to describe a provider, or only one of them to "
            f"replace an endpoint of {config.provider!a}"
        )
    elif config.provider in PRESETS:
        provider = _from_preset(PRESETS[config.provider], config)
    else:
        raise _unknown_provider(config.provider, config)
    return _with_settings(provider, config)


def _from_urls(config: ProviderConfig) -> Provider:
    """Return the provider that the authorization, token and profile URLs describe."""
    # The default, the label, and a name that resembles no preset are harmless.
    if config.provider not in {ProviderConfig.provider, config.label} and (suggestion := _suggestion(config)):
        variables = ", ".join(config.variable(name) for name in _ENDPOINTS)
        remedy = "" if config.provider in PRESETS else f"{suggestion} "
        raise errors.ConfigError(
            f"{config.variable('provider')}: conflicts with {variables}, which describe a provider without a preset "
            f"(got {config.provider!a}); {remedy}remove the name or the URLs"
        )
    name = provider_name(config.issuer or urljoin(config.authorization_url or "", "/"))
    # Most user documents of providers without OpenID Connect have these members.
    user = UserDocument(subject="sub id", username="preferred_username login username")
    # ID tokens are used only with a configured issuer, because they could not be validated without it.
    return Provider(name=name, title=name, issuer=config.issuer, openid=bool(config.issuer), user=user)


def _unknown_provider(name: str, config: ProviderConfig) -> errors.ConfigError:
    """Return the error for a *name* without a preset, with the most likely remedy."""
    problem = "missing, because its label is not a known name" if name == config.label else "unknown provider"
    remedy = _suggestion(config)
    if not remedy and "." in name:
        remedy = f"did you mean https://{name}?"
    if not remedy:
        variables = ", ".join(config.variable(endpoint) for endpoint in _ENDPOINTS)
        remedy = (
            f"use the https URL of an OpenID Connect issuer, or describe another provider with {variables}, "
            f"or use a known name: {', '.join(PRESETS)}"
        )
    return errors.ConfigError(f"{config.variable('provider')}: {problem} (got {name!a}); {remedy}")


def _suggestion(config: ProviderConfig) -> str:
    return did_you_mean(str(config.provider).lower(), PRESETS)


def _with_settings(provider: Provider, config: ProviderConfig) -> Provider:
    """Return *provider* with the settings that replace single values of its description."""
    if config.discovery_url and not provider.discovery:
        raise errors.ConfigError(
            f"{config.variable('discovery_url')}: has no effect, because the endpoints of {provider.title} are not "
            f"discovered (got {config.discovery_url!a}); remove it, or set {config.variable('provider')} to the issuer"
        )
    if config.client_key_issuer and not provider.secret_audience:
        raise errors.ConfigError(
            f"{config.variable('client_key_issuer')}: has no effect, because {provider.title} takes no client "
            f"secret that a key signs (got {config.client_key_issuer!a}); remove it"
        )
    if provider.secret_audience and config.client_key_file and not config.client_key_issuer:
        raise errors.ConfigError(
            f"{config.variable('client_key_issuer')}: missing; set it to the id that {provider.title} gave your team, "
            "which is a part of the client secret"
        )
    if config.has_key and not provider.secret_audience:
        provider = provider._replace(client_auth="private_key_jwt")
    replaced = (*_ENDPOINTS, "revocation_url", "client_auth", "response_mode", "scope", "pkce")
    parameters = {**dict(provider.authorization_parameters), **dict(config.authorization_parameters)}
    configured = _with_claims(provider, config)._replace(
        trusts_emails=provider.trusts_emails or config.trust_unverified_email,
        authorization_parameters=tuple(parameters.items()),
        **{name: value for name in replaced if (value := getattr(config, name)) is not None},
    )
    unconfirmed = [name for name, _ in config.authorization_parameters if name in {"max_age", "acr_values"}]
    # The scope of an issuer may be discovered later.
    if unconfirmed and not (configured.asks_for_id_token or (configured.discovery and not configured.scope)):
        raise errors.ConfigError(
            f"{config.variable('authorization_parameters')}: contains {' and '.join(unconfirmed)}, which only an ID "
            f"token can confirm (got {configured.title}, scope {configured.scope!a}); remove it, or set "
            f"{config.variable('provider')} to an OpenID Connect issuer and add openid to {config.variable('scope')}"
        )
    return configured


def _with_claims(provider: Provider, config: ProviderConfig) -> Provider:
    """Return *provider* with the configured sources of the user's subject, names, address and groups."""
    configured = {name: getattr(config, f"{name}_claim") for name in ("subject", "username", "name", "email", "groups")}
    user = provider.user._replace(**{name: paths for name, paths in configured.items() if paths is not None})
    if config.email_claim and not user.email_verified:
        user = user._replace(email_verified="email_verified")
    # Another claim may be less unique than the provider's username.
    is_unique = provider.username_is_unique and user.username == provider.user.username
    return provider._replace(user=user, username_is_unique=is_unique)


def _from_issuer(issuer: str, config: ProviderConfig) -> Provider:
    """Return a provider with endpoints from the issuer's metadata (OpenID Connect Discovery)."""
    if config.issuer not in {None, issuer}:
        raise errors.ConfigError(
            f"{config.variable('issuer')}: differs from the issuer in {config.variable('provider')} "
            f"(got {config.issuer!a} and {issuer!a}); remove one of them, or set {config.variable('discovery_url')} if "
            "the issuer's document is elsewhere"
        )
    if urlsplit(issuer).hostname in MICROSOFT_HOSTS:
        return _from_preset(PRESETS["microsoft"], replace(config, issuer=issuer))
    name = provider_name(issuer)
    return Provider(
        name=name,
        title=name,
        issuer=issuer,
        openid=True,
        discovery=True,
        offline_access_takes_consent=True,
        choose_account=LOG_IN_AGAIN,  # every issuer must support it (OpenID Connect Core 15.1)
        user=UserDocument(groups="groups"),  # the usual name; the metadata do not mention groups
    )


def _from_preset(preset: Provider, config: ProviderConfig) -> Provider:
    """Return *preset* with the issuer and the client id in its URLs."""
    if preset.issuer_example and config.issuer is None:
        raise errors.ConfigError(
            f"{config.variable('issuer')}: missing; set it to the URL of your {preset.title}, "
            f"for example {preset.issuer_example}"
        )
    issuer, client_id = config.issuer or "", quote(config.client_id, safe="")

    def expand(template: str) -> str:
        return template.replace("{issuer}", issuer.rstrip("/")).replace("{client_id}", client_id)

    values: dict[str, Any] = {
        name: expand(template) for name, template in preset._asdict().items() if name.endswith("_url") and template
    }
    values["scope"] = expand(preset.scope)
    values["emails"] = preset.emails and preset.emails._replace(url=expand(preset.emails.url))
    values["groups"] = tuple(each._replace(url=expand(each.url)) for each in preset.groups)
    if preset.issuer_example:
        # The name contains the issuer, because each installation has its own users.
        return preset._replace(name=provider_name(issuer), issuer=preset.issuer and issuer, **values)
    return preset._replace(issuer=issuer or preset.issuer, **values)


def provider_name(issuer: str) -> str:
    """Return the name of the provider at *issuer*: host and path, because two realms of a host have different users."""
    parts = urlsplit(issuer)
    name = parts.netloc.lower() + parts.path.rstrip("/")
    # Otherwise users of a host called "github" in a private network would get the same ids as users of GitHub.
    return f"{name}/" if name in PRESETS else name
