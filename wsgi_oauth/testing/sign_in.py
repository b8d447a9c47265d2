"""Sign a user in without a provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..demo.users import OCTOCAT
from ..gate.middleware import LoginRequired
from ..oauth.identity import Identity
from ..oauth.reauthentication import AUTHENTICATION, build_authentication
from ..oauth.recheck import build_identity_data
from ..sessions.cookie import CookieNames
from ..sessions.encoding import PROVIDER, TOKEN
from ..sessions.session import Session
from ..web.application import OAuthApp

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class Cookie(NamedTuple):
    """The session cookie of a signed-in user. ``str(cookie)`` is the value of a ``Cookie`` header."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


def signed_in(
    app: WSGIApplication, identity: Identity | None = None, *, token: Mapping[str, Any] | None = None
) -> Cookie:
    """Sign a user in without a provider, by storing a session in the store of *app*; return the session cookie.

    The session is valid for *app* and for every application that shares its store. With an https
    ``WSGI_OAUTH_PUBLIC_URL`` the cookie is a Secure cookie, so the test client has to use that URL.

    :param app: the ``LoginRequired`` gate, or the result of ``create_app`` or ``get_app``.
    :param identity: the user; Mona Lisa Octocat by default.
    :param token: the token response of the provider. ``oauth2_session(environ)`` sends its access token.
    :raises TypeError: when *app* is another object.
    :raises errors.StoreError: when the session cannot be stored.
    """
    oauth_app = app.oauth_app if isinstance(app, LoginRequired) else app
    if not isinstance(oauth_app, OAuthApp):
        raise TypeError("signed_in: app must be the LoginRequired gate, or the result of create_app or get_app")
    first, *others = oauth_app.oauth.registrations.values()
    user = identity or Identity(
        first.configured_provider.name,
        str(OCTOCAT["id"]),
        username=str(OCTOCAT["login"]),
        name=str(OCTOCAT["name"]),
        email=str(OCTOCAT["email"]),
    )
    session = Session(oauth_app.sessions)
    session[TOKEN] = dict(token or {"access_token": "test-token", "token_type": "Bearer"})
    session[PROVIDER] = next((each.key for each in others if each.configured_provider.name == user.provider), first.key)
    session.update(build_identity_data(user))
    session[AUTHENTICATION] = build_authentication(user.claims, {})
    oauth_app.sessions.save(session)
    assert session.id is not None
    names = CookieNames.of_site(oauth_app.site.public_url or "http://localhost", oauth_app.config.cookie_name)
    return Cookie(names.session, session.id)
