"""Element by element: Binary, Rescale, tables, float to integer and back."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.kernels.blocks import (
    BLOCK,
    look_up,
    narrow,
    requantize,
    scratch_block,
    widen,
)
from openbpu.simulator.fast.kernels.lang import float32, float64, helper, int8, int16, int32, int64
from openbpu.simulator.fast.kernels.pointers import (
    KERNEL,
    bits32,
    call,
    ld,
    p8,
    p16,
    p32,
    p64,
    pf32,
    rint64,
    st,
)

ADD, MUL, MAX, MIN, PRELU = range(5)
PACKED_CHUNK = 4096
_INTEGERS = 1.5 * 2.0**23
_INTEGERS_BITS = 0x4B400000


@helper
def outer_offset(outer: int, rank: int, shape: Any, strides: Any) -> Any:
    """Element offset of the outer-th row, the axes before the last counted row-major."""
    offset = int64(0)
    for axis in range(rank - 2, -1, -1):
        size = ld(shape, axis)
        offset += (outer % size) * ld(strides, axis)
        outer = outer // size
    return offset


@helper
def _combine(fn: int, va: Any, vb: Any, n: int, p: Any) -> None:
    """Va = the sum v of the Binary formula; p: a_zero, b_zero, mult_a, mult_b, offset."""
    a_zero, b_zero, mult_a, mult_b, offset = ld(p, 0), ld(p, 1), ld(p, 2), ld(p, 3), ld(p, 4)
    if fn == ADD:
        for i in range(n):
            st(va, i, (ld(va, i) - a_zero) * mult_a + (ld(vb, i) - b_zero) * mult_b + offset)
    elif fn == MUL:
        for i in range(n):
            st(va, i, (ld(va, i) - a_zero) * (ld(vb, i) - b_zero) * mult_a + offset)
    elif fn == MAX:
        for i in range(n):
            st(va, i, max((ld(va, i) - a_zero) * mult_a, (ld(vb, i) - b_zero) * mult_b) + offset)
    elif fn == MIN:
        for i in range(n):
            st(va, i, min((ld(va, i) - a_zero) * mult_a, (ld(vb, i) - b_zero) * mult_b) + offset)
    else:
        for i in range(n):
            a = ld(va, i) - a_zero
            below = a * (ld(vb, i) - b_zero) * mult_b
            st(va, i, (a * mult_a if a >= 0 else below) + offset)


def binary(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Units are blocks of the rows of the last axis.

    args: a, a_kind, b, b_kind, y, y_kind, fn, rank, shape, a_strides, b_strides, blocks per row, row length,
    a_zero, b_zero, mult_a, mult_b, offset, shift, zero, lo, hi, table, kind before the table.
    """
    a, a_kind, b, b_kind = ld(args, 0), ld(args, 1), ld(args, 2), ld(args, 3)
    y, y_kind, fn, rank = ld(args, 4), ld(args, 5), ld(args, 6), ld(args, 7)
    shape, a_strides, b_strides = p64(ld(args, 8)), p64(ld(args, 9)), p64(ld(args, 10))
    per_row, length = ld(args, 11), ld(args, 12)
    a_step, b_step = ld(a_strides, rank - 1), ld(b_strides, rank - 1)
    numbers = p64(ld(args, 23))
    va, vb = scratch_block(scratch, 0), scratch_block(scratch, 1)
    for unit in range(lo, hi):
        row, start = unit // per_row, (unit % per_row) * BLOCK
        n = min(length - start, BLOCK)
        a_at = outer_offset(row, rank, shape, a_strides) + start * a_step
        b_at = outer_offset(row, rank, shape, b_strides) + start * b_step
        widen(va, a + a_at * a_kind, a_kind, a_step, n)
        widen(vb, b + b_at * b_kind, b_kind, b_step, n)
        _combine(fn, va, vb, n, numbers)
        requantize(va, n, ld(args, 18), ld(args, 19), ld(args, 20), ld(args, 21))
        look_up(va, n, ld(args, 22), y_kind)
        narrow(y + (row * length + start) * y_kind, y_kind, va, n)


