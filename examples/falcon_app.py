"""Falcon behind the gate: ``gunicorn -c python:wsgi_oauth.gunicorn_conf falcon_app:app``."""

from html import escape

import falcon

from wsgi_oauth import LoginRequired, current_identity, errors, get_app, logout_url, oauth2_session

HOME = """<!doctype html>
<p>Hello {name}. <a href="/profile">Your profile at the provider</a></p>
<form method="post" action="{logout}"><button>Sign out</button></form>
"""


class Home:
    def on_get(self, req, resp):
        user = current_identity(req.env)
        resp.content_type = falcon.MEDIA_HTML
        resp.text = HOME.format(name=escape(user.name or user.username), logout=escape(logout_url(req.env)))


class Profile:
    def on_get(self, req, resp):
        github = oauth2_session(req.env)
        resp.media = github.get_json(github.provider.profile_url)


def provider_error(req, resp, error, params):
    resp.status = error.status  # the gate answers a 401 with a new sign-in
    resp.text = error.text
    resp.set_headers(error.headers)


api = falcon.App()
api.add_route("/", Home())
api.add_route("/profile", Profile())
api.add_error_handler(errors.Error, provider_error)

app = LoginRequired(api, get_app())
