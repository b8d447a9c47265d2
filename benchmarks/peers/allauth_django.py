"""django-allauth: its GitHub provider, with the URL of another server (``GITHUB_URL``), and sessions in SQLite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import django
import requests
from django.conf import settings as django_settings
from django.contrib.auth.decorators import login_required
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path

from . import Settings

start = "/accounts/github/login/"


def create(settings: Settings, folder: Path) -> Any:
    django_settings.configure(
        SECRET_KEY="a secret key of the benchmark",
        ALLOWED_HOSTS=["localhost", "127.0.0.1"],
        ROOT_URLCONF=__name__,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(folder / "django.sqlite3"),
                "CONN_MAX_AGE": None,  # persistent connections; by default each request opens one
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            "allauth",
            "allauth.account",
            "allauth.socialaccount",
            "allauth.socialaccount.providers.github",
        ],
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
            "allauth.account.middleware.AccountMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
            }
        ],
        AUTHENTICATION_BACKENDS=[
            "django.contrib.auth.backends.ModelBackend",
            "allauth.account.auth_backends.AuthenticationBackend",
        ],
        LOGIN_URL=start,
        LOGIN_REDIRECT_URL="/profile",
        ACCOUNT_EMAIL_VERIFICATION="none",
        SOCIALACCOUNT_LOGIN_ON_GET=True,  # otherwise the start is a page with a button
        SOCIALACCOUNT_STORE_TOKENS=True,
        SOCIALACCOUNT_PROVIDERS={
            "github": {
                "GITHUB_URL": settings.authorization_url.partition("/login/")[0],
                "OAUTH_PKCE_ENABLED": True,
                "SCOPE": ["profile", "email"],
                "APPS": [{"client_id": settings.client_id, "secret": settings.client_secret, "key": ""}],
            }
        },
    )
    django.setup()
    if not (folder / "django.sqlite3").exists():
        call_command("migrate", verbosity=0)
    sys.modules[__name__].urlpatterns = _build_urls(settings)  # type: ignore[attr-defined]
    return get_wsgi_application()


def _build_urls(settings: Settings) -> list[Any]:
    from allauth.socialaccount.models import SocialToken  # noqa: PLC0415  # it needs the settings

    @login_required
    def profile(request: HttpRequest) -> HttpResponse:
        token = SocialToken.objects.filter(account__user=request.user).latest("id").token
        response = requests.get(settings.profile_url, headers={"Authorization": f"Bearer {token}"}, timeout=10)
        return JsonResponse(response.json())

    @login_required
    def page(request: HttpRequest) -> HttpResponse:
        return HttpResponse("Hello")

    return [path("accounts/", include("allauth.urls")), path("profile", profile), path("page", page)]
