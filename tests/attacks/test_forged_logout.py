"""Forged sign-outs: harmless at first sight, and the first half of an attack that signs the victim in anew, as somebody
else.
"""

from __future__ import annotations

from typing import Any

from conftest import Browser

from wsgi_oauth import flow

from .lesson import guarded_by

# What browsers send along (Fetch Metadata, W3C); SameSite=Lax keeps the cookie away from another site's POST, but not
# from a navigation, and not from a neighbour on the same registrable domain.
IMAGE_ELSEWHERE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"}
LINK_ELSEWHERE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate"}
NEIGHBOUR = {"Sec-Fetch-Site": "same-site", "Origin": "http://blog.localhost"}
OLD_BROWSER = {"Origin": "http://attacker.example"}


def is_signed_out(victim: Browser) -> bool:
    return victim.profile().status_int == 401


def sign_out(handler: flow.Logout, request: Any) -> object:
    request.session.end()
    return handler.jsonify({})


@guarded_by({"wsgi_oauth.flow.Logout.post": sign_out, "wsgi_oauth.flow.Logout.get": sign_out})
def test_an_image_in_a_forum_signs_everybody_out_who_reads_it(victim: Browser) -> bool:
    """S41. <img src="https://app.example.com/logout">"""
    victim.sign_in()
    victim.get("/logout", headers=IMAGE_ELSEWHERE)
    return is_signed_out(victim)


@guarded_by({"wsgi_oauth.flow.Logout.get": sign_out})
def test_a_link_somewhere_signs_out_who_follows_it(victim: Browser) -> bool:
    """S41. A GET must not have this consequence: links are followed, prefetched, previewed."""
    victim.sign_in()
    victim.get("/logout", headers=LINK_ELSEWHERE)
    return is_signed_out(victim)


@guarded_by({"wsgi_oauth.web.handler.Request.is_same_origin": True})
def test_a_form_on_a_neighbours_page_signs_the_victim_out(victim: Browser) -> bool:
    """S41. blog.example.com and app.example.com are one site, and SameSite cookies go along."""
    victim.sign_in()
    victim.post("/logout", headers=NEIGHBOUR)
    return is_signed_out(victim)


@guarded_by({"wsgi_oauth.web.handler.Request.is_same_origin": True})
def test_a_form_of_the_attackers_signs_out_who_has_an_old_browser(victim: Browser) -> bool:
    """S41. One that knows neither SameSite nor Fetch Metadata sends at least Origin."""
    victim.sign_in()
    victim.post("/logout", headers=OLD_BROWSER)
    return is_signed_out(victim)
