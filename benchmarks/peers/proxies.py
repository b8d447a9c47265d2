"""A static page that needs a sign-in: Apache with mod_auth_openidc, and nginx with ``/verify`` of wsgi_oauth.

Both sign in at the local provider of this project and then serve the same small file over HTTP/1.1 connections that
stay open. The result is the CPU time of all processes of the server for a request: Apache alone, and nginx together
with gunicorn.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import requests

from wsgi_oauth import LoginRequired, get_app
from wsgi_oauth.demo.profiles import Keycloak
from wsgi_oauth.demo.server import serve_provider

from ..application import run_application
from ..measure import progress
from ..performance import APACHE, GATE, HELLO, VERIFY

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REQUESTS = 1000  # in a round
CONNECTIONS = 4
WORKERS = 2
BARE = "nginx with an empty response of gunicorn"
APACHE_MODULES = Path("/usr/lib/apache2/modules")

APACHE_CONF = """
ServerRoot "{folder}"
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile "{folder}/apache.pid"
ErrorLog "{folder}/apache.log"
{user}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule auth_openidc_module {modules}/mod_auth_openidc.so
KeepAlive On
MaxKeepAliveRequests 0
DocumentRoot "{folder}/public"
OIDCProviderMetadataURL {issuer}/.well-known/openid-configuration
OIDCClientID {client_id}
OIDCClientSecret {client_secret}
OIDCPKCEMethod S256
OIDCRedirectURI http://127.0.0.1:{port}/callback
OIDCCryptoPassphrase a-passphrase-of-the-benchmark
OIDCScope "openid profile email"
OIDCRemoteUserClaim preferred_username
<Location />
    AuthType openid-connect
    Require valid-user
</Location>
"""

NGINX_CONF = """
worker_processes {workers};
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
{user}
events {{ }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream sign_in {{ server 127.0.0.1:{gunicorn_port}; keepalive 16; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port};
        root {folder}/public;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;
        location / {{
            auth_request /verify;
            auth_request_set $user $upstream_http_x_auth_request_user;
            error_page 401 = @sign_in;
        }}
        location = /verify {{
            internal;
            proxy_pass http://sign_in/verify;
            proxy_pass_request_body off;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header Content-Length "";
            proxy_set_header X-Original-URI $request_uri;
        }}
        location @sign_in {{ return 302 /auth/; }}
        location /auth/ {{ proxy_pass http://sign_in/; }}
    }}
}}
"""


@dataclass
class Server:
    """A running server, and the cookies of a signed-in browser."""

    name: str
    url: str
    processes: list[subprocess.Popen[bytes]]
    cookies: str = ""

    def sign_in(self) -> None:
        with requests.Session() as browser:
            browser.trust_env = False
            page = f"{self.url}/page.html"
            headers = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
            url = page
            for _ in range(8):
                response = browser.get(url, headers=headers, allow_redirects=False, timeout=30)
                while "/protocol/openid-connect/auth" in response.headers.get("Location", ""):
                    consent = {"decision": "allow"}
                    url = response.headers["Location"]
                    response = browser.post(url, data=consent, allow_redirects=False, timeout=30)
                if response.status_code == 200:
                    break
                url = urljoin(url, response.headers["Location"])
            self.cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies)
            response = browser.get(page, headers=headers, allow_redirects=False, timeout=30)
            assert (response.status_code, response.text) == (200, "Hello\n"), (self.name, response.text)

    def send_requests(self, number: int) -> None:
        """Send *number* requests for the page over open connections, and check each response."""
        address = (urlsplit(self.url).hostname, urlsplit(self.url).port)
        head = (
            f"GET /page.html HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\nCookie: {self.cookies}\r\n\r\n".encode()
        )
        with ExitStack() as stack:
            connections = [stack.enter_context(socket.create_connection(address)) for _ in range(CONNECTIONS)]
            for _ in range(number // CONNECTIONS):
                for connection in connections:
                    connection.sendall(head)
                for connection in connections:
                    received = b""
                    while not received.endswith(b"Hello\n"):
                        part = connection.recv(65536)
                        assert part, (self.name, received)
                        received += part
                    assert received.startswith(b"HTTP/1.1 200 "), (self.name, received)

    def cpu_time(self) -> float:
        """Return the CPU time of all processes in seconds (Documentation/scheduler/sched-stats.rst)."""
        total = 0
        for pid in _descendants({process.pid for process in self.processes}):
            for statistics in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with suppress(OSError):
                    total += int(statistics.read_text().split()[0])
        return total / 1e9


def _descendants(found: set[int]) -> set[int]:
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid, _, rest = status.read_text().partition(" (")
            parents[int(pid)] = int(rest.rpartition(") ")[2].split()[1])
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found = found | more
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        assert process.poll() is None, command
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _apache(folder: Path, port: int, provider: Keycloak) -> Iterator[Server]:
    text = APACHE_CONF.format(
        folder=folder,
        port=port,
        modules=APACHE_MODULES,
        user="User www-data\nGroup www-data" if os.getuid() == 0 else "",
        issuer=provider.issuer,
        client_id=provider.client_id,
        client_secret=provider.client_secret,
    )
    (folder / "apache.conf").write_text(text)
    command = [shutil.which("apache2") or "/usr/sbin/apache2", "-f", str(folder / "apache.conf"), "-DFOREGROUND"]
    with _running(command, port) as process:
        yield Server(APACHE, f"http://127.0.0.1:{port}", [process])


@contextmanager
def _nginx(folder: Path, port: int, provider: Keycloak, app: str = "") -> Iterator[Server]:
    settings = {
        "WSGI_OAUTH_PROVIDER": provider.issuer,
        "WSGI_OAUTH_CLIENT_ID": provider.client_id,
        "WSGI_OAUTH_CLIENT_SECRET": provider.client_secret or "",
        "WSGI_OAUTH_PUBLIC_URL": f"http://127.0.0.1:{port}/auth",
        "WSGI_OAUTH_SESSION_STORE": f"file:{folder / 'verify-sessions'}",
        "WSGI_OAUTH_TRUSTED_PROXIES": "1",
    }
    with run_application(folder / f"{port}.log", settings, WORKERS, app) as application:
        text = NGINX_CONF.format(
            folder=folder,
            port=port,
            gunicorn_port=urlsplit(application.url).port,
            workers=WORKERS,
            user="user www-data;" if os.getuid() == 0 else "",
        )
        path = folder / f"nginx-{port}.conf"
        path.write_text(text.replace("nginx.pid", f"nginx-{port}.pid"))
        with _running([shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(path)], port) as process:
            yield Server(BARE if app else VERIFY, f"http://127.0.0.1:{port}", [process, application.process])


def no_content(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Respond like ``/verify``, without looking at the request: the least that nginx and gunicorn cost."""
    start_response("204 No Content", [])
    return []


