"""The explanations of headers, parameters and JSON members, for ``wsgi-oauth demo --walk`` and for the trace.

There is one table for each kind of message in :mod:`wsgi_oauth.demo.kinds`.
"""

from __future__ import annotations

from collections.abc import Mapping

Explanations = Mapping[str, str]
"""Explanations by the name of a header, a parameter or a JSON member."""


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
"""The headers that matter, with the explanation for messages that have none of their own."""

AUTHORIZATION_REQUEST: Explanations = {
    "response_type": "asks for an authorization code, never for the token itself (RFC 6749 4.1.1)",
    "client_id": "identifies this application at the provider (RFC 6749 2.2)",
    "redirect_uri": "where the provider sends the browser afterwards; the provider accepts only "
    "registered URIs (RFC 6749 3.1.2)",
    "scope": "the permissions that the application asks for (RFC 6749 3.3); openid asks for an ID token, too",
    "state": "a random number, also stored in the session. A response with another state does not "
    "belong to a sign-in of this browser and is refused: protection against CSRF, requests that another "
    "site makes a browser send (RFC 6749 10.12)",
    "code_challenge": "the SHA-256 hash of another random number, the code verifier, which stays in the session until "
    "step 3. Nobody can compute the verifier from its hash (RFC 7636 4.2)",
    "code_challenge_method": "the hash is SHA-256. The other method, plain, would send the "
    "verifier itself (RFC 7636 4.3)",
    "nonce": "another hash of the code verifier, which the ID token must contain: an ID token from another sign-in "
    "is refused (OpenID Connect Core 3.1.2.1). With PKCE the provider checks the code; with the nonce the application "
    "itself checks the ID token, even if the provider does not check PKCE (RFC 9700 4.5.3.2)",
    "prompt": "asks the provider to show a page to the user, or none (OpenID Connect Core 3.1.2.1)",
    "login_hint": "the account that the user probably wants (OpenID Connect Core 3.1.2.1)",
    "max_age": "how long ago the user may have signed in at the provider, in seconds (OpenID Connect Core 3.1.2.1)",
    "acr_values": "how strong the sign-in must be (OpenID Connect Core 3.1.2.1)",
}
AUTHORIZATION_RESPONSE: Explanations = {
    "code": "the authorization code: can be exchanged once, soon, for a token (RFC 6749 4.1.2)",
    "state": "the value from step 1, unchanged (RFC 6749 4.1.2)",
    "iss": "identifies the provider that answers, against mix-up attacks: there a dishonest provider forwards the user "
    "to an honest one, to get its code (RFC 9207 2)",
    "error": "the reason why the provider issues no code (RFC 6749 4.1.2.1)",
    "error_description": "more about the error, for developers (RFC 6749 4.1.2.1)",
    "error_uri": "a page about the error (RFC 6749 4.1.2.1)",
}
DECISION: Explanations = {
    "user": "the user of the provider",
    "chosen": "the page offered scopes that the user can decline",
    "scope-email": "the user did not decline the scope email",
    "scope-groups": "the user did not decline the scope groups",
    "remember": "the next sign-in needs no consent",
    "fault": "goes wrong in this sign-in, because you chose it",
    "decision": "the button that the user pressed",
}
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
REFRESH_REQUEST: Explanations = {
    "Authorization": TOKEN_REQUEST["Authorization"],
    "grant_type": "exchanges a refresh token for the next access token (RFC 6749 6)",
    "refresh_token": "from the last token response. No user and no browser is needed",
    "scope": "the same permissions, or fewer (RFC 6749 6)",
}
TOKEN_RESPONSE: Explanations = {
    "Cache-Control": "tokens must not be stored in any cache (RFC 6749 5.1)",
    "access_token": "gives access to the profile; its content means something only to the provider (RFC 6749 1.4)",
    "token_type": "everyone who has a Bearer token can use it, so it must stay secret (RFC 6750 1.2)",
    "expires_in": "the lifetime of the access token in seconds (RFC 6749 5.1)",
    "refresh_token": "gets the next access token without asking the user again (RFC 6749 1.5)",
    "scope": "the permissions that were granted, which may be fewer than requested (RFC 6749 5.1)",
    "id_token": "a statement for the application about who has signed in, signed by the provider "
    "(OpenID Connect Core 2). Here it comes over TLS directly from the provider, which proves its origin, so an "
    "application may skip the signature (OpenID Connect Core 3.1.3.7)",
    "error": "the reason why the provider issues no token (RFC 6749 5.2)",
    "error_description": "more about the error, for developers (RFC 6749 5.2)",
}
ID_TOKEN: Explanations = {
    "iss": "the issuer: the provider that makes this statement",
    "sub": "the subject: the user, with a number that never changes at this provider",
    "aud": "the audience: the application for which the statement is made. Every other one must refuse it",
    "iat": "when it was issued, in seconds since 1970",
    "exp": "when it ends",
    "auth_time": "when the user signed in at the provider",
    "nonce": "the value from step 1: this statement belongs to this sign-in",
    "at_hash": "a hash of the access token that came with it. By this, an application can check that the two belong "
    "together (OpenID Connect Core 3.1.3.6)",
}
"""The claims of an ID token (OpenID Connect Core 2)."""
PROFILE_REQUEST: Explanations = {
    "Authorization": "the access token. It travels in a header and never in a URL, because URLs "
    "end up in logs and browser histories (RFC 6750 2.1)",
}
REVOCATION_REQUEST: Explanations = {
    "Authorization": TOKEN_REQUEST["Authorization"],
    "token": "the token that must not work any more (RFC 7009 2.1)",
    "token_type_hint": "helps the provider to find it (RFC 7009 2.1)",
}
SIGNED_OUT: Explanations = {
    "Location": "a page that confirms the sign-out, and starts no new sign-in",
    "Set-Cookie": "deletes the session cookie. Copies of it are useless, too, because the session is deleted",
}

