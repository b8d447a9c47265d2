"""``wsgi-oauth check``: whether the application would work, said before anybody tries to sign in.

The application is made as the environment describes it, and each of its providers is asked something harmless at each
endpoint, in the way the application would ask it. No secret is printed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

from requests import Response

from .. import errors, sign_in
from ..app import OAuthApp, open_store
from ..config import PREFIX, Config, ProviderConfig
from ..config.settings import THREADS
from ..oauth import openid
from ..oauth.client import OAuth2Session
from ..oauth.provider import Provider
from ..oauth.refresh import Token
from ..oauth.registration import Registration
from ..sessions.memory import MemoryStore
from ..sessions.redis import RedisStore
from ..transport.transport import ca_bundle

SKEW = 60  # seconds that two clocks may differ before anybody has to know
MADE_UP = "made-up-by-wsgi-oauth-check-nobody-holds-it"  # for a code, a verifier, a token

_CONNECT = "look at the firewall and at HTTPS_PROXY"
_TROUBLES = {  # what the transport calls it, and what to do
    "gaierror": "is the host's name right, and can this machine look it up? A proxy (HTTPS_PROXY) does that itself",
    "ConnectionRefusedError": "are host and port right, and does it run?",
    "SSLCertVerificationError": "is this the right host? REQUESTS_CA_BUNDLE can name the file of a CA of your own",
    "SSL": "does it speak https at this port?",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``ok``, ``warn`` or ``FAIL``, and what to do about it."""

    level: str
    what: str
    advice: str = ""
    label: str = ""  # which of several providers it is about

    def __str__(self) -> str:
        about = f"{self.label}: " if self.label else ""
        return f"{self.level:<5} {about}{self.what}" + (f"\n      -> {self.advice}" if self.advice else "")


def add_command(parser: argparse.ArgumentParser) -> None:
    """Make *parser* that of ``wsgi-oauth check``."""
    parser.description = (
        "Read the configuration from the environment, try the session store, and ask each provider. Prints a line for "
        "each finding, and below it what to do. Exits 0 when the application would work, 1 when not. Nothing is "
        "waited for longer than WSGI_OAUTH_UPSTREAM_TIMEOUT."
    )
    parser.set_defaults(command=_check)


def _check(_: argparse.Namespace) -> int:
    levels, label = set(), ""
    for finding in findings(os.environ):
        if finding.label != label:  # another provider's block
            print()
        label = finding.label
        print(finding, flush=True)  # at once: a provider that does not answer takes its time
        levels.add(finding.level)
    if "FAIL" in levels:
        print("\nThe application would not work: fix the lines marked FAIL.")
        return 1
    print("\nThe application would work" + ("; look at the lines marked warn." if "warn" in levels else "."))
    return 0


# -- what is configured --------------------------------------------------------------------------


def findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """All there is to say about the configuration in *environ*; never a secret."""
    try:
        config = Config.from_environ(environ)
        ca_bundle()
        app = OAuthApp(config, MemoryStore())  # the rest of what stops a start; the store has a line of its own
        app.transport.adapter  # noqa: B018  # loads the CA bundle
    except errors.ConfigError as error:
        yield from (Finding("FAIL", line) for line in str(error).splitlines())
        return
    yield _try_store(config)
    yield _look_at_seal(config)
    yield _look_at_limit(config)
    yield _look_at_access(config)
    for each, registration in zip(config.providers, app.registrations.values(), strict=True):
        yield from (
            replace(finding, label=each.label) for finding in _look_at_provider(each, config.public_url, registration)
        )


def _try_store(config: Config) -> Finding:
    """Whether a session could be stored now, by storing one."""
    name = f"session store {config.store_name}"
    try:
        store = open_store(config)
        store.check()
        evicts = isinstance(store, RedisStore) and store.may_evict()
    except errors.Error as error:
        advice = "set WSGI_OAUTH_SESSION_STORE to a place that only this user can write to, and can"
        if config.session_store.startswith("redis"):
            advice = "see that the server runs, that this machine may connect to it, and that the password is right"
            if isinstance(error, errors.ConfigError):
                advice = ""  # the package is missing, and the error says how to install it
        return Finding("FAIL", f"{name}: {error}", advice)
    if evicts:
        advice = "set its maxmemory-policy to noeviction: then new sign-ins wait until there is room"
        return Finding("warn", f"{name}: signs users out when the server's memory is full", advice)
    if config.session_store.startswith("memory"):
        advice = "start gunicorn with one worker, or set WSGI_OAUTH_SESSION_STORE=file:/some/folder"
        return Finding("warn", f"{name} is for one process, and forgets when that ends", advice)
    return Finding("ok", f"{name}: a session can be stored")


