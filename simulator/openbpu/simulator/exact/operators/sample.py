"""Tiles of samples at the points of a grid."""

from __future__ import annotations

from functools import partial

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Int64
from openbpu.arch.operators.sample import GridSample, GridSampleTile
from openbpu.simulator.exact.core import Core
from openbpu.simulator.exact.rooms import EXECUTE


@EXECUTE.of(GridSampleTile)
def grid_sample_tile(core: Core, tile: GridSampleTile, op: GridSample) -> None:
    """Execute a GridSampleTile: between columns first, then between rows."""
    y_dtype = core.dtype(op.outputs[0])
    shape = (tile.out_h, tile.out_w, tile.channels)
    y = core.chip.box(tile.y, shape, (tile.y_row, tile.y_pixel, y_dtype.itemsize), y_dtype)
    points = (tile.out_h, tile.out_w, 2)
    grid = core.chip.box(tile.grid, points, (tile.grid_row, tile.grid_pixel, 2), np.int16).read()
    _, height, width, _ = op.x_shape
    column, row = (
        numerics.clamped_positions(
            numerics.positions(grid[..., i].astype(np.int64), *place), n, border=op.border
        )
        for i, place, n in ((0, op.columns, width), (1, op.rows, height))
    )
    pixels = partial(_pixels, core, tile, op)
    v = numerics.sampled(pixels, row, column, linear=op.mode == "linear")
    y.write(numerics.requantize(v * op.mult, op.shift, op.zero, op.lo, op.hi))


def _pixels(core: Core, tile: GridSampleTile, op: GridSample, rows: Int64, columns: Int64) -> Int64:
    """Return x − x_zero at rows and columns of the image, 0 outside of it: [out_h, out_w, channels]."""
    _, height, width, _ = op.x_shape
    y, high = numerics.pixels_inside(rows, height)
    x, wide = numerics.pixels_inside(columns, width)
    at = tile.x + (y - tile.row0) * tile.x_row + x * tile.x_pixel
    found = core.chip.gather(at, tile.channels, core.dtype(op.inputs[0])).astype(np.int64) - op.x_zero
    return np.where((high & wide)[..., None], found, 0)
