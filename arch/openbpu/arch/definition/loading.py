"""Loading every file of a folder, so that what lies there registers itself and nobody lists it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pkgutil import walk_packages


def load_all(package: str, path: Iterable[str]) -> None:
    """Import every module of a package (its `__name__` and `__path__`) and of the packages in it."""
    for module in walk_packages(path, f"{package}."):
        import_module(module.name)
