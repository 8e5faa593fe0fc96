"""Fixed point: real factors as (multiplier, shift), and the one rounding that follows an accumulation.

Every BPU result is

    y = clamp(round_half_even((sum_i x_i * multiplier_i + offset) / 2**shift) + zero, lo, hi)

in 64-bit integers. `offset` carries what is not an integer number of accumulator steps (a float bias, the
zero points of the operands); `zero` is the output's zero point and is added after rounding, as ONNX does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Float64, Int64

MAX_SHIFT = 62
"""Largest right shift: a 64-bit sum has 63 value bits."""

_SUM_LIMIT = 1.25 * 2.0**62
"""The largest sum of all terms; the rounding adds at most 2**61 and still fits int64."""


_TINY = 2.0**-40
"""Keeps logarithms finite, and an offset just below a power of two from rounding up to it."""


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Factors of one requantization; arrays of one entry per output channel, or of one entry in all.

    `multipliers[i]` scales term i, `offset` is added to the sum, `shift` (0..62) divides it.
    """

    multipliers: tuple[Int64, ...]
    offset: Int64
    shift: Int64


def round_shift(x: npt.NDArray[np.int64], shift: npt.ArrayLike) -> Int64:
    """Return round_half_even(x / 2**shift) for int64 `x` with |x| <= 1.25 * 2**62 and shift in 0..62."""
    s = np.asarray(shift, dtype=np.int64)
    half = np.where(s > 0, np.int64(1) << np.maximum(s - 1, 0), 0)
    odd = np.where(s > 0, (x >> s) & 1, 0)
    # half - 1 + odd: exactly half rounds up only when the quotient is odd, that is, to the even neighbour.
    return np.where(s > 0, (x + (half - (s > 0) + odd)) >> s, x)


def requantize(total: npt.NDArray[np.int64], shift: npt.ArrayLike, zero: int, lo: int, hi: int) -> Int64:
    """Return clamp(round_half_even(total / 2**shift) + zero, lo, hi) of a sum of products and offset."""
    return np.clip(round_shift(total, shift) + zero, lo, hi)


def fixed_point(factor: npt.ArrayLike) -> tuple[Int64, Int64]:
    """Return (multiplier, shift) with |multiplier| in [2**30, 2**31) and multiplier / 2**shift ~ factor.

    `factor` is a finite float array. The relative error is at most 2**-31. A factor below 2**-32 in magnitude
    keeps shift 62 and loses multiplier bits; 0 gives multiplier 0. Raises OverflowError for a factor of 2**31
    or more.
    """
    result = fixed_point_sum((factor,), (1 << 31,))
    return result.multipliers[0], result.shift


def fixed_point_sum(
    factors: tuple[npt.ArrayLike, ...],
    bounds: tuple[npt.ArrayLike, ...],
    offset: npt.ArrayLike = 0.0,
    offset_bits: int = 63,
    *,
    every: bool = False,
) -> FixedPoint:
    """Return the fixed point of sum_i x_i * factors[i] + offset, with |x_i| <= bounds[i].

    The first term takes a multiplier in [2**30, 2**31), or with `every` the one of the smallest factor, so
    that every term has 31 bits or more; the other terms and the offset share its shift, unless the whole sum
    would then leave int64, or the offset `offset_bits` signed bits: the shift is reduced to the largest one
    that fits. Factors, bounds and offset (in output steps) broadcast against one another.
    Raises OverflowError if nothing fits.
    """
    cols = np.broadcast_arrays(*(np.atleast_1d(np.asarray(f, dtype=np.float64)) for f in (*factors, offset)))
    limits = [np.broadcast_to(np.asarray(b, dtype=np.float64), cols[0].shape) for b in bounds]
    if not all(np.isfinite(c).all() for c in cols):
        raise OverflowError("a requantization factor is not finite")
    reach = sum(np.abs(c) * b for c, b in zip(cols[:-1], limits, strict=True)) + np.abs(cols[-1]) + _TINY
    by_sum = np.floor(np.log2(_SUM_LIMIT / reach))
    by_lead = _lead(np.min([_size(c) for c in cols[:-1]], axis=0) if every else _size(cols[0]))
    by_offset = offset_bits - 2 - np.floor(np.log2(np.abs(cols[-1]) * (1 + _TINY) + _TINY))
    shift = np.minimum(np.minimum(by_sum, by_lead), np.minimum(by_offset, MAX_SHIFT))
    if (shift < 0).any():
        raise OverflowError(f"a requantization factor of {float(np.max(reach)):.3g} does not fit int64")
    unit = np.exp2(shift)
    ints = [np.rint(c * unit).astype(np.int64) for c in cols]
    return FixedPoint(tuple(ints[:-1]), ints[-1], shift.astype(np.int64))


def _size(factor: Float64) -> Float64:
    """The magnitude of a factor; 0 needs no bits, so it counts as infinite."""
    return np.where(factor == 0, np.inf, np.maximum(np.abs(factor), 2.0**-MAX_SHIFT))


def _lead(size: Float64) -> Float64:
    """The shift that gives a factor of this size a multiplier in [2**30, 2**31)."""
    finite = np.where(np.isinf(size), 1.0, size)
    by_lead = 30 - np.floor(np.log2(finite))
    by_lead = np.where(np.rint(finite * np.exp2(by_lead)) >= 2.0**31, by_lead - 1, by_lead)
    return np.where(np.isinf(size), MAX_SHIFT, by_lead)
