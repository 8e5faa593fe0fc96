"""Tiles of one tensor or two, element by element."""

from __future__ import annotations

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Array, Int64
from openbpu.arch.isa import (
    BinaryTile,
    UnaryTile,
)
from openbpu.arch.program import (
    Binary,
    Operator,
    Rescale,
)
from openbpu.simulator.exact.core import Core
from openbpu.simulator.exact.memory import FaultError
from openbpu.simulator.exact.rooms import EXECUTE, UNARY


@EXECUTE.of(BinaryTile)
def binary_tile(core: Core, tile: BinaryTile, op: Binary) -> None:
    """Execute a BinaryTile."""
    y = core.chip.box(tile.y, tile.counts, tile.y_strides, core.dtype(op.outputs[0]))
    a = core.chip.box(tile.a, tile.counts, tile.a_strides, core.dtype(op.inputs[0])).read()
    b = core.chip.box(tile.b, tile.counts, tile.b_strides, core.dtype(op.inputs[1])).read()
    v = _combine(op, a.astype(np.int64) - op.a_zero, b.astype(np.int64) - op.b_zero)
    y.write(core.finish(v + op.offset, op, tile.table))


def _combine(op: Binary, a: Int64, b: Int64) -> Int64:
    """Return v of the operator's formula, without its offset."""
    if op.fn == "add":
        return a * op.mult_a + b * op.mult_b
    if op.fn == "mul":
        return a * b * op.mult_a
    if op.fn == "max":
        return np.maximum(a * op.mult_a, b * op.mult_b)
    if op.fn == "min":
        return np.minimum(a * op.mult_a, b * op.mult_b)
    if op.fn == "prelu":
        return np.where(a >= 0, a * op.mult_a, a * b * op.mult_b)
    raise FaultError(f"the function {op.fn!r} of a Binary does not exist")


@EXECUTE.of(UnaryTile)
def unary_tile(core: Core, tile: UnaryTile, op: Operator) -> None:
    """Execute a UnaryTile: input `part` of its operator, element by element."""
    y = core.chip.box(tile.y, tile.counts, tile.y_strides, core.dtype(op.outputs[0]))
    x = core.chip.box(tile.x, tile.counts, tile.x_strides, core.dtype(op.inputs[tile.part])).read()
    y.write(UNARY[type(op)](core, tile, op, x))


@UNARY.of(Rescale)
def rescale(_: Core, __: UnaryTile, op: Rescale, x: Array) -> Array:
    """Return x at another scale."""
    total = (x.astype(np.int64) - op.x_zero) * op.mult + op.offset
    return numerics.requantize(total, op.shift, op.zero, op.lo, op.hi)
