"""The provider's description of an error, without secrets, for the log and for error pages.

Providers describe errors in many forms: ``error_description`` (RFC 6749 5.2), an ``error`` object (Facebook, Google),
``title`` and ``detail`` (RFC 9457), ``message``, lists of errors, plain text, or a page. A description is untrusted and
can repeat parts of the request, so secrets in it are masked, and it is shortened.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64decode
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote_plus, urlsplit

import requests

from .. import errors
from .json import parse_json

MAX_DESCRIPTION = 300  # characters
_MAX_BODY = 20_000  # bytes that are searched for a description
MASK = "***"

# Members with an error code or a description, the most specific first, and members with an object of these: RFC 6749,
# Facebook and Google, RFC 9457, Okta, Fitbit, VK, WeChat, Salesforce, Apigee.
_CODES = ("error", "code", "error_code", "errorCode", "errorType", "type", "errcode")
_DESCRIPTIONS = (
    "error_description",
    "message",
    "error_message",
    "errorMessage",
    "errorSummary",
    "error_msg",
    "errmsg",
    "msg",
    "detail",
    "title",
    "description",
    "reason",
    "faultstring",
)
_HINTS = ("error_hint", "hint")  # Ory Hydra, league/oauth2-server
_CONTAINERS = ("error", "errors", "fault")
# Parameters of a request that are not secret.
_PUBLIC = {"client_id", "grant_type", "redirect_uri", "response_type", "scope", "token_type_hint"}
_SHORTEST_SECRET = 4  # characters; masking shorter texts would make the description unreadable
_PREFIX = 12  # characters; a text that begins with so many characters of a secret counts as a shortened copy
_JWT = r"(?a)eyJ[\w-]{8,}(?:\.[\w-]*)*"
# In text of an unknown format: the values of parameters, and strings that seem to be random if they have a digit.
_LOOKS_SECRET = re.compile(r"""(?x) (?<==) ["']? [^\s"'&<>,;]+ | (?<=":) \s* "? [^"]+ | ([\w.~+/=-]{20,})""", re.ASCII)
# The title of a page, and text that a browser does not show. Without an end tag, the rest of the page belongs to the
# element, because a search for the missing end, repeated for each element, would take quadratic time.
_TITLE = r"(?is)<(title|h1)\b[^>]{0,500}>(.*?)(?:</\1|\Z)"
_NOT_SHOWN = r"(?s)<(style|script)\b.*?(?:</\1>|\Z)|<[a-zA-Z/!?][^>]*(?:>|\Z)"
_CHALLENGE = r'(?a)\b(error|error_description)\s*=\s*"([^"]*)"'  # RFC 6750 3


def describe_error(response: requests.Response, secrets: Collection[str] = ()) -> str:
    """Return the provider's description of the error in *response* for a message: `` ("...")``, or an empty string."""
    return quote_description(": ".join(filter(None, find_error(response, secrets))))


def find_error(response: requests.Response, secrets: Collection[str] = ()) -> tuple[str, str]:
    """Return the error code and the description in *response*, cleaned by :func:`clean_description`. Both may be empty.

    They are read from the body, otherwise from the ``WWW-Authenticate`` header (RFC 6750 3).

    :param secrets: texts to mask, besides the secrets of the request.
    """
    secrets = {*secrets, *_secrets_of(response.request)}
    try:
        document = parse_json(response.content, replaces_invalid=True)  # descriptions in Latin-1 have ASCII codes
    except ValueError:
        body = response.content[:_MAX_BODY].decode("utf-8", "replace")
        is_form = "form-urlencoded" in response.headers.get("Content-Type", "")
        document = dict(parse_qsl(body)) if is_form else _extract_text(body)
    code, description = _read_error(document)
    challenge = dict(re.findall(_CHALLENGE, response.headers.get("WWW-Authenticate", "")))
    code, description = code or challenge.get("error", ""), description or challenge.get("error_description", "")
    return clean_description(code, secrets), clean_description(description, secrets)


def read_retry_after(response: requests.Response) -> str | None:
    """Return ``Retry-After`` for our own response, or None unless it is seconds or a date (RFC 9110 10.2.3)."""
    value = response.headers.get("Retry-After", "")
    return value if re.fullmatch(r"[0-9]{1,9}|[A-Z][a-z]{2}, [A-Za-z0-9: ]{24}", value, re.ASCII) else None


def build_status_error(response: requests.Response, message: str, *, remedy: str = "") -> errors.ProviderError:
    """Return the exception for the status of *response*: a rate limit, a failure (5xx), or another unusable response.

    :param remedy: the operator's remedy, unless waiting helps.
    """
    status, error = response.status_code, errors.ProviderError(message, remedy=remedy)
    if status == 429 or status >= 500:
        error = errors.ProviderRateLimit(message) if status == 429 else errors.ProviderFailed(message)
        error.retry_after = read_retry_after(response)
    return error


def with_hint(hint: str, description: str) -> str:
    """Return a general *description* with the *hint* that some providers send beside it, which names the problem."""
    return ": ".join(filter(None, (hint.rstrip("."), description)))


def quote_description(description: str) -> str:
    """Return a cleaned *description* as `` ("...")`` in printable ASCII, for a message; "" for an empty one."""
    return f' ("{_shorten(description.encode("ascii", "backslashreplace").decode())}")' if description else ""


def clean_description(text: str, secrets: Collection[str]) -> str:
    """Return *text* for a page: one line of at most 300 printable characters, without *secrets*."""
    text = re.sub(_JWT, MASK, _mask(text, secrets))
    printable = "".join(character if character.isprintable() else " " for character in text)
    return _shorten(" ".join(printable.split()))


def _read_error(document: Any) -> tuple[str, str]:
    if isinstance(document, list):
        document = document[0] if document else None
    if not isinstance(document, dict):
        return "", document if isinstance(document, str) else ""
    nested = next((document[name] for name in _CONTAINERS if isinstance(document.get(name), (dict, list))), None)
    code, description = _read_error(nested)
    code = code or _first_text(document, _CODES)
    if "/" in code or ":" in code:  # the URI of a problem type (RFC 9457 3.1.1)
        code = ""
    if "title" in document and "detail" in document:
        description = description or f"{document['title']}: {document['detail']}"
    description = description or _first_text(document, _DESCRIPTIONS)
    description = with_hint(_first_text(document, _HINTS), description)
    return code, "" if description == code else description


def _first_text(document: dict[str, Any], names: Collection[str]) -> str:
    values = (document.get(name) for name in names)
    values = (value[0] if isinstance(value, list) and value else value for value in values)
    texts = (str(value) for value in values if isinstance(value, (str, int)) and not isinstance(value, bool))
    return next(filter(None, texts), "")


def _extract_text(body: str) -> str:
    """Return the title of a page, or a text without markup. Possible secrets are masked."""
    title = re.search(_TITLE, body)
    return mask_random(html.unescape(re.sub(_NOT_SHOWN, " ", title[2] if title else body)))


def mask_random(text: str) -> str:
    """Return *text* without values of parameters and without strings that seem to be random: they may be secrets."""

    def mask(match: re.Match[str]) -> str:
        is_long_word = match[1] and not re.search("[0-9]", match[1])
        return match[0] if is_long_word else MASK

    return _LOOKS_SECRET.sub(mask, text)


def _secrets_of(request: requests.PreparedRequest) -> Iterator[str]:
    """Return the values in *request* that may be secret: credentials, the code, the code verifier, tokens."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    yield credentials
    if scheme == "Basic":
        with suppress(ValueError):
            secret = b64decode(credentials).decode().partition(":")[2]
            yield from (secret, unquote_plus(secret))
    body = request.body.decode("utf-8", "replace") if isinstance(request.body, bytes) else str(request.body or "")
    with suppress(ValueError, AttributeError):
        yield from (value for value in json.loads(body).values() if isinstance(value, str))
    for name, value in parse_qsl(body) + parse_qsl(urlsplit(request.url or "").query):
        if name not in _PUBLIC:
            yield value


def _mask(text: str, secrets: Collection[str]) -> str:
    """Replace *secrets* in *text*, also shortened, percent-encoded or HTML-escaped ones."""
    forms = {
        form
        for secret in secrets
        if len(secret) >= _SHORTEST_SECRET
        for form in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret), html.escape(secret))
    }
    whole = [re.escape(form) for form in sorted(forms, key=len, reverse=True)]
    shortened = [re.escape(form[:_PREFIX]) + r"[^\s\"'<>]*" for form in forms if len(form) > _PREFIX]
    return re.sub("|".join([*whole, *shortened]), MASK, text, flags=re.IGNORECASE) if forms else text


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_DESCRIPTION else f"{text[: MAX_DESCRIPTION - 3]}..."
