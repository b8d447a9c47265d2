"""Simulated users for the chaos run. Each one records its requests to the application and the incidents it met."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import requests

from .judge import BROKEN, SIGNED_IN_AFTER_SIGN_OUT, SIGNED_OUT, WRONG_USER, Exchange, Incident

ACCEPT_JSON = {"Accept": "application/json"}
CLIENT_TIMEOUT = 60  # seconds; longer than any response of the application may take


class Reply(NamedTuple):
    exchange: Exchange
    response: requests.Response

    @property
    def status(self) -> int:
        return self.response.status_code

    def field(self, name: str) -> object:
        """Return a member of the JSON document, or None if it is missing."""
        try:
            return self.response.json().get(name)
        except (ValueError, AttributeError):
            return None


class Browser:
    """The browser of one user. No two browsers have the same user."""

    def __init__(self, url: str, user: str, seed: int) -> None:
        self.user = user
        self.exchanges: list[Exchange] = []
        self.incidents: list[Incident] = []
        self.counts: Counter[str] = Counter()
        self._url = url
        self._random = random.Random(seed)
        self._http = _new_http_session()
        self._last_use = time.monotonic()
        self._signed_in_since: float | None = None
        self._last_good = 0.0
        self._sign_out_unconfirmed = False  # the response to a sign-out was lost: it may have happened or not

    @property
    def signed_in(self) -> bool:
        return self._signed_in_since is not None

    def act(self) -> None:
        """Sign in, or do a random action of signed-in users."""
        if not self.signed_in:
            return self.sign_in()
        choice = self._random.random()
        if choice < 0.85:
            return self.open_profile()
        if choice < 0.97:
            return self.open_profile_in_tabs()
        return self.sign_out()

    def sign_in(self) -> None:
        began = time.monotonic()
        start = self._send("GET", "/", "start")
        if start is None:
            return
        if start.status != 302:
            self._record_error(start)
            return
        callback = self._consent(start.response.headers["Location"])
        if self._random.random() < 0.2:  # a double click
            replies = self._send_from_tabs(callback, "callback", 2)
        else:
            # When the response is lost, the user reloads the page.
            replies = [self._send("GET", callback, "callback") or self._send("GET", callback, "callback")]
        received = [reply for reply in replies if reply is not None]
        for reply in received:
            if reply.status == 303 and "Set-Cookie" in reply.response.headers:
                self._http.cookies.update(reply.response.cookies)
                self._signed_in_since, self._last_good, self._sign_out_unconfirmed = began, began, False
                self.counts["sign-ins"] += 1
        for reply in received:
            # The second copy of a callback sends a session id that has ended if the first copy is already finished.
            is_late_copy = self.signed_in and reply.status == 400
            if reply.status != 303 and not is_late_copy:
                self._record_error(reply, began)

    def open_profile(self) -> None:
        self._check_profiles([self._send("GET", "/profile", "profile")])

    def open_profile_in_tabs(self) -> None:
        """Open the profile in four tabs at once, so that several requests need the same refresh."""
        self._check_profiles(self._send_from_tabs("/profile", "profile", 4))

    def sign_out(self) -> None:
        """Sign out, and check that a copy of the cookie no longer works."""
        cookies = self._http.cookies.copy()
        reply = self._send("POST", "/logout", "sign-out")
        if reply is None:
            self._sign_out_unconfirmed = True
            return
        if reply.status != 303:
            self._record_error(reply)
            return
        self._forget_session()
        self._http.cookies.update(cookies)
        after = self._send("GET", "/profile", "profile")
        self._http.cookies.clear()
        if after is not None and after.status == 200:
            self._record(SIGNED_IN_AFTER_SIGN_OUT, after)
        elif after is not None and after.status != 401:
            self._record_error(after)

    def close(self) -> None:
        self._http.close()

    def _check_profiles(self, replies: list[Reply | None]) -> None:
        received = [reply for reply in replies if reply is not None]
        rejected = [reply for reply in received if reply.status == 401]
        for reply in received:
            if reply.status == 200:
                if reply.field("login") != self.user:
                    self._record(WRONG_USER, reply)
            elif reply.status != 401:
                self._record_error(reply)
        if rejected:
            if not self._sign_out_unconfirmed:
                last = max(rejected, key=lambda reply: reply.exchange.ended)
                self._record(SIGNED_OUT, last, self._signed_in_since)
            self._forget_session()
        elif good := [reply for reply in received if reply.status == 200]:
            self._last_good = min(reply.exchange.began for reply in good)
            self._sign_out_unconfirmed = False

    def _forget_session(self) -> None:
        self._signed_in_since = None
        self._http.cookies.clear()

    def _consent(self, url: str) -> str:
        """Allow the access on the provider's page, and return the path of the callback."""
        form = {"decision": "allow", "user": self.user}
        with _new_http_session() as http:
            response = http.post(url, form, allow_redirects=False, timeout=CLIENT_TIMEOUT)
        return response.headers["Location"].removeprefix(self._url)

    def _send_from_tabs(self, path: str, endpoint: str, count: int) -> list[Reply | None]:
        """Send *count* identical requests at once, on a new connection each."""

        def send(_: int) -> Reply | None:
            with _new_http_session() as tab:
                tab.cookies.update(self._http.cookies)
                return self._send("GET", path, endpoint, tab)

        with ThreadPoolExecutor(count) as tabs:
            return list(tabs.map(send, range(count)))

    def _send(self, method: str, path: str, endpoint: str, tab: requests.Session | None = None) -> Reply | None:
        """Send a request to the application. Return None if the connection broke before the response was complete."""
        began = time.monotonic()
        idle_since = began if tab else min(began, self._last_use)
        headers = {**ACCEPT_JSON, "Origin": self._url} if method == "POST" else ACCEPT_JSON
        response = None
        result = BROKEN
        try:
            response = (tab or self._http).request(
                method, self._url + path, headers=headers, allow_redirects=False, timeout=CLIENT_TIMEOUT
            )
            result = str(response.status_code)
        except requests.RequestException:
            pass
        exchange = Exchange(self.user, endpoint, began, time.monotonic(), result, idle_since)
        if tab is None:
            self._last_use = exchange.ended
        self.counts[endpoint] += 1
        self.exchanges.append(exchange)
        if response is None:
            self.incidents.append(Incident(BROKEN, exchange, began))
            return None
        return Reply(exchange, response)

    def _record_error(self, reply: Reply, began: float | None = None) -> None:
        self._record(f"{reply.status} {reply.field('error')}", reply, began)

    def _record(self, what: str, reply: Reply, began: float | None = None) -> None:
        """Record an incident of the action that began at *began*, or with the exchange itself."""
        began = reply.exchange.began if began is None else began
        self.incidents.append(Incident(what, reply.exchange, began, self._last_good, reply.response.text))


class AnonymousBrowser(Browser):
    """Starts one sign-in after the other without cookies, and finishes none of them."""

    def act(self) -> None:
        reply = self._send("GET", "/", "anonymous starts")
        self._http.cookies.clear()
        if reply is not None and reply.status != 302:
            self._record_error(reply)
        time.sleep(0.01)


def _new_http_session() -> requests.Session:
    http = requests.Session()
    http.trust_env = False
    return http
