"""Metrics for Prometheus: their values, in one process and in several, and their readers."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import HTML, JSON, Application, Browser, Guest, environ_for, gunicorn, send
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from wsgi_oauth import Config, FileStore, LoginRequired, create_app, errors, metrics
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.events import Event
from wsgi_oauth.polling import poll

DOCS = Path(__file__).parent.parent / "docs"
SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
Values = Callable[..., float]


@pytest.fixture(autouse=True)
def _new_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with new metrics, which otherwise belong to the process."""
    monkeypatch.setattr(metrics, "_metrics", [])


@pytest.fixture
def app(provider: LocalProvider, tmp_path: Path) -> Any:
    config = Config.from_environ(environ_for(provider, METRICS="yes", TOKENS="yes"))
    return create_app(config, store=FileStore(tmp_path / "sessions"))


@pytest.fixture
def guest(app: Any, provider: LocalProvider, inside: Application) -> Guest:
    return Guest(LoginRequired(inside, app, public=["/public"]), provider)


def parse(text: str) -> list[tuple[str, dict[str, str], float]]:
    """Return the samples of a response: name, labels and value."""
    matches = [SAMPLE.match(line) for line in text.splitlines() if not line.startswith("#")]
    assert all(matches), text
    return [
        (match["name"], dict(re.findall(r'(\w+)="([^"]*)"', match["labels"] or "")), float(match["value"]))
        for match in matches
        if match
    ]


def total(text: str, name: str, **labels: str) -> float:
    """Return the sum of the samples with this name and these labels."""
    return sum(value for known, given, value in parse(text) if known == name and labels.items() <= given.items())


def read(app: Any) -> str:
    response = send(app, "/metrics", HTTP_HOST="10.0.0.7:8000")
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain; version=")
    return response.get_data(as_text=True)


class TestValues:
    def test_count_sign_ins_by_outcome_and_cause(self, app: Any, provider: LocalProvider):
        browser = Browser(app, provider)
        browser.sign_in()
        browser.get(browser.callback_url(decision="deny"))
        name = "wsgi_oauth_events_total"
        assert total(read(app), name, event="sign_in", outcome="success", cause="") == 1
        assert total(read(app), name, event="sign_in", outcome="refused", cause="login_declined") == 1

    def test_count_refreshes(self, app: Any, provider: LocalProvider, later: Callable[[float], None]):
        browser = Browser(app, provider)
        browser.sign_in()
        later(3600)
        browser.profile()
        assert total(read(app), "wsgi_oauth_events_total", event="refresh", outcome="success") == 1

    def test_count_decisions_of_the_gate(self, app: Any, guest: Guest):
        guest.sign_in()
        guest.get("/page")
        guest.get("/public")
        send(guest.gate, "/page")
        send(guest.gate, "/page", headers={"Authorization": "Bearer wo_" + "A" * 43})
        counted = {
            (labels["decision"], labels["cause"]): value
            for name, labels, value in parse(read(app))
            if name == "wsgi_oauth_decisions_total" and labels["place"] == "gate"
        }
        assert counted == {
            ("admitted", ""): 2,
            ("public", ""): 1,
            ("refused", "not_signed_in"): 2,
            ("refused", "token_unknown"): 1,
        }

    def test_count_decisions_of_verify(self, app: Any, provider: LocalProvider):
        browser = Browser(app, provider)
        browser.sign_in()
        browser.profile()
        assert browser.get("/verify").status_int == 204
        send(app, "/verify")
        name = "wsgi_oauth_decisions_total"
        assert total(read(app), name, place="verify", decision="admitted") == 1
        assert total(read(app), name, place="verify", decision="refused", cause="not_signed_in") == 1

    def test_measure_requests_to_the_provider(self, app: Any, provider: LocalProvider):
        browser = Browser(app, provider)
        browser.sign_in()
        provider.faults.add("profile.500")
        browser.profile()
        provider.faults.add("token.hang_up")
        browser.get(browser.callback_url())
        text, name = read(app), "wsgi_oauth_upstream_seconds_count"
        assert total(text, name, endpoint="token", outcome="2xx") == 1
        assert total(text, name, endpoint="user_document", outcome="5xx") == 1
        assert total(text, name, endpoint="token", outcome="provider_unreachable") == 1
        assert total(text, "wsgi_oauth_upstream_seconds_sum") > 0

    def test_show_the_slots_in_use(self, app: Any):
        assert total(read(app), "wsgi_oauth_upstream_slots_in_use") == 0
        with app.oauth.transport.slot():
            assert total(read(app), "wsgi_oauth_upstream_slots_in_use") == 1
        assert total(read(app), "wsgi_oauth_upstream_slots_in_use") == 0

    def test_measure_the_store(self, app: Any, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch):
        def fail(*_: object) -> None:
            raise errors.StoreError("no space left on device")

        browser = Browser(app, provider)
        browser.sign_in()
        assert total(read(app), "wsgi_oauth_store_seconds_count", operation="create", outcome="ok") >= 1
        assert total(read(app), "wsgi_oauth_store_seconds_count", outcome="error") == 0
        monkeypatch.setattr(FileStore, "create", fail)
        broken = create_app(app.config, store=FileStore(app.sessions.store.folder))
        send(broken, "/", headers=HTML)
        assert total(read(app), "wsgi_oauth_store_seconds_count", operation="create", outcome="error") == 1

    def test_have_labels_from_closed_sets_only(self, app: Any, guest: Guest, provider: LocalProvider):
        """No user, path or token."""
        guest.sign_in("/page-of-octocat")
        guest.get("/auth/callback?code=canary&state=canary")
        metrics.get_metrics().count_event(Event("access", "refused", cause="invented by a handler"))
        text = read(app)
        assert {name for _, labels, _ in parse(text) for name in labels} == {
            *("event", "outcome", "cause", "provider", "place", "decision", "endpoint", "operation", "le")
        }
        assert not re.search(r"583231|octocat|canary|invented|/", re.sub("^# HELP.*$", "", text, flags=re.MULTILINE))
        assert total(text, "wsgi_oauth_events_total", cause="other") == 1


