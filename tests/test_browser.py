"""The gate in Chromium: the back/forward cache, and pages that fetch data after their session has ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import environ_for, stored_sessions
from form_post import FormPostIssuer
from werkzeug import Request, Response

from wsgi_oauth import Config, LoginRequired, MemoryStore, create_app, current_identity, logout_url
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve, serve_provider

pytest.importorskip("playwright", reason="the extra `browser` is not installed")

DOCUMENT = (Path(__file__).parent.parent / "docs" / "embedding.md").read_text()
[FETCH_SCRIPT] = re.findall(r"```js\n(const signInAgain.*?)```", DOCUMENT, re.DOTALL)
PAGE = """<!doctype html>
<title>Wiki</title>
<script>{script}</script>
<h1>The secrets of {name}</h1>
<p id=data></p>
<button onclick="fetch('/data').then(response => response.text()).then(text => data.textContent = text)">Load</button>
<form method=post action="{logout_url}"><button>Sign out</button></form>
"""
OLD_REQUEST = """(type) => {
  const request = new XMLHttpRequest();
  request.open("GET", "/data");
  request.responseType = type;
  request.send();
}"""
WORKER = """
addEventListener("fetch", (event) => {
  if (event.request.mode === "navigate" && !new URL(event.request.url).pathname.startsWith("/auth/")) {
    event.respondWith(caches.match("/page"));
  }
});
"""
PASSING_WORKER = """addEventListener("fetch", (event) => event.respondWith(fetch(event.request)))"""
WORKERS = {"/worker.js": WORKER, "/passing_worker.js": PASSING_WORKER}
INSTALL_WORKER = """async () => {
  await (await caches.open("pages")).add("/page");
  await navigator.serviceWorker.register("/worker.js");
  await navigator.serviceWorker.ready;
}"""


@pytest.fixture
def headers() -> dict[str, str]:
    """Return the headers of the page, to which a test can add some."""
    return {}


@pytest.fixture
def site(provider: LocalProvider, store: MemoryStore, headers: dict[str, str]) -> Iterator[str]:
    """Serve a wiki behind the gate; yield its URL."""

    @Request.application
    def wiki(request: Request) -> Response:
        name = current_identity(request.environ).name
        if request.path == "/data":
            return Response(f"data of {name}")
        if request.path in WORKERS:
            return Response(WORKERS[request.path], mimetype="text/javascript")
        text = PAGE.format(script=FETCH_SCRIPT, name=name, logout_url=logout_url(request.environ))
        return Response(text, mimetype="text/html", headers=headers)

    with serve(LoginRequired(wiki, create_app(Config.from_environ(environ_for(provider)), store=store))) as server:
        yield server.url


def sign_in(page: Any, url: str) -> None:
    page.goto(f"{url}/page")
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{url}/page")


def test_a_page_does_not_come_back_after_the_sign_out(page: Any, site: str, provider: LocalProvider) -> None:
    sign_in(page, site)
    assert "secrets of Mona Lisa Octocat" in page.content()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/signed-out")
    page.evaluate("history.back()")
    page.wait_for_url(f"{provider.url}/**")  # the browser has asked the gate, which starts a sign-in
    assert "secrets of Mona Lisa Octocat" not in page.content()


def test_a_page_comes_back_if_the_application_lets_browsers_keep_it(
    page: Any, site: str, headers: dict[str, str]
) -> None:
    """This proves that the test above sees the back/forward cache."""
    headers["Cache-Control"] = "private, no-cache"
    sign_in(page, site)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/signed-out")
    page.evaluate("history.back()")
    page.wait_for_url(f"{site}/page", wait_until="commit")  # a page from this cache is not loaded again
    page.get_by_text("secrets of Mona Lisa Octocat").wait_for()


def test_a_page_that_fetches_data_recovers_from_the_end_of_its_session(
    page: Any, site: str, store: MemoryStore
) -> None:
    sign_in(page, site)
    load = page.get_by_role("button", name="Load")
    load.click()
    page.get_by_text("data of Mona Lisa Octocat").wait_for()
    for key in list(store.keys()):
        store.delete(key)
    load.click()
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{site}/page")
    load.click()
    page.get_by_text("data of Mona Lisa Octocat").wait_for()


@pytest.mark.parametrize("response_type", ["", "json", "arraybuffer"])
def test_a_page_that_fetches_data_with_an_old_library_recovers(
    page: Any, site: str, store: MemoryStore, response_type: str
) -> None:
    """axios, jQuery, Angular and Unpoly use XMLHttpRequest."""
    sign_in(page, site)
    page.evaluate(OLD_REQUEST, response_type)
    assert page.url == f"{site}/page"
    for key in list(store.keys()):
        store.delete(key)
    page.evaluate(OLD_REQUEST, response_type)
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{site}/page")


def test_a_page_that_a_service_worker_keeps_recovers_and_returns_to_its_part(
    page: Any, site: str, store: MemoryStore
) -> None:
    """Servers do not see the part of a URL after `#`, in which many applications with one page keep their view."""
    sign_in(page, site)
    page.evaluate(INSTALL_WORKER)
    page.goto(f"{site}/page#view")
    for key in list(store.keys()):
        store.delete(key)
    page.get_by_role("button", name="Load").click()
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{site}/page#view")
    page.get_by_role("button", name="Load").click()
    page.get_by_text("data of Mona Lisa Octocat").wait_for()


def test_a_service_worker_may_pass_all_navigations_on(page: Any, site: str, store: MemoryStore) -> None:
    sign_in(page, site)
    page.evaluate(INSTALL_WORKER.replace("worker.js", "passing_worker.js"))
    for key in list(store.keys()):
        store.delete(key)
    sign_in(page, site)
    assert "secrets of Mona Lisa Octocat" in page.content()


class TestSeveralSites:
    @pytest.fixture
    def sites(self, provider: LocalProvider, store: MemoryStore) -> Iterator[tuple[str, str]]:
        """Serve a wiki for two hosts behind the gate; yield the URLs of the main site and the further site."""

        @Request.application
        def wiki(request: Request) -> Response:
            text = PAGE.format(script="", name=request.host, logout_url=logout_url(request.environ))
            return Response(text, mimetype="text/html")

        gates: list[LoginRequired] = []  # filled when the port is known
        with serve(lambda environ, start_response: gates[0](environ, start_response)) as server:
            main, further = server.url.replace("127.0.0.1", "localhost"), server.url
            environ = environ_for(provider, PUBLIC_URL=f"{main}/auth", SITES=further)
            gates.append(LoginRequired(wiki, create_app(Config.from_environ(environ), store=store)))
            yield main, further

    def test_share_one_sign_in_and_one_sign_out(
        self, page: Any, sites: tuple[str, str], provider: LocalProvider
    ) -> None:
        """S66"""
        main, further = sites
        sign_in(page, further)
        page.goto(f"{main}/page")
        assert page.url == f"{main}/page"
        page.goto(f"{further}/page")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{further}/auth/signed-out")
        page.goto(f"{main}/page")
        assert page.url.startswith(provider.url)

    def test_continue_a_sign_out_without_effect_on_the_main_site(self, page: Any, sites: tuple[str, str]) -> None:
        """The policy of the page has to permit that redirect after its form."""
        main, further = sites
        sign_in(page, further)
        page.goto(f"{further}/auth/signed-out")
        with page.context.new_page() as other_tab:
            other_tab.goto(f"{main}/auth/?switch=1&next=/page")
            other_tab.get_by_role("button", name="Allow").click()
            other_tab.wait_for_url(f"{main}/page")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{main}/auth/signed-out")
        assert "You are signed in" in page.content()


class TestFormOfTheProvider:
    """The provider at 127.0.0.1 is another site than the application at localhost."""

    @pytest.fixture
    def issuer(self) -> Iterator[FormPostIssuer]:
        issuer = FormPostIssuer()
        with serve_provider(issuer):
            yield issuer

    @pytest.fixture
    def requests(self) -> list[tuple[str, str, str]]:
        """Return the requests that the application receives: method, path and cookies."""
        return []

    @pytest.fixture
    def form_site(
        self, issuer: FormPostIssuer, store: MemoryStore, requests: list[tuple[str, str, str]]
    ) -> Iterator[str]:
        """Serve a wiki behind the gate; yield its URL."""
        gates: list[LoginRequired] = []  # filled when the port is known

        @Request.application
        def wiki(request: Request) -> Response:
            return Response(f"The secrets of {current_identity(request.environ).name}", mimetype="text/html")

        def record(environ: Any, start_response: Any) -> Any:
            requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_COOKIE", "")))
            return gates[0](environ, start_response)

        with serve(record) as server:
            url = server.url.replace("127.0.0.1", "localhost")
            settings = {"PUBLIC_URL": f"{url}/auth", "RESPONSE_MODE": "form_post"}
            app = create_app(Config.from_environ(environ_for(issuer, **settings)), store=store)
            gates.append(LoginRequired(wiki, app))
            yield url

    def test_signs_the_user_in(self, page: Any, form_site: str, requests: list[tuple[str, str, str]]) -> None:
        """S70. The form brings the cookie of the sign-in alone, and the redirect that follows the session cookie."""
        sign_in(page, form_site)
        assert "secrets of Mona Lisa Octocat" in page.content()
        [form] = [cookies for method, _, cookies in requests if method == "POST"]
        assert re.fullmatch(r"wsgi_oauth_[0-9]+-[\w-]{10}\.post=[\w-]{43}", form)
        pages = [cookies for _, path, cookies in requests if path == "/page"]
        assert len(pages) == 2
        assert re.search(r"wsgi_oauth_[0-9]+=", pages[1])

    def test_replaces_the_session_of_a_signed_in_user(self, page: Any, form_site: str, store: MemoryStore) -> None:
        """S36"""
        sign_in(page, form_site)
        page.goto(f"{form_site}/auth/?next=/page")
        page.get_by_role("button", name="Allow").click()
        page.wait_for_url(f"{form_site}/page")
        assert sum("oauth_token" in data for data in stored_sessions(store)) == 1
