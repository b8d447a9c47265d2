"""The operator's templates (``WSGI_OAUTH_TEMPLATES``) replace pages. If one fails, users see the built-in page."""

from __future__ import annotations

import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from bs4 import BeautifulSoup
from conftest import HTML, environ_for, send

from wsgi_oauth import Config, create_app, errors
from wsgi_oauth.cli.check import findings
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.web import sample_pages
from wsgi_oauth.web.page_templates import BUILT_IN, PageTemplates
from wsgi_oauth.web.pages import Action, UserMessage
from wsgi_oauth.web.sample_pages import SAMPLES, render_samples

DOCUMENT = (Path(__file__).parent.parent / "docs" / "pages.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", DOCUMENT, re.DOTALL))

HOSTILE = """"'></dd></title></style><script>alert(1)</script><b onclick=alert(1)>{{ 7 * 7 }}{0.__class__}\ud800\0"""


@pytest.fixture
def app_with(tmp_path: Path) -> Callable[..., Any]:
    """Create an application with these templates: ``app_with({"error.html": "..."})``."""

    def create(templates: dict[str, str | bytes], **settings: Any) -> Any:
        for name, text in templates.items():
            tmp_path.joinpath(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        config = Config(client_id="id", client_secret="secret", session_store="memory:", templates=str(tmp_path))
        return create_app(config, **settings)

    return create


def page(app: Any, path: str = "/nothing", **environ: Any) -> str:
    return send(app, path, headers=HTML, **environ).get_data(as_text=True)


class TestOwnTemplate:
    def test_replaces_the_built_in_page(self, app_with: Callable[..., Any]):
        app = app_with({"error.html": "{{ name }}: {{ message.cause }}"})
        assert page(app) == "localhost: not_found"
        assert "You are signed out" in page(app, "/signed-out")

    def test_of_the_layout_changes_all_pages(self, app_with: Callable[..., Any]):
        app = app_with({"layout.html": "<p>ours</p>{% block content %}{% endblock %}"})
        assert page(app).startswith("<p>ours</p>")
        assert page(app, "/signed-out").startswith("<p>ours</p>")

    def test_escapes_values(self, app_with: Callable[..., Any], provider: LocalProvider):
        """S47"""
        app = app_with({"error.html": "{{ '<script>' }}{{ message.text }}"})
        assert page(app).startswith("&lt;script&gt;")

    def test_takes_effect_with_a_new_application(self, app_with: Callable[..., Any]):
        assert page(app_with({"error.html": "first"})) == "first"
        assert page(app_with({"error.html": "second"})) == "second"


class TestStyleSheet:
    def test_is_permitted_by_its_hash(self, app_with: Callable[..., Any]):
        style = "body { color: 'é' }"
        response = send(app_with({"style.css": style}), "/signed-out", headers=HTML)
        assert f"<style>{style}</style>" in response.get_data(as_text=True)
        hashed = b64encode(sha256(style.encode()).digest()).decode()
        assert f"style-src 'sha256-{hashed}';" in response.headers["Content-Security-Policy"]

    def test_can_contain_the_built_in_one(self, app_with: Callable[..., Any]):
        text = page(app_with({"style.css": '@import "wsgi_oauth/style.css";\nbody { color: red }'}))
        assert (BUILT_IN / "style.css").read_text() in text
        assert "body { color: red }</style>" in text

    def test_that_cannot_be_read_is_the_built_in_one(
        self, app_with: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ):
        app = app_with({"style.css": b"\xff"})
        assert (BUILT_IN / "style.css").read_text() in page(app)
        assert "style.css: UnicodeDecodeError" in caplog.text


class TestFailure:
    """The user gets the built-in page, and the log one line."""

    def test_of_the_folder_is_logged_and_lasts_until_it_can_be_read(
        self, app_with: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        """For example, a folder on a disk that is not mounted, or for which only another user has permission."""
        app = app_with({"error.html": "ours"})
        moved = tmp_path.rename(tmp_path.with_name("unmounted"))
        assert "<h1>This page does not exist</h1>" in page(app)
        assert "WSGI_OAUTH_TEMPLATES: FileNotFoundError: [Errno 2] No such file or directory" in caplog.text
        moved.rename(tmp_path)
        assert page(app) == "ours"

    @pytest.mark.parametrize(
        ("name", "template", "logged"),
        [
            ("error.html", "\n{% if %}", "error.html:2: TemplateSyntaxError"),
            ("error.html", "\n\n{{ unknown }}", "error.html:3: UndefinedError: 'unknown' is undefined"),
            ("error.html", "{{ message.unknown }}", "error.html:1: UndefinedError"),
            ("error.html", "{{ 1 // 0 }}", "error.html:1: ZeroDivisionError"),
            ("error.html", '{% include "missing.html" %}', "error.html:1: TemplateNotFound"),
            ("error.html", '{% extends "error.html" %}', "RecursionError"),
            ("error.html", b"\xff", "UnicodeDecodeError"),
            ("layout.html", "{{ unknown }}", "layout.html:1: UndefinedError"),
            # The text of a failure can contain text of users, which must not begin a log line.
            ("error.html", '{% include "a\\nb\x85c" %}', r"TemplateNotFound: a\nb\x85c"),
        ],
    )
    def test_shows_the_built_in_page(
        self,
        app_with: Callable[..., Any],
        caplog: pytest.LogCaptureFixture,
        name: str,
        template: str | bytes,
        logged: str,
    ):
        text = page(app_with({name: template}))
        assert "<h1>" in text
        assert "not_found" in text
        [line] = [each.getMessage() for each in caplog.records if "WSGI_OAUTH_TEMPLATES" in each.getMessage()]
        assert logged in line
        assert line[1:17] in text, "the id of the page"
        assert line.isprintable()

    def test_of_one_template_leaves_the_others(self, app_with: Callable[..., Any]):
        app = app_with({"error.html": "{% if %}", "signed_out.html": "ours"})
        assert "<h1>" in page(app)
        assert page(app, "/signed-out") == "ours"

    def test_to_find_the_folder_stops_the_start(self, tmp_path: Path):
        with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_TEMPLATES: cannot be read: No such file"):
            Config(client_id="id", client_secret="secret", templates=str(tmp_path / "missing"))


class TestBuiltInTemplates:
    @pytest.mark.parametrize("name", SAMPLES)
    def test_render_their_samples(self, name: str):
        text = render_samples(PageTemplates())[name]
        assert isinstance(text, str)
        assert re.findall(r"<(main|h1)>", text) == ["main", "h1"]
        assert "<title>" in text

    def test_have_samples(self):
        assert {path.name for path in BUILT_IN.iterdir()} - set(SAMPLES) == {"layout.html", "style.css"}

    @pytest.mark.parametrize("name", SAMPLES)
    def test_are_documented_with_their_variables(self, name: str):
        [row] = re.findall(rf"(?m)^\| `{name}` \|.*$", DOCUMENT)
        missing = [each for each in SAMPLES[name] if each != "actions" and f"`{each}`" not in row]
        assert missing == []

    def test_have_no_scripts_and_no_style_attributes(self):
        for path in BUILT_IN.glob("*.html"):
            assert not re.search(r"<script|\bstyle=|\bon\w+=|\| *safe\b", path.read_text()), path

    def test_contain_values_as_text_and_never_as_markup_or_as_a_template(self, monkeypatch: pytest.MonkeyPatch):
        """S47"""
        usual = render_samples(PageTemplates())
        monkeypatch.setattr(sample_pages, "SAMPLES", replace_texts(SAMPLES))
        hostile = render_samples(PageTemplates())
        assert {name: find_elements(text) for name, text in hostile.items()} == {
            name: find_elements(text) for name, text in usual.items()
        }
        assert [name for name, text in hostile.items() if "{{ 7 * 7 }}{0.__class__}" not in text] == []


def replace_texts(value: Any) -> Any:
    """Return *value* with a hostile text in place of each text."""
    if isinstance(value, dict):
        return {name: replace_texts(member) for name, member in value.items()}
    if isinstance(value, Action):
        return value._replace(url=HOSTILE, form_token=replace_texts(value.form_token))
    if isinstance(value, UserMessage):
        return UserMessage(*map(replace_texts, value))
    if isinstance(value, list):
        return list(map(replace_texts, value))
    return HOSTILE if value and isinstance(value, str) else value


def find_elements(page: Any) -> list[tuple[str, list[str]]]:
    """Return the elements of a page with the names of their attributes."""
    return [(each.name, sorted(each.attrs)) for each in BeautifulSoup(page, "html.parser").find_all()]


class TestDocumentedExamples:
    def test_work(self, app_with: Callable[..., Any], caplog: pytest.LogCaptureFixture):
        assert set(EXAMPLES) == {"style.css", "layout.html", "not_allowed.html"}
        templates = app_with(EXAMPLES).templates
        pages = render_samples(templates)
        assert [each for each in pages.values() if isinstance(each, Exception)] == []
        assert all("--accent: #7a1f5c" in each and "<svg" in each and "<main>" in each for each in pages.values())
        assert "help.example.com</a>, and name the id 5f2ad1c0b7e94386" in pages["not_allowed.html"]


class TestCheckCommand:
    def test_renders_each_page_and_has_one_finding_for_each_file(self, provider: LocalProvider, tmp_path: Path):
        (tmp_path / "profile.html").write_text("{{ document.name }}\n{{ unknown }}")
        (tmp_path / "sign_out.html").write_text("{{ message.title }}")
        (tmp_path / "sign-out.html").write_text("")
        found = [str(each) for each in findings(environ_for(provider, TEMPLATES=str(tmp_path)))]
        about = [each for each in found if "templates: " in each]
        assert about[0] == f"ok    templates: sign_out.html of {tmp_path} in place of the built-in ones"
        assert "warn  templates: sign-out.html replaces no built-in template" in about[1]
        assert "profile.html:2: UndefinedError: 'unknown' is undefined" in about[2]
        assert len(about) == 3

    def test_reports_a_file_that_is_a_part_of_several_pages_once(self, provider: LocalProvider, tmp_path: Path):
        (tmp_path / "error.html").write_text("{{ unknown }}")
        found = [str(each) for each in findings(environ_for(provider, TEMPLATES=str(tmp_path)))]
        [about] = [each for each in found if "templates: " in each]
        assert about.startswith("warn  templates: error.html, not_allowed.html cannot be rendered")

    @pytest.mark.parametrize(
        ("name", "mode"),
        [("", 0o777), ("", 0o720), ("error.html", 0o602), ("error.html", 0o660), ("parts/head.html", 0o602)],
    )
    def test_warns_if_other_users_can_write_templates(
        self, provider: LocalProvider, tmp_path: Path, name: str, mode: int
    ):
        """Templates can execute any code, also those in a subfolder, which others include."""
        (tmp_path / "error.html").touch(0o600)
        (tmp_path / "parts").mkdir(0o700)
        (tmp_path / "parts" / "head.html").touch(0o600)
        (tmp_path / name).chmod(mode)
        found = [str(each) for each in findings(environ_for(provider, TEMPLATES=str(tmp_path)))]
        [about] = [each for each in found if "WSGI_OAUTH_TEMPLATES: " in each]
        assert about.startswith("warn  WSGI_OAUTH_TEMPLATES: other users of this machine can write to ")
        assert f" {tmp_path / name}\n" in about
        assert f"run chmod -R go-w {tmp_path}" in about

    def test_does_not_warn_if_other_users_can_only_read_templates(self, provider: LocalProvider, tmp_path: Path):
        tmp_path.chmod(0o755)
        (tmp_path / "error.html").touch(0o644)
        found = [str(each) for each in findings(environ_for(provider, TEMPLATES=str(tmp_path)))]
        assert not any("WSGI_OAUTH_TEMPLATES: " in each for each in found)


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run *script* in a new process."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


FIRST_PAGES = """
import sys, threading
import wsgi_oauth
from wsgi_oauth.texts import load
from wsgi_oauth.web.request import Request
from werkzeug.test import create_environ, run_wsgi_app

app = wsgi_oauth.create_app(wsgi_oauth.Config(client_id="id", client_secret="secret", session_store="memory:"))
assert "jinja2" not in sys.modules, "imported too early"
assert load.cache_info().currsize == 1, "English only"
sys.setswitchinterval(1e-6)
start, pages = threading.Barrier(8), []

def request_page():
    start.wait()
    headers = {"Accept": "text/html", "Accept-Language": "de"}
    environ = create_environ("/signed-out", "http://localhost", headers=headers)
    pages.append(b"".join(run_wsgi_app(app, environ)[0]))

threads = [threading.Thread(target=request_page) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(pages) == 8 and len(set(pages)) == 1 and b"Sie sind abgemeldet" in pages[0], pages
"""


WITHOUT_FILES = """
import resource, sys
import wsgi_oauth
from werkzeug.test import create_environ, run_wsgi_app

app = wsgi_oauth.create_app(wsgi_oauth.Config(client_id="id", client_secret="secret", session_store="memory:"))

def request_page(path="/nothing"):
    environ = {**create_environ(path, "http://localhost"), "HTTP_ACCEPT": "text/html"}
    body, status, headers = run_wsgi_app(app, environ)
    return b"".join(body).decode(), status, headers["Content-Type"].partition(";")[0]

limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
text, *response = request_page()
page, *failure = request_page("/signed-out")
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
assert response == ["404 NOT FOUND", "text/plain"], response
assert "This page does not exist" in text and "not_found" in text, text
assert failure == ["500 INTERNAL SERVER ERROR", "text/plain"] and "You are signed out" in page, (failure, page)
text, *response = request_page()
assert response == ["404 NOT FOUND", "text/html"], response
assert "<h1>This page does not exist</h1>" in text, text
"""


def test_error_is_explained_as_text_if_no_template_can_be_read() -> None:
    """S58: when a process has too many open files."""
    done = run(WITHOUT_FILES)
    assert done.returncode == 0, done.stderr
    assert "the page error.html cannot be rendered, so its text is sent: OSError: [Errno 24]" in done.stderr


def test_jinja2_and_a_language_are_loaded_with_the_first_page_also_if_eight_threads_request_it() -> None:
    """S76"""
    done = run(FIRST_PAGES)
    assert (done.returncode, done.stderr) == (0, "")


def test_built_in_pages_work_in_a_zip_file(tmp_path: Path):
    """A zipapp contains the package without extracting it."""
    package, archive = Path(sample_pages.__file__).parent.parent, tmp_path / "app.zip"
    with ZipFile(archive, "w") as contents:
        for path in package.rglob("*"):
            if path.suffix in {".py", ".json", ".html", ".css"}:
                contents.write(path, path.relative_to(package.parent))
    script = f"""
import sys
sys.path.insert(0, {str(archive)!r})
import werkzeug.test
import wsgi_oauth
app = wsgi_oauth.create_app(wsgi_oauth.Config(client_id="a", client_secret="b", session_store="memory:"))
page = werkzeug.test.Client(app).get("/signed-out", headers={{"Accept": "text/html", "Accept-Language": "de"}})
print(wsgi_oauth.__file__, page.status, 'lang="de"' in page.text)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == (f"{archive}/wsgi_oauth/__init__.py 200 OK True\n", "")
