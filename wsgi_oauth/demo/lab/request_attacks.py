"""Attacks with forged requests and responses: a redirecting token endpoint, a forged sign-out, and forged headers."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from werkzeug.wrappers import Response

from ... import LoginRequired
from ...transport.pool import Transport
from ...web.sign_out import Logout
from ..browser import location_of
from ..messages import VICTIM, query_of
from .parties import Stage, build_application
from .story import Outcome, Story

if TYPE_CHECKING:
    import requests
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


# Most HTTP libraries do this by default.
def follow_redirects(transport: Transport, request: requests.PreparedRequest, **_: Any) -> requests.Response:
    return transport._send(request, time.monotonic() + 10, allow_redirects=True, same_origin=False)


def redirect_the_token_request(stage: Stage) -> Outcome:
    stage.provider.faults.redirect_to = f"{stage.attackers_server.url}/token"
    stage.provider.faults.add("token.redirect_307")
    answer = stage.victim.sign_in()
    gain = "Mallory's server has received the client secret and Victor's code."
    return Outcome(stage.attackers_server.has_seen(str(stage.provider.client_secret)), gain, answer)


TOKEN_REDIRECT = Story(
    name="token-redirect",
    title="Token leak: the token endpoint redirects to the attacker",
    goal="""
        Mallory has found a way to make the provider's token endpoint redirect to her server, for example a
        mistake in the configuration of its proxy. She wants the secrets that the application sends there.
    """,
    course="""
        Victor signs in. The application sends his code and its own client secret to the token endpoint. The
        answer is a redirect with status 307. Most HTTP libraries follow it by themselves, and repeat the
        request with its body at the new address.
    """,
    defence="""
        The application follows no redirect of the token endpoint. A right answer is never a redirect, so the
        sign-in ends with an error.
    """,
    standards=("RFC 9110 15.4.8", "OWASP ASVS 15.3.2"),
    requirements=("S23",),
    guards={"wsgi_oauth.transport.pool.Transport.send": follow_redirects},
    marks=("allow_redirects: bool = False",),
    acts_at="application: POST /token",
    act="the application does not follow the redirect of the token endpoint.",
    attack=redirect_the_token_request,
    build=partial(build_application, CLIENT_AUTH="post"),
)


def sign_out(handler: Logout, request: Any) -> Response:
    request.session.end()
    return handler.jsonify({})


def link_to_the_sign_out(stage: Stage) -> Outcome:
    stage.victim.sign_in()
    stage.attackers_server.redirect_visitors_to(f"{stage.application}/logout")
    answer = stage.victim.follow(stage.attackers_server.url)
    is_signed_out = stage.victim.profile().status_code == 401
    return Outcome(is_signed_out, "Victor is signed out, although he has only opened Mallory's page.", answer)


FORGED_SIGN_OUT = Story(
    name="forged-sign-out",
    title="Forged sign-out: a link signs the victim out",
    goal="""
        Mallory wants Victor to be signed out, as a nuisance, or as the first step of a login CSRF.
    """,
    course="""
        Victor is signed in. He opens Mallory's page, which redirects his browser to the address of the
        sign-out. The browser sends his session cookie along, because he navigates there. (The cookie's
        attribute SameSite=Lax stops it in forms and images of other sites, but not in links.)
    """,
    defence="""
        Only a POST from a page of the application itself signs out. A GET shows a page with a button. Without
        this guard, opening the address is enough.
    """,
    standards=("RFC 9110 9.2.1", "RFC 6749 10.12"),
    requirements=("S41",),
    guards={"wsgi_oauth.web.sign_out.Logout.get": sign_out},
    marks=("return pages.sign_out_question(",),
    acts_at="Victor: GET /logout",
    act="the application shows a page with a button, and Victor stays signed in.",
    attack=link_to_the_sign_out,
)


def build_application_with_public_url(stage: Stage) -> WSGIApplication:
    return build_application(stage, PUBLIC_URL=stage.application)


def base_from_the_host_header(site: Any, environ: WSGIEnvironment) -> str:
    return f"{environ['wsgi.url_scheme']}://{environ['HTTP_HOST']}"


def forge_the_host(stage: Stage) -> Outcome:
    forged = {"Host": urlsplit(stage.attackers_server.url).netloc}
    started = stage.attacker.visit("/", forged)
    if not (link := location_of(started)):
        return Outcome(False, "", started)
    # She sends the link to Victor.
    stage.victim.follow(stage.victim.consent(link))
    [callback] = [request.partition("\n")[0] for request in stage.attackers_server.seen if "/callback?" in request]
    stage.attacker.visit(f"/callback?{urlsplit(callback).query}", forged)
    answer = stage.attacker.profile(forged)
    is_victim = query_of(callback).get("code") and answer.json().get("login") == stage.victim.login
    return Outcome(bool(is_victim), "Mallory is signed in as Victor.", answer)


FORGED_HOST = Story(
    name="forged-host",
    title="Forged Host header: the provider sends the code to the attacker",
    goal="""
        The provider is careless: it accepts several redirect URIs for the application, among them one of
        Mallory's server. She wants to enter the application as Victor.
    """,
    course="""
        She starts a sign-in, and names her own server in the Host header. The application builds its redirect
        URI from that header. She sends the link to the provider to Victor. He consents, and the provider sends
        his code to her server. With it, she finishes the sign-in that she has started.
    """,
    defence="""
        The application knows its own address from its configuration (WSGI_OAUTH_PUBLIC_URL). Requests for any
        other host are refused, and the redirect URI never depends on a header.
    """,
    standards=("RFC 9110 7.2", "RFC 9700 4.1"),
    requirements=("S11", "S34"),
    guards={"wsgi_oauth.web.site.Site.base_url": base_from_the_host_header},
    marks=("base_url = self._urls_by_host.get(host)", "if base_url is None:", "raise errors.BadHost("),
    acts_at="Mallory: GET /",
    act="the application refuses the request, because the header Host names another host.",
    attack=forge_the_host,
    build=build_application_with_public_url,
)


def wiki(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Greet the user. Like many applications, it takes the name from a header that a proxy is expected to set."""
    user = environ.get("HTTP_X_AUTH_REQUEST_USER") or environ["wsgi_oauth.identity"].name
    return Response(f"<h1>Hello, {user}</h1>", mimetype="text/html")(environ, start_response)


