"""The command ``wsgi-oauth demo``, run as a process with real servers."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest
from conftest import free_port

import wsgi_oauth
from wsgi_oauth.cli.main import main
from wsgi_oauth.demo import launcher
from wsgi_oauth.demo.launcher import DemoError, Options, start_demo
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.masking import mask, mask_json
from wsgi_oauth.demo.printer import Printer
from wsgi_oauth.demo.server import build_url
from wsgi_oauth.demo.walk import WalkFailed, walk

COMMAND = [sys.executable, "-m", "wsgi_oauth", "demo"]
FREE_PORTS = ["--port", "0", "--provider-port", "0"]
TIMEOUT = 300  # seconds until a test gives up on a process
TO_APPLICATION = [("browser", "application"), ("application", "browser")]
TO_PROVIDER = [("browser", "provider"), ("provider", "browser")]
BACK_CHANNEL = [("application", "provider"), ("provider", "application")]


METADATA = re.compile("^(Discovery|Keys)")


def during(request_and_response: list[tuple[str, str]], *others: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the parties of a request, of all messages before its response, and of the response."""
    request, response = request_and_response
    return [request, *chain(*others), response]


WALK = [
    *TO_APPLICATION,
    *TO_PROVIDER,  # the sign-in page
    *TO_PROVIDER,  # the choice of the user
    *TO_PROVIDER,  # the consent page
    *TO_PROVIDER,  # the decision
    *during(TO_APPLICATION, BACK_CHANNEL),  # the callback
    *during(TO_APPLICATION, BACK_CHANNEL),  # the profile
    *during(TO_APPLICATION, BACK_CHANNEL, BACK_CHANNEL, BACK_CHANNEL),  # the refresh
    *during(TO_APPLICATION, BACK_CHANNEL, BACK_CHANNEL),  # the sign-out, with two revocations
    *TO_APPLICATION,  # the page after the sign-out
]


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the command, with a temporary folder of its own."""
    return os.environ | {
        "TMPDIR": str(tmp_path_factory.mktemp("tmp")),
        "PYTHONPATH": str(Path(wsgi_oauth.__file__).parents[1]),
        "PYTHONUTF8": "1",
    }


class DemoProcess:
    """A running demo in a process group of its own, as in a terminal."""

    def __init__(self, arguments: list[str], environ: dict[str, str], cwd: Path) -> None:
        self.process = subprocess.Popen(
            arguments,
            cwd=cwd,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self.welcome = ""

    def read_welcome(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.welcome += line
            if "Ctrl-C" in line:
                return
        raise AssertionError(f"the demo did not start: {self.process.communicate()}")

    @property
    def url(self) -> str:
        """The URL of the application."""
        return re.findall(r"The application +(http://127\.0\.0\.1:\d+/)", self.welcome)[0]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def finish(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, out, err

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=TIMEOUT)


@pytest.fixture(scope="module")
def finished_walk(
    environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> subprocess.CompletedProcess[str]:
    """One walk, shared by the tests that only read its output.

    Its environment has real credentials, gunicorn's own variable, and a proxy for all requests, and the current folder
    has a configuration of gunicorn. The walk would fail if the demo used any of them.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "gunicorn.conf.py").write_text("raise SystemExit('read')")
    settings = {
        "WSGI_OAUTH_CLIENT_SECRET": "a-real-secret",
        "WSGI_OAUTH_PUBLIC_URL": "https://login.example.com",
        "WSGI_OAUTH_TYPO": "1",
        "GUNICORN_CMD_ARGS": "--bind nowhere:0 --workers 1",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
        "no_proxy": "example.com",
    }
    return run([*COMMAND, "--walk", *FREE_PORTS], folder, environ | settings)


