"""Radicale (calendars and contacts) behind the gate: ``gunicorn -c python:wsgi_oauth.gunicorn_conf radicale_app:app``.

Set ``WSGI_OAUTH_TOKENS=yes``: CalDAV clients send an access token as the password. ``RADICALE_CONFIG`` is the path of
Radicale's configuration file.
"""

import os

from radicale import Application, config

from wsgi_oauth import LoginRequired, get_app

configuration = config.load(config.parse_compound_paths(config.DEFAULT_CONFIG_PATH, os.environ.get("RADICALE_CONFIG")))
configuration.update({"auth": {"type": "remote_user"}}, "the gate")
app = LoginRequired(Application(configuration), get_app())
