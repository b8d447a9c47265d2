"""Flask-Dance with a provider of one's own: ``OAuth2ConsumerBlueprint``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, jsonify, redirect, url_for
from flask_dance.consumer import OAuth2ConsumerBlueprint

from . import Settings

start = "/login/local"


def create(settings: Settings, folder: Path) -> Any:
    app = Flask(__name__)
    app.secret_key = "a secret key of the benchmark"
    local = OAuth2ConsumerBlueprint(
        "local",
        __name__,
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        base_url=settings.profile_url,
        token_url=settings.token_url,
        authorization_url=settings.authorization_url,
        redirect_to="profile",
        use_pkce=True,
        code_challenge_method="S256",
    )
    app.register_blueprint(local, url_prefix="/login")

    @app.route("/profile")
    def profile() -> Any:
        return jsonify(local.session.get(settings.profile_url).json())

    @app.route("/page")
    def page() -> Any:
        return "Hello" if local.session.authorized else redirect(url_for("local.login"))

    return app
