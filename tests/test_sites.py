"""One sign-in for several sites (``WSGI_OAUTH_SITES``): each host has a cookie of its own, obtained with a ticket."""

from __future__ import annotations

import itertools
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import pytest
from conftest import HTML, JSON, Visitor, environ_for, gunicorn, parameters, send
from openid import Issuer
from sites import FILES, MAIN, WIKI, User, config, provider_of_main, wiki
from werkzeug import Response
from werkzeug.test import run_wsgi_app

from wsgi_oauth import Config, LoginRequired, MemoryStore, RequestHandler, SessionStore, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.sessions.tickets import Tickets


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    with provider_of_main() as provider:
        yield provider


@pytest.fixture
def oauth_app(provider: LocalProvider, store: SessionStore) -> Any:
    return create_app(config(provider), store=store)


@pytest.fixture
def user(provider: LocalProvider, oauth_app: Any) -> User:
    return User(LoginRequired(wiki, oauth_app), provider)


class TestHandOver:
    @pytest.mark.parametrize("page", ["/page?a=1&b=%20x&next=https://login.example.com/", "/", "/caf%C3%A9?q=%2F"])
    def test_anonymous_user_returns_to_the_exact_page(self, user: User, page: str):
        assert f"at {WIKI}" in user.visit(WIKI + page).text
        assert user.trail[-1] == WIKI + page

    def test_visits_each_site_with_one_sign_in(self, user: User, provider: LocalProvider):
        for site in (WIKI, FILES, MAIN):
            assert user.visit(f"{site}/page").text == f"583231 at {site}/page", user.trail
        assert [exchange.endpoint for exchange in provider.exchanges].count("token") == 1

    def test_is_a_sequence_of_redirects(self, user: User):
        user.visit(f"{WIKI}/page")
        steps = [url.partition("?")[0] for url in user.trail]
        assert steps == [
            f"{WIKI}/page",
            f"{WIKI}/auth/",
            f"{MAIN}/auth/hand-over",
            f"{MAIN}/auth/",
            user.provider.authorization_url,
            f"{MAIN}/auth/callback",
            f"{MAIN}/auth/hand-over",
            f"{WIKI}/auth/redeem",
            f"{WIKI}/page",
        ]

    def test_gives_each_site_a_cookie_of_its_own(self, user: User):
        user.visit(f"{WIKI}/page")
        user.visit(f"{FILES}/page")
        assert len({user.at(site).cookie for site in (MAIN, WIKI, FILES)}) == 3
        assert all(cookie.name == "__Host-wsgi_oauth" for cookie in user.at(WIKI).app.cookiejar)

    def test_of_one_tab_finishes_beside_those_of_others(self, user: User):
        pages = [f"{WIKI}/page?tab={number}" for number in range(3)]
        at_provider = []
        for page in pages:
            user.visit(page, until=user.provider.url)
            at_provider.append(user.trail[-1])
        for page, url in reversed(list(zip(pages, at_provider, strict=True))):
            assert user.visit(url).text == f"583231 at {page}"

    def test_of_several_tabs_can_finish_in_any_order(self, user: User):
        user.visit(f"{MAIN}/page")
        tickets = []
        for page in (f"{WIKI}/one", f"{WIKI}/two"):
            user.visit(page, until="ticket=")
            tickets.append((user.trail[-1], page))
        for ticket, page in reversed(tickets):
            assert user.visit(ticket).text == f"583231 at {page}"
        assert user.visit(tickets[0][0]).text == f"583231 at {WIKI}/one"

    def test_that_is_reloaded_leads_to_the_same_page(self, user: User):
        user.visit(f"{WIKI}/page?a=1")
        assert user.visit(user.trail[-2]).text == f"583231 at {WIKI}/page?a=1"

    def test_returns_to_a_page_with_a_long_url(self, user: User):
        page = f"{WIKI}/page?" + "&".join(f"parameter{number}={'x' * 50}" for number in range(100))
        assert user.visit(page).text == f"583231 at {page}"
        assert max(map(len, user.trail)) == len(page)

    def test_starts_again_when_the_ticket_has_expired(self, user: User, later: Callable[[float], None]):
        """S66"""
        user.visit(f"{WIKI}/page", until="ticket=")
        later(31)
        assert user.visit(user.trail[-1]).text == f"583231 at {WIKI}/page"
        assert sum("ticket=" in url for url in user.trail) == 2

    def test_survives_a_long_time_at_the_provider(self, user: User, later: Callable[[float], None]):
        user.visit(f"{WIKI}/page", until=user.provider.url)
        later(2 * 3600)
        assert user.visit(user.trail[-1]).text == f"583231 at {WIKI}/page"

    def test_that_fails_keeps_no_reload_waiting(
        self, provider: LocalProvider, store: SessionStore, monkeypatch: pytest.MonkeyPatch, caplog: Any
    ):
        def fail(*_: str) -> None:
            raise errors.StoreError("disk full")

        app = create_app(config(provider, UPSTREAM_TIMEOUT="0.1"), store=store)  # also limits the wait of a duplicate
        user = User(LoginRequired(wiki, app), provider)
        user.visit(f"{WIKI}/page", until="ticket=")
        with monkeypatch.context() as failing:
            failing.setattr(Tickets, "redeem", fail)
            assert user.get(user.trail[-1]).status_int == 503
        assert user.get(user.trail[-1]).status_int == 400
        assert "the state belongs to no sign-in of this browser" in caplog.text

    def test_does_not_start_again_for_ever(
        self, user: User, later: Callable[[float], None], caplog: pytest.LogCaptureFixture
    ):
        user.visit(f"{WIKI}/page", until="ticket=")
        later(31)
        user.visit(user.get(user.trail[-1]).location, until="ticket=")
        later(31)
        assert user.visit(user.trail[-1]).status_int == 400
        assert "let all sites use the same WSGI_OAUTH_SESSION_STORE" in caplog.text

    def test_is_not_started_by_a_script(self, user: User):
        answer = user.get(f"{WIKI}/page", headers={"Sec-Fetch-Mode": "cors", "Accept": "application/json"})
        assert (answer.status_int, answer.json["login_url"]) == (401, f"{WIKI}/auth/")

    def test_is_not_started_by_a_prefetch(self, user: User):
        assert user.get(f"{WIKI}/auth/", headers={"Sec-Purpose": "prefetch"}).status_int == 403
        user.visit(f"{WIKI}/page", until="ticket=")
        assert user.get(user.trail[-1], headers={"Sec-Purpose": "prefetch"}).status_int == 403
        assert user.visit(user.trail[-1]).text == f"583231 at {WIKI}/page"

    def test_works_with_encrypted_sessions(self, provider: LocalProvider, tmp_path: Path):
        """S52, S66"""
        app = create_app(config(provider, SESSION_SEAL="yes", SESSION_STORE=f"file:{tmp_path}/sessions"))
        user = User(LoginRequired(wiki, app), provider)
        user.visit(f"{WIKI}/page", until="ticket=")
        ticket = parameters(user.trail[-1])["ticket"]
        stored = [path.read_bytes() for path in (tmp_path / "sessions").glob("*.json")]
        assert user.visit(user.trail[-1]).text == f"583231 at {WIKI}/page"
        stored += [path.read_bytes() for path in (tmp_path / "sessions").glob("*.json")]
        for secret in (ticket, user.at(MAIN).cookie, user.at(WIKI).cookie):
            assert not any(secret.encode() in data or urlsafe_b64decode(f"{secret}=") in data for data in stored)

    def test_keeps_the_data_of_anonymous_visitors_of_a_site(self, provider: LocalProvider, store: SessionStore):
        class Basket(RequestHandler):
            route = "/basket"
            skips_access_check = True

            def get(self, request):
                request.session["items"] = request.session.get("items", 0) + 1
                return self.jsonify(request.session["items"])

        user = User(create_app(config(provider), store=store, handlers=[Basket]), provider)
        assert [user.get(f"{WIKI}/basket").json for _ in range(3)] == [1, 2, 3]

    def test_starts_again_when_a_handler_has_signed_the_user_out(
        self, provider: LocalProvider, store: SessionStore, caplog: pytest.LogCaptureFixture
    ):
        class Forget(RequestHandler):
            route = "/forget"

            def get(self, request):
                del request.session["oauth_token"]
                return self.jsonify("signed out")

        caplog.set_level("INFO", "wsgi_oauth")
        user = User(LoginRequired(wiki, create_app(config(provider), store=store, handlers=[Forget])), provider)
        user.visit(f"{WIKI}/page", until="ticket=")
        link = user.trail[-1]
        user.get(f"{MAIN}/auth/forget")
        assert user.visit(link).text == f"583231 at {WIKI}/page"
        assert caplog.text.count("hand_over success") == 1

    def test_starts_again_when_another_browser_has_sent_the_ticket(self, user: User):
        """S66: a ticket that has leaked is worthless, also to an attacker who learns the cookie of the state later."""
        user.visit(f"{WIKI}/page", until="ticket=")
        link = user.trail[-1]
        assert User(user.app, user.provider).get(link).status_int == 400
        assert user.visit(link).text == f"583231 at {WIKI}/page"
        assert sum("ticket=" in url for url in user.trail) == 2

    def test_leaves_no_trace_of_the_ticket(self, user: User):
        """S45, S46"""
        user.visit(f"{WIKI}/page", until="ticket=")
        answer = user.get(user.trail[-1])
        assert (answer.headers["Referrer-Policy"], answer.headers["Cache-Control"]) == ("no-referrer", "no-store")
        assert "ticket" not in answer.location

    def test_works_with_every_store(self, provider: LocalProvider, every_store: SessionStore):
        """S66: of parallel redemptions of one ticket, one succeeds."""
        app = create_app(config(provider), store=every_store)
        user = User(LoginRequired(wiki, app), provider)
        assert user.visit(f"{WIKI}/page").text == f"583231 at {WIKI}/page"
        tickets = Tickets(app.sessions)
        session = app.sessions.open({"HTTP_COOKIE": user.at(MAIN).cookie_header}, names=app.site.cookie_names(MAIN))
        ticket = tickets.issue(session, WIKI, "state")
        with ThreadPoolExecutor(8) as pool:
            redeemed = list(pool.map(lambda _: tickets.redeem(ticket, WIKI, "state"), range(8)))
        assert sorted(session is not None for session in redeemed) == [False] * 7 + [True]

    def test_is_logged(self, user: User, caplog: Any):
        caplog.set_level("INFO", "wsgi_oauth")
        user.visit(f"{WIKI}/page")
        assert re.search(rf"hand_over success .*: on {re.escape(WIKI)}/auth", caplog.text)
        assert parameters(user.trail[-2])["ticket"] not in caplog.text


