"""Binary, Rescale, tables, Quantize and Dequantize as steps."""

from __future__ import annotations

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.program import Binary, Dequantize, Lut, Quantize, Rescale, SegmentLut
from openbpu.arch.shapes import collapse
from openbpu.simulator.fast.lower.packed64 import binary_packed, lut_packed
from openbpu.simulator.fast.lower.steps import Lowering

BLOCK = 1024
_FUNCTIONS = {"add": 0, "mul": 1, "max": 2, "min": 3, "prelu": 4}
Axis = tuple[int, ...]


def merge_axes(shape: Axis, *strides: Axis) -> tuple[list[int], list[list[int]]]:
    """Return the same walk with as few axes as possible, one at least: its sizes, and strides per operand."""
    sizes, merged = collapse(shape, strides, least=1)
    return list(sizes), [list(s) for s in merged]


def lower_binary(op: Binary, low: Lowering) -> None:
    """Blocks of rows; see kernels.elementwise.binary."""
    (a, b), (y,) = op.inputs, op.outputs
    sizes, (a_strides, b_strides) = merge_axes(op.shape, op.a_strides, op.b_strides)
    if binary_packed(op, low, sizes, (a_strides, b_strides)):
        return
    per_row = -(-sizes[-1] // BLOCK)
    units = int(np.prod(sizes[:-1], dtype=np.int64)) * per_row
    total = int(np.prod(sizes, dtype=np.int64))
    arguments = (
        low.read(a), low.kind(a), low.read(b), low.kind(b), low.write(y), low.kind(y), _FUNCTIONS[op.fn],
        len(sizes), _ints(sizes), _ints(a_strides), _ints(b_strides), per_row, sizes[-1],
        0, 0, 0, 0, 0, op.shift, op.zero, op.lo, op.hi, _table(op.table_id, low),
        _ints([op.a_zero, op.b_zero, op.mult_a, op.mult_b, op.offset]),
    )  # fmt: skip
    low.add("binary", units, arguments, total * 2.0)


def _ints(values: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    return np.array(values, dtype=np.int64)


def _table(table_id: int, low: Lowering) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | int:
    return np.ascontiguousarray(low.constant(table_id)) if table_id >= 0 else 0


def add_rescale(op: Rescale, low: Lowering, rows: int, length: int, pitch: int, column: int) -> None:
    """Append the rescaling of [rows, length] into columns `column`.. of rows that are `pitch` apart."""
    (x,), (y,) = op.inputs, op.outputs
    per_row = -(-length // BLOCK)
    target = low.write(y)
    place = type(target)(target.buffer, target.offset + column * low.kind(y))
    arguments = (
        low.read(x), low.kind(x), place, low.kind(y), length, per_row, pitch,
        op.x_zero, op.mult, op.offset, op.shift, op.zero, op.lo, op.hi,
    )  # fmt: skip
    low.add("rescale", rows * per_row, arguments, rows * length * 1.5)


def lower_rescale(op: Rescale, low: Lowering) -> None:
    """One row of everything."""
    count = _count(op.inputs[0], low)
    add_rescale(op, low, 1, count, count, 0)


def _count(tensor_id: int, low: Lowering) -> int:
    return int(np.prod(low.tensor(tensor_id).shape, dtype=np.int64))


def lower_lut(op: Lut, low: Lowering) -> None:
    """A gather from 256 entries."""
    (x,), (y,) = op.inputs, op.outputs
    if lut_packed(op, low):
        return
    count = _count(x, low)
    arguments = (low.read(x), low.kind(x), low.write(y), low.kind(y), _table(op.table_id, low), 128)
    low.add("lut", count, arguments, count * 0.5)


def lower_segment_lut(op: SegmentLut, low: Lowering) -> None:
    """The 65,536 answers of numerics.segment_lut, looked up."""
    (x,), (y,) = op.inputs, op.outputs
    segments = low.constant(op.segments_id).astype(np.int64)
    answers = numerics.segment_lut(numerics.codes(DType.INT16), segments, op.lo, op.hi)
    table = answers.astype(low.dtype(y).numpy)
    count = _count(x, low)
    low.add("lut", count, (low.read(x), low.kind(x), low.write(y), low.kind(y), table, 32768), count * 1.0)


def lower_quantize(op: Quantize, low: Lowering) -> None:
    """Float to integer."""
    (x,), (y,) = op.inputs, op.outputs
    count = _count(x, low)
    scale = np.array([op.scale], dtype=np.float32)
    arguments = (low.read(x), low.write(y), low.kind(y), scale, op.zero, op.lo, op.hi)
    low.add("quantize", count, arguments, count * 0.3)


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
    arguments = (low.read(x), low.kind(x), low.write(y), scales, offsets, channels, inner, op.x_zero)
    low.add("dequantize", rows, arguments, rows * inner * 0.3)
