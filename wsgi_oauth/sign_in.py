"""A sign-in attempt: the record that its start stores, and the checks when the browser returns.

Each attempt has a session of its own, the pending session, whose cookie is named after the state. Several tabs can
therefore sign in side by side, even if they start at the same moment. The pending session contains a record of the
attempt. The callback consumes it before the code is exchanged, so it works once. The browser's session then keeps a
finished record, so that a duplicate of the callback (a reload, a double click) leads to the same page.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from . import errors
from .config.provider import Provider
from .oauth.claims import find_value, parse_text
from .oauth.reauthentication import combine_requirements
from .oauth.refusal import build_refusal
from .oauth.registration import Registration
from .polling import poll
from .sessions.cookie import PENDING_PURPOSE_LENGTH
from .sessions.encoding import STATE
from .sessions.session import Session
from .transport.error_description import clean_description, quote_description, with_hint
from .transport.json import parse_json

MAX_FINISHED = 20  # records of finished attempts in one session
MAX_RETURN_URLS = 32_000  # characters; limits the sum of all return URLs in one session (MAX_RETURN_URL each)
REDIRECT_LOOP = "oauth_again"  # session key: the last sign-in began after a rejection
_REDIRECT_LOOP_WINDOW = 600  # seconds
_POLL_INTERVAL = 0.05  # seconds

# The fields of an attempt that its record contains, besides the return URL and the time of the start.
_STORED = ("code_verifier", "redirect_uri", "provider", "after_rejection", "restarted", "requirements")
_PARAMETERS = ("state", "code", "iss", "error")
_MAX_PARAMETER = 8192  # characters; AD FS, Entra ID and authentik issue codes of several thousand
# Names with digits are not logged, because they could be an authorization code at the wrong place.
_PARAMETER_NAME = re.compile("[A-Za-z_.;-]{1,24}")
_ERROR_CODE = re.compile("[A-Za-z_ ]{1,40}")
NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")  # RFC 6749 A.5, A.7, A.11
_log = logging.getLogger(__name__)


class Attempt(NamedTuple):
    """One attempt to sign in.

    ``state`` protects against CSRF (RFC 6749 10.12). The PKCE ``code_verifier`` (RFC 7636 4.1) never leaves the server
    before the code is exchanged.
    """

    state: str
    code_verifier: str = ""  # a finished attempt lacks it
    redirect_uri: str = ""
    next_url: str = ""
    provider: str = ""  # the label of the provider (RFC 9700 4.4.2)
    after_rejection: bool = False  # started because the provider rejected the previous token
    restarted: bool = False  # it replaces an attempt that could not be finished
    finished: bool = False
    late: bool = False  # the callback came after the lifetime of a sign-in
    requirements: Mapping[str, str] = {}  # max_age and acr_values, if requested (OpenID Connect Core 3.1.2.1)
    parameters: Mapping[str, Any] = {}  # for the next request: the authorization request, then the token request

    @classmethod
    def new(cls, **values: Any) -> Attempt:
        """Return an attempt with a random state (RFC 6749 10.10) and code verifier of 256 bits each."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32), **values)

    @property
    def code_challenge(self) -> str:
        """The code challenge of method S256 (RFC 7636 4.2)."""
        return _hash(self.code_verifier)

    @property
    def nonce(self) -> str:
        """The nonce that binds the ID token to this attempt (OpenID Connect Core 15.5.2)."""
        return _hash(f"nonce {self.code_verifier}")

    def for_authorization(
        self,
        provider: Provider,
        login_parameters: Mapping[str, str] = {},
        *,
        choose_account: bool = False,
        reauthentication: Mapping[str, str] = {},
    ) -> Attempt:
        """Add the parameters of the authorization request: state, PKCE (RFC 7636 4.3), nonce (Core 3.1.2.1).

        :param login_parameters: from the link to the sign-in. They replace configured ones.
        :param choose_account: ask the provider to let the user choose an account.
        :param reauthentication: the requirements of a page: ``max_age`` and ``acr_values``.
        :raises errors.AuthenticationNotConfirmed: if the provider cannot confirm the requirements.
        """
        configured, requested = dict(provider.authorization_parameters), {**login_parameters, **reauthentication}
        parameters = {**configured, **requested}
        prompts = parameters.get("prompt", "").split()
        if choose_account:
            parameters.update(provider.choose_account)
            prompts = [*dict(provider.choose_account).get("prompt", "").split(), *prompts]
        if "max_age" in reauthentication:
            prompts = ["login", *prompts]  # for providers that ignore max_age
        if choose_account or reauthentication:
            # `login consent` asks for both; only `none` cannot be combined (Core 3.1.2.1).
            parameters["prompt"] = " ".join(dict.fromkeys(each for each in prompts if each != "none"))
        requirements = combine_requirements(configured, requested)
        if requirements and not provider.asks_for_id_token:
            raise errors.AuthenticationNotConfirmed(
                f"max_age and acr_values: {provider.title} cannot confirm them, because it issues no ID token; use an "
                "OpenID Connect provider with the scope openid"
            )
        parameters |= {"max_age": "", "acr_values": "", **requirements}  # empty parameters are not sent
        parameters |= {"state": self.state, "code_challenge": self.code_challenge, "code_challenge_method": "S256"}
        if provider.sends_nonce:
            parameters["nonce"] = self.nonce
        if provider.response_mode != "query":
            parameters["response_mode"] = provider.response_mode
        return self._replace(parameters=parameters, requirements=requirements)

    def for_token_request(self, code: str, display_name: str = "") -> Attempt:
        """Add the parameters of the token request, and the nonce and the requirements that the ID token must meet."""
        parameters = {"code": code, "code_verifier": self.code_verifier, "nonce": self.nonce}
        return self._replace(parameters={**parameters, "requirements": self.requirements, "display_name": display_name})

    def save(self, session: Session, state: str) -> None:
        """Store this attempt in ``session["oauth_state"][state]`` (RFC 6749 10.12)."""
        stored = {name: value for name in _STORED if (value := getattr(self, name))}
        session[STATE] = {state: {"started": time.time(), "next": self.next_url, **stored}}


