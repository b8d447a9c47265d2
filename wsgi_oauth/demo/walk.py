"""``wsgi-oauth demo --walk``: sign in, and print every HTTP message of the sign-in with an explanation.

The walk acts as a user with a small browser. The recorder has all messages in order, also those between application and
provider, which the browser cannot see.
"""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Mapping
from typing import TextIO
from urllib.parse import urljoin, urlsplit

import requests

from .browser import Browser, NoAnswer, Page, location_of, summarize
from .explanations import ID_TOKEN
from .local_provider import LocalProvider
from .messages import APPLICATION, Message, form_of, parse_object, query_of
from .printer import Printer
from .recorder import Recorder
from .signing import encode, read_claims

#: What to read and to try after the walk.
READING = {
    "wsgi-oauth demo": "sign in with your own browser. On the provider's port, /trace shows the messages and their "
    "source lines, and /lab carries out attacks, with the guards of this program and without them",
    "docs/tutorial.md": "ten small programs, from three handlers to a safe sign-in, each with the attack it stops",
    "wsgi_oauth/flow.py": "the code that has just run, on one page",
    "docs/glossary.md": "the terms, with one sentence each",
    "RFC 6749": "OAuth 2.0: section 4.1 describes steps 1 to 3, section 10 its threats",
    "RFC 7636": "PKCE",
    "RFC 9700": "the current rules for a safe OAuth 2.0, with the attacks behind them",
    "OpenID Connect Core": "the ID token: sections 2 and 3.1",
}


class WalkFailed(Exception):
    """The sign-in failed; the message names the step and the reason."""


def walk(application: str, provider: LocalProvider, recorder: Recorder, out: TextIO, *, reveal: bool = False) -> None:
    """Sign in at *application* and print every message to *out*.

    :param application: the application's URL.
    :param provider: the provider that the application uses.
    :param recorder: receives the messages of both.
    :param reveal: print secrets instead of masking them.
    :raises WalkFailed: when a step fails.
    """
    Walk(application, provider, recorder, Printer(out, reveal=reveal)).run(reveal=reveal)


