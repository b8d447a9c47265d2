"""Authlib's client for Flask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from authlib.integrations.flask_client import OAuth
from flask import Flask, jsonify, redirect, session, url_for

from . import Settings

start = "/login"


def create(settings: Settings, folder: Path) -> Any:
    app = Flask(__name__)
    app.secret_key = "a secret key of the benchmark"
    oauth = OAuth(app)
    oauth.register(
        "local",
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        access_token_url=settings.token_url,
        authorize_url=settings.authorization_url,
        client_kwargs={"scope": "profile email", "code_challenge_method": "S256"},
    )

    @app.route("/login")
    def login() -> Any:
        return oauth.local.authorize_redirect(url_for("authorize", _external=True))

    @app.route("/callback")
    def authorize() -> Any:
        session["token"] = oauth.local.authorize_access_token()
        return redirect(url_for("profile"))

    @app.route("/profile")
    def profile() -> Any:
        return jsonify(oauth.local.get(settings.profile_url, token=session["token"]).json())

    @app.route("/page")
    def page() -> Any:
        return "Hello" if "token" in session else redirect(url_for("login"))

    return app