def binary_packed(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Add or multiply bytes by vector.bytes64. Units are pieces of 4096 of the rows.

    args: 0 kernel, 1 a, 2 row pitch of a, 3 b, 4 row pitch of b, 5 params, 6 y, 7 row length, 8 pieces per
    row, 9 consts.
    """
    length, per_row = ld(args, 7), ld(args, 8)
    for unit in range(lo, hi):
        row, start = unit // per_row, (unit % per_row) * PACKED_CHUNK
        count = min(length - start, PACKED_CHUNK)
        a = ld(args, 1) + row * ld(args, 2) + start
        b = ld(args, 3) + row * ld(args, 4) + start
        call(ld(args, 0), (a, b, ld(args, 5), ld(args, 6) + row * length + start, count, ld(args, 9)))


def lut_packed(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Bytes by a table of bytes. Units are pieces of 4096. args: kernel, x, y, elements, consts."""
    for unit in range(lo, hi):
        start = unit * PACKED_CHUNK
        count = min(ld(args, 3) - start, PACKED_CHUNK)
        call(ld(args, 0), (ld(args, 1) + start, ld(args, 2) + start, count, ld(args, 4)))


def rescale(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Units are blocks of rows; rows of y may be further apart than they are long (Concat).

    args: x, x_kind, y, y_kind, row length, blocks per row, row pitch of y, x_zero, mult, offset, shift,
    zero, lo, hi.
    """
    x, x_kind, y, y_kind = ld(args, 0), ld(args, 1), ld(args, 2), ld(args, 3)
    length, per_row, pitch = ld(args, 4), ld(args, 5), ld(args, 6)
    x_zero, mult, offset = ld(args, 7), ld(args, 8), ld(args, 9)
    v = scratch_block(scratch, 0)
    for unit in range(lo, hi):
        row, start = unit // per_row, (unit % per_row) * BLOCK
        n = min(length - start, BLOCK)
        widen(v, x + (row * length + start) * x_kind, x_kind, 1, n)
        for i in range(n):
            st(v, i, (ld(v, i) - x_zero) * mult + offset)
        requantize(v, n, ld(args, 10), ld(args, 11), ld(args, 12), ld(args, 13))
        narrow(y + (row * pitch + start) * y_kind, y_kind, v, n)


def lut(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - every kernel has this signature
    """Units are elements. args: x, x_kind, y, y_kind, table, bias: y = table[x + bias]."""
    x, x_kind, y, y_kind = ld(args, 0), ld(args, 1), ld(args, 2), ld(args, 3)
    table, bias = ld(args, 4), ld(args, 5)
    if x_kind == 2 and y_kind == 1:
        for i in range(lo, hi):
            st(p8(y), i, ld(p8(table), ld(p16(x), i) + bias))
    elif x_kind == 2:
        for i in range(lo, hi):
            st(p16(y), i, ld(p16(table), ld(p16(x), i) + bias))
    elif y_kind == 1:
        for i in range(lo, hi):
            st(p8(y), i, ld(p8(table), ld(p8(x), i) + bias))
    elif y_kind == 2:
        for i in range(lo, hi):
            st(p16(y), i, ld(p16(table), ld(p8(x), i) + bias))
    else:
        for i in range(lo, hi):
            st(p32(y), i, ld(p32(table), ld(p8(x), i) + bias))


@helper
def _divided(x: float, scale: float, lowest: float, highest: float) -> Any:
    """rint(x / scale) as int32, all of them float32, for bounds up to 2^17; NaN becomes `lowest`.

    Behind 1.5 * 2^23 the steps of float32 are integers, and the low bits are the one nearest.
    """
    q = min(max(x / scale, lowest), highest)
    return bits32(q + float32(_INTEGERS)) - int32(_INTEGERS_BITS)


def quantize(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001
    """Units are elements. args: x, y, y_kind, address of the float32 scale, zero, lo, hi."""
    x, y, y_kind, scale = pf32(ld(args, 0)), ld(args, 1), ld(args, 2), ld(pf32(ld(args, 3)), 0)
    zero = ld(args, 4)
    lowest, highest = float64(ld(args, 5) - zero), float64(ld(args, 6) - zero)
    low, high = float32(lowest), float32(highest)
    if y_kind == 1:
        for i in range(lo, hi):
            st(p8(y), i, int8(_divided(ld(x, i), scale, low, high) + zero))
    elif y_kind == 2:
        for i in range(lo, hi):
            st(p16(y), i, int16(_divided(ld(x, i), scale, low, high) + zero))
    else:
        for i in range(lo, hi):
            q = rint64(float64(ld(x, i) / scale))
            st(p32(y), i, int32(int64(min(max(q, lowest), highest)) + zero))


def dequantize(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001
    """Units are the rows [B] of x [A,C,B]. args: x, x_kind, y, scales, offsets, channels, B, x_zero."""
    x, x_kind, y = ld(args, 0), ld(args, 1), pf32(ld(args, 2))
    scales, offsets = pf32(ld(args, 3)), pf32(ld(args, 4))
    channels, length, x_zero = ld(args, 5), ld(args, 6), ld(args, 7)
    if length == 1:
        for i in range(lo, hi):
            c = i % channels
            _dequantize_row(x, x_kind, y, i, 1, ld(scales, c), ld(offsets, c), x_zero)
        return
    for row in range(lo, hi):
        c = row % channels
        _dequantize_row(x, x_kind, y, row * length, length, ld(scales, c), ld(offsets, c), x_zero)


@helper
def _dequantize_row(
    x: int, x_kind: int, y: Any, start: int, n: int, scale: float, offset: float, x_zero: int
) -> None:
    if x_kind == 1:
        zero8 = int32(x_zero)
        for i in range(start, start + n):
            st(y, i, float32(int32(ld(p8(x), i)) - zero8) * scale + offset)
    elif x_kind == 2:
        zero16 = int32(x_zero)
        for i in range(start, start + n):
            st(y, i, float32(int32(ld(p16(x), i)) - zero16) * scale + offset)
    else:
        for i in range(start, start + n):
            st(y, i, float32(int64(ld(p32(x), i)) - x_zero) * scale + offset)


KERNELS = {
    "binary": (binary, KERNEL),
    "binary_packed": (binary_packed, KERNEL),
    "lut_packed": (lut_packed, KERNEL),
    "rescale": (rescale, KERNEL),
    "lut": (lut, KERNEL),
    "quantize": (quantize, KERNEL),
    "dequantize": (dequantize, KERNEL),
}
