"""The attackers' view of a message: the parts that each attacker can read, and the reason why these are useless."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .messages import APPLICATION, PROVIDER, Message, form_of, parse_object, query_of

#: The use of each secret for an attacker, and the reason why it fails.
SECRETS: Mapping[str, str] = {
    "code": "It is good once and for a few minutes, and only together with the client secret and the code verifier, "
    "which no browser ever sees (RFC 6749 4.1.2, RFC 7636). A stolen code that is put into another sign-in of "
    "this application fails, too: that sign-in has another verifier.",
    "state": "It is accepted once, and only from the browser with the cookie of this sign-in (RFC 9700 4.7).",
    "nonce": "The ID token for it goes to the application only, from server to server.",
    "code challenge": "It is a hash, from which the code verifier cannot be computed (RFC 7636 7.1).",
    "code verifier": "It fits this one code only, and the code is used up by this very message.",
    "client secret": "With it an attacker could pose as this application. So it travels only from server to server, "
    "over TLS. Even then it gives no access to a user without a code of that user (RFC 6749 10.1).",
    "access token": "A thief could use it until it expires. So it is sent only from server to server, in a "
    "header or a body and never in a URL, lives an hour, and can be revoked (RFC 6750 5.3).",
    "refresh token": "It is worth nothing without the client secret, and each use replaces it (RFC 9700 4.14).",
    "ID token": "It is signed for this application (aud) and this sign-in (nonce), so no other application and no "
    "other sign-in accepts it (OpenID Connect Core 3.1.3.7).",
    "session id": "A thief would be signed in as the user. So scripts cannot read the cookie (HttpOnly), over "
    "https it is never sent in the clear (Secure), the sign-in replaces it, and the sign-out ends it on the server.",
    "personal data": "You agreed to share it with this application only.",
}

# The secrets by the names of parameters and JSON members.
_NAMES = {
    "code": "code",
    "state": "state",
    "nonce": "nonce",
    "code_challenge": "code challenge",
    "code_verifier": "code verifier",
    "client_secret": "client secret",
    "client_assertion": "client secret",
    "access_token": "access token",
    "refresh_token": "refresh token",
    "id_token": "ID token",
    "id_token_hint": "ID token",
    "token": "access token",
}


#: The view of each attacker on every message.
POSITIONS: Mapping[str, str] = {
    "An eavesdropper on the network": "Over https, only the names of the two machines and the size of a message. Real "
    "providers accept https only, and so does this application outside your own machine (RFC 6749 1.6).",
    "A reader of the browser's history": "The URLs that the browser has opened. Messages between application and "
    "provider go from server to server.",
    "A reader of the log files of servers and proxies": "The first line of each request, with the URL. The "
    "application's own log omits everything after the question mark.",
    "A malicious site in the same browser": "No response, because browsers show it only to the site that it belongs to "
    "(same-origin policy). The site can make the browser send requests, but the browser sends this application's "
    "cookie only with links, never with the forms or images of other sites (SameSite=Lax).",
}
_EAVESDROPPER, _HISTORY, _LOGS, _OTHER_SITE = POSITIONS


class AttackersView(NamedTuple):
    """The view of one attacker on one message, beyond :data:`POSITIONS`."""

    position: str
    sees: str
    secrets: tuple[str, ...] = ()  # keys of SECRETS


def find_views(message: Message, request: Message) -> list[AttackersView]:
    """Return the views of the attackers who can see or do something special to *message*.

    :param request: the request to which it belongs.
    """
    if APPLICATION not in {request.sender, request.receiver} and PROVIDER not in {request.sender, request.receiver}:
        return []
    in_url = _secrets(query_of(message.url if message.is_request else message.target))
    everywhere = tuple(dict.fromkeys([*in_url, *_secrets_outside_url(message, request)]))
    views = []
    if everywhere:
        sees = f"Without https, as here on your own machine: {_enumerate(everywhere)}."
        views.append(AttackersView(_EAVESDROPPER, sees, everywhere))
    if in_url and {request.sender, request.receiver} != {APPLICATION, PROVIDER}:
        views.append(AttackersView(_HISTORY, f"The URL, with {_enumerate(in_url)}.", in_url))
    if in_url and message.is_request:
        views.append(AttackersView(_LOGS, f"The URL, with {_enumerate(in_url)}.", in_url))
    if message.is_request and message.receiver == APPLICATION and "state" in in_url:
        views.append(
            AttackersView(
                _OTHER_SITE,
                "Nothing, but it can make the browser open such a URL, with a code and a state of the attacker. The "
                "state must belong to this browser, so an answer that the browser did not ask for is refused.",
            )
        )
    return views


def _secrets(parameters: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_NAMES[name] for name in parameters if name in _NAMES))


def _secrets_outside_url(message: Message, request: Message) -> Iterable[str]:
    cookies = [cookie.strip() for cookie in message.header("Cookie").split(";") if cookie.strip()]
    if request.receiver == PROVIDER:  # it gets the application's cookies, too, only because both have one host here
        cookies = [cookie for cookie in cookies if not cookie.startswith("wsgi_oauth")]
    if cookies or message.header("Set-Cookie"):
        yield "session id"
    scheme = message.header("Authorization").partition(" ")[0].lower()
    if scheme:
        yield {"basic": "client secret", "bearer": "access token"}.get(scheme, "client secret")
    yield from _secrets(form_of(message))
    document = parse_object(message)
    if document and request.endpoint not in {"discovery", "keys"}:
        yield from _secrets(document)
        if message.status == 200 and (request.endpoint == "profile" or request.receiver == APPLICATION):
            yield "personal data"


def _enumerate(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
