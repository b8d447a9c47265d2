"""The OAuth 2 client of one user and one request: sign-in, refresh, revocation, and requests to the provider's API."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping
from functools import partialmethod
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus, urlencode

import requests
import requests_oauthlib

from .. import errors
from ..config.provider import Provider
from ..transport.error_description import describe_error
from ..transport.pool import Transport
from ..version import USER_AGENT
from .id_token import (
    check_id_token,
    check_refreshed_id_token,
    check_userinfo,
    is_signed_document,
    read_id_token,
    read_signed_document,
)
from .keys import SigningKeys
from .reauthentication import check_requirements
from .resource import read_resource, read_user_document, rejects_token
from .token import (
    Token,
    blames_refresh_token,
    has_expired,
    is_new,
    is_token,
    parse_pushed_response,
    parse_token_response,
    refuses_refresh,
)

_DEFAULT_HEADERS = {**requests.utils.default_headers(), "User-Agent": USER_AGENT}
_REPEATABLE = (type(None), str, bytes, dict, list, tuple)  # types of a request body that can be sent a second time
_JWT_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 2.2
_log = logging.getLogger(__name__)


class OAuth2Session:
    """A client for one user and one request. It uses the class of the same name in requests-oauthlib.

    ``get``, ``post``, ``request`` and ``get_json`` send requests with the user's access token. In contrast to
    requests, each request has a wall-clock deadline, a response of more than 1 MiB is refused, redirects are followed
    only with ``allow_redirects=True``, and every failure is an :class:`errors.ProviderError`.

    The methods of requests-oauthlib that send requests are not used, because they log tokens at DEBUG, follow
    redirects with the client secret, and wait without a limit.
    """

    def __init__(
        self,
        provider: Provider,
        client_id: str,
        client_secret: str | None,
        transport: Transport,
        *,
        keys: SigningKeys | None = None,
        build_assertion: Callable[[str], str] | None = None,
        pushes_requests: bool = False,
        token: Token | None = None,
        redirect_uri: str | None = None,
        refresh: Callable[[OAuth2Session, Token], Token] | None = None,
    ) -> None:
        """Raise TokenRejected when *token* is not a token that this program stored."""
        if token is not None and not is_token(token):
            raise errors.TokenRejected("the stored token is invalid")
        self.provider = provider
        self.redirect_uri = redirect_uri
        self._client_id = client_id
        self._client_secret = client_secret or ""
        self._transport = transport
        self._keys = keys  # they verify ID tokens and user documents; without them, only TLS protects these
        self._build_assertion = build_assertion  # for an endpoint, with `private_key_jwt`
        self._pushes_requests = pushes_requests  # whether authorization requests are pushed (RFC 9126)
        self._refresh = refresh  # gets a new token when the provider no longer accepts the current one
        self._token: Token = token or {}
        self._has_refreshed = False
        self.response: requests.Response | None = None  # the last one, for `wsgi-oauth check`
        self._requests_session: requests_oauthlib.OAuth2Session | None = None

    @property
    def requests_session(self) -> requests_oauthlib.OAuth2Session:
        """The session of requests-oauthlib that prepares each request; created when it is first needed.

        ``headers``, ``params``, ``auth`` and ``cookies`` that are set on it apply to all requests. Its settings for
        TLS, proxies and redirects have no effect, and neither have its compliance fixes.
        """
        if self._requests_session is None:
            self._requests_session = requests_oauthlib.OAuth2Session(
                self._client_id, scope=self.provider.scope, redirect_uri=self.redirect_uri, token=self._token
            )
            self._requests_session.headers["User-Agent"] = USER_AGENT
        return self._requests_session

    @property
    def token(self) -> Token:
        """The user's token, in the format of :func:`parse_token_response`; empty before the sign-in."""
        return self._token

    @token.setter
    def token(self, token: Token) -> None:
        self._token = token
        if self._requests_session is not None:
            self._requests_session.token = token

    @property
    def secrets(self) -> list[str]:
        """The client secret and the user's tokens, which must not be in the log."""
        names = ("access_token", "refresh_token", "id_token")
        return [self._client_secret, *(str(self._token[name]) for name in names if name in self._token)]

    @property
    def id_token_claims(self) -> dict[str, Any]:
        """The claims of the ID token, which was validated when it was received; empty without OpenID Connect."""
        is_validated = self.provider.asks_for_id_token and "id_token" in self.token
        return read_id_token(self.token["id_token"]) if is_validated else {}

    def authorization_url(self, url: str, state: str, **parameters: str) -> tuple[str, str]:
        """Return the URL of the authorization request (RFC 6749 4.1.1), and *state*, as requests-oauthlib does.

        :param parameters: further parameters, which take precedence over those of the provider's description.
        """
        request = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self.redirect_uri or "",
            "scope": self.provider.scope,
            "state": state,
            **dict(self.provider.authorization_parameters),
            **parameters,
        }
        unused = () if self.provider.pkce else ("code_challenge", "code_challenge_method")
        # Empty means absent (RFC 6749 3.1).
        request = {name: value for name, value in request.items() if value and name not in unused}
        if self._pushes_requests:
            request = {"client_id": self._client_id, "request_uri": self._push_request(request)}
        # The URL's own query is kept (RFC 6749 3.1), without parameters that would appear twice.
        endpoint, _, own = url.partition("?")
        query = [pair for pair in own.split("&") if pair and unquote_plus(pair.partition("=")[0]) not in request]
        query += [f"{name}={quote(value, safe='')}" for name, value in request.items()]
        return f"{endpoint}?{'&'.join(query)}", state

    def _push_request(self, request: Mapping[str, str]) -> str:
        """Send the parameters of an authorization request to the provider, and return their URI (RFC 9126 2)."""
        url = self.provider.pushed_authorization_url
        if not url:
            raise errors.ConfigError(
                "pushed authorization requests: the provider has no endpoint for them (RFC 9126 2)",
                remedy="set WSGI_OAUTH_PUSHED_REQUESTS=no; if the issuer's metadata name an endpoint, set "
                "WSGI_OAUTH_PROVIDER to the URL of the issuer",
            )
        response = self._post_as_client(url, dict(request))
        return parse_pushed_response(response, self.provider, redirect_uri=self.redirect_uri or "")

    def fetch_token(
        self,
        token_url: str,
        *,
        code: str,
        code_verifier: str,
        nonce: str = "",
        requirements: Mapping[str, str] = MappingProxyType({}),
        display_name: str = "",
    ) -> Token:
        """Exchange the authorization code for a token (RFC 6749 4.1.3, RFC 7636 4.5), and return it.

        :param nonce: the nonce of the authorization request, for OpenID Connect (Core 3.1.3.7).
        :param requirements: ``max_age`` and ``acr_values`` of the authorization request.
        :param display_name: the user's name from the authorization response; stored with the token.
        :raises errors.CodeRefused: when the provider refuses the code.
        :raises errors.ProviderError: when it refuses the client, or gives no valid token for this sign-in.
        """
        grant = {"grant_type": "authorization_code", "code": code}
        if self.provider.pkce:
            grant["code_verifier"] = code_verifier
        if self.redirect_uri:
            grant["redirect_uri"] = self.redirect_uri
        response = self._post_as_client(token_url, grant)
        token = parse_token_response(
            response, self.provider, redirect_uri=self.redirect_uri or "", secrets=self.secrets
        )
        if self.provider.asks_for_id_token:
            self._verify_signature(token.get("id_token", ""))
            claims = check_id_token(token.get("id_token", ""), self.provider, self._client_id, nonce=nonce)
            check_requirements(claims, requirements)
        elif requirements:
            raise errors.AuthenticationNotConfirmed("the provider issues no ID token, which could confirm the sign-in")
        if display_name:
            token["display_name"] = display_name
        self.token = token
        return dict(token)

    def refresh_token(self, token_url: str, *, token: Token) -> Token:
        """Exchange the refresh token of *token* for a new token (RFC 6749 6), and return it.

        The refresh token and the ID token stay the same when the response contains no new ones.

        :raises errors.TokenRejected: when the provider refuses the refresh token; the user has to sign in again.
        :raises errors.ProviderError: when the provider gives no usable response; a later attempt may succeed.
        """
        grant = {"grant_type": "refresh_token", "refresh_token": token["refresh_token"]}
        response = self._post_as_client(token_url, grant)
        try:
            fresh = parse_token_response(response, self.provider, previous=token, secrets=self.secrets)
        except (errors.UserError, errors.ProviderError) as error:
            if isinstance(error, errors.ClientRefused):
                if not blames_refresh_token(response):
                    raise
                error.remedy = ""  # the settings of the client are right
            if isinstance(error, errors.UserError) or refuses_refresh(response, token.get("expires_at", 0)):
                raise errors.TokenRejected(f"the provider refuses to refresh the token: {error}") from None
            raise
        first = token.get("id_token", "")
        # It is optional (OpenID Connect Core 12.2), and may be the first one again.
        if self.provider.asks_for_id_token and fresh.get("id_token", first) != first:
            try:
                self._verify_signature(fresh["id_token"])
                check_refreshed_id_token(fresh["id_token"], first, self.provider, self._client_id)
            except errors.IdTokenRefused as error:
                # The user has to sign in again, because the old refresh token may be used up.
                raise errors.TokenRejected(f"the refreshed token is refused: {error}") from None
        fresh = {name: token[name] for name in ("refresh_token", "id_token", "display_name") if name in token} | fresh
        self.token = fresh
        return dict(fresh)

    def renew_token(self) -> None:
        """Refresh the user's token, if that is possible and the token was not issued moments ago."""
        if self._can_refresh and not is_new(self.token):
            try:
                self._replace_token()
            except errors.ClientRefused as error:  # for example, this client may not refresh tokens
                if has_expired(self.token):
                    raise
                _log.warning("the token is used until it expires, because it cannot be refreshed: %s", error)

    def revoke_token(self, revocation_url: str) -> None:
        """Revoke the refresh token, then the access token (RFC 7009 2.1). Raise ProviderError if that fails."""
        if self.provider.revocation_by == "github":
            responses = [self._revoke_at_github(revocation_url)]
        else:
            responses = [
                self._post_as_client(revocation_url, {"token": self.token[hint], "token_type_hint": hint})
                for hint in ("refresh_token", "access_token")
                if hint in self.token
            ]
        for response in responses:
            if not 200 <= response.status_code < 300:
                raise errors.ProviderError(
                    f"the revocation endpoint answered with status {response.status_code}"
                    f"{describe_error(response, self.secrets)}"
                )

    def _revoke_at_github(self, url: str) -> requests.Response:
        """Delete the access token: https://docs.github.com/rest/apps/oauth-applications#delete-an-app-token."""
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": _basic(self._client_id, self._client_secret),
            "Content-Type": "application/json",
        }
        document = json.dumps({"access_token": self.token["access_token"]})
        return self._send("DELETE", url.replace("{client_id}", quote(self._client_id, safe="")), document, headers)

    def get_user_document(self) -> dict[str, Any]:
        """Fetch the document that describes the user (UserInfo, OpenID Connect Core 5.3, or the provider's own).

        Without such an endpoint, the claims of the ID token are returned. The errors are those of
        :func:`.read_user_document`.
        """
        provider = self.provider
        if not provider.profile_url:
            if not provider.recheck_interval:  # otherwise only rechecks refresh the token
                self._authorization()  # refreshes an expired token
            return read_id_token(self.token.get("id_token", ""))
        # Some issuers refuse requests that do not accept the signed form of the document (Core 5.3.2).
        signed = ", application/jwt;q=0.5" if provider.asks_for_id_token else ""
        headers = {"Accept": f"application/json{signed}", **dict(provider.profile_headers)}

        def fetch() -> dict[str, Any]:
            def ask(method: str) -> requests.Response:
                return self.request(method, provider.profile_url, provider.profile_body or None, headers)

            response = ask(provider.profile_method)
            if response.status_code == 405:
                response = ask("POST")  # some issuers accept nothing else (Core 5.3.1)
            if is_signed_document(response):
                document = response.content.decode("ascii", "replace")  # RFC 7515 3.1, whatever charset is declared
                claims = read_signed_document(document, provider, self._client_id)
                self._verify_signature(document, provider.document_algorithms)
                return claims
            return read_user_document(response, provider, is_new=is_new(self.token), secrets=self.secrets)

        try:
            document = fetch()
        except errors.TokenRejected:
            if not self._can_refresh:
                raise
            self._replace_token()
            document = fetch()
        if provider.asks_for_id_token and "id_token" in self.token:
            check_userinfo(document, self.token["id_token"], provider.user.subject)
        return document

    def _verify_signature(self, jwt: str, algorithms: Collection[str] = ()) -> None:
        """Verify the signature of an ID token or user document from the provider, if its keys are known.

        Without keys, TLS is sufficient: the token came directly from the provider (Core 3.1.3.7, item 6).

        :param algorithms: the algorithms that the provider uses; by default those of ID tokens.
        """
        provider = self.provider
        if self._keys is not None and (provider.jwks_url or provider.signs_with_secret) and jwt:
            self._keys.verify(
                jwt,
                provider.jwks_url,
                algorithms or provider.signing_algorithms,
                secret=self._client_secret,
                is_direct=True,
                has_tenants=provider.has_tenants,
            )

    def get_json(self, url: str, *, of: type = dict, headers: dict[str, str] | None = None, **options: Any) -> Any:
        """GET a JSON document: an object, with ``of=list`` a list, with ``of=object`` either.

        :raises errors.TokenRejected: when the provider rejects the token.
        :raises errors.ProviderError: for every other response that is not such a document with status 2xx.
        """
        headers = {"Accept": "application/json", **(headers or {})}
        return read_resource(self.request("GET", url, headers=headers, **options), of, self.secrets)

    def request(
        self,
        method: str,
        url: str,
        data: Any = None,
        headers: dict[str, str] | None = None,
        *,
        withhold_token: bool = False,
        **options: Any,
    ) -> requests.Response:
        """Send a request with the user's token in the Authorization header (RFC 6750 2.1).

        A token that has expired, or that the provider rejects with 401, is refreshed once if possible.

        :param withhold_token: send the request without the token, as in requests-oauthlib.
        :param options: ``params``, ``json``, ``files``, ``auth`` and ``cookies`` as in requests, ``timeout`` (seconds
            for the whole request), ``allow_redirects``.
        :raises errors.NotSignedIn: when there is no token.
        :raises errors.TokenRejected: when the token has expired and cannot be refreshed.
        :raises errors.ProviderError: when no whole response arrives.
        """
        headers = dict(headers or {})
        if withhold_token:
            return self._send(method, url, data, headers, **options)
        response = self._send(method, url, data, headers | self._authorization(), **options)
        is_repeatable = isinstance(data, _REPEATABLE) and not options.get("files")
        if rejects_token(response) and self._can_refresh and is_repeatable:
            self._replace_token()
            response = self._send(method, url, data, headers | self._authorization(), **options)
        if rejects_token(response) and self._has_refreshed and has_expired(self.token):
            raise errors.ProviderError("the refreshed token expired before the provider received it")
        return response

    get: partialmethod[requests.Response] = partialmethod(request, "GET")
    head: partialmethod[requests.Response] = partialmethod(request, "HEAD")
    options: partialmethod[requests.Response] = partialmethod(request, "OPTIONS")
    post: partialmethod[requests.Response] = partialmethod(request, "POST")
    put: partialmethod[requests.Response] = partialmethod(request, "PUT")
    patch: partialmethod[requests.Response] = partialmethod(request, "PATCH")
    delete: partialmethod[requests.Response] = partialmethod(request, "DELETE")

    def _send(
        self,
        method: str,
        url: str,
        data: Any,
        headers: dict[str, str],
        *,
        timeout: float | tuple[float | None, ...] | None = None,
        allow_redirects: bool = False,
        **content: Any,
    ) -> requests.Response:
        if self._requests_session is None:
            prepared = requests.PreparedRequest()
            prepared.prepare(method, url, {**_DEFAULT_HEADERS, **headers}, data=data, **content)
        else:
            request = requests.Request(method, url, data=data, headers=headers, **content)
            prepared = self._requests_session.prepare_request(request)
        endpoint = self._endpoint_name(url)
        self.response = None
        send = self._transport.send
        self.response = send(prepared, timeout=timeout, allow_redirects=allow_redirects, endpoint=endpoint)
        return self.response

    def _endpoint_name(self, url: str) -> str:
        """Return the name of the provider's endpoint with this URL, for metrics."""
        provider = self.provider
        names = {each.url.partition("?")[0]: "list" for each in provider.lists} | {
            (provider.revocation_url or "").replace("{client_id}", quote(self._client_id, safe="")): "revocation",
            provider.pushed_authorization_url: "pushed_authorization",
            provider.profile_url: "user_document",
            provider.token_url: "token",
        }
        return names.get(url) or names.get(url.partition("?")[0], "api")

    def _authorization(self) -> dict[str, str]:
        """Return the header with the access token, and refresh an expired one first."""
        if not self.token:
            raise errors.NotSignedIn("no token for a request to the provider")
        if has_expired(self.token):
            if not self._can_refresh:
                raise errors.TokenRejected("the access token has expired")
            self._replace_token()
        return {"Authorization": f"Bearer {self.token['access_token']}"}

    @property
    def _can_refresh(self) -> bool:
        return self._refresh is not None and "refresh_token" in self.token

    def _replace_token(self) -> None:
        """Replace the token by the function *refresh*, which shares one refresh among the requests of a session."""
        assert self._refresh is not None
        refresh, self._refresh = self._refresh, None  # once, because a provider may refuse every token it issues
        self.token = refresh(self, self.token)
        if has_expired(self.token):  # it came from another request, and has expired in the meantime
            self.token = refresh(self, self.token)
        self._has_refreshed = True

    def _post_as_client(self, url: str, form: dict[str, str]) -> requests.Response:
        """POST *form* to an endpoint at which the client authenticates itself (RFC 6749 2.3.1)."""
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        method = self.provider.client_auth or "basic"
        if method == "basic":
            headers["Authorization"] = _basic(quote_plus(self._client_id), quote_plus(self._client_secret))
        elif method == "basic-raw":
            headers["Authorization"] = _basic(self._client_id, self._client_secret)
        else:
            form = {**form, "client_id": self._client_id}
            if method == "post":
                form["client_secret"] = self._client_secret
            elif method == "private_key_jwt":
                assert self._build_assertion is not None
                form |= {"client_assertion_type": _JWT_ASSERTION, "client_assertion": self._build_assertion(url)}
        return self._send("POST", url, urlencode(form), headers)


def _basic(client_id: str, secret: str) -> str:
    return "Basic " + b64encode(f"{client_id}:{secret}".encode()).decode()
