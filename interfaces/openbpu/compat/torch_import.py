"""torch is completed when a script imports it, and not before: importing it takes seconds."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from openbpu.compat.torch_names import complete


class TorchFinder(importlib.abc.MetaPathFinder):
    """Stands first in `sys.meta_path`; finds torch as Python does and completes it once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return torch's spec with a loader that completes it; None for every other module."""
        if fullname != "torch":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            _complete_behind(spec.loader)
        return spec


def _complete_behind(loader: Any) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        complete()

    loader.exec_module = exec_module


def watch() -> None:
    """Complete torch now if it is loaded, else when it will be; may be called again."""
    if "torch" in sys.modules:
        complete()
    elif not any(isinstance(found, TorchFinder) for found in sys.meta_path):
        sys.meta_path.insert(0, TorchFinder())
