"""The tasks of a user in Chromium, at the running demo: with the keyboard alone, and with the errors of users."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("playwright", reason="the extra `browser` is not installed")

from keyboard import press_button, tab_to

from tools.visits import Demo, Servers, all_servers, choose_user, sign_in, sign_in_at_demo
from wsgi_oauth.demo.lab.stories import STORIES


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with all_servers() as servers:
        yield servers


@pytest.fixture(scope="module")
def demo(servers: Servers) -> Demo:
    return servers.demo


def count_token_requests(demo: Demo) -> int:
    with urllib.request.urlopen(f"{demo.provider_url}/exchanges") as answer:
        return int(json.load(answer)["token"])


class TestKeyboard:
    """Tab, Enter and Space suffice, and the focus is visible at each step."""

    def test_signs_in_and_out(self, page: Any, demo: Demo) -> None:
        page.goto(demo.url)
        press_button(page, "Ada Lovelace", "Enter")
        page.get_by_role("button", name="Allow").wait_for()
        press_button(page, "Allow", "Enter")
        page.wait_for_url(f"{demo.url}/profile")
        page.goto(f"{demo.url}/logout")
        press_button(page, "Sign out", "Space")
        page.wait_for_url(f"{demo.url}/signed-out")
        press_button(page, "Sign in", "Enter")
        page.wait_for_url(f"{demo.provider_url}/**")

    def test_declines_and_tries_another_account(self, page: Any, demo: Demo) -> None:
        page.goto(demo.url)
        press_button(page, "Hubot", "Space")
        page.get_by_role("button", name="Deny").wait_for()
        press_button(page, "Deny", "Space")
        page.wait_for_url(f"{demo.url}/callback**")
        press_button(page, "another account", "Enter")
        page.wait_for_url(f"{demo.provider_url}/**")
        press_button(page, "Ada Lovelace", "Enter")
        page.get_by_role("button", name="Allow").wait_for()
        press_button(page, "Allow", "Enter")
        page.wait_for_url(f"{demo.url}/profile")

    def test_carries_out_an_attack_without_its_guard_and_with_it(self, page: Any, demo: Demo) -> None:
        page.goto(f"{demo.provider_url}/lab")
        press_button(page, "Login CSRF", "Enter")
        page.wait_for_url("**/lab/login-csrf")
        press_button(page, "without the guard", "Space")
        page.get_by_role("heading", name="The attack succeeded").wait_for()
        press_button(page, "with the guard", "Enter")
        page.get_by_role("heading", name="The attack failed").wait_for()

    def test_creates_and_revokes_an_access_token(self, page: Any, servers: Servers) -> None:
        """The demo offers no access tokens, so this is another application."""
        url = servers.application(TOKENS="yes")
        sign_in(page, url)
        page.goto(f"{url}/tokens")
        tab_to(page, "Name")
        page.keyboard.type("Nightly backup")
        press_button(page, "Create token", "Enter")
        page.get_by_text("wo_").first.wait_for()
        press_button(page, "Revoke Nightly backup", "Space")
        page.get_by_text("Nightly backup").wait_for(state="detached")


class TestImpatience:
    def test_a_double_click_on_allow_signs_in_once(self, page: Any, demo: Demo) -> None:
        before = count_token_requests(demo)
        choose_user(page, demo)
        page.get_by_role("button", name="Allow").dblclick()
        page.wait_for_url(f"{demo.url}/profile")
        assert count_token_requests(demo) == before + 1

    def test_a_double_click_on_sign_in_leads_to_one_consent_page(self, page: Any, demo: Demo) -> None:
        page.goto(f"{demo.url}/signed-out")
        page.get_by_text("Sign in", exact=True).dblclick()
        page.get_by_role("button", name="Mona Lisa Octocat").click()
        page.get_by_role("button", name="Allow").click()
        page.wait_for_url(f"{demo.url}/profile")

    def test_going_back_after_the_sign_in_and_allowing_again_ends_at_the_profile(self, page: Any, demo: Demo) -> None:
        sign_in_at_demo(page, demo)
        before = count_token_requests(demo)
        page.go_back()
        page.get_by_role("button", name="Allow").click()
        page.wait_for_url(f"{demo.url}/profile")
        assert count_token_requests(demo) == before

    def test_reloading_the_callback_ends_at_the_profile(self, page: Any, demo: Demo) -> None:
        """The test opens the callback's URL again, because the address bar shows another URL after the sign-in."""
        callbacks = []
        page.on("request", lambda request: callbacks.append(request.url) if "/callback?" in request.url else None)
        sign_in_at_demo(page, demo)
        before = count_token_requests(demo)
        page.goto(callbacks[0])
        assert page.url == f"{demo.url}/profile"
        assert count_token_requests(demo) == before

    def test_restored_tabs_sign_in_one_after_the_other(self, page: Any, demo: Demo) -> None:
        """The tabs start at the same moment, and the browser has no cookie yet."""
        tabs = [page.context.new_page() for _ in range(5)]
        for tab in tabs:
            tab.evaluate("url => { location.href = url }", f"{demo.url}/profile")
        for tab in tabs:
            tab.wait_for_url(f"{demo.provider_url}/**")
        for tab in reversed(tabs):
            tab.get_by_role("button", name="Mona Lisa Octocat").click()
            tab.get_by_role("button", name="Allow").click()
            tab.wait_for_url(f"{demo.url}/profile")


