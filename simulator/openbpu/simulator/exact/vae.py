"""Tiles of the vector engine: element-wise, tables, reductions, row functions, fills."""

from __future__ import annotations

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.isa import BinaryTile, FillTile, ReduceTile, RowTile, UnaryTile
from openbpu.arch.program import Binary, Concat, LayerNorm, Lut, Pad, Reduce, Rescale, SegmentLut, Softmax
from openbpu.simulator.exact.core import Core, Int64
from openbpu.simulator.exact.memory import Array, FaultError

_HALF = 128


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


def unary_tile(core: Core, tile: UnaryTile, op: Lut | SegmentLut | Rescale | Concat) -> None:
    """Execute a UnaryTile: a table, a segmented table, or another scale."""
    source = op.inputs[tile.part if isinstance(op, Concat) else 0]
    y = core.chip.box(tile.y, tile.counts, tile.y_strides, core.dtype(op.outputs[0]))
    x = core.chip.box(tile.x, tile.counts, tile.x_strides, core.dtype(source)).read()
    y.write(_unary(core, tile, op, x))


def _unary(core: Core, tile: UnaryTile, op: Lut | SegmentLut | Rescale | Concat, x: Array) -> Array:
    if isinstance(op, Lut):
        table = core.constant(tile.table, op.table_id).read().reshape(-1)
        return np.asarray(table[x.astype(np.int64) + _HALF])
    if isinstance(op, SegmentLut):
        segments = core.constant(tile.table, op.segments_id).read()
        return numerics.segment_lut(x, segments, op.lo, op.hi)
    wide = x.astype(np.int64)
    if isinstance(op, Rescale):
        total = (wide - op.x_zero) * op.mult + op.offset
        return numerics.requantize(total, op.shift, op.zero, op.lo, op.hi)
    i = tile.part
    if op.mults[i] == 0:
        return x
    total = (wide - op.x_zeros[i]) * op.mults[i]
    return numerics.requantize(total, op.shifts[i], op.zero, op.lo, op.hi)


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


def row_tile(core: Core, tile: RowTile, op: Softmax | LayerNorm) -> None:
    """Execute a RowTile."""
    x_dtype, y_dtype = core.dtype(op.inputs[0]), core.dtype(op.outputs[0])
    shape = (tile.rows, op.shape[1])
    y = core.chip.box(tile.y, shape, (tile.y_row, y_dtype.itemsize), y_dtype)
    x = core.chip.box(tile.x, shape, (tile.x_row, x_dtype.itemsize), x_dtype).read()
    y.write(_softmax(core, tile, op, x) if isinstance(op, Softmax) else _layernorm(core, tile, op, x))


def _softmax(core: Core, tile: RowTile, op: Softmax, x: Array) -> Int64:
    table = core.constant(tile.table, op.exp_id).read()
    return numerics.softmax_rows(
        x, table, op.mult, op.shift, op.out_mult, op.out_shift, op.zero, op.lo, op.hi
    )


def _layernorm(core: Core, tile: RowTile, op: LayerNorm, x: Array) -> Int64:
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


def fill_tile(core: Core, tile: FillTile, op: Pad) -> None:
    """Execute a FillTile."""
    y = core.chip.box(tile.y, tile.counts, tile.y_strides, core.dtype(op.outputs[0]))
    y.write(np.asarray(op.value))
