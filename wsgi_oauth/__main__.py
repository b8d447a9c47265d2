"""``python -m wsgi_oauth`` is the command ``wsgi-oauth``."""

from __future__ import annotations

import sys

from wsgi_oauth.cli.main import main

sys.exit(main())
