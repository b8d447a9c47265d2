"""Attacks on the sign-in: login CSRF, code injection, mix-up and open redirect."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from werkzeug.wrappers import Request, Response

from ... import Config, FileStore, create_app, errors
from ...oauth.registration import Registration
from ...sessions.session import Session
from ...sign_in import Attempt, AuthorizationResponse
from ...web.sign_in_handler import SignInHandler
from ..local_provider import LocalProvider
from ..messages import ATTACKERS_PROVIDER, query_of
from .parties import Stage, change_parameters, exchanged_codes
from .story import Outcome, Story

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


# The fault of Authlib in CVE-2025-68158: the server has one cache of states for all browsers.
def find_in_all_sessions(_: Session, session: Any, response: AuthorizationResponse, **__: float) -> Attempt:
    store = session._manager.store
    for stored in filter(None, map(store.load, store.keys())):
        record = json.loads(stored)["data"].get("oauth_state", {}).get(response.state)
        if record:
            names = ("code_verifier", "redirect_uri", "next", "provider")
            return Attempt(response.state, *(record[name] for name in names))
    raise errors.NoLoginInProgress("never issued")


def finish_the_attackers_sign_in(stage: Stage) -> Outcome:
    stage.attackers_server.redirect_visitors_to(stage.attacker.callback_url())
    answer = stage.victim.follow(stage.attackers_server.url)
    profile = stage.victim.profile().json()
    return Outcome(profile.get("login") == stage.attacker.login, "Victor is signed in as Mallory.", answer)


LOGIN_CSRF = Story(
    name="login-csrf",
    title="Login CSRF: the victim is signed in as the attacker",
    goal="""
        Mallory has a web page that Victor visits. She wants him to use the application in her account,
        unnoticed: whatever he then uploads, types or pays for belongs to her.
    """,
    course="""
        Mallory starts a sign-in, consents as herself, and keeps the last step, the callback URL with her code.
        Her page redirects Victor's browser to that URL. The application exchanges the code, and signs Victor's
        browser in.
    """,
    defence="""
        The state in the callback URL is a random number that was issued for one browser. Victor's browser lacks
        the cookie that belongs to it, so the application refuses the response. Without this guard, it accepts
        every state that it has ever issued.
    """,
    standards=("RFC 6749 10.12", "RFC 9700 4.7"),
    requirements=("S1",),
    guards={"wsgi_oauth.sign_in.consume_state": find_in_all_sessions},
    marks=("record = _consume(", "if record is None:", "raise errors.UnknownState("),
    acts_at="Victor: GET /callback",
    act="the application finds no session of Victor's browser with this state, and refuses the answer.",
    attack=finish_the_attackers_sign_in,
)


def begin_with_a_constant_verifier(**given: Any) -> Attempt:
    return Attempt(secrets.token_urlsafe(32), "v" * 43, **given)


def inject_a_stolen_code(stage: Stage) -> Outcome:
    stolen = query_of(stage.victim.callback_url())["code"]
    answer = stage.attacker.follow(change_parameters(stage.attacker.callback_url(), code=stolen))
    profile = stage.attacker.profile().json()
    return Outcome(profile.get("login") == stage.victim.login, "Mallory is signed in as Victor.", answer)


CODE_INJECTION = Story(
    name="code-injection",
    title="Code injection: a stolen code in the attacker's sign-in",
    goal="""
        Mallory reads the log of a proxy, and finds a callback URL of Victor whose code has not been used yet.
        She wants to enter the application as Victor.
    """,
    course="""
        She starts a sign-in of her own, up to the callback. There she replaces her code with Victor's. The
        state is really hers, so the application accepts it and sends Victor's code to the provider, together
        with its client secret.
    """,
    defence="""
        PKCE. Each sign-in has a random code verifier, which stays on the server, and the provider knows its
        hash from the start of that sign-in. Victor's code fits only the verifier of Victor's sign-in. Without
        this guard, all sign-ins have the same verifier, as if there were none.
    """,
    standards=("RFC 7636 1", "RFC 9700 4.5"),
    requirements=("S8",),
    guards={"wsgi_oauth.sign_in.Attempt.new": begin_with_a_constant_verifier},
    marks=("    return ",),
    acts_at="application: POST /token",
    act="the verifier of Mallory's sign-in does not have the hash of Victor's, so the provider refuses the code.",
    check="oauthlib.oauth2.rfc6749.grant_types.authorization_code.code_challenge_method_s256",
    attack=inject_a_stolen_code,
)


class ForwardingProvider(LocalProvider):
    """The attacker's provider, which forwards its users to the honest one."""

    def __init__(self, honest: LocalProvider) -> None:
        super().__init__(client_id="client-at-mallorys", client_secret="secret-at-mallorys")
        self._honest = honest

    def show_consent_page(self, request: Request) -> Response:
        redirect_uri = request.args["redirect_uri"].replace("/callback/mallorys", "/callback/honest")
        own = {"client_id": self._honest.client_id, "redirect_uri": redirect_uri}
        url = f"{self._honest.authorization_url}?{urlencode({**request.args, **own})}"
        return Response(status=302, headers={"Location": url})


