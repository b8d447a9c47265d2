"""``python -m wsgi_oauth`` is ``wsgi-oauth``."""

from __future__ import annotations

import sys

from wsgi_oauth.cli.main import main

sys.exit(main())
