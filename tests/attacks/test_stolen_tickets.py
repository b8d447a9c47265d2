"""Tickets that hand a session over to another site (S66): stolen, replayed, planted, or redeemed elsewhere.

The victim is signed in on the main site. The attacker wants to be signed in as the victim on a further site, or wants
the victim to be signed in there as the attacker. A ticket travels in a URL, so it can be read in histories and in logs
of proxies. The operator of one site can read all requests to it, including cookies, and should gain nothing on others.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import parameters
from sites import FILES, MAIN, WIKI, User, config, provider_of_main, wiki

from wsgi_oauth import LoginRequired, SessionStore, create_app
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.sessions import tickets as tickets_module
from wsgi_oauth.sessions.cookie import session_id_from_cookie
from wsgi_oauth.sessions.session import Session
from wsgi_oauth.sign_in import Attempt, AuthorizationResponse, consume_state

from .lesson import guarded_by

VICTIM = "583231"
FILES_PAGE_OF_THE_VICTIM = f"{VICTIM} at {FILES}/page"


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    with provider_of_main() as provider:
        yield provider


@pytest.fixture
def app(provider: LocalProvider, store: SessionStore) -> Any:
    return LoginRequired(wiki, create_app(config(provider), store=store))


@pytest.fixture
def victim(app: Any, provider: LocalProvider) -> User:
    """Return the victim, who is signed in on the main site."""
    user = User(app, provider)
    user.visit(f"{MAIN}/page")
    return user


@pytest.fixture
def attacker(app: Any, provider: LocalProvider) -> User:
    return User(app, provider, "mallory")


def ticket_url(user: User, page: str = f"{WIKI}/page") -> str:
    """Return the URL with the ticket that *user* is about to redeem."""
    user.visit(page, until="ticket=")
    return user.trail[-1]


def prepared_hand_over(attacker: User, site: str = WIKI) -> str:
    """Start a sign-in in the attacker's browser; return the link to the main site, which the attacker sends away."""
    attacker.visit(f"{site}/page", until="/hand-over")
    return attacker.trail[-1]


def is_victim(user: User, site: str = WIKI) -> bool:
    """Return whether *user* is signed in on *site* as the victim."""
    page = user.get(f"{site}/page")
    return page.status_int == 200 and page.text.startswith(VICTIM)


# The cookie of the state is not required: everyone who opens the URL gets the session.
def accept_every_browser(
    pending: Session, session: Session, response: AuthorizationResponse, **options: float
) -> Attempt:
    if response.code:  # the callback of the main site
        return consume_state(pending, session, response, **options)
    return Attempt(response.state, "", "", "/page")


@guarded_by({"wsgi_oauth.sign_in.consume_state": accept_every_browser})
def test_ticket_of_the_attacker_in_the_browser_of_the_victim(victim: User, attacker: User) -> bool:
    """S66. Login CSRF: the victim would write to the wiki as the attacker."""
    victim.get(ticket_url(attacker))
    page = victim.get(f"{WIKI}/page")
    return page.status_int == 200 and not page.text.startswith(VICTIM)


@guarded_by({"wsgi_oauth.sign_in.consume_state": accept_every_browser})
def test_stolen_ticket_in_another_browser(victim: User, attacker: User) -> bool:
    """S66. The attacker is faster than the victim, who has lost the connection."""
    attacker.get(ticket_url(victim))
    return is_victim(attacker)


@guarded_by({"wsgi_oauth.sessions.tickets.ticket_purpose": lambda site, state: site})
def test_stolen_ticket_with_the_state_of_the_attacker(victim: User, attacker: User) -> bool:
    """S66. The attacker has a sign-in in progress, and puts the ticket of the victim into it."""
    own_state = parameters(prepared_hand_over(attacker))["state"]
    ticket = parameters(ticket_url(victim))["ticket"]
    attacker.get(f"{WIKI}/auth/redeem?state={own_state}&ticket={ticket}")
    return is_victim(attacker)


@guarded_by({"wsgi_oauth.sessions.tickets.Tickets.discard": lambda tickets, ticket: None})
def test_ticket_for_a_sign_in_that_the_attacker_has_started(victim: User, attacker: User) -> bool:
    """S66. The victim follows the link of the attacker, who then reads the ticket in the log of a proxy."""
    url = victim.get(prepared_hand_over(attacker)).location
    assert victim.get(url).status_int == 400
    attacker.get(url)
    return is_victim(attacker)


@guarded_by({"wsgi_oauth.sessions.tickets.TICKET_LIFETIME": 3600})
def test_old_ticket_from_the_history(victim: User, attacker: User, later: Callable[[float], None]) -> bool:
    """S66. The same, but the browser of the victim has not reached the site."""
    url = victim.get(prepared_hand_over(attacker)).location
    later(31)
    attacker.get(url)
    return is_victim(attacker)


