"""ReduceL1, ReduceL2, ReduceSumSquare: a table in front of a sum, and the root's lines behind it.

ReduceL2(x)   →   x² by a table, int8 → int16;   its sum, int16;   √ by line segments
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.compiler.ops.reduce import LIMITS, axes_of
from openbpu.compiler.ops.rule import OpRule
from openbpu.compiler.ops.site import Float64, Leaf, Refused, Site
from openbpu.compiler.ops.tables import segments_of

_MOST = DType.INT16.qmax


def _lower(op: Callable[[Float64], Float64], *, root: bool = False) -> Callable[[Site], None]:
    def lower(site: Site) -> None:
        x, axes = site.leaf(0, ("int8",)), axes_of(site)
        if not axes:
            raise Refused("it reduces no axis", "remove it")
        terms, step = _terms(site, x, op)
        count = int(np.prod([site.shape()[a] for a in axes]))
        if not root:
            out = site.out_quant()
            low, high = site.bounds()
            _sum(site, terms, site.target, axes, step / out.s, count, zero=out.z, lo=low, hi=high)
            return
        _root(site, terms, axes, step, count)

    return lower


def _terms(site: Site, x: Leaf, op: Callable[[Float64], Float64]) -> tuple[str, float]:
    """Codes of op(x) in int16 and their scale: whole steps of op(s), or as few of them as 16 bits allow."""
    steps = op(numerics.codes(DType(x.dtype)).astype(np.float64) - x.z)
    factor = max(float(steps.max()) / _MOST, 1.0)
    table = site.rw.constant(f"{site.target}/terms/table", np.rint(steps / factor).astype(np.int16))
    terms = site.declare(f"{site.target}/terms", site.shape(), "int16")
    site.emit("Lut", (x.codes, table), terms)
    return terms, factor * float(op(np.asarray(x.s)))


def _sum(
    site: Site, terms: str, out: str, axes: tuple[int, ...], ratio: float, count: int, **bounds: int
) -> None:
    """Emit Σ terms · ratio as the codes `out`; bounds: zero, lo, hi."""
    fixed = numerics.fixed_point_sum((ratio,), (float(_MOST * count),))
    place = site.finish if out == site.target else lambda op, xs, **at: site.emit(op, xs, out, **at)
    mult, shift = int(fixed.multipliers[0][0]), int(fixed.shift[0])
    place("Reduce", (terms,), fn="sum", axes=axes, x_zero=0, mult=mult, shift=shift, **bounds)


def _root(site: Site, terms: str, axes: tuple[int, ...], step: float, count: int) -> None:
    """Emit √(Σ terms · step): sums beyond what the result can hold saturate, which it does too."""
    out, (low, high) = site.out_quant(), site.bounds()
    most = min(count * _MOST * step, ((high - out.z + 1) * out.s) ** 2)
    scale = most / _MOST
    sums = site.declare(f"{site.target}/sums", site.out_shape(), "int16")
    _sum(site, terms, sums, axes, step / scale, count, zero=0, lo=0, hi=_MOST)
    roots = np.sqrt(np.maximum(numerics.codes(DType.INT16).astype(np.float64), 0) * scale)
    lines = segments_of(np.clip(roots / out.s + out.z, low, high), (site.node,), low, high)
    table = site.rw.constant(f"{site.target}/segments", lines)
    site.finish("SegmentLut", (sums, table), lo=low, hi=high)


_DTYPES = "int8 → int8, int16"

RULES = (
    OpRule("ReduceL1", "VAE", _DTYPES, _lower(np.abs), LIMITS),
    OpRule("ReduceSumSquare", "VAE", _DTYPES, _lower(np.square), LIMITS, note="±1 step of 2⁻¹⁵ of the range"),
    OpRule("ReduceL2", "VAE", _DTYPES, _lower(np.square, root=True), LIMITS, note="64 lines for √; ±1 step"),
)
