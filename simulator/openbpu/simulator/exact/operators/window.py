"""Tiles of pools and resizes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.arrays import Array, Int64
from openbpu.arch.isa import PoolTile, ResizeTile
from openbpu.arch.operators.window import MAX_WINDOW
from openbpu.arch.program import Pool, Resize
from openbpu.simulator.exact.core import Core
from openbpu.simulator.exact.memory import Box, FaultError
from openbpu.simulator.exact.rooms import EXECUTE


@EXECUTE.of(PoolTile)
def pool_tile(core: Core, tile: PoolTile, op: Pool) -> None:
    """Execute a PoolTile."""
    if op.kernel[0] * op.kernel[1] > MAX_WINDOW:
        raise FaultError(f"a window of {op.kernel} elements is larger than any pool")
    x_dtype, y_dtype = core.dtype(op.inputs[0]), core.dtype(op.outputs[0])
    shape = (tile.out_h, tile.out_w, tile.channels)
    y = core.chip.box(tile.y, shape, (tile.y_row, tile.y_pixel, y_dtype.itemsize), y_dtype)
    box = core.chip.box(
        tile.x,
        (tile.in_h, tile.in_w, tile.channels),
        (tile.x_row, tile.x_pixel, x_dtype.itemsize),
        x_dtype,
    )
    entries = 1 if op.fn == "max" else op.kernel[0] * op.kernel[1] + 1
    counts = core.chip.dense(tile.counts, (entries, 2), np.int64)
    y.write(_maximum(box, tile, op, counts) if op.fn == "max" else _average(box, tile, op, counts))


def _taps(outputs: int, pad: int, op: Pool, axis: int) -> npt.NDArray[np.int64]:
    """Return the tile position that output i reads at tap k, wherever that is."""
    taps = np.arange(op.kernel[axis]) * op.dilations[axis]
    return np.arange(outputs)[:, None] * op.strides[axis] + taps - pad


def _maximum(box: Box, tile: PoolTile, op: Pool, counts: Box) -> Int64:
    rows, cols = _taps(tile.out_h, tile.pad_top, op, 0), _taps(tile.out_w, tile.pad_left, op, 1)
    lowest = int(np.iinfo(box.dtype).min)
    x = _bordered(box.read().astype(np.int64), lowest)
    best = np.full((tile.out_h, tile.out_w, tile.channels), lowest, dtype=np.int64)
    for ky in range(op.kernel[0]):
        for kx in range(op.kernel[1]):
            np.maximum(
                best, x[np.ix_(_inside(rows[:, ky], tile.in_h), _inside(cols[:, kx], tile.in_w))], out=best
            )
    mult, shift = counts.read()[0].tolist()
    return numerics.requantize((best - op.x_zero) * mult, shift, op.zero, op.lo, op.hi)


def _average(box: Box, tile: PoolTile, op: Pool, counts: Box) -> Int64:
    rows, cols = _taps(tile.out_h, tile.pad_top, op, 0), _taps(tile.out_w, tile.pad_left, op, 1)
    x = _bordered(box.read().astype(np.int64) - op.x_zero, 0)
    total = np.zeros((tile.out_h, tile.out_w, tile.channels), dtype=np.int64)
    for ky in range(op.kernel[0]):
        for kx in range(op.kernel[1]):
            total += x[np.ix_(_inside(rows[:, ky], tile.in_h), _inside(cols[:, kx], tile.in_w))]
    top, bottom, left, right = tile.bounds if op.count_pad else (0, tile.in_h, 0, tile.in_w)
    high = ((rows >= top) & (rows < bottom)).sum(axis=1)
    wide = ((cols >= left) & (cols < right)).sum(axis=1)
    mult, shift = counts.read()[high[:, None] * wide[None, :]].transpose(2, 0, 1)[..., None]
    return numerics.requantize(total * mult, shift, op.zero, op.lo, op.hi)


def _bordered(x: Int64, value: int) -> Int64:
    """Return x with one more row and column of `value`, where every position outside the input is read."""
    return np.pad(x, ((0, 1), (0, 1), (0, 0)), constant_values=value)


def _inside(positions: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    return np.where((positions >= 0) & (positions < length), positions, length)


@EXECUTE.of(ResizeTile)
def resize_tile(core: Core, tile: ResizeTile, op: Resize) -> None:
    """Execute a ResizeTile: between columns first, then between rows."""
    y_dtype = core.dtype(op.outputs[0])
    shape = (tile.out_h, tile.out_w, tile.channels)
    y = core.chip.box(tile.y, shape, (tile.y_row, tile.y_pixel, y_dtype.itemsize), y_dtype)
    rows = core.chip.dense(tile.rows, (tile.out_h, 3), np.int32).read().astype(np.int64)
    cols = core.chip.dense(tile.cols, (tile.out_w, 3), np.int32).read().astype(np.int64)
    f, g = rows[:, 2][:, None, None], cols[:, 2][None, :, None]
    upper, lower = (
        numerics.between(
            _corner(core, tile, op, at, cols[:, 0]),
            _corner(core, tile, op, at, cols[:, 1]),
            g,
            numerics.WEIGHT_BITS - numerics.BETWEEN_BITS,
        )
        for at in (rows[:, 0], rows[:, 1])
    )
    total = numerics.between(upper, lower, f, numerics.WEIGHT_BITS) * op.mult
    y.write(numerics.requantize(total, op.shift, op.zero, op.lo, op.hi))


def _corner(core: Core, tile: ResizeTile, op: Resize, rows: Int64, cols: Int64) -> Array:
    """Return x − x_zero at the given rows and columns of the whole input, [out_h, out_w, channels]."""
    at = tile.x + (rows - tile.row0)[:, None] * tile.x_row + (cols - tile.col0)[None, :] * tile.x_pixel
    return core.chip.gather(at, tile.channels, core.dtype(op.inputs[0])).astype(np.int64) - op.x_zero
