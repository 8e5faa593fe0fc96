"""A compiled program against its ONNX model, as a table or as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from openbpu.report.text import DASH, add_row, count, table
from openbpu.runtime.verify import Comparison

if TYPE_CHECKING:
    from rich.table import Table

LEGEND = (
    "A step is the quantization step (scale) of the output: "
    f"what its value changes by when its integer changes by 1. {DASH}: the output has no step."
)
_COLUMNS = ("Output", "Cosine", "Max difference", "In steps", "Elements that differ", "Elements")


def verify_table(found: Sequence[Comparison]) -> Table:
    """Return one row per output."""
    made = table(*_COLUMNS, numbers=_COLUMNS[1:])
    for c in found:
        steps = DASH if c.max_steps is None else f"{c.max_steps:.2f}"
        add_row(made, c.name, f"{c.cosine:.6f}", f"{c.max_abs:.6g}", steps, f"{c.differing:.4%}", c.elements)
    return made


def verify_json(found: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return one object per output; an infinite difference is null, which JSON can hold."""
    return [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(c).items()}
        for c in found
    ]


def float_remark(model: str) -> str:
    """Return what to know when the reference is not quantized."""
    return (
        f"{model} is a float model: the differences include those of its quantization; "
        "compare with the quantized model to see the binary's alone"
    )


def verdict(outputs: int, failed: int) -> str:
    """Return the result in words."""
    if failed:
        return f"verify: failed, {failed} of {count(outputs, 'output')} differ too much"
    return f"verify: passed, {count(outputs, 'output')} compared"
