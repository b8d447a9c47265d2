"""A sign-in on its way: what is remembered when it starts, and what must hold when the browser comes back.

Each start leaves a record under its own state in ``session["oauth_state"]``, so several tabs can sign in side
by side. A record is claimed, once, before the code is exchanged, and stays as ``finished`` until a later sign-in: a
second copy of the callback then leads to the same place.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from . import errors
from .oauth.provider import Provider
from .oauth.registration import Registration
from .sessions.session import STATE, Session

if TYPE_CHECKING:
    from .web.handler import Request

MAX_AGE = 600  # seconds from the start to the callback; RFC 6749 4.1.2 recommends as much for a code
MAX_RECORDS = 20  # per session; see _worth
AGAIN = "oauth_again"  # in the session: this sign-in replaced one that the provider had refused
_POLL = 0.05  # seconds

# RFC 6749 4.1.2.1, OpenID Connect Core 3.1.2.6, and what LinkedIn says instead:
# https://learn.microsoft.com/linkedin/shared/authentication/authorization-code-flow
_DECLINED = {"access_denied", "consent_required", "user_cancelled_login", "user_cancelled_authorize"}
_PARAMETERS = ("state", "code", "iss", "error")
_LONGEST = 4096  # characters of a parameter
_UNREADABLE = re.compile(r"[^\x20-\x7e]")  # RFC 6749 A.5, A.7, A.11: VSCHAR and the like


class Start(NamedTuple):
    """One start of a sign-in: the state against CSRF (RFC 6749 10.12) and the PKCE verifier (RFC 7636 4.1)
    that stays here.
    """

    state: str
    code_verifier: str
    redirect_uri: str
    next_url: str
    provider: str = ""  # which of several (RFC 9700 4.4.2)
    again: bool = False  # the provider has just refused a token, and is asked for another one
    finished: bool = False

    @property
    def code_challenge(self) -> str:
        """S256 (RFC 7636 4.2)."""
        return _hash(self.code_verifier)

    @property
    def nonce(self) -> str:
        """What ties an ID token to this start (OpenID Connect Core 15.5.2): a hash of what only the session knows."""
        return _hash(f"nonce {self.code_verifier}")

    def parameters(self, provider: Provider, *, choose_account: bool = False) -> dict[str, str]:
        """Return what the authorization request has besides the state: PKCE (RFC 7636 4.3), and for OpenID Connect a
        nonce (Core 3.1.2.1).

        :param choose_account: whether the provider should ask which of the user's accounts it shall be.
        """
        sent = {"code_challenge": self.code_challenge, "code_challenge_method": "S256"}
        if provider.asks_for_id_token:
            sent["nonce"] = self.nonce
        if choose_account:
            sent.update(provider.choose_account)
        return sent


def _hash(text: str) -> str:
    return urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()


class AuthorizationResponse(NamedTuple):
    """The parameters with which the provider sends the browser back (RFC 6749 4.1.2); an empty one is absent (3.1)."""

    state: str = ""
    code: str = ""
    iss: str = ""
    error: str = ""

    @classmethod
    def parse(cls, query: bytes) -> AuthorizationResponse:
        """Raise BadAuthorizationResponse for a repeated parameter (RFC 6749 3.1) or one that no provider sends."""
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="utf-8", errors="replace")
        known = [(name, value) for name, value in pairs if name in _PARAMETERS]
        if len(known) != len(dict(known)):
            raise errors.BadAuthorizationResponse("the authorization response repeats a parameter")
        if any(len(value) > _LONGEST or _UNREADABLE.search(value) for _, value in known):
            raise errors.BadAuthorizationResponse("the authorization response has an unreadable parameter")
        return cls(**dict(known))


def begin(*, redirect_uri: str, next_url: str, provider: str, again: bool = False) -> Start:
    """Make what a new sign-in needs: a state (RFC 6749 10.10) and a verifier (RFC 7636 4.1) of 258 random bits each."""
    drawn = secrets.token_urlsafe(66)  # 88 characters
    return Start(drawn[:43], drawn[-43:], redirect_uri, next_url, provider, again)


def remember(session: Session, state: str, start: Start) -> None:
    """Keep *start* in ``session["oauth_state"][state]``, beside those of other tabs (RFC 6749 10.12)."""
    record = {
        "started": time.time(),
        "code_verifier": start.code_verifier,
        "redirect_uri": start.redirect_uri,
        "next": start.next_url,
        "provider": start.provider,
        "again": start.again,
    }
    session.change(lambda data: _add(data, state, record))


def claim(session: Session, response: AuthorizationResponse, *, timeout: float) -> Start:
    """Take the record that *response* belongs to, so that nobody else can; that comes before everything the
    response says.

    A copy of a callback that somebody else has claimed waits for up to *patience* seconds for what becomes of
    it, and is ``finished`` then.

    :raises errors.NoLoginInProgress: when there is no such record: never issued, used, too old, or another browser's.
    """
    if not response.state:  # before any comparison: absent must never equal absent
        raise errors.NoLoginInProgress("the callback has no state")
    record = _take(session, response.state)
    if record.get("claimed") == "pending":
        _wait_for_the_first_copy(session, response.state, timeout)
    return Start(
        response.state,
        record.get("code_verifier", ""),
        record.get("redirect_uri", ""),
        record["next"],
        record.get("provider", ""),
        record.get("again", False),
        finished="claimed" in record,
    )


def check(response: AuthorizationResponse, start: Start, registration: Registration) -> None:
    """See that *response* is that of the provider with which the sign-in was started, and carries a code.

    :raises errors.IssuerMismatch: when it is another's, by its `iss` (RFC 9207 2.4) or by the redirect URI to which it
        came (RFC 9700 4.4.2).
    :raises errors.LoginDeclined: when the user said no.
    :raises errors.LoginRefused: for every other error code (RFC 6749 4.1.2.1).
    :raises errors.BadAuthorizationResponse: when there is neither code nor error.
    """
    provider = registration.provider
    if start.provider != registration.label:
        raise errors.IssuerMismatch("the authorization response came to another provider's redirect URI")
    # An error signs nobody in, so it may lack the issuer; there are servers that send it with codes alone.
    expects_issuer = provider.issuer is not None and (
        response.iss or (provider.always_sends_issuer and not response.error)
    )
    if expects_issuer and response.iss != provider.issuer:
        raise errors.IssuerMismatch(
            f"the authorization response names the issuer {response.iss[:200]!a}, and {provider.issuer!a} is configured"
        )
    if response.error in _DECLINED:
        raise errors.LoginDeclined("the user declined")
    if response.error:
        raise errors.LoginRefused(response.error[:64])
    if not response.code:
        raise errors.BadAuthorizationResponse("the authorization response has no code")


@contextmanager
def completing(request: Request, claimed: Start) -> Iterator[None]:
    """Let the record say what became of the sign-in inside, because a second copy of the callback waits for that."""
    session, request.next_url = request.session, claimed.next_url
    try:
        yield
    except BaseException:
        with suppress(errors.StoreError):  # what went wrong inside matters more, and the record dies of age
            session.change(lambda data: data.get(STATE, {}).pop(claimed.state, None))
        raise
    # Not before the token is stored, or the second copy would arrive where nobody is signed in yet.
    session.change_on_save(lambda data: _finish(data, claimed))


def is_redirect_loop(session: Session) -> bool:
    """Say whether the last sign-in, a moment ago, replaced one that was not enough: another may be one of many."""
    return bool(session.get(AGAIN)) and time.time() - session.started < MAX_AGE


def _add(data: dict[str, Any], state: str, record: dict[str, Any]) -> None:
    records = _alive(data)
    records[state] = record
    while len(records) > MAX_RECORDS:
        del records[min(records.keys() - {state}, key=lambda known: _worth(records[known]))]
    data[STATE] = records


def _worth(record: dict[str, Any]) -> tuple[bool, bool, float]:
    """Say what goes first of too many records: of sign-ins that were finished long ago, then of those that nobody has
    come back with, then of the others, the oldest.
    """
    return not _is_old(record), "claimed" in record, record["started"]


def _take(session: Session, state: str) -> dict[str, Any]:
    """Claim the record of *state* and return it as it was before: one step, which makes a state good for one use."""
    when_this_copy_came = _find(_alive(session), state)
    record = session.change(lambda data: _claim(data, state))
    if record is None and session.ended_elsewhere and when_this_copy_came is not None:
        # A first copy of this callback, finished since this one came in, has moved the session to its new id.
        return {**when_this_copy_came, "claimed": "finished"}
    if record is None:
        raise errors.NoLoginInProgress("the callback's state is not one of this session")
    return record


def _claim(data: dict[str, Any], state: str) -> dict[str, Any] | None:
    """Return the record of *state* as it was before, and mark it as claimed."""
    data[STATE] = _alive(data)
    record = _find(data[STATE], state)
    if record is None:
        return None
    before = dict(record)
    record.setdefault("claimed", "pending")
    record.setdefault("claimed_at", time.time())
    return before


def _find(records: dict[str, Any], state: str) -> dict[str, Any] | None:
    # All are compared, in constant time and as bytes: how long it takes says nothing about how much of a guess was
    # right.
    found = [known for known in records if hmac.compare_digest(known.encode(), state.encode())]
    return records[found[0]] if found else None


def _finish(data: dict[str, Any], claimed: Start) -> None:
    """The record may be gone, too old or one start too many; the sign-in is good all the same. Those that were finished
    long before may be another user's.
    """
    records = {state: record for state, record in _alive(data).items() if not _is_old(record)}
    data[STATE] = records
    started = records.get(claimed.state, {}).get("started", time.time())
    records[claimed.state] = {"started": started, "next": claimed.next_url, "claimed": "finished"}
    if claimed.again:
        data[AGAIN] = True


def _alive(data: dict[str, Any]) -> dict[str, Any]:
    """Return the records of sign-ins that can be finished, or were: a reload of the callback may come at any time. What
    is no record, from another version perhaps, is left out.
    """
    records = data.get(STATE)
    if not isinstance(records, dict):
        return {}
    return {
        state: record
        for state, record in records.items()
        if _is_record(record) and (record.get("claimed") == "finished" or not _is_old(record))
    }


def _is_old(record: dict[str, Any]) -> bool:
    return bool(record["started"] <= time.time() - MAX_AGE)


def _is_record(record: object) -> bool:
    return isinstance(record, dict) and isinstance(record.get("started"), float) and isinstance(record.get("next"), str)


def _wait_for_the_first_copy(session: Session, state: str, timeout: float) -> None:
    """Return when the first copy has signed somebody in, which also takes the old session id away."""
    deadline = time.monotonic() + timeout
    while True:
        session.reload()
        records = session.get(STATE)
        if records is None:
            return  # the first copy has succeeded: the session has moved on to a new id
        if state not in records:
            raise errors.NoLoginInProgress("the callback's state was used, and the sign-in failed")
        if records[state].get("claimed") == "finished":
            return
        # A claim that is older than any exchange can be: its process was killed, or could not store what became of it.
        if time.monotonic() > deadline or time.time() - records[state].get("claimed_at", 0) > timeout:
            raise errors.NoLoginInProgress("the callback's state is in use")
        time.sleep(_POLL)