class TestNextUrl:
    @pytest.mark.parametrize("start", [MAIN, WIKI, FILES])
    @pytest.mark.parametrize("page", [f"{MAIN}/page?a=1&b=2", f"{WIKI}/page?a=1&b=2"])
    def test_can_be_a_page_of_every_site(self, user: User, start: str, page: str):
        assert user.visit(f"{start}/auth/?next={quote(page, safe='')}").text == f"583231 at {page}"

    @pytest.mark.parametrize(
        "page", ["https://evil.example/", f"{WIKI}.evil.example/", f"{WIKI}@evil.example/", "http://wiki.example.org/"]
    )
    @pytest.mark.parametrize("start", [MAIN, WIKI])
    def test_cannot_be_a_page_elsewhere(self, user: User, start: str, page: str):
        """S33, S66"""
        assert user.visit(f"{start}/auth/?next={quote(page, safe='')}").text == f"583231 at {start}/"

    def test_of_a_link_to_another_account_survives(self, user: User):
        user.visit(f"{MAIN}/page")
        user.name = "hubot"
        page = quote(f"{WIKI}/page", safe="")
        assert user.visit(f"{MAIN}/auth/?switch=1&next={page}").text.endswith(f" at {WIKI}/page")
        assert not user.visit(f"{MAIN}/page").text.startswith("583231")


