"""The number of requests that the WSGI server of this process serves at the same time.

WSGI does not give this number to an application (PEP 3333). It is read from the server's functions on the stack.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

UNLIMITED = sys.maxsize  # the result for servers with a greenlet for each connection


def count_threads() -> int | None:
    """Return the number of threads that serve requests in this process; None for threads of an unknown server.

    Some servers are visible only in a thread that serves a request. In other threads, and in servers that serve one
    request at a time, :data:`UNLIMITED` is returned.
    """
    # Only these servers provide modules of these names.
    for name, attribute in (("uwsgi", "cores"), ("mod_wsgi", "threads_per_process")):
        if isinstance(threads := getattr(sys.modules.get(name), attribute, None), int):
            return threads
    is_multithreaded = _is_multithreaded(sys._getframe())
    for top in (sys._getframe, _main_frame):
        for frame in _stack(top()):
            key = (frame.f_globals.get("__name__"), frame.f_code.co_name)
            # Applications use executors for other purposes, too.
            if key not in _SERVERS or (key == _EXECUTOR and not is_multithreaded):
                continue
            variable, count = _SERVERS[key]
            try:
                return int(count(frame.f_locals[variable]))
            except Exception:  # noqa: BLE001  # another version of the server may differ
                return None
    return None if is_multithreaded else UNLIMITED


def _main_frame() -> FrameType | None:
    """Return the current frame of the main thread, where some servers are visible; None before Python 3.12."""
    # Before, this call can block all threads forever: https://github.com/python/cpython/issues/106883.
    if sys.version_info < (3, 12):
        return None
    return sys._current_frames().get(threading.main_thread().ident or 0)


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_multithreaded(top: FrameType) -> bool:
    """Return whether the server of the request on the stack may serve others in the same process (PEP 3333)."""
    for frame in _stack(top):
        names = frame.f_code.co_varnames
        if "start_response" in names and "environ" in names:
            environ = frame.f_locals.get("environ")
            return isinstance(environ, dict) and bool(environ.get("wsgi.multithread"))
    return False


def _threads_of_gunicorn(worker: Any) -> int:
    modules = {each.__module__ for each in type(worker).__mro__}
    if "gunicorn.workers.gthread" in modules:
        return int(worker.cfg.threads)
    return 1 if "gunicorn.workers.sync" in modules else int(worker.cfg.worker_connections)


_EXECUTOR = ("concurrent.futures.thread", "_worker")  # used by hypercorn and a2wsgi, for example
# The module and the function of a server, one of its variables, and the number of threads from this variable.
_SERVERS: dict[tuple[object, str], tuple[str, Callable[[Any], int]]] = {
    ("gunicorn.workers.base", "init_process"): ("self", _threads_of_gunicorn),
    ("gunicorn.workers.base_async", "handle"): ("self", _threads_of_gunicorn),
    ("waitress.task", "handler_thread"): ("self", lambda dispatcher: len(dispatcher.threads)),
    ("cheroot.workers.threadpool", "run"): ("self", lambda thread: thread.server.requests.min),
    ("granian.server.mp", "_spawn_wsgi_worker"): ("blocking_threads", int),
    ("gevent.pywsgi", "run_application"): ("self", lambda _: UNLIMITED),
    _EXECUTOR: ("executor_reference", lambda reference: reference()._max_workers),
}