def _look_at_seal(config: Config) -> Finding:
    if config.session_seal:
        return Finding("ok", "sessions are sealed: what the store holds can be read with the browser's cookie only")
    what = "sessions are not sealed: whoever reads the store reads the tokens"
    return Finding("ok", f"{what} ({PREFIX}SESSION_SEAL=yes)")


def _look_at_access(config: Config) -> Finding:
    if config.allow:
        return Finding("ok", f"may enter: {', '.join(config.allow)}")
    return Finding("ok", "everybody who can sign in may enter (WSGI_OAUTH_ALLOW says who)")


def _look_at_limit(config: Config) -> Finding:
    what = f"of each worker's threads, up to {config.upstream_limit} may wait for the provider"
    if config.upstream_limit < THREADS:
        return Finding("ok", what)
    return Finding(
        "warn",
        f"{what}: that is all of gunicorn.conf.py's {THREADS}, and while a provider hangs nobody else is served",
        "set WSGI_OAUTH_UPSTREAM_LIMIT to fewer than gunicorn has --threads",
    )


def _look_at_provider(config: ProviderConfig, public_url: str | None, registration: Registration) -> Iterator[Finding]:
    described, redirect_uri = registration.configured_provider, _redirect_uri(config, public_url)
    odd = f"what is odd about it: docs/providers.md#{config.provider}" if described.notes else ""
    yield Finding("ok", f"provider {described.title}, client id {config.client_id}", odd)
    yield _look_at_redirect_uri(public_url, described, redirect_uri)
    try:
        document = registration.discovery.read() if registration.discovery else {}
        provider = registration.provider
    except errors.ProviderError as error:
        advice = _advice_on_the_way(error) or _advice_on_issuer(config)
        yield Finding("FAIL", f"issuer {described.issuer}: {error}", advice)
        return
    if registration.discovery:
        differing = [*_other_endpoints(config, described, document), *_not_offered(config, provider, document)]
        for finding in differing or [Finding("ok", "agrees with the configuration")]:
            yield replace(finding, what=f"issuer {provider.issuer}: {finding.what}")
    yield Finding("ok", f"scope: asks for {provider.scope or 'nothing in particular'}")
    yield _look_at_refresh(config, provider, document)
    yield from Questions(config, registration, redirect_uri, guessed=public_url is None)


def _redirect_uri(config: ProviderConfig, public_url: str | None) -> str:
    base = public_url or "http://127.0.0.1:8000"  # gunicorn's own port
    return f"{base}/callback/{config.label}" if config.label else f"{base}/callback"


def _look_at_redirect_uri(public_url: str | None, described: Provider, uri: str) -> Finding:
    if public_url:
        where = f"where: {described.registration_url}" if described.registration_url else ""
        return Finding("ok", f"redirect URI, to be registered exactly like this: {uri}", where)
    return Finding(
        "warn",
        f"redirect URI, for use on this machine alone: {uri}",
        "to be reached from elsewhere, set WSGI_OAUTH_PUBLIC_URL to the https URL people will open; mounted below a "
        "prefix, the application has that before /callback",
    )


# -- what an issuer says of itself (OpenID Connect Discovery 3) ----------------------------------


def _advice_on_issuer(config: ProviderConfig) -> str:
    variable = config.variable("provider" if "://" in config.provider else "issuer")
    return (
        f"set {variable} to exactly what the issuer calls itself, with its realm or tenant, and a slash at the end "
        f"if it has one; an endpoint that it lacks can be set, too ({config.variable('token_url')} for one)"
    )


def _other_endpoints(config: ProviderConfig, described: Provider, document: Mapping[str, Any]) -> Iterator[Finding]:
    """Endpoints that are configured, or in the catalogue, and not those of the document."""
    for name, member in openid.ENDPOINTS.items():
        variable = config.variable("end_session" if name == "end_session_url" else name)
        configured = config.end_session if name == "end_session_url" else getattr(config, name)
        if configured == "yes":
            configured = None
        ours, theirs = configured or getattr(described, name), document.get(member)
        if ours and theirs and ours != theirs:
            advice = (
                f"unset {variable}, unless this is meant" if configured else f"set {variable} to what the issuer says"
            )
            yield Finding("warn", f"says that its {member} is {theirs!a}, and {ours!a} is used", advice)


