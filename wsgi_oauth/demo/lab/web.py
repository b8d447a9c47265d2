"""The pages of the attack lab, at ``/lab`` on the provider's port."""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import urlsplit

from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from ..kinds import find_kind, find_user
from ..messages import ATTACKERS
from ..own_pages import Pages, render
from ..references import link_rfcs
from .runs import Run, RunFailed, Runs
from .stories import STORIES
from .story import Story, guard_sources, read_check


class LabPages(Pages):
    """The pages of the lab.

    A run is started by a POST with a token that only these pages contain, so another site cannot start one.
    """

    routes = Map(
        [
            Rule("/lab", endpoint="list_attacks", methods=["GET"]),
            Rule("/lab/<name>", endpoint="show_attack", methods=["GET"]),
            Rule("/lab/<name>", endpoint="start_run", methods=["POST"]),
            Rule("/lab/<name>/<run_id>", endpoint="show_run", methods=["GET"]),
        ],
        strict_slashes=False,
        merge_slashes=False,
    )

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._token = secrets.token_urlsafe(32)

    def list_attacks(self, _request: Request) -> Response:
        """GET /lab: list all attacks, with their last results."""
        last_runs = {
            story.name: [self._runs.find_last(story, guarded=guarded) for guarded in (True, False)]
            for story in STORIES.values()
        }
        return render("lab.html", stories=STORIES.values(), last_runs=last_runs)

    def show_attack(self, _request: Request, name: str) -> Response:
        """GET /lab/{name}: show an attack before its first run."""
        return self._show(_find(name), None)

    def start_run(self, request: Request, name: str) -> Response:
        """POST /lab/{name}: carry out the attack, and redirect to its result."""
        story = _find(name)
        if not hmac.compare_digest(request.form.get("token", "").encode(), self._token.encode()):
            text = "The form is outdated, or another site has sent it. Open the page of the attack and try again."
            return render("problem.html", status=403, title="The attack was not started", text=text)
        try:
            run = self._runs.start(story, guarded=request.form.get("guard") != "no")
        except RunFailed as error:
            return render("problem.html", status=500, title="The run has failed", text=str(error))
        return Response(status=303, headers={"Location": f"/lab/{name}/{run.id}"})

    def show_run(self, _request: Request, name: str, run_id: str) -> Response:
        """GET /lab/{name}/{run_id}: show an attack with the result of a run."""
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
