"""Pyramid behind the gate: ``gunicorn -c python:wsgi_oauth.gunicorn_conf pyramid_app:app``."""

from html import escape

from pyramid.config import Configurator
from pyramid.response import Response

from wsgi_oauth import LoginRequired, current_identity, errors, get_app, logout_url, oauth2_session

HOME = """<!doctype html>
<p>Hello {name}. <a href="{profile}">Your profile at the provider</a></p>
<form method="post" action="{logout}"><button>Sign out</button></form>
"""


def home(request):
    user = current_identity(request.environ)
    urls = {"profile": request.route_path("profile"), "logout": escape(logout_url(request.environ))}
    return Response(HOME.format(name=escape(user.name or user.username), **urls))


def profile(request):
    github = oauth2_session(request.environ)
    return github.get_json(github.provider.profile_url)


def provider_error(error, request):
    response = Response(error.text, error.status)  # the gate answers a 401 with a new sign-in
    response.headers.update(error.headers)
    return response


with Configurator() as config:
    config.add_route("home", "/")
    config.add_route("profile", "/profile")
    config.add_view(home, route_name="home")
    config.add_view(profile, route_name="profile", renderer="json")
    config.add_exception_view(provider_error, context=errors.Error)

app = LoginRequired(config.make_wsgi_app(), get_app())
