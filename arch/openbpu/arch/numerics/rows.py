"""Row functions that hardware approximates: softmax and normalization over the last axis, in integers only.

Each is the sequence of unit operations (table, reduce, reciprocal or root, multiply) written once;
intermediate results stay in registers and are wider than the tensors. Stated bound against float64: one step
of the output for softmax and normalization (tested over all row lengths and dtypes).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.arch.numerics.fixed import requantize, round_shift

Int64 = npt.NDArray[np.int64]

EXP_INDEX_BITS = 8
EXP_ENTRIES = (1 << EXP_INDEX_BITS) + 1
_EXP_FRACTION_BITS = 16
_INVERSE_BITS = 61
_NORM_BITS = 20
_RESIDUE_BITS = _EXP_FRACTION_BITS - EXP_INDEX_BITS
_PROBABILITY_DROP = 30


def exp_table() -> npt.NDArray[np.int32]:
    """Return 2**(-i / 256) for i in 0..256 as Q30: the table behind every softmax; shape (257,)."""
    return np.rint(np.exp2(-np.arange(EXP_ENTRIES) / (EXP_ENTRIES - 1)) * 2.0**30).astype(np.int32)


def exp_negative(distance: Int64, mult: int, shift: int, table: npt.NDArray[np.int32]) -> Int64:
    """Return exp(-distance · scale) as Q30; `mult / 2**shift` is scale · log2(e) · 2**16, `distance` >= 0."""
    z = (distance * mult) >> shift
    whole, fraction = z >> _EXP_FRACTION_BITS, z & ((1 << _EXP_FRACTION_BITS) - 1)
    index, residue = fraction >> _RESIDUE_BITS, fraction & ((1 << _RESIDUE_BITS) - 1)
    left = table[index].astype(np.int64)
    right = table[index + 1].astype(np.int64)
    value: Int64 = (left - (((left - right) * residue) >> _RESIDUE_BITS)) >> np.minimum(whole, 31)
    return value


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

    d = max(x) − x; e = exp_negative(d); r = 2^61 // Σe; p = (e·r) >> 30 (a probability in Q31);
    y = clamp(rhe(p·out_mult / 2^out_shift) + zero). out_mult / 2^out_shift is 1 / (output scale · 2^31).
    """
    wide = x.astype(np.int64)
    e = exp_negative(wide.max(axis=-1, keepdims=True) - wide, mult, shift, table)
    inverse = (np.int64(1) << _INVERSE_BITS) // e.sum(axis=-1, keepdims=True)
    return requantize(((e * inverse) >> _PROBABILITY_DROP) * out_mult, out_shift, zero, lo, hi)


def centre_bits(x_bits: int) -> int:
    """Fraction bits that the centred input of a normalization keeps: 14 for 8-bit x, 7 for 16-bit x.

    As many as 65536 squares of a 9-bit (17-bit) difference leave in 62 bits. The mean is rounded to them, so
    its error is below 2^-14 (2^-7) steps of x.
    """
    return 14 if x_bits == 8 else 7


def integer_sqrt(v: Int64) -> Int64:
    """Return floor(sqrt(v)) for 0 <= v < 2**62."""
    root = np.sqrt(v.astype(np.float64)).astype(np.int64)
    root -= root * root > v
    return root + ((root + 1) * (root + 1) <= v)


def layernorm_rows(  # noqa: PLR0913 - one argument per field of the LayerNorm operator
    x: npt.NDArray[np.integer],
    gain: Int64,
    bias: Int64,
    epsilon: int,
    shift: int,
    zero: int,
    lo: int,
    hi: int,
    *,
    x_bits: int,
    centred: bool = True,
) -> Int64:
    """Normalize integers x [A,R] over the last axis; returns int64 [A,R] in lo..hi.

    With F = centre_bits(x_bits) and `//` rounding down:

    c = (x << F) − (Σx << F) // R, or c = x << F when not `centred` (an RMSNorm; x without its zero point);
    var = max(Σc² // R + epsilon, 1), epsilon in units of (x step)²·2^(2F);
    b = the even number that brings var << b into [2^60, 2^62);
    inverse = 2^61 // isqrt(var << b);
    n = rhe(c·inverse / 2^(61 − b/2 − 20)), the normalized value in Q20;
    y = clamp(rhe((n·gain + bias) / 2^shift) + zero).

    `gain` and `bias` are [R] or [1].
    """
    fraction = centre_bits(x_bits)
    count = x.shape[-1]
    c = x.astype(np.int64) << fraction
    if centred:
        c = c - (x.astype(np.int64).sum(axis=-1, keepdims=True) << fraction) // count
    var = np.maximum((c * c).sum(axis=-1, keepdims=True) // count + epsilon, 1)
    lift = even_lift(var)
    inverse = (np.int64(1) << _INVERSE_BITS) // integer_sqrt(var << lift)
    n = round_shift(c * inverse, _INVERSE_BITS - _NORM_BITS - lift // 2)
    return requantize(n * gain + bias, shift, zero, lo, hi)


def even_lift(var: Int64) -> Int64:
    """Return the even b with 2**60 <= var << b < 2**62, for 1 <= var < 2**60."""
    bits = np.frexp(var.astype(np.float64))[1].astype(np.int64)
    # float64 may round var up to the next power of two; then it has one bit less.
    bits -= (var >> np.maximum(bits - 1, 0)) == 0
    return ((62 - bits) // 2) * 2


def norm_unit() -> float:
    """What one unit of a normalized value (Q20) stands for: gains are scaled by it."""
    return 2.0**-_NORM_BITS