class TestReaders:
    @pytest.mark.parametrize(
        "header", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "Via", "X-Real-IP"]
    )
    def test_are_refused_through_a_proxy(self, app: Any, header: str, caplog: pytest.LogCaptureFixture):
        """The sidecar of a service mesh (Istio) is one, too."""
        caplog.set_level("INFO")
        assert send(app, "/metrics", headers={header: "203.0.113.9"}).status_code == 404
        assert f"metrics: not shown, because the request has headers of proxies ({header})" in caplog.text

    def test_are_not_told_about_another_prefix_then(self, guest: Guest, caplog: pytest.LogCaptureFixture):
        assert send(guest.gate, "/auth/metrics", headers={"Via": "1.1 proxy"}).status_code == 404
        assert "paths below" not in caplog.text

    def test_find_nothing_without_the_setting(self, provider: LocalProvider):
        assert send(create_app(Config.from_environ(environ_for(provider))), "/metrics").status_code == 404

    def test_read_a_clear_error_if_several_processes_count_alone(self, app: Any, caplog: pytest.LogCaptureFixture):
        response = send(app, "/metrics", headers=JSON, **{"wsgi.multiprocess": True})
        assert response.get_json()["error"] == "configuration"
        assert "PROMETHEUS_MULTIPROC_DIR: missing" in caplog.text

    def test_read_a_clear_error_if_the_folder_was_deleted(
        self, app: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        """For example by a program that cleans /tmp."""
        monkeypatch.setattr(app.metrics, "folder", "/nonexistent")
        assert send(app, "/metrics", headers=JSON).get_json()["error"] == "configuration"
        assert "PROMETHEUS_MULTIPROC_DIR: the folder was deleted" in caplog.text


class TestFolder:
    """The folder in which the workers of gunicorn count. The main process may be root, and the workers another user."""

    @pytest.fixture
    def given(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, int, int]]:
        """Return the names of the files that root has given to another user, with the ids of the user and the group."""
        given: list[tuple[str, int, int]] = []
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(os, "chown", lambda path, user, group: given.append((Path(path).name, user, group)))
        return given

    @pytest.mark.parametrize("former", ["", "/run/wsgi-oauth-metrics-of-a-gunicorn-that-this-one-replaces"])
    def test_is_a_new_one_and_belongs_to_the_workers_with_its_files(
        self, given: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, former: str
    ):
        """The umask of the main process can protect the files in which it has counted itself."""
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", former)
        metrics.create_folder()
        [folder] = tmp_path.iterdir()
        assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(folder)
        (folder / "gauge_livesum_1.db").touch()
        metrics.hand_over_folder(1001, 1002)
        assert given == [("gauge_livesum_1.db", 1001, 1002), (folder.name, 1001, 1002)]

    def test_of_the_operator_stays_as_it_is(
        self, given: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
        metrics.create_folder()
        metrics.hand_over_folder(1001, 1002)
        assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path)
        assert given == []


class TestFailures:
    """S76"""

    def test_affect_no_request_and_are_logged_once(
        self, app: Any, guest: Guest, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ):
        import prometheus_client

        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(prometheus_client.Counter, "inc", fail)
        monkeypatch.setattr(prometheus_client.Histogram, "observe", fail)
        monkeypatch.setattr(prometheus_client.Gauge, "inc", fail)
        assert guest.sign_in().text == "inside"
        assert len([record for record in caplog.records if "metrics: a value was not counted" in record.message]) == 1

    def test_missing_package_stops_the_start(self, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        with pytest.raises(errors.ConfigError, match=r"got 'import of .*pip install 'wsgi-oauth\[metrics\]'"):
            create_app(Config.from_environ(environ_for(provider, METRICS="yes")))

    def test_missing_folder_stops_the_start(self, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch):
        """Without an import of the package, which would use this folder for the rest of the process."""
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nonexistent")
        monkeypatch.delitem(sys.modules, "prometheus_client", raising=False)
        with pytest.raises(errors.ConfigError, match="PROMETHEUS_MULTIPROC_DIR: not a folder"):
            create_app(Config.from_environ(environ_for(provider, METRICS="yes")))
        assert "prometheus_client" not in sys.modules


def test_nothing_is_imported_without_the_setting() -> None:
    program = """
        import sys
        from wsgi_oauth import Config, create_app, gunicorn_conf
        create_app(Config(client_id="id", client_secret="secret"))
        assert "prometheus_client" not in sys.modules
    """
    root = str(Path(__file__).parent.parent)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("WSGI_OAUTH_", "PROM"))}
    program = textwrap.dedent(program)
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root, timeout=60, env=environ)


