"""``wsgi-oauth check``: a process that says whether a configuration would work, and what to do."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import parameters, raw_server
from openid import Issuer
from werkzeug import Request, Response
from werkzeug.utils import redirect

import wsgi_oauth
from wsgi_oauth.cli import check as check_command
from wsgi_oauth.cli import main
from wsgi_oauth.cli.check import Finding
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve, serve_provider
from wsgi_oauth.oauth.presets import PRESETS

Run = Callable[..., subprocess.CompletedProcess[str]]
SECRET = "correct horse/battery+staple"


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    """A provider that answers, and knows the client by an unusual secret."""
    provider = LocalProvider(client_secret=SECRET)
    with serve_provider(provider):
        yield provider


@pytest.fixture
def settings(provider: LocalProvider, tmp_path: Path) -> dict[str, str]:
    """A configuration that would work."""
    return {
        "WSGI_OAUTH_CLIENT_ID": provider.client_id,
        "WSGI_OAUTH_CLIENT_SECRET": SECRET,
        "WSGI_OAUTH_AUTHORIZATION_URL": provider.authorization_url,
        "WSGI_OAUTH_TOKEN_URL": provider.token_url,
        "WSGI_OAUTH_PROFILE_URL": provider.profile_url,
        "WSGI_OAUTH_SCOPE": "profile",
        "WSGI_OAUTH_SESSION_STORE": f"file:{tmp_path}/sessions",
    }


def clean_environ() -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("WSGI_OAUTH_")}
    return inherited | {"PYTHONPATH": str(Path(wsgi_oauth.__file__).parents[1]), "NO_PROXY": "*"}


@pytest.fixture
def check(settings: dict[str, str], tmp_path: Path) -> Run:
    """Run the command with these settings, some of them changed: ``check(CLIENT_ID="other")``."""

    def check(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        changed = {f"WSGI_OAUTH_{name}": value for name, value in changes.items()}
        return subprocess.run(
            [sys.executable, "-m", "wsgi_oauth", "check", *arguments],
            cwd=tmp_path,
            env=clean_environ() | settings | changed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return check


def below(what: str, done: subprocess.CompletedProcess[str]) -> str:
    """The advice that follows the finding about *what*."""
    [advice] = re.findall(rf"^\w+ +{what} .*\n +-> (.*)$", done.stdout, re.MULTILINE)
    return str(advice)


def levels(done: subprocess.CompletedProcess[str]) -> list[str]:
    return re.findall(r"^(ok|warn|FAIL) ", done.stdout, re.MULTILINE)


def failure(done: subprocess.CompletedProcess[str]) -> str:
    """The one finding that fails."""
    assert (done.returncode, done.stderr) == (1, "")
    [line] = re.findall(r"^FAIL  (.*)$", done.stdout, re.MULTILINE)
    return str(line)


class TestAWorkingConfiguration:
    def test_it_exits_0_with_a_line_for_each_finding(self, check):
        done = check(PUBLIC_URL="http://localhost:8000/auth")
        assert (done.returncode, done.stderr) == (0, "")
        assert levels(done) == ["ok"] * 13
        assert done.stdout.endswith("The application would work.\n")

    def test_it_prints_the_redirect_uri_to_register(self, check):
        done = check(PUBLIC_URL="https://app.example.com/auth/")
        assert "redirect URI" in done.stdout
        assert "https://app.example.com/auth/callback\n" in done.stdout

    def test_without_a_public_url_it_warns_and_still_exits_0(self, check):
        done = check()
        assert done.returncode == 0
        assert levels(done).count("warn") == 1
        assert "WSGI_OAUTH_PUBLIC_URL" in done.stdout
        assert done.stdout.endswith("The application would work; look at the lines marked warn.\n")

    def test_the_secret_is_tried_and_never_printed(self, check, provider):
        done = check()
        assert "accepts the client id and secret" in done.stdout
        assert provider.count("token") == 1
        assert "staple" not in done.stdout + done.stderr

    def test_it_leaves_no_session_and_no_grant_behind(self, check, tmp_path):
        check()
        assert list((tmp_path / "sessions").iterdir()) == []

    def test_a_store_in_memory_is_a_warning(self, check):
        done = check(SESSION_STORE="memory:")
        assert done.returncode == 0
        assert re.search(r"^warn  session store memory:", done.stdout, re.MULTILINE)

    @pytest.mark.parametrize(("seal", "said"), [("yes", "sealed"), ("no", "not sealed")])
    def test_it_says_whether_sessions_are_sealed(self, check, seal, said):
        done = check(SESSION_SEAL=seal)
        assert done.returncode == 0
        assert re.search(rf"^ok    sessions are {said}: ", done.stdout, re.MULTILINE)

    def test_a_limit_that_leaves_no_thread_over_is_a_warning(self, check):
        done = check(UPSTREAM_LIMIT="16")
        assert done.returncode == 0
        assert re.search(r"^warn  .* up to 16 .*\n *-> .*WSGI_OAUTH_UPSTREAM_LIMIT", done.stdout, re.MULTILINE)


class TestConfiguration:
    def test_every_missing_variable_is_named(self, check):
        done = check(CLIENT_ID="", CLIENT_SECRET="")
        assert done.returncode == 1
        assert re.findall(r"^FAIL  (\w+): missing", done.stdout, re.MULTILINE) == [
            "WSGI_OAUTH_CLIENT_ID",
            "WSGI_OAUTH_CLIENT_SECRET",
        ]

    def test_a_misspelt_variable_is_named(self, check):
        assert "CLIENT_SECRET" in failure(check(CLIENT_SECRTE="x"))

    def test_an_unknown_provider_is_named(self, check):
        done = check(PROVIDER="githbu", AUTHORIZATION_URL="", TOKEN_URL="", PROFILE_URL="")
        assert "githbu" in failure(done)

    def test_a_rule_that_cannot_work_fails_here_as_it_would_at_the_start(self, check):
        assert "WSGI_OAUTH_ALLOW" in failure(check(ALLOW="user:octocat"))

    def test_a_ca_bundle_that_is_none(self, check, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", __file__)
        assert "CA bundle" in failure(check())

    def test_plain_http_to_another_machine_is_refused(self, check):
        line = failure(check(TOKEN_URL="http://login.example.com/token"))
        assert "WSGI_OAUTH_TOKEN_URL" in line
        assert "https" in line


class TestStore:
    def test_a_folder_that_cannot_be_made(self, check, tmp_path):
        (tmp_path / "file").touch()  # not even root can make a folder in it
        line = failure(check(SESSION_STORE=f"file:{tmp_path}/file/sessions"))
        assert line.startswith(f"session store file:{tmp_path}/file/sessions: ")

    def test_a_folder_that_others_may_write_to(self, check, tmp_path):
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared").chmod(0o777)
        assert "session store" in failure(check(SESSION_STORE=f"file:{tmp_path}/shared"))

    def test_a_folder_whose_name_no_terminal_can_show(self, check, tmp_path, monkeypatch):
        monkeypatch.setenv("PYTHONIOENCODING", "ascii")
        done = check(SESSION_STORE=f"file:{tmp_path}/s\xe9ances")
        assert (done.returncode, done.stderr) == (0, "")
        assert "s\\xe9ances: a session can be stored" in done.stdout

    def test_sealing_without_its_package(self, check, settings, tmp_path):
        (tmp_path / "cryptography.py").write_text("raise ImportError")
        settings["PYTHONPATH"] = f"{tmp_path}:{clean_environ()['PYTHONPATH']}"
        assert "pip install 'wsgi-oauth[sealed]'" in failure(check(SESSION_SEAL="yes"))
        assert check().returncode == 0


class TestProvider:
    def test_one_that_is_not_there(self, check):
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}/token"
        done = check(TOKEN_URL=url)
        assert f"token endpoint {url}: " in failure(done)
        assert "->" in done.stdout

    def test_one_that_does_not_answer_is_given_up_in_time(self, check, provider):
        provider.faults.add("token.slow")
        assert "token endpoint" in failure(check(UPSTREAM_TIMEOUT="0.5"))

    def test_a_client_it_does_not_know(self, check):
        line = failure(check(CLIENT_SECRET="not-the-secret"))
        assert "token endpoint" in line
        assert "invalid_client" in line

    @pytest.mark.parametrize("fault", ["token.html_200", "token.503", "token.redirect_307"])
    def test_a_token_endpoint_that_is_none(self, check, provider, fault):
        provider.faults.add(fault)
        assert "token endpoint" in failure(check())

    @pytest.mark.parametrize(
        ("fault", "advice"), [("token.html_200", "manual"), ("token.redirect_307", "manual"), ("token.slow", "TIMEOUT")]
    )
    def test_what_to_do_is_said_below(self, check, provider, fault, advice):
        provider.faults.add(fault)
        assert advice in below("token endpoint", check(UPSTREAM_TIMEOUT="0.5"))

    def test_a_name_that_nobody_knows(self, check):
        assert "host's name" in below("token endpoint", check(TOKEN_URL="https://nowhere.invalid/token"))

    def test_nobody_listens_there(self, check):
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}/token"
        assert "host and port" in below("token endpoint", check(TOKEN_URL=url))

    def test_the_port_speaks_no_https(self, check, provider):
        url = provider.token_url.replace("http:", "https:")
        assert "speak https" in below("token endpoint", check(TOKEN_URL=url))

    def test_a_certificate_of_nobody_known(self, check, certificates):
        with serve_provider(LocalProvider(), ssl_context=certificates.context()) as server:
            done = check(TOKEN_URL=f"{server.url}/token")
        assert "certificate" in failure(done)
        assert "REQUESTS_CA_BUNDLE" in below("token endpoint", done)

    def test_the_connection_breaks_off(self, check):
        with raw_server(lambda connection: None) as url:
            assert "HTTPS_PROXY" in below("token endpoint", check(TOKEN_URL=f"{url}/token"))

    def test_an_authorization_endpoint_in_trouble(self, check):
        with serve(Response(status=503)) as server:
            assert "authorization endpoint" in failure(check(AUTHORIZATION_URL=f"{server.url}/authorize"))

    def test_a_token_for_a_code_that_was_never_issued(self, check):
        token = Response('{"access_token": "for-anybody", "token_type": "bearer"}')
        with serve(token) as server:
            done = check(TOKEN_URL=f"{server.url}/token")
        assert "never issued" in failure(done)
        assert "for-anybody" not in done.stdout

    @pytest.mark.parametrize("fault", ["token.empty_400", "token.invalid_request"])
    def test_a_refusal_that_may_be_about_the_made_up_code_is_a_warning(self, check, provider, fault):
        provider.faults.add(fault)
        done = check()
        assert done.returncode == 0
        assert re.search(r"^warn  token endpoint", done.stdout, re.MULTILINE)

    def test_a_profile_endpoint_in_trouble(self, check, provider):
        provider.faults.add("profile.503")
        assert "profile endpoint" in failure(check())

    def test_a_profile_that_anybody_may_read_is_a_warning(self, check, provider):
        done = check(PROFILE_URL=f"{provider.url}/")
        assert done.returncode == 0
        assert re.search(r"^warn  profile endpoint", done.stdout, re.MULTILINE)

    def test_a_redirect_uri_that_is_not_registered(self, check):
        line = failure(check(PUBLIC_URL="https://app.example.com"))
        assert re.search("authorization endpoint .* status 400", line)

    def test_a_redirect_uri_that_is_only_guessed_is_a_warning(self, check):
        with serve_provider(LocalProvider(redirect_uris=["https://app.example.com/callback"])) as server:
            done = check(AUTHORIZATION_URL=f"{server.url}/authorize", PUBLIC_URL="")
        assert done.returncode == 0
        assert re.search(r"^warn  authorization endpoint .* status 400", done.stdout, re.MULTILINE)

    @pytest.mark.parametrize("endpoint", ["AUTHORIZATION", "PROFILE"])
    def test_an_endpoint_that_is_not_there(self, check, provider, endpoint):
        line = failure(check(**{f"{endpoint}_URL": f"{provider.url}/nowhere"}))
        assert re.search(f"{endpoint.lower()} endpoint .* status 404", line)

    def test_a_scope_that_it_does_not_know(self, check):
        line = failure(check(SCOPE="everything"))
        assert "authorization endpoint" in line
        assert "invalid_scope" in line

    def test_a_profile_endpoint_that_has_moved_is_a_warning(self, check):
        moved = redirect("https://elsewhere.example.com/")
        with serve(moved) as server:
            done = check(PROFILE_URL=f"{server.url}/user")
        assert re.search(r"^warn  profile endpoint .* status 302", done.stdout, re.MULTILINE)

    @pytest.mark.parametrize(("ahead", "word"), [(3600, "ahead of"), (-3600, "behind")])
    def test_a_clock_that_is_wrong_is_a_warning(self, settings, monkeypatch, ahead, word):
        wrong = SimpleNamespace(time=lambda: time.time() + ahead)
        monkeypatch.setattr(check_command, "time", wrong)
        *_, clock = check_command.findings(settings)
        assert clock.level == "warn"
        assert word in clock.what


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer(client_secret=SECRET)
    with serve_provider(issuer):
        yield issuer


@pytest.fixture
def look(issuer: Issuer, tmp_path: Path, small_ca_bundle: None) -> Callable[..., list[Finding]]:
    """What there is to say about an application that knows of the issuer its URL alone, and what else is set."""

    def look(**changes: str) -> list[Finding]:
        variables = {
            "PROVIDER": issuer.url,
            "CLIENT_ID": issuer.client_id,
            "CLIENT_SECRET": SECRET,
            "PUBLIC_URL": "http://localhost:8000",
            "SESSION_STORE": f"file:{tmp_path}/sessions",
            **changes,
        }
        found = list(check_command.findings({f"WSGI_OAUTH_{name}": value for name, value in variables.items()}))
        assert "staple" not in "".join(map(str, found))
        return found

    return look


@pytest.fixture
def discovered(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Forget where a provider of the catalogue has its endpoints: a test asks no real one."""

    def discovered(name: str) -> None:
        nowhere = dict.fromkeys(("authorization_url", "token_url", "profile_url", "revocation_url"), "")
        monkeypatch.setitem(PRESETS, name, PRESETS[name]._replace(**nowhere))

    return discovered