def cookie_purpose(state: str) -> str:
    """Return the suffix of the cookie's name for the sign-in with this *state*."""
    return _hash(state)[:PENDING_PURPOSE_LENGTH]


def _hash(text: str) -> str:
    return urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()


class AuthorizationResponse(NamedTuple):
    """The parameters with which the provider sends the browser back (RFC 6749 4.1.2). Empty means absent (3.1)."""

    state: str = ""
    code: str = ""
    iss: str = ""
    error: str = ""
    description: str = ""  # the provider's description of the error, unchanged
    user: str = ""  # Apple's JSON about the user, at the first sign-in only
    names: str = ""  # the names of all parameters, for the log

    @classmethod
    def parse(cls, query: bytes) -> AuthorizationResponse:
        """Parse the query of the callback, or its form (OAuth 2.0 Form Post Response Mode 2).

        :raises errors.BadAuthorizationResponse: if a parameter is repeated (RFC 6749 3.1), too long or not printable.
        """
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="utf-8", errors="replace")
        known = [(name, value) for name, value in pairs if name in _PARAMETERS]
        if len(known) != len(dict(known)):
            raise errors.BadAuthorizationResponse("authorization response: a parameter is repeated")
        if any(len(value) > _MAX_PARAMETER or NOT_PRINTABLE.search(value) for _, value in known):
            raise errors.BadAuthorizationResponse("authorization response: a parameter is too long or not printable")
        # Facebook sends error_message: https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow
        parameters = dict(pairs)
        description = parameters.get("error_description") or parameters.get("error_message", "")
        # Ory Hydra and league/oauth2-server send a hint.
        description = with_hint(parameters.get("error_hint") or parameters.get("hint", ""), description)
        user = parameters.get("user", "")
        user = user if len(user) <= _MAX_PARAMETER else ""
        names = " ".join(dict.fromkeys(name for name, _ in pairs[:10] if _PARAMETER_NAME.fullmatch(name)))
        return cls(**dict(known), description=description, user=user, names=names)

    def describe(self) -> str:
        """Return the error in the response, otherwise the names of its parameters, for the log."""
        error = self.error if _ERROR_CODE.fullmatch(self.error) else ""
        words = (error, clean_description(self.description, (self.state, self.code)))
        return quote_description(": ".join(filter(None, words))) or f" (got the parameters: {self.names or 'none'})"

    @property
    def user_name(self) -> str:
        """The name in ``user``; "" if it is missing or unusable.

        It comes from the browser and is not signed, so users can choose it. Use it for display only.
        https://developer.apple.com/documentation/signinwithapple/authenticating-users-with-sign-in-with-apple
        """
        try:
            document = parse_json(self.user.encode()) if self.user else {}
        except ValueError:
            document = None
        names = [parse_text(find_value(document, f"name.{part}")) for part in ("firstName", "lastName")]
        name = parse_text(" ".join(filter(None, names)).strip())
        if self.user and name is None:
            _log.warning("user: contains no name of at most 512 characters, and is ignored")
        return name or ""


