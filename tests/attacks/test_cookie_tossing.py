"""Cookie tossing (RFC 6265 8.6): a cookie does not say which host has set it.

A neighbouring subdomain can set a cookie for the whole domain, and a network attacker one for the same host over plain
http. The browser of the victim then sends the cookie of the attacker, and the victim works in the attacker's session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any

import pytest
from conftest import HTML, Browser, environ_for, send

from wsgi_oauth import Config, RequestHandler, SessionStore, create_app
from wsgi_oauth.demo.lab.session_attacks import COOKIE_TOSSING
from wsgi_oauth.demo.lab.story import Outcome, Story
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.sessions.cookie import CookieNames
from wsgi_oauth.sessions.manager import SessionManager

from .lesson import guarded_by


class Owner(RequestHandler):
    """Stores the name of the owner in the session."""

    route = "/owner"

    def get(self, request):
        return self.jsonify(request.session.get("owner"))

    def post(self, request):
        request.session["owner"] = request.form["owner"]
        return self.jsonify(None)


@pytest.fixture
def uses_the_attackers_session(make_browser: Callable[..., Browser]) -> Callable[[str], bool]:
    """Return whether a Cookie header opens the attacker's session; {foreign} is its id and {own} the victim's."""
    victim, attacker = make_browser(handlers=(Owner,)), make_browser(handlers=(Owner,))
    for browser, name in ((victim, "victim"), (attacker, "attacker")):
        browser.sign_in()
        browser.post("/owner", params={"owner": name})

    def look(header: str) -> bool:
        header = header.format(own=victim.cookie, foreign=attacker.cookie)
        return send(victim.app.app, "/owner", headers={**HTML, "Cookie": header}).get_json() == "attacker"

    return look


@guarded_by(COOKIE_TOSSING.guards)
def test_cookie_with_a_longer_path_is_sent_first_and_wins(play: Callable[[Story], Outcome]) -> Outcome:
    """S39, RFC 6265 5.4. The application cannot know which cookie is the user's own, so it ignores both."""
    return play(COOKIE_TOSSING)


@guarded_by({"wsgi_oauth.sessions.cookie.unambiguous_value": lambda values: next(reversed(values), None)})
def test_cookie_that_was_set_later_is_sent_last_and_wins(uses_the_attackers_session: Callable[[str], bool]) -> bool:
    """S39."""
    return uses_the_attackers_session("wsgi_oauth={own}; wsgi_oauth={foreign}")


@pytest.fixture
def https_browser(store: SessionStore) -> Iterator[Browser]:
    """Return a browser for an application with a public https URL."""
    provider = LocalProvider(redirect_uris=["https://app.example.com/callback"])
    with serve_provider(provider):
        config = Config.from_environ(environ_for(provider, PUBLIC_URL="https://app.example.com"))
        yield Browser(create_app(config, store=store, handlers=[Owner]), provider, "https://app.example.com")


@guarded_by({"wsgi_oauth.sessions.cookie.CookieNames.name": lambda names, purpose="": "wsgi_oauth"})
def test_neighbouring_subdomain_sets_the_session_cookie(https_browser: Browser) -> bool:
    """S38, RFC 6265bis 4.1.3.2. Browsers accept a __Host- cookie only from the host itself, over TLS."""
    https_browser.sign_in()
    of_the_attacker = https_browser.cookie
    name = next(iter(SimpleCookie(https_browser.get("/owner").request.headers["Cookie"])))
    if name.startswith("__Host-"):
        name = "wsgi_oauth"  # because a neighbour cannot set the prefixed name
    headers = {"Accept": "application/json", "Cookie": f"{name}={of_the_attacker}", "Host": "app.example.com"}
    return send(https_browser.app.app, "/profile", headers=headers).status_code == 200


def cookie_without(word: str) -> Callable[..., str | None]:
    """Return a replacement of SessionManager.cookie that omits an attribute."""
    original = SessionManager.cookie

    def cookie(*arguments: Any, names: CookieNames) -> str | None:
        header = original(*arguments, names=names)
        return header and header.replace(f"; {word}", "")

    return cookie


def session_cookie(browser: Browser) -> str:
    """Return the Set-Cookie header of a new session."""
    return browser.get("/").headers["Set-Cookie"]


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.cookie": cookie_without("HttpOnly")})
def test_injected_script_reads_the_session_cookie(https_browser: Browser) -> bool:
    """S38. document.cookie omits HttpOnly cookies."""
    return "HttpOnly" not in session_cookie(https_browser)


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.cookie": cookie_without("Secure")})
def test_network_attacker_reads_the_cookie_from_a_plain_http_request(https_browser: Browser) -> bool:
    """S38. One link to http://app.example.com is enough, even if no server listens there."""
    return "Secure" not in session_cookie(https_browser)


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.cookie": cookie_without("SameSite=Lax")})
def test_form_on_another_site_is_sent_with_the_session_cookie(https_browser: Browser) -> bool:
    """S38. Handlers of an application may not check the Origin header."""
    return "SameSite=Lax" not in session_cookie(https_browser)
