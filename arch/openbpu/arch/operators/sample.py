"""Sampling: reading an image at the points of a grid that is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from openbpu.arch.arrays import Array, Int64
from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.instruction import Instr, u16, u32
from openbpu.arch.definition.integers import Count, ceil_div, choose
from openbpu.arch.definition.layers import Layers, Records, column
from openbpu.arch.definition.needs import NARROW, need, need_geometry, need_sizes
from openbpu.arch.definition.operator import Ints, Operator
from openbpu.arch.definition.registry import instruction, operator
from openbpu.arch.dtypes import DType
from openbpu.arch.engines import Engine
from openbpu.arch.march import March
from openbpu.arch.numerics import MAX_SHIFT, clamped_positions, pixels_read, positions

_MAX_MULT, _MAX_OFFSET = 1 << 31, 1 << 62


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class GridSampleTile(Instr):
    """out_h × out_w points of a GridSample × channels, one image.

    x points at the pixel in row row0, column 0 of the image, which the operator knows the size of; all
    pixels that the points of the tile ask for are there. The two codes of a point, and channels, are dense.
    """

    OPCODE: ClassVar[int] = 0x37
    ENGINE: ClassVar[Engine] = Engine.AAE
    x: int = u32()
    grid: int = u32()
    y: int = u32()
    x_row: int = u32()
    x_pixel: int = u32()
    grid_row: int = u32()
    grid_pixel: int = u32()
    y_row: int = u32()
    y_pixel: int = u32()
    out_h: int = u16()
    out_w: int = u16()
    channels: int = u32()
    row0: int = u32()

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """See `sample_cycles`."""
        ids = column(rows, "operator")
        return sample_cycles(
            layers.march,
            points=column(rows, "out_h") * column(rows, "out_w"),
            channels=column(rows, "channels"),
            linear=layers.of(ids, lambda o: o.mode == "linear"),
        )


@operator(19, GridSampleTile, onnx="GridSample")
@dataclass(frozen=True, slots=True, kw_only=True)
class GridSample(Operator):
    """AAE. x [N,H,W,C] at the points (column, row) of grid [N,OH,OW,2], int16 → y [N,OH,OW,C].

    A code g points to p = rhe((g·m + o) / 2^s) in pixels of 20 fraction bits, with (m, o, s) = `columns` or
    `rows`; with `border` p is then clamped to 0..W−1 or H−1. A pixel outside of the image is x_zero.

    mode "nearest": v = x[rhe(p)] − x_zero. mode "linear", f and g the fractions of p down and across in Q30:
    h[j] = `numerics.between`(x[yj,x0] − x_zero, x[yj,x1] − x_zero, g, 15), v = `numerics.between`(h[0], h[1],
    f, 30), both in Q15.    y = clamp(rhe(v·mult / 2^shift) + zero).
    """

    INPUTS: ClassVar[tuple[int, int]] = (2, 2)

    mode: str
    border: bool = False
    columns: Ints
    rows: Ints
    x_shape: Ints
    y_shape: Ints
    x_zero: int = 0
    mult: int
    shift: int
    zero: int = 0
    lo: int = -128
    hi: int = 127

    def check(self, program: Checked) -> None:
        """Shapes agree, and positions do not leave 64 bits: whatever they are, no pixel outside is read."""
        for name in ("x_shape", "y_shape"):
            need_geometry(name, getattr(self, name), 4)
        need(self.mode in {"linear", "nearest"}, "mode", self.mode)
        (n, h, w, c), (yn, oh, ow, oc) = self.x_shape, self.y_shape
        need((yn, oc) == (n, c), "y_shape", self.y_shape)
        need_sizes(program, self, n * h * w * c, n * oh * ow * 2, n * oh * ow * c)
        x, grid = (program.tensors[i] for i in self.inputs)
        need(x.dtype in NARROW, f"dtype of '{x.name}'", x.dtype.value)
        need(grid.dtype is DType.INT16, f"dtype of '{grid.name}'", grid.dtype.value)
        for name, place in (("columns", self.columns), ("rows", self.rows)):
            legal = len(place) == 3 and abs(place[0]) <= _MAX_MULT and abs(place[1]) <= _MAX_OFFSET
            need(legal and 0 <= place[2] <= MAX_SHIFT, name, place)


def rows_read(grid: Array, rows: Ints, height: int, *, border: bool, linear: bool) -> tuple[Int64, Int64]:
    """Return the first and the last row of x that every row of results needs, of all images: int64 [OH].

    grid: the codes [N,OH,OW,2]; only those of a constant grid are known in advance.
    """
    position = positions(grid[..., 1].astype(np.int64), *rows)
    position = clamped_positions(position, height, border=border)
    first, last = pixels_read(position, height, linear=linear)
    return first.min(axis=(0, 2)), last.max(axis=(0, 2))


def sample_cycles(march: March, *, points: Count, channels: Count, linear: Count) -> Count:
    """Return the cycles of a GridSampleTile. Assumed: no vendor's figures are public.

    A Resize knows its neighbours in advance and shares them between results. Here every pixel is fetched from
    an address of its own, one vector of `resize_lanes` channels in a cycle: four for a point that lies
    between them, one for the nearest; address and weights are computed in the shade of that.
    """
    taps = choose(linear, 4, 1)
    return march.aae.issue_cycles + points * taps * ceil_div(channels, march.aae.resize_lanes)
