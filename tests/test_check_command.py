"""The command ``wsgi-oauth check``: findings about a configuration, with remedies."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import free_port, parameters, raw_server
from openid import Issuer
from werkzeug import Request, Response
from werkzeug.utils import redirect

import wsgi_oauth
from wsgi_oauth.cli import check as check_command
from wsgi_oauth.cli import main, provider_check
from wsgi_oauth.cli.finding import Finding
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve, serve_provider
from wsgi_oauth.oauth.keys import verifies_signatures
from wsgi_oauth.oauth.presets import PRESETS

ROOT = Path(wsgi_oauth.__file__).parents[1]
SECRET = "correct horse/battery+staple"

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., list[Finding]]


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    provider = LocalProvider(client_secret=SECRET)
    with serve_provider(provider):
        yield provider


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer(client_secret=SECRET)
    with serve_provider(issuer):
        yield issuer


def settings_for(provider: LocalProvider, folder: Path) -> dict[str, str]:
    return {
        "CLIENT_ID": provider.client_id,
        "CLIENT_SECRET": SECRET,
        "AUTHORIZATION_URL": provider.authorization_url,
        "TOKEN_URL": provider.token_url,
        "PROFILE_URL": provider.profile_url,
        "SCOPE": "profile",
        "PUBLIC_URL": "http://localhost:8000",
        "SESSION_STORE": f"file:{folder}/sessions",
    }


def environ_of(settings: dict[str, str]) -> dict[str, str]:
    return {f"WSGI_OAUTH_{name}": value for name, value in settings.items()}


def find(settings: dict[str, str]) -> list[Finding]:
    found = list(check_command.findings(environ_of(settings)))
    assert "staple" not in "".join(map(str, found))
    return found


@pytest.fixture
def check(provider: LocalProvider, tmp_path: Path) -> Check:
    """Check a valid configuration with some settings changed: ``check(CLIENT_ID="other")``."""
    return lambda **changes: find({**settings_for(provider, tmp_path), **changes})


@pytest.fixture
def check_issuer(issuer: Issuer, tmp_path: Path) -> Check:
    """Check a configuration with the URL of an OpenID Connect issuer."""

    def check_issuer(**changes: str) -> list[Finding]:
        settings = {name: settings_for(issuer, tmp_path)[name] for name in ("CLIENT_ID", "PUBLIC_URL", "SESSION_STORE")}
        return find({"PROVIDER": issuer.url, "CLIENT_SECRET": SECRET, **settings, **changes})

    return check_issuer


def clean_environ() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_OAUTH_")}
    return {**inherited, "PYTHONPATH": str(ROOT), "NO_PROXY": "*"}


@pytest.fixture
def run(provider: LocalProvider, tmp_path: Path) -> Run:
    """Run the command in a process, with some settings changed."""

    def run(environ: dict[str, str] | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
        settings = {**settings_for(provider, tmp_path), **changes}
        return subprocess.run(
            [sys.executable, "-m", "wsgi_oauth", "check"],
            cwd=tmp_path,
            env={**clean_environ(), **environ_of(settings), **(environ or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def one(found: list[Finding], beginning: str) -> Finding:
    """Return the only finding that begins like this."""
    [finding] = [each for each in found if each.text.startswith(beginning)]
    return finding


def problems(found: list[Finding]) -> list[Finding]:
    """Return the findings of the levels warn and FAIL, without the one about refresh tokens."""
    return [
        finding
        for finding in found
        if finding.level != "ok" and not finding.text.startswith("refresh tokens: unknown until a user signs in")
    ]


def failure(found: list[Finding]) -> Finding:
    """Return the only failure."""
    [finding] = [each for each in found if each.level == "FAIL"]
    return finding


class TestCommand:
    def test_valid_configuration_exits_with_0_and_prints_a_line_for_each_finding(self, run):
        done = run(PUBLIC_URL="http://localhost:8000/auth")
        assert (done.returncode, done.stderr) == (0, "")
        levels = re.findall(r"^(ok|warn|FAIL) ", done.stdout, re.MULTILINE)
        assert (levels.count("ok"), levels.count("warn"), len(levels)) == (11, 1, 12)
        assert "\nwarn  refresh tokens: unknown until a user signs in\n" in done.stdout
        assert "http://localhost:8000/auth/callback\n" in done.stdout
        assert done.stdout.endswith("\nThe application would work; look at the lines marked warn.\n")
        assert "staple" not in done.stdout

    def test_port_of_the_environment_is_that_of_the_redirect_uri(self, run):
        done = run({"PORT": "9000"}, PUBLIC_URL="")
        assert "redirect URI: works on this machine only: http://127.0.0.1:9000/callback\n" in done.stdout

    def test_warnings_exit_with_0(self, run):
        done = run(PUBLIC_URL="")
        assert done.returncode == 0
        assert "\nwarn  redirect URI: works on this machine only: http://127.0.0.1:8000/callback\n" in done.stdout
        assert "register it to try the sign-in on this machine; on a server, set WSGI_OAUTH_PUBLIC_URL" in done.stdout
        assert done.stdout.endswith("The application would work; look at the lines marked warn.\n")

    def test_failures_exit_with_1(self, run):
        done = run(CLIENT_SECRET="wrong")
        assert (done.returncode, done.stderr) == (1, "")
        assert re.search(r"^FAIL  token endpoint .*invalid_client", done.stdout, re.MULTILINE)
        assert done.stdout.endswith("\nThe application would not work: fix the lines marked FAIL.\n")

    def test_output_in_an_encoding_without_some_character_is_escaped(self, run, tmp_path):
        done = run({"PYTHONIOENCODING": "ascii"}, SESSION_STORE=f"file:{tmp_path}/s\xe9ances")
        assert (done.returncode, done.stderr) == (0, "")
        assert "s\\xe9ances: a session can be stored" in done.stdout

    @pytest.mark.parametrize("arguments", [[], ["nonsense"], ["check", "--nonsense"], ["demo", "x"]])
    def test_usage_errors_exit_with_2(self, arguments, capsys):
        with pytest.raises(SystemExit, match="2"):
            main.main(arguments)
        assert capsys.readouterr().err.startswith("usage: wsgi-oauth")

    def test_version(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            main.main(["--version"])
        assert capsys.readouterr().out == f"wsgi-oauth {wsgi_oauth.__version__}\n"


class TestSettings:
    def test_every_missing_variable_is_a_failure(self, check):
        found = check(CLIENT_ID="", CLIENT_SECRET="")
        assert [str(finding).partition(";")[0] for finding in found] == [
            "FAIL  WSGI_OAUTH_CLIENT_ID: missing",
            "FAIL  WSGI_OAUTH_CLIENT_SECRET: missing",
        ]

    @pytest.mark.parametrize(
        ("setting", "value", "text"),
        [
            ("CLIENT_SECRTE", "x", "did you mean WSGI_OAUTH_CLIENT_SECRET?"),
            ("ALLOW", "user:octocat", "WSGI_OAUTH_ALLOW"),
            ("TOKEN_URL", "http://login.example.com/token", "https"),
        ],
    )
    def test_invalid_setting_is_the_only_finding(self, setting, value, text, check):
        [finding] = check(**{setting: value})
        assert finding.level == "FAIL"
        assert text in finding.text

    def test_unknown_provider_is_a_failure(self, check):
        [finding] = check(PROVIDER="githbu", AUTHORIZATION_URL="", TOKEN_URL="", PROFILE_URL="")
        assert "githbu" in failure([finding]).text

    def test_invalid_label_is_the_only_finding(self):
        environ = {"WSGI_OAUTH_PROVIDERS": "github,google", "WSGI_OAUTH_CLIENT_ID": "x"}
        [finding] = check_command.findings(environ)
        assert finding.text.startswith("WSGI_OAUTH_PROVIDERS: invalid label 'github,google'")

    def test_label_that_is_not_a_known_name_needs_a_provider(self):
        clients = {
            f"WSGI_OAUTH_{label}_CLIENT_{name}": "x" for label in ("GITHUB", "WORK") for name in ("ID", "SECRET")
        }
        [finding] = check_command.findings({"WSGI_OAUTH_PROVIDERS": "github work", **clients})
        assert finding.text.startswith(
            "WSGI_OAUTH_WORK_PROVIDER: missing, because its label is not a known name (got 'work')"
        )

    def test_invalid_ca_bundle_is_a_failure(self, check, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", __file__)
        [finding] = check()
        assert "CA bundle" in failure([finding]).text

    def test_upstream_limit_that_leaves_no_thread_free_is_a_warning(self, check):
        finding = one(check(UPSTREAM_LIMIT="16"), "upstream limit: ")
        assert finding.level == "warn"
        assert "WSGI_OAUTH_UPSTREAM_LIMIT" in finding.remedy

    @pytest.mark.parametrize(("allow", "text"), [("", "all users"), ("id:1 id:2", "users who match one of: id:1 id:2")])
    def test_access_rules_are_listed(self, allow, text, check):
        assert text in one(check(ALLOW=allow), "access: ").text

    def test_trusted_addresses_are_a_warning_that_names_the_consequence(self, check):
        finding = one(check(TRUST_UNVERIFIED_EMAIL="yes"), "WSGI_OAUTH_TRUST_UNVERIFIED_EMAIL: ")
        assert finding.level == "warn"
        assert "has the access of its owner" in finding.text
        assert not [found for found in check() if "TRUST" in found.text]

    @pytest.mark.parametrize(("claim", "warns"), [("name", True), ("login", True), ("department", False)])
    def test_rule_about_a_claim_that_users_can_change_is_a_warning(self, claim, warns, check):
        found = [each for each in check(ALLOW=f"claim:{claim}=x") if each.text.startswith(f"access: claim:{claim}= ")]
        assert [each.level for each in found] == ["warn"] * warns


class TestSessionStore:
    def test_no_session_stays_in_the_store(self, check, tmp_path):
        assert one(check(), f"session store file:{tmp_path}/sessions: ").level == "ok"
        assert list((tmp_path / "sessions").iterdir()) == []

    def test_memory_store_is_a_warning(self, check):
        assert one(check(SESSION_STORE="memory:"), "session store memory: ").level == "warn"

    @pytest.mark.parametrize(("seal", "text"), [("yes", "on"), ("no", "off")])
    def test_encryption_is_reported(self, seal, text, check):
        assert one(check(SESSION_SEAL=seal), f"session encryption: {text}; ").level == "ok"

    def test_folder_that_cannot_be_created_is_a_failure(self, check, tmp_path):
        (tmp_path / "file").touch()
        text = failure(check(SESSION_STORE=f"file:{tmp_path}/file/sessions")).text
        assert text.startswith(f"session store file:{tmp_path}/file/sessions: ")

    def test_folder_that_others_can_write_to_is_a_failure(self, check, tmp_path):
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared").chmod(0o777)
        found = failure(check(SESSION_STORE=f"file:{tmp_path}/shared"))
        assert found.text.startswith(
            f"session store file:{tmp_path}/shared: other users can write to the session folder"
        )
        assert found.remedy.startswith("use another folder, or run `chmod 700")

    def test_root_does_not_create_the_folder_of_another_user(self, check, tmp_path, monkeypatch):
        (tmp_path / "service").mkdir()
        if os.getuid() == 0:
            os.chown(tmp_path / "service", 65534, 65534)
        monkeypatch.setattr("os.geteuid", lambda: 0)
        found = failure(check(SESSION_STORE=f"file:{tmp_path}/service/sessions"))
        assert "missing, and root would create it in a folder of the user " in found.text
        assert found.remedy.startswith("run this command as the user ")
        assert list((tmp_path / "service").iterdir()) == []

    def test_full_disk_is_a_failure(self, check, monkeypatch):
        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("os.rename", fail)
        found = failure(check())
        assert found.text.endswith("the session store failed: No space left on device")
        assert "free disk space" in found.remedy

    def test_encryption_without_its_package_is_a_failure(self, run, tmp_path):
        (tmp_path / "cryptography.py").write_text("raise ImportError")
        path = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
        assert "pip install 'wsgi-oauth[sealed]'" in run(path, SESSION_SEAL="yes").stdout
        assert run(path).returncode == 0


class TestEndpoints:
    def test_client_secret_is_tested_with_one_token_request(self, check, provider):
        assert one(check(), "token endpoint").text.endswith(": accepts the client id and secret")
        assert provider.count("token") == 1

    def test_public_client_has_no_secret(self, check):
        public = LocalProvider(client_secret=None)
        with serve_provider(public):
            found = check(TOKEN_URL=public.token_url, CLIENT_SECRET="", CLIENT_AUTH="none")
        assert one(found, "token endpoint").text.endswith(": accepts the client id")

    @pytest.mark.parametrize(
        ("fault", "remedy"),
        [
            ("token.html_200", "compare WSGI_OAUTH_TOKEN_URL with the provider's documentation"),
            ("token.redirect_307", "set WSGI_OAUTH_TOKEN_URL to the URL behind the redirect"),
            ("token.503", "compare the URL with the provider's documentation"),
            ("token.slow", "WSGI_OAUTH_UPSTREAM_TIMEOUT"),
        ],
    )
    def test_token_endpoint_that_does_not_work_is_a_failure(self, fault, remedy, check, provider):
        provider.faults.add(fault)
        found = check(UPSTREAM_TIMEOUT="0.5" if fault == "token.slow" else "10")
        finding = one(found, f"token endpoint {provider.token_url}: ")
        assert finding.level == "FAIL"
        assert remedy in finding.remedy

    @pytest.mark.parametrize("fault", ["token.empty_400", "token.invalid_request"])
    def test_refusal_that_may_be_due_to_the_invalid_code_is_a_warning(self, fault, check, provider):
        provider.faults.add(fault)
        assert one(check(), "token endpoint").level == "warn"

    def test_refusal_with_status_200_may_be_due_to_the_invalid_code_too(self, check):
        """As at Naver."""
        with serve(Response('{"error": "invalid_request", "error_description": "no valid data in session"}')) as server:
            assert one(check(TOKEN_URL=f"{server.url}/token"), "token endpoint").level == "warn"

    def test_token_for_an_invalid_code_is_a_failure(self, check):
        with serve(Response('{"access_token": "for-everyone", "token_type": "bearer"}')) as server:
            finding = failure(check(TOKEN_URL=f"{server.url}/token"))
        assert finding.text.endswith("issues a token for an invalid code")
        assert "for-everyone" not in str(finding)

    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            ({"PUBLIC_URL": "https://app.example.com"}, "Mismatching redirect URI"),  # not a registered redirect URI
            ({"SCOPE": "everything"}, "invalid_scope"),
        ],
    )
    def test_authorization_request_that_is_refused_is_a_failure(self, settings, text, check):
        finding = failure(check(**settings))
        assert finding.text.startswith("authorization endpoint")
        assert text in finding.text

    @pytest.mark.parametrize(
        ("error", "words", "remedy"),
        [
            ("invalid_scope", "Unknown scope: groups", "WSGI_OAUTH_SCOPE"),
            ("invalid_request", "PKCE is not supported", "WSGI_OAUTH_PKCE=no"),
            ("invalid_request", "Pushed Authorization Request is only allowed.", "WSGI_OAUTH_PUSHED_REQUESTS=yes"),
            ("unauthorized_client", "Flow not enabled", "enable the authorization code flow"),
        ],
    )
    def test_authorization_request_that_is_refused_has_the_words_of_the_provider(self, error, words, remedy, check):
        location = f"http://localhost:8000/callback?error={error}&error_description={words.replace(' ', '+')}"
        with serve(redirect(location)) as server:
            finding = failure(check(AUTHORIZATION_URL=server.url))
        assert words in finding.text
        assert remedy in finding.remedy

    def test_page_of_the_authorization_endpoint_is_quoted(self, check):
        with serve(Response("<title>Unknown client</title>", 400, content_type="text/html")) as server:
            finding = one(check(AUTHORIZATION_URL=server.url), "authorization endpoint")
        assert (finding.level, "Unknown client" in finding.text) == ("FAIL", True)

    def test_authorization_endpoint_with_a_server_error_is_a_failure(self, check):
        with serve(Response(status=503)) as server:
            assert failure(check(AUTHORIZATION_URL=server.url)).text.startswith("authorization endpoint")

    @pytest.mark.parametrize(
        ("page", "level", "remedy"),
        [
            ("<title>Error 400: redirect_uri_mismatch</title>", "FAIL", "register exactly this redirect URI"),
            ("<title>Invalid parameter: redirect_uri</title>", "FAIL", "http://127.0.0.1:8000/callback"),
            ("<title>Invalid request</title>", "warn", "the registered redirect URI"),
        ],
    )
    def test_redirect_uri_that_is_not_registered_is_a_failure_if_the_provider_says_so(self, page, level, remedy, check):
        with serve(Response(page, 400, content_type="text/html")) as server:
            finding = one(check(AUTHORIZATION_URL=server.url, PUBLIC_URL=""), "authorization endpoint")
        assert (finding.level, "status 400" in finding.text) == (level, True)
        assert remedy in finding.remedy

    @pytest.mark.parametrize("endpoint", ["AUTHORIZATION", "PROFILE"])
    def test_status_404_is_a_failure(self, endpoint, check, provider):
        text = failure(check(**{f"{endpoint}_URL": f"{provider.url}/nowhere"})).text
        assert re.match(f"{endpoint.lower()} endpoint .* answers with status 404", text)

    def test_profile_endpoint_with_a_server_error_is_a_failure(self, check, provider):
        provider.faults.add("profile.503")
        assert failure(check()).text.startswith("profile endpoint")

    @pytest.mark.parametrize(
        ("response", "status"), [(Response("hello"), 200), (redirect("https://elsewhere.example.com/"), 302)]
    )
    def test_profile_endpoint_that_requires_no_token_is_a_warning(self, response, status, check):
        with serve(response) as server:
            finding = one(check(PROFILE_URL=f"{server.url}/user"), "profile endpoint")
        assert (finding.level, f"status {status}" in finding.text) == ("warn", True)

    @pytest.mark.parametrize(("ahead", "text"), [(3600, "ahead of"), (-3600, "behind")])
    def test_wrong_clock_is_a_warning(self, ahead, text, check, monkeypatch):
        monkeypatch.setattr(provider_check, "time", SimpleNamespace(time=lambda: time.time() + ahead))
        finding = one(check(), "clock: ")
        assert (finding.level, text in finding.text) == ("warn", True)

    @pytest.mark.parametrize(("ahead", "level"), [(3600, "warn"), (-200, "warn"), (-3600, "FAIL")])
    def test_clock_with_which_every_id_token_is_refused_is_a_failure(self, ahead, level, check_issuer, monkeypatch):
        monkeypatch.setattr(provider_check, "time", SimpleNamespace(time=lambda: time.time() + ahead))
        assert one(check_issuer(), "clock: ").level == level


class TestConnection:
    def test_unknown_host(self, check):
        assert "host name" in failure(check(TOKEN_URL="https://nowhere.invalid/token")).remedy

    def test_closed_port(self, check):
        assert "the host, the port" in failure(check(TOKEN_URL=f"http://127.0.0.1:{free_port()}/token")).remedy

    def test_port_without_https(self, check, provider):
        assert "uses https" in failure(check(TOKEN_URL=provider.token_url.replace("http:", "https:"))).remedy

    def test_untrusted_certificate(self, run, certificates):
        with serve_provider(LocalProvider(), ssl_context=certificates.context()) as server:
            done = run(TOKEN_URL=f"{server.url}/token")
        assert re.search("FAIL  token endpoint .*certificate.*\n.*REQUESTS_CA_BUNDLE", done.stdout)

    def test_broken_connection(self, check):
        with raw_server(lambda connection: None) as url:
            assert "HTTPS_PROXY" in failure(check(TOKEN_URL=f"{url}/token")).remedy


class TestWeakenedSecurity:
    def test_plain_http_in_a_private_network_is_a_warning(self, check, provider):
        """S29"""
        url = provider.profile_url.replace("127.0.0.1", "0.0.0.0")
        finding = one(check(PROFILE_URL=url, INSECURE_HTTP_HOSTS="0.0.0.0 nas.local"), "plain http: ")
        assert (finding.level, "0.0.0.0, nas.local" in finding.text) == ("warn", True)

    def test_missing_pkce_is_a_warning(self, check):
        finding = one(check(PKCE="no"), "WSGI_OAUTH_PKCE=no: ")
        assert (finding.level, "nonce" in finding.text) == ("warn", False)


class TestMetadata:
    """The metadata of an issuer (OpenID Connect Discovery 1.0)."""

    def test_url_of_the_issuer_is_sufficient(self, check_issuer, issuer):
        found = check_issuer()
        assert problems(found) == []
        assert one(found, f"issuer {issuer.url}: ").text.endswith("the metadata agrees with the configuration")
        assert one(found, "scope: ").text == "scope: openid profile email"
        assert one(found, f"token endpoint {issuer.token_url}: ")

    @pytest.mark.parametrize(
        ("algorithm", "keys", "level", "text"),
        [
            ("HS256", "{}", "ok", "verified with the client secret (HS256)"),  # authentik without a signing key
            ("RS256", '{"keys": []}', "FAIL", "no key is published"),
            ("RS256", "{}", "FAIL", "no list `keys`"),
        ],
    )
    def test_missing_keys_are_a_failure_unless_the_client_secret_is_the_key(
        self, check_issuer, issuer, *, algorithm, keys, level, text
    ):
        pytest.importorskip("jwt")
        issuer.metadata["id_token_signing_alg_values_supported"] = [algorithm]
        issuer.publish_keys = lambda: Response(keys)
        finding = one(check_issuer(), "ID tokens: ")
        assert (finding.level, text in finding.text) == (level, True)
        assert ("let the provider sign" in finding.remedy) == (level == "FAIL")

    @pytest.mark.parametrize("path", ["/token", "/.well-known/openid-configuration"])
    def test_rate_limit_is_no_wrong_setting(self, path, check_issuer, issuer):
        limited = Response("", 429)
        issuer.routes[path] = ("limited", dict.fromkeys(("GET", "POST"), lambda request: limited))
        found = [each for each in check_issuer() if "status 429" in each.text]
        assert [each.remedy for each in found] == ["wait some minutes, and check again"]

    def test_authorization_request_is_complete(self, check_issuer, issuer):
        check_issuer()
        [sent] = [parameters(each.url) for each in issuer.exchanges if each.endpoint == "authorize"]
        assert (sent["redirect_uri"], sent["scope"]) == ("http://localhost:8000/callback", "openid profile email")
        assert len(sent["nonce"]) == len(sent["code_challenge"]) == 43

    def test_document_that_is_not_needed_may_be_missing(self, check_issuer, issuer):
        urls = {f"{name}_URL": getattr(issuer, f"{name.lower()}_url") for name in ("AUTHORIZATION", "TOKEN", "PROFILE")}
        found = check_issuer(PROVIDER=f"{issuer.url}/internal", **urls)
        finding = problems(found)[0]
        assert (finding.level, "status 404" in finding.text) == ("warn", True)
        assert "sign-ins do not need it" in finding.remedy
        assert one(found, f"token endpoint {issuer.token_url}: ")

    def test_unreachable_issuer_is_the_last_finding(self, check_issuer):
        url = f"http://127.0.0.1:{free_port()}"
        *others, last = check_issuer(PROVIDER=url)
        assert problems(others) == []
        assert (last.level, last.text.startswith(f"issuer {url}: ")) == ("FAIL", True)
        assert "the host, the port" in last.remedy

    @pytest.mark.parametrize(
        ("settings", "variable"),
        [
            ({"PROVIDER": "{url}/"}, "PROVIDER"),
            ({"PROVIDER": "zitadel", "ISSUER": "{url}/"}, "ISSUER"),
            # All endpoints of this provider are known without the metadata.
            ({"PROVIDER": "keycloak", "ISSUER": "{url}/"}, "ISSUER"),
        ],
    )
    def test_other_issuer_in_the_metadata_is_a_failure(self, settings, variable, check_issuer, issuer):
        *_, last = check_issuer(**{name: value.format(url=issuer.url) for name, value in settings.items()})
        assert last.level == "FAIL"
        assert f"'{issuer.url}'" in last.text
        assert f"'{issuer.url}/'" in last.text
        assert last.remedy.startswith(f"set WSGI_OAUTH_{variable} to exactly the issuer")

    @pytest.mark.parametrize(
        ("response", "text"),
        [
            (Response("<p>Welcome", mimetype="text/html"), "not JSON"),
            (Response(status=404), "status 404"),
            (redirect("https://elsewhere.example.com/"), "another origin"),
        ],
        ids=["HTML", "404", "redirect"],
    )
    def test_missing_metadata_is_a_failure(self, response, text, check_issuer, issuer):
        issuer.discover = lambda: response
        *_, last = check_issuer()
        assert (last.level, text in last.text) == ("FAIL", True)
        assert "realm or tenant" in last.remedy

    def test_missing_endpoint_is_a_failure(self, check_issuer, issuer):
        issuer.metadata["token_endpoint"] = None
        *_, last = check_issuer()
        assert (last.level, "token_endpoint" in last.text) == ("FAIL", True)
        assert "WSGI_OAUTH_TOKEN_URL" in last.remedy

    @pytest.mark.parametrize(
        ("setting", "member"),
        [
            ("TOKEN_URL", "token_endpoint"),
            ("REVOCATION_URL", "revocation_endpoint"),
            ("END_SESSION", "end_session_endpoint"),
        ],
    )
    def test_setting_that_differs_from_the_metadata_is_a_warning(self, setting, member, check_issuer, issuer):
        found = check_issuer(**{setting: f"{issuer.url}/elsewhere"})
        finding = one(found, f"issuer {issuer.url}: the {member} in the metadata is '{issuer.url}/")
        assert finding.level == "warn"
        assert finding.text.endswith(f", but '{issuer.url}/elsewhere' is used")
        assert finding.remedy == f"unset WSGI_OAUTH_{setting} unless this is intended"

    def test_preset_that_differs_from_the_metadata_is_a_warning(self, check_issuer, issuer):
        found = check_issuer(PROVIDER="keycloak", ISSUER=issuer.url)
        finding = one(found, f"issuer {issuer.url}: the token_endpoint in the metadata is '{issuer.token_url}'")
        assert finding.level == "warn"
        assert finding.text.endswith(f", but '{issuer.url}/protocol/openid-connect/token' is used")
        assert finding.remedy == f"set WSGI_OAUTH_TOKEN_URL to {issuer.token_url}"

    @pytest.mark.parametrize(
        ("supported", "missing", "remedy"),
        [
            ({"scopes_supported": ["openid", "email"]}, "profile groups", "WSGI_OAUTH_SCOPE"),
            ({"code_challenge_methods_supported": ["plain"]}, "S256", "set WSGI_OAUTH_PKCE=no"),
            ({"token_endpoint_auth_methods_supported": ["none", []]}, "client_secret_basic", "WSGI_OAUTH_CLIENT_AUTH"),
            ({"response_types_supported": ["id_token"]}, "code", "authorization code flow"),
            ({"grant_types_supported": ["implicit"]}, "authorization_code", "authorization code flow"),
        ],
        ids=["scopes", "PKCE", "client authentication", "response types", "grant types"],
    )
    def test_unsupported_feature_is_a_warning(self, supported, missing, remedy, check_issuer, issuer):
        issuer.metadata.update({"scopes_supported": None, **supported})
        found = check_issuer(SCOPE="openid email profile groups", CLIENT_AUTH="basic-raw")
        finding = one(found, f"issuer {issuer.url}: its {next(iter(supported))} lacks")
        assert (finding.level, finding.text.endswith(f"lacks {missing}")) == ("warn", True)
        assert remedy in finding.remedy

    @pytest.mark.parametrize(
        ("settings", "warns"),
        [
            ({"ALLOW": "group:staff"}, True),
            ({"ALLOW": "group:staff", "SCOPE": "openid groups"}, False),
            ({"ALLOW": "group:staff", "GROUPS_CLAIM": "realm_access.roles"}, False),
            ({"ALLOW": "id:ann"}, False),
        ],
        ids=["no scope", "scope", "another claim", "no rule about groups"],
    )
    def test_rule_about_groups_without_the_scope_for_them_is_a_warning(self, settings, warns, check_issuer, issuer):
        issuer.metadata["scopes_supported"] = ["openid", "profile", "email", "groups"]
        found = [each for each in check_issuer(**settings) if "group: rules need groups" in each.text]
        assert [each.remedy for each in found if each.level == "warn"] == [
            "set WSGI_OAUTH_SCOPE='openid profile email groups'"
        ] * warns

    @pytest.mark.parametrize("value", [None, "all", {}])
    def test_invalid_list_of_features_is_ignored(self, value, check_issuer, issuer):
        lists = ("scopes", "code_challenge_methods", "response_types", "token_endpoint_auth_methods", "grant_types")
        issuer.metadata.update({f"{name}_supported": value for name in lists})
        assert problems(check_issuer()) == []

    def test_missing_userinfo_endpoint_is_accepted(self, check_issuer, issuer):
        issuer.metadata["userinfo_endpoint"] = None
        found = check_issuer()
        assert problems(found) == []
        assert not [finding for finding in found if finding.text.startswith("profile endpoint")]


class TestPresets:
    @pytest.fixture
    def without_endpoints(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Remove the endpoints of a preset, because tests send no requests to real providers."""

        def without_endpoints(name: str) -> None:
            urls = dict.fromkeys(("authorization_url", "token_url", "profile_url", "revocation_url", "jwks_url"), "")
            monkeypatch.setitem(PRESETS, name, PRESETS[name]._replace(**urls))

        return without_endpoints

    def test_findings_link_to_the_notes_and_to_the_registration(self, check_issuer, issuer):
        found = check_issuer(PROVIDER="gitlab-self-managed", ISSUER=issuer.url)
        path, _, entry = one(found, "provider ").remedy.rpartition(": ")[2].partition("#")
        assert (Path(path).read_text()[:11], entry) == ("# Providers", "gitlab-self-managed")
        assert one(found, "redirect URI").remedy == f"register it at {issuer.url}/-/user_settings/applications"

    @pytest.mark.parametrize("name", PRESETS)
    def test_notes_have_an_anchor(self, name):
        assert f'<a id="{name}">' in (ROOT / "docs" / "providers.md").read_text()

    def test_missing_pkce_support_is_accepted_for_a_preset_without_pkce(self, without_endpoints, check_issuer, issuer):
        without_endpoints("slack")
        issuer.metadata["code_challenge_methods_supported"] = ["plain"]
        assert one(check_issuer(PROVIDER="slack", ISSUER=issuer.url), "issuer ").level == "ok"

    def test_preset_can_request_refresh_tokens_with_a_parameter(self, without_endpoints, check_issuer, issuer):
        without_endpoints("google")
        found = check_issuer(PROVIDER="google", ISSUER=issuer.url)
        assert one(found, "refresh tokens: ").text == "refresh tokens: requested with each sign-in"


