"""A result of ``wsgi-oauth check``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One result of the check."""

    level: str  # ok, warn or FAIL
    text: str
    remedy: str = ""
    label: str = ""  # the provider's label, if several are configured

    def __str__(self) -> str:
        subject = f"{self.label}: " if self.label else ""
        return f"{self.level:<5} {subject}{self.text}" + (f"\n      -> {self.remedy}" if self.remedy else "")
