"""What people see when something goes wrong: one page for each cause, safe to show and worth reading."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest
from conftest import HTML, JSON, Browser, environ_for, parameters, send
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import (
    Gone,
    InternalServerError,
    RequestedRangeNotSatisfiable,
    TooManyRequests,
    Unauthorized,
)

from wsgi_oauth import Config, MemoryStore, RequestHandler, SessionStore, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

SIDES = {"this request", "this application", "the provider"}
CANARY = "cAnArY"
MARKUP = f"<script>{CANARY}</script>"


class Broken(RequestHandler):
    """A page of somebody's own, with a mistake in it."""

    route = "/broken"

    def get(self, request):
        raise RuntimeError(f"the text of an exception is nobody's business: {CANARY}")


class Posted(RequestHandler):
    route = "/posted"

    def post(self, request):
        return self.jsonify({"signed in": bool(request.session["oauth_token"]), "text": request.form.get("text")})


class Cached(RequestHandler):
    """Wants to be cached, and remembers who saw it."""

    route = "/cached"

    def get(self, request):
        request.session["seen"] = True
        response = self.jsonify({})
        response.headers["Cache-Control"] = "public, max-age=3600"
        return response


class Raising(RequestHandler):
    """Raises an error of Werkzeug's, and notes that in the session."""

    route = "/raising/<name>"

    def get(self, request, name):
        request.session["raised"] = [*request.session.get("raised", []), name]
        raise RAISED[name]


RAISED = {
    "gone": Gone(),
    "challenge": Unauthorized(www_authenticate=WWWAuthenticate("basic", {"realm": "here"})),
    "range": RequestedRangeNotSatisfiable(length=10),
    "pause": TooManyRequests(retry_after=30),
    "mistake": InternalServerError(original_exception=RuntimeError(CANARY)),
}


class Memory(RequestHandler):
    route = "/memory"

    def get(self, request):
        return self.jsonify(dict(request.session))


class Probe(RequestHandler):
    """A page under any name of the host that asks for a sign-in, which it has no address for."""

    route = "/probe"
    any_host = True

    def get(self, request):
        raise errors.NotSignedIn("a probe")


HANDLERS = (Broken, Posted, Cached, Raising, Memory, Probe)


class FullDisk(MemoryStore):
    """A store that can no longer be written."""

    def create(self, key, record):
        raise errors.StoreError("no space left on device")


class World:
    """One application and one browser, and everything that can be provoked there."""

    def __init__(self, provider: LocalProvider) -> None:
        self.provider = provider
        self.app = self.application()
        self.browser = Browser(self.app, provider)

    def application(self, store: SessionStore | None = None, **settings: str) -> Any:
        config = Config.from_environ(environ_for(self.provider, **settings))
        return create_app(config, store=store or MemoryStore(), handlers=HANDLERS)

    def callback(self, headers: dict[str, str], *, authorize: str = "", token: str = "", **more: str) -> Any:
        """Come back from the provider with a fault there or at its token endpoint."""
        if token:
            self.provider.faults.add(f"token.{token}")
        url = self.browser.callback_url(fault=authorize and f"authorize.{authorize}", **more)
        return self.browser.get(url, headers=headers)

    def second_copy(self, headers: dict[str, str]) -> Any:
        url = self.browser.callback_url()
        return [self.browser.get(url, headers=headers) for _ in range(2)][1]

    def profile(self, headers: dict[str, str], fault: str) -> Any:
        self.browser.sign_in()
        self.provider.faults.add(f"profile.{fault}")
        return self.browser.get("/profile", headers=headers)

    def timeout(self, headers: dict[str, str]) -> Any:
        impatient = Browser(self.application(UPSTREAM_TIMEOUT="0.2"), self.provider)
        url = impatient.callback_url()
        self.provider.faults.add("token.slow")
        return impatient.get(url, headers=headers)

    def busy(self, headers: dict[str, str]) -> Any:
        app = self.application(UPSTREAM_LIMIT="1")
        url = Browser(app, self.provider).callback_url()
        app.transport.adapter.request_limit.take()
        return Browser(app, self.provider).get(url, headers=headers)

    def send(self, path: str, headers: dict[str, str], app: Any = None, **more: Any) -> Any:
        return send(app or self.app, path, headers={**HTML, **headers}, **more)


