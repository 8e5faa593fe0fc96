"""Pooling and resizing: what slides over an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.instruction import Instr, i32, u16, u32
from openbpu.arch.definition.integers import Count, ceil_div, choose
from openbpu.arch.definition.layers import Layers, Records, column
from openbpu.arch.definition.needs import (
    constant_of,
    need,
    need_geometry,
    need_sizes,
    need_windows,
    need_within,
)
from openbpu.arch.definition.operator import Ints, Operator
from openbpu.arch.definition.registry import instruction, operator
from openbpu.arch.dtypes import DType
from openbpu.arch.engines import Engine
from openbpu.arch.march import March
from openbpu.arch.numerics import MAX_SHIFT, WEIGHT_BITS

MAX_WINDOW = 1 << 18
"""Positions of the largest window of a Pool: four times what any march allows."""


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTile(Instr):
    """out_h × out_w × channels of a Pool, one image.

    Result (i, j) reads row i·stride + ky·dilation − pad_top of the tile, where that is in 0..in_h−1
    (elsewhere lies outside the input); the same for columns. `bounds` = first and last+1 row, first and
    last+1 column of the padded input in tile positions (for count_pad). `counts` is the whole table of the
    operator. Channels are dense.
    """

    OPCODE: ClassVar[int] = 0x20
    ENGINE: ClassVar[Engine] = Engine.AAE
    x: int = u32()
    y: int = u32()
    counts: int = u32()
    x_row: int = u32()
    x_pixel: int = u32()
    y_row: int = u32()
    y_pixel: int = u32()
    in_h: int = u16()
    in_w: int = u16()
    out_h: int = u16()
    out_w: int = u16()
    channels: int = u32()
    pad_top: int = i32()
    pad_left: int = i32()
    bounds: tuple[int, ...] = i32(4)

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """See `pool_cycles`."""
        ids = column(rows, "operator")
        return pool_cycles(
            layers.march,
            out_h=column(rows, "out_h"),
            out_w=column(rows, "out_w"),
            channels=column(rows, "channels"),
            taps=layers.of(ids, lambda o: o.kernel[0] * o.kernel[1]),
            bits=layers.of(ids, layers.bits),
        )


@operator(6, PoolTile, onnx="MaxPool")
@dataclass(frozen=True, slots=True, kw_only=True)
class Pool(Operator):
    """AAE. x [N,H,W,C] → y [N,OH,OW,C] over the positions of the window that lie inside the input.

    fn "max": y = clamp(rhe((max(x) − x_zero)·mult / 2^shift) + zero), mult and shift of row 0.
    fn "avg": y = clamp(rhe(Σ(x − x_zero)·mult[count] / 2^shift[count]) + zero), `count` = how many positions
    lie inside the input, or with `count_pad` inside the padded input.

    counts_id: int64 [KH·KW+1, 2] = mult, shift by count, or [1, 2] for "max". KH·KW is at most MAX_WINDOW.
    """

    counts_id: int
    fn: str
    x_shape: Ints
    y_shape: Ints
    kernel: Ints
    strides: Ints = (1, 1)
    pads: Ints = (0, 0, 0, 0)
    dilations: Ints = (1, 1)
    count_pad: bool = False
    x_zero: int = 0
    zero: int = 0
    lo: int = -128
    hi: int = 127

    def check(self, program: Checked) -> None:
        """Shapes, window and counts agree, and every window begins inside the padding."""
        for name in ("x_shape", "y_shape"):
            need_geometry(name, getattr(self, name), 4)
        for name in ("kernel", "strides", "dilations"):
            need_geometry(name, getattr(self, name), 2)
        need(self.kernel[0] * self.kernel[1] <= MAX_WINDOW, "kernel", self.kernel)
        (n, h, w, c), (yn, oh, ow, oc) = self.x_shape, self.y_shape
        need((yn, oc) == (n, c), "y_shape", self.y_shape)
        need(self.fn in {"max", "avg"}, "fn", self.fn)
        need_sizes(program, self, n * h * w * c, n * oh * ow * c)
        rows = self.kernel[0] * self.kernel[1] + 1 if self.fn == "avg" else 1
        constant_of(program, self.counts_id, DType.INT64, (rows, 2))
        need_within(program, "shifts", self.counts_id, range(1, 2), 0, MAX_SHIFT)
        need_windows((h, w), self.y_shape, strides=self.strides, pads=self.pads, reach=(0, 0))


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeTile(Instr):
    """out_h × out_w × channels of a Resize, one image.

    `rows` and `cols` point at the entries (three int32 each) of the tile's first output row and column. x
    points at input row row0, column col0: row y0 of a table is row y0 − row0 of the tile. Channels are dense.
    """

    OPCODE: ClassVar[int] = 0x21
    ENGINE: ClassVar[Engine] = Engine.AAE
    x: int = u32()
    y: int = u32()
    rows: int = u32()
    cols: int = u32()
    x_row: int = u32()
    x_pixel: int = u32()
    y_row: int = u32()
    y_pixel: int = u32()
    out_h: int = u16()
    out_w: int = u16()
    channels: int = u32()
    row0: int = u32()
    col0: int = u32()

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """See `resize_cycles`."""
        return resize_cycles(
            layers.march,
            out_h=column(rows, "out_h"),
            out_w=column(rows, "out_w"),
            channels=column(rows, "channels"),
        )


@operator(14, ResizeTile, onnx="Resize")
@dataclass(frozen=True, slots=True, kw_only=True)
class Resize(Operator):
    """AAE. Bilinear x [N,H,W,C] → y [N,OH,OW,C]; rows (y0, y1, f) and columns (x0, x1, g), f and g in Q30.

    across: h[j] = `numerics.between`(x[yj,x0] − x_zero, x[yj,x1] − x_zero, g, 15), in Q15;
    down:   v = `numerics.between`(h[0], h[1], f, 30), in Q15;
    y = clamp(rhe(v·mult / 2^shift) + zero).    rows_id: int32 [OH,3], cols_id: int32 [OW,3].
    """

    rows_id: int
    cols_id: int
    x_shape: Ints
    y_shape: Ints
    x_zero: int = 0
    mult: int
    shift: int
    zero: int = 0
    lo: int = -128
    hi: int = 127

    def check(self, program: Checked) -> None:
        """Rows and columns of the tables exist in the input."""
        for name in ("x_shape", "y_shape"):
            need_geometry(name, getattr(self, name), 4)
        (n, h, w, c), (yn, oh, ow, oc) = self.x_shape, self.y_shape
        need((yn, oc) == (n, c), "y_shape", self.y_shape)
        need_sizes(program, self, n * h * w * c, n * oh * ow * c)
        for table, size, limit in ((self.rows_id, oh, h), (self.cols_id, ow, w)):
            constant_of(program, table, DType.INT32, (size, 3))
            need_within(program, "rows and columns", table, range(2), 0, limit - 1)
            need_within(program, "fractions", table, range(2, 3), 0, 1 << WEIGHT_BITS)


def pool_cycles(
    march: March, *, out_h: Count, out_w: Count, channels: Count, taps: Count, bits: Count
) -> Count:
    """Return the cycles of a PoolTile with `taps` = KH·KW window elements per result."""
    lanes = choose(bits <= 8, march.aae.lanes_int8, march.aae.lanes_int16)
    return march.aae.issue_cycles + out_h * ceil_div(out_w * channels, lanes) * taps


def resize_cycles(march: March, *, out_h: Count, out_w: Count, channels: Count) -> Count:
    """Return the cycles of a ResizeTile."""
    return march.aae.issue_cycles + out_h * ceil_div(out_w * channels, march.aae.resize_lanes)
