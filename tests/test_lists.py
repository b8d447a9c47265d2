"""Lists of addresses, organizations, teams and groups, which some providers have beside the user document."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from conftest import Browser, environ_for, stored_sessions
from requests import Response as Answer
from werkzeug import Request, Response

from wsgi_oauth import Config, Identity, SessionStore, create_app, errors
from wsgi_oauth.config.provider import EmailsDocument, GroupsDocument
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import Server, serve, serve_provider
from wsgi_oauth.oauth import service
from wsgi_oauth.oauth.access import Rule
from wsgi_oauth.oauth.lists import MAX_PAGES, fetch_items, with_lists
from wsgi_oauth.oauth.presets import GITHUB

TEAMS = {"name": "slug", "parent": "organization.login"}
LISTS = {
    "/user/emails": [
        {"email": "cat@example.com", "primary": True, "verified": False},
        {"email": "old@github.com", "primary": False, "verified": True},
        {"email": "cat@example.org", "primary": True, "verified": True},
    ],
    "/user/orgs": [{"login": "github", "id": 9919}, {"login": "cats"}],
    "/user/teams": [{"slug": "crew", "name": "The Crew", "organization": {"login": "cats"}}, {"slug": "stray"}],
}

API = Callable[[Request], Response]
#: Makes a browser at an application whose provider has these lists.
MakeBrowser = Callable[..., Browser]


def json_response(document: Any, status: int = 200, **headers: str) -> Response:
    return Response(json.dumps(document), status, headers, mimetype="application/json")


def api(request: Request) -> Response:
    """Answer with one of :data:`LISTS`."""
    return json_response(LISTS[request.path])


@contextmanager
def serve_api(answer: API) -> Iterator[Server]:
    @Request.application
    def app(request: Request) -> Response:
        assert request.headers["Authorization"].startswith("Bearer ")
        return answer(request)

    with serve(app) as server:
        yield server


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    """Start an authorization server with a scope for each list."""
    provider = LocalProvider(scope="profile email read:org")
    with serve_provider(provider):
        yield provider


@pytest.fixture
def make_browser(
    provider: LocalProvider, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeBrowser]:
    known = service.provider_from_config
    with ExitStack() as stack:

        def make(answer: API = api, allow: str = "", groups: dict[str, str] | None = None, **settings: str) -> Browser:
            """
            :param allow: the access rules.
            :param groups: fields of the list of groups at /user/orgs.
            """
            url = stack.enter_context(serve_api(answer)).url
            lists: dict[str, Any] = {
                "emails": EmailsDocument(f"{url}/user/emails", "email"),
                "groups": (
                    GroupsDocument(f"{url}/user/orgs", "profile", **(groups or {})),
                    GroupsDocument(f"{url}/user/teams", "read:org", **TEAMS),
                ),
            }
            monkeypatch.setattr(service, "provider_from_config", lambda config: known(config)._replace(**lists))
            config = Config.from_environ(environ_for(provider, ALLOW=allow, **settings))
            return Browser(create_app(config, store=store), provider)

        yield make


@pytest.mark.parametrize(
    ("allow", "scope"),
    [
        ("", ""),
        ("user:octocat", ""),
        ("email:*@github.com", "user:email"),
        ("org:github", "read:org"),
        ("group:github/crew", "read:org"),
    ],
)
def test_scope_for_the_rules_is_requested(allow: str, scope: str) -> None:
    config = Config(client_id="i", client_secret="s", session_store="memory:", allow=allow)
    app: Any = create_app(config)
    assert next(iter(app.oauth.registrations.values())).provider.scope == scope


@pytest.mark.parametrize(
    ("allow", "status"),
    [
        ("email:*@github.com", 303),
        ("email:*@example.com", 403),
        ("email:*@example.org", 303),
        ("org:cats", 303),
        ("org:dogs", 403),
        ("org:9919", 403),
        ("group:cats/crew", 303),
        ("group:crew", 403),
        ("group:dogs/crew", 403),
        ("group:stray", 403),
    ],
)
def test_rule_matches_an_item_of_a_list(allow: str, status: int, make_browser: MakeBrowser) -> None:
    browser = make_browser(allow=allow)
    assert browser.get(browser.callback_url()).status_int == status


def test_log_describes_groups_without_a_name(make_browser: MakeBrowser, caplog: pytest.LogCaptureFixture) -> None:
    make_browser(allow="id:583231 group:cats/crew").sign_in()
    assert "1 of 2 groups have no name at organization.login and slug" in caplog.text
    assert "an object with the members 'slug'" in caplog.text


def test_unverified_address_of_a_list_counts_if_the_provider_is_trusted(make_browser: MakeBrowser) -> None:
    browser = make_browser(allow="email:*@example.com", TRUST_UNVERIFIED_EMAIL="yes")
    assert browser.get(browser.callback_url()).status_int == 303


def test_groups_stay_if_a_list_fails_at_a_recheck(
    make_browser: MakeBrowser, store: SessionStore, later: Callable[[float], None]
) -> None:
    """A failure does not change the identity, even if no access rule needs the list."""
    works = [True]
    browser = make_browser(lambda request: api(request) if works else Response("busy", 503), allow="id:583231")
    browser.sign_in()
    works.clear()
    later(3600)
    assert browser.profile().status_int == 200
    [session] = stored_sessions(store)
    assert session["oauth_identity"]["groups"] == ["github", "cats"]


@pytest.mark.parametrize(
    ("allow", "paths"),
    [
        ("id:583231", ["/user/emails"]),
        ("org:cats", ["/user/emails", "/user/orgs"]),
        ("group:cats/crew", ["/user/emails", "/user/orgs", "/user/teams"]),
    ],
)
def test_list_is_read_if_a_rule_needs_it_or_the_scope_permits_it(
    allow: str, paths: list[str], make_browser: MakeBrowser
) -> None:
    asked = []

    def answer(request: Request) -> Response:
        asked.append(request.path)
        return api(request)

    browser = make_browser(answer, allow, SCOPE="email")
    browser.sign_in()
    assert asked == paths


# Pages


def with_link(request: Request, page: int) -> Response:
    """Answer as GitHub does: a header has the URL of the next page (RFC 8288 3)."""
    last = '<https://docs.example.com>; rel="help", '
    link = f'{last}<{request.base_url}?page={page + 1}>; rel="last next"'
    return json_response([{"login": f"org-{page}"}], **({"Link": link} if page < 30 else {}))


def with_member(request: Request, page: int) -> Response:
    """Answer as Bitbucket does: the document contains the URL of the next page."""
    following = {"next": f"{request.base_url}?page={page + 1}"} if page < 30 else {}
    return json_response({"values": [{"login": f"org-{page}"}], **following})


def with_dotted_member(request: Request, page: int) -> Response:
    """Answer as Microsoft Graph does. The URL may be relative."""
    following = {"@odata.nextLink": f"/user/orgs?page={page + 1}"} if page < 30 else {}
    return json_response({"value": [{"login": f"org-{page}"}], **following})


def with_token(_: Request, page: int) -> Response:
    """Answer as Google does: the document contains a parameter of the next request."""
    return json_response({"groups": [{"login": f"org-{page}"}], "next": str(page + 1) if page < 30 else ""})


@pytest.mark.parametrize(
    ("answer", "groups"),
    [
        (with_link, {}),
        (with_member, {"items": "values", "next_page": "next"}),
        (with_dotted_member, {"items": "value", "next_page": "@odata.nextLink"}),
        (with_token, {"items": "groups", "next_page": "next", "next_page_parameter": "page"}),
    ],
)
def test_all_pages_of_a_list_are_read(
    answer: Callable[[Request, int], Response], groups: dict[str, str], make_browser: MakeBrowser
) -> None:
    browser = make_browser(
        lambda request: answer(request, int(request.args.get("page", "1"))), "org:org-30", groups, SCOPE="profile"
    )
    browser.sign_in()


def test_list_without_an_end_is_left_after_a_number_of_pages(
    make_browser: MakeBrowser, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def answer(request: Request) -> Response:
        asked.append(request.path)
        return json_response([{"login": "cats"}], Link='</user/orgs?page=2>; rel="next"')

    make_browser(answer, "org:cats", SCOPE="profile").sign_in()
    assert len(asked) == MAX_PAGES
    assert f"{MAX_PAGES} pages were read" in caplog.text


class SlowClient:
    """A client of a provider that stops answering after *pages* requests."""

    provider = GITHUB
    secrets = ()

    def __init__(self, pages: int, scope: str = "", link: str = "?page=2") -> None:
        self.pages = pages
        self.token = {"scope": scope}
        self.link = link
        self.urls: list[str] = []
        self.timeouts: list[float] = []

    def get(self, url: str, *, timeout: float, **__: Any) -> Answer:
        self.urls.append(url)
        self.timeouts.append(timeout)
        if len(self.timeouts) > self.pages:
            raise errors.ProviderTimeout("the provider did not answer in time")
        answer = Answer()
        answer.status_code, answer._content, answer.headers["Link"] = (
            200,
            b'[{"login": "cats"}]',
            f'<{self.link}>; rel="next"',
        )
        return answer


def test_organizations_that_github_leaves_out_are_named_in_the_log(
    make_browser: MakeBrowser, caplog: pytest.LogCaptureFixture
) -> None:
    """https://docs.github.com/rest/authentication/authenticating-to-the-rest-api (X-GitHub-SSO)"""
    header = "partial-results; organizations=21955855,20582480"
    browser = make_browser(lambda request: json_response([], **{"X-GitHub-SSO": header}), allow="org:github")
    assert browser.get(browser.callback_url()).status_int == 403
    assert "authorize this application with SAML single sign-on at GitHub for 'organizations=219" in caplog.text


