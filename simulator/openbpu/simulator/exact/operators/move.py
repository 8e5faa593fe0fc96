"""Tiles that compute nothing, or no more than another scale: moves, joins, borders, choices."""

from __future__ import annotations

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Array
from openbpu.arch.isa import (
    FillTile,
    GatherTile,
    MoveTile,
    UnaryTile,
)
from openbpu.arch.program import (
    Concat,
    Gather,
    Operator,
    Pad,
)
from openbpu.simulator.exact.core import Core
from openbpu.simulator.exact.memory import FaultError
from openbpu.simulator.exact.rooms import EXECUTE, UNARY

_ELEMENTS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@EXECUTE.of(MoveTile)
def move_tile(core: Core, tile: MoveTile, _: Operator) -> None:
    """Execute a MoveTile."""
    if tile.element not in _ELEMENTS:
        raise FaultError(f"an element of {tile.element} bytes does not exist (1, 2, 4, 8)")
    dtype = _ELEMENTS[tile.element]
    y = core.chip.box(tile.y, tile.counts, tile.y_strides, dtype)
    y.write(core.chip.box(tile.x, tile.counts, tile.x_strides, dtype).read())


@UNARY.of(Concat)
def concat(_: Core, tile: UnaryTile, op: Concat, x: Array) -> Array:
    """Return input `part` at the scale of the output; a factor of 0 keeps the bits."""
    i = tile.part
    if op.mults[i] == 0:
        return x
    total = (x.astype(np.int64) - op.x_zeros[i]) * op.mults[i]
    return numerics.requantize(total, op.shifts[i], op.zero, op.lo, op.hi)


@EXECUTE.of(FillTile)
def fill_tile(core: Core, tile: FillTile, op: Pad) -> None:
    """Execute a FillTile."""
    y = core.chip.box(tile.y, tile.counts, tile.y_strides, core.dtype(op.outputs[0]))
    y.write(np.asarray(op.value))


@EXECUTE.of(GatherTile)
def gather_tile(core: Core, tile: GatherTile, op: Gather) -> None:
    """Execute a GatherTile."""
    dtype = core.dtype(op.inputs[0])
    a, i, b = tile.counts
    y = core.chip.box(tile.y, tile.counts, (*tile.y_strides, dtype.itemsize), core.dtype(op.outputs[0]))
    indices = core.chip.dense(tile.indices, (i,), np.int32).read().astype(np.int64) - tile.base
    at = tile.x + np.arange(a)[:, None] * tile.x_strides[0] + indices[None, :] * tile.x_strides[1]
    y.write(core.chip.gather(at, b, dtype))
