"""Start the local provider and the application on loopback, for ``wsgi-oauth demo``.

The application runs under gunicorn in a process of its own, as in production. It reads the
provider's endpoints from its environment, as for any other provider. The provider runs in a
thread of this process, together with the recorder of all messages and the page that shows them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import final

from .browser import Browser, NoAnswer, summarize
from .dispatcher import RECORDER_PATH, Dispatcher
from .lab.runs import Runs
from .lab.web import LabPages
from .local_provider import LocalProvider
from .profiles import PROFILES
from .recorder import Recorder
from .server import Server, build_url
from .trace import Trace
from .traced_app import RECORDER_KEY, RECORDER_URL
from .users import USERS
from .walk import WalkFailed, walk

HOST = "127.0.0.1"
NAME = "Demo application"
STOP_TIMEOUT = 10  # seconds until gunicorn is killed


class DemoError(Exception):
    """The demo cannot run; the message gives the reason."""


class Stopped(Exception):
    """A signal asked the demo to stop before it was ready."""


@dataclass(frozen=True)
class Options:
    """The command line's options. Port 0 picks a free port."""

    port: int = 8000
    provider_port: int = 8001
    workers: int = 2
    worker_class: str = "gthread"
    walk: bool = False
    reveal: bool = False  # show secrets instead of masking them
    profile: str = ""  # the provider's profile, one of PROFILES


@dataclass(frozen=True)
class Demo:
    """A running demo: both servers answer requests."""

    url: str
    provider: LocalProvider
    recorder: Recorder
    gunicorn: Gunicorn


def run(options: Options) -> int:
    """Run the demo until a signal stops it or the walk is finished.

    Return the exit status of the process: 0, or 1 with the reason on standard error.
    """
    try:
        with start_demo(options) as demo:
            if options.walk:
                walk(demo.url, demo.provider, demo.recorder, sys.stdout, reveal=options.reveal)
            else:
                _print_welcome(demo, options)
                demo.gunicorn.wait()
                print("\nStopped.", flush=True)
    except Stopped:
        return 0
    except WalkFailed as failure:  # gunicorn has ended by now, so its log is complete
        if demo.gunicorn.is_stopping:
            return _print_failure("the walk was stopped before its end")
        return _print_failure(f"the walk failed. {failure}", demo.gunicorn.output)
    except DemoError as error:
        return _print_failure(str(error))
    return 0


@contextmanager
def start_demo(options: Options) -> Iterator[Demo]:
    """Start both servers, yield when they answer, and remove everything at the end.

    :raises DemoError: when a server cannot start.
    :raises Stopped: when a signal arrives before both servers answer.
    """
    with (
        _stop_on_signals() as stop,
        _bind_application_port(options.port) as listener,
        _serve_provider(options) as dispatcher,
        tempfile.TemporaryDirectory(prefix="wsgi-oauth-demo-") as folder,
    ):
        provider, recorder = dispatcher.provider, dispatcher.recorder
        sessions = Path(folder, "sessions")
        sessions.mkdir(mode=0o700)
        config = _write_gunicorn_config(Path(folder), options, listener)
        environ = _build_environ(dispatcher, sessions, _write_layout(Path(folder), provider.url))
        url = build_url("http", HOST, listener.getsockname()[1])
        dispatcher.pages["/trace"] = Trace(recorder, provider.url, url, reveal=options.reveal)
        with Gunicorn(listener, config, environ, stop, echo=not options.walk) as gunicorn:
            gunicorn.wait_until_ready(url)
            provider.links = {
                "Open the application": f"{url}/",
                "Watch the sign-in: the trace": f"{provider.url}/trace",
                "Attack the application: the lab": f"{provider.url}/lab",
            }
            yield Demo(url, provider, recorder, gunicorn)


def _print_welcome(demo: Demo, options: Options) -> None:
    if any(name.startswith("WSGI_OAUTH_") for name in os.environ):
        print("(The demo uses its own settings and ignores the WSGI_OAUTH_* variables of your environment.)\n")
    workers = f"{options.workers} {options.worker_class} worker{'' if options.workers == 1 else 's'}"
    print(
        f"Watch a sign-in   {demo.provider.url}/trace\n"
        f"The application   {demo.url}/   (gunicorn, {workers})\n"
        f"The provider      {demo.provider.url}/   (with {len(demo.provider.users)} users, and faults to try)\n"
        f"\n"
        f"Open {demo.provider.url}/trace in a browser, press Sign in, choose a user and press Allow:\n"
        f"the page shows every message between browser, application and provider.\n"
        f"{demo.url}/logout has a button to sign out.\n"
        f"{demo.provider.url}/lab carries out attacks, with and without their guards.\n"
        f"Without a browser, run wsgi-oauth demo --walk. Ctrl-C stops both servers.",
        flush=True,
    )
    if options.profile:
        settings = "\n".join(
            f"    export WSGI_OAUTH_{name}={quote(value)}" for name, value in demo.provider.settings.items()
        )
        print(f"\nThe provider behaves like {options.profile}. The application's settings:\n{settings}", flush=True)