@contextmanager
def _gunicorn(folder: Path, name: str, app: str, provider: Keycloak) -> Iterator[Server]:
    settings = {
        "WSGI_OAUTH_PROVIDER": provider.issuer,
        "WSGI_OAUTH_CLIENT_ID": provider.client_id,
        "WSGI_OAUTH_CLIENT_SECRET": provider.client_secret or "",
        "WSGI_OAUTH_SESSION_STORE": f"file:{folder / 'gate-sessions'}",
    }
    with run_application(folder / f"{name}.log", settings, WORKERS, app) as application:
        yield Server(name, application.url, [application.process])


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"Hello\n"]


def create_gate() -> LoginRequired:
    """Return the application behind the gate, with the settings of the environment."""
    return LoginRequired(hello, get_app())


def compare(folder: Path, rounds: int) -> dict[str, float]:
    """Return the CPU time of a request to each server in microseconds. Servers that are not installed are left out."""
    if not (APACHE_MODULES / "mod_auth_openidc.so").exists() or not Path("/usr/sbin/nginx").exists():
        print("nginx or Apache with mod_auth_openidc is not installed: /verify is not compared", file=sys.stderr)
        return {}
    folder = folder / "proxies"
    (folder / "public").mkdir(parents=True)
    for path in (folder.parent, folder, folder / "public"):
        path.chmod(0o755)  # for the user www-data
    (folder / "public" / "page.html").write_text("Hello\n")
    ports = [_free_port() for _ in range(3)]
    costs: dict[str, list[float]] = {}
    provider = Keycloak()
    with ExitStack() as stack:
        stack.enter_context(serve_provider(provider))
        servers = [
            stack.enter_context(start)
            for start in (
                _apache(folder, ports[0], provider),
                _nginx(folder, ports[1], provider),
                _nginx(folder, ports[2], provider, f"{__name__}:no_content"),
                _gunicorn(folder, GATE, f"{__name__}:create_gate()", provider),
                _gunicorn(folder, HELLO, f"{__name__}:hello", provider),
            )
        ]
        for server in servers:
            server.sign_in()
            server.send_requests(REQUESTS)
        for _ in progress("servers", rounds):
            for server in servers:
                before = server.cpu_time()
                server.send_requests(REQUESTS)
                costs.setdefault(server.name, []).append((server.cpu_time() - before) / REQUESTS)
    return {name: 1e6 * median(values) for name, values in costs.items()}