class Walk:
    """A sign-in, with a method for each step of the requests-oauthlib tutorial and for each step after it."""

    def __init__(self, application: str, provider: LocalProvider, recorder: Recorder, printer: Printer) -> None:
        self._application = application
        self._provider = provider
        self._recorder = recorder
        self._printer = printer
        self._browser = Browser()
        self._seen = len(recorder.messages)
        self._messages: list[Message] = []
        self._step = ""

    def run(self, *, reveal: bool) -> None:
        """Run all steps in order, and print the profile at the end."""
        self._introduce(reveal=reveal)
        self._register()
        authorization_url = self._user_authorization()
        callback_url = self._authorization_on_the_provider(authorization_url)
        profile_url = self._retrieving_an_access_token(authorization_url, callback_url)
        self._fetching_a_protected_resource(profile_url)
        self._refresh(profile_url)
        profile = parse_object(self._last("profile"))
        self._sign_out()
        self._printer.title("What to read next")
        self._printer.definitions(READING)
        self._printer.paragraph(
            f"The walk is complete, after {self._printer.messages} messages. The application knew who you were. It "
            "never saw a password, and the browser never saw a token. The profile:"
        )
        self._printer.json(profile)

    def _introduce(self, *, reveal: bool) -> None:
        self._printer.paragraph(
            "You let an application read your profile at a provider, without giving the application your password. "
            "The parties, and their names in the standards:"
        )
        self._printer.definitions(
            {
                "user": "the resource owner: you. The profile is yours, and you decide which application may read it",
                "browser": "the user agent. This program plays you and your browser",
                "application": f"the client, or relying party: wsgi_oauth under gunicorn, at {self._application}",
                "provider": f"the authorization server, or OpenID provider, at {self._provider.url}: knows your "
                "password, and issues codes and tokens. It is also the resource server, which holds the profile",
            }
        )
        masking = (
            "Nothing is masked, because all secrets are good for this demo only."
            if reveal
            else "Secrets are masked: only their first four characters and their length are shown (--reveal shows all)."
        )
        self._printer.paragraph(
            "Below is every HTTP message between them, in order, with the headers that matter: the authorization code "
            f"flow of OAuth 2.0 (RFC 6749 4.1) with PKCE (RFC 7636). {masking} Each explanation is printed once."
        )

    def _register(self) -> None:
        self._start_step(
            "Before the first sign-in: registration",
            "Once, long before, the owner of the application registered it with the provider, usually on a web page "
            "for developers (RFC 6749 2). They entered the redirect URI, and received two values for the settings of "
            "the application. The demo brings this registration with it:",
        )
        self._printer.members(
            "",
            {
                "redirect_uri": f"{self._application}/callback",
                "client_id": self._provider.client_id,
                "client_secret": self._provider.client_secret or "",
            },
            {
                "redirect_uri": "the only address to which the provider sends browsers back. So an attacker cannot "
                "make it send them, and their codes, to another site (RFC 6749 3.1.2.2)",
                "client_id": "the public name of the application (RFC 6749 2.2)",
                "client_secret": "the password of the application. It stays on the server and in no browser, which "
                "makes the application a confidential client (RFC 6749 2.1)",
            },
        )

    def _user_authorization(self) -> str:
        """Open the application and get redirected to the provider; return the authorization URL."""
        self._start_step(
            "Step 1: User Authorization",
            "You open the application, which does not know you yet. It makes a random state and a random code "
            "verifier, and stores both in a new session: a file on the server, which it finds again by the session id "
            "in your browser's cookie. It then redirects the browser to the provider with a few key OAuth parameters: "
            "this is how it talks to the provider through the browser (the front channel).",
        )
        response = self._open(f"{self._application}/")
        authorization_url = self._check_redirect(response, self._provider.authorization_url)
        self._print_session("before the sign-in")
        return authorization_url

    def _authorization_on_the_provider(self, authorization_url: str) -> str:
        """Sign in at the provider, press Allow and get redirected back; return the callback URL."""
        self._start_step(
            "Step 2: User authorization, this happens on the provider",
            "The application takes no part in this step. Anything that you type here, such as a password, goes only "
            "to the provider.",
        )
        response = self._open(authorization_url)
        if self._provider.users:
            user = self._provider.users[0]
            page = self._read_page(response)
            self._printer.paragraph(
                f'The page says "{page.heading}". You choose {user.name}. This provider asks for no password. It '
                "remembers you with a cookie of its own, so it will not ask again at the next sign-in."
            )
            response = self._open(urljoin(response.url, page.action), page.fields | {"user": user.login})
            response = self._open(self._check_redirect(response, self._provider.authorization_url))
        page = self._read_page(response)
        self._printer.paragraph(f'The consent page says "{page.heading}". You press Allow.')
        response = self._open(urljoin(response.url, page.action), page.fields | {"decision": "allow"})
        callback_url = self._check_redirect(response, f"{self._application}/callback")
        self._printer.question(
            "Why a code, and not the token at once?",
            "This response travels through your browser, in a URL. URLs end up in the history and in logs, and "
            "extensions read them. So it contains only a code, which is useless alone: the provider exchanges it once, "
            "within a few minutes, only together with the client secret, and only together with the code verifier. The "
            "token then goes directly from the provider to the application. (There is a variant with the token in "
            "this URL, the implicit grant. RFC 9700 2.1.2 advises against it.)",
        )
        return callback_url

    def _read_page(self, response: requests.Response) -> Page:
        """Return the page with a form in a response of the provider."""
        page = Page(response.text)
        if response.status_code != http.client.OK or page.action is None:
            raise self._failure(f"the provider shows no page with a form: {summarize(response)}")
        return page

    def _retrieving_an_access_token(self, authorization_url: str, callback_url: str) -> str:
        """Bring the authorization response to the application; return the URL of the profile page."""
        self._start_step(
            "Step 3: Retrieving an access token",
            "The browser brings the authorization code to the application. First the application validates the "
            "response: the state must be one that it stored in this session, recent and unused, and iss must name the "
            "provider that it had asked (RFC 9700 4.7, RFC 9207). Then it exchanges the code for a token directly at "
            "the provider (the back channel). The browser waits meanwhile and does not see these messages.",
        )
        before = self._session_name()
        profile_url = self._check_redirect(self._open(callback_url), f"{self._application}/")
        self._check_code_verifier(authorization_url)
        self._print_session("after the sign-in")
        self._check_new_session(before)
        self._printer.question(
            "Why state and PKCE, if the application has a secret?",
            "The secret only proves which application exchanges the code. Two questions remain, and each random number "
            "answers one of them.",
        )
        self._printer.definitions(
            {
                "state": "Did this browser start this sign-in? The application checks it, before it sends the code "
                "anywhere. Without it, an attacker could send you a link with the attacker's own code. You would then "
                "be signed in as the attacker, without noticing, and save private data in the attacker's account "
                "(login CSRF).",
                "code verifier": "Was this code issued for this sign-in? The provider checks it (PKCE). Without it, an "
                "attacker who stole your code could put it into a sign-in of the attacker's own browser, where the "
                "state is correct. The application would exchange it with its secret, and sign the attacker in as you "
                "(code injection).",
            }
        )
        self._print_id_token()
        return profile_url

    def _print_id_token(self) -> None:
        """Print the content of the ID token, if the provider has issued one."""
        claims = read_claims((parse_object(self._last("token")) or {}).get("id_token"))
        if not claims:
            return
        self._printer.question(
            "Why an ID token, if there is an access token?",
            "The access token is a key for the provider's API. It opens the profile, but does not say who used it, or "
            "for which application it was issued: OAuth 2.0 alone is about access, not about identity. OpenID Connect "
            "adds the ID token, a signed statement for this application about the user. Its middle part, decoded:",
        )
        self._printer.members("", claims, ID_TOKEN)
        self._printer.paragraph(
            "The application checks the signature (or relies on the TLS connection on which the token came), iss, aud, "
            "exp and the nonce (OpenID Connect Core 3.1.3.7)."
        )

    def _fetching_a_protected_resource(self, profile_url: str) -> None:
        """Open the profile page."""
        self._start_step(
            "Fetching a protected resource using an OAuth 2 token",
            "You are signed in. The application takes the access token from the session and fetches the profile "
            "with it. It can repeat this as long as the token is valid.",
        )
        self._open_profile(profile_url)

    def _refresh(self, profile_url: str) -> None:
        """Let the access token expire, and open the profile page again."""
        self._start_step(
            "Refreshing the token",
            "Access tokens live for a short time, so a stolen one is soon useless. The provider now lets this one "
            "expire early, and you reload the page. The provider rejects the token. The application exchanges "
            "the refresh token for a new access token, and asks again. You notice nothing.",
        )
        self._provider.expire_access_tokens()
        self._open_profile(profile_url)
        old, new = ((parse_object(each) or {}).get("refresh_token") for each in self._responses("token"))
        if old != new:
            self._printer.check_passed(
                "the refresh token has changed, too, so a second use of the old one reveals a theft (RFC 9700 4.14.2)"
            )

    def _sign_out(self) -> None:
        """Press the button on the sign-out page."""
        self._start_step(
            "Signing out",
            "You press a button to sign out. The application deletes the session, so every copy of the cookie is "
            "worthless, and tells the provider to revoke the tokens. You are still signed in at the provider, because "
            "other applications use it, too.",
        )
        name = self._session_name()
        response = self._open(f"{self._application}/logout", form={})
        page = self._open(self._check_redirect(response, f"{self._application}/"))
        if page.status_code != http.client.OK:
            raise self._failure(f"the application shows no page after the sign-out: {summarize(page)}")
        if any(message.session_after.get(name) for message in self._messages[-2:]):
            raise self._failure("the session still exists")
        self._printer.check_passed("the session file is deleted")

    def _open_profile(self, profile_url: str) -> None:
        response = self._open(profile_url)
        if response.status_code != http.client.OK:
            raise self._failure(f"the application shows no profile: {summarize(response)}")

    def _start_step(self, title: str, explanation: str) -> None:
        self._step = title
        self._printer.title(title)
        self._printer.paragraph(explanation)

    def _open(self, url: str, form: Mapping[str, str] | None = None) -> requests.Response:
        """Open *url*, or submit *form* to it, and print all messages that this causes, including the response."""
        try:
            return self._browser.get(url) if form is None else self._browser.submit(url, form)
        except NoAnswer as error:
            raise self._failure(str(error)) from error
        finally:
            new = self._recorder.messages[self._seen + len(self._messages) :]
            for message in new:
                self._printer.message(message)
            self._messages += new

    def _responses(self, endpoint: str) -> list[Message]:
        """Return the successful responses of an endpoint of the provider."""
        return [each for each in self._messages if each.endpoint == endpoint and each.status == http.client.OK]

    def _last(self, endpoint: str) -> Message:
        """Return the last successful response of an endpoint of the provider."""
        try:
            return self._responses(endpoint)[-1]
        except IndexError:
            raise self._failure(f"the application has not used the provider's {endpoint} endpoint") from None

    def _check_redirect(self, response: requests.Response, expected: str) -> str:
        """Return the redirect's target, which must begin with *expected*."""
        location = urljoin(response.url, location_of(response))
        if not response.is_redirect or not location.startswith(expected):
            raise self._failure(f"expected a redirect to {expected} (got {summarize(response)})")
        return location

    def _check_code_verifier(self, authorization_url: str) -> None:
        """Check that the code verifier in the token request matches the code challenge (RFC 7636 4.6)."""
        challenge = query_of(authorization_url).get("code_challenge", "")
        requests = [each for each in self._messages if each.endpoint == "token" and each.is_request]
        if len(requests) != 1:
            raise self._failure(f"expected one token request (got {len(requests)})")
        verifier = form_of(requests[0]).get("code_verifier", "")
        if encode(hashlib.sha256(verifier.encode()).digest()) != challenge:
            raise self._failure("code_verifier does not match code_challenge (RFC 7636 4.6)")
        self._printer.check_passed("the SHA-256 hash of code_verifier is the code_challenge of step 1")

    def _session_name(self) -> str:
        """Return the name of the session file of the browser's cookie."""
        cookie, *_ = self._browser.cookies[urlsplit(self._application).netloc].values() or [""]
        return f"{hashlib.sha256(cookie.encode()).hexdigest()}.json"

    def _print_session(self, when: str) -> None:
        """Print the session file after the last response of the application."""
        name = self._session_name()
        session = [each for each in self._messages if each.sender == APPLICATION][-1].session_after.get(name)
        if session is None:
            raise self._failure("the application has stored no session for the browser's cookie")
        self._printer.json_file(f"The session file of the application {when}, {name[:8]}….json:", session["data"])

    def _check_new_session(self, before: str) -> None:
        """Check that the session id has changed at sign-in and that the old session has ended."""
        after = self._messages[-1].session_after
        if self._session_name() == before:
            raise self._failure("the session id has not changed at sign-in (session fixation)")
        if after.get(before):
            raise self._failure("the session from before the sign-in still exists")
        self._printer.check_passed("the session id has changed, and the old session file is deleted")
        self._printer.check_passed(
            "the file name is the SHA-256 hash of the session id, so a listing of the folder reveals no session id"
        )

    def _failure(self, reason: str) -> WalkFailed:
        return WalkFailed(f"{self._step}: {reason}")
