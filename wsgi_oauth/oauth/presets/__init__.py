"""The providers that are known by name.

Each preset states where a provider differs from the specifications, with a link to the documentation that says so.
``docs/providers.md`` is generated from the presets. :mod:`..configured` looks them up.
"""

from __future__ import annotations

from . import business, company, developer, social
from .developer import GITHUB

__all__ = ["GITHUB", "PRESETS"]

_ALL = (*business.PROVIDERS, *company.PROVIDERS, *developer.PROVIDERS, *social.PROVIDERS)

PRESETS = {preset.name: preset for preset in sorted(_ALL)}
