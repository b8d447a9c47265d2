"""The request: Werkzeug's, with the browser's session and with the checks that a sign-in needs."""

from __future__ import annotations

import hmac
import io
import re
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import IO
from urllib.parse import urlsplit

import werkzeug
from werkzeug.datastructures import LanguageAccept, MIMEAccept, MultiDict
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.http import parse_accept_header
from werkzeug.utils import cached_property  # functools.cached_property has a global lock before Python 3.12

from .. import errors
from ..events import ACCESS, REQUEST_ID_KEY, Source
from ..sessions.cookie import CookieNames
from ..sessions.session import Session
from ..texts import Texts, texts_for
from ..urls import have_same_origin
from .page_templates import PageTemplates
from .site import Site, local_path, path_and_query

_ACCEPT_OF_JAVA = "text/html, image/gif, image/jpeg, "  # java.net.HttpURLConnection, also in Ivy and Jenkins
_FEED = "application/rss+xml"  # feed readers accept pages, too, because a page can name its feed
_HTML_WITH_QUALITY = re.compile(r"text/html\s*;\s*q=")
# A browser without Fetch Metadata sends one of these headers with the requests of a page's scripts and images.
_HEADERS_OF_SUBRESOURCES = {"HTTP_REFERER", "HTTP_ORIGIN", "HTTP_X_REQUESTED_WITH"}
GATE_PREFIX_KEY = "wsgi_oauth.gate_prefix"  # in environ; set by the gate
MAX_ACCEPT = 1000  # characters of Accept and Accept-Language that are read; Werkzeug needs 5 ms for 8,000
MAX_BODY = 64 * 1024  # bytes; the sign-in itself reads no body
_PREFETCH_HEADERS = ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_MOZ", "HTTP_X_PURPOSE")
_NAVIGATION_DESTINATIONS = {"document", "iframe", "frame", "empty"}  # Sec-Fetch-Dest
_SAME_ORIGIN = {"same-origin", "none"}  # values of Sec-Fetch-Site; browsers send "none" for a typed address


