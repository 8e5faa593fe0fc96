"""Row functions: the loops of `numerics.softmax_rows` and `numerics.layernorm_rows`."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.language.blocks import narrow, rhe_shift, scratch_block
from openbpu.simulator.fast.language.lang import float64, helper, int64
from openbpu.simulator.fast.language.pointers import ld, p8, p16, st
from openbpu.simulator.fast.language.records import kernel
from openbpu.simulator.fast.row.arguments import Layernorm, Softmax

_INVERSE_BITS = 61
_ROOT_BITS = 60
_EPSILON_ROOM = 28
_PROBABILITY_DROP = 30
_EXP_SPARE_BITS = 10


@helper
def _code(x: int, kind: int, i: int) -> Any:
    return int64(ld(p8(x), i)) if kind == 1 else int64(ld(p16(x), i))


@kernel
def softmax(args: Softmax, lo: int, hi: int, scratch: Any) -> None:
    """Units are rows."""
    x_kind, y_kind, length, exponentials = args.x_kind, args.y_kind, args.length, args.exponentials
    out_mult, out_shift, zero, low, high = args.out_mult, args.out_shift, args.zero, args.lo, args.hi
    result = scratch_block(scratch, 0)
    for row in range(lo, hi):
        x = args.x + row * length * x_kind
        y = args.y + row * length * y_kind
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


@kernel
def layernorm(args: Layernorm, lo: int, hi: int, scratch: Any) -> None:
    """Units are rows."""
    x_kind, y_kind, length = args.x_kind, args.y_kind, args.length
    gain, gain_step, bias, bias_step = args.gain, args.gain_step, args.bias, args.bias_step
    x_zero, shift, zero, low, high = args.x_zero, args.shift, args.zero, args.lo, args.hi
    result = scratch_block(scratch, 0)
    for row in range(lo, hi):
        x = args.x + row * length * x_kind
        y = args.y + row * length * y_kind
        total, factor, mean = int64(0), int64(1), int64(0)
        if args.centred:
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
        lift = _row_lift(power, args.epsilon_shift)
        v = max(_shifted(power, lift) + _shifted(args.epsilon, lift - args.epsilon_shift), int64(1))
        inverse = (int64(1) << _ROOT_BITS) // _isqrt(v)
        drop = _ROOT_BITS - args.bits - lift // 2
        for i in range(length):
            n = rhe_shift((factor * _code(x, x_kind, i) - minus) * inverse, drop)
            y_code = rhe_shift(n * ld(gain, i * gain_step) + ld(bias, i * bias_step), shift) + zero
            st(result, 0, min(max(y_code, low), high))
            narrow(y + i * y_kind, y_kind, result, 1)
