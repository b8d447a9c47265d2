"""Responses that a user sees: one error page per cause, in HTML and JSON, safe and with the security headers."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest
from bs4 import BeautifulSoup
from conftest import HTML, JSON, Browser, environ_for, parameters, send
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import (
    Gone,
    InternalServerError,
    RequestedRangeNotSatisfiable,
    TooManyRequests,
    Unauthorized,
)

from wsgi_oauth import Config, LoginRequired, MemoryStore, RequestHandler, SessionStore, create_app, errors
from wsgi_oauth.demo.fault_injection import Fault, FaultContext
from wsgi_oauth.demo.local_provider import LocalProvider

SIDES = {"this request", "this application", "the provider"}
CANARY = "cAnArY"
MARKUP = f"<script>{CANARY}</script>"


class Broken(RequestHandler):
    """A handler with a bug."""

    route = "/broken"

    def get(self, request):
        raise RuntimeError(f"an internal text: {CANARY}")

    post = get


class Posted(RequestHandler):
    route = "/posted"

    def post(self, request):
        return self.jsonify({"signed in": bool(request.session["oauth_token"]), "text": request.form.get("text")})


class Cached(RequestHandler):
    """Allows caching and changes the session."""

    route = "/cached"

    def get(self, request):
        request.session["seen"] = True
        response = self.jsonify({})
        response.headers["Cache-Control"] = "public, max-age=3600"
        return response


class Raising(RequestHandler):
    """Stores its argument in the session and raises an HTTPException."""

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
    """A handler for any host that requires a sign-in, which has no URL there."""

    route = "/probe"
    any_host = True

    def get(self, request):
        raise errors.NotSignedIn("a probe")


HANDLERS = (Broken, Posted, Cached, Raising, Memory, Probe)


class FullDisk(MemoryStore):
    """A store that cannot create a session."""

    def create(self, key, record):
        raise errors.StoreError("no space left on device")


class Site:
    """An application and a browser, with a method for each failure."""

    def __init__(self, provider: LocalProvider) -> None:
        self.provider = provider
        self.app = self.application()
        self.browser = Browser(self.app, provider)

    def application(self, store: SessionStore | None = None, **settings: str) -> Any:
        config = Config.from_environ(environ_for(self.provider, **settings))
        return create_app(config, store=store or MemoryStore(), handlers=HANDLERS)

    def callback(self, headers: dict[str, str], *, authorize: str = "", token: str = "", **more: str) -> Any:
        """Finish a sign-in with a fault of the authorization endpoint or the token endpoint."""
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
        """Finish a sign-in while another one takes the only permitted request to the provider."""
        app, responses = self.application(UPSTREAM_LIMIT="1"), []
        first, second = Browser(app, self.provider), Browser(app, self.provider)
        first_url, second_url = first.callback_url(), second.callback_url()

        def act(context: FaultContext) -> object:
            responses.append(second.get(second_url, headers=headers))
            return context.normal_response()

        self.provider.faults.register(Fault("token.nested", "sends another request to the application", act))
        self.provider.faults.add("token.nested")
        first.get(first_url)
        return responses[0]

    def send(self, path: str, headers: dict[str, str], app: Any = None, **more: Any) -> Any:
        return send(app or self.app, path, headers={**HTML, **headers}, **more)


Provoke = Callable[[Site, dict[str, str]], Any]

# For each cause: the status, the responsible side, and how to provoke it.
CAUSES: dict[str, tuple[int, str, Provoke]] = {
    "no_login_in_progress": (
        400,
        "this request",
        lambda site, h: site.browser.get("/callback?code=x&state=y", headers=h),
    ),
    "login_declined": (403, "this request", lambda site, h: site.callback(h, decision="deny")),
    "code_refused": (400, "this request", lambda site, h: site.callback(h, token="invalid_grant")),
    "bad_authorization_response": (400, "this request", lambda site, h: site.callback(h, authorize="missing_code")),
    "bad_host": (400, "this request", lambda site, h: site.send("/", h, HTTP_HOST="evil.example")),
    "cross_site_request": (
        403,
        "this request",
        lambda site, h: site.browser.post("/logout", {**h, "Origin": "https://e.vil"}),
    ),
    "not_a_navigation": (403, "this request", lambda site, h: site.browser.get("/", {**h, "Sec-Purpose": "prefetch"})),
    "not_signed_in": (401, "this request", lambda site, h: site.browser.post("/posted", h)),
    "login_refused": (400, "the provider", lambda site, h: site.callback(h, authorize="server_error")),
    "provider_temporarily_unavailable": (
        503,
        "the provider",
        lambda site, h: site.callback(h, authorize="temporarily_unavailable"),
    ),
    "issuer_mismatch": (400, "the provider", lambda site, h: site.callback(h, authorize="wrong_iss")),
    "client_refused": (502, "this application", lambda site, h: site.callback(h, token="invalid_client_401")),
    "provider_error": (502, "the provider", lambda site, h: site.callback(h, token="html_200")),
    "provider_unreachable": (502, "the provider", lambda site, h: site.callback(h, token="hang_up")),
    "provider_timeout": (504, "the provider", lambda site, h: site.timeout(h)),
    "provider_busy": (503, "the provider", lambda site, h: site.busy(h)),
    "provider_forbids": (502, "the provider", lambda site, h: site.profile(h, "403")),
    "provider_rate_limit": (429, "the provider", lambda site, h: site.profile(h, "429")),
    "session_store_unavailable": (
        503,
        "this application",
        lambda site, h: site.send("/", h, site.application(FullDisk())),
    ),
    "internal_error": (500, "this application", lambda site, h: site.browser.get("/broken", h)),
    "not_found": (404, "this request", lambda site, h: site.browser.get("/nothing", h)),
    "method_not_allowed": (405, "this request", lambda site, h: site.send("/profile", h, method="DELETE")),
    "request_entity_too_large": (413, "this request", lambda site, h: site.send("/", h, CONTENT_LENGTH="1000000")),
    "bad_request": (400, "this request", lambda site, h: site.send("/", h, query="next=\xff")),
}

# Successful responses.
GOOD: dict[str, Provoke] = {
    "the start": lambda site, h: site.browser.get("/", h),
    "a successful callback": lambda site, h: site.callback(h),
    "a duplicate callback": lambda site, h: site.second_copy(h),
    "the profile": lambda site, h: site.browser.sign_in() and site.browser.get("/profile", h),
    "an anonymous program": lambda site, h: site.send("/profile", JSON),
    "an anonymous user": lambda site, h: site.browser.get("/profile"),
    "a rejected token": lambda site, h: site.profile(HTML, "401"),
    "a sign-out": lambda site, h: site.browser.sign_in() and site.browser.post("/logout", h),
    "HEAD of the start": lambda site, h: site.send("/", h, method="HEAD"),
    "HEAD of the profile": lambda site, h: site.send("/profile", h, method="HEAD"),
    "OPTIONS": lambda site, h: site.send("/profile", h, method="OPTIONS"),
    "the liveness probe": lambda site, h: site.send("/healthz", h),
    "the readiness probe": lambda site, h: site.send("/readyz", h),
    "an own handler": lambda site, h: site.browser.sign_in() and site.browser.post("/posted", h),
}


@pytest.fixture
def site(provider: LocalProvider) -> Site:
    return Site(provider)


class Page(HTMLParser):
    """A parsed page: its texts, its links, and elements that could run or load something."""

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


class TestErrorPage:
    @pytest.mark.parametrize("cause", CAUSES)
    def test_as_json_has_status_cause_texts_and_id(self, site: Site, cause: str, caplog: pytest.LogCaptureFixture):
        """The id is also in the log."""
        caplog.set_level("INFO", "wsgi_oauth")
        status, side, provoke = CAUSES[cause]
        response = provoke(site, JSON)
        document = json.loads(text_of(response))
        assert response.headers["Content-Type"] == "application/json"
        assert (status_of(response), document["status"]) == (status, status)
        assert document["side"] == side
        assert document["error"] == cause
        assert all(document[name].strip() for name in ("title", "text", "advice"))
        assert re.fullmatch(r"[0-9a-f]{8,}", document["id"])
        assert document["id"] in caplog.text

    @pytest.mark.parametrize("cause", CAUSES)
    def test_as_html_says_the_same_and_is_safe(self, site: Site, cause: str, caplog: pytest.LogCaptureFixture):
        """S46: it runs and loads nothing, and reveals no internals."""
        caplog.set_level("INFO", "wsgi_oauth")
        status, side, provoke = CAUSES[cause]
        expected = json.loads(text_of(provoke(site, JSON)))
        response = provoke(site, HTML)
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert status_of(response) == status
        page = Page(text_of(response))
        assert page.texts["h1"] == expected["title"]
        assert page.texts["title"] == expected["title"] + ("" if cause == "bad_host" else " · localhost")
        assert expected["text"] in page.texts["p"]
        assert expected["advice"] in page.texts["p"]
        assert cause in page.texts["small"]
        assert side in page.texts["small"]
        [shown] = re.findall(r"\b[0-9a-f]{16,}\b", page.texts["small"])
        assert shown in caplog.text
        assert shown != expected["id"], "each request has its own id"
        assert page.suspicious == []
        starts = {f"http://localhost/{query}" for query in ("", "?next=%2Fprofile", "?switch=1&next=%2Fprofile")}
        assert set(page.links) <= {"", "/profile", "/broken", "/logout", *starts}
        for internal in (
            "Traceback",
            ".py",
            "Exception",
            CANARY,
            "requests",
            "urllib3",
            site.provider.url,
            "demo-secret",
        ):
            assert internal not in text_of(response)

    def test_says_when_to_try_again(self, site: Site):
        """RFC 9110 10.2.3. The provider's own number is passed on (S28)."""
        assert site.profile(JSON, "429").headers["Retry-After"] == "7"
        for cause in ("provider_temporarily_unavailable", "provider_busy", "session_store_unavailable"):
            assert int(CAUSES[cause][2](site, JSON).headers["Retry-After"]) > 0

    def test_has_a_distinct_title_for_each_cause(self, site: Site):
        pages = [json.loads(text_of(provoke(site, JSON))) for _, _, provoke in CAUSES.values()]
        assert len({page["title"] for page in pages}) == len(pages)
        assert {page["side"] for page in pages} == SIDES

    def test_links_to_the_sign_in_unless_the_host_is_invalid(self, site: Site):
        assert Page(text_of(CAUSES["no_login_in_progress"][2](site, HTML))).links == ["http://localhost/"]
        assert Page(text_of(CAUSES["bad_host"][2](site, HTML))).links == [], "the host is foreign"

    def test_has_no_body_for_head(self, site: Site):
        response = site.send("/nothing", {}, method="HEAD")
        assert (response.status_code, response.data) == (404, b"")


