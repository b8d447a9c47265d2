"""``wsgi-oauth demo --walk``: the whole dance, one HTTP message after the other, explained.

A browser of our own signs in, and tells what it sends and receives. What the application and the
provider say to each other meanwhile no browser ever sees; the local provider remembers it.

Three parts, in this order: what there is to say about each parameter, as data; the narrator, who
prints it; and the walk, which does the steps of the requests-oauthlib tutorial, by their names.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import shutil
import stat
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from werkzeug.datastructures import Headers

from wsgi_oauth.demo.local_provider import Exchange, LocalProvider

BROWSER, APPLICATION, PROVIDER = "browser", "application", "provider"
TIMEOUT = 60  # seconds for one answer; the application gives a provider up long before
FORM = "application/x-www-form-urlencoded"


class WalkFailed(Exception):
    """The dance went wrong; the message says at which step and why."""


# -- what there is to say --------------------------------------------------------------------

Notes = Mapping[str, str]

#: Headers worth a line, and what there is to say wherever they appear. The rest is HTTP's routine.
HEADERS: Notes = {
    "Cookie": "the id of the browser's session",
    "Authorization": "",
    "Location": "",
    "Set-Cookie": "the id of a session, a random number, and all that the browser gets: state, "
    "verifier and token stay on the server. No script can read it (HttpOnly) and no other site's "
    "form can use it (SameSite=Lax). Over https it is Secure and named __Host-, too (RFC 6265bis)",
    "WWW-Authenticate": "what was wrong with the token (RFC 6750 3)",
    "Retry-After": "seconds to wait",
}
AUTHORIZATION_REQUEST: Notes = {
    "response_type": "we ask for a code, never for the token itself (RFC 6749 4.1.1)",
    "client_id": "who asks: this application, as the provider knows it (RFC 6749 2.2)",
    "redirect_uri": "where the answer is to go; a provider sends it to registered addresses only (RFC 6749 3.1.2)",
    "scope": "what we ask for, so that the person can be told (RFC 6749 3.3)",
    "state": "a random number, noted in the session: an answer without it is an answer that this "
    "browser never asked for (RFC 6749 10.12)",
    "code_challenge": "the SHA-256 of another random number, the verifier, which stays in the "
    "session for now (RFC 7636 4.2)",
    "code_challenge_method": "SHA-256; the other method, plain, would hide nothing (RFC 7636 4.3)",
}
AUTHORIZATION_RESPONSE: Notes = {
    "code": "the authorization code: good for one token, once, and soon (RFC 6749 4.1.2)",
    "state": "what step 1 sent, brought back unchanged (RFC 6749 4.1.2)",
    "iss": "which provider answers, so that none can pass for another (RFC 9207 2)",
    "error": "no code: the provider says why not (RFC 6749 4.1.2.1)",
    "error_description": "the provider's words, for developers (RFC 6749 4.1.2.1)",
    "error_uri": "the provider's page about it (RFC 6749 4.1.2.1)",
}
DECISION: Notes = {"decision": "the button that was pressed"}
SIGNED_IN: Notes = {
    "Location": "an address without the code, so that no history and no Referer keeps it",
    "Set-Cookie": "a new id: one that somebody planted in this browser before the sign-in is worth nothing after it",
}
TOKEN_REQUEST: Notes = {
    "Authorization": "the client's own id and secret: the application proves who it is (RFC 6749 2.3.1)",
    "grant_type": "what we offer in exchange for a token: a code (RFC 6749 4.1.3)",
    "code": "the one that the browser just brought",
    "redirect_uri": "the same as in step 1, byte for byte; the provider compares (RFC 6749 4.1.3)",
    "code_verifier": "the number behind the challenge of step 1: a thief who saw the code go by "
    "does not have it (RFC 7636 4.5)",
    "client_id": "who asks, once more",
    "client_secret": "the client's secret, in the body (RFC 6749 2.3.1)",
}
TOKEN_RESPONSE: Notes = {
    "Cache-Control": "nobody on the way may keep this (RFC 6749 5.1)",
    "access_token": "the key to the profile; what it says inside is the provider's business (RFC 6749 1.4)",
    "token_type": "whoever bears it may use it, so it is kept from everybody (RFC 6750 1.2)",
    "expires_in": "seconds until it is worth nothing (RFC 6749 5.1)",
    "refresh_token": "gets the next access token without asking the person again (RFC 6749 1.5)",
    "scope": "what was granted, which may be less than was asked for (RFC 6749 5.1)",
    "error": "no token: the provider says why not (RFC 6749 5.2)",
    "error_description": "the provider's words, for developers (RFC 6749 5.2)",
}
PROFILE_REQUEST: Notes = {
    "Authorization": "the access token, in a header and never in a URL, where it would end up in "
    "logs and histories (RFC 6750 2.1)",
}

#: What is said about the back channel, by the provider's endpoint: the request, the response.
BACK_CHANNEL: Mapping[str, tuple[Notes, Notes]] = {
    "token": (TOKEN_REQUEST, TOKEN_RESPONSE),
    "profile": (PROFILE_REQUEST, {}),
}

#: What everybody may read. Anything else is a secret, or is treated like one.
PUBLIC = frozenset(
    {
        *("response_type", "client_id", "redirect_uri", "scope", "code_challenge_method", "iss"),
        *("grant_type", "token_type", "error", "error_description", "error_uri"),
        *("decision", "fault", "next", "claimed", "id", "login", "name", "email"),
        *("Cache-Control", "Retry-After", "WWW-Authenticate"),
    }
)

#: The name of a clause, which is not to be broken in two.
CLAUSE = re.compile(r"RFC (\d+) (\d)")


def masked(value: str) -> str:
    """Enough of a secret to recognise it, never enough to use it.

    >>> masked("gho_16C7e42F292c6912E7710c838347Ae178B4a")
    'gho_… (40 characters)'
    """
    if not value:
        return value
    shown = value[:4] if len(value) >= 12 else ""
    return f"{shown}… ({len(value)} characters)"


def masked_header(name: str, value: str) -> str:
    """A header's value without its secret: ``Basic ZGVt… (36 characters)``."""
    if name == "Authorization":
        scheme, _, credentials = value.partition(" ")
        return f"{scheme} {masked(credentials)}"
    if name in ("Cookie", "Set-Cookie"):
        cookie, semicolon, attributes = value.partition(";")
        key, _, secret = cookie.partition("=")
        return f"{key}={masked(secret)}{semicolon}{attributes}"
    return value if name in PUBLIC else masked(value)


