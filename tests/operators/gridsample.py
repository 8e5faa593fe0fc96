"""GridSample."""

from __future__ import annotations

from typing import Any

import numpy as np

from arch.samples import SAMPLES, SHAPE, C, H, N, W
from openbpu.arch import numerics
from openbpu.arch.isa import Instr
from openbpu.arch.operators.sample import GridSample, GridSampleTile
from openbpu.arch.program import Operator
from simulator.build import Build
from simulator.coder import At, Coder
from simulator.drawing import (
    CHANNELS,
    INT8,
    INT16,
    Rng,
    bounds,
    chance,
    drawn,
    factor,
    narrow_dtype,
    pick,
    zero_point,
)
from simulator.oracle import RUN, Array, Oracle
from simulator.tiles import TILES, images
from witness.builder import GraphBuilder, Style
from witness.emit.registry import MIN_OPSET, emitter
from witness.recipes import RECIPES, Recipe
from witness.variations import VARIATIONS


@RUN.of(GridSample)
def formula(op: GridSample, o: Oracle) -> Array:
    """A point after the other, in whole numbers of Python."""
    x = o.wide(op.inputs[0]).reshape(op.x_shape) - op.x_zero
    grid = o.wide(op.inputs[1]).reshape(*op.y_shape[:3], 2)
    y = np.zeros(op.y_shape, np.int64)
    for n, i, j in np.ndindex(*op.y_shape[:3]):
        y[n, i, j] = _point(op, x[n], [int(g) for g in grid[n, i, j]])
    return numerics.requantize(y * op.mult, op.shift, op.zero, op.lo, op.hi)


def _point(op: GridSample, x: Array, codes: list[int]) -> Any:
    place = []
    for code, (mult, offset, shift), n in zip(codes, (op.columns, op.rows), x.shape[1::-1], strict=True):
        p = halves_to_even(code * mult + offset, shift)
        place.append(min(max(p, 0), (n - 1) * 2**20) if op.border else p)

    def pixel(row: int, column: int) -> Any:
        there = 0 <= row < x.shape[0] and 0 <= column < x.shape[1]
        return x[row, column] if there else np.zeros(x.shape[2], np.int64)

    if op.mode == "nearest":
        column, row = (halves_to_even(p, 20) for p in place)
        return pixel(row, column)
    (column, g), (row, f) = (divmod(p, 2**20) for p in place)
    above, below = (
        numerics.between(pixel(r, column), pixel(r, column + 1), g << 10, 15) for r in (row, row + 1)
    )
    return numerics.between(above, below, f << 10, 30)


def halves_to_even(value: int, shift: int) -> int:
    whole, rest = divmod(value, 1 << shift)
    return whole + (2 * rest > 1 << shift or (2 * rest == 1 << shift and whole % 2 == 1))


@TILES.of(GridSample)
def tile(c: Coder, op: GridSample, at: At, y: int) -> list[Instr]:
    x, grid = op.inputs
    points = (*op.y_shape[:3], 2)
    (x_image, x_row, x_pixel), (g_image, g_row, g_pixel), (y_image, y_row, y_pixel) = (
        images(c, t, shape) for t, shape in ((x, op.x_shape), (grid, points), (op.outputs[0], op.y_shape))
    )
    return [
        GridSampleTile(
            operator=c.index, x=at[x] + n * x_image, grid=at[grid] + n * g_image, y=y + n * y_image,
            x_row=x_row, x_pixel=x_pixel, grid_row=g_row, grid_pixel=g_pixel, y_row=y_row, y_pixel=y_pixel,
            out_h=op.y_shape[1], out_w=op.y_shape[2], channels=op.x_shape[3], row0=0,
        )
        for n in range(op.x_shape[0])
    ]  # fmt: skip