class TestOneSession:
    @pytest.fixture(autouse=True)
    def signed_in(self, user: User) -> None:
        for site in (WIKI, FILES):
            user.visit(f"{site}/page")

    @pytest.mark.parametrize("site", [MAIN, WIKI, FILES])
    def test_ends_everywhere_when_the_user_signs_out_of_one_site(self, user: User, site: str):
        """S66"""
        page = user.sign_out(site)
        assert "You are signed out" in page.text
        assert [user.get(f"{each}/page").status_int for each in (MAIN, WIKI, FILES)] == [302, 302, 302]
        assert user.at(site).cookie is None

    def test_ends_everywhere_when_an_operator_ends_it(self, user: User, oauth_app: Any):
        for entry in oauth_app.sessions.survey():
            oauth_app.sessions.store.delete(entry.key)
        assert [user.get(f"{each}/page").status_int for each in (MAIN, WIKI, FILES)] == [302, 302, 302]

    def test_is_stored_once(self, oauth_app: Any):
        assert [entry.state for entry in oauth_app.sessions.survey()] == ["signed in"]

    def test_stays_in_use_by_requests_to_one_site(self, user: User, later: Callable[[float], None]):
        """S40"""
        for _ in range(4):
            later(10 * 3600)
            assert user.get(f"{WIKI}/page").status_int == 200
        assert user.get(f"{MAIN}/page").status_int == 200

    def test_expires_on_every_site(self, user: User, later: Callable[[float], None]):
        """S40"""
        later(12 * 3600 + 1)
        assert [user.get(f"{each}/page").status_int for each in (MAIN, WIKI, FILES)] == [302, 302, 302]

    def test_is_refreshed_once_for_all_sites(self, user: User, provider: LocalProvider, later: Callable[[float], None]):
        """S31"""
        later(2 * 3600)
        for site in (WIKI, FILES, MAIN):
            assert user.get(f"{site}/auth/profile", headers=JSON).json["login"] == "octocat"
        forms = [parse_qs(exchange.body) for exchange in provider.exchanges if exchange.endpoint == "token"]
        assert [form["grant_type"] for form in forms] == [["authorization_code"], ["refresh_token"]]

    def test_is_found_again_after_another_sign_in_on_the_main_site(self, user: User):
        user.visit(f"{MAIN}/auth/?switch=1")
        assert user.visit(f"{WIKI}/page").text == f"583231 at {WIKI}/page"

    def test_that_a_site_has_not_found_again_is_not_called_ended(self, user: User):
        user.visit(f"{MAIN}/auth/?switch=1")
        assert "You are signed in" in user.sign_out(WIKI).text
        assert user.trail[-1] == f"{MAIN}/auth/signed-out"

    def test_is_not_ended_by_a_page_of_another_site(self, user: User):
        """S41"""
        headers = {"Origin": FILES}
        assert user.at(WIKI).post("/auth/logout", headers=headers).status_int == 403
        assert user.get(f"{WIKI}/page").status_int == 200

    def test_is_not_opened_by_the_cookie_of_another_site_behind_a_proxy(self, provider: LocalProvider):
        """S66: the Host of all sites is the same, so a cached login must depend on X-Forwarded-Host, too."""
        app = create_app(config(provider, TRUSTED_PROXIES="1"), store=MemoryStore())
        user = User(LoginRequired(wiki, app), provider)
        user.visit(f"{WIKI}/page")
        headers = {"Host": "backend:8000", "Cookie": f"__Host-wsgi_oauth={user.at(WIKI).cookie}"}
        statuses = [
            send(user.app, "/page", headers={**headers, "X-Forwarded-Host": urlsplit(site).netloc}).status_code
            for site in (WIKI, WIKI, FILES, MAIN)
        ]
        assert statuses == [200, 200, 401, 401]

    def test_is_not_opened_by_the_cookie_of_another_site(self, user: User):
        """S66"""
        for ours, other in itertools.permutations((MAIN, WIKI, FILES), 2):
            cookie = f"__Host-wsgi_oauth={user.at(other).cookie}"
            stranger = User(user.app, user.provider)
            assert stranger.get(f"{ours}/page", headers={"Cookie": cookie}).status_int == 302
            assert stranger.get(f"{ours}/auth/profile", headers={"Cookie": cookie}).status_int == 302

    def test_that_the_application_refuses_causes_no_loop(self, user: User):
        assert user.visit(f"{WIKI}/refused").status_int == 401
        assert sum(url.startswith(user.provider.url) for url in user.trail) == 1


