"""``wsgi-oauth check --public``: request the application at its public URL, as browsers do.

Some mistakes of the proxies between browsers and the application can be seen only from outside: a wrong Host header,
prefix or scheme, and a wrong number of trusted proxies. The command stores a token in the session store and sends it to
``/readyz``. The application finds the token in its store, and describes the request that it received. A request with
forged headers shows whether the application believes clients.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import requests

from .. import errors
from ..config import Config
from ..config.settings import variable_name
from ..sessions.cookie import FORM_POST
from ..sessions.memory import MemoryStore
from ..sessions.store import SessionStore, store_key
from ..transport.adapter import BoundedAdapter
from ..urls import Origin
from ..version import USER_AGENT
from ..web.application import OAuthApp
from ..web.health import CHECK_HEADER, CHECK_QUERY, stored_check_token
from .finding import Finding, fail, ok, warn

TIMEOUT = 15.0  # seconds for one request
FORGED_HOST = "forged-by-wsgi-oauth-check.invalid"  # RFC 6761 6.4
FORGED_CLIENT = "192.0.2.1"  # reserved for documentation (RFC 5737 3)
_FORGED_VALUES = 6  # per header: with too many trusted proxies, the application would use one of them

_NO_UPSTREAM = {502, 503, 504}


class PublicCheck:
    """The check of an application from outside, with the settings and the session store of this shell."""

    def __init__(self, config: Config, app: OAuthApp, store: SessionStore) -> None:
        self._config = config
        self._app = app
        self._store = store
        self._adapter = BoundedAdapter()

    def findings(self) -> Iterator[Finding]:
        """Check the main site, then the further sites."""
        if not self._config.public_url:
            text = "public URL: not set, so the application cannot be requested from outside"
            yield fail(text, "set WSGI_OAUTH_PUBLIC_URL to the URL of the application as browsers see it")
            return
        for url in (self._config.public_url, *self._app.site.further_urls.values()):
            try:
                with stored_check_token(self._store) as token:
                    yield from self._check_site(url, token)
            except errors.StoreError as error:
                yield fail(f"public URL {url}: {error}")
            except errors.ProviderError as error:  # from the transport; the "provider" is the application here
                remedy = error.remedy
                if isinstance(error, errors.TlsFailed):
                    remedy = f"install a valid certificate for this host, with its chain; or {remedy}"
                yield fail(f"public URL {url}: {error.detail}", remedy)

    def _check_site(self, url: str, token: str) -> Iterator[Finding]:
        response = self._get(f"{url}/readyz?{CHECK_QUERY}", {CHECK_HEADER: token, "Cookie": "check=1"})
        problem = self._find_problem(url, response)
        if problem:
            yield problem
            return
        seen = _read_description(response)
        if seen is not None:
            yield from self._check_request(url, seen, token)
        else:
            why = f"the application uses another session store than this shell ({self._config.store_name}), "
            why += "or an older version"
            if isinstance(self._store, MemoryStore):
                why = "only the application's own process can read its sessions in memory (memory:)"
            text = f"public URL {url}: answers, but the proxies cannot be checked: {why}"
            yield warn(text, "run this command as the application's user, with the application's environment")
        if url == self._config.public_url:
            yield from self._check_start(url)
        yield from self._check_plain_http(url)

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Request *url*, and follow no redirect. Raise ProviderError when the request fails."""
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json", **headers}
        request = requests.Request("GET", url, headers=headers).prepare()
        return self._adapter.exchange(request, time.monotonic() + TIMEOUT)

    def _find_problem(self, url: str, response: requests.Response) -> Finding | None:
        """Return the problem if *response* is not the answer of a working application, otherwise None."""
        document, status = _read_json(response), response.status_code
        if status == 200 and document.get("status") == "ready":
            return None
        path = urlsplit(url).path
        text, remedy = f"another application answers (status {status})", "compare the URL with the proxy's settings"
        location = response.headers.get("Location", "")
        if {"error", "id"} <= document.keys():
            text = f"the application answers with status {status}, {document['error']!a}"
            remedy = f"look for {document['id']!a} in the application's log, which explains it"
            if path and document["error"] in {"configuration", "not_found"}:
                remedy = (
                    f"let the proxy remove {path} (nginx: `location {path}/ {{ proxy_pass http://backend/; }}`, with a "
                    f"slash at the end), or correct the path of WSGI_OAUTH_PUBLIC_URL; otherwise {remedy}"
                )
            if document["error"] == "not_signed_in":  # an answer of /verify, because /readyz does not need a user
                text = "the proxy requires a signed-in user for the sign-in itself"
                remedy = (
                    "correct the path of WSGI_OAUTH_PUBLIC_URL (in the recipes: /auth), or let the proxy pass on "
                    f"requests for {path}/ without asking /verify"
                )
        elif status in _NO_UPSTREAM:
            text = f"the proxy does not reach the application (status {status})"
            remedy = "start the application, and compare the proxy's target with gunicorn's --bind"
        elif location:
            text = f"redirects to {location[:200]!a} (status {status})"
            remedy = "set WSGI_OAUTH_PUBLIC_URL to the URL at which the redirects end, or correct the proxy"
        elif status == 404:
            text = "the application does not answer at this path (status 404)"
            remedy = (
                f"let the proxy send {path}/ to the application and remove {path} (nginx: `location {path}/ {{ "
                "proxy_pass http://backend/; }`), or correct the path of WSGI_OAUTH_PUBLIC_URL"
                if path
                else "let the proxy send all paths to the application, or add its mount prefix to WSGI_OAUTH_PUBLIC_URL"
            )
        elif status in {401, 403}:
            text = f"something in front of the application refuses the request (status {status})"
            remedy = f"let the proxy pass requests for {path}/ without a sign-in of its own"
        return fail(f"public URL {url}: {text}", remedy)

    # The request that the application receives

    def _check_request(self, url: str, seen: Mapping[str, Any], token: str) -> Iterator[Finding]:
        """Compare the application's view of a request with this shell's settings."""
        proxies = seen["settings"]["trusted_proxies"]
        for setting in ("public_url", "trusted_proxies", "sites", "allow"):
            here, there, name = getattr(self._config, setting), seen["settings"][setting], variable_name(setting)
            here = list(here) if isinstance(here, tuple) else here
            if here != there:
                text = f"public URL {url}: the application runs with {name}={there}, and this shell has {here}"
                yield fail(text, "restart the application, or run this command with its environment")
        request, counts = seen["request"], seen["request"]["forwarded"]
        host, expected = urlsplit(f"//{request['host']}").hostname, Origin.of(url)
        if host != expected.host:
            text = f"Host: the application sees {host!a} in place of {expected.host!a}, and refuses all requests"
            remedy = "let the proxy pass the Host header on (nginx: `proxy_set_header Host $host;`), or send "
            yield fail(text, f"{remedy}X-Forwarded-Host and set WSGI_OAUTH_TRUSTED_PROXIES")
        if 0 < proxies <= counts["Proto"] and request["scheme"] != expected.scheme:
            text = f"scheme: the proxy reports {request['scheme']}, and browsers use {expected.scheme}"
            remedy = "let the outermost proxy set X-Forwarded-Proto, and the others pass it on; each of the "
            yield fail(text, f"{remedy}WSGI_OAUTH_TRUSTED_PROXIES={proxies} adds one value")
        for part, arrives in (("the query does", request["has_query"]), ("cookies do", request["has_cookie"])):
            if not arrives:
                text = f"public URL {url}: {part} not arrive unchanged at the application, so sign-ins fail"
                remedy = "let proxies, caches and delivery networks pass the query and the Cookie header on as they are"
                yield fail(text, remedy)
        yield from self._check_proxies(url, proxies, request, token)

    def _check_proxies(self, url: str, proxies: int, seen: Mapping[str, Any], token: str) -> Iterator[Finding]:
        """Compare the number of trusted proxies with *seen*, an ordinary request, and send forged headers."""
        reported = seen["forwarded"]["For"]
        # The keys of the application's description, and the values of the headers.
        forged = {
            "X-Forwarded-Host": ("host", FORGED_HOST),
            "X-Forwarded-Proto": ("scheme", "http" if seen["scheme"] == "https" else "https"),
            "X-Forwarded-For": ("client", FORGED_CLIENT),
        }
        headers = {name: ", ".join([value] * _FORGED_VALUES) for name, (_, value) in forged.items()}
        response = self._get(f"{url}/readyz", {CHECK_HEADER: token, **headers})
        description = _read_description(response)
        if description is None:
            text = f"proxies: a request with X-Forwarded-* headers is answered with status {response.status_code}, "
            text += "so it is unknown whether the application believes them"
            yield warn(text, "compare WSGI_OAUTH_TRUSTED_PROXIES with the number of proxies that set these headers")
            return
        believed = [name for name, (key, value) in forged.items() if description["request"][key] == value]
        if believed:
            text = f"proxies: the application believes {', '.join(believed)} of any client (trusted proxies: {proxies})"
            remedy = "let the outermost proxy replace these headers (nginx: `proxy_set_header X-Forwarded-Host $host;`"
            remedy += ", X-Forwarded-Proto $scheme, X-Forwarded-For $remote_addr)"
            if reported < proxies:
                remedy = f"set WSGI_OAUTH_TRUSTED_PROXIES={reported}, the number that set X-Forwarded-For; or {remedy}"
            yield fail(text, remedy)
        elif reported > proxies:
            text = f"proxies: {reported} set X-Forwarded-For, but {proxies} are trusted, so the log names a proxy"
            if not proxies:
                text += ", and a sign-in that /verify requires does not return to the requested page"
            yield warn(text, f"set WSGI_OAUTH_TRUSTED_PROXIES={reported} if all of them are yours")
        elif reported < proxies:
            text = f"proxies: {proxies} are trusted, but {reported} set X-Forwarded-For"
            yield warn(text, f"set WSGI_OAUTH_TRUSTED_PROXIES={reported}, or correct the proxies")
        else:
            text = f"public URL {url}: host, path and scheme arrive unchanged; trusted proxies: {proxies}"
            yield ok(f"{text}; forged X-Forwarded-* headers have no effect")

    # The start of a sign-in

    def _check_start(self, url: str) -> Iterator[Finding]:
        """Start a sign-in as a browser does, and compare its redirect with the settings."""
        provider = self._config.providers[0]
        registration = next(iter(self._app.oauth.registrations.values()))
        query = f"?{urlencode({'provider': provider.label})}" if provider.label else ""
        browser = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        # The second answer reveals a cache, which would give the state and the cookie of one user to all others.
        first, response = self._get(f"{url}/{query}", browser), self._get(f"{url}/{query}", browser)
        try:
            location = urlsplit(response.headers.get("Location", ""))
        except ValueError:
            location = urlsplit("")
        parameters = {name: values[0] for name, values in parse_qs(location.query).items()}
        redirect_uri = f"{url}/callback" + (f"/{provider.label}" if provider.label else "")
        if location.netloc == urlsplit(url).netloc and location.path.rstrip("/") == urlsplit(url).path:
            text = f"sign-in: {url}/ redirects to itself, because the application sees plain http"
            remedy = "let the proxy set X-Forwarded-Proto to the scheme that browsers use, and correct "
            yield fail(text, f"{remedy}WSGI_OAUTH_TRUSTED_PROXIES")
            return
        if "redirect_uri" not in parameters:
            answer, status = _read_json(self._get(f"{url}/{query}", {})), response.status_code
            text = f"sign-in: {url}/ answers with status {status}, and not with a redirect to the provider"
            remedy = "look into the application's log"
            if {"error", "id"} <= answer.keys():
                text += f": {answer['error']!a}"
                remedy = f"look for {answer['id']!a} in the application's log, which explains it"
            yield fail(text, remedy)
            return
        for name, value in (("client_id", provider.client_id), ("redirect_uri", redirect_uri)):
            if parameters.get(name) != value:
                text = f"sign-in: the application sends the {name} {parameters.get(name)!a} in place of {value!a}"
                yield fail(text, "restart the application, or run this command with its environment")
                return
        if first.headers.get("Location") == response.headers["Location"]:
            text = "sign-in: two requests get the same answer, so a cache in front of the application has stored it"
            yield fail(text, f"let proxies and delivery networks store nothing of {url}/ (`Cache-Control: no-store`)")
            return
        self._check_cookie(url, first, registration.title)  # deletes this sign-in, too
        yield self._check_cookie(url, response, registration.title)

    def _check_cookie(self, url: str, response: requests.Response, provider: str) -> Finding:
        """Check the cookie of a started sign-in, and delete the sign-in if it is in this shell's store."""
        names = self._app.site.cookie_names(url)
        name, _, rest = response.headers.get("Set-Cookie", "").partition("=")
        if not name.startswith(f"{names.session}-"):
            text = f"sign-in: the cookie {names.session} does not arrive" + (f" (got {name[:100]!a})" if name else "")
            return fail(text, "let the proxy pass Set-Cookie on unchanged, and cache nothing of this path")
        attributes = {}
        for attribute in rest.lower().split(";")[1:]:
            key, _, value = attribute.strip().partition("=")
            attributes[key] = value  # browsers use the last one of several values
        got = [attributes.get(each) for each in ("path", "samesite", "secure", "domain")]
        is_form = FORM_POST in name
        if got != ["/", "none" if is_form else "lax", "" if names.secure or is_form else None, None]:
            shown = rest.partition(";")[2][:200].strip()
            text = f"sign-in: the proxy changes the attributes of cookies, so sign-ins fail (got {shown!a})"
            remedy = "let it pass Set-Cookie on unchanged (nginx: proxy_cookie_flags, proxy_cookie_path)"
            return fail(text, remedy)
        self._store.delete(store_key(rest.partition(";")[0]))
        return ok(f"sign-in: {url}/ starts at {provider}, with its redirect URI and cookie")

    def _check_plain_http(self, url: str) -> Iterator[Finding]:
        """Check that plain http is redirected to https."""
        parts = urlsplit(url)
        if parts.scheme != "https" or parts.port not in {None, 443}:
            return
        host = parts.netloc.removesuffix(":443")
        try:
            response = self._get(f"http://{host}{parts.path}/healthz", {})
        except errors.ProviderError:
            yield ok(f"plain http: not answered at {host}")
            return
        if response.headers.get("Location", "").startswith("https:"):
            yield ok(f"plain http: {host} redirects to https")
        else:
            text = f"plain http: {host} answers with status {response.status_code} in place of a redirect to https"
            yield warn(text, "let the proxy redirect http to https (nginx: `return 301 https://$host$request_uri;`)")


def _read_description(response: requests.Response) -> dict[str, Any] | None:
    """Return the document of ``/readyz``; None if it does not describe the request, or is incomplete or invalid."""
    document = _read_json(response)
    try:
        request, settings = document["request"], document["settings"]
        shown = [request["scheme"], request["host"], request["client"], settings["public_url"] or ""]
        texts = [*shown, *settings["sites"], *settings["allow"]]
        numbers = [settings["trusted_proxies"], request["forwarded"]["For"], request["forwarded"]["Proto"]]
        numbers += [request["has_query"], request["has_cookie"]]
        urlsplit(f"//{request['host']}")
    except (KeyError, TypeError, ValueError):
        return None
    is_valid = all(isinstance(each, str) for each in texts) and all(isinstance(each, int) for each in numbers)
    # Otherwise another server could send escape sequences to the terminal.
    return document if is_valid and all(map(str.isprintable, shown)) else None


def _read_json(response: requests.Response) -> dict[str, Any]:
    try:
        document = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
