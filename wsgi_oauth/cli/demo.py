"""``wsgi-oauth demo``: the local provider and the application, side by side on loopback.

The application is the one that people deploy, under a real gunicorn in a process of its own. It
learns where the provider is as it would learn about any other: from its environment. The provider
runs in a thread of this process, so that the walk (:mod:`wsgi_oauth.demo.walk`) can read what the
two say to each other behind the browser's back.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import final

from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider
from wsgi_oauth.demo.walk import WalkFailed, walk

HOST = "127.0.0.1"
START_TIMEOUT = 60  # seconds until the first answer; a slow machine may need a few
STOP_TIMEOUT = 10  # seconds for gunicorn to go, before it is killed


class DemoError(Exception):
    """What keeps the demo from running, in words for the person who started it."""


class Stopped(Exception):
    """Somebody pressed Ctrl-C, or sent SIGTERM, before the demo was ready."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for; port 0 picks a free one."""

    port: int = 8000
    provider_port: int = 8001
    workers: int = 2
    worker_class: str = "gthread"
    walk: bool = False


@dataclass(frozen=True)
class Demo:
    """Both servers, ready for requests."""

    url: str
    provider: LocalProvider
    sessions: Path
    gunicorn: Gunicorn


def run(options: Options) -> int:
    """Run the demo until it is stopped, or until the walk is over.

    Returns the exit status of the process: 0, or 1 with the reason on standard error.
    """
    try:
        with demo(options) as running:
            if options.walk:
                walk(running.url, running.provider, running.sessions, sys.stdout)
            else:
                _serve(running, options)
    except Stopped:
        return 0
    except WalkFailed as failure:  # by now gunicorn has ended, and its log is complete
        if running.gunicorn.stopping:
            return _failed("the dance was stopped before its end")
        return _failed(f"the dance failed. {failure}", running.gunicorn.said)
    except DemoError as error:
        return _failed(str(error))
    return 0


def _failed(reason: str, log: str = "") -> int:
    sys.stdout.flush()
    said = f"\nThe application's log:\n{log}" if log else ""
    print(f"wsgi-oauth demo: {reason}{said}", file=sys.stderr)
    return 1


@contextmanager
def demo(options: Options) -> Iterator[Demo]:
    """Both servers, ready for requests; whatever they made is gone afterwards.

    Raises :class:`DemoError` when one of them cannot start, :class:`Stopped` when a signal came
    first.
    """
    with (
        _stop_on_signals() as stop,
        _listener(options.port) as listener,
        _provider(options.provider_port) as provider,
        tempfile.TemporaryDirectory(prefix="wsgi-oauth-demo-") as folder,
    ):
        port = listener.getsockname()[1]
        sessions = Path(folder, "sessions")
        sessions.mkdir(mode=0o700)
        config = _write_gunicorn_config(Path(folder), options, listener)
        environ = _environ(provider, sessions)
        with Gunicorn(listener, config, environ, stop, echo=not options.walk) as gunicorn:
            gunicorn.wait_until_ready(port)
            yield Demo(f"http://{HOST}:{port}", provider, sessions, gunicorn)


def _serve(running: Demo, options: Options) -> None:
    """Say where to look, and stay until a signal comes."""
    if any(name.startswith("WSGI_OAUTH_") for name in os.environ):
        print("(The demo has settings of its own: WSGI_OAUTH_* of your environment are left out.)\n")
    workers = f"{options.workers} {options.worker_class} worker{'s'[: options.workers != 1]}"
    print(
        f"The application   {running.url}/   (gunicorn, {workers})\n"
        f"The provider      {running.provider.url}/   (with one user, and faults to choose)\n"
        f"\n"
        f"Open {running.url}/ in a browser: it sends you to the provider, and Allow brings you\n"
        f"back to your profile. At {running.url}/logout there is a button to sign out.\n"
        f"(No browser? wsgi-oauth demo --walk.) Ctrl-C stops both.",
        flush=True,
    )
    running.gunicorn.wait()
    print("\nStopped.", flush=True)


