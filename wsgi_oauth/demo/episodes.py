"""Divide the messages into episodes: a sign-in, a refresh, a sign-out and so on.

The messages of a sign-in belong together although several requests of the browser carry them: by their state, by
the redirect that a request follows, and by the request during which the application asks the provider.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .messages import APPLICATION, PROVIDER, Message, form_of, query_of

_PAGES = {"/profile": "Profile page", "/logout": "Sign-out page", "/signed-out": "Signed-out page"}
_FOLLOW_SECONDS = 10  # a request after more seconds is not caused by the redirect, but by the user


@dataclass
class Episode:
    """Messages that belong together, in order."""

    messages: list[Message] = field(default_factory=list)

    @property
    def id(self) -> str:
        """A name for links, which stays the same while messages are added."""
        return f"e{self.messages[0].number}"

    @property
    def parties(self) -> list[str]:
        """The parties, in the order in which a diagram shows them."""
        found = dict.fromkeys(party for each in self.messages for party in (each.sender, each.receiver))
        others = [party for party in found if party not in {APPLICATION, PROVIDER}]
        return [*(others or ["browser"]), APPLICATION, PROVIDER]

    @property
    def requests(self) -> list[Message]:
        """The requests among the messages."""
        return [each for each in self.messages if each.is_request]

    @property
    def title(self) -> str:
        """The title: the event and its outcome."""
        first = self.messages[0]
        path = urlsplit(first.url).path
        if first.title:
            return first.title
        if self.is_sign_in:
            return f"Sign-in{self._outcome()}"
        if any((each.method, urlsplit(each.url).path) == ("POST", "/logout") for each in self.requests):
            return "Sign-out"
        asks_provider = any(each.endpoint == "profile" for each in self.requests)
        if any(form_of(each).get("grant_type") == "refresh_token" for each in self.requests):
            return "Recheck, with a refresh" if asks_provider and path != "/profile" else "Refresh"
        if asks_provider and path != "/profile":
            return "Recheck"
        return _PAGES.get(path, f"Page {path}") if first.receiver == APPLICATION else "Provider's page"

    @property
    def is_providers_page(self) -> bool:
        """Whether the browser only uses pages that real providers do not have, such as the home page."""
        return all(each.endpoint in {"home", "control"} for each in self.messages)

    @property
    def is_sign_in(self) -> bool:
        """Whether this is a sign-in."""
        if self.messages[0].run:
            return False
        return any(each.endpoint == "authorize" or "/callback" in urlsplit(each.url).path for each in self.messages)

    def _outcome(self) -> str:
        callbacks = [each for each in self.messages if not each.is_request and "/callback" in urlsplit(each.url).path]
        if not callbacks:
            return ", not finished"
        if (callbacks[-1].status or 0) < 400:
            return ""
        return ", declined" if query_of(callbacks[-1].url).get("error") == "access_denied" else ", refused"

    @property
    def fault(self) -> str:
        """The fault that the user chose on the consent page; "" without one."""
        return next((fault for each in self.requests if (fault := form_of(each).get("fault", ""))), "")


@dataclass
class _Redirect:
    """A redirect that the browser will follow."""

    target: str
    cookies: set[str]  # the values that the response has set
    time: float
    episode: Episode


def divide(messages: Iterable[Message]) -> list[Episode]:
    """Return the episodes of *messages*, in the order in which they began."""
    episodes: list[Episode] = []
    by_exchange: dict[str, Episode] = {}
    by_state: dict[str, Episode] = {}
    by_run: dict[str, Episode] = {}
    redirects: list[_Redirect] = []
    for message in messages:
        episode = by_exchange.get(message.exchange) or by_exchange.get(message.parent) or by_run.get(message.run)
        if message.is_request and episode is None:
            episode = by_state.get(query_of(message.url).get("state", "")) or _follow(redirects, message)
            episode = episode or _find_form(episodes, message)
        if episode is None:
            episode = Episode()
            episodes.append(episode)
        episode.messages.append(message)
        by_exchange[message.exchange] = episode
        if message.run:
            by_run[message.run] = episode
        if target := message.target:
            set_cookies = [value for name, value in message.headers if name.lower() == "set-cookie"]
            cookies = {cookie.partition("=")[2].partition(";")[0] for cookie in set_cookies} - {""}
            redirects.append(_Redirect(target, cookies, message.time, episode))
            if state := query_of(target).get("state"):
                by_state.setdefault(state, episode)
    return episodes


def _follow(redirects: list[_Redirect], request: Message) -> Episode | None:
    """Return the episode with the redirect that *request* follows, and remove that redirect from *redirects*."""
    candidates = [
        each
        for each in redirects
        if each.target.partition("#")[0] == request.url and request.time - each.time < _FOLLOW_SECONDS
    ]
    if not candidates:
        return None
    sent = set(re.findall(r"=([^;]*)", request.header("Cookie")))
    chosen = next((each for each in reversed(candidates) if each.cookies & sent), candidates[0])
    redirects.remove(chosen)
    return chosen.episode


def _find_form(episodes: list[Episode], request: Message) -> Episode | None:
    """Return the last episode if its last page contains the form that *request* submits."""
    if request.method != "POST" or not episodes:
        return None
    last = episodes[-1].messages[-1]
    shows_form = not last.is_request and last.url.partition("?")[0] == request.url.partition("?")[0]
    return episodes[-1] if shows_form else None
