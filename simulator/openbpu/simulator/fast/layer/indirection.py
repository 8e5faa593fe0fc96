"""Where the input of a convolution lies: byte offsets by tap and output pixel, so that nothing is copied."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Int64
from openbpu.simulator.fast.layer.plan import Integers, Layer
from openbpu.simulator.fast.plan.steps import Late, Lowering, Place


def positions(out: int, stride: int, taps: int, dilation: int, pad: int, upsample: int, size: int) -> Int64:
    """Return [out, taps]: the input position, or −1 where pad_value is read."""
    u = np.arange(out)[:, None] * stride + np.arange(taps)[None, :] * dilation - pad
    inside = (u >= 0) & (u % upsample == 0) & (u // upsample < size)
    return np.where(inside, u // upsample, -1)


def offsets(layer: Layer, rows: Int64, columns: Int64) -> Int64:
    """Return the pixel of x, or −1, as [taps, output pixels], from rows [OH, KH] and columns [OW, KW]."""
    images, height, width, _ = layer.x_shape
    image = np.arange(images)[None, None, :, None, None] * (height * width)
    r = rows.T[:, None, None, :, None]
    c = columns.T[None, :, None, None, :]
    at = np.where((r >= 0) & (c >= 0), image + r * width + c, -1)
    return at.reshape(rows.shape[1] * columns.shape[1], -1)


def late_offsets(layer: Layer, pixels: Int64, low: Lowering) -> Late:
    """Byte offsets from x; −1 leads to a row of pad_value."""
    pixel_bytes = layer.op.x_shape[3] * layer.x_dtype.nbytes
    x, pad = layer.x, low.padding(layer.op.pad_value, layer.x_dtype, layer.op.x_shape[3] * 4)

    def make(offset_of: Callable[[Place], int]) -> npt.NDArray[np.int32]:
        distance = offset_of(pad) - offset_of(x)
        return np.where(pixels >= 0, pixels * pixel_bytes, distance).astype(np.int32)

    return Late(make)


def whole_window(layer: Layer) -> tuple[Int64, Integers, Int64]:
    """All taps for all pixels, gaps of an upsampled x included."""
    op = layer.op
    _, height, width, _ = layer.x_shape
    rows = positions(
        op.y_shape[1], op.strides[0], op.kernel[0], op.dilations[0], op.pads[0], op.upsample[0], height
    )
    columns = positions(
        op.y_shape[2], op.strides[1], op.kernel[1], op.dilations[1], op.pads[1], op.upsample[1], width
    )
    return offsets(layer, rows, columns), layer.weights, layer.bias
