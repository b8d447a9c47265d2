"""The attackers' view of a message: the parts that each attacker can read, and the reason why these are useless."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .kinds import form_of, parse_object, query_of
from .messages import APPLICATION, PROVIDER, Message

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


class AttackersView(NamedTuple):
    """The view of one attacker on one message."""

    position: str
    sees: str
    secrets: tuple[str, ...] = ()  # keys of SECRETS
    remedy: str = ""


def find_views(message: Message, request: Message) -> list[AttackersView]:
    """Return the view of an attacker in each position on *message*.

    :param request: the request to which it belongs.
    """
    if APPLICATION not in {request.sender, request.receiver} and PROVIDER not in {request.sender, request.receiver}:
        return []
    in_url = _secrets(query_of(message.url if message.is_request else message.target))
    everywhere = tuple(dict.fromkeys([*in_url, *_secrets_outside_url(message, request)]))
    is_back_channel = {request.sender, request.receiver} == {APPLICATION, PROVIDER}
    views = [
        AttackersView(
            "An eavesdropper on the network",
            "Over https: the names of the two machines and the size of the message. Without https, as here on your own "
            f"machine, also the content, with {_enumerate(everywhere)}.",
            everywhere,
            "Real providers accept https only, and so does this application outside your own machine (RFC 6749 1.6).",
        )
    ]
    if is_back_channel:
        views.append(
            AttackersView(
                "A reader of the browser's history, or an extension in it",
                "Nothing. This message goes from server to server.",
            )
        )
    elif in_url:
        views.append(AttackersView("A reader of the browser's history", f"The URL, with {_enumerate(in_url)}.", in_url))
    else:
        views.append(AttackersView("A reader of the browser's history", "At most the address of the page, no secret."))
    logged = in_url if message.is_request else ()
    if message.is_request:
        own = " The application's own log omits everything after the question mark." if logged else ""
        views.append(
            AttackersView(
                "A reader of the log files of servers and proxies",
                f"The first line of the request, with {_enumerate(logged)}.{own}",
                logged,
            )
        )
    if not is_back_channel:
        views.append(_other_site(message))
    return views


def _other_site(message: Message) -> AttackersView:
    position = "A malicious site in the same browser"
    if message.is_request and message.header("Cookie"):
        return AttackersView(
            position,
            "Nothing. It can make the browser send such a request, but sees no response, and the browser sends this "
            "application's cookie only with links, never with the forms or images of other sites (SameSite=Lax).",
        )
    if message.is_request:
        return AttackersView(
            position,
            "Nothing, but it can make the browser send such a request, with a code or state of the attacker.",
            remedy="The state must belong to this browser, so an answer that the browser did not ask for is refused.",
        )
    return AttackersView(
        position, "Nothing. Browsers show a response only to the site that it belongs to (same-origin policy)."
    )


def _secrets(parameters: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_NAMES[name] for name in parameters if name in _NAMES))


def _secrets_outside_url(message: Message, request: Message) -> Iterable[str]:
    cookies = [cookie.strip() for cookie in message.header("Cookie").split(";") if cookie.strip()]
    if request.receiver == PROVIDER:  # it also gets the application's cookies, but only on this machine
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
    *others, last = list(names) or ["no secret"]
    return f"{', '.join(others)} and {last}" if others else last
