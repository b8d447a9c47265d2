"""The settings of an application."""

from .settings import PREFIX, Config, ProviderConfig, StoreConfig

__all__ = ["PREFIX", "Config", "ProviderConfig", "StoreConfig"]
