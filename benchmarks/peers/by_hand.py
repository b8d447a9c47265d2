"""The smallest plain program that does the same: Werkzeug, requests-oauthlib with one connection pool, and a JSON file
for each session, without a cache.

It shows the potential of simple code. It has no protection against prefetching, parallel tabs, hostile files and
providers, and no expiry, refresh or single sign-out.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
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


def create(settings: Settings, folder: Path) -> Any:
    sessions = folder / "by-hand"
    sessions.mkdir(exist_ok=True)
    pool = HTTPAdapter()

    def client(**options: Any) -> OAuth2Session:
        session = OAuth2Session(settings.client_id, redirect_uri=f"{SITE}/callback", **options)
        session.trust_env = False  # reading the environment costs as much as the rest of a request
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE", True)
        session.mount("https://", pool)
        return session

    def save(session_id: str, data: dict[str, Any]) -> None:
        temporary = f"{sessions}/{session_id}.tmp"
        Path(temporary).write_text(json.dumps(data))
        os.replace(temporary, f"{sessions}/{session_id}")

    def demo(session: dict[str, Any]) -> Response:
        session["code_verifier"], challenge = create_code_verifier()
        authorization_url, session["oauth_state"] = client().authorization_url(
            settings.authorization_url, code_challenge=challenge, code_challenge_method="S256"
        )
        return redirect(authorization_url)

    def callback(session: dict[str, Any], request: Request) -> Response:
        session["oauth_token"] = client(state=session["oauth_state"]).fetch_token(
            settings.token_url,
            client_secret=settings.client_secret,
            authorization_response=request.url,
            code_verifier=session["code_verifier"],
        )
        return redirect("/profile")

    def profile(session: dict[str, Any]) -> Response:
        return Response(
            client(token=session["oauth_token"]).get(settings.profile_url).text, mimetype="application/json"
        )

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        session_id = request.cookies.get("session", "")
        path = sessions / session_id
        session = json.loads(path.read_bytes()) if session_id.isalnum() and path.exists() else {}
        before = dict(session)
        if request.path == "/callback":
            response = callback(session, request)
        elif request.path == "/profile":
            response = profile(session)
        elif request.path == "/page":
            response = Response("Hello") if "oauth_token" in session else redirect("/")
        else:
            response = demo(session)
        if session != before:
            session_id = session_id or secrets.token_hex(32)
            save(session_id, session)
            response.set_cookie("session", session_id, secure=True, httponly=True, samesite="Lax")
        return response(environ, start_response)

    return app