class TestSignInLink:
    """It returns to the page that the user wanted. A program gets no return URL."""

    @pytest.mark.parametrize("wrong", [{"decision": "deny"}, {"fault": "authorize.server_error"}], ids=str)
    def test_after_a_failed_sign_in_keeps_the_return_url(self, site: Site, wrong: dict[str, str]):
        page = site.browser.get(site.browser.callback_url("/where?i=was", **wrong))
        [link] = Page(page.text).links
        assert parameters(link)["next"] == "/where?i=was"

    def test_after_a_form_returns_to_the_page_of_the_form(self, site: Site):
        page = site.browser.post("/posted", headers={"Referer": "http://localhost/form?step=2#end"})
        [link] = Page(page.text).links
        assert parameters(link)["next"].startswith("/form?step=2")

    @pytest.mark.parametrize("referer", ["https://evil.example/form", "http://localhost:99999/", "http://[", ""])
    def test_after_a_form_of_another_site_has_no_return_url(self, site: Site, referer: str):
        page = site.browser.post("/posted", headers={"Referer": referer})
        assert Page(page.text).links == ["http://localhost/"]

    def test_for_a_program_has_no_return_url(self, site: Site):
        answer = site.browser.post("/posted", headers={**JSON, "Referer": "http://localhost/form"})
        assert answer.json["login_url"] == "http://localhost/"