@drawn(GridSample)
def grid_sample(rng: Rng, b: Build) -> Operator:
    x_dtype, y_dtype, linear = narrow_dtype(rng), narrow_dtype(rng), chance(rng, 0.6)
    images, channels = pick(rng, (1, 2)), pick(rng, CHANNELS)
    x_shape = (images, pick(rng, (1, 4, 9)), pick(rng, (1, 3, 16)), channels)
    y_shape = (images, pick(rng, (1, 7)), pick(rng, (1, 5, 9)), channels)
    # From points all of one pixel to points far outside; steps of a power of two make ties.
    scale = 2.0**-14 if chance(rng) else float(rng.uniform(0.2, 3)) / 32768
    zero, corners = zero_point(rng, INT16) if chance(rng) else 0, chance(rng, 0.5)
    columns, rows = (numerics.position_factors(scale, zero, n, corners=corners) for n in x_shape[2:0:-1])
    mult, shift = factor(rng, float(x_dtype.qmax) * (2**15 if linear else 1), y_dtype)
    return GridSample(
        inputs=(b.input(x_shape, x_dtype), b.input((*y_shape[:3], 2), INT16)),
        outputs=(b.tensor(y_shape, y_dtype),), mode="linear" if linear else "nearest",
        border=chance(rng, 0.5), columns=columns, rows=rows, x_shape=x_shape, y_shape=y_shape,
        x_zero=zero_point(rng, x_dtype), mult=mult >> 2, shift=max(shift - 2, 0), **bounds(rng, y_dtype),
    )  # fmt: skip


@SAMPLES.of(GridSample)
def sample(b: Build, x: int) -> Operator:
    columns, rows = (numerics.position_factors(2.0**-15, 0, n, corners=False) for n in (W, H))
    grid = b.const(np.linspace(-30000, 30000, N * 2 * 3 * 2).astype(np.int16).reshape(N, 2, 3, 2))
    return GridSample(
        inputs=(x, grid), outputs=(b.tensor((N, 2, 3, C), INT8),), mode="linear", columns=columns, rows=rows,
        x_shape=SHAPE, y_shape=(N, 2, 3, C), mult=1 << 30, shift=45,
    )  # fmt: skip


MODES = {"linear": "bilinear", "cubic": "bicubic"}
"""What opset 20 renamed."""


MIN_OPSET["GridSample"] = 16


@emitter("GridSample")
def emit(
    b: GraphBuilder,
    x: str,
    *,
    mode: str = "linear",
    padding: str = "zeros",
    corners: int = 0,
    out: tuple[int, int] = (5, 6),
    grid: str = "branch",
    reach: float = 1.2,
) -> tuple[str, ...]:
    """At uniform points of ±reach: codes of int16 that are an input of the model, or constant."""
    points = b.rng.uniform(-reach, reach, (b.shape(x)[0], *out, 2))
    codes = b.weight(points, "int16") if grid == "constant" else b.qdq(b.input(points), Style("int16"))
    named = mode if b.opset >= 20 else MODES.get(mode, mode)
    return (b.node("GridSample", x, codes, mode=named, padding_mode=padding, align_corners=corners),)


RECIPES["GridSample"] = Recipe(
    lambda s: {
        "mode": s.one_of("linear", "nearest"), "padding": s.one_of("zeros", "border"),
        "corners": s.integer(0, 1), "grid": s.one_of("branch", "constant"),
        "out": (s.integer(1, 6), s.integer(1, 6)), "reach": s.one_of(1.2, 0.1, 5.0),
    },
    lambda shape, _: len(shape) == 4,
)  # fmt: skip
VARIATIONS["GridSample"] = {
    "linear": {},
    "border": {"padding": "border", "corners": 1},
    "corners": {"corners": 1, "opset": 22},
    "nearest": {"mode": "nearest", "corners": 1},
    "nearest-border": {"mode": "nearest", "padding": "border", "reach": 3.0},
    "constant": {"grid": "constant", "shape": (2, 3, 7, 9)},
    "opset16": {"opset": 16},
    "a-row": {"shape": (1, 5, 1, 9), "corners": 1, "out": (1, 11)},
    "a-pixel": {"shape": (1, 2, 1, 1), "out": (3, 3)},
    "cameras": {"shape": (6, 17, 4, 11), "out": (1, 40), "reach": 2.0},
    "to-int16": {"output": "int16"},
    "reflection": {"padding": "reflection"},
    "cubic": {"mode": "cubic"},
}
