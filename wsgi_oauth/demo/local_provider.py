"""A whole OAuth 2 provider in one WSGI application, for one client, and one user unless it is told of others.

It is the other half of the dance in :mod:`wsgi_oauth.flow`, and what that page cannot show happens
here, in the same order: the user is asked (:meth:`LocalProvider.ask`) and decides
(:meth:`~LocalProvider.decide`), the code becomes a token (:meth:`~LocalProvider.token`), the token
opens the profile (:meth:`~LocalProvider.profile`), and in the end it is revoked
(:meth:`~LocalProvider.revoke`). The protocol is oauthlib's; the memory is in
:mod:`wsgi_oauth.demo.grants`; on request it misbehaves (:mod:`wsgi_oauth.demo.fault_injection`).

    >>> from wsgi_oauth.demo.server import serve_provider
    >>> with serve_provider(LocalProvider()) as server:
    ...     print(server.url)                                             # doctest: +SKIP
    http://127.0.0.1:40123

It is meant for loopback: whoever reaches it can sign in as its user, and tell it to misbehave.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from oauthlib.common import add_params_to_uri
from oauthlib.oauth2 import AccessDeniedError, FatalClientError, OAuth2Error, WebApplicationServer
from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request, Response

from . import provider_pages
from .fault_injection import ENDPOINTS, FaultContext, FaultInjector
from .faults import FAULTS
from .grants import Client, GrantValidator, require_long_verifier, require_s256

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    Handler = Callable[[Request], Response]

#: The usual user, as the profile endpoint describes it.
OCTOCAT: Mapping[str, object] = MappingProxyType(
    {
        "id": 583231,
        "login": "octocat",
        "name": "Mona Lisa Octocat",
        "email": "octocat@example.com",
    }
)

_LOGIN = re.compile(r"[A-Za-z0-9-]{1,39}", re.ASCII)
_KEPT = 10_000  # exchanges that are remembered, so that a long day of use stays small


@dataclass(frozen=True)
class Exchange:
    """One HTTP message that the provider saw, and what it answered.

    ``endpoint`` is ``authorize``, ``token``, ``profile`` or ``revoke``; ``url`` has its query.
    A ``status`` of 0 means that a fault took the connection over, so nobody knows.
    """

    endpoint: str
    method: str
    url: str
    headers: Headers
    body: str
    status: int
    response_headers: Headers
    response_body: str


class LocalProvider:
    """A WSGI application that is an OAuth 2 provider, thread-safe, with all its state in memory.

    :param client_id: the one client it knows.
    :param client_secret: its secret; None registers a public client, which has PKCE alone.
    :param scope: what there is to ask for, separated by spaces; all of it when nothing is asked.
    :param redirect_uris: where a user may be sent back to. Without any: every loopback URL whose
        path ends in ``/callback``, or with several providers ``/callback/<label>``.
    :param user: the usual user's document, with at least ``name`` and ``login``.
    :param expires_in: how long an access token lives, in seconds.
    :param refresh_tokens: whether it gives any.
    :param rotate_refresh_tokens: whether a refresh gives a new refresh token and ends the old one.
    """

    def __init__(
        self,
        *,
        client_id: str = "demo-client",
        client_secret: str | None = "demo-secret",  # noqa: S107 - a demo's, known to everyone
        scope: str = "profile email",
        redirect_uris: Iterable[str] = (),
        user: Mapping[str, object] = OCTOCAT,
        expires_in: int = 3600,
        refresh_tokens: bool = True,
        rotate_refresh_tokens: bool = True,
    ) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self.user = user
        #: Its address and, to the byte, its issuer (RFC 9207); the server sets it.
        self.url = "http://127.0.0.1"
        #: What to get wrong next.
        self.faults = FaultInjector(FAULTS)
        #: What came and what was answered, oldest first.
        self.exchanges: list[Exchange] = []
        self._arrived: Counter[str] = Counter()
        self._lock = threading.Lock()

        client = Client(client_id, client_secret, tuple(redirect_uris))
        validator = GrantValidator(client, scope.split(), rotate=rotate_refresh_tokens)
        self._oauth = WebApplicationServer(validator, token_expires_in=expires_in)
        code_grant: Any = self._oauth.auth_grant
        code_grant.refresh_token = refresh_tokens
        code_grant.custom_validators.pre_auth.append(require_s256)
        code_grant.custom_validators.pre_token.append(require_long_verifier)

        self.routes: dict[str, tuple[str, dict[str, Handler]]] = {
            "/": ("home", {"GET": self.home}),
            "/authorize": ("authorize", {"GET": self.ask, "POST": self.decide}),
            "/token": ("token", {"POST": self.token}),
            "/user": ("profile", {"GET": self.profile}),
            "/revoke": ("revoke", {"POST": self.revoke}),
            "/faults": (
                "control",
                {"GET": self.show_faults, "POST": self.add_fault, "DELETE": self.clear_faults},
            ),
            "/exchanges": ("control", {"GET": self.show_counts}),
        }

    @property
    def authorization_url(self) -> str:
        return f"{self.url}/authorize"

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    @property
    def profile_url(self) -> str:
        return f"{self.url}/user"

    @property
    def revocation_url(self) -> str:
        return f"{self.url}/revoke"

    def document(self, login: str) -> dict[str, object]:
        """What the profile endpoint says about a user: the usual one without *login*, else one made up on the spot."""
        if login in {"", self.user.get("login")}:
            return dict(self.user)
        number = int.from_bytes(sha256(login.encode()).digest()[:6], "big")
        return {"id": number, "login": login, "name": login.title(), "email": f"{login}@example.com"}

    def count(self, endpoint: str) -> int:
        """How many requests reached an endpoint, those included that are not answered yet.

        ``refresh`` counts those requests to the token endpoint that asked for a refresh.
        """
        with self._lock:
            return self._arrived[endpoint]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        endpoint, handlers = self.routes.get(request.path, ("", {}))
        self._note_arrival(endpoint, request)
        response = None
        try:
            response = _dispatch(handlers, request)
        finally:
            if endpoint in ENDPOINTS:
                self._note_answer(endpoint, request, response)
        return response(environ, start_response)

    # Step 2 of the tutorial: the user authorizes, here.

    def ask(self, request: Request) -> Response:
        """GET /authorize: the consent page."""

        def show(scopes: list[str], about: dict[str, Any]) -> Response:
            return provider_pages.consent(
                client_id=self.client_id,
                user=self.user,
                scopes=scopes,
                redirect_uri=about["redirect_uri"],
                parameters=request.args,
                faults=FAULTS.values(),
            )

        return self._authorization(request, show)

    def decide(self, request: Request) -> Response:
        """POST /authorize: the user pressed a button, and may have picked a fault.

        A real provider would make sure here that it is its own page that posts (RFC 6749 10.12), and
        would know who sits there. This one believes it: ``user=alice`` is somebody else than the usual
        user, for programs that need many.
        """
        decision, fault = request.form.get("decision"), request.form.get("fault")
        login = request.form.get("user", "")
        if decision not in ("allow", "deny"):
            return provider_pages.refusal("No decision", "Please press Allow or Deny.")
        if login and not _LOGIN.fullmatch(login):
            return provider_pages.refusal("No such user", "A user's name has letters, digits and hyphens, 39 at most.")
        if fault and fault not in FAULTS:
            return provider_pages.refusal("No such fault", f"There is no fault named {fault}.")
        if fault:
            self.faults.add(fault)

        def answer(scopes: list[str], about: dict[str, Any]) -> Response:
            if decision == "deny":
                raise AccessDeniedError(request=about["request"])
            headers, _, _ = self._oauth.create_authorization_response(
                self._uri(request), scopes=scopes, credentials={"user": login}
            )
            return self._send_back(headers["Location"])

        return self._perform(request, lambda: self._authorization(request, answer), "authorize")

    def _authorization(self, request: Request, proceed: Callable[[list[str], dict[str, Any]], Response]) -> Response:
        """Go on with a good authorization request, or say what is wrong with it.

        To the client, where it is certain who that is; otherwise to the user (RFC 6749 4.1.2.1).
        """
        try:
            with self._lock:
                return proceed(*self._oauth.validate_authorization_request(self._uri(request)))
        except FatalClientError as error:
            return provider_pages.refusal("Invalid authorization request", error.description)
        except OAuth2Error as error:
            return self._send_back(error.in_uri(error.redirect_uri or ""))
        except ValueError:  # oauthlib's, about a query that is not form-encoded
            return provider_pages.refusal("Invalid authorization request", "Its query cannot be read.")

    def _send_back(self, location: str) -> Response:
        """To the client, saying who answers: RFC 9207, against mix-up."""
        location = add_params_to_uri(location, [("iss", self.url)])
        return Response(status=302, headers={"Location": location, **provider_pages.HEADERS})

    # Step 3: the client exchanges the code, and later the refresh token.

    def token(self, request: Request) -> Response:
        """POST /token: an access token for a code or a refresh token."""
        kinds = ("refresh", "token") if _is_refresh(request) else ("token",)
        create = self._oauth.create_token_response
        return self._perform(request, lambda: self._answer_client(create, request), *kinds)

    def revoke(self, request: Request) -> Response:
        """POST /revoke: the end of a token (RFC 7009)."""
        create = self._oauth.create_revocation_response
        return self._perform(request, lambda: self._answer_client(create, request), "revoke")

    def _answer_client(self, create: Callable[..., Any], request: Request) -> Response:
        uri, body = self._uri(request), request.get_data(as_text=True)
        try:
            with self._lock:
                headers, text, status = create(uri, request.method, body, dict(request.headers))
        except OAuth2Error as error:
            headers, text, status = {"Content-Type": "application/json"}, error.json, 400
        except ValueError:
            return _json({"error": "invalid_request"}, 400)
        if status == 401:  # oauthlib names Bearer, but the client is to authenticate by Basic
            headers["WWW-Authenticate"] = 'Basic realm="local provider"'
        return Response(text, status, headers)

    # And then the token is used.

    def profile(self, request: Request) -> Response:
        """GET /user: who the user is, for whoever brings a good token in the header (RFC 6750)."""

        def honest() -> Response:
            with self._lock:
                # Without the query: a token does not belong there (RFC 9700 4.3.2).
                good, verified = self._oauth.verify_request(self.profile_url, headers=dict(request.headers))
            if good:
                return _json(self.document(verified.user or ""))
            response = _json({"message": "Bad credentials"}, 401)
            given = "Authorization" in request.headers
            challenge = 'Bearer error="invalid_token"' if given else "Bearer"
            response.headers["WWW-Authenticate"] = challenge
            return response

        return self._perform(request, honest, "profile")

    # What no provider has: it can be watched, and told to misbehave.

    def home(self, request: Request) -> Response:
        """GET /: what this is."""
        endpoints = {
            "authorization": self.authorization_url,
            "token": self.token_url,
            "profile": self.profile_url,
            "revocation": self.revocation_url,
        }
        return provider_pages.home(
            url=self.url,
            client_id=self.client_id,
            user=self.user,
            endpoints=endpoints,
            faults=FAULTS.values(),
        )

    def show_faults(self, request: Request) -> Response:
        """GET /faults: all there are, and those that wait for their turn."""
        described = {fault.name: fault.description for fault in FAULTS.values()}
        return _json({"faults": described, "waiting": self.faults.waiting})

    def add_fault(self, request: Request) -> Response:
        """POST /faults: ``name``, ``times`` (a number or ``always``; once when left out)."""
        times = request.form.get("times", "1")
        try:
            self.faults.add(request.form.get("name", ""), times=None if times == "always" else int(times))
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        return _json({"waiting": self.faults.waiting}, 201)

    def clear_faults(self, request: Request) -> Response:
        """DELETE /faults: behave from now on."""
        self.faults.clear()
        return Response(status=204)

    def show_counts(self, request: Request) -> Response:
        """GET /exchanges: how many requests each endpoint saw."""
        return _json({endpoint: self.count(endpoint) for endpoint in ENDPOINTS})

    def _perform(self, request: Request, honest: Callable[[], Response], *endpoints: str) -> Response:
        """Answer honestly, unless a fault is due."""
        fault = self.faults.take(*endpoints)
        return fault.respond(FaultContext(request.environ, self.faults, honest)) if fault else honest()

    def _note_arrival(self, endpoint: str, request: Request) -> None:
        request.get_data()  # kept by Werkzeug: for the form, for oauthlib, for the record
        with self._lock:
            self._arrived[endpoint] += 1
            if endpoint == "token" and _is_refresh(request):
                self._arrived["refresh"] += 1

    def _note_answer(self, endpoint: str, request: Request, response: Response | None) -> None:
        exchange = Exchange(
            endpoint=endpoint,
            method=request.method,
            url=self._uri(request),
            headers=Headers(request.headers),
            body=request.get_data(as_text=True),
            status=response.status_code if response else 0,
            response_headers=Headers(response.headers if response else ()),
            response_body=response.get_data().decode(errors="replace") if response else "",
        )
        with self._lock:
            self.exchanges.append(exchange)
            del self.exchanges[:-_KEPT]

    def _uri(self, request: Request) -> str:
        query = request.query_string.decode("latin-1")
        return f"{self.url}{request.path}{'?' if query else ''}{query}"


def _dispatch(handlers: Mapping[str, Handler], request: Request) -> Response:
    handler = handlers.get("GET" if request.method == "HEAD" else request.method)
    if handler:
        return handler(request)
    if handlers:
        return Response("Not like this.\n", 405, {"Allow": ", ".join(handlers)})
    return Response("There is nothing here.\n", 404)


def _is_refresh(request: Request) -> bool:
    return request.form.get("grant_type") == "refresh_token"


def _json(document: Mapping[str, object], status: int = 200) -> Response:
    text = json.dumps(document, indent=2) + "\n"
    headers = {"Cache-Control": "no-store"}
    return Response(text, status, headers, content_type="application/json")
