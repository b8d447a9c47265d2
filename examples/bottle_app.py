"""Bottle behind the gate: ``gunicorn -c python:wsgi_oauth.gunicorn_conf bottle_app:app``."""

from bottle import Bottle, HTTPResponse, request, template

from wsgi_oauth import LoginRequired, current_identity, errors, get_app, logout_url, oauth2_session

HOME = """<!doctype html>
<p>Hello {{user.name or user.username}}. <a href="/profile">Your profile at the provider</a></p>
<form method="post" action="{{logout}}"><button>Sign out</button></form>
"""

bottle = Bottle()


@bottle.get("/")
def home():
    return template(HOME, user=current_identity(request.environ), logout=logout_url(request.environ))


@bottle.get("/profile")
def profile():
    github = oauth2_session(request.environ)
    return github.get_json(github.provider.profile_url)


@bottle.install
def provider_errors(view):
    def answer(**arguments):
        try:
            return view(**arguments)
        except errors.Error as error:
            return HTTPResponse(error.text, error.status, error.headers)  # the gate answers a 401 with a new sign-in

    return answer


app = LoginRequired(bottle, get_app())
