"""ReduceL1, ReduceL2, ReduceSumSquare: a table in front of a sum, and the root's lines behind it.

ReduceL2(x)   →   x² by a table, int8 → int16;   its sum, int16;   √ by line segments
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Float64
from openbpu.arch.dtypes import DType
from openbpu.compiler.ops.reduce import LIMITS, count_of, lower_sum
from openbpu.compiler.ops.rule import OpRule
from openbpu.compiler.ops.site import Refused, Site
from openbpu.compiler.ops.tables import segments_of

_MOST = DType.INT16.qmax


@dataclass(frozen=True, slots=True)
class _Terms:
    """What is summed, exactly: op(x) = (code − zero) · step, in int16 codes; most: largest code − zero."""

    codes: str
    zero: int
    step: float
    most: int


def _terms(site: Site, op: Callable[[Float64], Float64]) -> _Terms:
    """Emit the table of op(x); a square of up to 255 needs all 16 bits, so 0 may be their lowest code."""
    x = site.leaf(0, ("int8",))
    steps = op(numerics.codes(DType(x.dtype)).astype(np.float64) - x.z)
    most = int(steps.max())
    zero = 0 if most <= _MOST else DType.INT16.qmin
    table = site.rw.constant(f"{site.target}/terms/table", (steps + zero).astype(np.int16))
    codes = site.declare(f"{site.target}/terms", site.shape(), "int16")
    site.emit("Lut", codes, x=x.codes, table=table)
    return _Terms(codes, zero, float(op(np.asarray(x.s))), most)


def _summed(op: Callable[[Float64], Float64]) -> Callable[[Site], None]:
    def lower(site: Site) -> None:
        out, terms = site.out_quant(), _terms(site, op)
        low, high = site.bounds()
        lower_sum(site, terms.codes, terms.zero, terms.step / out.s, terms.most, zero=out.z, lo=low, hi=high)

    return lower


def _root(site: Site) -> None:
    """√(Σ x²): sums beyond what the result can hold saturate, which it does too."""
    out, (low, high) = site.out_quant(), site.bounds()
    if out.dtype != "int8":
        why = f"the sum under its root has 16 bits, too few for a result of {out.dtype}"
        raise Refused(why, "quantize its output to int8")
    terms = _terms(site, np.square)
    scale = min(count_of(site) * terms.most * terms.step, ((high - out.z + 1) * out.s) ** 2) / _MOST
    sums = site.declare(f"{site.target}/sums", site.out_shape(), "int16")
    lower_sum(site, terms.codes, terms.zero, terms.step / scale, terms.most, out=sums, zero=0, lo=0, hi=_MOST)
    roots = np.sqrt(np.maximum(numerics.codes(DType.INT16).astype(np.float64), 0) * scale)
    lines = segments_of(site, np.clip(roots / out.s + out.z, low, high), (site.node,), low, high)
    table = site.rw.constant(f"{site.target}/segments", lines)
    site.finish("SegmentLut", x=sums, segments=table, lo=low, hi=high)


_DTYPES = "int8 → int8, int16"

RULES = (
    OpRule("ReduceL1", "VAE", _DTYPES, _summed(np.abs), LIMITS),
    OpRule("ReduceSumSquare", "VAE", _DTYPES, _summed(np.square), LIMITS),
    OpRule("ReduceL2", "VAE", "int8 → int8", _root, LIMITS, note="64 lines for √; ±1 step"),
)