class TestFurtherSite:
    def test_creates_access_tokens_on_the_main_site_only(self, provider: LocalProvider, store: SessionStore):
        """S67: a script on one site could otherwise create a token for all of them."""
        user = User(LoginRequired(wiki, create_app(config(provider, TOKENS="yes"), store=store)), provider)
        user.visit(f"{WIKI}/page")
        assert "New token" in user.visit(f"{WIKI}/auth/tokens").text
        assert user.trail[-1] == f"{MAIN}/auth/tokens"
        form = {"name": "script", "lifetime": "1d"}
        assert user.at(WIKI).post("/auth/tokens", headers={"Origin": WIKI}, params=form).status_int == 404
        assert user.at(MAIN).post("/auth/tokens", headers={"Origin": MAIN}, params=form).status_int == 201

    def test_cannot_use_the_form_token_of_another_site(self, user: User):
        """Otherwise a script on one site could submit forms of the others in old browsers."""
        user.visit(f"{WIKI}/page")
        for ours, other, status in ((MAIN, WIKI, 403), (MAIN, MAIN, 303)):
            token = user.get(f"{other}/auth/logout").form["token"].value
            old_browser = {"Origin": "null"}
            assert user.at(ours).post("/auth/logout", headers=old_browser, params={"token": token}).status_int == status

    def test_can_continue_its_sign_out_on_the_main_site(self, user: User):
        """S46: Chromium applies form-action to redirects, too."""
        policy = user.get(f"{WIKI}/auth/signed-out").headers["Content-Security-Policy"]
        assert policy.endswith(f"; form-action 'self' {MAIN}")

    @pytest.mark.parametrize("path", ["callback?state=x&code=y", "hand-over?site=wiki.example.org&state=x"])
    def test_has_no_routes_of_the_main_site(self, user: User, path: str):
        assert user.get(f"{WIKI}/auth/{path}").status_int == 404

    def test_alone_redeems_tickets(self, user: User):
        assert user.get(f"{MAIN}/auth/redeem?state=x&ticket=y").status_int == 404

    def test_does_not_exist_unless_configured(self, provider: LocalProvider, store: SessionStore):
        app = create_app(Config.from_environ(environ_for(provider, PUBLIC_URL=MAIN)), store=store)
        user = User(app, provider)
        for path in ("/hand-over", "/redeem"):
            assert user.get(MAIN + path).status_int == 404
        assert user.get(f"{WIKI}/").status_int == 400

    @pytest.mark.parametrize("host", ["evil.example", "wiki.example.org.evil.example", "login.example.com", ""])
    @pytest.mark.parametrize("path", ["/auth/hand-over?site={}&state=" + "x" * 43])
    def test_that_is_not_listed_gets_no_ticket(self, user: User, host: str, path: str):
        """S66"""
        user.visit(f"{MAIN}/page")
        answer = user.get(MAIN + path.format(host))
        assert (answer.status_int, answer.headers.get("Location")) == (400, None)

    @pytest.mark.parametrize("state", ["", "x", "x" * 42 + "%0A", "%C3%A9" * 43])
    def test_gets_no_ticket_for_a_malformed_state(self, user: User, state: str):
        user.visit(f"{MAIN}/page")
        assert user.get(f"{MAIN}/auth/hand-over?site=wiki.example.org&state={state}").status_int == 400

    @pytest.mark.parametrize("query", ["", "state=", "ticket=x", "state=%C3%A9&ticket=%C3%A9", "state=%00&ticket=%FF"])
    def test_answers_malformed_redemptions_with_400(self, user: User, query: str):
        """S2, S15"""
        assert user.get(f"{WIKI}/auth/redeem?{query}").status_int == 400

    def test_ends_no_session_whose_id_is_sent_as_a_ticket(self, user: User):
        user.visit(f"{MAIN}/page")
        user.visit(f"{WIKI}/page", until="ticket=")
        link, ticket = user.trail[-1], parameters(user.trail[-1])["ticket"]
        user.get(link.replace(ticket, user.at(MAIN).cookie))
        assert user.get(f"{MAIN}/page").status_int == 200

    def test_that_is_not_listed_is_told_the_main_address(self, user: User, caplog: Any):
        """S34"""
        page = user.get("https://other.example/page")
        assert page.status_int == 400
        assert "WSGI_OAUTH_PUBLIC_URL, 'login.example.com' or of WSGI_OAUTH_SITES (got 'other.example')" in caplog.text

    def test_can_have_another_prefix(self, provider: LocalProvider, store: SessionStore):
        app = create_app(config(provider, SITES="https://wiki.example.org/sign-in"), store=store)
        user = User(app, provider)
        assert user.get(f"{WIKI}/").location.startswith(f"{MAIN}/auth/hand-over?")
        assert user.get(f"{WIKI}/profile").location == f"{WIKI}/sign-in/?next=%2Fsign-in%2Fprofile"

    def test_leads_to_the_refusal_of_the_main_site(self, provider: LocalProvider, store: SessionStore):
        app = create_app(config(provider, ALLOW="id:1"), store=store)
        user = User(LoginRequired(wiki, app), provider)
        assert user.visit(f"{WIKI}/page").status_int == 403
        assert user.trail[-1].startswith(f"{MAIN}/auth/callback")

    def test_can_require_a_new_sign_in(self, issuer_user: User):
        issuer_user.provider.claims["auth_time"] = int(time.time()) - 1000
        issuer_user.visit(f"{WIKI}/page")
        issuer_user.provider.claims["auth_time"] = int(time.time())
        assert issuer_user.visit(f"{WIKI}/sudo").text.endswith(f" at {WIKI}/sudo")
        [at_provider] = [url for url in issuer_user.trail if url.startswith(issuer_user.provider.url)]
        assert parameters(at_provider)["max_age"] == "300"

    def test_confirms_a_sign_out_at_the_provider(self, issuer_user: User):
        issuer_user.visit(f"{WIKI}/page")
        answer = issuer_user.at(WIKI).post("/auth/logout")
        query = parameters(answer.location)
        assert query["post_logout_redirect_uri"] == f"{MAIN}/auth/signed-out"
        page = issuer_user.visit(f"{MAIN}/auth/signed-out?state={query['state']}")
        assert issuer_user.trail[-1].startswith(f"{WIKI}/auth/signed-out")
        assert "is complete, too" in page.text

    def test_does_not_confirm_a_sign_out_of_another_browser(self, issuer_user: User, user: User):
        issuer_user.visit(f"{WIKI}/page")
        state = parameters(issuer_user.at(WIKI).post("/auth/logout").location)["state"]
        victim = User(issuer_user.app, issuer_user.provider)
        assert "is complete" not in victim.visit(f"{MAIN}/auth/signed-out?state={state}").text
        assert victim.get(f"{MAIN}/auth/signed-out?state=x.evil.example").status_int == 200


