"""requests-oauthlib in Flask, as in its documentation: "Web App Example of OAuth 2 web application flow"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, jsonify, redirect, request, session, url_for
from requests_oauthlib import OAuth2Session

from . import SITE, Settings, create_code_verifier

start = "/"


def create(settings: Settings, folder: Path) -> Any:
    app = Flask(__name__)
    app.secret_key = "a secret key of the benchmark"
    redirect_uri = f"{SITE}/callback"

    @app.route("/")
    def demo() -> Any:
        github = OAuth2Session(settings.client_id, redirect_uri=redirect_uri)
        session["code_verifier"], challenge = create_code_verifier()
        authorization_url, state = github.authorization_url(
            settings.authorization_url, code_challenge=challenge, code_challenge_method="S256"
        )
        session["oauth_state"] = state
        return redirect(authorization_url)

    @app.route("/callback", methods=["GET"])
    def callback() -> Any:
        github = OAuth2Session(settings.client_id, state=session["oauth_state"], redirect_uri=redirect_uri)
        session["oauth_token"] = github.fetch_token(
            settings.token_url,
            client_secret=settings.client_secret,
            authorization_response=request.url,
            code_verifier=session["code_verifier"],
        )
        return redirect(url_for(".profile"))

    @app.route("/profile", methods=["GET"])
    def profile() -> Any:
        github = OAuth2Session(settings.client_id, token=session["oauth_token"])
        return jsonify(github.get(settings.profile_url).json())

    @app.route("/page")
    def page() -> Any:
        return "Hello" if "oauth_token" in session else redirect(url_for(".demo"))

    return app