def buttons(response: Any) -> list[tuple[str, str | None]]:
    """Return the text and the URL of each button of a page."""
    actions = BeautifulSoup(text_of(response), "html.parser").select(".actions > li > *")
    return [(each.get_text(strip=True), each.get("href", each.get("action"))) for each in actions]


START_AGAIN = "http://localhost/?next=%2Fprofile"
SAME_PAGE = ""  # RFC 3986 4.4; without the code in its URL


class TestButton:
    """A page about an error offers only the button that helps."""

    @pytest.mark.parametrize(
        ("cause", "expected"),
        [
            ("provider_timeout", [("Try again", START_AGAIN)]),
            ("login_refused", [("Try again", START_AGAIN)]),
            ("provider_busy", [("Try again", SAME_PAGE)]),  # the code is still good
            ("provider_rate_limit", [("Try again", "/profile")]),
            ("session_store_unavailable", [("Try again", SAME_PAGE)]),
            ("internal_error", [("Try again", "/broken")]),
            ("code_refused", [("Sign in", START_AGAIN)]),
            ("no_login_in_progress", [("Sign in", "http://localhost/")]),
            ("not_signed_in", [("Sign in", "http://localhost/")]),
            ("login_declined", [("Use another account", "http://localhost/?switch=1&next=%2Fprofile")]),
            ("not_a_navigation", [("Open the page", SAME_PAGE)]),
            ("bad_host", []),
            ("bad_request", [("Open the application", "http://localhost/")]),
            ("not_found", [("Open the application", "http://localhost/")]),
        ],
    )
    def test_depends_on_the_cause(self, site: Site, cause: str, expected: list[tuple[str, str]]):
        assert buttons(CAUSES[cause][2](site, HTML)) == expected

    def test_after_a_failed_form_leads_to_the_page_of_the_form(self, site: Site):
        for referrer, url in [("http://localhost/form?step=2", "/form?step=2"), ("https://evil.example/", "/broken")]:
            assert buttons(site.browser.post("/broken", headers={"Referer": referrer})) == [("Try again", url)]

    def test_of_a_missing_page_behind_the_gate_leads_to_the_front_page(self, site: Site):
        gate = LoginRequired(site.app, site.app)
        assert buttons(send(gate, "/auth/nothing", headers=HTML)) == [("Open the application", "http://localhost/")]

    def test_works(self, site: Site):
        page = site.profile(HTML, "429")
        assert "Mona Lisa" in page.click("Try again").text