class TestVerify:
    """A proxy like Caddy asks ``/verify`` about pages on several hosts, and sends ``/auth/`` of each to the sign-in."""

    @pytest.fixture
    def proxied(self, provider: LocalProvider, store: SessionStore) -> User:
        return User(proxy(create_app(config(provider, TRUSTED_PROXIES="1"), store=store)), provider)

    def test_returns_to_the_exact_page_of_each_site(self, proxied: User):
        for page in (f"{WIKI}/d/caf%C3%A9?q=%C3%BC&x=1+2", f"{FILES}/", f"{MAIN}/page"):
            assert proxied.visit(page).text.startswith("583231@")
            assert proxied.trail[-1] == page
        proxied.sign_out(FILES)
        assert proxied.get(f"{WIKI}/page").location.startswith(f"{WIKI}/auth/?next=")

    @pytest.mark.parametrize(
        ("host", "status"), [(WIKI, 204), (FILES, 401), (MAIN, 401), ("https://evil.example", 400)]
    )
    def test_takes_the_host_from_trusted_proxies_only(
        self, provider: LocalProvider, store: SessionStore, proxied: User, host: str, status: int
    ):
        """S35, S66: a cookie of the wiki opens only the wiki, even with a forged host."""
        proxied.visit(f"{WIKI}/page")
        headers = {"Cookie": proxied.at(WIKI).cookie_header, "X-Forwarded-Host": urlsplit(host).netloc, **HTML}
        trusting = create_app(config(provider, TRUSTED_PROXIES="1"), store=store)
        answer = send(trusting, "/verify", headers={**headers, "Host": "internal", "X-Forwarded-Proto": "https"})
        assert answer.status_code == status
        if status == 401:
            assert answer.headers["Location"].startswith(f"{host}/auth/")
        distrusting = create_app(config(provider), store=store)
        assert send(distrusting, "/verify", headers={**headers, "Host": urlsplit(WIKI).netloc}).status_code == 204


