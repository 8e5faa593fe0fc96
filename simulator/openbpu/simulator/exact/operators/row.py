"""Tiles of whole rows."""

from __future__ import annotations

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Array, Int64
from openbpu.arch.isa import (
    RowTile,
)
from openbpu.arch.program import (
    LayerNorm,
    Softmax,
)
from openbpu.simulator.exact.core import Core
from openbpu.simulator.exact.rooms import EXECUTE, ROWS


@EXECUTE.of(RowTile)
def row_tile(core: Core, tile: RowTile, op: Softmax | LayerNorm) -> None:
    """Execute a RowTile."""
    x_dtype, y_dtype = core.dtype(op.inputs[0]), core.dtype(op.outputs[0])
    shape = (tile.rows, op.shape[1])
    y = core.chip.box(tile.y, shape, (tile.y_row, y_dtype.itemsize), y_dtype)
    x = core.chip.box(tile.x, shape, (tile.x_row, x_dtype.itemsize), x_dtype).read()
    y.write(ROWS[type(op)](core, tile, op, x))


@ROWS.of(Softmax)
def softmax(core: Core, tile: RowTile, op: Softmax, x: Array) -> Int64:
    """Return the shares of each row."""
    table = core.constant(tile.table, op.exp_id).read()
    return numerics.softmax_rows(
        x, table, op.mult, op.shift, op.out_mult, op.out_shift, op.zero, op.lo, op.hi
    )


@ROWS.of(LayerNorm)
def layernorm(core: Core, tile: RowTile, op: LayerNorm, x: Array) -> Int64:
    """Return each row in units of its own spread."""
    return numerics.layernorm_rows(
        x.astype(np.int64) - op.x_zero,
        core.constant(tile.table, op.gain_id).read(),
        core.constant(tile.table2, op.bias_id).read(),
        op.epsilon,
        op.epsilon_shift,
        op.shift,
        op.zero,
        op.lo,
        op.hi,
        centred=op.centred,
    )
