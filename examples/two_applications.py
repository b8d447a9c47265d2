"""Two applications behind one gate: ``gunicorn -c python:wsgi_oauth.gunicorn_conf two_applications:app``.

A user who signs in to one application is signed in to both. The front page is public.
"""

from html import escape

from werkzeug.middleware.dispatcher import DispatcherMiddleware

from wsgi_oauth import LoginRequired, current_identity, get_app, login_url, logout_url, oauth2_session

FRONT = """<!doctype html>
<p>Hello {name}. Read the <a href="/reports/">reports</a>.</p>
{button}
"""
SIGN_OUT = '<form method="post" action="{}"><button>Sign out</button></form>'
SIGN_IN = '<a href="{}">Sign in</a>'


def front(environ, start_response):
    user = current_identity(environ)
    name = user.name or user.username if user else "guest"
    button = SIGN_OUT.format(escape(logout_url(environ))) if user else SIGN_IN.format(escape(login_url(environ)))
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [FRONT.format(name=escape(name), button=button).encode()]


def reports(environ, start_response):
    github = oauth2_session(environ)
    profile = github.get_json(github.provider.profile_url)
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"Reports for {profile['name']}: none yet.\n".encode()]


app = LoginRequired(DispatcherMiddleware(front, {"/reports": reports}), get_app(), public=("/",))
