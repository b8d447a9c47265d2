"""An OpenID Connect provider whose discovery document and ID tokens a test can change."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from conftest import Browser
from werkzeug import Request, Response

from wsgi_oauth import Config, MemoryStore, create_app
from wsgi_oauth.demo.local_provider import OCTOCAT, LocalProvider, json_response
from wsgi_oauth.demo.signing import public_keys, sign_jwt

HOUR = 3600


class Issuer(LocalProvider):
    """The local provider with OpenID Connect: a discovery document and ID tokens."""

    def __init__(self, *, scope: str = "openid profile email offline_access", **options: Any) -> None:
        super().__init__(scope=scope, user={**OCTOCAT, "sub": "mona"}, **options)
        self.metadata: dict[str, Any] = {}  # changes to the discovery document; None removes a member
        self.claims: dict[str, Any] = {}  # changes to the claims of ID tokens; None removes a claim
        self.sign: Callable[[dict[str, Any]], str | None] = sign_jwt  # returns the ID token; None omits it
        self.discover = self.discovery_document
        self.publish_keys: Callable[[], Response] = lambda: json_response(public_keys())
        self.routes["/keys"] = ("keys", {"GET": lambda request: self.publish_keys()})
        self.routes["/.well-known/openid-configuration"] = ("discovery", {"GET": lambda request: self.discover()})

    def discovery_document(self) -> Response:
        """Return the unchanged discovery document, apart from self.metadata (OpenID Connect Discovery 3)."""
        document = {
            "issuer": self.url,
            "authorization_endpoint": self.authorization_url,
            "token_endpoint": self.token_url,
            "userinfo_endpoint": self.profile_url,
            "revocation_endpoint": self.revocation_url,
            "end_session_endpoint": f"{self.url}/end",
            "scopes_supported": ["openid", "profile", "email"],
            "authorization_response_iss_parameter_supported": True,
            "jwks_uri": f"{self.url}/keys",
        }
        return Response(json.dumps(_with_changes(document, self.metadata)), mimetype="application/json")

    def token(self, request: Request) -> Response:
        response = super().token(request)
        answer = response.get_json(silent=True) or {}
        if "openid" not in answer.get("scope", "").split():
            return response
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": self.user["sub"],
            "aud": self.client_id,
            "exp": now + HOUR,
            "iat": now,
            "nonce": self.find_nonce(request),
        }
        id_token = self.sign(_with_changes(claims, self.claims))
        return Response(json.dumps(_with_changes(answer, {"id_token": id_token})), mimetype="application/json")

    def signs_user_document(self, content_type: str = "application/jwt", **claims: Any) -> None:
        """Answer requests for the user document with a signed JSON Web Token (OpenID Connect Core 5.3.2)."""

        def answer(request: Request) -> Response:
            return Response(self.sign({**self.user, **claims}), content_type=content_type)

        self.routes["/user"] = ("profile", {"GET": answer})


def _with_changes(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**document, **changes}.items() if value is not None}


def config_for(issuer: LocalProvider, **settings: str) -> Config:
    """Return the configuration of the client at *issuer*: ``config_for(issuer, ALLOW="group:staff")``."""
    variables = {
        "PROVIDER": issuer.url,
        "CLIENT_ID": issuer.client_id,
        **({"CLIENT_SECRET": issuer.client_secret} if issuer.client_secret else {"CLIENT_AUTH": "none"}),
        **settings,
    }
    return Config.from_environ({f"WSGI_OAUTH_{name}": value for name, value in variables.items()})


def admits(issuer: Issuer, rule: str, **settings: str) -> bool:
    """Return whether the access rule admits the user of *issuer*, after one sign-in."""
    browser = Browser(create_app(config_for(issuer, ALLOW=rule, **settings), store=MemoryStore()), issuer)
    return browser.get(browser.callback_url()).status_int == 303
