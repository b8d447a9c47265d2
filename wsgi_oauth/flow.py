"""The OAuth 2 web application flow, on one page.

This is the "Web App Example of OAuth 2 web application flow" of the requests-oauthlib documentation, with its
names and in its order. What makes it safe is behind the calls: ``login`` remembers a sign-in and checks what
comes back, ``client`` speaks to the provider.
"""

from __future__ import annotations

from werkzeug import Response
from werkzeug.exceptions import NotFound

from . import errors, sign_in
from .urls import local_path
from .web import pages
from .web.handler import Request
from .web.steps import Step


class PreAuthorization(Step):
    """Step 1: User Authorization.

    Redirect the user/resource owner to the OAuth provider (for example GitHub) using a URL with a few key
    OAuth parameters.
    """

    route = "/"
    open_to_everyone = True
    get_has_consequences = True  # so a HEAD or a prefetch does not start a sign-in

    def get(self, request: Request) -> Response:
        if not self.choose_provider(request.args.get("provider", "")):  # there are several, and the user has not said
            return pages.choice(request, self.sign_in_urls())
        start = sign_in.begin(
            redirect_uri=self.callback_url(),
            next_url=local_path(request.args.get("next")) or self.url_for(".profile"),
            provider=self.registration.label,
            again="again" in request.args,  # the provider has refused the last token: do not go round in circles
        )
        # client_id and client_secret come from the configuration.
        github = self.oauth2_session(redirect_uri=start.redirect_uri)
        authorization_url, state = github.authorization_url(
            self.provider.authorization_url,
            state=start.state,
            # PKCE, whose verifier stays in the session; `switch` is for those who want to be somebody else.
            **start.parameters(self.provider, choose_account="switch" in request.args),
        )
        # State is used to prevent CSRF, keep this for later: request.session["oauth_state"][state].
        sign_in.remember(request.session, state, start)
        return self.redirect(authorization_url)


# Step 2: User authorization, this happens on the provider.


class PostAuthorization(Step):
    """Step 3: Retrieving an access token.

    The user has been redirected back from the provider to your registered callback URL. With this redirection
    comes an authorization code included in the redirect URL. We will use that to obtain an access token.
    """

    route = "/callback"
    endpoint = "callback"
    open_to_everyone = True
    get_has_consequences = True
    needs_provider = True  # so a state and a code are not used up when the provider cannot be asked now

    def get(self, request: Request, provider: str = "") -> Response:
        if not self.choose_provider(provider):
            raise NotFound
        response = sign_in.AuthorizationResponse.parse(request.query_string)
        # The state must be one that this browser was given. From here on it is used up, whatever happens; a second
        # copy of this callback waits for what becomes of the first.
        start = sign_in.claim(request.session, response, timeout=self.timeout)
        if start.finished:  # a double click, the back button, a reload: the first copy has done the work
            return self.redirect(start.next_url, 303)
        with sign_in.completing(request, start):
            sign_in.check(response, start, self.registration)
            github = self.oauth2_session(redirect_uri=start.redirect_uri)
            # The code is that of request.url, the tutorial's authorization_response, which was read and checked above.
            token = github.fetch_token(
                self.provider.token_url, code=response.code, code_verifier=start.code_verifier, nonce=start.nonce
            )
            self.admit(github)  # who may not enter is not signed in

        # At this point you can fetch protected resources, but let's save the token and show how this is done
        # from a persisted token in /profile.
        request.session["oauth_token"] = token
        request.session["oauth_provider"] = self.registration.key  # nobody else is ever sent the token
        request.session.renew()  # a new id: one that was planted before the sign-in is worth nothing now
        return self.redirect(start.next_url, 303)


class UsingTheOAuthToken(Step):
    """Fetching a protected resource using an OAuth 2 token."""

    route = "/profile"
    endpoint = "profile"

    def get(self, request: Request) -> Response:
        # Without a token in the session this raises NotSignedIn, which sends a person to sign in and back here.
        github = self.oauth2_session(token=request.session["oauth_token"])
        profile_data = github.get_user_document()
        self.remember_identity(github, profile_data)
        return self.jsonify(profile_data)


class Logout(Step):
    """Not in the tutorial: forget the token and the session. Only a POST of this site's own pages may ask for that."""

    route = "/logout"
    open_to_everyone = True

    def post(self, request: Request) -> Response:
        if not request.is_same_origin:
            raise errors.CrossSite("a sign-out that another site asked for")
        last = request.session.load_latest()  # another request may just have refreshed the token
        request.session.end()  # first of all: whatever the provider says, the user is signed out here
        if leave := self.sign_out_of_provider(last):
            return self.redirect(leave, 303)
        return pages.signed_out(request, login_url=self.url_for(".preauthorization", external=True))


class PostAuthorizationOfSeveral(PostAuthorization):
    """With several providers each has a redirect URI of its own (RFC 9700 4.4.2)."""

    route = "/callback/<provider>"


HANDLERS = (PreAuthorization, PostAuthorization, UsingTheOAuthToken, Logout)
HANDLERS_FOR_SEVERAL = (PreAuthorization, PostAuthorizationOfSeveral, UsingTheOAuthToken, Logout)
