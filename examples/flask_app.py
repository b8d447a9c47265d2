"""Flask behind the gate: ``gunicorn -c python:wsgi_oauth.gunicorn_conf flask_app:app``."""

from flask import Flask, render_template_string, request

from wsgi_oauth import LoginRequired, current_identity, errors, get_app, logout_url, oauth2_session

app = Flask(__name__)
app.wsgi_app = LoginRequired(app.wsgi_app, get_app())

HOME = """<!doctype html>
<p>Hello {{ user.name or user.username }}. <a href="{{ url_for('profile') }}">Your profile at the provider</a></p>
<form method="post" action="{{ logout }}"><button>Sign out</button></form>
"""


@app.get("/")
def home():
    return render_template_string(HOME, user=current_identity(request.environ), logout=logout_url(request.environ))


@app.get("/profile")
def profile():
    github = oauth2_session(request.environ)
    return github.get_json(github.provider.profile_url)


@app.errorhandler(errors.Error)
def provider_error(error):
    return error.text, error.status, error.headers  # the gate answers a 401 with a new sign-in
