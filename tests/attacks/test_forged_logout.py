"""Logout CSRF: another site signs the victim out, as a first step to signing the victim in again as another user."""

from __future__ import annotations

from collections.abc import Callable

from conftest import Browser

from wsgi_oauth.demo.lab.request_attacks import FORGED_SIGN_OUT, sign_out
from wsgi_oauth.demo.lab.story import Outcome, Story

from .lesson import guarded_by

# Headers that browsers send (Fetch Metadata, W3C). SameSite=Lax withholds the cookie from a POST of another site, but
# neither from a navigation nor from a neighbouring subdomain.
IMAGE_ELSEWHERE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"}
NEIGHBOUR = {"Sec-Fetch-Site": "same-site", "Origin": "http://blog.localhost"}
OLD_BROWSER = {"Origin": "http://attacker.example"}


def is_signed_out(victim: Browser) -> bool:
    return victim.profile().status_int == 401


@guarded_by({"wsgi_oauth.web.sign_out.Logout.post": sign_out, "wsgi_oauth.web.sign_out.Logout.get": sign_out})
def test_image_in_a_forum_signs_its_readers_out(victim: Browser) -> bool:
    """S41. `<img src="https://app.example.com/logout">`"""
    victim.sign_in()
    victim.get("/logout", headers=IMAGE_ELSEWHERE)
    return is_signed_out(victim)


@guarded_by(FORGED_SIGN_OUT.guards)
def test_link_signs_the_victim_out(play: Callable[[Story], Outcome]) -> Outcome:
    """S41. A GET must not sign out, because links are followed, prefetched and previewed."""
    return play(FORGED_SIGN_OUT)


@guarded_by({"wsgi_oauth.web.request.Request.is_same_origin": True})
def test_form_on_a_neighbouring_subdomain_signs_the_victim_out(victim: Browser) -> bool:
    """S41. blog.example.com and app.example.com are one site, so SameSite cookies are sent."""
    victim.sign_in()
    victim.post("/logout", headers=NEIGHBOUR)
    return is_signed_out(victim)


@guarded_by({"wsgi_oauth.web.request.Request.has_form_token": True})
def test_form_in_a_sandboxed_frame_signs_the_user_of_an_old_browser_out(victim: Browser, attacker: Browser) -> bool:
    """S41. Such a form has the origin `null`, as this application's own forms in browsers without Fetch Metadata."""
    victim.sign_in()
    attacker.sign_in()
    for token in ("", attacker.get("/logout").form["token"].value):
        victim.post("/logout", headers={"Origin": "null"}, params={"token": token})
    return is_signed_out(victim)


@guarded_by({"wsgi_oauth.web.request.Request.is_same_origin": True})
def test_form_on_another_site_signs_the_user_of_an_old_browser_out(victim: Browser) -> bool:
    """S41. A browser without SameSite and Fetch Metadata still sends the Origin header."""
    victim.sign_in()
    victim.post("/logout", headers=OLD_BROWSER)
    return is_signed_out(victim)
