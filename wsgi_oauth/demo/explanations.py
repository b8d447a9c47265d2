"""The explanations that ``wsgi-oauth demo --walk`` prints beside headers and parameters.

One table per HTTP message, from the name of a header, parameter or JSON member to its explanation.
"""

from __future__ import annotations

from collections.abc import Mapping

Explanations = Mapping[str, str]

#: The headers that are printed, with the explanation for messages that have none of their own.
HEADERS: Explanations = {
    "Cookie": "the session id of this browser",
    "Authorization": "",
    "Location": "",
    "Set-Cookie": "the session id, a random number. The name ends with a hash of the state, because "
    "each sign-in of a browser has a cookie of its own. State, code verifier and tokens stay on the "
    "server. Scripts cannot read the cookie (HttpOnly), and forms on other sites cannot send it "
    "(SameSite=Lax). Over https it also has Secure and the __Host- prefix (RFC 6265bis)",
    "WWW-Authenticate": "the reason why the token was rejected (RFC 6750 3)",
    "Retry-After": "how many seconds to wait before the next request",
}
AUTHORIZATION_REQUEST: Explanations = {
    "response_type": "asks for an authorization code, never for the token itself (RFC 6749 4.1.1)",
    "client_id": "identifies this application at the provider (RFC 6749 2.2)",
    "redirect_uri": "where the provider sends the browser afterwards; the provider accepts only "
    "registered URIs (RFC 6749 3.1.2)",
    "scope": "the permissions that the application asks for (RFC 6749 3.3)",
    "state": "a random number, also stored in the session. A response with another state is not an "
    "answer to this request and is refused: protection against CSRF (RFC 6749 10.12)",
    "code_challenge": "the SHA-256 hash of another random number, the code verifier. The verifier "
    "stays in the session until step 3 (RFC 7636 4.2)",
    "code_challenge_method": "the hash is SHA-256. The other method, plain, would send the "
    "verifier itself (RFC 7636 4.3)",
}
AUTHORIZATION_RESPONSE: Explanations = {
    "code": "the authorization code: can be exchanged once, soon, for a token (RFC 6749 4.1.2)",
    "state": "the value from step 1, unchanged (RFC 6749 4.1.2)",
    "iss": "identifies the provider that answers, against mix-up attacks (RFC 9207 2)",
    "error": "the reason why the provider issues no code (RFC 6749 4.1.2.1)",
    "error_description": "more about the error, for developers (RFC 6749 4.1.2.1)",
    "error_uri": "a page about the error (RFC 6749 4.1.2.1)",
}
DECISION: Explanations = {"decision": "the button that the user pressed"}
SIGNED_IN: Explanations = {
    "Location": "a URL without the code, so that the code stays out of the history and Referer",
    "Set-Cookie": "a new session id. An attacker who had planted the old one in this browser "
    "cannot use it any more: protection against session fixation",
}
TOKEN_REQUEST: Explanations = {
    "Authorization": "the client id and client secret, with which the application authenticates (RFC 6749 2.3.1)",
    "grant_type": "exchanges an authorization code for a token (RFC 6749 4.1.3)",
    "code": "the code from the authorization response",
    "redirect_uri": "the same as in step 1; the provider compares them byte by byte (RFC 6749 4.1.3)",
    "code_verifier": "its hash must be the code_challenge of step 1. An attacker who stole the code does "
    "not know the verifier (RFC 7636 4.5)",
    "client_id": "identifies the application again",
    "client_secret": "the client secret, in the body (RFC 6749 2.3.1)",
}
TOKEN_RESPONSE: Explanations = {
    "Cache-Control": "tokens must not be stored in any cache (RFC 6749 5.1)",
    "access_token": "gives access to the profile; its content means something only to the provider (RFC 6749 1.4)",
    "token_type": "anyone who has a Bearer token can use it, so it must stay secret (RFC 6750 1.2)",
    "expires_in": "the lifetime of the access token in seconds (RFC 6749 5.1)",
    "refresh_token": "gets the next access token without asking the user again (RFC 6749 1.5)",
    "scope": "the permissions that were granted, which may be fewer than requested (RFC 6749 5.1)",
    "error": "the reason why the provider issues no token (RFC 6749 5.2)",
    "error_description": "more about the error, for developers (RFC 6749 5.2)",
}
PROFILE_REQUEST: Explanations = {
    "Authorization": "the access token. It travels in a header and never in a URL, because URLs "
    "end up in logs and browser histories (RFC 6750 2.1)",
}

#: For each endpoint of the provider that the application calls: explanations of request and response.
BACK_CHANNEL: Mapping[str, tuple[Explanations, Explanations]] = {
    "token": (TOKEN_REQUEST, TOKEN_RESPONSE),
    "profile": (PROFILE_REQUEST, {}),
}