def _print_failure(reason: str, log: str = "") -> int:
    sys.stdout.flush()
    appendix = f"\nThe application's log:\n{log}" if log else ""
    print(f"wsgi-oauth demo: {reason}{appendix}", file=sys.stderr)
    return 1


# -- signals and ports -----------------------------------------------------------------------


class StopRequests:
    """Count the signals that ask the demo to stop, and call a function for each."""

    def __init__(self) -> None:
        self.count = 0
        self._callback: Callable[[], None] | None = None

    def add(self) -> None:
        """Count one signal, and call the function. This is safe in a signal handler."""
        self.count += 1
        if self._callback is not None:
            self._callback()

    def pass_on_to(self, callback: Callable[[], None]) -> None:
        """Call *callback* for each signal from now on, and at once if there were earlier signals."""
        self._callback = callback
        if self.count:
            callback()


@contextmanager
def _stop_on_signals() -> Iterator[StopRequests]:
    """Let SIGINT (Ctrl-C), SIGTERM and SIGHUP (a closed terminal) stop gunicorn instead of raising here.

    This process waits for gunicorn and cleans up after it has ended. An exception from a signal
    handler could interrupt that at any line.
    """
    stop = StopRequests()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.add()

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # keep it ignored under nohup
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _bind_application_port(port: int) -> Iterator[socket.socket]:
    """Bind the application's port before gunicorn starts, and yield the socket for gunicorn.

    So a port in use is reported at once, and no other process can take a free port (``port=0``)
    before gunicorn has it.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(128)  # fails for a port in use; a bind alone can succeed
        except OSError as error:
            raise _port_error("application", "--port", port, error) from error
        yield listener


@contextmanager
def _serve_provider(options: Options) -> Iterator[Dispatcher]:
    port, recorder = options.provider_port, Recorder()
    provider = PROFILES.get(options.profile, LocalProvider)()
    if not options.profile:
        provider.set_users(USERS)
        provider.client_name = NAME
    dispatcher = Dispatcher(provider, recorder)
    dispatcher.pages["/lab"] = LabPages(Runs(recorder))
    try:
        server = Server(dispatcher, host=HOST, port=port)
    except OSError as error:
        raise _port_error("provider", "--provider-port", port, error) from error
    provider.url = server.url
    with server.start(), closing(recorder):
        yield dispatcher


def _port_error(server: str, option: str, port: int, error: OSError) -> DemoError:
    reason = (error.strerror or str(error)).lower()
    return DemoError(
        f"port {port} on {HOST} for the {server}: {reason}; choose another port with {option}, or a free one with "
        f"{option} 0"
    )


# -- gunicorn --------------------------------------------------------------------------------


def _build_environ(dispatcher: Dispatcher, sessions: Path, templates: Path) -> dict[str, str]:
    """Return the environment of this process with the demo's settings, for the application.

    The user's own ``WSGI_OAUTH_*`` variables, which may hold a real client secret, and
    ``GUNICORN_*`` variables are left out. No proxy is used between the two servers, because both
    are on loopback.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("WSGI_OAUTH_", "GUNICORN_"))}
    loopback = "127.0.0.1,localhost,::1"
    return inherited | {
        "NO_PROXY": loopback,
        "no_proxy": loopback,
        **{f"WSGI_OAUTH_{name}": value for name, value in dispatcher.provider.settings.items()},
        "WSGI_OAUTH_NAME": NAME,
        "WSGI_OAUTH_SESSION_STORE": f"file:{sessions}",
        "WSGI_OAUTH_RECHECK": "1m",  # otherwise nobody would see a recheck at /tokens
        "WSGI_OAUTH_TOKENS": "yes",
        "WSGI_OAUTH_TEMPLATES": str(templates),
        RECORDER_URL: dispatcher.provider.url + RECORDER_PATH,
        RECORDER_KEY: dispatcher.recorder.key,
    }


def _write_layout(folder: Path, provider_url: str) -> Path:
    """Write a layout that adds a link to the trace to all pages of the application; return the folder."""
    templates = folder / "templates"
    templates.mkdir()
    (templates / "layout.html").write_text(
        '{% extends "wsgi_oauth/layout.html" %}\n'
        '{% block brand %}{{ super() }}<small><a href="'
        f'{provider_url}/trace">See its messages</a></small>{{% endblock %}}\n',
        encoding="utf-8",
    )
    return templates


