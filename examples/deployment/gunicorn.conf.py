"""/etc/wsgi-oauth/gunicorn.conf.py: reads the settings from a file, so that a reload (HUP) reads them again."""

import os
import re
import shlex
from pathlib import Path

SETTINGS = Path("/etc/wsgi-oauth/settings.env")
# Only lines that a shell reads in the same way, because `wsgi-oauth check` gets the settings from a shell.
SETTING = re.compile(
    r"""(?x)
    (?: export \s+ )?
    ( \w+ = (?:
        [^\s"'\\$`&;|<>()]
        | \\.
        | " (?: [^"\\$`] | \\[^$`] )* "
        | ' [^']* '
    )* )
    (?: \s+ \# .* )?
    | \# .*
    |  # an empty line
    """
)

raw_env = []
for number, line in enumerate(SETTINGS.read_text().splitlines(), 1):
    setting = SETTING.fullmatch(line.strip())
    if setting is None:
        has_mark = line.startswith("\ufeff")  # invisible in editors
        remedy = "save the file without a byte order mark" if has_mark else "put special characters in single quotes"
        raise SystemExit(f"{SETTINGS}, line {number}: must be NAME=value; {remedy}")
    raw_env += shlex.split(setting[1] or "")
os.environ.update(line.split("=", 1) for line in raw_env)  # because the import reads PORT and others

from wsgi_oauth.gunicorn_conf import *
