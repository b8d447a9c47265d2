"""An application without a framework behind the gate: ``gunicorn -c python:wsgi_oauth.gunicorn_conf bare_wsgi:app``."""

import json
from html import escape

from wsgi_oauth import LoginRequired, current_identity, get_app, logout_url, oauth2_session

HOME = """<!doctype html>
<p>Hello {name}. <a href="/profile">Your profile at the provider</a></p>
<form method="post" action="{logout}"><button>Sign out</button></form>
"""


def application(environ, start_response):
    if environ["PATH_INFO"] == "/profile":
        github = oauth2_session(environ)
        # If the provider rejects the token, get_json raises an exception, and the gate starts a new sign-in.
        body = json.dumps(github.get_json(github.provider.profile_url))
        start_response("200 OK", [("Content-Type", "application/json")])
    else:
        user = current_identity(environ)
        body = HOME.format(name=escape(user.name or user.username), logout=escape(logout_url(environ)))
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [body.encode()]


app = LoginRequired(application, get_app())