def one(found: list[Finding], beginning: str) -> Finding:
    """The one finding that begins like this."""
    [finding] = [each for each in found if each.what.startswith(beginning)]
    return finding


def worse_than_ok(found: list[Finding]) -> list[Finding]:
    return [each for each in found if each.level != "ok"]


class TestIssuer:
    """OpenID Connect Discovery 1.0."""

    def test_its_url_is_enough(self, look, issuer):
        found = look()
        assert worse_than_ok(found) == []
        assert one(found, f"issuer {issuer.url}: ").what.endswith("agrees with the configuration")
        assert one(found, "scope: ").what == "scope: asks for openid profile email"
        assert one(found, f"token endpoint {issuer.token_url}: ")

    def test_it_is_asked_as_a_sign_in_would_ask(self, look, issuer):
        look()
        [asked] = [parameters(each.url) for each in issuer.exchanges if each.endpoint == "authorize"]
        assert (asked["redirect_uri"], asked["scope"]) == ("http://localhost:8000/callback", "openid profile email")
        assert len(asked["nonce"]) == len(asked["code_challenge"]) == 43

    def test_one_that_is_not_there_is_the_last_that_is_said(self, look):
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
        *_, last = found = look(PROVIDER=url)
        assert worse_than_ok(found) == [last]
        assert (last.level, last.what.startswith(f"issuer {url}: ")) == ("FAIL", True)
        assert "host and port" in last.advice

    def test_a_slash_too_much(self, look, issuer):
        *_, last = look(PROVIDER=f"{issuer.url}/")
        assert last.level == "FAIL"
        assert f"the issuer '{issuer.url}', and '{issuer.url}/' is configured" in last.what
        assert "set WSGI_OAUTH_PROVIDER to exactly what the issuer calls itself" in last.advice

    def test_of_a_provider_with_a_name_the_issuer_is_another_variable(self, look, issuer):
        *_, last = look(PROVIDER="zitadel", ISSUER=f"{issuer.url}/")
        assert "set WSGI_OAUTH_ISSUER to exactly" in last.advice

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (Response("<p>Welcome", mimetype="text/html"), "not JSON"),
            (Response(status=404), "status 404"),
            (redirect("https://elsewhere.example.com/"), "status 302"),
        ],
        ids=["a page", "nothing", "a redirect"],
    )
    def test_something_else_than_a_document(self, answer, said, look, issuer):
        issuer.discover = lambda: answer
        *_, last = look()
        assert (last.level, said in last.what) == ("FAIL", True)
        assert "with its realm or tenant" in last.advice

    def test_an_endpoint_that_it_lacks(self, look, issuer):
        issuer.metadata["token_endpoint"] = None
        *_, last = look()
        assert (last.level, "has no token_endpoint" in last.what) == ("FAIL", True)
        assert "WSGI_OAUTH_TOKEN_URL" in last.advice

    @pytest.mark.parametrize(
        ("setting", "member"),
        [
            ("TOKEN_URL", "token_endpoint"),
            ("REVOCATION_URL", "revocation_endpoint"),
            ("END_SESSION", "end_session_endpoint"),
        ],
    )
    def test_a_configured_endpoint_that_is_not_its_own_is_a_warning_with_both(self, setting, member, look, issuer):
        found = look(**{setting: f"{issuer.url}/elsewhere"})
        finding = one(found, f"issuer {issuer.url}: says that its {member} is '{issuer.url}/")
        assert finding.level == "warn"
        assert finding.what.endswith(f", and '{issuer.url}/elsewhere' is used")
        assert finding.advice == f"unset WSGI_OAUTH_{setting}, unless this is meant"

    def test_an_endpoint_of_the_catalogue_that_is_not_its_own_is_a_warning_with_both(self, look, issuer):
        found = look(PROVIDER="keycloak", ISSUER=issuer.url)
        finding = one(found, f"issuer {issuer.url}: says that its token_endpoint is '{issuer.token_url}'")
        assert finding.level == "warn"
        assert finding.what.endswith(f", and '{issuer.url}/protocol/openid-connect/token' is used")
        assert finding.advice == "set WSGI_OAUTH_TOKEN_URL to what the issuer says"

    @pytest.mark.parametrize(
        ("offered", "lacking", "advice"),
        [
            ({"scopes_supported": ["openid", "email"]}, "profile groups", "WSGI_OAUTH_SCOPE"),
            ({"code_challenge_methods_supported": ["plain"]}, "S256", "PKCE"),
            ({"token_endpoint_auth_methods_supported": ["none", []]}, "client_secret_basic", "WSGI_OAUTH_CLIENT_AUTH"),
            ({"response_types_supported": ["id_token"]}, "code", "authorization code flow"),
        ],
        ids=["scopes", "PKCE", "client authentication", "response types"],
    )
    def test_what_it_does_not_offer_is_a_warning(self, offered, lacking, advice, look, issuer):
        issuer.metadata.update({"scopes_supported": None, **offered})
        found = look(SCOPE="openid email profile groups", CLIENT_AUTH="basic-raw")
        finding = one(found, f"issuer {issuer.url}: its {next(iter(offered))} lacks")
        assert (finding.level, finding.what.endswith(f"lacks {lacking}")) == ("warn", True)
        assert advice in finding.advice

    def test_pkce_is_not_missed_where_it_is_not_used(self, discovered, look, issuer):
        discovered("slack")
        issuer.metadata["code_challenge_methods_supported"] = ["plain"]
        assert one(look(PROVIDER="slack", ISSUER=issuer.url), "issuer ").what.endswith("agrees with the configuration")

    @pytest.mark.parametrize("value", [None, "all of them", {}])
    def test_a_list_that_is_none_says_nothing(self, value, look, issuer):
        lists = ("scopes", "code_challenge_methods", "response_types", "token_endpoint_auth_methods", "grant_types")
        issuer.metadata.update({f"{name}_supported": value for name in lists})
        assert worse_than_ok(look()) == []

    def test_a_token_for_a_code_that_was_never_issued(self, look):
        with serve(Response('{"access_token": "for-anybody", "token_type": "bearer"}')) as server:
            finding = one(look(TOKEN_URL=f"{server.url}/token"), "token endpoint")
        assert (finding.level, "never issued" in finding.what) == ("FAIL", True)

    def test_one_without_a_user_document_is_not_asked_for_it(self, look, issuer):
        issuer.metadata["userinfo_endpoint"] = None
        found = look()
        assert worse_than_ok(found) == []
        assert not [each for each in found if "profile endpoint" in each.what]