def masked_json(value: Any, name: str = "") -> Any:
    """A JSON document of which only numbers and public members can be read.

    A key that is as long as a secret is one: the session files its records under their state.
    """
    if isinstance(value, dict):
        return {masked(key) if len(key) > 24 else key: masked_json(member, key) for key, member in value.items()}
    if isinstance(value, list):
        return [masked_json(member, name) for member in value]
    return masked(value) if isinstance(value, str) and name not in PUBLIC else value


# -- messages --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """An HTTP request, as it was sent."""

    method: str
    url: str
    headers: Headers = field(default_factory=Headers)
    body: str = ""


@dataclass(frozen=True)
class Response:
    """What came back."""

    status: int
    headers: Headers
    body: str = ""

    @property
    def location(self) -> str | None:
        """Where the browser is sent, when it is sent anywhere."""
        return self.headers.get("Location") if 300 <= self.status < 400 else None

    @property
    def is_page(self) -> bool:
        """Whether there is something in it for a person to read."""
        return self.location is None and "html" in self.headers.get("Content-Type", "")

    @property
    def document(self) -> Any:
        """The JSON in it, or None."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def __str__(self) -> str:
        if not self.status:  # how the provider remembers that a fault took the connection over
            return "no whole answer"
        return f"{self.status} {http.client.responses.get(self.status, '')}".strip()


@dataclass(frozen=True)
class Field:
    """One line of a message: *value* is masked already, *note* says what it is for."""

    name: str
    value: str
    note: str = ""


def header_fields(headers: Headers, notes: Notes) -> Iterator[Field]:
    """The headers worth a line. Of a URL only the part before the query: its parameters follow."""
    for name, value in sorted(headers.items(), key=lambda header: header[0] == "Location"):
        if name == "Location":
            yield Field(name, value.partition("?")[0], notes.get(name, ""))
        elif name in notes or name in HEADERS:
            yield Field(name, masked_header(name, value), notes.get(name) or HEADERS.get(name, ""))


def parameter_fields(encoded: str, notes: Notes) -> Iterator[Field]:
    """The parameters of a query, or of a form."""
    for name, value in parse_qsl(encoded, keep_blank_values=True):
        yield Field(name, value if name in PUBLIC else masked(value), notes.get(name, ""))


def member_fields(document: Mapping[str, Any], notes: Notes) -> Iterator[Field]:
    """The members of a JSON object."""
    for name, value in masked_json(document).items():
        text = value if isinstance(value, str) else json.dumps(value)
        yield Field(name, text, notes.get(name, ""))


# -- the narrator ----------------------------------------------------------------------------


class Narrator:
    """Prints: at most 100 columns wide, coloured on a terminal, in ASCII where it must be."""

    BOLD, DIM, GREEN = "1", "2", "32"

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._colour = out.isatty() and not os.environ.get("NO_COLOR")
        columns = shutil.get_terminal_size((100, 24)).columns if out.isatty() else 100
        self._width = max(60, min(100, columns))
        self.messages = 0
        self._told_query = 0  # the last message that redirected with parameters

    def title(self, text: str) -> None:
        """The name of a step."""
        self._print(f"\n{text}\n{'=' * len(text)}", self.BOLD)

    def prose(self, text: str) -> None:
        """A paragraph."""
        self._print()
        self._wrap(text)

    def cast(self, roles: Mapping[str, str]) -> None:
        """Who takes part."""
        self._print()
        for role, description in roles.items():
            self._wrap(f"{role:<13} {description}", " " * 4, " " * 18)

    def request(
        self,
        sender: str,
        receiver: str,
        request: Request,
        notes: Notes,
        *,
        same_query: bool = False,
    ) -> None:
        """A request with all its parameters, but for a query that was told just before."""
        url, mark, query = request.url.partition("?")
        self._begin(sender, receiver, f"{request.method} {url}{mark}{query and '…'}")
        self._fields("", header_fields(request.headers, notes))
        if query and same_query:
            self._wrap(f"in the query: the same as in message {self._told_query}", " " * 4)
        else:
            self._fields("in the query:", parameter_fields(query, notes))
        if request.headers.get("Content-Type", "").startswith(FORM):
            self._fields("in the body, as a form:", parameter_fields(request.body, notes))

    def response(self, sender: str, receiver: str, response: Response, notes: Notes) -> None:
        """A response, and the parameters of the URL that it redirects to."""
        self._begin(sender, receiver, str(response))
        self._fields("", header_fields(response.headers, notes))
        _, _, query = (response.location or "").partition("?")
        if query:
            self._told_query = self.messages
        self._fields("in the query of that URL:", parameter_fields(query, notes))
        if response.is_page:
            self._wrap("in the body: a page, in HTML", " " * 4)
        if isinstance(response.document, dict):
            self._fields("in the body, as JSON:", member_fields(response.document, notes))

    def file(self, label: str, document: Any) -> None:
        """A JSON file, masked already."""
        self._print()
        self._wrap(label, " " * 4)
        text = json.dumps(document, indent=2, ensure_ascii=False)
        self._print(textwrap.indent(text, " " * 6))

    def finding(self, text: str) -> None:
        """Something that was checked, and is as it should be."""
        self._wrap(f"✓ {text}", " " * 4, " " * 6, self.GREEN)

    def document(self, document: Any) -> None:
        """A JSON document in full, for a person or a program."""
        self._print()
        self._print(json.dumps(document, indent=2))

    def _begin(self, sender: str, receiver: str, first_line: str) -> None:
        self.messages += 1
        self._print(f"\n{self.messages:2}  {sender} → {receiver}", self.BOLD)
        self._wrap(first_line, " " * 4)

    def _fields(self, label: str, fields: Iterable[Field]) -> None:
        for entry in fields:
            if label:
                self._wrap(label, " " * 4)
                label = ""
            self._wrap(f"{entry.name:<22} {entry.value}", " " * 6, " " * 29)
            self._wrap(entry.note, " " * 29, style=self.DIM)

    def _wrap(self, text: str, first: str = "", rest: str | None = None, style: str = "") -> None:
        """Print *text* no wider than the page, the lines after the first indented by *rest*."""
        indent = first if rest is None else rest
        lines = textwrap.wrap(
            CLAUSE.sub("RFC\xa0\\1\xa0\\2", text),
            self._width,
            initial_indent=first,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        for line in lines:
            self._print(line, style)

    def _print(self, text: str = "", style: str = "") -> None:
        text = self._encodable(text)
        if style and self._colour:
            text = f"\x1b[{style}m{text}\x1b[0m"
        print(text, file=self._out, flush=True)

    def _encodable(self, text: str) -> str:
        text = text.replace("\xa0", " ")
        encoding = self._out.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.replace("…", "...").replace("→", "->").replace("✓", "ok:")
            text = text.encode(encoding, "replace").decode(encoding)
        return text


# -- the browser -----------------------------------------------------------------------------


class Page(HTMLParser):
    """What a browser makes of HTML: its heading, its form, and what the form sends unasked."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.heading = ""
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._in_heading = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A heading, a form, or a hidden field of it."""
        attributes = dict(attrs)
        if tag == "h1":
            self._in_heading = True
        elif tag == "form" and self.action is None:
            self.action = attributes.get("action") or ""
        elif tag == "input" and attributes.get("type") == "hidden":
            self.fields[attributes.get("name") or ""] = attributes.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        """The end of the heading."""
        if tag == "h1":
            self._in_heading = False

    def handle_data(self, data: str) -> None:
        """The text of the heading."""
        if self._in_heading:
            self.heading += data


class Browser:
    """As much of a browser as the dance needs: it keeps cookies, and goes where it is told to.

    Nothing is sent before :meth:`send`, so that a request can be told before its answer is there.
    Cookies are kept by host and port. Real browsers do not look at the port (RFC 6265 8.5), but
    then real providers do not share a host with the applications that use them.
    """

    def __init__(self) -> None:
        self._cookies: dict[str, dict[str, str]] = {}

    def get(self, url: str) -> Request:
        """The request that follows a link or a redirect to *url*."""
        return Request("GET", url, self._headers(url))

    def submit(self, url: str, form: Mapping[str, str]) -> Request:
        """The request that sends a form."""
        headers = self._headers(url)
        headers.extend({"Content-Type": FORM, "Origin": _origin(url)})
        return Request("POST", url, headers, urlencode(form))

    def send(self, request: Request) -> Response:
        """Its answer. A redirect is an answer like any other."""
        parts = urlsplit(request.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)
        target = parts._replace(scheme="", netloc="", path=parts.path or "/").geturl()
        try:
            connection.request(request.method, target, request.body, dict(request.headers))
            answer = connection.getresponse()
            response = Response(answer.status, Headers(answer.getheaders()), answer.read().decode(errors="replace"))
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"no answer from {_origin(request.url)} ({error!r})") from error
        finally:
            connection.close()
        self._remember(parts.netloc, response.headers.getlist("Set-Cookie"))
        return response

    def cookies(self, url: str) -> list[str]:
        """The values of the cookies that *url* would get."""
        return list(self._cookies.get(urlsplit(url).netloc, {}).values())

    def _headers(self, url: str) -> Headers:
        headers = Headers({"Accept": "text/html,*/*;q=0.8", "User-Agent": "wsgi-oauth-demo"})
        if jar := self._cookies.get(urlsplit(url).netloc):
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        return headers

    def _remember(self, netloc: str, set_cookies: Iterable[str]) -> None:
        jar = self._cookies.setdefault(netloc, {})
        for cookie in set_cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            jar[name.strip()] = value.strip()


class NoAnswer(Exception):
    """The browser got none."""


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


# -- the walk --------------------------------------------------------------------------------


def walk(application: str, provider: LocalProvider, sessions: Path, out: TextIO) -> None:
    """Sign in at *application* like a browser, and print every message to *out*.

    :param application: its URL.
    :param provider: the provider that it uses, which remembers what it was asked.
    :param sessions: the folder of its file store.
    :raises WalkFailed: when the dance goes wrong at any step.
    """
    Walk(application, provider, sessions, Narrator(out)).run()


class Walk:
    """The dance, one method a step."""

    def __init__(self, application: str, provider: LocalProvider, sessions: Path, narrator: Narrator) -> None:
        self._application = application
        self._provider = provider
        self._sessions = sessions
        self._tell = narrator
        self._browser = Browser()
        self._first = len(provider.exchanges)  # of what the provider will see in this walk
        self._step = ""
        self._session_before = ""

    def run(self) -> None:
        """All steps, in order; the last thing printed is the profile."""
        self._introduce()
        question = self._user_authorization()
        answer = self._on_the_provider(question)
        profile_url = self._retrieving_an_access_token(question, answer)
        profile = self._fetching_a_protected_resource(profile_url)
        self._conclude(profile)

    # The steps, by the names that the requests-oauthlib tutorial gives them.

    def _user_authorization(self) -> str:
        """Open the application, and be sent to the provider. Returns that URL."""
        self._begin(
            "Step 1: User Authorization",
            "The person opens the application, which has never seen them. It makes up two random "
            "numbers, notes them in a session, and sends the browser to the provider with a few "
            "key OAuth parameters. The two servers have not spoken to each other yet.",
        )
        request = self._browser.get(f"{self._application}/")
        self._tell.request(BROWSER, APPLICATION, request, {})
        response = self._visit(request)
        self._tell.response(APPLICATION, BROWSER, response, AUTHORIZATION_REQUEST)
        question = self._redirect(request, response, self._provider.authorization_url)
        self._session_before = self._show_session("before the sign-in")
        return question

    def _on_the_provider(self, question: str) -> str:
        """Say yes on the provider's page, and be sent back. Returns that URL."""
        self._begin(
            "Step 2: User authorization, this happens on the provider",
            "The application has no part in this. Whatever the person types here, a password for "
            "one, goes to the provider alone.",
        )
        request = self._browser.get(question)
        self._tell.request(BROWSER, PROVIDER, request, {}, same_query=True)
        response = self._send(request)
        page = Page(response.body)
        self._tell.response(PROVIDER, BROWSER, response, {})
        if response.status != http.client.OK or page.action is None:
            raise self._failed(f"the provider shows no page to decide on: {_gist(response)}")
        self._tell.prose(f'The page says "{page.heading}". The person presses Allow.')

        form = page.fields | {"decision": "allow"}
        request = self._browser.submit(urljoin(question, page.action), form)
        self._tell.request(BROWSER, PROVIDER, request, DECISION, same_query=True)
        response = self._send(request)
        self._tell.response(PROVIDER, BROWSER, response, AUTHORIZATION_RESPONSE)
        return self._redirect(request, response, f"{self._application}/callback")

    def _retrieving_an_access_token(self, question: str, answer: str) -> str:
        """Bring the answer to the application. Returns the URL that it sends the browser to."""
        self._begin(
            "Step 3: Retrieving an access token",
            "The browser brings the code. First the application looks whether this session asked "
            "for it: state must be one that was noted here, minutes ago, and not used since; iss "
            "must be the provider that was asked (RFC 9700 4.7, RFC 9207). Then it turns to the "
            "provider itself; the browser waits, and sees nothing of that.",
        )
        request = self._browser.get(answer)
        self._tell.request(BROWSER, APPLICATION, request, {}, same_query=True)
        response = self._visit(request)
        self._tell.response(APPLICATION, BROWSER, response, SIGNED_IN)
        profile_url = self._redirect(request, response, f"{self._application}/")
        self._check_pkce(question)
        self._check_session()
        return profile_url

    def _fetching_a_protected_resource(self, profile_url: str) -> Any:
        """Open the page that needs the token. Returns the profile."""
        self._begin(
            "Fetching a protected resource using an OAuth 2 token",
            "From here on the session is enough. The application finds the token in it, and asks "
            "for the profile in the person's name, as often as it is needed.",
        )
        request = self._browser.get(profile_url)
        self._tell.request(BROWSER, APPLICATION, request, {}, same_query=True)
        response = self._visit(request)
        self._tell.response(APPLICATION, BROWSER, response, {})
        if response.status != http.client.OK or not isinstance(response.document, dict):
            raise self._failed(f"the application shows no profile: {_gist(response)}")
        return response.document

    # What stands between and around them.

    def _introduce(self) -> None:
        self._tell.prose(
            "A person lets an application read their profile at a provider, without telling it "
            "their password. Three take part:"
        )
        self._tell.cast(
            {
                BROWSER: "the person's own; this program plays the person and the browser",
                APPLICATION: f"{self._application}: the client, wsgi_oauth under gunicorn",
                PROVIDER: f"{self._provider.url}: it knows the person, and keeps the profile",
            }
        )
        self._tell.prose(
            "What follows is every HTTP message between them, in order, with the headers that "
            "matter: the authorization code flow of OAuth 2.0 (RFC 6749 4.1) with PKCE (RFC 7636). "
            "Of a secret only the first four characters are shown, and its length."
        )

    def _conclude(self, profile: Any) -> None:
        self._tell.prose(
            f"That was the dance, in {self._tell.messages} messages. The application knows who "
            "signed in; it never saw a password, and the browser never saw a token. The profile:"
        )
        self._tell.document(profile)

    def _begin(self, step: str, what_happens: str) -> None:
        self._step = step
        self._tell.title(step)
        self._tell.prose(what_happens)

    def _visit(self, request: Request) -> Response:
        """Ask the application, and tell what it asks the provider before it answers."""
        seen = len(self._provider.exchanges)
        response = self._send(request)
        for exchange in self._provider.exchanges[seen:]:
            notes, answer_notes = BACK_CHANNEL.get(exchange.endpoint, ({}, {}))
            asked, answered = _messages(exchange)
            self._tell.request(APPLICATION, PROVIDER, asked, notes)
            self._tell.response(PROVIDER, APPLICATION, answered, answer_notes)
        return response

    def _send(self, request: Request) -> Response:
        try:
            return self._browser.send(request)
        except NoAnswer as error:
            raise self._failed(str(error)) from error

    def _redirect(self, request: Request, response: Response, expected: str) -> str:
        """Where the browser is sent; :class:`WalkFailed` when not to what *expected* begins."""
        location = urljoin(request.url, response.location or "")
        if response.location is None or not location.startswith(expected):
            raise self._failed(f"there should be a redirect to {expected}, not {_gist(response)}")
        return location

    def _check_pkce(self, question: str) -> None:
        """That the verifier which was sent to the provider fits the challenge of step 1."""
        challenge = dict(parse_qsl(urlsplit(question).query)).get("code_challenge", "")
        tokens = [e for e in self._provider.exchanges[self._first :] if e.endpoint == "token"]
        if len(tokens) != 1:
            raise self._failed(f"there should be one token request, not {len(tokens)}")
        verifier = dict(parse_qsl(tokens[0].body)).get("code_verifier", "")
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        if digest.rstrip(b"=").decode() != challenge:
            raise self._failed("code_verifier does not fit code_challenge (RFC 7636 4.6)")
        self._tell.finding("the SHA-256 of code_verifier is the code_challenge of step 1")

    def _show_session(self, when: str) -> str:
        """Tell the session file of this browser. Returns its name."""
        cookie, *_ = self._browser.cookies(self._application) or [""]
        name = f"{hashlib.sha256(cookie.encode()).hexdigest()}.json"
        try:
            file = self._sessions / name
            content, mode = json.loads(file.read_bytes()), stat.S_IMODE(file.stat().st_mode)
        except (OSError, ValueError) as error:
            raise self._failed("the application keeps no session for the cookie") from error
        label = f"The session on the application's disk {when}, {name[:8]}….json, mode {mode:04o}:"
        self._tell.file(label, masked_json(content))
        return name

    def _check_session(self) -> None:
        """That the session has another id now, and the old one is worth nothing."""
        name = self._show_session("after the sign-in")
        if name == self._session_before:
            raise self._failed("the session id did not change at sign-in (session fixation)")
        if (self._sessions / self._session_before).exists():
            raise self._failed("the session of before the sign-in still exists")
        self._tell.finding("the session has a new id, and the file of the old one is gone")
        self._tell.finding("the file's name is the SHA-256 of the id: whoever can list the folder can open no session")

    def _failed(self, reason: str) -> WalkFailed:
        return WalkFailed(f"{self._step}: {reason}")


def _messages(exchange: Exchange) -> tuple[Request, Response]:
    """What the provider remembers of a request and of its own answer."""
    return (
        Request(exchange.method, exchange.url, exchange.headers, exchange.body),
        Response(exchange.status, exchange.response_headers, exchange.response_body),
    )


def _gist(response: Response) -> str:
    """A response in a few words: its status and what it says about itself."""
    document = response.document
    if isinstance(document, dict):
        says = document.get("title") or document.get("error") or ""
    else:
        says = Page(response.body).heading
    return f"{response}: {says}" if says else str(response)
