"""Django OAuth Toolkit below a path: PKCE is required, refresh tokens rotate, and replays are detected.

Django's settings belong to the whole process, so this server needs a process of its own.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import django
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from serving import serve

APPS = ("django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "oauth2_provider")


def configure(issuer: str, folder: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        SECRET_KEY="a dummy secret",
        ROOT_URLCONF="django_site",
        USE_TZ=True,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(folder) / "db.sqlite3"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=APPS,
        # Create the tables without migrations, and hash passwords fast, because the tests need no safe hash.
        MIGRATION_MODULES={app.rpartition(".")[2]: None for app in APPS},
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django_site.signed_in",
        ],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        LOGGING_CONFIG=None,
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_ISS_ENDPOINT": issuer,
            "OIDC_RSA_PRIVATE_KEY": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
            "OIDC_RP_INITIATED_LOGOUT_ENABLED": True,
            "OAUTH2_VALIDATOR_CLASS": "django_site.Validator",
            "SCOPES": {"openid": "Who you are", "profile": "Your name", "email": "Your address"},
            "PKCE_REQUIRED": True,
            "ACCESS_TOKEN_EXPIRE_SECONDS": 120,
            "ROTATE_REFRESH_TOKEN": True,
            "REFRESH_TOKEN_REUSE_PROTECTION": True,
            "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
        },
    )


def populate() -> None:
    from django.contrib.auth import get_user_model
    from oauth2_provider.models import Application

    call_command("migrate", run_syncdb=True, verbosity=0)
    get_user_model().objects.create(
        username="mona", email="octocat@example.com", first_name="Mona Lisa", last_name="Octocat"
    )
    for client_id in ("client_secret_basic", "client_secret_post", "none"):
        Application.objects.create(
            client_id=client_id,
            client_secret="a secret: with + and %",
            client_type="public" if client_id == "none" else "confidential",
            authorization_grant_type="authorization-code",
            redirect_uris="http://localhost/callback",
            post_logout_redirect_uris="http://localhost/signed-out",
            algorithm="RS256",
        )


def application(issuer: str, folder: str) -> Any:
    configure(issuer, folder)
    django.setup()
    populate()
    return get_wsgi_application()


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        serve(partial(application, folder=folder), path="/o")