# -- what the two servers need ---------------------------------------------------------------


class Stop:
    """The wish to stop: how often it was uttered, and what is done about it at once."""

    def __init__(self) -> None:
        self.asked = 0
        self._action: Callable[[], None] | None = None

    def ask(self) -> None:
        """Stop, please. Safe in a signal handler."""
        self.asked += 1
        if self._action is not None:
            self._action()

    def then(self, action: Callable[[], None]) -> None:
        """Call *action* whenever somebody asks, and now if somebody did."""
        self._action = action
        if self.asked:
            action()


@contextmanager
def _stop_on_signals() -> Iterator[Stop]:
    """Let Ctrl-C, SIGTERM and a closed terminal ask for the end, instead of raising anywhere.

    A signal only tells gunicorn to go. Whoever is waiting for gunicorn at that moment goes on from
    there, so nothing is interrupted half-way and everything is cleaned up in its usual order.
    """
    stop = Stop()

    def handler(_number: int, _frame: FrameType | None) -> None:
        stop.ask()

    wanted = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup means what it says
        wanted.append(signal.SIGHUP)
    previous = {number: signal.signal(number, handler) for number in wanted}
    try:
        yield stop
    finally:
        for number, was in previous.items():
            signal.signal(number, was)


@contextmanager
def _listener(port: int) -> Iterator[socket.socket]:
    """The application's socket, made here and handed to gunicorn.

    A port that is taken is known before anything starts, and a free one that was picked (port 0)
    cannot be taken by somebody else before gunicorn has it.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(128)  # two may bind at the same time, only one of them may listen
        except OSError as error:
            raise _port_error("application", "--port", port, error) from error
        yield listener


@contextmanager
def _provider(port: int) -> Iterator[LocalProvider]:
    """The local provider, answering."""
    provider = LocalProvider()
    try:
        server = serve_provider(provider, host=HOST, port=port)
    except OSError as error:
        raise _port_error("provider", "--provider-port", port, error) from error
    with server:
        yield provider


def _port_error(who: str, option: str, port: int, error: OSError) -> DemoError:
    reason = (error.strerror or str(error)).lower()
    return DemoError(
        f"port {port} on {HOST} cannot be had for the {who}: {reason}. "
        f"Give another with {option}; {option} 0 picks a free one."
    )


def _environ(provider: LocalProvider, sessions: Path) -> dict[str, str]:
    """The application's environment: this process's own, except for what would change the demo.

    A real client secret that happens to be exported stays out, and so do gunicorn's variables. A
    proxy has no business between two servers on loopback.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("WSGI_OAUTH_", "GUNICORN_"))}
    loopback = "127.0.0.1,localhost,::1"
    return inherited | {
        "NO_PROXY": loopback,
        "no_proxy": loopback,
        "WSGI_OAUTH_CLIENT_ID": provider.client_id,
        "WSGI_OAUTH_CLIENT_SECRET": provider.client_secret or "",
        "WSGI_OAUTH_AUTHORIZATION_URL": provider.authorization_url,
        "WSGI_OAUTH_TOKEN_URL": provider.token_url,
        "WSGI_OAUTH_PROFILE_URL": provider.profile_url,
        "WSGI_OAUTH_REVOCATION_URL": provider.revocation_url,
        "WSGI_OAUTH_ISSUER": provider.url,
        "WSGI_OAUTH_SCOPE": "profile",
        "WSGI_OAUTH_SESSION_STORE": f"file:{sessions}",
    }


