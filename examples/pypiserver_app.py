"""pypiserver, a package index, behind the gate: ``gunicorn -c python:wsgi_oauth.gunicorn_conf pypiserver_app:app``.

It serves the folder ``packages``. Set ``WSGI_OAUTH_TOKENS=yes``: pip sends an access token as the password.
"""

import pypiserver

from wsgi_oauth import LoginRequired, get_app

# pypiserver asks for no password, because the gate has authenticated the user.
index = pypiserver.app(roots=["packages"], authenticate=[], password_file=".", disable_fallback=True)
app = LoginRequired(index, get_app())
