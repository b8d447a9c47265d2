"""The settings: each variable with its default, what it takes, and what is said about everything else."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from conftest import Browser, environ_for

from wsgi_oauth import Config, create_app, errors, get_app
from wsgi_oauth.config import ProviderConfig
from wsgi_oauth.config.settings import known_variables
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.oauth.configured import provider_from_config
from wsgi_oauth.oauth.provider import Provider

NEEDED = {"CLIENT_ID": "the-id", "CLIENT_SECRET": "the-secret"}
OWN_PROVIDER = {
    "AUTHORIZATION_URL": "https://provider.example/authorize",
    "TOKEN_URL": "https://provider.example/token",
    "PROFILE_URL": "https://provider.example/user",
}
URLS = [*OWN_PROVIDER, "REVOCATION_URL", "ISSUER", "PUBLIC_URL"]


def config(**settings: str | None) -> Config:
    """The configuration of an environment with these WSGI_OAUTH_* variables; None takes a needed one away."""
    return Config.from_environ(variables(settings))


def described(**settings: str | None) -> Provider:
    """The provider of such an environment."""
    return provider_from_config(config(**settings).providers[0])


def variables(settings: Mapping[str, str | None]) -> dict[str, str]:
    merged = {**NEEDED, "SESSION_STORE": "memory:", **settings}
    return {f"WSGI_OAUTH_{name}": value for name, value in merged.items() if value is not None}


def problems(**settings: str | None) -> list[str]:
    """What is said about an environment that cannot work, one line each."""
    with pytest.raises(errors.ConfigError) as caught:
        config(**settings)
    assert str(caught.value) == caught.value.detail
    return caught.value.detail.splitlines()


# Defaults


def test_two_variables_are_enough() -> None:
    """Then it is GitHub, as in the tutorial."""
    found = Config.from_environ({"WSGI_OAUTH_CLIENT_ID": "the-id", "WSGI_OAUTH_CLIENT_SECRET": "s", "HOME": "/home/me"})
    assert found == Config(
        providers=[ProviderConfig(client_id="the-id", client_secret="s", provider="github")],
        session_store="file:/home/me/.local/state/wsgi_oauth/sessions",
        session_idle=12 * 3600,
        session_lifetime=7 * 86400,
        session_seal=False,
        public_url=None,
        upstream_timeout=10.0,
        upstream_limit=12,
        trusted_proxies=0,
        allow=(),
    )
    github = provider_from_config(found.providers[0])
    assert github.authorization_url == "https://github.com/login/oauth/authorize"
    assert github.token_url == "https://github.com/login/oauth/access_token"
    assert github.profile_url == "https://api.github.com/user"
    assert github.issuer == "https://github.com/login/oauth"
    assert github.client_auth == "post"


def test_the_keyword_arguments_are_the_variables() -> None:
    assert Config(client_id="the-id", client_secret="the-secret", session_store="memory:") == config()


@pytest.mark.parametrize("name", [name.removeprefix("WSGI_OAUTH_") for name in known_variables()])
def test_an_empty_variable_counts_as_absent(name: str) -> None:
    """Compose files and unit files set them like that."""
    if name in NEEDED:
        assert problems(**{name: " "})[0].startswith(f"WSGI_OAUTH_{name}: missing")
    else:
        without = Config.from_environ(variables({name: None}))
        assert Config.from_environ(variables({name: " \t"})) == without


def test_other_variables_are_nobodys_business() -> None:
    assert Config.from_environ({**variables({}), "OTHER": "x", "WSGI_OAUTHX": "y", "PATH": ""}) == config()


# Good values


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("CLIENT_ID", "Iv1.8a61f9b3a7aba766", "Iv1.8a61f9b3a7aba766"),
        ("CLIENT_ID", " padded ", "padded"),
        ("CLIENT_SECRET", "p%+:/ ä", "p%+:/ ä"),
        ("CLIENT_SECRET", "from a shell\n", "from a shell"),
        ("PROVIDER", "github", "github"),
        (
            "AUTHORIZATION_URL",
            "https://provider.example/authorize?tenant=a",
            "https://provider.example/authorize?tenant=a",
        ),
        ("TOKEN_URL", "http://localhost:8001/token", "http://localhost:8001/token"),
        ("PROFILE_URL", "http://[::1]:8001/user", "http://[::1]:8001/user"),
        ("REVOCATION_URL", "http://127.8.9.10/revoke", "http://127.8.9.10/revoke"),
        ("ISSUER", "https://provider.example", "https://provider.example"),
        (
            "ISSUER",
            "https://provider.example/",
            "https://provider.example/",
        ),  # compared to the byte, so kept to the byte
        ("CLIENT_AUTH", "basic", "basic"),
        ("CLIENT_AUTH", "basic-raw", "basic-raw"),
        ("CLIENT_AUTH", "post", "post"),
        ("SCOPE", "read:user user:email", "read:user user:email"),
        ("PUBLIC_URL", "https://app.example", "https://app.example"),
        ("PUBLIC_URL", "https://app.example/auth/", "https://app.example/auth"),
        ("PUBLIC_URL", "http://localhost:8000", "http://localhost:8000"),
        ("SESSION_STORE", "memory:", "memory:"),
        ("SESSION_STORE", "file:/var/lib/app/sessions", "file:/var/lib/app/sessions"),
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
        ("TRUSTED_PROXIES", "0", 0),
        ("TRUSTED_PROXIES", "2", 2),
    ],
)
def test_a_good_value_is_taken(name: str, text: str, value: object) -> None:
    found = config(**{name: text})
    assert getattr(found, name.lower(), None) == value or getattr(found.providers[0], name.lower()) == value


def test_a_public_client_has_no_secret() -> None:
    [found] = config(CLIENT_SECRET=None, CLIENT_AUTH="none").providers
    assert (found.client_secret, found.client_auth) == (None, "none")


# Bad values: each message names the variable, the value, and what would be right

BAD_VALUES = [
    ("CLIENT_ID", "with\ttab", "not allowed in a client id"),
    ("CLIENT_ID", "ключ", "not allowed in a client id"),
    ("CLIENT_AUTH", "Basic", "basic, basic-raw, post, none"),
    ("CLIENT_AUTH", "private_key_jwt", "basic, basic-raw, post, none"),
    ("SCOPE", 'read"user', "separated by spaces"),
    ("SCOPE", "read\\user", "separated by spaces"),
    ("SCOPE", "lesen:ü", "separated by spaces"),
    ("SESSION_STORE", "file:relative/path", "absolute"),
    ("SESSION_STORE", "file:", "absolute"),
    ("SESSION_STORE", "/var/lib/sessions", "file:/"),
    ("SESSION_STORE", "memory:x", "memory:"),
    ("SESSION_STORE", "memcached://localhost", "file:/"),
    ("SESSION_IDLE", "0", "positive"),
    ("SESSION_IDLE", "-5m", "positive"),
    ("SESSION_IDLE", "an hour", "30m"),
    ("SESSION_IDLE", "1.5h", "30m"),
    ("SESSION_IDLE", "1w", "30m"),
    ("SESSION_IDLE", "٣m", "30m"),
    ("SESSION_LIFETIME", "0d", "positive"),
    ("SESSION_LIFETIME", "7 d", "7d"),
    ("SESSION_LIFETIME", "7D", "7d"),
    ("SESSION_SEAL", "true", "yes or no"),
    ("SESSION_SEAL", "YES", "yes or no"),
    ("UPSTREAM_TIMEOUT", "0", "above 0"),
    ("UPSTREAM_TIMEOUT", "-1", "above 0"),
    ("UPSTREAM_TIMEOUT", "301", "at most 300"),
    ("UPSTREAM_TIMEOUT", "nan", "seconds"),
    ("UPSTREAM_TIMEOUT", "inf", "at most 300"),
    ("UPSTREAM_TIMEOUT", "10s", "number of seconds"),
    ("UPSTREAM_LIMIT", "0", "1 or more"),
    ("UPSTREAM_LIMIT", "-1", "whole number"),
    ("UPSTREAM_LIMIT", "many", "requests that may wait"),
    ("TRUSTED_PROXIES", "-1", "whole number"),
    ("TRUSTED_PROXIES", "1.5", "whole number"),
    ("TRUSTED_PROXIES", "10.0.0.0/8", "whole number"),
    ("TRUSTED_PROXIES", "*", "whole number"),
    ("PUBLIC_URL", "https://app.example/?a=b", "query"),
    *((name, "provider.example/path", "https://") for name in URLS),
    *((name, "ftp://provider.example/path", "https://") for name in URLS),
    *((name, "https:///path", "https://") for name in URLS),
    *((name, "https://provider.example/#fragment", "fragment") for name in URLS),
    *((name, "https://provider.example:99999/", "not a URL") for name in URLS),
    *((name, "https://[::1/", "not a URL") for name in URLS),
    *((name, "https://provider.example/a b", "no URL has") for name in URLS),
    *((name, "https://provider.example\\evil.example/", "no URL has") for name in URLS),
    *((name, "https://prövider.example/", "no URL has") for name in URLS),
]


@pytest.mark.parametrize(("name", "value", "advice"), BAD_VALUES)
def test_a_bad_value_is_named_with_what_would_be_right(name: str, value: str, advice: str) -> None:
    [line] = problems(**{name: value})
    assert line.startswith(f"WSGI_OAUTH_{name}: ")
    assert advice in line
    shown = value.rstrip("/") if name == "PUBLIC_URL" else value
    assert any(form in line for form in (shown, repr(shown)[1:-1], ascii(shown)[1:-1], f" {shown}"))
    assert line.isprintable()


@pytest.mark.parametrize("name", ["SESSION_IDLE", "SESSION_LIFETIME"])
def test_a_lifetime_beyond_all_measure_is_told_what_it_was(name: str) -> None:
    [line] = problems(**{name: "999999999d"})
    assert line.startswith(f"WSGI_OAUTH_{name}: ")
    assert "must be above 0; it is 8" not in line  # that is not what is wrong with it
    assert "999999999d" in line or "at most" in line


@pytest.mark.parametrize("name", ["CLIENT_ID", "CLIENT_SECRET"])
def test_what_is_missing_is_named_with_where_to_get_it(name: str) -> None:
    [line] = problems(**{name: None})
    assert line.startswith(f"WSGI_OAUTH_{name}: missing")
    assert "client id" in line


@pytest.mark.parametrize("secret", ["line\nbreak", "nul\0", "tab\there", "delete\x7f"])
def test_a_secret_with_control_characters_is_refused_and_not_shown(secret: str) -> None:
    [line] = problems(CLIENT_SECRET=secret)
    assert line.startswith("WSGI_OAUTH_CLIENT_SECRET: ")
    for part in re.split(r"[\x00-\x1f\x7f]", secret):
        assert not part or part not in line.replace("line break", "")


def test_a_public_client_with_a_secret_is_a_contradiction() -> None:
    [line] = problems(CLIENT_AUTH="none", CLIENT_SECRET="secret-canary")
    assert "WSGI_OAUTH_CLIENT_AUTH=none" in line
    assert "canary" not in line


def test_basic_raw_cannot_tell_an_id_with_a_colon_from_the_secret() -> None:
    """RFC 7617 2: the first colon ends the user-id. What cannot work is refused at the start, not at a sign-in."""
    [line] = problems(CLIENT_AUTH="basic-raw", CLIENT_ID="urn:client")
    assert "WSGI_OAUTH_CLIENT" in line
    assert config(CLIENT_AUTH="basic", CLIENT_ID="urn:client")


# Secrets are never shown


@pytest.mark.parametrize(
    "settings",
    [
        {"CLIENT_SECRET": "secret-canary", "SESSION_IDLE": "x"},
        {"CLIENT_SECRET": "secret-canary", "CLIENT_SECRET_FILE": "/some/file"},
        {"CLIENT_SECRET": "secret-\ncanary", "CLIENT_ID": None},
        {"CLIENT_SECRT": "secret-canary", "CLIENT_SECRET": None},
        {"CLIENT_SECRET_KEY": "secret-canary"},
        {"SECRET": "secret-canary"},
        {"TOKEN_URL": "https://user:secret-canary@provider.example/token"},
        {"PUBLIC_URL": "https://user:secret-canary@app.example/?"},
        {"ISSUER": "http://user:secret-canary@provider.example/"},
        {"SESSION_STORE": "redis://:secret-canary@localhost:6379/name"},
        {"SESSION_STORE": "redis://:secret/canary@localhost:6379/0"},
        {"TOKEN_URL": "https://user:secret/canary?#@provider.example/token"},
        {"SESSION_STORE": "rediss://user:secret-canary@redis.example/0?x=y"},
    ],
)
def test_no_message_shows_a_secret(settings: dict[str, str | None]) -> None:
    lines = problems(**settings)
    assert lines
    assert "canary" not in "\n".join(lines)


def test_the_repr_shows_everything_but_the_secret() -> None:
    text = repr(config(CLIENT_SECRET="secret-canary", PUBLIC_URL="https://app.example"))
    assert "canary" not in text
    assert "the-id" in text
    assert "https://app.example" in text


def test_settings_are_frozen() -> None:
    found = config()
    for field in dataclasses.fields(found):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(found, field.name, "other")


def test_a_change_is_a_new_configuration_that_is_checked_again() -> None:
    assert dataclasses.replace(config(), session_idle=60).session_idle == 60
    with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_TOKEN_URL"):
        dataclasses.replace(
            config(), providers=[ProviderConfig(client_id="a", client_secret="b", token_url="http://c.example")]
        )
    with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_TRUSTED_PROXIES"):
        dataclasses.replace(config(), trusted_proxies=-1)


# The secret in a file


@pytest.mark.parametrize(
    ("contents", "secret"),
    [
        ("the-secret", "the-secret"),
        ("the-secret\n", "the-secret"),
        ("  the-secret\r\n\n", "the-secret"),
        ("пароль %+:/ €\n", "пароль %+:/ €"),
        ("\ufeffthe-secret\r\n", "the-secret"),  # some editors begin a file like that
    ],
)
def test_a_secret_may_be_in_a_file(contents: str, secret: str, tmp_path: Path) -> None:
    """As container platforms and systemd hand them over."""
    file = tmp_path / "secret"
    file.write_text(contents, encoding="utf-8", newline="")
    assert config(CLIENT_SECRET=None, CLIENT_SECRET_FILE=str(file)).providers[0].client_secret == secret


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file"),
        (folder, "directory"),
        (lambda path: path.write_text(""), "empty"),
        (lambda path: path.write_text(" \n\n"), "empty"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00canary"), "UTF-8"),
    ],
    ids=["missing", "folder", "empty", "blank", "binary"],
)
def test_a_secret_file_that_holds_none_is_named(make: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "the-file"
    make(path)
    [line] = problems(CLIENT_SECRET=None, CLIENT_SECRET_FILE=str(path))
    assert line.startswith("WSGI_OAUTH_CLIENT_SECRET_FILE: ")
    assert str(path) in line
    assert reason in line
    assert "canary" not in line


@pytest.mark.parametrize(
    "contents", ["one\ntwo-canary", "nul\0canary", "-----BEGIN KEY-----\ncanary\n-----END KEY-----\n"]
)
def test_a_secret_file_with_more_than_a_secret_is_refused(contents: str, tmp_path: Path) -> None:
    path = tmp_path / "the-file"
    path.write_text(contents)
    [line] = problems(CLIENT_SECRET=None, CLIENT_SECRET_FILE=str(path))
    assert line.startswith("WSGI_OAUTH_CLIENT_SECRET")
    assert "canary" not in line


def test_a_secret_file_that_is_too_large_is_refused_and_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "the-file"
    path.write_text("x" * 10_000)
    [line] = problems(CLIENT_SECRET=None, CLIENT_SECRET_FILE=str(path))
    assert line.startswith("WSGI_OAUTH_CLIENT_SECRET_FILE: ")


def test_secret_and_file_together_are_a_contradiction(tmp_path: Path) -> None:
    path = tmp_path / "the-file"
    path.write_text("file-canary")
    [line] = problems(CLIENT_SECRET_FILE=str(path), CLIENT_SECRET="secret-canary")
    assert "WSGI_OAUTH_CLIENT_SECRET_FILE" in line
    assert "WSGI_OAUTH_CLIENT_SECRET;" in line
    assert "canary" not in line


# Misspelt names, and several problems at once


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("CLIENTID", "CLIENT_ID"),
        ("CLIENT_SECRETS", "CLIENT_SECRET"),
        ("SECRET_FILE", "CLIENT_SECRET_FILE"),
        ("PUBLIC_URI", "PUBLIC_URL"),
        ("SCOPES", "SCOPE"),
        ("SESSION_IDLE_", "SESSION_IDLE"),
        ("UPSTREAM_TIMEOUTS", "UPSTREAM_TIMEOUT"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("client_auth", None),
        ("COMPLETELY_ELSE", None),
    ],
)
def test_a_misspelt_variable_is_refused_with_a_suggestion(misspelt: str, meant: str | None) -> None:
    """A setting that is silently ignored is the worst kind of wrong."""
    [line] = problems(**{misspelt: "value-canary"})
    assert line.startswith(f"WSGI_OAUTH_{misspelt}: ")
    assert "canary" not in line
    if meant:
        assert line.endswith(f"did you mean WSGI_OAUTH_{meant}?")


def test_all_problems_are_told_at_once() -> None:
    lines = problems(
        CLIENT_ID=None, SESSION_IDLE="x", TRUSTED_PROXIES="y", TOKEN_URL="http://a.example", CLIENT_AUT="z"
    )
    assert sorted(line.split(":")[0] for line in lines) == [
        "WSGI_OAUTH_CLIENT_AUT",
        "WSGI_OAUTH_CLIENT_ID",
        "WSGI_OAUTH_SESSION_IDLE",
        "WSGI_OAUTH_TOKEN_URL",
        "WSGI_OAUTH_TRUSTED_PROXIES",
    ]


@pytest.mark.parametrize(("misspelt", "other"), [("TOKEN_URLS", "TOKEN_URL"), ("SCOPES", "SCOPE")])
def test_a_suggestion_does_not_hide_what_is_wrong_with_the_one_it_names(misspelt: str, other: str) -> None:
    lines = problems(**{misspelt: "x", other: "ü"})
    assert {line.split(":")[0] for line in lines} == {f"WSGI_OAUTH_{misspelt}", f"WSGI_OAUTH_{other}"}


def test_an_empty_environment_says_what_is_needed_and_not_more() -> None:
    with pytest.raises(errors.ConfigError) as caught:
        Config.from_environ({})
    assert [line.split(":")[0] for line in caught.value.detail.splitlines()] == [
        "WSGI_OAUTH_CLIENT_ID",
        "WSGI_OAUTH_CLIENT_SECRET",
    ]


def test_get_app_reads_the_environment_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WSGI_OAUTH_")]:
        monkeypatch.delenv(name)
    with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_CLIENT_ID: missing"):
        get_app()
    for name, value in variables({}).items():
        monkeypatch.setenv(name, value)
    assert callable(get_app())


# Providers


def test_an_unknown_provider_is_named_with_those_that_are_known() -> None:
    with pytest.raises(errors.ConfigError) as caught:
        create_app(config(PROVIDER="githup"))
    for part in ("WSGI_OAUTH_PROVIDER", "github", "'githup'", "WSGI_OAUTH_TOKEN_URL"):
        assert part in str(caught.value)


def test_three_urls_describe_a_provider_of_ones_own() -> None:
    """S29: endpoints come from the configuration, and from nowhere else."""
    own = described(**OWN_PROVIDER, ISSUER="https://issuer.example", SCOPE="a b", CLIENT_AUTH="post")
    assert own.authorization_url == OWN_PROVIDER["AUTHORIZATION_URL"]
    assert own.token_url == OWN_PROVIDER["TOKEN_URL"]
    assert own.profile_url == OWN_PROVIDER["PROFILE_URL"]
    assert own.issuer == "https://issuer.example"
    assert own.scope == "a b"
    assert own.client_auth == "post"
    assert "github" not in repr(own).lower()


def test_a_provider_of_ones_own_follows_the_specification_until_told_otherwise() -> None:
    own = described(**OWN_PROVIDER)
    assert (own.client_auth, own.issuer, own.scope, own.revocation_url) == ("", None, "", None)


@pytest.mark.parametrize("name", [*OWN_PROVIDER, "REVOCATION_URL", "ISSUER"])
def test_one_endpoint_of_a_known_provider_can_be_moved(name: str) -> None:
    """GitHub Enterprise, or a mirror for tests."""
    moved = described(**{name: "https://elsewhere.example/x"})
    usual = described()
    assert usual._replace(**{name.lower(): "https://elsewhere.example/x"}) == moved


# Plain http


NOT_THIS_MACHINE = [
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
]


@pytest.mark.parametrize("insecure", [None, "1", "true"])
@pytest.mark.parametrize("url", NOT_THIS_MACHINE)
def test_plain_http_is_for_this_machine_alone(url: str, insecure: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """S29: whatever oauthlib's OAUTHLIB_INSECURE_TRANSPORT says."""
    if insecure:
        monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", insecure)
    for name in URLS:
        [line] = problems(**{name: url})
        assert line.startswith(f"WSGI_OAUTH_{name}: ")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.255.255.254", "[::1]", "[0:0::1]"])