Provoke = Callable[[World, dict[str, str]], Any]

# Cause, status, side, and how to get there.
CAUSES: dict[str, tuple[int, str, Provoke]] = {
    "no_login_in_progress": (400, "this request", lambda w, h: w.browser.get("/callback?code=x&state=y", headers=h)),
    "login_declined": (403, "this request", lambda w, h: w.callback(h, decision="deny")),
    "code_refused": (400, "this request", lambda w, h: w.callback(h, token="invalid_grant")),
    "bad_authorization_response": (400, "this request", lambda w, h: w.callback(h, authorize="missing_code")),
    "bad_host": (400, "this request", lambda w, h: w.send("/", h, HTTP_HOST="evil.example")),
    "cross_site_request": (
        403,
        "this request",
        lambda w, h: w.browser.post("/logout", {**h, "Origin": "https://e.vil"}),
    ),
    "not_a_navigation": (403, "this request", lambda w, h: w.browser.get("/", {**h, "Sec-Purpose": "prefetch"})),
    "not_signed_in": (401, "this request", lambda w, h: w.browser.post("/posted", h)),
    "login_refused": (400, "the provider", lambda w, h: w.callback(h, authorize="server_error")),
    "provider_temporarily_unavailable": (
        503,
        "the provider",
        lambda w, h: w.callback(h, authorize="temporarily_unavailable"),
    ),
    "issuer_mismatch": (400, "the provider", lambda w, h: w.callback(h, authorize="wrong_iss")),
    "client_refused": (502, "this application", lambda w, h: w.callback(h, token="invalid_client_401")),
    "provider_error": (502, "the provider", lambda w, h: w.callback(h, token="html_200")),
    "provider_unreachable": (502, "the provider", lambda w, h: w.callback(h, token="hang_up")),
    "provider_timeout": (504, "the provider", lambda w, h: w.timeout(h)),
    "provider_busy": (503, "the provider", lambda w, h: w.busy(h)),
    "provider_forbids": (403, "the provider", lambda w, h: w.profile(h, "403")),
    "provider_rate_limit": (429, "the provider", lambda w, h: w.profile(h, "429")),
    "session_store_unavailable": (503, "this application", lambda w, h: w.send("/", h, w.application(FullDisk()))),
    "internal_error": (500, "this application", lambda w, h: w.browser.get("/broken", h)),
    "not_found": (404, "this request", lambda w, h: w.browser.get("/nothing", h)),
    "method_not_allowed": (405, "this request", lambda w, h: w.send("/profile", h, method="DELETE")),
    "request_entity_too_large": (413, "this request", lambda w, h: w.send("/", h, CONTENT_LENGTH="1000000")),
    "bad_request": (400, "this request", lambda w, h: w.send("/", h, query="next=\xff")),
}

# Everything else that this application answers with.
GOOD: dict[str, Provoke] = {
    "the start": lambda w, h: w.browser.get("/", h),
    "a successful callback": lambda w, h: w.callback(h),
    "a second copy of it": lambda w, h: w.second_copy(h),
    "the profile": lambda w, h: w.browser.sign_in() and w.browser.get("/profile", h),
    "a program that is not signed in": lambda w, h: w.send("/profile", JSON),
    "a person who is not signed in": lambda w, h: w.browser.get("/profile"),
    "a token that was refused": lambda w, h: w.profile(HTML, "401"),
    "a sign-out": lambda w, h: w.browser.sign_in() and w.browser.post("/logout", h),
    "HEAD of the start": lambda w, h: w.send("/", h, method="HEAD"),
    "HEAD of the profile": lambda w, h: w.send("/profile", h, method="HEAD"),
    "OPTIONS": lambda w, h: w.send("/profile", h, method="OPTIONS"),
    "the liveness probe": lambda w, h: w.send("/healthz", h),
    "the readiness probe": lambda w, h: w.send("/readyz", h),
    "a page of somebody's own": lambda w, h: w.browser.sign_in() and w.browser.post("/posted", h),
}


@pytest.fixture
def world(provider: LocalProvider) -> World:
    return World(provider)


