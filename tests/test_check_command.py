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
from werkzeug import Response
from werkzeug.utils import redirect

import wsgi_oauth
from wsgi_oauth import checkup, cli
from wsgi_oauth.demo.provider import LocalProvider
from wsgi_oauth.demo.server import serve, serve_provider

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
        assert levels(done) == ["ok"] * 11
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

    def test_a_limit_that_leaves_no_thread_over_is_a_warning(self, check):
        done = check(UPSTREAM_LIMIT="16")
        assert done.returncode == 0
        assert re.search(r"^warn  .* up to 16 .*\n *-> .*WSGI_OAUTH_UPSTREAM_LIMIT", done.stdout, re.MULTILINE)


class TestConfiguration:
    def test_every_missing_variable_is_named(self, check):
        done = check(CLIENT_ID="", CLIENT_SECRET="")
        assert done.returncode == 1
        assert re.findall(r"^FAIL  (\w+) is missing", done.stdout, re.MULTILINE) == [
            "WSGI_OAUTH_CLIENT_ID",
            "WSGI_OAUTH_CLIENT_SECRET",
        ]

    def test_a_misspelt_variable_is_named(self, check):
        assert "CLIENT_SECRET" in failure(check(CLIENT_SECRTE="x"))

    def test_an_unknown_provider_is_named(self, check):
        done = check(PROVIDER="githbu", AUTHORIZATION_URL="", TOKEN_URL="", PROFILE_URL="")
        assert "githbu" in failure(done)

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

    def test_a_certificate_of_nobody_known(self, check, tmp_path):
        trustme = pytest.importorskip("trustme")
        context = tls_context(trustme.CA())
        with serve_provider(LocalProvider(), ssl_context=context) as server:
            line = failure(check(TOKEN_URL=f"{server.url}/token"))
        assert "certificate" in line.lower()

    def test_a_client_it_does_not_know(self, check):
        line = failure(check(CLIENT_SECRET="not-the-secret"))
        assert "token endpoint" in line
        assert "invalid_client" in line

    @pytest.mark.parametrize("fault", ["token.html_200", "token.503", "token.redirect_307"])
    def test_a_token_endpoint_that_is_none(self, check, provider, fault):
        provider.faults.add(fault)
        assert "token endpoint" in failure(check())

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

    def test_a_redirect_uri_that_is_not_registered_is_a_warning(self, check):
        done = check(PUBLIC_URL="https://app.example.com")
        assert done.returncode == 0
        assert re.search(r"^warn  authorization endpoint .* status 400", done.stdout, re.MULTILINE)

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
        monkeypatch.setattr(checkup, "time", wrong)
        *_, clock = checkup.findings(settings)
        assert clock.level == "warn"
        assert word in clock.what


def tls_context(ca):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return context


class TestUsage:
    @pytest.mark.parametrize("arguments", [[], ["nonsense"], ["check", "--nonsense"], ["demo", "x"]])
    def test_a_usage_error_is_2(self, arguments):
        command = [sys.executable, "-m", "wsgi_oauth", *arguments]
        done = subprocess.run(command, env=clean_environ(), capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: wsgi-oauth")

    def test_the_version(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["--version"])
        assert capsys.readouterr().out == f"wsgi-oauth {wsgi_oauth.__version__}\n"
