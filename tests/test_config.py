"""The settings: defaults, valid and invalid values, and the messages about invalid ones."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Browser, environ_for

from wsgi_oauth import Config, MemoryStore, create_app, errors, get_app
from wsgi_oauth.config import ProviderConfig, StoreConfig
from wsgi_oauth.config.settings import known_variables
from wsgi_oauth.demo.local_provider import LocalProvider

REQUIRED = {"CLIENT_ID": "the-id", "CLIENT_SECRET": "the-secret"}
URLS = ["AUTHORIZATION_URL", "TOKEN_URL", "PROFILE_URL", "REVOCATION_URL", "ISSUER", "PUBLIC_URL"]


def environ_of(**settings: str | None) -> dict[str, str]:
    """Return an environment with the required variables and *settings*; None removes a variable."""
    merged = {**REQUIRED, "SESSION_STORE": "memory:", **settings}
    return {f"WSGI_OAUTH_{name}": value for name, value in merged.items() if value is not None}


def load(**settings: str | None) -> Config:
    return Config.from_environ(environ_of(**settings))


def problems(**settings: str | None) -> list[str]:
    """Return the lines of the error for an invalid environment."""
    with pytest.raises(errors.ConfigError) as caught:
        load(**settings)
    return str(caught.value).splitlines()


def problem(**settings: str | None) -> str:
    """Return the only line of the error."""
    [line] = problems(**settings)
    return line


class TestDefaults:
    def test_client_id_and_secret_are_sufficient(self) -> None:
        environ = {"WSGI_OAUTH_CLIENT_ID": "the-id", "WSGI_OAUTH_CLIENT_SECRET": "s", "HOME": "/home/me"}
        assert Config.from_environ(environ) == Config(
            providers=[ProviderConfig(client_id="the-id", client_secret="s", provider="github")],
            session_store="file:/home/me/.local/state/wsgi_oauth/sessions-19fe5033",
            session_idle=12 * 3600,
            session_lifetime=7 * 86400,
            session_seal=False,
            public_url=None,
            upstream_timeout=10.0,
            upstream_limit=12,
            trusted_proxies=0,
            allow=(),
        )

    def test_scopes_are_separated_by_one_space(self) -> None:
        """Some providers refuse an empty scope between two spaces."""
        assert load(SCOPE="openid  email ").providers[0].scope == "openid email"

    @pytest.mark.parametrize("variable", known_variables())
    def test_empty_variable_counts_as_absent(self, variable: str) -> None:
        name = variable.removeprefix("WSGI_OAUTH_")
        if name in REQUIRED:
            assert problem(**{name: " "}).startswith(f"{variable}: missing; ")
        else:
            assert load(**{name: " \t"}) == load(**{name: None})

    def test_other_variables_are_ignored(self) -> None:
        assert Config.from_environ({**environ_of(), "OTHER": "x", "WSGI_OAUTHX": "y", "PATH": ""}) == load()

    def test_get_app_reads_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in os.environ if name.startswith("WSGI_OAUTH_")]:
            monkeypatch.delenv(name)
        with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_CLIENT_ID: missing"):
            get_app()
        for name, value in environ_of().items():
            monkeypatch.setenv(name, value)
        assert callable(get_app())


class TestKeywordArguments:
    def test_provider_settings_configure_a_single_provider(self) -> None:
        config = Config(client_id="the-id", client_secret="the-secret", session_store="memory:")
        assert config == load()
        assert config.providers == (ProviderConfig(client_id="the-id", client_secret="the-secret"),)

    def test_provider_settings_cannot_be_combined_with_providers(self) -> None:
        with pytest.raises(TypeError, match="client_id given together with providers"):
            Config(client_id="a", providers=[ProviderConfig(client_id="a", client_secret="b")])

    def test_unknown_setting_is_refused(self) -> None:
        with pytest.raises(TypeError, match="clientid"):
            Config(clientid="a")

    def test_several_providers_need_labels(self) -> None:
        provider = ProviderConfig(client_id="x", client_secret="y")
        with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_PROVIDERS"):
            Config(providers=[provider, provider])
        labeled = [dataclasses.replace(provider, label=label) for label in ("one", "two")]
        assert [each.label for each in Config(providers=labeled).providers] == ["one", "two"]

    def test_text_is_read_as_in_the_environment(self) -> None:
        config = Config(client_id="a", client_secret="b", session_idle="30m", allow="user:a user:b", session_seal="no")
        assert (config.session_idle, config.allow, config.session_seal) == (1800, ("user:a", "user:b"), False)

    def test_none_is_the_default_of_each_setting(self) -> None:
        settings = [each for cls in (Config, ProviderConfig) for each in dataclasses.fields(cls) if each.metadata]
        absent: dict[str, Any] = {each.name: None for each in settings}
        given = {"client_id": "the-id", "client_secret": "the-secret", "session_store": "memory:"}
        assert Config(**{**absent, **given}) == load()

    def test_configuration_is_immutable(self) -> None:
        config = load()
        for instance in (config, *config.providers):
            for field in dataclasses.fields(instance):
                with pytest.raises(dataclasses.FrozenInstanceError):
                    setattr(instance, field.name, "other")

    def test_changed_copy_is_checked(self) -> None:
        config = load()
        assert dataclasses.replace(config, public_url="https://app.example").providers == config.providers
        with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_TRUSTED_PROXIES"):
            dataclasses.replace(config, trusted_proxies=-1)
        insecure = dataclasses.replace(config.providers[0], token_url="http://provider.example/")
        with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_TOKEN_URL"):
            dataclasses.replace(config, providers=[insecure])


class TestValidValues:
    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("CLIENT_ID", "Iv1.8a61f9b3a7aba766", "Iv1.8a61f9b3a7aba766"),
            ("CLIENT_ID", " padded ", "padded"),
            ("CLIENT_SECRET", "p%+:/ ä", "p%+:/ ä"),
            ("CLIENT_SECRET", "with a newline from a shell\n", "with a newline from a shell"),
            ("AUTHORIZATION_URL", "https://provider.example/a?tenant=a", "https://provider.example/a?tenant=a"),
            # The issuer is compared byte for byte, so its slash must stay.
            ("ISSUER", "https://provider.example/", "https://provider.example/"),
            *(("CLIENT_AUTH", method, method) for method in ("basic", "basic-raw", "post")),
            ("SCOPE", "read:user user:email", "read:user user:email"),
        ],
    )
    def test_provider_setting(self, name: str, text: str, value: object) -> None:
        [provider] = load(**{name: text}).providers
        assert getattr(provider, name.lower()) == value

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("PUBLIC_URL", "https://app.example/auth/", "https://app.example/auth"),
            ("SESSION_STORE", "file:/with space/and:colon", "file:/with space/and:colon"),
            ("SESSION_IDLE", "90", 90),
            ("SESSION_IDLE", "90s", 90),
            ("SESSION_IDLE", "30m", 1800),
            ("SESSION_LIFETIME", "12h", 43200),
            ("SESSION_LIFETIME", "7d", 604800),
            ("SESSION_SEAL", "yes", True),
            ("SESSION_SEAL", "no", False),
            ("UPSTREAM_TIMEOUT", "2.5", 2.5),
            ("UPSTREAM_TIMEOUT", "300", 300.0),
            ("UPSTREAM_LIMIT", "1", 1),
            ("UPSTREAM_LIMIT", "1000", 1000),
            ("TRUSTED_PROXIES", "2", 2),
            ("ALLOW", "user:a  id:1", ("user:a", "id:1")),
        ],
    )
    def test_shared_setting(self, name: str, text: str, value: object) -> None:
        assert getattr(load(**{name: text}), name.lower()) == value

    def test_public_client_has_no_secret(self) -> None:
        [provider] = load(CLIENT_SECRET=None, CLIENT_AUTH="none").providers
        assert (provider.client_secret, provider.client_auth) == (None, "none")


class TestInvalidValues:
    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [
            ("CLIENT_ID", "with\ttab", "not allowed in a client id"),
            ("CLIENT_ID", "ключ", "not allowed in a client id"),
            ("CLIENT_AUTH", "Basic", "must be one of basic, basic-raw, post, none"),
            ("CLIENT_AUTH", "client_secret_jwt", "must be one of basic, basic-raw, post, none, private_key_jwt"),
            *(
                ("GROUPS_CLAIM", value, "a path with dots such as realm_access.roles")
                for value in ("$.groups", "roles[*]", "access['app'].roles", "groups,roles", "groups /roles")
            ),
            ("SCOPE", 'read"user', "separated by spaces"),
            ("SCOPE", "read\\user", "separated by spaces"),
            ("SCOPE", "lesen:ü", "separated by spaces"),
            ("SESSION_STORE", "file:relative/path", "absolute"),
            ("SESSION_STORE", "file:", "absolute"),
            ("SESSION_STORE", "/var/lib/sessions", "file:/"),
            ("SESSION_STORE", "memory:x", "memory:"),
            ("SESSION_STORE", "memcached://localhost", "file:/"),
            ("SESSION_STORE", "redis://localhost:6379/name", "redis://host:port/db"),
            ("SESSION_STORE", "redis://localhost:0/1", "redis://host:port/db"),
            *(
                ("SESSION_IDLE", value, "a positive duration such as")
                for value in ("0", "-5m", "an hour", "1.5h", "1w")
            ),
            *(("SESSION_LIFETIME", value, "a positive duration such as") for value in ("0d", "7 d", "7D", "٣m")),
            ("SESSION_SEAL", "true", "yes or no"),
            ("SESSION_SEAL", "YES", "yes or no"),
            *(("UPSTREAM_TIMEOUT", value, "above 0 and at most 300") for value in ("0", "-1", "301", "nan", "inf")),
            ("UPSTREAM_TIMEOUT", "10s", "number of seconds"),
            ("UPSTREAM_LIMIT", "0", "1 or more"),
            ("UPSTREAM_LIMIT", "-1", "whole number"),
            ("UPSTREAM_LIMIT", "many", "number of requests that may wait"),
            *(("TRUSTED_PROXIES", value, "number of proxies") for value in ("-1", "1.5", "10.0.0.0/8", "*")),
            ("PUBLIC_URL", "https://app.example/?a=b", "query"),
            ("PUBLIC_URL", "https://app.example/callback", "remove /callback"),
            *(("PUBLIC_URL", f"https://app.example/{path}", "segment") for path in ("/auth", "a//b", "./auth", "a/..")),
            ("ISSUER", "https://provider.example/?a=b", "query"),
            ("PROVIDER", "https://provider.example/?a=b", "query"),
            ("END_SESSION", "no", "must be yes or the URL"),
            *((name, "provider.example/path", "https://") for name in URLS),
            *((name, "ftp://provider.example/path", "https://") for name in URLS),
            *((name, "https:///path", "https://") for name in URLS),
            *((name, "https://provider.example/#fragment", "fragment") for name in URLS),
            *((name, "https://provider.example:99999/", "URL") for name in URLS),
            *((name, "https://[::1/", "URL") for name in URLS),
            *((name, "https://*.provider.example/", "characters that no host name has") for name in URLS),
            ("PUBLIC_URL", "https://a.example,https://b.example", "characters that no host name has"),
            ("ISSUER", "https://provider.example/.well-known/openid-configuration", "remove /.well-known"),
            *(
                ("SCOPE", value, "must be scopes separated by spaces")
                for value in ("openid,profile", "profile,openid", "openid+email", "openid%20email", "openid; email")
            ),
            *((name, "https://provider.example/a b", "characters") for name in URLS),
            *((name, "https://provider.example\\evil.example/", "characters") for name in URLS),
            *((name, "https://prövider.example/", "characters") for name in URLS),
        ],
    )
    def test_message_names_setting_problem_and_value(self, name: str, value: str, text: str) -> None:
        line = problem(**{name: value})
        assert line.startswith(f"WSGI_OAUTH_{name}: ")
        assert text in line
        assert f"(got {value!a})" in line
        assert line.isprintable()

    @pytest.mark.parametrize("name", ["SESSION_IDLE", "SESSION_LIFETIME"])
    def test_lifetime_has_a_maximum(self, name: str) -> None:
        line = problem(**{name: "999999999d"})
        assert line.startswith(f"WSGI_OAUTH_{name}: ")
        assert "at most 30 years" in line

    @pytest.mark.parametrize("name", ["CLIENT_ID", "CLIENT_SECRET"])
    def test_missing_setting_is_explained(self, name: str) -> None:
        line = problem(**{name: None})
        assert line.startswith(f"WSGI_OAUTH_{name}: missing; ")
        assert "client id" in line

    def test_empty_environment_needs_only_the_client(self) -> None:
        with pytest.raises(errors.ConfigError) as caught:
            Config.from_environ({})
        names = [line.partition(":")[0] for line in str(caught.value).splitlines()]
        assert names == ["WSGI_OAUTH_CLIENT_ID", "WSGI_OAUTH_CLIENT_SECRET"]

    def test_public_client_with_a_secret_is_refused(self) -> None:
        assert "WSGI_OAUTH_CLIENT_AUTH=none" in problem(CLIENT_AUTH="none", CLIENT_SECRET="secret")

    def test_colon_in_the_client_id_is_refused_with_basic_raw(self) -> None:
        """RFC 7617 2: the first colon ends the user id."""
        assert problem(CLIENT_AUTH="basic-raw", CLIENT_ID="urn:client").startswith("WSGI_OAUTH_CLIENT_AUTH: ")
        assert load(CLIENT_AUTH="basic", CLIENT_ID="urn:client")

    def test_all_problems_are_reported_at_once(self) -> None:
        lines = problems(
            CLIENT_ID=None, SESSION_IDLE="x", TRUSTED_PROXIES="y", TOKEN_URL="http://a.example", CLIENT_AUT="z"
        )
        assert sorted(line.partition(":")[0] for line in lines) == [
            "WSGI_OAUTH_CLIENT_AUT",
            "WSGI_OAUTH_CLIENT_ID",
            "WSGI_OAUTH_SESSION_IDLE",
            "WSGI_OAUTH_TOKEN_URL",
            "WSGI_OAUTH_TRUSTED_PROXIES",
        ]

    def test_missing_ca_bundle_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
        for name, value in environ_of().items():
            monkeypatch.setenv(name, value)
        with pytest.raises(errors.ConfigError, match="REQUESTS_CA_BUNDLE"):
            get_app()


class TestUnknownVariables:
    @pytest.mark.parametrize(
        ("name", "suggestion"),
        [
            ("CLIENTID", "CLIENT_ID"),
            ("CLIENT_SECRETS", "CLIENT_SECRET"),
            ("SECRET_FILE", "CLIENT_SECRET_FILE"),
            ("PUBLIC_URI", "PUBLIC_URL"),
            ("SESSION_IDLE_", "SESSION_IDLE"),
            ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
            ("client_id", "CLIENT_ID"),
            ("COMPLETELY_DIFFERENT", None),
        ],
    )
    def test_similar_name_is_suggested(self, name: str, suggestion: str | None) -> None:
        line = problem(**{name: "value-canary"})
        assert line.startswith(f"WSGI_OAUTH_{name}: unknown variable; ")
        assert "canary" not in line
        if suggestion:
            assert line.endswith(f"did you mean WSGI_OAUTH_{suggestion}?")

    def test_suggested_setting_is_checked_too(self) -> None:
        lines = problems(SCOPES="x", SCOPE="ü")
        assert {line.partition(":")[0] for line in lines} == {"WSGI_OAUTH_SCOPES", "WSGI_OAUTH_SCOPE"}

    def test_store_configuration_ignores_other_settings(self) -> None:
        """So that sessions can be managed although the client secret, for example, is missing."""
        environ = {"PROVIDERS": "one", "ONE_CLIENT_ID": "ü", "TRUSTED_PROXIES": "x", "SESSION_STORE": "memory:"}
        names = {f"WSGI_OAUTH_{name}": value for name, value in environ.items()}
        assert StoreConfig.from_environ(names) == StoreConfig(session_store="memory:")
        with pytest.raises(errors.ConfigError, match="SESION_STORE: unknown variable; did you mean"):
            StoreConfig.from_environ({**names, "WSGI_OAUTH_SESION_STORE": "x"})


class TestSecrets:
    @pytest.mark.parametrize(
        "settings",
        [
            {"CLIENT_SECRET": "secret-canary", "SESSION_IDLE": "x"},
            {"CLIENT_SECRET": "secret-canary", "CLIENT_SECRET_FILE": "/some/file"},
            {"CLIENT_SECRET": "secret-canary", "CLIENT_AUTH": "none"},
            {"CLIENT_SECRET": "secret-\ncanary"},
            {"CLIENT_SECRT": "secret-canary", "CLIENT_SECRET": None},
            {"CLIENT_SECRET_KEY": "secret-canary"},
            {"SECRET": "secret-canary"},
            {"TOKEN_URL": "https://user:secret-canary@provider.example/token"},
            {"PUBLIC_URL": "https://user:secret-canary@app.example/?"},
            {"ISSUER": "http://user:secret-canary@provider.example/"},
            {"SESSION_STORE": "redis://:secret-canary@localhost:6379/name"},
            {"SESSION_STORE": "redis:/:secret-canary@localhost:6379/name"},
            {"SESSION_STORE": "redis://:secret/canary@localhost:6379/0"},
            {"TOKEN_URL": "https://user:secret/canary?#@provider.example/token"},
            {"SESSION_STORE": "rediss://user:secret-canary@redis.example/0?x=y"},
        ],
    )
    def test_message_contains_no_secret(self, settings: dict[str, str | None]) -> None:
        assert "canary" not in "\n".join(problems(**settings))

    def test_repr_contains_no_secret(self) -> None:
        config = load(CLIENT_SECRET="a-canary", SESSION_STORE="redis://:b-canary@localhost/", SCOPE="read:user")
        assert "canary" not in repr(config)
        assert "read:user" in repr(config)
        assert config.store_name == "redis://***@localhost/"

    @pytest.mark.parametrize("secret", ["line\nbreak", "nul\0", "tab\there", "delete\x7f", "copied\u200b", "\ufeffbom"])
    def test_control_characters_and_invisible_ones_are_refused(self, secret: str) -> None:
        assert problem(CLIENT_SECRET=secret).startswith("WSGI_OAUTH_CLIENT_SECRET: contains a line break, a control")


class TestSecretFile:
    @pytest.mark.parametrize(
        ("content", "secret"),
        [
            ("the-secret", "the-secret"),
            ("  the-secret\r\n\n", "the-secret"),
            ("пароль %+:/ €\n", "пароль %+:/ €"),
            ("\ufeffthe-secret\r\n", "the-secret"),  # with a byte order mark
        ],
    )
    def test_secret_is_read_without_surrounding_whitespace(self, content: str, secret: str, tmp_path: Path) -> None:
        file = tmp_path / "secret"
        file.write_text(content, encoding="utf-8", newline="")
        assert load(CLIENT_SECRET=None, CLIENT_SECRET_FILE=str(file)).providers[0].client_secret == secret

    @pytest.mark.parametrize(
        ("create", "text"),
        [
            (lambda path: None, "No such file"),
            (lambda path: path.mkdir(), "directory"),
            (lambda path: path.write_text(""), "is empty"),
            (lambda path: path.write_text(" \n\n"), "is empty"),
            (lambda path: path.write_bytes(b"\xff\xfe\x00canary"), "not UTF-8"),
            (lambda path: path.write_text("canary" * 1000), "too large"),
            (lambda path: path.write_text("'canary'\n"), "has quotes around the secret"),
        ],
        ids=["missing", "folder", "empty", "blank", "binary", "large", "quoted"],
    )
    def test_unreadable_file_is_the_only_problem(
        self, create: Callable[[Path], object], text: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "the-file"
        create(path)
        line = problem(CLIENT_SECRET=None, CLIENT_SECRET_FILE=str(path))
        assert line.startswith("WSGI_OAUTH_CLIENT_SECRET_FILE: ")
        assert str(path) in line
        assert text in line
        assert "canary" not in line

    @pytest.mark.parametrize("content", ["one\ntwo-canary", "nul\0canary", "-----BEGIN KEY-----\ncanary\n"])
    def test_file_with_several_lines_is_refused(self, content: str, tmp_path: Path) -> None:
        path = tmp_path / "the-file"
        path.write_text(content)
        line = problem(CLIENT_SECRET=None, CLIENT_SECRET_FILE=str(path))
        assert line.startswith("WSGI_OAUTH_CLIENT_SECRET_FILE: the file contains a line break")
        assert "canary" not in line

    def test_secret_and_file_are_mutually_exclusive(self, tmp_path: Path) -> None:
        path = tmp_path / "the-file"
        path.write_text("file")
        line = problem(CLIENT_SECRET_FILE=str(path), CLIENT_SECRET="secret")
        assert line == "WSGI_OAUTH_CLIENT_SECRET_FILE: set together with WSGI_OAUTH_CLIENT_SECRET; remove one of them"


class TestPlainHttp:
    """S29: endpoints are https URLs, except on loopback hosts. ``OAUTHLIB_INSECURE_TRANSPORT`` makes no difference."""

    @pytest.mark.parametrize("insecure", [None, "1", "true"])
    @pytest.mark.parametrize(
        "url",
        [
            "http://provider.example/",
            "http://127.0.0.1.example/",
            "http://localhost.example/",
            "http://127.0.0.1@provider.example/",
            "http://localhost:80@provider.example/",
            "http://0.0.0.0/",
            "http://192.168.0.1/",
            "http://10.0.0.1/",
            "http://169.254.169.254/",
            "http://128.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::2]/",
            "http://[fe80::1]/",
            "HTTP://PROVIDER.EXAMPLE/",
        ],
    )
    def test_other_hosts_are_refused(self, url: str, insecure: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        if insecure:
            monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", insecure)
        for name in URLS:
            assert problem(**{name: url}).startswith(f"WSGI_OAUTH_{name}: ")

    @pytest.mark.parametrize("hosts", ["keycloak", "x KEYCLOAK"])
    def test_named_hosts_are_accepted(self, hosts: str) -> None:
        for name in URLS:
            assert load(**{name: "http://keycloak:8080/path", "INSECURE_HTTP_HOSTS": hosts})

    @pytest.mark.parametrize(
        "url",
        [
            "http://other/",
            "http://keycloak.example/",
            "http://x.keycloak/",
            "http://keycloak@other/",
            "http://other#keycloak",
            "http://keycloak\\@other/",
            "ftp://keycloak/",
            "//keycloak/",
        ],
    )
    def test_named_hosts_open_no_other(self, url: str) -> None:
        for name in URLS:
            message = problem(**{name: url, "INSECURE_HTTP_HOSTS": "keycloak"})
            assert message.startswith(f"WSGI_OAUTH_{name}: ")

    @pytest.mark.parametrize("hosts", ["*", "*.example", "http://keycloak", "keycloak:8080", "10.0.0.0/8", "key/cloak"])
    def test_named_hosts_are_single_hosts(self, hosts: str) -> None:
        message = problem(INSECURE_HTTP_HOSTS=hosts)
        assert message.startswith("WSGI_OAUTH_INSECURE_HTTP_HOSTS: must be host names or addresses")

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.255.255.254", "[::1]", "[0:0::1]"])
    @pytest.mark.parametrize("insecure", [None, "0", "1"])
    def test_loopback_hosts_are_accepted(
        self, host: str, insecure: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("OAUTHLIB_INSECURE_TRANSPORT", raising=False)
        if insecure:
            monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", insecure)
        for name in URLS:
            assert load(**{name: f"http://{host}:8000/path"})

    def test_sign_in_over_http_does_not_change_the_environment(
        self, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("OAUTHLIB_INSECURE_TRANSPORT", raising=False)
        before = dict(os.environ)
        browser = Browser(create_app(Config.from_environ(environ_for(provider))), provider)
        browser.sign_in()
        assert browser.profile().json["login"] == "octocat"
        assert dict(os.environ) == before


class TestSessionFolder:
    @pytest.mark.parametrize(
        ("environ", "path"),
        [
            ({"HOME": "/home/me"}, "/home/me/.local/state/wsgi_oauth/sessions-"),
            ({"HOME": "/home/me", "XDG_STATE_HOME": "/state"}, "/state/wsgi_oauth/sessions-"),
            ({"HOME": "/home/me", "XDG_STATE_HOME": ""}, "/home/me/.local/state/wsgi_oauth/sessions-"),
            ({"HOME": "/home/me", "XDG_STATE_HOME": "relative"}, "/home/me/.local/state/wsgi_oauth/sessions-"),
            ({"XDG_STATE_HOME": "/state", "STATE_DIRECTORY": "/var/lib/app"}, "/var/lib/app/sessions"),
            ({"STATE_DIRECTORY": "/var/lib/one:/var/lib/two"}, "/var/lib/one/sessions"),
        ],
    )
    def test_default_is_the_state_directory(self, environ: dict[str, str], path: str) -> None:
        """systemd.exec(5) StateDirectory=; XDG Base Directory Specification, which says to ignore relative paths."""
        config = Config.from_environ({**environ, **environ_of(SESSION_STORE=None)})
        assert config.session_store.startswith(f"file:{path}")

    def test_user_without_a_home_directory_needs_the_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """OpenShift runs a container as a user id that is in no user database."""
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(os, "getuid", lambda: 1000580000)
        with pytest.raises(errors.ConfigError, match=r"SESSION_STORE: missing, .* no home directory .*; set file:/an"):
            Config.from_environ(environ_of(SESSION_STORE=None))

    def test_default_in_the_directory_of_a_user_differs_for_each_client_id(self) -> None:
        """S74: a user may run several applications."""
        folders = {Config(client_id=name, client_secret="x").session_store for name in ("one", "two", "two")}
        assert len(folders) == 2

    def test_setting_takes_precedence_over_the_default(self) -> None:
        config = Config.from_environ({**environ_of(), "STATE_DIRECTORY": "/var/lib/app"})
        assert config.session_store == "memory:"

    def test_folder_is_created_by_the_application_for_its_user_only(self, tmp_path: Path) -> None:
        environ = {**environ_of(SESSION_STORE=None), "XDG_STATE_HOME": str(tmp_path / "state")}
        config = Config.from_environ(environ)
        assert list(tmp_path.iterdir()) == []
        old_umask = os.umask(0)
        try:
            create_app(config)
        finally:
            os.umask(old_umask)
        [folder] = (tmp_path / "state" / "wsgi_oauth").iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_unsafe_folder_is_refused_with_the_name_of_the_setting(self, tmp_path: Path) -> None:
        folder = tmp_path / "sessions"
        folder.mkdir()
        folder.chmod(0o777)
        with pytest.raises(errors.ConfigError, match=r"WSGI_OAUTH_SESSION_STORE.*chmod 700") as caught:
            create_app(load(SESSION_STORE=f"file:{folder}"))
        assert str(folder) in str(caught.value)


class TestSeveralProviders:
    def load(self, **settings: str) -> Config:
        return Config.from_environ({f"WSGI_OAUTH_{name}": value for name, value in settings.items()})

    def problems(self, **settings: str) -> list[str]:
        with pytest.raises(errors.ConfigError) as caught:
            self.load(**settings)
        return str(caught.value).splitlines()

    def test_each_provider_has_its_own_variables(self) -> None:
        config = self.load(
            PROVIDERS="github Work",
            GITHUB_CLIENT_ID="a",
            GITHUB_CLIENT_SECRET="b",
            WORK_PROVIDER="https://id.example.com",
            WORK_CLIENT_ID="c",
            WORK_CLIENT_AUTH="none",
            SESSION_STORE="memory:",
        )
        assert config.has_labels
        assert config.providers == (
            ProviderConfig(label="github", provider="github", client_id="a", client_secret="b"),
            ProviderConfig(label="work", provider="https://id.example.com", client_id="c", client_auth="none"),
        )

    def test_messages_name_the_labeled_variables(self) -> None:
        [line] = self.problems(PROVIDERS="one two", ONE_CLIENT_ID="x", ONE_CLIENT_SECRET="y", TWO_CLIENT_ID="x")
        assert line.startswith("WSGI_OAUTH_TWO_CLIENT_SECRET: missing; ")
        assert "WSGI_OAUTH_TWO_CLIENT_SECRET_FILE" in line

    def test_provider_setting_without_a_label_is_refused(self) -> None:
        lines = self.problems(PROVIDERS="one two", CLIENT_ID="x")
        assert lines[0].startswith("WSGI_OAUTH_CLIENT_ID: must name its provider")
        assert lines[0].endswith("set WSGI_OAUTH_ONE_CLIENT_ID, WSGI_OAUTH_TWO_CLIENT_ID")

    def test_problem_of_a_shared_setting_is_reported_once(self) -> None:
        lines = self.problems(PROVIDERS="one two", SESSION_IDLE="x", TWO_CLIENTID="x")
        assert len([line for line in lines if line.startswith("WSGI_OAUTH_SESSION_IDLE")]) == 1
        assert "WSGI_OAUTH_TWO_CLIENTID: unknown variable; did you mean WSGI_OAUTH_TWO_CLIENT_ID?" in lines

    @pytest.mark.parametrize("settings", [{"PROVIDERS": "one"}, {}])
    def test_missing_label_is_suggested(self, settings: dict[str, str]) -> None:
        lines = self.problems(**settings, TWO_CLIENT_ID="x")
        assert "WSGI_OAUTH_TWO_CLIENT_ID: unknown variable; is 'two' missing from WSGI_OAUTH_PROVIDERS?" in lines

    @pytest.mark.parametrize(
        ("labels", "text"),
        [
            ("one one", "names a provider twice"),
            ("session", "choose another label"),
            ("upstream", "choose another label"),
            *((label, "separated by spaces") for label in ("one,two", "a-b", "1", "é", "a/b", "x" * 40)),
        ],
    )
    def test_invalid_label_is_refused(self, labels: str, text: str) -> None:
        [line] = self.problems(PROVIDERS=labels)
        assert line.startswith("WSGI_OAUTH_PROVIDERS: ")
        assert re.search(text, line)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("client_id", 5),
        ("public_url", 5),
        ("scope", ["a", "b"]),
        ("session_store", MemoryStore()),
        ("insecure_http_hosts", [5]),
    ],
)
def test_value_of_another_type_is_refused_with_its_name(setting: str, value: object) -> None:
    values: dict[str, Any] = {"client_id": "the-id", "client_secret": "the-secret", setting: value}
    with pytest.raises(errors.ConfigError, match=f"WSGI_OAUTH_{setting.upper()}: must not be of the type "):
        Config(**values)


def test_application_of_a_plain_dictionary_is_refused_with_the_way_to_make_a_config() -> None:
    with pytest.raises(TypeError, match=r"config: must be a Config \(got dict\); use Config\(\.\.\.\)"):
        create_app({"client_id": "id"})  # type: ignore[arg-type]


@pytest.mark.parametrize("store", ["file:/var/lib/sessions", MemoryStore])
def test_store_has_to_be_a_session_store(store: object) -> None:
    config = Config(client_id="the-id", client_secret="the-secret")
    with pytest.raises(TypeError, match=r"store: must be a session store, such as FileStore\('/a/folder'\)"):
        create_app(config, store=store)  # type: ignore[arg-type]


def test_methods_that_a_session_store_lacks_are_named() -> None:
    class Shelf:
        load = create = update = delete = keys = MemoryStore.load

    config = Config(client_id="the-id", client_secret="the-secret")
    with pytest.raises(TypeError, match=r"store: Shelf lacks sweep, check; see wsgi_oauth\.SessionStore"):
        create_app(config, store=Shelf())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_HTTP",
        "PORT",
        "PORT_80_TCP",
        "PORT_80_TCP_ADDR",
        "REDIS_SERVICE_HOST",
        "REDIS_PORT_6379_TCP_PROTO",
    ],
)
def test_variables_of_a_kubernetes_service_are_ignored(name: str) -> None:
    environ = {"WSGI_OAUTH_CLIENT_ID": "x", "WSGI_OAUTH_CLIENT_SECRET": "x", f"WSGI_OAUTH_{name}": "tcp://10.0.0.1:80"}
    assert Config.from_environ(environ).providers[0].client_id == "x"


def test_byte_order_mark_before_a_name_is_ignored() -> None:
    """python-dotenv and Podman take it for a part of the first name of a file."""
    environ = {"\ufeffWSGI_OAUTH_CLIENT_ID": "x", "WSGI_OAUTH_CLIENT_SECRET": "x"}
    assert Config.from_environ(environ).providers[0].client_id == "x"


@pytest.mark.parametrize("value", ['"Iv1.x"', "'Iv1.x'"])
def test_value_in_quotes_is_refused_with_the_remedy(value: str) -> None:
    with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_CLIENT_ID: the value is in quotes; remove them"):
        Config.from_environ({"WSGI_OAUTH_CLIENT_ID": value, "WSGI_OAUTH_CLIENT_SECRET": "x"})


@pytest.mark.parametrize("quote", ['"', "'"])
def test_value_in_quotes_is_reported_once(quote: str) -> None:
    environ = {"WSGI_OAUTH_CLIENT_ID": "x", "WSGI_OAUTH_CLIENT_SECRET": "x"}
    environ["WSGI_OAUTH_PUBLIC_URL"] = f"{quote}https://app.example.com{quote}"
    with pytest.raises(errors.ConfigError) as caught:
        Config.from_environ(environ)
    assert caught.value.detail.splitlines() == [
        "WSGI_OAUTH_PUBLIC_URL: the value is in quotes; remove them, because they are a part of the value here"
    ]
