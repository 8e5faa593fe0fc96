"""Conv as steps: the micro-kernel with an indirection for every shape, depthwise channel by channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import gcd

import numpy as np
import numpy.typing as npt

from openbpu.arch.dtypes import DType
from openbpu.arch.program import Conv
from openbpu.simulator.fast.lower.moves import add_pad
from openbpu.simulator.fast.lower.requant import Finish, Requant, choose_finish
from openbpu.simulator.fast.lower.steps import Argument, Array, Late, Lowering, Place, Saturations, Symbol
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
_MERGE_CHANNELS = 16


@dataclass(frozen=True, slots=True)
class Layer:
    """What the ways to run a convolution share. `weights` is [C, KH, KW, K] int64, `x` where to read."""

    op: Conv
    weights: Int64
    bias: Int64
    requant: Requant
    finish: Finish
    x: Place
    x_dtype: DType
    x_shape: tuple[int, ...]

    @property
    def out_rows(self) -> int:
        """Output pixels of all images."""
        images, height, width, _ = self.op.y_shape
        return images * height * width

    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.out_rows * self.weights.size


def lower_conv(op: Conv, low: Lowering) -> None:
    """Choose the kernel."""
    layer = _layer(op, low)
    if op.groups > 1 and op.groups == op.x_shape[3] == op.y_shape[3]:
        if low.mode == "vnni512" and _is_plain(layer, low):
            _depthwise64(layer, low)
        else:
            _depthwise(layer, low)
        return
    both_wide = layer.x_dtype is DType.INT16 and low.dtype(op.weight_id) is DType.INT16
    if both_wide or layer.x_dtype.nbytes > 2 or low.kind(op.weight_id) > 2:
        _any(layer, low)
        return
    words = low.mode == "portable" or DType.INT16 in (layer.x_dtype, low.dtype(op.weight_id))
    if words and layer.x_dtype is DType.INT8:
        layer = _widened(layer, low)
    _gemm(_merged(layer, low), low, words=words)


def _layer(op: Conv, low: Lowering) -> Layer:
    weights = low.constant(op.weight_id).astype(np.int64)
    params = low.constant(op.params_id).astype(np.int64)
    x = op.inputs[0]
    bias, mult, offset, shift = params.T
    dtype = low.dtype(x)
    most = -dtype.qmin
    reach = np.minimum(np.abs(weights).sum(axis=(1, 2, 3)) * most + np.abs(bias), 2**31)
    residual = op.rmult_id >= 0
    rmult = low.constant(op.rmult_id).astype(np.int64) if residual else np.zeros_like(mult)
    r_reach = -low.dtype(op.inputs[1]).qmin if residual else 0
    offset = offset - op.r_zero * rmult
    requant = Requant(mult, offset, shift, rmult, reach, r_reach, op.zero, op.lo, op.hi)
    table = low.constant(op.table_id) if op.table_id >= 0 else None
    r_bytes = low.kind(op.inputs[1]) if residual else 0
    finish = choose_finish(requant, low.mode, r_bytes, low.kind(op.outputs[0]), table)
    return Layer(op, weights, bias, requant, finish, low.read(x), dtype, op.x_shape)


def _widened(layer: Layer, low: Lowering) -> Layer:
    count = int(np.prod(layer.x_shape, dtype=np.int64))
    wide = low.temporary(2 * count)
    low.add("widen_words", count, (layer.x, wide), count * 0.1)
    return replace(layer, x=wide, x_dtype=DType.INT16)


def _merged(layer: Layer, low: Lowering) -> Layer:
    """Few input channels: pad x once, then the KW·Cin values of a kernel row are contiguous and make one tap."""
    op, (kernel_h, kernel_w) = layer.op, layer.op.kernel
    channels = op.x_shape[3]
    if op.groups > 1 or channels > _MERGE_CHANNELS or kernel_w == 1:
        return layer
    if op.dilations[1] > 1 or op.upsample != (1, 1):
        return layer
    images, height, width, _ = layer.x_shape
    top, left = max(op.pads[0], 0), max(op.pads[1], 0)
    need_h = (op.y_shape[1] - 1) * op.strides[0] + (kernel_h - 1) * op.dilations[0] + 1 - op.pads[0] + top
    need_w = (op.y_shape[2] - 1) * op.strides[1] + kernel_w - op.pads[1] + left
    behind_h, behind_w = max(need_h - height - top, 0), max(need_w - width - left, 0)
    padded = (images, height + top + behind_h, width + left + behind_w, channels)
    x = layer.x
    if padded != tuple(layer.x_shape):
        kind = layer.x_dtype.nbytes
        x = low.temporary(int(np.prod(padded, dtype=np.int64)) * kind)
        before, after = (0, top, left, 0), (0, behind_h, behind_w, 0)
        add_pad(low, layer.x, x, kind, layer.x_shape, before, after, op.pad_value)
    pads = (op.pads[0] - top, op.pads[1] - left, 0, 0)
    op = replace(op, kernel=(kernel_h, 1), pads=pads, x_shape=padded)
    weights = layer.weights.reshape(layer.weights.shape[0], kernel_h, 1, -1)
    return replace(layer, op=op, weights=weights, x=x, x_shape=padded)


def _positions(out: int, stride: int, taps: int, dilation: int, pad: int, upsample: int, size: int) -> Int64:
    """Return [out, taps]: the input position, or −1 where pad_value is read."""
    u = np.arange(out)[:, None] * stride + np.arange(taps)[None, :] * dilation - pad
    inside = (u >= 0) & (u % upsample == 0) & (u // upsample < size)
    return np.where(inside, u // upsample, -1)


def _offsets(layer: Layer, rows: Int64, columns: Int64) -> Int64:
    """Return [taps, output pixels]: the pixel of x, or −1; rows [OH, KH] and columns [OW, KW] as _positions."""
    images, height, width, _ = layer.x_shape
    image = np.arange(images)[None, None, :, None, None] * (height * width)
    r = rows.T[:, None, None, :, None]
    c = columns.T[None, :, None, None, :]
    at = np.where((r >= 0) & (c >= 0), image + r * width + c, -1)
    return at.reshape(rows.shape[1] * columns.shape[1], -1)


def _late_offsets(layer: Layer, pixels: Int64, low: Lowering) -> Late:
    """Byte offsets from x; −1 leads to a row of pad_value."""
    pixel_bytes = layer.op.x_shape[3] * layer.x_dtype.nbytes
    x, pad = layer.x, low.padding(layer.op.pad_value, layer.x_dtype, layer.op.x_shape[3] * 4)

    def make(offset_of: Callable[[Place], int]) -> npt.NDArray[np.int32]:
        distance = offset_of(pad) - offset_of(x)
        return np.where(pixels >= 0, pixels * pixel_bytes, distance).astype(np.int32)

    return Late(make)


def _output(layer: Layer, low: Lowering, distance: int = 1) -> tuple[Argument, ...]:
    """The OUT arguments of kernels.conv; rows of a tile are `distance` pixels apart."""
    op, finish = layer.op, layer.finish
    channels, kind = op.y_shape[3], low.kind(op.outputs[0])
    residual = low.kind(op.inputs[1]) if op.rmult_id >= 0 else 0
    r_place: Argument = low.read(op.inputs[1]) if residual else 0
    return (
        0 if op.raw else finish.symbol, finish.consts, low.write(op.outputs[0]), distance * channels * kind, kind,
        r_place, distance * channels * residual, 0 if finish.table is None else finish.table, channels * kind,
        channels * residual,
    )  # fmt: skip


def _depthwise(layer: Layer, low: Lowering) -> None:
    op = layer.op
    pixels, weights, bias = _whole_window(layer)
    channels = op.y_shape[3]
    table = np.ascontiguousarray(weights.reshape(channels, -1).T.astype(np.int32))
    per_pixel = -(-channels // 64)
    params = layer.requant.params(real=layer.finish.real)
    arguments: tuple[Argument, ...] = (
        layer.x, _late_offsets(layer, pixels, low), pixels.shape[1], pixels.shape[0], layer.x_dtype.nbytes, table,
        channels, per_pixel, 0, 0, params, _slack(bias), int(op.wide), Saturations(), *_output(layer, low),
    )  # fmt: skip
    low.add("depthwise", layer.out_rows * per_pixel, arguments, layer.macs() * 0.1)


def _is_plain(layer: Layer, low: Lowering) -> bool:
    """Whether bytes come in, bytes go out and nothing but a table lies between."""
    op = layer.op
    bytes_only = layer.x_dtype is DType.INT8 and low.dtype(op.weight_id) is DType.INT8
    return bytes_only and layer.finish.packed and op.rmult_id < 0 and not op.raw and not op.wide


def _depthwise64(layer: Layer, low: Lowering) -> None:
    op, channels = layer.op, layer.op.y_shape[3]
    pixels, weights, bias = _whole_window(layer)
    taps = weights.reshape(channels, -1)
    quads = -(-taps.shape[1] // 4)
    idle = 4 * quads - taps.shape[1]
    taps = np.pad(taps, ((0, 0), (0, idle)))
    pixels = np.concatenate([pixels, np.repeat(pixels[:1], idle, axis=0), np.repeat(pixels[:1], 1, axis=0)])
    start = wrap32(bias - 128 * taps.sum(axis=1))
    blocks, parts = [], _Parts()
    for width, first in _depthwise_blocks(channels):
        order = lane_order(width)
        source = np.minimum(first + order, channels - 1).reshape(-1)
        mixed = taps[source].reshape(64, quads, 4).transpose(1, 0, 2).astype(np.int8)
        at = parts.append(np.ascontiguousarray(mixed), start[source], layer.requant.pick(source).params(real=True))
        blocks.append((_DEPTHWISE_WIDTHS.index(width), first, min(channels - first, width), *at, 0, 0))
    table = int(op.table_id >= 0)
    names = tuple(Symbol(f"depthwise_{width}_{table}") for width in _DEPTHWISE_WIDTHS)
    units = -(-layer.out_rows // _DEPTHWISE_PIXELS)
    arguments: tuple[Argument, ...] = (
        layer.x, _late_offsets(layer, pixels, low), pixels.shape[1], layer.out_rows, quads, _DEPTHWISE_PIXELS,
        len(blocks), np.array(blocks, dtype=np.int64), names, *parts.arrays(), layer.finish.consts,
        low.write(op.outputs[0]), channels,
    )  # fmt: skip
    low.add("depthwise_packed", units, arguments, 500 + layer.out_rows * channels * (0.1 + 0.03 * quads))


_DEPTHWISE_WIDTHS = (64, 32, 16)
_DEPTHWISE_PIXELS = 32


def _depthwise_blocks(channels: int) -> list[tuple[int, int]]:
    """Return (width, first channel) of blocks of 64, 32 or 16 channels."""
    blocks, first = [], 0
    while first < channels:
        left = channels - first
        width = 64 if left > 32 else 32 if left > 16 else 16
        blocks.append((width, first))
        first += width
    return blocks


def lane_order(width: int) -> Int64:
    """Return [4, 16]: the channel in each lane of the four registers of vector.depthwise64."""
    lane, register, i = np.arange(4)[None, :, None], np.arange(4)[:, None, None], np.arange(4)[None, None, :]
    return (lane * 16 % width + register * 4 + i).reshape(4, 16)


def _any(layer: Layer, low: Lowering) -> None:
    op = layer.op
    pixels, weights, bias = _whole_window(layer)
    channels, depth = op.y_shape[3], weights.shape[3]
    table = np.ascontiguousarray(weights.reshape(channels, -1).astype(np.int32))
    params = layer.requant.params(real=layer.finish.real)
    arguments: tuple[Argument, ...] = (
        layer.x, _late_offsets(layer, pixels, low), pixels.shape[1], pixels.shape[0], layer.x_dtype.nbytes, table,
        channels, depth, channels // op.groups, 0, params, bias, 1, Saturations(), *_output(layer, low),
    )  # fmt: skip
    low.add("conv_any", layer.out_rows, arguments, layer.macs() * 1.0)


def _slack(values: Int64) -> Int64:
    return np.concatenate([values, np.zeros(64, dtype=np.int64)])


def _whole_window(layer: Layer) -> tuple[Int64, Int64, Int64]:
    """All taps for all pixels, gaps of an upsampled x included."""
    op = layer.op
    _, height, width, _ = layer.x_shape
    rows = _positions(
        op.y_shape[1], op.strides[0], op.kernel[0], op.dilations[0], op.pads[0], op.upsample[0], height
    )
    columns = _positions(
        op.y_shape[2], op.strides[1], op.kernel[1], op.dilations[1], op.pads[1], op.upsample[1], width
    )
    return _offsets(layer, rows, columns), layer.weights, layer.bias


def _gemm(layer: Layer, low: Lowering, *, words: bool) -> None:
    """One step per phase: outputs whose windows meet the same taps of an upsampled x."""
    op = layer.op
    _, height, width, _ = layer.x_shape
    rows = _positions(
        op.y_shape[1], op.strides[0], op.kernel[0], op.dilations[0], op.pads[0], op.upsample[0], height
    )
    columns = _positions(
        op.y_shape[2], op.strides[1], op.kernel[1], op.dilations[1], op.pads[1], op.upsample[1], width
    )
    period_y, period_x = (u // gcd(u, s) for u, s in zip(op.upsample, op.strides, strict=True))
    for y in range(min(period_y, rows.shape[0])):
        for x in range(min(period_x, columns.shape[0])):
            _phase(layer, low, words, (rows[y::period_y], columns[x::period_x]), (y, x), (period_y, period_x))


def _phase(
    layer: Layer,
    low: Lowering,
    words: bool,  # noqa: FBT001
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
    dead = layer.weights.sum(axis=(1, 2, 3)) - weights.sum(axis=(1, 2, 3))
    bias = layer.bias + dead * op.pad_value
    if weights.size == 0:  # the kernels want one tap: padding times 0
        weights = np.zeros_like(layer.weights[:, :1, :1])
        pixels = np.full((1, layer.x_shape[0] * rows.shape[0] * columns.shape[0]), -1)
    else:
        pixels = _offsets(layer, rows[:, live_y], columns[:, live_x])
    runs = _runs(layer, rows.shape[0], columns.shape[0], first, period)
    arguments, units = _blocks(layer, low, words, weights, bias, runs, period[1])
    head: tuple[Argument, ...] = (layer.x, _late_offsets(layer, pixels, low), pixels.shape[1], *arguments)
    work = 500 + pixels.shape[1] * weights.size * 0.004
    low.add("gemm_wide" if op.wide else "gemm", units, (*head, *_output(layer, low, period[1])), work)


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
    words: bool,  # noqa: FBT001
    weights: Int64,
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
    start_values = bias - lift * flat.sum(axis=(1, 2))
    blocks = [(g, b) for g in range(op.groups) for b in channel_blocks(g * per_group, per_group, low.mode)]
    table, parts, units, wide_start = [], _Parts(), [], []
    kind = low.kind(op.outputs[0])
    residual = low.kind(op.inputs[1]) if op.rmult_id >= 0 else 0
    real = layer.finish.real
    for index, (group, block) in enumerate(blocks):
        cut = slice(block.start, block.start + block.channels)
        packed, params = pack_weights(flat[cut], block.groups, word), layer.requant.pick(cut).params(real=real)
        start = np.zeros(block.groups * GROUP, dtype=np.int64)
        start[: block.channels] = start_values[cut]
        at = parts.append(packed, wrap32(start), params)
        wide_start.append(start)
        x_at = group * depth * layer.x_dtype.nbytes if op.groups > 1 else 0
        row = (x_at, block.start * kind, block.start * residual, *at, block.channels, block.groups)
        table.append(row)
        units += tile_units(index, block.groups, runs, low.mode, distance)
    steps = -(-depth // word)
    packed, init, params = parts.arrays()
    arguments = (
        taps, steps, np.array(units, dtype=np.int32), np.array(table, dtype=np.int64), tile_symbols(low, words=words),
        packed, np.zeros_like(init) if op.wide else init, params, np.concatenate(wide_start), _WIDE_STEPS[word],
        Saturations(),
    )  # fmt: skip
    return arguments, len(units)


class _Parts:
    """Packed constants of the blocks, one behind the other."""

    def __init__(self) -> None:
        self._lists: tuple[list[Array], ...] = ([], [], [])

    def append(self, weights: Array, start: Array, params: Array) -> tuple[int, ...]:
        """Append a block; return the byte offsets of its weights, init and params."""
        offsets = tuple(sum(a.nbytes for a in part) for part in self._lists)
        for part, values in zip(self._lists, (weights, start, params), strict=True):
            part.append(values.reshape(-1))
        return offsets

    def arrays(self) -> tuple[Array, ...]:
        """Return the weights, init and params of all blocks."""
        return tuple(np.concatenate(part) for part in self._lists)
