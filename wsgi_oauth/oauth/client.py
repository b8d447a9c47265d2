"""requests-oauthlib's ``OAuth2Session``, made safe against a provider that is slow, broken or hostile.

What the library's own methods would do besides their work (log tokens at DEBUG, follow redirects with the
client secret, wait without end, take what looks like a token) is the reason for each method that is written
anew here.
"""

from __future__ import annotations

import json
import logging
import re
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from importlib import import_module
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus, urljoin

import requests
import requests_oauthlib
from oauthlib.oauth2 import WebApplicationClient
from oauthlib.oauth2.rfc6749.parameters import prepare_grant_uri

from .. import errors, urls
from ..transport.transport import Deadline, Transport, parse_json, read_json
from .openid import check_id_token, check_refreshed_id_token, check_userinfo, read_id_token
from .provider import Provider

_log = logging.getLogger(__name__)

_TOKEN_SYNTAX = re.compile(
    r"[\x21-\x7e]{1,16384}", re.ASCII
)  # RFC 6749 A.12, without the space: it travels in a header
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)  # RFC 3986 2.3
_ERROR_SYNTAX = re.compile(r"[a-z][a-z_]{0,63}", re.ASCII)
_LONGEST_SCOPE = 8192  # characters; some providers have hundreds of scopes
_LONGEST_LIFE = 10 * 365 * 86400  # seconds
_LEEWAY = 10  # seconds before its end at which a token counts as expired, for clocks and for the way to the provider

# RFC 6749 5.2 `invalid_grant`, and what GitHub and Slack call it:
# https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors
# https://docs.slack.dev/reference/methods/oauth.v2.access
_CODE_ERRORS = {"invalid_grant", "bad_verification_code", "bad_refresh_token", "invalid_code"}
_CLIENT_ERRORS = {
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "incorrect_client_credentials",
    "redirect_uri_mismatch",
    "bad_client_secret",
    "bad_redirect_uri",
    "invalid_client_id",
}
_REFUSED = range(400, 404)  # statuses that say no to this refresh token, and not "try again later"
_OTHER_REASONS = ("invalid_request", "insufficient_scope")  # RFC 6750 3.1: there is nothing wrong with the token
_REPLAYABLE = (type(None), str, bytes, dict, list, tuple)  # bodies that can be sent a second time


