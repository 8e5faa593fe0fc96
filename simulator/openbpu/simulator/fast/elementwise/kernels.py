"""Element by element: Binary, Rescale, tables, float to integer and back."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.elementwise.arguments import (
    ADD,
    MAX,
    MIN,
    MUL,
    Binary,
    BinaryPacked,
    Dequantize,
    Lut,
    LutPacked,
    Quantize,
    Rescale,
)
from openbpu.simulator.fast.language.blocks import (
    look_up,
    narrow,
    outer_offset,
    requantize,
    scratch_block,
    widen,
)
from openbpu.simulator.fast.language.lang import float32, float64, helper, int8, int16, int32, int64
from openbpu.simulator.fast.language.pointers import bits32, call, ld, p8, p16, p32, rint64, st
from openbpu.simulator.fast.language.records import kernel
from openbpu.simulator.fast.scratch import BLOCK, CHUNK

_INTEGERS = 1.5 * 2.0**23
_INTEGERS_BITS = 0x4B400000


@helper
def _combine(args: Binary, va: Any, vb: Any, n: int) -> None:
    """Va = the sum v of the Binary formula."""
    fn, a_zero, b_zero = args.fn, args.a_zero, args.b_zero
    mult_a, mult_b, offset = args.mult_a, args.mult_b, args.offset
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


@kernel
def binary(args: Binary, lo: int, hi: int, scratch: Any) -> None:
    """Units are blocks of the rows of the last axis."""
    a, a_kind, b, b_kind = args.a, args.a_kind, args.b, args.b_kind
    y, y_kind, rank = args.y, args.y_kind, args.rank
    shape, a_strides, b_strides = args.shape, args.a_strides, args.b_strides
    per_row, length = args.per_row, args.length
    a_step, b_step = ld(a_strides, rank - 1), ld(b_strides, rank - 1)
    va, vb = scratch_block(scratch, 0), scratch_block(scratch, 1)
    for unit in range(lo, hi):
        row, start = unit // per_row, (unit % per_row) * BLOCK
        n = min(length - start, BLOCK)
        a_at = outer_offset(row, rank, shape, a_strides) + start * a_step
        b_at = outer_offset(row, rank, shape, b_strides) + start * b_step
        widen(va, a + a_at * a_kind, a_kind, a_step, n)
        widen(vb, b + b_at * b_kind, b_kind, b_step, n)
        _combine(args, va, vb, n)
        requantize(va, n, args.shift, args.zero, args.lo, args.hi)
        look_up(va, n, args.table, y_kind)
        narrow(y + (row * length + start) * y_kind, y_kind, va, n)


@kernel
def binary_packed(args: BinaryPacked, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Units are chunks of the rows."""
    length, per_row = args.length, args.per_row
    for unit in range(lo, hi):
        row, start = unit // per_row, (unit % per_row) * CHUNK
        count = min(length - start, CHUNK)
        a = args.a + row * args.a_pitch + start
        b = args.b + row * args.b_pitch + start
        call(args.code, (a, b, args.params, args.y + row * length + start, count, args.consts))


@kernel
def lut_packed(args: LutPacked, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Units are chunks."""
    for unit in range(lo, hi):
        start = unit * CHUNK
        count = min(args.count - start, CHUNK)
        call(args.code, (args.x + start, args.y + start, count, args.consts))


@kernel
def rescale(args: Rescale, lo: int, hi: int, scratch: Any) -> None:
    """Units are blocks of rows."""
    x, x_kind, y, y_kind = args.x, args.x_kind, args.y, args.y_kind
    length, per_row, pitch = args.length, args.per_row, args.pitch
    x_zero, mult, offset = args.x_zero, args.mult, args.offset
    v = scratch_block(scratch, 0)
    for unit in range(lo, hi):
        row, start = unit // per_row, (unit % per_row) * BLOCK
        n = min(length - start, BLOCK)
        widen(v, x + (row * length + start) * x_kind, x_kind, 1, n)
        for i in range(n):
            st(v, i, (ld(v, i) - x_zero) * mult + offset)
        requantize(v, n, args.shift, args.zero, args.lo, args.hi)
        narrow(y + (row * pitch + start) * y_kind, y_kind, v, n)


@kernel
def lut(args: Lut, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Units are elements."""
    x, x_kind, y, y_kind = args.x, args.x_kind, args.y, args.y_kind
    table, bias = args.table, args.bias
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


@kernel
def quantize(args: Quantize, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001
    """Units are elements."""
    x, y, y_kind, scale = args.x, args.y, args.y_kind, ld(args.scale, 0)
    zero = args.zero
    lowest, highest = float64(args.lo - zero), float64(args.hi - zero)
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


@kernel
def dequantize(args: Dequantize, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001
    """Units are the rows of x."""
    x, x_kind, y = args.x, args.x_kind, args.y
    scales, offsets = args.scales, args.offsets
    channels, length, x_zero = args.channels, args.length, args.x_zero
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
