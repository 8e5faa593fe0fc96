"""Cycles of the tensor engine: an output-stationary array fed channel block by channel block.

Cycles are engine time per tile: issue + max(array, write-back, weight stream). All sizes may be ints or int64
arrays.
"""

from __future__ import annotations

from openbpu.arch.dtypes import DType
from openbpu.arch.march import March, Tae
from openbpu.arch.timing.integers import Ints, ceil_div, choose, largest, smallest

Sizes = tuple[Ints, ...]
_NS = 1_000_000_000
_DEPTHWISE_BLOCK = 16
"""Channels that the depthwise mode takes together: the multiple that public advice asks for."""


def passes(march: March, x: DType, w: DType) -> int:
    """Return how many cycles one step of the array takes for input type × weight type (1 for int8 × int8)."""
    wide_x = march.tae.passes_int16_int8 if x is DType.INT16 else 1
    wide_w = march.tae.passes_int8_int16 if w is DType.INT16 else 1
    return wide_x * wide_w


def conv_cycles(
    march: March,
    out: Sizes,
    group: Sizes,
    taps: Sizes,
    *,
    step: Ints = 1,
    weight_bytes: Ints = 1,
    reads: Ints = 1,
    raw: Ints = 0,
) -> Ints:
    """Return the engine cycles of one ConvTile.

    out: rows, columns and channels of the tile · group: channels of one group, (Cin/G, Cout/G) · taps: kernel
    taps per result, (KH, KW) / upsample rounded up · step: `passes` of the dtypes · weight_bytes: of one
    weight · reads: 2 when a residual is added, else 1 · raw: 1 when accumulators leave as they are, else 0.
    """
    tae = march.tae
    out_h, out_w, out_c = out
    pixels = ceil_div(out_h, tae.pixel_rows) * ceil_div(out_w, tae.pixel_cols)
    dense = pixels * _steps(tae, out_c, group, taps)
    channels = ceil_div(out_c, _DEPTHWISE_BLOCK) * _DEPTHWISE_BLOCK
    diagonal = ceil_div(out_h * out_w * channels * taps[0] * taps[1], tae.depthwise_lanes)
    array = choose(group[0] == 1, smallest(dense, diagonal), dense)
    weights = out_c * group[0] * taps[0] * taps[1] * weight_bytes
    return _tile_cycles(tae, array * step, (out_h * out_w, out_c * reads), weights, raw)


def matmul_cycles(
    march: March, *, m: Ints, n: Ints, k: Ints, step: Ints = 1, weight_bytes: Ints = 1, raw: Ints = 0
) -> Ints:
    """Return the cycles of one MatMulTile: rows of `a` are the pixels, columns of `b` the channels.

    `b` was just computed, so it first becomes weights: a fixed time, since it does not follow the clock.
    """
    tae = march.tae
    rows = ceil_div(m, tae.pixel_rows * tae.pixel_cols)
    steps = ceil_div(n, tae.output_lanes) * ceil_div(k, tae.input_lanes)
    turned = ceil_div(tae.matrix_ns * march.clock_hz, _NS)
    return turned + _tile_cycles(tae, rows * steps * step, (m, n), k * n * weight_bytes, raw)


def _tile_cycles(tae: Tae, array: Ints, results: Sizes, weights: Ints, raw: Ints) -> Ints:
    pixels, channels = results
    stalled = array + ceil_div(array * tae.stall_permille, 1000)
    written = ceil_div(pixels * channels, choose(raw > 0, tae.raw_lanes, tae.requant_lanes))
    rate = choose(pixels == 1, tae.vector_bytes_per_cycle, tae.weight_bytes_per_cycle)
    streamed = ceil_div(weights, rate)
    return tae.issue_cycles + largest(stalled, written, streamed)


def _steps(tae: Tae, out_c: Ints, group: Sizes, taps: Sizes) -> Ints:
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