def build_application_with_two_providers(stage: Stage) -> WSGIApplication:
    stage.attackers_provider = ForwardingProvider(stage.provider)
    stage.start_provider(stage.attackers_provider, ATTACKERS_PROVIDER)
    settings = {
        f"WSGI_OAUTH_{label}_{name}": value
        for label, provider in (("HONEST", stage.provider), ("MALLORYS", stage.attackers_provider))
        for name, value in provider.settings.items()
    }
    config = Config.from_environ(settings | {"WSGI_OAUTH_PROVIDERS": "honest mallorys"})
    return create_app(config, store=FileStore(stage.sessions))


choose_by_label = SignInHandler.choose_provider


# All providers have one redirect URI, so the provider of a response is taken from the pending sign-in.
def choose_by_state(handler: SignInHandler, label: str) -> bool:
    state = handler.request.args.get("state", "")
    record = handler.request.pending_session(state).get("oauth_state", {}).get(state, {})
    return choose_by_label(handler, record.get("provider", label))


def accept_any_issuer(response: AuthorizationResponse, start: Attempt, of: Registration) -> None:
    if response.error or not response.code:
        raise errors.LoginRefused(response.error)


def forward_to_the_honest_provider(stage: Stage) -> Outcome:
    callback = stage.victim.consent(stage.victim.start("/?provider=mallorys"))
    answer = stage.victim.follow(callback)
    code = query_of(callback)["code"]
    received = code in exchanged_codes(stage.attackers_provider)
    return Outcome(received, "Mallory's server has received Victor's code, and the code verifier with it.", answer)


MIX_UP = Story(
    name="mix-up",
    title="Mix-up: the code goes to the wrong provider",
    goal="""
        The application offers two providers, and Mallory operates one of them. She wants the code with which
        Victor signs in at the other, honest one.
    """,
    course="""
        Victor chooses Mallory's provider. It does not ask him anything, but forwards him to the honest
        provider, with the same state. He knows that page and presses Allow. The application still expects
        Mallory's provider, and would send the code of the honest one to her token endpoint.
    """,
    defence="""
        Each provider has a redirect URI of its own, and names itself in the response (the parameter iss). Both
        must belong to the provider that the sign-in was started with. One guard is enough; the attack succeeds
        only without both.
    """,
    standards=("RFC 9207 2.4", "RFC 9700 4.4"),
    requirements=("S10",),
    guards={
        "wsgi_oauth.web.sign_in_handler.SignInHandler.choose_provider": choose_by_state,
        "wsgi_oauth.sign_in.check_response": accept_any_issuer,
    },
    marks=(
        "registration = self.oauth.registration_with_label(label)",
        "if attempt.provider != registration.label:",
        "if issuer_expected and not",
    ),
    acts_at="Victor: GET /callback/honest",
    act="the application has started this sign-in with another provider, so it refuses the answer.",
    attack=forward_to_the_honest_provider,
    build=build_application_with_two_providers,
)


def accept_all(next_url: str | None) -> str | None:
    return next_url


def lead_to_the_attackers_page(stage: Stage) -> Outcome:
    stage.attackers_server.answer = Response(
        "<h1>Your session has expired. Enter your password again:</h1>", mimetype="text/html"
    )
    callback = stage.victim.consent(stage.victim.start(f"/?next={quote(stage.attackers_server.url, safe='')}"))
    stage.victim.follow(callback)
    gain = "After a real sign-in, Victor is on Mallory's page, which asks for his password."
    refusal = "The application has dropped the address of Mallory's page. Victor is on his own profile page."
    return Outcome(bool(stage.attackers_server.seen), gain, refusal)


OPEN_REDIRECT = Story(
    name="open-redirect",
    title="Open redirect: a real sign-in ends on the attacker's page",
    goal="""
        Mallory wants Victor's password. He checks the address of a page before he types.
    """,
    course="""
        She sends Victor a link to the real application: /?next= and the address of her own page. He signs in at
        the real provider. The sign-in then returns to the page in the link: a copy of the sign-in page that
        says that the session has expired. After so many right addresses, few people check this one.
    """,
    defence="""
        The sign-in returns to paths of the application only, as a browser would resolve them. Every other
        address is dropped. Without this guard, it returns to any address.
    """,
    standards=("RFC 9700 4.11",),
    requirements=("S33",),
    guards={"wsgi_oauth.web.site.local_path": accept_all},
    marks=('candidate.startswith("/")', "if _NOT_IN_A_PATH.search(path)"),
    acts_at="Victor: GET /",
    act="the application drops the address of Mallory's page from the link.",
    attack=lead_to_the_attackers_page,
)
