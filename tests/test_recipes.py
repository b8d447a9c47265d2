"""Applications of other projects behind the gate, as in examples/: each under gunicorn, with its usual client.

They need the extra `recipes`. Without it, no test of this file is collected, which pytest reports as status 5.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from conftest import Gunicorn, Site, Visitor
from test_examples import ENVIRONMENT, EXAMPLES, run

for package in ("flask_appbuilder", "klaus", "pypiserver", "radicale", "wsgidav"):
    pytest.importorskip(package)

Serve = Callable[[str], Visitor]


@pytest.fixture
def serve(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start a recipe with the command in its docstring, and return a browser."""
    for name, value in {**ENVIRONMENT, "FLASK_SECRET_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:

        def start(module: str) -> Visitor:
            command = f"gunicorn -c python:wsgi_oauth.gunicorn_conf {module}:app"
            assert f"``{command}``" in (EXAMPLES / f"{module}.py").read_text()
            settings = {"TOKENS": "yes", "GROUPS_CLAIM": "groups"}
            # One worker, because gunicorn waits 30 seconds for a worker that it stops while the worker starts.
            options = ("-c", "python:wsgi_oauth.gunicorn_conf", "--workers", "1", "--pythonpath", str(EXAMPLES))
            server: Gunicorn = stack.enter_context(site.serve(*options, app=f"{module}:app", **settings))
            return stack.enter_context(site.visitor(server))

        yield start


def sign_in(visitor: Visitor, page: str = "/") -> requests.Response:
    """Open *page*, sign in, and return the page to which that leads back."""
    start = visitor.get(page)
    assert start.status_code == 302, start.text
    back = visitor.get(visitor.callback_url(start.headers["Location"]))
    assert (back.status_code, back.headers["Location"]) == (303, page)
    return visitor.web.get(visitor.url + page, timeout=60)


def sign_in_again(visitor: Visitor, page: str) -> requests.Response:
    """Sign in anew in the same browser: only the session of the sign-in has ended, not the application's own."""
    for cookie in [each for each in visitor.web.cookies if "wsgi_oauth" in each.name]:
        visitor.web.cookies.clear(cookie.domain, cookie.path, cookie.name)
    return sign_in(visitor, page)


def create_token(visitor: Visitor) -> str:
    """Create an access token on the page, and return it."""
    sign_in(visitor, "/auth/tokens")
    created = visitor.web.post(
        f"{visitor.url}/auth/tokens",
        data={"name": "test", "lifetime": "1d"},
        headers={"Origin": visitor.url, "Sec-Fetch-Site": "same-origin", "Accept": "application/json"},
        timeout=60,
    )
    token: str = created.json()["token"]
    return token


def with_token(visitor: Visitor) -> str:
    """Return the URL of the site with an access token as its password."""
    return visitor.url.replace("//", f"//token:{create_token(visitor)}@")


def execute(*command: object, folder: Path) -> str:
    """Run a program without any configuration of its user, and return its output."""
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "GIT_TERMINAL_PROMPT": "0"}
    done = subprocess.run(
        [str(part) for part in command],
        env={**environ, "NO_PROXY": "127.0.0.1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class TestDjangoAdmin:
    @pytest.fixture
    def visitor(self, serve: Serve, site: Site, tmp_path: Path) -> Visitor:
        site.provider.user = {**site.provider.user, "groups": ["admins"]}
        run(tmp_path, str(EXAMPLES / "django_admin.py"), "migrate")
        return serve("django_admin")

    def test_lets_a_member_of_the_group_edit_users(self, visitor: Visitor):
        page = sign_in(visitor, "/admin/auth/user/1/change/")
        fields = dict(re.findall(r'<input type="(?:text|hidden)" name="([^"]+)" value="([^"]*)"', page.text))
        fields = {name: unescape(value) for name, value in fields.items()}
        fields |= {"first_name": "Mona", "email": "mona@example.com", "is_active": "on", "is_staff": "on"}
        saved = visitor.web.post(page.url, data={**fields, "is_superuser": "on"}, timeout=60)
        assert "was changed successfully" in saved.text
        assert 'value="Mona"' in visitor.web.get(page.url, timeout=60).text

    def test_takes_the_rights_away_from_a_former_member(self, visitor: Visitor, site: Site):
        assert "Site administration" in sign_in(visitor, "/admin/").text
        site.provider.user = {**site.provider.user, "groups": []}
        assert "not authorized to access this page" in sign_in_again(visitor, "/admin/").text

    def test_ends_the_session_with_its_own_sign_out(self, visitor: Visitor):
        page = sign_in(visitor, "/admin/")
        [form_token] = set(re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text))
        visitor.web.post(
            f"{visitor.url}/admin/logout/",
            data={"csrfmiddlewaretoken": form_token},
            headers={"Origin": visitor.url},
            allow_redirects=False,
            timeout=60,
        )
        assert visitor.cookie is None
        assert visitor.get("/admin/").status_code == 302


class TestFlaskAppBuilder:
    @pytest.fixture
    def admin(self, serve: Serve, site: Site) -> Visitor:
        """Return the browser of a member of the group, with a list that only the role Admin may read."""
        site.provider.user = {**site.provider.user, "groups": ["admins"]}
        visitor = serve("appbuilder_app")
        assert sign_in(visitor, "/users/list/").status_code == 200
        return visitor

    def test_takes_the_role_away_from_a_former_member(self, admin: Visitor, site: Site):
        site.provider.user = {**site.provider.user, "groups": []}
        assert sign_in_again(admin, "/users/list/").status_code == 403

    def test_knows_the_next_user_of_the_same_browser(self, admin: Visitor, site: Site):
        assert "583231@" in admin.get("/users/userinfo/").text
        site.provider.user = {**site.provider.user, "id": 1, "login": "other"}
        page = sign_in_again(admin, "/users/userinfo/").text
        assert "1@" in page
        assert "583231@" not in page

    def test_serves_public_files_to_anonymous_users(self, serve: Serve):
        assert serve("appbuilder_app").get("/static/appbuilder/css/ab.css").status_code == 200

    def test_ends_the_session_with_its_own_sign_out(self, serve: Serve):
        visitor = serve("appbuilder_app")
        sign_in(visitor)
        visitor.get("/logout/", **{"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"})
        assert visitor.cookie is None
        assert visitor.get("/").status_code == 302


def test_git_clones_from_klaus_and_pushes_with_a_token(serve: Serve, tmp_path: Path) -> None:
    repository = tmp_path / "repositories" / "project"
    repository.mkdir(parents=True)
    author = ("-c", "user.name=Mona", "-c", "user.email=mona@example.com")
    execute("git", "init", "--quiet", "--initial-branch=main", folder=repository)
    execute("git", *author, "commit", "--quiet", "--allow-empty", "--message", "Begin", folder=repository)
    visitor = serve("klaus_app")
    execute("git", "clone", f"{with_token(visitor)}/project", "copy", folder=tmp_path)
    assert "Begin" in execute("git", "log", folder=tmp_path / "copy")
    execute("git", *author, "commit", "--quiet", "--allow-empty", "--message", "Go on", folder=tmp_path / "copy")
    execute("git", "push", "origin", "HEAD:topic", folder=tmp_path / "copy")
    assert "Go on" in execute("git", "log", "topic", folder=repository)
    assert "Go on" in visitor.get("/project/tree/topic/").text


def test_pip_installs_from_pypiserver_with_a_token(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    with zipfile.ZipFile(tmp_path / "packages" / "greeting-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("greeting.py", "TEXT = 'hello'\n")
        wheel.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        wheel.writestr("greeting-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("greeting-1.0.dist-info/RECORD", "")
    pip = (sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--no-deps")
    url = f"{with_token(serve('pypiserver_app'))}/simple/"
    execute(*pip, "--index-url", url, "--target", tmp_path / "installed", "greeting", folder=tmp_path)
    assert (tmp_path / "installed" / "greeting.py").read_text() == "TEXT = 'hello'\n"


class WebDAV:
    """A WebDAV client that sends an access token as the password, after the challenge or at once."""

    def __init__(self, visitor: Visitor, user: str = "anyone") -> None:
        self.url = visitor.url
        self.web = requests.Session()
        self.web.trust_env = False
        self.web.auth = (user, create_token(visitor))
        self.web.headers["User-Agent"] = "davclient/1.0"

    def __call__(self, method: str, path: str, body: str = "", **headers: str) -> requests.Response:
        return self.web.request(method, self.url + path, data=body, headers=headers, timeout=60, allow_redirects=False)


def test_a_webdav_client_works_with_files_of_wsgidav(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    visitor = serve("wsgidav_app")
    dav = WebDAV(visitor)
    anonymous = requests.request("PROPFIND", f"{visitor.url}/", headers={"User-Agent": "davclient/1.0"}, timeout=60)
    assert (anonymous.status_code, anonymous.headers["WWW-Authenticate"][:6]) == (401, "Basic ")
    assert dav("MKCOL", "/notes").status_code == 201
    assert dav("PUT", "/notes/a.txt", "hello").status_code == 201
    assert dav("MOVE", "/notes/a.txt", Destination=f"{visitor.url}/notes/b.txt").status_code == 201
    assert "/notes/b.txt" in dav("PROPFIND", "/notes", Depth="1").text
    assert dav("GET", "/notes/b.txt").text == "hello"
    assert (tmp_path / "files" / "notes" / "b.txt").read_text() == "hello"
    lock = '<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>'
    assert dav("LOCK", "/notes/b.txt", lock, Depth="0").status_code == 200
    assert "notes" in visitor.get("/").text


def test_a_calendar_client_works_with_radicale(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "radicale.ini").write_text(f"[storage]\nfilesystem_folder = {tmp_path / 'collections'}\n")
    monkeypatch.setenv("RADICALE_CONFIG", str(tmp_path / "radicale.ini"))
    visitor = serve("radicale_app")
    dav = WebDAV(visitor)
    find = '<propfind xmlns="DAV:"><prop><current-user-principal/></prop></propfind>'
    [home] = re.findall(r"<current-user-principal><href>([^<]+)<", dav("PROPFIND", "/", find, Depth="0").text)
    assert home.startswith("/583231")
    calendar = f"{home}work/"
    assert dav("MKCALENDAR", calendar).status_code == 201
    event = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20260101T000000Z\r\n"
    event += "DTSTART:20260101T090000Z\r\nSUMMARY:Breakfast\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    assert dav("PUT", f"{calendar}1.ics", event, **{"Content-Type": "text/calendar"}).status_code == 201
    assert "Breakfast" in dav("GET", f"{calendar}1.ics").text
    assert dav("PROPFIND", f"/{quote('1@github')}/", find, Depth="1").status_code in {403, 404}
