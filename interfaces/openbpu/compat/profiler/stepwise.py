"""Quantization step by step, as rows of a table."""

from __future__ import annotations

import importlib
from typing import Any

from openbpu.arch.errors import OpenbpuError

COLUMNS = ("step", "quantized now", "quantizers", "so far", "Cosine", "L1", "SQNR (dB)")
MOST = 200
"""Quantizers of a model whose layers are stepped through one by one: each step is a run of the model."""


def step_rows(model: Any, inputs: Any, by: str) -> list[tuple[Any, ...]]:
    """Return a row per step; none for a model that is not prepared, or has seen no data."""
    profiler = importlib.import_module("openbpu.quantization.torch.profiler")
    try:
        return [
            (s.number, s.name, s.quantizers, s.of, s.close.cosine, s.close.l1, s.close.sqnr)
            for s in profiler.steps(model, inputs, by)
        ]
    except OpenbpuError:
        return []