class TestName:
    def test_is_that_of_the_setting(self, site: Site):
        page = Page(
            send(site.application(NAME="Ann & Bob's <Wiki>"), "/signed-out", headers=HTML).get_data(as_text=True)
        )
        assert page.texts["title"] == "You are signed out · Ann & Bob's <Wiki>"

    def test_is_that_of_the_host_by_default(self, site: Site):
        app = site.application(PUBLIC_URL="https://wiki.example.com:8443/auth")
        page = text_of(send(app, "/signed-out", headers=HTML, HTTP_HOST="wiki.example.com"))
        assert Page(page).texts["title"] == "You are signed out · wiki.example.com"

    @pytest.mark.parametrize(
        ("language", "signed_in", "elsewhere"),
        [
            ("en", "is signed in to Wiki.", "still be signed in at Acme ID."),
            ("de", "bei Wiki angemeldet.", "Bei Acme ID sind Sie vielleicht noch angemeldet."),
            ("fr", "est connecté à Wiki.", "encore connecté à Acme ID."),
            ("es", "sesión iniciada en Wiki.", "siga abierta en Acme ID."),
        ],
    )
    def test_and_that_of_the_provider_are_on_the_pages_of_the_sign_out(
        self, site: Site, language: str, signed_in: str, elsewhere: str
    ):
        browser = Browser(site.application(NAME="Wiki", TITLE="Acme ID"), site.provider)
        headers = {**HTML, "Accept-Language": language}
        browser.sign_in()
        assert signed_in in browser.get("/logout", headers=headers).text
        browser.post("/logout")
        page = Page(browser.get("/signed-out", headers=headers).text)
        assert elsewhere in page.texts["p"]
        assert "Wiki." in page.texts["p"] or "Wiki angemeldet." in page.texts["p"]

    @pytest.mark.parametrize(
        ("host", "name", "monogram"),
        [
            ("wiki.example.com", "", ["W"]),
            ("192.0.2.7", "", []),
            ("[2001:db8::1]", "", []),
            ("192.0.2.7", "our wiki", ["O"]),
        ],
    )
    def test_has_a_monogram_unless_it_is_an_ip_address(self, site: Site, host: str, name: str, monogram: list[str]):
        app = site.application(PUBLIC_URL=f"https://{host}", NAME=name)
        page = text_of(send(app, "/signed-out", headers=HTML, HTTP_HOST=host))
        assert re.findall('class="mark"[^>]*>(.*?)<', page) == monogram

    def test_of_a_foreign_host_is_not_shown(self, site: Site):
        app = site.application(PUBLIC_URL="https://wiki.example.com/")
        page = Page(text_of(send(app, "/", headers=HTML, HTTP_HOST="evil.example")))
        assert page.texts["title"] == "This application has another address · wiki.example.com"

    @pytest.mark.parametrize("name", ["x" * 101, "a\nb", "\x1b[1m"])
    def test_is_short_and_printable(self, name: str):
        with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_NAME: must have at most 100 characters"):
            Config(client_id="id", client_secret="secret", name=name)


