"""Creates one of the applications in a process of its own, with the settings from the environment."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from . import Settings


def create(module: str, folder: str) -> Any:
    """Return the application of *module*. ``ours`` is wsgi_oauth without the extra ``openid``, which allauth needs."""
    if module == "ours":
        sys.modules["jwt"] = None  # type: ignore[assignment]
    peer = importlib.import_module(f"{__package__}.{module.removesuffix('_with_openid')}")
    return getattr(peer, "create_gate", peer.create)(Settings.from_environ(), Path(folder))