def _not_offered(config: ProviderConfig, provider: Provider, document: Mapping[str, Any]) -> Iterator[Finding]:
    """What sign-ins use, and the document's lists lack; a list that is not there says nothing."""
    methods = {name: method for method, name in openid.CLIENT_AUTH.items()}
    wanted = {
        "response_types_supported": (["code"], "sign-ins need the authorization code flow: enable it there"),
        "scopes_supported": (
            provider.scope.split(),
            f"it need not list all of them; if sign-ins end with invalid_scope, change {config.variable('scope')}",
        ),
        "code_challenge_methods_supported": (
            ["S256"] if provider.pkce else [],
            "enable PKCE there (RFC 7636); without it a stolen code is worth more",
        ),
        "token_endpoint_auth_methods_supported": (
            [methods[provider.client_auth.removesuffix("-raw")]],
            f"unset {config.variable('client_auth')}, or set it to one that is offered",
        ),
    }
    for member, (values, advice) in wanted.items():
        offered = _listed(document, member)
        if offered is not None and (lacking := [value for value in values if value not in offered]):
            yield Finding("warn", f"its {member} lacks {' '.join(lacking)}", advice)


def _look_at_refresh(config: ProviderConfig, provider: Provider, document: Mapping[str, Any]) -> Finding:
    """Whether users stay signed in when an access token ends; only a sign-in can tell for sure."""
    advice = "without a refresh token, users sign in again when the access token has ended"
    scopes, parameters = provider.scope.split(), dict(provider.authorization_parameters)
    grants = _listed(document, "grant_types_supported")
    if grants is not None and "refresh_token" not in grants:
        return Finding("warn", "refresh: the issuer's grant_types_supported lacks refresh_token", advice)
    if "offline_access" in scopes or "offline" in parameters.values():  # OpenID Connect Core 11; Google, Dropbox
        return Finding("ok", "refresh: each sign-in asks for a refresh token")
    if "offline_access" in (_listed(document, "scopes_supported") or []):
        advice += f"; the scope offline_access asks for one ({config.variable('scope')})"
    what = "the issuer gives refresh tokens, perhaps not to every client" if grants else "not known before a sign-in"
    return Finding("ok", f"refresh: {what}", advice)


def _listed(document: Mapping[str, Any], member: str) -> list[Any] | None:
    value = document.get(member)
    return value if isinstance(value, list) else None


# -- what is asked -------------------------------------------------------------------------------


def _advice_on_the_way(error: errors.Error) -> str:
    """Say what to do when no answer came; nothing when one did."""
    if isinstance(error, errors.ProviderTimeout):
        return f"{_CONNECT}; {PREFIX}UPSTREAM_TIMEOUT gives it more time"
    if not isinstance(error, errors.ProviderUnreachable):
        return ""
    return next((advice for name, advice in _TROUBLES.items() if name in error.detail), f"try again; {_CONNECT}")