class TestRefresh:
    def test_an_issuer_that_gives_none_is_a_warning(self, look, issuer):
        issuer.metadata["grant_types_supported"] = ["authorization_code"]
        finding = one(look(), "refresh: ")
        assert (finding.level, "lacks refresh_token" in finding.what) == ("warn", True)
        assert "sign in again" in finding.advice

    def test_it_is_asked_for_with_offline_access(self, look, issuer):
        issuer.metadata["scopes_supported"] = ["openid", "profile", "email", "offline_access"]
        assert one(look(), "refresh: ") == Finding("ok", "refresh: each sign-in asks for a refresh token")

    def test_it_is_asked_for_in_the_providers_own_way(self, discovered, look, issuer):
        discovered("google")
        found = look(PROVIDER="google", ISSUER=issuer.url)
        assert one(found, "refresh: ").what == "refresh: each sign-in asks for a refresh token"

    def test_it_could_be_asked_for(self, look, issuer):
        issuer.metadata["scopes_supported"] = ["openid", "offline_access"]
        issuer.metadata["grant_types_supported"] = ["authorization_code", "refresh_token"]
        finding = one(look(SCOPE="openid"), "refresh: ")
        assert (finding.level, "gives refresh tokens" in finding.what) == ("ok", True)
        assert "offline_access" in finding.advice
        assert "WSGI_OAUTH_SCOPE" in finding.advice

    def test_it_is_not_known(self, look):
        finding = one(look(), "refresh: ")
        assert (finding.level, "not known" in finding.what) == ("ok", True)
        assert "offline_access" not in finding.advice


