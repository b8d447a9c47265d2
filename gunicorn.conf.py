"""gunicorn reads this file by itself: `gunicorn` in this folder serves the application.

The application is set up by the WSGI_OAUTH_* variables. Options on gunicorn's command line win over what stands here.
"""

import multiprocessing
import os
from urllib.parse import quote

from gunicorn import glogging

wsgi_app = "wsgi_oauth:get_app()"

# Loopback: whoever opens the application to others says so (--bind), and puts TLS in front.
bind = f"127.0.0.1:{os.environ.get('PORT', '8000')}"

# A thread that waits for a provider costs nothing; a sync worker that waits answers nobody else. At most 12 of these
# threads wait at a time (WSGI_OAUTH_UPSTREAM_LIMIT), so that the others serve who does not need the provider.
worker_class = "gthread"
threads = 16

# Two for each processor and one more keep it busy while some wait. WEB_CONCURRENCY, gunicorn's own variable, wins.
# Sessions in memory belong to one process, so then there is one.
in_memory = os.environ.get("WSGI_OAUTH_SESSION_STORE", "").startswith("memory")
workers = 1 if in_memory else int(os.environ.get("WEB_CONCURRENCY") or 2 * multiprocessing.cpu_count() + 1)

# Longer than the slowest request may take: a callback waits for one answer of the provider, a second copy of it a
# little longer. Who raises WSGI_OAUTH_UPSTREAM_TIMEOUT above 25 raises this, too.
timeout = 60
graceful_timeout = 30

# Proxies in front keep idle connections for a minute or so; who closes first should be them.
keepalive = 75

# The application opens no file, socket or lock before the fork, so it may be loaded once and shared.
preload_app = True

# The request line of a callback carries the authorization code, and a Referer may, too: the path alone is logged.
accesslog = "-"
access_log_format = '%(h)s %(t)s "%(m)s %(U)s" %(s)s %(B)s %(M)sms'


class Logger(glogging.Logger):
    """gunicorn's own, for what a client must not be able to write into a log, and a log must not keep."""

    def atoms(self, resp, req, environ, request_time):
        """The path is logged percent-encoded: decoded, it could hold line breaks."""
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")  # whoever has moved one into the other
        path = quote(path.encode("latin-1"))
        return {**super().atoms(resp, req, environ, request_time), "U": path}

    def exception(self, msg, *args, **kwargs):
        """A request that a timeout has ended is logged with its URI: without the query, where the code is."""
        super().exception(msg, *map(without_query, args), **kwargs)

    def warning(self, msg, *args, **kwargs):
        """A request line that is malformed is logged, too."""
        super().warning(msg, *map(without_query, args), **kwargs)


def without_query(arg):
    """Cut what follows a question mark, and let nothing through that is not printable ASCII."""
    return ascii(str(arg).partition("?")[0])[1:-1] if isinstance(arg, (str, Exception)) else arg


logger_class = Logger

# The application decides whom it trusts (WSGI_OAUTH_TRUSTED_PROXIES). gunicorn on its own believes X-Forwarded-Proto
# from loopback.
forwarded_allow_ips = ""

# An authorization response has few and short parameters; 4 KiB in one is already more than any provider sends.
limit_request_line = 8190

# Nothing of gunicorn needs to be commanded while it runs, so nobody should be able to.
control_socket_disable = True

# Sign-ins, refusals and failures belong into the log, beside gunicorn's own.
logconfig_dict = {
    "loggers": {
        "wsgi_oauth": {"level": "INFO", "handlers": ["error_console"], "propagate": False},
    },
}
