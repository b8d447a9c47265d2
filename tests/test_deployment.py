"""The files in examples/deployment: real proxies in front of an application that knows nothing of OAuth.

The tested files are the shipped ones. Only ports, and the paths of certificates, logs and settings are replaced.
Clients connect to the port of the proxy, whatever host name their URL has.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import runpy
import shlex
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import trustme
import urllib3
from conftest import HTML, JSON, Gunicorn, environ_for, free_port, gunicorn
from requests.adapters import HTTPAdapter

from wsgi_oauth.cli import check as check_command
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "deployment"
APP, WIKI = "https://app.example.com", "https://wiki.example.org"
DOCUMENT = (ROOT / "docs" / "deployment.md").read_text()
REFUSED = 403
PATH = f"{os.environ['PATH']}:/usr/sbin"


class GroupProvider(LocalProvider):
    """A provider whose users have groups; ``guest`` has none."""

    def user_document(self, login: str) -> dict[str, object]:
        groups = {"ann": ["crew", "staff"], "bob": ["crew"], "many": ["crew", *("x" * 90 + str(n) for n in range(300))]}
        return {**super().user_document(login), **({"groups": groups[login]} if login in groups else {})}


class Backend(BaseHTTPRequestHandler):
    """Answers each request with a description of it, as JSON."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        description = {
            "path": self.path,
            "method": self.command,
            "headers": self.headers.items(),
            "body": body.decode(),
        }
        answer = json.dumps(description).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        if self.path == "/public-data":
            self.send_header("Cache-Control", "max-age=60")
        self.end_headers()
        self.wfile.write(answer)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@dataclass
class Proxy:
    """A running proxy, and the files that it writes."""

    name: str
    port: int
    log: Path
    ca: str
    stack: Deployment


@dataclass
class Deployment:
    """The sign-in under gunicorn, the provider, and the application behind the proxies."""

    provider: GroupProvider
    server: Gunicorn
    backend: int
    folder: Path
    authority: trustme.CA


class Connector(HTTPAdapter):
    """Connects to *port* on this machine, whatever host a URL has."""

    def __init__(self, port: int) -> None:
        class Connection(urllib3.connection.HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return socket.create_connection(("127.0.0.1", port))

        class Pool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Connection

        self.pool = Pool
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"https": self.pool}


class Guest:
    """A browser that connects to all sites through *proxy*, and follows redirects."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.web = requests.Session()
        self.web.trust_env = False
        self.web.verify = proxy.ca
        self.web.mount("https://", Connector(proxy.port))
        self.trail: list[str] = []

    def send(self, url: str, method: str = "GET", **options: Any) -> requests.Response:
        """Send one request without following redirects. Names of headers have the spelling of *headers*."""
        headers = {**HTML, **options.pop("headers", {})}
        whole = url if url.startswith("http") else APP + url
        return self.web.request(method, whole, headers=headers, allow_redirects=False, timeout=60, **options)

    def raw(self, path: str) -> int:
        """Return the status of a request for *path*, which is sent unchanged."""
        with self.connect(path) as response:
            return response.status

    @contextmanager
    def connect(self, path: str, headers: Iterable[tuple[str, str]] = ()) -> Iterator[http.client.HTTPResponse]:
        """Send a request for *path* with these *headers*, all unchanged, and yield the response."""
        context = ssl.create_default_context(cafile=self.proxy.ca)
        connection = http.client.HTTPSConnection("app.example.com", context=context, timeout=60)
        plain = socket.create_connection(("127.0.0.1", self.proxy.port))
        connection.sock = context.wrap_socket(plain, server_hostname="app.example.com")
        cookies = "; ".join(
            f"{each.name}={each.value}" for each in self.web.cookies if each.domain == "app.example.com"
        )
        connection.putrequest("GET", path)
        for name, value in [*HTML.items(), ("Cookie", cookies), *headers]:
            connection.putheader(name, value)
        connection.endheaders()
        with closing(connection):
            yield connection.getresponse()

    def visit(self, url: str, user: str = "ann", until: str = "?never?") -> requests.Response:
        """Navigate to *url*, consent at the provider as *user*, and follow all redirects."""
        response, self.trail = self.send(url), [url]
        while response.is_redirect and until not in response.headers["Location"]:
            target = requests.compat.urljoin(response.url, response.headers["Location"])
            self.trail.append(target)
            assert len(self.trail) < 20, self.trail
            if target.startswith(self.proxy.stack.provider.url):
                data = {"decision": "allow", "user": user}
                response = self.web.post(target, data=data, allow_redirects=False, timeout=60)
            else:
                response = self.send(target)
        return response

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.web.close()


def shipped(name: str, **replacements: str) -> str:
    """Return the text of the file *name* of the examples after *replacements* of text, each of which must occur."""
    text = (EXAMPLES / name).read_text()
    for old, new in replacements.items():
        assert old in text, f"{name} lacks {old!r}"
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Start the sign-in with the shipped settings and configuration of gunicorn."""
    folder = tmp_path_factory.mktemp("deployment")
    provider = GroupProvider(redirect_uris=[f"{APP}/auth/callback"])
    with ExitStack() as stack:
        stack.enter_context(serve_provider(provider))
        backend = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
        stack.callback(backend.server_close)
        stack.callback(backend.shutdown)
        threading.Thread(target=backend.serve_forever, args=[0.05], daemon=True).start()
        folder.joinpath("client-secret").write_text(provider.client_secret or "")
        folder.joinpath("client-secret").chmod(0o600)
        settings = shipped(
            "settings.env",
            **{
                "/etc/wsgi-oauth": str(folder),
                "/var/lib/wsgi-oauth": str(folder),
                "=https://id.example.com": "=github",  # a preset, all endpoints of which are replaced below
                "CLIENT_ID=app": f"CLIENT_ID={provider.client_id}",
                "group:staff": "group:crew",
            },
        )
        endpoints = environ_for(provider, TOKENS="yes", METRICS="yes", SITES=WIKI, GROUPS_CLAIM="groups")
        names = {name for name in endpoints if f"{name}=" not in settings and not name.endswith("_CLIENT_SECRET")}
        folder.joinpath("settings.env").write_text(
            settings + "".join(f"{name}='{endpoints[name]}'\n" for name in sorted(names))
        )
        configuration = shipped("gunicorn.conf.py", **{"/etc/wsgi-oauth": str(folder)})
        folder.joinpath("gunicorn.conf.py").write_text(configuration)
        server = stack.enter_context(gunicorn(folder, {"WEB_CONCURRENCY": "2"}, app=None, cwd=folder))
        # Otherwise each test would wait for an answer, for example if a package is missing.
        assert server.process.poll() is None, server.log.read_text()
        yield Deployment(provider, server, backend.server_address[1], folder, trustme.CA())


