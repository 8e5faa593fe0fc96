"""Conv as steps: which of the kernels suits a layer, and what has to happen to its input first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from openbpu.arch.dtypes import DType
from openbpu.arch.program import Conv
from openbpu.simulator.fast.conv.arguments import WidenWords
from openbpu.simulator.fast.conv.gemm import add_gemm
from openbpu.simulator.fast.depthwise.plan import add_depthwise
from openbpu.simulator.fast.depthwise.plan64 import add_depthwise64, is_plain
from openbpu.simulator.fast.direct.plan import add_direct
from openbpu.simulator.fast.layer.plan import Layer, layer_of
from openbpu.simulator.fast.move.plan import add_pad
from openbpu.simulator.fast.plan.registry import VECTOR, lowers
from openbpu.simulator.fast.plan.steps import Lowering

_MERGE_CHANNELS = 16


@lowers(Conv, "conv", "depthwise", "move", VECTOR)
def lower_conv(op: Conv, low: Lowering) -> None:
    """Choose the kernel."""
    layer = layer_of(op, low)
    if op.groups > 1 and op.groups == op.x_shape[3] == op.y_shape[3]:
        if low.mode == "vnni512" and is_plain(layer, low):
            add_depthwise64(layer, low)
        else:
            add_depthwise(layer, low)
        return
    both_wide = layer.x_dtype is DType.INT16 and low.dtype(op.weight_id) is DType.INT16
    if both_wide or layer.x_dtype.nbytes > 2 or low.kind(op.weight_id) > 2:
        add_direct(layer, low)
        return
    words = low.mode == "portable" or DType.INT16 in (layer.x_dtype, low.dtype(op.weight_id))
    if words and layer.x_dtype is DType.INT8:
        layer = _widened(layer, low)
    add_gemm(_merged(layer, low), low, words=words)


def _widened(layer: Layer, low: Lowering) -> Layer:
    count = int(np.prod(layer.x_shape, dtype=np.int64))
    wide = low.temporary(2 * count)
    low.add(WidenWords(x=layer.x, y=wide), count, count * 0.1)
    return replace(layer, x=wide, x_dtype=DType.INT16)


def _merged(layer: Layer, low: Lowering) -> Layer:
    """Pad x once where channels are few: the KW·Cin values of a kernel row lie together and make one tap."""
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