class TestRefreshTokens:
    @pytest.mark.parametrize(
        ("metadata", "scope", "text"),
        [
            ({"grant_types_supported": ["authorization_code"]}, "openid", "lacks refresh_token"),
            ({"scopes_supported": ["openid", "offline_access"]}, "openid offline_access", "requested with each"),
            ({"grant_types_supported": ["refresh_token"]}, "openid", "supported by the issuer"),
            ({}, "openid", "unknown until a user signs in"),
        ],
    )
    def test_support_is_reported(self, metadata, scope, text, check_issuer, issuer):
        issuer.metadata.update(metadata)
        finding = one(check_issuer(SCOPE=scope), "refresh tokens: ")
        assert text in finding.text
        assert finding.level == ("warn" if "lacks" in text or "unknown" in text else "ok")
        assert ("is not rechecked: behind the gate" in finding.remedy) == ("requested" not in text)

    @pytest.mark.parametrize("is_supported", [True, False])
    def test_remedy_names_the_scope_if_the_issuer_supports_it(self, is_supported, check_issuer, issuer):
        issuer.metadata["scopes_supported"] = ["openid", *(["offline_access"] if is_supported else [])]
        remedy = one(check_issuer(SCOPE="openid"), "refresh tokens: ").remedy
        assert ("if WSGI_OAUTH_SCOPE contains offline_access" in remedy) == is_supported


