"""The parties of an attack: victim and attacker with their browsers, the attacker's site, provider and application."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import requests
from werkzeug.wrappers import Request, Response

from ... import Config, FileStore, RequestHandler, create_app
from ..browser import Browser, Page, location_of
from ..dispatcher import record_provider
from ..local_provider import LocalProvider
from ..messages import ATTACKER, ATTACKERS_SITE, PROVIDER, VICTIM, query_of
from ..recorder import TakesMessages
from ..recording import ORIGIN_HEADER, RecordedParty, build_origin
from ..server import Server
from ..traced_app import record_application

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_MAX_REDIRECTS = 10


class Actor(Browser):
    """The victim or the attacker, with a browser.

    :param party: :data:`VICTIM` or :data:`ATTACKER`.
    :param recorder: takes the messages; None to record none.
    """

    def __init__(self, party: str, recorder: TakesMessages | None = None) -> None:
        super().__init__()
        self.party = party
        self.login = party.lower()  # at the provider
        self.application = ""  # its URL
        self._recorder = recorder
        self.address = ""  # the URL of the page that the browser shows

    def visit(self, url: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Request *url*, or a path of the application; return the response. Redirects are not followed."""
        return self.get(urljoin(self.application, url), headers)

    def post(self, path: str, **form: str) -> requests.Response:
        """Submit *form* to a path of the application."""
        return self.submit(self.application + path, form)

    def follow(self, url: str) -> requests.Response:
        """Open *url* and follow its redirects, as a browser does; return the last response."""
        for _ in range(_MAX_REDIRECTS):
            self.address = urljoin(self.application, url)
            response = self.get(self.address)
            if not (location := location_of(response)):
                break
            url = urljoin(self.address, location)
        return response

    def start(self, path: str = "/") -> str:
        """Start a sign-in at the application; return the authorization URL."""
        url = self.application + path
        while urlsplit(url).netloc == urlsplit(self.application).netloc:
            url = urljoin(url, location_of(self.get(url)) or "about:blank")
        return url

    def consent(self, authorization_url: str) -> str:
        """Press Allow on the provider's consent page; return the callback URL, which is not yet requested."""
        page = Page(self.follow(authorization_url).text)
        form = page.fields | {"decision": "allow", "user": self.login}
        return location_of(self.submit(urljoin(self.address, page.action), form))

    def callback_url(self) -> str:
        """Start a sign-in and consent; return the callback URL, which is not yet requested."""
        return self.consent(self.start())

    def sign_in(self) -> requests.Response:
        """Complete a sign-in; return the response of the callback."""
        return self.visit(self.callback_url())

    def profile(self, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Request the profile of the signed-in user as JSON."""
        return self.visit("/profile", {"Accept": "application/json", **(headers or {})})

    def send(self, method: str, url: str, headers: Mapping[str, str], body: str = "") -> requests.Response:
        if self._recorder:
            headers = {**headers, ORIGIN_HEADER: build_origin(self._recorder.key, self.party, is_step)}
        return super().send(method, url, headers, body)

    @property
    def session_cookie(self) -> tuple[str, str]:
        """Name and value of the application's session cookie. The names of its other cookies have a hyphen."""
        jar = self.cookies[urlsplit(self.application).netloc]
        return next((name, value) for name, value in jar.items() if "-" not in name)

    def set_cookie(self, name: str, value: str, path: str = "/") -> None:
        """Set a cookie for the application, in place of a cookie with this name and path.

        The cookie with the longest path is sent first (RFC 6265 5.4).
        """
        parts = urlsplit(self.application)
        self.cookies[parts.netloc].set(name, value, domain=parts.hostname, path=path)


class AttackersServer:
    """The attacker's web server. It records its requests, and answers all of them with :attr:`answer`."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[str] = []  # the requests, as text
        self.answer = Response('{"login": "mallory"}', content_type="application/json")

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        self.seen.append(f"{request.url}\n{request.headers}\n{request.get_data(as_text=True)}")
        return self.answer(environ, start_response)

    def redirect_visitors_to(self, url: str) -> None:
        """Answer each request with a redirect to *url*."""
        self.answer = Response(status=302, headers={"Location": url})

    def has_seen(self, secret: str) -> bool:
        """Return whether a request contained *secret*."""
        return any(secret in request for request in self.seen)


class Notebook(RequestHandler):
    """The page of the application on which users keep a note. Anonymous users can write one, too."""

    route = "/notebook"

    def get(self, request: Any) -> Response:
        return self.jsonify({"note": request.session.get("note", "")})

    def post(self, request: Any) -> Response:
        request.session["note"] = request.form["note"]
        return self.jsonify({"stored": True})


class Stage:
    """All parties of one run. Each server listens on a loopback port.

    :param sessions: the folder of the application's file store.
    :param servers: ends the servers at the end of the run.
    :param recorder: takes all messages; None to record none.
    """

    attackers_provider: LocalProvider  # only in the mix-up attack

    def __init__(self, sessions: Path, servers: ExitStack, recorder: TakesMessages | None = None) -> None:
        self.sessions = sessions
        self._servers = servers
        self._recorder = recorder
        self.provider = LocalProvider()
        self.start_provider(self.provider)
        self.attackers_server = AttackersServer()
        site = RecordedParty(self.attackers_server, ATTACKERS_SITE, recorder) if recorder else self.attackers_server
        # The host name differs from the application's, because cookies and the application's checks depend on it.
        self.attackers_server.url = f"http://localhost:{self._servers.enter_context(Server(site).start()).port}"
        self.application = ""  # its URL
        self.victim = Actor(VICTIM, recorder)
        self.attacker = Actor(ATTACKER, recorder)

    def start_provider(self, provider: LocalProvider, party: str = PROVIDER) -> None:
        """Serve *provider* until the end of the run."""
        server = Server(record_provider(provider, self._recorder, party=party) if self._recorder else provider)
        provider.url = server.url
        self._servers.enter_context(server.start())

    def start_application(self, build: Callable[[Stage], WSGIApplication]) -> None:
        """Serve the application that *build* returns. It is built when its URL is known."""
        applications: list[WSGIApplication] = []
        server = Server(lambda environ, start_response: applications[0](environ, start_response))
        self.application = self.victim.application = self.attacker.application = server.url
        application = build(self)
        if self._recorder:
            application = record_application(application, self._recorder, self.sessions)
        applications.append(application)
        self._servers.enter_context(server.start())


def build_application(stage: Stage, **settings: str) -> WSGIApplication:
    """Return the application of *stage*, with these ``WSGI_OAUTH_*`` settings besides those for the provider."""
    environ = {f"WSGI_OAUTH_{name}": value for name, value in (stage.provider.settings | settings).items()}
    return create_app(Config.from_environ(environ), store=FileStore(stage.sessions), handlers=[Notebook])


@contextmanager
def set_stage(
    folder: Path, build: Callable[[Stage], WSGIApplication], recorder: TakesMessages | None = None
) -> Iterator[Stage]:
    """Start all servers, yield the stage, and stop them.

    :param folder: a new folder, for the sessions of the application.
    :param build: returns the application.
    :param recorder: takes all messages; None to record none. Recording changes this process for good.
    """
    with ExitStack() as servers:
        stage = Stage(folder / "sessions", servers, recorder)
        stage.start_application(build)
        yield stage


def is_step(frame: FrameType) -> bool:
    """Return whether *frame* runs a function that carries out an attack."""
    return Path(frame.f_code.co_filename).name.endswith("_attacks.py")


def change_parameters(url: str, **changes: str | None) -> str:
    """Return *url* with changed query parameters; None removes one."""
    query = {name: value for name, value in {**query_of(url), **changes}.items() if value is not None}
    return f"{url.partition('?')[0]}?{urlencode(query)}"


def exchanged_codes(provider: LocalProvider) -> list[str]:
    """Return the codes that *provider* has received at its token endpoint."""
    forms = [dict(parse_qsl(exchange.body)) for exchange in provider.exchanges if exchange.endpoint == "token"]
    return [form["code"] for form in forms if "code" in form]
