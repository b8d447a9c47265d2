"""An OpenID Connect provider (an OAuth 2.0 authorization server) as a WSGI application, for one client.

The requests follow the order of a sign-in. The user signs in, sees the consent page
(:meth:`LocalProvider.show_consent_page`) and decides (:meth:`~LocalProvider.decide`). The client
exchanges the code for a token (:meth:`~LocalProvider.token`), fetches the profile with it
(:meth:`~LocalProvider.profile`) and finally revokes it (:meth:`~LocalProvider.revoke`). If the client
requests the scope ``openid``, it also receives an ID token (OpenID Connect Core). oauthlib implements
OAuth, :mod:`wsgi_oauth.demo.grants` stores grants and tokens, :mod:`wsgi_oauth.demo.signing` signs ID
tokens, and :mod:`wsgi_oauth.demo.fault_injection` injects faults.

    >>> from wsgi_oauth.demo.server import serve_provider
    >>> with serve_provider(LocalProvider()) as server:
    ...     print(server.url)                                             # doctest: +SKIP
    http://127.0.0.1:40123

Use it on loopback only: anyone who can reach it can sign in as its user and inject faults.

To imitate another provider, override the methods and paths, or add endpoints to
:attr:`LocalProvider.routes`. :mod:`wsgi_oauth.demo.profiles` imitates five real ones.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from oauthlib.common import add_params_to_uri
from oauthlib.oauth2 import (
    AccessDeniedError,
    FatalClientError,
    MismatchingRedirectURIError,
    OAuth2Error,
    WebApplicationServer,
)
from oauthlib.openid.connect.core.exceptions import ConsentRequired, LoginRequired
from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request, Response

from . import provider_pages, signing
from .fault_injection import ENDPOINTS, Fault, FaultContext, FaultInjector
from .fault_stories import STORIES
from .faults import FAULTS
from .grants import Client, Grant, GrantValidator, check_code_challenge, check_code_verifier
from .server import Server
from .users import OCTOCAT, User, filter_claims, find_scope

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    Handler = Callable[[Request], Response]

_LOGIN = re.compile(r"[A-Za-z0-9-]{1,39}", re.ASCII)
_ID_TOKEN_LIFETIME = 3600  # seconds
_MAX_SESSIONS = 1000
_MAX_EXCHANGES = 10_000  # limits the memory of a provider that runs for days


@dataclass(frozen=True)
class Exchange:
    """A request to the provider and its response.

    ``endpoint`` is ``authorize``, ``token``, ``profile`` or ``revoke``, and ``url`` includes the
    query. ``status`` is 0 when a fault ended the connection without a response.
    """

    endpoint: str
    method: str
    url: str
    headers: Headers
    body: str
    status: int
    response_headers: Headers
    response_body: str


@dataclass
class ProviderSession:
    """A browser in which a user is signed in at the provider."""

    login: str
    signed_in_at: float = field(default_factory=time.time)
    remembered: frozenset[str] = frozenset()  # the scopes that the client gets without asking the user again


class LocalProvider:
    """The provider. It is thread-safe and keeps all state in memory.

    :param client_id: the id of its only client.
    :param client_secret: the client's secret; None for a public client, which has only PKCE.
    :param scope: all scopes, separated by spaces.
    :param default_scope: the scopes that count if a request names none; None for all but ``openid``.
    :param redirect_uris: the registered redirect URIs. Without any, the provider accepts every
        loopback URL whose path ends in ``/callback`` or ``/callback/<label>``.
    :param user: the default user's profile, with at least ``name`` and ``login``.
    :param expires_in: the lifetime of access tokens, in seconds.
    :param refresh_tokens: whether it issues refresh tokens. A refresh replaces the refresh token with a new one.
    :param require_pkce: whether every authorization request needs PKCE, which RFC 9700 2.1.1 recommends also for
        confidential clients. Without, the provider supports PKCE, but also issues codes that fit any code verifier
        (RFC 9700 4.8.2).
    """

    authorization_path = "/authorize"
    token_path = "/token"
    profile_path = "/user"
    revocation_path = "/revoke"
    issuer_path = ""
    keys_path = "/keys"
    end_session_path = "/end-session"
    #: The name of the provider, for people.
    title = "Local ID"
    #: The provider's URL, which is also its issuer identifier (RFC 9207). The server sets it.
    url = "http://127.0.0.1"
    #: The server, which :func:`.server.serve_provider` sets.
    server: Server
    #: The users that the sign-in page offers. Without any, the default user is always signed in.
    users: Sequence[User] = ()
    #: The pages to which the home page links: their URLs by the text of the link.
    links: Mapping[str, str] = {}
    #: The name of the fault for the next sign-in.
    next_fault = ""

    def __init__(
        self,
        *,
        client_id: str = "demo-client",
        client_secret: str | None = "demo-secret",  # noqa: S107 - not secret
        scope: str = "openid profile email",
        default_scope: str | None = None,
        redirect_uris: Iterable[str] = (),
        user: Mapping[str, object] = OCTOCAT,
        expires_in: int = 3600,
        refresh_tokens: bool = True,
        require_pkce: bool = True,
    ) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self.user = user
        #: The name of the client, for people.
        self.client_name = client_id
        self._sessions: dict[str, ProviderSession] = {}
        #: The faults to inject.
        self.faults = FaultInjector(FAULTS)
        #: The last requests and responses, oldest first.
        self.exchanges: list[Exchange] = []
        self._request_counts: Counter[str] = Counter()
        self._lock = threading.Lock()

        #: The scopes that clients may request.
        self.scopes: Sequence[str] = scope.split()
        default_scopes = [each for each in self.scopes if each != "openid"]
        self._client = Client(client_id, client_secret, tuple(redirect_uris))
        self._validator = GrantValidator(
            self._client,
            self.scopes,
            default_scopes=default_scopes if default_scope is None else default_scope.split(),
            require_pkce=require_pkce,
        )
        self._oauth = WebApplicationServer(self._validator, token_expires_in=expires_in)
        code_grant: Any = self._oauth.auth_grant
        code_grant.refresh_token = refresh_tokens
        code_grant.custom_validators.pre_auth.append(check_code_challenge)
        code_grant.custom_validators.pre_token.append(check_code_verifier)

        #: For each path: the endpoint's name, and the handler of each method.
        self.routes = self._build_routes()

    def _build_routes(self) -> dict[str, tuple[str, dict[str, Handler]]]:
        routes: dict[str, tuple[str, dict[str, Handler]]] = {
            "/": ("home", {"GET": self.show_home_page}),
            self.authorization_path: ("authorize", {"GET": self.show_consent_page, "POST": self.decide}),
            self.token_path: ("token", {"POST": self.token}),
            self.profile_path: ("profile", {"GET": self.profile, "POST": self.profile}),
            self.revocation_path: ("revoke", {"POST": self.revoke}),
            "/sign-out": ("home", {"POST": self.sign_out}),
            "/next-fault": ("home", {"POST": self.choose_fault}),
            "/faults": (
                "control",
                {"GET": self.show_faults, "POST": self.add_fault, "DELETE": self.clear_faults},
            ),
            "/exchanges": ("control", {"GET": self.show_request_counts}),
        }
        if "openid" in self.scopes:
            routes |= {
                f"{self.issuer_path}/.well-known/openid-configuration": (
                    "discovery",
                    {"GET": lambda _: json_response(self.discovery_document())},
                ),
                self.issuer_path + self.keys_path: ("keys", {"GET": lambda _: json_response(signing.public_keys())}),
                self.end_session_path: ("end", {"GET": self.end_session, "POST": self.end_session}),
            }
        return routes

    @property
    def issuer(self) -> str:
        """The issuer identifier of OpenID Connect."""
        return self.url + self.issuer_path

    @property
    def authorization_url(self) -> str:
        return self.url + self.authorization_path

    @property
    def token_url(self) -> str:
        return self.url + self.token_path

    @property
    def profile_url(self) -> str:
        return self.url + self.profile_path

    @property
    def revocation_url(self) -> str:
        return self.url + self.revocation_path

    @property
    def settings(self) -> dict[str, str]:
        """The ``WSGI_OAUTH_*`` variables of an application that uses OpenID Connect, without the prefix."""
        return {
            "PROVIDER": self.issuer,
            "CLIENT_ID": self.client_id,
            "CLIENT_SECRET": self.client_secret or "",
            "TITLE": self.title,
            "SCOPE": " ".join(self.scopes),
        }

    @property
    def plain_settings(self) -> dict[str, str]:
        """The ``WSGI_OAUTH_*`` variables of an application that uses OAuth 2.0 alone, without the prefix."""
        return {
            "CLIENT_ID": self.client_id,
            "CLIENT_SECRET": self.client_secret or "",
            "AUTHORIZATION_URL": self.authorization_url,
            "TOKEN_URL": self.token_url,
            "PROFILE_URL": self.profile_url,
            "REVOCATION_URL": self.revocation_url,
            "ISSUER": self.url,
        }

    def set_users(self, users: Sequence[User]) -> None:
        """Offer *users*, of whom the first one is the default user, and the scope ``groups`` for their groups."""
        self.user = users[0].claims
        self.users = users
        self.scopes = self._validator.scopes = [*self.scopes, "groups"]

    def user_document(self, login: str) -> dict[str, object]:
        """Return all data about the user *login*; about the default user when *login* is empty.

        Every login exists: the profile is generated from it.
        """
        if not login or login == self.user.get("login"):
            return dict(self.user)
        for user in self.users:
            if user.login == login:
                return dict(user.claims)
        number = int.from_bytes(sha256(login.encode()).digest()[:6], "big")
        return {"id": number, "login": login, "name": login.title(), "email": f"{login}@example.com"}

    def count(self, endpoint: str) -> int:
        """Return the number of requests that an endpoint has received, including unanswered ones.

        ``refresh`` counts the token requests with a refresh token; ``token`` counts all.
        """
        with self._lock:
            return self._request_counts[endpoint]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        endpoint, handlers = self.routes.get(request.path, ("", {}))
        request.get_data()  # Werkzeug caches the body, so the form, oauthlib and self.exchanges can all read it
        with self._lock:
            self._request_counts[endpoint] += 1
            if endpoint == "token" and _is_refresh(request):
                self._request_counts["refresh"] += 1
        response = None
        try:
            response = _refuse_other_sites(endpoint, request) or _dispatch(handlers, request)
        finally:
            if endpoint in ENDPOINTS:
                self._record_exchange(endpoint, request, response)
        return response(environ, start_response)

    # -- the authorization endpoint: step 2 of the tutorial ----------------------------------

    def show_consent_page(self, request: Request) -> Response:
        """GET /authorize: let the user sign in if necessary, and ask for consent.

        A user who is signed in already is asked for consent only, and not even for that if the provider remembers it.
        ``prompt`` and ``max_age`` change this (OpenID Connect Core 3.1.2.1).
        """

        def proceed(scopes: list[str], details: dict[str, Any]) -> Response:
            session, prompts = self.find_session(request), request.args.get("prompt", "").split()
            is_signed_in = session is not None and _is_recent(session, request.args.get("max_age"))
            if self.users and not (is_signed_in and {"login", "select_account"}.isdisjoint(prompts)):
                if "none" in prompts:
                    raise LoginRequired(request=details["request"])
                hint = request.args.get("login_hint", "")
                return self._page("sign_in.html", "Sign in", users=self.users, hint=hint, parameters=request.args)
            if session and session.remembered.issuperset(scopes) and "consent" not in prompts and not self.next_fault:
                return self._issue_code(request, scopes, session)
            if "none" in prompts:
                raise ConsentRequired(request=details["request"])
            login = session.login if session else ""
            return self._page(
                "consent.html",
                f"{self.client_name} would like to sign you in",
                user=self._find_user(login),
                is_remembered=session is not None,
                releases=list(provider_pages.list_releases(scopes, self.release(login, scopes))),
                redirect_uri=details["redirect_uri"],
                other_account=f"?{urlencode([*_without_prompt(request), ('prompt', 'select_account')])}",
                parameters=request.args,
                stories=[each for each in STORIES if each.scope in {"", *scopes}],
                story=next((each for each in STORIES if each.name == self.next_fault), None),
            )

        return self.validate_authorization_request(request, proceed)

    def decide(self, request: Request) -> Response:
        """POST /authorize: the user has chosen who they are, or has pressed Allow or Deny.

        A real provider would ask for a password, and would tie the form to the browser with a token. Programs that
        need many users send the field ``user`` with the decision: ``decision=allow&user=alice`` signs in a user with
        the login alice. They can choose a fault with ``fault``.
        """
        decision, login = request.form.get("decision"), request.form.get("user", "")
        if login and not _LOGIN.fullmatch(login):
            return self.error_page("Invalid user", "A login has 1 to 39 letters, digits and hyphens.")
        if "cancel_fault" in request.form:
            self.next_fault = ""
            return _redirect(self._request_url(request))
        if login and decision is None:
            return self._sign_in(request, login)
        if decision not in ("allow", "deny"):
            return self.error_page("No decision", "Press Allow or Deny.")
        fault_name, self.next_fault = request.form.get("fault", self.next_fault), ""
        if fault_name and fault_name not in self.faults.known:
            return self.error_page("Unknown fault", f"The fault {fault_name} does not exist.")
        return self._answer(request, decision == "allow", login, fault_name)

    def _answer(self, request: Request, is_allowed: bool, login: str, fault_name: str) -> Response:
        """Return the authorization response (RFC 6749 4.1.2), into which a fault may be injected."""
        session, form = self.find_session(request), request.form
        if session and login not in ("", session.login):
            session = None  # because the consent page of another user was still open in this browser

        def proceed(scopes: list[str], details: dict[str, Any]) -> Response:
            if not is_allowed:
                raise AccessDeniedError(request=details["request"])
            if "chosen" in form:  # from the consent page, on which the user can decline optional scopes
                scopes = [each for each in scopes if f"scope-{each}" in form or not find_scope(each).is_optional]
            if session and "remember" in form:
                session.remembered = frozenset(scopes)
            return self._issue_code(request, scopes, session or ProviderSession(login), fault_name)

        def respond() -> Response:
            return self.validate_authorization_request(request, proceed)

        if fault_name.startswith("authorize."):
            return self._inject(self.faults.known[fault_name], request, respond)
        return self.inject_fault(request, respond, "authorize")

    def _sign_in(self, request: Request, login: str) -> Response:
        """Remember the user in a session, and redirect to the consent page."""
        session_id = secrets.token_urlsafe(32)
        self._sessions[session_id] = ProviderSession(login)
        for oldest in list(self._sessions)[:-_MAX_SESSIONS]:
            self._sessions.pop(oldest, None)
        # Without the parameter prompt, because the user has just signed in.
        response = _redirect(f"{self.url}{request.path}?{urlencode(_without_prompt(request))}")
        response.set_cookie(self._cookie_name, session_id, httponly=True, samesite="Lax")
        return response

    def _issue_code(
        self, request: Request, scopes: list[str], session: ProviderSession, fault_name: str = ""
    ) -> Response:
        credentials = {"user": session.login, "signed_in_at": session.signed_in_at, "fault": fault_name}
        headers, _, _ = self._oauth.create_authorization_response(
            self._request_url(request), scopes=scopes, credentials=credentials
        )
        return self.redirect_to_client(headers["Location"])

    def find_session(self, request: Request) -> ProviderSession | None:
        """Return the session of the browser; None if no user is signed in at the provider."""
        return self._sessions.get(request.cookies.get(self._cookie_name, ""))

    @property
    def _cookie_name(self) -> str:
        """The name of the session cookie, with the port, because cookies belong to all ports (RFC 6265 8.5)."""
        return f"local_id_{urlsplit(self.url).port or ''}"

    def _find_user(self, login: str) -> User:
        return next((user for user in self.users if user.login == login), User(self.user_document(login)))

    def validate_authorization_request(
        self, request: Request, proceed: Callable[[list[str], dict[str, Any]], Response]
    ) -> Response:
        """Validate the authorization request, then call *proceed* with the scopes and oauthlib's details.

        An error is reported to the client by a redirect. When the client or its redirect URI is
        invalid, the error is shown to the user instead (RFC 6749 4.1.2.1).
        """
        try:
            with self._lock:
                return proceed(*self._oauth.validate_authorization_request(self._request_url(request)))
        except FatalClientError as error:
            title = f"Invalid authorization request: {error.description.removesuffix('.')}"
            reason = error.description
            if isinstance(error, MismatchingRedirectURIError) and not self._client.redirect_uris:
                reason = (
                    "This provider accepts redirect URIs that end with /callback, on this machine only: localhost, "
                    "127.0.0.1 and [::1]."
                )
            return self.error_page(title, reason, is_request_invalid=True)
        except OAuth2Error as error:
            return self.redirect_to_client(error.in_uri(error.redirect_uri or ""))
        except ValueError:  # from oauthlib, when the query is not form-encoded
            return self.error_page("Invalid authorization request", "The query is malformed.", is_request_invalid=True)

    def error_page(self, title: str, reason: str, *, is_request_invalid: bool = False) -> Response:
        """Return the page for a request that must not be answered with a redirect to the client.

        :param is_request_invalid: whether the reason is the authorization request, and not the form of a page.
        """
        return self._page("error.html", title, status=400, reason=reason, is_request_invalid=is_request_invalid)

    def _page(self, template: str, title: str, **variables: Any) -> Response:
        return provider_pages.render(template, name=self.title, title=title, client=self.client_name, **variables)

    def redirect_to_client(self, location: str) -> Response:
        """Return the redirect to the client, with the issuer as ``iss`` against mix-up attacks (RFC 9207)."""
        location = add_params_to_uri(location, [("iss", self.url)])
        return Response(status=302, headers={"Location": location, **provider_pages.HEADERS})

    # -- the endpoints that the client calls: step 3 of the tutorial -------------------------

    def token(self, request: Request) -> Response:
        """POST /token: issue an access token for a code or a refresh token."""
        endpoints = ("refresh", "token") if _is_refresh(request) else ("token",)
        return self.inject_fault(request, lambda: self._issue_token(request), *endpoints)

    def _issue_token(self, request: Request) -> Response:
        response = self._respond_to_client(self._oauth.create_token_response, request)
        document = response.get_json(silent=True) or {}
        access_token = document.get("access_token", "")
        grant = self.find_grant(f"Bearer {access_token}")
        if grant is None or "openid" not in grant.scopes:
            return response
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": self.client_id,
            "iat": now,
            "exp": now + _ID_TOKEN_LIFETIME,
            "auth_time": int(grant.signed_in_at),
            "at_hash": signing.hash_access_token(access_token),
            **self.id_token_claims(grant),
        }
        if nonce := self.find_nonce(request):
            claims["nonce"] = nonce
        return json_response({**document, "id_token": signing.sign_jwt(claims)})

    def id_token_claims(self, grant: Grant) -> dict[str, Any]:
        """Return the claims about the user in an ID token: only the subject.

        All other claims are in the UserInfo response, because the client has an access token (OpenID Connect Core 5.4).
        """
        return {"sub": self.release(grant.user, grant.scopes).get("sub")}

    def revoke(self, request: Request) -> Response:
        """POST /revoke: revoke a token (RFC 7009)."""
        create = self._oauth.create_revocation_response
        return self.inject_fault(request, lambda: self._respond_to_client(create, request), "revoke")

    def _respond_to_client(self, create: Callable[..., Any], request: Request) -> Response:
        url, body = self._request_url(request), request.get_data(as_text=True)
        try:
            with self._lock:
                headers, text, status = create(url, request.method, body, dict(request.headers))
        except OAuth2Error as error:
            headers, text, status = {"Content-Type": "application/json"}, error.json, 400
        except ValueError:  # from oauthlib, when the body is not form-encoded
            return json_response({"error": "invalid_request"}, 400)
        if status == 401:  # oauthlib would send a Bearer challenge, but clients authenticate with Basic
            headers["WWW-Authenticate"] = 'Basic realm="local provider"'
        return Response(text, status, headers)

    def profile(self, request: Request) -> Response:
        """GET /user: return the user document for a valid access token in the Authorization header (RFC 6750).

        With the scope ``openid`` it is the UserInfo response (OpenID Connect Core 5.3).
        """

        def normal_response() -> Response:
            grant = self.find_grant(request.headers.get("Authorization", ""))
            if grant is not None:
                return json_response(self.release(grant.user, grant.scopes))
            response = json_response({"message": "Bad credentials"}, 401)
            has_token = "Authorization" in request.headers
            response.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"' if has_token else "Bearer"
            return response

        return self.inject_fault(request, normal_response, "profile")

    def release(self, login: str, scopes: Collection[str]) -> dict[str, object]:
        """Return the data about a user that *scopes* release."""
        claims = self.user_document(login)
        if "openid" in scopes and "id" in claims:
            claims = {"sub": str(claims["id"]), **claims}
        return filter_claims(claims, scopes, self.scopes)

    def find_grant(self, authorization: str) -> Grant | None:
        """Return the grant of the access token in an Authorization header; None without a valid one (RFC 6750 2.1)."""
        with self._lock:
            return self._validator.find_grant(authorization.removeprefix("Bearer "))

    def expire_access_tokens(self) -> None:
        """Let all access tokens expire now, earlier than the clients expect."""
        with self._lock:
            self._validator.expire_access_tokens()

    def find_nonce(self, request: Request) -> str | None:
        """Return the nonce for the ID token of a token request. A refresh has none (OpenID Connect Core 12.2)."""
        with self._lock:
            grant = self._validator.find_grant_of(request.form.get("code", ""))
        return grant.nonce if grant else None

    # -- OpenID Connect ----------------------------------------------------------------------

    def discovery_document(self) -> dict[str, Any]:
        """Return the provider's metadata (OpenID Connect Discovery 3, RFC 8414, RFC 9207)."""
        methods = ["none"] if self.client_secret is None else ["client_secret_basic", "client_secret_post"]
        claims = [claim for scope in self.scopes for claim in find_scope(scope).claims]
        return {
            "issuer": self.issuer,
            "authorization_endpoint": self.authorization_url,
            "token_endpoint": self.token_url,
            "userinfo_endpoint": self.profile_url,
            "revocation_endpoint": self.revocation_url,
            "end_session_endpoint": self.url + self.end_session_path,
            "jwks_uri": self.issuer + self.keys_path,
            "scopes_supported": list(self.scopes),
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", *claims],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": methods,
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def end_session(self, request: Request) -> Response:
        """Sign the user out at the provider, and redirect to the client (RP-Initiated Logout 2).

        Without an ID token of the signed-in user, the user is asked first: otherwise the page of an attacker could send
        the attacker's own token. The client registers the page after the sign-out together with its redirect URI:
        ``/signed-out`` instead of ``/callback``.
        """
        session, hint = self.find_session(request), request.values.get("id_token_hint", "")
        is_users = (
            session is not None
            and signing.is_own_token(hint)
            and signing.read_claims(hint).get("sub") == self.release(session.login, self.scopes)["sub"]
        )
        decision = request.form.get("sign_out", "yes" if is_users else "")
        if session and not decision:
            return self._page("sign_out.html", "Sign out here, too?")
        if decision != "no":
            self._end_session(request)
        target = request.values.get("post_logout_redirect_uri", "")
        application, _, page = target.rpartition("/")
        if page == "signed-out" and self._client.accepts_redirect_uri(f"{application}/callback"):
            state = {"state": request.values["state"]} if "state" in request.values else {}
            return Response(status=302, headers={"Location": add_params_to_uri(target, state.items())})
        return self.show_home_page(request)

    def _end_session(self, request: Request) -> None:
        self._sessions.pop(request.cookies.get(self._cookie_name, ""), None)

    def sign_out(self, request: Request) -> Response:
        """POST /sign-out: sign the user out at the provider."""
        self._end_session(request)
        return _redirect(f"{self.url}/")

    # -- pages and control endpoints, which real providers do not have -----------------------

    def show_home_page(self, request: Request) -> Response:
        """GET /: describe the provider."""
        endpoints = {
            "authorization": self.authorization_url,
            "token": self.token_url,
            "profile": self.profile_url,
            "revocation": self.revocation_url,
        }
        if "openid" in self.scopes:
            endpoints["metadata"] = f"{self.issuer}/.well-known/openid-configuration"
        session = self.find_session(request)
        return self._page(
            "home.html",
            "A provider for learning",
            url=self.url,
            links=self.links,
            users=self.users or [self._find_user("")],
            user=self._find_user(session.login) if session else None,
            endpoints=endpoints,
            stories=STORIES,
            next_fault=self.next_fault,
        )

    def choose_fault(self, request: Request) -> Response:
        """POST /next-fault: choose the fault for the next sign-in; without ``fault``, cancel it."""
        name = request.form.get("fault", "")
        if name and name not in self.faults.known:
            return self.error_page("Unknown fault", f"The fault {name} does not exist.")
        self.next_fault = name
        return _redirect(f"{self.url}/")

    def show_faults(self, request: Request) -> Response:
        """GET /faults: list all faults, and the queue."""
        descriptions = {fault.name: fault.description for fault in FAULTS.values()}
        return json_response({"faults": descriptions, "waiting": self.faults.waiting})

    def add_fault(self, request: Request) -> Response:
        """POST /faults: add the fault ``name``. ``times`` is a number (default 1) or ``always``."""
        times = request.form.get("times", "1")
        try:
            self.faults.add(request.form.get("name", ""), times=None if times == "always" else int(times))
        except ValueError as error:
            return json_response({"error": str(error)}, 400)
        return json_response({"waiting": self.faults.waiting}, 201)

    def clear_faults(self, request: Request) -> Response:
        """DELETE /faults: empty the queue."""
        self.faults.clear()
        return Response(status=204)

    def show_request_counts(self, request: Request) -> Response:
        """GET /exchanges: return the number of requests that each endpoint has received."""
        return json_response({endpoint: self.count(endpoint) for endpoint in ENDPOINTS})

    def inject_fault(self, request: Request, normal_response: Callable[[], Response], *endpoints: str) -> Response:
        """Return the response of the next fault for one of *endpoints*, or else the normal response."""
        fault = self.faults.take(*endpoints) or self._take_fault_of_sign_in(request, endpoints)
        return self._inject(fault, request, normal_response) if fault else normal_response()

    def _inject(self, fault: Fault, request: Request, normal_response: Callable[[], Response]) -> Response:
        return fault.respond(FaultContext(request.environ, self.faults, normal_response))

    def _take_fault_of_sign_in(self, request: Request, endpoints: Collection[str]) -> Fault | None:
        """Return the fault that was chosen for this sign-in, once: later requests of the sign-in are not disturbed.

        The request's code or token identifies the sign-in.
        """
        credential = (
            request.form.get("code")
            or request.form.get("refresh_token")
            or request.form.get("token")
            or request.headers.get("Authorization", "").removeprefix("Bearer ")
        )
        with self._lock:
            grant = self._validator.find_grant_of(credential)
            fault = self.faults.known.get(grant.fault) if grant else None
            if grant is None or fault is None or fault.endpoint not in endpoints:
                return None
            grant.fault = ""
            return fault

    def _record_exchange(self, endpoint: str, request: Request, response: Response | None) -> None:
        exchange = Exchange(
            endpoint=endpoint,
            method=request.method,
            url=self._request_url(request),
            headers=Headers(request.headers),
            body=request.get_data(as_text=True),
            status=response.status_code if response else 0,
            response_headers=Headers(response.headers if response else ()),
            response_body=response.get_data().decode(errors="replace") if response else "",
        )
        with self._lock:
            self.exchanges.append(exchange)
            del self.exchanges[:-_MAX_EXCHANGES]

    def _request_url(self, request: Request) -> str:
        query = request.query_string.decode("latin-1")
        return f"{self.url}{request.path}{'?' if query else ''}{query}"


def _redirect(location: str) -> Response:
    return Response(status=303, headers={"Location": location, **provider_pages.HEADERS})


def _without_prompt(request: Request) -> list[tuple[str, str]]:
    """Return the parameters of an authorization request without ``prompt``."""
    return [pair for pair in request.args.items(multi=True) if pair[0] != "prompt"]


def _refuse_other_sites(endpoint: str, request: Request) -> Response | None:
    """Return the response to a form of another site (CSRF, RFC 6749 10.12); None for all other requests.

    Browsers name the site of the form (Fetch Metadata 2.3). Programs do not.
    """
    is_form = request.method not in {"GET", "HEAD"} and endpoint in {"authorize", "home", "control"}
    if is_form and request.headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"}:
        return Response("Only this provider's own pages may send this form.\n", 403)
    return None


def _dispatch(handlers: Mapping[str, Handler], request: Request) -> Response:
    handler = handlers.get("GET" if request.method == "HEAD" else request.method)
    if handler:
        return handler(request)
    if handlers:
        return Response("Method not allowed.\n", 405, {"Allow": ", ".join(handlers)})
    return Response("Not found.\n", 404)


def _is_recent(session: ProviderSession, max_age: str | None) -> bool:
    """Return whether the user has signed in within *max_age* seconds (OpenID Connect Core 3.1.2.1)."""
    limit = float(max_age) if max_age and max_age.isascii() and max_age.isdigit() else math.inf
    return time.time() - session.signed_in_at <= limit


def _is_refresh(request: Request) -> bool:
    return request.form.get("grant_type") == "refresh_token"


def json_response(document: object, status: int = 200) -> Response:
    """Return a document as JSON, which no cache may store."""
    text = json.dumps(document, indent=2) + "\n"
    headers = {"Cache-Control": "no-store"}
    return Response(text, status, headers, content_type="application/json")