class TestSignOut:
    """The application works without revocation, so problems are warnings."""

    def test_invalid_token_is_revoked(self, check_issuer, issuer):
        assert one(check_issuer(), f"revocation endpoint {issuer.revocation_url}: ").text.endswith("revokes tokens")
        assert issuer.count("revoke") == 1

    def test_missing_revocation_endpoint_is_reported(self, check_issuer, issuer):
        issuer.metadata["revocation_endpoint"] = None
        finding = one(check_issuer(), "revocation: no endpoint")
        assert finding.level == "ok"
        assert "WSGI_OAUTH_REVOCATION_URL" in finding.remedy

    def test_revocation_endpoint_can_be_configured(self, check_issuer, issuer):
        issuer.metadata["revocation_endpoint"] = None
        assert problems(check_issuer(REVOCATION_URL=issuer.revocation_url)) == []

    @pytest.mark.parametrize("fault", ["revoke.401", "revoke.404", "revoke.503", "revoke.hang_up"])
    def test_revocation_that_fails_is_a_warning(self, fault, check_issuer, issuer):
        issuer.faults.add(fault)
        finding = one(check_issuer(), "revocation endpoint")
        assert finding.level == "warn"
        assert finding.remedy

    @pytest.mark.parametrize(("error", "level"), [("invalid_token", "ok"), ("invalid_client", "warn")])
    def test_revocation_may_answer_invalid_token(self, error, level, check_issuer):
        """Google does so, although RFC 7009 2.2 requires status 200."""
        with serve(Response(f'{{"error": "{error}"}}', status=400)) as server:
            assert one(check_issuer(REVOCATION_URL=server.url), "revocation endpoint").level == level

    def test_revocation_at_github_is_not_tested(self, check_issuer):
        paths = []

        @Request.application
        def github_enterprise(request):
            paths.append(request.path)
            return Response(status=401)

        with serve(github_enterprise) as server:
            finding = one(check_issuer(PROVIDER="github-enterprise", ISSUER=server.url), "revocation endpoint")
        assert (finding.level, "unknown whether it revokes" in finding.text) == ("warn", True)
        assert paths == ["/login/oauth/authorize", "/login/oauth/access_token", "/api/v3/user"]

    def test_site_is_named_with_the_url_that_its_proxy_forwards(self, check_issuer):
        found = check_issuer(PUBLIC_URL="https://login.example.com/auth", SITES="https://wiki.example.org")
        finding = one(found, "site wiki.example.org: shares the sign-in of https://login.example.com/auth")
        assert finding.level == "ok"
        assert "https://wiki.example.org/auth/" in finding.remedy

    def test_site_without_a_path_is_a_warning(self, check_issuer):
        found = check_issuer(PUBLIC_URL="https://login.example.com", SITES="https://wiki.example.org")
        finding = one(found, "site wiki.example.org: its URL has no path")
        assert (finding.level, "https://wiki.example.org/auth" in finding.remedy) == ("warn", True)

    def test_end_session_endpoint_is_tested_if_configured(self, check_issuer, issuer):
        with serve(Response("Signed out.")) as server:
            issuer.metadata["end_session_endpoint"] = f"{server.url}/end"
            found = check_issuer(END_SESSION="yes")
        url = f"{server.url}/end?client_id=demo-client&post_logout_redirect_uri="
        assert one(found, f"end-session endpoint {url}").text.endswith("answers")
        assert problems(found) == []
        assert not [finding for finding in check_issuer() if "end-session" in finding.text]

    def test_end_session_endpoint_with_status_404_is_a_warning(self, check_issuer):
        finding = one(check_issuer(END_SESSION="yes"), "end-session endpoint")
        assert (finding.level, "status 404" in finding.text) == ("warn", True)

    def test_end_session_endpoint_with_status_400_names_the_page_to_register(self, check_issuer, issuer):
        with serve(Response("Unknown redirect URI.", 400)) as server:
            issuer.metadata["end_session_endpoint"] = f"{server.url}/end"
            finding = one(check_issuer(END_SESSION="yes", PUBLIC_URL="https://app.example.com"), "end-session endpoint")
        assert finding.level == "warn"
        assert "register https://app.example.com/signed-out" in finding.remedy

    def test_missing_end_session_endpoint_is_a_warning(self, check_issuer, issuer):
        issuer.metadata["end_session_endpoint"] = None
        finding = one(check_issuer(END_SESSION="yes"), "WSGI_OAUTH_END_SESSION: has no effect")
        assert finding.level == "warn"
        assert "WSGI_OAUTH_END_SESSION" in finding.remedy


