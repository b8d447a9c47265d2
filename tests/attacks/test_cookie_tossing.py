"""Cookie tossing (RFC 6265 8.6): cookies say who sent them to the browser to nobody, not even to the server.

A neighbour's subdomain can set a cookie for the whole domain, and anybody on the network one for the same host over
plain http. The victim's browser then sends the attacker's cookie, and the victim works in the attacker's session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any

import pytest
from conftest import HTML, Browser, environ_for, send

from wsgi_oauth import Config, RequestHandler, SessionStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.sessions.manager import SessionManager

from .lesson import guarded_by


class Whose(RequestHandler):
    """Says whose session it is."""

    route = "/whose"

    def get(self, request):
        return self.jsonify(request.session.get("whose"))

    def post(self, request):
        request.session["whose"] = request.form["whose"]
        return self.jsonify(None)


@pytest.fixture
def in_the_attackers_session(make_browser: Callable[..., Browser]) -> Callable[[str], bool]:
    """Send a Cookie header, in which {theirs} is the attacker's session id and {ours} the victim's."""
    victim, attacker = make_browser(handlers=(Whose,)), make_browser(handlers=(Whose,))
    for browser, name in ((victim, "victim"), (attacker, "attacker")):
        browser.sign_in()
        browser.post("/whose", params={"whose": name})

    def look(header: str) -> bool:
        header = header.format(ours=victim.cookie, theirs=attacker.cookie)
        return send(victim.app.app, "/whose", headers={**HTML, "Cookie": header}).get_json() == "attacker"

    return look


@guarded_by({"wsgi_oauth.sessions.cookie.unambiguous_value": lambda values: next(iter(values), None)})
def test_a_cookie_for_a_longer_path_comes_first_and_wins(in_the_attackers_session: Callable[[str], bool]) -> bool:
    """S39. RFC 6265 5.4: longer paths first. Which of the two is the user's own cannot be told, so neither counts."""
    return in_the_attackers_session("wsgi_oauth={theirs}; wsgi_oauth={ours}")


@guarded_by({"wsgi_oauth.sessions.cookie.unambiguous_value": lambda values: next(reversed(values), None)})
def test_a_cookie_that_was_set_later_comes_last_and_wins(in_the_attackers_session: Callable[[str], bool]) -> bool:
    """S39."""
    return in_the_attackers_session("wsgi_oauth={ours}; wsgi_oauth={theirs}")


@pytest.fixture
def site(store: SessionStore) -> Iterator[Browser]:
    """A browser at a public https site."""
    provider = LocalProvider(redirect_uris=["https://app.example.com/callback"])
    with serve_provider(provider):
        config = Config.from_environ(environ_for(provider, PUBLIC_URL="https://app.example.com"))
        yield Browser(create_app(config, store=store, handlers=[Whose]), provider, "https://app.example.com")


@guarded_by({"wsgi_oauth.sessions.cookie.cookie_name": lambda *, secure: "wsgi_oauth"})
def test_a_neighbour_sets_the_victims_session_cookie(site: Browser) -> bool:
    """S38, RFC 6265bis 4.1.3.2. Browsers take a cookie called __Host-... from the host itself alone, over TLS."""
    site.sign_in()
    of_the_attacker = site.cookie
    name = next(iter(SimpleCookie(site.get("/whose").request.headers["Cookie"])))
    if name.startswith("__Host-"):
        name = "wsgi_oauth"  # the best that a neighbour can do
    headers = {"Accept": "application/json", "Cookie": f"{name}={of_the_attacker}", "Host": "app.example.com"}
    return send(site.app.app, "/profile", headers=headers).status_code == 200


def without(word: str) -> Callable[..., str | None]:
    original = SessionManager.cookie

    def cookie(*arguments: Any, secure: bool) -> str | None:
        header = original(*arguments, secure=secure)
        return header and header.replace(f"; {word}", "")

    return cookie


def attributes(browser: Browser) -> str:
    return browser.get("/").headers["Set-Cookie"]


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.cookie": without("HttpOnly")})
def test_one_foreign_script_on_a_page_reads_the_session_cookie(site: Browser) -> bool:
    """S38. document.cookie"""
    return "HttpOnly" not in attributes(site)


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.cookie": without("Secure")})
def test_somebody_on_the_network_reads_the_cookie_from_a_request_over_plain_http(site: Browser) -> bool:
    """S38. One link to http://app.example.com is enough, although nobody answers there."""
    return "Secure" not in attributes(site)


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.cookie": without("SameSite=Lax")})
def test_a_form_on_any_site_posts_with_the_victims_cookie(site: Browser) -> bool:
    """S38. To the pages of one's own as well, which may not all look at Origin."""
    return "SameSite=Lax" not in attributes(site)