class TestSignOut:
    """It works here whatever the provider does, so nothing of this keeps the application from working."""

    def test_a_made_up_token_is_given_back(self, look, issuer):
        found = look()
        assert one(found, f"revocation endpoint {issuer.revocation_url}: ").what.endswith("takes tokens back")
        assert issuer.count("revoke") == 1

    def test_a_provider_without_revocation(self, look, issuer):
        issuer.metadata["revocation_endpoint"] = None
        finding = one(look(), "revocation: none")
        assert finding.level == "ok"
        assert "WSGI_OAUTH_REVOCATION_URL" in finding.advice

    def test_one_of_which_only_the_operator_knows_is_none_to_disagree_about(self, look, issuer):
        issuer.metadata["revocation_endpoint"] = None
        assert worse_than_ok(look(REVOCATION_URL=issuer.revocation_url)) == []

    @pytest.mark.parametrize("fault", ["revoke.401", "revoke.404", "revoke.503", "revoke.hang_up"])
    def test_a_revocation_that_does_not_work_is_a_warning(self, fault, look, issuer):
        issuer.faults.add(fault)
        finding = one(look(), "revocation endpoint")
        assert finding.level == "warn"
        assert finding.advice

    @pytest.mark.parametrize(("error", "level"), [("invalid_token", "ok"), ("invalid_client", "warn")])
    def test_one_that_says_that_the_made_up_token_is_none_works(self, error, level, look):
        """As Google says it; RFC 7009 2.2 would have it say 200."""
        with serve(Response(f'{{"error": "{error}"}}', status=400)) as server:
            assert one(look(REVOCATION_URL=server.url), "revocation endpoint").level == level

    def test_githubs_own_way_is_not_tried(self, look):
        seen = []

        @Request.application
        def server_of_ones_own(request):
            seen.append(request.path)
            return Response(status=401)

        with serve(server_of_ones_own) as server:
            finding = one(look(PROVIDER="github-enterprise", ISSUER=server.url), "revocation endpoint")
        assert (finding.level, "not asked" in finding.what) == ("ok", True)
        assert seen == ["/login/oauth/authorize", "/login/oauth/access_token", "/api/v3/user"]

    def test_where_people_sign_out_of_the_provider_is_asked(self, look, issuer):
        with serve(Response("Signed out.")) as server:
            issuer.metadata["end_session_endpoint"] = f"{server.url}/end"
            found = look(END_SESSION="yes")
        assert one(found, f"end-session endpoint {server.url}/end?client_id=demo-client: ").what.endswith("answers")
        assert worse_than_ok(found) == []

    def test_an_end_session_endpoint_that_is_none_is_a_warning(self, look):
        finding = one(look(END_SESSION="yes"), "end-session endpoint")
        assert (finding.level, "status 404" in finding.what) == ("warn", True)

    def test_a_provider_that_has_none_is_a_warning(self, look, issuer):
        issuer.metadata["end_session_endpoint"] = None
        finding = one(look(END_SESSION="yes"), "end-session: ")
        assert (finding.level, "WSGI_OAUTH_END_SESSION" in finding.what) == ("warn", True)
        assert "WSGI_OAUTH_END_SESSION" in finding.advice

    def test_nobody_is_asked_about_it_unless_it_is_configured(self, look):
        assert not [each for each in look() if "end-session" in each.what]