# -- further messages and headers, which the trace shows ---------------------------------------------------------------

DISCOVERY_RESPONSE: Explanations = {
    "issuer": "the name of the provider. It must be the configured one (OpenID Connect Discovery 4.3)",
    "authorization_endpoint": "where the application sends the browser (RFC 6749 3.1)",
    "token_endpoint": "where it exchanges the code (RFC 6749 3.2)",
    "userinfo_endpoint": "where it fetches the claims about the user (OpenID Connect Core 5.3)",
    "revocation_endpoint": "where it revokes tokens (RFC 7009 2)",
    "end_session_endpoint": "where a sign-out continues (OpenID Connect RP-Initiated Logout 2)",
    "jwks_uri": "where the public keys are that verify ID tokens (OpenID Connect Discovery 3)",
    "response_types_supported": "code: the authorization code flow (RFC 8414 2)",
    "grant_types_supported": "the kinds of grants that the token endpoint exchanges (RFC 8414 2)",
    "code_challenge_methods_supported": "the methods of PKCE (RFC 8414 2)",
    "scopes_supported": "the permissions that an application can ask for (RFC 8414 2)",
    "id_token_signing_alg_values_supported": "the algorithms that sign ID tokens (OpenID Connect Discovery 3)",
    "authorization_response_iss_parameter_supported": "the provider names itself in its responses (RFC 9207 3)",
    "response_modes_supported": "how the response comes back: here in the query of the redirect (RFC 8414 2)",
    "token_endpoint_auth_methods_supported": "how an application can prove who it is (RFC 8414 2)",
    "revocation_endpoint_auth_methods_supported": "the same, at the revocation endpoint (RFC 8414 2)",
    "subject_types_supported": "whether all applications see the same identifier of a user (OpenID Connect Core 8)",
    "claims_supported": "the claims that the provider may send (OpenID Connect Discovery 3)",
}
KEYS_RESPONSE: Explanations = {"keys": "public keys. The ID token's header names one of them by its kid (RFC 7517 5)"}
USER_DOCUMENT: Explanations = {
    "sub": "identifies the user at this provider, for ever (OpenID Connect Core 5.1)",
    "id": "identifies the user at this provider, for ever",
    "login": "the user name, which can change",
    "preferred_username": "the user name, which can change (OpenID Connect Core 5.1)",
    "name": "the name to display (OpenID Connect Core 5.1)",
    "email": "the address. Even a verified one can change, or pass to another user, so it identifies nobody (OpenID "
    "Connect Core 5.7)",
    "email_verified": "whether the provider has checked that the address belongs to the user (OpenID Connect Core 5.1)",
    "groups": "the groups of the user, for access rules",
    "error": "the reason why the provider returns no data (RFC 6750 3.1)",
    "message": "the reason, in the provider's own words",
}
END_SESSION_REQUEST: Explanations = {
    "id_token_hint": "tells the provider whose session ends (OpenID Connect RP-Initiated Logout 2)",
    "post_logout_redirect_uri": "where the browser goes afterwards (OpenID Connect RP-Initiated Logout 3)",
    "client_id": "identifies this application at the provider (RFC 6749 2.2)",
    "state": "comes back unchanged (OpenID Connect RP-Initiated Logout 2)",
}
SIGN_OUT_REQUEST: Explanations = {
    "token": "proves that this application's own page sent the form: another site cannot sign the user out (CSRF)",
}
APPLICATION_PARAMETERS: Explanations = {
    "next": "the page of this application to which the user returns after the sign-in. Only pages of this site are "
    "accepted (open redirect, RFC 9700 4.11)",
    "restarted": "marks a sign-in that started again because it took too long, so that it does so only once",
}