@pytest.mark.parametrize("insecure", [None, "0", "1"])
def test_plain_http_to_this_machine_needs_no_permission(
    host: str, insecure: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OAUTHLIB_INSECURE_TRANSPORT", raising=False)
    if insecure:
        monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", insecure)
    for name in URLS:
        assert config(**{name: f"http://{host}:8000/path"})


def test_a_sign_in_at_a_provider_on_this_machine_needs_and_sets_no_permission(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OAUTHLIB_INSECURE_TRANSPORT", raising=False)
    before = dict(os.environ)
    browser = Browser(create_app(Config.from_environ(environ_for(provider))), provider)
    browser.sign_in()
    assert browser.profile().json["login"] == "octocat"
    assert dict(os.environ) == before


# Where sessions are kept when nobody says


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"HOME": "/home/me"}, "/home/me/.local/state/wsgi_oauth/sessions"),
        ({"HOME": "/home/me", "XDG_STATE_HOME": "/state"}, "/state/wsgi_oauth/sessions"),
        ({"HOME": "/home/me", "XDG_STATE_HOME": ""}, "/home/me/.local/state/wsgi_oauth/sessions"),
        ({"HOME": "/home/me", "XDG_STATE_HOME": "relative"}, "/home/me/.local/state/wsgi_oauth/sessions"),
        ({"HOME": "/home/me", "XDG_STATE_HOME": "/state", "STATE_DIRECTORY": "/var/lib/app"}, "/var/lib/app/sessions"),
        ({"STATE_DIRECTORY": "/var/lib/one:/var/lib/two"}, "/var/lib/one/sessions"),
    ],
)
def test_sessions_are_kept_in_the_users_or_the_services_state_directory(environ: dict[str, str], path: str) -> None:
    """systemd.exec(5) StateDirectory=; XDG Base Directory Specification: a relative path is invalid and is ignored."""
    given = {**environ, **variables({"SESSION_STORE": None})}
    assert Config.from_environ(given).session_store == f"file:{path}"


