"""Redirects of browsers, and of scripts in a page."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from werkzeug import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.datastructures import Headers

    from .request import Request


class Redirect(Response):
    """A redirect to *location*, in which characters that are not allowed in a URL are percent-encoded.

    Werkzeug's own encoding removes some control characters, which changes the target, and costs as much as a response.
    """

    def __init__(self, location: str, code: int = 302) -> None:
        encoded = quote(location, safe="!#$%&'()*+,/:;=?@[]~")
        headers = [("Location", encoded), ("Content-Type", "text/plain"), ("Content-Length", "0")]
        super().__init__(status=code, headers=headers)

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        if not self.response:
            return self.headers
        if self.headers["Content-Length"] == "0":  # the handler added a body after __init__
            del self.headers["Content-Length"]
        return super().get_wsgi_headers(environ)


def redirect_script(request: Request, response: Response, url: str, *, passes_on: bool = True) -> None:
    """Let a script of htmx or Inertia open *url* as a page, because the script would not show *response*.

    :param passes_on: whether the browser gets the status of *response*. nginx takes other ones than 401 for failures.
    """
    if request.is_htmx:
        response.headers["HX-Redirect"] = url  # https://htmx.org/headers/hx-redirect/
    elif request.is_inertia and passes_on:
        # https://inertiajs.com/docs/v2/the-basics/redirects#external-redirects
        response.status_code = 409
        response.headers["X-Inertia-Location"] = url