class Questions:
    """Something harmless to ask of each endpoint of a provider, in the way the application would ask it."""

    def __init__(self, config: ProviderConfig, registration: Registration, redirect_uri: str, *, guessed: bool) -> None:
        self._config = config
        self._registration = registration
        self._redirect_uri = redirect_uri
        self._guessed = guessed
        self._answers: list[Response] = []

    def __iter__(self) -> Iterator[Finding]:
        provider = self._registration.provider
        yield self._ask("authorization", provider.authorization_url, self._authorization)
        yield self._ask("token", provider.token_url, self._token)
        if provider.profile_url:  # else the ID token says who signed in
            yield self._ask("profile", provider.profile_url, self._profile)
        if self._config.issuer and not self._registration.discovery:
            yield Finding("ok", f"issuer {self._config.issuer}: whether its answers name that, a sign-in will show")
        yield self._look_at_revocation(provider)
        yield from self._look_at_end_session()
        yield from self._clock()

    def _ask(self, name: str, url: str, question: Callable[[str], Finding], *, or_else: str = "FAIL") -> Finding:
        """*or_else*: the level when there is no good answer. A sign-out here works whatever the provider does."""
        try:
            answer = question(url)
        except errors.Error as error:
            advice = _advice_on_the_way(error) or "compare the URL with the provider's manual"
            answer = Finding(or_else, str(error), advice)
        return replace(answer, what=f"{name} endpoint {url}: {answer.what}")

    def _client(self, token: Token | None = None) -> OAuth2Session:
        client = self._registration.oauth2_session(token=token, redirect_uri=self._redirect_uri)
        client.register_compliance_hook("access_token_response", self._noted)
        return client

    def _request(self, method: str, url: str, **headers: str) -> Response:
        return self._noted(self._client().request(method, url, headers=headers, withhold_token=True))

    def _noted(self, answer: Response) -> Response:
        self._answers.append(answer)
        return answer

    def _authorization(self, url: str) -> Finding:
        """Knock as a browser would; from there on a person is needed."""
        start = sign_in.begin(redirect_uri=self._redirect_uri, next_url="/", provider=self._registration.label)
        parameters = start.parameters(self._registration.provider)
        question, _ = self._client().authorization_url(url, start.state, **parameters)
        answer = self._request("GET", question)
        back, _, parameters_back = answer.headers.get("Location", "").partition("?")
        error = dict(parse_qsl(parameters_back)).get("error")
        if back == self._redirect_uri and error:  # RFC 6749 4.1.2.1, before any person
            advice = f"look at the scope first ({self._config.variable('scope')})"
            return Finding("FAIL", f"refuses every sign-in: {error!a}", advice)
        if answer.status_code < 400:
            return Finding("ok", "answers")
        # 400 speaks of what was asked with, of which a redirect URI that is only guessed may be wrong.
        never = {404, 405} | (set() if self._guessed else {400})
        level = "FAIL" if answer.status_code >= 500 or answer.status_code in never else "warn"
        advice = "are the URL and the client id right, and is the redirect URI registered? A browser shows why not"
        return Finding(level, f"answers with status {answer.status_code}", advice)

    def _token(self, url: str) -> Finding:
        """Offer a code that was never issued: whoever knows this client refuses the code alone."""
        seen = len(self._answers)
        try:
            self._client().fetch_token(url, code=MADE_UP, code_verifier=MADE_UP)
        except errors.CodeRefused:
            has_secret = " and secret" if self._config.client_secret else ""
            return Finding("ok", f"answers, and accepts the client id{has_secret}")
        except errors.ClientRefused as error:
            return Finding("FAIL", str(error), "copy the client id and secret again, or make a new secret")
        except errors.IdTokenRefused:  # the access token was good enough
            pass
        except errors.ProviderError as error:
            # Not every provider says that it is the code which it refuses (RFC 6749 5.2).
            if any(answer.status_code in (400, 401, 403) for answer in self._answers[seen:]):
                advice = "perhaps it only dislikes the made-up code of this check: sign in once"
                return Finding("warn", str(error), advice)
            raise
        return Finding("FAIL", "gives a token for a code that it never issued", "do not trust it")

    def _profile(self, url: str) -> Finding:
        """Ask without a token, and be refused."""
        provider = self._registration.provider
        headers = {"Accept": "application/json", **dict(provider.profile_headers)}
        status = self._request(provider.profile_method, url, **headers).status_code
        if status in (400, 401, 403):
            return Finding("ok", "answers, and wants a token")
        level = "FAIL" if status >= 500 or status in (404, 405) else "warn"
        return Finding(level, f"answers with status {status} without a token", "is the URL right?")

    def _look_at_revocation(self, provider: Provider) -> Finding:
        if provider.revocation_url:
            return self._ask("revocation", provider.revocation_url, self._revocation, or_else="warn")
        advice = f"set {self._config.variable('revocation_url')} if the provider has an endpoint for that (RFC 7009)"
        return Finding("ok", "revocation: none, so a token outlives the sign-out until it ends by itself", advice)

    def _revocation(self, url: str) -> Finding:
        """Give back a token that was never issued, which is as good as one that is over (RFC 7009 2.2)."""
        if self._registration.provider.revocation_by != "rfc7009":
            return Finding("ok", "is used in the provider's own way, and not asked now")
        seen = len(self._answers)
        try:
            self._client({"access_token": MADE_UP}).revoke_token(url)
        except errors.ProviderError as error:
            answers = self._answers[seen:]
            if not answers:
                raise
            if answers[0].status_code != 400 or b"invalid_token" not in answers[0].content:  # which is Google's answer
                advice = "is the URL right, and may this client revoke? Until then a token outlives the sign-out"
                return Finding("warn", str(error), advice)
        return Finding("ok", "answers, and takes tokens back")

    def _look_at_end_session(self) -> Iterator[Finding]:
        if not self._config.end_session:
            return
        if url := self._registration.end_session_url({}):
            yield self._ask("end-session", url, self._end_session, or_else="warn")
            return
        variable = self._config.variable("end_session")
        what = f"end-session: {variable} has no effect, the provider does not say where to sign out"
        yield Finding("warn", what, f"set {variable} to the URL of its end-session endpoint, or unset it")

    def _end_session(self, url: str) -> Finding:
        """Knock as a browser would in which nobody is signed in."""
        status = self._request("GET", url).status_code
        if status < 500 and status not in (404, 405):
            return Finding("ok", "answers")
        return Finding("warn", f"answers with status {status}", "is the URL right? People would end up there")

    def _clock(self) -> Iterator[Finding]:
        """Compare the clocks: when a token ends is reckoned by this machine's."""
        for answer in self._answers[-1:]:
            try:
                theirs = parsedate_to_datetime(answer.headers["Date"]).timestamp()
            except (KeyError, ValueError):
                return
            skew = round(time.time() - theirs)
            if abs(skew) <= SKEW:
                yield Finding("ok", "clock: agrees with the provider's")
            else:
                what = f"clock: {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} the provider's"
                yield Finding("warn", what, "set this machine's clock, or let NTP do it")
