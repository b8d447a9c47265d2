"""requests-oauthlib's tutorial in Bottle, with sessions of Beaker in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from beaker.middleware import SessionMiddleware
from bottle import Bottle, redirect, request
from requests_oauthlib import OAuth2Session

from . import SITE, Settings, create_code_verifier

start = "/"


def create(settings: Settings, folder: Path) -> Any:
    app = Bottle()
    redirect_uri = f"{SITE}/callback"

    def session() -> Any:
        return request.environ["beaker.session"]

    @app.route("/")
    def demo() -> Any:
        github = OAuth2Session(settings.client_id, redirect_uri=redirect_uri)
        session()["code_verifier"], challenge = create_code_verifier()
        authorization_url, state = github.authorization_url(
            settings.authorization_url, code_challenge=challenge, code_challenge_method="S256"
        )
        session()["oauth_state"] = state
        redirect(authorization_url)

    @app.route("/callback")
    def callback() -> Any:
        github = OAuth2Session(settings.client_id, state=session()["oauth_state"], redirect_uri=redirect_uri)
        session()["oauth_token"] = github.fetch_token(
            settings.token_url,
            client_secret=settings.client_secret,
            authorization_response=request.url,
            code_verifier=session()["code_verifier"],
        )
        redirect("/profile")

    @app.route("/profile")
    def profile() -> Any:
        github = OAuth2Session(settings.client_id, token=session()["oauth_token"])
        return github.get(settings.profile_url).json()

    @app.route("/page")
    def page() -> Any:
        return "Hello" if "oauth_token" in session() else redirect("/")

    options = {"session.type": "file", "session.data_dir": str(folder / "beaker"), "session.auto": True}
    return SessionMiddleware(app, options)
