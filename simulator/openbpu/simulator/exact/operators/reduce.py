"""Tiles of sums and extremes along an axis."""

from __future__ import annotations

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Int64
from openbpu.arch.isa import (
    ReduceTile,
)
from openbpu.arch.operators.reduce import ArgReduce, ArgReduceTile, CumSum, CumSumTile
from openbpu.arch.program import (
    Reduce,
)
from openbpu.simulator.exact.core import Core
from openbpu.simulator.exact.memory import FaultError
from openbpu.simulator.exact.rooms import EXECUTE


@EXECUTE.of(ReduceTile)
def reduce_tile(core: Core, tile: ReduceTile, op: Reduce) -> None:
    """Execute a ReduceTile: the whole middle axis."""
    a, _, b = tile.counts
    y = core.chip.box(tile.y, (a, b), tile.y_strides, core.dtype(op.outputs[0]))
    x = core.chip.box(tile.x, tile.counts, tile.x_strides, core.dtype(op.inputs[0])).read()
    wide = x.astype(np.int64)
    if op.fn == "sum":
        v = core.sat32((wide - op.x_zero).sum(axis=1), wide=True)
    elif op.fn in ("max", "min"):
        v = (wide.max(axis=1) if op.fn == "max" else wide.min(axis=1)) - op.x_zero
    else:
        raise FaultError(f"the function {op.fn!r} of a Reduce does not exist")
    y.write(numerics.requantize(v * op.mult, op.shift, op.zero, op.lo, op.hi))


@EXECUTE.of(CumSumTile)
def cumsum_tile(core: Core, tile: CumSumTile, op: CumSum) -> None:
    """Execute a CumSumTile: the whole middle axis."""
    y = core.chip.box(tile.y, tile.counts, tile.y_strides, core.dtype(op.outputs[0]))
    x = core.chip.box(tile.x, tile.counts, tile.x_strides, core.dtype(op.inputs[0])).read()
    wide = x.astype(np.int64) - op.x_zero
    along = wide[:, ::-1] if op.reverse else wide
    sums: Int64 = along.cumsum(axis=1)
    if op.exclusive:
        sums = sums - along
    v = core.sat32(sums[:, ::-1] if op.reverse else sums, wide=True)
    y.write(numerics.requantize(v * op.mult, op.shift, op.zero, op.lo, op.hi))


@EXECUTE.of(ArgReduceTile)
def arg_reduce_tile(core: Core, tile: ArgReduceTile, op: ArgReduce) -> None:
    """Execute an ArgReduceTile: the whole middle axis."""
    a, r, b = tile.counts
    y = core.chip.box(tile.y, (a, b), tile.y_strides, core.dtype(op.outputs[0]))
    x = core.chip.box(tile.x, tile.counts, tile.x_strides, core.dtype(op.inputs[0])).read()
    along = x[:, ::-1] if op.last else x
    found = along.argmin(axis=1) if op.fn == "min" else along.argmax(axis=1)
    y.write(r - 1 - found if op.last else found)
