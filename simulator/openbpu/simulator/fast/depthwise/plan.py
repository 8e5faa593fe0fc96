"""Depthwise convolutions as steps: pairs of taps at once, or any dtype and window."""

from __future__ import annotations

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.dtypes import DType
from openbpu.simulator.fast.depthwise.arguments import CHANNELS, TILE_PIXELS, Depthwise, DepthwiseTiled
from openbpu.simulator.fast.layer.arguments import LANES
from openbpu.simulator.fast.layer.indirection import late_offsets, whole_window
from openbpu.simulator.fast.layer.plan import Layer, out_of, wrap32
from openbpu.simulator.fast.plan.steps import Lowering, Saturations, Symbol


def add_depthwise(layer: Layer, low: Lowering) -> None:
    """Append the kernel that takes any dtype and window, or the faster one where that suits."""
    op = layer.op
    if not op.wide and DType.INT8 in (layer.x_dtype, low.dtype(op.weight_id)):
        _tiled(layer, low)
        return
    pixels, weights, bias = whole_window(layer)
    channels = op.y_shape[3]
    per_pixel = -(-channels // CHANNELS)
    arguments = Depthwise(
        x=layer.x, offsets=late_offsets(layer, pixels, low), pixels=pixels.shape[1], taps=pixels.shape[0],
        x_kind=layer.x_dtype.nbytes,
        weights=np.ascontiguousarray(weights.reshape(channels, -1).T.astype(np.int32)), channels=channels,
        per_pixel=per_pixel, params=layer.requant.params(real=layer.finish.real), bias=_slack(bias),
        wide=int(op.wide), saturations=Saturations(), out=out_of(layer, low),
    )  # fmt: skip
    low.add(arguments, layer.out_rows * per_pixel, layer.macs() * 0.1)


def _tiled(layer: Layer, low: Lowering) -> None:
    """Append the kernels of depthwise.vector16."""
    channels = layer.op.y_shape[3]
    pixels, weights, bias = whole_window(layer)
    taps = weights.reshape(channels, -1)
    pairs, blocks = -(-taps.shape[1] // 2), -(-channels // LANES)
    idle = 2 * pairs - taps.shape[1]
    padded = np.zeros((blocks * LANES, 2 * pairs), dtype=np.int16)
    padded[:channels, : taps.shape[1]] = taps
    mixed = padded.reshape(blocks, LANES, pairs, 2).transpose(0, 2, 1, 3)
    pixels = np.concatenate([pixels, np.repeat(pixels[:1], idle, axis=0)])
    start = np.zeros(blocks * LANES, dtype=np.int64)
    start[:channels] = bias
    arguments = DepthwiseTiled(
        x=layer.x, offsets=late_offsets(layer, pixels, low), pixels=layer.out_rows, pairs=pairs,
        x_kind=layer.x_dtype.nbytes, channels=channels, code=Symbol(f"depthwise16_{layer.x_dtype.nbytes}"),
        weights=np.ascontiguousarray(mixed), init=wrap32(start),
        params=layer.requant.params(real=layer.finish.real), out=out_of(layer, low),
    )  # fmt: skip
    work = 500 + layer.out_rows * channels * (0.4 + 0.06 * pairs)
    low.add(arguments, -(-layer.out_rows // TILE_PIXELS), work)


def _slack(values: Int64) -> Int64:
    return np.concatenate([values, np.zeros(CHANNELS, dtype=np.int64)])
