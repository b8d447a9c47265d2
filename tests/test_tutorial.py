"""The steps of docs/tutorial.md: each attack succeeds before the step that stops it, and fails from there on."""

from __future__ import annotations

import importlib.util
import re
import runpy
import tempfile
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

import pytest
import requests
from conftest import Browser, environ_for, parameters
from werkzeug import Request, Response

from tools import tutorial as generator
from wsgi_oauth import Config, MemoryStore, create_app
from wsgi_oauth.demo.lab.stories import STORIES
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve, serve_provider

ROOT = Path(__file__).parents[1]
STEPS = sorted((ROOT / "examples" / "tutorial").glob("step*.py"))
PROJECT = ROOT / "wsgi_oauth" / "flow.py"
SITE = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def provider() -> Iterator[LocalProvider]:
    """Start the provider of the tutorial, which accepts sign-ins without PKCE."""
    provider = LocalProvider(redirect_uris=[f"{SITE}/callback"], require_pkce=False)
    with serve_provider(provider):
        yield provider


class TutorialBrowser(Browser):
    """A browser whose user has a name at the provider."""

    def __init__(self, app: Any, provider: LocalProvider, user: str) -> None:
        super().__init__(app, provider, SITE)
        self.user_at_provider = user

    def consent(self, authorization_url: str, **options: Any) -> str:
        return super().consent(authorization_url, user=self.user_at_provider, **options)

    def finish_sign_in(self) -> None:
        self.get(self.callback_url())
        assert self.signed_in_as == (self.user_at_provider or "octocat")

    @property
    def signed_in_as(self) -> str | None:
        """Return the login that /profile shows."""
        response = self.profile()
        return response.json.get("login") if response.status_int == 200 else None

    def copy_cookies_to(self, other: Browser) -> None:
        for cookie in self.app.cookiejar:
            other.app.cookiejar.set_cookie(cookie)


class Site:
    """The application of one step, or of the project, with two visitors."""

    def __init__(self, path: Path, provider: LocalProvider) -> None:
        self.provider = provider
        if path == PROJECT:
            config = Config.from_environ(environ_for(provider, PUBLIC_URL=SITE))
            self.app = create_app(config, store=MemoryStore())
        else:
            step = importlib.util.module_from_spec(importlib.util.spec_from_file_location(path.stem, path))
            step.__spec__.loader.exec_module(step)
            step.authorization_base_url = provider.authorization_url
            step.token_url, step.profile_url = provider.token_url, provider.profile_url
            self.app = step.app
        self.victim = TutorialBrowser(self.app, provider, "")
        self.attacker = TutorialBrowser(self.app, provider, "mallory")


