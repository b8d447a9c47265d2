"""Django's admin behind the gate: members of the provider's group ``admins`` have all rights, other users none.

Set ``DJANGO_SECRET_KEY`` in the environment, run ``python django_admin.py migrate``, then
``gunicorn -c python:wsgi_oauth.gunicorn_conf django_admin:app``. Settings, URLs and the middleware are in this file.
"""

import os
import sys

import django
from django.contrib import admin
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.urls import path

from wsgi_oauth import LoginRequired, current_identity, get_app

os.environ["DJANGO_SETTINGS_MODULE"] = __name__
SECRET_KEY = os.environ["DJANGO_SECRET_KEY"]
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = __name__
STATIC_URL = "static/"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "django_admin.sqlite3"}}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.RemoteUserMiddleware",
    f"{__name__}.rights_by_group",
    "django.contrib.messages.middleware.MessageMiddleware",
]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.RemoteUserBackend"]


def rights_by_group(get_response):
    def middleware(request):
        user = request.user
        if user.is_authenticated:  # on a public path, current_identity can be None
            is_admin = "admins" in current_identity(request.environ).groups
            if (user.is_staff, user.is_superuser) != (is_admin, is_admin):
                user.is_staff = user.is_superuser = is_admin
                user.save(update_fields=["is_staff", "is_superuser"])
        return get_response(request)

    return middleware


django.setup()
urlpatterns = [path("admin/", admin.site.urls)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
else:
    app = LoginRequired(get_wsgi_application(), get_app(), sign_out=("/admin/logout/",))
