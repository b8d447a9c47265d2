"""The pages of the attack lab, at ``/lab`` on the provider's port."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from ..kinds import find_kind, find_user
from ..messages import ATTACKERS
from ..own_pages import render
from ..references import link_rfcs
from .runs import Run, RunFailed, Runs
from .stories import STORIES
from .story import Story, guard_sources, read_check

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_ROUTES = Map(
    [
        Rule("/lab", endpoint="list", methods=["GET"]),
        Rule("/lab/<name>", endpoint="story", methods=["GET"]),
        Rule("/lab/<name>", endpoint="start", methods=["POST"]),
        Rule("/lab/<name>/<run_id>", endpoint="run", methods=["GET"]),
    ],
    strict_slashes=False,
    merge_slashes=False,
)


class LabPages:
    """The WSGI application of the lab. It must be reachable under loopback host names only (DNS rebinding).

    A run is started by a POST with a token that only these pages contain, so another site cannot start one.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._token = secrets.token_urlsafe(32)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            endpoint, values = _ROUTES.bind_to_environ(environ).match()
            response: Response = getattr(self, f"_{endpoint}")(request, **values)
        except HTTPException as error:
            response = render("lab_error.html", status=error.code or 500, title=error.name, text=error.description)
            response.allow.update(getattr(error, "valid_methods", None) or ())
        return response(environ, start_response)

    def _list(self, request: Request) -> Response:
        last_runs = {
            story.name: [self._runs.find_last(story, guarded=guarded) for guarded in (True, False)]
            for story in STORIES.values()
        }
        return render("lab.html", stories=STORIES.values(), last_runs=last_runs)

    def _story(self, request: Request, name: str) -> Response:
        return self._show(_find(name), None)

    def _start(self, request: Request, name: str) -> Response:
        """Carry out the attack, and redirect to its result."""
        story = _find(name)
        if not hmac.compare_digest(request.form.get("token", "").encode(), self._token.encode()):
            text = "The form is outdated, or another site has sent it. Open the page of the attack and try again."
            return render("lab_error.html", status=403, title="The attack was not started", text=text)
        try:
            run = self._runs.start(story, guarded=request.form.get("guard") != "no")
        except RunFailed as error:
            return render("lab_error.html", status=500, title="The run has failed", text=str(error))
        return Response(status=303, headers={"Location": f"/lab/{name}/{run.id}"})

    def _run(self, request: Request, name: str, run_id: str) -> Response:
        run = self._runs.find(run_id)
        if run is None or run.story != name:
            raise NotFound("The result of this run is unknown or has been deleted. Start the attack again.")
        return self._show(_find(name), run)

    def _show(self, story: Story, run: Run | None) -> Response:
        return render(
            "attack.html",
            story=story,
            run=run,
            token=self._token,
            exchanges=_exchanges(run, story) if run else (),
            link_rfcs=link_rfcs,
            sources=guard_sources(story),
            check=read_check(story),
        )


def _find(name: str) -> Story:
    if name not in STORIES:
        raise NotFound("The lab has no attack of this name.")
    return STORIES[name]


def _exchanges(run: Run, story: Story) -> list[dict[str, object]]:
    """Return the requests of *run* with their responses, in the words of the trace."""
    requests = {message.exchange: message for message in run.messages if message.is_request}
    responses = {message.exchange: message for message in run.messages if not message.is_request}
    lines = [f"{each.sender}: {each.method} {urlsplit(each.url).path}" for each in requests.values()]
    act = len(lines) - 1 - lines[::-1].index(story.acts_at)
    return [
        {
            "sender": request.sender,
            "receiver": request.receiver,
            "line": lines[position].partition(": ")[2],
            "status": responses[request.exchange].status,
            "sentences": [
                find_kind(each, request).tell(find_user(request, requests))
                for each in (request, responses[request.exchange])
            ],
            "is_act": position == act,
            "involves_attacker": not ATTACKERS.isdisjoint({request.sender, request.receiver}),
        }
        for position, request in enumerate(requests.values())
    ]