class TestSecurityHeaders:
    """S45, S46: every response has them."""

    @pytest.mark.parametrize("kind", [*GOOD, *CAUSES])
    @pytest.mark.parametrize("accept", [HTML, JSON], ids=["html", "json"])
    def test_are_in_every_response(self, site: Site, kind: str, accept: dict[str, str]):
        response = GOOD[kind](site, accept) if kind in GOOD else CAUSES[kind][2](site, accept)
        assert header_values(response, "Cache-Control") == ["no-store"]
        assert "Cookie" in ", ".join(header_values(response, "Vary"))
        assert header_values(response, "Referrer-Policy") == ["no-referrer"]
        assert header_values(response, "X-Content-Type-Options") == ["nosniff"]
        [policy] = header_values(response, "Content-Security-Policy")
        rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
        assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
        assert not re.search(r"unsafe|\*|https?:|data:", policy)

    @pytest.mark.parametrize("cause", ["login_declined", "not_found", "internal_error"])
    def test_allow_exactly_the_style_of_the_page(self, site: Site, cause: str):
        """The policy has the hash of the page's style (CSP 3, 2.3.1)."""
        response = CAUSES[cause][2](site, HTML)
        style = Page(text_of(response)).texts["style"]
        hashed = b64encode(sha256(style.encode()).digest()).decode()
        assert style
        assert f"style-src 'sha256-{hashed}';" in response.headers["Content-Security-Policy"] + ";"

    def test_allow_exactly_the_style_of_the_sign_out_page(self, site: Site):
        response = site.browser.get("/signed-out")
        page = Page(response.text)
        hashed = b64encode(sha256(page.texts["style"].encode()).digest()).decode()
        assert hashed in response.headers["Content-Security-Policy"]
        assert page.suspicious == []

    def test_forbid_caching_a_response_with_a_cookie(self, site: Site):
        """S45: a cached Set-Cookie would sign the next user in."""
        response = site.browser.get("/cached")
        assert "Set-Cookie" in response.headers
        assert header_values(response, "Cache-Control") == ["no-store"]

    def test_do_not_name_the_server(self, site: Site):
        assert "Server" not in site.browser.get("/").headers
        assert "X-Powered-By" not in site.browser.get("/").headers