#: Explanations for messages that have none of their own.
PARAMETERS: Explanations = {
    **APPLICATION_PARAMETERS,
    **USER_DOCUMENT,
    **TOKEN_RESPONSE,
    **AUTHORIZATION_REQUEST,
    **AUTHORIZATION_RESPONSE,
    **DECISION,
}

COOKIE_AT_PROVIDER = (
    "the session id of this browser at the provider. Cookies of the application come along here, because browsers send "
    "the cookies of a host to all of its ports (RFC 6265 8.5). A real provider has another host"
)

#: All headers that occur, in addition to those of a message's own table.
ALL_HEADERS: Explanations = {
    **HEADERS,
    "Accept": "the formats that the sender can read (RFC 9110 12.5.1)",
    "Accept-Encoding": "the compressions that the sender can read (RFC 9110 12.5.3)",
    "Accept-Language": "the languages of the user (RFC 9110 12.5.4)",
    "Allow": "the methods that this page answers (RFC 9110 10.2.1)",
    "Cache-Control": "whether caches may keep this message; no-store: none may (RFC 9111 5.2)",
    "Connection": "whether the connection stays open for the next request (RFC 9110 7.6.1)",
    "Content-Language": "the language of the page (RFC 9110 8.5)",
    "Content-Length": "the size of the body in bytes (RFC 9110 8.6)",
    "Content-Type": "the format of the body (RFC 9110 8.3)",
    "Content-Security-Policy": "the page loads nothing from other sites, and no other site can show it in a "
    "frame (CSP 3)",
    "Host": "the server that the request is for (RFC 9110 7.2)",
    "Location": "where the browser goes next (RFC 9110 10.2.2)",
    "Origin": "the site whose page sent the form; null: the browser does not name it (RFC 6454 7)",
    "Pragma": "the same as Cache-Control, for very old caches (RFC 9111 5.4)",
    "Priority": "how urgent the request is (RFC 9218 5)",
    "Referer": "the page that led here (RFC 9110 10.1.3)",
    "Referrer-Policy": "no-referrer: the next site does not learn this URL, which can contain the state "
    "(RFC 9700 4.2.4)",
    "Sec-Fetch-Dest": "document: the user opens a page; it is no image or script (Fetch Metadata 2.1)",
    "Sec-Fetch-Mode": "navigate: the browser changes the page (Fetch Metadata 2.2)",
    "Sec-Fetch-Site": "whether the request comes from a page of the same site (Fetch Metadata 2.3)",
    "Sec-Fetch-User": "the user has clicked (Fetch Metadata 2.4)",
    "Upgrade-Insecure-Requests": "the browser prefers https (Upgrade Insecure Requests 3.2.1)",
    "User-Agent": "the name of the program that sends the request (RFC 9110 10.1.5)",
    "Vary": "the response depends on this header of the request (RFC 9110 12.5.5)",
    "X-Content-Type-Options": "the browser must believe the Content-Type",
    "X-Frame-Options": "no other page may show this one in a frame: protection against clickjacking (RFC 7034)",
    "X-Request-ID": "the id of this request, which is also in the log",
}
