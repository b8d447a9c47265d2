"""Error objects: the error codes in a provider's response, in the forms of many providers.

RFC 6749 5.2 has ``{"error": "invalid_grant"}``. Others are ``{"error": {"code": 190}}``, ``{"errcode": 40001}``,
``{"ok": false, "error": "token_expired"}`` and ``{"errors": [{"code": 89}]}``, often with status 200.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Codes with which a provider asks to wait, and all codes of errors after which a later attempt can succeed.
MUST_WAIT = {"rate_limit_exceeded", "rate_limited", "ratelimited", "slow_down", "too_many_requests"}
TEMPORARY = MUST_WAIT | {"fatal_error", "internal_error", "server_error", "service_unavailable"}
TEMPORARY |= {"request_timeout", "temporarily_unavailable"}

# These decide whether a session ends. Those of `transport/error_description.py` only find words for the log.
_ERROR_MEMBERS = ("error", "errors", "errcode", "error_code", "errorCode", "error_id")
_CODE_MEMBERS = (*_ERROR_MEMBERS, "error_name", "code", "type", "reason")
# Words of at most 20 letters, or a number. Error codes are logged, and a longer text could be a token.
_CODE = r"(?as)\s*(-?[0-9]{1,10}|[A-Za-z]{1,20}(?:[_.-][A-Za-z]{1,20}){0,5})(?::\s.*|\s*)"


def is_error_object(document: object) -> bool:
    """Return whether *document* reports an error."""
    if not isinstance(document, dict):
        return False
    has_code = document.get("code") and ("message" in document or "msg" in document)
    has_failed = any(document.get(name) is False for name in ("ok", "success"))
    return bool(has_code or has_failed or any(map(document.get, _ERROR_MEMBERS)))


def find_error_codes(value: object) -> list[str]:
    """Return the error codes in a response, in lower case. A text may begin with one: ``invalid_grant: Expired``."""
    return [code.lower() for code in _find_codes(value, levels=4)]


def _find_codes(value: object, levels: int) -> Iterator[str]:
    if isinstance(value, int) and not isinstance(value, bool) and value:
        value = str(value)
    if isinstance(value, str):
        if match := re.fullmatch(_CODE, value):
            yield match[1]
    elif isinstance(value, list) and levels:
        for item in value[:10]:
            yield from _find_codes(item, levels - 1)
    elif isinstance(value, dict) and levels:
        for name in _CODE_MEMBERS:
            yield from _find_codes(value.get(name), levels - 1)