def _write_gunicorn_config(folder: Path, options: Options, listener: socket.socket) -> Path:
    """Write gunicorn's configuration for the demo; return the file's path.

    It is a file and not a list of arguments, because gunicorn would otherwise read the
    ``gunicorn.conf.py`` of the current folder. Also, an older gunicorn ignores unknown settings in
    a file but refuses unknown arguments.
    """
    settings: dict[str, object] = {
        "bind": f"fd://{listener.fileno()}",
        "workers": options.workers,
        "worker_class": options.worker_class,
        "threads": 16 if options.worker_class == "gthread" else 1,  # with more, a sync worker would become gthread
        "loglevel": "warning",
        "accesslog": None,
        "graceful_timeout": 1,  # otherwise a browser's open connection would delay Ctrl-C
        "control_socket_disable": True,
        "logconfig_dict": {
            "loggers": {"wsgi_oauth": {"level": "INFO", "handlers": ["error_console"], "propagate": False}},
        },
    }
    config = folder / "gunicorn.conf.py"
    config.write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    return config


@final
class Gunicorn:
    """A gunicorn process that serves the application.

    :param listener: the bound socket. Gunicorn inherits it, and this process's copy is closed.
    :param config: gunicorn's configuration file.
    :param environ: gunicorn's environment, from which the application takes its settings.
    :param stop: the requests to stop; the first terminates gunicorn, the second kills it.
    :param echo: whether gunicorn's output is also written to standard error.
    """

    def __init__(
        self,
        listener: socket.socket,
        config: Path,
        environ: Mapping[str, str],
        stop: StopRequests,
        *,
        echo: bool,
    ) -> None:
        self._stop = stop
        self._echo = echo
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", str(config), "wsgi_oauth.demo.traced_app:get_app()"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C reaches only this process, which then stops gunicorn
        )
        # Close this copy: otherwise the port would still accept connections after gunicorn has ended.
        listener.close()
        self._reader = threading.Thread(target=self._read_output, name="gunicorn-output", daemon=True)
        self._reader.start()
        stop.pass_on_to(self._handle_stop)

    @property
    def pid(self) -> int:
        """The process id of gunicorn's master process."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything that gunicorn and the application have written so far."""
        return "".join(self._lines)

    @property
    def is_stopping(self) -> bool:
        """Whether a signal has asked the demo to stop."""
        return self._stop.count > 0

    def wait_until_ready(self, url: str) -> None:
        """Return when a worker answers.

        One request is enough: the listening socket queues it until a worker accepts connections.

        :raises DemoError: when gunicorn ends or the application is not healthy.
        :raises Stopped: when a signal asked the demo to stop.
        """
        try:
            response = Browser().get(f"{url}/healthz")
        except NoAnswer as error:
            with suppress(subprocess.TimeoutExpired):
                self._wait_for_end(STOP_TIMEOUT)
            raise DemoError(f"gunicorn: {error}.\n{self.output}") from error
        if not response.ok:
            raise DemoError(f"the application is not healthy: {summarize(response)}.\n{self.output}")

    def wait(self) -> None:
        """Wait until gunicorn ends.

        :raises DemoError: when it ends although no signal asked for that.
        """
        with suppress(Stopped):
            self._wait_for_end()

    def _wait_for_end(self, timeout: float | None = None) -> None:
        """Wait until gunicorn ends, then raise :class:`Stopped` or :class:`DemoError`."""
        status = self._process.wait(timeout)
        if self.is_stopping:
            raise Stopped
        self._reader.join(STOP_TIMEOUT)
        raise DemoError(f"gunicorn ended unexpectedly with status {status}. Its output:\n{self.output}")

    def __enter__(self) -> Gunicorn:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop gunicorn and all its workers, and wait until they have ended."""
        if not self.is_stopping:
            self._echo = False
            self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        self._reader.join(STOP_TIMEOUT)
        if self._reader.is_alive():  # a worker has outlived the master and keeps the pipe open
            self._kill()

    def _handle_stop(self) -> None:
        """Terminate gunicorn at the first request, kill it at the second. Safe in a signal handler."""
        if self._process.returncode is not None:
            return
        if self._stop.count > 1:
            self._kill()
        else:
            self._process.terminate()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the group contains the workers

    def _read_output(self) -> None:
        assert self._process.stdout is not None  # it is a pipe
        with self._process.stdout as lines:
            for line in lines:
                self._lines.append(line)
                if self._echo and not self.is_stopping:
                    print(line, end="", file=sys.stderr, flush=True)
