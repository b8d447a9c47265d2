"""``wsgi-oauth demo --walk``: sign in, and print every HTTP message of the sign-in with an explanation.

The demo contains a small browser, which signs in and prints its messages. No browser sees
the messages between the application and the provider (the back channel): these come from
:attr:`LocalProvider.exchanges <wsgi_oauth.demo.local_provider.LocalProvider.exchanges>`.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import stat
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import parse_qsl, urljoin, urlsplit

from .browser import Browser, HttpRequest, HttpResponse, NoAnswer, Page
from .explanations import AUTHORIZATION_REQUEST, AUTHORIZATION_RESPONSE, BACK_CHANNEL, DECISION, SIGNED_IN
from .local_provider import LocalProvider
from .masking import mask_json
from .printer import Printer

BROWSER, APPLICATION, PROVIDER = "browser", "application", "provider"


class WalkFailed(Exception):
    """The sign-in failed; the message names the step and the reason."""


def walk(application: str, provider: LocalProvider, sessions: Path, out: TextIO) -> None:
    """Sign in at *application* and print every message to *out*.

    :param application: the application's URL.
    :param provider: the provider that the application uses.
    :param sessions: the folder of the application's file store.
    :raises WalkFailed: when a step fails.
    """
    Walk(application, provider, sessions, Printer(out)).run()


class Walk:
    """A sign-in, with one method for each step of the requests-oauthlib tutorial."""

    def __init__(self, application: str, provider: LocalProvider, sessions: Path, printer: Printer) -> None:
        self._application = application
        self._provider = provider
        self._sessions = sessions
        self._printer = printer
        self._browser = Browser()
        self._exchanges_before = len(provider.exchanges)
        self._step = ""
        self._session_before = ""

    def run(self) -> None:
        """Do all steps in order. The profile is printed last."""
        self._print_introduction()
        authorization_url = self._user_authorization()
        callback_url = self._authorization_on_the_provider(authorization_url)
        profile_url = self._retrieving_an_access_token(authorization_url, callback_url)
        profile = self._fetching_a_protected_resource(profile_url)
        self._printer.paragraph(
            f"The sign-in is complete, after {self._printer.messages} messages. The application knows who the user "
            "is. It never saw a password, and the browser never saw a token. The profile:"
        )
        self._printer.json(profile)

    def _print_introduction(self) -> None:
        self._printer.paragraph(
            "A user lets an application read the user's profile at a provider, without giving the application a "
            "password. The participants:"
        )
        self._printer.definitions(
            {
                BROWSER: "the user's; this program plays both the user and the browser",
                APPLICATION: f"{self._application}: the client, wsgi_oauth under gunicorn",
                PROVIDER: f"{self._provider.url}: the authorization server, which knows the user and holds the profile",
            }
        )
        self._printer.paragraph(
            "Below is every HTTP message between them, in order, with the headers that matter: the authorization code "
            "flow of OAuth 2.0 (RFC 6749 4.1) with PKCE (RFC 7636). Secrets are masked: only their first four "
            "characters and their length are shown."
        )

    def _user_authorization(self) -> str:
        """Open the application and get redirected to the provider; return the authorization URL."""
        self._start_step(
            "Step 1: User Authorization",
            "An anonymous user opens the application. The application makes a random state and a random code verifier, "
            "stores both in a new session, and redirects the browser to the provider with a few key OAuth parameters. "
            "Application and provider have not contacted each other yet.",
        )
        request = self._browser.get(f"{self._application}/")
        self._printer.request(BROWSER, APPLICATION, request, {})
        response = self._send_to_application(request)
        self._printer.response(APPLICATION, BROWSER, response, AUTHORIZATION_REQUEST)
        authorization_url = self._check_redirect(request, response, self._provider.authorization_url)
        self._session_before = self._print_session("before the sign-in")
        return authorization_url

    def _authorization_on_the_provider(self, authorization_url: str) -> str:
        """Press Allow on the consent page and get redirected back; return the callback URL."""
        self._start_step(
            "Step 2: User authorization, this happens on the provider",
            "The application takes no part in this step. Anything that the user types here, such as a password, "
            "goes only to the provider.",
        )
        request = self._browser.get(authorization_url)
        self._printer.request(BROWSER, PROVIDER, request, {}, same_query=True)
        response = self._send(request)
        page = Page(response.body)
        self._printer.response(PROVIDER, BROWSER, response, {})
        if response.status != http.client.OK or page.action is None:
            raise self._failure(f"the provider shows no consent page: {response.summary()}")
        self._printer.paragraph(f'The consent page says "{page.heading}". The user presses Allow.')

        form = page.fields | {"decision": "allow"}
        request = self._browser.submit(urljoin(authorization_url, page.action), form)
        self._printer.request(BROWSER, PROVIDER, request, DECISION, same_query=True)
        response = self._send(request)
        self._printer.response(PROVIDER, BROWSER, response, AUTHORIZATION_RESPONSE)
        return self._check_redirect(request, response, f"{self._application}/callback")

    def _retrieving_an_access_token(self, authorization_url: str, callback_url: str) -> str:
        """Bring the authorization response to the application; return the URL of the profile page."""
        self._start_step(
            "Step 3: Retrieving an access token",
            "The browser brings the authorization code to the application. First the application validates the "
            "response: the state must be one that it stored in this session, recent and unused, and iss must name the "
            "provider that it had asked (RFC 9700 4.7, RFC 9207). Then it exchanges the code for a token directly at "
            "the provider. The browser waits meanwhile and does not see these messages.",
        )
        request = self._browser.get(callback_url)
        self._printer.request(BROWSER, APPLICATION, request, {}, same_query=True)
        response = self._send_to_application(request)
        self._printer.response(APPLICATION, BROWSER, response, SIGNED_IN)
        profile_url = self._check_redirect(request, response, f"{self._application}/")
        self._check_code_verifier(authorization_url)
        self._check_session()
        return profile_url

    def _fetching_a_protected_resource(self, profile_url: str) -> Any:
        """Open the profile page; return the profile."""
        self._start_step(
            "Fetching a protected resource using an OAuth 2 token",
            "The user is signed in. The application takes the access token from the session and fetches the profile "
            "with it. It can repeat this as long as the token is valid.",
        )
        request = self._browser.get(profile_url)
        self._printer.request(BROWSER, APPLICATION, request, {}, same_query=True)
        response = self._send_to_application(request)
        self._printer.response(APPLICATION, BROWSER, response, {})
        if response.status != http.client.OK or not isinstance(response.document, dict):
            raise self._failure(f"the application shows no profile: {response.summary()}")
        return response.document

    def _start_step(self, title: str, explanation: str) -> None:
        self._step = title
        self._printer.title(title)
        self._printer.paragraph(explanation)

    def _send_to_application(self, request: HttpRequest) -> HttpResponse:
        """Send *request*, and print the messages of the back channel that the application causes."""
        before = len(self._provider.exchanges)
        response = self._send(request)
        for exchange in self._provider.exchanges[before:]:
            of_request, of_response = BACK_CHANNEL.get(exchange.endpoint, ({}, {}))
            sent = HttpRequest(exchange.method, exchange.url, exchange.headers, exchange.body)
            received = HttpResponse(exchange.status, exchange.response_headers, exchange.response_body)
            self._printer.request(APPLICATION, PROVIDER, sent, of_request)
            self._printer.response(PROVIDER, APPLICATION, received, of_response)
        return response

    def _send(self, request: HttpRequest) -> HttpResponse:
        try:
            return self._browser.send(request)
        except NoAnswer as error:
            raise self._failure(str(error)) from error

    def _check_redirect(self, request: HttpRequest, response: HttpResponse, expected: str) -> str:
        """Return the redirect's target, which must begin with *expected*."""
        location = urljoin(request.url, response.location or "")
        if response.location is None or not location.startswith(expected):
            raise self._failure(f"expected a redirect to {expected} (got {response.summary()})")
        return location

    def _check_code_verifier(self, authorization_url: str) -> None:
        """Check that the code verifier in the token request matches the code challenge (RFC 7636 4.6)."""
        challenge = dict(parse_qsl(urlsplit(authorization_url).query)).get("code_challenge", "")
        tokens = [each for each in self._provider.exchanges[self._exchanges_before :] if each.endpoint == "token"]
        if len(tokens) != 1:
            raise self._failure(f"expected one token request (got {len(tokens)})")
        verifier = dict(parse_qsl(tokens[0].body)).get("code_verifier", "")
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        if digest.rstrip(b"=").decode() != challenge:
            raise self._failure("code_verifier does not match code_challenge (RFC 7636 4.6)")
        self._printer.check_passed("the SHA-256 hash of code_verifier is the code_challenge of step 1")

    def _print_session(self, when: str) -> str:
        """Print the session file that belongs to the browser's cookie; return its name."""
        cookie, *_ = self._browser.cookies(self._application) or [""]
        name = f"{hashlib.sha256(cookie.encode()).hexdigest()}.json"
        try:
            file = self._sessions / name
            content, mode = json.loads(file.read_bytes()), stat.S_IMODE(file.stat().st_mode)
        except (OSError, ValueError) as error:
            raise self._failure("the application has stored no session for the browser's cookie") from error
        self._printer.json_file(
            f"The session file of the application {when}, {name[:8]}….json, mode {mode:04o}:", mask_json(content)
        )
        return name

    def _check_session(self) -> None:
        """Check that the session id has changed at sign-in and that the old session has ended."""
        name = self._print_session("after the sign-in")
        if name == self._session_before:
            raise self._failure("the session id has not changed at sign-in (session fixation)")
        if (self._sessions / self._session_before).exists():
            raise self._failure("the session from before the sign-in still exists")
        self._printer.check_passed("the session id has changed, and the old session file is deleted")
        self._printer.check_passed(
            "the file name is the SHA-256 hash of the session id, so a listing of the folder reveals no session id"
        )

    def _failure(self, reason: str) -> WalkFailed:
        return WalkFailed(f"{self._step}: {reason}")
