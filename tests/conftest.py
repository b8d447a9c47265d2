"""What the tests stand on: a provider on a real socket, an application, a browser, and a real gunicorn."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from wsgiref.validate import validator

import pytest
import requests
import trustme
import webtest
from werkzeug import Response
from werkzeug.test import create_environ, run_wsgi_app

from wsgi_oauth import Config, FileStore, MemoryStore, SessionStore, create_app
from wsgi_oauth.demo.provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

HTML = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
JSON = {"Accept": "application/json"}


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    """An authorization server of its own for each test, on a socket of its own."""
    provider = LocalProvider()
    with serve_provider(provider) as server:
        provider.server = server
        yield provider


@pytest.fixture(scope="session")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CA bundle with a single authority, whose key nobody has."""
    bundle = tmp_path_factory.mktemp("authority") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(bundle))
    return str(bundle)


@pytest.fixture
def small_ca_bundle(one_authority: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests with many applications that speak plain http: loading the usual authorities takes too long."""
    monkeypatch.setenv("SSL_CERT_FILE", one_authority)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SessionStore:
    """Every store there is, one after the other."""
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "sessions")


def environ_for(provider: LocalProvider, **settings: str) -> dict[str, str]:
    """The WSGI_OAUTH_* variables for *provider*, and more: ``environ_for(provider, PUBLIC_URL="https://...")``."""
    variables = {
        "CLIENT_ID": provider.client_id,
        "CLIENT_SECRET": provider.client_secret or "",
        "AUTHORIZATION_URL": provider.authorization_url,
        "TOKEN_URL": provider.token_url,
        "PROFILE_URL": provider.profile_url,
        "ISSUER": provider.url,
        "SCOPE": "profile email",
        "SESSION_STORE": "memory:",
        "UPSTREAM_TIMEOUT": "10",
        **settings,
    }
    return {f"WSGI_OAUTH_{name}": value for name, value in variables.items()}


class Browser:
    """A browser with cookies; its application is checked for PEP 3333 on both sides (wsgiref, WebTest's lint)."""

    def __init__(self, app: Any, provider: LocalProvider, base: str = "http://localhost") -> None:
        self.provider = provider
        self.base = base
        parts = urlsplit(base)
        extra = {"HTTP_HOST": parts.netloc, "wsgi.url_scheme": parts.scheme, "REMOTE_ADDR": "127.0.0.1"}
        self.app = webtest.TestApp(validator(app), extra_environ=extra, lint=True)

    def get(self, url: str, headers: dict[str, str] | None = None, **kwargs: Any) -> webtest.TestResponse:
        """GET a path or a URL of the application as a navigation, without following redirects; any status is fine."""
        return self.app.get(self._local(url), headers={**HTML, **(headers or {})}, status="*", **kwargs)

    def post(self, url: str, headers: dict[str, str] | None = None, **kwargs: Any) -> webtest.TestResponse:
        return self.app.post(
            self._local(url), headers={**HTML, "Origin": self.base, **(headers or {})}, status="*", **kwargs
        )

    def start(self, next_url: str | None = None) -> str:
        """Start a sign-in; return the URL of the provider's authorization endpoint."""
        response = self.get("/" if next_url is None else f"/?next={requests.utils.quote(next_url, safe='')}")
        assert response.status_int == 302, response
        return response.location

    def consent(self, authorization_url: str, *, decision: str = "allow", fault: str = "") -> str:
        """Answer the provider's page; return the callback URL to which it sends the browser."""
        answer = requests.post(
            authorization_url, data={"decision": decision, "fault": fault}, allow_redirects=False, timeout=10
        )
        assert answer.status_code in {302, 303}, answer.text
        return answer.headers["Location"]

    def callback_url(self, next_url: str | None = None, **consent: str) -> str:
        """Go as far as the provider's redirect to the callback."""
        return self.consent(self.start(next_url), **consent)

    def sign_in(self, next_url: str | None = None) -> webtest.TestResponse:
        """The whole dance; return the callback's answer."""
        response = self.get(self.callback_url(next_url))
        assert response.status_int == 303, response
        return response

    def profile(self) -> webtest.TestResponse:
        """GET /profile as a program would."""
        return self.get("/profile", headers=JSON)

    @property
    def cookie(self) -> str | None:
        """The value of the session cookie."""
        values = [cookie.value for cookie in self.app.cookiejar if cookie.name.endswith("wsgi_oauth")]
        return values[0] if values else None

    def _local(self, url: str) -> str:
        parts = urlsplit(url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


@pytest.fixture
def make_browser(provider: LocalProvider, store: SessionStore) -> Callable[..., Browser]:
    """Make browsers in front of one application: ``make_browser()``, or of one with other settings or handlers.

    Call it twice with the same settings for two browsers of one application.
    """
    applications: dict[Any, Any] = {}

    def make(*, handlers: tuple[Any, ...] = (), base: str = "http://localhost", **settings: str) -> Browser:
        key = (handlers, tuple(sorted(settings.items())))
        if key not in applications:
            config = Config.from_environ(environ_for(provider, **settings))
            applications[key] = create_app(config, store=store, handlers=handlers)
        return Browser(applications[key], provider, base)

    return make


@pytest.fixture
def browser(make_browser: Callable[..., Browser]) -> Browser:
    return make_browser()


def parameters(url: str) -> dict[str, str]:
    """The query parameters of *url*, each of which must be there once."""
    found = parse_qs(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
    assert all(len(values) == 1 for values in found.values())
    return {name: values[0] for name, values in found.items()}


@pytest.fixture
def application(provider: LocalProvider, store: SessionStore) -> Any:
    """The application itself, for what no browser would send: ``send(application, "/", query="next=\\xff")``."""
    return create_app(Config.from_environ(environ_for(provider)), store=store)


def send(
    app: Any,
    path: str = "/",
    *,
    method: str = "GET",
    query: str = "",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    **environ: Any,
) -> Response:
    """Call *app* as a server would that lets everything through: nothing is quoted, checked or mended on the way.

    *path* and *query* are what PEP 3333 calls native strings (bytes as latin-1); *environ* wins over everything.
    """
    made = create_environ(base_url="http://localhost", method=method, input_stream=io.BytesIO(body))
    made.update(PATH_INFO=path, QUERY_STRING=query, REMOTE_ADDR="127.0.0.1")
    if body:
        made["CONTENT_LENGTH"] = str(len(body))
    for name, value in (headers or {}).items():
        made["HTTP_" + name.upper().replace("-", "_")] = value
    made.update({name.replace("__", "."): value for name, value in environ.items()})
    chunks, status, answered = run_wsgi_app(app, made, buffered=True)
    return Response(b"".join(chunks), status, answered)


def stored_sessions(store: SessionStore) -> list[dict[str, Any]]:
    """What *store* holds, whatever kind it is: the data of each session."""
    if isinstance(store, FileStore):
        kept = [path.read_bytes() for path in Path(store.folder).iterdir()]
    else:
        assert isinstance(store, MemoryStore)
        kept = [record.data for record in store._records.values()]
    return [json.loads(data)["data"] for data in kept]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass: ``later(600)`` puts the clock of the whole process forward, and nobody has to wait."""
    passed, now = [0.0], time.time

    def forward(seconds: float) -> None:
        passed[0] += seconds

    monkeypatch.setattr(time, "time", lambda: now() + passed[0])
    return forward


@dataclass
class Gunicorn:
    """A real gunicorn that serves the application on a real socket."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def stop(self) -> str:
        """End it as an operator would; return all it has written."""
        self.process.terminate()
        self.process.wait(timeout=90)  # a worker that was just being forked misses the signal, and is killed after 30 s
        return self.log.read_text()


@contextmanager
def gunicorn(
    tmp_path: Path,
    environ: dict[str, str],
    *options: str,
    app: str | None = "wsgi_oauth:get_app()",
    cwd: Path | None = None,
) -> Iterator[Gunicorn]:
    """Start gunicorn with *environ* and *options*.

    The listening socket is made here and handed over, so connections wait until the workers are there.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        log = tmp_path / f"gunicorn-{listener.getsockname()[1]}.log"
        output = stack.enter_context(log.open("w"))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_OAUTH_")}
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "--bind",
            f"fd://{listener.fileno()}",
            "--no-control-socket",
            *options,
        ]
        process = stack.enter_context(
            subprocess.Popen(
                [*command, *([app] if app else [])],
                env={**clean, "PYTHONPATH": str(Path(__file__).parent.parent), "NO_PROXY": "127.0.0.1", **environ},
                pass_fds=[listener.fileno()],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd or tmp_path,
                text=True,
            )
        )
        try:
            yield Gunicorn(f"http://127.0.0.1:{listener.getsockname()[1]}", process, log)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(timeout=90)
            except subprocess.TimeoutExpired:
                process.kill()