class Page(HTMLParser):
    """What a browser makes of a page: its texts, its styles, and everything that could run or load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.links: list[str] = []
        self.suspicious: list[str] = []
        self._open = ["html"]
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self._open.append(tag)
        if tag in {"script", "iframe", "object", "embed", "img", "link", "base", "form"}:
            self.suspicious.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name in {"src", "style", "action", "http-equiv"}:
                self.suspicious.append(f"{tag} {name}")
            if name == "href":
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag or tag == "html"

    def handle_data(self, data: str) -> None:
        self.texts[self._open[-1]] = self.texts.get(self._open[-1], "") + data


def header_values(response: Any, name: str) -> list[str]:
    return response.headers.getall(name) if hasattr(response.headers, "getall") else response.headers.getlist(name)


def text_of(response: Any) -> str:
    return response.text if hasattr(response, "text") else response.get_data(as_text=True)


def status_of(response: Any) -> int:
    return response.status_int if hasattr(response, "status_int") else response.status_code


class TestAnErrorPage:
    @pytest.mark.parametrize("cause", CAUSES)
    def test_tells_a_program_all_it_needs(self, world: World, cause: str, caplog: pytest.LogCaptureFixture):
        """A stable code, whose side it is on, what happened, what to do, and an id that is in the log."""
        caplog.set_level("INFO", "wsgi_oauth")
        status, side, provoke = CAUSES[cause]
        response = provoke(world, JSON)
        document = json.loads(text_of(response))
        assert response.headers["Content-Type"] == "application/json"
        assert (status_of(response), document["status"]) == (status, status)
        assert document["side"] == side
        assert document["error"] == cause
        assert all(document[name].strip() for name in ("title", "text", "advice"))
        assert re.fullmatch(r"[0-9a-f]{8,}", document["id"])
        assert document["id"] in caplog.text

    @pytest.mark.parametrize("cause", CAUSES)
    def test_tells_a_person_the_same(self, world: World, cause: str, caplog: pytest.LogCaptureFixture):
        caplog.set_level("INFO", "wsgi_oauth")
        status, side, provoke = CAUSES[cause]
        told = json.loads(text_of(provoke(world, JSON)))
        response = provoke(world, HTML)
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert status_of(response) == status
        page = Page(text_of(response))
        assert page.texts["title"] == page.texts["h1"] == told["title"]
        assert told["text"] in page.texts["p"]
        assert told["advice"] in page.texts["p"]
        assert cause in page.texts["small"]
        assert side in page.texts["small"]
        [shown] = re.findall(r"\b[0-9a-f]{16,}\b", page.texts["small"])
        assert shown in caplog.text
        assert shown != told["id"], "each request has its own"

    @pytest.mark.parametrize("cause", CAUSES)
    def test_holds_nothing_that_could_run_or_load(self, world: World, cause: str):
        """S46."""
        page = Page(text_of(CAUSES[cause][2](world, HTML)))
        assert page.suspicious == []
        assert set(page.links) <= {"http://localhost/", "http://localhost/?next=%2Fprofile"}

    @pytest.mark.parametrize("cause", CAUSES)
    def test_shows_no_trace_of_the_inside(self, world: World, cause: str):
        text = text_of(CAUSES[cause][2](world, HTML))
        for inside in (
            "Traceback",
            ".py",
            "Exception",
            CANARY,
            "requests",
            "urllib3",
            world.provider.url,
            "demo-secret",
        ):
            assert inside not in text

    def test_says_when_to_come_back(self, world: World):
        """RFC 9110 10.2.3: the provider's own number, passed on (S28)."""
        assert world.profile(JSON, "429").headers["Retry-After"] == "7"
        for cause in ("provider_temporarily_unavailable", "provider_busy", "session_store_unavailable"):
            assert int(CAUSES[cause][2](world, JSON).headers["Retry-After"]) > 0

    def test_is_one_of_its_own_for_every_cause(self, world: World):
        pages = [json.loads(text_of(provoke(world, JSON))) for _, _, provoke in CAUSES.values()]
        assert len({page["title"] for page in pages}) == len(pages)
        assert {page["side"] for page in pages} == SIDES

    def test_links_to_the_sign_in_where_one_is_known(self, world: World):
        assert Page(text_of(CAUSES["no_login_in_progress"][2](world, HTML))).links == ["http://localhost/"]
        assert Page(text_of(CAUSES["bad_host"][2](world, HTML))).links == [], "no host is ours in that request"

    def test_has_a_body_for_get_and_none_for_head(self, world: World):
        response = world.send("/nothing", {}, method="HEAD")
        assert (response.status_code, response.data) == (404, b"")