@contextmanager
def started(command: list[str], folder: Path, port: int) -> Iterator[None]:
    """Start a proxy, and wait until its *port* accepts connections."""
    output = folder / "output"
    with output.open("w") as file:
        environ = {**os.environ, "HOME": str(folder), "PATH": PATH}
        environ.pop("XDG_DATA_HOME", None)
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=folder, env=environ)
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def nginx(
    deployment: Deployment,
    folder: Path,
    certificate: dict[str, str],
    *,
    root: Path | None = None,
    settings: str = "client_max_body_size 2m;",
    main: str = "",
) -> Iterator[Proxy]:
    """Start nginx with a server block for each of the two sites, as docs/deployment.md says.

    :param settings: directives in the location of the application.
    :param main: directives in the main file.
    """
    port = free_port()
    application = "proxy_pass http://127.0.0.1:3000;"
    replacements = {
        f"location / {{\n        {application}": "location / { "
        + (f"root {root};" if root else f"{settings} {application}"),
        "127.0.0.1:8000": urlsplit(deployment.server.url).netloc,
        "127.0.0.1:3000": f"127.0.0.1:{deployment.backend}",
        "/etc/ssl/app.example.com/fullchain.pem": certificate["chain"],
        "/etc/ssl/app.example.com/privkey.pem": certificate["key"],
        "/var/log/nginx/app.example.com.log": str(folder / "access"),
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "listen 80": f"listen 127.0.0.1:{free_port()}",
        "/var/www/html;": f"{folder};",
    }
    sites = shipped("nginx.conf", **replacements)
    if root:  # a site without a part that has rules of its own
        sites, removed = re.subn(r"location \^~ /reports/ {.*?}", "", sites, flags=re.DOTALL)
        assert removed
    server = sites[sites.index("server {\n    listen", sites.index("return 301")) :]
    folder.joinpath("sites.conf").write_text(sites + server.replace("app.example.com", "wiki.example.org"))
    folder.joinpath("snippets").mkdir()
    for snippet in EXAMPLES.glob("nginx-*.conf"):
        shutil.copy(snippet, folder / "snippets")
    temporary = "".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    folder.joinpath("nginx.conf").write_text(
        "daemon off; master_process off; error_log stderr; pid pid; events {}\n"
        f"http {{ {temporary} {main} include sites.conf; }}"
    )
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    with started(command, folder, port):
        yield Proxy("nginx", port, folder / "access", certificate["ca"], deployment)


@contextmanager
def caddy(deployment: Deployment, folder: Path, certificate: dict[str, str]) -> Iterator[Proxy]:
    """Start Caddy with a block for each of the two sites. Caddy would get the certificates from the internet."""
    port = free_port()
    replacements = {
        "127.0.0.1:8000": urlsplit(deployment.server.url).netloc,
        "127.0.0.1:3000": f"127.0.0.1:{deployment.backend}",
        "app.example.com {": f"app.example.com, wiki.example.org {{\n\ttls {certificate['chain']} {certificate['key']}",
        "\tlog {": f"\tlog {{\n\t\toutput file {folder / 'access'}",
    }
    options = f"{{\n\tadmin off\n\thttps_port {port}\n\thttp_port {free_port()}\n}}\n"
    folder.joinpath("Caddyfile").write_text(options + shipped("Caddyfile", **replacements))
    with started(["caddy", "run"], folder, port):
        yield Proxy("caddy", port, folder / "access", certificate["ca"], deployment)


@contextmanager
def apache2(
    deployment: Deployment, folder: Path, certificate: dict[str, str], *, application: str = "", modules: str = ""
) -> Iterator[Proxy]:
    """Start Apache with a virtual host for each of the two sites.

    :param application: directives in place of those that pass requests on to an application.
    :param modules: the names of the modules that they need.
    """
    port = free_port()
    replacements = {
        "127.0.0.1:8000": urlsplit(deployment.server.url).netloc,
        "127.0.0.1:3000": f"127.0.0.1:{deployment.backend}",
        "/etc/ssl/app.example.com/fullchain.pem": certificate["chain"],
        "/etc/ssl/app.example.com/privkey.pem": certificate["key"],
        "/var/log/apache2/app.example.com.log": str(folder / "access"),
        "/etc/apache2": str(folder),
        "*:443": f"*:{port}",
    }
    host = shipped("apache.conf", **replacements)
    if application:
        host = re.sub(r"ProxyPass / .*", lambda _: application, host)
    folder.joinpath("hosts.conf").write_text(host + host.replace("app.example.com", "wiki.example.org"))
    folder.joinpath("wsgi-oauth.lua").write_text(
        shipped("apache.lua", **{"127.0.0.1:8000": urlsplit(deployment.server.url).netloc})
    )
    enabled = re.search(r"a2enmod (.*)", host)
    assert enabled
    # Debian enables the first four, and the fifth one together with ssl.
    standard = ["mpm_event", "authz_core", "setenvif", "alias", "socache_shmcb"]
    names = [*standard, *enabled[1].split(), *modules.split()]
    loaded = "".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in names)
    folder.joinpath("apache.conf").write_text(
        f"ServerName localhost\nServerRoot {folder}\nListen 127.0.0.1:{port}\nPidFile pid\nErrorLog /dev/stderr\n"
        f"Mutex pthread\n{loaded}Include hosts.conf\n"
    )
    with started(["apache2", "-X", "-f", str(folder / "apache.conf")], folder, port):
        yield Proxy("apache2", port, folder / "access", certificate["ca"], deployment)


