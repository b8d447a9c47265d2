"""Django behind the gate.

Set ``DJANGO_SECRET_KEY`` in the environment, run ``python django_app.py migrate``, then
``gunicorn -c python:wsgi_oauth.gunicorn_conf django_app:app``. Settings, URLs and views are in this file. The gate
sets ``REMOTE_USER``, and Django's RemoteUserMiddleware turns it into ``request.user``.
"""

import os
import sys

from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.utils.html import format_html

from wsgi_oauth import LoginRequired, current_identity, errors, get_app, logout_url, oauth2_session

os.environ["DJANGO_SETTINGS_MODULE"] = __name__
SECRET_KEY = os.environ["DJANGO_SECRET_KEY"]
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = __name__
WSGI_APPLICATION = "django_app.app"  # with the gate, also for runserver
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "django_app.sqlite3"}}
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.RemoteUserMiddleware",
    f"{__name__}.provider_errors",
]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.RemoteUserBackend"]

HOME = """<!doctype html>
<p>Hello {}, your Django user is {}. <a href="/profile">Your profile at the provider</a></p>
<form method="post" action="{}"><button>Sign out</button></form>
"""


def home(request):
    user = current_identity(request.environ)
    name = user.name or user.username
    return HttpResponse(format_html(HOME, name, request.user.get_username(), logout_url(request.environ)))


def profile(request):
    github = oauth2_session(request.environ)
    return JsonResponse(github.get_json(github.provider.profile_url))


def provider_errors(get_response):
    def middleware(request):
        return get_response(request)

    def process_exception(request, error):
        if isinstance(error, errors.Error):
            # The gate answers a 401 with a new sign-in.
            return HttpResponse(error.text, status=error.status, headers=error.headers)
        return None

    middleware.process_exception = process_exception
    return middleware


urlpatterns = [path("", home), path("profile", profile)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
else:
    app = LoginRequired(get_wsgi_application(), get_app())
