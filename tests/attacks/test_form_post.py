"""Forms of the provider (OAuth 2.0 Form Post Response Mode), which attackers can send from their own pages.

Browsers send the cookie of such a sign-in along with forms of every site.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import environ_for, stored_sessions
from form_post import PUBLIC_URL, FormBrowser, FormPostIssuer

from wsgi_oauth import Config, SessionStore, create_app
from wsgi_oauth.demo.lab.parties import exchanged_codes
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.sessions.session import Session

from .lesson import guarded_by


@pytest.fixture
def provider(removed_guard: Any) -> Iterator[FormPostIssuer]:
    provider = FormPostIssuer()
    with serve_provider(provider):
        yield provider


@pytest.fixture
def application(provider: FormPostIssuer, store: SessionStore) -> Any:
    unset = dict.fromkeys(("AUTHORIZATION_URL", "TOKEN_URL", "PROFILE_URL", "ISSUER", "SCOPE"), "")
    settings = {"PROVIDER": provider.url, "PUBLIC_URL": PUBLIC_URL, "RESPONSE_MODE": "form_post"}
    return create_app(Config.from_environ(environ_for(provider, **unset, **settings)), store=store)


@pytest.fixture
def victim(application: Any, provider: FormPostIssuer) -> FormBrowser:
    return FormBrowser(application, provider)


@pytest.fixture
def attacker(application: Any, provider: FormPostIssuer) -> FormBrowser:
    return FormBrowser(application, provider)


def find_among_all_sign_ins(pending: Session, state: str) -> dict[str, Any] | None:
    """Find the record like a program that stores states for all browsers together."""
    found = [data.get("oauth_state", {}) for data in stored_sessions(pending._manager.store)]
    return next((records[state] for records in found if state in records), None)


@guarded_by({"wsgi_oauth.sign_in._consume": find_among_all_sign_ins})
def test_page_of_the_attacker_posts_a_form_with_its_own_code(
    victim: FormBrowser, attacker: FormBrowser, provider: FormPostIssuer
) -> bool:
    """S1, S70. Login CSRF: no check of the origin helps, because the form of the provider is from another site, too."""
    form = attacker.form()
    victim.start()  # the victim's browser then has a cookie of this kind
    victim.send_form(form, {"Origin": "https://evil.example"})
    return form["code"] in exchanged_codes(provider)


@guarded_by({"wsgi_oauth.web.sign_in_handler.SignInHandler.check_response_mode": lambda _: None})
def test_authorization_request_is_changed_so_that_the_code_comes_in_the_url(
    victim: FormBrowser, provider: FormPostIssuer
) -> bool:
    """S70. Histories and logs keep the code in the URL."""
    url = re.sub("&?response_mode=form_post", "", victim.start())
    victim.get(victim.consent(url))
    return bool(exchanged_codes(provider))


@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.store_browser_session": lambda *_: None})
@guarded_by({"wsgi_oauth.sessions.manager.SessionManager.open_browser_session": lambda manager, _: Session(manager)})
def test_stolen_cookie_survives_a_second_sign_in(victim: FormBrowser) -> bool:
    """S36. The form does not bring the cookie of the session that the sign-in has to end."""
    victim.sign_in()
    stolen = victim.cookie_header
    victim.sign_in()
    return victim.get("/profile", headers={"Cookie": stolen}).status_int == 200


@guarded_by({"wsgi_oauth.sessions.manager.encrypt_id": lambda session_id, *_: session_id.encode()})
def test_thief_of_the_store_reads_the_session_id_in_a_pending_sign_in(victim: FormBrowser, store: SessionStore) -> bool:
    """S52"""
    victim.sign_in()
    session_id = victim.cookie
    assert session_id
    victim.start()
    stolen = b"".join(store.load(key) or b"" for key in store.keys())
    return session_id.encode() in stolen or session_id.encode().hex().encode() in stolen


@guarded_by({"wsgi_oauth.sessions.manager.browser_session_purpose": lambda _: "browser session"})
def test_thief_computes_the_session_id_from_two_backups_and_an_old_cookie(
    victim: FormBrowser, store: SessionStore
) -> bool:
    """S52. A pad that is used twice cancels out."""

    victim.sign_in()
    old_cookie = victim.cookie
    waiting, finishing = victim.form(), victim.form()

    def read_backup() -> bytes:
        found = [data.get("oauth_state", {}).get(waiting["state"]) for data in stored_sessions(store)]
        [record] = filter(None, found)
        return bytes.fromhex(record["browser_session"][1])

    first = read_backup()
    victim.send_form(finishing)
    second, old_id = read_backup(), urlsafe_b64decode(f"{old_cookie}=")
    computed = bytes(a ^ b ^ c for a, b, c in zip(first, second, old_id, strict=True))
    return computed == urlsafe_b64decode(f"{victim.cookie}=")


@guarded_by({"wsgi_oauth.web.request.Request.is_prefetch_or_subresource": False})
def test_hidden_frame_finishes_a_sign_in(victim: FormBrowser) -> bool:
    """S16, S46. A form in a frame of another site's page, which the victim does not see."""
    response = victim.send_form(victim.form(), {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate"})
    return response.status_int == 303
