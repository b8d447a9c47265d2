"""The settings of an application: what they are, how the environment is read, and which values are valid."""

from .environ import PREFIX
from .settings import Config, ProviderConfig, StoreConfig

__all__ = ["PREFIX", "Config", "ProviderConfig", "StoreConfig"]