@contextmanager
def running(start: Callable[..., Any], deployment: Deployment, folder: Path) -> Iterator[Proxy]:
    """Start a proxy with a certificate for both sites. Without it on the machine tests skip, and in CI they fail."""
    program = getattr(start, "func", start).__name__
    missing = [program] if shutil.which(program, path=PATH) is None else []
    if program == "apache2" and not list(Path("/usr/share/lua").glob("*/socket")):
        missing.append("lua-socket")
    if missing:
        what = f"not installed (Debian: apt-get install {' '.join(missing)})"
        pytest.fail(what) if os.environ.get("CI") else pytest.skip(what)
    issued = deployment.authority.issue_cert("app.example.com", "wiki.example.org")
    certificate = {kind: str(folder / f"{kind}.pem") for kind in ("ca", "chain", "key")}
    deployment.authority.cert_pem.write_to_path(certificate["ca"])
    issued.private_key_pem.write_to_path(certificate["key"])
    for pem in issued.cert_chain_pems:
        pem.write_to_path(certificate["chain"], append=True)
    with start(deployment, folder, certificate) as proxy:
        yield proxy


@pytest.fixture(scope="module", params=[nginx, caddy, apache2], ids=["nginx", "caddy", "apache2"])
def proxy(
    request: pytest.FixtureRequest, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    with running(request.param, deployment, tmp_path_factory.mktemp(request.param.__name__)) as proxy:
        yield proxy


@pytest.fixture
def guest(proxy: Proxy) -> Iterator[Guest]:
    """A browser without cookies."""
    with Guest(proxy) as guest:
        yield guest


@pytest.fixture(scope="module")
def ann(proxy: Proxy) -> Iterator[Guest]:
    """The browser of a signed-in member of the staff."""
    with Guest(proxy) as ann:
        assert ann.visit("/").status_code == 200
        yield ann


@pytest.fixture(scope="module")
def bob(proxy: Proxy) -> Iterator[Guest]:
    """The browser of a signed-in user who is not a member of the staff."""
    with Guest(proxy) as bob:
        assert bob.visit("/", user="bob").status_code == 200
        yield bob


def identity(response: requests.Response) -> dict[str, str]:
    """Return the headers that name the user to the backend; each may occur once, in any spelling.

    PHP and others do not distinguish ``X-A``, ``X_A`` and ``X.A``, and lighttpd replaces every sign by ``_``.
    """
    assert response.status_code == 200, response.text
    found = [(re.sub("[^a-z0-9]", "-", name.lower()), value) for name, value in response.json()["headers"]]
    named = [(name, value) for name, value in found if name.startswith("x-auth")]
    assert len(dict(named)) == len(named), named
    return {name.removeprefix("x-auth-request-"): value for name, value in named}


class TestUser:
    def test_returns_to_the_exact_page_after_the_sign_in(self, guest: Guest):
        page = "/d/a%2Fb%20c%252Fd/?q=%C3%BC&x=1+2&next=%2F"
        response = guest.visit(page)
        assert response.url == APP + page
        assert response.json()["path"] == page

    def test_is_named_in_headers(self, ann: Guest):
        """The provider does not say that the address is verified, so there is none."""
        named = identity(ann.send("/"))
        assert named.pop("user").endswith("@127.0.0.1+3A" + ann.proxy.stack.provider.url.rpartition(":")[2])
        assert named == {"preferred-username": "ann", "groups": "crew,staff"}

    def test_has_thirty_thousand_characters_of_groups(self, guest: Guest):
        assert len(identity(guest.visit("/", user="many"))["groups"]) > 27_000

    def test_sends_a_form_to_the_application(self, ann: Guest):
        response = ann.send("/form?x=1", "POST", data={"text": "a" * 1_500_000}).json()
        assert (response["method"], response["path"]) == ("POST", "/form?x=1")
        assert response["body"] == "text=" + "a" * 1_500_000

    def test_may_have_large_cookies_of_the_application(self, ann: Guest):
        assert ann.send("/", cookies={"application": "x" * 12_000}).status_code == 200

    def test_gets_nothing_that_a_shared_cache_may_store_unless_the_application_says_so(self, ann: Guest):
        """Some content delivery networks store files by their extension, and give them to everybody."""
        assert ann.send("/report.pdf").headers["Cache-Control"] == "private, no-cache"
        assert ann.send("/public-data").headers["Cache-Control"] == "max-age=60"
        assert ann.send("/auth/profile").headers["Cache-Control"] == "no-store"

    def test_sends_a_host_with_its_port_to_the_application(self, ann: Guest):
        """Otherwise an application that compares the Origin of a form with the Host would refuse its own forms."""
        response = ann.send("/", headers={"Host": "app.example.com:8443"}).json()
        headers = {name.lower(): value for name, value in response["headers"]}
        assert (headers["host"], headers["x-forwarded-host"]) == ("app.example.com:8443",) * 2

    def test_opens_a_websocket(self, ann: Guest):
        response = ann.send("/", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
        headers = {name.lower(): value.lower() for name, value in response.json()["headers"]}
        assert (headers["upgrade"], headers["connection"]) == ("websocket", "upgrade")

    def test_does_not_show_credentials_to_the_application(self, ann: Guest):
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in ann.web.cookies if cookie.domain in APP)
        with_port = "__Host-wsgi_oauth_8443=of-a-public-URL-with-this-port"
        for cookie in (
            f"theme=dark; {cookies}",
            f"{cookies}; theme=dark",
            f"{cookies};theme=dark",
            f"{with_port}; {cookies}; theme=dark",
        ):
            headers = dict(ann.send("/", headers={"Cookie": cookie, "Authorization": "Basic abc"}).json()["headers"])
            assert headers["Cookie"].replace("wsgi_oauth=removed", "").strip("; ") == "theme=dark"
            assert "Authorization" not in headers

    def test_without_a_matching_group_gets_a_page_that_explains_it(self, guest: Guest):
        response = guest.visit("/page", user="eve")
        assert response.status_code == REFUSED
        assert f"{APP}/auth/?switch" in response.text

    @pytest.mark.parametrize(
        "path",
        [
            *("/reports/a", "//reports/a", "/x/../reports/a", "/%72eports/a", "/./reports/a"),
            *("/reports%2fa", "/reports%2Fa", "/%2freports/a", "/x%2f..%2freports/a", "/reports/a%2fb"),
        ],
    )
    def test_needs_the_group_of_a_part_of_the_site(self, bob: Guest, ann: Guest, path: str):
        """Each spelling of the path gets the same rule."""
        assert bob.raw(path) == REFUSED
        assert ann.raw(path) == 200
        assert bob.send("/page").status_code == 200

    def test_can_have_a_page_with_the_query_of_a_rule(self, bob: Guest):
        """A client cannot write the rules: the query of its URL does not become the query of /verify."""
        assert bob.send("/page?allow=group:staff&allow=nonsense").status_code == 200

    def test_needs_the_group_also_without_the_slash_at_the_end(self, bob: Guest):
        """nginx redirects to the path with the slash."""
        assert bob.raw("/reports") in {301, REFUSED}

    def test_signs_out(self, guest: Guest):
        guest.visit("/")
        assert guest.send("/auth/logout", "POST", headers={"Origin": APP}).status_code == 303
        assert guest.send("/").headers["Location"] == f"{APP}/auth/?next=%2F"


class TestProgram:
    def test_passes_with_an_access_token(self, ann: Guest, guest: Guest):
        form = {"name": "backup", "lifetime": "1d"}
        created = ann.send("/auth/tokens", "POST", json=form, headers={**JSON, "Origin": APP})
        response = guest.send("/", headers={"Authorization": f"Bearer {created.json()['token']}", **JSON})
        assert identity(response)["preferred-username"] == "ann"
        assert "authorization" not in {name.lower() for name, _ in response.json()["headers"]}

    def test_gets_the_url_of_the_sign_in_as_json(self, guest: Guest):
        response = guest.send("/api", headers={**JSON, "Sec-Fetch-Mode": "cors"})
        assert (response.status_code, "Location" in response.headers) == (401, False)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert response.json()["login_url"].startswith(f"{APP}/auth/")

    def test_cannot_send_a_form_without_access(self, guest: Guest):
        response = guest.send("/form", "POST", data={"text": "a" * 100_000})
        assert (response.status_code, "Location" in response.headers) == (401, False)


class TestAttacker:
    @pytest.mark.parametrize("separator", "!#$%&'*+-.^_`|~")  # all signs in names of headers (RFC 9110 5.6.2)
    def test_cannot_forge_identity_headers(self, ann: Guest, guest: Guest, separator: str):
        """S64: the email address of this user is not known, so nothing replaces the forged header."""
        names = ("X-Auth-Request-Email", "X-Auth-Request-User", "X-Auth-Request-Groups")
        forged = {name.replace("-", separator, count): "forged" for name in names for count in (1, 2, 3)}
        assert "forged" not in identity(ann.send("/", headers=forged)).values()
        assert guest.send("/", headers=forged).is_redirect

    @pytest.mark.parametrize("connection", ["X-Auth-Request-User", "close, x-auth-request-USER ,X-Auth-Request-Groups"])
    def test_does_not_let_the_proxy_remove_identity_headers(self, bob: Guest, connection: str):
        """RFC 9110 7.6.1: proxies remove the headers that Connection names, so the user would act without a name."""
        named = identity(bob.send("/", headers={"Connection": connection}))
        assert named.keys() >= {"user", "groups"}

    @pytest.mark.parametrize(
        "protocols", [("h2c",), ("websocket, h2c",), ("h2c", "websocket"), ("websocket", "h2c")], ids="+".join
    )
    def test_cannot_send_http_2_to_the_application(self, bob: Guest, protocols: tuple[str, ...]):
        """Otherwise later requests on this connection would bypass /verify, and could name any user (RFC 7540 3.2)."""
        headers = [("Upgrade", protocol) for protocol in protocols]
        headers += [("Connection", "Upgrade, HTTP2-Settings"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")]
        with bob.connect("/", headers) as response:
            seen = [value.lower() for name, value in json.load(response)["headers"] if name.lower() == "upgrade"]
        assert seen in ([], ["websocket"])

    @pytest.mark.parametrize(
        "forged",
        [
            {"X-Forwarded-Uri": "/other"},
            {"X-Forwarded-Uri": "https://evil.example/", "X-Forwarded-Method": "OPTIONS"},
            {"X-Forwarded-Host": "wiki.example.org"},
            {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"},
            {"X-Original-URI": "/other", "X-Original-URL": f"{APP}/other", "X-Original-Method": "OPTIONS"},
            {"X-Forwarded-Method": "POST"},
            {"X-Forwarded-Prefix": "/other", "Forwarded": "host=evil.example;proto=http"},
        ],
        ids=" ".join,
    )
    def test_changes_nothing_with_forged_headers_of_the_proxy(self, ann: Guest, guest: Guest, forged: dict[str, str]):
        """S35"""
        response = guest.send("/page?x=1", headers=forged)
        assert (response.status_code, response.headers["Location"]) == (302, f"{APP}/auth/?next=%2Fpage%3Fx%3D1")
        signed_in = ann.send("/page?x=1", headers=forged).json()
        assert signed_in["path"] == "/page?x=1"

    def test_does_not_choose_the_id_of_a_request_in_the_log(self, bob: Guest):
        forged = {"X-Request-ID": "that-of-another"}
        pages = bob.send("/reports/", headers=forged), bob.send("/auth/unknown", headers=forged)
        assert [page.status_code for page in pages] == [403, 404]
        assert "that-of-another" not in str([(page.text, page.headers) for page in pages])
        assert "that-of-another" not in str(bob.send("/", headers=forged).json())

    @pytest.mark.parametrize("is_direct", [False, True], ids=["through the proxy", "directly"])
    def test_gains_nothing_by_a_stolen_ticket(self, proxy: Proxy, guest: Guest, is_direct: bool):
        """S66: only the browser that has requested the ticket has the cookie of its state."""
        stolen = guest.visit(f"{WIKI}/page", until="/redeem?").headers["Location"]
        with Guest(proxy) as attacker:
            if is_direct:
                path = stolen.removeprefix(f"{WIKI}/auth")
                response = attacker.web.get(
                    proxy.stack.server.url + path, headers={**HTML, "Host": urlsplit(WIKI).netloc}
                )
            else:
                response = attacker.send(stolen)
            assert response.status_code == 400
            assert not attacker.web.cookies
            assert attacker.send(f"{WIKI}/page").is_redirect
        assert guest.send(stolen).headers["Location"].startswith(f"{WIKI}/auth/?")  # the sign-in starts again

    def test_gains_nothing_by_the_cookie_of_another_site(self, guest: Guest):
        guest.visit(f"{WIKI}/page")
        cookies = {cookie.domain: f"{cookie.name}={cookie.value}" for cookie in guest.web.cookies}
        guest.web.cookies.clear()
        stolen = cookies["wiki.example.org"]
        assert guest.send(f"{WIKI}/page", headers={"Cookie": stolen}).status_code == 200
        assert guest.send("/page", headers={"Cookie": stolen}).is_redirect

    def test_does_not_see_the_metrics(self, ann: Guest):
        for connection in ("keep-alive", "X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto"):
            assert ann.send("/auth/metrics", headers={"Connection": connection}).status_code == 404
        assert requests.get(f"{ann.proxy.stack.server.url}/metrics", timeout=60).status_code == 200


def test_nobody_gains_anything_by_headers_of_a_proxy_at_gunicorn_itself(deployment: Deployment):
    """A client that can connect to gunicorn is a trusted proxy, but cannot name a user or redirect to another site."""
    forged = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "https://evil.example/", "X-Auth-Request-User": "ann"}
    with requests.Session() as web:
        url = f"{deployment.server.url}/verify"
        response = web.get(url, headers={**HTML, **forged, "Host": "app.example.com"}, allow_redirects=False)
        assert (response.status_code, response.headers["Location"]) == (302, f"{APP}/auth/?next=")
        assert not [name for name in response.headers if name.startswith("X-Auth")]
        response = web.get(url, headers={**forged, "X-Forwarded-Host": "evil.example"}, allow_redirects=False)
        assert (response.status_code, "Location" in response.headers) == (400, False)


class TestSites:
    def test_a_user_of_one_site_needs_no_second_sign_in_on_another(self, guest: Guest):
        guest.visit("/")
        page = f"{WIKI}/d/a%2Fb?x=1"
        response = guest.visit(page)
        assert (response.url, identity(response)["preferred-username"]) == (page, "ann")
        assert not [url for url in guest.trail if url.startswith(guest.proxy.stack.provider.url)]

    def test_sign_out_on_one_site_is_a_sign_out_on_all(self, guest: Guest):
        guest.visit(f"{WIKI}/page")
        assert guest.visit("/").status_code == 200
        guest.send(f"{WIKI}/auth/logout", "POST", headers={"Origin": WIKI})
        assert guest.send(f"{WIKI}/page").is_redirect
        assert guest.send("/").is_redirect


class TestProxy:
    def test_logs_no_query_string(self, proxy: Proxy, guest: Guest):
        """S50: the page, the callback with its code, the hand-over with its ticket, and the page again."""
        guest.visit(f"{WIKI}/page?secret=1")
        guest.send("/the-last", headers={"Referer": f"{APP}/?secret=1"})
        deadline = time.monotonic() + 60
        while "/the-last" not in (log := proxy.log.read_text()):
            assert time.monotonic() < deadline, log
        assert {"/auth/callback", "/auth/redeem", "/page"} <= set(re.findall(r"/[a-z/-]+(?=\")", log))
        assert not re.search("secret|code=|ticket|state=", log)

    def test_closes_the_connection_of_a_client_that_asks_for_it(self, guest: Guest):
        """RFC 9112 9.6: some clients, such as PHP's `file_get_contents`, read until the end of the connection."""
        with guest.connect("/", [("Connection", "Close")]) as response:
            assert response.getheader("Connection") == "close"

    def test_passes_the_public_check(self, proxy: Proxy, monkeypatch: pytest.MonkeyPatch):
        """`wsgi-oauth check --public` finds no mistake in the shipped configuration."""
        lookup = socket.getaddrinfo

        def at_the_proxy(host: str, *args: Any, **kwargs: Any) -> Any:
            if host in {urlsplit(APP).netloc, urlsplit(WIKI).netloc}:
                return lookup("127.0.0.1", proxy.port)
            return lookup(host, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", at_the_proxy)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", proxy.ca)
        text = proxy.stack.folder.joinpath("settings.env").read_text()
        settings = dict(line.split("=", 1) for line in shlex.split(text, comments=True))
        found = list(check_command.findings(settings, public=True))
        assert [finding for finding in found if finding.level == "FAIL"] == []
        assert len([finding for finding in found if WIKI in finding.text or "trusted proxies: 1" in finding.text]) > 1


@pytest.mark.parametrize("start", [nginx, caddy, apache2])
def test_a_proxy_refuses_every_request_while_gunicorn_does_not_run(
    start: Callable[..., Any], deployment: Deployment, tmp_path: Path
):
    stopped = replace(deployment.server, url=f"http://127.0.0.1:{free_port()}")
    with running(start, replace(deployment, server=stopped), tmp_path) as proxy, Guest(proxy) as guest:
        assert guest.send("/page").status_code in {502, 503}


def test_an_attacker_does_not_fill_the_disk_of_nginx_with_a_body_of_unknown_length(
    deployment: Deployment, tmp_path: Path
):
    """S48: nginx stores the body of a refused client before it asks for the answer."""
    with running(nginx, deployment, tmp_path) as proxy, Guest(proxy) as guest:
        response = guest.send("/form", "POST", data=iter([b"a" * 1_500_000]))
    assert (response.status_code, "Location" in response.headers) == (413, False)


@pytest.mark.parametrize("main", ["underscores_in_headers on;", "ignore_invalid_headers off;"])
def test_nginx_does_not_start_with_a_setting_that_lets_clients_forge_headers(
    deployment: Deployment, tmp_path: Path, main: str
):
    """S64: WSGI, CGI and PHP cannot distinguish `X_Auth_Request_User` from `X-Auth-Request-User`."""
    with (
        pytest.raises(AssertionError, match=f'"{main.partition(" ")[0]}" directive is duplicate'),
        running(partial(nginx, main=main), deployment, tmp_path),
    ):
        pass


def test_a_program_that_apache_runs_finds_the_user_in_remote_user(deployment: Deployment, tmp_path: Path):
    """Nagios, gitweb, Subversion and PHP read it. Apache calls the script again for an index and a rewritten path."""
    site = tmp_path / "site"
    site.joinpath("reports").mkdir(parents=True)
    program = site / "index.cgi"
    program.write_text(
        f"#!{sys.executable}\nimport json, os\n"
        "print('Content-Type: application/json\\n')\nprint(json.dumps(dict(os.environ)))\n"
    )
    program.chmod(0o700)
    shutil.copy(program, site / "reports")
    directives = (
        f"DocumentRoot {site}\n<Directory {site}>\nRequire all granted\nOptions ExecCGI FollowSymLinks\n"
        "DirectoryIndex index.cgi\nRewriteEngine On\nRewriteRule ^wiki/ /index.cgi [L]\n"
        "RewriteRule ^short$ /reports/index.cgi [L]\nRewriteRule ^old/ /wiki/a [L]\n</Directory>\n"
        "<FilesMatch cgi$>\nSetHandler cgi-script\n</FilesMatch>"
    )
    start = partial(apache2, application=directives, modules="cgi dir rewrite")
    with running(start, deployment, tmp_path) as proxy, Guest(proxy) as ann, Guest(proxy) as bob:
        assert bob.visit("/", user="bob").status_code == 200
        seen = ann.visit("/").json()
        assert seen["REMOTE_USER"] == seen["HTTP_X_AUTH_REQUEST_USER"]
        assert "HTTP_COOKIE" not in seen
        for page in ("/index.cgi", "/index.cgi/a/b", "/wiki/a", "/old/a", "/reports/"):
            assert ann.send(page).json()["REMOTE_USER"] == seen["REMOTE_USER"], page
            assert bob.send(page).status_code == (REFUSED if page == "/reports/" else 200), page
        assert ann.send("/short").status_code == REFUSED  # the user has satisfied the rules of another path
    assert "SIGN_IN_RULES" in tmp_path.joinpath("output").read_text()


def test_an_application_with_fastcgi_sees_no_forged_header(deployment: Deployment, tmp_path: Path):
    """S64: nginx passes all headers of a client on to it, as the variables HTTP_*."""

    class FastCgi(socketserver.StreamRequestHandler):
        """Answers with the variables of a request: each name with its value behind it (FastCGI 1.0, 3.4)."""

        def handle(self) -> None:
            variables, kind = b"", 0
            while kind != 5:  # FCGI_STDIN, which is empty
                _, kind, _, length, padding = struct.unpack(">BBHHBx", self.rfile.read(8))
                content = self.rfile.read(length + padding)[:length]
                variables += content if kind == 4 else b""  # FCGI_PARAMS
            for kind, content in ((6, b"Content-Type: text/plain\r\n\r\n" + variables), (3, bytes(8))):
                self.wfile.write(struct.pack(">BBHHBx", 1, kind, 1, len(content), 0) + content)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), FastCgi) as application:
        threading.Thread(target=application.serve_forever, args=[0.05], daemon=True).start()
        location = (
            f"include snippets/nginx-sign-in-fastcgi.conf; fastcgi_pass 127.0.0.1:{application.server_address[1]};"
        )
        settings = f"}} location /php/ {{ {location} }} location /other/ {{"
        with running(partial(nginx, settings=settings), deployment, tmp_path) as proxy, Guest(proxy) as guest:
            forged = {f"X-Auth-Request-{name}": "evil" for name in ("User", "Email", "Preferred-Username", "Groups")}
            assert guest.visit("/php/", user="bob").status_code == 200
            guest.web.cookies.set("own", "1", domain="app.example.com")
            variables = guest.send("/php/", headers={**forged, "Authorization": "Bearer evil"}).content
        application.shutdown()
    assert re.search(rb"HTTP_X_AUTH_REQUEST_USER\S+@", variables)
    assert b"HTTP_COOKIEown=1" in variables
    assert b"evil" not in variables


def test_nginx_names_the_first_answer_when_it_asks_again(deployment: Deployment, tmp_path: Path):
    """The session store has failed for a moment: without the first answer, a 204 would follow it."""

    class SignIn(Backend):
        def do_GET(self) -> None:
            first_answer = self.headers["X-Refused-Status"]
            self.send_response(503 if first_answer is None else 418)
            self.send_header("X-First-Answer", str(first_answer))
            self.send_header("Content-Length", "0")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), SignIn) as sign_in:
        threading.Thread(target=sign_in.serve_forever, args=[0.05], daemon=True).start()
        server = replace(deployment.server, url=f"http://127.0.0.1:{sign_in.server_address[1]}")
        with running(nginx, replace(deployment, server=server), tmp_path) as proxy, Guest(proxy) as guest:
            response = guest.send("/form", "POST", data="a=b", headers={"X-Refused-Status": "7"})
        sign_in.shutdown()
    assert (response.status_code, response.headers["X-First-Answer"]) == (418, "503")