def build_wiki_behind_gate(stage: Stage) -> WSGIApplication:
    return LoginRequired(wiki, build_application(stage))


def keep_all_headers(environ: WSGIEnvironment) -> None:
    pass


def forge_the_identity(stage: Stage) -> Outcome:
    stage.attacker.follow(stage.attacker.callback_url())
    answer = stage.attacker.visit("/", {"X-Auth-Request-User": VICTIM})
    is_victim = f"Hello, {VICTIM}" in answer.text
    return Outcome(is_victim, "The wiki greets Mallory as Victor.", answer)


FORGED_IDENTITY = Story(
    name="forged-identity",
    title="Forged identity: a header names another user",
    goal="""
        A wiki is protected by the gate of this project, which tells it who the user is. Mallory has an account.
        She wants to write as Victor.
    """,
    course="""
        She signs in as herself, and adds the header X-Auth-Request-User: Victor to her request. Proxies use
        this header to name the user, and the wiki believes it.
    """,
    defence="""
        The gate removes all headers that name a user from requests, and adds the identity of the session.
        Without this guard, the client's own header arrives.
    """,
    standards=("RFC 9700 4.13",),
    requirements=("S64",),
    guards={"wsgi_oauth.gate.middleware.remove_identity": keep_all_headers},
    marks=("for name in IDENTITY_KEYS", "del environ[name]"),
    acts_at="Mallory: GET /",
    act="the gate removes Mallory's header, and the wiki gets the name from her session.",
    attack=forge_the_identity,
    build=build_wiki_behind_gate,
)
