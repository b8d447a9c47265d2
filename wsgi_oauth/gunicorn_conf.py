"""Settings for gunicorn: ``gunicorn -c python:wsgi_oauth.gunicorn_conf`` serves the application.

The WSGI_OAUTH_* variables configure the application. Options on gunicorn's command line override these settings. A
``gunicorn.conf.py`` can begin with them, and change some::

    from wsgi_oauth.gunicorn_conf import *

    workers = 2
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
from typing import Any
from urllib.parse import quote

from gunicorn import glogging
from gunicorn.errors import AppImportError
from gunicorn.http import message

from . import errors
from .config.settings import THREADS
from .events import valid_request_id
from .logs import restore_stderr, write_json
from .metrics import create_folder, forget_process, hand_over_folder

wsgi_app = "wsgi_oauth:get_app()"

# Listen on loopback only, because a proxy in front has to terminate TLS. `--bind` changes that.
bind = f"127.0.0.1:{os.environ.get('PORT') or 8000}"

# Use threads, because a sync worker that waits for the provider serves no other request. At most three quarters of the
# threads wait for it (WSGI_OAUTH_UPSTREAM_LIMIT), so the others serve requests that do not need it.
worker_class = "gthread"
threads = THREADS


WORKER_MEMORY = 64 * 1024 * 1024  # bytes for each worker; one needs 37 MB without an application


def count_processors(cpu_max: str = "/sys/fs/cgroup/cpu.max") -> int:
    """Return how many processors this process may use. A container may use fewer than the machine has.

    :param cpu_max: the file with the limit of the control group: microseconds of CPU time per period, or ``max``.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open(cpu_max) as file:
            used, period = map(int, file.read().split())
    except (OSError, ValueError):  # another system, or no limit
        return count
    return min(count, math.ceil(used / period))


