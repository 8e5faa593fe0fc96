"""Convolutions as matrix products over an indirection: phases, blocks of channels, tiles."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.simulator.fast.conv.arguments import GROUP, Block, Gemm, GemmWide
from openbpu.simulator.fast.conv.tiles import (
    Channels,
    Runs,
    channel_blocks,
    pack_weights,
    tile_symbols,
    tile_units,
)
from openbpu.simulator.fast.declaration import Table
from openbpu.simulator.fast.layer.indirection import late_offsets, offsets, positions
from openbpu.simulator.fast.layer.plan import Integers, Layer, Parts, out_of, window_sums, wrap32
from openbpu.simulator.fast.plan.steps import Lowering, Saturations

_WIDE_STEPS = {2: 252, 4: 16000}
"""Steps whose products int32 surely holds: 504 of 2^22 (int16 × int8), 64,000 of 2^15 (uint8 × int8)."""


@dataclass(frozen=True, slots=True)
class _Phase:
    """Outputs whose windows meet the same taps of an upsampled x: `weights` [C, KH, KW, K] are those taps."""

    weights: Integers
    bias: Int64
    pixels: Int64  # [taps, outputs]: the pixel of x, or −1
    runs: Runs


def add_gemm(layer: Layer, low: Lowering, *, words: bool) -> None:
    """One step per phase."""
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
            window = rows[y::period_y], columns[x::period_x]
            _add(layer, low, _phase(layer, window, (y, x), (period_y, period_x)), words=words)


def _phase(
    layer: Layer, window: tuple[Int64, Int64], first: tuple[int, int], period: tuple[int, int]
) -> _Phase:
    """Outputs first + i·period; taps that never meet the input become part of the bias."""
    rows, columns = window
    live_y, live_x = (np.flatnonzero((w >= 0).any(axis=0)) for w in window)
    if live_y.size == 0 or live_x.size == 0:
        live_y, live_x = live_y[:0], live_x[:0]
    weights = layer.weights[:, live_y][:, :, live_x]
    dead = window_sums(layer.weights) - window_sums(weights)
    bias = layer.bias + dead * layer.op.pad_value
    if weights.size == 0:  # the kernels want one tap: padding times 0
        weights = np.zeros_like(layer.weights[:, :1, :1])
        pixels = np.full((1, layer.x_shape[0] * rows.shape[0] * columns.shape[0]), -1)
    else:
        pixels = offsets(layer, rows[:, live_y], columns[:, live_x])
    runs = _runs(layer, rows.shape[0], columns.shape[0], first, period)
    return _Phase(weights, bias, pixels, runs)


def _runs(layer: Layer, height: int, width: int, first: tuple[int, int], period: tuple[int, int]) -> Runs:
    """Return the runs of a phase: all pixels at once, or row by row."""
    images, out_h, out_w, _ = layer.op.y_shape
    if period == (1, 1):
        return Runs(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), images * out_h * out_w, 1)
    image, row = (axis.reshape(-1) for axis in np.indices((images, height)))
    pixel = (image * out_h + row * period[0] + first[0]) * out_w + first[1]
    return Runs((image * height + row) * width, pixel, width, period[1])


def _add(layer: Layer, low: Lowering, phase: _Phase, *, words: bool) -> None:
    """Append the step of a phase."""
    op, word = layer.op, 2 if words else 4
    taps, depth = phase.weights.shape[1] * phase.weights.shape[2], phase.weights.shape[3]
    per_group = op.y_shape[3] // op.groups
    cuts = [(g, c) for g in range(op.groups) for c in channel_blocks(g * per_group, per_group, low.mode)]
    start = phase.bias - (0 if words else 128) * window_sums(phase.weights)
    starts = [_padded(start, cut) for _, cut in cuts]
    blocks, parts = _blocks(layer, low, phase, cuts, starts, word)
    weights, init, params = parts.arrays()
    units = tile_units([cut.groups for _, cut in cuts], phase.runs, low.mode)
    product = Gemm(
        x=layer.x, offsets=late_offsets(layer, phase.pixels, low), pixels=phase.pixels.shape[1], taps=taps,
        steps=-(-depth // word), units=units, blocks=blocks, tiles=tile_symbols(low, words=words),
        weights=weights, init=np.zeros_like(init) if op.wide else init, params=params,
        out=out_of(layer, low, phase.runs.distance),
    )  # fmt: skip
    if op.wide:
        most, bias = _WIDE_STEPS[word], np.concatenate(starts)
        product = GemmWide(**vars(product), bias=bias, most=most, saturations=Saturations())
    low.add(product, len(units), 500 + phase.pixels.shape[1] * phase.weights.size * 0.004)


def _padded(start: Int64, cut: Channels) -> Int64:
    padded = np.zeros(cut.groups * GROUP, dtype=np.int64)
    padded[: cut.count] = start[cut.start : cut.start + cut.count]
    return padded


def _blocks(
    layer: Layer,
    low: Lowering,
    phase: _Phase,
    cuts: list[tuple[int, Channels]],
    starts: list[Int64],
    word: int,
) -> tuple[Table[Block], Parts]:
    """Pack the constants of every (group of the convolution, channels)."""
    op, depth = layer.op, phase.weights.shape[3]
    flat = phase.weights.reshape(phase.weights.shape[0], -1, depth)
    kind = low.kind(op.outputs[0])
    residual = low.kind(op.inputs[1]) if op.rmult_id >= 0 else 0
    blocks, parts = [], Parts()
    for (group, cut), start in zip(cuts, starts, strict=True):
        channels = slice(cut.start, cut.start + cut.count)
        packed = pack_weights(flat[channels], cut.groups, word)
        weights, init, params = parts.append(
            packed, wrap32(start), layer.requant.pick(channels).params(real=layer.finish.real)
        )
        blocks.append(Block(
            x=group * depth * layer.x_dtype.nbytes if op.groups > 1 else 0, y=cut.start * kind,
            r=cut.start * residual, weights=weights, init=init, params=params, channels=cut.count,
            groups=cut.groups,
        ))  # fmt: skip
    return Table.of(Block, blocks), parts
