"""Forged headers: the client sends headers that only the proxy should send, or has a name with special characters.

The proxy passes the client's headers on to ``/verify``. The applications behind it believe the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from conftest import HTML, environ_for, parameters, send

from wsgi_oauth import Config, Identity, MemoryStore, create_app
from wsgi_oauth.demo.lab.request_attacks import FORGED_IDENTITY
from wsgi_oauth.demo.lab.story import Outcome, Story
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.gate.verify import OriginalRequest
from wsgi_oauth.testing import signed_in

from .lesson import guarded_by

original_of = OriginalRequest.of


def application(provider: LocalProvider, **settings: str) -> Any:
    return create_app(Config.from_environ(environ_for(provider, **settings)), store=MemoryStore())


def identity_headers(provider: LocalProvider, identity: Identity) -> Any:
    """Return the headers of the answer about a signed-in user."""
    app = application(provider)
    return send(app, "/verify", headers={**HTML, "Host": "localhost", "Cookie": str(signed_in(app, identity))}).headers


def believe_every_client(environ: Mapping[str, Any], _proxies: int) -> OriginalRequest:
    return original_of(environ, 1)


@guarded_by(FORGED_IDENTITY.guards)
def test_client_names_another_user_in_a_header_that_the_application_believes(
    play: Callable[[Story], Outcome],
) -> Outcome:
    """S64. Proxies use such a header to name the user."""
    return play(FORGED_IDENTITY)


@guarded_by({"wsgi_oauth.gate.verify.OriginalRequest.of": believe_every_client})
def test_client_without_a_proxy_chooses_the_page_after_the_sign_in(provider: LocalProvider) -> bool:
    """S64, S35."""
    headers = {**HTML, "X-Forwarded-Uri": "/delete-everything", "X-Forwarded-Method": "GET"}
    answer = send(application(provider), "/verify", headers=headers)
    return answer.status_code == 302 or "delete-everything" in answer.headers["Location"]


def accept_every_url(candidate: str | None) -> str | None:
    return candidate


@guarded_by({"wsgi_oauth.web.site.local_path": accept_every_url, "wsgi_oauth.web.request.local_path": accept_every_url})
def test_sign_in_leads_from_the_proxy_to_the_attackers_site(provider: LocalProvider) -> bool:
    """S64, S33. The browser reads the path of https://app.example.com//attacker.example as a host."""
    headers = {**HTML, "X-Forwarded-Uri": "//attacker.example/"}
    answer = send(application(provider, TRUSTED_PROXIES="1"), "/verify", headers=headers)
    return parameters(answer.headers["Location"])["next"].startswith("//")


@guarded_by({"wsgi_oauth.gate.verify._SAFE_IN_GROUP": ","})
def test_comma_in_the_name_of_a_group_forges_another_group(provider: LocalProvider) -> bool:
    """S64. The attacker may create groups at the provider, and the application splits the header at commas."""
    mallory = Identity("github", "666", groups=("chess,admins",))
    groups = identity_headers(provider, mallory)["X-Auth-Request-Groups"]
    return "admins" in groups.split(",")


@guarded_by({"wsgi_oauth.gate.verify._SAFE": "%"})
def test_username_that_looks_like_the_encoded_name_of_another_user(provider: LocalProvider) -> bool:
    """S64. The application decodes the header."""
    mallory = Identity("github", "666", username="%C3%A4nn")
    name = identity_headers(provider, mallory)["X-Auth-Request-Preferred-Username"]
    return unquote(name) == "änn"


def pass_everything(value: bytes | str, safe: str = "") -> str:
    return value.decode() if isinstance(value, bytes) else value


@guarded_by({"wsgi_oauth.gate.verify.quote": pass_everything})
def test_line_break_in_a_name_adds_a_header(provider: LocalProvider) -> bool:
    """S64."""
    mallory = Identity("github", "666", groups=("chess\r\nX-Auth-Request-User: 1@github",))
    try:
        headers = identity_headers(provider, mallory)
    except ValueError:  # servers treat such a header differently
        return True
    return any("\n" in value for value in headers.values())


def narrow_nothing(app: Any, query: str) -> None:
    """Ignore the rules in the query."""


@guarded_by({"wsgi_oauth.gate.verify.Verifier._parse_query": narrow_nothing})
def test_user_outside_a_group_enters_the_part_of_the_site_for_the_group(provider: LocalProvider) -> bool:
    """S64."""
    app = application(provider)
    cookie = str(signed_in(app, Identity("github", "666", username="mallory")))
    headers = {**HTML, "Host": "localhost", "Cookie": cookie}
    return send(app, "/verify", query="allow=id:1", headers=headers).status_code == 204
