"""Row functions:

softmax and normalization, the loops of `numerics.softmax_rows` and `numerics.layernorm_rows`.
"""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.kernels.blocks import narrow, rhe_shift, scratch_block
from openbpu.simulator.fast.kernels.lang import float64, helper, int64
from openbpu.simulator.fast.kernels.pointers import KERNEL, ld, p8, p16, p64, st

_INVERSE_BITS = 61
_ROOT_BITS = 60
_EPSILON_ROOM = 28
_PROBABILITY_DROP = 30
_EXP_SPARE_BITS = 10


@helper
def _code(x: int, kind: int, i: int) -> Any:
    return int64(ld(p8(x), i)) if kind == 1 else int64(ld(p16(x), i))


def softmax(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Units are rows. args: x, x_kind, y, y_kind, R, exponentials by distance from the maximum (int64),
    out_mult, out_shift, zero, lo, hi.
    """
    x_kind, y_kind, length, exponentials = ld(args, 1), ld(args, 3), ld(args, 4), p64(ld(args, 5))
    out_mult, out_shift, zero, low, high = ld(args, 6), ld(args, 7), ld(args, 8), ld(args, 9), ld(args, 10)
    result = scratch_block(scratch, 0)
    for row in range(lo, hi):
        x = ld(args, 0) + row * length * x_kind
        y = ld(args, 2) + row * length * y_kind
        top = _code(x, x_kind, 0)
        for i in range(length):
            top = max(top, _code(x, x_kind, i))
        total = int64(0)
        for i in range(length):
            total += ld(exponentials, top - _code(x, x_kind, i))
        inverse = (int64(1) << _INVERSE_BITS) // (total >> _EXP_SPARE_BITS)
        for i in range(length):
            e = ld(exponentials, top - _code(x, x_kind, i)) >> _EXP_SPARE_BITS
            p = rhe_shift(((e * inverse) >> _PROBABILITY_DROP) * out_mult, out_shift) + zero
            st(result, 0, min(max(p, low), high))
            narrow(y + i * y_kind, y_kind, result, 1)


@helper
def _isqrt(v: int) -> Any:
    """floor(sqrt(v)) for 0 <= v < 2**62, as numerics.integer_sqrt."""
    root = int64(float64(v) ** 0.5)
    if root * root > v:
        root -= 1
    if (root + 1) * (root + 1) <= v:
        root += 1
    return root


@helper
def _row_lift(power: int, epsilon_shift: int) -> Any:
    """numerics.row_lift of one row."""
    bits = int64(0)
    rest = max(power, int64(1))
    while rest > 0:
        rest >>= 1
        bits += 1
    return min((61 - bits) // 2, (epsilon_shift + _EPSILON_ROOM) // 2) * 2


@helper
def _shifted(v: int, by: int) -> Any:
    """v·2^by, rounded down."""
    return v << by if by >= 0 else v >> min(-by, int64(63))


def layernorm(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Units are rows. args: x, x_kind, y, y_kind, R, gain, gain step (0: one for all), bias, bias step,
    epsilon, epsilon shift, centred, x_zero, shift, zero, lo, hi, norm bits.
    """
    x_kind, y_kind, length = ld(args, 1), ld(args, 3), ld(args, 4)
    gain, gain_step, bias, bias_step = p64(ld(args, 5)), ld(args, 6), p64(ld(args, 7)), ld(args, 8)
    x_zero, shift, zero, low, high = ld(args, 12), ld(args, 13), ld(args, 14), ld(args, 15), ld(args, 16)
    result = scratch_block(scratch, 0)
    for row in range(lo, hi):
        x = ld(args, 0) + row * length * x_kind
        y = ld(args, 2) + row * length * y_kind
        total, factor, mean = int64(0), int64(1), int64(0)
        if ld(args, 11):
            for i in range(length):
                total += _code(x, x_kind, i) - x_zero
            factor = length
            mean = (2 * total + length) // (2 * length)
        squares, centre = int64(0), x_zero + mean
        for i in range(length):
            near = _code(x, x_kind, i) - centre
            squares += near * near
        rest, minus = total - length * mean, total + factor * x_zero
        power = factor * squares - rest * rest
        lift = _row_lift(power, ld(args, 10))
        v = max(_shifted(power, lift) + _shifted(ld(args, 9), lift - ld(args, 10)), int64(1))
        inverse = (int64(1) << _ROOT_BITS) // _isqrt(v)
        drop = _ROOT_BITS - ld(args, 17) - lift // 2
        for i in range(length):
            n = rhe_shift((factor * _code(x, x_kind, i) - minus) * inverse, drop)
            y_code = rhe_shift(n * ld(gain, i * gain_step) + ld(bias, i * bias_step), shift) + zero
            st(result, 0, min(max(y_code, low), high))
            narrow(y + i * y_kind, y_kind, result, 1)


KERNELS = {"softmax": (softmax, KERNEL), "layernorm": (layernorm, KERNEL)}