def test_a_location_of_nginx_for_file_names_takes_no_page_from_a_part_with_rules(
    deployment: Deployment, tmp_path: Path
):
    own = "proxy_pass http://127.0.0.1:3000; } location ~ \\.pdf$ {"
    with running(partial(nginx, settings=own), deployment, tmp_path) as proxy, Guest(proxy) as bob:
        assert bob.visit("/a.pdf", user="bob").status_code == 200
        assert bob.send("/reports/a.pdf").status_code == REFUSED


def test_a_location_of_nginx_can_show_its_application_the_tokens_of_users(deployment: Deployment, tmp_path: Path):
    own = "set $passed_authorization $http_authorization;"
    with running(partial(nginx, settings=own), deployment, tmp_path) as proxy, Guest(proxy) as ann:
        assert ann.visit("/").status_code == 200
        headers = ann.send("/api", headers={"Authorization": "Bearer own"}).json()["headers"]
        assert ["Authorization", "Bearer own"] in headers


class TestFolderOfNginx:
    """`root` in place of `proxy_pass`."""

    @pytest.fixture
    def guest(self, deployment: Deployment, tmp_path: Path) -> Iterator[Guest]:
        tmp_path.joinpath("empty").mkdir()
        tmp_path.joinpath("page.html").write_text("a page")
        with running(partial(nginx, root=tmp_path), deployment, tmp_path) as proxy, Guest(proxy) as guest:
            yield guest

    def test_is_protected(self, guest: Guest):
        assert guest.send("/page.html").headers["Location"] == f"{APP}/auth/?next=%2Fpage.html"
        assert guest.visit("/page.html").text == "a page"

    def test_adds_a_missing_slash_without_scheme_and_port(self, guest: Guest):
        """Behind a load balancer, those of nginx are not those of the browser."""
        guest.visit("/page.html")
        assert guest.send("/empty").headers["Location"] == "/empty/"

    def test_refuses_to_list_a_folder(self, guest: Guest):
        """nginx answers with 403, for which the recipe has a page of the sign-in only if /verify refuses the user."""
        assert guest.visit("/empty/").status_code == REFUSED
        assert guest.visit("/missing").status_code == 404

    def test_is_open_over_http_for_the_challenge_for_a_certificate(self, guest: Guest, tmp_path: Path):
        challenge = tmp_path / ".well-known" / "acme-challenge" / "token"
        challenge.parent.mkdir(parents=True)
        challenge.write_text("answer")
        [port] = re.findall(r"listen 127\.0\.0\.1:(\d+);", (tmp_path / "sites.conf").read_text())
        get = partial(guest.web.get, headers={"Host": "app.example.com"}, allow_redirects=False, timeout=60)
        assert get(f"http://127.0.0.1:{port}/.well-known/acme-challenge/token").text == "answer"
        assert get(f"http://127.0.0.1:{port}/page?q=1").headers["Location"] == f"{APP}/page?q=1"


