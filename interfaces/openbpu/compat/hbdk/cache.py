"""Whether a compiled module is taken from a cache: here nothing is, a compilation takes seconds."""

from __future__ import annotations

from enum import Enum


class CacheMode(str, Enum):
    """The vendor's modes; each compiles."""

    disable = "disable"
    enable = "enable"
    force_overwrite = "force_overwrite"