def test_pages_that_do_not_arrive_in_time_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """S24: all pages of a list share the time of one request."""
    client: Any = SlowClient(pages=3)
    assert fetch_items(client, GITHUB.groups[0], timeout=5) == [{"login": "cats"}] * 3
    assert "5 seconds are over" in caplog.text
    assert sorted(set(client.timeouts), reverse=True) == client.timeouts
    assert all(0 < timeout <= 5 for timeout in client.timeouts)
    with pytest.raises(errors.ProviderTimeout):
        fetch_items(SlowClient(pages=0), GITHUB.groups[0], timeout=5)  # type: ignore[arg-type]


def test_next_page_with_http_is_read_with_https() -> None:
    """GitLab and Gitea write http if their proxy does not say that it terminates TLS."""
    client: Any = SlowClient(pages=1, link="http://api.github.com/user/orgs?page=2")
    assert len(fetch_items(client, GITHUB.groups[0], timeout=5)) == 1
    assert client.urls[1:] == ["https://api.github.com/user/orgs?page=2"]


@pytest.mark.parametrize("link", ["http://api.github.com:8080/", "http://github.com/", "http:api.github.com/"])
def test_next_page_with_http_elsewhere_is_not_read(link: str) -> None:
    client: Any = SlowClient(pages=1, link=link)
    assert len(fetch_items(client, GITHUB.groups[0], timeout=5)) == 1
    assert len(client.urls) == 1


