"""Step 6: the session id changes when the user signs in."""

import json
import os
import re
import secrets
import tempfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

from framework import Application, RequestHandler, serve
from requests_oauthlib import OAuth2Session
from werkzeug.exceptions import abort

# This information is obtained upon registration of the application with the provider.
client_id = "demo-client"
client_secret = "demo-secret"
authorization_base_url = "http://127.0.0.1:8001/authorize"
token_url = "http://127.0.0.1:8001/token"
profile_url = "http://127.0.0.1:8001/user"


class Session(dict):
    """The data of one browser. The id is empty until the session is stored."""

    id = old_id = ""

    def renew(self):
        """Replace the id when the session is saved, and delete the file of the old one."""
        self.id, self.old_id = "", self.id


class FileSessions:
    """Keeps each session in a file, which is named after the hash of the session id."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def load(self, request):
        """Return the session of the browser. For an unknown id, return a new session, which gets another id."""
        session, session_id = Session(), request.cookies.get("session", "")
        if self.file(session_id).exists():
            session.update(json.loads(self.file(session_id).read_text()))
            session.id = session_id
        return session

    def save(self, session, response):
        if session.old_id:
            self.file(session.old_id).unlink(missing_ok=True)
        if not session:
            return
        session.id = session.id or secrets.token_urlsafe(32)
        # Write a new file, which only its owner can read, and rename it: a crash leaves no half file.
        descriptor, new = tempfile.mkstemp(dir=self.folder)
        with open(descriptor, "w") as file:
            json.dump(session, file)
        os.replace(new, self.file(session.id))
        response.set_cookie("session", session.id, httponly=True, samesite="Lax")

    def file(self, session_id):
        return self.folder / f"{sha256(session_id.encode()).hexdigest()}.json"


def is_local(url):
    """Return whether *url* is a path of this application. Browsers read //host and /\\host as another host."""
    return re.fullmatch(r"/(?![/\\])[!-~]*", url) is not None


class PreAuthorization(RequestHandler):
    route = "/"

    def get(self, request):
        """Step 1: User Authorization.

        Redirect the user/resource owner to the OAuth provider using a URL with a few key OAuth parameters.
        """
        github = OAuth2Session(client_id)
        # The provider receives a hash now, later the verifier with the code, and compares them (RFC 7636).
        code_verifier = secrets.token_urlsafe(32)
        code_challenge = urlsafe_b64encode(sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
        authorization_url, state = github.authorization_url(
            authorization_base_url, code_challenge=code_challenge, code_challenge_method="S256"
        )

        # State is used to prevent CSRF, keep this for later. Each sign-in has a record of its own, with the page to
        # which the user returns, because several tabs can sign in at the same time.
        next_url = request.args.get("next", "")
        next_url = next_url if is_local(next_url) else self.url_for(".profile")
        attempt = {"next": next_url, "code_verifier": code_verifier}
        request.session.setdefault("oauth_state", {})[state] = attempt
        return self.redirect(authorization_url)


# Step 2: User authorization, this happens on the provider.


class PostAuthorization(RequestHandler):
    route = "/callback"

    def get(self, request):
        """Step 3: Retrieving an access token.

        The user has been redirected back from the provider to your registered callback URL. With this redirection
        comes an authorization code included in the redirect URL. We will use that to obtain an access token.
        """
        # The state must be stored in the session of this browser. It is removed, so it can be used once.
        state = request.args.get("state", "")
        attempt = request.session.get("oauth_state", {}).pop(state, None)
        if attempt is None:
            abort(400, "The state belongs to no sign-in of this browser.")

        github = OAuth2Session(client_id, state=state)
        token = github.fetch_token(
            token_url,
            client_secret=client_secret,
            authorization_response=request.url,
            code_verifier=attempt["code_verifier"],
        )

        # At this point you can fetch protected resources, but let's save the token and show how this is done from a
        # persisted token in /profile.
        request.session.renew()
        request.session["oauth_token"] = token
        return self.redirect(attempt["next"])


class UsingTheOAuthToken(RequestHandler):
    route = "/profile"

    def get(self, request):
        """Fetching a protected resource using an OAuth 2 token."""
        if "oauth_token" not in request.session:
            return self.redirect(f"/?next={request.path}")

        github = OAuth2Session(client_id, token=request.session["oauth_token"])
        return self.jsonify(github.get(profile_url).json())


sessions = FileSessions(tempfile.mkdtemp())
app = Application([PreAuthorization, PostAuthorization, UsingTheOAuthToken], sessions)

if __name__ == "__main__":
    serve(app)
