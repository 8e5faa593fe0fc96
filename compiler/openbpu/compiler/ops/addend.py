"""What a Gemm adds to its product: a bias per column, one per column of every row, or a tensor of codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openbpu.arch.arrays import Float64
from openbpu.compiler.ops.site import Leaf, Refused, Site

_MOST_ROWS = 64
"""Rows of a constant that is no code: each of them is a convolution of its own."""


@dataclass(frozen=True, slots=True)
class Addend:
    """Of a result [M, N]: `rows` holds reals, [1, N] or [M, N]; `codes` are added times `gain`."""

    rows: Float64 | None = None
    codes: Leaf | None = None
    gain: float = 1.0


def addend(site: Site, m: int, n: int) -> Addend:
    """Return beta · C of a Gemm of M rows and N columns."""
    if not site.has(2):
        return Addend()
    gain, values = float(site.node.attrs.get("beta", 1.0)), site.constant(2)
    if values is None:
        return _codes(site, gain)
    rows = np.broadcast_to(values * gain, (m, n))
    if (rows == rows[:1]).all():
        return Addend(rows[:1])
    leaf = site.leaf_or_none(site.node.inputs[2])
    if leaf is not None and leaf.scaling.per_tensor and site.out is not None:
        return _codes(site, gain)
    if m > _MOST_ROWS or site.out is None:
        raise Refused(
            f"a C of other values in every row must be quantized, or have at most {_MOST_ROWS} rows and a "
            "quantized result",
            "quantize C and the result of the Gemm",
        )
    return Addend(rows)


def _codes(site: Site, gain: float) -> Addend:
    """C as the one tensor that is added in front of the rounding."""
    if site.residual is not None or site.affine is not None:
        raise Refused("its C is a tensor, so nothing else can be fused behind it", "quantize its output")
    site.out_quant()
    return Addend(codes=site.leaf(2), gain=gain)
