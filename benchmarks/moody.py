"""A provider that misbehaves in every way it knows, now and then, and writes down what it did to whom.

It runs in a process of its own: the local provider of the demo, with access tokens that end after seconds and refresh
tokens that are good for one use.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

from werkzeug import Request, Response

from wsgi_oauth.demo.fault_injection import Fault, FaultContext
from wsgi_oauth.demo.grants import GrantValidator
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

EXPIRES_IN = 4  # seconds; a token counts as expired when half of that is over
# The part of the requests to an endpoint that meets a fault.
MOODS = {"authorize": 0.15, "token": 0.15, "refresh": 0.15, "profile": 0.04, "revoke": 0.2}
ROTATED = "rotated"


class Entry(NamedTuple):
    """A line of the diary: when (monotonic seconds, the same in all processes), to whom, where, and what.

    A fault that begins with the provider's honest work has a second line, when that is done.
    """

    at: float
    user: str
    endpoint: str
    what: str  # the name of a fault, or ROTATED
    again: bool = False  # the second line of a fault

    @property
    def is_fault(self) -> bool:
        return self.what != ROTATED


class MoodyProvider(LocalProvider):
    """:param seed: of its moods. :param slow: seconds that the slow faults take."""

    def __init__(self, seed: int, slow: float) -> None:
        super().__init__(expires_in=EXPIRES_IN)
        self.faults.slow_seconds = slow
        self.diary: list[Entry] = []
        self.moods = MOODS
        self._random = random.Random(seed)
        self._times: Counter[str] = Counter()

    def _perform(self, request: Request, honest: Callable[[], Response], *endpoints: str) -> Response:
        user, endpoint = self._user(request), endpoints[0]
        if self._random.random() > self.moods.get(endpoint, 0):
            response = honest()
            if endpoint == "refresh" and response.status_code == 200:
                self._note(user, endpoint, ROTATED)
            return response
        fault = self._next_fault(endpoints)

        def noted() -> Response:
            self._note(user, endpoint, fault.name, again=True)  # a slow one does its work when nobody waits any longer
            return honest()

        self._note(user, endpoint, fault.name)
        return fault.respond(FaultContext(request.environ, self.faults, noted))

    def _note(self, user: str, endpoint: str, what: str, *, again: bool = False) -> None:
        self.diary.append(Entry(time.monotonic(), user, endpoint, what, again))

    def _next_fault(self, endpoints: tuple[str, ...]) -> Fault:
        """One of those that came least often: in time all there are."""
        known = [fault for fault in self.faults.known.values() if fault.endpoint in endpoints]
        fault = min(known, key=lambda fault: (self._times[fault.name], self._random.random()))
        self._times[fault.name] += 1
        return fault

    def _user(self, request: Request) -> str:
        """Whom a request is about, as nobody but the provider can know."""
        memory: GrantValidator = self._oauth.auth_grant.request_validator
        form, bearer = request.form, request.headers.get("Authorization", "").removeprefix("Bearer ")
        known = (
            memory._codes.get(form.get("code", ""))
            or memory._refresh_tokens.get(form.get("refresh_token", form.get("token", "")))
            or memory._access_tokens.get(bearer or form.get("token", ""))
        )
        return known.grant.user if known else form.get("user", "")


class Moody:
    """The provider as another process sees it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.settings: dict[str, str] = pipe.recv()

    def behave(self) -> None:
        """From now on there are no faults."""
        self._ask("behave")

    def diary(self) -> list[Entry]:
        return self._ask("diary")

    def catalogue(self) -> list[str]:
        """The names of all faults that there are."""
        return self._ask("catalogue")

    def _ask(self, question: str) -> list:
        self._pipe.send(question)
        return self._pipe.recv()


@contextmanager
def moody_provider(seed: int, slow: float) -> Iterator[Moody]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(seed, slow, there))
    process.start()
    try:
        yield Moody(here)
    finally:
        here.send("stop")
        process.join()


def _serve(seed: int, slow: float, pipe: Connection) -> None:
    provider = MoodyProvider(seed, slow)
    with serve_provider(provider):
        settings = {
            "CLIENT_ID": provider.client_id,
            "CLIENT_SECRET": provider.client_secret,
            "AUTHORIZATION_URL": provider.authorization_url,
            "TOKEN_URL": provider.token_url,
            "PROFILE_URL": provider.profile_url,
            "REVOCATION_URL": provider.revocation_url,
            "ISSUER": provider.url,
            "SCOPE": "profile email",
        }
        pipe.send({f"WSGI_OAUTH_{name}": value for name, value in settings.items()})
        while (question := pipe.recv()) != "stop":
            if question == "behave":
                provider.moods = {}
            pipe.send(list(provider.faults.known) if question == "catalogue" else list(provider.diary))
