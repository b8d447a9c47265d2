"""The README's code works, and all links in the documents are valid."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import Browser, environ_for

from wsgi_oauth.demo.server import serve

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ROUTES = ("/", "/callback", "/profile", "/logout", "/signed-out", "/healthz", "/readyz")


def block(mark: str) -> str:
    """Return the fenced block after the comment *mark*."""
    found = re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, mark
    return found[1]


def run(code: str, provider, monkeypatch):
    """Run *code* with the settings for *provider*, and return its ``app``."""
    for name, value in environ_for(provider).items():
        monkeypatch.setenv(name, value)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    return names["app"]


def test_the_handler_example_calls_the_api_for_the_signed_in_user(provider, monkeypatch):
    def api(environ, start_response):
        assert environ["HTTP_AUTHORIZATION"].startswith("Bearer ")
        body = json.dumps([{"full_name": "octocat/hello-world"}]).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    with serve(api) as server:
        code = block("own-handler").replace("https://api.github.com/user/repos", f"{server.url}/repos")
        browser = Browser(run(code, provider, monkeypatch), provider)
        assert browser.get("/repos").location.endswith("/?next=%2Frepos")
        assert browser.sign_in("/repos").location.endswith("/repos")
        assert browser.get("/repos").json == ["octocat/hello-world"]


def test_the_mount_example_signs_in_below_its_prefix(provider, monkeypatch):
    browser = Browser(run(block("mounted"), provider, monkeypatch), provider)
    assert browser.get("/").text == "hello"
    started = browser.get("/login/")
    assert browser.get(browser.consent(started.location)).location.endswith("/login/profile")
    assert "octocat" in browser.get("/login/profile").text


def test_the_gate_example_greets_the_signed_in_user(provider, monkeypatch):
    browser = Browser(run(block("gate"), provider, monkeypatch), provider)
    to_sign_in = browser.get("/page?x=1")
    done = browser.get(browser.consent(browser.get(to_sign_in.location).location))
    assert done.location.endswith("/page?x=1")
    page = browser.get(done.location)
    assert "Hello octocat!" in page.text
    assert page.forms[0].action == "http://localhost/auth/logout"
    assert browser.post(page.forms[0].action).status_int == 303
    assert browser.get("/page").status_int == 302


def test_the_store_example_signs_in(provider, monkeypatch):
    browser = Browser(run(block("another-store"), provider, monkeypatch), provider)
    browser.sign_in()
    assert browser.profile().json["login"] == "octocat"


DOCUMENTS = sorted(
    str(path.relative_to(ROOT)) for folder in (".", "docs", "benchmarks") for path in (ROOT / folder).glob("*.md")
)


def anchors(document: Path) -> set[str]:
    """Return the anchors of a Markdown document: those that GitHub makes of its headings, and explicit ones."""
    text = document.read_text()
    headings = re.findall("(?m)^#+ (.*)", re.sub("(?ms)^```.*?^```", "", text))
    slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_local_link_is_valid(document):
    path = ROOT / document
    broken = []
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("document", ["README.md", "docs/settings.md"])
def test_the_document_names_every_setting_and_the_main_routes(document):
    from wsgi_oauth.config.settings import known_variables

    text = (ROOT / document).read_text()
    names = set(re.findall(r"WSGI_OAUTH_\w+", text))
    assert [name for name in known_variables() if name not in names] == []
    assert all(f"{route}`" in text for route in ROUTES)
