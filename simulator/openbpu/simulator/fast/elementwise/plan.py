"""Binary, Rescale, tables, Quantize and Dequantize as steps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.program import Binary, Dequantize, Lut, Quantize, Rescale, SegmentLut
from openbpu.arch.shapes import collapse
from openbpu.simulator.fast.elementwise import arguments
from openbpu.simulator.fast.elementwise.plan64 import binary_packed, lut_packed
from openbpu.simulator.fast.plan.registry import VECTOR, lowers
from openbpu.simulator.fast.plan.steps import Array, Lowering, Place
from openbpu.simulator.fast.scratch import BLOCK

_FUNCTIONS = {
    "add": arguments.ADD,
    "mul": arguments.MUL,
    "max": arguments.MAX,
    "min": arguments.MIN,
    "prelu": arguments.PRELU,
}


@lowers(Binary, "elementwise", VECTOR)
def lower_binary(op: Binary, low: Lowering) -> None:
    """Blocks of rows."""
    (a, b), (y,) = op.inputs, op.outputs
    sizes, (a_strides, b_strides) = collapse(op.shape, (op.a_strides, op.b_strides), least=1)
    if binary_packed(op, low, sizes, (a_strides, b_strides)):
        return
    per_row = -(-sizes[-1] // BLOCK)
    units = int(np.prod(sizes[:-1], dtype=np.int64)) * per_row
    total = int(np.prod(sizes, dtype=np.int64))
    made = arguments.Binary(
        a=low.read(a), a_kind=low.kind(a), b=low.read(b), b_kind=low.kind(b), y=low.write(y),
        y_kind=low.kind(y), fn=_FUNCTIONS[op.fn], rank=len(sizes), shape=_ints(sizes),
        a_strides=_ints(a_strides), b_strides=_ints(b_strides), per_row=per_row, length=sizes[-1],
        a_zero=op.a_zero, b_zero=op.b_zero, mult_a=op.mult_a, mult_b=op.mult_b, offset=op.offset,
        shift=op.shift, zero=op.zero, lo=op.lo, hi=op.hi, table=low.table(op.table_id),
    )  # fmt: skip
    low.add(made, units, total * 2.0)


def _ints(values: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def add_rescale(op: Rescale, low: Lowering, rows: int, length: int, pitch: int, column: int) -> None:
    """Append the rescaling of [rows, length] into columns `column`.. of rows that are `pitch` apart."""
    (x,), (y,) = op.inputs, op.outputs
    per_row = -(-length // BLOCK)
    target = low.write(y)
    made = arguments.Rescale(
        x=low.read(x), x_kind=low.kind(x),
        y=Place(target.buffer, target.offset + column * low.kind(y)), y_kind=low.kind(y), length=length,
        per_row=per_row, pitch=pitch, x_zero=op.x_zero, mult=op.mult, offset=op.offset, shift=op.shift,
        zero=op.zero, lo=op.lo, hi=op.hi,
    )  # fmt: skip
    low.add(made, rows * per_row, rows * length * 1.5)


@lowers(Rescale, "elementwise", VECTOR)
def lower_rescale(op: Rescale, low: Lowering) -> None:
    """One row of everything."""
    count = _count(op.inputs[0], low)
    add_rescale(op, low, 1, count, count, 0)


def _count(tensor_id: int, low: Lowering) -> int:
    return int(np.prod(low.tensor(tensor_id).shape, dtype=np.int64))


@lowers(Lut, "elementwise", VECTOR)
def lower_lut(op: Lut, low: Lowering) -> None:
    """A gather from 256 entries."""
    (x,), (y,) = op.inputs, op.outputs
    if lut_packed(op, low):
        return
    _add_lut(x, y, low.table(op.table_id), 128, low, _count(x, low) * 0.5)


def _add_lut(x: int, y: int, table: Array | int, bias: int, low: Lowering, work: float) -> None:
    made = arguments.Lut(
        x=low.read(x), x_kind=low.kind(x), y=low.write(y), y_kind=low.kind(y), table=table, bias=bias
    )
    low.add(made, _count(x, low), work)


@lowers(SegmentLut, "elementwise", VECTOR)
def lower_segment_lut(op: SegmentLut, low: Lowering) -> None:
    """The 65,536 answers of numerics.segment_lut, looked up."""
    (x,), (y,) = op.inputs, op.outputs
    segments = low.constant(op.segments_id).astype(np.int64)
    answers = numerics.segment_lut(numerics.codes(DType.INT16), segments, op.lo, op.hi)
    table = answers.astype(low.dtype(y).numpy)
    _add_lut(x, y, table, 32768, low, _count(x, low) * 1.0)


@lowers(Quantize, "elementwise", VECTOR)
def lower_quantize(op: Quantize, low: Lowering) -> None:
    """Float to integer."""
    (x,), (y,) = op.inputs, op.outputs
    count = _count(x, low)
    scale = np.array([op.scale], dtype=np.float32)
    made = arguments.Quantize(
        x=low.read(x), y=low.write(y), y_kind=low.kind(y), scale=scale, zero=op.zero, lo=op.lo, hi=op.hi
    )
    low.add(made, count, count * 0.3)


@lowers(Dequantize, "elementwise", VECTOR)
def lower_dequantize(op: Dequantize, low: Lowering) -> None:
    """Integer to float."""
    (x,), (y,) = op.inputs, op.outputs
    outer, channels, inner = op.shape
    scales, offsets = numerics.unpacked_scales(low.constant(op.scales_id))
    if scales.size == 1:
        outer, channels, inner = 1, 1, outer * channels * inner
    if inner == 1 and channels == 1:
        outer, inner = 1, outer
    rows = outer * channels
    if rows == 1:  # let threads share it
        parts = max(1, min(64, inner // 4096))
        while inner % parts:
            parts -= 1
        rows, inner = parts, inner // parts
    made = arguments.Dequantize(
        x=low.read(x), x_kind=low.kind(x), y=low.write(y), scales=scales, offsets=offsets, channels=channels,
        length=inner, x_zero=op.x_zero,
    )  # fmt: skip
    low.add(made, rows, rows * inner * 0.3)
