"""Settings of gunicorn, which reads this file when it is started in this folder: `gunicorn` serves the application."""

from wsgi_oauth.gunicorn_conf import *
