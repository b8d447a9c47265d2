"""Metrics for Prometheus (``WSGI_OAUTH_METRICS=yes``), with prometheus_client from the extra ``metrics``.

Labels never contain a user, a path or a token: their values are constants of this program, and the labels of providers.
``docs/operating.md`` lists the metrics. Without the setting, prometheus_client is not imported.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from . import errors
from .events import Event

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is imported
_NAMESPACE = "wsgi_oauth"
_FOLDER_PREFIX = "wsgi-oauth-metrics-"
_STORE_BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)  # seconds
_UPSTREAM_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_OPERATIONS = ("load", "load_all", "create", "update", "delete", "sweep", "check", "version", "is_current", "time")
_CAUSES = {each.cause for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.Error)}
_log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., None])


def never_fail(method: F) -> F:
    """Return *method* with its exceptions caught: the first one is logged, and the others are ignored."""

    @wraps(method)
    def wrapper(self: Metrics, *arguments: Any) -> None:
        try:
            method(self, *arguments)
        except Exception:  # noqa: BLE001
            if not self.has_failed:
                self.has_failed = True
                _log.exception("metrics: a value was not counted; further failures are not logged")

    return wrapper  # type: ignore[return-value]


class Metrics:
    """The metrics of this process. With ``PROMETHEUS_MULTIPROC_DIR`` they are added up with those of other processes.

    :raises errors.ConfigError: if prometheus_client is missing, or the folder cannot be used.
    """

    def __init__(self) -> None:
        # This precedes the import, because prometheus_client then reads the variable once for the whole process.
        self.folder = os.environ.get(FOLDER_VARIABLE)
        if self.folder is not None and not os.access(self.folder, os.W_OK | os.X_OK):
            raise errors.ConfigError(
                f"{FOLDER_VARIABLE}: not a folder that this user can write (got {self.folder!a}); create it, empty"
            )
        try:
            import prometheus_client  # noqa: PLC0415  # optional dependency
        except ImportError as error:
            text = f"WSGI_OAUTH_METRICS: yes needs the package prometheus_client (got {str(error)!a})"
            raise errors.ConfigError(f"{text}; pip install 'wsgi-oauth[metrics]'") from None
        self.content_type: str = prometheus_client.CONTENT_TYPE_LATEST
        self.has_failed = False
        self._client = prometheus_client
        self._registry = prometheus_client.CollectorRegistry()
        own: dict[str, Any] = {"namespace": _NAMESPACE, "registry": self._registry}
        counter, histogram, gauge = prometheus_client.Counter, prometheus_client.Histogram, prometheus_client.Gauge
        self._events = counter("events", "Audit events.", ["event", "outcome", "cause", "provider"], **own)
        text = "Decisions of the gate and of /verify."
        self._decisions = counter("decisions", text, ["place", "decision", "cause"], **own)
        text = "Duration of requests to providers."
        self._upstream = histogram("upstream_seconds", text, ["endpoint", "outcome"], buckets=_UPSTREAM_BUCKETS, **own)
        text = "Requests that wait for a provider (WSGI_OAUTH_UPSTREAM_LIMIT)."
        self._slots = gauge("upstream_slots_in_use", text, multiprocess_mode="livesum", **own)
        text = "Duration of operations of the session store."
        self._store = histogram("store_seconds", text, ["operation", "outcome"], buckets=_STORE_BUCKETS, **own)

    @never_fail
    def count_event(self, event: Event) -> None:
        self._events.labels(event.name, event.outcome, _known(event.cause), event.provider).inc()

    @never_fail
    def count_decision(self, place: str, decision: str | errors.Error) -> None:
        """Count a decision of *place*, the gate or /verify: ``admitted``, ``public``, or the error."""
        cause = ""
        if isinstance(decision, errors.Error):
            cause = _known(decision.cause)
            decision = "refused" if isinstance(decision, errors.UserError) else "failed"
        self._decisions.labels(place, decision, cause).inc()

    @never_fail
    def observe_upstream(self, endpoint: str, outcome: str, seconds: float) -> None:
        """Observe a request to a provider. *outcome* is the class of its status, such as ``2xx``, or an error code."""
        self._upstream.labels(endpoint, outcome).observe(seconds)

    @never_fail
    def add_slots(self, number: int) -> None:
        self._slots.inc(number)

    @never_fail
    def observe_store(self, operation: str, outcome: str, seconds: float) -> None:
        """Observe an operation of the session store. *outcome* is ``ok`` or ``error``."""
        self._store.labels(operation, outcome).observe(seconds)

    def render(self) -> bytes:
        """Return the values in Prometheus' text format. Raise ConfigError if the folder was deleted."""
        if self.folder and not os.path.isdir(self.folder):
            raise errors.ConfigError(
                f"{FOLDER_VARIABLE}: the folder was deleted (got {self.folder!a}); exclude it from the cleaning of "
                "temporary files, and restart the server"
            )
        text: bytes = self._client.generate_latest(self if self.folder else self._registry)
        return text

    def collect(self) -> Iterator[Any]:
        """Yield the metrics of all processes, without those of other programs in the same folder."""
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415  # optional dependency

        for metric in MultiProcessCollector.merge(filter(_has_content, Path(self.folder or "").glob("*.db"))):
            if metric.name.startswith(f"{_NAMESPACE}_"):
                yield metric


