"""The OAuth 2 web application flow, on one page.

This is the "Web App Example of OAuth 2 web application flow" of the requests-oauthlib documentation, with its names
and in its order. Its client id, client secret and URLs come from the configuration. The code behind the calls makes it
safe: ``sign_in.py`` creates and checks the state, ``oauth/client.py`` sends the requests to the provider. An *attempt*
is one sign-in under way: its state, its PKCE code verifier, and the page to which the user returns.
"""

from __future__ import annotations

from werkzeug import Response

from .web.profile import ProfileHandler
from .web.request import Request
from .web.sign_in_handler import SignInHandler


class PreAuthorization(SignInHandler):
    """Step 1: User Authorization.

    Redirect the user/resource owner to the OAuth provider (for example GitHub) using a URL with a few key OAuth
    parameters.
    """

    route = "/"

    def get(self, request: Request) -> Response:
        attempt = self.new_attempt()
        github = self.oauth2_session()
        authorization_url, state = github.authorization_url(self.authorization_base_url, **attempt.parameters)
        # State is used to prevent CSRF, keep this for later: in session["oauth_state"].
        attempt.save(request.pending_session(state), state)
        return self.redirect(authorization_url)


# Step 2: User authorization, this happens on the provider.


class PostAuthorization(SignInHandler):
    """Step 3: Retrieving an access token.

    The user has been redirected back from the provider to your registered callback URL. With this redirection comes an
    authorization code included in the redirect URL. We will use that to obtain an access token.
    """

    route = "/callback"
    endpoint = "callback"

    def get(self, request: Request) -> Response:
        # The state in request.url must be stored in a session of this browser. A state can be used once.
        with self.consumed_attempt() as attempt:
            github = self.oauth2_session()
            token = github.fetch_token(self.token_url, **attempt.parameters)
            self.check_access(github)

        # At this point you can fetch protected resources, but let's save the token and show how this is done from a
        # persisted token in /profile.
        request.session["oauth_token"] = token
        return self.redirect(attempt.next_url, 303)


class UsingTheOAuthToken(ProfileHandler):
    """Fetching a protected resource using an OAuth 2 token."""

    route = "/profile"
    endpoint = "profile"

    def get(self, request: Request) -> Response:
        # Without a token in the session, the user is sent to sign in first and returns here.
        github = self.oauth2_session(token=request.session["oauth_token"])
        document = self.fetch_user_document(github)
        return self.show_page(document) if request.wants_page else self.jsonify(document)
