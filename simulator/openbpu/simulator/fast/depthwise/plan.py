"""Depthwise convolutions, and the slow way for any other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.arch.dtypes import DType
from openbpu.simulator.fast.lower.indirection import late_offsets, whole_window
from openbpu.simulator.fast.lower.layer import Layer, output_arguments
from openbpu.simulator.fast.lower.steps import Argument, Lowering, Saturations, Symbol
from openbpu.simulator.fast.lower.tiles import wrap32

Int64 = npt.NDArray[np.int64]


def add_depthwise(layer: Layer, low: Lowering) -> None:
    """Append the kernel that takes any dtype and window."""
    op = layer.op
    if not op.wide and DType.INT8 in (layer.x_dtype, low.dtype(op.weight_id)):
        _tiled(layer, low)
        return
    pixels, weights, bias = whole_window(layer)
    channels = op.y_shape[3]
    table = np.ascontiguousarray(weights.reshape(channels, -1).T.astype(np.int32))
    per_pixel = -(-channels // 64)
    params = layer.requant.params(real=layer.finish.real)
    arguments: tuple[Argument, ...] = (
        layer.x, late_offsets(layer, pixels, low), pixels.shape[1], pixels.shape[0], layer.x_dtype.nbytes,
        table, channels, per_pixel, 0, 0, params, _slack(bias), int(op.wide), Saturations(),
        *output_arguments(layer, low),
    )  # fmt: skip
    low.add("depthwise", layer.out_rows * per_pixel, arguments, layer.macs() * 0.1)


def _tiled(layer: Layer, low: Lowering) -> None:
    """Append the kernels of vector.depthwise16."""
    channels = layer.op.y_shape[3]
    pixels, weights, bias = whole_window(layer)
    taps = weights.reshape(channels, -1)
    pairs, blocks = -(-taps.shape[1] // 2), -(-channels // 16)
    idle = 2 * pairs - taps.shape[1]
    padded = np.zeros((blocks * 16, 2 * pairs), dtype=np.int16)
    padded[:channels, : taps.shape[1]] = taps
    mixed = padded.reshape(blocks, 16, pairs, 2).transpose(0, 2, 1, 3)
    pixels = np.concatenate([pixels, np.repeat(pixels[:1], idle, axis=0)])
    start = np.zeros(blocks * 16, dtype=np.int64)
    start[:channels] = bias
    arguments: tuple[Argument, ...] = (
        layer.x, late_offsets(layer, pixels, low), pixels.shape[1], layer.out_rows, pairs,
        layer.x_dtype.nbytes, channels, Symbol(f"depthwise16_{layer.x_dtype.nbytes}"),
        np.ascontiguousarray(mixed), wrap32(start), layer.requant.params(real=layer.finish.real), 0, 0, 0,
        *output_arguments(layer, low),
    )  # fmt: skip
    work = 500 + layer.out_rows * channels * (0.4 + 0.06 * pairs)
    low.add("depthwise_tiled", -(-layer.out_rows // 16), arguments, work)


def add_any(layer: Layer, low: Lowering) -> None:
    """Append the kernel that takes any convolution, slowly."""
    op = layer.op
    pixels, weights, bias = whole_window(layer)
    channels, depth = op.y_shape[3], weights.shape[3]
    table = np.ascontiguousarray(weights.reshape(channels, -1).astype(np.int32))
    params = layer.requant.params(real=layer.finish.real)
    arguments: tuple[Argument, ...] = (
        layer.x, late_offsets(layer, pixels, low), pixels.shape[1], pixels.shape[0], layer.x_dtype.nbytes,
        table, channels, depth, channels // op.groups, 0, params, bias, 1, Saturations(),
        *output_arguments(layer, low),
    )  # fmt: skip
    low.add("conv_any", layer.out_rows, arguments, layer.macs() * 1.0)


def _slack(values: Int64) -> Int64:
    return np.concatenate([values, np.zeros(64, dtype=np.int64)])
