"""Row functions that hardware approximates: softmax and normalization over the last axis, in integers only.

Each is the sequence of unit operations (table, reduce, reciprocal or root, multiply) written once;
intermediate results stay in registers and are wider than the tensors. Stated bound against float64: one step
of the output for softmax and normalization (tested over all row lengths and dtypes).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Int64
from openbpu.arch.numerics.fixed import MAX_SHIFT, fixed_point, requantize, round_shift

EXP_INDEX_BITS = 8
EXP_ENTRIES = (1 << EXP_INDEX_BITS) + 1
EXP_SPARE_BITS = 10
"""What a sum of 65,536 exponentials has more bits than one of them: rounding them down is not felt."""
MIN_PROBABILITY_STEP = 2.0**-26
"""The finest scale of a softmax: probabilities have 30 bits."""
MIN_NORM_STEP = 50
"""The finest scale of a normalization, in units of a normalized value times the gain: rounding adds 0.01."""
_EXP_FRACTION_BITS = 24
_INVERSE_BITS = 61
_ROOT_BITS = 60
_EPSILON_ROOM = 28
"""Bits that the 31 of an epsilon may be lifted by: the sum of power and epsilon stays below 2^62."""
MAX_EPSILON = 2.0**62
MIN_EPSILON_SHIFT = 30 - 62
MAX_SOFTMAX_LENGTH = 1 << 16
MAX_NORM_LENGTH = (1 << 16) - 1
MAX_NORMALIZED = 1.01 * 2.0**30
"""Bound of |n|, its rounding and that of the root included."""
_RESIDUE_BITS = _EXP_FRACTION_BITS - EXP_INDEX_BITS
_PROBABILITY_DROP = 30


def exp_table() -> npt.NDArray[np.int32]:
    """Return 2**(-i / 256) for i in 0..256 as Q30: the table behind every softmax; shape (257,)."""
    return np.rint(np.exp2(-np.arange(EXP_ENTRIES) / (EXP_ENTRIES - 1)) * 2.0**30).astype(np.int32)


def exp_factor(scale: float) -> tuple[int, int]:
    """Return (mult, shift) of what takes code distances of a tensor of this scale to log2, in Q24.

    Beyond 2^30 a distance of one code already gives exp(−distance) = 0 in Q40.
    """
    mult, shift = fixed_point(min(scale * math.log2(math.e) * 2.0**_EXP_FRACTION_BITS, 2.0**30))
    return mult.item(), shift.item()


def exp_negative(distance: Int64, mult: int, shift: int, table: npt.NDArray[np.int32]) -> Int64:
    """Return exp(-distance · scale) as Q40; `mult / 2**shift` is an `exp_factor`, `distance` >= 0."""
    z = (distance * mult) >> shift
    whole, fraction = z >> _EXP_FRACTION_BITS, z & ((1 << _EXP_FRACTION_BITS) - 1)
    index, residue = fraction >> _RESIDUE_BITS, fraction & ((1 << _RESIDUE_BITS) - 1)
    left = table[index].astype(np.int64)
    right = table[index + 1].astype(np.int64)
    value = left - (((left - right) * residue) >> _RESIDUE_BITS)
    e: Int64 = (value << EXP_SPARE_BITS) >> np.minimum(whole, 41)
    return e


def softmax_rows(  # noqa: PLR0913, PLR0917 - one argument per field of the Softmax operator
    x: npt.NDArray[np.integer],
    table: npt.NDArray[np.int32],
    mult: int,
    shift: int,
    out_mult: int,
    out_shift: int,
    zero: int,
    lo: int,
    hi: int,
) -> Int64:
    """Softmax over the last axis of integers x [A,R] (R <= 65536); returns int64 [A,R] in lo..hi.

    d = max(x) − x; e = exp_negative(d), of which the sum takes 40 fraction bits, a probability 30 of them;
    r = 2^61 // (Σe >> 10); p = ((e >> 10)·r) >> 30 (a probability in Q31);
    y = clamp(rhe(p·out_mult / 2^out_shift) + zero). out_mult / 2^out_shift is 1 / (output scale · 2^31).
    """
    wide = x.astype(np.int64)
    e = exp_negative(wide.max(axis=-1, keepdims=True) - wide, mult, shift, table)
    inverse = (np.int64(1) << _INVERSE_BITS) // (e.sum(axis=-1, keepdims=True) >> EXP_SPARE_BITS)
    p = ((e >> EXP_SPARE_BITS) * inverse) >> _PROBABILITY_DROP
    return requantize(p * out_mult, out_shift, zero, lo, hi)


def integer_sqrt(v: Int64) -> Int64:
    """Return floor(sqrt(v)) for 0 <= v < 2**62."""
    root = np.sqrt(v.astype(np.float64)).astype(np.int64)
    root -= root * root > v
    return root + ((root + 1) * (root + 1) <= v)


def layernorm_rows(  # noqa: PLR0913, PLR0917 - one argument per field of the LayerNorm operator
    x: npt.NDArray[np.integer],
    gain: Int64,
    bias: Int64,
    epsilon: int,
    epsilon_shift: int,
    shift: int,
    zero: int,
    lo: int,
    hi: int,
    *,
    centred: bool = True,
) -> Int64:
    """Normalize integers x [A,R] over the last axis, |x| < 2^16, R < 2^16; returns int64 [A,R] in lo..hi.

    All sums are exact; only the root, its inverse and two products are rounded, each in a row's own exponent:

    c = R·x − Σx and power = R²·variance = R·Σd² − (Σd)², d = x − rounded mean; when not `centred` (an
    RMSNorm; x without its zero point) c = x and power = Σx²;
    v = power·2^lift + (epsilon / 2^epsilon_shift)·2^lift, with the even lift that `row_lift` finds;
    n = rhe(c·(2^60 // isqrt(v)) / 2^(60 − B − lift/2)), whose unit is `norm_unit(R, centred)`, B `norm_bits`;
    y = clamp(rhe((n·gain + bias) / 2^shift) + zero).

    `gain` and `bias` are [R] or [1]; `epsilon` and `epsilon_shift` come from `norm_epsilon`.
    """
    c, power = _centred(x.astype(np.int64)) if centred else _as_is(x.astype(np.int64))
    lift = row_lift(power, epsilon_shift)
    v = np.maximum(_shifted(power, lift) + _shifted(np.int64(epsilon), lift - epsilon_shift), 1)
    drop = _ROOT_BITS - norm_bits(x.shape[-1], centred=centred) - lift // 2
    n = round_shift(c * ((np.int64(1) << _ROOT_BITS) // integer_sqrt(v)), drop)
    return requantize(n * gain + bias, shift, zero, lo, hi)


def _centred(x: Int64) -> tuple[Int64, Int64]:
    """R·(x − mean) and R²·variance, exact."""
    count = x.shape[-1]
    total = x.sum(axis=-1, keepdims=True)
    mean = (2 * total + count) // (2 * count)
    near, rest = x - mean, total - count * mean
    return count * x - total, count * (near * near).sum(axis=-1, keepdims=True) - rest * rest


def _as_is(x: Int64) -> tuple[Int64, Int64]:
    return x, (x * x).sum(axis=-1, keepdims=True)


def _shifted(v: Int64 | np.int64, by: Int64) -> Int64:
    """v·2^by, rounded down; by may be negative."""
    found: Int64 = (v << np.maximum(by, 0)) >> np.minimum(np.maximum(-by, 0), 63)
    return found


def row_lift(power: Int64, epsilon_shift: int) -> Int64:
    """Return the even b that brings power·2^b into [2^59, 2^61), or less where epsilon·2^b would leave 2^60.

    `power` is 0..2^63 − 1; a power of 0 counts as 1.
    """
    v = np.maximum(power, 1)
    bits = np.frexp(v.astype(np.float64))[1].astype(np.int64)
    # float64 may round v up to the next power of two; then it has one bit less.
    bits -= (v >> (bits - 1)) == 0
    return np.minimum((61 - bits) // 2, (epsilon_shift + _EPSILON_ROOM) // 2) * 2


def norm_bits(length: int, *, centred: bool = True) -> int:
    """Fraction bits of a normalized value: as many as leave |n| <= 2^30, for it may reach √length.

    An RMSNorm's is taken without √length and stays below 1.
    """
    return 30 - (math.ceil(math.log2(length) / 2) if centred else 0)


def norm_unit(length: int, *, centred: bool = True) -> float:
    """What one unit of a normalized value stands for: gains are scaled by it."""
    unit = 2.0 ** -norm_bits(length, centred=centred)
    return unit if centred else unit * math.sqrt(length)


def norm_epsilon(epsilon: float, length: int, *, centred: bool = True) -> tuple[int, int]:
    """Return (mantissa, shift) of an epsilon in x steps², as `layernorm_rows` adds it to its power.

    The mantissa has 31 bits, fewer below 2^-32. Raises OverflowError for an epsilon beyond 2^62 of the units
    of the power, where every result is 0.
    """
    value = epsilon * float(length) ** (2 if centred else 1)
    if not value < MAX_EPSILON:
        raise OverflowError(f"an epsilon of {epsilon:.3g} squared input steps leaves nothing of its input")
    shift = min(MAX_SHIFT, 30 - math.floor(math.log2(max(value, 2.0**-40))))
    return round(value * 2.0**shift), shift
