"""Test applications that are protected by this package.

:func:`check_embedding` checks the integration of the sign-in with an application::

    def test_login_integration():
        with local_provider() as environ:
            check_embedding(make_app(create_app(Config.from_environ(environ))), prefix="/auth")

:func:`signed_in` signs a user in without a provider, for all other tests of the application::

    client.set_cookie(*signed_in(oauth_app))

Do not use this in production: anyone can sign in through the local provider.
"""

from .embedding import EmbeddingFault, check_embedding
from .provider import local_provider
from .sign_in import Cookie, signed_in

__all__ = ["Cookie", "EmbeddingFault", "check_embedding", "local_provider", "signed_in"]