def count_workers(memory_max: str = "/sys/fs/cgroup/memory.max") -> int:
    """Return two workers per processor and one more, which keep the processors busy, or fewer if memory is short.

    A container with a limit of its memory often has no limit of its processors, and could start a hundred workers.

    :param memory_max: the file with the limit of the control group: bytes, or ``max``.
    """
    count = 2 * count_processors() + 1
    try:
        with open(memory_max) as file:
            return max(1, min(count, int(file.read()) // WORKER_MEMORY))
    except (OSError, ValueError):  # another system, or no limit
        return count


# gunicorn's own variable WEB_CONCURRENCY overrides the number. Sessions in memory exist in one process only, so they
# need a single worker.
in_memory = os.environ.get("WSGI_OAUTH_SESSION_STORE", "").startswith("memory")
concurrency = int(os.environ.get("WEB_CONCURRENCY") or 0)
workers = 1 if in_memory else concurrency or count_workers()

# gunicorn kills a worker that has not reported to it for this many seconds. A sync worker does not
# report during a request, so this also limits a request. A callback sends up to six requests to the
# provider, each with a deadline of 10 seconds (WSGI_OAUTH_UPSTREAM_TIMEOUT): for the issuer's
# metadata, the token, the keys, the user document, email addresses and groups.
timeout = 60
# Seconds that running requests have to finish when gunicorn is stopped.
graceful_timeout = 30

# Longer than the idle timeout of proxies (a minute; in Traefik and at Heroku 90 seconds, in Caddy two minutes), because
# the proxy should close a connection first: otherwise it may send a request on a connection that gunicorn is closing.
keepalive = 130

# Load the application once, before the fork. This is safe, because it opens files and sockets only during a request. A
# worker that is replaced later starts with the same settings, even if their files have changed.
preload_app = True


def on_reload(server: Any) -> None:
    """Build the application with the current settings (HUP), before gunicorn starts new workers with it.

    If that fails, the new workers get the previous application, and the log has the reason.
    """
    app, name = server.app, getattr(server.app, "app_uri", "")
    if not server.cfg.preload_app:
        return  # each worker loads the application itself
    if not name.endswith(")"):
        text = "HUP: %s keeps its settings, because it is a variable; serve a function instead, such as myapp:create()"
        server.log.warning(text, name)
        return
    try:
        app.callable = app.load()
    except (Exception, SystemExit) as error:  # the function of an application can raise anything
        text = "HUP: %s keeps its previous settings, because the new ones are invalid:\n%s"
        reason = str(error).removeprefix("wsgi_oauth cannot start:\n")
        server.log.error(text, name, reason, exc_info=not isinstance(error, errors.Error))  # noqa: TRY400
    else:
        server.log.info("HUP: %s has the new settings", name)


# Count in a folder that all workers share. It has to exist before the application is loaded.
if os.environ.get("WSGI_OAUTH_METRICS", "").strip() == "yes":
    create_folder()


def on_starting(server: Any) -> None:
    """Give the folder of the metrics to the user of the workers (`--user`), and log an ignored WEB_CONCURRENCY."""
    if in_memory and server.cfg.workers == 1 < concurrency:
        text = (
            "WEB_CONCURRENCY: ignored, because the sessions of WSGI_OAUTH_SESSION_STORE=memory: exist in one process "
            "only (got %d); set file:/a/folder or redis://host for several workers"
        )
        server.log.warning(text, concurrency)
    hand_over_folder(server.cfg.uid, server.cfg.gid)


def child_exit(server: Any, worker: Any) -> None:
    """Remove a worker that has ended from the metrics of living workers."""
    forget_process(worker.pid)


def post_worker_init(worker: Any) -> None:
    """Stop the start if this worker cannot use the session folder, which gunicorn's main process may have created.

    With `--user`, workers run as another user than the main process, with the same HOME.
    """
    check_store_access = getattr(worker.wsgi, "check_store_access", None)
    if check_store_access is not None:
        try:
            check_store_access()
        except Exception as error:
            raise AppImportError(f"wsgi_oauth cannot start:\n{error}") from error


# Log the path only, because the query string of a callback contains the authorization code, and so may a Referer.
accesslog = "-"
# The last field is the id that an error page and the application's log show, or `-`.
access_log_format = '%(h)s %(t)s "%(m)s %(U)s" %(s)s %(B)s %(M)sms %(request_id)s'


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no types
    """Keeps secrets of requests out of gunicorn's logs, and prevents clients from injecting log lines."""

    def setup(self, cfg: Any) -> None:
        """Create the handlers, for text or JSON as in ``WSGI_OAUTH_LOG_FORMAT``.

        The application's log has the handlers of gunicorn's error log: stderr, the file of ``errorlog``, syslog.
        """
        restore_stderr()
        if cfg.logconfig or cfg.logconfig_json:
            cfg.set("logconfig_dict", {})  # otherwise gunicorn would ignore these files
        super().setup(cfg)
        application = logging.getLogger("wsgi_oauth")
        if not application.handlers and not application.propagate:  # unless another logconfig_dict has handlers for it
            application.handlers = [*self.error_log.handlers]
        if os.environ.get("WSGI_OAUTH_LOG_FORMAT", "").strip() == "json":
            write_json("", "gunicorn.error", "gunicorn.access", "wsgi_oauth")

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> dict[str, Any]:
        """Percent-encode the path, because the decoded path can contain line breaks, and add the id of the request."""
        # Middleware may have moved a part of PATH_INFO to SCRIPT_NAME, so only both together are the requested path.
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        path = quote(path.encode("latin-1"))
        atoms = super().atoms(resp, req, environ, request_time)
        # A response of the sign-in contains the id. For other responses, it is the id from a trusted proxy.
        request_id = valid_request_id(atoms.get("{x-request-id}o", ""))
        if not request_id and os.environ.get("WSGI_OAUTH_TRUSTED_PROXIES", "").strip() not in {"", "0"}:
            request_id = valid_request_id(environ.get("HTTP_X_REQUEST_ID", ""))
        # On a Unix socket, a client has no address.
        return {**atoms, "h": atoms["h"] or "-", "U": path, "request_id": request_id or "-"}

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Cut the query string from the URI, because gunicorn logs the URI of a request that a timeout has ended."""
        super().exception(msg, *map(redact, args), **kwargs)

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log only the type of the error, because gunicorn would quote the malformed line with its code or cookie."""
        kind = getattr(sys.exc_info()[0], "__name__", "malformed")
        msg = re.sub(r"(Invalid request from ip=\S*:).*", rf"\1 {kind}", str(msg), flags=re.DOTALL)
        super().warning(msg, *map(redact, args), **kwargs)

    def debug(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Remove the data of incomplete requests, which gunicorn would quote."""
        super().debug(msg, *map(redact, args), **kwargs)


def redact(arg: Any) -> Any:
    """Return *arg* as printable ASCII without its query string. Errors that quote a request become their name."""
    if type(arg).__module__ == "gunicorn.http.errors":
        return type(arg).__name__
    return ascii(str(arg).partition("?")[0])[1:-1] if isinstance(arg, (str, Exception)) else arg


logger_class = Logger

# gunicorn would trust X-Forwarded-Proto from loopback. The application decides itself (WSGI_OAUTH_TRUSTED_PROXIES).
forwarded_allow_ips = ""

# The request line of a callback contains an authorization code of up to 8 KiB (Entra ID and AD FS
# issue codes of several thousand characters). gunicorn's own maximum is 8190 bytes, and its only
# larger value is 0, which sets no limit at all.
message.MAX_REQUEST_LINE = limit_request_line = 16 * 1024

# The Cookie header also contains the cookies of the protected application. gunicorn's default is 8190 bytes.
limit_request_field_size = 16 * 1024

# Disable gunicorn's control socket, because nothing uses it.
control_socket_disable = True

# The handlers of the application's log are those of gunicorn's error log (see Logger.setup).
logconfig_dict = {"loggers": {"wsgi_oauth": {"level": "INFO", "propagate": False}}}
