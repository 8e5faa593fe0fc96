"""Loading every file of a folder, so that what lies there registers itself and nobody lists it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType


def load_all(package: str, path: Iterable[str]) -> tuple[ModuleType, ...]:
    """Import every module of a package (its `__name__` and `__path__`) and of the packages in it, by name."""
    names = sorted(module.name for module in walk_packages(path, f"{package}."))
    return tuple(import_module(name) for name in names)