class TestSettingsFile:
    """settings.env, which gunicorn.conf.py reads, and for `wsgi-oauth check` a shell."""

    @pytest.fixture
    def read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
        """Return the settings that gunicorn finds in a text."""
        configuration = tmp_path / "gunicorn.conf.py"
        configuration.write_text(shipped("gunicorn.conf.py", **{"/etc/wsgi-oauth": str(tmp_path)}))
        monkeypatch.setattr("os.environ", dict(os.environ))

        def read(text: str) -> list[str]:
            tmp_path.joinpath("settings.env").write_text(text)
            return list(runpy.run_path(str(configuration))["raw_env"])

        return read

    def test_settings_are_those_that_a_shell_reads(self, read: Callable[[str], list[str]], tmp_path: Path):
        values = [
            "group:c#devs",
            """'group:"Domain Admins"'""",
            r'"a \" b \\ c \d"',
            r"a\ b",
            "'$1 & `2`'",
            "",
            "x'y'\"z\"",
        ]
        lines = [f"export T{number}={value}  # it's a comment" for number, value in enumerate(values)]
        found = read("\n".join(["# it's a comment", "", *lines]))
        script = f"set -a; . {tmp_path}/settings.env; env -0"
        printed = subprocess.run(["sh", "-c", script], env={}, capture_output=True, text=True, timeout=60, check=True)
        assert len(found) == len(values)
        assert set(found) <= set(printed.stdout.split("\0"))

    @pytest.mark.parametrize("line", ["A=group:a group:b", 'A="b', "A b", "A=$HOME", 'A="$HOME"', "A=b&c=d", "A=`id`"])
    def test_line_that_a_shell_reads_differently_stops_gunicorn_with_its_number(
        self, read: Callable[[str], list[str]], line: str
    ):
        with pytest.raises(SystemExit, match=r"settings\.env, line 2: must be NAME=value; put special characters in"):
            read(f"A=b\n{line}\n")

    def test_byte_order_mark_of_an_editor_is_named(self, read: Callable[[str], list[str]]):
        """A shell reads it as a part of the first name."""
        with pytest.raises(SystemExit, match=r"settings\.env, line 1: .*; save the file without a byte order mark"):
            read("\ufeffA=b\n")

    def test_lines_may_end_as_on_windows(self, read: Callable[[str], list[str]]):
        assert read("A=b\r\nC=d\r\n") == ["A=b", "C=d"]