class TestTheLinkToTheSignIn:
    """It leads on to where the person wanted to go, and a program is not sent back to what was no page."""

    @pytest.mark.parametrize("wrong", [{"decision": "deny"}, {"fault": "authorize.server_error"}], ids=str)
    def test_of_a_sign_in_that_failed(self, world: World, wrong: dict[str, str]):
        page = world.browser.get(world.browser.callback_url("/where?i=was", **wrong))
        [link] = Page(page.text).links
        assert parameters(link)["next"] == "/where?i=was"

    def test_of_a_form_that_was_sent_too_late(self, world: World):
        page = world.browser.post("/posted", headers={"Referer": "http://localhost/form?step=2#end"})
        [link] = Page(page.text).links
        assert parameters(link)["next"].startswith("/form?step=2")

    @pytest.mark.parametrize("referer", ["https://evil.example/form", "http://localhost:99999/", "http://[", ""])
    def test_of_a_form_of_somebody_elses(self, world: World, referer: str):
        page = world.browser.post("/posted", headers={"Referer": referer})
        assert Page(page.text).links == ["http://localhost/"]

    def test_for_a_program(self, world: World):
        answer = world.browser.post("/posted", headers={**JSON, "Referer": "http://localhost/form"})
        assert answer.json["login_url"] == "http://localhost/"


class TestSecurityHeaders:
    """S45, S46: on everything."""

    @pytest.mark.parametrize("kind", [*GOOD, *CAUSES])
    @pytest.mark.parametrize("accept", [HTML, JSON], ids=["html", "json"])
    def test_are_on_every_kind_of_response(self, world: World, kind: str, accept: dict[str, str]):
        response = GOOD[kind](world, accept) if kind in GOOD else CAUSES[kind][2](world, accept)
        assert header_values(response, "Cache-Control") == ["no-store"]
        assert "Cookie" in ", ".join(header_values(response, "Vary"))
        assert header_values(response, "Referrer-Policy") == ["no-referrer"]
        assert header_values(response, "X-Content-Type-Options") == ["nosniff"]
        [policy] = header_values(response, "Content-Security-Policy")
        rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
        assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
        assert not re.search(r"unsafe|\*|https?:|data:", policy)

    @pytest.mark.parametrize("cause", ["login_declined", "not_found", "internal_error"])
    def test_allow_the_one_style_that_a_page_has_and_no_other(self, world: World, cause: str):
        """The hash in the policy (CSP 3, 2.3.1) is that of the style as it stands in the page."""
        response = CAUSES[cause][2](world, HTML)
        style = Page(text_of(response)).texts["style"]
        hashed = b64encode(sha256(style.encode()).digest()).decode()
        assert style
        assert f"style-src 'sha256-{hashed}';" in response.headers["Content-Security-Policy"] + ";"

    def test_of_the_sign_out_page_fit_as_well(self, world: World):
        response = world.browser.post("/logout")
        page = Page(response.text)
        hashed = b64encode(sha256(page.texts["style"].encode()).digest()).decode()
        assert hashed in response.headers["Content-Security-Policy"]
        assert page.suspicious == []

    def test_keep_a_page_that_sets_a_cookie_out_of_every_cache(self, world: World):
        """S45: a cached Set-Cookie signs in whoever comes next."""
        response = world.browser.get("/cached")
        assert "Set-Cookie" in response.headers
        assert header_values(response, "Cache-Control") == ["no-store"]

    def test_name_no_server(self, world: World):
        assert "Server" not in world.browser.get("/").headers
        assert "X-Powered-By" not in world.browser.get("/").headers