@pytest.mark.parametrize("url", ["{other}/user/orgs", "//[", "http://127.0.0.1:port/"])
def test_token_is_not_sent_to_another_origin(
    url: str, make_browser: MakeBrowser, caplog: pytest.LogCaptureFixture
) -> None:
    """S23. An attacker may control a part of the document, such as the name of an organization."""
    with serve_api(lambda _: pytest.fail("the other origin received a request")) as other:
        following = url.replace("{other}", other.url)
        browser = make_browser(
            lambda _: json_response([{"login": "cats"}], Link=f'<{following}>; rel="next"'), "org:cats", SCOPE="profile"
        )
        browser.sign_in()
        assert other.connections == 0
    assert "the next page has" in caplog.text


def test_list_that_a_rule_needs_is_read_without_its_scope_because_another_can_include_it() -> None:
    """At GitHub, `user` includes `user:email`."""
    client: Any = SlowClient(pages=1, scope="user")
    identity = with_lists(Identity("github", "1"), client, [Rule("org", "cats", "github")], timeout=5)
    assert identity.groups == ("cats",)


# Failures


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_list_that_no_rule_needs_may_fail(status: int, make_browser: MakeBrowser, store: SessionStore) -> None:
    browser = make_browser(lambda _: json_response({}, status))
    browser.sign_in()
    assert browser.profile().json["login"] == "octocat"
    [session] = stored_sessions(store)
    assert session["oauth_identity"]["username"] == "octocat"


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        (json_response({}, 401), 502),
        (json_response({}, 500), 502),
        (json_response({}), 502),
        (json_response([], 429), 429),
        (json_response([], 403, **{"Retry-After": "9"}), 429),
    ],
)
def test_sign_in_fails_if_a_needed_list_fails(
    response: Response, outcome: int, make_browser: MakeBrowser, store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    browser = make_browser(lambda _: response, "org:cats")
    assert browser.get(browser.callback_url()).status_int == outcome
    assert "the list of groups could not be read" in caplog.text
    assert not any("oauth_token" in session for session in stored_sessions(store))


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize(
    ("allow", "missing"),
    [
        ("email:cat@example.org", "email addresses (scope email)"),
        ("org:cats", "groups (scope profile)"),
        ("group:cats/crew", "groups (scope profile) and groups (scope read:org)"),
    ],
)
def test_refusal_names_the_permission_without_which_a_list_cannot_be_read(
    allow: str, missing: str, status: int, make_browser: MakeBrowser, caplog: pytest.LogCaptureFixture
) -> None:
    browser = make_browser(lambda _: json_response({}, status), allow)
    answer = browser.get(browser.callback_url())
    assert answer.status_int == 403
    assert f"did not permit the application to read your {missing}," in answer.text
    assert re.search(f"not_allowed .*did not permit this application to read the {re.escape(missing)}", caplog.text)


def test_refusal_names_the_permission_in_later_requests(make_browser: MakeBrowser) -> None:
    """The rules have changed since the sign-in."""

    def answer(request: Request) -> Response:
        return json_response({}, 403) if request.path == "/user/orgs" else api(request)

    browser = make_browser(answer, "org:dogs id:583231")
    browser.sign_in()
    later = make_browser(answer, "org:dogs")
    later.app.cookiejar = browser.app.cookiejar
    assert "groups (scope profile)" in later.get("/profile").text


def test_user_who_matches_another_rule_enters_although_a_list_may_not_be_read(make_browser: MakeBrowser) -> None:
    browser = make_browser(lambda _: json_response({}, 404), "org:cats id:583231")
    browser.sign_in()
