"""The check of a provider: its metadata, and a harmless request to each of its endpoints."""

from __future__ import annotations

import json
import os
import shlex
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

from requests import Response

from .. import errors, sign_in
from ..config import ProviderConfig
from ..config.provider import Provider
from ..config.settings import PREFIX
from ..oauth import discovery
from ..oauth.client import OAuth2Session
from ..oauth.discovery import OtherIssuer
from ..oauth.id_token import MAX_CLOCK_SKEW
from ..oauth.presets import PRESETS
from ..oauth.refusal import build_refusal
from ..oauth.registration import Registration
from ..oauth.token import Token
from ..transport.error_description import describe_error, find_error
from .finding import Finding, fail, locate_document, ok, warn

DEFAULT_PORT = "8000"  # gunicorn's default
CLOCK_SKEW = 60  # seconds by which the clocks of this machine and of the provider may differ
INVALID = "made-up-by-wsgi-oauth-check-nobody-holds-it"  # sent as a code, a code verifier or a token

_COMPARE_URL = "compare the URL with the provider's documentation"
_WAIT = "wait some minutes, and check again"
_BROKEN = {404, 405, *range(500, 600)}  # status codes of a missing or failing endpoint


class ProviderCheck:
    """The check of one provider: its metadata and its endpoints."""

    def __init__(
        self, config: ProviderConfig, registration: Registration, public_url: str | None, port: str = DEFAULT_PORT
    ) -> None:
        self._config = config
        self._registration = registration
        self._public_url = public_url
        url = public_url or f"http://127.0.0.1:{port}"
        self._signed_out_url = f"{url}/signed-out"
        self._backchannel_logout_uri = f"{url}/backchannel-logout"
        self._redirect_uri = f"{url}/callback{'/' if config.label else ''}{config.label}"
        self._clients: list[OAuth2Session] = []  # one for each request, with its response

    def findings(self) -> Iterator[Finding]:
        """Run all checks. They end early if the issuer's metadata cannot be read."""
        preset, discovery = self._registration.configured_provider, self._registration.discovery
        setting = self._config.provider
        notes = ""
        if preset.notes and isinstance(setting, str):
            entry = "microsoft" if "://" in setting else setting  # no other provider set by its URL has notes
            notes = f"read the notes on this provider: {locate_document('providers.md')}#{entry}"
        yield ok(f"provider {preset.title}: client id {self._config.client_id}", notes)
        if self._public_url:
            remedy = f"register it at {preset.registration_url}" if preset.registration_url else ""
            yield ok(f"redirect URI: register exactly this URL: {self._redirect_uri}", remedy)
        else:
            remedy = (
                "register it to try the sign-in on this machine; on a server, set WSGI_OAUTH_PUBLIC_URL to the https "
            )
            remedy += "URL of the application, including its mount prefix"
            yield warn(f"redirect URI: works on this machine only: {self._redirect_uri}", remedy)
        try:
            metadata = discovery.fetch_metadata().document if discovery else {}
            provider = self._registration.provider
        except errors.ProviderError as error:
            variable = self._config.variable("issuer" if setting in PRESETS else "provider")
            # ID tokens of another issuer are refused.
            is_fatal = isinstance(error, OtherIssuer) and preset.asks_for_id_token
            if discovery and not (discovery.is_needed or is_fatal):
                remedy = "sign-ins do not need it, because all endpoints are known; "
                remedy += f"if endpoints below fail, too, correct {variable}"
                yield warn(f"issuer {preset.issuer}: {error.detail}", remedy)
                yield from self._check_provider(self._registration.provider, {})
                return
            remedy = error.remedy
            if isinstance(error, errors.ProviderRateLimit):
                remedy = _WAIT
            elif not isinstance(error, (errors.ProviderUnreachable, errors.ProviderTimeout, OtherIssuer)):
                remedy = (
                    f"set {variable} to the exact issuer of the provider, including realm or tenant, and a slash at "
                    f"the end if it has one{remedy and '; '}{remedy}"
                )
            yield fail(f"issuer {preset.issuer}: {error.detail}", remedy)
            return
        if discovery:
            differences = [*self._compare_endpoints(preset, metadata), *self._compare_features(provider, metadata)]
            for finding in differences or [ok("the metadata agrees with the configuration")]:
                yield replace(finding, text=f"issuer {provider.issuer}: {finding.text}")
        yield from self._check_provider(provider, metadata)

    def _check_provider(self, provider: Provider, metadata: Mapping[str, Any]) -> Iterator[Finding]:
        yield from self._check_rules(provider)
        if self._config.pkce is False:
            text = f"{self._config.variable('pkce')}=no: a stolen authorization code can be injected into a sign-in"
            text += ", unless the nonce reveals it" if provider.asks_for_id_token else ""
            yield warn(text, "unset it, unless the provider refuses the code verifier")
        yield from self._check_response_mode(provider, metadata)
        yield from self._check_client_key()
        yield from self._check_signatures(provider)
        yield from self._check_backchannel_logout(provider, metadata)
        yield ok(f"scope: {provider.scope or 'none requested, so the provider chooses'}")
        yield self._check_refresh(provider, metadata)
        yield from self.endpoint_findings()

    def _check_response_mode(self, provider: Provider, metadata: Mapping[str, Any]) -> Iterator[Finding]:
        if provider.response_mode != "form_post":
            return
        modes = metadata.get("response_modes_supported")  # Discovery 3
        if isinstance(modes, list) and "form_post" not in modes:
            supported = ", ".join(map(str, modes))
            text = f"response mode: form_post is configured, and the issuer supports {supported!a:.200}"
            yield warn(text, f"unset {self._config.variable('response_mode')}")
        elif not (self._public_url or "").startswith("https:"):
            text = "response mode form_post: over http, some browsers (Safari) reject the cookie of a sign-in"
            yield warn(text, f"set {PREFIX}PUBLIC_URL to an https URL")
        else:
            text = f"response mode form_post: the provider's form is posted to {self._redirect_uri}"
            yield ok(text, "let proxies and firewalls accept this POST from other origins")

    def _check_client_key(self) -> Iterator[Finding]:
        """Print the public key for the registration, and warn if other users can read the private one."""
        key = self._registration.client_key
        if key is None:
            return
        if not self._registration.configured_provider.secret_audience:
            yield ok(f"client key: {json.dumps(key.public_jwk())}", "register this public key (JWK) at the provider")
            supported = self._registration.provider.assertion_algorithms
            if supported and not set(supported) & set(key.algorithms):
                names = " ".join(supported)
                text = f"client key: signs with {key.algorithms[0]}, and the provider supports {names!a:.200}"
                yield warn(text, "create a key of another type: RS and PS need RSA, ES256 needs EC P-256")
        elif not self._config.client_key_id:
            text = f"{self._config.variable('client_key_id')}: missing (used: {key.key_id!a})"
            title = self._registration.configured_provider.title
            yield warn(text, f"set it to the id of the key at {title}")
        path = self._config.client_key_file or ""
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if mode & 0o077:
            variable = self._config.variable("client_key_file")
            text = f"{variable}: other users of this machine can use the file {path!a} (its mode is {mode:04o})"
            yield warn(text, f"run chmod 600 {path}")

    def _check_signatures(self, provider: Provider) -> Iterator[Finding]:
        """Report whether ID tokens are protected by signatures or by TLS (OpenID Connect Core 3.1.3.7, item 6)."""
        keys = self._registration.keys
        if not provider.asks_for_id_token:
            return
        rule = "ID tokens: accepted without their signatures, because they come from the token endpoint"
        if keys is None:
            yield ok(rule, "to verify signatures, too, install wsgi-oauth[openid]")
        elif provider.signs_with_secret:
            names = ", ".join(provider.signing_algorithms)
            yield ok(f"ID tokens: signatures are verified with the client secret ({names})")
        elif not provider.jwks_url:
            text = f"{rule}; the URL of the provider's keys is unknown"
            yield warn(text, "add jwks_uri to the metadata of the issuer")
        else:
            try:
                if count := keys.count(provider.jwks_url):
                    yield ok(f"ID tokens: signatures are verified (keys: {count}, at {provider.jwks_url})")
                else:
                    text = f"ID tokens: no key is published for their signatures (at {provider.jwks_url})"
                    yield fail(text, "let the provider sign the ID tokens of this client with a key")
            except errors.ProviderError as error:
                yield fail(f"ID tokens: signatures cannot be verified: {error.detail}", error.remedy or _COMPARE_URL)

    def _check_backchannel_logout(self, provider: Provider, metadata: Mapping[str, Any]) -> Iterator[Finding]:
        """Print the URL for the registration, if the issuer supports back-channel logout (Back-Channel Logout 2.1)."""
        if metadata.get("backchannel_logout_supported") is not True or not provider.asks_for_id_token:
            return
        if self._registration.keys is None:
            text = "back-channel logout: supported by the issuer, but logout tokens cannot be verified here"
            yield ok(text, "to let the provider sign users out, install wsgi-oauth[openid]")
        else:
            text = f"back-channel logout: register this URL: {self._backchannel_logout_uri}"
            yield ok(text, "the provider then signs users out of this application")

    def _check_rules(self, provider: Provider) -> Iterator[Finding]:
        """Warn about access rules for values that users may be able to change."""
        if provider.trusts_emails:
            name = self._config.variable("trust_unverified_email")
            text = f"{name}: a user who can enter an address at {provider.title} has the access of its owner"
            yield warn(text, f"unset {name} unless only administrators can change addresses there")
        user = provider.user
        changeable = {*user.name.split(), *([] if provider.username_is_unique else user.username.split())}
        for claim in sorted({rule.claim for rule in self._registration.rules} & changeable):
            text = f"access: claim:{claim}= compares a value that users may be able to change at {provider.title}"
            yield warn(text, "use id:, or a claim that only administrators can change")
        if provider.has_tenants:
            yield self._check_tenants()

    def _check_tenants(self) -> Finding:
        """Require a rule that names the tenants, because anyone can create a tenant."""
        rules, name = self._registration.rules, f"{PREFIX}ALLOW"
        if not any(rule.claim == "tid" for rule in rules):
            text = "access: users of every tenant can sign in, and anyone can create a tenant"
            return fail(text, f"list the ids of your tenants in {name}: claim:tid=<id> for each")
        others = [f"{rule.kind}:{rule.value}" for rule in rules if rule.kind in {"group", "org"}]
        others += [f"claim:{rule.claim}" for rule in rules if rule.claim not in {"", "tid"}]
        if others:
            text = f"access: {', '.join(others)} can match users of every tenant, because one rule of {name} is enough"
            return warn(text, "use claim:tid= rules only, and decide about groups in the application")
        return ok("access: only users of the tenants in claim:tid= rules")

    # The issuer's metadata (OpenID Connect Discovery 3).

    def _compare_endpoints(self, preset: Provider, metadata: Mapping[str, Any]) -> Iterator[Finding]:
        """Warn about endpoints in the settings or the preset that differ from the metadata."""
        for name, member in discovery.ENDPOINTS.items():
            setting = "end_session" if name == "end_session_url" else name
            configured = getattr(self._config, setting, None)  # jwks_url has no setting
            configured = None if configured == "yes" else configured
            used, announced = configured or getattr(preset, name), metadata.get(member)
            if used and announced and used != announced:
                variable = self._config.variable(setting)
                remedy = f"unset {variable} unless this is intended" if configured else f"set {variable} to {announced}"
                yield warn(f"the {member} in the metadata is {announced!a}, but {used!a} is used", remedy)

    def _compare_features(self, provider: Provider, metadata: Mapping[str, Any]) -> Iterator[Finding]:
        """Warn about features that sign-ins need, but the metadata do not list."""
        methods = {name: method for method, name in discovery.CLIENT_AUTH.items()}
        method, pkce = methods[provider.client_auth.removesuffix("-raw")], "S256" if provider.pkce else ""
        scope, client_auth = self._config.variable("scope"), self._config.variable("client_auth")
        auth_remedy = f"unset {client_auth}, or set it to a supported method"
        if method == "private_key_jwt":
            auth_remedy = "permit private_key_jwt for this client at the provider, or use a client secret"
        flow_remedy = "enable the authorization code flow at the provider"
        pkce_remedy = "enable PKCE, which protects stolen authorization codes (RFC 7636); if sign-ins fail, set "
        pkce_remedy += f"{self._config.variable('pkce')}=no"
        # An issuer does not list the scopes of other APIs, such as Microsoft Graph.
        api_scopes = {name for each in provider.lists for name in each.scope.split()}
        scopes = " ".join(each for each in provider.scope.split() if each not in api_scopes)
        for feature, values, remedy in (
            ("response_types", "code", flow_remedy),
            ("scopes", scopes, f"if sign-ins fail with invalid_scope, remove scopes from {scope}"),
            ("grant_types", "authorization_code", flow_remedy),
            ("code_challenge_methods", pkce, pkce_remedy),
            ("token_endpoint_auth_methods", method, auth_remedy),
        ):
            supported = metadata.get(f"{feature}_supported")
            if isinstance(supported, list) and (missing := [each for each in values.split() if each not in supported]):
                yield warn(f"its {feature}_supported lacks {' '.join(missing)}", remedy)
        supported, names_groups = metadata.get("scopes_supported"), "groups" in provider.user.groups.split()
        is_offered = isinstance(supported, list) and "groups" in supported and "groups" not in provider.scope.split()
        if is_offered and names_groups and any(rule.kind in {"group", "org"} for rule in self._registration.rules):
            text = f"access: group: rules need groups, and the scope {provider.scope!a} does not request them"
            yield warn(text, f"set {scope}={shlex.quote(f'{provider.scope} groups'.strip())}")

    def _check_refresh(self, provider: Provider, metadata: Mapping[str, Any]) -> Finding:
        """Report whether sign-ins probably give refresh tokens."""
        remedy = "without a refresh token, a session whose access token has expired is not rechecked: behind the gate "
        remedy += "and /verify it continues, and at /profile users sign in again"
        grants, scopes = metadata.get("grant_types_supported"), metadata.get("scopes_supported")
        if isinstance(grants, list) and "refresh_token" not in grants:
            return warn("refresh tokens: the issuer's grant_types_supported lacks refresh_token", remedy)
        # OpenID Connect Core 11; Google and Dropbox have parameters instead of a scope.
        if "offline_access" in provider.scope.split() or "offline" in dict(provider.authorization_parameters).values():
            return ok("refresh tokens: requested with each sign-in")
        if isinstance(scopes, list) and "offline_access" in scopes:
            remedy += f"; many providers give one if {self._config.variable('scope')} contains offline_access "
            remedy += "(at Keycloak it is not needed)"
        if isinstance(grants, list):
            return ok("refresh tokens: supported by the issuer, but perhaps not for every client", remedy)
        return warn("refresh tokens: unknown until a user signs in", remedy)

    # Requests to the endpoints.

    def endpoint_findings(self) -> Iterator[Finding]:
        """Send a harmless request to each endpoint."""
        provider, variable = self._registration.provider, self._config.variable
        yield self._probe("authorization", provider.authorization_url, self._probe_authorization)
        yield self._probe("token", provider.token_url, self._probe_token)
        if provider.profile_url:  # otherwise the ID token describes the user
            yield self._probe("profile", provider.profile_url, self._probe_profile)
        if self._config.issuer and not self._registration.discovery:
            yield ok(f"issuer {self._config.issuer}: compared with authorization responses at each sign-in")
        if provider.revocation_url:
            yield self._probe("revocation", provider.revocation_url, self._probe_revocation, failure="warn")
        else:
            text = "revocation: no endpoint, so tokens stay valid after sign-out until they expire"
            yield ok(text, f"set {variable('revocation_url')} if the provider has a revocation endpoint (RFC 7009)")
        url = self._registration.end_session_url({}, signed_out_url=self._signed_out_url, state="check")
        if url:
            yield self._probe("end-session", url, self._probe_end_session, failure="warn")
        elif self._config.end_session:
            name = variable("end_session")
            text = f"{name}: has no effect, because the provider announces no end-session endpoint"
            yield warn(text, f"set {name} to the URL of the endpoint, or unset it")
        yield self._check_clock()

    def _probe(self, name: str, url: str, probe: Callable[[str], Finding], *, failure: str = "FAIL") -> Finding:
        """Return the finding of *probe*. If it raises an error, return a finding of the level *failure* instead."""
        try:
            finding = probe(url)
        except errors.ProviderRateLimit as error:
            finding = warn(error.detail, _WAIT)
        except errors.Error as error:
            finding = Finding(failure, error.detail, error.remedy or _COMPARE_URL)
        return replace(finding, text=f"{name} endpoint {url}: {finding.text}")

    def _client(self, token: Token | None = None) -> OAuth2Session:
        self._clients.append(self._registration.oauth2_session(token=token, redirect_uri=self._redirect_uri))
        return self._clients[-1]

    def _request(self, method: str, url: str, **headers: str) -> Response:
        return self._client().request(method, url, headers=headers, withhold_token=True)

    def _probe_authorization(self, url: str) -> Finding:
        """Send an authorization request as a browser does."""
        provider, label = self._registration.provider, self._registration.label
        attempt = sign_in.Attempt.new(redirect_uri=self._redirect_uri, next_url="/", provider=label)
        attempt = attempt.for_authorization(provider)
        request_url, _ = self._client().authorization_url(url, **attempt.parameters)
        response = self._request("GET", request_url)
        location, _, query = response.headers.get("Location", "").partition("?")
        if location == self._redirect_uri and "error" in dict(parse_qsl(query)):  # RFC 6749 4.1.2.1
            try:
                sign_in.check_response(sign_in.AuthorizationResponse.parse(query.encode()), attempt, self._registration)
            except errors.Error as error:
                return fail(f"refuses every sign-in: {error.detail}", error.remedy)
        status = response.status_code
        if status < 400:
            return ok("answers")
        refusal = build_refusal(*find_error(response), provider, endpoint="", redirect_uri=self._redirect_uri)
        if status == 400 and isinstance(refusal, errors.RedirectUriRefused):
            return fail(f"refuses every sign-in with status {status}{describe_error(response)}", refusal.remedy)
        # Without a public URL, the redirect URI is a guess, which may be the reason for status 400.
        is_fatal = status in _BROKEN or (status == 400 and self._public_url)
        remedy = "check the URL, the client id, and the registered redirect URI; a browser may show the reason"
        text = f"answers with status {status}{describe_error(response)}"
        return Finding("FAIL" if is_fatal else "warn", text, remedy)

    def _probe_token(self, url: str) -> Finding:
        """Exchange an invalid code: if the client is accepted, the error is about the code."""
        client = self._client()
        try:
            client.fetch_token(url, code=INVALID, code_verifier=INVALID)
        except errors.CodeRefused:
            credentials = "client id and secret" if self._config.client_secret else "client id"
            return ok(f"accepts the {credentials}")
        except errors.ClientRefused as error:
            remedy = "copy the client id and secret again, or create a new secret; "
            if self._config.has_key:
                has_public_key = self._registration.provider.client_auth == "private_key_jwt"
                remedy = "register the public key above; " if self._config.client_key_file and has_public_key else ""
            return fail(error.detail, remedy + error.remedy)
        except errors.IdTokenRefused:
            pass  # the endpoint has issued an access token
        except errors.ProviderError as error:
            # Some providers do not answer invalid_grant to an invalid code (RFC 6749 5.2), or with status 200.
            response = client.response
            status = 0 if response is None else response.status_code
            if response is not None and (status in {400, 401, 403} or (status == 200 and find_error(response)[0])):
                remedy = "the reason may be the invalid code of this check: try to sign in"
                return warn(error.detail, f"{remedy}; otherwise {error.remedy}" if error.remedy else remedy)
            raise
        return fail("issues a token for an invalid code", "do not trust this provider")

    def _probe_profile(self, url: str) -> Finding:
        """Request the user document without a token."""
        provider = self._registration.provider
        headers = {"Accept": "application/json", **dict(provider.profile_headers)}
        status = self._request(provider.profile_method, url, **headers).status_code
        if status in {400, 401, 403}:
            return ok("requires a token")
        level = "FAIL" if status in _BROKEN else "warn"
        return Finding(level, f"answers with status {status} to a request without a token", "check the URL")

    def _probe_revocation(self, url: str) -> Finding:
        """Revoke an invalid token, which must succeed (RFC 7009 2.2)."""
        if self._registration.provider.revocation_by != "rfc7009":
            text = "unknown whether it revokes tokens: not tested, because it does not follow RFC 7009"
            return warn(text, "sign out once, and look for a warning about the revocation in the log")
        client = self._client({"access_token": INVALID})
        try:
            client.revoke_token(url)
        except errors.ProviderError as error:
            if client.response is None:
                raise
            # Google answers invalid_token to an invalid token.
            if client.response.status_code != 400 or b"invalid_token" not in client.response.content:
                remedy = "check the URL, and whether this client may revoke; tokens stay valid after sign-out"
                return warn(error.detail, remedy)
        return ok("revokes tokens")

    def _probe_end_session(self, url: str) -> Finding:
        """Request the end-session endpoint as a browser without a session at the provider."""
        status = self._request("GET", url).status_code
        if status in _BROKEN:
            return warn(f"answers with status {status}", "check the URL, because browsers are sent there")
        if status == 400 and self._public_url:
            remedy = f"register {self._signed_out_url} with the provider as a page after the sign-out"
            return warn("answers with status 400", remedy)
        return ok("answers")

    def _check_clock(self) -> Finding:
        """Compare the clocks, because this machine computes when a token expires."""
        responses = [each.response for each in self._clients if each.response is not None]
        try:
            date = responses[-1].headers.get("Date", "") if responses else ""
            skew = round(time.time() - parsedate_to_datetime(date).timestamp())
        except ValueError:
            text = "clock: unknown whether it agrees with the provider's, because no response has a valid Date"
            return warn(text, "synchronize this machine's clock with NTP")
        if abs(skew) <= CLOCK_SKEW:
            return ok("clock: agrees with the provider's clock")
        text = f"clock: {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} the provider's clock"
        is_fatal = self._registration.provider.asks_for_id_token and skew < -MAX_CLOCK_SKEW
        if is_fatal:
            text += ", so ID tokens are refused: they seem to be issued in the future"
        return Finding("FAIL" if is_fatal else "warn", text, "set this machine's clock, or synchronize it with NTP")
