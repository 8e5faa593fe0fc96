"""`hbdk4.compiler.onnx`: an ONNX model becomes a module."""

from __future__ import annotations

from typing import Any

from openbpu.compat.hbdk.build import statistics
from openbpu.compat.hbdk.module import Module, as_module

__all__ = ["export", "statistics"]


def export(model: Any, name: str = "", **ignored: Any) -> Module:
    """Return a quantized ONNX model as a module; `name` renames its graph."""
    del ignored
    module = as_module(model, "hbdk4.compiler.onnx.export")
    if name:
        module = module.with_note("openbpu.name", name)
        module.model.graph.name = name
    return module
