"""/etc/wsgi-oauth/gunicorn.conf.py: reads the settings from a file, so that a reload (HUP) reads them again."""

import os
import shlex
from pathlib import Path

raw_env = shlex.split(Path("/etc/wsgi-oauth/settings.env").read_text(), comments=True)
os.environ.update(line.split("=", 1) for line in raw_env)  # because the import reads PORT and others

from wsgi_oauth.gunicorn_conf import *