def consume_state(
    pending: Session, session: Session, response: AuthorizationResponse, *, lifetime: float, timeout: float
) -> Attempt:
    """Consume the record of the state in *response* and return its attempt. A state permits one code exchange.

    A duplicate of a callback waits until the first copy has finished. Its attempt is then ``finished``.

    :param pending: the pending session to which the cookie of this state belongs.
    :param session: the browser's session, which contains the records of finished attempts.
    :param lifetime: seconds from the start to the callback; after that the attempt is ``late``.
    :param timeout: seconds for which a duplicate waits.
    :raises errors.NoLoginInProgress: if the state is missing, unknown, used or of another browser.
    """
    # This check comes before any comparison: otherwise a missing state would equal another missing state.
    if not response.state:
        remedy = "if this persists, a proxy removes the query, which `wsgi-oauth check --public` finds"
        raise errors.NoLoginInProgress(f"sign-in: the state is missing{response.describe()}", remedy=remedy)
    record = _consume(pending, response.state) or find_record(finished_records(session), response.state)
    if record is None:
        words = response.describe() if response.error else ""
        raise errors.UnknownState(f"sign-in: the state belongs to no sign-in of this browser{words}")
    if record.get("claimed") == "pending":
        wait_for_first_copy(pending, response.state, timeout)
    stored = {name: record[name] for name in _STORED if name in record}
    finished, late = "claimed" in record, is_late(record, lifetime)
    return Attempt(response.state, next_url=record["next"], finished=finished, late=late, **stored)


def check_response(response: AuthorizationResponse, attempt: Attempt, registration: Registration) -> None:
    """Check that *response* comes from the provider of *attempt* and contains a code.

    :raises errors.IssuerMismatch: if ``iss`` (RFC 9207 2.4) or the redirect URI (RFC 9700 4.4.2) is another provider's.
    :raises errors.Error: for an error code (RFC 6749 4.1.2.1), see :func:`.refusal.build_refusal`.
    :raises errors.BadAuthorizationResponse: if it contains neither a code nor an error.
    """
    provider = registration.provider
    if attempt.provider != registration.label:
        raise errors.IssuerMismatch("authorization response: sent to the redirect URI of another provider")
    # An error response may lack the issuer, because it signs no user in, and some servers send `iss` with codes only.
    issuer_expected = provider.issuer is not None and (
        response.iss or (provider.always_sends_issuer and not response.error)
    )
    if issuer_expected and not provider.is_issuer(response.iss):
        remedy = "set WSGI_OAUTH_ISSUER to the issuer in the provider's documentation, if another one is configured"
        if not response.iss:
            remedy = "let the provider send iss, as its metadata announce (RFC 9207 3), and proxies pass it on"
        elif provider.is_issuer(unquote(response.iss)):  # for example an adapter for AWS Lambda
            remedy = "let the server or the proxy that encodes queries a second time pass them on unchanged"
        raise errors.IssuerMismatch(
            f"authorization response: iss is not the configured issuer {provider.issuer!a} "
            f"(got {response.iss[:200]!a})",
            remedy=remedy,
        )
    if response.error or not response.code:
        secrets = (response.state, response.code, attempt.code_verifier, attempt.nonce, registration.client_secret)
        description = clean_description(response.description, secrets)
        error: errors.Error = errors.BadAuthorizationResponse(
            f"authorization response: the code is missing{quote_description(description) or response.describe()}"
        )
        if response.error:
            error = build_refusal(
                clean_description(response.error, secrets),
                description,
                provider,
                endpoint="the authorization endpoint",
                redirect_uri=attempt.redirect_uri,
                default=errors.LoginRefused,
            )
            error.status = 400 if error.status == 502 else error.status  # the error came with the browser's request
        error.provider_says = description  # safe to show: this browser started the sign-in
        raise error


@contextmanager
def removing_failed(pending: Session, attempt: Attempt) -> Iterator[None]:
    """Remove the record of *attempt* if the block fails. Duplicates of the request then stop waiting."""
    try:
        yield
    except BaseException:
        with suppress(errors.StoreError):  # the original error matters more, and the record expires
            pending.change(lambda data: data.get(STATE, {}).pop(attempt.state, None))
        raise