class TestSeveralProviders:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Iterator[dict[str, str]]:
        """Two providers, ``local`` and ``work``, each with its own registered redirect URI."""
        uri = "http://localhost:8000/auth/callback"
        provider = LocalProvider(client_secret=SECRET, redirect_uris=[f"{uri}/local"])
        issuer = Issuer(client_secret=SECRET, redirect_uris=[f"{uri}/work"])
        with serve_provider(provider), serve_provider(issuer):
            local = settings_for(provider, tmp_path)
            shared = {"SESSION_STORE": local.pop("SESSION_STORE"), "PUBLIC_URL": f"{local.pop('PUBLIC_URL')}/auth"}
            yield {
                "PROVIDERS": "local work",
                **shared,
                **{f"LOCAL_{name}": value for name, value in local.items()},
                "WORK_PROVIDER": issuer.url,
                "WORK_CLIENT_ID": issuer.client_id,
                "WORK_CLIENT_SECRET": SECRET,
            }

    def test_each_provider_has_a_block_with_its_redirect_uri(self, settings, run):
        settings_of_one = ("CLIENT_ID", "CLIENT_SECRET", "AUTHORIZATION_URL", "TOKEN_URL", "PROFILE_URL", "SCOPE")
        done = run(**dict.fromkeys(settings_of_one, ""), **settings)
        assert (done.returncode, done.stderr) == (0, "")
        shared, *blocks, end = done.stdout.split("\n\n")
        assert "session store" in shared
        assert end == "The application would work; look at the lines marked warn.\n"
        for label, block in zip(("local", "work"), blocks, strict=True):
            lines = [line for line in block.splitlines() if not line.startswith(" ")]
            assert len(lines) > 8
            assert all(re.match(f"ok    {label}: |warn  {label}: refresh tokens: unknown", line) for line in lines)
            assert f"exactly this URL: http://localhost:8000/auth/callback/{label}\n" in f"{block}\n"

    def test_findings_name_the_provider_and_its_variables(self, settings):
        found = find({**settings, "LOCAL_CLIENT_SECRET": "wrong", "WORK_SCOPE": "openid offline_access"})
        assert failure(found).label == "local"
        assert failure(found).text.startswith("token endpoint")
        [warning] = [finding for finding in problems(found) if finding.level == "warn"]
        assert warning.remedy.endswith("WSGI_OAUTH_WORK_SCOPE")

    def test_unreachable_provider_does_not_stop_the_check_of_the_next_one(self, settings):
        found = find({**settings, "PROVIDERS": "work local", "WORK_PROVIDER": f"http://127.0.0.1:{free_port()}"})
        assert failure(found).label == "work"
        assert one(found, "token endpoint").label == "local"


