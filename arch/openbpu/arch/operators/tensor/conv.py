"""Convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.instruction import Instr, i32, u16, u32
from openbpu.arch.definition.integers import Count, ceil_div, choose, largest, smallest
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
from openbpu.arch.march import March, Tae
from openbpu.arch.march.march import CHANNEL_BLOCK
from openbpu.arch.numerics import MAX_SHIFT
from openbpu.arch.operators.tensor.array import Sizes, need_product, passes, tile_cycles


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class ConvTile(Instr):
    """out_h × out_w × out_c results of a Conv (see there for the formula), one image.

    Result (i, j, c) of the tile is channel oc_start + c. Its input row is u / upsample of the tile, with u =
    i·stride + ky·dilation − pad_top, when that is an integer in 0..in_h−1, else padding; the same for
    columns. Address x holds the first channel of the group of channel oc_start; r and y hold result (0, 0,
    0). weights [out_c, KH, KW, Cin/G], params [out_c, 4 or 5] and rmult [out_c] are dense and start at
    channel oc_start. Channels are dense everywhere. r, rmult and table are 0 when the operator has none.
    """

    OPCODE: ClassVar[int] = 0x10
    ENGINE: ClassVar[Engine] = Engine.TAE
    x: int = u32()
    weights: int = u32()
    params: int = u32()
    rmult: int = u32(default=0)
    r: int = u32(default=0)
    y: int = u32()
    table: int = u32(default=0)
    x_row: int = u32()
    x_pixel: int = u32()
    r_row: int = u32(default=0)
    r_pixel: int = u32(default=0)
    y_row: int = u32()
    y_pixel: int = u32()
    in_h: int = u16()
    in_w: int = u16()
    out_h: int = u16()
    out_w: int = u16()
    out_c: int = u32()
    oc_start: int = u32()
    pad_top: int = i32()
    pad_left: int = i32()

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """The array's steps of `conv_cycles`, by the operator's groups and taps."""
        ids, march, tensors = column(rows, "operator"), layers.march, layers.tensors

        def step(o: Any) -> int:
            return passes(march, tensors[o.inputs[0]].dtype, tensors[o.weight_id].dtype)

        return conv_cycles(
            march,
            tuple(column(rows, name) for name in ("out_h", "out_w", "out_c")),
            (
                layers.of(ids, lambda o: max(1, o.x_shape[3] // o.groups)),
                layers.of(ids, lambda o: max(1, o.y_shape[3] // o.groups)),
            ),
            (
                layers.of(ids, lambda o: ceil_div(o.kernel[0], o.upsample[0])),
                layers.of(ids, lambda o: ceil_div(o.kernel[1], o.upsample[1])),
            ),
            step=layers.of(ids, step),
            weight_bytes=layers.of(ids, lambda o: layers.size(o.weight_id)),
            reads=layers.of(ids, lambda o: len(o.inputs)),
            raw=layers.of(ids, lambda o: int(o.raw)),
        )

    @staticmethod
    def macs(rows: Records, layers: Layers) -> Count:
        """Results times what one sums."""
        terms = layers.of(column(rows, "operator"), lambda o: o.terms)
        return column(rows, "out_h") * column(rows, "out_w") * column(rows, "out_c") * terms


@operator(0, ConvTile, onnx="Conv")
@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(Operator):
    """TAE. y[n,oy,ox,c] = table[clamp(rhe(v / 2^shift[c]) + zero)]

    v = acc·mult[c] + (r − r_zero)·rmult[c] + offset[c];
    acc = sat32(Σ x[n, iy, ix, g·Cin/G + k]·w[c,ky,kx,k] + bias[c]).

    With u = o·stride + k·dilation − pad per axis, the input position is u / upsample when u is a non-negative
    multiple of `upsample` inside the input; every other position reads `pad_value`: those outside, and the
    gaps between upsampled elements.

    inputs: x [N,H,W,Cin] int8|int16, optionally residual r [N,OH,OW,Cout]; weight_id: [Cout,KH,KW,Cin/G]
    int8|int16; params_id: int32 [Cout,4] = bias, mult, offset, shift, or [Cout,5] with the high word of a
    64-bit offset behind them; rmult_id: int64 [Cout] when there is a residual. `raw`: the output is int32 acc
    itself (no requantization, no table, no residual). `wide`: the weights do not prove that acc fits int32,
    so it must be accumulated in 64 bits before sat32. pads: top, left, bottom, right in output-of-upsample
    positions.
    """

    INPUTS: ClassVar[tuple[int, int]] = (1, 2)

    weight_id: int
    params_id: int
    rmult_id: int = -1
    table_id: int = -1
    x_shape: Ints  # N, H, W, Cin
    y_shape: Ints  # N, OH, OW, Cout
    kernel: Ints  # KH, KW
    strides: Ints = (1, 1)
    pads: Ints = (0, 0, 0, 0)
    dilations: Ints = (1, 1)
    upsample: Ints = (1, 1)
    groups: int = 1
    pad_value: int = 0
    r_zero: int = 0
    zero: int = 0
    lo: int = -128
    hi: int = 127
    raw: bool = False
    wide: bool = False

    @property
    def terms(self) -> int:
        """Products that one element of y sums; the gaps between upsampled elements multiply nothing."""
        taps = (-(-k // u) for k, u in zip(self.kernel, self.upsample, strict=True))
        return prod(taps) * (self.x_shape[3] // self.groups)

    @property
    def multiply_adds(self) -> int:
        """Products of the whole layer."""
        return prod(self.y_shape) * self.terms

    def check(self, program: Checked) -> None:
        """Shapes, groups, weights and residual agree, and the last window lies inside the padding."""
        for name in ("x_shape", "y_shape"):
            need_geometry(name, getattr(self, name), 4)
        for name in ("kernel", "strides", "dilations", "upsample"):
            need_geometry(name, getattr(self, name), 2)
        need_geometry("groups", (self.groups,), 1)
        (n, h, w, c), (yn, oh, ow, oc) = self.x_shape, self.y_shape
        need(yn == n and c % self.groups == 0 and oc % self.groups == 0, "y_shape", self.y_shape)
        residual = [n * oh * ow * oc] * (len(self.inputs) - 1)
        need_sizes(program, self, n * h * w * c, *residual, n * oh * ow * oc)
        need(self.weight_id >= 0, "weights", "absent")
        need_product(program, (self.inputs[0], self.weight_id), self.outputs[0], raw=self.raw)
        weights = program.tensors[self.weight_id].shape
        need(weights == (oc, *self.kernel, c // self.groups), "shape of the weights", weights)
        constant_of(program, self.params_id, DType.INT32, (oc, 4), (oc, 5))
        need_within(program, "shifts", self.params_id, range(3, 4), 0, MAX_SHIFT)
        need((self.rmult_id >= 0) == bool(residual), "rmult_id", self.rmult_id)
        if residual:
            constant_of(program, self.rmult_id, DType.INT64, (oc,))
        up = [(size - 1) * u + 1 for size, u in zip((h, w), self.upsample, strict=True)]
        reach = [(k - 1) * d for k, d in zip(self.kernel, self.dilations, strict=True)]
        need_windows(up, self.y_shape, strides=self.strides, pads=self.pads, reach=reach)


def conv_cycles(
    march: March,
    out: Sizes,
    group: Sizes,
    taps: Sizes,
    *,
    step: Count = 1,
    weight_bytes: Count = 1,
    reads: Count = 1,
    raw: Count = 0,
) -> Count:
    """Return the engine cycles of one ConvTile.

    out: rows, columns and channels of the tile · group: channels of one group, (Cin/G, Cout/G) · taps: kernel
    taps per result, (KH, KW) / upsample rounded up · step: `passes` of the dtypes · weight_bytes: of one
    weight · reads: 2 when a residual is added, else 1 · raw: 1 when accumulators leave as they are, else 0.
    """
    tae = march.tae
    out_h, out_w, out_c = out
    pixels = ceil_div(out_h, tae.pixel_rows) * ceil_div(out_w, tae.pixel_cols)
    dense = pixels * _steps(tae, out_c, group, taps)
    channels = ceil_div(out_c, CHANNEL_BLOCK) * CHANNEL_BLOCK
    diagonal = ceil_div(out_h * out_w * channels * taps[0] * taps[1], tae.depthwise_lanes)
    array = choose(group[0] == 1, smallest(dense, diagonal), dense)
    weights = out_c * group[0] * taps[0] * taps[1] * weight_bytes
    return tile_cycles(tae, array * step, (out_h * out_w, out_c * reads), weights, raw)


def _steps(tae: Tae, out_c: Count, group: Sizes, taps: Sizes) -> Count:
    """Return how often every pixel block passes the array: output channel blocks × input steps.

    Small groups share the array as a block diagonal: `together` of them at a time.
    """
    (in_group, out_group), (taps_h, taps_w) = group, taps
    together = largest(1, smallest(tae.input_lanes // in_group, tae.output_lanes // out_group))
    groups = ceil_div(out_c, out_group)
    together = smallest(together, groups)
    blocks = ceil_div(groups, together) * ceil_div(smallest(out_c, out_group), tae.output_lanes)
    by_channel = taps_h * taps_w * ceil_div(in_group, tae.input_lanes)
    by_row = taps_h * ceil_div(taps_w * in_group, tae.input_lanes)
    packs = (together == 1) & bool(tae.packs_taps)
    return blocks * choose(packs, smallest(by_channel, by_row), by_channel)