def finish(session: Session, attempt: Attempt) -> None:
    """Record in the browser's session that *attempt* has succeeded. Duplicates of the request then stop waiting."""

    def add_record(data: dict[str, Any]) -> None:
        """Add a finished record of *attempt*, and drop old ones, which may be another user's."""
        hour_ago = time.time() - 3600
        records = {state: each for state, each in finished_records(data).items() if each["started"] > hour_ago}
        records[attempt.state] = {"started": time.time(), "next": attempt.next_url, "claimed": "finished"}
        while len(records) > MAX_FINISHED or sum(len(each["next"]) for each in records.values()) > MAX_RETURN_URLS:
            del records[min(records, key=lambda state: records[state]["started"])]
        data[STATE] = records
        if attempt.after_rejection:
            data[REDIRECT_LOOP] = True

    # The record is stored together with the token: otherwise a duplicate would be redirected before the sign-in ends.
    session.change_on_save(add_record)


def mark_finished(data: dict[str, Any]) -> bool:
    """Mark the consumed record in the pending session as finished. Return False if a failure has removed the record.

    A second copy of a form needs the record: browsers send only the cookie of the pending session with it.
    """
    data[STATE] = {
        state: {"started": record["started"], "next": record["next"], "claimed": "finished"}
        for state, record in usable_records(data).items()
        if "claimed" in record
    }
    return bool(data[STATE])


def is_redirect_loop(session: Session) -> bool:
    """Return whether the user has just signed in after a rejected token. Another sign-in would be a redirect loop."""
    return bool(session.get(REDIRECT_LOOP)) and time.time() - session.started < _REDIRECT_LOOP_WINDOW


def _consume(pending: Session, state: str) -> dict[str, Any] | None:
    """Consume the record of *state*, in one atomic step, and return it as it was before."""
    record_at_arrival = find_record(usable_records(pending), state)
    if record_at_arrival is None:
        return None
    record = pending.change(lambda data: consume_record(data, state))
    if record is None and pending.ended_elsewhere:  # the first copy of this callback has signed the user in meanwhile
        return {**record_at_arrival, "claimed": "finished"}
    return record


def consume_record(data: dict[str, Any], state: str) -> dict[str, Any] | None:
    """Mark the record of *state* as consumed, and return it as it was before; None if there is no such record."""
    data[STATE] = usable_records(data)
    record = find_record(data[STATE], state)
    if record is None:
        return None
    before = dict(record)
    # The member `claimed` means that the state is consumed: `pending` during the code exchange, `finished` after it. It
    # keeps its name, because stored sessions have it.
    record.setdefault("claimed", "pending")
    record.setdefault("claimed_at", time.time())
    return before


def find_record(records: dict[str, Any], state: str) -> dict[str, Any] | None:
    """Return the record of *state*. States are compared in constant time, against timing attacks."""
    found = [known for known in records if hmac.compare_digest(known.encode(), state.encode())]
    return records[found[0]] if found else None


def finished_records(data: dict[str, Any]) -> dict[str, Any]:
    """Return the records of finished attempts in the browser's session."""
    return {state: record for state, record in usable_records(data).items() if record.get("claimed") == "finished"}


def usable_records(data: dict[str, Any]) -> dict[str, Any]:
    """Return the records of attempts. Malformed ones, perhaps of another version, are left out."""
    records = data.get(STATE)
    if not isinstance(records, dict):
        return {}
    return {
        state: record
        for state, record in records.items()
        if isinstance(record, dict) and isinstance(record.get("started"), float) and isinstance(record.get("next"), str)
    }


def is_late(record: dict[str, Any], lifetime: float) -> bool:
    """Return whether the attempt of *record* started more than *lifetime* seconds ago."""
    return bool(record["started"] <= time.time() - lifetime)


def wait_for_first_copy(pending: Session, state: str, timeout: float) -> None:
    """Wait until the first copy of this callback has signed the user in.

    :raises errors.NoLoginInProgress: if it has failed, or has not finished after *timeout* seconds.
    """
    for _ in poll(timeout, pause=_POLL_INTERVAL, longest_pause=_POLL_INTERVAL):
        records = pending.load_latest().get(STATE)
        # When the first copy has succeeded, the pending session has ended or has a finished record (mark_finished).
        if records is None or records.get(state, {}).get("claimed") == "finished":
            return
        if state not in records:
            raise errors.NoLoginInProgress("sign-in: the state was used, and that sign-in failed")
        # No exchange takes that long: the worker was killed, or could not store the outcome.
        if time.time() - records[state].get("claimed_at", 0) > timeout:
            break
    raise errors.NoLoginInProgress(
        "sign-in: the state is in use, but the first copy of the callback has not finished: its worker was killed, or "
        "could not store the outcome"
    )