class TestDocument:
    """The commands in docs/deployment.md."""

    @pytest.fixture
    def run(self, deployment: Deployment) -> Callable[..., str]:
        """Run a block of commands, as an administrator whose files are in *folder*."""

        def run(mark: str, folder: Path) -> str:
            found = re.search(rf"<!-- {mark} -->\n *```sh\n(.*?)```", DOCUMENT, re.DOTALL)
            assert found, mark
            script = re.sub(r"sudo (-u \S+ )?", "", found[1]).replace("/opt/wsgi-oauth/share/doc/wsgi-oauth", str(ROOT))
            script = script.replace("/opt/wsgi-oauth/bin/wsgi-oauth", f"{sys.executable} -m wsgi_oauth")
            script = script.replace("/etc/wsgi-oauth", str(folder)).replace("/etc/", f"{folder}/")
            environ = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_OAUTH_")}
            done = subprocess.run(
                ["sh", "-euc", script], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        return run

    def test_copies_every_file_to_the_place_that_the_file_names(self, run: Callable[..., str], tmp_path: Path):
        run("copy", tmp_path)
        copied = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
        assert copied == {
            *("gunicorn.conf.py", "settings.env", "systemd/system/wsgi-oauth.service"),
            *("nginx/snippets/nginx-sign-in.conf", "nginx/snippets/nginx-sign-in-fastcgi.conf"),
            "nginx/conf.d/app.example.com.conf",
        }

    def test_checks_the_settings_in_the_file(self, run: Callable[..., str], deployment: Deployment):
        assert f"redirect URI: register exactly this URL: {APP}/auth/callback" in run("check", deployment.folder)


def test_traefik_prefers_the_sign_in_to_the_application():
    """Traefik takes the matching router with the highest priority, by default the length of its rule."""
    found = re.findall(
        r"^    ([\w-]+):\n      rule: (.+)\n(?:      priority: (\d+)\n)?",
        (EXAMPLES / "traefik.yml").read_text(),
        re.MULTILINE,
    )
    order = sorted(found, key=lambda router: int(router[2] or len(router[1])), reverse=True)
    assert [name for name, *_ in order] == ["sign-in", "reports", "application"]


class TestImage:
    """The commands of the Dockerfile, outside of a container."""

    def command(self, instruction: str) -> list[str]:
        found = re.search(rf"{instruction}.*?(\[.*)", (EXAMPLES / "Dockerfile").read_text())
        assert found
        program, *arguments = json.loads(found[1])
        return [str(Path(sys.executable).parent / Path(program).name), *arguments]

    def test_starts_the_server(self, tmp_path: Path):
        environ = {"PATH": PATH, "WSGI_OAUTH_CLIENT_ID": "id", "WSGI_OAUTH_CLIENT_SECRET": "secret"}
        environ |= {"GUNICORN_CMD_ARGS": "--bind=0.0.0.0:8000", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*self.command("\nCMD"), "--print-config"],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert re.search(r"^bind +.*0\.0\.0\.0:8000", done.stdout, re.MULTILINE)
        assert re.search(r"^wsgi_app += wsgi_oauth:get_app\(\)$", done.stdout, re.MULTILINE)

    def test_is_healthy_while_the_server_answers(self, deployment: Deployment):
        python, option, code = self.command("HEALTHCHECK")
        for address, status in ((urlsplit(deployment.server.url).netloc, 0), (f"127.0.0.1:{free_port()}", 1)):
            command = [python, option, code.replace("127.0.0.1:8000", address)]
            done = subprocess.run(command, stderr=subprocess.DEVNULL, timeout=60, check=False)
            assert done.returncode == status


class TestUnit:
    """The unit for systemd."""

    @pytest.fixture
    def unit(self, tmp_path: Path) -> Path:
        if shutil.which("systemd-analyze") is None:
            what = "not installed (Debian: apt-get install systemd)"
            pytest.fail(what) if os.environ.get("CI") else pytest.skip(what)
        unit = tmp_path / "wsgi-oauth.service"
        unit.write_text(shipped("wsgi-oauth.service", **{"/opt/wsgi-oauth/bin/gunicorn": sys.executable}))
        return unit

    def analyze(self, *arguments: object) -> str:
        command = ["systemd-analyze", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def test_is_valid(self, unit: Path):
        assert self.analyze("verify", unit) == ""

    @pytest.mark.parametrize(
        ("line", "reason"), [("", ""), ("A=b c", "line 14: must be NAME=value"), ("WSGI_OAUTH_X=1", "unknown variable")]
    )
    def test_reload_sends_hup_only_if_the_settings_are_valid(self, tmp_path: Path, line: str, reason: str):
        """Otherwise an invalid line would stop gunicorn. systemd runs the second command only if the first succeeds."""
        check, signal = re.findall(r"^ExecReload=\S+/(.*)$", shipped("wsgi-oauth.service"), re.MULTILINE)
        assert signal == "kill -HUP $MAINPID"
        places = {"/etc/wsgi-oauth": str(tmp_path), "https://id.example.com": "github"}
        tmp_path.joinpath("settings.env").write_text(shipped("settings.env", **places) + line)
        tmp_path.joinpath("gunicorn.conf.py").write_text(
            shipped("gunicorn.conf.py", **{"/etc/wsgi-oauth": str(tmp_path)})
        )
        tmp_path.joinpath("client-secret").write_text("secret")
        command = [sys.executable, "-m", *check.split()]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, reason in done.stderr) == (1 if reason else 0, True)

    def test_gives_the_service_few_permissions(self, unit: Path):
        """systemd rates the risk of a service (its exposure) from 0 to 10. The rating is at most 1.5."""
        self.analyze("security", "--offline=true", "--threshold=15", unit)
