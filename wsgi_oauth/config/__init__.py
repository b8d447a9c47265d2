"""The settings of an application, reading them from the environment, and the checks of their values."""

from .environ import PREFIX
from .settings import Config, ProviderConfig, StoreConfig

__all__ = ["PREFIX", "Config", "ProviderConfig", "StoreConfig"]