class MeasuredStore:
    """Behaves like the session store *original*, and reports the duration of each operation to *metrics*."""

    def __init__(self, original: Any, metrics: Metrics) -> None:
        self.original = original
        self._metrics = metrics

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.original, name)
        if name not in _OPERATIONS:
            return operation
        observe, clock = self._metrics.observe_store, time.perf_counter

        @wraps(operation)
        def measured(*arguments: Any, **options: Any) -> Any:
            started, outcome = clock(), "ok"
            try:
                return operation(*arguments, **options)
            except errors.StoreError:
                outcome = "error"
                raise
            finally:
                observe(name, outcome, clock() - started)

        setattr(self, name, measured)  # the next access does not call this method
        return measured


def _has_content(path: Path) -> bool:
    """Return whether the file exists and is not empty, because prometheus_client cannot read an empty file.

    It is empty if its worker was killed right after creating it, and missing if its worker has just ended.
    """
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _known(cause: str) -> str:
    """Return *cause*, or ``other`` for a code of the application's own errors, to limit the number of labels."""
    return cause if not cause or cause in _CAUSES or cause == "operator" else "other"


_metrics: list[Metrics] = []


def get_metrics() -> Metrics:
    """Return the metrics of this process, which all its applications share: prometheus_client accepts a name once."""
    if not _metrics:
        # There is no lock, because a fork could copy it while it is held. If two threads create them, one is used.
        _metrics.append(Metrics())
    return _metrics[0]


def create_folder() -> None:
    """Set ``PROMETHEUS_MULTIPROC_DIR`` to a new folder, which is deleted when this process ends.

    A folder that the operator has set is kept. That of a gunicorn that this process replaces (USR2) is not used.
    """
    former = os.environ.get(FOLDER_VARIABLE)
    if former and not os.path.basename(former).startswith(_FOLDER_PREFIX):
        return
    owner = os.getpid()
    folder = os.environ[FOLDER_VARIABLE] = tempfile.mkdtemp(prefix=_FOLDER_PREFIX)

    @atexit.register
    def delete() -> None:
        if os.getpid() == owner:  # workers inherit this function
            shutil.rmtree(folder, ignore_errors=True)


def hand_over_folder(user: int, group: int) -> None:
    """Give the folder of :func:`create_folder` to the user of the workers, if this process runs as root.

    The files in it get the same owner, because a worker adds up all files, and the umask may forbid it to read them.
    """
    folder = os.environ.get(FOLDER_VARIABLE, "")
    if os.path.basename(folder).startswith(_FOLDER_PREFIX) and os.geteuid() == 0:
        # The folder last, because its owner could replace a file by a link to another one.
        for path in (*Path(folder).iterdir(), Path(folder)):
            os.chown(path, user, group)


def forget_process(pid: int) -> None:
    """Remove the gauges of a worker that has ended, such as its slots in use."""
    if os.environ.get(FOLDER_VARIABLE):
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415  # optional dependency

        mark_process_dead(pid)
