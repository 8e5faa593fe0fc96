"""`horizon_plugin_pytorch.quantization.hbdk4`: a prepared PyTorch model becomes a module."""

from __future__ import annotations

import importlib
from typing import Any

from openbpu.compat.hbdk.module import Module, as_module

__all__ = ["export"]


def export(model: Any, example_inputs: Any, name: str = "", **ignored: Any) -> Module:
    """Export a prepared model in `eval()` and VALIDATION; errors: see `openbpu.quantization.torch.export`."""
    del ignored
    module = as_module(
        importlib.import_module("openbpu.quantization.torch").export(model, example_inputs), "export"
    )
    if name:
        module.model.graph.name = name
    return module