def test_a_store_that_is_named_wins_over_every_state_directory() -> None:
    assert Config.from_environ({**variables({}), "STATE_DIRECTORY": "/var/lib/app"}).session_store == "memory:"


def test_a_configuration_touches_no_disk_and_an_application_makes_the_folder_for_itself_alone(tmp_path: Path) -> None:
    found = Config.from_environ({**variables({"SESSION_STORE": None}), "XDG_STATE_HOME": str(tmp_path / "state")})
    assert list(tmp_path.iterdir()) == []
    old_umask = os.umask(0)
    try:
        create_app(found)
    finally:
        os.umask(old_umask)
    made = tmp_path / "state" / "wsgi_oauth" / "sessions"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702])
def test_a_folder_that_others_can_write_to_is_refused_with_what_to_do(mode: int, tmp_path: Path) -> None:
    place = tmp_path / "sessions"
    place.mkdir()
    place.chmod(mode)
    with pytest.raises(errors.ConfigError, match="chmod 700") as caught:
        create_app(config(SESSION_STORE=f"file:{place}"))
    assert str(place) in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_that_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "sessions"
    place.mkdir(mode=0o700)
    os.chown(place, 65534, 65534)
    with pytest.raises(errors.ConfigError, match="another user"):
        create_app(config(SESSION_STORE=f"file:{place}"))


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "sessions"
    place.write_text("")
    with pytest.raises(errors.Error, match="sessions"):
        create_app(config(SESSION_STORE=f"file:{place}"))


@pytest.mark.parametrize("left_out", ["AUTHORIZATION_URL", "TOKEN_URL", "PROFILE_URL"])
def test_two_of_the_three_urls_would_mix_two_providers(left_out: str) -> None:
    """With PROFILE_URL forgotten, GitHub would be sent the tokens of some other provider."""
    urls = {"AUTHORIZATION_URL", "TOKEN_URL", "PROFILE_URL"} - {left_out}
    with pytest.raises(errors.ConfigError, match=f"WSGI_OAUTH_{left_out}"):
        described(**dict.fromkeys(urls, "https://provider.example/x"))


def test_a_ca_bundle_that_is_not_there_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environ_for(LocalProvider(), AUTHORIZATION_URL="https://p.example/a").items():
        if value:
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("WSGI_OAUTH_TOKEN_URL", "https://p.example/t")
    monkeypatch.setenv("WSGI_OAUTH_PROFILE_URL", "https://p.example/u")
    monkeypatch.setenv("WSGI_OAUTH_ISSUER", "https://p.example")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(errors.ConfigError, match="REQUESTS_CA_BUNDLE"):
        get_app()