def test_the_profile_does_not_come_back_after_the_sign_out(page: Any, demo: Demo) -> None:
    """Chromium would restore it from the back/forward cache (see wsgi_oauth/web/sign_out.py)."""
    sign_in_at_demo(page, demo)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{demo.url}/signed-out")
    page.evaluate("history.back()")
    page.wait_for_url(f"{demo.provider_url}/**")


def test_reloading_the_page_after_declining_offers_a_new_sign_in(page: Any, demo: Demo) -> None:
    choose_user(page, demo)
    page.get_by_role("button", name="Deny").click()
    page.wait_for_url(f"{demo.url}/callback**")
    page.reload()
    page.get_by_text("Sign in", exact=True).click()
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{demo.url}/profile")


class TestLab:
    def test_attack_succeeds_without_its_guard_and_fails_with_it(self, page: Any, demo: Demo) -> None:
        page.goto(f"{demo.provider_url}/lab")
        page.get_by_role("link", name=STORIES["code-injection"].title).click()
        page.get_by_role("button", name="Attack with the guard").click()
        page.get_by_role("heading", name="The attack failed", exact=True).wait_for()
        page.get_by_role("button", name="Attack without the guard").click()
        page.get_by_role("heading", name="The attack succeeded", exact=True).wait_for()


class TestTrace:
    def test_shows_a_sign_in_while_it_happens_and_a_message_is_open(self, page: Any, demo: Demo) -> None:
        page.goto(f"{demo.provider_url}/trace")
        sections = page.locator("section")
        with page.context.new_page() as other_tab:
            other_tab.goto(f"{demo.url}/signed-out")
        sections.first.get_by_role("heading", name="Signed-out page").wait_for()
        sections.first.locator("summary").first.click()
        with page.expect_popup() as popup:
            page.get_by_role("link", name="Sign in").click()
        second_tab = popup.value
        second_tab.get_by_role("button", name="Mona Lisa Octocat").click()
        second_tab.get_by_role("button", name="Allow").click()
        sections.first.get_by_text("The application shows the page").wait_for()
        assert sections.nth(1).locator("ol.diagram > li > details[open]").count() == 1
        second_tab.get_by_role("link", name="See its messages").click()
        second_tab.get_by_role("heading", name="Watch a sign-in").wait_for()
        assert second_tab.locator(".step").all_inner_texts() == page.locator(".step").all_inner_texts() != []

    def test_in_many_hidden_tabs_leaves_connections_to_the_provider(self, page: Any, demo: Demo) -> None:
        """A browser opens at most six connections to a server at the same time."""
        change = """hidden => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        tabs = [page.context.new_page() for _ in range(6)]
        for tab in tabs:
            tab.goto(f"{demo.provider_url}/trace")
            tab.evaluate(change, True)
        page.goto(demo.provider_url)
        before = tabs[0].locator("ol.diagram > li").count()
        page.goto(f"{demo.url}/signed-out")
        tabs[0].evaluate(change, False)
        tabs[0].locator("ol.diagram > li").nth(before).wait_for()
        for tab in tabs:
            tab.close()

    def test_prints_the_whole_content_of_each_message(self, page: Any, demo: Demo) -> None:
        sign_in_at_demo(page, demo)
        page.goto(f"{demo.provider_url}/trace")
        page.evaluate(
            "addEventListener('beforeprint', () => { window.printed ="
            " [...document.querySelectorAll('.inside')].every(each => each.checkVisibility()) })"
        )
        page.pdf(page_ranges="1")
        assert page.evaluate("window.printed")
        page.wait_for_function("!document.querySelector('ol.diagram details[open]')")

    def test_is_read_with_the_keyboard_alone(self, page: Any, demo: Demo) -> None:
        sign_in_at_demo(page, demo)
        page.goto(f"{demo.provider_url}/trace")
        press_button(page, "POST /token", "Enter")
        page.get_by_role("heading", name="Token request").wait_for()
        tab_to(page, "RFC 7636")