class Request(werkzeug.Request):
    """A request, with ``session``: the session of the browser that sent it."""

    max_content_length = MAX_BODY
    max_form_memory_size = MAX_BODY

    base: str = ""  # the URL of the mount point, without a trailing slash; empty until the host has been checked
    next_url: str = ""  # the page to which a sign-in returns, as a path of this site
    permits_tokens: bool = False  # whether programs can use access tokens of this application; set by the gate
    is_program: bool = False  # whether a program with an access token sent this request; set by the gate
    site: Site = Site(None)  # the URLs of the application; set by OAuthApp, as are the next four
    templates: PageTemplates  # the templates of the pages
    application_name: str = ""  # the value of ``WSGI_OAUTH_NAME``
    open_session: Callable[[Request], Session]  # opens the session
    open_pending: Callable[[Request, str], Session]  # opens the pending session of the sign-in with this state
    pending: Session | None = None  # the pending session that this request has opened
    is_form_post: bool = False  # whether the authorization response is a form that the browser posts (``form_post``)
    cancels_pending: bool = False  # whether this request cancels the pending sign-ins of the browser
    event_name: str = ACCESS  # the name of the audit event if this request fails; set by OAuthApp and by handlers
    has_handler: bool = False  # whether a handler has the path and the method of this request
    has_ended_session: bool = False  # whether this request has ended its session, because its token was rejected
    has_used_state: bool = False  # whether this request has used the pending session's state

    @cached_property
    def args(self) -> MultiDict[str, str]:
        """The parameters of the query. Raises UserError if the query is not UTF-8."""
        if not self.environ.get("QUERY_STRING"):
            return MultiDict()
        try:
            return super().args
        except UnicodeDecodeError:
            raise errors.UserError("query: not UTF-8") from None

    @cached_property
    def accept_mimetypes(self) -> MIMEAccept:
        """The formats that the client can read (RFC 9110 12.5.1)."""
        return parse_accept_header(_shorten(self.headers.get("Accept", "")), MIMEAccept)

    @cached_property
    def accept_languages(self) -> LanguageAccept:
        """The languages that the user can read (RFC 9110 12.5.4)."""
        return parse_accept_header(_shorten(self.headers.get("Accept-Language", "")), LanguageAccept)

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body, of at most MAX_BODY bytes.

        A chunked body is read here, because Werkzeug would truncate it at the limit and would accept an incomplete one.
        """
        if not self.environ.get("wsgi.input_terminated"):
            return super().stream
        body = b""
        try:
            while len(body) <= MAX_BODY and (part := self.environ["wsgi.input"].read(MAX_BODY + 1 - len(body))):
                body += part
        except Exception:  # noqa: BLE001  # servers raise different exceptions, which quote the malformed chunk
            raise ClientDisconnected from None
        if len(body) > MAX_BODY:
            raise RequestEntityTooLarge
        if len(body) < (self.content_length or 0):
            raise ClientDisconnected
        return io.BytesIO(body)

    def check_content_length(self) -> None:
        """Raise RequestEntityTooLarge if the body has more than MAX_BODY bytes, before it is read."""
        if "CONTENT_LENGTH" in self.environ and (self.content_length or 0) > MAX_BODY:
            raise RequestEntityTooLarge

    @cached_property
    def session(self) -> Session:
        """The session of this browser. It is opened when it is first used, and stored after the handler's answer."""
        return self.open_session(self)

    def pending_session(self, state: str) -> Session:
        """Return the pending session of the sign-in with this *state*. It is stored after the handler's answer.

        It has a cookie of its own: otherwise tabs that start at the same moment would overwrite each other's cookie.
        """
        self.pending = self.open_pending(self, state)
        return self.pending

    @property
    def has_opened_session(self) -> bool:
        """Return whether this request has used its session."""
        return "session" in self.__dict__

    @cached_property
    def current_url(self) -> str:
        """The requested path and query as the browser's address bar shows them, mount prefix included."""
        return path_and_query(self.base, self.environ.get("PATH_INFO", ""), self.environ.get("QUERY_STRING", ""))

    @property
    def page_url(self) -> str:
        """The path and query of the page that the user sees: this one, or the page that sent the request."""
        if self.method in {"GET", "HEAD"} and not self.is_htmx:
            return self.current_url
        referrer = self.headers.get("HX-Current-URL" if self.is_htmx else "Referer", "")
        return urlsplit(referrer)._replace(scheme="", netloc="").geturl() if self.is_own_url(referrer) else ""

    @property
    def return_url(self) -> str:
        """The page to which a sign-in returns: this one, or the page that sent the request; "" if it is unknown."""
        return local_path(self.page_url) or ""

    @cached_property
    def texts(self) -> Texts:
        return texts_for(self)

    @cached_property
    def id(self) -> str:
        """The id of this request, for the log and the error page."""
        return self.environ.get(REQUEST_ID_KEY) or secrets.token_hex(8)

    @property
    def method_and_path(self) -> str:
        """The method and the path for the log, without the query, which can contain a code and a state."""
        return f"{self.method} {self.root_path}{self.path}"

    @property
    def source(self) -> Source:
        return Source(self.id, self.remote_addr or "")

    @cached_property
    def cookie_names(self) -> CookieNames:
        return self.site.cookie_names(self.base)

    @property
    def is_further_site(self) -> bool:
        """Return whether the request is for one of ``WSGI_OAUTH_SITES``, where users get a session by a ticket."""
        return self.site.is_further(self.base)

    @property
    def wants_json(self) -> bool:
        """Return whether the client prefers JSON to HTML (RFC 9110 12.5.1)."""
        accepted = self.accept_mimetypes
        return bool(accepted) and accepted.best_match(["text/html", "application/json"], "") == "application/json"

    @property
    def is_navigation(self) -> bool:
        """Return whether a user waits for a page. Scripts and images load data instead (Fetch Metadata)."""
        environ = self.environ
        if self.is_program or environ.get("HTTP_SEC_FETCH_MODE", "navigate") != "navigate":
            return False
        # Scripts send XMLHttpRequest in this header, and Android's WebView in each navigation the name of its app, such
        # as com.example.app.
        is_script = "." not in environ.get("HTTP_X_REQUESTED_WITH", ".") or self.is_htmx
        accept = environ.get("HTTP_ACCEPT", "")
        if is_script or "text/html" not in accept or accept.startswith(_ACCEPT_OF_JAVA) or _FEED in accept:
            return False
        if not _HTML_WITH_QUALITY.search(accept):  # nearly always, and parsing is slow
            return True
        # pip and uv accept HTML as the last choice. Without a 401, they would not ask a keyring for a password.
        accepted = self.accept_mimetypes
        return bool(accepted.quality("text/html") >= max((quality for _, quality in accepted), default=0))

    @property
    def wants_page(self) -> bool:
        """Return whether a user waits for an HTML page."""
        return self.is_navigation and not self.wants_json

    @property
    def is_browser(self) -> bool:
        """Return whether a browser sent this request, for which a challenge would open a password dialog.

        Zotero, Thunderbird, PowerShell and KDE's file manager send the user agent of a browser, too. But they accept no
        HTML, and send none of the headers that a browser adds for the scripts and images of a page.
        """
        environ = self.environ
        if any(name.startswith("HTTP_SEC_FETCH_") for name in environ):
            return True
        accepts_page = self.method in {"GET", "HEAD", "POST"} and "text/html" in environ.get("HTTP_ACCEPT", "")
        has_agent = "Mozilla/" in environ.get("HTTP_USER_AGENT", "")
        return has_agent and (accepts_page or not _HEADERS_OF_SUBRESOURCES.isdisjoint(environ))

    @property
    def is_office(self) -> bool:
        """Return whether Microsoft Office resolves a link in a document, before the browser opens it.

        Office follows redirects with cookies of its own, and then lets the browser open the last URL:
        https://learn.microsoft.com/office/troubleshoot/office-suite-issues/click-hyperlink-to-sso-website
        """
        agent = self.environ.get("HTTP_USER_AGENT", "").lower()
        return "ms-office" in agent or "msoffice" in agent or "microsoft office" in agent

    @property
    def challenge(self) -> str:
        """The value of ``WWW-Authenticate`` in a 401 (RFC 9110 15.5.2).

        Many programs send a user name and a password only after a challenge (RFC 7617 2). Browsers would open a
        password dialog. No browser reacts to ``Bearer``.
        """
        if not self.permits_tokens or self.is_browser:
            return "Bearer"
        return f'Basic realm="{urlsplit(self.base).hostname}", charset="UTF-8"'

    @property
    def is_htmx(self) -> bool:
        """Return whether htmx sent this request for a part of a page (https://htmx.org/reference/#request_headers)."""
        return self.environ.get("HTTP_HX_REQUEST") == "true"

    @property
    def is_inertia(self) -> bool:
        """Return whether Inertia sent this request for a page (https://inertiajs.com/docs/v2/core-concepts/the-protocol)."""
        return self.environ.get("HTTP_X_INERTIA") == "true"

    @property
    def front_page(self) -> str:
        """The URL of the application that the gate protects; without a gate, the URL that starts a sign-in."""
        return self.base.rsplit("/", self.gate_prefix.count("/"))[0] + "/"

    @property
    def gate_prefix(self) -> str:
        """The path below which a gate has mounted the sign-in; empty without a gate."""
        return str(self.environ.get(GATE_PREFIX_KEY, ""))

    @property
    def prefix_advice(self) -> str:
        """The end of a log message about an unknown request, which may be meant for the application behind the gate."""
        if not self.gate_prefix:
            return ""
        return (
            f"; paths below {self.gate_prefix} belong to the sign-in: if the application has such paths, pass another "
            "prefix to LoginRequired"
        )

    @property
    def is_prefetch_or_subresource(self) -> bool:
        """Return whether a browser prefetches this URL, or loads it as a part of another page.

        Such a request must not start or finish a sign-in. That includes frames and scripts of other sites.
        """
        environ = self.environ
        destination = environ.get("HTTP_SEC_FETCH_DEST", "document")
        if destination == "empty" and self.method == "GET" and self.is_navigation:
            destination = "document"  # a service worker of this site passes a navigation on
        if destination not in _NAVIGATION_DESTINATIONS:
            return True
        if destination != "document" and environ.get("HTTP_SEC_FETCH_SITE", "none") not in _SAME_ORIGIN:
            return True
        purposes = " ".join([environ.get(name, "") for name in _PREFETCH_HEADERS]).lower()
        return "prefetch" in purposes or "preview" in purposes

    @property
    def is_same_origin(self) -> bool:
        """Return whether the request comes from a page of this site, or from a program that is not a browser.

        Browsers send ``Sec-Fetch-Site``, ``Origin`` or ``Referer`` with every POST. A request with
        none of them comes from a program, whose cookies no other site can abuse.
        """
        site = self.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site in _SAME_ORIGIN
        source = self.headers.get("Origin") or self.headers.get("Referer")
        return source is None or self.is_own_url(source)

    @property
    def form_token(self) -> str:
        """The secret token of this site's forms, against CSRF. Empty without a stored session."""
        session_id, site = self.session.id, self.cookie_names.site
        return sha256(f"wsgi_oauth: form {site}{session_id}".encode()).hexdigest() if session_id else ""

    @property
    def has_form_token(self) -> bool:
        """Return whether a form of this site has sent this request.

        Browsers without ``Sec-Fetch-Site`` need it, because they send ``Origin: null`` from a page with
        ``Referrer-Policy: no-referrer`` (Fetch, "append a request `Origin` header").
        """
        expected, given = self.form_token, self.form.get("token", "")
        return bool(expected) and hmac.compare_digest(expected.encode(), given.encode(errors="replace"))

    def is_own_url(self, url: str) -> bool:
        return have_same_origin(url, self.base)


def _shorten(header: str) -> str:
    """Return the list in *header* without the members that exceed MAX_ACCEPT characters."""
    return header if len(header) <= MAX_ACCEPT else header[:MAX_ACCEPT].rpartition(",")[0]
