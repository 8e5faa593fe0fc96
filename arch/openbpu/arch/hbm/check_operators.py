"""Whether an operator's geometry fits its tensors: every element it names exists. One function per kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from openbpu.arch.dtypes import DType
from openbpu.arch.hbm.checked import Checked
from openbpu.arch.hbm.needs import (
    MAX_COUNT,
    constant_of,
    need,
    need_geometry,
    need_sizes,
    need_within,
    size_of,
)
from openbpu.arch.numerics import (
    EXP_ENTRIES,
    MAX_NORM_LENGTH,
    MAX_SEGMENTS,
    MAX_SHIFT,
    MAX_SOFTMAX_LENGTH,
    MIN_EPSILON_SHIFT,
    WEIGHT_BITS,
)
from openbpu.arch.program import (
    Binary,
    Concat,
    Conv,
    Dequantize,
    Gather,
    LayerNorm,
    Lut,
    MatMul,
    Move,
    Operator,
    Pad,
    Pool,
    Quantize,
    Reduce,
    Rescale,
    Resize,
    SegmentLut,
    Softmax,
    Space,
)
from openbpu.arch.program.operators import MAX_WINDOW

_TABLE = 256


def check_operator(program: Checked, op: Operator) -> None:
    """Raise BadRecordError when `op` (its ids are in range) does not fit the tensors it names."""
    inputs, outputs = _ARITY[type(op)]
    need(inputs[0] <= len(op.inputs) <= inputs[1], "number of inputs", len(op.inputs))
    need(len(op.outputs) == outputs, "number of outputs", len(op.outputs))
    for i in op.outputs:
        need(program.tensors[i].space is not Space.CONST, "output", f"constant {i}")
    for i in op.constants():
        need(program.tensors[i].space is Space.CONST, "constant", f"tensor {i}, which is none")
    shift = getattr(op, "shift", 0)
    need(0 <= shift <= MAX_SHIFT, "shift", shift)
    _check_dtypes(program, op)
    _check_codes(program, op)
    _CHECKS[type(op)](program, op)
    _check_table(program, op)


def _check_dtypes(program: Checked, op: Operator) -> None:
    """Only layout changes and the ends of a model (which check it themselves) may see floats."""
    for i in (*op.inputs, *op.outputs):
        t = program.tensors[i]
        legal = t.dtype in _INTEGERS or (isinstance(op, _ANY_DTYPE) and t.dtype is not DType.OTHER)
        need(legal, f"dtype of '{t.name}'", t.dtype.value)
    made = program.tensors[op.outputs[0]].dtype
    for i in _copied(op):
        t = program.tensors[i]
        need(t.dtype is made, f"dtype of '{t.name}' (its bits are copied to {made.value})", t.dtype.value)


def _check_codes(program: Checked, op: Operator) -> None:
    """Zero points are int32, bounds codes of the output; what fills a border is an element of the input."""
    for name in ("x_zero", "a_zero", "b_zero", "r_zero", "zero"):
        value = getattr(op, name, 0)
        need(DType.INT32.qmin <= value <= DType.INT32.qmax, name, value)
    made = program.tensors[op.outputs[0]].dtype
    lo, hi = getattr(op, "lo", 0), getattr(op, "hi", 0)
    need(made not in _INTEGERS or made.qmin <= lo <= hi <= made.qmax, f"range of {made.value}", (lo, hi))
    filled = program.tensors[op.inputs[0]].dtype
    for name in ("pad_value", "value"):
        value = getattr(op, name, 0)
        need(value == 0 or (filled in _INTEGERS and filled.qmin <= value <= filled.qmax), name, value)


def _copied(op: Operator) -> Iterable[int]:
    """The inputs whose bits the operator copies."""
    if isinstance(op, Concat):
        return (i for i, mult in zip(op.inputs, op.mults, strict=False) if mult == 0)
    return op.inputs if isinstance(op, Move | Pad | Gather) else ()


def _check_table(program: Checked, op: Operator) -> None:
    """A table after the clamp is indexed by y + 128, so the clamp must keep y in int8."""
    table: int = getattr(op, "table_id", -1)
    if table < 0:
        return
    need(size_of(program, table) == _TABLE, "size of the table", size_of(program, table))
    dtype = program.tensors[table].dtype
    need(dtype is program.tensors[op.outputs[0]].dtype, "dtype of the table", dtype.value)
    lo, hi = getattr(op, "lo", -128), getattr(op, "hi", 127)
    need(-128 <= lo <= hi <= 127, "range before the table", (lo, hi))


def _check_product(program: Checked, op: Conv | MatMul, weights: int) -> None:
    """int8 and int16 go in; int32 comes out exactly when the accumulator itself is the result."""
    for i in (op.inputs[0], weights):
        need(
            program.tensors[i].dtype in _NARROW,
            f"dtype of '{program.tensors[i].name}'",
            program.tensors[i].dtype.value,
        )
    made = program.tensors[op.outputs[0]].dtype
    need(op.raw == (made is DType.INT32), f"raw with an output of {made.value}", op.raw)


def _check_conv(program: Checked, op: Conv) -> None:
    for name in ("x_shape", "y_shape"):
        need_geometry(name, getattr(op, name), 4)
    for name in ("kernel", "strides", "dilations", "upsample"):
        need_geometry(name, getattr(op, name), 2)
    need_geometry("groups", (op.groups,), 1)
    (n, h, w, c), (yn, oh, ow, oc) = op.x_shape, op.y_shape
    need(yn == n and c % op.groups == 0 and oc % op.groups == 0, "y_shape", op.y_shape)
    residual = [n * oh * ow * oc] * (len(op.inputs) - 1)
    need_sizes(program, op, n * h * w * c, *residual, n * oh * ow * oc)
    need(op.weight_id >= 0, "weights", "absent")
    _check_product(program, op, op.weight_id)
    weights = program.tensors[op.weight_id].shape
    need(weights == (oc, *op.kernel, c // op.groups), "shape of the weights", weights)
    constant_of(program, op.params_id, DType.INT32, (oc, 4), (oc, 5))
    need_within(program, "shifts", op.params_id, range(3, 4), 0, MAX_SHIFT)
    need((op.rmult_id >= 0) == bool(residual), "rmult_id", op.rmult_id)
    if residual:
        constant_of(program, op.rmult_id, DType.INT64, (oc,))
    up = [(size - 1) * u + 1 for size, u in zip((h, w), op.upsample, strict=True)]
    _check_window(up, (oh, ow), op, partial=False)


def _check_window(inside: Sequence[int], out: Sequence[int], op: Conv | Pool, *, partial: bool) -> None:
    """The last window must end (or, when `partial`, begin) inside the padded input."""
    need_geometry("pads", op.pads, 4, least=-MAX_COUNT)
    for axis in range(2):
        reach = (out[axis] - 1) * op.strides[axis] - op.pads[axis]
        if not partial:
            reach += (op.kernel[axis] - 1) * op.dilations[axis]
        need(
            reach < inside[axis] + op.pads[axis + 2],
            "y_shape (the last window lies outside the padding)",
            op.y_shape,
        )


def _check_pool(program: Checked, op: Pool) -> None:
    for name in ("x_shape", "y_shape"):
        need_geometry(name, getattr(op, name), 4)
    for name in ("kernel", "strides", "dilations"):
        need_geometry(name, getattr(op, name), 2)
    need(op.kernel[0] * op.kernel[1] <= MAX_WINDOW, "kernel", op.kernel)
    (n, h, w, c), (yn, oh, ow, oc) = op.x_shape, op.y_shape
    need((yn, oc) == (n, c), "y_shape", op.y_shape)
    need(op.fn in {"max", "avg"}, "fn", op.fn)
    need_sizes(program, op, n * h * w * c, n * oh * ow * c)
    rows = op.kernel[0] * op.kernel[1] + 1 if op.fn == "avg" else 1
    constant_of(program, op.counts_id, DType.INT64, (rows, 2))
    need_within(program, "shifts", op.counts_id, range(1, 2), 0, MAX_SHIFT)
    _check_window((h, w), (oh, ow), op, partial=True)


def _check_matmul(program: Checked, op: MatMul) -> None:
    need_geometry("sizes", (op.a_batch, op.b_batch, op.m, op.k, op.n), 5)
    batch = max(op.a_batch, op.b_batch)
    need({op.a_batch, op.b_batch} <= {1, batch}, "b_batch", op.b_batch)
    need_sizes(program, op, op.a_batch * op.m * op.k, op.b_batch * op.k * op.n, batch * op.m * op.n)
    _check_product(program, op, op.inputs[1])


def _reach(shape: Sequence[int], strides: Sequence[int], offset: int = 0) -> tuple[int, int]:
    """Return the lowest and the highest element that a strided walk over `shape` (no 0 in it) touches."""
    steps = [(d - 1) * s for d, s in zip(shape, strides, strict=True)]
    return offset + sum(s for s in steps if s < 0), offset + sum(s for s in steps if s > 0)


def _check_walk(
    program: Checked, tensor_id: int, shape: Sequence[int], strides: Sequence[int], offset: int = 0
) -> None:
    need_geometry("strides", strides, len(shape), least=-MAX_COUNT)
    if 0 in shape:
        return
    low, high = _reach(shape, strides, offset)
    name = program.tensors[tensor_id].name
    need(
        low >= 0 and high < size_of(program, tensor_id),
        f"strides of '{name}' (they leave it)",
        tuple(strides),
    )


def _check_binary(program: Checked, op: Binary) -> None:
    need(op.fn in {"add", "mul", "max", "min", "prelu"}, "fn", op.fn)
    need_geometry("shape", op.shape, len(op.shape), least=0)
    _check_walk(program, op.inputs[0], op.shape, op.a_strides)
    _check_walk(program, op.inputs[1], op.shape, op.b_strides)
    need(size_of(program, op.outputs[0]) == math.prod(op.shape), "shape", op.shape)


def _check_move(program: Checked, op: Move) -> None:
    need_geometry("shape", op.shape, len(op.shape), least=0)
    _check_walk(program, op.inputs[0], op.shape, op.strides, op.offset)
    need(size_of(program, op.outputs[0]) == math.prod(op.shape), "shape", op.shape)


def _check_same_size(program: Checked, op: Operator) -> None:
    need_sizes(program, op, size_of(program, op.outputs[0]))


def _check_lut(program: Checked, op: Lut) -> None:
    _check_same_size(program, op)
    dtype = program.tensors[op.inputs[0]].dtype
    need(dtype is DType.INT8, "dtype of the input", dtype.value)
    need(op.table_id >= 0, "table", "absent")


def _check_segment_lut(program: Checked, op: SegmentLut) -> None:
    _check_same_size(program, op)
    dtype = program.tensors[op.inputs[0]].dtype
    need(dtype is DType.INT16, "dtype of the input", dtype.value)
    made = program.tensors[op.outputs[0]].dtype
    need(made in _NARROW, "dtype of the output", made.value)
    shapes = [(rows, 4) for rows in range(1, MAX_SEGMENTS + 1)]
    segments = constant_of(program, op.segments_id, DType.INT64, *shapes)
    need(
        int(segments[0, 0]) == DType.INT16.qmin and bool((np.diff(segments[:, 0]) > 0).all()),
        "segments",
        "unsorted",
    )
    need_within(program, "shifts", op.segments_id, range(3, 4), 0, MAX_SHIFT)


def _check_reduce(program: Checked, op: Reduce) -> None:
    need_geometry("shape", op.shape, 3)
    need(op.fn in {"sum", "max", "min"}, "fn", op.fn)
    a, r, b = op.shape
    need_sizes(program, op, a * r * b, a * b)


def _check_softmax(program: Checked, op: Softmax) -> None:
    need_geometry("shape", op.shape, 2)
    need_sizes(program, op, math.prod(op.shape), math.prod(op.shape))
    codes = program.tensors[op.inputs[0]].dtype
    need(codes in _NARROW, "dtype of the input", codes.value)
    need(op.shape[1] <= MAX_SOFTMAX_LENGTH, "length of a row", op.shape[1])
    # Rows divide by their sum: exponentials are above 0 and fall, and distances grow with the codes.
    table = constant_of(program, op.exp_id, DType.INT32, (EXP_ENTRIES,))
    need_within(program, "exponentials", op.exp_id, range(1), 1, 1 << 30)
    need(bool((np.diff(table) <= 0).all()), "exponentials", "rising")
    need(0 <= op.out_shift <= MAX_SHIFT, "out_shift", op.out_shift)
    for name in ("mult", "out_mult"):
        need(0 <= getattr(op, name) <= DType.INT32.qmax, name, getattr(op, name))


def _check_layernorm(program: Checked, op: LayerNorm) -> None:
    need_geometry("shape", op.shape, 2)
    need_sizes(program, op, math.prod(op.shape), math.prod(op.shape))
    for i in (op.gain_id, op.bias_id):
        constant_of(program, i, DType.INT64, (1,), (op.shape[1],))
    need(1 <= op.shape[1] <= MAX_NORM_LENGTH, "length of a row", op.shape[1])
    need(0 <= op.epsilon <= 1 << 31, "epsilon", op.epsilon)
    need(MIN_EPSILON_SHIFT <= op.epsilon_shift <= MAX_SHIFT, "epsilon_shift", op.epsilon_shift)
    codes = program.tensors[op.inputs[0]].dtype
    need(codes in _NARROW, "dtype of the input", codes.value)
    need(codes.qmin <= op.x_zero <= codes.qmax, "x_zero", op.x_zero)


def _check_concat(program: Checked, op: Concat) -> None:
    need_geometry("outer", (op.outer,), 1, least=0)
    for name in ("sizes", "x_zeros", "mults", "shifts"):
        need(len(getattr(op, name)) == len(op.inputs), f"length of {name}", len(getattr(op, name)))
    need_geometry("sizes", op.sizes, len(op.inputs), least=0)
    need(all(0 <= s <= MAX_SHIFT for s in op.shifts), "shifts", op.shifts)
    for i, mult in zip(op.inputs, op.mults, strict=True):
        for t in (program.tensors[i], program.tensors[op.outputs[0]]) if mult else ():
            need(t.dtype in _INTEGERS, f"dtype of '{t.name}' (it is rescaled)", t.dtype.value)
    need(all(DType.INT32.qmin <= z <= DType.INT32.qmax for z in op.x_zeros), "x_zeros", op.x_zeros)
    need_sizes(program, op, *(op.outer * s for s in op.sizes), op.outer * sum(op.sizes))


def _check_pad(program: Checked, op: Pad) -> None:
    rank = len(op.shape)
    for name in ("shape", "before", "after"):
        need_geometry(name, getattr(op, name), rank, least=0)
    padded = [b + d + a for b, d, a in zip(op.before, op.shape, op.after, strict=True)]
    need_sizes(program, op, math.prod(op.shape), math.prod(padded))


def _check_gather(program: Checked, op: Gather) -> None:
    need_geometry("shape", op.shape, 3)
    a, r, b = op.shape
    count = size_of(program, op.indices_id)
    constant_of(program, op.indices_id, DType.INT32, (count,))
    need_within(program, "indices", op.indices_id, range(1), 0, r - 1)
    need_sizes(program, op, a * r * b, a * count * b)


def _check_resize(program: Checked, op: Resize) -> None:
    for name in ("x_shape", "y_shape"):
        need_geometry(name, getattr(op, name), 4)
    (n, h, w, c), (yn, oh, ow, oc) = op.x_shape, op.y_shape
    need((yn, oc) == (n, c), "y_shape", op.y_shape)
    need_sizes(program, op, n * h * w * c, n * oh * ow * c)
    for table, size, limit in ((op.rows_id, oh, h), (op.cols_id, ow, w)):
        constant_of(program, table, DType.INT32, (size, 3))
        need_within(program, "rows and columns", table, range(2), 0, limit - 1)
        need_within(program, "fractions", table, range(2, 3), 0, 1 << WEIGHT_BITS)


def _check_quantize(program: Checked, op: Quantize) -> None:
    _check_same_size(program, op)
    dtype = program.tensors[op.inputs[0]].dtype
    need(dtype is DType.FLOAT32, "dtype of the input", dtype.value)
    with np.errstate(over="ignore", under="ignore"):
        divisor = float(np.float32(op.scale))
    need(0 < divisor < np.inf, "scale", op.scale)
    dtype = program.tensors[op.outputs[0]].dtype
    need(dtype in _INTEGERS, "dtype of the output", dtype.value)
    need(dtype.qmin <= op.zero <= dtype.qmax, "zero", op.zero)


def _check_dequantize(program: Checked, op: Dequantize) -> None:
    need_geometry("shape", op.shape, 3, least=0)
    need_sizes(program, op, math.prod(op.shape), math.prod(op.shape))
    channels = op.shape[1]
    scales = constant_of(program, op.scales_id, DType.FLOAT32, (1,), (channels,), (1, 2), (channels, 2))
    need(bool(np.isfinite(scales).all()), "scales", "NaN or infinite")
    x, y = program.tensors[op.inputs[0]].dtype, program.tensors[op.outputs[0]].dtype
    need(x in _INTEGERS, "dtype of the input", x.value)
    need(y is DType.FLOAT32, "dtype of the output", y.value)


_CHECKS: dict[type[Operator], Callable[[Checked, Any], None]] = {
    Conv: _check_conv,
    MatMul: _check_matmul,
    Binary: _check_binary,
    Lut: _check_lut,
    SegmentLut: _check_segment_lut,
    Rescale: _check_same_size,
    Pool: _check_pool,
    Reduce: _check_reduce,
    Softmax: _check_softmax,
    LayerNorm: _check_layernorm,
    Move: _check_move,
    Concat: _check_concat,
    Pad: _check_pad,
    Gather: _check_gather,
    Resize: _check_resize,
    Quantize: _check_quantize,
    Dequantize: _check_dequantize,
}
_ANY_DTYPE = (Move, Concat, Pad, Gather, Quantize, Dequantize)
_INTEGERS = (DType.INT8, DType.INT16, DType.INT32)
_NARROW = (DType.INT8, DType.INT16)
_ANY = (1, 1 << 16)
_ARITY: dict[type[Operator], tuple[tuple[int, int], int]] = {
    **dict.fromkeys(_CHECKS, ((1, 1), 1)),
    Conv: ((1, 2), 1),
    MatMul: ((2, 2), 1),
    Binary: ((2, 2), 1),
    Concat: (_ANY, 1),
}
"""Fewest and most inputs, and outputs, of each kind."""