class TestBackchannelLogout:
    def test_url_for_the_registration_is_printed_if_the_issuer_supports_it(self, check_issuer, issuer):
        assert not [each for each in check_issuer() if "back-channel logout" in each.text]
        issuer.metadata["backchannel_logout_supported"] = True
        finding = one(check_issuer(), "back-channel logout")
        if verifies_signatures():
            assert finding.text.endswith(": http://localhost:8000/backchannel-logout")
        else:
            assert "wsgi-oauth[openid]" in finding.remedy


class TestResponseMode:
    """S70"""

    def test_of_a_form_is_described(self, check_issuer: Check) -> None:
        found = check_issuer(RESPONSE_MODE="form_post", PUBLIC_URL="https://login.example.com")
        finding = one(found, "response mode")
        assert finding.level == "ok"
        assert finding.text.endswith("https://login.example.com/callback")

    def test_of_a_form_over_http_does_not_work_everywhere(self, check_issuer: Check) -> None:
        finding = one(check_issuer(RESPONSE_MODE="form_post", PUBLIC_URL="http://localhost:8000"), "response mode")
        assert finding.level == "warn"
        assert "Safari" in finding.text

    def test_that_the_issuer_does_not_support_is_a_warning(self, issuer: Issuer, check_issuer: Check) -> None:
        issuer.metadata["response_modes_supported"] = ["query", "fragment"]
        finding = one(check_issuer(RESPONSE_MODE="form_post", PUBLIC_URL="https://login.example.com"), "response mode")
        assert (finding.level, finding.remedy) == ("warn", "unset WSGI_OAUTH_RESPONSE_MODE")
