"""WSGI_OAUTH_CLIENT_SECRET_FILE: a changed file takes effect with the next token request, without a restart."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Browser, environ_for
from werkzeug import Request, Response

from wsgi_oauth import Config, SessionStore, create_app, errors
from wsgi_oauth.config import ProviderConfig
from wsgi_oauth.config.secret_file import SecretFile
from wsgi_oauth.demo.local_provider import LocalProvider

NEW = "the-new-secret %+:/ €"


@pytest.fixture
def file(provider: LocalProvider, tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(provider.client_secret or "")
    return path


@pytest.fixture
def make_rotating(provider: LocalProvider, store: SessionStore, file: Path) -> Callable[..., Browser]:
    def make(**settings: str) -> Browser:
        environ = environ_for(provider, CLIENT_SECRET="", CLIENT_SECRET_FILE=str(file), **settings)
        return Browser(create_app(Config.from_environ(environ), store=store), provider)

    return make


@pytest.fixture
def rotating(make_rotating: Callable[..., Browser]) -> Browser:
    """Return a browser of an application that reads the client secret from *file*."""
    return make_rotating()


def rotate_at(provider: LocalProvider, secret: str = NEW) -> None:
    """Let the provider accept *secret* only."""
    provider._validator.client = replace(provider._validator.client, secret=secret)


def status_of_sign_in(browser: Browser) -> int:
    return browser.get(browser.callback_url()).status_int


@pytest.mark.parametrize("method", ["basic", "basic-raw", "post"])
def test_next_sign_in_uses_the_new_secret(
    method: str, make_rotating: Callable[..., Browser], provider: LocalProvider, file: Path
) -> None:
    new = NEW if method != "basic-raw" else "the-new-secret"
    browser = make_rotating(CLIENT_AUTH=method)
    browser.sign_in()
    rotate_at(provider, new)
    assert status_of_sign_in(browser) == 502
    file.write_text(new)
    assert status_of_sign_in(browser) == 303


def test_refresh_uses_the_new_secret(
    rotating: Browser, provider: LocalProvider, file: Path, later: Callable[[float], None]
) -> None:
    rotating.sign_in()
    rotate_at(provider)
    file.write_text(NEW)
    later(3600)
    assert rotating.profile().status_int == 200
    assert provider.count("refresh") == 1


def test_revocation_uses_the_new_secret(
    make_rotating: Callable[..., Browser], provider: LocalProvider, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    browser = make_rotating(REVOCATION_URL=provider.revocation_url)
    browser.sign_in()
    rotate_at(provider)
    file.write_text(NEW)
    assert browser.post("/logout").status_int == 303
    assert provider.count("revoke") == 2
    assert [exchange.status for exchange in provider.exchanges if exchange.url.endswith("/revoke")] == [200, 200]


def test_replaced_symbolic_link_counts_as_a_change(rotating: Browser, provider: LocalProvider, file: Path) -> None:
    """Kubernetes lets `..data` point to a new folder, and the file is a link through it."""
    folder = file.parent
    for name, secret in (("1", provider.client_secret), ("2", NEW)):
        (folder / name).mkdir()
        (folder / name / "secret").write_text(secret or "")
    (folder / "..data").symlink_to("1")
    file.unlink()
    file.symlink_to("..data/secret")
    rotating.sign_in()
    rotate_at(provider)
    (folder / "..tmp").symlink_to("2")
    (folder / "..tmp").rename(folder / "..data")
    rotating.sign_in()


UNUSABLE: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_text(""),
    "several lines": lambda path: path.write_text("one\ntwo"),
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "too large": lambda path: path.write_text("x" * 5000),
}


@pytest.mark.parametrize("damage", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_file_keeps_the_previous_secret_with_one_warning(
    damage: Callable[[Path], object],
    rotating: Browser,
    provider: LocalProvider,
    file: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rotating.sign_in()
    damage(file)
    for _ in range(3):
        rotating.sign_in()
    warnings = [record.getMessage() for record in caplog.records if "CLIENT_SECRET_FILE" in record.getMessage()]
    assert len(warnings) == 1
    assert str(file) in warnings[0]
    rotate_at(provider)
    file.write_text(NEW)
    rotating.sign_in()


def test_pipe_is_read_once(tmp_path: Path) -> None:
    """For example a file descriptor of a shell. Opening it again would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    assert SecretFile(str(tmp_path / "pipe"), "from the start", "SETTING").read() == "from the start"


def test_new_secret_with_the_length_and_the_time_of_the_old_one_is_noticed(file: Path) -> None:
    """For example of `rsync --inplace --times`. No program can keep the time of the last change of the inode."""
    secret, old = SecretFile(str(file), "x", "SETTING"), file.stat()
    assert secret.read() == "demo-secret"
    file.write_text("next-secret")
    while file.stat().st_ctime_ns == old.st_ctime_ns or file.stat().st_mtime_ns != old.st_mtime_ns:
        os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert secret.read() == "next-secret"


def test_unchanged_file_is_not_opened(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = SecretFile(str(file), "x", "SETTING")
    assert secret.read() == "demo-secret"
    monkeypatch.setattr("builtins.open", None)
    assert secret.read() == "demo-secret"


def test_new_secret_is_masked_in_the_log(
    rotating: Browser, provider: LocalProvider, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """S72: the provider repeats it in the description of an error."""

    def quote_secret(_: Request) -> Response:
        document = {"error": "invalid_client", "error_description": "wrong secret the-new-secret"}
        return Response(json.dumps(document), 401, content_type="application/json")

    rotating.sign_in()
    file.write_text("the-new-secret")
    endpoint, handlers = provider.routes["/token"]
    provider.routes["/token"] = (endpoint, dict.fromkeys(handlers, quote_secret))
    assert status_of_sign_in(rotating) == 502
    assert "wrong secret" in caplog.text
    assert "the-new-secret" not in caplog.text


def test_each_provider_has_its_own_file(provider: LocalProvider, store: SessionStore, tmp_path: Path) -> None:
    (tmp_path / "work").write_text("s")
    shared: dict[str, Any] = {"client_id": "an-id", "provider": "github"}
    home = ProviderConfig(label="home", client_secret="t", **shared)
    work = ProviderConfig(label="work", client_secret_file=str(tmp_path / "work"), **shared)
    app = create_app(Config(providers=[home, work]), store=store)
    (tmp_path / "work").write_text("new")
    assert [each.client_secret for each in app.oauth.registrations.values()] == ["t", "new"]
    (tmp_path / "work").unlink()
    with pytest.raises(errors.ConfigError, match="WSGI_OAUTH_WORK_CLIENT_SECRET_FILE: the file cannot be read"):
        Config(providers=[home, ProviderConfig(label="work", client_secret_file=str(tmp_path / "work"), **shared)])
