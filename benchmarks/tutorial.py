"""The baselines of the benchmark of requests: a bare Werkzeug application, and the tutorial's handlers.

``hello`` is the smallest Werkzeug application. ``Tutorial`` uses requests-oauthlib as its documentation does in "Web
App Example of OAuth 2 web application flow". It adds PKCE, because the local provider requires it. Its sessions are
kept in a dictionary, which costs almost nothing.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from requests_oauthlib import OAuth2Session
from werkzeug import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from wsgi_oauth import Config


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Respond with a short text."""
    request = Request(environ)
    return Response(f"Hello {request.path}")(environ, start_response)


class Tutorial:
    """The tutorial as a WSGI application, for the provider of *config*."""

    def __init__(self, config: Config) -> None:
        self.redirect_uri = f"{config.public_url}/callback"
        [self.provider] = config.providers
        self.sessions: dict[str, dict[str, Any]] = {}
        self.routes: dict[str, Callable[[Request, dict[str, Any]], Response]] = {
            "/": self.pre_authorization,
            "/callback": self.post_authorization,
            "/profile": self.using_the_oauth_token,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        session_id = request.cookies.get("session") or secrets.token_urlsafe(32)
        session = self.sessions.setdefault(session_id, {})
        response = self.routes[request.path](request, session)
        response.set_cookie("session", session_id)
        return response(environ, start_response)

    def pre_authorization(self, request: Request, session: dict[str, Any]) -> Response:
        verifier = session["code_verifier"] = secrets.token_urlsafe(32)
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        github = OAuth2Session(self.provider.client_id, redirect_uri=self.redirect_uri)
        authorization_url, state = github.authorization_url(
            self.provider.authorization_url, code_challenge=challenge, code_challenge_method="S256"
        )
        session["oauth_state"] = state
        return _redirect(authorization_url)

    def post_authorization(self, request: Request, session: dict[str, Any]) -> Response:
        github = OAuth2Session(self.provider.client_id, state=session["oauth_state"], redirect_uri=self.redirect_uri)
        session["oauth_token"] = github.fetch_token(
            self.provider.token_url,
            client_secret=self.provider.client_secret,
            authorization_response=request.url,
            code_verifier=session["code_verifier"],
        )
        return _redirect("/profile")

    def using_the_oauth_token(self, request: Request, session: dict[str, Any]) -> Response:
        github = OAuth2Session(self.provider.client_id, token=session["oauth_token"])
        return Response(json.dumps(github.get(self.provider.profile_url).json()), mimetype="application/json")


def _redirect(location: str) -> Response:
    return Response(status=302, headers={"Location": location})
