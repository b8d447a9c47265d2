"""Decides whether each incident of a chaos run was caused by an injected fault or a killed worker.

The judge compares three records: the requests of the browsers, the events in the provider's log, and the kills. It
relies on their order and on the TCP port of the worker that sent a request, never on a fixed number of seconds:
otherwise a busy machine would turn delays into failures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .faulty_provider import EXPIRES_IN, FAULT, ISSUED, REPLAYED, Event

# Settings of the application in a chaos run.
TIMEOUT = 5  # seconds, WSGI_OAUTH_UPSTREAM_TIMEOUT
UPSTREAM_LIMIT = 12  # WSGI_OAUTH_UPSTREAM_LIMIT

# Faults that reject an access token. The application may end the session if the token was just refreshed. A response
# of 400 without a reason (the fault profile.400) is not one of them: then the application must keep the session.
REJECTIONS = {"profile.401", "profile.empty_401"}

# Incidents that are not named by a status and an error code.
SIGNED_OUT = "signed out"
WRONG_USER = "wrong user"
SIGNED_IN_AFTER_SIGN_OUT = "signed in after sign-out"
BROKEN = "broken connection"

# Causes.
FAULT_INJECTED = "an injected fault"
WORKER_KILLED = "a killed worker"
KILLED_IN_REFRESH = "a worker killed during a refresh"
LIMIT_REACHED = "the limit of requests that wait for the provider"
BUSY_MACHINE = "a busy machine"  # the provider without a fault, or the application, took longer than the deadline


class Kill(NamedTuple):
    """A kill of a worker: it was stopped at *began*, then killed, and all its connections were closed at *ended*."""

    began: float
    ended: float
    ports: frozenset[int] = frozenset()  # the worker's port of each connection, also of those to the provider


@dataclass(frozen=True)
class Exchange:
    """A request of a browser to the application, and its result."""

    user: str
    endpoint: str
    began: float
    ended: float
    result: str  # a status such as "502", or BROKEN
    idle_since: float  # when the connection was last used; equal to *began* for a new connection

    @property
    def needs_provider(self) -> bool:
        """Return whether answering this request may take a slot for requests to the provider."""
        return self.endpoint in {"callback", "profile", "sign-out"}

    @property
    def timed_out(self) -> bool:
        return self.ended - self.began >= TIMEOUT

    def overlaps(self, began: float, ended: float) -> bool:
        return self.began <= ended and began <= self.ended


@dataclass(frozen=True)
class Incident:
    """An error or a wrong response that a user met."""

    what: str  # a status and an error code, or one of the constants above
    exchange: Exchange
    began: float  # of the sign-in that the exchange belongs to, or of the exchange
    last_good: float = 0.0  # when the last exchange that showed the user as signed in began
    detail: str = field(default="", compare=False)


class Judge:
    """Finds the cause of each incident."""

    def __init__(self, exchanges: Iterable[Exchange], events: Iterable[Event], kills: Sequence[Kill]) -> None:
        self._all_exchanges = list(exchanges)
        self._kills = kills
        self._exchanges: dict[str, list[Exchange]] = {}
        self._events: dict[str, list[Event]] = {}
        for exchange in self._all_exchanges:
            self._exchanges.setdefault(exchange.user, []).append(exchange)
        for event in events:
            self._events.setdefault(event.user, []).append(event)

    def cause(self, incident: Incident) -> str:
        """Return the cause of *incident*, or an empty string for an error of the application."""
        what, exchange = incident.what, incident.exchange
        if what == BROKEN:
            return WORKER_KILLED if self._kills_that_cut(exchange) else ""
        if what == SIGNED_OUT:
            return self._cause_of_sign_out(incident)
        if what in {WRONG_USER, SIGNED_IN_AFTER_SIGN_OUT} or what.startswith("500") or "session_store" in what:
            return ""  # neither faults of the provider nor kills may cause these
        if "provider_busy" in what:
            return LIMIT_REACHED if self._most_others_at_once(exchange) >= UPSTREAM_LIMIT else ""
        return self._cause_of_error(incident)

    def evidence(self, incident: Incident) -> str:
        """Return a description of *incident* and of the events before it. Times are in seconds before its end."""
        end, user = incident.exchange.ended, incident.exchange.user
        happened = [(kill.began, "a worker was killed") for kill in self._kills]
        for event in self._events.get(user, ()):
            by = ", sent by a worker that was killed" if self._was_sent_by_killed_worker(event) else ""
            about = f"{event.endpoint}: {event.kind} {event.fault} {event.credential[:6]}{by}"
            happened.append((event.at, f"provider: {about}"))
        for exchange in self._exchanges.get(user, ()):
            duration = exchange.ended - exchange.began
            happened.append((exchange.began, f"browser: {exchange.endpoint}: {exchange.result} after {duration:.3f} s"))
        lines = [f"  {end - at:8.3f}  {line}" for at, line in sorted(happened) if 0 <= end - at < 20]
        return "\n".join([f"{user}: {incident.what} {incident.detail[:300]}", *lines])

    def _cause_of_error(self, incident: Incident) -> str:
        """Return the cause of a 4xx or 5xx response."""
        exchange = incident.exchange
        # A request that waits while another one refreshes the token fails together with it.
        related = [
            other
            for other in self._exchanges.get(exchange.user, ())
            if other.needs_provider and other.overlaps(exchange.began, exchange.ended)
        ]
        began = min([incident.began, *(other.began for other in related)])
        if self._has_fault(exchange.user, began, exchange.ended):
            return FAULT_INJECTED
        if "provider_timeout" in incident.what or "provider_unreachable" in incident.what:
            return BUSY_MACHINE if any(other.timed_out for other in [exchange, *related]) else ""
        if "no_login_in_progress" in incident.what and any(
            incident.began <= other.began <= exchange.ended and self._kills_that_cut(other)
            for other in self._exchanges.get(exchange.user, ())
        ):
            return WORKER_KILLED  # the request whose response was lost had used up the state
        return ""

    def _cause_of_sign_out(self, incident: Incident) -> str:
        """Return why a session ended although the user did not sign out."""
        user, ended = incident.exchange.user, incident.exchange.ended
        events = self._events_between(user, incident.began, ended)
        if any(event.fault == "token.refresh_token_missing" for event in events):
            return FAULT_INJECTED  # the session ends with its access token
        recent = [event for event in events if event.at >= incident.last_good]
        if any(event.kind == FAULT and (event.fault in REJECTIONS or event.endpoint == "refresh") for event in recent):
            return FAULT_INJECTED
        for event in events:
            if event.kind == REPLAYED and (cause := self._cause_of_replay(event)):
                return cause
        return BUSY_MACHINE if self._took_lifetime_of_token(user, recent, ended) else ""

    def _took_lifetime_of_token(self, user: str, events: list[Event], ended: float) -> bool:
        """Return whether a request took so long after a refresh that the new token had expired when it was used.

        The application refreshes a token once per request, and when half of its lifetime has passed.
        """
        return any(
            exchange.began <= event.at <= exchange.ended - EXPIRES_IN / 2
            for event in events
            if event.kind == ISSUED
            for exchange in self._exchanges.get(user, ())
            if exchange.result in {"401", BROKEN} and exchange.ended <= ended
        )

    def _cause_of_replay(self, replay: Event) -> str:
        """Return why the application used a refresh token twice: it never received, or never stored, the next one."""
        issued = next(
            event
            for event in self._events[replay.user]
            if event.kind == ISSUED and event.credential == replay.credential
        )
        if issued.fault or replay.fault:
            return FAULT_INJECTED
        # The provider may process the request of a killed worker first or, on a busy machine, after the next one.
        if self._was_sent_by_killed_worker(issued) or self._was_sent_by_killed_worker(replay):
            return KILLED_IN_REFRESH
        # Without a fault, the application gives up a refresh only when the provider takes longer than the deadline.
        gave_up = any(
            exchange.timed_out
            and exchange.result.startswith("50")
            and exchange.began <= issued.at
            and exchange.ended <= replay.at
            and not self._has_fault(exchange.user, exchange.began, exchange.ended)
            for exchange in self._exchanges.get(replay.user, ())
        )
        return BUSY_MACHINE if gave_up else ""

    def _events_between(self, user: str, began: float, ended: float) -> list[Event]:
        return [event for event in self._events.get(user, ()) if began <= event.at <= ended]

    def _has_fault(self, user: str, began: float, ended: float) -> bool:
        return any(event.kind == FAULT for event in self._events_between(user, began, ended))

    def _was_sent_by_killed_worker(self, event: Event) -> bool:
        """Return whether a worker sent the request of *event*, and was killed before it responded to the browser."""
        return any(
            event.port in kill.ports
            for exchange in self._exchanges.get(event.user, ())
            if exchange.began <= event.at
            for kill in self._kills_that_cut(exchange)
        )

    def _kills_that_cut(self, exchange: Exchange) -> list[Kill]:
        """Return the kills that may have closed the connection of a broken exchange."""
        if exchange.result != BROKEN:
            return []
        return [kill for kill in self._kills if kill.began <= exchange.ended and exchange.idle_since <= kill.ended]

    def _most_others_at_once(self, exchange: Exchange) -> int:
        """Return the highest number of other requests that may have waited for the provider at the same moment."""
        others = [
            other
            for other in self._all_exchanges
            if other.needs_provider and other is not exchange and other.overlaps(exchange.began, exchange.ended)
        ]
        moments = [max(other.began, exchange.began) for other in others]
        return max((sum(other.overlaps(moment, moment) for other in others) for moment in moments), default=0)
