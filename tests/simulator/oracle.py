"""Every operator once more, slow and obvious, straight from the docstrings of
`openbpu.arch.operators`.

int64 everywhere and no cleverness: this is what the simulators are held to, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch import program as p
from openbpu.arch.definition.rooms import Room

Array = npt.NDArray[np.generic]
Int64 = npt.NDArray[np.int64]
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


RUN: Room[type[p.Operator], Callable[[Any, Any], Array]] = Room(
    "the slow formula",
    p.OPERATORS,
    __name__,
    decorator="a function under @RUN.of({})",
    where="tests/operators/{}.py",
)
"""Operator → (operator, Oracle), which returns its output."""


class Oracle:
    """Runs the operators of a segment; `saturations` counts accumulators of wide layers that did not fit
    int32.
    """

    def __init__(self, program: p.Program, segment: p.BpuSegment) -> None:
        self.program, self.segment = program, segment
        self.values: dict[int, Array] = {}
        self.saturations = 0

    def run(self, tensors: dict[int, Array]) -> dict[int, Array]:
        """Return the outputs of the segment."""
        self.values, self.saturations = {}, 0
        for tensor_id, value in tensors.items():
            self.values[self.program.root(tensor_id)] = value
        for operator in self.segment.operators:
            (output,) = operator.outputs
            tensor = self.program.tensors[output]
            result = np.asarray(RUN[type(operator)](operator, self))
            assert result.size == int(np.prod(tensor.shape))
            self.values[self.program.root(output)] = result.astype(tensor.dtype.numpy).reshape(tensor.shape)
        return {t: self.get(t) for t in self.segment.outputs}

    def get(self, tensor_id: int) -> Array:
        """The value of a tensor in its own shape."""
        tensor = self.program.tensors[tensor_id]
        root = self.program.root(tensor_id)
        if self.program.tensors[root].space is p.Space.CONST:
            return self.program.constant(root).reshape(tensor.shape)
        return self.values[root].reshape(tensor.shape)

    def wide(self, tensor_id: int) -> Int64:
        """As get, int64 and flat."""
        return self.get(tensor_id).astype(np.int64).reshape(-1)

    def constant(self, tensor_id: int) -> Int64:
        """A constant as int64."""
        return self.program.constant(tensor_id).astype(np.int64)

    def sat32(self, acc: Int64, *, count: bool) -> Int64:
        """Saturate once."""
        fits = np.clip(acc, INT32_MIN, INT32_MAX)
        if count:
            self.saturations += int((fits != acc).sum())
        else:
            assert (fits == acc).all(), "a layer that is not wide must fit int32"
        return fits

    def table(self, table_id: int, y: Int64) -> Int64:
        """The optional table."""
        return y if table_id < 0 else self.constant(table_id)[y + 128]


def conv_sum(op: p.Conv, x: Int64, weights: Int64) -> Int64:
    images, height, width, _ = op.x_shape
    _, out_h, out_w, channels = op.y_shape
    depth, per_group = weights.shape[3], channels // op.groups
    acc = np.zeros((images, out_h, out_w, channels), dtype=np.int64)
    for oy in range(out_h):
        for ox in range(out_w):
            for ky in range(op.kernel[0]):
                for kx in range(op.kernel[1]):
                    uy = oy * op.strides[0] + ky * op.dilations[0] - op.pads[0]
                    ux = ox * op.strides[1] + kx * op.dilations[1] - op.pads[1]
                    on_grid = uy >= 0 and ux >= 0 and uy % op.upsample[0] == 0 and ux % op.upsample[1] == 0
                    iy, ix = uy // op.upsample[0], ux // op.upsample[1]
                    if on_grid and iy < height and ix < width:
                        pixel = x[:, iy, ix]
                    else:
                        pixel = np.full((images, op.x_shape[3]), op.pad_value, dtype=np.int64)
                    for c in range(channels):
                        first = c // per_group * depth
                        acc[:, oy, ox, c] += pixel[:, first : first + depth] @ weights[c, ky, kx]
    return acc


@RUN.of(p.Conv)
def conv(op: p.Conv, o: Oracle) -> Int64:
    x = o.wide(op.inputs[0]).reshape(op.x_shape)
    bias, mult, offset, shift, *high = o.constant(op.params_id).T
    if high:
        offset = high[0] * 2**32 + offset % 2**32
    acc = o.sat32(conv_sum(op, x, o.constant(op.weight_id)) + bias, count=op.wide)
    if op.raw:
        return acc
    total = acc * mult + offset
    if op.rmult_id >= 0:
        r = o.wide(op.inputs[1]).reshape(op.y_shape)
        total = total + (r - op.r_zero) * o.constant(op.rmult_id)
    return o.table(op.table_id, numerics.requantize(total, shift, op.zero, op.lo, op.hi))


@RUN.of(p.MatMul)
def matmul(op: p.MatMul, o: Oracle) -> Int64:
    a = o.wide(op.inputs[0]).reshape(op.a_batch, op.m, op.k) - op.a_zero
    if op.b_transposed:
        b = o.wide(op.inputs[1]).reshape(op.b_batch, op.n, op.k).transpose(0, 2, 1) - op.b_zero
    else:
        b = o.wide(op.inputs[1]).reshape(op.b_batch, op.k, op.n) - op.b_zero
    acc = o.sat32(np.matmul(a, b), count=op.wide)
    if op.raw:
        return acc
    y = numerics.requantize(acc * op.mult + op.offset, op.shift, op.zero, op.lo, op.hi)
    return o.table(op.table_id, y)


def walk(flat: Array, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> Array:
    where = np.full(shape, offset, dtype=np.int64)
    for axis, stride in enumerate(strides):
        steps = np.arange(shape[axis]) * stride
        where += steps.reshape([-1 if d == axis else 1 for d in range(len(shape))])
    return flat.reshape(-1)[where]


@RUN.of(p.Binary)
def binary(op: p.Binary, o: Oracle) -> Int64:
    a = walk(o.wide(op.inputs[0]), op.shape, op.a_strides).astype(np.int64) - op.a_zero
    b = walk(o.wide(op.inputs[1]), op.shape, op.b_strides).astype(np.int64) - op.b_zero
    formulas: dict[str, Callable[[], Int64]] = {
        "add": lambda: a * op.mult_a + b * op.mult_b,
        "mul": lambda: a * b * op.mult_a,
        "max": lambda: np.maximum(a * op.mult_a, b * op.mult_b),
        "min": lambda: np.minimum(a * op.mult_a, b * op.mult_b),
        "prelu": lambda: np.where(a >= 0, a * op.mult_a, a * b * op.mult_b),
    }
    y = numerics.requantize(formulas[op.fn]() + op.offset, op.shift, op.zero, op.lo, op.hi)
    return o.table(op.table_id, y)


@RUN.of(p.Lut)
def lut(op: p.Lut, o: Oracle) -> Int64:
    return o.constant(op.table_id)[o.wide(op.inputs[0]) + 128]


@RUN.of(p.SegmentLut)
def segment_lut(op: p.SegmentLut, o: Oracle) -> Int64:
    return numerics.segment_lut(o.wide(op.inputs[0]), o.constant(op.segments_id), op.lo, op.hi)


@RUN.of(p.Rescale)
def rescale(op: p.Rescale, o: Oracle) -> Int64:
    total = (o.wide(op.inputs[0]) - op.x_zero) * op.mult + op.offset
    return numerics.requantize(total, op.shift, op.zero, op.lo, op.hi)


@RUN.of(p.Pool)
def pool(op: p.Pool, o: Oracle) -> Int64:
    x = o.wide(op.inputs[0]).reshape(op.x_shape)
    counts = o.constant(op.counts_id)
    (_, height, width, _), (_, out_h, out_w, _) = op.x_shape, op.y_shape
    y = np.zeros(op.y_shape, dtype=np.int64)
    for oy in range(out_h):
        for ox in range(out_w):
            seen, counted = [], 0
            for ky in range(op.kernel[0]):
                for kx in range(op.kernel[1]):
                    iy = oy * op.strides[0] + ky * op.dilations[0] - op.pads[0]
                    ix = ox * op.strides[1] + kx * op.dilations[1] - op.pads[1]
                    inside = 0 <= iy < height and 0 <= ix < width
                    in_padded = iy < height + op.pads[2] and ix < width + op.pads[3]
                    counted += in_padded if op.count_pad else inside
                    if inside:
                        seen.append(x[:, iy, ix])
            window = np.stack(seen)
            if op.fn == "max":
                total, (mult, shift) = window.max(axis=0) - op.x_zero, counts[0]
            else:
                total, (mult, shift) = (window - op.x_zero).sum(axis=0), counts[counted]
            y[:, oy, ox] = numerics.requantize(total * mult, shift, op.zero, op.lo, op.hi)
    return y


@RUN.of(p.Reduce)
def reduce(op: p.Reduce, o: Oracle) -> Int64:
    x = o.wide(op.inputs[0]).reshape(op.shape)
    folded = {
        "sum": lambda: (x - op.x_zero).sum(axis=1),
        "max": lambda: x.max(axis=1) - op.x_zero,
        "min": lambda: x.min(axis=1) - op.x_zero,
    }[op.fn]()
    total = np.clip(folded, INT32_MIN, INT32_MAX) * op.mult
    return numerics.requantize(total, op.shift, op.zero, op.lo, op.hi)


@RUN.of(p.Softmax)
def softmax(op: p.Softmax, o: Oracle) -> Int64:
    x = o.wide(op.inputs[0]).reshape(op.shape)
    table = o.program.constant(op.exp_id).astype(np.int32)
    return numerics.softmax_rows(
        x, table, op.mult, op.shift, op.out_mult, op.out_shift, op.zero, op.lo, op.hi
    )


@RUN.of(p.LayerNorm)
def layernorm(op: p.LayerNorm, o: Oracle) -> Int64:
    x = o.wide(op.inputs[0]).reshape(op.shape) - op.x_zero
    gain, bias = o.constant(op.gain_id), o.constant(op.bias_id)
    return numerics.layernorm_rows(
        x, gain, bias, op.epsilon, op.epsilon_shift, op.shift, op.zero, op.lo, op.hi, centred=op.centred
    )


@RUN.of(p.Move)
def move(op: p.Move, o: Oracle) -> Array:
    return walk(o.get(op.inputs[0]), op.shape, op.strides, op.offset)


@RUN.of(p.Concat)
def concat(op: p.Concat, o: Oracle) -> Int64:
    columns = []
    for i, x in enumerate(op.inputs):
        part = o.wide(x).reshape(op.outer, op.sizes[i])
        if op.mults[i]:
            total = (part - op.x_zeros[i]) * op.mults[i]
            part = numerics.requantize(total, op.shifts[i], op.zero, op.lo, op.hi)
        columns.append(part)
    return np.concatenate(columns, axis=1)


@RUN.of(p.Pad)
def pad(op: p.Pad, o: Oracle) -> Array:
    x = o.get(op.inputs[0]).reshape(op.shape)
    return np.pad(x, list(zip(op.before, op.after, strict=True)), constant_values=op.value)


@RUN.of(p.Gather)
def gather(op: p.Gather, o: Oracle) -> Array:
    return o.get(op.inputs[0]).reshape(op.shape)[:, o.constant(op.indices_id)]


@RUN.of(p.Resize)
def resize(op: p.Resize, o: Oracle) -> Int64:
    x = o.wide(op.inputs[0]).reshape(op.x_shape) - op.x_zero
    y = np.zeros(op.y_shape, dtype=np.int64)
    for oy, (y0, y1, f) in enumerate(o.constant(op.rows_id)):
        for ox, (x0, x1, g) in enumerate(o.constant(op.cols_id)):
            upper = numerics.between(x[:, y0, x0], x[:, y0, x1], g, 15)
            lower = numerics.between(x[:, y1, x0], x[:, y1, x1], g, 15)
            total = numerics.between(upper, lower, f, 30) * op.mult
            y[:, oy, ox] = numerics.requantize(total, op.shift, op.zero, op.lo, op.hi)
    return y


@RUN.of(p.Quantize)
def quantize(op: p.Quantize, o: Oracle) -> Int64:
    with np.errstate(over="ignore"):
        quotient = o.get(op.inputs[0]).astype(np.float32) / np.float32(op.scale)
    codes: Int64 = np.clip(np.rint(quotient).astype(np.float64) + op.zero, op.lo, op.hi).astype(np.int64)
    return codes


@RUN.of(p.Dequantize)
def dequantize(op: p.Dequantize, o: Oracle) -> Array:
    q = o.wide(op.inputs[0]).reshape(op.shape)
    scales = o.program.constant(op.scales_id).astype(np.float32)
    scale, offset = scales.reshape(scales.shape[0], -1).T[[0, -1], :, None]
    real: Array = (q - op.x_zero).astype(np.float32) * scale
    return real + offset if scales.ndim > 1 else real
