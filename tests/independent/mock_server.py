"""oidc-provider-mock: no rotation, no revocation, and every client id is accepted."""

from __future__ import annotations

import os
from datetime import timedelta

from oidc_provider_mock import User, app
from serving import serve

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # allows plain http


def application(issuer: str) -> object:
    octocat = User(sub="octocat", claims={"name": "Mona Lisa Octocat", "email": "octocat@example.com"})
    return app(require_nonce=True, access_token_max_age=timedelta(seconds=120), user_claims=[octocat])


if __name__ == "__main__":
    serve(application)