class TestNothingIsReflected:
    """S47."""

    @pytest.mark.parametrize("accept", [HTML, JSON], ids=["html", "json"])
    @pytest.mark.parametrize(
        "given",
        [
            {"path": f"/{MARKUP}"},
            {"path": f'/"onload="{CANARY}'},
            {"path": "/callback", "query": f"error={MARKUP}&state=x"},
            {"path": "/callback", "query": f"error=x&error_description={MARKUP}&error_uri=javascript:{CANARY}&state=x"},
            {"path": "/callback", "query": f"code=x&state={MARKUP}"},
            {"path": "/callback", "query": f"code={MARKUP}&code=x"},
            {"path": "/callback", "query": f"{MARKUP}={MARKUP}"},
            {"path": "/nothing", "query": MARKUP},
            {"path": "/", "HTTP_HOST": f"{CANARY}.example"},
            {"path": "/", "HTTP_HOST": MARKUP},
            {"path": "/broken", "HTTP_USER_AGENT": MARKUP, "HTTP_REFERER": f"http://x/{MARKUP}"},
            {"path": "/profile", "method": CANARY.upper()},
            {"path": "/logout", "method": "POST", "HTTP_ORIGIN": f"https://{CANARY}.example"},
            {"path": "/", "CONTENT_LENGTH": "999999", "CONTENT_TYPE": MARKUP},
        ],
        ids=str,
    )
    def test_of_a_request(self, world: World, accept: dict[str, str], given: dict[str, str]):
        response = world.send(headers=accept, **given)
        assert response.status_code >= 400
        assert CANARY.lower() not in response.get_data(as_text=True).lower()
        assert CANARY.lower() not in str(response.headers).lower()

    @pytest.mark.parametrize("accept", [HTML, JSON], ids=["html", "json"])
    @pytest.mark.parametrize(
        "fault", ["authorize.markup", "token.markup", "token.error_200", "authorize.unknown_error"]
    )
    def test_of_what_a_provider_says(self, world: World, accept: dict[str, str], fault: str):
        endpoint, _, name = fault.partition(".")
        text = text_of(world.callback(accept, **{endpoint: name}))
        for theirs in (
            "reflected",
            "<script",
            "javascript:",
            "docs.github.com",
            "incorrect or expired",
            "cat_on_keyboard",
        ):
            assert theirs not in text

    def test_of_an_error_code_with_a_valid_state(self, world: World):
        callback = world.browser.callback_url()
        state = parameters(callback)["state"]
        response = world.browser.get("/callback", params={"state": state, "error": MARKUP})
        assert response.status_int == 400
        assert CANARY not in response.text


def test_a_broken_page_of_somebodys_own_leaves_its_traceback_in_the_log(world: World, caplog: pytest.LogCaptureFixture):
    response = world.browser.get("/broken", headers=JSON)
    assert response.status_int == 500
    assert "RuntimeError" in caplog.text
    assert response.json["id"] in caplog.text


class TestAnErrorOfWerkzeugs:
    """A handler may raise one: ``abort(404)``."""

    def test_is_shown_as_ours_are(self, world: World):
        response = world.browser.get("/raising/gone", headers=JSON)
        assert (response.status_int, response.json["error"]) == (410, "gone")

    @pytest.mark.parametrize(
        ("name", "header", "value"),
        [
            ("challenge", "WWW-Authenticate", "Basic realm=here"),
            ("range", "Content-Range", "bytes */10"),
            ("pause", "Retry-After", "30"),
        ],
    )
    def test_keeps_the_header_without_which_its_status_says_little(
        self, world: World, name: str, header: str, value: str
    ):
        """RFC 9110 11.6.1, 15.5.17, RFC 6585 4"""
        response = world.browser.get(f"/raising/{name}")
        assert header_values(response, header) == [value]
        assert header_values(response, "Content-Type") == ["text/html; charset=utf-8"]

    def test_takes_nothing_of_the_session_away(self, world: World):
        world.browser.get("/raising/gone")
        world.browser.get("/raising/pause")
        assert world.browser.get("/memory").json["raised"] == ["gone", "pause"]

    def test_that_hides_a_mistake_leaves_its_traceback_in_the_log(self, world: World, caplog: pytest.LogCaptureFixture):
        response = world.browser.get("/raising/mistake", headers=JSON)
        assert response.status_int == 500
        [line] = [line for line in caplog.records if response.json["id"] in line.getMessage()]
        assert line.levelname == "ERROR"
        assert f"RuntimeError: {CANARY}" in caplog.text
        assert CANARY not in response.text


def test_where_the_sign_in_has_no_address_nobody_is_sent_there(world: World):
    response = world.browser.get("/probe")
    assert response.status_int == 401
    assert "Location" not in response.headers