@guarded_by({"wsgi_oauth.sessions.tickets.ticket_purpose": lambda site, state: state})
def test_ticket_for_one_site_at_another(victim: User, attacker: User) -> bool:
    """S66. The attacker operates the wiki, whose proxy keeps the ticket of the victim, and wants to read the files."""
    own_state = parameters(prepared_hand_over(attacker, FILES))["state"]
    url = victim.get(f"{MAIN}/auth/hand-over?site=wiki.example.org&state={own_state}").location
    attacker.get(url.replace(WIKI, FILES))
    return is_victim(attacker, FILES)


@guarded_by({"wsgi_oauth.web.site.Site.find_further_url": lambda site, host: f"https://{host}"})
def test_ticket_for_the_site_of_the_attacker(victim: User) -> bool:
    """S66. A site that is not listed gets no ticket."""
    answer = victim.get(f"{MAIN}/auth/hand-over?site=evil.example&state={'x' * 43}")
    return "ticket" in answer.headers.get("Location", "")


def read_only(tickets: Any, ticket: str) -> bytes | None:
    raw = tickets._store.load(tickets_module.store_key(ticket))
    return raw and raw.removeprefix(tickets_module._TICKET_ENTRY)


def find_only(pending: Session, session: Session, response: AuthorizationResponse, **options: float) -> Attempt:
    if response.code:
        return consume_state(pending, session, response, **options)
    assert response.state in pending["oauth_state"]
    return Attempt(response.state, "", "", "/page")


@guarded_by(
    {
        "wsgi_oauth.sessions.tickets.Tickets.consume": read_only,
        "wsgi_oauth.sign_in.consume_state": find_only,
        "wsgi_oauth.web.application.OAuthApp._end_pending": lambda *_: None,
    }
)
def test_replayed_ticket(victim: User, app: Any, provider: LocalProvider) -> bool:
    """S66. A thief has the complete request of the victim, including the cookie of the state, but comes second."""
    url = ticket_url(victim)
    cookie = victim.at(WIKI).cookie_header
    victim.get(url)
    thief = User(app, provider)
    thief.get(url, headers={"Cookie": cookie})
    return is_victim(thief)


@guarded_by({"wsgi_oauth.sessions.tickets.store_key": lambda ticket: ticket})
def test_ticket_from_a_listing_of_the_store(victim: User, store: SessionStore) -> bool:
    """S66. The store contains only the hashes of tickets."""
    return parameters(ticket_url(victim))["ticket"] in list(store.keys())


@pytest.mark.parametrize("redeemed", [False, True], ids=["ticket", "link"])
@guarded_by(
    {
        "wsgi_oauth.sessions.encryption.apply_pad": lambda data, secret, purpose: data,
    }
)
def test_session_id_from_the_data_of_the_store(
    victim: User, attacker: User, store: SessionStore, *, redeemed: bool
) -> bool:
    """S66. A ticket and a link lead to a session, but only with the value that the browser has."""
    url = ticket_url(victim)
    if redeemed:
        victim.get(url)
    for key in store.keys():
        session_id = urlsafe_b64encode((store.load(key) or b"")[-32:]).rstrip(b"=").decode()
        answer = attacker.get(f"{MAIN}/page", headers={"Cookie": f"__Host-wsgi_oauth={session_id}"})
        if answer.status_int == 200:
            return True
    return False


@guarded_by(
    {
        "wsgi_oauth.sessions.manager.link_purpose": lambda site: "a link to any site",
        "wsgi_oauth.sessions.tickets.link_purpose": lambda site: "a link to any site",
    }
)
def test_cookie_of_one_site_at_another(victim: User, attacker: User) -> bool:
    """S66. The attacker operates the wiki, and reads the cookies of its visitors."""
    victim.visit(f"{WIKI}/page")
    stolen = {"Cookie": victim.at(WIKI).cookie_header}
    return FILES_PAGE_OF_THE_VICTIM in attacker.get(f"{FILES}/page", headers=stolen).text


@guarded_by(
    {
        "wsgi_oauth.sessions.manager.SessionManager.find_session_id": lambda sessions, environ, names: (
            session_id_from_cookie(environ, names=names)
        )
    }
)
def test_cookie_of_the_main_site_at_another(victim: User, attacker: User) -> bool:
    """S66. The attacker operates the main site's host as well, but has no access to the network of the files."""
    stolen = {"Cookie": victim.at(MAIN).cookie_header}
    return FILES_PAGE_OF_THE_VICTIM in attacker.get(f"{FILES}/page", headers=stolen).text
