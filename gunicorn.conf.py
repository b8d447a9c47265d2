"""gunicorn reads this file by itself: `gunicorn` in this folder serves the application.

The application is set up by the WSGI_OAUTH_* variables. Options on gunicorn's command line win over what stands here.
"""

import multiprocessing
import os
import re
import sys
from urllib.parse import quote

from gunicorn import glogging

wsgi_app = "wsgi_oauth:get_app()"

# Loopback: whoever opens the application to others says so (--bind), and puts TLS in front.
bind = f"127.0.0.1:{os.environ.get('PORT', '8000')}"

# A thread that waits for a provider costs nothing; a sync worker that waits answers nobody else. At most 12 of these
# threads wait at a time (WSGI_OAUTH_UPSTREAM_LIMIT), so that the others serve those who do not need the provider.
worker_class = "gthread"
threads = 16

# Two for each processor and one more keep it busy while some wait. WEB_CONCURRENCY, gunicorn's own variable, wins.
# Sessions in memory belong to one process, so then there is one.
in_memory = os.environ.get("WSGI_OAUTH_SESSION_STORE", "").startswith("memory")
workers = 1 if in_memory else int(os.environ.get("WEB_CONCURRENCY") or 2 * multiprocessing.cpu_count() + 1)

# A worker that gives no sign of life for so long is killed. One with threads gives some while they wait; a sync one
# does not, so there this is also the longest that a request may take: five answers of the provider at 10 seconds
# (WSGI_OAUTH_UPSTREAM_TIMEOUT), which are its endpoints, the token, the user, and with rules two lists.
timeout = 60
# A request that is under way when gunicorn is stopped has so long to end.
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
        super().exception(msg, *map(harmless, args), **kwargs)

    def warning(self, msg, *args, **kwargs):
        """Of a malformed request gunicorn would quote what is wrong with it: a line with the code, or the cookie."""
        kind = getattr(sys.exc_info()[0], "__name__", "malformed")
        msg = re.sub(r"(Invalid request from ip=\S*:).*", rf"\1 {kind}", str(msg), flags=re.DOTALL)
        super().warning(msg, *map(harmless, args), **kwargs)

    def debug(self, msg, *args, **kwargs):
        """Of a request that ends early it would quote all there is."""
        super().debug(msg, *map(harmless, args), **kwargs)


def harmless(arg):
    """Cut what follows a question mark, name errors that quote a request, and let nothing through that is not
    printable ASCII.
    """
    if type(arg).__module__ == "gunicorn.http.errors":
        return type(arg).__name__
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
