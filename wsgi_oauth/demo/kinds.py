"""Explain each kind of message in plain words: its purpose, and what it protects.

:func:`find_kind` recognizes a message by its parties, its endpoint and its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

from . import explanations
from .explanations import Explanations
from .messages import APPLICATION, PROVIDER, Message, form_of, query_of


class Kind(NamedTuple):
    """A kind of message.

    ``purpose`` is one sentence that stands beside the message, ``reason`` a paragraph in it.
    """

    name: str
    purpose: str
    reason: str = ""
    fields: Explanations = MappingProxyType({})
    """The explanations of its parameters, JSON members and headers that have a special meaning in it."""
    section: str = ""
    """The section of the standard that defines it."""

    def tell(self, user: str) -> str:
        """Return the purpose, about *user* instead of "you"."""
        sentence = self.purpose
        for second, third in _THIRD_PERSON:
            sentence = sentence.replace(second, third.format(user))
        return sentence


_THIRD_PERSON = (
    ("who you are", "who {} is"),
    ("deleted your session", "deleted the session"),
    ("You open", "{} opens"),
    ("You press", "{} presses"),
    ("You tell", "{} tells"),
    ("You decide", "{} decides"),
    ("whether you want", "whether {} wants"),
    ("that you have", "that {} has"),
    ("Your browser", "The browser of {}"),
    ("your browser", "the browser of {}"),
    ("session of yours", "session of {}"),
    ("you wanted", "{} wanted"),
    ("without you", "without {}"),
    ("send you", "send {}"),
    ("that you agreed", "that {} agreed"),
)

_KINDS = [
    # -- browser and application
    Kind(
        "Start",
        "You open the application.",
        "This page starts a sign-in, also in a browser that is signed in already. The application needs to learn who "
        "you are, but it has no password for you and wants none.",
    ),
    Kind(
        "Authorization request, first half",
        "The application sends your browser to the provider, with its request as parameters of the URL.",
        "The application cannot ask the provider who you are: the provider must ask you first. Therefore it sends the "
        "browser there. The parameters say who asks (client_id), for what (scope), and where to send you back "
        "(redirect_uri). Before that, the application made two random numbers and stored them in a session file: the "
        "state, with which it recognizes the answer, and the code verifier, whose hash goes along as code_challenge.",
        explanations.AUTHORIZATION_REQUEST,
        section="RFC 6749 4.1.1",
    ),
    Kind(
        "Page request",
        "Your browser opens a page of the application.",
        "If the browser has the cookie of a session, the application finds the session file with it, and in the file "
        "who you are.",
    ),
    Kind(
        "Sign-in required",
        "The application has no session of yours, so it starts a sign-in and notes which page you wanted.",
        "The page is in the parameter next. The application accepts only pages of its own site there: otherwise a "
        "link could send you to a page of an attacker right after you have signed in (open redirect).",
        explanations.APPLICATION_PARAMETERS,
    ),
    Kind(
        "Authorization response, second half",
        "Your browser brings the code to the application.",
        "The browser only carries the message. Anyone could make a browser open such a URL, so the application first "
        "checks the state: it must be one that this browser has started with, and unused. That stops an attacker who "
        "wants to sign you in to the attacker's account (login CSRF). Then it checks iss: the answer must come from "
        "the provider that it had asked. Otherwise a dishonest provider could get the code of an honest one (mix-up).",
        explanations.AUTHORIZATION_RESPONSE,
        section="RFC 6749 4.1.2",
    ),
    Kind(
        "Signed in",
        "The application knows who you are. It gives your browser a new session and sends it to the page you wanted.",
        "The tokens stay in the session file on the server; the browser gets only a random session id. It is a new "
        "one: if somebody had planted the old id in your browser before, it is worthless now (session fixation). The "
        "redirect leads to a URL without the code, so the code is in no bookmark and in no Referer.",
        explanations.SIGNED_IN,
    ),
    Kind(
        "Refused",
        "The application refuses the answer, and the sign-in fails.",
        "One of its checks failed, or the provider refused. Nothing is stored except that this state is used up. The "
        "source lines below are the check, and the step of the sign-in that called it.",
    ),
    Kind(
        "Page",
        "The application shows the page.",
        "No token and no code is in this response: the browser never needs them.",
        explanations.USER_DOCUMENT,
    ),
    Kind(
        "Error page",
        "The application names the problem and the remedy.",
        "The page has the reason and the remedy for you. The log has the cause for the operator.",
    ),
    Kind("Redirect", "The application sends your browser to another page."),
    Kind(
        "Sign-out",
        "You press Sign out.",
        "It is a form and not a link: otherwise a link on any other site could sign you out. The application checks "
        "that its own page sent the form.",
        explanations.SIGN_OUT_REQUEST,
    ),
    Kind(
        "Signed out",
        "The application has deleted your session and the cookie.",
        "The session file is gone, so an old copy of the cookie opens nothing. You may still be signed in at the "
        "provider: that is another server with a session of its own.",
        {**explanations.END_SESSION_REQUEST, **explanations.SIGNED_OUT},
    ),
    Kind("Signed-out page", "The application confirms the sign-out, and starts no new sign-in."),
    # -- browser and provider
    Kind(
        "Authorization request, second half",
        "Your browser carries the request to the provider.",
        "Now the browser shows a page of the provider. If you have to type a password, only the provider sees it. The "
        "provider looks up client_id and refuses a redirect_uri that is not registered for it: otherwise an attacker "
        "could have the code sent to another server.",
        explanations.AUTHORIZATION_REQUEST,
        section="RFC 6749 4.1.1",
    ),
    Kind(
        "Consent page",
        "The provider asks whether you want to sign in to this application, and which data it may see.",
        "The provider knows who you are and shows what the application asked for. Nothing has happened so far that "
        "cannot be undone: the application knows nothing of you.",
    ),
    Kind(
        "Provider's sign-in page",
        "The provider does not know this browser yet, and asks who you are.",
        "A real provider asks for a password here, or for a passkey. Only the provider sees it. The application has no "
        "part in this, so it can never lose your password.",
    ),
    Kind("Sign-in at the provider", "You tell the provider who you are.", fields=explanations.DECISION),
    Kind(
        "Signed in at the provider",
        "The provider gives your browser a session of its own, and repeats the request.",
        "This session belongs to the provider. The next application that sends you here finds you signed in already "
        "(single sign-on).",
    ),
    Kind("Decision", "You decide.", "The decision goes to the provider only.", explanations.DECISION),
    Kind(
        "Authorization response, first half",
        "The provider sends your browser back to the application, with a code.",
        "Why a code and not the token itself? This message goes through the browser, in a URL, and URLs are kept in "
        "the history and in log files. A token in it could be used by everybody who finds it. A code alone is "
        "worthless: it is good once, for a few minutes, and only for the application that proves two things: that it "
        "is this application (client secret), and that it began this very sign-in (code verifier).",
        explanations.AUTHORIZATION_RESPONSE,
        section="RFC 6749 4.1.2",
    ),
    Kind(
        "Authorization error",
        "The provider sends your browser back without a code, and says why.",
        "The state comes back here, too, so that the application knows which sign-in has ended.",
        explanations.AUTHORIZATION_RESPONSE,
        section="RFC 6749 4.1.2.1",
    ),
    Kind(
        "Sign-out at the provider",
        "Your browser tells the provider that you have signed out.",
        fields=explanations.END_SESSION_REQUEST,
        section="OpenID Connect RP-Initiated Logout 2",
    ),
    Kind("Provider's page", "A page of the provider."),
    Kind(
        "Provider's error page",
        "The provider refuses the request and does not send you back.",
        "When client_id or redirect_uri is wrong, the provider must not redirect: the address could be an attacker's "
        "(RFC 6749 4.1.2.1).",
    ),
    # -- application and provider
    Kind(
        "Token request",
        "The application exchanges the code for a token, directly at the provider.",
        "The browser takes no part in this message. The application proves who it is with its client secret. And it "
        "sends the code verifier: the provider hashes it and compares the hash with the code_challenge from the "
        "beginning. State and PKCE protect different things. The state lets the application recognize an answer that "
        "this browser did not ask for. PKCE lets the provider recognize a code that was stolen and is presented in "
        "another sign-in, even if the thief puts it into this very application (code injection).",
        explanations.TOKEN_REQUEST,
        section="RFC 6749 4.1.3",
    ),
    Kind(
        "Token response",
        "The provider gives the application an access token.",
        "This response goes from server to server, so no browser, history or log of yours contains the token. The "
        "application stores it in the session file before it answers the browser.",
        explanations.TOKEN_RESPONSE,
        section="RFC 6749 4.1.4",
    ),
    Kind(
        "Refresh request",
        "The access token is no longer accepted, so the application gets a new one without you.",
        "Access tokens are short-lived, so that a stolen one is soon worthless. The refresh token lives longer, but "
        "only this application can use it, because it needs the client secret.",
        explanations.REFRESH_REQUEST,
        section="RFC 6749 6",
    ),
    Kind(
        "Refresh response",
        "The provider gives the application a new access token.",
        "Often the refresh token is a new one, too (rotation). If somebody uses the old one later, the provider knows "
        "that one of the two is a thief.",
        explanations.TOKEN_RESPONSE,
        section="RFC 6749 6",
    ),
    Kind(
        "User document request",
        "The application asks the provider who you are, and shows the token.",
        "The token travels in a header and never in a URL. The provider looks it up and sees whose data it may give, "
        "and which.",
        explanations.PROFILE_REQUEST,
        section="OpenID Connect Core 5.3.1",
    ),
    Kind(
        "User document",
        "The provider answers with the data that you agreed to share.",
        "The number that identifies you never changes, in contrast to your name and your address. The application "
        "therefore recognizes you by it.",
        explanations.USER_DOCUMENT,
        section="OpenID Connect Core 5.3.2",
    ),
    Kind(
        "Revocation request",
        "The application asks the provider to end the token.",
        "The sign-out succeeds even if the provider does not answer.",
        explanations.REVOCATION_REQUEST,
        section="RFC 7009 2.1",
    ),
    Kind(
        "Revocation response",
        "The provider confirms that the token is worthless.",
        section="RFC 7009 2.2",
    ),
    Kind(
        "Discovery request",
        "The application asks the provider for its addresses.",
        "This happens once, before the first sign-in. OpenID Connect is an addition to OAuth that tells the "
        "application who the user is; OAuth alone gives it access to data. A part of it is Discovery: the provider "
        "publishes its addresses at a fixed path, so only its own address has to be configured.",
        section="OpenID Connect Discovery 4.1",
    ),
    Kind(
        "Discovery document",
        "The provider names its endpoints and features.",
        "The document must name the issuer under which the application asked for it: otherwise another provider could "
        "pose as this one.",
        explanations.DISCOVERY_RESPONSE,
        section="OpenID Connect Discovery 4.2",
    ),
    Kind(
        "Keys request",
        "The application asks for the provider's public keys.",
        "It verifies the signature of the ID token with one of them, and remembers them.",
    ),
    Kind("Keys", "The provider's public keys.", "They are public.", explanations.KEYS_RESPONSE, section="RFC 7517 5"),
    Kind("Request", "The application sends a request to the provider."),
    Kind("Response", "The provider answers."),
    Kind(
        "Error",
        "The provider refuses the request.",
        "The application must not take this for a success, whatever else the response contains.",
        explanations.TOKEN_RESPONSE,
    ),
    Kind(
        "No response",
        "The connection ends without a whole response.",
        "The application gives up after a fixed time, however slowly the bytes arrive, and the sign-in fails.",
    ),
    # -- other parties, in the lab
    Kind("Request to another server", "A request to another server."),
    Kind("Response of another server", "A response of another server."),
]
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _KINDS}

#: The steps of a sign-in, with the kind of message that ends each.
STEPS = (
    ("Step 1: the application sends you to the provider", "Authorization request, first half"),
    ("Step 2: you decide at the provider", "Authorization response, first half"),
    ("Step 3: the application exchanges the code for a token", "Signed in"),
    ("Now the application can use the token", ""),
)

_REQUESTS_AT_PROVIDER = {"authorize": "Authorization request, second half", "end": "Sign-out at the provider"}
_BACK_CHANNEL = {
    "profile": ("User document request", "User document"),
    "revoke": ("Revocation request", "Revocation response"),
    "discovery": ("Discovery request", "Discovery document"),
    "keys": ("Keys request", "Keys"),
}


def find_kind(message: Message, request: Message) -> Kind:
    """Return the kind of *message*.

    :param request: the request to which it belongs; the message itself if it is one.
    """
    return KINDS[_find_name(message, request)]


def find_user(request: Message, requests: Mapping[str, Message]) -> str:
    """Return the party whose request to a server has led to *request*.

    :param requests: all requests by their exchanges.
    """
    while request.parent in requests:
        request = requests[request.parent]
    return request.sender


def _find_name(message: Message, request: Message) -> str:
    if message.status == 0:
        return "No response"
    server = request.receiver
    if server == PROVIDER and request.sender == APPLICATION:
        return _name_of_back_channel(message, request)
    if server == PROVIDER:
        return _name_at_provider(message, request)
    if server == APPLICATION:
        return _name_at_application(message, request)
    return "Request to another server" if message.is_request else "Response of another server"


def _name_of_back_channel(message: Message, request: Message) -> str:
    if message.status is not None and message.status >= 400:
        return "Error"
    if request.endpoint == "token":
        names = ("Token request", "Token response")
        if form_of(request).get("grant_type") == "refresh_token":
            names = ("Refresh request", "Refresh response")
    else:
        names = _BACK_CHANNEL.get(request.endpoint, ("Request", "Response"))
    return names[not message.is_request]


def _name_at_provider(message: Message, request: Message) -> str:
    is_authorization = request.endpoint == "authorize"
    decides = "decision" in form_of(request)
    if message.is_request and is_authorization and request.method == "POST":
        return "Decision" if decides else "Sign-in at the provider"
    if message.is_request:
        return _REQUESTS_AT_PROVIDER.get(request.endpoint, "Provider's page")
    if message.target:
        return _name_of_providers_redirect(query_of(message.target), is_authorization=is_authorization)
    if (message.status or 0) >= 400:
        return "Provider's error page"
    if not is_authorization:
        return "Provider's page"
    return "Consent page" if 'name="decision"' in message.body else "Provider's sign-in page"


def _name_of_providers_redirect(parameters: Mapping[str, str], *, is_authorization: bool) -> str:
    if "error" in parameters:
        return "Authorization error"
    if "code" in parameters:
        return "Authorization response, first half"
    return "Signed in at the provider" if is_authorization else "Provider's page"


def _name_at_application(message: Message, request: Message) -> str:
    path = urlsplit(request.url).path
    if message.is_request:
        if path.startswith("/callback"):
            return "Authorization response, second half"
        if (path, request.method) == ("/logout", "POST"):
            return "Sign-out"
        return "Start" if path == "/" else "Page request"
    if message.target:
        return _name_of_redirect(message.target, path)
    if (message.status or 0) >= 400:
        return "Refused" if path.startswith("/callback") else "Error page"
    return "Signed-out page" if path == "/signed-out" else "Page"


def _name_of_redirect(target: str, path: str) -> str:
    if "response_type" in query_of(target):
        return "Authorization request, first half"
    if path.startswith("/callback"):
        return "Signed in"
    if path in {"/logout", "/signed-out"}:
        return "Signed out"
    return "Sign-in required" if urlsplit(target).path == "/" else "Redirect"


def explain_header(kind: Kind, name: str, value: str) -> str:
    """Return the explanation of a header in a message of *kind*; "" if there is none."""
    # The names of the cookies of pending sign-ins end with a hyphen and a hash.
    if name.lower() == "set-cookie" and "Max-Age=0" in value and "-" in value.partition("=")[0]:
        return "deletes the cookie of the finished sign-in"
    known = {**explanations.ALL_HEADERS, **kind.fields}
    return known.get(name) or known.get(name.title(), "")
