"""A local provider for the chaos run: it injects faults at random and logs them.

It runs in its own process. Access tokens expire after seconds, and each refresh token is valid for one use.
"""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from werkzeug import Request, Response

from wsgi_oauth.demo.fault_injection import Fault, FaultContext
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

EXPIRES_IN = 4  # seconds; the application refreshes a token when half of its lifetime has passed
# The share of requests to each endpoint that meet a fault.
FAULT_RATES = {"authorize": 0.15, "token": 0.15, "refresh": 0.15, "profile": 0.04, "revoke": 0.2}

# Kinds of events.
FAULT = "fault"  # a fault was injected into the request
ISSUED = "issued"  # a token was issued for the code or refresh token, which is used up now
REPLAYED = "replayed"  # the code or refresh token was used before, so the grant was revoked (RFC 9700 4.14.2)
REFUSED = "refused"  # the code, refresh token or access token is expired or revoked


class Event(NamedTuple):
    """An entry of the provider's log. A request with a fault can have two: the fault, and the regular processing."""

    at: float  # time.monotonic(), which all processes of a machine share
    user: str
    endpoint: str
    kind: str
    fault: str = ""  # the name of the fault that was injected into the request
    credential: str = ""  # the authorization code or refresh token in the request
    port: int = 0  # the client's TCP port, which identifies the worker


class FaultyProvider(LocalProvider):
    """:param seed: for the choice of faults. :param slow_seconds: the delay of the slow faults."""

    def __init__(self, seed: int, slow_seconds: float) -> None:
        super().__init__(expires_in=EXPIRES_IN)
        self.faults.slow_seconds = slow_seconds
        self.events: list[Event] = []
        self.fault_rates = FAULT_RATES
        self._random = random.Random(seed)
        self._times_injected: Counter[str] = Counter()
        self._used: set[str] = set()  # codes and refresh tokens for which a token was issued
        self._owners: dict[str, str] = {}  # the user of each code and token
        self._processing = threading.Lock()

    def inject_fault(self, request: Request, normal_response: Callable[[], Response], *endpoints: str) -> Response:
        user, endpoint = self._user(request), endpoints[0]
        port = int(request.environ["REMOTE_PORT"])
        if self._random.random() > self.fault_rates.get(endpoint, 0):
            return self._process(request, normal_response, Event(0, user, endpoint, "", port=port))
        fault = self._choose_fault(endpoints)
        event = Event(time.monotonic(), user, endpoint, FAULT, fault.name, port=port)
        self.events.append(event)
        return fault.respond(
            FaultContext(request.environ, self.faults, lambda: self._process(request, normal_response, event))
        )

    def _process(self, request: Request, normal_response: Callable[[], Response], event: Event) -> Response:
        """Call *normal_response*, which processes the request as the local provider does, and log the outcome."""
        credential = request.form.get("refresh_token") or request.form.get("code") or ""
        with self._processing:  # otherwise the log's order could differ from the order of processing
            response = normal_response()
            self._remember_owner(response, event.user)
            kind = ""
            if event.endpoint in {"token", "refresh"}:
                kind = REPLAYED if credential in self._used else REFUSED
                if response.status_code == 200:
                    kind = ISSUED
                    self._used.add(credential)
            elif event.endpoint == "profile" and response.status_code == 401:
                kind = REFUSED
            if kind:
                self.events.append(event._replace(at=time.monotonic(), kind=kind, credential=credential))
        return response

    def _choose_fault(self, endpoints: tuple[str, ...]) -> Fault:
        """Return one of the faults that were injected least often, so that a long run injects each of them."""
        candidates = [fault for fault in self.faults.known.values() if fault.endpoint in endpoints]
        fault = min(candidates, key=lambda fault: (self._times_injected[fault.name], self._random.random()))
        self._times_injected[fault.name] += 1
        return fault

    def _user(self, request: Request) -> str:
        """Return the user whose code or token is in the request; on the consent page, the user in the form."""
        credential = (
            request.form.get("code")
            or request.form.get("refresh_token")
            or request.form.get("token")
            or request.headers.get("Authorization", "").removeprefix("Bearer ")
        )
        return self._owners.get(credential) or request.form.get("user", "")

    def _remember_owner(self, response: Response, user: str) -> None:
        """Remember that the code or the tokens in *response* belong to *user*."""
        if response.location:
            issued = parse_qs(urlsplit(response.location).query).get("code", [])
        else:
            document = response.get_json(silent=True) or {}
            issued = [document[name] for name in ("access_token", "refresh_token") if name in document]
        self._owners.update(dict.fromkeys(issued, user))


class ProviderProcess:
    """The process in which the faulty provider runs, seen from the parent process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.settings: dict[str, str] = pipe.recv()

    def stop_faults(self) -> None:
        """Inject no more faults. Slow faults that were injected before still complete."""
        self._request("stop faults")

    def events(self) -> list[Event]:
        """Return the provider's log so far, in the order of processing."""
        return self._request("events")

    def catalogue(self) -> list[str]:
        """Return the names of all faults."""
        return self._request("catalogue")

    def _request(self, command: str) -> list:
        self._pipe.send(command)
        return self._pipe.recv()


@contextmanager
def run_faulty_provider(seed: int, slow_seconds: float) -> Iterator[ProviderProcess]:
    """Run a faulty provider in a new process until the block ends."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(seed, slow_seconds, theirs))
    process.start()
    try:
        yield ProviderProcess(ours)
    finally:
        ours.send("exit")
        process.join()


def _serve(seed: int, slow_seconds: float, pipe: Connection) -> None:
    provider = FaultyProvider(seed, slow_seconds)
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
        while (command := pipe.recv()) != "exit":
            if command == "stop faults":
                provider.fault_rates = {}
            pipe.send(list(provider.faults.known) if command == "catalogue" else list(provider.events))
