"""The smallest plain program that does the same: Werkzeug, requests-oauthlib with one connection pool, and a JSON file
for each session, without a cache.

It shows the potential of simple code. It has no protection against prefetching, parallel tabs, hostile files and
providers, and no expiry, refresh or sign-out. A session id can even name another file.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from requests_oauthlib import OAuth2Session
from werkzeug import Request, Response
from werkzeug.utils import redirect

from . import SITE, Settings, create_code_verifier

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

start = "/"


class Program:
    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.pool = HTTPAdapter()
        self.verify = os.environ.get("REQUESTS_CA_BUNDLE")
        self.handlers: dict[str, Callable[[Request, dict[str, Any]], Response]] = {
            "/": self.demo,
            "/callback": self.callback,
            "/profile": self.profile,
            "/page": self.page,
        }

    def client(self, **options: Any) -> OAuth2Session:
        session = OAuth2Session(self.settings.client_id, redirect_uri=f"{SITE}/callback", **options)
        session.trust_env = False  # reading the environment costs as much as the rest of a request
        session.verify = self.verify or True
        session.mount("https://", self.pool)
        return session

    def demo(self, _request: Request, session: dict[str, Any]) -> Response:
        session["code_verifier"], challenge = create_code_verifier()
        authorization_url, session["oauth_state"] = self.client().authorization_url(
            self.settings.authorization_url, code_challenge=challenge, code_challenge_method="S256"
        )
        return redirect(authorization_url)

    def callback(self, request: Request, session: dict[str, Any]) -> Response:
        session["oauth_token"] = self.client(state=session["oauth_state"]).fetch_token(
            self.settings.token_url,
            client_secret=self.settings.client_secret,
            authorization_response=request.url,
            code_verifier=session["code_verifier"],
        )
        return redirect("/profile")

    def profile(self, _request: Request, session: dict[str, Any]) -> Response:
        document = self.client(token=session["oauth_token"]).get(self.settings.profile_url)
        return Response(document.text, mimetype="application/json")

    def page(self, _request: Request, session: dict[str, Any]) -> Response:
        return Response("Hello") if "oauth_token" in session else redirect("/")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        session_id = request.cookies.get("session") or secrets.token_hex(32)
        path = f"{self.folder}/{session_id}"
        session = json.loads(Path(path).read_bytes()) if os.path.exists(path) else {}
        before = dict(session)
        response = self.handlers[request.path](request, session)
        if session != before:
            Path(f"{path}.tmp").write_text(json.dumps(session))
            os.replace(f"{path}.tmp", path)
            response.set_cookie("session", session_id, secure=True, httponly=True, samesite="Lax")
        return response(environ, start_response)


def create(settings: Settings, folder: Path) -> Any:
    return Program(settings, folder)
