"""Pool, Reduce, Resize and the row functions as steps."""

from __future__ import annotations

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.numerics.rows import exp_negative
from openbpu.arch.program import LayerNorm, Pool, Reduce, Resize, Softmax
from openbpu.simulator.fast.lower.elementwise import BLOCK
from openbpu.simulator.fast.lower.steps import Argument, Lowering

_SUM, _MAX, _MIN = range(3)
_REDUCE = {"sum": _SUM, "max": _MAX, "min": _MIN}


def lower_pool(op: Pool, low: Lowering) -> None:
    """Output pixels; the common int8 max pool has a kernel of its own."""
    (x,), (y,) = op.inputs, op.outputs
    counts = low.constant(op.counts_id).astype(np.int64)
    (images, height, width, channels), (_, out_h, out_w, _) = op.x_shape, op.y_shape
    per_pixel = -(-channels // BLOCK)
    top, left, bottom, right = op.pads
    arguments: tuple[Argument, ...] = (
        low.read(x), low.kind(x), low.write(y), low.kind(y), _MAX if op.fn == "max" else _SUM,
        height, width, channels, out_h, out_w, *op.kernel, *op.strides, top, left, *op.dilations, counts,
        int(op.count_pad), per_pixel, op.x_zero, bottom, right, op.zero, op.lo, op.hi,
    )  # fmt: skip
    pixels = images * out_h * out_w
    taps = op.kernel[0] * op.kernel[1]
    if _only_clamps(op, low, counts):
        low.add("max_pool_bytes", pixels, arguments, pixels * taps * (2 + channels * 0.02))
        return
    low.add("pool", pixels * per_pixel, arguments, pixels * taps * (3 + channels * 0.5))


def _only_clamps(op: Pool, low: Lowering, counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> bool:
    same = op.x_zero == op.zero and counts[0, 0] == 1 << int(counts[0, 1])
    both = low.dtype(op.inputs[0]) is DType.INT8 and low.dtype(op.outputs[0]) is DType.INT8
    return bool(op.fn == "max" and same and both)


def lower_reduce(op: Reduce, low: Lowering) -> None:
    """The middle axis of [A,R,B]."""
    (x,), (y,) = op.inputs, op.outputs
    outer, length, inner = op.shape
    per_row = -(-inner // BLOCK)
    arguments = (
        low.read(x), low.kind(x), low.write(y), low.kind(y), _REDUCE[op.fn], length, inner, per_row,
        op.x_zero, op.mult, op.shift, op.zero, op.lo, op.hi,
    )  # fmt: skip
    low.add("reduce", outer * per_row, arguments, outer * length * inner * 0.5)


def lower_resize(op: Resize, low: Lowering) -> None:
    """Bilinear rows."""
    (x,), (y,) = op.inputs, op.outputs
    (images, height, width, channels), (_, out_h, out_w, _) = op.x_shape, op.y_shape
    rows, columns = (low.constant(t).astype(np.int32) for t in (op.rows_id, op.cols_id))
    arguments = (
        low.read(x), low.kind(x), low.write(y), low.kind(y), height, width, channels, out_h, out_w,
        rows, columns, op.x_zero, op.mult, op.shift, op.zero, op.lo, op.hi,
    )  # fmt: skip
    low.add("resize", images * out_h, arguments, images * out_h * out_w * (20 + channels * 3.0))


def lower_softmax(op: Softmax, low: Lowering) -> None:
    """Exponentials depend only on the distance from the maximum: all of them are made here."""
    (x,), (y,) = op.inputs, op.outputs
    outer, length = op.shape
    table = low.constant(op.exp_id).astype(np.int32)
    distances = np.arange(256 if low.dtype(x) is DType.INT8 else 65536, dtype=np.int64)
    exponentials = exp_negative(distances, op.mult, op.shift, table)
    arguments = (
        low.read(x), low.kind(x), low.write(y), low.kind(y), length, exponentials,
        op.out_mult, op.out_shift, op.zero, op.lo, op.hi,
    )  # fmt: skip
    low.add("softmax", outer, arguments, outer * (30 + length * 4.0))


def lower_layernorm(op: LayerNorm, low: Lowering) -> None:
    """Rows."""
    (x,), (y,) = op.inputs, op.outputs
    outer, length = op.shape
    gain, bias = (low.constant(t).astype(np.int64).reshape(-1) for t in (op.gain_id, op.bias_id))
    bits = numerics.norm_bits(length, centred=op.centred)
    arguments = (
        low.read(x), low.kind(x), low.write(y), low.kind(y), length, gain, int(gain.size > 1), bias,
        int(bias.size > 1), op.epsilon, op.epsilon_shift, int(op.centred), op.x_zero, op.shift, op.zero,
        op.lo, op.hi, bits,
    )  # fmt: skip
    low.add("layernorm", outer, arguments, outer * (60 + length * 5.0))
