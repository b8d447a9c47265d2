"""Open redirects (RFC 9700 4.11): a link to the honest site, a real sign-in, and then the page of the attacker.

The URL and the page of the provider are genuine, so the victim trusts the third page, which asks for the password once
more. The test resolves URLs like a browser (``tests/whatwg.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from conftest import HTML, Browser, send
from whatwg import INVALID, resolved

from wsgi_oauth.demo.lab.sign_in_attacks import OPEN_REDIRECT
from wsgi_oauth.demo.lab.story import Outcome, Story
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.web.site import Site

from .lesson import guarded_by

# Characters that browsers ignore or that look like nothing.
OPENINGS = ["", *" \t\n\r\0\x01\x0b\x1f\x7f\x85\xa0\u2028\u3000\ufeff"]
# Prefixes of a host, for some browsers or for all.
SLASHES = [
    *("//", "/\\", "\\/", "\\\\", "///", "/////", "//\\", "/\t/", "/\n/", "/\r\n/", "/\t\\", "/ /", "/\0/"),
    *("http:", "http:/", "http:\\", "http://", "https:", "https:/", "https:\\\\", "https:///", "HTTPS://", "ht\ttps:"),
    *("/.//", "/..//", "/./..//", "/a/..//", "/%2e//", "/%2E%2e//", "/.\\/", "/.\t//", "/%2f", "/%5c", "/%09/"),
]
# Spellings of a host that a filter may not recognize.
HOSTS = [
    *("evil.example", "EVIL.EXAMPLE", "evil\u3002example", "0x7f000002", "2130706434", "localhost@evil.example"),
    *("localhost:80@evil.example", "evil.example#@localhost", "evil.example?@localhost", "evil.example\\@localhost"),
]
# Other payloads, percent-encoded as in a link.
OTHERS = [
    "https://evil.example",
    "http://evil.example/",
    "HTTPS://evil.example",
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "/////evil.example//",
    "//evil.example/profile",
    "//localhost@evil.example/",
    "//localhost:80@evil.example/",
    "//evil.example%23@localhost/",
    "//evil.example%3F@localhost/",
    "//evil%E3%80%82example",
    "//0x7f000002/",
    "//[::1]/",
    "/%5Cevil.example",
    "%5C%5Cevil.example",
    "%5C/evil.example",
    "/%5C/evil.example",
    "/%5C%5Cevil.example",
    "//%5Cevil.example",
    "%5Cevil.example",
    "/%09/evil.example",
    "%09//evil.example",
    "/%0A/evil.example",
    "/%0D/evil.example",
    "/%0D%0A/evil.example",
    "/%09%09/%09evil.example",
    "/%09%5Cevil.example",
    "%0A//evil.example",
    "%0D%0A//evil.example",
    "%20//evil.example",
    "%20%20//evil.example",
    "%C2%A0//evil.example",
    "%E3%80%80//evil.example",
    "%00//evil.example",
    "%01//evil.example",
    "%1F//evil.example",
    "/%00/evil.example",
    "/%1B/evil.example",
    "/%7F/evil.example",
    "/%C2%85/evil.example",
    "/%20/evil.example",
    "/.//evil.example",
    "/..//evil.example",
    "/./..//evil.example",
    "/a/..//evil.example",
    "/a/../..//evil.example",
    "/%252e//evil.example",
    "/%252e%252e//evil.example",
    "/.%252e//evil.example",
    "/a/%252e%252e//evil.example",
    "/.%09//evil.example",
    "/.%5C/evil.example",
    "/%252f/evil.example",
    "/%252f%252fevil.example",
    "/%255cevil.example",
    "/%255c%255cevil.example",
    "/%2509/evil.example",
    "/%250a/evil.example",
    "%252f%252fevil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https:%5C%5Cevil.example",
    "http:evil.example",
    "http:/profile",
    "ht%09tps://evil.example",
    "%09https://evil.example",
    "%20https://evil.example",
    "%01https://evil.example",
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    "java%09script:alert(1)",
    "%20javascript:alert(1)",
    "javascript://localhost/%250aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)",
    "file:///etc/passwd",
    "blob:https://evil.example/x",
    "mailto:a@evil.example",
    "evil.example",
    "@evil.example",
    ":80@evil.example",
    ".evil.example",
    "?//evil.example",
    "%23//evil.example",
    "..//evil.example",
    "~//evil.example",
    "%ED%A0%80//evil.example",
    "%FF//evil.example",
    "//",
    "///",
    "//%0D%0ASet-Cookie:x=y",
    "/%0D%0ASet-Cookie:x=y",
    "/%0D%0A%0D%0A<script>alert(1)</script>",
    "/" + "a" * 20000,
    # The whole URL of a page of this site is accepted.
    "http://localhost//evil.example",
    "http://localhost/%5Cevil.example",
    "http://localhost%5C@evil.example",
    "http://localhost@evil.example/",
    "http://localhost:80@evil.example/",
    "http://localhost.evil.example/",
    "http://localhost%09//evil.example",
    "http://localhosthttp://evil.example",
    "http://localhost:81/",
]
COMBINATIONS = [
    *(opening + slashes + "evil.example" for opening, slashes in product(OPENINGS, SLASHES[:12])),
    *(slashes + host for slashes, host in product(SLASHES[:8], HOSTS)),
]
# A whole sign-in takes long, so every fifth combination stands for the others.
PAYLOADS = [
    *map(quote, COMBINATIONS[::5]),
    *(quote(slashes + "evil.example") for slashes in SLASHES[12:]),
    *OTHERS,
]


# The sign-in may end on this site only.
def is_harmless(location: str, callback: str) -> bool:
    place = resolved(location, callback)
    return place == INVALID or (place.origin == "http://localhost" and not place.path.startswith("//"))


def ends_at(application: Any, provider: LocalProvider, payload: str) -> tuple[str, str]:
    """Sign in through the attacker's link; return the URL of the callback and its Location."""
    started = send(application, "/", query=f"next={payload}", headers=HTML)
    assert started.headers["Location"].startswith(provider.authorization_url + "?")
    callback = Browser(application, provider).consent(started.headers["Location"])
    headers = {**HTML, "Cookie": started.headers["Set-Cookie"].partition(";")[0]}
    signed_in = send(application, "/callback", query=urlsplit(callback).query, headers=headers)
    assert signed_in.status_code == 303, payload
    return callback, signed_in.headers["Location"]