class TestCatalogue:
    def test_an_entry_leads_to_what_is_odd_about_it_and_to_where_it_is_registered(self, look, issuer):
        found = look(PROVIDER="gitlab-self-managed", ISSUER=issuer.url)
        assert one(found, "provider ").advice == "what is odd about it: docs/providers.md#gitlab-self-managed"
        assert one(found, "redirect URI").advice == f"where: {issuer.url}/-/user_settings/applications"

    @pytest.mark.parametrize("name", PRESETS)
    def test_that_place_is_there(self, name):
        page = Path(wsgi_oauth.__file__).parents[1] / "docs" / "providers.md"
        assert f'<a id="{name}">' in page.read_text()


class TestPublicClient:
    def test_it_has_no_secret_to_be_accepted(self, look):
        public = LocalProvider(client_secret=None, scope="openid profile email")
        with serve_provider(public):
            urls = {
                "AUTHORIZATION_URL": public.authorization_url,
                "TOKEN_URL": public.token_url,
                "PROFILE_URL": public.profile_url,
            }
            found = look(**urls, CLIENT_SECRET="", CLIENT_AUTH="none")
        assert one(found, "token endpoint").what.endswith("accepts the client id")


class TestSeveralProviders:
    @pytest.fixture
    def several(self, check: Run) -> Iterator[Run]:
        """Two providers, ``local`` and ``work``, and each knows nothing but its own redirect URI."""
        uri = "http://localhost:8000/auth/callback"
        provider = LocalProvider(client_secret=SECRET, redirect_uris=[f"{uri}/local"])
        issuer = Issuer(client_secret=SECRET, redirect_uris=[f"{uri}/work"])
        with serve_provider(provider), serve_provider(issuer):
            yield self.with_both(check, provider, issuer)

    def with_both(self, check: Run, provider: LocalProvider, issuer: Issuer) -> Run:
        own = {
            "PROVIDERS": "local work",
            "LOCAL_CLIENT_ID": provider.client_id,
            "LOCAL_CLIENT_SECRET": SECRET,
            "LOCAL_AUTHORIZATION_URL": provider.authorization_url,
            "LOCAL_TOKEN_URL": provider.token_url,
            "LOCAL_PROFILE_URL": provider.profile_url,
            "WORK_PROVIDER": issuer.url,
            "WORK_CLIENT_ID": issuer.client_id,
            "WORK_CLIENT_SECRET": SECRET,
        }
        of_one = ("CLIENT_ID", "CLIENT_SECRET", "AUTHORIZATION_URL", "TOKEN_URL", "PROFILE_URL", "SCOPE")
        shared = dict.fromkeys(of_one, "") | {"PUBLIC_URL": "http://localhost:8000/auth"}
        return lambda **changes: check(**shared, **{**own, **changes})

    def test_each_has_its_block_and_its_own_redirect_uri(self, several):
        done = several()
        assert (done.returncode, done.stderr) == (0, "")
        shared, *blocks, end = done.stdout.split("\n\n")
        assert "session store" in shared
        assert end == "The application would work.\n"
        for label, block in zip(("local", "work"), blocks, strict=True):
            findings = [line for line in block.splitlines() if not line.startswith(" ")]
            assert len(findings) > 8
            assert all(line.startswith(f"ok    {label}: ") for line in findings)
            assert f"exactly like this: http://localhost:8000/auth/callback/{label}\n" in f"{block}\n"
        assert "staple" not in done.stdout

    def test_the_trouble_of_one_is_said_of_that_one_and_with_its_own_variables(self, several):
        done = several(LOCAL_CLIENT_SECRET="not-the-secret", WORK_SCOPE="openid offline_access")
        assert failure(done).startswith("local: token endpoint")
        assert "change WSGI_OAUTH_WORK_SCOPE\n" in done.stdout

    def test_one_that_is_not_there_keeps_the_next_from_nothing(self, several):
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = several(PROVIDERS="work local", WORK_PROVIDER=url)
        assert failure(done).startswith(f"work: issuer {url}: ")
        assert "ok    local: token endpoint" in done.stdout


class TestUsage:
    @pytest.mark.parametrize("arguments", [[], ["nonsense"], ["check", "--nonsense"], ["demo", "x"]])
    def test_a_usage_error_is_2(self, arguments):
        command = [sys.executable, "-m", "wsgi_oauth", *arguments]
        done = subprocess.run(command, env=clean_environ(), capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: wsgi-oauth")

    def test_the_version(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            main.main(["--version"])
        assert capsys.readouterr().out == f"wsgi-oauth {wsgi_oauth.__version__}\n"
