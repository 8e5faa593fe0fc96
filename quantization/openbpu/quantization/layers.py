"""Two runs of the same layers side by side: a row per layer, under the columns that the vendor's files have.

numpy only, so that models in PyTorch, ONNX models and binaries are compared by the same lines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.quantization.measures import Closeness, closeness

COLUMNS = (
    *("mod_name", "base_op_type", "analy_op_type", "shape", "quant_dtype", "qscale"),
    *("L1", "Cosine", "Atol", "max_qscale_diff"),
    *("base_model_min", "base_model_max", "base_model_mean"),
    *("analy_model_min", "analy_model_max", "analy_model_mean"),
    "advice",
)
"""Of `compare_per_layer_out` and `abnormal_layer_advisor`."""

LOW_COSINE = 0.99
"""A layer below it is abnormal."""
SAME_SQNR = 30.0
"""dB: below it layers do not compute the same; ties and stated bounds leave more."""
_BITS = {"qint8": 8, "int8": 8, "uint8": 8, "qint16": 16, "int16": 16, "uint16": 16}


@dataclass(frozen=True, slots=True)
class Statistics:
    """Least, largest and mean of the values of a tensor; NaN where it has none."""

    least: float
    largest: float
    mean: float
    variance: float

    @staticmethod
    def of(x: Array) -> Statistics:
        """Return those of an array, computed in float64."""
        if not x.size:
            return Statistics(np.nan, np.nan, np.nan, np.nan)
        with np.errstate(all="ignore"):
            wide = x.astype(np.float64)
            return Statistics(float(wide.min()), float(wide.max()), float(wide.mean()), float(wide.var()))


@dataclass(frozen=True, slots=True)
class LayerPair:
    """A layer in the baseline and in the model that is analysed.

    dtype: of its codes, "" for float · scale: one or one per channel, None for float · expected, found: its
    result in both, as floats · changed: what is known to be other than rounding, in words · damaged: whether
    that alone makes it abnormal · same: whether both should compute the same, but for a few steps.
    """

    name: str
    base_op: str
    op: str
    dtype: str
    scale: Array | None
    expected: Array
    found: Array
    changed: str = ""
    damaged: bool = False
    same: bool = False


@dataclass(frozen=True, slots=True)
class LayerRow:
    """What `compared` says of a LayerPair. steps: the largest difference in steps of the scale."""

    name: str
    base_op: str
    op: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    close: Closeness
    steps: float | None
    expected: Statistics
    found: Statistics
    advice: str
    damaged: bool = False
    same: bool = False

    @property
    def abnormal(self) -> bool:
        """Whether it is far from the baseline's."""
        if self.damaged or self.close.max_abs == inf:
            return True
        return self.close.cosine < LOW_COSINE or (self.same and self.close.sqnr < SAME_SQNR)

    def cells(self) -> tuple[Any, ...]:
        """Return it under COLUMNS."""
        scale, steps = ("" if v is None else v for v in (self.scale, self.steps))
        a, b = self.expected, self.found
        close = self.close
        return (
            *(self.name, self.base_op, self.op, self.shape, self.dtype or "float32", scale),
            *(close.l1, close.cosine, close.max_abs, steps),
            *(a.least, a.largest, a.mean, b.least, b.largest, b.mean, self.advice),
        )


def compared(pair: LayerPair) -> LayerRow:
    """Return the row of one layer."""
    close = closeness(pair.expected, pair.found)
    scale = None if pair.scale is None or not pair.scale.size else float(pair.scale.max())
    row = LayerRow(
        name=pair.name,
        base_op=pair.base_op,
        op=pair.op,
        shape=pair.found.shape,
        dtype=pair.dtype,
        scale=scale,
        close=close,
        steps=close.max_abs / scale if scale else None,
        expected=Statistics.of(pair.expected),
        found=Statistics.of(pair.found),
        advice="",
        damaged=pair.damaged,
        same=pair.same,
    )
    return replace(row, advice=_advice(row, pair))


def _advice(row: LayerRow, pair: LayerPair) -> str:
    """Say what to do about an abnormal layer: its weights, its range (truncation) or its steps (rounding)."""
    if not row.abnormal:
        return ""
    if pair.changed:
        return pair.changed
    bits = _BITS.get(pair.dtype)
    if bits is None or row.scale is None:
        return "not rounded here: look at the layers before it"
    limit = row.scale * 2 ** (bits - 1)
    cut = np.clip(pair.expected.astype(np.float64), -limit, limit) - pair.expected
    outside = float(np.mean(cut != 0)) if cut.size else 0.0
    if float(np.square(cut).sum()) > cut.size * row.scale**2 / 12:
        more = ", or int16" if bits == 8 else ""
        told = f"{outside:.2%} of the values lie outside ±{limit:.4g}"
        return f"truncation: {told}; calibrate again with a wider range{more}"
    if bits == 16:
        return "rounding of int16 explains nothing: look at the layers before it"
    return "rounding: the range fits; int16 for this layer if those before it are close"
