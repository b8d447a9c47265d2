"""Cross-site scripting, framing and content sniffing: pages that run or show the text of another person.

The tests decide as a browser would: whether the policy allows a script, and whether a page may be framed.
"""

from __future__ import annotations

from typing import Any

from conftest import HTML, Browser, send
from werkzeug import Response

from wsgi_oauth.demo.lab.parties import change_parameters

from .conftest import without_header
from .lesson import guarded_by

SCRIPT = "<script>alert(document.domain)</script>"


def directives(response: Any) -> dict[str, str]:
    policy = response.headers.get("Content-Security-Policy", "")
    found = [directive.strip().partition(" ") for directive in policy.split(";")]
    return {name: sources for name, _, sources in found}


def runs_the_script(response: Any) -> bool:
    """Return whether the inline script runs (Content Security Policy Level 3, 6.7.3.2)."""
    policy = directives(response)
    allowed = policy.get("script-src", policy.get("default-src", "'unsafe-inline'"))
    text = response.text if hasattr(response, "text") else response.get_data(as_text=True)
    return response.content_type.startswith("text/html") and SCRIPT in text and "'unsafe-inline'" in allowed


def may_be_framed(response: Any) -> bool:
    """Return whether another site may show the page in a frame."""
    return directives(response).get("frame-ancestors", "*") == "*" and "X-Frame-Options" not in response.headers


def show_the_error_description(request: Any, error: Any, **_: Any) -> Response:
    description = request.args.get("error_description", "")
    return Response(f"<h1>The sign-in failed</h1><p>{description}</p>", error.status, mimetype="text/html")


# Two guards: no page contains parts of the request, and the policy forbids inline scripts.
@guarded_by(
    {
        "wsgi_oauth.web.application.build_error_response": show_the_error_description,
        "wsgi_oauth.web.pages.SECURITY_HEADERS": without_header("Content-Security-Policy"),
    }
)
def test_script_in_the_error_description_runs(victim: Browser) -> bool:
    """S47. error_description (RFC 6749 4.1.2.1) is text that anyone can put into a link."""
    link = f"/callback?error=access_denied&error_description={SCRIPT}"
    return runs_the_script(victim.get(link))


@guarded_by({"wsgi_oauth.web.application.build_error_response": show_the_error_description})
def test_error_description_in_a_link_changes_the_text_of_the_page(victim: Browser) -> bool:
    """S47. A text such as "Call our hotline" needs no script. It is shown only with a state of this browser."""
    text = "Call our hotline"
    return (
        text
        in victim.get(
            change_parameters("/callback?error=access_denied&state=of-the-attacker", error_description=text)
        ).text
    )


@guarded_by({"wsgi_oauth.web.pages.SECURITY_HEADERS": without_header("Content-Security-Policy", "X-Frame-Options")})
def test_clickjacking_in_a_frame_of_another_site(victim: Browser) -> bool:
    """S46. The victim clicks on a visible button of the attacker and hits an invisible one of the framed page."""
    victim.sign_in()
    return may_be_framed(victim.get("/profile")) or may_be_framed(victim.get("/callback"))


@guarded_by({"wsgi_oauth.web.pages.SECURITY_HEADERS": without_header("X-Content-Type-Options")})
def test_name_in_the_profile_is_sniffed_as_html(victim: Browser) -> bool:
    """S46. The user chooses the name in the provider's document."""
    victim.sign_in()
    return victim.get("/profile").headers.get("X-Content-Type-Options") != "nosniff"


def show_the_path(request: Any, error: Any, **_: Any) -> Response:
    return Response(f"<h1>There is nothing at {request.path}</h1>", 404, mimetype="text/html")


@guarded_by(
    {
        "wsgi_oauth.web.application.build_http_error_response": show_the_path,
        "wsgi_oauth.web.pages.SECURITY_HEADERS": without_header("Content-Security-Policy"),
    }
)
def test_script_in_an_unknown_path_runs(application: Any) -> bool:
    """S46."""
    return runs_the_script(send(application, f"/{SCRIPT}", headers=HTML))