@pytest.fixture
def site(
    request: pytest.FixtureRequest, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Site:
    monkeypatch.syspath_prepend(STEPS[0].parent)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    return Site(request.param, provider)


def changed(url: str, **changes: str) -> str:
    return f"{url.partition('?')[0]}?{urlencode({**parameters(url), **changes})}"


def without_pkce(authorization_url: str) -> str:
    """Return the authorization request without a challenge: the provider issues a code that fits any verifier."""
    query = {name: value for name, value in parameters(authorization_url).items() if "challenge" not in name}
    return f"{authorization_url.partition('?')[0]}?{urlencode(query)}"


# The attacks. Each function returns whether the attack has succeeded.

Attack = Callable[[Site], bool]
ATTACKS: list[tuple[int, Attack]] = []


def stopped_by_step(number: int) -> Callable[[Attack], Attack]:
    def decorate(attack: Attack) -> Attack:
        ATTACKS.append((number, attack))
        return attack

    return decorate


@stopped_by_step(2)
def login_csrf_with_the_state_of_an_earlier_sign_in(site: Site) -> bool:
    """The state comes from a log or a browser history, and the code from a sign-in of the attacker."""
    used = site.victim.callback_url()
    site.victim.get(used)
    code = parameters(site.attacker.consent(without_pkce(site.attacker.start())))["code"]
    site.victim.get(changed(used, code=code))
    return site.victim.signed_in_as == "mallory"


@stopped_by_step(2)
def page_in_the_background_makes_the_sign_in_fail(site: Site) -> bool:
    """A page of the attacker opens the application while the victim is at the provider."""
    callback_url = site.victim.callback_url()
    site.victim.start()
    site.victim.get(callback_url)
    return site.victim.signed_in_as is None


@stopped_by_step(3)
def link_to_the_sign_in_ends_at_another_site(site: Site) -> bool:
    """The link begins with the name of the application, and the other site then asks for a password."""
    targets = ("https://evil.example/", "//evil.example/", r"/\evil.example/", "/\t/evil.example/")
    locations = [site.victim.get(site.victim.callback_url(target)).location for target in targets]
    return any(not urljoin(SITE, location.replace("\\", "/")).startswith(f"{SITE}/") for location in locations)


@stopped_by_step(4)
def stolen_code_is_injected_into_the_sign_in_of_the_attacker(site: Site) -> bool:
    """The code comes from a log, the state is the attacker's own."""
    stolen = parameters(site.victim.callback_url())["code"]
    site.attacker.get(changed(site.attacker.callback_url(), code=stolen))
    return site.attacker.signed_in_as == "octocat"


@stopped_by_step(5)
def token_is_read_from_a_copied_cookie(site: Site) -> bool:
    """The token gives access to the provider's API, without the application and after the end of its session."""
    site.victim.finish_sign_in()
    for cookie in site.victim.app.cookiejar:
        content = urlsafe_b64decode(cookie.value.strip('"').partition(".")[0].rstrip("=") + "==")
        if token := re.search(rb'"access_token": "([^"]+)"', content):
            headers = {"Authorization": f"Bearer {token[1].decode()}"}
            return requests.get(site.provider.profile_url, headers=headers, timeout=10).ok
    return False


@stopped_by_step(6)
def session_id_is_planted_before_the_sign_in(site: Site) -> bool:
    """The attacker opens the application at a shared computer, and notes the session id."""
    site.attacker.start()
    site.attacker.copy_cookies_to(site.victim)
    site.victim.get(site.victim.callback_url())
    return site.attacker.signed_in_as == "octocat"


@stopped_by_step(7)
def copied_cookie_is_valid_after_the_sign_out(site: Site) -> bool:
    site.victim.finish_sign_in()
    site.victim.copy_cookies_to(site.attacker)
    site.victim.post("/logout")
    return site.attacker.signed_in_as == "octocat"


@stopped_by_step(8)
def redirect_of_the_token_endpoint_sends_the_code_to_the_attacker(site: Site) -> bool:
    """requests repeats the POST after a redirect with 307, even to another server."""
    with attackers_server() as (url, received):
        site.provider.faults.redirect_to = url
        site.victim.get(site.victim.callback_url(fault="token.redirect_307"))
        return any("code_verifier=" in body for body in received)


@contextmanager
def attackers_server() -> Iterator[tuple[str, list[str]]]:
    received: list[str] = []

    @Request.application
    def record(request: Request) -> Response:
        received.append(request.get_data(as_text=True))
        return Response("{}", content_type="application/json")

    with serve(record) as server:
        yield server.url, received


@stopped_by_step(9)
def user_whose_access_was_withdrawn_is_still_signed_in(site: Site) -> bool:
    """An administrator has disabled the account at the provider, which rejects the token from then on."""
    site.victim.finish_sign_in()
    [token] = re.findall('"refresh_token": *"([^"]+)"', site.provider.exchanges[-2].response_body)
    credentials = (site.provider.client_id, site.provider.client_secret)
    requests.post(site.provider.revocation_url, {"token": token}, auth=credentials, timeout=10).raise_for_status()
    return site.victim.profile().status_int == 200


@stopped_by_step(10)
def next_user_of_the_computer_presses_back(site: Site) -> bool:
    """The browser may show a stored response again, unless the response forbids storing it."""
    site.victim.finish_sign_in()
    return "no-store" not in site.victim.profile().headers.get("Cache-Control", "")


@stopped_by_step(10)
def invisible_frame_makes_the_user_press_a_button(site: Site) -> bool:
    """The page of the attacker shows a game above the invisible frame."""
    site.victim.finish_sign_in()
    return "frame-ancestors 'none'" not in site.victim.get("/logout").headers.get("Content-Security-Policy", "")


def runs() -> Iterator[Any]:
    """Run each attack before the step that stops it, at that step, at the last step, and on the project."""
    for number, attack in ATTACKS:
        before, *after = dict.fromkeys([*STEPS[number - 2 : number], STEPS[-1], PROJECT])
        yield pytest.param(before, attack, True, id=f"{attack.__name__} succeeds at {before.stem}")
        for path in after:
            yield pytest.param(path, attack, False, id=f"{attack.__name__} fails at {path.stem}")


@pytest.mark.parametrize(("site", "attack", "succeeds"), list(runs()), indirect=["site"])
def test_attack(site: Site, attack: Attack, succeeds: bool) -> None:
    assert attack(site) is succeeds


every_step = pytest.mark.parametrize("site", STEPS, ids=lambda path: path.stem, indirect=True)
last_step = pytest.mark.parametrize("site", STEPS[-1:], ids=lambda path: path.stem, indirect=True)


@every_step
def test_step_signs_the_user_in(site: Site) -> None:
    response = site.victim.get(site.victim.callback_url())
    assert urljoin(SITE, response.location) == f"{SITE}/profile"
    assert site.victim.signed_in_as == "octocat"


@last_step
def test_tabs_sign_in_at_the_same_time_and_end_at_their_own_pages(site: Site) -> None:
    callback_urls = {page: site.victim.callback_url(page) for page in ("/reports", "/profile")}
    assert all(site.victim.get(url).location.endswith(page) for page, url in callback_urls.items())


@last_step
def test_expired_token_is_refreshed(site: Site, later: Callable[[float], None]) -> None:
    site.victim.finish_sign_in()
    refreshes = site.provider.count("refresh")
    later(3601)
    assert site.victim.signed_in_as == "octocat"
    assert site.provider.count("refresh") == refreshes + 1


@last_step
def test_user_who_declines_gets_a_page_that_says_so(site: Site) -> None:
    response = site.victim.get(site.victim.callback_url(decision="deny"))
    assert response.status_int == 403
    assert "access_denied" in response.text


@last_step
def test_sign_out_deletes_the_cookie_and_the_session_file(site: Site) -> None:
    site.victim.finish_sign_in()
    site.victim.post("/logout")
    assert not list(site.victim.app.cookiejar)
    assert not list(site.app.sessions.folder.iterdir())


@pytest.mark.parametrize("path", STEPS, ids=lambda path: path.stem)
def test_step_is_a_program_that_starts_its_server(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    import framework

    served = []
    monkeypatch.setattr(framework, "serve", served.append)
    assert runpy.run_path(str(path), run_name="__main__")["app"] is served[0]


def test_a_port_in_use_ends_the_step_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(STEPS[0].parent)
    import framework

    with (
        serve(Response("another program")) as other,
        pytest.raises(
            SystemExit, match=f"^port {other.port} on 127.0.0.1 for the provider: address already in use; stop"
        ),
    ):
        framework.check_port(other.port, "provider")


def test_tutorial_names_existing_attacks_of_the_lab() -> None:
    last_column = re.findall(r"^\| \[\d+\].* \| ([^|]*) \|$", generator.DOCUMENT.read_text(), re.MULTILINE)
    names = re.findall("`([a-z-]+)`", " ".join(last_column))
    assert names
    assert set(names) <= set(STORIES)


def test_code_blocks_of_the_tutorial_are_up_to_date() -> None:
    assert generator.DOCUMENT.read_text() == generator.page(), "run `python tools/tutorial.py --write`"
