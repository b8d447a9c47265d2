"""``GET /verify``: the gate for a reverse proxy (S64)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import HTML, JSON, send
from werkzeug import Response

from wsgi_oauth import Config, Identity, SessionStore, create_app
from wsgi_oauth.testing import signed_in

pytestmark = pytest.mark.usefixtures("small_ca_bundle")

SITE = "https://www.example.com"
ANN = Identity("github", "7", username="ann", email="ann@example.com", email_verified=True, groups=("staff", "board"))


class Proxy:
    """A proxy that asks ``/verify`` with the headers of a client."""

    def __init__(self, app: Any, path: str = "/verify", **headers: str) -> None:
        self.app = app
        self.path = path
        self.headers = headers

    def ask(self, query: str = "", method: str = "GET", **headers: str) -> Response:
        names = {**HTML, "Host": "www.example.com", **self.headers, **headers}
        given = {name.replace("_", "-"): value for name, value in names.items()}
        return send(self.app, self.path, query=query, method=method, headers=given, wsgi__url_scheme="https")


def return_url(response: Response) -> str:
    """Return the page to which the sign-in in *response* leads."""
    target = urlsplit(response.headers["Location"])
    assert f"{target.scheme}://{target.netloc}{target.path}" == f"{SITE}/"
    return parse_qs(target.query).get("next", [""])[0]


@pytest.fixture
def make_app(store: SessionStore) -> Callable[..., Any]:
    """Create the application for proxies: ``make_app(ALLOW="...")``."""

    def make(**settings: str) -> Any:
        variables = {"CLIENT_ID": "an-id", "CLIENT_SECRET": "a-secret", "PUBLIC_URL": SITE, "TRUSTED_PROXIES": "1"}
        config = Config.from_environ({f"WSGI_OAUTH_{name}": value for name, value in {**variables, **settings}.items()})
        return create_app(config, store=store)

    return make


class TestSignedInUser:
    def test_is_named_in_headers(self, make_app: Callable[..., Any]):
        app = make_app()
        answer = Proxy(app, Cookie=str(signed_in(app, ANN))).ask()
        assert answer.status_code == 204
        assert {name: value for name, value in answer.headers if name.startswith("X-Auth")} == {
            "X-Auth-Request-User": "7@github",
            "X-Auth-Request-Email": "ann@example.com",
            "X-Auth-Request-Preferred-Username": "ann",
            "X-Auth-Request-Groups": "staff,board",
        }
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Vary"] == "Cookie"
        assert answer.data == b""


class TestAnonymousUser:
    def test_gets_the_location_of_the_sign_in_in_a_401(self, make_app: Callable[..., Any]):
        """nginx accepts 2xx, 401 and 403 only, and its configuration redirects to the Location of the 401."""
        answer = Proxy(make_app()).ask(X_Forwarded_Uri="/d/a%2Fb?q=%C3%BC&x=1+2")
        assert answer.status_code == 401
        assert return_url(answer) == "/d/a%2Fb?q=%C3%BC&x=1+2"

    def test_is_redirected_by_a_proxy_that_passes_the_response_on(self, make_app: Callable[..., Any]):
        answer = Proxy(make_app()).ask(X_Forwarded_Method="GET", X_Forwarded_Uri="/d/a%2Fb?q=%C3%BC&x=1+2")
        assert answer.status_code == 302
        assert return_url(answer) == "/d/a%2Fb?q=%C3%BC&x=1+2"

    @pytest.mark.parametrize("headers", [JSON, {"Sec-Fetch-Mode": "cors"}, {"X-Forwarded-Method": "POST"}])
    def test_gets_a_plain_401_for_other_requests_than_navigations(
        self, make_app: Callable[..., Any], headers: dict[str, str]
    ):
        answer = Proxy(make_app()).ask(**{"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/api", **headers})
        assert answer.status_code == 401
        assert "Location" not in answer.headers
        assert answer.headers["WWW-Authenticate"] == "Bearer"


class TestAccessRule:
    def test_of_the_configuration_is_checked(self, make_app: Callable[..., Any]):
        app = make_app(ALLOW="user:bob")
        assert Proxy(app, Cookie=str(signed_in(app, ANN))).ask().status_code == 403

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ("allow=user:ann", 204),
            ("allow=user:bob", 403),
            ("allow=user:bob&allow=id:7", 204),
            ("allow=user%3Aann", 204),
            ("next=1", 204),
        ],
    )
    def test_of_the_query_narrows_the_access(self, make_app: Callable[..., Any], query: str, status: int):
        app = make_app()
        assert Proxy(app, Cookie=str(signed_in(app, ANN))).ask(query).status_code == status

    @pytest.mark.parametrize("query", ["allow=", "allow=ann", "allow=user:", "allows=user:ann", "ALLOW=user:bob"])
    def test_that_is_invalid_gives_no_access(
        self, make_app: Callable[..., Any], caplog: pytest.LogCaptureFixture, query: str
    ):
        app = make_app()
        answer = Proxy(app, Cookie=str(signed_in(app, ANN))).ask(query)
        assert answer.status_code == 500
        assert "the query of /verify" in caplog.text