class TestNothingIsReflected:
    """S47: pages contain no text of a request or of the provider."""

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
    def test_from_a_request(self, site: Site, accept: dict[str, str], given: dict[str, str]):
        response = site.send(headers=accept, **given)
        assert response.status_code >= 400
        assert CANARY.lower() not in response.get_data(as_text=True).lower()
        assert CANARY.lower() not in str(response.headers).lower()

    @pytest.mark.parametrize("accept", [HTML, JSON], ids=["html", "json"])
    @pytest.mark.parametrize(
        "fault", ["authorize.markup", "token.markup", "token.error_200", "authorize.unknown_error"]
    )
    def test_from_the_provider(self, site: Site, accept: dict[str, str], fault: str):
        endpoint, _, name = fault.partition(".")
        text = text_of(site.callback(accept, **{endpoint: name}))
        for theirs in (
            "<script",
            "javascript:",
            "docs.github.com",
            "incorrect or expired",
            "cat_on_keyboard",
        ):
            assert theirs not in text

    def test_from_an_error_code_with_a_valid_state(self, site: Site):
        callback = site.browser.callback_url()
        state = parameters(callback)["state"]
        response = site.browser.get("/callback", params={"state": state, "error": MARKUP})
        assert response.status_int == 400
        assert CANARY not in response.text


def test_exception_of_a_handler_is_logged_with_its_traceback(site: Site, caplog: pytest.LogCaptureFixture):
    response = site.browser.get("/broken", headers=JSON)
    assert response.status_int == 500
    assert "RuntimeError" in caplog.text
    assert response.json["id"] in caplog.text


class TestHttpException:
    """A handler can raise one, for example with ``abort(404)``."""

    def test_is_shown_like_other_errors(self, site: Site):
        response = site.browser.get("/raising/gone", headers=JSON)
        assert (response.status_int, response.json["error"]) == (410, "gone")

    @pytest.mark.parametrize(
        ("name", "header", "value"),
        [
            ("challenge", "WWW-Authenticate", "Basic realm=here"),
            ("range", "Content-Range", "bytes */10"),
            ("pause", "Retry-After", "30"),
        ],
    )
    def test_keeps_the_header_that_its_status_requires(self, site: Site, name: str, header: str, value: str):
        """RFC 9110 11.6.1, 15.5.17, RFC 6585 4"""
        response = site.browser.get(f"/raising/{name}")
        assert header_values(response, header) == [value]
        assert header_values(response, "Content-Type") == ["text/html; charset=utf-8"]

    def test_keeps_the_changes_of_the_session(self, site: Site):
        site.browser.get("/raising/gone")
        site.browser.get("/raising/pause")
        assert site.browser.get("/memory").json["raised"] == ["gone", "pause"]

    def test_with_an_original_exception_is_logged_with_its_traceback(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ):
        response = site.browser.get("/raising/mistake", headers=JSON)
        assert response.status_int == 500
        [line] = [line for line in caplog.records if response.json["id"] in line.getMessage()]
        assert line.levelname == "ERROR"
        assert f"RuntimeError: {CANARY}" in caplog.text
        assert CANARY not in response.text


def test_handler_for_any_host_does_not_redirect_to_the_sign_in(site: Site):
    response = site.browser.get("/probe")
    assert response.status_int == 401
    assert "Location" not in response.headers