def reject_what_urllib_finds_a_host_in(next_url: str | None) -> str | None:
    return next_url if next_url and not urlsplit(next_url).netloc and not urlsplit(next_url).scheme else None


def reject_two_leading_slashes(next_url: str | None) -> str | None:
    return next_url if next_url and next_url.startswith("/") and not next_url.startswith("//") else None


@guarded_by(OPEN_REDIRECT.guards)
def test_sign_in_link_ends_at_a_page_that_asks_for_the_password(play: Callable[[Story], Outcome]) -> Outcome:
    """S33. Nothing checks the address."""
    return play(OPEN_REDIRECT)


@guarded_by({"wsgi_oauth.web.site.local_path": reject_what_urllib_finds_a_host_in})
@guarded_by({"wsgi_oauth.web.site.local_path": reject_two_leading_slashes})
def test_sign_in_link_ends_at_the_page_of_the_attacker(application: Any, provider: LocalProvider) -> str | None:
    """S33. With a weaker check, at least one of about 200 payloads succeeds."""
    for payload in PAYLOADS:
        callback, location = ends_at(application, provider, payload)
        if not is_harmless(location, callback):
            return payload
    return None


class TestCombination:
    def test_is_no_page_of_this_site(self):
        """S33"""
        site = Site("http://localhost")
        found = [site.find_page(each, "http://localhost") for each in COMBINATIONS]
        assert [page for page in found if page and not is_harmless(page[1], "http://localhost/callback")] == []


@pytest.mark.parametrize(
    ("location", "origin", "path"),
    [
        ("//evil.example/x", "http://evil.example", "/x"),
        ("/\\evil.example", "http://evil.example", "/"),
        ("/\t/evil.example", "http://evil.example", "/"),
        (" \x01//evil.example", "http://evil.example", "/"),
        ("////evil.example", "http://evil.example", "/"),
        ("http:evil", "http://localhost", "/evil"),
        ("https:evil.example", "https://evil.example", "/"),
        ("http:/evil", "http://localhost", "/evil"),
        ("/.//evil.example", "http://localhost", "//evil.example"),
        ("/a/%2E%2e/b", "http://localhost", "/b"),
        ("?x=//evil", "http://localhost", "/callback"),
        ("javascript:alert(1)", "javascript:", "alert(1)"),
        ("//localhost@evil.example/", "http://evil.example", "/"),
        ("/profile", "http://localhost", "/profile"),
        ("//evil\u3002example/", "http://evil.example", "/"),
        ("//2130706434/", "http://127.0.0.2", "/"),
        ("//evil.example:80/", "http://evil.example", "/"),
        ("//evil.example\\@localhost/", "http://evil.example", "/@localhost/"),
        ("//a b/", "", ""),
        ("", "http://localhost", "/callback"),
    ],
)
def test_resolver_agrees_with_browsers(location: str, origin: str, path: str):
    assert resolved(location, "http://localhost/callback?code=x") == (origin, path)
