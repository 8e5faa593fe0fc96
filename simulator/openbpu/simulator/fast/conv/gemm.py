"""Convolutions as matrix products over an indirection: phases, blocks of channels, tiles."""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt

from openbpu.simulator.fast.lower.indirection import late_offsets, offsets, positions
from openbpu.simulator.fast.lower.layer import Integers, Layer, Parts, output_arguments, window_sums
from openbpu.simulator.fast.lower.steps import Argument, Lowering, Saturations
from openbpu.simulator.fast.lower.tiles import (
    GROUP,
    Runs,
    channel_blocks,
    pack_weights,
    tile_symbols,
    tile_units,
    wrap32,
)

Int64 = npt.NDArray[np.int64]

_WIDE_STEPS = {2: 252, 4: 16000}
"""Steps whose products int32 surely holds: 504 of 2^22 (int16 × int8), 64,000 of 2^15 (uint8 × int8)."""


def add_gemm(layer: Layer, low: Lowering, *, words: bool) -> None:
    """One step per phase: outputs whose windows meet the same taps of an upsampled x."""
    op = layer.op
    _, height, width, _ = layer.x_shape
    rows = positions(
        op.y_shape[1], op.strides[0], op.kernel[0], op.dilations[0], op.pads[0], op.upsample[0], height
    )
    columns = positions(
        op.y_shape[2], op.strides[1], op.kernel[1], op.dilations[1], op.pads[1], op.upsample[1], width
    )
    period_y, period_x = (u // gcd(u, s) for u, s in zip(op.upsample, op.strides, strict=True))
    for y in range(min(period_y, rows.shape[0])):
        for x in range(min(period_x, columns.shape[0])):
            _phase(layer, low, words, (rows[y::period_y], columns[x::period_x]), (y, x), (period_y, period_x))


def _phase(
    layer: Layer,
    low: Lowering,
    words: bool,
    window: tuple[Int64, Int64],
    first: tuple[int, int],
    period: tuple[int, int],
) -> None:
    """Outputs first + i·period; taps that never meet the input become part of the bias."""
    op, (rows, columns) = layer.op, window
    live_y, live_x = (np.flatnonzero((w >= 0).any(axis=0)) for w in window)
    if live_y.size == 0 or live_x.size == 0:
        live_y, live_x = live_y[:0], live_x[:0]
    weights = layer.weights[:, live_y][:, :, live_x]
    dead = window_sums(layer.weights) - window_sums(weights)
    bias = layer.bias + dead * op.pad_value
    if weights.size == 0:  # the kernels want one tap: padding times 0
        weights = np.zeros_like(layer.weights[:, :1, :1])
        pixels = np.full((1, layer.x_shape[0] * rows.shape[0] * columns.shape[0]), -1)
    else:
        pixels = offsets(layer, rows[:, live_y], columns[:, live_x])
    runs = _runs(layer, rows.shape[0], columns.shape[0], first, period)
    arguments, units = _blocks(layer, low, words, weights, bias, runs, period[1])
    head: tuple[Argument, ...] = (layer.x, late_offsets(layer, pixels, low), pixels.shape[1], *arguments)
    work = 500 + pixels.shape[1] * weights.size * 0.004
    low.add(
        "gemm_wide" if op.wide else "gemm", units, (*head, *output_arguments(layer, low, period[1])), work
    )


def _runs(layer: Layer, height: int, width: int, first: tuple[int, int], period: tuple[int, int]) -> Runs:
    """Return the runs of a phase: all pixels at once, or row by row."""
    images, out_h, out_w, _ = layer.op.y_shape
    if period == (1, 1):
        return [(0, images * out_h * out_w, 0)]
    return [
        ((image * height + i) * width, width, (image * out_h + i * period[0] + first[0]) * out_w + first[1])
        for image in range(images)
        for i in range(height)
    ]


def _blocks(
    layer: Layer,
    low: Lowering,
    words: bool,
    weights: Integers,
    bias: Int64,
    runs: Runs,
    distance: int,
) -> tuple[tuple[Argument, ...], int]:
    """Arguments 3..13 of kernels.conv.gemm, and the number of tiles."""
    op, word = layer.op, 2 if words else 4
    taps, depth = weights.shape[1] * weights.shape[2], weights.shape[3]
    per_group = op.y_shape[3] // op.groups
    flat = weights.reshape(weights.shape[0], taps, depth)
    lift = 0 if words else 128
    start_values = bias - lift * window_sums(weights)
    blocks = [(g, b) for g in range(op.groups) for b in channel_blocks(g * per_group, per_group, low.mode)]
    table, parts, units, wide_start = [], Parts(), [], []
    kind = low.kind(op.outputs[0])
    residual = low.kind(op.inputs[1]) if op.rmult_id >= 0 else 0
    real = layer.finish.real
    for index, (group, block) in enumerate(blocks):
        cut = slice(block.start, block.start + block.channels)
        weights_at, params_at = pack_weights(flat[cut], block.groups, word), layer.requant.pick(cut)
        start = np.zeros(block.groups * GROUP, dtype=np.int64)
        start[: block.channels] = start_values[cut]
        at = parts.append(weights_at, wrap32(start), params_at.params(real=real))
        wide_start.append(start)
        x_at = group * depth * layer.x_dtype.nbytes if op.groups > 1 else 0
        row = (x_at, block.start * kind, block.start * residual, *at, block.channels, block.groups)
        table.append(row)
        units += tile_units(index, block.groups, runs, low.mode, distance)
    steps = -(-depth // word)
    packed, init, params = parts.arrays()
    arguments = (
        taps, steps, np.array(units, dtype=np.int32), np.array(table, dtype=np.int64), tile_symbols(low,
        words=words), packed, np.zeros_like(init) if op.wide else init, params, np.concatenate(wide_start),
        _WIDE_STEPS[word], Saturations(),
    )  # fmt: skip
    return arguments, len(units)
