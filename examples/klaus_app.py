"""klaus, a git server, behind the gate: ``gunicorn -c python:wsgi_oauth.gunicorn_conf klaus_app:app``.

It serves the folder ``repositories``. Set ``WSGI_OAUTH_TOKENS=yes``: git sends an access token as the password.
"""

from glob import glob

import klaus

from wsgi_oauth import LoginRequired, get_app

git = klaus.make_app(
    glob("repositories/*"),
    "Repositories",
    use_smarthttp=True,
    unauthenticated_push=True,  # klaus asks for no password, because the gate has authenticated the user
)
app = LoginRequired(git, get_app())