def test_concurrent_first_use_creates_the_metrics_once() -> None:
    """S76. The package is imported before, because concurrent first imports of a package are up to Python."""
    importlib.import_module("prometheus_client")
    found: list[metrics.Metrics] = []
    together = threading.Barrier(8)

    def use() -> None:
        together.wait(30)
        found.append(metrics.get_metrics())

    threads = [threading.Thread(target=use) for _ in range(8)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_counts_of_all_workers_are_added_up_also_after_one_was_killed(provider: LocalProvider, tmp_path: Path) -> None:
    """With the settings for gunicorn, each worker shows the sum. The folder is deleted at the end."""
    options = ["--config", "python:wsgi_oauth.gunicorn_conf", "--workers", "2"]
    settings = environ_for(provider, METRICS="yes", LOG_FORMAT="json", SESSION_STORE=f"file:{tmp_path}/sessions")
    environ = {**settings, "TMPDIR": str(tmp_path)}
    with gunicorn(tmp_path, environ, *options) as server:

        def count(name: str, **labels: str) -> float:
            response = requests.get(f"{server.url}/metrics", timeout=30)
            assert response.status_code == 200, response.text
            return total(response.text, name, **labels)

        def refuse(times: int) -> set[int]:
            """Send callbacks that are refused, and return the workers that have answered until now."""
            for _ in range(times):
                requests.get(f"{server.url}/callback?code=x&state=x", headers=JSON, timeout=30)
            lines = [json.loads(line) for line in server.log.read_text().splitlines()]
            return {line["process"] for line in lines if line.get("event") == "sign_in"}

        [first] = refuse(1)
        os.kill(first, signal.SIGSTOP)
        assert len(refuse(2)) == 2  # the other worker answers
        os.kill(first, signal.SIGCONT)
        assert count("wsgi_oauth_events_total", event="sign_in", cause="no_login_in_progress") == 3
        [folder] = tmp_path.glob("wsgi-oauth-metrics-*")

        def wait_until_forgotten(*workers: int | str) -> None:
            """Wait until gunicorn has noticed the end of these workers, whose slots in use then no longer count."""
            for _ in poll(30):
                if not any((folder / f"gauge_livesum_{worker}.db").exists() for worker in workers):
                    return
            raise TimeoutError

        os.kill(first, signal.SIGKILL)
        wait_until_forgotten(first)
        (folder / "counter_1.db").touch()  # left by a worker that was killed while it created the file
        (folder / "gauge_livesum_1.db").symlink_to("x")  # a file in the list that is removed before it is read
        with closing(MmapedDict(str(folder / "counter_2.db"))) as of_another_program:
            of_another_program.write_value(mmap_key("orders", "orders_total", [], [], ""), 1, 0)
        assert count("wsgi_oauth_events_total", event="sign_in") == 3
        assert count("orders_total") == 0
        workers = re.findall(r"Booting worker with pid: (\d+)", server.log.read_text())
        server.process.send_signal(signal.SIGHUP)
        wait_until_forgotten(*workers)
        refuse(1)
        assert count("wsgi_oauth_events_total", event="sign_in") == 4
        assert len(list(tmp_path.glob("wsgi-oauth-metrics-*"))) == 1
        server.stop()
    assert not list(tmp_path.glob("wsgi-oauth-metrics-*"))


class TestDocuments:
    """The dashboard and the alert rules use metrics and labels that exist."""

    @pytest.fixture
    def names(self, app: Any, guest: Guest, provider: LocalProvider) -> set[str]:
        guest.sign_in()
        text = read(app)
        return {name for name, _, _ in parse(text)}

    def expressions(self) -> list[str]:
        dashboard = json.loads((DOCS / "monitoring" / "grafana-dashboard.json").read_text())
        found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        rules = (DOCS / "monitoring" / "prometheus-rules.yml").read_text()
        return found + re.findall(r"^ +expr: >-\n((?: {10,}.*\n)+)", rules, re.MULTILINE)

    def test_use_metrics_that_exist(self, names: set[str]):
        expressions = self.expressions()
        assert len(expressions) > 8
        used = {name for text in expressions for name in re.findall(r"wsgi_oauth_\w+", text)}
        assert used <= names

    def test_operating_md_lists_each_metric(self, names: set[str]):
        section = (DOCS / "operating.md").read_text().partition("## Metrics")[2].partition("\n## ")[0]
        listed = set(re.findall(r"^\| `(wsgi_oauth_\w+)`", section, re.MULTILINE))
        families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names if not name.endswith("_created")}
        assert listed == families
