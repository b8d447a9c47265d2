"""From nothing to "only this group may enter", with local providers that behave like well-known products."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Browser, parameters

from wsgi_oauth import Config, MemoryStore, create_app
from wsgi_oauth.cli import demo
from wsgi_oauth.cli.main import main
from wsgi_oauth.demo.profiles import PROFILES
from wsgi_oauth.demo.server import serve_provider

pytestmark = pytest.mark.usefixtures("small_ca_bundle")


@pytest.fixture(params=PROFILES)
def product(request: pytest.FixtureRequest) -> Any:
    product = PROFILES[request.param]()
    with serve_provider(product) as server:
        product.server = server  # type: ignore[attr-defined]
        yield product


@pytest.fixture
def browser(product: Any) -> Browser:
    settings = {f"WSGI_OAUTH_{name}": value for name, value in product.settings.items()}
    return Browser(create_app(Config.from_environ(settings), store=MemoryStore()), product)


def test_member_of_the_group_enters(browser: Browser) -> None:
    assert browser.get(browser.callback_url()).status_int == 303
    assert browser.profile().status_int == 200


def test_other_user_is_kept_out_and_the_log_says_why(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    page = browser.get(browser.callback_url(user="guest"))
    assert page.status_int == 403
    assert "not_allowed" in caplog.text


def test_user_who_is_not_assigned_at_okta_is_not_blamed(caplog: pytest.LogCaptureFixture) -> None:
    product: Any = PROFILES["okta"]()
    with serve_provider(product) as server:
        product.server = server
        settings = {f"WSGI_OAUTH_{name}": value for name, value in product.settings.items()}
        browser = Browser(create_app(Config.from_environ(settings), store=MemoryStore()), product)
        page = browser.get(browser.callback_url(user="unassigned"))
    assert page.status_int == 403
    assert "User is not assigned to the client application." in caplog.text
    assert "You declined" not in page.text


def test_organization_on_the_second_page_is_found() -> None:
    product: Any = PROFILES["github"]()
    with serve_provider(product) as server:
        product.server = server
        settings = {
            f"WSGI_OAUTH_{name}": value for name, value in {**product.settings, "ALLOW": "org:octo-org"}.items()
        }
        browser = Browser(create_app(Config.from_environ(settings), store=MemoryStore()), product)
        start = browser.get("/")
        assert parameters(start.location)["scope"] == "read:org"
        assert browser.get(browser.consent(start.location)).status_int == 303


def test_option_of_the_demo_names_every_profile() -> None:
    assert tuple(PROFILES) == demo._PROFILES


@pytest.mark.parametrize("arguments", [["--profile", "nobody"], ["--profile", "okta", "--walk"]])
def test_demo_refuses_an_unusable_profile(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["demo", *arguments])
    assert caught.value.code == 2
    assert "--profile: " in capsys.readouterr().err
