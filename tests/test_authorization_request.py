"""The authorization request: configured parameters, parameters of the link, and sign-ins that another site starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from conftest import Browser, environ_for, parameters, send
from webtest import TestResponse

from wsgi_oauth import Config, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider

MakeBrowser = Callable[..., Browser]
RESERVED = {
    "client_id": "use WSGI_OAUTH_CLIENT_ID",
    "redirect_uri": "use WSGI_OAUTH_PUBLIC_URL",
    "scope": "use WSGI_OAUTH_SCOPE",
    "code_challenge": "use WSGI_OAUTH_PKCE",
    "code_challenge_method": "use WSGI_OAUTH_PKCE",
    "response_type": "remove it",
    "response_mode": "remove it",
    "state": "remove it",
    "nonce": "remove it",
    "request": "remove it",
    "request_uri": "remove it",
}


def asked(response: TestResponse) -> dict[str, str]:
    """Return the parameters of the authorization request to which *response* redirects."""
    assert response.status_int == 302, response
    return parameters(response.location)


class TestConfiguredParameters:
    """WSGI_OAUTH_AUTHORIZATION_PARAMETERS"""

    def test_are_sent_with_each_request(self, make_browser: MakeBrowser) -> None:
        browser = make_browser(AUTHORIZATION_PARAMETERS="hd=example.com&ui_locales=de%20en&x=%26")
        for _ in range(2):
            sent = asked(browser.get("/"))
            assert (sent["hd"], sent["ui_locales"], sent["x"]) == ("example.com", "de en", "&")
        browser.sign_in()

    def test_replace_those_of_a_preset(self) -> None:
        environ = {"PROVIDER": "google", "CLIENT_ID": "x", "CLIENT_SECRET": "y", "SESSION_STORE": "memory:"}
        for value, access_type in (
            ("prompt=login", "offline"),
            ("access_type=online", "online"),
            ("access_type=", None),
        ):
            variables = {f"WSGI_OAUTH_{name}": text for name, text in environ.items()}
            config = Config.from_environ({**variables, "WSGI_OAUTH_AUTHORIZATION_PARAMETERS": value})
            response = send(create_app(config), headers={"Accept": "text/html"})
            assert parameters(response.headers["Location"]).get("access_type") == access_type

    @pytest.mark.parametrize(
        ("configured", "prompt"),
        [("", "select_account"), ("consent", "select_account consent"), ("none", "select_account")],
    )
    def test_for_the_prompt_are_kept_when_the_user_chooses_another_account(self, configured: str, prompt: str) -> None:
        variables = {"PROVIDER": "google", "CLIENT_ID": "x", "CLIENT_SECRET": "y", "SESSION_STORE": "memory:"}
        variables["AUTHORIZATION_PARAMETERS"] = f"prompt={configured}"
        config = Config.from_environ({f"WSGI_OAUTH_{name}": text for name, text in variables.items()})
        response = send(create_app(config), query="switch=1", headers={"Accept": "text/html"})
        assert parameters(response.headers["Location"])["prompt"] == prompt

    @pytest.mark.parametrize("name", RESERVED)
    @pytest.mark.parametrize("setting", ["AUTHORIZATION_PARAMETERS", "LOGIN_PARAMETERS"])
    def test_on_which_security_depends_stop_the_start(self, setting: str, name: str, make_browser: MakeBrowser) -> None:
        value = f"hd=x&{name}=evil" if setting == "AUTHORIZATION_PARAMETERS" else f"hd {name}"
        with pytest.raises(errors.ConfigError) as caught:
            make_browser(**{setting: value})
        assert str(caught.value).startswith(f"WSGI_OAUTH_{setting}: contains {name}, ")
        assert RESERVED[name] in str(caught.value)

    @pytest.mark.parametrize("value", ["prompt", "=x", "prompt=a&prompt=b", "prompt=login&", "pr mpt=x", "pröm=x"])
    def test_that_are_malformed_stop_the_start(self, value: str, make_browser: MakeBrowser) -> None:
        with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_AUTHORIZATION_PARAMETERS: "):
            make_browser(AUTHORIZATION_PARAMETERS=value)


class TestAuthorizationUrl:
    def test_keeps_its_own_query(self, make_browser: MakeBrowser, provider: LocalProvider) -> None:
        """RFC 6749 3.1"""
        own = "p=b2c_1%20signin&tenant=a%2Fb&flag"
        location = make_browser(AUTHORIZATION_URL=f"{provider.authorization_url}?{own}").start()
        assert location.startswith(f"{provider.authorization_url}?{own}&response_type=code&")

    def test_cannot_replace_or_repeat_a_parameter(self, make_browser: MakeBrowser, provider: LocalProvider) -> None:
        """RFC 6749 3.1: no parameter may appear twice, and servers differ in which one they take."""
        own = "state=evil&st%61te=evil&scope=evil&prompt=evil&keep=1&code_challenge=evil"
        browser = make_browser(
            AUTHORIZATION_URL=f"{provider.authorization_url}?{own}", AUTHORIZATION_PARAMETERS="prompt=login"
        )
        location = browser.start()
        sent = parameters(location)  # this fails if a parameter is repeated
        assert "evil" not in location
        assert (sent["prompt"], sent["keep"]) == ("login", "1")
        browser.sign_in()

    def test_without_a_parameter_of_its_own_ends_in_no_empty_query(
        self, make_browser: MakeBrowser, provider: LocalProvider
    ) -> None:
        location = make_browser(AUTHORIZATION_URL=f"{provider.authorization_url}?").start()
        assert location.startswith(f"{provider.authorization_url}?response_type=")


class TestLoginParameters:
    """S75: WSGI_OAUTH_LOGIN_PARAMETERS"""

    def test_are_passed_on_if_they_are_listed(self, make_browser: MakeBrowser) -> None:
        browser = make_browser(LOGIN_PARAMETERS="login_hint kc_idp_hint")
        sent = asked(browser.get("/?login_hint=ann%2B1%40example.com&kc_idp_hint=corp&prompt=none&hd=evil"))
        assert (sent["login_hint"], sent["kc_idp_hint"]) == ("ann+1@example.com", "corp")
        assert not {"prompt", "hd"} & sent.keys()

    def test_are_ignored_by_default(self, browser: Browser) -> None:
        everything = {**dict.fromkeys(RESERVED, "evil"), "login_hint": "evil", "prompt": "evil", "max_age": "evil"}
        assert "evil" not in browser.get(f"/?{urlencode(everything)}").location

    def test_replace_configured_ones(self, make_browser: MakeBrowser) -> None:
        browser = make_browser(AUTHORIZATION_PARAMETERS="idp=default", LOGIN_PARAMETERS="idp")
        assert asked(browser.get("/"))["idp"] == "default"
        assert asked(browser.get("/?idp=other"))["idp"] == "other"

    @pytest.mark.parametrize("value", ["x" * 2049, "a\r\nb", "\0", "\x7f"])
    def test_that_are_too_long_or_not_printable_are_refused(self, value: str, make_browser: MakeBrowser) -> None:
        """S15"""
        response = make_browser(LOGIN_PARAMETERS="login_hint").get(f"/?login_hint={quote(value)}")
        assert response.status_int == 400
        assert "Set-Cookie" not in response.headers

    @pytest.mark.parametrize(
        "name", ["next", "provider", "switch", "again", "reauthenticate", "iss", "target_link_uri"]
    )
    def test_that_the_application_reads_itself_stop_the_start(self, name: str, make_browser: MakeBrowser) -> None:
        with pytest.raises(errors.ConfigError, match=f"WSGI_OAUTH_LOGIN_PARAMETERS: contains {name}, "):
            make_browser(LOGIN_PARAMETERS=name)


class TestThirdPartyInitiatedLogin:
    """Another site starts a sign-in (OpenID Connect Core 4)."""

    @pytest.fixture
    def issuer(self, provider: LocalProvider) -> str:
        return quote(provider.url, safe="")

    def test_passes_the_login_hint_on(self, browser: Browser, issuer: str) -> None:
        assert asked(browser.get(f"/?iss={issuer}&login_hint=ann&prompt=none"))["login_hint"] == "ann"
        assert "prompt" not in asked(browser.get(f"/?iss={issuer}&prompt=none"))

    @pytest.mark.parametrize("target", ["/page?a=b", "http://localhost/page?a=b", "HTTP://LOCALHOST/page?a=b"])
    def test_ends_at_the_target_on_this_site(self, target: str, browser: Browser, issuer: str) -> None:
        location = browser.get(f"/?iss={issuer}&target_link_uri={quote(target, safe='')}").location
        assert browser.get(browser.consent(location)).location == "/page?a=b"

    @pytest.mark.parametrize(
        "target",
        [
            "https://evil.example/",
            "http://localhost.evil.example/",
            "http://localhost@evil.example/",
            "http://localhost:81/",
            "http://localhost//evil.example",
            "http://localhost\\@evil.example/",
            "https://localhost/",
        ],
    )
    def test_never_ends_on_another_site(
        self, target: str, browser: Browser, issuer: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """S33"""
        location = browser.get(f"/?iss={issuer}&target_link_uri={quote(target, safe='')}").location
        assert browser.get(browser.consent(location)).location == "/profile"
        assert "not a path of this site" in caplog.text

    @pytest.mark.parametrize("change", ["{}/", " {}", "{}x", "", "https://evil.example"])
    def test_of_another_issuer_is_refused(self, change: str, browser: Browser, provider: LocalProvider) -> None:
        response = browser.get(
            f"/?iss={quote(change.format(provider.url), safe='')}", headers={"Accept": "application/json"}
        )
        assert (response.status_int, response.json["error"]) == (400, "unknown_issuer")
        assert "Location" not in response.headers

    def test_by_post_continues_as_a_get_without_a_new_session(self, browser: Browser, issuer: str) -> None:
        """Browsers send no session cookie with that POST. A new session would replace that of a signed-in user."""
        browser.sign_in()
        cookie = browser.cookie
        form = {"iss": browser.provider.url, "login_hint": "ann", "target_link_uri": "http://localhost/page"}
        foreign = {"Origin": "https://portal.example", "Sec-Fetch-Site": "cross-site"}
        response = send(browser.app.app, "/", method="POST", body=urlencode(form).encode(), headers=foreign, **FORM)
        assert response.status_code == 303
        assert "Set-Cookie" not in response.headers
        started = browser.get(response.headers["Location"])
        assert asked(started)["login_hint"] == "ann"
        assert browser.cookie == cookie
        assert browser.get(browser.consent(started.location)).location == "/page"

    @pytest.mark.parametrize(
        "body",
        [b"", b"login_hint=ann", b"iss=" + b"x" * 9000, b"\xff\xfe=\xff"],
        ids=["empty", "hint", "long", "bytes"],
    )
    def test_by_post_without_a_usable_issuer_is_refused(self, body: bytes, application: Any) -> None:
        response = send(application, "/", method="POST", body=body, **FORM)
        assert response.status_code == 400
        assert "Location" not in response.headers


FORM = {"CONTENT_TYPE": "application/x-www-form-urlencoded"}


class TestPkce:
    @pytest.fixture
    def exchanged(self, make_browser: MakeBrowser, provider: LocalProvider) -> Callable[..., str]:
        """Sign in with the settings; return the authorization request and the body of the token request."""

        def exchanged(**settings: str) -> str:
            browser = make_browser(**settings)
            location = browser.start()
            browser.get(browser.consent(location))
            return location + provider.exchanges[-1].body

        return exchanged

    def test_is_used_by_default(self, exchanged: Callable[..., str]) -> None:
        """S8"""
        sent = exchanged()
        assert "code_challenge=" in sent
        assert "code_verifier=" in sent

    def test_can_be_switched_off_for_a_provider_that_refuses_it(self, exchanged: Callable[..., str]) -> None:
        """Mozilla Accounts refuses it together with a client secret."""
        assert "code_" not in exchanged(PKCE="no").replace("response_type=code", "").replace("authorization_code", "")


class TestPublicUrlOnPlainHttp:
    """S38: the hosts in WSGI_OAUTH_INSECURE_HTTP_HOSTS, in a private network without TLS."""

    @pytest.mark.parametrize("url", ["http://nas.local", "http://192.168.1.20:8000/auth", "http://[fd00::5]:8000"])
    def test_is_accepted_for_a_named_host(self, url: str, make_browser: MakeBrowser) -> None:
        hosts = "nas.local 192.168.1.20 fd00::5"
        response = make_browser(base=url.removesuffix("/auth"), PUBLIC_URL=url, INSECURE_HTTP_HOSTS=hosts).get("/")
        assert asked(response)["redirect_uri"] == f"{url}/callback"
        cookie = response.headers["Set-Cookie"]
        assert cookie.startswith("wsgi_oauth")
        assert "Secure" not in cookie

    def test_leaves_cookies_of_https_sites_secure(self, make_browser: MakeBrowser) -> None:
        browser = make_browser(
            base="https://nas.local", PUBLIC_URL="https://nas.local", INSECURE_HTTP_HOSTS="nas.local"
        )
        cookie = browser.get("/").headers["Set-Cookie"]
        assert cookie.startswith("__Host-wsgi_oauth-")
        assert "; Secure" in cookie

    @pytest.mark.parametrize("host", ["nas", "nas.local.example", "evil.nas.local", "local"])
    def test_is_refused_for_every_other_host(self, host: str, provider: LocalProvider) -> None:
        environ = environ_for(provider, PUBLIC_URL=f"http://{host}", INSECURE_HTTP_HOSTS="nas.local")
        with pytest.raises(errors.ConfigError, match=r"WSGI_OAUTH_PUBLIC_URL: .*WSGI_OAUTH_INSECURE_HTTP_HOSTS"):
            Config.from_environ(environ)