class _SessionOnDemand(requests.Session):
    """requests' own session, set up when something of it is first used: few clients send anything with it."""

    def __init__(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name not in requests.Session.__attrs__:
            raise AttributeError(name)
        _complete(self, requests.Session())
        return self.__dict__[name]


class _Library(requests_oauthlib.OAuth2Session, _SessionOnDemand):
    """requests-oauthlib's own session."""


def _complete(session: requests.Session, made: requests.Session) -> None:
    """Give *session* what *made* has and it has not: one by one, because another thread may do the same."""
    for name, value in vars(made).items():
        session.__dict__.setdefault(name, value)


class OAuth2Session(_Library):
    """A client for one user and one request; only the transport is shared with others.

    Every request has a wall-clock deadline (``timeout=`` in seconds changes it; requests' pair for connecting and
    reading counts as their sum), an answer of more than 1 MiB is refused, redirects are not followed unless asked
    for, then under the same deadline, and never carry the token to another origin, and what goes wrong is an
    :class:`errors.ProviderError`.

    ``get``, ``post``, ``request`` and ``get_json`` heed what is set on the client (``headers``, ``params``, ``hooks``
    ...), as in requests. The token, a refresh, a revocation and the user document are asked for as the provider's
    description says, and by nothing else.
    """

    def __init__(
        self,
        provider: Provider,
        client_id: str,
        client_secret: str | None,
        transport: Transport,
        *,
        token: dict[str, Any] | None = None,
        redirect_uri: str | None = None,
        refresh: Callable[[OAuth2Session, dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        """*refresh*: what to do with a token that the provider no longer takes, to get the next one."""
        if token is not None and not _is_token(token):
            raise errors.TokenRejected("the stored token is not one that was read here")
        self.provider = provider
        self.redirect_uri = redirect_uri
        self.trust_env = False  # the environment was read once, by the transport
        self._scope = provider.scope or None
        self._client_id = client_id
        self._client_secret = client_secret
        self._transport = transport
        self._refresh = refresh
        self._given_token = token

    def __getattr__(self, name: str) -> Any:
        """Set up the library's part when something of it is first used: to start a sign-in, a URL is enough."""
        complete = "compliance_hook" in self.__dict__  # which is the last to be set
        if complete or "provider" not in self.__dict__:  # or this is a bare copy
            return super().__getattr__(name)
        client = WebApplicationClient(self._client_id)
        made = _Library(client=client, redirect_uri=self.redirect_uri, scope=self._scope, token=self._given_token)
        if self.provider.compliance_fix:
            fixes = import_module("requests_oauthlib.compliance_fixes")  # few need one
            getattr(fixes, f"{self.provider.compliance_fix}_compliance_fix")(made)
        _complete(self, made)
        return getattr(self, name)

    def authorization_url(self, url: str, state: str, **parameters: str) -> tuple[str, str]:  # type: ignore[override]
        """Return the URL of the authorization request (RFC 6749 4.1.1), and *state*.

        What the provider is always asked with is in it, too; *parameters* win over that.
        """
        fixed = _authorization_request(url, self._client_id, self.redirect_uri, self._scope)
        sent = {"state": state, **dict(self.provider.authorization_parameters), **parameters}
        if not self.provider.pkce:
            sent = {name: value for name, value in sent.items() if not name.startswith("code_challenge")}
        return f"{fixed}&{_form(sent)}", state

    def fetch_token(  # type: ignore[override]
        self, token_url: str, *, code: str, code_verifier: str, nonce: str = ""
    ) -> dict[str, Any]:
        """Exchange the authorization code for a token (RFC 6749 4.1.3, RFC 7636 4.5), and return it.

        :param nonce: what the ID token has to say, where one was asked for (OpenID Connect Core 3.1.3.7).
        :raises errors.IdTokenRefused: when that one is missing, or is not for this sign-in.
        :raises errors.CodeRefused: when the provider does not accept the code.
        :raises errors.ClientRefused: when it does not accept this client.
        :raises errors.ProviderError: for an answer that is no token.
        """
        grant = {"grant_type": "authorization_code", "code": code}
        if self.provider.pkce:
            grant["code_verifier"] = code_verifier
        if self.redirect_uri:
            grant["redirect_uri"] = self.redirect_uri
        token = read_token(self._post_as_client(token_url, grant), self.provider)
        if self.provider.asks_for_id_token:
            check_id_token(token.get("id_token", ""), self.provider, self._client_id, nonce=nonce)
        self.token = token
        return dict(self.token)

    def refresh_token(self, token_url: str, *, token: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        """Exchange the refresh token of *token* for the next token (RFC 6749 6), and return it.

        What the answer leaves out stays as it was: the refresh token (RFC 6749 6) and the scope (5.1).

        :raises errors.TokenRejected: when the provider refuses, for good.
        :raises errors.ClientRefused: when it does not accept this client.
        :raises errors.ProviderError: when there is no usable answer; trying again later may help.
        """
        grant = {"grant_type": "refresh_token", "refresh_token": token["refresh_token"]}
        response = self._post_as_client(token_url, grant)
        try:
            fresh = read_token(response, self.provider, before=token)
        except errors.ClientRefused:
            raise
        except (errors.CodeRefused, errors.ProviderError) as error:
            # `invalid_grant` it should be; some say so in other words or in none (problem+json, an empty 400). Nothing
            # that is refused today will be granted tomorrow, and signing in again always helps.
            if isinstance(error, errors.CodeRefused) or response.status_code in _REFUSED:
                raise errors.TokenRejected(f"the provider does not refresh the token: {error}") from None
            raise
        if self.provider.asks_for_id_token and "id_token" in fresh:  # it may be left out (OpenID Connect Core 12.2)
            self._see_whose_it_is(fresh["id_token"], token.get("id_token", ""))
        self.token = {name: token[name] for name in ("refresh_token", "id_token") if name in token} | fresh
        return dict(self.token)

    def _see_whose_it_is(self, id_token: str, before: str) -> None:
        try:
            check_refreshed_id_token(id_token, before, self.provider, self._client_id)
        except errors.IdTokenRefused as error:  # the refresh token may be used up by now; signing in again helps
            raise errors.TokenRejected(f"the refreshed token is not used: {error}") from None

    def revoke_token(self, revocation_url: str) -> None:
        """Tell the provider that the token is over: the refresh token first, which at most providers takes the access
        token with it (RFC 7009 2.1).

        :raises errors.ProviderError: when it does not say that it has taken note of that.
        """
        if self.provider.revocation_by == "github":
            self._revoke_at_github(revocation_url.replace("{client_id}", quote(self._client_id, safe="")))
            return
        given = [hint for hint in ("refresh_token", "access_token") if hint in self.token]
        answers = [
            self._post_as_client(revocation_url, {"token": self.token[hint], "token_type_hint": hint}) for hint in given
        ]
        for answer in answers:
            _see_that_it_worked(answer)

    def _revoke_at_github(self, url: str) -> None:
        """https://docs.github.com/rest/apps/oauth-applications#delete-an-app-token"""
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": _basic(self._client_id, self._client_secret or ""),
            "Content-Type": "application/json",
        }
        document = json.dumps({"access_token": self.token["access_token"]})
        _see_that_it_worked(self._transport.adapter.fetch("DELETE", url, headers, document.encode()))

    def request(  # type: ignore[override]
        self, method: str, url: str, data: Any = None, headers: Any = None, withhold_token: bool = False, **kwargs: Any
    ) -> requests.Response:
        """Send a request with the user's token in the Authorization header (RFC 6750 2.1), whatever the method.

        A token that has expired, or that the provider answers with 401, is refreshed once where that is possible.

        :raises errors.NotSignedIn: when there is no token.
        :raises errors.TokenRejected: when it has expired.
        :raises errors.ProviderError: when no whole answer comes back.
        """
        if not urls.is_secure(url):
            raise ValueError("a token is sent over https only (RFC 6750 5.3), or to this machine")
        kwargs.setdefault("allow_redirects", False)
        kwargs.setdefault("proxies", self._transport.adapter.proxies_for(url))
        if withhold_token:
            return self._send(method, url, data, headers, **kwargs)
        for hook in self.compliance_hook["protected_request"]:
            url, headers, data = hook(url, headers, data)
        return self._with_token(
            lambda headers: self._send(method, url, data, headers, **kwargs),
            dict(headers or {}),
            again=isinstance(data, _REPLAYABLE) and not kwargs.get("files"),
        )

    def _with_token(
        self, send: Callable[[dict[str, str]], requests.Response], headers: dict[str, str], *, again: bool = True
    ) -> requests.Response:
        """Send with the user's token; a second time, if that can be done *again*, when the first one is refused."""
        response = send(headers | self._authorization())
        if _rejects_token(response) and self._can_refresh and again:
            response.close()
            self._renew_token()
            response = send(headers | self._authorization())
        return response

    def _send(self, method: str, url: str, data: Any, headers: Any, **kwargs: Any) -> requests.Response:
        deadline = Deadline.after(kwargs.pop("timeout", None), self._transport.timeout)  # one for all redirects
        try:
            response = requests.Session.request(
                self, method, url, data=data, headers=headers, timeout=deadline, **kwargs
            )
        except requests.TooManyRedirects:
            raise errors.ProviderError("the provider redirects without an end") from None
        if kwargs["allow_redirects"] and response.is_redirect:
            raise errors.ProviderError("the provider redirects to where no token may go")
        return response

    def get(self, url: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """GET *url*; requests' own method would follow redirects unless told otherwise."""
        kwargs.setdefault("allow_redirects", False)
        return self.request("GET", url, **kwargs)

    def options(self, url: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """As :meth:`get`."""
        kwargs.setdefault("allow_redirects", False)
        return self.request("OPTIONS", url, **kwargs)

    def get_json(self, url: str, *, of: type = dict, **kwargs: Any) -> Any:
        """GET *url* and return the JSON document it answers with: an object, or with ``of=list`` a list.

        :raises errors.TokenRejected: for a 401 and its like.
        :raises errors.ProviderError: for everything else that is no such document with a status of 2xx.
        """
        headers = {"Accept": "application/json", **(kwargs.pop("headers", None) or {})}
        return _read_resource(self.request("GET", url, headers=headers, **kwargs), of)

    def get_user_document(self) -> dict[str, Any]:
        """Ask the provider, the way it wants to be asked, who the user is. Raise as :meth:`get_json` does.

        What an OpenID Connect provider without an endpoint for that has said in the ID token is what it says.
        """
        provider = self.provider
        if not provider.profile_url:
            self._authorization()  # which sees that the token has not expired, or refreshes it
            return read_id_token(self.token.get("id_token", ""))
        ask = partial(self._transport.adapter.fetch, provider.profile_method, provider.profile_url)
        headers = {"Accept": "application/json", **dict(provider.profile_headers)}
        response = self._with_token(ask, headers)
        if _refuses_in_other_words(response):
            if self._can_refresh:
                self._renew_token()
                response = self._with_token(ask, headers)
            else:
                raise errors.TokenRejected("the provider refuses a request for the user document")
        if _error_in(response) == "invalid_token":
            raise errors.TokenRejected("the provider says that the token is invalid")
        document = dict(_read_resource(response, dict))
        if provider.asks_for_id_token and "id_token" in self.token:
            check_userinfo(document, self.token["id_token"])
        return document

    def get_adapter(self, url: str) -> requests.adapters.HTTPAdapter:
        return self._transport.adapter

    def close(self) -> None:
        """Leave the connections open: they belong to the transport."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Follow a redirect to where a token may go, and to nothing else; requests looks at each one in any case."""
        try:
            location = super().get_redirect_target(resp)
            return location if location and urls.is_secure(urljoin(resp.url, location)) else None
        except ValueError:  # a port of 99999, bytes that are no text
            return None

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Ask no environment: the transport has done that, and refuses what it does not like here."""
        verify = self.verify if verify is None else verify
        return {"proxies": proxies, "stream": stream or False, "verify": verify, "cert": cert or self.cert}

    def should_strip_auth(self, old_url: str, new_url: str) -> bool:
        """Keep the token to its origin; requests alone would let http become https on the same host."""
        return urls.Origin.of(old_url) != urls.Origin.of(new_url)

    def _authorization(self) -> dict[str, str]:
        if not self.token:
            raise errors.NotSignedIn("no token for a request to the provider")
        if _has_expired(self.token) and self._can_refresh:
            self._renew_token()
        if _has_expired(self.token):
            raise errors.TokenRejected("the access token has expired")
        return {"Authorization": f"Bearer {self.token['access_token']}"}

    @property
    def _can_refresh(self) -> bool:
        return self._refresh is not None and "refresh_token" in self.token

    def _renew_token(self) -> None:
        assert self._refresh is not None
        refresh, self._refresh = self._refresh, None  # once: a provider may refuse what it has just given
        self.token = refresh(self, self.token)

    def _post_as_client(self, url: str, form: dict[str, str]) -> requests.Response:
        """Send *form* to an endpoint of the provider at which the client authenticates itself (RFC 6749 2.3.1)."""
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        client_id, secret = self._client_id, self._client_secret or ""
        method = self.provider.client_auth or "basic"
        if method == "basic":
            headers["Authorization"] = _basic(quote_plus(client_id), quote_plus(secret))
        elif method == "basic-raw":
            headers["Authorization"] = _basic(client_id, secret)
        else:
            form = {**form, "client_id": client_id}
            if method == "post":
                form["client_secret"] = secret
        request = {"data": form}
        hooks: dict[str, Any] = dict(self.compliance_hook)  # the stubs do not know all of them
        for hook in hooks["access_token_request"]:
            url, headers, request = hook(url, headers, request)
        response = self._transport.adapter.fetch("POST", url, headers, _form(request["data"]).encode())
        for hook in hooks["access_token_response"]:
            response = hook(response)
        return response


@lru_cache(maxsize=64)  # one for each provider and redirect URI; oauthlib takes longer for it than all the rest takes
def _authorization_request(url: str, client_id: str, redirect_uri: str | None, scope: str | None) -> str:
    """Let oauthlib write what is the same in each authorization request."""
    # It takes plain http only when a variable of the whole process says so. A provider on this machine is fine without.
    scheme, _, rest = url.partition(":")
    secure = prepare_grant_uri(f"https:{rest}", client_id, "code", redirect_uri=redirect_uri, scope=scope)
    return scheme + str(secure).removeprefix("https")


def _form(parameters: Mapping[str, str]) -> str:
    """Write *parameters*, whose names are plain, as in a query; forms are read in the same way (RFC 6749 B). Most of
    them are base64url, with nothing to encode.
    """
    return "&".join(
        [
            f"{name}={value if _UNRESERVED.fullmatch(value) else quote(value, safe='')}"
            for name, value in parameters.items()
        ]
    )


def _see_that_it_worked(answer: requests.Response) -> None:
    if not 200 <= answer.status_code < 300:
        raise errors.ProviderError(f"the revocation endpoint answered with status {answer.status_code}")


def _is_token(token: object) -> bool:
    """Whether *token* has the types that ``read_token`` gives; another version may have stored something else."""
    if not isinstance(token, dict) or not _TOKEN_SYNTAX.fullmatch(str(token.get("access_token", ""))):
        return False
    numbers = (token.get("expires_at", 0), token.get("expires_in", 0))
    return all(isinstance(number, (int, float)) for number in numbers)


def _has_expired(token: dict[str, Any]) -> bool:
    expires_at = token.get("expires_at")
    return expires_at is not None and time.time() > expires_at - min(_LEEWAY, token.get("expires_in", 0) / 2)


def _rejects_token(response: requests.Response) -> bool:
    """RFC 6750 3.1, and what comes near it."""
    challenge = response.headers.get("WWW-Authenticate", "")
    return response.status_code == 401 or (response.status_code in {400, 403} and "invalid_token" in challenge)


def _refuses_in_other_words(response: requests.Response) -> bool:
    """What some servers answer a token with that they have ended. Of a request for the user document, which anybody's
    good token opens, 400 can hardly mean anything else; of other requests it may mean what was asked for.
    """
    if "WWW-Authenticate" in response.headers:
        return False
    error = _error_in(response)
    return error == "invalid_token" or (response.status_code == 400 and error not in _OTHER_REASONS)


def _error_in(response: requests.Response) -> object:
    """Return the error code in the JSON document with which the provider has refused something."""
    if response.status_code not in {400, 403}:
        return None
    with suppress(ValueError):
        document = parse_json(response.content)
        return document.get("error") if isinstance(document, dict) else None
    return None


def _basic(client_id: str, secret: str) -> str:
    return "Basic " + b64encode(f"{client_id}:{secret}".encode()).decode()


def read_token(
    response: requests.Response, provider: Provider, *, before: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Take a token out of the token endpoint's answer (RFC 6749 5.1), and nothing that only looks like one.

    :param before: the token that was refreshed.

    The result has ``access_token``, ``token_type``, and ``refresh_token``, ``scope`` (separated by spaces),
    ``id_token``, ``expires_in`` (seconds) and ``expires_at`` (seconds since the epoch, by this machine's
    clock) where they were given.
    """
    if 300 <= response.status_code < 400:
        raise errors.ProviderError(
            "the token endpoint redirects; that is not followed, the client secret would go along"
        )
    answer = _token_answer(response)
    if "error" in answer:
        _refuse_grant(answer["error"])
    if not 200 <= response.status_code < 300:
        raise errors.ProviderError(f"the token endpoint answered with status {response.status_code}")
    if str(answer.get("token_type")).lower() != "bearer":
        raise errors.ProviderError("the token endpoint gave a token of another type than bearer (RFC 6749 7.1)")
    token: dict[str, Any] = {"access_token": _string(answer, "access_token"), "token_type": "Bearer"}
    token.update((name, _string(answer, name)) for name in ("refresh_token", "id_token") if answer.get(name))
    token.update(_expiry(answer.get("expires_in")))
    asked = provider.scope if before is None else str(before.get("scope", ""))
    scope = answer.get("scope")
    if provider.lists_scopes and isinstance(scope, list):
        scope = " ".join(map(str, scope))
    _note_scope(token, scope, asked)
    return token


def _token_answer(response: requests.Response) -> dict[str, Any]:
    try:
        return dict(read_json(response, dict, "token"))
    except errors.ProviderError as error:
        if 200 <= response.status_code < 300:
            raise
        raise errors.ProviderError(
            f"the token endpoint answered with status {response.status_code}, and {error}"
        ) from None


def _refuse_grant(code: object) -> NoReturn:
    """RFC 6749 5.2, which GitHub sends with status 200."""
    name = code if isinstance(code, str) and _ERROR_SYNTAX.fullmatch(code) else "an unreadable error"
    detail = f"the token endpoint answered with {name}"
    if name in _CODE_ERRORS:
        raise errors.CodeRefused(detail)
    if name in _CLIENT_ERRORS:
        raise errors.ClientRefused(
            f"{detail}; compare client id, secret, WSGI_OAUTH_CLIENT_AUTH and redirect URI with the registration"
        )
    raise errors.ProviderError(detail)


def _string(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not _TOKEN_SYNTAX.fullmatch(value):
        raise errors.ProviderError(f"the token endpoint's {name} is missing or not a string of printable ASCII")
    return value


def _expiry(expires_in: object) -> dict[str, Any]:
    """RFC 6749 5.1: a number of seconds, which some providers send as a string. 0 and less: expired at once."""
    if expires_in is None or expires_in == "":
        return {}
    if isinstance(expires_in, str) and re.fullmatch(r"-?[0-9]{1,18}", expires_in):
        expires_in = int(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, (int, float)):
        raise errors.ProviderError("the token endpoint's expires_in is not a number")
    seconds = max(0, min(expires_in, _LONGEST_LIFE))
    return {"expires_in": seconds, "expires_at": time.time() + seconds}


def _note_scope(token: dict[str, Any], scope: object, requested: str) -> None:
    """Record what was granted (RFC 6749 3.3, 5.1, 6). GitHub separates scopes with commas; no answer means: as
    requested.
    """
    asked = set(requested.split())
    if scope is None:
        granted = asked
    elif isinstance(scope, str) and len(scope) <= _LONGEST_SCOPE and scope.isascii():
        granted = set(re.split(r"[\s,]+", scope)) - {""}
    else:
        raise errors.ProviderError("the token endpoint's scope is not a string of ASCII, or a very long one")
    token["scope"] = " ".join(sorted(granted))
    if asked and granted != asked:
        _log.info("the provider granted the scopes %a where %a were requested", token["scope"], " ".join(sorted(asked)))


def _read_resource(response: requests.Response, of: type) -> Any:
    if not 200 <= response.status_code < 300:
        _refuse_status(response)
    return read_json(response, of, "resource")


def _refuse_status(response: requests.Response) -> NoReturn:
    """Say why a protected resource was not given (RFC 6750 3.1)."""
    status = response.status_code
    detail = f"the provider answered a request for a resource with status {status}"
    if _rejects_token(response):
        raise errors.TokenRejected(detail)
    error: errors.ProviderError
    if status == 429 or (status == 403 and _says_to_wait(response)):
        error = errors.ProviderRateLimit(detail)
        error.retry_after = _retry_after(response.headers.get("Retry-After", ""))
        raise error
    raise errors.ProviderForbids(detail) if status == 403 else errors.ProviderError(detail)


def _says_to_wait(response: requests.Response) -> bool:
    """https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api#rate-limit-errors"""
    return "Retry-After" in response.headers or response.headers.get("X-RateLimit-Remaining") == "0"


def _retry_after(value: str) -> str | None:
    """RFC 9110 10.2.3: seconds or a date, and nothing else may pass into our own header."""
    return value if re.fullmatch(r"[0-9]{1,9}|[A-Z][a-z]{2}, [A-Za-z0-9: ]{24}", value, re.ASCII) else None
