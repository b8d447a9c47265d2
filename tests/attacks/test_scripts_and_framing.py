"""Pages that run or show what somebody else has written: cross-site scripting, framing, content that is guessed.

The judge is what a browser would do with the answer: run a script that its policy allows, show a page in a frame.
"""

from __future__ import annotations

from typing import Any

from conftest import HTML, Browser, send
from werkzeug import Response

from .conftest import changed, without_header
from .lesson import guarded_by

SCRIPT = "<script>alert(document.domain)</script>"


def directives(response: Any) -> dict[str, str]:
    policy = response.headers.get("Content-Security-Policy", "")
    found = [directive.strip().partition(" ") for directive in policy.split(";")]
    return {name: sources for name, _, sources in found}


def runs_the_script(response: Any) -> bool:
    """Inline scripts run in an HTML page unless a policy forbids them (Content Security Policy Level 3, 6.7.3.2)."""
    policy = directives(response)
    allowed = policy.get("script-src", policy.get("default-src", "'unsafe-inline'"))
    text = response.text if hasattr(response, "text") else response.get_data(as_text=True)
    return response.content_type.startswith("text/html") and SCRIPT in text and "'unsafe-inline'" in allowed


def may_be_framed(response: Any) -> bool:
    """By a page of another site."""
    return directives(response).get("frame-ancestors", "*") == "*" and "X-Frame-Options" not in response.headers


def show_what_the_provider_says(app: Any, request: Any, error: Any, **_: Any) -> Response:
    said = request.args.get("error_description", "")
    return Response(f"<h1>The sign-in failed</h1><p>{said}</p>", error.status, mimetype="text/html")


# Two guards: no page repeats what came with the request, and the policy would not let it run.
@guarded_by(
    {
        "wsgi_oauth.app.OAuthApp._refuse": show_what_the_provider_says,
        "wsgi_oauth.web.pages.SECURITY_HEADERS": without_header("Content-Security-Policy"),
    }
)
def test_an_error_description_in_a_link_is_a_script_on_our_page(victim: Browser) -> bool:
    """S47. error_description is for people, says RFC 6749 4.1.2.1; who writes it is not certain at all."""
    link = f"/callback?error=access_denied&error_description={SCRIPT}"
    return runs_the_script(victim.get(link))


@guarded_by({"wsgi_oauth.app.OAuthApp._refuse": show_what_the_provider_says})
def test_an_error_description_in_a_link_makes_our_page_say_what_the_attacker_wants(victim: Browser) -> bool:
    """S47. No script is needed for "Call our hotline and have your password ready"."""
    told = "Call our hotline"
    return told in victim.get(changed(victim.callback_url(decision="deny"), error_description=told)).text


@guarded_by({"wsgi_oauth.web.pages.SECURITY_HEADERS": without_header("Content-Security-Policy", "X-Frame-Options")})
def test_a_page_of_the_attackers_shows_ours_in_a_frame_and_lends_the_victims_clicks_to_it(victim: Browser) -> bool:
    """S46. Clickjacking: the button that the victim sees is the attacker's, the one that is pressed is not."""
    victim.sign_in()
    return may_be_framed(victim.get("/profile")) or may_be_framed(victim.get("/callback"))


@guarded_by({"wsgi_oauth.web.pages.SECURITY_HEADERS": without_header("X-Content-Type-Options")})
def test_a_name_in_the_profile_is_guessed_to_be_html(victim: Browser) -> bool:
    """S46. The document is the provider's, the name in it is the user's own choice."""
    victim.sign_in()
    return victim.get("/profile").headers.get("X-Content-Type-Options") != "nosniff"


def name_the_path(app: Any, request: Any, error: Any) -> Response:
    return Response(f"<h1>There is nothing at {request.path}</h1>", 404, mimetype="text/html")


@guarded_by(
    {
        "wsgi_oauth.app.OAuthApp._http_error": name_the_path,
        "wsgi_oauth.web.pages.SECURITY_HEADERS": without_header("Content-Security-Policy"),
    }
)
def test_a_path_that_does_not_exist_is_a_script_on_the_page_that_says_so(application: Any) -> bool:
    """S46."""
    return runs_the_script(send(application, f"/{SCRIPT}", headers=HTML))