def _write_gunicorn_config(folder: Path, options: Options, listener: socket.socket) -> Path:
    """gunicorn's settings for a demo, as its file; those for production are in gunicorn.conf.py.

    A file rather than arguments: it keeps gunicorn from reading the gunicorn.conf.py of the folder
    it is started in, and a setting that an older gunicorn does not know is ignored.
    """
    settings: dict[str, object] = {
        "bind": f"fd://{listener.fileno()}",
        "workers": options.workers,
        "worker_class": options.worker_class,
        "loglevel": "warning",
        "accesslog": None,
        "graceful_timeout": 1,  # a browser that keeps its connection open does not delay Ctrl-C
        "control_socket_disable": True,
        "logconfig_dict": {
            "loggers": {"wsgi_oauth": {"level": "INFO", "handlers": ["error_console"], "propagate": False}},
        },
    }
    if options.worker_class == "gthread":
        settings["threads"] = 16  # beside "sync" this would turn it into gthread
    config = folder / "gunicorn.conf.py"
    config.write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    return config


# -- gunicorn --------------------------------------------------------------------------------


@final
class Gunicorn:
    """The application, under a gunicorn of its own: started, watched, stopped.

    :param listener: the socket to serve, gunicorn's own from now on.
    :param config: its configuration file.
    :param environ: its environment, which is the application's configuration.
    :param stop: whose wish to stop is passed on.
    :param echo: pass on what it says to standard error; either way :attr:`said` keeps it.
    """

    def __init__(
        self,
        listener: socket.socket,
        config: Path,
        environ: Mapping[str, str],
        stop: Stop,
        *,
        echo: bool,
    ) -> None:
        self._stop = stop
        self._echo = echo
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", str(config), "wsgi_oauth:get_app()"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C comes to this process, which then stops gunicorn
        )
        # With this copy closed, gunicorn's death ends every connection that waits for an answer.
        listener.close()
        self._reader = threading.Thread(target=self._read, name="gunicorn-output", daemon=True)
        self._reader.start()
        stop.then(self._go)

    @property
    def pid(self) -> int:
        """The number of gunicorn's master process."""
        return self._process.pid

    @property
    def said(self) -> str:
        """All that gunicorn and the application have written so far."""
        return "".join(self._lines)

    @property
    def stopping(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._stop.asked > 0

    def wait_until_ready(self, port: int) -> None:
        """Return when a worker answers. The socket queues the question until there is one."""
        connection = http.client.HTTPConnection(HOST, port, timeout=START_TIMEOUT)
        try:
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise self._reason(f"gunicorn gave no answer ({error})", STOP_TIMEOUT) from error
        finally:
            connection.close()
        if status != http.client.OK:
            raise DemoError(f"the application is not well: /healthz gave {status}.\n{self.said}")

    def wait(self) -> None:
        """Wait until it ends; :class:`DemoError` when nobody asked for that."""
        reason = self._reason("")
        if not isinstance(reason, Stopped):
            raise reason

    def __enter__(self) -> Gunicorn:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop it, wait for it, and leave no worker behind."""
        if not self.stopping:
            self._echo = False
            self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        self._reader.join(STOP_TIMEOUT)
        if self._reader.is_alive():  # a worker outlived its master, and holds the pipe
            self._kill()

    def _go(self) -> None:
        """Ask it to stop; whoever asks again means it. Safe in a signal handler."""
        if self._process.returncode is not None:
            return
        if self._stop.asked > 1:
            self._kill()
        else:
            self._process.terminate()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # with its workers

    def _reason(self, otherwise: str, timeout: float | None = None) -> DemoError | Stopped:
        """Wait for its end, and tell why it came; *otherwise* when it has not, in *timeout* s."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return DemoError(f"{otherwise}.\n{self.said}")
        if self.stopping:
            return Stopped()
        self._reader.join(STOP_TIMEOUT)
        return DemoError(f"gunicorn ended by itself, with status {status}. It said:\n{self.said}")

    def _read(self) -> None:
        assert self._process.stdout is not None  # for the type checker
        with self._process.stdout as lines:
            for line in lines:
                self._lines.append(line)
                if self._echo and not self.stopping:
                    print(line, end="", file=sys.stderr, flush=True)