def proxy(oauth_app: Any) -> Any:
    """Return a proxy that removes ``/auth`` from the path, and asks ``/verify`` about every other request."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        passed = {
            **environ,
            "HTTP_HOST": "backend",
            "HTTP_X_FORWARDED_FOR": "192.0.2.1",
            "HTTP_X_FORWARDED_HOST": environ["HTTP_HOST"],
            "HTTP_X_FORWARDED_PROTO": "https",
        }
        path = environ["PATH_INFO"]
        if path.startswith("/auth/"):
            return oauth_app({**passed, "PATH_INFO": path.removeprefix("/auth")}, start_response)
        query = environ["QUERY_STRING"]
        uri = quote(path.encode("latin-1")) + (f"?{query}" if query else "")
        passed |= {"HTTP_X_FORWARDED_METHOD": environ["REQUEST_METHOD"], "HTTP_X_FORWARDED_URI": uri}
        body, status, headers = run_wsgi_app(oauth_app, {**passed, "PATH_INFO": "/verify", "QUERY_STRING": ""})
        if status.startswith("204"):
            return Response(headers["X-Auth-Request-User"])(environ, start_response)
        start_response(status, headers.to_wsgi_list())
        return body

    return app


@pytest.fixture
def issuer_user() -> Iterator[User]:
    """Return a user of an OpenID Connect provider, which can confirm a new sign-in, and end its own session."""
    issuer = Issuer(redirect_uris=[f"{MAIN}/auth/callback"])
    with serve_provider(issuer):
        environ = {
            "WSGI_OAUTH_PROVIDER": issuer.url,
            "WSGI_OAUTH_CLIENT_ID": issuer.client_id,
            "WSGI_OAUTH_CLIENT_SECRET": issuer.client_secret or "",
            "WSGI_OAUTH_SESSION_STORE": "memory:",
            "WSGI_OAUTH_END_SESSION": "yes",
            "WSGI_OAUTH_PUBLIC_URL": f"{MAIN}/auth",
            "WSGI_OAUTH_SITES": f"{WIKI} {FILES}",
        }
        app = create_app(Config.from_environ(environ), store=MemoryStore())
        yield User(LoginRequired(wiki, app), issuer)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"SITES": "wiki.example.org"}, "must begin with https://"),
        ({"SITES": "http://wiki.example.org"}, "must begin with https://"),
        ({"SITES": "https://wiki.example.org?x=1"}, "must not have a query"),
        ({"SITES": "https://*.example.org"}, ".*; write one host, without wildcards"),
        ({"SITES": "https://b\u00fccher.example"}, ".*; write letters of a host outside ASCII as xn--"),
        ({"SITES": f"{WIKI},{FILES}"}, "has characters that no host name has"),
        ({"SITES": f"{WIKI} {WIKI}/other"}, "names a host twice"),
        ({"SITES": f"{MAIN}:8443"}, "names a host twice"),
        ({"SITES": WIKI, "PUBLIC_URL": ""}, "requires the URL of the main site"),
    ],
)
def test_invalid_sites_stop_the_start(provider: LocalProvider, settings: dict[str, str], problem: str):
    with pytest.raises(errors.ConfigError, match=f"WSGI_OAUTH_SITES: .*{problem}"):
        config(provider, **settings)


def test_plain_http_is_accepted_for_hosts_of_a_private_network(provider: LocalProvider):
    settings = {"SITES": "http://wiki.internal http://localhost", "INSECURE_HTTP_HOSTS": "wiki.internal"}
    assert config(provider, **settings).sites == ("http://wiki.internal", "http://localhost")


def test_gate_requires_its_prefix_on_every_site(provider: LocalProvider):
    app = create_app(config(provider, SITES="https://wiki.example.org/sign-in"), store=MemoryStore())
    with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_SITES: must end with /auth"):
        LoginRequired(wiki, app)


def test_sites_share_sessions_under_gunicorn(tmp_path: Path):
    """S66: two workers, a folder of encrypted sessions, and the cookies of a real client."""
    main, further = "http://localhost", "http://127.0.0.1"  # without the port, which is not known yet
    provider = LocalProvider()
    with ExitStack() as stack:
        stack.enter_context(serve_provider(provider))
        settings = {"PUBLIC_URL": main, "SITES": further, "SESSION_SEAL": "yes"}
        environ = environ_for(provider, SESSION_STORE=f"file:{tmp_path}/sessions", **settings)
        server = stack.enter_context(gunicorn(tmp_path, environ, "--workers", "2"))
        visitor = stack.enter_context(Visitor(server.url, provider))
        port = urlsplit(server.url).port

        def get(url: str) -> Any:
            return visitor.get("{0.scheme}://{0.netloc}:{1}{0.path}?{0.query}".format(urlsplit(url), port))

        url = f"{further}/profile"
        while not url.startswith(provider.url):
            url = urljoin(url, get(url).headers["Location"])
        url = visitor.consent(url)
        while (answer := get(url)).is_redirect:
            url = urljoin(url, answer.headers["Location"])
        assert (answer.status_code, url) == (200, f"{further}/profile")
        assert [get(f"{each}/profile").status_code for each in (main, further)] == [200, 200]
        assert visitor.post("/logout", Origin=further).status_code == 303
        assert [get(f"{each}/profile").status_code for each in (main, further)] == [302, 302]
