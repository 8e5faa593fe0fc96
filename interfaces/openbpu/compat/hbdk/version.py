"""`hbdk4.compiler.version`: the version is openbpu's."""

from __future__ import annotations

from importlib.metadata import version

__all__ = ["VERSION"]

VERSION = version("openbpu")
