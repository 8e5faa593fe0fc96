"""The scripts of models/ as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

MODELS = Path(__file__).parents[3] / "models"


def recipe(path: str) -> ModuleType:
    """Import `models/<path>`, once; the script's own folder is importable, as when Python runs it."""
    name = f"recipe_{Path(path).stem}"
    if name in sys.modules:
        return sys.modules[name]
    file = MODELS / path
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
