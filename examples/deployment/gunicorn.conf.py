"""/etc/wsgi-oauth/gunicorn.conf.py: reads the settings from a file, so that a reload (HUP) reads them again."""

import shlex
from pathlib import Path

from wsgi_oauth.gunicorn_conf import *

raw_env = shlex.split(Path("/etc/wsgi-oauth/settings.env").read_text(), comments=True)