@pytest.fixture(scope="module")
def revealing_walk(
    environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> subprocess.CompletedProcess[str]:
    """A walk with the other options, in another encoding."""
    command = [*COMMAND, "--walk", "--reveal", *FREE_PORTS, "--workers", "2", "--worker-class", "sync"]
    settings = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    return run(command, tmp_path_factory.mktemp("elsewhere"), environ | settings)


def run(command: list[str], folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )


@pytest.fixture(scope="module")
def running() -> Iterator[launcher.Demo]:
    """A demo in this process."""
    with start_demo(Options(port=0, provider_port=0, walk=True)) as running:
        yield running


class TestWalk:
    def test_it_ignores_all_settings_of_its_environment(self, finished_walk):
        assert (finished_walk.returncode, finished_walk.stderr) == (0, "")

    def test_its_output_ends_with_the_profile_as_json(self, finished_walk):
        profile = json.loads(finished_walk.stdout[finished_walk.stdout.rindex("\n{") :])
        assert profile["login"] == "octocat"

    def test_the_steps_have_the_titles_of_the_tutorial(self, finished_walk):
        titles = re.findall(r"^(.+)\n=+$", finished_walk.stdout, re.MULTILINE)
        assert titles == [
            "Before the first sign-in: registration",
            "Step 1: User Authorization",
            "Step 2: User authorization, this happens on the provider",
            "Step 3: Retrieving an access token",
            "Fetching a protected resource using an OAuth 2 token",
            "Refreshing the token",
            "Signing out",
            "What to read next",
        ]

    def test_it_prints_every_message_in_order(self, finished_walk):
        messages = re.findall(r"^ *(\d+)  (\w+) → (\w+)\n    (.*)", finished_walk.stdout, re.MULTILINE)
        assert [int(number) for number, *_ in messages] == list(range(1, len(messages) + 1))
        # When the provider's metadata and keys are read depends on the installed packages.
        parties = [(sender, receiver) for _, sender, receiver, title in messages if not METADATA.search(title)]
        assert parties == WALK

    def test_it_names_each_message(self, finished_walk):
        untitled = re.findall(r"^ *\d+  \w+ → \w+\n    (?![A-Z][a-z]).*", finished_walk.stdout, re.MULTILINE)
        assert untitled == []

    @pytest.mark.parametrize(
        "name", ["the resource owner", "the user agent", "the client", "the authorization server", "resource server"]
    )
    def test_it_introduces_the_parties_with_their_names_in_the_standard(self, finished_walk, name):
        assert name in finished_walk.stdout.partition("Below is every HTTP message")[0]

    def test_it_begins_with_the_registration_of_the_client(self, finished_walk):
        registration = finished_walk.stdout.partition("Step 1:")[0]
        assert re.search(r"redirect_uri +http://127\.0\.0\.1:\d+/callback\n", registration)
        assert re.search(r"client_id +demo-client\n", registration)
        assert re.search(r"client_secret +… \(11 characters\)\n", registration)

    @pytest.mark.parametrize(
        ("question", "answer"),
        [
            ("Why a code, and not the token at once?", "useless alone"),
            ("Why state and PKCE, if the application has a secret?", "Did this browser start this sign-in?"),
            ("Why state and PKCE, if the application has a secret?", "Was this code issued for this sign-in?"),
            ("Why an ID token, if there is an access token?", "a signed statement for this application"),
        ],
    )
    def test_it_answers_the_questions_of_beginners(self, finished_walk, question, answer):
        assert answer in " ".join(finished_walk.stdout.partition(question)[2].split())

    def test_it_explains_the_claims_of_the_id_token(self, finished_walk):
        id_token = finished_walk.stdout.partition("Why an ID token")[2]
        assert re.search(r"^      aud +demo-client\n {29}the audience", id_token, re.MULTILINE)

    def test_it_refreshes_the_token_after_a_rejection(self, finished_walk):
        refresh = finished_walk.stdout.partition("\nRefreshing the token\n")[2]
        assert re.search("401 Unauthorized.*grant_type +refresh_token.*200 OK.*Bearer", refresh, re.DOTALL)

    def test_it_signs_out_and_checks_the_session_file(self, finished_walk):
        assert "✓ the session file is deleted" in finished_walk.stdout.partition("\nSigning out\n")[2]

    def test_it_prints_each_explanation_once(self, finished_walk):
        explanations = re.findall(r"(?m)(?:^ {29}\S.*\n)+", finished_walk.stdout)
        assert len(explanations) == len(set(explanations))

    def test_the_readme_shows_a_message_of_it(self, finished_walk):
        readme = (Path(wsgi_oauth.__file__).parents[1] / "README.md").read_text()
        shown = re.search("```text\n[ \\d]+(  application → provider\n.*?)```", readme, re.DOTALL)[1]
        assert shown in re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8001", finished_walk.stdout)

    def test_option_reveal_masks_nothing(self, revealing_walk):
        output = revealing_walk.stdout
        assert re.search(r"client_secret +demo-secret\n", output)
        assert re.search(r" code_verifier +[\w-]{43}\n", output)
        assert " characters)" not in output

    @pytest.mark.parametrize(
        "name",
        [
            *("response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge"),
            *("code_challenge_method", "code", "iss", "grant_type", "code_verifier"),
            *("access_token", "token_type", "expires_in", "refresh_token", "id_token"),
            *("Cookie", "Set-Cookie", "Authorization", "Location"),
        ],
    )
    def test_each_parameter_is_printed_with_an_explanation(self, finished_walk, name):
        assert re.search(rf"^      {name} +\S.*\n {{29}}\S", finished_walk.stdout, re.MULTILINE)

    @pytest.mark.parametrize(
        "section",
        [
            *("RFC 6749 4.1.1", "RFC 6749 4.1.2", "RFC 6749 4.1.3", "RFC 6749 10.12"),
            *("RFC 7636 4.2", "RFC 7636 4.5", "RFC 9207 2", "RFC 6749 2.3.1", "RFC 6750 2.1"),
        ],
    )
    def test_it_names_the_rfc_section(self, finished_walk, section):
        assert section in finished_walk.stdout

    def test_it_prints_the_session_file_before_and_after_the_sign_in(self, finished_walk):
        before, after = re.findall(r"The session file of .*json:\n((?: {6}.*\n)+)", finished_walk.stdout)
        assert json.loads(before).keys() == {"oauth_state"}
        assert "oauth_token" in json.loads(after)

    def test_it_checks_the_session_id_and_the_file_name(self, finished_walk):
        assert "✓ the session id has changed" in finished_walk.stdout
        assert "✓ the file name is the SHA-256 hash of the session id" in finished_walk.stdout

    def test_no_printed_word_is_long_enough_to_be_a_secret(self, finished_walk):
        without_names = re.sub(r"wsgi_oauth_[0-9]+-[A-Za-z0-9_-]{10}", "cookie", finished_walk.stdout)
        assert re.findall(r"[A-Za-z0-9_-]{22,}", without_names) == []

    def test_new_and_deleted_cookies_have_explanations_of_their_own(self, finished_walk):
        for explanation in (
            "a new session id",
            "deletes the cookie of the finished sign-in",
            "deletes the session cookie",
        ):
            assert finished_walk.stdout.count(explanation) == 1

    def test_piped_output_has_100_columns_and_no_colours(self, finished_walk):
        assert max(map(len, finished_walk.stdout.splitlines())) <= 100
        assert "\x1b" not in finished_walk.stdout

    def test_it_removes_its_temporary_files(self, finished_walk, environ):
        assert list(Path(environ["TMPDIR"]).iterdir()) == []

    def test_sync_workers_can_serve_it(self, revealing_walk):
        assert (revealing_walk.returncode, revealing_walk.stderr) == (0, "")

    def test_it_prints_ascii_where_the_encoding_requires_it(self, revealing_walk):
        assert " 1  browser -> application" in revealing_walk.stdout

    def test_a_terminal_gets_colours_also_with_gevent_workers(self, environ):
        pytest.importorskip("gevent")
        command = [*COMMAND, "--walk", *FREE_PORTS, "--workers", "2", "--worker-class", "gevent"]
        assert "\x1b[1m" in read_from_terminal(command, environ)

    def test_a_closed_pipe_causes_no_traceback(self, running, monkeypatch):
        reader, writer = os.pipe()
        os.close(reader)
        monkeypatch.setattr(launcher, "start_demo", lambda _options: nullcontext(running))
        with open(writer, "w", encoding="utf-8") as pipe:
            monkeypatch.setattr(sys, "stdout", pipe)
            assert main(["demo", "--walk", *FREE_PORTS]) == 1


def read_from_terminal(arguments: list[str], environ: dict[str, str]) -> str:
    """Return the output of a command whose standard output is a terminal."""
    leader, follower = pty.openpty()
    clean = {name: value for name, value in environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(arguments, env=clean, stdout=follower)
    os.close(follower)
    output = b""
    with open(leader, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(65536):
                output += part
        except OSError:  # Linux reports the closed side as an error
            pass
    assert process.wait(TIMEOUT) == 0
    return output.decode()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_color_turns_colours_off(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    Printer(terminal).title("Step 1")
    assert terminal.getvalue() == "\nStep 1\n======\n"


@pytest.fixture(scope="module")
def output_and_secrets(running: launcher.Demo) -> tuple[str, set[str]]:
    """The output of a walk, and all long random values in its messages and session files."""
    out = io.StringIO()
    running.recorder.clear()
    walk(running.url, running.provider, running.recorder, out)
    wire = ""
    for seen in running.recorder.messages:
        public = "html" in seen.header("Content-Type") or seen.endpoint in {"discovery", "keys"}
        wire += f"{seen.url} {seen.headers} {'' if public else seen.body} {seen.session_after} "
    words = re.findall(r"[A-Za-z0-9_-]{22,}", re.sub(r"wsgi_oauth_\d+-[\w-]{10}", "cookie", wire))
    return out.getvalue(), {word for word in words if re.search("[A-Z]", word) and re.search("[a-z]", word)}


class TestSecrets:
    def test_at_most_four_characters_of_a_secret_are_printed(self, output_and_secrets):
        printed, secrets = output_and_secrets
        assert len(secrets) >= 6  # code, state, verifier, challenge, Basic, two tokens
        words = set(re.findall(r"[A-Za-z0-9_-]{5,}", printed))
        assert [s for s in secrets if any(s.startswith(word) for word in words)] == []

    @pytest.mark.parametrize("short", ["a", "hunter2", "elevenchars"])
    def test_no_character_of_a_short_secret_is_printed(self, short):
        assert mask(short) == f"… ({len(short)} characters)"

    def test_json_members_with_unknown_names_are_masked(self):
        assert mask_json({"id_token": "eyJhbGciOiJSUzI1NiJ9", "n": [1, "abc"]}) == {
            "id_token": "eyJh… (20 characters)",
            "n": [1, "… (3 characters)"],
        }


class TestFailedWalk:
    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            ("authorize.access_denied", r"Step 3.* 403 Forbidden"),
            ("authorize.wrong_iss", r"Step 3.* 400 Bad Request"),
            ("authorize.missing_code", r"Step 3.* 400 Bad Request"),
            ("token.invalid_client", r"Step 3.* 502 Bad Gateway"),
            ("token.hang_up", r"Step 3.* 502 Bad Gateway"),
            ("token.html_200", r"Step 3.* 502 Bad Gateway"),
            ("profile.403", r"Fetching.* 502 Bad Gateway"),
            ("profile.500", r"Fetching.* 502 Bad Gateway"),
        ],
    )
    def test_the_message_names_the_step_and_the_reason(self, running, fault, reason):
        running.provider.faults.add(fault)
        out = io.StringIO()
        with pytest.raises(WalkFailed, match=reason):
            walk(running.url, running.provider, running.recorder, out)
        assert "Traceback" not in out.getvalue()

    def test_the_exit_status_is_1_and_the_log_is_printed(self, monkeypatch, capsys):
        provider = LocalProvider()
        provider.faults.add("token.500")
        monkeypatch.setattr(launcher, "LocalProvider", lambda: provider)
        assert launcher.run(Options(port=0, provider_port=0, walk=True)) == 1
        err = capsys.readouterr().err
        assert "the walk failed. Step 3: Retrieving an access token" in err
        assert "provider_error" in err  # from the application's log

    def test_an_interrupted_walk_says_that_it_was_stopped(self, monkeypatch, capsys):
        def interrupted(*_, **__):
            os.kill(os.getpid(), signal.SIGINT)
            raise WalkFailed("no answer")

        monkeypatch.setattr(launcher, "walk", interrupted)
        assert launcher.run(Options(port=0, provider_port=0, walk=True)) == 1
        assert capsys.readouterr().err == "wsgi-oauth demo: the walk was stopped before its end\n"


class TestPorts:
    @pytest.mark.parametrize("option", ["--port", "--provider-port"])
    def test_a_port_in_use_is_reported_in_one_line(self, capsys, option):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert main(["demo", "--walk", *FREE_PORTS, option, port]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        [line] = err.splitlines()
        assert port in line
        assert option in line
        assert "in use" in line

    @pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
    def test_a_default_port_is_not_in_the_url_because_browsers_remove_it(self, scheme, port):
        """Otherwise the redirect URI of the application would differ from the registered one."""
        assert build_url(scheme, "127.0.0.1", port) == f"{scheme}://127.0.0.1"
        assert build_url(scheme, "::1", port + 1) == f"{scheme}://[::1]:{port + 1}"

    def test_the_two_servers_cannot_share_a_port(self, capsys):
        port = str(free_port())
        assert main(["demo", "--walk", "--port", port, "--provider-port", port]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_a_second_demo_says_that_the_port_is_taken(self, running, capsys):
        port = running.url.rpartition(":")[2]
        assert main(["demo", "--port", port, "--provider-port", "0"]) == 1
        assert f"port {port} " in capsys.readouterr().err

    @pytest.mark.parametrize("wrong", ["65536", "-1", "http", "٣"])
    def test_an_invalid_port_is_a_usage_error(self, capsys, wrong):
        with pytest.raises(SystemExit) as stopped:
            main(["demo", f"--port={wrong}"])
        assert stopped.value.code == 2
        assert "must be a number from 0 to 65535" in capsys.readouterr().err


@dataclass
class Served:
    """A demo that has been stopped with Ctrl-C, and the facts that its tests need."""

    welcome: str
    page: str  # the page at the printed URL
    files: list[Path]  # the temporary files while it ran
    status: int
    err: str


@pytest.fixture(scope="module")
def served(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Start the command, open its page, keep another connection open, and press Ctrl-C."""
    demo = DemoProcess([*COMMAND, *FREE_PORTS], environ, tmp_path_factory.mktemp("elsewhere"))
    try:
        demo.read_welcome()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(demo.url, timeout=TIMEOUT) as response:
            page = response.read().decode()
        files = list(Path(environ["TMPDIR"]).iterdir())
        port = int(demo.url.rstrip("/").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as browser:
            browser.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert browser.recv(65536).startswith(b"HTTP/1.1 200")
            demo.signal(signal.SIGINT)
            status, _, err = demo.finish()
        return Served(demo.welcome, page, files, status, err)
    finally:
        demo.end()


class TestServing:
    def test_the_printed_url_leads_to_the_provider(self, served):
        assert "demo-client" in served.page

    def test_ctrl_c_does_not_wait_for_open_connections(self, served):
        assert (served.status, served.err) == (0, "")

    def test_ctrl_c_stops_both_servers_and_removes_the_files(self, served, environ):
        assert len(served.files) == 1
        assert list(Path(environ["TMPDIR"]).iterdir()) == []
        ports = re.findall(r"127\.0\.0\.1:(\d+)", served.welcome)
        assert len(set(ports)) == 2
        for port in set(ports):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", int(port)), TIMEOUT)

    def test_it_says_when_it_ignores_settings_of_the_environment(self, served, running, monkeypatch, capsys):
        assert "ignores" not in served.welcome
        monkeypatch.setenv("WSGI_OAUTH_CLIENT_ID", "mine")
        monkeypatch.setattr(launcher, "start_demo", lambda _options: nullcontext(running))
        monkeypatch.setattr(launcher.Gunicorn, "wait", lambda _gunicorn: None)
        assert launcher.run(Options()) == 0
        assert "ignores the WSGI_OAUTH_* variables of your environment" in capsys.readouterr().out

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP])
    def test_a_signal_during_the_start_is_no_error(self, monkeypatch, capsys, number):
        write = launcher._write_gunicorn_config

        def interrupted(*arguments):
            os.kill(os.getpid(), number)
            return write(*arguments)

        monkeypatch.setattr(launcher, "_write_gunicorn_config", interrupted)
        assert launcher.run(Options(port=0, provider_port=0)) == 0
        assert capsys.readouterr().err == ""

    def test_the_signal_handlers_are_restored(self):
        before = signal.getsignal(signal.SIGINT)
        with start_demo(Options(port=0, provider_port=0)) as running:
            os.kill(os.getpid(), signal.SIGTERM)
            running.gunicorn.wait()
        assert signal.getsignal(signal.SIGINT) is before

    def test_the_output_of_a_gunicorn_that_cannot_start_is_printed(self, monkeypatch, capsys, tmp_path):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        assert main(["demo", *FREE_PORTS, "--worker-class", "nonsense"]) == 1
        err = capsys.readouterr().err
        assert "gunicorn ended unexpectedly" in err
        assert "nonsense" in err
        assert list(tmp_path.iterdir()) == []

    def test_an_unexpected_end_of_gunicorn_is_reported(self):
        with start_demo(Options(port=0, provider_port=0)) as running:
            os.kill(running.gunicorn.pid, signal.SIGTERM)
            with pytest.raises(DemoError, match="ended unexpectedly"):
                running.gunicorn.wait()


def test_the_command_line_imports_the_demo_only_for_its_command():
    code = "import sys, wsgi_oauth.cli.main; print([m for m in sys.modules if m.startswith('wsgi_oauth.demo')])"
    root = str(Path(wsgi_oauth.__file__).parents[1])
    environ = os.environ | {"PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
