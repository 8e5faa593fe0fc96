"""Depthwise convolutions of bytes on processors that permute bytes: see depthwise.vector64."""

from __future__ import annotations

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.dtypes import DType
from openbpu.simulator.fast.declaration import Table
from openbpu.simulator.fast.depthwise.arguments import PACKED_PIXELS, WIDTHS, DepthwisePacked, PackedBlock
from openbpu.simulator.fast.layer.indirection import late_offsets, whole_window
from openbpu.simulator.fast.layer.plan import Layer, Parts, window_sums, wrap32
from openbpu.simulator.fast.plan.steps import Lowering, Symbol


def is_plain(layer: Layer, low: Lowering) -> bool:
    """Whether bytes come in, bytes go out and nothing but a table lies between."""
    op = layer.op
    bytes_only = layer.x_dtype is DType.INT8 and low.dtype(op.weight_id) is DType.INT8
    return bytes_only and layer.finish.packed and op.rmult_id < 0 and not op.raw and not op.wide


def add_depthwise64(layer: Layer, low: Lowering) -> None:
    """Append the kernels of depthwise.vector64."""
    op, channels = layer.op, layer.op.y_shape[3]
    pixels, weights, bias = whole_window(layer)
    taps = weights.reshape(channels, -1).astype(np.int64)
    quads = -(-taps.shape[1] // 4)
    idle = 4 * quads - taps.shape[1]
    taps = np.pad(taps, ((0, 0), (0, idle)))
    pixels = np.concatenate([pixels, np.repeat(pixels[:1], idle, axis=0), np.repeat(pixels[:1], 1, axis=0)])
    start = wrap32(bias - 128 * window_sums(weights))
    blocks, parts = [], Parts()
    for width, first in _width_blocks(channels):
        order = lane_order(width)
        source = np.minimum(first + order, channels - 1).reshape(-1)
        mixed = taps[source].reshape(64, quads, 4).transpose(1, 0, 2).astype(np.int8)
        at = parts.append(
            np.ascontiguousarray(mixed), start[source], layer.requant.pick(source).params(real=True)
        )
        blocks.append(PackedBlock(
            width=WIDTHS.index(width), first=first, channels=min(channels - first, width), weights=at[0],
            init=at[1], params=at[2],
        ))  # fmt: skip
    table = int(op.table_id >= 0)
    mixed_weights, init, params = parts.arrays()
    arguments = DepthwisePacked(
        x=layer.x, offsets=late_offsets(layer, pixels, low), pixels=layer.out_rows, quads=quads,
        block_count=len(blocks), blocks=Table.of(PackedBlock, blocks),
        codes=tuple(Symbol(f"depthwise_{width}_{table}") for width in WIDTHS), weights=mixed_weights,
        init=init, params=params, consts=layer.finish.consts, y=low.write(op.outputs[0]), channels=channels,
    )  # fmt: skip
    units = -(-layer.out_rows // PACKED_PIXELS)
    low.add(arguments, units, 500 + layer.out_rows * channels * (0.1 + 0.03 * quads))


def _width_blocks(channels: int) -> list[tuple[int, int]]:
    """Return (width, first channel) of blocks of 64, 32 or 16 channels."""
    blocks, first = [], 0
    while first < channels:
        left = channels - first
        width = 64 if left > 32 else 32 if left > 16 else 16
        blocks.append((width, first))
        first += width
    return blocks


def lane_order(width: int) -> Int64:
    """Return [4, 16]: the channel in each lane of the four registers of depthwise.vector64."""
    lane, register, i = np.arange(4)[None, :, None], np.arange(4)[:, None, None], np.arange(4)[None, None, :]
    return (lane * 16 % width + register * 4 + i).reshape(4, 16)
